//! A group of one replica, killed at every edge of its cycle.

use std::collections::HashSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::core::{Propose, Refusal, Role};
use super::log_store::{Durability, LogPosition, RaftLogStore};
use super::multi::{MultiRaftConfig, StateMachine};
use super::sim::{EDGES, GROUP, Recorder, Replica, Seen, data_of};
use super::start::{GroupSpec, StartError, open_group};

fn config(durability: Durability) -> MultiRaftConfig {
    MultiRaftConfig {
        durability,
        ..MultiRaftConfig::default()
    }
}

fn alone(durability: Durability) -> Replica {
    Replica::new(GroupSpec::alone(GROUP), config(durability))
}

#[test]
fn a_lone_voter_leads_at_once_and_is_ready_after_its_first_entry() {
    let mut replica = alone(Durability::Always);
    let mut seen = Seen::default();
    assert!(replica.run(&mut seen, None));
    let role = replica.core.role();
    assert_eq!(role.role, Role::Leader);
    assert!(role.ready_to_evaluate);
    assert!(!replica.core.needs_ticks());
    let roles = replica.machine.content.lock().roles.clone();
    assert!(
        !roles[0].ready_to_evaluate,
        "leads before it is ready: {roles:?}"
    );
}

#[test]
fn a_new_term_is_ready_only_after_entries_of_earlier_terms_are_applied() {
    let mut replica = alone(Durability::Always);
    let mut seen = Seen::default();
    replica.run(&mut seen, None);
    for value in 1..=3 {
        assert!(replica.propose(value));
    }
    replica.run(&mut seen, Some((0, EDGES[1])));
    replica.restart(0);
    while let Some(work) = replica.core.take_work() {
        if work.role.is_some_and(|role| role.ready_to_evaluate) {
            assert_eq!(replica.machine.values(), [1, 2, 3]);
            return;
        }
        let mut batch = super::log_store::LogBatch::default();
        let write = super::log_store::GroupWrite {
            entries: work.entries,
            hard_state: work.hard_state,
            ..Default::default()
        };
        batch.push(GROUP, write);
        replica.log.write(&mut batch, true).expect("memory");
        replica.core.persisted(work.number);
        for entry in work.committed {
            let mut one = [super::multi::CommittedEntry {
                index: entry.index,
                term: entry.term,
                data: entry.data,
                local: None,
            }];
            replica.machine.apply(&mut one).expect("recorder");
            replica.core.applied(entry.index);
        }
    }
    panic!("never became ready");
}

#[test]
fn one_lone_proposal_costs_one_log_write() {
    let mut replica = alone(Durability::Always);
    let mut seen = Seen::default();
    replica.run(&mut seen, None);
    let before = replica.log.counts();
    assert!(replica.propose(1));
    replica.run(&mut seen, None);
    assert_eq!(seen.acknowledged, [(1, 2)]);
    let after = replica.log.counts();
    assert_eq!(
        (after.writes, after.syncs),
        (before.writes + 1, before.syncs + 1)
    );
}

#[test]
fn terms_and_votes_are_synced_in_every_mode() {
    let mut replica = alone(Durability::Interval(Duration::from_secs(1)));
    replica.run(&mut Seen::default(), None);
    assert_eq!(replica.log.unsynced_batches(), 0);
    replica.propose(1);
    replica.run(&mut Seen::default(), None);
    assert_eq!(replica.log.unsynced_batches(), 1);
}

#[test]
fn proposals_built_on_a_refused_one_are_refused_until_a_new_lineage() {
    let mut replica = alone(Durability::Always);
    replica.run(&mut Seen::default(), None);
    let term = replica.core.role().term;
    let mut propose = |term, lineage| {
        let data = data_of(1);
        let token = 0;
        let proposal = Propose {
            term,
            lineage,
            data,
            token,
        };
        replica
            .core
            .propose(proposal)
            .map_err(|(refusal, _)| refusal)
    };
    assert!(propose(term, 1).is_ok());
    let stale = Refusal::StaleTerm {
        evaluated: term - 1,
        current: term,
    };
    assert_eq!(propose(term - 1, 1), Err(stale));
    assert_eq!(propose(term, 1), Err(Refusal::Orphaned));
    assert!(propose(term, 2).is_ok());
}

#[test]
fn an_empty_proposal_is_refused() {
    let mut replica = alone(Durability::Always);
    replica.run(&mut Seen::default(), None);
    let proposal = Propose {
        term: replica.core.role().term,
        lineage: 1,
        data: bytes::Bytes::new(),
        token: 9,
    };
    let (refusal, token) = replica.core.propose(proposal).expect_err("refused");
    assert_eq!((refusal, token), (Refusal::Empty, 9));
}

/// What the outside was told, against what a restart shows.
#[derive(Default)]
struct Ledger {
    next: u64,
    acknowledged: Vec<(u64, u64)>,
    refused: HashSet<u64>,
}

impl Ledger {
    fn propose(&mut self, replica: &mut Replica, count: usize) {
        for _ in 0..count {
            self.next += 1;
            if !replica.propose(self.next) {
                self.refused.insert(self.next);
            }
        }
    }

    fn check(&self, replica: &Replica, seed: u64) {
        let history = replica.machine.history();
        for (value, index) in &self.acknowledged {
            let found = history.get(*index as usize - 1);
            assert_eq!(
                found.map(|(_, data)| data.clone()),
                Some(data_of(*value)),
                "seed {seed}: acknowledged value {value} at index {index}"
            );
        }
        let values = replica.machine.values();
        let distinct: HashSet<_> = values.iter().copied().collect();
        assert_eq!(distinct.len(), values.len(), "seed {seed}: applied twice");
        assert!(values.is_sorted(), "seed {seed}: out of order");
        assert!(
            distinct.is_disjoint(&self.refused),
            "seed {seed}: refused, yet there"
        );
    }
}

fn crash_run(seed: u64, durability: Durability) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut replica = alone(durability);
    let mut ledger = Ledger::default();
    for _ in 0..40 {
        let count = rng.random_range(0..5);
        ledger.propose(&mut replica, count);
        let round = rng.random_range(0..3);
        let edge = EDGES[rng.random_range(0..EDGES.len())];
        let death = rng.random_bool(0.4).then_some((round, edge));
        let mut seen = Seen::default();
        let alive = replica.run(&mut seen, death);
        ledger.acknowledged.extend(seen.acknowledged);
        if rng.random_bool(0.3) {
            replica.machine.flush();
        }
        if alive && rng.random_bool(0.3) {
            let wanted = replica.machine.durable_applied_index();
            let upto = wanted.min(replica.core.safe_cut());
            if let Some(cut) = replica.core.cut_to(upto) {
                replica.log.compact_to(GROUP, cut).expect("memory");
            }
        }
        if !alive {
            // With `Always` the power fails; with `Interval` the process dies, and the
            // kernel keeps what it was given.
            let kept = match durability {
                Durability::Always => rng.random_range(0..=replica.log.unsynced_batches()),
                Durability::Interval(_) => usize::MAX,
            };
            replica.restart(kept);
            let mut seen = Seen::default();
            assert!(replica.run(&mut seen, None));
            ledger.check(&replica, seed);
        }
    }
    ledger.check(&replica, seed);
}

#[test]
fn no_acknowledged_entry_is_lost_or_doubled_by_a_crash_at_any_edge() {
    for seed in 0..300 {
        crash_run(seed, Durability::Always);
        crash_run(seed, Durability::Interval(Duration::from_secs(1)));
    }
}

#[test]
fn a_power_cut_with_interval_syncs_loses_only_an_unsynced_end() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut replica = alone(Durability::Interval(Duration::from_secs(1)));
        let mut ledger = Ledger::default();
        let mut safe = 0;
        for _ in 0..30 {
            ledger.propose(&mut replica, 2);
            let mut seen = Seen::default();
            replica.run(&mut seen, None);
            ledger.acknowledged.extend(seen.acknowledged);
            if rng.random_bool(0.3) {
                replica.machine.flush();
                safe = safe.max(replica.machine.durable_applied_index());
            }
            if rng.random_bool(0.3) {
                replica.log.sync().expect("memory");
                safe = safe.max(replica.core.applied_index());
            }
            if rng.random_bool(0.2) {
                let kept = rng.random_range(0..=replica.log.unsynced_batches());
                replica.restart(kept);
                replica.run(&mut Seen::default(), None);
                ledger.acknowledged.retain(|(value, index)| {
                    *index <= safe || replica.machine.values().contains(value)
                });
                ledger.check(&replica, seed);
            }
        }
    }
}

fn refusal_of(replica: &Replica, machine: &Recorder, durability: Durability) -> StartError {
    let spec = GroupSpec::alone(GROUP);
    let opened = open_group::<u64>(
        &*replica.log,
        &spec,
        &config(durability),
        &mut machine.clone(),
    );
    opened.err().expect("must be refused")
}

#[test]
fn a_gap_between_state_and_log_is_refused_and_both_numbers_are_named() {
    let mut replica = alone(Durability::Always);
    replica.run(&mut Seen::default(), None);
    for value in 1..=9 {
        replica.propose(value);
    }
    replica.run(&mut Seen::default(), None);
    let cut = LogPosition { index: 8, term: 1 };
    replica.log.compact_to(GROUP, cut).expect("memory");

    let older = Recorder::default();
    older.content.lock().history = replica.machine.history()[..3].to_vec();
    let error = refusal_of(&replica, &older, Durability::Always);
    assert!(
        matches!(
            error,
            StartError::Gap {
                applied: 3,
                first: 9,
                ..
            }
        ),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("index 3") && text.contains("index 9"),
        "{text}"
    );
}

#[test]
fn a_log_that_ends_before_the_state_is_refused() {
    let mut replica = alone(Durability::Always);
    replica.run(&mut Seen::default(), None);
    let newer = Recorder::default();
    newer.content.lock().history = vec![(1, data_of(1)); 50];
    let error = refusal_of(&replica, &newer, Durability::Always);
    assert!(
        matches!(
            error,
            StartError::LogBehind {
                applied: 50,
                last: 1,
                ..
            }
        ),
        "{error}"
    );

    let empty = super::memory_log::MemoryLog::new();
    let spec = GroupSpec::alone(GROUP);
    let config = config(Durability::Always);
    let opened = open_group::<u64>(&empty, &spec, &config, &mut newer.clone());
    assert!(matches!(opened, Err(StartError::NoLog { applied: 50, .. })));
}
