//! Connection commands: AUTH, ECHO, HELLO, PING, QUIT, RESET, SELECT.

use super::is;
use crate::net::{Connection, Silence};
use cairn_protocol::command::{CommandId, id};
use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, Version};
use std::sync::atomic::Ordering::Relaxed;

/// Databases that a client may select.
const DATABASES: i64 = 16;

const NO_PASSWORD_SET: &str = "ERR AUTH <password> called without any password configured for the \
                               default user. Are you sure your configuration is correct?";
const WRONG_PASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const HELLO_NOAUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, \
                            otherwise the HELLO AUTH <user> <pass> option can be used to \
                            authenticate the client and select the RESP protocol version at the \
                            same time";
const CLUSTER_DISABLED: &str = "ERR This instance has cluster support disabled";

/// Answers the commands of this file; false for others.
pub(super) fn answer(to: &mut Connection, id: CommandId, args: Args<'_>) -> bool {
    match id {
        id::PING => ping(to, args),
        id::ECHO => to.reply.bulk(args.get(1)),
        id::SELECT => select(to, args),
        id::AUTH => auth(to, args),
        id::HELLO => hello(to, args),
        id::RESET => reset(to),
        id::QUIT => quit(to),
        id::READONLY | id::READWRITE => to.reply.error(CLUSTER_DISABLED),
        _ if id.spec().name.starts_with("cluster") => to.reply.error(CLUSTER_DISABLED),
        _ => return false,
    }
    true
}

/// PING [message]
fn ping(to: &mut Connection, args: Args<'_>) {
    let subscriber = to.client.state.borrow().listening.any();
    match args.len() {
        1 | 2 if subscriber && to.session.version == Version::V2 => {
            to.reply.array(2);
            to.reply.bulk(b"pong");
            to.reply.bulk(args.try_get(1).unwrap_or_default());
        }
        1 => to.reply.simple("PONG"),
        2 => to.reply.bulk(args.get(1)),
        _ => to
            .reply
            .error("ERR wrong number of arguments for 'ping' command"),
    }
}

/// SELECT index
fn select(to: &mut Connection, args: Args<'_>) {
    match parse_i64(args.get(1)) {
        None => to
            .reply
            .error("ERR value is not an integer or out of range"),
        Some(index) if i32::try_from(index).is_err() => {
            let (min, max) = (i32::MIN, i32::MAX);
            let line = format!("ERR value is out of range, value must between {min} and {max}");
            to.reply.error(line);
        }
        Some(index) if !(0..DATABASES).contains(&index) => {
            to.reply.error("ERR DB index is out of range");
        }
        Some(index) => {
            to.session.database = index as u16;
            to.client.info.labels.lock().database = index as u16;
            to.reply.ok();
        }
    }
}

/// AUTH [username] password
fn auth(to: &mut Connection, args: Args<'_>) {
    if args.len() > 3 {
        return to.reply.error("ERR syntax error");
    }
    let registry = &to.thread.shared.users.registry;
    if args.len() == 2 && registry.default_has_no_password() {
        return to.reply.error(NO_PASSWORD_SET);
    }
    let user = if args.len() == 3 {
        args.get(1)
    } else {
        b"default"
    };
    if log_in(to, "auth", user, args.get(args.len() - 1)) {
        to.reply.ok();
    } else {
        to.reply.error(WRONG_PASS);
    }
}

/// Logs the client in; `object` is the command, as ACL LOG shows it.
fn log_in(to: &mut Connection, object: &str, user: &[u8], password: &[u8]) -> bool {
    let users = to.thread.shared.users.clone();
    let good = users
        .registry
        .log_in(user, password, |account| to.enter(account));
    match good {
        true => to.session.authenticated = true,
        false => {
            let (client, context) = (&*to.client.info, to.context());
            let object = object.as_bytes();
            users
                .registry
                .note_failed_login(client, context, object, user);
        }
    }
    good
}

/// HELLO [protover [AUTH username password] [SETNAME clientname]]
fn hello(to: &mut Connection, args: Args<'_>) {
    let version = match args.try_get(1).map(parse_i64) {
        None => to.session.version,
        Some(Some(2)) => Version::V2,
        Some(Some(3)) => Version::V3,
        Some(Some(_)) => return to.reply.error("NOPROTO unsupported protocol version"),
        Some(None) => {
            return to
                .reply
                .error("ERR Protocol version is not an integer or out of range");
        }
    };
    let mut at = 2;
    while at < args.len() {
        let (option, left) = (args.get(at), args.len() - at - 1);
        if is(option, "auth") && left >= 2 {
            if !log_in(to, "hello", args.get(at + 1), args.get(at + 2)) {
                return to.reply.error(WRONG_PASS);
            }
            at += 3;
        } else if is(option, "setname") && left >= 1 {
            if !super::client::set_name(to, args.get(at + 1)) {
                return;
            }
            at += 2;
        } else {
            let mut text = b"ERR Syntax error in HELLO option '".to_vec();
            text.extend_from_slice(option);
            text.push(b'\'');
            return to.reply.error(text);
        }
    }
    if !to.session.authenticated {
        return to.reply.error(HELLO_NOAUTH);
    }
    set_version(to, version);
    greet(to);
}

fn set_version(to: &mut Connection, version: Version) {
    to.session.version = version;
    to.reply.set_version(version);
    to.client.state.borrow_mut().version = version;
    to.client.info.labels.lock().resp3 = version == Version::V3;
}

fn greet(to: &mut Connection) {
    let id = to.client.id as i64;
    let reply = &mut to.reply;
    reply.map(7);
    for (field, value) in [
        ("server", "redis"),
        ("version", super::server::REDIS_VERSION),
    ] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if reply.version() == Version::V3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(id);
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
}

/// RESET: its sessions at nodes end, and with them all that they were told.
fn reset(to: &mut Connection) {
    to.client.forget_sessions();
    to.client.show_subscriptions();
    to.client.info.redirect.store(-1, Relaxed);
    to.client.info.queued.store(-1, Relaxed);
    to.thread.shared.monitors.remove(&to.client.info);
    to.session.watching = None;
    to.session.database = 0;
    to.session.silence = Silence::Off;
    to.session.multi = None;
    let registry = to.thread.shared.users.registry.clone();
    to.enter(registry.default_user());
    to.session.authenticated = registry.is_open();
    set_version(to, Version::V2);
    {
        let mut labels = to.client.info.labels.lock();
        labels.name.clear();
        labels.database = 0;
    }
    to.reply.simple("RESET");
}

/// QUIT
fn quit(to: &mut Connection) {
    to.session.closing = true;
    to.reply.ok();
}
