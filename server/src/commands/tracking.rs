//! CLIENT TRACKING and its company. Wire side only; who is told what is
//! `crate::tracking`.

use cairn_protocol::resp::{Args, ReplyWriter};
use cairn_protocol::tracking::{Options, check_caching, flags};

use super::Handler;
use crate::net::session::{Next, Session};
use crate::tracking::{Kind, Mode, Redirect};
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("client|caching", Handler::Session(caching)),
    ("client|getredir", Handler::Session(getredir)),
    ("client|tracking", Handler::Session(tracking)),
    ("client|trackinginfo", Handler::Session(trackinginfo)),
];

type Done = Result<Next, CommandError>;

/// CLIENT CACHING YES | NO
///
/// Holds for the next command that is not CLIENT.
fn caching(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    check_caching(session.tracking, args.get(2)).map_err(CommandError::fixed)?;
    session.caching = true;
    out.ok();
    Ok(Next::Continue)
}

/// CLIENT GETREDIR
///
/// Replies with -1 if the client does not track, 0 if it redirects to nobody.
fn getredir(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.integer(redirection(&session.client.tracking.mode()));
    Ok(Next::Continue)
}

/// CLIENT TRACKING ON | OFF [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]]
/// [BCAST] [OPTIN] [OPTOUT] [NOLOOP]
fn tracking(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let server = session.server.clone();
    let find = |id| Some(Redirect::to(&*server.clients.get(&id)?));
    let options = Options::read(args, find).map_err(CommandError::line)?;
    let tracking = &server.announcer.tracking;
    if !options.on {
        tracking.disable(&session.client);
        (session.tracking, session.caching) = (Kind::Off, false);
        out.ok();
        return Ok(Next::Continue);
    }
    let own = session.client.tracking.prefixes();
    let kind = options.kind(session.tracking, &own);
    let kind = kind.map_err(CommandError::line)?;
    let first = !tracking.any();
    let mode = Mode {
        kind,
        no_loop: options.no_loop,
        redirect: options.redirect,
        broken: false,
    };
    tracking.enable(&session.client, mode, &options.prefixes);
    session.tracking = kind;
    out.ok();
    match first {
        // Writers that did not know of any listener are waited for.
        true => Ok(Next::Wait(Box::pin(server.writers_have_heard()))),
        false => Ok(Next::Continue),
    }
}

/// CLIENT TRACKINGINFO
fn trackinginfo(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let mode = session.client.tracking.mode();
    let flags = flags(mode.kind, session.caching, mode.no_loop, mode.broken);
    let prefixes = session.client.tracking.prefixes();
    out.map(3);
    out.bulk(b"flags");
    out.set(flags.len());
    flags.iter().for_each(|flag| out.bulk(flag.as_bytes()));
    out.bulk(b"redirect");
    out.integer(redirection(&mode));
    out.bulk(b"prefixes");
    out.array(prefixes.len());
    prefixes.iter().for_each(|prefix| out.bulk(prefix));
    Ok(Next::Continue)
}

/// As GETREDIR and CLIENT LIST show it.
pub(super) fn redirection(mode: &Mode) -> i64 {
    match (&mode.redirect, mode.kind) {
        (_, Kind::Off) => -1,
        (Some(redirect), _) => redirect.id as i64,
        (None, _) => 0,
    }
}
