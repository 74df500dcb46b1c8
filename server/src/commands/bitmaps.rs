//! Bitmap commands. Wire side only: arguments in, reply out.
//! A bitmap is a string (`types::string`); its holes cost nothing here.
//! BITFIELD is in `bitfield`.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::{integer, is};
use crate::storage::{MetaKey, Record};
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::delete_key;
use crate::types::string::{self, StringValue};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("bitcount", Handler::Read(bitcount)),
    ("bitop", Handler::Write(bitop)),
    ("bitpos", Handler::Read(bitpos)),
    ("getbit", Handler::Read(getbit)),
    ("setbit", Handler::Write(setbit)),
];

type Done = Result<(), CommandError>;

pub(super) const BAD_OFFSET: CommandError =
    CommandError::fixed("ERR bit offset is not an integer or out of range");

/// BITCOUNT key [start end [BYTE | BIT]]
///
/// Replies with the number of bits that are set.
fn bitcount(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.integer(0);
        return Ok(());
    };
    let value = StringValue::of(&record)?;
    let bits = match args.len() {
        2 => Some(0..8 * value.len()),
        4 | 5 => count_range(args, value.len())?,
        _ => return Err(CommandError::SYNTAX),
    };
    let mut count = 0;
    if let Some(bits) = bits {
        let bytes = bits.start / 8..bits.end.div_ceil(8);
        value.stored(txn, &key, bytes, &mut |at, piece| {
            count += count_ones(at, piece, &bits);
            ControlFlow::Continue(())
        })?;
    }
    out.integer(count as i64);
    Ok(())
}

/// BITOP <AND | OR | XOR | NOT> destkey key [key ...]
///
/// Replies with the length of the result, which is that of the longest key.
fn bitop(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let op = Op::of(args.get(1)).ok_or(CommandError::SYNTAX)?;
    if op == Op::Not && args.len() != 4 {
        return Err(CommandError::fixed(
            "ERR BITOP NOT must be called with a single source key.",
        ));
    }
    let mut sources = Vec::with_capacity(args.len() - 3);
    for name in args.iter().skip(3) {
        let key = txn.key(name);
        let record = txn.get(&key)?;
        record.as_ref().map(StringValue::of).transpose()?;
        sources.push((key, record));
    }
    let values: Vec<Source<'_>> = sources.iter().map(Source::of).collect::<Result<_, _>>()?;
    let len = values.iter().map(Source::len).max().unwrap_or(0);
    let key = txn.key(args.get(2));
    if len == 0 {
        if delete_key(txn, &key)? {
            txn.event(EventClass::Generic, "del", key.user_key());
        }
    } else {
        let old = txn.get(&key)?;
        string::set_by_parts(txn, &key, old.as_ref(), len, &mut |txn, range| {
            op.over(txn, &values, range)
        })?;
        changed(txn, &key, old.is_none(), "set");
    }
    out.integer(len as i64);
    Ok(())
}

/// BITPOS key bit [start [end [BYTE | BIT]]]
///
/// Replies with the first bit of this value, -1 if there is none. Without an
/// end, zeros follow the string.
fn bitpos(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let bit = match integer(args.get(2))? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::fixed("ERR The bit argument must be 1 or 0.")),
    };
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.integer(if bit { -1 } else { 0 });
        return Ok(());
    };
    let value = StringValue::of(&record)?;
    let bits = match args.len() {
        3 => Some(0..8 * value.len()).filter(|bits| !bits.is_empty()),
        4..=6 => position_range(args, value.len())?,
        _ => return Err(CommandError::SYNTAX),
    };
    let Some(bits) = bits else {
        out.integer(-1);
        return Ok(());
    };
    let found = match bit {
        true => first_one(txn, &key, &value, &bits)?,
        false => first_zero(txn, &key, &value, &bits)?,
    };
    let end_given = args.len() >= 5;
    let behind = (!bit && !end_given).then_some(bits.end);
    out.integer(found.or(behind).map_or(-1, |at| at as i64));
    Ok(())
}

/// GETBIT key offset
fn getbit(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let offset = bit_offset(txn, args.get(2), None)?;
    let key = txn.key(args.get(1));
    let byte = match txn.get(&key)? {
        Some(record) => byte_at(txn, &key, &StringValue::of(&record)?, offset / 8)?,
        None => 0,
    };
    out.integer(i64::from(byte >> (7 - offset % 8) & 1));
    Ok(())
}

/// SETBIT key offset value
///
/// Replies with the bit as it was.
fn setbit(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let offset = bit_offset(txn, args.get(2), None)?;
    let bad = CommandError::fixed("ERR bit is not an integer or out of range");
    let on = match parse_i64(args.get(3)) {
        Some(bit @ (0 | 1)) => bit as u8,
        _ => return Err(bad),
    };
    let key = txn.key(args.get(1));
    let old = txn.get(&key)?;
    let (at, shift) = (offset / 8, 7 - offset % 8);
    let (byte, grows) = match &old {
        Some(record) => {
            let value = StringValue::of(record)?;
            (byte_at(txn, &key, &value, at)?, value.len() <= at)
        }
        None => (0, true),
    };
    let was = byte >> shift & 1;
    if grows || was != on {
        let byte = byte & !(1 << shift) | on << shift;
        string::write_at(txn, &key, old.as_ref(), at, &[byte])?;
        changed(txn, &key, old.is_none(), "setbit");
    } else if let Some(record) = &old {
        string::mark_edited(txn, &key, record)?;
    }
    out.integer(i64::from(was));
    Ok(())
}

// Helpers.

/// Notes what was done to a string.
pub(super) fn changed(txn: &mut Txn<'_>, key: &MetaKey, is_new: bool, name: &'static str) {
    if is_new {
        txn.event(EventClass::New, "new", key.user_key());
    }
    txn.event(EventClass::String, name, key.user_key());
}

/// A bit's offset within the longest string there may be. `width`: an offset
/// `#n` counts in so many bits.
pub(super) fn bit_offset(
    txn: &Txn<'_>,
    text: &[u8],
    width: Option<u32>,
) -> Result<u64, CommandError> {
    let offset = match (text, width) {
        ([b'#', number @ ..], Some(width)) => {
            parse_i64(number).and_then(|number| number.checked_mul(i64::from(width)))
        }
        _ => parse_i64(text),
    };
    let offset = offset.and_then(|offset| u64::try_from(offset).ok());
    let limit = txn.context().max_bulk as u64;
    offset.filter(|offset| offset / 8 < limit).ok_or(BAD_OFFSET)
}

fn byte_at(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    value: &StringValue<'_>,
    at: u64,
) -> Result<u8, CommandError> {
    if at >= value.len() {
        return Ok(0);
    }
    Ok(value.read(txn, key, at..at + 1)?[0])
}

/// Whether a range is given in bits: its last argument, if there is one.
fn in_bits(args: &Args<'_>, at: usize) -> Result<bool, CommandError> {
    match args.try_get(at) {
        None => Ok(false),
        Some(word) if is(word, "BIT") => Ok(true),
        Some(word) if is(word, "BYTE") => Ok(false),
        Some(_) => Err(CommandError::SYNTAX),
    }
}

/// Redis's inclusive, possibly negative indexes as a range of bits. `None`:
/// empty.
fn bit_range(start: i64, end: i64, len: u64, bits: bool) -> Option<Range<u64>> {
    let total = len as i64 * if bits { 8 } else { 1 };
    let from_front = |index: i64| match index < 0 {
        true => total.saturating_add(index).max(0),
        false => index,
    };
    let (start, end) = (from_front(start), from_front(end).min(total - 1));
    if start > end {
        return None;
    }
    let scale = if bits { 1 } else { 8 };
    Some(start as u64 * scale..(end as u64 + 1) * scale)
}

/// The range of BITCOUNT.
fn count_range(args: &Args<'_>, len: u64) -> Result<Option<Range<u64>>, CommandError> {
    let (start, end) = (integer(args.get(2))?, integer(args.get(3))?);
    if start < 0 && end < 0 && start > end {
        return Ok(None);
    }
    let bits = in_bits(args, 4)?;
    Ok(bit_range(start, end, len, bits))
}

/// The range of BITPOS.
fn position_range(args: &Args<'_>, len: u64) -> Result<Option<Range<u64>>, CommandError> {
    let start = integer(args.get(3))?;
    let bits = in_bits(args, 5)?;
    let end = match args.try_get(4) {
        Some(end) => integer(end)?,
        None => len as i64 - 1,
    };
    // An end of an empty string is before its start, not at its end.
    if len == 0 {
        return Ok(None);
    }
    Ok(bit_range(start, end, len, bits))
}

/// A byte without its bits that are not in `bits`.
fn masked(byte: u8, at: u64, bits: &Range<u64>) -> u8 {
    let first = 8 * at;
    let before = bits.start.saturating_sub(first).min(8) as u32;
    let behind = (first + 8).saturating_sub(bits.end).min(8) as u32;
    let keep = (0xff_u32 >> before) & (0xff_u32 << behind);
    byte & keep as u8
}

/// Bits set in a piece that begins at byte `at`.
fn count_ones(at: u64, piece: &[u8], bits: &Range<u64>) -> u64 {
    let (words, rest) = piece.as_chunks::<8>();
    let words: u64 = words
        .iter()
        .map(|word| u64::from(u64::from_le_bytes(*word).count_ones()))
        .sum();
    let rest: u64 = rest.iter().map(|byte| u64::from(byte.count_ones())).sum();
    // The ends may hold bits that do not count.
    let last = piece.len().saturating_sub(1);
    let mut ends = vec![0];
    if last > 0 {
        ends.push(last);
    }
    let outside: u32 = ends
        .into_iter()
        .filter_map(|end| Some((end, *piece.get(end)?)))
        .map(|(end, byte)| byte.count_ones() - masked(byte, at + end as u64, bits).count_ones())
        .sum();
    words + rest - u64::from(outside)
}

/// The first bit in a piece for which `invert` (0xff: zeros, 0: ones) and the
/// range leave a one.
fn first_in(at: u64, piece: &[u8], bits: &Range<u64>, invert: u8) -> Option<u64> {
    let mut from = 0;
    while let Some(next) = piece[from..].iter().position(|byte| *byte != invert) {
        let index = from + next;
        let byte = masked(piece[index] ^ invert, at + index as u64, bits);
        if byte != 0 {
            return Some(8 * (at + index as u64) + u64::from(byte.leading_zeros()));
        }
        from = index + 1;
    }
    None
}

fn first_one(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    value: &StringValue<'_>,
    bits: &Range<u64>,
) -> Result<Option<u64>, CommandError> {
    let mut found = None;
    let bytes = bits.start / 8..bits.end.div_ceil(8);
    value.stored(txn, key, bytes, &mut |at, piece| {
        found = first_in(at, piece, bits, 0);
        match found {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    })?;
    Ok(found)
}

/// A hole is a zero as well.
fn first_zero(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    value: &StringValue<'_>,
    bits: &Range<u64>,
) -> Result<Option<u64>, CommandError> {
    let mut found = None;
    let bytes = bits.start / 8..bits.end.div_ceil(8);
    // The byte up to which all was looked at.
    let mut seen = bytes.start;
    value.stored(txn, key, bytes.clone(), &mut |at, piece| {
        if at > seen {
            return ControlFlow::Break(());
        }
        found = first_in(at, piece, bits, 0xff);
        seen = at + piece.len() as u64;
        match found {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    })?;
    let hole = (seen < bytes.end).then(|| (8 * seen).max(bits.start));
    Ok(found.or(hole))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    And,
    Or,
    Xor,
    Not,
}

/// A string that BITOP reads; no key is an empty one.
struct Source<'r> {
    key: &'r MetaKey,
    value: Option<StringValue<'r>>,
}

impl<'r> Source<'r> {
    fn of((key, record): &'r (MetaKey, Option<Record>)) -> Result<Source<'r>, CommandError> {
        let value = record.as_ref().map(StringValue::of).transpose()?;
        Ok(Source { key, value })
    }

    fn len(&self) -> u64 {
        self.value.map_or(0, |value| value.len())
    }

    /// What it has of a range; zeros follow.
    fn read(&self, txn: &mut Txn<'_>, range: &Range<u64>) -> Result<Cow<'r, [u8]>, CommandError> {
        let range = range.start..range.end.min(self.len());
        match &self.value {
            Some(value) if !range.is_empty() => value.read_stored(txn, self.key, range),
            _ => Ok(Cow::Borrowed(&[])),
        }
    }
}

impl Op {
    fn of(word: &[u8]) -> Option<Op> {
        let words = [
            ("AND", Op::And),
            ("OR", Op::Or),
            ("XOR", Op::Xor),
            ("NOT", Op::Not),
        ];
        let found = words.into_iter().find(|(name, _)| is(word, name));
        found.map(|(_, op)| op)
    }

    /// A range of the result, zeros at its end left out.
    fn over(
        self,
        txn: &mut Txn<'_>,
        sources: &[Source<'_>],
        range: Range<u64>,
    ) -> Result<Vec<u8>, CommandError> {
        let mut result = match sources.first() {
            Some(first) => first.read(txn, &range)?.into_owned(),
            None => Vec::new(),
        };
        for source in sources.iter().skip(1) {
            let bytes = source.read(txn, &range)?;
            self.join(&mut result, &bytes);
        }
        if self == Op::Not {
            result.resize((range.end - range.start) as usize, 0);
            result.iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(result)
    }

    /// Either may be short: zeros follow.
    fn join(self, result: &mut Vec<u8>, bytes: &[u8]) {
        match self {
            Op::And => result.truncate(bytes.len()),
            _ => result.resize(result.len().max(bytes.len()), 0),
        }
        let pairs = result.iter_mut().zip(bytes);
        match self {
            Op::And => pairs.for_each(|(a, b)| *a &= b),
            Op::Or => pairs.for_each(|(a, b)| *a |= b),
            Op::Xor | Op::Not => pairs.for_each(|(a, b)| *a ^= b),
        }
    }
}

#[cfg(test)]
#[path = "bitmaps_tests.rs"]
mod tests;
