//! Turns of groups' writers on a network thread.
//!
//! A connection that submits asks for a turn; the turn runs after the other
//! connections that are ready now have had theirs, so that a batch gathers
//! what one round of the event loop brought.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::ahead::Ahead;
use crate::group::Group;

/// The list of one thread.
#[derive(Clone, Default)]
pub struct Turns {
    inner: Rc<Inner>,
    /// What the thread's connections are about to look up.
    pub(super) ahead: Ahead,
}

#[derive(Default)]
struct Inner {
    groups: RefCell<VecDeque<Arc<Group>>>,
    wake: Notify,
}

impl Turns {
    /// Sees to it that `group` gets a turn soon, here or elsewhere.
    pub fn request(&self, group: &Arc<Group>) {
        if group.claim_turn() {
            self.inner.groups.borrow_mut().push_back(group.clone());
            self.inner.wake.notify_one();
        } else if self.inner.groups.borrow().is_empty() {
            // The turn is another thread's, which does not know what was announced here.
            self.ahead.ask(&group.store);
        }
    }

    /// Runs turns for ever; one task of the thread.
    pub async fn run(self) {
        loop {
            self.inner.wake.notified().await;
            loop {
                let group = self.inner.groups.borrow_mut().pop_front();
                let Some(group) = group else { break };
                self.ahead.ask(&group.store);
                group.turn();
            }
        }
    }
}
