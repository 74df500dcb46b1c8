//! Stream commands. Wire side only: arguments in, reply out.
//! How a stream is laid out on disk is `types::stream`.

mod arguments;
mod claim;
mod entries;
mod groups;
mod info;
mod read;

use cairn_protocol::resp::ReplyWriter;

use super::Handler;
use crate::storage::MetaKey;
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::stream::{Element, Entry, Group, Stream, StreamId};

pub use read::resolve_blocking_args;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("xack", Handler::Write(groups::xack)),
    ("xadd", Handler::Write(entries::xadd)),
    ("xautoclaim", Handler::Write(claim::xautoclaim)),
    ("xclaim", Handler::Write(claim::xclaim)),
    ("xdel", Handler::Write(entries::xdel)),
    ("xgroup", Handler::Session(super::container)),
    ("xgroup|create", Handler::Write(groups::create)),
    (
        "xgroup|createconsumer",
        Handler::Write(groups::create_consumer),
    ),
    (
        "xgroup|delconsumer",
        Handler::Write(groups::delete_consumer),
    ),
    ("xgroup|destroy", Handler::Write(groups::destroy)),
    ("xgroup|help", Handler::Read(groups::xgroup_help)),
    ("xgroup|setid", Handler::Write(groups::set_id)),
    ("xinfo", Handler::Session(super::container)),
    ("xinfo|consumers", Handler::Read(info::consumers)),
    ("xinfo|groups", Handler::Read(info::groups)),
    ("xinfo|help", Handler::Read(info::xinfo_help)),
    ("xinfo|stream", Handler::Read(info::stream)),
    ("xlen", Handler::Read(entries::xlen)),
    ("xpending", Handler::Read(claim::xpending)),
    ("xrange", Handler::Read(entries::xrange)),
    ("xread", Handler::Read(read::xread)),
    ("xreadgroup", Handler::Write(read::xreadgroup)),
    ("xrevrange", Handler::Read(entries::xrevrange)),
    ("xsetid", Handler::Write(entries::xsetid)),
    ("xtrim", Handler::Write(entries::xtrim)),
];

type Done = Result<(), CommandError>;

/// An id as a bulk string.
fn reply_id(out: &mut ReplyWriter, id: StreamId) {
    out.bulk(id.to_string().as_bytes());
}

/// An entry: its id and its fields and values.
fn reply_entry(out: &mut ReplyWriter, entry: &Entry<'_>) -> Done {
    out.array(2);
    reply_id(out, entry.id);
    out.array(2 * entry.pairs as usize);
    entry.each_pair(|field, value| {
        reply_element(out, field);
        reply_element(out, value);
    })
}

fn reply_element(out: &mut ReplyWriter, element: Element<'_>) {
    match element {
        Element::Text(text) => out.bulk(text),
        Element::Integer(value) => out.bulk_integer(value),
    }
}

/// An integer or nil.
fn reply_integer_or_null(out: &mut ReplyWriter, value: Option<i64>) {
    match value {
        Some(value) => out.integer(value),
        None => out.null(),
    }
}

fn event(txn: &mut Txn<'_>, key: &MetaKey, name: &'static str) {
    txn.event(EventClass::Stream, name, key.user_key());
}

/// The stream and its group, or `NOGROUP`.
fn stream_and_group(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    group: &[u8],
) -> Result<(Stream, Group), CommandError> {
    if let Some(stream) = Stream::get(txn, key)?
        && let Some(found) = stream.group(txn, group)?
    {
        return Ok((stream, found));
    }
    Err(CommandError::line(format!(
        "NOGROUP No such key '{}' or consumer group '{}'",
        key.user_key().escape(),
        group.escape()
    )))
}

/// The error of a group that a command needs and the stream has not.
fn no_group(group: &[u8], key: &[u8]) -> CommandError {
    CommandError::line(format!(
        "NOGROUP No such consumer group '{}' for key name '{}'",
        group.escape(),
        key.escape()
    ))
}

/// Bytes in an error line.
trait Escape {
    fn escape(&self) -> std::borrow::Cow<'_, str>;
}

impl Escape for [u8] {
    fn escape(&self) -> std::borrow::Cow<'_, str> {
        crate::commands::arguments::shown(self)
    }
}

#[cfg(test)]
mod tests;
