//! LCS: the longest common subsequence of two strings, by the usual table of
//! lengths of the common subsequences of their prefixes.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::arguments::{integer, is};
use crate::storage::KeyType;
use crate::txn::{CommandError, Txn};
use crate::types::{decode, string::StringValue};

/// A table of more cells is not filled on a network thread.
const SMALL_TABLE: u64 = 1 << 16;

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: i64,
}

impl Options {
    fn read(args: &Args<'_>) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut at = 3;
        while at < args.len() {
            let word = args.get(at);
            match args.try_get(at + 1) {
                _ if is(word, "IDX") => options.idx = true,
                _ if is(word, "LEN") => options.len = true,
                _ if is(word, "WITHMATCHLEN") => options.with_match_len = true,
                Some(least) if is(word, "MINMATCHLEN") => {
                    options.min_match_len = integer(least)?.max(0);
                    at += 1;
                }
                _ => return Err(CommandError::SYNTAX),
            }
            at += 1;
        }
        if options.len && options.idx {
            return Err(CommandError::fixed(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]
pub(super) fn lcs(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
) -> Result<(), CommandError> {
    let keys = [txn.key(args.get(1)), txn.key(args.get(2))];
    let records = [txn.get(&keys[0])?, txn.get(&keys[1])?];
    for record in records.iter().flatten() {
        if decode(record)?.0.key_type != KeyType::String {
            return Err(CommandError::fixed(
                "ERR The specified keys must contain string values",
            ));
        }
    }
    let options = Options::read(args)?;
    let [a, b] = [&records[0], &records[1]].map(|r| r.as_ref().map(StringValue::of).transpose());
    let (a, b) = (a?, b?);
    check_size(txn, a.map_or(0, |a| a.len()), b.map_or(0, |b| b.len()))?;
    let a = a
        .map(|a| a.read_all(txn, &keys[0]))
        .transpose()?
        .unwrap_or_default();
    let b = b
        .map(|b| b.read_all(txn, &keys[1]))
        .transpose()?
        .unwrap_or_default();
    if options.len {
        out.integer(length(&a, &b) as i64);
        return Ok(());
    }
    let table = Table::new(&a, &b);
    match options.idx {
        true => reply_matches(&table, &options, out),
        false => out.bulk(&table.subsequence()),
    }
    Ok(())
}

fn check_size(txn: &Txn<'_>, a: u64, b: u64) -> Result<(), CommandError> {
    if a.max(b) >= u64::from(u32::MAX - 1) {
        return Err(CommandError::fixed("ERR String too long for LCS"));
    }
    let cells = (a + 1).saturating_mul(b + 1);
    if cells.saturating_mul(4) > txn.context().max_bulk as u64 {
        return Err(CommandError::fixed(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    if cells > SMALL_TABLE {
        txn.require_disk()
    } else {
        Ok(())
    }
}

/// Length of the longest common subsequence; needs two rows of the table.
fn length(a: &[u8], b: &[u8]) -> u32 {
    let mut above = vec![0; b.len() + 1];
    let mut row = above.clone();
    for x in a {
        for (j, y) in b.iter().enumerate() {
            row[j + 1] = if x == y {
                above[j] + 1
            } else {
                above[j + 1].max(row[j])
            };
        }
        std::mem::swap(&mut above, &mut row);
    }
    above[b.len()]
}

struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    cells: Vec<u32>,
}

/// A run of equal bytes: first and last index in each string, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    a: (usize, usize),
    b: (usize, usize),
}

impl Match {
    fn len(&self) -> i64 {
        (self.a.1 - self.a.0 + 1) as i64
    }
}

impl<'a> Table<'a> {
    fn new(a: &'a [u8], b: &'a [u8]) -> Table<'a> {
        let width = b.len() + 1;
        let mut cells = vec![0; width * (a.len() + 1)];
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                let above = i * width + j;
                cells[above + width + 1] = match x == y {
                    true => cells[above] + 1,
                    false => cells[above + 1].max(cells[above + width]),
                };
            }
        }
        Table { a, b, cells }
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * (self.b.len() + 1) + j]
    }

    fn length(&self) -> u32 {
        self.at(self.a.len(), self.b.len())
    }

    /// Pairs of indexes of one longest subsequence, from the end.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        std::iter::from_fn(move || {
            while i > 0 && j > 0 {
                if self.a[i - 1] == self.b[j - 1] {
                    (i, j) = (i - 1, j - 1);
                    return Some((i, j));
                }
                match self.at(i - 1, j) > self.at(i, j - 1) {
                    true => i -= 1,
                    false => j -= 1,
                }
            }
            None
        })
    }

    fn subsequence(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.pairs().map(|(i, _)| self.a[i]).collect();
        bytes.reverse();
        bytes
    }

    /// Runs of neighbouring pairs, from the end.
    fn matches(&self) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        for (i, j) in self.pairs() {
            match matches.last_mut() {
                Some(last) if last.a.0 == i + 1 && last.b.0 == j + 1 => {
                    (last.a.0, last.b.0) = (i, j);
                }
                _ => matches.push(Match {
                    a: (i, i),
                    b: (j, j),
                }),
            }
        }
        matches
    }
}

fn reply_matches(table: &Table<'_>, options: &Options, out: &mut ReplyWriter) {
    let mut matches = table.matches();
    matches.retain(|found| found.len() >= options.min_match_len);
    out.map(2);
    out.bulk(b"matches");
    out.array(matches.len());
    for found in &matches {
        out.array(if options.with_match_len { 3 } else { 2 });
        for (first, last) in [found.a, found.b] {
            out.array(2);
            out.integer(first as i64);
            out.integer(last as i64);
        }
        if options.with_match_len {
            out.integer(found.len());
        }
    }
    out.bulk(b"len");
    out.integer(table.length() as i64);
}
