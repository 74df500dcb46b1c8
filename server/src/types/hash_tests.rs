//! Bytes of hashes on disk.

use super::*;

#[test]
fn golden_bytes_of_packed_fields() {
    let mut entries = Vec::new();
    for (field, value, is_new) in [
        (&b"f"[..], &b"one"[..], true),
        (b"g", b"", true),
        (b"f", b"two", false),
        (b"f", b"longer", false),
    ] {
        assert_eq!(set_packed(&mut entries, field, value).unwrap(), is_new);
    }
    assert_eq!(entries, b"\x01f\x06longer\x01g\x00");
    let found = find(&entries, b"g").unwrap().unwrap();
    assert_eq!((found.pair, found.value), (9..12, 12..12));
    assert!(find(&entries, b"longer").unwrap().is_none());
}

#[test]
fn golden_bytes_of_a_packed_hash() {
    let key = MetaKey::new(1, 1, b"k");
    let header = Header::inline(KeyType::Hash, None);
    let record = Record::new(&key, &header, b"\x01\x00\x02\x01f\x01v\x01g\x01w");
    let hash = Hash::of(&key, &record).unwrap();
    assert_eq!(hash.len(), 2);
    assert_eq!(encoding(record.payload()), "hashtable");
    assert_eq!(encoding(b"\x00\x00\x00"), "listpack");
}

#[test]
fn a_field_without_a_value_is_corrupt() {
    assert!(find(b"\x01f", b"f").is_err());
    assert!(each_packed(b"\x01f\x02v", &mut |_, _| ControlFlow::Continue(())).is_err());
    assert!(pairs(b"").is_err());
}
