//! The door to the replication loop for all other threads. Nothing here blocks on
//! the log but what says so.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use dashmap::Entry;
use raft::eraftpb::{EntryType, Message};

use super::core::Refusal;
use super::log_store::LogError;
use super::multi::{CommittedEntry, MultiRaftConfig, NewGroup, StateMachine};
use super::shared::{Command, GroupShared, GroupStatus, HoldError, LogHold, NodeShared};
use super::start::{GroupSpec, StartError, open_group};

/// How a proposal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposalOutcome {
    /// Durable under the promised mode, and applied to this node's state machine.
    Committed {
        /// Index of the entry.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// Definitely not executed, now or later.
    Dropped(Refusal),
    /// Unknown: it may have been executed, or may be executed yet.
    LeadershipLost,
}

/// Called once, on the loop thread, with the outcome. Must not block.
pub type ProposalDone = Box<dyn FnOnce(ProposalOutcome) + Send>;

/// An entry to be replicated, as the group's evaluator makes it.
pub struct Proposal {
    /// The term in which it was evaluated (`RoleChange::term`).
    pub term: u64,
    /// Number of the overlay that it was evaluated on, see `Propose::lineage`: to be
    /// raised whenever an overlay is thrown away.
    pub lineage: u64,
    /// Body of the entry; not empty.
    pub data: Bytes,
    /// Given to `StateMachine::apply` with the entry if it is applied by this process in
    /// this term, so that apply need not decode what the evaluator has in memory.
    pub local: Option<Box<dyn Any + Send>>,
    /// Told the outcome.
    pub done: ProposalDone,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proposal")
            .field("term", &self.term)
            .field("lineage", &self.lineage)
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

/// Why `propose` did not take a proposal. It is definitely not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusedReason {
    /// Too many proposals or bytes are queued or in flight.
    #[error("too much is waiting to be replicated")]
    Overloaded,
    /// The entry is above the cap.
    #[error("the entry has {bytes} bytes, the cap is {cap}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The cap.
        cap: usize,
    },
    /// The group is not on this node.
    #[error("the group is not on this node")]
    UnknownGroup,
    /// The replication layer is stopping or has failed.
    #[error("this node is stopping")]
    Stopped,
}

/// A proposal that was not taken, given back; its `done` was not called.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub reason: RefusedReason,
    /// The proposal as it came.
    pub proposal: Proposal,
}

/// See the module. Cloning is cheap.
#[derive(Clone)]
pub struct RaftHandle {
    pub(super) shared: Arc<NodeShared>,
    pub(super) config: Arc<MultiRaftConfig>,
}

impl RaftHandle {
    /// Queues a proposal; never blocks. If it is taken, `done` is called exactly once.
    /// Proposals of one thread for one group become entries in the order of the calls.
    pub fn propose(&self, group: u64, proposal: Proposal) -> Result<(), Box<Refused>> {
        let Some(shared) = self.group(group) else {
            return refused(RefusedReason::UnknownGroup, proposal);
        };
        let bytes = proposal.data.len();
        let cap = self.config.max_entry_bytes;
        if bytes > cap {
            return refused(RefusedReason::TooLarge { bytes, cap }, proposal);
        }
        if !self.admit(&shared, bytes) {
            return refused(RefusedReason::Overloaded, proposal);
        }
        match self
            .shared
            .queue
            .push(Command::Propose(shared.clone(), proposal))
        {
            Ok(()) => Ok(()),
            Err(Command::Propose(_, proposal)) => {
                release(&self.shared, &shared, bytes);
                refused(RefusedReason::Stopped, proposal)
            }
            Err(_) => unreachable!("the queue gives back what it got"),
        }
    }

    /// Cap of one entry's body, in bytes; [`RaftHandle::propose`] refuses a larger one.
    pub fn max_entry_bytes(&self) -> usize {
        self.config.max_entry_bytes
    }

    /// Applied entries of `[from, to)`, at least one if there is any, and not more than
    /// `max_bytes` after the first. Reads the log on the calling thread. Take a hold
    /// first, or the entries may have been cut.
    pub fn entries(
        &self,
        group: u64,
        from: u64,
        to: u64,
        max_bytes: u64,
    ) -> Result<Vec<CommittedEntry>, LogError> {
        let shared = self.group(group).ok_or(LogError::UnknownGroup { group })?;
        let applied = shared.applied.load(Ordering::Acquire);
        let entries = self
            .shared
            .store
            .entries(group, from, to.min(applied + 1), max_bytes)?;
        Ok(entries.into_iter().map(plain).collect())
    }

    /// Where the group stands; `None` if it is not on this node.
    pub fn status(&self, group: u64) -> Option<GroupStatus> {
        self.group(group).map(|shared| shared.status())
    }

    /// The groups on this node.
    pub fn groups(&self) -> Vec<u64> {
        let mut groups: Vec<u64> = self.shared.groups.iter().map(|g| *g.key()).collect();
        groups.sort_unstable();
        groups
    }

    /// Keeps the entries from `from` on in the log until the guard is dropped.
    /// `limit_bytes` is only reported (`LogHold::over_limit`).
    pub fn hold_log(&self, group: u64, from: u64, limit_bytes: u64) -> Result<LogHold, HoldError> {
        let shared = self.group(group).ok_or(HoldError::UnknownGroup(group))?;
        LogHold::new(shared, from, limit_bytes)
    }

    /// Takes up a group: opens its log (or founds it), applies what is committed and
    /// not applied yet on the calling thread, which may take seconds, then hands it to
    /// the loop. The group may be used at once; it leads when `on_role` says so.
    pub fn add_group(
        &self,
        spec: GroupSpec,
        mut machine: Box<dyn StateMachine>,
    ) -> Result<(), StartError> {
        let group = spec.group;
        if self.shared.groups.contains_key(&group) {
            return Err(StartError::AlreadyHere { group });
        }
        let core = open_group(&*self.shared.store, &spec, &self.config, &mut *machine)?;
        let (first, applied) = (core.first_index(), core.applied_index());
        let shared = Arc::new(GroupShared::new(group, spec.replica, first, applied));
        match self.shared.groups.entry(group) {
            Entry::Occupied(_) => return Err(StartError::AlreadyHere { group }),
            Entry::Vacant(place) => drop(place.insert(shared.clone())),
        }
        let new = NewGroup {
            core,
            machine,
            shared,
        };
        let pushed = self.shared.queue.push(Command::AddGroup(Box::new(new)));
        pushed.map_err(|_| {
            self.shared.groups.remove(&group);
            StartError::Stopped { group }
        })
    }

    /// Takes a message from another node's replica of the group. Dropped when the node
    /// is stopping or too many wait; Raft sends again.
    pub fn deliver(&self, group: u64, message: Message) {
        let command = Command::Message(group, Box::new(message));
        let _ = self.shared.queue.push(command);
    }

    /// Asks the group's leader, if it is here, to hand leadership to `replica`.
    pub fn transfer_leader(&self, group: u64, replica: u64) {
        let _ = self.shared.queue.push(Command::Transfer(group, replica));
    }

    /// Finishes what is queued, syncs the log and stops the loop; returns when that is
    /// done. Not to be called from the loop thread (from `done` or a state machine).
    pub fn shutdown(&self) {
        let _ = self.shared.queue.push(Command::Shutdown);
        self.shared.wait_stopped();
    }

    fn group(&self, group: u64) -> Option<Arc<GroupShared>> {
        self.shared.groups.get(&group).map(|shared| shared.clone())
    }

    /// Counts a proposal in, unless a bound is reached. A lone proposal always fits.
    fn admit(&self, shared: &GroupShared, bytes: usize) -> bool {
        let pending = shared.pending.fetch_add(1, Ordering::Relaxed);
        let total = self
            .shared
            .pending_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        let fits = pending < self.config.max_pending_proposals
            && (total == 0 || total + bytes <= self.config.max_pending_bytes);
        if !fits {
            release(&self.shared, shared, bytes);
        }
        fits
    }
}

/// Counts a proposal out again.
pub(super) fn release(node: &NodeShared, group: &GroupShared, bytes: usize) {
    group.pending.fetch_sub(1, Ordering::Relaxed);
    node.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
}

fn refused(reason: RefusedReason, proposal: Proposal) -> Result<(), Box<Refused>> {
    Err(Box::new(Refused { reason, proposal }))
}

/// An entry as the state machine gets it on replay.
pub(super) fn plain(entry: raft::eraftpb::Entry) -> CommittedEntry {
    let normal = entry.get_entry_type() == EntryType::EntryNormal;
    CommittedEntry {
        index: entry.index,
        term: entry.term,
        data: if normal { entry.data } else { Bytes::new() },
        local: None,
    }
}
