//! The row `applied` of the family `system`: how far the store is in its log.
//!
//! ```text
//! format u8 (1 or 2) | index u64 | term u64 | log time u64 ms | next version u64  (BE)
//! in format 2 then: weights until the end, each: generation u32 | weight u64
//! ```
//!
//! Format 2 is that of a standalone group; see `weight`. Written with every entry,
//! so that encoding it allocates nothing.

use smallvec::SmallVec;

use super::keys::Generation;

/// What the row says. `W` holds the weights: borrowed to write, owned when read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Applied<W> {
    pub index: u64,
    pub term: u64,
    pub log_time: u64,
    pub next_version: u64,
    pub weights: Option<W>,
}

const HEAD: usize = 33;
const WEIGHT: usize = 12;
/// A standalone group has a generation for each of its 16 databases.
const USUAL: usize = 256;

impl<W: AsRef<[(Generation, u64)]>> Applied<W> {
    pub fn encode(&self) -> SmallVec<[u8; USUAL]> {
        let mut out = SmallVec::new();
        out.push(if self.weights.is_some() { 2 } else { 1 });
        for n in [self.index, self.term, self.log_time, self.next_version] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        for (generation, weight) in self.weights.iter().flat_map(|w| w.as_ref()) {
            out.extend_from_slice(&generation.to_be_bytes());
            out.extend_from_slice(&weight.to_be_bytes());
        }
        out
    }
}

impl Applied<Vec<(Generation, u64)>> {
    /// `None`: corrupt, or of a later format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let weights = match head[0] {
            1 if rest.is_empty() => None,
            2 => Some(decode_weights(rest)?),
            _ => return None,
        };
        let n =
            |i: usize| u64::from_be_bytes(head[1 + i * 8..][..8].try_into().expect("eight bytes"));
        Some(Applied {
            index: n(0),
            term: n(1),
            log_time: n(2),
            next_version: n(3),
            weights,
        })
    }
}

fn decode_weights(bytes: &[u8]) -> Option<Vec<(Generation, u64)>> {
    let (pairs, over) = bytes.as_chunks::<WEIGHT>();
    let pair = |p: &[u8; WEIGHT]| {
        let (generation, weight) = p.split_at(4);
        let generation = generation.try_into().expect("four bytes");
        let weight = weight.try_into().expect("eight bytes");
        (u32::from_be_bytes(generation), u64::from_be_bytes(weight))
    };
    over.is_empty().then(|| pairs.iter().map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_the_applied_row() {
        let applied = Applied {
            index: 1,
            term: 2,
            log_time: 3,
            next_version: 4,
            weights: None,
        };
        let bytes = applied.encode();
        let want: &[u8] =
            b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04";
        assert_eq!(&bytes[..], want);
        assert_eq!(Applied::decode(&bytes), Some(applied.clone()));
        assert_eq!(Applied::decode(&bytes[1..]), None);
        let weighed = Applied {
            weights: Some(vec![(5, 6)]),
            ..applied
        };
        let bytes = weighed.encode();
        assert_eq!(bytes[0], 2);
        assert_eq!(bytes[1..33], want[1..]);
        assert_eq!(&bytes[33..], b"\0\0\0\x05\0\0\0\0\0\0\0\x06");
        assert_eq!(Applied::decode(&bytes), Some(weighed));
        assert_eq!(Applied::decode(&bytes[..bytes.len() - 1]), None);
    }
}
