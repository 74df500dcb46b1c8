//! Scripted faults at every edge, and random ones by seed.

use super::Rng;
use super::world::{ACTORS, Actor, Fault, Harm, Order, Report, Script, World, plan};
use crate::migration::{Control, Decision, FailReason, Notice, PlanId};
use std::panic::catch_unwind;

fn calm(orders: Vec<Order>) -> Script {
    Script {
        seed: 7,
        faults: Vec::new(),
        noise: 0,
        orders,
        clients: 3,
        harm: None,
    }
}

fn one_move() -> Vec<Order> {
    vec![
        Order::Write(plan(1, 1, 2, (4, 11))),
        Order::Await(PlanId(1)),
    ]
}

/// Runs a script; a failure names it whole, so that it can be run again.
fn run(script: Script) -> Report {
    let named = format!("{script:?}");
    catch_unwind(|| World::run(script)).unwrap_or_else(|_| panic!("failing script: {named}"))
}

#[test]
fn a_move_without_faults_commits_with_a_short_pause() {
    let report = run(calm(one_move()));
    assert_eq!(report.outcomes[&1], Decision::Commit);
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(report.pauses.len(), 1);
    assert!(
        report.pauses[0] > 0 && report.pauses[0] < 100,
        "{:?}",
        report.pauses
    );
    assert!(report.writes > report.loaded + 20, "{report:?}");
}

#[test]
fn slots_go_there_and_back_three_times() {
    let mut orders = Vec::new();
    for (number, (from, to)) in [(1, 2), (2, 1), (1, 2), (2, 1), (1, 2), (2, 1)]
        .into_iter()
        .enumerate()
    {
        let id = number as u64 + 1;
        orders.push(Order::Write(plan(id, from, to, (0, 9))));
        orders.push(Order::Await(PlanId(id)));
    }
    let report = run(calm(orders));
    assert!(
        report
            .outcomes
            .values()
            .all(|decision| *decision == Decision::Commit)
    );
    assert_eq!(report.outcomes.len(), 6);
}

/// Every edge of the calm run, every set of actors: one outage of `down_ms`.
fn fault_at_every_edge(sets: &[Vec<Actor>], down_ms: u64) {
    let edges = run(calm(one_move())).edges;
    assert!(edges > 100, "{edges}");
    let (mut runs, mut commits) = (0, 0);
    for actors in sets {
        for edge in 1..=edges {
            let mut script = calm(one_move());
            let faults = actors.iter().map(|actor| Fault {
                edge,
                actor: *actor,
                down_ms,
            });
            script.faults = faults.collect();
            let report = run(script);
            runs += 1;
            commits += u64::from(report.outcomes[&1] == Decision::Commit);
        }
    }
    println!("{runs} runs, {commits} committed");
    assert!(commits * 10 > runs * 6, "{commits} of {runs} committed");
}

#[test]
fn a_move_survives_a_short_outage_of_anybody_at_every_edge() {
    fault_at_every_edge(&ACTORS.map(|actor| vec![actor]), 15);
}

#[test]
fn a_move_survives_an_outage_longer_than_max_pause_of_anybody_at_every_edge() {
    fault_at_every_edge(&ACTORS.map(|actor| vec![actor]), 700);
}

#[test]
fn a_move_survives_the_end_of_both_ends_at_every_edge() {
    fault_at_every_edge(&[vec![Actor::Source, Actor::Dest]], 30);
}

/// Each group is the source of one move and the destination of another.
fn both_ways() -> Vec<Order> {
    vec![
        Order::Write(plan(1, 1, 2, (0, 7))),
        Order::Await(PlanId(1)),
        Order::Write(plan(2, 1, 2, (8, 11))),
        Order::Write(plan(3, 2, 1, (0, 3))),
        Order::Await(PlanId(2)),
        Order::Await(PlanId(3)),
    ]
}

#[test]
fn slots_move_both_ways_at_once() {
    let report = run(calm(both_ways()));
    assert_eq!(report.outcomes.len(), 3);
    let mut decided = report.outcomes.values();
    assert!(
        decided.all(|decision| *decision == Decision::Commit),
        "{report:?}"
    );
    for seed in 1..=40 {
        run(Script {
            orders: both_ways(),
            ..random_script(seed)
        });
    }
}

fn random_script(seed: u64) -> Script {
    let mut rng = Rng::new(seed);
    let faults = (0..rng.below(8)).map(|_| Fault {
        edge: 1 + rng.below(1_200),
        actor: ACTORS[rng.below(ACTORS.len() as u64) as usize],
        down_ms: [3, 30, 300, 1_500][rng.below(4) as usize],
    });
    let faults = faults.collect();
    let mut orders = vec![Order::Write(plan(1, 1, 2, (2, 9)))];
    if rng.chance(25) {
        orders.push(Order::Wait(rng.below(300)));
        orders.push(Order::Control(PlanId(1), Control::Pause));
        orders.push(Order::Wait(rng.below(300)));
        orders.push(Order::Control(PlanId(1), Control::Run));
    }
    if rng.chance(15) {
        orders.push(Order::Wait(rng.below(300)));
        orders.push(Order::Control(PlanId(1), Control::Abort));
    }
    // A second plan at the same time, in the same direction.
    if rng.chance(30) {
        orders.push(Order::Write(plan(2, 1, 2, (10, 13))));
        orders.push(Order::Await(PlanId(2)));
    }
    orders.push(Order::Await(PlanId(1)));
    // And back, whether or not it went there.
    if rng.chance(30) {
        orders.push(Order::Write(plan(3, 2, 1, (2, 9))));
        orders.push(Order::Await(PlanId(3)));
    }
    Script {
        seed: rng.next(),
        faults,
        noise: [0, 2, 10, 25][rng.below(4) as usize],
        orders,
        clients: 1 + rng.below(6),
        harm: None,
    }
}

/// A number from the environment, to run a failing seed or many more.
fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn random_faults_lose_nothing_and_end() {
    let (first, count) = (number("CAIRN_SIM_SEED", 1), number("CAIRN_SIM_COUNT", 600));
    let (mut commits, mut aborts) = (0, 0);
    for seed in first..first + count {
        let outcome = catch_unwind(|| run(random_script(seed)));
        let report = outcome.unwrap_or_else(|_| panic!("failing seed: CAIRN_SIM_SEED={seed}"));
        let decided = report.outcomes.values();
        let committed = decided
            .filter(|decision| **decision == Decision::Commit)
            .count();
        commits += committed;
        aborts += report.outcomes.len() - committed;
    }
    println!("{commits} committed, {aborts} aborted");
    assert!(
        count < 600 || commits > 100 && aborts > 20,
        "{commits} commits, {aborts} aborts"
    );
}

/// The plan came to nothing, for this reason.
fn assert_aborted(report: &Report, plan: u64, reason: FailReason) {
    assert_eq!(report.outcomes[&plan], Decision::Abort);
    let expected = format!("{:?}", Notice::Failing(reason));
    assert!(report.failures.contains(&expected), "{:?}", report.failures);
}

#[test]
fn a_spoiled_import_is_found_and_the_plan_aborts() {
    let mut script = calm(one_move());
    script.harm = Some(Harm::Import);
    assert_aborted(&run(script), 1, FailReason::DigestMismatch);
}

/// Of the checks themselves: what the core cannot see, they do.
#[test]
fn a_record_that_is_spoiled_behind_all_digests_is_found_by_the_world() {
    let mut script = calm(one_move());
    script.harm = Some(Harm::ReadyImport);
    let found = catch_unwind(|| World::run(script)).unwrap_err();
    let said = found.downcast_ref::<String>().expect("a check's message");
    assert!(said.contains("the data of the slots when owned"), "{said}");
}

#[test]
fn a_log_that_was_cut_too_early_is_noticed_and_the_plan_aborts() {
    let mut script = calm(one_move());
    script.harm = Some(Harm::Log);
    assert_aborted(&run(script), 1, FailReason::LogMissing);
}

#[test]
fn a_move_that_needs_more_log_than_it_may_aborts() {
    let mut spec = plan(1, 1, 2, (4, 11));
    spec.limits.log_limit = 50;
    let report = run(calm(vec![Order::Write(spec), Order::Await(PlanId(1))]));
    assert_aborted(&report, 1, FailReason::LogLimit);
}

#[test]
fn an_abort_on_request_leaves_the_source_serving() {
    let mut orders = one_move();
    orders.insert(1, Order::Wait(60));
    orders.insert(2, Order::Control(PlanId(1), Control::Abort));
    assert_aborted(&run(calm(orders)), 1, FailReason::Requested);
}

#[test]
fn a_plan_for_slots_that_the_source_does_not_serve_fails_cleanly() {
    let orders = vec![Order::Write(plan(1, 2, 1, (0, 3))), Order::Await(PlanId(1))];
    assert_aborted(&run(calm(orders)), 1, FailReason::SourceRefused);
}

#[test]
fn a_plan_for_slots_that_move_already_fails_cleanly() {
    let mut orders = one_move();
    orders.insert(1, Order::Wait(60));
    orders.insert(2, Order::Write(plan(2, 1, 2, (10, 13))));
    orders.push(Order::Await(PlanId(2)));
    let report = run(calm(orders));
    assert_eq!(report.outcomes[&1], Decision::Commit);
    assert_aborted(&report, 2, FailReason::SourceRefused);
}

/// Regression: "the destination group cannot import these slots", for an import whose
/// abort the destination had not heard of yet.
#[test]
fn a_plan_waits_for_the_import_of_an_aborted_one_that_went_before() {
    let mut refused = 0;
    for seed in 1..=20 {
        let mut script = calm(vec![
            Order::Write(plan(1, 1, 2, (4, 11))),
            Order::Wait(80),
            Order::Control(PlanId(1), Control::Abort),
            Order::Await(PlanId(1)),
            Order::Write(plan(2, 1, 2, (4, 11))),
            Order::Await(PlanId(2)),
        ]);
        script.seed = seed;
        script.harm = Some(Harm::LateAbort);
        let report = run(script);
        refused += report.refused_slots;
        // Some moves are over before the wish to abort is seen.
        let expected = match report.outcomes[&1] {
            Decision::Abort => Decision::Commit,
            Decision::Commit => Decision::Abort,
        };
        assert_eq!(report.outcomes[&2], expected, "{report:?}");
    }
    assert!(
        refused > 10,
        "{refused} times the import of the first was met"
    );
}

#[test]
fn a_dead_operator_harms_nothing() {
    let mut script = calm(one_move());
    script.faults = vec![Fault {
        edge: 20,
        actor: Actor::Admin,
        down_ms: 30_000,
    }];
    let report = run(script);
    assert_eq!(report.outcomes[&1], Decision::Commit);
    assert!(report.released[&1] < 10_000, "it waited for the operator");
}
