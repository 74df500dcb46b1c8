//! Which arguments of a request are keys.
//!
//! Two questions, as in Redis: [`CommandSpec::keys`] answers COMMAND GETKEYS
//! and ACLs (positions and what happens to each key), [`CommandSpec::one_slot`]
//! and [`CommandSpec::slots`] answer routing, where a shard channel counts as
//! a key and a malformed request counts as having none, so that whoever runs
//! it reports the syntax error.
//!
//! Arguments come from clients: no number in them is trusted, nothing here
//! panics or allocates for a count that was merely declared.

use bytes::Bytes;
use smallvec::SmallVec;

use super::bits::{Flags, KeyFlags};
use super::spec::{BeginSearch, CommandSpec, FindKeys, KeySpec};
use crate::slot::key_slot;

/// The arguments of a request, its name first.
pub trait ArgList {
    fn len(&self) -> usize;

    /// Argument `index`, which is below `len()`.
    fn get(&self, index: usize) -> &[u8];

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

macro_rules! arg_list_of_slices {
    ($($bytes:ty),*) => {$(
        impl ArgList for [$bytes] {
            fn len(&self) -> usize {
                <[$bytes]>::len(self)
            }

            fn get(&self, index: usize) -> &[u8] {
                &self[index]
            }
        }
    )*};
}

arg_list_of_slices!(&[u8], Vec<u8>, Bytes);

impl<T> ArgList for Vec<T>
where
    [T]: ArgList,
{
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn get(&self, index: usize) -> &[u8] {
        ArgList::get(self.as_slice(), index)
    }
}

impl ArgList for crate::resp::Args<'_> {
    fn len(&self) -> usize {
        crate::resp::Args::len(self)
    }

    fn get(&self, index: usize) -> &[u8] {
        crate::resp::Args::get(self, index)
    }
}

/// One key of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRef {
    /// Which argument it is.
    pub index: u32,
    pub flags: KeyFlags,
}

/// The keys of a request, in the order in which Redis reports them. The same
/// argument, or the same key, may be in it more than once.
pub type KeyList = SmallVec<[KeyRef; 4]>;

/// Why the keys of a request cannot be told. `Display` is the error that
/// COMMAND GETKEYS answers, without the leading `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    #[error("ERR The command has no key arguments")]
    NoKeyArguments,
    #[error("ERR Invalid number of arguments specified for command")]
    WrongArity,
    /// The arguments are malformed, or name no key where one is needed.
    #[error("ERR Invalid arguments specified for command")]
    InvalidArguments,
}

/// The keys of a request are in more than one slot. `Display` is the error
/// that a cluster answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("CROSSSLOT Keys in request don't hash to the same slot")]
pub struct CrossSlot;

/// How to find keys where the key specs are not enough, or their flags are
/// not exact. Positions count the command's name as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFinder {
    /// A number of keys at `count`, the keys from `first` on, and one more
    /// at `store` unless that is 0.
    Counted { count: u8, first: u8, store: u8 },
    /// SET: one key, read too if GET is given.
    Set,
    /// BITFIELD: one key, only read if all operations are GET.
    BitField,
    /// SORT: the source, and the target of the last STORE.
    Sort,
    /// SORT_RO: the source.
    SortRo,
    /// MIGRATE: the one key, or those after KEYS.
    Migrate,
    /// GEORADIUS, GEORADIUSBYMEMBER: the source, and the target of the last STORE or
    /// STOREDIST.
    GeoRadius,
    /// XREAD, XREADGROUP: the first half of what follows STREAMS.
    XRead,
}

const ONE_READ: KeyFlags = KeyFlags::RO.with(KeyFlags::ACCESS);
const READ_AND_UPDATED: KeyFlags = KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE);
const OVERWRITTEN: KeyFlags = KeyFlags::OW.with(KeyFlags::UPDATE);
const TAKEN: KeyFlags = KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE);

impl CommandSpec {
    /// Whether the command can have keys (shard channels are none).
    pub fn has_keys(&self) -> bool {
        self.key_finder.is_some()
            || self
                .key_specs
                .iter()
                .any(|spec| !spec.flags.contains(KeyFlags::NOT_KEY))
    }

    /// The keys of a request that begins with this command's name, and what
    /// the command does to each: what COMMAND GETKEYSANDFLAGS answers.
    ///
    /// An empty list is a request that legally has no keys (EVAL with 0).
    pub fn keys<A: ArgList + ?Sized>(&self, args: &A) -> Result<KeyList, KeysError> {
        if !self.has_keys() {
            return Err(KeysError::NoKeyArguments);
        }
        if !self.arity_accepts(args.len()) {
            return Err(KeysError::WrongArity);
        }
        let keys = self
            .keys_by_specs(args)
            .or_else(|| self.key_finder.map(|finder| finder.find(args)))
            .unwrap_or_default();
        if keys.is_empty() && !self.flags.contains(Flags::NO_MANDATORY_KEYS) {
            return Err(KeysError::InvalidArguments);
        }
        Ok(keys)
    }

    /// The slots of the arguments that decide where a request is sent, shard
    /// channels included, in order and with repetitions.
    pub fn slots<A: ArgList + ?Sized>(&self, args: &A) -> SmallVec<[u16; 4]> {
        let mut slots = SmallVec::new();
        self.each_routing_key(args, |index| {
            slots.push(key_slot(args.get(index)));
            true
        });
        slots
    }

    /// The slot of a request, or `None` if it has no keys.
    pub fn one_slot<A: ArgList + ?Sized>(&self, args: &A) -> Result<Option<u16>, CrossSlot> {
        let mut found = None;
        let agreed = self.each_routing_key(args, |index| {
            let slot = key_slot(args.get(index));
            *found.get_or_insert(slot) == slot
        });
        if agreed { Ok(found) } else { Err(CrossSlot) }
    }

    /// Positions of the arguments that decide where a request is sent.
    pub fn routing_keys<A: ArgList + ?Sized>(&self, args: &A) -> SmallVec<[u32; 4]> {
        let mut keys = SmallVec::new();
        self.each_routing_key(args, |index| {
            keys.push(index as u32);
            true
        });
        keys
    }

    /// Calls `visit` with the position of each routing key while it answers
    /// true; returns whether it always did. Allocates nothing for commands
    /// whose keys are a plain range.
    #[inline]
    fn each_routing_key<A: ArgList + ?Sized>(
        &self,
        args: &A,
        mut visit: impl FnMut(usize) -> bool,
    ) -> bool {
        if !self.arity_accepts(args.len()) {
            return true;
        }
        match self.key_finder {
            Some(finder) if self.flags.contains(Flags::MOVABLEKEYS) => finder
                .find(args)
                .iter()
                .all(|key| visit(key.index as usize)),
            _ => self.key_range(args.len()).all(visit),
        }
    }

    /// The range `first_key`, `last_key`, `step` in a request of `len`
    /// arguments; it never reaches beyond them.
    #[inline]
    fn key_range(&self, len: usize) -> std::iter::StepBy<std::ops::Range<usize>> {
        let step = self.step.max(1) as usize;
        let end = match self.last_key {
            0 => 0,
            last if last < 0 => (len + 1).saturating_sub(last.unsigned_abs() as usize),
            last => (last as usize + 1).min(len),
        };
        (self.first_key as usize..end).step_by(step)
    }

    /// The keys by the key specs alone; `None` if these are not reliable for
    /// this request.
    fn keys_by_specs<A: ArgList + ?Sized>(&self, args: &A) -> Option<KeyList> {
        let variable = |spec: &KeySpec| spec.flags.contains(KeyFlags::VARIABLE_FLAGS);
        if self.key_specs.iter().any(variable) {
            return None;
        }
        let mut keys = KeyList::new();
        for spec in self.key_specs {
            if !spec.flags.contains(KeyFlags::NOT_KEY) {
                spec.collect(args, &mut keys)?;
            }
        }
        Some(keys)
    }
}

impl KeySpec {
    /// Adds the keys that this spec finds; `None` if the request does not
    /// fit it, or if it may miss some.
    fn collect<A: ArgList + ?Sized>(&self, args: &A, keys: &mut KeyList) -> Option<()> {
        let begin = match self.begin_search {
            BeginSearch::Index(index) => index as i64,
            BeginSearch::Keyword(word, from) => match after_keyword(args, word, from) {
                Some(begin) => begin as i64,
                None => return Some(()),
            },
            BeginSearch::Unknown => return None,
        };
        let (first, last, step) = self.find_keys.range(args, begin)?;
        let len = args.len() as i64;
        if last >= len || last < first || first >= len {
            return None;
        }
        for index in (first..=last).step_by(step) {
            keys.push(KeyRef {
                index: index as u32,
                flags: self.flags,
            });
        }
        (!self.flags.contains(KeyFlags::INCOMPLETE)).then_some(())
    }
}

impl FindKeys {
    /// First and last position (perhaps out of bounds) and step of the keys
    /// that begin at `begin`.
    fn range<A: ArgList + ?Sized>(self, args: &A, begin: i64) -> Option<(i64, i64, usize)> {
        let len = args.len() as i64;
        match self {
            FindKeys::Range { last, step, limit } => {
                let last = match (last, limit) {
                    (0.., _) => begin + last as i64,
                    (_, 0) => len + last as i64,
                    (_, limit) => begin + (len - begin) / limit as i64 + last as i64,
                };
                Some((begin, last, step as usize))
            }
            FindKeys::KeyNum { count, first, step } => {
                let position = usize::try_from(begin + count as i64).ok()?;
                if position >= args.len() {
                    return None;
                }
                let declared = strict_number(args.get(position)).filter(|n| *n >= 0)?;
                let first = begin + first as i64;
                // Redis keeps the low 32 bits of the number, and so do we.
                Some((first, first + declared as i32 as i64 - 1, step as usize))
            }
            FindKeys::Unknown => None,
        }
    }
}

/// The position after the first argument that is `word`, looked for from
/// position `from` up to the last but one, or backwards from the end down to
/// position 2 if `from` is negative.
fn after_keyword<A: ArgList + ?Sized>(args: &A, word: &str, from: i32) -> Option<usize> {
    let len = args.len();
    let is_word = |index: &usize| args.get(*index).eq_ignore_ascii_case(word.as_bytes());
    let found = if from > 0 {
        (from as usize..len.saturating_sub(1)).find(is_word)
    } else {
        let start = len.checked_sub(from.unsigned_abs() as usize)?;
        (2..=start).rev().find(is_word)
    };
    found.map(|index| index + 1)
}

impl KeyFinder {
    /// The keys of a request of sufficient arity; none if it is malformed.
    fn find<A: ArgList + ?Sized>(self, args: &A) -> KeyList {
        match self {
            KeyFinder::Counted {
                count,
                first,
                store,
            } => counted_keys(args, count as usize, first as usize, store as usize),
            KeyFinder::Set => one_key(set_flags(args)),
            KeyFinder::BitField => one_key(bitfield_flags(args)),
            KeyFinder::Sort => sort_keys(args),
            KeyFinder::SortRo => one_key(ONE_READ),
            KeyFinder::Migrate => migrate_keys(args),
            KeyFinder::GeoRadius => georadius_keys(args),
            KeyFinder::XRead => xread_keys(args),
        }
    }
}

fn key_ref(index: usize, flags: KeyFlags) -> KeyRef {
    KeyRef {
        index: index as u32,
        flags,
    }
}

fn one_key(flags: KeyFlags) -> KeyList {
    smallvec::smallvec![key_ref(1, flags)]
}

fn is<A: ArgList + ?Sized>(args: &A, index: usize, word: &str) -> bool {
    args.get(index).eq_ignore_ascii_case(word.as_bytes())
}

fn counted_keys<A: ArgList + ?Sized>(
    args: &A,
    count: usize,
    first: usize,
    store: usize,
) -> KeyList {
    let declared = lenient_number(args.get(count));
    let room = args.len().saturating_sub(first);
    let declared = match usize::try_from(declared) {
        Ok(declared) if (1..=room).contains(&declared) => declared,
        _ => return KeyList::new(),
    };
    let mut keys: KeyList = (first..first + declared)
        .map(|index| key_ref(index, KeyFlags::NONE))
        .collect();
    if store != 0 {
        keys.push(key_ref(store, KeyFlags::NONE));
    }
    keys
}

fn set_flags<A: ArgList + ?Sized>(args: &A) -> KeyFlags {
    match (3..args.len()).any(|index| is(args, index, "get")) {
        true => READ_AND_UPDATED,
        false => OVERWRITTEN,
    }
}

fn bitfield_flags<A: ArgList + ?Sized>(args: &A) -> KeyFlags {
    let mut index = 2;
    while index < args.len() {
        let following = args.len() - index - 1;
        index += if is(args, index, "get") && following >= 2 {
            3
        } else if is(args, index, "overflow") && following >= 1 {
            2
        } else {
            return READ_AND_UPDATED;
        };
    }
    ONE_READ
}

fn sort_keys<A: ArgList + ?Sized>(args: &A) -> KeyList {
    let mut keys = one_key(ONE_READ);
    let mut target = None;
    let mut index = 2;
    while index < args.len() {
        if is(args, index, "limit") {
            index += 2;
        } else if is(args, index, "get") || is(args, index, "by") {
            index += 1;
        } else if is(args, index, "store") && index + 1 < args.len() {
            target = Some(index + 1);
        }
        index += 1;
    }
    keys.extend(target.map(|index| key_ref(index, OVERWRITTEN)));
    keys
}

fn migrate_keys<A: ArgList + ?Sized>(args: &A) -> KeyList {
    let mut index = 6;
    while index < args.len() {
        if is(args, index, "keys") {
            // A key and KEYS together are a syntax error: no keys then.
            let keys = if args.get(3).is_empty() {
                index + 1..args.len()
            } else {
                0..0
            };
            return keys.map(|index| key_ref(index, TAKEN)).collect();
        }
        index += match () {
            () if is(args, index, "auth") => 2,
            () if is(args, index, "auth2") => 3,
            () => 1,
        };
    }
    smallvec::smallvec![key_ref(3, TAKEN)]
}

fn georadius_keys<A: ArgList + ?Sized>(args: &A) -> KeyList {
    let mut keys = one_key(KeyFlags::NONE);
    let mut target = None;
    let mut index = 5;
    while index + 1 < args.len() {
        if is(args, index, "store") || is(args, index, "storedist") {
            index += 1;
            target = Some(index);
        }
        index += 1;
    }
    keys.extend(target.map(|index| key_ref(index, KeyFlags::NONE)));
    keys
}

fn xread_keys<A: ArgList + ?Sized>(args: &A) -> KeyList {
    let mut index = 1;
    while index < args.len() {
        if is(args, index, "streams") {
            let rest = args.len() - index - 1;
            let keys = match rest % 2 {
                0 => index + 1..index + 1 + rest / 2,
                _ => 0..0,
            };
            return keys.map(|index| key_ref(index, KeyFlags::NONE)).collect();
        }
        index += match () {
            () if is(args, index, "block") || is(args, index, "count") => 2,
            () if is(args, index, "group") => 3,
            () if is(args, index, "noack") => 1,
            () => break,
        };
    }
    KeyList::new()
}

/// A decimal number in its only canonical form, as Redis's `string2ll`.
fn strict_number(text: &[u8]) -> Option<i64> {
    crate::resp::number::parse_i64(text)
}

/// The number that a text begins with, 0 if none, as C's `atoi` does where
/// it clamps to 64 bits first and then keeps the low 32.
fn lenient_number(text: &[u8]) -> i32 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let value =
        digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0_i64, |value, byte| {
                let digit = i64::from(byte - b'0');
                let value = value.saturating_mul(10);
                match negative {
                    true => value.saturating_sub(digit),
                    false => value.saturating_add(digit),
                }
            });
    value as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_as_c_reads_it() {
        for (text, value) in [
            ("2", 2),
            (" 2", 2),
            ("+2x", 2),
            ("-3", -3),
            ("x", 0),
            ("", 0),
            ("4294967297", 1),
            ("99999999999999999999", -1),
            ("-99999999999999999999", 0),
        ] {
            assert_eq!(lenient_number(text.as_bytes()), value, "{text:?}");
        }
    }

    #[test]
    fn movable_keys_always_have_a_finder() {
        for spec in super::super::all() {
            if spec.flags.contains(Flags::MOVABLEKEYS) {
                assert!(spec.key_finder.is_some(), "{}", spec.name);
            }
        }
    }

    #[test]
    fn finders_and_ranges_stay_inside_the_least_arity() {
        for spec in super::super::all() {
            let least = spec.arity.unsigned_abs() as usize;
            let args = vec![b"1".to_vec(); least];
            for index in spec.routing_keys(&args) {
                assert!((index as usize) < least, "{}", spec.name);
            }
        }
    }
}
