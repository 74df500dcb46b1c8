//! One group: the replica of one set of slots and its single writer.
//!
//! Everyone holds a [`Group`] and submits; whichever thread finds the writer
//! free becomes it for a turn (`writer`). Invariants:
//! - one writer at a time; entries reach the log in the order of evaluation;
//! - no reply of a turn leaves before the turn's entry is applied;
//! - applied index and data change in the same write batch.
//!
//! Knows nothing of connections; RESP only as far as handlers write replies.

pub(crate) mod blocked;
pub mod commit;
mod elements;
pub mod eviction;
pub mod expiry;
mod own;
mod scripts;
mod serve;
#[cfg(test)]
mod serve_tests;
#[cfg(test)]
mod staging_tests;
pub mod submission;
pub(crate) mod watch;
mod writer;

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;

use self::blocked::Blocked;
pub(crate) use self::own::OwnBatch;
use self::scripts::ScriptThread;
use self::submission::{Outcome, Submission};
use self::watch::Watches;
use self::writer::Writer;
pub use self::writer::{Commit, CommitSink, Entry, StepDone};

use crate::storage::{MetaKey, Store};
use crate::txn::clock::LogClock;
use crate::txn::events::Event;
use crate::txn::tape::Tape;
use crate::txn::{Delivery, Expiry, ServedSlots, TxnContext, Witness};

/// Numbers a group. Standalone: 0.
pub type GroupId = u32;

/// What to do with a command for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotVerdict {
    Serve,
    /// A move is about to be decided: wait, nothing was executed.
    Frozen,
    /// Served elsewhere.
    Moved,
}

/// The group's slot ownership, as its replicated state has it.
pub trait SlotGate: Send + Sync {
    fn verdict(&self, slot: u16) -> SlotVerdict;

    /// Changes whenever the slot's status or epoch does: a read compares it
    /// before and after.
    fn stamp(&self, slot: u16) -> u64;

    /// The slot's epoch, part of every version made under it.
    fn epoch(&self, slot: u16) -> u32;

    /// Waits until the slot is not frozen. Cancel safe.
    fn thawed(&self, slot: u16) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

impl ServedSlots for Arc<dyn SlotGate> {
    fn serves(&self, slot: u16) -> bool {
        self.verdict(slot) == SlotVerdict::Serve
    }

    fn epoch(&self, slot: u16) -> u32 {
        SlotGate::epoch(&**self, slot)
    }
}

/// Work for the writer.
pub(crate) enum Job {
    Client(Arc<Submission>),
    /// Due rows of the `expiry` index: (key, expiry).
    Expire(Vec<(MetaKey, u64)>, Arc<AtomicBool>),
    /// Keys that go because `maxmemory` is reached.
    Evict(Vec<MetaKey>, Arc<AtomicBool>),
    /// A step of a move: an entry of its own. `before` runs at its place in
    /// the order of evaluation, before anything behind it is evaluated.
    Step {
        bytes: Bytes,
        done: StepDone,
        before: Box<dyn FnOnce() + Send>,
    },
    /// Runs between two entries: all that was evaluated before is applied,
    /// nothing behind it is evaluated.
    Between(Box<dyn FnOnce() + Send>),
}

/// Settings that evaluation reads; they may change while the group lives.
pub struct EvaluationLimits {
    pub string_inline_max: AtomicUsize,
    pub max_bulk: AtomicUsize,
}

impl EvaluationLimits {
    fn follow(&self, live: &crate::config::LiveSettings) {
        let pairs = [
            (&self.string_inline_max, &live.string_inline_max),
            (&self.max_bulk, &live.proto_max_bulk_len),
        ];
        for (own, setting) in pairs {
            own.store(setting.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// Who is told of events once they are applied, before the replies leave.
pub trait EventListener: Send + Sync {
    /// Whether there is anybody to tell now; else no event is made.
    fn wanted(&self) -> bool;

    /// Whether reads are to tell of keys that they do not find.
    fn misses_wanted(&self) -> bool {
        false
    }

    /// Whether somebody watches what scripts call.
    fn monitored(&self) -> bool {
        false
    }

    /// Whether replicas are to be told what changes.
    fn recording(&self) -> bool {
        false
    }

    /// Whether nothing may change of its own accord now (CLIENT PAUSE).
    fn writes_paused(&self) -> bool {
        false
    }

    /// What replicas are told of one entry of a group.
    fn recorded(&self, _group: GroupId, _tape: &Tape) {}

    /// Slots came or went, or a writer rose or fell: what replicas were told does
    /// not go on.
    fn moved(&self, _why: &str) {}

    /// What one entry did, in order.
    fn fire(&self, events: &[Event]);

    /// What a command of `client` did besides, in the order of evaluation.
    fn witnessed(&self, _client: u64, _witness: Witness) {}
}

/// Nobody listens.
pub struct Unheard;

impl EventListener for Unheard {
    fn wanted(&self) -> bool {
        false
    }

    fn fire(&self, _: &[Event]) {}
}

pub type EventSink = Arc<dyn EventListener>;

/// Whose word counts in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Follows {
    /// Clients write.
    Nobody = 0,
    /// A master's, and clients read.
    Master = 1,
    /// A master's, and clients may write what the master does not know of.
    MasterLoosely = 2,
}

/// See the module's documentation.
pub struct Group {
    pub id: GroupId,
    pub store: Arc<Store>,
    pub limits: EvaluationLimits,
    /// How often the writer had to wait for the disk.
    pub writer_cold_reads: AtomicU64,
    /// Keys removed because their time had come.
    pub expired_keys: AtomicU64,
    /// Keys removed because `maxmemory` was reached.
    pub evicted_keys: AtomicU64,
    /// Who owns which slot; `None`: all are ours (standalone).
    pub ownership: Option<Arc<dyn SlotGate>>,
    /// How strongly each move slows writes down, by its plan; not those that do not.
    brakes: Mutex<HashMap<u64, u8>>,
    /// What follows from them, ms each; see [`Group::write_delay`].
    write_delay_ms: AtomicU64,
    /// DEBUG SET-ACTIVE-EXPIRE 0: expired keys are hidden, not collected.
    pub expiry_paused: AtomicBool,
    /// Whether a master is followed: [`Follows`].
    follows: AtomicU8,
    /// What clients wrote while a master is followed loosely; see `expiry`.
    local_keys: Mutex<HashSet<expiry::LocalKey>>,
    /// Batches of a master's stream are evaluated only if they have this number: a
    /// link that has ended, or is to end, changes nothing any more.
    pub stream_epoch: AtomicU64,
    /// Raised whenever evaluated work was thrown away.
    pub lineage: AtomicU64,
    /// Rows may go ahead of their entry (`txn::staging`): every node of the cluster
    /// can read such entries.
    pub may_stage: AtomicBool,
    /// The writer may evaluate: standalone, or leader with all of earlier
    /// terms applied.
    ready: AtomicBool,
    started: Instant,
    clock: Mutex<LogClock>,
    queue: Mutex<VecDeque<Job>>,
    writer: Mutex<Writer>,
    watches: Watches,
    blocked: Blocked,
    sink: Box<dyn CommitSink>,
    script_thread: ScriptThread,
    pub(crate) events: EventSink,
    /// A turn is already on some thread's list.
    scheduled: AtomicBool,
}

impl Group {
    /// A group over `store`. With an ownership table it is a cluster's, and
    /// evaluates only after [`Group::set_ready`].
    pub fn new(
        id: GroupId,
        store: Arc<Store>,
        sink: Box<dyn CommitSink>,
        events: EventSink,
        ownership: Option<Arc<dyn SlotGate>>,
    ) -> Arc<Group> {
        let writer = Writer::new(&store);
        let clock = LogClock::start(store.log_time(), wall_us(), 0);
        store.access.begin(wall_us() / 1000);
        Arc::new(Group {
            id,
            store,
            limits: EvaluationLimits {
                string_inline_max: AtomicUsize::new(16 << 10),
                max_bulk: AtomicUsize::new(512 << 20),
            },
            writer_cold_reads: AtomicU64::new(0),
            expired_keys: AtomicU64::new(0),
            evicted_keys: AtomicU64::new(0),
            ready: AtomicBool::new(ownership.is_none()),
            may_stage: AtomicBool::new(ownership.is_none()),
            ownership,
            brakes: Mutex::default(),
            write_delay_ms: AtomicU64::new(0),
            expiry_paused: AtomicBool::new(false),
            follows: AtomicU8::new(Follows::Nobody as u8),
            local_keys: Mutex::default(),
            stream_epoch: AtomicU64::new(0),
            lineage: AtomicU64::new(1),
            started: Instant::now(),
            clock: Mutex::new(clock),
            queue: Mutex::new(VecDeque::new()),
            writer: Mutex::new(writer),
            watches: Watches::default(),
            blocked: Blocked::default(),
            sink,
            script_thread: ScriptThread::default(),
            events,
            scheduled: AtomicBool::new(false),
        })
    }

    /// Takes over what the live settings are now.
    pub fn follow(&self, live: &crate::config::LiveSettings) {
        self.limits.follow(live);
        self.store.limits.follow(&live.types);
        let number = |n: &AtomicUsize| u32::try_from(n.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        self.store.access.follow(
            live.eviction_policy().is_lfu(),
            number(&live.lfu_log_factor),
            number(&live.lfu_decay_time),
        );
        self.store.access.share_integers(!live.evicts_by_use());
    }

    /// Whether a master is followed.
    #[inline]
    pub fn follows(&self) -> Follows {
        match self.follows.load(Ordering::Acquire) {
            0 => Follows::Nobody,
            1 => Follows::Master,
            _ => Follows::MasterLoosely,
        }
    }

    pub(crate) fn set_follows(&self, follows: Follows) {
        self.follows.store(follows as u8, Ordering::Release);
        if follows != Follows::MasterLoosely {
            self.local_keys.lock().clear();
        }
    }

    /// Whether the writer may evaluate.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Lets the writer evaluate from now on, or stops it. What was evaluated
    /// before and is not committed is thrown away by the sink's answer.
    pub fn set_ready(self: &Arc<Self>, ready: bool) {
        self.ready.store(ready, Ordering::Release);
        if ready {
            self.rebase();
            // The writer took a breath in between: what it registered since it
            // was stopped is void too.
            self.dismiss_listeners();
            self.turn();
        } else {
            self.refuse_queued();
            self.dismiss_listeners();
        }
    }

    /// What waits for a writer that has lost its term is definitely not executed.
    fn refuse_queued(&self) {
        let waiting = std::mem::take(&mut *self.queue.lock());
        for job in waiting {
            match job {
                Job::Client(submission) => refuse(&submission),
                Job::Expire(_, done) | Job::Evict(_, done) => done.store(true, Ordering::Release),
                Job::Step { done, .. } => done(Commit::Refused),
                Job::Between(run) => drop(run),
            }
        }
    }

    /// Takes back what clients have queued and the writer has not begun: none
    /// of it was executed.
    pub(crate) fn refuse_clients(&self) {
        let mut refused = Vec::new();
        self.queue.lock().retain(|job| match job {
            Job::Client(submission) => {
                refused.push(submission.clone());
                false
            }
            _ => true,
        });
        refused.iter().for_each(|submission| refuse(submission));
    }

    /// Log time is at least this from now on (another source of it was seen).
    pub fn observe_log_time(&self, time: u64) {
        self.clock.lock().observe(time);
    }

    /// Queues a step of a move and takes a turn if the writer is free.
    pub fn propose_step(
        self: &Arc<Self>,
        bytes: Bytes,
        before: Box<dyn FnOnce() + Send>,
        done: StepDone,
    ) {
        self.submit_job(Job::Step {
            bytes,
            done,
            before,
        });
        self.turn();
        self.refuse_if_unready();
    }

    /// What scripts may use beside the slot of their keys.
    pub fn served_slots(&self) -> Option<&dyn ServedSlots> {
        let gate = self.ownership.as_ref();
        gate.map(|gate| gate as &dyn ServedSlots)
    }

    /// What the dispatcher fixes for a command on this group.
    pub fn context(&self, db: usize, slot: Option<u16>, now: u64, disk: bool) -> TxnContext {
        let slot_epoch = match (&self.ownership, slot) {
            (Some(gate), Some(slot)) => gate.epoch(slot),
            _ => 0,
        };
        TxnContext {
            db,
            now,
            expiry: match self.follows() {
                Follows::Nobody => Expiry::Collects,
                _ => Expiry::Hides,
            },
            disk,
            string_inline_max: self.limits.string_inline_max.load(Ordering::Relaxed),
            max_bulk: self.limits.max_bulk.load(Ordering::Relaxed),
            // Any number will do: what follows from it is in the effects.
            seed: next_seed(),
            cluster: self.ownership.is_some(),
            slot_epoch,
            may_block: true,
            client: 0,
            // Whoever reads the events of a batch must be asked here.
            events: self.events.wanted() || self.is_observed(),
            misses: self.events.misses_wanted(),
            track: false,
            monitored: self.events.monitored(),
            recorded: self.events.recording(),
            delivery: Delivery::Whole,
            roams: false,
            behind_proxy: false,
            keeps_expired: self.events.writes_paused(),
        }
    }

    /// Log time now, unix ms.
    pub fn now(&self) -> u64 {
        self.now_at(Instant::now())
    }

    /// The same where the clock was read just before.
    pub fn now_at(&self, at: Instant) -> u64 {
        let mono = |at: Instant| at.saturating_duration_since(self.started).as_micros() as u64;
        let mut clock = self.clock.lock();
        match clock.known(mono(at)) {
            Some(now) => now,
            // Both clocks at once: `at` may be some time ago.
            None => clock.advance(wall_us(), mono(Instant::now())),
        }
    }

    /// Puts a submission in the queue. The caller then sees to a turn
    /// ([`Group::claim_turn`], [`Group::turn`]) on this thread.
    pub fn submit(&self, submission: Arc<Submission>) {
        submission.begin();
        self.queue.lock().push_back(Job::Client(submission));
    }

    /// After [`Group::submit`], for whoever must not wait for a leader: if
    /// there is none here, what is queued is not executed.
    pub(crate) fn refuse_if_unready(&self) {
        // A writer that falls after this look refuses its queue itself.
        if !self.is_ready() {
            self.refuse_queued();
        }
    }

    /// Takes a submission back that the writer has not begun: none of it was
    /// executed. False if it was begun.
    pub(crate) fn withdraw(&self, submission: &Arc<Submission>) -> bool {
        let mut queue = self.queue.lock();
        let mine = |job: &Job| matches!(job, Job::Client(s) if Arc::ptr_eq(s, submission));
        let Some(at) = queue.iter().position(mine) else {
            return false;
        };
        queue.remove(at);
        drop(queue);
        refuse(submission);
        true
    }

    /// True in the flag once every batch is concluded that is under way now.
    pub(crate) fn barrier(self: &Arc<Self>) -> Arc<AtomicBool> {
        let passed = Arc::new(AtomicBool::new(false));
        // Nothing is due: only the turn of the job counts.
        self.submit_job(Job::Expire(Vec::new(), passed.clone()));
        self.turn();
        self.refuse_if_unready();
        passed
    }

    /// Runs `run` between two entries of the log; dropped if the writer falls.
    pub(crate) fn between_entries(self: &Arc<Self>, run: Box<dyn FnOnce() + Send>) {
        self.submit_job(Job::Between(run));
        self.turn();
        self.refuse_if_unready();
    }

    pub(crate) fn submit_job(&self, job: Job) {
        self.queue.lock().push_back(job);
    }

    /// True if the caller is to run [`Group::turn`]; false if somebody will.
    pub fn claim_turn(&self) -> bool {
        !self.scheduled.swap(true, Ordering::AcqRel)
    }

    /// Slows writes down while the increments of a move, which is this plan, do not
    /// catch up: 0 not at all, 10 strongest. Of several moves the strongest counts.
    pub fn slow_writes(&self, plan: u64, level: u8) {
        let mut brakes = self.brakes.lock();
        if level == 0 {
            brakes.remove(&plan);
        } else {
            brakes.insert(plan, level);
        }
        let strongest = brakes.values().max().copied().map_or(0, u64::from);
        // Under the lock: what is stored last follows from all of them.
        self.write_delay_ms
            .store(strongest * strongest, Ordering::Relaxed);
    }

    /// How long a connection waits before it submits writes now.
    pub fn write_delay(&self) -> Duration {
        Duration::from_millis(self.write_delay_ms.load(Ordering::Relaxed))
    }

    /// Number of keys of all databases.
    pub fn key_count(&self) -> u64 {
        self.store.with_maps(|maps| self.store.live_keys(maps))
    }

    /// Jobs that wait for the writer.
    pub fn queued(&self) -> usize {
        self.queue.lock().len()
    }
}

/// Finishes a submission of which nothing was executed.
fn refuse(submission: &Submission) {
    for command in &mut submission.lock().commands {
        command.outcome = Outcome::NotExecuted;
    }
    submission.finish();
}

/// A new seed of each thread's own sequence: readers of all threads ask for one
/// with each command.
fn next_seed() -> u64 {
    thread_local! {
        static SEED: Cell<u64> = Cell::new(rand::random());
    }
    SEED.with(|seed| {
        seed.set(seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        seed.get()
    })
}

fn wall_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_micros() as u64)
}
