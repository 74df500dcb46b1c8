//! The thread on which a group's scripts run.
//!
//! A script may run long, and a network thread that ran it would keep all its
//! connections waiting, a Raft loop all its groups. So a turn of any other
//! thread ends before a submission with scripts and wakes this one, which then
//! is the writer until the queue is empty. Starts with the group's first
//! script and ends with the group.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock, Weak};

use super::Group;
use crate::scripting::running;

/// Room for C's recursion in Lua (patterns, parser) and for ours (JSON).
const STACK: usize = 8 << 20;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct ScriptThread {
    wake: OnceLock<SyncSender<()>>,
}

impl ScriptThread {
    /// Sees to it that the thread takes a turn of `group`.
    pub fn wake(&self, group: &Arc<Group>) {
        let sender = self.wake.get_or_init(|| spawn(Arc::downgrade(group)));
        // Full: it will take a turn anyway.
        let _ = sender.try_send(());
    }
}

fn spawn(group: Weak<Group>) -> SyncSender<()> {
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new()
        .name("scripts".into())
        .stack_size(STACK)
        .spawn(move || run(&group, &receiver))
        .expect("the system has a thread for scripts");
    sender
}

fn run(group: &Weak<Group>, wake: &Receiver<()>) {
    while wake.recv().is_ok() {
        let Some(group) = group.upgrade() else {
            return;
        };
        running::write_for(&group);
        group.turn_with_scripts();
    }
}
