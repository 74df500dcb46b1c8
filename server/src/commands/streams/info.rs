//! XINFO.

use cairn_protocol::resp::{Args, ReplyWriter};
use rocksdb::Direction;

use super::super::arguments::{integer, is};
use super::claim::Names;
use super::entries::reply_range;
use super::{Done, no_group, reply_id, reply_integer_or_null};
use crate::txn::{CommandError, Txn};
use crate::types::stream::{Consumer, Group, Range, Stream, StreamId};

/// Nodes that are looked at to tell the size of Redis's radix tree; beyond,
/// it is an estimate.
const NODES_LOOKED_AT: usize = 1024;

/// XINFO CONSUMERS key group
pub(super) fn consumers(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let stream = existing(txn, args)?;
    let name = args.get(3);
    let group = stream.group(txn, name)?;
    let group = group.ok_or_else(|| no_group(name, args.get(2)))?;
    let now = txn.now() as i64;
    let consumers = group.all_consumers(txn)?;
    out.array(consumers.len());
    for consumer in consumers {
        out.map(3);
        out.bulk(b"name");
        out.bulk(&consumer.name);
        out.bulk(b"pending");
        out.integer(consumer.pending as i64);
        out.bulk(b"idle");
        out.integer(now.saturating_sub(consumer.seen_at).max(0));
    }
    Ok(())
}

/// XINFO GROUPS key
pub(super) fn groups(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let stream = existing(txn, args)?;
    let groups = stream.all_groups(txn)?;
    out.array(groups.len());
    for group in groups {
        out.map(6);
        out.bulk(b"name");
        out.bulk(&group.name);
        out.bulk(b"consumers");
        out.integer(i64::from(group.consumers));
        out.bulk(b"pending");
        out.integer(group.pending as i64);
        reply_progress(&stream, &group, out);
    }
    Ok(())
}

/// XINFO HELP
pub(super) fn xinfo_help(_: &mut Txn<'_>, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    super::super::help(
        out,
        "XINFO",
        &[
            "CONSUMERS <key> <groupname>",
            "    Show consumers of <groupname>.",
            "GROUPS <key>",
            "    Show the stream consumer groups.",
            "STREAM <key> [FULL [COUNT <count>]",
            "    Show information about the stream.",
        ],
    );
    Ok(())
}

/// XINFO STREAM key [FULL [COUNT count]]
pub(super) fn stream(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    // Redis looks the key up before it looks at the options.
    let stream = existing(txn, args)?;
    let full = match args.len() {
        3 => None,
        _ => Some(full_count(args)?),
    };
    out.map(if full.is_some() { 9 } else { 10 });
    out.bulk(b"length");
    out.integer(stream.length as i64);
    out.bulk(b"radix-tree-keys");
    out.integer(stream.nodes() as i64);
    out.bulk(b"radix-tree-nodes");
    out.integer(tree_nodes(txn, &stream)? as i64);
    out.bulk(b"last-generated-id");
    reply_id(out, stream.last_id);
    out.bulk(b"max-deleted-entry-id");
    reply_id(out, stream.max_deleted_id);
    out.bulk(b"entries-added");
    out.integer(stream.entries_added as i64);
    out.bulk(b"recorded-first-entry-id");
    reply_id(out, stream.first_id);
    match full {
        None => reply_ends(txn, &stream, out),
        Some(count) => reply_full(txn, &stream, count, out),
    }
}

fn existing(txn: &mut Txn<'_>, args: &Args<'_>) -> Result<Stream, CommandError> {
    let key = txn.key(args.get(2));
    Stream::get(txn, &key)?.ok_or(CommandError::NO_SUCH_KEY)
}

fn full_count(args: &Args<'_>) -> Result<u64, CommandError> {
    const DEFAULT: i64 = 10;
    let syntax = || super::super::subcommand_syntax(args, "xinfo|stream");
    if !matches!(args.len(), 4 | 6) || !is(args.get(3), "FULL") {
        return Err(syntax());
    }
    let Some(word) = args.try_get(4) else {
        return Ok(DEFAULT as u64);
    };
    if !is(word, "COUNT") {
        return Err(syntax());
    }
    let count = integer(args.get(5))?;
    Ok(if count < 0 { DEFAULT } else { count } as u64)
}

/// Where a group is in its stream.
fn reply_progress(stream: &Stream, group: &Group, out: &mut ReplyWriter) {
    out.bulk(b"last-delivered-id");
    reply_id(out, group.last_id);
    out.bulk(b"entries-read");
    reply_integer_or_null(out, Some(group.entries_read).filter(|read| *read != -1));
    out.bulk(b"lag");
    reply_integer_or_null(out, group.lag(stream));
}

/// The end of XINFO STREAM without FULL.
fn reply_ends(txn: &mut Txn<'_>, stream: &Stream, out: &mut ReplyWriter) -> Done {
    out.bulk(b"groups");
    out.integer(i64::from(stream.groups));
    let ends = [
        ("first-entry", Direction::Forward),
        ("last-entry", Direction::Reverse),
    ];
    for (name, direction) in ends {
        out.bulk(name.as_bytes());
        super::entries::reply_edge(txn, stream, direction, out)?;
    }
    Ok(())
}

/// The end of XINFO STREAM FULL; `count` 0 is all.
fn reply_full(txn: &mut Txn<'_>, stream: &Stream, count: u64, out: &mut ReplyWriter) -> Done {
    out.bulk(b"entries");
    reply_range(txn, stream, Range::ALL, count, out)?;
    out.bulk(b"groups");
    let groups = stream.all_groups(txn)?;
    out.array(groups.len());
    for group in groups {
        out.map(7);
        out.bulk(b"name");
        out.bulk(&group.name);
        reply_progress(stream, &group, out);
        out.bulk(b"pel-count");
        out.integer(group.pending as i64);
        out.bulk(b"pending");
        reply_pending(txn, &group, count, out)?;
        out.bulk(b"consumers");
        reply_consumers(txn, &group, count, out)?;
    }
    Ok(())
}

fn reply_pending(txn: &mut Txn<'_>, group: &Group, count: u64, out: &mut ReplyWriter) -> Done {
    let mut found = Vec::new();
    let (start, end) = (StreamId::MIN, StreamId::MAX);
    group.each_pending(txn, start, end, Direction::Forward, &mut |pending| {
        found.push(pending);
        found.len() as u64 != count
    })?;
    let mut names = Names::default();
    out.array(found.len());
    for pending in found {
        out.array(4);
        reply_id(out, pending.id);
        out.bulk(names.of(txn, group, pending.consumer)?);
        out.integer(pending.delivered_at);
        out.integer(pending.deliveries as i64);
    }
    Ok(())
}

fn reply_consumers(txn: &mut Txn<'_>, group: &Group, count: u64, out: &mut ReplyWriter) -> Done {
    let consumers = group.all_consumers(txn)?;
    out.array(consumers.len());
    for consumer in consumers {
        out.map(4);
        out.bulk(b"name");
        out.bulk(&consumer.name);
        out.bulk(b"seen-time");
        out.integer(consumer.seen_at);
        out.bulk(b"pel-count");
        out.integer(consumer.pending as i64);
        out.bulk(b"pending");
        reply_owned(txn, group, &consumer, count, out)?;
    }
    Ok(())
}

fn reply_owned(
    txn: &mut Txn<'_>,
    group: &Group,
    consumer: &Consumer,
    count: u64,
    out: &mut ReplyWriter,
) -> Done {
    let max = match count {
        0 => usize::MAX,
        count => count as usize,
    };
    let ids = group.owned(txn, consumer, StreamId::MIN, max)?;
    out.array(ids.len());
    for id in ids {
        let pending = group.find_pending(txn, id)?;
        let (delivered_at, deliveries) =
            pending.map_or((0, 0), |pending| (pending.delivered_at, pending.deliveries));
        out.array(3);
        reply_id(out, id);
        out.integer(delivered_at);
        out.integer(deliveries as i64);
    }
    Ok(())
}

/// How many nodes Redis's radix tree of this stream would have.
fn tree_nodes(txn: &mut Txn<'_>, stream: &Stream) -> Result<u64, CommandError> {
    let ids = stream.node_ids(txn, NODES_LOOKED_AT)?;
    let keys: Vec<[u8; 16]> = ids.into_iter().map(StreamId::to_bytes).collect();
    let counted = radix_nodes(&keys);
    let seen = keys.len() as u64;
    Ok(match stream.nodes() {
        all if all > seen && seen > 0 => {
            (u128::from(counted) * u128::from(all) / u128::from(seen)) as u64
        }
        _ => counted,
    })
}

/// Nodes of a radix tree over sorted keys: a leaf a key, a node where keys
/// part, a node for what they share between two such places.
fn radix_nodes(keys: &[[u8; 16]]) -> u64 {
    fn below(keys: &[[u8; 16]], depth: usize) -> u64 {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return 1;
        };
        let shared = (depth..16).take_while(|at| first[*at] == last[*at]).count();
        let chain = u64::from(shared > 0);
        let depth = depth + shared;
        if depth == 16 {
            return chain + 1;
        }
        let children = keys.chunk_by(|a, b| a[depth] == b[depth]);
        chain + 1 + children.map(|keys| below(keys, depth + 1)).sum::<u64>()
    }
    below(keys, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_radix_tree_has_leaves_forks_and_chains() {
        let key = |ms: u64, seq: u64| StreamId::new(ms, seq).to_bytes();
        assert_eq!(radix_nodes(&[]), 1);
        assert_eq!(radix_nodes(&[key(1, 0)]), 2);
        // A chain of 7, a fork at the 8th byte, two chains of 8, two leaves.
        assert_eq!(radix_nodes(&[key(1, 0), key(2, 0)]), 6);
        // A fork at the last byte.
        assert_eq!(radix_nodes(&[key(1, 0), key(1, 1), key(1, 2)]), 5);
    }
}
