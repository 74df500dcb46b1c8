//! Changes of a list elsewhere than at its ends.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use super::chain::Chain;
use super::node::{CORRUPT, Node};
use super::walk::{Place, go_on};
use super::{Done, END_KEPT, END_MAX, End, LIST_PACKED_MAX, List, node_count};
use crate::txn::{CommandError, Txn};
use crate::types::rows::Rows;

/// A trim that drops more elements than this, and more than it keeps, copies
/// what it keeps instead of deleting what it drops.
const COPY_ABOVE: u64 = 4096;

impl List<'_> {
    /// Puts `value` in the place of the element with this index, which must
    /// be there.
    pub fn set(&mut self, txn: &mut Txn<'_>, index: u64, value: &[u8]) -> Done {
        let (begin, end) = (self.left.len(), self.left.len() + self.middle());
        if index < begin {
            self.left.replace(index, value)?;
            return self.settle(txn, End::Left);
        }
        if index >= end {
            self.right.replace(index - end, value)?;
            return self.settle(txn, End::Right);
        }
        let (id, first) = self.chain_mut().locate(txn, index - begin)?;
        self.edit_node(txn, id, |node| node.replace(index - begin - first, value))
    }

    /// Inserts `value` before (or after) the first element that equals
    /// `pivot`. False: there is none.
    pub fn insert(
        &mut self,
        txn: &mut Txn<'_>,
        pivot: &[u8],
        before: bool,
        value: &[u8],
    ) -> Result<bool, CommandError> {
        let Some((place, index)) = self.place_of(txn, pivot)? else {
            return Ok(false);
        };
        let index = index + u64::from(!before);
        match place {
            Place::Left => {
                self.left.insert(index, value)?;
                self.settle(txn, End::Left)?;
            }
            Place::Right => {
                self.right.insert(index, value)?;
                self.settle(txn, End::Right)?;
            }
            Place::Chain(id) => self.edit_node(txn, id, |node| node.insert(index, value))?,
        }
        Ok(true)
    }

    /// The node of the first element that equals `value`, and its index there.
    fn place_of(
        &self,
        txn: &mut Txn<'_>,
        value: &[u8],
    ) -> Result<Option<(Place, u64)>, CommandError> {
        let mut found = None;
        self.walk(txn, 0, End::Left, &mut |place, _, node| {
            let (mut entries, mut index) = (node.entries(), 0);
            while let Some(entry) = entries.try_next()? {
                if entry == value {
                    found = Some((place, index));
                    return Ok(ControlFlow::Break(()));
                }
                index += 1;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    fn edit_node(
        &mut self,
        txn: &mut Txn<'_>,
        id: i64,
        edit: impl FnOnce(&mut Node<'_>) -> Done,
    ) -> Done {
        let count = node_count(txn);
        let chain = self.chain_mut();
        let row = chain.node(txn, id)?;
        let mut node = Node::decode(&row)?;
        let old = node.len();
        edit(&mut node)?;
        chain.replace(txn, id, old, &node, count)
    }

    /// An end was changed: spills what it must not hold.
    fn settle(&mut self, txn: &mut Txn<'_>, end: End) -> Done {
        let count = node_count(txn);
        if self.chain.is_none() {
            if self.left.fits(LIST_PACKED_MAX, count) {
                return Ok(());
            }
            self.spread(txn, End::Right);
            return self.settle(txn, End::Right);
        }
        match self.end(end).fits(END_MAX, count) {
            true => Ok(()),
            false => self.spill(txn, end, END_KEPT),
        }
    }

    /// Removes up to `limit` elements that equal `value`, those nearest to
    /// the end `from` first. Returns how many these were.
    pub fn remove(
        &mut self,
        txn: &mut Txn<'_>,
        value: &[u8],
        limit: u64,
        from: End,
    ) -> Result<u64, CommandError> {
        if self.is_empty() {
            return Ok(0);
        }
        let mut changed: Vec<(Place, u64, Node<'static>)> = Vec::new();
        let mut removed = 0;
        let start = match from {
            End::Left => 0,
            End::Right => self.len() - 1,
        };
        self.walk(txn, start, from, &mut |place, _, node| {
            if let Some((new, n)) = node.without(value, limit - removed, from)? {
                changed.push((place, node.len(), new));
                removed += n;
            }
            Ok(go_on(removed < limit))
        })?;
        if removed == self.len() {
            self.clear();
            return Ok(removed);
        }
        let mut dropped = false;
        for (place, old, node) in changed {
            match place {
                Place::Left => self.left = node,
                Place::Right => self.right = node,
                Place::Chain(id) => {
                    dropped |= node.is_empty();
                    self.chain_mut().replace(txn, id, old, &node, u32::MAX)?;
                }
            }
        }
        if dropped {
            self.chain_mut().settle_after_drops(txn)?;
        }
        Ok(removed)
    }

    /// Keeps only the elements of `range`, which must lie within the list.
    pub fn trim(&mut self, txn: &mut Txn<'_>, range: Range<u64>) -> Done {
        if range.is_empty() {
            self.clear();
            return Ok(());
        }
        let kept = range.end - range.start;
        let dropped = self.len() - kept;
        if self.chain.is_some() && dropped > kept && dropped > COPY_ABOVE {
            return self.keep_copy(txn, range);
        }
        let right = self.len() - range.end;
        self.discard(txn, End::Left, range.start)?;
        self.discard(txn, End::Right, right)
    }

    /// Drops `n` elements at an end.
    fn discard(&mut self, txn: &mut Txn<'_>, end: End, mut n: u64) -> Done {
        let of = |node: &mut Node<'_>, n: &mut u64| {
            let here = (*n).min(node.len());
            *n -= here;
            node.discard(end, here)
        };
        of(self.end(end), &mut n)?;
        let inner = n.min(self.middle());
        if inner > 0 {
            n -= inner;
            if let Some((mut node, more)) = self.chain_mut().discard(txn, end, inner)? {
                node.discard(end, more)?;
                *self.end(end) = node;
            }
        }
        of(self.end(end.other()), &mut n)
    }

    /// [`List::trim`] by copying: the old rows become garbage at once.
    fn keep_copy(&mut self, txn: &mut Txn<'_>, range: Range<u64>) -> Done {
        let mut kept: Vec<Node<'static>> = Vec::new();
        self.walk(txn, range.start, End::Left, &mut |_, first, node| {
            let mut node = node.clone();
            let behind = (first + node.len()).saturating_sub(range.end);
            node.discard(End::Right, behind.min(node.len()))?;
            let before = range.start.saturating_sub(first);
            node.discard(End::Left, before.min(node.len()))?;
            let end = first + before + node.len();
            kept.push(node.into_owned());
            Ok(go_on(end < range.end))
        })?;
        let count: u64 = kept.iter().map(Node::len).sum();
        if count != range.end - range.start {
            return Err(CORRUPT);
        }
        self.clear();
        let bytes: usize = kept.iter().map(|node| node.bytes.len()).sum();
        if bytes <= LIST_PACKED_MAX && count <= u64::from(node_count(txn)) {
            self.chain = None;
            self.left = Node {
                count: count as u32,
                bytes: Cow::Owned(kept.iter().flat_map(|n| n.bytes.to_vec()).collect()),
            };
            return Ok(());
        }
        let mut chain = Chain::empty(Rows::create(txn, self.key));
        for node in &kept {
            chain.add(txn, End::Right, node)?;
        }
        self.chain = Some(chain);
        Ok(())
    }
}
