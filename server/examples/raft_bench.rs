//! What the replication layer costs by itself: proposals per second and latency of one
//! group on disk, with a state machine that does nothing.
//!
//! Usage: `raft_bench [SECONDS] [IN_FLIGHT] [BYTES]` (defaults 3, 64, 256). The log goes
//! to a directory of its own under the system's temporary directory.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_server::raft::{
    ApplyError, CommittedEntry, Durability, EngineLog, EngineLogConfig, GroupSpec, MultiRaft,
    MultiRaftConfig, NoTransport, Proposal, ProposalOutcome, RaftHandle, RoleChange, StateMachine,
};

struct Nothing {
    applied: u64,
    ready: Sender<u64>,
}

impl StateMachine for Nothing {
    fn apply(&mut self, batch: &mut [CommittedEntry]) -> Result<(), ApplyError> {
        self.applied = batch.last().map_or(self.applied, |entry| entry.index);
        Ok(())
    }

    fn applied_index(&self) -> u64 {
        self.applied
    }

    fn durable_applied_index(&self) -> u64 {
        self.applied
    }

    fn on_role(&mut self, change: RoleChange) {
        if change.ready_to_evaluate {
            let _ = self.ready.send(change.term);
        }
    }
}

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|arg| arg.parse::<u64>().expect("a number"));
    let seconds = Duration::from_secs(args.next().unwrap_or(3));
    let in_flight = args.next().unwrap_or(64) as usize;
    let bytes = args.next().unwrap_or(256) as usize;
    println!("{bytes} B entries, one group");
    println!("durability,in_flight,proposals_per_s,p50_us,p99_us");
    for durability in [
        Durability::Interval(Duration::from_secs(1)),
        Durability::Always,
    ] {
        for in_flight in [1, in_flight] {
            measure(durability, in_flight, bytes, seconds);
        }
    }
}

fn measure(durability: Durability, in_flight: usize, bytes: usize, length: Duration) {
    let dir = std::env::temp_dir().join(format!("cairn-raft-bench-{}", std::process::id()));
    let log = Arc::new(EngineLog::open(&dir, EngineLogConfig::default()).expect("log opens"));
    let config = MultiRaftConfig {
        durability,
        ..MultiRaftConfig::default()
    };
    let on_fatal = MultiRaft::abort_on_failure();
    let raft = MultiRaft::start(config, log, Box::new(NoTransport), on_fatal).expect("starts");
    let handle = raft.handle();
    let (ready, when_ready) = channel();
    let machine = Box::new(Nothing { applied: 0, ready });
    handle
        .add_group(GroupSpec::alone(1), machine)
        .expect("group opens");
    let term = when_ready.recv().expect("leads");
    let mut latencies = drive(&handle, term, in_flight, bytes, length);
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_micros();
    let rate = latencies.len() as f64 / length.as_secs_f64();
    println!(
        "{durability:?},{in_flight},{rate:.0},{},{}",
        at(0.5),
        at(0.99)
    );
    raft.shutdown();
    std::fs::remove_dir_all(&dir).expect("removes its own directory");
}

/// Keeps `in_flight` proposals going; returns the latency of each.
fn drive(
    handle: &RaftHandle,
    term: u64,
    in_flight: usize,
    bytes: usize,
    length: Duration,
) -> Vec<Duration> {
    let data = Bytes::from(vec![b'x'; bytes]);
    let (tell, told) = channel();
    let propose = || {
        let (tell, begun) = (tell.clone(), Instant::now());
        let proposal = Proposal {
            term,
            lineage: 0,
            data: data.clone(),
            local: None,
            done: Box::new(move |outcome| {
                assert!(matches!(outcome, ProposalOutcome::Committed { .. }));
                let _ = tell.send(begun.elapsed());
            }),
        };
        handle.propose(1, proposal).expect("within bounds");
    };
    (0..in_flight).for_each(|_| propose());
    let end = Instant::now() + length;
    let mut latencies = Vec::new();
    while Instant::now() < end {
        latencies.push(told.recv().expect("the loop runs"));
        propose();
    }
    let rest = told.iter().take(in_flight).count();
    assert_eq!(rest, in_flight, "every proposal is answered");
    latencies
}
