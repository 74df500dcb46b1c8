//! What replicas are told of streams: commands that only the code which runs
//! them can put into words.

use std::ops::ControlFlow;

use cairn_protocol::resp::Args;

use crate::storage::MetaKey;
use crate::txn::{CommandError, Txn};
use crate::types::stream::{Group, Pending, Range, Stream, StreamId};

/// Where XADD and XTRIM have what must be exact for replicas.
pub(crate) struct TrimArgs {
    /// The threshold.
    pub at: usize,
    /// The number behind LIMIT.
    pub limit_at: Option<usize>,
    pub by_length: bool,
}

/// XADD with the id that was given out (and where it goes), or XTRIM.
/// `trim`: of one that was not exact.
pub(crate) fn trimmed(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    stream: &Stream,
    id: Option<(usize, StreamId)>,
    trim: Option<TrimArgs>,
) -> Result<(), CommandError> {
    let mut words: Vec<Vec<u8>> = args.iter().map(<[u8]>::to_vec).collect();
    if let Some((at, id)) = id {
        words[at] = id.to_string().into_bytes();
    }
    if let Some(trim) = trim {
        words[trim.at - 1] = b"=".to_vec();
        words[trim.at] = match first_entry(txn, stream)? {
            Some(first) if !trim.by_length => first.to_string(),
            _ => {
                words[trim.at - 2] = b"MAXLEN".to_vec();
                stream.length.to_string()
            }
        }
        .into_bytes();
        // Only what is not exact has a limit.
        if let Some(at) = trim.limit_at {
            words.drain(at - 1..=at);
        }
    }
    txn.record(words);
    Ok(())
}

fn first_entry(txn: &mut Txn<'_>, stream: &Stream) -> Result<Option<StreamId>, CommandError> {
    let mut first = None;
    stream.scan(txn, Range::ALL, &mut |entry| {
        first = Some(entry.id);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(first)
}

/// One pending entry of a group, as it is now; `consumer` has it. If the entry
/// is no longer in the stream, replicas forget that it was pending.
pub(crate) fn pending(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    group: &Group,
    consumer: &[u8],
    entry: &Pending,
) {
    let (id, last_id) = (entry.id.to_string(), group.last_id.to_string());
    let (delivered_at, deliveries) = (entry.delivered_at.to_string(), entry.deliveries.to_string());
    txn.record([
        b"XCLAIM",
        key.user_key(),
        &group.name,
        consumer,
        b"0",
        id.as_bytes(),
        b"TIME",
        delivered_at.as_bytes(),
        b"RETRYCOUNT",
        deliveries.as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        last_id.as_bytes(),
    ]);
}

/// How far a group has read, where no pending entry says so.
pub(crate) fn group_position(txn: &mut Txn<'_>, key: &MetaKey, group: &Group) {
    let (last_id, read) = (group.last_id.to_string(), group.entries_read.to_string());
    txn.record([
        &b"XGROUP"[..],
        b"SETID",
        key.user_key(),
        &group.name,
        last_id.as_bytes(),
        b"ENTRIESREAD",
        read.as_bytes(),
    ]);
}

/// A consumer that no pending entry brings into being.
pub(crate) fn consumer_created(txn: &mut Txn<'_>, key: &MetaKey, group: &Group, name: &[u8]) {
    txn.record([
        &b"XGROUP"[..],
        b"CREATECONSUMER",
        key.user_key(),
        &group.name,
        name,
    ]);
}
