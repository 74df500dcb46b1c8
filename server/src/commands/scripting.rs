//! EVAL and SCRIPT. Wire side only: how scripts run is `scripting`.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::arguments::{integer, is};
use super::{Handler, container, help, subcommand_syntax};
use crate::net::Debugging;
use crate::net::session::{Next, Session};
use crate::scripting::{self, Call, running, sha1};
use crate::txn::{CommandError, Txn};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("eval", Handler::Write(eval)),
    ("eval_ro", Handler::Write(eval_ro)),
    ("evalsha", Handler::Write(evalsha)),
    ("evalsha_ro", Handler::Write(evalsha_ro)),
    ("script", Handler::Session(container)),
    ("script|debug", Handler::Session(script_debug)),
    ("script|exists", Handler::Session(script_exists)),
    ("script|flush", Handler::Session(script_flush)),
    ("script|help", Handler::Session(script_help)),
    ("script|kill", Handler::Session(script_kill)),
    ("script|load", Handler::Session(script_load)),
];

type Done = Result<Next, CommandError>;

/// EVAL script numkeys [key ...] [arg ...]
fn eval(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), CommandError> {
    run_text(txn, args, out, false)
}

/// EVAL_RO script numkeys [key ...] [arg ...]
///
/// Runs in the writer all the same: only there may a script take its time.
fn eval_ro(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), CommandError> {
    run_text(txn, args, out, true)
}

/// EVALSHA sha1 numkeys [key ...] [arg ...]
fn evalsha(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), CommandError> {
    run_known(txn, args, out, false)
}

/// EVALSHA_RO sha1 numkeys [key ...] [arg ...]
fn evalsha_ro(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
) -> Result<(), CommandError> {
    run_known(txn, args, out, true)
}

fn run_text(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
    read_only: bool,
) -> Result<(), CommandError> {
    let keys = number_of_keys(args, integer(args.get(2))?)?;
    let call = Call {
        args: *args,
        keys,
        read_only,
    };
    let sha1 = sha1::hex(args.get(1));
    scripting::run_script(txn, &sha1, Some(args.get(1)), call, out)?;
    Ok(())
}

fn run_known(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
    read_only: bool,
) -> Result<(), CommandError> {
    let Some(sha1) = sha1::from_client(args.get(1)) else {
        return Err(NO_SCRIPT);
    };
    let keys = number_of_keys(args, integer(args.get(2))?)?;
    let call = Call {
        args: *args,
        keys,
        read_only,
    };
    scripting::run_script(txn, &sha1, None, call, out)?;
    Ok(())
}

const NO_SCRIPT: CommandError =
    CommandError::fixed("NOSCRIPT No matching script. Please use EVAL.");

/// The number of keys behind the third argument, checked against what is there.
pub(super) fn number_of_keys(args: &Args<'_>, number: i64) -> Result<usize, CommandError> {
    match usize::try_from(number) {
        Ok(keys) if keys <= args.len() - 3 => Ok(keys),
        Ok(_) => Err(CommandError::fixed(
            "ERR Number of keys can't be greater than number of args",
        )),
        Err(_) => Err(CommandError::fixed("ERR Number of keys can't be negative")),
    }
}

/// The index of a database, as SELECT reads it within a script.
pub(crate) fn database(arg: &[u8]) -> Result<usize, CommandError> {
    super::arguments::database(arg)
}

/// SCRIPT LOAD script
fn script_load(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.bulk(&scripting::load_script(args.get(2))?);
    Ok(Next::Continue)
}

/// SCRIPT EXISTS sha1 [sha1 ...]
fn script_exists(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.array(args.len() - 2);
    for sha1 in args.iter().skip(2) {
        out.integer(i64::from(scripting::knows_script(sha1)));
    }
    Ok(Next::Continue)
}

/// SCRIPT FLUSH [ASYNC | SYNC]
fn script_flush(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let known = |word: &[u8]| is(word, "SYNC") || is(word, "ASYNC");
    if args.len() > 3 || args.try_get(2).is_some_and(|word| !known(word)) {
        return Err(CommandError::fixed(
            "ERR SCRIPT FLUSH only support SYNC|ASYNC option",
        ));
    }
    scripting::forget_scripts();
    out.ok();
    Ok(Next::Continue)
}

/// SCRIPT KILL
fn script_kill(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    running::kill(true)?;
    out.ok();
    Ok(Next::Continue)
}

/// SCRIPT DEBUG YES | SYNC | NO
///
/// What is debugged after YES changes nothing; after SYNC it has the writer.
fn script_debug(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if !out.is_empty() {
        return Err(CommandError::fixed(
            "ERR SCRIPT DEBUG must be called outside a pipeline",
        ));
    }
    session.debugging = match args.get(2) {
        word if is(word, "NO") => None,
        word if is(word, "YES") => Some(Debugging::Apart),
        word if is(word, "SYNC") && session.server.is_cluster() => {
            return Err(CommandError::fixed(
                "ERR SCRIPT DEBUG SYNC would hold up a whole group of the cluster; use SCRIPT \
                 DEBUG YES",
            ));
        }
        word if is(word, "SYNC") => Some(Debugging::Sync),
        _ => {
            return Err(CommandError::fixed("ERR Use SCRIPT DEBUG YES/SYNC/NO"));
        }
    };
    out.ok();
    Ok(Next::Continue)
}

/// SCRIPT HELP
fn script_help(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if args.len() != 2 {
        return Err(subcommand_syntax(args, "script|help"));
    }
    help(out, "SCRIPT", HELP);
    Ok(Next::Continue)
}

const HELP: &[&str] = &[
    "DEBUG (YES|SYNC|NO)",
    "    Set the debug mode for subsequent scripts executed.",
    "EXISTS <sha1> [<sha1> ...]",
    "    Return information about the existence of the scripts in the script cache.",
    "FLUSH [ASYNC|SYNC]",
    "    Flush the Lua scripts cache. Very dangerous on replicas.",
    "    When called without the optional mode argument, the behavior is determined by the",
    "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the scripts cache.",
    "    * SYNC: Synchronously flush the scripts cache.",
    "KILL",
    "    Kill the currently executing Lua script.",
    "LOAD <script>",
    "    Load a script into the scripts cache without executing it.",
];

#[cfg(test)]
#[path = "scripting_tests.rs"]
mod tests;
