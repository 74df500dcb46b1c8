//! DEBUG: for tests and for a look inside. Off unless `enable-debug-command`
//! says otherwise.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_protocol::resp::number::{parse_f64, parse_i64};
use cairn_protocol::resp::{Args, ReplyWriter, Requests, Version};

use super::arguments::{integer, is};
use super::{Handler, help};
use super::{digest, dump};
use crate::net::session::{Next, Session};
use crate::rdb::{self, Form, Value};
use crate::replication::dump_file;
use crate::saves::flush_all;
use crate::server::{Home, Server};
use crate::storage::{KeyType, MetaKey, Record};
use crate::txn::{CommandError, Txn};
use crate::types::string::StringValue;
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
        (b"client-eviction", 2) => client_eviction(&session.server, out)?,
        (b"clusterlink", 5) if is(args.get(2), "KILL") => return Err(NO_LINKS),
        (b"compact", 2) => return Ok(work(session, compact)),
        (b"crash-and-recover" | b"restart", _) => return Err(no_restart(args)),
        (b"digest", 2) => return Ok(work(session, write_digest)),
        (b"digest-value", _) => return Ok(digest_value(session, args)),
        (b"error", 3) => out.error(args.get(2)),
        (b"flush", 2) => return Ok(work(session, flush)),
        (b"htstats", 3) => htstats(session, args, out)?,
        (b"htstats-key", 3) => return Ok(about(session, args, table_stats, as_text)),
        (b"listpack", 3) => return Ok(about(session, args, listpack, as_line)),
        // Everything was synced and is read from the disk again.
        (b"loadaof", _) => return Ok(work(session, reopen)),
        (b"populate", 3..=5) => return populate(session, args),
        (b"reload", _) => return reload(session, args),
        (b"log", 3) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(args.get(2)));
            out.ok();
        }
        (b"object", 3) => return Ok(about(session, args, object, as_line)),
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
        (b"quicklist", 3 | 4) => return Ok(about(session, args, quicklist, as_line)),
        (b"quicklist-packed-threshold", 3) => packed_threshold(args.get(2), out)?,
        (b"replicate", 3..) => {
            let feed = &session.server.announcer.feed;
            feed.tell_message(session.db, args.iter().skip(2));
            out.ok();
        }
        (b"replybuffer", 4) => {
            reply_buffer(args)?;
            out.ok();
        }
        (b"sdslen", 3) => return Ok(about(session, args, sdslen, as_line)),
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
        (b"set-skip-checksum-validation", 3) => {
            dump::take_any_checksum(parse_i64(args.get(2)).unwrap_or(0) != 0);
            out.ok();
        }
        (b"sleep", 3) => {
            // On the connection's own thread, which stops: that is its purpose.
            let seconds = parse_f64(args.get(2)).unwrap_or(0.0).clamp(0.0, MAX_SLEEP);
            std::thread::sleep(Duration::from_secs_f64(seconds));
            out.ok();
        }
        (b"stringmatch-test" | b"stringmatch-len", _) => match_at_random(out),
        (b"structsize", 2) => out.bulk(format!("bits:{} ", usize::BITS).as_bytes()),
        (b"drop-cluster-packet-filter", 3) => {
            integer(args.get(2))?;
            out.ok();
        }
        // Of no meaning here, and harmless.
        (b"aof-flush-sleep" | b"leak" | b"pause-cron", 3) => out.ok(),
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
    let number = |at: usize| integer(args.get(at)).map(|n| n.max(0) as usize);
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
        .for_each(|group| group.store.drop_caches());
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
    let db = integer(args.get(2))?;
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

/// Answers with what `describe` says of a key.
fn about(
    session: &Session,
    args: &Args<'_>,
    describe: fn(&mut Txn<'_>, &MetaKey) -> Result<String, CommandError>,
    show: fn(&mut ReplyWriter, &str),
) -> Next {
    let (db, name) = (session.db, args.get(2).to_vec());
    work(session, move |server, out| {
        match with_key(server, db, &name, describe) {
            Ok(described) => show(out, &described),
            Err(error) => out.error(error.to_string()),
        }
        Ok(())
    })
}

fn as_line(out: &mut ReplyWriter, text: &str) {
    out.simple(text);
}

fn as_text(out: &mut ReplyWriter, text: &str) {
    out.verbatim("txt", text.as_bytes());
}

/// What has expired and is there is shown, as in Redis.
fn raw_record(txn: &Txn<'_>, key: &MetaKey) -> Result<Record, CommandError> {
    txn.store()
        .record(key, true)?
        .ok_or(CommandError::NO_SUCH_KEY)
}

fn record(txn: &mut Txn<'_>, key: &MetaKey) -> Result<Record, CommandError> {
    txn.peek(key)?.ok_or(CommandError::NO_SUCH_KEY)
}

/// DEBUG OBJECT key
fn object(txn: &mut Txn<'_>, key: &MetaKey) -> Result<String, CommandError> {
    let record = raw_record(txn, key)?;
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
}

/// DEBUG SDSLEN key: as if both were allocated as Redis does, with nothing to spare.
fn sdslen(txn: &mut Txn<'_>, key: &MetaKey) -> Result<String, CommandError> {
    let record = raw_record(txn, key)?;
    let is_text =
        types::decode(&record)?.0.key_type == KeyType::String && types::encoding(&record)? != "int";
    if !is_text {
        return Err(CommandError::fixed("ERR Not an sds encoded string."));
    }
    let (name, value) = (key.user_key().len() as u64, StringValue::of(&record)?.len());
    Ok(format!(
        "key_sds_len:{name}, key_sds_avail:0, key_zmalloc: {}, val_sds_len:{value}, \
         val_sds_avail:0, val_zmalloc: {}",
        sds_bytes(name),
        sds_bytes(value)
    ))
}

/// A head by the length, the text and a NUL.
fn sds_bytes(len: u64) -> u64 {
    let head = match len {
        0..=31 => 1,
        32..=0xff => 3,
        0x100..=0xffff => 5,
        0x1_0000..=0xffff_ffff => 9,
        _ => 17,
    };
    head + len + 1
}

/// DEBUG LISTPACK key
fn listpack(txn: &mut Txn<'_>, key: &MetaKey) -> Result<String, CommandError> {
    let record = record(txn, key)?;
    if types::encoding(&record)? != "listpack" {
        return Err(CommandError::fixed("ERR Not a listpack encoded object."));
    }
    log_value(txn, key, &record)?;
    Ok("Listpack structure printed on stdout".to_owned())
}

/// DEBUG QUICKLIST key [0 | 1]
fn quicklist(txn: &mut Txn<'_>, key: &MetaKey) -> Result<String, CommandError> {
    let record = record(txn, key)?;
    if types::encoding(&record)? != "quicklist" {
        return Err(CommandError::fixed("ERR Not a quicklist encoded object."));
    }
    log_value(txn, key, &record)?;
    Ok("Quicklist structure printed on stdout".to_owned())
}

/// The server's output is its log.
fn log_value(txn: &mut Txn<'_>, key: &MetaKey, record: &Record) -> Result<(), CommandError> {
    let value = serial::read(txn, key, record)?;
    tracing::info!(key = %key.user_key().escape_ascii(), ?value, "asked for by DEBUG");
    Ok(())
}

/// DEBUG HTSTATS-KEY key
fn table_stats(txn: &mut Txn<'_>, key: &MetaKey) -> Result<String, CommandError> {
    let record = record(txn, key)?;
    if !["hashtable", "skiplist"].contains(&types::encoding(&record)?) {
        return Err(CommandError::fixed(
            "ERR The value stored at the specified key is not represented using an hash table",
        ));
    }
    let elements = match types::decode(&record)?.0.spread {
        Some(spread) => spread.size,
        None => match serial::read(txn, key, &record)? {
            Value::Hash(pairs) => pairs.len() as u64,
            Value::Set(members) => members.len() as u64,
            Value::SortedSet(members) => members.len() as u64,
            _ => 0,
        },
    };
    Ok(format!(
        "Hash table 0 stats (main hash table):\n number of elements: {elements}\n\
         No hash table: they are on disk\n"
    ))
}

/// Reads a key beside the writer, from the disk if need be.
pub(super) fn with_key<T>(
    server: &Server,
    db: usize,
    name: &[u8],
    read: impl FnOnce(&mut Txn<'_>, &MetaKey) -> Result<T, CommandError>,
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

/// DEBUG CLIENT-EVICTION: the clients by what they cost, in the steps that Redis has.
fn client_eviction(server: &Server, out: &mut ReplyWriter) -> Result<(), CommandError> {
    /// Logarithms of the first and of the last step.
    const FIRST: u32 = 15;
    const LAST: u32 = 33;
    if !server.live.client_memory.is_limited() {
        return Err(CommandError::fixed("ERR maxmemory-clients is disabled."));
    }
    let mut steps = [(0, 0); (LAST - FIRST + 1) as usize];
    for client in server.clients.iter() {
        if client.is_replica() || client.no_evict.load(Ordering::Relaxed) {
            continue;
        }
        let bytes = client.memory();
        let log = (usize::BITS - bytes.leading_zeros()).clamp(FIRST, LAST);
        let step = &mut steps[(log - FIRST) as usize];
        *step = (step.0 + bytes, step.1 + 1);
    }
    let mut text = String::new();
    for (log, (bytes, clients)) in (FIRST..).zip(steps) {
        let from = if log == FIRST { 0 } else { 1_u64 << (log - 1) };
        let to = match log {
            LAST => "+            : ".to_owned(),
            _ => format!(" - {:>10}: ", (1_u64 << log) - 1),
        };
        text += &format!("bucket {from:>10}{to}tot-mem: {bytes:>10}, clients: {clients}\n");
    }
    out.verbatim("txt", text.as_bytes());
    Ok(())
}

/// DEBUG REPLYBUFFER PEAK-RESET-TIME ms | NEVER | RESET, or RESIZING 0 | 1: there are no
/// such buffers here.
fn reply_buffer(args: &Args<'_>) -> Result<(), CommandError> {
    let (what, value) = (args.get(2), args.get(3));
    match what {
        _ if is(what, "RESIZING") => Ok(()),
        _ if !is(what, "PEAK-RESET-TIME") => Err(super::subcommand_error(args, "DEBUG")),
        _ if is(value, "NEVER") || is(value, "RESET") => Ok(()),
        _ => integer(value).map(drop),
    }
}

/// DEBUG RESTART [ms] and CRASH-AND-RECOVER [ms]: whoever started the process does that.
fn no_restart(args: &Args<'_>) -> CommandError {
    if let Some(Err(error)) = args.try_get(2).map(integer) {
        return error;
    }
    tracing::warn!("DEBUG asks for a restart: the server does not start itself");
    CommandError::fixed("ERR failed to restart the server. Check server logs.")
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
const NO_LINKS: CommandError =
    CommandError::fixed("ERR Debug option only available for cluster mode enabled setup!");
const WRONG_TYPE_NAME: &str = "ERR Wrong protocol type name. Please use one of the following: \
    string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false";

const HELP: &[&str] = &[
    "CHANGE-REPL-ID",
    "    Change the replication IDs of the instance.",
    "    Dangerous: should be used only for testing the replication subsystem.",
    "CLIENT-EVICTION",
    "    Show how many clients cost how much (maxmemory-clients).",
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
    "HTSTATS-KEY <key>",
    "    Like HTSTATS but for the value stored at <key>.",
    "LISTPACK <key>",
    "    Write the value of <key> to the server log, if it is encoded as a listpack.",
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
    "QUICKLIST <key> [<0|1>]",
    "    Write the value of <key> to the server log, if it is a list.",
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
    "REPLICATE <string>",
    "    Replicates the provided string to replicas, allowing data divergence.",
    "SDSLEN <key>",
    "    Show the lengths of the string stored at <key> and of its name.",
    "SEGFAULT",
    "    Crash the server.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not",
    "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
    "    default.",
    "SET-DISABLE-DENY-SCRIPTS <0|1>",
    "    Setting it to 1 lets scripts call commands that are otherwise denied to them.",
    "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
    "    Enables or disables checksum checks of RESTORE's payload.",
    "SLEEP <seconds>",
    "    Stop the network thread of this connection for <seconds>. Decimals allowed.",
    "STRINGMATCH-TEST",
    "    Run a fuzz tester against the stringmatchlen() function.",
];
