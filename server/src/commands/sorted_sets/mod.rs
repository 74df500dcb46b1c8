//! Sorted set commands. Wire side only: arguments in, reply out.
//! How a sorted set is laid out on disk is `types::sorted_set`.
//!
//! Here: single members. Ranges are in `ranges`, unions and the like in
//! `algebra`, pops (blocking ones too) in `pops`, random members in `random`.

mod algebra;
mod pops;
mod random;
mod ranges;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use cairn_protocol::resp::number::{format_f64, parse_f64};
use cairn_protocol::resp::{Args, ReplyWriter, Version};

use super::Handler;
use super::arguments::is;
use super::collection_scan::{self, ScanPage};
use crate::storage::MetaKey;
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::sorted_set::place::Span;
use crate::types::sorted_set::{Item, SortedSet, score_of_row};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("bzmpop", Handler::Write(pops::bzmpop)),
    ("bzpopmax", Handler::Write(pops::bzpopmax)),
    ("bzpopmin", Handler::Write(pops::bzpopmin)),
    ("zadd", Handler::Write(zadd)),
    ("zcard", Handler::Read(zcard)),
    ("zcount", Handler::Read(ranges::zcount)),
    ("zdiff", Handler::Read(algebra::zdiff)),
    ("zdiffstore", Handler::Write(algebra::zdiffstore)),
    ("zincrby", Handler::Write(zincrby)),
    ("zinter", Handler::Read(algebra::zinter)),
    ("zintercard", Handler::Read(algebra::zintercard)),
    ("zinterstore", Handler::Write(algebra::zinterstore)),
    ("zlexcount", Handler::Read(ranges::zlexcount)),
    ("zmpop", Handler::Write(pops::zmpop)),
    ("zmscore", Handler::Read(zmscore)),
    ("zpopmax", Handler::Write(pops::zpopmax)),
    ("zpopmin", Handler::Write(pops::zpopmin)),
    ("zrandmember", Handler::Read(random::zrandmember)),
    ("zrange", Handler::Read(ranges::zrange)),
    ("zrangebylex", Handler::Read(ranges::zrangebylex)),
    ("zrangebyscore", Handler::Read(ranges::zrangebyscore)),
    ("zrangestore", Handler::Write(ranges::zrangestore)),
    ("zrank", Handler::Read(zrank)),
    ("zrem", Handler::Write(zrem)),
    ("zremrangebylex", Handler::Write(ranges::zremrangebylex)),
    ("zremrangebyrank", Handler::Write(ranges::zremrangebyrank)),
    ("zremrangebyscore", Handler::Write(ranges::zremrangebyscore)),
    ("zrevrange", Handler::Read(ranges::zrevrange)),
    ("zrevrangebylex", Handler::Read(ranges::zrevrangebylex)),
    ("zrevrangebyscore", Handler::Read(ranges::zrevrangebyscore)),
    ("zrevrank", Handler::Read(zrevrank)),
    ("zscan", Handler::Read(zscan)),
    ("zscore", Handler::Read(zscore)),
    ("zunion", Handler::Read(algebra::zunion)),
    ("zunionstore", Handler::Write(algebra::zunionstore)),
];

type Done = Result<(), CommandError>;

/// ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]
///
/// Replies with the number of new members (CH: of new and changed ones); with
/// INCR the member's score, or nil if the options forbade the change.
fn zadd(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    add(txn, args, AddOptions::default(), out)
}

/// ZCARD key
fn zcard(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let set = open(txn, args.get(1))?;
    out.integer(set.map_or(0, |set| set.len() as i64));
    Ok(())
}

/// ZINCRBY key increment member
///
/// Replies with the new score.
fn zincrby(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = AddOptions {
        incr: true,
        ..AddOptions::default()
    };
    add(txn, args, options, out)
}

/// ZMSCORE key member [member ...]
fn zmscore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let set = open(txn, args.get(1))?;
    out.array(args.len() - 2);
    for member in args.iter().skip(2) {
        let score = match &set {
            Some(set) => set.score(txn, member)?,
            None => None,
        };
        double_or_null(out, score);
    }
    Ok(())
}

/// ZRANK key member
fn zrank(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    match find_rank(txn, args)? {
        Some((rank, _)) => out.integer(rank as i64),
        None => out.null(),
    }
    Ok(())
}

/// ZREM key member [member ...]
///
/// Replies with the number of members that were there.
fn zrem(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let Some(mut set) = SortedSet::open(txn, &key)? else {
        out.integer(0);
        return Ok(());
    };
    let mut removed = 0;
    for member in args.iter().skip(2) {
        if set.is_empty() {
            break;
        }
        removed += i64::from(set.remove(txn, member)?.is_some());
    }
    if removed > 0 {
        save_smaller(txn, &key, set, "zrem")?;
    }
    out.integer(removed);
    Ok(())
}

/// ZREVRANK key member
fn zrevrank(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    match find_rank(txn, args)? {
        Some((rank, len)) => out.integer(len.saturating_sub(rank + 1) as i64),
        None => out.null(),
    }
    Ok(())
}

/// ZSCAN key cursor [MATCH pattern] [COUNT count]
///
/// Replies with members and their scores.
fn zscan(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let cursor = collection_scan::cursor(args)?;
    let Some(set) = open(txn, args.get(1))? else {
        collection_scan::nothing(out);
        return Ok(());
    };
    let mut page = ScanPage::begin(args)?;
    let is_listpack = set.is_listpack();
    let mut text = Vec::new();
    let mut write = |page: &mut ScanPage<'_>, member: &[u8], score: f64| {
        text.clear();
        format_stored(score, is_listpack, &mut text);
        page.push(member);
        page.push(&text);
    };
    let Some(members) = set.members() else {
        set.visit(txn, &Span::ALL, false, &mut |score, member| {
            if page.wants(member) {
                write(&mut page, member, score);
            }
            ControlFlow::Continue(())
        })?;
        page.finish(0, out);
        return Ok(());
    };
    let mut failed = None;
    let next = page.members(
        txn,
        members,
        cursor,
        |page, member, value| match score_of_row(value) {
            Ok(score) => write(page, member, score),
            Err(error) => failed = Some(error),
        },
    )?;
    page.finish(next, out);
    failed.map_or(Ok(()), Err)
}

/// ZSCORE key member
fn zscore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let score = match open(txn, args.get(1))? {
        Some(set) => set.score(txn, args.get(2))?,
        None => None,
    };
    double_or_null(out, score);
    Ok(())
}

// Adding, for ZADD, ZINCRBY and GEOADD.

#[derive(Clone, Copy, Default)]
pub(super) struct AddOptions {
    pub nx: bool,
    pub xx: bool,
    pub gt: bool,
    pub lt: bool,
    pub ch: bool,
    pub incr: bool,
}

impl AddOptions {
    /// Reads options from argument 2 on; returns where the first pair begins.
    fn read(&mut self, args: &Args<'_>) -> usize {
        let mut at = 2;
        while let Some(word) = args.try_get(at) {
            match word {
                _ if is(word, "NX") => self.nx = true,
                _ if is(word, "XX") => self.xx = true,
                _ if is(word, "CH") => self.ch = true,
                _ if is(word, "INCR") => self.incr = true,
                _ if is(word, "GT") => self.gt = true,
                _ if is(word, "LT") => self.lt = true,
                _ => break,
            }
            at += 1;
        }
        at
    }

    fn check(&self, pairs: usize) -> Done {
        let text = match self {
            _ if self.nx && self.xx => "ERR XX and NX options at the same time are not compatible",
            _ if (self.gt || self.lt) && self.nx || self.gt && self.lt => {
                "ERR GT, LT, and/or NX options at the same time are not compatible"
            }
            _ if self.incr && pairs > 1 => {
                "ERR INCR option supports a single increment-element pair"
            }
            _ => return Ok(()),
        };
        Err(CommandError::fixed(text))
    }
}

fn add(txn: &mut Txn<'_>, args: &Args<'_>, mut options: AddOptions, out: &mut ReplyWriter) -> Done {
    let first = options.read(args);
    let words = args.len() - first;
    if words == 0 || !words.is_multiple_of(2) {
        return Err(CommandError::SYNTAX);
    }
    options.check(words / 2)?;
    let mut pairs = Vec::with_capacity(words / 2);
    for at in (first..args.len()).step_by(2) {
        pairs.push((float(args.get(at))?, args.get(at + 1)));
    }
    add_pairs(txn, args.get(1), options, &pairs, out)
}

/// ZADD with its arguments read.
pub(super) fn add_pairs(
    txn: &mut Txn<'_>,
    name: &[u8],
    options: AddOptions,
    pairs: &[(f64, &[u8])],
    out: &mut ReplyWriter,
) -> Done {
    let key = txn.key(name);
    let mut set = SortedSet::open_or_new(txn, &key)?;
    let existed = set.existed();
    let (mut added, mut updated, mut score) = (0, 0, None);
    for (by, member) in pairs {
        let old = set.score(txn, member)?;
        score = options.outcome(old, *by)?;
        if let Some(score) = score
            && old != Some(score)
        {
            set.set(txn, member, old, score)?;
            match old {
                None => added += 1,
                Some(_) => updated += 1,
            }
        }
    }
    if added + updated > 0 {
        set.save(txn)?;
        let name = if options.incr { "zincr" } else { "zadd" };
        changed(txn, &key, !existed, name);
    }
    match options {
        _ if options.incr => double_or_null(out, score),
        _ if options.ch => out.integer(added + updated),
        _ => out.integer(added),
    }
    Ok(())
}

impl AddOptions {
    /// The score that a member gets which has `old`. `None`: nothing is done.
    fn outcome(&self, old: Option<f64>, by: f64) -> Result<Option<f64>, CommandError> {
        let Some(old) = old else {
            return Ok((!self.xx).then_some(by));
        };
        if self.nx {
            return Ok(None);
        }
        let score = if self.incr { old + by } else { by };
        if score.is_nan() {
            let text = "ERR resulting score is not a number (NaN)";
            return Err(CommandError::fixed(text));
        }
        let forbidden = self.lt && score >= old || self.gt && score <= old;
        Ok((!forbidden).then_some(score))
    }
}

// Helpers.

/// The sorted set of a key.
pub(super) fn open(txn: &mut Txn<'_>, name: &[u8]) -> Result<Option<SortedSet>, CommandError> {
    let key = txn.key(name);
    SortedSet::open(txn, &key)
}

/// A float argument.
pub(super) fn float(arg: &[u8]) -> Result<f64, CommandError> {
    parse_f64(arg).ok_or(CommandError::NOT_A_FLOAT)
}

fn double_or_null(out: &mut ReplyWriter, score: Option<f64>) {
    match score {
        Some(score) => out.double(score),
        None => out.null(),
    }
}

/// A score as ZSCAN shows it: as the number is stored. A listpack holds
/// integers as such.
fn format_stored(score: f64, is_listpack: bool, out: &mut Vec<u8>) {
    let integral = score.abs() <= (i64::MAX / 2) as f64 && score.trunc() == score;
    match is_listpack && integral {
        true => out.extend_from_slice(itoa::Buffer::new().format(score as i64).as_bytes()),
        false => format_f64(score, out),
    }
}

/// Notes what was done to a sorted set.
fn changed(txn: &mut Txn<'_>, key: &MetaKey, created: bool, name: &'static str) {
    if created {
        txn.event(EventClass::New, "new", key.user_key());
    }
    txn.event(EventClass::SortedSet, name, key.user_key());
}

/// Saves a set that has lost members, and notes what was done to it.
fn save_smaller(txn: &mut Txn<'_>, key: &MetaKey, set: SortedSet, name: &'static str) -> Done {
    let gone = set.is_empty();
    set.save(txn)?;
    changed(txn, key, false, name);
    if gone {
        txn.event(EventClass::Generic, "del", key.user_key());
    }
    Ok(())
}

/// Stores the result of a command under `name` and replies with its size; no
/// result deletes the key.
pub(super) fn store(
    txn: &mut Txn<'_>,
    name: &[u8],
    items: &[Item],
    event: &'static str,
    out: &mut ReplyWriter,
) -> Done {
    let key = txn.key(name);
    let existed = SortedSet::replace(txn, &key, items)?;
    if !items.is_empty() {
        changed(txn, &key, !existed, event);
    } else if existed {
        txn.event(EventClass::Generic, "del", name);
    }
    out.integer(items.len() as i64);
    Ok(())
}

/// Rank of the member that is argument 2, and the size of its set.
fn find_rank(txn: &mut Txn<'_>, args: &Args<'_>) -> Result<Option<(u64, u64)>, CommandError> {
    let Some(set) = open(txn, args.get(1))? else {
        return Ok(None);
    };
    let Some(score) = set.score(txn, args.get(2))? else {
        return Ok(None);
    };
    let rank = set.rank_of(txn, args.get(2), score)?;
    Ok(Some((rank, set.len())))
}

/// How members are written: alone, or with their scores (RESP2: one flat
/// array; RESP3: pairs).
#[derive(Clone, Copy)]
struct Shape {
    scores: bool,
    nested: bool,
}

impl Shape {
    fn new(out: &ReplyWriter, scores: bool) -> Shape {
        Shape {
            scores,
            nested: scores && out.version() == Version::V3,
        }
    }

    /// Elements of the array that holds `items`.
    fn len(self, items: usize) -> usize {
        match self.scores && !self.nested {
            true => items * 2,
            false => items,
        }
    }

    fn write(self, out: &mut ReplyWriter, score: f64, member: &[u8]) {
        if self.nested {
            out.array(2);
        }
        out.bulk(member);
        if self.scores {
            out.double(score);
        }
    }
}
