//! Log time: the clock by which a group judges expiry (invariant 4).
//!
//! Time since the term began is taken from the monotonic clock and slewed
//! toward the wall clock; a forward step above a bound is refused and
//! reported; time never runs backwards, also not over a restart. Pure: both
//! clocks are inputs, in microseconds. Log time is told in ms, as commands and records
//! have it, but kept exactly: cut to ms, it would be behind the clock of a client that
//! names a time (PXAT) whenever the two tick at different moments.

/// Largest step of the wall clock that is followed (by slewing).
pub const MAX_STEP_MS: u64 = 3_600_000;
/// Share of elapsed time by which log time may run fast or slow: 1/8.
const SLEW: u64 = 8;
/// Time whose share may be used at once.
const MAX_CREDIT_US: u64 = SLEW * 1_000_000;

/// See the module's documentation. All times in microseconds.
#[derive(Debug, Clone)]
pub struct LogClock {
    time: u64,
    mono: u64,
    /// What slewing could not use yet, so that short intervals add up.
    credit: u64,
    refused: bool,
}

impl LogClock {
    /// `persisted_ms` is the log time of the last entry before the start (0: none).
    pub fn start(persisted_ms: u64, wall_us: u64, mono_us: u64) -> LogClock {
        LogClock {
            time: persisted_ms.saturating_mul(1000).max(wall_us),
            mono: mono_us,
            credit: 0,
            refused: false,
        }
    }

    /// Log time in ms, if it has come as far as `mono_us` already; else
    /// [`LogClock::advance`] is to be told the wall clock's time.
    pub fn known(&self, mono_us: u64) -> Option<u64> {
        let ticks_at = self.mono + 1000 - self.time % 1000;
        (mono_us < ticks_at).then_some(self.time / 1000)
    }

    /// Log time now, in ms; never below what was returned before.
    pub fn advance(&mut self, wall_us: u64, mono_us: u64) -> u64 {
        let elapsed = mono_us.saturating_sub(self.mono);
        if elapsed == 0 {
            return self.time / 1000;
        }
        self.mono = mono_us;
        let target = self.time + elapsed;
        let offset = wall_us as i128 - target as i128;
        self.refused = offset > i128::from(MAX_STEP_MS) * 1000;
        self.credit = (self.credit + elapsed).min(MAX_CREDIT_US);
        let slew = (offset.unsigned_abs() as u64).min(self.credit / SLEW);
        self.credit -= (slew * SLEW).min(self.credit);
        self.time = match offset {
            _ if self.refused => target,
            0.. => target + slew,
            _ => target - slew.min(elapsed),
        };
        self.time / 1000
    }

    /// Another source of log time was seen (READY, a leader's entry): not below it.
    pub fn observe(&mut self, time_ms: u64) {
        self.time = self.time.max(time_ms.saturating_mul(1000));
    }

    /// Whether the wall clock is ahead by more than [`MAX_STEP_MS`] and is not followed.
    pub fn step_refused(&self) -> bool {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1000;

    #[test]
    fn time_never_runs_backwards() {
        let mut clock = LogClock::start(10_000, 5_000 * MS, 0);
        let mut last = 0;
        for mono in (0..10_000 * MS).step_by(300) {
            let now = clock.advance(5_000 * MS + mono / 3, mono);
            assert!(now >= last);
            last = now;
        }
        assert!(last >= 10_000);
    }

    #[test]
    fn the_wall_clock_is_asked_once_a_millisecond() {
        let mut clock = LogClock::start(0, 1_000 * MS + 400, 0);
        assert_eq!(
            (clock.known(0), clock.known(599)),
            (Some(1_000), Some(1_000))
        );
        assert_eq!(clock.known(600), None);
        let time = clock.advance(1_001 * MS, 600);
        assert_eq!(time, 1_001);
        assert_eq!(
            (clock.known(600), clock.known(1_599)),
            (Some(time), Some(time))
        );
        assert_eq!(clock.advance(9_000 * MS, 600), time);
    }

    /// Regression: cut to ms on its way, log time was up to 1 ms behind the clock by which
    /// a client had named a time, and PTTL told more than the client had asked for.
    #[test]
    fn it_is_never_behind_the_milliseconds_of_the_wall_clock() {
        let mut clock = LogClock::start(0, 1_000 * MS + 900, 50);
        for mono in (50..50 * MS).step_by(7) {
            let wall = 1_000 * MS + 850 + mono;
            let now = match clock.known(mono) {
                Some(now) => now,
                None => clock.advance(wall, mono),
            };
            assert_eq!(now, wall / MS, "at {mono}");
        }
    }

    #[test]
    fn a_small_step_is_slewed_and_a_large_one_refused() {
        let mut clock = LogClock::start(0, 1_000_000 * MS, 0);
        for mono in 1..=20_000 {
            clock.advance((1_001_000 + mono) * MS, mono * MS);
        }
        assert_eq!(clock.advance(1_021_001 * MS, 20_001 * MS), 1_021_001);
        let before = clock.advance(1_021_002 * MS, 20_002 * MS);
        let now = clock.advance((1_021_002 + 2 * MAX_STEP_MS) * MS, 20_003 * MS);
        assert_eq!(now, before + 1);
        assert!(clock.step_refused());
    }

    #[test]
    fn a_restart_follows_the_wall_clock_but_not_below_the_log() {
        let at = |persisted, wall_ms| LogClock::start(persisted, wall_ms * MS, 0).known(0);
        assert_eq!(at(500, 90_000_000), Some(90_000_000));
        assert_eq!(at(500, 400), Some(500));
    }
}
