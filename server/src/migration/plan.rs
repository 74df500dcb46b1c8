//! What a plan is, and the small values that both sides record about it.

use super::codec::{DecodeError, Put, Take};
use super::digest::StreamHash;
use super::slots::SlotRanges;
use std::fmt;

/// Milliseconds of some monotonic clock of this process.
pub type MonoMs = u64;

/// Number of a plan; never reused in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PlanId(pub u64);

/// Number of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupId(pub u32);

/// What the operator allows a move to cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second of bulk copy; 0 is unlimited.
    pub max_rate: u64,
    /// Longest time in ms from FREEZE to the decision before the source asks
    /// for "abort".
    pub max_pause_ms: u64,
    /// Most bytes of log that may be held for the plan at one time, from its first chunk
    /// or its last checkpoint on; 0 is unlimited.
    pub log_limit: u64,
    /// Longest time in ms that increments may take to catch up.
    pub catch_up_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_rate: 100 << 20,
            max_pause_ms: 200,
            log_limit: 8 << 30,
            catch_up_ms: 600_000,
        }
    }
}

/// One move: these slots from this group to that one.
///
/// Bytes: `plan u64 | from u32 | to u32 | max_rate u64 | max_pause_ms u64 |
/// log_limit u64 | catch_up_ms u64 | slots`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanSpec {
    pub plan: PlanId,
    pub from: GroupId,
    pub to: GroupId,
    pub slots: SlotRanges,
    pub limits: Limits,
}

impl PlanSpec {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.plan.0);
        out.put_u32(self.from.0);
        out.put_u32(self.to.0);
        out.put_u64(self.limits.max_rate);
        out.put_u64(self.limits.max_pause_ms);
        out.put_u64(self.limits.log_limit);
        out.put_u64(self.limits.catch_up_ms);
        self.slots.encode(out);
    }

    pub(super) fn decode(from: &mut Take) -> Result<Self, DecodeError> {
        Ok(Self {
            plan: PlanId(from.u64()?),
            from: GroupId(from.u32()?),
            to: GroupId(from.u32()?),
            limits: Limits {
                max_rate: from.u64()?,
                max_pause_ms: from.u64()?,
                log_limit: from.u64()?,
                catch_up_ms: from.u64()?,
            },
            slots: SlotRanges::decode(from)?,
        })
    }
}

/// A finished chunk: the slots of the plan from `first` to `last`, whole, as
/// they were at `index`.
///
/// Bytes: `first u16 | last u16 | index u64 | rows u64 | bytes u64 | digest u128`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRecord {
    pub first: u16,
    pub last: u16,
    /// Source log index that the snapshot contains.
    pub index: u64,
    pub rows: u64,
    pub bytes: u64,
    /// [`super::RowDigest`] of the rows.
    pub digest: u128,
}

impl ChunkRecord {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.first);
        out.put_u16(self.last);
        out.put_u64(self.index);
        out.put_u64(self.rows);
        out.put_u64(self.bytes);
        out.put_u128(self.digest);
    }

    pub(super) fn decode(from: &mut Take) -> Result<Self, DecodeError> {
        Ok(Self {
            first: from.u16()?,
            last: from.u16()?,
            index: from.u64()?,
            rows: from.u64()?,
            bytes: from.u64()?,
            digest: from.u128()?,
        })
    }
}

/// One number for a list of chunks; equal on both sides or the plan fails.
pub(super) fn fold_chunks(chunks: &[ChunkRecord]) -> u128 {
    let absorb = |hash: StreamHash, chunk: &ChunkRecord| {
        let mut bytes = Vec::with_capacity(44);
        chunk.encode(&mut bytes);
        hash.then(u64::from(chunk.first), &bytes)
    };
    chunks.iter().fold(StreamHash::default(), absorb).0
}

/// A place in the source's log as seen through the plan: everything due up to
/// and including `through` hashes to `hash`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamPoint {
    pub through: u64,
    pub hash: StreamHash,
}

impl StreamPoint {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.through);
        out.put_u128(self.hash.0);
    }

    pub(super) fn decode(from: &mut Take) -> Result<Self, DecodeError> {
        Ok(Self {
            through: from.u64()?,
            hash: StreamHash(from.u128()?),
        })
    }
}

/// What FREEZE fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreezePoint {
    /// Log index of the FREEZE entry; no effect on the slots follows it.
    pub index: u64,
    /// Log time in ms of the FREEZE entry.
    pub log_time: u64,
    /// Slot epoch under which the destination will own the slots.
    pub epoch: u32,
}

/// The one decision of a plan; the record created first in etcd wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Commit,
    Abort,
}

/// What the operator wants of a running plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Control {
    #[default]
    Run,
    /// Copy nothing more and do not freeze; a frozen plan is not paused.
    Pause,
    Abort,
}

/// Where a plan stands, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Full,
    Increment,
    Switch,
}

/// The `state` that `status` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressState {
    Running,
    Paused,
    Done,
    /// Aborted on request.
    Aborted,
    /// Aborted for another reason.
    Failed,
}

impl ProgressState {
    /// Whether the plan is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Aborted | Self::Failed)
    }
}

/// What the source leader writes to the plan's record for operators to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub plan: PlanId,
    pub state: ProgressState,
    pub stage: Stage,
    pub slots: u32,
    pub bytes_done: u64,
    /// Estimate; 0 until the source has made one.
    pub bytes_total: u64,
    /// From FREEZE applied to OWN acknowledged; `None` until then.
    pub pause_ms: Option<u64>,
    pub reason: Option<FailReason>,
}

/// Why a plan did not commit. The numbers are stored: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FailReason {
    Requested = 1,
    PauseExceeded = 2,
    CannotCatchUp = 3,
    LogLimit = 4,
    DigestMismatch = 5,
    StreamMismatch = 6,
    DestinationRefused = 7,
    SourceRefused = 8,
    LogMissing = 9,
    ExportFailed = 10,
    ImportFailed = 11,
    /// Another actor created the abort record; why is not known here.
    DecidedElsewhere = 12,
}

impl FailReason {
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Every reason.
    pub const ALL: [FailReason; 12] = [
        FailReason::Requested,
        FailReason::PauseExceeded,
        FailReason::CannotCatchUp,
        FailReason::LogLimit,
        FailReason::DigestMismatch,
        FailReason::StreamMismatch,
        FailReason::DestinationRefused,
        FailReason::SourceRefused,
        FailReason::LogMissing,
        FailReason::ExportFailed,
        FailReason::ImportFailed,
        FailReason::DecidedElsewhere,
    ];

    pub(super) fn from_number(number: u8) -> Result<Self, DecodeError> {
        let found = Self::ALL
            .into_iter()
            .find(|reason| reason.number() == number);
        found.ok_or(DecodeError::Unknown {
            what: "failure reason",
            number: u64::from(number),
        })
    }
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "aborted on request",
            Self::PauseExceeded => "the switch would have taken longer than max-pause",
            Self::CannotCatchUp => {
                "increments could not catch up with the writes; try a quieter hour or fewer slots"
            }
            Self::LogLimit => "the move needs more log than migration-log-limit",
            Self::DigestMismatch => "copied rows differ between source and destination",
            Self::StreamMismatch => "the increment stream differs between source and destination",
            Self::DestinationRefused => "the destination group cannot import these slots",
            Self::SourceRefused => "the source group does not serve these slots",
            Self::LogMissing => "the source log no longer reaches back to the first chunk",
            Self::ExportFailed => "the source could not read the slots",
            Self::ImportFailed => "the destination could not write the slots",
            Self::DecidedElsewhere => "the plan was decided: abort",
        })
    }
}

/// Sizes and patience of the drivers of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverConfig {
    /// A chunk ends at the first slot end beyond this many bytes.
    pub chunk_bytes: u64,
    /// Parts of a chunk that may be exported and not yet acknowledged.
    pub part_window: u32,
    /// Most bytes of one batch of increments.
    pub increment_bytes: u64,
    /// Batches of increments in flight.
    pub increment_window: usize,
    /// The switch starts when no more than this many bytes are behind.
    pub switch_lag_bytes: u64,
    /// Bytes of parts and increments that are proposed and not yet concluded, above
    /// which a destination takes no more. What is sent again for want of an answer is
    /// proposed again: a slow log must not be given copies without end.
    pub proposed_bytes: u64,
    /// An unanswered message or proposal is repeated after this time.
    pub retry_ms: u64,
    /// The same between FREEZE and OWN, where each ms is a client's.
    pub switch_retry_ms: u64,
    /// A reading of this node's own disk is begun again after this time, and a record of
    /// progress counts as lost. On a busy machine it may last long, and a second one
    /// beside it does not help.
    pub reading_ms: u64,
    /// An unanswered etcd request counts as failed after this time.
    pub etcd_timeout_ms: u64,
    /// Wait between etcd requests while etcd does not answer.
    pub etcd_retry_ms: u64,
    /// A proof of etcd older than this is not fresh.
    pub proof_valid_ms: u64,
    /// A destination whose slots are taken waits this long before it fails the plan. They
    /// may be those of an aborted import, whose source is to tell of the abort as soon as
    /// it can.
    pub slots_taken_ms: u64,
    /// Wait between reads of a log that had nothing new.
    pub idle_read_ms: u64,
    /// The acknowledged position is recorded at most this often.
    pub checkpoint_ms: u64,
    /// Back-pressure is reconsidered this often.
    pub slow_step_ms: u64,
    /// Progress is written at most this often.
    pub progress_ms: u64,
    /// A ready destination that hears nothing reads the decision this often.
    pub decision_poll_ms: u64,
    /// An importing destination that hears nothing reads it this often.
    pub import_poll_ms: u64,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            chunk_bytes: 32 << 20,
            part_window: 4,
            increment_bytes: 1 << 20,
            increment_window: 4,
            switch_lag_bytes: 256 << 10,
            proposed_bytes: 8 << 20,
            retry_ms: 1_000,
            switch_retry_ms: 50,
            reading_ms: 30_000,
            etcd_timeout_ms: 1_000,
            etcd_retry_ms: 100,
            proof_valid_ms: 1_000,
            slots_taken_ms: 30_000,
            idle_read_ms: 5,
            checkpoint_ms: 1_000,
            slow_step_ms: 1_000,
            progress_ms: 500,
            decision_poll_ms: 50,
            import_poll_ms: 5_000,
        }
    }
}
