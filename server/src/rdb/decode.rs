//! From a payload to its value.

use std::collections::HashSet;

use super::primitives::Reader;
use super::{Malformed, Value, kind, listpack, stream, ziplist};
use crate::listpack::Element;

const NODE_PLAIN: u64 = 1;
const NODE_PACKED: u64 = 2;

/// The value that serialised bytes (see [`super::verify`]) begin with.
///
/// # Errors
/// [`Malformed`] if the bytes contradict themselves, an element is there twice, or
/// a collection is empty.
pub fn decode(body: &[u8]) -> Result<Value, Malformed> {
    let mut reader = Reader(body);
    let value = match reader.byte()? {
        kind::STRING => Value::String(reader.string()?),
        kind::LIST => Value::List(strings(&mut reader)?),
        kind::SET => Value::Set(strings(&mut reader)?),
        kind::ZSET => sorted_set(&mut reader, |r| r.text_double())?,
        kind::ZSET_2 => sorted_set(&mut reader, |r| Ok(f64::from_le_bytes(r.array()?)))?,
        kind::HASH => hash(&mut reader)?,
        kind::HASH_ZIPMAP => Value::Hash(ziplist::zipmap(&reader.string()?)?),
        kind::LIST_ZIPLIST => Value::List(texts(&ziplist::items(&reader.string()?)?)),
        kind::SET_INTSET => Value::Set(intset(&reader.string()?)?),
        kind::ZSET_ZIPLIST => scored(&ziplist::items(&reader.string()?)?)?,
        kind::ZSET_LISTPACK => scored(&listpack(&reader.string()?)?)?,
        kind::HASH_ZIPLIST => Value::Hash(pairs(&ziplist::items(&reader.string()?)?)?),
        kind::HASH_LISTPACK => Value::Hash(pairs(&listpack(&reader.string()?)?)?),
        kind::LIST_QUICKLIST => old_quicklist(&mut reader)?,
        kind::LIST_QUICKLIST_2 => quicklist(&mut reader)?,
        kind::STREAM => Value::Stream(stream::decode(&mut reader, false)?),
        kind::STREAM_2 => Value::Stream(stream::decode(&mut reader, true)?),
        _ => return Err(Malformed),
    };
    // What is behind it Redis passes over, too.
    match is_sound(&value) {
        true => Ok(value),
        false => Err(Malformed),
    }
}

/// No empty collections, no member twice, no score that is not a number.
fn is_sound(value: &Value) -> bool {
    match value {
        Value::String(_) | Value::Stream(_) => true,
        Value::List(elements) => !elements.is_empty(),
        Value::Set(members) => are_distinct(members.iter()),
        Value::Hash(pairs) => are_distinct(pairs.iter().map(|(field, _)| field)),
        Value::SortedSet(members) => {
            are_distinct(members.iter().map(|(member, _)| member))
                && members.iter().all(|(_, score)| !score.is_nan())
        }
    }
}

fn are_distinct<'a>(members: impl ExactSizeIterator<Item = &'a Vec<u8>>) -> bool {
    let mut seen = HashSet::with_capacity(members.len());
    members.len() > 0 && members.into_iter().all(|member| seen.insert(member))
}

fn strings(reader: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, Malformed> {
    let count = reader.count()?;
    (0..count).map(|_| reader.string()).collect()
}

fn sorted_set(
    reader: &mut Reader<'_>,
    score: impl Fn(&mut Reader<'_>) -> Result<f64, Malformed>,
) -> Result<Value, Malformed> {
    let count = reader.count()?;
    let members = (0..count).map(|_| Ok((reader.string()?, score(reader)?)));
    Ok(Value::SortedSet(members.collect::<Result<_, _>>()?))
}

fn hash(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    let count = reader.count()?;
    let pairs = (0..count).map(|_| Ok((reader.string()?, reader.string()?)));
    Ok(Value::Hash(pairs.collect::<Result<_, _>>()?))
}

fn texts(items: &[Element<'_>]) -> Vec<Vec<u8>> {
    items.iter().map(Element::to_vec).collect()
}

fn pairs(items: &[Element<'_>]) -> Result<super::Pairs, Malformed> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Malformed);
    }
    let pairs = pairs.iter();
    Ok(pairs.map(|[a, b]| (a.to_vec(), b.to_vec())).collect())
}

fn scored(items: &[Element<'_>]) -> Result<Value, Malformed> {
    let members = pairs(items)?.into_iter().map(|(member, score)| {
        let score = cairn_protocol::resp::number::parse_f64(&score).ok_or(Malformed)?;
        Ok((member, score))
    });
    Ok(Value::SortedSet(members.collect::<Result<_, _>>()?))
}

fn intset(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut reader = Reader(bytes);
    let width = u32::from_le_bytes(reader.array()?) as usize;
    let count = u32::from_le_bytes(reader.array()?) as usize;
    if !matches!(width, 2 | 4 | 8) || reader.0.len() != width.saturating_mul(count) {
        return Err(Malformed);
    }
    let members = reader.0.chunks_exact(width).map(|chunk| match width {
        2 => i64::from(i16::from_le_bytes([chunk[0], chunk[1]])),
        4 => i64::from(i32::from_le_bytes(chunk.try_into().expect("four bytes"))),
        _ => i64::from_le_bytes(chunk.try_into().expect("eight bytes")),
    });
    Ok(members.map(|n| n.to_string().into_bytes()).collect())
}

fn old_quicklist(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    let mut elements = Vec::new();
    for _ in 0..reader.count()? {
        elements.extend(texts(&ziplist::items(&reader.string()?)?));
    }
    Ok(Value::List(elements))
}

fn quicklist(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    let mut elements = Vec::new();
    for _ in 0..reader.count()? {
        let container = reader.length()?;
        let node = reader.string()?;
        match container {
            NODE_PLAIN if !node.is_empty() => elements.push(node),
            NODE_PACKED => elements.extend(texts(&listpack(&node)?)),
            _ => return Err(Malformed),
        }
    }
    Ok(Value::List(elements))
}
