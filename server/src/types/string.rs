//! Strings: inline in the record, or spread over fragments.
//!
//! A string of at most `string_inline_max` bytes is its record's payload. A
//! longer one is spread: the header holds version and length, the record's
//! own bytes the fragment size, and the family `payload` the fragments:
//!
//! ```text
//! record   header (spread: version, length) | fragment size u32 BE
//! row      slot u16 | generation u32 | version (12 bytes) | fragment number u32 BE  ->  bytes
//! ```
//!
//! Bytes that are not there (a row that is missing or shorter than its
//! fragment) are zeros, so a hole costs nothing; changes touch only the
//! fragments that they cover. Bitmaps and HyperLogLogs build on this.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use cairn_protocol::resp::number::parse_i64;
use rocksdb::Direction;

use super::{decode, overwrite};
use crate::storage::keys::sub_key;
use crate::storage::{Header, KeyType, MetaKey, Record, Spread, Version};
use crate::txn::effects::Family;
use crate::txn::{CommandError, Txn};

/// Fragment size of newly written strings, bytes. Replies send fragments of
/// this size from where they are.
pub const FRAGMENT: usize = 16 << 10;
/// Longest string that Redis keeps in one allocation with its object.
const EMBSTR_MAX: usize = 44;
/// Longest text of a 64-bit integer.
const INTEGER_MAX: usize = 20;

const TOO_LONG: CommandError =
    CommandError::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
static ZEROS: [u8; FRAGMENT] = [0; FRAGMENT];

/// A string as its record shows it.
#[derive(Clone, Copy)]
pub struct StringValue<'r> {
    header: Header,
    /// Kept here, not asked of `body`: an optimised build that asked an
    /// `Option<StringValue>` for its length read the length by the body's tag
    /// before it looked whether there was a value (rustc 1.95, BITOP of a key
    /// that does not exist: SIGSEGV).
    len: u64,
    body: Body<'r>,
}

#[derive(Clone, Copy)]
enum Body<'r> {
    Inline(&'r [u8]),
    Spread(Fragments),
}

/// Where the rows of a spread string are.
#[derive(Clone, Copy)]
struct Fragments {
    version: Version,
    /// Length of the string, bytes.
    len: u64,
    /// Bytes per fragment.
    size: u64,
}

impl<'r> StringValue<'r> {
    /// # Errors
    /// `WRONGTYPE` if the record is of another type.
    pub fn of(record: &'r Record) -> Result<StringValue<'r>, CommandError> {
        let (header, payload) = decode(record)?;
        if header.key_type != KeyType::String {
            return Err(CommandError::WRONG_TYPE);
        }
        let body = match header.spread {
            None => Body::Inline(payload),
            Some(spread) => Body::Spread(Fragments::of(spread, payload)?),
        };
        let len = match body {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::Spread(fragments) => fragments.len,
        };
        Ok(StringValue { header, len, body })
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Unix time in ms.
    pub fn expires_at(&self) -> Option<u64> {
        self.header.expires_at
    }

    /// The whole value, if it lies in the record.
    pub fn inline(&self) -> Option<&'r [u8]> {
        match self.body {
            Body::Inline(bytes) => Some(bytes),
            Body::Spread(_) => None,
        }
    }

    /// The value as an integer, in Redis's strict form.
    pub fn integer(&self) -> Option<i64> {
        self.inline().and_then(parse_i64)
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match self.body {
            Body::Spread(_) => "raw",
            Body::Inline(_) if self.header.edited => "raw",
            Body::Inline(bytes) if self.is_integer(bytes) => "int",
            Body::Inline(bytes) if bytes.len() <= EMBSTR_MAX => "embstr",
            Body::Inline(_) => "raw",
        }
    }

    fn is_integer(&self, bytes: &[u8]) -> bool {
        !self.header.no_integer && bytes.len() <= INTEGER_MAX && parse_i64(bytes).is_some()
    }

    /// Shows `take` the bytes of `range`, in order and in pieces that share
    /// memory. Reads only the fragments that it covers.
    ///
    /// `range` must lie within the string.
    pub fn pieces(
        &self,
        txn: &mut Txn<'_>,
        key: &MetaKey,
        range: Range<u64>,
        mut take: impl FnMut(Bytes),
    ) -> Result<(), CommandError> {
        match self.body {
            Body::Inline(bytes) => {
                let range = range.start as usize..range.end as usize;
                take(Bytes::copy_from_slice(&bytes[range]));
                Ok(())
            }
            Body::Spread(fragments) => fragments.pieces(txn, key, range, &mut take),
        }
    }

    /// Shows `visit` the bytes of `range` that are not in a hole: where each
    /// piece begins, and the piece. Holes cost nothing.
    ///
    /// `range` must lie within the string.
    pub fn stored(
        &self,
        txn: &mut Txn<'_>,
        key: &MetaKey,
        range: Range<u64>,
        visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), CommandError> {
        if range.is_empty() {
            return Ok(());
        }
        match self.body {
            Body::Inline(bytes) => {
                let piece = &bytes[range.start as usize..range.end as usize];
                let _ = visit(range.start, piece);
                Ok(())
            }
            Body::Spread(fragments) => fragments.stored(txn, key, range, visit),
        }
    }

    /// The bytes of `range`, which must lie within the string.
    pub fn read(
        &self,
        txn: &mut Txn<'_>,
        key: &MetaKey,
        range: Range<u64>,
    ) -> Result<Cow<'r, [u8]>, CommandError> {
        if let Body::Inline(bytes) = self.body {
            return Ok(Cow::Borrowed(
                &bytes[range.start as usize..range.end as usize],
            ));
        }
        let mut out = Vec::with_capacity((range.end - range.start) as usize);
        self.pieces(txn, key, range, |piece| out.extend_from_slice(&piece))?;
        Ok(Cow::Owned(out))
    }

    /// The bytes of `range`, without those of a hole at its end.
    ///
    /// `range` must lie within the string.
    pub fn read_stored(
        &self,
        txn: &mut Txn<'_>,
        key: &MetaKey,
        range: Range<u64>,
    ) -> Result<Cow<'r, [u8]>, CommandError> {
        match self.body {
            Body::Spread(fragments) => fragments.read_stored(txn, key, range).map(Cow::Owned),
            Body::Inline(_) => self.read(txn, key, range),
        }
    }

    /// The whole value.
    pub fn read_all(
        &self,
        txn: &mut Txn<'_>,
        key: &MetaKey,
    ) -> Result<Cow<'r, [u8]>, CommandError> {
        self.read(txn, key, 0..self.len())
    }
}

impl Fragments {
    fn of(spread: Spread, own: &[u8]) -> Result<Fragments, CommandError> {
        let size = own.first_chunk().copied().map_or(0, u32::from_be_bytes) as u64;
        let numbers = spread.size.checked_div(size);
        if numbers.is_none_or(|n| n > u32::MAX as u64) {
            return Err(CommandError::Corrupt("the fragment size of a string"));
        }
        Ok(Fragments {
            version: spread.version,
            len: spread.size,
            size,
        })
    }

    fn row_key(&self, key: &MetaKey, number: u64) -> Vec<u8> {
        let number = (number as u32).to_be_bytes();
        sub_key(key.slot(), key.generation(), self.version, &number)
    }

    /// Numbers of the fragments that hold some of `range`.
    fn numbers(&self, range: &Range<u64>) -> Range<u64> {
        range.start / self.size..range.end.div_ceil(self.size)
    }

    fn pieces(
        &self,
        txn: &mut Txn<'_>,
        key: &MetaKey,
        range: Range<u64>,
        take: &mut dyn FnMut(Bytes),
    ) -> Result<(), CommandError> {
        if range.is_empty() {
            return Ok(());
        }
        for number in self.numbers(&range) {
            let base = number * self.size;
            let from = (range.start.max(base) - base) as usize;
            let to = (range.end.min(base + self.size) - base) as usize;
            let row = txn
                .row(Family::Payload, &self.row_key(key, number))?
                .unwrap_or_default();
            let there = row.len().clamp(from, to);
            if there > from {
                take(row.slice(from..there));
            }
            let mut hole = to - there;
            while hole > 0 {
                let zeros = hole.min(ZEROS.len());
                take(Bytes::from_static(&ZEROS[..zeros]));
                hole -= zeros;
            }
        }
        Ok(())
    }

    fn read_stored(
        &self,
        txn: &mut Txn<'_>,
        key: &MetaKey,
        range: Range<u64>,
    ) -> Result<Vec<u8>, CommandError> {
        let mut out = Vec::new();
        if range.is_empty() {
            return Ok(out);
        }
        for number in self.numbers(&range) {
            let Some(row) = txn.row(Family::Payload, &self.row_key(key, number))? else {
                continue;
            };
            let base = number * self.size;
            let from = range.start.max(base) - base;
            let to = (range.end.min(base + self.size) - base).min(row.len() as u64);
            if from < to {
                out.resize((base + from - range.start) as usize, 0);
                out.extend_from_slice(&row[from as usize..to as usize]);
            }
        }
        Ok(out)
    }

    fn stored(
        &self,
        txn: &mut Txn<'_>,
        key: &MetaKey,
        range: Range<u64>,
        visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), CommandError> {
        let numbers = self.numbers(&range);
        let first = self.row_key(key, numbers.start);
        let mut end = self.row_key(key, numbers.end - 1);
        end.push(0);
        let forward = Direction::Forward;
        txn.scan_rows(Family::Payload, &first, &end, forward, &mut |row, value| {
            let number = row.last_chunk().copied().map_or(0, u32::from_be_bytes);
            let base = u64::from(number) * self.size;
            let from = range.start.max(base) - base;
            let to = (range.end.min(base + self.size) - base).min(value.len() as u64);
            if from >= to {
                return ControlFlow::Continue(());
            }
            visit(base + from, &value[from as usize..to as usize])
        })
    }

    fn record(&self, key: &MetaKey, expires_at: Option<u64>, edited: bool) -> Record {
        let spread = Some(Spread::new(self.version, self.len));
        let header = Header {
            spread,
            edited,
            ..Header::inline(KeyType::String, expires_at)
        };
        Record::new(key, &header, &(self.size as u32).to_be_bytes())
    }
}

/// Refuses a string of `len` bytes plus `more` if it exceeds proto-max-bulk-len.
pub fn check_len(txn: &Txn<'_>, len: u64, more: u64) -> Result<(), CommandError> {
    match len.checked_add(more) {
        Some(total) if total <= txn.context().max_bulk as u64 => Ok(()),
        _ => Err(TOO_LONG),
    }
}

/// Sets `key` to `value`, whatever it was. `old` is its record now.
pub fn set(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    old: Option<&Record>,
    value: &[u8],
    expires_at: Option<u64>,
) -> Result<(), CommandError> {
    set_as(
        txn,
        key,
        old,
        value,
        Header::inline(KeyType::String, expires_at),
    )
}

/// [`set`] for a value that OBJECT ENCODING does not call `int`, whatever its text.
pub fn set_no_integer(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    old: Option<&Record>,
    value: &[u8],
    expires_at: Option<u64>,
) -> Result<(), CommandError> {
    let header = Header {
        no_integer: true,
        ..Header::inline(KeyType::String, expires_at)
    };
    set_as(txn, key, old, value, header)
}

/// [`set`] for a value that OBJECT ENCODING calls `raw` whatever its length.
pub fn set_edited(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    old: Option<&Record>,
    value: &[u8],
    expires_at: Option<u64>,
) -> Result<(), CommandError> {
    let header = Header {
        edited: true,
        ..Header::inline(KeyType::String, expires_at)
    };
    set_as(txn, key, old, value, header)
}

/// A command has opened the string of `record` for writing and changed nothing: OBJECT
/// ENCODING calls it `raw` from now on all the same.
pub fn mark_edited(txn: &mut Txn<'_>, key: &MetaKey, record: &Record) -> Result<(), CommandError> {
    if StringValue::of(record)?.encoding() == "raw" {
        return Ok(());
    }
    let (header, payload) = decode(record)?;
    let header = Header {
        edited: true,
        ..header
    };
    txn.put(key, Record::new(key, &header, payload))
}

/// `header`: of an inline string.
fn set_as(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    old: Option<&Record>,
    value: &[u8],
    header: Header,
) -> Result<(), CommandError> {
    if let Some(old) = old {
        overwrite(txn, key, old);
    }
    if value.len() <= txn.context().string_inline_max {
        return txn.put(key, Record::new(key, &header, value));
    }
    let fragments = Fragments {
        version: txn.next_version(),
        len: value.len() as u64,
        size: FRAGMENT as u64,
    };
    for (number, chunk) in value.chunks(FRAGMENT).enumerate() {
        let row = fragments.row_key(key, number as u64);
        txn.put_row(Family::Payload, row, Bytes::copy_from_slice(chunk));
    }
    txn.put(key, fragments.record(key, header.expires_at, header.edited))
}

/// Makes the bytes of a range of a string.
pub type MakePart<'p> = dyn FnMut(&mut Txn<'_>, Range<u64>) -> Result<Vec<u8>, CommandError> + 'p;

/// Sets `key` to a string of `len` bytes that `part` makes range by range,
/// in order; it may read what the key was, and leave zeros at the end out.
/// What is all zeros costs nothing.
/// OBJECT ENCODING calls it `raw`.
pub fn set_by_parts(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    old: Option<&Record>,
    len: u64,
    part: &mut MakePart<'_>,
) -> Result<(), CommandError> {
    if len <= txn.context().string_inline_max as u64 {
        let mut value = part(txn, 0..len)?;
        value.resize(len as usize, 0);
        return set_edited(txn, key, old, &value, None);
    }
    let fragments = Fragments {
        version: txn.next_version(),
        len,
        size: FRAGMENT as u64,
    };
    for number in fragments.numbers(&(0..len)) {
        let start = number * fragments.size;
        let value = part(txn, start..(start + fragments.size).min(len))?;
        if value.iter().any(|byte| *byte != 0) {
            let row = fragments.row_key(key, number);
            txn.put_row(Family::Payload, row, value.into());
        }
    }
    if let Some(old) = old {
        overwrite(txn, key, old);
    }
    txn.put(key, fragments.record(key, None, true))
}

/// Writes `bytes` at `offset` of the string `old` (`None`: there is no key),
/// with zeros up to there if it is shorter, and keeps its expiry. The caller
/// has checked the length ([`check_len`]).
///
/// Returns the new length.
pub fn write_at(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    old: Option<&Record>,
    offset: u64,
    bytes: &[u8],
) -> Result<u64, CommandError> {
    let old = old.map(StringValue::of).transpose()?;
    let expires_at = old.and_then(|old| old.expires_at());
    let len = old
        .map_or(0, |old| old.len())
        .max(offset + bytes.len() as u64);
    let (inline, fragments) = match old.map(|old| old.body) {
        Some(Body::Spread(fragments)) => (None, Fragments { len, ..fragments }),
        inline => {
            let inline = match inline {
                Some(Body::Inline(inline)) => inline,
                _ => &[],
            };
            if len <= txn.context().string_inline_max as u64 {
                let record = spliced(key, expires_at, inline, offset, bytes);
                txn.put(key, record)?;
                return Ok(len);
            }
            let version = txn.next_version();
            (
                Some(inline),
                Fragments {
                    version,
                    len,
                    size: FRAGMENT as u64,
                },
            )
        }
    };
    fragments.write(txn, key, inline, offset, bytes)?;
    txn.put(key, fragments.record(key, expires_at, true))?;
    Ok(len)
}

/// An inline string with `bytes` at `offset`.
fn spliced(
    key: &MetaKey,
    expires_at: Option<u64>,
    old: &[u8],
    offset: u64,
    bytes: &[u8],
) -> Record {
    let header = Header {
        edited: true,
        ..Header::inline(KeyType::String, expires_at)
    };
    let head = header.encoded_len();
    let offset = offset as usize;
    let end = offset + bytes.len();
    Record::build(key.physical(), head + end.max(old.len()), |out| {
        header.encode_into(out);
        let body = &mut out[head..];
        body[..old.len()].copy_from_slice(old);
        body[offset..end].copy_from_slice(bytes);
    })
}

impl Fragments {
    /// Writes `bytes` at `offset` into the rows they cover. `inline`: there are
    /// no rows yet, these bytes are the whole string so far.
    fn write(
        &self,
        txn: &mut Txn<'_>,
        key: &MetaKey,
        inline: Option<&[u8]>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), CommandError> {
        let covered = match bytes.is_empty() {
            true => 0..0,
            false => self.numbers(&(offset..offset + bytes.len() as u64)),
        };
        let converted = self.numbers(&(0..inline.map_or(0, |i| i.len() as u64)));
        for number in converted
            .clone()
            .chain(covered.start.max(converted.end)..covered.end)
        {
            let patch = Patch::of(number * self.size, self.size, offset, bytes);
            let row = self.row_key(key, number);
            let value = match inline {
                Some(inline) => {
                    let from = (number * self.size).min(inline.len() as u64) as usize;
                    let to = (from + self.size as usize).min(inline.len());
                    patch.over(&inline[from..to])
                }
                None if patch.bytes.len() as u64 == self.size => {
                    Bytes::copy_from_slice(patch.bytes)
                }
                None => patch.over(&txn.row(Family::Payload, &row)?.unwrap_or_default()),
            };
            txn.put_row(Family::Payload, row, value);
        }
        Ok(())
    }
}

/// The part of a write that falls into one fragment.
struct Patch<'a> {
    at: usize,
    bytes: &'a [u8],
}

impl<'a> Patch<'a> {
    fn of(base: u64, size: u64, offset: u64, bytes: &'a [u8]) -> Patch<'a> {
        let first = base.saturating_sub(offset).min(bytes.len() as u64);
        let last = (base + size).saturating_sub(offset).min(bytes.len() as u64);
        let at = offset.saturating_sub(base).min(size) as usize;
        Patch {
            at,
            bytes: &bytes[first as usize..last as usize],
        }
    }

    fn over(&self, old: &[u8]) -> Bytes {
        if self.bytes.is_empty() {
            return Bytes::copy_from_slice(old);
        }
        let end = self.at + self.bytes.len();
        let mut value = Vec::with_capacity(old.len().max(end));
        value.extend_from_slice(old);
        value.resize(old.len().max(end), 0);
        value[self.at..end].copy_from_slice(self.bytes);
        value.into()
    }
}

/// Copies the rows of a spread string under the version of `new`.
pub(super) fn copy_fragments(
    txn: &mut Txn<'_>,
    record: &Record,
    from: &MetaKey,
    to: &MetaKey,
    new: Spread,
) -> Result<(), CommandError> {
    let Body::Spread(fragments) = StringValue::of(record)?.body else {
        return Ok(());
    };
    let copy = Fragments {
        version: new.version,
        ..fragments
    };
    for number in fragments.numbers(&(0..fragments.len)) {
        if let Some(row) = txn.row(Family::Payload, &fragments.row_key(from, number))? {
            txn.put_row(Family::Payload, copy.row_key(to, number), row);
        }
    }
    Ok(())
}
