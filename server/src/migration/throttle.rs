//! Token bucket for the bulk copy.

use super::plan::MonoMs;

/// Lets bytes pass at a rate, with a tenth of a second of burst.
///
/// A message may overdraw the bucket once it has any credit, so that a part
/// larger than the burst still passes; the debt delays what follows.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    /// Bytes a second; 0 is unlimited.
    rate: u64,
    /// Thousandths of a byte, negative while in debt.
    credit: i128,
    refilled: MonoMs,
}

impl TokenBucket {
    pub fn new(rate: u64, now: MonoMs) -> Self {
        let mut bucket = Self {
            rate,
            credit: 0,
            refilled: now,
        };
        bucket.credit = bucket.burst();
        bucket
    }

    fn burst(&self) -> i128 {
        i128::from(self.rate) * 100
    }

    pub fn set_rate(&mut self, rate: u64, now: MonoMs) {
        self.refill(now);
        self.rate = rate;
        self.credit = self.credit.min(self.burst());
    }

    fn refill(&mut self, now: MonoMs) {
        let elapsed = i128::from(now.saturating_sub(self.refilled));
        self.refilled = self.refilled.max(now);
        self.credit = (self.credit + elapsed * i128::from(self.rate)).min(self.burst());
    }

    /// Takes `bytes`, or says how many ms to wait before asking again.
    pub fn take(&mut self, bytes: u64, now: MonoMs) -> Result<(), u64> {
        if self.rate == 0 {
            return Ok(());
        }
        self.refill(now);
        if self.credit <= 0 {
            let wait = (-self.credit) / i128::from(self.rate) + 1;
            return Err(u64::try_from(wait).unwrap_or(u64::MAX));
        }
        self.credit -= i128::from(bytes) * 1000;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_time_with_messages_larger_than_the_burst() {
        let mut bucket = TokenBucket::new(1_000_000, 0);
        let (mut now, mut sent) = (0, 0u64);
        while now < 10_000 {
            match bucket.take(300_000, now) {
                Ok(()) => sent += 300_000,
                Err(wait) => now += wait,
            }
        }
        assert!((9_500_000..=10_700_000).contains(&sent), "{sent}");
    }

    #[test]
    fn no_rate_means_no_wait() {
        let mut bucket = TokenBucket::new(0, 0);
        assert_eq!(bucket.take(u64::MAX, 0), Ok(()));
        bucket.set_rate(10, 0);
        assert!(bucket.take(1, 0).is_err());
        assert_eq!(bucket.take(1, 1), Ok(()));
    }
}
