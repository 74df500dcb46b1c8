//! The bytes of a list's record.

use super::*;
use crate::storage::Version;

fn list_of<'a>(key: &'a MetaKey, chain: Option<Chain>, left: &[u8], right: &[u8]) -> List<'a> {
    let mut list = List {
        chain,
        ..List::empty(key)
    };
    list.left.push(End::Right, left);
    if !right.is_empty() {
        list.right.push(End::Right, right);
    }
    list
}

#[test]
fn golden_bytes_of_a_packed_list() {
    let key = MetaKey::new(1, 1, b"k");
    let record = list_of(&key, None, b"ab", b"").record();
    assert_eq!(record.value(), [0x11, 0, 0, 0, 0, 1, 2, b'a', b'b']);
    let list = List::of(&key, &record).unwrap();
    assert_eq!((list.len(), list.chain.is_none()), (1, true));
}

#[test]
fn golden_bytes_of_a_spread_list() {
    let key = MetaKey::new(1, 1, b"k");
    let version = Version {
        epoch: 1,
        counter: 2,
    };
    let chain = Chain {
        first: -65536,
        last: 0x0102,
        count: 7,
        ..Chain::empty(Rows::of(&key, version))
    };
    let record = list_of(&key, Some(chain), b"ab", b"c").record();
    let want = [
        &[0x11, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2][..],
        &[0, 0, 0, 0, 0, 0, 0, 9],
        &[1],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
        &[0, 0, 0, 0, 0, 0, 1, 2],
        &[0, 0, 0, 7],
        &[0, 0, 0, 1, 2, b'a', b'b'],
        &[0, 0, 0, 1, 1, b'c'],
    ];
    assert_eq!(record.value(), want.concat());
    let list = List::of(&key, &record).unwrap();
    let chain = list.chain.as_ref().unwrap();
    assert_eq!((chain.first, chain.last, chain.count), (-65536, 0x0102, 7));
    assert!(chain.regular);
    assert_eq!((list.len(), list.right.len()), (9, 1));
    for cut in [15, 30, 44] {
        let record = Record::from_encoded(key.physical(), &record.value()[..cut]);
        assert!(List::of(&key, &record).is_err(), "{cut}");
    }
}
