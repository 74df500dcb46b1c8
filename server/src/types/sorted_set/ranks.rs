//! Counts above the order of a spread sorted set: ranks without long scans.
//!
//! A counted B-tree whose nodes are rows. On each level a row stands for the
//! places from its own separator to the next one of its level and holds how
//! many members are there; the first separator of a level is empty, and the
//! separators of a level are among those of the level below. How the rows look, and
//! which of them are not written, is `counts`.
//!
//! A row of level n holds at most 1024^n members and is split above that; one
//! that shrinks is joined with a neighbour, unless the level above needs its
//! separator. A set has as many levels as keep the top one short: none up to
//! 1024 members, one up to a million (one row more per change), two above. A
//! rank costs a scan of one or two thousand rows per level, of the lowest one a
//! count of them. Programs before this one had 256: either goes on with what the
//! other wrote, whose rows it splits and joins as it changes them, and a set that
//! grew under both may have a level too many or some more rows on one.

use std::ops::ControlFlow;

#[cfg(test)]
use rocksdb::Direction;

use super::counts::{CORRUPT, Counts, Row};
use super::place::separator;
use crate::txn::effects::Family;
use crate::txn::{CommandError, Known, Txn};
use crate::types::rows::{Rows, rest_of};

/// Members, or rows of the level below, that a row stands for at most.
#[cfg(not(test))]
fn fanout() -> u64 {
    1024
}

// Tests have few members and want many levels, and some want programs that differ.
#[cfg(test)]
thread_local! {
    pub static FANOUT: std::cell::Cell<u64> = const { std::cell::Cell::new(MOST_IN_TESTS) };
}
#[cfg(test)]
const MOST_IN_TESTS: u64 = 16;
#[cfg(test)]
fn fanout() -> u64 {
    FANOUT.get()
}

/// What a row is to be: separator and members.
type Node = (Vec<u8>, u64);

/// The counts of one set. See the module's documentation.
#[derive(Clone, Copy)]
pub struct Ranks {
    counts: Counts,
    pub levels: u8,
}

/// Members that a row of a level may hold.
fn capacity(level: u8) -> u64 {
    fanout().saturating_pow(u32::from(level))
}

/// Whether a row of a level is to be joined with another one.
fn is_small(level: u8, count: Known) -> bool {
    matches!(count, Known::Number(count) if count <= capacity(level) / 8)
}

impl Ranks {
    pub fn of(rows: Rows, levels: u8) -> Ranks {
        let counts = Counts::of(rows);
        Ranks { counts, levels }
    }

    /// Notes a new member; its row is in place, `size` counts it already.
    pub fn add(&mut self, txn: &mut Txn<'_>, place: &[u8], size: u64) -> Result<(), CommandError> {
        self.counts.make_room(txn);
        for level in 1..=self.levels {
            let row = self.counts.covering(txn, level, place)?;
            let count = self.changed(txn, &row, 1)?;
            self.set(txn, row, count)?;
        }
        while size > capacity(self.levels + 1) {
            self.levels += 1;
            self.counts.put(txn, self.levels, b"", size);
            let whole = self.counts.get(txn, self.levels, b"")?.ok_or(CORRUPT)?;
            self.set(txn, whole, Known::Number(size))?;
        }
        Ok(())
    }

    /// Notes that a member has moved; its rows are in place.
    pub fn moved(&mut self, txn: &mut Txn<'_>, from: &[u8], to: &[u8]) -> Result<(), CommandError> {
        self.counts.make_room(txn);
        let mut shrunk = Vec::new();
        for level in 1..=self.levels {
            let old = self.counts.covering(txn, level, from)?;
            let new = self.counts.covering(txn, level, to)?;
            if old == new {
                // Separators above are among these: nothing changes there.
                break;
            }
            let less = self.changed(txn, &old, -1)?;
            let more = self.changed(txn, &new, 1)?;
            if is_small(level, less) {
                shrunk.push((level, old.separator().to_vec()));
            }
            self.counts.set(txn, old, less)?;
            self.set(txn, new, more)?;
        }
        self.settle_all(txn, shrunk)
    }

    /// Notes that members have gone, given in order; their rows are deleted.
    pub fn remove(&mut self, txn: &mut Txn<'_>, places: &[Vec<u8>]) -> Result<(), CommandError> {
        let (Some(first), Some(last)) = (places.first(), places.last()) else {
            return Ok(());
        };
        self.counts.make_room(txn);
        let mut shrunk = Vec::new();
        for level in 1..=self.levels {
            let covering = self.counts.covering(txn, level, first)?;
            let end = self.counts.key_behind(level, last);
            let first = self.counts.key(level, covering.separator());
            let rows = self.counts.rows(txn, &(first, end))?;
            let mut rest = places;
            let mut rows = rows.into_iter().peekable();
            while let Some(row) = rows.next() {
                let inside = match rows.peek() {
                    Some(next) => rest.partition_point(|place| &place[..] < next.separator()),
                    None => rest.len(),
                };
                rest = &rest[inside..];
                if inside > 0 {
                    let left = self.changed(txn, &row, -(inside as i64))?;
                    if is_small(level, left) {
                        shrunk.push((level, row.separator().to_vec()));
                    }
                    self.counts.set(txn, row, left)?;
                }
            }
        }
        self.settle_all(txn, shrunk)
    }

    /// Writes the counts of a set that has none, from its places in order.
    pub fn build(&mut self, txn: &mut Txn<'_>, places: &[Vec<u8>]) {
        let mut nodes: Vec<Node> = Vec::new();
        while places.len() as u64 > capacity(self.levels + 1) {
            self.levels += 1;
            nodes = match self.levels {
                1 => groups_of_places(places),
                _ => groups_of_nodes(&nodes),
            };
            for (sep, count) in &nodes {
                self.counts.put(txn, self.levels, sep, *count);
            }
        }
    }

    /// Number of members below a place.
    pub fn rank(&self, txn: &mut Txn<'_>, place: &[u8]) -> Result<u64, CommandError> {
        self.counts.ask(txn);
        let mut from = Vec::new();
        let mut before = 0;
        for level in (1..=self.levels).rev() {
            let mut last = 0;
            let first = self.counts.key(level, &from);
            let keys = (first, self.counts.key_behind(level, place));
            self.counts.scan(txn, keys, |sep, count| {
                before += last;
                last = count;
                from.clear();
                from.extend_from_slice(sep);
                ControlFlow::Continue(())
            })?;
        }
        let (first, end) = self.counts.order(&from, Some(place));
        Ok(before + txn.count_rows(Family::Score, &first, &end)?)
    }

    /// The place of the member that has `index` others before it.
    pub fn place_at(&self, txn: &mut Txn<'_>, index: u64) -> Result<Option<Vec<u8>>, CommandError> {
        self.counts.ask(txn);
        let mut from = Vec::new();
        let mut left = index;
        for level in (1..=self.levels).rev() {
            let keys = self.counts.between(level, &from, None);
            self.counts.scan(txn, keys, |sep, count| {
                from.clear();
                from.extend_from_slice(sep);
                if left < count {
                    return ControlFlow::Break(());
                }
                left -= count;
                ControlFlow::Continue(())
            })?;
        }
        let (first, end) = self.counts.order(&from, None);
        txn.nth_row(Family::Score, &first, &end, left, |key, _| {
            rest_of(key).to_vec()
        })
    }

    // Splitting and joining.

    /// What a count is after a change. Of one that nobody knows, a quarter of what a row
    /// may hold goes unnoticed.
    fn changed(&self, txn: &mut Txn<'_>, row: &Row, change: i64) -> Result<Known, CommandError> {
        let most = capacity(row.level()) / 4;
        self.counts.changed(txn, row, change, most)
    }

    /// Sets a count that has grown; splits the row if it is too much for it.
    fn set(&self, txn: &mut Txn<'_>, row: Row, known: Known) -> Result<(), CommandError> {
        let level = row.level();
        if let Known::Number(count) = known
            && count > capacity(level)
            && let Some((middle, below)) = self.middle(txn, &row, count / 2)?
        {
            self.counts.put(txn, level, row.separator(), below);
            self.counts
                .put(txn, level, &middle, count.saturating_sub(below));
            return Ok(());
        }
        self.counts.set(txn, row, known)
    }

    /// Where to split a row: a separator with about `half` of its members
    /// below, and how many these are.
    fn middle(
        &self,
        txn: &mut Txn<'_>,
        row: &Row,
        half: u64,
    ) -> Result<Option<Node>, CommandError> {
        let next = self.counts.after(txn, row)?;
        let next = next.as_ref().map(Row::separator);
        if row.level() > 1 {
            let mut below = 0;
            let mut found = None;
            let keys = self.counts.between(row.level() - 1, row.separator(), next);
            self.counts.scan(txn, keys, |child, count| {
                if below > 0 {
                    found = Some((child.to_vec(), below));
                }
                below += count;
                match found.is_some() && below > half {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
            return Ok(found);
        }
        let (first, end) = self.counts.order(row.separator(), next);
        let (mut below, mut left, mut found) = (0, Vec::new(), None);
        let mut visit = |key: &[u8], _: &[u8]| {
            let place = rest_of(key);
            if below == half {
                found = Some((separator(&left, place), below));
                return ControlFlow::Break(());
            }
            below += 1;
            if below == half {
                left = place.to_vec();
            }
            ControlFlow::Continue(())
        };
        txn.scan_rows_once(Family::Score, &first, &end, &mut visit)?;
        Ok(found)
    }

    /// Joins rows that have become small, upper levels first: their
    /// separators are then free below.
    fn settle_all(
        &self,
        txn: &mut Txn<'_>,
        shrunk: Vec<(u8, Vec<u8>)>,
    ) -> Result<(), CommandError> {
        for (level, sep) in shrunk.into_iter().rev() {
            self.settle(txn, level, sep)?;
        }
        Ok(())
    }

    fn settle(&self, txn: &mut Txn<'_>, level: u8, sep: Vec<u8>) -> Result<(), CommandError> {
        let (mut level, mut sep) = (level, sep);
        while level > 0 {
            let Some(freed) = self.join(txn, level, &sep)? else {
                break;
            };
            (level, sep) = (level - 1, freed);
        }
        Ok(())
    }

    /// Joins one row with a neighbour if it is small and that has room. Tells
    /// the separator that the level does not need any more.
    fn join(
        &self,
        txn: &mut Txn<'_>,
        level: u8,
        sep: &[u8],
    ) -> Result<Option<Vec<u8>>, CommandError> {
        let Some(row) = self.counts.get(txn, level, sep)? else {
            return Ok(None);
        };
        let count = self.counts.number(txn, &row)?;
        if !is_small(level, Known::Number(count)) {
            return Ok(None);
        }
        if !self.is_boundary(txn, &row)?
            && let Some(left) = self.counts.before(txn, &row)?
            && let Some(both) = self.together(txn, count, &left)?
        {
            self.counts.delete(txn, row);
            self.counts.put(txn, level, left.separator(), both);
            return Ok(Some(sep.to_vec()));
        }
        if let Some(right) = self.counts.after(txn, &row)?
            && !self.is_boundary(txn, &right)?
            && let Some(both) = self.together(txn, count, &right)?
        {
            let freed = right.separator().to_vec();
            self.counts.delete(txn, right);
            self.counts.put(txn, level, sep, both);
            return Ok(Some(freed));
        }
        Ok(None)
    }

    /// What a row would hold with `count` members more, if it has room for them.
    fn together(
        &self,
        txn: &mut Txn<'_>,
        count: u64,
        row: &Row,
    ) -> Result<Option<u64>, CommandError> {
        let both = self.counts.number(txn, row)? + count;
        let fits = count == 0 || both <= capacity(row.level()) / 2;
        Ok(fits.then_some(both))
    }

    /// Whether the level above, or the start of the level, needs a separator.
    fn is_boundary(&self, txn: &mut Txn<'_>, row: &Row) -> Result<bool, CommandError> {
        let (level, sep) = (row.level(), row.separator());
        let above = level < self.levels && self.counts.get(txn, level + 1, sep)?.is_some();
        Ok(above || sep.is_empty())
    }

    /// Panics unless every row counts what it stands for, which is at most `times` what
    /// it may be.
    #[cfg(test)]
    pub fn check(&self, txn: &mut Txn<'_>, len: u64, times: u64) {
        FANOUT.set(MOST_IN_TESTS);
        let (first, end) = self.counts.order(b"", None);
        let mut places = Vec::new();
        txn.scan_rows(
            Family::Score,
            &first,
            &end,
            Direction::Forward,
            &mut |key, _| {
                places.push(rest_of(key).to_vec());
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        assert_eq!(places.len() as u64, len);
        assert!(len <= capacity(self.levels + 1));
        for level in 1..=self.levels {
            let keys = self.counts.between(level, b"", None);
            let rows = self.counts.rows(txn, &keys).unwrap();
            assert_eq!(rows[0].separator(), b"");
            for (at, row) in rows.iter().enumerate() {
                let sep = row.separator();
                let next = rows.get(at + 1).map(Row::separator);
                let inside = places
                    .iter()
                    .filter(|p| &p[..] >= sep && next.is_none_or(|next| &p[..] < next));
                let count = self.counts.number(txn, row).unwrap();
                assert_eq!(inside.count() as u64, count, "level {level}, row {at}");
                assert!(count <= times * capacity(level));
                let below = self.counts.get(txn, level.max(2) - 1, sep).unwrap();
                assert!(level == 1 || below.is_some());
            }
        }
        let above = self.counts.between(self.levels + 1, b"", None);
        assert!(self.counts.rows(txn, &above).unwrap().is_empty());
    }
}

/// Half-filled rows of the lowest level.
fn groups_of_places(places: &[Vec<u8>]) -> Vec<Node> {
    let size = (fanout() / 2) as usize;
    let mut nodes = Vec::with_capacity(places.len() / size + 1);
    for (at, group) in places.chunks(size).enumerate() {
        let sep = match at {
            0 => Vec::new(),
            _ => separator(&places[at * size - 1], &group[0]),
        };
        nodes.push((sep, group.len() as u64));
    }
    nodes
}

/// Rows of a level from those of the level below.
fn groups_of_nodes(below: &[Node]) -> Vec<Node> {
    let groups = below.chunks((fanout() / 2) as usize);
    groups
        .map(|group| (group[0].0.clone(), group.iter().map(|(_, n)| n).sum()))
        .collect()
}
