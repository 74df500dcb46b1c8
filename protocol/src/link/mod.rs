//! The private link between a proxy and a node, on the node's peer port.
//!
//! A pure codec: bytes in, frames out, and a handshake as two small state
//! machines. Sockets, clocks and random numbers belong to the caller.
//!
//! Invariants:
//! - every number here is frozen; a change is a new [`VERSION`], an addition a bit
//!   of [`Features`], without which the other end never sees it;
//! - a REQUEST gets exactly one REPLY, also after CLOSE, unless the link dies; the
//!   parts of a reply in pieces come before it;
//! - a declared length reserves no memory, and a length above the limit is
//!   refused before its bytes are awaited;
//! - one client's bytes cannot desynchronise another's: a payload is bounded
//!   by its frame's length, never by its own contents.
//!
//! The rules that both ends keep are in `RULES.md` beside this file.

mod decode;
mod error;
pub mod feed;
mod frame;
mod handshake;
mod hmac;

pub use decode::{Batch, Decoder, Payload};
pub use error::LinkError;
pub use frame::{
    Close, Credit, Frame, FrameMark, GoAway, Grant, Moved, Open, Ping, Push, Reason, Reply,
    ReplyClass, Request, RequestFlags, begin_reply, finish_reply, put_reply, put_reply_header,
    reply_header,
};
pub use handshake::{
    ClientHandshake, ClientStep, Features, Hello, PeerKind, ServerHandshake, ServerStep, Welcome,
};

/// The first bytes of a private link. What follows are frames.
pub const MAGIC: [u8; 4] = *b"CRNL";

/// The version of everything in this module.
pub const VERSION: u16 = 1;

/// `slot` of a request that names no key: it goes to the request's group.
pub const NO_SLOT: u16 = u16::MAX;

/// `group` of a request that is for the node itself: what belongs to no group,
/// such as CONFIG, SCRIPT LOAD or a subscription.
pub const NO_GROUP: u32 = 0;

/// First word of the error that says in which slot the keys of a script without
/// declared ones are, of which nothing was executed (rule 14).
pub const ELSEWHERE: &str = "ELSEWHERE";

/// Bytes of a reply in pieces that a node may send before the first GRANT.
pub const FIRST_GRANT: u32 = 256 << 10;

/// Bytes of the header that every frame begins with.
pub const HEADER_LEN: usize = 16;

/// Bytes of a REQUEST in front of its RESP command.
pub const REQUEST_HEADER_LEN: usize = 40;

/// Default limit of one frame, header included: a value of 512 MB and its command.
pub const DEFAULT_MAX_FRAME: usize = 1 << 30;

/// Limit of a frame before the handshake is complete.
pub const HANDSHAKE_MAX_FRAME: usize = 1024;

/// Who is speaking on a fresh connection of the peer port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// This link: consume [`MAGIC`], then decode frames.
    Link,
    /// HTTP/2 (its preface starts with `PRI `): gRPC between nodes.
    Http2,
    /// Neither: close the connection.
    Unknown,
}

/// Decides by the first four bytes. `None` while fewer have arrived and what
/// arrived fits more than nothing.
pub fn sniff(first: &[u8]) -> Option<Protocol> {
    let n = first.len().min(4);
    if first[..n] == MAGIC[..n] {
        (n == 4).then_some(Protocol::Link)
    } else if first[..n] == b"PRI "[..n] {
        (n == 4).then_some(Protocol::Http2)
    } else {
        Some(Protocol::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bytes_tell_a_link_from_http2() {
        assert_eq!(sniff(b""), None);
        assert_eq!(sniff(b"CRN"), None);
        assert_eq!(sniff(b"CRNL\x01"), Some(Protocol::Link));
        assert_eq!(sniff(b"PRI * HTTP/2.0"), Some(Protocol::Http2));
        assert_eq!(sniff(b"PRIX"), Some(Protocol::Unknown));
        assert_eq!(sniff(b"G"), Some(Protocol::Unknown));
    }
}
