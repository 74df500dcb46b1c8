//! One unit of Redis's suite: a Tcl file, run against one server.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Without progress for so long the suite gives a test up as hanging.
const HANG: Duration = Duration::from_secs(120);
/// A unit that takes longer is ended.
const UNIT_LIMIT: Duration = Duration::from_secs(420);
/// A unit is run again without the test that hung, so often at most.
const MAX_RUNS: usize = 6;

/// Ports that a unit takes its servers' from.
pub const PORTS: u16 = 500;

/// Whom the suite talks to.
#[derive(Clone, Debug)]
pub enum Target {
    /// A server that runs already.
    External { port: u16, cluster: bool },
    /// The suite starts `src/redis-server` of its tree itself.
    Own,
}

/// What a unit came to. Names are those that the suite prints.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    pub passed: Vec<String>,
    /// Name and the first lines of what was said.
    pub failed: Vec<(String, String)>,
    pub skipped: usize,
    /// Those of the failed ones that did not end.
    pub hanging: Vec<String>,
    /// Why the unit ended early; what was behind it did not run.
    pub aborted: Option<String>,
    pub took: Duration,
}

/// Runs `unit` (as `unit/type/hash`) in `tree`.
///
/// A hanging test is a failed one; the unit is run again without it. `hanging` are
/// known to hang and not begun.
///
/// # Errors
/// The suite itself cannot be run.
pub fn run(
    tree: &Path,
    unit: &str,
    target: &Target,
    base_port: u16,
    hanging: &[String],
) -> Result<Outcome> {
    let started = Instant::now();
    let mut hung: BTreeSet<String> = hanging.iter().cloned().collect();
    let mut outcome = Outcome::default();
    for _ in 0..MAX_RUNS {
        let (text, ended) = run_once(tree, unit, target, base_port, &hung)?;
        outcome = parse(&text);
        let culprit = in_progress(&text);
        match culprit {
            Some(name) if ended.is_err() && hung.insert(name.clone()) => continue,
            _ => {}
        }
        if let Err(why) = ended
            && outcome.aborted.is_none()
        {
            outcome.aborted = Some(why);
        }
        break;
    }
    outcome.hanging = hung.iter().cloned().collect();
    outcome
        .failed
        .extend(hung.into_iter().map(|name| (name, "hangs".to_owned())));
    outcome.took = started.elapsed();
    Ok(outcome)
}

fn run_once(
    tree: &Path,
    unit: &str,
    target: &Target,
    base_port: u16,
    skip: &BTreeSet<String>,
) -> Result<(String, Result<(), String>)> {
    let log = tree.join("tests/tmp/unit.log");
    std::fs::create_dir_all(tree.join("tests/tmp"))?;
    let output = std::fs::File::create(&log)?;
    let mut command = Command::new("tclsh");
    command
        .current_dir(tree)
        .args(["tests/test_helper.tcl", "--clients", "1", "--durable"])
        .args(["--tags", "-slow", "--single", unit])
        .args(["--timeout", &HANG.as_secs().to_string()])
        .args([
            "--baseport",
            &base_port.to_string(),
            "--portcount",
            &PORTS.to_string(),
        ]);
    if let Target::External { port, cluster } = target {
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        if *cluster {
            command.args(["--cluster-mode", "--singledb"]);
        }
    }
    for name in skip {
        command.args(["--skiptest", name]);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stderr(output.try_clone()?)
        .stdout(output)
        .spawn()
        .context("tclsh cannot be run: install the package tcl")?;
    let deadline = Instant::now() + UNIT_LIMIT;
    let ended = loop {
        if child.try_wait()?.is_some() {
            break Ok(());
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            break Err(format!("took longer than {} s", UNIT_LIMIT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let ended = match text.contains("clients state report follows") {
        true => Err("a test hung".to_owned()),
        false => ended,
    };
    Ok((text, ended))
}

/// The test that ran when the suite gave up.
fn in_progress(text: &str) -> Option<String> {
    let text = plain(text);
    let (_, report) = text.split_once("clients state report follows")?;
    report
        .lines()
        .find_map(|line| line.split_once("(IN PROGRESS) "))
        .map(|(_, name)| name.trim().to_owned())
}

/// Reads the lines that the suite prints.
fn parse(text: &str) -> Outcome {
    let text = plain(text);
    let mut outcome = Outcome::default();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((status, rest)) = line.strip_prefix('[').and_then(|l| l.split_once("]: ")) else {
            continue;
        };
        match status {
            "ok" => outcome.passed.push(without_time(rest).to_owned()),
            "err" => {
                let name = rest
                    .rsplit_once(" in tests/")
                    .map_or(rest, |(name, _)| name);
                let mut said = Vec::new();
                while said.len() < 4 && lines.peek().is_some_and(|l| !l.starts_with('[')) {
                    said.extend(lines.next());
                }
                outcome.failed.push((name.to_owned(), said.join(" | ")));
            }
            "ignore" | "skip" => outcome.skipped += 1,
            "exception" => {
                let mut said = vec![rest];
                while said.len() < 6 && lines.peek().is_some_and(|l| !l.starts_with('[')) {
                    said.extend(lines.next());
                }
                outcome.aborted = Some(said.join(" | "));
            }
            _ => {}
        }
    }
    outcome
}

/// `name (12 ms)` without the time.
fn without_time(rest: &str) -> &str {
    match rest.rsplit_once(" (") {
        Some((name, time)) if time.ends_with(" ms)") => name,
        _ => rest,
    }
}

/// Text without terminal colours.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_suite_are_understood() {
        let text = "Testing unit/x\n\u{1b}[0m[\u{1b}[0;32;49mok\u{1b}[0m]: A (b) works (3 ms)\n\
                    [err]: B in tests/unit/x.tcl\nExpected 1\nto be 2\n[ok]: C\n\
                    [ignore]: D: tag\n[exception]: Executing test client: boom\n    while\n";
        let outcome = parse(text);
        assert_eq!(outcome.passed, ["A (b) works", "C"]);
        assert_eq!(
            outcome.failed,
            [("B".to_owned(), "Expected 1 | to be 2".to_owned())]
        );
        assert_eq!(outcome.skipped, 1);
        assert!(outcome.aborted.unwrap().contains("boom"));
    }

    #[test]
    fn the_hanging_test_is_named() {
        let text = "[TIMEOUT]: clients state report follows.\nsock1 => (IN PROGRESS) BLPOP x\n";
        assert_eq!(in_progress(text).as_deref(), Some("BLPOP x"));
    }
}
