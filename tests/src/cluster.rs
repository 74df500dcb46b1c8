//! A whole local cluster under test: `cluster-admin playground` and its nodes.
//!
//! The playground starts everything and stops everything. A test may kill one of
//! its nodes and start that node again with the command line that it had.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::admin::Admin;
use crate::process::{Process, pid_alive, signal_pid};
use crate::resp::{Client, Value};
use crate::server::answers_ping;
use crate::{binaries, ports, wait};

pub const SLOTS: usize = 16_384;
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A node as it runs now.
pub struct Node {
    pub id: String,
    pub port: u16,
    pub pid: u32,
    /// The node's command line: what it is restarted with.
    command_line: Vec<String>,
    /// Set once the test, not the playground, runs the node.
    process: Option<Process>,
}

pub struct Cluster {
    pub admin: Admin,
    pub proxy_port: u16,
    pub proxy_pid: u32,
    pub nodes: BTreeMap<String, Node>,
    playground: Process,
    folder: TempDir,
}

impl Cluster {
    /// Starts a playground and waits until it says that all is healthy.
    pub fn start(nodes: u32, groups: u32) -> Cluster {
        Self::start_with(&[
            "--nodes",
            &nodes.to_string(),
            "--groups",
            &groups.to_string(),
        ])
    }

    pub fn start_with(arguments: &[&str]) -> Cluster {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(binaries::cairn("cluster-admin"));
        command.args([
            "playground",
            "--json",
            "--proxy-port",
            &ports::free_port().to_string(),
        ]);
        command
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(arguments);
        let log = folder.path().join("playground.log");
        let mut playground =
            Process::spawn_piped("playground", command, &log).with_grace(STOP_LIMIT);
        let endpoints = read_endpoints(&mut playground);
        let text = |value: &Json| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        let nodes = endpoints["nodes"].as_array().expect("endpoints list nodes");
        Cluster {
            admin: Admin {
                cluster: text(&endpoints["cluster"]),
                etcd: text(&endpoints["etcd"]),
            },
            proxy_port: port_of(&endpoints["proxy"]),
            proxy_pid: endpoints["proxy_pid"]
                .as_u64()
                .expect("endpoints name the proxy") as u32,
            nodes: nodes
                .iter()
                .map(Node::read)
                .map(|node| (node.id.clone(), node))
                .collect(),
            playground,
            folder,
        }
    }

    /// A client of the proxy.
    pub fn client(&self) -> Client {
        Client::connect(self.proxy_port)
    }

    /// The id of the node that leads a group, by the nodes' own word.
    pub fn leader_of_slot(&self, slot: u16) -> String {
        let limit = Duration::from_secs(30);
        wait::until(&format!("an owner of slot {slot}"), limit, || {
            self.nodes
                .values()
                .find(|node| node.owns_slot(slot))
                .map(|node| node.id.clone())
        })
    }

    pub fn kill_node(&mut self, id: &str) {
        let node = self.nodes.get_mut(id).expect("a node of this cluster");
        match node.process.take() {
            Some(mut process) => process.kill9(),
            None => signal_pid(node.pid, libc::SIGKILL),
        }
        let pid = node.pid;
        wait::until("the node to be gone", STOP_LIMIT, || {
            (!pid_alive(pid)).then_some(())
        });
    }

    /// Starts a killed node again; returns the time until it answered.
    pub fn restart_node(&mut self, id: &str) -> Duration {
        let log = self.folder.path().join(format!("node-{id}.log"));
        let node = self.nodes.get_mut(id).expect("a node of this cluster");
        let started = Instant::now();
        let mut command = Command::new(&node.command_line[0]);
        command.args(&node.command_line[1..]);
        let mut process = Process::spawn(&format!("node {id}"), command, &log);
        wait::until(&format!("node {id} to answer"), START_LIMIT, || {
            process.assert_alive();
            answers_ping(node.port).then_some(())
        });
        node.pid = process.pid();
        node.process = Some(process);
        started.elapsed()
    }

    /// Starts another proxy, which ends with the process that is returned, and
    /// waits until it has links to all nodes.
    pub fn start_proxy(&self) -> (u16, Process) {
        let port = ports::free_port();
        let mut command = Command::new(binaries::cairn("cairn-proxy"));
        command.args(["--cluster", &self.admin.cluster, "--etcd", &self.admin.etcd]);
        command.args(["--port", &port.to_string()]);
        let log = self.folder.path().join(format!("proxy-{port}.log"));
        let mut process = Process::spawn("second proxy", command, &log);
        let linked = format!("nodes_linked:{}", self.nodes.len());
        wait::until("the second proxy to be linked", START_LIMIT, || {
            process.assert_alive();
            let mut client = Client::try_connect(port).ok()?;
            let info = client.try_command(&["INFO", "cairn"]).ok()?;
            info.text().contains(&linked).then_some(())
        });
        (port, process)
    }

    /// Moves slots, and waits until that is done.
    pub fn move_slots(&self, from: &str, to: &str, slots: &str) {
        let order = ["reshard", "--from", from, "--to", to, "--slots", slots];
        let how = ["--detach", "--yes", "--max-pause", "5s"];
        let plan = self.admin.json(&[&order[..], &how[..]].concat());
        self.admin.wait_done(&plan["plan"].to_string(), START_LIMIT);
    }

    /// Gives every node further flags, which takes a restart.
    pub fn restart_nodes_with(&mut self, flags: &[&str]) {
        for id in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.kill_node(&id);
            let node = self.nodes.get_mut(&id).expect("a node of this cluster");
            node.command_line
                .extend(flags.iter().map(|flag| (*flag).to_owned()));
            self.restart_node(&id);
        }
    }

    /// How many keys each node counts in each slot: `(node, slot, keys)`, zeros left out.
    pub fn keys_in_slots(&self) -> Vec<(String, usize, i64)> {
        let mut found = Vec::new();
        for node in self.nodes.values() {
            let counts = node.count_keys_in_slots();
            let held = counts
                .into_iter()
                .enumerate()
                .filter(|(_, count)| *count != 0);
            found.extend(held.map(|(slot, count)| (node.id.clone(), slot, count)));
        }
        found
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn playground_pid(&self) -> u32 {
        self.playground.pid()
    }

    /// SIGTERM to the playground; panics when it, or a node of it, stays.
    pub fn stop(mut self) {
        self.playground.terminate(STOP_LIMIT);
        for node in self.nodes.values().filter(|node| node.process.is_none()) {
            assert!(
                !pid_alive(node.pid),
                "node {} outlived its playground",
                node.id
            );
        }
    }
}

impl Node {
    fn read(json: &Json) -> Node {
        let pid = json["pid"].as_u64().expect("a node has a pid") as u32;
        Node {
            id: json["id"]
                .as_str()
                .map_or_else(|| json["id"].to_string(), str::to_owned),
            port: port_of(&json["port"]),
            pid,
            command_line: command_line(pid),
            process: None,
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// Whether the node serves the slot: it answers a read of a key there itself.
    fn owns_slot(&self, slot: u16) -> bool {
        let Ok(mut client) = Client::try_connect(self.port) else {
            return false;
        };
        let key = key_in_slot(slot);
        matches!(client.try_command(&["EXISTS", &key]), Ok(Value::Integer(_)))
    }

    fn count_keys_in_slots(&self) -> Vec<i64> {
        let mut requests = Vec::new();
        for slot in 0..SLOTS {
            crate::resp::encode(
                &mut requests,
                &["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()],
            );
        }
        let replies = self
            .client()
            .pipeline(&requests, SLOTS)
            .expect("the node answers");
        replies.iter().map(|reply| reply.value.integer()).collect()
    }
}

/// Some key of a slot, found by trying: `slot-of:N`.
pub fn key_in_slot(slot: u16) -> String {
    (0..)
        .map(|number| format!("slot-of:{number}"))
        .find(|key| slot_of(key.as_bytes()) == slot)
        .expect("every slot has keys")
}

/// Redis Cluster's slot of a key, written again here from its specification
/// (CRC-16/XMODEM of the hash tag or key, modulo 16384).
pub fn slot_of(key: &[u8]) -> u16 {
    let hashed = key
        .iter()
        .position(|byte| *byte == b'{')
        .and_then(|open| {
            let length = key[open + 1..].iter().position(|byte| *byte == b'}')?;
            (length > 0).then(|| &key[open + 1..open + 1 + length])
        })
        .unwrap_or(key);
    let crc = hashed.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            }
        })
    });
    crc % SLOTS as u16
}

/// The first line of the playground's output. Panics when it ends or is late.
fn read_endpoints(playground: &mut Process) -> Json {
    let stdout = playground
        .take_stdout()
        .expect("the playground's output is piped");
    let (sender, lines) = channel();
    // The pipe is read to its end, so that the playground never blocks on it.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).unwrap_or_else(|error| {
            panic!(
                "the playground printed no endpoints ({error}):\n{}",
                playground.log_tail()
            )
        });
        if let Ok(json) = serde_json::from_str::<Json>(&line)
            && json["nodes"].is_array()
        {
            return json;
        }
    }
}

/// A port given as a number, as text, or as the end of an address.
fn port_of(json: &Json) -> u16 {
    let text = json
        .as_str()
        .map_or_else(|| json.to_string(), str::to_owned);
    let digits = text
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap_or_default();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no port in {json}"))
}

fn command_line(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).expect("the node runs");
    let words = bytes
        .strip_suffix(&[0])
        .unwrap_or(&bytes)
        .split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{}{bar}"), slot_of(b"foo{}{bar}"));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
    }
}
