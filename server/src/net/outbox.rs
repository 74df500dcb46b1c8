//! What a client is sent without having asked: messages, invalidations,
//! MONITOR lines.
//!
//! Anybody may put something in; only the connection's own task takes it out,
//! between two replies, and sends it. A connection that gets nothing pays one
//! relaxed load. A message is encoded under the outbox's lock, in the protocol
//! that the client speaks there, so that no message in the old protocol comes
//! behind a HELLO. Bounded by `client-output-buffer-limit`: who puts in the
//! message that is too much is told so, and cuts the client off.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_protocol::resp::{ReplyWriter, Version};
use parking_lot::Mutex;

use crate::config::Settings;

/// Of a class without a hard limit: what a client that does not read may cost
/// at most, bytes (invariant 10).
const MOST: usize = 256 << 20;

/// `client-output-buffer-limit`, as it is now.
#[derive(Default)]
pub struct OutputLimits {
    pub normal: OutputLimit,
    pub pubsub: OutputLimit,
    pub replica: OutputLimit,
}

/// The limits of one class of clients; 0: none.
#[derive(Default)]
pub struct OutputLimit {
    /// Bytes.
    hard: AtomicUsize,
    /// Bytes, which must not be exceeded for longer than `seconds`.
    soft: AtomicUsize,
    seconds: AtomicU64,
}

impl OutputLimits {
    /// Takes over what the settings are now.
    pub fn follow(&self, settings: &Settings) {
        let text = settings.text("client-output-buffer-limit");
        let words: Vec<&str> = text.split(' ').collect();
        for class in words.chunks_exact(4) {
            let limit = match class[0] {
                "normal" => &self.normal,
                "pubsub" => &self.pubsub,
                "slave" => &self.replica,
                _ => continue,
            };
            let number = |at: usize| class[at].parse().unwrap_or(0);
            limit.hard.store(number(1), Ordering::Relaxed);
            limit.soft.store(number(2), Ordering::Relaxed);
            limit.seconds.store(number(3) as u64, Ordering::Relaxed);
        }
    }
}

impl OutputLimit {
    /// The hard limit, if there is one.
    pub fn hard(&self) -> Option<usize> {
        Some(self.hard.load(Ordering::Relaxed)).filter(|hard| *hard > 0)
    }

    /// Whether a client with so many bytes waiting must go. `since`: since
    /// when it has been above the soft limit.
    fn exceeded(&self, bytes: usize, since: &mut Option<Instant>) -> bool {
        if bytes > self.hard().unwrap_or(usize::MAX) {
            return true;
        }
        let soft = self.soft.load(Ordering::Relaxed);
        if soft == 0 || bytes <= soft {
            *since = None;
            return false;
        }
        let patience = Duration::from_secs(self.seconds.load(Ordering::Relaxed));
        since.get_or_insert_with(Instant::now).elapsed() > patience
    }
}

/// One message on its way to many clients: encoded once for each protocol.
pub struct Message<'a> {
    write: &'a dyn Fn(&mut ReplyWriter),
    encoded: [Option<Bytes>; 2],
}

impl<'a> Message<'a> {
    /// `write` writes the whole message.
    pub fn new(write: &'a dyn Fn(&mut ReplyWriter)) -> Message<'a> {
        Message {
            write,
            encoded: [None, None],
        }
    }

    fn encoded(&mut self, version: Version) -> &Bytes {
        self.encoded[usize::from(version == Version::V3)].get_or_insert_with(|| {
            let mut out = ReplyWriter::new(version);
            (self.write)(&mut out);
            Bytes::from(out.to_vec())
        })
    }

    /// Writes it as part of a reply.
    pub fn put(&mut self, out: &mut ReplyWriter) {
        let bytes = self.encoded(out.version()).clone();
        out.raw_bytes(bytes);
    }
}

/// What became of a message that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is the first: the connection must be woken.
    First,
    /// The connection knows already that something waits.
    Behind,
    /// It was one too many.
    TooMuch,
    /// The client is gone.
    Gone,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Outbox {
    /// Bytes in `state`, readable without its lock.
    waiting: AtomicUsize,
    /// Held while one message is copied.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    messages: ReplyWriter,
    above_soft: Option<Instant>,
    closed: bool,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Puts a message in. `unsent`: what the connection has to send besides.
    pub(super) fn put(&self, message: &mut Message<'_>, limit: &OutputLimit, unsent: usize) -> Put {
        let mut state = self.state.lock();
        if state.closed {
            return Put::Gone;
        }
        let first = state.messages.is_empty();
        let bytes = message.encoded(state.messages.version()).clone();
        state.messages.raw_bytes(bytes);
        let waiting = state.messages.len();
        self.waiting.store(waiting, Ordering::Release);
        let all = waiting + unsent;
        if limit.exceeded(all, &mut state.above_soft) || waiting > MOST {
            state.close(&self.waiting);
            return Put::TooMuch;
        }
        match first {
            true => Put::First,
            false => Put::Behind,
        }
    }

    /// Takes everything out, behind what is in `out`.
    pub(super) fn take(&self, out: &mut ReplyWriter) {
        let mut state = self.state.lock();
        self.waiting.store(0, Ordering::Release);
        out.append(&mut state.messages);
    }

    /// What is put in from now on is written as this. `out` gets what was put
    /// in before.
    pub(super) fn speak(&self, version: Version, out: Option<&mut ReplyWriter>) {
        let mut state = self.state.lock();
        if let Some(out) = out {
            self.waiting.store(0, Ordering::Release);
            out.append(&mut state.messages);
        }
        state.messages.set_version(version);
    }

    /// Whether a client that cannot send `unsent` bytes must go.
    pub(super) fn exceeds(&self, limit: &OutputLimit, unsent: usize) -> bool {
        let mut state = self.state.lock();
        let all = state.messages.len() + unsent;
        limit.exceeded(all, &mut state.above_soft)
    }

    /// Takes nothing in any more.
    pub(super) fn close(&self) {
        self.state.lock().close(&self.waiting);
    }
}

impl State {
    fn close(&mut self, waiting: &AtomicUsize) {
        self.closed = true;
        self.messages = ReplyWriter::new(self.messages.version());
        waiting.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> OutputLimits {
        let limits = OutputLimits::default();
        let mut settings = Settings::default();
        settings.put("client-output-buffer-limit", text);
        limits.follow(&settings);
        limits
    }

    fn hello(out: &mut ReplyWriter) {
        out.push(1);
        out.bulk(b"hello");
    }

    #[test]
    fn messages_come_out_in_order_in_the_protocol_of_their_time() {
        let (outbox, limits) = (Outbox::default(), OutputLimits::default());
        let mut message = Message::new(&hello);
        assert_eq!(outbox.put(&mut message, &limits.pubsub, 0), Put::First);
        assert_eq!(outbox.put(&mut message, &limits.pubsub, 0), Put::Behind);
        let mut out = ReplyWriter::new(Version::V2);
        outbox.speak(Version::V3, Some(&mut out));
        assert_eq!(out.to_vec(), b"*1\r\n$5\r\nhello\r\n".repeat(2));
        assert!(outbox.is_empty());
        outbox.put(&mut message, &limits.pubsub, 0);
        let mut out = ReplyWriter::new(Version::V3);
        out.ok();
        outbox.take(&mut out);
        assert_eq!(out.to_vec(), b"+OK\r\n>1\r\n$5\r\nhello\r\n");
    }

    #[test]
    fn the_message_beyond_the_hard_limit_closes_the_outbox() {
        let (outbox, limits) = (Outbox::default(), limits("pubsub 40 0 0"));
        let mut message = Message::new(&hello);
        outbox.put(&mut message, &limits.pubsub, 0);
        outbox.put(&mut message, &limits.pubsub, 0);
        assert_eq!(outbox.put(&mut message, &limits.pubsub, 0), Put::TooMuch);
        assert_eq!(outbox.put(&mut message, &limits.pubsub, 0), Put::Gone);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_the_connection_has_unsent_counts() {
        let (outbox, limits) = (Outbox::default(), limits("normal 40 0 0"));
        let mut message = Message::new(&hello);
        assert_eq!(outbox.put(&mut message, &limits.normal, 30), Put::TooMuch);
    }

    #[test]
    fn the_soft_limit_is_a_matter_of_time() {
        let limits = limits("pubsub 0 10 0 normal 0 10 1000");
        let mut since = None;
        assert!(!limits.normal.exceeded(11, &mut since));
        assert!(since.is_some());
        assert!(!limits.normal.exceeded(10, &mut since));
        assert!(since.is_none());
        limits.pubsub.exceeded(11, &mut since);
        std::thread::sleep(Duration::from_millis(1));
        assert!(limits.pubsub.exceeded(11, &mut since));
    }
}
