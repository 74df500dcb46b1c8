//! What a client is told without having asked: messages and invalidations.
//!
//! Kept with the client's replies, since both go out on one stream. Nodes send
//! RESP3 pushes; for a client that speaks RESP2 they are written anew. While a
//! subscription or an EXEC is under way nothing is shown, so that a confirmation
//! comes before its first message and no message comes amid a reply.

use crate::monitor::is_of_script;
use bytes::Bytes;
use cairn_protocol::resp::{FrameScanner, ReplyWriter, Version};
use std::collections::HashMap;

/// Kinds of subscriptions, as indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Channel = 0,
    Pattern = 1,
    Shard = 2,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];
}

/// What a client has subscribed, and what waits to be shown to it.
#[derive(Default)]
pub(crate) struct Listening {
    /// Each name with its place in the order of subscription.
    names: [HashMap<Bytes, u64>; 3],
    next: u64,
    /// Shown only once the subscription that is under way is confirmed.
    held: Vec<Bytes>,
    pub holding: bool,
}

impl Listening {
    pub fn any(&self) -> bool {
        self.names.iter().any(|names| !names.is_empty())
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    /// The number that confirmations name: channels and patterns are counted
    /// together, sharded channels apart.
    pub fn count_beside(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.count(Kind::Shard),
            _ => self.count(Kind::Channel) + self.count(Kind::Pattern),
        }
    }

    /// The names of a kind, the oldest subscription first.
    pub fn names(&self, kind: Kind) -> Vec<Bytes> {
        let mut names: Vec<_> = self.names[kind as usize].iter().collect();
        names.sort_unstable_by_key(|(_, place)| **place);
        names.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// False if it was there.
    pub fn insert(&mut self, kind: Kind, name: &[u8]) -> bool {
        let names = &mut self.names[kind as usize];
        if names.contains_key(name) {
            return false;
        }
        names.insert(Bytes::copy_from_slice(name), self.next);
        self.next += 1;
        true
    }

    /// False if it was not there.
    pub fn remove(&mut self, kind: Kind, name: &[u8]) -> bool {
        self.names[kind as usize].remove(name).is_some()
    }

    /// Shows messages of a node, or keeps them for later.
    pub fn show(&mut self, messages: Bytes, to: Reader, out: &mut ReplyWriter) {
        match self.holding {
            true => self.held.push(messages),
            false => write(messages, to, out),
        }
    }

    /// Keeps messages for later.
    pub fn hold(&mut self, messages: Bytes) {
        self.held.push(messages);
    }

    /// The subscription is confirmed: shows what was kept.
    pub fn release(&mut self, to: Reader, out: &mut ReplyWriter) {
        self.holding = false;
        for messages in std::mem::take(&mut self.held) {
            write(messages, to, out);
        }
    }

    /// Bytes kept for later.
    pub fn held_bytes(&self) -> usize {
        self.held.iter().map(Bytes::len).sum()
    }
}

/// How a client is shown messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader {
    pub version: Version,
    /// It tracks; what a node says to one that did a moment ago is dropped.
    pub tracks: bool,
}

impl Reader {
    /// Whether invalidations are shown to it.
    fn hears_of_keys(self) -> bool {
        self.version == Version::V3 && self.tracks
    }
}

/// Writes RESP3 pushes for a client. In RESP2 a push is an array; invalidations
/// are not shown there at all. What is no push is a line of MONITOR.
fn write(messages: Bytes, to: Reader, out: &mut ReplyWriter) {
    let mut scanner = FrameScanner::default();
    let mut rest = &messages[..];
    while let Ok(Some(len)) = scanner.scan(rest) {
        let (message, more) = rest.split_at(len);
        rest = more;
        match message[0] {
            b'>' if is_invalidation(message) && !to.hears_of_keys() => {}
            b'>' if to.version == Version::V3 => out.raw(message),
            b'>' => {
                out.raw(b"*");
                out.raw(&message[1..]);
            }
            _ if is_of_script(message) => out.raw(message),
            _ => {}
        }
    }
}

/// Whether a push tells of a key that has changed.
pub(crate) fn is_invalidation(message: &[u8]) -> bool {
    message.starts_with(b">2\r\n$10\r\ninvalidate\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUSHES: &[u8] = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n\
        >2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nn\r\n";

    fn shown(version: Version, tracks: bool) -> String {
        let mut out = ReplyWriter::new(version);
        let to = Reader { version, tracks };
        Listening::default().show(Bytes::from_static(PUSHES), to, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn pushes_are_arrays_in_resp2_without_invalidations() {
        assert_eq!(shown(Version::V3, true).as_bytes(), PUSHES);
        assert!(!shown(Version::V3, false).contains("invalidate"));
        assert_eq!(
            shown(Version::V2, true),
            "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nn\r\n"
        );
    }

    #[test]
    fn names_are_counted_as_redis_counts_them() {
        let mut listening = Listening::default();
        assert!(listening.insert(Kind::Channel, b"b") && listening.insert(Kind::Channel, b"a"));
        assert!(!listening.insert(Kind::Channel, b"a"));
        listening.insert(Kind::Pattern, b"p*");
        listening.insert(Kind::Shard, b"s");
        assert_eq!(listening.names(Kind::Channel), ["b", "a"]);
        assert_eq!(listening.count_beside(Kind::Pattern), 3);
        assert_eq!(listening.count_beside(Kind::Shard), 1);
        assert!(listening.remove(Kind::Shard, b"s") && !listening.remove(Kind::Shard, b"s"));
    }

    #[test]
    fn a_message_never_comes_before_the_confirmation() {
        let (mut listening, mut out) = (Listening::default(), ReplyWriter::default());
        listening.holding = true;
        let to = Reader {
            version: Version::V2,
            tracks: false,
        };
        listening.show(Bytes::from_static(PUSHES), to, &mut out);
        assert_eq!((out.len(), listening.held_bytes()), (0, PUSHES.len()));
        listening.release(to, &mut out);
        assert!(!out.is_empty() && listening.held_bytes() == 0);
    }
}
