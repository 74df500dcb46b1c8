//! Commands on the server as a whole: its life, its role, its clock.

use std::time::{SystemTime, UNIX_EPOCH};

use cairn_protocol::resp::number::parse_i64;
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
    ("replicaof", Handler::Session(replicaof)),
    ("role", Handler::Session(role)),
    ("save", Handler::Session(save)),
    ("shutdown", Handler::Session(shutdown)),
    ("slaveof", Handler::Session(replicaof)),
    ("time", Handler::Session(time)),
    ("wait", Handler::Session(wait)),
];

type Done = Result<Next, CommandError>;

/// BGREWRITEAOF
///
/// There is no AOF to rewrite; what a rewrite is asked for, a short replay,
/// is what a save does.
fn bgrewriteaof(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    start_save(session);
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

/// REPLICAOF host port | NO ONE, and SLAVEOF
fn replicaof(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if session.server.is_cluster() {
        return Err(CommandError::fixed(
            "ERR REPLICAOF not allowed in cluster mode.",
        ));
    }
    if is(args.get(1), "NO") && is(args.get(2), "ONE") {
        out.ok();
        return Ok(Next::Continue);
    }
    match parse_i64(args.get(2)) {
        Some(0..=65535) => Err(CommandError::fixed(
            "ERR REPLICAOF is not supported: replicas belong to a cluster (see cluster-admin) \
             and follow by Raft",
        )),
        _ => Err(CommandError::fixed("ERR Invalid master port")),
    }
}

/// ROLE
fn role(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.array(3);
    out.bulk(b"master");
    out.integer(0);
    out.array(0);
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

/// WAIT numreplicas timeout
///
/// Replies 0: there are no replicas in the sense of Redis. What a reply
/// promises does not depend on WAIT.
fn wait(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let wanted = integer(args.get(1))?;
    let timeout = parse_i64(args.get(2)).ok_or(CommandError::fixed(
        "ERR timeout is not an integer or out of range",
    ))?;
    let timeout =
        u64::try_from(timeout).map_err(|_| CommandError::fixed("ERR timeout is negative"))?;
    out.integer(0);
    if wanted <= 0 || timeout == 0 {
        return Ok(Next::Continue);
    }
    // As in Redis the client is held until the time is over.
    let timeout = std::time::Duration::from_millis(timeout);
    Ok(Next::Wait(Box::pin(tokio::time::sleep(timeout))))
}

/// Starts a save on a thread of its own; false if one is running.
fn start_save(session: &Session) -> bool {
    let server = session.server.clone();
    if !server.saves.begin() {
        return false;
    }
    let work = server.clone();
    let started = std::thread::Builder::new()
        .name("save".into())
        .spawn(move || {
            if let Err(error) = work.saves.run(&work) {
                tracing::error!(error, "a save failed; the log has everything");
            }
        });
    if let Err(error) = started {
        tracing::error!(%error, "no thread for a save");
        server.saves.abandon();
    }
    true
}
