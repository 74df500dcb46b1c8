//! The compaction filter of the model world, at its worst: it ignores snapshots, so
//! that an export loses under its hands what the filter drops.

use super::model::{Body, Family, Key, Kind, Place, Record, Rows, Version, meta, row};
use std::collections::BTreeMap;

/// The map (slot, database) → generation of what is live, and the next number.
#[derive(Clone, Default)]
pub(super) struct Generations {
    live: BTreeMap<(u16, u8), u64>,
    next: u64,
}

impl Generations {
    pub(super) fn get(&self, slot: u16, db: u8) -> Option<u64> {
        self.live.get(&(slot, db)).copied()
    }

    pub(super) fn database_of(&self, slot: u16, generation: u64) -> Option<u8> {
        let named = |db: &u8| self.get(slot, *db) == Some(generation);
        [0, 1].into_iter().find(named)
    }

    pub(super) fn renew(&mut self, slot: u16, db: u8) {
        self.live.insert((slot, db), self.next);
        self.next += 1;
    }

    pub(super) fn swap(&mut self, slot: u16) {
        let old = [0, 1].map(|db| self.live[&(slot, db)]);
        self.live.insert((slot, 0), old[1]);
        self.live.insert((slot, 1), old[0]);
    }

    pub(super) fn release(&mut self, slot: u16) {
        self.live.retain(|place, _| place.0 != slot);
    }
}

/// The durable view by which a filter judges; it may be old.
#[derive(Clone)]
pub(super) struct View {
    /// Records and back-references as they were.
    rows: Rows,
    log_time: u64,
    next_version: u64,
    generations: Generations,
}

impl View {
    pub(super) fn pin(
        live: &Rows,
        log_time: u64,
        next_version: u64,
        generations: Generations,
    ) -> Self {
        let parents = live
            .iter()
            .filter(|(place, _)| matches!(place.family, Family::Meta | Family::Data));
        Self {
            rows: parents
                .map(|(place, value)| (place.clone(), value.clone()))
                .collect(),
            log_time,
            next_version,
            generations,
        }
    }

    /// Whether a row of `generation` is garbage.
    pub(super) fn is_garbage(&self, place: &Place, value: &[u8], generation: u64) -> bool {
        if generation >= self.generations.next {
            return false;
        }
        let Some(db) = self.generations.database_of(place.slot, generation) else {
            return place.family != Family::Payload;
        };
        match place.family {
            Family::Meta => self.is_over(&Record::decode(value)),
            Family::Data | Family::Score => self.is_orphan(place, db),
            Family::Payload | Family::Expiry => false,
        }
    }

    /// Expired before the view's time; only a long string's record knows its rows.
    fn is_over(&self, record: &Record) -> bool {
        let owns_payload = record.kind == Kind::Long && matches!(record.body, Body::Spread { .. });
        !owns_payload && record.expires != 0 && record.expires < self.log_time
    }

    fn is_orphan(&self, place: &Place, db: u8) -> bool {
        let version = Version::of_row(&place.key);
        if version.counter >= self.next_version {
            return false;
        }
        let any: Key = (place.slot, db, 0);
        let Some(parent) = self.rows.get(&row(any, Family::Data, version, b"")) else {
            return true;
        };
        let Some(record) = self.rows.get(&meta((place.slot, db, parent[0]))) else {
            return true;
        };
        let record = Record::decode(record);
        record.version() != Some(version) || self.is_over(&record)
    }
}
