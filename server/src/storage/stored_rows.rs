//! The stored rows of one scan, one after the other.
//!
//! Rows of the family `score` come from pages of the scan cache, as far as there are
//! any; where there is none, one is loaded and kept, with more rows than were asked
//! for and up to the next row on either side, so that what is asked next is there. A
//! scan that goes beyond three such loads goes on with a plain iterator and keeps no more.
//! Everything else, and every read of a pinned moment, is a plain iterator.
//!
//! What is not in memory is [`CommandError::Cold`] unless the scan may wait for the
//! disk; rows read ahead of those asked for are never waited for. One scan is one
//! consistent view if no apply overlaps it ([`Store::epoch`]).

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use rocksdb::{DBRawIterator, Direction, ReadOptions, ReadTier};

use super::keys::{PREFIX_LEN, VERSION_LEN};
use super::page::Page;
use super::pin::Pin;
use super::scan_cache::{PAGE_ROWS, Run};
use super::store::Store;
use crate::txn::CommandError;
use crate::txn::effects::Family;

/// Bytes before what a row's key has alone: the collection and the tag.
const HEAD: usize = PREFIX_LEN + VERSION_LEN + 1;
/// Rows that a scan loads at most, first and then. A level of a sorted set's counts,
/// which is what is scanned most, has about 1024.
const LOADS: [usize; 3] = [PAGE_ROWS, 4 * PAGE_ROWS, 16 * PAGE_ROWS];
/// Bytes after which a load ends.
const LOAD_BYTES: usize = 64 << 10;

/// Is shown key and value of a row and says whether to go on.
pub type VisitRow<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;
/// Key and value.
type Row<'a> = (&'a [u8], &'a [u8]);

/// What is asked for: all rows with `first <= key < end`.
#[derive(Clone, Copy)]
pub struct Scan<'a> {
    pub family: Family,
    pub first: &'a [u8],
    pub end: &'a [u8],
    pub direction: Direction,
    /// Whether it may wait for the disk.
    pub disk: bool,
    /// Whether what it reads is worth keeping: it will be read again.
    pub keep: bool,
    /// The moment that is read; `None`: what is applied now.
    pub pin: Option<&'a Pin>,
}

/// See the module's documentation.
pub struct StoredRows<'a> {
    store: &'a Store,
    scan: Scan<'a>,
    loads: usize,
    /// Pages of the cache that come next, the next one last.
    ahead: Run,
    /// Pages that were taken so far.
    taken: usize,
    at: At<'a>,
}

enum At<'a> {
    /// Before a row of a page.
    Page {
        page: Arc<Page>,
        /// What is yet to come of it; not empty.
        left: Range<usize>,
    },
    Iterator(DBRawIterator<'a>),
    End,
}

/// All keys of one collection under one tag: what pages are loaded within.
#[derive(Clone, Copy)]
struct Tag {
    first: [u8; HEAD],
    end: [u8; HEAD],
}

impl Tag {
    /// `None`: the scan may go beyond the rows of one tag.
    fn of(scan: &Scan<'_>) -> Option<Tag> {
        let first = *scan.first.first_chunk::<HEAD>()?;
        let mut end = first;
        end[HEAD - 1] = end[HEAD - 1].checked_add(1)?;
        (*scan.end <= end[..]).then_some(Tag { first, end })
    }
}

impl<'a> StoredRows<'a> {
    /// Stands before the first row, or in reverse the last one.
    ///
    /// # Errors
    /// `Cold`, or of the storage.
    pub fn new(store: &'a Store, scan: Scan<'a>) -> Result<StoredRows<'a>, CommandError> {
        let mut rows = StoredRows {
            store,
            scan,
            loads: if scan.keep { 0 } else { LOADS.len() },
            ahead: Run::new(),
            taken: 0,
            at: At::End,
        };
        if scan.family == Family::Score && scan.pin.is_none() && Tag::of(&scan).is_some() {
            rows.enter(None)?;
        } else {
            rows.at = At::Iterator(rows.plain(scan.first, scan.end));
        }
        Ok(rows)
    }

    /// Key and value of the next row; `None`: there is none.
    ///
    /// # Errors
    /// As [`StoredRows::new`].
    pub fn current(&self) -> Result<Option<Row<'_>>, CommandError> {
        match &self.at {
            At::Page { page, left } => {
                let at = match self.scan.direction {
                    Direction::Forward => left.start,
                    Direction::Reverse => left.end - 1,
                };
                Ok(Some(page.row(at)))
            }
            At::Iterator(rows) => match DBRawIterator::item(rows) {
                Some(row) => Ok(Some(row)),
                None => {
                    rows.status()?;
                    Ok(None)
                }
            },
            At::End => Ok(None),
        }
    }

    /// Goes on to the row after it.
    ///
    /// # Errors
    /// As [`StoredRows::new`].
    pub fn step(&mut self) -> Result<(), CommandError> {
        match (&mut self.at, self.scan.direction) {
            (At::Iterator(rows), Direction::Forward) => rows.next(),
            (At::Iterator(rows), Direction::Reverse) => rows.prev(),
            (At::Page { left, page }, direction) => {
                match direction {
                    Direction::Forward => left.start += 1,
                    Direction::Reverse => left.end -= 1,
                }
                if left.start == left.end {
                    let page = page.clone();
                    return self.enter(Some(page));
                }
            }
            (At::End, _) => {}
        }
        Ok(())
    }

    /// Shows `visit` the rows from the current one on, until it breaks or there are no
    /// more.
    ///
    /// # Errors
    /// As [`StoredRows::new`].
    pub fn show(mut self, visit: &mut VisitRow<'_>) -> Result<(), CommandError> {
        while let At::Page { page, left } = &self.at {
            let mut show = |at| {
                let (key, value) = page.row(at);
                visit(key, value)
            };
            let shown = match self.scan.direction {
                Direction::Forward => left.clone().try_for_each(&mut show),
                Direction::Reverse => left.clone().rev().try_for_each(&mut show),
            };
            if shown.is_break() {
                return Ok(());
            }
            let page = page.clone();
            self.enter(Some(page))?;
        }
        while let Some((key, value)) = self.current()? {
            if visit(key, value).is_break() {
                break;
            }
            self.step()?;
        }
        Ok(())
    }

    /// Goes on past the next `most` rows, or all there are: those of a page at once.
    /// Returns how many these were.
    ///
    /// # Errors
    /// As [`StoredRows::new`].
    pub fn skip(&mut self, most: u64) -> Result<u64, CommandError> {
        let mut skipped = 0;
        while skipped < most {
            if let At::Page { left, .. } = &mut self.at {
                // The last of them is stepped over below.
                let n = (left.len() as u64 - 1).min(most - skipped - 1);
                match self.scan.direction {
                    Direction::Forward => left.start += n as usize,
                    Direction::Reverse => left.end -= n as usize,
                }
                skipped += n;
            }
            if self.current()?.is_none() {
                break;
            }
            self.step()?;
            skipped += 1;
        }
        Ok(skipped)
    }

    /// Finds the next page that has rows of the scan, behind `last` (`None`: from the
    /// beginning).
    fn enter(&mut self, mut last: Option<Arc<Page>>) -> Result<(), CommandError> {
        let Scan { first, end, .. } = self.scan;
        loop {
            let edge = match (&last, self.scan.direction) {
                (None, Direction::Forward) => first,
                (None, Direction::Reverse) => end,
                (Some(page), Direction::Forward) => page.hi(),
                (Some(page), Direction::Reverse) => page.lo(),
            };
            let (from, to) = match self.scan.direction {
                Direction::Forward => (edge, end),
                Direction::Reverse => (first, edge),
            };
            if from >= to {
                self.at = At::End;
                return Ok(());
            }
            let page = match self.ahead.pop() {
                Some(page) => Some(page),
                None => self.page_at(edge, (from, to), last.is_none())?,
            };
            let Some(page) = page else {
                self.at = At::Iterator(self.plain(from, to));
                return Ok(());
            };
            let left = page.within(from, to);
            if !left.is_empty() {
                self.at = At::Page { page, left };
                return Ok(());
            }
            last = Some(page);
        }
    }

    /// The page behind `edge`, or in reverse before it, of a scan that has `left` to go.
    /// `None`: none is to be made.
    fn page_at(
        &mut self,
        edge: &[u8],
        left: (&[u8], &[u8]),
        is_asked: bool,
    ) -> Result<Option<Arc<Page>>, CommandError> {
        let (store, direction) = (self.store, self.scan.direction);
        if is_asked {
            self.taken = 1;
            if let Some(page) = store.scan_cache.page(edge, direction) {
                return Ok(Some(page));
            }
        } else {
            let end = match direction {
                Direction::Forward => left.1,
                Direction::Reverse => left.0,
            };
            // As many again: a scan that ends soon takes none that it does not walk.
            let most = self.taken;
            self.ahead = store.scan_cache.pages((edge, end), direction, most);
            self.taken += self.ahead.len();
            self.ahead.reverse();
            if let Some(page) = self.ahead.pop() {
                return Ok(Some(page));
            }
        }
        // Before the iterator is made: see `scan_cache`.
        let epoch = store.epoch();
        let most = LOADS.get(self.loads).copied();
        let (Some(most), Some(tag)) = (most, Tag::of(&self.scan)) else {
            return Ok(None);
        };
        if !epoch.is_multiple_of(2) {
            return Ok(None);
        }
        self.loads += 1;
        let rows = self.iterator(&tag.first, &tag.end);
        let page = match self.scan.direction {
            Direction::Forward => load_forward(rows, edge, &tag, most)?,
            Direction::Reverse => load_reverse(rows, edge, &tag, most, is_asked)?,
        };
        let is_current = || store.epoch() == epoch;
        Ok(Some(store.scan_cache.keep(page, is_current)))
    }

    fn plain(&self, first: &[u8], end: &[u8]) -> DBRawIterator<'a> {
        let mut rows = self.iterator(first, end);
        match self.scan.direction {
            Direction::Forward => rows.seek_to_first(),
            Direction::Reverse => rows.seek_to_last(),
        }
        rows
    }

    fn iterator(&self, first: &[u8], end: &[u8]) -> DBRawIterator<'a> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(first);
        options.set_iterate_upper_bound(end);
        if !self.scan.disk {
            options.set_read_tier(ReadTier::BlockCache);
        }
        if let Some(pin) = self.scan.pin {
            pin.apply_to(&mut options);
        }
        let engine = self.store.engine();
        let family = engine.family(self.scan.family);
        engine.db.raw_iterator_cf_opt(&family, options)
    }
}

/// The page of the rows from `from` on, and of what is empty before them.
///
/// It ends where a row cannot be read: if that is asked for, it fails by itself.
fn load_forward(
    mut rows: DBRawIterator<'_>,
    from: &[u8],
    tag: &Tag,
    most: usize,
) -> Result<Page, CommandError> {
    let mut page = Page::default();
    rows.seek(from);
    let hi = loop {
        match DBRawIterator::item(&rows) {
            Some((key, _)) if is_full(&page, most) => break key.to_vec(),
            Some((key, value)) => page.push(key, value),
            None => match rows.status() {
                Ok(()) => break tag.end.to_vec(),
                Err(error) => break behind(page.last_key().ok_or(error)?),
            },
        }
        rows.next();
    };
    if *from == tag.first[..] || page.first_key() == Some(from) {
        return Ok(page.bounded(from, &hi));
    }
    rows.seek_for_prev(from);
    let lo = match rows.key() {
        Some(key) => behind(key),
        None if rows.status().is_ok() => tag.first.to_vec(),
        None => from.to_vec(),
    };
    Ok(page.bounded(&lo, &hi))
}

/// The page of the rows before `to`, and, if a scan begins there (`is_asked`), of what
/// is empty behind them. As [`load_forward`], but half as many: a step back costs
/// RocksDB more.
fn load_reverse(
    mut rows: DBRawIterator<'_>,
    to: &[u8],
    tag: &Tag,
    most: usize,
    is_asked: bool,
) -> Result<Page, CommandError> {
    let mut page = Page::default();
    let is_end = *to == tag.end[..];
    match is_end {
        true => rows.seek_to_last(),
        false => rows.seek_for_prev(to),
    }
    let is_row = rows.key() == Some(to);
    if is_row {
        rows.prev();
    }
    let lo = loop {
        match DBRawIterator::item(&rows) {
            Some((key, _)) if is_full(&page, most / 2) => break behind(key),
            Some((key, value)) => page.push(key, value),
            None => match rows.status() {
                Ok(()) => break tag.first.to_vec(),
                Err(error) => break page.last_key().ok_or(error)?.to_vec(),
            },
        }
        rows.prev();
    };
    page.turn_round();
    if is_end || is_row || !is_asked {
        return Ok(page.bounded(&lo, to));
    }
    rows.seek(to);
    let hi = match rows.key() {
        Some(key) => key.to_vec(),
        None if rows.status().is_ok() => tag.end.to_vec(),
        None => to.to_vec(),
    };
    Ok(page.bounded(&lo, &hi))
}

fn is_full(page: &Page, most: usize) -> bool {
    page.count() >= most || page.size() >= LOAD_BYTES
}

/// The first key behind another one.
fn behind(key: &[u8]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(key.len() + 1);
    bound.extend_from_slice(key);
    bound.push(0);
    bound
}

#[cfg(test)]
#[path = "stored_rows_tests.rs"]
mod tests;
