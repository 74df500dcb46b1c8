//! Counts above the order of a spread sorted set: ranks without long scans.
//!
//! A counted B-tree whose nodes are rows. On each level a row stands for the
//! places from its own separator to the next one of its level and holds how
//! many members are there; the first separator of a level is empty, and the
//! separators of a level are among those of the level below.
//!
//! ```text
//! score   tag 2 | level u8 (1 is the lowest) | separator   ->   members u64 BE
//! ```
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

use bytes::Bytes;
use rocksdb::Direction;

use super::place::separator;
use super::spread::TAG_ORDER;
use crate::txn::effects::Family;
use crate::txn::{CommandError, Txn};
use crate::types::rows::{Rows, rest_of};

/// Frozen, in the family `score`.
const TAG_COUNTS: u8 = 2;
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

const CORRUPT: CommandError = CommandError::Corrupt("the counts of a sorted set");

/// A row: separator and members.
type Node = (Vec<u8>, u64);

/// The counts of one set. See the module's documentation.
#[derive(Clone, Copy)]
pub struct Ranks {
    rows: Rows,
    pub levels: u8,
}

/// Members that a row of a level may hold.
fn capacity(level: u8) -> u64 {
    fanout().saturating_pow(u32::from(level))
}

/// Whether a row of a level is to be joined with another one.
fn is_small(level: u8, count: u64) -> bool {
    count <= capacity(level) / 8
}

impl Ranks {
    pub fn of(rows: Rows, levels: u8) -> Ranks {
        Ranks { rows, levels }
    }

    /// Notes a new member; its row is in place, `size` counts it already.
    pub fn add(&mut self, txn: &mut Txn<'_>, place: &[u8], size: u64) -> Result<(), CommandError> {
        for level in 1..=self.levels {
            let (sep, count) = self.covering(txn, level, place)?;
            self.set(txn, level, &sep, count + 1)?;
        }
        while size > capacity(self.levels + 1) {
            self.levels += 1;
            self.set(txn, self.levels, b"", size)?;
        }
        Ok(())
    }

    /// Notes that a member has moved; its rows are in place.
    pub fn moved(&mut self, txn: &mut Txn<'_>, from: &[u8], to: &[u8]) -> Result<(), CommandError> {
        let mut shrunk = Vec::new();
        for level in 1..=self.levels {
            let (old, old_count) = self.covering(txn, level, from)?;
            let (new, new_count) = self.covering(txn, level, to)?;
            if old == new {
                // Separators above are among these: nothing changes there.
                break;
            }
            let less = old_count.checked_sub(1).ok_or(CORRUPT)?;
            self.put(txn, level, &old, less);
            if is_small(level, less) {
                shrunk.push((level, old));
            }
            self.set(txn, level, &new, new_count + 1)?;
        }
        self.settle_all(txn, shrunk)
    }

    /// Notes that members have gone, given in order; their rows are deleted.
    pub fn remove(&mut self, txn: &mut Txn<'_>, places: &[Vec<u8>]) -> Result<(), CommandError> {
        let (Some(first), Some(last)) = (places.first(), places.last()) else {
            return Ok(());
        };
        let mut shrunk = Vec::new();
        for level in 1..=self.levels {
            let (sep, _) = self.covering(txn, level, first)?;
            let nodes = self.nodes(txn, level, &sep, Some(&behind(last)))?;
            let mut rest = places;
            for (at, (sep, count)) in nodes.iter().enumerate() {
                let inside = match nodes.get(at + 1) {
                    Some((next, _)) => rest.partition_point(|place| place < next),
                    None => rest.len(),
                };
                rest = &rest[inside..];
                if inside > 0 {
                    let left = count.checked_sub(inside as u64).ok_or(CORRUPT)?;
                    self.put(txn, level, sep, left);
                    if is_small(level, left) {
                        shrunk.push((level, sep.clone()));
                    }
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
                self.put(txn, self.levels, sep, *count);
            }
        }
    }

    /// Number of members below a place.
    pub fn rank(&self, txn: &mut Txn<'_>, place: &[u8]) -> Result<u64, CommandError> {
        let mut from = Vec::new();
        let mut before = 0;
        for level in (1..=self.levels).rev() {
            let mut last = 0;
            let keys = (self.key(level, &from), self.key_behind(level, place));
            self.scan_keys(txn, keys, |sep, count| {
                before += last;
                last = count;
                from.clear();
                from.extend_from_slice(sep);
                ControlFlow::Continue(())
            })?;
        }
        let (first, end) = self.order(&from, Some(place));
        Ok(before + txn.count_rows(Family::Score, &first, &end)?)
    }

    /// The place of the member that has `index` others before it.
    pub fn place_at(&self, txn: &mut Txn<'_>, index: u64) -> Result<Option<Vec<u8>>, CommandError> {
        let mut from = Vec::new();
        let mut left = index;
        for level in (1..=self.levels).rev() {
            let keys = (self.key(level, &from), self.key(level + 1, b""));
            self.scan_keys(txn, keys, |sep, count| {
                from.clear();
                from.extend_from_slice(sep);
                if left < count {
                    return ControlFlow::Break(());
                }
                left -= count;
                ControlFlow::Continue(())
            })?;
        }
        let (first, end) = self.order(&from, None);
        txn.nth_row(Family::Score, &first, &end, left, |key, _| {
            rest_of(key).to_vec()
        })
    }

    // Splitting and joining.

    /// Sets a count that has grown; splits the row if it is too much for it.
    fn set(
        &self,
        txn: &mut Txn<'_>,
        level: u8,
        sep: &[u8],
        count: u64,
    ) -> Result<(), CommandError> {
        let middle = match count > capacity(level) {
            true => self.middle(txn, level, sep, count / 2)?,
            false => None,
        };
        match middle {
            Some((middle, below)) => {
                self.put(txn, level, sep, below);
                self.put(txn, level, &middle, count.saturating_sub(below));
            }
            None => self.put(txn, level, sep, count),
        }
        Ok(())
    }

    /// Where to split a row: a separator with about `half` of its members
    /// below, and how many these are.
    fn middle(
        &self,
        txn: &mut Txn<'_>,
        level: u8,
        sep: &[u8],
        half: u64,
    ) -> Result<Option<Node>, CommandError> {
        let next = self.after(txn, level, sep)?.map(|(next, _)| next);
        if level > 1 {
            let mut below = 0;
            let mut found = None;
            self.scan(txn, level - 1, sep, next.as_deref(), |child, count| {
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
        let (first, end) = self.order(sep, next.as_deref());
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
        let Some(count) = self.get(txn, level, sep)? else {
            return Ok(None);
        };
        if !is_small(level, count) {
            return Ok(None);
        }
        let fits = |other: u64| count == 0 || count + other <= capacity(level) / 2;
        if !self.is_boundary(txn, level, sep)?
            && let Some((left, other)) = self.before(txn, level, sep)?
            && fits(other)
        {
            self.delete(txn, level, sep);
            self.put(txn, level, &left, other + count);
            return Ok(Some(sep.to_vec()));
        }
        if let Some((right, other)) = self.after(txn, level, sep)?
            && fits(other)
            && !self.is_boundary(txn, level, &right)?
        {
            self.delete(txn, level, &right);
            self.put(txn, level, sep, other + count);
            return Ok(Some(right));
        }
        Ok(None)
    }

    /// Whether the level above, or the start of the level, needs a separator.
    fn is_boundary(&self, txn: &mut Txn<'_>, level: u8, sep: &[u8]) -> Result<bool, CommandError> {
        let above = level < self.levels && self.get(txn, level + 1, sep)?.is_some();
        Ok(above || sep.is_empty())
    }

    /// Panics unless every row counts what it stands for.
    #[cfg(test)]
    pub fn check(&self, txn: &mut Txn<'_>, len: u64) {
        FANOUT.set(MOST_IN_TESTS);
        let (first, end) = self.order(b"", None);
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
            let nodes = self.nodes(txn, level, b"", None).unwrap();
            assert_eq!(nodes[0].0, b"");
            for (at, (sep, count)) in nodes.iter().enumerate() {
                let next = nodes.get(at + 1).map(|(next, _)| next);
                let inside = places
                    .iter()
                    .filter(|p| *p >= sep && next.is_none_or(|next| *p < next));
                assert_eq!(inside.count() as u64, *count, "level {level}, row {at}");
                assert!(*count <= capacity(level));
                assert!(level == 1 || self.get(txn, level - 1, sep).unwrap().is_some());
            }
        }
        let above = self.nodes(txn, self.levels + 1, b"", None).unwrap();
        assert!(above.is_empty());
    }

    // Rows.

    fn key(&self, level: u8, sep: &[u8]) -> Vec<u8> {
        // With room for what `key_behind` adds.
        let mut key = self.rows.key_with_room(TAG_COUNTS, sep.len() + 2);
        key.push(level);
        key.extend_from_slice(sep);
        key
    }

    /// The first key behind that of a separator.
    fn key_behind(&self, level: u8, sep: &[u8]) -> Vec<u8> {
        let mut key = self.key(level, sep);
        key.push(0);
        key
    }

    fn order(&self, from: &[u8], to: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
        let end = match to {
            Some(to) => self.rows.key(TAG_ORDER, to),
            None => self.rows.range(TAG_ORDER).1,
        };
        (self.rows.key(TAG_ORDER, from), end)
    }

    fn put(&self, txn: &mut Txn<'_>, level: u8, sep: &[u8], count: u64) {
        let value = Bytes::copy_from_slice(&count.to_be_bytes());
        txn.put_row(Family::Score, self.key(level, sep), value);
    }

    fn delete(&self, txn: &mut Txn<'_>, level: u8, sep: &[u8]) {
        txn.delete_row(Family::Score, self.key(level, sep));
    }

    fn get(&self, txn: &mut Txn<'_>, level: u8, sep: &[u8]) -> Result<Option<u64>, CommandError> {
        let row = txn.row(Family::Score, &self.key(level, sep))?;
        row.map(|value| decode(&value)).transpose()
    }

    /// The row that stands for a place.
    fn covering(&self, txn: &mut Txn<'_>, level: u8, place: &[u8]) -> Result<Node, CommandError> {
        let end = self.key_behind(level, place);
        self.last_before(txn, level, &end)?.ok_or(CORRUPT)
    }

    fn before(
        &self,
        txn: &mut Txn<'_>,
        level: u8,
        sep: &[u8],
    ) -> Result<Option<Node>, CommandError> {
        let end = self.key(level, sep);
        self.last_before(txn, level, &end)
    }

    /// The last row of a level before the key `end`.
    fn last_before(
        &self,
        txn: &mut Txn<'_>,
        level: u8,
        end: &[u8],
    ) -> Result<Option<Node>, CommandError> {
        let first = self.key(level, b"");
        let found = txn.last_row(Family::Score, &first, end, |key, value| {
            (rest_of(key)[1..].to_vec(), decode(value))
        })?;
        found.map(|(sep, count)| Ok((sep, count?))).transpose()
    }

    fn after(
        &self,
        txn: &mut Txn<'_>,
        level: u8,
        sep: &[u8],
    ) -> Result<Option<Node>, CommandError> {
        let mut found = None;
        let keys = (self.key_behind(level, sep), self.key(level + 1, b""));
        self.scan_keys(txn, keys, |sep, count| {
            found = Some((sep.to_vec(), count));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn nodes(
        &self,
        txn: &mut Txn<'_>,
        level: u8,
        from: &[u8],
        end: Option<&[u8]>,
    ) -> Result<Vec<Node>, CommandError> {
        let mut nodes = Vec::new();
        self.scan(txn, level, from, end, |sep, count| {
            nodes.push((sep.to_vec(), count));
            ControlFlow::Continue(())
        })?;
        Ok(nodes)
    }

    /// Shows rows of a level with `from <= separator < end`.
    fn scan(
        &self,
        txn: &mut Txn<'_>,
        level: u8,
        from: &[u8],
        end: Option<&[u8]>,
        visit: impl FnMut(&[u8], u64) -> ControlFlow<()>,
    ) -> Result<(), CommandError> {
        let end = match end {
            Some(end) => self.key(level, end),
            None => self.key(level + 1, b""),
        };
        self.scan_keys(txn, (self.key(level, from), end), visit)
    }

    /// The same between two keys.
    fn scan_keys(
        &self,
        txn: &mut Txn<'_>,
        (first, end): (Vec<u8>, Vec<u8>),
        mut visit: impl FnMut(&[u8], u64) -> ControlFlow<()>,
    ) -> Result<(), CommandError> {
        let mut failed = None;
        let mut show = |key: &[u8], value: &[u8]| match decode(value) {
            Ok(count) => visit(&rest_of(key)[1..], count),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        txn.scan_rows(Family::Score, &first, &end, Direction::Forward, &mut show)?;
        failed.map_or(Ok(()), Err)
    }
}

fn decode(value: &[u8]) -> Result<u64, CommandError> {
    let bytes = value.try_into().map_err(|_| CORRUPT)?;
    Ok(u64::from_be_bytes(bytes))
}

/// The first byte string after another one.
fn behind(place: &[u8]) -> Vec<u8> {
    let mut bound = place.to_vec();
    bound.push(0);
    bound
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
