//! Moves: plans, their progress, and the one decision that ends each.

use etcd_client::{Compare, Txn, TxnOp};

use super::{CONFLICT_TRIES, StoreError, TopologyStore, decode_kv, gets, revision_of};
use crate::slot::SlotSet;
use crate::topology::keys::RecordKey;
use crate::topology::records::{
    Decision, DecisionRecord, FreezeProofRecord, GroupId, PlanId, PlanLimits, PlanProgressRecord,
    PlanRecord, PlanSequenceRecord, SlotMapRecord, WantedState, now_ms,
};
use crate::topology::snapshot::{Topology, Versioned};

/// A move that somebody wants.
#[derive(Debug, Clone)]
pub struct NewPlan {
    /// Group that owns the slots.
    pub from: GroupId,
    /// Group that shall own them.
    pub to: GroupId,
    /// The slots.
    pub slots: SlotSet,
    /// Limits of the move.
    pub limits: PlanLimits,
}

impl NewPlan {
    /// Whether the move can be ordered as things stand.
    ///
    /// # Errors
    /// `Refused` with what is wrong and what to do.
    pub fn check(&self, topology: &Topology) -> Result<(), StoreError> {
        let refused = |why: String| Err(StoreError::Refused(why));
        if self.slots.is_empty() {
            return refused("no slots were given: use --slots 0-8191 or a list of ranges".into());
        }
        if self.from == self.to {
            return refused(format!(
                "group {} cannot be source and destination at once",
                self.to
            ));
        }
        for group in [self.from, self.to] {
            if !topology.groups.contains_key(&group) {
                return refused(format!("there is no group {group}: see `group list`"));
            }
        }
        let foreign = self.slots.difference(&topology.slots_of(self.from));
        if !foreign.is_empty() {
            return refused(format!(
                "slots {foreign} are not owned by group {}: see `slots` for who owns them",
                self.from
            ));
        }
        match topology
            .active_plans()
            .find(|p| !p.plan.slots.is_disjoint(&self.slots))
        {
            None => Ok(()),
            Some(other) => refused(format!(
                "plan {0} is {1} and moves slots {2} too: wait for it or run `reshard abort {0}`",
                other.plan.id,
                other.state(),
                other.plan.slots.intersect(&self.slots)
            )),
        }
    }
}

/// What etcd said when it was proved fresh before FREEZE.
#[derive(Debug, Clone)]
pub struct FreshProof {
    /// Revision of the proving write.
    pub revision: i64,
    /// What the operator wants by now.
    pub wanted: WantedState,
    /// The decision, if somebody took it already: do not freeze then.
    pub decision: Option<DecisionRecord>,
    /// The slot map as it stood in the same transaction.
    pub slots: Versioned<SlotMapRecord>,
}

impl TopologyStore {
    /// Orders a move; the source's leader takes it up from the watch.
    ///
    /// # Errors
    /// `Refused` as by `NewPlan::check`. After an unknown outcome, list the
    /// plans before trying again.
    pub async fn create_plan(&self, new: &NewPlan) -> Result<PlanRecord, StoreError> {
        let sequence_key = RecordKey::PlanSequence;
        for _ in 0..CONFLICT_TRIES {
            // The sequence is read first: a plan made after that makes the
            // transaction fail, so the overlap check cannot miss one.
            let sequence: Option<Versioned<PlanSequenceRecord>> = self.get(&sequence_key).await?;
            let topology = self.list().await?;
            self.require_cluster(&topology)?;
            new.check(&topology)?;
            let record = new.record(sequence.as_ref().map_or(0, |s| s.last) + 1);
            let bases = self.plan_bases(new, &topology, sequence.as_ref());
            let ops = [
                self.put_op(&sequence_key, &PlanSequenceRecord { last: record.id }),
                self.put_op(&RecordKey::Plan(record.id), &record),
            ];
            let txn = Txn::new().when(bases).and_then(ops);
            if self.txn("create plan", txn).await?.succeeded() {
                return Ok(record);
            }
        }
        Err(changing())
    }

    fn plan_bases(
        &self,
        new: &NewPlan,
        topology: &Topology,
        sequence: Option<&Versioned<PlanSequenceRecord>>,
    ) -> Vec<Compare> {
        let slots_revision = topology.slots.as_ref().map_or(0, |s| s.mod_revision);
        vec![
            match sequence {
                None => self.absent(&RecordKey::PlanSequence),
                Some(s) => self.unchanged(&RecordKey::PlanSequence, s.mod_revision),
            },
            self.unchanged(&RecordKey::Slots, slots_revision),
            self.present(&RecordKey::Group(new.from)),
            self.present(&RecordKey::Group(new.to)),
        ]
    }

    /// Changes what the operator wants of a plan.
    ///
    /// # Errors
    /// `Conflict` if there is no such plan; `Refused` if it is over, decided, or
    /// was told to abort before.
    pub async fn set_wanted(&self, id: PlanId, wanted: WantedState) -> Result<(), StoreError> {
        for _ in 0..CONFLICT_TRIES {
            let topology = self.list().await?;
            let Some(view) = topology.plan(id) else {
                return Err(no_plan(id));
            };
            if view.plan.wanted == wanted {
                return Ok(());
            }
            if !view.is_active() {
                return Err(StoreError::Refused(format!(
                    "plan {id} is {} already",
                    view.state()
                )));
            }
            if let Some(decision) = view.decision {
                let how = if decision.decision == Decision::Commit {
                    "committed"
                } else {
                    "aborted"
                };
                return Err(StoreError::Refused(format!(
                    "plan {id} is decided: it was {how}"
                )));
            }
            if view.plan.wanted == WantedState::Abort {
                return Err(StoreError::Refused(format!(
                    "plan {id} was told to abort: make a new plan once it has"
                )));
            }
            let key = RecordKey::Plan(id);
            let bases = [
                self.unchanged(&key, view.plan.mod_revision),
                self.absent(&RecordKey::Decision(id)),
            ];
            let record = PlanRecord {
                wanted,
                ..view.plan.value.clone()
            };
            let txn = Txn::new()
                .when(bases)
                .and_then([self.put_op(&key, &record)]);
            if self.txn("change plan", txn).await?.succeeded() {
                return Ok(());
            }
        }
        Err(changing())
    }

    /// The writer of a plan's progress, for the source's leader.
    pub fn progress_writer(&self, plan: PlanId) -> PlanProgressWriter {
        PlanProgressWriter {
            store: self.clone(),
            plan,
            base: None,
        }
    }

    /// Proves, right before FREEZE, that etcd is there and takes writes: writes
    /// a record, and reads in the same transaction what the switch depends on.
    ///
    /// # Errors
    /// `Conflict` if the plan or the slot map is gone; anything else means that
    /// etcd is not fit for a switch now.
    pub async fn prove_fresh(&self, plan: PlanId, node: &str) -> Result<FreshProof, StoreError> {
        let proof = FreezeProofRecord {
            plan,
            node: node.into(),
            at_ms: now_ms(),
        };
        let plan_key = RecordKey::Plan(plan);
        let ops = [
            self.put_op(&RecordKey::PlanProof(plan), &proof),
            self.get_op(&plan_key),
            self.get_op(&RecordKey::Slots),
            self.get_op(&RecordKey::Decision(plan)),
        ];
        let txn = Txn::new().when([self.present(&plan_key)]).and_then(ops);
        let response = self.txn("prove etcd", txn).await?;
        let found = gets(&response);
        let [Some(record), Some(slots), decision] = found.as_slice() else {
            return Err(no_plan(plan));
        };
        Ok(FreshProof {
            revision: revision_of(&response),
            wanted: decode_kv::<PlanRecord>(record)?.wanted,
            slots: decode_kv(slots)?,
            decision: decision
                .as_ref()
                .map(decode_kv)
                .transpose()?
                .map(|d| d.value),
        })
    }

    /// Decides a plan for all its slots at once, or learns how it was decided.
    ///
    /// Whichever record is created first wins. A commit changes the `slots`
    /// record in the same transaction, comparing its revision. The answer was
    /// read back from etcd in that transaction (or found there), and is the only
    /// thing that may un-freeze a slot. Safe to call again after an unknown
    /// outcome.
    ///
    /// # Errors
    /// `Conflict` if the plan is gone, or a commit finds that the source does not
    /// own the slots by the map (nothing is decided then).
    pub async fn decide(
        &self,
        plan: PlanId,
        wanted: Verdict,
        by: &str,
        reason: &str,
    ) -> Result<DecisionRecord, StoreError> {
        // Only a change of the slot map by another plan makes a try fail, so this
        // ends; the bound is against a bug, not against load.
        for _ in 0..CONFLICT_TRIES * 10 {
            let base = self.read_decision_base(plan).await?;
            if let Some(decided) = base.decision {
                return Ok(decided);
            }
            let txn = self.decision_txn(&base, wanted, by, reason)?;
            let response = self.txn("decide plan", txn).await?;
            if let Some(Some(decided)) = gets(&response).first() {
                return Ok(decode_kv(decided)?.value);
            }
        }
        Err(changing())
    }

    /// The decision on a plan, if it was taken; a linearizable read.
    ///
    /// # Errors
    /// etcd did not answer, or the record cannot be read.
    pub async fn read_decision(&self, plan: PlanId) -> Result<Option<DecisionRecord>, StoreError> {
        Ok(self.get(&RecordKey::Decision(plan)).await?.map(|d| d.value))
    }

    async fn read_decision_base(&self, plan: PlanId) -> Result<DecisionBase, StoreError> {
        let ops = [
            self.get_op(&RecordKey::Plan(plan)),
            self.get_op(&RecordKey::Slots),
            self.get_op(&RecordKey::Decision(plan)),
        ];
        let response = self.txn("read plan", Txn::new().and_then(ops)).await?;
        let found = gets(&response);
        let [Some(record), Some(slots), decision] = found.as_slice() else {
            return Err(no_plan(plan));
        };
        Ok(DecisionBase {
            plan: decode_kv::<PlanRecord>(record)?.value,
            slots: decode_kv(slots)?,
            decision: decision
                .as_ref()
                .map(decode_kv)
                .transpose()?
                .map(|d| d.value),
        })
    }

    /// Creates the decision if there is none, and reads back the one there is.
    fn decision_txn(
        &self,
        base: &DecisionBase,
        verdict: Verdict,
        by: &str,
        reason: &str,
    ) -> Result<Txn, StoreError> {
        let plan = &base.plan;
        let key = RecordKey::Decision(plan.id);
        let mut bases = vec![self.absent(&key)];
        let (decision, slot_epoch) = match verdict {
            Verdict::Commit { slot_epoch } => (Decision::Commit, slot_epoch),
            Verdict::Abort => (Decision::Abort, 0),
        };
        let mut ops: Vec<TxnOp> = Vec::new();
        if decision == Decision::Commit {
            let next = base
                .slots
                .reassign(&plan.slots, plan.from, plan.to, slot_epoch)
                .map_err(|e| {
                    StoreError::Conflict(format!("plan {} cannot commit: {e}", plan.id))
                })?;
            bases.push(self.unchanged(&RecordKey::Slots, base.slots.mod_revision));
            ops.push(self.put_op(&RecordKey::Slots, &next));
        }
        let record = DecisionRecord {
            plan: plan.id,
            decision,
            slot_epoch,
            by: by.into(),
            reason: reason.into(),
            decided_at_ms: now_ms(),
        };
        ops.push(self.put_op(&key, &record));
        ops.push(self.get_op(&key));
        Ok(Txn::new()
            .when(bases)
            .and_then(ops)
            .or_else([self.get_op(&key)]))
    }
}

/// What a source asks etcd to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The destination owns the slots from now on.
    Commit {
        /// The epoch of READY, under which the destination will own them.
        slot_epoch: u32,
    },
    /// The source keeps them.
    Abort,
}

/// What a decision is based on, at one revision.
struct DecisionBase {
    plan: PlanRecord,
    slots: Versioned<SlotMapRecord>,
    decision: Option<DecisionRecord>,
}

/// Writes one plan's progress. A writer that lost touch (another leader took
/// over) never turns a finished plan back into a running one.
pub struct PlanProgressWriter {
    store: TopologyStore,
    plan: PlanId,
    /// Revision of the record as last written or read; none: not known, 0: absent.
    base: Option<i64>,
}

impl PlanProgressWriter {
    /// Writes how far the plan is; sets `plan` and `updated_at_ms` itself.
    ///
    /// # Errors
    /// `Conflict` if the plan is finished in etcd and this is not the same end.
    pub async fn write(&mut self, progress: &PlanProgressRecord) -> Result<(), StoreError> {
        let key = RecordKey::PlanProgress(self.plan);
        let record = PlanProgressRecord {
            plan: self.plan,
            updated_at_ms: now_ms(),
            ..progress.clone()
        };
        for _ in 0..CONFLICT_TRIES {
            let base = match self.base {
                Some(base) => base,
                None => self.read_base(&key, &record).await?,
            };
            // A record that is not there compares as revision 0.
            let bases = [
                self.store.unchanged(&key, base),
                self.store.present(&RecordKey::Plan(self.plan)),
            ];
            let txn = Txn::new()
                .when(bases)
                .and_then([self.store.put_op(&key, &record)]);
            self.base = None;
            let response = self.store.txn("write progress", txn).await?;
            if response.succeeded() {
                self.base = Some(revision_of(&response));
                return Ok(());
            }
        }
        Err(changing())
    }

    async fn read_base(
        &self,
        key: &RecordKey,
        next: &PlanProgressRecord,
    ) -> Result<i64, StoreError> {
        match self.store.get::<PlanProgressRecord>(key).await? {
            Some(known) if known.state.is_final() && known.state != next.state => Err(
                StoreError::Conflict(format!("plan {} is {} already", self.plan, known.state)),
            ),
            Some(known) => Ok(known.mod_revision),
            None => Ok(0),
        }
    }
}

impl NewPlan {
    fn record(&self, id: PlanId) -> PlanRecord {
        PlanRecord {
            id,
            from: self.from,
            to: self.to,
            slots: self.slots.clone(),
            limits: self.limits.clone(),
            wanted: WantedState::Run,
            created_at_ms: now_ms(),
        }
    }
}

fn no_plan(id: PlanId) -> StoreError {
    StoreError::Conflict(format!("there is no plan {id}: see `reshard status`"))
}

fn changing() -> StoreError {
    StoreError::Conflict("somebody else keeps changing the same records: try again".into())
}
