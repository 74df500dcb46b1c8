//! Streams in the RDB format.
//!
//! ```text
//! stream    nodes, each: key (16 bytes: ms, seq) as a string | listpack as a string
//!           length | last id ms | last id seq
//!           [first id ms, seq | highest deleted ms, seq | entries added]     (since 7.0)
//!           groups, each: name | last id ms, seq | [entries read]
//!                         pending, each: id (16 bytes BE) | delivered ms i64 LE | deliveries
//!                         consumers, each: name | seen ms i64 LE | their pending, each: id
//! listpack  live | deleted | fields of the node's first entry, each | 0, then entries:
//!           flags | ms, seq above the key's | [fields] | [field] value ... | elements back
//! flags     1 deleted, 2 the fields of the node's first entry
//! ```

use std::collections::{BTreeMap, HashSet};

use super::primitives::{Reader, put_length, put_string};
use super::{Malformed, listpack};
use crate::listpack::{Builder, Element};
use crate::stream_id::{ID_LEN, StreamId};

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;
/// Redis's defaults for a node.
const NODE_ENTRIES: usize = 100;
const NODE_BYTES: usize = 4096;
/// "Not known" for the number of entries that a group has read.
const NOT_KNOWN: u64 = u64::MAX;

/// One entry: fields with their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    pub id: StreamId,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An entry that was delivered and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPending {
    /// Unix ms.
    pub delivered_at: u64,
    pub deliveries: u64,
    /// Index in [`StreamGroup::consumers`].
    pub consumer: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConsumer {
    pub name: Vec<u8>,
    /// Unix ms.
    pub seen_at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamGroup {
    pub name: Vec<u8>,
    pub last_id: StreamId,
    /// `None`: not known.
    pub entries_read: Option<u64>,
    pub consumers: Vec<StreamConsumer>,
    pub pending: BTreeMap<StreamId, StreamPending>,
}

/// A whole stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamValue {
    pub entries: Vec<StreamEntry>,
    pub last_id: StreamId,
    pub max_deleted: StreamId,
    pub entries_added: u64,
    /// From before 7.0: what groups have read is to be told from their last ids.
    pub before_7: bool,
    pub groups: Vec<StreamGroup>,
}

pub(super) fn encode(out: &mut Vec<u8>, stream: &StreamValue) {
    let nodes = nodes(&stream.entries);
    put_length(out, nodes.len() as u64);
    for node in nodes {
        put_string(out, &node[0].id.to_bytes());
        put_string(out, &encode_node(node));
    }
    put_length(out, stream.entries.len() as u64);
    put_id(out, stream.last_id);
    put_id(
        out,
        stream.entries.first().map_or(StreamId::default(), |e| e.id),
    );
    put_id(out, stream.max_deleted);
    put_length(out, stream.entries_added);
    put_length(out, stream.groups.len() as u64);
    stream.groups.iter().for_each(|group| put_group(out, group));
}

/// Cuts entries as Redis fills its nodes.
fn nodes(entries: &[StreamEntry]) -> Vec<&[StreamEntry]> {
    let size = |e: &StreamEntry| {
        let fields = e.fields.iter();
        16 + fields.map(|(f, v)| f.len() + v.len() + 4).sum::<usize>()
    };
    let (mut nodes, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, entry) in entries.iter().enumerate() {
        if at > start && (at - start >= NODE_ENTRIES || bytes + size(entry) > NODE_BYTES) {
            nodes.push(&entries[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += size(entry);
    }
    if start < entries.len() {
        nodes.push(&entries[start..]);
    }
    nodes
}

fn encode_node(entries: &[StreamEntry]) -> Vec<u8> {
    let first = &entries[0];
    let mut out = Builder::begin();
    out.integer(entries.len() as i64);
    out.integer(0);
    out.integer(first.fields.len() as i64);
    first.fields.iter().for_each(|(field, _)| out.text(field));
    out.integer(0);
    for entry in entries {
        let same = entry.fields.len() == first.fields.len()
            && entry
                .fields
                .iter()
                .zip(&first.fields)
                .all(|(a, b)| a.0 == b.0);
        out.integer(if same { SAME_FIELDS } else { 0 });
        out.integer(entry.id.ms.wrapping_sub(first.id.ms) as i64);
        out.integer(entry.id.seq.wrapping_sub(first.id.seq) as i64);
        let count = entry.fields.len() as i64;
        if same {
            entry.fields.iter().for_each(|(_, value)| out.text(value));
            out.integer(count + 3);
        } else {
            out.integer(count);
            for (field, value) in &entry.fields {
                out.text(field);
                out.text(value);
            }
            out.integer(2 * count + 4);
        }
    }
    out.finish()
}

fn put_group(out: &mut Vec<u8>, group: &StreamGroup) {
    put_string(out, &group.name);
    put_id(out, group.last_id);
    put_length(out, group.entries_read.unwrap_or(NOT_KNOWN));
    put_length(out, group.pending.len() as u64);
    for (id, pending) in &group.pending {
        out.extend_from_slice(&id.to_bytes());
        out.extend_from_slice(&pending.delivered_at.to_le_bytes());
        put_length(out, pending.deliveries);
    }
    put_length(out, group.consumers.len() as u64);
    for (at, consumer) in group.consumers.iter().enumerate() {
        put_string(out, &consumer.name);
        out.extend_from_slice(&consumer.seen_at.to_le_bytes());
        let own = group.pending.iter().filter(|(_, p)| p.consumer == at);
        let own: Vec<_> = own.map(|(id, _)| *id).collect();
        put_length(out, own.len() as u64);
        for id in own {
            out.extend_from_slice(&id.to_bytes());
        }
    }
}

fn put_id(out: &mut Vec<u8>, id: StreamId) {
    put_length(out, id.ms);
    put_length(out, id.seq);
}

fn id_of(bytes: [u8; ID_LEN]) -> StreamId {
    StreamId::from_bytes(&bytes).expect("that many bytes are an id")
}

/// `since_7`: with the fields that 7.0 added.
pub(super) fn decode(reader: &mut Reader<'_>, since_7: bool) -> Result<StreamValue, Malformed> {
    let mut stream = StreamValue::default();
    for _ in 0..reader.count()? {
        let key: [u8; ID_LEN] = reader.string()?.try_into().map_err(|_| Malformed)?;
        decode_node(id_of(key), &reader.string()?, &mut stream.entries)?;
    }
    let length = reader.length()?;
    stream.last_id = read_id(reader)?;
    stream.entries_added = length;
    stream.before_7 = !since_7;
    if since_7 {
        let _first = read_id(reader)?;
        stream.max_deleted = read_id(reader)?;
        stream.entries_added = reader.length()?;
    }
    let ordered = stream
        .entries
        .windows(2)
        .all(|pair| pair[0].id < pair[1].id);
    let last = stream.entries.last().map_or(StreamId::default(), |e| e.id);
    if length != stream.entries.len() as u64 || !ordered || last > stream.last_id {
        return Err(Malformed);
    }
    let mut names = HashSet::new();
    for _ in 0..reader.count()? {
        let group = decode_group(reader, since_7)?;
        if !names.insert(group.name.clone()) {
            return Err(Malformed);
        }
        stream.groups.push(group);
    }
    Ok(stream)
}

fn decode_node(key: StreamId, node: &[u8], out: &mut Vec<StreamEntry>) -> Result<(), Malformed> {
    let items = listpack(node)?;
    let mut items = items.iter();
    let live = number(&mut items)?;
    let deleted = number(&mut items)?;
    let count = usize::try_from(number(&mut items)?).map_err(|_| Malformed)?;
    let fields = texts(&mut items, count)?;
    if number(&mut items)? != 0 {
        return Err(Malformed);
    }
    let (mut seen_live, mut seen_deleted) = (0, 0);
    while items.len() > 0 {
        let flags = number(&mut items)?;
        let id = StreamId {
            ms: key.ms.wrapping_add(number(&mut items)? as u64),
            seq: key.seq.wrapping_add(number(&mut items)? as u64),
        };
        let (pairs, elements) = match flags & SAME_FIELDS != 0 {
            true => {
                let values = texts(&mut items, count)?;
                (fields.iter().cloned().zip(values).collect(), count + 3)
            }
            false => {
                let own = usize::try_from(number(&mut items)?).map_err(|_| Malformed)?;
                let all = texts(&mut items, own.checked_mul(2).ok_or(Malformed)?)?;
                let pairs = all.chunks_exact(2).map(|p| (p[0].clone(), p[1].clone()));
                (pairs.collect::<Vec<_>>(), 2 * own + 4)
            }
        };
        if number(&mut items)? != elements as i64 {
            return Err(Malformed);
        }
        if flags & DELETED != 0 {
            seen_deleted += 1;
        } else {
            seen_live += 1;
            out.push(StreamEntry { id, fields: pairs });
        }
    }
    match (seen_live, seen_deleted) == (live, deleted) {
        true => Ok(()),
        false => Err(Malformed),
    }
}

fn number<'a>(items: &mut std::slice::Iter<'a, Element<'a>>) -> Result<i64, Malformed> {
    let item = items.next().ok_or(Malformed)?;
    item.integer().ok_or(Malformed)
}

fn texts<'a>(
    items: &mut std::slice::Iter<'a, Element<'a>>,
    count: usize,
) -> Result<Vec<Vec<u8>>, Malformed> {
    if count > items.len() {
        return Err(Malformed);
    }
    Ok(items.by_ref().take(count).map(Element::to_vec).collect())
}

fn decode_group(reader: &mut Reader<'_>, since_7: bool) -> Result<StreamGroup, Malformed> {
    let mut group = StreamGroup {
        name: reader.string()?,
        last_id: read_id(reader)?,
        ..StreamGroup::default()
    };
    if since_7 {
        let read = reader.length()?;
        group.entries_read = (read != NOT_KNOWN).then_some(read);
    }
    let mut pending = BTreeMap::new();
    for _ in 0..reader.count()? {
        let id = id_of(reader.array()?);
        let delivered_at = u64::from_le_bytes(reader.array()?);
        let deliveries = reader.length()?;
        if pending.insert(id, (delivered_at, deliveries)).is_some() {
            return Err(Malformed);
        }
    }
    let mut names = HashSet::new();
    for consumer in 0..reader.count()? {
        let name = reader.string()?;
        if !names.insert(name.clone()) {
            return Err(Malformed);
        }
        group.consumers.push(StreamConsumer {
            name,
            seen_at: u64::from_le_bytes(reader.array()?),
        });
        for _ in 0..reader.count()? {
            let id = id_of(reader.array()?);
            let (delivered_at, deliveries) = pending.remove(&id).ok_or(Malformed)?;
            let entry = StreamPending {
                delivered_at,
                deliveries,
                consumer,
            };
            group.pending.insert(id, entry);
        }
    }
    // What is pending belongs to somebody.
    pending.is_empty().then_some(group).ok_or(Malformed)
}

fn read_id(reader: &mut Reader<'_>) -> Result<StreamId, Malformed> {
    Ok(StreamId {
        ms: reader.length()?,
        seq: reader.length()?,
    })
}
