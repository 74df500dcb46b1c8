//! The compaction filter: garbage only, by the durable view only (invariant 5).
//!
//! Drops records expired at the view's log time, rows of generations that no
//! map names, and sub-keys whose parent there has another version. A drop
//! changes no counter and no index: those follow the log.

use std::ffi::CStr;
use std::sync::Arc;

use rocksdb::CompactionDecision as Decision;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};

use super::header::{Header, KeyType};
use super::keys::{VERSION_LEN, Version, split};
use super::view::{DurableView, Judgement, ViewCell};

/// Filters of the family `meta`.
pub struct MetaFilterFactory {
    views: Arc<ViewCell>,
}

impl MetaFilterFactory {
    pub fn new(views: Arc<ViewCell>) -> MetaFilterFactory {
        MetaFilterFactory { views }
    }
}

/// Judges `meta` records.
pub struct MetaFilter {
    by: Judgement,
}

impl CompactionFilterFactory for MetaFilterFactory {
    type Filter = MetaFilter;

    fn create(&mut self, _: CompactionFilterContext) -> MetaFilter {
        MetaFilter {
            by: self.views.judgement(),
        }
    }

    fn name(&self) -> &CStr {
        c"cairn.meta"
    }
}

impl CompactionFilter for MetaFilter {
    fn filter(&mut self, _: u32, key: &[u8], value: &[u8]) -> Decision {
        match &self.by.view {
            Some(view) if meta_is_garbage(view, self.by.keeps_expired, key, value) => {
                Decision::Remove
            }
            _ => Decision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        c"cairn.meta"
    }
}

/// Whether a generation is being imported, or was made after the view, which then
/// knows nothing of it: not that it is an import, nor the parents of its rows, whose
/// versions another group's counter has given.
fn is_young(view: &DurableView, slot: u16, generation: u32) -> bool {
    generation >= view.maps.next || view.maps.importing(slot, generation)
}

fn meta_is_garbage(view: &DurableView, keeps_expired: bool, key: &[u8], value: &[u8]) -> bool {
    let Some((slot, generation, _)) = split(key) else {
        return false;
    };
    if view.maps.is_garbage(slot, generation) {
        return true;
    }
    // An import's increments are evaluated on what it holds, alike on every
    // replica: nothing of it goes before it is owned.
    if keeps_expired || is_young(view, slot, generation) {
        return false;
    }
    // Expired strictly before the view's time; what cannot be decoded is kept.
    // So is a spread string: only its record knows the rows of the family
    // `payload`, which has no filter; the expiry task deletes both.
    let Some((header, _)) = Header::decode(value) else {
        return false;
    };
    let owns_payload = header.key_type == KeyType::String && header.spread.is_some();
    !owns_payload && header.expires_at.is_some_and(|at| at < view.log_time)
}

/// Filters of the families below `meta`.
pub struct DataFilterFactory {
    views: Arc<ViewCell>,
    family: usize,
}

impl DataFilterFactory {
    /// `family` is the index in `engine::FAMILIES`.
    pub fn new(views: Arc<ViewCell>, family: usize) -> DataFilterFactory {
        DataFilterFactory { views, family }
    }
}

/// Judges sub-keys; one answer serves all rows of one version.
pub struct DataFilter {
    by: Judgement,
    has_parents: bool,
    last: Option<(u16, u32, Version, bool)>,
}

impl CompactionFilterFactory for DataFilterFactory {
    type Filter = DataFilter;

    fn create(&mut self, _: CompactionFilterContext) -> DataFilter {
        let has_parents = super::engine::FAMILIES[self.family] != "expiry";
        DataFilter {
            by: self.views.judgement(),
            has_parents,
            last: None,
        }
    }

    fn name(&self) -> &CStr {
        c"cairn.data"
    }
}

impl CompactionFilter for DataFilter {
    fn filter(&mut self, _: u32, key: &[u8], _: &[u8]) -> Decision {
        match self.is_garbage(key) {
            true => Decision::Remove,
            false => Decision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        c"cairn.data"
    }
}

impl DataFilter {
    fn is_garbage(&mut self, key: &[u8]) -> bool {
        let (Some(view), Some((slot, generation, rest))) = (&self.by.view, split(key)) else {
            return false;
        };
        if view.maps.is_garbage(slot, generation) {
            return true;
        }
        if !self.has_parents || rest.len() < VERSION_LEN {
            return false;
        }
        let Some(version) = Version::from_bytes(rest) else {
            return false;
        };
        if let Some((s, g, v, verdict)) = self.last
            && (s, g, v) == (slot, generation, version)
        {
            return verdict;
        }
        let verdict = orphaned(view, (slot, generation), version, self.by.keeps_expired);
        self.last = Some((slot, generation, version, verdict));
        verdict
    }
}

/// A sub-key without a parent is garbage only if its version had been given
/// out in the view and nobody is still writing that generation (an import).
fn orphaned(
    view: &DurableView,
    (slot, generation): (u16, u32),
    version: Version,
    keeps_expired: bool,
) -> bool {
    if version.counter >= view.next_version || is_young(view, slot, generation) {
        return false;
    }
    let parent = view.parent_has((slot, generation), version, keeps_expired);
    !parent.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::engine::{MemoryPlan, Resources};
    use crate::storage::generations::GenerationMap;
    use crate::storage::{MetaKey, Record, Store};

    /// Regression: an import that began after the filter's view was pinned lost
    /// spread rows and expired records to the compaction after an earlier move.
    #[test]
    fn rows_of_a_generation_that_the_view_does_not_know_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let resources = Resources::new(MemoryPlan::divide(64 << 20), 2);
        let store = Store::open(dir.path(), &resources, true, GenerationMap::all_slots()).unwrap();
        let mut view = store.pin_view();
        let (known, young) = (1, view.maps.next);
        let version = Version::default();
        assert!(orphaned(&view, (7, known), version, false));
        assert!(!orphaned(&view, (7, young), version, false));
        view.log_time = 1_000;
        for (generation, garbage) in [(known, true), (young, false)] {
            let key = MetaKey::new(7, generation, b"k");
            let expired = Header::inline(KeyType::String, Some(1));
            let record = Record::new(&key, &expired, b"v");
            let verdict = meta_is_garbage(&view, false, key.physical(), record.value());
            assert_eq!(verdict, garbage, "generation {generation}");
        }
    }
}
