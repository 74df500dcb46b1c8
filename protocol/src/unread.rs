//! Replies that clients have yet to take, of all clients of a program together.
//!
//! Many client libraries send a whole pipeline before they read the first reply. A
//! program that stops to read such a client's requests until its replies have left
//! would wait for a client that waits for it. So replies are kept, and requests read
//! on, as long as all that is kept stays within a bound; beyond it a client is not read
//! before it reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all clients have, in bytes.
#[derive(Debug, Default)]
pub struct Unread {
    total: AtomicUsize,
}

/// What one client has of it. Given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<Unread>,
    bytes: usize,
}

impl Unread {
    /// The share of a client, which has nothing unread yet.
    pub fn share(self: &Arc<Self>) -> Share {
        Share {
            of: self.clone(),
            bytes: 0,
        }
    }

    /// Bytes kept for all clients.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Bytes kept for this client.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Has the share be `now` bytes. False, and it stays as it is, if it would grow and
    /// all clients together had more than `most`.
    pub fn keep(&mut self, now: usize, most: usize) -> bool {
        let total = &self.of.total;
        if now > self.bytes {
            let more = now - self.bytes;
            if total.fetch_add(more, Ordering::Relaxed) + more > most {
                total.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        } else if now < self.bytes {
            total.fetch_sub(self.bytes - now, Ordering::Relaxed);
        }
        self.bytes = now;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.keep(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_keep_to_the_bound() {
        let unread = Arc::new(Unread::default());
        let (mut first, mut second) = (unread.share(), unread.share());
        assert!(first.keep(60, 100) && !second.keep(41, 100) && second.keep(40, 100));
        assert!(!first.keep(61, 100) && first.keep(60, 100));
        assert_eq!((first.bytes(), unread.total()), (60, 100));
        assert!(first.keep(10, 5), "less is never refused");
        drop(second);
        assert_eq!(unread.total(), 10);
        drop(first);
        assert_eq!(unread.total(), 0);
    }
}
