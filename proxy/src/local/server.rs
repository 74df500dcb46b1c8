//! Server commands: INFO, MODULE LIST, ROLE, TIME, ACL.
//!
//! What only nodes know is asked of them (`nodes`).

use super::is;
use crate::net::Connection;
use crate::replica;
use cairn_protocol::command::{self, CommandId, id};
use cairn_protocol::resp::Args;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of Redis whose behaviour this is.
pub(crate) const REDIS_VERSION: &str = "7.0.15";

/// Answers the commands of this file; false for others.
pub(super) fn answer(to: &mut Connection, id: CommandId, args: Args<'_>) -> bool {
    match id {
        id::TIME => time(to),
        id::INFO => info(to, args),
        id::ROLE => replica::role(&to.thread.shared.replicas, &mut to.reply),
        id::ACL_WHOAMI => to.reply.bulk(b"default"),
        id::ACL_USERS => {
            to.reply.array(1);
            to.reply.bulk(b"default");
        }
        id::MODULE_LIST => to.reply.array(0),
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

type Fields = Vec<(&'static str, String)>;
type Section = (&'static str, fn(&Connection) -> Fields);

const SECTIONS: &[Section] = &[
    ("Server", server_section),
    ("Clients", clients_section),
    ("Stats", stats_section),
    ("Replication", |_| Vec::new()),
    ("Cluster", |_| vec![("cluster_enabled", "0".into())]),
    ("Cairn", cairn_section),
];

/// INFO [section [section ...]], of the proxy alone.
fn info(to: &mut Connection, args: Args<'_>) {
    let text = own_info(to, args);
    to.reply.verbatim("txt", text.as_bytes());
}

/// Whether an INFO asks for nothing that nodes know.
pub(crate) fn is_own_info(args: Args<'_>) -> bool {
    args.len() > 1 && args.slice_from(1).iter().all(|word| is(word, "cairn"))
}

/// What the proxy itself has to say in an INFO.
pub(crate) fn own_info(to: &Connection, args: Args<'_>) -> String {
    let wanted = args.slice_from(1);
    let everything = wanted.is_empty()
        || wanted
            .iter()
            .any(|w| is(w, "all") || is(w, "default") || is(w, "everything"));
    let more = |w: &&[u8]| {
        ["all", "everything", "commandstats"]
            .iter()
            .any(|m| is(w, m))
    };
    let with_commands = wanted.iter().any(|w| more(&w));
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
        if *name == "Replication" {
            for (field, value) in replica::info(&to.thread.shared.replicas) {
                text.push_str(&format!("{field}:{value}\r\n"));
            }
        }
    }
    if with_commands {
        text.push_str(&command_section(to));
    }
    text
}

/// The commands that the proxy has answered itself.
fn command_section(to: &Connection) -> String {
    let mut text = String::from("\r\n# Commandstats\r\n");
    for (spec, calls) in command::all().zip(&to.thread.shared.calls) {
        let calls = calls.load(Relaxed);
        if calls > 0 {
            text.push_str(&format!(
                "cmdstat_{}:calls={calls},usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0\r\n",
                spec.name
            ));
        }
    }
    text
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
    let registry = &to.thread.shared.registry;
    let all = registry.all();
    let tracking = all.iter().filter(|c| c.redirect.load(Relaxed) >= 0).count();
    vec![
        (
            "connected_clients",
            to.thread.shared.registry.len().to_string(),
        ),
        ("maxclients", to.settings.maxclients.to_string()),
        (
            "blocked_clients",
            registry.blocked.load(Relaxed).to_string(),
        ),
        ("tracking_clients", tracking.to_string()),
    ]
}

fn stats_section(to: &Connection) -> Vec<(&'static str, String)> {
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
        (
            "total_replies_cut_short",
            shared.cut_short.load(Relaxed).to_string(),
        ),
    ]
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
