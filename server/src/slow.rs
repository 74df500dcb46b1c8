//! Which commands SLOWLOG and LATENCY keep, as this server's settings have it.

use std::sync::atomic::Ordering;

use cairn_protocol::command::{CommandSpec, Flags};
use cairn_protocol::resp::Args;

use crate::net::session::Client;
use crate::server::Server;

impl Server {
    /// Whether a command that took so long may be one for the slow log.
    pub fn is_slow(&self, nanos: u64) -> bool {
        let threshold = self.live.slowlog_log_slower_than.load(Ordering::Relaxed);
        threshold >= 0 && nanos / 1000 >= threshold as u64
    }

    /// Has the slow log keep a command that took too long: not EXEC, but what it
    /// executed.
    pub fn note_slow(&self, client: &Client, spec: &CommandSpec, args: &Args<'_>, nanos: u64) {
        if self.is_slow(nanos) && !spec.flags.contains(Flags::SKIP_SLOWLOG) {
            let most = self.live.slowlog_max_len.load(Ordering::Relaxed);
            let (peer, name) = (client.peer.to_string(), client.labels.lock().name.clone());
            let whose = (peer.as_str(), name.as_bytes());
            self.slow_log.note(spec, args, nanos / 1000, most, whose);
        }
    }

    /// Has the latency monitor see a command.
    pub fn note_spike(&self, spec: &CommandSpec, nanos: u64) {
        let threshold = self.live.latency_monitor_threshold.load(Ordering::Relaxed);
        self.latency
            .note_command(spec, nanos / 1_000_000, threshold);
    }
}
