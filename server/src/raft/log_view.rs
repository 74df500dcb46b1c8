//! What raft-rs sees of one group's log: terms of all entries, bodies of the newest.
//!
//! Owned by one `GroupCore`. Never reads from disk. Invariants:
//! - bodies of all entries above the applied index are here, so that whatever raft-rs
//!   must read at once is at hand; older ones, needed only to bring a follower up, are
//!   asked for (`take_fetch`) and handed in (`offer`) by the loop;
//! - the term of every index of `[cut, last]` is known (terms come in few, long runs).

use std::cell::RefCell;
use std::collections::VecDeque;

use protobuf::Message;
use raft::eraftpb::{Entry, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::log_store::{LogPosition, fitting};

/// Entries to read from the store for a follower that is far behind; then they go to
/// `GroupCore::fetched`.
#[derive(Debug)]
pub struct LogFetch {
    /// First index.
    pub from: u64,
    /// One past the last index.
    pub to: u64,
    /// Bound on the encoded bytes after the first entry.
    pub max_bytes: u64,
    /// raft-rs's own note of who asked; goes back to it with the entries.
    pub(super) context: GetEntriesContext,
}

/// See the module.
pub(super) struct LogView {
    initial: RaftState,
    cut: LogPosition,
    last: u64,
    /// (first index, term) of each run of equal terms above the cut, rising.
    runs: Vec<LogPosition>,
    /// Bodies of `[last + 1 - tail.len(), last]`.
    tail: VecDeque<Entry>,
    tail_bytes: u64,
    /// Bytes of bodies that may stay once they are applied.
    keep_bytes: u64,
    /// Entries read from the store for one follower, until raft-rs has taken them.
    offered: Vec<Entry>,
    wanted: RefCell<Vec<LogFetch>>,
}

impl LogView {
    /// A view of a log that begins after `cut`; `runs` are the terms above it, `tail` the
    /// bodies of all entries above the applied index.
    pub(super) fn new(
        initial: RaftState,
        cut: LogPosition,
        runs: Vec<LogPosition>,
        last: u64,
        tail: Vec<Entry>,
        keep_bytes: u64,
    ) -> Self {
        let tail_bytes = tail.iter().map(entry_bytes).sum();
        Self {
            initial,
            cut,
            last,
            runs,
            tail: tail.into(),
            tail_bytes,
            keep_bytes,
            offered: Vec::new(),
            wanted: RefCell::default(),
        }
    }

    /// The last entry that was cut away.
    pub(super) fn cut(&self) -> LogPosition {
        self.cut
    }

    /// Term at `index`, if it is in `[cut, last]`.
    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.cut.index {
            return Some(self.cut.term);
        }
        if index < self.cut.index || index > self.last {
            return None;
        }
        let after = self.runs.partition_point(|run| run.index <= index);
        after.checked_sub(1).map(|i| self.runs[i].term)
    }

    /// Takes over entries that are about to be written, replacing what they overwrite.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else {
            return;
        };
        self.truncate_from(first.index);
        for entry in entries {
            if self.term_of(self.last) != Some(entry.term) || self.runs.is_empty() {
                self.runs.push(LogPosition {
                    index: entry.index,
                    term: entry.term,
                });
            }
            self.tail_bytes += entry_bytes(entry);
            self.last = entry.index;
            self.tail.push_back(entry.clone());
        }
    }

    /// Forgets bodies up to `applied` beyond what may be kept.
    pub(super) fn evict(&mut self, applied: u64) {
        while self.tail_bytes > self.keep_bytes {
            match self.tail.front() {
                Some(entry) if entry.index <= applied => {
                    self.tail_bytes -= entry_bytes(entry);
                    self.tail.pop_front();
                }
                _ => break,
            }
        }
    }

    /// Forgets everything up to `upto`, which the store is about to cut.
    pub(super) fn cut_to(&mut self, upto: u64) {
        let Some(term) = self.term_of(upto).filter(|_| upto > self.cut.index) else {
            return;
        };
        while self.tail.front().is_some_and(|e| e.index <= upto) {
            if let Some(entry) = self.tail.pop_front() {
                self.tail_bytes -= entry_bytes(&entry);
            }
        }
        let gone = self.runs.partition_point(|run| run.index <= upto + 1);
        self.runs.drain(..gone.saturating_sub(1));
        if let Some(first) = self.runs.first_mut() {
            first.index = first.index.max(upto + 1);
        }
        if upto == self.last {
            self.runs.clear();
        }
        self.cut = LogPosition { index: upto, term };
    }

    /// What refused reads asked for.
    pub(super) fn take_wanted(&mut self) -> Vec<LogFetch> {
        std::mem::take(self.wanted.get_mut())
    }

    /// True if `take_wanted` has something to give.
    pub(super) fn has_wanted(&self) -> bool {
        !self.wanted.borrow().is_empty()
    }

    /// Lends entries read from the store until `withdraw`.
    pub(super) fn offer(&mut self, entries: Vec<Entry>) {
        self.offered = entries;
    }

    /// Ends the loan of `offer`.
    pub(super) fn withdraw(&mut self) {
        self.offered = Vec::new();
    }

    fn truncate_from(&mut self, index: u64) {
        while self.tail.back().is_some_and(|e| e.index >= index) {
            if let Some(entry) = self.tail.pop_back() {
                self.tail_bytes -= entry_bytes(&entry);
            }
        }
        while self.runs.last().is_some_and(|run| run.index >= index) {
            self.runs.pop();
        }
        self.last = self.last.min(index - 1);
    }

    fn offered_range(&self, low: u64, high: u64) -> Option<&[Entry]> {
        let first = self.offered.first()?.index;
        let end = first + self.offered.len() as u64;
        if low < first || low >= end {
            return None;
        }
        let range = (low - first) as usize..(high.min(end) - first) as usize;
        Some(&self.offered[range])
    }
}

impl Storage for LogView {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        if low <= self.cut.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let tail_first = self.last + 1 - self.tail.len() as u64;
        if low >= tail_first {
            let range = (low - tail_first) as usize..(high - tail_first) as usize;
            let sizes = self.tail.range(range.clone()).map(entry_bytes);
            let count = fitting(sizes, max_bytes);
            return Ok(self.tail.range(range).take(count).cloned().collect());
        }
        if let Some(entries) = self.offered_range(low, high) {
            let count = fitting(entries.iter().map(entry_bytes), max_bytes);
            return Ok(entries[..count].to_vec());
        }
        if !context.can_async() {
            return Err(Error::Store(StorageError::Unavailable));
        }
        self.wanted.borrow_mut().push(LogFetch {
            from: low,
            to: high.min(tail_first),
            max_bytes,
            context,
        });
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.term_of(index) {
            Some(term) => Ok(term),
            None if index < self.cut.index => Err(Error::Store(StorageError::Compacted)),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.cut.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    /// Snapshots are not made here yet; raft-rs asks again later. The log of a group
    /// with several replicas is therefore never cut above what all of them have.
    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// Bytes that count against budgets for one entry.
pub(super) fn entry_bytes(entry: &Entry) -> u64 {
    u64::from(entry.compute_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index,
            term,
            data: vec![index as u8; 10].into(),
            ..Entry::default()
        }
    }

    fn view(keep_bytes: u64) -> LogView {
        let start = LogPosition::default();
        LogView::new(RaftState::default(), start, vec![], 0, vec![], keep_bytes)
    }

    fn all_terms(view: &LogView) -> Vec<u64> {
        (view.cut.index..=view.last)
            .map(|i| view.term_of(i).expect("inside"))
            .collect()
    }

    #[test]
    fn terms_are_known_after_appends_overwrites_and_cuts() {
        let mut view = view(0);
        view.append(&[entry(1, 1), entry(2, 1), entry(3, 2), entry(4, 2)]);
        assert_eq!(all_terms(&view), [0, 1, 1, 2, 2]);
        view.append(&[entry(4, 5), entry(5, 5)]);
        assert_eq!(all_terms(&view), [0, 1, 1, 2, 5, 5]);
        view.cut_to(2);
        assert_eq!(all_terms(&view), [1, 2, 5, 5]);
        view.cut_to(4);
        assert_eq!(all_terms(&view), [5, 5]);
        view.cut_to(5);
        assert_eq!(all_terms(&view), [5]);
        view.append(&[entry(6, 5), entry(7, 9)]);
        assert_eq!(all_terms(&view), [5, 5, 9]);
        assert_eq!(view.term_of(8), None);
        assert_eq!(view.term_of(4), None);
    }

    #[test]
    fn an_overwrite_at_the_first_index_leaves_no_stale_run() {
        let mut view = view(0);
        view.append(&[entry(1, 1), entry(2, 1)]);
        view.append(&[entry(1, 3)]);
        assert_eq!(all_terms(&view), [0, 3]);
        assert_eq!(view.tail.len(), 1);
    }

    #[test]
    fn unapplied_bodies_stay_and_applied_ones_go() {
        let mut view = view(0);
        view.append(&[entry(1, 1), entry(2, 1), entry(3, 1)]);
        view.evict(2);
        let context = GetEntriesContext::empty(false);
        let left = view.entries(3, 4, None, context).expect("body is there");
        assert_eq!(left.len(), 1);
        let context = GetEntriesContext::empty(false);
        assert!(view.entries(2, 4, None, context).is_err());
    }

    #[test]
    fn old_bodies_are_asked_for_and_taken_from_an_offer() {
        let mut view = view(0);
        view.append(&[entry(1, 1), entry(2, 1), entry(3, 1)]);
        view.evict(3);
        let context = GetEntriesContext::empty(true);
        assert!(view.entries(1, 4, None, context).is_err());
        let wanted = view.take_wanted().pop().expect("noted");
        assert_eq!((wanted.from, wanted.to), (1, 4));
        view.offer(vec![entry(1, 1), entry(2, 1)]);
        let got = view.entries(1, 4, None, GetEntriesContext::empty(true));
        assert_eq!(got.expect("lent").len(), 2);
        view.withdraw();
        assert!(
            view.entries(1, 4, None, GetEntriesContext::empty(false))
                .is_err()
        );
    }
}
