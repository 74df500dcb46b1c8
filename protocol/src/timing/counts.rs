//! Counters of commands, and histograms of their times. Relaxed atomics; each
//! command's are on its own line.

use smallvec::SmallVec;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one command has cost so far.
#[derive(Default)]
#[repr(align(64))]
pub struct CommandStats {
    pub calls: AtomicU64,
    pub nanos: AtomicU64,
    /// Refused before it ran (arity, authentication, …).
    pub rejected: AtomicU64,
    /// Ran and answered with an error.
    pub failed: AtomicU64,
    /// Made at the first call: most commands are never called.
    histogram: OnceLock<Box<Histogram>>,
}

impl CommandStats {
    /// How long the calls took; `None`: there were none.
    pub fn histogram(&self) -> Option<&Histogram> {
        self.histogram.get().map(|h| &**h).filter(|h| h.count() > 0)
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for n in [&self.calls, &self.nanos, &self.rejected, &self.failed] {
            n.store(0, Ordering::Relaxed);
        }
        if let Some(histogram) = self.histogram.get() {
            histogram.clear();
        }
    }
}

/// Octaves of nanoseconds, each in [`SUB`] parts: a value is known to within
/// an eighth of itself, up to some 18 minutes.
const OCTAVES: usize = 40;
const SUB: usize = 4;

/// Times of a command, in logarithmic buckets.
pub struct Histogram {
    buckets: [AtomicU64; OCTAVES * SUB],
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Histogram {
    fn bucket(nanos: u64) -> usize {
        let nanos = nanos.max(SUB as u64);
        let octave = nanos.ilog2() as usize;
        let part = (nanos >> (octave - 2)) as usize % SUB;
        (octave * SUB + part).min(OCTAVES * SUB - 1)
    }

    /// The least value above a bucket's, nanoseconds.
    fn end(bucket: usize) -> u64 {
        let (octave, part) = (bucket / SUB, bucket % SUB);
        (1_u64 << octave) + ((part as u64 + 1) << octave) / SUB as u64
    }

    fn note(&self, bucket: usize, times: u64) {
        self.buckets[bucket].fetch_add(times, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.buckets
            .iter()
            .for_each(|b| b.store(0, Ordering::Relaxed));
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).sum()
    }

    /// Nanoseconds that `percent` of the calls did not exceed.
    pub fn percentile(&self, percent: f64) -> u64 {
        let wanted = (self.count() as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count.load(Ordering::Relaxed);
            if seen >= wanted {
                return Histogram::end(bucket);
            }
        }
        Histogram::end(OCTAVES * SUB - 1)
    }

    /// Calls that took less than 2^n nanoseconds.
    pub fn below_octave(&self, n: u32) -> u64 {
        let end = (n as usize).min(OCTAVES) * SUB;
        self.buckets[..end]
            .iter()
            .map(|b| b.load(Ordering::Relaxed))
            .sum()
    }
}

/// Runs of one command in a row, added up before they are counted: all network
/// threads write to the same counters, which is dear once a command.
#[derive(Default)]
pub struct Tally {
    command: usize,
    calls: u64,
    nanos: u64,
    failed: u64,
    /// Bucket of the histogram and how often; few differ within a pipeline.
    times: SmallVec<[(u8, u32); 8]>,
}

impl Tally {
    /// Notes one run; it is counted at the next [`Tally::settle`].
    pub fn ran(&mut self, stats: &[CommandStats], command: usize, nanos: u64, failed: bool) {
        if command != self.command {
            self.settle(stats);
            self.command = command;
        }
        self.calls += 1;
        self.nanos += nanos;
        self.failed += u64::from(failed);
        let bucket = Histogram::bucket(nanos) as u8;
        match self.times.iter_mut().find(|(known, _)| *known == bucket) {
            Some((_, times)) => *times += 1,
            None => self.times.push((bucket, 1)),
        }
    }

    /// Adds to `stats` what was noted since the last time.
    pub fn settle(&mut self, stats: &[CommandStats]) {
        if self.calls == 0 {
            return;
        }
        let counters = &stats[self.command];
        counters.calls.fetch_add(self.calls, Ordering::Relaxed);
        counters.nanos.fetch_add(self.nanos, Ordering::Relaxed);
        if self.failed > 0 {
            counters.failed.fetch_add(self.failed, Ordering::Relaxed);
        }
        let histogram = counters.histogram.get_or_init(Box::default);
        for (bucket, times) in self.times.drain(..) {
            histogram.note(usize::from(bucket), u64::from(times));
        }
        (self.calls, self.nanos, self.failed) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_knows_its_values_to_an_eighth() {
        for nanos in [5, 100, 1000, 12_345, 1_000_000, 999_999_999] {
            let histogram = Histogram::default();
            histogram.note(Histogram::bucket(nanos), 1);
            let shown = histogram.percentile(50.0);
            assert!(
                shown > nanos && shown <= nanos + nanos / 4 + 1,
                "{nanos}: {shown}"
            );
        }
    }

    #[test]
    fn percentiles_and_octaves_add_up() {
        let histogram = Histogram::default();
        histogram.note(Histogram::bucket(1000), 99);
        histogram.note(Histogram::bucket(1 << 20), 1);
        assert_eq!(histogram.count(), 100);
        assert!(histogram.percentile(99.0) < 1300);
        assert!(histogram.percentile(99.9) > 1 << 20);
        assert_eq!(histogram.below_octave(10), 99);
        assert_eq!(histogram.below_octave(20), 99);
        assert_eq!(histogram.below_octave(21), 100);
        histogram.note(Histogram::bucket(u64::MAX), 1);
        assert_eq!(histogram.count(), 101);
    }
}
