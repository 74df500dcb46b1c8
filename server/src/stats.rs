//! Counters for INFO. Relaxed atomics; each command's are on its own line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use cairn_protocol::command;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::group::Group;

/// Kinds of errors that are counted apart.
const MAX_PREFIXES: usize = 128;

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
    pub fn ran(&mut self, stats: &Stats, command: usize, nanos: u64, failed: bool) {
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
    pub fn settle(&mut self, stats: &Stats) {
        if self.calls == 0 {
            return;
        }
        let counters = &stats.commands[self.command];
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

/// See the module's documentation.
pub struct Stats {
    /// Indexed by `CommandId::index`.
    pub commands: Vec<CommandStats>,
    pub connections_received: AtomicU64,
    pub rejected_connections: AtomicU64,
    /// Closed for what they cost.
    pub evicted_clients: AtomicU64,
    pub net_input_bytes: AtomicU64,
    pub net_output_bytes: AtomicU64,
    pub keyspace_hits: AtomicU64,
    pub keyspace_misses: AtomicU64,
    pub expired_keys: AtomicU64,
    /// Reads that the writer had to wait for the disk for.
    pub writer_cold_reads: AtomicU64,
    /// Reads that were moved off a network thread.
    pub cold_reads: AtomicU64,
    /// What the groups had counted at the last CONFIG RESETSTAT. Guards three
    /// numbers, touched rarely.
    at_reset: Mutex<KeysGone>,
    /// Error replies by prefix are counted in `errors`.
    pub errors: dashmap::DashMap<String, u64>,
}

/// What the groups count of keys that went without a command.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeysGone {
    pub expired: u64,
    pub evicted: u64,
    /// Large values whose rows were left to the compaction filter.
    pub lazily_freed: u64,
}

impl KeysGone {
    /// The sums of all groups.
    pub fn of(groups: &[Arc<Group>]) -> KeysGone {
        let sum = |of: fn(&Group) -> &AtomicU64| -> u64 {
            let counts = groups.iter().map(|group| of(group));
            counts.map(|n| n.load(Ordering::Relaxed)).sum()
        };
        KeysGone {
            expired: sum(|group| &group.expired_keys),
            evicted: sum(|group| &group.evicted_keys),
            lazily_freed: sum(|group| &group.store.lazily_freed),
        }
    }
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            commands: (0..command::COUNT)
                .map(|_| CommandStats::default())
                .collect(),
            connections_received: AtomicU64::new(0),
            rejected_connections: AtomicU64::new(0),
            evicted_clients: AtomicU64::new(0),
            net_input_bytes: AtomicU64::new(0),
            net_output_bytes: AtomicU64::new(0),
            keyspace_hits: AtomicU64::new(0),
            keyspace_misses: AtomicU64::new(0),
            expired_keys: AtomicU64::new(0),
            writer_cold_reads: AtomicU64::new(0),
            cold_reads: AtomicU64::new(0),
            at_reset: Mutex::default(),
            errors: dashmap::DashMap::new(),
        }
    }
}

impl Stats {
    /// Counts one run of a command.
    pub fn ran(&self, command: usize, nanos: u64, failed: bool) {
        let mut tally = Tally::default();
        tally.ran(self, command, nanos, failed);
        tally.settle(self);
    }

    /// Counts an error reply by the word it begins with.
    pub fn error_reply(&self, line: &str) {
        let prefix = line.split(' ').next().unwrap_or_default();
        // A bound, should prefixes ever come from clients.
        let known = self.errors.len() < MAX_PREFIXES || self.errors.contains_key(prefix);
        let prefix = if known { prefix } else { "OTHER" };
        *self.errors.entry(prefix.to_owned()).or_default() += 1;
    }

    /// Counts a command that was refused before it ran.
    pub fn rejected(&self, command: usize) {
        self.commands[command]
            .rejected
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Keys gone since the last reset, out of all that the groups counted.
    pub fn gone_since_reset(&self, all: KeysGone) -> KeysGone {
        let before = *self.at_reset.lock();
        KeysGone {
            expired: all.expired.saturating_sub(before.expired),
            evicted: all.evicted.saturating_sub(before.evicted),
            lazily_freed: all.lazily_freed.saturating_sub(before.lazily_freed),
        }
    }

    /// CONFIG RESETSTAT. `gone` is what the groups have counted so far.
    pub fn reset(&self, gone: KeysGone) {
        *self.at_reset.lock() = gone;
        for c in &self.commands {
            for n in [&c.calls, &c.nanos, &c.rejected, &c.failed] {
                n.store(0, Ordering::Relaxed);
            }
            if let Some(histogram) = c.histogram.get() {
                histogram.clear();
            }
        }
        let all = [
            &self.connections_received,
            &self.rejected_connections,
            &self.evicted_clients,
            &self.net_input_bytes,
            &self.net_output_bytes,
            &self.keyspace_hits,
            &self.keyspace_misses,
            &self.expired_keys,
            &self.writer_cold_reads,
            &self.cold_reads,
        ];
        for n in all {
            n.store(0, Ordering::Relaxed);
        }
        self.errors.clear();
    }

    pub fn total_commands(&self) -> u64 {
        self.commands
            .iter()
            .map(|c| c.calls.load(Ordering::Relaxed))
            .sum()
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

    #[test]
    fn a_tally_adds_up_runs_and_counts_each_command_apart() {
        let (stats, mut tally) = (Stats::default(), Tally::default());
        for nanos in [100, 100, 100_000] {
            tally.ran(&stats, 1, nanos, false);
        }
        assert_eq!(stats.total_commands(), 0);
        tally.ran(&stats, 2, 5, true);
        assert_eq!(stats.commands[1].calls.load(Ordering::Relaxed), 3);
        assert_eq!(stats.commands[1].histogram().unwrap().count(), 3);
        tally.settle(&stats);
        assert_eq!(stats.commands[2].failed.load(Ordering::Relaxed), 1);
        assert_eq!(stats.total_commands(), 4);
    }

    #[test]
    fn a_reset_forgets_everything() {
        let stats = Stats::default();
        stats.ran(0, 500, true);
        stats.error_reply("WRONGTYPE x");
        assert!(stats.commands[0].histogram().is_some());
        stats.reset(KeysGone {
            expired: 7,
            ..KeysGone::default()
        });
        assert_eq!(stats.total_commands(), 0);
        assert!(stats.commands[0].histogram().is_none());
        assert!(stats.errors.is_empty());
        let now = KeysGone {
            expired: 9,
            evicted: 1,
            ..KeysGone::default()
        };
        let since = stats.gone_since_reset(now);
        assert_eq!((since.expired, since.evicted), (2, 1));
    }
}
