//! Commands that take the lowest or highest members out, waiting for some if
//! they may.

use std::ops::ControlFlow;

use cairn_protocol::resp::{Args, ReplyWriter, Version};

use super::{Done, save_smaller};
use crate::commands::arguments::{integer, is, timeout_seconds};
use crate::storage::MetaKey;
use crate::txn::{CommandError, Txn};
use crate::types::sorted_set::place::Span;
use crate::types::sorted_set::{Item, SortedSet};

/// BZMPOP timeout numkeys key [key ...] MIN | MAX [COUNT count]
pub(super) fn bzmpop(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let pop = ManyPop::read(args, 2)?;
    // Redis judges the timeout last.
    let timeout_ms = timeout_seconds(args.get(1))?;
    match pop.run(txn, args, out)? {
        true => Ok(()),
        false => wait(txn, timeout_ms, out),
    }
}

/// BZPOPMAX key [key ...] timeout
pub(super) fn bzpopmax(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    pop_waiting(txn, args, Side::Max, out)
}

/// BZPOPMIN key [key ...] timeout
pub(super) fn bzpopmin(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    pop_waiting(txn, args, Side::Min, out)
}

/// ZMPOP numkeys key [key ...] MIN | MAX [COUNT count]
///
/// Replies with the first key that has members, and these with their scores.
pub(super) fn zmpop(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if !ManyPop::read(args, 1)?.run(txn, args, out)? {
        out.null_array();
    }
    Ok(())
}

/// ZPOPMAX key [count]
pub(super) fn zpopmax(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    pop(txn, args, Side::Max, out)
}

/// ZPOPMIN key [count]
pub(super) fn zpopmin(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    pop(txn, args, Side::Min, out)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Min,
    Max,
}

impl Side {
    fn event(self) -> &'static str {
        match self {
            Side::Min => "zpopmin",
            Side::Max => "zpopmax",
        }
    }
}

/// Takes up to `count` members out of a set.
fn take(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    mut set: SortedSet,
    side: Side,
    count: u64,
) -> Result<Vec<Item>, CommandError> {
    let mut items = Vec::new();
    set.visit(txn, &Span::ALL, side == Side::Max, &mut |score, member| {
        items.push(Item::new(score, member));
        match (items.len() as u64) < count {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    for item in &items {
        set.remove_item(txn, &item.member, item.score)?;
    }
    save_smaller(txn, key, set, side.event())?;
    Ok(items)
}

fn pop(txn: &mut Txn<'_>, args: &Args<'_>, side: Side, out: &mut ReplyWriter) -> Done {
    if args.len() > 3 {
        return Err(CommandError::SYNTAX);
    }
    let count = args.try_get(2).map(positive).transpose()?;
    let key = txn.key(args.get(1));
    let set = SortedSet::open(txn, &key)?;
    let (Some(set), true) = (set, count != Some(0)) else {
        out.array(0);
        return Ok(());
    };
    let items = take(txn, &key, set, side, count.unwrap_or(1))?;
    let nested = count.is_some() && out.version() == Version::V3;
    out.array(if nested { items.len() } else { items.len() * 2 });
    write_items(out, &items, nested);
    Ok(())
}

/// A count, as Redis's `getPositiveLongFromObject` reads one.
fn positive(arg: &[u8]) -> Result<u64, CommandError> {
    const NEGATIVE: CommandError =
        CommandError::fixed("ERR value is out of range, must be positive");
    integer(arg)
        .ok()
        .and_then(|count| u64::try_from(count).ok())
        .ok_or(NEGATIVE)
}

fn write_items(out: &mut ReplyWriter, items: &[Item], nested: bool) {
    for item in items {
        if nested {
            out.array(2);
        }
        out.bulk(&item.member);
        out.double(item.score);
    }
}

/// BZPOPMIN and BZPOPMAX.
fn pop_waiting(txn: &mut Txn<'_>, args: &Args<'_>, side: Side, out: &mut ReplyWriter) -> Done {
    let last = args.len() - 1;
    let timeout_ms = timeout_seconds(args.get(last))?;
    for at in 1..last {
        let key = txn.key(args.get(at));
        if let Some(set) = SortedSet::open(txn, &key)? {
            let items = take(txn, &key, set, side, 1)?;
            out.array(1 + items.len() * 2);
            out.bulk(args.get(at));
            write_items(out, &items, false);
            return Ok(());
        }
    }
    wait(txn, timeout_ms, out)
}

/// Waits if that is allowed; otherwise the time is over.
fn wait(txn: &Txn<'_>, timeout_ms: u64, out: &mut ReplyWriter) -> Done {
    if txn.context().may_block {
        return Err(CommandError::Block { timeout_ms });
    }
    out.null_array();
    Ok(())
}

/// The arguments of ZMPOP and BZMPOP.
struct ManyPop {
    first_key: usize,
    keys: usize,
    side: Side,
    count: u64,
}

impl ManyPop {
    /// Reads them from `numkeys`, argument `at`, on.
    fn read(args: &Args<'_>, at: usize) -> Result<ManyPop, CommandError> {
        const NO_KEYS: &str = "ERR numkeys should be greater than 0";
        const NO_COUNT: &str = "ERR count should be greater than 0";
        let keys = at_least_one(args.get(at), NO_KEYS)?;
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        let side_at = (at + 1).saturating_add(keys);
        let side = match args.try_get(side_at) {
            Some(word) if is(word, "MIN") => Side::Min,
            Some(word) if is(word, "MAX") => Side::Max,
            _ => return Err(CommandError::SYNTAX),
        };
        let mut count = None;
        let mut next = side_at + 1;
        while let Some(word) = args.try_get(next) {
            let value = args.try_get(next + 1);
            match value {
                Some(value) if count.is_none() && is(word, "COUNT") => {
                    count = Some(at_least_one(value, NO_COUNT)?);
                }
                _ => return Err(CommandError::SYNTAX),
            }
            next += 2;
        }
        Ok(ManyPop {
            first_key: at + 1,
            keys,
            side,
            count: count.unwrap_or(1),
        })
    }

    /// Pops from the first key that has members. False: none has.
    fn run(
        &self,
        txn: &mut Txn<'_>,
        args: &Args<'_>,
        out: &mut ReplyWriter,
    ) -> Result<bool, CommandError> {
        for at in self.first_key..self.first_key + self.keys {
            let key = txn.key(args.get(at));
            if let Some(set) = SortedSet::open(txn, &key)? {
                let items = take(txn, &key, set, self.side, self.count)?;
                out.array(2);
                out.bulk(args.get(at));
                out.array(items.len());
                write_items(out, &items, true);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn at_least_one(arg: &[u8], error: &'static str) -> Result<u64, CommandError> {
    let number = integer(arg).ok().and_then(|n| u64::try_from(n).ok());
    number.filter(|n| *n > 0).ok_or(CommandError::fixed(error))
}
