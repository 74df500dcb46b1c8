//! `make bench`: Cairn and its peers side by side on one machine, as ratios.
//!
//! Sections, each of which `--sections` can choose alone:
//! - `server`: cairn-server and redis-server (AOF everysec), redis-benchmark cells;
//! - `memory`: resident memory of both with the keys loaded;
//! - `collections`: the same two with hashes, lists, sets, sorted sets and streams;
//! - `big`: how long DEL, UNLINK, EXPIRE and SET take on a hash of a million fields;
//! - `proxy`: cairn-proxy over two groups against one node directly, and nutcracker
//!   over two redis-servers against one redis-server directly;
//! - `cold`: hot reads with and without cold ones beside them;
//! - `reshard`: the pause that moving half of the slots costs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cairn_tests::bench::cells::{Cell, Figures, Shape, Target, load_keys, run_cell};
use cairn_tests::bench::collections;
use cairn_tests::bench::paced::{self, Latencies, Readers};
use cairn_tests::bench::report::{Goal, Line, Report};
use cairn_tests::cluster::Cluster;
use cairn_tests::peers::{Nutcracker, Redis};
use cairn_tests::server::Server;
use clap::Parser;

#[derive(Parser)]
#[command(about = "Compares Cairn with redis-server and nutcracker on this machine")]
struct Options {
    /// Least duration of each run, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Runs of each cell on each server; the figures are medians
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Only cells whose name contains one of these, e.g. "GET -P 16" or "SET"
    #[arg(long, value_delimiter = ',')]
    cells: Vec<String>,
    /// Which sections to run
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "server,memory,collections,big,proxy,cold,reshard"
    )]
    sections: Vec<String>,
    #[arg(long, default_value_t = 50)]
    connections: u32,
    #[arg(long, default_value_t = 128)]
    value_bytes: usize,
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Where the figures go as CSV
    #[arg(long, default_value = "cairn-bench.csv")]
    csv: PathBuf,
}

impl Options {
    fn shape(&self) -> Shape {
        Shape {
            connections: self.connections,
            value_bytes: self.value_bytes,
            keys: self.keys,
            run_time: Duration::from_secs(self.seconds),
            rounds: self.rounds,
        }
    }

    fn wants(&self, section: &str) -> bool {
        self.sections.iter().any(|wanted| wanted == section)
    }

    fn wants_cell(&self, cell: Cell) -> bool {
        let name = cell.name();
        self.cells.is_empty()
            || self
                .cells
                .iter()
                .any(|wanted| name.contains(&wanted.to_uppercase()))
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut report = Report::default();
    if options.wants("server") || options.wants("memory") {
        server_and_memory(&options, &mut report);
    }
    if options.wants("collections") {
        all_collections(&options, &mut report);
    }
    if options.wants("big") {
        big_hash(&mut report);
    }
    if options.wants("proxy") {
        proxy(&options, &mut report);
    }
    if options.wants("cold") {
        cold_reads(&options, &mut report);
    }
    if options.wants("reshard") {
        reshard_pause(&options, &mut report);
    }
    report.write_csv(&options.csv);
    if report.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

// ---- server and memory ----------------------------------------------------------

const SERVER: &str = "cairn-server against redis-server (AOF everysec)";
const MEMORY: &str = "resident memory with the keys loaded, MB";

fn server_and_memory(options: &Options, report: &mut Report) {
    let (cairn, redis) = (Server::start(&[]), Redis::with_aof_everysec());
    for port in [cairn.port(), redis.port()] {
        load_keys(port, options.keys, options.value_bytes);
    }
    if options.wants("memory") {
        let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        report.add(Line {
            section: MEMORY,
            cell: format!("{} keys of {} B", options.keys, options.value_bytes),
            figure: "RSS",
            ours: megabytes(cairn.resident_bytes()),
            peer: megabytes(redis.resident_bytes()),
            goal: Some(Goal::AtMost(1.25)),
        });
    }
    if !options.wants("server") {
        return;
    }
    let targets = both(&cairn, &redis);
    for cell in server_cells()
        .into_iter()
        .filter(|cell| options.wants_cell(*cell))
    {
        let figures = run_cell(&options.shape(), cell, &targets);
        let goals = (Some(server_goal(cell)), Some(Goal::AtMost(2.5)));
        report.add_cell(SERVER, &cell.name(), figures[0], figures[1], goals);
    }
}

fn both(cairn: &Server, redis: &Redis) -> [Target; 2] {
    let target = |name: &str, port, pid| Target {
        name: name.into(),
        port,
        pids: vec![pid],
    };
    [
        target("cairn-server", cairn.port(), cairn.pid()),
        target("redis-server", redis.port(), redis.pid()),
    ]
}

fn server_cells() -> Vec<Cell> {
    let tests = ["set", "get", "incr", "mset"];
    [1, 16]
        .iter()
        .flat_map(|depth| tests.map(|test| Cell::builtin(test, *depth)))
        .collect()
}

fn server_goal(cell: Cell) -> Goal {
    Goal::AtLeast(match (cell.pipeline, cell.test) {
        (1, _) => 0.9,
        (_, "get") => 0.8,
        _ => 0.6,
    })
}

// ---- collections ------------------------------------------------------------------

const COLLECTIONS: &str = "collections: cairn-server against redis-server (AOF everysec)";

fn all_collections(options: &Options, report: &mut Report) {
    let (cairn, redis) = (Server::start(&[]), Redis::with_aof_everysec());
    let targets = both(&cairn, &redis);
    for target in &targets {
        collections::load(target.port, options.keys);
    }
    for cell in collections::cells()
        .into_iter()
        .filter(|cell| options.wants_cell(*cell))
    {
        let figures = run_cell(&options.shape(), cell, &targets);
        let goals = (Some(collections::goal(cell)), Some(Goal::AtMost(2.5)));
        report.add_cell(COLLECTIONS, &cell.name(), figures[0], figures[1], goals);
    }
}

const BIG: &str = "a hash of a million fields (peer: the goal of 5 ms)";
const BIG_FIELDS: u64 = 1_000_000;
const BIG_GOAL_MS: f64 = 5.0;

fn big_hash(report: &mut Report) {
    let server = Server::start(&[]);
    let mut client = server.client();
    for order in ["DEL big", "UNLINK big", "EXPIRE big 100", "SET big x"] {
        collections::load_big_hash(server.port(), "big", BIG_FIELDS);
        let started = Instant::now();
        let reply = client.words(order);
        let milliseconds = started.elapsed().as_secs_f64() * 1_000.0;
        assert!(!reply.is_error(), "{order}: {reply:?}");
        report.add(Line {
            section: BIG,
            cell: order.to_owned(),
            figure: "ms",
            ours: milliseconds,
            peer: BIG_GOAL_MS,
            goal: Some(Goal::AtMost(1.0)),
        });
        client.words("DEL big");
    }
}

// ---- proxy ------------------------------------------------------------------------

const PROXY: &str = "through cairn-proxy (two groups) against one node directly";
const TWEMPROXY: &str = "through nutcracker (two redis-servers) against one directly";
const PROXY_RATIO: &str = "what each proxy keeps of its server's throughput (peer: nutcracker)";

fn proxy(options: &Options, report: &mut Report) {
    let through = Cluster::start_with(&["--nodes", "2", "--groups", "2"]);
    let direct = Cluster::start_with(&["--nodes", "1", "--groups", "1"]);
    let node = direct.nodes.values().next().expect("a node");
    let redis = [(); 3].map(|()| Redis::with_aof_everysec());
    let nutcracker = Nutcracker::start(&[redis[0].port(), redis[1].port()]);
    let target = |name: &str, port, pids| Target {
        name: name.into(),
        port,
        pids,
    };
    let targets = [
        target("cairn-proxy", through.proxy_port, pids_of(&through)),
        target("a node directly", node.port, vec![node.pid]),
        target(
            "nutcracker",
            nutcracker.port(),
            vec![nutcracker.pid(), redis[0].pid(), redis[1].pid()],
        ),
        target(
            "redis-server directly",
            redis[2].port(),
            vec![redis[2].pid()],
        ),
    ];
    for target in &targets {
        load_keys(target.port, options.keys, options.value_bytes);
    }
    for test in ["set", "get"] {
        let cell = Cell::builtin(test, 16);
        if !options.wants_cell(cell) {
            continue;
        }
        let figures = run_cell(&options.shape(), cell, &targets);
        let goal = (Some(Goal::AtLeast(0.7)), None);
        report.add_cell(PROXY, &cell.name(), figures[0], figures[1], goal);
        report.add_cell(
            TWEMPROXY,
            &cell.name(),
            figures[2],
            figures[3],
            (None, None),
        );
        let kept = |through: Figures, direct: Figures| {
            through.requests_per_second / direct.requests_per_second
        };
        report.add(Line {
            section: PROXY_RATIO,
            cell: cell.name(),
            figure: "rps ratio",
            ours: kept(figures[0], figures[1]),
            peer: kept(figures[2], figures[3]),
            goal: Some(Goal::AtLeast(1.0)),
        });
    }
}

/// The proxy and its nodes: what serving costs as a whole.
fn pids_of(cluster: &Cluster) -> Vec<u32> {
    cluster
        .nodes
        .values()
        .map(|node| node.pid)
        .chain([cluster.proxy_pid])
        .collect()
}

// ---- cold reads -------------------------------------------------------------------

const COLD: &str = "hot GETs with cold ones beside them (peer: without)";
/// The data set is four times this.
const COLD_MEMORY_LIMIT: u64 = 128 << 20;
const COLD_VALUE_BYTES: u64 = 1_000;
const HOT_KEYS: u64 = 1_000;

fn cold_reads(options: &Options, report: &mut Report) {
    let limit = COLD_MEMORY_LIMIT.to_string();
    let keys = COLD_MEMORY_LIMIT * 4 / COLD_VALUE_BYTES;
    let server = Server::start(&["--memory-limit", &limit]);
    load_keys(server.port(), keys, COLD_VALUE_BYTES as usize);
    let data = server.data_dir();
    compare_hot_reads(options, report, "direct", server.port(), keys, &data);
    drop(server);

    let mut cluster = Cluster::start_with(&["--nodes", "2", "--groups", "2"]);
    cluster.restart_nodes_with(&["--memory-limit", &limit]);
    // Two nodes with a limit each: twice the data.
    load_keys(cluster.proxy_port, keys * 2, COLD_VALUE_BYTES as usize);
    let data = cluster.folder();
    compare_hot_reads(
        options,
        report,
        "through the proxy",
        cluster.proxy_port,
        keys * 2,
        &data,
    );
}

fn compare_hot_reads(
    options: &Options,
    report: &mut Report,
    path: &str,
    port: u16,
    keys: u64,
    data: &std::path::Path,
) {
    let hot = Readers {
        port,
        connections: 8,
        rate: 200,
        keys: HOT_KEYS,
    };
    let cold = Readers {
        port,
        connections: 8,
        rate: 200,
        keys,
    };
    // The same load on hot keys: what the machine's cores alone make of twice the rate.
    let beside = Readers {
        keys: HOT_KEYS,
        ..cold
    };
    let time = Duration::from_secs(options.seconds);
    paced::run(&[hot], Duration::from_secs(2));
    let alone = paced::run(&[hot], time);
    let busy = paced::run(&[hot, beside], time);
    drop_page_cache(data);
    let mixed = paced::run(&[hot, cold], time);
    for (name, quantile) in [("p50 us", 0.5), ("p99 us", 0.99), ("p99.9 us", 0.999)] {
        let at = |latencies: &Latencies| latencies.value_at_quantile(quantile) as f64;
        let line = |cell: String, ours: f64, goal| Line {
            section: COLD,
            cell,
            figure: name,
            ours,
            peer: at(&alone[0]),
            goal,
        };
        let goal = (name == "p99 us").then_some(Goal::AtMost(2.0));
        report.add(line(format!("{path}, cold beside"), at(&mixed[0]), goal));
        report.add(line(format!("{path}, hot beside"), at(&busy[0]), None));
        report.add(line(format!("{path}, the cold reads"), at(&mixed[1]), None));
    }
}

/// Asks the kernel to forget the files, so that cold reads go to the device. Data
/// that is not written back yet stays, hence the sync.
fn drop_page_cache(folder: &std::path::Path) {
    use std::os::fd::AsRawFd;
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            drop_page_cache(&path);
        } else if let Ok(file) = std::fs::File::open(&path) {
            let _ = file.sync_data();
            // SAFETY: advice on an open file descriptor; no memory is involved.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        }
    }
}

// ---- reshard ----------------------------------------------------------------------

const RESHARD: &str = "moving half of the slots under load (goal: pause under 200 ms)";
const ALLOWED_PAUSE_MS: f64 = 200.0;

fn reshard_pause(options: &Options, report: &mut Report) {
    let cluster = Cluster::start_with(&["--nodes", "2", "--groups", "2"]);
    let keys = options.keys / 5;
    load_keys(cluster.proxy_port, keys, options.value_bytes);
    let load = Readers {
        port: cluster.proxy_port,
        connections: 16,
        rate: 200,
        keys,
    };
    for (from, to) in [("1", "2"), ("2", "1")].repeat(options.rounds as usize) {
        let (latencies, pause) = std::thread::scope(|scope| {
            let reads =
                scope.spawn(|| paced::run(&[load], Duration::from_secs(options.seconds.max(10))));
            let arguments = [
                "reshard", "--from", from, "--to", to, "--slots", "0-8191", "--yes",
            ];
            cluster.admin.run(&arguments);
            let plan = cluster.admin.newest_plan().expect("a plan was recorded");
            let done = cluster.admin.wait_done(&plan.id, Duration::from_secs(300));
            (
                reads.join().expect("the readers ended well"),
                done.pause_ms.unwrap_or(f64::NAN),
            )
        });
        let cell = format!("{from} -> {to}");
        let line = |figure, ours, goal| Line {
            section: RESHARD,
            cell: cell.clone(),
            figure,
            ours,
            peer: ALLOWED_PAUSE_MS,
            goal,
        };
        report.add(line("pause ms", pause, Some(Goal::AtMost(1.0))));
        report.add(line(
            "longest GET ms",
            latencies[0].max() as f64 / 1_000.0,
            None,
        ));
    }
}
