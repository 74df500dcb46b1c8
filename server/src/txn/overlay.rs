//! What a batch has changed and not yet applied.
//!
//! Owned by the group's writer for the length of one batch. Later commands of
//! the batch read through it; a command that fails or finds its data cold is
//! rolled back to its savepoint. At the end it becomes [`Effects`]: each
//! record once, in order of first touch, and each row once, in order of keys;
//! whatever was overwritten or flushed within the batch is left out.

mod size;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use hashbrown::{HashMap, HashTable};
use xxhash_rust::xxh3::xxh3_64;

use super::effects::{Effects, Family, MapChange, MetaEffect, RowEffect, RowKey, change_map};
use super::events::Event;
use super::held::{Held, Known};
use super::staging::{Made, Staged, Staging};
use super::tape::Tape;
use crate::storage::Followed;
use crate::storage::generations::GenerationMap;
use crate::storage::header::{Header, KeyType, Spread};
use crate::storage::keys::{MetaKey, PREFIX_LEN, Version, split, sub_key};
use crate::storage::record::Record;
use crate::storage::weight::{self, Change};

/// The state of a record within the batch.
#[derive(Clone, Debug)]
pub enum State {
    /// As it is in the store.
    Unchanged,
    Put(Record),
    Deleted,
}

struct Entry {
    key: MetaKey,
    /// As found in the store when first asked for (an expired one included).
    base: Option<Record>,
    state: State,
}

/// Entries of [`Overlay::met`] that are kept as they come.
const FEW_MET: usize = 4096;

enum Undo {
    Meta(u32, State),
    NewMeta,
    Row(Family, RowKey, Option<Option<Bytes>>),
    Held(RowKey, Option<Known>),
    Range,
    Map(Box<GenerationMap>, usize),
}

/// A point to which the overlay can be rolled back.
#[derive(Clone, Copy)]
pub struct Savepoint {
    undo: usize,
    events: usize,
    bytes: usize,
    next_version: u64,
    tick: bool,
    changes: u64,
    met_expired: u64,
    taped: usize,
}

/// See the module's documentation.
pub struct Overlay {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    /// By [`Family::place`]; each row once, as the batch leaves it.
    rows: [BTreeMap<RowKey, Option<Bytes>>; Family::COUNT],
    /// Ranges that are deleted, before anything is put into them.
    ranges: Vec<RowEffect>,
    /// Numbers of rows that are open; they outlive the batch.
    held: Held,
    /// What rows of the family `data` weigh in the store, as far as the batch
    /// has met them; by the hash of their keys.
    met: Vec<(u64, u32)>,
    /// With so many entries, those of rows that were met twice go.
    most_met: usize,
    /// Records say what their rows weigh (not when another overlay has said so).
    weighs: bool,
    /// A record with rows was loaded or put since the batch began.
    has_spread: bool,
    expiry_drops: Vec<(MetaKey, u64)>,
    undo: Vec<Undo>,
    map: GenerationMap,
    map_changes: Vec<MapChange>,
    pub events: Vec<Event>,
    pub next_version: u64,
    /// What tells how its effects may be cut.
    pub made: Made,
    /// The entry must be committed even if it changes nothing: a reply has
    /// shown a key as expired.
    pub tick: bool,
    /// What replicas are to be told, if there are any.
    pub tape: Tape,
    /// How far the batch goes in the stream of the master that is followed.
    pub followed: Option<Followed>,
    /// Keys that commands met expired, and that go with the batch.
    pub met_expired: u64,
    bytes: usize,
    /// How often something was changed, as a measure of whether a command did.
    changes: u64,
}

impl Overlay {
    pub fn new(map: GenerationMap, next_version: u64) -> Overlay {
        Overlay {
            index: HashTable::new(),
            entries: Vec::new(),
            rows: Default::default(),
            ranges: Vec::new(),
            held: Held::default(),
            met: Vec::new(),
            most_met: FEW_MET,
            weighs: true,
            has_spread: false,
            expiry_drops: Vec::new(),
            undo: Vec::new(),
            map,
            map_changes: Vec::new(),
            events: Vec::new(),
            next_version,
            made: Made {
                first: next_version,
                ..Made::default()
            },
            tick: false,
            tape: Tape::default(),
            followed: None,
            met_expired: 0,
            bytes: 0,
            changes: 0,
        }
    }

    /// How many changes were made so far: another number means that there was one.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes changes for none: an expired key that was met is no command's doing.
    pub fn set_changes(&mut self, changes: u64) {
        self.changes = changes;
    }

    /// An overlay for effects that another one has evaluated.
    pub fn of_evaluated(map: GenerationMap, next_version: u64) -> Overlay {
        Overlay {
            weighs: false,
            ..Overlay::new(map, next_version)
        }
    }

    /// The generation map with the batch's own changes.
    pub fn map(&self) -> &GenerationMap {
        &self.map
    }

    /// What the batch did to the map, in order.
    pub fn map_changes(&self) -> &[MapChange] {
        &self.map_changes
    }

    /// Bytes that the batch will write, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_dirty(&self) -> bool {
        self.tick
            || self.made.swept.is_some()
            || !self.map_changes.is_empty()
            || !self.ranges.is_empty()
            || self.rows.iter().any(|rows| !rows.is_empty())
            || !self.expiry_drops.is_empty()
            || self
                .entries
                .iter()
                .any(|e| !matches!(e.state, State::Unchanged))
    }

    pub fn savepoint(&mut self) -> Savepoint {
        // Older commands of the batch are final: their undo records are not needed.
        self.undo.clear();
        self.held.begin();
        self.inner_savepoint()
    }

    /// A savepoint within the command that runs: a part of it (a command of an
    /// EXEC or a script) can be undone alone.
    pub fn inner_savepoint(&self) -> Savepoint {
        Savepoint {
            undo: self.undo.len(),
            events: self.events.len(),
            bytes: self.bytes,
            next_version: self.next_version,
            tick: self.tick,
            changes: self.changes,
            met_expired: self.met_expired,
            taped: self.tape.len(),
        }
    }

    /// Undoes what was done since `to`, the latest savepoint or one within it.
    pub fn roll_back(&mut self, to: Savepoint) {
        while self.undo.len() > to.undo {
            match self.undo.pop().expect("the length was checked") {
                Undo::Meta(at, state) => self.entries[at as usize].state = state,
                Undo::NewMeta => self.forget_last_meta(),
                Undo::Row(family, key, Some(value)) => {
                    self.rows[family.place()].insert(key, value);
                }
                Undo::Row(family, key, None) => {
                    self.rows[family.place()].remove(&key);
                }
                Undo::Held(key, Some(known)) => self.held.restore(key, known),
                Undo::Held(key, None) => drop(self.held.remove(&key)),
                Undo::Range => drop(self.ranges.pop()),
                Undo::Map(map, changes) => {
                    self.map = *map;
                    self.map_changes.truncate(changes);
                }
            }
        }
        self.events.truncate(to.events);
        self.bytes = to.bytes;
        self.next_version = to.next_version;
        self.tick = to.tick;
        self.changes = to.changes;
        self.met_expired = to.met_expired;
        self.tape.truncate(to.taped);
    }

    fn forget_last_meta(&mut self) {
        let entry = self
            .entries
            .pop()
            .expect("an undo record stands for an entry");
        let at = self.entries.len() as u32;
        if let Ok(found) = self.index.find_entry(entry.key.hash(), |i| *i == at) {
            found.remove();
        }
    }

    fn find(&self, key: &MetaKey) -> Option<u32> {
        self.index
            .find(key.hash(), |i| {
                self.entries[*i as usize].key.physical() == key.physical()
            })
            .copied()
    }

    /// The record as the batch sees it: outer `None` if the batch does not know it.
    pub fn get(&self, key: &MetaKey) -> Option<Option<&Record>> {
        let entry = &self.entries[self.find(key)? as usize];
        Some(match &entry.state {
            State::Unchanged => entry.base.as_ref(),
            State::Put(record) => Some(record),
            State::Deleted => None,
        })
    }

    /// What the store holds for `key`, if that was asked.
    pub fn base(&self, key: &MetaKey) -> Option<&Record> {
        let entry = &self.entries[self.find(key)? as usize];
        entry.base.as_ref()
    }

    /// Remembers what the store holds for `key`.
    pub fn load(&mut self, key: &MetaKey, base: Option<Record>) {
        debug_assert!(self.find(key).is_none());
        self.has_spread |= base.as_ref().is_some_and(Record::is_spread);
        let at = self.entries.len() as u32;
        self.entries.push(Entry {
            key: key.clone(),
            base,
            state: State::Unchanged,
        });
        let entries = &self.entries;
        self.index
            .insert_unique(key.hash(), at, |i| entries[*i as usize].key.hash());
        self.undo.push(Undo::NewMeta);
    }

    /// Sets the new state of a key that was loaded.
    pub fn set(&mut self, key: &MetaKey, state: State) {
        let set = self.try_set(key, state);
        assert!(set.is_ok(), "a key is read before it is written");
    }

    /// [`Overlay::set`] of a key that may not be loaded yet.
    ///
    /// # Errors
    /// It is not: the state is given back.
    pub fn try_set(&mut self, key: &MetaKey, state: State) -> Result<(), State> {
        let Some(at) = self.find(key) else {
            return Err(state);
        };
        self.changes += 1;
        if let State::Put(record) = &state {
            self.has_spread |= record.is_spread();
            self.bytes += record.memory() + 32;
        } else {
            self.bytes += key.physical().len() + 32;
        }
        let entry = &mut self.entries[at as usize];
        let old = std::mem::replace(&mut entry.state, state);
        self.undo.push(Undo::Meta(at, old));
        Ok(())
    }

    /// A row as the batch sees it: outer `None` if the batch does not know it.
    pub fn row(&self, family: Family, key: &[u8]) -> Option<Option<&Bytes>> {
        let known = self.rows[family.place()].get(key)?;
        Some(known.as_ref())
    }

    /// Rows of the batch in a key range, for merged scans.
    pub fn rows_in<'a>(
        &'a self,
        family: Family,
        first: &[u8],
        end: &[u8],
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], Option<&'a Bytes>)> + use<'a> {
        let range = (Bound::Included(first), Bound::Excluded(end));
        self.rows[family.place()]
            .range::<[u8], _>(range)
            .map(|(key, value)| (&key[..], value.as_ref()))
    }

    /// The last row of the batch, deleted ones included, with `first <= key < end`.
    pub fn last_row_in(
        &self,
        family: Family,
        first: &[u8],
        end: &[u8],
    ) -> Option<(&[u8], Option<&Bytes>)> {
        // One bound is found in half the time of two.
        let before = (Bound::Unbounded, Bound::Excluded(end));
        let mut before = self.rows[family.place()].range::<[u8], _>(before);
        let (key, value) = before.next_back()?;
        (key[..] >= *first).then_some((&key[..], value.as_ref()))
    }

    pub fn put_row(&mut self, family: Family, key: Vec<u8>, value: Bytes) {
        self.bytes += key.len() + value.len() + 32;
        self.row_changed(family, key.into(), Some(value));
    }

    pub fn delete_row(&mut self, family: Family, key: Vec<u8>) {
        self.bytes += key.len() + 32;
        self.row_changed(family, key.into(), None);
    }

    /// What is known of a row that is open (`held`).
    pub fn held(&self, key: &[u8]) -> Option<Known> {
        self.held.get(key)
    }

    /// Keeps what is known of a row that is open. False: there is no room for it.
    pub fn hold(&mut self, key: &[u8], known: Known) -> bool {
        let Ok(before) = self.held.set(key, known) else {
            return false;
        };
        self.undo.push(Undo::Held(RowKey::from_slice(key), before));
        true
    }

    /// Forgets the number of a row that is not open any more.
    pub fn release(&mut self, key: &[u8]) {
        if let Some(before) = self.held.remove(key) {
            self.undo
                .push(Undo::Held(RowKey::from_slice(key), Some(before)));
        }
    }

    /// Writes an open row as it is, for whoever asked: no change of the set.
    pub fn close_row(&mut self, family: Family, key: Vec<u8>, value: Bytes) {
        let changes = self.changes;
        self.held.note_closed(&key);
        self.release(&key);
        self.put_row(family, key, value);
        self.changes = changes;
    }

    /// What the command that runs has closed so far.
    pub fn take_closed(&mut self) -> Vec<RowKey> {
        self.held.take_closed()
    }

    /// A row that is to be closed, so that others find room.
    pub fn idle_row(&mut self) -> Option<(RowKey, Known)> {
        let key = self.held.idle()?;
        let known = self.held.get(&key)?;
        Some((key, known))
    }

    /// Somebody asks for ranks of the set with this version, at this log time. Tells its
    /// open rows, whose keys begin with `front`, if nobody did for a while.
    pub fn ask(&mut self, set: Version, front: &[u8], now: u64) -> Vec<(RowKey, u64)> {
        let open = match self.is_asked(set, now) {
            true => Vec::new(),
            false => self.held.below(front),
        };
        self.held.note_asked(set, now);
        open
    }

    /// Whether somebody did not long ago.
    pub fn is_asked(&self, set: Version, now: u64) -> bool {
        self.held.is_asked(set, now)
    }

    /// Takes over the row effects of another entry, in order.
    pub fn put_rows(&mut self, rows: Vec<RowEffect>) {
        for row in rows {
            match row {
                RowEffect::Put { family, key, value } => {
                    self.bytes += key.len() + value.len() + 32;
                    self.row_changed(family, key, Some(value));
                }
                RowEffect::Delete { family, key } => {
                    self.bytes += key.len() + 32;
                    self.row_changed(family, key, None);
                }
                RowEffect::DeleteRange { family, first, end } => {
                    self.delete_rows(family, first, end)
                }
            }
        }
    }

    /// Deletes rows from `first` to before `end`. The caller must not read
    /// single rows of the range again within the batch by their old keys
    /// (a deleted incarnation's version is never asked for again).
    pub fn delete_rows(&mut self, family: Family, first: Vec<u8>, end: Vec<u8>) {
        self.bytes += first.len() + end.len() + 32;
        let within = (Bound::Included(&first[..]), Bound::Excluded(&end[..]));
        let rows = self.rows[family.place()].range::<[u8], _>(within);
        let doomed: Vec<RowKey> = rows.map(|(key, _)| RowKey::from_slice(key)).collect();
        for key in doomed {
            self.row_changed(family, key, None);
        }
        self.changes += 1;
        self.undo.push(Undo::Range);
        self.ranges
            .push(RowEffect::DeleteRange { family, first, end });
    }

    /// Deletes the rows of a spread string (`payload` has no filter that
    /// would collect them); nothing for any other record.
    ///
    /// Few rows are deleted one by one: a range tombstone costs every later
    /// read of its neighbourhood, which frequent overwrites would make many.
    pub fn delete_payload(&mut self, key: &MetaKey, record: &Record) {
        const FEW: u64 = 16;
        let Some((header, at)) = Header::decode(record.value()) else {
            return;
        };
        let (KeyType::String, Some(spread)) = (header.key_type, header.spread) else {
            return;
        };
        let own = record.value()[at..].first_chunk().copied();
        let fragment = own.map_or(0, u32::from_be_bytes) as u64;
        let row =
            |version: Version, rest: &[u8]| sub_key(key.slot(), key.generation(), version, rest);
        if fragment > 0 && spread.size.div_ceil(fragment) <= FEW {
            for no in 0..spread.size.div_ceil(fragment) as u32 {
                self.delete_row(Family::Payload, row(spread.version, &no.to_be_bytes()));
            }
            return;
        }
        let first = row(spread.version, b"");
        self.delete_rows(Family::Payload, first, row(spread.version.next(), b""));
    }

    /// The store has this row, with a value of `len` bytes.
    pub fn met_row(&mut self, family: Family, key: &[u8], len: usize) {
        if family == Family::Data
            && let Some((_, weight)) = weight::of_row(key, len)
        {
            self.met.push((xxh3_64(key), weight as u32));
            if self.met.len() >= self.most_met {
                self.met.sort_unstable();
                self.met.dedup_by_key(|(row, _)| *row);
                self.most_met = (2 * self.met.len()).max(FEW_MET);
            }
        }
    }

    fn forget_met(&mut self) {
        self.met.clear();
        self.met.shrink_to(FEW_MET);
        self.most_met = FEW_MET;
    }

    /// How the rows of the batch change what lies below each version.
    fn growth(&self) -> HashMap<Version, Growth> {
        let mut by_version: HashMap<Version, Growth> = HashMap::new();
        if self.rows[Family::Data.place()].is_empty() {
            return by_version;
        }
        let met: HashMap<u64, u32> = self.met.iter().copied().collect();
        // Rows of one version are neighbours.
        let mut current: Option<(Version, Growth)> = None;
        for (key, value) in &self.rows[Family::Data.place()] {
            let len = value.as_ref().map_or(0, Bytes::len);
            let Some((version, weight)) = weight::of_row(key, len) else {
                continue;
            };
            if current.as_ref().is_none_or(|(same, _)| *same != version) {
                by_version.extend(current.take());
                let known = by_version.remove(&version).unwrap_or_default();
                current = Some((version, known));
            }
            let (_, growth) = current.as_mut().expect("set above");
            let before = met.get(&xxh3_64(key)).copied();
            growth.bytes -= i64::from(before.unwrap_or(0));
            match value {
                Some(_) => growth.bytes += weight as i64,
                None => growth.unmet += u64::from(before.is_none()),
            }
        }
        by_version.extend(current);
        by_version
    }

    /// Writes into the records of spread collections what their rows weigh.
    fn weigh(&mut self) {
        if !self.weighs || !self.has_spread {
            return;
        }
        let growth = self.growth();
        let bases = self.entries.iter().filter_map(|e| e.base.as_ref());
        let weighed: HashMap<Version, Spread> = bases
            .filter_map(|base| base.header()?.spread)
            .map(|spread| (spread.version, spread))
            .collect();
        for entry in &mut self.entries {
            let record = match (&entry.state, &entry.base) {
                (State::Put(record), _) | (State::Unchanged, Some(record)) => record,
                _ => continue,
            };
            let Some((mut header, at)) = Header::decode(record.value()) else {
                continue;
            };
            let Some(spread) = &mut header.spread else {
                continue;
            };
            let before = weighed.get(&spread.version).copied();
            // A list's ends and a stream's tail lie in the record, which is then
            // written anew without a change of its rows.
            let bytes = match (growth.get(&spread.version), before) {
                (Some(growth), before) => growth.after(before).max(1),
                (None, Some(before)) => before.bytes,
                (None, None) => continue,
            };
            if bytes != spread.bytes && header.key_type != KeyType::String {
                spread.bytes = bytes;
                let payload = &record.value()[at..];
                entry.state = State::Put(Record::new(&entry.key, &header, payload));
            }
        }
    }

    fn row_changed(&mut self, family: Family, key: RowKey, value: Option<Bytes>) {
        self.changes += 1;
        // The derived clone would go byte by byte.
        let own = RowKey::from_slice(&key);
        let old = self.rows[family.place()].insert(own, value);
        self.undo.push(Undo::Row(family, key, old));
    }

    /// Removes an index row whose record the compaction filter has dropped.
    /// Not undone by a rollback: only the expiry task calls it.
    pub fn drop_expiry(&mut self, key: MetaKey, at: u64) {
        self.bytes += key.physical().len() + 32;
        self.expiry_drops.push((key, at));
    }

    /// Changes the generation map; what the batch put into generations that
    /// are no longer named will be left out of its effects.
    pub fn change_map(&mut self, changes: &[MapChange]) {
        self.changes += 1;
        self.undo.push(Undo::Map(
            Box::new(self.map.clone()),
            self.map_changes.len(),
        ));
        change_map(&mut self.map, changes);
        self.map_changes.extend_from_slice(changes);
    }

    /// Change of the number of keys of (generation, slot) within the batch.
    pub fn count_delta(&self, mut of: impl FnMut(u16, u32) -> bool) -> i64 {
        self.entries
            .iter()
            .filter(|e| of(e.key.slot(), e.key.generation()))
            .map(|e| match (&e.state, &e.base) {
                (State::Put(_), None) => 1,
                (State::Deleted, Some(_)) => -1,
                _ => 0,
            })
            .sum()
    }

    /// Live keys of the batch in one (slot, generation), in no order.
    pub fn metas_of(&self, slot: u16, generation: u32) -> impl Iterator<Item = (&MetaKey, &State)> {
        self.entries
            .iter()
            .filter(move |e| e.key.slot() == slot && e.key.generation() == generation)
            .map(|e| (&e.key, &e.state))
    }

    /// All keys that the batch has loaded or changed, in order of first touch.
    pub fn metas(&self) -> impl Iterator<Item = (&MetaKey, &State)> {
        self.entries.iter().map(|e| (&e.key, &e.state))
    }

    /// Deletes the rows that went ahead of an entry that never came, and goes on above
    /// their versions. Before anything is evaluated.
    pub fn sweep(&mut self, staging: &Staging) {
        self.next_version = self.next_version.max(staging.until);
        self.made.first = self.next_version;
        for staged in &staging.versions {
            let row = |version| sub_key(staged.slot, staged.generation, version, b"");
            for family in [Family::Data, Family::Score, Family::Payload] {
                let end = row(staged.version.next());
                self.delete_rows(family, row(staged.version), end);
            }
        }
        self.made.swept = Some(self.ranges.len());
        self.undo.clear();
        self.bytes = 0;
        self.changes = 0;
    }

    /// Whether a record with rows was loaded or put.
    pub fn has_spread(&self) -> bool {
        self.has_spread
    }

    /// Forgets what a batch that changed nothing has read.
    pub fn forget_reads(&mut self) {
        debug_assert!(!self.is_dirty());
        self.forget_batch();
        // Of commands that were undone.
        self.made.versions.clear();
    }

    /// What a batch leaves when its effects are taken, or it has none.
    fn forget_batch(&mut self) {
        self.entries.clear();
        self.index.clear();
        self.forget_met();
        self.undo.clear();
        self.has_spread = false;
        self.bytes = 0;
    }

    /// Takes the effects and leaves the overlay ready for the next batch.
    pub fn finish(&mut self, log_time: u64) -> Effects {
        self.weigh();
        let mut rows = self.take_rows();
        let live = &self.map.live;
        let named = |key: &[u8]| {
            split(key)
                .is_some_and(|(slot, generation, _)| live.database_of(slot, generation).is_some())
        };
        let flushed = !self.map_changes.is_empty();
        let mut metas = Vec::with_capacity(self.entries.len());
        let mut weights = Vec::new();
        let mut lazily_freed = 0;
        for entry in self.entries.drain(..) {
            if flushed && !named(entry.key.physical()) {
                continue;
            }
            let record = match entry.state {
                State::Unchanged => continue,
                State::Put(record) => Some(record),
                State::Deleted if entry.base.is_none() => continue,
                State::Deleted => None,
            };
            let before = entry.base.as_ref().map(Look::at);
            let after = record.as_ref().map(Look::at);
            let weight = |look: &Option<Look>| look.as_ref().map_or(0, |look| look.weight);
            let change = weight(&after) as i64 - weight(&before) as i64;
            lazily_freed += u64::from(leaves_rows(before.as_ref(), after.as_ref()));
            add_change(&mut weights, entry.key.generation(), change);
            metas.push(MetaEffect {
                key: entry.key,
                record,
                created: before.is_none(),
                old_expiry: before.and_then(|look| look.header?.expires_at),
            });
        }
        if flushed {
            rows.retain(|row| match row {
                RowEffect::Put { key, .. } | RowEffect::Delete { key, .. } => named(key),
                RowEffect::DeleteRange { first, .. } => {
                    named(&first[..first.len().max(PREFIX_LEN)])
                }
            });
        }
        self.forget_batch();
        self.tick = false;
        let next = Made {
            first: self.next_version,
            ..Made::default()
        };
        let made = std::mem::replace(&mut self.made, next);
        Effects {
            log_time,
            next_version: self.next_version,
            maps: std::mem::take(&mut self.map_changes),
            metas,
            rows,
            expiry_drops: std::mem::take(&mut self.expiry_drops),
            tag: None,
            weights,
            lazily_freed,
            staged: made.swept.map(|_| Staged::Over),
            followed: self.followed.take(),
        }
    }

    /// Ranges first: what was put into one before it was deleted is known as deleted.
    fn take_rows(&mut self) -> Vec<RowEffect> {
        let mut effects = std::mem::take(&mut self.ranges);
        effects.reserve(self.rows.iter().map(BTreeMap::len).sum());
        for family in Family::ALL {
            let rows = std::mem::take(&mut self.rows[family.place()]);
            effects.extend(rows.into_iter().map(|(key, value)| match value {
                Some(value) => RowEffect::Put { family, key, value },
                None => RowEffect::Delete { family, key },
            }));
        }
        effects
    }

    /// Drops everything that was evaluated and not proposed.
    pub fn reset(&mut self, map: GenerationMap, next_version: u64) {
        *self = Overlay::new(map, next_version);
    }
}

/// What a batch does to the weight of one collection's rows.
#[derive(Default)]
struct Growth {
    bytes: i64,
    /// Rows that are deleted and were never looked at.
    unmet: u64,
}

impl Growth {
    /// What the rows weigh afterwards; those that nobody looked at were as the
    /// average of the collection.
    fn after(&self, before: Option<Spread>) -> u64 {
        let (bytes, size) = before.map_or((0, 1), |s| (s.bytes, s.size.max(1)));
        let unmet = (u128::from(bytes) * u128::from(self.unmet) / u128::from(size)) as u64;
        bytes
            .saturating_add_signed(self.bytes)
            .saturating_sub(unmet)
    }
}

/// What the effects say of a record, decoded once.
struct Look {
    /// `None`: the bytes are corrupt.
    header: Option<Header>,
    weight: u64,
}

impl Look {
    fn at(record: &Record) -> Look {
        let header = record.header();
        let (key, value) = (record.physical().len(), record.value().len());
        Look {
            weight: weight::of_decoded(key, value, header.as_ref()),
            header,
        }
    }

    /// Where the rows of a collection are.
    fn collection(&self) -> Option<Spread> {
        let header = self.header.as_ref()?;
        header.spread.filter(|_| header.key_type != KeyType::String)
    }
}

/// Whether a large collection's rows are left behind, as Redis frees a value of
/// more than 64 elements later.
fn leaves_rows(before: Option<&Look>, after: Option<&Look>) -> bool {
    const LARGE: u64 = 64;
    let kept = after.and_then(Look::collection).map(|s| s.version);
    let left = before.and_then(Look::collection);
    left.is_some_and(|s| s.size > LARGE && Some(s.version) != kept)
}

fn add_change(changes: &mut Vec<Change>, generation: u32, change: i64) {
    match changes.iter_mut().find(|(g, _)| *g == generation) {
        Some((_, sum)) => *sum += change,
        None => changes.push((generation, change)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &[u8]) -> MetaKey {
        MetaKey::new(1, 1, name)
    }

    fn record(name: &[u8], value: &[u8]) -> Record {
        Record::new(&key(name), &Header::inline(KeyType::String, None), value)
    }

    fn overlay() -> Overlay {
        Overlay::new(GenerationMap::all_slots(), 1)
    }

    #[test]
    fn a_record_written_twice_is_one_effect() {
        let mut overlay = overlay();
        overlay.load(&key(b"a"), None);
        overlay.set(&key(b"a"), State::Put(record(b"a", b"1")));
        overlay.savepoint();
        overlay.set(&key(b"a"), State::Put(record(b"a", b"2")));
        let effects = overlay.finish(9);
        assert_eq!(effects.metas.len(), 1);
        assert_eq!(effects.metas[0].record.as_ref().unwrap().payload(), b"2");
        assert!(effects.metas[0].created);
        assert!(!overlay.is_dirty());
    }

    #[test]
    fn a_rolled_back_command_leaves_no_trace() {
        let mut overlay = overlay();
        overlay.load(&key(b"a"), None);
        overlay.set(&key(b"a"), State::Put(record(b"a", b"1")));
        overlay.put_row(Family::Payload, b"\0\x01\0\0\0\x01x".to_vec(), "1".into());
        let point = overlay.savepoint();
        overlay.set(&key(b"a"), State::Deleted);
        overlay.load(&key(b"b"), None);
        overlay.set(&key(b"b"), State::Put(record(b"b", b"1")));
        overlay.put_row(Family::Payload, b"\0\x01\0\0\0\x01x".to_vec(), "2".into());
        overlay.change_map(&[MapChange::Renew { db: 0 }]);
        overlay.next_version += 1;
        overlay.roll_back(point);
        assert_eq!(overlay.get(&key(b"b")).map(|r| r.is_some()), None);
        assert_eq!(
            overlay.row(Family::Payload, b"\0\x01\0\0\0\x01x"),
            Some(Some(&Bytes::from("1")))
        );
        let effects = overlay.finish(1);
        assert_eq!(
            (effects.metas.len(), effects.rows.len(), effects.maps.len()),
            (1, 1, 0)
        );
        assert_eq!(effects.next_version, 1);
    }

    /// A script may look at the same element without end.
    #[test]
    fn a_row_that_is_met_again_and_again_is_noted_once() {
        let mut overlay = overlay();
        let row = |n: u8| {
            let version = Version {
                epoch: 1,
                counter: u64::from(n),
            };
            sub_key(1, 1, version, b"\x01row")
        };
        for n in 0..10 * FEW_MET {
            overlay.met_row(Family::Data, &row((n % 7) as u8), 5);
        }
        assert!((7..=FEW_MET).contains(&overlay.met.len()));
        overlay.forget_met();
        assert!(overlay.met.is_empty() && overlay.met.capacity() <= FEW_MET);
    }

    #[test]
    fn what_was_created_and_deleted_in_one_batch_is_nothing() {
        let mut overlay = overlay();
        overlay.load(&key(b"a"), None);
        overlay.set(&key(b"a"), State::Put(record(b"a", b"1")));
        overlay.set(&key(b"a"), State::Deleted);
        assert!(overlay.finish(1).is_empty());
    }

    #[test]
    fn a_flush_within_the_batch_drops_what_was_before_it() {
        let mut overlay = overlay();
        overlay.load(&key(b"a"), None);
        overlay.set(&key(b"a"), State::Put(record(b"a", b"1")));
        overlay.change_map(&[MapChange::Renew { db: 0 }]);
        let after = MetaKey::new(1, overlay.map().live.get(0, 1), b"b");
        overlay.load(&after, None);
        let record = Record::new(&after, &Header::inline(KeyType::String, None), b"2");
        overlay.set(&after, State::Put(record));
        let effects = overlay.finish(1);
        assert_eq!(effects.metas.len(), 1);
        assert_eq!(effects.metas[0].key.user_key(), b"b");
    }
}
