//! What the table knows of one command.

use super::bits::{AclCategories, Flags, KeyFlags};
use super::docs::Docs;
use super::id::CommandId;
use super::keys::KeyFinder;

/// One command, or one subcommand of a container such as CONFIG.
///
/// Positions count the command's name as argument 0; a subcommand's own name
/// is argument 1. Negative positions count from the end, -1 is the last.
#[derive(Debug)]
pub struct CommandSpec {
    /// Lower case; a subcommand's is its full name, `config|get`.
    pub name: &'static str,
    pub id: CommandId,
    /// Exact number of arguments with the name, or minus the least number.
    pub arity: i32,
    pub flags: Flags,
    /// With those that follow from the flags.
    pub categories: AclCategories,
    /// First key of the range that covers the keys, 0 if there is none.
    pub first_key: i32,
    pub last_key: i32,
    /// Distance between two keys, 0 if there is no range.
    pub step: i32,
    pub key_specs: &'static [KeySpec],
    /// How keys are found that the key specs cannot describe fully.
    pub key_finder: Option<KeyFinder>,
    /// Hints for client libraries, such as `request_policy:multi_shard`.
    pub tips: &'static [&'static str],
    /// Not empty for a container; a container runs by itself only as COMMAND.
    pub subcommands: &'static [CommandSpec],
    pub docs: &'static Docs,
}

/// What every table entry starts from.
pub(super) const COMMAND: CommandSpec = CommandSpec {
    name: "",
    id: super::id::GET,
    arity: 0,
    flags: Flags::NONE,
    categories: AclCategories::NONE,
    first_key: 0,
    last_key: 0,
    step: 0,
    key_specs: &[],
    key_finder: None,
    tips: &[],
    subcommands: &[],
    docs: &Docs::EMPTY,
};

impl CommandSpec {
    /// The subcommand of that name, whatever the case of its letters.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static CommandSpec> {
        let prefix = self.name.len() + 1;
        self.subcommands
            .iter()
            .find(|sub| sub.name.as_bytes()[prefix..].eq_ignore_ascii_case(name))
    }

    pub fn is_container(&self) -> bool {
        !self.subcommands.is_empty()
    }

    /// Whether this is an entry such as `config|get`.
    pub fn is_subcommand(&self) -> bool {
        self.name.contains('|')
    }

    /// Whether `count` arguments, the name included, satisfy the arity.
    pub fn arity_accepts(&self, count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity > 0 {
            count == least
        } else {
            count >= least
        }
    }

    pub fn is_write(&self) -> bool {
        self.flags.contains(Flags::WRITE)
    }

    pub fn is_readonly(&self) -> bool {
        self.flags.contains(Flags::READONLY)
    }
}

impl PartialEq for CommandSpec {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for CommandSpec {}

/// One place where a command has keys: where it begins, how many there are,
/// and what the command does to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    pub begin_search: BeginSearch,
    pub find_keys: FindKeys,
    pub flags: KeyFlags,
    pub notes: Option<&'static str>,
}

/// Where the keys of a [`KeySpec`] begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginSearch {
    /// At that argument.
    Index(i32),
    /// After that keyword, looked for from an argument on; a negative start
    /// counts from the end and the search goes backwards.
    Keyword(&'static str, i32),
    Unknown,
}

/// Which arguments from the beginning on are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindKeys {
    /// `last` is relative to the first key, or negative: relative to the end.
    /// With `limit` n > 1 and `last` -1, only the first n-th part of the rest.
    Range {
        last: i32,
        step: i32,
        limit: i32,
    },
    /// The number of keys is itself an argument; `count` and `first` are
    /// relative to the beginning.
    KeyNum {
        count: i32,
        first: i32,
        step: i32,
    },
    Unknown,
}

impl KeySpec {
    pub(super) const fn new(
        begin_search: BeginSearch,
        find_keys: FindKeys,
        flags: KeyFlags,
    ) -> KeySpec {
        KeySpec {
            begin_search,
            find_keys,
            flags,
            notes: None,
        }
    }

    /// Keys from argument `first` to `last` (see [`FindKeys::Range`]).
    pub(super) const fn range(first: i32, last: i32, step: i32, flags: KeyFlags) -> KeySpec {
        let find = FindKeys::Range {
            last,
            step,
            limit: 0,
        };
        KeySpec::new(BeginSearch::Index(first), find, flags)
    }

    /// Keys that only the data or the whole command line can tell.
    pub(super) const fn unknown(flags: KeyFlags) -> KeySpec {
        KeySpec::new(BeginSearch::Unknown, FindKeys::Unknown, flags)
    }

    pub(super) const fn notes(mut self, notes: &'static str) -> KeySpec {
        self.notes = Some(notes);
        self
    }
}
