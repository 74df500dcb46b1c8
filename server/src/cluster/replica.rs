//! A group's replica as the Raft log sees it: the state machine behind apply.
//!
//! Effects become RocksDB writes as they are; steps of a move change the
//! migration state, the generation maps and the slot ownership, all in the
//! batch that carries the applied index. Apply reads nothing but the state:
//! an import's increments are put on what the import holds (its generations
//! are exempt from the compaction filter's expiry).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::gate::Gate;
use super::sink::{EFFECTS, STEP};
use crate::group::Group;
use crate::migration::{
    Applied, ApplyContext, IncrementRecords, MigrationEntry, MigrationState, PlanId, Refused, Row,
    RowKey, SlotRanges, StateChange,
};
use crate::raft::{ApplyError, CommittedEntry, RoleChange, StateMachine};
use crate::storage::generations::{DATABASES, DbGenerations, GenerationMap, NONE};
use crate::storage::{Log, Position, Store, SystemChanges};
use crate::txn::effects::Effects;
use crate::txn::overlay::{Overlay, State};

/// Prefix of the migration state's rows in the family `system`.
pub const MIGRATION_ROWS: &[u8] = b"move/";
/// Steps that a slow listener may fall behind by before it must look itself.
const NEWS: usize = 1024;

/// What an applied step did, for the drivers of the node.
#[derive(Clone, Debug)]
pub struct StepNews {
    pub plan: Option<PlanId>,
    pub index: u64,
    /// Why it had no effect, if so.
    pub refused: Option<Refused>,
    pub change: Option<StateChange>,
}

/// What drivers and commands may see of a replica.
pub struct ReplicaView {
    pub migration: Mutex<MigrationState>,
    pub gate: Arc<Gate>,
    pub news: broadcast::Sender<StepNews>,
    /// Index and log time of the last applied entry.
    pub applied: Mutex<ApplyContext>,
    /// The term in which this replica leads, 0 while it does not.
    pub term: Arc<AtomicU64>,
}

/// The state machine; owned by the replication loop.
pub struct Replica {
    store: Arc<Store>,
    group: Arc<Group>,
    view: Arc<ReplicaView>,
    flush: Arc<dyn Fn() + Send + Sync>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl ReplicaView {
    /// Loads the migration state from the store.
    pub fn load(store: &Store) -> anyhow::Result<Arc<ReplicaView>> {
        let mut rows = Vec::new();
        for (key, value) in store.system_rows(MIGRATION_ROWS)? {
            rows.push((RowKey::decode(key)?, value));
        }
        let migration = MigrationState::from_rows(rows)?;
        let gate = Arc::new(Gate::new(migration.ownership()));
        let position = store.position();
        let applied = ApplyContext {
            index: position.index,
            log_time: store.log_time(),
        };
        Ok(Arc::new(ReplicaView {
            migration: Mutex::new(migration),
            gate,
            news: broadcast::channel(NEWS).0,
            applied: Mutex::new(applied),
            term: Arc::new(AtomicU64::new(0)),
        }))
    }
}

impl Replica {
    /// `flush` is called when the log has grown too long; it must not block.
    pub fn new(
        group: Arc<Group>,
        view: Arc<ReplicaView>,
        flush: Arc<dyn Fn() + Send + Sync>,
    ) -> Replica {
        Replica {
            store: group.store.clone(),
            group,
            view,
            flush,
        }
    }

    fn apply_one(&self, entry: &mut CommittedEntry) -> Result<(), BoxError> {
        let position = Position {
            index: entry.index,
            term: entry.term,
        };
        match entry.data.first() {
            None => self
                .store
                .apply(&Effects::default(), position, Log::External, true)?,
            Some(&EFFECTS) => {
                let effects = match entry.local.take().map(|l| l.downcast::<Arc<Effects>>()) {
                    Some(Ok(effects)) => *effects,
                    _ => Arc::new(Effects::decode(
                        &entry.data.slice(1..),
                        &self.store.maps(),
                        None,
                    )?),
                };
                self.store.apply(&effects, position, Log::External, true)?;
            }
            Some(&STEP) => self.apply_step(&entry.data, position)?,
            Some(kind) => return Err(format!("unknown kind of entry: {kind}").into()),
        }
        *self.view.applied.lock() = ApplyContext {
            index: entry.index,
            log_time: self.store.log_time(),
        };
        Ok(())
    }

    fn apply_step(&self, data: &Bytes, position: Position) -> Result<(), BoxError> {
        let log_time = data.get(1..9).ok_or("a step of a move is cut short")?;
        let log_time = u64::from_be_bytes(log_time.try_into().expect("eight bytes"));
        let step = MigrationEntry::decode(data.slice(9..))?;
        let at = ApplyContext {
            index: position.index,
            log_time,
        };
        let mut migration = self.view.migration.lock();
        let outcome = migration.apply(&step, at);
        let mut news = StepNews {
            plan: step.plan(),
            index: position.index,
            refused: None,
            change: None,
        };
        match outcome {
            Err(refused) => {
                let nothing = Effects {
                    log_time,
                    ..Effects::default()
                };
                self.store.apply(&nothing, position, Log::External, true)?;
                // A FREEZE is published when it is proposed: take that back.
                if matches!(step, MigrationEntry::Freeze { .. }) {
                    self.view.gate.publish_all(migration.ownership());
                }
                news.refused = Some(refused);
            }
            Ok(applied) => {
                self.write_step(&step, &applied, log_time, position)?;
                if changes_owner(&applied.change) {
                    // Before anything is evaluated on what is owned now.
                    self.group.events.moved("slots have moved");
                }
                publish(&self.view.gate, &migration, &applied.change);
                news.change = Some(applied.change);
            }
        }
        drop(migration);
        *self.view.applied.lock() = ApplyContext {
            index: position.index,
            log_time: self.store.log_time(),
        };
        // Nobody may be listening: drivers start and end with plans.
        let _ = self.view.news.send(news);
        Ok(())
    }

    fn write_step(
        &self,
        step: &MigrationEntry,
        applied: &Applied,
        log_time: u64,
        position: Position,
    ) -> Result<(), BoxError> {
        let mut map = (*self.store.maps()).clone();
        let (mut effects, floor) = self.step_effects(step, &applied.change, &mut map)?;
        effects.log_time = log_time.max(floor);
        self.group.observe_log_time(effects.log_time);
        let changes = SystemChanges {
            map: (map != *self.store.maps()).then_some(map),
            rows: applied.rows.iter().map(system_row).collect(),
        };
        // Map changes are in `changes.map` already.
        effects.maps.clear();
        self.store
            .apply_with(&effects, changes, position, Log::External, true)?;
        Ok(())
    }

    /// Rows that ride in the step, and the change of the maps. With them the
    /// least log time that the group may have from now on.
    fn step_effects(
        &self,
        step: &MigrationEntry,
        change: &StateChange,
        map: &mut GenerationMap,
    ) -> Result<(Effects, u64), BoxError> {
        match change {
            StateChange::Assigned { slots } => assign(map, slots),
            StateChange::Released { spec } => {
                for db in 0..DATABASES {
                    map.live.set(db, spec.slots.iter(), NONE);
                }
            }
            StateChange::ImportBegun { spec } => {
                let import = fresh(map, &spec.slots);
                map.imports.push((spec.plan.0, import));
            }
            StateChange::ImportReset { spec, first } => {
                let generations: Vec<_> = (0..DATABASES).map(|_| map.allocate()).collect();
                if let Some(import) = map.import_mut(spec.plan.0) {
                    for (db, generation) in generations.into_iter().enumerate() {
                        let again = spec.slots.iter().filter(|slot| slot >= first);
                        import.set(db, again, generation);
                    }
                }
            }
            StateChange::ImportDropped { spec } => {
                map.imports.retain(|(plan, _)| *plan != spec.plan.0);
            }
            StateChange::Owned { spec, .. } => own(map, spec.plan, &spec.slots),
            StateChange::ImportRows { spec } => {
                let MigrationEntry::ChunkPart { rows, .. } = step else {
                    return Err("rows come with a chunk's part".into());
                };
                return Ok((Effects::decode_onto(rows, map, Some(spec.plan.0))?, 0));
            }
            StateChange::ImportEffects { spec } => {
                let MigrationEntry::IncrementApplied { effects, .. } = step else {
                    return Err("effects come with an increment".into());
                };
                return Ok((increment(&self.store, effects, spec.plan, map)?, 0));
            }
            StateChange::LogTimeFloor { log_time } => return Ok((Effects::default(), *log_time)),
            StateChange::Recorded
            | StateChange::SourceBegun { .. }
            | StateChange::Frozen { .. }
            | StateChange::Unfrozen { .. } => {}
        }
        Ok((Effects::default(), 0))
    }
}

/// Puts the source's effects on what the import holds.
fn increment(
    store: &Store,
    effects: &Bytes,
    plan: PlanId,
    map: &mut GenerationMap,
) -> Result<Effects, BoxError> {
    let mut overlay = Overlay::of_evaluated(map.clone(), store.next_version());
    for record in IncrementRecords::new(effects.clone()) {
        let (_, entry) = record?;
        let effects = Effects::decode_onto(&entry, map, Some(plan.0))?;
        // Above every version that came from there: the filter judges only rows
        // below the counter, and of these some will be garbage one day.
        overlay.next_version = overlay.next_version.max(effects.next_version);
        for meta in effects.metas {
            if overlay.get(&meta.key).is_none() {
                overlay.load(&meta.key, store.record(&meta.key, true)?);
            }
            let state = meta.record.map_or(State::Deleted, State::Put);
            overlay.set(&meta.key, state);
        }
        overlay.put_rows(effects.rows);
        // Rows of the source's expiry index stand for records that its
        // filter dropped; they never came here.
    }
    let mut effects = overlay.finish(0);
    // What a FLUSHDB within the batch left behind is in no map any more.
    effects
        .metas
        .retain(|m| map.names(m.key.slot(), m.key.generation()));
    Ok(effects)
}

/// Generations for `slots` in every database, of an import or an assignment.
fn fresh(map: &mut GenerationMap, slots: &SlotRanges) -> DbGenerations {
    let mut dbs = DbGenerations::none();
    for db in 0..DATABASES {
        let generation = map.allocate();
        dbs.set(db, slots.iter(), generation);
    }
    dbs
}

fn assign(map: &mut GenerationMap, slots: &SlotRanges) {
    for db in 0..DATABASES {
        let generation = map.allocate();
        map.live.set(db, slots.iter(), generation);
    }
}

/// The import's generations become the live ones.
fn own(map: &mut GenerationMap, plan: PlanId, slots: &SlotRanges) {
    let Some(at) = map.imports.iter().position(|(id, _)| *id == plan.0) else {
        return;
    };
    let (_, import) = map.imports.remove(at);
    for db in 0..DATABASES {
        for (first, last, generation) in import.runs(db) {
            let run = (first..=last).filter(|slot| slots.contains(*slot));
            map.live.set(db, run, generation);
        }
    }
}

fn system_row(row: &Row) -> (Vec<u8>, Option<Bytes>) {
    let key = [MIGRATION_ROWS, &row.key.encode()].concat();
    (key, row.value.clone())
}

/// Whether the group serves other slots than before.
fn changes_owner(change: &StateChange) -> bool {
    matches!(
        change,
        StateChange::Assigned { .. } | StateChange::Released { .. } | StateChange::Owned { .. }
    )
}

fn publish(gate: &Gate, migration: &MigrationState, change: &StateChange) {
    match change {
        StateChange::Assigned { slots } => gate.publish(migration.ownership(), slots),
        StateChange::Frozen { spec }
        | StateChange::Unfrozen { spec }
        | StateChange::Released { spec }
        | StateChange::ImportBegun { spec }
        | StateChange::Owned { spec, .. }
        | StateChange::ImportDropped { spec } => gate.publish(migration.ownership(), &spec.slots),
        _ => {}
    }
}

impl StateMachine for Replica {
    fn apply(&mut self, batch: &mut [CommittedEntry]) -> Result<(), ApplyError> {
        for entry in batch {
            let index = entry.index;
            self.apply_one(entry)
                .map_err(|source| ApplyError { index, source })?;
        }
        Ok(())
    }

    fn applied_index(&self) -> u64 {
        self.store.position().index
    }

    fn durable_applied_index(&self) -> u64 {
        let durable = self.store.durable_index().unwrap_or_else(|error| {
            tracing::error!(group = self.group.id, %error, "the durable position cannot be read");
            0
        });
        // The log that a move still needs is held on every replica.
        let needed = self.view.migration.lock().log_needed_after();
        durable.min(needed.unwrap_or(u64::MAX))
    }

    fn on_role(&mut self, change: RoleChange) {
        let leads = change.ready_to_evaluate;
        let term = if leads { change.term } else { 0 };
        // A FREEZE whose term was lost is not in the state: what the state
        // says holds before anything is evaluated.
        self.view
            .gate
            .publish_all(self.view.migration.lock().ownership());
        self.view.term.store(term, Ordering::Release);
        self.group.events.moved("a group has another leader");
        self.group.set_ready(leads);
    }

    fn on_log_pressure(&mut self, bytes: u64) {
        tracing::debug!(
            group = self.group.id,
            bytes,
            "flushing, the log has grown long"
        );
        (self.flush)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::IncrementBatch;
    use crate::storage::{MemoryPlan, Resources};

    /// Regression: see `versions_that_come_with_a_chunk_are_below_the_counter_afterwards`.
    #[test]
    fn the_counter_of_versions_follows_the_increments() {
        let dir = tempfile::tempdir().unwrap();
        let resources = Resources::new(MemoryPlan::divide(64 << 20), 2);
        let store = Store::open(dir.path(), &resources, true, GenerationMap::empty()).unwrap();
        let source = Effects {
            next_version: 90,
            ..Effects::default()
        };
        let mut batch = IncrementBatch::default();
        batch.push(1, &source.encode(&DbGenerations::none()));
        let mut map = (*store.maps()).clone();
        let effects = increment(&store, &batch.finish(), PlanId(1), &mut map).unwrap();
        assert_eq!(effects.next_version, 90);
    }
}
