//! A driver's proposals: repeated while nothing comes of them, and few at a time.
//!
//! Owned by a driver. A log that stands still tells nothing of what was proposed: without
//! a bound it would be given copies without end, and have to take them all in the end.

use super::plan::MonoMs;

/// Proposals that may be under way at once.
const MOST: u32 = 4;

#[derive(Debug, Default)]
pub(super) struct Proposals {
    /// When something was last proposed whose effect is not known yet.
    awaited: Option<MonoMs>,
    /// Proposals that have not come to their end, whichever.
    under_way: u32,
}

impl Proposals {
    pub(super) fn has_room(&self) -> bool {
        self.under_way < MOST
    }

    /// Whether to propose now. What was proposed before is given `retry_ms`.
    pub(super) fn may_propose(&mut self, retry_ms: u64, now: MonoMs) -> bool {
        let waits = self.awaited.is_some_and(|since| now < since + retry_ms);
        if waits || !self.has_room() {
            return false;
        }
        self.awaited = Some(now);
        self.begun();
        true
    }

    /// One more is under way.
    pub(super) fn begun(&mut self) {
        self.under_way += 1;
    }

    pub(super) fn concluded(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// When to try again; with no room, the end of a proposal comes before.
    pub(super) fn again_at(&self, retry_ms: u64, now: MonoMs) -> MonoMs {
        let due_at = self.awaited.map_or(now, |since| since + retry_ms);
        if due_at > now { due_at } else { now + retry_ms }
    }

    /// The state has changed, or the proposal was refused: what is next need not wait.
    pub(super) fn forget(&mut self) {
        self.awaited = None;
    }

    /// The log refuses entries for the moment: not again before `wait_ms`.
    pub(super) fn dropped(&mut self, wait_ms: u64, retry_ms: u64, now: MonoMs) {
        self.awaited = Some((now + wait_ms).saturating_sub(retry_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times at which is proposed, looking every 10 ms.
    fn times(proposals: &mut Proposals, span: std::ops::Range<u64>) -> Vec<MonoMs> {
        let looks = span.step_by(10);
        looks
            .filter(|now| proposals.may_propose(50, *now))
            .collect()
    }

    #[test]
    fn a_log_that_stands_still_is_given_four_copies_and_one_more_for_each_that_ends() {
        let mut proposals = Proposals::default();
        assert_eq!(times(&mut proposals, 0..10_000), [0, 50, 100, 150]);
        assert_eq!(
            proposals.again_at(50, 10_000),
            10_050,
            "no loop without a wait"
        );
        proposals.forget();
        assert!(times(&mut proposals, 10_000..20_000).is_empty());
        proposals.concluded();
        assert_eq!(times(&mut proposals, 20_000..30_000), [20_000]);
        (0..4).for_each(|_| proposals.concluded());
        assert_eq!(times(&mut proposals, 30_000..30_100), [30_000, 30_050]);
    }

    #[test]
    fn what_was_dropped_comes_again_sooner_and_what_was_refused_at_once() {
        let mut proposals = Proposals::default();
        assert!(proposals.may_propose(1_000, 5_000));
        proposals.dropped(10, 1_000, 5_001);
        assert_eq!(proposals.again_at(1_000, 5_001), 5_011);
        assert!(!proposals.may_propose(1_000, 5_010));
        assert!(proposals.may_propose(1_000, 5_011));
        proposals.forget();
        assert!(proposals.may_propose(1_000, 5_012));
    }
}
