//! What clients call commands where that is not what the table says
//! (`rename-command` of a configuration).
//!
//! The table, rules of users and all that is shown keep the names of the table;
//! only what a client, a script or a replica asks for goes through here. Set
//! once, when a process starts.

use std::fmt;
use std::sync::OnceLock;

use super::id::CommandId;
use super::lookup::lookup;
use super::spec::CommandSpec;

static RENAMES: OnceLock<Renames> = OnceLock::new();

/// Names that mean something else than in the table. A few entries: searched
/// one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renames {
    /// A name, and what it runs now; `None`: nothing.
    names: Vec<(Vec<u8>, Option<CommandId>)>,
}

/// Why a command cannot be renamed, in Redis's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameError {
    NoSuchCommand,
    NameTaken,
}

impl fmt::Display for RenameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RenameError::NoSuchCommand => "No such command in rename-command",
            RenameError::NameTaken => "Target command name already exists",
        })
    }
}

impl std::error::Error for RenameError {}

impl Renames {
    /// From now on `to` is the command that `from` was; an empty `to`: nothing is.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), RenameError> {
        let spec = self.find(from).ok_or(RenameError::NoSuchCommand)?;
        if !to.is_empty() && !to.eq_ignore_ascii_case(from) && self.find(to).is_some() {
            return Err(RenameError::NameTaken);
        }
        self.set(from, None);
        if !to.is_empty() {
            self.set(to, Some(spec.id));
        }
        Ok(())
    }

    fn set(&mut self, name: &[u8], means: Option<CommandId>) {
        match self
            .names
            .iter_mut()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
        {
            Some(entry) => entry.1 = means,
            None => self.names.push((name.to_vec(), means)),
        }
    }

    /// The command that a client means by a name.
    pub fn find(&self, name: &[u8]) -> Option<&'static CommandSpec> {
        let mut renamed = self.names.iter();
        match renamed.find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, means)) => means.map(CommandId::spec),
            None => lookup(name),
        }
    }

    /// Whether some name leads to a command.
    pub fn reaches(&self, spec: &CommandSpec) -> bool {
        let top = spec.name.split('|').next().unwrap_or_default().as_bytes();
        let same = |found: &CommandSpec| found.name.as_bytes() == top;
        self.find(top).is_some_and(same)
            || self
                .names
                .iter()
                .any(|(_, means)| means.is_some_and(|id| same(id.spec())))
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Makes them those of this process. Later calls change nothing.
    pub fn install(self) {
        if !self.is_empty() {
            let _ = RENAMES.set(self);
        }
    }
}

/// Whether any command of this process has another name than in the table.
pub fn has_renamed() -> bool {
    RENAMES.get().is_some()
}

/// The top-level command that a client means by a name.
#[inline]
pub fn lookup_called(name: &[u8]) -> Option<&'static CommandSpec> {
    match RENAMES.get() {
        None => lookup(name),
        Some(renames) => renames.find(name),
    }
}

/// The same of a full name: `get`, `config|get`.
pub fn lookup_called_full(name: &[u8]) -> Option<&'static CommandSpec> {
    match name.iter().position(|byte| *byte == b'|') {
        None => lookup_called(name),
        Some(bar) => lookup_called(&name[..bar])?.subcommand(&name[bar + 1..]),
    }
}

/// Whether a client can ask for a command at all.
pub fn is_reachable(spec: &CommandSpec) -> bool {
    RENAMES.get().is_none_or(|renames| renames.reaches(spec))
}

#[cfg(test)]
mod tests {
    use super::super::{id, top_level};
    use super::*;

    fn found(renames: &Renames, name: &str) -> Option<&'static str> {
        renames.find(name.as_bytes()).map(|spec| spec.name)
    }

    #[test]
    fn a_renamed_command_has_its_new_name_alone() {
        let mut renames = Renames::default();
        renames.rename(b"FlushDB", b"Badger").unwrap();
        assert_eq!(found(&renames, "flushdb"), None);
        assert_eq!(found(&renames, "BADGER"), Some("flushdb"));
        assert_eq!(found(&renames, "flushall"), Some("flushall"));
        assert!(renames.reaches(id::FLUSHDB.spec()));
    }

    #[test]
    fn an_empty_name_takes_a_command_away_with_its_subcommands() {
        let mut renames = Renames::default();
        renames.rename(b"config", b"").unwrap();
        assert_eq!(found(&renames, "config"), None);
        assert!(!renames.reaches(id::CONFIG_GET.spec()));
        assert!(renames.reaches(id::GET.spec()));
        assert_eq!(
            renames.rename(b"config", b"x"),
            Err(RenameError::NoSuchCommand)
        );
    }

    #[test]
    fn names_may_be_exchanged_but_not_taken() {
        let mut renames = Renames::default();
        assert_eq!(renames.rename(b"get", b"set"), Err(RenameError::NameTaken));
        renames.rename(b"get", b"old-get").unwrap();
        renames.rename(b"set", b"get").unwrap();
        renames.rename(b"old-get", b"set").unwrap();
        assert_eq!(found(&renames, "get"), Some("set"));
        assert_eq!(found(&renames, "set"), Some("get"));
        assert_eq!(found(&renames, "old-get"), None);
        assert!(renames.reaches(id::GET.spec()));
        assert_eq!(renames.rename(b"ping", b"PING"), Ok(()));
        assert_eq!(found(&renames, "ping"), Some("ping"));
        assert_eq!(
            renames.rename(b"config|get", b"x"),
            Err(RenameError::NoSuchCommand)
        );
    }

    #[test]
    fn every_command_is_reached_where_none_is_renamed() {
        for spec in top_level() {
            assert!(is_reachable(spec));
        }
    }
}
