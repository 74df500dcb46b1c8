//! Standalone durability: entries are RocksDB writes with RocksDB's own log.
//!
//! `everysec` and `no`: written inline, the kernel has the bytes before any
//! reply. `always`, and a write that would have to wait for compaction: on
//! the commit thread. A failed write or sync ends the process (invariant 9).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::{Commit, CommitSink, Entry, Group};
use crate::config::{AppendFsync, LiveSettings};
use crate::storage::{Log, Position, Store, StoreError, count_nothing};
use crate::txn::effects::Effects;

/// How often the log is synced and the filter's view published.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// The same where the user left syncing to the kernel.
const LAZY_SYNC_EVERY: Duration = Duration::from_secs(60);

type Queued = (Arc<Group>, Arc<Effects>, Position);

/// See the module's documentation.
pub struct WalSink {
    live: Arc<LiveSettings>,
    queue: SyncSender<Queued>,
}

impl WalSink {
    /// Starts the commit thread; it ends when the sink is dropped.
    pub fn start(live: Arc<LiveSettings>) -> std::io::Result<WalSink> {
        // One entry is in flight per group; standalone has one group.
        let (queue, entries) = sync_channel(16);
        let settings = live.clone();
        std::thread::Builder::new()
            .name("commit".into())
            .spawn(move || commit_thread(&entries, &settings))?;
        Ok(WalSink { live, queue })
    }

    fn hand_over(&self, entry: Queued) -> Commit {
        match self.queue.send(entry) {
            Ok(()) => Commit::InFlight,
            Err(_) => fatal("the commit thread is gone", &"channel closed"),
        }
    }
}

impl CommitSink for WalSink {
    fn commit(&self, group: &Arc<Group>, entry: Entry) -> Commit {
        let Entry::Effects(effects, position) = entry else {
            // Nothing proposes moves to a standalone group.
            return Commit::Refused;
        };
        if self.live.appendfsync() == AppendFsync::Always {
            return self.hand_over((group.clone(), effects, position));
        }
        match group.store.apply(&effects, position, Log::Wal, false) {
            Ok(()) => Commit::Applied,
            Err(StoreError::WouldStall) => self.hand_over((group.clone(), effects, position)),
            Err(error) => fatal("a write to the log failed", &error),
        }
    }
}

fn commit_thread(entries: &Receiver<Queued>, live: &LiveSettings) {
    count_nothing();
    while let Ok((group, effects, position)) = entries.recv() {
        let log = match live.appendfsync() {
            AppendFsync::Always => Log::WalSynced,
            _ => Log::Wal,
        };
        if let Err(error) = group.store.apply(&effects, position, log, true) {
            fatal("a write to the log failed", &error);
        }
        group.committed(Commit::Applied);
    }
}

/// Syncs the log from time to time until `stop`, and once more then.
pub fn sync_thread(group: &Group, live: &LiveSettings, stop: &AtomicBool) {
    let mut last = Instant::now();
    while !stop.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(50));
        let every = match live.appendfsync() {
            AppendFsync::No => LAZY_SYNC_EVERY,
            _ => SYNC_EVERY,
        };
        if last.elapsed() >= every {
            last = Instant::now();
            let garbage = group.store.take_garbage();
            sync(group);
            if garbage {
                collect_garbage(&group.store);
            }
        }
    }
    sync(group);
}

/// After a flush or a move: compacts in the background (rate limited as all
/// compaction is), so that the space of dead generations returns. To be called
/// after the change of the maps was synced. What becomes garbage while it runs is
/// collected by the same thread, once more from the beginning.
pub fn collect_garbage(store: &Arc<Store>) {
    if !store.collection.begin() {
        return;
    }
    let store = Arc::downgrade(store);
    std::thread::spawn(move || {
        while let Some(store) = store.upgrade() {
            store.forget_dead_generations();
            sweep_payload(&store);
            store.compact();
            if !store.collection.again() {
                return;
            }
        }
    });
}

/// Deletes long strings of dead generations, which no compaction finds. Also after a
/// start: they may have been flushed just before the end. Blocks.
pub fn sweep_payload(store: &Store) {
    if let Err(error) = store.sweep_payload() {
        tracing::error!(%error, "dead long strings could not be swept");
    }
}

fn sync(group: &Group) {
    if let Err(error) = group.store.sync(Log::Wal) {
        fatal("the log could not be synced", &error);
    }
}

/// Stops at once: what follows a failed write is of unknown content, and a
/// restart replays what is known.
fn fatal(what: &str, error: &dyn std::fmt::Display) -> ! {
    tracing::error!(%error, "{what}; the process stops, restart it to recover by replay");
    eprintln!("cairn-server: {what}: {error}; restart to recover by replay");
    std::process::abort()
}
