//! Counters for INFO. Relaxed atomics; each command's are on its own line.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_protocol::command;
use cairn_protocol::timing::{CommandStats, Tally};
use parking_lot::Mutex;

use crate::group::Group;

/// Kinds of errors that are counted apart.
const MAX_PREFIXES: usize = 128;

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
        tally.ran(&self.commands, command, nanos, failed);
        tally.settle(&self.commands);
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
        self.commands.iter().for_each(CommandStats::clear);
        let all = [
            &self.connections_received,
            &self.rejected_connections,
            &self.evicted_clients,
            &self.net_input_bytes,
            &self.net_output_bytes,
            &self.keyspace_hits,
            &self.keyspace_misses,
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
    fn a_tally_adds_up_runs_and_counts_each_command_apart() {
        let (stats, mut tally) = (Stats::default(), Tally::default());
        for nanos in [100, 100, 100_000] {
            tally.ran(&stats.commands, 1, nanos, false);
        }
        assert_eq!(stats.total_commands(), 0);
        tally.ran(&stats.commands, 2, 5, true);
        assert_eq!(stats.commands[1].calls.load(Ordering::Relaxed), 3);
        assert_eq!(stats.commands[1].histogram().unwrap().count(), 3);
        tally.settle(&stats.commands);
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
