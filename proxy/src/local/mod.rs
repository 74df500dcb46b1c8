//! What the proxy answers itself.
//!
//! `connection` is about the client (AUTH, SELECT, CLIENT, HELLO ...),
//! `server` about the proxy (INFO, CONFIG, TIME ...). Both write into the
//! connection's own reply buffer, which then takes its place in the order of
//! replies.

mod client;
mod config;
mod connection;
mod server;

use crate::dispatch::{Step, silence};
use crate::net::{Connection, Silence};
use crate::{replica, timing};
use cairn_protocol::acl;
use cairn_protocol::command::{self, CommandId, CommandSpec, Routing, id};
use cairn_protocol::resp::Args;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

pub(crate) use config::{is_for_nodes, own as own_parameters, set_own as set_own_parameters};
pub(crate) use server::{REDIS_VERSION, is_own_info, own_info};

/// Serves a command whose route is the proxy itself.
pub(crate) fn serve(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) -> Step {
    let skipped = to.session.silence == Silence::Next;
    answer(to, spec, args);
    let silent = match spec.id {
        // One that was wrong has used up the SKIP before it.
        id::CLIENT_REPLY if skipped && !to.reply.is_empty() => silence(to),
        // It may have changed it: ON is answered, OFF is not.
        id::CLIENT_REPLY => to.session.silence != Silence::Off,
        // A RESET has ended the SKIP that was for it.
        _ if skipped => {
            silence(to);
            true
        }
        _ => to.session.silence == Silence::On,
    };
    to.client.state.borrow_mut().answer(&mut to.reply, silent);
    Step::Routed
}

/// Writes the reply into the connection's own reply buffer.
pub(crate) fn answer(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) {
    count(to, spec);
    let began = Instant::now();
    let known = connection::answer(to, spec.id, args)
        || users(to, spec.id, args)
        || client::answer(to, spec.id, args)
        || config::answer(to, spec.id, args)
        || server::answer(to, spec.id, args)
        || replica::answer(to, spec.id, args)
        || timing::answer(to, spec, args)
        || command_table(to, spec.id, args);
    if !known {
        let name = spec.name.replace('|', " ");
        to.reply
            .error(format!("ERR '{name}' is not supported by the proxy"));
    }
    let nanos = began.elapsed().as_nanos() as u64;
    timing::answered(to, spec, args, nanos);
}

/// ACL and its subcommands, as far as they change nothing. Users are never
/// unsaved: etcd has them.
fn users(to: &mut Connection, command: CommandId, args: Args<'_>) -> bool {
    if command == id::ACL_SAVE {
        to.reply.ok();
        return true;
    }
    let (registry, me) = (&to.thread.shared.users.registry, &to.session.account);
    match acl::answer(command, registry, me, &args, &mut to.reply) {
        Ok(answered) => answered,
        Err(line) => {
            to.reply.error(line);
            true
        }
    }
}

/// INFO commandstats: what no node sees.
pub(crate) fn count(to: &Connection, spec: &CommandSpec) {
    to.thread.shared.calls[spec.id.index()].fetch_add(1, Relaxed);
}

/// COMMAND and its subcommands, from the one table.
fn command_table(to: &mut Connection, id: CommandId, args: Args<'_>) -> bool {
    use cairn_protocol::command::introspect;
    let served = |spec: &CommandSpec| command::routing(spec) != Routing::Refused;
    let reply = &mut to.reply;
    match id {
        id::COMMAND => introspect::command(reply, &served),
        id::COMMAND_COUNT => introspect::count(reply, &served),
        id::COMMAND_INFO => introspect::info(reply, &args, &served),
        id::COMMAND_DOCS => introspect::docs(reply, &args, &served),
        id::COMMAND_LIST => introspect::list(reply, &args, &served),
        id::COMMAND_GETKEYS => introspect::getkeys(reply, &args, &served),
        id::COMMAND_GETKEYSANDFLAGS => introspect::getkeysandflags(reply, &args, &served),
        id::COMMAND_HELP => introspect::help(reply),
        _ => return false,
    }
    true
}

/// Whether an argument is that word, whatever the case of its letters.
fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
