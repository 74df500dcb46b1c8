//! What two Cairn programs must agree on.
//!
//! RESP on the wire, the one command table, what users may run, hash slots, the topology records
//! in etcd, the private links between programs, and how both of them show what commands cost.
//! Nothing else lives here.

pub mod acl;
pub mod command;
pub mod link;
pub mod resp;
pub mod slot;
pub mod timing;
pub mod topology;
