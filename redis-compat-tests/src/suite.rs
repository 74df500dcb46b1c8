//! All units of the suite against one kind of server, two at a time.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use cairn_tests::ports;
use tempfile::TempDir;

use crate::ratchet::{Expected, Unit};
use crate::unit::{self, Outcome, Target};

/// Units that run at once.
const WORKERS: usize = 2;

/// Starts the server that a worker's next unit is run against; it lives as long
/// as the value beside the target.
pub type Start<'a> = &'a (dyn Fn(&Path) -> Result<(Target, Box<dyn Send>)> + Sync);

/// Whether redis-server is judged, in Cairn's place: what it passes is the measure.
pub fn judges_redis() -> bool {
    std::env::var_os("CAIRN_JUDGE_REDIS").is_some()
}

/// Runs every unit of `expected/<name>.toml` (or those that `CAIRN_UNITS` names,
/// separated by commas) and compares. Prints a line a unit and the sums.
///
/// # Panics
/// If something differs from what is expected, with all differences.
pub fn judge(name: &str, start: Start<'_>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("expected")
        .join(format!("{name}.toml"));
    let mut expected = Expected::read(&path).unwrap_or_else(|e| panic!("{e:#}"));
    let source = crate::source::tree().unwrap_or_else(|e| panic!("the suite: {e:#}"));
    let chosen = std::env::var("CAIRN_UNITS").unwrap_or_default();
    let units: VecDeque<String> = expected
        .units
        .iter()
        .filter(|(unit, wanted)| match &wanted.left_out {
            Some(why) => {
                println!("{unit:28} left out: {why}");
                false
            }
            None => true,
        })
        .map(|(unit, _)| unit)
        .filter(|unit| chosen.is_empty() || chosen.split(',').any(|c| c == unit.as_str()))
        .cloned()
        .collect();
    let known: Hanging = expected
        .units
        .iter()
        .map(|(unit, wanted)| (unit.clone(), wanted.hanging.clone()))
        .collect();
    let outcomes = run_all(&source, units, &known, start);
    let renews = std::env::var("CAIRN_RATCHET").is_ok_and(|v| v == "write");
    // What differs gets a second run, by itself.
    let suspects = outcomes.iter().filter(|(unit, outcome)| {
        !renews && !expected.units[unit].differences(outcome, None).is_empty()
    });
    let suspects = suspects.map(|(unit, _)| unit.clone()).collect();
    let again: BTreeMap<String, Outcome> = run_all(&source, suspects, &known, start)
        .into_iter()
        .collect();
    let mut differences = Vec::new();
    let (mut passed, mut failed, mut skipped, mut of) = (0, 0, 0, 0);
    for (unit, outcome) in &outcomes {
        let wanted = &expected.units[unit];
        println!(
            "{unit:28} {:4} of {:4} pass, {:3} fail, {:3} skipped, {:4.1} s{}",
            outcome.passed.len(),
            wanted.redis,
            outcome.failed.len(),
            outcome.skipped,
            outcome.took.as_secs_f32(),
            if outcome.aborted.is_some() {
                ", ends early"
            } else {
                ""
            },
        );
        passed += outcome.passed.len();
        failed += outcome.failed.len();
        skipped += outcome.skipped;
        of += wanted.redis;
        if renews {
            for (name, said) in &outcome.failed {
                println!("    {name}: {said}");
            }
            outcome
                .aborted
                .iter()
                .for_each(|why| println!("    ends early: {why}"));
        }
        let found = wanted.differences(outcome, again.get(unit)).into_iter();
        differences.extend(found.map(|difference| format!("{unit}: {difference}")));
        let mut renewed = wanted.renewed(outcome);
        if judges_redis() {
            renewed = Unit {
                redis: outcome.passed.len(),
                ..wanted.clone()
            };
        }
        expected.units.insert(unit.clone(), renewed);
    }
    println!(
        "{name}: {passed} passed (redis-server: {of}), {failed} failed as listed or below, {skipped} skipped"
    );
    if renews {
        expected.write(&path).unwrap_or_else(|e| panic!("{e:#}"));
        return;
    }
    assert!(
        differences.is_empty(),
        "{} differences from {}:\n{}",
        differences.len(),
        path.display(),
        differences.join("\n")
    );
}

/// Tests that are known to hang, by unit.
type Hanging = BTreeMap<String, Vec<String>>;

fn run_all(
    source: &Path,
    units: VecDeque<String>,
    known: &Hanging,
    start: Start<'_>,
) -> Vec<(String, Outcome)> {
    let queue = Mutex::new(units);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let tree = tree_copy(source).unwrap_or_else(|e| panic!("{e:#}"));
                loop {
                    let next = queue.lock().expect("no worker panics with it").pop_front();
                    let Some(unit) = next else { break };
                    let outcome = run_one(tree.path(), &unit, &known[&unit], start);
                    done.lock()
                        .expect("no worker panics with it")
                        .push((unit, outcome));
                }
            });
        }
    });
    let mut outcomes = done.into_inner().expect("the workers are done");
    outcomes.sort_by(|(a, _), (b, _)| a.cmp(b));
    outcomes
}

fn run_one(tree: &Path, unit: &str, hanging: &[String], start: Start<'_>) -> Outcome {
    let failed = |why: String| Outcome {
        aborted: Some(why),
        ..Outcome::default()
    };
    let (target, _server) = match start(tree) {
        Ok(started) => started,
        Err(error) => return failed(format!("no server: {error:#}")),
    };
    // The units that run at once must not meet each other's servers.
    unit::run(tree, unit, &target, ports::range(unit::PORTS), hanging)
        .unwrap_or_else(|e| failed(format!("{e:#}")))
}

/// A copy of what the suite writes into, with the programs where it looks for them.
fn tree_copy(source: &Path) -> Result<TempDir> {
    let copy = tempfile::tempdir()?;
    let status = std::process::Command::new("cp")
        .arg("-r")
        .args([source.join("tests"), source.join("redis.conf")])
        .arg(copy.path())
        .status()?;
    anyhow::ensure!(status.success(), "the suite cannot be copied");
    let programs = copy.path().join("src");
    std::fs::create_dir(&programs)?;
    for program in ["redis-cli", "redis-benchmark"] {
        let installed = PathBuf::from("/usr/bin").join(program);
        std::os::unix::fs::symlink(&installed, programs.join(program))
            .with_context(|| installed.display().to_string())?;
    }
    Ok(copy)
}
