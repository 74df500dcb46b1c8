//! The row `followed` of the family `system`: how far the store is in the stream of
//! the master that it follows.
//!
//! ```text
//! format u8 (1) | state u8 | index u64 | offset u64 | database u8 | replication id (40 bytes)   (BE)
//! state   0: a data set is being loaded, so what is there is not whole; 1: it is in step
//! ```
//!
//! Written in the same batch as what the stream did, with the index of that entry: if
//! the store is further, something else has changed it since, and it is in nobody's
//! stream any more.

/// Letters of a replication id.
pub const ID_LEN: usize = 40;
const FORMAT: u8 = 1;
const LOADING: u8 = 0;
const IN_STEP: u8 = 1;
const LEN: usize = 19 + ID_LEN;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The data set is whole: that of the master at `offset`.
    pub in_step: bool,
    /// Bytes of the master's stream that were worked through.
    pub offset: u64,
    /// The database that the stream has chosen.
    pub db: u8,
    /// Whose stream it is.
    pub id: [u8; ID_LEN],
}

impl Followed {
    pub fn encode(&self, index: u64) -> [u8; LEN] {
        let mut out = [0; LEN];
        (out[0], out[1]) = (FORMAT, if self.in_step { IN_STEP } else { LOADING });
        out[2..10].copy_from_slice(&index.to_be_bytes());
        out[10..18].copy_from_slice(&self.offset.to_be_bytes());
        out[18] = self.db;
        out[19..].copy_from_slice(&self.id);
        out
    }

    /// What a row says, and the index of its entry. `None`: corrupt, or of a later
    /// format.
    pub fn decode(bytes: &[u8]) -> Option<(Followed, u64)> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let number = |at: usize| {
            let bytes = bytes[at..at + 8].try_into().expect("eight bytes");
            u64::from_be_bytes(bytes)
        };
        let in_step = match (bytes[0], bytes[1]) {
            (FORMAT, LOADING) => false,
            (FORMAT, IN_STEP) => true,
            _ => return None,
        };
        let followed = Followed {
            in_step,
            offset: number(10),
            db: bytes[18],
            id: bytes[19..].try_into().expect("forty bytes"),
        };
        Some((followed, number(2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_the_followed_row() {
        let followed = Followed {
            in_step: true,
            offset: 258,
            db: 3,
            id: [b'a'; ID_LEN],
        };
        let bytes = followed.encode(7);
        let head: &[u8] = b"\x01\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\x01\x02\x03";
        assert_eq!(bytes[..19], *head);
        assert_eq!(bytes[19..], [b'a'; ID_LEN]);
        assert_eq!(Followed::decode(&bytes), Some((followed, 7)));
        let loading = Followed {
            in_step: false,
            ..followed
        };
        assert_eq!(Followed::decode(&loading.encode(0)), Some((loading, 0)));
        assert_eq!(Followed::decode(&bytes[..bytes.len() - 1]), None);
        let mut later = bytes;
        later[0] = 2;
        assert_eq!(Followed::decode(&later), None);
    }
}
