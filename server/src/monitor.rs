//! MONITOR: every command, told to those who asked to see them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_protocol::command::{CommandSpec, Flags, id, secrets};
use cairn_protocol::monitor::line;
use cairn_protocol::resp::{Args, ReplyWriter};
use parking_lot::Mutex;

use crate::net::address::Address;
use crate::net::outbox::Message;
use crate::net::session::Client;

/// Who sent a command.
#[derive(Clone, Copy)]
pub enum Sender {
    Client(Address),
    Script,
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sender::Client(Address::Tcp(peer)) => write!(f, "{peer}"),
            Sender::Client(Address::Unix(path)) => write!(f, "unix:{path}"),
            Sender::Script => f.write_str("lua"),
        }
    }
}

/// The clients that monitor.
#[derive(Default)]
pub struct Monitors {
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Readable without the lock.
    count: AtomicUsize,
    /// Where those are whose commands are in a writer, while anybody looks.
    peers: Mutex<HashMap<u64, Address>>,
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
        Sender::Client(peer.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)).into()))
    }

    /// Shows a line.
    pub fn send(&self, line: &str) {
        let write = |out: &mut ReplyWriter| out.simple(line);
        let mut message = Message::new(&write);
        for client in self.clients.lock().values() {
            client.send(&mut message);
        }
    }
}
