//! CLIENT and its subcommands, as far as a proxy has something to say.

use super::is;
use crate::net::{ClientInfo, Connection, Silence};
use crate::tracking;
use cairn_protocol::command::{CLIENT_HELP, CommandId, help, id, subcommand_syntax_error};
use cairn_protocol::resp::{Args, number::parse_i64};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Answers the commands of this file; false for others.
pub(super) fn answer(to: &mut Connection, id: CommandId, args: Args<'_>) -> bool {
    match id {
        id::CLIENT_ID => to.reply.integer(to.client.id as i64),
        id::CLIENT_GETNAME => get_name(to),
        id::CLIENT_SETNAME => {
            if set_name(to, args.get(2)) {
                to.reply.ok();
            }
        }
        id::CLIENT_INFO => {
            let mut line = to.client.info.line();
            line.push(b'\n');
            to.reply.verbatim("txt", &line);
        }
        id::CLIENT_LIST => list(to, args),
        id::CLIENT_KILL => kill(to, args),
        id::CLIENT_REPLY => reply(to, args),
        id::CLIENT_NO_EVICT => switch(to, args),
        id::CLIENT_CACHING => tracking::caching(to, args),
        id::CLIENT_GETREDIR => tracking::getredir(to),
        id::CLIENT_TRACKINGINFO => tracking::info(to),
        id::CLIENT_UNBLOCK => unblock(to, args),
        id::CLIENT_PAUSE => pause(to, args),
        id::CLIENT_UNPAUSE => {
            to.thread.shared.pause.end();
            to.reply.ok();
        }
        id::CLIENT_HELP => help(&mut to.reply, "CLIENT", CLIENT_HELP),
        _ => return false,
    }
    true
}

fn get_name(to: &mut Connection) {
    let name = to.client.info.labels.lock().name.clone();
    to.reply.bulk_or_null((!name.is_empty()).then_some(&name));
}

/// Sets the connection's name, or answers why it cannot be one.
pub(super) fn set_name(to: &mut Connection, name: &[u8]) -> bool {
    if !name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        let text = "ERR Client names cannot contain spaces, newlines or special characters.";
        to.reply.error(text);
        return false;
    }
    to.client.info.labels.lock().name = name.to_vec();
    true
}

/// CLIENT LIST [TYPE type] [ID id [id ...]]
fn list(to: &mut Connection, args: Args<'_>) {
    let registry = &to.thread.shared.registry;
    let mut chosen: Vec<Arc<ClientInfo>> = Vec::new();
    match args.try_get(2) {
        None => chosen = registry.all(),
        Some(option) if is(option, "id") && args.len() > 3 => {
            for id in args.slice_from(3).iter().map(parse_i64) {
                let Some(id) = id else {
                    return to.reply.error("ERR Invalid client ID");
                };
                chosen.extend(registry.find(id as u64));
            }
        }
        Some(option) if is(option, "type") && args.len() == 4 => match Kind::read(args.get(3)) {
            Ok(kind) => {
                chosen = registry.all();
                chosen.retain(|info| kind.is_of(info));
            }
            Err(text) => return to.reply.error(text),
        },
        Some(_) => return to.reply.error("ERR syntax error"),
    }
    let mut text = Vec::new();
    for info in chosen {
        text.extend_from_slice(&info.line());
        text.push(b'\n');
    }
    to.reply.verbatim("txt", &text);
}

/// Which clients CLIENT KILL means.
#[derive(Default)]
struct Victims<'a> {
    id: Option<i64>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    user: Option<&'a [u8]>,
    kind: Option<Kind>,
    spare_me: bool,
}

/// Classes of clients, as far as a proxy has them.
#[derive(Clone, Copy)]
enum Kind {
    Normal,
    PubSub,
    Replica,
    /// Masters.
    None,
}

impl Kind {
    fn read(word: &[u8]) -> Result<Kind, Vec<u8>> {
        match word {
            word if is(word, "normal") => Ok(Kind::Normal),
            word if is(word, "pubsub") => Ok(Kind::PubSub),
            word if is(word, "replica") || is(word, "slave") => Ok(Kind::Replica),
            word if is(word, "master") => Ok(Kind::None),
            word => Err([b"ERR Unknown client type '", word, b"'"].concat()),
        }
    }

    fn is_of(self, info: &ClientInfo) -> bool {
        match self {
            Kind::Normal => !info.subscribes() && !info.replica.load(Relaxed),
            Kind::PubSub => info.subscribes(),
            Kind::Replica => info.replica.load(Relaxed),
            Kind::None => false,
        }
    }
}

impl Victims<'_> {
    fn include(&self, info: &ClientInfo) -> bool {
        self.id.is_none_or(|id| id == info.id as i64)
            && self
                .address
                .is_none_or(|address| address == info.address.as_bytes())
            && self
                .local_address
                .is_none_or(|address| address == info.local_address.as_bytes())
            && self.user.is_none_or(|user| *info.account().name() == *user)
            && self.kind.is_none_or(|kind| kind.is_of(info))
    }
}

/// CLIENT KILL ip:port, or CLIENT KILL [ID id] [ADDR ip:port] [LADDR ip:port]
/// [TYPE type] [USER name] [SKIPME yes|no]
fn kill(to: &mut Connection, args: Args<'_>) {
    let old_form = args.len() == 3;
    let victims = if old_form {
        Victims {
            address: Some(args.get(2)),
            ..Victims::default()
        }
    } else {
        match victims(to, args) {
            Ok(victims) => victims,
            Err(error) => return to.reply.error(error),
        }
    };
    let mut killed = 0;
    for info in to.thread.shared.registry.all() {
        let me = info.id == to.client.id;
        if !victims.include(&info) || (me && victims.spare_me) {
            continue;
        }
        killed += 1;
        if me {
            to.session.closing = true;
        } else {
            info.kill();
        }
    }
    match (old_form, killed) {
        (true, 0) => to.reply.error("ERR No such client"),
        (true, _) => to.reply.ok(),
        (false, killed) => to.reply.integer(killed),
    }
}

fn victims<'a>(to: &Connection, args: Args<'a>) -> Result<Victims<'a>, Vec<u8>> {
    let mut victims = Victims {
        spare_me: true,
        ..Victims::default()
    };
    let mut at = 2;
    while at + 1 < args.len() {
        let (option, value) = (args.get(at), args.get(at + 1));
        if is(option, "id") {
            let id = parse_i64(value).filter(|id| *id > 0);
            victims.id = Some(id.ok_or(b"ERR client-id should be greater than 0")?);
        } else if is(option, "addr") {
            victims.address = Some(value);
        } else if is(option, "laddr") {
            victims.local_address = Some(value);
        } else if is(option, "user") {
            if to.thread.shared.users.registry.find(value).is_none() {
                return Err([b"ERR No such user '", value, b"'"].concat());
            }
            victims.user = Some(value);
        } else if is(option, "type") {
            victims.kind = Some(Kind::read(value)?);
        } else if is(option, "skipme") && (is(value, "yes") || is(value, "no")) {
            victims.spare_me = is(value, "yes");
        } else {
            return Err(b"ERR syntax error".to_vec());
        }
        at += 2;
    }
    if at == args.len() {
        Ok(victims)
    } else {
        Err(b"ERR syntax error".to_vec())
    }
}

/// CLIENT REPLY ON|OFF|SKIP
fn reply(to: &mut Connection, args: Args<'_>) {
    match args.get(2) {
        mode if is(mode, "on") => {
            to.session.silence = Silence::Off;
            to.reply.ok();
        }
        mode if is(mode, "off") => to.session.silence = Silence::On,
        mode if is(mode, "skip") => {
            if to.session.silence == Silence::Off {
                to.session.silence = Silence::Next;
            }
        }
        _ => to.reply.error("ERR syntax error"),
    }
}

/// CLIENT NO-EVICT ON|OFF: clients are never evicted; the flag is kept and shown.
fn switch(to: &mut Connection, args: Args<'_>) {
    let mode = args.get(2);
    if !is(mode, "on") && !is(mode, "off") {
        return to.reply.error("ERR syntax error");
    }
    to.client.info.no_evict.store(is(mode, "on"), Relaxed);
    to.reply.ok();
}

/// CLIENT UNBLOCK client-id [TIMEOUT | ERROR]
///
/// Replies with 1 if that client's request was waiting for its keys, or for replicas.
fn unblock(to: &mut Connection, args: Args<'_>) {
    let fail = match args.try_get(3) {
        _ if args.len() > 4 => {
            let line = subcommand_syntax_error(id::CLIENT_UNBLOCK.spec(), &args);
            return to.reply.error(line);
        }
        None => false,
        Some(word) if is(word, "timeout") => false,
        Some(word) if is(word, "error") => true,
        Some(_) => {
            let line = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
            return to.reply.error(line);
        }
    };
    let Some(id) = parse_i64(args.get(2)) else {
        let line = "ERR value is not an integer or out of range";
        return to.reply.error(line);
    };
    let client = to.thread.shared.registry.find(id as u64);
    let unblocked = client.is_some_and(|client| client.unblock(fail));
    to.reply.integer(i64::from(unblocked));
}

/// CLIENT PAUSE timeout [WRITE | ALL], of this proxy's clients.
fn pause(to: &mut Connection, args: Args<'_>) {
    let all = match args.try_get(3) {
        _ if args.len() > 4 => {
            let line = subcommand_syntax_error(id::CLIENT_PAUSE.spec(), &args);
            return to.reply.error(line);
        }
        None => true,
        Some(word) if is(word, "write") => false,
        Some(word) if is(word, "all") => true,
        Some(_) => {
            let line = "ERR CLIENT PAUSE mode must be WRITE or ALL";
            return to.reply.error(line);
        }
    };
    let Some(timeout) = parse_i64(args.get(2)) else {
        let line = "ERR timeout is not an integer or out of range";
        return to.reply.error(line);
    };
    let Ok(timeout) = u64::try_from(timeout) else {
        return to.reply.error("ERR timeout is negative");
    };
    let pause = &to.thread.shared.pause;
    pause.begin(Duration::from_millis(timeout), all);
    to.reply.ok();
}
