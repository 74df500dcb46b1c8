//! Writing replies.
//!
//! A `ReplyWriter` holds the bytes that one connection has yet to be sent. It
//! is one growing buffer, plus large values that are kept apart by reference
//! and take their place in the stream when it is sent, so that they are never
//! copied. Invariants:
//! - what a RESP2 connection is sent, RESP2 can say (downgrades as Redis 7.0);
//! - an error or status line never contains a line end;
//! - `truncate` restores exactly the state at `mark`.
//!
//! Knows no commands and no sockets.

use std::io::IoSlice;

use bytes::Bytes;

use super::Version;
use super::number::format_f64;

/// Values of at least this many bytes are sent from where they are.
const LARGE_VALUE: usize = 16 * 1024;
/// An emptied buffer above this capacity is given back in part.
const RETAINED_BYTES: usize = 64 * 1024;
/// A sent prefix of at least this many bytes may be cut off the buffer.
const MIN_SENT_PREFIX: usize = 64 * 1024;

/// A value kept out of the buffer.
#[derive(Clone, Debug)]
struct Large {
    /// Where in the buffer it belongs: before the byte at this position.
    at: usize,
    value: Bytes,
}

/// The aggregate whose length is still unknown.
#[derive(Debug)]
struct Open {
    id: u64,
    /// Where its header will be inserted.
    at: usize,
    /// How many values stood before it.
    large: usize,
}

/// A point in the stream to return to. It is valid until something is sent, or
/// an aggregate begun before it gets its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    buf: usize,
    large: usize,
    large_bytes: usize,
    /// Aggregates with this id or a later one were begun after the mark.
    next_id: u64,
}

impl Mark {
    /// Bytes of the stream from `earlier`, a mark of the same writer, to here.
    #[inline]
    pub fn bytes_since(&self, earlier: Mark) -> usize {
        self.buf - earlier.buf + self.large_bytes - earlier.large_bytes
    }
}

/// An aggregate begun without its length; give it to
/// [`ReplyWriter::set_deferred`].
#[derive(Debug)]
#[must_use = "the reply is malformed until the length is set"]
pub struct Deferred {
    id: u64,
    prefix: u8,
    /// Elements on the wire for each one counted (2 for a map sent as array).
    factor: usize,
}

/// Replies that wait to be sent; see the module's header.
#[derive(Debug, Default)]
pub struct ReplyWriter {
    version: Version,
    buf: Vec<u8>,
    large: Vec<Large>,
    /// Sum of the lengths of `large`.
    large_bytes: usize,
    open: Vec<Open>,
    next_id: u64,
    /// What was sent already: bytes of `buf`, ...
    sent_buf: usize,
    /// ... values of `large`, and bytes of the first one not wholly sent.
    sent_large: usize,
    sent_of_large: usize,
    sent_large_bytes: usize,
}

impl ReplyWriter {
    pub fn new(version: Version) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Changes what later replies are written as (HELLO, RESET).
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    // Replies.

    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// A status line; line ends in it become spaces.
    pub fn simple(&mut self, status: impl AsRef<[u8]>) {
        self.line(b'+', status.as_ref());
    }

    /// An error line: the whole text with its code, such as `ERR no such key`,
    /// without the leading `-`. Line ends at its end are dropped, others
    /// become spaces, as in Redis.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let kept = text
            .iter()
            .rposition(|b| !is_line_end(b))
            .map_or(0, |at| at + 1);
        self.line(b'-', &text[..kept]);
    }

    #[inline]
    pub fn integer(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(count) => self.header(b':', count),
            Err(_) => {
                self.buf.push(b':');
                self.push_display(value);
            }
        }
    }

    /// A byte string, copied.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        // One reservation for the three pieces.
        self.buf.reserve(value.len() + 24);
        self.header(b'$', value.len() as u64);
        self.buf.extend_from_slice(value);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// A byte string; a large one is kept by reference until it is sent.
    #[inline]
    pub fn bulk_bytes(&mut self, value: Bytes) {
        if value.len() < LARGE_VALUE {
            return self.bulk(&value);
        }
        self.header(b'$', value.len() as u64);
        self.push_large(value);
        self.raw(b"\r\n");
    }

    /// A byte string or nil.
    #[inline]
    pub fn bulk_or_null(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bulk(value),
            None => self.null(),
        }
    }

    /// An integer as a byte string.
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    #[inline]
    pub fn null(&mut self) {
        match self.version {
            Version::V2 => self.raw(b"$-1\r\n"),
            Version::V3 => self.raw(b"_\r\n"),
        }
    }

    #[inline]
    pub fn null_array(&mut self) {
        match self.version {
            Version::V2 => self.raw(b"*-1\r\n"),
            Version::V3 => self.raw(b"_\r\n"),
        }
    }

    /// The header of an array; its `len` elements follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as u64);
    }

    /// The header of a map; `pairs` keys and values follow, alternating.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::V2 => self.header(b'*', pairs as u64 * 2),
            Version::V3 => self.header(b'%', pairs as u64),
        }
    }

    pub fn set(&mut self, len: usize) {
        self.aggregate(b'~', len);
    }

    /// The header of an out-of-band message; in RESP2 an array.
    pub fn push(&mut self, len: usize) {
        self.aggregate(b'>', len);
    }

    /// Attributes of the reply that follows. RESP2 has none: nothing is
    /// written, and `false` tells the caller to leave the pairs out too.
    pub fn attribute(&mut self, pairs: usize) -> bool {
        if self.version == Version::V2 {
            return false;
        }
        self.header(b'|', pairs as u64);
        true
    }

    /// A double as Redis 7.0 writes it (`%.17g`); in RESP2 a bulk string.
    pub fn double(&mut self, value: f64) {
        let mut text = Vec::with_capacity(32);
        format_f64(value, &mut text);
        match self.version {
            Version::V2 => self.bulk(&text),
            Version::V3 => self.line(b',', &text),
        }
    }

    pub fn boolean(&mut self, value: bool) {
        match (self.version, value) {
            (Version::V2, value) => self.integer(i64::from(value)),
            (Version::V3, true) => self.raw(b"#t\r\n"),
            (Version::V3, false) => self.raw(b"#f\r\n"),
        }
    }

    /// An integer of any size, given as its decimal digits.
    pub fn bignum(&mut self, digits: impl AsRef<[u8]>) {
        match self.version {
            Version::V2 => self.bulk(digits.as_ref()),
            Version::V3 => self.line(b'(', digits.as_ref()),
        }
    }

    /// Text with a three-letter format (`txt`, `mkd`); a shorter one is
    /// padded with spaces, a longer one cut.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        if self.version == Version::V2 {
            return self.bulk(text);
        }
        self.header(b'=', text.len() as u64 + 4);
        let format = format.bytes().chain(*b"   ").take(3);
        self.buf.extend(format);
        self.buf.push(b':');
        self.buf.extend_from_slice(text);
        self.raw(b"\r\n");
    }

    /// Bytes that are RESP already.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Bytes that are RESP already; many of them are kept by reference.
    pub fn raw_bytes(&mut self, bytes: Bytes) {
        match bytes.len() < LARGE_VALUE {
            true => self.raw(&bytes),
            false => self.push_large(bytes),
        }
    }

    // Lengths that are known only later.

    pub fn deferred_array(&mut self) -> Deferred {
        self.defer(b'*', 1)
    }

    pub fn deferred_map(&mut self) -> Deferred {
        match self.version {
            Version::V2 => self.defer(b'*', 2),
            Version::V3 => self.defer(b'%', 1),
        }
    }

    pub fn deferred_set(&mut self) -> Deferred {
        match self.version {
            Version::V2 => self.defer(b'*', 1),
            Version::V3 => self.defer(b'~', 1),
        }
    }

    /// Gives an aggregate its length (pairs, for a map). Does nothing if the
    /// aggregate was undone by [`ReplyWriter::truncate`].
    ///
    /// Moves what was written since, large values excepted.
    pub fn set_deferred(&mut self, deferred: Deferred, len: usize) {
        let Some(index) = self.open.iter().rposition(|o| o.id == deferred.id) else {
            return;
        };
        let Open { at, large, .. } = self.open.remove(index);
        let end = self.buf.len();
        self.header(deferred.prefix, (len * deferred.factor) as u64);
        let inserted = self.buf.len() - end;
        self.buf[at..].rotate_right(inserted);
        for value in &mut self.large[large..] {
            value.at += inserted;
        }
        for later in &mut self.open[index..] {
            later.at += inserted;
        }
    }

    // Undoing.

    /// The current end of the stream.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark {
            buf: self.buf.len(),
            large: self.large.len(),
            large_bytes: self.large_bytes,
            next_id: self.next_id,
        }
    }

    /// Takes back all that was written since `mark`: a command that fails
    /// midway leaves only its error.
    pub fn truncate(&mut self, mark: Mark) {
        debug_assert!(mark.buf >= self.sent_buf, "marks do not outlive a send");
        self.buf.truncate(mark.buf);
        self.large.truncate(mark.large);
        self.large_bytes = mark.large_bytes;
        self.open.retain(|open| open.id < mark.next_id);
    }

    // Sending.

    /// Bytes that wait to be sent.
    #[inline]
    pub fn len(&self) -> usize {
        self.buf.len() - self.sent_buf + self.large_bytes - self.sent_large_bytes
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `slices` with what is to be sent next and returns how many of
    /// them are in use. Tell [`ReplyWriter::advance`] how much was sent.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        for segment in self.segments().take(slices.len()) {
            slices[used] = IoSlice::new(segment);
            used += 1;
        }
        used
    }

    /// What waits to be sent, in order, without empty parts.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = self.sent_buf;
        let mut skip = self.sent_of_large;
        let waiting = &self.large[self.sent_large..];
        let values = waiting.iter().map(|v| (v.at, &v.value[..]));
        values
            .chain([(self.buf.len(), &[][..])])
            .flat_map(move |(until, value)| {
                let copied = &self.buf[at..until];
                let referenced = &value[skip..];
                (at, skip) = (until, 0);
                [copied, referenced]
            })
            .filter(|segment| !segment.is_empty())
    }

    /// Forgets the next `sent` bytes. Ends the life of all marks.
    ///
    /// # Panics
    /// If fewer bytes are waiting.
    pub fn advance(&mut self, mut sent: usize) {
        assert!(sent <= self.len(), "more was sent than was there");
        debug_assert!(self.open.is_empty(), "an unfinished reply was sent");
        while sent > 0 {
            let until = self
                .large
                .get(self.sent_large)
                .map_or(self.buf.len(), |v| v.at);
            let copied = sent.min(until - self.sent_buf);
            self.sent_buf += copied;
            sent -= copied;
            if sent > 0 {
                sent -= self.advance_large(sent);
            }
        }
        self.reclaim();
    }

    /// Forgets everything that was not sent.
    pub fn clear(&mut self) {
        self.sent_buf = self.buf.len();
        self.sent_large = self.large.len();
        self.sent_large_bytes = self.large_bytes;
        self.sent_of_large = 0;
        self.open.clear();
        self.reclaim();
    }

    /// Moves all that `other` has yet to send behind what is here, keeping its
    /// large values by reference; `other` is empty afterwards.
    pub fn append(&mut self, other: &mut ReplyWriter) {
        debug_assert!(other.open.is_empty(), "an unfinished reply was appended");
        if self.is_empty() && other.sent_buf == 0 && self.buf.capacity() < other.buf.len() {
            // Nothing to put it behind: trade buffers instead of copying.
            self.swap_contents(other);
        } else {
            self.append_range(other, other.unsent(), other.mark());
        }
        other.clear();
    }

    /// Copies what `other` holds between two of its marks behind what is here,
    /// keeping large values by reference (one batch's replies go to many
    /// connections).
    pub fn append_range(&mut self, other: &ReplyWriter, from: Mark, to: Mark) {
        let mut at = from.buf;
        for large in &other.large[from.large..to.large] {
            self.raw(&other.buf[at..large.at]);
            self.push_large(large.value.clone());
            at = large.at;
        }
        self.raw(&other.buf[at..to.buf]);
    }

    /// The error that a reply between two marks is, with its `-`; `None`: it is none.
    pub fn error_between(&self, from: Mark, to: Mark) -> Option<&[u8]> {
        let reply = self.buf.get(from.buf..to.buf)?;
        (reply.first() == Some(&b'-')).then_some(reply)
    }

    /// Everything that waits to be sent, in one piece; for tests and tools.
    pub fn to_vec(&self) -> Vec<u8> {
        self.segments().collect::<Vec<_>>().concat()
    }

    // Building blocks.

    /// `<kind><count>\r\n`, fast for the small counts that most are.
    #[inline]
    fn header(&mut self, kind: u8, count: u64) {
        let digit = |n: u64| b'0' + (n % 10) as u8;
        match count {
            0..10 => self.raw(&[kind, digit(count), b'\r', b'\n']),
            10..100 => self.raw(&[kind, digit(count / 10), digit(count), b'\r', b'\n']),
            100..1000 => self.raw(&[
                kind,
                digit(count / 100),
                digit(count / 10),
                digit(count),
                b'\r',
                b'\n',
            ]),
            _ => {
                self.buf.push(kind);
                self.push_display(count);
            }
        }
    }

    fn push_display(&mut self, value: impl itoa::Integer) {
        self.raw(itoa::Buffer::new().format(value).as_bytes());
        self.raw(b"\r\n");
    }

    fn aggregate(&mut self, resp3: u8, len: usize) {
        match self.version {
            Version::V2 => self.header(b'*', len as u64),
            Version::V3 => self.header(resp3, len as u64),
        }
    }

    /// One line of text, in which line ends become spaces.
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.buf.push(kind);
        let clean = text.iter().map(|byte| match byte {
            b'\r' | b'\n' => b' ',
            other => *other,
        });
        self.buf.extend(clean);
        self.raw(b"\r\n");
    }

    fn push_large(&mut self, value: Bytes) {
        self.large_bytes += value.len();
        let at = self.buf.len();
        self.large.push(Large { at, value });
    }

    fn defer(&mut self, prefix: u8, factor: usize) -> Deferred {
        let id = self.next_id;
        self.next_id += 1;
        let (at, large) = (self.buf.len(), self.large.len());
        self.open.push(Open { id, at, large });
        Deferred { id, prefix, factor }
    }

    /// Where the stream begins that was not sent yet.
    fn unsent(&self) -> Mark {
        debug_assert_eq!(self.sent_of_large, 0, "a reply is moved whole");
        Mark {
            buf: self.sent_buf,
            large: self.sent_large,
            ..self.mark()
        }
    }

    fn swap_contents(&mut self, other: &mut ReplyWriter) {
        std::mem::swap(&mut self.buf, &mut other.buf);
        std::mem::swap(&mut self.large, &mut other.large);
        std::mem::swap(&mut self.large_bytes, &mut other.large_bytes);
        std::mem::swap(&mut self.sent_buf, &mut other.sent_buf);
        std::mem::swap(&mut self.sent_large, &mut other.sent_large);
        std::mem::swap(&mut self.sent_large_bytes, &mut other.sent_large_bytes);
    }

    /// Marks up to `sent` bytes of the first waiting large value as sent, and
    /// lets go of it once all are. Returns how many were marked.
    fn advance_large(&mut self, sent: usize) -> usize {
        let large = &mut self.large[self.sent_large];
        let taken = sent.min(large.value.len() - self.sent_of_large);
        self.sent_of_large += taken;
        self.sent_large_bytes += taken;
        if self.sent_of_large == large.value.len() {
            let len = large.value.len();
            large.value = Bytes::new();
            self.large_bytes -= len;
            self.sent_large_bytes -= len;
            self.sent_large += 1;
            self.sent_of_large = 0;
        }
        taken
    }

    /// Reuses the space of what was sent: all of it when nothing waits, or the
    /// prefix once it is the larger part, so that each byte moves at most once.
    fn reclaim(&mut self) {
        if self.is_empty() {
            self.buf.clear();
            self.buf.shrink_to(RETAINED_BYTES);
            self.large.clear();
            self.large_bytes = 0;
            self.sent_large_bytes = 0;
            self.sent_buf = 0;
            self.sent_large = 0;
        } else if self.sent_buf >= MIN_SENT_PREFIX && self.sent_buf > self.buf.len() / 2 {
            self.buf.drain(..self.sent_buf);
            self.large.drain(..self.sent_large);
            for large in &mut self.large {
                large.at -= self.sent_buf;
            }
            self.sent_buf = 0;
            self.sent_large = 0;
        }
    }
}
