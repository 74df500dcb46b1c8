//! The latency monitor: spikes above a threshold, by kind of event.
//!
//! Redis's LATENCY framework: each event keeps its last 160 seconds that had
//! a spike, with the worst of each. The mutex guards a small map and is taken
//! only for events above `latency-monitor-threshold`.

use super::unix_seconds;
use crate::command::{CommandSpec, Flags};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};

/// Samples kept of an event.
pub const SAMPLES: usize = 160;

/// The worst of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Unix time, seconds.
    pub at: u64,
    /// Milliseconds.
    pub worst: u64,
}

/// One event's recent spikes, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub samples: VecDeque<Sample>,
    /// The worst ever, milliseconds.
    pub worst: u64,
}

/// See the module's documentation.
#[derive(Default)]
pub struct LatencyMonitor {
    events: Mutex<BTreeMap<String, Series>>,
}

impl LatencyMonitor {
    /// Notes a command that took `millis`, if that is a spike at this threshold
    /// (0: there are none).
    pub fn note_command(&self, spec: &CommandSpec, millis: u64, threshold: u64) {
        if threshold > 0 && millis >= threshold {
            let fast = spec.flags.contains(Flags::FAST);
            self.note(if fast { "fast-command" } else { "command" }, millis);
        }
    }

    /// Notes that `event` took `millis` just now.
    pub fn note(&self, event: &str, millis: u64) {
        self.note_at(event, millis, unix_seconds());
    }

    fn note_at(&self, event: &str, millis: u64, at: u64) {
        let mut events = self.events.lock();
        if !events.contains_key(event) {
            events.insert(event.to_owned(), Series::default());
        }
        let series = events.get_mut(event).expect("inserted above");
        series.worst = series.worst.max(millis);
        match series.samples.back_mut() {
            Some(last) if last.at == at => last.worst = last.worst.max(millis),
            _ => {
                if series.samples.len() == SAMPLES {
                    series.samples.pop_front();
                }
                series.samples.push_back(Sample { at, worst: millis });
            }
        }
    }

    /// All events by name.
    pub fn all(&self) -> Vec<(String, Series)> {
        self.events
            .lock()
            .iter()
            .map(|(name, series)| (name.clone(), series.clone()))
            .collect()
    }

    pub fn get(&self, event: &str) -> Option<Series> {
        self.events.lock().get(event).cloned()
    }

    /// Forgets one event, or all; replies with how many.
    pub fn reset(&self, event: Option<&str>) -> usize {
        let mut events = self.events.lock();
        match event {
            Some(event) => usize::from(events.remove(event).is_some()),
            None => std::mem::take(&mut *events).len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_a_second_the_worst_of_it() {
        let monitor = LatencyMonitor::default();
        monitor.note_at("command", 5, 100);
        monitor.note_at("command", 9, 100);
        monitor.note_at("command", 7, 101);
        let series = monitor.get("command").unwrap();
        assert_eq!(
            series.samples,
            [Sample { at: 100, worst: 9 }, Sample { at: 101, worst: 7 }]
        );
        assert_eq!(series.worst, 9);
    }

    #[test]
    fn a_series_is_bounded_and_can_be_forgotten() {
        let monitor = LatencyMonitor::default();
        (0..1000).for_each(|at| monitor.note_at("fork", 1, at));
        assert_eq!(monitor.get("fork").unwrap().samples.len(), SAMPLES);
        monitor.note_at("command", 1, 1);
        assert_eq!(monitor.reset(Some("none")), 0);
        assert_eq!(monitor.reset(Some("fork")), 1);
        assert_eq!(monitor.reset(None), 1);
        assert_eq!(monitor.all().len(), 0);
    }
}
