//! Complete requests and views of their arguments.
//!
//! A `Requests` is a batch: one shared buffer and the positions of every
//! argument in it. Filled by the parser it owns nothing but those positions;
//! filled by hand (MULTI queue, scripts, tests) it owns a copy of the bytes.
//! Both vectors are reused from batch to batch, so that neither a request nor
//! an argument costs an allocation.

use std::ops::Range;

use bytes::Bytes;

use super::limits::{Limits, ProtocolError};
use super::request::parse_one;

/// Vectors above this many entries are given back when a batch is cleared:
/// one request of a million arguments must not cost its memory for ever.
const RETAINED_ENTRIES: usize = 16 * 1024;
/// The same for the bytes of a batch that was filled by hand.
const RETAINED_BYTES: usize = 64 * 1024;
/// Marks a request whose bytes are not laid out as a RESP array.
const NOT_ON_WIRE: u32 = u32::MAX;

/// Where one argument lies in its batch's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ArgRange {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// Where one request lies in its batch.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// One past its last argument in `ranges`.
    args_end: u32,
    /// Where its RESP form begins in the buffer, or `NOT_ON_WIRE`.
    wire_start: u32,
}

/// A batch of complete requests, in the order they were sent.
#[derive(Debug, Default)]
pub struct Requests {
    /// The parsed bytes; empty when the batch was filled by hand.
    shared: Bytes,
    /// Copied bytes; used only while `shared` is empty.
    owned: Vec<u8>,
    pub(super) ranges: Vec<ArgRange>,
    spans: Vec<Span>,
}

impl Requests {
    /// Number of requests.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The arguments of request `index`, the command name first.
    ///
    /// # Panics
    /// If there is no such request.
    #[inline]
    pub fn get(&self, index: usize) -> Args<'_> {
        let span = self.spans[index];
        Args {
            data: self.data(),
            ranges: &self.ranges[self.args_start(index)..span.args_end as usize],
            shared: (!self.shared.is_empty()).then_some(&self.shared),
            wire_start: span.wire_start,
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Args<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Forgets all requests and lets go of their bytes.
    pub fn clear(&mut self) {
        self.shared = Bytes::new();
        self.owned.clear();
        self.owned.shrink_to(RETAINED_BYTES);
        self.ranges.clear();
        self.ranges.shrink_to(RETAINED_ENTRIES);
        self.spans.clear();
        self.spans.shrink_to(RETAINED_ENTRIES);
    }

    /// Appends a request, copying its arguments.
    ///
    /// # Panics
    /// If the batch would exceed 4 GiB; callers bound what they queue.
    pub fn push_owned<A: AsRef<[u8]>>(&mut self, args: impl IntoIterator<Item = A>) {
        if !self.shared.is_empty() {
            // Positions stay valid: the copy begins where the original did.
            self.owned.clear();
            self.owned.extend_from_slice(&self.shared);
            self.shared = Bytes::new();
        }
        for arg in args {
            let start = position(self.owned.len());
            self.owned.extend_from_slice(arg.as_ref());
            let end = position(self.owned.len());
            self.ranges.push(ArgRange { start, end });
        }
        self.finish(NOT_ON_WIRE);
    }

    /// Appends a copy of one request of another batch, which is thereby not
    /// kept alive (a MULTI queue must not pin its connection's read buffers).
    pub fn push_copy(&mut self, args: Args<'_>) {
        self.push_owned(args.iter());
    }

    /// Appends arguments to the last request, copying them.
    ///
    /// # Panics
    /// If there is no request, or the batch was not filled by hand alone, or
    /// it would exceed 4 GiB.
    pub fn extend_last<A: AsRef<[u8]>>(&mut self, args: impl IntoIterator<Item = A>) {
        assert!(self.shared.is_empty(), "parsed requests do not grow");
        let last = self.spans.pop().expect("a request to extend");
        debug_assert_eq!(last.args_end as usize, self.ranges.len());
        self.push_owned(args);
    }

    /// A batch of one request that shares the bytes of this one.
    ///
    /// Costs a reference and the positions, whatever the arguments' size, but
    /// keeps the whole read buffer alive.
    ///
    /// # Panics
    /// If there is no such request.
    pub fn share(&self, index: usize) -> Requests {
        let mut one = Requests::default();
        if self.shared.is_empty() {
            one.push_copy(self.get(index));
            return one;
        }
        let span = self.spans[index];
        one.shared = self.shared.clone();
        one.ranges
            .extend_from_slice(&self.ranges[self.args_start(index)..span.args_end as usize]);
        one.finish(span.wire_start);
        one
    }

    /// Appends the one request that `buffer[range]` is, in wire form, without
    /// copying it: the batch keeps `buffer` alive.
    ///
    /// # Errors
    /// Those bytes are not exactly one multi-bulk request; the batch is as it
    /// was.
    ///
    /// # Panics
    /// If the batch holds requests of another buffer (see
    /// [`Requests::shares`]).
    pub fn push_shared(
        &mut self,
        buffer: &Bytes,
        range: Range<usize>,
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        if self.shares(buffer) {
            // As it is: the batch may go on.
        } else {
            assert!(self.spans.is_empty(), "a batch has one buffer");
            self.owned.clear();
            self.shared = buffer.clone();
        }
        parse_one(&buffer[..range.end], range.start, limits, self)
    }

    /// Appends the one request that `wire` is, in wire form, copying it.
    ///
    /// # Errors
    /// As [`Requests::push_shared`].
    ///
    /// # Panics
    /// As [`Requests::push_owned`].
    pub fn push_wire(&mut self, wire: &[u8], limits: &Limits) -> Result<(), ProtocolError> {
        if !self.shared.is_empty() {
            self.owned.clear();
            self.owned.extend_from_slice(&self.shared);
            self.shared = Bytes::new();
        }
        let start = self.owned.len();
        let mut owned = std::mem::take(&mut self.owned);
        owned.extend_from_slice(wire);
        position(owned.len());
        let parsed = parse_one(&owned, start, limits, self);
        if parsed.is_err() {
            owned.truncate(start);
        }
        self.owned = owned;
        parsed
    }

    /// Appends request `index` of a batch over the same buffer: costs its
    /// positions alone.
    ///
    /// # Panics
    /// If the two do not share a buffer, or there is no such request.
    pub fn push_sharing(&mut self, other: &Requests, index: usize) {
        if !self.shares(&other.shared) {
            assert!(self.spans.is_empty(), "a batch has one buffer");
            self.owned.clear();
            self.shared = other.shared.clone();
        }
        let span = other.spans[index];
        let ranges = &other.ranges[other.args_start(index)..span.args_end as usize];
        self.ranges.extend_from_slice(ranges);
        self.finish(span.wire_start);
    }

    /// Whether this batch is over exactly that buffer.
    #[inline]
    pub fn shares(&self, buffer: &Bytes) -> bool {
        !buffer.is_empty()
            && self.shared.as_ptr() == buffer.as_ptr()
            && self.shared.len() == buffer.len()
    }

    /// Forgets the last request, keeping its buffer.
    pub fn pop(&mut self) {
        self.spans.pop();
        self.forget_partial();
    }

    /// Forgets arguments that belong to no complete request.
    pub(super) fn forget_partial(&mut self) {
        self.ranges.truncate(self.complete_args());
    }

    /// Number of arguments of all complete requests.
    pub(super) fn complete_args(&self) -> usize {
        self.spans.last().map_or(0, |span| span.args_end as usize)
    }

    /// Makes one request of the ranges pushed since the last one.
    #[inline]
    pub(super) fn finish_wire(&mut self, wire_start: usize) {
        self.finish(wire_start as u32);
    }

    /// The same, for a request that came as an inline line.
    pub(super) fn finish_inline(&mut self) {
        self.finish(NOT_ON_WIRE);
    }

    /// Gives the batch the bytes that its positions speak of.
    pub(super) fn attach(&mut self, bytes: Bytes) {
        self.shared = bytes;
    }

    #[inline]
    fn finish(&mut self, wire_start: u32) {
        self.spans.push(Span {
            args_end: self.ranges.len() as u32,
            wire_start,
        });
    }

    #[inline]
    fn args_start(&self, index: usize) -> usize {
        match index {
            0 => 0,
            _ => self.spans[index - 1].args_end as usize,
        }
    }

    #[inline]
    fn data(&self) -> &[u8] {
        match self.shared.is_empty() {
            true => &self.owned,
            false => &self.shared,
        }
    }
}

fn position(at: usize) -> u32 {
    u32::try_from(at).expect("a batch filled by hand is bounded far below 4 GiB")
}

/// The arguments of one request; cheap to copy.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    data: &'a [u8],
    ranges: &'a [ArgRange],
    /// The buffer behind `data`, when it is reference-counted.
    shared: Option<&'a Bytes>,
    wire_start: u32,
}

impl<'a> Args<'a> {
    /// Number of arguments, the command name included; at least 1 for a
    /// request that came from the parser.
    #[inline]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Argument `index`; 0 is the command name.
    ///
    /// # Panics
    /// If there is no such argument: arity is checked before a command runs.
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        let range = self.ranges[index];
        &self.data[range.start as usize..range.end as usize]
    }

    /// Argument `index`, if there is one.
    #[inline]
    pub fn try_get(&self, index: usize) -> Option<&'a [u8]> {
        let range = self.ranges.get(index)?;
        Some(&self.data[range.start as usize..range.end as usize])
    }

    /// Argument `index` as a value that outlives the batch: a reference into
    /// the read buffer, or a copy when the batch was filled by hand.
    ///
    /// A small argument kept this way keeps its whole read buffer alive; copy
    /// what is to be kept for long.
    ///
    /// # Panics
    /// If there is no such argument.
    pub fn bytes(&self, index: usize) -> Bytes {
        let range = self.ranges[index];
        match self.shared {
            Some(shared) => shared.slice(range.start as usize..range.end as usize),
            None => Bytes::copy_from_slice(self.get(index)),
        }
    }

    /// All arguments in order, the command name first.
    #[inline]
    pub fn iter(&self) -> ArgsIter<'a> {
        ArgsIter {
            data: self.data,
            ranges: self.ranges.iter(),
        }
    }

    /// The arguments from `first` on; empty if there are not so many.
    pub fn slice_from(&self, first: usize) -> Args<'a> {
        Args {
            ranges: self.ranges.get(first..).unwrap_or(&[]),
            wire_start: NOT_ON_WIRE,
            ..*self
        }
    }

    /// The arguments from `first` to before `end`; fewer if there are not so many.
    pub fn slice(&self, first: usize, end: usize) -> Args<'a> {
        let end = end.min(self.ranges.len());
        Args {
            ranges: self.ranges.get(first..end).unwrap_or(&[]),
            wire_start: NOT_ON_WIRE,
            ..*self
        }
    }

    /// The whole request as it came over the wire, for passing it on. `None`
    /// for an inline request, a slice, or a request made by hand.
    pub fn wire(&self) -> Option<&'a [u8]> {
        let last = self.ranges.last()?;
        (self.wire_start != NOT_ON_WIRE)
            .then(|| &self.data[self.wire_start as usize..last.end as usize + 2])
    }

    /// [`Args::wire`] as a value that outlives the batch, without a copy.
    pub fn wire_bytes(&self) -> Option<Bytes> {
        let wire = self.wire()?;
        let start = self.wire_start as usize;
        Some(self.shared?.slice(start..start + wire.len()))
    }

    /// Sum of the arguments' lengths in bytes.
    pub fn payload_len(&self) -> usize {
        self.ranges.iter().map(|r| (r.end - r.start) as usize).sum()
    }
}

impl std::fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|arg| arg.escape_ascii().to_string()))
            .finish()
    }
}

impl<'a> IntoIterator for Args<'a> {
    type Item = &'a [u8];
    type IntoIter = ArgsIter<'a>;

    fn into_iter(self) -> ArgsIter<'a> {
        self.iter()
    }
}

/// Iterator over the arguments of one request.
#[derive(Clone, Debug)]
pub struct ArgsIter<'a> {
    data: &'a [u8],
    ranges: std::slice::Iter<'a, ArgRange>,
}

impl<'a> Iterator for ArgsIter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let range = self.ranges.next()?;
        Some(&self.data[range.start as usize..range.end as usize])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranges.size_hint()
    }
}

impl ExactSizeIterator for ArgsIter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(_: &(impl Send + Sync)) {}

    #[test]
    fn a_batch_filled_by_hand_gives_back_what_was_pushed() {
        let mut batch = Requests::default();
        batch.push_owned(["SET", "k", ""]);
        batch.push_owned([b"GET".as_slice(), b"k"]);
        sent(&batch);
        assert_eq!(batch.len(), 2);
        let set = batch.get(0);
        assert_eq!(set.iter().collect::<Vec<_>>(), [&b"SET"[..], b"k", b""]);
        assert_eq!(set.try_get(3), None);
        assert_eq!(set.bytes(1), "k");
        assert_eq!(set.wire(), None);
        assert_eq!(set.payload_len(), 4);
        assert_eq!(set.slice_from(1).len(), 2);
        assert_eq!(set.slice_from(9).len(), 0);
        assert_eq!(set.slice(1, 2).iter().collect::<Vec<_>>(), [b"k"]);
        assert_eq!((set.slice(1, 9).len(), set.slice(2, 1).len()), (2, 0));
        assert_eq!(batch.get(1).get(0), b"GET");
        batch.extend_last(["x", "y"]);
        assert_eq!(
            batch.get(1).iter().collect::<Vec<_>>(),
            [&b"GET"[..], b"k", b"x", b"y"]
        );
        assert_eq!(batch.len(), 2);
        batch.clear();
        assert!(batch.is_empty());
    }

    #[test]
    fn single_requests_share_their_buffer_or_are_copied() {
        let buffer = Bytes::from_static(b"head*2\r\n$3\r\nGET\r\n$1\r\nk\r\ntail");
        let range = 4..buffer.len() - 4;
        let limits = Limits::default();
        let mut batch = Requests::default();
        batch.push_shared(&buffer, range.clone(), &limits).unwrap();
        batch.push_shared(&buffer, range.clone(), &limits).unwrap();
        let mut other = Requests::default();
        other.push_sharing(&batch, 1);
        other.push_wire(&buffer[range.clone()], &limits).unwrap();
        for (batch, len) in [(&batch, 2), (&other, 2)] {
            assert_eq!(batch.len(), len);
            for args in batch.iter() {
                assert_eq!(args.iter().collect::<Vec<_>>(), [&b"GET"[..], b"k"]);
                assert_eq!(args.wire(), Some(&buffer[range.clone()]));
            }
        }
        assert!(batch.get(0).wire_bytes().is_some());
        batch.pop();
        assert_eq!(batch.get(0).get(1), b"k");
        batch.pop();
        assert!(batch.is_empty());
    }

    #[test]
    fn what_is_not_exactly_one_request_leaves_the_batch_as_it_was() {
        let good = &b"*1\r\n$4\r\nPING\r\n"[..];
        let bad = [
            &b""[..],
            b"*0\r\n",
            b"*-1\r\n",
            b"PING\r\n",
            b"*1\r\n$4\r\nPING\r",
            b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
            b"*2\r\n$4\r\nPING\r\n$9",
            b"*2\r\n$4\r\nPING\r\n:1\r\n",
            b"*99999999\r\n$4\r\n",
        ];
        for wire in bad {
            let mut batch = Requests::default();
            batch.push_wire(good, &Limits::default()).unwrap();
            batch.push_wire(wire, &Limits::default()).unwrap_err();
            batch.push_wire(good, &Limits::default()).unwrap();
            assert_eq!(batch.len(), 2);
            assert_eq!(batch.get(1).wire(), Some(good));
            let mut shared = Requests::default();
            let buffer = Bytes::copy_from_slice(&[good, wire].concat());
            let range = good.len()..buffer.len();
            shared
                .push_shared(&buffer, range, &Limits::default())
                .unwrap_err();
            shared
                .push_shared(&buffer, 0..good.len(), &Limits::default())
                .unwrap();
            assert_eq!(shared.get(0).wire(), Some(good));
        }
    }

    #[test]
    fn clearing_gives_back_the_memory_of_an_outsized_batch() {
        let mut batch = Requests::default();
        batch.push_owned((0..200_000).map(|_| "x"));
        batch.clear();
        assert!(batch.ranges.capacity() <= RETAINED_ENTRIES);
        assert!(batch.owned.capacity() <= RETAINED_BYTES);
    }
}
