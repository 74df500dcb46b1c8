//! The playground with a real etcd and stand-ins for the node and the proxy:
//! what it starts, prints, reports and stops. The real programs run under it in
//! the workspace's own tests.

mod support;

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;

use cairn_protocol::topology::{StoreConfig, TopologyStore};
use serde_json::Value;
use support::{answer_resp, node_record, proxy_record, wait_until};
use tempfile::TempDir;

/// This test's own binary run as `cairn-server` or `cairn-proxy`.
#[test]
fn stand_in() {
    let Ok(line) = std::env::var("CAIRN_STAND_IN") else {
        return;
    };
    let words: Vec<&str> = line.split(' ').collect();
    let option = |name: &str| {
        let at = words.iter().position(|w| *w == name)?;
        words.get(at + 1).map(|w| (*w).to_owned())
    };
    let port: u16 = option("--port").unwrap().parse().unwrap();
    if option("--node-id").as_deref() == std::env::var("CAIRN_STAND_IN_FAILS").ok().as_deref()
        && option("--node-id").is_some()
    {
        println!("the disk is full");
        std::process::exit(7);
    }
    if let Some(dir) = option("--data-dir") {
        std::fs::create_dir_all(dir).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let config = StoreConfig::new(&option("--cluster").unwrap(), &option("--etcd").unwrap());
    let store = runtime.block_on(TopologyStore::connect(config)).unwrap();
    let _registration = match option("--node-id") {
        Some(id) => {
            let peer = option("--peer-port").unwrap().parse().unwrap();
            (
                Some(store.register_node(node_record(&id, port, peer))),
                None,
            )
        }
        None => (None, Some(store.register_proxy(proxy_record("p", port)))),
    };
    println!("serving on {port}");
    answer_resp(TcpListener::bind(("127.0.0.1", port)).unwrap(), None);
}

/// Held while programs are written and while a process is begun: one that is forked
/// meanwhile has the file open for writing, and who starts it then is told that it is busy.
static FORKS: Mutex<()> = Mutex::new(());

fn spawn(command: &mut Command) -> Child {
    let _alone = FORKS.lock();
    command.spawn().unwrap()
}

fn output(command: &mut Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command).wait_with_output().unwrap()
}

/// The tool with stand-ins beside it.
struct Programs {
    dir: TempDir,
}

impl Programs {
    fn make() -> Self {
        let _alone = FORKS.lock();
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(
            env!("CARGO_BIN_EXE_cluster-admin"),
            dir.path().join("cluster-admin"),
        )
        .unwrap();
        let own = std::env::current_exe().unwrap();
        for name in ["cairn-server", "cairn-proxy"] {
            let script = format!(
                "#!/bin/sh\nCAIRN_STAND_IN=\"$*\" exec {} --exact stand_in --nocapture\n",
                own.display()
            );
            let path = dir.path().join(name);
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Self { dir }
    }

    fn playground(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.dir.path().join("cluster-admin"));
        command
            .args(["playground", "--proxy-port", "0"])
            .args(arguments);
        command.env("TMPDIR", self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Starts one with --json and reads what it prints when all is healthy.
    fn start(&self, arguments: &[&str]) -> Running {
        let log = self.dir.path().join("stderr");
        let mut command = self.playground(arguments);
        command
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap());
        let mut child = spawn(&mut command);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let endpoints = serde_json::from_str(&line).unwrap_or_else(|e| {
            panic!("{e}: `{line}`, {}", std::fs::read_to_string(&log).unwrap())
        });
        Running {
            child,
            endpoints,
            log,
        }
    }
}

struct Running {
    child: Child,
    endpoints: Value,
    log: PathBuf,
}

impl Running {
    fn pids(&self) -> Vec<u64> {
        let nodes = self.endpoints["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| &n["pid"]);
        nodes
            .chain([&self.endpoints["proxy_pid"]])
            .map(|pid| pid.as_u64().unwrap())
            .collect()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill(2) of a child that was not reaped.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    fn is_etcd_up(&self) -> bool {
        let url = self.endpoints["etcd"].as_str().unwrap();
        TcpStream::connect(url.strip_prefix("http://").unwrap()).is_ok()
    }

    fn assert_all_gone(&self) {
        wait_until("the end of all children", || {
            self.pids().iter().all(|pid| !is_alive(*pid))
        });
        wait_until("the end of etcd", || !self.is_etcd_up());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

#[test]
fn it_prints_endpoints_when_healthy_and_stops_all_on_sigterm() {
    let programs = Programs::make();
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut running = programs.start(&["--nodes", "3", "--groups", "2"]);
        let e = &running.endpoints;
        assert_eq!(e["nodes"].as_array().unwrap().len(), 3);
        assert_eq!(e["nodes"][0]["id"], "n1");
        assert!(e["nodes"][0]["port"].as_u64().unwrap() > 0);
        assert_eq!(e["cluster"], "cairn");
        let data_dir = PathBuf::from(e["data_dir"].as_str().unwrap());
        assert!(data_dir.join("logs/n1.log").exists());
        let mut slots = Command::new(env!("CARGO_BIN_EXE_cluster-admin"));
        slots.args(["--etcd", e["etcd"].as_str().unwrap(), "slots", "--json"]);
        let status = output(&mut slots);
        assert!(status.status.success(), "{status:?}");
        assert!(running.pids().iter().all(|pid| is_alive(*pid)));
        running.signal(signal);
        assert_eq!(running.child.wait().unwrap().code(), Some(0));
        running.assert_all_gone();
        assert!(!data_dir.exists(), "a temporary folder is deleted");
    }
}

#[test]
fn its_children_die_when_it_is_killed() {
    let programs = Programs::make();
    let mut running = programs.start(&["--nodes", "2", "--groups", "1"]);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    running.assert_all_gone();
}

#[test]
fn a_child_that_dies_is_reported_and_the_others_serve_on() {
    let programs = Programs::make();
    let mut running = programs.start(&["--nodes", "2", "--groups", "2"]);
    let pids = running.pids();
    // SAFETY: kill(2) of a process that the playground has not reaped.
    unsafe { libc::kill(pids[0] as i32, libc::SIGKILL) };
    wait_until("the report", || {
        let told = std::fs::read_to_string(&running.log).unwrap();
        told.contains("n1 has ended (signal 9)") && told.contains("serving on")
    });
    assert!(is_alive(pids[1]) && running.is_etcd_up());
    running.signal(libc::SIGTERM);
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    running.assert_all_gone();
}

#[test]
fn a_second_start_on_its_folder_goes_on_with_the_same_cluster() {
    let programs = Programs::make();
    let folder = programs.dir.path().join("data");
    let arguments = [
        "--nodes",
        "2",
        "--groups",
        "2",
        "--data-dir",
        folder.to_str().unwrap(),
    ];
    let cluster_id = |running: &Running| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = StoreConfig::new("cairn", running.endpoints["etcd"].as_str().unwrap());
        runtime.block_on(async {
            let topology = TopologyStore::connect(config)
                .await
                .unwrap()
                .list()
                .await
                .unwrap();
            topology.cluster.unwrap().id.clone()
        })
    };
    let mut first = programs.start(&arguments);
    let id = cluster_id(&first);
    let refused = output(&mut programs.playground(&arguments));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("another playground runs"), "{told}");
    first.signal(libc::SIGTERM);
    first.child.wait().unwrap();
    first.assert_all_gone();
    assert!(folder.join("etcd").exists(), "a given folder is kept");

    let second = programs.start(&arguments);
    assert_eq!(cluster_id(&second), id);
    assert_eq!(
        second.endpoints["nodes"][0]["port"],
        first.endpoints["nodes"][0]["port"]
    );
}

#[test]
fn a_node_that_cannot_start_ends_it_with_the_nodes_last_words() {
    let programs = Programs::make();
    let mut command = programs.playground(&["--nodes", "2"]);
    let output = output(command.env("CAIRN_STAND_IN_FAILS", "n2"));
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("n2 has ended (exit code 7)"), "{told}");
    assert!(told.contains("the disk is full"), "{told}");
    let logs = told
        .split("logs are in ")
        .nth(1)
        .and_then(|rest| rest.split(':').next())
        .unwrap();
    assert!(Path::new(logs).join("logs/n2.log").exists(), "{told}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    let programs = Programs::make();
    let refused = |command: &mut Command, text: &str| {
        let output = output(command);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(text), "`{told}` does not say `{text}`");
    };
    refused(
        &mut programs.playground(&["--replicas", "3"]),
        "replication is not there yet",
    );
    refused(
        programs.playground(&[]).env("PATH", ""),
        "`etcd` is not on PATH",
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = Command::new(programs.dir.path().join("cluster-admin"));
    refused(
        command.args(["playground", "--proxy-port", &port]),
        "choose another with --proxy-port",
    );
    std::fs::remove_file(programs.dir.path().join("cairn-proxy")).unwrap();
    refused(&mut programs.playground(&[]), "cairn-proxy is missing");
}
