//! MULTI to EXEC: the proxy queues, and sends one TRANSACTION.
//!
//! All keys of a transaction are of one slot, so that one group executes it as
//! one unit. What the proxy answers itself is answered at EXEC and put in its
//! place among the replies of the node. WATCH is not served: it needs a
//! session at the node that outlives links and moves.

use crate::dispatch::{Step, route, send_transaction};
use crate::local;
use crate::net::Connection;
use crate::route::Lane;
use bytes::{Bytes, BytesMut};
use cairn_protocol::command::{self, CommandId, CommandSpec, Flags, Routing, Session, id};
use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, Requests, encode_request};

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
    /// `MULTI` and the commands for the node, as they go over the link.
    wire: BytesMut,
    write: bool,
    /// What the proxy answers itself, by its place.
    own: Vec<(usize, &'static CommandSpec)>,
    own_requests: Requests,
    count: usize,
}

impl Multi {
    fn new() -> Multi {
        let mut wire = BytesMut::new();
        encode_request(&mut wire, [&b"MULTI"[..]]);
        Multi {
            failed: false,
            slot: None,
            wire,
            write: false,
            own: Vec::new(),
            own_requests: Requests::default(),
            count: 0,
        }
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
pub(crate) fn serve(to: &mut Connection, spec: &'static CommandSpec) -> Step {
    match spec.id {
        id::EXEC => return exec(to),
        id::MULTI if to.session.multi.is_some() => {
            to.reply.error("ERR MULTI calls can not be nested");
        }
        id::MULTI => {
            to.session.multi = Some(Box::new(Multi::new()));
            to.reply.ok();
        }
        id::DISCARD => match to.session.multi.take() {
            Some(_) => to.reply.ok(),
            None => to.reply.error("ERR DISCARD without MULTI"),
        },
        id::WATCH if to.session.multi.is_some() => {
            to.reply.error("ERR WATCH inside MULTI is not allowed");
        }
        id::WATCH => to
            .reply
            .error("ERR 'watch' is not available through the proxy yet"),
        // Nothing can be watched.
        _ => to.reply.ok(),
    }
    answer(to)
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
        Ok(()) => to.reply.simple("QUEUED"),
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
    let multi = to.session.multi.as_mut().expect("a transaction is open");
    if spec.flags.contains(Flags::NO_MULTI) {
        return Err("ERR Command not allowed inside a transaction".to_owned());
    }
    if !multi.has_room(args) {
        return Err("ERR the transaction is too large".to_owned());
    }
    match route(spec) {
        Routing::Keys | Routing::SplitKeys(_) | Routing::AnyNode => {
            let slot = spec.one_slot(&args).map_err(|error| error.to_string())?;
            if slot.is_some() && multi.slot.is_some_and(|own| Some(own) != slot) {
                return Err(CROSS_SLOT.to_owned());
            }
            multi.slot = multi.slot.or(slot);
            multi.write |= !spec.is_readonly();
            multi.push_wire(args);
            multi.count += 1;
        }
        Routing::Proxy => {
            // The node is told which database the rest is for.
            let is_database = |n: &i64| (0..16).contains(n);
            if spec.id == id::SELECT && parse_i64(args.get(1)).as_ref().is_some_and(is_database) {
                multi.push_wire(args);
            }
            multi.push_own(spec, args);
        }
        Routing::Session(Session::Transaction) => multi.push_own(spec, args),
        Routing::AllGroups(_) | Routing::Session(_) => {
            let name = spec.name.replace('|', " ");
            return Err(format!(
                "ERR '{name}' is not available in a transaction through the proxy"
            ));
        }
        Routing::Refused => return Err(command::refused_error(spec)),
    }
    Ok(())
}

/// EXEC
fn exec(to: &mut Connection) -> Step {
    let Some(mut multi) = to.session.multi.take() else {
        to.reply.error("ERR EXEC without MULTI");
        return answer(to);
    };
    if multi.failed {
        to.reply.error(ABORTED);
        return answer(to);
    }
    let database = to.session.database;
    let own = answer_own(to, &multi);
    if own.len() == multi.count {
        to.reply.array(own.len());
        own.iter().for_each(|(_, reply)| to.reply.raw(reply));
        return answer(to);
    }
    encode_request(&mut multi.wire, [&b"EXEC"[..]]);
    let lane = match multi.slot {
        Some(slot) => Lane::slot(slot),
        None => Lane::group(
            to.thread
                .routes
                .borrow()
                .owning_groups()
                .first()
                .copied()
                .unwrap_or(0),
        ),
    };
    send_transaction(to, lane, multi.write, database, multi.wire.freeze(), own)
}

/// Answers what the proxy answers itself; each reply with its place.
fn answer_own(to: &mut Connection, multi: &Multi) -> Vec<(usize, Bytes)> {
    let mut replies = Vec::with_capacity(multi.own.len());
    for (request, (at, spec)) in multi.own.iter().enumerate() {
        match spec.id {
            id::UNWATCH => to.reply.ok(),
            _ => local::answer(to, spec, multi.own_requests.get(request)),
        }
        replies.push((*at, Bytes::from(to.reply.to_vec())));
        to.reply.clear();
    }
    replies
}
