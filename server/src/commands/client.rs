//! CLIENT: the connections of this server, seen and handled by each other.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cairn_protocol::acl::{Account, Describe};
use cairn_protocol::command;
use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::arguments::{integer, is};
use super::tracking::redirection;
use super::{Handler, help};
use crate::group::expiry;
use crate::net::address::Address;
use crate::net::session::{Client, Next, ReplyMode, Session, Unblock};
use crate::pause::Scope;
use crate::pubsub;
use crate::server::Server;
use crate::tracking::Kind;
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("client", Handler::Session(super::container)),
    ("client|getname", Handler::Session(getname)),
    ("client|help", Handler::Session(client_help)),
    ("client|id", Handler::Session(id)),
    ("client|info", Handler::Session(info)),
    ("client|kill", Handler::Session(kill)),
    ("client|list", Handler::Session(list)),
    ("client|no-evict", Handler::Session(no_evict)),
    ("client|pause", Handler::Session(pause)),
    ("client|reply", Handler::Session(reply)),
    ("client|setname", Handler::Session(setname)),
    ("client|unblock", Handler::Session(unblock)),
    ("client|unpause", Handler::Session(unpause)),
];

type Done = Result<Next, CommandError>;

/// CLIENT GETNAME
fn getname(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let labels = session.client.labels.lock();
    out.bulk_or_null(Some(labels.name.as_bytes()).filter(|name| !name.is_empty()));
    Ok(Next::Continue)
}

/// CLIENT HELP
fn client_help(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    help(out, "CLIENT", command::CLIENT_HELP);
    Ok(Next::Continue)
}

/// CLIENT ID
fn id(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.integer(session.client.id as i64);
    Ok(Next::Continue)
}

/// CLIENT INFO
fn info(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let mut text = String::new();
    describe(&session.client, Some(Own::of(session, args)), &mut text);
    out.verbatim("txt", text.as_bytes());
    Ok(Next::Continue)
}

/// CLIENT KILL ip:port
/// CLIENT KILL [ID id] [TYPE type] [USER name] [ADDR ip:port] [LADDR ip:port] [SKIPME yes|no]
///
/// The old form replies OK, the new one with the number of clients killed.
fn kill(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let old_form = args.len() == 3;
    let filter = match old_form {
        true => KillFilter {
            addr: Some(args.get(2)),
            skip_me: false,
            ..KillFilter::default()
        },
        false => KillFilter::read(&session.server, args)?,
    };
    let own = session.client.id;
    let victims: Vec<Arc<Client>> = session
        .server
        .clients
        .iter()
        .map(|entry| entry.value().clone())
        .filter(|client| filter.accepts(client) && !(filter.skip_me && client.id == own))
        .collect();
    victims.iter().for_each(|client| client.kill());
    let of_master = filter.means_master() && session.server.following.cut_off(filter.addr);
    match (old_form, victims.len() + usize::from(of_master)) {
        (true, 0) => return Err(CommandError::fixed("ERR No such client")),
        (true, _) => out.ok(),
        (false, killed) => out.integer(killed as i64),
    }
    Ok(Next::Continue)
}

/// CLIENT LIST [TYPE type | ID id [id ...]]
fn list(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let mut text = String::new();
    let clients = &session.server.clients;
    let own = Own::of(session, args);
    let mut show = |client: &Client| {
        let own = Some(own).filter(|_| client.id == session.client.id);
        describe(client, own, &mut text);
    };
    if args.len() == 4 && is(args.get(2), "TYPE") {
        let kind = ClientType::read(args.get(3))?;
        let mut all = by_id(&session.server);
        all.retain(|client| kind == ClientType::of(client));
        all.iter().for_each(|client| show(client));
    } else if args.len() > 3 && is(args.get(2), "ID") {
        for arg in args.iter().skip(3) {
            let id = parse_i64(arg).ok_or(CommandError::fixed("ERR Invalid client ID"))?;
            if let Some(client) = clients.get(&(id as u64)) {
                show(&client);
            }
        }
    } else if args.len() == 2 {
        by_id(&session.server)
            .iter()
            .for_each(|client| show(client));
    } else {
        return Err(CommandError::SYNTAX);
    }
    out.verbatim("txt", text.as_bytes());
    Ok(Next::Continue)
}

/// CLIENT NO-EVICT ON | OFF
///
/// Whether it is spared by `maxmemory-clients`.
fn no_evict(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let on = on_or_off(args.get(2))?;
    session.client.no_evict.store(on, Ordering::Relaxed);
    session.server.evict_clients();
    out.ok();
    Ok(Next::Continue)
}

/// CLIENT PAUSE timeout [WRITE | ALL]
fn pause(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let scope = match args.try_get(3) {
        None => Scope::All,
        Some(_) if args.len() > 4 => return Err(super::subcommand_syntax(args, "client|pause")),
        Some(word) if is(word, "WRITE") => Scope::Writes,
        Some(word) if is(word, "ALL") => Scope::All,
        Some(_) => {
            return Err(CommandError::fixed(
                "ERR CLIENT PAUSE mode must be WRITE or ALL",
            ));
        }
    };
    let timeout = parse_i64(args.get(2)).ok_or(CommandError::fixed(
        "ERR timeout is not an integer or out of range",
    ))?;
    let timeout =
        u64::try_from(timeout).map_err(|_| CommandError::fixed("ERR timeout is negative"))?;
    // As in Redis, an end that its clock cannot show is over already.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_millis() as u64);
    let time = match now.saturating_add(timeout) > i64::MAX as u64 {
        true => Duration::ZERO,
        false => Duration::from_millis(timeout),
    };
    session.server.pause.begin(time, scope);
    out.ok();
    Ok(Next::Continue)
}

/// CLIENT REPLY ON | OFF | SKIP
fn reply(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let word = args.get(2);
    session.reply_mode = match session.reply_mode {
        _ if is(word, "ON") => {
            out.ok();
            ReplyMode::On
        }
        _ if is(word, "OFF") => ReplyMode::Off,
        ReplyMode::Off if is(word, "SKIP") => ReplyMode::Off,
        // SKIP as the command whose reply is skipped: the next one's is too.
        ReplyMode::Skip | ReplyMode::SkipNow if is(word, "SKIP") => ReplyMode::SkipNow,
        ReplyMode::On if is(word, "SKIP") => ReplyMode::Skip,
        _ => return Err(CommandError::SYNTAX),
    };
    Ok(Next::Continue)
}

/// CLIENT SETNAME name
fn setname(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    set_name(session, args.get(2))?;
    out.ok();
    Ok(Next::Continue)
}

/// CLIENT UNBLOCK client-id [TIMEOUT | ERROR]
///
/// Replies with 1 if that client's command was waiting.
fn unblock(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let how = match args.try_get(3) {
        Some(_) if args.len() > 4 => return Err(super::subcommand_syntax(args, "client|unblock")),
        None => Unblock::TimeOut,
        Some(word) if is(word, "TIMEOUT") => Unblock::TimeOut,
        Some(word) if is(word, "ERROR") => Unblock::Error,
        Some(_) => {
            return Err(CommandError::fixed(
                "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
            ));
        }
    };
    let id = integer(args.get(2))? as u64;
    let client = session.server.clients.get(&id).map(|c| c.clone());
    let unblocked = client.is_some_and(|client| client.unblock(how));
    out.integer(i64::from(unblocked));
    Ok(Next::Continue)
}

/// CLIENT UNPAUSE
///
/// What was due meanwhile goes before the answer, as far as one round of the expiry
/// task takes it.
fn unpause(session: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    session.server.pause.end();
    let groups = session.server.groups();
    Ok(Next::Work(Box::new(move |out| {
        for group in &groups {
            expiry::step(group);
        }
        out.ok();
    })))
}

/// Gives the connection a name, or none. Also for HELLO.
pub(super) fn set_name(session: &Session, name: &[u8]) -> Result<(), CommandError> {
    let printable = |byte: &u8| (b'!'..=b'~').contains(byte);
    if !name.iter().all(printable) {
        return Err(CommandError::fixed(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    session.client.labels.lock().name = String::from_utf8_lossy(name).into_owned();
    Ok(())
}

fn on_or_off(word: &[u8]) -> Result<bool, CommandError> {
    match word {
        word if is(word, "ON") => Ok(true),
        word if is(word, "OFF") => Ok(false),
        _ => Err(CommandError::SYNTAX),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientType {
    Normal,
    Replica,
    PubSub,
    Master,
}

impl ClientType {
    fn of(client: &Client) -> ClientType {
        match client.subscriptions.any() {
            _ if client.is_replica() => ClientType::Replica,
            true => ClientType::PubSub,
            false => ClientType::Normal,
        }
    }

    fn read(word: &[u8]) -> Result<ClientType, CommandError> {
        let words = [
            ("normal", ClientType::Normal),
            ("slave", ClientType::Replica),
            ("replica", ClientType::Replica),
            ("pubsub", ClientType::PubSub),
            ("master", ClientType::Master),
        ];
        let known = words.iter().find(|(name, _)| is(word, name));
        known.map(|(_, kind)| *kind).ok_or_else(|| {
            let word = super::arguments::shown(word);
            CommandError::line(format!("ERR Unknown client type '{word}'"))
        })
    }
}

struct KillFilter<'a> {
    id: Option<u64>,
    kind: Option<ClientType>,
    user: Option<Arc<Account>>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    skip_me: bool,
}

impl Default for KillFilter<'_> {
    fn default() -> Self {
        KillFilter {
            id: None,
            kind: None,
            user: None,
            addr: None,
            laddr: None,
            skip_me: true,
        }
    }
}

impl<'a> KillFilter<'a> {
    fn read(server: &Server, args: &Args<'a>) -> Result<KillFilter<'a>, CommandError> {
        let mut filter = KillFilter::default();
        for at in (2..args.len()).step_by(2) {
            let option = args.get(at);
            let value = args.try_get(at + 1).ok_or(CommandError::SYNTAX)?;
            match option {
                o if is(o, "ID") => filter.id = Some(kill_id(value)?),
                o if is(o, "TYPE") => filter.kind = Some(ClientType::read(value)?),
                o if is(o, "ADDR") => filter.addr = Some(value),
                o if is(o, "LADDR") => filter.laddr = Some(value),
                o if is(o, "USER") => filter.user = Some(user(server, value)?),
                o if is(o, "SKIPME") && is(value, "YES") => filter.skip_me = true,
                o if is(o, "SKIPME") && is(value, "NO") => filter.skip_me = false,
                _ => return Err(CommandError::SYNTAX),
            }
        }
        Ok(filter)
    }

    /// Whether the master that this server follows may be meant: it is told by its
    /// address or its type alone.
    fn means_master(&self) -> bool {
        let by_type = self.kind == Some(ClientType::Master);
        let told = by_type || self.kind.is_none() && self.addr.is_some();
        told && self.id.is_none() && self.user.is_none() && self.laddr.is_none()
    }

    fn accepts(&self, client: &Client) -> bool {
        let is_at = |wanted: Option<&[u8]>, address: &Address| {
            wanted.is_none_or(|wanted| wanted == address.to_string().as_bytes())
        };
        self.id.is_none_or(|id| id == client.id)
            && self.kind.is_none_or(|kind| kind == ClientType::of(client))
            && self
                .user
                .as_ref()
                .is_none_or(|user| Arc::ptr_eq(user, &client.account()))
            && is_at(self.addr, &client.peer)
            && is_at(self.laddr, &client.local)
    }
}

fn kill_id(value: &[u8]) -> Result<u64, CommandError> {
    match parse_i64(value) {
        Some(id) if id > 0 => Ok(id as u64),
        _ => Err(CommandError::fixed(
            "ERR client-id should be greater than 0",
        )),
    }
}

fn user(server: &Server, name: &[u8]) -> Result<Arc<Account>, CommandError> {
    server.acl.find(name).ok_or_else(|| {
        let name = String::from_utf8_lossy(name);
        CommandError::line(format!("ERR No such user '{name}'"))
    })
}

fn by_id(server: &Server) -> Vec<Arc<Client>> {
    let mut all: Vec<Arc<Client>> = server.clients.iter().map(|c| c.value().clone()).collect();
    // Those who are on their way out have gone, as in Redis.
    all.retain(|client| !client.is_killed());
    all.sort_by_key(|client| client.id);
    all
}

impl Describe for Client {
    fn describe(&self) -> String {
        let mut text = String::new();
        describe(self, None, &mut text);
        text.truncate(text.trim_end().len());
        text
    }
}

/// What only the client that asks knows of itself.
#[derive(Clone, Copy)]
struct Own {
    readonly: bool,
    /// Bytes of the arguments of its command, which nobody else has one of just now.
    arguments: usize,
}

impl Own {
    fn of(session: &Session, args: &Args<'_>) -> Own {
        Own {
            readonly: session.readonly,
            arguments: args.iter().map(<[u8]>::len).sum(),
        }
    }
}

/// One line of CLIENT LIST, its line end included.
fn describe(client: &Client, own: Option<Own>, text: &mut String) {
    let age = client.created.elapsed();
    let idle = age.as_millis() as u64
        - client
            .last_active_ms
            .load(Ordering::Relaxed)
            .min(age.as_millis() as u64);
    let labels = client.labels.lock().clone();
    let mut flags = String::new();
    let (tracking, subscribed) = (client.tracking.mode(), &client.subscriptions);
    let readonly = own.is_some_and(|own| own.readonly);
    let arguments = own.map_or(0, |own| own.arguments);
    for (set, flag) in [
        (client.monitoring.load(Ordering::Relaxed), 'O'),
        (client.is_replica(), 'S'),
        (subscribed.any(), 'P'),
        (client.queued.load(Ordering::Relaxed) >= 0, 'x'),
        (client.is_blocked(), 'b'),
        (tracking.kind != Kind::Off, 't'),
        (tracking.broken, 'R'),
        (tracking.kind == Kind::Broadcast, 'B'),
        (client.peer.is_unix(), 'U'),
        (readonly, 'r'),
        (client.no_evict.load(Ordering::Relaxed), 'e'),
    ] {
        if set {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let last = client.last_command.load(Ordering::Relaxed);
    let command = command::all().nth(last).map_or("NULL", |spec| spec.name);
    let query = client.query_buffer.load(Ordering::Relaxed);
    let query_free = client.query_free.load(Ordering::Relaxed);
    let output = client.unsent();
    let resp = if client.resp3.load(Ordering::Relaxed) {
        3
    } else {
        2
    };
    let _ = writeln!(
        text,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db={} sub={} psub={} \
         ssub={} multi={} qbuf={query} qbuf-free={query_free} argv-mem={arguments} multi-mem={} rbs=0 rbp=0 obl=0 \
         oll=0 omem={output} tot-mem={} events=r cmd={command} user={} redir={} resp={resp}",
        client.id,
        client.peer,
        client.local,
        client.descriptor.load(Ordering::Relaxed),
        labels.name,
        age.as_secs(),
        idle / 1000,
        client.db.load(Ordering::Relaxed),
        subscribed.count(pubsub::Kind::Channel),
        subscribed.count(pubsub::Kind::Pattern),
        subscribed.count(pubsub::Kind::Shard),
        client.queued.load(Ordering::Relaxed),
        client.queued_bytes.load(Ordering::Relaxed),
        client.memory() + arguments,
        String::from_utf8_lossy(client.account().name()),
        redirection(&tracking),
    );
}
