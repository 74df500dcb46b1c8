//! One child process: its log, its death, and what it costs.
//!
//! Every child dies with its owner: on drop, and by the kernel's hand when the
//! whole test program is killed. When the owner drops it while panicking, the
//! end of its log is printed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::wait;

const LOG_TAIL_BYTES: u64 = 6_000;

pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// How long a polite end may take before the process is killed on drop.
    grace: Duration,
}

impl Process {
    /// Starts `command` with both outputs appended to the file `log`.
    pub fn spawn(name: &str, command: Command, log: &Path) -> Process {
        Self::spawn_with_stdout(name, command, log, None)
    }

    /// As `spawn`, with standard output going to a pipe for the caller.
    pub fn spawn_piped(name: &str, command: Command, log: &Path) -> Process {
        Self::spawn_with_stdout(name, command, log, Some(Stdio::piped()))
    }

    fn spawn_with_stdout(
        name: &str,
        mut command: Command,
        log: &Path,
        stdout: Option<Stdio>,
    ) -> Process {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log opens");
        let errors = output.try_clone().expect("a file handle can be duplicated");
        command
            .stdin(Stdio::null())
            .stdout(stdout.unwrap_or_else(|| output.into()))
            .stderr(errors);
        let child = spawn_on_lasting_thread(command)
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Process {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            grace: Duration::ZERO,
        }
    }

    /// Gives the process time to end by itself (SIGTERM) when it is dropped.
    pub fn with_grace(mut self, grace: Duration) -> Process {
        self.grace = grace;
        self
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// The exit status, if the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// SIGKILL, and waits for the end.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn signal(&self, signal: i32) {
        signal_pid(self.pid(), signal);
    }

    /// SIGTERM; panics when the process is still there after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(libc::SIGTERM);
        wait::until(
            &format!("{} to end after SIGTERM", self.name),
            limit,
            || self.ended(),
        )
    }

    /// The end of what the process has logged.
    pub fn log_tail(&self) -> String {
        tail(&self.log, LOG_TAIL_BYTES).unwrap_or_default()
    }

    /// All that the process has logged, over restarts too.
    pub fn log_text(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// What each thread waits for, a line each: its name, and where it is in the kernel
    /// (which only root may see).
    pub fn threads(&self) -> String {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        let mut lines = String::new();
        for task in tasks.into_iter().flatten().flatten() {
            let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let (name, syscall, stack) = (read("comm"), read("syscall"), read("stack"));
            let stack = stack.lines().map(str::trim).collect::<Vec<_>>().join(" ");
            let (name, syscall) = (name.trim(), syscall.trim());
            lines.push_str(&format!("{name}: syscall {syscall}; {stack}\n"));
        }
        lines
    }

    /// Panics, with the log's end, if the process has ended.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} has ended: {status}\n{}", self.name, self.log_tail());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- end of the log of {} ---\n{}",
                self.name,
                self.log_tail()
            );
        }
        if self.grace > Duration::ZERO && self.ended().is_none() {
            self.signal(libc::SIGTERM);
            let deadline = Instant::now() + self.grace;
            while self.ended().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.kill9();
    }
}

/// Whether a status says "killed by `signal`".
pub fn killed_by(status: ExitStatus, signal: i32) -> bool {
    status.signal() == Some(signal)
}

pub fn signal_pid(pid: u32, signal: i32) {
    // SAFETY: kill has no memory effects; the pid is one of our own children.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Whether any thread of a process still runs. A killed process is a zombie before
/// its last thread has ended, and holds its locks and ports until then.
pub fn pid_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat.rsplit(')').next().unwrap_or("").trim_start();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    !state.starts_with('Z') || threads > 1
}

/// Resident memory of a process in bytes. Panics when the process is gone: none at all
/// would be below any limit.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok());
    let kilobytes: u64 = resident.unwrap_or_else(|| panic!("process {pid} does not run"));
    kilobytes * 1024
}

/// CPU time, user and system, that a process has used since its start.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces; fields are counted after it.
    let after_name = stat.rsplit(')').next().unwrap_or("");
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // SAFETY: sysconf reads a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as u64;
    Duration::from_micros(ticks * 1_000_000 / per_second.max(1))
}

/// Bytes on disk below a folder, as `du` counts them (allocated, not apparent).
pub fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    // Files come and go while a database compacts: what vanished counts nothing.
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

fn tail(path: &Path, bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut buffer = Vec::new();
    file.read_to_end(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

type SpawnJob = (Command, Sender<io::Result<Child>>);

/// Starts a child whose parent, for the kernel, is a thread that never ends.
///
/// PR_SET_PDEATHSIG fires when the *thread* that forked ends, and test threads
/// end long before processes that several tests share.
fn spawn_on_lasting_thread(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<SpawnJob>>> = OnceLock::new();
    // SAFETY: prctl is async-signal-safe and touches only the new process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<SpawnJob>();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, reply) in jobs {
                    let _ = reply.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        Mutex::new(sender)
    });
    let (reply, result) = channel();
    // The mutex guards a channel send only; a poisoned one still works.
    let sender = spawner
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .clone();
    sender
        .send((command, reply))
        .expect("the spawner never ends");
    result.recv().expect("the spawner answers")
}
