//! Bytes of sets on disk.

use super::*;

fn record(payload: &[u8]) -> (MetaKey, Record) {
    let key = MetaKey::new(1, 1, b"k");
    let record = Record::new(&key, &Header::inline(KeyType::Set, None), payload);
    (key, record)
}

fn form(payload: &[u8]) -> (u64, &'static str) {
    let (key, record) = record(payload);
    let set = Set::of(&key, &record).unwrap();
    (set.len(), encoding(&record.header().unwrap(), payload))
}

#[test]
fn golden_bytes_of_packed_sets() {
    assert_eq!(form(b"\x02\xff\xff\x00\x05"), (2, "intset"));
    assert_eq!(form(b"\x04\xff\xff\xff\xff"), (1, "intset"));
    assert_eq!(form(b"\x01\x00\x02\x01a\x02bc"), (2, "hashtable"));
    assert_eq!(find(b"\x01a\x02bc", b"bc").unwrap(), Some(2..5));
}

#[test]
fn other_forms_are_refused() {
    for payload in [&b""[..], b"\x03\x00\x00\x00", b"\x02\x00", b"\x01\x00"] {
        let (key, record) = record(payload);
        assert!(Set::of(&key, &record).is_err(), "{payload:?}");
    }
}
