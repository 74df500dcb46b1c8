//! Keys, values and effects of the model world.

use crate::migration::RowDigest;
use std::collections::BTreeMap;

/// Slot, client's database, key.
pub(super) type Place = (u16, u8, u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) number: i64,
    /// Unix ms; 0 is none.
    pub(super) expires: u64,
}

pub(super) type Rows = BTreeMap<Place, Value>;

/// A logical effect on one slot. `Add` and `Swap` are wrong when applied
/// twice, so that a repeated or overlapping increment is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Put(Place, Value),
    Add(Place, i64),
    Delete(Place),
    Flush { slot: u16, db: u8 },
    Swap { slot: u16 },
}

impl Effect {
    pub(super) fn slot(&self) -> u16 {
        match *self {
            Self::Put(place, _) | Self::Add(place, _) | Self::Delete(place) => place.0,
            Self::Flush { slot, .. } | Self::Swap { slot } => slot,
        }
    }

    pub(super) fn apply(&self, rows: &mut Rows) {
        match *self {
            Self::Put(place, value) => {
                rows.insert(place, value);
            }
            Self::Add(place, by) => {
                let none = Value {
                    number: 0,
                    expires: 0,
                };
                rows.entry(place).or_insert(none).number += by;
            }
            Self::Delete(place) => {
                rows.remove(&place);
            }
            Self::Flush { slot, db } => {
                rows.retain(|place, _| (place.0, place.1) != (slot, db));
            }
            Self::Swap { slot } => swap(rows, slot),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Put(place, value) => encode(0, place, value.number, value.expires),
            Self::Add(place, by) => encode(1, place, by, 0),
            Self::Delete(place) => encode(2, place, 0, 0),
            Self::Flush { slot, db } => encode(3, (slot, db, 0), 0, 0),
            Self::Swap { slot } => encode(4, (slot, 0, 0), 0, 0),
        }
    }

    pub(super) fn decode_all(bytes: &[u8]) -> Vec<Self> {
        bytes.chunks(WIDTH).map(Self::decode).collect()
    }

    fn decode(bytes: &[u8]) -> Self {
        let place = (u16::from_be_bytes([bytes[1], bytes[2]]), bytes[3], bytes[4]);
        let number = i64::from_be_bytes(bytes[5..13].try_into().unwrap());
        let expires = u64::from_be_bytes(bytes[13..21].try_into().unwrap());
        match bytes[0] {
            0 => Self::Put(place, Value { number, expires }),
            1 => Self::Add(place, number),
            2 => Self::Delete(place),
            3 => Self::Flush {
                slot: place.0,
                db: place.1,
            },
            4 => Self::Swap { slot: place.0 },
            other => panic!("effect {other}"),
        }
    }
}

const WIDTH: usize = 21;

fn encode(kind: u8, place: Place, number: i64, expires: u64) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&place.0.to_be_bytes());
    bytes.extend_from_slice(&[place.1, place.2]);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&expires.to_be_bytes());
    bytes
}

fn swap(rows: &mut Rows, slot: u16) {
    let places: Vec<Place> = rows
        .keys()
        .copied()
        .filter(|place| place.0 == slot)
        .collect();
    let taken: Vec<(Place, Value)> = places
        .into_iter()
        .map(|place| (place, rows.remove(&place).unwrap()))
        .collect();
    for ((slot, db, key), value) in taken {
        rows.insert((slot, 1 - db, key), value);
    }
}

/// The rows of some slots.
pub(super) fn of_slots(rows: &Rows, wanted: impl Fn(u16) -> bool) -> Rows {
    let moving = rows.iter().filter(|(place, _)| wanted(place.0));
    moving.map(|(place, value)| (*place, *value)).collect()
}

pub(super) fn digest(rows: &Rows) -> RowDigest {
    let mut digest = RowDigest::default();
    for (&place, value) in rows {
        let row = Effect::Put(place, *value).encode();
        digest.add(&row[1..5], &row[5..]);
    }
    digest
}
