//! How large the entry becomes that a batch is committed as. An upper bound, and close:
//! a log that has a cap is not asked for more.

use std::collections::HashSet;

use super::{Entry, Overlay, State};
use crate::storage::keys::{Version, split};
use crate::storage::record::Record;
use crate::storage::weight;
use crate::txn::effects::{Family, RowEffect};
use crate::txn::staging::{bytes_of_record, bytes_of_row, version_of};

/// What an entry has beside records and rows.
const HEAD: usize = 64;
/// What an entry of rows that go ahead says of each of their versions.
const STAGED_VERSION: usize = 15;

/// Bytes of a batch's rows.
#[derive(Default)]
struct Rows {
    /// Of those that stay with the records.
    stay: usize,
    /// Of those that may go ahead.
    ahead: usize,
    /// Of the largest of these, which is never cut.
    largest: usize,
    /// Their versions.
    versions: HashSet<Version>,
}

impl Overlay {
    /// Bytes of the largest entry that the batch becomes. `cut_above`: of more bytes,
    /// rows of new versions go ahead (`staging::cut`).
    pub fn entry_bytes(&self, cut_above: Option<usize>) -> usize {
        let flushed = !self.map_changes.is_empty();
        let named = |key: &[u8]| !flushed || self.names(key);
        let rows = self.row_sizes().filter(|(key, _)| named(key));
        let rows = self.rows_by_place(rows);
        let entries = self.entries.iter();
        let metas: usize = entries
            .filter(|entry| named(entry.key.physical()))
            .map(self.bytes_of_entry())
            .sum();
        let drops = self.expiry_drops.iter();
        let drops: usize = drops.map(|(key, _)| bytes_of_record(key, None)).sum();
        let stays = HEAD + metas + drops + rows.stay;
        match cut_above {
            Some(cap) if stays + rows.ahead > cap && !flushed => {
                let versions = rows.versions.len() * STAGED_VERSION;
                stays.max(HEAD + versions + rows.ahead.min(cap.max(rows.largest)))
            }
            _ => stays + rows.ahead,
        }
    }

    /// Whether a physical key lies in a generation that the map names.
    fn names(&self, key: &[u8]) -> bool {
        let live = &self.map.live;
        split(key).is_some_and(|(slot, generation, _)| live.database_of(slot, generation).is_some())
    }

    /// First keys of row effects, and the bytes of these.
    fn row_sizes(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let ranges = self.ranges.iter().filter_map(|range| match range {
            RowEffect::DeleteRange { first, end, .. } => {
                Some((&first[..], bytes_of_row(first, end)))
            }
            _ => None,
        });
        let rows = self.rows.iter().flatten().map(|(key, value)| {
            let value = value.as_deref().unwrap_or_default();
            (&key[..], bytes_of_row(key, value))
        });
        ranges.chain(rows)
    }

    fn rows_by_place<'a>(&self, rows: impl Iterator<Item = (&'a [u8], usize)>) -> Rows {
        let fresh: HashSet<Version> = self.made.versions.iter().copied().collect();
        let mut places = Rows::default();
        for (key, bytes) in rows {
            match version_of(key).map(|staged| staged.version) {
                Some(version) if fresh.contains(&version) => {
                    places.ahead += bytes;
                    places.largest = places.largest.max(bytes);
                    places.versions.insert(version);
                }
                _ => places.stay += bytes,
            }
        }
        places
    }

    /// What becomes of one record in the entry. One that was not changed is written anew
    /// if rows below it were: it says what they weigh ([`Overlay::finish`]).
    fn bytes_of_entry(&self) -> impl Fn(&Entry) -> usize {
        let changed: HashSet<Version> = match self.weighs && self.has_spread {
            true => self.changed_versions().collect(),
            false => HashSet::new(),
        };
        let is_weighed = move |record: &Record| {
            let spread = record.spread();
            spread.is_some_and(|spread| changed.contains(&spread.version))
        };
        move |entry: &Entry| match (&entry.state, &entry.base) {
            (State::Put(record), _) => bytes_of_record(&entry.key, Some(record)),
            (State::Deleted, Some(_)) => bytes_of_record(&entry.key, None),
            (State::Unchanged, Some(record)) if is_weighed(record) => {
                bytes_of_record(&entry.key, Some(record))
            }
            _ => 0,
        }
    }

    fn changed_versions(&self) -> impl Iterator<Item = Version> {
        let rows = self.rows[Family::Data.place()].keys();
        rows.filter_map(|key| weight::of_row(key, 0).map(|(version, _)| version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::generations::GenerationMap;
    use crate::storage::keys::{MetaKey, sub_key};
    use crate::storage::{Header, KeyType};
    use crate::txn::effects::MapChange;
    use crate::txn::staging::cut;

    const CAP: usize = 500;

    fn overlay() -> Overlay {
        Overlay::new(GenerationMap::all_slots(), 7)
    }

    fn put(overlay: &mut Overlay, name: &[u8], bytes: usize) {
        let key = MetaKey::new(1, overlay.map().live.get(0, 1), name);
        let header = Header::inline(KeyType::String, None);
        overlay.load(&key, None);
        let value = vec![b'v'; bytes];
        overlay.set(&key, State::Put(Record::new(&key, &header, &value)));
    }

    fn put_row(overlay: &mut Overlay, counter: u64, n: u8) {
        let version = Version { epoch: 0, counter };
        let key = sub_key(1, overlay.map().live.get(0, 1), version, &[n]);
        overlay.put_row(Family::Payload, key, vec![n; 100].into());
    }

    /// Bytes of the last entry that a batch becomes.
    fn last(mut overlay: Overlay, cap: Option<usize>) -> usize {
        let made = overlay.made.clone();
        let live = overlay.map().live.clone();
        let effects = overlay.finish(1);
        let entries = match cap {
            Some(cap) => cut(effects, made, cap),
            None => vec![effects],
        };
        entries.last().unwrap().encode(&live).len()
    }

    #[test]
    fn a_batch_is_said_to_be_as_large_as_its_last_entry_or_a_little_larger() {
        for cap in [None, Some(CAP)] {
            let mut overlay = overlay();
            put(&mut overlay, b"a", 300);
            put(&mut overlay, b"a key of another length", 10);
            overlay.made.versions.push(Version {
                epoch: 0,
                counter: 7,
            });
            for n in 0..10 {
                put_row(&mut overlay, 7, n);
                put_row(&mut overlay, 3, n);
            }
            let said = overlay.entry_bytes(cap);
            let is = last(overlay, cap);
            assert!(said >= is && said < is + 400, "{said} of {is}, {cap:?}");
            assert_eq!(is > 2000, cap.is_none(), "{is}");
        }
    }

    #[test]
    fn a_row_that_goes_ahead_is_never_cut() {
        let mut overlay = overlay();
        let counter = 7;
        overlay.made.versions.push(Version { epoch: 0, counter });
        let key = sub_key(
            1,
            overlay.map().live.get(0, 1),
            Version { epoch: 0, counter },
            b"f",
        );
        overlay.put_row(Family::Data, key, vec![b'v'; 5000].into());
        let said = overlay.entry_bytes(Some(CAP));
        assert!((5000..5200).contains(&said), "{said}");
    }

    #[test]
    fn what_a_flush_of_the_batch_drops_is_not_counted_and_nothing_goes_ahead_of_it() {
        let mut overlay = overlay();
        put(&mut overlay, b"before", 5000);
        overlay.change_map(&[MapChange::Renew { db: 0 }]);
        put(&mut overlay, b"behind", 300);
        overlay.made.versions.push(Version {
            epoch: 0,
            counter: 7,
        });
        (0..10).for_each(|n| put_row(&mut overlay, 7, n));
        let said = overlay.entry_bytes(Some(CAP));
        assert!((1500..2500).contains(&said), "{said}");
    }
}
