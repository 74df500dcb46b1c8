//! What a key weighs: the measure behind `used_memory` and `maxmemory`.
//!
//! Data lies on disk, so the memory of this process says nothing of how much
//! there is. A key's weight is about what it would take in Redis: its name,
//! its value's bytes, and a flat price for what Redis keeps beside them.
//! Totals are kept per generation, so that a flush takes its data along.
//!
//! It is a measure, not an account: expired records that the compaction filter
//! drops leave with the average weight of their generation.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::header::{Header, KeyType};
use super::keys::{Generation, PREFIX_LEN, VERSION_LEN, Version};
use super::record::Record;

/// What a key costs beside its bytes.
const KEY: u64 = 48;
/// Bytes of a row's key before its tag.
const HEAD_OF_ROW: usize = PREFIX_LEN + VERSION_LEN;
/// What an element of a spread collection costs beside its bytes.
const ELEMENT: u64 = 16;

/// What the record of `key` weighs, all that lies below it included.
pub fn of_record(record: &Record) -> u64 {
    of_parts(record.physical().len(), record.value())
}

/// The same of a physical key's length and an encoded value.
pub fn of_parts(physical: usize, value: &[u8]) -> u64 {
    let header = match Header::is_spread(value) {
        true => Header::decode(value).map(|(header, _)| header),
        false => None,
    };
    of_decoded(physical, value.len(), header.as_ref())
}

/// The same where the header is decoded already; only a spread one counts.
pub fn of_decoded(physical: usize, value: usize, header: Option<&Header>) -> u64 {
    let own = (physical - PREFIX_LEN.min(physical) + value) as u64;
    let spread = header.and_then(|header| Some((header, header.spread?)));
    let below = spread.map_or(0, |(header, spread)| match header.key_type {
        KeyType::String => spread.size,
        _ => spread.bytes,
    });
    KEY + own + below
}

/// The version that a row of the family `data` belongs to, and what the row
/// weighs with a value of `len` bytes. `None`: it is no element.
pub fn of_row(key: &[u8], len: usize) -> Option<(Version, u64)> {
    let version = Version::from_bytes(key.get(PREFIX_LEN..HEAD_OF_ROW)?)?;
    // Without a tag it is the back-reference to the parent.
    let rest = key.len().checked_sub(HEAD_OF_ROW + 1)?;
    Some((version, ELEMENT + (rest + len) as u64))
}

/// Change of the weight of one generation.
pub type Change = (Generation, i64);

/// The weight of each generation that has any; a standalone group has one for
/// each of its databases, which takes no allocation.
pub type Weighed = SmallVec<[(Generation, u64); 16]>;

/// Weights by generation. Changed by the store's one writer, read by anyone.
#[derive(Default)]
pub struct Weights {
    /// Guards a handful of numbers; written once an entry.
    by_generation: Mutex<Weighed>,
    total: AtomicU64,
}

impl Weights {
    /// Weight of all live generations.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub fn of(&self, generation: Generation) -> u64 {
        let all = self.by_generation.lock();
        let found = all.iter().find(|(g, _)| *g == generation);
        found.map_or(0, |(_, weight)| *weight)
    }

    /// What [`Weights::set`] is to be given after these changes; generations
    /// that `is_live` refuses are forgotten.
    pub fn after(
        &self,
        changes: impl IntoIterator<Item = Change>,
        is_live: impl Fn(Generation) -> bool,
    ) -> Weighed {
        let mut all = self.by_generation.lock().clone();
        for (generation, change) in changes {
            match all.iter_mut().find(|(g, _)| *g == generation) {
                Some((_, weight)) => *weight = weight.saturating_add_signed(change),
                None => all.push((generation, change.max(0) as u64)),
            }
        }
        all.retain(|(generation, weight)| *weight > 0 && is_live(*generation));
        all
    }

    pub fn set(&self, all: &[(Generation, u64)]) {
        let total = all.iter().map(|(_, weight)| weight).sum();
        let mut own = self.by_generation.lock();
        own.clear();
        own.extend_from_slice(all);
        drop(own);
        self.total.store(total, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::header::Spread;
    use crate::storage::keys::{MetaKey, sub_key};

    const VERSION: Version = Version {
        epoch: 0,
        counter: 7,
    };

    #[test]
    fn a_key_weighs_its_name_its_value_and_what_lies_below() {
        let key = MetaKey::new(1, 2, b"name");
        let inline = Record::new(&key, &Header::inline(KeyType::String, None), b"value");
        assert_eq!(of_record(&inline), KEY + 4 + 2 + 5);
        for (key_type, below) in [(KeyType::String, 1000), (KeyType::Hash, 70)] {
            let spread = Spread {
                bytes: 70,
                ..Spread::new(VERSION, 1000)
            };
            let header = Header {
                spread: Some(spread),
                ..Header::inline(key_type, None)
            };
            let record = Record::new(&key, &header, b"");
            assert_eq!(of_record(&record), KEY + 4 + 30 + below);
        }
    }

    #[test]
    fn a_row_weighs_what_follows_its_tag() {
        let row = sub_key(1, 2, VERSION, b"\x01field");
        assert_eq!(of_row(&row, 10), Some((VERSION, ELEMENT + 15)));
        assert_eq!(of_row(&sub_key(1, 2, VERSION, b""), 10), None);
        assert_eq!(of_row(b"short", 10), None);
    }

    #[test]
    fn weights_follow_changes_and_forget_the_dead() {
        let weights = Weights::default();
        weights.set(&weights.after([(1, 100), (2, 50)], |_| true));
        assert_eq!(weights.total(), 150);
        weights.set(&weights.after([(1, -30), (3, -5)], |_| true));
        assert_eq!(
            (weights.of(1), weights.of(3), weights.total()),
            (70, 0, 120)
        );
        weights.set(&weights.after([], |g| g != 1));
        assert_eq!((weights.of(1), weights.total()), (0, 50));
    }
}
