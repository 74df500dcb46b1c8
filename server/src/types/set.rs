//! Sets: packed into the record, or one row per member.
//!
//! ```text
//! packed   form u8 | the form's own
//!   form 2, 4, 8   integers of so many bytes, ascending (`intset`)
//!   form 1         number of members u16 BE | entries (`packed`), in order of insertion
//! spread   header (version, number of members) | flags u8
//! row      data, tag 1 (`members`): member -> nothing
//! flags    bit 0: Redis calls it an intset
//! ```
//!
//! A set is integers until it meets another member, or more of them than
//! `set-max-intset-entries`; then it is what Redis 7.0 calls a hashtable for
//! good. How large a packed set may be is our matter.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cairn_protocol::resp::number::parse_i64;

use super::decode;
use super::intset::{Integers, IntegersEdit};
use super::members::{ELEMENTS, Members, Selection, Visit};
use super::packed::{self, Entries};
use super::rows::Rows;
use crate::storage::limits::PACKED_MAX;
use crate::storage::{Header, KeyType, MetaKey, Record, Spread};
use crate::txn::{CommandError, Txn};

const INTSET: u8 = 1;
/// Form of members that are not (all) integers.
const ENTRIES: u8 = 1;
/// Members of a packed set that are not all integers, at most: they are
/// searched one by one.
const ENTRIES_MAX: u64 = 128;
/// Redis's own bound of set-max-intset-entries.
const INTSET_MAX: u64 = 1 << 30;
/// Members, and bytes of them, that are read before they are shown.
const CHUNK: usize = 512;
const CHUNK_BYTES: usize = 256 << 10;

const CORRUPT: CommandError = CommandError::Corrupt("a set");

/// A set as its record shows it.
pub struct Set<'r> {
    body: Body<'r>,
}

enum Body<'r> {
    Integers(Integers<'r>),
    Entries {
        count: u64,
        entries: &'r [u8],
    },
    Spread {
        members: Members,
        size: u64,
        is_intset: bool,
    },
}

/// Is shown members, with the transaction to work on, until it breaks.
pub type VisitWith<'v> =
    dyn FnMut(&mut Txn<'_>, &[u8]) -> Result<ControlFlow<()>, CommandError> + 'v;

impl<'r> Set<'r> {
    /// # Errors
    /// `WRONGTYPE` if the record is of another type.
    pub fn of(key: &MetaKey, record: &'r Record) -> Result<Set<'r>, CommandError> {
        let (header, payload) = decode(record)?;
        if header.key_type != KeyType::Set {
            return Err(CommandError::WRONG_TYPE);
        }
        let (first, rest) = payload.split_first().ok_or(CORRUPT)?;
        let body = match (header.spread, *first) {
            (Some(spread), flags) => Body::Spread {
                members: Members::of(Rows::of(key, spread.version), ELEMENTS),
                size: spread.size,
                is_intset: flags & INTSET != 0,
            },
            (None, ENTRIES) => {
                let (count, entries) = rest.split_first_chunk().ok_or(CORRUPT)?;
                let count = u64::from(u16::from_be_bytes(*count));
                Body::Entries { count, entries }
            }
            (None, width) => Body::Integers(Integers::decode(width, rest).ok_or(CORRUPT)?),
        };
        Ok(Set { body })
    }

    /// Number of members.
    pub fn len(&self) -> u64 {
        match self.body {
            Body::Integers(integers) => integers.len() as u64,
            Body::Entries { count, .. } => count,
            Body::Spread { size, .. } => size,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of a spread set; `None`: it is packed.
    pub fn rows(&self) -> Option<Members> {
        match self.body {
            Body::Spread { members, .. } => Some(members),
            _ => None,
        }
    }

    /// Whether members are integers, which are shown in their order and not as
    /// their rows lie.
    pub fn is_intset(&self) -> bool {
        match self.body {
            Body::Integers(_) => true,
            Body::Entries { .. } => false,
            Body::Spread { is_intset, .. } => is_intset,
        }
    }

    pub fn contains(&self, txn: &mut Txn<'_>, member: &[u8]) -> Result<bool, CommandError> {
        match self.body {
            Body::Integers(integers) => {
                Ok(parse_i64(member).is_some_and(|value| integers.contains(value)))
            }
            Body::Entries { entries, .. } => Ok(find(entries, member)?.is_some()),
            Body::Spread { members, .. } => Ok(members.get(txn, member)?.is_some()),
        }
    }

    /// Shows `visit` all members (and nothing behind them), until it breaks.
    /// Integers come in their order.
    ///
    /// # Errors
    /// `Corrupt` if there are not as many as the record says.
    pub fn each(&self, txn: &mut Txn<'_>, visit: &mut Visit<'_>) -> Result<(), CommandError> {
        let (mut left, mut stopped) = (self.len(), false);
        let counting = &mut |member: &[u8], nothing: &[u8]| {
            left = left.wrapping_sub(1);
            let flow = visit(member, nothing);
            stopped = flow.is_break();
            flow
        };
        match self.body {
            Body::Integers(integers) => each_integer(integers.iter(), counting),
            Body::Entries { entries, .. } => each_entry(entries, counting)?,
            Body::Spread {
                members,
                is_intset: false,
                ..
            } => members.each(txn, counting)?,
            Body::Spread { members, .. } => {
                let mut integers = Vec::new();
                members.each(txn, &mut |member, _| {
                    integers.extend(parse_i64(member));
                    ControlFlow::Continue(())
                })?;
                integers.sort_unstable();
                each_integer(integers.into_iter(), counting);
            }
        }
        match stopped || left == 0 {
            true => Ok(()),
            false => Err(CORRUPT),
        }
    }

    /// [`Set::each`] for a visitor that works on the transaction meanwhile.
    /// It must not change this set.
    pub fn each_with(
        &self,
        txn: &mut Txn<'_>,
        visit: &mut VisitWith<'_>,
    ) -> Result<(), CommandError> {
        let Body::Spread { members, .. } = self.body else {
            return self.each_packed_with(txn, visit);
        };
        let mut chunk: Vec<Vec<u8>> = Vec::new();
        let mut cursor = 0;
        loop {
            let mut bytes = 0;
            cursor = members.page_while(txn, cursor, &mut |member, _, seen| {
                bytes += member.len();
                chunk.push(member.to_vec());
                seen < CHUNK && bytes < CHUNK_BYTES
            })?;
            for member in chunk.drain(..) {
                if visit(txn, &member)?.is_break() {
                    return Ok(());
                }
            }
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    fn each_packed_with(
        &self,
        txn: &mut Txn<'_>,
        visit: &mut VisitWith<'_>,
    ) -> Result<(), CommandError> {
        let mut outcome = Ok(());
        let shown = &mut |txn: &mut Txn<'_>, member: &[u8]| match visit(txn, member) {
            Ok(flow) => flow,
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        };
        match self.body {
            Body::Integers(integers) => {
                each_integer(integers.iter(), &mut |member, _| shown(txn, member));
            }
            Body::Entries { entries, .. } => {
                each_entry(entries, &mut |member, _| shown(txn, member))?;
            }
            Body::Spread { .. } => {}
        }
        outcome
    }

    /// One member, each as likely as any other.
    pub fn random(&self, txn: &mut Txn<'_>) -> Result<Vec<u8>, CommandError> {
        match self.body {
            Body::Spread { members, size, .. } => {
                let found = members.random(txn, size)?;
                found.map(|(member, _)| member).ok_or(CORRUPT)
            }
            _ => {
                let rank = txn.random() % self.len().max(1);
                self.nth_packed(txn, rank)
            }
        }
    }

    fn nth_packed(&self, txn: &mut Txn<'_>, rank: u64) -> Result<Vec<u8>, CommandError> {
        if let Body::Integers(integers) = self.body
            && rank < self.len()
        {
            return Ok(integers.get(rank as usize).to_string().into_bytes());
        }
        let (mut left, mut found) = (rank, None);
        self.each(txn, &mut |member, _| {
            if left == 0 {
                found = Some(member.to_vec());
                return ControlFlow::Break(());
            }
            left -= 1;
            ControlFlow::Continue(())
        })?;
        found.ok_or(CORRUPT)
    }

    /// Shows `visit` `count` different members, at most as many as there are,
    /// chosen at random, in no random order.
    pub fn sample(
        &self,
        txn: &mut Txn<'_>,
        count: u64,
        visit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), CommandError> {
        if let Body::Spread { members, size, .. } = self.body
            && count < size
        {
            return members.sample(txn, size, count, &mut |member, _| visit(member));
        }
        self.partition(txn, count, &mut |member, is_chosen| {
            if is_chosen {
                visit(member);
            }
        })
    }

    /// Shows `visit` all members, and whether each is one of `count` that are
    /// chosen at random.
    pub fn partition(
        &self,
        txn: &mut Txn<'_>,
        count: u64,
        visit: &mut dyn FnMut(&[u8], bool),
    ) -> Result<(), CommandError> {
        let mut selection = Selection::new(txn, self.len(), count);
        self.each(txn, &mut |member, _| {
            visit(member, selection.takes_next());
            ControlFlow::Continue(())
        })
    }

    /// Shows `visit` `count` members, each drawn from all of them, until it fails.
    pub fn draw(
        &self,
        txn: &mut Txn<'_>,
        count: u64,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        if let Body::Spread { members, size, .. } = self.body {
            return members.draw(txn, size, count, &mut |member, _| visit(member));
        }
        let mut all = Vec::new();
        self.each(txn, &mut |member, _| {
            all.push(member.to_vec());
            ControlFlow::Continue(())
        })?;
        for _ in 0..count {
            let rank = (txn.random() % self.len().max(1)) as usize;
            visit(all.get(rank).ok_or(CORRUPT)?)?;
        }
        Ok(())
    }
}

/// What OBJECT ENCODING answers, by what a set's header and its own bytes say.
pub fn encoding(header: &Header, payload: &[u8]) -> &'static str {
    let first = payload.first().copied().unwrap_or_default();
    let is_intset = match header.spread {
        Some(_) => first & INTSET != 0,
        None => first != ENTRIES,
    };
    if is_intset { "intset" } else { "hashtable" }
}

/// A set that is being changed; [`SetEdit::save`] writes its record.
pub struct SetEdit<'k> {
    key: &'k MetaKey,
    expires_at: Option<u64>,
    form: Form,
    /// Whether the record must be written.
    is_stale: bool,
}

enum Form {
    Integers(IntegersEdit),
    Entries {
        count: u64,
        entries: Vec<u8>,
    },
    Spread {
        rows: Rows,
        size: u64,
        is_intset: bool,
    },
}

impl<'k> SetEdit<'k> {
    /// A new set that is to be the value of `key`.
    pub fn new(key: &'k MetaKey, expires_at: Option<u64>) -> SetEdit<'k> {
        SetEdit {
            key,
            expires_at,
            form: Form::Integers(IntegersEdit::default()),
            is_stale: true,
        }
    }

    /// The set that `old` is, or a new one.
    ///
    /// # Errors
    /// `WRONGTYPE` if the record is of another type.
    pub fn open(key: &'k MetaKey, old: Option<&Record>) -> Result<SetEdit<'k>, CommandError> {
        let Some(record) = old else {
            return Ok(SetEdit::new(key, None));
        };
        let set = Set::of(key, record)?;
        let header = decode(record)?.0;
        let form = match (set.body, header.spread) {
            (Body::Integers(integers), _) => Form::Integers(integers.into()),
            (Body::Entries { count, entries }, _) => {
                let mut own = Vec::with_capacity(entries.len() + 64);
                own.extend_from_slice(entries);
                Form::Entries {
                    count,
                    entries: own,
                }
            }
            (
                Body::Spread {
                    size, is_intset, ..
                },
                Some(Spread { version, .. }),
            ) => Form::Spread {
                rows: Rows::of(key, version),
                size,
                is_intset,
            },
            (Body::Spread { .. }, None) => return Err(CORRUPT),
        };
        Ok(SetEdit {
            key,
            expires_at: header.expires_at,
            form,
            is_stale: false,
        })
    }

    /// Number of members.
    pub fn len(&self) -> u64 {
        match &self.form {
            Form::Integers(integers) => integers.view().len() as u64,
            Form::Entries { count, .. } => *count,
            Form::Spread { size, .. } => *size,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a member and says whether it is new.
    pub fn add(&mut self, txn: &mut Txn<'_>, member: &[u8]) -> Result<bool, CommandError> {
        let is_new = self.insert(txn, member)?;
        if is_new {
            self.is_stale = true;
            self.fit(txn)?;
        }
        Ok(is_new)
    }

    /// Adds a member that is known to be new: its row is not looked up.
    pub fn add_new(&mut self, txn: &mut Txn<'_>, member: &[u8]) -> Result<(), CommandError> {
        match &mut self.form {
            Form::Spread {
                rows,
                size,
                is_intset,
            } => {
                Members::of(*rows, ELEMENTS).put(txn, member, Bytes::new());
                *size += 1;
                *is_intset &= parse_i64(member).is_some();
                self.is_stale = true;
                self.fit(txn)
            }
            _ => self.add(txn, member).map(|_| ()),
        }
    }

    fn insert(&mut self, txn: &mut Txn<'_>, member: &[u8]) -> Result<bool, CommandError> {
        match &mut self.form {
            Form::Integers(integers) => match parse_i64(member) {
                Some(value) => Ok(integers.insert(value)),
                None => {
                    self.list_integers();
                    self.insert(txn, member)
                }
            },
            Form::Entries { count, entries } => {
                let is_new = find(entries, member)?.is_none();
                if is_new {
                    packed::push(entries, member);
                    *count += 1;
                }
                Ok(is_new)
            }
            Form::Spread {
                rows,
                size,
                is_intset,
            } => {
                let is_new = Members::of(*rows, ELEMENTS).insert(txn, member, Bytes::new())?;
                *size += u64::from(is_new);
                *is_intset &= parse_i64(member).is_some();
                Ok(is_new)
            }
        }
    }

    /// Makes entries of integers.
    fn list_integers(&mut self) {
        let Form::Integers(integers) = &self.form else {
            return;
        };
        let (mut count, mut entries) = (0, Vec::new());
        each_integer(integers.view().iter(), &mut |member, _| {
            packed::push(&mut entries, member);
            count += 1;
            ControlFlow::Continue(())
        });
        self.form = Form::Entries { count, entries };
    }

    /// Takes the form that the set's size asks for.
    fn fit(&mut self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        let limit = txn.limits().set_intset_entries.load(Ordering::Relaxed) as u64;
        let is_large = self.len() > limit.min(INTSET_MAX);
        match &mut self.form {
            Form::Integers(_) if is_large => self.list_integers(),
            Form::Integers(integers) if integers.bytes().len() > PACKED_MAX => {
                return self.spread(txn);
            }
            Form::Spread { is_intset, .. } => *is_intset &= !is_large,
            _ => {}
        }
        match &self.form {
            Form::Entries { count, entries }
                if *count > ENTRIES_MAX || entries.len() > PACKED_MAX =>
            {
                self.spread(txn)
            }
            _ => Ok(()),
        }
    }

    /// Gives every member a row.
    fn spread(&mut self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        let size = self.len();
        let rows = Rows::create(txn, self.key);
        let members = Members::of(rows, ELEMENTS);
        let put = &mut |member: &[u8], _: &[u8]| {
            members.put(txn, member, Bytes::new());
            ControlFlow::Continue(())
        };
        let is_intset = match &self.form {
            Form::Integers(integers) => {
                each_integer(integers.view().iter(), put);
                true
            }
            Form::Entries { entries, .. } => {
                each_entry(entries, put)?;
                false
            }
            Form::Spread { .. } => return Ok(()),
        };
        self.form = Form::Spread {
            rows,
            size,
            is_intset,
        };
        Ok(())
    }

    /// Removes a member and says whether it was there.
    pub fn remove(&mut self, txn: &mut Txn<'_>, member: &[u8]) -> Result<bool, CommandError> {
        let removed = match &mut self.form {
            Form::Integers(integers) => {
                parse_i64(member).is_some_and(|value| integers.remove(value))
            }
            Form::Entries { count, entries } => match find(entries, member)? {
                None => false,
                Some(range) => {
                    entries.drain(range);
                    *count -= 1;
                    true
                }
            },
            Form::Spread { rows, size, .. } => {
                let removed = Members::of(*rows, ELEMENTS).remove(txn, member)?;
                *size = size.saturating_sub(u64::from(removed));
                removed
            }
        };
        self.is_stale |= removed;
        Ok(removed)
    }

    /// Writes the record if it must change; an empty set is deleted.
    pub fn save(self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        if self.is_empty() {
            return txn.delete(self.key);
        }
        if !self.is_stale {
            return Ok(());
        }
        let header = Header::inline(KeyType::Set, self.expires_at);
        let record = match &self.form {
            Form::Integers(integers) => {
                let parts: [&[u8]; 2] = [&[integers.width()], integers.bytes()];
                Record::from_parts(self.key, &header, &parts)
            }
            Form::Entries { count, entries } => {
                let count = (*count as u16).to_be_bytes();
                let head = [ENTRIES, count[0], count[1]];
                Record::from_parts(self.key, &header, &[&head, entries])
            }
            Form::Spread {
                rows,
                size,
                is_intset,
            } => {
                let spread = Some(Spread::new(rows.version(), *size));
                let flags = if *is_intset { INTSET } else { 0 };
                Record::new(self.key, &Header { spread, ..header }, &[flags])
            }
        };
        txn.put(self.key, record)
    }
}

// The packed forms.

/// Where a member lies among packed entries, its length included.
fn find(packed: &[u8], member: &[u8]) -> Result<Option<std::ops::Range<usize>>, CommandError> {
    let mut entries = Entries::of(packed);
    loop {
        let start = packed.len() - entries.remaining().len();
        match entries.try_next()? {
            None => return Ok(None),
            Some(entry) if entry == member => {
                return Ok(Some(start..packed.len() - entries.remaining().len()));
            }
            Some(_) => {}
        }
    }
}

fn each_entry(packed: &[u8], visit: &mut Visit<'_>) -> Result<(), CommandError> {
    let mut entries = Entries::of(packed);
    while let Some(member) = entries.try_next()? {
        if visit(member, b"").is_break() {
            break;
        }
    }
    Ok(())
}

fn each_integer(integers: impl Iterator<Item = i64>, visit: &mut Visit<'_>) {
    let mut digits = itoa::Buffer::new();
    for value in integers {
        if visit(digits.format(value).as_bytes(), b"").is_break() {
            break;
        }
    }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
