//! What ACL answers by the users and the log alone: all but what changes them.

use std::time::{SystemTime, UNIX_EPOCH};

use super::log::LogEntry;
use super::registry::{Account, Registry};
use super::selector::{Denied, Selector};
use crate::command::{
    self, AclCategories, CommandId, Resolved, help, id, resolve, subcommand_syntax_error,
    wrong_arity_error,
};
use crate::resp::number::parse_i64;
use crate::resp::{Args, ReplyWriter};

/// Bits of ACL GENPASS without an argument.
const PASSWORD_BITS: i64 = 256;
const MAX_PASSWORD_BITS: i64 = 4096;
/// Entries that ACL LOG shows unless it is told.
const LOG_SHOWN: i64 = 10;
/// Bytes of a wrong category that are told.
const SHOWN_CATEGORY: usize = 128;

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

type Done = Result<(), Vec<u8>>;

/// Answers a subcommand of ACL that somebody logged in as `me` asks; false for
/// one that changes, loads or saves users.
///
/// # Errors
/// The error line.
pub fn answer(
    command: CommandId,
    registry: &Registry,
    me: &Account,
    args: &Args<'_>,
    out: &mut ReplyWriter,
) -> Result<bool, Vec<u8>> {
    match command {
        id::ACL_CAT => cat(args, out)?,
        id::ACL_DRYRUN => dryrun(registry, args, out)?,
        id::ACL_GENPASS => genpass(args, out)?,
        id::ACL_GETUSER => getuser(registry, args, out),
        id::ACL_HELP => help(out, "ACL", HELP),
        id::ACL_LIST => bulks(registry, out, |account| account.user().line()),
        id::ACL_LOG => log(registry, args, out)?,
        id::ACL_USERS => bulks(registry, out, |account| account.name().to_vec()),
        id::ACL_WHOAMI => out.bulk(me.name()),
        _ => return Ok(false),
    }
    Ok(true)
}

/// ACL CAT [category]
fn cat(args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let names: Vec<&str> = match args.try_get(2) {
        _ if args.len() > 3 => return Err(subcommand_syntax_error(id::ACL_CAT.spec(), args)),
        None => AclCategories::NAMES.iter().map(|(_, name)| *name).collect(),
        Some(name) => {
            let category = AclCategories::from_name(name).ok_or_else(|| {
                let name = String::from_utf8_lossy(&name[..name.len().min(SHOWN_CATEGORY)]);
                one_line(&format!("ERR Unknown category '{name}'"))
            })?;
            command::all()
                .filter(|spec| spec.categories.contains(category))
                .map(|spec| spec.name)
                .collect()
        }
    };
    out.array(names.len());
    names.iter().for_each(|name| out.bulk(name.as_bytes()));
    Ok(())
}

/// ACL DRYRUN username command [arg ...]
fn dryrun(registry: &Registry, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let shown = |at: usize| String::from_utf8_lossy(args.get(at)).into_owned();
    let account = registry
        .find(args.get(2))
        .ok_or_else(|| one_line(&format!("ERR User '{}' not found", shown(2))))?;
    let request = args.slice(3, args.len());
    let Resolved::Command(spec) = resolve(&request) else {
        return Err(one_line(&format!("ERR Command '{}' not found", shown(3))));
    };
    if !spec.arity_accepts(request.len()) {
        return Err(wrong_arity_error(spec).into_bytes());
    }
    let refused = match account.user().check(spec, &request) {
        Ok(()) => {
            out.ok();
            return Ok(());
        }
        Err(Denied::Command) => format!("run the '{}' command", spec.name),
        Err(Denied::Key(at)) => format!("access the '{}' key", shown(at + 3)),
        Err(Denied::Channel(at)) => format!("access the '{}' channel", shown(at + 3)),
    };
    out.bulk(format!("This user has no permissions to {refused}").as_bytes());
    Ok(())
}

/// ACL GENPASS [bits]
fn genpass(args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let bits = match args.try_get(2) {
        _ if args.len() > 3 => return Err(subcommand_syntax_error(id::ACL_GENPASS.spec(), args)),
        Some(bits) => parse_i64(bits).ok_or(NOT_AN_INTEGER)?,
        None => PASSWORD_BITS,
    };
    if !(1..=MAX_PASSWORD_BITS).contains(&bits) {
        let line = "ERR ACL GENPASS argument must be the number of bits for the output password, \
                    a positive number up to 4096";
        return Err(line.into());
    }
    let digits = (bits as usize).div_ceil(4);
    let digit = |_| char::from(b"0123456789abcdef"[rand::random_range(0..16)]);
    let password: String = (0..digits).map(digit).collect();
    out.bulk(password.as_bytes());
    Ok(())
}

/// ACL GETUSER username
fn getuser(registry: &Registry, args: &Args<'_>, out: &mut ReplyWriter) {
    let Some(account) = registry.find(args.get(2)) else {
        return out.null();
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
}

fn describe(selector: &Selector, out: &mut ReplyWriter) {
    out.bulk(b"commands");
    out.bulk(selector.describe_commands().as_bytes());
    out.bulk(b"keys");
    out.bulk(&selector.describe_keys());
    out.bulk(b"channels");
    out.bulk(&selector.describe_channels());
}

/// ACL LOG [count | RESET]
fn log(registry: &Registry, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let count = match args.try_get(2) {
        _ if args.len() > 3 => return Err(subcommand_syntax_error(id::ACL_LOG.spec(), args)),
        Some(word) if word.eq_ignore_ascii_case(b"reset") => {
            registry.clear_log();
            out.ok();
            return Ok(());
        }
        Some(count) => parse_i64(count).ok_or(NOT_AN_INTEGER)?,
        None => LOG_SHOWN,
    };
    let count = usize::try_from(count).unwrap_or(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_millis() as u64);
    let entries = registry.newest_refusals(count);
    out.array(entries.len());
    entries.iter().for_each(|entry| show(entry, now, out));
    Ok(())
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

/// Something of every user.
fn bulks(registry: &Registry, out: &mut ReplyWriter, show: impl Fn(&Account) -> Vec<u8>) {
    let accounts = registry.all();
    out.array(accounts.len());
    accounts.iter().for_each(|account| out.bulk(&show(account)));
}

/// What a client sent may be part of an error.
fn one_line(text: &str) -> Vec<u8> {
    text.replace(['\r', '\n'], " ").into_bytes()
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
