//! The end of the stream, kept for replicas that come back soon.
//!
//! It is there from the first replica on, and for `repl-backlog-ttl` after the last one
//! has gone. As long as it is, what changes is told to it, and what has expired goes by
//! the log alone, as for a replica.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::storage::Hold;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Backlog {
    bytes: VecDeque<u8>,
    /// Since when there is no replica.
    idle: Option<Instant>,
    /// Of the last replica that has gone.
    holds: Vec<Hold>,
}

impl Backlog {
    /// One that begins here, without a replica so far.
    pub fn begin(hold: Hold) -> Backlog {
        let mut backlog = Backlog::default();
        backlog.be_idle(vec![hold]);
        backlog
    }

    /// Adds the stream's next bytes; no more than `size` are kept.
    pub fn push(&mut self, bytes: &[u8], size: usize) {
        let bytes = &bytes[bytes.len().saturating_sub(size)..];
        let over = (self.bytes.len() + bytes.len()).saturating_sub(size);
        self.bytes.drain(..over);
        self.bytes.extend(bytes);
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The last `missing` bytes, if they are there.
    pub fn last(&self, missing: u64) -> Option<Vec<u8>> {
        let missing = usize::try_from(missing).ok()?;
        let from = self.bytes.len().checked_sub(missing)?;
        Some(self.bytes.range(from..).copied().collect())
    }

    /// The last replica has gone; what it held is held on.
    pub fn be_idle(&mut self, holds: Vec<Hold>) {
        self.idle = Some(Instant::now());
        self.holds = holds;
    }

    /// There is a replica again.
    pub fn be_used(&mut self) {
        self.idle = None;
        self.holds.clear();
    }

    /// Whether nobody has come back for so long; 0: never.
    pub fn is_over(&self, after: Duration) -> bool {
        !after.is_zero() && self.idle.is_some_and(|since| since.elapsed() > after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_no_others() {
        let mut backlog = Backlog::default();
        backlog.push(b"abc", 5);
        assert_eq!(backlog.last(3).as_deref(), Some(&b"abc"[..]));
        assert_eq!(backlog.last(0).as_deref(), Some(&b""[..]));
        assert_eq!(backlog.last(4), None);
        backlog.push(b"defg", 5);
        assert_eq!(backlog.last(5).as_deref(), Some(&b"cdefg"[..]));
        assert_eq!(backlog.last(6), None);
        backlog.push(b"0123456789", 5);
        assert_eq!(backlog.last(5).as_deref(), Some(&b"56789"[..]));
        backlog.push(b"x", 2);
        assert_eq!((backlog.len(), backlog.last(2)), (2, Some(b"9x".to_vec())));
        assert_eq!(backlog.last(u64::MAX), None);
    }

    #[test]
    fn it_ends_only_after_a_while_without_replicas() {
        let mut backlog = Backlog::default();
        let (soon, never) = (Duration::from_nanos(1), Duration::ZERO);
        assert!(!backlog.is_over(soon), "a replica is there");
        backlog.be_idle(Vec::new());
        std::thread::sleep(Duration::from_millis(1));
        assert!(backlog.is_over(soon) && !backlog.is_over(never));
        backlog.be_used();
        assert!(!backlog.is_over(soon));
    }
}
