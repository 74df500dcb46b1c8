//! `maxmemory`: the data set is kept within a bound, or writes are refused.
//!
//! What counts is [`Server::used_memory`]: the process as it was at its start,
//! and what the data weighs (`storage::weight`), wherever it lies. One thread
//! evicts, for all connections that find the bound exceeded and wait, and by
//! itself now and then. Standalone only: a node's groups do not weigh.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::config::EvictionPolicy;
use crate::group::eviction::{Choice, Hand, evict};
use crate::server::{Home, Server};

/// The thread looks by itself so often.
const TICK: Duration = Duration::from_millis(100);
/// Entries that one pass makes at most; whoever waits goes on then.
const MAX_ENTRIES: usize = 16;
/// Of the bound one part in so many is freed beyond what must be, so that not
/// every write has to wait.
const SLACK_PART: u64 = 1024;
const MAX_SLACK: u64 = 1 << 20;

/// See the module's documentation.
#[derive(Default)]
pub struct Eviction {
    /// (passes asked for, passes begun). Guards two numbers.
    asked: Mutex<(u64, u64)>,
    wake: Condvar,
    /// Passes that are over.
    done: AtomicU64,
    passed: Notify,
    /// The last pass found nothing that may go.
    exhausted: AtomicBool,
}

impl Eviction {
    /// Waits for a pass that begins from now on. Cancel safe.
    pub async fn make_room(&self) {
        let ticket = {
            let mut asked = self.asked.lock();
            asked.0 += 1;
            self.wake.notify_one();
            asked.0
        };
        loop {
            let passed = self.passed.notified();
            tokio::pin!(passed);
            passed.as_mut().enable();
            if self.done.load(Ordering::Acquire) >= ticket {
                return;
            }
            passed.await;
        }
    }

    /// The settings have changed: a pass begins soon.
    pub fn reconsider(&self) {
        self.exhausted.store(false, Ordering::Relaxed);
        self.asked.lock().0 += 1;
        self.wake.notify_one();
    }

    /// Whether nothing that may go is left.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    fn next_pass(&self) -> u64 {
        let mut asked = self.asked.lock();
        if asked.0 == asked.1 {
            self.wake.wait_for(&mut asked, TICK);
        }
        asked.1 = asked.0;
        asked.1
    }

    fn end_pass(&self, pass: u64) {
        self.done.store(pass, Ordering::Release);
        self.passed.notify_waiters();
    }
}

/// Runs until `stop`. Blocks: give it a thread of its own.
pub fn run(server: &Arc<Server>, stop: &AtomicBool) {
    let mut hand = Hand::default();
    while !stop.load(Ordering::Acquire) {
        let pass = server.eviction.next_pass();
        if let Err(error) = keep_to_bound(server, &mut hand) {
            tracing::error!(%error, "keys to evict could not be read");
            server.eviction.exhausted.store(true, Ordering::Relaxed);
        }
        server.eviction.end_pass(pass);
    }
}

fn keep_to_bound(server: &Server, hand: &mut Hand) -> Result<(), rocksdb::Error> {
    let (eviction, live) = (&server.eviction, &server.live);
    let Home::Standalone(group) = &server.home else {
        return Ok(());
    };
    let mut exhausted = false;
    for _ in 0..MAX_ENTRIES {
        let bound = live.maxmemory.load(Ordering::Relaxed);
        let choice = Choice {
            policy: live.eviction_policy(),
            samples: live.maxmemory_samples.load(Ordering::Relaxed).clamp(1, 64),
        };
        // A pause of writes holds for these too.
        let idle = !server.is_over_maxmemory() || server.pause.is_on();
        if idle || choice.policy == EvictionPolicy::NoEviction {
            break;
        }
        let excess = server.used_memory().saturating_sub(bound);
        let slack = (bound / SLACK_PART).min(MAX_SLACK);
        let before = group.evicted_keys.load(Ordering::Relaxed);
        if evict(group, hand, choice, excess + slack)? == 0 {
            exhausted = true;
            break;
        }
        // Chosen, but changed meanwhile: the next pass finds others.
        if group.evicted_keys.load(Ordering::Relaxed) == before {
            break;
        }
    }
    eviction.exhausted.store(exhausted, Ordering::Relaxed);
    Ok(())
}
