//! A child process that cannot outlive its parent, with its log in a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;
use tokio::process::Command;

/// How much of a log is shown when its process has died.
const LAST_LINES: usize = 15;
const LAST_BYTES: u64 = 8 << 10;

/// A started process.
pub struct Child {
    name: String,
    process: tokio::process::Child,
    pid: u32,
    log: PathBuf,
    /// Its death was told already, or was wanted.
    told: bool,
}

impl Child {
    /// Starts a program in its own process group (Ctrl-C in the terminal goes to
    /// the parent alone, which stops things in order), bound to the life of the
    /// calling thread.
    ///
    /// # Errors
    /// The log cannot be written or the program not be started.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("the log {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true);
        die_with_parent(&mut command);
        let process = command.spawn().with_context(|| {
            format!(
                "{name}: {} cannot be started",
                command.as_std().get_program().display()
            )
        })?;
        let pid = process
            .id()
            .with_context(|| format!("{name} has died at once"))?;
        Ok(Self {
            name: name.into(),
            process,
            pid,
            log: log.to_owned(),
            told: false,
        })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// An error if it has died.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.told = true;
                Err(anyhow::anyhow!(self.obituary(status)))
            }
        }
    }

    /// Once after its death: what happened, with its last log lines.
    pub fn news_of_death(&mut self) -> Option<String> {
        if self.told {
            return None;
        }
        let status = self.process.try_wait().ok().flatten()?;
        self.told = true;
        Some(self.obituary(status))
    }

    fn obituary(&self, status: ExitStatus) -> String {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => status.to_string(),
        };
        let lines = last_lines(&self.log);
        format!(
            "{} has ended ({how}); the end of {}:\n{lines}",
            self.name,
            self.log.display()
        )
    }

    fn terminate(&mut self) {
        self.told = true;
        if matches!(self.process.try_wait(), Ok(None)) {
            // SAFETY: plain kill(2); the child was not reaped yet, so that its pid
            // is still its own.
            unsafe { libc::kill(self.pid as libc::pid_t, libc::SIGTERM) };
        }
    }

    async fn ended(&mut self) {
        let _status = self.process.wait().await;
    }
}

/// SIGTERM to all, then SIGKILL to who is still there at the deadline.
pub async fn stop_all<'a>(children: impl IntoIterator<Item = &'a mut Child>, limit: Duration) {
    let mut children: Vec<&mut Child> = children.into_iter().collect();
    children.iter_mut().for_each(|child| child.terminate());
    let all_ended = join_all(children.iter_mut().map(|child| child.ended()));
    if tokio::time::timeout(limit, all_ended).await.is_ok() {
        return;
    }
    for child in children {
        if matches!(child.process.try_wait(), Ok(None)) {
            eprintln!("{} does not end within {limit:?}: killed", child.name);
            let _killed = child.process.kill().await;
        }
    }
}

/// Linux: the kernel kills the child when the thread that started it ends.
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id() as libc::pid_t;
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl
    // and getppid, no allocation.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above.
            match libc::getppid() == parent {
                true => Ok(()),
                false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            }
        });
    }
}

fn last_lines(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAST_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    match last.is_empty() {
        true => "  (it wrote nothing)".into(),
        false => last
            .iter()
            .map(|line| format!("  {line}"))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_dead_child_is_reported_once_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        let script = "for i in $(seq 40); do echo line $i; done; echo no disk >&2; exit 3";
        let mut child = Child::spawn("n1", shell(script), &log).unwrap();
        child.ended().await;
        let news = child.news_of_death().unwrap();
        assert!(news.contains("n1 has ended (exit code 3)"), "{news}");
        assert!(news.contains("  line 40\n  no disk"), "{news}");
        assert!(!news.contains("line 20\n"), "{news}");
        assert_eq!(child.news_of_death(), None);
        assert!(
            child
                .check_alive()
                .unwrap_err()
                .to_string()
                .contains("exit code 3")
        );
    }

    #[tokio::test]
    async fn a_child_that_ignores_sigterm_is_killed_at_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
        let mut stubborn = Child::spawn("stubborn", shell(script), &log).unwrap();
        let mut polite =
            Child::spawn("polite", shell("exec sleep 60"), &dir.path().join("y")).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !std::fs::read_to_string(&log).unwrap().contains("ready") {
            assert!(std::time::Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
        stop_all([&mut stubborn, &mut polite], Duration::from_millis(200)).await;
        assert_eq!(
            stubborn.process.wait().await.unwrap().signal(),
            Some(libc::SIGKILL)
        );
        assert_eq!(
            polite.process.wait().await.unwrap().signal(),
            Some(libc::SIGTERM)
        );
        assert_eq!(stubborn.news_of_death(), None, "a wanted end is no news");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let error = runtime.block_on(async {
            Child::spawn("n1", Command::new("/no/such/cairn"), &dir.path().join("l"))
                .err()
                .unwrap()
        });
        assert!(
            format!("{error:#}").contains("/no/such/cairn cannot be started"),
            "{error:#}"
        );
    }
}
