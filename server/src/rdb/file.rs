//! A whole RDB file, item by item, as it comes: no more of it is in memory than
//! one value, and nothing is allocated for a length that is only claimed.
//!
//! The layout is beside its writer, `replication::snapshot`.

use std::io::{self, BufRead, Read};

use super::{Checksum, kind, seal};

/// The highest version of the format that is read.
const VERSION_MAX: u32 = super::RDB_VERSION as u32;
/// Files below this version have no checksum.
const CHECKSUM_FROM: u32 = 5;
/// A string is read in pieces of this size.
const PIECE: u64 = 64 << 10;

mod op {
    pub const FUNCTION: u8 = 245;
    pub const IDLE: u8 = 248;
    pub const FREQUENCY: u8 = 249;
    pub const AUX: u8 = 250;
    pub const RESIZE: u8 = 251;
    pub const EXPIRY_MS: u8 = 252;
    pub const EXPIRY_S: u8 = 253;
    pub const SELECT: u8 = 254;
    pub const END: u8 = 255;
}

/// One thing that a file holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// The keys that follow are of this database.
    Database(u64),
    /// The code of a library.
    Function(Vec<u8>),
    Key {
        name: Vec<u8>,
        /// Unix ms.
        expires_at: Option<u64>,
        /// What RESTORE takes.
        payload: Vec<u8>,
    },
}

/// Reads a file. See the module's documentation.
pub struct FileReader<R> {
    input: R,
    sum: Checksum,
    version: u32,
    /// The bytes of the value that is read now.
    value: Option<Vec<u8>>,
    stream_db: Option<u8>,
}

impl<R: BufRead> FileReader<R> {
    /// Reads the head of a file.
    ///
    /// # Errors
    /// Of `input`; `InvalidData` if it is no such file, or of a later version.
    pub fn open(input: R) -> io::Result<FileReader<R>> {
        let mut reader = FileReader {
            input,
            sum: Checksum::default(),
            version: 0,
            value: None,
            stream_db: None,
        };
        let head: [u8; 9] = reader.array()?;
        let version = head
            .strip_prefix(b"REDIS")
            .and_then(|v| std::str::from_utf8(v).ok());
        let version = version.and_then(|version| version.parse().ok());
        match version {
            Some(version) if (1..=VERSION_MAX).contains(&version) => reader.version = version,
            _ => return Err(malformed("no RDB file, or of a later version")),
        }
        Ok(reader)
    }

    /// The next item; `None` at the end of the file, which is whole then.
    ///
    /// # Errors
    /// Of `input`; `InvalidData` if it cannot be understood.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        let mut expires_at = None;
        loop {
            match self.byte()? {
                op::AUX => {
                    let (name, value) = (self.string()?, self.string()?);
                    if name == b"repl-stream-db" {
                        let text = std::str::from_utf8(&value).ok();
                        self.stream_db = text.and_then(|text| text.parse().ok());
                    }
                }
                op::RESIZE => {
                    self.length()?;
                    self.length()?;
                }
                op::IDLE => {
                    self.length()?;
                }
                op::FREQUENCY => {
                    self.byte()?;
                }
                op::EXPIRY_MS => expires_at = Some(u64::from_le_bytes(self.array()?)),
                op::EXPIRY_S => {
                    let seconds = u32::from_le_bytes(self.array()?);
                    expires_at = Some(u64::from(seconds) * 1000);
                }
                op::SELECT => return Ok(Some(Item::Database(self.length()?))),
                op::FUNCTION => return Ok(Some(Item::Function(self.string()?))),
                op::END => return self.end(),
                kind => return self.key(kind, expires_at).map(Some),
            }
        }
    }

    pub fn input(&self) -> &R {
        &self.input
    }

    /// The database that the stream behind the file has selected, if it says so.
    pub fn stream_db(&self) -> Option<u8> {
        self.stream_db
    }

    fn end(&mut self) -> io::Result<Option<Item>> {
        if self.version < CHECKSUM_FROM {
            return Ok(None);
        }
        let sum = std::mem::take(&mut self.sum).value();
        let written = u64::from_le_bytes(self.array()?);
        match written == sum || written == 0 {
            true => Ok(None),
            false => Err(malformed("RDB CRC error: the checksum is wrong")),
        }
    }

    fn key(&mut self, kind: u8, expires_at: Option<u64>) -> io::Result<Item> {
        let name = self.string()?;
        self.value = Some(vec![kind]);
        self.pass_value(kind)?;
        let value = self.value.take().unwrap_or_default();
        Ok(Item::Key {
            name,
            expires_at,
            payload: seal(value),
        })
    }

    /// Goes over one value, whose bytes are kept.
    fn pass_value(&mut self, kind: u8) -> io::Result<()> {
        match kind {
            kind::STRING
            | kind::HASH_ZIPMAP
            | kind::LIST_ZIPLIST
            | kind::SET_INTSET
            | kind::ZSET_ZIPLIST
            | kind::HASH_ZIPLIST
            | kind::HASH_LISTPACK
            | kind::ZSET_LISTPACK => self.pass_string(),
            kind::LIST | kind::SET | kind::LIST_QUICKLIST => self.times(|r| r.pass_string()),
            kind::HASH => self.times(|r| {
                r.pass_string()?;
                r.pass_string()
            }),
            kind::ZSET => self.times(|r| {
                r.pass_string()?;
                match r.byte()? {
                    253..=255 => Ok(()),
                    len => r.pass(u64::from(len)),
                }
            }),
            kind::ZSET_2 => self.times(|r| {
                r.pass_string()?;
                r.pass(8)
            }),
            kind::LIST_QUICKLIST_2 => self.times(|r| {
                r.length()?;
                r.pass_string()
            }),
            kind::STREAM => self.pass_stream(false),
            kind::STREAM_2 => self.pass_stream(true),
            _ => Err(malformed("a value of an unknown type")),
        }
    }

    fn pass_stream(&mut self, since_7: bool) -> io::Result<()> {
        self.times(|r| {
            r.pass_string()?;
            r.pass_string()
        })?;
        for _ in 0..if since_7 { 8 } else { 3 } {
            self.length()?;
        }
        self.times(|r| {
            r.pass_string()?;
            for _ in 0..if since_7 { 3 } else { 2 } {
                r.length()?;
            }
            r.times(|r| {
                r.pass(16 + 8)?;
                r.length().map(drop)
            })?;
            r.times(|r| {
                r.pass_string()?;
                r.pass(8)?;
                r.times(|r| r.pass(16))
            })
        })
    }

    fn times(&mut self, each: impl Fn(&mut Self) -> io::Result<()>) -> io::Result<()> {
        for _ in 0..self.length()? {
            each(self)?;
        }
        Ok(())
    }

    // Pieces.

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.took(&bytes);
        Ok(bytes)
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn took(&mut self, bytes: &[u8]) {
        self.sum.add(bytes);
        if let Some(value) = &mut self.value {
            value.extend_from_slice(bytes);
        }
    }

    fn pass(&mut self, len: u64) -> io::Result<()> {
        self.take(len).map(drop)
    }

    fn take(&mut self, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let piece = PIECE.min(len - bytes.len() as u64);
            let read = self.input.by_ref().take(piece).read_to_end(&mut bytes)?;
            if read as u64 != piece {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.took(&bytes);
        Ok(bytes)
    }

    fn length(&mut self) -> io::Result<u64> {
        self.length_or_special()?
            .map_err(|_| malformed("a length was expected"))
    }

    /// Inner error: the low bits of a special encoding.
    fn length_or_special(&mut self) -> io::Result<Result<u64, u8>> {
        let first = self.byte()?;
        Ok(match (first >> 6, first) {
            (0, n) => Ok(u64::from(n)),
            (1, n) => Ok(u64::from(n & 0x3f) << 8 | u64::from(self.byte()?)),
            (_, 0x80) => Ok(u64::from(u32::from_be_bytes(self.array()?))),
            (_, 0x81) => Ok(u64::from_be_bytes(self.array()?)),
            (3, n) => Err(n & 0x3f),
            _ => return Err(malformed("a length is wrong")),
        })
    }

    fn pass_string(&mut self) -> io::Result<()> {
        match self.length_or_special()? {
            Ok(length) => self.pass(length),
            Err(n @ 0..=2) => self.pass(1 << n),
            Err(3) => {
                let compressed = self.length()?;
                self.length()?;
                self.pass(compressed)
            }
            Err(_) => Err(malformed("a string is of an unknown form")),
        }
    }

    /// A string by itself (a name), as its text.
    fn string(&mut self) -> io::Result<Vec<u8>> {
        let outer = self.value.replace(Vec::new());
        let passed = self.pass_string();
        let raw = std::mem::replace(&mut self.value, outer).unwrap_or_default();
        passed?;
        super::primitives::Reader(&raw)
            .string()
            .map_err(|_| malformed("a string is wrong"))
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::{Form, Value, encode_body, put_string};

    fn file(items: &[u8]) -> Vec<u8> {
        let mut file = [b"REDIS0010\xfa\x01a\x01b\xfb\x01\x00", items, b"\xff"].concat();
        let mut sum = Checksum::default();
        sum.add(&file);
        file.extend_from_slice(&sum.value().to_le_bytes());
        file
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<Item>> {
        let mut reader = FileReader::open(bytes)?;
        let mut items = Vec::new();
        while let Some(item) = reader.next_item()? {
            items.push(item);
        }
        Ok(items)
    }

    fn key(out: &mut Vec<u8>, name: &[u8], value: &Value, form: Form) {
        let (kind, body) = encode_body(value, form);
        out.push(kind);
        put_string(out, name);
        out.extend_from_slice(&body);
    }

    #[test]
    fn every_type_comes_out_as_it_went_in() {
        let pair = |n: u8| (vec![n], vec![b'x'; 300]);
        let values = [
            Value::String(b"12345".to_vec()),
            Value::List(vec![b"a".to_vec(), vec![b'y'; 9000]]),
            Value::Set(vec![b"1".to_vec(), b"2".to_vec()]),
            Value::SortedSet(vec![(b"m".to_vec(), 1.5), (b"n".to_vec(), f64::INFINITY)]),
            Value::Hash(vec![pair(1), pair(2)]),
        ];
        for form in [Form::Compact, Form::Table] {
            let mut bytes = vec![0xfe, 3];
            bytes.extend_from_slice(b"\xfc\x05\0\0\0\0\0\0\0");
            for value in &values {
                key(&mut bytes, b"name", value, form);
            }
            let items = read(&file(&bytes)).unwrap();
            assert_eq!(items[0], Item::Database(3));
            for (at, (item, value)) in items[1..].iter().zip(&values).enumerate() {
                let Item::Key {
                    name,
                    expires_at,
                    payload,
                } = item
                else {
                    panic!("{item:?}");
                };
                assert_eq!(
                    (&name[..], *expires_at),
                    (&b"name"[..], (at == 0).then_some(5))
                );
                let body = crate::rdb::verify(payload).unwrap();
                let mut decoded = crate::rdb::decode(body).unwrap();
                if let Value::SortedSet(members) = &mut decoded {
                    members.sort_by(|a, b| a.1.total_cmp(&b.1));
                }
                assert_eq!(&decoded, value);
            }
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_found() {
        let mut bytes = Vec::new();
        key(
            &mut bytes,
            b"k",
            &Value::String(vec![b'v'; 100]),
            Form::Compact,
        );
        let whole = file(&bytes);
        assert_eq!(read(&whole).unwrap().len(), 1);
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "cut at {len}");
        }
        for at in 9..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x21;
            assert!(read(&changed).is_err(), "changed at {at}");
        }
        assert!(read(b"REDIS0099").is_err());
    }

    #[test]
    fn a_claimed_length_costs_nothing() {
        let claims = b"REDIS0010\x00\x01k\x81\x7f\xff\xff\xff\xff\xff\xff\xff";
        assert!(read(claims).is_err());
        let elements = b"REDIS0010\x01\x01k\x81\x7f\xff\xff\xff\xff\xff\xff\xff";
        assert!(read(elements).is_err());
    }
}
