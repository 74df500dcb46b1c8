//! The real-process test harness: starts, kills and restarts Cairn's programs
//! and their peers (redis-server, etcd, nutcracker), and talks RESP to them.
//!
//! What stands on it: the tests in `tests/tests`, each about processes and
//! sockets rather than functions, and the benchmark `cairn-bench`.
//! It knows Cairn from the outside only (command lines, ports, replies), so that
//! a mistake in a shared crate cannot hide itself from the tests.

pub mod admin;
pub mod bench;
pub mod binaries;
pub mod cluster;
pub mod collections;
pub mod contents;
pub mod mixed;
pub mod peers;
pub mod ports;
pub mod process;
pub mod python;
pub mod resp;
pub mod seed;
pub mod server;
pub mod wait;
pub mod workload;
