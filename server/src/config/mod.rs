//! What one process may choose for itself. Sizes are bytes, times are durations.
//!
//! [`Settings`] holds the value of every parameter as text; [`Config`] is what
//! the start of the server reads of it, [`LiveSettings`] what the hot paths
//! read while it runs. Names and kinds are in `parameters`.

pub mod file;
pub mod parameters;
mod rewrite;
mod settings;
pub mod value;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cairn_protocol::command::Renames;

use crate::clients::ClientMemory;
use crate::net::outbox::OutputLimits;
use crate::storage::TypeLimits;

pub use file::{DeclaredUser, Loader, Origin, Problem};
pub use rewrite::rewrite;
pub use settings::Settings;

/// When the log is synced to the device (`appendfsync`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AppendFsync {
    /// Before every reply.
    Always = 0,
    /// Once a second; each batch is handed to the kernel before its replies.
    Everysec = 1,
    /// When the kernel likes.
    No = 2,
}

impl AppendFsync {
    fn of(settings: &Settings) -> AppendFsync {
        match settings.bytes("appendfsync") {
            b"always" => AppendFsync::Always,
            b"no" => AppendFsync::No,
            _ => AppendFsync::Everysec,
        }
    }
}

/// What goes when `maxmemory` is reached (`maxmemory-policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EvictionPolicy {
    NoEviction,
    AllKeysLru,
    AllKeysLfu,
    AllKeysRandom,
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
}

impl EvictionPolicy {
    const ALL: [(EvictionPolicy, &'static [u8]); 8] = [
        (EvictionPolicy::NoEviction, b"noeviction"),
        (EvictionPolicy::AllKeysLru, b"allkeys-lru"),
        (EvictionPolicy::AllKeysLfu, b"allkeys-lfu"),
        (EvictionPolicy::AllKeysRandom, b"allkeys-random"),
        (EvictionPolicy::VolatileLru, b"volatile-lru"),
        (EvictionPolicy::VolatileLfu, b"volatile-lfu"),
        (EvictionPolicy::VolatileRandom, b"volatile-random"),
        (EvictionPolicy::VolatileTtl, b"volatile-ttl"),
    ];

    fn of(settings: &Settings) -> EvictionPolicy {
        let name = settings.bytes("maxmemory-policy");
        let known = Self::ALL.iter().find(|(_, known)| *known == name);
        known.map_or(EvictionPolicy::NoEviction, |(policy, _)| *policy)
    }

    /// Only keys with an expiry may go.
    pub fn is_volatile(self) -> bool {
        use EvictionPolicy::{VolatileLfu, VolatileLru, VolatileRandom, VolatileTtl};
        matches!(
            self,
            VolatileLru | VolatileLfu | VolatileRandom | VolatileTtl
        )
    }

    pub fn is_lru(self) -> bool {
        use EvictionPolicy::{AllKeysLru, VolatileLru};
        matches!(self, AllKeysLru | VolatileLru)
    }

    pub fn is_lfu(self) -> bool {
        use EvictionPolicy::{AllKeysLfu, VolatileLfu};
        matches!(self, AllKeysLfu | VolatileLfu)
    }

    pub fn is_random(self) -> bool {
        use EvictionPolicy::{AllKeysRandom, VolatileRandom};
        matches!(self, AllKeysRandom | VolatileRandom)
    }
}

/// Settings fixed at start.
#[derive(Clone, Debug)]
pub struct Config {
    pub port: u16,
    pub bind: Vec<IpAddr>,
    pub data_dir: PathBuf,
    pub appendfsync: AppendFsync,
    pub requirepass: Option<String>,
    pub protected_mode: bool,
    pub maxclients: usize,
    /// Memory for caches and memtables, bytes.
    pub memory_limit: usize,
    /// Network threads.
    pub io_threads: usize,
    pub enable_debug_command: bool,
    pub cluster: Option<ClusterConfig>,
    /// How long a direct client waits for a frozen slot.
    pub max_pause: Duration,
    /// What CONFIG REWRITE rewrites.
    pub config_file: Option<PathBuf>,
    /// Users that the configuration declares, each once.
    pub users: Vec<DeclaredUser>,
    /// What clients call commands.
    pub renames: Renames,
    /// Every parameter as it was at start.
    pub settings: Settings,
}

/// What makes a process a node of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    pub name: String,
    pub etcd: Vec<String>,
    pub node_id: String,
    pub peer_port: u16,
    /// `HOST[:PORT[:PEER]]` that others reach this node by.
    pub advertise: Option<String>,
    pub zone: String,
    /// Shared secret of the peer port; without one it binds loopback only.
    pub secret: Option<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config::from_settings(&Settings::default())
    }
}

impl Config {
    /// What the values mean. Problems are [`Config::validate`]'s.
    pub fn from_settings(settings: &Settings) -> Config {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let io_threads = match settings.count("io-threads") {
            0 => (cores / 2).clamp(1, 8),
            n => n,
        };
        let mut settings = settings.clone();
        let cluster = cluster_of(&settings);
        if cluster.is_some() {
            settings.put("cluster-enabled", "yes");
        }
        Config {
            port: settings.count("port") as u16,
            bind: addresses(&settings),
            data_dir: PathBuf::from(settings.text("data-dir")),
            appendfsync: AppendFsync::of(&settings),
            requirepass: some_text(&settings, "requirepass"),
            protected_mode: settings.flag("protected-mode"),
            maxclients: settings.count("maxclients"),
            memory_limit: memory_limit(&settings),
            io_threads,
            enable_debug_command: settings.bytes("enable-debug-command") != b"no",
            cluster,
            max_pause: Duration::from_millis(settings.millis("max-pause")),
            config_file: None,
            users: Vec::new(),
            renames: Renames::default(),
            settings,
        }
    }

    /// Checks relations between settings; one sentence per problem.
    pub fn validate(&self) -> Vec<Problem> {
        let mut found: Vec<String> = Vec::new();
        let s = &self.settings;
        if self.memory_limit < MIN_MEMORY {
            found.push(format!(
                "memory-limit is {} bytes, at least 32mb are needed",
                self.memory_limit
            ));
        }
        if s.count("string-inline-max") > s.count("proto-max-bulk-len") {
            found.push("string-inline-max is above proto-max-bulk-len".into());
        }
        if s.count("tls-port") != 0 || s.flag("tls-cluster") || s.flag("tls-replication") {
            found.push("TLS is not served by this program; leave tls-port at 0".into());
        }
        if !self.users.is_empty() && !s.is_default("aclfile") {
            found.push(USERS_TWICE.into());
        }
        if s.flag("daemonize") {
            found.push("daemonize: run the server under a service manager instead".into());
        }
        if self.cluster.is_some() && !s.bytes("replicaof").is_empty() {
            found.push("replicaof directive not allowed in cluster mode".into());
        }
        if self.cluster.is_some() && (!self.users.is_empty() || !s.is_default("aclfile")) {
            found.push(USERS_OF_A_CLUSTER.into());
        }
        if self.cluster.is_some() && !self.renames.is_empty() {
            found.push(NAMES_OF_A_CLUSTER.into());
        }
        match &self.cluster {
            Some(cluster) => found.extend(cluster.problems(self.port)),
            None => found.extend(cluster_settings_alone(s)),
        }
        found
            .into_iter()
            .map(|message| Problem {
                origin: Origin::Whole,
                message,
            })
            .collect()
    }
}

const USERS_TWICE: &str = "users are declared in the configuration and there is an aclfile: define \
                           them in one of both, not in either";

const USERS_OF_A_CLUSTER: &str = "the users of a cluster are kept in etcd and set with ACL SETUSER: \
                                  `user` and `aclfile` are for a server that stands alone";

const NAMES_OF_A_CLUSTER: &str = "rename-command is for a server that stands alone: proxies and nodes \
                                  call commands by their names; take rights away with ACL SETUSER";

/// Less than this is not enough for memtables and caches to work.
const MIN_MEMORY: usize = 32 << 20;

impl ClusterConfig {
    fn problems(&self, port: u16) -> Vec<String> {
        let mut found = Vec::new();
        if self.etcd.is_empty() {
            found.push("a node of a cluster needs --etcd URL[,URL]".into());
        }
        if self.node_id.is_empty() {
            found.push("a node of a cluster needs --node-id ID".into());
        }
        if port != 0 && self.peer_port == port {
            found.push("peer-port and port must differ".into());
        }
        found
    }
}

/// Settings of a node without the cluster that it would belong to.
fn cluster_settings_alone(settings: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    if settings.flag("cluster-enabled") {
        found.push(
            "cluster-enabled: name the cluster instead, with --cluster NAME --etcd URL --node-id ID"
                .into(),
        );
    }
    for name in ["etcd", "node-id", "advertise", "cluster-secret"] {
        if !settings.is_default(name) {
            found.push(format!("{name} needs --cluster NAME"));
        }
    }
    found
}

fn cluster_of(settings: &Settings) -> Option<ClusterConfig> {
    let name = some_text(settings, "cluster")?;
    let etcd = settings.text("etcd");
    let port = settings.count("port");
    let peer_port = match settings.count("peer-port") {
        // As the cluster bus of Redis: 10000 above the port.
        0 if port != 0 => port + 10_000,
        chosen => chosen,
    };
    Some(ClusterConfig {
        name,
        etcd: etcd
            .split(',')
            .map(str::trim)
            .filter(|u| !u.is_empty())
            .map(Into::into)
            .collect(),
        node_id: settings.text("node-id"),
        peer_port: u16::try_from(peer_port).unwrap_or(0),
        advertise: some_text(settings, "advertise"),
        zone: settings.text("zone"),
        secret: some_text(settings, "cluster-secret").or_else(secret_of_environment),
    })
}

/// The cluster's secret, where it must not stand in a file or on a command line.
fn secret_of_environment() -> Option<String> {
    std::env::var("CAIRN_SECRET")
        .ok()
        .filter(|secret| !secret.is_empty())
}

fn some_text(settings: &Settings, name: &str) -> Option<String> {
    Some(settings.text(name)).filter(|text| !text.is_empty())
}

/// Where clients come in by TCP. A `port` of 0 means nowhere, as in Redis, if there is
/// a `unixsocket` for them; else the kernel chooses one.
pub fn client_addresses(settings: &Settings) -> Vec<IpAddr> {
    if settings.count("port") == 0 && !settings.bytes("unixsocket").is_empty() {
        return Vec::new();
    }
    addresses(settings)
}

/// `*` means every address of IPv4, `::*` of IPv6.
fn addresses(settings: &Settings) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for word in settings.text("bind").split(' ').filter(|w| !w.is_empty()) {
        let word = word.strip_prefix('-').unwrap_or(word);
        let address = match word {
            "*" => Some(IpAddr::from([0, 0, 0, 0])),
            "::*" => Some(IpAddr::from([0u16; 8])),
            word => word.parse().ok(),
        };
        found.extend(address.filter(|a| !found.contains(a)));
    }
    found
}

fn memory_limit(settings: &Settings) -> usize {
    let text = settings.text("memory-limit");
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: usize = percent.parse().expect("kept in its canonical form");
            total_memory() / 100 * percent
        }
        None => settings.count("memory-limit"),
    }
}

/// The memory that this process may use: the machine's, or its control
/// group's if that is less.
pub fn total_memory() -> usize {
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find(|l| l.starts_with("MemTotal:"))?
                .to_owned();
            let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kilobytes * 1024)
        });
    let group = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<usize>()
            .ok()
    });
    let machine = machine.unwrap_or(1 << 30);
    group.map_or(machine, |limit| limit.min(machine))
}

/// Hot settings that CONFIG SET changes while the server runs.
pub struct LiveSettings {
    appendfsync: AtomicU8,
    /// Microseconds; negative: off.
    pub slowlog_log_slower_than: AtomicI64,
    pub slowlog_max_len: AtomicUsize,
    pub maxclients: AtomicUsize,
    pub protected_mode: AtomicBool,
    pub proto_max_bulk_len: AtomicUsize,
    pub string_inline_max: AtomicUsize,
    /// When values change their form.
    pub types: TypeLimits,
    /// Seconds of idleness after which a client is closed; 0: never.
    pub timeout: AtomicU64,
    /// Milliseconds from which LATENCY notes an event; 0: never.
    pub latency_monitor_threshold: AtomicU64,
    /// Whether the time of each command goes into its histogram.
    pub latency_tracking: AtomicBool,
    /// Bytes; below this much free space writes are refused.
    pub min_free_disk: AtomicU64,
    /// `client-output-buffer-limit`.
    pub output: OutputLimits,
    /// `maxmemory-clients`.
    pub client_memory: ClientMemory,
    /// `repl-diskless-sync`.
    diskless_sync: AtomicBool,
    /// Bytes of one request at most (`client-query-buffer-limit`).
    pub query_buffer_limit: AtomicUsize,
    /// Bytes that the data set may weigh; 0: any number.
    pub maxmemory: AtomicU64,
    eviction_policy: AtomicU8,
    pub maxmemory_samples: AtomicUsize,
    pub lfu_log_factor: AtomicUsize,
    /// Minutes.
    pub lfu_decay_time: AtomicUsize,
    /// Clients that are sent replies in pieces at a time.
    pub reply_pieces_clients: AtomicUsize,
    /// Seconds that a client may take for one piece.
    pub reply_pieces_timeout: AtomicUsize,
}

impl LiveSettings {
    pub fn new(config: &Config) -> LiveSettings {
        let live = LiveSettings {
            appendfsync: AtomicU8::new(0),
            slowlog_log_slower_than: AtomicI64::new(0),
            slowlog_max_len: AtomicUsize::new(0),
            maxclients: AtomicUsize::new(0),
            protected_mode: AtomicBool::new(true),
            proto_max_bulk_len: AtomicUsize::new(0),
            string_inline_max: AtomicUsize::new(0),
            types: TypeLimits::default(),
            timeout: AtomicU64::new(0),
            latency_monitor_threshold: AtomicU64::new(0),
            latency_tracking: AtomicBool::new(true),
            min_free_disk: AtomicU64::new(0),
            output: OutputLimits::default(),
            client_memory: ClientMemory::default(),
            diskless_sync: AtomicBool::new(true),
            query_buffer_limit: AtomicUsize::new(0),
            maxmemory: AtomicU64::new(0),
            eviction_policy: AtomicU8::new(0),
            maxmemory_samples: AtomicUsize::new(0),
            lfu_log_factor: AtomicUsize::new(0),
            lfu_decay_time: AtomicUsize::new(0),
            reply_pieces_clients: AtomicUsize::new(0),
            reply_pieces_timeout: AtomicUsize::new(0),
        };
        live.follow(&config.settings);
        // A configuration may be built by hand, without settings.
        live.set_appendfsync(config.appendfsync);
        live.maxclients.store(config.maxclients, Ordering::Relaxed);
        live.protected_mode
            .store(config.protected_mode, Ordering::Relaxed);
        live
    }

    /// Takes over what the settings are now.
    pub fn follow(&self, settings: &Settings) {
        let slower = i64::try_from(settings.number("slowlog-log-slower-than")).unwrap_or(i64::MAX);
        self.slowlog_log_slower_than
            .store(slower, Ordering::Relaxed);
        self.set_appendfsync(AppendFsync::of(settings));
        let busy = settings.number("busy-reply-threshold");
        let sync = matches!(AppendFsync::of(settings), AppendFsync::Always);
        crate::scripting::follow(i64::try_from(busy).unwrap_or(i64::MAX), sync);
        for (count, name) in self.types.counts() {
            count.store(settings.count(name), Ordering::Relaxed);
        }
        let list_size = settings.number("list-max-listpack-size") as i64;
        self.types.list_size.store(list_size, Ordering::Relaxed);
        let counts = [
            (&self.slowlog_max_len, "slowlog-max-len"),
            (&self.maxclients, "maxclients"),
            (&self.proto_max_bulk_len, "proto-max-bulk-len"),
            (&self.string_inline_max, "string-inline-max"),
            (&self.query_buffer_limit, "client-query-buffer-limit"),
            (&self.maxmemory_samples, "maxmemory-samples"),
            (&self.lfu_log_factor, "lfu-log-factor"),
            (&self.lfu_decay_time, "lfu-decay-time"),
            (&self.reply_pieces_clients, "reply-pieces-max-clients"),
            (&self.reply_pieces_timeout, "reply-pieces-timeout"),
        ];
        let policy = EvictionPolicy::of(settings) as u8;
        self.eviction_policy.store(policy, Ordering::Relaxed);
        counts
            .iter()
            .for_each(|(n, name)| n.store(settings.count(name), Ordering::Relaxed));
        let numbers = [
            (&self.timeout, "timeout"),
            (&self.latency_monitor_threshold, "latency-monitor-threshold"),
            (&self.min_free_disk, "min-free-disk"),
            (&self.maxmemory, "maxmemory"),
        ];
        numbers
            .iter()
            .for_each(|(n, name)| n.store(settings.count(name) as u64, Ordering::Relaxed));
        self.output.follow(settings);
        self.client_memory.follow(settings);
        self.diskless_sync
            .store(settings.flag("repl-diskless-sync"), Ordering::Relaxed);
        self.protected_mode
            .store(settings.flag("protected-mode"), Ordering::Relaxed);
        self.latency_tracking
            .store(settings.flag("latency-tracking"), Ordering::Relaxed);
    }

    pub fn eviction_policy(&self) -> EvictionPolicy {
        let number = self.eviction_policy.load(Ordering::Relaxed);
        EvictionPolicy::ALL[number as usize].0
    }

    /// Whether keys may have to go by when or how often they were used.
    pub fn evicts_by_use(&self) -> bool {
        let policy = self.eviction_policy();
        self.maxmemory.load(Ordering::Relaxed) != 0 && (policy.is_lru() || policy.is_lfu())
    }

    pub fn appendfsync(&self) -> AppendFsync {
        match self.appendfsync.load(Ordering::Relaxed) {
            0 => AppendFsync::Always,
            1 => AppendFsync::Everysec,
            _ => AppendFsync::No,
        }
    }

    /// Whether replicas get their data set without a file, if they can.
    pub fn is_diskless_sync(&self) -> bool {
        self.diskless_sync.load(Ordering::Relaxed)
    }

    pub fn set_appendfsync(&self, mode: AppendFsync) {
        self.appendfsync.store(mode as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_flags(flags: &[&str]) -> Config {
        let mut loader = Loader::default();
        loader.read_flags(&flags.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
        assert_eq!(loader.problems, []);
        Config::from_settings(&loader.settings)
    }

    fn problems(flags: &[&str]) -> Vec<String> {
        from_flags(flags)
            .validate()
            .into_iter()
            .map(|p| p.message)
            .collect()
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), []);
        assert!(Config::default().memory_limit > MIN_MEMORY);
    }

    #[test]
    fn keys_go_by_use_below_a_bound_and_under_a_policy_that_asks_for_it() {
        let evicts = |flags: &[&str]| LiveSettings::new(&from_flags(flags)).evicts_by_use();
        assert!(!evicts(&["--maxmemory-policy", "allkeys-lru"]));
        for (policy, by_use) in [
            ("noeviction", false),
            ("allkeys-random", false),
            ("volatile-ttl", false),
            ("allkeys-lru", true),
            ("volatile-lfu", true),
        ] {
            let flags = ["--maxmemory", "1gb", "--maxmemory-policy", policy];
            assert_eq!(evicts(&flags), by_use, "{policy}");
        }
    }

    #[test]
    fn flags_become_a_configuration() {
        let config = from_flags(&[
            "--port",
            "7000",
            "--bind",
            "*",
            "-::*",
            "--memory-limit",
            "64mb",
        ]);
        assert_eq!(config.port, 7000);
        assert_eq!(
            config.bind,
            [IpAddr::from([0, 0, 0, 0]), IpAddr::from([0u16; 8])]
        );
        assert_eq!(config.memory_limit, 64 << 20);
    }

    #[test]
    fn a_node_of_a_cluster_needs_its_names() {
        assert_eq!(
            problems(&["--etcd", "http://a:1"]),
            ["etcd needs --cluster NAME"]
        );
        assert_eq!(problems(&["--cluster", "c"]).len(), 2);
        let flags = [
            "--cluster",
            "c",
            "--etcd",
            "http://a:1,http://b:1",
            "--node-id",
            "n",
        ];
        let config = from_flags(&flags);
        assert_eq!(config.validate(), []);
        let cluster = config.cluster.unwrap();
        assert_eq!(cluster.etcd, ["http://a:1", "http://b:1"]);
        assert_eq!(cluster.peer_port, 16379);
        assert!(config.settings.flag("cluster-enabled"));
        let with_users = [&flags[..], &["--aclfile", "users.acl"]].concat();
        assert_eq!(problems(&with_users), [USERS_OF_A_CLUSTER]);
    }

    #[test]
    fn contradictions_are_told() {
        assert_eq!(problems(&["--memory-limit", "1mb"]).len(), 1);
        assert_eq!(problems(&["--tls-port", "1"]).len(), 1);
        assert_eq!(problems(&["--daemonize", "yes"]).len(), 1);
        assert_eq!(problems(&["--cluster-enabled", "yes"]).len(), 1);
    }

    #[test]
    fn port_0_is_no_port_where_there_is_another_way_in() {
        let chosen = from_flags(&["--port", "0"]);
        assert_eq!(client_addresses(&chosen.settings), chosen.bind);
        let both = from_flags(&["--port", "7000", "--unixsocket", "/run/cairn.sock"]);
        assert_eq!(client_addresses(&both.settings), both.bind);
        let none = from_flags(&["--port", "0", "--unixsocket", "/run/cairn.sock"]);
        assert!(client_addresses(&none.settings).is_empty());
    }

    #[test]
    fn the_shipped_sample_equals_the_defaults() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cairn.conf");
        let mut loader = Loader::default();
        loader.read_file(&path);
        assert_eq!(loader.problems, []);
        assert_eq!(loader.settings, Settings::default());
        let text = std::fs::read_to_string(path).unwrap();
        for parameter in parameters::PARAMETERS {
            let works = parameter.effect == parameters::Effect::Works;
            let name = parameter.name;
            let written = text
                .lines()
                .any(|l| l.trim_start_matches("# ").split(' ').next() == Some(name));
            assert!(!works || written, "the sample says nothing of {name}");
        }
    }
}
