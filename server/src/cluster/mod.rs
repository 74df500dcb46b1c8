//! A node of a cluster: groups replicated through Raft, topology from etcd,
//! links of proxies and moves of slots.

pub mod functions;
mod gate;
mod gone;
pub mod mover;
pub mod node;
mod replica;
mod sink;
pub mod spread;
pub mod start;
mod users;

pub use gate::Gate;
pub use node::{Hosted, Node};
pub use replica::{Replica, ReplicaView, StepNews};
pub use sink::RaftSink;
