//! The header of a `meta` value: format, type, flags and expiry, before the payload.
//!
//! ```text
//! byte 0     format (high nibble, now 1) | type (low nibble)
//! byte 1     flags: bit 0 has expiry, bit 1 spread, bit 2 list-style size follows (reserved),
//!            bit 3 edited, bit 4 bytes of the elements follow (not spread: no integer)
//! [8 bytes]  expires-at u64 BE ms, if bit 0
//! inline or packed:  the payload
//! spread:    version (12 bytes) | size u64 BE | [bytes u64 BE, if bit 4] | type's own bytes
//! ```
//!
//! An expired record is thus recognised from its first ten bytes. For a
//! spread string `size` is its length in bytes, its own bytes are the
//! fragment size (u32 BE); for a collection `size` is its number of elements,
//! and `bytes` about what its rows hold (see `weight`).
//! Numbers are frozen; golden tests below.

use super::keys::{VERSION_LEN, Version};

/// The format this program writes.
pub const META_FORMAT: u8 = 1;
const HAS_EXPIRY: u8 = 1;
const SPREAD: u8 = 1 << 1;
const EDITED: u8 = 1 << 3;
const BYTES: u8 = 1 << 4;
/// The same bit of what is not spread, which has no such bytes. Programs that do not
/// know it pass over it.
const NO_INTEGER: u8 = BYTES;

/// The Redis type of a key. Values are written to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KeyType {
    String = 0,
    List = 1,
    Set = 2,
    SortedSet = 3,
    Hash = 4,
    Stream = 5,
}

impl KeyType {
    /// What TYPE answers.
    pub fn name(self) -> &'static str {
        match self {
            KeyType::String => "string",
            KeyType::List => "list",
            KeyType::Set => "set",
            KeyType::SortedSet => "zset",
            KeyType::Hash => "hash",
            KeyType::Stream => "stream",
        }
    }

    fn from_nibble(n: u8) -> Option<KeyType> {
        Some(match n {
            0 => KeyType::String,
            1 => KeyType::List,
            2 => KeyType::Set,
            3 => KeyType::SortedSet,
            4 => KeyType::Hash,
            5 => KeyType::Stream,
            _ => return None,
        })
    }
}

/// Where a spread value's rows are and how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    pub version: Version,
    /// Bytes of a string, elements of a collection.
    pub size: u64,
    /// Bytes that the rows of a collection hold, about. Kept by the overlay,
    /// which sees every row change; 0: not known, or a string.
    pub bytes: u64,
}

impl Spread {
    /// Types know rows and elements; what these weigh is the overlay's to say.
    pub fn new(version: Version, size: u64) -> Spread {
        Spread {
            version,
            size,
            bytes: 0,
        }
    }

    fn encoded_len(&self) -> usize {
        VERSION_LEN + 8 + if self.bytes != 0 { 8 } else { 0 }
    }
}

/// The decoded header of a `meta` value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub key_type: KeyType,
    /// Unix time in ms, or `None` for a key that stays.
    pub expires_at: Option<u64>,
    pub spread: Option<Spread>,
    /// A string that was changed in place (APPEND, SETRANGE): OBJECT ENCODING
    /// calls it `raw` whatever its length.
    pub edited: bool,
    /// An inline string that is no integer to OBJECT ENCODING although its text may be
    /// one (INCRBYFLOAT).
    pub no_integer: bool,
}

impl Header {
    pub fn inline(key_type: KeyType, expires_at: Option<u64>) -> Header {
        Header {
            key_type,
            expires_at,
            spread: None,
            edited: false,
            no_integer: false,
        }
    }

    /// Length of the encoded header in bytes.
    pub fn encoded_len(&self) -> usize {
        2 + if self.expires_at.is_some() { 8 } else { 0 }
            + self.spread.map_or(0, |spread| spread.encoded_len())
    }

    /// Writes the header into the front of `out` and returns its length.
    ///
    /// `out` must hold at least [`Header::encoded_len`] bytes.
    pub fn encode_into(&self, out: &mut [u8]) -> usize {
        out[0] = META_FORMAT << 4 | self.key_type as u8;
        out[1] = if self.edited { EDITED } else { 0 };
        if self.no_integer && self.spread.is_none() {
            out[1] |= NO_INTEGER;
        }
        let mut at = 2;
        if let Some(ms) = self.expires_at {
            out[1] |= HAS_EXPIRY;
            out[at..at + 8].copy_from_slice(&ms.to_be_bytes());
            at += 8;
        }
        if let Some(spread) = &self.spread {
            out[1] |= SPREAD;
            out[at..at + VERSION_LEN].copy_from_slice(&spread.version.to_bytes());
            at += VERSION_LEN;
            out[at..at + 8].copy_from_slice(&spread.size.to_be_bytes());
            at += 8;
            if spread.bytes != 0 {
                out[1] |= BYTES;
                out[at..at + 8].copy_from_slice(&spread.bytes.to_be_bytes());
                at += 8;
            }
        }
        at
    }

    /// Whether an encoded value has an expiry, by its flags alone.
    pub fn has_expiry(value: &[u8]) -> bool {
        value.get(1).is_some_and(|flags| flags & HAS_EXPIRY != 0)
    }

    /// Whether an encoded value lies in rows, by its flags alone.
    pub fn is_spread(value: &[u8]) -> bool {
        value.get(1).is_some_and(|flags| flags & SPREAD != 0)
    }

    /// Decodes a header and the length it takes. `None`: corrupt, or of a later format.
    pub fn decode(value: &[u8]) -> Option<(Header, usize)> {
        let (first, flags) = (*value.first()?, *value.get(1)?);
        if first >> 4 != META_FORMAT || flags & !(HAS_EXPIRY | SPREAD | EDITED | BYTES) != 0 {
            return None;
        }
        let key_type = KeyType::from_nibble(first & 0x0f)?;
        let mut at = 2;
        let mut expires_at = None;
        if flags & HAS_EXPIRY != 0 {
            expires_at = Some(u64::from_be_bytes(value.get(at..at + 8)?.try_into().ok()?));
            at += 8;
        }
        let mut spread = None;
        if flags & SPREAD != 0 {
            let version = Version::from_bytes(value.get(at..at + VERSION_LEN)?)?;
            at += VERSION_LEN;
            let size = u64::from_be_bytes(value.get(at..at + 8)?.try_into().ok()?);
            at += 8;
            let mut bytes = 0;
            if flags & BYTES != 0 {
                bytes = u64::from_be_bytes(value.get(at..at + 8)?.try_into().ok()?);
                at += 8;
            }
            spread = Some(Spread {
                version,
                size,
                bytes,
            });
        }
        let no_integer = spread.is_none() && flags & NO_INTEGER != 0;
        Some((
            Header {
                key_type,
                expires_at,
                spread,
                edited: flags & EDITED != 0,
                no_integer,
            },
            at,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(header: Header) -> Vec<u8> {
        let mut out = vec![0; header.encoded_len()];
        let n = header.encode_into(&mut out);
        assert_eq!(n, out.len());
        out
    }

    #[test]
    fn golden_bytes_of_headers() {
        assert_eq!(encoded(Header::inline(KeyType::String, None)), [0x10, 0]);
        assert_eq!(
            encoded(Header::inline(KeyType::Hash, Some(0x0102))),
            [0x14, 1, 0, 0, 0, 0, 0, 0, 1, 2]
        );
        let version = Version {
            epoch: 1,
            counter: 2,
        };
        let spread = Some(Spread::new(version, 3));
        assert_eq!(
            encoded(Header {
                spread,
                ..Header::inline(KeyType::Stream, None)
            }),
            [
                0x15, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3
            ]
        );
        let weighed = Header {
            spread: Some(Spread {
                bytes: 4,
                ..Spread::new(version, 3)
            }),
            ..Header::inline(KeyType::Stream, None)
        };
        assert_eq!(
            encoded(weighed),
            [
                0x15, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0,
                0, 0, 0, 4
            ]
        );
        let edited = Header {
            edited: true,
            ..Header::inline(KeyType::String, None)
        };
        assert_eq!(encoded(edited), [0x10, 8]);
        let no_integer = Header {
            no_integer: true,
            ..Header::inline(KeyType::String, None)
        };
        assert_eq!(encoded(no_integer), [0x10, 16]);
    }

    #[test]
    fn every_header_comes_back() {
        let version = Version {
            epoch: 9,
            counter: 8,
        };
        let weighed = Spread {
            bytes: 9,
            ..Spread::new(version, 7)
        };
        for spread in [None, Some(Spread::new(version, 7)), Some(weighed)] {
            for expires_at in [None, Some(0), Some(u64::MAX)] {
                let edited = expires_at.is_some();
                let header = Header {
                    key_type: KeyType::SortedSet,
                    expires_at,
                    spread,
                    edited,
                    no_integer: edited && spread.is_none(),
                };
                let mut bytes = encoded(header);
                bytes.extend_from_slice(b"payload");
                assert_eq!(Header::decode(&bytes), Some((header, header.encoded_len())));
                assert_eq!(Header::decode(&bytes[..header.encoded_len() - 1]), None);
            }
        }
    }

    #[test]
    fn a_later_format_is_not_guessed_at() {
        assert_eq!(Header::decode(&[0x20, 0]), None);
        assert_eq!(Header::decode(&[0x1f, 0]), None);
        assert_eq!(Header::decode(&[0x10, 0x80]), None);
    }
}
