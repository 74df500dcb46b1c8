//! List commands that wait for an element. Waiting itself is the group's
//! business: a command that finds nothing says so (`CommandError::Block`) and
//! is run again when one of its keys has changed.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::timeout_seconds;
use super::lists::{MultiPop, end, move_element, pop_into};
use crate::txn::{CommandError, Txn};
use crate::types::list::{End, List};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("blmove", Handler::Write(blmove)),
    ("blmpop", Handler::Write(blmpop)),
    ("blpop", Handler::Write(blpop)),
    ("brpop", Handler::Write(brpop)),
    ("brpoplpush", Handler::Write(brpoplpush)),
];

type Done = Result<(), CommandError>;

/// BLMOVE source destination LEFT | RIGHT LEFT | RIGHT timeout
fn blmove(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (from, to) = (end(args.get(3))?, end(args.get(4))?);
    let timeout_ms = timeout_seconds(args.get(5))?;
    if !move_element(txn, args, from, to, out)? {
        wait(txn, timeout_ms)?;
        out.null();
    }
    Ok(())
}

/// BLMPOP timeout numkeys key [key ...] LEFT | RIGHT [COUNT count]
fn blmpop(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = MultiPop::read(args, 2)?;
    let timeout_ms = timeout_seconds(args.get(1))?;
    if !options.pop(txn, args, out)? {
        wait(txn, timeout_ms)?;
        out.null_array();
    }
    Ok(())
}

/// BLPOP key [key ...] timeout
///
/// Replies with the first key that is a list and its element, or nil.
fn blpop(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    pop(txn, args, End::Left, out)
}

/// BRPOP key [key ...] timeout
fn brpop(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    pop(txn, args, End::Right, out)
}

/// BRPOPLPUSH source destination timeout
fn brpoplpush(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let timeout_ms = timeout_seconds(args.get(3))?;
    if !move_element(txn, args, End::Right, End::Left, out)? {
        wait(txn, timeout_ms)?;
        out.null();
    }
    Ok(())
}

// Helpers.

fn pop(txn: &mut Txn<'_>, args: &Args<'_>, end: End, out: &mut ReplyWriter) -> Done {
    let last = args.len() - 1;
    let timeout_ms = timeout_seconds(args.get(last))?;
    for at in 1..last {
        let key = txn.key(args.get(at));
        let Some(record) = txn.get(&key)? else {
            continue;
        };
        let list = List::of(&key, &record)?;
        out.array(2);
        out.bulk(key.user_key());
        return pop_into(txn, list, end, 1, out);
    }
    wait(txn, timeout_ms)?;
    out.null_array();
    Ok(())
}

/// Blocks where that is allowed; otherwise the time is over at once.
fn wait(txn: &Txn<'_>, timeout_ms: u64) -> Done {
    match txn.context().may_block {
        true => Err(CommandError::Block { timeout_ms }),
        false => Ok(()),
    }
}
