//! Numbers against Redis's rules and against the C library that Redis uses.

use std::ffi::CString;

use cairn_protocol::resp::number::{format_f64, parse_f64, parse_i64, parse_u64};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn formatted(value: f64) -> String {
    let mut text = Vec::new();
    format_f64(value, &mut text);
    String::from_utf8(text).unwrap()
}

/// C's `%.17g`.
fn c_formatted(value: f64) -> String {
    let mut buffer = [0_u8; 64];
    // SAFETY: the format matches the argument, and the size is the buffer's.
    let length = unsafe {
        libc::snprintf(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            c"%.17g".as_ptr(),
            value,
        )
    };
    String::from_utf8(buffer[..length as usize].to_vec()).unwrap()
}

/// Redis's `string2d`, by C's `strtod`.
fn c_parsed(text: &[u8]) -> Option<f64> {
    let string = CString::new(text).ok()?;
    let mut end = std::ptr::null_mut();
    // SAFETY: the string ends with NUL; errno belongs to this thread.
    let (value, consumed, out_of_range) = unsafe {
        *libc::__errno_location() = 0;
        let value = libc::strtod(string.as_ptr(), &mut end);
        let out_of_range = *libc::__errno_location() == libc::ERANGE;
        (
            value,
            end.offset_from(string.as_ptr()) as usize,
            out_of_range,
        )
    };
    let blank = text
        .first()
        .is_none_or(|b| b.is_ascii_whitespace() || *b == 0x0b);
    let lost = out_of_range && (value.is_infinite() || value == 0.0);
    (!blank && consumed == text.len() && !lost && !value.is_nan()).then_some(value)
}

#[test]
fn integers_are_strict_as_in_string2ll() {
    for (text, value) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("18446744073709551617", None),
        ("100000000000000000000", None),
        ("", None),
        ("-", None),
        ("-0", None),
        ("+1", None),
        ("01", None),
        ("00", None),
        (" 1", None),
        ("1 ", None),
        ("1a", None),
        ("1.0", None),
    ] {
        assert_eq!(parse_i64(text.as_bytes()), value, "{text:?}");
    }
}

#[test]
fn unsigned_integers_are_as_lenient_as_string2ull() {
    for (text, value) in [
        ("0", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("-1", None),
        ("007", Some(7)),
        ("+7", Some(7)),
        (" \t7", Some(7)),
        ("\x0b7", Some(7)),
        ("7 ", None),
        ("", None),
        ("-", None),
        ("x", None),
        // strtoull's own rule: negated modulo 2^64.
        ("-01", Some(u64::MAX)),
    ] {
        assert_eq!(parse_u64(text.as_bytes()), value, "{text:?}");
    }
}

#[test]
fn doubles_are_read_as_strtod_reads_them() {
    let texts = "0 -0 1 +1 -1.5 .5 5. . 1e5 1E+5 1e-5 1e 1e+ e5 1e400 -1e400 1e-400 0e-400 \
        4.9e-324 2e-324 2.4703282292062328e-324 1.7976931348623157e308 1.7976931348623159e308 \
        inf -inf +inf INF Infinity -infinity infinit infx nan -nan NaN nan(1) \
        0x 0x. 0xp1 0x1 0X1F 0x.8 0x1. 0x1.8p3 0x1p 0x1p+ 0x1p-1 0x1p1024 0x1p1023 0x1p-1074 \
        0x1p-1075 0x1.8p-1075 0x1.0000000000001p-1075 0x1.fffffffffffff7p1023 \
        0x1.fffffffffffff8p1023 0x1.00000000000008p0 0x1.00000000000018p0 \
        0x1.000000000000080000000001p0 0x123456789abcdef0123456789p-4 0x1p99999999999999999999 \
        0x0p99999999999999999999 0x0.0000000000000000000000001p100 0x1.8.0 0x1g -0x1p4 \
        0x0.fffffffffffffp-1022 0x0.fffffffffffff8p-1022 1_0 1,5 0b1 --1 +-1 1e5.0";
    let mut texts: Vec<&[u8]> = texts.split_whitespace().map(str::as_bytes).collect();
    texts.extend([
        &b""[..],
        b" 1",
        b"1 ",
        b"\x0b1",
        b"\t1",
        b"1\n",
        b"\xff",
        b"-",
        b"+",
    ]);
    for text in texts {
        let expected = c_parsed(text).map(f64::to_bits);
        let shown = text.escape_ascii();
        assert_eq!(parse_f64(text).map(f64::to_bits), expected, "{shown}");
    }
    assert_eq!(parse_f64(b"1\x00"), None);
}

#[test]
fn random_texts_are_read_as_strtod_reads_them() {
    let mut rng = StdRng::seed_from_u64(1);
    let marks = b"0123456789999..eE+-xXpPabfinINF ";
    for _ in 0..200_000 {
        let len = rng.random_range(0..12);
        let mut text: Vec<u8> = (0..len)
            .map(|_| marks[rng.random_range(0..marks.len())])
            .collect();
        if rng.random_ratio(1, 3) {
            text.splice(0..0, *b"0x");
        }
        let expected = c_parsed(&text).map(f64::to_bits);
        assert_eq!(
            parse_f64(&text).map(f64::to_bits),
            expected,
            "{}",
            text.escape_ascii()
        );
    }
}

#[test]
fn doubles_are_written_as_printf_writes_them() {
    let mut values = vec![
        0.0,
        -0.0,
        1.0,
        0.1,
        1e16,
        1e17,
        1e18,
        123456789012345680.0,
        1e-4,
        1e-5,
        0.00012345,
        1.5e300,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        -2.5,
        99999999999999990.0,
        1e22,
        1e23,
        // Exact ties at the seventeenth digit: half to even.
        2251799813685248.25,
        2251799813685248.75,
        1125899906842624.125,
    ];
    let mut rng = StdRng::seed_from_u64(2);
    for _ in 0..200_000 {
        values.push(f64::from_bits(rng.random()));
        values.push(rng.random_range(-1e18..1e18));
        values.push(f64::from(rng.random::<i32>()) / 100.0);
        values.push(rng.random_range(0..1_i64 << 53) as f64 / 4.0);
        values.push(rng.random_range(0..1_i64 << 53) as f64 / 1024.0);
    }
    for value in values.into_iter().filter(|value| !value.is_nan()) {
        assert_eq!(formatted(value), c_formatted(value), "{value:e}");
        if value.is_finite() {
            let read = parse_f64(formatted(value).as_bytes());
            assert_eq!(read.map(f64::to_bits), Some(value.to_bits()), "{value:e}");
        }
    }
    assert_eq!(formatted(f64::NAN), "nan");
    assert_eq!(formatted(-f64::NAN), "-nan");
}

proptest! {
    #[test]
    fn every_integer_is_read_back(value: i64, unsigned: u64) {
        prop_assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
        prop_assert_eq!(parse_u64(unsigned.to_string().as_bytes()), Some(unsigned));
    }

    #[test]
    fn an_integer_has_exactly_one_text(text in "[-+0-9 ]{0,22}") {
        let canonical = text.parse::<i64>().ok().filter(|value| value.to_string() == text);
        prop_assert_eq!(parse_i64(text.as_bytes()), canonical);
    }
}
