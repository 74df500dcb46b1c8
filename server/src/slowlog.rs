//! SLOWLOG: the slowest commands of late.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use cairn_protocol::command::CommandSpec;
use cairn_protocol::resp::Args;
use parking_lot::Mutex;

use crate::config::LiveSettings;
use crate::config::parameters::{PARAMETERS, find};
use crate::net::session::Client;

/// Arguments kept of a command, and bytes of each, as in Redis.
const MAX_ARGS: usize = 32;
const MAX_ARG_BYTES: usize = 128;

/// One slow command.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    pub id: u64,
    /// Unix time, seconds.
    pub at: u64,
    pub micros: u64,
    pub args: Vec<Vec<u8>>,
    pub client: String,
    pub client_name: String,
}

/// See the module's documentation. The mutex guards a short list, taken only
/// for slow commands.
#[derive(Default)]
pub struct SlowLog {
    entries: Mutex<(u64, VecDeque<SlowEntry>)>,
}

impl SlowLog {
    /// Keeps a command that took `micros`.
    pub fn note(
        &self,
        client: &Client,
        spec: &CommandSpec,
        args: &Args<'_>,
        micros: u64,
        live: &LiveSettings,
    ) {
        use cairn_protocol::command::Flags;
        let most = live.slowlog_max_len.load(Ordering::Relaxed);
        if most == 0 || spec.flags.contains(Flags::SKIP_SLOWLOG) {
            return;
        }
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let mut entries = self.entries.lock();
        let id = entries.0;
        entries.0 += 1;
        entries.1.push_front(SlowEntry {
            id,
            at,
            micros,
            args: shortened(args, &secrets(spec, args)),
            client: client.peer.to_string(),
            client_name: client.labels.lock().name.clone(),
        });
        entries.1.truncate(most);
    }

    /// The newest `count` entries.
    pub fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.entries.lock().1.iter().take(count).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.entries.lock().1.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn clear(&self) {
        self.entries.lock().1.clear();
    }
}

/// Positions of arguments that are never kept: passwords.
pub(crate) fn secrets(spec: &CommandSpec, args: &Args<'_>) -> Vec<usize> {
    use cairn_protocol::command::id;
    let after = |word: &str, count: usize| -> Vec<usize> {
        let at = (1..args.len()).find(|i| args.get(*i).eq_ignore_ascii_case(word.as_bytes()));
        at.map_or_else(Vec::new, |at| (at + 1..=at + count).collect())
    };
    match spec.id {
        id::AUTH => (1..args.len()).collect(),
        id::HELLO => after("auth", 2),
        id::MIGRATE => match (after("auth2", 2), after("auth", 1)) {
            (none, one) if none.is_empty() => one,
            (two, _) => two,
        },
        id::ACL_SETUSER => (2..args.len()).collect(),
        id::CONFIG_SET => (2..args.len())
            .step_by(2)
            .filter(|i| find(args.get(*i)).is_some_and(|at| PARAMETERS[at].is_sensitive()))
            .map(|i| i + 1)
            .collect(),
        _ => Vec::new(),
    }
}

fn shortened(args: &Args<'_>, secrets: &[usize]) -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for (i, arg) in args.iter().enumerate() {
        if args.len() > MAX_ARGS && i == MAX_ARGS - 1 {
            kept.push(format!("... ({} more arguments)", args.len() - MAX_ARGS + 1).into_bytes());
            break;
        }
        if secrets.contains(&i) {
            kept.push(b"(redacted)".to_vec());
            continue;
        }
        if arg.len() <= MAX_ARG_BYTES {
            kept.push(arg.to_vec());
            continue;
        }
        let mut short = arg[..MAX_ARG_BYTES].to_vec();
        let rest = arg.len() - MAX_ARG_BYTES;
        short.extend_from_slice(format!("... ({rest} more bytes)").as_bytes());
        kept.push(short);
    }
    kept
}
