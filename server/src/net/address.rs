//! Where a client is.

use std::fmt;
use std::net::SocketAddr;

/// One end of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// The server's `unixsocket`: Redis calls both ends by its path.
    Unix(&'static str),
}

impl Address {
    /// Whether this is the server's own machine.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Tcp(address) => address.ip().is_loopback(),
            Address::Unix(_) => true,
        }
    }

    pub fn is_unix(&self) -> bool {
        matches!(self, Address::Unix(_))
    }

    /// The machine alone, as INFO tells it of a replica.
    pub fn host(&self) -> String {
        match self {
            Address::Tcp(address) => address.ip().to_string(),
            Address::Unix(_) => "/unixsocket".to_owned(),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp(address)
    }
}

/// `127.0.0.1:6379`, `[::1]:6379` or `/run/cairn.sock:0`, as Redis writes them.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "{path}:0"),
        }
    }
}
