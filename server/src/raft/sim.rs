//! Support for seeded tests of the core: a replica on a `MemoryLog` that can be killed
//! between any two steps of its cycle, and a state machine that remembers everything.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::eraftpb::Message;

use super::core::{GroupCore, Propose, RoleChange, Work};
use super::log_store::{Durability, GroupWrite, LogBatch, RaftLogStore};
use super::memory_log::MemoryLog;
use super::multi::{ApplyError, CommittedEntry, MultiRaftConfig, StateMachine};
use super::start::{GroupSpec, open_group};

pub(super) const GROUP: u64 = 7;

/// One applied entry: (term, data), at position index - 1.
pub(super) type History = Vec<(u64, Bytes)>;

/// A state machine whose content outlives the process only up to `durable`.
#[derive(Clone, Default)]
pub(super) struct Recorder {
    pub(super) content: Arc<Mutex<RecorderContent>>,
}

#[derive(Default)]
pub(super) struct RecorderContent {
    pub(super) history: History,
    pub(super) durable: u64,
    pub(super) roles: Vec<RoleChange>,
    /// Entries that came with what their proposal carried.
    pub(super) with_local: usize,
    pub(super) fail_at: Option<u64>,
    pub(super) pressure: usize,
}

impl Recorder {
    pub(super) fn history(&self) -> History {
        self.content.lock().history.clone()
    }

    pub(super) fn flush(&self) {
        let mut content = self.content.lock();
        content.durable = content.history.len() as u64;
    }

    /// What a restart finds.
    pub(super) fn crash(&self) {
        let mut content = self.content.lock();
        let durable = content.durable as usize;
        content.history.truncate(durable);
    }

    pub(super) fn values(&self) -> Vec<u64> {
        let content = self.content.lock();
        let values = content.history.iter().filter(|(_, data)| !data.is_empty());
        values.map(|(_, data)| value_of(data)).collect()
    }
}

impl StateMachine for Recorder {
    fn apply(&mut self, batch: &mut [CommittedEntry]) -> Result<(), ApplyError> {
        let mut content = self.content.lock();
        for entry in batch {
            let expected = content.history.len() as u64 + 1;
            assert_eq!(entry.index, expected, "entries are applied in order, once");
            if content.fail_at == Some(entry.index) {
                return Err(ApplyError {
                    index: entry.index,
                    source: "injected".into(),
                });
            }
            content.with_local += usize::from(entry.local.take().is_some());
            content.history.push((entry.term, entry.data.clone()));
        }
        Ok(())
    }

    fn applied_index(&self) -> u64 {
        self.content.lock().history.len() as u64
    }

    fn durable_applied_index(&self) -> u64 {
        self.content.lock().durable
    }

    fn on_role(&mut self, change: RoleChange) {
        self.content.lock().roles.push(change);
    }

    fn on_log_pressure(&mut self, _bytes: u64) {
        self.content.lock().pressure += 1;
    }
}

pub(super) fn data_of(value: u64) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

pub(super) fn value_of(data: &[u8]) -> u64 {
    u64::from_be_bytes(data.try_into().expect("eight bytes"))
}

/// The points between two steps of a replica's cycle at which it can die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    Taken,
    Written,
    Persisted,
    Applied,
}

pub(super) const EDGES: [Edge; 4] = [Edge::Taken, Edge::Written, Edge::Persisted, Edge::Applied];

/// What became visible outside during a cycle.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) messages: Vec<Message>,
    /// (token, index) of proposals reported committed.
    pub(super) acknowledged: Vec<(u64, u64)>,
    pub(super) lost: Vec<u64>,
}

pub(super) struct Replica {
    pub(super) core: GroupCore<u64>,
    pub(super) log: Arc<MemoryLog>,
    pub(super) machine: Recorder,
    spec: GroupSpec,
    config: MultiRaftConfig,
}

impl Replica {
    pub(super) fn new(spec: GroupSpec, config: MultiRaftConfig) -> Self {
        let log = Arc::new(MemoryLog::new());
        let machine = Recorder::default();
        let core = open_group(&*log, &spec, &config, &mut machine.clone()).expect("opens");
        Self {
            core,
            log,
            machine,
            spec,
            config,
        }
    }

    /// Dies and starts again. `kept`: unsynced batches that had reached the device.
    pub(super) fn restart(&mut self, kept: usize) {
        self.log.crash(kept);
        self.machine.crash();
        let mut machine = self.machine.clone();
        self.core = open_group(&*self.log, &self.spec, &self.config, &mut machine)
            .unwrap_or_else(|e| panic!("cannot restart: {e}"));
    }

    pub(super) fn propose(&mut self, value: u64) -> bool {
        let term = self.core.role().term;
        let proposal = Propose {
            term,
            lineage: 1 + value,
            data: data_of(value),
            token: value,
        };
        self.core.propose(proposal).is_ok()
    }

    /// Runs the cycle until there is no work, or until it dies at `death` in its
    /// `round`-th round (then false: the caller restarts it).
    pub(super) fn run(&mut self, seen: &mut Seen, death: Option<(usize, Edge)>) -> bool {
        for round in 0.. {
            let Some(work) = self.core.take_work() else {
                return true;
            };
            let edge = death.filter(|(r, _)| *r == round).map(|(_, edge)| edge);
            if !self.one_round(work, seen, edge) {
                return false;
            }
        }
        unreachable!("rounds do not end by counting")
    }

    fn one_round(&mut self, work: Work<u64>, seen: &mut Seen, death: Option<Edge>) -> bool {
        seen.messages.extend(work.messages);
        if death == Some(Edge::Taken) {
            return false;
        }
        if work.must_write {
            let sync = self.config.durability == Durability::Always || work.must_sync;
            let mut batch = LogBatch::default();
            let write = GroupWrite {
                entries: work.entries,
                hard_state: work.hard_state,
                conf_state: work.conf_state,
                cut: None,
            };
            batch.push(GROUP, write);
            self.log.write(&mut batch, sync).expect("memory");
        }
        if death == Some(Edge::Written) {
            return false;
        }
        self.core.persisted(work.number);
        seen.messages.extend(work.after_persist);
        if death == Some(Edge::Persisted) {
            return false;
        }
        for fetch in work.fetches {
            let entries = self
                .log
                .entries(GROUP, fetch.from, fetch.to, fetch.max_bytes);
            self.core.fetched(fetch, entries.expect("not cut"));
        }
        let mut acknowledged = Vec::new();
        let mut batch = Vec::new();
        for entry in work.committed {
            acknowledged.extend(entry.token.map(|token| (token, entry.index)));
            batch.push(CommittedEntry {
                index: entry.index,
                term: entry.term,
                data: entry.data,
                local: None,
            });
        }
        if let Some(last) = batch.last().map(|e| e.index) {
            self.machine.apply(&mut batch).expect("recorder");
            self.core.applied(last);
        }
        if death == Some(Edge::Applied) {
            return false;
        }
        seen.acknowledged.extend(acknowledged);
        seen.lost.extend(work.lost);
        if let Some(role) = work.role {
            self.machine.on_role(role);
        }
        true
    }
}
