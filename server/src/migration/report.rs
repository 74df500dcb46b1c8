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

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    UnderWay,
    Written,
    Lost,
}

#[derive(Debug)]
struct Sent {
    progress: Progress,
    at: MonoMs,
    fate: Fate,
}

/// Decides when to write. Progress is a courtesy, except the last word, which
/// is repeated until it is written.
///
/// One record at a time is under way: an etcd that stands still would be given
/// records without end, each older than the next. An answer that comes when its
/// record counted as lost already is taken for that to the next one; should the
/// last word be lost so, its plan is not over in etcd and gets another driver.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    sent: Option<Sent>,
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
        if let Some(sent) = &mut self.sent {
            sent.fate = Fate::Written;
            self.final_written |= sent.progress.state.is_final();
        }
    }

    pub(super) fn lost(&mut self) {
        if let Some(sent) = &mut self.sent {
            sent.fate = Fate::Lost;
        }
    }

    /// Writes what is new, not too often. `patience` is (ms between records, ms after
    /// which one counts as lost that nothing is heard of). Returns when to come back.
    pub(super) fn report(
        &mut self,
        progress: Progress,
        patience: (u64, u64),
        now: MonoMs,
        out: &mut Vec<SourceAction>,
    ) -> MonoMs {
        let (every_ms, lost_ms) = patience;
        let due_at = match &mut self.sent {
            Some(sent) => sent.next_at(&progress, every_ms, lost_ms, now),
            None => Some(now),
        };
        let said = progress.state.is_final() && self.final_written;
        let Some(due_at) = due_at.filter(|_| !said) else {
            return MonoMs::MAX;
        };
        if now < due_at {
            return due_at;
        }
        out.push(SourceAction::WriteProgress(progress.clone()));
        self.sent = Some(Sent {
            progress,
            at: now,
            fate: Fate::UnderWay,
        });
        now + lost_ms
    }
}

impl Sent {
    /// When `next` may be written, after this one; `None` if it says nothing new.
    fn next_at(
        &mut self,
        next: &Progress,
        every_ms: u64,
        lost_ms: u64,
        now: MonoMs,
    ) -> Option<MonoMs> {
        if self.fate == Fate::UnderWay {
            if now < self.at + lost_ms {
                return Some(self.at + lost_ms);
            }
            self.fate = Fate::Lost;
        }
        let turn = self.progress.state != next.state || self.progress.stage != next.stage;
        let wanted = self.fate == Fate::Lost || self.progress != *next;
        let due_at = if turn { now } else { self.at + every_ms };
        wanted.then_some(due_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::PlanId;

    fn running(bytes_done: u64) -> Progress {
        Progress {
            plan: PlanId(1),
            state: ProgressState::Running,
            stage: Stage::Full,
            slots: 1,
            bytes_done,
            bytes_total: 1_000_000,
            pause_ms: None,
            reason: None,
        }
    }

    fn done() -> Progress {
        Progress {
            state: ProgressState::Done,
            stage: Stage::Switch,
            ..running(0)
        }
    }

    /// What is written when this is so.
    fn says(reporter: &mut Reporter, now: MonoMs, progress: Progress) -> bool {
        let mut out = Vec::new();
        let back_at = reporter.report(progress, (500, 30_000), now, &mut out);
        assert!(back_at > now, "no loop without a wait");
        !out.is_empty()
    }

    /// Regression: an etcd that stood still had a record more waiting every 500 ms.
    #[test]
    fn one_record_is_under_way_until_it_is_answered_or_counts_as_lost() {
        let mut reporter = Reporter::default();
        let mut written = 0;
        for now in (0..60_000).step_by(100) {
            written += u64::from(says(&mut reporter, now, running(now)));
        }
        assert_eq!(written, 2, "at 0 and 30 s");
        reporter.written();
        assert!(says(&mut reporter, 60_000, running(60_000)));
        assert!(
            !says(&mut reporter, 60_001, done()),
            "not beside the last one"
        );
        reporter.lost();
        assert!(
            says(&mut reporter, 60_002, done()),
            "a turn is told at once"
        );
    }

    #[test]
    fn a_lost_record_is_repeated_and_the_last_word_ends_it_when_written() {
        let mut reporter = Reporter::default();
        assert!(says(&mut reporter, 0, running(1)));
        reporter.lost();
        assert!(!says(&mut reporter, 499, running(1)), "not at once");
        assert!(says(&mut reporter, 500, running(1)));
        reporter.written();
        assert!(!says(&mut reporter, 1_000, running(1)), "nothing new");
        assert!(says(&mut reporter, 1_001, done()));
        reporter.lost();
        assert!(!reporter.is_final_written());
        assert!(says(&mut reporter, 1_501, done()));
        reporter.written();
        assert!(reporter.is_final_written());
        assert!(!says(&mut reporter, 9_000, done()));
    }
}
