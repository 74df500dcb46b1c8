//! A reply too large to be made whole: its front is written by the command, the
//! rest a piece at a time, from the moment that the command saw.
//!
//! Owned by whoever sends it, who asks for the next piece when the last one has
//! gone. A piece reads the disk: it is made off the network threads. What others
//! do to the collection meanwhile does not show.

use std::time::{Duration, Instant};

use cairn_protocol::resp::ReplyWriter;

use super::CommandError;
use crate::storage::{MetaKey, PinnedRows};

/// Rows that stand still for so long go on with newer files.
const RENEW_AFTER: Duration = if cfg!(test) {
    Duration::ZERO
} else {
    Duration::from_secs(2)
};

const CORRUPT: CommandError = CommandError::Corrupt("the number of elements of a collection");

/// How a reply leaves that grows with a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Whole, whatever its size.
    Whole,
    /// A large one is not made: [`CommandError::Large`].
    IfSmall,
    /// Of a large one the front; the rest is left ([`super::Txn::leave`]).
    InPieces,
}

/// Writes the elements of a row and says how many they were.
pub type WriteRow = dyn FnMut(&[u8], &[u8], &mut ReplyWriter) -> Result<u64, CommandError> + Send;

/// See the module's documentation.
pub struct Pieces {
    parent: MetaKey,
    rows: PinnedRows,
    /// Elements that the rows have yet to yield.
    left: u64,
    write: Box<WriteRow>,
    /// What follows them, RESP.
    end: Vec<u8>,
    renewed: Instant,
    /// The collection has gone: the files of the beginning are kept.
    is_orphan: bool,
}

impl Pieces {
    /// `count` elements of the collection `parent`.
    pub fn of(
        parent: &MetaKey,
        rows: PinnedRows,
        count: u64,
        write: impl FnMut(&[u8], &[u8], &mut ReplyWriter) -> Result<u64, CommandError> + Send + 'static,
    ) -> Pieces {
        Pieces {
            parent: parent.clone(),
            rows,
            left: count,
            write: Box::new(write),
            end: Vec::new(),
            renewed: Instant::now(),
            is_orphan: false,
        }
    }

    /// The same with this behind the elements, which is RESP.
    pub fn followed_by(mut self, end: Vec<u8>) -> Pieces {
        self.end = end;
        self
    }

    /// Asked once, before anything is sent: whether all the rows were there when
    /// they were looked for.
    ///
    /// # Errors
    /// The parent could not be read.
    pub fn is_intact(&self) -> Result<bool, CommandError> {
        self.rows.parent_lives(&self.parent)
    }

    /// Writes about `bytes` bytes more, at least one element; says whether there
    /// is more. Waits for the disk.
    ///
    /// # Errors
    /// The rest cannot be read: what was sent is no whole reply, and never will be.
    pub fn next(&mut self, out: &mut ReplyWriter, bytes: usize) -> Result<bool, CommandError> {
        if !self.is_orphan && self.renewed.elapsed() >= RENEW_AFTER {
            self.is_orphan = !self.rows.renew(&self.parent)?;
            self.renewed = Instant::now();
        }
        let enough = out.len() + bytes;
        while self.left > 0 {
            if out.len() >= enough {
                return Ok(true);
            }
            let (row, value) = self.rows.current()?.ok_or(CORRUPT)?;
            let written = (self.write)(row, value, out)?;
            self.left = self.left.checked_sub(written).ok_or(CORRUPT)?;
            self.rows.step();
        }
        out.raw(&self.end);
        Ok(false)
    }
}
