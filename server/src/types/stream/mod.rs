//! Streams: nodes of entries, and consumer groups with what is pending.
//!
//! The last node, which XADD appends to, lies in the record itself; a node
//! that is full moves to a row. So an append is one record (written once a
//! batch), and a small stream is one record and nothing else. With its first
//! full node or first group it is spread.
//!
//! ```text
//! record   header [spread: version, length] | flags u8 | last id | first id | max deleted id
//!          | entries added u64 | length u64 | groups u32 | next group number u32
//!          | [rows u64 | first row id | live in first row u64]    if flag 1
//!          | [tail id | listpack]                                 if flag 2
//! data     tag 1 | node id                                   ->  listpack | [next] (`node`)
//! data     tag 2 | group name                                ->  group            (`groups`)
//! data     tag 3 | group u32 | entry id                      ->  pending entry    (`pel`)
//! data     tag 4 | group u32 | consumer u32 | entry id       ->  empty
//! data     tag 5 | group u32 | consumer u32                  ->  consumer
//! data     tag 6 | group u32 | consumer name                 ->  consumer u32
//! ```
//!
//! Ids are 16 bytes, numbers big-endian. Invariants:
//! - entries below `first id` do not exist, marked or not: trimming within the
//!   first row changes the record alone. Only the first row holds such;
//! - the tail, if there is one, is the last node, and every node has an entry
//!   that lives;
//! - numbers of groups and consumers are never used twice in a stream.

mod content;
mod entries;
mod groups;
pub mod node;
mod pel;
mod trim;

use super::decode;
use super::rows::Rows;
use crate::storage::{Header, KeyType, MetaKey, Record, Spread};
use crate::stream_id::ID_LEN;
use crate::txn::{CommandError, Txn};

pub use crate::listpack::Element;
pub use crate::stream_id::StreamId;
pub use entries::{Lookup, Range};
pub use groups::{Consumer, Group};
pub use node::Entry;
pub use pel::{Edit, Pending};
pub use trim::{Trim, TrimTo};

const HAS_ROWS: u8 = 1;
const HAS_TAIL: u8 = 1 << 1;
const CORRUPT: CommandError = CommandError::Corrupt("the record of a stream");

/// Bytes that most entries take at most.
const APPENDED: usize = 256;

const TAG_NODE: u8 = 1;
const TAG_GROUP: u8 = 2;
const TAG_PENDING: u8 = 3;
const TAG_OWNED: u8 = 4;
const TAG_CONSUMER: u8 = 5;
const TAG_CONSUMER_NAME: u8 = 6;

/// Nodes that are rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RowNodes {
    count: u64,
    /// The first one's id.
    first: StreamId,
    /// Entries of the first one that are neither marked nor below `first_id`.
    first_live: u64,
}

/// The last node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tail {
    id: StreamId,
    bytes: Vec<u8>,
}

/// A stream as its record shows it. Changes are kept by [`Stream::store`].
pub struct Stream {
    key: MetaKey,
    expires_at: Option<u64>,
    rows_at: Option<Rows>,
    pub last_id: StreamId,
    /// Of the first entry there is; 0-0 if there is none.
    pub first_id: StreamId,
    pub max_deleted_id: StreamId,
    pub entries_added: u64,
    pub length: u64,
    pub groups: u32,
    next_group: u32,
    rows: Option<RowNodes>,
    tail: Option<Tail>,
}

impl Stream {
    /// The stream at `key`, `None` if there is no such key.
    ///
    /// # Errors
    /// `WRONGTYPE` if it is something else.
    pub fn get(txn: &mut Txn<'_>, key: &MetaKey) -> Result<Option<Stream>, CommandError> {
        match txn.get(key)? {
            Some(record) => Stream::of(key, &record).map(Some),
            None => Ok(None),
        }
    }

    /// A stream that does not exist yet.
    pub fn new(key: &MetaKey) -> Stream {
        Stream {
            key: key.clone(),
            expires_at: None,
            rows_at: None,
            last_id: StreamId::MIN,
            first_id: StreamId::MIN,
            max_deleted_id: StreamId::MIN,
            entries_added: 0,
            length: 0,
            groups: 0,
            next_group: 0,
            rows: None,
            tail: None,
        }
    }

    /// # Errors
    /// `WRONGTYPE` if the record is of another type.
    pub fn of(key: &MetaKey, record: &Record) -> Result<Stream, CommandError> {
        let (header, own) = decode(record)?;
        if header.key_type != KeyType::Stream {
            return Err(CommandError::WRONG_TYPE);
        }
        let mut stream = Stream::new(key);
        stream.expires_at = header.expires_at;
        stream.rows_at = header.spread.map(|spread| Rows::of(key, spread.version));
        stream.read(Fields(own)).ok_or(CORRUPT)?;
        Ok(stream)
    }

    fn read(&mut self, mut own: Fields<'_>) -> Option<()> {
        let flags = own.u8()?;
        self.last_id = own.id()?;
        self.first_id = own.id()?;
        self.max_deleted_id = own.id()?;
        self.entries_added = own.u64()?;
        self.length = own.u64()?;
        self.groups = own.u32()?;
        self.next_group = own.u32()?;
        if flags & HAS_ROWS != 0 {
            self.rows = Some(RowNodes {
                count: own.u64()?,
                first: own.id()?,
                first_live: own.u64()?,
            });
        }
        if flags & HAS_TAIL != 0 {
            let id = own.id()?;
            // Room for the entry that XADD appends.
            let mut bytes = Vec::with_capacity(own.0.len() + APPENDED);
            bytes.extend_from_slice(own.0);
            self.tail = Some(Tail { id, bytes });
        }
        let known = flags & !(HAS_ROWS | HAS_TAIL) == 0;
        (known && (self.rows.is_none() || self.rows_at.is_some())).then_some(())
    }

    /// Writes the record.
    pub fn store(&self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        let spread = self
            .rows_at
            .map(|rows| Spread::new(rows.version(), self.length));
        let header = Header {
            spread,
            ..Header::inline(KeyType::Stream, self.expires_at)
        };
        let mut own = Vec::with_capacity(128);
        let rows = if self.rows.is_some() { HAS_ROWS } else { 0 };
        own.push(rows | if self.tail.is_some() { HAS_TAIL } else { 0 });
        for id in [self.last_id, self.first_id, self.max_deleted_id] {
            own.extend_from_slice(&id.to_bytes());
        }
        own.extend_from_slice(&self.entries_added.to_be_bytes());
        own.extend_from_slice(&self.length.to_be_bytes());
        own.extend_from_slice(&self.groups.to_be_bytes());
        own.extend_from_slice(&self.next_group.to_be_bytes());
        if let Some(rows) = &self.rows {
            own.extend_from_slice(&rows.count.to_be_bytes());
            own.extend_from_slice(&rows.first.to_bytes());
            own.extend_from_slice(&rows.first_live.to_be_bytes());
        }
        let mut tail: &[u8] = &[];
        if let Some(own_tail) = &self.tail {
            own.extend_from_slice(&own_tail.id.to_bytes());
            tail = &own_tail.bytes;
        }
        txn.put(
            &self.key,
            Record::from_parts(&self.key, &header, &[&own, tail]),
        )
    }

    /// Where its rows are; from now on it has some.
    fn spread(&mut self, txn: &mut Txn<'_>) -> Rows {
        *self
            .rows_at
            .get_or_insert_with(|| Rows::create(txn, &self.key))
    }

    /// The stream's key.
    pub fn key(&self) -> &MetaKey {
        &self.key
    }

    /// Number of nodes.
    pub fn nodes(&self) -> u64 {
        self.rows.map_or(0, |rows| rows.count) + u64::from(self.tail.is_some())
    }

    /// Whether an entry between `start` and the end was deleted from amidst
    /// (XDEL, not trimming), as far as Redis keeps track.
    pub fn has_tombstones_from(&self, start: StreamId) -> bool {
        self.length > 0
            && self.max_deleted_id != StreamId::MIN
            && self.first_id <= self.max_deleted_id
            && start <= self.max_deleted_id
    }

    /// How many entries were ever added up to `id`; `None`: that cannot be told.
    pub fn entries_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if (self.length == 0 && id <= self.last_id) || id == self.last_id {
            return Some(self.entries_added);
        }
        let fragmented =
            self.max_deleted_id != StreamId::MIN && self.max_deleted_id >= self.first_id;
        if id > self.last_id || fragmented {
            return None;
        }
        let before_first = self.entries_added.wrapping_sub(self.length);
        match id.cmp(&self.first_id) {
            std::cmp::Ordering::Less => Some(before_first),
            std::cmp::Ordering::Equal => Some(before_first.wrapping_add(1)),
            std::cmp::Ordering::Greater => None,
        }
    }
}

/// Reads fixed fields one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|b| b[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(|b| u32::from_be_bytes(*b))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(|b| u64::from_be_bytes(*b))
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(|b| i64::from_be_bytes(*b))
    }

    fn id(&mut self) -> Option<StreamId> {
        self.take::<{ ID_LEN }>()
            .and_then(|b| StreamId::from_bytes(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(stream: &mut Stream, own: &[u8]) -> Option<()> {
        stream.read(Fields(own))
    }

    #[test]
    fn golden_bytes_of_a_stream_are_read_and_cut_ones_refused() {
        let key = MetaKey::new(1, 1, b"s");
        let mut own = vec![HAS_TAIL];
        for n in 1..=3_u8 {
            own.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, 9]);
        }
        own.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5]);
        own.extend_from_slice(&[0, 0, 0, 6, 0, 0, 0, 7]);
        let fixed = own.len();
        own.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        own.extend_from_slice(b"listpack");
        let mut stream = Stream::new(&key);
        fields(&mut stream, &own).unwrap();
        assert_eq!(stream.last_id, StreamId::new(1, 9));
        assert_eq!(stream.first_id, StreamId::new(2, 9));
        assert_eq!(stream.max_deleted_id, StreamId::new(3, 9));
        assert_eq!((stream.entries_added, stream.length), (4, 5));
        assert_eq!((stream.groups, stream.next_group), (6, 7));
        let tail = stream.tail.unwrap();
        assert_eq!(
            (tail.id, &tail.bytes[..]),
            (StreamId::new(8, 1), &b"listpack"[..])
        );
        for cut in 0..fixed + ID_LEN {
            assert_eq!(fields(&mut Stream::new(&key), &own[..cut]), None);
        }
        own[0] = 4;
        assert_eq!(fields(&mut Stream::new(&key), &own), None);
    }

    #[test]
    fn what_was_added_up_to_an_id_is_told_only_if_nothing_is_missing() {
        let key = MetaKey::new(1, 1, b"s");
        let mut stream = Stream::new(&key);
        let id = |ms| StreamId::new(ms, 0);
        assert_eq!(stream.entries_up_to(id(7)), Some(0));
        (stream.entries_added, stream.length) = (10, 4);
        (stream.first_id, stream.last_id) = (id(7), id(10));
        assert_eq!(stream.entries_up_to(id(10)), Some(10));
        assert_eq!(stream.entries_up_to(id(11)), None);
        assert_eq!(stream.entries_up_to(id(7)), Some(7));
        assert_eq!(stream.entries_up_to(id(1)), Some(6));
        assert_eq!(stream.entries_up_to(id(8)), None);
        stream.max_deleted_id = id(8);
        assert_eq!(stream.entries_up_to(id(1)), None);
        assert!(stream.has_tombstones_from(id(8)) && !stream.has_tombstones_from(id(9)));
    }
}
