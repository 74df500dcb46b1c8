//! A python with other people's clients, in a virtual environment of the cache folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use crate::binaries;

/// From PyPI. Pinned, so that a run of next year judges by the same clients.
const PACKAGES: &[&str] = &["redis==5.2.1", "hiredis==3.1.0", "rq==2.1.0"];

/// The interpreter. The environment is made by the first call, which needs PyPI.
///
/// # Errors
/// Why there is none.
pub fn interpreter() -> Result<PathBuf, String> {
    // Several tests of one program ask at once; one makes it.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = tools_folder().join("python-clients");
    let python = folder.join("bin/python3");
    if !has_packages(&python) {
        let system = binaries::find_system("python3").ok_or("there is no python3")?;
        run(Command::new(&system)
            .args(["-m", "venv", "--clear"])
            .arg(&folder))?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(PACKAGES))?;
    }
    Ok(python)
}

/// Runs a script, which must end with success and say that all flows passed.
/// Without an interpreter the test says that it was skipped, and why.
pub fn flow(name: &str, script: &str, arguments: &[&str]) {
    let python = match interpreter() {
        Ok(python) => python,
        Err(reason) => {
            println!("SKIPPED {name}: no python with its clients: {reason}");
            return;
        }
    };
    let output = Command::new(python)
        .args(["-c", script])
        .args(arguments)
        .output()
        .expect("python starts");
    let shown = text(&output);
    assert!(output.status.success(), "{name} {arguments:?}: {shown}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "all flows passed",
        "{name} {arguments:?}: {shown}"
    );
}

fn tools_folder() -> PathBuf {
    let cache = || {
        let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
        std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from)
    };
    std::env::var_os("CAIRN_TOOLS").map_or_else(|| cache().join("cairn-tools"), PathBuf::from)
}

fn has_packages(python: &Path) -> bool {
    let output = Command::new(python).args(["-m", "pip", "freeze"]).output();
    output.is_ok_and(|output| {
        let installed = String::from_utf8_lossy(&output.stdout).into_owned();
        PACKAGES
            .iter()
            .all(|package| installed.lines().any(|line| line == *package))
    })
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(text(&output)),
    }
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}
