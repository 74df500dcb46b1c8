//! Commands that compute a set of several: SINTER, SUNION, SDIFF, those that
//! store the result, and SINTERCARD. Wire side only.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};
use hashbrown::HashSet;

use super::Handler;
use super::arguments::is;
use super::large::off_network_thread;
use super::sets::reply_all;
use crate::storage::{MetaKey, Record};
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::overwrite;
use crate::types::set::{Set, SetEdit, VisitWith};
use crate::types::set_algebra::{intersect, subtract, unite};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("sdiff", Handler::Read(sdiff)),
    ("sdiffstore", Handler::Write(sdiffstore)),
    ("sinter", Handler::Read(sinter)),
    ("sintercard", Handler::Read(sintercard)),
    ("sinterstore", Handler::Write(sinterstore)),
    ("sunion", Handler::Read(sunion)),
    ("sunionstore", Handler::Write(sunionstore)),
];

type Done = Result<(), CommandError>;

/// SDIFF key [key ...]
fn sdiff(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let operands = Operands::load(txn, args, 1, args.len())?;
    reply_gathered(txn, &operands, out, |operands, txn, visit| {
        operands.difference(txn, visit)
    })
}

/// SDIFFSTORE destination key [key ...]
fn sdiffstore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let operands = Operands::load(txn, args, 2, args.len())?;
    store(txn, args.get(1), "sdiffstore", out, |txn, visit| {
        operands.difference(txn, visit)
    })
}

/// SINTER key [key ...]
fn sinter(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let operands = Operands::load(txn, args, 1, args.len())?;
    let sets = operands.by_size()?;
    off_network_thread(txn, sets.first().map_or(0, Set::len))?;
    if let [only] = &sets[..] {
        return reply_all(txn, only, out);
    }
    let list = out.deferred_set();
    let mut found = 0;
    intersect(txn, &sets, &mut |_, member| {
        out.bulk(member);
        found += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    out.set_deferred(list, found);
    Ok(())
}

/// SINTERCARD numkeys key [key ...] [LIMIT limit]
///
/// Replies with the size of the intersection, at most `limit` if that is not 0.
fn sintercard(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (keys, limit) = card_options(args)?;
    let operands = Operands::load(txn, args, 2, 2 + keys)?;
    let sets = operands.by_size()?;
    off_network_thread(txn, sets.first().map_or(0, Set::len))?;
    let mut found = 0;
    if let [only] = &sets[..] {
        found = only.len();
    } else {
        intersect(txn, &sets, &mut |_, _| {
            found += 1;
            Ok(match limit > 0 && found >= limit {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })?;
    }
    out.integer(if limit > 0 { found.min(limit) } else { found } as i64);
    Ok(())
}

/// The number of keys of SINTERCARD, and its limit.
fn card_options(args: &Args<'_>) -> Result<(usize, u64), CommandError> {
    let keys = parse_i64(args.get(1)).filter(|keys| *keys > 0);
    let keys = keys.ok_or(CommandError::fixed("ERR numkeys should be greater than 0"))?;
    let room = args.len() - 2;
    let keys = usize::try_from(keys).ok().filter(|keys| *keys <= room);
    let keys = keys.ok_or(CommandError::fixed(
        "ERR Number of keys can't be greater than number of args",
    ))?;
    let mut limit = 0;
    let mut at = 2 + keys;
    while at < args.len() {
        match args.try_get(at + 1) {
            Some(value) if is(args.get(at), "LIMIT") => {
                let given = parse_i64(value).and_then(|limit| u64::try_from(limit).ok());
                limit = given.ok_or(CommandError::fixed("ERR LIMIT can't be negative"))?;
            }
            _ => return Err(CommandError::SYNTAX),
        }
        at += 2;
    }
    Ok((keys, limit))
}

/// SINTERSTORE destination key [key ...]
fn sinterstore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let operands = Operands::load(txn, args, 2, args.len())?;
    store(txn, args.get(1), "sinterstore", out, |txn, visit| {
        intersect(txn, &operands.by_size()?, visit)
    })
}

/// SUNION key [key ...]
fn sunion(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let operands = Operands::load(txn, args, 1, args.len())?;
    reply_gathered(txn, &operands, out, |operands, txn, visit| {
        unite(txn, &operands.existing()?, visit)
    })
}

/// SUNIONSTORE destination key [key ...]
fn sunionstore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let operands = Operands::load(txn, args, 2, args.len())?;
    store(txn, args.get(1), "sunionstore", out, |txn, visit| {
        unite(txn, &operands.existing()?, visit)
    })
}

// Helpers.

/// The sets that a command names, repeated ones once.
struct Operands {
    first: Option<(MetaKey, Record)>,
    /// The others that exist.
    others: Vec<(MetaKey, Record)>,
    /// Whether one of the keys does not exist.
    has_empty: bool,
    /// Whether the first key is named again.
    repeats_first: bool,
}

impl Operands {
    /// Loads the keys `args[from..to]`.
    ///
    /// # Errors
    /// `WRONGTYPE` if one of them is no set, whatever the others are.
    fn load(
        txn: &mut Txn<'_>,
        args: &Args<'_>,
        from: usize,
        to: usize,
    ) -> Result<Operands, CommandError> {
        let mut operands = Operands {
            first: None,
            others: Vec::new(),
            has_empty: false,
            repeats_first: false,
        };
        let mut seen = HashSet::new();
        for at in from..to {
            if !seen.insert(args.get(at)) {
                operands.repeats_first |= args.get(at) == args.get(from);
                continue;
            }
            let key = txn.key(args.get(at));
            let Some(record) = txn.get(&key)? else {
                operands.has_empty = true;
                continue;
            };
            Set::of(&key, &record)?;
            match at == from {
                true => operands.first = Some((key, record)),
                false => operands.others.push((key, record)),
            }
        }
        Ok(operands)
    }

    /// Those that exist, in order.
    fn existing(&self) -> Result<Vec<Set<'_>>, CommandError> {
        let named = self.first.iter().chain(&self.others);
        named.map(|(key, record)| Set::of(key, record)).collect()
    }

    /// All of them, the smallest first; none if one does not exist.
    fn by_size(&self) -> Result<Vec<Set<'_>>, CommandError> {
        if self.has_empty {
            return Ok(Vec::new());
        }
        let mut sets = self.existing()?;
        sets.sort_by_key(Set::len);
        Ok(sets)
    }

    fn difference(&self, txn: &mut Txn<'_>, visit: &mut VisitWith<'_>) -> Done {
        let Some((key, record)) = &self.first else {
            return Ok(());
        };
        if self.repeats_first {
            return Ok(());
        }
        let others = self.others.iter();
        let others: Result<Vec<_>, _> = others.map(|(key, record)| Set::of(key, record)).collect();
        // The largest first: most likely to have what is to be left out.
        let mut others = others?;
        others.sort_by_key(|set| std::cmp::Reverse(set.len()));
        subtract(txn, &Set::of(key, record)?, &others, visit)
    }
}

/// Replies with a result as Redis does, which gathers it in a set of its own:
/// if that is one of integers, it comes in their order.
fn reply_gathered(
    txn: &mut Txn<'_>,
    operands: &Operands,
    out: &mut ReplyWriter,
    compute: impl FnOnce(&Operands, &mut Txn<'_>, &mut VisitWith<'_>) -> Done,
) -> Done {
    let work = operands.existing()?.iter().map(Set::len).sum();
    off_network_thread(txn, work)?;
    let mut gathered = Gathered {
        most: txn.limits().set_intset_entries.load(Ordering::Relaxed),
        integers: Some(Vec::new()),
        found: 0,
    };
    let list = out.deferred_set();
    compute(operands, txn, &mut |_, member| {
        gathered.take(member, out);
        Ok(ControlFlow::Continue(()))
    })?;
    let found = gathered.finish(out);
    out.set_deferred(list, found);
    Ok(())
}

/// Members of a reply; held back while they may become an intset.
struct Gathered {
    most: usize,
    /// `None`: it will be none, members are written as they come.
    integers: Option<Vec<i64>>,
    found: usize,
}

impl Gathered {
    fn take(&mut self, member: &[u8], out: &mut ReplyWriter) {
        self.found += 1;
        if let Some(integers) = &mut self.integers {
            if let Some(value) = parse_i64(member)
                && integers.len() < self.most
            {
                integers.push(value);
                return;
            }
            self.release(out);
        }
        out.bulk(member);
    }

    fn release(&mut self, out: &mut ReplyWriter) {
        let integers = self.integers.take().unwrap_or_default();
        integers
            .into_iter()
            .for_each(|value| out.bulk_integer(value));
    }

    fn finish(mut self, out: &mut ReplyWriter) -> usize {
        if let Some(integers) = &mut self.integers {
            integers.sort_unstable();
        }
        self.release(out);
        self.found
    }
}

/// Makes `name` what `compute` shows; replies with its size.
fn store(
    txn: &mut Txn<'_>,
    name: &[u8],
    event: &'static str,
    out: &mut ReplyWriter,
    compute: impl FnOnce(&mut Txn<'_>, &mut VisitWith<'_>) -> Done,
) -> Done {
    let key = txn.key(name);
    let mut result = SetEdit::new(&key, None);
    compute(txn, &mut |txn, member| {
        result.add_new(txn, member)?;
        Ok(ControlFlow::Continue(()))
    })?;
    let size = result.len();
    let old = txn.get(&key)?;
    if let Some(old) = &old {
        overwrite(txn, &key, old);
    }
    match (size, &old) {
        (0, None) => {}
        (0, Some(_)) => {
            txn.delete(&key)?;
            txn.event(EventClass::Generic, "del", name);
        }
        _ => {
            result.save(txn)?;
            if old.is_none() {
                txn.event(EventClass::New, "new", name);
            }
            txn.event(EventClass::Set, event, name);
        }
    }
    out.integer(size as i64);
    Ok(())
}

#[cfg(test)]
#[path = "set_operations_tests.rs"]
mod tests;
