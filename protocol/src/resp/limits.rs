//! What a peer may send before it is cut off, and the errors that say so.
//!
//! Owns the numbers and the texts; the parser decides when they apply. The
//! texts are Redis's own, because clients and test suites match on them.

/// Bounds on one request. All sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest inline line, and longest header line of a multi-bulk request.
    pub max_inline: usize,
    /// Most arguments in one request, the command name included.
    pub max_args: usize,
    /// Longest argument (`proto-max-bulk-len`).
    pub max_bulk: usize,
    /// Longest request with all its headers (`client-query-buffer-limit`);
    /// values above [`Limits::MAX_REQUEST_BYTES`] are cut to it.
    pub max_request_bytes: usize,
    /// False until the client has authenticated: then the two small limits
    /// below apply as well.
    pub authenticated: bool,
}

impl Limits {
    /// Most arguments before authentication, as in Redis.
    pub const UNAUTHENTICATED_ARGS: usize = 10;
    /// Longest argument before authentication, as in Redis.
    pub const UNAUTHENTICATED_BULK: usize = 16 * 1024;
    /// Positions inside a batch are 32 bits wide; this keeps them so.
    pub const MAX_REQUEST_BYTES: usize = 3 << 30;

    /// The limits for a client that has yet to authenticate.
    ///
    /// Ask the parser for one request at a time under these limits: the next
    /// request may be allowed more because of this one.
    pub fn unauthenticated() -> Self {
        Self {
            authenticated: false,
            ..Self::default()
        }
    }

    /// Refuses a claimed argument count, or passes it on.
    pub(super) fn check_args(&self, claimed: usize) -> Result<usize, ProtocolError> {
        if claimed > self.max_args {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if !self.authenticated && claimed > Self::UNAUTHENTICATED_ARGS {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        Ok(claimed)
    }

    /// Refuses a claimed argument length, or passes it on. `before` is the
    /// part of the request that precedes the argument's bytes.
    pub(super) fn check_bulk(&self, claimed: usize, before: usize) -> Result<usize, ProtocolError> {
        if claimed > self.max_bulk {
            return Err(ProtocolError::InvalidBulkLength);
        }
        if !self.authenticated && claimed > Self::UNAUTHENTICATED_BULK {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        let most = self.max_request_bytes.min(Self::MAX_REQUEST_BYTES);
        if claimed.saturating_add(before).saturating_add(2) > most {
            return Err(ProtocolError::RequestTooBig);
        }
        Ok(claimed)
    }
}

impl Default for Limits {
    /// Redis's defaults, for an authenticated client.
    fn default() -> Self {
        Self {
            max_inline: 64 * 1024,
            max_args: i32::MAX as usize,
            max_bulk: 512 << 20,
            max_request_bytes: 1 << 30,
            authenticated: true,
        }
    }
}

/// Why a request stream cannot be read any further. The connection is closed
/// after the error line was sent.
///
/// `Display` is that line without the leading `-` and without CRLF; for a
/// byte-exact reply to a non-ASCII byte use [`ProtocolError::line`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("ERR Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    #[error("ERR Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    #[error("ERR Protocol error: invalid bulk length")]
    InvalidBulkLength,
    #[error("ERR Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// Something other than `$` where an argument must begin.
    #[error("ERR Protocol error: expected '$', got '{}'", printable(*.0))]
    ExpectedBulk(u8),
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    #[error("ERR Protocol error: too big inline request")]
    InlineTooBig,
    #[error("ERR Protocol error: too big mbulk count string")]
    MultibulkCountTooBig,
    #[error("ERR Protocol error: too big bulk count string")]
    BulkCountTooBig,
    /// Redis closes such a connection without a word; saying why is kinder.
    #[error("ERR Protocol error: request exceeds the query buffer limit")]
    RequestTooBig,
}

/// Redis maps line ends inside error texts to spaces.
fn printable(byte: u8) -> char {
    match byte {
        b'\r' | b'\n' => ' ',
        other => char::from(other),
    }
}

impl ProtocolError {
    /// The error line as bytes, without the leading `-` and without CRLF.
    pub fn line(&self) -> Vec<u8> {
        match self {
            // One raw byte, as Redis's %c; Display would make it UTF-8.
            Self::ExpectedBulk(byte) => {
                let mut line = b"ERR Protocol error: expected '$', got '".to_vec();
                line.push(if matches!(byte, b'\r' | b'\n') {
                    b' '
                } else {
                    *byte
                });
                line.push(b'\'');
                line
            }
            other => other.to_string().into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unauthenticated_clients_get_redis_small_limits() {
        let limits = Limits::unauthenticated();
        assert_eq!(limits.check_args(10), Ok(10));
        assert_eq!(
            limits.check_args(11),
            Err(ProtocolError::UnauthenticatedMultibulkLength)
        );
        assert_eq!(limits.check_bulk(16_384, 0), Ok(16_384));
        assert_eq!(
            limits.check_bulk(16_385, 0),
            Err(ProtocolError::UnauthenticatedBulkLength)
        );
    }

    #[test]
    fn a_request_is_bounded_as_a_whole() {
        let limits = Limits {
            max_request_bytes: 100,
            ..Limits::default()
        };
        assert_eq!(limits.check_bulk(88, 10), Ok(88));
        assert_eq!(limits.check_bulk(89, 10), Err(ProtocolError::RequestTooBig));
    }

    #[test]
    fn error_lines_are_those_of_redis() {
        assert_eq!(
            ProtocolError::ExpectedBulk(b':').to_string(),
            "ERR Protocol error: expected '$', got ':'"
        );
        assert_eq!(
            ProtocolError::ExpectedBulk(0xff).line(),
            b"ERR Protocol error: expected '$', got '\xff'"
        );
        assert_eq!(
            ProtocolError::ExpectedBulk(b'\n').line(),
            b"ERR Protocol error: expected '$', got ' '"
        );
    }
}
