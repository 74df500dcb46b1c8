//! Connection commands: who the client is, and how it wants to be spoken to.

use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter, Version};

use super::Handler;
use super::arguments::{database, is};
use super::client;
use crate::net::session::{Next, Session};
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("auth", Handler::Session(auth)),
    ("echo", Handler::Session(echo)),
    ("hello", Handler::Session(hello)),
    ("ping", Handler::Session(ping)),
    ("quit", Handler::Session(quit)),
    ("reset", Handler::Session(reset)),
    ("select", Handler::Session(select)),
];

type Done = Result<Next, CommandError>;

/// The version of Redis whose commands are answered.
pub const REDIS_VERSION: &str = "7.0.15";

const WRONG_PASS: CommandError =
    CommandError::fixed("WRONGPASS invalid username-password pair or user is disabled.");

/// AUTH [username] password
fn auth(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (user, password) = match args.len() {
        2 => (&b"default"[..], args.get(1)),
        3 => (args.get(1), args.get(2)),
        _ => return Err(CommandError::SYNTAX),
    };
    if args.len() == 2 && session.server.acl.default_has_no_password() {
        return Err(CommandError::fixed(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        ));
    }
    authenticate(session, user, password, args)?;
    out.ok();
    Ok(Next::Continue)
}

/// ECHO message
fn echo(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.bulk(args.get(1));
    Ok(Next::Continue)
}

/// HELLO [protover [AUTH username password] [SETNAME clientname]]
///
/// Replies with a map that describes the server and the connection.
fn hello(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let version = match args.try_get(1) {
        None => None,
        Some(word) => Some(protocol_version(word)?),
    };
    let mut at = 2;
    while at < args.len() {
        let option = args.get(at);
        let more = args.len() - 1 - at;
        if is(option, "AUTH") && more >= 2 {
            authenticate(session, args.get(at + 1), args.get(at + 2), args)?;
            at += 2;
        } else if is(option, "SETNAME") && more >= 1 {
            client::set_name(session, args.get(at + 1))?;
            at += 1;
        } else {
            let option = super::arguments::shown(option);
            return Err(CommandError::line(format!(
                "ERR Syntax error in HELLO option '{option}'"
            )));
        }
        at += 1;
    }
    // Redis asks whoever came while a password was needed, also when none is any more. A
    // node may have learned only now that none ever was.
    let is_in = match session.server.is_cluster() {
        true => session.may_run(),
        false => session.authenticated,
    };
    if !is_in {
        return Err(CommandError::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO AUTH <user> <pass> option can be used to authenticate the client and select \
             the RESP protocol version at the same time",
        ));
    }
    if let Some(version) = version {
        session.speak(version, out);
    }
    describe(session, out);
    Ok(Next::Continue)
}

/// PING [message]
///
/// A subscriber in RESP2 gets an array, as messages are.
fn ping(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let subscriber = session.version == Version::V2 && session.client.subscriptions.any();
    match args.len() {
        1 | 2 if subscriber => {
            out.array(2);
            out.bulk(b"pong");
            out.bulk(args.try_get(1).unwrap_or_default());
        }
        1 => out.simple("PONG"),
        2 => out.bulk(args.get(1)),
        _ => {
            return Err(CommandError::fixed(
                "ERR wrong number of arguments for 'ping' command",
            ));
        }
    }
    Ok(Next::Continue)
}

/// QUIT
fn quit(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.ok();
    Ok(Next::Close)
}

/// RESET
fn reset(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    session.reset(out);
    out.simple("RESET");
    Ok(Next::Continue)
}

/// SELECT index
fn select(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let db = database(args.get(1))?;
    if session.server.config.cluster.is_some() && db != 0 {
        return Err(CommandError::fixed(
            "ERR SELECT is not allowed in cluster mode",
        ));
    }
    session.select(db);
    out.ok();
    Ok(Next::Continue)
}

fn protocol_version(word: &[u8]) -> Result<Version, CommandError> {
    match parse_i64(word) {
        Some(2) => Ok(Version::V2),
        Some(3) => Ok(Version::V3),
        Some(_) => Err(CommandError::fixed("NOPROTO unsupported protocol version")),
        None => Err(CommandError::fixed(
            "ERR Protocol version is not an integer or out of range",
        )),
    }
}

/// Lets the session in, or refuses; a failure changes nothing.
fn authenticate(
    session: &mut Session,
    user: &[u8],
    password: &[u8],
    args: &Args<'_>,
) -> Result<(), CommandError> {
    match session.log_in(user, password, args.get(0)) {
        true => Ok(()),
        false => Err(WRONG_PASS),
    }
}

fn describe(session: &Session, out: &mut ReplyWriter) {
    let mode = match session.server.config.cluster {
        Some(_) => "cluster",
        None => "standalone",
    };
    out.map(7);
    out.bulk(b"server");
    out.bulk(b"redis");
    out.bulk(b"version");
    out.bulk(REDIS_VERSION.as_bytes());
    out.bulk(b"proto");
    out.integer(if session.version == Version::V3 { 3 } else { 2 });
    out.bulk(b"id");
    out.integer(session.client.id as i64);
    out.bulk(b"mode");
    out.bulk(mode.as_bytes());
    out.bulk(b"role");
    out.bulk(match session.server.following.is_on() {
        true => &b"replica"[..],
        false => &b"master"[..],
    });
    out.bulk(b"modules");
    out.array(0);
}
