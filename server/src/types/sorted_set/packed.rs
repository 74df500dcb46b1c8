//! The packed form of a sorted set.
//!
//! ```text
//! packed   entries of `types::packed`, by score, then member;
//!          each: score, IEEE 754 bits u64 BE | member
//! ```
//!
//! There is no -0: Redis's listpack has none. Frozen by a golden test.

use std::cmp::Ordering;
use std::ops::Range;

use super::Item;
use super::place::{SCORE_LEN, Span, compare};
use crate::txn::CommandError;
use crate::types::packed::{Entries, entry_len, push};

/// Walks over the items of a packed set.
#[derive(Clone)]
pub struct Items<'a> {
    entries: Entries<'a>,
    len: usize,
}

/// One item and where it is.
pub struct Found<'a> {
    pub score: f64,
    pub member: &'a [u8],
    /// Of the whole entry.
    pub range: Range<usize>,
}

impl<'a> Items<'a> {
    pub fn of(packed: &'a [u8]) -> Items<'a> {
        Items {
            entries: Entries::of(packed),
            len: packed.len(),
        }
    }

    pub fn try_next(&mut self) -> Result<Option<Found<'a>>, CommandError> {
        let start = self.len - self.entries.remaining().len();
        let Some(entry) = self.entries.try_next()? else {
            return Ok(None);
        };
        let (score, member) = entry
            .split_first_chunk()
            .ok_or(CommandError::Corrupt("a packed sorted set"))?;
        Ok(Some(Found {
            score: f64::from_bits(u64::from_be_bytes(*score)),
            member,
            range: start..self.len - self.entries.remaining().len(),
        }))
    }
}

/// Number of items.
pub fn count(packed: &[u8]) -> Result<u64, CommandError> {
    let mut entries = Entries::of(packed);
    let mut count = 0;
    while entries.try_next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Bytes that an item takes.
pub fn item_len(member: &[u8]) -> usize {
    entry_len(SCORE_LEN + member.len())
}

/// The item of a member.
pub fn find<'a>(packed: &'a [u8], member: &[u8]) -> Result<Option<Found<'a>>, CommandError> {
    let mut items = Items::of(packed);
    while let Some(item) = items.try_next()? {
        if item.member == member {
            return Ok(Some(item));
        }
    }
    Ok(None)
}

/// Number of items below a place.
pub fn rank(packed: &[u8], bound: &[u8]) -> Result<u64, CommandError> {
    let mut items = Items::of(packed);
    let mut rank = 0;
    while let Some(item) = items.try_next()? {
        if compare(item.score, item.member, bound) != Ordering::Less {
            break;
        }
        rank += 1;
    }
    Ok(rank)
}

/// Items of a span, in order.
pub fn items_in<'a>(packed: &'a [u8], span: &Span) -> Result<Vec<(f64, &'a [u8])>, CommandError> {
    let mut found = Vec::new();
    let mut items = Items::of(packed);
    while let Some(Found { score, member, .. }) = items.try_next()? {
        if compare(score, member, &span.first) == Ordering::Less {
            continue;
        }
        if let Some(end) = &span.end
            && compare(score, member, end) != Ordering::Less
        {
            break;
        }
        found.push((score, member));
    }
    Ok(found)
}

/// Puts in a member that is not there.
pub fn insert(packed: &mut Vec<u8>, score: f64, member: &[u8]) -> Result<(), CommandError> {
    let bound = super::place::place(score, member);
    let mut at = packed.len();
    let mut items = Items::of(packed);
    while let Some(item) = items.try_next()? {
        if compare(item.score, item.member, &bound) == Ordering::Greater {
            at = item.range.start;
            break;
        }
    }
    let mut entry = Vec::with_capacity(item_len(member));
    append(&mut entry, score, member);
    packed.splice(at..at, entry);
    Ok(())
}

/// Appends an item that comes after all others.
pub fn append(packed: &mut Vec<u8>, score: f64, member: &[u8]) {
    let mut entry = Vec::with_capacity(SCORE_LEN + member.len());
    entry.extend_from_slice(&score.to_bits().to_be_bytes());
    entry.extend_from_slice(member);
    push(packed, &entry);
}

/// All items, copied.
pub fn to_items(packed: &[u8]) -> Result<Vec<Item>, CommandError> {
    let found = items_in(packed, &Span::ALL)?;
    Ok(found
        .into_iter()
        .map(|(score, member)| Item::new(score, member))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_packed_sorted_set() {
        let mut packed = Vec::new();
        insert(&mut packed, 1.0, b"b").unwrap();
        insert(&mut packed, 0.0, b"z").unwrap();
        insert(&mut packed, 0.0, b"a").unwrap();
        assert_eq!(
            packed,
            b"\x09\0\0\0\0\0\0\0\0a\x09\0\0\0\0\0\0\0\0z\x09\x3f\xf0\0\0\0\0\0\0b"
        );
        assert_eq!(count(&packed).unwrap(), 3);
        assert_eq!(
            rank(&packed, &super::super::place::place(1.0, b"b")).unwrap(),
            2
        );
    }
}
