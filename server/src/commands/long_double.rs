//! Arithmetic in C's `long double`, as Redis does it: sums of INCRBYFLOAT,
//! printed with 17 decimals and without trailing zeros, and timeouts given in
//! seconds. See `native/longdouble.c`.

use std::ffi::{c_char, c_int, c_longlong};

/// Texts of this length and longer are not read as floats.
pub(super) const TEXT_MAX: usize = 5120;

const NOT_A_FLOAT: c_int = -1;

unsafe extern "C" {
    fn cairn_long_double_add(
        a: *const c_char,
        a_len: usize,
        b: *const c_char,
        b_len: usize,
        out: *mut c_char,
    ) -> c_int;

    fn cairn_long_double_millis(text: *const c_char, len: usize, millis: *mut c_longlong) -> c_int;
}

/// Why there is no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddError {
    NotAFloat,
    NotFinite,
}

/// `a + b` as text.
pub(super) fn add(a: &[u8], b: &[u8]) -> Result<Vec<u8>, AddError> {
    let mut out = vec![0; TEXT_MAX];
    // SAFETY: both texts are given with their lengths, `out` has the length
    // that the function asks for, and it keeps no pointer.
    let len = unsafe {
        cairn_long_double_add(
            a.as_ptr().cast(),
            a.len(),
            b.as_ptr().cast(),
            b.len(),
            out.as_mut_ptr().cast(),
        )
    };
    match usize::try_from(len) {
        Ok(len) => {
            out.truncate(len);
            Ok(out)
        }
        Err(_) if len == NOT_A_FLOAT => Err(AddError::NotAFloat),
        Err(_) => Err(AddError::NotFinite),
    }
}

/// Seconds as milliseconds, rounded up; what does not fit is `i64::MIN`.
/// `None`: no float.
pub(super) fn millis(text: &[u8]) -> Option<i64> {
    let mut millis = 0;
    // SAFETY: the text is given with its length, and `millis` outlives the call.
    let outcome =
        unsafe { cairn_long_double_millis(text.as_ptr().cast(), text.len(), &raw mut millis) };
    (outcome != NOT_A_FLOAT).then_some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Result<String, AddError> {
        add(a.as_bytes(), b.as_bytes()).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn sums_are_printed_as_redis_prints_them() {
        for (a, b, want) in [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-0", "-0", "0"),
            ("0", "-0.0000000000000000001", "0"),
            ("1", "0x10", "17"),
            ("17179869184", "1.5", "17179869185.5"),
            ("9223372036854775807", "1", "9223372036854775808"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Ok(want), "{a} + {b}");
        }
        assert_eq!(sum("1e4900", "0").unwrap().len(), 4901);
    }

    #[test]
    fn what_is_no_float_is_refused() {
        for text in ["", " 1", "1 ", "abc", "1\0", "nan", "1e99999", "1e-99999"] {
            assert_eq!(sum(text, "1"), Err(AddError::NotAFloat), "{text:?}");
            assert_eq!(sum("1", text), Err(AddError::NotAFloat), "{text:?}");
        }
        assert_eq!(sum(&"1".repeat(TEXT_MAX), "1"), Err(AddError::NotAFloat));
    }

    #[test]
    fn an_infinite_sum_is_refused() {
        assert_eq!(sum("inf", "1"), Err(AddError::NotFinite));
        assert_eq!(sum("inf", "-inf"), Err(AddError::NotFinite));
        assert_eq!(sum("1e4932", "1e4932"), Err(AddError::NotFinite));
    }
}
