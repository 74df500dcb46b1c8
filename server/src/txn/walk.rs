//! Walking over the keys of a database, in order of slot, then key.
//!
//! One RocksDB iterator is one consistent view, merged with what the batch
//! has changed. Slots without keys are skipped by their counts. For KEYS,
//! SCAN and RANDOMKEY; the caller has asked [`Txn::require_disk`] first.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use cairn_protocol::slot::SLOT_COUNT;
use rocksdb::{DBRawIterator, ReadOptions};

use super::overlay::State;
use super::{CommandError, Expiry, Txn};
use crate::storage::generations::{DbGenerations, NONE};
use crate::storage::keys::{prefix, split};
use crate::storage::{Header, Store};

/// Where a walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkFrom<'a> {
    pub slot: u16,
    /// Only keys at or behind this one, within `slot`.
    pub key: &'a [u8],
}

impl WalkFrom<'_> {
    pub const START: WalkFrom<'static> = WalkFrom { slot: 0, key: b"" };
}

/// One key that a walk meets.
pub struct Met<'a> {
    pub slot: u16,
    pub key: &'a [u8],
    pub header: Header,
    /// Expired, and to be treated as absent.
    pub expired: bool,
}

/// Changes of the batch: `None` is deleted.
type Pending = BTreeMap<(u16, Vec<u8>), Option<Header>>;

impl Txn<'_> {
    /// Shows `visit` the keys of database `db` from `from` on, until it breaks.
    ///
    /// Expired keys are shown too, marked as such: a visitor bounds its work
    /// by what it meets. Does not count as [`Txn::touched`].
    pub fn walk_keys(
        &mut self,
        db: usize,
        from: WalkFrom<'_>,
        visit: &mut dyn FnMut(Met<'_>) -> ControlFlow<()>,
    ) -> Result<(), CommandError> {
        let map = self.maps().live.clone();
        let mut pending = self.pending_headers(db, from).into_iter().peekable();
        // The iterator is made before anything is asked of the counters.
        let store = self.store;
        let mut stored = StoredKeys::new(store, &map, db, from);
        loop {
            let there = stored.settle()?;
            let next_stored = there.then(|| stored.current()).flatten();
            let pending_first = match (pending.peek(), next_stored) {
                (None, None) => return Ok(()),
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(((slot, key), _)), Some(stored)) => (*slot, &key[..]) <= stored,
            };
            let flow = if pending_first {
                let ((slot, key), header) = pending.next().expect("peeked");
                if next_stored == Some((slot, &key[..])) {
                    stored.rows.next();
                }
                match header {
                    Some(header) => self.meet(db, (slot, &key), header, visit)?,
                    None => ControlFlow::Continue(()),
                }
            } else {
                let flow = {
                    let (slot, key) = next_stored.expect("one of the two is there");
                    self.meet(db, (slot, key), stored.header()?, visit)?
                };
                stored.rows.next();
                flow
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }

    fn meet(
        &mut self,
        db: usize,
        (slot, key): (u16, &[u8]),
        header: Header,
        visit: &mut dyn FnMut(Met<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, CommandError> {
        let expired = match header.expires_at {
            Some(at) if at < self.now() && self.context.expiry != Expiry::Keeps => {
                let collects = self.context.expiry == Expiry::Collects;
                if collects {
                    self.note_expired(at)?;
                }
                if collects && self.context.recorded && self.is_write() {
                    // Read, it goes, and replicas are told so.
                    let key = self.key_in(db, key);
                    self.get(&key)?;
                }
                true
            }
            _ => false,
        };
        Ok(visit(Met {
            slot,
            key,
            header,
            expired,
        }))
    }

    fn pending_headers(&self, db: usize, from: WalkFrom<'_>) -> Pending {
        let Some(overlay) = &self.overlay else {
            return Pending::new();
        };
        let live = &overlay.map().live;
        overlay
            .metas()
            .filter(|(key, _)| live.get(db, key.slot()) == key.generation())
            .filter(|(key, _)| (key.slot(), key.user_key()) >= (from.slot, from.key))
            .filter_map(|(key, state)| {
                let header = match state {
                    State::Unchanged => return None,
                    State::Put(record) => record.header(),
                    State::Deleted => None,
                };
                Some(((key.slot(), key.user_key().to_vec()), header))
            })
            .collect()
    }
}

/// The stored keys of one database.
struct StoredKeys<'a> {
    rows: DBRawIterator<'a>,
    store: &'a Store,
    map: &'a DbGenerations,
    db: usize,
}

impl<'a> StoredKeys<'a> {
    fn new(
        store: &'a Store,
        map: &'a DbGenerations,
        db: usize,
        from: WalkFrom<'_>,
    ) -> StoredKeys<'a> {
        let engine = store.engine();
        let mut rows = engine
            .db
            .raw_iterator_cf_opt(&engine.meta, ReadOptions::default());
        let generation = map.get(db, from.slot);
        rows.seek([&prefix(from.slot, generation)[..], from.key].concat());
        StoredKeys {
            rows,
            store,
            map,
            db,
        }
    }

    /// Moves on to the next key of the database. False at the end.
    fn settle(&mut self) -> Result<bool, CommandError> {
        while let Some(row) = self.rows.key() {
            let (slot, generation, _) =
                split(row).ok_or(CommandError::Corrupt("the key of a record"))?;
            let wanted = self.map.get(self.db, slot);
            if wanted != NONE && wanted == generation {
                return Ok(true);
            }
            let first = if generation < wanted {
                Some(slot)
            } else {
                slot.checked_add(1)
            };
            let Some(next) = first.and_then(|slot| self.next_filled(slot)) else {
                return Ok(false);
            };
            self.rows.seek(prefix(next, self.map.get(self.db, next)));
        }
        self.rows.status()?;
        Ok(false)
    }

    /// The first slot from `slot` on that has keys.
    fn next_filled(&self, slot: u16) -> Option<u16> {
        (slot..SLOT_COUNT).find(|slot| {
            let generation = self.map.get(self.db, *slot);
            generation != NONE && self.store.counters.get(generation, *slot) > 0
        })
    }

    fn current(&self) -> Option<(u16, &[u8])> {
        self.rows
            .key()
            .and_then(split)
            .map(|(slot, _, key)| (slot, key))
    }

    fn header(&self) -> Result<Header, CommandError> {
        let header = self.rows.value().and_then(Header::decode);
        header
            .map(|(header, _)| header)
            .ok_or(CommandError::Corrupt("the header of a record"))
    }
}
