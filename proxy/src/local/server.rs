//! Server commands: INFO, LATENCY, MEMORY, MODULE LIST, ROLE, SLOWLOG, TIME, ACL.
//!
//! What the proxy does not have (a slow log, latency samples) it answers as an
//! empty one; what only nodes know it refuses by name.

use super::is;
use crate::net::Connection;
use cairn_protocol::command::{CommandId, id};
use cairn_protocol::resp::Args;
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of Redis whose behaviour this is.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// Answers the commands of this file; false for others.
pub(super) fn answer(to: &mut Connection, id: CommandId, args: Args<'_>) -> bool {
    match id {
        id::TIME => time(to),
        id::INFO => info(to, args),
        id::ROLE => role(to),
        id::ACL_WHOAMI => to.reply.bulk(b"default"),
        id::ACL_USERS => {
            to.reply.array(1);
            to.reply.bulk(b"default");
        }
        id::SLOWLOG_GET | id::LATENCY_LATEST | id::LATENCY_HISTORY | id::MODULE_LIST => {
            to.reply.array(0);
        }
        id::LATENCY_HISTOGRAM => to.reply.map(0),
        id::SLOWLOG_LEN | id::LATENCY_RESET => to.reply.integer(0),
        id::SLOWLOG_RESET => to.reply.ok(),
        id::LATENCY_DOCTOR | id::MEMORY_DOCTOR => {
            to.reply
                .verbatim("txt", b"This is a proxy: ask the nodes.\n");
        }
        _ => return false,
    }
    true
}

/// TIME
fn time(to: &mut Connection) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    to.reply.array(2);
    to.reply.bulk_integer(now.as_secs() as i64);
    to.reply.bulk_integer(i64::from(now.subsec_micros()));
}

/// ROLE: a master, as any one Redis that takes writes.
fn role(to: &mut Connection) {
    to.reply.array(3);
    to.reply.bulk(b"master");
    to.reply.integer(0);
    to.reply.array(0);
}

type Section = (&'static str, fn(&Connection) -> Vec<(&'static str, String)>);

const SECTIONS: &[Section] = &[
    ("Server", server_section),
    ("Clients", clients_section),
    ("Memory", memory_section),
    ("Stats", stats_section),
    ("Replication", replication_section),
    ("Cluster", |_| vec![("cluster_enabled", "0".into())]),
    ("Cairn", cairn_section),
];

/// INFO [section [section ...]]
fn info(to: &mut Connection, args: Args<'_>) {
    let wanted = args.slice_from(1);
    let everything = wanted.is_empty()
        || wanted
            .iter()
            .any(|w| is(w, "all") || is(w, "default") || is(w, "everything"));
    let mut text = String::new();
    for (name, fields) in SECTIONS {
        if !everything && !wanted.iter().any(|w| is(w, name)) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(&format!("# {name}\r\n"));
        for (field, value) in fields(to) {
            text.push_str(&format!("{field}:{value}\r\n"));
        }
    }
    to.reply.verbatim("txt", text.as_bytes());
}

fn server_section(to: &Connection) -> Vec<(&'static str, String)> {
    let shared = &to.thread.shared;
    let uptime = shared.started.elapsed().as_secs();
    vec![
        ("redis_version", REDIS_VERSION.into()),
        ("redis_mode", "standalone".into()),
        ("cairn_version", env!("CARGO_PKG_VERSION").into()),
        ("cairn_program", "proxy".into()),
        ("os", std::env::consts::OS.into()),
        ("arch_bits", usize::BITS.to_string()),
        ("process_id", std::process::id().to_string()),
        ("tcp_port", shared.config.port.to_string()),
        ("uptime_in_seconds", uptime.to_string()),
        ("uptime_in_days", (uptime / 86400).to_string()),
        ("io_threads_active", shared.config.io_threads.to_string()),
    ]
}

fn clients_section(to: &Connection) -> Vec<(&'static str, String)> {
    vec![
        (
            "connected_clients",
            to.thread.shared.registry.len().to_string(),
        ),
        ("maxclients", to.settings.maxclients.to_string()),
        ("blocked_clients", "0".into()),
    ]
}

fn memory_section(_: &Connection) -> Vec<(&'static str, String)> {
    let rss = resident_bytes().unwrap_or(0);
    vec![
        ("used_memory", rss.to_string()),
        ("used_memory_rss", rss.to_string()),
    ]
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: sysconf only reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

fn stats_section(to: &Connection) -> Vec<(&'static str, String)> {
    use std::sync::atomic::Ordering::Relaxed;
    let shared = &to.thread.shared;
    vec![
        (
            "total_connections_received",
            shared.accepted.load(Relaxed).to_string(),
        ),
        (
            "total_commands_processed",
            shared.sum(|s| &s.commands).to_string(),
        ),
        (
            "total_net_input_bytes",
            shared.sum(|s| &s.input_bytes).to_string(),
        ),
        (
            "rejected_connections",
            shared.rejected.load(Relaxed).to_string(),
        ),
    ]
}

fn replication_section(_: &Connection) -> Vec<(&'static str, String)> {
    vec![("role", "master".into()), ("connected_slaves", "0".into())]
}

fn cairn_section(to: &Connection) -> Vec<(&'static str, String)> {
    let routes = to.thread.routes.borrow();
    vec![
        ("cluster_name", to.thread.shared.config.cluster.clone()),
        ("proxy_id", to.thread.shared.config.id.clone()),
        (
            "slots_assigned",
            if routes.is_complete() {
                "all".into()
            } else {
                "some".into()
            },
        ),
        ("groups_serving", routes.owning_groups().len().to_string()),
        ("nodes_linked", to.thread.links_up().to_string()),
    ]
}
