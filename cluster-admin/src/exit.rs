//! What the process's exit code says.

/// Done.
pub const OK: u8 = 0;
/// Refused, or something failed; standard error says what.
pub const FAILED: u8 = 1;
/// The command line is wrong (clap's own code).
pub const USAGE: u8 = 2;
/// `status`: the cluster is not healthy.
pub const UNHEALTHY: u8 = 3;
/// A move that was followed ended aborted or failed.
pub const NOT_MOVED: u8 = 4;
/// Interrupted while following; what was followed goes on.
pub const INTERRUPTED: u8 = 130;
