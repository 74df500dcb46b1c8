//! ACL LOG: what was refused, newest first, alike refusals counted together.

use std::collections::VecDeque;

/// Alike refusals within this time are one entry, ms.
const SAME_WITHIN_MS: u64 = 60_000;
/// So many entries are looked at for one that is alike.
const LOOK_BACK: usize = 10;

/// Where the command came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    TopLevel,
    Multi,
    Lua,
}

impl Context {
    pub fn name(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Multi => "multi",
            Context::Lua => "lua",
        }
    }
}

/// One refusal, or several alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub count: u64,
    /// `command`, `key`, `channel` or `auth`.
    pub reason: &'static str,
    pub context: Context,
    pub object: Vec<u8>,
    pub username: Vec<u8>,
    /// Unix ms of the last one.
    pub at: u64,
    /// The client as CLIENT INFO shows it.
    pub client: String,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct AclLog {
    entries: VecDeque<LogEntry>,
}

impl AclLog {
    /// Notes a refusal; `max` is `acllog-max-len`.
    pub fn note(&mut self, entry: LogEntry, max: usize) {
        let alike = |known: &LogEntry| {
            known.reason == entry.reason
                && known.context == entry.context
                && known.object == entry.object
                && known.username == entry.username
                && entry.at.saturating_sub(known.at) <= SAME_WITHIN_MS
        };
        let known = self.entries.iter().take(LOOK_BACK).position(alike);
        let count = known
            .and_then(|at| self.entries.remove(at))
            .map_or(0, |known| known.count);
        self.entries.push_front(LogEntry {
            count: count + entry.count,
            ..entry
        });
        self.entries.truncate(max);
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The newest entries.
    pub fn newest(&self, count: usize) -> impl ExactSizeIterator<Item = &LogEntry> {
        self.entries.iter().take(count)
    }
}
