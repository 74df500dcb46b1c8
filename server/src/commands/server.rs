//! Commands on the server as a whole: its life, its clock.

use std::time::{SystemTime, UNIX_EPOCH};

use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::{integer, is};
use super::connection::REDIS_VERSION;
use crate::net::session::{Next, Session};
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("bgrewriteaof", Handler::Session(bgrewriteaof)),
    ("bgsave", Handler::Session(bgsave)),
    ("lastsave", Handler::Session(lastsave)),
    ("lolwut", Handler::Session(lolwut)),
    ("save", Handler::Session(save)),
    ("shutdown", Handler::Session(shutdown)),
    ("time", Handler::Session(time)),
];

type Done = Result<Next, CommandError>;

/// BGREWRITEAOF
///
/// There is no AOF to rewrite; what a rewrite is asked for is a short replay, and
/// that it does. It stands in no save's way.
fn bgrewriteaof(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let server = session.server.clone();
    if !server.saves.begin_rewrite() {
        return Err(CommandError::fixed(
            "ERR Background append only file rewriting already in progress",
        ));
    }
    let work = server.clone();
    let is_started = in_background("rewrite", move || work.saves.rewrite(&work));
    if !is_started {
        server.saves.end_rewrite();
    }
    out.simple("Background append only file rewriting started");
    Ok(Next::Continue)
}

/// BGSAVE [SCHEDULE]
fn bgsave(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if args.len() > 2 || args.try_get(1).is_some_and(|word| !is(word, "SCHEDULE")) {
        return Err(CommandError::SYNTAX);
    }
    if !start_save(session) {
        return Err(CommandError::fixed(
            "ERR Background save already in progress",
        ));
    }
    out.simple("Background saving started");
    Ok(Next::Continue)
}

/// LASTSAVE
fn lastsave(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.integer(session.server.saves.last() as i64);
    Ok(Next::Continue)
}

/// LOLWUT [VERSION version]
fn lolwut(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if args.len() >= 3 && is(args.get(1), "VERSION") {
        integer(args.get(2))?;
    }
    let text = format!(
        "\n   .-.\n  (   )   Cairn {}\n (_____)  a pile of stones that stays where it was put\n\n\
         Redis ver. {REDIS_VERSION}\n",
        env!("CARGO_PKG_VERSION")
    );
    out.verbatim("txt", text.as_bytes());
    Ok(Next::Continue)
}

/// SAVE
fn save(session: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    let server = session.server.clone();
    if !server.saves.begin() {
        return Err(CommandError::fixed(
            "ERR Background save already in progress",
        ));
    }
    Ok(Next::Work(Box::new(move |out| {
        match server.saves.run(&server) {
            Ok(()) => out.ok(),
            Err(why) => out.error(format!("ERR {why}")),
        }
    })))
}

/// SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]
///
/// No reply: the connection is closed. With or without SAVE nothing is lost.
fn shutdown(session: &mut Session, args: &Args<'_>, _: &mut ReplyWriter) -> Done {
    let (mut save, mut no_save, mut other, mut abort) = (false, false, false, false);
    for word in args.iter().skip(1) {
        match word {
            w if is(w, "NOSAVE") => no_save = true,
            w if is(w, "SAVE") => save = true,
            w if is(w, "NOW") || is(w, "FORCE") => other = true,
            w if is(w, "ABORT") => abort = true,
            _ => return Err(CommandError::SYNTAX),
        }
    }
    if (save && no_save) || (abort && (save || no_save || other)) {
        return Err(CommandError::SYNTAX);
    }
    if abort {
        // A shutdown waits for nobody here, so there is never one to abort.
        return Err(CommandError::fixed("ERR No shutdown in progress."));
    }
    crate::logging::lifecycle!(client = session.client.id, "SHUTDOWN asks to stop");
    session.server.request_stop();
    Ok(Next::Close)
}

/// TIME
fn time(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    out.array(2);
    out.bulk_integer(now.as_secs() as i64);
    out.bulk_integer(i64::from(now.subsec_micros()));
    Ok(Next::Continue)
}

/// Starts a save on a thread of its own; false if one is running.
fn start_save(session: &Session) -> bool {
    let server = session.server.clone();
    if !server.saves.begin() {
        return false;
    }
    let work = server.clone();
    if !in_background("save", move || work.saves.run(&work)) {
        server.saves.abandon();
    }
    true
}

/// Does work on a thread of its own; false: there is none to be had.
fn in_background(
    what: &'static str,
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> bool {
    let work = move || {
        if let Err(error) = work() {
            tracing::error!(error, what, "it failed; the log has everything");
        }
    };
    let started = std::thread::Builder::new().name(what.into()).spawn(work);
    if let Err(error) = &started {
        tracing::error!(%error, what, "no thread for it");
    }
    started.is_ok()
}
