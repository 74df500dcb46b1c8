//! Three replicas of one group over a network that loses, doubles, delays and cuts,
//! with deaths at every edge. Everything follows from the seed.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, Message};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::core::{CoreConfig, Role};
use super::log_store::RaftLogStore;
use super::multi::{MultiRaftConfig, StateMachine};
use super::sim::{EDGES, GROUP, History, Replica, Seen, data_of};
use super::start::GroupSpec;

const REPLICAS: usize = 3;
const SEEDS: u64 = 300;

struct Cluster {
    seed: u64,
    rng: StdRng,
    replicas: Vec<Replica>,
    flying: Vec<Message>,
    /// Replica cut off from the others, if any.
    isolated: Option<u64>,
    loss: f64,
    now: Duration,
    next_value: u64,
    /// The one history, as far as any replica has applied it.
    agreed: History,
    leaders: BTreeMap<u64, u64>,
    acknowledged: BTreeMap<u64, u64>,
    refused: HashSet<u64>,
    trace: DefaultHasher,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let cache_bytes = if rng.random_bool(0.5) { 0 } else { 1 << 20 };
        let config = MultiRaftConfig {
            core: CoreConfig {
                seed,
                cache_bytes,
                max_message_bytes: 200,
                ..CoreConfig::new(GROUP, 0)
            },
            ..MultiRaftConfig::default()
        };
        let spec = |replica| GroupSpec {
            group: GROUP,
            replica,
            voters: vec![1, 2, 3],
        };
        let replicas = (1..=REPLICAS as u64)
            .map(|replica| Replica::new(spec(replica), config.clone()))
            .collect();
        Self {
            seed,
            rng,
            replicas,
            flying: Vec::new(),
            isolated: None,
            loss: 0.1,
            now: Duration::ZERO,
            next_value: 0,
            agreed: History::new(),
            leaders: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            refused: HashSet::new(),
            trace: DefaultHasher::new(),
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..55 => self.deliver_one(),
            55..80 => self.tick_all(),
            80..93 => self.propose_somewhere(),
            93..95 => self.isolated = Some(self.rng.random_range(1..=REPLICAS as u64)),
            95..97 => self.isolated = None,
            97 => self.kill_one(),
            98 => self.flush_and_cut(),
            _ => {
                let heir = self.rng.random_range(1..=REPLICAS as u64);
                for at in 0..REPLICAS {
                    self.replicas[at].core.transfer_leader(heir);
                    self.run(at);
                }
            }
        }
    }

    fn deliver_one(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let pick = self.rng.random_range(0..self.flying.len());
        let message = if self.rng.random_bool(0.05) {
            self.flying[pick].clone()
        } else {
            self.flying.swap_remove(pick)
        };
        let cut = self
            .isolated
            .is_some_and(|alone| message.from == alone || message.to == alone);
        if cut || self.rng.random_bool(self.loss) {
            return;
        }
        message
            .write_to_bytes()
            .expect("encodes")
            .hash(&mut self.trace);
        let at = message.to as usize - 1;
        self.replicas[at].core.step(message);
        self.run(at);
    }

    fn tick_all(&mut self) {
        self.now += Duration::from_millis(100);
        for at in 0..REPLICAS {
            self.replicas[at].core.tick(self.now);
            self.run(at);
        }
    }

    fn propose_somewhere(&mut self) {
        let at = self.rng.random_range(0..REPLICAS);
        self.next_value += 1;
        let value = self.next_value;
        if !self.replicas[at].propose(value) {
            self.refused.insert(value);
        }
        self.run(at);
    }

    fn kill_one(&mut self) {
        let at = self.rng.random_range(0..REPLICAS);
        self.restart(at);
    }

    fn flush_and_cut(&mut self) {
        let at = self.rng.random_range(0..REPLICAS);
        let replica = &mut self.replicas[at];
        replica.machine.flush();
        let durable = replica.machine.durable_applied_index();
        let upto = durable.min(replica.core.safe_cut());
        if let Some(cut) = replica.core.cut_to(upto) {
            replica.log.compact_to(GROUP, cut).expect("memory");
        }
    }

    fn restart(&mut self, at: usize) {
        let unsynced = self.replicas[at].log.unsynced_batches();
        let kept = self.rng.random_range(0..=unsynced);
        self.replicas[at].restart(kept);
        self.run_safely(at);
    }

    /// Runs one replica's cycle, sometimes to its death.
    fn run(&mut self, at: usize) {
        let edge = EDGES[self.rng.random_range(0..EDGES.len())];
        let round = self.rng.random_range(0..2);
        let death = self.rng.random_bool(0.003).then_some((round, edge));
        let mut seen = Seen::default();
        let alive = self.replicas[at].run(&mut seen, death);
        self.observe(at, seen);
        if !alive {
            self.restart(at);
        }
    }

    fn run_safely(&mut self, at: usize) {
        let mut seen = Seen::default();
        assert!(self.replicas[at].run(&mut seen, None));
        self.observe(at, seen);
    }

    fn observe(&mut self, at: usize, seen: Seen) {
        let seed = self.seed;
        self.flying.extend(seen.messages);
        let history = self.replicas[at].machine.history();
        let known = self.agreed.len().min(history.len());
        // Only the part that can be new is compared every time.
        let from = known.saturating_sub(8);
        assert_eq!(
            history[from..known],
            self.agreed[from..known],
            "seed {seed}: histories fork"
        );
        self.agreed.extend_from_slice(&history[known..]);
        for (value, index) in seen.acknowledged {
            let there = self.agreed.get(index as usize - 1).map(|e| e.1.clone());
            assert_eq!(
                there,
                Some(data_of(value)),
                "seed {seed}: acknowledged elsewhere"
            );
            self.acknowledged.insert(value, index);
        }
        let role = self.replicas[at].core.role();
        if role.role == Role::Leader {
            let replica = at as u64 + 1;
            let leader = *self.leaders.entry(role.term).or_insert(replica);
            assert_eq!(
                leader, replica,
                "seed {seed}: two leaders in term {}",
                role.term
            );
        }
    }

    /// All faults end; the group must become whole and take a proposal.
    fn heal(&mut self) {
        self.isolated = None;
        self.loss = 0.0;
        for _ in 0..20_000 {
            if self.is_whole() {
                return;
            }
            if self.flying.is_empty() || self.rng.random_bool(0.05) {
                self.now += Duration::from_millis(100);
                for at in 0..REPLICAS {
                    self.replicas[at].core.tick(self.now);
                    self.run_safely(at);
                }
            } else {
                let message = self.flying.remove(0);
                let at = message.to as usize - 1;
                self.replicas[at].core.step(message);
                self.run_safely(at);
            }
        }
        panic!("seed {}: the group did not become whole again", self.seed);
    }

    fn is_whole(&self) -> bool {
        let leads = self
            .replicas
            .iter()
            .any(|r| r.core.role().ready_to_evaluate);
        let mut positions = self
            .replicas
            .iter()
            .map(|r| (r.core.applied_index(), r.core.last_index()));
        let first = positions.next().expect("three replicas");
        leads && first.0 == first.1 && positions.all(|p| p == first)
    }

    fn check_end(&self) {
        let seed = self.seed;
        for replica in &self.replicas {
            assert_eq!(replica.machine.history(), self.agreed, "seed {seed}");
        }
        for (value, index) in &self.acknowledged {
            let data = &self.agreed[*index as usize - 1].1;
            assert_eq!(*data, data_of(*value), "seed {seed}: committed value lost");
        }
        let values = self.replicas[0].machine.values();
        let distinct: HashSet<_> = values.iter().copied().collect();
        assert_eq!(distinct.len(), values.len(), "seed {seed}: a value twice");
        assert!(
            distinct.is_disjoint(&self.refused),
            "seed {seed}: refused, yet there"
        );
        self.check_logs_match();
    }

    fn check_logs_match(&self) {
        for replica in &self.replicas {
            let log = &replica.log;
            let first = log.first_index(GROUP).expect("there");
            let last = log.last_index(GROUP).expect("there");
            for entry in log
                .entries(GROUP, first, last + 1, u64::MAX)
                .expect("there")
            {
                let (term, data) = &self.agreed[entry.index as usize - 1];
                assert_eq!(entry.term, *term, "seed {}: logs differ", self.seed);
                let same = entry.data == *data || data.is_empty();
                assert!(same, "seed {}: logs differ", self.seed);
            }
        }
    }
}

fn run_seed(seed: u64, steps: usize) -> (u64, usize) {
    let mut cluster = Cluster::new(seed);
    for _ in 0..steps {
        cluster.step();
    }
    cluster.heal();
    cluster.check_end();
    cluster.agreed.hash(&mut cluster.trace);
    (cluster.trace.finish(), cluster.acknowledged.len())
}

#[test]
fn three_replicas_agree_under_loss_partitions_and_deaths() {
    let mut acknowledged = 0;
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| run_seed(seed, 1500));
        match run {
            Ok((_, count)) => acknowledged += count,
            Err(panic) => {
                eprintln!("failing seed: {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(
        acknowledged > 3000,
        "only {acknowledged} entries were acknowledged"
    );
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run_seed(seed, 400), run_seed(seed, 400), "seed {seed}");
    }
}

#[test]
fn proposals_of_a_leader_that_is_cut_off_are_reported_unknown() {
    let mut cluster = Cluster::new(1);
    cluster.heal();
    let leader = (0..REPLICAS)
        .find(|at| cluster.replicas[*at].core.role().role == Role::Leader)
        .expect("whole");
    assert!(cluster.replicas[leader].propose(77));
    let mut seen = Seen::default();
    for _ in 0..100 {
        cluster.now += Duration::from_millis(100);
        cluster.replicas[leader].core.tick(cluster.now);
        cluster.replicas[leader].run(&mut seen, None);
    }
    assert_eq!(seen.lost, [77]);
    assert!(seen.acknowledged.is_empty());
    assert_ne!(cluster.replicas[leader].core.role().role, Role::Leader);
}

#[test]
fn a_change_of_membership_survives_a_restart() {
    let mut cluster = Cluster::new(2);
    cluster.heal();
    let leader = (0..REPLICAS)
        .find(|at| cluster.replicas[*at].core.role().role == Role::Leader)
        .expect("whole");
    let mut single = ConfChangeSingle::default();
    single.set_change_type(ConfChangeType::RemoveNode);
    single.node_id = (leader as u64 + 1) % REPLICAS as u64 + 1;
    let mut change = ConfChangeV2::default();
    change.set_changes(vec![single.clone()].into());
    assert!(cluster.replicas[leader].core.propose_conf_change(change));
    cluster.run_safely(leader);
    let conf = |cluster: &Cluster| {
        let state = cluster.replicas[leader].log.load(GROUP).expect("memory");
        state.expect("there").conf_state.voters
    };
    for _ in 0..1000 {
        if conf(&cluster).len() == 2 {
            break;
        }
        if cluster.flying.is_empty() {
            cluster.now += Duration::from_millis(100);
            cluster.replicas[leader].core.tick(cluster.now);
            cluster.run_safely(leader);
            continue;
        }
        let message = cluster.flying.remove(0);
        let at = message.to as usize - 1;
        cluster.replicas[at].core.step(message);
        cluster.run_safely(at);
    }
    assert_eq!(conf(&cluster).len(), 2);
    assert!(!conf(&cluster).contains(&single.node_id));
    // The state machine forgets everything: the change is replayed from the log.
    cluster.replicas[leader].restart(0);
    cluster.run_safely(leader);
    assert_eq!(conf(&cluster).len(), 2);
}
