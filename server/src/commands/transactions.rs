//! Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! The connection queues commands and sends an EXEC through the group's writer
//! as one command, [`exec`], whose arguments hold all that was queued:
//!
//! ```text
//! EXEC { head arg ... } ...
//! head: kind u8 (0 on data, 1 of the session) | db u8 | number of args u32
//! ```
//!
//! So it is one entry of the log, and is fetched for and run again as any
//! other command is. Commands of the session have no arguments here. Those that
//! what follows may depend on run at their places, on the session that the
//! connection lends (`net::nested`); the others are run by the connection
//! afterwards, which puts their replies in their places.

use cairn_protocol::acl::{Context, Denied};
use cairn_protocol::command::{Resolved, resolve};
use cairn_protocol::resp::{Args, ReplyWriter, Requests};

use super::Handler;
use super::inner::{self, Answer};
use crate::net::multi::Multi;
use crate::net::session::{Next, Session};
use crate::txn::{CommandError, Txn};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("discard", Handler::Session(discard)),
    ("exec", Handler::Session(exec_alone)),
    ("multi", Handler::Session(multi)),
    ("unwatch", Handler::Session(unwatch)),
    ("watch", Handler::Write(watch)),
];

type Done = Result<Next, CommandError>;

pub(crate) const NESTED: CommandError = CommandError::fixed("ERR MULTI calls can not be nested");
pub(crate) const WATCH_INSIDE: CommandError =
    CommandError::fixed("ERR WATCH inside MULTI is not allowed");

/// DISCARD
fn discard(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if session.multi.is_none() {
        return Err(CommandError::fixed("ERR DISCARD without MULTI"));
    }
    session.discard();
    out.ok();
    Ok(Next::Continue)
}

/// EXEC, where there is no transaction to execute.
fn exec_alone(_: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    Err(CommandError::fixed("ERR EXEC without MULTI"))
}

/// What was queued and may not be run any more.
pub(crate) fn no_longer_allowed(
    session: &mut Session,
    args: &Args<'_>,
    _: &mut ReplyWriter,
) -> Done {
    let checked = match (session.subject(), resolve(args)) {
        (Some(subject), Resolved::Command(spec)) => subject.check(spec, args, Context::Multi),
        _ => Ok(()),
    };
    // Allowed again meanwhile: it was left out all the same.
    let denied = checked.err().unwrap_or(Denied::Command);
    Err(CommandError::fixed(denied.line_at_exec()))
}

/// MULTI
fn multi(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if session.multi.is_some() {
        return Err(NESTED);
    }
    session.begin_multi(Multi::new(session.db));
    out.ok();
    Ok(Next::Continue)
}

/// UNWATCH
fn unwatch(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    session.unwatch();
    out.ok();
    Ok(Next::Continue)
}

/// WATCH key [key ...]
///
/// Reads the keys, so that the writer can register what they were.
fn watch(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), CommandError> {
    for key in args.iter().skip(1) {
        let key = txn.key(key);
        txn.get(&key)?;
    }
    out.ok();
    Ok(())
}

const HEAD_LEN: usize = 6;
const ON_DATA: u8 = 0;
const OF_SESSION: u8 = 1;

/// What an EXEC is made of; see the module's documentation.
pub(crate) fn empty_exec() -> Requests {
    let mut requests = Requests::default();
    requests.push_owned(["EXEC"]);
    requests
}

/// Adds a command on data.
pub(crate) fn push_data(exec: &mut Requests, db: usize, args: &Args<'_>) {
    let head = head(ON_DATA, db, args.len() as u32);
    exec.extend_last(std::iter::once(&head[..]).chain(args.iter()));
}

/// Adds the place of a command of the session.
pub(crate) fn push_session(exec: &mut Requests) {
    exec.extend_last([head(OF_SESSION, 0, 0)]);
}

fn head(kind: u8, db: usize, args: u32) -> [u8; HEAD_LEN] {
    let mut head = [0; HEAD_LEN];
    (head[0], head[1]) = (kind, db as u8);
    head[2..].copy_from_slice(&args.to_be_bytes());
    head
}

/// One command of an EXEC.
pub(crate) enum Part<'a> {
    Data(usize, Args<'a>),
    Session,
}

/// The commands of an EXEC, in order.
pub(crate) fn parts<'a>(exec: &Args<'a>) -> impl Iterator<Item = Part<'a>> {
    let exec = *exec;
    let mut at = 1;
    std::iter::from_fn(move || {
        let head: &[u8; HEAD_LEN] = exec.try_get(at)?.try_into().ok()?;
        let count = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize;
        let args = exec.slice(at + 1, at + 1 + count);
        at += 1 + count;
        Some(match head[0] {
            ON_DATA => Part::Data(usize::from(head[1]), args),
            _ => Part::Session,
        })
    })
}

/// EXEC, with all that was queued: runs the commands on data one after the
/// other. The reply is an array of all replies but those that are left for later.
pub(crate) fn exec(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
) -> Result<(), CommandError> {
    out.array(parts(args).count());
    let nested = txn.nested();
    for (at, part) in parts(args).enumerate() {
        let Part::Data(db, args) = part else {
            txn.witness_place();
            if let Some(nested) = nested {
                nested.lock().run(at, out);
            }
            continue;
        };
        match inner::find(&args) {
            Err(refusal) => out.error(refusal.line(&args)),
            Ok(command) => {
                if let Answer::Failed(error) = inner::run(txn, db, command, &args, out)? {
                    out.error(error.to_string());
                }
                if let (Some(nested), Some(run)) = (nested, txn.last_inner()) {
                    nested.lock().ran(at, run, &args);
                }
            }
        }
    }
    Ok(())
}
