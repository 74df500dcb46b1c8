//! Log time: the clock by which a group judges expiry (invariant 4).
//!
//! Time since the term began is taken from the monotonic clock and slewed
//! toward the wall clock; a forward step above a bound is refused and
//! reported; time never runs backwards, also not over a restart. Pure: both
//! clocks are inputs, in ms.

/// Largest step of the wall clock that is followed (by slewing).
pub const MAX_STEP_MS: u64 = 3_600_000;
/// Share of elapsed time by which log time may run fast or slow: 1/8.
const SLEW: u64 = 8;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct LogClock {
    time: u64,
    mono: u64,
    /// What slewing could not use yet, so that short intervals add up.
    credit: u64,
    refused: bool,
}

impl LogClock {
    /// `persisted` is the log time of the last entry before the start (0: none).
    pub fn start(persisted: u64, wall: u64, mono: u64) -> LogClock {
        LogClock {
            time: persisted.max(wall),
            mono,
            credit: 0,
            refused: false,
        }
    }

    /// Log time now, if it has come as far as `mono` already; else [`LogClock::advance`]
    /// is to be told the wall clock's time.
    pub fn known(&self, mono: u64) -> Option<u64> {
        (mono <= self.mono).then_some(self.time)
    }

    /// Log time now; never below what was returned before.
    pub fn advance(&mut self, wall: u64, mono: u64) -> u64 {
        if let Some(time) = self.known(mono) {
            return time;
        }
        let elapsed = mono - self.mono;
        self.mono = mono;
        let target = self.time + elapsed;
        let offset = wall as i128 - target as i128;
        self.refused = offset > MAX_STEP_MS as i128;
        self.credit = (self.credit + elapsed).min(SLEW * 1000);
        let slew = (offset.unsigned_abs() as u64).min(self.credit / SLEW);
        self.credit -= (slew * SLEW).min(self.credit);
        self.time = match offset {
            _ if self.refused => target,
            0.. => target + slew,
            _ => target - slew.min(elapsed),
        };
        self.time
    }

    /// Another source of log time was seen (READY, a leader's entry): not below it.
    pub fn observe(&mut self, time: u64) {
        self.time = self.time.max(time);
    }

    /// Whether the wall clock is ahead by more than [`MAX_STEP_MS`] and is not followed.
    pub fn step_refused(&self) -> bool {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_backwards() {
        let mut clock = LogClock::start(10_000, 5_000, 0);
        let mut last = 0;
        for mono in 0..10_000 {
            let now = clock.advance(5_000 + mono / 3, mono);
            assert!(now >= last);
            last = now;
        }
        assert!(last >= 10_000);
    }

    #[test]
    fn the_wall_clock_is_asked_once_a_millisecond() {
        let mut clock = LogClock::start(0, 1_000, 0);
        assert_eq!(clock.known(0), Some(1_000));
        assert_eq!(clock.known(1), None);
        let time = clock.advance(1_001, 1);
        assert_eq!((clock.known(0), clock.known(1)), (Some(time), Some(time)));
        assert_eq!(clock.advance(9_000, 1), time);
    }

    #[test]
    fn a_small_step_is_slewed_and_a_large_one_refused() {
        let mut clock = LogClock::start(0, 1_000_000, 0);
        for mono in 1..=20_000 {
            clock.advance(1_001_000 + mono, mono);
        }
        assert_eq!(clock.advance(1_021_001, 20_001), 1_021_001);
        let before = clock.advance(1_021_002, 20_002);
        let now = clock.advance(1_021_002 + 2 * MAX_STEP_MS, 20_003);
        assert_eq!(now, before + 1);
        assert!(clock.step_refused());
    }

    #[test]
    fn a_restart_follows_the_wall_clock_but_not_below_the_log() {
        assert_eq!(LogClock::start(500, 90_000_000, 0).time, 90_000_000);
        assert_eq!(LogClock::start(500, 400, 0).time, 500);
    }
}
