//! The proxy's side of the private links.
//!
//! `link` is one connection to one node with what is outstanding on it, `io`
//! drives it, `call` is one request on its way, `retry` decides what happens
//! to a request that was not executed. All of it belongs to one network
//! thread: nothing here is shared between threads.

mod call;
mod io;
mod link;
mod outbox;
pub(crate) mod retry;
mod slab;

pub(crate) use call::Call;
pub(crate) use io::{LinkEnd, shake_hands, spawn};
pub use link::Link;
pub(crate) use link::Session;
pub(crate) use retry::ParkedLane;
