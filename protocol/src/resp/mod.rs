//! RESP2 and RESP3 on the wire.
//!
//! Requests come in through [`RequestParser`], replies go out through
//! [`ReplyWriter`]; [`scan`] finds the end of a backend's reply without
//! building it, and [`decode()`] builds what must be understood. Everything
//! here works on buffers: it knows no sockets, no commands and no clock, and
//! no input, however malformed, makes it panic or allocate for a mere claim.

mod args;
pub mod decode;
mod inline;
mod limits;
pub mod number;
mod reply;
mod request;
pub mod scan;

pub use args::{Args, ArgsIter, Requests};
pub use decode::{DecodeError, Frame, decode};
pub use limits::{Limits, ProtocolError};
pub use reply::{Deferred, Mark, ReplyWriter};
pub use request::{RequestParser, encode_request};
pub use scan::{FrameScanner, ScanError, ScanLimits};

/// The protocol version that a connection speaks (HELLO).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    V2,
    V3,
}
