//! MEMORY: what the process holds in memory. MEMORY USAGE of a key is in `keys`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_protocol::resp::{Args, ReplyWriter};

use super::keyspace;
use super::{Handler, help};
use crate::memory::{purge as purge_pages, report, usage};
use crate::net::session::{Next, Session};
use crate::server::Server;
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("memory", Handler::Session(super::container)),
    ("memory|doctor", Handler::Session(doctor)),
    ("memory|help", Handler::Session(memory_help)),
    ("memory|malloc-stats", Handler::Session(malloc_stats)),
    ("memory|purge", Handler::Session(purge)),
    ("memory|stats", Handler::Session(stats)),
];

type Done = Result<Next, CommandError>;

/// Less than this is called empty by the doctor, bytes.
const EMPTY: usize = 5 << 20;

/// MEMORY DOCTOR
fn doctor(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.verbatim("txt", diagnosis(&session.server).as_bytes());
    Ok(Next::Continue)
}

/// MEMORY HELP
fn memory_help(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    help(out, "MEMORY", HELP);
    Ok(Next::Continue)
}

/// MEMORY MALLOC-STATS
fn malloc_stats(_: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    Ok(Next::Work(Box::new(|out| {
        out.verbatim("txt", report().as_bytes())
    })))
}

/// MEMORY PURGE
fn purge(_: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    Ok(Next::Work(Box::new(|out| match purge_pages() {
        Ok(()) => out.ok(),
        Err(error) => {
            tracing::warn!(error, "MEMORY PURGE failed");
            out.error("ERR Error purging dirty pages");
        }
    })))
}

/// MEMORY STATS
///
/// Replies with a map; what Redis has and a store on disk has not is 0.
fn stats(session: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    let server = session.server.clone();
    Ok(Next::Work(Box::new(move |out| write_stats(&server, out))))
}

fn write_stats(server: &Arc<Server>, out: &mut ReplyWriter) {
    let used = usage();
    let allocated = server.used_memory() as i64;
    let peak = (server.vitals.peak_memory.load(Ordering::Relaxed) as i64).max(allocated);
    let startup = server.vitals.startup_memory.load(Ordering::Relaxed) as i64;
    let dataset = server.data_weight() as i64;
    let keys = keyspace::total_keys(server) as i64;
    let databases = keyspace::figures(server);
    let ratio = |a: usize, b: usize| a as f64 / b.max(1) as f64;
    let percent = |part: i64, whole: i64| part as f64 * 100.0 / whole.max(1) as f64;
    let more = |a: usize, b: usize| a as i64 - b as i64;
    out.map(27 + databases.len());
    let integers = [
        ("peak.allocated", peak),
        ("total.allocated", allocated),
        ("startup.allocated", startup),
        ("replication.backlog", 0),
        (
            "clients.slaves",
            keyspace::client_bytes(server, true) as i64,
        ),
        (
            "clients.normal",
            keyspace::client_bytes(server, false) as i64,
        ),
        ("cluster.links", 0),
        ("aof.buffer", 0),
        ("lua.caches", 0),
        ("functions.caches", 0),
    ];
    integers
        .iter()
        .for_each(|(name, value)| integer(out, name, *value));
    for (db, _) in databases {
        out.bulk(format!("db.{db}").as_bytes());
        out.map(3);
        for part in ["main", "expires", "slot-to-keys"] {
            integer(out, &format!("overhead.hashtable.{part}"), 0);
        }
    }
    integer(out, "overhead.total", allocated - dataset);
    integer(out, "keys.count", keys);
    integer(
        out,
        "keys.bytes-per-key",
        (allocated - startup).checked_div(keys).unwrap_or(0),
    );
    integer(out, "dataset.bytes", dataset);
    double(
        out,
        "dataset.percentage",
        percent(dataset, allocated - startup),
    );
    double(out, "peak.percentage", percent(allocated, peak));
    integer(out, "allocator.allocated", used.allocated as i64);
    integer(out, "allocator.active", used.active as i64);
    integer(out, "allocator.resident", used.resident as i64);
    let overheads = [
        ("allocator-fragmentation", used.active, used.allocated),
        ("allocator-rss", used.resident, used.active),
        ("rss-overhead", used.rss, used.resident),
    ];
    for (name, a, b) in overheads {
        double(out, &format!("{name}.ratio"), ratio(a, b));
        integer(out, &format!("{name}.bytes"), more(a, b));
    }
    double(out, "fragmentation", ratio(used.rss, used.allocated));
    integer(out, "fragmentation.bytes", more(used.rss, used.allocated));
}

fn integer(out: &mut ReplyWriter, name: &str, value: i64) {
    out.bulk(name.as_bytes());
    out.integer(value);
}

fn double(out: &mut ReplyWriter, name: &str, value: f64) {
    out.bulk(name.as_bytes());
    out.double(value);
}

fn diagnosis(server: &Server) -> String {
    let used = usage();
    if used.allocated < EMPTY {
        return "Hi Sam, this instance is empty or is using very little memory, my issues detector \
                can't be used in these conditions. Please, leave for your mission on Earth and \
                fill it with some data. The new Sam and I will be back to our programming as \
                soon as I finished rebooting.\n"
            .into();
    }
    let mut found = String::new();
    let limit = server.config.memory_limit;
    if used.rss > limit + limit / 10 {
        found.push_str(&format!(
            " * Above the limit: the process holds {} bytes, memory-limit is {limit}.\n",
            used.rss
        ));
    }
    if used.active > used.allocated + used.allocated / 10 + (10 << 20) {
        found.push_str(" * High allocator fragmentation: pages are held for few bytes each.\n");
    }
    match found.is_empty() {
        true => "Hi Sam, I can't find any memory issue in your instance. I can only account for \
                 what occurs on this base.\n"
            .into(),
        false => format!(
            "Sam, I detected a few issues in this Cairn instance memory implants:\n\n{found}\n\
             I'm here to keep you safe, Sam. I want to help you.\n"
        ),
    }
}

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return memory problems reports.",
    "MALLOC-STATS",
    "    Return internal statistics report from the memory allocator.",
    "PURGE",
    "    Attempt to purge dirty pages for reclamation by the allocator.",
    "STATS",
    "    Return information about the memory usage of the server.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
];
