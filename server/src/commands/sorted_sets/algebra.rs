//! Unions, intersections and differences of sorted sets, which may be sets too.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::ControlFlow;

use cairn_protocol::resp::{Args, ReplyWriter};

use super::{Done, Shape, store};
use crate::commands::arguments::{integer, is};
use crate::commands::large::off_network_thread;
use crate::storage::{KeyType, MetaKey, Record};
use crate::txn::{CommandError, Txn};
use crate::types::decode;
use crate::types::set::Set;
use crate::types::sorted_set::place::Span;
use crate::types::sorted_set::{Item, SortedSet, sort};

/// ZDIFF numkeys key [key ...] [WITHSCORES]
pub(super) fn zdiff(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply(txn, args, Operation::Diff, "zdiff", out)
}

/// ZDIFFSTORE destination numkeys key [key ...]
pub(super) fn zdiffstore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    store_result(txn, args, Operation::Diff, "zdiffstore", out)
}

/// ZINTER numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]
pub(super) fn zinter(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply(txn, args, Operation::Inter, "zinter", out)
}

/// ZINTERCARD numkeys key [key ...] [LIMIT limit]
///
/// Replies with the size of the intersection, counted up to the limit.
pub(super) fn zintercard(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let mut query = Query::read(txn, args, 1, Operation::Inter, Output::Count, "zintercard")?;
    query.smallest_first();
    let limit = if query.limit == 0 {
        u64::MAX
    } else {
        query.limit
    };
    let mut count = 0;
    query.intersect(txn, &mut |_| {
        count += 1;
        count < limit
    })?;
    out.integer(count as i64);
    Ok(())
}

/// ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM | MIN | MAX]
pub(super) fn zinterstore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    store_result(txn, args, Operation::Inter, "zinterstore", out)
}

/// ZUNION numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]
pub(super) fn zunion(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply(txn, args, Operation::Union, "zunion", out)
}

/// ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM | MIN | MAX]
pub(super) fn zunionstore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    store_result(txn, args, Operation::Union, "zunionstore", out)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What becomes of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Reply,
    Store,
    Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            Aggregate::Sum => not_nan(a + b),
            Aggregate::Min if b < a => b,
            Aggregate::Max if b > a => b,
            Aggregate::Min | Aggregate::Max => a,
        }
    }
}

/// Infinities may cancel each other out: Redis makes that 0.
fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One input.
enum Source {
    Missing,
    SortedSet(SortedSet),
    /// Its members count as having the score 1.
    Set(MetaKey, Record),
}

impl Source {
    fn open(txn: &mut Txn<'_>, name: &[u8]) -> Result<Source, CommandError> {
        let key = txn.key(name);
        let Some(record) = txn.get(&key)? else {
            return Ok(Source::Missing);
        };
        let (header, _) = decode(&record)?;
        Ok(match header.key_type {
            KeyType::Set => Source::Set(key, record),
            _ => Source::SortedSet(SortedSet::of(&key, record)?),
        })
    }

    fn len(&self) -> Result<u64, CommandError> {
        Ok(match self {
            Source::Missing => 0,
            Source::SortedSet(set) => set.len(),
            Source::Set(key, record) => Set::of(key, record)?.len(),
        })
    }

    fn items(&self, txn: &mut Txn<'_>) -> Result<Vec<Item>, CommandError> {
        let mut items = Vec::new();
        match self {
            Source::Missing => {}
            Source::SortedSet(set) => return set.items(txn, &Span::ALL),
            Source::Set(key, record) => {
                Set::of(key, record)?.each(txn, &mut |member, _| {
                    items.push(Item::new(1.0, member));
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(items)
    }

    fn score(&self, txn: &mut Txn<'_>, member: &[u8]) -> Result<Option<f64>, CommandError> {
        match self {
            Source::Missing => Ok(None),
            Source::SortedSet(set) => set.score(txn, member),
            Source::Set(key, record) => {
                let is_there = Set::of(key, record)?.contains(txn, member)?;
                Ok(is_there.then_some(1.0))
            }
        }
    }
}

/// One input as it takes part.
struct Input {
    source: Source,
    len: u64,
    weight: f64,
}

struct Query {
    inputs: Vec<Input>,
    aggregate: Aggregate,
    scores: bool,
    /// 0: none.
    limit: u64,
}

impl Query {
    /// Reads the arguments from `numkeys`, argument `at`, on, and opens the
    /// inputs: Redis judges their types before it reads the options.
    fn read(
        txn: &mut Txn<'_>,
        args: &Args<'_>,
        at: usize,
        operation: Operation,
        output: Output,
        command: &str,
    ) -> Result<Query, CommandError> {
        let keys = integer(args.get(at))?;
        if keys < 1 {
            return Err(CommandError::line(format!(
                "ERR at least 1 input key is needed for '{command}' command"
            )));
        }
        let there = args.len() - at - 1;
        let keys = usize::try_from(keys).ok().filter(|keys| *keys <= there);
        let keys = keys.ok_or(CommandError::SYNTAX)?;
        let mut query = Query {
            inputs: Vec::with_capacity(keys),
            aggregate: Aggregate::Sum,
            scores: false,
            limit: 0,
        };
        for name in args.iter().skip(at + 1).take(keys) {
            let source = Source::open(txn, name)?;
            let len = source.len()?;
            query.inputs.push(Input {
                source,
                len,
                weight: 1.0,
            });
        }
        query.read_options(args, at + 1 + keys, operation, output)?;
        Ok(query)
    }

    fn read_options(
        &mut self,
        args: &Args<'_>,
        mut at: usize,
        operation: Operation,
        output: Output,
    ) -> Done {
        let keys = self.inputs.len();
        let weighs = operation != Operation::Diff && output != Output::Count;
        while let Some(word) = args.try_get(at) {
            let left = args.len() - at;
            match word {
                _ if weighs && left > keys && is(word, "WEIGHTS") => {
                    const NOT_A_WEIGHT: CommandError =
                        CommandError::fixed("ERR weight value is not a float");
                    for (number, input) in self.inputs.iter_mut().enumerate() {
                        let arg = args.get(at + 1 + number);
                        input.weight = super::float(arg).map_err(|_| NOT_A_WEIGHT)?;
                    }
                    at += 1 + keys;
                }
                _ if weighs && left >= 2 && is(word, "AGGREGATE") => {
                    self.aggregate = match args.get(at + 1) {
                        word if is(word, "SUM") => Aggregate::Sum,
                        word if is(word, "MIN") => Aggregate::Min,
                        word if is(word, "MAX") => Aggregate::Max,
                        _ => return Err(CommandError::SYNTAX),
                    };
                    at += 2;
                }
                _ if output == Output::Reply && is(word, "WITHSCORES") => {
                    self.scores = true;
                    at += 1;
                }
                _ if output == Output::Count && left >= 2 && is(word, "LIMIT") => {
                    let limit = integer(args.get(at + 1)).ok();
                    self.limit = limit
                        .and_then(|n| u64::try_from(n).ok())
                        .ok_or(CommandError::fixed("ERR LIMIT can't be negative"))?;
                    at += 2;
                }
                _ => return Err(CommandError::SYNTAX),
            }
        }
        Ok(())
    }

    /// Scores are added up in this order, which shows in their last digits.
    fn smallest_first(&mut self) {
        self.inputs.sort_by_key(|input| input.len);
    }

    fn run(&mut self, txn: &mut Txn<'_>, operation: Operation) -> Result<Vec<Item>, CommandError> {
        let mut items = match operation {
            Operation::Union => {
                self.smallest_first();
                self.unite(txn)?
            }
            Operation::Inter => {
                self.smallest_first();
                let mut items = Vec::new();
                self.intersect(txn, &mut |item| {
                    items.push(item);
                    true
                })?;
                items
            }
            Operation::Diff => self.subtract(txn)?,
        };
        sort(&mut items);
        Ok(items)
    }

    fn first_and_others(&self) -> (&Input, &[Input]) {
        let parts = self.inputs.split_first();
        parts.expect("there is at least one input")
    }

    fn unite(&self, txn: &mut Txn<'_>) -> Result<Vec<Item>, CommandError> {
        let mut scores: HashMap<Vec<u8>, f64> = HashMap::new();
        off_network_thread(txn, self.inputs.iter().map(|input| input.len).sum())?;
        for input in &self.inputs {
            for item in input.source.items(txn)? {
                let score = not_nan(input.weight * item.score);
                match scores.entry(item.member) {
                    Entry::Vacant(entry) => {
                        entry.insert(score);
                    }
                    Entry::Occupied(mut entry) => {
                        *entry.get_mut() = self.aggregate.join(*entry.get(), score);
                    }
                }
            }
        }
        let items = scores.into_iter();
        Ok(items
            .map(|(member, score)| Item { score, member })
            .collect())
    }

    /// Shows `take` what is in all inputs, in the first one's order, until it
    /// has enough.
    fn intersect(
        &self,
        txn: &mut Txn<'_>,
        take: &mut dyn FnMut(Item) -> bool,
    ) -> Result<(), CommandError> {
        let (smallest, others) = self.first_and_others();
        off_network_thread(txn, smallest.len)?;
        'items: for item in smallest.source.items(txn)? {
            let mut score = not_nan(smallest.weight * item.score);
            for other in others {
                let Some(value) = other.source.score(txn, &item.member)? else {
                    continue 'items;
                };
                score = self.aggregate.join(score, value * other.weight);
            }
            if !take(Item { score, ..item }) {
                break;
            }
        }
        Ok(())
    }

    /// What is in the first input only. A set has no order by score and member.
    fn subtract(&self, txn: &mut Txn<'_>) -> Result<Vec<Item>, CommandError> {
        let (first, others) = self.first_and_others();
        off_network_thread(txn, first.len)?;
        let mut left = Vec::new();
        'items: for item in first.source.items(txn)? {
            for other in others {
                if other.source.score(txn, &item.member)?.is_some() {
                    continue 'items;
                }
            }
            left.push(item);
        }
        Ok(left)
    }
}

fn reply(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    operation: Operation,
    command: &str,
    out: &mut ReplyWriter,
) -> Done {
    let mut query = Query::read(txn, args, 1, operation, Output::Reply, command)?;
    let items = query.run(txn, operation)?;
    let shape = Shape::new(out, query.scores);
    out.array(shape.len(items.len()));
    for item in &items {
        shape.write(out, item.score, &item.member);
    }
    Ok(())
}

fn store_result(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    operation: Operation,
    command: &'static str,
    out: &mut ReplyWriter,
) -> Done {
    let mut query = Query::read(txn, args, 2, operation, Output::Store, command)?;
    let items = query.run(txn, operation)?;
    store(txn, args.get(1), &items, command, out)
}
