//! COMMAND: the command table, as far as this server runs it.

use cairn_protocol::command::{CommandSpec, introspect};
use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use crate::net::session::{Next, Session};
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("command", Handler::Session(command)),
    ("command|count", Handler::Session(count)),
    ("command|docs", Handler::Session(docs)),
    ("command|getkeys", Handler::Session(getkeys)),
    ("command|getkeysandflags", Handler::Session(getkeysandflags)),
    ("command|help", Handler::Session(help)),
    ("command|info", Handler::Session(info)),
    ("command|list", Handler::Session(list)),
];

type Done = Result<Next, CommandError>;

/// A container is there for what it contains (CLUSTER, which has no handler itself).
fn implemented(spec: &CommandSpec) -> bool {
    let is_there = |spec: &CommandSpec| super::handler(spec).is_some();
    is_there(spec) || spec.subcommands.iter().any(is_there)
}

/// COMMAND
fn command(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    introspect::command(out, &implemented);
    Ok(Next::Continue)
}

/// COMMAND COUNT
fn count(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    introspect::count(out, &implemented);
    Ok(Next::Continue)
}

/// COMMAND DOCS [command-name ...]
fn docs(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    introspect::docs(out, args, &implemented);
    Ok(Next::Continue)
}

/// COMMAND GETKEYS command [argument ...]
fn getkeys(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    introspect::getkeys(out, args, &implemented);
    Ok(Next::Continue)
}

/// COMMAND GETKEYSANDFLAGS command [argument ...]
fn getkeysandflags(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    introspect::getkeysandflags(out, args, &implemented);
    Ok(Next::Continue)
}

/// COMMAND HELP
fn help(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    introspect::help(out);
    Ok(Next::Continue)
}

/// COMMAND INFO [command-name ...]
fn info(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    introspect::info(out, args, &implemented);
    Ok(Next::Continue)
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]
fn list(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    introspect::list(out, args, &implemented);
    Ok(Next::Continue)
}
