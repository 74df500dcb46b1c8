//! From a request to the function that answers it, or to the error it gets.
//!
//! The dispatcher alone does command lookup, arity, authentication,
//! rights, slot ownership and refusals, so that no command repeats them.

use std::sync::atomic::Ordering;

use cairn_protocol::acl::{Context, Subject};
use cairn_protocol::command::{
    CommandSpec, Flags, Resolved, resolve, unknown_command_error, unknown_subcommand_error,
    wrong_arity_error,
};
use cairn_protocol::resp::Args;

use crate::commands::{self, Handler};
use crate::replication::Feed;
use crate::scripting::refused_when_busy;
use crate::server::Server;
use crate::upkeep::Vitals;

/// A request that may run.
#[derive(Clone, Copy)]
pub struct Dispatched {
    pub spec: &'static CommandSpec,
    pub handler: Handler,
    /// The slot of the keys, looked up only where slots matter.
    pub slot: Option<u16>,
}

/// What the connection tells about the client.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    pub authenticated: bool,
    /// Its command is to be queued.
    pub in_multi: bool,
    /// Whose rights must be looked at; `None`: everything is allowed.
    pub subject: Option<&'a Subject>,
    /// Whether keys of several slots are refused (cluster mode).
    pub one_slot: bool,
}

const DISK_FULL: &[u8] = b"DISKFULL less than min-free-disk is left on the disk of the data \
directory, so commands that need space are refused; free space there, delete keys (DEL and reads \
are served), or lower min-free-disk";

pub const NO_REPLICAS: &str = "NOREPLICAS Not enough good replicas to write.";

const MEMORY_FULL: &[u8] = b"OOM command not allowed when used memory > 'memory-limit'.";

const OUT_OF_MEMORY: &[u8] = b"OOM command not allowed when used memory > 'maxmemory'.";

/// What a command is refused with at the process's limits; `None`: it runs.
pub fn refused_when_full(spec: &CommandSpec, vitals: &Vitals) -> Option<&'static [u8]> {
    if !vitals.full.load(Ordering::Relaxed) || !spec.flags.contains(Flags::DENYOOM) {
        return None;
    }
    if vitals.disk_full.load(Ordering::Relaxed) {
        return Some(DISK_FULL);
    }
    // `full` may lag behind both by a moment.
    vitals
        .memory_full
        .load(Ordering::Relaxed)
        .then_some(MEMORY_FULL)
}

/// What a command that writes is refused with while too few replicas have been
/// heard of (`min-replicas-to-write`).
pub fn refused_without_replicas(spec: &CommandSpec, feed: &Feed) -> Option<&'static [u8]> {
    (spec.flags.contains(Flags::WRITE) && feed.forbids_writes()).then_some(NO_REPLICAS.as_bytes())
}

/// The same where `maxmemory` holds too; `queued`: within MULTI all that is
/// queued needs memory.
pub fn refused_for_space(
    spec: &CommandSpec,
    queued: bool,
    server: &Server,
) -> Option<&'static [u8]> {
    let needs = queued || spec.flags.contains(Flags::DENYOOM);
    match needs && server.is_out_of_memory() {
        true => Some(OUT_OF_MEMORY),
        false => refused_when_full(spec, &server.vitals),
    }
}

/// Finds the handler of `args`, or the error line that answers them.
pub fn dispatch(args: &Args<'_>, caller: Caller<'_>) -> Result<Dispatched, Vec<u8>> {
    let spec = match resolve(args) {
        Resolved::Command(spec) => spec,
        Resolved::UnknownCommand => return Err(unknown_command_error(args)),
        Resolved::UnknownSubcommand(container) => {
            return Err(unknown_subcommand_error(container, args));
        }
    };
    let handler = commands::handler(spec);
    // A container called alone has no handler of its own, but an arity.
    if (handler.is_some() || spec.is_container()) && !spec.arity_accepts(args.len()) {
        return Err(wrong_arity_error(spec).into_bytes());
    }
    let Some(handler) = handler else {
        return Err(unknown_command_error(args));
    };
    if !caller.authenticated && !spec.flags.contains(Flags::NO_AUTH) {
        return Err(b"NOAUTH Authentication required.".to_vec());
    }
    if caller.in_multi && spec.flags.contains(Flags::NO_MULTI) {
        return Err(b"ERR Command not allowed inside a transaction".to_vec());
    }
    if let Some(subject) = caller.subject {
        check_rights(subject, spec, args, caller.in_multi)?;
    }
    if let Some(line) = refused_when_busy(spec) {
        return Err(line.as_bytes().to_vec());
    }
    let mut slot = None;
    if caller.one_slot {
        slot = spec
            .one_slot(args)
            .map_err(|_| b"CROSSSLOT Keys in request don't hash to the same slot".to_vec())?;
    }
    Ok(Dispatched {
        spec,
        handler,
        slot,
    })
}

fn check_rights(
    subject: &Subject,
    spec: &CommandSpec,
    args: &Args<'_>,
    in_multi: bool,
) -> Result<(), Vec<u8>> {
    let context = match in_multi {
        true => Context::Multi,
        false => Context::TopLevel,
    };
    let checked = subject.check(spec, args, context);
    checked.map_err(|denied| denied.line(spec).into_bytes())
}
