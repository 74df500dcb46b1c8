//! Consumer groups and consumers.
//!
//! ```text
//! group      number u32 | last id | entries read i64 (-1: not known) | pending u64
//!            | lowest pending id | highest pending id | consumers u32 | next consumer number u32
//! consumer   seen-time i64 ms | pending u64 | name
//! ```
//!
//! Lowest and highest pending ids are bounds, not exact: scans need not go
//! over what was acknowledged long ago, nor new entries look for a pending one.

use std::ops::ControlFlow;

use bytes::Bytes;
use rocksdb::Direction;

use super::{
    Fields, Stream, StreamId, TAG_CONSUMER, TAG_CONSUMER_NAME, TAG_GROUP, TAG_OWNED, TAG_PENDING,
};
use crate::txn::effects::Family;
use crate::txn::{CommandError, Txn};
use crate::types::rows::{Rows, rest_of};

pub(super) const CORRUPT: CommandError = CommandError::Corrupt("a consumer group");

/// A consumer group. Changes are kept by [`Group::store`].
pub struct Group {
    pub(super) rows: Rows,
    pub(super) number: u32,
    pub name: Vec<u8>,
    /// The last entry that was delivered.
    pub last_id: StreamId,
    /// How many entries were added up to `last_id`; -1: not known.
    pub entries_read: i64,
    /// Entries that are delivered and not acknowledged.
    pub pending: u64,
    pub(super) lowest: StreamId,
    pub(super) highest: StreamId,
    pub consumers: u32,
    next_consumer: u32,
}

/// A consumer of a group. Changes are kept by [`Group::store_consumer`].
#[derive(Clone)]
pub struct Consumer {
    pub number: u32,
    pub name: Vec<u8>,
    /// When it last did something, unix ms.
    pub seen_at: i64,
    pub pending: u64,
}

impl Stream {
    pub fn group(&self, txn: &mut Txn<'_>, name: &[u8]) -> Result<Option<Group>, CommandError> {
        let Some(rows) = self.rows_at.filter(|_| self.groups > 0) else {
            return Ok(None);
        };
        match txn.row(Family::Data, &rows.key(TAG_GROUP, name))? {
            Some(row) => Group::read(rows, name, &row).ok_or(CORRUPT).map(Some),
            None => Ok(None),
        }
    }

    /// Makes a group; the caller has checked that there is none of this name.
    pub fn create_group(
        &mut self,
        txn: &mut Txn<'_>,
        name: &[u8],
        last_id: StreamId,
        entries_read: i64,
    ) -> Group {
        let group = Group {
            rows: self.spread(txn),
            number: self.next_group,
            name: name.to_vec(),
            last_id,
            entries_read,
            pending: 0,
            lowest: StreamId::MAX,
            highest: StreamId::MIN,
            consumers: 0,
            next_consumer: 0,
        };
        self.next_group += 1;
        self.groups += 1;
        group.store(txn);
        group
    }

    /// Deletes a group with all that belongs to it. O(1): its number is
    /// never used again.
    pub fn destroy_group(&mut self, txn: &mut Txn<'_>, group: Group) {
        txn.delete_row(Family::Data, group.rows.key(TAG_GROUP, &group.name));
        self.groups -= 1;
        if group.next_consumer == 0 {
            return;
        }
        for tag in [TAG_PENDING, TAG_OWNED, TAG_CONSUMER, TAG_CONSUMER_NAME] {
            let (first, end) = group.range(tag, b"");
            txn.delete_rows(Family::Data, first, end);
        }
    }

    /// All groups, by name.
    pub fn all_groups(&self, txn: &mut Txn<'_>) -> Result<Vec<Group>, CommandError> {
        let Some(rows) = self.rows_at.filter(|_| self.groups > 0) else {
            return Ok(Vec::new());
        };
        let (first, end) = rows.range(TAG_GROUP);
        let mut groups = Vec::new();
        let forward = Direction::Forward;
        txn.scan_rows(Family::Data, &first, &end, forward, &mut |key, value| {
            groups.push(Group::read(rows, rest_of(key), value));
            ControlFlow::Continue(())
        })?;
        groups.into_iter().collect::<Option<_>>().ok_or(CORRUPT)
    }
}

impl Group {
    fn read(rows: Rows, name: &[u8], row: &[u8]) -> Option<Group> {
        let mut row = Fields(row);
        Some(Group {
            rows,
            number: row.u32()?,
            name: name.to_vec(),
            last_id: row.id()?,
            entries_read: row.i64()?,
            pending: row.u64()?,
            lowest: row.id()?,
            highest: row.id()?,
            consumers: row.u32()?,
            next_consumer: row.u32()?,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(76);
        row.extend_from_slice(&self.number.to_be_bytes());
        row.extend_from_slice(&self.last_id.to_bytes());
        row.extend_from_slice(&self.entries_read.to_be_bytes());
        row.extend_from_slice(&self.pending.to_be_bytes());
        row.extend_from_slice(&self.lowest.to_bytes());
        row.extend_from_slice(&self.highest.to_bytes());
        row.extend_from_slice(&self.consumers.to_be_bytes());
        row.extend_from_slice(&self.next_consumer.to_be_bytes());
        row
    }

    pub fn store(&self, txn: &mut Txn<'_>) {
        let key = self.rows.key(TAG_GROUP, &self.name);
        txn.put_row(Family::Data, key, self.encode().into());
    }

    /// Key of a row of this group.
    pub(super) fn key(&self, tag: u8, rest: &[u8]) -> Vec<u8> {
        let mut key = self.rows.key(tag, &self.number.to_be_bytes());
        key.extend_from_slice(rest);
        key
    }

    /// The rows of this group under a tag that begin with `rest`.
    pub(super) fn range(&self, tag: u8, rest: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let first = self.key(tag, rest);
        (first.clone(), end_of(first))
    }

    fn consumer_key(&self, number: u32) -> Vec<u8> {
        self.key(TAG_CONSUMER, &number.to_be_bytes())
    }

    pub fn consumer(
        &self,
        txn: &mut Txn<'_>,
        name: &[u8],
    ) -> Result<Option<Consumer>, CommandError> {
        let row = txn.row(Family::Data, &self.key(TAG_CONSUMER_NAME, name))?;
        match row {
            Some(row) => {
                let number = Fields(&row).u32().ok_or(CORRUPT)?;
                self.consumer_of(txn, number).map(Some)
            }
            None => Ok(None),
        }
    }

    /// The consumer of this number, which must exist.
    pub fn consumer_of(&self, txn: &mut Txn<'_>, number: u32) -> Result<Consumer, CommandError> {
        let row = txn.row(Family::Data, &self.consumer_key(number))?;
        row.and_then(|row| Consumer::read(number, &row))
            .ok_or(CORRUPT)
    }

    /// Makes a consumer; the caller has checked that there is none of this
    /// name, and stores the group.
    pub fn create_consumer(&mut self, txn: &mut Txn<'_>, name: &[u8]) -> Consumer {
        let consumer = Consumer {
            number: self.next_consumer,
            name: name.to_vec(),
            seen_at: txn.now() as i64,
            pending: 0,
        };
        self.next_consumer += 1;
        self.consumers += 1;
        let number = Bytes::copy_from_slice(&consumer.number.to_be_bytes());
        txn.put_row(Family::Data, self.key(TAG_CONSUMER_NAME, name), number);
        self.store_consumer(txn, &consumer);
        consumer
    }

    pub fn store_consumer(&self, txn: &mut Txn<'_>, consumer: &Consumer) {
        let mut row = Vec::with_capacity(16 + consumer.name.len());
        row.extend_from_slice(&consumer.seen_at.to_be_bytes());
        row.extend_from_slice(&consumer.pending.to_be_bytes());
        row.extend_from_slice(&consumer.name);
        txn.put_row(Family::Data, self.consumer_key(consumer.number), row.into());
    }

    /// Deletes a consumer and what is pending for it; the caller stores the
    /// group.
    pub fn delete_consumer(
        &mut self,
        txn: &mut Txn<'_>,
        consumer: &Consumer,
    ) -> Result<(), CommandError> {
        for id in self.owned(txn, consumer, StreamId::MIN, usize::MAX)? {
            txn.delete_row(Family::Data, self.key(TAG_PENDING, &id.to_bytes()));
        }
        self.pending -= consumer.pending;
        self.consumers -= 1;
        let (first, end) = self.range(TAG_OWNED, &consumer.number.to_be_bytes());
        if consumer.pending > 0 {
            txn.delete_rows(Family::Data, first, end);
        }
        txn.delete_row(Family::Data, self.key(TAG_CONSUMER_NAME, &consumer.name));
        txn.delete_row(Family::Data, self.consumer_key(consumer.number));
        Ok(())
    }

    /// All consumers, by name.
    pub fn all_consumers(&self, txn: &mut Txn<'_>) -> Result<Vec<Consumer>, CommandError> {
        let (first, end) = self.range(TAG_CONSUMER, b"");
        let head = first.len();
        let mut consumers = Vec::new();
        let forward = Direction::Forward;
        txn.scan_rows(Family::Data, &first, &end, forward, &mut |key, value| {
            let number = Fields(&key[head..]).u32();
            consumers.push(number.and_then(|number| Consumer::read(number, value)));
            ControlFlow::Continue(())
        })?;
        let consumers: Option<Vec<Consumer>> = consumers.into_iter().collect();
        let mut consumers = consumers.ok_or(CORRUPT)?;
        consumers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(consumers)
    }

    /// How many entries the group has yet to read; `None`: that cannot be told.
    pub fn lag(&self, stream: &Stream) -> Option<i64> {
        if stream.entries_added == 0 {
            return Some(0);
        }
        if self.entries_read != -1 && !stream.has_tombstones_from(self.last_id) {
            return Some((stream.entries_added as i64).wrapping_sub(self.entries_read));
        }
        let read = stream.entries_up_to(self.last_id)?;
        Some(stream.entries_added.wrapping_sub(read) as i64)
    }

    /// Notes that the entry `id` was delivered.
    pub fn deliver(&mut self, stream: &Stream, id: StreamId) {
        if id <= self.last_id {
            return;
        }
        if self.entries_read != -1 && !stream.has_tombstones_from(id) {
            self.entries_read = self.entries_read.wrapping_add(1);
        } else if stream.entries_added > 0 {
            self.entries_read = stream.entries_up_to(id).map_or(-1, |read| read as i64);
        }
        self.last_id = id;
    }
}

impl Consumer {
    fn read(number: u32, row: &[u8]) -> Option<Consumer> {
        let mut row = Fields(row);
        Some(Consumer {
            number,
            seen_at: row.i64()?,
            pending: row.u64()?,
            name: row.0.to_vec(),
        })
    }
}

/// The end of the keys that begin with `prefix`.
pub(super) fn end_of(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            break;
        }
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MetaKey, Version};

    #[test]
    fn golden_bytes_of_a_group() {
        let key = MetaKey::new(1, 1, b"s");
        let group = Group {
            rows: Rows::of(&key, Version::default()),
            number: 1,
            name: b"g".to_vec(),
            last_id: StreamId::new(2, 3),
            entries_read: -1,
            pending: 4,
            lowest: StreamId::new(5, 6),
            highest: StreamId::new(7, 8),
            consumers: 9,
            next_consumer: 10,
        };
        let bytes = group.encode();
        let u64s = |n: u8| [0, 0, 0, 0, 0, 0, 0, n];
        let want = [
            &[0, 0, 0, 1][..],
            &u64s(2),
            &u64s(3),
            &[0xff; 8],
            &u64s(4),
            &u64s(5),
            &u64s(6),
            &u64s(7),
            &u64s(8),
            &[0, 0, 0, 9, 0, 0, 0, 10],
        ];
        assert_eq!(bytes, want.concat());
        let back = Group::read(group.rows, b"g", &bytes).unwrap();
        assert_eq!(back.encode(), bytes);
        assert!(Group::read(group.rows, b"g", &bytes[1..]).is_none());
        assert_eq!(end_of(vec![1, 0xff, 0xff]), [2]);
    }
}
