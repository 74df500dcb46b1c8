//! What the tests of the tool share: a real etcd, the tool's binary, and a
//! stand-in for a node or proxy that registers and answers a few commands.
#![allow(dead_code)] // each test file uses its part

#[path = "../../../protocol/tests/topology/etcd.rs"]
pub mod etcd;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cairn_protocol::topology::{NodeLoad, NodeRecord, ProxyRecord, StoreConfig, TopologyStore};
use serde_json::Value;

pub const LIMIT: Duration = Duration::from_secs(40);

/// The tool on one cluster.
pub struct Admin {
    pub etcd: String,
}

impl Admin {
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cluster-admin"));
        command.args(["--cluster", "c1", "--etcd", &self.etcd]);
        command
            .args(arguments.split_whitespace())
            .stdin(Stdio::null());
        command
    }

    /// Runs it; exit code, standard output, standard error.
    pub fn run(&self, arguments: &str) -> (i32, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// Runs it with --json and a wanted exit code; the last line that it printed.
    pub fn json(&self, arguments: &str, code: i32) -> Value {
        let (got, out, err) = self.run(&format!("{arguments} --json"));
        assert_eq!(got, code, "{arguments}: {out}{err}");
        let last = out
            .lines()
            .last()
            .unwrap_or_else(|| panic!("{arguments}: no output; {err}"));
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{arguments}: {e}: {out}"))
    }

    /// Runs what must be refused with exit code 1 and a text on standard error.
    pub fn refused(&self, arguments: &str, text: &str) {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 1, "{arguments}: {out}{err}");
        assert!(
            err.contains(text),
            "{arguments}: `{err}` does not say `{text}`"
        );
    }

    pub async fn store(&self) -> TopologyStore {
        TopologyStore::connect(StoreConfig::new("c1", &self.etcd))
            .await
            .unwrap()
    }
}

/// Waits for a condition; panics with what was waited for at the deadline.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn node_record(id: &str, port: u16, peer_port: u16) -> NodeRecord {
    NodeRecord {
        id: id.into(),
        data_dir_id: format!("disk-{id}"),
        host: "127.0.0.1".into(),
        port,
        peer_port,
        zone: String::new(),
        version: "0.1.0".into(),
        max_cluster_version: 1,
        started_at_ms: 1,
        load: NodeLoad {
            disk_free_bytes: 1 << 40,
            ..NodeLoad::default()
        },
    }
}

pub fn proxy_record(id: &str, port: u16) -> ProxyRecord {
    ProxyRecord {
        id: id.into(),
        host: "127.0.0.1".into(),
        port,
        version: "0.1.0".into(),
        started_at_ms: 1,
    }
}

/// Answers RESP on a listener for ever: PING, CLUSTER INFO, SET, GET, DEL, and
/// slot sizes if it is given any.
pub fn answer_resp(listener: TcpListener, slot_stats: Option<[u64; 3]>) {
    let keys: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    for stream in listener.incoming() {
        let (stream, keys) = (stream.unwrap(), Arc::clone(&keys));
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            while let Some(command) = read_command(&mut reader) {
                let reply = reply_to(&command, &keys, slot_stats);
                if reader.get_mut().write_all(reply.as_bytes()).is_err() {
                    return;
                }
            }
        });
    }
}

fn read_command(reader: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    (0..count)
        .map(|_| {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let length: usize = line.trim().strip_prefix('$')?.parse().ok()?;
            let mut bytes = vec![0; length + 2];
            reader.read_exact(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
        })
        .collect()
}

fn reply_to(
    command: &[String],
    keys: &Mutex<HashMap<String, String>>,
    slot_stats: Option<[u64; 3]>,
) -> String {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match (words.as_slice(), slot_stats) {
        (["PING"], _) => "+PONG\r\n".into(),
        (["CLUSTER", "INFO"], _) => "$18\r\ncluster_state:ok\r\n\r\n".into(),
        (["CLUSTER", "CAIRN-SLOT-STATS", _], Some([keys, bytes, free])) => {
            format!("*3\r\n:{keys}\r\n:{bytes}\r\n:{free}\r\n")
        }
        (["SET", key, value], _) => {
            keys.lock().unwrap().insert((*key).into(), (*value).into());
            "+OK\r\n".into()
        }
        (["GET", key], _) => match keys.lock().unwrap().get(*key) {
            Some(value) => format!("${}\r\n{value}\r\n", value.len()),
            None => "$-1\r\n".into(),
        },
        (["DEL", key], _) => {
            format!(
                ":{}\r\n",
                u8::from(keys.lock().unwrap().remove(*key).is_some())
            )
        }
        _ => "-ERR unknown command\r\n".into(),
    }
}
