//! One group of the model world: a durable log, a map, an import map.

use super::model::{Effect, Rows, Value, digest, of_slots};
use crate::migration::{
    Applied, ApplyContext, ChunkRecord, DestDriver, GroupId, IncrementBatch, IncrementRecords,
    MigrationEntry, MigrationState, PlanId, Refused, RowKey, SourceDriver, SourceEvent,
    StateChange,
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
    live: Rows,
    imports: BTreeMap<PlanId, Rows>,
    rows: BTreeMap<Vec<u8>, Bytes>,
}

pub(super) struct Export {
    attempt: u64,
    parts: Vec<(Bytes, Option<ChunkRecord>)>,
}

pub(super) struct Group {
    pub(super) id: GroupId,
    disk: Disk,
    pub(super) down: bool,
    /// Counts restarts; what was local to an earlier run is gone.
    pub(super) run: u64,
    /// Of a deposed leader: the run in which it led.
    pub(super) old_run: u64,
    pub(super) state: MigrationState,
    pub(super) sources: BTreeMap<PlanId, SourceDriver>,
    pub(super) dests: BTreeMap<PlanId, DestDriver>,
    pub(super) exports: BTreeMap<PlanId, Export>,
}

impl Group {
    pub(super) fn new(id: GroupId) -> Self {
        Self {
            id,
            disk: Disk::default(),
            down: false,
            run: 1,
            old_run: 0,
            state: MigrationState::default(),
            sources: BTreeMap::new(),
            dests: BTreeMap::new(),
            exports: BTreeMap::new(),
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
            state: self.state.clone(),
            sources: std::mem::take(&mut self.sources),
            dests: std::mem::take(&mut self.dests),
            exports: std::mem::take(&mut self.exports),
        }
    }

    pub(super) fn crash(&mut self) {
        self.down = true;
        self.run += 1;
        self.sources.clear();
        self.dests.clear();
        self.exports.clear();
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

    /// A batch of a client's effects, in the log and applied.
    pub(super) fn write(&mut self, now: u64, effects: Vec<Effect>) {
        for effect in &effects {
            effect.apply(&mut self.disk.live);
        }
        self.append(now, Body::Effects(effects));
        self.cut_log();
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
            (StateChange::ImportBegun { spec }, _) => {
                self.disk.imports.insert(spec.plan, Rows::new());
            }
            (StateChange::ImportReset { spec, first }, _) => {
                let import = self.disk.imports.get_mut(&spec.plan).unwrap();
                import.retain(|place, _| place.0 < *first);
            }
            (StateChange::ImportRows { spec }, MigrationEntry::ChunkPart { rows, .. }) => {
                let import = self.disk.imports.get_mut(&spec.plan).unwrap();
                for row in Effect::decode_all(rows) {
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
                        effect.apply(import);
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
            }
            (StateChange::Released { spec }, _) => {
                self.disk
                    .live
                    .retain(|place, _| !spec.slots.contains(place.0));
            }
            (StateChange::ImportDropped { spec }, _) => {
                self.disk.imports.remove(&spec.plan).unwrap();
            }
            _ => {}
        }
    }

    /// Cuts as early as the plans allow, so that a read too far back is found.
    fn cut_log(&mut self) {
        let needed = self.state.log_needed_after();
        let cut = needed.unwrap_or(self.disk.log.len() as u64);
        self.disk.cut = self.disk.cut.max(cut);
    }

    pub(super) fn start_export(&mut self, plan: PlanId, attempt: u64, first: u16, target: u64) {
        let index = self.at().index;
        let Some(source) = self.state.source(plan) else {
            return;
        };
        let slots = &source.spec.slots;
        let (mut last, mut rows) = (first, Rows::new());
        for slot in slots.iter().filter(|slot| *slot >= first) {
            last = slot;
            rows.extend(of_slots(&self.disk.live, |other| other == slot));
            if rows.len() as u64 * 21 > target {
                break;
            }
        }
        let digest = digest(&rows);
        let record = ChunkRecord {
            first,
            last,
            index,
            rows: digest.rows(),
            bytes: rows.len() as u64 * 21,
            digest: digest.value(),
        };
        let export = Export {
            attempt,
            parts: cut_parts(&rows, record),
        };
        self.exports.insert(plan, export);
    }

    pub(super) fn export_part(&self, plan: PlanId, attempt: u64, part: u32) -> Option<SourceEvent> {
        let export = self.exports.get(&plan)?;
        let (rows, end) = export.parts.get(part as usize)?;
        (export.attempt == attempt).then(|| SourceEvent::PartExported {
            attempt,
            part,
            rows: rows.clone(),
            end: *end,
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
                .count(),
            Body::Step => 0,
        };
        let behind_bytes = (through + 1..=head)
            .map(|index| due_effects(index) as u64 * 21)
            .sum();
        Some(SourceEvent::IncrementsRead {
            after,
            through,
            effects: batch.finish(),
            behind_bytes,
        })
    }

    /// The digest of the staged rows of some slots.
    pub(super) fn digest_staged(&self, plan: PlanId, first: u16, last: u16) -> Option<(u64, u128)> {
        let import = self.disk.imports.get(&plan)?;
        let digest = digest(&of_slots(import, |slot| (first..=last).contains(&slot)));
        Some((digest.rows(), digest.value()))
    }

    /// A wrong byte in the import, as a bad disk or a bug would leave it.
    pub(super) fn spoil_import(&mut self, plan: PlanId) -> bool {
        let import = self.disk.imports.get_mut(&plan);
        let Some(value) = import.and_then(|import| import.values_mut().next()) else {
            return false;
        };
        *value = Value {
            number: -1,
            expires: 0,
        };
        true
    }
}

fn cut_parts(rows: &Rows, record: ChunkRecord) -> Vec<(Bytes, Option<ChunkRecord>)> {
    let encoded: Vec<Vec<u8>> = rows
        .iter()
        .map(|(&place, &value)| Effect::Put(place, value).encode())
        .collect();
    let mut parts: Vec<(Bytes, Option<ChunkRecord>)> = encoded
        .chunks(4)
        .map(|rows| (Bytes::from(rows.concat()), None))
        .collect();
    match parts.last_mut() {
        Some(part) => part.1 = Some(record),
        None => parts.push((Bytes::new(), Some(record))),
    }
    parts
}
