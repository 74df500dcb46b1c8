//! The proxy's settings: flags over file over defaults.
//!
//! `Args` are the flags; each may also stand in the TOML file of `--config`,
//! by the same name. `Config` is what one process was started with,
//! `Settings` the part that CONFIG SET may change while it runs.

use crate::timing::Thresholds;
use anyhow::{Context, ensure};
use clap::Parser;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Command line of `cairn-proxy`; the same names are read from the file.
#[derive(Debug, Clone, Default, Parser, Deserialize)]
#[command(
    name = "cairn-proxy",
    version,
    about = "Makes a Cairn cluster look like one plain Redis"
)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Args {
    /// TOML file with any of these settings; flags override it
    #[arg(long)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Checks the settings, prints the outcome, and ends
    #[arg(long)]
    #[serde(skip)]
    pub check_config: bool,
    /// Name of the cluster
    #[arg(long)]
    pub cluster: Option<String>,
    /// URLs of etcd, separated by commas
    #[arg(long)]
    pub etcd: Option<String>,
    /// Port for clients [default: 6379]
    #[arg(long)]
    pub port: Option<u16>,
    /// Addresses to listen on, separated by commas or spaces [default: 0.0.0.0]
    #[arg(long)]
    pub bind: Option<String>,
    /// Host that is told to others in etcd [default: the first of --bind, or 127.0.0.1]
    #[arg(long)]
    pub advertise: Option<String>,
    /// Id of this proxy in etcd and in nodes' logs [default: proxy-HOSTNAME-PORT]
    #[arg(long)]
    pub proxy_id: Option<String>,
    /// Network threads [default: half of the processors]
    #[arg(long)]
    pub io_threads: Option<usize>,
    /// Password that clients must give (AUTH)
    #[arg(long)]
    pub requirepass: Option<String>,
    /// Secret of the cluster, for the links to nodes
    #[arg(long, env = "CAIRN_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// File with the secret of the cluster
    #[arg(long)]
    pub secret_file: Option<PathBuf>,
    /// How long a client waits at most while a slot moves or a node is away [default: 15s]
    #[arg(long)]
    pub max_pause: Option<String>,
    /// Connections of clients at once [default: 10000]
    #[arg(long)]
    pub maxclients: Option<usize>,
    /// Refuse clients from elsewhere while there is no password: yes or no [default: yes]
    #[arg(long)]
    pub protected_mode: Option<String>,
    /// Unanswered commands of one client before it is no longer read [default: 1024]
    #[arg(long)]
    pub pipeline_limit: Option<usize>,
    /// Reply bytes a client may leave unread before it is cut off [default: 256mb]
    #[arg(long)]
    pub output_limit: Option<String>,
    /// Longest argument [default: 512mb]
    #[arg(long)]
    pub proto_max_bulk_len: Option<String>,
    /// SLOWLOG keeps commands that took longer, in microseconds; -1: none [default: 10000]
    #[arg(long, allow_negative_numbers = true)]
    pub slowlog_log_slower_than: Option<i64>,
    /// Entries that SLOWLOG keeps [default: 128]
    #[arg(long)]
    pub slowlog_max_len: Option<usize>,
    /// LATENCY keeps commands that took longer, in milliseconds; 0: none [default: 0]
    #[arg(long)]
    pub latency_monitor_threshold: Option<u64>,
    /// error, warn, info, debug or trace, or filters as of tracing [default: info]
    #[arg(long, env = "CAIRN_LOG")]
    pub log: Option<String>,
    /// text or json [default: text]
    #[arg(long)]
    pub log_format: Option<String>,
}

/// What a proxy was started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the cluster.
    pub cluster: String,
    /// URLs of etcd, separated by commas.
    pub etcd: String,
    /// Where clients connect; port 0 takes a free one.
    pub port: u16,
    /// Addresses to listen on.
    pub bind: Vec<IpAddr>,
    /// Host that others are told.
    pub advertise: String,
    /// Id in etcd and towards nodes.
    pub id: String,
    /// Network threads.
    pub io_threads: usize,
    /// Secret of the cluster; empty for none.
    pub secret: String,
    /// What may change at run time.
    pub settings: Settings,
    /// Log filter.
    pub log: String,
    /// JSON instead of text.
    pub log_json: bool,
}

/// What CONFIG SET may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Password of clients; empty for none.
    pub requirepass: String,
    /// Connections at once.
    pub maxclients: usize,
    /// Whether clients from elsewhere are refused while there is no password.
    pub protected_mode: bool,
    /// Longest pause that a client is made to wait.
    pub max_pause: Duration,
    /// Unanswered commands of one client.
    pub pipeline_limit: usize,
    /// Bytes of replies that a client may leave unread before it is cut off.
    pub output_limit: usize,
    /// Longest argument, in bytes.
    pub max_bulk: usize,
    /// Which commands SLOWLOG and LATENCY keep.
    pub thresholds: Thresholds,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            requirepass: String::new(),
            maxclients: 10_000,
            protected_mode: true,
            max_pause: Duration::from_secs(15),
            pipeline_limit: 1024,
            output_limit: 256 << 20,
            max_bulk: 512 << 20,
            thresholds: Thresholds::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: "cairn".into(),
            etcd: "http://127.0.0.1:2379".into(),
            port: 6379,
            bind: vec![IpAddr::from([0, 0, 0, 0])],
            advertise: "127.0.0.1".into(),
            id: "proxy".into(),
            io_threads: default_threads(),
            secret: String::new(),
            settings: Settings::default(),
            log: "info".into(),
            log_json: false,
        }
    }
}

fn default_threads() -> usize {
    std::thread::available_parallelism()
        .map_or(1, |n| n.get() / 2)
        .max(1)
}

impl Config {
    /// Settings from the command line and the file that it may name.
    ///
    /// # Errors
    /// An unreadable file, a value that makes no sense, a missing name.
    pub fn load(args: Args) -> anyhow::Result<Self> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => Args::default(),
        };
        Self::build(args, file)
    }

    fn build(flags: Args, file: Args) -> anyhow::Result<Self> {
        macro_rules! given {
            ($name:ident) => {
                flags.$name.clone().or(file.$name.clone())
            };
        }
        let base = Self::default();
        let port = given!(port).unwrap_or(base.port);
        let bind = given!(bind).map_or(Ok(base.bind.clone()), |list| parse_bind(&list))?;
        let config = Self {
            cluster: given!(cluster).context("--cluster NAME is needed: which cluster?")?,
            etcd: given!(etcd).context("--etcd URL[,URL] is needed: where is etcd?")?,
            port,
            advertise: given!(advertise).unwrap_or_else(|| advertised(&bind)),
            bind,
            id: given!(proxy_id).unwrap_or_else(|| format!("proxy-{}-{port}", host_name())),
            io_threads: given!(io_threads).unwrap_or(base.io_threads),
            secret: secret(given!(secret), given!(secret_file))?,
            settings: settings(&flags, &file)?,
            log: given!(log).unwrap_or(base.log),
            log_json: match given!(log_format).as_deref() {
                None | Some("text") => false,
                Some("json") => true,
                Some(other) => anyhow::bail!("--log-format is text or json, not {other:?}"),
            },
        };
        config.validate()?;
        Ok(config)
    }

    /// Checks what single values cannot tell.
    ///
    /// # Errors
    /// The first relation that does not hold.
    pub fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            !self.cluster.is_empty() && self.cluster.len() <= 255,
            "--cluster: 1 to 255 bytes"
        );
        ensure!(
            (1..=256).contains(&self.io_threads),
            "--io-threads: 1 to 256"
        );
        ensure!(!self.bind.is_empty(), "--bind: at least one address");
        ensure!(
            self.settings.pipeline_limit > 0,
            "--pipeline-limit: at least 1"
        );
        ensure!(
            self.settings.thresholds.slower_than >= -1,
            "--slowlog-log-slower-than: microseconds, or -1"
        );
        ensure!(self.settings.maxclients > 0, "--maxclients: at least 1");
        ensure!(
            self.settings.max_bulk >= 1 << 20,
            "--proto-max-bulk-len: at least 1mb"
        );
        ensure!(
            self.settings.max_bulk <= 512 << 20,
            "--proto-max-bulk-len: at most 512mb, or a command would not fit a link's frame"
        );
        Ok(())
    }
}

fn settings(flags: &Args, file: &Args) -> anyhow::Result<Settings> {
    macro_rules! given {
        ($name:ident) => {
            flags.$name.clone().or(file.$name.clone())
        };
    }
    let base = Settings::default();
    let size = |text: Option<String>, default, name: &str| match text {
        Some(text) => parse_size(&text).with_context(|| format!("--{name}: not a size: {text:?}")),
        None => Ok(default),
    };
    Ok(Settings {
        requirepass: given!(requirepass).unwrap_or_default(),
        maxclients: given!(maxclients).unwrap_or(base.maxclients),
        protected_mode: match given!(protected_mode) {
            Some(text) => parse_yes(&text).context("--protected-mode: yes or no")?,
            None => base.protected_mode,
        },
        max_pause: match given!(max_pause) {
            Some(text) => parse_duration(&text).context("--max-pause: such as 500ms or 15s")?,
            None => base.max_pause,
        },
        pipeline_limit: given!(pipeline_limit).unwrap_or(base.pipeline_limit),
        output_limit: size(given!(output_limit), base.output_limit, "output-limit")?,
        max_bulk: size(
            given!(proto_max_bulk_len),
            base.max_bulk,
            "proto-max-bulk-len",
        )?,
        thresholds: Thresholds {
            slower_than: given!(slowlog_log_slower_than).unwrap_or(base.thresholds.slower_than),
            slow_log_len: given!(slowlog_max_len).unwrap_or(base.thresholds.slow_log_len),
            spike_ms: given!(latency_monitor_threshold).unwrap_or(base.thresholds.spike_ms),
        },
    })
}

fn read_file(path: &Path) -> anyhow::Result<Args> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the config file {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in the config file {}", path.display()))
}

fn secret(direct: Option<String>, file: Option<PathBuf>) -> anyhow::Result<String> {
    match (direct, file) {
        (Some(secret), _) => Ok(secret),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read the secret in {}", path.display()))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        (None, None) => Ok(String::new()),
    }
}

fn parse_bind(list: &str) -> anyhow::Result<Vec<IpAddr>> {
    list.split([',', ' '])
        .filter(|part| !part.is_empty())
        .map(|part| match part {
            "*" => Ok(IpAddr::from([0, 0, 0, 0])),
            "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
            part => part
                .parse()
                .with_context(|| format!("--bind: not an address: {part:?}")),
        })
        .collect()
}

fn advertised(bind: &[IpAddr]) -> String {
    match bind.iter().find(|address| !address.is_unspecified()) {
        Some(address) => address.to_string(),
        None => "127.0.0.1".into(),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(40)
        .collect();
    if name.is_empty() { "host".into() } else { name }
}

/// `yes` or `no`, as in a Redis configuration.
pub(crate) fn parse_yes(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    }
}

/// Bytes, with the units of Redis (`1k` is 1000, `1kb` is 1024, ...).
pub(crate) fn parse_size(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// `200ms`, `15s`, `2m`; a bare number is milliseconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(unit)
        .map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &[&str]) -> Args {
        let base = ["cairn-proxy", "--cluster", "c", "--etcd", "http://e:1"];
        Args::parse_from(base.iter().chain(line))
    }

    #[test]
    fn flags_override_the_file() {
        let file: Args = toml::from_str("port = 7000\nmax-pause = '2s'\nbind = '::1'").unwrap();
        let config = Config::build(args(&["--port", "7001"]), file).unwrap();
        assert_eq!(config.port, 7001);
        assert_eq!(config.settings.max_pause, Duration::from_secs(2));
        assert_eq!(config.bind, [IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]);
        assert_eq!(config.advertise, "::1");
    }

    #[test]
    fn an_unknown_setting_in_the_file_is_an_error() {
        assert!(toml::from_str::<Args>("prot = 1").is_err());
    }

    #[test]
    fn a_missing_cluster_is_named() {
        let error = Config::build(Args::default(), Args::default()).unwrap_err();
        assert!(error.to_string().contains("--cluster"));
    }

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(parse_size("2kb"), Some(2048));
        assert_eq!(parse_size("2K"), Some(2000));
        assert_eq!(parse_size("99999999999999999999"), None);
        assert_eq!(parse_size("x"), None);
        assert_eq!(parse_duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(parse_duration("7"), Some(Duration::from_millis(7)));
        assert_eq!(parse_duration("7h"), None);
    }

    #[test]
    fn relations_are_checked() {
        assert!(Config::build(args(&["--io-threads", "0"]), Args::default()).is_err());
        assert!(Config::build(args(&["--proto-max-bulk-len", "1gb"]), Args::default()).is_err());
        assert!(Config::build(args(&["--protected-mode", "maybe"]), Args::default()).is_err());
    }
}
