//! A log store in memory that can crash, for simulation and tests.
//!
//! Holds two images: what has been written and what has been synced. `crash` throws
//! away what was written since the last sync, but for a chosen number of batches that
//! happened to reach the device (in order, as a real log file would keep them).

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use protobuf::Message;
use raft::eraftpb::{ConfState, Entry, HardState};

use super::log_store::{
    GroupWrite, LogBatch, LogError, LogPosition, LogState, RaftLogStore, fitting,
};

/// How often the store was asked to do what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryLogCounts {
    /// Batches written, synced or not.
    pub writes: u64,
    /// Synced writes and calls of `sync`.
    pub syncs: u64,
    /// Group changes inside all batches.
    pub group_writes: u64,
}

#[derive(Debug, Clone, Default)]
struct GroupLog {
    hard_state: HardState,
    conf_state: ConfState,
    conf_index: u64,
    cut: LogPosition,
    entries: VecDeque<Entry>,
}

impl GroupLog {
    fn last_index(&self) -> u64 {
        self.cut.index + self.entries.len() as u64
    }

    fn apply(&mut self, write: GroupWrite) {
        if let Some(first) = write.entries.first() {
            assert!(
                first.index > self.cut.index && first.index <= self.last_index() + 1,
                "entries at {} leave a hole or rewrite what was cut ({}, last {})",
                first.index,
                self.cut,
                self.last_index()
            );
            self.entries
                .truncate((first.index - self.cut.index - 1) as usize);
            self.entries.extend(write.entries);
        }
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some((index, conf_state)) = write.conf_state {
            self.conf_index = index;
            self.conf_state = conf_state;
        }
        if let Some(cut) = write.cut.filter(|cut| cut.index > self.cut.index) {
            let gone = (cut.index - self.cut.index).min(self.entries.len() as u64);
            self.entries.drain(..gone as usize);
            self.cut = cut;
        }
    }
}

type Image = BTreeMap<u64, GroupLog>;

#[derive(Debug, Default)]
struct State {
    written: Image,
    synced: Image,
    unsynced: Vec<LogBatch>,
    counts: MemoryLogCounts,
    fail_writes: bool,
}

fn apply_batch(image: &mut Image, mut batch: LogBatch) {
    for (group, write) in batch.drain() {
        image.entry(group).or_default().apply(write);
    }
}

impl State {
    fn sync_all(&mut self) {
        self.counts.syncs += 1;
        for batch in self.unsynced.drain(..) {
            apply_batch(&mut self.synced, batch);
        }
    }

    fn group(&self, group: u64) -> Result<&GroupLog, LogError> {
        self.written
            .get(&group)
            .ok_or(LogError::UnknownGroup { group })
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryLog {
    // Guards everything; held for the length of one call.
    state: Mutex<State>,
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses what was written since the last sync, but for its first `kept` batches.
    pub fn crash(&self, kept: usize) {
        let mut state = self.state.lock();
        let kept = kept.min(state.unsynced.len());
        let survivors: Vec<_> = state.unsynced.drain(..).take(kept).collect();
        for batch in survivors {
            apply_batch(&mut state.synced, batch);
        }
        state.written = state.synced.clone();
        state.fail_writes = false;
    }

    /// Batches that a crash could lose now.
    pub fn unsynced_batches(&self) -> usize {
        self.state.lock().unsynced.len()
    }

    /// Makes every write and sync fail from now on (until `crash`).
    pub fn fail_writes(&self) {
        self.state.lock().fail_writes = true;
    }

    /// What was done so far.
    pub fn counts(&self) -> MemoryLogCounts {
        self.state.lock().counts
    }
}

impl RaftLogStore for MemoryLog {
    fn groups(&self) -> Result<Vec<u64>, LogError> {
        Ok(self.state.lock().written.keys().copied().collect())
    }

    fn load(&self, group: u64) -> Result<Option<LogState>, LogError> {
        let state = self.state.lock();
        Ok(state.written.get(&group).map(|log| LogState {
            hard_state: log.hard_state.clone(),
            conf_state: log.conf_state.clone(),
            conf_index: log.conf_index,
            cut: log.cut,
            last_index: log.last_index(),
        }))
    }

    fn first_index(&self, group: u64) -> Result<u64, LogError> {
        Ok(self.state.lock().group(group)?.cut.index + 1)
    }

    fn last_index(&self, group: u64) -> Result<u64, LogError> {
        Ok(self.state.lock().group(group)?.last_index())
    }

    fn term(&self, group: u64, index: u64) -> Result<u64, LogError> {
        let state = self.state.lock();
        let log = state.group(group)?;
        if index == log.cut.index {
            return Ok(log.cut.term);
        }
        check_range(group, log, index, index + 1)?;
        Ok(log.entries[(index - log.cut.index - 1) as usize].term)
    }

    fn entries(
        &self,
        group: u64,
        from: u64,
        to: u64,
        max_bytes: u64,
    ) -> Result<Vec<Entry>, LogError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let state = self.state.lock();
        let log = state.group(group)?;
        check_range(group, log, from, to)?;
        let start = (from - log.cut.index - 1) as usize;
        let range = start..start + (to - from) as usize;
        let sizes = log
            .entries
            .range(range.clone())
            .map(|e| u64::from(e.compute_size()));
        let count = fitting(sizes, max_bytes);
        Ok(log.entries.range(range).take(count).cloned().collect())
    }

    fn write(&self, batch: &mut LogBatch, sync: bool) -> Result<(), LogError> {
        let mut state = self.state.lock();
        if state.fail_writes {
            return Err(LogError::Injected);
        }
        let batch = std::mem::take(batch);
        state.counts.writes += 1;
        state.counts.group_writes += batch.writes().len() as u64;
        apply_batch(&mut state.written, batch.clone());
        state.unsynced.push(batch);
        if sync {
            state.sync_all();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), LogError> {
        let mut state = self.state.lock();
        if state.fail_writes {
            return Err(LogError::Injected);
        }
        state.sync_all();
        Ok(())
    }

    fn reclaim(&self) -> Result<Vec<u64>, LogError> {
        Ok(Vec::new())
    }
}

fn check_range(group: u64, log: &GroupLog, from: u64, to: u64) -> Result<(), LogError> {
    let (first, last) = (log.cut.index + 1, log.last_index());
    if from < first {
        return Err(LogError::Compacted { group, from, first });
    }
    if to > last + 1 {
        let to = to - 1;
        return Err(LogError::BeyondEnd { group, to, last });
    }
    Ok(())
}
