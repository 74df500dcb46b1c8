//! Every type to and from its neutral form ([`crate::rdb::Value`]): for DUMP and
//! RESTORE, which move whole values.

use std::ops::ControlFlow;

use rocksdb::Direction;

use super::hash::{Hash, HashEdit};
use super::list::{End, List};
use super::set::{Set, SetEdit};
use super::sorted_set::place::Span;
use super::sorted_set::{self, Item, SortedSet};
use super::stream::{Pending, Range, Stream, StreamId};
use super::string::{self, StringValue};
use super::{decode, with_expiry};
use crate::rdb::{self, StreamConsumer, StreamEntry, StreamGroup, StreamPending, Value};
use crate::storage::{KeyType, MetaKey, Record};
use crate::txn::{CommandError, Txn};

/// The whole value of a record.
///
/// # Errors
/// As reads of the value: `Cold`, `Corrupt`.
pub fn read(txn: &mut Txn<'_>, key: &MetaKey, record: &Record) -> Result<Value, CommandError> {
    let (header, _) = decode(record)?;
    Ok(match header.key_type {
        KeyType::String => {
            let value = StringValue::of(record)?;
            Value::String(value.read_all(txn, key)?.into_owned())
        }
        KeyType::List => Value::List(List::of(key, record)?.elements(txn)?),
        KeyType::Set => {
            let mut members = Vec::new();
            Set::of(key, record)?.each(txn, &mut |member, _| {
                members.push(member.to_vec());
                ControlFlow::Continue(())
            })?;
            Value::Set(members)
        }
        KeyType::Hash => {
            let mut pairs = Vec::new();
            Hash::of(key, record)?.each(txn, &mut |field, value| {
                pairs.push((field.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            })?;
            Value::Hash(pairs)
        }
        KeyType::SortedSet => {
            let items = SortedSet::of(key, record.clone())?.items(txn, &Span::ALL)?;
            let pairs = items.into_iter().map(|item| (item.member, item.score));
            Value::SortedSet(pairs.collect())
        }
        KeyType::Stream => Value::Stream(read_stream(txn, key, record)?),
    })
}

/// Makes `key`, which must not exist, a value with this expiry (unix ms).
///
/// # Errors
/// As writes of the value.
pub fn write(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    value: &Value,
    expires_at: Option<u64>,
) -> Result<(), CommandError> {
    match value {
        Value::String(bytes) => return string::set(txn, key, None, bytes, expires_at),
        Value::List(elements) => {
            let mut list = List::empty(key);
            for element in elements {
                list.push(txn, End::Right, element)?;
            }
            list.save(txn)?;
        }
        Value::Set(members) => {
            let mut set = SetEdit::open(key, None)?;
            for member in members {
                set.add(txn, member)?;
            }
            set.save(txn)?;
        }
        Value::Hash(pairs) => {
            let mut hash = HashEdit::open(key, None)?;
            for (field, value) in pairs {
                hash.set(txn, field, value)?;
            }
            hash.save(txn)?;
        }
        Value::SortedSet(members) => {
            let mut items: Vec<Item> = members
                .iter()
                .map(|(member, score)| Item::new(*score, member))
                .collect();
            sorted_set::sort(&mut items);
            SortedSet::replace(txn, key, &items)?;
        }
        Value::Stream(stream) => write_stream(txn, key, stream)?,
    }
    let Some(expires_at) = expires_at else {
        return Ok(());
    };
    match txn.get(key)? {
        Some(record) => txn.put(key, with_expiry(key, &record, Some(expires_at))?),
        None => Ok(()),
    }
}

fn read_stream(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    record: &Record,
) -> Result<rdb::StreamValue, CommandError> {
    let stream = Stream::of(key, record)?;
    let mut value = rdb::StreamValue {
        entries: Vec::new(),
        last_id: stream.last_id,
        max_deleted: stream.max_deleted_id,
        entries_added: stream.entries_added,
        before_7: false,
        groups: Vec::new(),
    };
    stream.scan(txn, Range::ALL, &mut |entry| {
        let mut fields = Vec::new();
        entry.each_pair(|field, value| fields.push((field.to_vec(), value.to_vec())))?;
        value.entries.push(StreamEntry {
            id: entry.id,
            fields,
        });
        Ok(ControlFlow::Continue(()))
    })?;
    for group in stream.all_groups(txn)? {
        let consumers = group.all_consumers(txn)?;
        let mut pending = Vec::new();
        let (first, last) = (StreamId::MIN, StreamId::MAX);
        group.each_pending(txn, first, last, Direction::Forward, &mut |one| {
            pending.push(one);
            true
        })?;
        let place = |number| consumers.iter().position(|c| c.number == number);
        let pending = pending.into_iter().filter_map(|one| {
            let entry = StreamPending {
                delivered_at: one.delivered_at as u64,
                deliveries: one.deliveries,
                consumer: place(one.consumer)?,
            };
            Some((one.id, entry))
        });
        value.groups.push(StreamGroup {
            name: group.name.clone(),
            last_id: group.last_id,
            entries_read: u64::try_from(group.entries_read).ok(),
            pending: pending.collect(),
            consumers: consumers
                .iter()
                .map(|consumer| StreamConsumer {
                    name: consumer.name.clone(),
                    seen_at: consumer.seen_at as u64,
                })
                .collect(),
        });
    }
    Ok(value)
}

fn write_stream(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    value: &rdb::StreamValue,
) -> Result<(), CommandError> {
    let mut stream = Stream::new(key);
    for entry in &value.entries {
        let parts = entry
            .fields
            .iter()
            .flat_map(|(field, value)| [field, value]);
        let parts: Vec<&[u8]> = parts.map(Vec::as_slice).collect();
        stream.append(txn, entry.id, &parts)?;
    }
    stream.last_id = value.last_id;
    stream.max_deleted_id = value.max_deleted;
    stream.entries_added = value.entries_added;
    for group in &value.groups {
        let read = match value.before_7 {
            true => stream.entries_up_to(group.last_id),
            false => group.entries_read,
        };
        write_group(txn, &mut stream, group, read)?;
    }
    stream.store(txn)
}

fn write_group(
    txn: &mut Txn<'_>,
    stream: &mut Stream,
    value: &StreamGroup,
    entries_read: Option<u64>,
) -> Result<(), CommandError> {
    let read = entries_read.map_or(-1, |read| read as i64);
    let mut group = stream.create_group(txn, &value.name, value.last_id, read);
    let mut numbers = Vec::with_capacity(value.consumers.len());
    for consumer in &value.consumers {
        let mut made = group.create_consumer(txn, &consumer.name);
        made.seen_at = consumer.seen_at as i64;
        group.store_consumer(txn, &made);
        numbers.push(made.number);
    }
    let mut edit = group.edit();
    for (id, pending) in &value.pending {
        let new = Pending {
            id: *id,
            consumer: numbers[pending.consumer],
            delivered_at: pending.delivered_at as i64,
            deliveries: pending.deliveries,
        };
        edit.put(txn, None, new)?;
    }
    edit.store(txn);
    Ok(())
}
