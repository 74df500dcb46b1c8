//! ZRANDMEMBER.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::{Done, Shape, open};
use crate::commands::arguments::{integer, is};
use crate::commands::large::{ReplyBound, off_network_thread};
use crate::txn::{CommandError, Txn};
use crate::types::sorted_set::SortedSet;
use crate::types::sorted_set::place::Span;

/// ZRANDMEMBER key [count [WITHSCORES]]
///
/// A negative count may give a member several times.
pub(super) fn zrandmember(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let Some(count) = args.try_get(2) else {
        return one(txn, args.get(1), out);
    };
    let count = integer(count)?;
    if count == i64::MIN {
        let (min, max) = (-i64::MAX, i64::MAX);
        return Err(CommandError::line(format!(
            "ERR value is out of range, value must between {min} and {max}"
        )));
    }
    let scores = match args.try_get(3) {
        None => false,
        Some(word) if args.len() == 4 && is(word, "WITHSCORES") => true,
        Some(_) => return Err(CommandError::SYNTAX),
    };
    if scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CommandError::fixed("ERR value is out of range"));
    }
    let set = open(txn, args.get(1))?;
    let (Some(set), true) = (set, count != 0) else {
        out.array(0);
        return Ok(());
    };
    let shape = Shape::new(out, scores);
    match u64::try_from(count) {
        Err(_) => repeated(txn, &set, count.unsigned_abs(), shape, out),
        Ok(count) => distinct(txn, &set, count, shape, out),
    }
}

fn one(txn: &mut Txn<'_>, name: &[u8], out: &mut ReplyWriter) -> Done {
    let item = match open(txn, name)? {
        Some(set) => set.random(txn)?,
        None => None,
    };
    out.bulk_or_null(item.as_ref().map(|item| &item.member[..]));
    Ok(())
}

/// `count` members, each chosen anew.
fn repeated(
    txn: &mut Txn<'_>,
    set: &SortedSet,
    count: u64,
    shape: Shape,
    out: &mut ReplyWriter,
) -> Done {
    let bound = ReplyBound::begin(out, count)?;
    off_network_thread(txn, set.len().min(count))?;
    // What would be walked through several times is read once.
    let all = match set.members().is_none() || count >= set.len() {
        true => Some(set.items(txn, &Span::ALL)?),
        false => None,
    };
    out.array(shape.len(count as usize));
    for _ in 0..count {
        let chosen = match &all {
            Some(all) => {
                let at = txn.random() % (all.len() as u64).max(1);
                all.get(at as usize).cloned()
            }
            None => set.random(txn)?,
        };
        let Some(item) = chosen else {
            break;
        };
        shape.write(out, item.score, &item.member);
        bound.check(out)?;
    }
    Ok(())
}

/// `count` different members, or all.
fn distinct(
    txn: &mut Txn<'_>,
    set: &SortedSet,
    count: u64,
    shape: Shape,
    out: &mut ReplyWriter,
) -> Done {
    let count = count.min(set.len());
    off_network_thread(txn, set.len().min(count.saturating_mul(64)))?;
    out.array(shape.len(count as usize));
    set.sample(txn, count, &mut |score, member| {
        shape.write(out, score, member);
    })
}
