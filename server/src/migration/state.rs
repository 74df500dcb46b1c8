//! The migration state of one group: replicated, changed only by entries.
//!
//! Owned by the group's apply path. Apply is deterministic: it reads the
//! entry, its index and its log time, nothing else.
//! Invariants:
//! - a refused entry changes nothing, and the rows or effects that ride in it
//!   are dropped with it;
//! - a plan that is over is remembered, so that no late message revives it;
//! - a slot epoch never falls.
//!
//! FREEZE and the evaluator: commands evaluated after a FREEZE was *proposed*
//! would follow it in the log. So the writer treats the slots as frozen from
//! the moment it proposes FREEZE ([`super::OwnershipView::publish_frozen`]),
//! and takes that back only when the proposal is known to be refused.

use super::MigrationEntry;
use super::codec::{DecodeError, Put, Take};
use super::ownership::{SlotOwnership, SlotStatus, Verdict};
use super::plan::{ChunkRecord, FailReason, FreezePoint, PlanId, PlanSpec};
use super::plan_state::{DestPlan, ReadyPoint, SourcePlan};
use super::rows::{Row, RowKey, open};
use super::slots::SlotRanges;
use super::wire::{DestPhase, DestStatus};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

/// Finished plans that a group remembers by name.
const FINISHED_KEPT: usize = 256;

/// How a plan ended in one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Source: the slots are the destination's.
    Released {
        pause_ms: u64,
    },
    /// Destination: the slots are served here.
    Owned {
        epoch: u32,
    },
    Aborted {
        reason: FailReason,
    },
}

/// What a group knows of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known<P> {
    /// Never heard of.
    Unknown,
    Active(P),
    Over(Outcome),
    /// Over, and so long ago that the outcome is not kept.
    Forgotten,
}

/// What the source driver may know: a copy of the replicated state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceView {
    /// Log index and log time at which this was true.
    pub applied: u64,
    pub log_time: u64,
    pub plan: Known<SourcePlan>,
}

/// What the destination driver may know: a copy of the replicated state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestView {
    pub applied: u64,
    pub plan: Known<DestPlan>,
}

/// Where an entry is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyContext {
    pub index: u64,
    /// The entry's log time in ms.
    pub log_time: u64,
}

/// What storage has to do in the same write batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// Only the rows.
    Recorded,
    /// Publish `slots`.
    Assigned { slots: SlotRanges },
    /// Hold the log (`MigrationState::log_needed_after`).
    SourceBegun { spec: Arc<PlanSpec> },
    /// Publish the slots: frozen.
    Frozen { spec: Arc<PlanSpec> },
    /// Publish the slots: served again, under their old epochs.
    Unfrozen { spec: Arc<PlanSpec> },
    /// Publish the slots as not owned, then take their generations out of
    /// the live map.
    Released { spec: Arc<PlanSpec> },
    /// Make an import map for the plan; publish the slots.
    ImportBegun { spec: Arc<PlanSpec> },
    /// Take the plan's slots from `first` on out of the import map: what was
    /// staged for them belongs to an unfinished attempt.
    ImportReset { spec: Arc<PlanSpec>, first: u16 },
    /// Write the rows that ride in the entry under the import's generations.
    ImportRows { spec: Arc<PlanSpec> },
    /// Apply the effects that ride in the entry to the import's map.
    ImportEffects { spec: Arc<PlanSpec> },
    /// The group's log time is at least this from now on.
    LogTimeFloor { log_time: u64 },
    /// Make the import map's generations the live ones, then publish.
    Owned { spec: Arc<PlanSpec>, epoch: u32 },
    /// Drop the import map; publish the slots.
    ImportDropped { spec: Arc<PlanSpec> },
}

/// The result of an entry that had an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub change: StateChange,
    /// Rows of `system` to write in the same batch.
    pub rows: Vec<Row>,
}

/// Why an entry had no effect. Deterministic; never an error of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("the plan is not known here")]
    UnknownPlan,
    #[error("the plan is over")]
    Over,
    #[error("the plan has no slots or one group on both sides")]
    Nothing,
    #[error("the slots are not served here, or are part of another plan")]
    SlotsTaken,
    #[error("the group already took part in a slot assignment")]
    NotFirst,
    #[error("the plan is not in a phase for this")]
    WrongPhase,
    #[error("this was done before")]
    Repeated,
    #[error("something before this is missing")]
    OutOfOrder,
    #[error("another attempt at the chunk is under way")]
    OtherAttempt,
    #[error("a later term of the source has begun a chunk")]
    OldTerm,
    #[error("the digest or hash differs")]
    Mismatch,
    #[error("the slot epoch is not above the known one")]
    EpochTooLow,
}

/// All plans and the slot ownership of one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MigrationState {
    ownership: SlotOwnership,
    sources: BTreeMap<PlanId, SourcePlan>,
    dests: BTreeMap<PlanId, DestPlan>,
    finished: BTreeMap<PlanId, Outcome>,
    /// Plans up to this one that are neither active nor in `finished` are over.
    watermark: PlanId,
}

impl MigrationState {
    /// A standalone server's state: all slots, no plans, nothing to store.
    pub fn standalone() -> Self {
        Self {
            ownership: SlotOwnership::all_serving(),
            ..Self::default()
        }
    }

    pub fn ownership(&self) -> &SlotOwnership {
        &self.ownership
    }

    pub fn can_serve(&self, slot: u16) -> Verdict {
        self.ownership.can_serve(slot)
    }

    /// Plans in which this group is an active source or destination; a new
    /// leader builds one driver for each.
    pub fn active_plans(&self) -> (Vec<Arc<PlanSpec>>, Vec<Arc<PlanSpec>>) {
        let sources = self.sources.values().map(|plan| Arc::clone(&plan.spec));
        let dests = self.dests.values().map(|plan| Arc::clone(&plan.spec));
        (sources.collect(), dests.collect())
    }

    /// The active plan that moves `slot` away from here.
    pub fn source_of(&self, slot: u16) -> Option<&SourcePlan> {
        let moves = |plan: &&SourcePlan| plan.spec.slots.contains(slot);
        self.sources.values().find(moves)
    }

    pub fn source(&self, plan: PlanId) -> Option<&SourcePlan> {
        self.sources.get(&plan)
    }

    pub fn dest(&self, plan: PlanId) -> Option<&DestPlan> {
        self.dests.get(&plan)
    }

    /// No replica may cut its log at or below the entry after this index;
    /// `None` while no plan needs log.
    pub fn log_needed_after(&self) -> Option<u64> {
        let needed = self.sources.values().map(SourcePlan::log_needed_after);
        needed.min()
    }

    fn over<P>(&self, plan: PlanId) -> Known<P> {
        match self.finished.get(&plan) {
            Some(outcome) => Known::Over(*outcome),
            None if plan <= self.watermark => Known::Forgotten,
            None => Known::Unknown,
        }
    }

    /// The source driver's input after each entry of its plan.
    pub fn source_view(&self, plan: PlanId, at: ApplyContext) -> SourceView {
        let active = self.sources.get(&plan).cloned().map(Known::Active);
        SourceView {
            applied: at.index,
            log_time: at.log_time,
            plan: active.unwrap_or_else(|| self.over(plan)),
        }
    }

    /// The destination driver's input after each entry of its plan.
    pub fn dest_view(&self, plan: PlanId, at: ApplyContext) -> DestView {
        let active = self.dests.get(&plan).cloned().map(Known::Active);
        DestView {
            applied: at.index,
            plan: active.unwrap_or_else(|| self.over(plan)),
        }
    }

    /// Applies one committed entry.
    pub fn apply(&mut self, entry: &MigrationEntry, at: ApplyContext) -> Result<Applied, Refused> {
        match entry {
            MigrationEntry::Assign { slots, epoch } => self.assign(slots, *epoch),
            MigrationEntry::SourceBegin { spec } => self.source_begin(spec, at),
            MigrationEntry::ChunkDone { plan, chunk } => self.chunk_done(*plan, *chunk),
            MigrationEntry::Checkpoint { plan, point } => {
                self.source_mut(*plan)?.check_point(*point)?;
                Ok(self.recorded(*plan))
            }
            MigrationEntry::Freeze { plan } => self.freeze(*plan, at),
            MigrationEntry::Release { plan, pause_ms } => self.release(*plan, *pause_ms),
            MigrationEntry::SourceAbort { plan, reason } => self.source_abort(*plan, *reason),
            MigrationEntry::DestBegin { spec } => self.dest_begin(spec),
            MigrationEntry::Own { plan, epoch } => self.own(*plan, *epoch),
            MigrationEntry::DestAbort { plan, reason } => self.dest_abort(*plan, *reason),
            _ => self.import(entry),
        }
    }

    fn import(&mut self, entry: &MigrationEntry) -> Result<Applied, Refused> {
        let id = entry.plan().expect("only an assignment has no plan");
        let plan = self.dest_mut(id)?;
        let spec = Arc::clone(&plan.spec);
        let change = match entry {
            MigrationEntry::ChunkBegin {
                term,
                attempt,
                first,
                ..
            } => {
                plan.chunk_begin(*term, *attempt, *first)?;
                StateChange::ImportReset {
                    spec,
                    first: *first,
                }
            }
            MigrationEntry::ChunkPart { attempt, part, .. } => {
                plan.chunk_part(*attempt, *part)?;
                StateChange::ImportRows { spec }
            }
            MigrationEntry::ChunkLanded {
                attempt,
                parts,
                chunk,
                ..
            } => {
                plan.chunk_landed(*attempt, *parts, *chunk)?;
                StateChange::Recorded
            }
            MigrationEntry::IncrementApplied {
                after,
                point,
                effects,
                ..
            } => {
                plan.increment(*after, *point, effects)?;
                StateChange::ImportEffects { spec }
            }
            MigrationEntry::Ready { .. } => self.ready(entry)?,
            _ => unreachable!("apply has handled every other kind"),
        };
        let mut rows = vec![self.head_row(id)];
        if let MigrationEntry::ChunkLanded { chunk, .. } = entry {
            rows.push(chunk_row(id, self.dests[&id].chunks.len() - 1, chunk));
        }
        Ok(Applied { change, rows })
    }

    fn ready(&mut self, entry: &MigrationEntry) -> Result<StateChange, Refused> {
        let MigrationEntry::Ready {
            plan,
            freeze,
            chunks,
            log_time,
            epoch,
        } = entry
        else {
            unreachable!("import passes only READY");
        };
        let slots = &self.dest_mut(*plan)?.spec.clone().slots;
        if *epoch <= self.ownership.max_epoch(slots) {
            return Err(Refused::EpochTooLow);
        }
        let point = ReadyPoint {
            freeze: *freeze,
            log_time: *log_time,
            epoch: *epoch,
        };
        self.dest_mut(*plan)?.make_ready(point, *chunks)?;
        Ok(StateChange::LogTimeFloor {
            log_time: *log_time,
        })
    }

    fn assign(&mut self, slots: &SlotRanges, epoch: u32) -> Result<Applied, Refused> {
        if slots.is_empty() || epoch == 0 {
            return Err(Refused::Nothing);
        }
        if !self.ownership.is_untouched() || !self.finished.is_empty() {
            return Err(Refused::NotFirst);
        }
        self.ownership.set(slots, SlotStatus::Serving, Some(epoch));
        Ok(Applied {
            change: StateChange::Assigned {
                slots: slots.clone(),
            },
            rows: vec![self.ownership_row()],
        })
    }

    fn source_begin(&mut self, spec: &PlanSpec, at: ApplyContext) -> Result<Applied, Refused> {
        self.may_begin(spec)?;
        let moving = self.sources.values();
        let overlap = moving
            .into_iter()
            .any(|plan| plan.spec.slots.overlaps(&spec.slots));
        if overlap || !self.ownership.all_are(&spec.slots, SlotStatus::Serving) {
            return Err(Refused::SlotsTaken);
        }
        let spec = Arc::new(spec.clone());
        let plan = SourcePlan::new(Arc::clone(&spec), at.index);
        self.sources.insert(spec.plan, plan);
        let rows = vec![spec_row(&spec, Role::Source), self.head_row(spec.plan)];
        Ok(Applied {
            change: StateChange::SourceBegun { spec },
            rows,
        })
    }

    fn dest_begin(&mut self, spec: &PlanSpec) -> Result<Applied, Refused> {
        self.may_begin(spec)?;
        if !self.ownership.all_are(&spec.slots, SlotStatus::NotOwned) {
            return Err(Refused::SlotsTaken);
        }
        let spec = Arc::new(spec.clone());
        self.ownership.set(&spec.slots, SlotStatus::Importing, None);
        self.dests
            .insert(spec.plan, DestPlan::new(Arc::clone(&spec)));
        let rows = vec![
            spec_row(&spec, Role::Dest),
            self.head_row(spec.plan),
            self.ownership_row(),
        ];
        Ok(Applied {
            change: StateChange::ImportBegun { spec },
            rows,
        })
    }

    fn may_begin(&self, spec: &PlanSpec) -> Result<(), Refused> {
        if spec.slots.is_empty() || spec.from == spec.to {
            return Err(Refused::Nothing);
        }
        if self.sources.contains_key(&spec.plan) || self.dests.contains_key(&spec.plan) {
            return Err(Refused::Repeated);
        }
        match self.over::<()>(spec.plan) {
            Known::Unknown => Ok(()),
            _ => Err(Refused::Over),
        }
    }

    fn chunk_done(&mut self, id: PlanId, chunk: ChunkRecord) -> Result<Applied, Refused> {
        let plan = self.source_mut(id)?;
        plan.chunk_done(chunk)?;
        let number = plan.chunks.len() - 1;
        Ok(Applied {
            change: StateChange::Recorded,
            rows: vec![chunk_row(id, number, &chunk)],
        })
    }

    fn freeze(&mut self, id: PlanId, at: ApplyContext) -> Result<Applied, Refused> {
        let spec = Arc::clone(&self.source_mut(id)?.spec);
        let highest = self.ownership.max_epoch(&spec.slots);
        let point = FreezePoint {
            index: at.index,
            log_time: at.log_time,
            epoch: highest.checked_add(1).ok_or(Refused::EpochTooLow)?,
        };
        self.source_mut(id)?.freeze(point)?;
        self.ownership.set(&spec.slots, SlotStatus::Frozen, None);
        let rows = vec![self.head_row(id), self.ownership_row()];
        Ok(Applied {
            change: StateChange::Frozen { spec },
            rows,
        })
    }

    fn release(&mut self, id: PlanId, pause_ms: u64) -> Result<Applied, Refused> {
        let plan = self.source_mut(id)?;
        let epoch = plan.frozen.ok_or(Refused::WrongPhase)?.epoch;
        let spec = Arc::clone(&plan.spec);
        self.ownership
            .set(&spec.slots, SlotStatus::NotOwned, Some(epoch));
        let rows = self.finish(id, Outcome::Released { pause_ms });
        Ok(Applied {
            change: StateChange::Released { spec },
            rows,
        })
    }

    fn source_abort(&mut self, id: PlanId, reason: FailReason) -> Result<Applied, Refused> {
        let outcome = Outcome::Aborted { reason };
        let Ok(plan) = self.source_mut(id) else {
            return self.abort_unbegun(id, outcome);
        };
        let (spec, frozen) = (Arc::clone(&plan.spec), plan.frozen.is_some());
        if frozen {
            self.ownership.set(&spec.slots, SlotStatus::Serving, None);
        }
        let change = match frozen {
            true => StateChange::Unfrozen { spec },
            false => StateChange::Recorded,
        };
        let rows = self.finish(id, outcome);
        Ok(Applied { change, rows })
    }

    fn own(&mut self, id: PlanId, epoch: u32) -> Result<Applied, Refused> {
        let plan = self.dest_mut(id)?;
        let spec = Arc::clone(&plan.spec);
        if plan.ready.is_none_or(|ready| ready.epoch != epoch) {
            return Err(Refused::WrongPhase);
        }
        self.ownership
            .set(&spec.slots, SlotStatus::Serving, Some(epoch));
        let rows = self.finish(id, Outcome::Owned { epoch });
        Ok(Applied {
            change: StateChange::Owned { spec, epoch },
            rows,
        })
    }

    fn dest_abort(&mut self, id: PlanId, reason: FailReason) -> Result<Applied, Refused> {
        let outcome = Outcome::Aborted { reason };
        let Ok(plan) = self.dest_mut(id) else {
            return self.abort_unbegun(id, outcome);
        };
        let spec = Arc::clone(&plan.spec);
        self.ownership.set(&spec.slots, SlotStatus::NotOwned, None);
        let rows = self.finish(id, outcome);
        Ok(Applied {
            change: StateChange::ImportDropped { spec },
            rows,
        })
    }

    /// Remembers the abort of a plan that never began here, so that a late
    /// message cannot begin it.
    fn abort_unbegun(&mut self, id: PlanId, outcome: Outcome) -> Result<Applied, Refused> {
        match self.over::<()>(id) {
            Known::Unknown => Ok(Applied {
                change: StateChange::Recorded,
                rows: self.remember(id, outcome),
            }),
            _ => Err(Refused::Over),
        }
    }

    /// Forgets the plan's details and remembers how it ended.
    fn finish(&mut self, id: PlanId, outcome: Outcome) -> Vec<Row> {
        let source = self.sources.remove(&id).map(|plan| plan.chunks);
        let dest = self.dests.remove(&id).map(|plan| plan.chunks);
        let chunks = source.or(dest).map_or(0, |chunks| chunks.len());
        let mut rows = vec![
            self.ownership_row(),
            Row::delete(RowKey::Spec(id)),
            Row::delete(RowKey::Head(id)),
        ];
        rows.extend((0..chunks).map(|number| Row::delete(chunk_key(id, number))));
        rows.extend(self.remember(id, outcome));
        rows
    }

    fn remember(&mut self, id: PlanId, outcome: Outcome) -> Vec<Row> {
        self.finished.insert(id, outcome);
        let mut rows = vec![Row::put(RowKey::Finished(id), |out| outcome.encode(out))];
        while self.finished.len() > FINISHED_KEPT {
            let (oldest, _) = self.finished.pop_first().expect("more than none are kept");
            self.watermark = self.watermark.max(oldest);
            rows.push(Row::delete(RowKey::Finished(oldest)));
            rows.push(Row::put(RowKey::Watermark, |out| {
                out.put_u64(self.watermark.0);
            }));
        }
        rows
    }

    fn source_mut(&mut self, plan: PlanId) -> Result<&mut SourcePlan, Refused> {
        let missing = self.missing(plan);
        self.sources.get_mut(&plan).ok_or(missing)
    }

    fn dest_mut(&mut self, plan: PlanId) -> Result<&mut DestPlan, Refused> {
        let missing = self.missing(plan);
        self.dests.get_mut(&plan).ok_or(missing)
    }

    fn missing(&self, plan: PlanId) -> Refused {
        match self.over::<()>(plan) {
            Known::Unknown => Refused::UnknownPlan,
            _ => Refused::Over,
        }
    }

    fn recorded(&self, plan: PlanId) -> Applied {
        Applied {
            change: StateChange::Recorded,
            rows: vec![self.head_row(plan)],
        }
    }

    fn ownership_row(&self) -> Row {
        Row::put(RowKey::Ownership, |out| self.ownership.encode(out))
    }

    fn head_row(&self, plan: PlanId) -> Row {
        Row::put(RowKey::Head(plan), |out| {
            match (self.sources.get(&plan), self.dests.get(&plan)) {
                (Some(source), _) => source.encode_head(out),
                (None, Some(dest)) => dest.encode_head(out),
                (None, None) => unreachable!("a head is written only while its plan is active"),
            }
        })
    }

    /// Every row that a snapshot of this state consists of.
    pub fn all_rows(&self) -> Vec<Row> {
        let mut rows = vec![self.ownership_row()];
        let sources = self.sources.values();
        let dests = self.dests.values();
        let sources = sources.map(|plan| (&plan.spec, &plan.chunks, Role::Source));
        let dests = dests.map(|plan| (&plan.spec, &plan.chunks, Role::Dest));
        for (spec, chunks, role) in sources.chain(dests) {
            rows.push(spec_row(spec, role));
            rows.push(self.head_row(spec.plan));
            let numbered = chunks.iter().enumerate();
            rows.extend(numbered.map(|(number, chunk)| chunk_row(spec.plan, number, chunk)));
        }
        for (&plan, outcome) in &self.finished {
            rows.push(Row::put(RowKey::Finished(plan), |out| outcome.encode(out)));
        }
        if self.watermark != PlanId::default() {
            rows.push(Row::put(RowKey::Watermark, |out| {
                out.put_u64(self.watermark.0);
            }));
        }
        rows
    }

    /// The state that stored rows describe; a missing or damaged row is an
    /// error, never a guess. No rows at all is the state of a new group.
    pub fn from_rows(rows: impl IntoIterator<Item = (RowKey, Bytes)>) -> Result<Self, DecodeError> {
        let mut state = Self::default();
        let mut parts: BTreeMap<PlanId, PlanRows> = BTreeMap::new();
        for (key, value) in rows {
            let mut from = open(value)?;
            match key {
                RowKey::Ownership => state.ownership = SlotOwnership::decode(&mut from)?,
                RowKey::Watermark => state.watermark = PlanId(from.u64()?),
                RowKey::Finished(plan) => {
                    state.finished.insert(plan, Outcome::decode(&mut from)?);
                }
                RowKey::Spec(plan) => {
                    let role = Role::from_number(from.u8()?)?;
                    let spec = PlanSpec::decode(&mut from)?;
                    parts.entry(plan).or_default().spec = Some((role, spec));
                }
                RowKey::Head(plan) => {
                    parts.entry(plan).or_default().head = Some(from);
                    continue;
                }
                RowKey::Chunk(plan, number) => {
                    let chunk = ChunkRecord::decode(&mut from)?;
                    parts.entry(plan).or_default().chunks.insert(number, chunk);
                }
            }
            from.finish()?;
        }
        parts
            .into_values()
            .try_for_each(|rows| state.add_plan(rows))?;
        Ok(state)
    }

    fn add_plan(&mut self, rows: PlanRows) -> Result<(), DecodeError> {
        let (role, spec) = rows.spec.ok_or(DecodeError::Invalid("plan without spec"))?;
        let mut head = rows.head.ok_or(DecodeError::Invalid("plan without head"))?;
        if rows.chunks.keys().copied().ne(0..rows.chunks.len() as u32) {
            return Err(DecodeError::Invalid("chunk numbers"));
        }
        let (spec, chunks) = (Arc::new(spec), rows.chunks.into_values().collect());
        match role {
            Role::Source => {
                let plan = SourcePlan::decode_head(Arc::clone(&spec), chunks, &mut head)?;
                self.sources.insert(spec.plan, plan);
            }
            Role::Dest => {
                let plan = DestPlan::decode_head(Arc::clone(&spec), chunks, &mut head)?;
                self.dests.insert(spec.plan, plan);
            }
        }
        head.finish()
    }
}

/// The rows of one active plan while they are being collected.
#[derive(Default)]
struct PlanRows {
    spec: Option<(Role, PlanSpec)>,
    head: Option<Take>,
    chunks: BTreeMap<u32, ChunkRecord>,
}

/// Which side a group is on. Stored: never change a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Role {
    Source = 1,
    Dest = 2,
}

impl Role {
    fn from_number(number: u8) -> Result<Self, DecodeError> {
        match number {
            1 => Ok(Self::Source),
            2 => Ok(Self::Dest),
            other => Err(DecodeError::Unknown {
                what: "migration role",
                number: u64::from(other),
            }),
        }
    }
}

/// `role u8 | spec`
fn spec_row(spec: &PlanSpec, role: Role) -> Row {
    Row::put(RowKey::Spec(spec.plan), |out| {
        out.put_u8(role as u8);
        spec.encode(out);
    })
}

fn chunk_key(plan: PlanId, number: usize) -> RowKey {
    let number = u32::try_from(number).expect("no more chunks than slots");
    RowKey::Chunk(plan, number)
}

fn chunk_row(plan: PlanId, number: usize, chunk: &ChunkRecord) -> Row {
    Row::put(chunk_key(plan, number), |out| chunk.encode(out))
}

impl Outcome {
    /// `1 | pause_ms u64`, `2 | epoch u32` or `3 | reason u8`
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Released { pause_ms } => {
                out.put_u8(1);
                out.put_u64(*pause_ms);
            }
            Self::Owned { epoch } => {
                out.put_u8(2);
                out.put_u32(*epoch);
            }
            Self::Aborted { reason } => {
                out.put_u8(3);
                out.put_u8(reason.number());
            }
        }
    }

    fn decode(from: &mut Take) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            1 => Self::Released {
                pause_ms: from.u64()?,
            },
            2 => Self::Owned { epoch: from.u32()? },
            3 => Self::Aborted {
                reason: FailReason::from_number(from.u8()?)?,
            },
            other => {
                return Err(DecodeError::Unknown {
                    what: "plan outcome",
                    number: u64::from(other),
                });
            }
        })
    }
}

impl DestView {
    /// The answer to the source at this point.
    pub fn status(&self, plan: PlanId, failure: Option<FailReason>) -> DestStatus {
        let mut status = DestStatus {
            plan,
            applied: self.applied,
            phase: DestPhase::Unknown,
            attempt: 0,
            parts: 0,
            chunks: 0,
            last_chunk: None,
            position: None,
            failure,
        };
        match &self.plan {
            Known::Unknown => {}
            Known::Forgotten => status.phase = DestPhase::Forgotten,
            Known::Over(Outcome::Owned { .. }) => status.phase = DestPhase::Owned,
            Known::Over(_) => status.phase = DestPhase::Aborted,
            Known::Active(active) => status.fill(active),
        }
        status
    }
}

impl DestStatus {
    fn fill(&mut self, plan: &DestPlan) {
        self.phase = match plan.ready {
            Some(_) => DestPhase::Ready,
            None => DestPhase::Importing,
        };
        self.attempt = plan.attempt.map_or(0, |attempt| attempt.id);
        self.parts = plan.attempt.map_or(0, |attempt| attempt.parts);
        self.chunks = u32::try_from(plan.chunks.len()).expect("no more chunks than slots");
        self.last_chunk = plan.chunks.last().copied();
        self.position = plan.position;
    }
}
