//! A real etcd of one member on free ports, for tests.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[allow(dead_code, reason = "etcd needs one port at a time")]
#[path = "../../../tests/src/ports.rs"]
mod ports;

/// An etcd process with its data in a temporary directory; killed on drop.
pub struct Etcd {
    child: Child,
    dir: TempDir,
    client: SocketAddr,
    peer: SocketAddr,
}

/// One of which no other etcd of this program is ever told.
fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ports::free_port()))
}

impl Etcd {
    /// Starts etcd and waits until it takes connections.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (client, peer) = (free_address(), free_address());
        let child = spawn(&dir, client, peer);
        let mut etcd = Self {
            child,
            dir,
            client,
            peer,
        };
        etcd.wait_up();
        etcd
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.client)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on its data.
    pub fn restart(&mut self) {
        self.child = spawn(&self.dir, self.client, self.peer);
        self.wait_up();
    }

    /// Starts it again on its data, but where its clients do not look; `url`
    /// tells. After the next `kill` and `restart_at`, it is back.
    pub fn restart_elsewhere(&mut self) -> SocketAddr {
        let usual = std::mem::replace(&mut self.client, free_address());
        self.restart();
        usual
    }

    /// Starts it again on its data, for clients at this address.
    pub fn restart_at(&mut self, client: SocketAddr) {
        self.client = client;
        self.restart();
    }

    fn wait_up(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(self.client).is_err() {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "etcd has died at start"
            );
            assert!(Instant::now() < deadline, "etcd does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn spawn(dir: &TempDir, client: SocketAddr, peer: SocketAddr) -> Child {
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    Command::new("etcd")
        .args(["--name", "t", "--logger", "zap", "--log-level", "error"])
        .arg("--data-dir")
        .arg(dir.path().join("etcd"))
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("t={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary `etcd` must be on PATH")
}
