//! A load generator of our own: GETs at a fixed rate, with latency histograms.
//!
//! A fixed rate, because a closed loop would measure how two loads share the
//! machine's cores rather than whether one makes the other wait. Latency counts
//! from the moment a request was due, so that a stalled server is not spared.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::Rng;

use crate::resp::Client;
use crate::seed;

/// Some connections that read keys `key:N` at a rate.
#[derive(Clone, Copy, Debug)]
pub struct Readers {
    pub port: u16,
    pub connections: u64,
    /// Requests a second of each connection.
    pub rate: u64,
    /// Keys are drawn from 0 up to this.
    pub keys: u64,
}

/// Latencies in microseconds.
pub type Latencies = Histogram<u64>;

/// Runs several loads at once for a time; their latencies in the same order.
/// A reply that is nil or an error panics: the keys are there.
pub fn run(loads: &[Readers], time: Duration) -> Vec<Latencies> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running: Vec<Vec<_>> = loads
            .iter()
            .map(|load| {
                let start = |actor| {
                    let stop = &stop;
                    scope.spawn(move || read_paced(*load, actor, stop))
                };
                (0..load.connections).map(start).collect()
            })
            .collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        running.into_iter().map(merge).collect()
    })
}

fn merge(threads: Vec<std::thread::ScopedJoinHandle<'_, Latencies>>) -> Latencies {
    let mut all = new_histogram();
    for thread in threads {
        all.add(thread.join().expect("a load thread ended well"))
            .expect("equal bounds");
    }
    all
}

fn read_paced(load: Readers, actor: u64, stop: &AtomicBool) -> Latencies {
    let mut random = seed::rng(load.keys, actor);
    let mut client = Client::connect(load.port);
    let mut latencies = new_histogram();
    let interval = Duration::from_secs(1) / u32::try_from(load.rate).expect("a sane rate");
    // Connections start apart, not all on the same beat.
    let mut due = Instant::now() + interval.mul_f64(random.random());
    while !stop.load(Ordering::Relaxed) {
        let begin = wait_until_due(due);
        let key = format!("key:{:012}", random.random_range(0..load.keys));
        let reply = client.try_command(&["GET", &key]).expect("a reply");
        assert!(
            matches!(reply, crate::resp::Value::Bulk(_)),
            "GET {key}: {reply:?}"
        );
        let latency = begin.elapsed().as_micros().clamp(1, 59_999_999);
        latencies.record(latency as u64).expect("within bounds");
        due = (due + interval).max(Instant::now() - Duration::from_secs(1));
    }
    latencies
}

/// The moment from which latency counts: when the request was due, if the one
/// before it came back too late for that; else now, because what a sleeping thread
/// overslept is not the server's.
fn wait_until_due(due: Instant) -> Instant {
    let left = due.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return due;
    }
    std::thread::sleep(left);
    Instant::now()
}

fn new_histogram() -> Latencies {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("sane bounds")
}
