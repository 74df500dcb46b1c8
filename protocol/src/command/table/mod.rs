//! The commands themselves, one file a group, one entry a command.
//!
//! The facts are those of Redis 7.0; `tests/golden/commands.txt` holds them a
//! second time, so that no entry changes unnoticed.

mod bitmap;
mod cluster;
mod connection;
mod generic;
mod geo;
mod hash;
mod hyperloglog;
mod list;
mod pubsub;
mod scripting;
mod server;
mod set;
mod sorted_set;
mod stream;
mod string;
mod transactions;

use super::spec::CommandSpec;

/// What a file of the table needs.
mod prelude {
    pub(super) use crate::command::bits::{AclCategories, Flags, KeyFlags};
    pub(super) use crate::command::docs;
    pub(super) use crate::command::id;
    pub(super) use crate::command::keys::KeyFinder;
    pub(super) use crate::command::spec::{BeginSearch, COMMAND, CommandSpec, FindKeys, KeySpec};
}

/// All groups of top-level commands.
pub(super) static GROUPS: &[&[CommandSpec]] = &[
    bitmap::COMMANDS,
    cluster::COMMANDS,
    connection::COMMANDS,
    generic::COMMANDS,
    geo::COMMANDS,
    hash::COMMANDS,
    hyperloglog::COMMANDS,
    list::COMMANDS,
    pubsub::COMMANDS,
    scripting::COMMANDS,
    server::COMMANDS,
    set::COMMANDS,
    sorted_set::COMMANDS,
    stream::COMMANDS,
    string::COMMANDS,
    transactions::COMMANDS,
];
