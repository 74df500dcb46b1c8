//! The source leader's part of a plan: it drives all three stages.
//!
//! Owned by the leader of the source group, one per active plan, and thrown
//! away with its leadership: everything in here is volatile. What it may do
//! follows from the replicated state, the destination's last answer and the
//! decision read from etcd, so each step may be repeated or lost.
//! Invariants:
//! - FREEZE is proposed only shortly after etcd answered a fresh transaction;
//! - "commit" is asked for only when the slots are frozen and the destination
//!   is ready, both replicated facts;
//! - nothing un-freezes or releases a slot but a decision that was read back.

use super::MigrationEntry;
use super::copy::ChunkCopy;
use super::events::{EtcdAnswer, Notice, SourceAction, SourceEvent};
use super::plan::{
    Control, Decision, DriverConfig, FailReason, FreezePoint, Limits, MonoMs, PlanSpec,
};
use super::plan_state::SourcePlan;
use super::pressure::Pressure;
use super::proposals::Proposals;
use super::pump::{LogRead, Pump, PumpWants};
use super::report::{Facts, Reporter};
use super::state::{Known, Outcome, Refused, SourceView};
use super::throttle::TokenBucket;
use super::wire::{DestPhase, DestStatus, ToDest};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

/// Wait after a proposal or message that was turned away at once.
const DROPPED_WAIT_MS: u64 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EtcdOp {
    Prove,
    Read,
    Decide(Decision),
}

/// The request to etcd that is awaited.
#[derive(Debug, Clone, Copy)]
struct EtcdFlight {
    ask: u64,
    op: EtcdOp,
    since: MonoMs,
}

/// The driver. See the module's header.
pub struct SourceDriver {
    spec: Arc<PlanSpec>,
    config: DriverConfig,
    limits: Limits,
    control: Control,
    term: u64,
    next_attempt: u64,

    view: Option<SourceView>,
    dest: Option<DestStatus>,
    dest_not_before: MonoMs,
    /// The kind of message asked last, and when.
    dest_asked: Option<(Discriminant<ToDest>, MonoMs)>,

    decision: Option<Decision>,
    /// Why, by the record, for "abort".
    decided_for: Option<FailReason>,
    decision_checked: bool,
    abort_for: Option<FailReason>,
    etcd: Option<EtcdFlight>,
    /// Number of the last request to etcd.
    last_ask: u64,
    etcd_not_before: MonoMs,
    proved_at: Option<MonoMs>,

    proposals: Proposals,
    copy: Option<ChunkCopy>,
    bucket: TokenBucket,
    pump: Option<Pump>,
    pump_not_before: MonoMs,
    log_missing_since: Option<MonoMs>,
    pressure: Pressure,
    checkpoint_at: MonoMs,

    frozen_at: Option<MonoMs>,
    said_etcd_gone: bool,
    said_behind: bool,
    pause_ms: Option<u64>,
    bytes_total: u64,
    reporter: Reporter,
    broken: bool,
    done: bool,
    wake: MonoMs,
}

impl SourceDriver {
    /// A driver for a leader in `term`. `seed` is a random number: it makes
    /// chunk attempts distinct from those of any other driver.
    pub fn new(spec: PlanSpec, config: DriverConfig, term: u64, seed: u64, now: MonoMs) -> Self {
        Self {
            limits: spec.limits,
            bucket: TokenBucket::new(spec.limits.max_rate, now),
            spec: Arc::new(spec),
            config,
            control: Control::Run,
            term,
            next_attempt: seed | 1,
            view: None,
            dest: None,
            dest_asked: None,
            dest_not_before: now,
            decision: None,
            decided_for: None,
            decision_checked: false,
            abort_for: None,
            etcd: None,
            last_ask: 0,
            etcd_not_before: now,
            proved_at: None,
            proposals: Proposals::default(),
            copy: None,
            pump: None,
            pump_not_before: now,
            log_missing_since: None,
            pressure: Pressure::default(),
            checkpoint_at: now,
            frozen_at: None,
            said_etcd_gone: false,
            said_behind: false,
            pause_ms: None,
            bytes_total: 0,
            reporter: Reporter::default(),
            broken: false,
            done: false,
            wake: now,
        }
    }

    /// Takes one event and says what to do about it.
    pub fn step(&mut self, now: MonoMs, event: SourceEvent, out: &mut Vec<SourceAction>) {
        if self.done || self.broken {
            return;
        }
        self.absorb(now, event, out);
        self.wake = now + self.config.retry_ms;
        self.advance(now, out);
        if let Some(level) = self.pressure.changed() {
            out.push(SourceAction::SlowWrites(level));
        }
        self.write_progress(now, out);
        if !self.done && !self.broken {
            out.push(SourceAction::SetTimer(self.wake.max(now + 1)));
        }
    }

    fn absorb(&mut self, now: MonoMs, event: SourceEvent, out: &mut Vec<SourceAction>) {
        match event {
            SourceEvent::Replicated(view) => self.replicated(view),
            SourceEvent::Plan { control, limits } => self.plan_changed(now, control, limits, out),
            SourceEvent::Refused(reason) => self.refused(reason, out),
            SourceEvent::Dropped => self.dropped(now),
            SourceEvent::Concluded => self.proposals.concluded(),
            SourceEvent::PartExported {
                attempt,
                part,
                rows,
                end,
            } => {
                let copy = self.copy.as_mut();
                if let Some(copy) = copy.filter(|copy| copy.attempt == attempt) {
                    copy.exported(part, rows, end);
                }
            }
            SourceEvent::ExportFailed { attempt } => {
                if self
                    .copy
                    .as_ref()
                    .is_some_and(|copy| copy.attempt == attempt)
                {
                    self.fail(FailReason::ExportFailed, out);
                }
            }
            SourceEvent::IncrementsRead {
                after,
                through,
                effects,
                behind_bytes,
            } => {
                let read = LogRead {
                    after,
                    through,
                    effects,
                    behind_bytes,
                };
                self.increments_read(now, read, out);
            }
            SourceEvent::LogMissing => self.log_missing(now, out),
            SourceEvent::LogHeld { bytes } => {
                if self.limits.log_limit != 0 && bytes > self.limits.log_limit {
                    self.fail(FailReason::LogLimit, out);
                }
            }
            SourceEvent::BytesTotal(bytes) => self.bytes_total = bytes,
            SourceEvent::Dest(status) => self.dest_answered(now, status),
            SourceEvent::DestLost => {
                self.dest = None;
                self.dest_not_before = now + DROPPED_WAIT_MS;
                // An export pins a snapshot and holds garbage: not for somebody
                // who may be away for long.
                self.stop_copy(out);
            }
            SourceEvent::ProgressWritten => self.reporter.written(),
            SourceEvent::ProgressLost => self.reporter.lost(),
            SourceEvent::Timer => {}
            SourceEvent::Etcd { ask, answer } => self.etcd_answered(now, ask, answer, out),
        }
    }

    fn replicated(&mut self, view: SourceView) {
        let before = self.view.as_ref().map(|view| &view.plan);
        if before != Some(&view.plan) {
            self.proposals.forget();
        }
        self.view = Some(view);
    }

    fn plan_changed(
        &mut self,
        now: MonoMs,
        control: Control,
        limits: Limits,
        out: &mut Vec<SourceAction>,
    ) {
        if self.limits.max_rate != limits.max_rate {
            self.bucket.set_rate(limits.max_rate, now);
        }
        if self.control == Control::Pause && control != Control::Pause {
            self.pressure.restart();
        }
        self.limits = limits;
        self.control = control;
        if control == Control::Abort {
            self.fail(FailReason::Requested, out);
        }
    }

    /// The log refuses entries for the moment: not again at once.
    fn dropped(&mut self, now: MonoMs) {
        let retry_ms = self.retry_ms(self.frozen_at.is_some());
        self.proposals.dropped(DROPPED_WAIT_MS, retry_ms, now);
    }

    fn refused(&mut self, reason: Refused, out: &mut Vec<SourceAction>) {
        self.proposals.forget();
        let unbegun = self
            .view
            .as_ref()
            .is_some_and(|view| view.plan == Known::Unknown);
        let cannot_begin = matches!(reason, Refused::SlotsTaken | Refused::Nothing);
        if unbegun && cannot_begin {
            self.fail(FailReason::SourceRefused, out);
        }
    }

    /// Answers may come late: an older one than what is known says nothing.
    fn dest_answered(&mut self, now: MonoMs, status: DestStatus) {
        let known = self.dest.as_ref().map_or(0, |known| known.applied);
        if status.plan != self.spec.plan || status.applied < known {
            return;
        }
        self.dest = Some(status);
        let owned = matches!(status.phase, DestPhase::Owned | DestPhase::Forgotten);
        if let (true, Some(frozen_at)) = (owned, self.frozen_at) {
            self.pause_ms.get_or_insert(now.saturating_sub(frozen_at));
        }
    }

    fn increments_read(&mut self, now: MonoMs, read: LogRead, out: &mut Vec<SourceAction>) {
        let until = self.freeze_point().map(|point| point.index);
        let idle_ms = if until.is_some() {
            1
        } else {
            self.config.idle_read_ms
        };
        self.log_missing_since = None;
        let Some(pump) = self.pump.as_mut() else {
            return;
        };
        if let Err(reason) = pump.take_read(self.spec.plan, read, until, idle_ms, now, out) {
            self.fail(reason, out);
        }
    }

    /// A checkpoint that was applied just now may have let the log be cut
    /// ahead of what this driver has heard; only what stays so is the end.
    fn log_missing(&mut self, now: MonoMs, out: &mut Vec<SourceAction>) {
        let since = *self.log_missing_since.get_or_insert(now);
        if now >= since + self.config.retry_ms {
            return self.fail(FailReason::LogMissing, out);
        }
        self.pump = None;
        self.pump_not_before = now + DROPPED_WAIT_MS;
    }

    fn freeze_point(&self) -> Option<FreezePoint> {
        match &self.view.as_ref()?.plan {
            Known::Active(plan) => plan.frozen,
            _ => None,
        }
    }

    /// An answer that is not awaited any more came too late: it tells of a time before
    /// the newer request, and a proof would pass for fresher than it is. Only a decision
    /// is true whenever it was asked for.
    fn etcd_answered(
        &mut self,
        now: MonoMs,
        ask: u64,
        answer: EtcdAnswer,
        out: &mut Vec<SourceAction>,
    ) {
        let flight = self.etcd.take_if(|flight| flight.ask == ask);
        if flight.is_some() && answer != EtcdAnswer::Unavailable {
            self.said_etcd_gone = false;
        }
        match (answer, flight) {
            (EtcdAnswer::Decided { decision, reason }, _) => self.decided(decision, reason, out),
            (EtcdAnswer::Proved, Some(flight)) => self.proved_at = Some(flight.since),
            (EtcdAnswer::NoDecision, Some(_)) => self.decision_checked = true,
            (EtcdAnswer::Refused, Some(flight)) => self.etcd_refused(flight.op, now, out),
            (EtcdAnswer::Unavailable, Some(_)) => self.etcd_failed(now, out),
            (_, None) => {}
        }
    }

    fn decided(
        &mut self,
        decision: Decision,
        reason: Option<FailReason>,
        out: &mut Vec<SourceAction>,
    ) {
        if self.decision.is_some_and(|known| known != decision) {
            self.broken("two different decisions were read for one plan", out);
        }
        self.decision = Some(decision);
        self.decision_checked = true;
        self.decided_for = reason;
    }

    /// A refused proof is a plan that is not to run just now: it may be
    /// decided, so look; pause or abort will be heard of. A refused decision
    /// is a slot map that says otherwise.
    fn etcd_refused(&mut self, op: EtcdOp, now: MonoMs, out: &mut Vec<SourceAction>) {
        self.decision_checked = false;
        self.etcd_not_before = now + self.config.etcd_retry_ms;
        if let EtcdOp::Decide(_) = op {
            self.fail(FailReason::SourceRefused, out);
        }
    }

    fn etcd_failed(&mut self, now: MonoMs, out: &mut Vec<SourceAction>) {
        self.etcd = None;
        self.etcd_not_before = now + self.config.etcd_retry_ms;
        if self.frozen_at.is_some() && !self.said_etcd_gone {
            self.said_etcd_gone = true;
            out.push(SourceAction::Notice(Notice::FrozenWithoutEtcd));
        }
    }

    /// From now on the plan is to be decided "abort"; if it is decided
    /// "commit" already, that stands.
    fn fail(&mut self, reason: FailReason, out: &mut Vec<SourceAction>) {
        if self.abort_for.is_none() && self.decision.is_none() {
            self.abort_for = Some(reason);
            out.push(SourceAction::Notice(Notice::Failing(reason)));
        }
    }

    fn broken(&mut self, what: &'static str, out: &mut Vec<SourceAction>) {
        self.broken = true;
        out.push(SourceAction::Notice(Notice::Broken(what)));
    }

    /// The others know of steps of this group that this leader does not: it
    /// is deposed, or its log is damaged. Either way it stands still.
    fn behind(&mut self, out: &mut Vec<SourceAction>) {
        if !self.said_behind {
            self.said_behind = true;
            out.push(SourceAction::Notice(Notice::Behind));
        }
    }

    fn wake_at(&mut self, at: MonoMs) {
        self.wake = self.wake.min(at);
    }

    fn advance(&mut self, now: MonoMs, out: &mut Vec<SourceAction>) {
        let Some(view) = self.view.clone() else {
            return;
        };
        match view.plan {
            Known::Unknown => self.not_begun(now, out),
            Known::Active(plan) => match plan.frozen {
                Some(point) => self.switch(&plan, point, view.log_time, now, out),
                None => self.run(&plan, now, out),
            },
            Known::Over(Outcome::Aborted { reason }) => self.after_abort(reason, now, out),
            Known::Over(Outcome::Released { pause_ms }) => {
                self.pause_ms = Some(pause_ms);
                self.finish_when(true, out);
            }
            Known::Over(Outcome::Owned { .. }) => {
                self.broken("the source group owns the plan's slots as destination", out);
            }
            Known::Forgotten => {
                self.reporter.nothing_to_say();
                self.finish_when(true, out);
            }
        }
    }

    fn not_begun(&mut self, now: MonoMs, out: &mut Vec<SourceAction>) {
        match self.decision {
            Some(Decision::Abort) => self.propose_abort(now, out),
            Some(Decision::Commit) => self.behind(out),
            None if self.abort_for.is_some() => self.decide(Decision::Abort, 0, now, out),
            None if !self.decision_checked => self.ask_etcd(EtcdOp::Read, 0, now, out),
            None if self.control == Control::Pause => {}
            None => {
                let spec = (*self.spec).clone();
                self.propose(MigrationEntry::SourceBegin { spec }, now, out);
            }
        }
    }

    /// Stages full and increment.
    fn run(&mut self, plan: &SourcePlan, now: MonoMs, out: &mut Vec<SourceAction>) {
        match self.decision {
            Some(Decision::Abort) => return self.propose_abort(now, out),
            Some(Decision::Commit) => {
                return self.behind(out);
            }
            None => {}
        }
        if self.abort_for.is_some() {
            self.stop_copy(out);
            return self.decide(Decision::Abort, 0, now, out);
        }
        if !self.decision_checked {
            return self.ask_etcd(EtcdOp::Read, 0, now, out);
        }
        if self.control == Control::Pause {
            self.stop_copy(out);
            return self.pressure.release();
        }
        let plan_id = self.spec.plan;
        let Some(dest) = self.dest else {
            return self.ask_dest(ToDest::Query { plan: plan_id }, now, out);
        };
        if let Some(reason) = dest.failure {
            return self.fail_now(reason, now, out);
        }
        match dest.phase {
            DestPhase::Unknown => {
                let spec = (*self.spec).clone();
                self.ask_dest(ToDest::Begin { spec }, now, out);
            }
            DestPhase::Importing => self.import(plan, &dest, now, out),
            DestPhase::Aborted => self.fail_now(FailReason::DestinationRefused, now, out),
            DestPhase::Ready | DestPhase::Owned | DestPhase::Forgotten => {
                self.behind(out);
            }
        }
    }

    fn fail_now(&mut self, reason: FailReason, now: MonoMs, out: &mut Vec<SourceAction>) {
        self.fail(reason, out);
        self.wake_at(now + 1);
    }

    fn import(
        &mut self,
        plan: &SourcePlan,
        dest: &DestStatus,
        now: MonoMs,
        out: &mut Vec<SourceAction>,
    ) {
        let mine = plan.chunks.len() as u32;
        if dest.chunks == mine + 1 {
            return self.adopt_chunk(dest, now, out);
        }
        if dest.chunks < mine {
            // An answer from before the chunks that it acknowledged.
            return self.ask_again(now, out);
        }
        if dest.chunks > mine {
            return self.behind(out);
        }
        if dest.last_chunk != plan.chunks.last().copied() {
            return self.fail_now(FailReason::DigestMismatch, now, out);
        }
        match plan.next_first() {
            Some(first) => self.copy_chunk(first, dest, now, out),
            None => self.increment(plan, dest, now, out),
        }
    }

    /// The destination has one chunk more: it is recorded here too, whoever
    /// exported it (each snapshot of committed state is as good).
    fn adopt_chunk(&mut self, dest: &DestStatus, now: MonoMs, out: &mut Vec<SourceAction>) {
        if self.copy.as_ref().is_some_and(|copy| !copy.agrees(dest)) {
            return self.fail_now(FailReason::DigestMismatch, now, out);
        }
        if let Some(chunk) = dest.last_chunk {
            let plan = self.spec.plan;
            self.propose(MigrationEntry::ChunkDone { plan, chunk }, now, out);
        }
    }

    fn copy_chunk(
        &mut self,
        first: u16,
        dest: &DestStatus,
        now: MonoMs,
        out: &mut Vec<SourceAction>,
    ) {
        let current = self.copy.as_ref();
        let replaced = current.is_some_and(|copy| copy.exporting && copy.attempt != dest.attempt);
        if replaced || current.is_none_or(|copy| copy.first != first) {
            self.stop_copy(out);
            self.next_attempt = next_random(self.next_attempt);
            self.copy = Some(ChunkCopy::new(self.next_attempt | 1, first));
        }
        let copy = self.copy.as_mut().expect("made above");
        if copy.attempt != dest.attempt {
            return self.begin_chunk(now, out);
        }
        if !copy.exporting {
            copy.start(now);
            out.push(SourceAction::StartExport {
                attempt: copy.attempt,
                first,
                target_bytes: self.config.chunk_bytes,
            });
        }
        copy.acknowledged(dest.parts, now);
        copy.request(&self.config, out);
        let bucket = &mut self.bucket;
        let next = copy.send(self.spec.plan, bucket, self.config.retry_ms, now, out);
        self.wake_at(next);
    }

    fn begin_chunk(&mut self, now: MonoMs, out: &mut Vec<SourceAction>) {
        let retry_ms = self.config.retry_ms;
        let Some(copy) = self.copy.as_mut() else {
            return;
        };
        if copy.begin_asked.is_none_or(|asked| now >= asked + retry_ms) {
            copy.begin_asked = Some(now);
            out.push(SourceAction::Send(ToDest::ChunkBegin {
                plan: self.spec.plan,
                term: self.term,
                attempt: copy.attempt,
                first: copy.first,
            }));
        }
    }

    fn stop_copy(&mut self, out: &mut Vec<SourceAction>) {
        if let Some(copy) = self.copy.take().filter(|copy| copy.exporting) {
            out.push(SourceAction::StopExport {
                attempt: copy.attempt,
            });
        }
    }

    fn increment(
        &mut self,
        plan: &SourcePlan,
        dest: &DestStatus,
        now: MonoMs,
        out: &mut Vec<SourceAction>,
    ) {
        self.stop_copy(out);
        if !self.pump(plan, dest, None, now, out) {
            return;
        }
        let Some(lag) = self.pump.as_ref().and_then(Pump::lag_bytes) else {
            return;
        };
        self.checkpoint(plan, now, out);
        if lag > self.config.switch_lag_bytes {
            return self.push_back(lag, now, out);
        }
        self.pressure.caught_up(self.config.slow_step_ms, now);
        if self.is_proved(now) {
            let plan = self.spec.plan;
            self.propose(MigrationEntry::Freeze { plan }, now, out);
        } else {
            self.ask_etcd(EtcdOp::Prove, 0, now, out);
        }
    }

    fn is_proved(&self, now: MonoMs) -> bool {
        let valid = self.config.proof_valid_ms;
        self.proved_at.is_some_and(|at| now < at + valid)
    }

    /// Keeps the stream going; false when there is nothing to go on with.
    fn pump(
        &mut self,
        plan: &SourcePlan,
        dest: &DestStatus,
        until: Option<u64>,
        now: MonoMs,
        out: &mut Vec<SourceAction>,
    ) -> bool {
        let Some(position) = dest.position else {
            self.ask_again(now, out);
            return false;
        };
        if self.pump.is_none() && now < self.pump_not_before {
            self.wake_at(self.pump_not_before);
            return false;
        }
        if self.pump.is_none() {
            self.pump = Pump::new(plan, position, now);
        }
        let retry_ms = self.retry_ms(until.is_some());
        let Some(pump) = self.pump.as_mut() else {
            self.ask_again(now, out);
            return false;
        };
        match pump.position(position, now) {
            Ok(true) => {}
            Ok(false) => {
                self.pump = None;
                self.wake_at(now + 1);
                return false;
            }
            Err(reason) => {
                self.fail_now(reason, now, out);
                return false;
            }
        }
        let want = PumpWants {
            until,
            window: self.config.increment_window,
            max_bytes: self.config.increment_bytes,
            retry_ms,
            reading_ms: self.config.reading_ms,
        };
        let next = pump.drive(self.spec.plan, &want, now, out);
        self.wake_at(next);
        true
    }

    fn retry_ms(&self, switching: bool) -> u64 {
        match switching {
            true => self.config.switch_retry_ms,
            false => self.config.retry_ms,
        }
    }

    fn checkpoint(&mut self, plan: &SourcePlan, now: MonoMs, out: &mut Vec<SourceAction>) {
        let Some(point) = self.pump.as_ref().map(Pump::acknowledged) else {
            return;
        };
        let newer = plan
            .resume_point()
            .is_some_and(|at| point.through > at.through);
        if newer && now >= self.checkpoint_at + self.config.checkpoint_ms {
            self.checkpoint_at = now;
            let plan = self.spec.plan;
            self.propose(MigrationEntry::Checkpoint { plan, point }, now, out);
        }
    }

    /// The lag is too large to switch: slow the writes if it does not fall,
    /// and give up in the end.
    fn push_back(&mut self, lag: u64, now: MonoMs, out: &mut Vec<SourceAction>) {
        let patience = (self.config.slow_step_ms, self.limits.catch_up_ms);
        match self.pressure.lagging(lag, patience, now) {
            Ok(wake) => self.wake_at(wake),
            Err(reason) => self.fail_now(reason, now, out),
        }
    }

    /// Stage switch: the slots are frozen.
    fn switch(
        &mut self,
        plan: &SourcePlan,
        point: FreezePoint,
        log_time: u64,
        now: MonoMs,
        out: &mut Vec<SourceAction>,
    ) {
        self.enter_switch(point, log_time, now);
        match self.decision {
            Some(Decision::Commit) => return self.commit(point, now, out),
            Some(Decision::Abort) => return self.propose_abort(now, out),
            None => {}
        }
        let deadline = self.deadline(now);
        if now >= deadline {
            self.fail(FailReason::PauseExceeded, out);
        } else {
            self.wake_at(deadline);
        }
        let ready = self.drain(plan, point, now, out);
        if self.abort_for.is_some() {
            self.decide(Decision::Abort, 0, now, out);
        } else if !self.decision_checked {
            self.ask_etcd(EtcdOp::Read, 0, now, out);
        } else if ready {
            self.decide(Decision::Commit, point.epoch, now, out);
        }
    }

    /// Monotonic clocks do not survive a leader; log time does.
    fn enter_switch(&mut self, point: FreezePoint, log_time: u64, now: MonoMs) {
        if self.frozen_at.is_none() {
            let frozen_for = log_time.saturating_sub(point.log_time);
            self.frozen_at = Some(now.saturating_sub(frozen_for));
            self.pressure.release();
            if let Some(pump) = self.pump.as_mut() {
                pump.hurry(now);
            }
        }
    }

    fn deadline(&self, now: MonoMs) -> MonoMs {
        let frozen_at = self.frozen_at.unwrap_or(now);
        frozen_at.saturating_add(self.limits.max_pause_ms)
    }

    /// Sends the last increments and asks for READY; true once it is.
    fn drain(
        &mut self,
        plan: &SourcePlan,
        point: FreezePoint,
        now: MonoMs,
        out: &mut Vec<SourceAction>,
    ) -> bool {
        let plan_id = self.spec.plan;
        let Some(dest) = self.dest else {
            self.ask_dest(ToDest::Query { plan: plan_id }, now, out);
            return false;
        };
        if let Some(reason) = dest.failure {
            self.fail(reason, out);
            return false;
        }
        match dest.phase {
            DestPhase::Ready => return true,
            DestPhase::Importing => {}
            DestPhase::Aborted => {
                self.fail(FailReason::DestinationRefused, out);
                return false;
            }
            _ => {
                self.ask_again(now, out);
                return false;
            }
        }
        if !self.pump(plan, &dest, Some(point.index), now, out) {
            return false;
        }
        let drained = self
            .pump
            .as_ref()
            .and_then(|pump| pump.drained(point.index));
        if let Some(freeze) = drained {
            let ask = ToDest::Ready {
                plan: plan_id,
                freeze,
                chunks: plan.chunks_fold(),
                log_time: point.log_time,
                epoch: point.epoch,
            };
            self.ask_dest(ask, now, out);
        }
        false
    }

    /// Decided "commit": the destination owns first, then this group releases.
    fn commit(&mut self, point: FreezePoint, now: MonoMs, out: &mut Vec<SourceAction>) {
        let plan = self.spec.plan;
        let phase = self.dest.map(|dest| dest.phase);
        if matches!(phase, Some(DestPhase::Owned | DestPhase::Forgotten)) {
            let frozen_at = self.frozen_at.unwrap_or(now);
            let pause_ms = *self.pause_ms.get_or_insert(now.saturating_sub(frozen_at));
            return self.propose(MigrationEntry::Release { plan, pause_ms }, now, out);
        }
        let epoch = point.epoch;
        self.ask_dest(ToDest::Own { plan, epoch }, now, out);
    }

    fn propose_abort(&mut self, now: MonoMs, out: &mut Vec<SourceAction>) {
        self.stop_copy(out);
        self.pressure.release();
        let reason = self.decided_for.or(self.abort_for);
        let reason = reason.unwrap_or(FailReason::DecidedElsewhere);
        let plan = self.spec.plan;
        self.propose(MigrationEntry::SourceAbort { plan, reason }, now, out);
    }

    /// The destination must drop its import, and the record must say so.
    fn after_abort(&mut self, reason: FailReason, now: MonoMs, out: &mut Vec<SourceAction>) {
        self.abort_for = Some(reason);
        let phase = self.dest.map(|dest| dest.phase);
        let told = matches!(phase, Some(DestPhase::Aborted | DestPhase::Forgotten));
        if !told {
            let plan = self.spec.plan;
            self.ask_dest(ToDest::Abort { plan, reason }, now, out);
        }
        self.finish_when(told, out);
    }

    fn finish_when(&mut self, told: bool, out: &mut Vec<SourceAction>) {
        if told && self.reporter.is_final_written() {
            self.done = true;
            out.push(SourceAction::Done);
        }
    }

    fn propose(&mut self, entry: MigrationEntry, now: MonoMs, out: &mut Vec<SourceAction>) {
        let switching = self.frozen_at.is_some();
        let retry_ms = self.retry_ms(switching);
        if self.proposals.may_propose(retry_ms, now) {
            out.push(SourceAction::Propose(entry));
        }
        self.wake_at(self.proposals.again_at(retry_ms, now));
    }

    /// Sends a message that expects an answer, unless one is awaited.
    fn ask_dest(&mut self, message: ToDest, now: MonoMs, out: &mut Vec<SourceAction>) {
        let retry_ms = self.retry_ms(self.frozen_at.is_some());
        if now < self.dest_not_before {
            return self.wake_at(self.dest_not_before);
        }
        let kind = discriminant(&message);
        let awaited = self
            .dest_asked
            .filter(|(asked, at)| *asked == kind && now < at + retry_ms);
        if awaited.is_none() {
            self.dest_asked = Some((kind, now));
            out.push(SourceAction::Send(message));
        }
        let asked_at = awaited.map_or(now, |(_, at)| at);
        self.wake_at(asked_at + retry_ms);
    }

    fn ask_again(&mut self, now: MonoMs, out: &mut Vec<SourceAction>) {
        let plan = self.spec.plan;
        self.ask_dest(ToDest::Query { plan }, now, out);
    }

    fn decide(&mut self, want: Decision, epoch: u32, now: MonoMs, out: &mut Vec<SourceAction>) {
        self.ask_etcd(EtcdOp::Decide(want), epoch, now, out);
    }

    /// One etcd request at a time; a silent one counts as failed. A wish to
    /// abort does not wait behind anything else.
    fn ask_etcd(&mut self, op: EtcdOp, epoch: u32, now: MonoMs, out: &mut Vec<SourceAction>) {
        if let Some(flight) = self.etcd {
            let patience = flight.since + self.config.etcd_timeout_ms;
            let urgent = op == EtcdOp::Decide(Decision::Abort) && flight.op != op;
            if now < patience && !urgent {
                return self.wake_at(patience);
            }
            if now >= patience {
                self.etcd_failed(now, out);
            }
        }
        if now < self.etcd_not_before {
            return self.wake_at(self.etcd_not_before);
        }
        self.last_ask += 1;
        let ask = self.last_ask;
        self.etcd = Some(EtcdFlight {
            ask,
            op,
            since: now,
        });
        self.wake_at(now + self.config.etcd_timeout_ms);
        out.push(self.etcd_request(ask, op, epoch));
    }

    fn etcd_request(&self, ask: u64, op: EtcdOp, epoch: u32) -> SourceAction {
        match op {
            EtcdOp::Prove => SourceAction::Prove { ask },
            EtcdOp::Read => SourceAction::ReadDecision { ask },
            EtcdOp::Decide(want) => SourceAction::Decide {
                ask,
                want,
                spec: Arc::clone(&self.spec),
                epoch,
                reason: self.abort_for.filter(|_| want == Decision::Abort),
            },
        }
    }

    fn write_progress(&mut self, now: MonoMs, out: &mut Vec<SourceAction>) {
        let facts = Facts {
            spec: &self.spec,
            paused: self.control == Control::Pause,
            bytes_total: self.bytes_total,
            pause_ms: self.pause_ms,
            reason: self.abort_for,
        };
        let Some(progress) = self
            .view
            .as_ref()
            .and_then(|view| facts.progress(&view.plan))
        else {
            return;
        };
        if self.done || self.broken {
            return;
        }
        let patience = (self.config.progress_ms, self.config.reading_ms);
        let wake = self.reporter.report(progress, patience, now, out);
        self.wake_at(wake);
    }
}

/// One step of splitmix64: distinct attempt numbers from one seed.
fn next_random(state: u64) -> u64 {
    let mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
