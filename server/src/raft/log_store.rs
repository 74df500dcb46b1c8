//! The durable log of all groups of one node, as the rest of the node sees it.
//!
//! Synchronous on purpose: its users are the loop thread and the upkeep thread.
//! Invariants of every implementation:
//! - a `LogBatch` becomes visible, and after a crash is found, as a whole or not at all;
//! - batches survive a crash in the order of their writes, without holes;
//! - `first_index` is always the position of the last cut plus one.
//!
//! Knows nothing of Raft's rules; it stores what it is given.

use std::fmt;
use std::time::Duration;

use raft::eraftpb::{ConfState, Entry, HardState};

/// When a log write counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every gathered batch is synced to the device before anything is acknowledged.
    Always,
    /// Every batch is handed to the kernel before anything is acknowledged (the death
    /// of the process loses nothing) and synced at least once per interval (a power
    /// cut loses at most about that much). Votes and terms are synced at once even so.
    Interval(Duration),
}

/// An index of the log and the term of the entry there. `(0, 0)` is before all entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct LogPosition {
    /// Index of the entry.
    pub index: u64,
    /// Term of the entry.
    pub term: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} of term {}", self.index, self.term)
    }
}

/// What one batch changes in one group's log. Applied in the order of the fields.
#[derive(Debug, Clone, Default)]
pub struct GroupWrite {
    /// Entries with consecutive indexes. They replace whatever the log holds from the
    /// first one's index on. Must leave no hole after the last entry.
    pub entries: Vec<Entry>,
    /// Term, vote and commit index.
    pub hard_state: Option<HardState>,
    /// Membership, and the index of the entry that made it so (0: the founding one).
    pub conf_state: Option<(u64, ConfState)>,
    /// Entries up to and including this position are no longer needed. A position
    /// beyond the last entry leaves an empty log that continues after it.
    pub cut: Option<LogPosition>,
}

/// Changes of many groups that become durable together. At most one write a group.
#[derive(Debug, Clone, Default)]
pub struct LogBatch {
    writes: Vec<(u64, GroupWrite)>,
}

impl LogBatch {
    /// Adds the changes of `group`, which must not be in the batch yet.
    pub fn push(&mut self, group: u64, write: GroupWrite) {
        debug_assert!(self.writes.iter().all(|(g, _)| *g != group));
        self.writes.push((group, write));
    }

    /// True if nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The changes in the order in which they were added.
    pub fn writes(&self) -> &[(u64, GroupWrite)] {
        &self.writes
    }

    /// Empties the batch, giving out its changes.
    pub fn drain(&mut self) -> impl Iterator<Item = (u64, GroupWrite)> + '_ {
        self.writes.drain(..)
    }
}

/// What the store knows of one group when it is opened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogState {
    /// Term, vote and commit index as last written.
    pub hard_state: HardState,
    /// Membership as last written.
    pub conf_state: ConfState,
    /// Index of the entry that led to `conf_state`.
    pub conf_index: u64,
    /// The last entry that was cut away; the log begins after it.
    pub cut: LogPosition,
    /// Index of the last entry; `cut.index` if there is none.
    pub last_index: u64,
}

/// Why the log could not be read or written.
///
/// After an error of `write` or `sync` the content of the log is unknown: the process
/// must not write again (it recovers by replay after a restart).
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The engine below failed.
    #[error("raft log: {0}")]
    Engine(#[from] raft_engine::Error),
    /// A file or directory operation of ours failed.
    #[error("raft log: {what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Bytes in the log do not mean what they must.
    #[error("raft log of group {group} is corrupt: {what}")]
    Corrupt {
        /// The group.
        group: u64,
        /// What was found.
        what: String,
    },
    /// Entries were asked for that were cut away.
    #[error("raft log of group {group} begins at index {first}, asked for {from}")]
    Compacted {
        /// The group.
        group: u64,
        /// First index asked for.
        from: u64,
        /// First index that is there.
        first: u64,
    },
    /// Entries were asked for that are not there yet.
    #[error("raft log of group {group} ends at index {last}, asked up to {to}")]
    BeyondEnd {
        /// The group.
        group: u64,
        /// Last index asked for.
        to: u64,
        /// Last index that is there.
        last: u64,
    },
    /// The group is not on this node.
    #[error("group {group} is not on this node")]
    UnknownGroup {
        /// The group.
        group: u64,
    },
    /// Fault injection of `MemoryLog`.
    #[error("raft log: injected failure")]
    Injected,
}

/// The durable log of all groups of a node.
///
/// Group numbers are nonzero. One thread writes entries; cuts, syncs and reads may come
/// from others at the same time.
pub trait RaftLogStore: Send + Sync + 'static {
    /// Groups that have ever been written, in rising order.
    fn groups(&self) -> Result<Vec<u64>, LogError>;

    /// What is stored of `group`; `None` if it was never written.
    fn load(&self, group: u64) -> Result<Option<LogState>, LogError>;

    /// Index of the first entry that may be read (one above the last cut).
    fn first_index(&self, group: u64) -> Result<u64, LogError>;

    /// Index of the last entry; `first_index - 1` if there is none.
    fn last_index(&self, group: u64) -> Result<u64, LogError>;

    /// Term of the entry at `index`, which may also be the last one cut away.
    fn term(&self, group: u64, index: u64) -> Result<u64, LogError>;

    /// Entries of `[from, to)`, in order, at least one if the range is not empty, and
    /// no more than `max_bytes` of encoded entries after the first.
    fn entries(
        &self,
        group: u64,
        from: u64,
        to: u64,
        max_bytes: u64,
    ) -> Result<Vec<Entry>, LogError>;

    /// Writes the batch atomically, emptying it. With `sync`, returns once it and all
    /// batches before it are on the device; without, once the kernel has it.
    fn write(&self, batch: &mut LogBatch, sync: bool) -> Result<(), LogError>;

    /// Returns once all batches written before the call are on the device.
    fn sync(&self) -> Result<(), LogError>;

    /// Forgets entries up to and including `upto` (see `GroupWrite::cut`), without sync.
    fn compact_to(&self, group: u64, upto: LogPosition) -> Result<(), LogError> {
        let mut batch = LogBatch::default();
        batch.push(
            group,
            GroupWrite {
                cut: Some(upto),
                ..GroupWrite::default()
            },
        );
        self.write(&mut batch, false)
    }

    /// Gives space of cut entries back to the file system. Every cut must have been
    /// synced before. Returns groups whose log holds old files in place.
    fn reclaim(&self) -> Result<Vec<u64>, LogError>;
}

/// How many entries of `sizes` fit under `max_bytes`, at least one if there is any.
pub(super) fn fitting(sizes: impl Iterator<Item = u64>, max_bytes: u64) -> usize {
    let mut total = 0u64;
    let mut count = 0;
    for size in sizes {
        total = total.saturating_add(size);
        if count > 0 && total > max_bytes {
            break;
        }
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_one_entry_fits_and_none_beyond_the_bound() {
        assert_eq!(fitting([100, 1].into_iter(), 10), 1);
        assert_eq!(fitting([5, 5, 1].into_iter(), 10), 2);
        assert_eq!(fitting([].into_iter(), 10), 0);
    }
}
