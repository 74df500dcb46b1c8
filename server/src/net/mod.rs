//! Sockets, connections and network threads.
//!
//! A connection lives on one network thread, a tokio runtime of its own, and
//! never waits there for the disk.

pub mod address;
pub(crate) mod ahead;
mod connection;
mod listener;
pub(crate) mod multi;
mod nested;
pub mod outbox;
pub(crate) mod pieces;
pub(crate) mod read;
pub mod session;
pub mod sockets;
mod turns;
mod unix;

pub use connection::Debugging;
pub(crate) use connection::{dispatched, warm};
pub use listener::{Network, start, start_node};
pub use pieces::InPieces;
pub use turns::Turns;
