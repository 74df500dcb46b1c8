//! XREAD and XREADGROUP.

use std::ops::ControlFlow;

use cairn_protocol::command::{Resolved, id as commands, resolve};
use cairn_protocol::resp::{Args, ReplyWriter, Version};

use super::super::arguments::{integer, is, timeout_millis};
use super::arguments::id;
use super::entries::{leave_range, reply_range, reply_small_range};
use super::{Done, Escape, event, reply_entry, reply_id};
use crate::replication::streams as told;
use crate::storage::MetaKey;
use crate::txn::{CommandError, Txn};
use crate::types::stream::{Consumer, Group, Lookup, Pending, Range, Stream, StreamId};

/// XREAD [COUNT count] [BLOCK ms] STREAMS key [key ...] id [id ...]
///
/// Replies with what the streams have above the ids; nil if that is nothing.
pub(super) fn xread(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Options::read(args, false)?;
    let mut reply = Reply::default();
    let mut streams = Vec::with_capacity(options.streams);
    for (key, from) in options.keys_and_ids(args) {
        let key = txn.key(key);
        let stream = Stream::get(txn, &key)?;
        let after = start_of_xread(stream.as_ref(), from)?;
        streams.extend(stream.map(|stream| (key, stream, after)));
    }
    for (key, stream, after) in streams {
        let Some(start) = after.next() else {
            continue;
        };
        if stream.last_entry(txn)?.is_none_or(|last| last < start) {
            continue;
        }
        let range = Range::from(start);
        if options.streams > 1 {
            reply.key(out, &key);
            reply_range(txn, &stream, range, options.count, out)?;
            continue;
        }
        let front = |out: &mut ReplyWriter| {
            let mut reply = Reply::default();
            reply.key(out, &key);
            reply.end(out);
        };
        if leave_range(txn, &stream, range, options.count, front, out)? {
            return Ok(());
        }
        reply.key(out, &key);
        reply_small_range(txn, &stream, range, options.count, out)?;
    }
    reply.finish(out, &options, txn)
}

fn start_of_xread(stream: Option<&Stream>, from: &[u8]) -> Result<StreamId, CommandError> {
    match from {
        b"$" => Ok(stream.map_or(StreamId::MIN, |stream| stream.last_id)),
        b">" => Err(CommandError::fixed(
            "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> \
             <consumer> option.",
        )),
        from => id(from),
    }
}

/// XREADGROUP GROUP group consumer [COUNT count] [BLOCK ms] [NOACK] STREAMS key [key ...] id
/// [id ...]
///
/// With the id `>` what nobody of the group has read, with any other what is
/// pending for this consumer above it.
pub(super) fn xreadgroup(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Options::read(args, true)?;
    let (Some(name), Some(consumer)) = (options.group, options.consumer) else {
        return Err(CommandError::fixed(
            "ERR Missing GROUP option for XREADGROUP",
        ));
    };
    for (key, from) in options.keys_and_ids(args) {
        let key = txn.key(key);
        group_of(txn, &key, name)?;
        start_of_xreadgroup(from)?;
    }
    let mut reply = Reply::default();
    for (key, from) in options.keys_and_ids(args) {
        let key = txn.key(key);
        let (stream, group) = group_of(txn, &key, name)?;
        let after = start_of_xreadgroup(from)?;
        let has_news = stream
            .last_entry(txn)?
            .is_some_and(|last| last > group.last_id);
        if after.is_none() && !has_news {
            continue;
        }
        reply.key(out, &key);
        let read = GroupRead {
            key: &key,
            stream,
            group,
            consumer,
        };
        match after {
            Some(after) => read.history(txn, after, options.count, out)?,
            None => read.news(txn, &options, out)?,
        }
    }
    reply.finish(out, &options, txn)
}

fn group_of(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    name: &[u8],
) -> Result<(Stream, Group), CommandError> {
    if let Some(stream) = Stream::get(txn, key)?
        && let Some(group) = stream.group(txn, name)?
    {
        return Ok((stream, group));
    }
    Err(CommandError::line(format!(
        "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option",
        key.user_key().escape(),
        name.escape()
    )))
}

/// `None` is `>`.
fn start_of_xreadgroup(from: &[u8]) -> Result<Option<StreamId>, CommandError> {
    match from {
        b"$" => Err(CommandError::fixed(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the \
             history of this consumer by specifying a proper ID, or use the > ID to get new \
             messages. The $ ID would just return an empty result set.",
        )),
        b">" => Ok(None),
        // To Redis the last id of all means the same.
        from => Ok(Some(id(from)?).filter(|id| *id != StreamId::MAX)),
    }
}

/// The consumer, made if need be, as seen now.
pub(super) fn active_consumer(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    group: &mut Group,
    name: &[u8],
) -> Result<Consumer, CommandError> {
    if let Some(mut consumer) = group.consumer(txn, name)? {
        consumer.seen_at = txn.now() as i64;
        return Ok(consumer);
    }
    let consumer = group.create_consumer(txn, name);
    event(txn, key, "xgroup-createconsumer");
    Ok(consumer)
}

/// A stream that is read for one consumer of a group.
struct GroupRead<'a> {
    key: &'a MetaKey,
    stream: Stream,
    group: Group,
    consumer: &'a [u8],
}

impl GroupRead<'_> {
    /// What nobody of the group has read.
    fn news(self, txn: &mut Txn<'_>, options: &Options<'_>, out: &mut ReplyWriter) -> Done {
        let mut edit = self.group.edit();
        let (recorded, known) = (txn.is_recorded(), edit.group.consumers);
        let consumer = active_consumer(txn, self.key, &mut edit.group, self.consumer)?;
        let number = consumer.number;
        edit.with(consumer);
        let start = edit.group.last_id.next().unwrap_or(StreamId::MAX);
        let ids = reply_news(txn, &self.stream, start, options.count, out)?;
        if recorded && (options.no_ack || ids.is_empty()) && edit.group.consumers != known {
            told::consumer_created(txn, self.key, &edit.group, self.consumer);
        }
        for id in ids {
            edit.group.deliver(&self.stream, id);
            if options.no_ack {
                continue;
            }
            // XGROUP SETID may have brought it here although it is pending.
            let old = edit.group.find_pending(txn, id)?;
            let new = Pending {
                id,
                consumer: number,
                delivered_at: txn.now() as i64,
                deliveries: 1,
            };
            edit.put(txn, old, new)?;
            if recorded {
                told::pending(txn, self.key, &edit.group, self.consumer, &new);
            }
        }
        if recorded && options.no_ack {
            told::group_position(txn, self.key, &edit.group);
        }
        edit.store(txn);
        Ok(())
    }

    /// What is pending for the consumer above `after`.
    fn history(
        self,
        txn: &mut Txn<'_>,
        after: StreamId,
        count: u64,
        out: &mut ReplyWriter,
    ) -> Done {
        let mut edit = self.group.edit();
        let (recorded, known) = (txn.is_recorded(), edit.group.consumers);
        let consumer = active_consumer(txn, self.key, &mut edit.group, self.consumer)?;
        if recorded && edit.group.consumers != known {
            told::consumer_created(txn, self.key, &edit.group, self.consumer);
        }
        let max = match count {
            0 => usize::MAX,
            count => count as usize,
        };
        let ids = match after.next() {
            Some(start) => edit.group.owned(txn, &consumer, start, max)?,
            None => Vec::new(),
        };
        edit.with(consumer);
        out.array(ids.len());
        let mut lookup = Lookup::default();
        for id in ids {
            if !lookup.find(txn, &self.stream, id, |entry| reply_entry(out, &entry))? {
                // It was deleted from the stream meanwhile.
                out.array(2);
                reply_id(out, id);
                out.null_array();
                continue;
            }
            if let Some(old) = edit.group.find_pending(txn, id)? {
                let new = Pending {
                    delivered_at: txn.now() as i64,
                    deliveries: old.deliveries.wrapping_add(1),
                    ..old
                };
                edit.put(txn, Some(old), new)?;
                if recorded {
                    told::pending(txn, self.key, &edit.group, self.consumer, &new);
                }
            }
        }
        edit.store(txn);
        Ok(())
    }
}

/// Entries from `start` on as an array, at most `count` (0: all); their ids.
fn reply_news(
    txn: &mut Txn<'_>,
    stream: &Stream,
    start: StreamId,
    count: u64,
    out: &mut ReplyWriter,
) -> Result<Vec<StreamId>, CommandError> {
    let array = out.deferred_array();
    let mut ids = Vec::new();
    stream.scan(txn, Range::from(start), &mut |entry| {
        reply_entry(out, &entry)?;
        ids.push(entry.id);
        Ok(match ids.len() as u64 == count {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    out.set_deferred(array, ids.len());
    Ok(ids)
}

/// A map from keys to entries (in RESP2 an array of pairs), begun with its
/// first key.
#[derive(Default)]
struct Reply {
    map: Option<cairn_protocol::resp::Deferred>,
    keys: usize,
}

impl Reply {
    fn key(&mut self, out: &mut ReplyWriter, key: &MetaKey) {
        let pairs = out.version() == Version::V2;
        if self.map.is_none() {
            self.map = Some(match pairs {
                true => out.deferred_array(),
                false => out.deferred_map(),
            });
        }
        if pairs {
            out.array(2);
        }
        out.bulk(key.user_key());
        self.keys += 1;
    }

    /// So many keys it has.
    fn end(self, out: &mut ReplyWriter) {
        if let Some(map) = self.map {
            out.set_deferred(map, self.keys);
        }
    }

    /// With no key it waits, if it may, or is nil.
    fn finish(self, out: &mut ReplyWriter, options: &Options<'_>, txn: &Txn<'_>) -> Done {
        if self.map.is_some() {
            self.end(out);
            return Ok(());
        }
        match options.block {
            Some(timeout_ms) if txn.context().may_block => Err(CommandError::Block { timeout_ms }),
            _ => {
                out.null_array();
                Ok(())
            }
        }
    }
}

/// The options of XREAD and XREADGROUP.
#[derive(Default)]
struct Options<'a> {
    /// 0: all.
    count: u64,
    block: Option<u64>,
    group: Option<&'a [u8]>,
    consumer: Option<&'a [u8]>,
    no_ack: bool,
    /// Where the keys begin, and how many they are.
    first: usize,
    streams: usize,
}

impl<'a> Options<'a> {
    fn read(args: &Args<'a>, xreadgroup: bool) -> Result<Options<'a>, CommandError> {
        let mut options = Options::default();
        let mut at = 1;
        while at < args.len() && options.first == 0 {
            let (word, more) = (args.get(at), args.len() - 1 - at);
            if is(word, "BLOCK") && more > 0 {
                options.block = Some(timeout_millis(args.get(at + 1))?);
                at += 1;
            } else if is(word, "COUNT") && more > 0 {
                options.count = integer(args.get(at + 1))?.max(0) as u64;
                at += 1;
            } else if is(word, "STREAMS") && more > 0 {
                options.set_streams(at + 1, more)?;
            } else if is(word, "GROUP") && more >= 2 {
                only_xreadgroup(xreadgroup, "GROUP")?;
                options.group = Some(args.get(at + 1));
                options.consumer = Some(args.get(at + 2));
                at += 2;
            } else if is(word, "NOACK") {
                only_xreadgroup(xreadgroup, "NOACK")?;
                options.no_ack = true;
            } else {
                return Err(CommandError::SYNTAX);
            }
            at += 1;
        }
        match options.first {
            0 => Err(CommandError::SYNTAX),
            _ => Ok(options),
        }
    }

    fn set_streams(&mut self, first: usize, arguments: usize) -> Done {
        if !arguments.is_multiple_of(2) {
            return Err(CommandError::fixed(
                "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be \
                 specified.",
            ));
        }
        (self.first, self.streams) = (first, arguments / 2);
        Ok(())
    }

    fn keys_and_ids(&self, args: &Args<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let (first, streams) = (self.first, self.streams);
        (first..first + streams).map(move |at| (args.get(at), args.get(at + streams)))
    }
}

fn only_xreadgroup(is_it: bool, option: &str) -> Done {
    match is_it {
        true => Ok(()),
        false => Err(CommandError::line(format!(
            "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
        ))),
    }
}

/// The arguments with which an XREAD that waits is run again: `$` is what it
/// was when the client began to wait.
///
/// `None`: they stay as they are.
pub fn resolve_blocking_args(txn: &mut Txn<'_>, args: &Args<'_>) -> Option<Vec<Vec<u8>>> {
    if !matches!(resolve(args), Resolved::Command(spec) if spec.id == commands::XREAD) {
        return None;
    }
    let options = Options::read(args, false).ok()?;
    let ids = options.first + options.streams..options.first + 2 * options.streams;
    if !ids.clone().any(|at| args.get(at) == b"$") {
        return None;
    }
    let mut resolved: Vec<Vec<u8>> = args.iter().map(<[u8]>::to_vec).collect();
    for at in ids.filter(|at| args.get(*at) == b"$") {
        let key = txn.key(args.get(at - options.streams));
        let stream = Stream::get(txn, &key).ok()?;
        let last = stream.map_or(StreamId::MIN, |stream| stream.last_id);
        resolved[at] = last.to_string().into_bytes();
    }
    Some(resolved)
}
