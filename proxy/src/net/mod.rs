//! Clients: the listener, the network threads, connections and their replies.

mod client;
mod connection;
mod listener;
mod listening;
mod registry;
mod thread;

pub(crate) use client::{Client, ClientState, GivenUp, Lent};
pub(crate) use connection::{Connection, Silence};
pub use listener::Proxy;
pub(crate) use listening::{Kind, Listening, is_invalidation};
pub(crate) use registry::{ClientInfo, Registry, Shared};
pub use thread::Thread;
