//! From a name to its entry, without allocation.
//!
//! Both indexes are computed by the compiler from the table: `BY_ID`, and an
//! open-addressing hash table of the top-level names. Lookup folds case the
//! cheap way for hashing (bit 0x20), then compares exactly.

use super::id::{COUNT, CommandId};
use super::keys::ArgList;
use super::renamed::lookup_called;
use super::spec::{COMMAND, CommandSpec};
use super::table::GROUPS;

/// Slots of the hash table: a power of two, about a quarter of them used.
const SLOTS: usize = 1024;
const EMPTY: u16 = u16::MAX;
/// Found by trying: with it no name of the table needs more than two probes.
const MULTIPLIER: u64 = 0xfbce_dfc4_82f2_dc97;

static PLACEHOLDER: CommandSpec = COMMAND;
static BY_ID: [&CommandSpec; COUNT] = index_by_id();
/// Ids of top-level commands, by the hash of their names.
static BY_NAME: [u16; SLOTS] = index_by_name();

/// The top-level command of that name, whatever the case of its letters.
pub fn lookup(name: &[u8]) -> Option<&'static CommandSpec> {
    let mut slot = hash(name);
    loop {
        let id = BY_NAME[slot];
        if id == EMPTY {
            return None;
        }
        let spec = BY_ID[id as usize];
        if spec.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(spec);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// The command or subcommand of a full name: `get`, `config|get`.
pub fn lookup_full(name: &[u8]) -> Option<&'static CommandSpec> {
    match name.iter().position(|byte| *byte == b'|') {
        None => lookup(name),
        Some(bar) => lookup(&name[..bar])?.subcommand(&name[bar + 1..]),
    }
}

/// What the first one or two arguments of a request name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// A command, a subcommand, or a container that was called alone (whose
    /// arity then refuses it, except for COMMAND).
    Command(&'static CommandSpec),
    UnknownCommand,
    /// A known container with a subcommand that it does not have.
    UnknownSubcommand(&'static CommandSpec),
}

/// Finds the entry that a request runs, by the names that clients use; its
/// arity is not yet checked.
pub fn resolve<A: ArgList + ?Sized>(args: &A) -> Resolved {
    resolve_with(args, lookup_called)
}

/// The same for a request of our own making: by the names of the table.
pub fn resolve_own<A: ArgList + ?Sized>(args: &A) -> Resolved {
    resolve_with(args, lookup)
}

#[inline]
fn resolve_with<A: ArgList + ?Sized>(
    args: &A,
    find: fn(&[u8]) -> Option<&'static CommandSpec>,
) -> Resolved {
    if args.is_empty() {
        return Resolved::UnknownCommand;
    }
    let Some(spec) = find(args.get(0)) else {
        return Resolved::UnknownCommand;
    };
    if !spec.is_container() || args.len() == 1 {
        return Resolved::Command(spec);
    }
    match spec.subcommand(args.get(1)) {
        Some(leaf) => Resolved::Command(leaf),
        None => Resolved::UnknownSubcommand(spec),
    }
}

/// All commands and subcommands, by name; a container precedes its own.
pub fn all() -> impl ExactSizeIterator<Item = &'static CommandSpec> {
    BY_ID.iter().copied()
}

/// The top-level commands, by name.
pub fn top_level() -> impl Iterator<Item = &'static CommandSpec> {
    all().filter(|spec| !spec.is_subcommand())
}

impl CommandId {
    pub fn spec(self) -> &'static CommandSpec {
        BY_ID[self.index()]
    }
}

/// Slot of a name. Letters of either case hash alike; so do a few other
/// bytes, which the comparison then tells apart.
const fn hash(name: &[u8]) -> usize {
    let mut word = name.len() as u64;
    let mut i = 0;
    while i < name.len() {
        word = word.rotate_left(13) ^ (name[i] | 0x20) as u64;
        i += 1;
    }
    (word.wrapping_mul(MULTIPLIER) >> (64 - SLOTS.trailing_zeros())) as usize
}

const fn index_by_id() -> [&'static CommandSpec; COUNT] {
    let mut index = [&PLACEHOLDER; COUNT];
    let mut group = 0;
    while group < GROUPS.len() {
        index_commands(&mut index, GROUPS[group]);
        group += 1;
    }
    index
}

const fn index_commands(index: &mut [&'static CommandSpec], commands: &'static [CommandSpec]) {
    let mut i = 0;
    while i < commands.len() {
        index[commands[i].id.index()] = &commands[i];
        index_commands(index, commands[i].subcommands);
        i += 1;
    }
}

const fn index_by_name() -> [u16; SLOTS] {
    let mut slots = [EMPTY; SLOTS];
    let mut group = 0;
    while group < GROUPS.len() {
        let mut i = 0;
        while i < GROUPS[group].len() {
            let spec = &GROUPS[group][i];
            let mut slot = hash(spec.name.as_bytes());
            while slots[slot] != EMPTY {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = spec.id.index() as u16;
            i += 1;
        }
        group += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::super::id;
    use super::*;

    #[test]
    fn every_id_has_its_own_entry() {
        for (index, spec) in all().enumerate() {
            assert_eq!(spec.id.index(), index, "{}", spec.name);
            assert!(!spec.name.is_empty(), "no entry has id {index}");
        }
    }

    #[test]
    fn no_name_needs_many_probes() {
        for spec in top_level() {
            let mut slot = hash(spec.name.as_bytes());
            let mut probes = 1;
            while BY_NAME[slot] as usize != spec.id.index() {
                slot = (slot + 1) % SLOTS;
                probes += 1;
            }
            assert!(probes <= 3, "{} needs {probes} probes", spec.name);
        }
    }

    #[test]
    fn named_ids_point_at_their_commands() {
        assert_eq!(id::GET.spec().name, "get");
        assert_eq!(id::CONFIG_GET.spec().name, "config|get");
        assert_eq!(id::CLIENT_NO_EVICT.spec().name, "client|no-evict");
    }
}
