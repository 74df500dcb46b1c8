//! Libraries as bytes: what FUNCTION DUMP gives and FUNCTION RESTORE takes.
//!
//! ```text
//! for each library   0xf5 | string (its code)                    as in an RDB file
//! end                version u16 LE (10) | CRC-64 (Jones) u64 LE of all before it
//! string             length, bytes
//! length             00xxxxxx | 01xxxxxx xxxxxxxx | 0x80 u32 BE | 0x81 u64 BE
//! LZF string         0xc3 | length of packed | length of unpacked | packed   (only read)
//! ```

use std::sync::LazyLock;

use super::registry::Libraries;

/// `RDB_OPCODE_FUNCTION2`
const FUNCTION: u8 = 0xf5;
/// Of Redis 7.0.
const RDB_VERSION: u16 = 10;
const FOOTER: usize = 10;
/// What a packed string may claim to unpack to.
const MAX_CODE: usize = 512 << 20;

/// The bytes of all libraries.
pub(crate) fn encode(libraries: &Libraries) -> Vec<u8> {
    let mut out = Vec::new();
    for library in libraries.iter() {
        out.push(FUNCTION);
        encode_length(library.code.len(), &mut out);
        out.extend_from_slice(&library.code);
    }
    out.extend_from_slice(&RDB_VERSION.to_le_bytes());
    let sum = crc64(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

fn encode_length(len: usize, out: &mut Vec<u8>) {
    match len {
        0..64 => out.push(len as u8),
        64..0x4000 => out.extend_from_slice(&(len as u16 | 0x4000).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// The code of each library.
///
/// # Errors
/// The text of FUNCTION RESTORE.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    const WRONG: &str = "DUMP payload version or checksum are wrong";
    let Some(end) = bytes.len().checked_sub(FOOTER) else {
        return Err(WRONG.into());
    };
    let (body, footer) = bytes.split_at(end);
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    let sum = u64::from_le_bytes(footer[2..].try_into().expect("ten bytes less two"));
    let is_right = sum == 0 || sum == crc64(&bytes[..end + 2]);
    if version > RDB_VERSION || !is_right {
        return Err(WRONG.into());
    }
    let mut input = body;
    let mut libraries = Vec::new();
    while let Some((kind, rest)) = input.split_first() {
        input = rest;
        if *kind != FUNCTION {
            return Err("given type is not a function".into());
        }
        let code = string(&mut input).ok_or("Failed loading library code")?;
        libraries.push(code);
    }
    Ok(libraries)
}

/// Lengths, and what stands where one would.
enum Length {
    Plain(usize),
    Packed,
}

fn length(input: &mut &[u8]) -> Option<Length> {
    let first = take::<1>(input)?[0];
    let low = usize::from(first & 0x3f);
    Some(Length::Plain(match first >> 6 {
        0 => low,
        1 => (low << 8) | usize::from(take::<1>(input)?[0]),
        2 if first == 0x80 => u32::from_be_bytes(take(input)?) as usize,
        2 if first == 0x81 => usize::try_from(u64::from_be_bytes(take(input)?)).ok()?,
        3 if low == 3 => return Some(Length::Packed),
        _ => return None,
    }))
}

fn plain_length(input: &mut &[u8]) -> Option<usize> {
    match length(input)? {
        Length::Plain(len) => Some(len),
        Length::Packed => None,
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*taken)
}

fn string(input: &mut &[u8]) -> Option<Vec<u8>> {
    let packed = match length(input)? {
        Length::Plain(len) => {
            let (text, rest) = input.split_at_checked(len)?;
            *input = rest;
            return Some(text.to_vec());
        }
        Length::Packed => plain_length(input)?,
    };
    let unpacked = plain_length(input)?;
    let (text, rest) = input.split_at_checked(packed)?;
    *input = rest;
    unpack(text, unpacked)
}

/// LZF (<http://oldhome.schmorp.de/marc/liblzf.html>): runs of literals and
/// references back into what is unpacked already.
fn unpack(mut input: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > MAX_CODE {
        return None;
    }
    let mut out = Vec::new();
    while !input.is_empty() {
        let [control] = take::<1>(&mut input)?;
        if control < 32 {
            let (run, rest) = input.split_at_checked(usize::from(control) + 1)?;
            out.extend_from_slice(run);
            input = rest;
        } else {
            let mut run = usize::from(control >> 5);
            if run == 7 {
                run += usize::from(take::<1>(&mut input)?[0]);
            }
            let low = usize::from(take::<1>(&mut input)?[0]);
            let back = (usize::from(control & 0x1f) << 8) + low + 1;
            let from = out.len().checked_sub(back)?;
            // A reference may run into what it writes itself.
            for at in from..from + run + 2 {
                out.push(out[at]);
            }
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

/// CRC-64 of Redis: Jones's polynomial, reflected, from 0.
fn crc64(bytes: &[u8]) -> u64 {
    const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
    static TABLE: LazyLock<[u64; 256]> = LazyLock::new(|| {
        std::array::from_fn(|byte| {
            (0..8).fold(byte as u64, |crc, _| match crc & 1 {
                0 => crc >> 1,
                _ => (crc >> 1) ^ POLYNOMIAL,
            })
        })
    });
    bytes.iter().fold(0, |crc, byte| {
        TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_redis() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn no_libraries_are_ten_bytes() {
        let bytes = encode(&Libraries::default());
        assert_eq!(bytes[..2], [10, 0]);
        assert_eq!((bytes.len(), decode(&bytes)), (10, Ok(vec![])));
    }

    #[test]
    fn what_is_broken_is_refused() {
        let wrong = "DUMP payload version or checksum are wrong";
        for payload in [&b"bad_payload"[..], b"", b"short"] {
            assert_eq!(decode(payload), Err(wrong.into()));
        }
        let mut bytes = vec![7, 10, 0];
        let sum = crc64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(decode(&bytes), Err("given type is not a function".into()));
    }

    #[test]
    fn packed_code_is_unpacked_and_never_beyond_its_length() {
        // "abc", then three bytes from three back, running into themselves.
        let packed = [2, b'a', b'b', b'c', 0x80, 2];
        assert_eq!(unpack(&packed, 9).as_deref(), Some(&b"abcabcabc"[..]));
        assert_eq!(unpack(&packed, 8), None);
        assert_eq!(unpack(&[0x20, 9], 3), None);
        assert_eq!(unpack(&[5, b'a'], 6), None);
    }
}
