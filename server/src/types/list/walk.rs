//! Reading a list: in order from either end, from any element on.

use std::ops::{ControlFlow, Range};

use rocksdb::Direction;

use super::chain::Flow;
use super::node::{CORRUPT, Node};
use super::{Done, End, List};
use crate::storage::PinnedRows;
use crate::txn::effects::Family;
use crate::txn::{CommandError, Txn};

/// Where a node of a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Left,
    /// In the chain, under this id.
    Chain(i64),
    Right,
}

/// Rows of the chain, and what of them lies in a range.
pub struct Middle {
    pub rows: PinnedRows,
    pub part: Part,
}

/// A run of elements in the rows that are yet to come.
#[derive(Clone, Copy)]
pub struct Part {
    /// Elements of the next row before the run.
    skip: u64,
    pub count: u64,
}

impl Part {
    /// Shows `take` what lies in the next row and says how much that is.
    pub fn show(&mut self, value: &[u8], take: &mut dyn FnMut(&[u8])) -> Result<u64, CommandError> {
        let node = Node::decode(value)?;
        let from = std::mem::take(&mut self.skip);
        let to = from.saturating_add(self.count).min(node.len());
        let shown = to.checked_sub(from).ok_or(CORRUPT)?;
        node.show(from, to, take)?;
        self.count -= shown;
        Ok(shown)
    }
}

/// Gets a node, where it is, and the index of its first element.
pub(super) type Visit<'v> = dyn FnMut(Place, u64, &Node<'_>) -> Flow + 'v;

impl List<'_> {
    /// Shows `visit` node after node, away from the end `from`, beginning
    /// with the one that holds the element with the index `start`.
    pub(super) fn walk(
        &self,
        txn: &mut Txn<'_>,
        start: u64,
        from: End,
        visit: &mut Visit<'_>,
    ) -> Done {
        let (begin, end) = (self.left.len(), self.left.len() + self.middle());
        let last_visit = |place, visit: &mut Visit<'_>| -> Flow {
            match place {
                Place::Left if !self.left.is_empty() => visit(place, 0, &self.left),
                Place::Right if !self.right.is_empty() => visit(place, end, &self.right),
                _ => Ok(ControlFlow::Continue(())),
            }
        };
        let (near, far) = match from {
            End::Left => (Place::Left, Place::Right),
            End::Right => (Place::Right, Place::Left),
        };
        let near_is_met = match from {
            End::Left => start < begin,
            End::Right => start >= end,
        };
        if near_is_met && last_visit(near, visit)?.is_break() {
            return Ok(());
        }
        let chain_is_met = match from {
            End::Left => start < end,
            End::Right => start >= begin,
        };
        if chain_is_met && self.walk_chain(txn, start, from, visit)?.is_break() {
            return Ok(());
        }
        last_visit(far, visit).map(|_| ())
    }

    fn walk_chain(&self, txn: &mut Txn<'_>, start: u64, from: End, visit: &mut Visit<'_>) -> Flow {
        let Some(chain) = self.chain.as_ref().filter(|chain| chain.count > 0) else {
            return Ok(ControlFlow::Continue(()));
        };
        let (begin, end) = (self.left.len(), self.left.len() + chain.count);
        let is_inside = match from {
            End::Left => start > begin,
            End::Right => start + 1 < end,
        };
        // Index of the next node's first element, or of the end of it.
        let (mut first, mut behind) = (begin, end);
        let id = match (is_inside, from) {
            (false, End::Left) => chain.first,
            (false, End::Right) => chain.last,
            (true, _) => {
                let (id, at) = chain.locate(txn, start - begin)?;
                (first, behind) = (begin + at, u64::MAX);
                id
            }
        };
        let mut flow = ControlFlow::Continue(());
        chain.walk(txn, id, from, &mut |id, node| {
            let at = match from {
                End::Left => first,
                // The first of the walk was located by its begin.
                End::Right if behind == u64::MAX => first,
                End::Right => behind.checked_sub(node.len()).ok_or(CORRUPT)?,
            };
            (first, behind) = (at + node.len(), at);
            flow = visit(Place::Chain(id), at, node)?;
            Ok(flow)
        })?;
        Ok(flow)
    }

    /// Shows `take` the elements of a range that lie in one of the ends, in order.
    pub fn show_end(&self, end: End, range: &Range<u64>, take: &mut dyn FnMut(&[u8])) -> Done {
        let (node, first) = match end {
            End::Left => (&self.left, 0),
            End::Right => (&self.right, self.left.len() + self.middle()),
        };
        let lo = range.start.saturating_sub(first);
        let hi = range.end.saturating_sub(first).min(node.len());
        match lo < hi {
            true => node.show(lo, hi, take),
            false => Ok(()),
        }
    }

    /// What lies between the ends of a range that must lie within the list, for a
    /// reply in pieces. `None`: nothing.
    pub fn pinned(
        &self,
        txn: &mut Txn<'_>,
        range: &Range<u64>,
        cached: bool,
    ) -> Result<Option<Middle>, CommandError> {
        let Some(chain) = &self.chain else {
            return Ok(None);
        };
        let begin = self.left.len();
        let lo = range.start.saturating_sub(begin);
        let hi = range.end.saturating_sub(begin).min(chain.count);
        if lo >= hi {
            return Ok(None);
        }
        let (id, at) = match lo {
            0 => (chain.first, 0),
            _ => chain.locate(txn, lo)?,
        };
        let bounds = chain.bounds(id, chain.last);
        Ok(Some(Middle {
            rows: txn.pinned_rows(Family::Data, bounds, Direction::Forward, cached),
            part: Part {
                skip: lo - at,
                count: hi - lo,
            },
        }))
    }

    /// Shows `take` the elements of a range, which must lie within the list,
    /// in order from one end.
    pub fn show(
        &self,
        txn: &mut Txn<'_>,
        range: Range<u64>,
        from: End,
        take: &mut dyn FnMut(&[u8]),
    ) -> Done {
        if range.is_empty() {
            return Ok(());
        }
        let start = match from {
            End::Left => range.start,
            End::Right => range.end - 1,
        };
        let mut left = range.end - range.start;
        self.walk(txn, start, from, &mut |_, first, node| {
            let lo = range.start.saturating_sub(first);
            let hi = range.end.saturating_sub(first).min(node.len());
            if lo >= hi {
                return Err(CORRUPT);
            }
            match from {
                End::Left => node.show(lo, hi, take)?,
                End::Right => node.show_reversed(lo, hi, take)?,
            }
            left -= hi - lo;
            Ok(go_on(left > 0))
        })?;
        match left {
            0 => Ok(()),
            _ => Err(CORRUPT),
        }
    }

    /// Shows `found` the indexes, within `range`, of the elements that equal
    /// `value`, in order from one end, until it breaks.
    pub fn find(
        &self,
        txn: &mut Txn<'_>,
        value: &[u8],
        range: Range<u64>,
        from: End,
        found: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Done {
        if range.is_empty() {
            return Ok(());
        }
        let start = match from {
            End::Left => range.start,
            End::Right => range.end - 1,
        };
        let mut equal = Vec::new();
        self.walk(txn, start, from, &mut |_, first, node| {
            equal.clear();
            let (mut entries, mut index) = (node.entries(), first);
            while let Some(entry) = entries.try_next()? {
                if entry == value && range.contains(&index) {
                    equal.push(index);
                }
                index += 1;
            }
            if from == End::Right {
                equal.reverse();
            }
            for index in &equal {
                if found(*index).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(go_on(match from {
                End::Left => first + node.len() < range.end,
                End::Right => first > range.start,
            }))
        })
    }

    /// Shows `take` the element with this index, which must be there.
    pub fn get(&self, txn: &mut Txn<'_>, index: u64, take: &mut dyn FnMut(&[u8])) -> Done {
        self.show(txn, index..index + 1, End::Left, take)
    }

    /// All elements, from the left.
    pub fn elements(&self, txn: &mut Txn<'_>) -> Result<Vec<Vec<u8>>, CommandError> {
        let mut all = Vec::new();
        self.show(txn, 0..self.len(), End::Left, &mut |v| all.push(v.to_vec()))?;
        Ok(all)
    }
}

pub(super) fn go_on(yes: bool) -> ControlFlow<()> {
    match yes {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    }
}
