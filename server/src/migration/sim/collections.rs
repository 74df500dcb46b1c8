//! What a group's evaluator does with keys: reads them through records and rows,
//! and yields effects. Small collections are packed into their record, larger ones
//! spread over rows under a version that was never used before.

use super::model::{
    Body, Effect, Elements, Family, Key, Kind, Place, Record, Rows, Version, meta, row, rows_below,
};
use std::collections::BTreeMap;

/// Elements that a record holds itself.
const PACKED_MAX: usize = 3;

/// A key as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: Kind,
    pub(super) expires: u64,
    pub(super) number: i64,
    pub(super) elements: Elements,
}

/// What `rows` holds under `key`; a collection of which rows are missing or too
/// many is a broken promise.
pub(super) fn see(rows: &Rows, key: Key, now: u64) -> Option<Seen> {
    let record = Record::decode(rows.get(&meta(key))?);
    if record.is_expired(now) {
        return None;
    }
    let (number, elements) = match &record.body {
        Body::Number(number) => (*number, Elements::new()),
        Body::Packed(elements) => (0, elements.clone()),
        Body::Spread { version, size } => {
            let elements = elements_of(rows, key, record.kind, *version);
            assert_eq!(
                elements.len(),
                *size as usize,
                "rows of {key:?}, {record:?}"
            );
            (0, elements)
        }
    };
    Some(Seen {
        kind: record.kind,
        expires: record.expires,
        number,
        elements,
    })
}

fn elements_of(rows: &Rows, key: Key, kind: Kind, version: Version) -> Elements {
    let below = |family| {
        let first = row(key, family, version, b"");
        let rows = rows_below(rows, &first);
        let rows =
            rows.map(|(place, value)| (place.key[first.key.len()..].to_vec(), value.clone()));
        rows.collect::<Elements>()
    };
    if kind == Kind::Long {
        return below(Family::Payload);
    }
    let mut elements = below(Family::Data);
    let back = elements.remove(&b""[..]);
    assert_eq!(back, Some(vec![key.2]), "the back-reference of {key:?}");
    if kind == Kind::Scored {
        let scores = below(Family::Score);
        let wanted = elements.iter().map(|(member, score)| scored(member, score));
        assert_eq!(
            scores.keys().cloned().collect::<Vec<_>>(),
            wanted.collect::<Vec<_>>(),
            "the order of {key:?}"
        );
    }
    elements
}

/// Scores of the model grow with the member, so that both orders are one.
fn scored(member: &[u8], score: &[u8]) -> Vec<u8> {
    [member, score].concat()
}

/// Everything that clients may see in some slots.
pub(super) fn see_all(rows: &Rows, wanted: impl Fn(u16) -> bool, now: u64) -> BTreeMap<Key, Seen> {
    let metas = rows.keys().filter(|place| place.family == Family::Meta);
    let keys = metas.map(|place| (place.slot, place.db, place.key[0]));
    keys.filter(|key| wanted(key.0))
        .filter_map(|key| Some((key, see(rows, key, now)?)))
        .collect()
}

/// One batch of a group's evaluator. Each key is written at most once in it.
pub(super) struct Evaluation<'a> {
    rows: &'a Rows,
    now: u64,
    epoch: u32,
    pub(super) next_version: u64,
    pub(super) effects: Vec<Effect>,
    /// Versions that were taken, with their slots.
    pub(super) taken: Vec<(u16, Version)>,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(rows: &'a Rows, now: u64, epoch: u32, next_version: u64) -> Self {
        Self {
            rows,
            now,
            epoch,
            next_version,
            effects: Vec::new(),
            taken: Vec::new(),
        }
    }

    pub(super) fn see(&self, key: Key) -> Option<Seen> {
        see(self.rows, key, self.now)
    }

    pub(super) fn put_number(&mut self, key: Key, number: i64, expires: u64) {
        self.delete_fragments(key);
        let record = Record::number(number, expires);
        self.effects.push(Effect::Put(meta(key), record.encode()));
    }

    pub(super) fn add(&mut self, key: Key, by: i64) {
        match self.see(key) {
            Some(_) => self.effects.push(Effect::Add(meta(key), by)),
            None => self.put_number(key, by, 0),
        }
    }

    /// Also of what has expired, as the expiry task deletes it.
    pub(super) fn delete(&mut self, key: Key) {
        self.delete_fragments(key);
        self.effects.push(Effect::Delete(meta(key)));
    }

    /// Changes elements of a collection, or makes it; one that becomes empty goes.
    pub(super) fn change(
        &mut self,
        key: Key,
        kind: Kind,
        puts: Elements,
        deletes: &[Vec<u8>],
        expires: Option<u64>,
    ) {
        let Some(before) = self.see(key) else {
            return self.overwrite(key, kind, puts, expires.unwrap_or(0));
        };
        let mut after = before.elements.clone();
        after.extend(puts);
        deletes.iter().for_each(|gone| drop(after.remove(gone)));
        let expires = expires.unwrap_or(before.expires);
        let record = self.rows.get(&meta(key)).map(|value| Record::decode(value));
        match record.and_then(|record| record.version()) {
            Some(version) if !after.is_empty() => {
                self.change_rows(key, kind, version, (&before.elements, &after));
                self.put_spread(key, kind, version, after.len(), expires);
            }
            _ => self.overwrite(key, kind, after, expires),
        }
    }

    fn change_rows(
        &mut self,
        key: Key,
        kind: Kind,
        version: Version,
        (before, after): (&Elements, &Elements),
    ) {
        for (element, value) in before {
            if after.get(element) != Some(value) {
                let places = places(key, kind, version, element, value);
                self.effects.extend(places.into_iter().map(Effect::Delete));
            }
        }
        for (element, value) in after {
            if before.get(element) != Some(value) {
                self.put_element(key, kind, version, element, value);
            }
        }
    }

    /// A whole new incarnation, whatever was there before.
    pub(super) fn overwrite(&mut self, key: Key, kind: Kind, elements: Elements, expires: u64) {
        if elements.is_empty() {
            if self.rows.contains_key(&meta(key)) {
                self.delete(key);
            }
            return;
        }
        self.delete_fragments(key);
        if elements.len() <= PACKED_MAX {
            let body = Body::Packed(elements);
            return self.put(key, kind, expires, body);
        }
        let version = Version {
            epoch: self.epoch,
            counter: self.next_version,
        };
        self.next_version += 1;
        self.taken.push((key.0, version));
        if kind != Kind::Long {
            let back = row(key, Family::Data, version, b"");
            self.effects.push(Effect::Put(back, vec![key.2]));
        }
        for (element, value) in &elements {
            self.put_element(key, kind, version, element, value);
        }
        self.put_spread(key, kind, version, elements.len(), expires);
    }

    fn put_spread(&mut self, key: Key, kind: Kind, version: Version, size: usize, expires: u64) {
        let size = size as u32;
        self.put(key, kind, expires, Body::Spread { version, size });
    }

    fn put(&mut self, key: Key, kind: Kind, expires: u64, body: Body) {
        let record = Record {
            kind,
            expires,
            body,
        };
        self.effects.push(Effect::Put(meta(key), record.encode()));
    }

    fn put_element(
        &mut self,
        key: Key,
        kind: Kind,
        version: Version,
        element: &[u8],
        value: &[u8],
    ) {
        for place in places(key, kind, version, element, value) {
            let value = match place.family {
                Family::Score => Vec::new(),
                _ => value.to_vec(),
            };
            self.effects.push(Effect::Put(place, value));
        }
    }

    /// The rows of a long string have no filter: they go with their record.
    fn delete_fragments(&mut self, key: Key) {
        let record = self.rows.get(&meta(key)).map(|value| Record::decode(value));
        let long = record.filter(|record| record.kind == Kind::Long);
        if let Some(version) = long.and_then(|record| record.version()) {
            let first = row(key, Family::Payload, version, b"");
            self.effects.push(Effect::DeleteRows(first));
        }
    }
}

/// The rows of one element.
fn places(key: Key, kind: Kind, version: Version, element: &[u8], value: &[u8]) -> Vec<Place> {
    match kind {
        Kind::Long => vec![row(key, Family::Payload, version, element)],
        Kind::Scored => vec![
            row(key, Family::Data, version, element),
            row(key, Family::Score, version, &scored(element, value)),
        ],
        _ => vec![row(key, Family::Data, version, element)],
    }
}
