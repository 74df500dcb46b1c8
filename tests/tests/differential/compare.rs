//! When two replies count as equal.
//!
//! Equal means the same bytes. Each other way is the least that must be let go, and
//! the rows of `table` that ask for it say why.

use cairn_tests::resp::{Reply, Value};

#[derive(Clone, Debug, PartialEq)]
pub enum Compare {
    Exact,
    /// Integers that measure time: at most this many apart. Negative ones mean
    /// something else and must be equal.
    Near(i64),
    /// Elements of an aggregate in any order: Redis's hash table has its own.
    Members,
    /// The same for a flat array of pairs (RESP2), or a map (RESP3).
    Pairs,
    /// `[cursor, elements]` of a scan that sees all at once.
    Scan,
    ScanPairs,
    /// The way within, if the reply before (OBJECT ENCODING of the key) says that the
    /// elements lie in a hash table; exact if not.
    IfHashed(Box<Compare>),
    /// The same kinds and lengths: what was chosen is random.
    Shape,
    /// Only both an error or both none, both nil or both not.
    Kind,
    /// OBJECT ENCODING: see `table`.
    Encoding,
    /// Replies that contain points or lengths of time (milliseconds) among others.
    Times,
    /// EXEC: one way for each queued command.
    Each(Vec<Compare>),
}

/// Replies of OBJECT ENCODING that mean a hash table (a sorted set's, for ZSCAN).
const TABLES: [&[u8]; 2] = [b"$9\r\nhashtable\r\n", b"$8\r\nskiplist\r\n"];

pub fn same(compare: &Compare, before: &[u8], theirs: &Reply, ours: &Reply) -> bool {
    if theirs.raw == ours.raw {
        return true;
    }
    if let (Value::Error(theirs), Value::Error(ours)) = (&theirs.value, &ours.value) {
        return same_errors(theirs, ours);
    }
    match compare {
        Compare::IfHashed(_) if !TABLES.contains(&before) => false,
        Compare::IfHashed(within) => same_values(within, &theirs.value, &ours.value),
        Compare::Exact => false,
        compare => same_values(compare, &theirs.value, &ours.value),
    }
}

/// See `table`: what is no UTF-8 in a client's word.
fn same_errors(theirs: &[u8], ours: &[u8]) -> bool {
    String::from_utf8_lossy(theirs) == String::from_utf8_lossy(ours)
}

fn same_values(compare: &Compare, theirs: &Value, ours: &Value) -> bool {
    if theirs == ours {
        return true;
    }
    match compare {
        _ if theirs.is_error() && ours.is_error() => match (theirs, ours) {
            (Value::Error(theirs), Value::Error(ours)) => same_errors(theirs, ours),
            _ => false,
        },
        Compare::Exact => false,
        Compare::Near(limit) => match (theirs, ours) {
            (Value::Integer(a), Value::Integer(b)) => near(*limit, *a, *b),
            _ => false,
        },
        Compare::Members | Compare::Pairs => sorted(compare, theirs).is_some_and(|sorted_theirs| {
            kind(theirs) == kind(ours) && Some(sorted_theirs) == sorted(compare, ours)
        }),
        Compare::Scan => same_scan(&Compare::Members, theirs, ours),
        Compare::ScanPairs => same_scan(&Compare::Pairs, theirs, ours),
        // Nested in a transaction or a script: the key's encoding is not known there.
        Compare::IfHashed(within) => same_values(within, theirs, ours),
        Compare::Shape => shape(theirs) == shape(ours),
        Compare::Kind => kind(theirs) == kind(ours),
        Compare::Encoding => {
            let text = |value: &Value| match value {
                Value::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
                _ => String::new(),
            };
            let pair = (text(theirs), text(ours));
            [("embstr", "int"), ("skiplist", "listpack")]
                .contains(&(pair.0.as_str(), pair.1.as_str()))
        }
        Compare::Times => without_times(theirs) == without_times(ours),
        Compare::Each(ways) => match (theirs, ours) {
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len()
                    && a.len() == ways.len()
                    && a.iter()
                        .zip(b)
                        .zip(ways)
                        .all(|((a, b), way)| same_values(way, a, b))
            }
            _ => false,
        },
    }
}

fn near(limit: i64, theirs: i64, ours: i64) -> bool {
    theirs >= 0 && ours >= 0 && (theirs - ours).abs() <= limit
}

fn same_scan(elements: &Compare, theirs: &Value, ours: &Value) -> bool {
    match (theirs, ours) {
        (Value::Array(a), Value::Array(b)) if a.len() == 2 && b.len() == 2 => {
            a[0] == b[0] && same_values(elements, &a[1], &b[1])
        }
        _ => false,
    }
}

/// The elements (or pairs) as sorted texts.
fn sorted(compare: &Compare, value: &Value) -> Option<Vec<String>> {
    let mut texts: Vec<String> = match value {
        Value::Map(pairs) => pairs.iter().map(|pair| format!("{pair:?}")).collect(),
        Value::Array(items) if *compare == Compare::Pairs => {
            items.chunks(2).map(|pair| format!("{pair:?}")).collect()
        }
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            items.iter().map(|item| format!("{item:?}")).collect()
        }
        _ => return None,
    };
    texts.sort();
    Some(texts)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Simple(_) => "simple",
        Value::Error(_) => "error",
        Value::Integer(_) => "integer",
        Value::Bulk(_) => "bulk",
        Value::Null => "null",
        Value::Array(_) => "array",
        Value::Set(_) => "set",
        Value::Push(_) => "push",
        Value::Map(_) => "map",
        Value::Boolean(_) => "boolean",
        Value::Number(_) => "number",
        Value::Verbatim(_) => "verbatim",
    }
}

/// Kinds and lengths; an error is its text.
fn shape(value: &Value) -> String {
    match value {
        Value::Error(text) => format!("-{}", text.escape_ascii()),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            let items: Vec<String> = items.iter().map(shape).collect();
            format!("{}({})", kind(value), items.join(","))
        }
        Value::Map(pairs) => format!("map({})", pairs.len()),
        other => kind(other).to_owned(),
    }
}

/// Unix times in milliseconds begin here; nothing else in these replies is as large
/// and as small as that. (Year 2001 to year 2286.)
const UNIX_TIMES: std::ops::Range<i64> = 1_000_000_000_000..10_000_000_000_000;
/// Fields of XINFO that say for how long.
const IDLE: [&[u8]; 2] = [b"idle", b"inactive"];

/// The reply with its points in time, and what stands where an idle time does, zeroed.
fn without_times(value: &Value) -> Value {
    match value {
        Value::Integer(number) if UNIX_TIMES.contains(number) => Value::Integer(0),
        // XPENDING's rows: id, consumer, idle time, deliveries.
        Value::Array(items)
            if matches!(
                items.as_slice(),
                [
                    Value::Bulk(_),
                    Value::Bulk(_),
                    Value::Integer(_),
                    Value::Integer(_)
                ]
            ) && !is_idle(&items[1]) =>
        {
            let mut items = items.clone();
            items[2] = Value::Integer(0);
            Value::Array(items)
        }
        Value::Array(items) => {
            let mut masked: Vec<Value> = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let idle = index > 0 && is_idle(&items[index - 1]);
                masked.push(masked_item(idle, item));
            }
            Value::Array(masked)
        }
        Value::Map(pairs) => Value::Map(
            pairs
                .iter()
                .map(|(name, item)| (name.clone(), masked_item(is_idle(name), item)))
                .collect(),
        ),
        other => other.clone(),
    }
}

fn is_idle(name: &Value) -> bool {
    matches!(name, Value::Bulk(text) if IDLE.contains(&text.as_slice()))
}

fn masked_item(idle: bool, item: &Value) -> Value {
    match item {
        Value::Integer(number) if idle && *number >= 0 => Value::Integer(0),
        other => without_times(other),
    }
}
