//! From a request to where it is served, by the one command table.
//!
//! Imports run one way: connection → dispatch → local, merge, backend.

use crate::backend::{Call, retry};
use crate::merge::{self, Join, Merge, Scan};
use crate::net::{Connection, Silence};
use crate::route::Lane;
use crate::timing::Timed;
use crate::{monitor, nodes, pubsub, scripts, transaction};
use bytes::{Bytes, BytesMut};
use cairn_protocol::command::{
    self, COUNT, CommandSpec, Flags, Merge as Over, Resolved, Routing, Split, id,
};
use cairn_protocol::link::RequestFlags;
use cairn_protocol::resp::{Args, Version, encode_request, number::parse_u64};
use cairn_protocol::slot::{CURSOR_POSITION_BITS, key_slot};
use std::sync::LazyLock;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has its place in the order of replies.
    Routed,
    /// It must wait until what was asked before is answered.
    Wait,
}

/// Routes by command id: the table's answers, worked out once.
static ROUTES: LazyLock<[Routing; COUNT]> = LazyLock::new(|| {
    let mut routes = [Routing::Refused; COUNT];
    for spec in command::all() {
        routes[spec.id.index()] = command::routing(spec);
    }
    routes
});

/// Serves one request: here, or at one node, or at many.
pub(crate) fn dispatch(to: &mut Connection, args: Args<'_>) -> Step {
    match to.may_begin() {
        Ok(true) => {}
        Ok(false) => return Step::Wait,
        Err(line) => return refuse(to, line),
    }
    let spec = match check(to, args) {
        Ok(spec) => spec,
        Err(_) if args.try_get(0).is_some_and(command::is_http) => {
            let client = to.client.id;
            tracing::warn!(client, "closed: it speaks HTTP, for an attacker maybe");
            to.session.closing = true;
            return Step::Routed;
        }
        Err(mut error) => {
            refuse_in_multi(to, args, &mut error);
            let known = match command::resolve(&args) {
                Resolved::Command(spec) => Some(spec),
                _ => None,
            };
            end_caching(to, known);
            return refuse(to, error);
        }
    };
    if to.is_paused(spec, args) {
        return Step::Wait;
    }
    to.client
        .info
        .runs(spec, args.wire().map_or(0, <[u8]>::len));
    let step = serve(to, spec, args);
    if step == Step::Routed {
        passed(to, spec, args);
    }
    step
}

/// A command has its place in the order of replies.
fn passed(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) {
    to.client.info.has_run();
    if to.thread.shared.monitors.any() {
        monitor::show(to, spec, args);
    }
    end_caching(to, Some(spec));
}

/// CLIENT CACHING holds for the next command that is not CLIENT, or transaction.
fn end_caching(to: &Connection, spec: Option<&CommandSpec>) {
    let of_client = spec.is_some_and(|spec| spec.name.starts_with("client"));
    if !of_client && to.session.multi.is_none() {
        let mut state = to.client.state.borrow_mut();
        state.tracking.iter_mut().for_each(|t| t.command_passed());
    }
}

/// Routes a command that this client may run.
pub(crate) fn serve(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) -> Step {
    if to.session.multi.is_some() && !transaction::is_immediate(spec.id) {
        return transaction::queue(to, spec, args);
    }
    let route = ROUTES[spec.id.index()];
    to.timed = Some(Timed::new(spec, to.now_us));
    to.whole = (route != Routing::Keys).then(|| wire(args));
    match route {
        Routing::Keys => match spec.one_slot(&args) {
            Ok(Some(slot)) => forward(to, spec, args, Lane::slot(slot)),
            // Which keys it uses only its node finds out.
            Ok(None) if runs_script(spec) => after_all(to, |to| {
                to.barrier = true;
                any_node(to, spec, args)
            }),
            Ok(None) => any_node(to, spec, args),
            Err(error) => refuse(to, error.to_string().into()),
        },
        Routing::SplitKeys(split) => by_slot(to, spec, args, split),
        Routing::AllGroups(Over::Cursor) => scan(to, spec, args),
        Routing::AllGroups(over) => all_groups(to, spec, args, over),
        Routing::AllNodes(over) => nodes::all(to, spec, args, over.into()),
        Routing::Proxy => nodes::or_proxy(to, spec, args),
        Routing::AnyNode => any_node(to, spec, args),
        Routing::Session(_) if spec.id == id::SPUBLISH => after_all(to, |to| {
            forward(to, spec, args, Lane::slot(key_slot(args.get(1))))
        }),
        Routing::Session(command::Session::PubSub) => pubsub::serve(to, spec, args),
        Routing::Session(command::Session::Transaction) => transaction::serve(to, spec, args),
        Routing::Refused => refuse(to, command::refused_error(spec).into()),
    }
}

/// Routes a command once all before it is answered: whoever gets a message
/// finds what its sender wrote before.
pub(crate) fn after_all(to: &mut Connection, route: impl FnOnce(&mut Connection) -> Step) -> Step {
    if to.client.state.borrow().outstanding() > 0 {
        to.barrier = true;
        return Step::Wait;
    }
    route(to)
}

/// The route of a command.
pub(crate) fn route(spec: &CommandSpec) -> Routing {
    ROUTES[spec.id.index()]
}

/// What a refused command does to the open transaction. An EXEC says that it
/// discards it, and ends all watches, even if there is none.
fn refuse_in_multi(to: &mut Connection, args: Args<'_>, line: &mut Vec<u8>) {
    match command::resolve(&args) {
        Resolved::Command(spec) if spec.id == id::EXEC => {
            transaction::discard(to);
            if !line.starts_with(b"EXECABORT ") {
                line.splice(..0, *b"EXECABORT Transaction discarded because of: ");
            }
        }
        _ => to.session.multi.iter_mut().for_each(|multi| multi.fail()),
    }
}

/// The command, if this client may run it with so many arguments.
fn check(to: &Connection, args: Args<'_>) -> Result<&'static CommandSpec, Vec<u8>> {
    let resolved = command::resolve(&args);
    let known = match resolved {
        Resolved::Command(spec) | Resolved::UnknownSubcommand(spec) => Some(spec),
        Resolved::UnknownCommand => None,
    };
    let open = known.is_some_and(|spec| spec.flags.contains(Flags::NO_AUTH));
    match resolved {
        Resolved::UnknownCommand => Err(command::unknown_command_error(&args)),
        Resolved::UnknownSubcommand(spec) => Err(command::unknown_subcommand_error(spec, &args)),
        Resolved::Command(spec) if !spec.arity_accepts(args.len()) => {
            Err(command::wrong_arity_error(spec).into())
        }
        Resolved::Command(_) if !may_run(to) && !open => {
            Err(b"NOAUTH Authentication required.".to_vec())
        }
        Resolved::Command(spec)
            if to.session.multi.is_some() && spec.flags.contains(Flags::NO_MULTI) =>
        {
            Err(b"ERR Command not allowed inside a transaction".to_vec())
        }
        Resolved::Command(spec) => {
            check_rights(to, spec, args)?;
            let refused = pubsub::refused_to_subscriber(to, spec);
            let refused = refused.or_else(|| monitor::refused(to, spec));
            refused.map_or(Ok(spec), Err)
        }
    }
}

/// Whether commands may be run: somebody has logged in, or need not.
fn may_run(to: &Connection) -> bool {
    to.session.authenticated || to.thread.shared.users.registry.is_open()
}

/// Whether the client's user may run a command.
fn check_rights(to: &Connection, spec: &CommandSpec, args: Args<'_>) -> Result<(), Vec<u8>> {
    let Some(subject) = to.subject() else {
        return Ok(());
    };
    let checked = subject.check(spec, &args, to.context());
    checked.map_err(|denied| denied.line(spec).into_bytes())
}

/// Answers with an error line (without its `-`).
pub(crate) fn refuse(to: &mut Connection, error: Vec<u8>) -> Step {
    to.reply.error(error);
    let silent = silence(to);
    to.client.state.borrow_mut().answer(&mut to.reply, silent);
    Step::Routed
}

/// Whether this command's reply is dropped; ends a CLIENT REPLY SKIP.
pub(crate) fn silence(to: &mut Connection) -> bool {
    match to.session.silence {
        Silence::Off => false,
        Silence::On => true,
        Silence::Next => {
            to.session.silence = Silence::Off;
            true
        }
    }
}

fn flags_of_version(to: &Connection) -> RequestFlags {
    match to.session.version {
        Version::V2 => RequestFlags::default(),
        Version::V3 => RequestFlags::RESP3,
    }
}

fn flags(to: &Connection) -> RequestFlags {
    let flags = flags_of_version(to);
    match &to.client.state.borrow().tracking {
        Some(tracking) if tracking.tracks() => flags.with(RequestFlags::TRACK),
        _ => flags,
    }
}

/// The request as RESP: as it came, unless it came as an inline line.
pub(crate) fn wire(args: Args<'_>) -> Bytes {
    args.wire_bytes().unwrap_or_else(|| {
        let mut out = BytesMut::with_capacity(args.payload_len() + args.len() * 16);
        encode_request(&mut out, args.iter());
        out.freeze()
    })
}

/// Sends a whole command where its lane goes.
pub(crate) fn forward(to: &mut Connection, spec: &CommandSpec, args: Args<'_>, lane: Lane) -> Step {
    // What is watched when is decided once: a WATCH is no read to be repeated.
    let write = !spec.is_readonly() || spec.id == id::WATCH;
    let silent = silence(to);
    let mut flags = flags(to);
    // What is captured becomes part of another reply, which is made whole.
    if !write && !to.client.state.borrow().captures() {
        flags = flags.with(RequestFlags::PIECES);
    }
    let blocking = may_block(spec, args);
    // What comes behind it waits for it, whatever it is about.
    to.barrier |= blocking;
    let mut state = to.client.state.borrow_mut();
    let seq = state.expect(lane, write, blocking, silent, to.timed);
    let call = Call {
        client: to.client.clone(),
        seq,
        part: 0,
        lane,
        database: to.session.database,
        flags,
        write,
        blocking,
        wire: wire(args),
        scripts: scripts::named_by(&to.thread.shared.scripts, spec, args),
        born_ms: to.now_ms,
        offset: 0,
        roams: lane.as_slot().is_none() && runs_script(spec),
        scan: (spec.id == id::SCAN).then(|| Box::new(Scan::new(args))),
    };
    retry::submit(&to.thread, &mut state, call);
    Step::Routed
}

/// Whether a command runs a script or a function.
fn runs_script(spec: &CommandSpec) -> bool {
    matches!(
        spec.id,
        id::EVAL | id::EVAL_RO | id::EVALSHA | id::EVALSHA_RO | id::FCALL | id::FCALL_RO
    )
}

/// Whether a command may wait for its keys to change.
fn may_block(spec: &CommandSpec, args: Args<'_>) -> bool {
    let reads_stream = matches!(spec.id, id::XREAD | id::XREADGROUP);
    spec.flags.contains(Flags::BLOCKING)
        && (!reads_stream || args.iter().any(|arg| arg.eq_ignore_ascii_case(b"block")))
}

/// Sends a transaction; `own` are the proxy's own replies, by place.
pub(crate) fn send_transaction(
    to: &mut Connection,
    lane: Lane,
    write: bool,
    database: u16,
    (wire, scripts): (Bytes, Vec<scripts::Sha>),
    own: Vec<(usize, Bytes)>,
) -> Step {
    let silent = silence(to);
    let flags = flags(to).with(RequestFlags::TRANSACTION);
    let mut state = to.client.state.borrow_mut();
    let seq = match own.is_empty() {
        true => state.expect(lane, write, false, silent, to.timed),
        false => state.expect_parts(Merge::transaction(lane, write, own), silent, to.timed),
    };
    let call = Call {
        client: to.client.clone(),
        seq,
        part: 0,
        lane,
        database,
        flags,
        write,
        blocking: false,
        wire,
        scripts,
        born_ms: to.now_ms,
        offset: 0,
        roams: false,
        scan: None,
    };
    retry::submit(&to.thread, &mut state, call);
    Step::Routed
}

/// Sends several commands, whose replies become one.
fn send_parts(
    to: &mut Connection,
    write: bool,
    join: Join,
    parts: Vec<(Lane, Bytes)>,
    owners: Vec<u32>,
) -> Step {
    let silent = silence(to);
    // Of what writes nothing is remembered, so that its client holds no more than before.
    let flags = match write {
        true => flags_of_version(to),
        false => flags(to),
    };
    let flags = flags.with(RequestFlags::PART);
    let parts = parts
        .into_iter()
        .map(|(lane, wire)| (lane, wire, flags))
        .collect();
    send_parts_silently(to, write, join, parts, owners, silent)
}

/// Sends one command to all nodes: to those that can be reached now, or also to
/// the others, which is waited for. Replies of nodes that go meanwhile are
/// errors.
pub(crate) fn send_to_nodes(
    to: &mut Connection,
    wire: Bytes,
    only_up: bool,
    join: Join,
    silent: bool,
) -> Step {
    let lanes = to.thread.node_lanes(only_up);
    if lanes.is_empty() {
        let reply = merge::of_nobody(&join);
        let mut state = to.client.state.borrow_mut();
        to.reply.raw(&reply);
        state.answer(&mut to.reply, silent);
        state.release_messages();
        return Step::Routed;
    }
    to.barrier = true;
    // To the first it is the command itself: nodes log it once.
    let flags = flags(to);
    let part = |(at, lane)| match at {
        0 => (lane, wire.clone(), flags),
        _ => (lane, wire.clone(), flags.with(RequestFlags::PART)),
    };
    let parts = lanes.into_iter().enumerate().map(part).collect();
    send_parts_silently(to, only_up, join, parts, Vec::new(), silent)
}

fn send_parts_silently(
    to: &mut Connection,
    write: bool,
    join: Join,
    parts: Vec<(Lane, Bytes, RequestFlags)>,
    owners: Vec<u32>,
    silent: bool,
) -> Step {
    let mut state = to.client.state.borrow_mut();
    let lanes = parts.iter().map(|(lane, ..)| *lane).collect();
    let merge = Merge::new(join, write, lanes, owners).of(to.whole.take());
    let seq = state.expect_parts(merge, silent, to.timed);
    for (part, (lane, wire, flags)) in parts.into_iter().enumerate() {
        let call = Call {
            client: to.client.clone(),
            seq,
            part: part as u32,
            lane,
            database: to.session.database,
            flags,
            write,
            blocking: false,
            wire,
            scripts: Vec::new(),
            born_ms: to.now_ms,
            offset: 0,
            roams: false,
            scan: None,
        };
        retry::submit(&to.thread, &mut state, call);
    }
    Step::Routed
}

/// A command that Redis defines key by key, cut by slot if need be.
fn by_slot(to: &mut Connection, spec: &CommandSpec, args: Args<'_>, split: Split) -> Step {
    if split == Split::AllOk && args.len().is_multiple_of(2) {
        return refuse(to, command::wrong_arity_error(spec).into());
    }
    if let Ok(Some(slot)) = spec.one_slot(&args) {
        return forward(to, spec, args, Lane::slot(slot));
    }
    let (parts, owners) = merge::split(spec, args);
    let parts = parts
        .into_iter()
        .map(|part| (Lane::slot(part.slot), part.wire))
        .collect();
    send_parts(to, !spec.is_readonly(), split.into(), parts, owners)
}

/// SCAN goes through the slots in their order, wherever they are. Like every command
/// about all keys it waits for what was asked before, and is waited for.
fn scan(to: &mut Connection, spec: &CommandSpec, args: Args<'_>) -> Step {
    let slot = parse_u64(args.get(1)).map(|cursor| cursor >> CURSOR_POSITION_BITS);
    match slot.and_then(|slot| u16::try_from(slot).ok()) {
        Some(slot) if usize::from(slot) < crate::route::SLOTS => after_all(to, |to| {
            to.barrier = true;
            forward(to, spec, args, Lane::slot(slot))
        }),
        _ => refuse(to, b"ERR invalid cursor".to_vec()),
    }
}

/// A command about all keys: one for each group. It waits for what was asked
/// before, and what is asked after waits for it, since no lane orders them.
fn all_groups(to: &mut Connection, spec: &CommandSpec, args: Args<'_>, over: Over) -> Step {
    if to.client.state.borrow().outstanding() > 0 {
        to.barrier = true;
        return Step::Wait;
    }
    let groups = to.thread.routes.borrow().owning_groups();
    if groups.is_empty() {
        return any_node(to, spec, args);
    }
    to.barrier = true;
    let wire = wire(args);
    let parts = groups
        .into_iter()
        .map(|group| (Lane::group(group), wire.clone()))
        .collect();
    send_parts(to, !spec.is_readonly(), over.into(), parts, Vec::new())
}

/// A command without keys that all nodes answer alike.
pub(crate) fn any_node(to: &mut Connection, spec: &CommandSpec, args: Args<'_>) -> Step {
    let group = to
        .thread
        .routes
        .borrow()
        .owning_groups()
        .first()
        .copied()
        .unwrap_or(0);
    forward(to, spec, args, Lane::group(group))
}
