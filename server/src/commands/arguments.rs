//! Reading of arguments that many commands share.

use cairn_protocol::resp::number::parse_i64;

use crate::storage::generations::DATABASES;
use crate::txn::CommandError;

pub(super) const DB_OUT_OF_RANGE: CommandError =
    CommandError::fixed("ERR DB index is out of range");

/// Whether an argument is this word, in any case.
pub(super) fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// A 64-bit integer.
pub(super) fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    parse_i64(arg).ok_or(CommandError::NOT_AN_INTEGER)
}

/// A database index, which Redis reads as a C `int`.
pub(super) fn database(arg: &[u8]) -> Result<usize, CommandError> {
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

/// `ERR invalid expire time in '...' command`.
pub(super) fn invalid_expire(command: &str) -> CommandError {
    CommandError::line(format!("ERR invalid expire time in '{command}' command"))
}
