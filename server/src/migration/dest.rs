//! The destination leader's part of a plan: it stages, checks and owns.
//!
//! Owned by the leader of the destination group, one per plan that it hears
//! of, and thrown away with its leadership: everything in here is volatile.
//! It is asked by the source and answers with its replicated status; in READY
//! it also asks etcd by itself, so that a dead source cannot keep it waiting.
//! Invariants:
//! - slots are owned only in READY and on the decision "commit";
//! - an import that is READY is dropped only on a decision read from etcd by
//!   this driver, whatever the source says.

use super::MigrationEntry;
use super::events::{DestAction, DestEvent, Notice};
use super::plan::{
    ChunkRecord, Decision, DriverConfig, FailReason, MonoMs, PlanId, PlanSpec, StreamPoint,
};
use super::plan_state::DestPlan;
use super::proposals::Proposals;
use super::state::{DestView, Known, Refused};
use super::stream::hash_batch;
use super::wire::ToDest;
use bytes::Bytes;

/// Proposals with rows that may be under way at once, however small they are.
const MOST_WITH_ROWS: u64 = 32;

/// The last part of an attempt, as the source described it.
#[derive(Debug, Clone, Copy)]
struct Ending {
    attempt: u64,
    parts: u32,
    record: ChunkRecord,
    /// When the staged rows are to be read back, unless the chunk has landed by then.
    /// One reading at a time: it may take longer than any answer.
    read_back_at: MonoMs,
    /// The staged rows differed once.
    was_wrong: bool,
}

/// The driver. See the module's header.
pub struct DestDriver {
    plan: PlanId,
    config: DriverConfig,
    view: Option<DestView>,
    failure: Option<FailReason>,
    /// When the plan was first refused its slots. Lost with the driver: then the wait
    /// begins anew, while the source asks Begin all the same.
    slots_taken_since: Option<MonoMs>,
    decision: Option<Decision>,
    /// The source says "abort" of a READY import: read it ourselves.
    doubt: bool,
    reading: Option<MonoMs>,
    read_not_before: MonoMs,
    last_heard: MonoMs,
    /// Those without rows.
    proposals: Proposals,
    /// Attempt and number of the part after the last one proposed.
    next_part: Option<(u64, u32, MonoMs)>,
    /// The increment point proposed last.
    next_point: Option<(StreamPoint, MonoMs)>,
    ending: Option<Ending>,
    /// What the proposals with rows weigh that are not yet concluded.
    proposed_bytes: u64,
    reply_due: bool,
    stopped: bool,
    wake: MonoMs,
}

impl DestDriver {
    pub fn new(plan: PlanId, config: DriverConfig, now: MonoMs) -> Self {
        Self {
            plan,
            config,
            view: None,
            failure: None,
            slots_taken_since: None,
            decision: None,
            doubt: false,
            reading: None,
            read_not_before: now,
            last_heard: now,
            proposals: Proposals::default(),
            next_part: None,
            next_point: None,
            ending: None,
            proposed_bytes: 0,
            reply_due: false,
            stopped: false,
            wake: now,
        }
    }

    /// Takes one event and says what to do about it.
    pub fn step(&mut self, now: MonoMs, event: DestEvent, out: &mut Vec<DestAction>) {
        if self.stopped {
            return;
        }
        self.wake = now + self.config.import_poll_ms;
        self.absorb(now, event, out);
        self.advance(now, out);
        if self.active().is_none() {
            self.wake_at(self.last_heard + self.config.import_poll_ms);
        }
        self.reply(out);
        match self.over(now) {
            true => {
                self.stopped = true;
                out.push(DestAction::Done);
            }
            false => out.push(DestAction::SetTimer(self.wake.max(now + 1))),
        }
    }

    /// Nothing is left to do here: the plan is over or never began, and
    /// nobody asks any more. Until then the source may still ask how it ended.
    fn over(&self, now: MonoMs) -> bool {
        let idle = now >= self.last_heard + self.config.import_poll_ms;
        idle && self.view.is_some() && self.active().is_none()
    }

    fn absorb(&mut self, now: MonoMs, event: DestEvent, out: &mut Vec<DestAction>) {
        match event {
            DestEvent::Replicated(view) => self.replicated(view),
            DestEvent::Source(message) => self.asked(now, message, out),
            DestEvent::Refused(reason) => self.refused(reason, now),
            DestEvent::Dropped => self.forget_proposals(),
            DestEvent::Concluded { bytes } => self.concluded(bytes),
            DestEvent::Staged {
                attempt,
                rows,
                digest,
            } => self.staged(attempt, rows, digest, now, out),
            DestEvent::ImportFailed => self.fail(FailReason::ImportFailed, out),
            DestEvent::Decided(decision) => self.decided(decision, out),
            DestEvent::NoDecision => self.reading = None,
            DestEvent::EtcdUnavailable => {
                self.reading = None;
                self.read_not_before = now + self.config.etcd_retry_ms;
            }
            DestEvent::Timer => {}
        }
    }

    fn replicated(&mut self, view: DestView) {
        let before = self.view.as_ref().map(|view| &view.plan);
        if before != Some(&view.plan) {
            self.proposals.forget();
            self.reply_due = before.is_some();
        }
        self.view = Some(view);
    }

    fn refused(&mut self, reason: Refused, now: MonoMs) {
        self.forget_proposals();
        let fails = match reason {
            Refused::SlotsTaken => self.is_unknown() && self.stays_taken(now),
            Refused::Nothing => self.is_unknown(),
            Refused::EpochTooLow => true,
            _ => false,
        };
        if fails {
            self.failure = Some(FailReason::DestinationRefused);
        }
        self.reply_due = true;
    }

    /// An import of an aborted plan may still be here: its source tells of the abort as
    /// soon as it is reachable, and the one of this plan asks again meanwhile.
    fn stays_taken(&mut self, now: MonoMs) -> bool {
        let since = *self.slots_taken_since.get_or_insert(now);
        now >= since + self.config.slots_taken_ms
    }

    fn forget_proposals(&mut self) {
        self.proposals.forget();
        self.next_part = None;
        self.next_point = None;
    }

    fn fail(&mut self, reason: FailReason, out: &mut Vec<DestAction>) {
        if self.failure.is_none() {
            self.failure = Some(reason);
            out.push(DestAction::Notice(Notice::Failing(reason)));
        }
        self.reply_due = true;
    }

    fn decided(&mut self, decision: Decision, out: &mut Vec<DestAction>) {
        self.reading = None;
        if self.decision.is_some_and(|known| known != decision) {
            self.broken("two different decisions were read for one plan", out);
        }
        self.decision = Some(decision);
    }

    fn broken(&mut self, what: &'static str, out: &mut Vec<DestAction>) {
        self.stopped = true;
        out.push(DestAction::Notice(Notice::Broken(what)));
    }

    fn active(&self) -> Option<&DestPlan> {
        match &self.view.as_ref()?.plan {
            Known::Active(plan) => Some(plan),
            _ => None,
        }
    }

    fn is_unknown(&self) -> bool {
        let plan = self.view.as_ref().map(|view| &view.plan);
        plan == Some(&Known::Unknown)
    }

    fn asked(&mut self, now: MonoMs, message: ToDest, out: &mut Vec<DestAction>) {
        if message.plan() != self.plan {
            return;
        }
        self.last_heard = now;
        match message {
            ToDest::Query { .. } => self.reply_due = true,
            ToDest::Begin { spec } => self.asked_begin(spec, now, out),
            ToDest::ChunkBegin {
                term,
                attempt,
                first,
                ..
            } => self.asked_chunk(term, attempt, first, now, out),
            ToDest::ChunkPart {
                attempt,
                part,
                rows,
                end,
                ..
            } => self.asked_part(attempt, part, rows, end, now, out),
            ToDest::Increments {
                after,
                point,
                effects,
                ..
            } => self.asked_increments(after, point, effects, now, out),
            ToDest::Ready { .. } => self.asked_ready(&message, now, out),
            ToDest::Own { epoch, .. } => self.asked_own(epoch, now, out),
            ToDest::Abort { reason, .. } => self.asked_abort(reason, now, out),
        }
    }

    fn asked_begin(&mut self, spec: PlanSpec, now: MonoMs, out: &mut Vec<DestAction>) {
        match self.is_unknown() && self.failure.is_none() {
            true => self.propose(MigrationEntry::DestBegin { spec }, now, out),
            false => self.reply_due = true,
        }
    }

    fn asked_chunk(
        &mut self,
        term: u64,
        attempt: u64,
        first: u16,
        now: MonoMs,
        out: &mut Vec<DestAction>,
    ) {
        let wanted = self.active().is_some_and(|plan| {
            plan.next_first() == Some(first)
                && plan.attempt.is_none_or(|current| current.id != attempt)
        });
        if !wanted {
            self.reply_due = true;
            return;
        }
        let entry = MigrationEntry::ChunkBegin {
            plan: self.plan,
            term,
            attempt,
            first,
        };
        self.propose(entry, now, out);
    }

    /// Parts are proposed in order and without waiting for each other; one
    /// that overtook its predecessors is dropped and comes again.
    fn asked_part(
        &mut self,
        attempt: u64,
        part: u32,
        rows: Bytes,
        end: Option<ChunkRecord>,
        now: MonoMs,
        out: &mut Vec<DestAction>,
    ) {
        let current = self.active().and_then(|plan| plan.attempt);
        let Some(current) = current.filter(|current| current.id == attempt) else {
            self.reply_due = true;
            return;
        };
        if let Some(record) = end {
            self.note_ending(attempt, part + 1, record, now);
        }
        let (next, proposed_at) = match self.next_part {
            Some((id, next, at)) if id == attempt => (next.max(current.parts), Some(at)),
            _ => (current.parts, None),
        };
        let again = part == current.parts
            && proposed_at.is_none_or(|at| now >= at + self.config.switch_retry_ms);
        if self.has_room(&rows) && (part == next || again) {
            self.next_part = Some((attempt, part + 1, now));
            let part = MigrationEntry::ChunkPart {
                plan: self.plan,
                attempt,
                part,
                rows,
            };
            self.propose_rows(part, out);
        } else {
            self.reply_due = true;
        }
    }

    fn note_ending(&mut self, attempt: u64, parts: u32, record: ChunkRecord, now: MonoMs) {
        let known = self.ending.is_some_and(|ending| ending.attempt == attempt);
        if !known {
            self.ending = Some(Ending {
                attempt,
                parts,
                record,
                read_back_at: now,
                was_wrong: false,
            });
        }
    }

    fn asked_increments(
        &mut self,
        after: u64,
        point: StreamPoint,
        effects: Bytes,
        now: MonoMs,
        out: &mut Vec<DestAction>,
    ) {
        let active = self.active().filter(|plan| plan.ready.is_none());
        let Some(position) = active.and_then(|plan| plan.position) else {
            self.reply_due = true;
            return;
        };
        let ahead = self
            .next_point
            .filter(|(proposed, _)| proposed.through > position.through);
        let (start, proposed_at) = match ahead {
            Some((proposed, _)) if proposed.through == after => (proposed, None),
            Some((_, at)) => (position, Some(at)),
            None => (position, None),
        };
        let waits = proposed_at.is_some_and(|at| now < at + self.config.switch_retry_ms);
        if start.through != after || waits || !self.has_room(&effects) {
            self.reply_due = true;
            return;
        }
        if hash_batch(start.hash, after, point.through, &effects) != Ok(point.hash) {
            return self.fail(FailReason::StreamMismatch, out);
        }
        self.next_point = Some((point, now));
        let increment = MigrationEntry::IncrementApplied {
            plan: self.plan,
            after,
            point,
            effects,
        };
        self.propose_rows(increment, out);
    }

    /// Whether the log may be given these rows; the source sends again what is not taken.
    /// No rows at all count with the other proposals.
    fn has_room(&self, rows: &Bytes) -> bool {
        match rows.is_empty() {
            true => self.proposals.has_room(),
            false => self.proposed_bytes < self.config.proposed_bytes,
        }
    }

    fn propose_rows(&mut self, entry: MigrationEntry, out: &mut Vec<DestAction>) {
        match entry.bulk_bytes() {
            0 => self.proposals.begun(),
            bytes => self.proposed_bytes += self.weight(bytes),
        }
        out.push(DestAction::Propose(entry));
    }

    fn concluded(&mut self, bytes: u64) {
        match bytes {
            0 => self.proposals.concluded(),
            bytes => {
                let weight = self.weight(bytes);
                self.proposed_bytes = self.proposed_bytes.saturating_sub(weight);
            }
        }
    }

    /// Few rows weigh more than their bytes, so that their proposals are bounded in number.
    fn weight(&self, bytes: u64) -> u64 {
        bytes.max(self.config.proposed_bytes / MOST_WITH_ROWS)
    }

    fn asked_ready(&mut self, message: &ToDest, now: MonoMs, out: &mut Vec<DestAction>) {
        let ToDest::Ready {
            plan,
            freeze,
            chunks,
            log_time,
            epoch,
        } = *message
        else {
            return;
        };
        self.reply_due = true;
        let Some(active) = self.active().filter(|active| active.ready.is_none()) else {
            return;
        };
        if active
            .position
            .is_none_or(|at| at.through != freeze.through)
        {
            return;
        }
        if active.position != Some(freeze) {
            return self.fail(FailReason::StreamMismatch, out);
        }
        if active.chunks_fold() != chunks {
            return self.fail(FailReason::DigestMismatch, out);
        }
        let entry = MigrationEntry::Ready {
            plan,
            freeze,
            chunks,
            log_time,
            epoch,
        };
        self.reply_due = false;
        self.propose(entry, now, out);
    }

    fn asked_own(&mut self, epoch: u32, now: MonoMs, out: &mut Vec<DestAction>) {
        let ready = self.active().and_then(|plan| plan.ready);
        if ready.is_some_and(|ready| ready.epoch == epoch) {
            let plan = self.plan;
            self.propose(MigrationEntry::Own { plan, epoch }, now, out);
        } else {
            self.reply_due = true;
        }
    }

    fn asked_abort(&mut self, reason: FailReason, now: MonoMs, out: &mut Vec<DestAction>) {
        let ready = self.active().is_some_and(|plan| plan.ready.is_some());
        if ready && self.decision.is_none() {
            self.doubt = true;
        } else if self.active().is_some() || self.is_unknown() {
            let plan = self.plan;
            self.propose(MigrationEntry::DestAbort { plan, reason }, now, out);
        } else {
            self.reply_due = true;
        }
    }

    fn staged(
        &mut self,
        attempt: u64,
        rows: u64,
        digest: u128,
        now: MonoMs,
        out: &mut Vec<DestAction>,
    ) {
        let current = self.active().and_then(|plan| plan.attempt);
        let ending = self.ending.as_mut();
        let Some(ending) = ending.filter(|ending| ending.attempt == attempt) else {
            return;
        };
        // Again if what follows comes to nothing.
        ending.read_back_at = now + self.config.retry_ms;
        if current.is_none_or(|current| current.id != attempt) {
            // The chunk has landed meanwhile, and increments change its rows, or a
            // newer attempt has taken its place.
            return;
        }
        let Ending { parts, record, .. } = *ending;
        if rows != record.rows || digest != record.digest {
            return self.staged_wrong(now, out);
        }
        let entry = MigrationEntry::ChunkLanded {
            plan: self.plan,
            attempt,
            parts,
            chunk: record,
        };
        self.propose(entry, now, out);
    }

    /// The rows may have been read after a newer attempt had dropped them,
    /// which this driver is about to hear; only what stays wrong is wrong.
    fn staged_wrong(&mut self, now: MonoMs, out: &mut Vec<DestAction>) {
        let Some(ending) = self.ending.as_mut() else {
            return;
        };
        if ending.was_wrong {
            return self.fail(FailReason::DigestMismatch, out);
        }
        ending.was_wrong = true;
        ending.read_back_at = now + self.config.switch_retry_ms;
    }

    fn advance(&mut self, now: MonoMs, out: &mut Vec<DestAction>) {
        let Some(plan) = self.active().cloned() else {
            return;
        };
        match (self.decision, plan.ready) {
            (Some(Decision::Abort), _) => {
                let (plan, reason) = (self.plan, FailReason::DecidedElsewhere);
                self.propose(MigrationEntry::DestAbort { plan, reason }, now, out);
            }
            (Some(Decision::Commit), Some(ready)) => {
                let (plan, epoch) = (self.plan, ready.epoch);
                self.propose(MigrationEntry::Own { plan, epoch }, now, out);
            }
            // READY was committed by this group: a later leader knows of it.
            (Some(Decision::Commit), None) => {
                self.decision = None;
                out.push(DestAction::Notice(Notice::Behind));
                self.wake_at(now + self.config.import_poll_ms);
            }
            (None, ready) => {
                self.digest_ending(&plan, now, out);
                self.poll_decision(ready.is_some(), now, out);
            }
        }
    }

    /// All parts of the chunk are in: read them back.
    fn digest_ending(&mut self, plan: &DestPlan, now: MonoMs, out: &mut Vec<DestAction>) {
        let Some((ending, current)) = self.ending.as_mut().zip(plan.attempt) else {
            return;
        };
        if ending.attempt != current.id || ending.parts != current.parts {
            return;
        }
        if now >= ending.read_back_at {
            ending.read_back_at = now + self.config.reading_ms;
            out.push(DestAction::DigestStaged {
                attempt: ending.attempt,
                first: ending.record.first,
                last: ending.record.last,
            });
        }
        let again_at = ending.read_back_at;
        self.wake_at(again_at);
    }

    /// A silent source may be dead, and the plan decided without it.
    fn poll_decision(&mut self, ready: bool, now: MonoMs, out: &mut Vec<DestAction>) {
        let poll_ms = match ready {
            true => self.config.decision_poll_ms,
            false => self.config.import_poll_ms,
        };
        let due_at = match self.doubt {
            true => self.read_not_before,
            false => self.read_not_before.max(self.last_heard + poll_ms),
        };
        let waits = self
            .reading
            .is_some_and(|since| now < since + self.config.etcd_timeout_ms);
        if waits {
            return self.wake_at(now + self.config.etcd_timeout_ms);
        }
        if now < due_at {
            return self.wake_at(due_at);
        }
        self.doubt = false;
        self.reading = Some(now);
        self.read_not_before = now + poll_ms;
        self.wake_at(now + poll_ms.min(self.config.etcd_timeout_ms));
        out.push(DestAction::ReadDecision);
    }

    fn propose(&mut self, entry: MigrationEntry, now: MonoMs, out: &mut Vec<DestAction>) {
        let retry_ms = self.config.switch_retry_ms;
        if self.proposals.may_propose(retry_ms, now) {
            out.push(DestAction::Propose(entry));
        }
        self.wake_at(self.proposals.again_at(retry_ms, now));
    }

    fn wake_at(&mut self, at: MonoMs) {
        self.wake = self.wake.min(at);
    }

    fn reply(&mut self, out: &mut Vec<DestAction>) {
        if let Some(view) = self.view.as_ref().filter(|_| self.reply_due) {
            self.reply_due = false;
            out.push(DestAction::Reply(view.status(self.plan, self.failure)));
        }
    }
}
