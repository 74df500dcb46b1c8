//! Every parameter: name, kind, default, and whether it does anything here.
//!
//! All parameters of Redis 7.0 are known, so that configurations and clients
//! written for Redis work unchanged; what has no meaning for a store on disk
//! is accepted, shown, and [`Effect::None`] says why it changes nothing.

use std::sync::LazyLock;

/// How a parameter's value is read, checked and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Text,
    /// A file or directory name without a path.
    FileName,
    HostName,
    ProcTitle,
    /// Least and greatest value.
    Integer(i128, i128),
    /// Bytes; units `k kb m mb g gb` are understood.
    Memory(i128, i128),
    /// The same, or `N%`; the least value is minus the greatest percentage.
    MemoryOrPercent(i128, i128),
    Octal(i128, i128),
    Enum(&'static [&'static str]),
    /// Several words of a list.
    FlagSet(&'static [&'static str]),
    /// Redis's words for levels, or those of everybody else.
    LogLevel,
    /// A time in milliseconds; `ms` and `s` are understood.
    Millis,
    Special(Special),
}

/// Parameters with a syntax of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Dir,
    Save,
    OutputBufferLimit,
    OomScoreAdj,
    KeyspaceEvents,
    Bind,
    ReplicaOf,
    Percentiles,
}

/// What changing a parameter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it says.
    Works,
    /// Nothing, and why.
    None(&'static str),
}

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    /// Its former name in Redis, or its name here; empty if there is none.
    pub alias: &'static str,
    pub kind: Kind,
    /// As CONFIG GET shows it.
    pub default: &'static str,
    flags: u8,
    pub effect: Effect,
}

const LIVE: u8 = 0;
const FIXED: u8 = 1;
const PROTECTED: u8 = 4;
const HIDDEN: u8 = 8;
const MULTI: u8 = 16;
/// Cairn's own.
const OWN: u8 = 32;

impl Parameter {
    /// Cannot be changed while the server runs.
    pub fn is_fixed(&self) -> bool {
        self.flags & FIXED != 0
    }

    /// Redis has no such parameter.
    pub fn is_own(&self) -> bool {
        self.flags & OWN != 0
    }

    /// Its value is a secret.
    pub fn is_sensitive(&self) -> bool {
        cairn_protocol::command::is_secret_parameter(self.name.as_bytes())
    }

    /// Changed at run time only if `enable-protected-configs` allows it.
    pub fn is_protected(&self) -> bool {
        self.flags & PROTECTED != 0
    }

    /// Shown by CONFIG GET only under its full name.
    pub fn is_hidden(&self) -> bool {
        self.flags & HIDDEN != 0
    }

    /// Takes several arguments.
    pub fn is_multi(&self) -> bool {
        self.flags & MULTI != 0
    }
}

/// The position of a parameter in [`PARAMETERS`], by its name or alias.
pub fn find(name: &[u8]) -> Option<usize> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    PARAMETERS
        .iter()
        .position(|p| p.name == name || (!p.alias.is_empty() && p.alias == name))
}

/// The known name that is most like a wrong one, if any is near.
pub fn suggestion(wrong: &str) -> Option<&'static str> {
    let wrong = wrong.to_ascii_lowercase();
    let names = PARAMETERS
        .iter()
        .flat_map(|p| [p.name, p.alias])
        .filter(|n| !n.is_empty());
    let distances = names.map(|name| (distance(&wrong, name), name));
    let most = (wrong.len() / 3).clamp(2, 4);
    distances
        .filter(|(d, _)| *d <= most)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein's distance between two short words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Names of Redis that are read and dropped, as Redis itself does.
pub const DROPPED: &[&str] = &[
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
];

/// Directives of Redis that are not parameters, and why they are refused.
pub const REFUSED: &[(&str, &str)] = &[
    ("loadmodule", "Redis modules cannot be loaded"),
    (
        "sentinel",
        "there is no Sentinel: a cluster fails over by itself",
    ),
];

const fn row(
    name: &'static str,
    alias: &'static str,
    kind: Kind,
    default: &'static str,
    flags: u8,
) -> Parameter {
    Parameter {
        name,
        alias,
        kind,
        default,
        flags,
        effect: Effect::Works,
    }
}

const fn ignored(
    name: &'static str,
    alias: &'static str,
    kind: Kind,
    default: &'static str,
    flags: u8,
    why: &'static str,
) -> Parameter {
    Parameter {
        name,
        alias,
        kind,
        default,
        flags,
        effect: Effect::None(why),
    }
}

const NO_RDB: &str = "an RDB file is an export, or read once: the data is always on disk";
const NO_AOF: &str = "RocksDB's log takes the place of the AOF; see appendfsync";
const NO_REPLICATION: &str = "replication has no such choice here";
const NO_BUS: &str = "a Cairn cluster keeps its topology in etcd, not on a cluster bus";
const NO_TLS: &str = "TLS is not served by this program";
const NO_TENACITY: &str = "clients never wait for more than one pass of the eviction thread";
const NO_DEFRAG: &str = "the caches are bounded, nothing is defragmented";
const NO_MODULES: &str = "Redis modules cannot be loaded";
const LAZY: &str = "deleting is always lazy: its cost does not grow with the value";
const SERVICE: &str = "left to the service manager or the operating system";
const THREADS: &str = "background work has threads of its own";
const TCP: &str = "the operating system's or the program's own value is used";
const LATER: &str = "kept for the commands that it concerns";
const NO_OLD_LUA: &str =
    "scripts never get setfenv, getfenv and newproxy, which go past what protects them";

const INT: i128 = i32::MAX as i128;
const UINT: i128 = u32::MAX as i128;
const LONG: i128 = i64::MAX as i128;
const ULONG: i128 = u64::MAX as i128;
/// There are always sixteen.
const DATABASES: i128 = crate::storage::generations::DATABASES as i128;

const LOG_FORMAT: &[&str] = &["text", "json"];
const MAXMEMORY_POLICY: &[&str] = &[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
];
const SYSLOG_FACILITY: &[&str] = &[
    "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
pub(super) const LOG_LEVELS: &[&str] = &["debug", "verbose", "notice", "warning"];
const SUPERVISED_MODE: &[&str] = &["upstart", "systemd", "auto", "no"];
const AOF_FSYNC: &[&str] = &["everysec", "always", "no"];
const SHUTDOWN_ON_SIG: &[&str] = &["default", "save", "nosave", "now", "force"];
const REPL_DISKLESS_LOAD: &[&str] = &["disabled", "on-empty-db", "swapdb"];
const TLS_AUTH_CLIENTS: &[&str] = &["no", "yes", "optional"];
const OOM_SCORE_ADJ: &[&str] = &["no", "yes", "relative", "absolute"];
const ACL_PUBSUB_DEFAULT: &[&str] = &["allchannels", "resetchannels"];
const SANITIZE_DUMP_PAYLOAD: &[&str] = &["no", "yes", "clients"];
const PROTECTED_ACTION: &[&str] = &["no", "yes", "local"];
const CLUSTER_PREFERRED_ENDPOINT_TYPE: &[&str] = &["ip", "hostname", "unknown-endpoint"];
const PROPAGATION_ERROR_BEHAVIOR: &[&str] = &["ignore", "panic", "panic-on-replicas"];

use Kind::*;

/// The table, in the order in which CONFIG GET shows it.
pub static PARAMETERS: &[Parameter] = &[
    // Redis's, with effect.
    row("port", "", Integer(0, 65_535), "6379", LIVE),
    row("bind", "", Special(Special::Bind), "127.0.0.1", MULTI),
    row("protected-mode", "", Bool, "yes", LIVE),
    row("requirepass", "", Text, "", LIVE),
    row("maxclients", "", Integer(1, UINT), "10000", LIVE),
    row("timeout", "", Integer(0, INT), "0", LIVE),
    row("databases", "", Integer(DATABASES, DATABASES), "16", FIXED),
    row("io-threads", "", Integer(0, 128), "0", FIXED),
    row("dir", "", Special(Special::Dir), ".", PROTECTED),
    row("pidfile", "", Text, "", FIXED),
    row("logfile", "", Text, "", FIXED),
    row("loglevel", "log-level", LogLevel, "notice", LIVE),
    row("always-show-logo", "", Bool, "no", FIXED),
    row("appendfsync", "", Enum(AOF_FSYNC), "everysec", LIVE),
    row(
        "proto-max-bulk-len",
        "",
        Memory(1_048_576, LONG),
        "536870912",
        LIVE,
    ),
    row(
        "slowlog-log-slower-than",
        "",
        Integer(-1, LONG),
        "10000",
        LIVE,
    ),
    row("slowlog-max-len", "", Integer(0, LONG), "128", LIVE),
    row("latency-monitor-threshold", "", Integer(0, LONG), "0", LIVE),
    row("latency-tracking", "", Bool, "yes", LIVE),
    row(
        "latency-tracking-info-percentiles",
        "",
        Special(Special::Percentiles),
        "50 99 99.9",
        MULTI,
    ),
    row(
        "enable-protected-configs",
        "",
        Enum(PROTECTED_ACTION),
        "no",
        FIXED,
    ),
    row(
        "enable-debug-command",
        "",
        Enum(PROTECTED_ACTION),
        "no",
        FIXED,
    ),
    // Redis's, read by the commands on collections.
    row(
        "hash-max-listpack-entries",
        "hash-max-ziplist-entries",
        Integer(0, LONG),
        "512",
        LIVE,
    ),
    row(
        "hash-max-listpack-value",
        "hash-max-ziplist-value",
        Memory(0, LONG),
        "64",
        LIVE,
    ),
    row("set-max-intset-entries", "", Integer(0, LONG), "512", LIVE),
    row(
        "zset-max-listpack-entries",
        "zset-max-ziplist-entries",
        Integer(0, LONG),
        "128",
        LIVE,
    ),
    row(
        "zset-max-listpack-value",
        "zset-max-ziplist-value",
        Memory(0, LONG),
        "64",
        LIVE,
    ),
    row(
        "list-max-listpack-size",
        "list-max-ziplist-size",
        Integer(-INT - 1, INT),
        "-2",
        LIVE,
    ),
    row("list-compress-depth", "", Integer(0, INT), "0", LIVE),
    row("stream-node-max-entries", "", Integer(0, LONG), "100", LIVE),
    row("stream-node-max-bytes", "", Memory(0, LONG), "4096", LIVE),
    row("hll-sparse-max-bytes", "", Memory(0, LONG), "3000", LIVE),
    // Cairn's own.
    row("data-dir", "", Text, "./data", FIXED | OWN),
    row(
        "memory-limit",
        "",
        MemoryOrPercent(-90, LONG),
        "40%",
        FIXED | OWN,
    ),
    row(
        "string-inline-max",
        "",
        Memory(64, 1_048_576),
        "16384",
        LIVE,
    ),
    row("min-free-disk", "", Memory(0, LONG), "268435456", LIVE),
    row(
        "reply-whole-max-elements",
        "",
        Integer(1, LONG),
        "4096",
        LIVE,
    ),
    row("reply-whole-max-bytes", "", Memory(1, LONG), "262144", LIVE),
    row("reply-pieces-max-clients", "", Integer(1, INT), "128", LIVE),
    row("reply-pieces-timeout", "", Integer(1, INT), "60", LIVE),
    row("log-format", "", Enum(LOG_FORMAT), "text", FIXED | OWN),
    row("cluster", "", Text, "", FIXED | OWN),
    row("etcd", "", Text, "", FIXED | OWN),
    row("node-id", "", Text, "", FIXED | OWN),
    row("peer-port", "", Integer(0, 65_535), "0", FIXED | OWN),
    row("advertise", "", Text, "", FIXED | OWN),
    row("zone", "", Text, "", FIXED | OWN),
    row("cluster-secret", "", Text, "", FIXED | HIDDEN | OWN),
    row("max-pause", "", Millis, "200ms", FIXED | OWN),
    // Redis's, without effect here.
    ignored(
        "lua-enable-deprecated-api",
        "",
        Bool,
        "no",
        FIXED | HIDDEN,
        NO_OLD_LUA,
    ),
    row("aclfile", "", Text, "", FIXED),
    row(
        "acl-pubsub-default",
        "",
        Enum(ACL_PUBSUB_DEFAULT),
        "resetchannels",
        LIVE,
    ),
    ignored(
        "sanitize-dump-payload",
        "",
        Enum(SANITIZE_DUMP_PAYLOAD),
        "no",
        LIVE,
        LATER,
    ),
    row("acllog-max-len", "", Integer(0, LONG), "128", LIVE),
    row(
        "busy-reply-threshold",
        "lua-time-limit",
        Integer(0, LONG),
        "5000",
        LIVE,
    ),
    row(
        "tracking-table-max-keys",
        "",
        Integer(0, LONG),
        "1000000",
        LIVE,
    ),
    row(
        "client-query-buffer-limit",
        "",
        Memory(1_048_576, LONG),
        "1073741824",
        LIVE,
    ),
    row(
        "client-output-buffer-limit",
        "",
        Special(Special::OutputBufferLimit),
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        MULTI,
    ),
    row(
        "notify-keyspace-events",
        "",
        Special(Special::KeyspaceEvents),
        "",
        LIVE,
    ),
    ignored("lazyfree-lazy-eviction", "", Bool, "no", LIVE, LAZY),
    ignored("lazyfree-lazy-expire", "", Bool, "no", LIVE, LAZY),
    ignored("lazyfree-lazy-server-del", "", Bool, "no", LIVE, LAZY),
    ignored("lazyfree-lazy-user-del", "", Bool, "no", LIVE, LAZY),
    ignored("lazyfree-lazy-user-flush", "", Bool, "no", LIVE, LAZY),
    ignored(
        "aof-rewrite-incremental-fsync",
        "",
        Bool,
        "yes",
        LIVE,
        NO_AOF,
    ),
    ignored("no-appendfsync-on-rewrite", "", Bool, "no", LIVE, NO_AOF),
    ignored("aof-load-truncated", "", Bool, "yes", LIVE, NO_AOF),
    ignored("aof-use-rdb-preamble", "", Bool, "yes", LIVE, NO_AOF),
    ignored("aof-timestamp-enabled", "", Bool, "no", LIVE, NO_AOF),
    ignored("appendonly", "", Bool, "yes", LIVE, NO_AOF),
    ignored("aof-disable-auto-gc", "", Bool, "no", LIVE, NO_AOF),
    ignored(
        "appendfilename",
        "",
        FileName,
        "appendonly.aof",
        FIXED,
        NO_AOF,
    ),
    ignored(
        "appenddirname",
        "",
        FileName,
        "appendonlydir",
        FIXED,
        NO_AOF,
    ),
    ignored(
        "shutdown-on-sigint",
        "",
        FlagSet(SHUTDOWN_ON_SIG),
        "default",
        MULTI,
        NO_AOF,
    ),
    ignored(
        "shutdown-on-sigterm",
        "",
        FlagSet(SHUTDOWN_ON_SIG),
        "default",
        MULTI,
        NO_AOF,
    ),
    ignored(
        "auto-aof-rewrite-percentage",
        "",
        Integer(0, INT),
        "100",
        LIVE,
        NO_AOF,
    ),
    ignored(
        "auto-aof-rewrite-min-size",
        "",
        Memory(0, LONG),
        "67108864",
        LIVE,
        NO_AOF,
    ),
    ignored(
        "cluster-require-full-coverage",
        "",
        Bool,
        "yes",
        LIVE,
        NO_BUS,
    ),
    ignored(
        "cluster-replica-no-failover",
        "cluster-slave-no-failover",
        Bool,
        "no",
        LIVE,
        NO_BUS,
    ),
    ignored("cluster-enabled", "", Bool, "no", FIXED, NO_BUS),
    ignored(
        "cluster-allow-reads-when-down",
        "",
        Bool,
        "no",
        LIVE,
        NO_BUS,
    ),
    ignored(
        "cluster-allow-pubsubshard-when-down",
        "",
        Bool,
        "yes",
        LIVE,
        NO_BUS,
    ),
    ignored(
        "cluster-allow-replica-migration",
        "",
        Bool,
        "yes",
        LIVE,
        NO_BUS,
    ),
    ignored("cluster-announce-ip", "", Text, "", LIVE, NO_BUS),
    ignored("cluster-config-file", "", Text, "nodes.conf", FIXED, NO_BUS),
    ignored("cluster-announce-hostname", "", HostName, "", LIVE, NO_BUS),
    ignored(
        "cluster-preferred-endpoint-type",
        "",
        Enum(CLUSTER_PREFERRED_ENDPOINT_TYPE),
        "ip",
        LIVE,
        NO_BUS,
    ),
    ignored(
        "cluster-replica-validity-factor",
        "cluster-slave-validity-factor",
        Integer(0, INT),
        "10",
        LIVE,
        NO_BUS,
    ),
    ignored(
        "cluster-migration-barrier",
        "",
        Integer(0, INT),
        "1",
        LIVE,
        NO_BUS,
    ),
    ignored("cluster-port", "", Integer(0, 65_535), "0", FIXED, NO_BUS),
    ignored(
        "cluster-announce-bus-port",
        "",
        Integer(0, 65_535),
        "0",
        LIVE,
        NO_BUS,
    ),
    ignored(
        "cluster-announce-port",
        "",
        Integer(0, 65_535),
        "0",
        LIVE,
        NO_BUS,
    ),
    ignored(
        "cluster-node-timeout",
        "",
        Integer(0, LONG),
        "15000",
        LIVE,
        NO_BUS,
    ),
    ignored(
        "cluster-link-sendbuf-limit",
        "",
        Memory(0, ULONG),
        "0",
        LIVE,
        NO_BUS,
    ),
    ignored("activedefrag", "", Bool, "no", LIVE, NO_DEFRAG),
    ignored(
        "active-defrag-cycle-min",
        "",
        Integer(1, 99),
        "1",
        LIVE,
        NO_DEFRAG,
    ),
    ignored(
        "active-defrag-cycle-max",
        "",
        Integer(1, 99),
        "25",
        LIVE,
        NO_DEFRAG,
    ),
    ignored(
        "active-defrag-threshold-lower",
        "",
        Integer(0, 1000),
        "10",
        LIVE,
        NO_DEFRAG,
    ),
    ignored(
        "active-defrag-threshold-upper",
        "",
        Integer(0, 1000),
        "100",
        LIVE,
        NO_DEFRAG,
    ),
    ignored(
        "active-defrag-max-scan-fields",
        "",
        Integer(1, LONG),
        "1000",
        LIVE,
        NO_DEFRAG,
    ),
    ignored(
        "active-defrag-ignore-bytes",
        "",
        Memory(1, LONG),
        "104857600",
        LIVE,
        NO_DEFRAG,
    ),
    row(
        "maxmemory-policy",
        "",
        Enum(MAXMEMORY_POLICY),
        "noeviction",
        LIVE,
    ),
    row("lfu-log-factor", "", Integer(0, INT), "10", LIVE),
    row("lfu-decay-time", "", Integer(0, INT), "1", LIVE),
    row("maxmemory-samples", "", Integer(1, INT), "5", LIVE),
    ignored(
        "maxmemory-eviction-tenacity",
        "",
        Integer(0, 100),
        "10",
        LIVE,
        NO_TENACITY,
    ),
    row("maxmemory", "", Memory(0, ULONG), "0", LIVE),
    row(
        "maxmemory-clients",
        "",
        MemoryOrPercent(-100, LONG),
        "0",
        LIVE,
    ),
    ignored(
        "enable-module-command",
        "",
        Enum(PROTECTED_ACTION),
        "no",
        FIXED,
        NO_MODULES,
    ),
    ignored("rdbchecksum", "", Bool, "yes", FIXED, NO_RDB),
    ignored("rdbcompression", "", Bool, "yes", LIVE, NO_RDB),
    ignored("rdb-del-sync-files", "", Bool, "no", LIVE, NO_RDB),
    ignored("stop-writes-on-bgsave-error", "", Bool, "yes", LIVE, NO_RDB),
    ignored("rdb-save-incremental-fsync", "", Bool, "yes", LIVE, NO_RDB),
    row("dbfilename", "", FileName, "dump.rdb", PROTECTED),
    ignored(
        "rdb-key-save-delay",
        "",
        Integer(-INT - 1, INT),
        "0",
        HIDDEN,
        NO_RDB,
    ),
    ignored(
        "key-load-delay",
        "",
        Integer(-INT - 1, INT),
        "0",
        HIDDEN,
        NO_RDB,
    ),
    ignored(
        "loading-process-events-interval-bytes",
        "",
        Integer(1024, INT),
        "2097152",
        HIDDEN,
        NO_RDB,
    ),
    ignored(
        "save",
        "",
        Special(Special::Save),
        "3600 1 300 100 60 10000",
        MULTI,
        NO_RDB,
    ),
    ignored(
        "repl-disable-tcp-nodelay",
        "",
        Bool,
        "no",
        LIVE,
        NO_REPLICATION,
    ),
    row("repl-diskless-sync", "", Bool, "yes", LIVE),
    ignored(
        "replica-lazy-flush",
        "slave-lazy-flush",
        Bool,
        "no",
        LIVE,
        NO_REPLICATION,
    ),
    row(
        "replica-serve-stale-data",
        "slave-serve-stale-data",
        Bool,
        "yes",
        LIVE,
    ),
    row("replica-read-only", "slave-read-only", Bool, "yes", LIVE),
    row(
        "replica-ignore-maxmemory",
        "slave-ignore-maxmemory",
        Bool,
        "yes",
        LIVE,
    ),
    row("replica-announced", "", Bool, "yes", LIVE),
    ignored(
        "replica-ignore-disk-write-errors",
        "",
        Bool,
        "no",
        LIVE,
        NO_REPLICATION,
    ),
    row("replica-announce-ip", "slave-announce-ip", Text, "", LIVE),
    row("masteruser", "", Text, "", LIVE),
    row("masterauth", "", Text, "", LIVE),
    ignored(
        "repl-diskless-load",
        "",
        Enum(REPL_DISKLESS_LOAD),
        "disabled",
        LIVE,
        NO_REPLICATION,
    ),
    ignored(
        "propagation-error-behavior",
        "",
        Enum(PROPAGATION_ERROR_BEHAVIOR),
        "ignore",
        LIVE,
        NO_REPLICATION,
    ),
    row(
        "replica-priority",
        "slave-priority",
        Integer(0, INT),
        "100",
        LIVE,
    ),
    ignored(
        "repl-diskless-sync-delay",
        "",
        Integer(0, INT),
        "5",
        LIVE,
        NO_REPLICATION,
    ),
    row(
        "replica-announce-port",
        "slave-announce-port",
        Integer(0, 65_535),
        "0",
        LIVE,
    ),
    row("repl-timeout", "", Integer(1, INT), "60", LIVE),
    row(
        "repl-ping-replica-period",
        "repl-ping-slave-period",
        Integer(1, INT),
        "10",
        LIVE,
    ),
    row(
        "min-replicas-to-write",
        "min-slaves-to-write",
        Integer(0, INT),
        "0",
        LIVE,
    ),
    row(
        "min-replicas-max-lag",
        "min-slaves-max-lag",
        Integer(0, INT),
        "10",
        LIVE,
    ),
    ignored(
        "shutdown-timeout",
        "",
        Integer(0, INT),
        "10",
        LIVE,
        NO_REPLICATION,
    ),
    ignored(
        "repl-diskless-sync-max-replicas",
        "",
        Integer(0, INT),
        "0",
        LIVE,
        NO_REPLICATION,
    ),
    row("repl-backlog-size", "", Memory(1, LONG), "1048576", LIVE),
    row("repl-backlog-ttl", "", Integer(0, LONG), "3600", LIVE),
    row(
        "replicaof",
        "slaveof",
        Special(Special::ReplicaOf),
        "",
        FIXED | MULTI,
    ),
    ignored(
        "cluster-announce-tls-port",
        "",
        Integer(0, 65_535),
        "0",
        LIVE,
        NO_TLS,
    ),
    ignored("tls-port", "", Integer(0, 65_535), "0", LIVE, NO_TLS),
    ignored(
        "tls-session-cache-size",
        "",
        Integer(0, INT),
        "20480",
        LIVE,
        NO_TLS,
    ),
    ignored(
        "tls-session-cache-timeout",
        "",
        Integer(0, INT),
        "300",
        LIVE,
        NO_TLS,
    ),
    ignored("tls-cluster", "", Bool, "no", LIVE, NO_TLS),
    ignored("tls-replication", "", Bool, "no", LIVE, NO_TLS),
    ignored(
        "tls-auth-clients",
        "",
        Enum(TLS_AUTH_CLIENTS),
        "yes",
        LIVE,
        NO_TLS,
    ),
    ignored("tls-prefer-server-ciphers", "", Bool, "no", LIVE, NO_TLS),
    ignored("tls-session-caching", "", Bool, "yes", LIVE, NO_TLS),
    ignored("tls-cert-file", "", Text, "", LIVE, NO_TLS),
    ignored("tls-key-file", "", Text, "", LIVE, NO_TLS),
    ignored("tls-key-file-pass", "", Text, "", LIVE, NO_TLS),
    ignored("tls-client-cert-file", "", Text, "", LIVE, NO_TLS),
    ignored("tls-client-key-file", "", Text, "", LIVE, NO_TLS),
    ignored("tls-client-key-file-pass", "", Text, "", LIVE, NO_TLS),
    ignored("tls-dh-params-file", "", Text, "", LIVE, NO_TLS),
    ignored("tls-ca-cert-file", "", Text, "", LIVE, NO_TLS),
    ignored("tls-ca-cert-dir", "", Text, "", LIVE, NO_TLS),
    ignored("tls-protocols", "", Text, "", LIVE, NO_TLS),
    ignored("tls-ciphers", "", Text, "", LIVE, NO_TLS),
    ignored("tls-ciphersuites", "", Text, "", LIVE, NO_TLS),
    ignored("daemonize", "", Bool, "no", FIXED, SERVICE),
    row("set-proc-title", "", Bool, "yes", FIXED),
    ignored("jemalloc-bg-thread", "", Bool, "yes", LIVE, SERVICE),
    ignored("syslog-enabled", "", Bool, "no", FIXED, SERVICE),
    row("crash-log-enabled", "", Bool, "yes", LIVE),
    ignored("crash-memcheck-enabled", "", Bool, "yes", LIVE, SERVICE),
    ignored("use-exit-on-panic", "", Bool, "no", HIDDEN, SERVICE),
    ignored("disable-thp", "", Bool, "yes", FIXED, SERVICE),
    ignored("syslog-ident", "", Text, "redis", FIXED, SERVICE),
    ignored("server_cpulist", "", Text, "", FIXED, SERVICE),
    ignored("bio_cpulist", "", Text, "", FIXED, SERVICE),
    ignored("aof_rewrite_cpulist", "", Text, "", FIXED, SERVICE),
    ignored("bgsave_cpulist", "", Text, "", FIXED, SERVICE),
    ignored("ignore-warnings", "", Text, "", LIVE, SERVICE),
    row(
        "proc-title-template",
        "",
        ProcTitle,
        "{title} {listen-addr} {server-mode}",
        LIVE,
    ),
    ignored(
        "supervised",
        "",
        Enum(SUPERVISED_MODE),
        "no",
        FIXED,
        SERVICE,
    ),
    ignored(
        "syslog-facility",
        "",
        Enum(SYSLOG_FACILITY),
        "local0",
        FIXED,
        SERVICE,
    ),
    ignored(
        "oom-score-adj",
        "",
        Enum(OOM_SCORE_ADJ),
        "no",
        LIVE,
        SERVICE,
    ),
    ignored("watchdog-period", "", Integer(0, INT), "0", HIDDEN, SERVICE),
    ignored(
        "oom-score-adj-values",
        "",
        Special(Special::OomScoreAdj),
        "0 200 800",
        MULTI,
        SERVICE,
    ),
    ignored("unixsocket", "", Text, "", FIXED, TCP),
    row("bind-source-addr", "", Text, "", LIVE),
    ignored("tcp-keepalive", "", Integer(0, INT), "300", LIVE, TCP),
    ignored("tcp-backlog", "", Integer(0, INT), "511", FIXED, TCP),
    ignored("unixsocketperm", "", Octal(0, 511), "0", FIXED, TCP),
    ignored("socket-mark-id", "", Integer(0, UINT), "0", FIXED, TCP),
    ignored("io-threads-do-reads", "", Bool, "no", FIXED, THREADS),
    ignored("activerehashing", "", Bool, "yes", LIVE, THREADS),
    ignored("dynamic-hz", "", Bool, "yes", LIVE, THREADS),
    ignored(
        "active-expire-effort",
        "",
        Integer(1, 10),
        "1",
        LIVE,
        THREADS,
    ),
    ignored("hz", "", Integer(0, INT), "10", LIVE, THREADS),
];

/// Values of a configuration without any line.
pub(super) static DEFAULTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    PARAMETERS
        .iter()
        .map(|p| p.default.as_bytes().to_vec())
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lower_case() {
        let mut names: Vec<&str> = PARAMETERS
            .iter()
            .flat_map(|p| [p.name, p.alias])
            .filter(|n| !n.is_empty())
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|n| n.to_ascii_lowercase() == **n));
    }

    #[test]
    fn defaults_are_their_own_canonical_form() {
        for p in PARAMETERS {
            let default = p.default.as_bytes();
            let words = super::super::value::split_words(default);
            let args: Vec<&[u8]> = match p.is_multi() && !words.is_empty() {
                true => words.iter().map(Vec::as_slice).collect(),
                false => vec![default],
            };
            let read = super::super::value::read(p, &args, p.default.as_bytes());
            assert_eq!(read.as_deref(), Ok(p.default.as_bytes()), "{}", p.name);
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        assert_eq!(suggestion("appendfsinc"), Some("appendfsync"));
        assert_eq!(suggestion("MaxClient"), Some("maxclients"));
        assert_eq!(suggestion("utterly-unknown-thing"), None);
    }

    #[test]
    fn aliases_find_their_parameter() {
        assert_eq!(find(b"slave-priority"), find(b"REPLICA-PRIORITY"));
        assert_eq!(find(b""), None);
    }
}
