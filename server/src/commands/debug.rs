//! DEBUG: for tests and for a look inside. Off unless `enable-debug-command`
//! says otherwise.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_protocol::resp::number::{parse_f64, parse_i64};
use cairn_protocol::resp::{Args, ReplyWriter, Requests, Version};

use super::digest;
use super::{Handler, help};
use crate::net::session::{Next, Session};
use crate::rdb::{self, Form};
use crate::replication::dump_file;
use crate::saves::flush_all;
use crate::server::{Home, Server};
use crate::txn::{CommandError, Txn};
use crate::types::{self, serial};

pub(super) const HANDLERS: &[(&str, Handler)] = &[("debug", Handler::Session(debug))];

type Done = Result<Next, CommandError>;

/// DEBUG SLEEP is cut at this many seconds.
const MAX_SLEEP: f64 = 3600.0;

/// DEBUG subcommand [argument ...]
fn debug(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if let Some(line) = refused(session) {
        return Err(CommandError::fixed(line));
    }
    match (args.get(1).to_ascii_lowercase().as_slice(), args.len()) {
        (b"help", 2) => help(out, "DEBUG", HELP),
        (b"change-repl-id", 2) => {
            session.server.renew_replication_id();
            out.ok();
        }
        (b"config-rewrite-force-all", 2) => return super::config::rewrite_file(session, true),
        (b"compact", 2) => return Ok(work(session, compact)),
        (b"digest", 2) => return Ok(work(session, write_digest)),
        (b"digest-value", _) => return Ok(digest_value(session, args)),
        (b"error", 3) => out.error(args.get(2)),
        (b"flush", 2) => return Ok(work(session, flush)),
        (b"htstats", 3) => htstats(session, args, out)?,
        // Everything was synced and is read from the disk again.
        (b"loadaof", _) => return Ok(work(session, reopen)),
        (b"populate", 3..=5) => return populate(session, args),
        (b"reload", _) => return reload(session, args),
        (b"log", 3) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(args.get(2)));
            out.ok();
        }
        (b"object", 3) => return Ok(object(session, args)),
        (b"segfault", 2) => {
            tracing::error!("DEBUG asks for a crash");
            // SAFETY: that is what was asked for.
            unsafe { libc::raise(libc::SIGSEGV) };
        }
        (b"panic" | b"oom" | b"assert", 2) => {
            tracing::error!("DEBUG asks for a crash");
            std::process::abort();
        }
        (b"protocol", 3) => protocol(args.get(2), out)?,
        (b"quicklist-packed-threshold", 3) => packed_threshold(args.get(2), out)?,
        (b"set-disable-deny-scripts", 3) => {
            let on = parse_i64(args.get(2)).unwrap_or(0) != 0;
            crate::scripting::running::allow_everything(on);
            out.ok();
        }
        (b"set-active-expire", 3) => {
            let on = parse_i64(args.get(2)).unwrap_or(0) != 0;
            let groups = session.server.groups();
            groups
                .iter()
                .for_each(|group| group.expiry_paused.store(!on, Ordering::Relaxed));
            out.ok();
        }
        (b"sleep", 3) => {
            // On the connection's own thread, which stops: that is its purpose.
            let seconds = parse_f64(args.get(2)).unwrap_or(0.0).clamp(0.0, MAX_SLEEP);
            std::thread::sleep(Duration::from_secs_f64(seconds));
            out.ok();
        }
        (b"stringmatch-test" | b"stringmatch-len", _) => match_at_random(out),
        (b"structsize", 2) => out.simple(format!("bits:{}", usize::BITS)),
        // Of no meaning here, and harmless.
        (b"aof-flush-sleep" | b"pause-cron" | b"set-skip-checksum-validation", 3)
        | (b"replybuffer", 4) => out.ok(),
        _ => return Err(super::subcommand_error(args, "DEBUG")),
    }
    Ok(Next::Continue)
}

/// Work on the server off the network threads; its error is the reply.
fn work(
    session: &Session,
    run: impl FnOnce(&Arc<Server>, &mut ReplyWriter) -> Result<(), String> + Send + 'static,
) -> Next {
    let server = session.server.clone();
    Next::Work(Box::new(move |out| {
        if let Err(why) = run(&server, out) {
            out.error(format!("ERR {why}"));
        }
    }))
}

/// DEBUG FLUSH: all memtables to files, all logs synced.
fn flush(server: &Arc<Server>, out: &mut ReplyWriter) -> Result<(), String> {
    flush_all(server)?;
    out.ok();
    Ok(())
}

/// DEBUG COMPACT: garbage by the state of now goes.
fn compact(server: &Arc<Server>, out: &mut ReplyWriter) -> Result<(), String> {
    flush_all(server)?;
    server
        .groups()
        .iter()
        .for_each(|group| group.store.compact());
    out.ok();
    Ok(())
}

/// DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]
///
/// The data set is saved to a file and read from the disk again. With NOSAVE it
/// is replaced by what the file has, with NOFLUSH that is added.
fn reload(session: &mut Session, args: &Args<'_>) -> Done {
    let (mut merge, mut flush, mut save) = (false, true, true);
    for option in args.iter().skip(2) {
        match option {
            o if o.eq_ignore_ascii_case(b"merge") => merge = true,
            o if o.eq_ignore_ascii_case(b"noflush") => flush = false,
            o if o.eq_ignore_ascii_case(b"nosave") => save = false,
            _ => {
                return Err(CommandError::fixed(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    Ok(work(session, move |server, out| {
        if save {
            dump_file::save(server).map_err(|e| e.to_string())?;
            if flush {
                // What would be read is what there is.
                return reopen(server, out);
            }
        }
        let loaded = match flush {
            true => clear(server),
            false => Ok(()),
        };
        let loaded = loaded.and_then(|()| dump_file::load(server, merge));
        loaded.map_err(|why| {
            tracing::error!(why, "an RDB file could not be loaded");
            "Error trying to load the RDB dump, check server logs.".to_owned()
        })?;
        out.ok();
        Ok(())
    }))
}

/// Nothing is left, functions neither.
fn clear(server: &Server) -> Result<(), String> {
    match &server.home {
        Home::Standalone(group) => crate::replication::empty(group),
        Home::Node(_) => Err("a node of a cluster loads no RDB file".to_owned()),
    }
}

/// DEBUG POPULATE count [prefix] [size]
fn populate(session: &mut Session, args: &Args<'_>) -> Done {
    /// Keys of one batch.
    const BATCH: usize = 1000;
    let number = |at: usize| super::arguments::integer(args.get(at)).map(|n| n.max(0) as usize);
    let count = number(2)?;
    let prefix = args.try_get(3).unwrap_or(b"key").to_vec();
    let size = match args.len() {
        5 => number(4)?,
        _ => 0,
    };
    if size
        > session
            .server
            .live
            .proto_max_bulk_len
            .load(Ordering::Relaxed)
    {
        return Err(CommandError::fixed("ERR the values would be too large"));
    }
    let db = session.db;
    Ok(work(session, move |server, out| {
        let batch = BATCH.min((4 << 20) / size.max(1) + 1);
        for first in (0..count).step_by(batch) {
            let mut requests = Requests::default();
            for n in first..count.min(first + batch) {
                let key = [&prefix[..], format!(":{n}").as_bytes()].concat();
                let mut value = format!("value:{n}").into_bytes();
                if size > 0 {
                    value.resize(size, 0);
                }
                requests.push_owned([&b"SETNX"[..], &key, &value]);
            }
            match &server.home {
                Home::Standalone(group) => group.run_own(db, requests)?,
                Home::Node(_) => return Err("only a standalone server is populated".into()),
            }
        }
        out.ok();
        Ok(())
    }))
}

/// The caches are emptied, so that everything comes from the disk.
fn reopen(server: &Arc<Server>, out: &mut ReplyWriter) -> Result<(), String> {
    flush_all(server)?;
    server
        .groups()
        .iter()
        .for_each(|group| group.store.cache.clear());
    out.ok();
    Ok(())
}

fn write_digest(server: &Arc<Server>, out: &mut ReplyWriter) -> Result<(), String> {
    let digest = digest::of_all(server).map_err(|e| e.to_string())?;
    out.simple(digest.to_string());
    Ok(())
}

/// DEBUG DIGEST-VALUE key [key ...]
fn digest_value(session: &Session, args: &Args<'_>) -> Next {
    let keys: Vec<Vec<u8>> = args.iter().skip(2).map(<[u8]>::to_vec).collect();
    let db = session.db;
    work(session, move |server, out| {
        let mut found = Vec::new();
        for key in &keys {
            found.push(digest::of_value(server, db, key).map_err(|e| e.to_string())?);
        }
        out.array(found.len());
        found
            .iter()
            .for_each(|digest| out.simple(digest.to_string()));
        Ok(())
    })
}

fn htstats(session: &Session, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), CommandError> {
    let db = super::arguments::integer(args.get(2))?;
    if !(0..crate::storage::generations::DATABASES as i64).contains(&db) {
        return Err(CommandError::fixed("ERR Out of range database"));
    }
    let (records, bytes) = session
        .server
        .groups()
        .iter()
        .fold((0, 0), |(n, b), group| {
            let (records, bytes) = group.store.cache.usage();
            (n + records, b + bytes)
        });
    let text = format!(
        "[Dictionary HT]\nNo hash table: records are on disk ({records} cached, {bytes} bytes)\n\
         [Expires HT]\nNo stats available for empty dictionaries\n"
    );
    out.verbatim("txt", text.as_bytes());
    Ok(())
}

/// DEBUG OBJECT key
fn object(session: &Session, args: &Args<'_>) -> Next {
    let (db, name) = (session.db, args.get(2).to_vec());
    work(session, move |server, out| {
        let described = with_key(server, db, &name, |txn, key| {
            // What has expired and is there is shown, as in Redis.
            let Some(record) = txn.store().record(key, true)? else {
                return Err(CommandError::NO_SUCH_KEY);
            };
            let encoding = types::encoding(&record)?;
            let value = serial::read(txn, key, &record)?;
            let (_, body) = rdb::encode_body(&value, Form::of(encoding));
            let (access, at) = (&txn.store().access, key.hash());
            let lru = access.word(at).unwrap_or(0);
            let idle = access.idle(at, txn.now());
            let idle = idle.unwrap_or_else(|| access.remembers(txn.now()));
            Ok(format!(
                "Value at:{at:#x} refcount:1 encoding:{encoding} serializedlength:{} lru:{lru} \
                 lru_seconds_idle:{idle}",
                body.len()
            ))
        });
        match described {
            Ok(described) => out.simple(described),
            Err(error) => out.error(error.to_string()),
        }
        Ok(())
    })
}

/// Reads a key beside the writer, from the disk if need be.
pub(super) fn with_key<T>(
    server: &Server,
    db: usize,
    name: &[u8],
    read: impl FnOnce(&mut Txn<'_>, &crate::storage::MetaKey) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let slot = crate::storage::keys::slot_of(name);
    let crate::server::Route::Here(group) = server.route(Some(slot)) else {
        return Err(CommandError::fixed("ERR the key is served by another node"));
    };
    let context = group.context(db, Some(slot), group.now(), true);
    group.store.with_maps(|maps| {
        let mut txn = Txn::read(&group.store, maps, context);
        let key = txn.key(name);
        read(&mut txn, &key)
    })
}

/// DEBUG PROTOCOL type
fn protocol(kind: &[u8], out: &mut ReplyWriter) -> Result<(), CommandError> {
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => out.bulk(b"Hello World"),
        b"integer" => out.integer(12345),
        // Redis means no constant by it either.
        b"double" => out.double(3141.0 / 1000.0),
        b"bignum" => out.bignum("1234567999999999999999999999999999999"),
        b"null" => out.null(),
        b"array" => {
            out.array(3);
            (0..3).for_each(|n| out.integer(n));
        }
        b"set" => {
            out.set(3);
            (0..3).for_each(|n| out.integer(n));
        }
        b"map" => {
            out.map(3);
            for n in 0..3 {
                out.integer(n);
                out.boolean(n == 1);
            }
        }
        b"attrib" => {
            if out.attribute(1) {
                out.bulk(b"key-popularity");
                out.array(2);
                out.bulk(b"key:123");
                out.integer(90);
            }
            out.bulk(b"Some real reply following the attribute");
        }
        b"push" if out.version() == Version::V2 => {
            return Err(CommandError::fixed(
                "ERR RESP2 is not supported by this command",
            ));
        }
        b"push" => {
            out.push(2);
            out.bulk(b"server-cpu-usage");
            out.integer(42);
            out.bulk(b"Some real reply following the push reply");
        }
        b"true" => out.boolean(true),
        b"false" => out.boolean(false),
        b"verbatim" => out.verbatim("txt", b"This is a verbatim\nstring"),
        _ => return Err(CommandError::fixed(WRONG_TYPE_NAME)),
    }
    Ok(())
}

fn packed_threshold(size: &[u8], out: &mut ReplyWriter) -> Result<(), CommandError> {
    match crate::config::value::memory(size) {
        // Slightly below 4gb, as Redis has it.
        Some(size) if size <= (4 << 30) - (1 << 20) => {
            out.ok();
            Ok(())
        }
        _ => Err(CommandError::fixed(
            "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
        )),
    }
}

/// What a client that may not use DEBUG is told.
pub(super) fn refused(session: &Session) -> Option<&'static str> {
    let allowed = session.server.config.enable_debug_command
        && super::config::allowed(
            &session.server.settings.lock(),
            "enable-debug-command",
            session,
        );
    (!allowed).then_some(NOT_ALLOWED)
}

/// DEBUG STRINGMATCH-TEST: random patterns against random texts.
fn match_at_random(out: &mut ReplyWriter) {
    let word = || -> Vec<u8> {
        let len = rand::random_range(0..32);
        (0..len)
            .map(|_| b"ab*?[]^\\-c"[rand::random_range(0..10)])
            .collect()
    };
    for _ in 0..10_000 {
        cairn_protocol::command::glob_match(&word(), &word(), false);
    }
    out.simple("Apparently Redis did not crash: test passed");
}

const NOT_ALLOWED: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is \
    set to \"local\", you can run it from a local connection, otherwise you need to set this \
    option in the configuration file, and then restart the server.";
const WRONG_TYPE_NAME: &str = "ERR Wrong protocol type name. Please use one of the following: \
    string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false";

const HELP: &[&str] = &[
    "CHANGE-REPL-ID",
    "    Change the replication IDs of the instance.",
    "    Dangerous: should be used only for testing the replication subsystem.",
    "CONFIG-REWRITE-FORCE-ALL",
    "    Like CONFIG REWRITE but writes all configuration options, including",
    "    keywords not listed in original configuration file or default values.",
    "COMPACT",
    "    Flush, then compact everything: what is garbage now leaves the disk.",
    "DIGEST",
    "    Output a hex signature representing the current DB content.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Output a hex signature of the values of all the specified keys.",
    "ERROR <string>",
    "    Return a Redis protocol error with <string> as message. Useful for clients",
    "    unit tests to simulate Redis errors.",
    "FLUSH",
    "    Write all memtables to files and sync the logs.",
    "HTSTATS <dbid>",
    "    Return statistics of the record cache.",
    "LOADAOF",
    "    Like RELOAD.",
    "LOG <message>",
    "    Write <message> to the server log.",
    "OBJECT <key>",
    "    Show low level info about `key` and associated value.",
    "PANIC",
    "    Crash the server simulating a panic.",
    "PROTOCOL <type>",
    "    Reply with a test value of the specified type. <type> can be: string,",
    "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
    "    true, false.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Accepted; lists have no such threshold here.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Create <count> string keys named key:<num>. If <prefix> is specified then",
    "    it is used instead of the 'key' prefix.",
    "RELOAD [option ...]",
    "    Save the data set to a file, and read everything from the disk again. Options:",
    "    * MERGE: replace what is there already when a file is loaded.",
    "    * NOFLUSH: keep what there is, and load the file in addition.",
    "    * NOSAVE: write no file: load the one that there is.",
    "SEGFAULT",
    "    Crash the server.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not",
    "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
    "    default.",
    "SET-DISABLE-DENY-SCRIPTS <0|1>",
    "    Setting it to 1 lets scripts call commands that are otherwise denied to them.",
    "SLEEP <seconds>",
    "    Stop the network thread of this connection for <seconds>. Decimals allowed.",
    "STRINGMATCH-TEST",
    "    Run a fuzz tester against the stringmatchlen() function.",
];
