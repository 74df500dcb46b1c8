//! Commands wait: until a time (CLIENT PAUSE), or those that write, for as long as a
//! failover lasts. Neither ends the other.
//!
//! The state is a few atomics, so that the path of every command costs two relaxed
//! loads while nothing is paused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_protocol::command::{CommandSpec, Flags};
use tokio::sync::Notify;

/// Which commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Those that may change data.
    Writes,
}

/// See the module's documentation.
pub struct Pause {
    started: Instant,
    /// One more than milliseconds since `started`; 0: nothing is paused.
    until: AtomicU64,
    all: AtomicBool,
    /// FAILOVER: writes wait, however long it takes.
    failing_over: AtomicBool,
    ended: Notify,
}

impl Default for Pause {
    fn default() -> Pause {
        Pause {
            started: Instant::now(),
            until: AtomicU64::new(0),
            all: AtomicBool::new(false),
            failing_over: AtomicBool::new(false),
            ended: Notify::new(),
        }
    }
}

impl Pause {
    /// Pauses for `time` from now; a longer pause and a wider scope that are
    /// in force stay in force, as in Redis.
    pub fn begin(&self, time: Duration, scope: Scope) {
        let running = self.remaining().is_some();
        let until = (self.started.elapsed() + time).as_millis() as u64 + 1;
        if !running {
            self.all.store(false, Ordering::Release);
        }
        if scope == Scope::All {
            self.all.store(true, Ordering::Release);
        }
        match running {
            true => self.until.fetch_max(until, Ordering::AcqRel),
            false => self.until.swap(until, Ordering::AcqRel),
        };
    }

    /// Ends the pause of CLIENT PAUSE now.
    pub fn end(&self) {
        self.until.store(0, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// A failover begins, or has ended.
    pub fn set_failing_over(&self, on: bool) {
        self.failing_over.store(on, Ordering::Release);
        if !on {
            self.ended.notify_waiters();
        }
    }

    /// Whether anything may be paused: two relaxed loads.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0 || self.failing_over.load(Ordering::Relaxed)
    }

    /// Whether something is paused now; cheap while nothing is.
    #[inline]
    pub fn is_in_force(&self) -> bool {
        self.is_on() && (self.failing_over.load(Ordering::Acquire) || self.remaining().is_some())
    }

    /// Whether it holds up every command, not writes alone.
    pub fn is_of_all(&self) -> bool {
        self.all.load(Ordering::Acquire) && self.remaining().is_some()
    }

    /// Whether the pause holds up this command.
    pub fn concerns(&self, spec: &CommandSpec) -> bool {
        spec.flags.contains(Flags::WRITE)
            || spec.flags.contains(Flags::MAY_REPLICATE)
            || self.is_of_all()
    }

    /// How long CLIENT PAUSE still lasts; `None`: it is over.
    pub fn remaining(&self) -> Option<Duration> {
        let until = self.until.load(Ordering::Acquire);
        if until == 0 {
            return None;
        }
        let now = self.started.elapsed().as_millis() as u64 + 1;
        if now >= until {
            // Whoever sees it first takes it down; a new pause is left alone.
            let _ = self
                .until
                .compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed);
            return None;
        }
        Some(Duration::from_millis(until - now))
    }

    /// Whether it holds up this command now.
    pub fn holds(&self, spec: &CommandSpec) -> bool {
        self.is_in_force() && self.concerns(spec)
    }

    /// Whether CLIENT PAUSE holds up what a master sends, writes that it is.
    pub fn holds_stream(&self) -> bool {
        self.is_on() && self.remaining().is_some()
    }

    /// Waits until nothing holds up commands like `spec`.
    pub async fn over(&self, spec: &CommandSpec) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if !self.holds(spec) {
                return;
            }
            match self.remaining() {
                // Both branches only wake us up to look again.
                Some(remaining) => tokio::select! {
                    () = ended => {}
                    () = tokio::time::sleep(remaining) => {}
                },
                None => ended.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_protocol::command::lookup;

    use super::*;

    #[test]
    fn a_pause_of_writes_lets_reads_pass_and_ends() {
        let pause = Pause::default();
        let (get, set) = (lookup(b"get").unwrap(), lookup(b"set").unwrap());
        assert!(!pause.is_on());
        pause.begin(Duration::from_secs(60), Scope::Writes);
        assert!(pause.is_on() && pause.concerns(set) && !pause.concerns(get));
        // A shorter one does not shorten it, a wider one widens it.
        pause.begin(Duration::from_secs(1), Scope::All);
        assert!(pause.remaining().unwrap() > Duration::from_secs(50));
        assert!(pause.concerns(get));
        pause.end();
        assert_eq!(pause.remaining(), None);
        pause.begin(Duration::ZERO, Scope::Writes);
        assert_eq!(pause.remaining(), None);
        assert!(!pause.is_on());
    }

    #[test]
    fn a_failover_pauses_writes_whatever_client_pause_does() {
        let pause = Pause::default();
        let (get, set) = (lookup(b"get").unwrap(), lookup(b"set").unwrap());
        // One of all commands that is over by now.
        pause.begin(Duration::ZERO, Scope::All);
        pause.set_failing_over(true);
        assert!(pause.is_on() && pause.is_in_force());
        assert!(pause.holds(set) && !pause.holds(get) && !pause.holds_stream());
        pause.begin(Duration::from_secs(60), Scope::All);
        assert!(pause.holds(get) && pause.is_of_all());
        pause.end();
        assert!(pause.holds(set) && !pause.holds(get));
        pause.set_failing_over(false);
        assert!(!pause.is_on() && !pause.holds(set));
    }

    #[tokio::test]
    async fn who_waits_for_a_failover_goes_on_when_it_has_ended() {
        let pause = std::sync::Arc::new(Pause::default());
        pause.set_failing_over(true);
        let waits = {
            let pause = pause.clone();
            async move { pause.over(lookup(b"set").unwrap()).await }
        };
        let ends = async {
            tokio::task::yield_now().await;
            pause.set_failing_over(false);
        };
        tokio::join!(waits, ends);
    }
}
