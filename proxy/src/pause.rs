//! CLIENT PAUSE: commands of this proxy's clients wait until a time.
//!
//! Atomics, so that the path of every command costs one relaxed load while
//! nothing is paused.

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::{Duration, Instant};

/// See the module's documentation.
pub(crate) struct Pause {
    started: Instant,
    /// One more than milliseconds since `started`; 0: nothing is paused.
    until: AtomicU64,
    /// Every command waits, not writes alone.
    all: AtomicBool,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            until: AtomicU64::new(0),
            all: AtomicBool::new(false),
        }
    }
}

impl Pause {
    /// Pauses for `time` from now; a longer pause and a wider scope that are in
    /// force stay in force, as in Redis.
    pub fn begin(&self, time: Duration, all: bool) {
        let until = (self.started.elapsed() + time).as_millis() as u64 + 1;
        if self.remaining().is_some() {
            self.until.fetch_max(until, Release);
            self.all.fetch_or(all, Release);
        } else {
            self.all.store(all, Release);
            self.until.store(until, Release);
        }
    }

    /// Ends the pause now.
    pub fn end(&self) {
        self.until.store(0, Release);
    }

    /// What is left of the pause.
    pub fn remaining(&self) -> Option<Duration> {
        let until = self.until.load(Relaxed);
        if until == 0 {
            return None;
        }
        let left = Duration::from_millis(until - 1).checked_sub(self.started.elapsed());
        if left.is_none() {
            // The next command does not ask the clock.
            let _ = self.until.compare_exchange(until, 0, Release, Relaxed);
        }
        left
    }

    /// How long a command has to wait yet, if at all; `writes`: it may change
    /// data.
    pub fn holds(&self, writes: bool) -> Option<Duration> {
        let left = self.remaining()?;
        (writes || self.all.load(Acquire)).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_writes_lets_reads_pass_and_can_be_widened() {
        let pause = Pause::default();
        assert_eq!(pause.holds(true), None);
        pause.begin(Duration::from_secs(100), false);
        assert!(pause.holds(true).is_some() && pause.holds(false).is_none());
        pause.begin(Duration::from_secs(1), true);
        let left = pause.holds(false).expect("every command waits");
        assert!(left > Duration::from_secs(50), "the longer pause stays");
        pause.end();
        assert_eq!(pause.holds(true), None);
    }
}
