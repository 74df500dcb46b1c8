//! A store as it was at one moment, for readers that need it for long: exports
//! and replicas, which need all of it, and replies in pieces, which need one
//! collection.
//!
//! Owns a RocksDB snapshot. Compaction filters ignore snapshots, so whoever needs
//! everything holds garbage as long as the pin lives; the reader of one collection
//! makes its iterator ([`PinnedRows`]) and asks afterwards whether the collection
//! still lives, of which no filter has dropped anything then. Bounded by its owner:
//! what is pinned keeps its space.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rocksdb::{DB, DBRawIterator, Direction, ReadOptions, SnapshotWithThreadMode};

use super::generations::GenerationMap;
use super::keys::{MetaKey, PREFIX_LEN, VERSION_LEN, Version};
use super::record::Record;
use super::store::Store;
use super::view::Hold;
use crate::txn::CommandError;
use crate::txn::effects::Family;

/// An apply takes no time, or as long as a sync: so often, and with such pauses,
/// a moment between two of them is looked for.
const LOOKS: usize = 400;
const LOOK_EVERY: Duration = Duration::from_micros(50);

/// See the module's documentation.
pub struct Pin {
    // Declared before the store, dropped before it.
    snapshot: SnapshotWithThreadMode<'static, DB>,
    store: Arc<Store>,
    maps: Arc<GenerationMap>,
    log_time: u64,
    _hold: Option<Hold>,
}

// SAFETY: a RocksDB snapshot may be read and released on any thread.
unsafe impl Send for Pin {}
unsafe impl Sync for Pin {}

impl Pin {
    /// Pins what is applied now. Nothing may be applied meanwhile, and `hold`,
    /// of everything, is no longer pending.
    pub fn new(store: &Arc<Store>, hold: Hold) -> Pin {
        Pin::of(store, Some(hold))
    }

    /// Pins what is applied now, beside the writer, and holds no garbage. May
    /// wait for a moment between two entries; `None`: there was none.
    pub fn passing(store: &Arc<Store>) -> Option<Pin> {
        for look in 0..LOOKS {
            if look > 0 {
                std::thread::sleep(LOOK_EVERY);
            }
            let epoch = store.epoch();
            if !epoch.is_multiple_of(2) {
                continue;
            }
            let pin = Pin::of(store, None);
            if store.epoch() == epoch {
                return Some(pin);
            }
        }
        None
    }

    fn of(store: &Arc<Store>, hold: Option<Hold>) -> Pin {
        // SAFETY: the snapshot lives beside the store that it belongs to, and
        // is dropped first.
        let db: &'static DB = unsafe { &*std::ptr::from_ref(&store.engine().db) };
        Pin {
            snapshot: db.snapshot(),
            maps: store.maps(),
            log_time: store.log_time(),
            store: store.clone(),
            _hold: hold,
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn maps(&self) -> &GenerationMap {
        &self.maps
    }

    /// Log time of what is pinned, unix ms.
    pub fn log_time(&self) -> u64 {
        self.log_time
    }

    /// Reads one record, an expired one included.
    pub fn record(&self, key: &MetaKey) -> Result<Option<Record>, rocksdb::Error> {
        let family = self.store.engine().meta;
        let value = self.snapshot.get_cf_opt(&family, key.physical(), once())?;
        Ok(value.map(|value| Record::from_encoded(key.physical(), &value)))
    }

    /// Reads one row below a record.
    pub fn row(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, rocksdb::Error> {
        let family = self.store.engine().family(family);
        let value = self.snapshot.get_cf_opt(&family, key, once())?;
        Ok(value.map(Bytes::from))
    }

    /// All records, expired and dead ones included, in order of their keys.
    pub fn records(&self) -> rocksdb::DBRawIterator<'_> {
        let mut options = once();
        options.set_readahead_size(1 << 20);
        let family = self.store.engine().meta;
        self.snapshot.raw_iterator_cf_opt(&family, options)
    }

    /// Has an iterator read this.
    pub fn apply_to(&self, options: &mut ReadOptions) {
        options.set_snapshot(&self.snapshot);
        options.fill_cache(false);
    }
}

/// What is read for an export is read once.
fn once() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options
}

/// Key and value.
type Row<'a> = (&'a [u8], &'a [u8]);

/// Rows of one collection at a pinned moment, to be gone through in one direction
/// with pauses of any length.
///
/// An iterator keeps the files and the memtables that it began with, so one that
/// stands still for long is made anew on those of now ([`PinnedRows::renew`]).
pub struct PinnedRows {
    // Declared before the pin, dropped before it.
    rows: DBRawIterator<'static>,
    pin: Arc<Pin>,
    family: Family,
    /// First key and end of what is gone through.
    bounds: (Vec<u8>, Vec<u8>),
    direction: Direction,
    /// Whether what is read may push other blocks out of the cache.
    cached: bool,
}

impl PinnedRows {
    /// All rows with `first <= key < end`, both keys of rows of one collection.
    pub fn new(
        pin: &Arc<Pin>,
        family: Family,
        bounds: (Vec<u8>, Vec<u8>),
        direction: Direction,
        cached: bool,
    ) -> PinnedRows {
        let mut rows = PinnedRows {
            rows: iterator(pin, family, &bounds, cached),
            pin: pin.clone(),
            family,
            bounds,
            direction,
            cached,
        };
        rows.restart();
        rows
    }

    /// Begins with the first row again.
    pub fn restart(&mut self) {
        match self.direction {
            Direction::Forward => self.rows.seek_to_first(),
            Direction::Reverse => self.rows.seek_to_last(),
        }
    }

    /// Key and value of the next row; `None`: there is none.
    pub fn current(&self) -> Result<Option<Row<'_>>, rocksdb::Error> {
        match self.rows.item() {
            Some(item) => Ok(Some(item)),
            None => self.rows.status().map(|()| None),
        }
    }

    pub fn step(&mut self) {
        match self.direction {
            Direction::Forward => self.rows.next(),
            Direction::Reverse => self.rows.prev(),
        }
    }

    /// Goes on with the files of now, if `parent`, the collection, still lives:
    /// otherwise a filter may have dropped what is yet to come.
    pub fn renew(&mut self, parent: &MetaKey) -> Result<bool, CommandError> {
        let Some((at, _)) = self.current()? else {
            return Ok(true);
        };
        let mut rows = iterator(&self.pin, self.family, &self.bounds, self.cached);
        match self.direction {
            Direction::Forward => rows.seek(at),
            Direction::Reverse => rows.seek_for_prev(at),
        }
        rows.status()?;
        let lives = self.parent_lives(parent)?;
        if lives {
            self.rows = rows;
        }
        Ok(lives)
    }

    /// Whether the collection still is what it was at the pinned moment, and no
    /// filter can have dropped any of its rows before now.
    pub fn parent_lives(&self, parent: &MetaKey) -> Result<bool, CommandError> {
        let store = self.pin.store();
        let is_live = store.with_maps(|maps| {
            let database = maps.live.database_of(parent.slot(), parent.generation());
            database.is_some()
        });
        let record = store.record(parent, true)?;
        let Some(header) = record.as_ref().and_then(Record::header) else {
            return Ok(false);
        };
        let version = self.bounds.0.get(PREFIX_LEN..PREFIX_LEN + VERSION_LEN);
        let version = version.and_then(Version::from_bytes);
        let is_same = version.is_some() && header.spread.map(|s| s.version) == version;
        let is_due = header.expires_at.is_some_and(|at| at < store.log_time());
        Ok(is_live && is_same && !is_due)
    }
}

fn iterator(
    pin: &Pin,
    family: Family,
    (first, end): &(Vec<u8>, Vec<u8>),
    cached: bool,
) -> DBRawIterator<'static> {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(first.clone());
    options.set_iterate_upper_bound(end.clone());
    pin.apply_to(&mut options);
    options.fill_cache(cached);
    let engine = pin.store.engine();
    // SAFETY: the iterator lives beside the pin, which keeps the store, and is
    // dropped first.
    let db: &'static DB = unsafe { &*std::ptr::from_ref(&engine.db) };
    db.raw_iterator_cf_opt(&engine.family(family), options)
}
