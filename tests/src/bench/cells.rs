//! One cell: the same redis-benchmark run against two servers in turn.
//!
//! The runs alternate (A B A B A B), so that a machine that slows down or speeds
//! up meanwhile does so for both; the figures are medians over the rounds.

use std::process::Command;
use std::time::Duration;

use crate::resp::{Client, encode};
use crate::{binaries, process};

/// What all cells of one run of the benchmark share.
#[derive(Clone, Debug)]
pub struct Shape {
    pub connections: u32,
    pub value_bytes: usize,
    pub keys: u64,
    /// How long each run is at least.
    pub run_time: Duration,
    pub rounds: u32,
}

/// A redis-benchmark test at one pipeline depth.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Its name, and what redis-benchmark's `-t` takes (set, get, incr, mset) if
    /// `command` is empty.
    pub test: &'static str,
    pub pipeline: u32,
    /// Words of a command; `__rand_int__` in them stands for a random number.
    pub command: &'static [&'static str],
    /// Below which the random numbers are; `None`: the number of keys.
    pub range: Option<u64>,
}

impl Cell {
    /// One of redis-benchmark's own tests.
    pub fn builtin(test: &'static str, pipeline: u32) -> Cell {
        Cell {
            test,
            pipeline,
            command: &[],
            range: None,
        }
    }

    pub fn name(self) -> String {
        format!("{} -P {}", self.test.to_uppercase(), self.pipeline)
    }
}

/// A server that cells run against: where it listens, and the processes whose CPU
/// time is counted.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: String,
    pub port: u16,
    pub pids: Vec<u32>,
}

/// One run, or the medians of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub requests_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Microseconds of the servers' CPU for each request.
    pub cpu_us: f64,
}

/// Requests of the run that measures how many a real run needs.
const CALIBRATION_REQUESTS: u64 = 20_000;

/// Runs one cell against all targets; the median figures in the order of `targets`.
pub fn run_cell(shape: &Shape, cell: Cell, targets: &[Target]) -> Vec<Figures> {
    let mut requests: Vec<u64> = targets
        .iter()
        .map(|target| calibrate(shape, cell, target))
        .collect();
    let mut runs = vec![Vec::new(); targets.len()];
    for _ in 0..shape.rounds {
        for (index, target) in targets.iter().enumerate() {
            let figures = run_once(shape, cell, target, requests[index]);
            requests[index] = requests_for(shape, figures.requests_per_second);
            runs[index].push(figures);
        }
    }
    runs.iter().map(|figures| median(figures)).collect()
}

/// Two short runs: the second, sized by the first, is past connection set-up.
fn calibrate(shape: &Shape, cell: Cell, target: &Target) -> u64 {
    let first = run_once(
        shape,
        cell,
        target,
        CALIBRATION_REQUESTS * u64::from(cell.pipeline),
    );
    let second = run_once(
        shape,
        cell,
        target,
        (first.requests_per_second * 1.5) as u64,
    );
    requests_for(shape, second.requests_per_second)
}

/// A little more than needed: a run may be faster than the one it is sized by.
fn requests_for(shape: &Shape, requests_per_second: f64) -> u64 {
    (requests_per_second * shape.run_time.as_secs_f64() * 1.05) as u64 + 1_000
}

fn run_once(shape: &Shape, cell: Cell, target: &Target, requests: u64) -> Figures {
    let cpu = || -> Duration { target.pids.iter().map(|pid| process::cpu_time(*pid)).sum() };
    let before = cpu();
    let builtin = ["-t", cell.test];
    let words = match cell.command {
        [] => &builtin,
        command => command,
    };
    let output = Command::new(binaries::system("redis-benchmark"))
        .args(["-h", "127.0.0.1", "-p", &target.port.to_string(), "--csv"])
        .args([
            "-c",
            &shape.connections.to_string(),
            "-d",
            &shape.value_bytes.to_string(),
        ])
        .args([
            "-r",
            &cell.range.unwrap_or(shape.keys).to_string(),
            "-P",
            &cell.pipeline.to_string(),
        ])
        .args(["-n", &requests.to_string()])
        .args(words)
        .output()
        .expect("redis-benchmark starts");
    let used = cpu().saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut figures = parse_csv(&text).unwrap_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        panic!(
            "{} on {}: no figures in:\n{text}{errors}",
            cell.name(),
            target.name
        )
    });
    figures.cpu_us = used.as_secs_f64() * 1e6 / requests as f64;
    figures
}

/// The last line of `redis-benchmark --csv`:
/// test, rps, avg, min, p50, p95, p99, max (latencies in ms).
fn parse_csv(text: &str) -> Option<Figures> {
    let line = text
        .lines()
        .rev()
        .find(|line| line.starts_with('"') && !line.contains("\"rps\""))?;
    // The test's name may hold commas; the numbers are the last seven fields.
    let fields: Vec<f64> = line
        .split("\",\"")
        .filter_map(|field| field.trim_matches('"').parse().ok())
        .collect();
    let [requests_per_second, _, _, p50_ms, _, p99_ms, _] = fields.as_slice() else {
        return None;
    };
    Some(Figures {
        requests_per_second: *requests_per_second,
        p50_ms: *p50_ms,
        p99_ms: *p99_ms,
        cpu_us: 0.0,
    })
}

fn median(runs: &[Figures]) -> Figures {
    let middle = |value: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let upper = values.len() / 2;
        if values.len() % 2 == 1 {
            values[upper]
        } else {
            (values[upper - 1] + values[upper]) / 2.0
        }
    };
    Figures {
        requests_per_second: middle(|run| run.requests_per_second),
        p50_ms: middle(|run| run.p50_ms),
        p99_ms: middle(|run| run.p99_ms),
        cpu_us: middle(|run| run.cpu_us),
    }
}

/// Writes every key that redis-benchmark's `-r` can name (`key:000000000000` on).
pub fn load_keys(port: u16, keys: u64, value_bytes: usize) {
    const BATCH: u64 = 1_000;
    let mut client = Client::connect(port);
    let value = vec![b'x'; value_bytes];
    for first in (0..keys).step_by(BATCH as usize) {
        let mut requests = Vec::new();
        let last = (first + BATCH).min(keys);
        for number in first..last {
            let key = format!("key:{number:012}");
            encode(&mut requests, &[b"SET".as_slice(), key.as_bytes(), &value]);
        }
        let replies = client
            .pipeline(&requests, (last - first) as usize)
            .expect("replies");
        let refused = replies.iter().find(|reply| reply.value.is_error());
        assert!(refused.is_none(), "the load was refused: {refused:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_csv_of_redis_benchmark_is_read() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\
                    \"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
                    \"MSET (10 keys)\",\"81699.35\",\"0.329\",\"0.080\",\"0.311\",\"0.471\",\"0.615\",\"1.263\"\n";
        let figures = parse_csv(text).expect("figures");
        assert_eq!(figures.requests_per_second, 81_699.35);
        assert_eq!((figures.p50_ms, figures.p99_ms), (0.311, 0.615));
        assert!(parse_csv("nothing").is_none());
    }

    #[test]
    fn medians_are_taken_of_each_figure() {
        let run = |rps, p99| Figures {
            requests_per_second: rps,
            p99_ms: p99,
            ..Figures::default()
        };
        let middle = median(&[run(3.0, 1.0), run(1.0, 3.0), run(2.0, 2.0)]);
        assert_eq!((middle.requests_per_second, middle.p99_ms), (2.0, 2.0));
    }
}
