//! Following a master that speaks Redis's replication protocol: a redis-server, or
//! another cairn-server. Standalone only.
//!
//! One thread (`run`) owns the link: it connects and introduces itself (`handshake`),
//! takes the data set as it comes (`load`), then the stream of commands (`stream`),
//! which it hands to the group's writer in batches. [`Following`] is what all others
//! see of it, and where REPLICAOF says whom to follow.
//!
//! Invariants:
//! - what a batch did and how far the stream is then are one entry of the log
//!   (`storage::followed`), so that a restart goes on from there exactly;
//! - a transaction of the master is one command here, and so one entry;
//! - a batch is evaluated only under the epoch of its link: once REPLICAOF has
//!   answered, nothing of the former master is done any more;
//! - no more of the data set is in memory than one value and one batch;
//! - whatever a master sends, it ends the link at worst, which is tried again.

mod following;
mod handshake;
mod load;
mod refusals;
mod run;
mod stream;
mod wire;

pub use following::{Following, LinkState, Master, Shown};
pub(crate) use following::{follow, follow_settings, hand_over, lead, recover, take_over};
pub(crate) use refusals::{MASTER_DOWN, Needs, READ_ONLY, refused_to_replica};
pub(crate) use run::run;

/// Why a link has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Somebody else is to be followed, or nobody, or the server stops.
    #[error("the link was given up")]
    GivenUp,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// What the master answered or sent, in words.
    #[error("{0}")]
    Refused(String),
}
