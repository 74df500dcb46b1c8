//! The proxy: makes a cluster look like one plain Redis.
//!
//! Stateless. A client's command is routed by the slot map to its group's
//! leader over a private link that many clients share; redirects, failovers
//! and frozen slots are waited out, so that the client sees a pause, never an
//! error.
//!
//! One command's way: `net::connection` reads and parses it, `dispatch` finds
//! its route in the command table, `local` answers it here or
//! `backend::retry::submit` hands it to a `backend::link`, whose task writes
//! what all clients of its thread gathered; the answer comes back through
//! `backend::retry::on_reply` to its place in `net::client`. What was not
//! executed is parked and tried again by `backend::retry`; what was cut into
//! parts is put together by `merge`.

mod backend;
pub mod config;
mod dispatch;
pub mod feed;
mod local;
mod merge;
mod monitor;
mod net;
mod nodes;
mod pause;
mod pubsub;
mod replica;
pub mod route;
mod scripts;
mod timing;
mod tracking;
mod transaction;
mod users;

pub use config::Config;
pub use net::Proxy;
pub use route::RouteMap;
pub use users::Users;
