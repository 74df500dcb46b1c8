//! Bytes that wait to be written to a node.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Commands of at least this many bytes are sent from where they are.
const LARGE: usize = 16 * 1024;
/// An emptied buffer above this capacity is given back.
const RETAINED: usize = 1 << 20;
/// Pieces of one vectored write.
const MAX_SLICES: usize = 16;

/// A queue of bytes: small pieces are gathered in one buffer, large ones keep
/// their place in the stream without being copied.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    sealed: VecDeque<Bytes>,
    sealed_len: usize,
    tail: BytesMut,
    /// Bytes ever taken out by [`Self::advance`].
    written: u64,
}

impl Outbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.sealed_len + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Position in the stream of the next byte to be put in.
    pub fn end(&self) -> u64 {
        self.written + self.len() as u64
    }

    /// Bytes of the stream that were handed to the kernel.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The buffer to append small frames to.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends a header and its payload.
    pub fn put(&mut self, header: &[u8], payload: &Bytes) {
        if payload.len() < LARGE {
            self.tail.reserve(header.len() + payload.len());
            self.tail.extend_from_slice(header);
            self.tail.extend_from_slice(payload);
            return;
        }
        self.tail.extend_from_slice(header);
        self.seal(self.tail.len());
        self.sealed_len += payload.len();
        self.sealed.push_back(payload.clone());
    }

    fn seal(&mut self, len: usize) {
        if len > 0 {
            self.sealed.push_back(self.tail.split_to(len).freeze());
            self.sealed_len += len;
        }
    }

    /// What to write next.
    pub fn slices<'a>(&'a self, room: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut used = 0;
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        for piece in self
            .sealed
            .iter()
            .map(|b| &b[..])
            .chain(tail)
            .take(MAX_SLICES)
        {
            room[used] = IoSlice::new(piece);
            used += 1;
        }
        used
    }

    /// Room for [`Self::slices`].
    pub fn room<'a>() -> [IoSlice<'a>; MAX_SLICES] {
        [IoSlice::new(&[]); MAX_SLICES]
    }

    /// Forgets the first `n` bytes.
    pub fn advance(&mut self, mut n: usize) {
        self.written += n as u64;
        while n > 0 {
            let Some(front) = self.sealed.front_mut() else {
                self.tail.advance(n);
                break;
            };
            let cut = n.min(front.len());
            front.advance(cut);
            self.sealed_len -= cut;
            n -= cut;
            if front.is_empty() {
                self.sealed.pop_front();
            }
        }
        if self.tail.is_empty() {
            if self.tail.capacity() > RETAINED {
                self.tail = BytesMut::new();
            } else {
                // Nothing else holds the buffer: this makes its room whole again.
                self.tail.clear();
            }
        }
    }

    /// Forgets what was not written; the stream begins anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(outbox: &Outbox) -> Vec<u8> {
        let mut room = Outbox::room();
        let used = outbox.slices(&mut room);
        room[..used].iter().flat_map(|s| s.to_vec()).collect()
    }

    #[test]
    fn large_payloads_keep_their_place() {
        let mut outbox = Outbox::default();
        let large = Bytes::from(vec![b'x'; LARGE]);
        outbox.put(b"1", &Bytes::from_static(b"a"));
        outbox.put(b"2", &large);
        outbox.put(b"3", &Bytes::from_static(b"b"));
        let mut want = b"1a2".to_vec();
        want.extend_from_slice(&large);
        want.extend_from_slice(b"3b");
        assert_eq!(all(&outbox), want);
        assert_eq!(
            (outbox.len(), outbox.end()),
            (want.len(), want.len() as u64)
        );
        for cut in [1, 2, 100, LARGE - 99] {
            outbox.advance(cut);
            want.drain(..cut);
            assert_eq!(all(&outbox), want);
        }
        outbox.advance(want.len());
        assert!(outbox.is_empty());
        assert_eq!(outbox.written(), outbox.end());
    }
}
