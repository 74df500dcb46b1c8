//! Keys that clients WATCH.
//!
//! The writer registers them, and marks a watcher dirty when anything that it
//! evaluates afterwards names one of its keys; EXEC asks for the verdict in
//! the same order. A connection may drop its own watches at any time. Owned by
//! the group; the mutex guards plain tables and is held for a few look-ups.
//! While nobody watches anything, a command costs one relaxed load here.
//!
//! A watcher is only ever marked, never cleared: a mark too many is an EXEC
//! that answers nil, which clients expect at any time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::storage::generations::DATABASES;

/// Who watches: a client, or a session of a link. Never 0, never reused.
pub type WatcherId = u64;

/// Keys of one watcher at most; above, it counts as dirty.
const MAX_KEYS: usize = 1 << 20;

/// What a key was when it was first watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub existed: bool,
    /// An EXEC after this time fails: any change of it would have been noticed.
    pub expires_at: Option<u64>,
    /// Slot and its epoch, in a cluster.
    pub owner: Option<(u16, u32)>,
}

#[derive(Default)]
struct Watcher {
    dirty: bool,
    keys: Vec<(u8, Box<[u8]>)>,
}

type Table = HashMap<Box<[u8]>, HashMap<WatcherId, Seen>>;

#[derive(Default)]
struct Tables {
    watchers: HashMap<WatcherId, Watcher>,
    /// By database.
    keys: [Table; DATABASES],
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Watches {
    /// Number of watchers.
    count: AtomicUsize,
    tables: Mutex<Tables>,
}

impl Watches {
    /// Whether anybody watches anything.
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Writer: `id` watches a key that is `seen` now.
    pub fn watch(&self, id: WatcherId, db: usize, key: &[u8], seen: Seen) {
        let mut tables = self.tables.lock();
        let Tables { watchers, keys } = &mut *tables;
        let watcher = watchers.entry(id).or_default();
        if !watcher.dirty && watcher.keys.len() >= MAX_KEYS {
            tables.mark(id);
        } else if !watcher.dirty {
            let table = &mut keys[db];
            if !table.contains_key(key) {
                table.insert(key.into(), HashMap::new());
            }
            let known = table.get_mut(key).expect("inserted above");
            if let std::collections::hash_map::Entry::Vacant(place) = known.entry(id) {
                place.insert(seen);
                watcher.keys.push((db as u8, key.into()));
            }
        }
        self.count.store(tables.watchers.len(), Ordering::Relaxed);
    }

    /// Writer: something happened to this key.
    pub fn touch(&self, db: usize, key: &[u8]) {
        let mut tables = self.tables.lock();
        let Some(known) = tables.keys[db].get(key) else {
            return;
        };
        let ids: Vec<WatcherId> = known.keys().copied().collect();
        ids.into_iter().for_each(|id| tables.mark(id));
    }

    /// Writer: a database was emptied, or exchanged for another in which
    /// `exists` says what there is.
    pub fn touch_database(&self, db: usize, mut exists: impl FnMut(&[u8]) -> bool) {
        let mut tables = self.tables.lock();
        let mut touched = Vec::new();
        for (key, known) in &tables.keys[db] {
            let there = exists(key);
            let watchers = known.iter().filter(|(_, seen)| there || seen.existed);
            touched.extend(watchers.map(|(id, _)| *id));
        }
        touched.into_iter().for_each(|id| tables.mark(id));
    }

    /// What this watcher saw is void.
    pub fn touch_watcher(&self, id: WatcherId) {
        let mut tables = self.tables.lock();
        tables.watchers.entry(id).or_default();
        tables.mark(id);
    }

    /// What was seen may never have been, or others have changed it since.
    pub fn touch_all(&self) {
        if !self.any() {
            return;
        }
        let mut tables = self.tables.lock();
        let ids: Vec<WatcherId> = tables.watchers.keys().copied().collect();
        ids.into_iter().for_each(|id| tables.mark(id));
    }

    /// Writer: whether nothing that `id` watches has changed, at log time
    /// `now` and with the slots' epochs as they are.
    pub fn is_clean(&self, id: WatcherId, now: u64, epoch: impl Fn(u16) -> u32) -> bool {
        let tables = self.tables.lock();
        let Some(watcher) = tables.watchers.get(&id) else {
            return true;
        };
        let holds = |(db, key): &(u8, Box<[u8]>)| {
            let seen = tables.keys[*db as usize].get(key).and_then(|k| k.get(&id));
            seen.is_some_and(|seen| {
                seen.expires_at.is_none_or(|at| at >= now)
                    && seen.owner.is_none_or(|(slot, was)| epoch(slot) == was)
            })
        };
        !watcher.dirty && watcher.keys.iter().all(holds)
    }

    /// Forgets all that `id` watches, and its mark.
    pub fn unwatch(&self, id: WatcherId) {
        let mut tables = self.tables.lock();
        tables.drop_keys(id);
        tables.watchers.remove(&id);
        self.count.store(tables.watchers.len(), Ordering::Relaxed);
    }
}

impl Tables {
    /// A dirty watcher needs its keys no more.
    fn mark(&mut self, id: WatcherId) {
        self.drop_keys(id);
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.dirty = true;
        }
    }

    fn drop_keys(&mut self, id: WatcherId) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        for (db, key) in std::mem::take(&mut watcher.keys) {
            let table = &mut self.keys[db as usize];
            if let Some(known) = table.get_mut(&key) {
                known.remove(&id);
                if known.is_empty() {
                    table.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Seen = Seen {
        existed: true,
        expires_at: None,
        owner: None,
    };

    fn clean(watches: &Watches, id: WatcherId) -> bool {
        watches.is_clean(id, 100, |_| 1)
    }

    #[test]
    fn a_touched_key_marks_all_its_watchers_and_nobody_else() {
        let watches = Watches::default();
        watches.watch(1, 0, b"a", SEEN);
        watches.watch(2, 0, b"a", SEEN);
        watches.watch(2, 0, b"b", SEEN);
        watches.watch(3, 1, b"a", SEEN);
        watches.touch(0, b"x");
        assert!(clean(&watches, 1));
        watches.touch(0, b"a");
        assert!(!clean(&watches, 1) && !clean(&watches, 2) && clean(&watches, 3));
        watches.watch(1, 0, b"c", SEEN);
        assert!(!clean(&watches, 1), "a mark stays until UNWATCH");
        (1..=3).for_each(|id| watches.unwatch(id));
        assert!(clean(&watches, 1) && !watches.any());
        assert!(watches.tables.lock().keys.iter().all(HashMap::is_empty));
    }

    #[test]
    fn a_key_that_expired_or_changed_its_owner_since_is_not_clean() {
        let watches = Watches::default();
        let expires_at = Some(100);
        watches.watch(1, 0, b"a", Seen { expires_at, ..SEEN });
        assert!(watches.is_clean(1, 100, |_| 1) && !watches.is_clean(1, 101, |_| 1));
        let owner = Some((5, 1));
        watches.watch(2, 0, b"a", Seen { owner, ..SEEN });
        assert!(watches.is_clean(2, 0, |_| 1) && !watches.is_clean(2, 0, |_| 2));
    }

    #[test]
    fn an_emptied_or_exchanged_database_touches_what_existed_in_either() {
        let absent = Seen {
            existed: false,
            ..SEEN
        };
        let watches = Watches::default();
        watches.watch(1, 0, b"there", SEEN);
        watches.watch(2, 0, b"absent", absent);
        watches.watch(3, 0, b"other", absent);
        watches.touch_database(0, |key| key == b"other");
        assert!(!clean(&watches, 1) && clean(&watches, 2) && !clean(&watches, 3));
    }
}
