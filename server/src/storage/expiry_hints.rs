//! Lower bounds of the next expiry per (generation, slot), in memory.
//!
//! They tell the expiry task which ranges of the `expiry` index are worth a
//! look. A hint may be too low (a look for nothing), never too high.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use cairn_protocol::slot::SLOT_COUNT;

use super::keys::Generation;

/// Nothing expires.
const NEVER: u64 = u64::MAX;

/// See the module's documentation.
#[derive(Default)]
pub struct ExpiryHints {
    by_generation: ArcSwap<HashMap<Generation, Arc<[AtomicU64]>>>,
}

impl ExpiryHints {
    /// A key of (generation, slot) expires at `at`; only the writer calls this.
    pub fn lower(&self, generation: Generation, slot: u16, at: u64) {
        let map = self.by_generation.load();
        if let Some(slots) = map.get(&generation) {
            slots[slot as usize].fetch_min(at, Ordering::AcqRel);
            return;
        }
        let slots: Arc<[AtomicU64]> = (0..SLOT_COUNT).map(|_| AtomicU64::new(NEVER)).collect();
        slots[slot as usize].store(at, Ordering::Release);
        self.by_generation.rcu(|map| {
            let mut larger = (**map).clone();
            larger.insert(generation, slots.clone());
            larger
        });
    }

    /// (generation, slot) ranges with a hint below `now`, at most `limit`; each
    /// hint is taken away and must be put back by what the look finds.
    pub fn take_due(&self, now: u64, limit: usize) -> Vec<(Generation, u16)> {
        let map = self.by_generation.load();
        let mut due = Vec::new();
        for (generation, slots) in map.iter() {
            for (slot, hint) in slots.iter().enumerate() {
                if due.len() == limit {
                    return due;
                }
                if hint.load(Ordering::Acquire) < now {
                    hint.store(NEVER, Ordering::Release);
                    due.push((*generation, slot as u16));
                }
            }
        }
        due
    }

    /// The earliest hint of one slot, if any.
    pub fn get(&self, generation: Generation, slot: u16) -> Option<u64> {
        let map = self.by_generation.load();
        let at = map.get(&generation)?[slot as usize].load(Ordering::Acquire);
        (at != NEVER).then_some(at)
    }

    /// Forgets generations that `keep` refuses.
    pub fn retain(&self, keep: impl Fn(Generation) -> bool) {
        self.by_generation.rcu(|map| {
            let mut kept = (**map).clone();
            kept.retain(|generation, _| keep(*generation));
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_ranges_are_taken_once() {
        let hints = ExpiryHints::default();
        hints.lower(1, 5, 100);
        hints.lower(1, 5, 200);
        hints.lower(2, 6, 300);
        assert_eq!(hints.take_due(100, 9), []);
        assert_eq!(hints.take_due(101, 9), [(1, 5)]);
        assert_eq!(hints.take_due(101, 9), []);
        assert_eq!(hints.get(2, 6), Some(300));
        hints.retain(|g| g != 2);
        assert_eq!(hints.get(2, 6), None);
    }
}
