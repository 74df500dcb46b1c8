//! List commands. Wire side only: arguments in, reply out.
//! How a list is laid out on disk is `types::list`; those that wait are in
//! `lists_blocking`.

use std::ops::{ControlFlow, Range};

use cairn_protocol::command::{id, wrong_arity_error};
use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::{integer, is};
use super::large::{CACHED, in_pieces};
use crate::storage::MetaKey;
use crate::txn::{CommandError, EventClass, Pieces, Txn};
use crate::types::list::{End, List};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("lindex", Handler::Read(lindex)),
    ("linsert", Handler::Write(linsert)),
    ("llen", Handler::Read(llen)),
    ("lmove", Handler::Write(lmove)),
    ("lmpop", Handler::Write(lmpop)),
    ("lpop", Handler::Write(lpop)),
    ("lpos", Handler::Read(lpos)),
    ("lpush", Handler::Write(lpush)),
    ("lpushx", Handler::Write(lpushx)),
    ("lrange", Handler::Read(lrange)),
    ("lrem", Handler::Write(lrem)),
    ("lset", Handler::Write(lset)),
    ("ltrim", Handler::Write(ltrim)),
    ("rpop", Handler::Write(rpop)),
    ("rpoplpush", Handler::Write(rpoplpush)),
    ("rpush", Handler::Write(rpush)),
    ("rpushx", Handler::Write(rpushx)),
];

type Done = Result<(), CommandError>;

/// LINDEX key index
fn lindex(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.null();
        return Ok(());
    };
    let list = List::of(&key, &record)?;
    match index_within(integer(args.get(2))?, list.len()) {
        Some(index) => list.get(txn, index, &mut |value| out.bulk(value))?,
        None => out.null(),
    }
    Ok(())
}

/// LINSERT key BEFORE | AFTER pivot element
///
/// Replies with the new length, -1 if the pivot is not there, 0 if the key is not.
fn linsert(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let before = match args.get(2) {
        word if is(word, "BEFORE") => true,
        word if is(word, "AFTER") => false,
        _ => return Err(CommandError::SYNTAX),
    };
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.integer(0);
        return Ok(());
    };
    let mut list = List::of(&key, &record)?;
    if !list.insert(txn, args.get(3), before, args.get(4))? {
        out.integer(-1);
        return Ok(());
    }
    out.integer(list.len() as i64);
    list.save(txn)?;
    txn.event(EventClass::List, "linsert", args.get(1));
    Ok(())
}

/// LLEN key
fn llen(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let len = match txn.get(&key)? {
        Some(record) => List::of(&key, &record)?.len(),
        None => 0,
    };
    out.integer(len as i64);
    Ok(())
}

/// LMOVE source destination LEFT | RIGHT LEFT | RIGHT
///
/// Replies with the element, or nil if there is no source.
fn lmove(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (from, to) = (end(args.get(3))?, end(args.get(4))?);
    if !move_element(txn, args, from, to, out)? {
        out.null();
    }
    Ok(())
}

/// LMPOP numkeys key [key ...] LEFT | RIGHT [COUNT count]
///
/// Replies with the first key that is a list and its elements, or nil.
fn lmpop(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = MultiPop::read(args, 1)?;
    if !options.pop(txn, args, out)? {
        out.null_array();
    }
    Ok(())
}

/// LPOP key [count]
///
/// Replies with the element; given a count, with an array. Nil: no such key.
fn lpop(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    pop(txn, args, End::Left, out)
}

/// LPOS key element [RANK rank] [COUNT matches] [MAXLEN len]
///
/// Replies with the index, or nil; given COUNT, with an array of indexes.
fn lpos(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Positions::read(args)?;
    let key = txn.key(args.get(1));
    let record = txn.get(&key)?;
    let list = match &record {
        Some(record) => List::of(&key, record)?,
        None => List::empty(&key),
    };
    let found = options.find(txn, &list, args.get(2))?;
    match options.count {
        Some(_) => {
            out.array(found.len());
            found.iter().for_each(|index| out.integer(*index as i64));
        }
        None => match found.first() {
            Some(index) => out.integer(*index as i64),
            None => out.null(),
        },
    }
    Ok(())
}

/// LPUSH key element [element ...]
///
/// Replies with the new length.
fn lpush(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    push(txn, args, End::Left, false, out)
}

/// LPUSHX key element [element ...]
fn lpushx(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    push(txn, args, End::Left, true, out)
}

/// LRANGE key start stop
///
/// Both ends are included; negative ones count from the end.
fn lrange(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (start, stop) = (integer(args.get(2))?, integer(args.get(3))?);
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.array(0);
        return Ok(());
    };
    let list = List::of(&key, &record)?;
    let range = range_within(start, stop, list.len());
    let count = range.end - range.start;
    if count > 0 && list.is_spread() && in_pieces(txn, record.spread(), count)? {
        return leave_range(txn, &list, &range, out);
    }
    out.array(count as usize);
    list.show(txn, range, End::Left, &mut |value| out.bulk(value))
}

/// LREM key count element
///
/// A negative count removes from the right, 0 all. Replies with how many went.
fn lrem(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (limit, from) = match integer(args.get(2))? {
        0 => (u64::MAX, End::Left),
        count @ 1.. => (count as u64, End::Left),
        count => (count.unsigned_abs(), End::Right),
    };
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.integer(0);
        return Ok(());
    };
    let mut list = List::of(&key, &record)?;
    let removed = list.remove(txn, args.get(3), limit, from)?;
    if removed > 0 {
        save(txn, list, "lrem")?;
    }
    out.integer(removed as i64);
    Ok(())
}

/// LSET key index element
fn lset(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let record = txn.get(&key)?.ok_or(CommandError::NO_SUCH_KEY)?;
    let mut list = List::of(&key, &record)?;
    let index = index_within(integer(args.get(2))?, list.len());
    list.set(txn, index.ok_or(CommandError::OUT_OF_RANGE)?, args.get(3))?;
    list.save(txn)?;
    txn.event(EventClass::List, "lset", args.get(1));
    out.ok();
    Ok(())
}

/// LTRIM key start stop
fn ltrim(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (start, stop) = (integer(args.get(2))?, integer(args.get(3))?);
    let key = txn.key(args.get(1));
    out.ok();
    let Some(record) = txn.get(&key)? else {
        return Ok(());
    };
    let mut list = List::of(&key, &record)?;
    let range = range_within(start, stop, list.len());
    if range == (0..list.len()) {
        // Redis announces this too.
        txn.event(EventClass::List, "ltrim", args.get(1));
        return Ok(());
    }
    list.trim(txn, range)?;
    save(txn, list, "ltrim")
}

/// RPOP key [count]
fn rpop(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    pop(txn, args, End::Right, out)
}

/// RPOPLPUSH source destination
fn rpoplpush(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if !move_element(txn, args, End::Right, End::Left, out)? {
        out.null();
    }
    Ok(())
}

/// RPUSH key element [element ...]
///
/// Replies with the new length.
fn rpush(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    push(txn, args, End::Right, false, out)
}

/// RPUSHX key element [element ...]
fn rpushx(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    push(txn, args, End::Right, true, out)
}

// Helpers.

fn push_event(end: End) -> &'static str {
    match end {
        End::Left => "lpush",
        End::Right => "rpush",
    }
}

fn pop_event(end: End) -> &'static str {
    match end {
        End::Left => "lpop",
        End::Right => "rpop",
    }
}

/// LEFT or RIGHT.
pub(super) fn end(arg: &[u8]) -> Result<End, CommandError> {
    match arg {
        word if is(word, "LEFT") => Ok(End::Left),
        word if is(word, "RIGHT") => Ok(End::Right),
        _ => Err(CommandError::SYNTAX),
    }
}

/// The element that an index, perhaps negative, means. `None`: there is none.
fn index_within(index: i64, len: u64) -> Option<u64> {
    let index = match index {
        0.. => index as u64,
        _ => len.checked_sub(index.unsigned_abs())?,
    };
    (index < len).then_some(index)
}

/// Redis's inclusive, perhaps negative ends as a range within a list.
fn range_within(start: i64, stop: i64, len: u64) -> Range<u64> {
    let from_left = |index: i64| match index {
        0.. => index as u64,
        _ => len.saturating_sub(index.unsigned_abs()),
    };
    // A stop before the first element leaves nothing, where a start there means the first.
    if stop < 0 && stop.unsigned_abs() > len {
        return 0..0;
    }
    let (start, end) = (from_left(start), from_left(stop).saturating_add(1).min(len));
    match start < end {
        true => start..end,
        false => 0..0,
    }
}

/// Writes the front of a range, and leaves the rest to be written in pieces.
fn leave_range(
    txn: &mut Txn<'_>,
    list: &List<'_>,
    range: &Range<u64>,
    out: &mut ReplyWriter,
) -> Done {
    let count = range.end - range.start;
    let Some(middle) = list.pinned(txn, range, count <= CACHED)? else {
        // Both ends lie in the record.
        out.array(count as usize);
        return list.show(txn, range.clone(), End::Left, &mut |value| out.bulk(value));
    };
    out.array(count as usize);
    list.show_end(End::Left, range, &mut |value| out.bulk(value))?;
    let mut end = ReplyWriter::new(out.version());
    list.show_end(End::Right, range, &mut |value| end.bulk(value))?;
    let mut part = middle.part;
    let write = move |_: &[u8], value: &[u8], out: &mut ReplyWriter| {
        part.show(value, &mut |element| out.bulk(element))
    };
    let pieces = Pieces::of(list.key(), middle.rows, middle.part.count, write);
    txn.leave(pieces.followed_by(end.to_vec()));
    Ok(())
}

/// Stores what is left of a list and announces what was done to it.
fn save(txn: &mut Txn<'_>, list: List<'_>, event: &'static str) -> Done {
    let key = list.key();
    let is_left = list.save(txn)?;
    txn.event(EventClass::List, event, key.user_key());
    if !is_left {
        txn.event(EventClass::Generic, "del", key.user_key());
    }
    Ok(())
}

/// LPUSH, RPUSH, and their forms that want the key to exist.
fn push(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    end: End,
    only_existing: bool,
    out: &mut ReplyWriter,
) -> Done {
    let key = txn.key(args.get(1));
    let record = txn.get(&key)?;
    let mut list = match &record {
        Some(record) => List::of(&key, record)?,
        None if only_existing => {
            out.integer(0);
            return Ok(());
        }
        None => List::empty(&key),
    };
    for value in args.iter().skip(2) {
        list.push(txn, end, value)?;
    }
    out.integer(list.len() as i64);
    list.save(txn)?;
    pushed(txn, &key, record.is_none(), end);
    Ok(())
}

fn pushed(txn: &mut Txn<'_>, key: &MetaKey, is_new: bool, end: End) {
    if is_new {
        txn.event(EventClass::New, "new", key.user_key());
    }
    txn.event(EventClass::List, push_event(end), key.user_key());
}

/// LPOP and RPOP.
fn pop(txn: &mut Txn<'_>, args: &Args<'_>, end: End, out: &mut ReplyWriter) -> Done {
    if args.len() > 3 {
        let spec = match end {
            End::Left => id::LPOP,
            End::Right => id::RPOP,
        };
        return Err(CommandError::line(wrong_arity_error(spec.spec())));
    }
    let count = match args.try_get(2) {
        Some(arg) => Some(positive(
            arg,
            "ERR value is out of range, must be positive",
        )?),
        None => None,
    };
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        match count {
            Some(_) => out.null_array(),
            None => out.null(),
        }
        return Ok(());
    };
    let list = List::of(&key, &record)?;
    match count {
        None => pop_into(txn, list, end, 1, out),
        Some(0) => {
            out.array(0);
            Ok(())
        }
        Some(count) => {
            out.array(count.min(list.len()) as usize);
            pop_into(txn, list, end, count, out)
        }
    }
}

/// Pops elements, each of them a reply, and announces it.
pub(super) fn pop_into(
    txn: &mut Txn<'_>,
    mut list: List<'_>,
    end: End,
    count: u64,
    out: &mut ReplyWriter,
) -> Done {
    list.pop(txn, end, count, &mut |value| out.bulk(value))?;
    save(txn, list, pop_event(end))
}

/// A count of 0 or more.
fn positive(arg: &[u8], error: &'static str) -> Result<u64, CommandError> {
    let count = parse_i64(arg).and_then(|count| u64::try_from(count).ok());
    count.ok_or(CommandError::fixed(error))
}

/// A count of 1 or more.
fn at_least_one(arg: &[u8], error: &'static str) -> Result<u64, CommandError> {
    match positive(arg, error)? {
        0 => Err(CommandError::fixed(error)),
        count => Ok(count),
    }
}

/// LMOVE and its like: moves an element between the lists that the first two
/// arguments name, and replies with it. False, and no reply: no source.
pub(super) fn move_element(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    from: End,
    to: End,
    out: &mut ReplyWriter,
) -> Result<bool, CommandError> {
    let (source, target) = (txn.key(args.get(1)), txn.key(args.get(2)));
    let Some(record) = txn.get(&source)? else {
        return Ok(false);
    };
    let mut list = List::of(&source, &record)?;
    let mut element = Vec::new();
    if source.physical() == target.physical() {
        list.pop(txn, from, 1, &mut |value| element = value.to_vec())?;
        list.push(txn, to, &element)?;
        list.save(txn)?;
        txn.event(EventClass::List, push_event(to), target.user_key());
        txn.event(EventClass::List, pop_event(from), source.user_key());
        out.bulk_bytes(element.into());
        return Ok(true);
    }
    let old = txn.get(&target)?;
    let mut other = match &old {
        Some(record) => List::of(&target, record)?,
        None => List::empty(&target),
    };
    list.pop(txn, from, 1, &mut |value| element = value.to_vec())?;
    other.push(txn, to, &element)?;
    other.save(txn)?;
    pushed(txn, &target, old.is_none(), to);
    save(txn, list, pop_event(from))?;
    out.bulk_bytes(element.into());
    Ok(true)
}

/// The arguments of LMPOP and BLMPOP.
pub(super) struct MultiPop {
    keys: Range<usize>,
    end: End,
    count: u64,
}

impl MultiPop {
    /// `at`: position of the number of keys.
    pub(super) fn read(args: &Args<'_>, at: usize) -> Result<MultiPop, CommandError> {
        let keys = at_least_one(args.get(at), "ERR numkeys should be greater than 0")?;
        let behind = (at as u64 + 1).saturating_add(keys).min(args.len() as u64) as usize;
        let end = end(args.try_get(behind).ok_or(CommandError::SYNTAX)?)?;
        let count = match args.len() - behind {
            1 => 1,
            3 if is(args.get(behind + 1), "COUNT") => {
                at_least_one(args.get(behind + 2), "ERR count should be greater than 0")?
            }
            _ => return Err(MultiPop::unclear(args, behind)),
        };
        Ok(MultiPop {
            keys: at + 1..behind,
            end,
            count,
        })
    }

    /// A bad COUNT is told before what follows it.
    fn unclear(args: &Args<'_>, behind: usize) -> CommandError {
        let count = args.try_get(behind + 2);
        match count.filter(|_| is(args.get(behind + 1), "COUNT")) {
            Some(count) => at_least_one(count, "ERR count should be greater than 0")
                .err()
                .unwrap_or(CommandError::SYNTAX),
            None => CommandError::SYNTAX,
        }
    }

    /// Pops from the first key that there is. False, and no reply: none.
    pub(super) fn pop(
        &self,
        txn: &mut Txn<'_>,
        args: &Args<'_>,
        out: &mut ReplyWriter,
    ) -> Result<bool, CommandError> {
        for at in self.keys.clone() {
            let key = txn.key(args.get(at));
            let Some(record) = txn.get(&key)? else {
                continue;
            };
            let list = List::of(&key, &record)?;
            out.array(2);
            out.bulk(key.user_key());
            out.array(self.count.min(list.len()) as usize);
            pop_into(txn, list, self.end, self.count, out)?;
            return Ok(true);
        }
        Ok(false)
    }
}

/// The options of LPOS.
struct Positions {
    /// The first match that counts, 1 being the first of all.
    rank: u64,
    from: End,
    /// `None`: one index is asked for; 0: all.
    count: Option<u64>,
    /// Elements that are looked at; 0: all.
    max_len: u64,
}

impl Positions {
    fn read(args: &Args<'_>) -> Result<Positions, CommandError> {
        let mut options = Positions {
            rank: 1,
            from: End::Left,
            count: None,
            max_len: 0,
        };
        let mut at = 3;
        while at < args.len() {
            let word = args.get(at);
            let value = args.try_get(at + 1).ok_or(CommandError::SYNTAX)?;
            match word {
                _ if is(word, "RANK") => options.set_rank(integer(value)?)?,
                _ if is(word, "COUNT") => {
                    options.count = Some(positive(value, "ERR COUNT can't be negative")?);
                }
                _ if is(word, "MAXLEN") => {
                    options.max_len = positive(value, "ERR MAXLEN can't be negative")?;
                }
                _ => return Err(CommandError::SYNTAX),
            }
            at += 2;
        }
        Ok(options)
    }

    fn set_rank(&mut self, rank: i64) -> Done {
        if rank == 0 {
            return Err(CommandError::fixed(
                "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second \
                 ... or use negative to start from the end of the list",
            ));
        }
        self.rank = rank.unsigned_abs();
        self.from = match rank > 0 {
            true => End::Left,
            false => End::Right,
        };
        Ok(())
    }

    /// Indexes of the matches that count, in order of meeting them.
    fn find(
        &self,
        txn: &mut Txn<'_>,
        list: &List<'_>,
        value: &[u8],
    ) -> Result<Vec<u64>, CommandError> {
        let len = list.len();
        let max = match self.max_len {
            0 => len,
            max => max.min(len),
        };
        let range = match self.from {
            End::Left => 0..max,
            End::Right => len - max..len,
        };
        let wanted = match self.count {
            None => 1,
            Some(0) => u64::MAX,
            Some(count) => count,
        };
        let (mut met, mut found) = (0, Vec::new());
        list.find(txn, value, range, self.from, &mut |index| {
            met += 1;
            if met >= self.rank {
                found.push(index);
            }
            match found.len() as u64 == wanted {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        Ok(found)
    }
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
