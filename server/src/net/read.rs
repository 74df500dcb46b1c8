//! Reads of applied state, beside the writer.
//!
//! A read of more than one record that an apply overlapped is run again; a
//! read of a slot that moved or froze meanwhile shows nothing and is left to
//! the writer, which answers in order (invariant 7).

use cairn_protocol::acl::Subject;
use cairn_protocol::resp::{Args, ReplyWriter};

use crate::commands::DataHandler;
use crate::group::{Group, SlotVerdict};
use crate::txn::{CommandError, Txn};

/// A read that an apply overlapped is tried so often before it joins the queue.
const MAX_TRIES: usize = 4;

/// One read.
pub(crate) struct ReadJob<'a> {
    pub group: &'a Group,
    pub db: usize,
    pub slot: Option<u16>,
    pub handler: DataHandler,
    /// Whose rights must be looked at.
    pub subject: Option<&'a Subject>,
    /// Log time as the caller last saw it.
    pub now: u64,
    /// Whether it may wait for the disk.
    pub disk: bool,
}

/// What became of a read. But for `Done`, what it wrote must be taken back.
pub(crate) enum ReadOutcome {
    Done,
    /// Not in memory: run it where it may wait for the disk.
    Cold,
    /// Only the writer can answer it.
    ByWriter,
    Failed(CommandError),
}

impl ReadJob<'_> {
    pub(crate) fn run(&self, args: &Args<'_>, out: &mut ReplyWriter) -> ReadOutcome {
        let store = &self.group.store;
        let stamp = self.stamp();
        if !self.group.is_ready() || !self.serves() {
            return ReadOutcome::ByWriter;
        }
        let mark = out.mark();
        // What somebody may have seen expired meanwhile stays so.
        let now = self.now.max(store.log_time());
        for _ in 0..MAX_TRIES {
            let context = self.group.context(self.db, self.slot, now, self.disk);
            let epoch = store.epoch();
            let (outcome, touched, missed) = store.with_maps(|maps| {
                let mut txn = Txn::read(store, maps, context).on_behalf_of(self.subject);
                let outcome = (self.handler)(&mut txn, args, out);
                (outcome, txn.touched(), txn.take_missed())
            });
            if self.stamp() != stamp {
                return ReadOutcome::ByWriter;
            }
            let whole = touched <= 1 || (epoch.is_multiple_of(2) && store.epoch() == epoch);
            match outcome {
                Ok(()) if whole => {
                    if !missed.is_empty() {
                        self.group.events.fire(&missed);
                    }
                    return ReadOutcome::Done;
                }
                Ok(()) => out.truncate(mark),
                Err(CommandError::Cold) => return ReadOutcome::Cold,
                Err(CommandError::NeedsTick | CommandError::Block { .. }) => {
                    return ReadOutcome::ByWriter;
                }
                Err(error) if whole => return ReadOutcome::Failed(error),
                // What does not fit together may be of two states.
                Err(_) => out.truncate(mark),
            }
        }
        ReadOutcome::ByWriter
    }

    fn stamp(&self) -> u64 {
        match (&self.group.ownership, self.slot) {
            (Some(gate), Some(slot)) => gate.stamp(slot),
            _ => 0,
        }
    }

    fn serves(&self) -> bool {
        match (&self.group.ownership, self.slot) {
            (Some(gate), Some(slot)) => gate.verdict(slot) == SlotVerdict::Serve,
            _ => true,
        }
    }
}
