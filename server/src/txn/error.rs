//! What a command can fail with. `Display` is the RESP error line, without `-` and CRLF.

use std::borrow::Cow;

use cairn_protocol::link::ELSEWHERE;

/// The outcome of a command that did not answer.
#[derive(Debug)]
pub enum CommandError {
    /// Any ready error line, prefix included (`ERR …`, `WRONGTYPE …`).
    Line(Cow<'static, str>),
    /// What is needed is not in memory: undo, fetch off the thread, run again.
    Cold,
    /// A key expired between log time and now: answer through the writer,
    /// whose entry commits the time first (invariant 4). Also where only the writer
    /// knows the answer, or keeps it.
    NeedsTick,
    /// Nothing to answer with yet: undo, and run again when one of the
    /// command's keys has changed. `timeout_ms` 0: wait for ever.
    Block { timeout_ms: u64 },
    /// Too much for one piece, and somebody takes several: undo, and run again so
    /// that the reply leaves in pieces.
    Large,
    /// With this command the entry would be larger than the log takes, which is so many
    /// bytes: undo, and run again as the first of the next one. An answer only if
    /// nothing was before it.
    Full { most: usize },
    /// A script without keys uses one of this slot, which another group serves:
    /// undone, and to be run there ([`TxnContext::roams`](super::TxnContext)).
    Elsewhere(u16),
    /// The storage failed; the message names what was read.
    Storage(rocksdb::Error),
    /// Bytes on disk that this program cannot understand (invariant 12).
    Corrupt(&'static str),
}

impl CommandError {
    pub const WRONG_TYPE: CommandError =
        CommandError::fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub const SYNTAX: CommandError = CommandError::fixed("ERR syntax error");
    pub const NOT_AN_INTEGER: CommandError =
        CommandError::fixed("ERR value is not an integer or out of range");
    pub const NOT_A_FLOAT: CommandError = CommandError::fixed("ERR value is not a valid float");
    pub const OUT_OF_RANGE: CommandError = CommandError::fixed("ERR index out of range");
    pub const NO_SUCH_KEY: CommandError = CommandError::fixed("ERR no such key");

    /// An error line known at compile time.
    pub const fn fixed(line: &'static str) -> CommandError {
        CommandError::Line(Cow::Borrowed(line))
    }

    /// An error line made at run time.
    pub fn line(line: impl Into<String>) -> CommandError {
        CommandError::Line(Cow::Owned(line.into()))
    }

    /// Not an answer: the command must be run again elsewhere.
    pub fn is_retry(&self) -> bool {
        matches!(self, CommandError::Cold | CommandError::NeedsTick)
    }
}

/// The first word of an error, by which errors are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ErrorCode {
    bytes: [u8; ErrorCode::MOST],
    len: u8,
}

impl ErrorCode {
    /// Longer words are cut.
    const MOST: usize = 15;

    /// Of an error line, with or without its `-`.
    pub fn of(line: &[u8]) -> ErrorCode {
        let line = line.strip_prefix(b"-").unwrap_or(line);
        let mut code = ErrorCode::default();
        let word = line.iter().take_while(|b| b.is_ascii_graphic());
        for (byte, place) in word.zip(&mut code.bytes) {
            *place = *byte;
            code.len += 1;
        }
        code
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CommandError::Line(line) => f.write_str(line),
            CommandError::Cold => f.write_str("ERR the data could not be fetched from disk"),
            CommandError::Block { .. } => f.write_str("ERR the command cannot wait here"),
            CommandError::Large => f.write_str("ERR the reply is too large to be made whole"),
            CommandError::Full { most } => write!(
                f,
                "ERR the command changes more at once than an entry of the log takes ({most} \
                 bytes); split it up"
            ),
            CommandError::NeedsTick => f.write_str("ERR the group's clock could not be advanced"),
            CommandError::Elsewhere(slot) => write!(f, "{ELSEWHERE} {slot}"),
            CommandError::Storage(e) => write!(f, "ERR storage error: {}", e.as_ref()),
            CommandError::Corrupt(what) => write!(f, "ERR corrupt data on disk: {what}"),
        }
    }
}

impl std::error::Error for CommandError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CommandError::Storage(e) => Some(e),
            _ => None,
        }
    }
}

impl From<rocksdb::Error> for CommandError {
    fn from(e: rocksdb::Error) -> CommandError {
        match e.kind() {
            rocksdb::ErrorKind::Incomplete => CommandError::Cold,
            _ => CommandError::Storage(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errors_code_is_its_first_word() {
        assert_eq!(ErrorCode::of(b"-WRONGTYPE Operation").as_str(), "WRONGTYPE");
        assert_eq!(ErrorCode::of(b"ERR x\r\n").as_str(), "ERR");
        assert_eq!(ErrorCode::of(b"-NOPE\r\n").as_str(), "NOPE");
        assert_eq!(ErrorCode::of(b"").as_str(), "");
        assert_eq!(ErrorCode::of(&[b'A'; 99]).as_str(), "A".repeat(15));
    }
}
