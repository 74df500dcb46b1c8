//! Finding the end of a backend's reply without building it.
//!
//! A proxy passes replies on as they are; it only needs to know where each one
//! ends. Owned by the reader of one backend connection. Invariants:
//! - no byte is looked at twice, however many pieces a reply comes in;
//! - nesting costs a counter per level, not stack, and is bounded;
//! - nothing is allocated for an announced length.
//!
//! Reads all of RESP2 and RESP3 except streamed types, which Redis never
//! sends. Lengths and line ends are checked, the content of scalars is not.

use smallvec::SmallVec;

use super::number::parse_i64;

/// Bounds on one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Aggregates within aggregates.
    pub max_depth: usize,
    /// Longest status, error or number, in bytes.
    pub max_line: usize,
    /// Longest byte string, in bytes.
    pub max_bulk: usize,
    /// Longest reply as a whole, in bytes.
    pub max_frame: usize,
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self {
            max_depth: 128,
            max_line: 1 << 20,
            // A value may have grown by APPEND to the bulk limit; leave room.
            max_bulk: 1 << 30,
            max_frame: 4 << 30,
        }
    }
}

/// Why bytes are no reply. The backend connection cannot be used any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("malformed reply: unknown type byte {0:#04x}")]
    UnknownType(u8),
    #[error("malformed reply: invalid length")]
    InvalidLength,
    #[error("malformed reply: missing CRLF")]
    MissingLineEnd,
    #[error("malformed reply: streamed types are not supported")]
    Streamed,
    #[error("malformed reply: nested too deeply")]
    TooDeep,
    #[error("malformed reply: line or value too long")]
    TooLong,
}

/// An aggregate whose elements are still coming.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Elements to come, the current one included; at least 1.
    left: u64,
    /// Attributes decorate the element after them and are none themselves.
    attribute: bool,
}

/// A resumable scanner for the end of one reply after the other.
#[derive(Debug, Default)]
pub struct FrameScanner {
    limits: ScanLimits,
    /// Next byte to look at, from the start of the reply.
    pos: usize,
    /// The current line has no end before this position.
    searched: usize,
    /// End of the current byte string and its CRLF, once its length is known.
    bulk_end: Option<usize>,
    levels: SmallVec<[Level; 8]>,
}

impl FrameScanner {
    pub fn new(limits: ScanLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// The length of the reply at the start of `buf`, or `None` if more bytes
    /// are needed: then call again with the same bytes and more behind them.
    /// After a length the scanner expects the next reply at the start.
    ///
    /// # Errors
    /// The bytes are no reply; the scanner must not be used again.
    pub fn scan(&mut self, buf: &[u8]) -> Result<Option<usize>, ScanError> {
        while let Some(finished_element) = self.step(buf)? {
            if finished_element && self.finish_element() {
                let length = self.pos;
                self.pos = 0;
                self.searched = 0;
                return Ok(Some(length));
            }
        }
        Ok(None)
    }

    /// Bytes that are known to be missing; 0 when unknown. A hint for the size
    /// of the next read.
    pub fn missing(&self, buf: &[u8]) -> usize {
        self.bulk_end.map_or(0, |end| end.saturating_sub(buf.len()))
    }

    /// Reads one line or one byte string; true if that ends an element.
    /// `None` when it is not all there yet.
    #[inline]
    fn step(&mut self, buf: &[u8]) -> Result<Option<bool>, ScanError> {
        if let Some(end) = self.bulk_end {
            return self.bulk_bytes(buf, end);
        }
        let Some(end) = self.line_end(buf)? else {
            return Ok(None);
        };
        let (kind, line) = (buf[self.pos], &buf[self.pos + 1..end]);
        self.pos = end + 2;
        match kind {
            b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => Ok(Some(true)),
            b'$' if line == b"-1" => Ok(Some(true)),
            b'$' | b'=' | b'!' => {
                let length = self.length(line)?;
                self.bulk_end = Some(length);
                Ok(Some(false))
            }
            b'*' if line == b"-1" => Ok(Some(true)),
            b'*' | b'~' | b'>' => self.open(line, 1, false),
            b'%' => self.open(line, 2, false),
            b'|' => self.open(line, 2, true),
            b';' | b'.' => Err(ScanError::Streamed),
            other => Err(ScanError::UnknownType(other)),
        }
    }

    fn bulk_bytes(&mut self, buf: &[u8], end: usize) -> Result<Option<bool>, ScanError> {
        let Some(terminator) = buf.get(end - 2..end) else {
            return Ok(None);
        };
        if terminator != b"\r\n" {
            return Err(ScanError::MissingLineEnd);
        }
        self.bulk_end = None;
        self.pos = end;
        Ok(Some(true))
    }

    /// Where the byte string that is announced by `line` ends.
    fn length(&self, line: &[u8]) -> Result<usize, ScanError> {
        let length = usize::try_from(count(line)?).map_err(|_| ScanError::TooLong)?;
        if length > self.limits.max_bulk {
            return Err(ScanError::TooLong);
        }
        let end = self.pos + length + 2;
        match end > self.limits.max_frame {
            true => Err(ScanError::TooLong),
            false => Ok(end),
        }
    }

    /// Enters an aggregate of `line` times `factor` elements.
    fn open(
        &mut self,
        line: &[u8],
        factor: u64,
        attribute: bool,
    ) -> Result<Option<bool>, ScanError> {
        let left = count(line)?
            .checked_mul(factor)
            .ok_or(ScanError::InvalidLength)?;
        if left == 0 {
            return Ok(Some(!attribute));
        }
        if self.levels.len() == self.limits.max_depth {
            return Err(ScanError::TooDeep);
        }
        self.levels.push(Level { left, attribute });
        Ok(Some(false))
    }

    /// Counts an element that ended; true if the reply ended with it.
    #[inline]
    fn finish_element(&mut self) -> bool {
        while let Some(level) = self.levels.last_mut() {
            level.left -= 1;
            if level.left > 0 {
                return false;
            }
            let attribute = level.attribute;
            self.levels.pop();
            if attribute {
                return false;
            }
        }
        true
    }

    /// Position of the CR that ends the current line, once its LF is there.
    #[inline]
    fn line_end(&mut self, buf: &[u8]) -> Result<Option<usize>, ScanError> {
        let from = self.searched.max(self.pos);
        let end = buf[from..].iter().position(|byte| *byte == b'\r');
        let end = end.map_or(buf.len(), |offset| from + offset);
        self.searched = end;
        if end - self.pos > self.limits.max_line || end > self.limits.max_frame {
            return Err(ScanError::TooLong);
        }
        match buf.get(end + 1) {
            None => Ok(None),
            // An empty line has no type byte.
            Some(b'\n') if end == self.pos => Err(ScanError::UnknownType(b'\r')),
            Some(b'\n') => Ok(Some(end)),
            Some(_) => Err(ScanError::MissingLineEnd),
        }
    }
}

/// The number in a length line.
fn count(line: &[u8]) -> Result<u64, ScanError> {
    if line == b"?" {
        return Err(ScanError::Streamed);
    }
    parse_i64(line)
        .and_then(|count| u64::try_from(count).ok())
        .ok_or(ScanError::InvalidLength)
}
