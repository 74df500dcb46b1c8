//! The slot ownership of a group as commands consult it.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::Notify;

use crate::group::{SlotGate, SlotVerdict};
use crate::migration::{OwnershipView, SlotOwnership, SlotRanges, Verdict};

/// The published table and a bell that rings when it changes.
pub struct Gate {
    view: OwnershipView,
    changed: Notify,
}

impl Gate {
    pub fn new(ownership: &SlotOwnership) -> Gate {
        Gate {
            view: OwnershipView::new(ownership),
            changed: Notify::new(),
        }
    }

    /// Publishes `slots` as the replicated state has them.
    pub fn publish(&self, ownership: &SlotOwnership, slots: &SlotRanges) {
        self.view.publish(ownership, slots);
        self.changed.notify_waiters();
    }

    /// Publishes every slot.
    pub fn publish_all(&self, ownership: &SlotOwnership) {
        let all = SlotRanges::from_run(0, 16383).expect("a valid run");
        self.publish(ownership, &all);
    }

    /// The writer is about to propose FREEZE: nothing behind it is served.
    pub fn freeze(&self, slots: &SlotRanges) {
        self.view.publish_frozen(slots);
    }

    /// Whether commands for `slot` are served here now.
    pub fn serves(&self, slot: u16) -> bool {
        self.verdict(slot) == SlotVerdict::Serve
    }
}

impl SlotGate for Gate {
    fn verdict(&self, slot: u16) -> SlotVerdict {
        match self.view.word(slot).verdict() {
            Verdict::Serve => SlotVerdict::Serve,
            Verdict::Frozen => SlotVerdict::Frozen,
            Verdict::Moved | Verdict::Importing => SlotVerdict::Moved,
        }
    }

    fn stamp(&self, slot: u16) -> u64 {
        let word = self.view.word(slot);
        u64::from(word.epoch()) << 8 | word.status() as u64
    }

    fn epoch(&self, slot: u16) -> u32 {
        self.view.word(slot).epoch()
    }

    fn thawed(&self, slot: u16) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.verdict(slot) != SlotVerdict::Frozen {
                    return;
                }
                changed.await;
            }
        })
    }
}
