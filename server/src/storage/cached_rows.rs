//! Rows of the family `data` in the record cache: a field or a member of a spread
//! collection that is hot is found as a small value is, without RocksDB, and in a
//! whole shard (see `cache`) one that does not exist is known not to.
//!
//! A row's name in the cache is its key with the first bit set, which no slot has, so
//! that no user key is ever taken for it. Rows are not marked before the RocksDB write
//! as records are: whoever reads a row has read its record, and a read of more than
//! one thing is repeated if an apply overlapped it (`Store::epoch`; DEBUG's readers alone
//! look at no moment). A stale value is not kept: what a reader found is refused once the writer has been there, and what
//! it filled before that is replaced.

use bytes::Bytes;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use super::cache::{FillToken, RecordCache};
use super::record::Record;
use crate::txn::effects::{Family, RowEffect};

const ROW: u8 = 0x80;
/// Names that are made, and asked for in memory, before the first is looked up.
const AHEAD: usize = 32;
/// A value that is longer is shared with the cache, not copied.
const COPIED: usize = 512;
/// A value that is longer has no place in the cache and is not copied for it.
const MAX_VALUE: usize = 64 << 10;

/// What a row is called in the cache.
pub struct RowName {
    bytes: SmallVec<[u8; 96]>,
    hash: u64,
}

impl RowName {
    /// `key`: the physical key of a row of the family `data`.
    pub fn of(key: &[u8]) -> RowName {
        let mut bytes = SmallVec::from_slice(key);
        if let Some(first) = bytes.first_mut() {
            *first |= ROW;
        }
        let hash = xxh3_64(&bytes);
        RowName { bytes, hash }
    }
}

/// The hash under which the cache has a row of the family `data`, by its physical key.
pub fn row_hash(key: &[u8]) -> u64 {
    RowName::of(key).hash
}

struct Shared(Record);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

fn value_of(record: Record) -> Bytes {
    match record.value() {
        short if short.len() <= COPIED => Bytes::copy_from_slice(short),
        _ => Bytes::from_owner(Shared(record)),
    }
}

impl RecordCache {
    /// What a row holds (`None`: it does not exist), or the token for
    /// [`RecordCache::fill_row`].
    pub fn row(&self, name: &RowName) -> Result<Option<Bytes>, FillToken> {
        Ok(self.get(name.hash, &name.bytes)?.map(value_of))
    }

    /// Keeps what a reader found in RocksDB, unless the writer was there since.
    pub fn fill_row(&self, token: FillToken, name: &RowName, value: &[u8]) {
        if value.len() > MAX_VALUE {
            return;
        }
        let record = Record::from_encoded(&name.bytes, value);
        self.fill(token, name.hash, record);
    }

    /// Writer, after the RocksDB write of these rows.
    pub fn install_rows(&self, rows: &[RowEffect]) {
        let mut names: SmallVec<[(RowName, Option<&Bytes>); AHEAD]> = SmallVec::new();
        for some in rows.chunks(AHEAD) {
            names.extend(some.iter().filter_map(|row| match row {
                RowEffect::Put {
                    family: Family::Data,
                    key,
                    value,
                } => Some((RowName::of(key), Some(value))),
                RowEffect::Delete {
                    family: Family::Data,
                    key,
                } => Some((RowName::of(key), None)),
                // What is deleted as a range belongs to a version, a group or a
                // consumer whose number is never used again: nobody asks for it.
                _ => None,
            }));
            let hashes: SmallVec<[u64; AHEAD]> = names.iter().map(|(name, _)| name.hash).collect();
            self.prefetch(&hashes);
            for (name, value) in names.drain(..) {
                if value.is_some_and(|value| value.len() > MAX_VALUE) {
                    self.refuse(name.hash, &name.bytes);
                    continue;
                }
                let record = value.map(|value| Record::from_encoded(&name.bytes, value));
                self.replace(name.hash, &name.bytes, record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], value: &[u8]) -> RowEffect {
        RowEffect::Put {
            family: Family::Data,
            key: key.into(),
            value: Bytes::copy_from_slice(value),
        }
    }

    fn delete(key: &[u8]) -> RowEffect {
        RowEffect::Delete {
            family: Family::Data,
            key: key.into(),
        }
    }

    #[test]
    fn rows_are_found_as_they_were_installed_and_are_no_records() {
        let cache = RecordCache::new(1 << 20);
        let long = vec![7; COPIED + 1];
        let key = |n: u8| [&b"\x01\x02\0\0\0\x01row"[..], &[n]].concat();
        let rows: Vec<RowEffect> = (0..100).map(|n| put(&key(n), &[n])).collect();
        cache.install_rows(&rows);
        cache.install_rows(&[put(&key(1), &long), delete(&key(2))]);
        assert_eq!(
            cache.row(&RowName::of(&key(99))).ok(),
            Some(Some(Bytes::from(vec![99])))
        );
        assert_eq!(
            cache.row(&RowName::of(&key(1))).ok(),
            Some(Some(long.into()))
        );
        assert!(cache.row(&RowName::of(&key(2))).is_err());
        assert!(cache.get(xxh3_64(&key(3)), &key(3)).is_err());
    }

    #[test]
    fn in_a_whole_shard_a_row_that_is_not_there_does_not_exist() {
        let cache = RecordCache::new(1 << 20);
        cache.begin_whole();
        let key = b"\0\x01\0\0\0\x01row";
        assert_eq!(cache.row(&RowName::of(key)).ok(), Some(None));
        cache.install_rows(&[put(key, b"v")]);
        assert_eq!(cache.row(&RowName::of(key)).ok(), Some(Some("v".into())));
        cache.install_rows(&[delete(key)]);
        assert_eq!(cache.row(&RowName::of(key)).ok(), Some(None));
    }

    #[test]
    fn a_value_that_is_too_long_is_not_kept_and_its_old_one_goes() {
        let cache = RecordCache::new(64 << 20);
        cache.begin_whole();
        let key = b"\0\x01\0\0\0\x01row";
        cache.install_rows(&[put(key, b"v")]);
        cache.install_rows(&[put(key, &vec![7; MAX_VALUE + 1])]);
        let Err(token) = cache.row(&RowName::of(key)) else {
            panic!("it exists, and not as it was");
        };
        cache.fill_row(token, &RowName::of(key), &vec![7; MAX_VALUE + 1]);
        assert!(cache.row(&RowName::of(key)).is_err());
    }

    #[test]
    fn what_was_read_before_a_write_is_not_kept_behind_it() {
        let cache = RecordCache::new(1 << 20);
        let name = RowName::of(b"\0\x01\0\0\0\x01row");
        let Err(token) = cache.row(&name) else {
            panic!("nothing is there");
        };
        cache.install_rows(&[
            put(b"\0\x01\0\0\0\x01row", b"new"),
            delete(b"\0\x01\0\0\0\x01x"),
        ]);
        cache.fill_row(token, &name, b"old");
        assert_eq!(cache.row(&name).ok(), Some(Some("new".into())));
    }
}
