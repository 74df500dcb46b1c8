//! The rows of counts of one sorted set: what `ranks` makes a tree of.
//!
//! ```text
//! score   tag 2 | level u8 (1 is the lowest) | separator   ->   members u64 BE, or nothing
//! ```
//!
//! Nothing: the row is *open*. It would change with every member of its part of the
//! order; while nobody asks for ranks it is not written, and the writer knows the number
//! (`txn::held`), or, after a restart, by how much it has changed, and counts when it next
//! needs more. What is counted shows the change that it is counted for: the rows of the
//! order are changed first. A command that only reads sends a question about an open row
//! to the writer, which closes it.

use std::ops::ControlFlow;

use bytes::Bytes;
use rocksdb::Direction;

use super::spread::TAG_ORDER;
use crate::storage::WantedSet;
use crate::txn::effects::{Family, RowKey};
use crate::txn::overlay::Overlay;
use crate::txn::{CommandError, Known, Txn};
use crate::types::rows::{Rows, rest_of};

/// Frozen, in the family `score`.
const TAG_COUNTS: u8 = 2;

pub(super) const CORRUPT: CommandError = CommandError::Corrupt("the counts of a sorted set");

/// A row as it is stored.
pub(super) struct Row {
    key: Vec<u8>,
    /// `None`: it is open.
    stored: Option<u64>,
}

impl Row {
    pub fn level(&self) -> u8 {
        rest_of(&self.key)[0]
    }

    pub fn separator(&self) -> &[u8] {
        &rest_of(&self.key)[1..]
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.key == other.key
    }
}

/// See the module's documentation.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    rows: Rows,
}

impl Counts {
    pub fn of(rows: Rows) -> Counts {
        Counts { rows }
    }

    // Keys.

    pub fn key(&self, level: u8, separator: &[u8]) -> Vec<u8> {
        // With room for what `key_behind` adds.
        let mut key = self.rows.key_with_room(TAG_COUNTS, separator.len() + 2);
        key.push(level);
        key.extend_from_slice(separator);
        key
    }

    /// The first key behind that of a separator.
    pub fn key_behind(&self, level: u8, separator: &[u8]) -> Vec<u8> {
        let mut key = self.key(level, separator);
        key.push(0);
        key
    }

    /// Keys of the rows of a level with `from <= separator < end`.
    pub fn between(&self, level: u8, from: &[u8], end: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
        let end = match end {
            Some(end) => self.key(level, end),
            None => self.key(level + 1, b""),
        };
        (self.key(level, from), end)
    }

    /// Keys of the order with `from <= place < to`.
    pub fn order(&self, from: &[u8], to: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
        let end = match to {
            Some(to) => self.rows.key(TAG_ORDER, to),
            None => self.rows.range(TAG_ORDER).1,
        };
        (self.rows.key(TAG_ORDER, from), end)
    }

    // Reading.

    /// Before ranks are read: closes all rows of which the writer knows the number. Not
    /// as they are met: what is met first may have to be fetched, and who fetches would
    /// count.
    pub fn ask(&self, txn: &mut Txn<'_>) {
        if !txn.is_write() {
            return;
        }
        for (key, number) in txn.ask(self.rows.version(), &self.front()) {
            txn.close_row(Family::Score, key.into_vec(), encode(number));
        }
    }

    /// What the keys of all rows begin with.
    fn front(&self) -> Vec<u8> {
        self.rows.key(TAG_COUNTS, b"")
    }

    /// The row that stands for a place.
    pub fn covering(
        &self,
        txn: &mut Txn<'_>,
        level: u8,
        place: &[u8],
    ) -> Result<Row, CommandError> {
        let end = self.key_behind(level, place);
        self.last_before(txn, level, &end)?.ok_or(CORRUPT)
    }

    /// The row of a separator.
    pub fn get(
        &self,
        txn: &mut Txn<'_>,
        level: u8,
        separator: &[u8],
    ) -> Result<Option<Row>, CommandError> {
        let key = self.key(level, separator);
        let Some(value) = txn.row(Family::Score, &key)? else {
            return Ok(None);
        };
        let stored = decode(&value)?;
        Ok(Some(Row { key, stored }))
    }

    pub fn before(&self, txn: &mut Txn<'_>, row: &Row) -> Result<Option<Row>, CommandError> {
        self.last_before(txn, row.level(), &row.key)
    }

    pub fn after(&self, txn: &mut Txn<'_>, row: &Row) -> Result<Option<Row>, CommandError> {
        let mut found = None;
        let level = row.level();
        let first = self.key_behind(level, row.separator());
        let keys = (first, self.key(level + 1, b""));
        self.scan_stored(txn, &keys, |key, stored| {
            let key = key.to_vec();
            found = Some(Row { key, stored });
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// All rows between two keys.
    pub fn rows(
        &self,
        txn: &mut Txn<'_>,
        keys: &(Vec<u8>, Vec<u8>),
    ) -> Result<Vec<Row>, CommandError> {
        let mut rows = Vec::new();
        self.scan_stored(txn, keys, |key, stored| {
            let key = key.to_vec();
            rows.push(Row { key, stored });
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    /// Shows separators and numbers of the rows between two keys. Open ones are closed
    /// for it.
    ///
    /// # Errors
    /// There is an open row, and the writer can be asked ([`CommandError::NeedsTick`]).
    pub fn scan(
        &self,
        txn: &mut Txn<'_>,
        keys: (Vec<u8>, Vec<u8>),
        mut visit: impl FnMut(&[u8], u64) -> ControlFlow<()>,
    ) -> Result<(), CommandError> {
        let mut open = None;
        self.scan_stored(txn, &keys, |key, stored| match stored {
            Some(number) => visit(&rest_of(key)[1..], number),
            None => {
                open = Some(key.to_vec());
                ControlFlow::Break(())
            }
        })?;
        let Some(first) = open else {
            return Ok(());
        };
        if txn.can_ask_writer() {
            return Err(CommandError::NeedsTick);
        }
        txn.want(self.rows.version(), self.front());
        for row in self.rows(txn, &(first, keys.1))? {
            let number = self.number(txn, &row)?;
            if row.stored.is_none() {
                txn.close_row(Family::Score, row.key.clone(), encode(number));
            }
            if visit(row.separator(), number).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// How many members a row stands for.
    pub fn number(&self, txn: &mut Txn<'_>, row: &Row) -> Result<u64, CommandError> {
        match (row.stored, txn.held(&row.key)) {
            (Some(number), _) | (None, Some(Known::Number(number))) => Ok(number),
            (None, _) => self.count(txn, row),
        }
    }

    /// What is known of a row after a change that the rows below show already. Nobody
    /// counts for a change alone as long as the row may wait and has not changed by `most`.
    pub fn changed(
        &self,
        txn: &mut Txn<'_>,
        row: &Row,
        change: i64,
        most: u64,
    ) -> Result<Known, CommandError> {
        let known = match row.stored {
            Some(number) => Known::Number(number),
            None => txn.held(&row.key).unwrap_or(Known::Change(0)),
        };
        let changed = match known {
            Known::Number(number) => number.checked_add_signed(change).ok_or(CORRUPT)?,
            Known::Change(before) => {
                let change = before.saturating_add(change);
                if change.unsigned_abs() < most && txn.leaves_open(self.rows.version()) {
                    return Ok(Known::Change(change));
                }
                self.count(txn, row)?
            }
        };
        Ok(Known::Number(changed))
    }

    /// Counts what a row stands for.
    fn count(&self, txn: &mut Txn<'_>, row: &Row) -> Result<u64, CommandError> {
        let next = self.after(txn, row)?;
        let end = next.as_ref().map(Row::separator);
        let mut number = 0;
        if row.level() > 1 {
            let keys = self.between(row.level() - 1, row.separator(), end);
            for below in self.rows(txn, &keys)? {
                number += self.number(txn, &below)?;
            }
            return Ok(number);
        }
        let (first, end) = self.order(row.separator(), end);
        txn.scan_rows_once(Family::Score, &first, &end, &mut |_, _| {
            number += 1;
            ControlFlow::Continue(())
        })?;
        Ok(number)
    }

    /// The last row of a level before the key `end`.
    fn last_before(
        &self,
        txn: &mut Txn<'_>,
        level: u8,
        end: &[u8],
    ) -> Result<Option<Row>, CommandError> {
        let first = self.key(level, b"");
        let found = txn.last_row(Family::Score, &first, end, |key, value| {
            (key.to_vec(), decode(value))
        })?;
        let row = |(key, stored): (Vec<u8>, Result<_, _>)| stored.map(|stored| Row { key, stored });
        found.map(row).transpose()
    }

    /// Shows keys and numbers of rows as they are stored.
    fn scan_stored(
        &self,
        txn: &mut Txn<'_>,
        (first, end): &(Vec<u8>, Vec<u8>),
        mut visit: impl FnMut(&[u8], Option<u64>) -> ControlFlow<()>,
    ) -> Result<(), CommandError> {
        let mut failed = None;
        let mut show = |key: &[u8], value: &[u8]| match decode(value) {
            Ok(stored) => visit(key, stored),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        txn.scan_rows(Family::Score, first, end, Direction::Forward, &mut show)?;
        failed.map_or(Ok(()), Err)
    }

    // Writing.

    /// Before rows are read to be changed: closes one, of any set, if there is no room
    /// for those to be left open.
    pub fn make_room(&self, txn: &mut Txn<'_>) {
        match txn.idle_row() {
            Some((key, Known::Number(number))) => self.write(txn, key.to_vec(), number),
            // It stays open, and nobody knows.
            Some((key, Known::Change(_))) => txn.release(&key),
            None => {}
        }
    }

    /// Sets what is known of a row that is there: it is written, or left open.
    pub fn set(&self, txn: &mut Txn<'_>, row: Row, known: Known) -> Result<(), CommandError> {
        if txn.leaves_open(self.rows.version()) && txn.hold(&row.key, known) {
            if row.stored.is_some() {
                txn.put_row(Family::Score, row.key, Bytes::new());
            }
            return Ok(());
        }
        let number = match known {
            Known::Number(number) => number,
            Known::Change(_) => self.count(txn, &row)?,
        };
        self.write(txn, row.key, number);
        Ok(())
    }

    /// Writes a row, which may be a new one.
    pub fn put(&self, txn: &mut Txn<'_>, level: u8, separator: &[u8], number: u64) {
        self.write(txn, self.key(level, separator), number);
    }

    pub fn delete(&self, txn: &mut Txn<'_>, row: Row) {
        txn.release(&row.key);
        txn.delete_row(Family::Score, row.key);
    }

    fn write(&self, txn: &mut Txn<'_>, key: Vec<u8>, number: u64) {
        txn.release(&key);
        txn.put_row(Family::Score, key, encode(number));
    }
}

/// Closes what the writer knows of a set whose ranks are asked for beside it.
pub fn close_wanted(overlay: &mut Overlay, (set, front): &WantedSet, now: u64) {
    for (key, number) in overlay.ask(*set, front, now) {
        overlay.close_row(Family::Score, key.into_vec(), encode(number));
    }
}

/// Closes rows for a command that was undone after it had closed them: it comes again,
/// and those who fetch for it meanwhile would count what the writer knows.
pub fn close_again(overlay: &mut Overlay, rows: Vec<RowKey>) {
    for key in rows {
        if let Some(Known::Number(number)) = overlay.held(&key) {
            overlay.close_row(Family::Score, key.into_vec(), encode(number));
        }
    }
}

fn encode(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// `None`: the row is open.
fn decode(value: &[u8]) -> Result<Option<u64>, CommandError> {
    if value.is_empty() {
        return Ok(None);
    }
    let bytes = value.try_into().map_err(|_| CORRUPT)?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MetaKey;
    use crate::storage::Version;
    use crate::types::rows::HEAD;

    #[test]
    fn golden_bytes_of_counts() {
        assert_eq!(&encode(258)[..], b"\0\0\0\0\0\0\x01\x02");
        assert_eq!(decode(b"\0\0\0\0\0\0\x01\x02").unwrap(), Some(258));
        assert_eq!(decode(b"").unwrap(), None);
        assert!(decode(b"\0\0\0\0\0\0\x01").is_err());
        let rows = Rows::of(&MetaKey::new(1, 2, b"z"), Version::default());
        let key = Counts::of(rows).key(1, b"sep");
        assert_eq!(&key[HEAD - 1..], b"\x02\x01sep");
    }
}
