//! Other people's judges, run against Cairn.
//!
//! Nothing is here yet. What will be (one command, part of `make test`):
//! - Redis 7.0's Tcl suite, unpacked from Debian's source package and never
//!   committed: every unit in external-server mode against standalone, the cluster
//!   subset against a proxy over two groups, and the units that start a server
//!   themselves, with cairn-server in redis-server's place;
//! - a ratchet: the list of tests that are expected to fail, each with its reason.
//!   A test that starts to fail, or passes and is still on the list, fails the run;
//! - random command sequences of all types in both RESP versions against
//!   redis-server (`tests/tests/differential.rs` does it for strings and keys);
//! - short real flows of redis-py, redis-rs, hiredis and a job queue.
//!
//! Knows Cairn from the outside only: ports, command lines, replies.
