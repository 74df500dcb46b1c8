//! XGROUP and XACK.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::super::arguments::{integer, is};
use super::arguments::{id, id_or_end, ids};
use super::{Done, event, no_group};
use crate::storage::MetaKey;
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::stream::{Group, Stream, StreamId};

/// XACK key group id [id ...]
///
/// Replies with the number of entries that were pending.
pub(super) fn xack(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let group = match Stream::get(txn, &key)? {
        Some(stream) => stream.group(txn, args.get(2))?,
        None => None,
    };
    let Some(group) = group else {
        out.integer(0);
        return Ok(());
    };
    let mut acknowledged = 0;
    let mut edit = group.edit();
    for id in ids(args, 3)? {
        if let Some(pending) = edit.group.find_pending(txn, id)? {
            edit.remove(txn, pending)?;
            acknowledged += 1;
        }
    }
    if acknowledged > 0 {
        edit.store(txn);
    }
    out.integer(acknowledged);
    Ok(())
}

/// XGROUP CREATE key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]
pub(super) fn create(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Options::read(args, true)?;
    let key = txn.key(args.get(2));
    let stream = Stream::get(txn, &key)?;
    if stream.is_none() && !options.mkstream {
        return Err(NO_KEY);
    }
    if args.len() > 8 {
        return Err(syntax(args));
    }
    let last_id = match args.get(4) {
        b"$" => stream
            .as_ref()
            .map_or(StreamId::MIN, |stream| stream.last_id),
        text => id(text)?,
    };
    let is_new = stream.is_none();
    let mut stream = stream.unwrap_or_else(|| Stream::new(&key));
    let name = args.get(3);
    if stream.group(txn, name)?.is_some() {
        return Err(CommandError::fixed(
            "BUSYGROUP Consumer Group name already exists",
        ));
    }
    if is_new {
        txn.event(EventClass::New, "new", key.user_key());
    }
    stream.create_group(txn, name, last_id, options.entries_read);
    stream.store(txn)?;
    event(txn, &key, "xgroup-create");
    out.ok();
    Ok(())
}

/// XGROUP CREATECONSUMER key group consumer
///
/// Replies 1, or 0 if there was such a consumer.
pub(super) fn create_consumer(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (key, _, mut group) = existing(txn, args)?;
    let name = args.get(4);
    let exists = group.consumer(txn, name)?.is_some();
    if !exists {
        group.create_consumer(txn, name);
        group.store(txn);
        event(txn, &key, "xgroup-createconsumer");
    }
    out.integer(i64::from(!exists));
    Ok(())
}

/// XGROUP DELCONSUMER key group consumer
///
/// Replies with the number of entries that were pending for it.
pub(super) fn delete_consumer(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (key, _, mut group) = existing(txn, args)?;
    let mut pending = 0;
    if let Some(consumer) = group.consumer(txn, args.get(4))? {
        pending = consumer.pending;
        group.delete_consumer(txn, &consumer)?;
        group.store(txn);
        event(txn, &key, "xgroup-delconsumer");
    }
    out.integer(pending as i64);
    Ok(())
}

/// XGROUP DESTROY key group
///
/// Replies 1, or 0 if there was no such group.
pub(super) fn destroy(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(2));
    let mut stream = Stream::get(txn, &key)?.ok_or(NO_KEY)?;
    let group = stream.group(txn, args.get(3))?;
    let exists = group.is_some();
    if let Some(group) = group {
        stream.destroy_group(txn, group);
        stream.store(txn)?;
        event(txn, &key, "xgroup-destroy");
    }
    out.integer(i64::from(exists));
    Ok(())
}

/// XGROUP SETID key group <id | $> [ENTRIESREAD entries-read]
pub(super) fn set_id(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Options::read(args, false)?;
    let (key, stream, mut group) = existing(txn, args)?;
    if args.len() > 7 {
        return Err(syntax(args));
    }
    group.last_id = match args.get(4) {
        b"$" => stream.last_id,
        text => id_or_end(text, 0)?,
    };
    group.entries_read = options.entries_read;
    group.store(txn);
    event(txn, &key, "xgroup-setid");
    out.ok();
    Ok(())
}

/// XGROUP HELP
pub(super) fn xgroup_help(_: &mut Txn<'_>, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    super::super::help(
        out,
        "XGROUP",
        &[
            "CREATE <key> <groupname> <id|$> [option]",
            "    Create a new consumer group. Options are:",
            "    * MKSTREAM",
            "      Create the empty stream if it does not exist.",
            "    * ENTRIESREAD entries_read",
            "      Set the group's entries_read counter (internal use).",
            "CREATECONSUMER <key> <groupname> <consumer>",
            "    Create a new consumer in the specified group.",
            "DELCONSUMER <key> <groupname> <consumer>",
            "    Remove the specified consumer.",
            "DESTROY <key> <groupname>",
            "    Remove the specified group.",
            "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
            "    Set the current group ID and entries_read counter.",
        ],
    );
    Ok(())
}

const NO_KEY: CommandError = CommandError::fixed(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to \
     use the MKSTREAM option to create an empty stream automatically.",
);

/// Key, stream and group that a subcommand needs.
fn existing(txn: &mut Txn<'_>, args: &Args<'_>) -> Result<(MetaKey, Stream, Group), CommandError> {
    let key = txn.key(args.get(2));
    let stream = Stream::get(txn, &key)?.ok_or(NO_KEY)?;
    let name = args.get(3);
    match stream.group(txn, name)? {
        Some(group) => Ok((key, stream, group)),
        None => Err(no_group(name, key.user_key())),
    }
}

fn syntax(args: &Args<'_>) -> CommandError {
    let name = match is(args.get(1), "CREATE") {
        true => "xgroup|create",
        false => "xgroup|setid",
    };
    super::super::subcommand_syntax(args, name)
}

/// The options of CREATE and SETID.
struct Options {
    mkstream: bool,
    entries_read: i64,
}

impl Options {
    fn read(args: &Args<'_>, create: bool) -> Result<Options, CommandError> {
        let mut options = Options {
            mkstream: false,
            entries_read: -1,
        };
        let mut at = 5;
        while at < args.len() {
            let word = args.get(at);
            if create && is(word, "MKSTREAM") {
                options.mkstream = true;
                at += 1;
            } else if is(word, "ENTRIESREAD") && at + 1 < args.len() {
                options.entries_read = integer(args.get(at + 1))?;
                if options.entries_read < -1 {
                    return Err(CommandError::fixed(
                        "ERR value for ENTRIESREAD must be positive or -1",
                    ));
                }
                at += 2;
            } else {
                return Err(syntax(args));
            }
        }
        Ok(options)
    }
}
