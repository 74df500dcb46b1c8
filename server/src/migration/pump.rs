//! The stream of increments from the source's log to the destination.
//!
//! Owned by the source driver and lost with it; a new one reads again from
//! the last checkpoint, hashing what the destination already has, so that the
//! two hashes are always computed from two ends.

use super::events::SourceAction;
use super::plan::{FailReason, MonoMs, PlanId, StreamPoint};
use super::plan_state::SourcePlan;
use super::stream::hash_batch;
use super::wire::ToDest;
use bytes::Bytes;
use std::collections::VecDeque;

struct Batch {
    after: u64,
    point: StreamPoint,
    effects: Bytes,
}

/// What came of a read of the log.
pub(super) struct LogRead {
    pub(super) after: u64,
    pub(super) through: u64,
    pub(super) effects: Bytes,
    pub(super) behind_bytes: u64,
}

pub(super) struct Pump {
    /// The log has been read and hashed up to here.
    read: StreamPoint,
    /// Everything due up to here was sent. Ahead of `read` while what the
    /// destination already has is being read again.
    sent: StreamPoint,
    in_flight: VecDeque<Batch>,
    /// When the read under way was asked for, and up to which index.
    reading: Option<(MonoMs, u64)>,
    idle_until: MonoMs,
    /// Bytes of log not read yet, as of the last read; `None` before it.
    behind_bytes: Option<u64>,
    last_progress: MonoMs,
    /// The destination holds everything up to here, and hashes agree.
    acknowledged: StreamPoint,
}

impl Pump {
    /// A pump from the plan's checkpoint to a destination at `position`.
    ///
    /// `None` when the two do not fit: the position is old news.
    pub(super) fn new(plan: &SourcePlan, position: StreamPoint, now: MonoMs) -> Option<Self> {
        let start = plan.resume_point()?;
        if position.through <= start.through && position.hash != start.hash {
            return None;
        }
        Some(Self {
            read: start,
            sent: position,
            in_flight: VecDeque::new(),
            reading: None,
            idle_until: now,
            behind_bytes: None,
            last_progress: now,
            acknowledged: start,
        })
    }

    /// Whether what the destination has is still being read again.
    fn rereading(&self) -> bool {
        self.read.through < self.sent.through
    }

    /// Bytes not yet acknowledged; `None` while that is not known.
    pub(super) fn lag_bytes(&self) -> Option<u64> {
        if self.rereading() {
            return None;
        }
        let in_flight = self
            .in_flight
            .iter()
            .map(|batch| batch.effects.len() as u64);
        Some(self.behind_bytes? + in_flight.sum::<u64>())
    }

    /// A point that may be recorded as the checkpoint.
    pub(super) fn acknowledged(&self) -> StreamPoint {
        self.acknowledged
    }

    /// Where the destination is once everything up to `index` is in its log.
    pub(super) fn drained(&self, index: u64) -> Option<StreamPoint> {
        let settled = !self.rereading() && self.in_flight.is_empty();
        (settled && self.sent.through >= index).then_some(self.sent)
    }

    /// Reads at once, even if the log had nothing new a moment ago.
    pub(super) fn hurry(&mut self, now: MonoMs) {
        self.idle_until = self.idle_until.min(now);
    }

    /// Learns the destination's position. `Ok(false)`: it does not fit what
    /// was sent (another leader's messages got there), so start again.
    pub(super) fn position(
        &mut self,
        position: StreamPoint,
        now: MonoMs,
    ) -> Result<bool, FailReason> {
        if self.rereading() {
            return Ok(position.through <= self.sent.through);
        }
        while let Some(batch) = self.in_flight.front() {
            if batch.point.through > position.through {
                break;
            }
            if batch.point.through == position.through && batch.point.hash != position.hash {
                return Err(FailReason::StreamMismatch);
            }
            self.acknowledged = batch.point;
            self.in_flight.pop_front();
            self.last_progress = now;
        }
        if self.in_flight.is_empty() {
            self.acknowledged = self.read;
            return Ok(position.through <= self.sent.through);
        }
        Ok(self
            .in_flight
            .front()
            .is_some_and(|front| front.after >= position.through))
    }

    /// Takes what was read; a read that does not continue is dropped.
    /// `until` is the FREEZE index once there is one: the stream must name it.
    pub(super) fn take_read(
        &mut self,
        plan: PlanId,
        read: LogRead,
        until: Option<u64>,
        idle_ms: u64,
        now: MonoMs,
        out: &mut Vec<SourceAction>,
    ) -> Result<(), FailReason> {
        // It may be the answer to an earlier pump's question.
        let asked = self.reading.is_some_and(|(_, limit)| read.through <= limit);
        if !asked || read.after != self.read.through {
            return Ok(());
        }
        self.reading = None;
        self.behind_bytes = Some(read.behind_bytes);
        if read.through <= read.after {
            self.idle_until = now + idle_ms;
            return Ok(());
        }
        let hash = hash_batch(self.read.hash, read.after, read.through, &read.effects)
            .map_err(|_| FailReason::ExportFailed)?;
        let was_rereading = self.rereading();
        self.read = StreamPoint {
            through: read.through,
            hash,
        };
        if was_rereading {
            return self.reread(now);
        }
        if read.effects.is_empty() && !self.owes(until) {
            self.idle_until = now + if read.behind_bytes == 0 { idle_ms } else { 0 };
            if self.in_flight.is_empty() {
                self.acknowledged = self.read;
            }
            return Ok(());
        }
        self.push(plan, read.effects, now, out);
        Ok(())
    }

    /// Whether the destination must be told of an index that it may know
    /// nothing of, because no effects led there.
    fn owes(&self, until: Option<u64>) -> bool {
        until.is_some_and(|end| self.read.through >= end && self.sent.through < end)
    }

    /// Once the destination's place is reached, the two hashes must agree.
    fn reread(&mut self, now: MonoMs) -> Result<(), FailReason> {
        self.last_progress = now;
        let reached = self.read.through >= self.sent.through;
        if reached && self.read != self.sent {
            return Err(FailReason::StreamMismatch);
        }
        if reached {
            self.acknowledged = self.read;
        }
        Ok(())
    }

    fn push(&mut self, plan: PlanId, effects: Bytes, now: MonoMs, out: &mut Vec<SourceAction>) {
        if self.in_flight.is_empty() {
            self.last_progress = now;
        }
        let batch = Batch {
            after: self.sent.through,
            point: self.read,
            effects,
        };
        self.sent = self.read;
        out.push(batch.message(plan));
        self.in_flight.push_back(batch);
    }

    /// Reads on, sends again what was not answered; returns when to come back.
    pub(super) fn drive(
        &mut self,
        plan: PlanId,
        want: &PumpWants,
        now: MonoMs,
        out: &mut Vec<SourceAction>,
    ) -> MonoMs {
        // What was read may pass FREEZE without effects: the destination
        // must still hear of that index.
        if !self.rereading() && self.owes(want.until) {
            self.push(plan, Bytes::new(), now, out);
        }
        if !self.in_flight.is_empty() && now >= self.last_progress + want.retry_ms {
            self.last_progress = now;
            out.extend(self.in_flight.iter().map(|batch| batch.message(plan)));
        }
        let lost = self
            .reading
            .is_some_and(|(since, _)| now >= since + want.reading_ms);
        let ended = !self.rereading() && want.until.is_some_and(|end| self.read.through >= end);
        let open = self.in_flight.len() < want.window && !ended;
        if open && (lost || self.reading.is_none()) && now >= self.idle_until {
            let until = match self.rereading() {
                true => Some(self.sent.through),
                false => want.until,
            };
            self.reading = Some((now, until.unwrap_or(u64::MAX)));
            out.push(SourceAction::ReadIncrements {
                after: self.read.through,
                until,
                max_bytes: want.max_bytes,
            });
        }
        let idle = if open && self.reading.is_none() {
            self.idle_until
        } else {
            MonoMs::MAX
        };
        idle.min(now + want.retry_ms).max(now + 1)
    }
}

/// What the driver wants of its pump at this moment.
pub(super) struct PumpWants {
    pub(super) until: Option<u64>,
    pub(super) window: usize,
    pub(super) max_bytes: u64,
    pub(super) retry_ms: u64,
    pub(super) reading_ms: u64,
}

impl Batch {
    fn message(&self, plan: PlanId) -> SourceAction {
        SourceAction::Send(ToDest::Increments {
            plan,
            after: self.after,
            point: self.point,
            effects: self.effects.clone(),
        })
    }
}
