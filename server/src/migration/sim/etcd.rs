//! etcd as the plans see it: records, one decision each, the slot map.

use super::world::SLOTS;
use crate::migration::{
    Control, Decision, EtcdAnswer, FailReason, GroupId, PlanId, PlanSpec, Progress, SourceAction,
    SourceEvent,
};
use std::collections::BTreeMap;

pub(super) struct PlanRecord {
    pub(super) spec: PlanSpec,
    pub(super) control: Control,
    pub(super) progress: Option<Progress>,
}

impl PlanRecord {
    pub(super) fn is_over(&self) -> bool {
        let progress = self.progress.as_ref();
        progress.is_some_and(|progress| progress.state.is_final())
    }
}

#[derive(Default)]
pub(super) struct Etcd {
    pub(super) down: bool,
    pub(super) plans: BTreeMap<PlanId, PlanRecord>,
    pub(super) decisions: BTreeMap<PlanId, (Decision, Option<FailReason>)>,
    /// Owner and slot epoch.
    pub(super) slot_map: BTreeMap<u16, (GroupId, u32)>,
}

impl Etcd {
    pub(super) fn decision(&self, plan: PlanId) -> Option<Decision> {
        self.decisions.get(&plan).map(|(decision, _)| *decision)
    }

    pub(super) fn new() -> Self {
        Self {
            slot_map: (0..SLOTS).map(|slot| (slot, (GroupId(1), 1))).collect(),
            ..Self::default()
        }
    }

    fn read(&self, plan: PlanId) -> EtcdAnswer {
        match self.decisions.get(&plan) {
            Some((decision, reason)) => EtcdAnswer::Decided {
                decision: *decision,
                reason: *reason,
            },
            None => EtcdAnswer::NoDecision,
        }
    }

    /// Executes one request of a source driver.
    pub(super) fn execute(&mut self, plan: PlanId, action: &SourceAction) -> SourceEvent {
        let (ask, answer) = match action {
            SourceAction::Prove { ask } if self.decisions.contains_key(&plan) => {
                (ask, self.read(plan))
            }
            SourceAction::Prove { ask } => (ask, EtcdAnswer::Proved),
            SourceAction::ReadDecision { ask } => (ask, self.read(plan)),
            SourceAction::Decide {
                ask,
                want,
                spec,
                epoch,
                reason,
            } => (ask, self.decide(spec, *want, *epoch, *reason)),
            SourceAction::WriteProgress(progress) => return self.write_progress(plan, progress),
            other => panic!("not for etcd: {other:?}"),
        };
        SourceEvent::Etcd { ask: *ask, answer }
    }

    fn write_progress(&mut self, plan: PlanId, progress: &Progress) -> SourceEvent {
        let record = self.plans.get_mut(&plan).unwrap();
        if !record.is_over() {
            record.progress = Some(progress.clone());
        }
        SourceEvent::ProgressWritten
    }

    fn decide(
        &mut self,
        spec: &PlanSpec,
        want: Decision,
        epoch: u32,
        reason: Option<FailReason>,
    ) -> EtcdAnswer {
        if !self.decisions.contains_key(&spec.plan) {
            if want == Decision::Commit {
                for slot in spec.slots.iter() {
                    let (owner, old_epoch) = self.slot_map[&slot];
                    assert_eq!(owner, spec.from, "slot {slot} moved by two plans");
                    assert!(epoch > old_epoch, "slot {slot} moved under an old epoch");
                    self.slot_map.insert(slot, (spec.to, epoch));
                }
            }
            self.decisions.insert(spec.plan, (want, reason));
        }
        self.read(spec.plan)
    }
}

/// What its driver hears of a request that was lost or not executed.
pub(super) fn unanswered(action: &SourceAction) -> SourceEvent {
    match action {
        SourceAction::Prove { ask }
        | SourceAction::ReadDecision { ask }
        | SourceAction::Decide { ask, .. } => SourceEvent::Etcd {
            ask: *ask,
            answer: EtcdAnswer::Unavailable,
        },
        SourceAction::WriteProgress(_) => SourceEvent::ProgressLost,
        other => panic!("not for etcd: {other:?}"),
    }
}
