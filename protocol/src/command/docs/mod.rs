//! What COMMAND DOCS says of each command; nothing here steers execution.
//!
//! One static per command in the file of its group, named as its id.

pub(in crate::command) mod bitmap;
pub(in crate::command) mod cluster;
pub(in crate::command) mod connection;
pub(in crate::command) mod generic;
pub(in crate::command) mod geo;
pub(in crate::command) mod hash;
pub(in crate::command) mod hyperloglog;
pub(in crate::command) mod list;
pub(in crate::command) mod pubsub;
pub(in crate::command) mod scripting;
pub(in crate::command) mod server;
pub(in crate::command) mod set;
pub(in crate::command) mod sorted_set;
pub(in crate::command) mod stream;
pub(in crate::command) mod string;
pub(in crate::command) mod transactions;

use super::bits::DocFlags;

/// The documentation of one command, as Redis 7.0 gives it.
#[derive(Debug)]
pub struct Docs {
    pub summary: &'static str,
    /// The Redis version that introduced the command.
    pub since: &'static str,
    pub group: Group,
    pub complexity: Option<&'static str>,
    pub doc_flags: DocFlags,
    pub deprecated_since: Option<&'static str>,
    pub replaced_by: Option<&'static str>,
    /// Version and what it changed.
    pub history: &'static [(&'static str, &'static str)],
    pub arguments: &'static [Argument],
}

impl Docs {
    pub(super) const EMPTY: Docs = Docs {
        summary: "",
        since: "",
        group: Group::Generic,
        complexity: None,
        doc_flags: DocFlags::NONE,
        deprecated_since: None,
        replaced_by: None,
        history: &[],
        arguments: &[],
    };
}

/// The chapter of the documentation in which a command is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    PubSub,
    Transactions,
    Connection,
    Server,
    Scripting,
    HyperLogLog,
    Cluster,
    Geo,
    Stream,
    Bitmap,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::PubSub => "pubsub",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Scripting => "scripting",
            Group::HyperLogLog => "hyperloglog",
            Group::Cluster => "cluster",
            Group::Geo => "geo",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
        }
    }
}

/// One argument in the syntax tree of a command.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    pub name: &'static str,
    pub kind: ArgumentKind,
    /// Which of the command's key specs describes it.
    pub key_spec_index: Option<u8>,
    /// The keyword that precedes the argument, or is the argument.
    pub token: Option<&'static str>,
    pub since: Option<&'static str>,
    pub deprecated_since: Option<&'static str>,
    pub optional: bool,
    pub multiple: bool,
    /// If `multiple`: the token is repeated too.
    pub multiple_token: bool,
    /// Parts of a block, choices of a one-of.
    pub arguments: &'static [Argument],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentKind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl ArgumentKind {
    pub fn name(self) -> &'static str {
        match self {
            ArgumentKind::String => "string",
            ArgumentKind::Integer => "integer",
            ArgumentKind::Double => "double",
            ArgumentKind::Key => "key",
            ArgumentKind::Pattern => "pattern",
            ArgumentKind::UnixTime => "unix-time",
            ArgumentKind::PureToken => "pure-token",
            ArgumentKind::OneOf => "oneof",
            ArgumentKind::Block => "block",
        }
    }
}

const fn argument(name: &'static str, kind: ArgumentKind) -> Argument {
    Argument {
        name,
        kind,
        key_spec_index: None,
        token: None,
        since: None,
        deprecated_since: None,
        optional: false,
        multiple: false,
        multiple_token: false,
        arguments: &[],
    }
}

const fn string(name: &'static str) -> Argument {
    argument(name, ArgumentKind::String)
}

const fn integer(name: &'static str) -> Argument {
    argument(name, ArgumentKind::Integer)
}

const fn double(name: &'static str) -> Argument {
    argument(name, ArgumentKind::Double)
}

const fn pattern(name: &'static str) -> Argument {
    argument(name, ArgumentKind::Pattern)
}

const fn unix_time(name: &'static str) -> Argument {
    argument(name, ArgumentKind::UnixTime)
}

const fn key(name: &'static str, key_spec: u8) -> Argument {
    argument(name, ArgumentKind::Key).key_spec(key_spec)
}

const fn pure_token(name: &'static str, token: &'static str) -> Argument {
    argument(name, ArgumentKind::PureToken).token(token)
}

const fn one_of(name: &'static str, choices: &'static [Argument]) -> Argument {
    let mut argument = argument(name, ArgumentKind::OneOf);
    argument.arguments = choices;
    argument
}

const fn block(name: &'static str, parts: &'static [Argument]) -> Argument {
    let mut argument = argument(name, ArgumentKind::Block);
    argument.arguments = parts;
    argument
}

impl Argument {
    const fn token(mut self, token: &'static str) -> Argument {
        self.token = Some(token);
        self
    }

    const fn key_spec(mut self, index: u8) -> Argument {
        self.key_spec_index = Some(index);
        self
    }

    const fn since(mut self, version: &'static str) -> Argument {
        self.since = Some(version);
        self
    }

    const fn deprecated_since(mut self, version: &'static str) -> Argument {
        self.deprecated_since = Some(version);
        self
    }

    const fn optional(mut self) -> Argument {
        self.optional = true;
        self
    }

    const fn multiple(mut self) -> Argument {
        self.multiple = true;
        self
    }

    const fn multiple_token(mut self) -> Argument {
        self.multiple_token = true;
        self
    }
}
