//! A standalone `cairn-server` under test.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{self, Process};
use crate::resp::{Client, Value};
use crate::{binaries, ports, wait};

/// A server that is not ready within this time has failed to start.
pub const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// One server process on a port and a data directory of its own. Killed on drop.
pub struct Server {
    /// `None` between a kill and the restart.
    process: Option<Process>,
    port: u16,
    settings: Vec<String>,
    folder: TempDir,
}

impl Server {
    /// Starts a server with further flags, e.g. `["--appendfsync", "always"]`, and
    /// waits until it answers PING.
    pub fn start(settings: &[&str]) -> Server {
        let mut server = Server {
            process: None,
            port: ports::free_port(),
            settings: settings
                .iter()
                .map(|setting| (*setting).to_owned())
                .collect(),
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        server.restart();
        server
    }

    /// Starts the process again on the same data. Returns the time from the start
    /// of the process to its first answer.
    pub fn restart(&mut self) -> Duration {
        assert!(self.process.is_none(), "the server still runs");
        let started = Instant::now();
        let mut process = Process::spawn("cairn-server", self.command(), &self.log_path());
        wait_for_ping(&mut process, self.port);
        self.process = Some(process);
        started.elapsed()
    }

    /// The command line of this server, for a test that starts it in its own way.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binaries::cairn("cairn-server"));
        command.arg("--port").arg(self.port.to_string());
        // Files without a folder of their own (dump.rdb) are this server's alone.
        command.current_dir(&self.folder);
        command
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(&self.settings);
        command
    }

    pub fn kill9(&mut self) {
        self.process.take().expect("the server runs").kill9();
    }

    /// SIGTERM, and the status that the server ended with.
    pub fn stop(&mut self) -> ExitStatus {
        self.process
            .take()
            .expect("the server runs")
            .terminate(STOP_LIMIT)
    }

    /// The status that the server ended with by itself, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut().expect("the server runs").ended()?;
        self.process = None;
        Some(status)
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the server runs")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    pub fn log_text(&self) -> String {
        std::fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub fn disk_bytes(&self) -> u64 {
        process::disk_bytes(&self.data_dir())
    }

    pub fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.pid())
    }
}

/// What a program says when it is expected to refuse to start: its exit status and
/// all its output. Panics when it is still running after the limit.
pub fn refusal(command: Command, folder: &Path) -> (ExitStatus, String) {
    let log = folder.join("refusal.log");
    let _ = std::fs::remove_file(&log);
    let mut process = Process::spawn("a server that must refuse", command, &log);
    let status = wait::until("the server to refuse to start", START_LIMIT, || {
        process.ended()
    });
    (status, process.log_text())
}

/// Waits until the process behind `port` answers PING (or asks for a password).
pub fn wait_for_ping(process: &mut Process, port: u16) {
    let answered = wait::try_until(START_LIMIT, || {
        process.assert_alive();
        answers_ping(port).then_some(())
    });
    // A disk that stalls looks like a server that hangs, but for where its threads wait.
    assert!(
        answered.is_some(),
        "waited {START_LIMIT:?} in vain for an answer to PING on port {port}; threads:\n{}",
        process.threads()
    );
}

/// Whether somebody on `port` is ready to serve.
pub fn answers_ping(port: u16) -> bool {
    let Ok(mut client) = Client::try_connect(port) else {
        return false;
    };
    client.set_timeout(Duration::from_secs(2));
    match client.try_command(&["PING"]) {
        Ok(Value::Simple(text)) => text == b"PONG",
        Ok(Value::Error(text)) => text.starts_with(b"NOAUTH"),
        _ => false,
    }
}

/// One field of INFO. Panics when it is absent.
pub fn info(client: &mut Client, field: &str) -> String {
    let text = client.words("INFO everything").text();
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("INFO has no field {field}:\n{text}"))
        .trim()
        .to_owned()
}
