//! The topology of a cluster: its records in etcd and a resilient view of them.
//!
//! `records` are the JSON values (explicit versions, golden tests), `keys` the
//! etcd paths, `snapshot` one consistent `Topology`, `store` the typed
//! transactions, `watch` the feed that follows etcd through restarts and
//! compactions, `lease` the registrations of nodes and proxies, and `cache` the
//! file from which a node starts while etcd is away.
//!
//! Invariants:
//! - every change is one transaction that compares what it was based on;
//! - a published `Topology` is the state at exactly one etcd revision;
//! - what is here is a hint to the data plane: slot ownership itself lives in
//!   the groups' replicated state.
//!
//! Knows nothing of RESP, Raft or the move's own protocol.

mod cache;
mod error;
mod keys;
mod lease;
mod records;
mod snapshot;
mod store;
mod watch;

pub use cache::{CacheError, load_cached, save_cached};
pub use error::StoreError;
pub use keys::{Keys, RecordKey, is_valid_id};
pub use lease::{NodeRegistration, ProxyRegistration, RegistrationState};
pub use records::{
    CLUSTER_VERSION, ClusterRecord, ClusterVersionRecord, Decision, DecisionRecord,
    FIRST_INCARNATION, FreezeProofRecord, FunctionRecord, FunctionSequenceRecord, GroupId,
    GroupRecord, LeaderRecord, MemberRecord, NodeId, NodeLoad, NodeRecord, PlanId, PlanLimits,
    PlanProgressRecord, PlanRecord, PlanSequenceRecord, PlanStage, PlanState, ProxyRecord, Record,
    RecordError, SlotMapError, SlotMapRecord, SlotRange, UsersRecord, WantedState, now_ms, since,
};
pub use snapshot::{NodeAddress, PlanView, Topology, Versioned};
pub use store::{
    FreshProof, FunctionChange, NewCluster, NewPlan, PlanProgressWriter, StoreConfig,
    TopologyStore, Verdict,
};
pub use watch::{TopologyWatch, WatchStatus};
