//! INFO of many nodes and the proxy as that of one Redis.
//!
//! Sections and fields come in the order of the first node. What the proxy has
//! an opinion on (its clients, its uptime) is its own; counters, gauges and
//! figures of commands are summed; anything else is the first node's.

use super::join::bulk;
use bytes::Bytes;
use cairn_protocol::resp::{ReplyWriter, Version};
use std::collections::BTreeMap;

/// The proxy's own fields, and how the reply is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InfoMerge {
    own: String,
    version: Version,
}

/// Fields that are numbers but no sums.
const NOT_SUMMED: &[&str] = &[
    "arch_bits",
    "databases",
    "hz",
    "configured_hz",
    "lru_clock",
    "maxmemory",
    "port",
    "process_id",
    "rdb_last_save_time",
    "server_time_usec",
    "tcp_port",
    "uptime_in_days",
    "uptime_in_seconds",
    "cluster_enabled",
    "aof_enabled",
    "loading",
    "async_loading",
    "io_threads_active",
    "active_defrag_running",
    "lazyfree_pending_objects",
    "module_fork_in_progress",
    "rdb_bgsave_in_progress",
    "aof_rewrite_in_progress",
    "master_repl_offset",
    "number_of_cached_scripts",
    "number_of_functions",
    "number_of_libraries",
    "second_repl_offset",
    "tracking_total_prefixes",
    "tracking_clients",
];

#[derive(Default)]
struct Section {
    /// Names in order, and what each has.
    order: Vec<String>,
    fields: BTreeMap<String, String>,
}

#[derive(Default)]
struct Sections {
    order: Vec<String>,
    by_name: BTreeMap<String, Section>,
}

impl Sections {
    fn section(&mut self, name: &str) -> &mut Section {
        if !self.by_name.contains_key(name) {
            self.order.push(name.to_owned());
        }
        self.by_name.entry(name.to_owned()).or_default()
    }

    /// Takes in one INFO; `put` says what becomes of a field that is there.
    fn read(&mut self, text: &str, put: impl Fn(&str, &str, &str) -> String) {
        let mut name = String::new();
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("# ") {
                name = title.trim().to_owned();
                self.section(&name);
            } else if let Some((field, value)) = line.split_once(':') {
                let section = self.section(&name);
                match section.fields.get_mut(field) {
                    Some(there) => *there = put(field, there, value),
                    None => {
                        section.order.push(field.to_owned());
                        section.fields.insert(field.to_owned(), value.to_owned());
                    }
                }
            }
        }
    }

    fn write(&self) -> String {
        let mut text = String::new();
        for name in &self.order {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            text.push_str(&format!("# {name}\r\n"));
            let section = &self.by_name[name];
            for field in &section.order {
                text.push_str(&format!("{field}:{}\r\n", section.fields[field]));
            }
        }
        text
    }
}

impl InfoMerge {
    /// `own` is the proxy's INFO.
    pub fn new(own: String, version: Version) -> Self {
        Self { own, version }
    }

    /// The one reply.
    pub fn merge(&self, replies: &[Bytes]) -> Bytes {
        let mut sections = Sections::default();
        for reply in replies {
            // A node that went away just now has no figures.
            let text = bulk(reply).map(String::from_utf8_lossy);
            sections.read(&without_replicas(&text.unwrap_or_default()), sum);
        }
        sections.read(&self.own, |field, theirs, own| {
            // Of a command nodes and the proxy each have seen their part.
            match field.starts_with("cmdstat_") {
                true => sum(field, theirs, own),
                false => own.to_owned(),
            }
        });
        let mut out = ReplyWriter::new(self.version);
        out.verbatim("txt", sections.write().as_bytes());
        Bytes::from(out.to_vec())
    }
}

/// A node's INFO without the lines of its replicas: those are the proxies.
fn without_replicas(text: &str) -> String {
    let of_replica = |line: &str| {
        let rest = line.strip_prefix("slave");
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let lines = text.lines().filter(|line| !of_replica(line));
    lines.flat_map(|line| [line, "\r\n"]).collect()
}

/// A field that two nodes have.
fn sum(field: &str, a: &str, b: &str) -> String {
    if field.starts_with("latency_percentiles_usec_") {
        return greatest_of_pairs(a, b);
    }
    if let Some(sum) = sum_of_pairs(a, b) {
        return sum;
    }
    let summed = !NOT_SUMMED.contains(&field) && !field.ends_with("_ok");
    let numbers = (a.parse::<i64>(), b.parse::<i64>());
    match numbers {
        (Ok(a), Ok(b)) if summed && a >= 0 && b >= 0 => a.saturating_add(b).to_string(),
        (Ok(a), Ok(b)) if field.starts_with("tracking_") => a.max(b).to_string(),
        _ => a.to_owned(),
    }
}

/// Percentiles of two nodes: of each the greater.
fn greatest_of_pairs(a: &str, b: &str) -> String {
    let value = |pair: &str| -> f64 {
        let value = pair.split_once('=').map(|(_, value)| value.parse());
        value.and_then(Result::ok).unwrap_or(0.0)
    };
    let pairs = a.split(',').zip(b.split(','));
    let greater = pairs.map(|(a, b)| if value(b) > value(a) { b } else { a });
    greater.collect::<Vec<_>>().join(",")
}

/// `calls=1,usec=2` and the like: name by name.
fn sum_of_pairs(a: &str, b: &str) -> Option<String> {
    let pairs = |text: &str| -> Option<Vec<(String, f64)>> {
        text.split(',')
            .map(|pair| {
                let (name, value) = pair.split_once('=')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    };
    let (mut sums, others) = (pairs(a)?, pairs(b)?);
    for (name, value) in others {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => sums.push((name, value)),
        }
    }
    let get = |name: &str| sums.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    let (usec, calls) = (get("usec"), get("calls"));
    let shown = sums.iter().map(|(name, value)| match name.as_str() {
        "usec_per_call" => {
            let per = usec.unwrap_or(0.0) / calls.unwrap_or(1.0).max(1.0);
            format!("{name}={per:.2}")
        }
        "avg_ttl" => format!("{name}={:.0}", value / 2.0),
        _ => format!("{name}={value:.0}"),
    });
    Some(shown.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(own: &str, nodes: &[&str]) -> String {
        let replies: Vec<Bytes> = nodes
            .iter()
            .map(|text| Bytes::from(format!("${}\r\n{text}\r\n", text.len())))
            .collect();
        let reply = InfoMerge::new(own.to_owned(), Version::V2).merge(&replies);
        String::from_utf8(bulk(&reply).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn counters_are_summed_and_the_proxys_own_fields_are_its_own() {
        let one = "# Clients\r\nconnected_clients:5\r\n\r\n# Stats\r\nexpired_keys:1\r\nhz:10\r\n";
        let two = "# Clients\r\nconnected_clients:6\r\n\r\n# Stats\r\nexpired_keys:2\r\nhz:10\r\n";
        assert_eq!(
            merged("# Clients\r\nconnected_clients:1\r\n", &[one, two]),
            "# Clients\r\nconnected_clients:1\r\n\r\n# Stats\r\nexpired_keys:3\r\nhz:10\r\n"
        );
    }

    #[test]
    fn replicas_of_nodes_are_the_proxies_and_not_shown() {
        let node = "# Replication\r\nslave_x:1\r\nslave0:ip=1,port=0\r\n";
        let own = "# Replication\r\nconnected_slaves:0\r\n";
        assert_eq!(
            merged(own, &[node]),
            "# Replication\r\nslave_x:1\r\nconnected_slaves:0\r\n"
        );
    }

    #[test]
    fn figures_of_commands_and_keys_are_summed_name_by_name() {
        let one = "# Commandstats\r\ncmdstat_get:calls=1,usec=10,usec_per_call=10.00\r\n";
        let two = "# Commandstats\r\ncmdstat_get:calls=3,usec=10,usec_per_call=3.33\r\n";
        assert_eq!(
            merged("", &[one, two]),
            "# Commandstats\r\ncmdstat_get:calls=4,usec=20,usec_per_call=5.00\r\n"
        );
    }

    #[test]
    fn of_percentiles_the_greater_is_shown() {
        let one = "# Latencystats\r\nlatency_percentiles_usec_get:p50=1.003,p99=9.023\r\n";
        let two = "# Latencystats\r\nlatency_percentiles_usec_get:p50=2.007,p99=3.007\r\n";
        assert_eq!(
            merged("", &[one, two]),
            "# Latencystats\r\nlatency_percentiles_usec_get:p50=2.007,p99=9.023\r\n"
        );
    }

    #[test]
    fn a_node_that_answers_nothing_useful_is_left_out() {
        let own = "# Cairn\r\nproxy_id:p\r\n";
        let reply = InfoMerge::new(own.to_owned(), Version::V3);
        let error = Bytes::from_static(b"-UNKNOWN gone\r\n");
        assert_eq!(
            &reply.merge(&[error])[..],
            b"=25\r\ntxt:# Cairn\r\nproxy_id:p\r\n\r\n"
        );
    }
}
