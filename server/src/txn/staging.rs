//! Batches above the entry's cap, in several entries.
//!
//! What a batch writes below versions that it made itself goes ahead, in entries of its
//! own: no record names those versions yet, so nobody sees their rows. The last entry
//! has the records and all the rest, and makes them visible at once. Until then
//! - the counter of versions stays where it was, so that the compaction filter, which
//!   judges only versions below its view's counter, leaves the rows alone;
//! - the row `staged` of the family `system` says which versions they are. If the last
//!   entry never comes, whoever evaluates next deletes their rows with its first entry
//!   and goes on above them: a version is never used again.
//!
//! Only rows of such versions can go ahead. A batch that is larger even without them
//! (a transaction of many large writes to what is there) is one entry. So is one that
//! changes the map: a generation that it makes is not there before it. A command that
//! does is therefore the last of its entry, and only a transaction or a script that
//! flushes and then writes much itself is as large as it is. Where the log has a cap, a
//! command that would bring the last entry above it is undone, and begins the next one;
//! a command that is too large alone is refused (`CommandError::Full`).

use super::effects::{Effects, RowEffect};
use crate::storage::keys::split;
use crate::storage::{MetaKey, Record, Version};

/// A version of which rows went ahead, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StagedVersion {
    pub slot: u16,
    pub generation: u32,
    pub version: Version,
}

/// What went ahead of an entry that is still to come.
///
/// ```text
/// row `staged`   format u8 (1) | until u64 | versions until the end, each:
///                slot u16 | generation u32 | epoch u32 | counter u64           (all BE)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staging {
    /// Versions with counters below this may be in use.
    pub until: u64,
    pub versions: Vec<StagedVersion>,
}

const FORMAT: u8 = 1;
const HEAD: usize = 9;
const VERSION: usize = 18;

impl Staging {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + self.versions.len() * VERSION);
        out.push(FORMAT);
        out.extend_from_slice(&self.until.to_be_bytes());
        for staged in &self.versions {
            out.extend_from_slice(&staged.slot.to_be_bytes());
            out.extend_from_slice(&staged.generation.to_be_bytes());
            out.extend_from_slice(&staged.version.to_bytes());
        }
        out
    }

    /// `None`: not the bytes of a staging.
    pub fn decode(bytes: &[u8]) -> Option<Staging> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let (versions, over) = rest.as_chunks::<VERSION>();
        if head[0] != FORMAT || !over.is_empty() {
            return None;
        }
        let version = |bytes: &[u8; VERSION]| {
            let (slot, generation, version) = split(bytes).map(|(slot, generation, rest)| {
                let version = Version::from_bytes(rest).expect("twelve bytes are left");
                (slot, generation, version)
            })?;
            Some(StagedVersion {
                slot,
                generation,
                version,
            })
        };
        Some(Staging {
            until: u64::from_be_bytes(head[1..].try_into().expect("eight bytes")),
            versions: versions.iter().map(version).collect::<Option<_>>()?,
        })
    }
}

/// What an entry is to rows that go ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Staged {
    /// It has such rows and nothing else.
    Ahead(Staging),
    /// It comes after them: they are seen, or gone.
    Over,
}

/// What a batch knows besides its effects.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// The counter of versions before it.
    pub first: u64,
    /// Versions that it made, those that it undid among them.
    pub versions: Vec<Version>,
    /// So many of its first row effects sweep what went ahead of an entry that never
    /// came.
    pub swept: Option<usize>,
}

/// Cuts effects into the entries that they become, each of about `cap` bytes at most
/// but for the last.
pub fn cut(mut effects: Effects, made: Made, cap: usize) -> Vec<Effects> {
    let metas = effects.metas.iter();
    let metas = metas.map(|meta| bytes_of_record(&meta.key, meta.record.as_ref()));
    let bytes = metas.sum::<usize>() + effects.rows.iter().map(bytes_of).sum::<usize>();
    // A generation that the batch itself makes is not there yet.
    if bytes <= cap || !effects.maps.is_empty() {
        return vec![effects];
    }
    let mut fresh = made.versions;
    fresh.sort_unstable();
    let is_fresh = |row: &RowEffect| {
        staged_version(row).is_some_and(|staged| fresh.binary_search(&staged.version).is_ok())
    };
    if !effects.rows.iter().any(is_fresh) {
        return vec![effects];
    }
    let mut rows = std::mem::take(&mut effects.rows);
    let alone = |rows, staged| Effects {
        log_time: effects.log_time,
        next_version: made.first,
        rows,
        staged: Some(staged),
        ..Effects::default()
    };
    let mut entries = Vec::new();
    if let Some(swept) = made.swept {
        entries.push(alone(rows.drain(..swept).collect(), Staged::Over));
    }
    let (ahead, rest): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_fresh);
    let mut versions: Vec<StagedVersion> = ahead.iter().filter_map(staged_version).collect();
    versions.sort_unstable();
    versions.dedup();
    let staging = Staging {
        until: effects.next_version,
        versions,
    };
    for rows in pieces(ahead, cap) {
        entries.push(alone(rows, Staged::Ahead(staging.clone())));
    }
    effects.rows = rest;
    effects.staged = Some(Staged::Over);
    entries.push(effects);
    entries
}

fn pieces(rows: Vec<RowEffect>, cap: usize) -> Vec<Vec<RowEffect>> {
    let mut pieces: Vec<Vec<RowEffect>> = vec![Vec::new()];
    let mut filled = 0;
    for row in rows {
        let bytes = bytes_of(&row);
        if filled > 0 && filled + bytes > cap {
            pieces.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        pieces.last_mut().expect("there is one").push(row);
    }
    pieces
}

/// What a row has in an entry beside its key and value, at most.
const BESIDE_ROW: usize = 16;
/// The same of a record, which may come to say what the rows below it weigh.
const BESIDE_RECORD: usize = 24;

/// About what a row takes in an entry, and not less.
fn bytes_of(row: &RowEffect) -> usize {
    match row {
        RowEffect::Put { key, value, .. } => bytes_of_row(key, value),
        RowEffect::Delete { key, .. } => bytes_of_row(key, b""),
        RowEffect::DeleteRange { first, end, .. } => bytes_of_row(first, end),
    }
}

/// The same of its key and value, or first key and end.
pub(super) fn bytes_of_row(key: &[u8], value: &[u8]) -> usize {
    BESIDE_ROW + key.len() + value.len()
}

/// The same of a record; `None`: it is deleted.
pub(super) fn bytes_of_record(key: &MetaKey, record: Option<&Record>) -> usize {
    BESIDE_RECORD + key.physical().len() + record.map_or(0, |record| record.value().len())
}

/// The first key that a row effect is about.
fn key_of(row: &RowEffect) -> &[u8] {
    match row {
        RowEffect::Put { key, .. } | RowEffect::Delete { key, .. } => key,
        RowEffect::DeleteRange { first, .. } => first,
    }
}

fn staged_version(row: &RowEffect) -> Option<StagedVersion> {
    version_of(key_of(row))
}

/// The version that a row's key names, and where.
pub(super) fn version_of(key: &[u8]) -> Option<StagedVersion> {
    let (slot, generation, rest) = split(key)?;
    Some(StagedVersion {
        slot,
        generation,
        version: Version::from_bytes(rest)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::keys::sub_key;
    use crate::txn::effects::Family;

    fn version(counter: u64) -> Version {
        Version { epoch: 1, counter }
    }

    fn put(counter: u64, n: u8) -> RowEffect {
        RowEffect::Put {
            family: Family::Data,
            key: sub_key(3, 4, version(counter), &[n]).into(),
            value: vec![n; 100].into(),
        }
    }

    fn made(counter: u64, swept: Option<usize>) -> Made {
        Made {
            first: counter,
            versions: vec![version(counter)],
            swept,
        }
    }

    fn effects(rows: Vec<RowEffect>) -> Effects {
        Effects {
            log_time: 5,
            next_version: 9,
            rows,
            ..Effects::default()
        }
    }

    #[test]
    fn rows_of_new_versions_go_ahead_in_order_and_the_rest_comes_last() {
        let mut rows: Vec<RowEffect> = (0..10).map(|n| put(7, n)).collect();
        rows.push(put(2, 1));
        let whole = effects(rows.clone());
        let same = cut(whole.clone(), made(7, None), 1 << 20);
        assert!(same.len() == 1 && same[0].staged.is_none());
        let entries = cut(whole, made(7, None), 500);
        assert!(entries.len() > 3);
        let (last, ahead) = entries.split_last().unwrap();
        assert_eq!(last.rows, rows[10..]);
        assert_eq!((last.next_version, &last.staged), (9, &Some(Staged::Over)));
        let cut_rows: Vec<RowEffect> = ahead.iter().flat_map(|e| e.rows.clone()).collect();
        assert_eq!(cut_rows, rows[..10]);
        for entry in ahead {
            assert!(entry.rows.iter().map(bytes_of).sum::<usize>() <= 500);
            assert_eq!(entry.next_version, 7, "the filter would take them");
            let Some(Staged::Ahead(staging)) = &entry.staged else {
                panic!("{entry:?}");
            };
            assert_eq!((staging.until, staging.versions.len()), (9, 1));
        }
    }

    #[test]
    fn what_is_there_already_does_not_go_ahead() {
        let rows: Vec<RowEffect> = (0..10).map(|n| put(7, n)).collect();
        assert_eq!(cut(effects(rows), made(8, None), 500).len(), 1);
    }

    #[test]
    fn a_sweep_is_an_entry_before_rows_that_go_ahead() {
        let first = sub_key(3, 4, version(6), b"");
        let end = sub_key(3, 4, version(7), b"");
        let family = Family::Data;
        let mut rows = vec![RowEffect::DeleteRange { family, first, end }];
        rows.extend((0..10).map(|n| put(7, n)));
        let entries = cut(effects(rows.clone()), made(7, Some(1)), 500);
        assert_eq!(entries[0].rows, rows[..1]);
        assert_eq!(entries[0].staged, Some(Staged::Over));
        assert!(matches!(entries[1].staged, Some(Staged::Ahead(_))));
    }

    #[test]
    fn golden_bytes_of_the_staged_row() {
        let staging = Staging {
            until: 1,
            versions: vec![StagedVersion {
                slot: 2,
                generation: 3,
                version: Version {
                    epoch: 4,
                    counter: 5,
                },
            }],
        };
        let bytes = staging.encode();
        let want: &[u8] = b"\x01\0\0\0\0\0\0\0\x01\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\0\0\0\0\x05";
        assert_eq!(bytes, want);
        assert_eq!(Staging::decode(&bytes), Some(staging));
        assert_eq!(Staging::decode(&bytes[..bytes.len() - 1]), None);
    }
}
