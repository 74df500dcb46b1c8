//! One group of the model world: a durable log, a map, an import map.

use super::collections::Evaluation;
use super::export::{Export, staged};
use super::filter::{Generations, View};
use super::model::{Effect, Family, Record, Rows, Version, of_slots};
use crate::migration::{
    Applied, ApplyContext, DestDriver, GroupId, IncrementBatch, IncrementRecords, MigrationEntry,
    MigrationState, PlanId, Refused, RowKey, SlotRanges, SourceDriver, SourceEvent, StateChange,
};
use bytes::Bytes;
use std::collections::BTreeMap;

#[derive(Clone)]
enum Body {
    Effects(Vec<Effect>),
    Step,
}

#[derive(Clone)]
struct LogRecord {
    body: Body,
}

/// What survives a crash.
#[derive(Clone, Default)]
struct Disk {
    log: Vec<LogRecord>,
    /// Entries up to this index were cut off.
    cut: u64,
    log_time: u64,
    /// The counter of versions, moved with the data.
    next_version: u64,
    generations: Generations,
    live: Rows,
    imports: BTreeMap<PlanId, Rows>,
    rows: BTreeMap<Vec<u8>, Bytes>,
}

pub(super) struct Group {
    pub(super) id: GroupId,
    disk: Disk,
    pub(super) down: bool,
    /// Counts restarts; what was local to an earlier run is gone.
    pub(super) run: u64,
    /// Of a deposed leader: the run in which it led.
    pub(super) old_run: u64,
    /// Cuts its log whatever plans need of it.
    pub(super) forgets_log: bool,
    pub(super) state: MigrationState,
    pub(super) sources: BTreeMap<PlanId, SourceDriver>,
    pub(super) dests: BTreeMap<PlanId, DestDriver>,
    pub(super) exports: BTreeMap<PlanId, Export>,
    /// What the compaction filter judges by.
    filter: Option<View>,
}

impl Group {
    pub(super) fn new(id: GroupId) -> Self {
        Self {
            id,
            disk: Disk::default(),
            down: false,
            run: 1,
            old_run: 0,
            forgets_log: false,
            state: MigrationState::default(),
            sources: BTreeMap::new(),
            dests: BTreeMap::new(),
            exports: BTreeMap::new(),
            filter: None,
        }
    }

    /// The leader of this group as it goes on after it was deposed.
    pub(super) fn deposed(&mut self, run: u64) -> Self {
        Self {
            id: self.id,
            disk: self.disk.clone(),
            down: false,
            run,
            old_run: self.run,
            forgets_log: self.forgets_log,
            state: self.state.clone(),
            sources: std::mem::take(&mut self.sources),
            dests: std::mem::take(&mut self.dests),
            exports: std::mem::take(&mut self.exports),
            filter: None,
        }
    }

    pub(super) fn crash(&mut self) {
        self.down = true;
        self.run += 1;
        self.sources.clear();
        self.dests.clear();
        self.exports.clear();
        self.filter = None;
    }

    /// Comes back with what the disk holds, and nothing else.
    pub(super) fn restart(&mut self) {
        let rows = self.disk.rows.iter().map(|(key, value)| {
            let key = RowKey::decode(Bytes::copy_from_slice(key)).unwrap();
            (key, value.clone())
        });
        let stored = MigrationState::from_rows(rows).unwrap();
        assert_eq!(stored, self.state, "the rows are not the state");
        self.state = stored;
        self.down = false;
    }

    pub(super) fn at(&self) -> ApplyContext {
        ApplyContext {
            index: self.disk.log.len() as u64,
            log_time: self.disk.log_time,
        }
    }

    pub(super) fn live(&self) -> &Rows {
        &self.disk.live
    }

    pub(super) fn imports(&self) -> usize {
        self.disk.imports.len()
    }

    fn append(&mut self, now: u64, body: Body) {
        self.disk.log_time = self.disk.log_time.max(now);
        self.disk.log.push(LogRecord { body });
    }

    /// For commands on keys of `slot`.
    pub(super) fn evaluation(&self, now: u64, slot: u16) -> Evaluation<'_> {
        let epoch = self.state.ownership().word(slot).epoch();
        Evaluation::new(&self.disk.live, now, epoch, self.disk.next_version)
    }

    /// A batch of a client's effects, in the log and applied.
    pub(super) fn write(&mut self, now: u64, effects: Vec<Effect>, next_version: u64) {
        for effect in &effects {
            effect.apply(&mut self.disk.live);
            match effect {
                Effect::Flush { slot, db } => self.disk.generations.renew(*slot, *db),
                Effect::Swap { slot } => self.disk.generations.swap(*slot),
                _ => {}
            }
        }
        self.disk.next_version = self.disk.next_version.max(next_version);
        self.append(now, Body::Effects(effects));
        self.cut_log();
    }

    /// A compaction by the view of the one before, of what the data and the exports
    /// hold of the slots that `picked` says.
    pub(super) fn compact(&mut self, picked: impl Fn(u16) -> bool) {
        let disk = &mut self.disk;
        if let Some(view) = self.filter.take() {
            let generations = &disk.generations;
            disk.live.retain(|place, value| {
                let generation = generations.get(place.slot, place.db);
                let generation = generation.expect("live rows are of a live generation");
                !picked(place.slot) || !view.is_garbage(place, value, generation)
            });
            for export in self.exports.values_mut() {
                export.compact(&view, &picked);
            }
        }
        self.filter = Some(View::pin(
            &disk.live,
            disk.log_time,
            disk.next_version,
            disk.generations.clone(),
        ));
    }

    /// What lies below no record that would be seen, of slots that are owned.
    pub(super) fn orphans(&self) -> Rows {
        let records = self.disk.live.iter();
        let records = records.filter(|(place, _)| place.family == Family::Meta);
        let named: Vec<(u16, Version)> = records
            .filter_map(|(place, value)| Some((place.slot, Record::decode(value).version()?)))
            .collect();
        let below = |family| matches!(family, Family::Data | Family::Score | Family::Payload);
        let rows = self.disk.live.iter().filter(|(place, _)| {
            below(place.family) && !named.contains(&(place.slot, Version::of_row(&place.key)))
        });
        rows.map(|(place, value)| (place.clone(), value.clone()))
            .collect()
    }

    /// A step of a plan, in the log and applied, in one write batch.
    pub(super) fn step(&mut self, now: u64, entry: &MigrationEntry) -> Result<Applied, Refused> {
        let stored = MigrationEntry::decode(entry.encode()).unwrap();
        self.append(now, Body::Step);
        let applied = self.state.apply(&stored, self.at())?;
        for row in &applied.rows {
            match &row.value {
                Some(value) => self.disk.rows.insert(row.key.encode(), value.clone()),
                None => self.disk.rows.remove(&row.key.encode()),
            };
        }
        self.store(&stored, &applied.change);
        self.cut_log();
        Ok(applied)
    }

    fn store(&mut self, entry: &MigrationEntry, change: &StateChange) {
        match (change, entry) {
            (StateChange::Assigned { slots }, _) => self.renew(slots),
            (StateChange::ImportBegun { spec }, _) => {
                self.disk.imports.insert(spec.plan, Rows::new());
            }
            (StateChange::ImportReset { spec, first }, _) => {
                let import = self.disk.imports.get_mut(&spec.plan).unwrap();
                import.retain(|place, _| place.slot < *first);
            }
            (StateChange::ImportRows { spec }, MigrationEntry::ChunkPart { rows, .. }) => {
                let import = self.disk.imports.get_mut(&spec.plan).unwrap();
                for row in Effect::decode_all(rows) {
                    self.disk.next_version = row.above_versions(self.disk.next_version);
                    row.apply(import);
                }
            }
            (
                StateChange::ImportEffects { spec },
                MigrationEntry::IncrementApplied { effects, .. },
            ) => {
                let import = self.disk.imports.get_mut(&spec.plan).unwrap();
                for record in IncrementRecords::new(effects.clone()) {
                    for effect in Effect::decode_all(&record.unwrap().1) {
                        // Index rows of the source stand for records that
                        // its filter dropped; they never came here.
                        self.disk.next_version = effect.above_versions(self.disk.next_version);
                        if !matches!(effect, Effect::DropExpiry(_)) {
                            effect.apply(import);
                        }
                    }
                }
            }
            (StateChange::LogTimeFloor { log_time }, _) => {
                self.disk.log_time = self.disk.log_time.max(*log_time);
            }
            (StateChange::Owned { spec, .. }, _) => {
                let stale = of_slots(&self.disk.live, |slot| spec.slots.contains(slot));
                assert!(stale.is_empty(), "orphans under the slots: {stale:?}");
                let import = self.disk.imports.remove(&spec.plan).unwrap();
                self.disk.live.extend(import);
                self.renew(&spec.slots);
            }
            (StateChange::Released { spec }, _) => {
                self.disk
                    .live
                    .retain(|place, _| !spec.slots.contains(place.slot));
                for slot in spec.slots.iter() {
                    self.disk.generations.release(slot);
                }
            }
            (StateChange::ImportDropped { spec }, _) => {
                self.disk.imports.remove(&spec.plan).unwrap();
            }
            _ => {}
        }
    }

    fn renew(&mut self, slots: &SlotRanges) {
        for slot in slots.iter() {
            self.disk.generations.renew(slot, 0);
            self.disk.generations.renew(slot, 1);
        }
    }

    /// Cuts as early as the plans allow, so that a read too far back is found.
    fn cut_log(&mut self) {
        let needed = self.state.log_needed_after().filter(|_| !self.forgets_log);
        let cut = needed.unwrap_or(self.disk.log.len() as u64);
        self.disk.cut = self.disk.cut.max(cut);
    }

    /// Bytes of the log that a plan needs.
    pub(super) fn log_held(&self, plan: PlanId) -> Option<u64> {
        let needed = self.state.source(plan)?.log_needed_after();
        let held = self.disk.log.iter().skip(needed as usize);
        let bytes = |record: &LogRecord| match &record.body {
            Body::Effects(effects) => effects.iter().map(|e| e.encode().len()).sum::<usize>(),
            Body::Step => 0,
        };
        Some(held.map(bytes).sum::<usize>() as u64)
    }

    pub(super) fn start_export(&mut self, plan: PlanId, attempt: u64, first: u16, target: u64) {
        let Some(source) = self.state.source(plan) else {
            return;
        };
        let slots = source.spec.slots.iter().filter(|slot| *slot >= first);
        let slots: std::collections::VecDeque<u16> = slots.collect();
        let rows = of_slots(&self.disk.live, |slot| slots.contains(&slot));
        let generations = self.disk.generations.clone();
        let export = Export::start(attempt, self.at().index, slots, target, rows, generations);
        self.exports.insert(plan, export);
    }

    pub(super) fn export_part(
        &mut self,
        plan: PlanId,
        attempt: u64,
        part: u32,
    ) -> Option<SourceEvent> {
        let export = self.exports.get_mut(&plan)?;
        if export.attempt != attempt {
            return None;
        }
        let (rows, end) = export.part(part, (&self.disk.live, &self.disk.generations))?;
        Some(SourceEvent::PartExported {
            attempt,
            part,
            rows,
            end,
        })
    }

    pub(super) fn read_increments(
        &self,
        plan: PlanId,
        after: u64,
        until: Option<u64>,
        max_bytes: u64,
    ) -> Option<SourceEvent> {
        let source = self.state.source(plan)?;
        if after < self.disk.cut {
            return Some(SourceEvent::LogMissing);
        }
        let due = |index: u64| {
            let record = &self.disk.log[index as usize - 1];
            let effects = match &record.body {
                Body::Effects(effects) => &effects[..],
                Body::Step => &[],
            };
            let due = effects
                .iter()
                .filter(|effect| source.is_due(effect.slot(), index));
            due.flat_map(Effect::encode).collect::<Vec<u8>>()
        };
        let head = self.at().index;
        let (mut batch, mut through) = (IncrementBatch::default(), after);
        while through < until.unwrap_or(head).min(head) && (batch.len() as u64) < max_bytes {
            through += 1;
            let effects = due(through);
            if !effects.is_empty() {
                batch.push(through, &effects);
            }
        }
        let due_effects = |index: u64| match &self.disk.log[index as usize - 1].body {
            Body::Effects(effects) => effects
                .iter()
                .filter(|effect| source.is_due(effect.slot(), index))
                .map(|effect| effect.encode().len() as u64)
                .sum(),
            Body::Step => 0,
        };
        let behind_bytes = (through + 1..=head).map(due_effects).sum();
        Some(SourceEvent::IncrementsRead {
            after,
            through,
            effects: batch.finish(),
            behind_bytes,
        })
    }

    /// The digest of the staged rows of some slots.
    pub(super) fn digest_staged(&self, plan: PlanId, first: u16, last: u16) -> (u64, u128) {
        let import = self.disk.imports.get(&plan);
        let digest = import.map(|import| staged(import, |slot| (first..=last).contains(&slot)));
        let digest = digest.unwrap_or_default();
        (digest.rows(), digest.value())
    }

    /// A wrong record in the import, as a bad disk or a bug would leave it.
    pub(super) fn spoil_import(&mut self, plan: PlanId) -> bool {
        let mut rows = self.disk.imports.get_mut(&plan).into_iter().flatten();
        let Some((_, value)) = rows.find(|(place, _)| place.family == Family::Meta) else {
            return false;
        };
        *value = Record::number(-1, 0).encode();
        true
    }
}
