//! Lists: packed in their record, or a chain of nodes between two ends that
//! the record keeps itself.
//!
//! A list of up to 1 KB is its record's payload, one [`Node`]. A longer one is
//! spread. Its outermost elements, up to 1 KB at each end, stay in the record,
//! so that a push or a pop is one record read and one written, as for a small
//! list; only when an end overflows (or is empty) a row of the chain is written
//! (or taken in). What an end spills leaves 256 bytes behind: a list that
//! swings around one length does not move the same row to and fro.
//!
//! ```text
//! packed   header | node
//! spread   header (version, number of elements) | flags u8 (bit 0: regular)
//!            | first id i64 BE | last id i64 BE | bytes of the left end u32 BE | left end: node | right end: node
//! row      tag 1 | id (i64 BE, sign bit turned)                  ->  node of at most 1 KB, or of one element
//! row      tag 2 | span: id >> 22 (i64 BE, sign bit turned)      ->  number of elements in these nodes u64 BE
//! ```
//!
//! The list is left end, nodes by id, right end. First and last id are those
//! of the outermost nodes (meaningless without nodes). Ids are 2^16 apart when
//! nodes are added at the ends, so that a node in the middle can be cut;
//! *regular*: all ids from first to last are there at exactly this distance.
//! An element somewhere in the middle is found over the counts of the spans
//! and then the heads of at most 64 or so nodes. Numbers are frozen.

mod chain;
mod edit;
mod node;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::atomic::Ordering;

use self::chain::Chain;
pub use self::node::Node;
use self::node::{CORRUPT, HEAD};
use super::decode;
use super::packed::entry_len;
use super::rows::Rows;
use crate::storage::{Header, KeyType, MetaKey, Record, Spread};
use crate::txn::{CommandError, Txn};

/// Bytes of entries up to which a list is packed. Every push rewrites them: above this a
/// third of the bytes is written for an end and, now and then, a row.
const LIST_PACKED_MAX: usize = 1 << 10;
/// Bytes of entries that an end may hold.
const END_MAX: usize = 1 << 10;
/// Bytes that stay with an end when it spills.
const END_KEPT: usize = 256;
/// Bytes above which a pushed element is a node of its own at once.
const LONG_ELEMENT: usize = 512;
/// Bytes before the nodes of a spread list's own bytes.
const OWN_HEAD: usize = 21;
const REGULAR: u8 = 1;

type Done = Result<(), CommandError>;

/// An end of a list: Redis's LEFT (head) and RIGHT (tail).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Left,
    Right,
}

impl End {
    pub fn other(self) -> End {
        match self {
            End::Left => End::Right,
            End::Right => End::Left,
        }
    }
}

/// A list as its record shows it, and what a command made of it so far:
/// changes are kept by [`List::save`].
pub struct List<'r> {
    key: &'r MetaKey,
    expires_at: Option<u64>,
    /// `None`: packed, all elements are in `left`.
    chain: Option<Chain>,
    left: Node<'r>,
    right: Node<'r>,
}

/// How many elements a node may hold (`list-max-listpack-size`).
fn node_count(txn: &Txn<'_>) -> u32 {
    match txn.limits().list_size.load(Ordering::Relaxed) {
        count @ 1.. => count.min(i64::from(u32::MAX)) as u32,
        _ => u32::MAX,
    }
}

impl<'r> List<'r> {
    /// A list without elements, which is no key until it is saved with some.
    pub fn empty(key: &'r MetaKey) -> List<'r> {
        List {
            key,
            expires_at: None,
            chain: None,
            left: Node::default(),
            right: Node::default(),
        }
    }

    /// # Errors
    /// `WRONGTYPE` if the record is of another type.
    pub fn of(key: &'r MetaKey, record: &'r Record) -> Result<List<'r>, CommandError> {
        let (header, payload) = decode(record)?;
        if header.key_type != KeyType::List {
            return Err(CommandError::WRONG_TYPE);
        }
        let Some(spread) = header.spread else {
            return Ok(List {
                expires_at: header.expires_at,
                left: Node::decode(payload)?,
                ..List::empty(key)
            });
        };
        let (head, nodes) = payload.split_first_chunk::<OWN_HEAD>().ok_or(CORRUPT)?;
        let id = |at: usize| {
            i64::from_be_bytes(head[at..at + 8].try_into().expect("eight bytes are eight"))
        };
        let left_len = u32::from_be_bytes(head[17..].try_into().expect("the last four of 21"));
        let (left, right) = nodes.split_at_checked(left_len as usize).ok_or(CORRUPT)?;
        let (left, right) = (Node::decode(left)?, Node::decode(right)?);
        let chain = Chain {
            first: id(1),
            last: id(9),
            regular: head[0] & REGULAR != 0,
            count: spread
                .size
                .checked_sub(left.len() + right.len())
                .ok_or(CORRUPT)?,
            ..Chain::empty(Rows::of(key, spread.version))
        };
        Ok(List {
            key,
            expires_at: header.expires_at,
            chain: Some(chain),
            left,
            right,
        })
    }

    pub fn key(&self) -> &'r MetaKey {
        self.key
    }

    /// Number of elements.
    pub fn len(&self) -> u64 {
        self.left.len() + self.middle() + self.right.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it has rows of its own.
    pub fn is_spread(&self) -> bool {
        self.chain.is_some()
    }

    /// Number of elements in the nodes of the chain.
    fn middle(&self) -> u64 {
        self.chain.as_ref().map_or(0, |chain| chain.count)
    }

    /// What the record itself holds at an end; of a packed list, all.
    fn end(&mut self, end: End) -> &mut Node<'r> {
        match end {
            End::Right if self.chain.is_some() => &mut self.right,
            _ => &mut self.left,
        }
    }

    /// Makes what was changed the key's value; without elements the key goes.
    ///
    /// Returns whether there is still a list.
    pub fn save(mut self, txn: &mut Txn<'_>) -> Result<bool, CommandError> {
        if self.is_empty() {
            txn.delete(self.key)?;
            return Ok(false);
        }
        if let Some(chain) = &mut self.chain {
            chain.save_spans(txn)?;
        }
        let record = self.record();
        txn.put(self.key, record)?;
        Ok(true)
    }

    fn record(&self) -> Record {
        let header = Header::inline(KeyType::List, self.expires_at);
        let Some(chain) = &self.chain else {
            let head = self.left.head();
            return Record::from_parts(self.key, &header, &[&head, &self.left.bytes]);
        };
        let spread = Some(Spread::new(chain.rows.version(), self.len()));
        let mut own = [0; OWN_HEAD];
        own[0] = if chain.regular { REGULAR } else { 0 };
        own[1..9].copy_from_slice(&chain.first.to_be_bytes());
        own[9..17].copy_from_slice(&chain.last.to_be_bytes());
        let left_len = (HEAD + self.left.bytes.len()) as u32;
        own[17..].copy_from_slice(&left_len.to_be_bytes());
        Record::from_parts(
            self.key,
            &Header { spread, ..header },
            &[
                &own,
                &self.left.head(),
                &self.left.bytes,
                &self.right.head(),
                &self.right.bytes,
            ],
        )
    }

    /// Adds an element at an end.
    pub fn push(&mut self, txn: &mut Txn<'_>, end: End, value: &[u8]) -> Done {
        let (count, more) = (node_count(txn), entry_len(value.len()));
        if self.chain.is_none() {
            // One element stays, unless it is long: a queue of such that empties again and
            // again has no rows.
            let most = match self.left.count {
                0 => 2 * LIST_PACKED_MAX,
                _ => LIST_PACKED_MAX,
            };
            if self.left.bytes.len() + more <= most && self.left.count < count {
                self.left.push(end, value);
                return Ok(());
            }
            self.spread(txn, end);
        }
        if more > LONG_ELEMENT {
            self.spill(txn, end, 0)?;
            return self.chain_mut().add(txn, end, &Node::single(value));
        }
        let buffer = self.end(end);
        if buffer.bytes.len() + more > END_MAX || buffer.count >= count {
            self.spill(txn, end, END_KEPT)?;
        }
        self.end(end).push(end, value);
        Ok(())
    }

    /// Takes up to `count` elements from an end and shows them to `take`,
    /// outermost first.
    pub fn pop(
        &mut self,
        txn: &mut Txn<'_>,
        end: End,
        count: u64,
        take: &mut dyn FnMut(&[u8]),
    ) -> Done {
        if count >= self.len() && self.middle() > 0 {
            // All of it: the rows are garbage at once and need no deletes.
            self.show(txn, 0..self.len(), end, take)?;
            self.clear();
            return Ok(());
        }
        let mut left = count.min(self.len());
        while left > 0 {
            if self.end(end).is_empty() {
                self.fill(txn, end)?;
            }
            let buffer = self.end(end);
            let n = left.min(buffer.len());
            match end {
                End::Left => buffer.show(0, n, take)?,
                End::Right => buffer.show_reversed(buffer.len() - n, buffer.len(), take)?,
            }
            buffer.discard(end, n)?;
            left -= n;
        }
        Ok(())
    }

    /// Drops all elements.
    fn clear(&mut self) {
        (self.left, self.right) = (Node::default(), Node::default());
        if let Some(chain) = &mut self.chain {
            chain.count = 0;
        }
    }

    fn chain_mut(&mut self) -> &mut Chain {
        self.chain.as_mut().expect("the list is spread here")
    }

    /// Makes a packed list a spread one; all its elements are then at `end`.
    fn spread(&mut self, txn: &mut Txn<'_>, end: End) {
        self.chain = Some(Chain::empty(Rows::create(txn, self.key)));
        if end == End::Right {
            std::mem::swap(&mut self.left, &mut self.right);
        }
    }

    /// Moves an end's elements into the chain but for the outermost `kept` bytes.
    fn spill(&mut self, txn: &mut Txn<'_>, end: End, kept: usize) -> Done {
        let buffer = std::mem::take(self.end(end));
        let count = node_count(txn);
        let (outer, inner) = buffer.cut_outer(end, kept, count / 4)?;
        let mut pieces = inner.pieces(count)?;
        if end == End::Left {
            pieces.reverse();
        }
        for piece in &pieces {
            self.chain_mut().add(txn, end, piece)?;
        }
        *self.end(end) = outer.into_owned();
        Ok(())
    }

    /// Fills an end that is empty, of a list that is not: from the chain, or
    /// with all that the other end has.
    fn fill(&mut self, txn: &mut Txn<'_>, end: End) -> Done {
        let node = match self.middle() {
            0 => std::mem::take(self.end(end.other())),
            _ => self.chain_mut().take(txn, end)?,
        };
        match node.is_empty() {
            true => Err(CORRUPT),
            false => {
                *self.end(end) = node;
                Ok(())
            }
        }
    }
}
