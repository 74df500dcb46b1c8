//! String commands. Wire side only: arguments in, reply out.
//! How a string is laid out on disk is `types::string`.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::{integer, invalid_expire, is, wrong_arity};
use super::lcs::lcs;
use super::long_double::{self, AddError};
use crate::storage::{Header, KeyType, MetaKey, Record};
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::string::{self, StringValue, check_len};
use crate::types::{delete_key, with_expiry};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("append", Handler::Write(append)),
    ("decr", Handler::Write(decr)),
    ("decrby", Handler::Write(decrby)),
    ("get", Handler::Read(get)),
    ("getdel", Handler::Write(getdel)),
    ("getex", Handler::Write(getex)),
    ("getrange", Handler::Read(getrange)),
    ("getset", Handler::Write(getset)),
    ("incr", Handler::Write(incr)),
    ("incrby", Handler::Write(incrby)),
    ("incrbyfloat", Handler::Write(incrbyfloat)),
    ("lcs", Handler::Read(lcs)),
    ("mget", Handler::Read(mget)),
    ("mset", Handler::Write(mset)),
    ("msetnx", Handler::Write(msetnx)),
    ("psetex", Handler::Write(psetex)),
    ("set", Handler::Write(set)),
    ("setex", Handler::Write(setex)),
    ("setnx", Handler::Write(setnx)),
    ("setrange", Handler::Write(setrange)),
    ("strlen", Handler::Read(strlen)),
    ("substr", Handler::Read(getrange)),
];

type Done = Result<(), CommandError>;

/// APPEND key value
///
/// Replies with the new length.
fn append(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (key, value) = (txn.key(args.get(1)), args.get(2));
    let old = txn.get(&key)?;
    let len = match &old {
        None => {
            string::set(txn, &key, None, value, None)?;
            value.len() as u64
        }
        Some(record) => {
            let at = StringValue::of(record)?.len();
            check_len(txn, at, value.len() as u64)?;
            string::write_at(txn, &key, Some(record), at, value)?
        }
    };
    changed(txn, &key, &old, "append");
    out.integer(len as i64);
    Ok(())
}

/// DECR key
fn decr(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    add(txn, args.get(1), -1, out)
}

/// DECRBY key decrement
fn decrby(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let by = integer(args.get(2))?;
    let by = by
        .checked_neg()
        .ok_or(CommandError::fixed("ERR decrement would overflow"))?;
    add(txn, args.get(1), by, out)
}

/// GET key
fn get(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    match txn.get(&key)? {
        Some(record) => reply_value(txn, &key, &record, out),
        None => {
            out.null();
            Ok(())
        }
    }
}

/// GETDEL key
fn getdel(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    get(txn, args, out)?;
    let key = txn.key(args.get(1));
    if delete_key(txn, &key)? {
        txn.event(EventClass::Generic, "del", args.get(1));
    }
    Ok(())
}

/// GETEX key [EX seconds | PX ms | EXAT unix-seconds | PXAT unix-ms | PERSIST]
fn getex(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Options::read(args, 2, Dialect::GetEx)?;
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.null();
        return Ok(());
    };
    let had_expiry = StringValue::of(&record)?.expires_at().is_some();
    let at = options.expires_at(txn.now(), "getex")?;
    reply_value(txn, &key, &record, out)?;
    match at {
        Some(at) if options.is_absolute() && txn.is_over(at) => {
            delete_key(txn, &key)?;
            txn.event(EventClass::Generic, "del", args.get(1));
        }
        Some(at) => {
            txn.put(&key, with_expiry(&key, &record, Some(at))?)?;
            txn.event(EventClass::Generic, "expire", args.get(1));
        }
        None if options.persist && had_expiry => {
            txn.put(&key, with_expiry(&key, &record, None)?)?;
            txn.event(EventClass::Generic, "persist", args.get(1));
        }
        None => {}
    }
    Ok(())
}

/// GETRANGE key start end, and SUBSTR, its old name
///
/// Both ends are included; negative ones count from the end.
fn getrange(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (start, end) = (integer(args.get(2))?, integer(args.get(3))?);
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.bulk(b"");
        return Ok(());
    };
    let value = StringValue::of(&record)?;
    match range_within(start, end, value.len()) {
        None => out.bulk(b""),
        Some(range) => match value.inline() {
            Some(bytes) => out.bulk(&bytes[range.start as usize..range.end as usize]),
            None => reply_range(txn, &key, &value, range, out)?,
        },
    }
    Ok(())
}

/// GETSET key value
fn getset(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    get(txn, args, out)?;
    store(txn, args.get(1), args.get(2), None)
}

/// INCR key
fn incr(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    add(txn, args.get(1), 1, out)
}

/// INCRBY key increment
fn incrby(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    add(txn, args.get(1), integer(args.get(2))?, out)
}

/// INCRBYFLOAT key increment
fn incrbyfloat(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let old = txn.get(&key)?;
    let value = old.as_ref().map(StringValue::of).transpose()?;
    let text = match &value {
        None => b"0".into(),
        // Longer texts are no floats; the limit spares reading them.
        Some(value) if value.len() >= long_double::TEXT_MAX as u64 => {
            return Err(CommandError::NOT_A_FLOAT);
        }
        Some(value) => value.read_all(txn, &key)?,
    };
    let sum = long_double::add(&text, args.get(2)).map_err(|error| match error {
        AddError::NotAFloat => CommandError::NOT_A_FLOAT,
        AddError::NotFinite => CommandError::fixed("ERR increment would produce NaN or Infinity"),
    })?;
    let expires_at = value.and_then(|value| value.expires_at());
    string::set_no_integer(txn, &key, old.as_ref(), &sum, expires_at)?;
    changed(txn, &key, &old, "incrbyfloat");
    out.bulk(&sum);
    Ok(())
}

/// MGET key [key ...]
fn mget(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.array(args.len() - 1);
    for name in args.iter().skip(1) {
        let key = txn.key(name);
        match txn.get(&key)? {
            Some(record) if is_string(&record) => reply_value(txn, &key, &record, out)?,
            _ => out.null(),
        }
    }
    Ok(())
}

/// MSET key value [key value ...]
fn mset(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    store_pairs(txn, args, "mset")?;
    out.ok();
    Ok(())
}

/// MSETNX key value [key value ...]
///
/// Replies 1, or 0 if some key existed and nothing was set.
fn msetnx(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    check_pairs(args, "msetnx")?;
    for name in args.iter().skip(1).step_by(2) {
        let key = txn.key(name);
        if txn.get(&key)?.is_some() {
            out.integer(0);
            return Ok(());
        }
    }
    store_pairs(txn, args, "msetnx")?;
    out.integer(1);
    Ok(())
}

/// PSETEX key ms value
fn psetex(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    set_with_expiry(txn, args, Expiry::Px, "psetex", out)
}

/// SET key value [NX | XX] [GET] [EX s | PX ms | EXAT unix-s | PXAT unix-ms | KEEPTTL]
///
/// Replies OK, or nil if NX or XX forbade it; with GET the old value or nil.
fn set(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if args.len() == 3 {
        store(txn, args.get(1), args.get(2), None)?;
        out.ok();
        return Ok(());
    }
    let options = Options::read(args, 3, Dialect::Set)?;
    let at = options.expires_at(txn.now(), "set")?;
    let key = txn.key(args.get(1));
    let old = txn.get(&key)?;
    if options.get {
        match &old {
            Some(record) => reply_value(txn, &key, record, out)?,
            None => out.null(),
        }
    }
    if (options.nx && old.is_some()) || (options.xx && old.is_none()) {
        if !options.get {
            out.null();
        }
        return Ok(());
    }
    let kept = old.as_ref().filter(|_| options.keep_ttl);
    let kept = kept.and_then(|record| record.header()?.expires_at);
    string::set(txn, &key, old.as_ref(), args.get(2), at.or(kept))?;
    changed(txn, &key, &old, "set");
    if at.is_some() {
        txn.event(EventClass::Generic, "expire", args.get(1));
    }
    if !options.get {
        out.ok();
    }
    Ok(())
}

/// SETEX key seconds value
fn setex(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    set_with_expiry(txn, args, Expiry::Ex, "setex", out)
}

/// SETNX key value
///
/// Replies 1 if it was set, 0 if the key existed.
fn setnx(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let old = txn.get(&key)?;
    if old.is_none() {
        string::set(txn, &key, None, args.get(2), None)?;
        changed(txn, &key, &old, "set");
    }
    out.integer(old.is_none() as i64);
    Ok(())
}

/// SETRANGE key offset value
///
/// Replies with the new length.
fn setrange(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (offset, value) = (integer(args.get(2))?, args.get(3));
    let Ok(offset) = u64::try_from(offset) else {
        return Err(CommandError::fixed("ERR offset is out of range"));
    };
    let key = txn.key(args.get(1));
    let old = txn.get(&key)?;
    let len = match &old {
        Some(record) => StringValue::of(record)?.len(),
        None => 0,
    };
    if value.is_empty() {
        out.integer(len as i64);
        return Ok(());
    }
    check_len(txn, offset, value.len() as u64)?;
    let len = string::write_at(txn, &key, old.as_ref(), offset, value)?;
    changed(txn, &key, &old, "setrange");
    out.integer(len as i64);
    Ok(())
}

/// STRLEN key
fn strlen(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let len = match txn.get(&key)? {
        Some(record) => StringValue::of(&record)?.len(),
        None => 0,
    };
    out.integer(len as i64);
    Ok(())
}

// Helpers.

/// Notes what was done to a key that was `old` before.
fn changed(txn: &mut Txn<'_>, key: &MetaKey, old: &Option<Record>, name: &'static str) {
    if old.is_none() {
        txn.event(EventClass::New, "new", key.user_key());
    }
    txn.event(EventClass::String, name, key.user_key());
}

/// SET without options.
fn store(txn: &mut Txn<'_>, name: &[u8], value: &[u8], expires_at: Option<u64>) -> Done {
    let key = txn.key(name);
    let old = txn.get(&key)?;
    string::set(txn, &key, old.as_ref(), value, expires_at)?;
    changed(txn, &key, &old, "set");
    Ok(())
}

/// SETEX and PSETEX.
fn set_with_expiry(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    kind: Expiry,
    command: &str,
    out: &mut ReplyWriter,
) -> Done {
    let at = absolute(kind, args.get(2), txn.now(), command)?;
    store(txn, args.get(1), args.get(3), Some(at))?;
    txn.event(EventClass::Generic, "expire", args.get(1));
    out.ok();
    Ok(())
}

fn check_pairs(args: &Args<'_>, command: &str) -> Done {
    match args.len() % 2 {
        1 => Ok(()),
        _ => Err(wrong_arity(command)),
    }
}

fn store_pairs(txn: &mut Txn<'_>, args: &Args<'_>, command: &str) -> Done {
    check_pairs(args, command)?;
    for at in (1..args.len()).step_by(2) {
        store(txn, args.get(at), args.get(at + 1), None)?;
    }
    Ok(())
}

/// INCR and its kin.
fn add(txn: &mut Txn<'_>, name: &[u8], by: i64, out: &mut ReplyWriter) -> Done {
    let key = txn.key(name);
    let old = txn.get(&key)?;
    let (value, expires_at) = match &old {
        None => (0, None),
        Some(record) => {
            let value = StringValue::of(record)?;
            (
                value.integer().ok_or(CommandError::NOT_AN_INTEGER)?,
                value.expires_at(),
            )
        }
    };
    let sum = value.checked_add(by);
    let sum = sum.ok_or(CommandError::fixed(
        "ERR increment or decrement would overflow",
    ))?;
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(sum).as_bytes();
    // Not `string::set`: an integer is inline, and so was what it replaces.
    txn.put(
        &key,
        Record::new(&key, &Header::inline(KeyType::String, expires_at), digits),
    )?;
    changed(txn, &key, &old, "incrby");
    out.integer(sum);
    Ok(())
}

fn is_string(record: &Record) -> bool {
    record
        .header()
        .is_some_and(|header| header.key_type == KeyType::String)
}

/// The value as a bulk string.
fn reply_value(txn: &mut Txn<'_>, key: &MetaKey, record: &Record, out: &mut ReplyWriter) -> Done {
    let value = StringValue::of(record)?;
    match value.inline() {
        Some(bytes) => {
            out.bulk(bytes);
            Ok(())
        }
        None => reply_range(txn, key, &value, 0..value.len(), out),
    }
}

/// A part of a spread string as a bulk string, fragment by fragment.
fn reply_range(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    value: &StringValue<'_>,
    range: std::ops::Range<u64>,
    out: &mut ReplyWriter,
) -> Done {
    out.raw(format!("${}\r\n", range.end - range.start).as_bytes());
    value.pieces(txn, key, range, |piece| out.raw_bytes(piece))?;
    out.raw(b"\r\n");
    Ok(())
}

/// Redis's inclusive, possibly negative indexes as a range. `None`: empty.
fn range_within(start: i64, end: i64, len: u64) -> Option<std::ops::Range<u64>> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let len = len as i64;
    let from_front = |index: i64| {
        if index < 0 {
            (len + index).max(0)
        } else {
            index
        }
    };
    let (start, end) = (from_front(start), from_front(end).min(len - 1));
    (start <= end && len > 0).then(|| start as u64..end as u64 + 1)
}

/// The unit and base of an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Ex,
    Px,
    ExAt,
    PxAt,
}

impl Expiry {
    fn of(word: &[u8]) -> Option<Expiry> {
        let words = [
            ("EX", Expiry::Ex),
            ("PX", Expiry::Px),
            ("EXAT", Expiry::ExAt),
            ("PXAT", Expiry::PxAt),
        ];
        words
            .iter()
            .find(|(name, _)| is(word, name))
            .map(|(_, kind)| *kind)
    }
}

/// An expiry as unix ms. `command` is named in the error.
fn absolute(kind: Expiry, arg: &[u8], now: u64, command: &str) -> Result<u64, CommandError> {
    let given = integer(arg)?;
    let scale = if matches!(kind, Expiry::Ex | Expiry::ExAt) {
        1000
    } else {
        1
    };
    let base = if matches!(kind, Expiry::Ex | Expiry::Px) {
        now as i64
    } else {
        0
    };
    let at = given.checked_mul(scale).and_then(|ms| ms.checked_add(base));
    match at {
        Some(at) if given > 0 => Ok(at as u64),
        _ => Err(invalid_expire(command)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Set,
    GetEx,
}

/// The options of SET and GETEX.
#[derive(Default)]
struct Options<'a> {
    nx: bool,
    xx: bool,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expiry: Option<(Expiry, &'a [u8])>,
}

impl<'a> Options<'a> {
    fn read(args: &Args<'a>, first: usize, dialect: Dialect) -> Result<Options<'a>, CommandError> {
        let mut options = Options::default();
        let mut at = first;
        while at < args.len() {
            let word = args.get(at);
            if let Some(kind) = Expiry::of(word) {
                at += 1;
                let value = args.try_get(at).ok_or(CommandError::SYNTAX)?;
                options.set_expiry(kind, value)?;
            } else if !options.set_word(word, dialect) {
                return Err(CommandError::SYNTAX);
            }
            at += 1;
        }
        Ok(options)
    }

    /// One kind of expiry only; the last value of it counts.
    fn set_expiry(&mut self, kind: Expiry, value: &'a [u8]) -> Done {
        let other = self.expiry.is_some_and(|(known, _)| known != kind);
        if other || self.keep_ttl || self.persist {
            return Err(CommandError::SYNTAX);
        }
        self.expiry = Some((kind, value));
        Ok(())
    }

    /// False if the word is unknown here or contradicts an earlier one.
    fn set_word(&mut self, word: &[u8], dialect: Dialect) -> bool {
        let free = self.expiry.is_none();
        let (flag, allowed) = match dialect {
            Dialect::Set if is(word, "NX") => (&mut self.nx, !self.xx),
            Dialect::Set if is(word, "XX") => (&mut self.xx, !self.nx),
            Dialect::Set if is(word, "GET") => (&mut self.get, true),
            Dialect::Set if is(word, "KEEPTTL") => (&mut self.keep_ttl, free),
            Dialect::GetEx if is(word, "PERSIST") => (&mut self.persist, free),
            _ => return false,
        };
        *flag = true;
        allowed
    }

    fn is_absolute(&self) -> bool {
        matches!(self.expiry, Some((Expiry::ExAt | Expiry::PxAt, _)))
    }

    fn expires_at(&self, now: u64, command: &str) -> Result<Option<u64>, CommandError> {
        self.expiry
            .map(|(kind, value)| absolute(kind, value, now, command))
            .transpose()
    }
}

#[cfg(test)]
#[path = "strings_tests.rs"]
mod tests;
