//! A Cairn node: groups of slots over RocksDB, spoken to in RESP.
//!
//! Imports run one way: net → dispatch → commands → types → txn → storage.

pub mod announce;
pub mod clients;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod crash;
pub mod data_dir;
pub mod dispatch;
pub mod eviction;
pub mod group;
pub mod link;
pub(crate) mod listpack;
pub mod logging;
pub mod memory;
pub mod migration;
pub mod monitor;
pub mod net;
pub mod pause;
pub mod process_title;
pub mod pubsub;
pub mod raft;
pub mod rdb;
pub mod replication;
pub mod run;
pub mod saves;
pub mod scripting;
pub mod server;
mod slow;
pub mod stats;
pub mod storage;
pub(crate) mod stream_id;
pub mod tracking;
pub mod transfer;
pub mod txn;
pub mod types;
pub mod upkeep;
pub mod users;
