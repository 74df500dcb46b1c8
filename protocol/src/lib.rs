//! What two Cairn programs must agree on.
//!
//! RESP on the wire, the one command table, what users may run, hash slots, the topology records
//! in etcd, the private links between programs, and what proxy and server check, show and measure
//! alike (MONITOR, ROLE, CLIENT TRACKING, what commands cost, what clients have yet to read, how
//! many descriptors there may be). Nothing else lives here.

pub mod acl;
pub mod command;
pub mod descriptors;
pub mod link;
pub mod monitor;
pub mod resp;
pub mod role;
pub mod slot;
pub mod timing;
pub mod topology;
pub mod tracking;
pub mod unread;
