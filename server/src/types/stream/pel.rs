//! Pending entries: delivered to a consumer and not acknowledged.
//!
//! ```text
//! pending   consumer u32 | delivered at i64 ms | deliveries u64
//! ```
//!
//! Each is filed under its group, and without a value under its consumer.

use std::collections::{BTreeMap, btree_map};
use std::ops::ControlFlow;

use bytes::Bytes;
use rocksdb::Direction;

use super::groups::{CORRUPT, Consumer, Group, end_of};
use super::{Fields, StreamId, TAG_OWNED, TAG_PENDING};
use crate::txn::effects::Family;
use crate::txn::{CommandError, Txn};

/// A pending entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub id: StreamId,
    /// Number of the consumer that it was delivered to.
    pub consumer: u32,
    /// Unix ms.
    pub delivered_at: i64,
    pub deliveries: u64,
}

impl Pending {
    fn read(id: StreamId, row: &[u8]) -> Option<Pending> {
        let mut row = Fields(row);
        Some(Pending {
            id,
            consumer: row.u32()?,
            delivered_at: row.i64()?,
            deliveries: row.u64()?,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(20);
        row.extend_from_slice(&self.consumer.to_be_bytes());
        row.extend_from_slice(&self.delivered_at.to_be_bytes());
        row.extend_from_slice(&self.deliveries.to_be_bytes());
        row
    }
}

impl Group {
    fn owned_key(&self, consumer: u32, id: StreamId) -> Vec<u8> {
        let mut key = self.key(TAG_OWNED, &consumer.to_be_bytes());
        key.extend_from_slice(&id.to_bytes());
        key
    }

    fn pending_key(&self, id: StreamId) -> Vec<u8> {
        self.key(TAG_PENDING, &id.to_bytes())
    }

    /// Widens the bounds of pending ids to one that is about to be pending.
    fn bound(&mut self, id: StreamId) {
        if self.pending == 0 {
            (self.lowest, self.highest) = (id, id);
        }
        self.lowest = self.lowest.min(id);
        self.highest = self.highest.max(id);
    }

    /// The pending entry of this id.
    pub fn find_pending(
        &self,
        txn: &mut Txn<'_>,
        id: StreamId,
    ) -> Result<Option<Pending>, CommandError> {
        if self.pending == 0 || id < self.lowest || id > self.highest {
            return Ok(None);
        }
        match txn.row(Family::Data, &self.pending_key(id))? {
            Some(row) => Pending::read(id, &row).ok_or(CORRUPT).map(Some),
            None => Ok(None),
        }
    }

    /// Shows `visit` what is pending from `start` to `end`, both included,
    /// until it answers `false`.
    pub fn each_pending(
        &self,
        txn: &mut Txn<'_>,
        start: StreamId,
        end: StreamId,
        direction: Direction,
        visit: &mut dyn FnMut(Pending) -> bool,
    ) -> Result<(), CommandError> {
        let (start, end) = (start.max(self.lowest), end.min(self.highest));
        if self.pending == 0 || start > end {
            return Ok(());
        }
        let (first, until) = (self.pending_key(start), end_of(self.pending_key(end)));
        let head = first.len() - crate::stream_id::ID_LEN;
        let mut broken = false;
        txn.scan_rows(
            Family::Data,
            &first,
            &until,
            direction,
            &mut |key, value| {
                let pending =
                    StreamId::from_bytes(&key[head..]).and_then(|id| Pending::read(id, value));
                broken = pending.is_none();
                match pending.is_some_and(&mut *visit) {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            },
        )?;
        if broken { Err(CORRUPT) } else { Ok(()) }
    }

    /// What is pending from `start` on: all of it, or enough to go on with
    /// behind the last.
    pub fn pending_page(
        &self,
        txn: &mut Txn<'_>,
        start: StreamId,
    ) -> Result<Vec<Pending>, CommandError> {
        const PAGE: usize = 256;
        let mut page = Vec::new();
        let forward = Direction::Forward;
        self.each_pending(txn, start, StreamId::MAX, forward, &mut |pending| {
            page.push(pending);
            page.len() < PAGE
        })?;
        Ok(page)
    }

    /// Ids of what is pending for a consumer from `start` on, at most `max`.
    pub fn owned(
        &self,
        txn: &mut Txn<'_>,
        consumer: &Consumer,
        start: StreamId,
        max: usize,
    ) -> Result<Vec<StreamId>, CommandError> {
        let mut ids = Vec::new();
        if consumer.pending == 0 || max == 0 {
            return Ok(ids);
        }
        let first = self.owned_key(consumer.number, start.max(self.lowest));
        let (_, until) = self.range(TAG_OWNED, &consumer.number.to_be_bytes());
        let head = first.len() - crate::stream_id::ID_LEN;
        let forward = Direction::Forward;
        txn.scan_rows(Family::Data, &first, &until, forward, &mut |key, _| {
            ids.extend(StreamId::from_bytes(&key[head..]));
            match ids.len() < max {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        Ok(ids)
    }

    /// Id of the first or last pending entry.
    pub fn edge(
        &self,
        txn: &mut Txn<'_>,
        direction: Direction,
    ) -> Result<Option<StreamId>, CommandError> {
        let mut edge = None;
        self.each_pending(
            txn,
            StreamId::MIN,
            StreamId::MAX,
            direction,
            &mut |pending| {
                edge = Some(pending.id);
                false
            },
        )?;
        Ok(edge)
    }

    /// Begins changes of what is pending.
    pub fn edit(self) -> Edit {
        Edit {
            group: self,
            consumers: BTreeMap::new(),
        }
    }
}

/// Changes of what is pending; counts of group and consumers follow. Kept by
/// [`Edit::store`].
pub struct Edit {
    pub group: Group,
    consumers: BTreeMap<u32, Consumer>,
}

impl Edit {
    /// Takes over a consumer that the caller has changed.
    pub fn with(&mut self, consumer: Consumer) {
        self.consumers.insert(consumer.number, consumer);
    }

    /// How many are pending for a consumer, if that was changed here.
    pub fn pending_of(&self, number: u32) -> Option<u64> {
        self.consumers.get(&number).map(|consumer| consumer.pending)
    }

    fn count(&mut self, txn: &mut Txn<'_>, number: u32, by: i64) -> Result<(), CommandError> {
        let consumer = match self.consumers.entry(number) {
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(free) => free.insert(self.group.consumer_of(txn, number)?),
        };
        consumer.pending = consumer.pending.checked_add_signed(by).ok_or(CORRUPT)?;
        Ok(())
    }

    /// Sets the pending entry of an id. `old` is what it is now.
    pub fn put(
        &mut self,
        txn: &mut Txn<'_>,
        old: Option<Pending>,
        new: Pending,
    ) -> Result<(), CommandError> {
        let moved = old.is_none_or(|old| old.consumer != new.consumer);
        if let Some(old) = old.filter(|_| moved) {
            self.disown(txn, old)?;
        }
        if old.is_none() {
            self.group.bound(new.id);
            self.group.pending += 1;
        }
        if moved {
            self.count(txn, new.consumer, 1)?;
            let key = self.group.owned_key(new.consumer, new.id);
            txn.put_row(Family::Data, key, Bytes::new());
        }
        let key = self.group.pending_key(new.id);
        txn.put_row(Family::Data, key, new.encode().into());
        Ok(())
    }

    fn disown(&mut self, txn: &mut Txn<'_>, old: Pending) -> Result<(), CommandError> {
        self.count(txn, old.consumer, -1)?;
        let key = self.group.owned_key(old.consumer, old.id);
        txn.delete_row(Family::Data, key);
        Ok(())
    }

    /// The entry is pending no more.
    pub fn remove(&mut self, txn: &mut Txn<'_>, old: Pending) -> Result<(), CommandError> {
        self.disown(txn, old)?;
        txn.delete_row(Family::Data, self.group.pending_key(old.id));
        self.group.pending = self.group.pending.checked_sub(1).ok_or(CORRUPT)?;
        if old.id == self.group.lowest {
            self.group.lowest = old.id.next().unwrap_or(old.id);
        }
        Ok(())
    }

    pub fn store(self, txn: &mut Txn<'_>) {
        for consumer in self.consumers.values() {
            self.group.store_consumer(txn, consumer);
        }
        self.group.store(txn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_pending_entry() {
        let pending = Pending {
            id: StreamId::new(1, 2),
            consumer: 3,
            delivered_at: 4,
            deliveries: 5,
        };
        let want = [0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5];
        assert_eq!(pending.encode(), want);
        assert_eq!(Pending::read(pending.id, &want), Some(pending));
        assert_eq!(Pending::read(pending.id, &want[1..]), None);
    }
}
