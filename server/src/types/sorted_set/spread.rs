//! The spread form of a sorted set: rows.
//!
//! ```text
//! data    tag 1 (`members`): member   ->   score, IEEE 754 bits u64 BE
//! score   tag 1 | place    ->   nothing, or one byte 1 if the score is -0
//! score   tag 2 ...        ->   counts, see `ranks`
//! parent's own bytes: flags u8 (bit 0: Redis would call it a skiplist) | levels of counts u8
//! ```
//!
//! Frozen by a golden test.

use std::ops::ControlFlow;

use bytes::Bytes;
use rocksdb::Direction;

use super::Item;
use super::place::{Span, place, split};
use super::ranks::Ranks;
use crate::storage::{Header, KeyType, MetaKey, PinnedRows, Record, Spread};
use crate::txn::effects::Family;
use crate::txn::{CommandError, Txn};
use crate::types::members::{ELEMENTS, Members};
use crate::types::rows::{Rows, rest_of};

pub(super) const TAG_ORDER: u8 = 1;
const SKIPLIST: u8 = 1;
const MINUS_ZERO: &[u8] = &[1];

const CORRUPT: CommandError = CommandError::Corrupt("a row of a sorted set");

/// Rows of one set. See the module's documentation.
pub struct SpreadSet {
    rows: Rows,
    ranks: Ranks,
    pub len: u64,
    /// Redis's thresholds are exceeded, or once were.
    pub skiplist: bool,
    /// The parent record must be written.
    pub dirty: bool,
    /// Places that are gone from the order and not yet from the counts.
    removed: Vec<Vec<u8>>,
}

impl SpreadSet {
    /// The set that a record speaks of; `own` are its own bytes.
    pub fn of(key: &MetaKey, spread: Spread, own: &[u8]) -> Result<SpreadSet, CommandError> {
        let [flags, levels] = *own else {
            return Err(CommandError::Corrupt("the record of a sorted set"));
        };
        let rows = Rows::of(key, spread.version);
        Ok(SpreadSet {
            rows,
            ranks: Ranks::of(rows, levels),
            len: spread.size,
            skiplist: flags & SKIPLIST != 0,
            dirty: false,
            removed: Vec::new(),
        })
    }

    /// A new set of these items, which are in order.
    pub fn create(txn: &mut Txn<'_>, key: &MetaKey, items: &[Item], skiplist: bool) -> SpreadSet {
        let rows = Rows::create(txn, key);
        let mut set = SpreadSet {
            rows,
            ranks: Ranks::of(rows, 0),
            len: items.len() as u64,
            skiplist,
            dirty: true,
            removed: Vec::new(),
        };
        let places: Vec<_> = items.iter().map(|i| place(i.score, &i.member)).collect();
        for (item, place) in items.iter().zip(&places) {
            // The sum makes 0 of -0, which a listpack does not know.
            let score = match skiplist {
                true => item.score,
                false => item.score + 0.0,
            };
            set.put_score(txn, &item.member, score);
            set.put_order(txn, place, score);
        }
        set.ranks.build(txn, &places);
        set
    }

    pub fn record(&self, key: &MetaKey, expires_at: Option<u64>) -> Record {
        let spread = Some(Spread::new(self.rows.version(), self.len));
        let header = Header {
            spread,
            ..Header::inline(KeyType::SortedSet, expires_at)
        };
        let flags = if self.skiplist { SKIPLIST } else { 0 };
        Record::new(key, &header, &[flags, self.ranks.levels])
    }

    /// The rows by member, for walks in no order; see [`score_of_row`].
    pub fn members(&self) -> Members {
        Members::of(self.rows, ELEMENTS)
    }

    pub fn score(&self, txn: &mut Txn<'_>, member: &[u8]) -> Result<Option<f64>, CommandError> {
        let row = self.members().get(txn, member)?;
        row.map(|value| score_of_row(&value)).transpose()
    }

    /// Puts in a member that is not there.
    pub fn insert(
        &mut self,
        txn: &mut Txn<'_>,
        member: &[u8],
        score: f64,
    ) -> Result<(), CommandError> {
        self.settle(txn)?;
        let place = place(score, member);
        self.put_score(txn, member, score);
        self.put_order(txn, &place, score);
        self.len += 1;
        self.dirty = true;
        self.ranks.add(txn, &place, self.len)
    }

    /// Changes the score of a member.
    pub fn update(
        &mut self,
        txn: &mut Txn<'_>,
        member: &[u8],
        old: f64,
        new: f64,
    ) -> Result<(), CommandError> {
        self.settle(txn)?;
        let (from, to) = (place(old, member), place(new, member));
        self.put_score(txn, member, new);
        if from != to {
            txn.delete_row(Family::Score, self.rows.key(TAG_ORDER, &from));
        }
        self.put_order(txn, &to, new);
        self.ranks.moved(txn, &from, &to)
    }

    /// Takes a member out; [`SpreadSet::settle`] must follow.
    pub fn remove(&mut self, txn: &mut Txn<'_>, member: &[u8], score: f64) {
        let place = place(score, member);
        self.members().delete(txn, member);
        txn.delete_row(Family::Score, self.rows.key(TAG_ORDER, &place));
        self.len = self.len.saturating_sub(1);
        self.dirty = true;
        self.removed.push(place);
    }

    /// Brings the counts up to date. Not needed for a set that is deleted.
    pub fn settle(&mut self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        if self.removed.is_empty() {
            return Ok(());
        }
        let mut removed = std::mem::take(&mut self.removed);
        removed.sort_unstable();
        self.ranks.remove(txn, &removed)
    }

    pub fn rank(&self, txn: &mut Txn<'_>, place: &[u8]) -> Result<u64, CommandError> {
        self.ranks.rank(txn, place)
    }

    pub fn place_at(&self, txn: &mut Txn<'_>, index: u64) -> Result<Option<Vec<u8>>, CommandError> {
        self.ranks.place_at(txn, index)
    }

    /// Shows the members of a span in order, or in reverse.
    pub fn visit(
        &self,
        txn: &mut Txn<'_>,
        span: &Span,
        reverse: bool,
        visit: &mut dyn FnMut(f64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), CommandError> {
        let (first, end) = self.bounds(span);
        if first >= end {
            return Ok(());
        }
        let direction = match reverse {
            true => Direction::Reverse,
            false => Direction::Forward,
        };
        let mut failed = false;
        let mut show = |key: &[u8], value: &[u8]| match item_of_row(key, value) {
            Ok((score, member)) => visit(score, member),
            Err(_) => {
                failed = true;
                ControlFlow::Break(())
            }
        };
        txn.scan_rows(Family::Score, &first, &end, direction, &mut show)?;
        match failed {
            true => Err(CORRUPT),
            false => Ok(()),
        }
    }

    /// First key and end of the rows of a span.
    fn bounds(&self, span: &Span) -> (Vec<u8>, Vec<u8>) {
        let end = match &span.end {
            Some(end) => self.rows.key(TAG_ORDER, end),
            None => self.rows.range(TAG_ORDER).1,
        };
        (self.rows.key(TAG_ORDER, &span.first), end)
    }

    /// The rows of a span, for a reply in pieces; see [`item_of_row`].
    pub fn pinned(&self, txn: &Txn<'_>, span: &Span, reverse: bool, cached: bool) -> PinnedRows {
        let direction = match reverse {
            true => Direction::Reverse,
            false => Direction::Forward,
        };
        txn.pinned_rows(Family::Score, self.bounds(span), direction, cached)
    }

    #[cfg(test)]
    pub fn check(&self, txn: &mut Txn<'_>, times: u64) {
        self.ranks.check(txn, self.len, times);
    }

    fn put_score(&self, txn: &mut Txn<'_>, member: &[u8], score: f64) {
        let value = Bytes::copy_from_slice(&score.to_bits().to_be_bytes());
        self.members().put(txn, member, value);
    }

    fn put_order(&self, txn: &mut Txn<'_>, place: &[u8], score: f64) {
        let value = match score == 0.0 && score.is_sign_negative() {
            true => Bytes::from_static(MINUS_ZERO),
            false => Bytes::new(),
        };
        txn.put_row(Family::Score, self.rows.key(TAG_ORDER, place), value);
    }
}

/// The score that a row by member holds.
pub fn score_of_row(value: &[u8]) -> Result<f64, CommandError> {
    let bits = value.try_into().map_err(|_| CORRUPT)?;
    Ok(f64::from_bits(u64::from_be_bytes(bits)))
}

/// Score and member of a row of the order.
pub fn item_of_row<'a>(key: &'a [u8], value: &[u8]) -> Result<(f64, &'a [u8]), CommandError> {
    let (score, member) = split(rest_of(key)).ok_or(CORRUPT)?;
    let score = match value == MINUS_ZERO {
        true => -0.0,
        false => score,
    };
    Ok((score, member))
}

/// Whether a spread set's own bytes say that Redis would call it a skiplist.
pub fn is_skiplist(own: &[u8]) -> bool {
    own.first().is_none_or(|flags| flags & SKIPLIST != 0)
}
