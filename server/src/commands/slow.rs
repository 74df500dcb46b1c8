//! SLOWLOG and LATENCY: what this server found slow. What they keep and how they
//! show it is `cairn_protocol::timing`.

use std::sync::atomic::Ordering;

use cairn_protocol::command::{CommandSpec, Resolved, resolve};
use cairn_protocol::resp::{Args, ReplyWriter};
use cairn_protocol::timing::{latency_reply, slow_log_reply};

use super::Handler;
use crate::net::session::{Next, Session};
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("latency", Handler::Session(super::container)),
    ("latency|doctor", Handler::Session(latency)),
    ("latency|graph", Handler::Session(latency)),
    ("latency|help", Handler::Session(latency)),
    ("latency|histogram", Handler::Session(latency)),
    ("latency|history", Handler::Session(latency)),
    ("latency|latest", Handler::Session(latency)),
    ("latency|reset", Handler::Session(latency)),
    ("slowlog", Handler::Session(super::container)),
    ("slowlog|get", Handler::Session(slow_log)),
    ("slowlog|help", Handler::Session(slow_log)),
    ("slowlog|len", Handler::Session(slow_log)),
    ("slowlog|reset", Handler::Session(slow_log)),
];

type Done = Result<Next, CommandError>;

fn spec(args: &Args<'_>) -> &'static CommandSpec {
    match resolve(args) {
        Resolved::Command(spec) => spec,
        _ => unreachable!("it was dispatched by this name"),
    }
}

/// LATENCY and its subcommands.
fn latency(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let server = &session.server;
    let threshold = server
        .live
        .latency_monitor_threshold
        .load(Ordering::Relaxed);
    let (monitor, stats) = (&server.latency, &server.stats.commands);
    latency_reply(monitor, stats, threshold, (spec(args), args), out)
        .map_err(CommandError::line)?;
    Ok(Next::Continue)
}

/// SLOWLOG and its subcommands.
fn slow_log(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let server = &session.server;
    let most = server.live.slowlog_max_len.load(Ordering::Relaxed);
    slow_log_reply(&server.slow_log, most, (spec(args), args), out).map_err(CommandError::line)?;
    Ok(Next::Continue)
}
