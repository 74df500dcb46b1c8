//! Numbers as Redis reads and writes them.
//!
//! Pure functions. Integers follow `string2ll` and `string2ull`, doubles
//! `string2d` (C's `strtod` in the "C" locale) and `addReplyDouble`.

/// Longest text of a 64-bit integer that `string2ll` looks at.
const MAX_I64_TEXT: usize = 20;
/// Below this, every integral double has at most 17 digits, which is what
/// `%.17g` prints without an exponent.
const PLAIN_INTEGRAL: f64 = 1e17;

/// Reads a 64-bit signed integer: no plus sign, no leading zeros, no blanks,
/// no `-0`, as Redis's `string2ll`.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    if text == b"0" {
        return Some(0);
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if text.len() > MAX_I64_TEXT || !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    let mut value = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    match negative {
        true => 0_i64.checked_sub_unsigned(value),
        false => i64::try_from(value).ok(),
    }
}

/// Reads a 64-bit unsigned integer as Redis's `string2ull` (stream IDs,
/// cursors): what [`parse_i64`] reads, or else what C's `strtoull` reads whole,
/// with its leading blanks, signs and zeros.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    if let Some(value) = parse_i64(text) {
        return u64::try_from(value).ok();
    }
    let blanks = text
        .iter()
        .take_while(|b| matches!(b, b'\t'..=b'\r' | b' '));
    let text = &text[blanks.count()..];
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    // strtoull negates modulo 2^64.
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// Reads a double as Redis's `string2d`: decimal, hexadecimal (`0x1.8p3`),
/// `inf` and `infinity` in any case, with an optional sign. Refuses NaN,
/// blanks, anything left over, and what overflows or underflows to zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let magnitude = match rest {
        [b'0', b'x' | b'X', hex @ ..] => parse_hex(hex)?,
        [b'0'..=b'9' | b'.', ..] => parse_decimal(rest)?,
        _ if is_infinity(rest) => f64::INFINITY,
        _ => return None,
    };
    Some(if negative { -magnitude } else { magnitude })
}

fn is_infinity(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity")
}

fn parse_decimal(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let mantissa = text.split(|b| matches!(b, b'e' | b'E')).next()?;
    let is_zero = mantissa.iter().all(|b| matches!(b, b'0' | b'.'));
    // ERANGE: too large, or not zero but rounded to it.
    (value.is_finite() && (value != 0.0 || is_zero)).then_some(value)
}

/// Reads what follows `0x`, rounding half to even.
fn parse_hex(text: &[u8]) -> Option<f64> {
    let (digits, exponent) = match text.iter().position(|b| matches!(b, b'p' | b'P')) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let mut mantissa = 0_u64;
    let mut scale = 0_i64;
    let mut seen_digit = false;
    let mut seen_point = false;
    for byte in digits {
        if *byte == b'.' && !seen_point {
            seen_point = true;
            continue;
        }
        let digit = u64::from(char::from(*byte).to_digit(16)?);
        seen_digit = true;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
            scale -= if seen_point { 4 } else { 0 };
        } else {
            // Beyond 64 bits a digit can only break a tie.
            mantissa |= u64::from(digit != 0);
            scale += if seen_point { 0 } else { 4 };
        }
    }
    seen_digit.then_some(())?;
    scale_mantissa(mantissa, scale.saturating_add(exponent))
}

/// The decimal exponent after `p`, saturated: any huge one is out of range.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: i64, byte: &u8| {
        sum.saturating_mul(10)
            .saturating_add(i64::from(byte - b'0'))
    };
    Some(sign * digits.iter().fold(0_i64, add).min(1 << 40))
}

/// `mantissa * 2^exponent` rounded half to even; `None` when out of range.
fn scale_mantissa(mantissa: u64, exponent: i64) -> Option<f64> {
    if mantissa == 0 {
        return Some(0.0);
    }
    let shift = i64::from(mantissa.leading_zeros());
    let mantissa = mantissa << shift;
    // The value is mantissa * 2^(top - 63), with the top bit set.
    let top = exponent.saturating_sub(shift).saturating_add(63);
    // 53 bits are kept, fewer when subnormal.
    let dropped = if top >= -1022 { 11 } else { 11 + (-1022 - top) };
    if dropped > 64 {
        return None;
    }
    let kept = if dropped == 64 {
        0
    } else {
        mantissa >> dropped
    };
    let rest = (mantissa as u128) << (128 - dropped);
    let half = 1_u128 << 127;
    let up = rest > half || (rest == half && kept & 1 == 1);
    let rounded = kept + u64::from(up);
    if rounded == 0 || top > 1023 {
        return None;
    }
    // A carry out of the mantissa raises the exponent by itself, since the
    // hidden bit is added to the exponent field rather than masked away.
    let bits = match top >= -1022 {
        true => (((top + 1022) as u64) << 52) + rounded,
        false => rounded,
    };
    Some(f64::from_bits(bits)).filter(|value| value.is_finite())
}

/// Writes a double as Redis 7.0's `addReplyDouble` does: `inf`, `-inf`, or C's
/// `%.17g`.
pub fn format_f64(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(if value.is_sign_negative() {
            b"-nan"
        } else {
            b"nan"
        });
    } else if value.is_infinite() {
        out.extend_from_slice(if value < 0.0 { b"-inf" } else { b"inf" });
    } else if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() {
            b"-0"
        } else {
            b"0"
        });
    } else if value.abs() < PLAIN_INTEGRAL && value.trunc() == value {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        format_general(value, out);
    }
}

/// `%.17g` of a finite value that is not zero: 17 significant digits, trailing
/// zeros dropped, an exponent of at least two digits below 1e-4 or from 1e17.
fn format_general(value: f64, out: &mut Vec<u8>) {
    let text = format!("{:.16e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').expect("LowerExp writes an exponent");
    let exponent: i32 = exponent.parse().expect("LowerExp writes a number");
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let digits = digits.trim_end_matches('0').as_bytes();
    if value < 0.0 {
        out.push(b'-');
    }
    match exponent {
        -4..=-1 => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + (-exponent - 1) as usize, b'0');
            out.extend_from_slice(digits);
        }
        0..=16 => put_fixed(digits, exponent as usize + 1, out),
        _ => {
            put_fixed(digits, 1, out);
            let sign = if exponent < 0 { '-' } else { '+' };
            let tail = format!("e{sign}{:02}", exponent.unsigned_abs());
            out.extend_from_slice(tail.as_bytes());
        }
    }
}

/// Writes `digits` with the decimal point after `integral` of them.
fn put_fixed(digits: &[u8], integral: usize, out: &mut Vec<u8>) {
    if digits.len() <= integral {
        out.extend_from_slice(digits);
        out.resize(out.len() + integral - digits.len(), b'0');
        return;
    }
    out.extend_from_slice(&digits[..integral]);
    out.push(b'.');
    out.extend_from_slice(&digits[integral..]);
}
