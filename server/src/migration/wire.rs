//! What the two leaders say to each other.
//!
//! The source asks, the destination answers every message with its replicated
//! status. All messages may be lost, repeated or late: each is a request to
//! reach a state, and the answer names the state that was reached.
//!
//! ```text
//! message: version u8 = 1 | kind u8 | fields, big-endian
//! ```

use super::codec::{DecodeError, Put, Take};
use super::plan::{ChunkRecord, FailReason, PlanId, PlanSpec, StreamPoint};
use bytes::Bytes;

const VERSION: u8 = 1;

/// From the source's leader to the destination's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToDest {
    /// Tell the status.
    Query { plan: PlanId },
    /// Begin to import.
    Begin { spec: PlanSpec },
    /// Begin a chunk.
    ChunkBegin {
        plan: PlanId,
        term: u64,
        attempt: u64,
        first: u16,
    },
    /// Rows of a chunk; the last part carries the record of the whole.
    ChunkPart {
        plan: PlanId,
        attempt: u64,
        part: u32,
        rows: Bytes,
        end: Option<ChunkRecord>,
    },
    /// Effects of the source's entries `after+1..=point.through`.
    Increments {
        plan: PlanId,
        after: u64,
        point: StreamPoint,
        effects: Bytes,
    },
    /// The slots are frozen and all was sent: is it all there?
    Ready {
        plan: PlanId,
        freeze: StreamPoint,
        chunks: u128,
        log_time: u64,
        epoch: u32,
    },
    /// The decision "commit" was read back.
    Own { plan: PlanId, epoch: u32 },
    /// The decision "abort" was read back.
    Abort { plan: PlanId, reason: FailReason },
}

/// How far the destination's replicated state is. Numbers are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum DestPhase {
    /// Nothing is known of the plan.
    #[default]
    Unknown = 0,
    Importing = 1,
    Ready = 2,
    Owned = 3,
    Aborted = 4,
    /// The plan is over, and so long ago that its outcome is not kept.
    Forgotten = 5,
}

/// The destination's answer to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestStatus {
    pub plan: PlanId,
    /// Destination log index at which this was true; orders answers.
    pub applied: u64,
    pub phase: DestPhase,
    /// The attempt under way, 0 without one.
    pub attempt: u64,
    /// Parts of the attempt that are in the log.
    pub parts: u32,
    /// How many chunks have landed, and the last of them.
    pub chunks: u32,
    pub last_chunk: Option<ChunkRecord>,
    /// How far increments are in; `None` until all chunks have landed.
    pub position: Option<StreamPoint>,
    /// The destination's leader cannot go on for this reason.
    pub failure: Option<FailReason>,
}

impl ToDest {
    pub fn plan(&self) -> PlanId {
        match self {
            Self::Begin { spec } => spec.plan,
            Self::Query { plan }
            | Self::ChunkBegin { plan, .. }
            | Self::ChunkPart { plan, .. }
            | Self::Increments { plan, .. }
            | Self::Ready { plan, .. }
            | Self::Own { plan, .. }
            | Self::Abort { plan, .. } => *plan,
        }
    }

    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        match self {
            Self::Query { plan } => head(&mut out, 1, *plan),
            Self::Begin { spec } => {
                out.put_u8(2);
                spec.encode(&mut out);
            }
            Self::ChunkBegin {
                plan,
                term,
                attempt,
                first,
            } => {
                head(&mut out, 3, *plan);
                out.put_u64(*term);
                out.put_u64(*attempt);
                out.put_u16(*first);
            }
            Self::ChunkPart {
                plan,
                attempt,
                part,
                rows,
                end,
            } => {
                head(&mut out, 4, *plan);
                out.put_u64(*attempt);
                out.put_u32(*part);
                put_chunk(&mut out, end.as_ref());
                out.put_bytes(rows);
            }
            Self::Increments {
                plan,
                after,
                point,
                effects,
            } => {
                head(&mut out, 5, *plan);
                out.put_u64(*after);
                point.encode(&mut out);
                out.put_bytes(effects);
            }
            Self::Ready {
                plan,
                freeze,
                chunks,
                log_time,
                epoch,
            } => {
                head(&mut out, 6, *plan);
                freeze.encode(&mut out);
                out.put_u128(*chunks);
                out.put_u64(*log_time);
                out.put_u32(*epoch);
            }
            Self::Own { plan, epoch } => {
                head(&mut out, 7, *plan);
                out.put_u32(*epoch);
            }
            Self::Abort { plan, reason } => {
                head(&mut out, 8, *plan);
                out.put_u8(reason.number());
            }
        }
        Bytes::from(out)
    }

    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Take::new(bytes);
        check_version(&mut from)?;
        let kind = from.u8()?;
        let message = match kind {
            2 => Self::Begin {
                spec: PlanSpec::decode(&mut from)?,
            },
            _ => {
                let plan = PlanId(from.u64()?);
                Self::decode_of_plan(kind, plan, &mut from)?
            }
        };
        from.finish()?;
        Ok(message)
    }

    fn decode_of_plan(kind: u8, plan: PlanId, from: &mut Take) -> Result<Self, DecodeError> {
        Ok(match kind {
            1 => Self::Query { plan },
            3 => Self::ChunkBegin {
                plan,
                term: from.u64()?,
                attempt: from.u64()?,
                first: from.u16()?,
            },
            4 => Self::ChunkPart {
                plan,
                attempt: from.u64()?,
                part: from.u32()?,
                end: take_chunk(from)?,
                rows: from.bytes()?,
            },
            5 => Self::Increments {
                plan,
                after: from.u64()?,
                point: StreamPoint::decode(from)?,
                effects: from.bytes()?,
            },
            6 => Self::Ready {
                plan,
                freeze: StreamPoint::decode(from)?,
                chunks: from.u128()?,
                log_time: from.u64()?,
                epoch: from.u32()?,
            },
            7 => Self::Own {
                plan,
                epoch: from.u32()?,
            },
            8 => Self::Abort {
                plan,
                reason: FailReason::from_number(from.u8()?)?,
            },
            other => return Err(unknown("migration message", other)),
        })
    }
}

impl DestStatus {
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        out.put_u64(self.plan.0);
        out.put_u64(self.applied);
        out.put_u8(self.phase as u8);
        out.put_u64(self.attempt);
        out.put_u32(self.parts);
        out.put_u32(self.chunks);
        put_chunk(&mut out, self.last_chunk.as_ref());
        put_point(&mut out, self.position.as_ref());
        out.put_u8(self.failure.map_or(0, FailReason::number));
        Bytes::from(out)
    }

    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Take::new(bytes);
        check_version(&mut from)?;
        let status = Self {
            plan: PlanId(from.u64()?),
            applied: from.u64()?,
            phase: DestPhase::from_number(from.u8()?)?,
            attempt: from.u64()?,
            parts: from.u32()?,
            chunks: from.u32()?,
            last_chunk: take_chunk(&mut from)?,
            position: take_point(&mut from)?,
            failure: match from.u8()? {
                0 => None,
                number => Some(FailReason::from_number(number)?),
            },
        };
        from.finish()?;
        Ok(status)
    }
}

impl DestPhase {
    fn from_number(number: u8) -> Result<Self, DecodeError> {
        Ok(match number {
            0 => Self::Unknown,
            1 => Self::Importing,
            2 => Self::Ready,
            3 => Self::Owned,
            4 => Self::Aborted,
            5 => Self::Forgotten,
            other => return Err(unknown("destination phase", other)),
        })
    }
}

fn head(out: &mut Vec<u8>, kind: u8, plan: PlanId) {
    out.put_u8(kind);
    out.put_u64(plan.0);
}

fn unknown(what: &'static str, number: u8) -> DecodeError {
    DecodeError::Unknown {
        what,
        number: u64::from(number),
    }
}

fn check_version(from: &mut Take) -> Result<(), DecodeError> {
    match from.u8()? {
        VERSION => Ok(()),
        other => Err(unknown("migration message version", other)),
    }
}

/// `present u8 | record`
fn put_chunk(out: &mut Vec<u8>, chunk: Option<&ChunkRecord>) {
    out.put_u8(u8::from(chunk.is_some()));
    if let Some(chunk) = chunk {
        chunk.encode(out);
    }
}

fn take_chunk(from: &mut Take) -> Result<Option<ChunkRecord>, DecodeError> {
    from.flag()?.then(|| ChunkRecord::decode(from)).transpose()
}

/// `present u8 | point`
pub(super) fn put_point(out: &mut Vec<u8>, point: Option<&StreamPoint>) {
    out.put_u8(u8::from(point.is_some()));
    if let Some(point) = point {
        point.encode(out);
    }
}

pub(super) fn take_point(from: &mut Take) -> Result<Option<StreamPoint>, DecodeError> {
    from.flag()?.then(|| StreamPoint::decode(from)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::{GroupId, Limits, SlotRanges, StreamHash};

    fn chunk() -> ChunkRecord {
        ChunkRecord {
            first: 1,
            last: 2,
            index: 3,
            rows: 4,
            bytes: 5,
            digest: 6,
        }
    }

    fn messages() -> Vec<ToDest> {
        let plan = PlanId(9);
        let point = StreamPoint {
            through: 8,
            hash: StreamHash(7),
        };
        let spec = PlanSpec {
            plan,
            from: GroupId(1),
            to: GroupId(2),
            slots: SlotRanges::from_run(0, 5).unwrap(),
            limits: Limits::default(),
        };
        vec![
            ToDest::Query { plan },
            ToDest::Begin { spec },
            ToDest::ChunkBegin {
                plan,
                term: 1,
                attempt: 2,
                first: 3,
            },
            ToDest::ChunkPart {
                plan,
                attempt: 2,
                part: 1,
                rows: Bytes::from_static(b"rows"),
                end: Some(chunk()),
            },
            ToDest::Increments {
                plan,
                after: 7,
                point,
                effects: Bytes::from_static(b"effects"),
            },
            ToDest::Ready {
                plan,
                freeze: point,
                chunks: 1,
                log_time: 2,
                epoch: 3,
            },
            ToDest::Own { plan, epoch: 3 },
            ToDest::Abort {
                plan,
                reason: FailReason::Requested,
            },
        ]
    }

    #[test]
    fn every_message_survives_its_bytes_and_no_prefix_passes() {
        for message in messages() {
            let bytes = message.encode();
            assert_eq!(ToDest::decode(bytes.clone()), Ok(message));
            for cut in 0..bytes.len() {
                assert!(ToDest::decode(bytes.slice(..cut)).is_err());
            }
        }
    }

    #[test]
    fn a_status_survives_its_bytes_and_has_frozen_ones() {
        let status = DestStatus {
            plan: PlanId(9),
            applied: 8,
            phase: DestPhase::Importing,
            attempt: 7,
            parts: 6,
            chunks: 5,
            last_chunk: Some(chunk()),
            position: None,
            failure: Some(FailReason::ImportFailed),
        };
        let bytes = status.encode();
        assert_eq!(DestStatus::decode(bytes.clone()), Ok(status));
        let golden = [
            &[1u8][..],
            &9u64.to_be_bytes(),
            &8u64.to_be_bytes(),
            &[1],
            &7u64.to_be_bytes(),
            &6u32.to_be_bytes(),
            &5u32.to_be_bytes(),
            &[1, 0, 1, 0, 2],
            &3u64.to_be_bytes(),
            &4u64.to_be_bytes(),
            &5u64.to_be_bytes(),
            &6u128.to_be_bytes(),
            &[0, 11],
        ];
        assert_eq!(&bytes[..], golden.concat());
    }
}
