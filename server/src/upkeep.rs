//! What the process does once in a while: rates for INFO, closing of idle
//! clients, and a look at the disk.
//!
//! One thread. What it finds is left in atomics; nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::memory;
use crate::replication::failover;
use crate::server::Server;

/// Time between two samples of the rates.
const TICK: Duration = Duration::from_millis(100);
/// Samples that a rate is averaged over.
const SAMPLES: usize = 16;
/// Ticks between two looks at the disk and at idle clients.
const SLOW_EVERY: u32 = 10;

/// A client that was idle for so long needs no buffers.
const SHRINK_AFTER_MS: u64 = 2000;
/// What the process itself takes beside caches, bytes.
const MEMORY_SLACK: usize = 48 << 20;

/// What the upkeep thread found last.
#[derive(Default)]
pub struct Vitals {
    pub ops_per_second: AtomicU64,
    pub input_bytes_per_second: AtomicU64,
    pub output_bytes_per_second: AtomicU64,
    /// The most that used memory ever was, bytes.
    pub peak_memory: AtomicU64,
    /// Memory allocated when the server was ready, bytes.
    pub startup_memory: AtomicU64,
    /// Free space of the data directory's file system, bytes.
    pub free_disk: AtomicU64,
    /// Less is free than `min-free-disk`: commands that need space are refused.
    pub disk_full: AtomicBool,
    /// More memory is allocated than `memory-limit` allows for.
    pub memory_full: AtomicBool,
    /// One of the two: the only one that the hot path looks at.
    pub full: AtomicBool,
}

/// Measures what the process takes before it serves anybody: `maxmemory` counts
/// from there, so it must not come later.
pub fn measure_startup(vitals: &Vitals) {
    vitals
        .startup_memory
        .store(memory::usage().allocated as u64, Ordering::Relaxed);
}

/// Runs until `stop`. Blocks: give it a thread of its own.
pub fn run(server: &Arc<Server>, stop: &AtomicBool) {
    let vitals = &server.vitals;
    let mut rates = [Rate::default(), Rate::default(), Rate::default()];
    let mut tick = 0_u32;
    while !stop.load(Ordering::Acquire) {
        let stats = &server.stats;
        let totals = [
            stats.total_commands(),
            stats.net_input_bytes.load(Ordering::Relaxed),
            stats.net_output_bytes.load(Ordering::Relaxed),
        ];
        let shown = [
            &vitals.ops_per_second,
            &vitals.input_bytes_per_second,
            &vitals.output_bytes_per_second,
        ];
        for ((rate, total), shown) in rates.iter_mut().zip(totals).zip(shown) {
            shown.store(rate.sample(total), Ordering::Relaxed);
        }
        server.announcer.tracking.keep_to_limit();
        server.announcer.feed.look();
        failover::look(server);
        if tick.is_multiple_of(SLOW_EVERY) {
            look_at_disk(server);
            look_at_memory(server);
            close_idle_clients(server);
            shrink_idle_clients(server);
            server.targets.close_idle();
            vitals
                .peak_memory
                .fetch_max(server.used_memory(), Ordering::Relaxed);
        }
        tick = tick.wrapping_add(1);
        std::thread::sleep(TICK);
    }
}

/// A running average of a growing counter's rate.
#[derive(Default)]
struct Rate {
    last: Option<u64>,
    samples: [u64; SAMPLES],
    at: usize,
}

impl Rate {
    /// Takes one sample, one [`TICK`] after the last. Per second.
    fn sample(&mut self, total: u64) -> u64 {
        let last = self.last.replace(total).unwrap_or(total);
        // A counter that was reset begins anew.
        self.samples[self.at] = total.saturating_sub(last);
        self.at = (self.at + 1) % SAMPLES;
        let per_second = 1000 / TICK.as_millis() as u64;
        self.samples.iter().sum::<u64>() * per_second / SAMPLES as u64
    }
}

fn look_at_disk(server: &Server) {
    let least = server.live.min_free_disk.load(Ordering::Relaxed);
    let Some(free) = free_bytes(&server.config.data_dir) else {
        return;
    };
    server.vitals.free_disk.store(free, Ordering::Relaxed);
    let full = free < least;
    if full {
        // Whoever sees `disk_full` finds it in force; `look_at_memory` takes it back.
        server.vitals.full.store(true, Ordering::Relaxed);
    }
    if server.vitals.disk_full.swap(full, Ordering::Relaxed) != full {
        match full {
            true => tracing::error!(free, least, "the disk is nearly full: writes are refused"),
            false => tracing::warn!(free, "there is space on the disk again: writes are served"),
        }
    }
}

/// Caches and memtables keep to the limit by themselves; beyond it are
/// requests and replies under way, which only refusals can bound.
fn look_at_memory(server: &Server) {
    let limit = server.config.memory_limit;
    let most = limit + limit / 8 + MEMORY_SLACK;
    let allocated = memory::usage().allocated;
    let vitals = &server.vitals;
    let full = allocated > most;
    if vitals.memory_full.swap(full, Ordering::Relaxed) != full {
        match full {
            true => tracing::error!(allocated, limit, "memory is full: writes are refused"),
            false => tracing::warn!(allocated, "there is memory again: writes are served"),
        }
    }
    let any = full || vitals.disk_full.load(Ordering::Relaxed);
    vitals.full.store(any, Ordering::Relaxed);
}

/// Bytes that this process may still write below `path`.
fn free_bytes(path: &std::path::Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a C string, and the result is read only on success.
    let stats = unsafe {
        if libc::statvfs(path.as_ptr(), stats.as_mut_ptr()) != 0 {
            return None;
        }
        stats.assume_init()
    };
    Some(stats.f_bavail as u64 * stats.f_frsize as u64)
}

/// `timeout`: clients that sent nothing for so long are closed.
fn close_idle_clients(server: &Server) {
    let timeout = server.live.timeout.load(Ordering::Relaxed);
    if timeout == 0 {
        return;
    }
    for client in server.clients.iter() {
        let age = client.created.elapsed().as_millis() as u64;
        let idle = age.saturating_sub(client.last_active_ms.load(Ordering::Relaxed));
        if idle / 1000 > timeout {
            tracing::debug!(client = client.id, idle, "closing an idle client");
            client.kill();
        }
    }
}

/// Clients that sent nothing for a while give their buffers back.
fn shrink_idle_clients(server: &Server) {
    for client in server.clients.iter() {
        let age = client.created.elapsed().as_millis() as u64;
        let idle = age.saturating_sub(client.last_active_ms.load(Ordering::Relaxed));
        if idle > SHRINK_AFTER_MS && client.query_free.load(Ordering::Relaxed) > 0 {
            client.save_memory();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_averaged_and_forgets() {
        let mut rate = Rate::default();
        let mut shown = rate.sample(1000);
        assert_eq!(shown, 0);
        for i in 1..=SAMPLES as u64 {
            shown = rate.sample(1000 + i * 5);
        }
        assert_eq!(shown, 50);
        for _ in 0..SAMPLES {
            shown = rate.sample(0);
        }
        assert_eq!(shown, 0);
    }

    #[test]
    fn free_space_is_found() {
        assert!(free_bytes(std::path::Path::new("/")).is_some_and(|free| free > 0));
        assert_eq!(free_bytes(std::path::Path::new("/no/such/place")), None);
    }
}
