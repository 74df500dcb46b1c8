//! ACL: users, what they may do, and what was refused to them. What is answered
//! by the users alone is `cairn_protocol::acl`; here is what changes them.

use cairn_protocol::acl::{self, Change};
use cairn_protocol::command::CommandId;
use cairn_protocol::command::id;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use crate::net::session::{Next, Session};
use crate::server::Server;
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("acl", Handler::Session(super::container)),
    ("acl|cat", Handler::Session(cat)),
    ("acl|deluser", Handler::Session(deluser)),
    ("acl|dryrun", Handler::Session(dryrun)),
    ("acl|genpass", Handler::Session(genpass)),
    ("acl|getuser", Handler::Session(getuser)),
    ("acl|help", Handler::Session(help)),
    ("acl|list", Handler::Session(list)),
    ("acl|load", Handler::Session(load)),
    ("acl|log", Handler::Session(log)),
    ("acl|save", Handler::Session(save)),
    ("acl|setuser", Handler::Session(setuser)),
    ("acl|users", Handler::Session(users)),
    ("acl|whoami", Handler::Session(whoami)),
];

type Done = Result<Next, CommandError>;

/// ACL CAT [category]
fn cat(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    answer(session, id::ACL_CAT, args, out)
}

/// ACL DELUSER username [username ...]
///
/// Replies with the number of users that are gone; so are their connections.
fn deluser(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let change = change(id::ACL_DELUSER, args)?;
    make(session, change, out, |count, out| out.integer(count as i64))
}

/// ACL DRYRUN username command [arg ...]
fn dryrun(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    answer(session, id::ACL_DRYRUN, args, out)
}

/// ACL GENPASS [bits]
fn genpass(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    answer(session, id::ACL_GENPASS, args, out)
}

/// ACL GETUSER username
fn getuser(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    answer(session, id::ACL_GETUSER, args, out)
}

/// ACL HELP
fn help(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    answer(session, id::ACL_HELP, args, out)
}

/// ACL LIST
fn list(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    answer(session, id::ACL_LIST, args, out)
}

/// ACL LOAD
///
/// In a cluster: takes in what etcd has at this moment.
fn load(session: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    let server = session.server.clone();
    if server.is_cluster() {
        return Ok(Next::Work(Box::new(move |out| {
            match server.refresh_users() {
                Ok(()) => out.ok(),
                Err(line) => out.error(line),
            }
        })));
    }
    let file = acl_file(session)?;
    Ok(Next::Work(Box::new(move |out| {
        match server.reload_users(&file) {
            Ok(()) => out.ok(),
            Err(error) => out.error(format!("ERR {error}")),
        }
    })))
}

/// ACL LOG [count | RESET]
fn log(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    answer(session, id::ACL_LOG, args, out)
}

/// ACL SAVE
///
/// In a cluster users are never unsaved.
fn save(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if session.server.is_cluster() {
        out.ok();
        return Ok(Next::Continue);
    }
    let file = acl_file(session)?;
    let server = session.server.clone();
    Ok(Next::Work(Box::new(move |out| {
        match server.save_users(&file) {
            Ok(()) => out.ok(),
            Err(error) => {
                tracing::warn!(%error, file, "ACL SAVE failed");
                out.error(
                    "ERR There was an error trying to save the ACLs. Please check the server logs \
                     for more information",
                );
            }
        }
    })))
}

/// ACL SETUSER username [rule ...]
///
/// All rules or none. Who listens to what is taken away is disconnected.
fn setuser(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let change = change(id::ACL_SETUSER, args)?;
    make(session, change, out, |_, out| out.ok())
}

/// ACL USERS
fn users(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    answer(session, id::ACL_USERS, args, out)
}

/// ACL WHOAMI
fn whoami(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    answer(session, id::ACL_WHOAMI, args, out)
}

fn answer(
    session: &mut Session,
    command: CommandId,
    args: &Args<'_>,
    out: &mut ReplyWriter,
) -> Done {
    let answered = acl::answer(command, &session.server.acl, &session.account, args, out);
    let line = |line: Vec<u8>| CommandError::line(String::from_utf8_lossy(&line));
    answered.map_err(line)?;
    Ok(Next::Continue)
}

fn change(command: CommandId, args: &Args<'_>) -> Result<Change, CommandError> {
    Change::read(command, args).map_err(CommandError::fixed)
}

/// Makes a change: here, or in a cluster for all of it, which takes a while.
fn make(
    session: &mut Session,
    change: Change,
    out: &mut ReplyWriter,
    reply: impl Fn(usize, &mut ReplyWriter) + Send + 'static,
) -> Done {
    let server = session.server.clone();
    let answer = move |server: &Server, out: &mut ReplyWriter| {
        server.change_users(&change).map(|count| reply(count, out))
    };
    if !server.is_cluster() {
        answer(&server, out).map_err(CommandError::line)?;
        return Ok(Next::Continue);
    }
    Ok(Next::Work(Box::new(move |out| {
        if let Err(line) = answer(&server, out) {
            out.error(line);
        }
    })))
}

fn acl_file(session: &Session) -> Result<String, CommandError> {
    session.server.acl_file().ok_or(CommandError::fixed(
        "ERR This Redis instance is not configured to use an ACL file. You may want to specify \
         users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a \
         Redis configuration file set) in order to store users in the Redis configuration.",
    ))
}
