//! Reading of arguments that many commands share.

use std::borrow::Cow;

use cairn_protocol::resp::number::parse_i64;

use super::long_double;
use crate::storage::generations::DATABASES;
use crate::txn::CommandError;

pub(super) const DB_OUT_OF_RANGE: CommandError =
    CommandError::fixed("ERR DB index is out of range");

/// Whether an argument is this word, in any case.
pub(super) fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// A client's word in an error line: nothing from a NUL byte on, because Redis prints
/// it as a C string. What is no UTF-8 is replaced.
pub(super) fn shown(word: &[u8]) -> Cow<'_, str> {
    let end = word.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&word[..end.unwrap_or(word.len())])
}

/// A 64-bit integer.
pub(super) fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    parse_i64(arg).ok_or(CommandError::NOT_AN_INTEGER)
}

/// A database index, which Redis reads as a C `int`.
pub(crate) fn database(arg: &[u8]) -> Result<usize, CommandError> {
    let index = integer(arg)?;
    if i32::try_from(index).is_err() {
        let (min, max) = (i32::MIN, i32::MAX);
        return Err(CommandError::line(format!(
            "ERR value is out of range, value must between {min} and {max}"
        )));
    }
    in_range(index)
}

/// An index that was read already, if there is such a database.
pub(super) fn in_range(index: i64) -> Result<usize, CommandError> {
    usize::try_from(index)
        .ok()
        .filter(|db| *db < DATABASES)
        .ok_or(DB_OUT_OF_RANGE)
}

/// What a command answers to a number of arguments that its arity admits and
/// its syntax does not.
pub(super) fn wrong_arity(command: &str) -> CommandError {
    CommandError::line(format!(
        "ERR wrong number of arguments for '{command}' command"
    ))
}

/// `ERR invalid expire time in '...' command`.
pub(super) fn invalid_expire(command: &str) -> CommandError {
    CommandError::line(format!("ERR invalid expire time in '{command}' command"))
}

/// How long a blocking command waits: seconds, perhaps with a fraction, as
/// milliseconds. 0: for ever.
pub(in crate::commands) fn timeout_seconds(arg: &[u8]) -> Result<u64, CommandError> {
    let millis = long_double::millis(arg).ok_or(CommandError::fixed(
        "ERR timeout is not a float or out of range",
    ))?;
    not_negative(millis)
}

/// The same given in whole milliseconds (XREAD BLOCK, WAIT).
pub(in crate::commands) fn timeout_millis(arg: &[u8]) -> Result<u64, CommandError> {
    let millis = parse_i64(arg).ok_or(CommandError::fixed(
        "ERR timeout is not an integer or out of range",
    ))?;
    not_negative(millis)
}

fn not_negative(millis: i64) -> Result<u64, CommandError> {
    u64::try_from(millis).map_err(|_| CommandError::fixed("ERR timeout is negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Result<u64, String> {
        timeout_seconds(text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn timeouts_are_read_as_redis_reads_them() {
        for (text, want) in [
            ("0", 0),
            ("1", 1000),
            ("0.1", 100),
            ("0.0001", 1),
            ("-0.0000001", 0),
            ("0x10", 16_000),
            ("9e15", 9_000_000_000_000_000_000),
        ] {
            assert_eq!(seconds(text), Ok(want), "{text}");
        }
        for text in ["-1", "-inf", "inf", "1e400", "9223372036854775807"] {
            assert_eq!(
                seconds(text).unwrap_err(),
                "ERR timeout is negative",
                "{text}"
            );
        }
        for text in ["", " 1", "nan", "abc", "1s"] {
            let line = "ERR timeout is not a float or out of range";
            assert_eq!(seconds(text).unwrap_err(), line, "{text}");
        }
        let millis = |text: &str| timeout_millis(text.as_bytes()).map_err(|e| e.to_string());
        assert_eq!(millis("7"), Ok(7));
        assert_eq!(millis("-1").unwrap_err(), "ERR timeout is negative");
        let line = "ERR timeout is not an integer or out of range";
        assert_eq!(millis("0.1").unwrap_err(), line);
    }
}
