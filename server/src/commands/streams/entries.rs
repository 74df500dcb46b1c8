//! XADD XDEL XLEN XRANGE XREVRANGE XSETID XTRIM.

use std::ops::ControlFlow;

use cairn_protocol::command::{lookup_full, wrong_arity_error};
use cairn_protocol::resp::{Args, ReplyWriter};
use rocksdb::Direction;

use super::super::arguments::{integer, is};
use super::super::large::{CACHED, Growth, leaves_in_pieces};
use super::arguments::{self, Options, Sequence, id, ids};
use super::{Done, event, reply_entry, reply_id};
use crate::replication::streams as told;
use crate::storage::MetaKey;
use crate::txn::effects::Family;
use crate::txn::{CommandError, Delivery, EventClass, Pieces, Txn};
use crate::types::stream::{Entry, Range, Stream, StreamId};

/// Redis keeps no more in one node.
const ELEMENTS_MAX: usize = 1 << 30;

/// XADD key [NOMKSTREAM] [MAXLEN | MINID [= | ~] threshold [LIMIT count]] <* | id> field value
/// [field value ...]
///
/// Replies with the entry's id, or nil if NOMKSTREAM forbade it.
pub(super) fn xadd(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Options::read(args, true, txn.is_of_master())?;
    let first = options.id_at + 1;
    if args.len() < first + 2 || (args.len() - first) % 2 == 1 {
        let spec = lookup_full(b"xadd").expect("a name of the table");
        return Err(CommandError::line(wrong_arity_error(spec)));
    }
    if options.id == Some((StreamId::MIN, Sequence::Given)) {
        return Err(CommandError::fixed(
            "ERR The ID specified in XADD must be greater than 0-0",
        ));
    }
    let key = txn.key(args.get(1));
    let old = Stream::get(txn, &key)?;
    let is_new = old.is_none();
    if is_new && options.no_mkstream {
        out.null();
        return Ok(());
    }
    let mut stream = old.unwrap_or_else(|| Stream::new(&key));
    let id = next_id(&stream, options.id, txn.now())?;
    let pairs: Vec<&[u8]> = args.iter().skip(first).collect();
    if pairs.iter().map(|part| part.len()).sum::<usize>() > ELEMENTS_MAX {
        return Err(CommandError::fixed(
            "ERR Elements are too large to be stored",
        ));
    }
    stream.append(txn, id, &pairs)?;
    reply_id(out, id);
    if is_new {
        txn.event(EventClass::New, "new", key.user_key());
    }
    event(txn, &key, "xadd");
    if let Some(trim) = options.trim(txn.limits())
        && stream.trim(txn, &trim)? > 0
    {
        event(txn, &key, "xtrim");
    }
    stream.store(txn)?;
    if txn.is_recorded() {
        let id = Some((options.id_at, id));
        told::trimmed(txn, args, &stream, id, options.inexact())?;
    }
    Ok(())
}

/// The id of a new entry.
fn next_id(
    stream: &Stream,
    given: Option<(StreamId, Sequence)>,
    now: u64,
) -> Result<StreamId, CommandError> {
    const TOO_SMALL: CommandError = CommandError::fixed(
        "ERR The ID specified in XADD is equal or smaller than the target stream top item",
    );
    if stream.last_id == StreamId::MAX {
        return Err(CommandError::fixed(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    let id = match given {
        Some((id, Sequence::Given)) => id,
        Some((id, Sequence::Automatic)) if id.ms == stream.last_id.ms => {
            let seq = stream.last_id.seq.checked_add(1).ok_or(TOO_SMALL)?;
            StreamId::new(id.ms, seq)
        }
        Some((id, Sequence::Automatic)) => id,
        None if now > stream.last_id.ms => StreamId::new(now, 0),
        None => stream.last_id.next().ok_or(TOO_SMALL)?,
    };
    if id <= stream.last_id {
        return Err(TOO_SMALL);
    }
    Ok(id)
}

/// XDEL key id [id ...]
///
/// Replies with the number of entries deleted.
pub(super) fn xdel(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let Some(mut stream) = Stream::get(txn, &key)? else {
        out.integer(0);
        return Ok(());
    };
    let mut deleted = 0;
    for id in ids(args, 2)? {
        deleted += i64::from(stream.delete(txn, id)?);
    }
    if deleted > 0 {
        stream.store(txn)?;
        event(txn, &key, "xdel");
    }
    out.integer(deleted);
    Ok(())
}

/// XLEN key
pub(super) fn xlen(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let length = Stream::get(txn, &key)?.map_or(0, |stream| stream.length);
    out.integer(length as i64);
    Ok(())
}

/// XRANGE key start end [COUNT count]
pub(super) fn xrange(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    range(txn, args, Direction::Forward, out)
}

/// XREVRANGE key end start [COUNT count]
pub(super) fn xrevrange(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    range(txn, args, Direction::Reverse, out)
}

fn range(txn: &mut Txn<'_>, args: &Args<'_>, direction: Direction, out: &mut ReplyWriter) -> Done {
    let (start_at, end_at) = match direction {
        Direction::Forward => (2, 3),
        Direction::Reverse => (3, 2),
    };
    let start = arguments::range_start(args.get(start_at))?;
    let end = arguments::range_end(args.get(end_at))?;
    let mut count = None;
    let mut at = 4;
    while at < args.len() {
        if !is(args.get(at), "COUNT") || at + 1 == args.len() {
            return Err(CommandError::SYNTAX);
        }
        count = Some(integer(args.get(at + 1))?.max(0) as u64);
        at += 2;
    }
    let key = txn.key(args.get(1));
    let Some(stream) = Stream::get(txn, &key)? else {
        out.array(0);
        return Ok(());
    };
    if count == Some(0) {
        out.null_array();
        return Ok(());
    }
    let range = Range {
        start,
        end,
        direction,
    };
    let count = count.unwrap_or(0);
    if leave_range(txn, &stream, range, count, |_| (), out)? {
        return Ok(());
    }
    reply_small_range(txn, &stream, range, count, out)
}

/// Entries as an array, at most `count` (0: all).
pub(super) fn reply_range(
    txn: &mut Txn<'_>,
    stream: &Stream,
    range: Range,
    count: u64,
    out: &mut ReplyWriter,
) -> Done {
    reply_while(txn, stream, range, count, out, &mut |_| true)
}

/// The same of a reply that can leave in pieces ([`leave_range`]).
///
/// # Errors
/// `Large` or `Cold`: it is to be made elsewhere.
pub(super) fn reply_small_range(
    txn: &mut Txn<'_>,
    stream: &Stream,
    range: Range,
    count: u64,
    out: &mut ReplyWriter,
) -> Done {
    let mut growth = Growth::begin(txn);
    reply_while(txn, stream, range, count, out, &mut |bytes| {
        growth.add(bytes)
    })?;
    growth.end(txn).map(drop)
}

/// Entries as an array until `goes_on` says no to the bytes of one.
fn reply_while(
    txn: &mut Txn<'_>,
    stream: &Stream,
    range: Range,
    count: u64,
    out: &mut ReplyWriter,
    goes_on: &mut dyn FnMut(usize) -> bool,
) -> Done {
    let array = out.deferred_array();
    let mut sent = 0;
    stream.scan(txn, range, &mut |entry| {
        reply_entry(out, &entry)?;
        sent += 1;
        Ok(match sent == count || !goes_on(entry.size()) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    out.set_deferred(array, sent as usize);
    Ok(())
}

/// Writes the front of a large array of entries, behind what `before` writes, and
/// leaves the rest to be written in pieces. False: it is for the command to write
/// them.
pub(super) fn leave_range(
    txn: &mut Txn<'_>,
    stream: &Stream,
    range: Range,
    count: u64,
    before: impl FnOnce(&mut ReplyWriter),
    out: &mut ReplyWriter,
) -> Result<bool, CommandError> {
    if txn.context().delivery != Delivery::InPieces {
        return Ok(false);
    }
    // How many there are is counted only for what has turned out to be large.
    let (mut in_rows, mut in_tail, mut bytes) = (0, 0, 0);
    stream.scan(txn, range, &mut |entry| {
        match stream.is_in_tail(entry.id) {
            true => in_tail += 1,
            false => in_rows += 1,
        }
        bytes += entry.size() as u64;
        Ok(match in_rows + in_tail == count {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    let all = in_rows + in_tail;
    let range = stream.within(range);
    let bounds = match leaves_in_pieces(txn, all, bytes) && in_rows > 0 {
        true => stream.nodes_of(txn, range)?,
        false => None,
    };
    let Some(bounds) = bounds else {
        return Ok(false);
    };
    before(out);
    out.array(all as usize);
    let mut end = ReplyWriter::new(out.version());
    let tail = match range.direction {
        Direction::Forward => &mut end,
        Direction::Reverse => out,
    };
    if in_tail > 0 {
        stream
            .scan_tail(range, &mut reply_at_most(in_tail, tail))
            .map(drop)?;
    }
    let rows = txn.pinned_rows(Family::Data, bounds, range.direction, all <= CACHED);
    let mut left = in_rows;
    let write = move |key: &[u8], value: &[u8], out: &mut ReplyWriter| {
        let before = left;
        let shown = range.show_row(key, value, &mut |entry| {
            reply_entry(out, &entry)?;
            left -= 1;
            Ok(match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })
        });
        shown.map(|_| before - left)
    };
    let pieces = Pieces::of(stream.key(), rows, in_rows, write);
    txn.leave(pieces.followed_by(end.to_vec()));
    Ok(true)
}

/// Shows so many entries, at least one.
fn reply_at_most(
    mut count: u64,
    out: &mut ReplyWriter,
) -> impl FnMut(Entry<'_>) -> Result<ControlFlow<()>, CommandError> {
    move |entry| {
        reply_entry(out, &entry)?;
        count -= 1;
        Ok(match count {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    }
}

/// XSETID key last-id [ENTRIESADDED count] [MAXDELETEDID id]
pub(super) fn xsetid(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let last_id = id(args.get(2))?;
    let (mut added, mut max_deleted) = (None, StreamId::MIN);
    let mut at = 3;
    while at < args.len() {
        let Some(value) = args.try_get(at + 1) else {
            return Err(CommandError::SYNTAX);
        };
        if is(args.get(at), "ENTRIESADDED") {
            let count = u64::try_from(integer(value)?);
            let negative = CommandError::fixed("ERR entries_added must be positive");
            added = Some(count.map_err(|_| negative)?);
        } else if is(args.get(at), "MAXDELETEDID") {
            max_deleted = id(value)?;
            if last_id < max_deleted {
                return Err(CommandError::fixed(
                    "ERR The ID specified in XSETID is smaller than the provided \
                     max_deleted_entry_id",
                ));
            }
        } else {
            return Err(CommandError::SYNTAX);
        }
        at += 2;
    }
    let key = txn.key(args.get(1));
    let stream = Stream::get(txn, &key)?;
    let mut stream = stream.ok_or(CommandError::NO_SUCH_KEY)?;
    check_last_id(txn, &stream, last_id, added)?;
    stream.last_id = last_id;
    stream.entries_added = added.unwrap_or(stream.entries_added);
    if max_deleted != StreamId::MIN {
        stream.max_deleted_id = max_deleted;
    }
    finish(txn, &key, &stream, "xsetid")?;
    out.ok();
    Ok(())
}

fn check_last_id(
    txn: &mut Txn<'_>,
    stream: &Stream,
    last_id: StreamId,
    added: Option<u64>,
) -> Done {
    let Some(top) = stream.last_entry(txn)? else {
        return Ok(());
    };
    if last_id < top {
        return Err(CommandError::fixed(
            "ERR The ID specified in XSETID is smaller than the target stream top item",
        ));
    }
    if added.is_some_and(|added| stream.length > added) {
        return Err(CommandError::fixed(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    Ok(())
}

/// XTRIM key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]
///
/// Replies with the number of entries deleted.
pub(super) fn xtrim(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Options::read(args, false, txn.is_of_master())?;
    let key = txn.key(args.get(1));
    let stream = Stream::get(txn, &key)?;
    let (Some(mut stream), Some(trim)) = (stream, options.trim(txn.limits())) else {
        out.integer(0);
        return Ok(());
    };
    let deleted = stream.trim(txn, &trim)?;
    if deleted > 0 {
        finish(txn, &key, &stream, "xtrim")?;
        if txn.is_recorded() {
            told::trimmed(txn, args, &stream, None, options.inexact())?;
        }
    }
    out.integer(deleted as i64);
    Ok(())
}

fn finish(txn: &mut Txn<'_>, key: &MetaKey, stream: &Stream, name: &'static str) -> Done {
    stream.store(txn)?;
    event(txn, key, name);
    Ok(())
}

/// The first or the last entry, or nil.
pub(super) fn reply_edge(
    txn: &mut Txn<'_>,
    stream: &Stream,
    direction: Direction,
    out: &mut ReplyWriter,
) -> Done {
    let mut found = false;
    let range = Range {
        direction,
        ..Range::ALL
    };
    stream.scan(txn, range, &mut |entry| {
        found = true;
        reply_entry(out, &entry)?;
        Ok(ControlFlow::Break(()))
    })?;
    if !found {
        out.null();
    }
    Ok(())
}
