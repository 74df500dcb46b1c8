//! Hashes: packed into the record, or one row per field.
//!
//! ```text
//! packed   flags u8 | number of fields u16 BE | entries (`packed`): field, value, field, value ...
//! spread   header (version, number of fields) | flags u8
//! row      data, tag 1 (`members`): field -> value
//! flags    bit 0: Redis calls it a hashtable
//! ```
//!
//! A packed hash keeps the order in which its fields came, as Redis's
//! listpack. How large it may be is our matter (`PACKED_MAX`, and the number
//! of fields that `hash-max-listpack-entries` allows); what OBJECT ENCODING
//! calls it is Redis's, and has a flag: once a hashtable, always one.

use std::ops::{ControlFlow, Deref, Range};
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::decode;
use super::members::{Draw, ELEMENTS, Element, Members, Selection, Visit};
use super::packed::{self, Entries};
use super::rows::Rows;
use crate::storage::limits::PACKED_MAX;
use crate::storage::{Header, KeyType, MetaKey, Record, Spread};
use crate::txn::{CommandError, Txn};

const HASHTABLE: u8 = 1;
/// Bytes before the entries of a packed hash.
const PACKED_HEAD: usize = 3;

const CORRUPT: CommandError = CommandError::Corrupt("a hash");

/// A hash as its record shows it.
pub struct Hash<'r> {
    body: Body<'r>,
    is_hashtable: bool,
}

enum Body<'r> {
    Packed { count: u64, entries: &'r [u8] },
    Spread { fields: Members, size: u64 },
}

/// The value of a field.
pub enum Value<'r> {
    Packed(&'r [u8]),
    Row(Bytes),
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Value::Packed(bytes) => bytes,
            Value::Row(bytes) => bytes,
        }
    }
}

impl<'r> Hash<'r> {
    /// # Errors
    /// `WRONGTYPE` if the record is of another type.
    pub fn of(key: &MetaKey, record: &'r Record) -> Result<Hash<'r>, CommandError> {
        let (header, payload) = decode(record)?;
        if header.key_type != KeyType::Hash {
            return Err(CommandError::WRONG_TYPE);
        }
        let flags = *payload.first().ok_or(CORRUPT)?;
        let body = match header.spread {
            Some(spread) => Body::Spread {
                fields: Members::of(Rows::of(key, spread.version), ELEMENTS),
                size: spread.size,
            },
            None => {
                let (head, entries) = payload.split_at_checked(PACKED_HEAD).ok_or(CORRUPT)?;
                let count = u64::from(u16::from_be_bytes([head[1], head[2]]));
                Body::Packed { count, entries }
            }
        };
        Ok(Hash {
            body,
            is_hashtable: flags & HASHTABLE != 0,
        })
    }

    /// Number of fields.
    pub fn len(&self) -> u64 {
        match self.body {
            Body::Packed { count, .. } => count,
            Body::Spread { size, .. } => size,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of a spread hash; `None`: it is packed.
    pub fn rows(&self) -> Option<Members> {
        match self.body {
            Body::Packed { .. } => None,
            Body::Spread { fields, .. } => Some(fields),
        }
    }

    pub fn get(&self, txn: &mut Txn<'_>, field: &[u8]) -> Result<Option<Value<'r>>, CommandError> {
        match self.body {
            Body::Packed { entries, .. } => {
                Ok(find(entries, field)?.map(|found| Value::Packed(&entries[found.value])))
            }
            Body::Spread { fields, .. } => Ok(fields.get(txn, field)?.map(Value::Row)),
        }
    }

    /// Shows `visit` all fields with their values, until it breaks.
    ///
    /// # Errors
    /// `Corrupt` if there are not as many as the record says.
    pub fn each(&self, txn: &mut Txn<'_>, visit: &mut Visit<'_>) -> Result<(), CommandError> {
        let mut left = self.len();
        let mut stopped = false;
        let counting = &mut |field: &[u8], value: &[u8]| {
            left = left.wrapping_sub(1);
            let flow = visit(field, value);
            stopped = flow.is_break();
            flow
        };
        match self.body {
            Body::Packed { entries, .. } => each_packed(entries, counting)?,
            Body::Spread { fields, .. } => fields.each(txn, counting)?,
        }
        match stopped || left == 0 {
            true => Ok(()),
            false => Err(CORRUPT),
        }
    }

    /// One field with its value, each as likely as any other.
    pub fn random(&self, txn: &mut Txn<'_>) -> Result<Element, CommandError> {
        match self.body {
            Body::Packed { entries, count } => {
                let pairs = pairs(entries)?;
                let (field, value) = pairs[(txn.random() % count.max(1)) as usize];
                Ok((field.to_vec(), Bytes::copy_from_slice(value)))
            }
            Body::Spread { fields, size } => fields.random(txn, size)?.ok_or(CORRUPT),
        }
    }

    /// Shows `visit` `count` different fields, at most as many as there are,
    /// chosen at random, in no random order.
    pub fn sample(
        &self,
        txn: &mut Txn<'_>,
        count: u64,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), CommandError> {
        match self.body {
            Body::Packed {
                entries,
                count: size,
            } => {
                let mut selection = Selection::new(txn, size, count);
                each_packed(entries, &mut |field, value| {
                    if selection.takes_next() {
                        visit(field, value);
                    }
                    ControlFlow::Continue(())
                })
            }
            Body::Spread { fields, size } => fields.sample(txn, size, count, visit),
        }
    }

    /// Shows `visit` `count` fields, each drawn from all of them.
    pub fn draw(
        &self,
        txn: &mut Txn<'_>,
        count: u64,
        visit: &mut Draw<'_>,
    ) -> Result<(), CommandError> {
        match self.body {
            Body::Packed {
                entries,
                count: size,
            } => {
                let pairs = pairs(entries)?;
                for _ in 0..count {
                    let (field, value) = pairs[(txn.random() % size.max(1)) as usize];
                    visit(field, value)?;
                }
                Ok(())
            }
            Body::Spread { fields, size } => fields.draw(txn, size, count, visit),
        }
    }
}

/// What OBJECT ENCODING answers, by what follows a hash's header.
pub fn encoding(payload: &[u8]) -> &'static str {
    match payload.first() {
        Some(flags) if flags & HASHTABLE != 0 => "hashtable",
        _ => "listpack",
    }
}

/// A hash that is being changed; [`HashEdit::save`] writes its record.
pub struct HashEdit<'k> {
    key: &'k MetaKey,
    expires_at: Option<u64>,
    form: Form,
    is_hashtable: bool,
    /// Whether the record must be written: that of a spread hash changes
    /// less often than its rows.
    is_stale: bool,
}

enum Form {
    Packed { count: u64, entries: Vec<u8> },
    Spread { rows: Rows, size: u64 },
}

impl<'k> HashEdit<'k> {
    /// The hash that `old` is, or a new one.
    ///
    /// # Errors
    /// `WRONGTYPE` if the record is of another type.
    pub fn open(key: &'k MetaKey, old: Option<&Record>) -> Result<HashEdit<'k>, CommandError> {
        let mut edit = HashEdit {
            key,
            expires_at: None,
            form: Form::Packed {
                count: 0,
                entries: Vec::new(),
            },
            is_hashtable: false,
            is_stale: false,
        };
        if let Some(record) = old {
            let hash = Hash::of(key, record)?;
            let header = decode(record)?.0;
            edit.expires_at = header.expires_at;
            edit.is_hashtable = hash.is_hashtable;
            edit.form = match (hash.body, header.spread) {
                (Body::Packed { count, entries }, _) => {
                    let mut own = Vec::with_capacity(entries.len() + 64);
                    own.extend_from_slice(entries);
                    Form::Packed {
                        count,
                        entries: own,
                    }
                }
                (Body::Spread { size, .. }, Some(Spread { version, .. })) => Form::Spread {
                    rows: Rows::of(key, version),
                    size,
                },
                (Body::Spread { .. }, None) => return Err(CORRUPT),
            };
        }
        Ok(edit)
    }

    /// Number of fields.
    pub fn len(&self) -> u64 {
        match self.form {
            Form::Packed { count, .. } => count,
            Form::Spread { size, .. } => size,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Before fields and values are set: Redis looks at the lengths of all
    /// that a command brings first.
    pub fn note_length(&mut self, txn: &Txn<'_>, len: usize) {
        if len > txn.limits().hash_value.load(Ordering::Relaxed) {
            self.call_hashtable();
        }
    }

    fn call_hashtable(&mut self) {
        self.is_stale |= !self.is_hashtable;
        self.is_hashtable = true;
    }

    /// Sets a field and says whether it is new.
    pub fn set(
        &mut self,
        txn: &mut Txn<'_>,
        field: &[u8],
        value: &[u8],
    ) -> Result<bool, CommandError> {
        self.note_length(txn, field.len());
        self.note_length(txn, value.len());
        let is_new = match &mut self.form {
            Form::Packed { count, entries } => {
                self.is_stale = true;
                let is_new = set_packed(entries, field, value)?;
                *count += u64::from(is_new);
                is_new
            }
            Form::Spread { rows, size } => {
                let members = Members::of(*rows, ELEMENTS);
                let is_new = members.replace(txn, field, Bytes::copy_from_slice(value))?;
                *size += u64::from(is_new);
                self.is_stale |= is_new;
                is_new
            }
        };
        let limit = txn.limits().hash_entries.load(Ordering::Relaxed) as u64;
        if self.len() > limit {
            self.call_hashtable();
        }
        if let Form::Packed { count, entries } = &self.form
            && (*count > limit || entries.len() > PACKED_MAX)
        {
            self.spread(txn)?;
        }
        Ok(is_new)
    }

    /// Gives every field a row.
    fn spread(&mut self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        let Form::Packed { count, entries } = &self.form else {
            return Ok(());
        };
        let rows = Rows::create(txn, self.key);
        let members = Members::of(rows, ELEMENTS);
        each_packed(entries, &mut |field, value| {
            members.put(txn, field, Bytes::copy_from_slice(value));
            ControlFlow::Continue(())
        })?;
        self.form = Form::Spread { rows, size: *count };
        self.is_stale = true;
        Ok(())
    }

    /// Removes a field and says whether it was there.
    pub fn remove(&mut self, txn: &mut Txn<'_>, field: &[u8]) -> Result<bool, CommandError> {
        let removed = match &mut self.form {
            Form::Packed { count, entries } => match find(entries, field)? {
                None => false,
                Some(found) => {
                    entries.drain(found.pair);
                    *count -= 1;
                    true
                }
            },
            Form::Spread { rows, size } => {
                let removed = Members::of(*rows, ELEMENTS).remove(txn, field)?;
                *size = size.saturating_sub(u64::from(removed));
                removed
            }
        };
        self.is_stale |= removed;
        Ok(removed)
    }

    /// Writes the record if it must change; an empty hash is deleted.
    pub fn save(self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        if self.is_empty() {
            return txn.delete(self.key);
        }
        if !self.is_stale {
            return Ok(());
        }
        let flags = if self.is_hashtable { HASHTABLE } else { 0 };
        let header = Header::inline(KeyType::Hash, self.expires_at);
        let record = match self.form {
            Form::Packed { count, entries } => {
                let count = (count as u16).to_be_bytes();
                let head = [flags, count[0], count[1]];
                Record::from_parts(self.key, &header, &[&head, &entries])
            }
            Form::Spread { rows, size } => {
                let version = rows.version();
                let spread = Some(Spread::new(version, size));
                Record::new(self.key, &Header { spread, ..header }, &[flags])
            }
        };
        txn.put(self.key, record)
    }
}

// The packed form.

/// Field and value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// Where a field lies among packed entries.
struct Found {
    /// The value's bytes.
    value: Range<usize>,
    /// Both entries, lengths included.
    pair: Range<usize>,
}

fn find(packed: &[u8], field: &[u8]) -> Result<Option<Found>, CommandError> {
    let mut entries = Entries::of(packed);
    loop {
        let start = packed.len() - entries.remaining().len();
        let Some(name) = entries.try_next()? else {
            return Ok(None);
        };
        let value = entries.try_next()?.ok_or(CORRUPT)?;
        if name == field {
            let end = packed.len() - entries.remaining().len();
            return Ok(Some(Found {
                value: end - value.len()..end,
                pair: start..end,
            }));
        }
    }
}

/// Sets a field in its place, or at the end if it is new.
fn set_packed(entries: &mut Vec<u8>, field: &[u8], value: &[u8]) -> Result<bool, CommandError> {
    match find(entries, field)? {
        Some(found) if found.value.len() == value.len() => {
            entries[found.value].copy_from_slice(value);
            Ok(false)
        }
        Some(found) => {
            let start = found.pair.start + packed::entry_len(field.len());
            let mut entry = Vec::with_capacity(packed::entry_len(value.len()));
            packed::push(&mut entry, value);
            entries.splice(start..found.pair.end, entry);
            Ok(false)
        }
        None => {
            packed::push(entries, field);
            packed::push(entries, value);
            Ok(true)
        }
    }
}

fn each_packed(packed: &[u8], visit: &mut Visit<'_>) -> Result<(), CommandError> {
    let mut entries = Entries::of(packed);
    while let Some(field) = entries.try_next()? {
        let value = entries.try_next()?.ok_or(CORRUPT)?;
        if visit(field, value).is_break() {
            break;
        }
    }
    Ok(())
}

fn pairs(packed: &[u8]) -> Result<Vec<Pair<'_>>, CommandError> {
    let mut pairs = Vec::new();
    let mut entries = Entries::of(packed);
    while let Some(field) = entries.try_next()? {
        pairs.push((field, entries.try_next()?.ok_or(CORRUPT)?));
    }
    match pairs.is_empty() {
        false => Ok(pairs),
        true => Err(CORRUPT),
    }
}

#[cfg(test)]
#[path = "hash_tests.rs"]
mod tests;
