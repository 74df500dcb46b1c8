//! Commands on keys of any type, and on whole databases. Wire side only.
//! Expiry is in `expire`, iteration in `scan`.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::{self, DB_OUT_OF_RANGE, integer, is};
use crate::storage::generations::DATABASES;
use crate::storage::{KeyType, MetaKey, Record};
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::string::StringValue;
use crate::types::{
    bytes_of_rows, copy_value, decode, delete_key, encoding, overwrite, rename_value,
};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("copy", Handler::Write(copy)),
    ("dbsize", Handler::Read(dbsize)),
    ("del", Handler::Write(del)),
    ("exists", Handler::Read(exists)),
    ("flushall", Handler::Write(flushall)),
    ("flushdb", Handler::Write(flushdb)),
    ("memory|usage", Handler::Read(memory_usage_of)),
    ("move", Handler::Write(r#move)),
    ("object|encoding", Handler::Read(object_encoding)),
    ("object|freq", Handler::Read(object_freq)),
    ("object|help", Handler::Read(object_help)),
    ("object|idletime", Handler::Read(object_idletime)),
    ("object|refcount", Handler::Read(object_refcount)),
    ("rename", Handler::Write(rename)),
    ("renamenx", Handler::Write(renamenx)),
    ("swapdb", Handler::Write(swapdb)),
    ("touch", Handler::Read(touch)),
    ("type", Handler::Read(r#type)),
    ("unlink", Handler::Write(del)),
];

type Done = Result<(), CommandError>;

const SAME_OBJECT: CommandError =
    CommandError::fixed("ERR source and destination objects are the same");
/// Redis shares the integers below this among all keys.
const SHARED_INTEGERS: i64 = 10_000;
/// The reference count of what is shared.
const SHARED_REFCOUNT: i64 = i32::MAX as i64;

const OBJECT_HELP: &[&str] = &[
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
];

/// COPY source destination [DB index] [REPLACE]
///
/// Replies 1, or 0 if there is no source, or a destination and no REPLACE.
fn copy(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (db, replace) = copy_options(txn, args)?;
    if txn.context().cluster && (txn.db() != 0 || db != 0) {
        return Err(CommandError::fixed(
            "ERR Copying to another database is not allowed in cluster mode",
        ));
    }
    if db == txn.db() && args.get(1) == args.get(2) {
        return Err(SAME_OBJECT);
    }
    let (from, to) = (txn.key(args.get(1)), txn.key_in(db, args.get(2)));
    let Some(record) = txn.get(&from)? else {
        out.integer(0);
        return Ok(());
    };
    if let Some(old) = txn.get(&to)? {
        if !replace {
            out.integer(0);
            return Ok(());
        }
        overwrite(txn, &to, &old);
    }
    copy_value(txn, &record, &from, &to)?;
    txn.event_in(db, EventClass::New, "new", args.get(2));
    txn.event_in(db, EventClass::Generic, "copy_to", args.get(2));
    out.integer(1);
    Ok(())
}

fn copy_options(txn: &Txn<'_>, args: &Args<'_>) -> Result<(usize, bool), CommandError> {
    let (mut db, mut replace) = (txn.db(), false);
    let mut at = 3;
    while at < args.len() {
        let word = args.get(at);
        match args.try_get(at + 1) {
            _ if is(word, "REPLACE") => replace = true,
            Some(index) if is(word, "DB") => {
                db = arguments::database(index)?;
                at += 1;
            }
            _ => return Err(CommandError::SYNTAX),
        }
        at += 1;
    }
    Ok((db, replace))
}

/// DBSIZE
fn dbsize(txn: &mut Txn<'_>, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.integer(txn.key_count(txn.db()) as i64);
    Ok(())
}

/// DEL key [key ...], and UNLINK: deletes are lazy either way
///
/// Replies with the number of keys that were there.
fn del(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let mut deleted = 0;
    for name in args.iter().skip(1) {
        let key = txn.key(name);
        if delete_key(txn, &key)? {
            txn.event(EventClass::Generic, "del", name);
            deleted += 1;
        }
    }
    out.integer(deleted);
    Ok(())
}

/// EXISTS key [key ...]
///
/// Replies with how many of them exist, counting repeated ones each time.
fn exists(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let mut found = 0;
    for name in args.iter().skip(1) {
        let key = txn.key(name);
        found += txn.peek(&key)?.is_some() as i64;
    }
    out.integer(found);
    Ok(())
}

/// TOUCH key [key ...]
///
/// Replies as EXISTS does; what exists has been used now.
fn touch(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let mut found = 0;
    for name in args.iter().skip(1) {
        let key = txn.key(name);
        found += txn.get(&key)?.is_some() as i64;
    }
    out.integer(found);
    Ok(())
}

/// FLUSHALL [ASYNC | SYNC]
fn flushall(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    flush_options(args)?;
    (0..DATABASES).for_each(|db| txn.flush_db(db));
    out.ok();
    Ok(())
}

/// FLUSHDB [ASYNC | SYNC]
fn flushdb(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    flush_options(args)?;
    txn.flush_db(txn.db());
    out.ok();
    Ok(())
}

/// A flush costs the same either way; the words are only checked.
fn flush_options(args: &Args<'_>) -> Done {
    match (args.len(), args.try_get(1)) {
        (1, _) => Ok(()),
        (2, Some(word)) if is(word, "SYNC") || is(word, "ASYNC") => Ok(()),
        _ => Err(CommandError::SYNTAX),
    }
}

/// MOVE key db
///
/// Replies 1, or 0 if there is no such key here, or one there.
fn r#move(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if txn.context().cluster {
        return Err(CommandError::fixed(
            "ERR MOVE is not allowed in cluster mode",
        ));
    }
    let (here, there) = (txn.db(), arguments::database(args.get(2))?);
    if here == there {
        return Err(SAME_OBJECT);
    }
    let (from, to) = (txn.key(args.get(1)), txn.key_in(there, args.get(1)));
    let Some(record) = txn.get(&from)? else {
        out.integer(0);
        return Ok(());
    };
    if txn.get(&to)?.is_some() {
        out.integer(0);
        return Ok(());
    }
    rename_value(txn, &record, &from, &to)?;
    txn.event_in(there, EventClass::New, "new", args.get(1));
    txn.event_in(here, EventClass::Generic, "move_from", args.get(1));
    txn.event_in(there, EventClass::Generic, "move_to", args.get(1));
    out.integer(1);
    Ok(())
}

/// OBJECT ENCODING key
fn object_encoding(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    match object(txn, args)? {
        Some((_, record)) => out.bulk(encoding(&record)?.as_bytes()),
        None => out.null(),
    }
    Ok(())
}

/// OBJECT FREQ key
///
/// The logarithmic count by which LFU policies choose.
fn object_freq(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let Some((key, _)) = object(txn, args)? else {
        out.null();
        return Ok(());
    };
    let access = &txn.store().access;
    if !access.is_counting() {
        return Err(CommandError::fixed(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please \
             note that when switching between policies at runtime LRU and LFU data will take some \
             time to adjust.",
        ));
    }
    // One that nobody remembers has not been used for long.
    let count = access.count(key.hash(), txn.now()).unwrap_or(0);
    out.integer(i64::from(count));
    Ok(())
}

/// OBJECT HELP
fn object_help(_: &mut Txn<'_>, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    super::help(out, "OBJECT", OBJECT_HELP);
    Ok(())
}

/// OBJECT IDLETIME key
///
/// Seconds since its last use, as far as this process remembers (a read writes
/// nothing to disk).
fn object_idletime(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let Some((key, _)) = object(txn, args)? else {
        out.null();
        return Ok(());
    };
    let access = &txn.store().access;
    if access.is_counting() {
        return Err(CommandError::fixed(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that \
             when switching between policies at runtime LRU and LFU data will take some time to \
             adjust.",
        ));
    }
    let idle = access.idle(key.hash(), txn.now());
    out.integer(idle.unwrap_or_else(|| access.remembers(txn.now())) as i64);
    Ok(())
}

/// OBJECT REFCOUNT key
///
/// 1, or what Redis answers for its shared integers, of which it has none while keys
/// are evicted by their use.
fn object_refcount(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let Some((_, record)) = object(txn, args)? else {
        out.null();
        return Ok(());
    };
    let is_shared = txn.store().access.shares_integers()
        && encoding(&record)? == "int"
        && (0..SHARED_INTEGERS).contains(&StringValue::of(&record)?.integer().unwrap_or(-1));
    out.integer(if is_shared { SHARED_REFCOUNT } else { 1 });
    Ok(())
}

/// The key that a subcommand of OBJECT names.
fn object(txn: &mut Txn<'_>, args: &Args<'_>) -> Result<Option<(MetaKey, Record)>, CommandError> {
    let key = txn.key(args.get(2));
    Ok(txn.peek(&key)?.map(|record| (key, record)))
}

/// RENAME key newkey
fn rename(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (from, to) = (txn.key(args.get(1)), txn.key(args.get(2)));
    let record = txn.get(&from)?.ok_or(CommandError::NO_SUCH_KEY)?;
    if args.get(1) != args.get(2) {
        if let Some(old) = txn.get(&to)? {
            overwrite(txn, &to, &old);
        }
        renamed(txn, &record, &from, &to)?;
    }
    out.ok();
    Ok(())
}

/// RENAMENX key newkey
///
/// Replies 1, or 0 if `newkey` existed.
fn renamenx(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (from, to) = (txn.key(args.get(1)), txn.key(args.get(2)));
    let record = txn.get(&from)?.ok_or(CommandError::NO_SUCH_KEY)?;
    let free = args.get(1) != args.get(2) && txn.get(&to)?.is_none();
    if free {
        renamed(txn, &record, &from, &to)?;
    }
    out.integer(free as i64);
    Ok(())
}

fn renamed(txn: &mut Txn<'_>, record: &Record, from: &MetaKey, to: &MetaKey) -> Done {
    rename_value(txn, record, from, to)?;
    txn.event(EventClass::New, "new", to.user_key());
    txn.event(EventClass::Generic, "rename_from", from.user_key());
    txn.event(EventClass::Generic, "rename_to", to.user_key());
    Ok(())
}

/// SWAPDB index1 index2
fn swapdb(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if txn.context().cluster {
        return Err(CommandError::fixed(
            "ERR SWAPDB is not allowed in cluster mode",
        ));
    }
    let index = |at: usize, error: &'static str| {
        let index = integer(args.get(at))
            .ok()
            .and_then(|i| i32::try_from(i).ok());
        index.ok_or(CommandError::fixed(error))
    };
    let a = index(1, "ERR invalid first DB index")?;
    let b = index(2, "ERR invalid second DB index")?;
    let in_range = |index: i32| {
        usize::try_from(index)
            .ok()
            .filter(|db| *db < DATABASES)
            .ok_or(DB_OUT_OF_RANGE)
    };
    txn.swap_db(in_range(a)?, in_range(b)?);
    out.ok();
    Ok(())
}

/// TYPE key
fn r#type(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let name = match txn.peek(&key)? {
        Some(record) => decode(&record)?.0.key_type.name(),
        None => "none",
    };
    out.simple(name);
    Ok(())
}

/// MEMORY USAGE key [SAMPLES count]
///
/// How much is measured is fixed; SAMPLES is only checked.
fn memory_usage_of(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let mut at = 3;
    while at < args.len() {
        match args.try_get(at + 1) {
            Some(count) if is(args.get(at), "SAMPLES") && integer(count)? >= 0 => at += 2,
            _ => return Err(CommandError::SYNTAX),
        }
    }
    match memory_usage(txn, args.get(2))? {
        Some(bytes) => out.integer(bytes as i64),
        None => out.null(),
    }
    Ok(())
}

/// What MEMORY USAGE answers: bytes that the key takes in memory when it is
/// cached, what a spread value keeps on disk included. `None`: no such key.
pub fn memory_usage(txn: &mut Txn<'_>, name: &[u8]) -> Result<Option<u64>, CommandError> {
    /// The cache's table, per record.
    const TABLE: u64 = 11;
    let key = txn.key(name);
    let Some(record) = txn.get(&key)? else {
        return Ok(None);
    };
    let (header, _) = decode(&record)?;
    let below = match (header.key_type, header.spread) {
        (KeyType::String, Some(spread)) => spread.size,
        (KeyType::Hash | KeyType::Set | KeyType::SortedSet, Some(spread)) => {
            bytes_of_rows(txn, &key, spread)?
        }
        _ => 0,
    };
    Ok(Some(record.memory() as u64 + TABLE + below))
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
