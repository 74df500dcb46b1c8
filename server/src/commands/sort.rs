//! SORT and SORT_RO. Wire side and the order; values that BY and GET name are
//! read through `types`.
//!
//! Texts are compared as bytes, not by the server's locale: replicas must
//! agree.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::{ControlFlow, Range};

use cairn_protocol::command::id;
use cairn_protocol::resp::number::parse_f64;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::{integer, is};
use crate::storage::{KeyType, MetaKey, Record};
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::hash::Hash;
use crate::types::list::{End, List};
use crate::types::set::Set;
use crate::types::sorted_set::SortedSet;
use crate::types::sorted_set::place::Span;
use crate::types::string::StringValue;
use crate::types::{self, delete_key};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("sort", Handler::Write(sort)),
    ("sort_ro", Handler::Read(sort_ro)),
];

type Done = Result<(), CommandError>;

/// SORT key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]]
/// [ASC | DESC] [ALPHA] [STORE destination]
///
/// Replies with the elements (or what GET names for each), or how many were stored.
fn sort(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Options::read(txn, args, true)?;
    let sorted = sorted(txn, args.get(1), &options)?;
    match options.store {
        Some(name) => store(txn, name, &sorted, &options, out),
        None => reply(txn, &sorted, &options, out),
    }
}

/// SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]]
/// [ASC | DESC] [ALPHA]
fn sort_ro(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Options::read(txn, args, false)?;
    let sorted = sorted(txn, args.get(1), &options)?;
    reply(txn, &sorted, &options, out)
}

fn reply(
    txn: &mut Txn<'_>,
    sorted: &[Vec<u8>],
    options: &Options<'_>,
    out: &mut ReplyWriter,
) -> Done {
    out.array(sorted.len() * options.gets.len().max(1));
    for element in sorted {
        if options.gets.is_empty() {
            out.bulk(element);
        }
        for pattern in &options.gets {
            out.bulk_or_null(pattern.value(txn, element)?.as_deref());
        }
    }
    Ok(())
}

/// Makes the result a list; no result deletes the key.
fn store(
    txn: &mut Txn<'_>,
    name: &[u8],
    sorted: &[Vec<u8>],
    options: &Options<'_>,
    out: &mut ReplyWriter,
) -> Done {
    let key = txn.key(name);
    let mut list = List::empty(&key);
    for element in sorted {
        if options.gets.is_empty() {
            list.push(txn, End::Right, element)?;
        }
        for pattern in &options.gets {
            let value = pattern.value(txn, element)?.unwrap_or_default();
            list.push(txn, End::Right, &value)?;
        }
    }
    out.integer(list.len() as i64);
    if list.is_empty() {
        if delete_key(txn, &key)? {
            txn.event(EventClass::Generic, "del", name);
        }
        return Ok(());
    }
    match txn.get(&key)? {
        Some(old) => types::overwrite(txn, &key, &old),
        None => txn.event(EventClass::New, "new", name),
    }
    list.save(txn)?;
    txn.event(EventClass::List, "sortstore", name);
    Ok(())
}

/// The options of SORT.
#[derive(Default)]
struct Options<'a> {
    desc: bool,
    alpha: bool,
    offset: i64,
    count: Option<i64>,
    by: Option<Pattern<'a>>,
    /// BY something that is the same for all elements, perhaps besides: they stay in
    /// order.
    unsorted: bool,
    gets: Vec<Pattern<'a>>,
    store: Option<&'a [u8]>,
    /// The user may not read whatever key BY and GET name.
    confined: bool,
}

impl<'a> Options<'a> {
    fn read(txn: &Txn<'_>, args: &Args<'a>, may_store: bool) -> Result<Options<'a>, CommandError> {
        let mut options = Options {
            confined: is_confined(txn, args, may_store),
            ..Options::default()
        };
        let mut at = 2;
        while at < args.len() {
            let (word, value) = (args.get(at), args.try_get(at + 1));
            at += match (word, value) {
                (word, _) if is(word, "ASC") => options.set_desc(false),
                (word, _) if is(word, "DESC") => options.set_desc(true),
                (word, _) if is(word, "ALPHA") => {
                    options.alpha = true;
                    1
                }
                (word, Some(offset)) if is(word, "LIMIT") && at + 2 < args.len() => {
                    options.offset = integer(offset)?;
                    options.count = Some(integer(args.get(at + 2))?);
                    3
                }
                (word, Some(name)) if is(word, "STORE") && may_store => {
                    options.store = Some(name);
                    2
                }
                (word, Some(pattern)) if is(word, "BY") => {
                    options.set_by(txn, Pattern::of(pattern))?;
                    2
                }
                (word, Some(pattern)) if is(word, "GET") => {
                    options.add_get(txn, Pattern::of(pattern))?;
                    2
                }
                _ => return Err(CommandError::SYNTAX),
            };
        }
        Ok(options)
    }

    fn set_desc(&mut self, desc: bool) -> usize {
        self.desc = desc;
        1
    }

    fn set_by(&mut self, txn: &Txn<'_>, pattern: Pattern<'a>) -> Done {
        if txn.context().cluster && pattern.is_variable() {
            return Err(CommandError::fixed(
                "ERR BY option of SORT denied in Cluster mode.",
            ));
        }
        if self.confined && pattern.is_variable() {
            return Err(CommandError::fixed(
                "ERR BY option of SORT denied due to insufficient ACL permissions.",
            ));
        }
        // As in Redis a later BY does not take that back.
        self.unsorted |= !pattern.is_variable();
        self.by = Some(pattern);
        Ok(())
    }

    fn add_get(&mut self, txn: &Txn<'_>, pattern: Pattern<'a>) -> Done {
        if txn.context().cluster {
            return Err(CommandError::fixed(
                "ERR GET option of SORT denied in Cluster mode.",
            ));
        }
        if self.confined {
            return Err(CommandError::fixed(
                "ERR GET option of SORT denied due to insufficient ACL permissions.",
            ));
        }
        self.gets.push(pattern);
        Ok(())
    }

    /// What LIMIT leaves of `len` elements.
    fn range(&self, len: u64) -> Range<u64> {
        let start = (self.offset.max(0) as u64).min(len);
        let count = match self.count {
            Some(count) if count >= 0 => count as u64,
            _ => len,
        };
        start..start.saturating_add(count).min(len)
    }
}

fn is_confined(txn: &Txn<'_>, args: &Args<'_>, may_store: bool) -> bool {
    let spec = if may_store { id::SORT } else { id::SORT_RO }.spec();
    let subject = txn.subject();
    subject.is_some_and(|subject| !subject.may_read_all(spec, args))
}

/// What BY and GET name: `#`, the element itself, or a key, perhaps with a
/// hash's field behind `->`, in which the first `*` is the element.
struct Pattern<'a> {
    kind: PatternKind<'a>,
}

enum PatternKind<'a> {
    Element,
    /// Without a `*`: there is nothing to read.
    Constant,
    Key {
        before: &'a [u8],
        behind: &'a [u8],
        field: Option<&'a [u8]>,
    },
}

impl<'a> Pattern<'a> {
    /// Redis looks through patterns as C strings, up to a NUL.
    fn of(pattern: &'a [u8]) -> Pattern<'a> {
        let end = pattern.iter().position(|b| *b == 0);
        let text = &pattern[..end.unwrap_or(pattern.len())];
        let star = text.iter().position(|b| *b == b'*');
        let kind = match star {
            _ if text == b"#" => PatternKind::Element,
            None => PatternKind::Constant,
            Some(star) => {
                let arrow = text[star + 1..].windows(2).position(|two| two == b"->");
                // An arrow with nothing behind it is part of the key.
                let arrow = arrow
                    .map(|at| star + 1 + at)
                    .filter(|at| at + 2 < text.len());
                PatternKind::Key {
                    before: &pattern[..star],
                    behind: &pattern[star + 1..arrow.unwrap_or(pattern.len())],
                    field: arrow.map(|at| &pattern[at + 2..]),
                }
            }
        };
        Pattern { kind }
    }

    fn is_variable(&self) -> bool {
        matches!(self.kind, PatternKind::Key { .. })
    }

    /// What it names for an element.
    fn value(&self, txn: &mut Txn<'_>, element: &[u8]) -> Result<Option<Vec<u8>>, CommandError> {
        let (before, behind, field) = match &self.kind {
            PatternKind::Element => return Ok(Some(element.to_vec())),
            PatternKind::Constant => return Ok(None),
            PatternKind::Key {
                before,
                behind,
                field,
            } => (before, behind, field),
        };
        let key = txn.key(&[before, element, behind].concat());
        let Some(record) = txn.get(&key)? else {
            return Ok(None);
        };
        match (field, key_type(&record)?) {
            (None, KeyType::String) => {
                let value = StringValue::of(&record)?;
                Ok(Some(value.read_all(txn, &key)?.into_owned()))
            }
            (Some(field), KeyType::Hash) => hash_field(txn, &key, &record, field),
            _ => Ok(None),
        }
    }
}

fn key_type(record: &Record) -> Result<KeyType, CommandError> {
    Ok(types::decode(record)?.0.key_type)
}

/// The elements that LIMIT leaves, in order.
fn sorted(
    txn: &mut Txn<'_>,
    name: &[u8],
    options: &Options<'_>,
) -> Result<Vec<Vec<u8>>, CommandError> {
    let key = txn.key(name);
    let Some(record) = txn.get(&key)? else {
        return Ok(Vec::new());
    };
    let kind = key_type(&record)?;
    // A set has no order of its own: what is stored, or what a script sees
    // (a command within another never waits), is sorted.
    let needs_order = options.store.is_some() || !txn.context().may_block;
    if options.unsorted && !(kind == KeyType::Set && needs_order) {
        return unsorted(txn, &key, &record, kind, options);
    }
    let elements = elements(txn, &key, &record, kind)?;
    let (by, alpha) = match options.unsorted {
        true => (None, true),
        false => (options.by.as_ref(), options.alpha),
    };
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        let weight = Weight::of(txn, &element, by, alpha)?;
        weighed.push((weight, element));
    }
    if weighed.iter().any(|(weight, _)| weight.is_bad()) {
        return Err(CommandError::fixed(
            "ERR One or more scores can't be converted into double",
        ));
    }
    weighed.sort_by(|a, b| match options.desc {
        false => compare(a, b),
        true => compare(b, a),
    });
    let range = options.range(weighed.len() as u64);
    let mut kept: Vec<Vec<u8>> = weighed.into_iter().map(|(_, element)| element).collect();
    kept.truncate(range.end as usize);
    kept.drain(..range.start as usize);
    Ok(kept)
}

/// By what an element is sorted.
enum Weight {
    Number(f64),
    /// No number at all.
    Bad,
    /// `None`: BY names nothing for this element.
    Text(Option<Vec<u8>>),
    /// The element itself.
    Element,
}

impl Weight {
    fn of(
        txn: &mut Txn<'_>,
        element: &[u8],
        by: Option<&Pattern<'_>>,
        alpha: bool,
    ) -> Result<Weight, CommandError> {
        let value = match by {
            Some(by) => by.value(txn, element)?.map(Cow::Owned),
            None if alpha => return Ok(Weight::Element),
            None => Some(Cow::Borrowed(element)),
        };
        Ok(match value {
            value if alpha => Weight::Text(value.map(Cow::into_owned)),
            None => Weight::Number(0.0),
            Some(text) => number(&text).map_or(Weight::Bad, Weight::Number),
        })
    }

    fn is_bad(&self) -> bool {
        matches!(self, Weight::Bad)
    }
}

/// A number as C's `strtod` reads a whole string: blanks in front and no
/// text at all are fine.
fn number(text: &[u8]) -> Option<f64> {
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    let text = &text[..end];
    if text.is_empty() {
        return Some(0.0);
    }
    let blanks = text
        .iter()
        .take_while(|b| matches!(b, b'\t'..=b'\r' | b' '));
    parse_f64(&text[blanks.count()..])
}

fn compare(a: &(Weight, Vec<u8>), b: &(Weight, Vec<u8>)) -> Ordering {
    match (&a.0, &b.0) {
        (Weight::Number(x), Weight::Number(y)) => x
            .partial_cmp(y)
            .unwrap_or(Ordering::Equal)
            .then_with(|| a.1.cmp(&b.1)),
        // Nothing comes before every text; equal texts stay as they are.
        (Weight::Text(x), Weight::Text(y)) => x.cmp(y),
        _ => a.1.cmp(&b.1),
    }
}

/// The elements of LIMIT in their own order, DESC from the end.
fn unsorted(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    record: &Record,
    kind: KeyType,
    options: &Options<'_>,
) -> Result<Vec<Vec<u8>>, CommandError> {
    if kind == KeyType::List {
        let list = List::of(key, record)?;
        let range = options.range(list.len());
        let (range, from) = match options.desc {
            false => (range, End::Left),
            true => (list.len() - range.end..list.len() - range.start, End::Right),
        };
        let mut kept = Vec::new();
        list.show(txn, range, from, &mut |value| kept.push(value.to_vec()))?;
        return Ok(kept);
    }
    if kind == KeyType::SortedSet {
        let set = SortedSet::of(key, record.clone())?;
        let ranks = options.range(set.len());
        return in_order(txn, &set, ranks, options.desc);
    }
    let mut kept = elements(txn, key, record, kind)?;
    let range = options.range(kept.len() as u64);
    kept.truncate(range.end as usize);
    kept.drain(..range.start as usize);
    Ok(kept)
}

/// All elements in their own order.
fn elements(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    record: &Record,
    kind: KeyType,
) -> Result<Vec<Vec<u8>>, CommandError> {
    match kind {
        KeyType::List => List::of(key, record)?.elements(txn),
        KeyType::Set => {
            let mut all = Vec::new();
            Set::of(key, record)?.each(txn, &mut |member, _| {
                all.push(member.to_vec());
                ControlFlow::Continue(())
            })?;
            Ok(all)
        }
        KeyType::SortedSet => {
            let set = SortedSet::of(key, record.clone())?;
            in_order(txn, &set, 0..set.len(), false)
        }
        _ => Err(CommandError::WRONG_TYPE),
    }
}

/// Members by their ranks, from the front or (`reverse`) from the back.
fn in_order(
    txn: &mut Txn<'_>,
    set: &SortedSet,
    ranks: Range<u64>,
    reverse: bool,
) -> Result<Vec<Vec<u8>>, CommandError> {
    let (mut left, mut all) = (ranks.end - ranks.start, Vec::new());
    if left == 0 {
        return Ok(all);
    }
    set.visit_from(txn, &Span::ALL, reverse, ranks.start, &mut |_, member| {
        all.push(member.to_vec());
        left -= 1;
        match left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    })?;
    Ok(all)
}

fn hash_field(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    record: &Record,
    field: &[u8],
) -> Result<Option<Vec<u8>>, CommandError> {
    let value = Hash::of(key, record)?.get(txn, field)?;
    Ok(value.map(|value| value.to_vec()))
}

#[cfg(test)]
#[path = "sort_tests.rs"]
mod tests;
