//! SLOWLOG: the slowest commands of late.

use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::{Handler, help, subcommand_syntax};
use crate::net::session::{Next, Session};
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("slowlog", Handler::Session(super::container)),
    ("slowlog|get", Handler::Session(get)),
    ("slowlog|help", Handler::Session(slowlog_help)),
    ("slowlog|len", Handler::Session(len)),
    ("slowlog|reset", Handler::Session(reset)),
];

type Done = Result<Next, CommandError>;

/// Entries shown if no number is given.
const DEFAULT_COUNT: usize = 10;

/// SLOWLOG GET [count]
fn get(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if args.len() > 3 {
        return Err(subcommand_syntax(args, "slowlog|get"));
    }
    let count = match args.try_get(2).map(parse_i64) {
        None => DEFAULT_COUNT,
        Some(Some(-1)) => usize::MAX,
        Some(Some(count)) if count >= 0 => count as usize,
        Some(_) => {
            return Err(CommandError::fixed(
                "ERR count should be greater than or equal to -1",
            ));
        }
    };
    let entries = session.server.slow_log.newest(count);
    out.array(entries.len());
    for entry in entries {
        out.array(6);
        out.integer(entry.id as i64);
        out.integer(entry.at as i64);
        out.integer(entry.micros as i64);
        out.array(entry.args.len());
        entry.args.iter().for_each(|arg| out.bulk(arg));
        out.bulk(entry.client.as_bytes());
        out.bulk(entry.client_name.as_bytes());
    }
    Ok(Next::Continue)
}

/// SLOWLOG HELP
fn slowlog_help(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    help(out, "SLOWLOG", HELP);
    Ok(Next::Continue)
}

/// SLOWLOG LEN
fn len(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.integer(session.server.slow_log.len() as i64);
    Ok(Next::Continue)
}

/// SLOWLOG RESET
fn reset(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    session.server.slow_log.clear();
    out.ok();
    Ok(Next::Continue)
}

const HELP: &[&str] = &[
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
];
