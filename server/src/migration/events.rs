//! What goes into the drivers and what comes out.
//!
//! An action may fail, be lost or be repeated: the matching event, or time,
//! tells the driver. Events of one driver are delivered one at a time;
//! `Replicated` events in log order, all others in any order. A driver lives
//! as long as its process leads the group in one term; its first event is
//! `Replicated`, and then again after every applied entry of the plan.
//! What the one who executes the actions must keep:
//! - a proposal takes its place in the order of evaluation, and FREEZE holds
//!   for what is evaluated behind it;
//! - an export's snapshot holds all that its log index names, and the log is
//!   kept from `MigrationState::log_needed_after` on, by every replica;
//! - reads of increments see only committed entries;
//! - every proposal is said to be concluded once: a driver counts those under way.

use super::MigrationEntry;
use super::plan::{ChunkRecord, Control, Decision, FailReason, Limits, MonoMs, PlanSpec, Progress};
use super::state::{DestView, Refused, SourceView};
use super::wire::{DestStatus, ToDest};
use bytes::Bytes;
use std::sync::Arc;

/// What happened at the source.
#[derive(Debug, Clone)]
pub enum SourceEvent {
    /// The replicated state, first of all at the start and then after every
    /// applied entry of the plan.
    Replicated(SourceView),
    /// The plan's record in etcd was read or changed.
    Plan {
        control: Control,
        limits: Limits,
    },
    /// A proposal of this driver was applied and refused.
    Refused(Refused),
    /// A proposal did not get into the log (lost term, full queue).
    Dropped,
    /// A proposal has come to its end, whichever. Said of each once; none is lost.
    Concluded,
    /// The export delivers; `end` with the last part of the chunk.
    PartExported {
        attempt: u64,
        part: u32,
        rows: Bytes,
        end: Option<ChunkRecord>,
    },
    /// The export cannot go on.
    ExportFailed {
        attempt: u64,
    },
    /// The log was read: all entries in `after+1..=through`.
    IncrementsRead {
        after: u64,
        through: u64,
        /// [`super::IncrementBatch`] of what `SourcePlan::is_due`.
        effects: Bytes,
        /// Estimate of the bytes due above `through`.
        behind_bytes: u64,
    },
    /// The log does not reach back to what was to be read.
    LogMissing,
    /// Bytes of log held for the plan by now, without what a checkpoint has let go;
    /// sent now and then.
    LogHeld {
        bytes: u64,
    },
    /// Estimate of the bytes to copy.
    BytesTotal(u64),
    /// The destination answered.
    Dest(DestStatus),
    /// The connection to the destination was lost; what was sent may be lost.
    DestLost,
    /// etcd's answer to the request of this number, however late.
    Etcd {
        ask: u64,
        answer: EtcdAnswer,
    },
    /// Progress was written.
    ProgressWritten,
    /// Progress was not written, or it is not known.
    ProgressLost,
    Timer,
}

/// What came of a request of the source to etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdAnswer {
    /// A fresh transaction found the plan running and undecided.
    Proved,
    /// The decision that is in etcd, whoever created it, and the reason that
    /// its creator wrote into an "abort".
    Decided {
        decision: Decision,
        reason: Option<FailReason>,
    },
    /// No decision is in etcd yet.
    NoDecision,
    /// etcd did not answer, so it is unknown whether it did what was asked.
    Unavailable,
    /// etcd answered, and refuses: to prove, because the plan is not to run;
    /// to decide, because the slot map says otherwise (which ends the plan).
    Refused,
}

/// What the source's leader has to do. Requests to etcd have a number (`ask`), which their
/// answer names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceAction {
    Propose(MigrationEntry),
    /// Pin a snapshot for whole slots of the plan from `first` on, until
    /// `target_bytes` are exceeded at a slot's end.
    StartExport {
        attempt: u64,
        first: u16,
        target_bytes: u64,
    },
    /// Answer with the next part.
    ExportPart {
        attempt: u64,
        part: u32,
    },
    StopExport {
        attempt: u64,
    },
    ReadIncrements {
        after: u64,
        /// Read no entry above this one.
        until: Option<u64>,
        max_bytes: u64,
    },
    Send(ToDest),
    /// Prove etcd with a fresh transaction that compares the plan's record.
    Prove {
        ask: u64,
    },
    ReadDecision {
        ask: u64,
    },
    /// Create the decision record unless there is one, in one transaction
    /// that, for "commit", moves all slots in the slot map; then tell the
    /// decision that is there.
    Decide {
        ask: u64,
        want: Decision,
        spec: Arc<PlanSpec>,
        /// Slot epoch at the destination, for "commit".
        epoch: u32,
        /// Why, for "abort".
        reason: Option<FailReason>,
    },
    WriteProgress(Progress),
    /// Back-pressure on writes to the moving slots: 0 none, 10 strongest.
    SlowWrites(u8),
    /// Send [`SourceEvent::Timer`] at this time; replaces the timer before.
    SetTimer(MonoMs),
    Notice(Notice),
    /// The plan is over and everybody knows: drop the driver.
    Done,
}

/// For logs and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// etcd does not answer while slots are frozen: they stay frozen.
    FrozenWithoutEtcd,
    /// The plan will be aborted.
    Failing(FailReason),
    /// The group has taken steps that this leader does not know: it was
    /// deposed, or (if it goes on saying so) its log is damaged.
    Behind,
    /// An invariant is broken; the driver stands still and slots stay as they
    /// are until an operator looks.
    Broken(&'static str),
}

/// What happened at the destination.
#[derive(Debug, Clone)]
pub enum DestEvent {
    /// The replicated state, first of all at the start and then after every
    /// applied entry of the plan.
    Replicated(DestView),
    /// The source's leader asks.
    Source(ToDest),
    /// A proposal of this driver was applied and refused.
    Refused(Refused),
    /// A proposal did not get into the log.
    Dropped,
    /// A proposal has come to its end, whichever. Said of each once; none is lost.
    Concluded {
        /// [`MigrationEntry::bulk_bytes`] of it: 0 if it brought no rows.
        bytes: u64,
    },
    /// The staged rows of the attempt were read back.
    Staged {
        attempt: u64,
        rows: u64,
        digest: u128,
    },
    /// Staging cannot go on (disk full, entry too large, log time refused).
    ImportFailed,
    Decided(Decision),
    NoDecision,
    EtcdUnavailable,
    Timer,
}

/// What the destination's leader has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestAction {
    Propose(MigrationEntry),
    /// Answer the source's leader.
    Reply(DestStatus),
    /// Read the staged rows of the plan's slots `first..=last` and digest them.
    DigestStaged {
        attempt: u64,
        first: u16,
        last: u16,
    },
    ReadDecision,
    SetTimer(MonoMs),
    Notice(Notice),
    /// The plan is over here (or never began) and nobody asks any more: drop
    /// the driver. A later question makes a new one.
    Done,
}
