//! A digest of what clients can see, for DEBUG DIGEST.
//!
//! Depends on keys, types, values and whether a key expires; not on physical
//! encoding, versions, log position or the order of anything. Equal content
//! gives equal digests on any two servers of one version.

use std::fmt;
use std::ops::ControlFlow;

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::debug::with_key;
use crate::server::Server;
use crate::storage::keys::split;
use crate::storage::{KeyType, MetaKey, Record};
use crate::txn::{CommandError, Txn};
use crate::types;
use crate::types::hash::Hash;
use crate::types::list::{End, List};
use crate::types::set::Set;
use crate::types::sorted_set::SortedSet;
use crate::types::sorted_set::place::{Span, place};
use crate::types::stream::Stream;
use crate::types::string::StringValue;

/// 160 bits, shown as 40 hex digits; no content at all is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    high: u128,
    low: u32,
}

impl Digest {
    fn of(bytes: &Xxh3) -> Digest {
        let high = bytes.digest128();
        Digest {
            high,
            low: xxh3_64_with_seed(&high.to_be_bytes(), 1) as u32,
        }
    }

    /// Order does not matter.
    fn join(&mut self, other: Digest) {
        self.high ^= other.high;
        self.low ^= other.low;
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}{:08x}", self.high, self.low)
    }
}

/// Of one key's value; a key that is not there has the digest 0.
pub(super) fn of_value(server: &Server, db: usize, name: &[u8]) -> Result<Digest, CommandError> {
    with_key(server, db, name, |txn, key| match txn.get(key)? {
        Some(record) => value_digest(txn, key, &record),
        None => Ok(Digest::default()),
    })
}

/// Of all databases of all groups.
pub(super) fn of_all(server: &Server) -> Result<Digest, CommandError> {
    let mut whole = Digest::default();
    for group in server.groups() {
        let engine = group.store.engine();
        let mut rows = engine.db.raw_iterator_cf(&engine.meta);
        rows.seek_to_first();
        while let Some((slot, generation, user_key)) = rows.key().and_then(split) {
            let db = group
                .store
                .with_maps(|maps| maps.live.database_of(slot, generation));
            if let Some(db) = db {
                let context = group.context(db, Some(slot), group.now(), true);
                let digest = group.store.with_maps(|maps| {
                    let mut txn = Txn::read(&group.store, maps, context);
                    key_digest(&mut txn, db, user_key)
                });
                whole.join(digest?);
            }
            rows.next();
        }
        rows.status()?;
    }
    Ok(whole)
}

fn key_digest(txn: &mut Txn<'_>, db: usize, user_key: &[u8]) -> Result<Digest, CommandError> {
    let key = txn.key(user_key);
    let Some(record) = txn.get(&key)? else {
        return Ok(Digest::default());
    };
    let value = value_digest(txn, &key, &record)?;
    let mut bytes = Xxh3::new();
    bytes.update(&(db as u64).to_be_bytes());
    bytes.update(&(user_key.len() as u64).to_be_bytes());
    bytes.update(user_key);
    bytes.update(&value.high.to_be_bytes());
    Ok(Digest::of(&bytes))
}

/// Of one element of a collection without order.
fn element_digest(member: &[u8], value: &[u8]) -> Digest {
    let mut bytes = Xxh3::new();
    for part in [member, value] {
        bytes.update(&(part.len() as u64).to_be_bytes());
        bytes.update(part);
    }
    Digest::of(&bytes)
}

fn value_digest(txn: &mut Txn<'_>, key: &MetaKey, record: &Record) -> Result<Digest, CommandError> {
    let (header, _) = types::decode(record)?;
    let mut bytes = Xxh3::new();
    bytes.update(&[header.key_type as u8, u8::from(header.expires_at.is_some())]);
    match header.key_type {
        KeyType::String => {
            let value = StringValue::of(record)?;
            bytes.update(&value.read_all(txn, key)?);
        }
        KeyType::Hash => {
            let mut all = Digest::default();
            Hash::of(key, record)?.each(txn, &mut |field, value| {
                all.join(element_digest(field, value));
                ControlFlow::Continue(())
            })?;
            bytes.update(&all.high.to_be_bytes());
        }
        KeyType::Set => {
            let mut all = Digest::default();
            Set::of(key, record)?.each(txn, &mut |member, _| {
                all.join(element_digest(member, b""));
                ControlFlow::Continue(())
            })?;
            bytes.update(&all.high.to_be_bytes());
        }
        KeyType::SortedSet => {
            SortedSet::of(key, record.clone())?.visit(
                txn,
                &Span::ALL,
                false,
                &mut |score, member| {
                    bytes.update(&place(score, member));
                    bytes.update(&(member.len() as u64).to_be_bytes());
                    ControlFlow::Continue(())
                },
            )?;
        }
        KeyType::List => {
            let list = List::of(key, record)?;
            list.show(txn, 0..list.len(), End::Left, &mut |element| {
                bytes.update(&(element.len() as u64).to_be_bytes());
                bytes.update(element);
            })?;
        }
        KeyType::Stream => {
            Stream::of(key, record)?.each_part(txn, &mut |part| {
                bytes.update(&(part.len() as u64).to_be_bytes());
                bytes.update(part);
            })?;
        }
    }
    Ok(Digest::of(&bytes))
}
