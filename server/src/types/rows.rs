//! Rows of a spread collection.
//!
//! ```text
//! data          slot u16 | generation u32 | version (12 bytes)                  ->  the parent's user key
//! data, score   slot u16 | generation u32 | version (12 bytes) | tag u8 | rest  ->  the type's own
//! ```
//!
//! The first is the back-reference by which the compaction filter finds the
//! parent. Tags are each type's own, frozen, and not 0; what follows a tag
//! sorts as bytes.

use crate::storage::keys::{PREFIX_LEN, VERSION_LEN, prefix, sub_key};
use crate::storage::{MetaKey, Version};
use crate::txn::Txn;
use crate::txn::effects::Family;

/// Bytes before what follows the tag.
pub const HEAD: usize = PREFIX_LEN + VERSION_LEN + 1;

/// Where the rows of one incarnation of a collection are.
#[derive(Clone, Copy)]
pub struct Rows {
    slot: u16,
    generation: u32,
    version: Version,
}

impl Rows {
    /// The rows of the collection that `key` is, under `version`.
    pub fn of(key: &MetaKey, version: Version) -> Rows {
        Rows {
            slot: key.slot(),
            generation: key.generation(),
            version,
        }
    }

    /// Rows of a new incarnation; writes its back-reference.
    pub fn create(txn: &mut Txn<'_>, key: &MetaKey) -> Rows {
        let rows = Rows::of(key, txn.next_version());
        let back = sub_key(rows.slot, rows.generation, rows.version, b"");
        txn.put_row(Family::Data, back, key.user_key().to_vec().into());
        rows
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The physical key of one row.
    pub fn key(&self, tag: u8, rest: &[u8]) -> Vec<u8> {
        let mut key = self.key_with_room(tag, rest.len());
        key.extend_from_slice(rest);
        key
    }

    /// The front of such a key, with room for `room` bytes behind the tag.
    pub fn key_with_room(&self, tag: u8, room: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(HEAD + room);
        key.extend_from_slice(&prefix(self.slot, self.generation));
        key.extend_from_slice(&self.version.to_bytes());
        key.push(tag);
        key
    }

    /// First key and end (exclusive) of all rows under a tag.
    pub fn range(&self, tag: u8) -> (Vec<u8>, Vec<u8>) {
        (self.key(tag, b""), self.key(tag + 1, b""))
    }
}

/// What follows the tag in a physical key that [`Rows::key`] made.
pub fn rest_of(physical: &[u8]) -> &[u8] {
    &physical[HEAD..]
}
