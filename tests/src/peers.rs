//! The programs that Cairn is compared with, or stands on: redis-server, etcd,
//! nutcracker. Each on a free port, in a temporary folder, killed on drop.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{self, Process};
use crate::resp::Client;
use crate::server::wait_for_ping;
use crate::{binaries, ports, wait};

/// A redis-server as the judge of replies, or as the peer of a benchmark.
pub struct Redis {
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl Redis {
    /// No persistence: for comparing replies.
    pub fn in_memory() -> Redis {
        Self::start(&["--save", "", "--appendonly", "no"])
    }

    /// The durability that Cairn ships as default: an AOF synced every second.
    pub fn with_aof_everysec() -> Redis {
        Self::start(&[
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
        ])
    }

    pub fn start(settings: &[&str]) -> Redis {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = ports::free_port();
        let mut command = Command::new(binaries::system("redis-server"));
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--enable-debug-command", "local"]);
        command.arg("--dir").arg(folder.path()).args(settings);
        let log = folder.path().join("redis.log");
        let mut process = Process::spawn("redis-server", command, &log);
        wait_for_ping(&mut process, port);
        Redis {
            process,
            port,
            _folder: folder,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    pub fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.pid())
    }
}

/// An etcd of one member.
pub struct Etcd {
    process: Option<Process>,
    port: u16,
    peer_port: u16,
    folder: TempDir,
}

impl Etcd {
    pub fn start() -> Etcd {
        let mut etcd = Self::not_started();
        etcd.start_now();
        etcd
    }

    /// An etcd whose address is known before it runs: for "etcd is away".
    pub fn not_started() -> Etcd {
        Etcd {
            process: None,
            port: ports::free_port(),
            peer_port: ports::free_port(),
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub fn start_now(&mut self) {
        let client_url = self.url();
        let peer_url = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new(binaries::system("etcd"));
        command
            .arg("--data-dir")
            .arg(self.folder.path().join("data"));
        command.args([
            "--listen-client-urls",
            &client_url,
            "--advertise-client-urls",
            &client_url,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer_url,
            "--initial-advertise-peer-urls",
            &peer_url,
        ]);
        command.args(["--initial-cluster", &format!("default={peer_url}")]);
        // The tests kill processes, not machines.
        command.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        let mut process = Process::spawn("etcd", command, &self.folder.path().join("etcd.log"));
        wait::until("etcd to be healthy", Duration::from_secs(30), || {
            process.assert_alive();
            self.healthy().then_some(())
        });
        self.process = Some(process);
    }

    pub fn kill9(&mut self) {
        self.process.take().expect("etcd runs").kill9();
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn healthy(&self) -> bool {
        Command::new(binaries::system("etcdctl"))
            .env("ETCDCTL_API", "3")
            .args([
                "--endpoints",
                &self.url(),
                "--command-timeout=2s",
                "get",
                "health-of-a-test",
            ])
            .output()
            .is_ok_and(|output| output.status.success())
    }
}

/// twemproxy in front of some redis-servers.
pub struct Nutcracker {
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl Nutcracker {
    pub fn start(backends: &[u16]) -> Nutcracker {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = ports::free_port();
        let mut config = format!(
            "bench:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  \
             distribution: ketama\n  servers:\n"
        );
        for (index, backend) in backends.iter().enumerate() {
            config.push_str(&format!("   - 127.0.0.1:{backend}:1 server{index}\n"));
        }
        let path = folder.path().join("nutcracker.yml");
        std::fs::write(&path, config).expect("the configuration can be written");
        let mut command = Command::new(binaries::system("nutcracker"));
        command.arg("--conf-file").arg(&path);
        command.args(["--stats-addr", "127.0.0.1"]);
        command.args(["--stats-port", &ports::free_port().to_string()]);
        // Its default of 16 KB is kept: --mbuf-size changes its cost per connection.
        let log = folder.path().join("nutcracker.log");
        let mut process = Process::spawn("nutcracker", command, &log);
        wait_for_ping(&mut process, port);
        Nutcracker {
            process,
            port,
            _folder: folder,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
