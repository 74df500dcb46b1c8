//! INFO: the state of the server as lines of text, in Redis's sections.
//!
//! Everything is put together off the network threads, because some figures
//! are asked of the disk. What has no counterpart here is shown as the value
//! that means "none", so that tools that read Redis's fields find them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use cairn_protocol::command;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::connection::REDIS_VERSION;
use super::keyspace::{self, DbFigures};
use crate::memory::{human, usage};
use crate::net::session::{Next, Session};
use crate::pubsub::Kind;
use crate::replication::follow::{LinkState, Shown};
use crate::server::Server;
use crate::stats::KeysGone;
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[("info", Handler::Session(info))];

/// Writes the lines of one section.
type WriteSection = fn(&Facts, &mut String);

/// All sections in the order of Redis, ours last. True: shown by default.
const SECTIONS: [(&str, bool, WriteSection); 14] = [
    ("server", true, server),
    ("clients", true, clients),
    ("memory", true, memory),
    ("persistence", true, persistence),
    ("stats", true, stats),
    ("replication", true, replication),
    ("cpu", true, cpu),
    ("modules", true, modules),
    ("commandstats", false, commandstats),
    ("errorstats", true, errorstats),
    ("latencystats", false, latencystats),
    ("cluster", true, cluster),
    ("keyspace", true, keyspace),
    ("cairn", true, cairn),
];

/// INFO [section ...]
fn info(session: &mut Session, args: &Args<'_>, _: &mut ReplyWriter) -> Result<Next, CommandError> {
    let wanted = wanted_sections(args);
    let server = session.server.clone();
    Ok(Next::Work(Box::new(move |out| {
        let facts = Facts::gather(server);
        let mut text = String::with_capacity(8 << 10);
        for (name, _, write) in SECTIONS.iter().filter(|(name, ..)| wanted.contains(name)) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let mut title = (*name).to_owned();
            title[..1].make_ascii_uppercase();
            let title = if *name == "cpu" { "CPU".into() } else { title };
            let _ = write!(text, "# {title}\r\n");
            write(&facts, &mut text);
        }
        out.verbatim("txt", text.as_bytes());
    })))
}

/// The sections that the arguments name; without any, the usual ones.
fn wanted_sections(args: &Args<'_>) -> BTreeSet<&'static str> {
    let usual = |with_all: bool| {
        SECTIONS
            .iter()
            .filter(move |(_, usual, _)| *usual || with_all)
            .map(|(name, ..)| *name)
    };
    let mut wanted = BTreeSet::new();
    if args.len() == 1 {
        wanted.extend(usual(false));
    }
    for word in args.iter().skip(1) {
        match word.to_ascii_lowercase().as_slice() {
            b"default" => wanted.extend(usual(false)),
            b"all" => wanted.extend(usual(true)),
            b"everything" => wanted.extend(usual(true)),
            word => {
                let known = SECTIONS.iter().find(|(name, ..)| name.as_bytes() == word);
                wanted.extend(known.map(|(name, ..)| *name));
            }
        }
    }
    wanted
}

/// What several sections need, gathered once.
struct Facts {
    server: Arc<Server>,
    now_micros: u64,
    databases: Vec<(usize, DbFigures)>,
}

impl Facts {
    fn gather(server: Arc<Server>) -> Facts {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let databases = keyspace::figures(&server);
        Facts {
            server,
            now_micros: now.as_micros() as u64,
            databases,
        }
    }

    fn text(&self, name: &str) -> String {
        self.server.settings.lock().text(name)
    }
}

fn load(n: &AtomicU64) -> u64 {
    n.load(Ordering::Relaxed)
}

/// Writes `name:value` lines.
macro_rules! lines {
    ($out:expr; $($name:literal => $value:expr),+ $(,)?) => {
        $( let _ = write!($out, concat!($name, ":{}\r\n"), $value); )+
    };
}

fn server(facts: &Facts, out: &mut String) {
    let server = &facts.server;
    let up = server.started.elapsed().as_secs();
    let mode = if server.is_cluster() {
        "cluster"
    } else {
        "standalone"
    };
    let executable = std::env::current_exe().unwrap_or_default();
    let file = server.config.config_file.clone().unwrap_or_default();
    lines! { out;
        "redis_version" => REDIS_VERSION,
        "cairn_version" => env!("CARGO_PKG_VERSION"),
        "redis_git_sha1" => "00000000",
        "redis_git_dirty" => 0,
        "redis_build_id" => "0",
        "redis_mode" => mode,
        "os" => operating_system(),
        "arch_bits" => usize::BITS,
        "monotonic_clock" => "POSIX clock_gettime",
        "multiplexing_api" => "epoll",
        "atomicvar_api" => "c11-builtin",
        "gcc_version" => "0.0.0",
        "process_id" => std::process::id(),
        "process_supervised" => "no",
        "run_id" => server.run_id,
        "tcp_port" => server.listening_port(),
        "server_time_usec" => facts.now_micros,
        "uptime_in_seconds" => up,
        "uptime_in_days" => up / 86_400,
        "hz" => 10,
        "configured_hz" => facts.text("hz"),
        "lru_clock" => (facts.now_micros / 1_000_000) & 0xff_ffff,
        "executable" => executable.display(),
        "config_file" => file.display(),
        "io_threads_active" => u8::from(server.config.io_threads > 1),
    }
}

fn operating_system() -> String {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        text.trim().to_owned()
    };
    format!(
        "{} {} {}",
        read("ostype"),
        read("osrelease"),
        std::env::consts::ARCH
    )
}

fn clients(facts: &Facts, out: &mut String) {
    let server = &facts.server;
    let most = |value: fn(&crate::net::session::Client) -> usize| {
        server.clients.iter().map(|c| value(&c)).max().unwrap_or(0)
    };
    lines! { out;
        "connected_clients" => server.connected.load(Ordering::Relaxed),
        "cluster_connections" => 0,
        "maxclients" => server.live.maxclients.load(Ordering::Relaxed),
        "client_recent_max_input_buffer" => most(|c| c.query_buffer.load(Ordering::Relaxed)),
        "client_recent_max_output_buffer" => most(|c| c.output_buffer.load(Ordering::Relaxed)),
        "blocked_clients" => server.blocked.load(Ordering::Relaxed),
        "tracking_clients" => server.announcer.tracking.clients(),
        "clients_in_timeout_table" => 0,
        "clients_sent_pieces" => server.pieces.now(),
    }
}

fn memory(facts: &Facts, out: &mut String) {
    let server = &facts.server;
    let used = usage();
    let lua = crate::scripting::usage();
    let replicas = keyspace::client_bytes(server, true);
    let backlog = server
        .announcer
        .feed
        .backlog()
        .map_or(0, |(len, _)| len as u64);
    // What the data weighs, not what this process holds of it: see
    // `Server::used_memory`. The allocator's own figures are below.
    let memory = server.used_memory();
    let peak = load(&server.vitals.peak_memory).max(memory);
    let startup = load(&server.vitals.startup_memory);
    let dataset = server.data_weight();
    let gone = server
        .stats
        .gone_since_reset(KeysGone::of(&server.groups()));
    let total = crate::config::total_memory() as u64;
    let percent =
        |part: u64, whole: u64| format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64);
    let ratio = |a: usize, b: usize| format!("{:.2}", a as f64 / b.max(1) as f64);
    let more = |a: usize, b: usize| a as i64 - b as i64;
    lines! { out;
        "used_memory" => memory,
        "used_memory_human" => human(memory),
        "used_memory_rss" => used.rss,
        "used_memory_rss_human" => human(used.rss as u64),
        "used_memory_peak" => peak,
        "used_memory_peak_human" => human(peak),
        "used_memory_peak_perc" => percent(memory, peak),
        "used_memory_overhead" => memory - dataset,
        "used_memory_startup" => startup,
        "used_memory_dataset" => dataset,
        "used_memory_dataset_perc" => percent(dataset, memory - startup),
        "allocator_allocated" => used.allocated,
        "allocator_active" => used.active,
        "allocator_resident" => used.resident,
        "total_system_memory" => total,
        "total_system_memory_human" => human(total),
        "used_memory_lua" => lua.script_vm,
        "used_memory_vm_eval" => lua.script_vm,
        "used_memory_lua_human" => human(lua.script_vm as u64),
        "used_memory_scripts_eval" => lua.script_bytes,
        "number_of_cached_scripts" => lua.scripts,
        "number_of_functions" => lua.functions,
        "number_of_libraries" => lua.libraries,
        "used_memory_vm_functions" => lua.function_vm,
        "used_memory_vm_total" => lua.script_vm + lua.function_vm,
        "used_memory_vm_total_human" => human((lua.script_vm + lua.function_vm) as u64),
        "used_memory_functions" => lua.library_bytes,
        "used_memory_scripts" => lua.script_bytes + lua.library_bytes,
        "used_memory_scripts_human" => human((lua.script_bytes + lua.library_bytes) as u64),
        "maxmemory" => facts.text("maxmemory"),
        "maxmemory_human" => human(facts.text("maxmemory").parse().unwrap_or(0)),
        "maxmemory_policy" => facts.text("maxmemory-policy"),
        "allocator_frag_ratio" => ratio(used.active, used.allocated),
        "allocator_frag_bytes" => more(used.active, used.allocated),
        "allocator_rss_ratio" => ratio(used.resident, used.active),
        "allocator_rss_bytes" => more(used.resident, used.active),
        "rss_overhead_ratio" => ratio(used.rss, used.resident),
        "rss_overhead_bytes" => more(used.rss, used.resident),
        "mem_fragmentation_ratio" => ratio(used.rss, used.allocated),
        "mem_fragmentation_bytes" => more(used.rss, used.allocated),
        "mem_not_counted_for_evict" => 0,
        "mem_replication_backlog" => backlog,
        "mem_total_replication_buffers" => replicas + backlog,
        "mem_clients_slaves" => replicas,
        "mem_clients_normal" => keyspace::client_bytes(server, false),
        "mem_cluster_links" => 0,
        "mem_aof_buffer" => 0,
        "mem_allocator" => "jemalloc-5.3.1",
        "active_defrag_running" => 0,
        "lazyfree_pending_objects" => 0,
        "lazyfreed_objects" => gone.lazily_freed,
    }
}

fn persistence(facts: &Facts, out: &mut String) {
    let server = &facts.server;
    lines! { out;
        "loading" => u8::from(server.following.is_loading()),
        "async_loading" => 0,
        "current_cow_peak" => 0,
        "current_cow_size" => 0,
        "current_cow_size_age" => 0,
        "current_fork_perc" => "0.00",
        "current_save_keys_processed" => 0,
        "current_save_keys_total" => 0,
        "rdb_changes_since_last_save" => server.saves.changes_since(server),
        "rdb_bgsave_in_progress" => u8::from(server.saves.running()),
        "rdb_last_save_time" => server.saves.last(),
        "rdb_last_bgsave_status" => if server.saves.failed() { "err" } else { "ok" },
        "rdb_last_bgsave_time_sec" => server.saves.last_seconds(),
        "rdb_current_bgsave_time_sec" => -1,
        "rdb_saves" => server.saves.count(),
        "rdb_last_cow_size" => 0,
        "rdb_last_load_keys_expired" => 0,
        "rdb_last_load_keys_loaded" => 0,
        "aof_enabled" => 1,
        "aof_rewrite_in_progress" => u8::from(server.saves.rewriting()),
        "aof_rewrite_scheduled" => 0,
        "aof_last_rewrite_time_sec" => -1,
        "aof_current_rewrite_time_sec" => -1,
        "aof_last_bgrewrite_status" => "ok",
        "aof_rewrites" => server.saves.rewrites(),
        "aof_rewrites_consecutive_failures" => 0,
        "aof_last_write_status" => if server.vitals.disk_full.load(Ordering::Relaxed) { "err" } else { "ok" },
        "aof_last_cow_size" => 0,
        "module_fork_in_progress" => 0,
        "module_fork_last_cow_size" => 0,
        "aof_current_size" => keyspace::disk_bytes(server),
        "aof_base_size" => 0,
        "aof_pending_rewrite" => 0,
        "aof_buffer_length" => 0,
        "aof_pending_bio_fsync" => 0,
        "aof_delayed_fsync" => 0,
    }
}

fn stats(facts: &Facts, out: &mut String) {
    let server = &facts.server;
    let stats = &server.stats;
    let syncs = &server.announcer.feed.syncs;
    let gone = stats.gone_since_reset(KeysGone::of(&server.groups()));
    let kbps = |bytes: &AtomicU64| format!("{:.2}", load(bytes) as f64 / 1024.0);
    let errors: u64 = stats.errors.iter().map(|e| *e.value()).sum();
    lines! { out;
        "total_connections_received" => load(&stats.connections_received),
        "total_commands_processed" => stats.total_commands(),
        "instantaneous_ops_per_sec" => load(&server.vitals.ops_per_second),
        "total_net_input_bytes" => load(&stats.net_input_bytes),
        "total_net_output_bytes" => load(&stats.net_output_bytes),
        "total_net_repl_input_bytes" => load(&server.following.input_bytes),
        "total_net_repl_output_bytes" => 0,
        "instantaneous_input_kbps" => kbps(&server.vitals.input_bytes_per_second),
        "instantaneous_output_kbps" => kbps(&server.vitals.output_bytes_per_second),
        "instantaneous_input_repl_kbps" => "0.00",
        "instantaneous_output_repl_kbps" => "0.00",
        "rejected_connections" => load(&stats.rejected_connections),
        "sync_full" => load(&syncs.full),
        "sync_partial_ok" => load(&syncs.partial),
        "sync_partial_err" => load(&syncs.refused),
        "expired_keys" => gone.expired,
        "expired_stale_perc" => "0.00",
        "expired_time_cap_reached_count" => 0,
        "expire_cycle_cpu_milliseconds" => 0,
        "evicted_keys" => gone.evicted,
        "evicted_clients" => load(&stats.evicted_clients),
        "total_eviction_exceeded_time" => 0,
        "current_eviction_exceeded_time" => 0,
        "keyspace_hits" => load(&stats.keyspace_hits),
        "keyspace_misses" => load(&stats.keyspace_misses),
        "pubsub_channels" => server.pubsub().count(Kind::Channel),
        "pubsub_patterns" => server.pubsub().count(Kind::Pattern),
        "pubsubshard_channels" => server.pubsub().count(Kind::Shard),
        "latest_fork_usec" => 0,
        "total_forks" => 0,
        "migrate_cached_sockets" => server.targets.len(),
        "slave_expires_tracked_keys" => 0,
        "active_defrag_hits" => 0,
        "active_defrag_misses" => 0,
        "active_defrag_key_hits" => 0,
        "active_defrag_key_misses" => 0,
        "total_active_defrag_time" => 0,
        "current_active_defrag_time" => 0,
        "tracking_total_keys" => server.announcer.tracking.keys(),
        "tracking_total_items" => server.announcer.tracking.items(),
        "tracking_total_prefixes" => server.announcer.tracking.prefixes(),
        "unexpected_error_replies" => load(&server.following.error_replies),
        "total_error_replies" => errors,
        "dump_payload_sanitizations" => 0,
        "total_reads_processed" => 0,
        "total_writes_processed" => 0,
        "io_threaded_reads_processed" => 0,
        "io_threaded_writes_processed" => 0,
        "reply_buffer_shrinks" => 0,
        "reply_buffer_expands" => 0,
        "total_replies_in_pieces" => server.pieces.all(),
    }
}

fn replication(facts: &Facts, out: &mut String) {
    let feed = &facts.server.announcer.feed;
    let replicas = feed.replicas();
    match facts.server.following.shown() {
        None => {
            lines! { out; "role" => "master" }
        }
        Some(shown) => replica(facts, &shown, out),
    }
    lines! { out; "connected_slaves" => replicas.len() }
    if feed.min_replicas() > 0 {
        lines! { out; "min_slaves_good_slaves" => feed.good_replicas() }
    }
    for (at, replica) in replicas.iter().enumerate() {
        let _ = write!(
            out,
            "slave{at}:ip={},port={},state={},offset={},lag={}\r\n",
            replica.host,
            replica.port,
            replica.state().name(),
            replica.acknowledged(),
            replica.lag().as_secs()
        );
    }
    let backlog = feed.backlog();
    let before = facts.server.replication_id_before();
    let before = before.map_or(("0".repeat(40), -1), |(id, offset)| (id, offset as i64));
    lines! { out;
        "master_failover_state" => facts.server.failover.phase().name(),
        "master_replid" => facts.server.replication_id(),
        "master_replid2" => before.0,
        "master_repl_offset" => feed.offset(),
        "second_repl_offset" => before.1,
        "repl_backlog_active" => u8::from(backlog.is_some()),
        "repl_backlog_size" => facts.text("repl-backlog-size"),
        "repl_backlog_first_byte_offset" => backlog.map_or(0, |(_, first)| first),
        "repl_backlog_histlen" => backlog.map_or(0, |(len, _)| len),
    }
}

/// Of a server that follows a master.
fn replica(facts: &Facts, shown: &Shown, out: &mut String) {
    let up = shown.link == LinkState::Connected;
    let silent = match up {
        true => shown.silent.as_secs() as i64,
        false => -1,
    };
    lines! { out;
        "role" => "slave",
        "master_host" => shown.master.host,
        "master_port" => shown.master.port,
        "master_link_status" => if up { "up" } else { "down" },
        "master_last_io_seconds_ago" => silent,
        "master_sync_in_progress" => u8::from(shown.link == LinkState::Sync),
        "slave_read_repl_offset" => shown.read,
        "slave_repl_offset" => shown.offset.map_or(-1, |offset| offset as i64),
    }
    if shown.link == LinkState::Sync {
        let (total, received) = shown.transfer;
        let total = if total == 0 { -1 } else { total as i64 };
        let left = if total < 0 {
            -1
        } else {
            total - received as i64
        };
        let percent = received as f64 * 100.0 / total.max(1) as f64;
        lines! { out;
            "master_sync_total_bytes" => total,
            "master_sync_read_bytes" => received,
            "master_sync_left_bytes" => left,
            "master_sync_perc" => format!("{:.2}", if total < 0 { 0.0 } else { percent }),
            "master_sync_last_io_seconds_ago" => shown.silent.as_secs(),
        }
    }
    if let Some(down) = shown.down {
        lines! { out; "master_link_down_since_seconds" => down.as_secs() }
    }
    lines! { out;
        "slave_priority" => facts.text("replica-priority"),
        "slave_read_only" => u8::from(facts.text("replica-read-only") == "yes"),
        "replica_announced" => u8::from(facts.text("replica-announced") == "yes"),
    }
}

fn cpu(_: &Facts, out: &mut String) {
    let [own, children, thread] = [
        libc::RUSAGE_SELF,
        libc::RUSAGE_CHILDREN,
        libc::RUSAGE_THREAD,
    ]
    .map(used_cpu);
    lines! { out;
        "used_cpu_sys" => own.0,
        "used_cpu_user" => own.1,
        "used_cpu_sys_children" => children.0,
        "used_cpu_user_children" => children.1,
        "used_cpu_sys_main_thread" => thread.0,
        "used_cpu_user_main_thread" => thread.1,
    }
}

/// Seconds of system and user time.
fn used_cpu(whose: i32) -> (String, String) {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the structure; zeroes are valid for it as well.
    let usage = unsafe {
        libc::getrusage(whose, usage.as_mut_ptr());
        usage.assume_init()
    };
    let shown = |t: libc::timeval| format!("{}.{:06}", t.tv_sec, t.tv_usec);
    (shown(usage.ru_stime), shown(usage.ru_utime))
}

fn modules(_: &Facts, _: &mut String) {}

fn commandstats(facts: &Facts, out: &mut String) {
    let figures = |spec: &command::CommandSpec| &facts.server.stats.commands[spec.id.index()];
    for spec in command::all() {
        let (calls, nanos) = (load(&figures(spec).calls), load(&figures(spec).nanos));
        let (rejected, failed) = (load(&figures(spec).rejected), load(&figures(spec).failed));
        if calls + rejected + failed == 0 {
            continue;
        }
        let micros = nanos / 1000;
        let each = if calls == 0 {
            0.0
        } else {
            nanos as f64 / 1000.0 / calls as f64
        };
        let _ = write!(
            out,
            "cmdstat_{}:calls={calls},usec={micros},usec_per_call={each:.2},\
             rejected_calls={rejected},failed_calls={failed}\r\n",
            spec.name
        );
    }
}

fn errorstats(facts: &Facts, out: &mut String) {
    let errors = &facts.server.stats.errors;
    let mut all: Vec<(String, u64)> = errors
        .iter()
        .map(|e| (e.key().clone(), *e.value()))
        .collect();
    all.sort();
    for (prefix, count) in all {
        let _ = write!(out, "errorstat_{prefix}:count={count}\r\n");
    }
}

fn latencystats(facts: &Facts, out: &mut String) {
    let server = &facts.server;
    if !server.live.latency_tracking.load(Ordering::Relaxed) {
        return;
    }
    let percentiles = facts.text("latency-tracking-info-percentiles");
    let percentiles: Vec<&str> = percentiles.split(' ').filter(|p| !p.is_empty()).collect();
    for spec in command::all() {
        let Some(histogram) = server.stats.commands[spec.id.index()].histogram() else {
            continue;
        };
        let shown: Vec<String> = percentiles
            .iter()
            .map(|p| {
                let micros = histogram.percentile(p.parse().unwrap_or(0.0)) as f64 / 1000.0;
                format!("p{p}={micros:.3}")
            })
            .collect();
        let _ = write!(
            out,
            "latency_percentiles_usec_{}:{}\r\n",
            spec.name,
            shown.join(",")
        );
    }
}

fn cluster(facts: &Facts, out: &mut String) {
    lines! { out; "cluster_enabled" => u8::from(facts.server.is_cluster()) }
}

fn keyspace(facts: &Facts, out: &mut String) {
    for (db, figures) in &facts.databases {
        let _ = write!(
            out,
            "db{db}:keys={},expires={},avg_ttl={}\r\n",
            figures.keys, figures.expires, figures.average_ttl
        );
    }
}

fn cairn(facts: &Facts, out: &mut String) {
    let server = &facts.server;
    let plan = crate::storage::MemoryPlan::divide(server.config.memory_limit);
    lines! { out;
        "durability" => keyspace::durability(server),
        "memory_limit" => server.config.memory_limit,
        "memory_plan_record_cache" => plan.record_cache,
        "memory_plan_scan_cache" => plan.scan_cache,
        "memory_plan_block_cache" => plan.block_cache,
        "memory_plan_write_buffers" => plan.write_buffers,
        "disk_bytes" => keyspace::disk_bytes(server),
        "disk_free_bytes" => load(&server.vitals.free_disk),
        "disk_full" => u8::from(server.vitals.disk_full.load(Ordering::Relaxed)),
        "cold_reads" => load(&server.stats.cold_reads),
        "io_threads" => server.config.io_threads,
        "groups" => server.groups().len(),
    }
    for group in server.groups() {
        let store = &group.store;
        let (hits, misses) = store.cache.counts();
        let (records, bytes) = store.cache.usage();
        let (scan_hits, scan_misses) = store.scan_cache.counts();
        let (pages, page_bytes) = store.scan_cache.usage();
        let position = store.position();
        let _ = write!(
            out,
            "group{}:index={},term={},log_time={},queued={},writer_cold_reads={},\
             cached_records={records},cached_bytes={bytes},cache_hits={hits},\
             cache_misses={misses},expired_keys={},scan_pages={pages},\
             scan_bytes={page_bytes},scan_hits={scan_hits},scan_misses={scan_misses}\r\n",
            group.id,
            position.index,
            position.term,
            store.log_time(),
            group.queued(),
            load(&group.writer_cold_reads),
            load(&group.expired_keys),
        );
    }
}
