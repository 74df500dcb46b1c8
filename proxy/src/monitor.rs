//! MONITOR: the commands that come through this proxy, told to those who asked
//! to see them. What scripts call is told by the nodes: of their lines those alone
//! are shown ([`is_of_script`]).

use crate::net::{ClientInfo, Connection};
use cairn_protocol::command::{CommandSpec, Flags, id, secrets};
use cairn_protocol::monitor;
use cairn_protocol::resp::Args;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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
        let database = usize::from(to.session.database);
        let secret = secrets(spec, &args);
        let line = monitor::line(to.client.address(), database, &secret, args.iter());
        to.thread.shared.monitors.send(&line);
    }
}

/// What a client that monitors is told that asks for what is in keys.
pub(crate) fn refused(to: &Connection, spec: &CommandSpec) -> Option<Vec<u8>> {
    let monitors = to.client.info.monitoring.load(Relaxed);
    let refused = monitors.then(|| monitor::refused_to_monitor(spec));
    refused.flatten().map(|line| line.as_bytes().to_vec())
}

/// Whether a node's line shows what a script called:
/// `+1339518083.107412 [0 lua] "get" "k"`.
pub(crate) fn is_of_script(line: &[u8]) -> bool {
    let end = line.iter().position(|c| *c == b']').unwrap_or(0);
    line[..end].ends_with(b" lua")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_nodes_lines_those_of_scripts_are_shown() {
        assert!(is_of_script(b"+1339518083.107412 [0 lua] \"get\" \"k\""));
        assert!(!is_of_script(
            b"+1339518083.107412 [0 1.2.3.4:5] \"get\" \"[0 lua]\""
        ));
    }
}
