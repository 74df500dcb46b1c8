//! Trimming: whole nodes from the front, and then, unless it is approximate,
//! entries within the first node.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use rocksdb::Direction;

use super::node::{self, Node};
use super::{CORRUPT, Stream, StreamId, TAG_NODE};
use crate::txn::effects::Family;
use crate::txn::{CommandError, Txn};
use crate::types::rows::rest_of;

/// Rows that are looked at in one scan, at most.
const LOOK_AHEAD: usize = 128;
/// Rows that are fetched into memory when one had to be fetched from the disk.
const FETCH_AHEAD: usize = 32;

/// What is to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    MaxLen(u64),
    MinId(StreamId),
}

/// What XTRIM, or XADD with its options, asks for.
#[derive(Clone, Copy, Debug)]
pub struct Trim {
    pub to: TrimTo,
    /// Whole nodes only.
    pub approximate: bool,
    /// Entries to delete at most; 0: no limit.
    pub limit: u64,
}

/// A node that may go.
#[derive(Clone, Copy)]
struct Front {
    id: StreamId,
    live: u64,
    last: StreamId,
}

impl Front {
    fn of(node: &Node<'_>) -> Result<Front, CommandError> {
        Ok(Front {
            id: node.id,
            live: node.live,
            last: node.last_id()?,
        })
    }
}

impl Stream {
    /// Deletes entries from the front; how many.
    pub fn trim(&mut self, txn: &mut Txn<'_>, trim: &Trim) -> Result<u64, CommandError> {
        let before = self.length;
        if self.takes_all(trim) {
            self.clear(txn);
        }
        let mut ahead = Ahead::default();
        while self.length > 0 && !self.is_trimmed(trim.to) {
            let live = self.front_live()?;
            let deleted = before - self.length;
            if trim.limit > 0 && deleted + live > trim.limit {
                break;
            }
            let whole = match trim.to {
                TrimTo::MaxLen(max) => self.length - live >= max,
                TrimTo::MinId(min) => self.front_last(txn, &mut ahead)? < min,
            };
            if whole {
                self.drop_front(txn, &mut ahead)?;
                self.length -= live;
                continue;
            }
            if !trim.approximate {
                self.cut_front(txn, trim.to)?;
            }
            break;
        }
        let deleted = before - self.length;
        if self.length == 0 {
            self.first_id = StreamId::MIN;
        } else if deleted > 0 {
            self.find_first(txn)?;
        }
        Ok(deleted)
    }

    /// Whether nothing has to go: told without a look at a node.
    fn is_trimmed(&self, to: TrimTo) -> bool {
        match to {
            TrimTo::MaxLen(max) => self.length <= max,
            TrimTo::MinId(min) => min <= self.first_id,
        }
    }

    /// Whether all goes, and nothing else would lose its rows.
    fn takes_all(&self, trim: &Trim) -> bool {
        let all = match trim.to {
            TrimTo::MaxLen(max) => max == 0,
            TrimTo::MinId(min) => min > self.last_id,
        };
        all && (trim.limit == 0 || trim.limit >= self.length) && self.groups == 0
    }

    /// O(1): the rows become garbage with their version.
    fn clear(&mut self, txn: &mut Txn<'_>) {
        if self.rows.is_some() {
            self.rows_at = None;
            self.spread(txn);
        }
        self.rows = None;
        self.tail = None;
        self.length = 0;
    }

    /// Entries that live in the first node.
    fn front_live(&self) -> Result<u64, CommandError> {
        match (&self.rows, &self.tail) {
            (Some(rows), _) => Ok(rows.first_live),
            (None, Some(tail)) => Ok(Node::read(tail.id, &tail.bytes)?.live),
            (None, None) => Err(CORRUPT),
        }
    }

    /// Id of the first node's last entry.
    fn front_last(&self, txn: &mut Txn<'_>, ahead: &mut Ahead) -> Result<StreamId, CommandError> {
        match (&self.rows, &self.tail) {
            (Some(_), _) => Ok(ahead.first(self, txn)?.last),
            (None, Some(tail)) => Node::read(tail.id, &tail.bytes)?.last_id(),
            (None, None) => Err(CORRUPT),
        }
    }

    fn drop_front(&mut self, txn: &mut Txn<'_>, ahead: &mut Ahead) -> Result<(), CommandError> {
        let Some(rows) = self.rows else {
            self.tail = None;
            return Ok(());
        };
        let next = match rows.count > 1 {
            true => Some(ahead.second(self, txn)?),
            false => None,
        };
        self.drop_first_row(txn, next.map(|next| (next.id, next.live)))
    }

    /// Deletes within the first node, which does not go as a whole.
    fn cut_front(&mut self, txn: &mut Txn<'_>, to: TrimTo) -> Result<(), CommandError> {
        let length = self.length;
        if self.rows.is_some() {
            return self.cut_first_row(txn, to);
        }
        let tail = self.tail.as_mut().ok_or(CORRUPT)?;
        let mut spare = match to {
            TrimTo::MaxLen(max) => length - max,
            TrimTo::MinId(_) => u64::MAX,
        };
        let cut = node::mark(tail.id, &mut tail.bytes, |id| match to {
            TrimTo::MinId(min) => id < min,
            TrimTo::MaxLen(_) if spare > 0 => {
                spare -= 1;
                true
            }
            TrimTo::MaxLen(_) => false,
        })?;
        self.length -= cut;
        Ok(())
    }

    /// Moves the first id within the first row, which stays as it is.
    fn cut_first_row(&mut self, txn: &mut Txn<'_>, to: TrimTo) -> Result<(), CommandError> {
        let at = self.rows.ok_or(CORRUPT)?.first;
        let bytes = self.row(txn, at)?;
        let ids = Node::read(at, &bytes)?.live_ids()?;
        let first = self.first_id;
        let mut live = ids.into_iter().filter(|id| *id >= first);
        let stays = match to {
            TrimTo::MaxLen(max) => live.nth((self.length - max) as usize),
            TrimTo::MinId(min) => live.find(|id| *id >= min),
        };
        // Otherwise the node would have gone, or only marked entries are left
        // in it above the line.
        let cut = match stays {
            Some(stays) => {
                let left = 1 + live.count() as u64;
                let nodes = self.rows.as_mut().ok_or(CORRUPT)?;
                let cut = nodes.first_live.checked_sub(left).ok_or(CORRUPT)?;
                nodes.first_live = left;
                self.first_id = stays;
                cut
            }
            None => {
                let cut = self.front_live()?;
                self.drop_first_row(txn, None)?;
                cut
            }
        };
        self.length -= cut;
        Ok(())
    }

    /// Sets the first id to what the first node has.
    fn find_first(&mut self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        let old = self.first_id;
        let ids = match (&self.rows, &self.tail) {
            (Some(rows), _) => {
                let bytes = self.row(txn, rows.first)?;
                Node::read(rows.first, &bytes)?.live_ids()?
            }
            (None, Some(tail)) => Node::read(tail.id, &tail.bytes)?.live_ids()?,
            (None, None) => return Err(CORRUPT),
        };
        let first = ids.into_iter().find(|id| *id >= old);
        self.first_id = first.ok_or(CORRUPT)?;
        Ok(())
    }
}

/// Rows at the front, read some at a time.
#[derive(Default)]
struct Ahead {
    nodes: VecDeque<Front>,
    /// How many the next scan reads.
    chunk: usize,
}

impl Ahead {
    /// The first row; by its name as long as no scan has shown more.
    fn first(&mut self, stream: &Stream, txn: &mut Txn<'_>) -> Result<Front, CommandError> {
        if self.chunk > 1 {
            return self.at(stream, txn, 0);
        }
        let id = stream.rows.ok_or(CORRUPT)?.first;
        let row = stream.row(txn, id)?;
        Front::of(&Node::read(id, &row)?)
    }

    /// The row behind the first. One is found by its name, as a rule in the record
    /// cache; more than one within a command by scans.
    fn second(&mut self, stream: &Stream, txn: &mut Txn<'_>) -> Result<Front, CommandError> {
        if self.chunk == 0 {
            self.chunk = 1;
            if let Some(front) = next_by_name(stream, txn)? {
                return Ok(front);
            }
        }
        self.at(stream, txn, 1)
    }

    fn at(
        &mut self,
        stream: &Stream,
        txn: &mut Txn<'_>,
        index: usize,
    ) -> Result<Front, CommandError> {
        let first = stream.rows.ok_or(CORRUPT)?.first;
        while self.nodes.front().is_some_and(|node| node.id < first) {
            self.nodes.pop_front();
        }
        if self.nodes.len() <= index {
            self.fill(stream, txn, first)?;
        }
        self.nodes.get(index).copied().ok_or(CORRUPT)
    }

    fn fill(
        &mut self,
        stream: &Stream,
        txn: &mut Txn<'_>,
        first: StreamId,
    ) -> Result<(), CommandError> {
        let rows = stream.rows_at.ok_or(CORRUPT)?;
        self.chunk = (self.chunk * 4).clamp(2, LOOK_AHEAD);
        self.nodes.clear();
        let from = rows.key(TAG_NODE, &first.to_bytes());
        let (_, until) = rows.range(TAG_NODE);
        let mut failed = None;
        txn.scan_rows(
            Family::Data,
            &from,
            &until,
            Direction::Forward,
            &mut |key, value| {
                match front(key, value) {
                    Ok(node) => self.nodes.push_back(node),
                    Err(error) => failed = Some(error),
                }
                match failed.is_none() && self.nodes.len() < self.chunk {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            },
        )?;
        failed.map_or(Ok(()), Err)
    }
}

/// The row behind the first, if the first one names it and it is there.
fn next_by_name(stream: &Stream, txn: &mut Txn<'_>) -> Result<Option<Front>, CommandError> {
    let first = stream.rows.ok_or(CORRUPT)?.first;
    let Some(id) = Node::read(first, &stream.row(txn, first)?)?.next else {
        return Ok(None);
    };
    let Some(row) = stream.find_row(txn, id)? else {
        return Ok(None);
    };
    let node = Node::read(id, &row)?;
    if txn.require_disk().is_ok() {
        fetch_ahead(stream, txn, node.next)?;
    }
    Front::of(&node).map(Some)
}

/// Has the nodes that go next in memory: the next commands need not wait for them.
fn fetch_ahead(
    stream: &Stream,
    txn: &mut Txn<'_>,
    mut next: Option<StreamId>,
) -> Result<(), CommandError> {
    for _ in 0..FETCH_AHEAD {
        let Some(id) = next else { break };
        let Some(row) = stream.find_row(txn, id)? else {
            break;
        };
        next = Node::read(id, &row)?.next;
    }
    Ok(())
}

fn front(key: &[u8], value: &[u8]) -> Result<Front, CommandError> {
    let id = StreamId::from_bytes(rest_of(key)).ok_or(CORRUPT)?;
    Front::of(&Node::read(id, value)?)
}
