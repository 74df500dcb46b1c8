//! A store as it was at one moment, for readers that need all of it: exports
//! and replicas.
//!
//! Owns a RocksDB snapshot, and holds garbage as long as it lives, because
//! compaction filters ignore snapshots. Bounded by its owner: what is pinned
//! keeps its space.

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{DB, ReadOptions, SnapshotWithThreadMode};

use super::generations::GenerationMap;
use super::keys::MetaKey;
use super::record::Record;
use super::store::Store;
use super::view::Hold;
use crate::txn::effects::Family;

/// See the module's documentation.
pub struct Pin {
    // Declared before the store, dropped before it.
    snapshot: SnapshotWithThreadMode<'static, DB>,
    store: Arc<Store>,
    maps: Arc<GenerationMap>,
    log_time: u64,
    _hold: Hold,
}

// SAFETY: a RocksDB snapshot may be read and released on any thread.
unsafe impl Send for Pin {}
unsafe impl Sync for Pin {}

impl Pin {
    /// Pins what is applied now. Nothing may be applied meanwhile, and `hold`,
    /// of everything, is no longer pending.
    pub fn new(store: &Arc<Store>, hold: Hold) -> Pin {
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
