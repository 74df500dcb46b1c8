//! Entry ids: milliseconds and a sequence number within them.

use std::fmt;

/// Bytes of an id on disk, big-endian, so that ids sort as bytes.
pub const ID_LEN: usize = 16;

/// `<ms>-<seq>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

impl StreamId {
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    pub fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    pub fn to_bytes(self) -> [u8; ID_LEN] {
        ((self.ms as u128) << 64 | self.seq as u128).to_be_bytes()
    }

    /// The id in the first bytes of `bytes`, `None` if there are too few.
    pub fn from_bytes(bytes: &[u8]) -> Option<StreamId> {
        let whole = u128::from_be_bytes(*bytes.first_chunk()?);
        Some(StreamId {
            ms: (whole >> 64) as u64,
            seq: whole as u64,
        })
    }

    /// The id after this one; `None` after the last.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The id before this one; `None` before the first.
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_as_their_bytes_and_have_neighbours() {
        let ids = [
            StreamId::MIN,
            StreamId::new(0, u64::MAX),
            StreamId::new(1, 0),
            StreamId::new(256, 7),
            StreamId::MAX,
        ];
        assert!(ids.windows(2).all(|w| w[0] < w[1]));
        assert!(ids.windows(2).all(|w| w[0].to_bytes() < w[1].to_bytes()));
        for id in ids {
            assert_eq!(StreamId::from_bytes(&id.to_bytes()), Some(id));
        }
        assert_eq!(ids[1].next(), Some(ids[2]));
        assert_eq!(ids[2].previous(), Some(ids[1]));
        assert_eq!(StreamId::MAX.next(), None);
        assert_eq!(StreamId::MIN.previous(), None);
        assert_eq!(StreamId::new(5, 3).to_string(), "5-3");
    }
}
