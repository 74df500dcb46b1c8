//! The plan's progress as operators see it.

use super::events::SourceAction;
use super::plan::{FailReason, MonoMs, PlanSpec, Progress, ProgressState, Stage};
use super::plan_state::SourcePlan;
use super::state::{Known, Outcome};

/// What the driver knows beside the replicated state.
pub(super) struct Facts<'a> {
    pub(super) spec: &'a PlanSpec,
    pub(super) paused: bool,
    pub(super) bytes_total: u64,
    pub(super) pause_ms: Option<u64>,
    pub(super) reason: Option<FailReason>,
}

impl Facts<'_> {
    /// `None` while, or when no longer, anything is known of the plan.
    pub(super) fn progress(&self, plan: &Known<SourcePlan>) -> Option<Progress> {
        let (state, stage, bytes_done) = match plan {
            Known::Unknown | Known::Forgotten => return None,
            Known::Active(plan) => {
                let paused = self.paused && plan.frozen.is_none();
                let state = match paused {
                    true => ProgressState::Paused,
                    false => ProgressState::Running,
                };
                (state, plan.stage(), plan.bytes_done())
            }
            Known::Over(Outcome::Aborted { reason }) => {
                let state = match reason {
                    FailReason::Requested => ProgressState::Aborted,
                    _ => ProgressState::Failed,
                };
                (state, Stage::Switch, 0)
            }
            Known::Over(_) => (ProgressState::Done, Stage::Switch, self.bytes_total),
        };
        Some(Progress {
            plan: self.spec.plan,
            state,
            stage,
            slots: u32::try_from(self.spec.slots.len()).unwrap_or(u32::MAX),
            bytes_done,
            bytes_total: self.bytes_total,
            pause_ms: self.pause_ms,
            reason: self.reason.filter(|_| state != ProgressState::Done),
        })
    }
}

/// Decides when to write. Progress is a courtesy, except the last word, which
/// is repeated until it is written.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    sent: Option<(Progress, MonoMs)>,
    final_written: bool,
}

impl Reporter {
    pub(super) fn is_final_written(&self) -> bool {
        self.final_written
    }

    pub(super) fn nothing_to_say(&mut self) {
        self.final_written = true;
    }

    pub(super) fn written(&mut self) {
        let last = self.sent.as_ref();
        self.final_written |= last.is_some_and(|(progress, _)| progress.state.is_final());
    }

    /// Writes what is new, not too often; returns when to come back.
    pub(super) fn report(
        &mut self,
        progress: Progress,
        every_ms: u64,
        now: MonoMs,
        out: &mut Vec<SourceAction>,
    ) -> MonoMs {
        let last = self.sent.as_ref();
        let turn = last
            .is_some_and(|(last, _)| last.state != progress.state || last.stage != progress.stage);
        let due_at = last.map_or(now, |(_, at)| at + every_ms);
        let wanted = match progress.state.is_final() {
            true => !self.final_written,
            false => last.is_none_or(|(last, _)| *last != progress),
        };
        if wanted && (turn || now >= due_at) {
            out.push(SourceAction::WriteProgress(progress.clone()));
            self.sent = Some((progress, now));
            return now + every_ms;
        }
        if wanted { due_at } else { MonoMs::MAX }
    }
}
