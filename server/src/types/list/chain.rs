//! The nodes of a spread list: rows by id, and the counts of spans of ids.

use std::ops::ControlFlow;

use bytes::Bytes;
use rocksdb::Direction;

use super::End;
use super::node::{CORRUPT, Node};
use crate::txn::effects::Family;
use crate::txn::{CommandError, Txn};
use crate::types::rows::{Rows, rest_of};

type Done = Result<(), CommandError>;
/// Whether to go on.
pub(super) type Flow = Result<ControlFlow<()>, CommandError>;

const NODE: u8 = 1;
const SPAN: u8 = 2;
/// Distance between the ids of nodes that are added at an end.
const GAP: i64 = 1 << 16;
/// An id's span: what is left without these bits.
const SPAN_BITS: u32 = 22;
/// Ids that are looked through without a look at the spans first.
const NEAR: u64 = 64 * GAP as u64;
/// Nodes of a regular chain that are fetched one by one before it is scanned:
/// a scan has to set up an iterator first.
const FETCHED: usize = 3;

/// See the module's documentation.
pub(super) struct Chain {
    pub rows: Rows,
    /// Ids of the outermost nodes, if there are any.
    pub first: i64,
    pub last: i64,
    /// All ids from first to last are there, [`GAP`] apart.
    pub regular: bool,
    /// Number of elements in all nodes.
    pub count: u64,
    /// Changes of the counts of spans that are not in their rows yet.
    pub(super) deltas: Vec<(i64, i64)>,
}

/// A number in an order that its bytes keep.
fn ordered(n: i64) -> [u8; 8] {
    (n ^ i64::MIN).to_be_bytes()
}

/// What [`ordered`] was made of, at the end of a row's key.
fn number_of(row: &[u8]) -> Result<i64, CommandError> {
    let bytes = rest_of(row).try_into().map_err(|_| CORRUPT)?;
    Ok(i64::from_be_bytes(bytes) ^ i64::MIN)
}

fn direction(from: End) -> Direction {
    match from {
        End::Left => Direction::Forward,
        End::Right => Direction::Reverse,
    }
}

impl Chain {
    pub fn empty(rows: Rows) -> Chain {
        Chain {
            rows,
            first: 0,
            last: 0,
            regular: true,
            count: 0,
            deltas: Vec::new(),
        }
    }

    fn node_key(&self, id: i64) -> Vec<u8> {
        self.rows.key(NODE, &ordered(id))
    }

    fn end_id(&mut self, end: End) -> &mut i64 {
        match end {
            End::Left => &mut self.first,
            End::Right => &mut self.last,
        }
    }

    fn counted(&mut self, id: i64, delta: i64) {
        self.count = self.count.saturating_add_signed(delta);
        let span = id >> SPAN_BITS;
        match self.deltas.iter_mut().rev().take(4).find(|d| d.0 == span) {
            Some((_, sum)) => *sum += delta,
            None => self.deltas.push((span, delta)),
        }
    }

    /// Writes the counts of spans that have changed.
    pub fn save_spans(&mut self, txn: &mut Txn<'_>) -> Done {
        for (span, delta) in std::mem::take(&mut self.deltas) {
            let key = self.rows.key(SPAN, &ordered(span));
            let old = match txn.row(Family::Data, &key)? {
                Some(row) => u64_of(&row)?,
                None => 0,
            };
            match old.checked_add_signed(delta).ok_or(CORRUPT)? {
                0 => txn.delete_row(Family::Data, key),
                new => txn.put_row(Family::Data, key, new.to_be_bytes().to_vec().into()),
            }
        }
        Ok(())
    }

    /// Adds a node at an end.
    pub fn add(&mut self, txn: &mut Txn<'_>, end: End, node: &Node<'_>) -> Done {
        let outer = *self.end_id(end);
        let id = match end {
            End::Left => outer.checked_sub(GAP),
            End::Right => outer.checked_add(GAP),
        };
        // 2^47 nodes at one end take years.
        let id = id.ok_or(CommandError::fixed("ERR the list has had too many nodes"))?;
        if self.count == 0 {
            (self.first, self.last, self.regular) = (id, id, true);
        }
        *self.end_id(end) = id;
        self.put(txn, id, node);
        self.counted(id, node.len() as i64);
        Ok(())
    }

    fn put(&self, txn: &mut Txn<'_>, id: i64, node: &Node<'_>) {
        txn.put_row(Family::Data, self.node_key(id), node.encode());
    }

    /// The node with this id, which must be there.
    pub fn node(&self, txn: &mut Txn<'_>, id: i64) -> Result<Bytes, CommandError> {
        txn.row(Family::Data, &self.node_key(id))?.ok_or(CORRUPT)
    }

    /// Takes the node at an end out of the chain.
    pub fn take(&mut self, txn: &mut Txn<'_>, end: End) -> Result<Node<'static>, CommandError> {
        let id = *self.end_id(end);
        let node = Node::decode(&self.node(txn, id)?)?.into_owned();
        self.drop_node(txn, id, node.len());
        self.settle_end(txn, end, id)?;
        Ok(node)
    }

    /// Removes one node; whether it was the first or last is the caller's business.
    fn drop_node(&mut self, txn: &mut Txn<'_>, id: i64, count: u64) {
        txn.delete_row(Family::Data, self.node_key(id));
        self.counted(id, -(count as i64));
    }

    /// Finds the new outermost node after the one with `gone` as its id went.
    fn settle_end(&mut self, txn: &mut Txn<'_>, end: End, gone: i64) -> Done {
        if self.count == 0 {
            return Ok(());
        }
        if self.regular {
            *self.end_id(end) += match end {
                End::Left => GAP,
                End::Right => -GAP,
            };
            return Ok(());
        }
        let next = self.neighbour(txn, gone, end)?.ok_or(CORRUPT)?;
        *self.end_id(end) = next;
        Ok(())
    }

    /// The id of the next node inward of `id`, seen from `end`.
    fn neighbour(&self, txn: &mut Txn<'_>, id: i64, end: End) -> Result<Option<i64>, CommandError> {
        let (first, last) = match end {
            End::Left => (id + 1, self.last),
            End::Right => (self.first, id - 1),
        };
        let mut found = None;
        self.scan(txn, first, last, end, &mut |id, _| {
            found = Some(id);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Shows `visit` the nodes with ids from `first` to `last`, from the end `from`.
    fn scan(
        &self,
        txn: &mut Txn<'_>,
        first: i64,
        last: i64,
        from: End,
        visit: &mut dyn FnMut(i64, &Node<'_>) -> Flow,
    ) -> Done {
        self.scan_rows(txn, NODE, first, last, from, &mut |id, value| {
            visit(id, &Node::decode(value)?)
        })
    }

    fn scan_rows(
        &self,
        txn: &mut Txn<'_>,
        tag: u8,
        first: i64,
        last: i64,
        from: End,
        visit: &mut dyn FnMut(i64, &[u8]) -> Flow,
    ) -> Done {
        if first > last {
            return Ok(());
        }
        let (begin, end) = self.bounds_of(tag, first, last);
        let mut outcome = Ok(());
        let order = direction(from);
        txn.scan_rows(
            Family::Data,
            &begin,
            &end,
            order,
            &mut |row, value| match number_of(row).and_then(|number| visit(number, value)) {
                Ok(flow) => flow,
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        outcome
    }

    /// First key and end of the rows of the nodes from `first` to `last`.
    pub fn bounds(&self, first: i64, last: i64) -> (Vec<u8>, Vec<u8>) {
        self.bounds_of(NODE, first, last)
    }

    fn bounds_of(&self, tag: u8, first: i64, last: i64) -> (Vec<u8>, Vec<u8>) {
        let begin = self.rows.key(tag, &ordered(first));
        // The key after that of `last`.
        let mut end = self.rows.key(tag, &ordered(last));
        end.push(0);
        (begin, end)
    }

    /// Shows `visit` the nodes from the one with this id on, away from the
    /// end `from`.
    pub fn walk(
        &self,
        txn: &mut Txn<'_>,
        start: i64,
        from: End,
        visit: &mut dyn FnMut(i64, &Node<'_>) -> Flow,
    ) -> Done {
        let mut id = start;
        if self.regular {
            for _ in 0..FETCHED {
                if !(self.first..=self.last).contains(&id) {
                    return Ok(());
                }
                let row = self.node(txn, id)?;
                if visit(id, &Node::decode(&row)?)?.is_break() {
                    return Ok(());
                }
                id += match from {
                    End::Left => GAP,
                    End::Right => -GAP,
                };
            }
        }
        match from {
            End::Left => self.scan(txn, id, self.last, from, visit),
            End::Right => self.scan(txn, self.first, id, from, visit),
        }
    }

    /// The node that holds the element with this index (of the chain's own),
    /// and the index of the node's first element.
    pub fn locate(&self, txn: &mut Txn<'_>, index: u64) -> Result<(i64, u64), CommandError> {
        let mut seek = Seek::to(index, self.count);
        let (mut first, mut last) = (self.first, self.last);
        if last.abs_diff(first) > NEAR {
            let (low, high) = (first >> SPAN_BITS, last >> SPAN_BITS);
            let span = self.found(txn, SPAN, low, high, &mut seek, u64_of)?;
            let begin = span << SPAN_BITS;
            first = first.max(begin);
            last = last.min(begin + ((1 << SPAN_BITS) - 1));
        }
        let count = |value: &[u8]| Ok(Node::decode(value)?.len());
        let id = self.found(txn, NODE, first, last, &mut seek, count)?;
        Ok((id, seek.found_at()))
    }

    /// The row at which `seek` finds its index, and `seek` narrowed down to it.
    fn found(
        &self,
        txn: &mut Txn<'_>,
        tag: u8,
        first: i64,
        last: i64,
        seek: &mut Seek,
        count: fn(&[u8]) -> Result<u64, CommandError>,
    ) -> Result<i64, CommandError> {
        let mut found = None;
        self.scan_rows(txn, tag, first, last, seek.from, &mut |number, value| {
            if seek.covers(count(value)?) {
                found = Some(number);
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        found.ok_or(CORRUPT)
    }

    /// Puts other elements in the place of a node's, which had `old` of them:
    /// as one node, as several, or none.
    pub fn replace(
        &mut self,
        txn: &mut Txn<'_>,
        id: i64,
        old: u64,
        node: &Node<'_>,
        count: u32,
    ) -> Done {
        if node.is_empty() {
            self.drop_node(txn, id, old);
            return Ok(());
        }
        let pieces = node.pieces(count)?;
        self.put(txn, id, &pieces[0]);
        self.counted(id, pieces[0].len() as i64 - old as i64);
        let more = &pieces[1..];
        if id == self.last {
            for piece in more {
                self.add(txn, End::Right, piece)?;
            }
            return Ok(());
        }
        if !more.is_empty() {
            self.regular = false;
            let free = self.room_after(txn, id, more.len() as i64)?;
            for (id, piece) in free.into_iter().zip(more) {
                self.put(txn, id, piece);
                self.counted(id, piece.len() as i64);
            }
        }
        Ok(())
    }

    /// After nodes were dropped here and there: finds first and last anew.
    pub fn settle_after_drops(&mut self, txn: &mut Txn<'_>) -> Done {
        self.regular = false;
        if self.count == 0 {
            return Ok(());
        }
        let (first, last) = (self.first, self.last);
        self.first = self.neighbour(txn, first - 1, End::Left)?.ok_or(CORRUPT)?;
        self.last = self.neighbour(txn, last + 1, End::Right)?.ok_or(CORRUPT)?;
        Ok(())
    }

    /// `n` ids between that of a node, not the last, and the next one. If
    /// there are too few, the nodes behind are given others, as far as needed
    /// to have room again.
    fn room_after(&mut self, txn: &mut Txn<'_>, id: i64, n: i64) -> Result<Vec<i64>, CommandError> {
        let mut step = self.distance(txn, id)? / (n + 1);
        if step == 0 {
            self.respace(txn, id)?;
            step = self.distance(txn, id)? / (n + 1);
        }
        match step {
            0 => Err(CORRUPT),
            _ => Ok((1..=n).map(|k| id + step * k).collect()),
        }
    }

    /// From a node, not the last, to the next.
    fn distance(&self, txn: &mut Txn<'_>, id: i64) -> Result<i64, CommandError> {
        let next = self.neighbour(txn, id, End::Left)?.ok_or(CORRUPT)?;
        Ok(next - id)
    }

    /// Spreads the nodes behind `id` evenly, up to one with enough distance
    /// (or the end, where ids are free).
    fn respace(&mut self, txn: &mut Txn<'_>, id: i64) -> Done {
        /// What each should get.
        const ROOM: i64 = 1 << 8;
        let mut crowd: Vec<(i64, Node<'static>)> = Vec::new();
        let mut limit = None;
        self.scan(txn, id + 1, self.last, End::Left, &mut |at, node| {
            if (at - id) / (crowd.len() as i64 + 1) >= ROOM {
                limit = Some(at);
                return Ok(ControlFlow::Break(()));
            }
            crowd.push((at, node.clone().into_owned()));
            Ok(ControlFlow::Continue(()))
        })?;
        let n = crowd.len() as i64 + 1;
        let step = match limit {
            Some(limit) => (limit - id) / n,
            None => GAP,
        };
        for (at, node) in &crowd {
            self.drop_node(txn, *at, node.len());
        }
        let mut to = id;
        for (_, node) in &crowd {
            to += step;
            self.put(txn, to, node);
            self.counted(to, node.len() as i64);
        }
        if limit.is_none() {
            self.last = to;
        }
        Ok(())
    }

    /// Removes `n` elements at an end, fewer than there are: whole nodes; what
    /// is left to remove of the last one met is returned with it, out of the
    /// chain.
    pub fn discard(
        &mut self,
        txn: &mut Txn<'_>,
        end: End,
        n: u64,
    ) -> Result<Option<(Node<'static>, u64)>, CommandError> {
        let (mut doomed, mut left) = (Vec::new(), n);
        let (mut part, mut next) = (None, None);
        let start = *self.end_id(end);
        self.walk(txn, start, end, &mut |id, node| {
            if left == 0 {
                next = Some(id);
                return Ok(ControlFlow::Break(()));
            }
            doomed.push((id, node.len()));
            if node.len() > left {
                part = Some((node.clone().into_owned(), left));
            }
            left = left.saturating_sub(node.len());
            Ok(ControlFlow::Continue(()))
        })?;
        for (id, count) in doomed {
            self.drop_node(txn, id, count);
        }
        if self.count > 0 {
            *self.end_id(end) = next.ok_or(CORRUPT)?;
        }
        Ok(part)
    }
}

fn u64_of(value: &[u8]) -> Result<u64, CommandError> {
    Ok(u64::from_be_bytes(value.try_into().map_err(|_| CORRUPT)?))
}

/// The way to an element over counts, from the end that is nearer.
struct Seek {
    index: u64,
    from: End,
    /// Elements before (from the left) or up to (from the right) the next row.
    at: u64,
    /// Of the row that was found.
    first: u64,
}

impl Seek {
    fn to(index: u64, of: u64) -> Seek {
        let (from, at) = match index < of / 2 {
            true => (End::Left, 0),
            false => (End::Right, of),
        };
        Seek {
            index,
            from,
            at,
            first: 0,
        }
    }

    /// Whether the next row, with so many elements, has the index; otherwise
    /// goes past it.
    fn covers(&mut self, count: u64) -> bool {
        match self.from {
            End::Left if self.index < self.at + count => self.first = self.at,
            End::Left => {
                self.at += count;
                return false;
            }
            End::Right => {
                let first = self.at.saturating_sub(count);
                if self.index < first {
                    self.at = first;
                    return false;
                }
                self.first = first;
            }
        }
        true
    }

    fn found_at(&self) -> u64 {
        self.first
    }
}
