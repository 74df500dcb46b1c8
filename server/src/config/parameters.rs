//! Every parameter: name, kind, default, and whether it does anything here.
//!
//! All parameters of Redis 7.0 are known, so that configurations and clients
//! written for Redis work unchanged; what has no meaning for a store on disk
//! is accepted, shown, and [`Effect::None`] says why it changes nothing.

mod table;

use std::sync::LazyLock;

pub(super) use self::table::LOG_LEVELS;
pub use self::table::PARAMETERS;

/// How a parameter's value is read, checked and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Text,
    /// A file or directory name without a path.
    FileName,
    HostName,
    ProcTitle,
    /// Least and greatest value.
    Integer(i128, i128),
    /// Bytes; units `k kb m mb g gb` are understood.
    Memory(i128, i128),
    /// The same, or `N%`; the least value is minus the greatest percentage.
    MemoryOrPercent(i128, i128),
    Octal(i128, i128),
    Enum(&'static [&'static str]),
    /// Several words of a list.
    FlagSet(&'static [&'static str]),
    /// Redis's words for levels, or those of everybody else.
    LogLevel,
    /// A time in milliseconds; `ms` and `s` are understood.
    Millis,
    Special(Special),
}

/// Parameters with a syntax of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Dir,
    Save,
    OutputBufferLimit,
    OomScoreAdj,
    KeyspaceEvents,
    Bind,
    ReplicaOf,
    Percentiles,
    Hz,
}

/// What changing a parameter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it says.
    Works,
    /// Nothing, and why.
    None(&'static str),
}

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    /// Its former name in Redis, or its name here; empty if there is none.
    pub alias: &'static str,
    pub kind: Kind,
    /// As CONFIG GET shows it.
    pub default: &'static str,
    flags: u8,
    pub effect: Effect,
}

const LIVE: u8 = 0;
const FIXED: u8 = 1;
const PROTECTED: u8 = 4;
const HIDDEN: u8 = 8;
const MULTI: u8 = 16;
/// Cairn's own.
const OWN: u8 = 32;

impl Parameter {
    /// Cannot be changed while the server runs.
    pub fn is_fixed(&self) -> bool {
        self.flags & FIXED != 0
    }

    /// Redis has no such parameter.
    pub fn is_own(&self) -> bool {
        self.flags & OWN != 0
    }

    /// Its value is a secret.
    pub fn is_sensitive(&self) -> bool {
        cairn_protocol::command::is_secret_parameter(self.name.as_bytes())
    }

    /// Changed at run time only if `enable-protected-configs` allows it.
    pub fn is_protected(&self) -> bool {
        self.flags & PROTECTED != 0
    }

    /// Shown by CONFIG GET only under its full name.
    pub fn is_hidden(&self) -> bool {
        self.flags & HIDDEN != 0
    }

    /// Takes several arguments.
    pub fn is_multi(&self) -> bool {
        self.flags & MULTI != 0
    }
}

/// The position of a parameter in [`PARAMETERS`], by its name or alias.
pub fn find(name: &[u8]) -> Option<usize> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    PARAMETERS
        .iter()
        .position(|p| p.name == name || (!p.alias.is_empty() && p.alias == name))
}

/// The known name that is most like a wrong one, if any is near.
pub fn suggestion(wrong: &str) -> Option<&'static str> {
    let wrong = wrong.to_ascii_lowercase();
    let names = PARAMETERS
        .iter()
        .flat_map(|p| [p.name, p.alias])
        .filter(|n| !n.is_empty());
    let distances = names.map(|name| (distance(&wrong, name), name));
    let most = (wrong.len() / 3).clamp(2, 4);
    distances
        .filter(|(d, _)| *d <= most)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein's distance between two short words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Names of Redis that are read and dropped, as Redis itself does.
pub const DROPPED: &[&str] = &[
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
];

/// Directives of Redis that are not parameters, and why they are refused.
pub const REFUSED: &[(&str, &str)] = &[
    ("loadmodule", "Redis modules cannot be loaded"),
    (
        "sentinel",
        "there is no Sentinel: a cluster fails over by itself",
    ),
];

/// Values of a configuration without any line.
pub(super) static DEFAULTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    PARAMETERS
        .iter()
        .map(|p| p.default.as_bytes().to_vec())
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lower_case() {
        let mut names: Vec<&str> = PARAMETERS
            .iter()
            .flat_map(|p| [p.name, p.alias])
            .filter(|n| !n.is_empty())
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|n| n.to_ascii_lowercase() == **n));
    }

    #[test]
    fn defaults_are_their_own_canonical_form() {
        for p in PARAMETERS {
            let default = p.default.as_bytes();
            let words = super::super::value::split_words(default);
            let args: Vec<&[u8]> = match p.is_multi() && !words.is_empty() {
                true => words.iter().map(Vec::as_slice).collect(),
                false => vec![default],
            };
            let read = super::super::value::read(p, &args, p.default.as_bytes());
            assert_eq!(read.as_deref(), Ok(p.default.as_bytes()), "{}", p.name);
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        assert_eq!(suggestion("appendfsinc"), Some("appendfsync"));
        assert_eq!(suggestion("MaxClient"), Some("maxclients"));
        assert_eq!(suggestion("utterly-unknown-thing"), None);
    }

    #[test]
    fn aliases_find_their_parameter() {
        assert_eq!(find(b"slave-priority"), find(b"REPLICA-PRIORITY"));
        assert_eq!(find(b""), None);
    }
}
