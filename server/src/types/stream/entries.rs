//! Entries of a stream: appending, reading in order, deleting.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rocksdb::Direction;

use super::node::{self, Entry, Node};
use super::{CORRUPT, RowNodes, Stream, StreamId, TAG_NODE, Tail};
use crate::storage::TypeLimits;
use crate::txn::effects::Family;
use crate::txn::{CommandError, Txn};
use crate::types::rows::{Rows, rest_of};

/// A node is full at this size, bytes, whatever `stream-node-max-bytes` says:
/// it is rewritten with every append.
const NODE_MAX: usize = 16 << 10;

/// Entries from `start` to `end`, both included, in one direction.
#[derive(Clone, Copy)]
pub struct Range {
    pub start: StreamId,
    pub end: StreamId,
    pub direction: Direction,
}

/// Is shown entries, until it breaks.
pub type VisitEntry<'v> = dyn FnMut(Entry<'_>) -> Result<ControlFlow<()>, CommandError> + 'v;

impl Range {
    pub const ALL: Range = Range {
        start: StreamId::MIN,
        end: StreamId::MAX,
        direction: Direction::Forward,
    };

    /// All from `start` on.
    pub fn from(start: StreamId) -> Range {
        Range {
            start,
            ..Range::ALL
        }
    }

    /// Shows `visit` what of a node's row lies within it.
    pub fn show_row(
        &self,
        key: &[u8],
        value: &[u8],
        visit: &mut VisitEntry<'_>,
    ) -> Result<ControlFlow<()>, CommandError> {
        let id = StreamId::from_bytes(rest_of(key)).ok_or(CORRUPT)?;
        self.show(id, value, visit)
    }

    /// Shows `visit` those entries of a node that live and lie within the range.
    fn show(
        &self,
        id: StreamId,
        bytes: &[u8],
        visit: &mut VisitEntry<'_>,
    ) -> Result<ControlFlow<()>, CommandError> {
        let Range { start, end, .. } = *self;
        let node = Node::read(id, bytes)?;
        let mut outcome = Ok(ControlFlow::Continue(()));
        match self.direction {
            Direction::Forward => node.each(|entry| {
                if entry.id > end {
                    return false;
                }
                if entry.id >= start && !entry.deleted {
                    outcome = visit(entry);
                }
                matches!(outcome, Ok(ControlFlow::Continue(())))
            })?,
            Direction::Reverse => {
                let mut entries = Vec::with_capacity(node.live.min(1024) as usize);
                node.each(|entry| {
                    if entry.id >= start && !entry.deleted {
                        entries.push(entry);
                    }
                    entry.id <= end
                })?;
                for entry in entries.into_iter().rev().filter(|entry| entry.id <= end) {
                    outcome = visit(entry);
                    if !matches!(outcome, Ok(ControlFlow::Continue(()))) {
                        break;
                    }
                }
            }
        }
        outcome
    }
}

/// First key and end of a range of rows.
type Keys = (Vec<u8>, Vec<u8>);

impl Stream {
    /// Appends an entry; `pairs` are fields and values, alternating. The
    /// caller has checked that `id` is above the last.
    pub fn append(
        &mut self,
        txn: &mut Txn<'_>,
        id: StreamId,
        pairs: &[&[u8]],
    ) -> Result<(), CommandError> {
        let more: usize = pairs.iter().map(|part| part.len()).sum();
        match self.tail.take() {
            Some(mut tail) if !is_full(txn.limits(), &tail, more)? => {
                node::append(tail.id, &mut tail.bytes, id, pairs)?;
                self.tail = Some(tail);
            }
            full => {
                if let Some(full) = full {
                    self.move_to_row(txn, full, Some(id))?;
                }
                self.tail = Some(Tail {
                    id,
                    bytes: node::begin(id, pairs),
                });
            }
        }
        if self
            .tail
            .as_ref()
            .is_some_and(|tail| tail.bytes.len() > NODE_MAX)
        {
            let tail = self.tail.take().expect("just seen");
            self.move_to_row(txn, tail, None)?;
        }
        self.length += 1;
        self.entries_added = self.entries_added.wrapping_add(1);
        self.last_id = id;
        if self.length == 1 {
            self.first_id = id;
        }
        Ok(())
    }

    /// Makes a row of what was the tail; `next` is the new one's id.
    fn move_to_row(
        &mut self,
        txn: &mut Txn<'_>,
        tail: Tail,
        next: Option<StreamId>,
    ) -> Result<(), CommandError> {
        let rows = self.spread(txn);
        match &mut self.rows {
            Some(nodes) => nodes.count += 1,
            None => {
                self.rows = Some(RowNodes {
                    count: 1,
                    first: tail.id,
                    first_live: Node::read(tail.id, &tail.bytes)?.live,
                });
            }
        }
        let key = node_key(&rows, tail.id);
        let next = next.filter(|_| txn.store().names_nodes.load(Ordering::Acquire));
        txn.put_row(Family::Data, key, node::row_of(tail.bytes, next));
        Ok(())
    }

    /// Shows `visit` the entries of a range.
    pub fn scan(
        &self,
        txn: &mut Txn<'_>,
        range: Range,
        visit: &mut VisitEntry<'_>,
    ) -> Result<(), CommandError> {
        let range = self.within(range);
        let backwards = matches!(range.direction, Direction::Reverse);
        if backwards && self.scan_tail(range, visit)?.is_break() {
            return Ok(());
        }
        if let Some((from, until)) = self.nodes_of(txn, range)? {
            let mut outcome = Ok(ControlFlow::Continue(()));
            let family = Family::Data;
            txn.scan_rows(family, &from, &until, range.direction, &mut |key, value| {
                outcome = range.show_row(key, value, visit);
                match outcome {
                    Ok(flow) => flow,
                    Err(_) => ControlFlow::Break(()),
                }
            })?;
            if outcome?.is_break() {
                return Ok(());
            }
        }
        match backwards {
            true => Ok(()),
            false => self.scan_tail(range, visit).map(drop),
        }
    }

    /// What lies below the first entry was trimmed.
    pub fn within(&self, range: Range) -> Range {
        Range {
            start: range.start.max(self.first_id),
            ..range
        }
    }

    /// The part of a scan that lies in the tail.
    pub fn scan_tail(
        &self,
        range: Range,
        visit: &mut VisitEntry<'_>,
    ) -> Result<ControlFlow<()>, CommandError> {
        let is_empty = range.start > range.end || self.length == 0;
        match self.tail.as_ref().filter(|tail| tail.id <= range.end) {
            Some(tail) if !is_empty => range.show(tail.id, &tail.bytes, visit),
            _ => Ok(ControlFlow::Continue(())),
        }
    }

    /// Whether an entry of this id lies in the tail, and not in a row.
    pub fn is_in_tail(&self, id: StreamId) -> bool {
        self.tail.as_ref().is_some_and(|tail| tail.id <= id)
    }

    /// First key and end of the rows that a range reaches, which lies
    /// [`Stream::within`] the stream; `None`: it reaches none.
    pub fn nodes_of(&self, txn: &mut Txn<'_>, range: Range) -> Result<Option<Keys>, CommandError> {
        let Range { start, end, .. } = range;
        let (Some(rows), Some(nodes)) = (&self.rows_at, self.rows) else {
            return Ok(None);
        };
        if start > end || self.length == 0 || self.is_in_tail(start) {
            return Ok(None);
        }
        // The node that holds `start` begins at or before it.
        let from = match start <= self.first_id || start <= nodes.first {
            true => Some(nodes.first),
            false => self.floor(txn, start)?.map(|(id, _)| id),
        };
        let from = node_key(rows, from.unwrap_or(nodes.first));
        Ok(Some((from, after(rows, end))))
    }

    /// The last row at or below `id`.
    fn floor(
        &self,
        txn: &mut Txn<'_>,
        id: StreamId,
    ) -> Result<Option<(StreamId, Bytes)>, CommandError> {
        let (Some(rows), Some(nodes)) = (&self.rows_at, self.rows) else {
            return Ok(None);
        };
        let from = node_key(rows, nodes.first);
        let until = after(rows, id);
        first_row(txn, &from, &until, Direction::Reverse)
    }

    /// The first row above `id`.
    pub(super) fn row_above(
        &self,
        txn: &mut Txn<'_>,
        id: StreamId,
    ) -> Result<Option<(StreamId, Bytes)>, CommandError> {
        let Some(rows) = &self.rows_at else {
            return Ok(None);
        };
        let (_, until) = rows.range(TAG_NODE);
        first_row(txn, &after(rows, id), &until, Direction::Forward)
    }

    /// Id of the last entry there is.
    pub fn last_entry(&self, txn: &mut Txn<'_>) -> Result<Option<StreamId>, CommandError> {
        let mut last = None;
        let backwards = Range {
            direction: Direction::Reverse,
            ..Range::ALL
        };
        self.scan(txn, backwards, &mut |entry| {
            last = Some(entry.id);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(last)
    }

    /// Id of the first entry above `id`.
    pub(super) fn entry_above(
        &self,
        txn: &mut Txn<'_>,
        id: StreamId,
    ) -> Result<Option<StreamId>, CommandError> {
        let mut found = None;
        let Some(start) = id.next() else {
            return Ok(None);
        };
        self.scan(txn, Range::from(start), &mut |entry| {
            found = Some(entry.id);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Deletes one entry. False: there is none.
    pub fn delete(&mut self, txn: &mut Txn<'_>, id: StreamId) -> Result<bool, CommandError> {
        if self.length == 0 || id < self.first_id || id > self.last_id {
            return Ok(false);
        }
        let in_tail = self.tail.as_ref().is_some_and(|tail| tail.id <= id);
        let deleted = match in_tail {
            true => self.delete_in_tail(txn, id)?,
            false => self.delete_in_row(txn, id)?,
        };
        if !deleted {
            return Ok(false);
        }
        self.length -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if self.length == 0 {
            self.first_id = StreamId::MIN;
        } else if id == self.first_id {
            self.first_id = self.entry_above(txn, id)?.ok_or(CORRUPT)?;
        }
        Ok(true)
    }

    fn delete_in_tail(&mut self, txn: &mut Txn<'_>, id: StreamId) -> Result<bool, CommandError> {
        let tail = self.tail.as_mut().ok_or(CORRUPT)?;
        if node::mark(tail.id, &mut tail.bytes, |entry| entry == id)? == 0 {
            return Ok(false);
        }
        if Node::read(tail.id, &tail.bytes)?.live == 0 {
            self.tail = None;
            self.pull_tail(txn)?;
        }
        Ok(true)
    }

    fn delete_in_row(&mut self, txn: &mut Txn<'_>, id: StreamId) -> Result<bool, CommandError> {
        let Some((at, bytes)) = self.floor(txn, id)? else {
            return Ok(false);
        };
        let (mut bytes, next) = node::of_row(&bytes);
        if node::mark(at, &mut bytes, |entry| entry == id)? == 0 {
            return Ok(false);
        }
        let (Some(rows), Some(nodes)) = (&self.rows_at, &mut self.rows) else {
            return Err(CORRUPT);
        };
        let is_first = at == nodes.first;
        let live = match is_first {
            true => {
                nodes.first_live = nodes.first_live.saturating_sub(1);
                nodes.first_live
            }
            false => Node::read(at, &bytes)?.live,
        };
        let key = node_key(rows, at);
        match live {
            0 => self.drop_row(txn, at, is_first)?,
            _ => txn.put_row(Family::Data, key, node::row_of(bytes, next)),
        }
        Ok(true)
    }

    /// Deletes a node that is a row.
    fn drop_row(
        &mut self,
        txn: &mut Txn<'_>,
        at: StreamId,
        is_first: bool,
    ) -> Result<(), CommandError> {
        if is_first {
            return self.drop_first_row(txn, None);
        }
        let (Some(rows), Some(nodes)) = (&self.rows_at, &mut self.rows) else {
            return Err(CORRUPT);
        };
        txn.delete_row(Family::Data, node_key(rows, at));
        nodes.count -= 1;
        self.end_at_last_row(txn)
    }

    /// Without a tail the last row has no next node: ids may go on below that of the
    /// one that is gone (XSETID).
    fn end_at_last_row(&self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        if self.tail.is_some() {
            return Ok(());
        }
        let (Some(rows), Some((id, row))) = (&self.rows_at, self.floor(txn, StreamId::MAX)?) else {
            return Ok(());
        };
        if let (bytes, Some(_)) = node::of_row(&row) {
            txn.put_row(Family::Data, node_key(rows, id), node::row_of(bytes, None));
        }
        Ok(())
    }

    /// Deletes the first row. `next` is the row behind it, if it is known
    /// already: its id and how many entries live in it.
    pub(super) fn drop_first_row(
        &mut self,
        txn: &mut Txn<'_>,
        next: Option<(StreamId, u64)>,
    ) -> Result<(), CommandError> {
        let (Some(rows), Some(nodes)) = (self.rows_at, self.rows) else {
            return Err(CORRUPT);
        };
        txn.delete_row(Family::Data, node_key(&rows, nodes.first));
        if nodes.count <= 1 {
            self.rows = None;
            return Ok(());
        }
        let (first, first_live) = match next {
            Some(next) => next,
            None => {
                let (id, bytes) = self.row_above(txn, nodes.first)?.ok_or(CORRUPT)?;
                (id, Node::read(id, &bytes)?.live)
            }
        };
        self.rows = Some(RowNodes {
            count: nodes.count - 1,
            first,
            first_live,
        });
        Ok(())
    }

    /// With the tail gone, the last row is what XADD appends to.
    fn pull_tail(&mut self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        let Some((id, bytes)) = self.floor(txn, StreamId::MAX)? else {
            return Ok(());
        };
        let (mut bytes, _) = node::of_row(&bytes);
        if bytes.len() > NODE_MAX {
            return self.end_at_last_row(txn);
        }
        let nodes = self.rows.ok_or(CORRUPT)?;
        if nodes.first == id {
            // Only a first row may hold what was trimmed and is not marked.
            let first = self.first_id;
            node::mark(id, &mut bytes, |entry| entry < first)?;
        }
        self.drop_row(txn, id, nodes.first == id)?;
        self.tail = Some(Tail { id, bytes });
        Ok(())
    }

    /// One node's bytes.
    pub(super) fn row(&self, txn: &mut Txn<'_>, id: StreamId) -> Result<Bytes, CommandError> {
        self.find_row(txn, id)?.ok_or(CORRUPT)
    }

    /// One node's bytes; `None`: it is not a row.
    pub(super) fn find_row(
        &self,
        txn: &mut Txn<'_>,
        id: StreamId,
    ) -> Result<Option<Bytes>, CommandError> {
        let rows = self.rows_at.as_ref().ok_or(CORRUPT)?;
        txn.row(Family::Data, &node_key(rows, id))
    }

    /// Ids of the nodes, in order; at most `max`.
    pub fn node_ids(&self, txn: &mut Txn<'_>, max: usize) -> Result<Vec<StreamId>, CommandError> {
        let mut ids = Vec::new();
        if let (Some(rows), Some(nodes)) = (&self.rows_at, self.rows) {
            let (_, until) = rows.range(TAG_NODE);
            let from = node_key(rows, nodes.first);
            txn.scan_rows(
                Family::Data,
                &from,
                &until,
                Direction::Forward,
                &mut |key, _| {
                    ids.extend(StreamId::from_bytes(rest_of(key)));
                    match ids.len() < max {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                },
            )?;
        }
        ids.extend(self.tail.as_ref().map(|tail| tail.id));
        ids.truncate(max);
        Ok(ids)
    }
}

/// Looks single entries up; ids that are close together cost one row.
#[derive(Default)]
pub struct Lookup {
    node: Option<(StreamId, Bytes)>,
}

impl Lookup {
    /// Shows `show` the entry of this id. False: there is none.
    pub fn find(
        &mut self,
        txn: &mut Txn<'_>,
        stream: &Stream,
        id: StreamId,
        show: impl FnOnce(Entry<'_>) -> Result<(), CommandError>,
    ) -> Result<bool, CommandError> {
        if stream.length == 0 || id < stream.first_id || id > stream.last_id {
            return Ok(false);
        }
        if let Some(tail) = stream.tail.as_ref().filter(|tail| tail.id <= id) {
            return found(Node::read(tail.id, &tail.bytes)?.find(id)?, show);
        }
        if !self.holds(id)? {
            self.node = stream.floor(txn, id)?;
        }
        match &self.node {
            Some((at, bytes)) => found(Node::read(*at, bytes)?.find(id)?, show),
            None => Ok(false),
        }
    }

    fn holds(&self, id: StreamId) -> Result<bool, CommandError> {
        match &self.node {
            Some((at, bytes)) if *at <= id => Ok(id <= Node::read(*at, bytes)?.last_id()?),
            _ => Ok(false),
        }
    }
}

fn found(
    entry: Option<Entry<'_>>,
    show: impl FnOnce(Entry<'_>) -> Result<(), CommandError>,
) -> Result<bool, CommandError> {
    match entry {
        Some(entry) => show(entry).map(|()| true),
        None => Ok(false),
    }
}

fn node_key(rows: &Rows, id: StreamId) -> Vec<u8> {
    rows.key(TAG_NODE, &id.to_bytes())
}

/// The first key after the row of `id`.
fn after(rows: &Rows, id: StreamId) -> Vec<u8> {
    let mut key = node_key(rows, id);
    key.push(0);
    key
}

fn first_row(
    txn: &mut Txn<'_>,
    from: &[u8],
    until: &[u8],
    direction: Direction,
) -> Result<Option<(StreamId, Bytes)>, CommandError> {
    let mut row = None;
    txn.scan_rows(Family::Data, from, until, direction, &mut |key, value| {
        let id = StreamId::from_bytes(rest_of(key));
        row = id.map(|id| (id, Bytes::copy_from_slice(value)));
        ControlFlow::Break(())
    })?;
    Ok(row)
}

/// Whether an entry of `more` bytes begins a new node.
fn is_full(limits: &TypeLimits, tail: &Tail, more: usize) -> Result<bool, CommandError> {
    let max_bytes = match limits.stream_node_bytes.load(Ordering::Relaxed) {
        0 => NODE_MAX,
        bytes => bytes.min(NODE_MAX),
    };
    let node = Node::read(tail.id, &tail.bytes)?;
    let max_entries = limits.stream_node_entries.load(Ordering::Relaxed) as u64;
    Ok(node.len() + more >= max_bytes
        || (max_entries > 0 && node.live + node.deleted >= max_entries))
}
