//! Forms that Redis wrote before 7.0: ziplists and zipmaps. Read only.
//!
//! ```text
//! ziplist   bytes u32 LE | tail u32 LE | elements u16 LE | entries | 0xff
//! entry     length of the one before (u8, or 0xfe and u32 LE) | encoding | data
//! zipmap    elements u8 | (key length, key, value length, unused u8, value)* | 0xff
//! ```

use super::Malformed;
use super::primitives::Reader;
use crate::listpack::Element;

const END: u8 = 0xff;
const LONG: u8 = 0xfe;

/// All elements of a ziplist.
pub(super) fn items(ziplist: &[u8]) -> Result<Vec<Element<'_>>, Malformed> {
    let mut reader = Reader(ziplist);
    let bytes = u32::from_le_bytes(reader.array()?);
    let tail = u32::from_le_bytes(reader.array()?);
    let count = u16::from_le_bytes(reader.array()?);
    if bytes as usize != ziplist.len() {
        return Err(Malformed);
    }
    let mut items = Vec::new();
    // Where the entry before begins, and how long it is.
    let (mut last, mut last_len) = (None, 0);
    loop {
        let at = ziplist.len() - reader.0.len();
        let claimed = match reader.byte()? {
            END => break,
            LONG => u32::from_le_bytes(reader.array()?) as usize,
            short => usize::from(short),
        };
        if claimed != last_len {
            return Err(Malformed);
        }
        items.push(item(&mut reader)?);
        last = Some(at);
        last_len = ziplist.len() - reader.0.len() - at;
    }
    let whole = reader.is_empty()
        && last.is_none_or(|at| at == tail as usize)
        && (count == u16::MAX || usize::from(count) == items.len());
    whole.then_some(items).ok_or(Malformed)
}

fn item<'a>(reader: &mut Reader<'a>) -> Result<Element<'a>, Malformed> {
    let first = reader.byte()?;
    Ok(match first {
        0..0x40 => Element::Text(reader.take(usize::from(first))?),
        0x40..0x80 => {
            let n = usize::from(first & 0x3f) << 8 | usize::from(reader.byte()?);
            Element::Text(reader.take(n)?)
        }
        0x80 => {
            let n = u32::from_be_bytes(reader.array()?);
            Element::Text(reader.take(n as usize)?)
        }
        0xc0 => Element::Integer(i64::from(i16::from_le_bytes(reader.array()?))),
        0xd0 => Element::Integer(i64::from(i32::from_le_bytes(reader.array()?))),
        0xe0 => Element::Integer(i64::from_le_bytes(reader.array()?)),
        0xf0 => Element::Integer(i24(reader.array()?)),
        0xfe => Element::Integer(i64::from(i8::from_le_bytes(reader.array()?))),
        0xf1..=0xfd => Element::Integer(i64::from(first & 0x0f) - 1),
        _ => return Err(Malformed),
    })
}

/// A little-endian integer of three bytes.
fn i24(bytes: [u8; 3]) -> i64 {
    i64::from(i32::from_le_bytes([0, bytes[0], bytes[1], bytes[2]]) >> 8)
}

/// Keys and values of a zipmap.
pub(super) fn zipmap(zipmap: &[u8]) -> Result<super::Pairs, Malformed> {
    let mut reader = Reader(zipmap);
    let count = reader.byte()?;
    let mut pairs = Vec::new();
    while let Some(len) = zipmap_length(&mut reader)? {
        let key = reader.take(len)?.to_vec();
        let len = zipmap_length(&mut reader)?.ok_or(Malformed)?;
        let unused = reader.byte()?;
        let value = reader.take(len)?.to_vec();
        reader.take(usize::from(unused))?;
        pairs.push((key, value));
    }
    let whole = reader.is_empty() && (count == LONG || usize::from(count) == pairs.len());
    whole.then_some(pairs).ok_or(Malformed)
}

/// `None` at the end. A length that one byte holds takes one byte.
fn zipmap_length(reader: &mut Reader<'_>) -> Result<Option<usize>, Malformed> {
    Ok(match reader.byte()? {
        END => None,
        LONG => match u32::from_le_bytes(reader.array()?) as usize {
            len if len < usize::from(LONG) => return Err(Malformed),
            len => Some(len),
        },
        len => Some(usize::from(len)),
    })
}
