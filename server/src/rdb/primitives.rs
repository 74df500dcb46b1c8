//! Lengths, integers and strings of the RDB format.
//!
//! ```text
//! length   00nnnnnn | 01nnnnnn n | 0x80 u32 BE | 0x81 u64 BE
//! string   length, bytes | 0xc0 i8 | 0xc1 i16 LE | 0xc2 i32 LE
//!          | 0xc3 compressed length, length, LZF
//! ```

use cairn_protocol::resp::number::parse_i64;

use super::Malformed;

/// Shorter strings are not worth compressing, says Redis.
const COMPRESS_FROM: usize = 21;
/// One LZF item of three bytes stands for 264 bytes at most.
const LZF_RATIO: usize = 264;
/// Longest text of a 32-bit integer.
const INTEGER_TEXT: usize = 11;

/// Reads what is left of a payload.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("N bytes were taken"))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A plain length or number.
    pub(super) fn length(&mut self) -> Result<u64, Malformed> {
        match self.length_or_special()? {
            Ok(length) => Ok(length),
            Err(_) => Err(Malformed),
        }
    }

    /// The number of elements that follow, each of which takes a byte at least.
    pub(super) fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::try_from(self.length()?).map_err(|_| Malformed)?;
        match count <= self.0.len() {
            true => Ok(count),
            false => Err(Malformed),
        }
    }

    /// Inner error: the low bits of a special encoding.
    fn length_or_special(&mut self) -> Result<Result<u64, u8>, Malformed> {
        let first = self.byte()?;
        Ok(Ok(match (first >> 6, first) {
            (0, n) => u64::from(n),
            (1, n) => u64::from(n & 0x3f) << 8 | u64::from(self.byte()?),
            (_, 0x80) => u64::from(u32::from_be_bytes(self.array()?)),
            (_, 0x81) => u64::from_be_bytes(self.array()?),
            (3, n) => return Ok(Err(n & 0x3f)),
            _ => return Err(Malformed),
        }))
    }

    pub(super) fn string(&mut self) -> Result<Vec<u8>, Malformed> {
        let integer = |n: i64| Ok(n.to_string().into_bytes());
        match self.length_or_special()? {
            Ok(length) => {
                let length = usize::try_from(length).map_err(|_| Malformed)?;
                Ok(self.take(length)?.to_vec())
            }
            Err(0) => integer(i64::from(i8::from_le_bytes(self.array()?))),
            Err(1) => integer(i64::from(i16::from_le_bytes(self.array()?))),
            Err(2) => integer(i64::from(i32::from_le_bytes(self.array()?))),
            Err(3) => self.compressed(),
            Err(_) => Err(Malformed),
        }
    }

    fn compressed(&mut self) -> Result<Vec<u8>, Malformed> {
        let compressed = usize::try_from(self.length()?).map_err(|_| Malformed)?;
        let length = usize::try_from(self.length()?).map_err(|_| Malformed)?;
        let bytes = self.take(compressed)?;
        if length == 0 || length > bytes.len().saturating_mul(LZF_RATIO) {
            return Err(Malformed);
        }
        match lzf::decompress(bytes, length) {
            Ok(plain) if plain.len() == length => Ok(plain),
            _ => Err(Malformed),
        }
    }

    /// A score as text, in the old form of sorted sets.
    pub(super) fn text_double(&mut self) -> Result<f64, Malformed> {
        Ok(match self.byte()? {
            253 => f64::NAN,
            254 => f64::INFINITY,
            255 => f64::NEG_INFINITY,
            len => {
                let text = self.take(usize::from(len))?;
                let text = std::str::from_utf8(text).map_err(|_| Malformed)?;
                text.parse().map_err(|_| Malformed)?
            }
        })
    }
}

/// Appends a length or number in its shortest form.
pub(crate) fn put_length(out: &mut Vec<u8>, length: u64) {
    match length {
        0..0x40 => out.push(length as u8),
        0x40..0x4000 => out.extend_from_slice(&(0x4000 | length as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// Appends a string as Redis does: a small integer as such, a longer text
/// compressed where that is shorter.
pub(crate) fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    if string.len() <= INTEGER_TEXT
        && let Some(n) = parse_i64(string)
        && put_integer(out, n)
    {
        return;
    }
    if string.len() >= COMPRESS_FROM
        && let Ok(small) = lzf::compress(string)
        && small.len() < string.len() - 4
    {
        out.push(0xc3);
        put_length(out, small.len() as u64);
        put_length(out, string.len() as u64);
        out.extend_from_slice(&small);
        return;
    }
    put_length(out, string.len() as u64);
    out.extend_from_slice(string);
}

/// False if it does not fit into 32 bits.
fn put_integer(out: &mut Vec<u8>, n: i64) -> bool {
    if let Ok(n) = i8::try_from(n) {
        out.push(0xc0);
        out.extend_from_slice(&n.to_le_bytes());
    } else if let Ok(n) = i16::try_from(n) {
        out.push(0xc1);
        out.extend_from_slice(&n.to_le_bytes());
    } else if let Ok(n) = i32::try_from(n) {
        out.push(0xc2);
        out.extend_from_slice(&n.to_le_bytes());
    } else {
        return false;
    }
    true
}
