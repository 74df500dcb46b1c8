//! The durable view: what the compaction filter may judge by (invariant 5).
//!
//! A snapshot with its log time and maps, published after each log sync and
//! taken once when a filter is created. Never the wall clock, never state
//! that could still be lost. Held weakly against the engine: the store stops
//! compactions before it closes.
//!
//! Compaction filters ignore snapshots. Whoever reads one that must be whole
//! holds the garbage first ([`ViewCell::hold`]): filters made from then on drop
//! nothing, and those that run already can be waited for.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
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
    /// `keeps_expired`: one that has expired counts.
    pub fn parent_has(
        &self,
        (slot, generation): (u16, u32),
        version: Version,
        keeps_expired: bool,
    ) -> Option<bool> {
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
                    && (keeps_expired || header.expires_at.is_none_or(|at| at >= self.log_time))
            }
            None => false,
        })
    }
}

/// Where the newest view is; empty until the first sync.
#[derive(Default)]
pub struct ViewCell {
    newest: ArcSwapOption<DurableView>,
    /// Guards who holds what; touched when a compaction begins.
    holds: Mutex<Holds>,
}

#[derive(Default)]
struct Holds {
    /// How many hold everything, and how many only what is expired.
    all: usize,
    expired: usize,
    /// Shared by the filters that were made since the last hold.
    running: Arc<()>,
}

/// What garbage is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Everything,
    /// Records whose expiry has passed: they go by the log alone.
    Expired,
}

/// What one filter judges by.
pub(super) struct Judgement {
    /// `None`: it drops nothing.
    pub view: Option<Arc<DurableView>>,
    pub keeps_expired: bool,
    /// Dropped with the filter.
    _running: Arc<()>,
}

impl ViewCell {
    pub fn publish(&self, view: Option<DurableView>) {
        self.newest.store(view.map(Arc::new));
    }

    pub fn latest(&self) -> Option<Arc<DurableView>> {
        self.newest.load_full()
    }

    /// For a filter that begins now.
    pub(super) fn judgement(&self) -> Judgement {
        let holds = self.holds.lock();
        Judgement {
            view: (holds.all == 0).then(|| self.latest()).flatten(),
            keeps_expired: holds.expired > 0,
            _running: holds.running.clone(),
        }
    }

    /// Holds garbage until the hold is dropped.
    pub fn hold(self: &Arc<Self>, what: Held) -> Hold {
        let mut holds = self.holds.lock();
        match what {
            Held::Everything => holds.all += 1,
            Held::Expired => holds.expired += 1,
        }
        let earlier = std::mem::take(&mut holds.running);
        drop(holds);
        Hold {
            cell: self.clone(),
            what,
            earlier,
        }
    }
}

/// Garbage that is held.
pub struct Hold {
    cell: Arc<ViewCell>,
    what: Held,
    earlier: Arc<()>,
}

impl Hold {
    /// Whether a filter that began before the hold may still be dropping.
    pub fn is_pending(&self) -> bool {
        Arc::strong_count(&self.earlier) > 1
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.cell.holds.lock();
        match self.what {
            Held::Everything => holds.all -= 1,
            Held::Expired => holds.expired -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_waits_for_filters_that_began_before_it() {
        let cell = Arc::new(ViewCell::default());
        let before = cell.judgement();
        assert!(!before.keeps_expired);
        let first = cell.hold(Held::Expired);
        assert!(first.is_pending());
        let after = cell.judgement();
        assert!(after.keeps_expired);
        drop(before);
        assert!(!first.is_pending(), "only those from before count");
        let second = cell.hold(Held::Everything);
        assert!(second.is_pending() && !first.is_pending());
        drop(after);
        assert!(!second.is_pending());
        drop(first);
        assert!(!cell.judgement().keeps_expired);
    }
}
