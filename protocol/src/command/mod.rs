//! The one command table.
//!
//! From it the server dispatches, the proxy routes and COMMAND answers: name,
//! arity, flags, ACL categories, key positions and documentation of every
//! command and subcommand of Redis 7.0, except those of modules and Sentinel.
//! The table is constant data; whether a program implements a command is its
//! own affair (see [`introspect`]).

/// A set of [`Flags`], and so on, for constant tables.
macro_rules! members {
    ($set:ident; $($member:ident),*) => { $set::NONE$(.with($set::$member))* };
}
macro_rules! flags {
    ($($member:ident),*) => { members!(Flags; $($member),*) };
}
macro_rules! categories {
    ($($member:ident),*) => { members!(AclCategories; $($member),*) };
}
macro_rules! key_flags {
    ($($member:ident),*) => { members!(KeyFlags; $($member),*) };
}
macro_rules! doc_flags {
    ($($member:ident),*) => { members!(DocFlags; $($member),*) };
}

mod bits;
mod docs;
mod errors;
mod glob;
mod help;
pub mod id;
pub mod introspect;
mod keys;
mod lookup;
mod renamed;
mod routing;
mod secrets;
mod spec;
mod table;

pub use bits::{AclCategories, DocFlags, Flags, KeyFlags};
pub use docs::{Argument, ArgumentKind, Docs, Group};
pub use errors::{
    is_http, subcommand_syntax_error, subscriber_error, unknown_command_error,
    unknown_subcommand_error, wrong_arity_error,
};
pub use glob::glob_match;
pub use help::{CLIENT_HELP, help};
pub use id::{COUNT, CommandId};
pub use keys::{ArgList, CrossSlot, KeyFinder, KeyList, KeyRef, KeysError};
pub use lookup::{Resolved, all, lookup, lookup_full, resolve, resolve_own, top_level};
pub use renamed::{
    RenameError, Renames, has_renamed, is_reachable, lookup_called, lookup_called_full,
};
pub use routing::{Merge, Routing, Session, Split, refused_error, routing};
pub use secrets::{is_secret_parameter, secrets};
pub use spec::{BeginSearch, CommandSpec, FindKeys, KeySpec};
