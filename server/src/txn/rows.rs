//! Scans over rows below a record, the batch's own changes merged in.
//!
//! What is not in memory is [`CommandError::Cold`] unless the command may wait
//! for the disk, exactly as for single rows. A scan of applied state is of one moment
//! if no apply overlaps it, which it makes the reader look at ([`Txn::touched`]).

use std::ops::ControlFlow;

use rocksdb::Direction;

use super::effects::Family;
use super::overlay::Overlay;
use super::{CommandError, Txn};
use crate::storage::{Scan, StoredRows, VisitRow};

/// Rows of one scan whose weight is remembered, see [`Overlay::met_row`].
///
/// [`Overlay::met_row`]: super::overlay::Overlay::met_row
const MET_ROWS: usize = 1024;

/// All rows with `first <= key < end`.
#[derive(Clone, Copy)]
struct RowScan<'a> {
    family: Family,
    first: &'a [u8],
    end: &'a [u8],
    direction: Direction,
    /// Whether the scan cache keeps what is read.
    keep: bool,
}

impl<'a> RowScan<'a> {
    /// What it reads is kept.
    fn new(family: Family, first: &'a [u8], end: &'a [u8], direction: Direction) -> RowScan<'a> {
        RowScan {
            family,
            first,
            end,
            direction,
            keep: true,
        }
    }
}

impl Txn<'_> {
    /// Shows `visit` key and value of all rows with `first <= key < end`, in
    /// ascending (`Forward`) or descending order, until it breaks.
    pub fn scan_rows(
        &mut self,
        family: Family,
        first: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut VisitRow<'_>,
    ) -> Result<(), CommandError> {
        self.scan(RowScan::new(family, first, end, direction), visit)
    }

    /// [`Txn::scan_rows`] in ascending order of what nobody will soon scan again: the
    /// scan cache does not keep it.
    pub fn scan_rows_once(
        &mut self,
        family: Family,
        first: &[u8],
        end: &[u8],
        visit: &mut VisitRow<'_>,
    ) -> Result<(), CommandError> {
        let scan = RowScan {
            keep: false,
            ..RowScan::new(family, first, end, Direction::Forward)
        };
        self.scan(scan, visit)
    }

    /// Number of rows with `first <= key < end`.
    pub fn count_rows(
        &mut self,
        family: Family,
        first: &[u8],
        end: &[u8],
    ) -> Result<u64, CommandError> {
        let scan = RowScan::new(family, first, end, Direction::Forward);
        self.touched += 2;
        if self.is_unchanged(&scan) {
            return self.stored_rows(scan)?.skip(u64::MAX);
        }
        let mut count = 0;
        self.scan(scan, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// Shows `read` the row with `first <= key < end` that has `n` others before it;
    /// `None`: there is none.
    pub fn nth_row<T>(
        &mut self,
        family: Family,
        first: &[u8],
        end: &[u8],
        n: u64,
        mut read: impl FnMut(&[u8], &[u8]) -> T,
    ) -> Result<Option<T>, CommandError> {
        let scan = RowScan::new(family, first, end, Direction::Forward);
        self.touched += 2;
        if self.is_unchanged(&scan) {
            let mut rows = self.stored_rows(scan)?;
            rows.skip(n)?;
            return Ok(rows.current()?.map(|(key, value)| read(key, value)));
        }
        let (mut left, mut found) = (n, None);
        self.scan(scan, &mut |key, value| {
            if left > 0 {
                left -= 1;
                return ControlFlow::Continue(());
            }
            found = Some(read(key, value));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Whether the batch has changed nothing of what is asked for.
    fn is_unchanged(&self, scan: &RowScan<'_>) -> bool {
        let changed = |overlay: &Overlay| {
            let mut rows = overlay.rows_in(scan.family, scan.first, scan.end);
            rows.next().is_some()
        };
        scan.first >= scan.end || !self.overlay.as_deref().is_some_and(changed)
    }

    /// Shows `read` the last row with `first <= key < end`; `None`: there is none.
    pub fn last_row<T>(
        &mut self,
        family: Family,
        first: &[u8],
        end: &[u8],
        mut read: impl FnMut(&[u8], &[u8]) -> T,
    ) -> Result<Option<T>, CommandError> {
        if let Some(known) = self.known_last_row(family, first, end, &mut read) {
            self.touched += 2;
            return Ok(known);
        }
        let mut found = None;
        self.scan_rows(family, first, end, Direction::Reverse, &mut |key, value| {
            found = Some(read(key, value));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// The same, if the scan cache knows it and the batch has not deleted it: counts
    /// of sorted sets are asked for so at every change.
    fn known_last_row<T>(
        &self,
        family: Family,
        first: &[u8],
        end: &[u8],
        read: &mut impl FnMut(&[u8], &[u8]) -> T,
    ) -> Option<Option<T>> {
        if family != Family::Score || self.pin.is_some() {
            return None;
        }
        let overlay = self.overlay.as_ref();
        let pending = match overlay.and_then(|o| o.last_row_in(family, first, end)) {
            Some((key, Some(value))) => Some((key, &value[..])),
            Some((_, None)) => return None,
            None => None,
        };
        let cache = &self.store.scan_cache;
        cache.last_row(first, end, |stored| {
            let last = match (stored, pending) {
                (Some(stored), Some(pending)) if stored.0 > pending.0 => Some(stored),
                (stored, None) => stored,
                (_, pending) => pending,
            };
            last.map(|(key, value)| read(key, value))
        })
    }

    fn scan(&mut self, scan: RowScan<'_>, visit: &mut VisitRow<'_>) -> Result<(), CommandError> {
        let family = scan.family;
        // A scan is more than one record: an overlapping apply must be noticed.
        self.touched += 2;
        if self.overlay.is_none() {
            return self.stored_rows(scan)?.show(visit);
        }
        let mut met = Vec::new();
        let outcome = self.scan_merged(scan, &mut |row, value| {
            // What is found by a scan is often changed next.
            if family == Family::Data && met.len() < MET_ROWS {
                met.push((row.to_vec(), value.len()));
            }
            visit(row, value)
        });
        let overlay = self.overlay.as_mut().expect("looked at above");
        for (row, len) in met {
            if overlay.row(family, &row).is_none() {
                overlay.met_row(family, &row, len);
            }
        }
        outcome
    }

    fn scan_merged(&self, scan: RowScan<'_>, visit: &mut VisitRow<'_>) -> Result<(), CommandError> {
        let direction = scan.direction;
        let mut stored = self.stored_rows(scan)?;
        let Some(overlay) = &self.overlay else {
            return stored.show(visit);
        };
        let mut pending = overlay.rows_in(scan.family, scan.first, scan.end);
        let mut next = || match direction {
            Direction::Forward => pending.next(),
            Direction::Reverse => pending.next_back(),
        };
        let mut next_pending = next();
        while let Some((key, value)) = next_pending {
            // What the batch knows hides the stored row of the same key.
            while let Some((row, stored_value)) = stored.current()? {
                if !comes_before(row, key, direction) {
                    break;
                }
                if visit(row, stored_value).is_break() {
                    return Ok(());
                }
                stored.step()?;
            }
            if stored.current()?.is_some_and(|(row, _)| row == key) {
                stored.step()?;
            }
            if let Some(value) = value
                && visit(key, value).is_break()
            {
                return Ok(());
            }
            next_pending = next();
        }
        stored.show(visit)
    }

    fn stored_rows<'s>(&'s self, scan: RowScan<'s>) -> Result<StoredRows<'s>, CommandError> {
        let scan = Scan {
            family: scan.family,
            first: scan.first,
            end: scan.end,
            direction: scan.direction,
            keep: scan.keep,
            disk: self.context.disk,
            pin: self.pin,
        };
        StoredRows::new(self.store, scan)
    }
}

fn comes_before(a: &[u8], b: &[u8], direction: Direction) -> bool {
    match direction {
        Direction::Forward => a < b,
        Direction::Reverse => a > b,
    }
}
