//! Replies that come in pieces: what a client has of them, and what their nodes
//! may send more.
//!
//! The parts of the reply at the front go to the output as they come; from then on
//! nothing else may come between them, and only the rest of it can follow. Parts of
//! a reply that is not at the front wait. A node is granted what has come once the
//! output is short, so that a client costs what was granted first and not a reply.

use super::{Client, ClientState, Entry, Kind, Lent};
use crate::backend::Link;
use crate::timing::Finished;
use bytes::Bytes;
use cairn_protocol::resp::ReplyWriter;
use std::rc::{Rc, Weak};

/// Unread bytes of the output above which nothing more is granted.
const GRANT_BELOW: usize = 64 << 10;

/// A reply of which parts have come, and not the last.
pub(super) struct InPieces {
    link: Weak<Link>,
    /// What the link calls its request.
    request: u64,
    /// Its place in the order of replies.
    seq: u64,
    /// CLIENT REPLY OFF or SKIP: nobody is shown it.
    silent: bool,
    /// A part has gone to the output.
    begun: bool,
    /// Parts that wait for all replies before it.
    held: ReplyWriter,
    owed: Owed,
}

/// What has come of a reply and was not granted again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Owed(u64);

impl Owed {
    fn came(&mut self, bytes: usize) {
        self.0 += bytes as u64;
    }

    /// Bytes to grant with so many unread in the output; 0: none yet.
    fn take(&mut self, unread: usize) -> u32 {
        if unread > GRANT_BELOW {
            return 0;
        }
        let bytes = u32::try_from(self.0).unwrap_or(u32::MAX);
        self.0 -= u64::from(bytes);
        bytes
    }
}

/// What is given up of a reply that will have no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// No part of it has come.
    Nothing,
    /// What the client was not shown.
    Held,
    /// The client was shown a part.
    Begun,
}

impl Client {
    /// Closes the connection in the middle of a reply: whoever reads it finds it
    /// cut, and not something else in the place of its rest.
    pub fn cut_short(&self) {
        self.stream.borrow_mut().take();
        self.info.kill();
    }
}

impl ClientState {
    /// Has nodes send more of replies in pieces, if the client has taken what came.
    pub(super) fn grant(&mut self) {
        let unread = self.out.len();
        for reply in &mut self.in_pieces {
            let bytes = match (reply.silent, reply.begun) {
                (true, _) => reply.owed.take(0),
                (_, true) => reply.owed.take(unread),
                _ => 0,
            };
            if bytes > 0
                && let Some(link) = reply.link.upgrade()
            {
                link.grant(reply.request, bytes);
            }
        }
    }

    /// Whether part of a reply was shown and its rest was not.
    pub fn is_mid_reply(&self) -> bool {
        self.in_pieces.iter().any(|reply| reply.begun)
    }

    /// Shows what the client did not ask for: at once, or behind the reply that
    /// is under way.
    pub fn show_unasked(&mut self, reply: &[u8]) {
        match self.is_mid_reply() {
            true => self.after_reply.raw(reply),
            false => self.out.raw(reply),
        }
    }

    /// The same for messages of a node.
    pub fn show_messages(&mut self, messages: Bytes) {
        let to = self.reader();
        let out = match self.is_mid_reply() {
            true => &mut self.after_reply,
            false => &mut self.out,
        };
        self.listening.show(messages, to, out);
    }

    /// Takes a part of a reply, not the last, that `link` calls `request`.
    pub fn part(&mut self, link: &Rc<Link>, request: u64, seq: u64, part: Lent<'_>, now_us: u64) {
        let Some(index) = self.index(seq) else {
            return;
        };
        let entry = &mut self.queue[index];
        // What it took is known; the rest is its client's time.
        entry.timed.iter_mut().for_each(|timed| timed.waits(now_us));
        let silent = entry.silent;
        let known = self.in_pieces.iter().position(|reply| reply.seq == seq);
        let at = known.unwrap_or_else(|| {
            self.in_pieces.push(InPieces {
                link: Rc::downgrade(link),
                request,
                seq,
                silent,
                begun: false,
                held: ReplyWriter::default(),
                owed: Owed::default(),
            });
            self.in_pieces.len() - 1
        });
        let reply = &mut self.in_pieces[at];
        reply.owed.came(part.bytes.len());
        if silent {
            return;
        }
        match index {
            0 => {
                reply.begun = true;
                self.replies().raw_bytes(part.keep());
            }
            _ => {
                reply.held.raw_bytes(part.keep());
                self.held_bytes += part.bytes.len();
            }
        }
    }

    /// A reply came to the front: shows what has come of it.
    pub(super) fn begin_front(&mut self) {
        let front = self.base;
        let at = |reply: &InPieces| reply.seq == front && !reply.begun && !reply.silent;
        let Some(at) = self.in_pieces.iter().position(at) else {
            return;
        };
        let mut held = std::mem::take(&mut self.in_pieces[at].held);
        self.in_pieces[at].begun = true;
        self.held_bytes -= held.len();
        self.replies().append(&mut held);
    }

    /// Whether parts of a reply have come.
    pub fn is_in_pieces(&self, seq: u64) -> bool {
        self.in_pieces.iter().any(|reply| reply.seq == seq)
    }

    fn take_pieces(&mut self, seq: u64) -> Option<InPieces> {
        let at = self.in_pieces.iter().position(|reply| reply.seq == seq)?;
        Some(self.in_pieces.swap_remove(at))
    }

    /// The last part of a reply has come.
    pub(super) fn complete_pieces(&mut self, seq: u64, last: &Lent<'_>) -> Option<Finished> {
        let index = self.index(seq)?;
        let mut reply = self.take_pieces(seq)?;
        let timed = match index {
            0 => {
                if !reply.silent {
                    self.replies().raw_bytes(last.keep());
                }
                let entry = self.pop();
                if reply.begun {
                    self.out.append(&mut self.after_reply);
                }
                self.release_ready();
                entry.and_then(|entry| entry.timed)
            }
            _ => {
                self.held_bytes -= reply.held.len();
                if !reply.silent {
                    reply.held.raw_bytes(last.keep());
                }
                self.held_bytes += reply.held.len();
                let entry: &mut Entry = &mut self.queue[index];
                entry.kind = Kind::Ready(Bytes::from(reply.held.to_vec()));
                entry.timed.take()
            }
        };
        timed.map(|timed| Finished {
            timed,
            failed: false,
            wire: None,
        })
    }

    /// There is no rest of a reply: what has come of it is forgotten, unless the
    /// client was shown it.
    pub fn give_up_pieces(&mut self, seq: u64) -> GivenUp {
        match self.take_pieces(seq) {
            None => GivenUp::Nothing,
            Some(reply) if reply.begun => {
                self.out = ReplyWriter::default();
                GivenUp::Begun
            }
            Some(reply) => {
                self.held_bytes -= reply.held.len();
                GivenUp::Held
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_granted_once_the_output_is_short() {
        let mut owed = Owed::default();
        assert_eq!(owed.take(0), 0, "nothing came");
        owed.came(100);
        owed.came(20);
        assert_eq!(owed.take(GRANT_BELOW + 1), 0, "too much is unread");
        assert_eq!(owed.take(GRANT_BELOW), 120);
        assert_eq!(owed.take(0), 0, "each byte once");
        owed.came(7 << 30);
        assert_eq!(owed.take(0), u32::MAX, "a grant has 32 bits");
        assert_eq!(u64::from(owed.take(0)), (7 << 30) - u64::from(u32::MAX));
    }
}
