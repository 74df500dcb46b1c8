//! Rows, records and effects of the model world: a small copy of how the store
//! lays out records, the rows below them, and the expiry index.

use crate::migration::RowDigest;
use std::collections::BTreeMap;

/// A key of a client: slot, database, name.
pub(super) type Key = (u16, u8, u8);

/// Column families, as in the store. `Expiry` stays at home: each side makes its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Meta,
    Data,
    Score,
    Payload,
    Expiry,
}

const FAMILIES: [Family; 5] = [
    Family::Meta,
    Family::Data,
    Family::Score,
    Family::Payload,
    Family::Expiry,
];

/// Where a row is: as on disk, in the order of an export.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) slot: u16,
    pub(super) db: u8,
    pub(super) family: Family,
    pub(super) key: Vec<u8>,
}

pub(super) type Rows = BTreeMap<Place, Vec<u8>>;

/// Ties rows to their record: the slot's epoch, and the group's counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) epoch: u32,
    pub(super) counter: u64,
}

const VERSION_LEN: usize = 12;

impl Version {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.epoch.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    /// The version at the head of a row's key.
    pub(super) fn of_row(key: &[u8]) -> Self {
        Self {
            epoch: u32::from_be_bytes(key[..4].try_into().unwrap()),
            counter: u64::from_be_bytes(key[4..VERSION_LEN].try_into().unwrap()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Hash,
    List,
    Set,
    Scored,
    /// A long string: its elements are fragments, which no filter collects.
    Long,
}

const KINDS: [Kind; 6] = [
    Kind::Number,
    Kind::Hash,
    Kind::List,
    Kind::Set,
    Kind::Scored,
    Kind::Long,
];

pub(super) type Elements = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Number(i64),
    Packed(Elements),
    Spread { version: Version, size: u32 },
}

/// The value of a row of `Meta`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    /// Unix ms; 0 is none.
    pub(super) expires: u64,
    pub(super) body: Body,
}

impl Record {
    pub(super) fn number(number: i64, expires: u64) -> Self {
        Self {
            kind: Kind::Number,
            expires,
            body: Body::Number(number),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![KINDS.iter().position(|kind| *kind == self.kind).unwrap() as u8];
        out.extend_from_slice(&self.expires.to_be_bytes());
        match &self.body {
            Body::Number(number) => {
                out.push(0);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Body::Packed(elements) => {
                out.push(1);
                for (element, value) in elements {
                    put_bytes(&mut out, element);
                    put_bytes(&mut out, value);
                }
            }
            Body::Spread { version, size } => {
                out.push(2);
                out.extend_from_slice(&version.to_bytes());
                out.extend_from_slice(&size.to_be_bytes());
            }
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        let rest = &mut &bytes[10..];
        let body = match bytes[9] {
            0 => Body::Number(i64::from_be_bytes((*rest).try_into().unwrap())),
            1 => {
                let mut elements = Elements::new();
                while !rest.is_empty() {
                    elements.insert(take_bytes(rest), take_bytes(rest));
                }
                Body::Packed(elements)
            }
            _ => Body::Spread {
                version: Version::of_row(rest),
                size: u32::from_be_bytes(rest[VERSION_LEN..].try_into().unwrap()),
            },
        };
        Self {
            kind: KINDS[bytes[0] as usize],
            expires: u64::from_be_bytes(bytes[1..9].try_into().unwrap()),
            body,
        }
    }

    pub(super) fn version(&self) -> Option<Version> {
        match self.body {
            Body::Spread { version, .. } => Some(version),
            _ => None,
        }
    }

    pub(super) fn is_expired(&self, now: u64) -> bool {
        self.expires != 0 && self.expires <= now
    }
}

pub(super) fn meta((slot, db, name): Key) -> Place {
    Place {
        slot,
        db,
        family: Family::Meta,
        key: vec![name],
    }
}

/// The row of an element, or of the back-reference (`element` empty).
pub(super) fn row((slot, db, _): Key, family: Family, version: Version, element: &[u8]) -> Place {
    let mut key = version.to_bytes();
    key.extend_from_slice(element);
    Place {
        slot,
        db,
        family,
        key,
    }
}

fn index_row(place: &Place, expires: u64) -> Place {
    let mut key = expires.to_be_bytes().to_vec();
    key.extend_from_slice(&place.key);
    Place {
        family: Family::Expiry,
        key,
        ..*place
    }
}

/// A logical effect. `Add` and `Swap` are wrong when applied twice, so that a
/// repeated or overlapping increment is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// A record or a row.
    Put(Place, Vec<u8>),
    Add(Place, i64),
    Delete(Place),
    /// All rows of one version in the family of the place.
    DeleteRows(Place),
    /// A row of the expiry index whose record the filter has dropped.
    DropExpiry(Place),
    Flush {
        slot: u16,
        db: u8,
    },
    Swap {
        slot: u16,
    },
}

impl Effect {
    pub(super) fn slot(&self) -> u16 {
        match self {
            Self::Put(place, _)
            | Self::Add(place, _)
            | Self::Delete(place)
            | Self::DeleteRows(place)
            | Self::DropExpiry(place) => place.slot,
            Self::Flush { slot, .. } | Self::Swap { slot } => *slot,
        }
    }

    /// A counter that is above the versions that come with an import as well, as an
    /// entry carries the source's counter: the filter may judge their rows.
    pub(super) fn above_versions(&self, counter: u64) -> u64 {
        let below = |family| matches!(family, Family::Data | Family::Score | Family::Payload);
        match self {
            Self::Put(place, _) if below(place.family) => {
                counter.max(Version::of_row(&place.key).counter + 1)
            }
            _ => counter,
        }
    }

    /// The expiry index follows what `rows` holds, not what the source held.
    pub(super) fn apply(&self, rows: &mut Rows) {
        match self {
            Self::Put(place, value) if place.family == Family::Meta => {
                put_record(rows, place, Some(value.clone()));
            }
            Self::Delete(place) if place.family == Family::Meta => put_record(rows, place, None),
            Self::Put(place, value) => drop(rows.insert(place.clone(), value.clone())),
            Self::Delete(place) | Self::DropExpiry(place) => drop(rows.remove(place)),
            Self::Add(place, by) => {
                // An export leaves out what is expired or deleted by now, and the
                // increments then meet what it was before.
                let Some(value) = rows.get_mut(place) else {
                    return;
                };
                let mut record = Record::decode(value);
                let Body::Number(number) = &mut record.body else {
                    panic!("added to {record:?}");
                };
                *number += by;
                *value = record.encode();
            }
            Self::DeleteRows(first) => {
                let doomed: Vec<Place> = rows_below(rows, first).map(|row| row.0.clone()).collect();
                doomed.iter().for_each(|place| drop(rows.remove(place)));
            }
            Self::Flush { slot, db } => {
                let flushed = |place: &Place| place.db == *db;
                drop(take_out(rows, *slot, flushed));
            }
            Self::Swap { slot } => swap(rows, *slot),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Put(place, value) => encode(0, place, value),
            Self::Add(place, by) => encode(1, place, &by.to_be_bytes()),
            Self::Delete(place) => encode(2, place, &[]),
            Self::Flush { slot, db } => encode(3, &meta((*slot, *db, 0)), &[]),
            Self::Swap { slot } => encode(4, &meta((*slot, 0, 0)), &[]),
            Self::DeleteRows(place) => encode(5, place, &[]),
            Self::DropExpiry(place) => encode(6, place, &[]),
        }
    }

    pub(super) fn decode_all(mut bytes: &[u8]) -> Vec<Self> {
        let mut effects = Vec::new();
        while !bytes.is_empty() {
            effects.push(Self::decode(&mut bytes));
        }
        effects
    }

    fn decode(rest: &mut &[u8]) -> Self {
        let (head, tail) = rest.split_at(5);
        *rest = tail;
        let place = Place {
            slot: u16::from_be_bytes([head[1], head[2]]),
            db: head[3],
            family: FAMILIES[head[4] as usize],
            key: take_bytes(rest),
        };
        let value = take_bytes(rest);
        match head[0] {
            0 => Self::Put(place, value),
            1 => Self::Add(place, i64::from_be_bytes(value.try_into().unwrap())),
            2 => Self::Delete(place),
            3 => Self::Flush {
                slot: place.slot,
                db: place.db,
            },
            4 => Self::Swap { slot: place.slot },
            5 => Self::DeleteRows(place),
            6 => Self::DropExpiry(place),
            other => panic!("effect {other}"),
        }
    }
}

fn encode(kind: u8, place: &Place, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&place.slot.to_be_bytes());
    bytes.extend_from_slice(&[place.db, place.family as u8]);
    put_bytes(&mut bytes, &place.key);
    put_bytes(&mut bytes, value);
    bytes
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take_bytes(rest: &mut &[u8]) -> Vec<u8> {
    let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    let (bytes, tail) = rest[2..].split_at(len);
    *rest = tail;
    bytes.to_vec()
}

fn put_record(rows: &mut Rows, place: &Place, value: Option<Vec<u8>>) {
    let expires = |value: &Vec<u8>| Record::decode(value).expires;
    let old = rows.get(place).map_or(0, expires);
    let new = value.as_ref().map_or(0, expires);
    if old != 0 {
        rows.remove(&index_row(place, old));
    }
    if new != 0 {
        rows.insert(index_row(place, new), Vec::new());
    }
    match value {
        Some(value) => rows.insert(place.clone(), value),
        None => rows.remove(place),
    };
}

fn swap(rows: &mut Rows, slot: u16) {
    for (place, value) in take_out(rows, slot, |_| true) {
        let db = 1 - place.db;
        rows.insert(Place { db, ..place }, value);
    }
}

fn take_out(rows: &mut Rows, slot: u16, wanted: impl Fn(&Place) -> bool) -> Vec<(Place, Vec<u8>)> {
    let places = of_slot(rows, slot).filter(|(place, _)| wanted(place));
    let places: Vec<Place> = places.map(|(place, _)| place.clone()).collect();
    places
        .into_iter()
        .map(|place| {
            let value = rows.remove(&place).expect("it was found");
            (place, value)
        })
        .collect()
}

/// Rows of the same family whose keys begin with that of `first`, and that row.
pub(super) fn rows_below<'a>(
    rows: &'a Rows,
    first: &'a Place,
) -> impl Iterator<Item = (&'a Place, &'a Vec<u8>)> {
    rows.range(first..).take_while(|(place, _)| {
        (place.slot, place.db, place.family) == (first.slot, first.db, first.family)
            && place.key.starts_with(&first.key)
    })
}

/// All rows of one slot.
pub(super) fn of_slot(rows: &Rows, slot: u16) -> impl Iterator<Item = (&Place, &Vec<u8>)> {
    let first = meta_of_all(slot, 0);
    rows.range(first..)
        .take_while(move |(place, _)| place.slot == slot)
}

/// Before every row of a database of a slot.
fn meta_of_all(slot: u16, db: u8) -> Place {
    Place {
        slot,
        db,
        family: Family::Meta,
        key: Vec::new(),
    }
}

/// The rows of some slots.
pub(super) fn of_slots(rows: &Rows, wanted: impl Fn(u16) -> bool) -> Rows {
    let moving = rows.iter().filter(|(place, _)| wanted(place.slot));
    moving
        .map(|(place, value)| (place.clone(), value.clone()))
        .collect()
}

/// How many keys the log knows in one database of a slot: what has expired counts
/// until its row of the index is gone, whatever the filter has dropped.
pub(super) fn count(rows: &Rows, slot: u16, db: u8) -> usize {
    let rows = rows
        .range(meta_of_all(slot, db)..)
        .take_while(|(place, _)| (place.slot, place.db) == (slot, db));
    let counts = |(place, value): &(&Place, &Vec<u8>)| match place.family {
        Family::Meta => Record::decode(value).expires == 0,
        family => family == Family::Expiry,
    };
    rows.filter(counts).count()
}

/// Adds one row to a digest.
pub(super) fn digest_row(digest: &mut RowDigest, place: &Place, value: &[u8]) {
    let bytes = encode(0, place, &[]);
    digest.add(&bytes, value);
}
