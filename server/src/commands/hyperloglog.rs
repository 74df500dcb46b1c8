//! HyperLogLog commands. Wire side only: arguments in, reply out.
//! What a HyperLogLog is is `types::hyperloglog`; it lies in a string.

use std::sync::atomic::Ordering;

use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::is;
use crate::storage::{MetaKey, Record};
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::hyperloglog::{
    self, Corrupt, DENSE_LEN, HEAD, HyperLogLog, REGISTERS, Registers, SPARSE_MAX_LEN,
    count_registers,
};
use crate::types::string::{self, StringValue};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("pfadd", Handler::Write(pfadd)),
    ("pfcount", Handler::Read(pfcount)),
    ("pfdebug", Handler::Write(pfdebug)),
    ("pfmerge", Handler::Write(pfmerge)),
    ("pfselftest", Handler::Read(pfselftest)),
];

type Done = Result<(), CommandError>;

const INVALID: CommandError = CommandError::fixed("INVALIDOBJ Corrupted HLL object detected");
const NOT_ONE: CommandError =
    CommandError::fixed("WRONGTYPE Key is not a valid HyperLogLog string value.");

impl From<Corrupt> for CommandError {
    fn from(_: Corrupt) -> CommandError {
        INVALID
    }
}

/// PFADD key [element ...]
///
/// Replies 1 if the estimate may have changed, or the key is new.
fn pfadd(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let old = read(txn, &key)?;
    let mut changed = old.is_none();
    let (mut hll, old) = old.map_or_else(Default::default, |(hll, record)| (hll, Some(record)));
    let sparse_max = txn.limits().hll_sparse_bytes.load(Ordering::Relaxed);
    for element in args.iter().skip(2) {
        changed |= hll.add(element, sparse_max)?;
    }
    if changed {
        hll.forget_cached();
        write(txn, &key, old.as_ref(), &hll)?;
        announce(txn, &key, old.is_none());
    }
    out.integer(i64::from(changed));
    Ok(())
}

/// PFCOUNT key [key ...]
///
/// Replies with the estimated number of elements of all keys together. That
/// of one key is kept in the value, which only the writer can do.
fn pfcount(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if args.len() > 2 {
        let merged = merge(txn, args.iter().skip(1))?;
        out.integer(count_registers(&merged.registers) as i64);
        return Ok(());
    }
    let key = txn.key(args.get(1));
    let Some((mut hll, record)) = read(txn, &key)? else {
        out.integer(0);
        return Ok(());
    };
    let count = match hll.cached() {
        Some(count) => count,
        None if !txn.is_write() => return Err(CommandError::NeedsTick),
        None => {
            let count = hll.count()?;
            hll.set_cached(count);
            write(txn, &key, Some(&record), &hll)?;
            count
        }
    };
    out.integer(count as i64);
    Ok(())
}

/// PFDEBUG GETREG | DECODE | ENCODING | TODENSE key
fn pfdebug(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (word, key) = (args.get(1), txn.key(args.get(2)));
    let missing = CommandError::fixed("ERR The specified key does not exist");
    let (mut hll, record) = read(txn, &key)?.ok_or(missing)?;
    if is(word, "GETREG") || is(word, "TODENSE") {
        let converted = hll.make_dense()?;
        if converted {
            write(txn, &key, Some(&record), &hll)?;
        }
        if is(word, "TODENSE") {
            out.integer(i64::from(converted));
            return Ok(());
        }
        let mut registers = [0; REGISTERS];
        hll.merge_into(&mut registers)?;
        out.array(REGISTERS);
        registers
            .iter()
            .for_each(|value| out.integer(i64::from(*value)));
    } else if is(word, "DECODE") {
        let decoded = hll.decoded();
        let dense = CommandError::fixed("ERR HLL encoding is not sparse");
        out.bulk(decoded.ok_or(dense)?.as_bytes());
    } else if is(word, "ENCODING") {
        out.simple(if hll.is_sparse() { "sparse" } else { "dense" });
    } else {
        let word = super::arguments::shown(word);
        return Err(CommandError::line(format!(
            "ERR Unknown PFDEBUG subcommand '{word}'"
        )));
    }
    Ok(())
}

/// PFMERGE destkey [sourcekey ...]
///
/// The destination is one of the sources, if it exists.
fn pfmerge(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let merged = merge(txn, args.iter().skip(1))?;
    let key = txn.key(args.get(1));
    let old = read(txn, &key)?;
    let (mut hll, old) = old.map_or_else(Default::default, |(hll, record)| (hll, Some(record)));
    if merged.any_dense {
        hll.make_dense()?;
    }
    let sparse_max = txn.limits().hll_sparse_bytes.load(Ordering::Relaxed);
    for (index, value) in merged.registers.iter().enumerate() {
        if *value > 0 {
            hll.raise(index, *value, sparse_max)?;
        }
    }
    hll.forget_cached();
    write(txn, &key, old.as_ref(), &hll)?;
    announce(txn, &key, old.is_none());
    out.ok();
    Ok(())
}

/// PFSELFTEST
///
/// Takes a second or more, so it goes where it may wait.
fn pfselftest(txn: &mut Txn<'_>, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    txn.require_disk()?;
    test_registers(txn)?;
    let seed = txn.random();
    test_error(seed)?;
    out.ok();
    Ok(())
}

fn failed(what: String) -> CommandError {
    CommandError::line(format!("ERR TESTFAILED {what}"))
}

/// What is put into registers comes out of them.
fn test_registers(txn: &mut Txn<'_>) -> Done {
    for _ in 0..100 {
        let mut bytes = b"HYLL\0".to_vec();
        bytes.resize(DENSE_LEN, 0);
        let mut hll = HyperLogLog::of(bytes);
        let mut want: Registers = [0; REGISTERS];
        for (index, value) in want.iter_mut().enumerate() {
            *value = txn.random() as u8 & 0x3f;
            hll.raise(index, *value, 0)?;
        }
        let mut got: Registers = [0; REGISTERS];
        hll.merge_into(&mut got)?;
        if let Some(at) = (0..REGISTERS).find(|at| want[*at] != got[*at]) {
            let (want, got) = (want[at], got[at]);
            return Err(failed(format!(
                "Register {at} should be {want} but is {got}"
            )));
        }
    }
    Ok(())
}

/// Sparse and dense agree, and are as near to the truth as they should be.
fn test_error(seed: u64) -> Done {
    const SPARSE_BYTES: usize = 3000;
    let (mut sparse, mut dense) = (HyperLogLog::default(), HyperLogLog::default());
    dense.make_dense()?;
    let mut checkpoint = 1_u64;
    for n in 1..=10_000_000_u64 {
        let element = (n ^ seed).to_le_bytes();
        dense.add(&element, SPARSE_BYTES)?;
        sparse.add(&element, SPARSE_BYTES)?;
        if n != checkpoint {
            continue;
        }
        if n < SPARSE_BYTES as u64 / 2 && !sparse.is_sparse() {
            return Err(failed("sparse encoding not used".into()));
        }
        let count = dense.count()?;
        if sparse.count()? != count {
            return Err(failed("dense/sparse disagree".into()));
        }
        let expected = 1.04 / (REGISTERS as f64).sqrt();
        let allowed = match n {
            10 => 1,
            n => (expected * 6.0 * n as f64).ceil() as u64,
        };
        let error = n.abs_diff(count);
        if error > allowed {
            return Err(failed(format!("Too big error. card:{n} abserr:{error}")));
        }
        checkpoint *= 10;
    }
    Ok(())
}

// Helpers.

/// The HyperLogLog at `key` and its record.
fn read(txn: &mut Txn<'_>, key: &MetaKey) -> Result<Option<(HyperLogLog, Record)>, CommandError> {
    let Some(record) = txn.get(key)? else {
        return Ok(None);
    };
    let value = StringValue::of(&record)?;
    let head = value.read(txn, key, 0..value.len().min(HEAD as u64))?;
    if !hyperloglog::is_valid(&head, value.len()) {
        return Err(NOT_ONE);
    }
    if value.len() > SPARSE_MAX_LEN as u64 {
        return Err(INVALID);
    }
    let bytes = value.read_all(txn, key)?.into_owned();
    Ok(Some((HyperLogLog::of(bytes), record)))
}

/// Keeps the expiry.
fn write(txn: &mut Txn<'_>, key: &MetaKey, old: Option<&Record>, hll: &HyperLogLog) -> Done {
    let expires_at = old.and_then(|old| old.header()?.expires_at);
    string::set_edited(txn, key, old, hll.bytes(), expires_at)
}

fn announce(txn: &mut Txn<'_>, key: &MetaKey, is_new: bool) {
    if is_new {
        txn.event(EventClass::New, "new", key.user_key());
    }
    txn.event(EventClass::String, "pfadd", key.user_key());
}

struct Merged {
    registers: Box<Registers>,
    any_dense: bool,
}

fn merge<'k>(
    txn: &mut Txn<'_>,
    keys: impl Iterator<Item = &'k [u8]>,
) -> Result<Merged, CommandError> {
    let mut merged = Merged {
        registers: Box::new([0; REGISTERS]),
        any_dense: false,
    };
    for name in keys {
        let key = txn.key(name);
        if let Some((hll, _)) = read(txn, &key)? {
            merged.any_dense |= !hll.is_sparse();
            hll.merge_into(&mut merged.registers)?;
        }
    }
    Ok(merged)
}

#[cfg(test)]
#[path = "hyperloglog_tests.rs"]
mod tests;
