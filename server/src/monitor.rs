//! MONITOR: every command, told to those who asked to see them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use cairn_protocol::command::{CommandSpec, Flags, id, secrets};
use cairn_protocol::resp::{Args, ReplyWriter};
use parking_lot::Mutex;

use crate::net::outbox::Message;
use crate::net::session::Client;

/// Who sent a command.
#[derive(Clone, Copy)]
pub enum Sender {
    Client(SocketAddr),
    Script,
}

/// The clients that monitor.
#[derive(Default)]
pub struct Monitors {
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Readable without the lock.
    count: AtomicUsize,
    /// Where those are whose commands are in a writer, while anybody looks.
    peers: Mutex<HashMap<u64, SocketAddr>>,
}

impl Monitors {
    /// Whether anybody looks: the one thing that commands ask always.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub fn add(&self, client: &Arc<Client>) {
        let mut clients = self.clients.lock();
        clients.insert(client.id, client.clone());
        client.monitoring.store(true, Ordering::Relaxed);
        self.count.store(clients.len(), Ordering::Relaxed);
    }

    pub fn remove(&self, client: &Client) {
        self.peers.lock().remove(&client.id);
        if !client.monitoring.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut clients = self.clients.lock();
        clients.remove(&client.id);
        self.count.store(clients.len(), Ordering::Relaxed);
    }

    /// Shows a command that was run. What is administration is not shown, nor
    /// what shows itself at its own time (EXEC, scripts).
    pub fn show(&self, sender: Sender, db: usize, spec: &CommandSpec, args: &Args<'_>) {
        let unseen = Flags::ADMIN.with(Flags::SKIP_MONITOR);
        if self.any() && !spec.flags.intersects(unseen) {
            self.show_now(sender, db, spec, args);
        }
    }

    /// Shows a command whatever its flags say.
    pub fn show_now(&self, sender: Sender, db: usize, spec: &CommandSpec, args: &Args<'_>) {
        if spec.id == id::EXEC {
            // Its arguments are the commands that it ran.
            return self.send(&line(sender, db, &[], std::iter::once(&b"exec"[..])));
        }
        self.send(&line(sender, db, &secrets(spec, args), args.iter()));
    }

    /// The writer is about to run a command of this client.
    pub fn note_sender(&self, client: &Client) {
        self.peers.lock().insert(client.id, client.peer);
    }

    /// Whose command the writer runs.
    pub fn sender(&self, client: u64) -> Sender {
        let peer = self.peers.lock().get(&client).copied();
        Sender::Client(peer.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))))
    }

    /// Shows a line of `line`.
    pub fn send(&self, line: &str) {
        let write = |out: &mut ReplyWriter| out.simple(line);
        let mut message = Message::new(&write);
        for client in self.clients.lock().values() {
            client.send(&mut message);
        }
    }
}

/// One command as MONITOR shows it: `1339518083.107412 [0 127.0.0.1:60866] "get" "k"`.
///
/// `secret`: positions of arguments that are not shown.
pub fn line<'a>(
    sender: Sender,
    db: usize,
    secret: &[usize],
    args: impl Iterator<Item = &'a [u8]>,
) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut text = format!("{}.{:06} [{db} ", now.as_secs(), now.subsec_micros());
    let _ = match sender {
        Sender::Client(peer) => write!(text, "{peer}]"),
        Sender::Script => write!(text, "lua]"),
    };
    for (at, arg) in args.enumerate() {
        text.push(' ');
        match secret.contains(&at) {
            true => text.push_str("\"(redacted)\""),
            false => quote(arg, &mut text),
        }
    }
    text
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

    #[test]
    fn arguments_are_quoted_as_redis_does() {
        let mut text = String::new();
        quote(b"a\"b\\c\n\r\t\x07\x08\x00\xff ~", &mut text);
        assert_eq!(text, "\"a\\\"b\\\\c\\n\\r\\t\\a\\b\\x00\\xff ~\"");
    }
}
