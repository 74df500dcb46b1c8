//! Counts that readers of a pinned moment want written.
//!
//! A large reply that leaves in pieces is made beside the writer, and counts for itself
//! what only that knows (`txn::held`). The set is noted here, and the writer writes what
//! it knows of it with its next batch: the next reader need not count. A hint: what finds
//! no room is left out.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Version;

/// Sets that are noted at once.
const MOST: usize = 64;

/// A set, and what the keys of its counts begin with.
pub type WantedSet = (Version, Vec<u8>);

/// See the module's documentation.
#[derive(Default)]
pub struct Wanted {
    /// There are some: asked for with each batch.
    any: AtomicBool,
    /// Locked for a moment, by readers that have just counted and by the writer if there
    /// is something.
    sets: Mutex<Vec<WantedSet>>,
}

impl Wanted {
    pub fn note(&self, set: Version, front: Vec<u8>) {
        let mut sets = self.sets.lock();
        if sets.len() < MOST && sets.iter().all(|(known, _)| *known != set) {
            sets.push((set, front));
            self.any.store(true, Ordering::Release);
        }
    }

    pub fn take(&self) -> Vec<WantedSet> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut sets = self.sets.lock();
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut sets)
    }
}
