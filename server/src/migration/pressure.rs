//! Back-pressure on the source's writes while increments do not catch up.

use super::plan::{FailReason, MonoMs};

/// Strongest back-pressure.
const MAX_LEVEL: u8 = 10;

/// Watches the lag and turns it into a level from 0 to 10.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    level: u8,
    told: u8,
    last_lag: u64,
    next_step: Option<MonoMs>,
    /// Since when the lag has been too large.
    since: Option<MonoMs>,
}

impl Pressure {
    /// The lag is too large: a step up whenever it has not fallen by a
    /// quarter. `patience` is (ms between steps, ms before giving up).
    /// Returns when to look again.
    pub(super) fn lagging(
        &mut self,
        lag: u64,
        patience: (u64, u64),
        now: MonoMs,
    ) -> Result<MonoMs, FailReason> {
        let (step_ms, give_up_ms) = patience;
        let since = *self.since.get_or_insert(now);
        if now >= since.saturating_add(give_up_ms) {
            return Err(FailReason::CannotCatchUp);
        }
        let step_at = *self.next_step.get_or_insert(now + step_ms);
        if now < step_at {
            return Ok(step_at);
        }
        let falls = u128::from(lag) * 4 < u128::from(self.last_lag) * 3;
        self.last_lag = lag;
        self.next_step = Some(now + step_ms);
        if !falls {
            self.level = (self.level + 1).min(MAX_LEVEL);
        }
        Ok(now + step_ms)
    }

    /// The lag is small, but the switch may have to wait for etcd: writes are
    /// not kept slow meanwhile.
    pub(super) fn caught_up(&mut self, step_ms: u64, now: MonoMs) {
        self.since = None;
        if now >= *self.next_step.get_or_insert(now + step_ms) {
            self.next_step = Some(now + step_ms);
            self.level = self.level.saturating_sub(1);
        }
    }

    /// Time spent paused is not time spent catching up.
    pub(super) fn restart(&mut self) {
        self.since = None;
    }

    pub(super) fn release(&mut self) {
        self.level = 0;
    }

    /// The level, once after each change.
    pub(super) fn changed(&mut self) -> Option<u8> {
        let changed = self.level != self.told;
        self.told = self.level;
        changed.then_some(self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_that_does_not_fall_raises_the_level_and_then_gives_up() {
        let mut pressure = Pressure::default();
        let mut levels = Vec::new();
        let failed_at = (0..).step_by(100).find(|&now| {
            let result = pressure.lagging(1_000, (100, 2_000), now);
            levels.extend(pressure.changed());
            result == Err(FailReason::CannotCatchUp)
        });
        assert_eq!(failed_at, Some(2_000));
        assert_eq!(levels, (1..=10).collect::<Vec<u8>>());
    }

    #[test]
    fn a_falling_lag_is_left_alone_and_a_small_one_lets_up() {
        let mut pressure = Pressure::default();
        let mut lag = 1 << 20;
        for now in (0..1_000).step_by(100) {
            pressure.lagging(lag, (100, 10_000), now).unwrap();
            lag /= 2;
        }
        assert_eq!(pressure.changed(), Some(1), "only the first look raises it");
        (1_000..1_200).for_each(|now| pressure.caught_up(100, now));
        assert_eq!(pressure.changed(), Some(0));
    }
}
