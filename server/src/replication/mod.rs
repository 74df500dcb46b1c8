//! Replicas that speak Redis's protocol: a real redis-server, or whoever reads
//! along, gets the data set and then every change.
//!
//! Standalone, or on a node of a cluster what its groups serve. The writer tapes what it evaluates as commands (`forms`,
//! `streams`; the tape itself is `txn::tape`), but only while somebody is attached.
//! Once the entry is applied the tape goes to the [`Feed`], which numbers its bytes
//! and puts them into each replica's outbox. A replica is attached between two
//! entries, at which moment a snapshot is pinned too: what it gets as data ends
//! exactly where its stream begins.
//!
//! Invariants:
//! - a replica gets every change after its snapshot once, in order, and none before
//!   it is applied here;
//! - a replica that comes back is told what it missed if the backlog still has it
//!   (`backlog`, standalone), else it begins anew;
//! - what a replica has not read is bounded by `client-output-buffer-limit replica`:
//!   beyond it the replica is cut off, and begins anew when it comes back;
//! - while one is attached, what has expired leaves by the log alone;
//! - when slots come or go, or a writer falls, it is told nothing more and begins anew.
//!
//! A proxy is one as well (`link::feed`): it makes one stream of those of all nodes.
//!
//! The other way round, a standalone server follows a master: `follow`. `failover` has it
//! and one of its replicas change places.

mod backlog;
mod begin;
pub(crate) mod dump_file;
pub(crate) mod export;
pub mod failover;
mod feed;
#[cfg(test)]
mod feed_tests;
pub mod follow;
mod forms;
mod leaves;
mod restore;
mod snapshot;
pub(crate) mod streams;

pub(crate) use begin::{Begun, Part, begin};
pub(crate) use export::Transfer;
pub use feed::{Feed, Replica, ReplicaState};
pub(crate) use forms::record;
pub(crate) use restore::empty;
pub use snapshot::Contents;

/// What a replica says about itself before it synchronises (REPLCONF).
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// Where clients reach it.
    pub host: Option<String>,
    pub port: u16,
    /// It can tell the end of the data set from a mark.
    pub eof: bool,
    /// It understands that a stream is renamed.
    pub psync2: bool,
    /// It has the stream of this name up to before this byte, counted from 1.
    pub resume: Option<(String, u64)>,
    /// It wants the data set and no stream.
    pub rdb_only: bool,
    pub contents: Contents,
}
