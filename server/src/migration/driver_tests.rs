//! What the drivers do in single situations, without a world around them.

use super::*;
use bytes::Bytes;

const PLAN: PlanId = PlanId(7);

fn spec() -> PlanSpec {
    PlanSpec {
        plan: PLAN,
        from: GroupId(1),
        to: GroupId(2),
        slots: SlotRanges::from_run(10, 13).unwrap(),
        limits: Limits {
            max_rate: 0,
            max_pause_ms: 200,
            log_limit: 1_000,
            catch_up_ms: 10_000,
        },
    }
}

const CHUNK: ChunkRecord = ChunkRecord {
    first: 10,
    last: 13,
    index: 2,
    rows: 0,
    bytes: 0,
    digest: 0,
};

/// A source driver over a real replicated state.
struct Source {
    state: MigrationState,
    driver: SourceDriver,
    index: u64,
    log_time: u64,
    now: MonoMs,
    /// Number of the last request to etcd.
    asked: u64,
}

impl Source {
    fn new() -> Self {
        let mut source = Self {
            state: MigrationState::default(),
            driver: SourceDriver::new(spec(), DriverConfig::default(), 3, 42, 0),
            index: 0,
            log_time: 50_000,
            now: 0,
            asked: 0,
        };
        let slots = SlotRanges::from_run(0, 99).unwrap();
        source.commit(&MigrationEntry::Assign { slots, epoch: 1 });
        source
    }

    fn commit(&mut self, entry: &MigrationEntry) {
        self.index += 1;
        self.state.apply(entry, self.at()).unwrap();
    }

    fn at(&self) -> ApplyContext {
        ApplyContext {
            index: self.index,
            log_time: self.log_time,
        }
    }

    /// Everything but timers and progress.
    fn step(&mut self, event: SourceEvent) -> Vec<SourceAction> {
        let mut out = Vec::new();
        self.driver.step(self.now, event, &mut out);
        out.retain(|action| {
            !matches!(
                action,
                SourceAction::SetTimer(_) | SourceAction::WriteProgress(_)
            )
        });
        self.asked = out.iter().find_map(etcd_ask).unwrap_or(self.asked);
        out
    }

    /// etcd answers the last request.
    fn etcd(&mut self, answer: EtcdAnswer) -> Vec<SourceAction> {
        let ask = self.asked;
        self.step(SourceEvent::Etcd { ask, answer })
    }

    fn replicated(&mut self) -> Vec<SourceAction> {
        let view = self.state.source_view(PLAN, self.at());
        self.step(SourceEvent::Replicated(view))
    }

    /// A checkpoint that was proposed is applied, so that nothing waits for it.
    fn checkpointed(&mut self, actions: &[SourceAction]) -> Vec<SourceAction> {
        let checkpoint = actions.iter().find_map(|action| match action {
            SourceAction::Propose(entry @ MigrationEntry::Checkpoint { .. }) => Some(entry),
            _ => None,
        });
        let Some(entry) = checkpoint else {
            return Vec::new();
        };
        self.commit(entry);
        self.replicated()
    }

    /// The plan is begun and its one chunk done.
    fn copy_all(&mut self) {
        self.commit(&MigrationEntry::SourceBegin { spec: spec() });
        let chunk = CHUNK;
        self.commit(&MigrationEntry::ChunkDone { plan: PLAN, chunk });
    }

    /// A source whose slots are frozen.
    fn frozen() -> Self {
        let mut source = Self::new();
        source.copy_all();
        source.commit(&MigrationEntry::Freeze { plan: PLAN });
        source
    }

    /// A source that has caught up and asked etcd for a proof.
    fn proving() -> Self {
        let mut source = Self::new();
        source.copy_all();
        source.replicated();
        source.etcd(EtcdAnswer::NoDecision);
        let mut status = source.status(DestPhase::Importing);
        status.position = source.state.source(PLAN).unwrap().resume_point();
        source.step(SourceEvent::Dest(status));
        let actions = source.step(SourceEvent::IncrementsRead {
            after: 2,
            through: 3,
            effects: Bytes::new(),
            behind_bytes: 0,
        });
        assert!(proves(&actions), "{actions:?}");
        assert!(!proposes(&actions), "{actions:?}");
        source
    }

    fn status(&self, phase: DestPhase) -> DestStatus {
        let plan = self.state.source(PLAN).unwrap();
        DestStatus {
            plan: PLAN,
            applied: 9,
            phase,
            attempt: 0,
            parts: 0,
            chunks: plan.chunks.len() as u32,
            last_chunk: plan.chunks.last().copied(),
            position: Some(StreamPoint {
                through: 4,
                hash: StreamHash::default(),
            }),
            failure: None,
        }
    }
}

/// The number of a request to etcd.
fn etcd_ask(action: &SourceAction) -> Option<u64> {
    match action {
        SourceAction::Prove { ask }
        | SourceAction::ReadDecision { ask }
        | SourceAction::Decide { ask, .. } => Some(*ask),
        _ => None,
    }
}

fn proves(actions: &[SourceAction]) -> bool {
    let proof = |action: &SourceAction| matches!(action, SourceAction::Prove { .. });
    actions.iter().any(proof)
}

fn reads_decision(actions: &[SourceAction]) -> bool {
    let read = |action: &SourceAction| matches!(action, SourceAction::ReadDecision { .. });
    actions.iter().any(read)
}

fn wants(actions: &[SourceAction]) -> Option<Decision> {
    actions.iter().find_map(|action| match action {
        SourceAction::Decide { want, .. } => Some(*want),
        _ => None,
    })
}

fn proposes(actions: &[SourceAction]) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, SourceAction::Propose(_)))
}

#[test]
fn a_source_that_restarts_frozen_reads_the_decision_before_it_decides() {
    let mut source = Source::frozen();
    let actions = source.replicated();
    assert!(reads_decision(&actions), "{actions:?}");
    let ready = source.status(DestPhase::Ready);
    assert_eq!(wants(&source.step(SourceEvent::Dest(ready))), None);
    let actions = source.etcd(EtcdAnswer::NoDecision);
    assert_eq!(wants(&actions), Some(Decision::Commit));
}

#[test]
fn at_max_pause_the_source_asks_for_abort_and_unfreezes_only_on_the_answer() {
    let mut source = Source::frozen();
    source.replicated();
    source.etcd(EtcdAnswer::NoDecision);
    source.now = 199;
    assert_eq!(wants(&source.step(SourceEvent::Timer)), None);
    source.now = 200;
    let actions = source.step(SourceEvent::Timer);
    assert_eq!(wants(&actions), Some(Decision::Abort));
    assert!(!proposes(&actions));
    let commit = EtcdAnswer::Decided {
        decision: Decision::Commit,
        reason: None,
    };
    let actions = source.etcd(commit);
    let epoch = 2;
    let own = SourceAction::Send(ToDest::Own { plan: PLAN, epoch });
    assert!(
        actions.contains(&own),
        "the decision that is there stands: {actions:?}"
    );
    assert!(!proposes(&actions), "no RELEASE before OWN: {actions:?}");
}

#[test]
fn with_etcd_gone_frozen_slots_stay_frozen_and_it_is_said_once() {
    let mut source = Source::frozen();
    source.replicated();
    let mut said = 0;
    for now in (0..60_000).step_by(50) {
        source.now = now;
        let mut actions = source.step(SourceEvent::Timer);
        actions.extend(source.etcd(EtcdAnswer::Unavailable));
        assert!(!proposes(&actions), "{actions:?}");
        let notice = SourceAction::Notice(Notice::FrozenWithoutEtcd);
        said += actions.iter().filter(|action| **action == notice).count();
    }
    assert_eq!(said, 1);
    assert_eq!(source.state.can_serve(10), Verdict::Frozen);
}

#[test]
fn the_pause_spans_a_change_of_leader_by_log_time() {
    let mut source = Source::frozen();
    source.log_time += 70;
    source.now = 1_000_000;
    source.replicated();
    source.etcd(EtcdAnswer::Decided {
        decision: Decision::Commit,
        reason: None,
    });
    source.now += 30;
    let owned = source.status(DestPhase::Owned);
    let actions = source.step(SourceEvent::Dest(owned));
    let release = MigrationEntry::Release {
        plan: PLAN,
        pause_ms: 100,
    };
    assert!(
        actions.contains(&SourceAction::Propose(release)),
        "{actions:?}"
    );
}

#[test]
fn freeze_needs_a_fresh_proof_of_etcd() {
    let mut source = Source::proving();
    source.now = 500;
    source.etcd(EtcdAnswer::Unavailable);
    source.now = 600;
    let actions = source.step(SourceEvent::Timer);
    assert!(proves(&actions), "{actions:?}");
    assert!(!proposes(&actions), "{actions:?}");
    let actions = source.etcd(EtcdAnswer::Proved);
    let freeze = SourceAction::Propose(MigrationEntry::Freeze { plan: PLAN });
    assert!(actions.contains(&freeze), "{actions:?}");
}

/// etcd as it would answer what is asked, long after.
struct SlowEtcd {
    delay_ms: u64,
    under_way: std::collections::VecDeque<(MonoMs, u64, EtcdAnswer)>,
}

impl SlowEtcd {
    fn new(delay_ms: u64) -> Self {
        Self {
            delay_ms,
            under_way: std::collections::VecDeque::new(),
        }
    }

    fn asked(&mut self, now: MonoMs, actions: &[SourceAction]) {
        for action in actions {
            let answer = match action {
                SourceAction::Prove { .. } => EtcdAnswer::Proved,
                SourceAction::ReadDecision { .. } => EtcdAnswer::NoDecision,
                SourceAction::Decide { want, reason, .. } => EtcdAnswer::Decided {
                    decision: *want,
                    reason: *reason,
                },
                _ => continue,
            };
            let ask = etcd_ask(action).expect("one of these");
            self.under_way.push_back((now + self.delay_ms, ask, answer));
        }
    }

    fn answer(&mut self, now: MonoMs) -> Option<SourceEvent> {
        self.under_way.front().filter(|(at, ..)| *at <= now)?;
        let (_, ask, answer) = self.under_way.pop_front()?;
        Some(SourceEvent::Etcd { ask, answer })
    }
}

/// Regression: an answer that came after its time was taken for that to the request made
/// meanwhile, and an old proof for a fresh one: the slots were frozen, and the pause
/// exceeded.
#[test]
fn an_etcd_that_answers_too_late_for_ever_never_has_slots_frozen() {
    let mut source = Source::proving();
    let mut etcd = SlowEtcd::new(1_200);
    let ask = source.asked;
    etcd.asked(0, &[SourceAction::Prove { ask }]);
    let freeze = SourceAction::Propose(MigrationEntry::Freeze { plan: PLAN });
    let mut proofs = 0;
    for now in (0..120_000).step_by(10) {
        source.now = now;
        let event = etcd.answer(now).unwrap_or(SourceEvent::Timer);
        let mut actions = source.step(event);
        actions.extend(source.checkpointed(&actions));
        proofs += u64::from(proves(&actions));
        assert!(!actions.contains(&freeze), "at {now}: {actions:?}");
        etcd.asked(now, &actions);
    }
    assert!(proofs > 50, "it goes on asking: {proofs}");
}

#[test]
fn a_decision_counts_however_late_it_comes_and_other_answers_do_not() {
    let mut source = Source::frozen();
    source.replicated();
    let read = source.asked;
    let late = |answer| SourceEvent::Etcd { ask: read, answer };
    source.now = 200;
    let actions = source.step(SourceEvent::Timer);
    assert_eq!(wants(&actions), Some(Decision::Abort), "it is urgent");
    for answer in [EtcdAnswer::Unavailable, EtcdAnswer::Refused] {
        source.step(late(answer));
        source.now += 500;
        let actions = source.step(SourceEvent::Timer);
        assert_eq!(
            wants(&actions),
            None,
            "{answer:?} is not for the last request"
        );
        source.now -= 500;
    }
    let reason = Some(FailReason::PauseExceeded);
    let decision = Decision::Abort;
    let actions = source.step(late(EtcdAnswer::Decided { decision, reason }));
    assert!(proposes(&actions), "{actions:?}");
}

#[test]
fn a_refused_proof_neither_fails_nor_freezes_but_looks_for_a_decision() {
    let mut source = Source::proving();
    let actions = source.etcd(EtcdAnswer::Refused);
    assert!(
        wants(&actions).is_none() && !proposes(&actions),
        "{actions:?}"
    );
    source.now = 200;
    let actions = source.step(SourceEvent::Timer);
    assert!(reads_decision(&actions), "{actions:?}");
    let actions = source.etcd(EtcdAnswer::NoDecision);
    assert!(proves(&actions), "{actions:?}");
}

#[test]
fn a_destination_with_another_stream_than_the_log_fails_the_plan() {
    let mut source = Source::new();
    source.copy_all();
    source.replicated();
    source.etcd(EtcdAnswer::NoDecision);
    let mut status = source.status(DestPhase::Importing);
    status.position = Some(StreamPoint {
        through: 4,
        hash: StreamHash(1),
    });
    let actions = source.step(SourceEvent::Dest(status));
    let again = SourceAction::ReadIncrements {
        after: 2,
        until: Some(4),
        max_bytes: DriverConfig::default().increment_bytes,
    };
    assert!(actions.contains(&again), "{actions:?}");
    let mut batch = IncrementBatch::default();
    batch.push(3, b"effects");
    let actions = source.step(SourceEvent::IncrementsRead {
        after: 2,
        through: 4,
        effects: batch.finish(),
        behind_bytes: 0,
    });
    assert_eq!(wants(&actions), Some(Decision::Abort));
    let said = SourceAction::Notice(Notice::Failing(FailReason::StreamMismatch));
    assert!(actions.contains(&said), "{actions:?}");
}

#[test]
fn too_much_log_fails_the_plan() {
    let mut source = Source::new();
    source.commit(&MigrationEntry::SourceBegin { spec: spec() });
    source.replicated();
    source.etcd(EtcdAnswer::NoDecision);
    assert_eq!(
        wants(&source.step(SourceEvent::LogHeld { bytes: 1_000 })),
        None
    );
    let actions = source.step(SourceEvent::LogHeld { bytes: 1_001 });
    assert_eq!(wants(&actions), Some(Decision::Abort));
}

#[test]
fn a_paused_plan_sends_nothing_and_a_resumed_one_goes_on() {
    let mut source = Source::new();
    source.commit(&MigrationEntry::SourceBegin { spec: spec() });
    source.replicated();
    source.etcd(EtcdAnswer::NoDecision);
    let limits = spec().limits;
    let plan = |control| SourceEvent::Plan { control, limits };
    assert_eq!(source.step(plan(Control::Pause)), []);
    source.now = 5_000;
    assert_eq!(source.step(SourceEvent::Timer), []);
    let actions = source.step(plan(Control::Run));
    let query = SourceAction::Send(ToDest::Query { plan: PLAN });
    assert!(actions.contains(&query), "{actions:?}");
}

/// A source in the middle of its one chunk.
fn exporting() -> Source {
    let mut source = Source::new();
    source.commit(&MigrationEntry::SourceBegin { spec: spec() });
    source.replicated();
    source.etcd(EtcdAnswer::NoDecision);
    let mut status = source.status(DestPhase::Importing);
    let begin = source.step(SourceEvent::Dest(status));
    let attempt = begin.iter().find_map(|action| match action {
        SourceAction::Send(ToDest::ChunkBegin { attempt, .. }) => Some(*attempt),
        _ => None,
    });
    status.attempt = attempt.expect("the chunk begins");
    let actions = source.step(SourceEvent::Dest(status));
    let starts = |action: &SourceAction| matches!(action, SourceAction::StartExport { .. });
    assert!(actions.iter().any(starts), "{actions:?}");
    source
}

fn stops_export(actions: &[SourceAction]) -> bool {
    let stops = |action: &SourceAction| matches!(action, SourceAction::StopExport { .. });
    actions.iter().any(stops)
}

/// An export pins a snapshot and holds the source's garbage.
#[test]
fn an_export_is_let_go_by_a_pause_an_abort_and_a_lost_destination() {
    let limits = spec().limits;
    let plan = |control| SourceEvent::Plan { control, limits };
    for event in [
        plan(Control::Pause),
        plan(Control::Abort),
        SourceEvent::DestLost,
    ] {
        let actions = exporting().step(event.clone());
        assert!(stops_export(&actions), "{event:?}: {actions:?}");
    }
}

/// Steps a destination driver over a state.
fn dest_step(driver: &mut DestDriver, now: MonoMs, event: DestEvent) -> Vec<DestAction> {
    let mut out = Vec::new();
    driver.step(now, event, &mut out);
    out.retain(|action| !matches!(action, DestAction::SetTimer(_)));
    out
}

/// A destination whose chunk has been begun as attempt 1, over a real replicated state.
struct Dest {
    state: MigrationState,
    driver: DestDriver,
    index: u64,
    now: MonoMs,
}

impl Dest {
    fn staging() -> Self {
        let mut dest = Self {
            state: MigrationState::default(),
            driver: DestDriver::new(PLAN, DriverConfig::default(), 0),
            index: 0,
            now: 0,
        };
        dest.commit(&MigrationEntry::DestBegin { spec: spec() });
        dest.commit(&MigrationEntry::ChunkBegin {
            plan: PLAN,
            term: 1,
            attempt: 1,
            first: 10,
        });
        dest
    }

    /// One whose chunk has landed and that is ready to own.
    fn ready() -> Self {
        let mut dest = Self::staging();
        let chunk = CHUNK;
        dest.commit(&MigrationEntry::ChunkLanded {
            plan: PLAN,
            attempt: 1,
            parts: 0,
            chunk,
        });
        dest.commit(&MigrationEntry::Ready {
            plan: PLAN,
            freeze: StreamPoint {
                through: 2,
                hash: StreamHash::default(),
            },
            chunks: plan::fold_chunks(&[chunk]),
            log_time: 1,
            epoch: 2,
        });
        dest
    }

    /// What the driver does when it hears that the entry was applied.
    fn commit(&mut self, entry: &MigrationEntry) -> Vec<DestAction> {
        self.index += 1;
        let at = ApplyContext {
            index: self.index,
            log_time: 1,
        };
        self.state.apply(entry, at).unwrap();
        let view = self.state.dest_view(PLAN, at);
        self.step(self.now, DestEvent::Replicated(view))
    }

    fn step(&mut self, now: MonoMs, event: DestEvent) -> Vec<DestAction> {
        self.now = now;
        dest_step(&mut self.driver, now, event)
    }

    fn sent_part(
        &mut self,
        now: MonoMs,
        rows: &Bytes,
        end: Option<ChunkRecord>,
    ) -> Option<MigrationEntry> {
        let part = ToDest::ChunkPart {
            plan: PLAN,
            attempt: 1,
            part: 0,
            rows: rows.clone(),
            end,
        };
        proposed(self.step(now, DestEvent::Source(part)))
    }
}

/// A destination that has not begun the plan, its state, and what it answers when the
/// begin is asked for and refused.
struct Unbegun {
    driver: DestDriver,
    state: MigrationState,
}

impl Unbegun {
    fn new() -> Self {
        let mut unbegun = Self {
            driver: DestDriver::new(PLAN, DriverConfig::default(), 0),
            state: MigrationState::default(),
        };
        assert_eq!(unbegun.replicated(0), []);
        unbegun
    }

    fn replicated(&mut self, now: MonoMs) -> Vec<DestAction> {
        let at = ApplyContext {
            index: 1,
            log_time: 1,
        };
        let view = self.state.dest_view(PLAN, at);
        dest_step(&mut self.driver, now, DestEvent::Replicated(view))
    }

    fn asked_begin(&mut self, now: MonoMs) -> Vec<DestAction> {
        let begin = DestEvent::Source(ToDest::Begin { spec: spec() });
        dest_step(&mut self.driver, now, begin)
    }

    /// The failure in the answer to a refusal.
    fn refused(&mut self, now: MonoMs, reason: Refused) -> Option<FailReason> {
        assert_eq!(self.asked_begin(now), [DestAction::Propose(begin())]);
        let concluded = DestEvent::Concluded { bytes: 0 };
        assert_eq!(dest_step(&mut self.driver, now, concluded), []);
        let actions = dest_step(&mut self.driver, now + 1, DestEvent::Refused(reason));
        let [DestAction::Reply(status)] = actions[..] else {
            panic!("{actions:?}");
        };
        assert_eq!(status.phase, DestPhase::Unknown);
        status.failure
    }
}

/// Regression: a plan failed at once if the destination had not heard yet that an earlier
/// one of the same slots was aborted.
#[test]
fn a_destination_whose_slots_are_taken_waits_for_them() {
    let mut dest = Unbegun::new();
    for now in (1_000..30_000).step_by(1_000) {
        assert_eq!(dest.refused(now, Refused::SlotsTaken), None, "at {now}");
    }
    // The abort was heard of.
    assert_eq!(proposed(dest.asked_begin(30_000)), Some(begin()));
    let at = ApplyContext {
        index: 1,
        log_time: 1,
    };
    dest.state.apply(&begin(), at).unwrap();
    let actions = dest.replicated(30_001);
    let [DestAction::Reply(status)] = actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(status.phase, DestPhase::Importing);
    assert_eq!(status.failure, None);
}

fn begin() -> MigrationEntry {
    MigrationEntry::DestBegin { spec: spec() }
}

#[test]
fn slots_that_stay_taken_fail_the_plan_and_one_without_slots_fails_at_once() {
    let mut dest = Unbegun::new();
    let failure = Some(FailReason::DestinationRefused);
    assert_eq!(dest.refused(1_000, Refused::SlotsTaken), None);
    // A driver that nobody asked for a while is dropped: the next one waits anew.
    let mut next = Unbegun::new();
    assert_eq!(next.refused(40_000, Refused::SlotsTaken), None);
    for now in (2_000..31_000).step_by(1_000) {
        assert_eq!(dest.refused(now, Refused::SlotsTaken), None, "at {now}");
    }
    assert_eq!(dest.refused(31_000, Refused::SlotsTaken), failure);
    assert_eq!(Unbegun::new().refused(1, Refused::Nothing), failure);
}

/// The one thing that is proposed.
fn proposed(actions: Vec<DestAction>) -> Option<MigrationEntry> {
    actions.into_iter().find_map(|action| match action {
        DestAction::Propose(entry) => Some(entry),
        _ => None,
    })
}

/// Regression: staged rows were read back again every second while the first reading
/// went on, and readings that ended behind increments, after the chunk had landed,
/// failed the plan: "copied rows differ".
#[test]
fn staged_rows_are_read_back_one_at_a_time_and_not_judged_once_they_have_landed() {
    let mut dest = Dest::staging();
    let digests = |actions: &[DestAction]| {
        let digest = |action: &&DestAction| matches!(action, DestAction::DigestStaged { .. });
        actions.iter().filter(digest).count()
    };
    let part = dest.sent_part(1, &Bytes::new(), Some(CHUNK)).unwrap();
    assert_eq!(digests(&dest.commit(&part)), 1);
    for now in [500, 1_500, 9_000] {
        assert_eq!(digests(&dest.step(now, DestEvent::Timer)), 0);
    }
    let staged = |rows| DestEvent::Staged {
        attempt: 1,
        rows,
        digest: 0,
    };
    let landed = proposed(dest.step(9_001, staged(0))).unwrap();
    // The log did not take it: read again, and meanwhile it does.
    assert_eq!(digests(&dest.step(9_900, DestEvent::Timer)), 0);
    assert_eq!(digests(&dest.step(10_001, DestEvent::Timer)), 1);
    dest.commit(&landed);
    for now in [10_003, 10_004, 10_005] {
        assert_eq!(dest.step(now, staged(9)), []);
    }
}

#[test]
fn a_slow_log_is_not_given_copies_of_a_part_without_end() {
    let mut dest = Dest::staging();
    let rows = Bytes::from(vec![0; 1 << 20]);
    let copies = (1..100)
        .filter(|second| dest.sent_part(second * 1_000, &rows, None).is_some())
        .count();
    assert_eq!(copies, 8);
    let bytes = rows.len() as u64;
    dest.step(200_000, DestEvent::Concluded { bytes });
    assert!(dest.sent_part(201_000, &rows, None).is_some());
}

/// Regression: each retry gave the log another copy, twenty a second while slots were
/// frozen, for as long as it stood still.
#[test]
fn a_log_that_stands_still_is_given_few_copies_of_what_the_source_proposes() {
    let mut source = Source::frozen();
    source.replicated();
    let mut copies = usize::from(proposes(&source.etcd(EtcdAnswer::Decided {
        decision: Decision::Abort,
        reason: None,
    })));
    let look = |source: &mut Source, now, event| {
        source.now = now;
        usize::from(proposes(&source.step(event)))
    };
    for now in (10..60_000).step_by(10) {
        copies += look(&mut source, now, SourceEvent::Timer);
    }
    assert_eq!(copies, 4);
    assert_eq!(look(&mut source, 60_000, SourceEvent::Concluded), 1);
    assert_eq!(look(&mut source, 61_000, SourceEvent::Timer), 0);
}

#[test]
fn a_log_that_stands_still_is_given_few_copies_of_what_the_destination_proposes() {
    let mut dest = Dest::ready();
    let mut looks = |now, event| usize::from(proposed(dest.step(now, event)).is_some());
    let mut copies = looks(1, DestEvent::Decided(Decision::Commit));
    for now in (10..60_000).step_by(10) {
        copies += looks(now, DestEvent::Timer);
    }
    assert_eq!(copies, 4);
    assert_eq!(looks(60_000, DestEvent::Concluded { bytes: 0 }), 1);
    assert_eq!(looks(61_000, DestEvent::Timer), 0);
}

#[test]
fn small_parts_and_empty_ones_are_bounded_in_number() {
    for (rows, most) in [(Bytes::from_static(b"row"), 32), (Bytes::new(), 4)] {
        let mut dest = Dest::staging();
        let copies = (1..200)
            .filter(|second| dest.sent_part(second * 1_000, &rows, None).is_some())
            .count();
        assert_eq!(copies, most);
        let bytes = rows.len() as u64;
        dest.step(200_000, DestEvent::Concluded { bytes });
        assert!(dest.sent_part(201_000, &rows, None).is_some());
    }
}

#[test]
fn a_ready_destination_drops_nothing_on_the_word_of_the_source() {
    let mut driver = Dest::ready().driver;
    let reason = FailReason::PauseExceeded;
    let abort = DestEvent::Source(ToDest::Abort { plan: PLAN, reason });
    let actions = dest_step(&mut driver, 1, abort);
    assert_eq!(actions, [DestAction::ReadDecision]);
    assert_eq!(dest_step(&mut driver, 2, DestEvent::NoDecision), []);
    let actions = dest_step(&mut driver, 3, DestEvent::Decided(Decision::Abort));
    let [DestAction::Propose(MigrationEntry::DestAbort { .. })] = actions[..] else {
        panic!("{actions:?}");
    };
}

#[test]
fn a_destination_that_is_over_still_answers_and_then_ends() {
    let mut state = MigrationState::default();
    let reason = FailReason::Requested;
    let at = ApplyContext {
        index: 1,
        log_time: 1,
    };
    state
        .apply(&MigrationEntry::DestAbort { plan: PLAN, reason }, at)
        .unwrap();
    let view = state.dest_view(PLAN, at);
    let mut driver = DestDriver::new(PLAN, DriverConfig::default(), 0);
    let status = DestAction::Reply(view.status(PLAN, None));
    assert_eq!(dest_step(&mut driver, 0, DestEvent::Replicated(view)), []);
    for (now, message) in [
        (1, ToDest::Query { plan: PLAN }),
        (2, ToDest::Begin { spec: spec() }),
        (
            3,
            ToDest::Own {
                plan: PLAN,
                epoch: 2,
            },
        ),
        (4, ToDest::Abort { plan: PLAN, reason }),
    ] {
        let actions = dest_step(&mut driver, now, DestEvent::Source(message));
        assert_eq!(actions, std::slice::from_ref(&status));
    }
    let actions = dest_step(&mut driver, 5_004, DestEvent::Timer);
    assert_eq!(actions, [DestAction::Done]);
}

#[test]
fn a_ready_destination_owns_by_itself_when_the_source_is_silent() {
    let mut driver = Dest::ready().driver;
    assert_eq!(dest_step(&mut driver, 49, DestEvent::Timer), []);
    let actions = dest_step(&mut driver, 50, DestEvent::Timer);
    assert_eq!(actions, [DestAction::ReadDecision]);
    let actions = dest_step(&mut driver, 60, DestEvent::Decided(Decision::Commit));
    let own = MigrationEntry::Own {
        plan: PLAN,
        epoch: 2,
    };
    assert_eq!(actions, [DestAction::Propose(own)]);
}
