//! Ranges of sorted sets, by rank, score or member: read, counted, stored, removed.

use std::ops::ControlFlow;

use cairn_protocol::resp::number::parse_f64;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::{Done, Shape, changed, open, save_smaller, store};
use crate::commands::arguments::{integer, is};
use crate::commands::large::{CACHED, Growth, in_pieces, off_network_thread};
use crate::txn::{CommandError, Delivery, EventClass, Pieces, Txn};
use crate::types::delete_key;
use crate::types::sorted_set::place::{LexBound, ScoreBound, Span, lex_run, lex_span, score_span};
use crate::types::sorted_set::{Item, SortedSet, item_of_row};

/// ZCOUNT key min max
pub(super) fn zcount(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    count(txn, args, Kind::Score, out)
}

/// ZLEXCOUNT key min max
pub(super) fn zlexcount(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    count(txn, args, Kind::Lex, out)
}

/// ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]
pub(super) fn zrange(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply(txn, args, None, None, out)
}

/// ZRANGEBYLEX key min max [LIMIT offset count]
pub(super) fn zrangebylex(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply(txn, args, Some(Kind::Lex), Some(false), out)
}

/// ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]
pub(super) fn zrangebyscore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply(txn, args, Some(Kind::Score), Some(false), out)
}

/// ZREVRANGE key start stop [WITHSCORES]
pub(super) fn zrevrange(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply(txn, args, Some(Kind::Rank), Some(true), out)
}

/// ZREVRANGEBYLEX key max min [LIMIT offset count]
pub(super) fn zrevrangebylex(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply(txn, args, Some(Kind::Lex), Some(true), out)
}

/// ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]
pub(super) fn zrevrangebyscore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply(txn, args, Some(Kind::Score), Some(true), out)
}

/// ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]
///
/// Replies with the size of the result.
pub(super) fn zrangestore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let query = Query::read(args, 2, true, None, None)?;
    let mut items = Vec::new();
    if let Some(set) = open(txn, args.get(2))?
        && let Some(window) = query.window(txn, &set)?
    {
        window.visit(txn, &set, &mut |score, member| {
            items.push(Item::new(score, member));
        })?;
    }
    if query.reverse {
        items.reverse();
    }
    store(txn, args.get(1), &items, "zrangestore", out)
}

/// ZREMRANGEBYLEX key min max
pub(super) fn zremrangebylex(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    remove(txn, args, Kind::Lex, "zremrangebylex", out)
}

/// ZREMRANGEBYRANK key start stop
pub(super) fn zremrangebyrank(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    remove(txn, args, Kind::Rank, "zremrangebyrank", out)
}

/// ZREMRANGEBYSCORE key min max
pub(super) fn zremrangebyscore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    remove(txn, args, Kind::Score, "zremrangebyscore", out)
}

/// What a range's ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rank,
    Score,
    Lex,
}

/// The ends of a range, lower one first.
#[derive(Clone, Copy)]
enum Ends<'a> {
    Rank(i64, i64),
    Score(ScoreBound, ScoreBound),
    Lex(LexBound<'a>, LexBound<'a>),
}

impl<'a> Ends<'a> {
    fn read(kind: Kind, min: &'a [u8], max: &'a [u8]) -> Result<Ends<'a>, CommandError> {
        const NOT_FLOATS: CommandError = CommandError::fixed("ERR min or max is not a float");
        const NOT_LEX: CommandError =
            CommandError::fixed("ERR min or max not valid string range item");
        Ok(match kind {
            Kind::Rank => Ends::Rank(integer(min)?, integer(max)?),
            Kind::Score => {
                let (min, max) = (score_bound(min), score_bound(max));
                Ends::Score(min.ok_or(NOT_FLOATS)?, max.ok_or(NOT_FLOATS)?)
            }
            Kind::Lex => {
                let (min, max) = (lex_bound(min), lex_bound(max));
                Ends::Lex(min.ok_or(NOT_LEX)?, max.ok_or(NOT_LEX)?)
            }
        })
    }

    /// The range as places, for scores and members.
    fn span(self, txn: &mut Txn<'_>, set: &SortedSet) -> Result<Span, CommandError> {
        Ok(match self {
            Ends::Rank(..) => Span::ALL,
            Ends::Score(min, max) => score_span(min, max),
            // Members are in order only where all scores are the same. Redis
            // goes through a listpack all the same, and so a small set shows
            // what lies between; of a large one that is not said.
            Ends::Lex(min, max) if set.is_listpack() => {
                lex_run(&set.items(txn, &Span::ALL)?, min, max)
            }
            Ends::Lex(min, max) => lex_span(set.first_score(txn)?, min, max),
        })
    }
}

/// `1.5`, `(1.5`, `-inf`: what C's `strtod` reads whole, up to a NUL; nothing
/// is 0.
fn score_bound(arg: &[u8]) -> Option<ScoreBound> {
    let (exclusive, text) = match arg {
        [b'(', text @ ..] => (true, text),
        text => (false, text),
    };
    let text = text.split(|byte| *byte == 0).next()?;
    if text.is_empty() {
        let score = 0.0;
        return Some(ScoreBound { score, exclusive });
    }
    let blanks = text
        .iter()
        .take_while(|b| matches!(b, b'\t'..=b'\r' | b' '));
    let text = &text[blanks.count()..];
    let score = parse_f64(text).or_else(|| out_of_range(text))?;
    Some(ScoreBound { score, exclusive })
}

/// A decimal number too large or too small for a double: `strtod` gives
/// infinity or nearly nothing, and only says so in `errno`.
fn out_of_range(text: &[u8]) -> Option<f64> {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+"));
    let starts = digits.unwrap_or(text).first();
    if !starts.is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `-`, `+`, `[member` or `(member`.
fn lex_bound(arg: &[u8]) -> Option<LexBound<'_>> {
    match arg {
        [b'-'] | [b'-', 0, ..] => Some(LexBound::Lowest),
        [b'+'] | [b'+', 0, ..] => Some(LexBound::Highest),
        [b'[', member @ ..] => Some(LexBound::Inclusive(member)),
        [b'(', member @ ..] => Some(LexBound::Exclusive(member)),
        _ => None,
    }
}

/// A range command's arguments.
struct Query<'a> {
    ends: Ends<'a>,
    reverse: bool,
    scores: bool,
    offset: i64,
    /// Negative: no limit.
    limit: i64,
}

impl<'a> Query<'a> {
    /// Reads arguments from the source key `at` on. What the command's name
    /// fixes cannot be chosen by options; `storing` takes no WITHSCORES.
    fn read(
        args: &Args<'a>,
        at: usize,
        storing: bool,
        kind: Option<Kind>,
        reverse: Option<bool>,
    ) -> Result<Query<'a>, CommandError> {
        let (mut chosen, mut backward) = (kind, reverse);
        let (mut scores, mut offset, mut limit) = (false, 0, -1);
        let mut next = at + 3;
        while let Some(word) = args.try_get(next) {
            match word {
                _ if !storing && is(word, "WITHSCORES") => scores = true,
                _ if is(word, "LIMIT") && next + 2 < args.len() => {
                    offset = integer(args.get(next + 1))?;
                    limit = integer(args.get(next + 2))?;
                    next += 2;
                }
                _ if reverse.is_none() && is(word, "REV") && backward.is_none() => {
                    backward = Some(true);
                }
                _ if chosen.is_none() && is(word, "BYLEX") => chosen = Some(Kind::Lex),
                _ if chosen.is_none() && is(word, "BYSCORE") => chosen = Some(Kind::Score),
                _ => return Err(CommandError::SYNTAX),
            }
            next += 1;
        }
        let kind = chosen.unwrap_or(Kind::Rank);
        let reverse = backward.unwrap_or(false);
        if limit != -1 && kind == Kind::Rank {
            return Err(CommandError::fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if scores && kind == Kind::Lex {
            return Err(CommandError::fixed(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (mut min, mut max) = (args.get(at + 1), args.get(at + 2));
        if reverse && kind != Kind::Rank {
            (min, max) = (max, min);
        }
        Ok(Query {
            ends: Ends::read(kind, min, max)?,
            reverse,
            scores,
            offset,
            limit,
        })
    }

    /// The part of a set that is asked for. `None`: nothing.
    fn window(&self, txn: &mut Txn<'_>, set: &SortedSet) -> Result<Option<Window>, CommandError> {
        if let Ends::Rank(start, stop) = self.ends {
            return Ok(
                ranks_within(start, stop, set.len()).map(|(first, count)| Window {
                    span: Span::ALL,
                    reverse: self.reverse,
                    skip: first,
                    count,
                    exact: true,
                }),
            );
        }
        let Ok(skip) = u64::try_from(self.offset) else {
            return Ok(None);
        };
        if self.limit == 0 || (skip > 0 && skip >= set.len()) {
            return Ok(None);
        }
        Ok(Some(Window {
            span: self.ends.span(txn, set)?,
            reverse: self.reverse,
            skip,
            count: u64::try_from(self.limit).unwrap_or(u64::MAX),
            exact: false,
        }))
    }
}

/// A part of a set's order.
struct Window {
    span: Span,
    reverse: bool,
    skip: u64,
    count: u64,
    /// `count` is the exact number of items.
    exact: bool,
}

impl Window {
    /// Shows its items; returns how many there were.
    fn visit(
        &self,
        txn: &mut Txn<'_>,
        set: &SortedSet,
        show: &mut dyn FnMut(f64, &[u8]),
    ) -> Result<usize, CommandError> {
        if self.exact {
            off_network_thread(txn, self.count)?;
        }
        let (mut shown, mut growth) = (0, Growth::begin(txn));
        set.visit_from(
            txn,
            &self.span,
            self.reverse,
            self.skip,
            &mut |score, member| {
                show(score, member);
                shown += 1;
                match shown < self.count && (self.exact || growth.add(member.len())) {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            },
        )?;
        if !self.exact {
            // Too many for the network thread, or for one piece: all over again.
            growth.end(txn)?;
        }
        Ok(shown as usize)
    }

    /// Number of its items.
    fn len(&self, txn: &mut Txn<'_>, set: &SortedSet) -> Result<u64, CommandError> {
        if self.exact {
            return Ok(self.count);
        }
        let all = set.count(txn, &self.span)?;
        Ok(self.count.min(all.saturating_sub(self.skip)))
    }
}

/// Redis's inclusive, possibly negative ranks as first rank and count.
fn ranks_within(start: i64, stop: i64, len: u64) -> Option<(u64, u64)> {
    let len = len as i64;
    let from_front = |rank: i64| {
        if rank < 0 {
            len.saturating_add(rank)
        } else {
            rank
        }
    };
    let start = from_front(start).max(0);
    let stop = from_front(stop).min(len - 1);
    (start <= stop && start < len).then(|| (start as u64, (stop - start) as u64 + 1))
}

fn reply(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    kind: Option<Kind>,
    reverse: Option<bool>,
    out: &mut ReplyWriter,
) -> Done {
    let query = Query::read(args, 1, false, kind, reverse)?;
    let shape = Shape::new(out, query.scores);
    let Some(set) = open(txn, args.get(1))? else {
        out.array(0);
        return Ok(());
    };
    let Some(window) = query.window(txn, &set)? else {
        out.array(0);
        return Ok(());
    };
    if is_left(txn, args.get(1), &set, &window, shape, out)? {
        return Ok(());
    }
    let list = match window.exact {
        true => {
            out.array(shape.len(window.count as usize));
            None
        }
        false => Some(out.deferred_array()),
    };
    let shown = window.visit(txn, &set, &mut |score, member| {
        shape.write(out, score, member);
    })?;
    if let Some(list) = list {
        out.set_deferred(list, shape.len(shown));
    }
    Ok(())
}

/// Writes the front of a large part of a set and leaves its items to be written
/// in pieces. False: it is for the command to write them.
fn is_left(
    txn: &mut Txn<'_>,
    name: &[u8],
    set: &SortedSet,
    window: &Window,
    shape: Shape,
    out: &mut ReplyWriter,
) -> Result<bool, CommandError> {
    // How many items have scores or members between two ends is counted only
    // for what has turned out to be large.
    if set.spread().is_none() || !(window.exact || txn.context().delivery == Delivery::InPieces) {
        return Ok(false);
    }
    let count = window.len(txn, set)?;
    if !in_pieces(txn, set.spread(), count)? {
        return Ok(false);
    }
    let (span, cached) = (&window.span, count <= CACHED);
    let Some(rows) = set.pinned(txn, span, window.reverse, window.skip, cached)? else {
        return Ok(false);
    };
    out.array(shape.len(count as usize));
    let write = move |row: &[u8], value: &[u8], out: &mut ReplyWriter| {
        let (score, member) = item_of_row(row, value)?;
        shape.write(out, score, member);
        Ok(1)
    };
    txn.leave(Pieces::of(&txn.key(name), rows, count, write));
    Ok(true)
}

fn count(txn: &mut Txn<'_>, args: &Args<'_>, kind: Kind, out: &mut ReplyWriter) -> Done {
    let ends = Ends::read(kind, args.get(2), args.get(3))?;
    let count = match open(txn, args.get(1))? {
        Some(set) => {
            let span = ends.span(txn, &set)?;
            set.count(txn, &span)?
        }
        None => 0,
    };
    out.integer(count as i64);
    Ok(())
}

/// ZREMRANGEBY*: replies with the number of members removed.
fn remove(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    kind: Kind,
    event: &'static str,
    out: &mut ReplyWriter,
) -> Done {
    let ends = Ends::read(kind, args.get(2), args.get(3))?;
    let key = txn.key(args.get(1));
    let Some(mut set) = SortedSet::open(txn, &key)? else {
        out.integer(0);
        return Ok(());
    };
    let span = ends.span(txn, &set)?;
    let (skip, count) = match ends {
        Ends::Rank(start, stop) => ranks_within(start, stop, set.len()).unwrap_or((0, 0)),
        _ => (0, set.count(txn, &span)?),
    };
    if count > 0 && count == set.len() {
        // All of it: no row needs to be touched.
        delete_key(txn, &key)?;
        changed(txn, &key, false, event);
        txn.event(EventClass::Generic, "del", key.user_key());
    } else if count > 0 {
        let window = Window {
            span,
            reverse: false,
            skip,
            count,
            exact: true,
        };
        let mut items = Vec::new();
        window.visit(txn, &set, &mut |score, member| {
            items.push(Item::new(score, member))
        })?;
        for item in &items {
            set.remove_item(txn, &item.member, item.score)?;
        }
        save_smaller(txn, &key, set, event)?;
    }
    out.integer(count as i64);
    Ok(())
}
