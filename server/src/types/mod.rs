//! How each Redis type is laid out in records and rows.
//!
//! Works on a [`Txn`] alone; knows no RESP. What concerns keys of every type
//! (delete, copy, rename, expiry) is here, each type has a file of its own.

pub mod hash;
pub mod hyperloglog;
pub mod intset;
pub mod list;
pub mod members;
pub mod packed;
pub mod rows;
pub mod serial;
pub mod set;
pub mod set_algebra;
pub mod sorted_set;
pub mod stream;
pub mod string;

use std::ops::ControlFlow;

use rocksdb::Direction;

use crate::storage::keys::sub_key;
use crate::storage::{Header, KeyType, MetaKey, Record, Spread};
use crate::txn::effects::Family;
use crate::txn::{CommandError, Txn};

/// Header and payload of a record.
pub fn decode(record: &Record) -> Result<(Header, &[u8]), CommandError> {
    let value = record.value();
    let (header, at) =
        Header::decode(value).ok_or(CommandError::Corrupt("the header of a record"))?;
    Ok((header, &value[at..]))
}

/// Deletes a key of any type and what lies below it. False: there is none.
pub fn delete_key(txn: &mut Txn<'_>, key: &MetaKey) -> Result<bool, CommandError> {
    let Some(record) = txn.get(key)? else {
        return Ok(false);
    };
    overwrite(txn, key, &record);
    txn.delete(key)?;
    Ok(true)
}

/// Gives up what lies below `record`, which is about to be replaced or
/// deleted. Rows of collections become garbage by themselves.
pub fn overwrite(txn: &mut Txn<'_>, key: &MetaKey, record: &Record) {
    txn.delete_payload(key, record);
}

/// The same value with another expiry (unix ms; `None`: it stays).
pub fn with_expiry(
    key: &MetaKey,
    record: &Record,
    expires_at: Option<u64>,
) -> Result<Record, CommandError> {
    let (header, payload) = decode(record)?;
    Ok(Record::new(
        key,
        &Header {
            expires_at,
            ..header
        },
        payload,
    ))
}

/// Copies the value of `from` to `to`, its expiry included; `to` must have
/// been given up ([`overwrite`]) if it existed.
pub fn copy_value(
    txn: &mut Txn<'_>,
    record: &Record,
    from: &MetaKey,
    to: &MetaKey,
) -> Result<(), CommandError> {
    let (header, payload) = decode(record)?;
    let spread = match header.spread {
        None => None,
        Some(old) => {
            let new = Spread {
                version: txn.next_version(),
                ..old
            };
            match header.key_type {
                KeyType::String => string::copy_fragments(txn, record, from, to, new)?,
                _ => copy_rows(txn, from, to, old, new)?,
            }
            Some(new)
        }
    };
    txn.put(to, Record::new(to, &Header { spread, ..header }, payload))
}

/// Makes `to` of `from`: within a slot of a database without touching what
/// lies below. `to` must have been given up ([`overwrite`]) if it existed.
pub fn rename_value(
    txn: &mut Txn<'_>,
    record: &Record,
    from: &MetaKey,
    to: &MetaKey,
) -> Result<(), CommandError> {
    if (from.slot(), from.generation()) != (to.slot(), to.generation()) {
        copy_value(txn, record, from, to)?;
        overwrite(txn, from, record);
        return txn.delete(from);
    }
    let (header, payload) = decode(record)?;
    if let Some(spread) = header.spread
        && header.key_type != KeyType::String
    {
        let back = sub_key(to.slot(), to.generation(), spread.version, b"");
        txn.put_row(Family::Data, back, to.user_key().to_vec().into());
    }
    txn.put(to, Record::new(to, &header, payload))?;
    txn.delete(from)
}

/// Copies every row of one version, the back-reference renamed.
fn copy_rows(
    txn: &mut Txn<'_>,
    from: &MetaKey,
    to: &MetaKey,
    old: Spread,
    new: Spread,
) -> Result<(), CommandError> {
    let first = sub_key(from.slot(), from.generation(), old.version, b"");
    let end = sub_key(from.slot(), from.generation(), old.version.next(), b"");
    for family in [Family::Data, Family::Score] {
        for (row, value) in txn.rows_in(family, &first, &end)? {
            let rest = &row[first.len()..];
            let is_back_reference = family == Family::Data && rest.is_empty();
            let value = match is_back_reference {
                true => to.user_key().to_vec().into(),
                false => value,
            };
            txn.put_row(
                family,
                sub_key(to.slot(), to.generation(), new.version, rest),
                value,
            );
        }
    }
    Ok(())
}

/// Bytes that the rows of a spread collection take, one an element:
/// measured up to some tens of them, beyond that estimated.
pub fn bytes_of_rows(
    txn: &mut Txn<'_>,
    key: &MetaKey,
    spread: Spread,
) -> Result<u64, CommandError> {
    const MEASURED: u64 = 64;
    let first = sub_key(key.slot(), key.generation(), spread.version, b"");
    let end = sub_key(key.slot(), key.generation(), spread.version.next(), b"");
    let (mut rows, mut bytes) = (0, 0);
    let visit = &mut |row: &[u8], value: &[u8]| {
        rows += 1;
        bytes += (row.len() + value.len()) as u64;
        match rows < MEASURED {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    txn.scan_rows(Family::Data, &first, &end, Direction::Forward, visit)?;
    Ok(match rows < MEASURED {
        true => bytes,
        false => (u128::from(bytes) * u128::from(spread.size) / u128::from(rows)) as u64,
    })
}

/// What OBJECT ENCODING answers.
pub fn encoding(record: &Record) -> Result<&'static str, CommandError> {
    let (header, payload) = decode(record)?;
    Ok(match (header.key_type, header.spread.is_some()) {
        (KeyType::Hash, _) => hash::encoding(payload),
        (KeyType::Set, _) => set::encoding(&header, payload),
        (KeyType::String, _) => string::StringValue::of(record)?.encoding(),
        (KeyType::Stream, _) => "stream",
        (KeyType::List, _) => "quicklist",
        (_, false) => "listpack",
        (KeyType::SortedSet, true) if !sorted_set::is_skiplist(payload) => "listpack",
        (KeyType::SortedSet, true) => "skiplist",
    })
}
