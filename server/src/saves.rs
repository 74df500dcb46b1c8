//! SAVE, BGSAVE and LASTSAVE: what "saved" means where all is on disk.
//!
//! A save writes the memtables to files and syncs the log, so that a restart
//! replays nothing. Nothing is lost without it. Standalone it also exports the
//! data set in Redis's form, as the file `dbfilename` in `dir`. A rewrite of the
//! AOF is asked for a short replay: that is the first half alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::replication::dump_file;
use crate::server::{Home, Server};
use crate::storage::Log;

/// See the module's documentation.
pub struct Saves {
    /// Unix time, seconds.
    last: AtomicU64,
    /// How long it took, seconds; -1: none yet.
    seconds: AtomicI64,
    count: AtomicU64,
    running: AtomicBool,
    failed: AtomicBool,
    rewriting: AtomicBool,
    rewrites: AtomicU64,
    /// Sum of the groups' log positions then.
    position: AtomicU64,
}

impl Default for Saves {
    fn default() -> Saves {
        Saves {
            last: AtomicU64::new(unix_seconds()),
            seconds: AtomicI64::new(-1),
            count: AtomicU64::new(0),
            running: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            rewriting: AtomicBool::new(false),
            rewrites: AtomicU64::new(0),
            position: AtomicU64::new(0),
        }
    }
}

impl Saves {
    /// What is on disk at the start counts as saved.
    pub fn start(&self, server: &Server) {
        self.position.store(positions(server), Ordering::Relaxed);
    }

    /// Marks a save as running; false if one is already.
    pub fn begin(&self) -> bool {
        !self.running.swap(true, Ordering::AcqRel)
    }

    /// A save that was announced does not happen after all.
    pub fn abandon(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.running.store(false, Ordering::Release);
    }

    /// Does what [`Saves::begin`] announced. Blocks.
    ///
    /// # Errors
    /// What a client is told.
    pub fn run(&self, server: &Arc<Server>) -> Result<(), String> {
        let (started, position) = (Instant::now(), positions(server));
        let exported = || dump_file::save(server).map_err(|e| e.to_string());
        let outcome = flush_all(server).and_then(|()| exported());
        self.failed.store(outcome.is_err(), Ordering::Relaxed);
        if outcome.is_ok() {
            self.position.store(position, Ordering::Relaxed);
            self.last.store(unix_seconds(), Ordering::Relaxed);
            self.seconds
                .store(started.elapsed().as_secs() as i64, Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        self.running.store(false, Ordering::Release);
        outcome
    }

    /// Marks a rewrite as running; false if one is already.
    pub fn begin_rewrite(&self) -> bool {
        !self.rewriting.swap(true, Ordering::AcqRel)
    }

    /// Does what [`Saves::begin_rewrite`] announced. Blocks.
    ///
    /// # Errors
    /// The storage's own words, with the path.
    pub fn rewrite(&self, server: &Server) -> Result<(), String> {
        let outcome = flush_all(server);
        self.rewrites.fetch_add(1, Ordering::Relaxed);
        self.end_rewrite();
        outcome
    }

    /// A rewrite has ended, or does not happen after all.
    pub fn end_rewrite(&self) {
        self.rewriting.store(false, Ordering::Release);
    }

    pub fn rewriting(&self) -> bool {
        self.rewriting.load(Ordering::Acquire)
    }

    pub fn rewrites(&self) -> u64 {
        self.rewrites.load(Ordering::Relaxed)
    }

    /// Unix time of the last save, seconds.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    pub fn last_seconds(&self) -> i64 {
        self.seconds.load(Ordering::Relaxed)
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub fn running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Entries of the log since the last save.
    pub fn changes_since(&self, server: &Server) -> u64 {
        positions(server).saturating_sub(self.position.load(Ordering::Relaxed))
    }
}

/// Writes all memtables to files and syncs the logs. Blocks.
///
/// # Errors
/// The storage's own words, with the path.
pub fn flush_all(server: &Server) -> Result<(), String> {
    for group in server.groups() {
        group.store.flush().map_err(|e| e.to_string())?;
        let log = match server.home {
            Home::Standalone(_) => Log::Wal,
            Home::Node(_) => Log::External,
        };
        group.store.sync(log).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn positions(server: &Server) -> u64 {
    server
        .groups()
        .iter()
        .map(|group| group.store.position().index)
        .sum()
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}
