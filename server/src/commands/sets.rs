//! Set commands. Wire side only: arguments in, reply out.
//! How a set is laid out on disk is `types::set`; what is computed of several
//! sets is in `set_operations`.

use std::ops::ControlFlow;

use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::integer;
use super::collection_scan::{self, ScanPage};
use super::large::{CACHED, ReplyBound, in_pieces, off_network_thread};
use crate::storage::MetaKey;
use crate::txn::{CommandError, EventClass, Pieces, Txn};
use crate::types::members::member_of;
use crate::types::set::{Set, SetEdit};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("sadd", Handler::Write(sadd)),
    ("scard", Handler::Read(scard)),
    ("sismember", Handler::Read(sismember)),
    ("smembers", Handler::Read(smembers)),
    ("smismember", Handler::Read(smismember)),
    ("smove", Handler::Write(smove)),
    ("spop", Handler::Write(spop)),
    ("srandmember", Handler::Read(srandmember)),
    ("srem", Handler::Write(srem)),
    ("sscan", Handler::Read(sscan)),
];

type Done = Result<(), CommandError>;

/// Redis makes a new set of what SPOP leaves if it takes so many times more.
const REBUILD_FACTOR: u64 = 5;

/// SADD key member [member ...]
///
/// Replies with the number of members that are new.
fn sadd(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let old = txn.get(&key)?;
    let mut set = SetEdit::open(&key, old.as_ref())?;
    let mut added = 0;
    for member in args.iter().skip(2) {
        added += set.add(txn, member)? as i64;
    }
    if added > 0 {
        set.save(txn)?;
        note_added(txn, &key, old.is_none());
    }
    out.integer(added);
    Ok(())
}

/// SCARD key
fn scard(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let len = match txn.get(&key)? {
        Some(record) => Set::of(&key, &record)?.len(),
        None => 0,
    };
    out.integer(len as i64);
    Ok(())
}

/// SISMEMBER key member
fn sismember(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let is_member = match txn.get(&key)? {
        Some(record) => Set::of(&key, &record)?.contains(txn, args.get(2))?,
        None => false,
    };
    out.integer(is_member as i64);
    Ok(())
}

/// SMEMBERS key
///
/// A set; integers in their order.
fn smembers(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.set(0);
        return Ok(());
    };
    let set = Set::of(&key, &record)?;
    if let Some(members) = set.rows()
        && in_pieces(txn, record.spread(), set.len())?
    {
        out.set(set.len() as usize);
        let rows = members.pinned(txn, set.len() <= CACHED);
        txn.leave(match set.is_intset() {
            true => Pieces::in_order(&key, rows, set.len(), |row| parse_i64(member_of(row))),
            false => Pieces::of(&key, rows, set.len(), |row, _, out| {
                out.bulk(member_of(row));
                Ok(1)
            }),
        });
        return Ok(());
    }
    off_network_thread(txn, set.len())?;
    reply_all(txn, &set, out)
}

/// SMISMEMBER key member [member ...]
fn smismember(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let record = txn.get(&key)?;
    let set = record.as_ref().map(|record| Set::of(&key, record));
    let set = set.transpose()?;
    out.array(args.len() - 2);
    for member in args.iter().skip(2) {
        let is_member = match &set {
            Some(set) => set.contains(txn, member)?,
            None => false,
        };
        out.integer(is_member as i64);
    }
    Ok(())
}

/// SMOVE source destination member
///
/// Replies 1, or 0 if the source does not have the member.
fn smove(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (from, to, member) = (txn.key(args.get(1)), txn.key(args.get(2)), args.get(3));
    let (source, old) = (txn.get(&from)?, txn.get(&to)?);
    let Some(source) = source else {
        out.integer(0);
        return Ok(());
    };
    let mut source_set = SetEdit::open(&from, Some(&source))?;
    let mut set = SetEdit::open(&to, old.as_ref())?;
    if args.get(1) == args.get(2) {
        let is_member = Set::of(&from, &source)?.contains(txn, member)?;
        out.integer(is_member as i64);
        return Ok(());
    }
    if !source_set.remove(txn, member)? {
        out.integer(0);
        return Ok(());
    }
    save_removed(txn, &from, source_set, "srem")?;
    if set.add(txn, member)? {
        set.save(txn)?;
        note_added(txn, &to, old.is_none());
    }
    out.integer(1);
    Ok(())
}

/// SPOP key [count]
///
/// Removes random members and replies with them.
fn spop(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    match args.len() {
        2 => pop_one(txn, args, out),
        3 => {
            let count = parse_i64(args.get(2)).and_then(|count| u64::try_from(count).ok());
            let count = count.ok_or(CommandError::fixed(
                "ERR value is out of range, must be positive",
            ))?;
            pop_many(txn, args, count, out)
        }
        _ => Err(CommandError::SYNTAX),
    }
}

/// SRANDMEMBER key [count]
///
/// Without a count one member; with a positive one so many different members,
/// with a negative one so many that may repeat.
fn srandmember(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    match args.len() {
        2 => {
            let key = txn.key(args.get(1));
            match txn.get(&key)? {
                Some(record) => out.bulk(&Set::of(&key, &record)?.random(txn)?),
                None => out.null(),
            }
            Ok(())
        }
        3 => {
            let count = integer(args.get(2))?;
            if count == i64::MIN {
                return Err(CommandError::fixed(
                    "ERR value is out of range, value must between -9223372036854775807 and \
                     9223372036854775807",
                ));
            }
            random_members(txn, args, count, out)
        }
        _ => Err(CommandError::SYNTAX),
    }
}

/// SREM key member [member ...]
///
/// Replies with the number of members that were there.
fn srem(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let Some(old) = txn.get(&key)? else {
        out.integer(0);
        return Ok(());
    };
    let mut set = SetEdit::open(&key, Some(&old))?;
    let mut removed = 0;
    for member in args.iter().skip(2) {
        removed += set.remove(txn, member)? as i64;
        if set.is_empty() {
            break;
        }
    }
    if removed > 0 {
        save_removed(txn, &key, set, "srem")?;
    }
    out.integer(removed);
    Ok(())
}

/// SSCAN key cursor [MATCH pattern] [COUNT count]
fn sscan(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let cursor = collection_scan::cursor(args)?;
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        collection_scan::nothing(out);
        return Ok(());
    };
    let set = Set::of(&key, &record)?;
    let mut page = ScanPage::begin(args)?;
    let next = match set.rows() {
        Some(members) => page.members(txn, members, cursor, |page, member, _| page.push(member))?,
        None => {
            set.each(txn, &mut |member, _| {
                if page.wants(member) {
                    page.push(member);
                }
                ControlFlow::Continue(())
            })?;
            0
        }
    };
    page.finish(next, out);
    Ok(())
}

// Helpers.

/// All members as a set.
pub(super) fn reply_all(txn: &mut Txn<'_>, set: &Set<'_>, out: &mut ReplyWriter) -> Done {
    out.set(set.len() as usize);
    set.each(txn, &mut |member, _| {
        out.bulk(member);
        ControlFlow::Continue(())
    })
}

/// Notes that members were added.
fn note_added(txn: &mut Txn<'_>, key: &MetaKey, is_new: bool) {
    if is_new {
        txn.event(EventClass::New, "new", key.user_key());
    }
    txn.event(EventClass::Set, "sadd", key.user_key());
}

/// Writes a set that has lost members, and notes it as `event`.
fn save_removed(txn: &mut Txn<'_>, key: &MetaKey, set: SetEdit<'_>, event: &'static str) -> Done {
    let is_gone = set.is_empty();
    set.save(txn)?;
    txn.event(EventClass::Set, event, key.user_key());
    if is_gone {
        txn.event(EventClass::Generic, "del", key.user_key());
    }
    Ok(())
}

/// SPOP without a count.
fn pop_one(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.null();
        return Ok(());
    };
    let member = Set::of(&key, &record)?.random(txn)?;
    let mut set = SetEdit::open(&key, Some(&record))?;
    set.remove(txn, &member)?;
    out.bulk(&member);
    save_removed(txn, &key, set, "spop")
}

/// SPOP with a count.
fn pop_many(txn: &mut Txn<'_>, args: &Args<'_>, count: u64, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.set(0);
        return Ok(());
    };
    let set = Set::of(&key, &record)?;
    if count == 0 {
        out.set(0);
        return Ok(());
    }
    if count >= set.len() {
        reply_all(txn, &set, out)?;
        txn.delete(&key)?;
        txn.event(EventClass::Set, "spop", args.get(1));
        txn.event(EventClass::Generic, "del", args.get(1));
        return Ok(());
    }
    let remaining = set.len() - count;
    out.set(count as usize);
    if remaining * REBUILD_FACTOR > count {
        let mut chosen = Vec::new();
        set.sample(txn, count, &mut |member| chosen.push(member.to_vec()))?;
        let mut edit = SetEdit::open(&key, Some(&record))?;
        for member in &chosen {
            out.bulk(member);
            edit.remove(txn, member)?;
        }
        return save_removed(txn, &key, edit, "spop");
    }
    keep_random(txn, &key, &set, remaining, out)?;
    txn.event(EventClass::Set, "spop", args.get(1));
    Ok(())
}

/// Makes a new set of `remaining` random members; the others are the reply.
fn keep_random(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    set: &Set<'_>,
    remaining: u64,
    out: &mut ReplyWriter,
) -> Done {
    let expires_at = txn.get(key)?.and_then(|record| record.header()?.expires_at);
    let mut kept = Vec::new();
    set.partition(txn, remaining, &mut |member, is_chosen| match is_chosen {
        true => kept.push(member.to_vec()),
        false => out.bulk(member),
    })?;
    let mut edit = SetEdit::new(key, expires_at);
    for member in &kept {
        edit.add_new(txn, member)?;
    }
    edit.save(txn)
}

/// SRANDMEMBER with a count, which is not `i64::MIN`.
fn random_members(txn: &mut Txn<'_>, args: &Args<'_>, count: i64, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.array(0);
        return Ok(());
    };
    let set = Set::of(&key, &record)?;
    let may_repeat = count < 0 || count == 1;
    let wanted = match may_repeat {
        true => count.unsigned_abs(),
        false => set.len().min(count as u64),
    };
    off_network_thread(txn, set.len().min(wanted.saturating_mul(64)))?;
    if !may_repeat {
        out.array(wanted as usize);
        return match wanted {
            0 => Ok(()),
            _ => set.sample(txn, wanted, &mut |member| out.bulk(member)),
        };
    }
    let bound = ReplyBound::begin(out, wanted)?;
    out.array(wanted as usize);
    set.draw(txn, wanted, &mut |member| {
        out.bulk(member);
        bound.check(out)
    })
}

#[cfg(test)]
#[path = "sets_tests.rs"]
mod tests;
