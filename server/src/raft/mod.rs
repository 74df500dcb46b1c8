//! The replication layer of a node: every write becomes a log entry here first.
//!
//! Layers, lowest first:
//! - `log_store`: the durable log of all groups of a node (`EngineLog` on disk,
//!   `MemoryLog` for simulation), one atomic batch per write;
//! - `log_view`: what raft-rs sees of one group's log, kept in memory;
//! - `core`: one group, without I/O, threads, clock or random source of its own;
//! - `multi`: the loop thread that drives all cores of a node and syncs once for all.
//!
//! Invariants kept here: a proposal is reported committed only after its entry is
//! durable under the promised mode and applied; entries are applied in index order,
//! each index once; after a failed log write or apply nothing is written again.
//! Knows nothing of commands, slots or RocksDB: an entry is bytes, the state is a
//! `StateMachine`.

mod core;
mod engine_log;
mod handle;
mod log_samples;
mod log_store;
mod log_view;
mod memory_log;
mod multi;
mod shared;
mod start;
mod upkeep;

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod core_tests;
#[cfg(test)]
mod multi_tests;
#[cfg(test)]
mod sim;

pub use self::core::{
    Committed, CoreConfig, GroupCore, LogFetch, Propose, Refusal, Restored, Role, RoleChange, Work,
};
pub use engine_log::{EngineLog, EngineLogConfig};
pub use handle::{Proposal, ProposalDone, ProposalOutcome, RaftHandle, Refused, RefusedReason};
pub use log_store::{
    Durability, GroupWrite, LogBatch, LogError, LogPosition, LogState, RaftLogStore,
};
pub use memory_log::{MemoryLog, MemoryLogCounts};
pub use multi::{
    ApplyError, CommittedEntry, FatalHandler, MultiRaft, MultiRaftConfig, NoTransport, RaftFailure,
    StateMachine, Transport,
};
pub use shared::{GroupStatus, HoldError, LogHold};
pub use start::{GroupSpec, StartError};

/// raft-rs messages and log entries, as they travel between nodes and lie in the log.
pub use ::raft::eraftpb;
