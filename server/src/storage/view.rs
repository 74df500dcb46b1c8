//! The durable view: what the compaction filter may judge by (invariant 5).
//!
//! A snapshot with its log time and maps, published after each log sync and
//! taken once when a filter is created. Never the wall clock, never state
//! that could still be lost. Held weakly against the engine: the store stops
//! compactions before it closes.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rocksdb::{DB, SnapshotWithThreadMode};

use super::engine::FamilyHandle;
use super::generations::GenerationMap;
use super::header::Header;
use super::keys::{Version, sub_key};

/// See the module's documentation.
pub struct DurableView {
    pub log_time: u64,
    pub maps: Arc<GenerationMap>,
    /// Versions from here on had not been given out yet.
    pub next_version: u64,
    snapshot: SnapshotWithThreadMode<'static, DB>,
    meta: FamilyHandle,
    data: FamilyHandle,
}

// SAFETY: a RocksDB snapshot may be read and released on any thread.
unsafe impl Send for DurableView {}
unsafe impl Sync for DurableView {}

impl DurableView {
    /// # Safety
    /// The caller drops every view (by clearing its cell and stopping
    /// compactions) before `db` is closed.
    pub unsafe fn new(
        db: &DB,
        meta: FamilyHandle,
        data: FamilyHandle,
        log_time: u64,
        maps: Arc<GenerationMap>,
        next_version: u64,
    ) -> DurableView {
        // SAFETY: only the lifetime changes; the caller's promise keeps it true.
        let db: &'static DB = unsafe { &*(db as *const DB) };
        DurableView {
            log_time,
            maps,
            next_version,
            snapshot: db.snapshot(),
            meta,
            data,
        }
    }

    /// Whether the record that owned sub-keys of `version` is still of that
    /// version. `None`: its parent cannot be told (no back-reference row).
    pub fn parent_has(&self, slot: u16, generation: u32, version: Version) -> Option<bool> {
        let back = sub_key(slot, generation, version, b"");
        let user_key = self.snapshot.get_cf(&self.data, back).ok()??;
        let parent = [&super::keys::prefix(slot, generation)[..], &user_key].concat();
        let Ok(value) = self.snapshot.get_cf(&self.meta, parent) else {
            return Some(true);
        };
        let header = value.and_then(|v| Header::decode(&v).map(|(header, _)| header));
        Some(match header {
            Some(header) => {
                header.spread.is_some_and(|s| s.version == version)
                    && header.expires_at.is_none_or(|at| at >= self.log_time)
            }
            None => false,
        })
    }
}

/// Where the newest view is; empty until the first sync.
#[derive(Default)]
pub struct ViewCell(ArcSwapOption<DurableView>);

impl ViewCell {
    pub fn publish(&self, view: Option<DurableView>) {
        self.0.store(view.map(Arc::new));
    }

    pub fn latest(&self) -> Option<Arc<DurableView>> {
        self.0.load_full()
    }
}
