//! The world: queue, network, clients, operator, faults, and the checks.

use super::Rng;
use super::clients::Books;
use super::etcd::{Etcd, PlanRecord, unanswered};
use super::group::Group;
use super::model::Rows;
use crate::migration::{
    Control, Decision, DestAction, DestDriver, DestEvent, DestStatus, DriverConfig, EtcdAnswer,
    FailReason, GroupId, Known, Limits, MigrationEntry, Notice, Outcome, PlanId, PlanSpec, Refused,
    SlotRanges, SourceAction, SourceDriver, SourceEvent, StateChange, ToDest, Verdict,
};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Slots of the model world; all begin in group 1.
pub(super) const SLOTS: u16 = 16;
/// Index of a group's deposed leader, above that of the group.
const DEPOSED: usize = 2;
/// No run takes longer than this after its last fault, in ms.
const LIVENESS_MS: u64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Actor {
    Source,
    Dest,
    Etcd,
    Admin,
    /// The link between the groups.
    Link,
    /// A leader loses its term and does not know it: a new leader works
    /// while the old one goes on talking to everybody but its group.
    SourceTerm,
    DestTerm,
}

pub(super) const ACTORS: [Actor; 7] = [
    Actor::SourceTerm,
    Actor::DestTerm,
    Actor::Source,
    Actor::Dest,
    Actor::Etcd,
    Actor::Admin,
    Actor::Link,
];

/// `actor` stops after the `edge`-th event and comes back later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) edge: u64,
    pub(super) actor: Actor,
    pub(super) down_ms: u64,
}

/// What the operator does, in order.
#[derive(Debug, Clone)]
pub(super) enum Order {
    Write(PlanSpec),
    Control(PlanId, Control),
    /// Wait until the plan is over.
    Await(PlanId),
    Wait(u64),
}

/// What is spoiled on purpose, so that it is seen who notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// A record of the import, once it has one: the digest of its chunk differs.
    Import,
    /// A record of the import in READY, behind all digests: only this world can tell.
    ReadyImport,
    /// The log is cut whatever plans need of it.
    Log,
    /// The source's word of an abort is lost for the first second, or until a destination
    /// has refused slots.
    LateAbort,
}

#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) seed: u64,
    pub(super) faults: Vec<Fault>,
    /// Losses, repeats and long delays of messages, in percent.
    pub(super) noise: u64,
    pub(super) orders: Vec<Order>,
    pub(super) clients: u64,
    pub(super) harm: Option<Harm>,
}

enum Event {
    Client,
    Compact(usize),
    Admin,
    Repair(Actor),
    Watch(usize),
    Propose(usize, u64, Side, MigrationEntry),
    SourceDriver(usize, u64, PlanId, SourceEvent),
    DestDriver(usize, u64, PlanId, DestEvent),
    SourceTimer(usize, u64, PlanId, u64),
    DestTimer(usize, u64, PlanId, u64),
    Export(usize, u64, PlanId, u64, u32),
    /// Attempt, first and last slot.
    Digest(usize, u64, PlanId, u64, u16, u16),
    Read(usize, u64, PlanId, u64, Option<u64>, u64),
    Etcd(usize, u64, PlanId, Side, SourceAction),
    ToDest(usize, Bytes),
    ToSource(usize, Bytes),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Dest,
}

/// How a run ended.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) edges: u64,
    pub(super) outcomes: BTreeMap<u64, Decision>,
    pub(super) pauses: Vec<u64>,
    /// When each plan's slots were released.
    pub(super) released: BTreeMap<u64, u64>,
    pub(super) writes: u64,
    /// How many of the writes were there before anything moved.
    pub(super) loaded: u64,
    pub(super) failures: Vec<String>,
    /// How often a destination was refused the slots of a plan.
    pub(super) refused_slots: u64,
}

pub(super) struct World {
    script: Script,
    pub(super) rng: Rng,
    pub(super) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    edges: u64,
    last_fault: u64,
    /// Two groups, and what the deposed leaders of each believe.
    pub(super) groups: [Group; 4],
    pub(super) etcd: Etcd,
    admin_down: bool,
    link_down: bool,
    next_order: usize,
    /// What the groups must hold, after all that was executed.
    pub(super) truth: Rows,
    pub(super) books: Books,
    epochs: BTreeMap<u16, u32>,
    /// Back-pressure that source drivers asked for.
    pub(super) pressure: BTreeMap<(usize, PlanId), u8>,
    timers: BTreeMap<(usize, PlanId, bool), u64>,
    /// When drivers asked for proofs of etcd, by the number of their requests.
    proofs_asked: BTreeMap<(usize, u64, PlanId, u64), u64>,
    /// When the newest proof was asked for that a driver has heard of.
    proofs: BTreeMap<(usize, PlanId), u64>,
    spoiled: bool,
    pub(super) report: Report,
}

fn config() -> DriverConfig {
    DriverConfig {
        chunk_bytes: 2_500,
        part_window: 2,
        increment_bytes: 1_500,
        increment_window: 3,
        switch_lag_bytes: 1_200,
        proposed_bytes: 6_000,
        retry_ms: 100,
        switch_retry_ms: 20,
        reading_ms: 1_000,
        etcd_timeout_ms: 60,
        etcd_retry_ms: 20,
        proof_valid_ms: 100,
        slots_taken_ms: 2_000,
        idle_read_ms: 3,
        checkpoint_ms: 40,
        slow_step_ms: 50,
        progress_ms: 100,
        decision_poll_ms: 30,
        import_poll_ms: 150,
    }
}

/// etcd's answer in the words of a destination.
fn to_dest(answer: &SourceEvent) -> DestEvent {
    match answer {
        SourceEvent::Etcd { answer, .. } => match answer {
            EtcdAnswer::Decided { decision, .. } => DestEvent::Decided(*decision),
            EtcdAnswer::NoDecision => DestEvent::NoDecision,
            _ => DestEvent::EtcdUnavailable,
        },
        other => panic!("not for a destination: {other:?}"),
    }
}

/// A plan for the slots `first..=last`.
pub(super) fn plan(id: u64, from: u32, to: u32, run: (u16, u16)) -> PlanSpec {
    PlanSpec {
        plan: PlanId(id),
        from: GroupId(from),
        to: GroupId(to),
        slots: SlotRanges::from_run(run.0, run.1).unwrap(),
        limits: Limits {
            max_rate: 0,
            max_pause_ms: 200,
            log_limit: 0,
            catch_up_ms: 20_000,
        },
    }
}

impl World {
    /// Runs the script to its end and reports, or panics at a broken promise.
    pub(super) fn run(script: Script) -> Report {
        let mut world = Self {
            rng: Rng::new(script.seed),
            script,
            now: 1_000,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            edges: 0,
            last_fault: 0,
            groups: [1, 2, 1, 2].map(|id| Group::new(GroupId(id))),
            etcd: Etcd::new(),
            admin_down: false,
            link_down: false,
            next_order: 0,
            truth: Rows::new(),
            books: Books::default(),
            epochs: BTreeMap::new(),
            pressure: BTreeMap::new(),
            timers: BTreeMap::new(),
            proofs_asked: BTreeMap::new(),
            proofs: BTreeMap::new(),
            spoiled: false,
            report: Report::default(),
        };
        for group in &mut world.groups {
            group.forgets_log = world.script.harm == Some(Harm::Log);
        }
        world.groups[DEPOSED].down = true;
        world.groups[1 + DEPOSED].down = true;
        world.begin();
        while !world.is_over() {
            world.turn();
        }
        world.check_end();
        world.report.edges = world.edges;
        world.report
    }

    fn begin(&mut self) {
        let all = SlotRanges::from_run(0, SLOTS - 1).unwrap();
        let assign = MigrationEntry::Assign {
            slots: all,
            epoch: 1,
        };
        self.groups[0].step(self.now, &assign).unwrap();
        for _ in 0..120 {
            self.client();
        }
        self.report.loaded = self.report.writes;
        for client in 0..self.script.clients {
            self.after(client, Event::Client);
        }
        self.after(1, Event::Admin);
        self.after(2, Event::Watch(0));
        self.after(2, Event::Watch(1));
        self.after(3, Event::Compact(0));
        self.after(4, Event::Compact(1));
    }

    pub(super) fn noise(&self) -> u64 {
        self.script.noise
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.queue
            .push(Reverse((self.now + delay, self.next_event)));
        self.events.insert(self.next_event, event);
        self.next_event += 1;
    }

    fn turn(&mut self) {
        let Reverse((time, number)) = self.queue.pop().expect("watches never end");
        self.now = self.now.max(time);
        let event = self.events.remove(&number).unwrap();
        let idle = matches!(
            event,
            Event::Client | Event::Compact(_) | Event::Repair(_) | Event::Watch(_)
        );
        if !idle {
            self.edges += 1;
            self.fault();
        }
        self.handle(event);
        self.check_now();
        assert!(
            self.now < self.last_fault + LIVENESS_MS,
            "the plan does not end: {}",
            self.describe()
        );
    }

    /// Who still has what to do.
    fn describe(&self) -> String {
        let records = self.etcd.plans.iter();
        let records: Vec<_> = records
            .map(|(plan, record)| (plan, self.etcd.decision(*plan), &record.progress))
            .collect();
        let drivers = self.groups.iter();
        let drivers: Vec<_> = drivers
            .map(|group| {
                let sources: Vec<_> = group.sources.keys().collect();
                (group.down, sources, group.dests.keys().collect::<Vec<_>>())
            })
            .collect();
        format!("{records:?}; drivers {drivers:?}")
    }

    fn is_over(&self) -> bool {
        let driven = |group: &Group| group.sources.is_empty() && group.dests.is_empty();
        self.next_order == self.script.orders.len()
            && !self.anything_down()
            && self.etcd.plans.values().all(PlanRecord::is_over)
            && self.groups[..2].iter().all(driven)
    }

    fn anything_down(&self) -> bool {
        let groups = (0..2).any(|at| self.groups[at].down || !self.groups[at + DEPOSED].down);
        groups || self.etcd.down || self.admin_down || self.link_down
    }

    fn fault(&mut self) {
        let due = |fault: &Fault| fault.edge == self.edges;
        let faults: Vec<Fault> = self.script.faults.iter().copied().filter(due).collect();
        for fault in faults {
            match fault.actor {
                Actor::Source => self.groups[0].crash(),
                Actor::Dest => self.groups[1].crash(),
                Actor::Etcd => self.etcd.down = true,
                Actor::Admin => self.admin_down = true,
                Actor::Link => self.link_down = true,
                Actor::SourceTerm => self.depose(0),
                Actor::DestTerm => self.depose(1),
            }
            self.last_fault = self.last_fault.max(self.now + fault.down_ms);
            self.after(fault.down_ms, Event::Repair(fault.actor));
        }
    }

    fn repair(&mut self, actor: Actor) {
        match actor {
            Actor::Source => self.boot(0),
            Actor::Dest => self.boot(1),
            Actor::Etcd => self.etcd.down = false,
            Actor::Admin => self.admin_down = false,
            Actor::Link => self.link_down = false,
            Actor::SourceTerm => self.groups[DEPOSED].crash(),
            Actor::DestTerm => self.groups[1 + DEPOSED].crash(),
        }
    }

    /// The drivers live on over a copy of what the leader had applied.
    fn depose(&mut self, at: usize) {
        let old = at + DEPOSED;
        if self.groups[at].down || !self.groups[old].down {
            return;
        }
        let run = self.groups[old].run + 1;
        self.groups[old] = self.groups[at].deposed(run);
        let sources: Vec<PlanId> = self.groups[old].sources.keys().copied().collect();
        let dests: Vec<PlanId> = self.groups[old].dests.keys().copied().collect();
        self.groups[at].crash();
        self.boot(at);
        for plan in sources {
            self.source_event(old, plan, SourceEvent::Timer);
        }
        for plan in dests {
            self.dest_event(old, plan, DestEvent::Timer);
        }
    }

    fn boot(&mut self, at: usize) {
        if !self.groups[at].down {
            return;
        }
        self.groups[at].restart();
        self.pressure.retain(|(group, _), _| *group != at);
        self.proofs.retain(|(group, _), _| *group != at);
        let (sources, dests) = self.groups[at].state.active_plans();
        for spec in sources {
            self.start_source(at, &spec);
        }
        for spec in dests {
            self.start_dest(at, spec.plan);
        }
    }

    /// Each process has its own monotonic clock, and each run another one;
    /// a deposed leader still has that of its group's last run.
    fn mono(&self, at: usize) -> u64 {
        let group = &self.groups[at];
        let run = if at < DEPOSED {
            group.run
        } else {
            group.old_run
        };
        self.now + 100_000 * (at as u64 % 2 + 1) - 1_000 * (run % 50)
    }

    fn start_source(&mut self, at: usize, spec: &PlanSpec) {
        if self.groups[at].sources.contains_key(&spec.plan) {
            return;
        }
        let (now, seed, term) = (self.mono(at), self.rng.next(), self.groups[at].run);
        let driver = SourceDriver::new(spec.clone(), config(), term, seed, now);
        self.groups[at].sources.insert(spec.plan, driver);
        let view = self.groups[at]
            .state
            .source_view(spec.plan, self.groups[at].at());
        self.source_event(at, spec.plan, SourceEvent::Replicated(view));
    }

    fn start_dest(&mut self, at: usize, plan: PlanId) {
        let driver = DestDriver::new(plan, config(), self.mono(at));
        self.groups[at].dests.insert(plan, driver);
        let view = self.groups[at].state.dest_view(plan, self.groups[at].at());
        self.dest_event(at, plan, DestEvent::Replicated(view));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Client => {
                let delay = 1 + self.rng.below(6);
                self.after(delay, Event::Client);
                self.client();
            }
            Event::Compact(at) => self.compact(at),
            Event::Admin => self.admin(),
            Event::Repair(actor) => self.repair(actor),
            Event::Watch(at) => self.watch(at),
            Event::ToDest(at, bytes) => self.arrive_at_dest(at, bytes),
            Event::ToSource(at, bytes) => self.arrive_at_source(at, bytes),
            Event::Etcd(at, run, plan, side, action) => self.etcd(at, run, plan, side, &action),
            local => self.handle_local(local),
        }
    }

    /// Events inside a process: gone when it was restarted meanwhile.
    fn handle_local(&mut self, event: Event) {
        match event {
            Event::Propose(at, run, side, entry) if self.runs(at, run) => {
                self.propose(at, side, &entry);
            }
            Event::SourceDriver(at, run, plan, event) if self.runs(at, run) => {
                self.source_event(at, plan, event);
            }
            Event::DestDriver(at, run, plan, event) if self.runs(at, run) => {
                self.dest_event(at, plan, event);
            }
            Event::Digest(at, run, plan, attempt, first, last) if self.runs(at, run) => {
                let (rows, digest) = self.groups[at].digest_staged(plan, first, last);
                let staged = DestEvent::Staged {
                    attempt,
                    rows,
                    digest,
                };
                self.dest_event(at, plan, staged);
            }
            Event::SourceTimer(at, run, plan, number)
                if self.runs(at, run) && self.is_set(at, plan, true, number) =>
            {
                self.source_event(at, plan, SourceEvent::Timer);
            }
            Event::DestTimer(at, run, plan, number)
                if self.runs(at, run) && self.is_set(at, plan, false, number) =>
            {
                self.dest_event(at, plan, DestEvent::Timer);
            }
            Event::Export(at, run, plan, attempt, part) if self.runs(at, run) => {
                if let Some(event) = self.groups[at].export_part(plan, attempt, part) {
                    self.source_event(at, plan, event);
                }
            }
            Event::Read(at, run, plan, after, until, max) if self.runs(at, run) => {
                if let Some(event) = self.groups[at].read_increments(plan, after, until, max) {
                    self.source_event(at, plan, event);
                }
            }
            _ => {}
        }
    }

    /// Whether this is the driver's current timer.
    fn is_set(&self, at: usize, plan: PlanId, source: bool, number: u64) -> bool {
        self.timers.get(&(at, plan, source)) == Some(&number)
    }

    fn runs(&self, at: usize, run: u64) -> bool {
        !self.groups[at].down && self.groups[at].run == run
    }

    // Drivers and their actions.

    fn source_event(&mut self, at: usize, plan: PlanId, event: SourceEvent) {
        let now = self.mono(at);
        self.note_proof(at, plan, &event);
        let Some(driver) = self.groups[at].sources.get_mut(&plan) else {
            return;
        };
        let mut actions = Vec::new();
        driver.step(now, event, &mut actions);
        for action in actions {
            self.source_action(at, plan, action);
        }
    }

    fn source_action(&mut self, at: usize, plan: PlanId, action: SourceAction) {
        let (run, delay) = (self.groups[at].run, 1 + self.rng.below(3));
        match action {
            SourceAction::Propose(entry) => {
                self.check_proposal(at, plan, &entry);
                self.after(delay, Event::Propose(at, run, Side::Source, entry));
            }
            SourceAction::StartExport {
                attempt,
                first,
                target_bytes,
            } => self.groups[at].start_export(plan, attempt, first, target_bytes),
            SourceAction::ExportPart { attempt, part } => {
                self.after(2, Event::Export(at, run, plan, attempt, part));
            }
            SourceAction::StopExport { .. } => {
                self.groups[at].exports.remove(&plan);
            }
            SourceAction::ReadIncrements {
                after,
                until,
                max_bytes,
            } => self.after(delay, Event::Read(at, run, plan, after, until, max_bytes)),
            SourceAction::Send(ToDest::Abort { .. }) if self.loses_abort() => {}
            SourceAction::Send(message) => {
                let bytes = message.encode();
                self.send(|bytes| Event::ToDest(1 - at % 2, bytes), &bytes);
            }
            SourceAction::Prove { .. }
            | SourceAction::ReadDecision { .. }
            | SourceAction::Decide { .. }
            | SourceAction::WriteProgress(_) => {
                if let SourceAction::Prove { ask } = action {
                    self.proofs_asked.insert((at, run, plan, ask), self.now);
                }
                let delay = self.etcd_delay();
                self.after(delay, Event::Etcd(at, run, plan, Side::Source, action));
            }
            SourceAction::SlowWrites(level) => {
                self.pressure.insert((at, plan), level);
            }
            SourceAction::SetTimer(time) => {
                let (number, wait) = (self.next_event, time.saturating_sub(self.mono(at)));
                self.timers.insert((at, plan, true), number);
                self.after(wait, Event::SourceTimer(at, run, plan, number));
            }
            SourceAction::Notice(notice) => self.notice(at, notice),
            SourceAction::Done => {
                self.groups[at].sources.remove(&plan);
            }
        }
    }

    fn dest_event(&mut self, at: usize, plan: PlanId, event: DestEvent) {
        let now = self.mono(at);
        let Some(driver) = self.groups[at].dests.get_mut(&plan) else {
            return;
        };
        let mut actions = Vec::new();
        driver.step(now, event, &mut actions);
        for action in actions {
            self.dest_action(at, plan, action);
        }
    }

    fn dest_action(&mut self, at: usize, plan: PlanId, action: DestAction) {
        let (run, delay) = (self.groups[at].run, 1 + self.rng.below(3));
        match action {
            DestAction::Propose(entry) => {
                self.after(delay, Event::Propose(at, run, Side::Dest, entry));
            }
            DestAction::Reply(status) => {
                let bytes = status.encode();
                self.send(|bytes| Event::ToSource(1 - at % 2, bytes), &bytes);
            }
            DestAction::DigestStaged {
                attempt,
                first,
                last,
            } => {
                // On a busy machine it takes longer than any retry.
                let slow = self.rng.chance(self.script.noise);
                let delay = 1 + self.rng.below(if slow { 400 } else { 3 });
                let digest = Event::Digest(at, run, plan, attempt, first, last);
                self.after(delay, digest);
            }
            DestAction::ReadDecision => {
                let delay = self.etcd_delay();
                let read = SourceAction::ReadDecision { ask: 0 };
                self.after(delay, Event::Etcd(at, run, plan, Side::Dest, read));
            }
            DestAction::SetTimer(time) => {
                let (number, wait) = (self.next_event, time.saturating_sub(self.mono(at)));
                self.timers.insert((at, plan, false), number);
                self.after(wait, Event::DestTimer(at, run, plan, number));
            }
            DestAction::Notice(notice) => self.notice(at, notice),
            DestAction::Done => {
                self.groups[at].dests.remove(&plan);
            }
        }
    }

    /// Some notices would mean a bug, unless something was spoiled on purpose
    /// or a deposed leader believes it.
    fn notice(&mut self, at: usize, notice: Notice) {
        let harm = self.script.harm;
        let bug = match &notice {
            Notice::Broken(_) => true,
            Notice::Failing(FailReason::LogMissing) => at < DEPOSED && harm != Some(Harm::Log),
            Notice::Failing(FailReason::StreamMismatch) => at < DEPOSED,
            Notice::Failing(FailReason::DigestMismatch) => {
                at < DEPOSED && harm != Some(Harm::Import)
            }
            _ => false,
        };
        assert!(!bug, "{notice:?} at {at}");
        self.report.failures.push(format!("{notice:?}"));
    }

    fn propose(&mut self, at: usize, side: Side, entry: &MigrationEntry) {
        let plan = entry.plan().unwrap();
        if at >= DEPOSED {
            return;
        }
        let (run, bytes) = (self.groups[at].run, entry.bulk_bytes());
        let concluded = match side {
            Side::Source => Event::SourceDriver(at, run, plan, SourceEvent::Concluded),
            Side::Dest => Event::DestDriver(at, run, plan, DestEvent::Concluded { bytes }),
        };
        self.after(1, concluded);
        if self.rng.chance(self.script.noise) {
            return match side {
                Side::Source => self.source_event(at, plan, SourceEvent::Dropped),
                Side::Dest => self.dest_event(at, plan, DestEvent::Dropped),
            };
        }
        let run = self.groups[at].run;
        match self.groups[at].step(self.now, entry) {
            Ok(applied) => {
                self.applied(at, plan, &applied.change);
                let (state, context) = (&self.groups[at].state, self.groups[at].at());
                let event = match side {
                    Side::Source => {
                        let view = state.source_view(plan, context);
                        Event::SourceDriver(at, run, plan, SourceEvent::Replicated(view))
                    }
                    Side::Dest => {
                        let view = state.dest_view(plan, context);
                        Event::DestDriver(at, run, plan, DestEvent::Replicated(view))
                    }
                };
                self.after(0, event);
            }
            Err(reason) => match side {
                Side::Source => self.source_event(at, plan, SourceEvent::Refused(reason)),
                Side::Dest => {
                    let taken = reason == Refused::SlotsTaken;
                    self.report.refused_slots += u64::from(taken);
                    self.dest_event(at, plan, DestEvent::Refused(reason));
                }
            },
        }
    }

    /// What must be true of every change of ownership.
    fn applied(&mut self, at: usize, plan: PlanId, change: &StateChange) {
        match change {
            StateChange::Owned { spec, epoch } => {
                assert_eq!(self.etcd.decision(spec.plan), Some(Decision::Commit));
                for slot in spec.slots.iter() {
                    let before = self.epochs.insert(slot, *epoch).unwrap_or(1);
                    assert!(*epoch > before, "slot {slot}: epoch {before} then {epoch}");
                }
                self.check_data(at, |slot| spec.slots.contains(slot), "owned");
            }
            StateChange::Unfrozen { spec } => {
                assert_eq!(self.etcd.decision(spec.plan), Some(Decision::Abort));
                self.check_data(at, |slot| spec.slots.contains(slot), "unfrozen");
            }
            StateChange::Released { spec } => {
                let dest = &self.groups[1 - at].state;
                let over = dest.dest_view(spec.plan, self.groups[1 - at].at()).plan;
                assert!(matches!(over, Known::Over(Outcome::Owned { .. })));
                self.report.released.insert(plan.0, self.now);
            }
            StateChange::ImportRows { .. } => self.spoil(at, plan, Harm::Import),
            // READY.
            StateChange::LogTimeFloor { .. } => self.spoil(at, plan, Harm::ReadyImport),
            _ => {}
        }
    }

    /// Spoils an import once, if the script wants it at this point.
    fn spoil(&mut self, at: usize, plan: PlanId, harm: Harm) {
        if self.script.harm == Some(harm) && !self.spoiled {
            self.spoiled = self.groups[at].spoil_import(plan);
        }
    }

    fn loses_abort(&self) -> bool {
        let late = self.script.harm == Some(Harm::LateAbort);
        late && self.report.refused_slots == 0 && self.now < 2_000
    }

    /// Now and then a compaction of some slots.
    fn compact(&mut self, at: usize) {
        let delay = 20 + self.rng.below(60);
        self.after(delay, Event::Compact(at));
        if !self.groups[at].down {
            let picks = self.rng.next();
            self.groups[at].compact(|slot| picks >> slot & 1 == 1);
        }
    }

    // Network and etcd.

    fn send(&mut self, event: impl Fn(Bytes) -> Event, bytes: &Bytes) {
        let noise = self.script.noise;
        let copies = 1 + u64::from(self.rng.chance(noise));
        for _ in 0..copies {
            if self.link_down || self.rng.chance(noise) {
                continue;
            }
            let slow = self.rng.chance(noise);
            let delay = 1 + self.rng.below(if slow { 400 } else { 4 });
            self.after(delay, event(bytes.clone()));
        }
    }

    fn arrive_at_dest(&mut self, at: usize, bytes: Bytes) {
        let message = ToDest::decode(bytes).unwrap();
        let plan = message.plan();
        // The source may not know yet who leads the destination.
        if !self.groups[at + DEPOSED].down && self.rng.chance(40) {
            return self.serve_dest(at + DEPOSED, plan, message);
        }
        if self.groups[at].down {
            self.source_event(1 - at + DEPOSED, plan, SourceEvent::DestLost);
            return self.source_event(1 - at, plan, SourceEvent::DestLost);
        }
        self.serve_dest(at, plan, message);
    }

    fn serve_dest(&mut self, at: usize, plan: PlanId, message: ToDest) {
        if !self.groups[at].dests.contains_key(&plan) {
            self.start_dest(at, plan);
        }
        self.dest_event(at, plan, DestEvent::Source(message));
    }

    fn arrive_at_source(&mut self, at: usize, bytes: Bytes) {
        let status = DestStatus::decode(bytes).unwrap();
        for at in [at, at + DEPOSED] {
            if !self.groups[at].down {
                self.source_event(at, status.plan, SourceEvent::Dest(status));
            }
        }
    }

    fn etcd(&mut self, at: usize, run: u64, plan: PlanId, side: Side, action: &SourceAction) {
        let lost = self.rng.chance(self.script.noise);
        let before = self.etcd.decision(plan);
        let executed = match self.etcd.down || (lost && self.rng.chance(50)) {
            true => None,
            false => Some(self.etcd.execute(plan, action)),
        };
        if before.is_none() {
            self.check_decision(plan);
        }
        let answer = executed.filter(|_| !lost);
        let answer = answer.unwrap_or_else(|| unanswered(action));
        let delay = self.etcd_delay();
        self.after(
            delay,
            match side {
                Side::Source => Event::SourceDriver(at, run, plan, answer),
                Side::Dest => Event::DestDriver(at, run, plan, to_dest(&answer)),
            },
        );
    }

    /// One way to etcd; now and then longer than a driver waits.
    fn etcd_delay(&mut self) -> u64 {
        let slow = self.rng.chance(self.script.noise);
        1 + self.rng.below(if slow { 400 } else { 3 })
    }

    /// A driver learns of a proof, which is as old as its request.
    fn note_proof(&mut self, at: usize, plan: PlanId, event: &SourceEvent) {
        let &SourceEvent::Etcd {
            ask,
            answer: EtcdAnswer::Proved,
        } = event
        else {
            return;
        };
        let asked_at = self.proofs_asked[&(at, self.groups[at].run, plan, ask)];
        let newest = self.proofs.entry((at, plan)).or_default();
        *newest = asked_at.max(*newest);
    }

    /// FREEZE rests on a fresh proof, however late etcd's answers come.
    fn check_proposal(&self, at: usize, plan: PlanId, entry: &MigrationEntry) {
        if at < DEPOSED && matches!(entry, MigrationEntry::Freeze { .. }) {
            let proved_at = self.proofs[&(at, plan)];
            let valid_ms = config().proof_valid_ms;
            assert!(self.now < proved_at + valid_ms, "FREEZE on an old proof");
        }
    }

    /// "Commit" may exist only when both sides have done their part.
    fn check_decision(&self, plan: PlanId) {
        if self.etcd.decision(plan) != Some(Decision::Commit) {
            return;
        }
        let frozen = |group: &Group| group.state.source(plan).is_some_and(|p| p.frozen.is_some());
        let ready = |group: &Group| group.state.dest(plan).is_some_and(|p| p.ready.is_some());
        assert!(self.groups[..2].iter().any(frozen), "commit without FREEZE");
        assert!(self.groups[..2].iter().any(ready), "commit without READY");
    }

    /// A group's leader looks at the plans in etcd, again and again.
    fn watch(&mut self, at: usize) {
        let delay = 20 + self.rng.below(20);
        self.after(delay, Event::Watch(at));
        if self.groups[at].down || self.etcd.down {
            return;
        }
        let from = self.groups[at].id;
        let mine = self.etcd.plans.values();
        let mine = mine.filter(|record| record.spec.from == from && !record.is_over());
        let seen: Vec<(PlanSpec, Control)> = mine
            .map(|record| (record.spec.clone(), record.control))
            .collect();
        for (spec, control) in seen {
            self.start_source(at, &spec);
            let limits = spec.limits;
            self.source_event(at, spec.plan, SourceEvent::Plan { control, limits });
            let held = self.groups[at].log_held(spec.plan);
            if let Some(bytes) = held.filter(|_| limits.log_limit != 0) {
                self.source_event(at, spec.plan, SourceEvent::LogHeld { bytes });
            }
        }
    }

    // The operator.

    fn admin(&mut self) {
        let Some(order) = self.script.orders.get(self.next_order).cloned() else {
            return;
        };
        if self.admin_down || self.etcd.down {
            return self.after(10, Event::Admin);
        }
        let mut pause = 1;
        match order {
            Order::Write(spec) => {
                let record = PlanRecord {
                    spec: spec.clone(),
                    control: Control::Run,
                    progress: None,
                };
                self.etcd.plans.insert(spec.plan, record);
            }
            Order::Control(plan, control) => {
                self.etcd.plans.get_mut(&plan).unwrap().control = control;
            }
            Order::Await(plan) if !self.etcd.plans[&plan].is_over() => {
                return self.after(10, Event::Admin);
            }
            Order::Await(_) => {}
            Order::Wait(time) => pause = time,
        }
        self.next_order += 1;
        self.last_fault = self.last_fault.max(self.now);
        self.after(pause, Event::Admin);
    }

    pub(super) fn serves(&self, at: usize, slot: u16) -> bool {
        self.groups[at].state.can_serve(slot) == Verdict::Serve
    }

    // Checks.

    fn check_now(&self) {
        for slot in 0..SLOTS {
            let owners = (0..2).filter(|at| self.serves(*at, slot)).count();
            assert!(owners <= 1, "slot {slot} is served by both groups");
        }
    }

    fn check_end(&mut self) {
        for slot in 0..SLOTS {
            let (owner, epoch) = self.etcd.slot_map[&slot];
            let owner = owner.0 as usize - 1;
            assert!(self.serves(owner, slot), "slot {slot} is served by nobody");
            let word = self.groups[owner].state.ownership().word(slot);
            assert_eq!(word.epoch(), epoch, "the map's epoch of slot {slot}");
        }
        for at in 0..2 {
            self.check_data(at, |slot| self.serves(at, slot), "all is over");
            let strange = self.groups[at].live().keys();
            let strange: Vec<_> = strange.filter(|p| !self.serves(at, p.slot)).collect();
            assert!(strange.is_empty(), "{strange:?} in group {}", at + 1);
            self.check_garbage(at);
            assert_eq!(self.groups[at].imports(), 0, "an import was left");
            let (sources, dests) = self.groups[at].state.active_plans();
            assert!(sources.is_empty() && dests.is_empty(), "a plan was left");
        }
        self.check_books();
        for (plan, record) in &self.etcd.plans {
            let progress = record.progress.as_ref().unwrap();
            self.report.pauses.extend(progress.pause_ms);
            let decision = self.etcd.decision(*plan).unwrap();
            self.report.outcomes.insert(plan.0, decision);
        }
    }

    /// Nothing is left that the filter would not find.
    fn check_garbage(&mut self, at: usize) {
        for _ in 0..2 {
            self.groups[at].compact(|_| true);
        }
        let orphans = self.groups[at].orphans();
        assert!(orphans.is_empty(), "{orphans:?} in group {}", at + 1);
    }
}
