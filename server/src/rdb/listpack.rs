//! Listpacks: Redis's compact sequence of strings and integers.
//!
//! ```text
//! listpack   bytes u32 LE | elements u16 LE (65535: not known) | entries | 0xff
//! entry      encoding and data | its length backwards, 7 bits a byte
//! encoding   0nnnnnnn                 unsigned integer
//!            10nnnnnn                 string of n bytes
//!            110nnnnn n               signed integer of 13 bits
//!            1110nnnn n               string of n bytes
//!            0xf0 u32 LE              string of n bytes
//!            0xf1 to 0xf4             signed integer of 16, 24, 32, 64 bits LE
//! ```

use cairn_protocol::resp::number::parse_i64;

use super::Malformed;
use super::primitives::Reader;

const HEADER: usize = 6;
const END: u8 = 0xff;
/// The number of elements does not fit its field.
const MANY: u16 = u16::MAX;

/// One element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Integer(i64),
    String(&'a [u8]),
}

impl Item<'_> {
    pub(super) fn to_vec(&self) -> Vec<u8> {
        match self {
            Item::Integer(n) => n.to_string().into_bytes(),
            Item::String(bytes) => bytes.to_vec(),
        }
    }

    pub(super) fn integer(&self) -> Result<i64, Malformed> {
        match self {
            Item::Integer(n) => Ok(*n),
            Item::String(bytes) => parse_i64(bytes).ok_or(Malformed),
        }
    }
}

/// All elements of a listpack; its lengths must agree.
pub(super) fn items(listpack: &[u8]) -> Result<Vec<Item<'_>>, Malformed> {
    let mut reader = Reader(listpack);
    let bytes = u32::from_le_bytes(reader.array()?);
    let count = u16::from_le_bytes(reader.array()?);
    if bytes as usize != listpack.len() {
        return Err(Malformed);
    }
    let mut items = Vec::new();
    loop {
        let before = reader.0.len();
        let first = reader.byte()?;
        if first == END {
            break;
        }
        items.push(item(first, &mut reader)?);
        let length = before - reader.0.len();
        let mut back = Vec::new();
        put_back_length(&mut back, length);
        if reader.take(back.len())? != back {
            return Err(Malformed);
        }
    }
    let whole = reader.is_empty() && (count == MANY || usize::from(count) == items.len());
    whole.then_some(items).ok_or(Malformed)
}

fn item<'a>(first: u8, reader: &mut Reader<'a>) -> Result<Item<'a>, Malformed> {
    Ok(match first {
        0..0x80 => Item::Integer(i64::from(first)),
        0x80..0xc0 => Item::String(reader.take(usize::from(first & 0x3f))?),
        0xc0..0xe0 => {
            let n = i64::from(first & 0x1f) << 8 | i64::from(reader.byte()?);
            Item::Integer(if n >= 1 << 12 { n - (1 << 13) } else { n })
        }
        0xe0..0xf0 => {
            let n = usize::from(first & 0x0f) << 8 | usize::from(reader.byte()?);
            Item::String(reader.take(n)?)
        }
        0xf0 => {
            let n = u32::from_le_bytes(reader.array()?);
            Item::String(reader.take(n as usize)?)
        }
        0xf1 => Item::Integer(i64::from(i16::from_le_bytes(reader.array()?))),
        0xf2 => Item::Integer(i24(reader.array()?)),
        0xf3 => Item::Integer(i64::from(i32::from_le_bytes(reader.array()?))),
        0xf4 => Item::Integer(i64::from_le_bytes(reader.array()?)),
        _ => return Err(Malformed),
    })
}

/// A little-endian integer of three bytes.
pub(super) fn i24(bytes: [u8; 3]) -> i64 {
    i64::from(i32::from_le_bytes([0, bytes[0], bytes[1], bytes[2]]) >> 8)
}

/// A listpack that is being written.
pub(super) struct Writer {
    out: Vec<u8>,
    count: usize,
}

impl Writer {
    pub(super) fn new() -> Writer {
        Writer {
            out: vec![0; HEADER],
            count: 0,
        }
    }

    /// Bytes so far, the end not counted.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Appends an element; the text of an integer becomes one.
    pub(super) fn push(&mut self, element: &[u8]) {
        match parse_i64(element) {
            Some(n) => self.push_integer(n),
            None => self.entry(|out| put_string(out, element)),
        }
    }

    pub(super) fn push_integer(&mut self, n: i64) {
        self.entry(|out| put_integer(out, n));
    }

    fn entry(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.out.len();
        write(&mut self.out);
        let length = self.out.len() - before;
        put_back_length(&mut self.out, length);
        self.count += 1;
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.out.push(END);
        let bytes = (self.out.len() as u32).to_le_bytes();
        self.out[..4].copy_from_slice(&bytes);
        let count = u16::try_from(self.count).unwrap_or(MANY);
        self.out[4..HEADER].copy_from_slice(&count.to_le_bytes());
        self.out
    }
}

fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    match string.len() {
        len @ 0..0x40 => out.push(0x80 | len as u8),
        len @ 0x40..0x1000 => out.extend_from_slice(&[0xe0 | (len >> 8) as u8, len as u8]),
        len => {
            out.push(0xf0);
            out.extend_from_slice(&(len as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(string);
}

fn put_integer(out: &mut Vec<u8>, n: i64) {
    match n {
        0..0x80 => out.push(n as u8),
        -0x1000..0x1000 => {
            let n = (n & 0x1fff) as u16;
            out.extend_from_slice(&(0xc000 | n).to_be_bytes());
        }
        _ => {
            let (code, len) = match n {
                -0x8000..0x8000 => (0xf1, 2),
                -0x80_0000..0x80_0000 => (0xf2, 3),
                -0x8000_0000..0x8000_0000 => (0xf3, 4),
                _ => (0xf4, 8),
            };
            out.push(code);
            out.extend_from_slice(&n.to_le_bytes()[..len]);
        }
    }
}

fn put_back_length(out: &mut Vec<u8>, length: usize) {
    let groups = match length {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    for group in (0..groups).rev() {
        let seven = (length >> (7 * group)) as u8 & 0x7f;
        out.push(if group + 1 == groups {
            seven
        } else {
            seven | 0x80
        });
    }
}
