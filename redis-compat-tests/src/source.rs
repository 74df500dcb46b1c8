//! Redis's suite, from Debian's source package of the installed release.
//!
//! Fetched once, through apt and the machine's own mirrors, into
//! `${XDG_CACHE_HOME:-~/.cache}/cairn-redis-suite`, with lists of its own: the
//! machine's apt configuration is not changed. `CAIRN_REDIS_SOURCE` names an
//! unpacked tree to use instead.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The release that the expectations in `expected/` were written for.
const RELEASE: &str = "7.0.";

/// The unpacked tree; fetches it if it is not there.
///
/// # Errors
/// No apt, no mirror with sources, or another release of Redis.
pub fn tree() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("CAIRN_REDIS_SOURCE") {
        return Ok(given.into());
    }
    let cache = cache_folder()?;
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let _lock = lock(&cache.join("lock"))?;
    let tree = cache.join("redis");
    if !cache.join("complete").exists() {
        let _ = fs::remove_dir_all(&tree);
        fetch(&cache, &tree)?;
        File::create(cache.join("complete"))?;
    }
    Ok(tree)
}

fn cache_folder() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("cairn-redis-suite"))
}

/// Two test programs may want the tree at once.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path)?;
    // SAFETY: flock acts on a descriptor that `file` keeps open.
    let outcome = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
    ensure!(outcome == 0, "cannot lock {}", path.display());
    Ok(file)
}

fn fetch(cache: &Path, tree: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(cache)?;
    let sources = write_sources(work.path())?;
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(work.path().join(folder))?;
    }
    let options = [
        format!("Dir::Etc::sourcelist={}", sources.display()),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        format!("Dir::State::lists={}", work.path().join("lists").display()),
        format!("Dir::Cache={}", work.path().join("cache").display()),
        "APT::Sandbox::User=root".to_owned(),
    ];
    for step in [&["update"][..], &["source", "--download-only", "redis"]] {
        let mut apt = Command::new("apt-get");
        apt.current_dir(work.path()).arg("-qq");
        for option in &options {
            apt.args(["-o", option]);
        }
        run(apt.args(step))?;
    }
    let archive = original(work.path())?;
    fs::create_dir_all(tree)?;
    run(Command::new("tar")
        .args(["--strip-components=1", "-xf"])
        .arg(&archive)
        .arg("-C")
        .arg(tree))
}

/// A list of sources made of the machine's own, which often leave sources out.
fn write_sources(work: &Path) -> Result<PathBuf> {
    let (mut deb822, mut lines) = (String::new(), String::new());
    let parts = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten();
    let mut files: Vec<PathBuf> = parts.flatten().map(|entry| entry.path()).collect();
    files.push("/etc/apt/sources.list".into());
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|e| e.to_str()) {
            Some("sources") => {
                deb822.extend(text.lines().map(|line| match line.trim() {
                    "Types: deb" | "Types: deb deb-src" => "Types: deb-src\n".to_owned(),
                    _ => format!("{line}\n"),
                }));
                deb822.push('\n');
            }
            Some("list") => lines.extend(text.lines().filter_map(|line| {
                let rest = line.trim().strip_prefix("deb ")?;
                Some(format!("deb-src {rest}\n"))
            })),
            _ => {}
        }
    }
    let (name, text) = match deb822.trim().is_empty() {
        true => ("suite.list", lines),
        false => ("suite.sources", deb822),
    };
    let path = work.join(name);
    fs::write(&path, text)?;
    Ok(path)
}

fn original(folder: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.contains(".orig.tar") && !name.ends_with(".asc") {
            let release = name.strip_prefix("redis_").unwrap_or(&name);
            ensure!(
                release.starts_with(RELEASE),
                "Debian's redis is {release}; the expectations are those of {RELEASE}x"
            );
            return Ok(path);
        }
    }
    bail!("apt-get source brought no original archive of redis")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("{:?} cannot be run", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{:?} failed: {}{}",
        command.get_program(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
