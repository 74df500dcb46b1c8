//! Physical keys: what every row on disk is filed under.
//!
//! ```text
//! every family     slot u16 BE | generation u32 BE | ...
//! meta             ... | user key
//! data, score      ... | version (epoch u32 BE, counter u64 BE) | member / sub-key
//! payload          ... | version (12 bytes) | fragment number u32 BE
//! expiry           ... | expires-at u64 BE ms | user key
//! ```
//!
//! The slot comes first so that a slot is one contiguous range of each
//! family; the generation second so that dropping a database, or an import,
//! is a change of a map and not a delete of rows. These bytes are frozen:
//! the golden tests below fail when they move.

use cairn_protocol::slot::key_slot;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes before the user key: slot and generation.
pub const PREFIX_LEN: usize = 6;
/// Bytes of a [`Version`] inside a physical key.
pub const VERSION_LEN: usize = 12;

/// One incarnation of a slot range of one database. Never reused in a group.
pub type Generation = u32;

/// Ties sub-keys to their parent record; never reused (invariant 6).
///
/// `epoch` is the slot's epoch when the incarnation was made, `counter` the
/// group's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    pub epoch: u32,
    pub counter: u64,
}

impl Version {
    pub fn to_bytes(self) -> [u8; VERSION_LEN] {
        let mut out = [0; VERSION_LEN];
        out[..4].copy_from_slice(&self.epoch.to_be_bytes());
        out[4..].copy_from_slice(&self.counter.to_be_bytes());
        out
    }

    /// The next version in key order: the end of this one's range of rows.
    pub fn next(self) -> Version {
        match self.counter.checked_add(1) {
            Some(counter) => Version { counter, ..self },
            None => Version {
                epoch: self.epoch.saturating_add(1),
                counter: 0,
            },
        }
    }

    /// Reads a version from the first 12 bytes, or `None` if there are fewer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Version> {
        let epoch = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
        let counter = u64::from_be_bytes(bytes.get(4..12)?.try_into().ok()?);
        Some(Version { epoch, counter })
    }
}

/// `slot | generation`, the first six bytes of every physical key.
pub fn prefix(slot: u16, generation: Generation) -> [u8; PREFIX_LEN] {
    let mut out = [0; PREFIX_LEN];
    out[..2].copy_from_slice(&slot.to_be_bytes());
    out[2..].copy_from_slice(&generation.to_be_bytes());
    out
}

/// Splits a physical key into slot, generation and the rest.
pub fn split(physical: &[u8]) -> Option<(u16, Generation, &[u8])> {
    let slot = u16::from_be_bytes(physical.get(..2)?.try_into().ok()?);
    let generation = u32::from_be_bytes(physical.get(2..6)?.try_into().ok()?);
    Some((slot, generation, &physical[PREFIX_LEN..]))
}

/// The first key after every key of (slot, generation); `None` at the very end.
pub fn prefix_end(slot: u16, generation: Generation) -> Option<Vec<u8>> {
    match generation.checked_add(1) {
        Some(next) => Some(prefix(slot, next).to_vec()),
        None => slot.checked_add(1).map(|s| s.to_be_bytes().to_vec()),
    }
}

/// The physical key of a `meta` record with its hash, made once a command.
#[derive(Debug)]
pub struct MetaKey {
    bytes: SmallVec<[u8; 56]>,
    hash: u64,
}

impl Clone for MetaKey {
    fn clone(&self) -> MetaKey {
        MetaKey {
            // The derived one would go byte by byte.
            bytes: SmallVec::from_slice(&self.bytes),
            hash: self.hash,
        }
    }
}

impl MetaKey {
    /// `generation` must be the one that the map names for the slot of `key`.
    pub fn new(slot: u16, generation: Generation, key: &[u8]) -> MetaKey {
        let mut bytes = SmallVec::new();
        bytes.extend_from_slice(&prefix(slot, generation));
        bytes.extend_from_slice(key);
        let hash = xxh3_64(&bytes);
        MetaKey { bytes, hash }
    }

    pub fn physical(&self) -> &[u8] {
        &self.bytes
    }

    pub fn user_key(&self) -> &[u8] {
        &self.bytes[PREFIX_LEN..]
    }

    pub fn slot(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    pub fn generation(&self) -> Generation {
        u32::from_be_bytes([self.bytes[2], self.bytes[3], self.bytes[4], self.bytes[5]])
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// The slot of a user key (hash tags respected).
pub fn slot_of(key: &[u8]) -> u16 {
    key_slot(key)
}

/// Row of a sub-key: `slot | generation | version | rest`.
pub fn sub_key(slot: u16, generation: Generation, version: Version, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_LEN + VERSION_LEN + rest.len());
    out.extend_from_slice(&prefix(slot, generation));
    out.extend_from_slice(&version.to_bytes());
    out.extend_from_slice(rest);
    out
}

/// Row of the `expiry` index.
pub fn expiry_key(physical_meta: &[u8], expires_at_ms: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(physical_meta.len() + 8);
    out.extend_from_slice(&physical_meta[..PREFIX_LEN]);
    out.extend_from_slice(&expires_at_ms.to_be_bytes());
    out.extend_from_slice(&physical_meta[PREFIX_LEN..]);
    out
}

/// Splits an `expiry` row into (expires-at ms, user key).
pub fn split_expiry(row: &[u8]) -> Option<(u64, &[u8])> {
    let at = u64::from_be_bytes(row.get(PREFIX_LEN..PREFIX_LEN + 8)?.try_into().ok()?);
    Some((at, &row[PREFIX_LEN + 8..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_physical_keys() {
        assert_eq!(
            prefix(0x1234, 0xa1b2c3d4),
            [0x12, 0x34, 0xa1, 0xb2, 0xc3, 0xd4]
        );
        let key = MetaKey::new(12182, 1, b"foo");
        assert_eq!(key.physical(), b"\x2f\x96\x00\x00\x00\x01foo");
        let version = Version {
            epoch: 7,
            counter: 0x0102030405060708,
        };
        assert_eq!(
            sub_key(1, 2, version, b"f"),
            b"\x00\x01\x00\x00\x00\x02\x00\x00\x00\x07\x01\x02\x03\x04\x05\x06\x07\x08f"
        );
        assert_eq!(
            expiry_key(key.physical(), 0x0a),
            b"\x2f\x96\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x0afoo"
        );
    }

    #[test]
    fn parts_come_back_out_of_a_key() {
        let key = MetaKey::new(slot_of(b"foo"), 9, b"foo");
        assert_eq!(split(key.physical()), Some((12182, 9, &b"foo"[..])));
        assert_eq!(
            split_expiry(&expiry_key(key.physical(), 77)),
            Some((77, &b"foo"[..]))
        );
        assert_eq!(split(b"\x00"), None);
        let version = Version {
            epoch: 3,
            counter: 4,
        };
        assert_eq!(Version::from_bytes(&version.to_bytes()), Some(version));
    }

    #[test]
    fn a_generation_ends_where_the_next_begins() {
        assert_eq!(prefix_end(5, 1).as_deref(), Some(&prefix(5, 2)[..]));
        assert_eq!(prefix_end(5, u32::MAX), Some(vec![0, 6]));
        assert_eq!(prefix_end(u16::MAX, u32::MAX), None);
    }
}
