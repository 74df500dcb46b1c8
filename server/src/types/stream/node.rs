//! One node of a stream: up to `stream-node-max-entries` entries in a listpack.
//!
//! ```text
//! node      live | deleted | fields n | field 1 .. field n | 0 | entry ...
//! entry     flags | ms - node's ms | seq - node's seq | [fields m | ] parts | elements in the entry
//! parts     value 1 .. value n, if flags has SAME_FIELDS (the node's fields)
//!           field 1 | value 1 | .. field m | value m, else
//! ```
//!
//! All of them elements of one listpack, as in Redis. A node is filed under
//! the id of the first entry that was put into it. A deleted entry keeps its
//! place and is marked; Redis counts it when it asks whether a node is full.
//!
//! ```text
//! row       listpack | [id of the next node]
//! ```
//!
//! The next node is the one that was begun when this one had become full. It may be
//! gone; as long as it is there, no other lies between the two. So a stream that is
//! trimmed goes from one node to the next without a scan.

use bytes::Bytes;

use super::StreamId;
use crate::listpack::{Builder, Cursor, Element, HEAD, replace_integer};
use crate::stream_id::ID_LEN;
use crate::txn::CommandError;

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 1 << 1;
const CORRUPT: CommandError = CommandError::Corrupt("a node of a stream");

/// A node that is read.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    pub id: StreamId,
    bytes: &'a [u8],
    /// Entries that are not marked as deleted.
    pub live: u64,
    pub deleted: u64,
    /// The node behind it, see above. Only what is a row has one.
    pub next: Option<StreamId>,
    fields: u64,
    fields_at: usize,
    entries_at: usize,
}

/// One entry of a node.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub id: StreamId,
    pub deleted: bool,
    /// Number of its field-value pairs.
    pub pairs: u64,
    bytes: &'a [u8],
    flags_at: usize,
    flags: i64,
    parts_at: usize,
    end_at: usize,
    node_fields_at: usize,
}

impl<'a> Node<'a> {
    pub fn read(id: StreamId, bytes: &'a [u8]) -> Result<Node<'a>, CommandError> {
        Node::try_read(id, bytes).ok_or(CORRUPT)
    }

    fn try_read(id: StreamId, row: &'a [u8]) -> Option<Node<'a>> {
        let (bytes, next) = split(row);
        let mut cursor = Cursor::at(bytes, HEAD);
        let live = u64::try_from(cursor.next()?.integer()?).ok()?;
        let deleted = u64::try_from(cursor.next()?.integer()?).ok()?;
        let fields = u64::try_from(cursor.next()?.integer()?).ok()?;
        let fields_at = cursor.position();
        cursor.skip(fields + 1)?;
        Some(Node {
            id,
            bytes,
            live,
            deleted,
            next,
            fields,
            fields_at,
            entries_at: cursor.position(),
        })
    }

    /// Size as Redis counts it, bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a node has its header at least"
    )]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Shows `visit` all entries, marked ones too, until it answers `false`.
    pub fn each(&self, mut visit: impl FnMut(Entry<'a>) -> bool) -> Result<(), CommandError> {
        let mut cursor = Cursor::at(self.bytes, self.entries_at);
        while !cursor.is_end() {
            let entry = self.entry(&mut cursor).ok_or(CORRUPT)?;
            if !visit(entry) {
                break;
            }
        }
        Ok(())
    }

    fn entry(&self, cursor: &mut Cursor<'a>) -> Option<Entry<'a>> {
        let flags_at = cursor.position();
        let flags = cursor.next()?.integer()?;
        let ms = cursor.next()?.integer()?;
        let seq = cursor.next()?.integer()?;
        let same = flags & SAME_FIELDS != 0;
        let pairs = match same {
            true => self.fields,
            false => u64::try_from(cursor.next()?.integer()?).ok()?,
        };
        let parts_at = cursor.position();
        let parts = if same { pairs } else { pairs.checked_mul(2)? };
        cursor.skip(parts.checked_add(1)?)?;
        Some(Entry {
            id: StreamId {
                ms: self.id.ms.wrapping_add(ms as u64),
                seq: self.id.seq.wrapping_add(seq as u64),
            },
            deleted: flags & DELETED != 0,
            pairs,
            bytes: self.bytes,
            flags_at,
            flags,
            parts_at,
            end_at: cursor.position(),
            node_fields_at: self.fields_at,
        })
    }

    /// The entry of this id, unless it is marked as deleted.
    pub fn find(&self, id: StreamId) -> Result<Option<Entry<'a>>, CommandError> {
        let mut found = None;
        self.each(|entry| {
            if entry.id == id && !entry.deleted {
                found = Some(entry);
            }
            entry.id < id
        })?;
        Ok(found)
    }

    /// The id of its last entry, marked or not.
    pub fn last_id(&self) -> Result<StreamId, CommandError> {
        let mut last = self.id;
        self.each(|entry| {
            last = entry.id;
            true
        })?;
        Ok(last)
    }

    /// Ids of the entries that are not marked, ascending.
    pub fn live_ids(&self) -> Result<Vec<StreamId>, CommandError> {
        let mut ids = Vec::with_capacity(self.live.min(1024) as usize);
        self.each(|entry| {
            if !entry.deleted {
                ids.push(entry.id);
            }
            true
        })?;
        Ok(ids)
    }

    fn has_fields<'f>(&self, fields: impl ExactSizeIterator<Item = &'f [u8]>) -> bool {
        let mut cursor = Cursor::at(self.bytes, self.fields_at);
        fields.len() as u64 == self.fields
            && fields
                .into_iter()
                .all(|field| cursor.next().is_some_and(|own| own.is(field)))
    }
}

impl<'a> Entry<'a> {
    /// What it takes in its node, bytes.
    pub fn size(&self) -> usize {
        self.end_at - self.flags_at
    }

    /// Shows `visit` its fields and values, in order.
    pub fn each_pair(
        &self,
        mut visit: impl FnMut(Element<'a>, Element<'a>),
    ) -> Result<(), CommandError> {
        let mut parts = Cursor::at(self.bytes, self.parts_at);
        let mut fields = Cursor::at(self.bytes, self.node_fields_at);
        for _ in 0..self.pairs {
            let field = match self.flags & SAME_FIELDS != 0 {
                true => fields.next(),
                false => parts.next(),
            };
            visit(field.ok_or(CORRUPT)?, parts.next().ok_or(CORRUPT)?);
        }
        Ok(())
    }
}

/// Listpack and next node of a row.
fn split(row: &[u8]) -> (&[u8], Option<StreamId>) {
    let len = row
        .first_chunk()
        .map(|len| u32::from_le_bytes(*len) as usize);
    let parts = len.and_then(|len| row.split_at_checked(len));
    match parts {
        Some((listpack, next)) if next.len() == ID_LEN => (listpack, StreamId::from_bytes(next)),
        _ => (row, None),
    }
}

/// What is filed of a node whose listpack is `bytes`.
pub fn row_of(mut bytes: Vec<u8>, next: Option<StreamId>) -> Bytes {
    if let Some(next) = next {
        bytes.reserve_exact(ID_LEN);
        bytes.extend_from_slice(&next.to_bytes());
    }
    bytes.into()
}

/// A row's listpack, to be changed, and the next node.
pub fn of_row(row: &[u8]) -> (Vec<u8>, Option<StreamId>) {
    let (bytes, next) = split(row);
    (bytes.to_vec(), next)
}

/// Begins a node with its first entry.
pub fn begin(id: StreamId, pairs: &[&[u8]]) -> Vec<u8> {
    let fields = pairs.len() / 2;
    let mut builder = Builder::begin();
    builder.integer(1);
    builder.integer(0);
    builder.integer(fields as i64);
    pairs
        .iter()
        .step_by(2)
        .for_each(|field| builder.text(field));
    builder.integer(0);
    push_entry(&mut builder, id, id, pairs, true);
    builder.finish()
}

/// Appends an entry to the node `bytes`, which is filed under `node`.
pub fn append(
    node: StreamId,
    bytes: &mut Vec<u8>,
    id: StreamId,
    pairs: &[&[u8]],
) -> Result<(), CommandError> {
    let view = Node::read(node, bytes)?;
    let live = view.live as i64;
    let same = view.has_fields(pairs.iter().step_by(2).copied());
    replace_integer(bytes, HEAD, live + 1).ok_or(CORRUPT)?;
    let mut builder = Builder::open(std::mem::take(bytes));
    push_entry(&mut builder, node, id, pairs, same);
    *bytes = builder.finish();
    Ok(())
}

fn push_entry(builder: &mut Builder, node: StreamId, id: StreamId, pairs: &[&[u8]], same: bool) {
    let fields = (pairs.len() / 2) as i64;
    builder.integer(if same { SAME_FIELDS } else { 0 });
    builder.integer(id.ms.wrapping_sub(node.ms) as i64);
    builder.integer(id.seq.wrapping_sub(node.seq) as i64);
    if same {
        pairs
            .iter()
            .skip(1)
            .step_by(2)
            .for_each(|value| builder.text(value));
        builder.integer(fields + 3);
    } else {
        builder.integer(fields);
        pairs.iter().for_each(|part| builder.text(part));
        builder.integer(2 * fields + 4);
    }
}

/// Marks entries as deleted for which `doomed` says so; how many were not yet.
pub fn mark(
    node: StreamId,
    bytes: &mut Vec<u8>,
    mut doomed: impl FnMut(StreamId) -> bool,
) -> Result<u64, CommandError> {
    let view = Node::read(node, bytes)?;
    let (live, deleted) = (view.live, view.deleted);
    let mut places = Vec::new();
    view.each(|entry| {
        if !entry.deleted && doomed(entry.id) {
            places.push((entry.flags_at, entry.flags));
        }
        true
    })?;
    // Flags never change their size.
    for (at, flags) in &places {
        replace_integer(bytes, *at, flags | DELETED).ok_or(CORRUPT)?;
    }
    let marked = places.len() as u64;
    let mut cursor = Cursor::at(bytes, HEAD);
    cursor.next().ok_or(CORRUPT)?;
    let deleted_at = cursor.position();
    // The later element first: the earlier one may change its size.
    replace_integer(bytes, deleted_at, (deleted + marked) as i64).ok_or(CORRUPT)?;
    let left = live.checked_sub(marked).ok_or(CORRUPT)?;
    replace_integer(bytes, HEAD, left as i64).ok_or(CORRUPT)?;
    Ok(marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u64) -> StreamId {
        StreamId::new(5, seq)
    }

    fn texts(entry: &Entry<'_>) -> Vec<String> {
        let text = |element: Element<'_>| match element {
            Element::Integer(n) => n.to_string(),
            Element::Text(t) => String::from_utf8_lossy(t).into_owned(),
        };
        let mut out = Vec::new();
        entry
            .each_pair(|field, value| out.extend([text(field), text(value)]))
            .unwrap();
        out
    }

    #[test]
    fn golden_bytes_of_a_node() {
        let mut bytes = begin(id(1), &[b"f", b"7"]);
        append(id(1), &mut bytes, id(2), &[b"g", b"v"]).unwrap();
        let want = [
            &[41, 0, 0, 0, 17, 0][..],
            &[2, 1, 0, 1, 1, 1, 0x81, b'f', 2, 0, 1],
            &[2, 1, 0, 1, 0, 1, 7, 1, 4, 1],
            &[0, 1, 0, 1, 1, 1, 1, 1, 0x81, b'g', 2, 0x81, b'v', 2, 6, 1],
            &[0xff],
        ];
        let want = want.concat();
        assert_eq!(bytes[6..], want[6..]);
        assert_eq!(bytes[0] as usize, bytes.len());
        assert_eq!(bytes[4], 17);
    }

    #[test]
    fn entries_are_found_marked_and_skipped() {
        let mut bytes = begin(id(1), &[b"f", b"a"]);
        for seq in 2..=150 {
            let field: &[u8] = if seq % 2 == 0 { b"f" } else { b"other" };
            append(id(1), &mut bytes, id(seq), &[field, b"12"]).unwrap();
        }
        let marked = mark(id(1), &mut bytes, |i| i.seq <= 140).unwrap();
        assert_eq!(marked, 140);
        assert_eq!(mark(id(1), &mut bytes, |i| i.seq <= 140).unwrap(), 0);
        let node = Node::read(id(1), &bytes).unwrap();
        assert_eq!((node.live, node.deleted), (10, 140));
        assert_eq!(node.last_id().unwrap(), id(150));
        assert_eq!(node.live_ids().unwrap()[0], id(141));
        assert!(node.find(id(140)).unwrap().is_none());
        assert_eq!(
            texts(&node.find(id(141)).unwrap().unwrap()),
            ["other", "12"]
        );
        assert_eq!(texts(&node.find(id(142)).unwrap().unwrap()), ["f", "12"]);
    }

    #[test]
    fn a_row_has_the_next_node_behind_its_listpack() {
        let mut bytes = begin(id(1), &[b"f", b"7"]);
        append(id(1), &mut bytes, id(2), &[b"f", b"8"]).unwrap();
        let row = row_of(bytes.clone(), Some(id(9)));
        assert_eq!(row[..bytes.len()], bytes);
        assert_eq!(row[bytes.len()..], id(9).to_bytes());
        let node = Node::read(id(1), &row).unwrap();
        assert_eq!((node.next, node.len()), (Some(id(9)), bytes.len()));
        assert_eq!(node.last_id().unwrap(), id(2));
        assert_eq!(of_row(&row), (bytes.clone(), Some(id(9))));
        // As older rows are.
        assert_eq!(row_of(bytes.clone(), None), bytes);
        assert_eq!(of_row(&bytes), (bytes.clone(), None));
        assert_eq!(Node::read(id(1), &bytes).unwrap().next, None);
    }

    #[test]
    fn a_cut_node_is_corrupt() {
        let bytes = begin(id(1), &[b"field", b"value"]);
        for cut in 0..bytes.len() {
            let result = Node::read(id(1), &bytes[..cut]).and_then(|node| node.last_id());
            assert!(result.is_err(), "{cut}");
        }
    }
}
