//! What replicas are told of each command: a row a command.
//!
//! A command that changed something is told as it came, unless that would not
//! do the same on a copy of the data (time, chance, floating-point sums, an order
//! that Redis leaves open) or would wait there. Forms are Redis's own where it has
//! one. They are made from the reply and from what the data are afterwards, so
//! that no choice is made twice.

use cairn_protocol::command::{CommandId, CommandSpec, id};
use cairn_protocol::resp::number::{format_f64, parse_u64};
use cairn_protocol::resp::{Args, Mark, ReplyWriter};

use super::leaves::leaves;
use crate::txn::{CommandError, Txn};
use crate::types::list::List;
use crate::types::sorted_set::SortedSet;
use crate::types::sorted_set::place::Span;
use crate::types::string::StringValue;

/// Elements of one command that rebuilds a value.
const CHUNK: usize = 512;

type Done = Result<(), CommandError>;
type Row = fn(&mut Changed<'_, '_>) -> Done;

/// A command that was evaluated, and its reply.
struct Changed<'a, 't> {
    txn: &'a mut Txn<'t>,
    args: &'a Args<'a>,
    /// The values of the reply, in order.
    reply: Vec<Vec<u8>>,
}

enum Form {
    /// As it came.
    Verbatim,
    /// As it came, even if it found nothing to change: it is on a whole database.
    Whole,
    /// It is made of others, or tells replicas itself.
    Own,
    Made(Row),
}

/// Tells replicas of a command that was evaluated; `changes` is
/// [`Txn::changes`] of before. Only if [`Txn::is_recorded`].
///
/// # Errors
/// As reads of its keys; the command is to be undone then.
pub(crate) fn record(
    txn: &mut Txn<'_>,
    spec: &'static CommandSpec,
    args: &Args<'_>,
    reply: (&ReplyWriter, Mark),
    changes: u64,
) -> Done {
    if !txn.is_recorded() {
        return Ok(());
    }
    let changed = txn.changes() != changes;
    match form(spec.id) {
        Form::Own => {}
        Form::Whole => txn.record_whole(args.iter()),
        _ if !changed => {}
        Form::Verbatim => txn.record(args.iter()),
        Form::Made(row) => {
            let (out, from) = reply;
            let mut said = ReplyWriter::new(out.version());
            said.append_range(out, from, out.mark());
            let reply = leaves(&said.to_vec());
            row(&mut Changed { txn, args, reply })?;
        }
    }
    Ok(())
}

fn form(command: CommandId) -> Form {
    use Form::{Made, Own, Verbatim, Whole};
    match command {
        id::EXEC | id::EVAL | id::EVALSHA | id::EVAL_RO | id::EVALSHA_RO => Own,
        id::FCALL | id::FCALL_RO | id::WATCH => Own,
        id::XREADGROUP | id::XCLAIM | id::XAUTOCLAIM | id::XADD | id::XTRIM => Own,
        id::FLUSHALL | id::FLUSHDB | id::SWAPDB => Whole,
        id::SET => Made(set),
        id::SETEX | id::PSETEX => Made(setex),
        id::GETSET => Made(getset),
        id::GETEX => Made(getex),
        id::GETDEL => Made(|c| c.say([b"DEL", c.args.get(1)])),
        id::EXPIRE | id::PEXPIRE | id::EXPIREAT | id::PEXPIREAT => Made(expire),
        id::RESTORE | id::RESTORE_ASKING => Made(restore),
        id::INCRBYFLOAT => Made(incrbyfloat),
        id::HINCRBYFLOAT => Made(hincrbyfloat),
        id::SPOP => Made(spop),
        id::BLPOP => Made(|c| c.pop(b"LPOP")),
        id::BRPOP => Made(|c| c.pop(b"RPOP")),
        id::BZPOPMIN => Made(|c| c.pop(b"ZPOPMIN")),
        id::BZPOPMAX => Made(|c| c.pop(b"ZPOPMAX")),
        id::LMPOP => Made(|c| lmpop(c, 1)),
        id::BLMPOP => Made(|c| lmpop(c, 2)),
        id::ZMPOP => Made(|c| zmpop(c, 1)),
        id::BZMPOP => Made(|c| zmpop(c, 2)),
        id::BLMOVE => Made(|c| {
            let words = [1, 2, 3, 4].map(|at| c.args.get(at));
            c.say([b"LMOVE", words[0], words[1], words[2], words[3]])
        }),
        id::BRPOPLPUSH => Made(|c| c.say([b"RPOPLPUSH", c.args.get(1), c.args.get(2)])),
        id::MIGRATE => Made(migrate),
        id::SORT => Made(sort),
        id::GEORADIUS | id::GEORADIUSBYMEMBER => Made(georadius),
        id::GEOSEARCHSTORE => Made(|c| c.sorted_set(1)),
        id::ZUNIONSTORE | id::ZINTERSTORE => Made(combine),
        _ => Verbatim,
    }
}

impl Changed<'_, '_> {
    fn say<const N: usize>(&mut self, words: [&[u8]; N]) -> Done {
        self.txn.record(words);
        Ok(())
    }

    /// Value number `at` of the reply.
    fn said(&self, at: usize) -> Result<Vec<u8>, CommandError> {
        let value = self.reply.get(at).cloned();
        value.ok_or(CommandError::Corrupt("a reply of our own"))
    }

    /// Whether the key that argument `at` names is there; its expiry. Telling replicas is
    /// no use of a key.
    fn expiry(&mut self, at: usize) -> Result<Option<Option<u64>>, CommandError> {
        let key = self.txn.key(self.args.get(at));
        let record = self.txn.peek(&key)?;
        Ok(record.map(|record| record.header().and_then(|header| header.expires_at)))
    }

    /// One element popped from the first key of the reply.
    fn pop(&mut self, command: &[u8]) -> Done {
        let key = self.said(0)?;
        self.say([command, &key])
    }

    /// The sorted set that argument `at` names, as it is now.
    fn sorted_set(&mut self, at: usize) -> Done {
        let name = self.args.get(at);
        let key = self.txn.key(name);
        self.say([b"DEL", name])?;
        let Some(record) = self.txn.peek(&key)? else {
            return Ok(());
        };
        let items = SortedSet::of(&key, record)?.items(self.txn, &Span::ALL)?;
        for chunk in items.chunks(CHUNK) {
            let mut words = vec![b"ZADD".to_vec(), name.to_vec()];
            for item in chunk {
                words.push(float(item.score));
                words.push(item.member.clone());
            }
            self.txn.record(words);
        }
        Ok(())
    }
}

fn float(value: f64) -> Vec<u8> {
    let mut text = Vec::new();
    format_f64(value, &mut text);
    text
}

fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// SET key value [NX | XX] [GET] [EX | PX | EXAT | PXAT time | KEEPTTL]
fn set(c: &mut Changed<'_, '_>) -> Done {
    let (key, value) = (c.args.get(1), c.args.get(2));
    let options = || c.args.iter().skip(3);
    if options().any(|w| ["EX", "PX", "EXAT", "PXAT"].iter().any(|o| is(w, o))) {
        return set_until(c, key, value);
    }
    let words: Vec<&[u8]> = c
        .args
        .iter()
        .take(3)
        .chain(options().filter(|w| !is(w, "GET")))
        .collect();
    c.txn.record(words);
    Ok(())
}

/// SETEX and PSETEX key time value
fn setex(c: &mut Changed<'_, '_>) -> Done {
    set_until(c, c.args.get(1), c.args.get(3))
}

fn set_until(c: &mut Changed<'_, '_>, key: &[u8], value: &[u8]) -> Done {
    match c.expiry(1)?.flatten() {
        Some(at) => c.say([b"SET", key, value, b"PXAT", at.to_string().as_bytes()]),
        // It was over before it began.
        None => c.say([b"DEL", key]),
    }
}

/// GETSET key value
fn getset(c: &mut Changed<'_, '_>) -> Done {
    c.say([b"SET", c.args.get(1), c.args.get(2)])
}

/// GETEX key [EX | PX | EXAT | PXAT time | PERSIST]
fn getex(c: &mut Changed<'_, '_>) -> Done {
    let key = c.args.get(1);
    match c.expiry(1)? {
        None => c.say([b"DEL", key]),
        Some(None) => c.say([b"PERSIST", key]),
        Some(Some(at)) => c.say([b"PEXPIREAT", key, at.to_string().as_bytes()]),
    }
}

/// EXPIRE and the like. Conditions were met.
fn expire(c: &mut Changed<'_, '_>) -> Done {
    let key = c.args.get(1);
    match c.expiry(1)?.flatten() {
        None => c.say([b"DEL", key]),
        Some(at) => c.say([b"PEXPIREAT", key, at.to_string().as_bytes()]),
    }
}

/// RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]
fn restore(c: &mut Changed<'_, '_>) -> Done {
    let until = match c.expiry(1)? {
        None => return c.say([b"DEL", c.args.get(1)]),
        Some(until) => until,
    };
    let mut words: Vec<Vec<u8>> = c.args.iter().map(<[u8]>::to_vec).collect();
    words[0] = b"RESTORE".to_vec();
    if let Some(until) = until {
        words[2] = until.to_string().into_bytes();
        if !words[4..].iter().any(|word| is(word, "ABSTTL")) {
            words.push(b"ABSTTL".to_vec());
        }
    }
    c.txn.record(words);
    Ok(())
}

/// INCRBYFLOAT key increment
fn incrbyfloat(c: &mut Changed<'_, '_>) -> Done {
    let name = c.args.get(1);
    let key = c.txn.key(name);
    let record = c.txn.peek(&key)?;
    let record = record.ok_or(CommandError::Corrupt("a string that was just written"))?;
    let value = StringValue::of(&record)?
        .read_all(c.txn, &key)?
        .into_owned();
    c.say([b"SET", name, &value, b"KEEPTTL"])
}

/// HINCRBYFLOAT key field increment
fn hincrbyfloat(c: &mut Changed<'_, '_>) -> Done {
    let value = c.said(0)?;
    c.say([b"HSET", c.args.get(1), c.args.get(2), &value])
}

/// SPOP key [count]
fn spop(c: &mut Changed<'_, '_>) -> Done {
    let key = c.args.get(1);
    if c.args.len() > 2 && c.expiry(1)?.is_none() {
        return c.say([b"DEL", key]);
    }
    for member in std::mem::take(&mut c.reply) {
        c.say([b"SREM", key, &member])?;
    }
    Ok(())
}

/// The word behind the keys of a command whose number of keys is argument `at`.
fn behind_keys<'a>(args: &Args<'a>, at: usize) -> &'a [u8] {
    let keys = parse_u64(args.get(at)).unwrap_or(0) as usize;
    args.try_get(at + 1 + keys).unwrap_or_default()
}

/// LMPOP, the number of keys being argument `at`. Reply: key, elements.
fn lmpop(c: &mut Changed<'_, '_>, at: usize) -> Done {
    let command: &[u8] = match is(behind_keys(c.args, at), "LEFT") {
        true => b"LPOP",
        false => b"RPOP",
    };
    let (key, count) = (c.said(0)?, c.reply.len() - 1);
    c.say([command, &key, count.to_string().as_bytes()])
}

/// ZMPOP, the number of keys being argument `at`. Reply: key, members with scores.
fn zmpop(c: &mut Changed<'_, '_>, at: usize) -> Done {
    let command: &[u8] = match is(behind_keys(c.args, at), "MIN") {
        true => b"ZPOPMIN",
        false => b"ZPOPMAX",
    };
    let (key, count) = (c.said(0)?, (c.reply.len() - 1) / 2);
    c.say([command, &key, count.to_string().as_bytes()])
}

/// MIGRATE's own step in the writer: (key, payload, whether it expires) of each key,
/// and 1 for each that is gone.
fn migrate(c: &mut Changed<'_, '_>) -> Done {
    for (at, gone) in std::mem::take(&mut c.reply).iter().enumerate() {
        if gone == b"1" {
            c.say([b"DEL", c.args.get(1 + 3 * at)])?;
        }
    }
    Ok(())
}

/// The position of what follows a word among the options.
fn option(args: &Args<'_>, from: usize, words: &[&str]) -> Option<usize> {
    let named = |at: &usize| words.iter().any(|word| is(args.get(*at), word));
    (from..args.len().saturating_sub(1))
        .rfind(named)
        .map(|at| at + 1)
}

/// SORT key ... STORE destination: what was stored, since the order of equals
/// is not the same everywhere.
fn sort(c: &mut Changed<'_, '_>) -> Done {
    let Some(at) = option(c.args, 2, &["STORE"]) else {
        return Ok(());
    };
    let name = c.args.get(at);
    c.say([b"DEL", name])?;
    let key = c.txn.key(name);
    let Some(record) = c.txn.peek(&key)? else {
        return Ok(());
    };
    let elements = List::of(&key, &record)?.elements(c.txn)?;
    for chunk in elements.chunks(CHUNK) {
        let head = [&b"RPUSH"[..], name];
        let words: Vec<&[u8]> = head
            .into_iter()
            .chain(chunk.iter().map(Vec::as_slice))
            .collect();
        c.txn.record(words);
    }
    Ok(())
}

/// GEORADIUS ... STORE | STOREDIST destination: what was stored.
fn georadius(c: &mut Changed<'_, '_>) -> Done {
    match option(c.args, 5, &["STORE", "STOREDIST"]) {
        Some(at) => c.sorted_set(at),
        None => Ok(()),
    }
}

/// ZUNIONSTORE and ZINTERSTORE: sums of more than two depend on their order.
fn combine(c: &mut Changed<'_, '_>) -> Done {
    match parse_u64(c.args.get(2)) {
        Some(0..=2) => {
            c.txn.record(c.args.iter());
            Ok(())
        }
        _ => c.sorted_set(1),
    }
}
