//! Reads of applied state, beside the writer. A reply too large to be made whole
//! is begun anew on a pinned moment and leaves in pieces.
//!
//! A read of more than one record that an apply overlapped is run again; a
//! read of a slot that moved or froze meanwhile shows nothing and is left to
//! the writer, which answers in order (invariant 7).

use std::sync::Arc;

use cairn_protocol::acl::Subject;
use cairn_protocol::resp::{Args, ReplyWriter};

use crate::commands::DataHandler;
use crate::group::{Group, SlotVerdict};
use crate::storage::Pin;
use crate::txn::{CommandError, Delivery, Pieces, Txn, TxnContext};

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
    /// Whether a large reply may leave in pieces.
    pub pieces: bool,
}

/// What became of a read. But for `Done`, what it wrote must be taken back.
pub(crate) enum ReadOutcome {
    Done,
    /// Not in memory: run it where it may wait for the disk.
    Cold,
    /// Too large to be made whole: [`ReadJob::begin_pieces`].
    Large,
    /// Only the writer can answer it.
    ByWriter,
    Failed(CommandError),
}

/// What became of a read whose reply may leave in pieces.
pub(crate) enum Begun {
    /// There was no need.
    Whole(ReadOutcome),
    /// The front is written, this is to follow.
    InPieces(Box<Pieces>),
}

impl<'a> ReadJob<'a> {
    /// One for [`ReadJob::begin_pieces`].
    pub(crate) fn in_pieces(
        group: &'a Group,
        db: usize,
        slot: Option<u16>,
        handler: DataHandler,
        subject: Option<&'a Subject>,
    ) -> ReadJob<'a> {
        ReadJob {
            group,
            db,
            slot,
            handler,
            subject,
            now: group.now(),
            disk: true,
            pieces: true,
        }
    }
}

impl ReadJob<'_> {
    pub(crate) fn run(&self, args: &Args<'_>, out: &mut ReplyWriter) -> ReadOutcome {
        let delivery = match self.pieces {
            true => Delivery::IfSmall,
            false => Delivery::Whole,
        };
        self.run_as(delivery, args, out)
    }

    fn run_as(&self, delivery: Delivery, args: &Args<'_>, out: &mut ReplyWriter) -> ReadOutcome {
        let store = &self.group.store;
        let stamp = self.stamp();
        if !self.group.is_ready() || !self.serves() {
            return ReadOutcome::ByWriter;
        }
        let mark = out.mark();
        // What somebody may have seen expired meanwhile stays so.
        let now = self.now.max(store.log_time());
        for _ in 0..MAX_TRIES {
            let context = TxnContext {
                delivery,
                ..self.group.context(self.db, self.slot, now, self.disk)
            };
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
                Err(CommandError::Large) => return ReadOutcome::Large,
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

    /// Begins a reply in pieces. Waits for the disk.
    pub(crate) fn begin_pieces(&self, args: &Args<'_>, out: &mut ReplyWriter) -> Begun {
        let mark = out.mark();
        for _ in 0..MAX_TRIES {
            match self.try_pieces(args, out) {
                Ok(Some(pieces)) => return Begun::InPieces(Box::new(pieces)),
                Ok(None) => out.truncate(mark),
                Err(CommandError::NeedsTick) => return Begun::Whole(ReadOutcome::ByWriter),
                // It may be small by now; whole, it is judged by itself.
                Err(_) => break,
            }
        }
        out.truncate(mark);
        Begun::Whole(self.run_as(Delivery::Whole, args, out))
    }

    /// `None`: the moment that was pinned will not do.
    fn try_pieces(
        &self,
        args: &Args<'_>,
        out: &mut ReplyWriter,
    ) -> Result<Option<Pieces>, CommandError> {
        let stamp = self.stamp();
        if !self.group.is_ready() || !self.serves() {
            return Err(CommandError::NeedsTick);
        }
        let Some(pin) = Pin::passing(&self.group.store).map(Arc::new) else {
            return Ok(None);
        };
        let now = self.now.max(pin.log_time());
        let context = TxnContext {
            delivery: Delivery::InPieces,
            ..self.group.context(self.db, self.slot, now, true)
        };
        let mut txn = Txn::in_pieces(&pin, context).on_behalf_of(self.subject);
        (self.handler)(&mut txn, args, out)?;
        let pieces = txn.take_left().ok_or(CommandError::Cold)?;
        // Only the owner of the slot says what is in it (invariant 7).
        if self.stamp() != stamp {
            return Err(CommandError::NeedsTick);
        }
        Ok(pieces.is_intact()?.then_some(pieces))
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
