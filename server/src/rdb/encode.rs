//! From a value to its payload.

use super::primitives::{put_length, put_string};
use super::{Form, Value, kind, seal, stream};
use crate::listpack::Builder;

/// Bytes of a list node, as `list-max-listpack-size -2` has them.
const LIST_NODE: usize = 8 << 10;
/// A list's element above this is a node of its own.
const PLAIN_FROM: usize = 4 << 10;

const NODE_PLAIN: u64 = 1;
const NODE_PACKED: u64 = 2;

/// The payload of a value, with version and checksum.
pub fn encode(value: &Value, form: Form) -> Vec<u8> {
    seal(typed(value, form))
}

/// The type and the value, as they lie apart in a file.
pub fn encode_body(value: &Value, form: Form) -> (u8, Vec<u8>) {
    let mut body = typed(value, form);
    (body.remove(0), body)
}

fn typed(value: &Value, form: Form) -> Vec<u8> {
    let mut out = Vec::new();
    match (value, form) {
        (Value::String(string), _) => {
            out.push(kind::STRING);
            put_string(&mut out, string);
        }
        (Value::List(elements), _) => list(&mut out, elements),
        (Value::Set(members), Form::Compact) => intset_or_table(&mut out, members),
        (Value::Set(members), Form::Table) => set(&mut out, members),
        (Value::SortedSet(members), Form::Compact) => {
            out.push(kind::ZSET_LISTPACK);
            let mut packed = Builder::begin();
            for (member, score) in members {
                packed.text(member);
                let mut text = Vec::new();
                cairn_protocol::resp::number::format_f64(*score, &mut text);
                packed.text(&text);
            }
            put_string(&mut out, &packed.finish());
        }
        (Value::SortedSet(members), Form::Table) => {
            out.push(kind::ZSET_2);
            put_length(&mut out, members.len() as u64);
            // Redis writes from the highest down, which is cheap to insert.
            for (member, score) in members.iter().rev() {
                put_string(&mut out, member);
                out.extend_from_slice(&score.to_le_bytes());
            }
        }
        (Value::Hash(pairs), Form::Compact) => {
            out.push(kind::HASH_LISTPACK);
            let mut packed = Builder::begin();
            for (field, value) in pairs {
                packed.text(field);
                packed.text(value);
            }
            put_string(&mut out, &packed.finish());
        }
        (Value::Hash(pairs), Form::Table) => {
            out.push(kind::HASH);
            put_length(&mut out, pairs.len() as u64);
            for (field, value) in pairs {
                put_string(&mut out, field);
                put_string(&mut out, value);
            }
        }
        (Value::Stream(value), _) => {
            out.push(kind::STREAM_2);
            stream::encode(&mut out, value);
        }
    }
    out
}

fn list(out: &mut Vec<u8>, elements: &[Vec<u8>]) {
    let mut nodes = Vec::new();
    let mut packed = Builder::begin();
    let mut filled = false;
    for element in elements {
        let is_plain = element.len() > PLAIN_FROM;
        if filled && (is_plain || packed.len() + element.len() > LIST_NODE) {
            let full = std::mem::replace(&mut packed, Builder::begin());
            nodes.push((NODE_PACKED, full.finish()));
            filled = false;
        }
        if is_plain {
            nodes.push((NODE_PLAIN, element.clone()));
        } else {
            packed.text(element);
            filled = true;
        }
    }
    if filled {
        nodes.push((NODE_PACKED, packed.finish()));
    }
    out.push(kind::LIST_QUICKLIST_2);
    put_length(out, nodes.len() as u64);
    for (container, node) in nodes {
        put_length(out, container);
        put_string(out, &node);
    }
}

fn set(out: &mut Vec<u8>, members: &[Vec<u8>]) {
    out.push(kind::SET);
    put_length(out, members.len() as u64);
    members.iter().for_each(|member| put_string(out, member));
}

/// A set of integers alone as an intset; any other as a table.
fn intset_or_table(out: &mut Vec<u8>, members: &[Vec<u8>]) {
    let integers = members
        .iter()
        .map(|member| cairn_protocol::resp::number::parse_i64(member));
    let Some(mut integers) = integers.collect::<Option<Vec<i64>>>() else {
        return set(out, members);
    };
    integers.sort_unstable();
    let fits = |low: i64, high: i64| integers.iter().all(|n| (low..=high).contains(n));
    let width = match () {
        () if fits(i16::MIN.into(), i16::MAX.into()) => 2,
        () if fits(i32::MIN.into(), i32::MAX.into()) => 4,
        () => 8,
    };
    let mut intset = Vec::with_capacity(8 + integers.len() * width);
    intset.extend_from_slice(&(width as u32).to_le_bytes());
    intset.extend_from_slice(&(integers.len() as u32).to_le_bytes());
    for n in integers {
        intset.extend_from_slice(&n.to_le_bytes()[..width]);
    }
    out.push(kind::SET_INTSET);
    put_string(out, &intset);
}
