//! Moving slots between living groups: the pure cores of a reshard.
//!
//! Two groups and etcd take part in a plan. What a group knows of a plan is
//! replicated in its own Raft log ([`MigrationState`], changed only by
//! [`MigrationEntry`] values); what its leader is doing about it right now is
//! a driver ([`SourceDriver`], [`DestDriver`]) that can be thrown away at any
//! instant and rebuilt from the replicated state.
//! Invariants:
//! - a slot is served by at most one group: it is frozen at the source before
//!   the destination may be ready, and only a decision read back from etcd
//!   un-freezes or moves it;
//! - chunks are whole slots, so that an effect is either in a slot's snapshot
//!   or in the increments, never in both and never in neither;
//! - nothing is staged in the live generations, so abort is a map change.
//!
//! Deliberately knows nothing of RocksDB, gRPC, etcd clients, wall clocks or
//! threads: events go in, actions come out.

mod codec;
mod copy;
mod dest;
mod digest;
mod entry;
mod events;
mod ownership;
mod plan;
mod plan_state;
mod pressure;
mod proposals;
mod pump;
mod report;
mod rows;
mod slots;
mod source;
mod state;
mod stream;
mod throttle;
mod wire;

#[cfg(test)]
mod driver_tests;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod state_tests;

pub use codec::DecodeError;
pub use dest::DestDriver;
pub use digest::{RowDigest, StreamHash};
pub use entry::MigrationEntry;
pub use events::{DestAction, DestEvent, EtcdAnswer, Notice, SourceAction, SourceEvent};
pub use ownership::{OwnershipView, SlotOwnership, SlotStatus, SlotWord, Verdict};
pub use plan::{
    ChunkRecord, Control, Decision, DriverConfig, FailReason, FreezePoint, GroupId, Limits, MonoMs,
    PlanId, PlanSpec, Progress, ProgressState, Stage, StreamPoint,
};
pub use plan_state::{Attempt, DestPlan, ReadyPoint, SourcePlan};
pub use rows::{Row, RowKey};
pub use slots::SlotRanges;
pub use source::SourceDriver;
pub use state::{
    Applied, ApplyContext, DestView, Known, MigrationState, Outcome, Refused, SourceView,
    StateChange,
};
pub use stream::{IncrementBatch, IncrementRecords};
pub use throttle::TokenBucket;
pub use wire::{DestPhase, DestStatus, ToDest};
