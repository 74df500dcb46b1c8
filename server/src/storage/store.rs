//! One group replica's state: RocksDB, caches, maps and counters.
//!
//! Changed by one caller at a time ([`Store::apply`], the group's writer or
//! the replica's log); read by anyone. Invariants:
//! - applied index, log time, counters and data move in one write batch;
//! - a reader that overlaps an apply can tell ([`Store::epoch`]);
//! - the caches never hold what RocksDB does not (see `cache`, `scan_cache`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use cairn_protocol::slot::SLOT_COUNT;
use parking_lot::Mutex;
use rocksdb::{Direction, ErrorKind, IteratorMode, WriteBatch, WriteOptions};
use smallvec::SmallVec;

use super::access::AccessTable;
use super::applied::Applied;
use super::cache::RecordCache;
use super::cached_rows::RowName;
use super::collection::Collection;
use super::counters::{Counters, Delta, encode_journal, journal_key, snapshot_key};
use super::engine::{Engine, MemoryPlan, Resources};
use super::expiry_hints::ExpiryHints;
use super::followed::Followed;
use super::generations::{DATABASES, GenerationMap};
use super::header::Header;
use super::keys::{Generation, MetaKey, expiry_key, slot_of};
use super::limits::TypeLimits;
use super::record::Record;
use super::scan_cache::ScanCache;
use super::scan_positions::ScanPositions;
use super::splice::{self, MAX_SPLICES};
use super::view::{DurableView, Held, Hold, ViewCell};
use super::wanted::Wanted;
use super::weight::{Weighed, Weights};
use crate::txn::effects::{Effects, Family, MetaEffect, RowEffect, change_map};
use crate::txn::error::CommandError;
use crate::txn::staging::{Staged, Staging};

/// Journal rows of counters before they are folded.
const FOLD_EVERY: u64 = 4096;

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// RocksDB's own log, handed to the kernel with each batch.
    Wal,
    /// RocksDB's own log, synced with each batch (`appendfsync always`).
    WalSynced,
    /// The Raft log; RocksDB keeps none.
    External,
}

/// Position of the replica in its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub index: u64,
    pub term: u64,
}

/// Why a store could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("RocksDB at {path}: {source}")]
    RocksDb {
        path: PathBuf,
        source: rocksdb::Error,
    },
    #[error("{path}: the row `{row}` cannot be understood; it is corrupt or of a later version")]
    Corrupt { path: PathBuf, row: &'static str },
    /// The write would have to wait for compaction; nothing was written.
    #[error("the write would stall")]
    WouldStall,
}

/// The row of the family `system` for rows that went ahead; see `txn::staging`.
const STAGED: &[u8] = b"staged";
/// How far the store is in a master's stream; see `followed`.
const FOLLOWED: &[u8] = b"followed";

/// Changes of a group's own state that ride in an entry's write batch.
#[derive(Default)]
pub struct SystemChanges {
    /// The generation map after the entry, where it is not that of the
    /// entry's own map changes.
    pub map: Option<GenerationMap>,
    /// Rows of the family `system`; `None` deletes.
    pub rows: Vec<(Vec<u8>, Option<Bytes>)>,
}

/// See the module's documentation.
pub struct Store {
    path: PathBuf,
    engine: Engine,
    pub cache: RecordCache,
    /// Rows of the family `score`, for short scans.
    pub scan_cache: ScanCache,
    /// Sets whose counts readers want written.
    pub wanted: Wanted,
    pub counters: Counters,
    /// What the data of each generation weighs.
    pub weights: Weights,
    /// When keys were last used.
    pub access: AccessTable,
    /// Large values that were deleted, their rows left to the filter.
    pub lazily_freed: AtomicU64,
    pub hints: ExpiryHints,
    pub scan_positions: ScanPositions,
    /// When values change their form.
    pub limits: TypeLimits,
    /// Whether a row of a stream's node may name the next one: in a cluster every node
    /// must know such rows.
    pub names_nodes: AtomicBool,
    maps: ArcSwap<GenerationMap>,
    views: Arc<ViewCell>,
    /// Even: at rest. Odd: an apply is between its first and last visible change.
    epoch: AtomicU64,
    index: AtomicU64,
    term: AtomicU64,
    log_time: AtomicU64,
    next_version: AtomicU64,
    /// Rows that went ahead of an entry that has not come; touched by large entries.
    staged: Mutex<Option<Staging>>,
    folded: AtomicU64,
    /// A map change left rows behind for the compaction filter.
    garbage: AtomicBool,
    pub(crate) collection: Collection,
}

impl Store {
    /// Opens or creates the store under `path`; `initial` is the map of a new one.
    pub fn open(
        path: &Path,
        resources: &Resources,
        wal: bool,
        initial: GenerationMap,
    ) -> Result<Store, StoreError> {
        let views = Arc::new(ViewCell::default());
        let failed = |source| StoreError::RocksDb {
            path: path.to_path_buf(),
            source,
        };
        let engine = Engine::open(path, resources, &views, wal).map_err(failed)?;
        let store = Store {
            path: path.to_path_buf(),
            engine,
            cache: RecordCache::new(resources.plan.record_cache),
            scan_cache: ScanCache::new(resources.plan.scan_cache),
            wanted: Wanted::default(),
            counters: Counters::default(),
            weights: Weights::default(),
            access: AccessTable::default(),
            lazily_freed: AtomicU64::new(0),
            hints: ExpiryHints::default(),
            scan_positions: ScanPositions::default(),
            limits: TypeLimits::default(),
            names_nodes: AtomicBool::new(wal),
            maps: ArcSwap::from_pointee(initial),
            views,
            epoch: AtomicU64::new(0),
            index: AtomicU64::new(0),
            term: AtomicU64::new(0),
            log_time: AtomicU64::new(0),
            next_version: AtomicU64::new(1),
            staged: Mutex::default(),
            folded: AtomicU64::new(0),
            garbage: AtomicBool::new(false),
            collection: Collection::default(),
        };
        store.load()?;
        Ok(store)
    }

    /// Takes one of `stores` equal shares of what the process has for caches of rows.
    pub fn share_caches(&self, plan: &MemoryPlan, stores: usize) {
        let stores = stores.max(1);
        self.cache.set_budget(plan.record_cache / stores);
        self.scan_cache.set_budget(plan.scan_cache / stores);
    }

    fn corrupt(&self, row: &'static str) -> StoreError {
        StoreError::Corrupt {
            path: self.path.clone(),
            row,
        }
    }

    fn failed(&self, source: rocksdb::Error) -> StoreError {
        StoreError::RocksDb {
            path: self.path.clone(),
            source,
        }
    }

    fn load(&self) -> Result<(), StoreError> {
        let system = self.engine.system;
        let get = |key: &[u8]| {
            self.engine
                .db
                .get_cf(&system, key)
                .map_err(|e| self.failed(e))
        };
        match get(b"maps")? {
            Some(bytes) => {
                let map = GenerationMap::decode(&bytes).ok_or_else(|| self.corrupt("maps"))?;
                self.maps.store(Arc::new(map));
            }
            None => {
                let bytes = self.maps.load().encode();
                self.engine
                    .db
                    .put_cf(&system, b"maps", bytes)
                    .map_err(|e| self.failed(e))?;
            }
        }
        if let Some(bytes) = get(b"applied")? {
            let applied = Applied::decode(&bytes).ok_or_else(|| self.corrupt("applied"))?;
            self.index.store(applied.index, Ordering::Release);
            self.term.store(applied.term, Ordering::Release);
            self.log_time.store(applied.log_time, Ordering::Release);
            self.next_version
                .store(applied.next_version, Ordering::Release);
            match applied.weights {
                Some(weights) => self.weights.set(&weights),
                None => self.weights.set(&self.guessed_weights()),
            }
        } else {
            // Nothing was ever applied.
            self.cache.begin_whole();
        }
        if let Some(bytes) = get(STAGED)? {
            let staging = Staging::decode(&bytes).ok_or_else(|| self.corrupt("staged"))?;
            *self.staged.lock() = Some(staging);
        }
        self.load_counters()?;
        self.load_hints()
    }

    /// For a directory that has none yet: what RocksDB makes of it, all of it
    /// in the first database.
    fn guessed_weights(&self) -> Vec<(Generation, u64)> {
        let e = &self.engine;
        let live = [e.meta, e.data, e.payload]
            .into_iter()
            .filter_map(|family| {
                let property = "rocksdb.estimate-live-data-size";
                e.db.property_int_value_cf(&family, property).ok().flatten()
            });
        let bytes = live.sum();
        let first = self.maps.load().live.runs(0).first().map(|run| run.2);
        first
            .map(|generation| (generation, bytes))
            .into_iter()
            .collect()
    }

    /// Changes of weight by an entry: its own, and of records that the filter
    /// has dropped, which weighed as much as others.
    fn weights_after(&self, effects: &Effects, map: Option<&GenerationMap>) -> Weighed {
        let mut dropped: Vec<(Generation, i64)> = Vec::new();
        for (key, _) in &effects.expiry_drops {
            match dropped.iter_mut().find(|(g, _)| *g == key.generation()) {
                Some((_, count)) => *count += 1,
                None => dropped.push((key.generation(), 1)),
            }
        }
        let dropped = dropped.into_iter().map(|(generation, count)| {
            let keys = self.counters.sum(generation, 0..=SLOT_COUNT - 1).max(1);
            let average = self.weights.of(generation) / keys;
            (generation, -count * average as i64)
        });
        let changes = effects.weights.iter().copied().chain(dropped);
        let is_live = |generation| match map {
            Some(map) => map.names_anywhere(generation),
            None => true,
        };
        self.weights.after(changes, is_live)
    }

    fn load_counters(&self) -> Result<(), StoreError> {
        let from = IteratorMode::From(b"C", Direction::Forward);
        for row in self.engine.db.iterator_cf(&self.engine.system, from) {
            let (key, value) = row.map_err(|e| self.failed(e))?;
            let loaded = match key.first() {
                Some(b'C') => self.counters.load_snapshot(&key, &value),
                Some(b'c') => self.counters.load_journal(&value),
                _ => continue,
            };
            loaded.ok_or_else(|| self.corrupt("counters"))?;
        }
        // Journal rows may speak of generations that were flushed since.
        self.counters.forget(&self.uncounted(&self.maps()));
        Ok(())
    }

    /// Generations that are counted and will be in no map.
    fn uncounted(&self, map: &GenerationMap) -> Vec<Generation> {
        let named = map.named();
        self.counters
            .others(|g| g >= map.next || named.contains(&g))
    }

    /// One seek per (slot, generation) that has expiring keys.
    fn load_hints(&self) -> Result<(), StoreError> {
        let mut rows = self.engine.db.raw_iterator_cf(&self.engine.expiry);
        rows.seek_to_first();
        while let Some(row) = rows.key() {
            let (slot, generation, _) =
                super::keys::split(row).ok_or_else(|| self.corrupt("expiry"))?;
            let (at, _) = super::keys::split_expiry(row).ok_or_else(|| self.corrupt("expiry"))?;
            self.hints.lower(generation, slot, at);
            match super::keys::prefix_end(slot, generation) {
                Some(next) => rows.seek(next),
                None => break,
            }
        }
        rows.status().map_err(|e| self.failed(e))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn maps(&self) -> Arc<GenerationMap> {
        self.maps.load_full()
    }

    /// Runs `f` on the current maps without touching their count.
    pub fn with_maps<T>(&self, f: impl FnOnce(&GenerationMap) -> T) -> T {
        f(&self.maps.load())
    }

    /// Log time of the last applied entry, unix ms.
    pub fn log_time(&self) -> u64 {
        self.log_time.load(Ordering::Acquire)
    }

    pub fn next_version(&self) -> u64 {
        self.next_version.load(Ordering::Acquire)
    }

    pub fn position(&self) -> Position {
        Position {
            index: self.index.load(Ordering::Acquire),
            term: self.term.load(Ordering::Acquire),
        }
    }

    /// What went ahead of an entry that has not come.
    pub fn staged(&self) -> Option<Staging> {
        self.staged.lock().clone()
    }

    /// A number that is even and unchanged over a read of several records
    /// exactly if no apply overlapped it.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// What the store held last of a master's stream. `None`: nothing, or something
    /// else has changed it since. One that was still being loaded is told in any case.
    ///
    /// # Errors
    /// Of the storage; the row is corrupt or of a later version.
    pub fn followed(&self) -> Result<Option<Followed>, StoreError> {
        let row = self.engine.db.get_cf(&self.engine.system, FOLLOWED);
        let Some(bytes) = row.map_err(|e| self.failed(e))? else {
            return Ok(None);
        };
        let row = Followed::decode(&bytes).ok_or_else(|| self.corrupt("followed"))?;
        let (followed, index) = row;
        let holds = index == self.position().index || !followed.in_step;
        Ok(holds.then_some(followed))
    }

    /// Forgets [`Store::followed`].
    ///
    /// # Errors
    /// Of the storage.
    pub fn forget_followed(&self) -> Result<(), StoreError> {
        let deleted = self.engine.db.delete_cf(&self.engine.system, FOLLOWED);
        deleted.map_err(|e| self.failed(e))
    }

    /// Reads one record, an expired one included. `disk: false` answers
    /// [`CommandError::Cold`] instead of waiting for the disk.
    pub fn record(&self, key: &MetaKey, disk: bool) -> Result<Option<Record>, CommandError> {
        let token = match self.cache.get(key.hash(), key.physical()) {
            Ok(known) => return Ok(known),
            Err(token) => token,
        };
        let Some(value) = self.engine.get(self.engine.meta, key.physical(), disk)? else {
            return Ok(None);
        };
        let record = Record::from_encoded(key.physical(), &value);
        self.cache.fill(token, key.hash(), record.clone());
        Ok(Some(record))
    }

    /// Announces look-ups of these keys of database `db`: see
    /// [`RecordCache::prefetch_places`].
    pub fn prefetch<'k>(&self, db: usize, names: impl Iterator<Item = &'k [u8]>) {
        let hashes: SmallVec<[u64; 64]> =
            self.with_maps(|maps| names.map(|name| hash_of(maps, db, name)).collect());
        self.cache.prefetch(&hashes);
    }

    /// The first half of [`Store::prefetch`]; what the second needs is added to `hashes`.
    pub fn prefetch_places<'k>(
        &self,
        db: usize,
        names: impl Iterator<Item = &'k [u8]>,
        hashes: &mut Vec<u64>,
    ) {
        let from = hashes.len();
        self.with_maps(|maps| hashes.extend(names.map(|name| hash_of(maps, db, name))));
        self.cache.prefetch_places(&hashes[from..]);
    }

    /// The second half.
    pub fn prefetch_records(&self, hashes: &[u64]) {
        self.cache.prefetch_records(hashes);
    }

    /// A record, if the cache has it.
    pub fn cached(&self, key: &MetaKey) -> Option<Record> {
        self.cache.get(key.hash(), key.physical()).ok().flatten()
    }

    /// Announces look-ups of these rows of the family `data`, as [`Store::prefetch`].
    /// `hashes`: [`row_hash`](super::row_hash) of each.
    pub fn prefetch_rows(&self, hashes: &[u64]) {
        self.cache.prefetch(hashes);
    }

    /// Reads one row below a record.
    pub fn row(
        &self,
        family: Family,
        key: &[u8],
        disk: bool,
    ) -> Result<Option<Bytes>, CommandError> {
        match family {
            Family::Data => return self.element(key, disk),
            Family::Score => {
                if let Some(known) = self.scan_cache.row(key) {
                    return Ok(known);
                }
            }
            Family::Payload => {}
        }
        let value = self.engine.get(self.engine.family(family), key, disk)?;
        Ok(value.map(|v| Bytes::copy_from_slice(&v)))
    }

    /// A row of the family `data`.
    fn element(&self, key: &[u8], disk: bool) -> Result<Option<Bytes>, CommandError> {
        let name = RowName::of(key);
        let token = match self.cache.row(&name) {
            Ok(known) => return Ok(known),
            Err(token) => token,
        };
        let Some(value) = self.engine.get(self.engine.data, key, disk)? else {
            return Ok(None);
        };
        self.cache.fill_row(token, &name, &value);
        Ok(Some(Bytes::copy_from_slice(&value)))
    }

    /// Whether the expiry index has a row for `key` at this time.
    pub fn has_expiry_row(&self, key: &MetaKey, at: u64) -> Result<bool, rocksdb::Error> {
        let row = expiry_key(key.physical(), at);
        let found = self.engine.get(self.engine.expiry, &row, true)?;
        Ok(found.is_some())
    }

    /// Applies one entry: one RocksDB write, then cache, counters and maps.
    ///
    /// `stall: false` refuses with [`StoreError::WouldStall`] rather than wait
    /// for compaction; nothing has changed then.
    pub fn apply(
        &self,
        effects: &Effects,
        position: Position,
        log: Log,
        stall: bool,
    ) -> Result<(), StoreError> {
        self.apply_with(effects, SystemChanges::default(), position, log, stall)
    }

    /// [`Store::apply`] with changes of the group's own state in the same batch.
    pub fn apply_with(
        &self,
        effects: &Effects,
        changes: SystemChanges,
        position: Position,
        log: Log,
        stall: bool,
    ) -> Result<(), StoreError> {
        let mut olds: SmallVec<[Option<Record>; 32]> = SmallVec::new();
        for meta in &effects.metas {
            let old = self.cache.mark(meta.key.hash(), meta.key.physical());
            // A Raft log has the whole record anyway: nothing is spliced.
            if log != Log::External {
                olds.push(old);
            }
        }
        let mut batch = WriteBatch::with_capacity_bytes(256 + effects.metas.len() * 192);
        let deltas = self.fill_batch(&mut batch, effects, &olds);
        let map = match changes.map {
            Some(map) => {
                batch.put_cf(&self.engine.system, b"maps", map.encode());
                Some(map)
            }
            None => self.changed_map(&mut batch, effects),
        };
        for (key, value) in &changes.rows {
            match value {
                Some(value) => batch.put_cf(&self.engine.system, key, value),
                None => batch.delete_cf(&self.engine.system, key),
            }
        }
        match &effects.staged {
            Some(Staged::Ahead(staging)) => {
                batch.put_cf(&self.engine.system, STAGED, staging.encode());
            }
            Some(Staged::Over) => batch.delete_cf(&self.engine.system, STAGED),
            None => {}
        }
        let dead = map.as_ref().map_or(Vec::new(), |map| self.uncounted(map));
        // Entries of a Raft log bring no weights.
        let weighed = log != Log::External;
        let weights = weighed.then(|| self.weights_after(effects, map.as_ref()));
        self.fill_system(&mut batch, effects, position, &deltas, weights.as_deref());
        // Behind the snapshot rows, which are of before this entry.
        for generation in &dead {
            batch.delete_cf(&self.engine.system, snapshot_key(*generation));
        }
        let mut options = WriteOptions::default();
        options.set_no_slowdown(!stall);
        options.set_sync(log == Log::WalSynced);
        options.disable_wal(log == Log::External);

        self.epoch.fetch_add(1, Ordering::SeqCst);
        let written = self.engine.db.write_opt(batch, &options);
        if written.is_ok() {
            self.counters.add(&deltas);
            self.counters.forget(&dead);
            match &effects.staged {
                Some(Staged::Ahead(staging)) => *self.staged.lock() = Some(staging.clone()),
                Some(Staged::Over) => *self.staged.lock() = None,
                None => {}
            }
            if let Some(weights) = &weights {
                self.weights.set(weights);
            }
            self.lazily_freed
                .fetch_add(effects.lazily_freed, Ordering::Relaxed);
            self.note_expiries(effects);
            if let Some(map) = map {
                self.maps.store(Arc::new(map));
                self.garbage.store(true, Ordering::Release);
                if self.is_empty() {
                    self.cache.begin_whole();
                    self.scan_cache.clear();
                }
            }
            self.scan_cache.apply(&effects.rows);
            self.index.store(position.index, Ordering::Release);
            self.term.store(position.term, Ordering::Release);
            self.log_time.fetch_max(effects.log_time, Ordering::AcqRel);
            self.next_version
                .fetch_max(effects.next_version, Ordering::AcqRel);
        }
        let outcome = written.map_err(|e| match e.kind() {
            ErrorKind::Incomplete if !stall => StoreError::WouldStall,
            _ => self.failed(e),
        });
        self.settle_cache(effects, &outcome);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        outcome
    }

    /// Ends what `mark` began, by what became of the write.
    fn settle_cache(&self, effects: &Effects, outcome: &Result<(), StoreError>) {
        for meta in &effects.metas {
            let (hash, physical) = (meta.key.hash(), meta.key.physical());
            match outcome {
                Ok(()) => self.cache.install(hash, physical, meta.record.clone()),
                Err(_) => self.cache.unmark(hash, physical),
            }
        }
        if outcome.is_ok() {
            self.cache.install_rows(&effects.rows);
        }
        if !matches!(outcome, Ok(()) | Err(StoreError::WouldStall)) {
            // Nobody knows what RocksDB holds now.
            self.drop_caches();
        }
    }

    /// Drops what is in memory of records and rows; they are read anew.
    pub fn drop_caches(&self) {
        self.cache.clear();
        self.scan_cache.clear();
    }

    /// No live record, nor one that is being imported.
    fn is_empty(&self) -> bool {
        let maps = self.maps.load();
        maps.imports.is_empty() && self.live_keys(&maps) == 0
    }

    /// Number of keys of all databases.
    pub fn live_keys(&self, maps: &GenerationMap) -> u64 {
        let runs = (0..DATABASES).flat_map(|db| maps.live.runs(db));
        runs.map(|(first, last, g)| self.counters.sum(g, first..=last))
            .sum()
    }

    /// `olds`: what the cache has of the states before, in the order of the records;
    /// empty where all are written whole.
    fn fill_batch(
        &self,
        batch: &mut WriteBatch,
        effects: &Effects,
        olds: &[Option<Record>],
    ) -> Vec<Delta> {
        let (mut deltas, mut splice) = (Vec::new(), Vec::new());
        for at in in_slot_order(&effects.metas) {
            let meta = &effects.metas[at];
            let physical = meta.key.physical();
            let new_expiry = meta.record.as_ref().and_then(|r| r.header()?.expires_at);
            match &meta.record {
                Some(record) => {
                    let old = olds.get(at).and_then(Option::as_ref);
                    match splice_onto(old, record, &mut splice) {
                        true => batch.merge_cf(&self.engine.meta, physical, &splice),
                        false => batch.put_cf(&self.engine.meta, physical, record.value()),
                    }
                }
                None => batch.delete_cf(&self.engine.meta, physical),
            }
            if meta.old_expiry != new_expiry {
                if let Some(at) = meta.old_expiry {
                    batch.delete_cf(&self.engine.expiry, expiry_key(physical, at));
                }
                if let Some(at) = new_expiry {
                    batch.put_cf(&self.engine.expiry, expiry_key(physical, at), b"");
                }
            }
            let delta = meta.count_delta() as i32;
            if delta != 0 {
                let (generation, slot) = (meta.key.generation(), meta.key.slot());
                deltas.push(Delta {
                    generation,
                    slot,
                    delta,
                });
            }
        }
        for (key, at) in &effects.expiry_drops {
            batch.delete_cf(&self.engine.expiry, expiry_key(key.physical(), *at));
            deltas.push(Delta {
                generation: key.generation(),
                slot: key.slot(),
                delta: -1,
            });
        }
        for row in &effects.rows {
            match row {
                RowEffect::Put { family, key, value } => {
                    batch.put_cf(&self.engine.family(*family), key, value)
                }
                RowEffect::Delete { family, key } => {
                    batch.delete_cf(&self.engine.family(*family), key)
                }
                RowEffect::DeleteRange { family, first, end } => {
                    batch.delete_range_cf(&self.engine.family(*family), first, end)
                }
            }
        }
        deltas
    }

    fn changed_map(&self, batch: &mut WriteBatch, effects: &Effects) -> Option<GenerationMap> {
        if effects.maps.is_empty() {
            return None;
        }
        let mut map = (*self.maps.load_full()).clone();
        change_map(&mut map, &effects.maps);
        batch.put_cf(&self.engine.system, b"maps", map.encode());
        Some(map)
    }

    fn fill_system(
        &self,
        batch: &mut WriteBatch,
        effects: &Effects,
        position: Position,
        deltas: &[Delta],
        weights: Option<&[(Generation, u64)]>,
    ) {
        let system = &self.engine.system;
        let applied = Applied {
            index: position.index,
            term: position.term,
            log_time: effects.log_time.max(self.log_time()),
            next_version: effects.next_version.max(self.next_version()),
            weights,
        };
        batch.put_cf(system, b"applied", applied.encode());
        if let Some(followed) = &effects.followed {
            batch.put_cf(system, FOLLOWED, followed.encode(position.index));
        }
        if position.index - self.folded.load(Ordering::Relaxed) > FOLD_EVERY {
            // The snapshot is of before this entry; its own journal row stays.
            for (key, value) in self.counters.snapshot_rows() {
                batch.put_cf(system, key, value);
            }
            batch.delete_range_cf(system, journal_key(0), journal_key(position.index));
            self.folded.store(position.index, Ordering::Relaxed);
        }
        if !deltas.is_empty() {
            batch.put_cf(system, journal_key(position.index), encode_journal(deltas));
        }
    }

    fn note_expiries(&self, effects: &Effects) {
        for meta in &effects.metas {
            if let Some(at) = meta.record.as_ref().and_then(|r| r.header()?.expires_at) {
                self.hints.lower(meta.key.generation(), meta.key.slot(), at);
            }
        }
    }

    /// Makes everything written so far durable and publishes it as the
    /// compaction filter's view.
    pub fn sync(&self, log: Log) -> Result<(), StoreError> {
        // The view is pinned first: what the sync makes durable is at least that.
        let view = self.pin_view();
        if log != Log::External {
            self.engine.db.flush_wal(true).map_err(|e| self.failed(e))?;
        }
        self.views.publish(Some(view));
        Ok(())
    }

    /// Rows of the family `system` under `prefix`, without it, in key order.
    pub fn system_rows(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let from = IteratorMode::From(prefix, Direction::Forward);
        let mut rows = Vec::new();
        for row in self.engine.db.iterator_cf(&self.engine.system, from) {
            let (key, value) = row.map_err(|e| self.failed(e))?;
            let Some(rest) = key.strip_prefix(prefix) else {
                break;
            };
            rows.push((Bytes::copy_from_slice(rest), Bytes::from(value)));
        }
        Ok(rows)
    }

    /// Index up to which everything is in files, of all families alike: what
    /// survives a power cut without a log.
    pub fn durable_index(&self) -> Result<u64, StoreError> {
        let mut persisted = rocksdb::ReadOptions::default();
        persisted.set_read_tier(rocksdb::ReadTier::Persisted);
        let row = self
            .engine
            .db
            .get_cf_opt(&self.engine.system, b"applied", &persisted);
        match row.map_err(|e| self.failed(e))? {
            None => Ok(0),
            Some(bytes) => {
                let applied = Applied::decode(&bytes).ok_or_else(|| self.corrupt("applied"))?;
                Ok(applied.index)
            }
        }
    }

    /// Makes `view` the one that compaction filters judge by. It must be
    /// durable by now.
    pub fn publish_view(&self, view: DurableView) {
        self.views.publish(Some(view));
    }

    /// The state as it is applied now.
    pub fn pin_view(&self) -> DurableView {
        loop {
            let before = self.epoch();
            // SAFETY: `close` clears the cell and stops compactions before the
            // engine is dropped.
            let view = unsafe {
                DurableView::new(
                    &self.engine.db,
                    self.engine.meta,
                    self.engine.data,
                    self.log_time(),
                    self.maps(),
                    self.next_version(),
                )
            };
            if before.is_multiple_of(2) && self.epoch() == before {
                return view;
            }
            std::thread::yield_now();
        }
    }

    /// Writes all memtables to files (all families at one point).
    pub fn flush(&self) -> Result<(), StoreError> {
        let e = &self.engine;
        let families = [&e.meta, &e.data, &e.score, &e.payload, &e.expiry, &e.system];
        let options = rocksdb::FlushOptions::default();
        e.db.flush_cfs_opt(&families, &options)
            .map_err(|source| self.failed(source))
    }

    /// Compacts everything; garbage by the durable view goes.
    pub fn compact(&self) {
        self.compact_slots(0, u16::MAX);
    }

    /// Compacts the slots `first..=last`; garbage by the durable view goes.
    pub fn compact_slots(&self, first: u16, last: u16) {
        let e = &self.engine;
        let from = first.to_be_bytes();
        let end = last.checked_add(1).map(u16::to_be_bytes);
        let mut options = rocksdb::CompactOptions::default();
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        for family in [e.meta, e.data, e.score, e.payload, e.expiry] {
            e.db.compact_range_cf_opt(&family, Some(&from[..]), end.as_ref(), &options);
        }
    }

    /// Deletes the rows of dead generations from the family `payload`, which
    /// has no compaction filter. To be called after the change of the maps was
    /// synced: nothing brings a dead generation back.
    pub fn sweep_payload(&self) -> Result<(), StoreError> {
        let maps = self.maps();
        let payload = self.engine.payload;
        let mut options = WriteOptions::default();
        // Garbage that is written again by a replay is swept again.
        options.disable_wal(true);
        let mut rows = self.engine.db.raw_iterator_cf(&payload);
        rows.seek_to_first();
        while let Some(row) = rows.key() {
            let Some((slot, generation, _)) = super::keys::split(row) else {
                break;
            };
            let first = super::keys::prefix(slot, generation).to_vec();
            let Some(end) = super::keys::prefix_end(slot, generation) else {
                break;
            };
            if maps.is_garbage(slot, generation) {
                let dropped = self
                    .engine
                    .db
                    .delete_range_cf_opt(&payload, &first, &end, &options);
                dropped.map_err(|e| self.failed(e))?;
            }
            rows.seek(&end);
        }
        rows.status().map_err(|e| self.failed(e))
    }

    /// Drops hints of generations that no map names.
    pub fn forget_dead_generations(&self) {
        let maps = self.maps();
        let named = maps.named();
        self.hints.retain(|g| g >= maps.next || named.contains(&g));
    }

    /// Keeps garbage from being collected until the hold is dropped.
    pub fn hold_garbage(&self, what: Held) -> Hold {
        self.views.hold(what)
    }

    /// What a compaction filter that begins now holds until it ends.
    #[cfg(test)]
    pub(crate) fn begin_filter(&self) -> Box<dyn Send> {
        Box::new(self.views.judgement())
    }

    /// Whether a compaction filter that begins now would drop anything.
    #[cfg(test)]
    pub(crate) fn collects_garbage(&self) -> bool {
        self.views.judgement().view.is_some()
    }

    /// Whether generations became garbage since this was last asked.
    pub fn take_garbage(&self) -> bool {
        self.garbage.swap(false, Ordering::AcqRel)
    }

    /// Bytes on disk and in memtables of the slots `first..=last`, roughly.
    pub fn slot_bytes(&self, first: u16, last: u16) -> u64 {
        let e = &self.engine;
        let from = first.to_be_bytes().to_vec();
        let to = (u32::from(last) + 1).to_be_bytes()[2..].to_vec();
        [e.meta, e.data, e.score, e.payload]
            .iter()
            .flat_map(|family| {
                let range = [rocksdb::Range::new(&from, &to)];
                e.db.get_approximate_sizes_cf(family, &range)
            })
            .sum()
    }

    /// Bytes of live files of all families.
    pub fn disk_bytes(&self) -> u64 {
        let e = &self.engine;
        [e.meta, e.data, e.score, e.payload, e.expiry, e.system]
            .iter()
            .flat_map(|family| {
                [
                    "rocksdb.total-sst-files-size",
                    "rocksdb.total-blob-file-size",
                ]
                .map(|name| e.db.property_int_value_cf(family, name).ok().flatten())
            })
            .flatten()
            .sum()
    }
}

impl Store {
    /// Stops compactions for good; the last thing before the process ends.
    pub fn quiesce(&self) {
        self.engine.quiesce();
        self.views.publish(None);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.quiesce();
    }
}

/// Whether `record` is to be written as a splice onto `old`; it is then in `splice`.
fn splice_onto(old: Option<&Record>, record: &Record, splice: &mut Vec<u8>) -> bool {
    let old = old.filter(|old| old.splices() < MAX_SPLICES && !Header::has_expiry(old.value()));
    let fits = old.filter(|old| splice::make(splice, old.value(), record.value()));
    record.set_splices(fits.map_or(0, |old| old.splices() + 1));
    fits.is_some()
}

/// Indexes of `metas` by slot: each record is in an entry once, so their order
/// is free, and neighbours are cheap to insert one after the other.
fn in_slot_order(metas: &[MetaEffect]) -> impl Iterator<Item = usize> {
    let keyed = metas
        .iter()
        .enumerate()
        .map(|(at, meta)| u64::from(meta.key.slot()) << 48 | at as u64);
    let mut order: Vec<u64> = keyed.collect();
    order.sort_unstable();
    order
        .into_iter()
        .map(|keyed| (keyed & ((1 << 48) - 1)) as usize)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

fn hash_of(maps: &GenerationMap, db: usize, name: &[u8]) -> u64 {
    let slot = slot_of(name);
    MetaKey::new(slot, maps.live.get(db, slot), name).hash()
}
