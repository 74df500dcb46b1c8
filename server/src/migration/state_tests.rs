//! The rules of the replicated state, entry by entry.

use super::*;
use bytes::Bytes;
use std::collections::BTreeMap;

const PLAN: PlanId = PlanId(7);

fn spec() -> PlanSpec {
    PlanSpec {
        plan: PLAN,
        from: GroupId(1),
        to: GroupId(2),
        slots: SlotRanges::from_run(10, 13).unwrap(),
        limits: Limits::default(),
    }
}

/// A group's state, the log index, and the rows that storage would hold.
struct Group {
    state: MigrationState,
    index: u64,
    rows: BTreeMap<RowKey, Bytes>,
}

impl Group {
    fn empty() -> Self {
        Self {
            state: MigrationState::default(),
            index: 0,
            rows: BTreeMap::new(),
        }
    }

    fn serving() -> Self {
        let mut group = Self::empty();
        let slots = SlotRanges::from_run(0, 99).unwrap();
        group.ok(MigrationEntry::Assign { slots, epoch: 4 });
        group
    }

    fn apply(&mut self, entry: MigrationEntry) -> Result<StateChange, Refused> {
        self.index += 1;
        let at = ApplyContext {
            index: self.index,
            log_time: 1_000 + self.index,
        };
        let before = self.state.clone();
        let result = self.state.apply(&entry, at);
        match &result {
            Ok(applied) => self.store(&applied.rows),
            Err(_) => assert_eq!(self.state, before, "refused, yet changed"),
        }
        let stored = self.rows.clone();
        assert_eq!(MigrationState::from_rows(stored).unwrap(), self.state);
        result.map(|applied| applied.change)
    }

    fn store(&mut self, rows: &[Row]) {
        for row in rows {
            match &row.value {
                Some(value) => self.rows.insert(row.key, value.clone()),
                None => self.rows.remove(&row.key),
            };
        }
    }

    fn ok(&mut self, entry: MigrationEntry) -> StateChange {
        self.apply(entry).unwrap()
    }

    fn refuses(&mut self, entry: MigrationEntry, reason: Refused) {
        assert_eq!(self.apply(entry), Err(reason));
    }
}

fn chunk(first: u16, last: u16, index: u64) -> ChunkRecord {
    ChunkRecord {
        first,
        last,
        index,
        rows: 2,
        bytes: 20,
        digest: 9,
    }
}

fn done(first: u16, last: u16, index: u64) -> MigrationEntry {
    let chunk = chunk(first, last, index);
    MigrationEntry::ChunkDone { plan: PLAN, chunk }
}

fn begin_chunk(term: u64, attempt: u64, first: u16) -> MigrationEntry {
    MigrationEntry::ChunkBegin {
        plan: PLAN,
        term,
        attempt,
        first,
    }
}

fn part(attempt: u64, part: u32) -> MigrationEntry {
    MigrationEntry::ChunkPart {
        plan: PLAN,
        attempt,
        part,
        rows: Bytes::from_static(b"row"),
    }
}

fn landed(attempt: u64, parts: u32, chunk: ChunkRecord) -> MigrationEntry {
    MigrationEntry::ChunkLanded {
        plan: PLAN,
        attempt,
        parts,
        chunk,
    }
}

/// A batch of one record, and the point after it.
fn increment(start: StreamPoint, index: u64) -> (MigrationEntry, StreamPoint) {
    let mut batch = IncrementBatch::default();
    batch.push(index, b"effects");
    let point = StreamPoint {
        through: index,
        hash: start.hash.then(index, b"effects"),
    };
    let entry = MigrationEntry::IncrementApplied {
        plan: PLAN,
        after: start.through,
        point,
        effects: batch.finish(),
    };
    (entry, point)
}

fn ready(freeze: StreamPoint, chunks: u128, epoch: u32) -> MigrationEntry {
    MigrationEntry::Ready {
        plan: PLAN,
        freeze,
        chunks,
        log_time: 5_000,
        epoch,
    }
}

/// A destination with both chunks in, and its position.
fn imported() -> (Group, StreamPoint) {
    let mut group = Group::empty();
    group.ok(MigrationEntry::DestBegin { spec: spec() });
    group.ok(begin_chunk(1, 100, 10));
    group.ok(part(100, 0));
    group.ok(landed(100, 1, chunk(10, 11, 30)));
    group.ok(begin_chunk(1, 101, 12));
    group.ok(part(101, 0));
    group.ok(landed(101, 1, chunk(12, 13, 20)));
    let position = group.state.dest(PLAN).unwrap().position.unwrap();
    (group, position)
}

#[test]
fn a_source_goes_through_its_phases_and_ends_without_the_slots() {
    let mut group = Group::serving();
    group.ok(MigrationEntry::SourceBegin { spec: spec() });
    assert_eq!(group.state.log_needed_after(), Some(2));
    assert_eq!(group.state.can_serve(10), Verdict::Serve);
    group.refuses(MigrationEntry::Freeze { plan: PLAN }, Refused::WrongPhase);
    group.ok(done(10, 11, 30));
    group.ok(done(12, 13, 20));
    assert_eq!(group.state.log_needed_after(), Some(20));
    let point = StreamPoint {
        through: 40,
        hash: StreamHash(1),
    };
    group.ok(MigrationEntry::Checkpoint { plan: PLAN, point });
    assert_eq!(group.state.log_needed_after(), Some(40));
    group.ok(MigrationEntry::Freeze { plan: PLAN });
    let frozen = group.state.source(PLAN).unwrap().frozen.unwrap();
    assert_eq!((frozen.index, frozen.epoch), (group.index, 5));
    assert_eq!(group.state.can_serve(10), Verdict::Frozen);
    assert_eq!(group.state.can_serve(14), Verdict::Serve);
    let release = MigrationEntry::Release {
        plan: PLAN,
        pause_ms: 12,
    };
    group.ok(release.clone());
    assert_eq!(group.state.can_serve(10), Verdict::Moved);
    assert_eq!(group.state.ownership().word(10).epoch(), 5);
    assert_eq!(group.state.log_needed_after(), None);
    group.refuses(release, Refused::Over);
    group.refuses(MigrationEntry::SourceBegin { spec: spec() }, Refused::Over);
    assert_eq!(
        group.rows.len(),
        2,
        "ownership and outcome: {:?}",
        group.rows
    );
}

#[test]
fn an_abort_after_freeze_serves_again_under_the_old_epoch() {
    let mut group = Group::serving();
    group.ok(MigrationEntry::SourceBegin { spec: spec() });
    group.ok(done(10, 13, 30));
    group.ok(MigrationEntry::Freeze { plan: PLAN });
    let reason = FailReason::PauseExceeded;
    let abort = MigrationEntry::SourceAbort { plan: PLAN, reason };
    assert!(matches!(
        group.ok(abort.clone()),
        StateChange::Unfrozen { .. }
    ));
    assert_eq!(group.state.can_serve(10), Verdict::Serve);
    assert_eq!(group.state.ownership().word(10).epoch(), 4);
    group.refuses(abort, Refused::Over);
}

#[test]
fn effects_are_due_for_a_slot_only_after_its_own_snapshot() {
    let mut group = Group::serving();
    group.ok(MigrationEntry::SourceBegin { spec: spec() });
    group.ok(done(10, 11, 30));
    group.ok(done(12, 13, 20));
    let plan = group.state.source(PLAN).unwrap();
    assert!(!plan.is_due(10, 30) && plan.is_due(10, 31));
    assert!(!plan.is_due(13, 20) && plan.is_due(13, 21));
    assert!(!plan.is_due(9, 99) && !plan.is_due(14, 99));
}

#[test]
fn slots_that_are_not_free_for_a_plan_are_refused() {
    let mut group = Group::serving();
    group.ok(MigrationEntry::SourceBegin { spec: spec() });
    let other = |first, last| PlanSpec {
        plan: PlanId(8),
        slots: SlotRanges::from_run(first, last).unwrap(),
        ..spec()
    };
    let begin = |spec| MigrationEntry::SourceBegin { spec };
    group.refuses(begin(spec()), Refused::Repeated);
    group.refuses(begin(other(13, 20)), Refused::SlotsTaken);
    group.refuses(begin(other(98, 101)), Refused::SlotsTaken);
    group.refuses(
        MigrationEntry::DestBegin {
            spec: other(50, 51),
        },
        Refused::SlotsTaken,
    );
    let nowhere = PlanSpec {
        to: GroupId(1),
        ..other(50, 51)
    };
    group.refuses(begin(nowhere), Refused::Nothing);
    group.ok(begin(other(14, 20)));
}

#[test]
fn slots_are_assigned_once_and_never_to_a_group_with_a_past() {
    let slots = SlotRanges::from_run(0, 9).unwrap();
    let assign = MigrationEntry::Assign { slots, epoch: 1 };
    let mut group = Group::serving();
    group.refuses(assign.clone(), Refused::NotFirst);
    let (mut group, _) = imported();
    let reason = FailReason::Requested;
    group.ok(MigrationEntry::DestAbort { plan: PLAN, reason });
    group.refuses(assign, Refused::NotFirst);
}

#[test]
fn parts_count_only_for_the_current_attempt_and_in_order() {
    let mut group = Group::empty();
    group.ok(MigrationEntry::DestBegin { spec: spec() });
    assert_eq!(group.state.can_serve(10), Verdict::Importing);
    group.refuses(begin_chunk(3, 100, 11), Refused::OutOfOrder);
    group.ok(begin_chunk(3, 100, 10));
    group.refuses(begin_chunk(3, 100, 10), Refused::Repeated);
    group.refuses(begin_chunk(2, 101, 10), Refused::OldTerm);
    group.refuses(part(100, 1), Refused::OutOfOrder);
    group.ok(part(100, 0));
    group.refuses(part(100, 0), Refused::Repeated);
    group.refuses(part(99, 1), Refused::OtherAttempt);
    let reset = group.ok(begin_chunk(3, 102, 10));
    assert!(matches!(reset, StateChange::ImportReset { first: 10, .. }));
    group.refuses(part(100, 1), Refused::OtherAttempt);
    group.refuses(landed(102, 1, chunk(10, 13, 30)), Refused::OutOfOrder);
    group.ok(part(102, 0));
    group.refuses(landed(102, 1, chunk(10, 14, 30)), Refused::OutOfOrder);
    group.ok(landed(102, 1, chunk(10, 13, 30)));
    group.refuses(begin_chunk(3, 103, 10), Refused::Repeated);
}

#[test]
fn increments_start_at_the_oldest_snapshot_and_continue_without_gap() {
    let (mut group, start) = imported();
    assert_eq!(start.through, 20);
    let (first, point) = increment(start, 25);
    let (second, _) = increment(point, 31);
    group.refuses(second.clone(), Refused::OutOfOrder);
    group.ok(first.clone());
    group.refuses(first, Refused::Repeated);
    let MigrationEntry::IncrementApplied { after, point, .. } = second else {
        unreachable!();
    };
    let forged = MigrationEntry::IncrementApplied {
        plan: PLAN,
        after,
        point,
        effects: Bytes::new(),
    };
    group.refuses(forged, Refused::Mismatch);
}

#[test]
fn ready_needs_the_same_stream_chunks_and_a_higher_epoch() {
    let (mut group, start) = imported();
    let fold = group.state.dest(PLAN).unwrap().chunks_fold();
    let (entry, point) = increment(start, 25);
    group.refuses(ready(point, fold, 5), Refused::OutOfOrder);
    group.ok(entry);
    let other = StreamPoint {
        hash: StreamHash(1),
        ..point
    };
    group.refuses(ready(other, fold, 5), Refused::Mismatch);
    group.refuses(ready(point, fold + 1, 5), Refused::Mismatch);
    group.refuses(ready(point, fold, 0), Refused::EpochTooLow);
    group.refuses(
        MigrationEntry::Own {
            plan: PLAN,
            epoch: 5,
        },
        Refused::WrongPhase,
    );
    let change = group.ok(ready(point, fold, 5));
    assert_eq!(change, StateChange::LogTimeFloor { log_time: 5_000 });
    let (late, _) = increment(point, 26);
    group.refuses(late, Refused::WrongPhase);
    group.refuses(
        MigrationEntry::Own {
            plan: PLAN,
            epoch: 6,
        },
        Refused::WrongPhase,
    );
    group.ok(MigrationEntry::Own {
        plan: PLAN,
        epoch: 5,
    });
    assert_eq!(group.state.can_serve(13), Verdict::Serve);
    assert_eq!(group.state.ownership().word(13).epoch(), 5);
    assert_eq!(group.rows.len(), 2);
}

#[test]
fn slots_that_come_back_need_an_epoch_above_all_earlier_ones() {
    let mut group = Group::serving();
    group.ok(MigrationEntry::SourceBegin { spec: spec() });
    group.ok(done(10, 13, 3));
    group.ok(MigrationEntry::Freeze { plan: PLAN });
    group.ok(MigrationEntry::Release {
        plan: PLAN,
        pause_ms: 1,
    });
    let back = PlanSpec {
        plan: PlanId(8),
        from: GroupId(2),
        to: GroupId(1),
        ..spec()
    };
    group.ok(MigrationEntry::DestBegin { spec: back });
    assert_eq!(group.state.ownership().word(10).epoch(), 5);
    let plan = PlanId(8);
    group.ok(MigrationEntry::ChunkBegin {
        plan,
        term: 1,
        attempt: 1,
        first: 10,
    });
    group.ok(MigrationEntry::ChunkLanded {
        plan,
        attempt: 1,
        parts: 0,
        chunk: chunk(10, 13, 2),
    });
    let dest = group.state.dest(plan).unwrap();
    let (freeze, chunks) = (dest.position.unwrap(), dest.chunks_fold());
    let ready = |epoch| MigrationEntry::Ready {
        plan,
        freeze,
        chunks,
        log_time: 1,
        epoch,
    };
    group.refuses(ready(5), Refused::EpochTooLow);
    group.ok(ready(6));
}

#[test]
fn an_abort_is_remembered_even_where_the_plan_never_began() {
    let reason = FailReason::Requested;
    let mut group = Group::empty();
    group.ok(MigrationEntry::DestAbort { plan: PLAN, reason });
    group.refuses(MigrationEntry::DestBegin { spec: spec() }, Refused::Over);
    let view = group.state.dest_view(
        PLAN,
        ApplyContext {
            index: 9,
            log_time: 0,
        },
    );
    assert_eq!(view.plan, Known::Over(Outcome::Aborted { reason }));
    assert_eq!(view.status(PLAN, None).phase, DestPhase::Aborted);
}

#[test]
fn old_outcomes_are_forgotten_but_never_begin_again() {
    let reason = FailReason::Requested;
    let mut group = Group::empty();
    for number in 1..=300 {
        let plan = PlanId(number);
        group.ok(MigrationEntry::DestAbort { plan, reason });
    }
    assert_eq!(group.rows.len(), 256 + 1, "outcomes and the watermark");
    let old = PlanSpec {
        plan: PlanId(3),
        ..spec()
    };
    group.refuses(MigrationEntry::DestBegin { spec: old }, Refused::Over);
    let view = group.state.dest_view(
        PlanId(3),
        ApplyContext {
            index: 1,
            log_time: 1,
        },
    );
    assert_eq!(view.plan, Known::Forgotten);
}

#[test]
fn all_rows_are_the_whole_state_in_frozen_bytes() {
    let (mut group, start) = imported();
    let (entry, point) = increment(start, 25);
    group.ok(entry);
    let fold = group.state.dest(PLAN).unwrap().chunks_fold();
    group.ok(begin_source_elsewhere());
    group.ok(ready(point, fold, 5));
    let all: BTreeMap<RowKey, Bytes> = group
        .state
        .all_rows()
        .into_iter()
        .map(|row| (row.key, row.value.unwrap()))
        .collect();
    assert_eq!(all, group.rows);
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let lines: Vec<String> = all
        .iter()
        .map(|(key, value)| format!("{} {}", hex(&key.encode()), hex(value)))
        .collect();
    let golden: Vec<&str> = include_str!("state_golden.txt").lines().collect();
    assert_eq!(lines, golden, "rows are on disk");
}

#[test]
fn the_head_of_a_source_has_frozen_bytes() {
    let mut group = Group::serving();
    group.ok(MigrationEntry::SourceBegin { spec: spec() });
    group.ok(done(10, 13, 3));
    let point = StreamPoint {
        through: 0x40,
        hash: StreamHash(0x41),
    };
    group.ok(MigrationEntry::Checkpoint { plan: PLAN, point });
    group.ok(MigrationEntry::Freeze { plan: PLAN });
    let golden = [
        &[1u8][..],
        &2u64.to_be_bytes(),
        &[1],
        &0x40u64.to_be_bytes(),
        &0x41u128.to_be_bytes(),
        &[1],
        &5u64.to_be_bytes(),
        &1_005u64.to_be_bytes(),
        &5u32.to_be_bytes(),
    ];
    assert_eq!(group.rows[&RowKey::Head(PLAN)], golden.concat());
}

/// Another plan's outcome, so that every kind of row but the watermark shows.
fn begin_source_elsewhere() -> MigrationEntry {
    MigrationEntry::SourceAbort {
        plan: PlanId(1),
        reason: FailReason::LogLimit,
    }
}

#[test]
fn damaged_rows_are_refused() {
    let (group, _) = imported();
    let without = |key: RowKey| {
        let mut rows = group.rows.clone();
        rows.remove(&key).unwrap();
        MigrationState::from_rows(rows)
    };
    assert!(without(RowKey::Spec(PLAN)).is_err());
    assert!(without(RowKey::Head(PLAN)).is_err());
    assert!(without(RowKey::Chunk(PLAN, 0)).is_err());
    for key in group.rows.keys() {
        let value = &group.rows[key];
        for cut in 0..value.len() {
            let mut rows = group.rows.clone();
            rows.insert(*key, value.slice(..cut));
            assert!(
                MigrationState::from_rows(rows).is_err(),
                "{key:?} cut at {cut}"
            );
        }
        let mut rows = group.rows.clone();
        let newer = [&[2], &value[1..]].concat();
        rows.insert(*key, Bytes::from(newer));
        assert!(
            MigrationState::from_rows(rows).is_err(),
            "{key:?} of version 2"
        );
    }
}
