//! How the migration state lies in the family `system`.
//!
//! Rows, not one blob, so that an increment rewrites some dozens of bytes and
//! not the list of chunks. Keys (below a prefix that storage chooses):
//!
//! ```text
//! 1                          slot ownership
//! 2 | plan u64               finished plan: role, outcome, reason, epoch, pause
//! 3 | plan u64               plan spec and role
//! 4 | plan u64               head: what changes often
//! 5 | plan u64 | number u32  chunk record
//! 6                          watermark: plans up to it are forgotten
//! ```
//! Every value begins with `version u8 = 1`.

use super::codec::{DecodeError, Put, Take};
use super::plan::PlanId;
use bytes::Bytes;

const VERSION: u8 = 1;

/// Names one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    Ownership,
    Finished(PlanId),
    Spec(PlanId),
    Head(PlanId),
    Chunk(PlanId, u32),
    Watermark,
}

impl RowKey {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(13);
        match *self {
            Self::Ownership => out.put_u8(1),
            Self::Watermark => out.put_u8(6),
            Self::Finished(plan) => put_key(&mut out, 2, plan),
            Self::Spec(plan) => put_key(&mut out, 3, plan),
            Self::Head(plan) => put_key(&mut out, 4, plan),
            Self::Chunk(plan, number) => {
                put_key(&mut out, 5, plan);
                out.put_u32(number);
            }
        }
        out
    }

    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Take::new(bytes);
        let key = match from.u8()? {
            1 => Self::Ownership,
            2 => Self::Finished(PlanId(from.u64()?)),
            3 => Self::Spec(PlanId(from.u64()?)),
            4 => Self::Head(PlanId(from.u64()?)),
            5 => Self::Chunk(PlanId(from.u64()?), from.u32()?),
            6 => Self::Watermark,
            other => {
                return Err(DecodeError::Unknown {
                    what: "migration row",
                    number: u64::from(other),
                });
            }
        };
        from.finish()?;
        Ok(key)
    }
}

fn put_key(out: &mut Vec<u8>, kind: u8, plan: PlanId) {
    out.put_u8(kind);
    out.put_u64(plan.0);
}

/// A change to make in the same write batch as the applied index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: RowKey,
    /// `None` deletes the row.
    pub value: Option<Bytes>,
}

impl Row {
    pub(super) fn put(key: RowKey, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut value = vec![VERSION];
        fill(&mut value);
        Self {
            key,
            value: Some(Bytes::from(value)),
        }
    }

    pub(super) fn delete(key: RowKey) -> Self {
        Self { key, value: None }
    }
}

/// The fields of a row's value, after its version.
pub(super) fn open(value: Bytes) -> Result<Take, DecodeError> {
    let mut from = Take::new(value);
    match from.u8()? {
        VERSION => Ok(from),
        other => Err(DecodeError::Unknown {
            what: "migration row version",
            number: u64::from(other),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_keys_have_frozen_bytes() {
        let plan = PlanId(0x0102);
        let cases = [
            (RowKey::Ownership, vec![1]),
            (RowKey::Finished(plan), vec![2, 0, 0, 0, 0, 0, 0, 1, 2]),
            (RowKey::Spec(plan), vec![3, 0, 0, 0, 0, 0, 0, 1, 2]),
            (RowKey::Head(plan), vec![4, 0, 0, 0, 0, 0, 0, 1, 2]),
            (
                RowKey::Chunk(plan, 0x0304),
                vec![5, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4],
            ),
            (RowKey::Watermark, vec![6]),
        ];
        for (key, bytes) in cases {
            assert_eq!(key.encode(), bytes);
            assert_eq!(RowKey::decode(Bytes::from(bytes)), Ok(key));
        }
        assert!(RowKey::decode(Bytes::from_static(&[7])).is_err());
        assert!(RowKey::decode(Bytes::from_static(&[1, 0])).is_err());
    }
}
