//! How many bytes of a log lie above an index, by samples taken now and then.
//!
//! Owned by a hold on the log. Invariants: samples are in order of their index; what is
//! counted is never less than what is kept of what was appended since the first sample,
//! but for the round that was being written when the sample was taken that is counted from.

use std::collections::VecDeque;

/// Samples kept. What is counted is too much by the bytes between two of them at most.
const MAX_SAMPLES: usize = 1024;

/// The log at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    last_index: u64,
    /// Bytes appended since the process started.
    appended: u64,
}

/// The samples of one hold; see the module's header.
pub(super) struct LogSamples {
    /// Never empty. What was appended up to the first one is not counted.
    samples: VecDeque<Sample>,
}

impl LogSamples {
    /// Counts from here on: what was in the log before is of unknown size.
    pub(super) fn new(last_index: u64, appended: u64) -> Self {
        let first = Sample {
            last_index,
            appended,
        };
        Self {
            samples: VecDeque::from([first]),
        }
    }

    /// Remembers where the log ends now.
    pub(super) fn add(&mut self, last_index: u64, appended: u64) {
        let newest = self.samples.back();
        if newest.is_some_and(|newest| last_index <= newest.last_index) {
            return;
        }
        self.samples.push_back(Sample {
            last_index,
            appended,
        });
        if self.samples.len() > MAX_SAMPLES {
            self.thin_out();
        }
    }

    /// Drops the sample that is missed least, so that the others lie evenly. The first
    /// one stays, which is counted from, and so does the newest.
    fn thin_out(&mut self) {
        let gap = |at: &usize| self.samples[at + 1].appended - self.samples[at - 1].appended;
        if let Some(dense) = (1..self.samples.len() - 1).min_by_key(gap) {
            self.samples.remove(dense);
        }
    }

    /// Entries below `from` are wanted no more: counts from the newest sample among them.
    pub(super) fn advance(&mut self, from: u64) {
        let below = |next: &Sample| next.last_index < from;
        while self.samples.get(1).is_some_and(below) {
            self.samples.pop_front();
        }
    }

    /// Bytes that are kept of a log of which `appended` bytes were appended by now.
    pub(super) fn retained(&self, appended: u64) -> u64 {
        let first = self.samples.front().map_or(appended, |s| s.appended);
        appended.saturating_sub(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_is_not_counted_to_the_sample_before_it() {
        let mut samples = LogSamples::new(10, 1_000);
        assert_eq!(samples.retained(1_700), 700);
        for (last, appended) in [(20, 2_000), (30, 3_000), (30, 3_500), (40, 4_000)] {
            samples.add(last, appended);
        }
        samples.advance(20);
        assert_eq!(samples.retained(4_100), 3_100, "entry 20 is still wanted");
        samples.advance(21);
        assert_eq!(samples.retained(4_100), 2_100);
        samples.advance(39);
        assert_eq!(samples.retained(4_100), 1_100, "as of the sample at 30");
        samples.advance(15);
        assert_eq!(samples.retained(4_100), 1_100, "nothing comes back");
        samples.advance(u64::MAX);
        assert_eq!(samples.retained(4_100), 100);
        samples.add(50, 5_000);
        samples.advance(51);
        assert_eq!(samples.retained(5_000), 0);
    }

    #[test]
    fn a_hold_on_entries_that_were_there_before_counts_from_its_start() {
        let mut samples = LogSamples::new(100, 9_000);
        samples.advance(50);
        assert_eq!(samples.retained(9_500), 500);
    }

    #[test]
    fn samples_without_end_are_thinned_out_evenly_and_never_count_too_little() {
        let mut samples = LogSamples::new(0, 0);
        for index in 1..=20_000 {
            samples.add(index, index * 50);
            assert!(samples.samples.len() <= MAX_SAMPLES);
        }
        for from in (1..=20_001).step_by(777) {
            samples.advance(from);
            let (counted, kept) = (samples.retained(1_000_000), 1_000_050 - from * 50);
            assert!(counted >= kept, "{counted} of {kept} from {from}");
            assert!(counted <= kept + 5_000, "{counted} of {kept} from {from}");
        }
    }
}
