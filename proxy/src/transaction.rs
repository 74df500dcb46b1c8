//! MULTI to EXEC: the proxy queues, and sends one TRANSACTION.
//!
//! All keys of a transaction are of one slot, so that one group executes it as
//! one unit. What the proxy answers itself is answered at EXEC and put in its
//! place among the replies of the node; what is for other nodes (CONFIG SET,
//! PUBLISH, FLUSHALL) follows once the node has executed its part ([`Exec`]), and
//! where keys are watched, so that it may refuse, the proxy's own does too.
//!
//! WATCH goes to the owner of its slot, and the EXEC says how many of them the
//! client has sent: a node that has not executed as many for this session, be it
//! that the slot has moved, the link broke or the node was started anew, answers
//! nil (`link/RULES.md`). So nothing here has to remember where that was.

use crate::dispatch::{Step, forward, refuse, route, send_transaction};
use crate::net::Connection;
use crate::route::Lane;
use crate::scripts::Sha;
use crate::{local, merge, nodes, pubsub, scripts, timing};
use bytes::{Bytes, BytesMut};
use cairn_protocol::acl::{Context, Denied, User};
use cairn_protocol::command::{self, CommandId, CommandSpec, Resolved, Routing, Session, id};
use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, Limits, RequestParser, Requests, encode_request};
use std::collections::BTreeSet;
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes and commands of one transaction at most.
const MAX_BYTES: usize = 64 << 20;
const MAX_COMMANDS: usize = 1 << 16;

const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";
const CROSS_SLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

/// What a client has queued since MULTI.
pub(crate) struct Multi {
    /// Something could not be queued: EXEC will refuse.
    failed: bool,
    slot: Option<u16>,
    /// The commands for the node, as they go over the link.
    wire: BytesMut,
    write: bool,
    /// The same, but for scripts that say of themselves that they do not.
    may_change: bool,
    /// What the proxy answers itself, by its place.
    own: Vec<(usize, &'static CommandSpec)>,
    own_requests: Requests,
    count: usize,
    scripts: Vec<Sha>,
    /// What follows the node's part, by its place.
    rest: Vec<(usize, &'static CommandSpec)>,
    rest_requests: Requests,
    /// The rules under which all of this was queued.
    user: Arc<User>,
    /// A command over all groups: none on keys may come behind it, since it
    /// will be executed last.
    closed_by: Option<&'static CommandSpec>,
}

/// An EXEC whose commands are executed one after the other. Its replies are
/// captured until the last has come.
pub(crate) struct Exec {
    own: Vec<(usize, Bytes)>,
    rest: Vec<(usize, &'static CommandSpec)>,
    requests: Requests,
    /// The node's part is under way.
    at_node: bool,
    /// What the node said.
    of_node: Bytes,
    /// How many of the rest have been begun.
    begun: usize,
    silent: bool,
}

/// What a client watches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watching {
    slot: u16,
    /// WATCH commands since the last EXEC, DISCARD or UNWATCH.
    count: u32,
}

impl Multi {
    fn new(user: Arc<User>) -> Multi {
        Multi {
            user,
            failed: false,
            slot: None,
            wire: BytesMut::new(),
            write: false,
            may_change: false,
            own: Vec::new(),
            own_requests: Requests::default(),
            count: 0,
            scripts: Vec::new(),
            rest: Vec::new(),
            rest_requests: Requests::default(),
            closed_by: None,
        }
    }

    /// Whether a pause of writes holds it.
    pub(crate) fn writes(&self) -> bool {
        self.may_change
    }

    /// Something was refused before it could be queued.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
    }

    fn push_own(&mut self, spec: &'static CommandSpec, args: Args<'_>) {
        self.own.push((self.count, spec));
        self.own_requests.push_copy(args);
        self.count += 1;
    }

    fn push_rest(&mut self, spec: &'static CommandSpec, args: Args<'_>) {
        self.rest.push((self.count, spec));
        self.rest_requests.push_copy(args);
        self.count += 1;
    }

    /// Has the proxy's own part follow the node's, which may turn out not to be
    /// executed.
    fn defer_own(&mut self) {
        let (own, own_requests) = (take(&mut self.own), take(&mut self.own_requests));
        let (rest, rest_requests) = (take(&mut self.rest), take(&mut self.rest_requests));
        let with_args = |(n, command)| (command, own_requests.get(n));
        let own = own.into_iter().enumerate().map(with_args);
        let with_args = |(n, command)| (command, rest_requests.get(n));
        let rest = rest.into_iter().enumerate().map(with_args);
        let mut all: Vec<_> = own.chain(rest).collect();
        all.sort_by_key(|((at, _), _)| *at);
        for (command, args) in all {
            self.rest.push(command);
            self.rest_requests.push_copy(args);
        }
    }

    fn push_wire(&mut self, args: Args<'_>) {
        match args.wire() {
            Some(wire) => self.wire.extend_from_slice(wire),
            None => encode_request(&mut self.wire, args.iter()),
        }
    }

    fn has_room(&self, args: Args<'_>) -> bool {
        self.count < MAX_COMMANDS && self.wire.len() + args.payload_len() < MAX_BYTES
    }
}

/// Whether a command acts at once even within a transaction.
pub(crate) fn is_immediate(id: CommandId) -> bool {
    matches!(
        id,
        id::MULTI | id::EXEC | id::DISCARD | id::WATCH | id::QUIT | id::RESET
    )
}

/// MULTI, EXEC, DISCARD, WATCH, UNWATCH.
pub(crate) fn serve(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) -> Step {
    match spec.id {
        id::EXEC => return exec(to),
        id::MULTI if to.session.multi.is_some() => {
            to.reply.error("ERR MULTI calls can not be nested");
        }
        id::MULTI => {
            to.session.multi = Some(Box::new(Multi::new(to.session.account.user())));
            to.reply.ok();
        }
        id::DISCARD if to.session.multi.is_none() => {
            to.reply.error("ERR DISCARD without MULTI");
        }
        id::WATCH if to.session.multi.is_some() => {
            to.reply.error("ERR WATCH inside MULTI is not allowed");
        }
        id::WATCH => return watch(to, spec, args),
        id::DISCARD => {
            discard(to);
            to.reply.ok();
        }
        // UNWATCH
        _ => {
            unwatch(to);
            to.reply.ok();
        }
    }
    local::count(to, spec);
    timing::answered(to, spec, args, 0);
    show_queued(to);
    answer(to)
}

/// What CLIENT LIST shows.
fn show_queued(to: &Connection) {
    let queued = to.session.multi.as_ref().map_or(-1, |m| m.count as i32);
    to.client.info.queued.store(queued, Relaxed);
}

/// WATCH key [key ...]: all keys that a client watches are of one slot.
fn watch(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) -> Step {
    let slot = match spec.one_slot(&args) {
        Ok(Some(slot)) => slot,
        Ok(None) => return refuse(to, b"ERR syntax error".to_vec()),
        Err(error) => return refuse(to, error.to_string().into()),
    };
    let watching = to
        .session
        .watching
        .get_or_insert(Watching { slot, count: 0 });
    if watching.slot != slot {
        return refuse(to, CROSS_SLOT.into());
    }
    watching.count += 1;
    forward(to, spec, args, Lane::slot(slot))
}

/// Ends the transaction, if one is open, and all watches.
pub(crate) fn discard(to: &mut Connection) {
    to.session.multi = None;
    unwatch(to);
    show_queued(to);
}

/// Has the node forget what is watched, behind all that was sent there.
fn unwatch(to: &mut Connection) {
    if let Some(watching) = to.session.watching.take() {
        let wire = nodes::command(&[b"UNWATCH"]);
        pubsub::detached(&to.thread, &to.client, Lane::slot(watching.slot), wire);
    }
}

/// Puts a reply of the proxy's own in its place.
fn answer(to: &mut Connection) -> Step {
    let silent = crate::dispatch::silence(to);
    to.client.state.borrow_mut().answer(&mut to.reply, silent);
    Step::Routed
}

/// A command between MULTI and EXEC.
pub(crate) fn queue(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) -> Step {
    match try_queue(to, spec, args) {
        Ok(()) => {
            to.reply.simple("QUEUED");
            show_queued(to);
        }
        Err(line) => {
            if let Some(multi) = &mut to.session.multi {
                multi.fail();
            }
            to.reply.error(line);
        }
    }
    answer(to)
}

fn try_queue(
    to: &mut Connection,
    spec: &'static CommandSpec,
    args: Args<'_>,
) -> Result<(), String> {
    let watched = to.session.watching.map(|watching| watching.slot);
    let multi = to.session.multi.as_mut().expect("a transaction is open");
    if !multi.has_room(args) {
        return Err("ERR the transaction is too large".to_owned());
    }
    match route(spec) {
        Routing::Keys | Routing::SplitKeys(_) => {
            let slot = spec.one_slot(&args).map_err(|error| error.to_string())?;
            if let Some(before) = multi.closed_by {
                let name = before.name;
                return Err(format!(
                    "ERR in a transaction through the proxy no command on keys can follow '{name}'"
                ));
            }
            if slot.is_some() && multi.slot.or(watched).is_some_and(|own| Some(own) != slot) {
                return Err(CROSS_SLOT.to_owned());
            }
            multi.slot = multi.slot.or(slot);
            multi.write |= !spec.is_readonly();
            let known = &to.thread.shared.scripts;
            multi.may_change |= scripts::may_write(known, spec, args);
            let scripts = scripts::named_by(known, spec, args);
            multi.scripts.extend(scripts);
            multi.push_wire(args);
            multi.count += 1;
        }
        Routing::Proxy if nodes::helps(spec) => multi.push_rest(spec, args),
        Routing::Proxy => {
            // The node is told which database the rest is for.
            let is_database = |n: &i64| (0..16).contains(n);
            if spec.id == id::SELECT && parse_i64(args.get(1)).as_ref().is_some_and(is_database) {
                multi.push_wire(args);
            }
            multi.push_own(spec, args);
        }
        Routing::Session(Session::Transaction) => multi.push_own(spec, args),
        Routing::AllNodes(_) | Routing::AnyNode | Routing::Session(_) => {
            multi.push_rest(spec, args);
        }
        Routing::AllGroups(_) => {
            multi.closed_by = Some(spec);
            multi.push_rest(spec, args);
        }
        Routing::Refused => return Err(command::refused_error(spec)),
    }
    Ok(())
}

/// EXEC
fn exec(to: &mut Connection) -> Step {
    let watches = to.session.watching.is_some();
    let waits = |multi: &Multi| {
        let in_steps = !multi.rest.is_empty() || (watches && !multi.own.is_empty());
        in_steps && !multi.failed
    };
    if to.session.multi.as_ref().is_some_and(|multi| waits(multi))
        && to.client.state.borrow().outstanding() > 0
    {
        to.barrier = true;
        return Step::Wait;
    }
    let Some(mut multi) = to.session.multi.take() else {
        to.reply.error("ERR EXEC without MULTI");
        return answer(to);
    };
    show_queued(to);
    if multi.failed {
        unwatch(to);
        to.reply.error(ABORTED);
        return answer(to);
    }
    let database = to.session.database;
    let mut own = recheck(to, &mut multi);
    if watches {
        multi.defer_own();
    }
    own.extend(answer_own(to, &multi));
    own.sort_by_key(|(place, _)| *place);
    let watching = to.session.watching.take();
    let at_node = own.len() + multi.rest.len() < multi.count || watching.is_some();
    if !at_node {
        // Of its commands each is timed by itself.
        to.thread.tally(id::EXEC.spec(), 0, false);
    }
    if !multi.rest.is_empty() {
        let silent = crate::dispatch::silence(to);
        to.client.state.borrow_mut().capture();
        to.session.exec = Some(Box::new(Exec {
            own,
            rest: take(&mut multi.rest),
            requests: take(&mut multi.rest_requests),
            at_node,
            of_node: Bytes::from_static(b"*0\r\n"),
            begun: 0,
            silent,
        }));
        to.barrier = true;
        if at_node {
            send_whole(to, *multi, watching, database, Vec::new());
        }
        return Step::Routed;
    }
    if !at_node {
        to.reply.array(own.len());
        own.iter().for_each(|(_, reply)| to.reply.raw(reply));
        return answer(to);
    }
    send_whole(to, *multi, watching, database, own)
}

fn send_whole(
    to: &mut Connection,
    multi: Multi,
    watching: Option<Watching>,
    database: u16,
    own: Vec<(usize, Bytes)>,
) -> Step {
    let lane = match multi.slot.or(watching.map(|watching| watching.slot)) {
        Some(slot) => Lane::slot(slot),
        None => any_group(to),
    };
    let request = (whole(&multi, watching), multi.scripts);
    send_transaction(to, lane, multi.write, database, request, own)
}

/// Goes on with an EXEC that is executed in steps. False: it waits for an answer.
pub(crate) fn go_on(to: &mut Connection) -> bool {
    let Some(mut exec) = to.session.exec.take() else {
        return true;
    };
    loop {
        if to.client.state.borrow().outstanding() > 0 {
            to.session.exec = Some(exec);
            return false;
        }
        let reply = to.client.state.borrow_mut().captured();
        if take(&mut exec.at_node) {
            exec.of_node = reply;
        } else if exec.begun > 0 {
            exec.own.push((exec.rest[exec.begun - 1].0, reply));
        }
        let refused = !merge::is_executed(&exec.of_node);
        if refused || exec.begun == exec.rest.len() {
            finish(to, *exec);
            return true;
        }
        let (_, spec) = exec.rest[exec.begun];
        exec.begun += 1;
        let args = exec.requests.get(exec.begun - 1);
        // Nothing is unanswered: it cannot have to wait.
        let step = match no_longer_allowed(to, spec, args) {
            Some(line) => refuse(to, line.into()),
            None => crate::dispatch::serve(to, spec, args),
        };
        debug_assert_eq!(step, Step::Routed);
    }
}

fn finish(to: &mut Connection, mut exec: Exec) {
    exec.own.sort_by_key(|(place, _)| *place);
    let whole = merge::splice(exec.of_node, &exec.own);
    let mut state = to.client.state.borrow_mut();
    to.reply.raw(&whole);
    state.end_capture(&mut to.reply, exec.silent);
    drop(state);
    to.client.take_mail();
}

/// What is answered to a command that was queued and may not be run any more:
/// rules have changed, or one before it has logged in as somebody else.
fn no_longer_allowed(to: &Connection, spec: &CommandSpec, args: Args<'_>) -> Option<&'static str> {
    let checked = to.subject()?.check(spec, &args, Context::Multi);
    checked.err().map(Denied::line_at_exec)
}

/// Takes out of the node's part what its client may not run any more: the
/// answers to that, by place.
fn recheck(to: &Connection, multi: &mut Multi) -> Vec<(usize, Bytes)> {
    let mut refused = Vec::new();
    if Arc::ptr_eq(&multi.user, &to.session.account.user()) || to.subject().is_none() {
        return refused;
    }
    let mut queued = take(&mut multi.wire);
    let mut requests = Requests::default();
    let limits = Limits {
        max_bulk: usize::MAX,
        ..Limits::default()
    };
    // They were parsed before: all of them are there.
    let parsed = RequestParser::new().parse(&mut queued, &limits, MAX_COMMANDS * 2, &mut requests);
    debug_assert!(parsed.is_ok() && queued.is_empty());
    let not_there = multi.own.iter().chain(&multi.rest);
    let not_there: BTreeSet<usize> = not_there.map(|(at, _)| *at).collect();
    let mut places = (0..multi.count).filter(|place| !not_there.contains(place));
    let mut kept = BytesMut::new();
    for request in requests.iter() {
        let Resolved::Command(spec) = command::resolve(&request) else {
            continue;
        };
        // A SELECT is answered here, and has no place there.
        let place = (spec.id != id::SELECT).then(|| places.next()).flatten();
        match (place, no_longer_allowed(to, spec, request)) {
            (Some(place), Some(line)) => refused.push((place, Bytes::from(format!("-{line}\r\n")))),
            _ => encode_request(&mut kept, request.iter()),
        }
    }
    multi.wire = kept;
    refused
}

/// `[WATCH n] MULTI ... EXEC`
fn whole(multi: &Multi, watching: Option<Watching>) -> Bytes {
    let mut wire = BytesMut::with_capacity(multi.wire.len() + 64);
    if let Some(Watching { count, .. }) = watching {
        encode_request(&mut wire, [b"WATCH", count.to_string().as_bytes()]);
    }
    encode_request(&mut wire, [&b"MULTI"[..]]);
    wire.extend_from_slice(&multi.wire);
    encode_request(&mut wire, [&b"EXEC"[..]]);
    wire.freeze()
}

/// Where a transaction without keys goes.
fn any_group(to: &Connection) -> Lane {
    let groups = to.thread.routes.borrow().owning_groups();
    Lane::group(groups.first().copied().unwrap_or(0))
}

/// Answers what the proxy answers itself; each reply with its place.
fn answer_own(to: &mut Connection, multi: &Multi) -> Vec<(usize, Bytes)> {
    let mut replies = Vec::with_capacity(multi.own.len());
    for (request, (at, spec)) in multi.own.iter().enumerate() {
        let args = multi.own_requests.get(request);
        match no_longer_allowed(to, spec, args) {
            Some(line) => to.reply.error(line),
            None if spec.id == id::UNWATCH => to.reply.ok(),
            None => local::answer(to, spec, args),
        }
        replies.push((*at, Bytes::from(to.reply.to_vec())));
        to.reply.clear();
    }
    replies
}
