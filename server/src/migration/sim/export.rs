//! An export of the model world: as `cluster::mover::export` walks a snapshot, part
//! by part, while the compaction filter goes on below it.

use super::filter::{Generations, View};
use super::model::{Effect, Family, Rows, count, digest_row};
use crate::migration::{ChunkRecord, RowDigest};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};

/// Rows of one part.
const PART_ROWS: usize = 8;

pub(super) struct Export {
    pub(super) attempt: u64,
    index: u64,
    first: u16,
    last: u16,
    /// Slots that are not complete.
    slots: VecDeque<u16>,
    target: u64,
    /// What is left of the snapshot.
    rows: Rows,
    /// The map at the snapshot.
    generations: Generations,
    /// Databases of slots of which a record was exported.
    met: BTreeSet<(u16, u8)>,
    digest: RowDigest,
    bytes: u64,
    next: u32,
}

impl Export {
    /// `rows`: the snapshot of `slots`.
    pub(super) fn start(
        attempt: u64,
        index: u64,
        slots: VecDeque<u16>,
        target: u64,
        rows: Rows,
        generations: Generations,
    ) -> Self {
        let first = slots[0];
        Self {
            attempt,
            index,
            first,
            last: first,
            slots,
            target,
            rows,
            generations,
            met: BTreeSet::new(),
            digest: RowDigest::default(),
            bytes: 0,
            next: 0,
        }
    }

    /// The filter drops rows that the snapshot should have kept.
    pub(super) fn compact(&mut self, view: &View, picked: impl Fn(u16) -> bool) {
        let generations = &self.generations;
        self.rows.retain(|place, value| {
            let generation = generations.get(place.slot, place.db);
            let generation = generation.filter(|_| picked(place.slot));
            generation.is_none_or(|generation| !view.is_garbage(place, value, generation))
        });
    }

    /// Part number `part`, if it is the next; `live` is what the group has now, and
    /// under which generations.
    pub(super) fn part(
        &mut self,
        part: u32,
        live: (&Rows, &Generations),
    ) -> Option<(Bytes, Option<ChunkRecord>)> {
        if part != self.next {
            return None;
        }
        self.next += 1;
        let mut bytes = Vec::new();
        let mut rows = 0;
        while let Some(slot) = self.slots.front().copied() {
            let next = self.rows.first_key_value().map(|(place, _)| place.slot);
            if next != Some(slot) {
                self.end_slot(slot);
                continue;
            }
            if rows == PART_ROWS {
                return Some((bytes.into(), None));
            }
            rows += usize::from(self.take_row(live, &mut bytes));
        }
        let record = ChunkRecord {
            first: self.first,
            last: self.last,
            index: self.index,
            rows: self.digest.rows(),
            bytes: self.bytes,
            digest: self.digest.value(),
        };
        Some((bytes.into(), Some(record)))
    }

    fn end_slot(&mut self, slot: u16) {
        self.last = slot;
        self.slots.pop_front();
        if self.bytes >= self.target {
            self.slots.clear();
        }
    }

    fn take_row(&mut self, live: (&Rows, &Generations), out: &mut Vec<u8>) -> bool {
        let (place, value) = self.rows.pop_first().expect("the caller has seen it");
        let of = (place.slot, place.db);
        // As in the store: no key is left, or the rows have no record to go with.
        let orphaned = place.family != Family::Meta && !self.met.contains(&of);
        let generation = self.generations.get(place.slot, place.db);
        let db = generation.and_then(|generation| live.1.database_of(place.slot, generation));
        let counted = db.map_or(0, |db| count(live.0, place.slot, db));
        if counted == 0 || orphaned || place.family == Family::Expiry {
            return false;
        }
        self.met.insert(of);
        digest_row(&mut self.digest, &place, &value);
        let row = Effect::Put(place, value).encode();
        self.bytes += row.len() as u64;
        out.extend_from_slice(&row);
        true
    }
}

/// Digest of what an import holds of some slots: what counts no key has no rows.
pub(super) fn staged(import: &Rows, wanted: impl Fn(u16) -> bool) -> RowDigest {
    let mut digest = RowDigest::default();
    for (place, value) in import.iter().filter(|(place, _)| wanted(place.slot)) {
        if place.family != Family::Expiry && count(import, place.slot, place.db) > 0 {
            digest_row(&mut digest, place, value);
        }
    }
    digest
}
