//! What evaluation yields: puts, deletes and changes of maps, every choice resolved.
//!
//! The same effects are one RocksDB write (standalone) or one Raft entry
//! (cluster). On the log they name (slot, database), never a generation's
//! physical prefix, so that a follower or an import resolves them by its own
//! map; in memory they hold ready records.
//!
//! ```text
//! entry   format u8 (1) | log time u64 ms | next version u64 | ops until the end      (all BE)
//! op 1    renew:        db u8 (all owned slots of it get a new generation, in op order)
//! op 2    swap:         db u8 | db u8
//! op 3    put meta:     slot u16 | db u8 | flags u8 | [old expiry u64] | key | value
//! op 4    delete meta:  slot u16 | db u8 | flags u8 | [old expiry u64] | key
//! op 5    put row:      family u8 | slot u16 | db u8 | key | value
//! op 6    delete row:   family u8 | slot u16 | db u8 | key
//! op 7    delete rows:  family u8 | slot u16 | db u8 | first key | end key
//! op 8    tag:          bytes (opaque to the data: a step of a move, see migration)
//! op 9    drop expiry:  slot u16 | db u8 | expiry u64 | key   (index row of a record that
//!                       the compaction filter has dropped; it still counted as a key)
//! op 10   renew slots:  db u8 | runs u16, each: first slot u16 | last slot u16
//! op 11   swap slots:   db u8 | db u8 | runs as above
//!                       (ops 10 and 11 only in the increments of a move)
//! op 12   rows go ahead: until u64 | count u32, each: slot u16 | db u8 | version (12 bytes)
//! op 13   rows that went ahead are seen or gone (see `staging`)
//! flags   bit 0: the key did not exist; bit 1: an old expiry follows
//! bytes   length u32 | bytes; the keys of ops 3 to 7 are without slot and generation
//! ```

use bytes::Bytes;
use smallvec::SmallVec;

use super::staging::{Staged, StagedVersion, Staging};
use crate::storage::Followed;
use crate::storage::generations::{DATABASES, DbGenerations, GenerationMap, NONE};
use crate::storage::keys::{MetaKey, PREFIX_LEN, VERSION_LEN, Version, prefix, split};
use crate::storage::record::Record;

/// Format byte of an entry of effects.
pub const ENTRY_FORMAT: u8 = 1;
const CREATED: u8 = 1;
const OLD_EXPIRY: u8 = 2;

/// A column family that holds rows below a `meta` record. Frozen numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    Data = 1,
    Score = 2,
    Payload = 3,
}

impl Family {
    pub const COUNT: usize = 3;
    pub const ALL: [Family; Family::COUNT] = [Family::Data, Family::Score, Family::Payload];

    /// Its place in [`Family::ALL`].
    pub fn place(self) -> usize {
        self as usize - 1
    }

    pub fn from_u8(n: u8) -> Option<Family> {
        Some(match n {
            1 => Family::Data,
            2 => Family::Score,
            3 => Family::Payload,
            _ => return None,
        })
    }
}

/// A change of the live generation map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapChange {
    Renew { db: u8 },
    Swap { a: u8, b: u8 },
}

/// The new state of one `meta` record.
#[derive(Clone, Debug)]
pub struct MetaEffect {
    pub key: MetaKey,
    /// `None`: deleted.
    pub record: Option<Record>,
    /// The key did not exist before (nor expired and uncollected).
    pub created: bool,
    /// The expiry that the `expiry` index holds for the old record.
    pub old_expiry: Option<u64>,
}

impl MetaEffect {
    /// Change of the number of keys: -1, 0 or 1.
    pub fn count_delta(&self) -> i64 {
        match (&self.record, self.created) {
            (Some(_), true) => 1,
            (None, false) => -1,
            _ => 0,
        }
    }
}

/// The physical key of a row. Most fit in: keys are compared with each other all the
/// time, and elsewhere each comparison would wait for memory.
pub type RowKey = SmallVec<[u8; 48]>;

/// A change below a `meta` record; keys are physical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowEffect {
    Put {
        family: Family,
        key: RowKey,
        value: Bytes,
    },
    Delete {
        family: Family,
        key: RowKey,
    },
    DeleteRange {
        family: Family,
        first: Vec<u8>,
        end: Vec<u8>,
    },
}

/// All effects of one batch of commands.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Log time of the entry, unix ms.
    pub log_time: u64,
    /// The group's version counter after the entry.
    pub next_version: u64,
    pub maps: Vec<MapChange>,
    pub metas: Vec<MetaEffect>,
    pub rows: Vec<RowEffect>,
    /// Rows of the `expiry` index whose record is gone: (key, expiry).
    pub expiry_drops: Vec<(MetaKey, u64)>,
    /// A step of a move that travels with the data.
    pub tag: Option<Bytes>,
    /// What the entry adds to the weight of generations. Not on the log: a
    /// measure of the process that evaluated it.
    pub weights: Vec<crate::storage::weight::Change>,
    /// Large values that the entry leaves to the compaction filter. Not on
    /// the log either.
    pub lazily_freed: u64,
    pub staged: Option<Staged>,
    /// How far the store is in the stream of a master afterwards. Not on the log
    /// either: only a standalone group follows one.
    pub followed: Option<Followed>,
}

/// An entry that cannot be decoded: the log is corrupt or of a later version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("log entry of effects cannot be decoded: {0}")]
pub struct DecodeError(&'static str);

/// Applies map changes to the live map; new numbers come from the counter.
pub fn change_map(map: &mut GenerationMap, changes: &[MapChange]) {
    changes
        .iter()
        .for_each(|change| change_one(map, None, *change));
}

/// Applies one change to the live map, or to that of an import.
fn change_one(map: &mut GenerationMap, import: Option<u64>, change: MapChange) {
    let fresh = match change {
        MapChange::Renew { .. } => map.allocate(),
        MapChange::Swap { .. } => NONE,
    };
    let dbs = match import {
        None => Some(&mut map.live),
        Some(plan) => map.import_mut(plan),
    };
    match (dbs, change) {
        (Some(dbs), MapChange::Renew { db }) => dbs.renew(db as usize, fresh),
        (Some(dbs), MapChange::Swap { a, b }) => dbs.swap(a as usize, b as usize),
        (None, _) => {}
    }
}

/// The part of an entry that touches slots which `due` names; a change of the
/// map is narrowed to those of `moving` (runs of slots) that are due. `None` if
/// nothing is left.
pub fn filter(
    entry: &Bytes,
    moving: &[(u16, u16)],
    due: impl Fn(u16) -> bool,
) -> Result<Option<Bytes>, DecodeError> {
    let mut input = Input {
        bytes: entry,
        at: HEADER,
    };
    if entry.len() < HEADER || entry[0] != ENTRY_FORMAT {
        return Err(DecodeError("unknown format"));
    }
    let mut kept = entry[..HEADER].to_vec();
    while input.at < entry.len() {
        let start = input.at;
        match input.skip_op()? {
            Some(slot) if due(slot) => kept.extend_from_slice(&entry[start..input.at]),
            Some(_) => {}
            None => narrow(&entry[start..input.at], moving, &due, &mut kept),
        }
    }
    Ok((kept.len() > HEADER).then(|| kept.into()))
}

/// Writes a change of the map (op 1 or 2) for the due slots alone.
fn narrow(op: &[u8], moving: &[(u16, u16)], due: &impl Fn(u16) -> bool, out: &mut Vec<u8>) {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for slot in moving
        .iter()
        .flat_map(|(first, last)| *first..=*last)
        .filter(|s| due(*s))
    {
        match runs.last_mut() {
            Some(run) if run.1 + 1 == slot => run.1 = slot,
            _ => runs.push((slot, slot)),
        }
    }
    if runs.is_empty() {
        return;
    }
    out.push(op[0] + 9);
    out.extend_from_slice(&op[1..]);
    out.extend_from_slice(&(runs.len() as u16).to_be_bytes());
    for (first, last) in runs {
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&last.to_be_bytes());
    }
}

/// Format, log time and next version.
const HEADER: usize = 17;

impl Effects {
    pub fn is_empty(&self) -> bool {
        self.maps.is_empty()
            && self.metas.is_empty()
            && self.rows.is_empty()
            && self.expiry_drops.is_empty()
            && self.tag.is_none()
            && self.staged.is_none()
    }

    /// The entry's bytes. `live` is the map as it is *after* the entry's changes;
    /// what lies in generations that it does not name is left out.
    pub fn encode(&self, live: &DbGenerations) -> Bytes {
        let mut out = Vec::with_capacity(64 + self.metas.len() * 192);
        self.encode_into(live, &mut out);
        out.into()
    }

    /// [`Effects::encode`] behind what `out` holds already.
    pub fn encode_into(&self, live: &DbGenerations, out: &mut Vec<u8>) {
        let mut out = Output(out);
        out.0.push(ENTRY_FORMAT);
        out.0.extend_from_slice(&self.log_time.to_be_bytes());
        out.0.extend_from_slice(&self.next_version.to_be_bytes());
        for change in &self.maps {
            match *change {
                MapChange::Renew { db } => out.0.extend_from_slice(&[1, db]),
                MapChange::Swap { a, b } => out.0.extend_from_slice(&[2, a, b]),
            }
        }
        match &self.staged {
            Some(Staged::Ahead(staging)) => out.staging(staging, live),
            Some(Staged::Over) => out.0.push(13),
            None => {}
        }
        self.metas.iter().for_each(|meta| out.meta(meta, live));
        self.rows.iter().for_each(|row| out.row(row, live));
        for (key, at) in &self.expiry_drops {
            if out.place(9, None, key.physical(), live) {
                out.0.extend_from_slice(&at.to_be_bytes());
                out.bytes(key.user_key());
            }
        }
        if let Some(tag) = &self.tag {
            out.0.push(8);
            out.bytes(tag);
        }
    }

    /// Decodes an entry. `map` is the group's map *before* the entry; `import`
    /// names the plan whose generations take the rows, or `None` for live ones.
    pub fn decode(
        entry: &Bytes,
        map: &GenerationMap,
        import: Option<u64>,
    ) -> Result<Effects, DecodeError> {
        Effects::decode_onto(entry, &mut map.clone(), import)
    }

    /// [`Effects::decode`] that leaves `map` as it is *after* the entry.
    pub fn decode_onto(
        entry: &Bytes,
        map: &mut GenerationMap,
        import: Option<u64>,
    ) -> Result<Effects, DecodeError> {
        let mut input = Input {
            bytes: entry,
            at: 0,
        };
        if input.u8()? != ENTRY_FORMAT {
            return Err(DecodeError("unknown format"));
        }
        let mut effects = Effects {
            log_time: input.u64()?,
            next_version: input.u64()?,
            ..Effects::default()
        };
        while input.at < entry.len() {
            input.op(&mut effects, map, import)?;
        }
        Ok(effects)
    }

    /// Slots that the entry touches, in order of first touch, without repeats.
    pub fn slots(&self) -> Vec<u16> {
        let rows = self.rows.iter().map(|row| match row {
            RowEffect::Put { key, .. } | RowEffect::Delete { key, .. } => &key[..],
            RowEffect::DeleteRange { first, .. } => first,
        });
        let mut seen = vec![false; cairn_protocol::slot::SLOT_COUNT as usize];
        let metas = self.metas.iter().map(|m| m.key.physical());
        let drops = self.expiry_drops.iter().map(|(key, _)| key.physical());
        metas
            .chain(drops)
            .chain(rows)
            .filter_map(|key| split(key).map(|(slot, _, _)| slot))
            .filter(|slot| !std::mem::replace(&mut seen[*slot as usize], true))
            .collect()
    }
}

struct Output<'a>(&'a mut Vec<u8>);

impl Output<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0
            .extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// Writes op, [family], slot and database; false if no map names the key.
    fn place(&mut self, op: u8, family: Option<Family>, key: &[u8], live: &DbGenerations) -> bool {
        let Some((slot, generation, _)) = split(key) else {
            return false;
        };
        let Some(db) = live.database_of(slot, generation) else {
            return false;
        };
        self.0.push(op);
        self.0.extend(family.map(|f| f as u8));
        self.0.extend_from_slice(&slot.to_be_bytes());
        self.0.push(db as u8);
        true
    }

    fn staging(&mut self, staging: &Staging, live: &DbGenerations) {
        self.0.push(12);
        self.0.extend_from_slice(&staging.until.to_be_bytes());
        let placed = staging.versions.iter().filter_map(|staged| {
            let db = live.database_of(staged.slot, staged.generation)?;
            Some((staged.slot, db as u8, staged.version))
        });
        let placed: Vec<_> = placed.collect();
        self.0
            .extend_from_slice(&(placed.len() as u32).to_be_bytes());
        for (slot, db, version) in placed {
            self.0.extend_from_slice(&slot.to_be_bytes());
            self.0.push(db);
            self.0.extend_from_slice(&version.to_bytes());
        }
    }

    fn meta(&mut self, meta: &MetaEffect, live: &DbGenerations) {
        let op = if meta.record.is_some() { 3 } else { 4 };
        if !self.place(op, None, meta.key.physical(), live) {
            return;
        }
        let old = if meta.old_expiry.is_some() {
            OLD_EXPIRY
        } else {
            0
        };
        self.0.push(old | if meta.created { CREATED } else { 0 });
        if let Some(ms) = meta.old_expiry {
            self.0.extend_from_slice(&ms.to_be_bytes());
        }
        self.bytes(meta.key.user_key());
        if let Some(record) = &meta.record {
            self.bytes(record.value());
        }
    }

    fn row(&mut self, row: &RowEffect, live: &DbGenerations) {
        match row {
            RowEffect::Put { family, key, value } => {
                if self.place(5, Some(*family), key, live) {
                    self.bytes(&key[PREFIX_LEN..]);
                    self.bytes(value);
                }
            }
            RowEffect::Delete { family, key } => {
                if self.place(6, Some(*family), key, live) {
                    self.bytes(&key[PREFIX_LEN..]);
                }
            }
            RowEffect::DeleteRange { family, first, end } => {
                if self.place(7, Some(*family), first, live) {
                    self.bytes(&first[PREFIX_LEN..]);
                    self.bytes(&end[PREFIX_LEN..]);
                }
            }
        }
    }
}

/// Writes an entry of puts alone: a part of a chunk of a move.
pub struct PartWriter(Vec<u8>);

impl PartWriter {
    /// `next_version`: no row that is to come has a version with this counter or a
    /// higher one.
    pub fn new(next_version: u64) -> PartWriter {
        let mut entry = vec![ENTRY_FORMAT];
        entry.extend_from_slice(&0u64.to_be_bytes());
        entry.extend_from_slice(&next_version.to_be_bytes());
        PartWriter(entry)
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.0.len() == HEADER
    }

    /// A new key with its encoded value.
    pub fn put_meta(&mut self, slot: u16, db: usize, key: &[u8], value: &[u8]) {
        self.0.push(3);
        self.0.extend_from_slice(&slot.to_be_bytes());
        self.0.extend_from_slice(&[db as u8, CREATED]);
        let mut out = Output(&mut self.0);
        out.bytes(key);
        out.bytes(value);
    }

    /// A row; `key` is without slot and generation.
    pub fn put_row(&mut self, family: Family, slot: u16, db: usize, key: &[u8], value: &[u8]) {
        self.0.extend_from_slice(&[5, family as u8]);
        self.0.extend_from_slice(&slot.to_be_bytes());
        self.0.push(db as u8);
        let mut out = Output(&mut self.0);
        out.bytes(key);
        out.bytes(value);
    }

    pub fn finish(self) -> Bytes {
        self.0.into()
    }
}

struct Input<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Input<'_> {
    fn take(&mut self, n: usize) -> Result<Bytes, DecodeError> {
        let end = self
            .at
            .checked_add(n)
            .filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(DecodeError("truncated"))?;
        let out = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(out)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let head = self.bytes[self.at..]
            .first_chunk::<N>()
            .ok_or(DecodeError("truncated"))?;
        self.at += N;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[b]| b)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    fn string(&mut self) -> Result<Bytes, DecodeError> {
        let n = self.array().map(u32::from_be_bytes)?;
        self.take(n as usize)
    }

    fn db(&mut self) -> Result<u8, DecodeError> {
        let db = self.u8()?;
        if (db as usize) < DATABASES {
            Ok(db)
        } else {
            Err(DecodeError("no such database"))
        }
    }

    /// Slot and database, resolved to the prefix of the generation there.
    fn place(
        &mut self,
        map: &GenerationMap,
        import: Option<u64>,
    ) -> Result<[u8; PREFIX_LEN], DecodeError> {
        let slot = self.array().map(u16::from_be_bytes)?;
        let db = self.db()? as usize;
        if slot >= cairn_protocol::slot::SLOT_COUNT {
            return Err(DecodeError("no such slot"));
        }
        let dbs = match import {
            None => &map.live,
            Some(plan) => map.import(plan).ok_or(DecodeError("no such import"))?,
        };
        match dbs.get(db, slot) {
            NONE => Err(DecodeError("the slot has no generation here")),
            generation => Ok(prefix(slot, generation)),
        }
    }

    fn key(&mut self, prefix: [u8; PREFIX_LEN]) -> Result<Vec<u8>, DecodeError> {
        let rest = self.string()?;
        let mut key = Vec::with_capacity(PREFIX_LEN + rest.len());
        key.extend_from_slice(&prefix);
        key.extend_from_slice(&rest);
        Ok(key)
    }

    /// Passes over one operation; the slot that it touches, `None` if it is
    /// a change of the map.
    fn skip_op(&mut self) -> Result<Option<u16>, DecodeError> {
        let op = self.u8()?;
        match op {
            1 => return self.take(1).map(|_| None),
            2 => return self.take(2).map(|_| None),
            // A tag belongs to the group that wrote it.
            8 => return self.string().map(|_| Some(u16::MAX)),
            12 => {
                self.u64()?;
                let count = self.array().map(u32::from_be_bytes)? as usize;
                let each = 3 + VERSION_LEN;
                return self
                    .take(count.saturating_mul(each))
                    .map(|_| Some(u16::MAX));
            }
            13 => return Ok(Some(u16::MAX)),
            5..=7 => drop(self.u8()?),
            3 | 4 | 9 => {}
            _ => return Err(DecodeError("unknown operation")),
        }
        let slot = self.array().map(u16::from_be_bytes)?;
        self.u8()?;
        match op {
            9 => drop(self.u64()?),
            3 | 4 if self.u8()? & OLD_EXPIRY != 0 => drop(self.u64()?),
            _ => {}
        }
        self.string()?;
        if matches!(op, 3 | 5 | 7) {
            self.string()?;
        }
        Ok(Some(slot))
    }

    fn op(
        &mut self,
        effects: &mut Effects,
        map: &mut GenerationMap,
        import: Option<u64>,
    ) -> Result<(), DecodeError> {
        match self.u8()? {
            1 => {
                let change = MapChange::Renew { db: self.db()? };
                self.change(effects, map, import, change);
            }
            2 => {
                let change = MapChange::Swap {
                    a: self.db()?,
                    b: self.db()?,
                };
                self.change(effects, map, import, change);
            }
            op @ (3 | 4) => {
                let meta = self.meta(op == 3, map, import)?;
                effects.metas.push(meta);
            }
            op @ 5..=7 => {
                let family = Family::from_u8(self.u8()?).ok_or(DecodeError("no such family"))?;
                let prefix = self.place(map, import)?;
                let key = self.key(prefix)?;
                effects.rows.push(match op {
                    5 => RowEffect::Put {
                        family,
                        key: key.into(),
                        value: self.string()?,
                    },
                    6 => RowEffect::Delete {
                        family,
                        key: key.into(),
                    },
                    _ => RowEffect::DeleteRange {
                        family,
                        first: key,
                        end: self.key(prefix)?,
                    },
                });
            }
            8 => effects.tag = Some(self.string()?),
            12 => effects.staged = Some(Staged::Ahead(self.staging(map)?)),
            13 => effects.staged = Some(Staged::Over),
            op @ (10 | 11) => self.change_slots(op, map, import)?,
            9 => {
                let prefix = self.place(map, import)?;
                let at = self.u64()?;
                effects.expiry_drops.push((self.meta_key(prefix)?, at));
            }
            _ => return Err(DecodeError("unknown operation")),
        }
        Ok(())
    }

    fn staging(&mut self, map: &GenerationMap) -> Result<Staging, DecodeError> {
        let until = self.u64()?;
        let mut versions = Vec::new();
        for _ in 0..self.array().map(u32::from_be_bytes)? {
            let prefix = self.place(map, None)?;
            let (slot, generation, _) = split(&prefix).ok_or(DecodeError("truncated"))?;
            let version = Version::from_bytes(&self.array::<VERSION_LEN>()?);
            versions.push(StagedVersion {
                slot,
                generation,
                version: version.ok_or(DecodeError("truncated"))?,
            });
        }
        Ok(Staging { until, versions })
    }

    /// A change of an import's map for some of its slots.
    fn change_slots(
        &mut self,
        op: u8,
        map: &mut GenerationMap,
        import: Option<u64>,
    ) -> Result<(), DecodeError> {
        let a = self.db()? as usize;
        let b = if op == 11 { self.db()? as usize } else { a };
        let mut runs = Vec::new();
        for _ in 0..self.array().map(u16::from_be_bytes)? {
            let first = self.array().map(u16::from_be_bytes)?;
            let last = self.array().map(u16::from_be_bytes)?;
            if first > last || last >= cairn_protocol::slot::SLOT_COUNT {
                return Err(DecodeError("no such slots"));
            }
            runs.push((first, last));
        }
        let plan = import.ok_or(DecodeError("a change of some slots outside a move"))?;
        let fresh = if op == 10 { map.allocate() } else { NONE };
        let dbs = map.import_mut(plan).ok_or(DecodeError("no such import"))?;
        match op {
            10 => dbs.renew_slots(a, &runs, fresh),
            _ => dbs.swap_slots(a, b, &runs),
        }
        Ok(())
    }

    fn meta_key(&mut self, prefix: [u8; PREFIX_LEN]) -> Result<MetaKey, DecodeError> {
        let slot = u16::from_be_bytes([prefix[0], prefix[1]]);
        let generation = u32::from_be_bytes([prefix[2], prefix[3], prefix[4], prefix[5]]);
        Ok(MetaKey::new(slot, generation, &self.string()?))
    }

    fn change(
        &mut self,
        effects: &mut Effects,
        map: &mut GenerationMap,
        import: Option<u64>,
        change: MapChange,
    ) {
        change_one(map, import, change);
        effects.maps.push(change);
    }

    fn meta(
        &mut self,
        put: bool,
        map: &GenerationMap,
        import: Option<u64>,
    ) -> Result<MetaEffect, DecodeError> {
        let prefix = self.place(map, import)?;
        let flags = self.u8()?;
        let old_expiry = if flags & OLD_EXPIRY != 0 {
            Some(self.u64()?)
        } else {
            None
        };
        let key = self.meta_key(prefix)?;
        let record = match put {
            true => Some(Record::from_encoded(key.physical(), &self.string()?)),
            false => None,
        };
        Ok(MetaEffect {
            key,
            record,
            created: flags & CREATED != 0,
            old_expiry,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::header::{Header, KeyType};
    use crate::storage::keys::slot_of;

    fn sample(map: &GenerationMap) -> Effects {
        let slot = slot_of(b"foo");
        let generation = map.live.get(2, slot);
        let key = MetaKey::new(slot, generation, b"foo");
        let record = Record::new(&key, &Header::inline(KeyType::String, None), b"v");
        let drops = vec![(key.clone(), 7)];
        let put = MetaEffect {
            key: key.clone(),
            record: Some(record),
            created: true,
            old_expiry: None,
        };
        let row = [key.physical(), &b"r"[..]].concat();
        Effects {
            log_time: 1,
            next_version: 2,
            maps: vec![],
            metas: vec![
                put,
                MetaEffect {
                    key,
                    record: None,
                    created: false,
                    old_expiry: Some(9),
                },
            ],
            rows: vec![RowEffect::Put {
                family: Family::Payload,
                key: row.into(),
                value: "x".into(),
            }],
            expiry_drops: drops,
            tag: Some("t".into()),
            ..Effects::default()
        }
    }

    #[test]
    fn golden_bytes_of_an_entry() {
        let map = GenerationMap::all_slots();
        let entry = sample(&map).encode(&map.live);
        let want: &[u8] = b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\
            \x03\x2f\x96\x02\x01\0\0\0\x03foo\0\0\0\x03\x10\0v\
            \x04\x2f\x96\x02\x02\0\0\0\0\0\0\0\x09\0\0\0\x03foo\
            \x05\x03\x2f\x96\x02\0\0\0\x04foor\0\0\0\x01x\
            \x09\x2f\x96\x02\0\0\0\0\0\0\0\x07\0\0\0\x03foo\
            \x08\0\0\0\x01t";
        assert_eq!(&entry[..], want);
    }

    #[test]
    fn an_entry_comes_back_and_every_truncation_is_refused() {
        let map = GenerationMap::all_slots();
        let effects = sample(&map);
        let entry = effects.encode(&map.live);
        let back = Effects::decode(&entry, &map, None).unwrap();
        assert_eq!(back.encode(&map.live), entry);
        assert_eq!(back.slots(), [12182]);
        for cut in 1..entry.len() {
            // A cut between two operations is a shorter entry; never a panic.
            let _ = Effects::decode(&entry.slice(..cut), &map, None);
        }
        assert!(Effects::decode(&entry.slice(..entry.len() - 1), &map, None).is_err());
    }

    #[test]
    fn a_filtered_entry_keeps_due_slots_and_map_changes() {
        let map = GenerationMap::all_slots();
        let mut effects = sample(&map);
        effects.tag = None;
        let entry = effects.encode(&map.live);
        let all = [(0, 16383)];
        assert_eq!(
            filter(&entry, &all, |slot| slot == 12182).unwrap(),
            Some(entry.clone())
        );
        assert_eq!(filter(&entry, &all, |_| false).unwrap(), None);
        let maps = vec![MapChange::Renew { db: 1 }, MapChange::Swap { a: 0, b: 2 }];
        let entry = Effects {
            maps,
            ..Effects::default()
        }
        .encode(&map.live);
        assert_eq!(filter(&entry, &all, |_| false).unwrap(), None);
        let part = filter(&entry, &[(5, 9)], |slot| slot != 7)
            .unwrap()
            .unwrap();
        let runs: &[u8] = &[0, 2, 0, 5, 0, 6, 0, 8, 0, 9];
        assert_eq!(part[HEADER..], [&[10, 1], runs, &[11, 0, 2], runs].concat());
        let mut map = map;
        let mut import = DbGenerations::none();
        import.set(1, 5..=9, 100);
        map.imports.push((3, import));
        let fresh = map.next;
        Effects::decode_onto(&part, &mut map, Some(3)).unwrap();
        let import = map.import(3).unwrap();
        assert_eq!((import.get(1, 5), import.get(1, 7)), (fresh, 100));
    }

    #[test]
    fn what_was_flushed_within_the_entry_is_left_out() {
        let map = GenerationMap::all_slots();
        let mut effects = sample(&map);
        effects.maps = vec![MapChange::Renew { db: 2 }];
        let mut after = map.clone();
        change_map(&mut after, &effects.maps);
        let back = Effects::decode(&effects.encode(&after.live), &map, None).unwrap();
        assert!(back.metas.is_empty() && back.rows.is_empty());
        assert_eq!(back.maps, effects.maps);
    }

    #[test]
    fn rows_that_go_ahead_are_told_to_replicas_and_not_to_an_import() {
        let map = GenerationMap::all_slots();
        let staging = Staging {
            until: 9,
            versions: vec![StagedVersion {
                slot: 12182,
                generation: map.live.get(2, 12182),
                version: Version {
                    epoch: 1,
                    counter: 7,
                },
            }],
        };
        for (staged, ops) in [
            (
                Staged::Ahead(staging),
                &b"\x0c\0\0\0\0\0\0\0\x09\0\0\0\x01\x2f\x96\x02\
                    \0\0\0\x01\0\0\0\0\0\0\0\x07"[..],
            ),
            (Staged::Over, b"\x0d"),
        ] {
            let effects = Effects {
                staged: Some(staged.clone()),
                ..Effects::default()
            };
            let entry = effects.encode(&map.live);
            assert_eq!(&entry[HEADER..], ops);
            let back = Effects::decode(&entry, &map, None).unwrap();
            assert_eq!(back.staged, Some(staged));
            let all = [(0, 16383)];
            assert_eq!(filter(&entry, &all, |slot| slot < 16384).unwrap(), None);
            for cut in 1..entry.len() {
                let _ = Effects::decode(&entry.slice(..cut), &map, None);
                let _ = filter(&entry.slice(..cut), &all, |_| true);
            }
        }
    }
}
