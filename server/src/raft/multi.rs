//! The replication loop: one thread a node drives the cores of all groups hosted there.
//!
//! Each round it takes everything that is queued, lets every touched core say what it
//! wants written, writes once (one sync for all groups), then applies what is committed
//! and releases completions. While a round runs, the next batch gathers in the queue.
//! It never sleeps while something is queued; groups that lead alone are never ticked.
//!
//! Owns the cores and the state machines; others reach it through `RaftHandle`.
//! Invariants: `done` is called after the entry is durable under the promised mode and
//! applied; after a failed write, sync or apply nothing is written any more.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::eraftpb::Message;

use super::core::{Committed, CoreConfig, GroupCore, Propose, Refusal, RoleChange, Work};
use super::handle::{Proposal, ProposalDone, ProposalOutcome, RaftHandle, release};
use super::log_store::{Durability, GroupWrite, LogBatch, LogError, RaftLogStore};
use super::log_view::entry_bytes;
use super::shared::{Command, GroupShared, NodeShared};
use super::upkeep;

/// An entry to apply.
#[derive(Debug)]
pub struct CommittedEntry {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Its body. Empty: nothing to execute, only the index moves.
    pub data: Bytes,
    /// What the proposal carried, if this process proposed it in this term; take it out.
    /// Always absent on replay and on followers.
    pub local: Option<Box<dyn Any + Send>>,
}

/// Applying failed; the state is not to be trusted beyond its last durable point.
#[derive(Debug, thiserror::Error)]
#[error("cannot apply entry {index}: {source}")]
pub struct ApplyError {
    /// The entry.
    pub index: u64,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The replicated state of one group, ours. Called on the loop thread (and, before the
/// group is taken up, on the thread that adds it), so it must not wait for others.
pub trait StateMachine: Send {
    /// Applies entries whose indexes follow `applied_index` without a gap, in order.
    /// Afterwards `applied_index` is the last one's. An error ends the process's writing.
    fn apply(&mut self, batch: &mut [CommittedEntry]) -> Result<(), ApplyError>;

    /// Index of the last applied entry; 0 before the first.
    fn applied_index(&self) -> u64;

    /// Highest index whose effects, and those of all before, survive a power cut. The
    /// log may be cut up to it.
    fn durable_applied_index(&self) -> u64;

    /// The group's role on this node changed. Proposals of an earlier term that are not
    /// resolved are reported lost right after this call.
    fn on_role(&mut self, change: RoleChange);

    /// The log holds `bytes` above `durable_applied_index`, more than wanted: make the
    /// state durable soon. Called at most once per cut interval.
    fn on_log_pressure(&mut self, bytes: u64) {
        let _ = bytes;
    }
}

/// Carries messages to other nodes. Called on the loop thread; must not block, may drop.
pub trait Transport: Send {
    /// Sends `messages` of `group` to the replicas that they name.
    fn send(&mut self, group: u64, messages: Vec<Message>);
}

/// For nodes whose groups have one replica each: there is nobody to send to.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTransport;

impl Transport for NoTransport {
    fn send(&mut self, _group: u64, _messages: Vec<Message>) {}
}

/// What ended the process's writing.
#[derive(Debug, thiserror::Error)]
pub enum RaftFailure {
    /// The log could not be written, synced or read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A state machine could not apply.
    #[error("group {group}: {source}")]
    Apply {
        /// The group.
        group: u64,
        /// Why.
        source: ApplyError,
    },
    /// A thread of the replication layer panicked (a broken invariant, or a failed sync
    /// inside the log engine).
    #[error("the {thread} thread panicked: {message}")]
    Panic {
        /// Which.
        thread: &'static str,
        /// What it said.
        message: String,
    },
}

/// Told once that replication has stopped for good. Usually ends the process.
pub type FatalHandler = Arc<dyn Fn(&RaftFailure) + Send + Sync>;

/// Parameters of a node's replication layer.
#[derive(Debug, Clone)]
pub struct MultiRaftConfig {
    /// When a write counts as durable.
    pub durability: Durability,
    /// Proposals of one group that may be queued or in flight.
    pub max_pending_proposals: usize,
    /// Bytes of proposals of all groups that may be queued or in flight.
    pub max_pending_bytes: usize,
    /// Cap of one entry's body, in bytes.
    pub max_entry_bytes: usize,
    /// Time between two looks at what can be cut from the logs.
    pub cut_every: Duration,
    /// A log is not cut for fewer entries than this.
    pub min_cut_entries: u64,
    /// Bytes of log above the durable state at which `on_log_pressure` is called.
    pub log_pressure_bytes: u64,
    /// How long `shutdown` waits for proposals that need other nodes.
    pub shutdown_wait: Duration,
    /// Parameters of every core; `group` and `replica` are set per group.
    pub core: CoreConfig,
}

impl Default for MultiRaftConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Always,
            max_pending_proposals: 4096,
            max_pending_bytes: 256 << 20,
            max_entry_bytes: 16 << 20,
            cut_every: Duration::from_secs(1),
            min_cut_entries: 256,
            log_pressure_bytes: 128 << 20,
            shutdown_wait: Duration::from_secs(2),
            core: CoreConfig::new(0, 0),
        }
    }
}

/// A proposal on its way through the core. Dropped without an outcome (a panic on the
/// way), it reports that the outcome is unknown.
pub(super) struct Ticket {
    local: Option<Box<dyn Any + Send>>,
    done: Option<ProposalDone>,
    bytes: usize,
}

impl Ticket {
    fn finish(mut self, outcome: ProposalOutcome) {
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(ProposalOutcome::LeadershipLost);
        }
    }
}

/// A group that is ready to be driven.
pub(super) struct NewGroup {
    pub(super) core: GroupCore<Ticket>,
    pub(super) machine: Box<dyn StateMachine>,
    pub(super) shared: Arc<GroupShared>,
}

/// The owner of the loop and upkeep threads. Dropping it shuts them down.
pub struct MultiRaft {
    handle: RaftHandle,
    threads: Vec<JoinHandle<()>>,
}

impl MultiRaft {
    /// Starts the threads, without groups.
    pub fn start(
        config: MultiRaftConfig,
        store: Arc<dyn RaftLogStore>,
        transport: Box<dyn Transport>,
        on_fatal: FatalHandler,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(NodeShared::new(store, on_fatal));
        let config = Arc::new(config);
        let driver = Driver::new(shared.clone(), config.clone(), transport);
        let loop_thread = guarded("raft-loop", shared.clone(), move || driver.run())?;
        let (durability, cut_every) = (config.durability, config.cut_every);
        let upkeep_shared = shared.clone();
        let upkeep_thread = guarded("raft-upkeep", shared.clone(), move || {
            upkeep::run(&upkeep_shared, durability, cut_every).map_err(RaftFailure::from)
        })?;
        Ok(Self {
            handle: RaftHandle { shared, config },
            threads: vec![loop_thread, upkeep_thread],
        })
    }

    /// A fatal handler that ends the process at once, to recover by replay.
    pub fn abort_on_failure() -> FatalHandler {
        Arc::new(|failure| {
            eprintln!("fatal: {failure}");
            std::process::abort();
        })
    }

    /// A handle for other threads.
    pub fn handle(&self) -> RaftHandle {
        self.handle.clone()
    }

    /// Finishes what is queued, syncs, and joins the threads. State machines are
    /// dropped when it returns.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.handle.shutdown();
        self.handle.shared.upkeep.lock().stop = true;
        self.handle.shared.upkeep_wake.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was caught and reported inside the thread.
            let _ = thread.join();
        }
    }
}

impl Drop for MultiRaft {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a thread whose error or panic stops replication for good.
fn guarded(
    name: &'static str,
    shared: Arc<NodeShared>,
    body: impl FnOnce() -> Result<(), RaftFailure> + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
                let message = panic_message(&*panic);
                let thread = name;
                Err(RaftFailure::Panic { thread, message })
            });
            if let Err(failure) = result {
                shared.fail(&failure);
            }
            if name == "raft-loop" {
                drop_queued(&shared);
                shared.set_stopped();
            }
        })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Ends proposals that never reached a core.
fn drop_queued(shared: &NodeShared) {
    shared.queue.close();
    let mut commands = Vec::new();
    shared.queue.take(&mut commands, None);
    for command in commands {
        if let Command::Propose(group, proposal) = command {
            release(shared, &group, proposal.data.len());
            (proposal.done)(ProposalOutcome::Dropped(Refusal::Stopped));
        }
    }
}

struct Group {
    core: GroupCore<Ticket>,
    machine: Box<dyn StateMachine>,
    shared: Arc<GroupShared>,
    /// In `Driver::touched`.
    touched: bool,
    /// Must be told the time; counted in `Driver::ticking`.
    ticks: bool,
    /// (last index, bytes appended by then), one per look at the cuts, oldest first.
    marks: VecDeque<(u64, u64)>,
}

/// The loop's own state.
struct Driver {
    shared: Arc<NodeShared>,
    config: Arc<MultiRaftConfig>,
    transport: Box<dyn Transport>,
    groups: Vec<Group>,
    slots: HashMap<u64, usize>,
    touched: Vec<usize>,
    /// Groups with `ticks`.
    ticking: usize,
    works: Vec<(usize, Work<Ticket>)>,
    batch: LogBatch,
    commands: Vec<Command>,
    /// Origin of the cores' clock.
    origin: Instant,
    next_tick: Instant,
    next_cut: Instant,
    /// Set by `Shutdown`: when to stop waiting for unresolved proposals.
    stop_by: Option<Instant>,
}

impl Driver {
    fn new(
        shared: Arc<NodeShared>,
        config: Arc<MultiRaftConfig>,
        transport: Box<dyn Transport>,
    ) -> Self {
        let now = Instant::now();
        Self {
            next_cut: now + config.cut_every,
            shared,
            config,
            transport,
            groups: Vec::new(),
            slots: HashMap::new(),
            touched: Vec::new(),
            ticking: 0,
            works: Vec::new(),
            batch: LogBatch::default(),
            commands: Vec::new(),
            origin: now,
            next_tick: now,
            stop_by: None,
        }
    }

    fn run(mut self) -> Result<(), RaftFailure> {
        let result = catch_unwind(AssertUnwindSafe(|| self.drive()));
        self.abandon();
        match result {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn drive(&mut self) -> Result<(), RaftFailure> {
        loop {
            let deadline = self.deadline();
            let mut commands = std::mem::take(&mut self.commands);
            self.shared.queue.take(&mut commands, deadline);
            if self.shared.has_failed() {
                self.commands = commands;
                return Ok(());
            }
            for command in commands.drain(..) {
                self.take_command(command);
            }
            self.commands = commands;
            let now = Instant::now();
            self.tick(now);
            self.settle()?;
            self.look_at_cuts(now);
            if self.may_stop() {
                return self.last_write();
            }
        }
    }

    /// When the loop must wake up though nothing is queued.
    fn deadline(&self) -> Option<Instant> {
        let mut deadline = self.next_cut;
        if self.ticking > 0 {
            deadline = deadline.min(self.next_tick);
        }
        Some(self.stop_by.map_or(deadline, |stop| deadline.min(stop)))
    }

    fn take_command(&mut self, command: Command) {
        match command {
            Command::Propose(group, proposal) => self.propose(&group, proposal),
            Command::Message(group, message) => {
                if let Some(&slot) = self.slots.get(&group) {
                    self.groups[slot].core.step(*message);
                    self.touch(slot);
                }
            }
            Command::AddGroup(new) => self.add(*new),
            Command::Transfer(group, replica) => {
                if let Some(&slot) = self.slots.get(&group) {
                    self.groups[slot].core.transfer_leader(replica);
                    self.touch(slot);
                }
            }
            Command::Shutdown => {
                self.shared.queue.close();
                let stop_by = Instant::now() + self.config.shutdown_wait;
                self.stop_by.get_or_insert(stop_by);
            }
        }
    }

    fn add(&mut self, new: NewGroup) {
        let slot = self.groups.len();
        self.ticking += 1;
        self.slots.insert(new.shared.group, slot);
        self.groups.push(Group {
            core: new.core,
            machine: new.machine,
            shared: new.shared,
            touched: false,
            ticks: true,
            marks: VecDeque::new(),
        });
        self.touch(slot);
    }

    fn propose(&mut self, shared: &GroupShared, proposal: Proposal) {
        let bytes = proposal.data.len();
        let Some(&slot) = self.slots.get(&shared.group) else {
            // The group is being added: it is known to handles, but not here yet.
            release(&self.shared, shared, bytes);
            let refusal = Refusal::NotLeader { leader: None };
            (proposal.done)(ProposalOutcome::Dropped(refusal));
            return;
        };
        let result = self.groups[slot].core.propose(Propose {
            term: proposal.term,
            lineage: proposal.lineage,
            data: proposal.data,
            token: Ticket {
                local: proposal.local,
                done: Some(proposal.done),
                bytes,
            },
        });
        match result {
            Ok(_) => self.touch(slot),
            Err((refusal, ticket)) => {
                release(&self.shared, shared, bytes);
                ticket.finish(ProposalOutcome::Dropped(refusal));
            }
        }
    }

    fn touch(&mut self, slot: usize) {
        if !std::mem::replace(&mut self.groups[slot].touched, true) {
            self.touched.push(slot);
        }
    }

    fn tick(&mut self, now: Instant) {
        if now < self.next_tick || self.ticking == 0 {
            return;
        }
        self.next_tick = now + self.config.core.tick;
        for slot in 0..self.groups.len() {
            if self.groups[slot].ticks {
                self.groups[slot].core.tick(now - self.origin);
                self.touch(slot);
            }
        }
    }

    /// Rounds of gather, write, apply until no core has work.
    fn settle(&mut self) -> Result<(), RaftFailure> {
        while !self.touched.is_empty() {
            self.gather();
            self.write()?;
            let mut works = std::mem::take(&mut self.works);
            for (slot, work) in works.drain(..) {
                self.finish(slot, work)?;
                self.touch(slot);
            }
            self.works = works;
        }
        Ok(())
    }

    fn gather(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            let group = &mut self.groups[slot];
            group.touched = false;
            let Some(mut work) = group.core.take_work() else {
                continue;
            };
            if !work.messages.is_empty() {
                let messages = std::mem::take(&mut work.messages);
                self.transport.send(group.shared.group, messages);
            }
            if work.must_write {
                let bytes: u64 = work.entries.iter().map(entry_bytes).sum();
                group
                    .shared
                    .appended_bytes
                    .fetch_add(bytes, Ordering::Relaxed);
                let write = GroupWrite {
                    entries: std::mem::take(&mut work.entries),
                    hard_state: work.hard_state.take(),
                    conf_state: work.conf_state.take(),
                    cut: None,
                };
                self.batch.push(group.shared.group, write);
            }
            self.works.push((slot, work));
        }
        self.touched = touched;
    }

    fn write(&mut self) -> Result<(), RaftFailure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let sync = self.config.durability == Durability::Always
            || self.works.iter().any(|(_, work)| work.must_sync);
        self.shared.store.write(&mut self.batch, sync)?;
        if !sync {
            self.shared.unsynced.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// What follows the write, for one group.
    fn finish(&mut self, slot: usize, work: Work<Ticket>) -> Result<(), RaftFailure> {
        let group = &mut self.groups[slot];
        group.core.persisted(work.number);
        if !work.after_persist.is_empty() {
            self.transport.send(group.shared.group, work.after_persist);
        }
        for fetch in work.fetches {
            let id = group.shared.group;
            let entries = self
                .shared
                .store
                .entries(id, fetch.from, fetch.to, fetch.max_bytes)?;
            group.core.fetched(fetch, entries);
        }
        apply(&self.shared, group, work.committed)?;
        if let Some(change) = work.role {
            tracing::info!(group = group.shared.group, ?change, "role");
            group.machine.on_role(change);
        }
        for ticket in work.lost {
            conclude(
                &self.shared,
                &group.shared,
                ticket,
                ProposalOutcome::LeadershipLost,
            );
        }
        let ticks = group.core.needs_ticks();
        self.ticking -= usize::from(std::mem::replace(&mut group.ticks, ticks));
        self.ticking += usize::from(ticks);
        let core = &group.core;
        group.shared.update(|status| {
            status.role = core.role();
            status.last_index = core.last_index();
            status.commit_index = core.commit_index();
            status.applied_index = core.applied_index();
        });
        Ok(())
    }

    fn look_at_cuts(&mut self, now: Instant) {
        if now < self.next_cut {
            return;
        }
        self.next_cut = now + self.config.cut_every;
        for group in &mut self.groups {
            let durable = group.machine.durable_applied_index();
            group.shared.update(|status| status.durable_index = durable);
            report_pressure(group, durable, &self.config);
            let wanted = durable.min(group.core.safe_cut());
            let upto = group.shared.claim_cut(wanted, self.config.min_cut_entries);
            if let Some(cut) = upto.and_then(|upto| group.core.cut_to(upto)) {
                let mut upkeep = self.shared.upkeep.lock();
                upkeep.cuts.insert(group.shared.group, cut);
            }
        }
    }

    fn may_stop(&self) -> bool {
        self.stop_by.is_some_and(|stop_by| {
            Instant::now() >= stop_by || self.groups.iter().all(|g| g.core.pending() == 0)
        })
    }

    /// Saves the commit indexes that were not worth a write, so that the next start can
    /// replay before it has elected anybody.
    fn last_write(&mut self) -> Result<(), RaftFailure> {
        for group in &mut self.groups {
            if let Some(hard_state) = group.core.take_lazy_hard_state() {
                let write = GroupWrite {
                    hard_state: Some(hard_state),
                    ..GroupWrite::default()
                };
                self.batch.push(group.shared.group, write);
            }
        }
        if !self.batch.is_empty() {
            self.shared.store.write(&mut self.batch, false)?;
        }
        Ok(self.shared.store.sync()?)
    }

    /// Ends everything that is unresolved, its fate unknown.
    fn abandon(&mut self) {
        for command in self.commands.drain(..) {
            if let Command::Propose(group, proposal) = command {
                release(&self.shared, &group, proposal.data.len());
                (proposal.done)(ProposalOutcome::Dropped(Refusal::Stopped));
            }
        }
        let works = std::mem::take(&mut self.works);
        for (slot, work) in works {
            let committed = work.committed.into_iter().filter_map(|c| c.token);
            for ticket in committed.chain(work.lost) {
                let group = &self.groups[slot].shared;
                conclude(&self.shared, group, ticket, ProposalOutcome::LeadershipLost);
            }
        }
        for group in &mut self.groups {
            for ticket in group.core.abandon() {
                conclude(
                    &self.shared,
                    &group.shared,
                    ticket,
                    ProposalOutcome::LeadershipLost,
                );
            }
        }
    }
}

/// Applies committed entries, then releases their completions.
fn apply(
    shared: &NodeShared,
    group: &mut Group,
    committed: Vec<Committed<Ticket>>,
) -> Result<(), RaftFailure> {
    let Some(last) = committed.last().map(|c| c.index) else {
        return Ok(());
    };
    let mut batch = Vec::with_capacity(committed.len());
    let mut tickets = Vec::new();
    for entry in committed {
        let mut token = entry.token;
        batch.push(CommittedEntry {
            index: entry.index,
            term: entry.term,
            data: entry.data,
            local: token.as_mut().and_then(|ticket| ticket.local.take()),
        });
        tickets.extend(token.map(|ticket| (entry.index, entry.term, ticket)));
    }
    if let Err(source) = group.machine.apply(&mut batch) {
        for (_, _, ticket) in tickets {
            conclude(
                shared,
                &group.shared,
                ticket,
                ProposalOutcome::LeadershipLost,
            );
        }
        let group = group.shared.group;
        return Err(RaftFailure::Apply { group, source });
    }
    group.core.applied(last);
    group.shared.applied.store(last, Ordering::Release);
    for (index, term, ticket) in tickets {
        let outcome = ProposalOutcome::Committed { index, term };
        conclude(shared, &group.shared, ticket, outcome);
    }
    Ok(())
}

fn conclude(shared: &NodeShared, group: &GroupShared, ticket: Ticket, outcome: ProposalOutcome) {
    release(shared, group, ticket.bytes);
    ticket.finish(outcome);
}

/// Asks the state machine to become durable if the log above its durable index is long,
/// or if the store says that this group keeps old files in place.
fn report_pressure(group: &mut Group, durable: u64, config: &MultiRaftConfig) {
    let total = group.shared.appended_bytes.load(Ordering::Relaxed);
    while group.marks.len() > 1 && group.marks[1].0 <= durable {
        group.marks.pop_front();
    }
    let reached = group.marks.front().filter(|mark| mark.0 <= durable);
    let bytes = total - reached.map_or(0, |mark| mark.1);
    if group
        .marks
        .back()
        .is_none_or(|mark| mark.0 < group.core.last_index())
    {
        group.marks.push_back((group.core.last_index(), total));
    }
    let pinned = group.shared.pins_files.swap(false, Ordering::Relaxed);
    let behind = durable < group.core.applied_index();
    if behind && (pinned || bytes > config.log_pressure_bytes) {
        group.machine.on_log_pressure(bytes);
    }
}
