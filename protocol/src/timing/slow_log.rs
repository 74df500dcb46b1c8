//! SLOWLOG: the slowest commands of late.

use super::{Line, unix_seconds};
use crate::command::{ArgList, CommandSpec, help, id, secrets, subcommand_syntax_error};
use crate::resp::number::parse_i64;
use crate::resp::{Args, ReplyWriter};
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Arguments kept of a command, and bytes of each, as in Redis.
const MAX_ARGS: usize = 32;
const MAX_ARG_BYTES: usize = 128;

/// Entries shown if no number is given.
const DEFAULT_COUNT: usize = 10;

/// One slow command.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    pub id: u64,
    /// Unix time, seconds.
    pub at: u64,
    pub micros: u64,
    pub args: Vec<Vec<u8>>,
    pub client: String,
    pub client_name: Vec<u8>,
}

/// See the module's documentation. The mutex guards a short list, taken only
/// for slow commands.
#[derive(Default)]
pub struct SlowLog {
    entries: Mutex<(u64, VecDeque<SlowEntry>)>,
}

impl SlowLog {
    /// Keeps a command that took `micros`, among the `most` latest, with the
    /// address and name of its client.
    pub fn note<A: ArgList + ?Sized>(
        &self,
        spec: &CommandSpec,
        args: &A,
        micros: u64,
        most: usize,
        (client, client_name): (&str, &[u8]),
    ) {
        let args = shortened(args, &secrets(spec, args));
        let mut entries = self.entries.lock();
        let id = entries.0;
        entries.0 += 1;
        entries.1.push_front(SlowEntry {
            id,
            at: unix_seconds(),
            micros,
            args,
            client: client.to_owned(),
            client_name: client_name.to_vec(),
        });
        entries.1.truncate(most);
    }

    /// The newest `count` entries.
    pub fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.entries.lock().1.iter().take(count).cloned().collect()
    }

    /// Forgets all but the `most` latest.
    pub fn trim(&self, most: usize) {
        self.entries.lock().1.truncate(most);
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

fn shortened<A: ArgList + ?Sized>(args: &A, secrets: &[usize]) -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for (i, arg) in (0..args.len()).map(|i| (i, args.get(i))) {
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

/// SLOWLOG GET, HELP, LEN and RESET; `most` is `slowlog-max-len`.
///
/// # Errors
/// The line that says what is wrong with the arguments.
pub fn reply(
    log: &SlowLog,
    most: usize,
    (spec, args): (&CommandSpec, &Args<'_>),
    out: &mut ReplyWriter,
) -> Result<(), Line> {
    // It may be less than when they were kept.
    log.trim(most);
    match spec.id {
        id::SLOWLOG_GET => return get(log, spec, args, out),
        id::SLOWLOG_LEN => out.integer(log.len() as i64),
        id::SLOWLOG_RESET => {
            log.clear();
            out.ok();
        }
        _ => help(out, "SLOWLOG", HELP),
    }
    Ok(())
}

/// SLOWLOG GET [count]
fn get(
    log: &SlowLog,
    spec: &CommandSpec,
    args: &Args<'_>,
    out: &mut ReplyWriter,
) -> Result<(), Line> {
    if args.len() > 3 {
        let line = subcommand_syntax_error(spec, args);
        return Err(String::from_utf8_lossy(&line).into_owned().into());
    }
    let count = match args.try_get(2).map(parse_i64) {
        None => DEFAULT_COUNT,
        Some(Some(-1)) => usize::MAX,
        Some(Some(count)) if count >= 0 => count as usize,
        Some(_) => return Err("ERR count should be greater than or equal to -1".into()),
    };
    let entries = log.newest(count);
    out.array(entries.len());
    for entry in entries {
        out.array(6);
        out.integer(entry.id as i64);
        out.integer(entry.at as i64);
        out.integer(entry.micros as i64);
        out.array(entry.args.len());
        entry.args.iter().for_each(|arg| out.bulk(arg));
        out.bulk(entry.client.as_bytes());
        out.bulk(&entry.client_name);
    }
    Ok(())
}

const HELP: &[&str] = &[
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Resolved, resolve};
    use crate::resp::Requests;

    fn note(log: &SlowLog, words: &[&str], most: usize) {
        let mut requests = Requests::default();
        requests.push_owned(words);
        let args = requests.get(0);
        let Resolved::Command(spec) = resolve(&args) else {
            panic!("{words:?} is no command");
        };
        log.note(spec, &args, 7, most, ("1.2.3.4:5", b"me"));
    }

    fn newest(log: &SlowLog) -> String {
        let entry = log.newest(1).remove(0);
        let words = entry.args.iter().map(|arg| String::from_utf8_lossy(arg));
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_latest_entries_are_kept_and_numbered() {
        let log = SlowLog::default();
        (0..5).for_each(|_| note(&log, &["ping"], 3));
        let ids: Vec<u64> = log.newest(9).iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [4, 3, 2]);
        log.clear();
        note(&log, &["ping"], 3);
        assert_eq!(log.newest(1)[0].id, 5, "a reset does not start anew");
        note(&log, &["ping"], 0);
        assert!(log.is_empty());
    }

    #[test]
    fn long_commands_are_trimmed_and_secrets_hidden() {
        let log = SlowLog::default();
        note(&log, &["set", "k", &"A".repeat(130)], 9);
        assert_eq!(
            newest(&log),
            format!("set k {}... (2 more bytes)", "A".repeat(128))
        );
        let many = [&["del"; 1][..], &["k"; 32]].concat();
        note(&log, &many, 9);
        assert_eq!(
            newest(&log),
            format!("del {}... (2 more arguments)", "k ".repeat(30))
        );
        note(&log, &["auth", "me", "secret"], 9);
        assert_eq!(newest(&log), "auth (redacted) (redacted)");
    }
}
