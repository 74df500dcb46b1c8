//! MONITOR: the commands that come through this proxy, told to those who asked
//! to see them. What scripts call is told by the nodes: of their lines those alone
//! are shown ([`is_of_script`]).

use crate::net::{ClientInfo, Connection};
use cairn_protocol::command::{CommandSpec, Flags, id};
use cairn_protocol::resp::Args;
use parking_lot::Mutex;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// The clients that monitor.
#[derive(Default)]
pub(crate) struct Monitors {
    /// Guards the list; held while a line is left for each.
    clients: Mutex<Vec<Arc<ClientInfo>>>,
    /// Readable without the lock.
    count: AtomicUsize,
}

impl Monitors {
    /// Whether anybody looks: the one thing that commands ask always.
    pub fn any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// False if it monitors already.
    pub fn add(&self, client: &Arc<ClientInfo>) -> bool {
        if client.monitoring.swap(true, Relaxed) {
            return false;
        }
        let mut clients = self.clients.lock();
        clients.push(client.clone());
        self.count.store(clients.len(), Relaxed);
        true
    }

    pub fn remove(&self, client: &ClientInfo) {
        if client.monitoring.swap(false, Relaxed) {
            let mut clients = self.clients.lock();
            clients.retain(|other| other.id != client.id);
            self.count.store(clients.len(), Relaxed);
        }
    }

    fn send(&self, line: &str) {
        let line = format!("+{line}\r\n");
        for client in self.clients.lock().iter() {
            client.send(line.as_bytes());
        }
    }
}

/// Shows a command that is about to run. What is administration is not shown.
pub(crate) fn show(to: &Connection, spec: &CommandSpec, args: Args<'_>) {
    let unseen = Flags::ADMIN.with(Flags::SKIP_MONITOR);
    let runs_others = matches!(
        spec.id,
        id::EVAL | id::EVAL_RO | id::EVALSHA | id::EVALSHA_RO | id::EXEC | id::FCALL | id::FCALL_RO
    );
    if !spec.flags.intersects(unseen) || runs_others {
        let line = line(to.client.address(), to.session.database, spec, args);
        to.thread.shared.monitors.send(&line);
    }
}

/// Whether a node's line shows what a script called:
/// `+1339518083.107412 [0 lua] "get" "k"`.
pub(crate) fn is_of_script(line: &[u8]) -> bool {
    let end = line.iter().position(|c| *c == b']').unwrap_or(0);
    line[..end].ends_with(b" lua")
}

/// `1339518083.107412 [0 127.0.0.1:60866] "get" "k"`
fn line(address: &str, database: u16, spec: &CommandSpec, args: Args<'_>) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut text = format!(
        "{}.{:06} [{database} {address}]",
        now.as_secs(),
        now.subsec_micros()
    );
    for (at, arg) in args.iter().enumerate() {
        text.push(' ');
        match is_secret(spec, args, at) {
            true => text.push_str("\"(redacted)\""),
            false => quote(arg, &mut text),
        }
    }
    text
}

/// Whether an argument is a password, or stands where one does.
fn is_secret(spec: &CommandSpec, args: Args<'_>, at: usize) -> bool {
    match spec.id {
        id::AUTH => at >= 1,
        // HELLO version AUTH user password ...
        id::HELLO => {
            let auth = args.iter().position(|a| a.eq_ignore_ascii_case(b"auth"));
            auth.is_some_and(|auth| at == auth + 1 || at == auth + 2)
        }
        id::CONFIG_SET => {
            at >= 3
                && at % 2 == 1
                && args
                    .get(at - 1)
                    .to_ascii_lowercase()
                    .windows(4)
                    .any(|word| word == b"auth" || word == b"pass")
        }
        _ => false,
    }
}

/// As Redis prints strings that may hold anything.
fn quote(bytes: &[u8], text: &mut String) {
    text.push('"');
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'"' => text.push_str("\\\""),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            0x07 => text.push_str("\\a"),
            0x08 => text.push_str("\\b"),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => {
                let _ = write!(text, "\\x{other:02x}");
            }
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_protocol::command::{Resolved, resolve};
    use cairn_protocol::resp::Requests;

    fn shown(words: &[&str]) -> String {
        let mut requests = Requests::default();
        requests.push_owned(words);
        let args = requests.get(0);
        let Resolved::Command(spec) = resolve(&args) else {
            panic!("{words:?} is no command");
        };
        let line = line("1.2.3.4:5", 7, spec, args);
        line.split_once(' ').unwrap().1.to_owned()
    }

    #[test]
    fn commands_are_shown_as_redis_shows_them() {
        assert_eq!(
            shown(&["set", "k", "a\"b\\c\n\x07"]),
            r#"[7 1.2.3.4:5] "set" "k" "a\"b\\c\n\a""#
        );
    }

    #[test]
    fn of_a_nodes_lines_those_of_scripts_are_shown() {
        assert!(is_of_script(b"+1339518083.107412 [0 lua] \"get\" \"k\""));
        assert!(!is_of_script(
            b"+1339518083.107412 [0 1.2.3.4:5] \"get\" \"[0 lua]\""
        ));
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(
            shown(&["HELLO", "3", "AUTH", "me", "secret", "SETNAME", "n"]),
            r#"[7 1.2.3.4:5] "HELLO" "3" "AUTH" "(redacted)" "(redacted)" "SETNAME" "n""#
        );
        assert_eq!(
            shown(&["config", "set", "requirepass", "x", "save", "y"]),
            r#"[7 1.2.3.4:5] "config" "set" "requirepass" "(redacted)" "save" "y""#
        );
    }
}
