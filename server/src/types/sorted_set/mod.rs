//! How a sorted set is laid out: packed in its record (`packed`), or spread
//! over rows (`spread`) with counts for ranks above them (`ranks`, `counts`).
//!
//! A set is packed while Redis's thresholds (`zset-max-listpack-*`) and
//! `PACKED_MAX` bytes hold; once spread it stays so until it is overwritten.
//! Order is by score, then member bytes (`place`).

mod counts;
mod packed;
pub mod place;
mod ranks;
mod spread;

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

pub use self::counts::{close_again, close_wanted};
use self::place::{Span, place};
#[cfg(test)]
pub use self::ranks::FANOUT;
use self::spread::SpreadSet;
pub use self::spread::{is_skiplist, item_of_row, score_of_row};
use super::members::{Members, Selection};
use super::{decode, delete_key};
use crate::storage::limits::PACKED_MAX;
use crate::storage::{Header, KeyType, MetaKey, PinnedRows, Record, Spread};
use crate::txn::{CommandError, Txn};

/// An offset up to this is skipped by scanning, not found by the counts.
const SHORT_SKIP: u64 = 128;

/// One member with its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub score: f64,
    pub member: Vec<u8>,
}

impl Item {
    pub fn new(score: f64, member: &[u8]) -> Item {
        Item {
            score,
            member: member.to_vec(),
        }
    }
}

/// Puts items into the order of a set.
pub fn sort(items: &mut [Item]) {
    items.sort_unstable_by(|a, b| {
        let scores = a.score.partial_cmp(&b.score);
        let scores = scores.expect("there is no NaN in a sorted set");
        scores.then_with(|| a.member.cmp(&b.member))
    });
}

/// What an item is shown to; it may end the walk.
pub type Visit<'v> = &'v mut dyn FnMut(f64, &[u8]) -> ControlFlow<()>;

enum Body {
    Packed {
        /// Whence the bytes come as long as nothing has changed.
        record: Option<Record>,
        changed: Option<Vec<u8>>,
    },
    Spread(SpreadSet),
}

/// The sorted set of one key. Changes reach its record with
/// [`SortedSet::save`].
pub struct SortedSet {
    key: MetaKey,
    expires_at: Option<u64>,
    body: Body,
    /// Of a spread set as its record had it when the set was opened.
    spread: Option<Spread>,
    len: u64,
    /// Whether the key existed when the set was opened.
    existed: bool,
}

impl SortedSet {
    /// The set of a key, if there is one.
    ///
    /// # Errors
    /// `WRONGTYPE` if the key holds something else.
    pub fn open(txn: &mut Txn<'_>, key: &MetaKey) -> Result<Option<SortedSet>, CommandError> {
        match txn.get(key)? {
            Some(record) => SortedSet::of(key, record).map(Some),
            None => Ok(None),
        }
    }

    /// The set of a key, an empty one if there is none.
    ///
    /// # Errors
    /// As [`SortedSet::open`].
    pub fn open_or_new(txn: &mut Txn<'_>, key: &MetaKey) -> Result<SortedSet, CommandError> {
        let found = SortedSet::open(txn, key)?;
        Ok(found.unwrap_or_else(|| SortedSet {
            key: key.clone(),
            expires_at: None,
            body: Body::Packed {
                record: None,
                changed: None,
            },
            spread: None,
            len: 0,
            existed: false,
        }))
    }

    /// The set in a record.
    ///
    /// # Errors
    /// As [`SortedSet::open`].
    pub fn of(key: &MetaKey, record: Record) -> Result<SortedSet, CommandError> {
        let (header, payload) = decode(&record)?;
        if header.key_type != KeyType::SortedSet {
            return Err(CommandError::WRONG_TYPE);
        }
        let (body, len) = match header.spread {
            Some(spread) => {
                let set = SpreadSet::of(key, spread, payload)?;
                (Body::Spread(set), spread.size)
            }
            None => {
                let len = packed::count(payload)?;
                let body = Body::Packed {
                    record: Some(record),
                    changed: None,
                };
                (body, len)
            }
        };
        Ok(SortedSet {
            key: key.clone(),
            expires_at: header.expires_at,
            body,
            spread: header.spread,
            len,
            existed: true,
        })
    }

    /// Makes `key` a set of these items, which are in order, in place of
    /// whatever it was. No items: the key is deleted, which is told by `true`
    /// if it existed.
    pub fn replace(txn: &mut Txn<'_>, key: &MetaKey, items: &[Item]) -> Result<bool, CommandError> {
        let existed = delete_key(txn, key)?;
        if items.is_empty() {
            return Ok(existed);
        }
        let longest = items.iter().map(|item| item.member.len()).max();
        let skiplist = exceeds(txn, items.len() as u64, longest.unwrap_or(0));
        let bytes: usize = items.iter().map(|i| packed::item_len(&i.member)).sum();
        let record = if skiplist || bytes > PACKED_MAX {
            SpreadSet::create(txn, key, items, skiplist).record(key, None)
        } else {
            let mut out = Vec::with_capacity(bytes);
            for item in items {
                packed::append(&mut out, item.score + 0.0, &item.member);
            }
            Record::new(key, &Header::inline(KeyType::SortedSet, None), &out)
        };
        txn.put(key, record)?;
        Ok(existed)
    }

    /// How large a spread set was when it was opened; `None`: it is packed.
    pub fn spread(&self) -> Option<Spread> {
        self.spread
    }

    /// Number of members.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the key existed when the set was opened.
    pub fn existed(&self) -> bool {
        self.existed
    }

    /// The rows of a spread set by member, for walks in no order; `None`: it is
    /// packed, and every read of it is in memory.
    pub fn members(&self) -> Option<Members> {
        match &self.body {
            Body::Spread(set) => Some(set.members()),
            Body::Packed { .. } => None,
        }
    }

    /// Whether Redis would keep this set in a listpack, which shows in the
    /// scores: it has no -0.
    pub fn is_listpack(&self) -> bool {
        match &self.body {
            Body::Spread(set) => !set.skiplist,
            Body::Packed { .. } => true,
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::Packed {
                changed: Some(bytes),
                ..
            } => bytes,
            Body::Packed {
                record: Some(record),
                ..
            } => record.payload(),
            _ => &[],
        }
    }

    /// The score of a member.
    pub fn score(&self, txn: &mut Txn<'_>, member: &[u8]) -> Result<Option<f64>, CommandError> {
        match &self.body {
            Body::Packed { .. } => Ok(packed::find(self.bytes(), member)?.map(|item| item.score)),
            Body::Spread(set) => set.score(txn, member),
        }
    }

    /// Gives a member a score; `old` is the one it has, as
    /// [`SortedSet::score`] told.
    pub fn set(
        &mut self,
        txn: &mut Txn<'_>,
        member: &[u8],
        old: Option<f64>,
        score: f64,
    ) -> Result<(), CommandError> {
        if old.is_none() {
            self.make_room(txn, member)?;
            self.len += 1;
        }
        // The sum makes 0 of -0.
        let score = if self.is_listpack() {
            score + 0.0
        } else {
            score
        };
        match (&mut self.body, old) {
            (Body::Spread(set), None) => set.insert(txn, member, score),
            (Body::Spread(set), Some(old)) => set.update(txn, member, old, score),
            (Body::Packed { .. }, _) => {
                let bytes = self.bytes_mut();
                if old.is_some() {
                    cut(bytes, member)?;
                }
                packed::insert(bytes, score, member)
            }
        }
    }

    /// Takes a member out and returns its score.
    pub fn remove(
        &mut self,
        txn: &mut Txn<'_>,
        member: &[u8],
    ) -> Result<Option<f64>, CommandError> {
        let Some(score) = self.score(txn, member)? else {
            return Ok(None);
        };
        self.remove_item(txn, member, score)?;
        Ok(Some(score))
    }

    /// Takes a member out that has this score.
    pub fn remove_item(
        &mut self,
        txn: &mut Txn<'_>,
        member: &[u8],
        score: f64,
    ) -> Result<(), CommandError> {
        self.len = self.len.saturating_sub(1);
        match &mut self.body {
            Body::Spread(set) => {
                set.remove(txn, member, score);
                Ok(())
            }
            Body::Packed { .. } => cut(self.bytes_mut(), member),
        }
    }

    /// Writes the record, or deletes it when the last member has gone.
    pub fn save(mut self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        if self.len == 0 {
            return match self.existed {
                true => txn.delete(&self.key),
                false => Ok(()),
            };
        }
        match &mut self.body {
            Body::Packed { changed: None, .. } => Ok(()),
            Body::Packed {
                changed: Some(bytes),
                ..
            } => {
                let header = Header::inline(KeyType::SortedSet, self.expires_at);
                txn.put(&self.key, Record::new(&self.key, &header, bytes))
            }
            Body::Spread(set) => {
                set.settle(txn)?;
                match set.dirty {
                    true => txn.put(&self.key, set.record(&self.key, self.expires_at)),
                    false => Ok(()),
                }
            }
        }
    }

    // Ranks and ranges. After a removal, `save` comes first.

    /// Number of members whose place is below.
    pub fn rank(&self, txn: &mut Txn<'_>, place: &[u8]) -> Result<u64, CommandError> {
        match &self.body {
            Body::Packed { .. } => packed::rank(self.bytes(), place),
            Body::Spread(set) => set.rank(txn, place),
        }
    }

    /// Rank of a member that has this score.
    pub fn rank_of(
        &self,
        txn: &mut Txn<'_>,
        member: &[u8],
        score: f64,
    ) -> Result<u64, CommandError> {
        self.rank(txn, &place(score, member))
    }

    /// Number of members in a span.
    pub fn count(&self, txn: &mut Txn<'_>, span: &Span) -> Result<u64, CommandError> {
        if span.is_empty() {
            return Ok(0);
        }
        let below = match span.first.is_empty() {
            true => 0,
            false => self.rank(txn, &span.first)?,
        };
        let up_to = match &span.end {
            Some(end) => self.rank(txn, end)?,
            None => self.len,
        };
        Ok(up_to.saturating_sub(below))
    }

    /// The first item's score: what a range of members is judged by.
    pub fn first_score(&self, txn: &mut Txn<'_>) -> Result<f64, CommandError> {
        let mut first = 0.0;
        self.visit(txn, &Span::ALL, false, &mut |score, _| {
            first = score;
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    /// Shows the items of a span in order, or in reverse.
    pub fn visit(
        &self,
        txn: &mut Txn<'_>,
        span: &Span,
        reverse: bool,
        visit: Visit<'_>,
    ) -> Result<(), CommandError> {
        if span.is_empty() {
            return Ok(());
        }
        if let Body::Spread(set) = &self.body {
            return set.visit(txn, span, reverse, visit);
        }
        let items = packed::items_in(self.bytes(), span)?;
        let mut show = |(score, member): &(f64, &[u8])| visit(*score, member).is_continue();
        match reverse {
            true => items.iter().rev().all(&mut show),
            false => items.iter().all(&mut show),
        };
        Ok(())
    }

    /// [`SortedSet::visit`] without the first `skip` items.
    pub fn visit_from(
        &self,
        txn: &mut Txn<'_>,
        span: &Span,
        reverse: bool,
        skip: u64,
        visit: Visit<'_>,
    ) -> Result<(), CommandError> {
        if let Body::Spread(set) = &self.body
            && skip > SHORT_SKIP
            && !span.is_empty()
        {
            return match skipped(set, txn, self.len, span, reverse, skip)? {
                Some(rest) => self.visit(txn, &rest, reverse, visit),
                None => Ok(()),
            };
        }
        let mut skip = skip;
        self.visit(txn, span, reverse, &mut |score, member| {
            if skip > 0 {
                skip -= 1;
                return ControlFlow::Continue(());
            }
            visit(score, member)
        })
    }

    /// The items of a span without the first `skip`, for a reply in pieces of a
    /// spread set. `None`: there are none, or the set is packed.
    pub fn pinned(
        &self,
        txn: &mut Txn<'_>,
        span: &Span,
        reverse: bool,
        skip: u64,
        cached: bool,
    ) -> Result<Option<PinnedRows>, CommandError> {
        let Body::Spread(set) = &self.body else {
            return Ok(None);
        };
        let rest = match skip {
            0 => Some(span.clone()),
            _ => skipped(set, txn, self.len, span, reverse, skip)?,
        };
        Ok(rest.map(|rest| set.pinned(txn, &rest, reverse, cached)))
    }

    /// One item, each as likely as any other.
    pub fn random(&self, txn: &mut Txn<'_>) -> Result<Option<Item>, CommandError> {
        if let Body::Spread(set) = &self.body {
            let found = set.members().random(txn, self.len)?;
            return found
                .map(|(member, value)| {
                    let score = score_of_row(&value)?;
                    Ok(Item { score, member })
                })
                .transpose();
        }
        let items = packed::items_in(self.bytes(), &Span::ALL)?;
        let at = txn.random() % (items.len() as u64).max(1);
        let item = items.get(at as usize);
        Ok(item.map(|(score, member)| Item::new(*score, member)))
    }

    /// Shows `count` different items, which are not more than there are; each
    /// choice of so many is as likely as any other.
    pub fn sample(
        &self,
        txn: &mut Txn<'_>,
        count: u64,
        visit: &mut dyn FnMut(f64, &[u8]),
    ) -> Result<(), CommandError> {
        if let Body::Spread(set) = &self.body {
            let mut failed = None;
            let members = set.members();
            members.sample(
                txn,
                self.len,
                count,
                &mut |member, value| match score_of_row(value) {
                    Ok(score) => visit(score, member),
                    Err(error) => failed = Some(error),
                },
            )?;
            return failed.map_or(Ok(()), Err);
        }
        let mut selection = Selection::new(txn, self.len, count);
        for (score, member) in packed::items_in(self.bytes(), &Span::ALL)? {
            if selection.takes_next() {
                visit(score, member);
            }
        }
        Ok(())
    }

    /// All items of a span, in order.
    pub fn items(&self, txn: &mut Txn<'_>, span: &Span) -> Result<Vec<Item>, CommandError> {
        let mut items = Vec::new();
        self.visit(txn, span, false, &mut |score, member| {
            items.push(Item::new(score, member));
            ControlFlow::Continue(())
        })?;
        Ok(items)
    }

    /// Panics unless the counts of a spread set agree with its members, and none is more
    /// than so many times what it may be.
    #[cfg(test)]
    pub fn check(&self, txn: &mut Txn<'_>, times: u64) {
        if let Body::Spread(set) = &self.body {
            set.check(txn, times);
        }
    }

    // The form.

    /// Spreads the set if one more member, this one, is too much for a record.
    fn make_room(&mut self, txn: &mut Txn<'_>, member: &[u8]) -> Result<(), CommandError> {
        let skiplist = exceeds(txn, self.len + 1, member.len());
        match &mut self.body {
            Body::Spread(set) => set.skiplist |= skiplist,
            Body::Packed { .. } => {
                let bytes = self.bytes();
                if skiplist || bytes.len() + packed::item_len(member) > PACKED_MAX {
                    let items = packed::to_items(bytes)?;
                    let set = SpreadSet::create(txn, &self.key, &items, skiplist);
                    self.body = Body::Spread(set);
                }
            }
        }
        Ok(())
    }

    /// The packed bytes, to be changed.
    fn bytes_mut(&mut self) -> &mut Vec<u8> {
        let copy = match &self.body {
            Body::Packed { changed: None, .. } => Some(self.bytes().to_vec()),
            _ => None,
        };
        let Body::Packed { changed, .. } = &mut self.body else {
            unreachable!("only asked of packed sets");
        };
        if copy.is_some() {
            *changed = copy;
        }
        changed.as_mut().expect("filled above")
    }
}

/// Whether Redis would no longer keep such a set in a listpack.
fn exceeds(txn: &Txn<'_>, len: u64, longest: usize) -> bool {
    let limits = txn.limits();
    len > limits.zset_entries.load(Ordering::Relaxed) as u64
        || longest > limits.zset_value.load(Ordering::Relaxed)
}

/// Cuts a member out of packed bytes.
fn cut(bytes: &mut Vec<u8>, member: &[u8]) -> Result<(), CommandError> {
    if let Some(item) = packed::find(bytes, member)? {
        let range = item.range;
        bytes.drain(range);
    }
    Ok(())
}

/// What is left of a span behind its first `skip` items, found by the counts.
fn skipped(
    set: &SpreadSet,
    txn: &mut Txn<'_>,
    len: u64,
    span: &Span,
    reverse: bool,
    skip: u64,
) -> Result<Option<Span>, CommandError> {
    if reverse {
        let end = match &span.end {
            Some(end) => set.rank(txn, end)?,
            None => len,
        };
        // Goes on below the item with this rank.
        let Some(index) = end.checked_sub(skip) else {
            return Ok(None);
        };
        let end = set.place_at(txn, index)?;
        return Ok(end.map(|end| Span {
            first: span.first.clone(),
            end: Some(end),
        }));
    }
    let below = match span.first.is_empty() {
        true => 0,
        false => set.rank(txn, &span.first)?,
    };
    let first = match below.checked_add(skip) {
        Some(index) if index < len => set.place_at(txn, index)?,
        _ => None,
    };
    Ok(first.map(|first| Span {
        first,
        end: span.end.clone(),
    }))
}
