//! CONFIG GET and SET over the proxy's own settings.
//!
//! Names are those of Redis where the meaning is the same, so that tools find
//! what they look for. What is not here is asked of the nodes.

use crate::config::{Settings, parse_duration, parse_size, parse_yes};
use crate::net::Connection;
use crate::timing;
use cairn_protocol::acl::DEFAULT_IS_THE_CLUSTERS;
use cairn_protocol::command::{CommandId, glob_match, help, id};
use cairn_protocol::resp::Args;
use std::sync::atomic::Ordering::Release;

const HELP: &[&str] = &[
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>, in this proxy, until it ends.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
];

/// Answers the commands of this file; false for others.
pub(super) fn answer(to: &mut Connection, id: CommandId, args: Args<'_>) -> bool {
    match id {
        id::CONFIG_GET => get(to, args),
        id::CONFIG_SET => set(to, args),
        id::CONFIG_HELP => help(&mut to.reply, "CONFIG", HELP),
        id::CONFIG_REWRITE => {
            to.reply
                .error("ERR the proxy does not write its config file; change it by hand");
        }
        _ => return false,
    }
    true
}

fn yes_no(value: bool) -> String {
    if value { "yes".into() } else { "no".into() }
}

fn all(to: &Connection) -> Vec<(&'static str, String)> {
    let config = &to.thread.shared.config;
    let settings = &to.settings;
    let bind: Vec<String> = config.bind.iter().map(ToString::to_string).collect();
    let mut all = vec![
        ("bind", bind.join(" ")),
        ("client-output-limit", settings.output_limit.to_string()),
        ("io-threads", config.io_threads.to_string()),
        ("max-pause", settings.max_pause.as_millis().to_string()),
        ("maxclients", settings.maxclients.to_string()),
        ("pipeline-limit", settings.pipeline_limit.to_string()),
        ("port", config.port.to_string()),
        ("proto-max-bulk-len", settings.max_bulk.to_string()),
        ("protected-mode", yes_no(settings.protected_mode)),
        ("requirepass", settings.requirepass.clone()),
    ];
    all.extend(timing::parameters(settings));
    all
}

/// The proxy's own parameters that the patterns of a CONFIG GET mean.
pub(crate) fn own(to: &Connection, args: Args<'_>) -> Vec<(String, String)> {
    let patterns = args.slice_from(2);
    let wanted = |name: &str| {
        let mut all = patterns.iter();
        all.any(|p| glob_match(p, name.as_bytes(), true))
    };
    all(to)
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// CONFIG GET pattern [pattern ...]
fn get(to: &mut Connection, args: Args<'_>) {
    let found = own(to, args);
    to.reply.map(found.len());
    for (name, value) in found {
        to.reply.bulk(name.as_bytes());
        to.reply.bulk(value.as_bytes());
    }
}

/// Parameters of nodes that the proxy has as well.
const SHARED: [&str; 3] = [
    "latency-monitor-threshold",
    "slowlog-log-slower-than",
    "slowlog-max-len",
];

/// Parameters that are the proxy's alone.
const OWN: [&str; 10] = [
    "bind",
    "client-output-limit",
    "io-threads",
    "max-pause",
    "maxclients",
    "pipeline-limit",
    "port",
    "proto-max-bulk-len",
    "protected-mode",
    "requirepass",
];

fn among(names: &[&str], name: &[u8]) -> bool {
    let mut names = names.iter();
    names.any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether the proxy has this parameter.
fn is_own(name: &[u8]) -> bool {
    among(&OWN, name) || among(&SHARED, name)
}

/// Whether nodes are told when this parameter changes.
pub(crate) fn is_for_nodes(name: &[u8]) -> bool {
    !among(&OWN, name)
}

/// CONFIG SET name value [name value ...]: all of them or none.
fn set(to: &mut Connection, args: Args<'_>) {
    if !args.len().is_multiple_of(2) {
        return to
            .reply
            .error("ERR wrong number of arguments for 'config|set' command");
    }
    match set_own(to, args) {
        Ok(()) => to.reply.ok(),
        Err(line) => to.reply.error(line),
    }
}

/// Changes the proxy's own of these parameters: all of them or none.
///
/// # Errors
/// The line that says which cannot be.
pub(crate) fn set_own(to: &mut Connection, args: Args<'_>) -> Result<(), String> {
    let shared = to.thread.shared.clone();
    let current = all(to);
    let mut settings = shared.settings.lock();
    let mut changed = settings.clone();
    for at in (2..args.len())
        .step_by(2)
        .filter(|at| is_own(args.get(*at)))
    {
        let name = String::from_utf8_lossy(args.get(at)).to_ascii_lowercase();
        let value = String::from_utf8_lossy(args.get(at + 1));
        if current
            .iter()
            .any(|(known, is)| *known == name && *is == value)
        {
            continue;
        }
        if let Some(set) = timing::set_parameter(&mut changed, &name, &value) {
            set.map_err(|why| refused(&name, &why))?;
            continue;
        }
        match set_one(&mut changed, &name, &value) {
            Some(true) => {}
            Some(false) => {
                return Err(refused(&name, "argument is out of range"));
            }
            None => {
                return Err(refused(&name, "can't set immutable config"));
            }
        }
    }
    if changed.requirepass != settings.requirepass {
        if shared.users.names_the_default() {
            return Err(format!(
                "ERR CONFIG SET failed (possibly related to argument 'requirepass') - \
                 {DEFAULT_IS_THE_CLUSTERS}"
            ));
        }
        shared.users.set_password(&changed.requirepass);
    }
    *settings = changed;
    drop(settings);
    shared.settings_version.fetch_add(1, Release);
    to.settings = to.thread.settings();
    Ok(())
}

fn refused(name: &str, why: &str) -> String {
    format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
}

/// `None` is an unknown name, false a value that cannot be.
fn set_one(settings: &mut Settings, name: &str, value: &str) -> Option<bool> {
    fn put<T>(place: &mut T, value: Option<T>) -> bool {
        value.map(|value| *place = value).is_some()
    }
    let positive = |n: usize| (n > 0).then_some(n);
    Some(match name {
        "requirepass" => put(&mut settings.requirepass, Some(value.to_owned())),
        "maxclients" => put(
            &mut settings.maxclients,
            value.parse().ok().and_then(positive),
        ),
        "protected-mode" => put(&mut settings.protected_mode, parse_yes(value)),
        "max-pause" => put(&mut settings.max_pause, parse_duration(value)),
        "pipeline-limit" => put(
            &mut settings.pipeline_limit,
            value.parse().ok().and_then(positive),
        ),
        "client-output-limit" => put(&mut settings.output_limit, parse_size(value)),
        "proto-max-bulk-len" => {
            let size = parse_size(value).filter(|n| (1 << 20..=512 << 20).contains(n));
            put(&mut settings.max_bulk, size)
        }
        _ => return None,
    })
}
