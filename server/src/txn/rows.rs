//! Scans over rows below a record, the batch's own changes merged in.
//!
//! What is not in memory is [`CommandError::Cold`] unless the command may wait
//! for the disk, exactly as for single rows. One scan is one consistent view.

use std::ops::ControlFlow;

use rocksdb::{DBRawIterator, Direction, ReadOptions, ReadTier};

use super::effects::Family;
use super::{CommandError, Txn};

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
            let mut stored = self.stored_rows(family, first, end, direction);
            return stored.rest(visit);
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
        let mut stored = self.stored_rows(family, first, end, direction);
        let Some(overlay) = &self.overlay else {
            return stored.rest(visit);
        };
        let pending = overlay.rows_in(family, first, end);
        let mut pending: Box<dyn Iterator<Item = _>> = match direction {
            Direction::Forward => Box::new(pending),
            Direction::Reverse => Box::new(pending.rev()),
        };
        let mut next_pending = pending.next();
        while let Some((key, value)) = next_pending {
            // What the batch knows hides the stored row of the same key.
            while let Some(row) = stored.current()? {
                if !stored.comes_before(row, key) {
                    break;
                }
                if visit(row, stored.value()).is_break() {
                    return Ok(());
                }
                stored.step();
            }
            if stored.current()? == Some(key) {
                stored.step();
            }
            if let Some(value) = value
                && visit(key, value).is_break()
            {
                return Ok(());
            }
            next_pending = pending.next();
        }
        stored.rest(visit)
    }

    fn stored_rows(
        &self,
        family: Family,
        first: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> StoredRows<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(first);
        options.set_iterate_upper_bound(end);
        if !self.context.disk {
            options.set_read_tier(ReadTier::BlockCache);
        }
        if let Some(pin) = self.pin {
            pin.apply_to(&mut options);
        }
        let engine = self.store.engine();
        let mut rows = engine
            .db
            .raw_iterator_cf_opt(&engine.family(family), options);
        match direction {
            Direction::Forward => rows.seek_to_first(),
            Direction::Reverse => rows.seek_to_last(),
        }
        StoredRows { rows, direction }
    }
}

struct StoredRows<'a> {
    rows: DBRawIterator<'a>,
    direction: Direction,
}

impl StoredRows<'_> {
    fn current(&self) -> Result<Option<&[u8]>, CommandError> {
        match self.rows.key() {
            Some(key) => Ok(Some(key)),
            None => {
                self.rows.status()?;
                Ok(None)
            }
        }
    }

    fn value(&self) -> &[u8] {
        self.rows.value().unwrap_or_default()
    }

    fn comes_before(&self, a: &[u8], b: &[u8]) -> bool {
        match self.direction {
            Direction::Forward => a < b,
            Direction::Reverse => a > b,
        }
    }

    fn step(&mut self) {
        match self.direction {
            Direction::Forward => self.rows.next(),
            Direction::Reverse => self.rows.prev(),
        }
    }

    fn rest(&mut self, visit: &mut Visit<'_>) -> Result<(), CommandError> {
        while let Some(row) = self.current()? {
            if visit(row, self.value()).is_break() {
                return Ok(());
            }
            self.step();
        }
        Ok(())
    }
}
