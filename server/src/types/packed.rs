//! The packed form of small collections: byte strings one after another.
//!
//! ```text
//! packed   entries until the end, each: length LEB128 | bytes
//! ```
//!
//! A packed value is read and rewritten whole; what an entry means is its
//! type's business.

use crate::txn::CommandError;

/// Appends one entry.
pub fn push(out: &mut Vec<u8>, entry: &[u8]) {
    let mut len = entry.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(entry);
}

/// Bytes that an entry of `len` bytes takes.
pub fn entry_len(len: usize) -> usize {
    let bits = usize::BITS - (len | 1).leading_zeros();
    bits.div_ceil(7) as usize + len
}

/// The entries of a packed value, in order.
#[derive(Clone)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    pub fn of(packed: &'a [u8]) -> Entries<'a> {
        Entries(packed)
    }

    /// The bytes that are not read yet.
    pub fn remaining(&self) -> &'a [u8] {
        self.0
    }

    /// The next entry, `None` at the end.
    ///
    /// # Errors
    /// `Corrupt` if the value ends within an entry.
    pub fn try_next(&mut self) -> Result<Option<&'a [u8]>, CommandError> {
        const CORRUPT: CommandError = CommandError::Corrupt("a packed collection");
        if self.0.is_empty() {
            return Ok(None);
        }
        let (mut len, mut shift) = (0usize, 0);
        loop {
            let (byte, rest) = self.0.split_first().ok_or(CORRUPT)?;
            self.0 = rest;
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 28 {
                return Err(CORRUPT);
            }
        }
        let (entry, rest) = self.0.split_at_checked(len).ok_or(CORRUPT)?;
        self.0 = rest;
        Ok(Some(entry))
    }

    /// All entries.
    ///
    /// # Errors
    /// As [`Entries::try_next`].
    pub fn collect_all(mut self) -> Result<Vec<&'a [u8]>, CommandError> {
        let mut all = Vec::new();
        while let Some(entry) = self.try_next()? {
            all.push(entry);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_packed_entries() {
        let mut out = Vec::new();
        push(&mut out, b"ab");
        push(&mut out, b"");
        push(&mut out, &[7; 200]);
        assert_eq!(out[..6], [2, b'a', b'b', 0, 0xc8, 1]);
        assert_eq!(out.len(), entry_len(2) + entry_len(0) + entry_len(200));
        let entries = Entries::of(&out).collect_all().unwrap();
        assert_eq!(entries, [&b"ab"[..], b"", &[7; 200]]);
    }

    #[test]
    fn a_cut_value_is_corrupt_and_not_shortened() {
        for cut in [&[2, b'a'][..], &[0x80], &[0xff, 0xff, 0xff, 0xff, 0xff, 1]] {
            assert!(Entries::of(cut).collect_all().is_err(), "{cut:?}");
        }
    }
}
