//! The node's end of the private links: many clients' commands over a few
//! connections from proxies, on the peer port.
//!
//! One task a link, on a network thread; it owns everything of its link. One
//! round of it reads what came, answers the reads that it can, gathers the
//! rest into one submission a group, and writes what is ready at once.
//! Invariants (`cairn_protocol::link`, RULES.md):
//! - every request gets exactly one reply;
//! - commands of one session and group are evaluated in the order of arrival;
//! - after a refusal nothing of its session and slot is evaluated until the
//!   proxy says RESUME (the fence);
//! - a session waits for nothing of another.
//!
//! A proxy that wants a replication feed has a connection of its own (`feed`).
//!
//! Knows nothing of etcd: who lives where is [`Place`]'s affair.

mod accept;
mod engine;
mod feed;
mod handshake;
mod own;
mod place;
mod pump;
mod round;
mod sessions;
#[cfg(test)]
mod tests;
mod transaction;
mod waiting;

pub use accept::{Http2, PeerPort, peer_addresses};
pub use handshake::Identity;
pub use place::{Hint, Place};
pub use pump::{serve, serve_at};
