//! Tests of `members`: places, pages and random choices.

use super::*;
use crate::storage::{MetaKey, Version};

#[test]
fn golden_bytes_of_a_members_row() {
    let key = MetaKey::new(1, 2, b"k");
    let version = Version {
        epoch: 3,
        counter: 4,
    };
    let members = Members::of(Rows::of(&key, version), 9);
    let row = members.row_key(b"abc");
    assert_eq!(
        row,
        b"\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x04\
          \x09\x78\xaf\x5f\x94\x89\x2fabc"
    );
    assert_eq!(split(&row), (place(b"abc"), &b"abc"[..]));
}

#[test]
fn random_numbers_of_a_walk_are_below_their_bound() {
    let mut random = RandomBatch(1);
    let mut seen = [0; 5];
    for _ in 0..5000 {
        seen[random.below(5) as usize] += 1;
    }
    assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
    assert_eq!(random.below(0), 0);
}
