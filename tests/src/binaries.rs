//! Where the programs under test are.

use std::path::PathBuf;

/// The path of one of our own programs, found beside the running executable.
///
/// Tests run from `<target>/release/deps`, programs from `<target>/release`.
/// Panics when the program is not there: a test that cannot run has failed.
pub fn cairn(name: &str) -> PathBuf {
    let executable = std::env::current_exe().expect("the running program has a path");
    let mut folder = executable.parent().expect("an executable lies in a folder");
    if folder.ends_with("deps") {
        folder = folder.parent().expect("deps lies in the profile's folder");
    }
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `make build`, or `cargo build --release --workspace --bins`, first",
        path.display()
    );
    path
}

/// The path of a program of the system. Panics with the way to get it.
pub fn system(name: &str) -> PathBuf {
    find_system(name).unwrap_or_else(|| panic!("{name} is not installed: run `make setup`"))
}

/// The path of a program of the system, if it is installed.
pub fn find_system(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    // Debian keeps daemons in sbin, which is not in every user's PATH.
    path.split(':')
        .chain(["/usr/local/sbin", "/usr/sbin"])
        .map(|folder| PathBuf::from(folder).join(name))
        .find(|candidate| candidate.is_file())
}
