//! FCALL and FUNCTION. Wire side only: how functions run is `scripting`.

use cairn_protocol::command::glob_match;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::arguments::{integer, is};
use super::scripting::number_of_keys;
use super::{Handler, container, help, subcommand_syntax};
use crate::net::session::{Next, Session};
use crate::scripting::registry::{Asker, Function, Library, Policy};
use crate::scripting::{self, Call, ScriptFlags, dump, running};
use crate::txn::{CommandError, Txn};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("fcall", Handler::Write(fcall)),
    ("fcall_ro", Handler::Write(fcall_ro)),
    ("function", Handler::Session(container)),
    ("function|delete", Handler::Session(function_delete)),
    ("function|dump", Handler::Session(function_dump)),
    ("function|flush", Handler::Session(function_flush)),
    ("function|help", Handler::Session(function_help)),
    ("function|kill", Handler::Session(function_kill)),
    ("function|list", Handler::Session(function_list)),
    ("function|load", Handler::Session(function_load)),
    ("function|restore", Handler::Session(function_restore)),
    ("function|stats", Handler::Session(function_stats)),
];

type Done = Result<Next, CommandError>;

/// FCALL function numkeys [key ...] [arg ...]
fn fcall(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), CommandError> {
    call(txn, args, out, false)
}

/// FCALL_RO function numkeys [key ...] [arg ...]
fn fcall_ro(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), CommandError> {
    call(txn, args, out, true)
}

fn call(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
    read_only: bool,
) -> Result<(), CommandError> {
    let libraries = scripting::libraries();
    let Some(function) = libraries.function(args.get(1)) else {
        return Err(CommandError::fixed("ERR Function not found"));
    };
    let number =
        integer(args.get(2)).map_err(|_| CommandError::fixed("ERR Bad number of keys provided"))?;
    let call = Call {
        args: *args,
        keys: number_of_keys(args, number)?,
        read_only,
    };
    scripting::run_function(txn, function, call, out)?;
    Ok(())
}

/// Work that may wait for the disk; its error is the reply.
fn work(run: impl FnOnce(&mut ReplyWriter) -> Result<(), String> + Send + 'static) -> Next {
    Next::Work(Box::new(move |out| {
        if let Err(text) = run(out) {
            out.error(with_code(&text));
        }
    }))
}

/// The same for a change of the libraries, of which replicas are told too.
/// `told` is what they do. In a cluster they are told where each node follows the
/// change, in the one order of all changes.
fn change(
    session: &Session,
    told: impl FnOnce() -> Vec<Vec<u8>> + Send + 'static,
    run: impl FnOnce(&mut ReplyWriter) -> Result<(), String> + Send + 'static,
) -> Next {
    let (server, db) = (session.server.clone(), session.db);
    work(move |out| {
        let feed = &server.announcer.feed;
        let _in_order = feed.hold_functions();
        run(out)?;
        if feed.is_recording() && !server.is_cluster() {
            let words = [b"FUNCTION".to_vec()].into_iter().chain(told());
            let words: Vec<Vec<u8>> = words.collect();
            feed.tell_functions(db, words.iter().map(Vec::as_slice));
        }
        Ok(())
    })
}

/// Only a proxy's clients are known to ask one node alone.
fn asker(session: &Session) -> Asker {
    match session.client.is_relayed() {
        true => Asker::Once,
        false => Asker::EachNode,
    }
}

/// All libraries as they are now, which does no harm twice.
fn all_of_them() -> Vec<Vec<u8>> {
    let payload = dump::encode(&scripting::libraries());
    vec![b"RESTORE".to_vec(), payload, b"FLUSH".to_vec()]
}

/// An error text with the code ERR, unless it has one.
fn with_code(text: &str) -> String {
    match text.starts_with("ERR ") || text.starts_with("UNKNOWN ") {
        true => text.to_owned(),
        false => format!("ERR {text}"),
    }
}

/// FUNCTION LOAD [REPLACE] function-code
fn function_load(session: &mut Session, args: &Args<'_>, _: &mut ReplyWriter) -> Done {
    let last = args.len() - 1;
    let mut replace = false;
    for option in args.iter().take(last).skip(2) {
        if !is(option, "REPLACE") {
            let shown = super::arguments::shown(option);
            let line = format!("ERR Unknown option given: {shown}");
            return Err(CommandError::line(line));
        }
        replace = true;
    }
    let code = args.get(last).to_vec();
    let told = code.clone();
    let told = || vec![b"LOAD".to_vec(), b"REPLACE".to_vec(), told];
    let asker = asker(session);
    Ok(change(session, told, move |out| {
        out.bulk(&scripting::load_library(&code, replace, asker)?);
        Ok(())
    }))
}

/// FUNCTION DELETE library
fn function_delete(session: &mut Session, args: &Args<'_>, _: &mut ReplyWriter) -> Done {
    let name = args.get(2).to_vec();
    let asker = asker(session);
    Ok(change(session, all_of_them, move |out| {
        scripting::delete_library(&name, asker)?;
        out.ok();
        Ok(())
    }))
}

/// FUNCTION FLUSH [ASYNC | SYNC]
fn function_flush(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if args.len() > 3 {
        return Err(subcommand_syntax(args, "function|flush"));
    }
    let known = |word: &[u8]| is(word, "SYNC") || is(word, "ASYNC");
    if args.try_get(2).is_some_and(|word| !known(word)) {
        return Err(CommandError::fixed(
            "ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
        ));
    }
    if scripting::libraries().iter().len() == 0 {
        out.ok();
        return Ok(Next::Continue);
    }
    let told = || vec![b"FLUSH".to_vec()];
    Ok(change(session, told, |out| {
        scripting::forget_libraries()?;
        out.ok();
        Ok(())
    }))
}

/// FUNCTION DUMP
fn function_dump(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.bulk_bytes(dump::encode(&scripting::libraries()).into());
    Ok(Next::Continue)
}

/// FUNCTION RESTORE serialized-value [FLUSH | APPEND | REPLACE]
fn function_restore(session: &mut Session, args: &Args<'_>, _: &mut ReplyWriter) -> Done {
    if args.len() > 4 {
        return Err(subcommand_syntax(args, "function|restore"));
    }
    let policy = match args.try_get(3) {
        None => Policy::Append,
        Some(word) if is(word, "APPEND") => Policy::Append,
        Some(word) if is(word, "REPLACE") => Policy::Replace,
        Some(word) if is(word, "FLUSH") => Policy::Flush,
        Some(_) => {
            return Err(CommandError::fixed(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
    };
    let payload = args.get(2).to_vec();
    let asker = asker(session);
    Ok(change(session, all_of_them, move |out| {
        scripting::restore_libraries(&payload, policy, asker)?;
        out.ok();
        Ok(())
    }))
}

/// FUNCTION KILL
fn function_kill(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    running::kill(false)?;
    out.ok();
    Ok(Next::Continue)
}

/// FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]
fn function_list(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let mut with_code = false;
    let mut pattern = None;
    let mut at = 2;
    while let Some(word) = args.try_get(at) {
        at += 1;
        if !with_code && is(word, "WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && is(word, "LIBRARYNAME") {
            let Some(given) = args.try_get(at) else {
                return Err(CommandError::fixed(
                    "ERR library name argument was not given",
                ));
            };
            pattern = Some(given);
            at += 1;
        } else {
            let shown = super::arguments::shown(word);
            return Err(CommandError::line(format!("ERR Unknown argument {shown}")));
        }
    }
    let libraries = scripting::libraries();
    let shown = |library: &&std::sync::Arc<Library>| {
        pattern.is_none_or(|pattern| glob_match(pattern, &library.name, true))
    };
    let libraries: Vec<_> = libraries.iter().filter(shown).collect();
    out.array(libraries.len());
    for library in libraries {
        write_library(library, with_code, out);
    }
    Ok(Next::Continue)
}

fn write_library(library: &Library, with_code: bool, out: &mut ReplyWriter) {
    out.map(if with_code { 4 } else { 3 });
    out.bulk(b"library_name");
    out.bulk(&library.name);
    out.bulk(b"engine");
    out.bulk(b"LUA");
    out.bulk(b"functions");
    out.array(library.functions.len());
    for function in &library.functions {
        write_function(function, out);
    }
    if with_code {
        out.bulk(b"library_code");
        out.bulk(&library.code);
    }
}

fn write_function(function: &Function, out: &mut ReplyWriter) {
    out.map(3);
    out.bulk(b"name");
    out.bulk(&function.name);
    out.bulk(b"description");
    out.bulk_or_null(function.description.as_deref());
    out.bulk(b"flags");
    let flags: Vec<&str> = ScriptFlags::NAMES
        .iter()
        .filter(|(flag, _)| function.flags.has(*flag))
        .map(|(_, name)| *name)
        .collect();
    out.set(flags.len());
    flags.iter().for_each(|name| out.simple(name));
}

/// FUNCTION STATS
fn function_stats(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let running = running::snapshot()?;
    out.map(2);
    out.bulk(b"running_script");
    match running {
        None => out.null(),
        Some(script) => {
            out.map(3);
            out.bulk(b"name");
            out.bulk(&script.name);
            out.bulk(b"command");
            out.array(script.command.len());
            script.command.iter().for_each(|word| out.bulk(word));
            out.bulk(b"duration_ms");
            out.integer(script.duration_ms as i64);
        }
    }
    let libraries = scripting::libraries();
    out.bulk(b"engines");
    out.map(1);
    out.bulk(b"LUA");
    out.map(2);
    out.bulk(b"libraries_count");
    out.integer(libraries.iter().len() as i64);
    out.bulk(b"functions_count");
    out.integer(libraries.functions() as i64);
    Ok(Next::Continue)
}

/// FUNCTION HELP
fn function_help(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    help(out, "FUNCTION", HELP);
    Ok(Next::Continue)
}

const HELP: &[&str] = &[
    "LOAD [REPLACE] <FUNCTION CODE>",
    "    Create a new library with the given library name and code.",
    "DELETE <LIBRARY NAME>",
    "    Delete the given library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Return general information on all the libraries:",
    "    * Library name",
    "    * The engine used to run the Library",
    "    * Library description",
    "    * Functions list",
    "    * Library code (if WITHCODE is given)",
    "    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
    "STATS",
    "    Return information about the current function running:",
    "    * Function name",
    "    * Command used to run the function",
    "    * Duration in MS that the function is running",
    "    If no function is running, return nil",
    "    In addition, returns a list of available engines.",
    "KILL",
    "    Kill the current running function.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all the libraries.",
    "    When called without the optional mode argument, the behavior is determined by the",
    "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the libraries.",
    "    * SYNC: Synchronously flush the libraries.",
    "DUMP",
    "    Return a serialized payload representing the current libraries, can be restored using \
     FUNCTION RESTORE command",
    "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
    "    Restore the libraries represented by the given payload, it is possible to give a restore \
     policy to",
    "    control how to handle existing libraries (default APPEND):",
    "    * FLUSH: delete all existing libraries.",
    "    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
    "    * REPLACE: appends the restored libraries to the existing libraries, On collision, \
     replace the old",
    "      libraries with the new libraries (notice that even on this option there is a chance \
     of failure",
    "      in case of functions name collision with another library).",
];
