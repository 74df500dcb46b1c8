//! Replication as Redis speaks it. Wire side only: what replicas get is
//! `crate::replication`.

use std::time::Duration;

use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};
use cairn_protocol::role::{self, ReplicaLine};

use super::Handler;
use super::arguments::{integer, is};
use crate::net::session::{Next, Session};
use crate::replication::failover::{self, Attempt, Phase};
use crate::replication::follow::{self, LinkState, Master};
use crate::replication::{Contents, ReplicaState};
use crate::server::Server;
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("failover", Handler::Session(failover)),
    ("psync", Handler::Session(psync)),
    ("replconf", Handler::Session(replconf)),
    ("replicaof", Handler::Session(replicaof)),
    ("role", Handler::Session(role)),
    ("slaveof", Handler::Session(replicaof)),
    ("sync", Handler::Session(sync)),
    ("wait", Handler::Session(wait)),
];

/// How often a client that waits is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

const WAIT_ON_REPLICA: &str = "ERR WAIT cannot be used with replica instances. Please also note \
                               that since Redis 4.0 if a replica is configured to be writable \
                               (which is not the default) writes to replicas are just local and \
                               are not propagated.";

type Done = Result<Next, CommandError>;

/// FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]
///
/// A replica leads in this server's place, once it has everything.
fn failover(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let server = &session.server;
    if server.is_cluster() {
        return Err(CommandError::fixed(
            "ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead.",
        ));
    }
    if args.len() == 2 && is(args.get(1), "ABORT") {
        if !failover::abort(server, "Failover manually aborted") {
            return Err(CommandError::fixed("ERR No failover in progress."));
        }
        out.ok();
        return Ok(Next::Continue);
    }
    let wish = Wish::read(args)?;
    if server.failover.phase() != Phase::Over {
        return Err(FAILING_OVER);
    }
    let target = target(server, &wish)?;
    let timeout = wish.timeout_ms.unsigned_abs();
    if !failover::begin(server, Attempt::new(target, timeout, wish.force)) {
        return Err(FAILING_OVER);
    }
    out.ok();
    Ok(Next::Continue)
}

const FAILING_OVER: CommandError = CommandError::fixed("ERR FAILOVER already in progress.");

/// What FAILOVER is to do.
#[derive(Default)]
struct Wish<'a> {
    /// Host and port of a replica.
    target: Option<(&'a [u8], i64)>,
    /// 0: none was given.
    timeout_ms: i64,
    force: bool,
}

impl<'a> Wish<'a> {
    fn read(args: &Args<'a>) -> Result<Wish<'a>, CommandError> {
        let mut wish = Wish::default();
        let mut at = 1;
        while at < args.len() {
            let behind = args.len() - at - 1;
            match args.get(at) {
                word if is(word, "TIMEOUT") && behind >= 1 && wish.timeout_ms == 0 => {
                    wish.timeout_ms = integer(args.get(at + 1))?;
                    if wish.timeout_ms <= 0 {
                        return Err(CommandError::fixed(
                            "ERR FAILOVER timeout must be greater than 0",
                        ));
                    }
                    at += 1;
                }
                word if is(word, "TO") && behind >= 2 && wish.target.is_none() => {
                    let port = integer(args.get(at + 2))?;
                    wish.target = Some((args.get(at + 1), port));
                    at += 2;
                }
                word if is(word, "FORCE") && !wish.force => wish.force = true,
                _ => return Err(CommandError::SYNTAX),
            }
            at += 1;
        }
        Ok(wish)
    }
}

/// Who is to lead, if somebody was named, and if there can be a failover at all.
fn target(server: &Server, wish: &Wish<'_>) -> Result<Option<Master>, CommandError> {
    let refused = |line| Err(CommandError::fixed(line));
    if server.following.is_on() {
        return refused("ERR FAILOVER is not valid when server is a replica.");
    }
    let replicas = server.announcer.feed.replicas();
    if replicas.is_empty() {
        return refused("ERR FAILOVER requires connected replicas.");
    }
    if wish.force && (wish.timeout_ms == 0 || wish.target.is_none()) {
        return refused(
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
        );
    }
    let Some((host, port)) = wish.target else {
        return Ok(None);
    };
    let host = String::from_utf8_lossy(host);
    let Some(found) = replicas.iter().find(|replica| replica.is_at(&host, port)) else {
        return refused("ERR FAILOVER target HOST and PORT is not a replica.");
    };
    if found.state() != ReplicaState::Online {
        return refused("ERR FAILOVER target replica is not online.");
    }
    Ok(Some(Master {
        host: found.host.clone(),
        port: found.port,
    }))
}

/// PSYNC replication-id offset [FAILOVER]
///
/// What was missed, if the backlog has it, or the data set.
fn psync(session: &mut Session, args: &Args<'_>, _: &mut ReplyWriter) -> Done {
    if session.client.is_replica() {
        return Ok(Next::Continue);
    }
    let id = String::from_utf8_lossy(args.get(1)).into_owned();
    if args.try_get(3).is_some_and(|word| is(word, "FAILOVER")) {
        take_over(session, &id)?;
    }
    let next = u64::try_from(integer(args.get(2))?).ok();
    session.handshake.resume = next.map(|next| (id, next));
    begin(session, true)
}

/// The master wants this server to lead in its place.
fn take_over(session: &Session, id: &str) -> Result<(), CommandError> {
    tracing::warn!("Failover request received for replid {id}.");
    let server = &session.server;
    if !server.following.is_on() {
        return Err(CommandError::fixed(
            "ERR PSYNC FAILOVER can't be sent to a master.",
        ));
    }
    if !id.eq_ignore_ascii_case(&server.replication_id()) {
        return Err(CommandError::fixed(
            "ERR PSYNC FAILOVER replid must match my replid.",
        ));
    }
    if follow::take_over(server) {
        let from = &session.client.peer;
        tracing::info!("MASTER MODE enabled (failover request from '{from}')");
        server.settings.lock().put("replicaof", "");
    }
    Ok(())
}

/// SYNC
fn sync(session: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    begin(session, false)
}

fn begin(session: &mut Session, psync: bool) -> Done {
    if session.client.is_replica() {
        return Ok(Next::Continue);
    }
    if session.server.failover.phase() != Phase::Over {
        return Err(CommandError::fixed(
            "NOMASTERLINK Can't SYNC while failing over",
        ));
    }
    if let Some(shown) = session.server.following.shown()
        && shown.link != LinkState::Connected
    {
        return Err(CommandError::fixed(
            "NOMASTERLINK Can't SYNC while not connected with my master",
        ));
    }
    let wish = &session.handshake;
    if !wish.contents.is_all() && !wish.eof {
        return Err(CommandError::fixed(
            "ERR Filtered replica requires EOF capability",
        ));
    }
    Ok(Next::Sync { psync })
}

/// REPLCONF [option value ...]
///
/// What a replica says about itself before it synchronises, and how far it is
/// afterwards (ACK, which has no reply).
fn replconf(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::SYNTAX);
    }
    for at in (1..args.len()).step_by(2) {
        let (option, value) = (args.get(at), args.get(at + 1));
        match option {
            o if is(o, "ACK") => {
                if let Some(offset) = parse_i64(value).and_then(|n| u64::try_from(n).ok()) {
                    let feed = &session.server.announcer.feed;
                    feed.acknowledge(session.client.id, offset);
                }
                return Ok(Next::Continue);
            }
            // A master asks its replicas; this one follows nobody.
            o if is(o, "GETACK") => return Ok(Next::Continue),
            o if is(o, "RDB-FILTER-ONLY") => session.handshake.contents = filter(value)?,
            _ => set_option(session, option, value)?,
        }
    }
    out.ok();
    Ok(Next::Continue)
}

fn set_option(session: &mut Session, option: &[u8], value: &[u8]) -> Result<(), CommandError> {
    /// Redis keeps addresses in buffers of this size.
    const HOST_MAX: usize = 255;
    let wish = &mut session.handshake;
    match option {
        o if is(o, "LISTENING-PORT") => wish.port = integer(value)? as u16,
        o if is(o, "IP-ADDRESS") && value.len() > HOST_MAX => {
            return Err(CommandError::line(format!(
                "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                value.len()
            )));
        }
        o if is(o, "IP-ADDRESS") => wish.host = Some(String::from_utf8_lossy(value).into_owned()),
        o if is(o, "CAPA") => {
            wish.eof |= is(value, "EOF");
            wish.psync2 |= is(value, "PSYNC2");
        }
        o if is(o, "RDB-ONLY") => {
            wish.rdb_only = match integer(value)? {
                0 => false,
                1 => true,
                _ => {
                    return Err(CommandError::fixed(
                        "ERR value is out of range, value must between 0 and 1",
                    ));
                }
            }
        }
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(CommandError::line(format!(
                "ERR Unrecognized REPLCONF option: {other}"
            )));
        }
    }
    Ok(())
}

/// What is left of the data set if only these parts are wanted.
fn filter(value: &[u8]) -> Result<Contents, CommandError> {
    let mut contents = Contents {
        data: false,
        functions: false,
    };
    let words = value.split(u8::is_ascii_whitespace);
    for word in words.filter(|word| !word.is_empty()) {
        if !is(word, "functions") {
            let word = String::from_utf8_lossy(word);
            return Err(CommandError::line(format!(
                "ERR Unsupported rdb-filter-only option: {word}"
            )));
        }
        contents.functions = true;
    }
    Ok(contents)
}

/// REPLICAOF host port | NO ONE, and SLAVEOF
fn replicaof(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if session.server.is_cluster() {
        return Err(CommandError::fixed(
            "ERR REPLICAOF not allowed in cluster mode.",
        ));
    }
    let server = &session.server;
    if server.failover.phase() != Phase::Over {
        return Err(CommandError::fixed(
            "ERR REPLICAOF not allowed while failing over.",
        ));
    }
    if is(args.get(1), "NO") && is(args.get(2), "ONE") {
        if follow::lead(server) {
            tracing::info!("MASTER MODE enabled (user request)");
            server.settings.lock().put("replicaof", "");
        }
        out.ok();
        return Ok(Next::Continue);
    }
    if session.client.is_replica() {
        return Err(CommandError::fixed(
            "ERR Command is not valid when client is a replica.",
        ));
    }
    let Some(port @ 0..=65535) = parse_i64(args.get(2)) else {
        return Err(CommandError::fixed("ERR Invalid master port"));
    };
    let host = String::from_utf8_lossy(args.get(1)).into_owned();
    if !follow::follow(server, &host, port as u16) {
        out.simple("OK Already connected to specified master");
        return Ok(Next::Continue);
    }
    tracing::info!("REPLICAOF {host}:{port} enabled (user request)");
    let shown = format!("{host} {port}");
    server.settings.lock().put("replicaof", shown);
    out.ok();
    Ok(Next::Continue)
}

/// ROLE
fn role(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if let Some(shown) = session.server.following.shown() {
        let Master { host, port } = &shown.master;
        role::replica(host, *port, shown.link.name(), shown.offset, out);
        return Ok(Next::Continue);
    }
    let feed = &session.server.announcer.feed;
    let mut online = feed.replicas();
    online.retain(|replica| replica.state() == ReplicaState::Online);
    let lines = online.iter().map(|replica| ReplicaLine {
        host: &replica.host,
        port: replica.port,
        acknowledged: replica.acknowledged(),
    });
    role::master(feed.offset(), lines, out);
    Ok(Next::Continue)
}

/// WAIT numreplicas timeout
///
/// Replies with how many replicas have worked through all that was done before.
/// What a reply promises does not depend on it.
fn wait(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if session.server.following.is_on() {
        return Err(CommandError::fixed(WAIT_ON_REPLICA));
    }
    let wanted = integer(args.get(1))?;
    let timeout = parse_i64(args.get(2)).ok_or(CommandError::fixed(
        "ERR timeout is not an integer or out of range",
    ))?;
    let timeout =
        u64::try_from(timeout).map_err(|_| CommandError::fixed("ERR timeout is negative"))?;
    let announcer = session.server.announcer.clone();
    let offset = announcer.feed.offset();
    let there = announcer.feed.caught_up(offset);
    let enough = there as i64 >= wanted;
    // A session of a link answers later as well.
    let client = session.client.clone();
    if enough || (session.nested && !client.is_relayed()) {
        out.integer(there as i64);
        return Ok(Next::Continue);
    }
    let counting = announcer.clone();
    let number = Box::new(move || counting.feed.caught_up(offset) as i64);
    // As in Redis the client is held until they have, or the time is over.
    let over = Box::pin(async move {
        let caught_up = announcer.feed.wait_caught_up(wanted as usize, offset);
        let gone = async {
            // Its connection does not wait for it.
            while !client.is_gone() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let timed_out = async {
            match timeout {
                0 => std::future::pending().await,
                ms => tokio::time::sleep(Duration::from_millis(ms)).await,
            }
        };
        // Nothing is lost: the count is taken afterwards.
        tokio::select! {
            () = caught_up => {}
            () = gone => {}
            () = timed_out => {}
        }
    });
    Ok(Next::Answer { over, number })
}
