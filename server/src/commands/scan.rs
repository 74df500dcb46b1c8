//! Commands that walk over a database: KEYS, RANDOMKEY, SCAN. They run off
//! the network threads.
//!
//! A SCAN cursor is 52 bits, exact in a double, and means the same after a restart or
//! a move:
//!
//! ```text
//! slot (14 bits) | fingerprint of the last key met in that slot (38 bits; 0: the slot's start)
//! ```
//!
//! Keys are met in order of slot, then key. If the key of a cursor is gone
//! and its place forgotten, its slot begins anew: a key may then be met twice,
//! but one that is there throughout is never missed.

use std::ops::ControlFlow;

use cairn_protocol::command::glob_match;
use cairn_protocol::resp::number::{parse_i64, parse_u64};
use cairn_protocol::resp::{Args, ReplyWriter};
use cairn_protocol::slot::{CURSOR_POSITION_BITS, SLOT_COUNT};
use xxhash_rust::xxh3::xxh3_64;

use super::Handler;
use super::arguments::{integer, is};
use crate::storage::generations::NONE;
use crate::txn::walk::{Met, WalkFrom};
use crate::txn::{CommandError, Txn};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("keys", Handler::Read(keys)),
    ("randomkey", Handler::Read(randomkey)),
    ("scan", Handler::Read(scan)),
];

type Done = Result<(), CommandError>;

const FINGERPRINT: u64 = (1 << CURSOR_POSITION_BITS) - 1;
pub(super) const DEFAULT_COUNT: usize = 10;
/// RANDOMKEY counts through at most so many keys of a slot.
const MAX_STEPS: u64 = 512;
/// Random choices that RANDOMKEY makes before it takes any live key.
const MAX_CHOICES: usize = 32;

/// KEYS pattern
fn keys(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    txn.require_disk()?;
    let pattern = Pattern::new(args.get(1));
    let list = out.deferred_array();
    let mut found = 0;
    txn.walk_keys(txn.db(), WalkFrom::START, &mut |met| {
        if !met.expired && pattern.matches(met.key) {
            out.bulk(met.key);
            found += 1;
        }
        ControlFlow::Continue(())
    })?;
    out.set_deferred(list, found);
    Ok(())
}

/// RANDOMKEY
///
/// A slot is chosen by its number of keys, then a key of it: fairly among a
/// few hundred, nearly so among more. Nil if no key is live.
fn randomkey(txn: &mut Txn<'_>, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    txn.require_disk()?;
    for _ in 0..MAX_CHOICES {
        if let Some(key) = random_choice(txn)? {
            out.bulk(&key);
            return Ok(());
        }
    }
    // Nearly everything has expired, or is new in this batch.
    let slot = (txn.random() % u64::from(SLOT_COUNT)) as u16;
    let key = match first_live(txn, WalkFrom { slot, key: b"" })? {
        Some(key) => Some(key),
        None => first_live(txn, WalkFrom::START)?,
    };
    out.bulk_or_null(key.as_deref());
    Ok(())
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
///
/// COUNT bounds the keys that are looked at.
fn scan(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    scan_to(txn, args, out, |_, _| SLOT_COUNT)
}

/// SCAN as a proxy asks it: it ends at the first slot that this group does not
/// own, where the proxy goes on in another (`cairn_protocol::link`, RULES.md).
pub(crate) fn scan_until_gap(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
) -> Result<(), CommandError> {
    scan_to(txn, args, out, first_gap)
}

/// The slot in which a SCAN goes on. `None`: in none, or it is malformed.
pub(crate) fn scan_slot(args: &Args<'_>) -> Option<u16> {
    ScanOptions::read(args).ok()?;
    let cursor = Cursor::read(args.get(1)).ok()?;
    let slot = u16::try_from(cursor.slot).ok()?;
    (slot < SLOT_COUNT).then_some(slot)
}

/// The first slot from `slot` on that is not ours.
fn first_gap(txn: &Txn<'_>, slot: u16) -> u16 {
    let live = &txn.maps().live;
    let gap = (slot..SLOT_COUNT).find(|slot| live.get(txn.db(), *slot) == NONE);
    gap.unwrap_or(SLOT_COUNT)
}

/// SCAN over the slots before that which `end` names, given the cursor's.
fn scan_to(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
    end: fn(&Txn<'_>, u16) -> u16,
) -> Done {
    let cursor = Cursor::read(args.get(1))?;
    let options = ScanOptions::read(args)?;
    txn.require_disk()?;
    let page = page(txn, cursor, &options, end)?;
    out.array(2);
    out.bulk(page.next.to_string().as_bytes());
    out.array(page.keys.len());
    page.keys.iter().for_each(|key| out.bulk(key));
    Ok(())
}

// Helpers.

/// A glob that knows when it matches everything.
pub(super) struct Pattern<'a> {
    glob: &'a [u8],
    all: bool,
}

impl<'a> Pattern<'a> {
    pub(super) fn new(glob: &'a [u8]) -> Pattern<'a> {
        Pattern {
            glob,
            all: glob == b"*",
        }
    }

    pub(super) fn matches(&self, key: &[u8]) -> bool {
        self.all || glob_match(self.glob, key, false)
    }
}

/// What COUNT is given.
pub(super) fn count(arg: &[u8]) -> Result<usize, CommandError> {
    let count = usize::try_from(integer(arg)?).ok();
    count.filter(|count| *count > 0).ok_or(CommandError::SYNTAX)
}

/// A cursor as a number: what C's `strtoul` reads.
pub(super) fn cursor_number(arg: &[u8]) -> Result<u64, CommandError> {
    const INVALID: CommandError = CommandError::fixed("ERR invalid cursor");
    // For C a text ends at its first NUL.
    let arg = arg.split(|byte| *byte == 0).next().unwrap_or_default();
    match arg {
        [] => Ok(0),
        [first, ..] if first.is_ascii_whitespace() || *first == 0x0b => Err(INVALID),
        // Unlike `string2ull`, it takes a negative number and wraps it.
        _ => match parse_i64(arg) {
            Some(number) => Ok(number as u64),
            None => parse_u64(arg).ok_or(INVALID),
        },
    }
}

struct ScanOptions<'a> {
    pattern: Pattern<'a>,
    count: usize,
    type_name: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    fn read(args: &Args<'a>) -> Result<ScanOptions<'a>, CommandError> {
        let mut options = ScanOptions {
            pattern: Pattern::new(b"*"),
            count: DEFAULT_COUNT,
            type_name: None,
        };
        let mut at = 2;
        while at < args.len() {
            let (word, value) = (args.get(at), args.try_get(at + 1));
            let value = value.ok_or(CommandError::SYNTAX)?;
            match word {
                _ if is(word, "COUNT") => {
                    options.count = count(value)?;
                }
                _ if is(word, "MATCH") => options.pattern = Pattern::new(value),
                _ if is(word, "TYPE") => options.type_name = Some(value),
                _ => return Err(CommandError::SYNTAX),
            }
            at += 2;
        }
        Ok(options)
    }

    fn wants(&self, met: &Met<'_>) -> bool {
        !met.expired
            && self.pattern.matches(met.key)
            && self
                .type_name
                .is_none_or(|name| is(name, met.header.key_type.name()))
    }
}

/// Where a scan goes on; see the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    slot: u64,
    /// 0: the slot's start.
    fingerprint: u64,
}

impl Cursor {
    fn read(arg: &[u8]) -> Result<Cursor, CommandError> {
        let number = cursor_number(arg)?;
        Ok(Cursor {
            slot: number >> CURSOR_POSITION_BITS,
            fingerprint: number & FINGERPRINT,
        })
    }

    /// Behind `key`.
    fn behind(slot: u16, key: &[u8]) -> Cursor {
        let fingerprint = (xxh3_64(key) & FINGERPRINT).max(1);
        Cursor {
            slot: u64::from(slot),
            fingerprint,
        }
    }

    fn number(self) -> u64 {
        self.slot << CURSOR_POSITION_BITS | self.fingerprint
    }
}

/// One reply of SCAN.
struct Page {
    keys: Vec<Vec<u8>>,
    /// The next cursor; 0 at the end.
    next: u64,
}

fn page(
    txn: &mut Txn<'_>,
    cursor: Cursor,
    options: &ScanOptions<'_>,
    end: fn(&Txn<'_>, u16) -> u16,
) -> Result<Page, CommandError> {
    let Some(slot) = u16::try_from(cursor.slot)
        .ok()
        .filter(|slot| *slot < SLOT_COUNT)
    else {
        return Ok(Page {
            keys: Vec::new(),
            next: 0,
        });
    };
    let last = match cursor.fingerprint {
        0 => None,
        _ => find_place(txn, slot, cursor)?,
    };
    let from = WalkFrom {
        slot,
        key: last.as_deref().unwrap_or(b""),
    };
    let mut page = Page {
        keys: Vec::new(),
        next: 0,
    };
    let mut seen = 0;
    let mut at: (u16, Vec<u8>) = (slot, Vec::new());
    let end = end(txn, slot);
    txn.walk_keys(txn.db(), from, &mut |met| {
        if met.slot >= end {
            return ControlFlow::Break(());
        }
        if met.slot == slot && last.as_deref() == Some(met.key) {
            return ControlFlow::Continue(());
        }
        if seen == options.count {
            let next = match met.slot == at.0 {
                true => Cursor::behind(at.0, &at.1),
                false => Cursor {
                    slot: u64::from(met.slot),
                    fingerprint: 0,
                },
            };
            page.next = next.number();
            return ControlFlow::Break(());
        }
        seen += 1;
        if options.wants(&met) {
            page.keys.push(met.key.to_vec());
        }
        if seen == options.count {
            at = (met.slot, met.key.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    if page.next == 0 && end < SLOT_COUNT {
        page.next = u64::from(end) << CURSOR_POSITION_BITS;
    }
    if page.next & FINGERPRINT != 0 {
        let generation = txn.maps().live.get(txn.db(), at.0);
        txn.store()
            .scan_positions
            .remember(generation, page.next, &at.1);
    }
    Ok(page)
}

/// The key behind which `cursor` stands. `None`: not known any more.
fn find_place(
    txn: &mut Txn<'_>,
    slot: u16,
    cursor: Cursor,
) -> Result<Option<Vec<u8>>, CommandError> {
    let generation = txn.maps().live.get(txn.db(), slot);
    if let Some(key) = txn.store().scan_positions.get(generation, cursor.number()) {
        return Ok(Some(key));
    }
    let mut place = None;
    txn.walk_keys(txn.db(), WalkFrom { slot, key: b"" }, &mut |met| {
        if met.slot != slot {
            return ControlFlow::Break(());
        }
        if Cursor::behind(slot, met.key) == cursor {
            place = Some(met.key.to_vec());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(place)
}

/// A random key of a slot that was chosen by its count. `None`: the choice
/// fell on nothing, or on a key that has expired.
fn random_choice(txn: &mut Txn<'_>) -> Result<Option<Vec<u8>>, CommandError> {
    let db = txn.db();
    let total = txn.key_count(db);
    if total == 0 {
        return Ok(None);
    }
    let mut index = txn.random() % total;
    let live = &txn.maps().live;
    let counts = |slot: u16| txn.store().counters.get(live.get(db, slot), slot);
    let mut chosen = None;
    for slot in 0..SLOT_COUNT {
        let count = counts(slot);
        if index < count {
            chosen = Some((slot, count));
            break;
        }
        index -= count;
    }
    let Some((slot, count)) = chosen else {
        return Ok(None);
    };
    match count <= MAX_STEPS {
        true => nth_of_slot(txn, WalkFrom { slot, key: b"" }, index),
        false => {
            let start = random_place(txn, slot)?;
            let steps = txn.random() % (MAX_STEPS / 8);
            nth_of_slot(txn, WalkFrom { slot, key: &start }, steps)
        }
    }
}

/// The key `steps` behind `from` in its slot, if it is live.
fn nth_of_slot(
    txn: &mut Txn<'_>,
    from: WalkFrom<'_>,
    steps: u64,
) -> Result<Option<Vec<u8>>, CommandError> {
    let mut left = steps;
    let mut key = None;
    txn.walk_keys(txn.db(), from, &mut |met| {
        if met.slot != from.slot {
            return ControlFlow::Break(());
        }
        if left == 0 {
            key = (!met.expired).then(|| met.key.to_vec());
            return ControlFlow::Break(());
        }
        left -= 1;
        ControlFlow::Continue(())
    })?;
    Ok(key)
}

/// A random point of a slot's key space: one of its first keys, with random
/// bytes in the place of one of the bytes of its tail.
fn random_place(txn: &mut Txn<'_>, slot: u16) -> Result<Vec<u8>, CommandError> {
    let steps = txn.random() % MAX_STEPS;
    let sample = nth_of_slot(txn, WalkFrom { slot, key: b"" }, steps)?.unwrap_or_default();
    let cut = match sample.len() {
        0 => 0,
        len => (txn.random() % len as u64) as usize,
    };
    let noise = txn.random().to_be_bytes();
    // Bytes of the sample's own kind: digits stay digits.
    let kind = sample.get(cut).copied().unwrap_or(0);
    let noise = noise.map(|byte| {
        if kind.is_ascii_digit() {
            b'0' + byte % 10
        } else {
            byte
        }
    });
    Ok([&sample[..cut], &noise[..]].concat())
}

fn first_live(txn: &mut Txn<'_>, from: WalkFrom<'_>) -> Result<Option<Vec<u8>>, CommandError> {
    let mut key = None;
    txn.walk_keys(txn.db(), from, &mut |met| {
        if met.expired {
            return ControlFlow::Continue(());
        }
        key = Some(met.key.to_vec());
        ControlFlow::Break(())
    })?;
    Ok(key)
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
