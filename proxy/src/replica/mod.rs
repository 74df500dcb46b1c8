//! Replicas that speak Redis's protocol: a redis-server, or redis-cli, gets what the
//! whole cluster holds and then every change, as from one Redis.
//!
//! SYNC and PSYNC end a connection's life as a client ([`Follow`]) and give it to
//! `run`. It opens a connection to every node (`source`, by
//! `cairn_protocol::link::feed`), makes one RDB file of what their groups hold (`dump`)
//! and one stream of their streams (`stream`, `merge`).
//!
//! Invariants:
//! - the file holds each slot once: what the nodes pinned must be what the slot map
//!   says, or all begin anew;
//! - the stream has each group's changes in their order; one that saw another comes
//!   behind it, as far as the nodes' clocks agree;
//! - nothing of two owners of a slot is ever mixed: nodes end their feeds before they
//!   serve other slots, and with any of them the replica's connection ends;
//! - memory is bounded: what is not taken here waits at the nodes, whose bound for
//!   replicas (`client-output-buffer-limit`) then ends the feed.

mod acks;
mod dump;
mod merge;
mod run;
mod source;
mod stream;

use crate::dispatch::{Step, after_all, refuse};
use crate::local;
use crate::net::{ClientInfo, Connection};
use cairn_protocol::command::{CommandId, CommandSpec, id};
use cairn_protocol::resp::{Args, ReplyWriter, number::parse_i64};
use cairn_protocol::role::{self, ReplicaLine};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

pub(crate) use run::run;

/// Replicas of one proxy. Each costs every node a pinned snapshot while it is sent
/// the data, and a buffer.
const MAX_REPLICAS: usize = 16;
/// Redis keeps addresses in buffers of this size.
const HOST_MAX: usize = 255;

/// How far a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    WaitBgsave = 0,
    SendBulk = 1,
    Online = 2,
}

const STATES: [&str; 3] = ["wait_bgsave", "send_bulk", "online"];

/// One attached replica, as INFO and ROLE show it.
pub(crate) struct ReplicaInfo {
    client: Arc<ClientInfo>,
    pub host: String,
    pub port: u16,
    state: AtomicU8,
    /// Bytes of its stream that it was sent, and that it says to have.
    pub sent: AtomicU64,
    pub acknowledged: AtomicU64,
    /// When it was heard of. Guards one word.
    heard: Mutex<Instant>,
}

impl ReplicaInfo {
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
        self.hear();
    }

    pub fn is_online(&self) -> bool {
        self.state.load(Relaxed) == State::Online as u8
    }

    /// It gave a sign of life.
    pub fn hear(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// Its line of INFO.
    pub fn line(&self) -> String {
        format!(
            "ip={},port={},state={},offset={},lag={}",
            self.host,
            self.port,
            STATES[usize::from(self.state.load(Relaxed))],
            self.acknowledged.load(Relaxed),
            self.heard.lock().elapsed().as_secs()
        )
    }
}

/// The replicas of this proxy.
pub(crate) struct Replicas {
    /// Guards the list.
    all: Mutex<Vec<Arc<ReplicaInfo>>>,
    /// 40 hex digits, new at every start: there is no history to go on with.
    pub id: String,
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            id: (0..5)
                .map(|_| format!("{:08x}", rand::random::<u32>()))
                .collect(),
        }
    }
}

impl Replicas {
    pub fn all(&self) -> Vec<Arc<ReplicaInfo>> {
        self.all.lock().clone()
    }

    /// Bytes of the longest stream.
    pub fn offset(&self) -> u64 {
        let all = self.all.lock();
        all.iter().map(|r| r.sent.load(Relaxed)).max().unwrap_or(0)
    }

    fn enter(&self, client: &Arc<ClientInfo>, wish: &Handshake) -> Option<Arc<ReplicaInfo>> {
        let of_peer = || {
            let end = client.address.rfind(':').unwrap_or(0);
            client.address[..end].to_owned()
        };
        let info = Arc::new(ReplicaInfo {
            client: client.clone(),
            host: wish.host.clone().unwrap_or_else(of_peer),
            port: wish.port,
            state: AtomicU8::new(State::WaitBgsave as u8),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            heard: Mutex::new(Instant::now()),
        });
        let mut all = self.all.lock();
        if all.len() == MAX_REPLICAS {
            return None;
        }
        client.replica.store(true, Relaxed);
        all.push(info.clone());
        Some(info)
    }

    fn leave(&self, info: &Arc<ReplicaInfo>) {
        info.client.replica.store(false, Relaxed);
        self.all.lock().retain(|other| !Arc::ptr_eq(other, info));
    }
}

/// What a replica says about itself before it synchronises (REPLCONF).
#[derive(Debug, Clone, Default)]
pub(crate) struct Handshake {
    host: Option<String>,
    port: u16,
    /// It can tell the end of the data set from a mark.
    eof: bool,
    /// It wants the data set and no stream.
    rdb_only: bool,
    /// It wants not all of it: functions perhaps, and no keys.
    filter: Option<Filter>,
}

#[derive(Debug, Clone, Copy)]
struct Filter {
    functions: bool,
}

/// A connection that becomes a replica's.
pub(crate) struct Follow {
    psync: bool,
    wish: Handshake,
    info: Arc<ReplicaInfo>,
}

/// SYNC, PSYNC replication-id offset
///
/// There is no backlog: the answer is a full synchronisation always.
pub(crate) fn serve(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) -> Step {
    let psync = spec.id == id::PSYNC;
    if psync {
        let failover = args.try_get(3).is_some_and(|word| is(word, "FAILOVER"));
        if failover {
            let line = b"ERR PSYNC FAILOVER can't be sent to a master.";
            return refuse(to, line.to_vec());
        }
        if parse_i64(args.get(2)).is_none() {
            return refuse(to, NO_INTEGER.into());
        }
    }
    if to.session.handshake.filter.is_some() && !to.session.handshake.eof {
        return refuse(to, b"ERR Filtered replica requires EOF capability".to_vec());
    }
    after_all(to, |to| {
        local::count(to, spec);
        let wish = to.session.handshake.clone();
        match to.thread.shared.replicas.enter(&to.client.info, &wish) {
            Some(info) => {
                to.session.follow = Some(Box::new(Follow { psync, wish, info }));
                // Nothing more is read as a client's.
                to.session.closing = true;
                Step::Routed
            }
            None => refuse(
                to,
                format!("ERR this proxy feeds {MAX_REPLICAS} replicas already").into_bytes(),
            ),
        }
    })
}

const NO_INTEGER: &str = "ERR value is not an integer or out of range";

/// REPLCONF [option value ...]; false for other commands.
pub(crate) fn answer(to: &mut Connection, command: CommandId, args: Args<'_>) -> bool {
    if command != id::REPLCONF {
        return false;
    }
    match replconf(&mut to.session.handshake, args) {
        Ok(true) => to.reply.ok(),
        Ok(false) => {}
        Err(line) => to.reply.error(line),
    }
    true
}

/// False: it has no reply.
fn replconf(wish: &mut Handshake, args: Args<'_>) -> Result<bool, String> {
    if args.len().is_multiple_of(2) {
        return Err("ERR syntax error".to_owned());
    }
    for at in (1..args.len()).step_by(2) {
        let (option, value) = (args.get(at), args.get(at + 1));
        match option {
            // Not a replica yet, and no master is followed.
            o if is(o, "ACK") || is(o, "GETACK") => return Ok(false),
            o if is(o, "RDB-FILTER-ONLY") => wish.filter = Some(filter(value)?),
            _ => set_option(wish, option, value)?,
        }
    }
    Ok(true)
}

fn set_option(wish: &mut Handshake, option: &[u8], value: &[u8]) -> Result<(), String> {
    let number = || parse_i64(value).ok_or_else(|| NO_INTEGER.to_owned());
    match option {
        o if is(o, "LISTENING-PORT") => wish.port = number()? as u16,
        o if is(o, "IP-ADDRESS") && value.len() > HOST_MAX => {
            return Err(format!(
                "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                value.len()
            ));
        }
        o if is(o, "IP-ADDRESS") => wish.host = Some(String::from_utf8_lossy(value).into_owned()),
        o if is(o, "CAPA") => wish.eof |= is(value, "EOF"),
        o if is(o, "RDB-ONLY") => {
            wish.rdb_only = match number()? {
                0 => false,
                1 => true,
                _ => return Err("ERR value is out of range, value must between 0 and 1".into()),
            }
        }
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(format!("ERR Unrecognized REPLCONF option: {other}"));
        }
    }
    Ok(())
}

/// What is left of the data set if only these parts are wanted.
fn filter(value: &[u8]) -> Result<Filter, String> {
    let words = value.split(u8::is_ascii_whitespace);
    let mut filter = Filter { functions: false };
    for word in words.filter(|word| !word.is_empty()) {
        if !is(word, "functions") {
            let word = String::from_utf8_lossy(word);
            return Err(format!("ERR Unsupported rdb-filter-only option: {word}"));
        }
        filter.functions = true;
    }
    Ok(filter)
}

/// ROLE: a master, as any one Redis that takes writes.
pub(crate) fn role(replicas: &Replicas, out: &mut ReplyWriter) {
    let mut online = replicas.all();
    online.retain(|replica| replica.is_online());
    let lines = online.iter().map(|replica| ReplicaLine {
        host: &replica.host,
        port: replica.port,
        acknowledged: replica.acknowledged.load(Relaxed),
    });
    role::master(replicas.offset(), lines, out);
}

/// The proxy's fields of INFO replication.
pub(crate) fn info(replicas: &Replicas) -> Vec<(String, String)> {
    let all = replicas.all();
    let mut fields = vec![
        ("role".to_owned(), "master".to_owned()),
        ("connected_slaves".to_owned(), all.len().to_string()),
    ];
    let lines = all.iter().enumerate();
    fields.extend(lines.map(|(at, replica)| (format!("slave{at}"), replica.line())));
    fields.extend([
        ("master_replid".to_owned(), replicas.id.clone()),
        (
            "master_repl_offset".to_owned(),
            replicas.offset().to_string(),
        ),
    ]);
    fields
}

/// Whether an argument is that word, whatever the case of its letters.
fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_protocol::resp::Requests;

    fn said(wish: &mut Handshake, words: &[&str]) -> Result<bool, String> {
        let mut requests = Requests::default();
        requests.push_owned(words);
        replconf(wish, requests.get(0))
    }

    #[test]
    fn a_replica_says_what_it_is_and_what_redis_refuses_is_refused() {
        let mut wish = Handshake::default();
        assert_eq!(
            said(&mut wish, &["REPLCONF", "listening-port", "7000"]),
            Ok(true)
        );
        let both = ["REPLCONF", "capa", "eof", "capa", "psync2"];
        assert_eq!(said(&mut wish, &both), Ok(true));
        assert_eq!((wish.port, wish.eof), (7000, true));
        assert_eq!(said(&mut wish, &["REPLCONF", "ACK", "0"]), Ok(false));
        for (words, line) in [
            (
                ["REPLCONF", "rdb-only", "2"],
                "ERR value is out of range, value must between 0 and 1",
            ),
            (["REPLCONF", "rdb-only", "x"], NO_INTEGER),
            (
                ["REPLCONF", "colour", "red"],
                "ERR Unrecognized REPLCONF option: colour",
            ),
            (
                ["REPLCONF", "rdb-filter-only", "keys"],
                "ERR Unsupported rdb-filter-only option: keys",
            ),
        ] {
            assert_eq!(said(&mut wish, &words), Err(line.to_owned()));
        }
        assert!(said(&mut wish, &["REPLCONF", "capa"]).is_err());
    }
}
