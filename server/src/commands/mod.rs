//! The wire side of every command: arguments in, reply out.
//!
//! One file a family; each lists its handlers by name. The table of names,
//! arities and flags is `cairn_protocol::command`; [`handler`] maps a spec of
//! it to the function here. A data command sees only its [`Txn`]; a session
//! command sees its connection's [`Session`] and the server.

mod acl;
pub(crate) mod arguments;
mod bitfield;
mod bitmaps;
mod client;
mod cluster;
mod collection_scan;
mod command;
mod config;
pub(crate) mod connection;
mod debug;
mod digest;
mod dump;
mod expire;
mod functions;
mod geo;
mod hashes;
mod hyperloglog;
mod info;
pub(crate) mod inner;
pub mod keys;
mod keyspace;
mod large;
mod lcs;
mod lists;
mod lists_blocking;
mod long_double;
mod memory;
mod migrate;
mod modules;
mod monitor;
mod pubsub;
mod replication;
mod scan;
pub(crate) mod scripting;
mod server;
mod set_operations;
mod sets;
mod slow;
mod sort;
mod sorted_sets;
pub mod streams;
mod strings;
mod subcommands;
#[cfg(test)]
pub(crate) mod testing;
mod tracking;
pub(crate) mod transactions;

pub(crate) use keyspace::key_count;
pub(crate) use scan::{scan_slot, scan_until_gap};

use std::sync::LazyLock;

use subcommands::{container, help, subcommand_error, subcommand_syntax};

use cairn_protocol::command::{COUNT, CommandSpec, id, lookup_full};
use cairn_protocol::resp::{Args, ReplyWriter};

use crate::net::session::{Next, Session};
use crate::txn::{CommandError, Txn};

/// A command on data.
pub type DataHandler = fn(&mut Txn<'_>, &Args<'_>, &mut ReplyWriter) -> Result<(), CommandError>;
/// A command on the connection or the server.
pub type SessionHandler =
    fn(&mut Session, &Args<'_>, &mut ReplyWriter) -> Result<Next, CommandError>;

/// Who runs a command.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Any thread, on applied state.
    Read(DataHandler),
    /// The group's writer.
    Write(DataHandler),
    /// The connection's own thread; must not block.
    Session(SessionHandler),
}

static HANDLERS: LazyLock<Vec<Option<Handler>>> = LazyLock::new(|| {
    let mut table = vec![None; COUNT];
    let families: &[&[(&str, Handler)]] = &[
        acl::HANDLERS,
        bitfield::HANDLERS,
        bitmaps::HANDLERS,
        client::HANDLERS,
        cluster::HANDLERS,
        command::HANDLERS,
        config::HANDLERS,
        connection::HANDLERS,
        debug::HANDLERS,
        dump::HANDLERS,
        expire::HANDLERS,
        functions::HANDLERS,
        geo::HANDLERS,
        hashes::HANDLERS,
        hyperloglog::HANDLERS,
        info::HANDLERS,
        keys::HANDLERS,
        lists::HANDLERS,
        lists_blocking::HANDLERS,
        memory::HANDLERS,
        migrate::HANDLERS,
        modules::HANDLERS,
        monitor::HANDLERS,
        pubsub::HANDLERS,
        replication::HANDLERS,
        scan::HANDLERS,
        scripting::HANDLERS,
        server::HANDLERS,
        set_operations::HANDLERS,
        sets::HANDLERS,
        slow::HANDLERS,
        sort::HANDLERS,
        sorted_sets::HANDLERS,
        streams::HANDLERS,
        strings::HANDLERS,
        tracking::HANDLERS,
        transactions::HANDLERS,
    ];
    for (name, handler) in families.iter().copied().flatten() {
        let spec = lookup_full(name.as_bytes()).expect("a handler's name is in the table");
        table[spec.id.index()] = Some(*handler);
    }
    table
});

/// What DEBUG and MODULE are refused with before they are queued or counted, to clients
/// that `enable-debug-command` and `enable-module-command` do not let through.
pub(crate) fn refused_as_protected(session: &Session, spec: &CommandSpec) -> Option<&'static str> {
    match spec.id {
        id::DEBUG => debug::refused(session),
        id::MODULE_LOAD | id::MODULE_LOADEX | id::MODULE_UNLOAD => modules::refused(session),
        _ => None,
    }
}

/// The function behind a command, if this server has it.
pub fn handler(spec: &CommandSpec) -> Option<Handler> {
    HANDLERS[spec.id.index()]
}
