//! The loop, with real threads. Waits are for conditions, with a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use raft::eraftpb::{Entry, Message};

use super::core::Refusal;
use super::engine_log::{EngineLog, EngineLogConfig};
use super::handle::{Proposal, ProposalOutcome, RaftHandle, RefusedReason};
use super::log_store::{Durability, LogBatch, LogError, LogState, RaftLogStore};
use super::memory_log::MemoryLog;
use super::multi::{MultiRaft, MultiRaftConfig, NoTransport, RaftFailure, StateMachine, Transport};
use super::shared::HoldError;
use super::sim::{Recorder, data_of};
use super::start::GroupSpec;

const DEADLINE: Duration = Duration::from_secs(20);

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

type Failures = Arc<Mutex<Vec<String>>>;

struct Node {
    raft: MultiRaft,
    handle: RaftHandle,
    failures: Failures,
}

fn node(config: MultiRaftConfig, store: Arc<dyn RaftLogStore>) -> Node {
    let failures = Failures::default();
    let seen = failures.clone();
    let on_fatal = Arc::new(move |failure: &RaftFailure| seen.lock().push(failure.to_string()));
    let raft = MultiRaft::start(config, store, Box::new(NoTransport), on_fatal).expect("starts");
    let handle = raft.handle();
    Node {
        raft,
        handle,
        failures,
    }
}

impl Node {
    fn lead(&self, group: u64, machine: &Recorder) {
        let spec = GroupSpec::alone(group);
        self.handle
            .add_group(spec, Box::new(machine.clone()))
            .expect("opens");
        wait_for("leadership", || self.ready(group));
    }

    fn ready(&self, group: u64) -> bool {
        let status = self.handle.status(group).expect("there");
        status.role.ready_to_evaluate
    }
}

type Outcomes = (Sender<ProposalOutcome>, Receiver<ProposalOutcome>);

fn proposal(
    handle: &RaftHandle,
    group: u64,
    value: u64,
    told: &Sender<ProposalOutcome>,
) -> Proposal {
    let told = told.clone();
    Proposal {
        term: handle.status(group).expect("there").role.term,
        lineage: 1 + value,
        data: data_of(value),
        local: Some(Box::new(value)),
        done: Box::new(move |outcome| {
            let _ = told.send(outcome);
        }),
    }
}

fn outcome(told: &Receiver<ProposalOutcome>) -> ProposalOutcome {
    told.recv_timeout(DEADLINE).expect("an outcome")
}

fn commit(handle: &RaftHandle, group: u64, values: impl Iterator<Item = u64>) {
    let (tell, told): Outcomes = channel();
    let mut count = 0;
    for value in values {
        handle
            .propose(group, proposal(handle, group, value, &tell))
            .expect("taken");
        count += 1;
    }
    for _ in 0..count {
        assert!(matches!(outcome(&told), ProposalOutcome::Committed { .. }));
    }
}

/// A memory log whose writes can be made to wait.
#[derive(Default)]
struct GatedLog {
    inner: MemoryLog,
    gate: Mutex<bool>,
    moved: Condvar,
    waiting: AtomicUsize,
}

impl GatedLog {
    fn shut(&self, shut: bool) {
        *self.gate.lock() = shut;
        self.moved.notify_all();
    }
}

impl RaftLogStore for GatedLog {
    fn groups(&self) -> Result<Vec<u64>, LogError> {
        self.inner.groups()
    }
    fn load(&self, group: u64) -> Result<Option<LogState>, LogError> {
        self.inner.load(group)
    }
    fn first_index(&self, group: u64) -> Result<u64, LogError> {
        self.inner.first_index(group)
    }
    fn last_index(&self, group: u64) -> Result<u64, LogError> {
        self.inner.last_index(group)
    }
    fn term(&self, group: u64, index: u64) -> Result<u64, LogError> {
        self.inner.term(group, index)
    }
    fn entries(&self, group: u64, from: u64, to: u64, max: u64) -> Result<Vec<Entry>, LogError> {
        self.inner.entries(group, from, to, max)
    }
    fn write(&self, batch: &mut LogBatch, sync: bool) -> Result<(), LogError> {
        let mut shut = self.gate.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while *shut {
            self.moved.wait(&mut shut);
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.inner.write(batch, sync)
    }
    fn sync(&self) -> Result<(), LogError> {
        self.inner.sync()
    }
    fn reclaim(&self) -> Result<Vec<u64>, LogError> {
        self.inner.reclaim()
    }
}

#[test]
fn sixteen_groups_share_one_write_and_one_sync() {
    let log = Arc::new(GatedLog::default());
    let node = node(MultiRaftConfig::default(), log.clone());
    let machines: Vec<_> = (1..=16).map(|_| Recorder::default()).collect();
    for (group, machine) in (1..).zip(&machines) {
        node.lead(group, machine);
    }
    let (tell, told): Outcomes = channel();
    log.shut(true);
    let first = proposal(&node.handle, 1, 0, &tell);
    node.handle.propose(1, first).expect("taken");
    wait_for("the first write", || {
        log.waiting.load(Ordering::SeqCst) == 1
    });
    let before = log.inner.counts();
    for group in 1..=16 {
        for value in 1..=4 {
            let next = proposal(&node.handle, group, value, &tell);
            node.handle.propose(group, next).expect("taken");
        }
    }
    log.shut(false);
    for _ in 0..65 {
        assert!(matches!(outcome(&told), ProposalOutcome::Committed { .. }));
    }
    let after = log.inner.counts();
    assert_eq!(
        after.writes - before.writes,
        2,
        "the lone first, then all others at once"
    );
    assert_eq!(after.syncs - before.syncs, 2);
    assert_eq!(after.group_writes - before.group_writes, 17);
}

#[test]
fn done_comes_after_apply_and_apply_gets_what_the_proposal_carried() {
    let node = node(MultiRaftConfig::default(), Arc::new(MemoryLog::new()));
    let machine = Recorder::default();
    node.lead(1, &machine);
    let (tell, told) = channel();
    let mut first = proposal(&node.handle, 1, 5, &channel().0);
    let applied = machine.clone();
    first.done = Box::new(move |outcome| {
        let _ = tell.send((outcome, applied.values()));
    });
    node.handle.propose(1, first).expect("taken");
    let (outcome, applied) = told.recv_timeout(DEADLINE).expect("an outcome");
    assert_eq!(outcome, ProposalOutcome::Committed { index: 2, term: 1 });
    assert_eq!(applied, [5]);
    assert_eq!(machine.content.lock().with_local, 1);
    let status = node.handle.status(1).expect("there");
    assert_eq!((status.pending, status.last_index), (0, 2));
}

#[test]
fn entries_come_in_the_order_of_the_calls() {
    let node = node(MultiRaftConfig::default(), Arc::new(MemoryLog::new()));
    let machine = Recorder::default();
    node.lead(1, &machine);
    commit(&node.handle, 1, 1..=2000);
    assert_eq!(machine.values(), (1..=2000).collect::<Vec<_>>());
}

#[test]
fn at_the_bound_proposals_are_given_back_and_later_ones_taken_again() {
    let log = Arc::new(GatedLog::default());
    let config = MultiRaftConfig {
        max_pending_proposals: 3,
        max_entry_bytes: 100,
        ..MultiRaftConfig::default()
    };
    let node = node(config, log.clone());
    node.lead(1, &Recorder::default());
    let (tell, told): Outcomes = channel();
    log.shut(true);
    for value in 1..=3 {
        let next = proposal(&node.handle, 1, value, &tell);
        node.handle.propose(1, next).expect("taken");
    }
    let refused = node.handle.propose(1, proposal(&node.handle, 1, 4, &tell));
    let refused = refused.expect_err("at the bound");
    assert_eq!(refused.reason, RefusedReason::Overloaded);
    assert_eq!(refused.proposal.data, data_of(4));
    log.shut(false);
    for _ in 0..3 {
        assert!(matches!(outcome(&told), ProposalOutcome::Committed { .. }));
    }
    commit(&node.handle, 1, 5..6);
    let mut large = proposal(&node.handle, 1, 6, &tell);
    large.data = Bytes::from(vec![0; 101]);
    let refused = node.handle.propose(1, large).expect_err("above the cap");
    assert_eq!(
        refused.reason,
        RefusedReason::TooLarge {
            bytes: 101,
            cap: 100
        }
    );
    let elsewhere = node.handle.propose(2, proposal(&node.handle, 1, 6, &tell));
    assert_eq!(
        elsewhere.expect_err("no such group").reason,
        RefusedReason::UnknownGroup
    );
}

#[test]
fn a_proposal_of_another_term_is_dropped_and_what_follows_it() {
    let node = node(MultiRaftConfig::default(), Arc::new(MemoryLog::new()));
    let machine = Recorder::default();
    node.lead(1, &machine);
    let (tell, told): Outcomes = channel();
    for (term, value) in [(99, 1), (1, 2)] {
        let mut next = proposal(&node.handle, 1, value, &tell);
        next.term = term;
        next.lineage = 5;
        node.handle.propose(1, next).expect("queued");
    }
    let stale = Refusal::StaleTerm {
        evaluated: 99,
        current: 1,
    };
    assert_eq!(outcome(&told), ProposalOutcome::Dropped(stale));
    assert_eq!(outcome(&told), ProposalOutcome::Dropped(Refusal::Orphaned));
    assert!(machine.values().is_empty());
}

#[test]
fn shutdown_finishes_what_is_queued_and_refuses_the_rest() {
    let log = Arc::new(MemoryLog::new());
    let node = node(MultiRaftConfig::default(), log.clone());
    let machine = Recorder::default();
    node.lead(1, &machine);
    let (tell, told): Outcomes = channel();
    for value in 1..=100 {
        let next = proposal(&node.handle, 1, value, &tell);
        node.handle.propose(1, next).expect("taken");
    }
    let late = proposal(&node.handle, 1, 101, &tell);
    node.raft.shutdown();
    assert_eq!(told.try_iter().count(), 100);
    assert_eq!(machine.values().len(), 100);
    let refused = node.handle.propose(1, late).expect_err("stopped");
    assert_eq!(refused.reason, RefusedReason::Stopped);
    assert_eq!(log.unsynced_batches(), 0);
}

#[test]
fn a_failed_log_write_ends_all_writing_and_the_outcome_is_unknown() {
    let log = Arc::new(MemoryLog::new());
    let node = node(MultiRaftConfig::default(), log.clone());
    let machine = Recorder::default();
    node.lead(1, &machine);
    node.lead(2, &Recorder::default());
    log.fail_writes();
    let (tell, told): Outcomes = channel();
    let next = proposal(&node.handle, 1, 1, &tell);
    node.handle.propose(1, next).expect("taken");
    assert_eq!(outcome(&told), ProposalOutcome::LeadershipLost);
    wait_for("the fatal handler", || node.failures.lock().len() == 1);
    let refused = node.handle.propose(2, proposal(&node.handle, 2, 2, &tell));
    assert_eq!(refused.expect_err("stopped").reason, RefusedReason::Stopped);
    assert!(machine.values().is_empty());
}

#[test]
fn a_failed_apply_ends_all_writing() {
    let log = Arc::new(MemoryLog::new());
    let node = node(MultiRaftConfig::default(), log.clone());
    let machine = Recorder::default();
    node.lead(3, &machine);
    machine.content.lock().fail_at = Some(2);
    let (tell, told): Outcomes = channel();
    let next = proposal(&node.handle, 3, 1, &tell);
    node.handle.propose(3, next).expect("taken");
    assert_eq!(outcome(&told), ProposalOutcome::LeadershipLost);
    wait_for("the fatal handler", || !node.failures.lock().is_empty());
    let text = node.failures.lock()[0].clone();
    assert!(
        text.contains("group 3") && text.contains("entry 2"),
        "{text}"
    );
    let writes = log.counts().writes;
    let refused = node.handle.propose(3, proposal(&node.handle, 3, 2, &tell));
    assert_eq!(refused.expect_err("stopped").reason, RefusedReason::Stopped);
    assert_eq!(log.counts().writes, writes);
}

fn cutting() -> MultiRaftConfig {
    MultiRaftConfig {
        cut_every: Duration::from_millis(5),
        min_cut_entries: 1,
        ..MultiRaftConfig::default()
    }
}

#[test]
fn the_log_is_cut_below_what_is_durable_and_never_above_a_hold() {
    let log = Arc::new(MemoryLog::new());
    let node = node(cutting(), log.clone());
    let machine = Recorder::default();
    node.lead(1, &machine);
    commit(&node.handle, 1, 1..=50);
    assert_eq!(
        log.first_index(1).expect("there"),
        1,
        "nothing is durable yet"
    );

    let mut hold = node.handle.hold_log(1, 20, 500).expect("there");
    machine.flush();
    wait_for("the cut", || log.first_index(1).expect("there") == 20);
    commit(&node.handle, 1, 51..=100);
    machine.flush();
    let durable = machine.durable_applied_index();
    wait_for("another look", || {
        node.handle.status(1).expect("there").durable_index == durable
    });
    assert_eq!(log.first_index(1).expect("there"), 20);
    assert!(hold.over_limit() && hold.retained_bytes() > 500);
    let held = node
        .handle
        .entries(1, 20, u64::MAX, u64::MAX)
        .expect("held");
    assert_eq!(held.len(), 82);
    assert_eq!(held[0].data, data_of(19));

    let gone = node.handle.hold_log(1, 19, 0).err();
    assert_eq!(
        gone,
        Some(HoldError::AlreadyCut {
            group: 1,
            from: 19,
            first: 20
        })
    );
    hold.advance(30);
    wait_for("the cut", || log.first_index(1).expect("there") == 30);
    drop(hold);
    wait_for("the cut", || {
        log.first_index(1).expect("there") == durable + 1
    });
    commit(&node.handle, 1, 101..=102);
}

/// Regression: a hold counted all that was appended since it was taken, let go or not.
#[test]
fn a_hold_counts_no_more_what_it_has_let_go() {
    let node = node(cutting(), Arc::new(MemoryLog::new()));
    let machine = Recorder::default();
    node.lead(1, &machine);
    let last = || node.handle.status(1).expect("there").last_index;
    let settled = |index| wait_for("the log's end", || last() == index);
    commit(&node.handle, 1, 1..=10);
    settled(11);
    let mut hold = node.handle.hold_log(1, 12, 500).expect("there");
    assert_eq!(hold.retained_bytes(), 0);
    commit(&node.handle, 1, 11..=60);
    settled(61);
    let all = hold.retained_bytes();
    assert!(hold.over_limit(), "{all}");
    hold.sample();
    commit(&node.handle, 1, 61..=62);
    settled(63);
    let more = hold.retained_bytes() - all;
    assert!(more > 0 && more < 500, "{more}");
    hold.advance(61);
    assert_eq!(hold.retained_bytes(), all + more, "entry 61 is kept");
    hold.advance(62);
    assert_eq!(hold.retained_bytes(), more);
    assert!(!hold.over_limit());
}

#[test]
fn a_long_log_above_the_durable_state_is_reported() {
    let config = MultiRaftConfig {
        log_pressure_bytes: 500,
        ..cutting()
    };
    let node = node(config, Arc::new(MemoryLog::new()));
    let machine = Recorder::default();
    node.lead(1, &machine);
    commit(&node.handle, 1, 1..=100);
    wait_for("pressure", || machine.content.lock().pressure > 0);
    machine.flush();
    let durable = machine.durable_applied_index();
    wait_for("a look", || {
        node.handle.status(1).expect("there").durable_index == durable
    });
    let reported = machine.content.lock().pressure;
    let looks = Instant::now() + Duration::from_millis(50);
    wait_for("some looks", || Instant::now() > looks);
    assert_eq!(machine.content.lock().pressure, reported);
}

#[test]
fn with_interval_durability_writes_are_synced_in_the_background() {
    let log = Arc::new(MemoryLog::new());
    let config = MultiRaftConfig {
        durability: Durability::Interval(Duration::from_millis(20)),
        ..MultiRaftConfig::default()
    };
    let node = node(config, log.clone());
    node.lead(1, &Recorder::default());
    let before = log.counts();
    commit(&node.handle, 1, 1..=200);
    let syncs = log.counts().syncs - before.syncs;
    assert!(syncs < log.counts().writes - before.writes || syncs < 3);
    wait_for("the sync", || log.unsynced_batches() == 0);
}

#[test]
fn entries_that_are_not_applied_are_not_given_out() {
    let log = Arc::new(GatedLog::default());
    let node = node(MultiRaftConfig::default(), log.clone());
    node.lead(1, &Recorder::default());
    commit(&node.handle, 1, 1..=3);
    let all = node.handle.entries(1, 1, 100, u64::MAX).expect("there");
    assert_eq!(
        all.iter().map(|e| e.index).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert!(all[0].data.is_empty(), "the leader's first entry");
    assert!(
        node.handle
            .entries(1, 5, 100, u64::MAX)
            .expect("empty")
            .is_empty()
    );
    assert_eq!(node.handle.entries(1, 2, 100, 1).expect("there").len(), 1);
}

/// Hands messages to the other nodes of the test; those that are gone lose them.
struct Wires(Arc<Mutex<Vec<Option<RaftHandle>>>>);

impl Transport for Wires {
    fn send(&mut self, group: u64, messages: Vec<Message>) {
        for message in messages {
            let to = message.to as usize - 1;
            let handle = self.0.lock().get(to).cloned().flatten();
            if let Some(handle) = handle {
                handle.deliver(group, message);
            }
        }
    }
}

#[test]
fn three_nodes_go_on_after_their_leader_dies() {
    let wires = Arc::new(Mutex::new(Vec::new()));
    let mut config = MultiRaftConfig::default();
    config.core.tick = Duration::from_millis(10);
    let machines: Vec<_> = (0..3).map(|_| Recorder::default()).collect();
    let mut nodes = Vec::new();
    for replica in 1..=3 {
        let transport = Box::new(Wires(wires.clone()));
        let store = Arc::new(MemoryLog::new());
        let on_fatal = Arc::new(|failure: &RaftFailure| panic!("{failure}"));
        let raft = MultiRaft::start(config.clone(), store, transport, on_fatal).expect("starts");
        let spec = GroupSpec {
            group: 1,
            replica,
            voters: vec![1, 2, 3],
        };
        let machine = Box::new(machines[replica as usize - 1].clone());
        raft.handle().add_group(spec, machine).expect("opens");
        wires.lock().push(Some(raft.handle()));
        nodes.push(Some(raft));
    }
    let mut committed = Vec::new();
    for era in 0..2 {
        let leader = ready_leader(&wires);
        let handle = wires.lock()[leader].clone().expect("alive");
        commit(&handle, 1, era * 100..era * 100 + 100);
        committed.extend(era * 100..era * 100 + 100);
        wait_for("the followers", || {
            let alive = wires.lock();
            let mut living = machines
                .iter()
                .zip(alive.iter())
                .filter(|(_, h)| h.is_some());
            living.all(|(machine, _)| machine.values() == committed)
        });
        if era == 0 {
            wires.lock()[leader] = None;
            nodes[leader] = None;
        }
    }
    let term = wires
        .lock()
        .iter()
        .flatten()
        .next()
        .expect("alive")
        .status(1);
    assert!(term.expect("there").role.term > 1);
    // The wires hold handles of the nodes; let go before the nodes end.
    wires.lock().clear();
}

fn ready_leader(wires: &Mutex<Vec<Option<RaftHandle>>>) -> usize {
    let mut leader = None;
    wait_for("a leader", || {
        leader = wires.lock().iter().position(|handle| {
            let status = handle.as_ref().and_then(|h| h.status(1));
            status.is_some_and(|s| s.role.ready_to_evaluate)
        });
        leader.is_some()
    });
    leader.expect("found")
}

#[test]
fn a_node_on_disk_replays_after_its_state_machine_lost_everything() {
    let dir = tempfile::tempdir().expect("temp dir");
    let open = || Arc::new(EngineLog::open(dir.path(), EngineLogConfig::default()).expect("opens"));
    let durabilities = [
        Durability::Always,
        Durability::Interval(Duration::from_secs(1)),
    ];
    let mut values = 0;
    for durability in durabilities.into_iter().cycle().take(4) {
        let config = MultiRaftConfig {
            durability,
            ..MultiRaftConfig::default()
        };
        let node = node(config, open());
        let machines = [Recorder::default(), Recorder::default()];
        for (group, machine) in (1..).zip(&machines) {
            node.lead(group, machine);
            assert_eq!(machine.values(), (1..=values).collect::<Vec<_>>());
            assert_eq!(
                machine.content.lock().with_local,
                0,
                "nothing is local on replay"
            );
            commit(&node.handle, group, values + 1..=values + 500);
        }
        values += 500;
        node.raft.shutdown();
        assert!(node.failures.lock().is_empty());
    }
}

/// Copies the log files as they are at this moment: what a restart after kill -9 would
/// find (the last write may be torn, the file ends in preallocated zeros).
fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    for item in std::fs::read_dir(from).expect("reads") {
        let path = item.expect("reads").path();
        let name = path.file_name().expect("a file");
        if name != "LOCK" {
            std::fs::copy(&path, to.join(name)).expect("copies");
        }
    }
}

#[test]
fn log_files_copied_under_load_hold_every_acknowledged_entry() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Arc::new(EngineLog::open(dir.path(), EngineLogConfig::default()).expect("opens"));
    let config = MultiRaftConfig {
        durability: Durability::Interval(Duration::from_secs(1)),
        ..MultiRaftConfig::default()
    };
    let writer = node(config.clone(), store);
    let machine = Recorder::default();
    writer.lead(1, &machine);
    let (tell, told): Outcomes = channel();
    let mut next = 0;
    for _ in 0..10 {
        for _ in 0..200 {
            next += 1;
            let proposal = proposal(&writer.handle, 1, next, &tell);
            writer.handle.propose(1, proposal).expect("within bounds");
        }
        for _ in 0..100 {
            assert!(matches!(outcome(&told), ProposalOutcome::Committed { .. }));
        }
        let acknowledged = machine.values();
        let copy = tempfile::tempdir().expect("temp dir");
        copy_files(dir.path(), copy.path());
        let store = EngineLog::open(copy.path(), EngineLogConfig::default()).expect("opens");
        let reader = node(config.clone(), Arc::new(store));
        let replayed = Recorder::default();
        reader.lead(1, &replayed);
        let values = replayed.values();
        assert!(
            values.starts_with(&acknowledged),
            "{} of {}",
            values.len(),
            acknowledged.len()
        );
    }
}
