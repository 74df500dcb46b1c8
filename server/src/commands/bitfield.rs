//! BITFIELD and BITFIELD_RO: a string as an array of integers of any width.

use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::{integer, is};
use super::bitmaps::{bit_offset, changed};
use crate::storage::MetaKey;
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::string::{self, StringValue};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("bitfield", Handler::Write(bitfield)),
    ("bitfield_ro", Handler::Read(bitfield_ro)),
];

type Done = Result<(), CommandError>;

/// BITFIELD key [GET type offset | [OVERFLOW WRAP | SAT | FAIL] SET type offset value |
/// INCRBY type offset increment] ...
///
/// Replies with one integer for each, nil where FAIL forbade it.
fn bitfield(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let ops = read_ops(txn, args)?;
    let key = txn.key(args.get(1));
    let Some(last) = ops.iter().filter_map(Op::last_bit_written).max() else {
        return get_all(txn, &key, &ops, out);
    };
    let grown = grow(txn, &key, last / 8 + 1)?;
    out.array(ops.len());
    let mut changes = false;
    for op in &ops {
        let old = op.field.get(txn, &key)?;
        match op.outcome(old) {
            None => out.null(),
            Some((reply, new)) => {
                out.integer(reply);
                if op.writes() {
                    changes |= grown || old != new;
                    // What changes nothing is not written: it is no change of
                    // the data set (rdb_changes_since_last_save).
                    if old != new {
                        op.field.set(txn, &key, new)?;
                    }
                }
            }
        }
    }
    if changes {
        changed(txn, &key, false, "setbit");
    }
    Ok(())
}

/// BITFIELD_RO key [GET type offset ...]
fn bitfield_ro(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let ops = read_ops(txn, args)?;
    if ops.iter().any(Op::writes) {
        return Err(CommandError::fixed(
            "ERR BITFIELD_RO only supports the GET subcommand",
        ));
    }
    let key = txn.key(args.get(1));
    get_all(txn, &key, &ops, out)
}

fn get_all(txn: &mut Txn<'_>, key: &MetaKey, ops: &[Op], out: &mut ReplyWriter) -> Done {
    if let Some(record) = txn.get(key)? {
        StringValue::of(&record)?;
    }
    out.array(ops.len());
    for op in ops {
        let value = op.field.get(txn, key)?;
        out.integer(value as i64);
    }
    Ok(())
}

/// Makes the string at least `len` bytes long. True: it was shorter.
fn grow(txn: &mut Txn<'_>, key: &MetaKey, len: u64) -> Result<bool, CommandError> {
    let old = txn.get(key)?;
    let had = match &old {
        Some(record) => StringValue::of(record)?.len(),
        None => 0,
    };
    if had >= len {
        if let Some(record) = &old {
            string::mark_edited(txn, key, record)?;
        }
        return Ok(false);
    }
    string::write_at(txn, key, old.as_ref(), len - 1, &[0])?;
    if old.is_none() {
        txn.event(EventClass::New, "new", key.user_key());
    }
    Ok(true)
}

/// An integer within a string. Values are in two's complement of 128 bits, so
/// that no sum of two overflows.
#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    /// Bits.
    width: u32,
    /// Its first bit.
    offset: u64,
}

impl Field {
    /// `i` or `u` and a width.
    fn read(txn: &Txn<'_>, kind: &[u8], offset: &[u8]) -> Result<Field, CommandError> {
        let bad = CommandError::fixed(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported \
             but i64 is.",
        );
        let (signed, width) = match kind {
            [b'i', width @ ..] => (true, width),
            [b'u', width @ ..] => (false, width),
            _ => return Err(bad),
        };
        let widest = if signed { 64 } else { 63 };
        let width = parse_i64(width).filter(|width| (1..=widest).contains(width));
        let width = width.ok_or(bad)? as u32;
        Ok(Field {
            signed,
            width,
            offset: bit_offset(txn, offset, Some(width))?,
        })
    }

    /// The bytes it touches: the first one, and how many.
    fn bytes(&self) -> (u64, usize) {
        let first = self.offset / 8;
        let end = (self.offset + u64::from(self.width)).div_ceil(8);
        (first, (end - first) as usize)
    }

    /// Bits behind it in its last byte.
    fn shift(&self) -> u32 {
        let (first, len) = self.bytes();
        (8 * (first + len as u64) - self.offset) as u32 - self.width
    }

    fn mask(&self) -> u128 {
        (1 << self.width) - 1
    }

    fn min(&self) -> i128 {
        match self.signed {
            true => -(1 << (self.width - 1)),
            false => 0,
        }
    }

    fn max(&self) -> i128 {
        match self.signed {
            true => (1 << (self.width - 1)) - 1,
            false => (1 << self.width) - 1,
        }
    }

    /// The value whose low bits these are.
    fn of_bits(&self, bits: u128) -> i128 {
        let bits = bits & self.mask();
        let negative = self.signed && bits >> (self.width - 1) == 1;
        match negative {
            true => bits as i128 - (1 << self.width),
            false => bits as i128,
        }
    }

    /// The bytes it touches as one number, missing ones zeros.
    fn window(&self, txn: &mut Txn<'_>, key: &MetaKey) -> Result<u128, CommandError> {
        let (first, len) = self.bytes();
        let mut window = [0; 16];
        if let Some(record) = txn.get(key)? {
            let value = StringValue::of(&record)?;
            let end = (first + len as u64).min(value.len());
            if first < end {
                let there = value.read(txn, key, first..end)?;
                window[16 - len..][..there.len()].copy_from_slice(&there);
            }
        }
        Ok(u128::from_be_bytes(window))
    }

    fn get(&self, txn: &mut Txn<'_>, key: &MetaKey) -> Result<i128, CommandError> {
        let window = self.window(txn, key)?;
        Ok(self.of_bits(window >> self.shift()))
    }

    /// Sets it within a string that is long enough.
    fn set(&self, txn: &mut Txn<'_>, key: &MetaKey, value: i128) -> Done {
        let (first, len) = self.bytes();
        let hole = !(self.mask() << self.shift());
        let bits = (value as u128 & self.mask()) << self.shift();
        let window = (self.window(txn, key)? & hole | bits).to_be_bytes();
        let record = txn.get(key)?;
        string::write_at(txn, key, record.as_ref(), first, &window[16 - len..])?;
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

struct Op {
    field: Field,
    action: Action,
    overflow: Overflow,
}

impl Op {
    fn writes(&self) -> bool {
        !matches!(self.action, Action::Get)
    }

    fn last_bit_written(&self) -> Option<u64> {
        self.writes()
            .then(|| self.field.offset + u64::from(self.field.width) - 1)
    }

    /// The reply and the new value, if the field was `old`. `None`: FAIL.
    fn outcome(&self, old: i128) -> Option<(i64, i128)> {
        match self.action {
            Action::Get => Some((old as i64, old)),
            Action::Set(value) => {
                // To Redis a negative number is a huge one without a sign.
                let value = match self.field.signed {
                    true => i128::from(value),
                    false => i128::from(value as u64),
                };
                // And far below a signed field is above it: the distance to
                // its largest value overflows.
                let below = value < self.field.min();
                let above = !below || self.field.max() - value > i128::from(i64::MAX);
                Some((old as i64, self.fit(value, above)?))
            }
            Action::Add(by) => {
                let sum = old + i128::from(by);
                let sum = self.fit(sum, sum > self.field.max())?;
                Some((sum as i64, sum))
            }
        }
    }

    /// The value, or what stands for one that does not fit: the smallest one
    /// or, if it counts as above, the largest one when it saturates.
    fn fit(&self, value: i128, above: bool) -> Option<i128> {
        let (min, max) = (self.field.min(), self.field.max());
        if (min..=max).contains(&value) {
            return Some(value);
        }
        match self.overflow {
            Overflow::Wrap => Some(self.field.of_bits(value as u128)),
            Overflow::Saturate => Some(if above { max } else { min }),
            Overflow::Fail => None,
        }
    }
}

fn read_ops(txn: &Txn<'_>, args: &Args<'_>) -> Result<Vec<Op>, CommandError> {
    let mut ops = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while at < args.len() {
        let (word, more) = (args.get(at), args.len() - at - 1);
        let (is_get, is_set) = (is(word, "GET") && more >= 2, is(word, "SET") && more >= 3);
        if is(word, "OVERFLOW") && more >= 1 {
            overflow = overflow_of(args.get(at + 1))?;
            at += 2;
            continue;
        }
        let is_add = is(word, "INCRBY") && more >= 3;
        if !(is_get || is_set || is_add) {
            return Err(CommandError::SYNTAX);
        }
        let field = Field::read(txn, args.get(at + 1), args.get(at + 2))?;
        let action = match (is_get, is_set) {
            (true, _) => Action::Get,
            (_, true) => Action::Set(integer(args.get(at + 3))?),
            _ => Action::Add(integer(args.get(at + 3))?),
        };
        ops.push(Op {
            field,
            action,
            overflow,
        });
        at += if is_get { 3 } else { 4 };
    }
    Ok(ops)
}

fn overflow_of(word: &[u8]) -> Result<Overflow, CommandError> {
    let words = [
        ("WRAP", Overflow::Wrap),
        ("SAT", Overflow::Saturate),
        ("FAIL", Overflow::Fail),
    ];
    let found = words.into_iter().find(|(name, _)| is(word, name));
    let unknown = CommandError::fixed("ERR Invalid OVERFLOW type specified");
    found.map(|(_, overflow)| overflow).ok_or(unknown)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;

    fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
        for (line, want) in lines {
            assert_eq!(bench.run(line), *want, "{line}");
        }
    }

    #[test]
    fn fields_are_got_set_and_added_to() {
        let mut bench = Bench::new();
        let bad_type = "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is \
                        not supported but i64 is.\r\n";
        let bad_offset = "-ERR bit offset is not an integer or out of range\r\n";
        script(
            &mut bench,
            &[
                ("BITFIELD k", "*0\r\n"),
                ("BITFIELD k GET u8 0", "*1\r\n:0\r\n"),
                ("EXISTS k", ":0\r\n"),
                (
                    "BITFIELD k SET i8 0 -1 GET u4 2 GET i4 2",
                    "*3\r\n:0\r\n:15\r\n:-1\r\n",
                ),
                ("BITFIELD k SET u8 #1 300 GET u8 8", "*2\r\n:0\r\n:44\r\n"),
                (
                    "BITFIELD k INCRBY i64 5 1 GET i64 5",
                    "*2\r\n:-1909526242005090303\r\n:-1909526242005090303\r\n",
                ),
                ("STRLEN k", ":9\r\n"),
                ("DEL k", ":1\r\n"),
                (
                    "BITFIELD k INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1",
                    "*2\r\n:1\r\n:1\r\n",
                ),
                (
                    "BITFIELD k INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1",
                    "*2\r\n:2\r\n:2\r\n",
                ),
                (
                    "BITFIELD k INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1",
                    "*2\r\n:3\r\n:3\r\n",
                ),
                (
                    "BITFIELD k INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1",
                    "*2\r\n:0\r\n:3\r\n",
                ),
                ("BITFIELD k OVERFLOW FAIL INCRBY u2 102 1", "*1\r\n$-1\r\n"),
                (
                    "BITFIELD k OVERFLOW SAT SET u8 0 -1 GET u8 0",
                    "*2\r\n:0\r\n:255\r\n",
                ),
                (
                    "BITFIELD k OVERFLOW SAT SET i8 0 -200 GET i8 0",
                    "*2\r\n:-1\r\n:-128\r\n",
                ),
                (
                    "BITFIELD k OVERFLOW SAT SET i8 #9 -9223372036854775808 GET i8 #9",
                    "*2\r\n:0\r\n:127\r\n",
                ),
                ("BITFIELD k OVERFLOW WRAP INCRBY i8 0 -1", "*1\r\n:127\r\n"),
                (
                    "BITFIELD k SET i64 0 9223372036854775807",
                    "*1\r\n:9151314442816847872\r\n",
                ),
                (
                    "BITFIELD k INCRBY i64 0 1",
                    "*1\r\n:-9223372036854775808\r\n",
                ),
                ("BITFIELD k GET u64 0", bad_type),
                ("BITFIELD k GET i65 0", bad_type),
                ("BITFIELD k GET x8 0", bad_type),
                ("BITFIELD k GET u8 -1", bad_offset),
                ("BITFIELD k GET u8 4294967296", bad_offset),
                ("BITFIELD k GET u8 #9223372036854775807", bad_offset),
                (
                    "BITFIELD k OVERFLOW WHAT",
                    "-ERR Invalid OVERFLOW type specified\r\n",
                ),
                ("BITFIELD k SET u8 0", "-ERR syntax error\r\n"),
                (
                    "BITFIELD k SET u8 0 x",
                    "-ERR value is not an integer or out of range\r\n",
                ),
                ("BITFIELD_RO k GET i8 0", "*1\r\n:-128\r\n"),
                (
                    "BITFIELD_RO k SET u8 0 1",
                    "-ERR BITFIELD_RO only supports the GET subcommand\r\n",
                ),
            ],
        );
        bench.run("BITFIELD new SET u8 0 0");
        assert_eq!(bench.event_names(), ["new", "setbit"]);
        bench.run("BITFIELD new SET u8 0 0");
        assert!(bench.event_names().is_empty());
        bench.put_list("l");
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
        assert_eq!(bench.run("BITFIELD l GET u8 0"), wrong);
        assert_eq!(bench.run("BITFIELD l SET u8 0 1"), wrong);
    }

    #[test]
    fn a_field_across_two_fragments_is_whole() {
        let mut bench = Bench::new();
        let offset = 8 * 16384 * 5 - 30;
        bench.run(&format!("BITFIELD k SET i60 {offset} -123456789012"));
        let got = bench.run(&format!("BITFIELD_RO k GET i60 {offset}"));
        assert_eq!(got, "*1\r\n:-123456789012\r\n");
        assert_eq!(bench.payload_rows(), 2);
        let got = bench.run("BITFIELD k SET u1 4294967295 1");
        assert_eq!(got, "*1\r\n:0\r\n");
        assert_eq!(bench.payload_rows(), 3);
    }
}
