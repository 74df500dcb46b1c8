//! Hash commands. Wire side only: arguments in, reply out.
//! How a hash is laid out on disk is `types::hash`.

use std::ops::ControlFlow;

use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter, Version};

use super::Handler;
use super::arguments::{integer, is, wrong_arity};
use super::collection_scan::{self, ScanPage};
use super::large::{CACHED, ReplyBound, in_pieces, off_network_thread};
use super::long_double::{self, AddError};
use crate::storage::{MetaKey, Record};
use crate::txn::{CommandError, EventClass, Pieces, Txn};
use crate::types::hash::{Hash, HashEdit, Value};
use crate::types::members::member_of;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("hdel", Handler::Write(hdel)),
    ("hexists", Handler::Read(hexists)),
    ("hget", Handler::Read(hget)),
    ("hgetall", Handler::Read(hgetall)),
    ("hincrby", Handler::Write(hincrby)),
    ("hincrbyfloat", Handler::Write(hincrbyfloat)),
    ("hkeys", Handler::Read(hkeys)),
    ("hlen", Handler::Read(hlen)),
    ("hmget", Handler::Read(hmget)),
    ("hmset", Handler::Write(hmset)),
    ("hrandfield", Handler::Read(hrandfield)),
    ("hscan", Handler::Read(hscan)),
    ("hset", Handler::Write(hset)),
    ("hsetnx", Handler::Write(hsetnx)),
    ("hstrlen", Handler::Read(hstrlen)),
    ("hvals", Handler::Read(hvals)),
];

type Done = Result<(), CommandError>;

/// HDEL key field [field ...]
///
/// Replies with the number of fields that were there.
fn hdel(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let Some(old) = txn.get(&key)? else {
        out.integer(0);
        return Ok(());
    };
    let mut hash = HashEdit::open(&key, Some(&old))?;
    let mut removed = 0;
    for field in args.iter().skip(2) {
        removed += hash.remove(txn, field)? as i64;
        if hash.is_empty() {
            break;
        }
    }
    if removed > 0 {
        let is_gone = hash.is_empty();
        hash.save(txn)?;
        txn.event(EventClass::Hash, "hdel", args.get(1));
        if is_gone {
            txn.event(EventClass::Generic, "del", args.get(1));
        }
    }
    out.integer(removed);
    Ok(())
}

/// HEXISTS key field
fn hexists(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    with_field(txn, args, |value| out.integer(value.is_some() as i64))
}

/// HGET key field
fn hget(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    with_field(txn, args, |value| reply_value(value, out))
}

/// HGETALL key
///
/// A map; in RESP2 a flat array.
fn hgetall(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.map(0);
        return Ok(());
    };
    let hash = Hash::of(&key, &record)?;
    let is_left = is_left(txn, &key, &record, &hash, |field, value, out| {
        out.bulk(field);
        out.bulk(value);
    })?;
    out.map(hash.len() as usize);
    if is_left {
        return Ok(());
    }
    hash.each(txn, &mut |field, value| {
        out.bulk(field);
        out.bulk(value);
        ControlFlow::Continue(())
    })
}

/// HINCRBY key field increment
fn hincrby(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let by = integer(args.get(3))?;
    let key = txn.key(args.get(1));
    let old = txn.get(&key)?;
    let value = match field_of(txn, &key, &old, args.get(2))? {
        None => 0,
        Some(text) => {
            parse_i64(&text).ok_or(CommandError::fixed("ERR hash value is not an integer"))?
        }
    };
    let sum = value.checked_add(by).ok_or(CommandError::fixed(
        "ERR increment or decrement would overflow",
    ))?;
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(sum).as_bytes();
    set_field(txn, &key, &old, args.get(2), digits, "hincrby")?;
    out.integer(sum);
    Ok(())
}

/// HINCRBYFLOAT key field increment
fn hincrbyfloat(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let by = args.get(3);
    long_double::add(b"0", by).map_err(|error| match error {
        AddError::NotAFloat => CommandError::NOT_A_FLOAT,
        AddError::NotFinite => CommandError::fixed("ERR value is NaN or Infinity"),
    })?;
    let key = txn.key(args.get(1));
    let old = txn.get(&key)?;
    let sum = match field_of(txn, &key, &old, args.get(2))? {
        None => long_double::add(b"0", by),
        Some(text) => long_double::add(&text, by),
    };
    let sum = sum.map_err(|error| match error {
        AddError::NotAFloat => CommandError::fixed("ERR hash value is not a float"),
        AddError::NotFinite => CommandError::fixed("ERR increment would produce NaN or Infinity"),
    })?;
    set_field(txn, &key, &old, args.get(2), &sum, "hincrbyfloat")?;
    out.bulk(&sum);
    Ok(())
}

/// HKEYS key
fn hkeys(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply_halves(txn, args, out, |field, _, out| out.bulk(field))
}

/// HLEN key
fn hlen(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let len = match txn.get(&key)? {
        Some(record) => Hash::of(&key, &record)?.len(),
        None => 0,
    };
    out.integer(len as i64);
    Ok(())
}

/// HMGET key field [field ...]
fn hmget(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let record = txn.get(&key)?;
    let hash = record
        .as_ref()
        .map(|record| Hash::of(&key, record))
        .transpose()?;
    out.array(args.len() - 2);
    for field in args.iter().skip(2) {
        let value = match &hash {
            Some(hash) => hash.get(txn, field)?,
            None => None,
        };
        reply_value(value, out);
    }
    Ok(())
}

/// HMSET key field value [field value ...]
fn hmset(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    set_pairs(txn, args, "hmset")?;
    out.ok();
    Ok(())
}

/// HRANDFIELD key [count [WITHVALUES]]
///
/// Without a count one field; with a positive one so many different fields,
/// with a negative one so many that may repeat.
fn hrandfield(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let Some(count) = args.try_get(2) else {
        return random_field(txn, args, out);
    };
    let count = integer(count)?;
    if count == i64::MIN {
        return Err(CommandError::fixed(
            "ERR value is out of range, value must between -9223372036854775807 and \
             9223372036854775807",
        ));
    }
    let with_values = match args.try_get(3) {
        None => false,
        Some(word) if args.len() == 4 && is(word, "WITHVALUES") => true,
        Some(_) => return Err(CommandError::SYNTAX),
    };
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CommandError::fixed("ERR value is out of range"));
    }
    random_fields(txn, args, count, with_values, out)
}

/// HSCAN key cursor [MATCH pattern] [COUNT count]
fn hscan(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let cursor = collection_scan::cursor(args)?;
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        collection_scan::nothing(out);
        return Ok(());
    };
    let hash = Hash::of(&key, &record)?;
    let mut page = ScanPage::begin(args)?;
    let write = |page: &mut ScanPage<'_>, field: &[u8], value: &[u8]| {
        page.push(field);
        page.push(value);
    };
    let next = match hash.rows() {
        Some(fields) => page.members(txn, fields, cursor, write)?,
        None => {
            hash.each(txn, &mut |field, value| {
                if page.wants(field) {
                    write(&mut page, field, value);
                }
                ControlFlow::Continue(())
            })?;
            0
        }
    };
    page.finish(next, out);
    Ok(())
}

/// HSET key field value [field value ...]
///
/// Replies with the number of fields that did not exist before.
fn hset(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let added = set_pairs(txn, args, "hset")?;
    out.integer(added);
    Ok(())
}

/// HSETNX key field value
///
/// Replies 1, or 0 if the field existed.
fn hsetnx(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let old = txn.get(&key)?;
    let is_new = field_of(txn, &key, &old, args.get(2))?.is_none();
    if is_new {
        set_field(txn, &key, &old, args.get(2), args.get(3), "hset")?;
    }
    out.integer(is_new as i64);
    Ok(())
}

/// HSTRLEN key field
fn hstrlen(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    with_field(txn, args, |value| {
        out.integer(value.map_or(0, |value| value.len() as i64))
    })
}

/// HVALS key
fn hvals(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply_halves(txn, args, out, |_, value, out| out.bulk(value))
}

// Helpers.

/// Notes what was done to a hash that was `old` before.
fn changed(txn: &mut Txn<'_>, key: &MetaKey, old: &Option<Record>, name: &'static str) {
    if old.is_none() {
        txn.event(EventClass::New, "new", key.user_key());
    }
    txn.event(EventClass::Hash, name, key.user_key());
}

/// HSET and HMSET: how many fields are new.
fn set_pairs(txn: &mut Txn<'_>, args: &Args<'_>, command: &str) -> Result<i64, CommandError> {
    if args.len() % 2 == 1 {
        return Err(wrong_arity(command));
    }
    let key = txn.key(args.get(1));
    let old = txn.get(&key)?;
    let mut hash = HashEdit::open(&key, old.as_ref())?;
    for text in args.iter().skip(2) {
        hash.note_length(txn, text.len());
    }
    let mut added = 0;
    for at in (2..args.len()).step_by(2) {
        added += hash.set(txn, args.get(at), args.get(at + 1))? as i64;
    }
    hash.save(txn)?;
    changed(txn, &key, &old, "hset");
    Ok(added)
}

fn set_field(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    old: &Option<Record>,
    field: &[u8],
    value: &[u8],
    event: &'static str,
) -> Done {
    let mut hash = HashEdit::open(key, old.as_ref())?;
    hash.set(txn, field, value)?;
    hash.save(txn)?;
    changed(txn, key, old, event);
    Ok(())
}

/// The value of a field of the hash that `record` is.
fn field_of<'r>(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    record: &'r Option<Record>,
    field: &[u8],
) -> Result<Option<Value<'r>>, CommandError> {
    match record {
        Some(record) => Hash::of(key, record)?.get(txn, field),
        None => Ok(None),
    }
}

/// Hands the value of `key field` to `reply`.
fn with_field(txn: &mut Txn<'_>, args: &Args<'_>, reply: impl FnOnce(Option<Value<'_>>)) -> Done {
    let key = txn.key(args.get(1));
    let record = txn.get(&key)?;
    reply(field_of(txn, &key, &record, args.get(2))?);
    Ok(())
}

fn reply_value(value: Option<Value<'_>>, out: &mut ReplyWriter) {
    match value {
        None => out.null(),
        Some(Value::Packed(bytes)) => out.bulk(bytes),
        Some(Value::Row(bytes)) => out.bulk_bytes(bytes),
    }
}

/// Leaves the fields of a large hash to be written in pieces. False: it is for
/// the command to write them.
fn is_left(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    record: &Record,
    hash: &Hash<'_>,
    write: fn(&[u8], &[u8], &mut ReplyWriter),
) -> Result<bool, CommandError> {
    let Some(fields) = hash.rows() else {
        return Ok(false);
    };
    if !in_pieces(txn, record.spread(), hash.len())? {
        return Ok(false);
    }
    let rows = fields.pinned(txn, hash.len() <= CACHED);
    let write = move |row: &[u8], value: &[u8], out: &mut ReplyWriter| {
        write(member_of(row), value, out);
        Ok(1)
    };
    txn.leave(Pieces::of(key, rows, hash.len(), write));
    Ok(true)
}

/// HKEYS and HVALS.
fn reply_halves(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
    half: fn(&[u8], &[u8], &mut ReplyWriter),
) -> Done {
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.array(0);
        return Ok(());
    };
    let hash = Hash::of(&key, &record)?;
    let is_left = is_left(txn, &key, &record, &hash, half)?;
    out.array(hash.len() as usize);
    if is_left {
        return Ok(());
    }
    hash.each(txn, &mut |field, value| {
        half(field, value, out);
        ControlFlow::Continue(())
    })
}

/// HRANDFIELD without a count.
fn random_field(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    match txn.get(&key)? {
        Some(record) => out.bulk(&Hash::of(&key, &record)?.random(txn)?.0),
        None => out.null(),
    }
    Ok(())
}

/// HRANDFIELD with a count, which is not `i64::MIN`.
fn random_fields(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    count: i64,
    with_values: bool,
    out: &mut ReplyWriter,
) -> Done {
    let key = txn.key(args.get(1));
    let record = txn.get(&key)?;
    let hash = match &record {
        Some(record) => Hash::of(&key, record)?,
        None => {
            out.array(0);
            return Ok(());
        }
    };
    let may_repeat = count < 0 || count == 1;
    let wanted = match may_repeat {
        true => count.unsigned_abs(),
        false => hash.len().min(count as u64),
    };
    off_network_thread(txn, hash.len().min(wanted.saturating_mul(64)))?;
    let bound = match may_repeat {
        true => Some(ReplyBound::begin(out, wanted)?),
        false => None,
    };
    let nested = with_values && out.version() == Version::V3;
    let parts = if with_values && !nested { 2 } else { 1 };
    out.array(wanted as usize * parts);
    let mut write = |field: &[u8], value: &[u8]| {
        if nested {
            out.array(2);
        }
        out.bulk(field);
        if with_values {
            out.bulk(value);
        }
        bound.as_ref().map_or(Ok(()), |bound| bound.check(out))
    };
    match wanted {
        0 => Ok(()),
        _ if may_repeat => hash.draw(txn, wanted, &mut write),
        _ => hash.sample(txn, wanted, &mut |field, value| {
            // Only repetition is bounded.
            let _ = write(field, value);
        }),
    }
}

#[cfg(test)]
#[path = "hashes_tests.rs"]
mod tests;
