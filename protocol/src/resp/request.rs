//! Reading requests: RESP arrays of bulk strings, and inline lines.
//!
//! Owned by one connection, beside its input buffer. Invariants:
//! - no byte of a request is parsed twice, however many pieces it comes in;
//! - the result does not depend on where the pieces were cut;
//! - memory follows what was received, never what was announced;
//! - requests before a malformed one are still delivered.
//!
//! Redis's `processInlineBuffer` and `processMultibulkBuffer` are the model,
//! texts included. Stricter in one point: a header or an argument that is not
//! followed by CRLF is an error, where Redis skips two bytes unseen.

use bytes::{BufMut, BytesMut};

use super::args::{ArgRange, Requests};
use super::inline::split_in_place;
use super::limits::{Limits, ProtocolError};
use super::number::parse_i64;

/// No further request is begun in a batch of this many bytes, so that all
/// positions fit in 32 bits (see [`Limits::MAX_REQUEST_BYTES`]).
const MAX_BATCH_BYTES: usize = 512 << 20;
/// An announced argument of at least this many bytes makes the parser reserve.
const BIG_BULK: usize = 32 * 1024;
/// First reservation for such an argument; each later one makes the buffer three times as
/// large at most.
const FIRST_RESERVE: usize = 64 * 1024;
/// Room that is left behind such an argument. Whoever reads with less would make the
/// buffer grow, which doubles it.
const SPARE: usize = 8 * 1024;
/// With so much room the next read has enough.
const ENOUGH: usize = 16 * 1024;
/// The fast path reads at most this many digits; longer lengths are too large.
const SHORT_DIGITS: usize = 9;

/// A resumable parser of requests; see the module's header.
#[derive(Debug, Default)]
pub struct RequestParser {
    /// Arguments of the current request that are still to come; 0 between
    /// requests.
    args_left: usize,
    /// Length of the argument whose header was read but not yet its bytes.
    bulk: Option<usize>,
    /// Start of the current request in the input; 0 between calls.
    start: usize,
    /// Next byte to parse.
    pos: usize,
    /// The current line has no end before this position.
    searched: usize,
    /// Positions of the arguments of an unfinished request, between calls.
    partial: Vec<ArgRange>,
    failed: Option<ProtocolError>,
}

impl RequestParser {
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves up to `max_requests` (at least 1) complete requests from `input` to `out`,
    /// replacing what was there, and returns their number.
    ///
    /// Call it again, with or without new input, until it answers `Ok(0)`:
    /// that means that more bytes are needed. Empty requests are skipped
    /// silently. The bytes of an unfinished request stay in `input`, which
    /// must only be appended to between calls.
    ///
    /// # Errors
    /// The input is malformed. Requests before the malformed one are handed
    /// out first; the error comes from the call after that, and from every
    /// later one.
    pub fn parse(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
        max_requests: usize,
        out: &mut Requests,
    ) -> Result<usize, ProtocolError> {
        out.clear();
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !self.partial.is_empty() {
            std::mem::swap(&mut self.partial, &mut out.ranges);
        }
        let outcome = self.fill(input, limits, max_requests, out);
        self.hand_over(input, out);
        if let Err(error) = outcome {
            self.failed = Some(error);
            self.partial = Vec::new();
            if out.is_empty() {
                return Err(error);
            }
        }
        self.reserve(input);
        Ok(out.len())
    }

    /// Bytes that are known to be missing from the current request; 0 when
    /// unknown. A hint for the size of the next read.
    pub fn missing(&self, input: &BytesMut) -> usize {
        self.bulk
            .map_or(0, |len| (self.pos + len + 2).saturating_sub(input.len()))
    }

    /// After `Ok(0)`: true if the input ends in the middle of a request.
    pub fn is_partial(&self, input: &BytesMut) -> bool {
        self.failed.is_none() && !input.is_empty()
    }

    fn fill(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
        max_requests: usize,
        out: &mut Requests,
    ) -> Result<(), ProtocolError> {
        let buf: &mut [u8] = input;
        while out.len() < max_requests && self.start <= MAX_BATCH_BYTES {
            let progress = if self.args_left > 0 {
                self.arguments(buf, limits, out)?
            } else {
                match buf.get(self.start) {
                    None => false,
                    Some(b'*') => self.array_header(buf, limits)?,
                    Some(_) => self.inline(buf, limits, out)?,
                }
            };
            if !progress {
                break;
            }
        }
        Ok(())
    }

    /// Reads `*N\r\n`. False when its end has not come yet.
    #[inline]
    fn array_header(&mut self, buf: &[u8], limits: &Limits) -> Result<bool, ProtocolError> {
        let claimed = match short_length(buf, self.pos + 1) {
            Some((claimed, next)) => {
                self.pos = next;
                claimed
            }
            None => {
                let Some(claimed) = self.long_array_header(buf, limits)? else {
                    return Ok(false);
                };
                claimed
            }
        };
        self.args_left = limits.check_args(claimed)?;
        if claimed == 0 {
            self.start = self.pos;
        }
        Ok(true)
    }

    /// The same for headers that are incomplete, unusual or wrong. A negative
    /// count counts as 0: Redis ignores such a request.
    #[cold]
    fn long_array_header(
        &mut self,
        buf: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        let too_big = ProtocolError::MultibulkCountTooBig;
        let Some(end) = self.header_end(buf, limits, too_big)? else {
            return Ok(None);
        };
        let count = parse_i64(&buf[self.pos + 1..end])
            .filter(|_| buf[end + 1] == b'\n')
            .ok_or(ProtocolError::InvalidMultibulkLength)?;
        self.pos = end + 2;
        Ok(Some(usize::try_from(count).unwrap_or(0)))
    }

    /// Reads arguments until the request is complete (true) or the input ends
    /// (false).
    #[inline]
    fn arguments(
        &mut self,
        buf: &[u8],
        limits: &Limits,
        out: &mut Requests,
    ) -> Result<bool, ProtocolError> {
        while self.args_left > 0 {
            let len = match self.bulk.take() {
                Some(len) => len,
                None => match self.bulk_header(buf, limits)? {
                    Some(len) => len,
                    None => return Ok(false),
                },
            };
            let end = self.pos + len;
            let Some(terminator) = buf.get(end..end + 2) else {
                self.bulk = Some(len);
                return Ok(false);
            };
            if terminator != b"\r\n" {
                return Err(ProtocolError::InvalidBulkLength);
            }
            out.ranges.push(ArgRange {
                start: self.pos as u32,
                end: end as u32,
            });
            self.pos = end + 2;
            self.args_left -= 1;
        }
        out.finish_wire(self.start);
        self.start = self.pos;
        Ok(true)
    }

    /// Reads `$N\r\n`. `None` when its end has not come yet.
    #[inline]
    fn bulk_header(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        let claimed = match (buf.get(self.pos), short_length(buf, self.pos + 1)) {
            (Some(b'$'), Some((claimed, next))) => {
                self.pos = next;
                claimed
            }
            _ => {
                let Some(claimed) = self.long_bulk_header(buf, limits)? else {
                    return Ok(None);
                };
                claimed
            }
        };
        let before = self.pos - self.start;
        limits.check_bulk(claimed, before).map(Some)
    }

    /// The same for headers that are incomplete, unusual or wrong.
    #[cold]
    fn long_bulk_header(
        &mut self,
        buf: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        let too_big = ProtocolError::BulkCountTooBig;
        let Some(end) = self.header_end(buf, limits, too_big)? else {
            return Ok(None);
        };
        if buf[self.pos] != b'$' {
            return Err(ProtocolError::ExpectedBulk(buf[self.pos]));
        }
        let length = parse_i64(&buf[self.pos + 1..end])
            .filter(|_| buf[end + 1] == b'\n')
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(ProtocolError::InvalidBulkLength)?;
        self.pos = end + 2;
        Ok(Some(length))
    }

    /// Position of the CR that ends the current header line, once the byte
    /// after it is there too.
    fn header_end(
        &mut self,
        buf: &[u8],
        limits: &Limits,
        too_big: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let end = self.line_end(buf, b'\r', limits, too_big)?;
        Ok(end.filter(|cr| cr + 1 < buf.len()))
    }

    /// Reads one inline line. False when its end has not come yet.
    #[cold]
    fn inline(
        &mut self,
        buf: &mut [u8],
        limits: &Limits,
        out: &mut Requests,
    ) -> Result<bool, ProtocolError> {
        let too_big = ProtocolError::InlineTooBig;
        let Some(newline) = self.line_end(buf, b'\n', limits, too_big)? else {
            return Ok(false);
        };
        let line_end = match newline > self.start && buf[newline - 1] == b'\r' {
            true => newline - 1,
            false => newline,
        };
        let args_before = out.ranges.len();
        split_in_place(buf, self.start, line_end, &mut out.ranges)?;
        if out.ranges.len() > args_before {
            out.finish_inline();
        }
        self.pos = newline + 1;
        self.start = self.pos;
        Ok(true)
    }

    /// Position of the first `mark` from `pos` on.
    ///
    /// A NUL hides what follows it, as it does from Redis's `strchr`: such a
    /// line never ends and is refused once it is too long.
    fn line_end(
        &mut self,
        buf: &[u8],
        mark: u8,
        limits: &Limits,
        too_big: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let from = self.searched.max(self.pos);
        let stop = buf[from..].iter().position(|b| *b == mark || *b == 0);
        let stop = stop.map_or(buf.len(), |offset| from + offset);
        self.searched = stop;
        let found = buf.get(stop) == Some(&mark);
        let seen = if found { stop } else { buf.len() };
        if seen - self.pos > limits.max_inline {
            return Err(too_big);
        }
        Ok(found.then_some(stop))
    }

    /// Splits the complete requests off the input and keeps the positions of
    /// an unfinished one, which now begins at the input's start.
    fn hand_over(&mut self, input: &mut BytesMut, out: &mut Requests) {
        let complete = out.complete_args();
        if complete == 0 && !out.ranges.is_empty() {
            // By swap: an unfinished request of many arguments in many pieces
            // would otherwise be copied once per piece.
            std::mem::swap(&mut self.partial, &mut out.ranges);
        } else {
            self.partial.extend(out.ranges.drain(complete..));
        }
        if self.start == 0 {
            return;
        }
        for range in &mut self.partial {
            range.start -= self.start as u32;
            range.end -= self.start as u32;
        }
        let taken = input.split_to(self.start);
        if !out.is_empty() {
            out.attach(taken.freeze());
        }
        self.pos -= self.start;
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
    }

    /// Makes room for a large announced argument: at most twice as much again as
    /// was received, so that the announcement alone costs next to nothing and
    /// the copying stays linear; and no more than is announced.
    fn reserve(&self, input: &mut BytesMut) {
        if self.bulk.is_none_or(|len| len < BIG_BULK) {
            return;
        }
        let (missing, room) = (self.missing(input), input.capacity() - input.len());
        if room >= ENOUGH.min(missing + SPARE) {
            return;
        }
        let more = missing.min((2 * input.len()).max(FIRST_RESERVE)) + SPARE;
        if !input.try_reclaim(more) {
            let mut grown = BytesMut::with_capacity(input.len() + more);
            grown.extend_from_slice(input);
            *input = grown;
        }
    }
}

/// Reads the one multi-bulk request that `buf[start..]` must be, whole and
/// with nothing behind it, into `out`.
///
/// # Errors
/// It is not; nothing was added then.
pub(super) fn parse_one(
    buf: &[u8],
    start: usize,
    limits: &Limits,
    out: &mut Requests,
) -> Result<(), ProtocolError> {
    let mut parser = RequestParser {
        start,
        pos: start,
        ..RequestParser::default()
    };
    let before = out.len();
    let whole = match buf.get(start) {
        Some(b'*') => parser.array_header(buf, limits).and_then(|header| {
            Ok(header && parser.args_left > 0 && parser.arguments(buf, limits, out)?)
        }),
        _ => Ok(false),
    };
    if matches!(whole, Ok(true)) && parser.pos == buf.len() {
        return Ok(());
    }
    if out.len() > before {
        out.pop();
    }
    out.forget_partial();
    whole.and(Err(ProtocolError::InvalidMultibulkLength))
}

/// Reads `N\r\n` at `at` for the usual short, well-formed number; returns it
/// and the position after the line. `None` sends the caller to the slow path.
#[inline]
fn short_length(buf: &[u8], at: usize) -> Option<(usize, usize)> {
    let line = buf.get(at..)?;
    let mut value = 0_usize;
    for (digits, byte) in line.iter().take(SHORT_DIGITS + 1).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let whole = *byte == b'\r' && line.get(digits + 1) == Some(&b'\n');
            let canonical = digits == 1 || (digits > 1 && line[0] != b'0');
            return (whole && canonical).then_some((value, at + digits + 2));
        }
        value = value.wrapping_mul(10).wrapping_add(digit as usize);
    }
    None
}

/// Appends a request in wire form: an array of bulk strings.
pub fn encode_request<A: AsRef<[u8]>>(
    out: &mut impl BufMut,
    args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
) {
    let args = args.into_iter();
    put_header(out, b'*', args.len());
    for arg in args {
        let arg = arg.as_ref();
        put_header(out, b'$', arg.len());
        out.put_slice(arg);
        out.put_slice(b"\r\n");
    }
}

fn put_header(out: &mut impl BufMut, kind: u8, count: usize) {
    out.put_u8(kind);
    out.put_slice(itoa::Buffer::new().format(count).as_bytes());
    out.put_slice(b"\r\n");
}
