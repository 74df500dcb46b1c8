//! The expiry task: walks the `expiry` index and deletes through the log.
//!
//! It gives timely `expired` events and prompt reclaim; correctness does not
//! depend on it (reads hide what log time has passed). One round looks at a
//! bounded number of (generation, slot) ranges and rows, and waits until the
//! writer has taken them before it looks again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rocksdb::ReadOptions;

use super::{Follows, Group, Job};
use crate::storage::MetaKey;
use crate::storage::keys::{PREFIX_LEN, expiry_key, prefix, slot_of, split_expiry};

/// Ranges per round.
const MAX_RANGES: usize = 4096;
/// Rows per round.
const MAX_ROWS: usize = 4096;
const PAUSE: Duration = Duration::from_millis(50);

/// Runs until `stop`. Blocks: give it a thread of its own.
pub fn run(group: &Arc<Group>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        if !step(group) {
            std::thread::sleep(PAUSE);
        }
    }
}

/// One round. True if there may be more that is due now.
pub fn step(group: &Arc<Group>) -> bool {
    let held = group.expiry_paused.load(Ordering::Relaxed) || group.events.writes_paused();
    if !group.is_ready() || held {
        return false;
    }
    let round = match group.follows() {
        Follows::Nobody => round,
        // It tells when keys go.
        Follows::Master => return false,
        Follows::MasterLoosely => local_round,
    };
    round(group).unwrap_or_else(|error| {
        tracing::error!(group = group.id, %error, "the expiry index cannot be read");
        false
    })
}

fn round(group: &Arc<Group>) -> Result<bool, rocksdb::Error> {
    let now = group.now();
    let mut due = Vec::new();
    for (generation, slot) in group.store.hints.take_due(now, MAX_RANGES) {
        let (live, importing) = group.store.with_maps(|maps| {
            let live = maps.live.database_of(slot, generation).is_some();
            (live, maps.importing(slot, generation))
        });
        if !live {
            // An import is its source's until it is owned; what no map names
            // is garbage.
            if importing {
                group.store.hints.lower(generation, slot, 0);
            }
            continue;
        }
        if due.len() >= MAX_ROWS {
            group.store.hints.lower(generation, slot, 0);
            continue;
        }
        collect(group, generation, slot, now, &mut due)?;
    }
    if due.is_empty() {
        return Ok(false);
    }
    let more = due.len() >= MAX_ROWS;
    let ranges: Vec<_> = due
        .iter()
        .map(|(key, _)| (key.generation(), key.slot()))
        .collect();
    remove(group, due);
    // A refused entry leaves its rows: look once more.
    ranges
        .iter()
        .for_each(|(generation, slot)| group.store.hints.lower(*generation, *slot, 0));
    Ok(more)
}

/// Has the writer remove what is due.
fn remove(group: &Arc<Group>, due: Vec<(MetaKey, u64)>) {
    let done = Arc::new(AtomicBool::new(false));
    group.submit_job(Job::Expire(due, done.clone()));
    group.turn();
    // A leader that has just fallen runs nothing: what was queued is given back.
    group.refuse_if_unready();
    while !done.load(Ordering::Acquire) {
        // Another thread has the writer; it will come to our job.
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The same for keys that clients of a writable replica have written: the master does
/// not know of them.
fn local_round(group: &Arc<Group>) -> Result<bool, rocksdb::Error> {
    let now = group.now();
    let mut due = Vec::new();
    let known: Vec<LocalKey> = group.local_keys.lock().iter().cloned().collect();
    for (db, name) in known {
        let slot = slot_of(&name);
        let generation = group
            .store
            .with_maps(|maps| maps.live.get(usize::from(db), slot));
        let key = MetaKey::new(slot, generation, &name);
        let Ok(record) = group.store.record(&key, true) else {
            continue;
        };
        let expires_at = record.and_then(|record| record.header()?.expires_at);
        match expires_at {
            Some(at) if at >= now => continue,
            Some(at) => due.push((key, at)),
            None => {}
        }
        group.local_keys.lock().remove(&(db, name));
    }
    if !due.is_empty() {
        remove(group, due);
    }
    Ok(false)
}

/// Database and name of a key.
pub(super) type LocalKey = (u8, Box<[u8]>);
/// More keys are not looked after.
const MAX_LOCAL: usize = 1 << 20;

impl Group {
    /// A client of a writable replica has written these keys.
    pub(super) fn note_local_keys<'a>(&self, db: u8, names: impl Iterator<Item = &'a [u8]>) {
        let mut known = self.local_keys.lock();
        for name in names {
            if known.len() < MAX_LOCAL {
                known.insert((db, name.into()));
            }
        }
    }
}

/// Adds due rows of one range and leaves the hint of what follows them.
fn collect(
    group: &Group,
    generation: u32,
    slot: u16,
    now: u64,
    due: &mut Vec<(MetaKey, u64)>,
) -> Result<(), rocksdb::Error> {
    let engine = group.store.engine();
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(prefix(slot, generation));
    if let Some(end) = crate::storage::keys::prefix_end(slot, generation) {
        options.set_iterate_upper_bound(end);
    }
    options.fill_cache(false);
    let mut rows = engine.db.raw_iterator_cf_opt(&engine.expiry, options);
    rows.seek(expiry_key(&prefix(slot, generation), 0));
    while let Some(row) = rows.key() {
        let Some((at, user_key)) = split_expiry(row) else {
            break;
        };
        if at >= now || due.len() >= MAX_ROWS {
            group.store.hints.lower(generation, slot, at);
            return Ok(());
        }
        debug_assert!(row.len() >= PREFIX_LEN);
        let key = MetaKey::new(slot, generation, user_key);
        // Into the cache before the writer asks for it.
        let _ = group.store.record(&key, true);
        due.push((key, at));
        rows.next();
    }
    rows.status()
}
