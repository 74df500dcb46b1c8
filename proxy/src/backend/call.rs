//! One request on its way to a node.

use crate::merge::Scan;
use crate::net::Client;
use crate::route::Lane;
use crate::scripts::Sha;
use bytes::Bytes;
use cairn_protocol::link::RequestFlags;
use std::rc::Rc;

/// A command, or a part of one, with all that is needed to send it again.
pub(crate) struct Call {
    /// Who waits for the answer.
    pub client: Rc<Client>,
    /// Place in the client's order of replies.
    pub seq: u64,
    /// Which part of a split command; 0 for a whole one.
    pub part: u32,
    /// What it must not overtake.
    pub lane: Lane,
    /// The client's database when it was asked.
    pub database: u16,
    /// RESP version, ASKING and so on; RESUME is added when it is sent again.
    pub flags: RequestFlags,
    /// Whether executing it twice could differ from executing it once.
    pub write: bool,
    /// Whether it may wait at its node for as long as it likes.
    pub blocking: bool,
    /// The raw command.
    pub wire: Bytes,
    /// Scripts that it names: its node must know them.
    pub scripts: Vec<Sha>,
    /// When it was read, in the thread's milliseconds.
    pub born_ms: u64,
    /// Where its first byte is in the link's stream, once sent.
    pub offset: u64,
    /// A script without keys: its node may say in which slot it must be run.
    pub roams: bool,
    /// A SCAN: it may go on in another group.
    pub scan: Option<Box<Scan>>,
}

impl Call {
    /// Its place among all of its client's calls.
    pub fn order(&self) -> (u64, u32) {
        (self.seq, self.part)
    }
}
