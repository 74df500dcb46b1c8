//! A reply too large to be made whole: its front is written by the command, the
//! rest a piece at a time, from the moment that the command saw.
//!
//! Owned by whoever sends it, who asks for the next piece when the last one has
//! gone. A piece reads the disk: it is made off the network threads. What others
//! do to the collection meanwhile does not show.

use std::collections::BinaryHeap;
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

/// Integers that are put in order at a time: as many as make 16 rounds of all the
/// rows, within these.
const ORDERED_MIN: u64 = if cfg!(test) { 100 } else { 128 << 10 };
const ORDERED_MAX: u64 = 1 << 20;

/// Writes the elements of a row and says how many they were.
pub type WriteRow = dyn FnMut(&[u8], &[u8], &mut ReplyWriter) -> Result<u64, CommandError> + Send;

/// See the module's documentation.
pub struct Pieces {
    parent: MetaKey,
    rows: PinnedRows,
    /// Elements that the rows have yet to yield.
    left: u64,
    write: Write,
    /// What follows them, RESP.
    end: Vec<u8>,
    renewed: Instant,
    /// The collection has gone: the files of the beginning are kept.
    is_orphan: bool,
}

/// How rows become elements.
enum Write {
    Rows(Box<WriteRow>),
    InOrder(InOrder),
}

/// Integers in their order, of rows that lie otherwise: in each round of the rows
/// the next so many are found, and those only are kept.
struct InOrder {
    value_of: fn(&[u8]) -> Option<i64>,
    /// The next ones, the last first.
    next: Vec<i64>,
    /// The last that was found.
    last: Option<i64>,
    most: usize,
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
            write: Write::Rows(Box::new(write)),
            end: Vec::new(),
            renewed: Instant::now(),
            is_orphan: false,
        }
    }

    /// `count` integers of the collection `parent`, in their order; `value_of` is
    /// the integer that a row's key names.
    pub fn in_order(
        parent: &MetaKey,
        rows: PinnedRows,
        count: u64,
        value_of: fn(&[u8]) -> Option<i64>,
    ) -> Pieces {
        let order = InOrder {
            value_of,
            next: Vec::new(),
            last: None,
            most: most_in_order(count),
        };
        Pieces {
            write: Write::InOrder(order),
            ..Pieces::of(parent, rows, count, |_, _, _| Ok(0))
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
            let written = match &mut self.write {
                Write::Rows(write) => {
                    let (row, value) = self.rows.current()?.ok_or(CORRUPT)?;
                    let written = write(row, value, out)?;
                    self.rows.step();
                    written
                }
                Write::InOrder(order) => {
                    let value = order.next(&mut self.rows)?;
                    out.bulk_integer(value);
                    1
                }
            };
            self.left = self.left.checked_sub(written).ok_or(CORRUPT)?;
        }
        out.raw(&self.end);
        Ok(false)
    }
}

fn most_in_order(count: u64) -> usize {
    (count / 16).clamp(ORDERED_MIN, ORDERED_MAX) as usize
}

impl InOrder {
    fn next(&mut self, rows: &mut PinnedRows) -> Result<i64, CommandError> {
        if self.next.is_empty() {
            self.find(rows)?;
        }
        self.next.pop().ok_or(CORRUPT)
    }

    /// Finds the smallest that are larger than the last.
    fn find(&mut self, rows: &mut PinnedRows) -> Result<(), CommandError> {
        // The largest of them on top, to make way for a smaller one.
        let mut found = BinaryHeap::new();
        while let Some((row, _)) = rows.current()? {
            let value = (self.value_of)(row).ok_or(CORRUPT)?;
            if self.last.is_none_or(|last| value > last) {
                if found.len() < self.most {
                    found.push(value);
                } else if let Some(mut largest) = found.peek_mut()
                    && value < *largest
                {
                    *largest = value;
                }
            }
            rows.step();
        }
        // For the next round; and at the end there is nothing to renew by.
        rows.restart();
        self.last = found.peek().copied();
        self.next = found.into_sorted_vec();
        self.next.reverse();
        Ok(())
    }
}
