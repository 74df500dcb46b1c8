//! Scans over rows below a record, the batch's own changes merged in.
//!
//! What is not in memory is [`CommandError::Cold`] unless the command may wait
//! for the disk, exactly as for single rows. A scan of applied state is of one moment
//! if no apply overlaps it, which it makes the reader look at ([`Txn::touched`]).

use std::ops::ControlFlow;

use rocksdb::Direction;

use super::effects::Family;
use super::{CommandError, Txn};
use crate::storage::{Scan, StoredRows};

/// Rows of one scan whose weight is remembered, see [`Overlay::met_row`].
///
/// [`Overlay::met_row`]: super::overlay::Overlay::met_row
const MET_ROWS: usize = 1024;

/// Is shown key and value of a row and says whether to go on.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

impl Txn<'_> {
    /// Shows `visit` key and value of all rows with `first <= key < end`, in
    /// ascending (`Forward`) or descending order, until it breaks.
    pub fn scan_rows(
        &mut self,
        family: Family,
        first: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), CommandError> {
        // A scan is more than one record: an overlapping apply must be noticed.
        self.touched += 2;
        if self.overlay.is_none() {
            let mut stored = self.stored_rows(family, first, end, direction)?;
            return show_rest(&mut stored, visit);
        }
        let mut met = Vec::new();
        let outcome = self.scan_merged(family, (first, end), direction, &mut |row, value| {
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

    fn scan_merged(
        &self,
        family: Family,
        (first, end): (&[u8], &[u8]),
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), CommandError> {
        let mut stored = self.stored_rows(family, first, end, direction)?;
        let Some(overlay) = &self.overlay else {
            return show_rest(&mut stored, visit);
        };
        let mut pending = overlay.rows_in(family, first, end);
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
        show_rest(&mut stored, visit)
    }

    fn stored_rows<'s>(
        &'s self,
        family: Family,
        first: &'s [u8],
        end: &'s [u8],
        direction: Direction,
    ) -> Result<StoredRows<'s>, CommandError> {
        let scan = Scan {
            family,
            first,
            end,
            direction,
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

fn show_rest(stored: &mut StoredRows<'_>, visit: &mut Visit<'_>) -> Result<(), CommandError> {
    while let Some((row, value)) = stored.current()? {
        if visit(row, value).is_break() {
            return Ok(());
        }
        stored.step()?;
    }
    Ok(())
}
