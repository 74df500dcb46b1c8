//! What a process keeps of how long commands took, and how it shows it:
//! SLOWLOG, LATENCY, the figures of INFO.
//!
//! A server keeps this of what it executes, a proxy of what its clients asked:
//! the same words and bounds for both. Settings, clocks and clients are the
//! caller's.

mod counts;
mod latency;
mod report;
mod slow_log;

pub use counts::{CommandStats, Histogram, Tally};
pub use latency::{LatencyMonitor, Sample, Series};
pub use report::reply as latency_reply;
pub use slow_log::{SlowEntry, SlowLog, reply as slow_log_reply};

use crate::command::{CommandSpec, lookup_called_full};
use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

/// An error line, without its `-`.
pub type Line = Cow<'static, str>;

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// A client's word in a text: from a NUL byte on nothing is shown, as in Redis.
fn shown(word: &[u8]) -> Cow<'_, str> {
    let end = word.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&word[..end.unwrap_or(word.len())])
}

/// A command or container by name, with all its subcommands.
fn with_subcommands(name: &[u8]) -> impl Iterator<Item = &'static CommandSpec> {
    let spec = lookup_called_full(name);
    spec.into_iter()
        .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
}
