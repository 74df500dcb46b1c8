//! Splices: a new state of a `meta` record, as what it changes of the one before.
//!
//! A push onto a list of 1 KB changes some 40 bytes of its record. Written whole, all of
//! it goes through the log, a memtable and a file of level 0 each time; a splice is what
//! changed, and RocksDB puts it into its place when it reads or compacts the record (a
//! merge operand). Who calls `Store::apply` knows nothing of it: the store compares.
//! Invariants:
//! - a splice is made from the state that RocksDB holds: the cache's, by the only writer;
//! - a record with an expiry is followed by no splice: the compaction filter drops such
//!   a record wherever it lies, and what follows it in other files would have no base;
//! - at most [`MAX_SPLICES`] follow one another, so that a read knows its bound.
//!
//! ```text
//! operand   format u8 (1) | bytes of the old value | edit, edit ...
//! edit      bytes kept | bytes dropped | bytes inserted | the inserted bytes
//! ```
//!
//! Numbers are LEB128. What lies behind the last edit is kept. The format is frozen.

use rocksdb::MergeOperands;

/// Splices between two states that are written whole.
pub const MAX_SPLICES: u32 = 14;
/// Bytes of a value up to which it is written whole.
const SHORT: usize = 128;
const FORMAT: u8 = 1;
/// Bytes at the front of a change within which counts and lengths lie.
const HEAD: usize = 32;
/// Bytes in a row that are worth an edit of their own.
const WORTH: usize = 32;
/// What becomes of splices without the state that they follow: no header, so that reading
/// it is an error. Garbage generations get there, of which the filter drops what it sees,
/// and it does not see splices; an error here would end all compaction.
const BROKEN: &[u8] = b"";

/// Writes into `operand` how `new` comes from `old`. False: it would be longer than half
/// of `new`, which is to be written whole.
pub fn make(operand: &mut Vec<u8>, old: &[u8], new: &[u8]) -> bool {
    if new.len() < SHORT {
        return false;
    }
    let kept = common_prefix(old, new);
    let behind = common_suffix(&old[kept..], &new[kept..]);
    let dropped = &old[kept..old.len() - behind];
    let inserted = &new[kept..new.len() - behind];
    let (head, run) = inner_run(dropped, inserted).unwrap_or_default();
    if (inserted.len() - run) * 2 > new.len() {
        return false;
    }
    operand.clear();
    operand.push(FORMAT);
    push_number(operand, old.len());
    let mut kept = kept;
    if run > 0 {
        push_edit(operand, kept, head, &inserted[..head]);
        kept = run;
    }
    let at = head + run;
    push_edit(operand, kept, dropped.len() - at, &inserted[at..]);
    operand.len() * 2 <= new.len()
}

/// A count in front changes, and something at the end: the bytes of the count, and those
/// between the two.
fn inner_run(old: &[u8], new: &[u8]) -> Option<(usize, usize)> {
    if new.len() < WORTH {
        return None;
    }
    (1..=HEAD.min(old.len()).min(new.len())).find_map(|head| {
        let run = common_prefix(&old[head..], &new[head..]);
        (run >= WORTH).then_some((head, run))
    })
}

/// The state that comes of `old` by an operand. `None`: they do not belong together.
pub fn apply(old: &[u8], operand: &[u8]) -> Option<Vec<u8>> {
    let (format, mut rest) = operand.split_first()?;
    if *format != FORMAT || number(&mut rest)? != old.len() {
        return None;
    }
    let mut new = Vec::with_capacity(old.len() + rest.len());
    let mut old = old;
    while !rest.is_empty() {
        let (kept, dropped, inserted) =
            (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
        new.extend_from_slice(old.get(..kept)?);
        old = old.get(kept..)?.get(dropped..)?;
        let (bytes, behind) = rest.split_at_checked(inserted)?;
        new.extend_from_slice(bytes);
        rest = behind;
    }
    new.extend_from_slice(old);
    Some(new)
}

/// RocksDB's merge operator.
pub fn merge(_: &[u8], old: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let mut state: Option<Vec<u8>> = None;
    for operand in operands {
        let before = state.as_deref().or(old).unwrap_or(BROKEN);
        state = Some(apply(before, operand).unwrap_or_else(|| BROKEN.to_vec()));
    }
    state
}

/// Operands are kept apart until there is a state for them.
pub fn merge_partly(_: &[u8], _: Option<&[u8]>, _: &MergeOperands) -> Option<Vec<u8>> {
    None
}

fn push_edit(operand: &mut Vec<u8>, kept: usize, dropped: usize, inserted: &[u8]) {
    push_number(operand, kept);
    push_number(operand, dropped);
    push_number(operand, inserted.len());
    operand.extend_from_slice(inserted);
}

fn push_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(from: &mut &[u8]) -> Option<usize> {
    let mut number = 0u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(number).ok();
        }
    }
    None
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// Bytes that are equal at the front of both.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let mut at = 0;
    for (x, y) in words {
        let differing = word(x) ^ word(y);
        if differing != 0 {
            return at + differing.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = a[at..].iter().zip(&b[at..]);
    at + rest.take_while(|(x, y)| x == y).count()
}

/// Bytes that are equal at the end of both.
fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let words = a.rchunks_exact(8).zip(b.rchunks_exact(8));
    let mut at = 0;
    for (x, y) in words {
        let differing = word(x) ^ word(y);
        if differing != 0 {
            return at + differing.leading_zeros() as usize / 8;
        }
        at += 8;
    }
    let (a, b) = (&a[..a.len() - at], &b[..b.len() - at]);
    let rest = a.iter().rev().zip(b.iter().rev());
    at + rest.take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn spliced(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
        let mut operand = b"what was there before".to_vec();
        make(&mut operand, old, new).then_some(operand)
    }

    fn noise(random: &mut StdRng, len: usize) -> Vec<u8> {
        (0..len).map(|_| random.random()).collect()
    }

    #[test]
    fn the_format_is_frozen() {
        let old = [b'a'; 200];
        let mut new = old.to_vec();
        new[3] = b'n';
        new.extend(b"tail");
        let want = b"\x01\xc8\x01\x03\x01\x01n\xc4\x01\x00\x04tail";
        assert_eq!(spliced(&old, &new).unwrap(), want);
        assert_eq!(apply(&old, want).unwrap(), new);
    }

    #[test]
    fn pushes_and_pops_at_either_end_with_a_count_in_front_are_short() {
        let mut random = StdRng::seed_from_u64(1);
        let entries = noise(&mut random, 900);
        let list = |count: u32, parts: &[&[u8]]| {
            [&[0x11, 0][..], &count.to_be_bytes(), &parts.concat()].concat()
        };
        let (old, pushed) = (list(0x1ff, &[&entries]), &[7; 40][..]);
        for (new, most) in [
            (list(0x200, &[pushed, &entries]), 60),
            (list(0x200, &[&entries, pushed]), 60),
            (list(0x1fe, &[&entries[40..]]), 16),
            (list(0x1fe, &[&entries[..860]]), 16),
            (list(0x1ff, &[&entries[..400], pushed, &entries[440..]]), 60),
            (old.clone(), 8),
        ] {
            let operand = spliced(&old, &new).unwrap();
            assert!(operand.len() <= most, "{} bytes", operand.len());
            assert_eq!(apply(&old, &operand).unwrap(), new);
        }
    }

    #[test]
    fn what_is_short_or_new_is_written_whole() {
        let mut random = StdRng::seed_from_u64(2);
        let (a, b) = (noise(&mut random, 500), noise(&mut random, 500));
        assert_eq!(spliced(&a, &b), None);
        assert_eq!(spliced(&a, &a[..100]), None);
        assert_eq!(spliced(b"", &a), None);
        assert_eq!(spliced(&a, b""), None);
    }

    #[test]
    fn any_edits_come_out_as_they_went_in() {
        let mut random = StdRng::seed_from_u64(3);
        let (mut made, rounds) = (0, 20_000);
        for round in 0..rounds {
            // Few letters: runs that are equal by chance.
            let letters = random.random_range(1..4);
            let mut value =
                |len| -> Vec<u8> { (0..len).map(|_| random.random_range(0..letters)).collect() };
            let old = value(round % 700);
            let mut new = old.clone();
            for len in [0, round % 3, round % 50] {
                let inserted = value(len);
                let at = round * 31 % (new.len() + 1);
                let end = (at + round % 7).min(new.len());
                new.splice(at..end, inserted);
            }
            if let Some(operand) = spliced(&old, &new) {
                made += 1;
                assert_eq!(apply(&old, &operand).unwrap(), new, "round {round}");
            }
        }
        assert!(made > rounds / 2, "{made}");
    }

    #[test]
    fn an_operand_that_does_not_fit_is_refused() {
        let (old, new) = ([b'a'; 300], [b'a'; 310]);
        let operand = spliced(&old, &new).unwrap();
        assert_eq!(apply(&old[1..], &operand), None, "another length");
        for end in 0..operand.len() {
            if let Some(cut) = apply(&old, &operand[..end]) {
                assert_ne!(cut, new);
            }
        }
        for at in 0..operand.len() {
            for byte in 0..=255 {
                let mut spoiled = operand.clone();
                spoiled[at] = byte;
                let _ = apply(&old, &spoiled);
            }
        }
        assert_eq!(apply(&old, b""), None);
        assert_eq!(apply(&old, b"\x02\xac\x02"), None, "a later format");
    }
}
