//! Redis's serialised form of one value: what DUMP gives and RESTORE takes.
//!
//! ```text
//! payload   type u8 | the value | RDB version u16 LE | CRC64 of all before it, u64 LE
//! ```
//!
//! A [`Value`] is the neutral form between these bytes and Cairn's own types:
//! this folder knows no storage, and the types know no RDB. Written is the
//! format of Redis 7.0 (RDB version 10); read are all forms since 2.6. The
//! payload comes from clients: nothing is allocated for what it only claims,
//! and whatever contradicts itself is [`Malformed`].
//!
//! Source: Redis's rdb.h and listpack.h (numbers), and payloads of redis-server.

mod decode;
mod encode;
pub mod file;
mod primitives;
mod stream;
mod ziplist;

pub use decode::decode;
pub use encode::{encode, encode_body};
pub(crate) use primitives::{put_length, put_string};
pub use stream::{StreamConsumer, StreamEntry, StreamGroup, StreamPending, StreamValue};

use crc::{Crc, Table};

use crate::listpack::Element;

/// Fields and values.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The version that is written, and the highest that is read.
pub const RDB_VERSION: u16 = 10;
/// Bytes behind the value.
const FOOTER: usize = 10;

static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&crc::CRC_64_REDIS);

/// Numbers of the types in a payload's first byte.
pub(crate) mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET_2: u8 = 5;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_2: u8 = 19;
}

/// A value of any type, elements in the order in which the payload has them.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(Vec<Vec<u8>>),
    SortedSet(Vec<(Vec<u8>, f64)>),
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    Stream(StreamValue),
}

/// In which of Redis's two forms a collection is written: what OBJECT ENCODING
/// answers for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `listpack`, or `intset` for a set.
    Compact,
    /// `hashtable`, `skiplist`.
    Table,
}

impl Form {
    /// The form of a value of which OBJECT ENCODING answers `encoding`.
    pub fn of(encoding: &str) -> Form {
        match encoding {
            "hashtable" | "skiplist" => Form::Table,
            _ => Form::Compact,
        }
    }
}

/// A payload of another version, with a wrong checksum or too short for both.
#[derive(Debug, PartialEq, Eq)]
pub struct Unverified;

/// The value contradicts itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// All elements of a listpack.
fn listpack(bytes: &[u8]) -> Result<Vec<Element<'_>>, Malformed> {
    crate::listpack::elements(bytes).ok_or(Malformed)
}

/// The checksum at the end of a file, taken piece by piece.
pub(crate) struct Checksum(crc::Digest<'static, u64, Table<16>>);

impl Default for Checksum {
    fn default() -> Checksum {
        Checksum(CRC64.digest())
    }
}

impl Checksum {
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn value(self) -> u64 {
        self.0.finalize()
    }
}

/// Adds version and checksum to a serialised value.
fn seal(mut payload: Vec<u8>) -> Vec<u8> {
    payload.extend_from_slice(&RDB_VERSION.to_le_bytes());
    let sum = CRC64.checksum(&payload);
    payload.extend_from_slice(&sum.to_le_bytes());
    payload
}

/// The serialised value within a payload.
///
/// # Errors
/// [`Unverified`] if version or checksum are wrong.
pub fn verify(payload: &[u8]) -> Result<&[u8], Unverified> {
    let value = verify_version(payload)?;
    let (summed, sum) = payload.split_at(value.len() + 2);
    match CRC64.checksum(summed).to_le_bytes() == sum {
        true => Ok(value),
        false => Err(Unverified),
    }
}

/// The same with whatever checksum.
///
/// # Errors
/// [`Unverified`] if the version is wrong.
pub fn verify_version(payload: &[u8]) -> Result<&[u8], Unverified> {
    let end = payload.len().checked_sub(FOOTER).ok_or(Unverified)?;
    let version = u16::from_le_bytes([payload[end], payload[end + 1]]);
    match version <= RDB_VERSION {
        true => Ok(&payload[..end]),
        false => Err(Unverified),
    }
}

#[cfg(test)]
mod tests;
