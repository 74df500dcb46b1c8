//! Rows of elements that have no order of their own: fields of a spread hash,
//! members of a spread set.
//!
//! ```text
//! data   ... | tag u8 | first 6 bytes of XXH3-64(member), BE | member  ->  the type's own
//! ```
//!
//! The hash comes first, so that elements lie evenly over 48 bits whatever
//! their names: a scan's cursor is a place among them that needs no memory of
//! the server, and a random place is as good as another. Two collections have
//! their common members in the same order.

use std::ops::ControlFlow;

use bytes::Bytes;
use hashbrown::HashSet;
use rocksdb::Direction;
use xxhash_rust::xxh3::xxh3_64;

use super::rows::{HEAD, Rows};
use crate::storage::{KeyType, MetaKey, PinnedRows, Record};
use crate::txn::effects::Family;
use crate::txn::{CommandError, Txn};

/// Tag of these rows, in every type that has them. Frozen.
pub const ELEMENTS: u8 = 1;
/// Bytes of the hash before a member.
const PLACE_LEN: usize = 6;
/// Places that there are; a cursor is below.
const PLACES: u64 = 1 << 48;
/// Elements that a random choice may walk over instead of seeking.
const WALK_PER_CHOICE: u64 = 64;
/// A random window holds so many elements on average, ...
const WINDOW: u64 = 16;
/// ... and all but never more than these.
const WINDOW_MAX: u64 = 40;
/// Windows that are tried. With 16 of 40 the chance that all fail is 1e-14;
/// members that were made to collide can do it.
const WINDOW_TRIES: usize = 64;

/// Repeated choices that are made together.
const DRAW_BATCH: u64 = 4096;
/// Bytes of elements that are held for them.
const DRAW_BYTES: usize = 16 << 20;

const MISSING: CommandError = CommandError::Corrupt("the number of rows of a collection");

/// An element with what its row holds.
pub type Element = (Vec<u8>, Bytes);

/// Is shown elements with what their rows hold, until it breaks.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;
/// The same, with their places first.
type VisitPlace<'v> = dyn FnMut(u64, &[u8], &[u8]) -> ControlFlow<()> + 'v;

/// Is shown elements with what their rows hold, and how many it was shown;
/// says whether it wants more.
pub type VisitCounted<'v> = dyn FnMut(&[u8], &[u8], usize) -> bool + 'v;
/// Is shown elements that were drawn, until it fails.
pub type Draw<'v> = dyn FnMut(&[u8], &[u8]) -> Result<(), CommandError> + 'v;

/// The elements of one incarnation of a collection under one tag.
#[derive(Clone, Copy)]
pub struct Members {
    rows: Rows,
    tag: u8,
}

/// Where a member lies.
fn place(member: &[u8]) -> u64 {
    xxh3_64(member) >> 16
}

fn place_bytes(place: u64) -> [u8; PLACE_LEN] {
    *place
        .to_be_bytes()
        .last_chunk()
        .expect("8 bytes are more than 6")
}

/// Place and member of a physical key of such a row.
fn split(physical: &[u8]) -> (u64, &[u8]) {
    let (place, member) = physical[HEAD..].split_at(PLACE_LEN.min(physical.len() - HEAD));
    let place = place
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    (place, member)
}

/// The member of a physical key of such a row.
pub fn member_of(physical: &[u8]) -> &[u8] {
    split(physical).1
}

impl Members {
    pub fn of(rows: Rows, tag: u8) -> Members {
        Members { rows, tag }
    }

    /// The elements of a spread hash, set or sorted set. `None`: the record is of
    /// something else.
    pub fn of_record(key: &MetaKey, record: &Record) -> Option<Members> {
        let header = record.header()?;
        let rows = Rows::of(key, header.spread?.version);
        let types = [KeyType::Hash, KeyType::Set, KeyType::SortedSet];
        types
            .contains(&header.key_type)
            .then(|| Members::of(rows, ELEMENTS))
    }

    /// The physical key of the row of `member`, in the family `data`.
    pub fn row_key(&self, member: &[u8]) -> Vec<u8> {
        let mut key = self.rows.key_with_room(self.tag, PLACE_LEN + member.len());
        key.extend_from_slice(&place_bytes(place(member)));
        key.extend_from_slice(member);
        key
    }

    /// What the row of `member` holds.
    pub fn get(&self, txn: &mut Txn<'_>, member: &[u8]) -> Result<Option<Bytes>, CommandError> {
        txn.row(Family::Data, &self.row_key(member))
    }

    pub fn put(&self, txn: &mut Txn<'_>, member: &[u8], value: Bytes) {
        txn.put_row(Family::Data, self.row_key(member), value);
    }

    /// Puts a row and says whether there was none.
    pub fn replace(
        &self,
        txn: &mut Txn<'_>,
        member: &[u8],
        value: Bytes,
    ) -> Result<bool, CommandError> {
        let key = self.row_key(member);
        let is_new = txn.row(Family::Data, &key)?.is_none();
        txn.put_row(Family::Data, key, value);
        Ok(is_new)
    }

    /// Puts a row if there is none, and says whether there was none.
    pub fn insert(
        &self,
        txn: &mut Txn<'_>,
        member: &[u8],
        value: Bytes,
    ) -> Result<bool, CommandError> {
        let key = self.row_key(member);
        let is_new = txn.row(Family::Data, &key)?.is_none();
        if is_new {
            txn.put_row(Family::Data, key, value);
        }
        Ok(is_new)
    }

    /// Deletes a row and says whether there was one.
    pub fn remove(&self, txn: &mut Txn<'_>, member: &[u8]) -> Result<bool, CommandError> {
        let key = self.row_key(member);
        let was_there = txn.row(Family::Data, &key)?.is_some();
        if was_there {
            txn.delete_row(Family::Data, key);
        }
        Ok(was_there)
    }

    /// Deletes the row of a member that is known to be there.
    pub fn delete(&self, txn: &mut Txn<'_>, member: &[u8]) {
        txn.delete_row(Family::Data, self.row_key(member));
    }

    /// Shows `visit` all elements, in order of place, until it breaks.
    pub fn each(&self, txn: &mut Txn<'_>, visit: &mut Visit<'_>) -> Result<(), CommandError> {
        self.between(txn, 0, PLACES, &mut |_, member, value| visit(member, value))
    }

    /// The rows of all elements, for a reply in pieces; see [`member_of`].
    pub fn pinned(&self, txn: &Txn<'_>, cached: bool) -> PinnedRows {
        let bounds = self.rows.range(self.tag);
        txn.pinned_rows(Family::Data, bounds, Direction::Forward, cached)
    }

    /// Elements with `from <= place < to`.
    fn between(
        &self,
        txn: &mut Txn<'_>,
        from: u64,
        to: u64,
        visit: &mut VisitPlace<'_>,
    ) -> Result<(), CommandError> {
        let first = self.rows.key(self.tag, &place_bytes(from));
        let end = match to < PLACES {
            true => self.rows.key(self.tag, &place_bytes(to)),
            false => self.rows.range(self.tag).1,
        };
        let visit = &mut |key: &[u8], value: &[u8]| {
            let (place, member) = split(key);
            visit(place, member, value)
        };
        txn.scan_rows(Family::Data, &first, &end, Direction::Forward, visit)
    }

    /// Shows `visit` at least `count` elements from `cursor` (0: the start) on,
    /// and returns the cursor behind them, 0 at the end. Elements of one place
    /// are never parted, so that what is there throughout a scan is met.
    pub fn page(
        &self,
        txn: &mut Txn<'_>,
        cursor: u64,
        count: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<u64, CommandError> {
        self.page_while(txn, cursor, &mut |member, value, seen| {
            visit(member, value);
            seen < count
        })
    }

    /// The same, for as long as `visit` wants more; it is told how many it has
    /// been shown.
    pub fn page_while(
        &self,
        txn: &mut Txn<'_>,
        cursor: u64,
        visit: &mut VisitCounted<'_>,
    ) -> Result<u64, CommandError> {
        if cursor >= PLACES {
            return Ok(0);
        }
        let (mut seen, mut wants_more, mut last, mut next) = (0, true, None, 0);
        self.between(txn, cursor, PLACES, &mut |place, member, value| {
            if !wants_more && last != Some(place) {
                next = place;
                return ControlFlow::Break(());
            }
            seen += 1;
            last = Some(place);
            wants_more = visit(member, value, seen);
            ControlFlow::Continue(())
        })?;
        Ok(next)
    }

    /// One element of `size`, each as likely as any other. `None` only if
    /// there are none.
    ///
    /// Among many: of a random window of the places each element is as likely
    /// within as any other. Taking the n-th of the window, n random below
    /// `WINDOW_MAX`, or another window if there is no n-th, keeps that so.
    pub fn random(&self, txn: &mut Txn<'_>, size: u64) -> Result<Option<Element>, CommandError> {
        if size <= WALK_PER_CHOICE {
            let rank = txn.random() % size.max(1);
            return self.nth(txn, 0, PLACES, rank);
        }
        let width = (PLACES / size).saturating_mul(WINDOW).clamp(1, PLACES);
        for _ in 0..WINDOW_TRIES {
            // Windows may stick out at both ends: so the first and the last
            // places are in as many of them as all others.
            let end = txn.random() % (PLACES + width - 1) + 1;
            let from = end.saturating_sub(width);
            let rank = txn.random() % WINDOW_MAX;
            if let Some(found) = self.nth(txn, from, end.min(PLACES), rank)? {
                return Ok(Some(found));
            }
        }
        let from = txn.random() % PLACES;
        match self.nth(txn, from, PLACES, 0)? {
            Some(found) => Ok(Some(found)),
            None => self.nth(txn, 0, PLACES, 0),
        }
    }

    fn nth(
        &self,
        txn: &mut Txn<'_>,
        from: u64,
        to: u64,
        rank: u64,
    ) -> Result<Option<Element>, CommandError> {
        let (mut left, mut found) = (rank, None);
        self.between(txn, from, to, &mut |_, member, value| {
            if left == 0 {
                found = Some((member.to_vec(), Bytes::copy_from_slice(value)));
                return ControlFlow::Break(());
            }
            left -= 1;
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Shows `visit` `count` different elements of `size`, which is not less:
    /// every choice of so many is as likely as any other. In no random order.
    pub fn sample(
        &self,
        txn: &mut Txn<'_>,
        size: u64,
        count: u64,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), CommandError> {
        if size > count.saturating_mul(WALK_PER_CHOICE) {
            return self.sample_by_windows(txn, size, count, visit);
        }
        let mut selection = Selection::new(txn, size, count);
        self.each(txn, &mut |member, value| {
            if selection.is_complete() {
                return ControlFlow::Break(());
            }
            if selection.takes_next() {
                visit(member, value);
            }
            ControlFlow::Continue(())
        })
    }

    /// For few of many: single choices, repeated ones left out.
    fn sample_by_windows(
        &self,
        txn: &mut Txn<'_>,
        size: u64,
        count: u64,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), CommandError> {
        let mut seen = HashSet::new();
        // Repeats are at most one in 64; the bound is for a size that is wrong.
        let mut tries = count.saturating_mul(8).saturating_add(64);
        while (seen.len() as u64) < count && tries > 0 {
            tries -= 1;
            let Some((member, value)) = self.random(txn, size)? else {
                break;
            };
            if !seen.contains(&member) {
                visit(&member, &value);
                seen.insert(member);
            }
        }
        Ok(())
    }

    /// Shows `visit` `count` elements of `size`, each drawn from all of them, in
    /// random order, until it fails.
    pub fn draw(
        &self,
        txn: &mut Txn<'_>,
        size: u64,
        count: u64,
        visit: &mut Draw<'_>,
    ) -> Result<(), CommandError> {
        let mut left = count;
        while left > 0 {
            let batch = left.min(DRAW_BATCH);
            left -= batch;
            if size > batch.saturating_mul(WALK_PER_CHOICE) {
                for _ in 0..batch {
                    if let Some((member, value)) = self.random(txn, size)? {
                        visit(&member, &value)?;
                    }
                }
            } else {
                self.draw_walking(txn, size, batch, visit)?;
            }
        }
        Ok(())
    }

    /// Draws ranks first, then walks over all elements once.
    fn draw_walking(
        &self,
        txn: &mut Txn<'_>,
        size: u64,
        count: u64,
        visit: &mut Draw<'_>,
    ) -> Result<(), CommandError> {
        let drawn: Vec<u64> = (0..count).map(|_| txn.random() % size.max(1)).collect();
        let mut ranks = drawn.clone();
        ranks.sort_unstable();
        ranks.dedup();
        let mut elements: Vec<Element> = Vec::new();
        let (mut rank, mut bytes) = (0, 0);
        self.each(txn, &mut |member, value| {
            if ranks.get(elements.len()) == Some(&rank) {
                bytes += member.len() + value.len();
                elements.push((member.to_vec(), Bytes::copy_from_slice(value)));
            }
            rank += 1;
            match elements.len() < ranks.len() && bytes <= DRAW_BYTES {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        for rank in drawn {
            let found = ranks.binary_search(&rank).ok();
            match found.and_then(|at| elements.get(at)) {
                Some((member, value)) => visit(member, value)?,
                // Too large to hold together.
                None => {
                    let one = self.nth(txn, 0, PLACES, rank)?;
                    let (member, value) = one.ok_or(MISSING)?;
                    visit(&member, &value)?;
                }
            }
        }
        Ok(())
    }
}

/// Chooses `wanted` of `left` things that come one after another: every choice
/// of so many is as likely as any other (selection sampling: Knuth, The Art
/// of Computer Programming, 3.4.2, algorithm S).
pub struct Selection {
    random: RandomBatch,
    left: u64,
    wanted: u64,
}

impl Selection {
    pub fn new(txn: &mut Txn<'_>, left: u64, wanted: u64) -> Selection {
        Selection {
            random: RandomBatch::new(txn),
            left,
            wanted,
        }
    }

    /// Whether the next thing is chosen.
    pub fn takes_next(&mut self) -> bool {
        let takes = self.random.below(self.left) < self.wanted;
        self.left = self.left.saturating_sub(1);
        self.wanted -= u64::from(takes);
        takes
    }

    pub fn is_complete(&self) -> bool {
        self.wanted == 0
    }
}

/// Random numbers for a walk, which has the transaction in use.
struct RandomBatch(u64);

impl RandomBatch {
    fn new(txn: &mut Txn<'_>) -> RandomBatch {
        RandomBatch(txn.random())
    }

    /// A number below `bound` (0 if that is 0). SplitMix64, as [`Txn::random`].
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
