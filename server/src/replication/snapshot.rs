//! The data set as Redis's RDB file, version 10.
//!
//! ```text
//! file      "REDIS0010" | aux ... | function ... | key ... | 0xff | CRC64 of all before it, u64 LE
//! aux       0xfa | name | value                      (strings)
//! function  0xf5 | code of the library               (string)
//! key       [0xfe | database] [0xfb | keys | of them with expiry]
//!           [0xfc | expiry unix ms, u64 LE] | type u8 | key | value
//! ```
//!
//! Keys come in order of their slots, so the database may be chosen more than
//! once. A collection of many rows is written element by element, in the form
//! that needs no more than its length ahead: memory is bounded by one string,
//! one stream, or one packed value.

use std::io::{self, Write};
use std::ops::ControlFlow;

use super::begin::Part;
use crate::rdb::{self, Form, put_length, put_string};
use crate::scripting::registry::Libraries;
use crate::storage::generations::{DATABASES, NONE};
use crate::storage::keys::{prefix, split};
use crate::storage::{Header, KeyType, MetaKey, Pin, Record};
use crate::txn::{CommandError, Expiry, Txn, TxnContext};
use crate::types::hash::Hash;
use crate::types::list::{End, List};
use crate::types::set::Set;
use crate::types::sorted_set::SortedSet;
use crate::types::sorted_set::place::Span;
use crate::types::{encoding, serial};

const AUX: u8 = 0xfa;
const RESIZE: u8 = 0xfb;
const EXPIRY_MS: u8 = 0xfc;
const SELECT: u8 = 0xfe;
const END: u8 = 0xff;
const FUNCTION: u8 = 0xf5;

/// What of the data set is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    pub data: bool,
    pub functions: bool,
}

impl Default for Contents {
    fn default() -> Contents {
        Contents {
            data: true,
            functions: true,
        }
    }
}

impl Contents {
    pub fn is_all(&self) -> bool {
        self.data && self.functions
    }
}

/// Writes an RDB file to `W`. Blocks.
pub(crate) struct SnapshotWriter<'w, W> {
    out: &'w mut W,
    sum: rdb::Checksum,
    /// What goes out next.
    buffer: Vec<u8>,
    /// The first error of `out`, where only `ControlFlow` can be answered.
    failed: Option<io::Error>,
}

/// Bytes that are gathered before they go out.
const FLUSH_AT: usize = 64 << 10;

impl<'w, W: Write> SnapshotWriter<'w, W> {
    pub fn new(out: &'w mut W) -> SnapshotWriter<'w, W> {
        SnapshotWriter {
            out,
            sum: rdb::Checksum::default(),
            buffer: Vec::with_capacity(2 * FLUSH_AT),
            failed: None,
        }
    }

    /// Writes the whole file.
    ///
    /// # Errors
    /// Of `out`, or as reads of the data.
    pub fn write(
        mut self,
        parts: Vec<Part>,
        libraries: &Libraries,
        contents: Contents,
        aux: &[(&str, String)],
    ) -> io::Result<()> {
        self.buffer.extend_from_slice(b"REDIS0010");
        for (name, value) in aux {
            self.buffer.push(AUX);
            put_string(&mut self.buffer, name.as_bytes());
            put_string(&mut self.buffer, value.as_bytes());
        }
        if contents.functions {
            for library in libraries.iter() {
                self.buffer.push(FUNCTION);
                put_string(&mut self.buffer, &library.code);
                self.flush_if_full()?;
            }
        }
        if contents.data {
            for part in parts {
                self.keys(&part.pin, part.context)?;
            }
        }
        self.buffer.push(END);
        self.flush()?;
        let sum = self.sum.value().to_le_bytes();
        self.out.write_all(&sum)?;
        self.out.flush()
    }

    /// Writes the keys alone.
    ///
    /// # Errors
    /// Of `out`, or as reads of the data.
    pub fn write_keys(mut self, parts: Vec<Part>) -> io::Result<()> {
        for part in parts {
            self.keys(&part.pin, part.context)?;
        }
        self.flush()?;
        self.out.flush()
    }

    fn keys(&mut self, pin: &Pin, context: TxnContext) -> io::Result<()> {
        let live = &pin.maps().live;
        // A replica is told by its master when keys go, and so are its own.
        let keeps_expired = context.expiry != Expiry::Collects;
        let mut txn = Txn::pinned(pin, context);
        let mut rows = pin.records();
        let mut selected = None;
        rows.seek_to_first();
        while let Some((row, value)) = rows.item() {
            let Some((slot, generation, name)) = split(row) else {
                return Err(corrupt("the key of a record"));
            };
            let Some(db) = live.database_of(slot, generation) else {
                // Dead rows: on to the next generation that is not.
                let next = (0..DATABASES).map(|db| live.get(db, slot));
                let next = next.filter(|g| *g != NONE && *g > generation).min();
                match (next, slot.checked_add(1)) {
                    (Some(next), _) => rows.seek(prefix(slot, next)),
                    (None, Some(slot)) => rows.seek(prefix(slot, 0)),
                    (None, None) => break,
                }
                continue;
            };
            let key = MetaKey::new(slot, generation, name);
            let record = Record::from_encoded(row, value);
            let header = record
                .header()
                .ok_or_else(|| corrupt("the header of a record"))?;
            // What has expired by now is told of as deleted, or not at all.
            let is_due = header.expires_at.is_some_and(|at| at < pin.log_time());
            if keeps_expired || !is_due {
                self.select(pin, &mut selected, db);
                if let Some(at) = header.expires_at {
                    self.buffer.push(EXPIRY_MS);
                    self.buffer.extend_from_slice(&at.to_le_bytes());
                }
                self.value(&mut txn, &key, &record, &header)
                    .map_err(failed)?;
                self.flush_if_full()?;
            }
            rows.next();
        }
        rows.status().map_err(io::Error::other)
    }

    fn select(&mut self, pin: &Pin, selected: &mut Option<usize>, db: usize) {
        if *selected == Some(db) {
            return;
        }
        self.buffer.push(SELECT);
        put_length(&mut self.buffer, db as u64);
        if selected.is_none() {
            // Only a hint of how much room to make.
            let live = &pin.maps().live;
            let runs = live.runs(db).into_iter();
            let counters = &pin.store().counters;
            let keys = runs
                .map(|(first, last, g)| counters.sum(g, first..=last))
                .sum();
            self.buffer.push(RESIZE);
            put_length(&mut self.buffer, keys);
            put_length(&mut self.buffer, 0);
        }
        *selected = Some(db);
    }

    fn value(
        &mut self,
        txn: &mut Txn<'_>,
        key: &MetaKey,
        record: &Record,
        header: &Header,
    ) -> Result<(), CommandError> {
        let name = key.user_key();
        if header.spread.is_some() && self.spread(txn, key, record, header)? {
            return Ok(());
        }
        let form = Form::of(encoding(record)?);
        let value = serial::read(txn, key, record)?;
        let (kind, body) = rdb::encode_body(&value, form);
        self.buffer.push(kind);
        put_string(&mut self.buffer, name);
        self.buffer.extend_from_slice(&body);
        Ok(())
    }

    /// A value of many rows, one by one. False: it is of another kind.
    fn spread(
        &mut self,
        txn: &mut Txn<'_>,
        key: &MetaKey,
        record: &Record,
        header: &Header,
    ) -> Result<bool, CommandError> {
        match header.key_type {
            KeyType::Hash => {
                let hash = Hash::of(key, record)?;
                self.begin(rdb::kind::HASH, key, hash.len());
                hash.each(txn, &mut |field, value| self.put(&[field, value], None))?;
            }
            KeyType::Set => {
                let set = Set::of(key, record)?;
                self.begin(rdb::kind::SET, key, set.len());
                set.each(txn, &mut |member, _| self.put(&[member], None))?;
            }
            KeyType::List => {
                let list = List::of(key, record)?;
                self.begin(rdb::kind::LIST, key, list.len());
                list.show(txn, 0..list.len(), End::Left, &mut |element| {
                    // An error is remembered.
                    let _ = self.put(&[element], None);
                })?;
            }
            KeyType::SortedSet => {
                let set = SortedSet::of(key, record.clone())?;
                self.begin(rdb::kind::ZSET_2, key, set.len());
                // From the highest down, which is cheap to insert, says Redis.
                set.visit(txn, &Span::ALL, true, &mut |score, member| {
                    self.put(&[member], Some(score))
                })?;
            }
            KeyType::String | KeyType::Stream => return Ok(false),
        }
        match self.failed.take() {
            Some(error) => Err(CommandError::line(error.to_string())),
            None => Ok(true),
        }
    }

    fn begin(&mut self, kind: u8, key: &MetaKey, len: u64) {
        self.buffer.push(kind);
        put_string(&mut self.buffer, key.user_key());
        put_length(&mut self.buffer, len);
    }

    fn put(&mut self, strings: &[&[u8]], score: Option<f64>) -> ControlFlow<()> {
        strings
            .iter()
            .for_each(|string| put_string(&mut self.buffer, string));
        if let Some(score) = score {
            self.buffer.extend_from_slice(&score.to_le_bytes());
        }
        match self.flush_if_full() {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed.get_or_insert(error);
                ControlFlow::Break(())
            }
        }
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        match self.buffer.len() >= FLUSH_AT {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sum.add(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        // One large value is no reason to keep its room.
        self.buffer.shrink_to(4 * FLUSH_AT);
        Ok(())
    }
}

fn corrupt(what: &'static str) -> io::Error {
    failed(CommandError::Corrupt(what))
}

fn failed(error: CommandError) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::commands::testing::Bench;
    use crate::rdb::Value;
    use crate::rdb::file::{FileReader, Item};
    use crate::storage::{Held, Log};

    const FIELDS: usize = 2000;

    fn items(bench: &Bench, pin: Pin) -> Vec<Item> {
        let mut file = Vec::new();
        let libraries = Libraries::default();
        let aux = [("redis-ver", "7.0.15".to_owned())];
        let writer = SnapshotWriter::new(&mut file);
        let all = Contents::default();
        let part = Part {
            group: 0,
            slots: Vec::new(),
            pin,
            context: bench.context,
        };
        writer.write(vec![part], &libraries, all, &aux).unwrap();
        let mut reader = FileReader::open(&file[..]).unwrap();
        std::iter::from_fn(|| reader.next_item().unwrap()).collect()
    }

    /// Rows that are on disk, of records and below them.
    fn rows(bench: &Bench) -> usize {
        let engine = bench.store.engine();
        [engine.meta, engine.data]
            .iter()
            .map(|family| {
                engine
                    .db
                    .iterator_cf(family, rocksdb::IteratorMode::Start)
                    .count()
            })
            .sum()
    }

    fn compact(bench: &Bench) {
        // Once to publish what is durable, once by that.
        bench.store.sync(Log::Wal).unwrap();
        bench.store.flush().unwrap();
        bench.store.compact();
    }

    #[test]
    fn a_pinned_data_set_stays_whole_while_all_of_it_becomes_garbage() {
        let mut bench = Bench::new();
        let pairs = (0..FIELDS)
            .map(|n| format!(" f{n} v{n}"))
            .collect::<String>();
        bench.run(&format!("HSET h{pairs}"));
        bench.run("SET k v PX 1000");
        bench.context.db = 3;
        bench.run("SADD s a");
        bench.context.db = 0;
        let hold = bench.store.hold_garbage(Held::Everything);
        assert!(!hold.is_pending());
        let pin = Pin::new(&bench.store, hold);
        bench.run("DEL h");
        bench.context.now += 10_000;
        bench.run("FLUSHALL");
        compact(&bench);
        let mut seen = Vec::new();
        for item in items(&bench, pin) {
            let Item::Key {
                name,
                payload,
                expires_at,
            } = item
            else {
                continue;
            };
            let name = String::from_utf8(name).unwrap();
            assert_eq!(expires_at.is_some(), name == "k");
            if let Value::Hash(pairs) = rdb::decode(rdb::verify(&payload).unwrap()).unwrap() {
                assert_eq!(pairs.len(), FIELDS);
            }
            seen.push(name);
        }
        seen.sort();
        assert_eq!(seen, ["h", "k", "s"]);
        let held = rows(&bench);
        assert!(held > FIELDS, "{held} rows");
        compact(&bench);
        assert!(
            rows(&bench) < FIELDS,
            "what was held is collected afterwards"
        );
    }

    #[test]
    fn what_has_expired_is_left_out_and_an_empty_set_is_a_whole_file() {
        let mut bench = Bench::new();
        let hold = |store: &Arc<crate::storage::Store>| store.hold_garbage(Held::Everything);
        let pin = Pin::new(&bench.store, hold(&bench.store));
        assert_eq!(items(&bench, pin), []);
        bench.run("SET k v PX 1");
        bench.context.now += 10;
        bench.run("SET l 1");
        let pin = Pin::new(&bench.store, hold(&bench.store));
        let names: Vec<Item> = items(&bench, pin);
        assert_eq!(names.len(), 2, "a database and one key: {names:?}");
    }
}
