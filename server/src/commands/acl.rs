//! ACL: users, what they may do, and what was refused to them.

use std::time::{SystemTime, UNIX_EPOCH};

use cairn_protocol::acl::{Account, Denied, LogEntry, Selector, has_space_or_nul};
use cairn_protocol::command::{self, AclCategories, Resolved, resolve};
use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::arguments::is;
use super::{Handler, help, subcommand_syntax};
use crate::net::session::{Next, Session};
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("acl", Handler::Session(super::container)),
    ("acl|cat", Handler::Session(cat)),
    ("acl|deluser", Handler::Session(deluser)),
    ("acl|dryrun", Handler::Session(dryrun)),
    ("acl|genpass", Handler::Session(genpass)),
    ("acl|getuser", Handler::Session(getuser)),
    ("acl|help", Handler::Session(acl_help)),
    ("acl|list", Handler::Session(list)),
    ("acl|load", Handler::Session(load)),
    ("acl|log", Handler::Session(log)),
    ("acl|save", Handler::Session(save)),
    ("acl|setuser", Handler::Session(setuser)),
    ("acl|users", Handler::Session(users)),
    ("acl|whoami", Handler::Session(whoami)),
];

type Done = Result<Next, CommandError>;

/// Bits of ACL GENPASS without an argument.
const PASSWORD_BITS: i64 = 256;
const MAX_PASSWORD_BITS: i64 = 4096;
/// Entries that ACL LOG shows unless it is told.
const LOG_SHOWN: i64 = 10;
/// Bytes of a wrong category that are told.
const SHOWN_CATEGORY: usize = 128;

/// ACL CAT [category]
fn cat(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    match args.len() {
        2 => {
            out.array(AclCategories::NAMES.len());
            AclCategories::NAMES
                .iter()
                .for_each(|(_, name)| out.bulk(name.as_bytes()));
        }
        3 => {
            let category = AclCategories::from_name(args.get(2)).ok_or_else(|| {
                let name = args.get(2);
                let name = String::from_utf8_lossy(&name[..name.len().min(SHOWN_CATEGORY)]);
                CommandError::line(format!("ERR Unknown category '{name}'"))
            })?;
            let names: Vec<&str> = command::all()
                .filter(|spec| spec.categories.contains(category))
                .map(|spec| spec.name)
                .collect();
            out.array(names.len());
            names.iter().for_each(|name| out.bulk(name.as_bytes()));
        }
        _ => return Err(subcommand_syntax(args, "acl|cat")),
    }
    Ok(Next::Continue)
}

/// ACL DELUSER username [username ...]
///
/// Replies with the number of users that are gone; so are their connections.
fn deluser(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let names = || args.iter().skip(2);
    if names().any(|name| name == cairn_protocol::acl::DEFAULT_USER) {
        return Err(CommandError::fixed(
            "ERR The 'default' user cannot be removed",
        ));
    }
    let server = &session.server;
    let gone: Vec<_> = names().filter_map(|name| server.acl.delete(name)).collect();
    server.expel(&gone);
    out.integer(gone.len() as i64);
    Ok(Next::Continue)
}

/// ACL DRYRUN username command [arg ...]
fn dryrun(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let shown = |at: usize| String::from_utf8_lossy(args.get(at)).into_owned();
    let account = session
        .server
        .acl
        .find(args.get(2))
        .ok_or_else(|| CommandError::line(format!("ERR User '{}' not found", shown(2))))?;
    let request = args.slice(3, args.len());
    let Resolved::Command(spec) = resolve(&request) else {
        let name = shown(3);
        return Err(CommandError::line(format!(
            "ERR Command '{name}' not found"
        )));
    };
    if !spec.arity_accepts(request.len()) {
        return Err(CommandError::line(command::wrong_arity_error(spec)));
    }
    let refused = match account.user().check(spec, &request) {
        Ok(()) => {
            out.ok();
            return Ok(Next::Continue);
        }
        Err(Denied::Command) => format!("run the '{}' command", spec.name),
        Err(Denied::Key(at)) => format!("access the '{}' key", shown(at + 3)),
        Err(Denied::Channel(at)) => format!("access the '{}' channel", shown(at + 3)),
    };
    out.bulk(format!("This user has no permissions to {refused}").as_bytes());
    Ok(Next::Continue)
}

/// ACL GENPASS [bits]
fn genpass(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let bits = match args.try_get(2) {
        Some(_) if args.len() > 3 => return Err(subcommand_syntax(args, "acl|genpass")),
        Some(bits) => parse_i64(bits).ok_or(CommandError::NOT_AN_INTEGER)?,
        None => PASSWORD_BITS,
    };
    if !(1..=MAX_PASSWORD_BITS).contains(&bits) {
        return Err(CommandError::fixed(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a \
             positive number up to 4096",
        ));
    }
    let digits = (bits as usize).div_ceil(4);
    let digit = |_| char::from(b"0123456789abcdef"[rand::random_range(0..16)]);
    let password: String = (0..digits).map(digit).collect();
    out.bulk(password.as_bytes());
    Ok(Next::Continue)
}

/// ACL GETUSER username
fn getuser(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let Some(account) = session.server.acl.find(args.get(2)) else {
        out.null();
        return Ok(Next::Continue);
    };
    let user = account.user();
    out.map(6);
    out.bulk(b"flags");
    let flags = user.flags();
    out.set(flags.len());
    flags.iter().for_each(|flag| out.bulk(flag.as_bytes()));
    out.bulk(b"passwords");
    out.array(user.passwords().len());
    let hashes = user.passwords().iter();
    hashes.for_each(|hash| out.bulk(hash.as_bytes()));
    let (root, others) = user
        .selectors()
        .split_first()
        .expect("a user has its root selector");
    describe(root, out);
    out.bulk(b"selectors");
    out.array(others.len());
    for selector in others {
        out.map(3);
        describe(selector, out);
    }
    Ok(Next::Continue)
}

fn describe(selector: &Selector, out: &mut ReplyWriter) {
    out.bulk(b"commands");
    out.bulk(selector.describe_commands().as_bytes());
    out.bulk(b"keys");
    out.bulk(&selector.describe_keys());
    out.bulk(b"channels");
    out.bulk(&selector.describe_channels());
}

/// ACL HELP
fn acl_help(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    help(out, "ACL", HELP);
    Ok(Next::Continue)
}

/// ACL LIST
fn list(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    bulks(session, out, |account| account.user().line());
    Ok(Next::Continue)
}

/// ACL LOAD
fn load(session: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    let file = acl_file(session)?;
    let server = session.server.clone();
    Ok(Next::Work(Box::new(move |out| {
        match server.reload_users(&file) {
            Ok(()) => out.ok(),
            Err(error) => out.error(format!("ERR {error}")),
        }
    })))
}

/// ACL LOG [count | RESET]
fn log(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let count = match args.try_get(2) {
        Some(_) if args.len() > 3 => return Err(subcommand_syntax(args, "acl|log")),
        Some(word) if is(word, "RESET") => {
            session.server.acl.clear_log();
            out.ok();
            return Ok(Next::Continue);
        }
        Some(count) => parse_i64(count).ok_or(CommandError::NOT_AN_INTEGER)?,
        None => LOG_SHOWN,
    };
    let count = usize::try_from(count).unwrap_or(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_millis() as u64);
    let entries = session.server.acl.newest_refusals(count);
    out.array(entries.len());
    entries.iter().for_each(|entry| show(entry, now, out));
    Ok(Next::Continue)
}

fn show(entry: &LogEntry, now: u64, out: &mut ReplyWriter) {
    out.map(7);
    out.bulk(b"count");
    out.integer(entry.count as i64);
    let texts: [(&str, &[u8]); 4] = [
        ("reason", entry.reason.as_bytes()),
        ("context", entry.context.name().as_bytes()),
        ("object", &entry.object),
        ("username", &entry.username),
    ];
    for (name, text) in texts {
        out.bulk(name.as_bytes());
        out.bulk(text);
    }
    out.bulk(b"age-seconds");
    out.double(now.saturating_sub(entry.at) as f64 / 1000.0);
    out.bulk(b"client-info");
    out.bulk(entry.client.as_bytes());
}

/// ACL SAVE
fn save(session: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
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
    let name = args.get(2);
    if has_space_or_nul(name) {
        return Err(CommandError::fixed(
            "ERR Usernames can't contain spaces or null characters",
        ));
    }
    let rules: Vec<&[u8]> = args.iter().skip(3).collect();
    let server = &session.server;
    let revoked = server.acl.set(name, &rules);
    let revoked = revoked.map_err(|why| CommandError::line(format!("ERR {}", one_line(&why))))?;
    if let Some(revoked) = revoked {
        server.revoke(&revoked);
    }
    out.ok();
    Ok(Next::Continue)
}

/// What a client sent may be part of an error.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// ACL USERS
fn users(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    bulks(session, out, |account| account.name().to_vec());
    Ok(Next::Continue)
}

/// ACL WHOAMI
fn whoami(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.bulk(session.account.name());
    Ok(Next::Continue)
}

/// Something of every user.
fn bulks(session: &Session, out: &mut ReplyWriter, show: impl Fn(&Account) -> Vec<u8>) {
    let accounts = session.server.acl.all();
    out.array(accounts.len());
    accounts.iter().for_each(|account| out.bulk(&show(account)));
}

fn acl_file(session: &Session) -> Result<String, CommandError> {
    session.server.acl_file().ok_or(CommandError::fixed(
        "ERR This Redis instance is not configured to use an ACL file. You may want to specify \
         users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a \
         Redis configuration file set) in order to store users in the Redis configuration.",
    ))
}

const HELP: &[&str] = &[
    "CAT [<category>]",
    "    List all commands that belong to <category>, or all command categories",
    "    when no category is specified.",
    "DELUSER <username> [<username> ...]",
    "    Delete a list of users.",
    "DRYRUN <username> <command> [<arg> ...]",
    "    Returns whether the user can execute the given command without executing the command.",
    "GETUSER <username>",
    "    Get the user's details.",
    "GENPASS [<bits>]",
    "    Generate a secure 256-bit user password. The optional `bits` argument can",
    "    be used to specify a different size.",
    "LIST",
    "    Show users details in config file format.",
    "LOAD",
    "    Reload users from the ACL file.",
    "LOG [<count> | RESET]",
    "    Show the ACL log entries.",
    "SAVE",
    "    Save the current config to the ACL file.",
    "SETUSER <username> <attribute> [<attribute> ...]",
    "    Create or modify a user with the specified attributes.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
];
