//! Listpacks: strings and integers one after another, in Redis's format.
//!
//! ```text
//! listpack   bytes u32 LE | elements u16 LE (0xffff: more) | element ... | 0xff
//! element    encoding and bytes | length of those, readable from the end (1 to 5 bytes)
//!
//! 0xxxxxxx                       an integer of 0 to 127
//! 10xxxxxx                       a string of up to 63 bytes
//! 110xxxxx xxxxxxxx              a signed integer of 13 bits
//! 1110xxxx xxxxxxxx              a string of up to 4095 bytes
//! 0xf0 u32 LE                    a longer string
//! 0xf1 .. 0xf4                   signed integers of 16, 24, 32, 64 bits, LE
//! ```
//!
//! (<https://github.com/antirez/listpack/blob/master/listpack.md>.) A stream's
//! nodes are listpacks on disk: Redis cuts streams into nodes by the size of this
//! form, and trims by whole nodes, so nothing else would behave as it does. DUMP
//! and RESTORE have them for small collections. A string that is an integer is
//! stored as one. Readers take any bytes: what is cut or unknown is `None`.

use cairn_protocol::resp::number::parse_i64;

/// Bytes before the first element.
pub const HEAD: usize = 6;
const END: u8 = 0xff;
const MANY: u16 = u16::MAX;

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    Integer(i64),
    Text(&'a [u8]),
}

impl Element<'_> {
    /// Its value, if it is an integer or the text of one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Element::Integer(value) => Some(*value),
            Element::Text(text) => parse_i64(text),
        }
    }

    /// The bytes that it stands for.
    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Element::Integer(value) => itoa::Buffer::new().format(*value).into(),
            Element::Text(text) => text.to_vec(),
        }
    }

    /// Whether it stands for these bytes.
    pub fn is(&self, bytes: &[u8]) -> bool {
        match self {
            Element::Text(text) => *text == bytes,
            Element::Integer(value) => itoa::Buffer::new().format(*value).as_bytes() == bytes,
        }
    }
}

/// Reads elements one after another.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the element that begins at `at`.
    pub fn at(bytes: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor { bytes, at }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether the end mark was reached.
    pub fn is_end(&self) -> bool {
        self.bytes.get(self.at) == Some(&END)
    }

    fn take(&self, from: usize, len: usize) -> Option<&'a [u8]> {
        let from = self.at.checked_add(from)?;
        self.bytes.get(from..from.checked_add(len)?)
    }

    /// The element here; goes to the next.
    pub fn next(&mut self) -> Option<Element<'a>> {
        let (element, len) = self.peek()?;
        self.at += len + backlen_size(len);
        Some(element)
    }

    /// Goes over `count` elements.
    pub fn skip(&mut self, count: u64) -> Option<()> {
        for _ in 0..count {
            self.next()?;
        }
        Some(())
    }

    /// The element here and the bytes of its encoding.
    fn peek(&self) -> Option<(Element<'a>, usize)> {
        let first = *self.bytes.get(self.at)?;
        let text =
            |head: usize, len: usize| Some((Element::Text(self.take(head, len)?), head + len));
        let integer = |value: i64, len: usize| Some((Element::Integer(value), len));
        match first {
            0..=0x7f => integer(first as i64, 1),
            0x80..=0xbf => text(1, (first & 0x3f) as usize),
            0xc0..=0xdf => {
                let second = *self.take(1, 1)?.first()?;
                let value = ((first & 0x1f) as i64) << 8 | second as i64;
                integer(
                    if value >= 1 << 12 {
                        value - (1 << 13)
                    } else {
                        value
                    },
                    2,
                )
            }
            0xe0..=0xef => {
                let second = *self.take(1, 1)?.first()?;
                text(2, ((first & 0x0f) as usize) << 8 | second as usize)
            }
            0xf0 => text(
                5,
                u32::from_le_bytes(*self.take(1, 4)?.first_chunk()?) as usize,
            ),
            0xf1..=0xf4 => {
                let len = [2, 3, 4, 8][(first - 0xf1) as usize];
                let mut raw = [0; 8];
                raw[..len].copy_from_slice(self.take(1, len)?);
                let unused = 64 - 8 * len as u32;
                integer(i64::from_le_bytes(raw) << unused >> unused, 1 + len)
            }
            _ => None,
        }
    }
}

/// All elements of a whole listpack. `None` unless all its lengths agree.
pub fn elements(listpack: &[u8]) -> Option<Vec<Element<'_>>> {
    let bytes = u32::from_le_bytes(*listpack.first_chunk()?);
    let count = u16::from_le_bytes(*listpack.get(4..)?.first_chunk()?);
    let mut cursor = Cursor::at(listpack, HEAD);
    let mut elements = Vec::new();
    while !cursor.is_end() {
        let (element, len) = cursor.peek()?;
        let mut back = Vec::with_capacity(5);
        push_backlen(&mut back, len);
        if cursor.take(len, back.len())? != back {
            return None;
        }
        elements.push(element);
        cursor.at += len + back.len();
    }
    let whole = bytes as usize == listpack.len()
        && cursor.at + 1 == listpack.len()
        && (count == MANY || usize::from(count) == elements.len());
    whole.then_some(elements)
}

/// Bytes that the length at the end of an element takes.
fn backlen_size(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..16383 => 2,
        16383..2097151 => 3,
        2097151..268435455 => 4,
        _ => 5,
    }
}

fn push_backlen(out: &mut Vec<u8>, len: usize) {
    let size = backlen_size(len);
    for place in (0..size).rev() {
        let septet = (len >> (7 * place)) as u8 & 0x7f;
        out.push(if place + 1 == size {
            septet
        } else {
            septet | 0x80
        });
    }
}

/// Appends one encoded element (not to a whole listpack: see [`Builder`]).
fn push_integer(out: &mut Vec<u8>, value: i64) {
    let start = out.len();
    let raw = value.to_le_bytes();
    match value {
        0..=127 => out.push(value as u8),
        -4096..=4095 => {
            let bits = value as u16 & 0x1fff;
            out.extend_from_slice(&[0xc0 | (bits >> 8) as u8, bits as u8]);
        }
        -32768..=32767 => out.extend_from_slice(&[0xf1, raw[0], raw[1]]),
        -8388608..=8388607 => out.extend_from_slice(&[0xf2, raw[0], raw[1], raw[2]]),
        -2147483648..=2147483647 => {
            out.push(0xf3);
            out.extend_from_slice(&raw[..4]);
        }
        _ => {
            out.push(0xf4);
            out.extend_from_slice(&raw);
        }
    }
    push_backlen(out, out.len() - start);
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() <= 20
        && let Some(value) = parse_i64(text)
    {
        return push_integer(out, value);
    }
    let start = out.len();
    let len = text.len();
    match len {
        0..64 => out.push(0x80 | len as u8),
        64..4096 => out.extend_from_slice(&[0xe0 | (len >> 8) as u8, len as u8]),
        _ => {
            out.push(0xf0);
            out.extend_from_slice(&(len as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(text);
    push_backlen(out, out.len() - start);
}

/// Appends to a listpack. The header and the end mark are written by
/// [`Builder::finish`].
pub struct Builder {
    bytes: Vec<u8>,
    added: u64,
}

impl Builder {
    /// Begins a listpack.
    pub fn begin() -> Builder {
        Builder::open(Vec::new())
    }

    /// Goes on with a listpack; begins one if `bytes` is empty.
    pub fn open(mut bytes: Vec<u8>) -> Builder {
        if bytes.len() <= HEAD {
            bytes.clear();
            bytes.resize(HEAD, 0);
        } else {
            bytes.pop();
        }
        Builder { bytes, added: 0 }
    }

    /// Bytes so far, the end mark not counted.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn integer(&mut self, value: i64) {
        self.added += 1;
        push_integer(&mut self.bytes, value);
    }

    pub fn text(&mut self, text: &[u8]) {
        self.added += 1;
        push_text(&mut self.bytes, text);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let before = u16::from_le_bytes([self.bytes[4], self.bytes[5]]);
        let count = match before {
            MANY => MANY,
            before => (before as u64 + self.added).min(MANY as u64) as u16,
        };
        self.bytes[4..HEAD].copy_from_slice(&count.to_le_bytes());
        set_len(&mut self.bytes);
        self.bytes
    }
}

fn set_len(bytes: &mut [u8]) {
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
}

/// Replaces the integer that begins at `at`. `None`: there is none.
pub fn replace_integer(bytes: &mut Vec<u8>, at: usize, value: i64) -> Option<()> {
    let mut cursor = Cursor::at(bytes, at);
    cursor.next()?.integer()?;
    let old = at..cursor.position();
    let mut new = Vec::with_capacity(11);
    push_integer(&mut new, value);
    if new.len() == old.len() {
        bytes[old].copy_from_slice(&new);
    } else {
        bytes.splice(old, new);
        set_len(bytes);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(fill: impl FnOnce(&mut Builder)) -> Vec<u8> {
        let mut builder = Builder::begin();
        fill(&mut builder);
        builder.finish()
    }

    #[test]
    fn golden_bytes_of_a_listpack() {
        let bytes = build(|b| {
            b.integer(1);
            b.text(b"ab");
            b.text(b"-7");
            b.integer(300);
        });
        assert_eq!(
            bytes,
            [
                19, 0, 0, 0, 4, 0, 1, 1, 0x82, b'a', b'b', 3, 0xdf, 0xf9, 2, 0xc1, 0x2c, 2, 0xff
            ]
        );
    }

    #[test]
    fn every_element_comes_back() {
        let numbers = [
            0,
            127,
            128,
            -1,
            4095,
            -4096,
            4096,
            -4097,
            32767,
            -32768,
            32768,
            8388607,
            -8388608,
            8388608,
            i32::MAX as i64,
            i32::MIN as i64,
            1 << 31,
            i64::MAX,
            i64::MIN,
        ];
        let texts: Vec<Vec<u8>> = [
            0, 1, 63, 64, 125, 126, 4095, 4096, 16378, 16383, 20000, 2097151,
        ]
        .iter()
        .map(|len| vec![b'x'; *len])
        .collect();
        let mut bytes = build(|b| numbers.iter().for_each(|n| b.integer(*n)));
        let mut more = Builder::open(bytes);
        texts.iter().for_each(|text| more.text(text));
        bytes = more.finish();
        assert_eq!(
            u32::from_le_bytes(*bytes.first_chunk().unwrap()) as usize,
            bytes.len()
        );
        let mut cursor = Cursor::at(&bytes, HEAD);
        for n in numbers {
            assert_eq!(cursor.next(), Some(Element::Integer(n)));
        }
        for text in &texts {
            assert_eq!(cursor.next(), Some(Element::Text(text)));
        }
        assert!(cursor.is_end());
        assert_eq!(cursor.next(), None);
        let elements = elements(&bytes).unwrap();
        assert_eq!(elements.len(), numbers.len() + texts.len());
    }

    #[test]
    fn a_listpack_whose_lengths_disagree_is_refused() {
        let bytes = build(|b| {
            b.text(b"abc");
            b.integer(70_000);
        });
        assert_eq!(
            elements(&bytes),
            Some(vec![Element::Text(b"abc"), Element::Integer(70_000)])
        );
        for at in 0..bytes.len() {
            assert_eq!(elements(&bytes[..at]), None, "cut at {at}");
        }
        // The whole length, the count, a length at the end of an element.
        for at in [0, 4, HEAD + 4] {
            let mut wrong = bytes.clone();
            wrong[at] += 1;
            assert_eq!(elements(&wrong), None, "wrong at {at}");
        }
    }

    #[test]
    fn an_integer_is_replaced_by_a_longer_one() {
        let mut bytes = build(|b| {
            b.integer(127);
            b.text(b"x");
        });
        replace_integer(&mut bytes, HEAD, 128).unwrap();
        let mut cursor = Cursor::at(&bytes, HEAD);
        assert_eq!(cursor.next(), Some(Element::Integer(128)));
        assert!(cursor.next().unwrap().is(b"x"));
        assert!(cursor.is_end());
        assert_eq!(bytes[0] as usize, bytes.len());
        assert_eq!(replace_integer(&mut bytes, 9, 1), None);
    }

    #[test]
    fn cut_bytes_are_not_read_beyond() {
        let bytes = build(|b| {
            b.text(&[b'y'; 5000]);
            b.integer(i64::MAX);
        });
        for cut in 0..bytes.len() - 1 {
            let mut cursor = Cursor::at(&bytes[..cut], HEAD.min(cut));
            while cursor.next().is_some() {}
        }
        assert_eq!(Cursor::at(&[0xf5, 0, 0], 0).next(), None);
    }
}
