//! What the loop thread and the holders of a `RaftHandle` share: the bounded command
//! queue, and for each group its status, its load and the holds on its log.
//!
//! Lock order: none is held while another is taken. Each lock guards a few fields for
//! the length of a copy; the loop takes a group's lock once a round.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use dashmap::DashMap;
use parking_lot::{Condvar, Mutex};
use raft::eraftpb::Message;

use super::core::{Role, RoleChange};
use super::handle::Proposal;
use super::log_samples::LogSamples;
use super::log_store::{LogPosition, RaftLogStore};
use super::multi::{FatalHandler, NewGroup, RaftFailure};

/// A snapshot of where one group stands on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group.
    pub group: u64,
    /// This replica's number.
    pub replica: u64,
    /// Role, term, leader, readiness.
    pub role: RoleChange,
    /// First index in the log (one above the last cut).
    pub first_index: u64,
    /// Last index in the log.
    pub last_index: u64,
    /// Highest index known to be committed.
    pub commit_index: u64,
    /// Highest index in the state machine.
    pub applied_index: u64,
    /// Highest index that the state machine has durably, when last asked.
    pub durable_index: u64,
    /// Bytes appended since the process started.
    pub appended_bytes: u64,
    /// Proposals queued or in flight.
    pub pending: usize,
}

/// What a handle can put into the loop's queue.
pub(super) enum Command {
    Propose(Arc<GroupShared>, Proposal),
    Message(u64, Box<Message>),
    AddGroup(Box<NewGroup>),
    Transfer(u64, u64),
    Shutdown,
}

#[derive(Default)]
struct QueueState {
    commands: Vec<Command>,
    sleeping: bool,
    closed: bool,
    messages: usize,
}

/// The loop's inbox. Proposals are bounded by their groups' load, messages by count;
/// the other commands are few.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    wake: Condvar,
}

/// Inbound messages beyond this many waiting are dropped (Raft sends them again).
const MAX_QUEUED_MESSAGES: usize = 8192;

impl Queue {
    /// Adds a command; gives it back if the loop has ended or is ending.
    pub(super) fn push(&self, command: Command) -> Result<(), Command> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(command);
        }
        if matches!(command, Command::Message(..)) {
            if state.messages >= MAX_QUEUED_MESSAGES {
                return Ok(());
            }
            state.messages += 1;
        }
        state.commands.push(command);
        if std::mem::take(&mut state.sleeping) {
            drop(state);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Moves everything queued into `into`, which is empty. Sleeps until the deadline,
    /// if given, only while there is nothing.
    pub(super) fn take(&self, into: &mut Vec<Command>, deadline: Option<Instant>) {
        let mut state = self.state.lock();
        while state.commands.is_empty() && !state.closed {
            state.sleeping = true;
            let timed_out = match deadline {
                None => {
                    self.wake.wait(&mut state);
                    false
                }
                Some(at) => self.wake.wait_until(&mut state, at).timed_out(),
            };
            state.sleeping = false;
            if timed_out {
                break;
            }
        }
        state.messages = 0;
        std::mem::swap(&mut state.commands, into);
    }

    /// Lets nothing in any more, and wakes the loop.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_all();
    }
}

struct GroupState {
    status: GroupStatus,
    /// First index wanted by each hold.
    holds: BTreeMap<u64, u64>,
    next_hold: u64,
}

/// One group as its handles see it.
pub(super) struct GroupShared {
    pub(super) group: u64,
    state: Mutex<GroupState>,
    pub(super) applied: AtomicU64,
    pub(super) appended_bytes: AtomicU64,
    pub(super) pending: AtomicUsize,
    /// The store asked that this group's log be cut, because it pins old files.
    pub(super) pins_files: AtomicBool,
}

impl GroupShared {
    pub(super) fn new(group: u64, replica: u64, first_index: u64, applied: u64) -> Self {
        let role = RoleChange {
            role: Role::Follower,
            term: 0,
            leader: None,
            ready_to_evaluate: false,
        };
        let status = GroupStatus {
            group,
            replica,
            role,
            first_index,
            last_index: applied,
            commit_index: applied,
            applied_index: applied,
            durable_index: 0,
            appended_bytes: 0,
            pending: 0,
        };
        Self {
            group,
            state: Mutex::new(GroupState {
                status,
                holds: BTreeMap::new(),
                next_hold: 0,
            }),
            applied: AtomicU64::new(applied),
            appended_bytes: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
            pins_files: AtomicBool::new(false),
        }
    }

    pub(super) fn status(&self) -> GroupStatus {
        let mut status = self.state.lock().status;
        status.appended_bytes = self.appended_bytes.load(Ordering::Relaxed);
        status.pending = self.pending.load(Ordering::Relaxed);
        status
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut GroupStatus)) {
        change(&mut self.state.lock().status);
    }

    /// Decides how far the log may be cut (at most `wanted`), so that no later hold can
    /// ask for what is about to go. None if that is less than `min_entries`.
    pub(super) fn claim_cut(&self, wanted: u64, min_entries: u64) -> Option<u64> {
        let mut state = self.state.lock();
        let held = state.holds.values().min().copied().unwrap_or(u64::MAX);
        let upto = wanted.min(held.saturating_sub(1));
        let entries = (upto + 1).saturating_sub(state.status.first_index);
        if entries == 0 || entries < min_entries {
            return None;
        }
        state.status.first_index = upto + 1;
        Some(upto)
    }
}

/// Why a hold was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// The group is not on this node.
    #[error("group {0} is not on this node")]
    UnknownGroup(u64),
    /// Entries from there on were cut already.
    #[error("the log of group {group} begins at {first}, asked to hold {from}")]
    AlreadyCut {
        /// The group.
        group: u64,
        /// First index asked for.
        from: u64,
        /// First index that is there.
        first: u64,
    },
}

/// Keeps a group's entries from an index on for as long as it lives, and counts them.
pub struct LogHold {
    group: Arc<GroupShared>,
    id: u64,
    limit_bytes: u64,
    samples: LogSamples,
}

impl LogHold {
    pub(super) fn new(
        group: Arc<GroupShared>,
        from: u64,
        limit_bytes: u64,
    ) -> Result<Self, HoldError> {
        let mut state = group.state.lock();
        let first = state.status.first_index;
        if from < first {
            let group = group.group;
            return Err(HoldError::AlreadyCut { group, from, first });
        }
        let id = state.next_hold;
        state.next_hold += 1;
        state.holds.insert(id, from);
        let last = state.status.last_index;
        drop(state);
        let appended = group.appended_bytes.load(Ordering::Relaxed);
        Ok(Self {
            group,
            id,
            limit_bytes,
            samples: LogSamples::new(last, appended),
        })
    }

    /// Lets go of entries below `from`; never takes hold of more. They are counted no
    /// more, as far as [`LogHold::sample`] has told one from the other.
    pub fn advance(&mut self, from: u64) {
        if let Some(held) = self.group.state.lock().holds.get_mut(&self.id) {
            *held = from.max(*held);
        }
        self.samples.advance(from);
    }

    /// Remembers where the log ends now, as a place to count from later. To be called now
    /// and then: the count is as fine as these calls are close.
    pub fn sample(&mut self) {
        let status = self.group.status();
        self.samples.add(status.last_index, status.appended_bytes);
    }

    /// Bytes that it keeps on disk of what was appended to the group's log since it was
    /// taken; what was in the log before is not counted.
    pub fn retained_bytes(&self) -> u64 {
        let appended = self.group.appended_bytes.load(Ordering::Relaxed);
        self.samples.retained(appended)
    }

    /// True once `retained_bytes` exceeds the limit given with the hold. The hold stays;
    /// its owner decides (fail the plan, slow the writers).
    pub fn over_limit(&self) -> bool {
        self.retained_bytes() > self.limit_bytes
    }
}

impl Drop for LogHold {
    fn drop(&mut self) {
        self.group.state.lock().holds.remove(&self.id);
    }
}

/// Work that the loop leaves to the upkeep thread.
#[derive(Default)]
pub(super) struct UpkeepState {
    pub(super) cuts: HashMap<u64, LogPosition>,
    pub(super) stop: bool,
}

/// Shared by the loop, the upkeep thread and all handles of one node.
pub(super) struct NodeShared {
    pub(super) store: Arc<dyn RaftLogStore>,
    pub(super) queue: Queue,
    pub(super) groups: DashMap<u64, Arc<GroupShared>>,
    /// Bytes of all proposals queued or in flight.
    pub(super) pending_bytes: AtomicUsize,
    pub(super) upkeep: Mutex<UpkeepState>,
    pub(super) upkeep_wake: Condvar,
    /// Something was written without sync since the last sync.
    pub(super) unsynced: AtomicBool,
    failed: AtomicBool,
    on_fatal: FatalHandler,
    stopped: Mutex<bool>,
    stopped_wake: Condvar,
}

impl NodeShared {
    pub(super) fn new(store: Arc<dyn RaftLogStore>, on_fatal: FatalHandler) -> Self {
        Self {
            store,
            queue: Queue::default(),
            groups: DashMap::new(),
            pending_bytes: AtomicUsize::new(0),
            upkeep: Mutex::default(),
            upkeep_wake: Condvar::new(),
            unsynced: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            on_fatal,
            stopped: Mutex::new(false),
            stopped_wake: Condvar::new(),
        }
    }

    /// Stops all writing for good and tells the process, once.
    pub(super) fn fail(&self, failure: &RaftFailure) {
        if self.failed.swap(true, Ordering::SeqCst) {
            return;
        }
        tracing::error!(error = %failure, "replication stops for good");
        self.queue.close();
        (self.on_fatal)(failure);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Said by the loop when it will touch nothing any more.
    pub(super) fn set_stopped(&self) {
        *self.stopped.lock() = true;
        self.stopped_wake.notify_all();
    }

    pub(super) fn wait_stopped(&self) {
        let mut stopped = self.stopped.lock();
        while !*stopped {
            self.stopped_wake.wait(&mut stopped);
        }
    }
}
