//! The Raft entries of a move.
//!
//! ```text
//! version u8 = 1 | kind u8 | fields of the kind, big-endian
//! ```
//! Kinds and field orders are frozen. Rows and effects ride in the same entry
//! as the state change that accounts for them, as the last field.

use super::codec::{DecodeError, Put, Take};
use super::digest::StreamHash;
use super::plan::{ChunkRecord, FailReason, PlanId, PlanSpec, StreamPoint};
use super::slots::SlotRanges;
use bytes::Bytes;

const VERSION: u8 = 1;

/// A replicated change of a group's migration state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigrationEntry {
    /// The first slots of a group, once, when the cluster is made.
    Assign { slots: SlotRanges, epoch: u32 },

    /// Source: the plan is known; from here on every replica holds its log.
    SourceBegin { spec: PlanSpec },
    /// Source: the destination has this chunk in its own log.
    ChunkDone { plan: PlanId, chunk: ChunkRecord },
    /// Source: the destination holds everything due up to `point`.
    Checkpoint { plan: PlanId, point: StreamPoint },
    /// Source: neither reads nor writes of the slots from this entry on.
    Freeze { plan: PlanId },
    /// Source: the destination owns the slots; their data here is garbage.
    Release { plan: PlanId, pause_ms: u64 },
    /// Source: the plan is decided "abort"; frozen slots are served again.
    SourceAbort { plan: PlanId, reason: FailReason },

    /// Destination: the slots are being imported.
    DestBegin { spec: PlanSpec },
    /// Destination: a new attempt at the chunk that starts at `first`; what
    /// an earlier attempt staged is dropped.
    ChunkBegin {
        plan: PlanId,
        /// Raft term of the source leader; a lower one than before is refused.
        term: u64,
        attempt: u64,
        first: u16,
    },
    /// Destination: rows of the chunk.
    ChunkPart {
        plan: PlanId,
        attempt: u64,
        part: u32,
        rows: Bytes,
    },
    /// Destination: all `parts` are staged and digest to what was exported.
    ChunkLanded {
        plan: PlanId,
        attempt: u64,
        parts: u32,
        chunk: ChunkRecord,
    },
    /// Destination: the effects of source entries `after+1..=through`.
    IncrementApplied {
        plan: PlanId,
        after: u64,
        point: StreamPoint,
        /// [`super::IncrementRecords`].
        effects: Bytes,
    },
    /// Destination: complete up to the source's FREEZE.
    Ready {
        plan: PlanId,
        freeze: StreamPoint,
        /// Fold of the chunk records, equal on both sides.
        chunks: u128,
        /// Source's log time at FREEZE; this group's is not below it after.
        log_time: u64,
        epoch: u32,
    },
    /// Destination: the plan is decided "commit"; serve.
    Own { plan: PlanId, epoch: u32 },
    /// Destination: the plan is decided "abort"; drop the import.
    DestAbort { plan: PlanId, reason: FailReason },
}

impl MigrationEntry {
    /// The plan that the entry belongs to; `None` for the first assignment.
    pub fn plan(&self) -> Option<PlanId> {
        match self {
            Self::Assign { .. } => None,
            Self::SourceBegin { spec } | Self::DestBegin { spec } => Some(spec.plan),
            Self::ChunkDone { plan, .. }
            | Self::Checkpoint { plan, .. }
            | Self::Freeze { plan }
            | Self::Release { plan, .. }
            | Self::SourceAbort { plan, .. }
            | Self::ChunkBegin { plan, .. }
            | Self::ChunkPart { plan, .. }
            | Self::ChunkLanded { plan, .. }
            | Self::IncrementApplied { plan, .. }
            | Self::Ready { plan, .. }
            | Self::Own { plan, .. }
            | Self::DestAbort { plan, .. } => Some(*plan),
        }
    }

    /// Bytes of rows that it brings along.
    pub fn bulk_bytes(&self) -> u64 {
        match self {
            Self::ChunkPart { rows, .. } => rows.len() as u64,
            Self::IncrementApplied { effects, .. } => effects.len() as u64,
            _ => 0,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Assign { .. } => 1,
            Self::SourceBegin { .. } => 10,
            Self::ChunkDone { .. } => 11,
            Self::Checkpoint { .. } => 12,
            Self::Freeze { .. } => 13,
            Self::Release { .. } => 14,
            Self::SourceAbort { .. } => 15,
            Self::DestBegin { .. } => 20,
            Self::ChunkBegin { .. } => 21,
            Self::ChunkPart { .. } => 22,
            Self::ChunkLanded { .. } => 23,
            Self::IncrementApplied { .. } => 24,
            Self::Ready { .. } => 25,
            Self::Own { .. } => 26,
            Self::DestAbort { .. } => 27,
        }
    }

    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION, self.kind()];
        self.encode_fields(&mut out);
        Bytes::from(out)
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        if let Some(plan) = self.plan_field() {
            out.put_u64(plan.0);
        }
        match self {
            Self::Assign { slots, epoch } => {
                out.put_u32(*epoch);
                slots.encode(out);
            }
            Self::SourceBegin { spec } | Self::DestBegin { spec } => spec.encode(out),
            Self::ChunkDone { chunk, .. } => chunk.encode(out),
            Self::Checkpoint { point, .. } => point.encode(out),
            Self::Freeze { .. } => {}
            Self::Release { pause_ms, .. } => out.put_u64(*pause_ms),
            Self::SourceAbort { reason, .. } | Self::DestAbort { reason, .. } => {
                out.put_u8(reason.number());
            }
            Self::Own { epoch, .. } => out.put_u32(*epoch),
            _ => self.encode_import_fields(out),
        }
    }

    fn encode_import_fields(&self, out: &mut Vec<u8>) {
        match self {
            Self::ChunkBegin {
                term,
                attempt,
                first,
                ..
            } => {
                out.put_u64(*term);
                out.put_u64(*attempt);
                out.put_u16(*first);
            }
            Self::ChunkPart {
                attempt,
                part,
                rows,
                ..
            } => {
                out.put_u64(*attempt);
                out.put_u32(*part);
                out.put_bytes(rows);
            }
            Self::ChunkLanded {
                attempt,
                parts,
                chunk,
                ..
            } => {
                out.put_u64(*attempt);
                out.put_u32(*parts);
                chunk.encode(out);
            }
            Self::IncrementApplied {
                after,
                point,
                effects,
                ..
            } => {
                out.put_u64(*after);
                point.encode(out);
                out.put_bytes(effects);
            }
            Self::Ready {
                freeze,
                chunks,
                log_time,
                epoch,
                ..
            } => {
                freeze.encode(out);
                out.put_u128(*chunks);
                out.put_u64(*log_time);
                out.put_u32(*epoch);
            }
            _ => unreachable!("encode_fields has handled every other kind"),
        }
    }

    /// The plan where it is a field of its own rather than part of a spec.
    fn plan_field(&self) -> Option<PlanId> {
        match self {
            Self::SourceBegin { .. } | Self::DestBegin { .. } => None,
            other => other.plan(),
        }
    }

    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Take::new(bytes);
        let version = from.u8()?;
        if version != VERSION {
            return Err(DecodeError::Unknown {
                what: "migration entry version",
                number: u64::from(version),
            });
        }
        let kind = from.u8()?;
        let entry = match kind {
            1 => Self::Assign {
                epoch: from.u32()?,
                slots: SlotRanges::decode(&mut from)?,
            },
            10 => Self::SourceBegin {
                spec: PlanSpec::decode(&mut from)?,
            },
            20 => Self::DestBegin {
                spec: PlanSpec::decode(&mut from)?,
            },
            _ => {
                let plan = PlanId(from.u64()?);
                Self::decode_of_plan(kind, plan, &mut from)?
            }
        };
        from.finish()?;
        Ok(entry)
    }

    fn decode_of_plan(kind: u8, plan: PlanId, from: &mut Take) -> Result<Self, DecodeError> {
        Ok(match kind {
            11 => Self::ChunkDone {
                plan,
                chunk: ChunkRecord::decode(from)?,
            },
            12 => Self::Checkpoint {
                plan,
                point: StreamPoint::decode(from)?,
            },
            13 => Self::Freeze { plan },
            14 => Self::Release {
                plan,
                pause_ms: from.u64()?,
            },
            15 => Self::SourceAbort {
                plan,
                reason: FailReason::from_number(from.u8()?)?,
            },
            26 => Self::Own {
                plan,
                epoch: from.u32()?,
            },
            27 => Self::DestAbort {
                plan,
                reason: FailReason::from_number(from.u8()?)?,
            },
            _ => Self::decode_import(kind, plan, from)?,
        })
    }

    fn decode_import(kind: u8, plan: PlanId, from: &mut Take) -> Result<Self, DecodeError> {
        Ok(match kind {
            21 => Self::ChunkBegin {
                plan,
                term: from.u64()?,
                attempt: from.u64()?,
                first: from.u16()?,
            },
            22 => Self::ChunkPart {
                plan,
                attempt: from.u64()?,
                part: from.u32()?,
                rows: from.bytes()?,
            },
            23 => Self::ChunkLanded {
                plan,
                attempt: from.u64()?,
                parts: from.u32()?,
                chunk: ChunkRecord::decode(from)?,
            },
            24 => Self::IncrementApplied {
                plan,
                after: from.u64()?,
                point: StreamPoint::decode(from)?,
                effects: from.bytes()?,
            },
            25 => Self::Ready {
                plan,
                freeze: StreamPoint {
                    through: from.u64()?,
                    hash: StreamHash(from.u128()?),
                },
                chunks: from.u128()?,
                log_time: from.u64()?,
                epoch: from.u32()?,
            },
            other => {
                return Err(DecodeError::Unknown {
                    what: "migration entry kind",
                    number: u64::from(other),
                });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::{GroupId, Limits};

    fn spec() -> PlanSpec {
        PlanSpec {
            plan: PlanId(7),
            from: GroupId(1),
            to: GroupId(2),
            slots: SlotRanges::from_slots([3, 4, 9]).unwrap(),
            limits: Limits {
                max_rate: 1,
                max_pause_ms: 2,
                log_limit: 3,
                catch_up_ms: 4,
            },
        }
    }

    fn one_of_each() -> Vec<MigrationEntry> {
        let plan = PlanId(7);
        let chunk = ChunkRecord {
            first: 3,
            last: 9,
            index: 0x11,
            rows: 0x12,
            bytes: 0x13,
            digest: 0x14,
        };
        let point = StreamPoint {
            through: 0x21,
            hash: StreamHash(0x22),
        };
        let reason = FailReason::PauseExceeded;
        let text = Bytes::from_static(b"rows");
        vec![
            MigrationEntry::Assign {
                slots: spec().slots,
                epoch: 5,
            },
            MigrationEntry::SourceBegin { spec: spec() },
            MigrationEntry::ChunkDone { plan, chunk },
            MigrationEntry::Checkpoint { plan, point },
            MigrationEntry::Freeze { plan },
            MigrationEntry::Release { plan, pause_ms: 6 },
            MigrationEntry::SourceAbort { plan, reason },
            MigrationEntry::DestBegin { spec: spec() },
            MigrationEntry::ChunkBegin {
                plan,
                term: 0x31,
                attempt: 0x32,
                first: 0x33,
            },
            MigrationEntry::ChunkPart {
                plan,
                attempt: 0x32,
                part: 0x34,
                rows: text.clone(),
            },
            MigrationEntry::ChunkLanded {
                plan,
                attempt: 0x32,
                parts: 0x35,
                chunk,
            },
            MigrationEntry::IncrementApplied {
                plan,
                after: 0x41,
                point,
                effects: text,
            },
            MigrationEntry::Ready {
                plan,
                freeze: point,
                chunks: 0x51,
                log_time: 0x52,
                epoch: 0x53,
            },
            MigrationEntry::Own { plan, epoch: 0x54 },
            MigrationEntry::DestAbort { plan, reason },
        ]
    }

    #[test]
    fn every_entry_has_frozen_bytes() {
        let hex = |entry: &MigrationEntry| {
            let bytes = entry.encode();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let found: Vec<String> = one_of_each().iter().map(hex).collect();
        let golden: Vec<&str> = include_str!("entry_golden.txt").lines().collect();
        assert_eq!(found, golden, "entries are on disk and on the wire");
    }

    #[test]
    fn every_entry_survives_its_bytes_and_no_prefix_passes() {
        for entry in one_of_each() {
            let bytes = entry.encode();
            assert_eq!(MigrationEntry::decode(bytes.clone()), Ok(entry));
            for cut in 0..bytes.len() {
                assert!(MigrationEntry::decode(bytes.slice(..cut)).is_err());
            }
            let mut longer = bytes.to_vec();
            longer.push(0);
            assert!(MigrationEntry::decode(Bytes::from(longer)).is_err());
        }
    }

    #[test]
    fn an_unknown_version_or_kind_is_refused() {
        assert!(
            MigrationEntry::decode(Bytes::from_static(&[2, 13, 0, 0, 0, 0, 0, 0, 0, 7])).is_err()
        );
        assert!(
            MigrationEntry::decode(Bytes::from_static(&[1, 99, 0, 0, 0, 0, 0, 0, 0, 7])).is_err()
        );
    }
}
