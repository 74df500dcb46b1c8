//! The map (slot, client's database) → generation, the only way to a generation.
//!
//! Replicated state: it changes only by a log entry. FLUSHDB, FLUSHALL,
//! SWAPDB and the steps of a move are changes of this map, so each is O(1)
//! in data. Numbers come from a counter of the group and are never reused;
//! a number below the counter that no map names is garbage for the
//! compaction filter. Immutable once published; readers hold an `Arc`.

use std::collections::HashSet;
use std::sync::Arc;

use cairn_protocol::slot::SLOT_COUNT;

use super::keys::Generation;

/// Databases of a client (SELECT 0..15).
pub const DATABASES: usize = 16;
/// Generation 0 means: this group has no such slot.
pub const NONE: Generation = 0;

/// One database's generations by slot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DbMap {
    /// The same for all slots (standalone, always).
    Uniform(Generation),
    PerSlot(Arc<[Generation]>),
}

impl DbMap {
    fn get(&self, slot: u16) -> Generation {
        match self {
            DbMap::Uniform(generation) => *generation,
            DbMap::PerSlot(slots) => slots[slot as usize],
        }
    }

    fn from_slots(slots: Vec<Generation>) -> DbMap {
        match slots.iter().all(|g| *g == slots[0]) {
            true => DbMap::Uniform(slots[0]),
            false => DbMap::PerSlot(slots.into()),
        }
    }

    fn to_slots(&self) -> Vec<Generation> {
        (0..SLOT_COUNT).map(|slot| self.get(slot)).collect()
    }
}

/// One set of databases: the live one of a group, or that of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbGenerations {
    dbs: Vec<DbMap>,
}

impl DbGenerations {
    pub fn none() -> DbGenerations {
        DbGenerations {
            dbs: vec![DbMap::Uniform(NONE); DATABASES],
        }
    }

    pub fn get(&self, db: usize, slot: u16) -> Generation {
        self.dbs[db].get(slot)
    }

    /// The database that `generation` belongs to at `slot`.
    pub fn database_of(&self, slot: u16, generation: Generation) -> Option<usize> {
        self.dbs
            .iter()
            .position(|map| generation != NONE && map.get(slot) == generation)
    }

    /// Sets `slots` of one database to `generation`.
    pub fn set(&mut self, db: usize, slots: impl Iterator<Item = u16>, generation: Generation) {
        let mut map = self.dbs[db].to_slots();
        slots.for_each(|slot| map[slot as usize] = generation);
        self.dbs[db] = DbMap::from_slots(map);
    }

    /// Gives every owned slot of one database the new `generation`.
    pub fn renew(&mut self, db: usize, generation: Generation) {
        let renewed = |g: Generation| if g == NONE { NONE } else { generation };
        self.dbs[db] = match &self.dbs[db] {
            DbMap::Uniform(g) => DbMap::Uniform(renewed(*g)),
            DbMap::PerSlot(slots) => DbMap::from_slots(slots.iter().map(|g| renewed(*g)).collect()),
        };
    }

    pub fn swap(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
    }

    /// [`DbGenerations::renew`] for some slots only.
    pub fn renew_slots(&mut self, db: usize, slots: &[(u16, u16)], generation: Generation) {
        let mut map = self.dbs[db].to_slots();
        for slot in slots.iter().flat_map(|(first, last)| *first..=*last) {
            if map[slot as usize] != NONE {
                map[slot as usize] = generation;
            }
        }
        self.dbs[db] = DbMap::from_slots(map);
    }

    /// [`DbGenerations::swap`] for some slots only.
    pub fn swap_slots(&mut self, a: usize, b: usize, slots: &[(u16, u16)]) {
        let (mut first, mut second) = (self.dbs[a].to_slots(), self.dbs[b].to_slots());
        for slot in slots.iter().flat_map(|(first, last)| *first..=*last) {
            std::mem::swap(&mut first[slot as usize], &mut second[slot as usize]);
        }
        self.dbs[a] = DbMap::from_slots(first);
        self.dbs[b] = DbMap::from_slots(second);
    }

    /// Distinct generations of one database with a slot range each, in slot order.
    pub fn runs(&self, db: usize) -> Vec<(u16, u16, Generation)> {
        let mut runs: Vec<(u16, u16, Generation)> = Vec::new();
        if let DbMap::Uniform(generation) = self.dbs[db] {
            if generation != NONE {
                runs.push((0, SLOT_COUNT - 1, generation));
            }
            return runs;
        }
        for slot in 0..SLOT_COUNT {
            let generation = self.get(db, slot);
            match runs.last_mut() {
                Some(run) if run.2 == generation && run.1 + 1 == slot => run.1 = slot,
                _ if generation != NONE => runs.push((slot, slot, generation)),
                _ => {}
            }
        }
        runs
    }
}

/// All maps of a group: the live one, those of imports, and the counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationMap {
    pub live: DbGenerations,
    /// Import id (plan) and its own databases.
    pub imports: Vec<(u64, DbGenerations)>,
    /// The next number to be given out.
    pub next: Generation,
}

impl GenerationMap {
    /// A group that owns nothing yet.
    pub fn empty() -> GenerationMap {
        GenerationMap {
            live: DbGenerations::none(),
            imports: Vec::new(),
            next: 1,
        }
    }

    /// A fresh group that owns every slot (standalone).
    pub fn all_slots() -> GenerationMap {
        let mut map = GenerationMap::empty();
        for db in 0..DATABASES {
            map.live.dbs[db] = DbMap::Uniform(map.next);
            map.next += 1;
        }
        map
    }

    /// Takes the next number.
    pub fn allocate(&mut self) -> Generation {
        let generation = self.next;
        self.next = generation
            .checked_add(1)
            .expect("four billion flushes and moves");
        generation
    }

    pub fn import(&self, id: u64) -> Option<&DbGenerations> {
        self.imports
            .iter()
            .find(|(plan, _)| *plan == id)
            .map(|(_, dbs)| dbs)
    }

    pub fn import_mut(&mut self, id: u64) -> Option<&mut DbGenerations> {
        self.imports
            .iter_mut()
            .find(|(plan, _)| *plan == id)
            .map(|(_, dbs)| dbs)
    }

    /// Whether some map names `generation` at `slot`.
    pub fn names(&self, slot: u16, generation: Generation) -> bool {
        self.live.database_of(slot, generation).is_some()
            || self
                .imports
                .iter()
                .any(|(_, dbs)| dbs.database_of(slot, generation).is_some())
    }

    /// All generations that some map names.
    pub fn named(&self) -> HashSet<Generation> {
        let imports = self.imports.iter().map(|(_, dbs)| dbs);
        let all = std::iter::once(&self.live).chain(imports);
        all.flat_map(|dbs| (0..DATABASES).flat_map(|db| dbs.runs(db)))
            .map(|(_, _, generation)| generation)
            .collect()
    }

    /// Whether some map names `generation` at any slot.
    pub fn names_anywhere(&self, generation: Generation) -> bool {
        let imports = self.imports.iter().map(|(_, dbs)| dbs);
        std::iter::once(&self.live)
            .chain(imports)
            .any(|dbs| (0..DATABASES).any(|db| dbs.runs(db).iter().any(|run| run.2 == generation)))
    }

    /// Whether `generation` is being imported at `slot`.
    pub fn importing(&self, slot: u16, generation: Generation) -> bool {
        self.imports
            .iter()
            .any(|(_, dbs)| dbs.database_of(slot, generation).is_some())
    }

    /// Garbage: given out once, and in no map now.
    pub fn is_garbage(&self, slot: u16, generation: Generation) -> bool {
        generation < self.next && !self.names(slot, generation)
    }

    /// ```text
    /// format u8 (1) | next u32 | maps u16, each: import u8 (0 live, 1 import) | plan u64 |
    ///   runs u32, each: db u8 | first slot u16 | last slot u16 | generation u32        (all BE)
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        out.extend_from_slice(&self.next.to_be_bytes());
        out.extend_from_slice(&(1 + self.imports.len() as u16).to_be_bytes());
        encode_dbs(&mut out, 0, 0, &self.live);
        for (plan, dbs) in &self.imports {
            encode_dbs(&mut out, 1, *plan, dbs);
        }
        out
    }

    /// `None`: corrupt, or of a later format.
    pub fn decode(bytes: &[u8]) -> Option<GenerationMap> {
        let mut input = Input(bytes);
        if input.take::<1>()? != [1] {
            return None;
        }
        let mut map = GenerationMap::empty();
        map.next = u32::from_be_bytes(input.take()?);
        for _ in 0..u16::from_be_bytes(input.take()?) {
            let [import] = input.take()?;
            let plan = u64::from_be_bytes(input.take()?);
            let dbs = decode_dbs(&mut input)?;
            match import {
                0 => map.live = dbs,
                1 => map.imports.push((plan, dbs)),
                _ => return None,
            }
        }
        input.0.is_empty().then_some(map)
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

fn encode_dbs(out: &mut Vec<u8>, import: u8, plan: u64, dbs: &DbGenerations) {
    out.push(import);
    out.extend_from_slice(&plan.to_be_bytes());
    let runs: Vec<_> = (0..DATABASES)
        .flat_map(|db| dbs.runs(db).into_iter().map(move |run| (db, run)))
        .collect();
    out.extend_from_slice(&(runs.len() as u32).to_be_bytes());
    for (db, (first, last, generation)) in runs {
        out.push(db as u8);
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&last.to_be_bytes());
        out.extend_from_slice(&generation.to_be_bytes());
    }
}

fn decode_dbs(input: &mut Input) -> Option<DbGenerations> {
    let mut slots = vec![vec![NONE; SLOT_COUNT as usize]; DATABASES];
    for _ in 0..u32::from_be_bytes(input.take()?) {
        let [db] = input.take()?;
        let first = u16::from_be_bytes(input.take()?) as usize;
        let last = u16::from_be_bytes(input.take()?) as usize;
        let generation = u32::from_be_bytes(input.take()?);
        slots
            .get_mut(db as usize)?
            .get_mut(first..=last)?
            .fill(generation);
    }
    Some(DbGenerations {
        dbs: slots.into_iter().map(DbMap::from_slots).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_map() {
        let mut map = GenerationMap::empty();
        map.next = 3;
        map.live.set(1, 5..=6, 2);
        assert_eq!(
            map.encode(),
            [
                1, 0, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 5, 0, 6, 0, 0, 0,
                2
            ]
        );
    }

    #[test]
    fn maps_come_back_with_their_imports() {
        let mut map = GenerationMap::all_slots();
        let generation = map.allocate();
        map.live.renew(3, generation);
        let mut import = DbGenerations::none();
        import.set(0, 100..200, map.allocate());
        map.imports.push((77, import));
        assert_eq!(GenerationMap::decode(&map.encode()), Some(map));
        assert_eq!(GenerationMap::decode(&[2, 0]), None);
    }

    #[test]
    fn a_flushed_generation_is_garbage_and_a_future_one_is_not() {
        let mut map = GenerationMap::all_slots();
        let old = map.live.get(0, 9);
        let new = map.allocate();
        map.live.renew(0, new);
        assert!(map.is_garbage(9, old));
        assert!(!map.is_garbage(9, new));
        assert!(!map.is_garbage(9, map.next));
        assert_eq!(map.live.database_of(9, new), Some(0));
    }

    #[test]
    fn renewing_gives_nothing_to_slots_that_are_not_owned() {
        let mut map = GenerationMap::empty();
        map.live.set(0, 0..10, 1);
        map.live.renew(0, 2);
        assert_eq!(map.live.get(0, 9), 2);
        assert_eq!(map.live.get(0, 10), NONE);
    }
}
