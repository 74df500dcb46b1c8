//! A command's view of the data: what it may read and change.
//!
//! A [`Txn`] is made by the dispatcher for one command. For a write it reads
//! through the batch's overlay and changes only that; for a read it sees
//! applied state. It knows no socket, no wall clock and no log: time comes in
//! as log time, and what is not in memory is an error ([`CommandError::Cold`])
//! that the caller answers by fetching and running the command again.

pub mod clock;
pub mod effects;
pub mod error;
pub mod events;
mod held;
pub mod overlay;
pub mod pieces;
pub mod rows;
pub mod staging;
pub mod tape;
pub mod walk;
pub mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_protocol::acl::{Denied, Subject};
use cairn_protocol::command::{CommandSpec, Flags};
use cairn_protocol::resp::{Args, ReplyWriter};
use cairn_protocol::slot::SLOT_COUNT;
use parking_lot::Mutex;
use rocksdb::{Direction, IteratorMode, ReadOptions};

use self::effects::{Family, MapChange};
pub use self::error::{CommandError, ErrorCode};
pub use self::events::{Event, EventClass, EventKey};
pub use self::held::Known;
use self::overlay::{Overlay, Savepoint, State};
pub use self::pieces::{Delivery, Pieces};
pub use self::witness::{Call, Witness};
use crate::storage::generations::{DATABASES, GenerationMap};
use crate::storage::keys::slot_of;
use crate::storage::{Header, MetaKey, Pin, PinnedRows, Record, Store, TypeLimits, Version};

/// How a command meets keys whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// They are absent, and a write deletes them.
    Collects,
    /// They are absent and stay: the master that is followed tells when they go.
    Hides,
    /// They are there: it is the master's own command.
    Keeps,
}

/// What the dispatcher fixes for one command.
#[derive(Clone, Copy, Debug)]
pub struct TxnContext {
    /// The client's database, 0 to 15.
    pub db: usize,
    /// Log time, unix ms: the command's only clock.
    pub now: u64,
    pub expiry: Expiry,
    /// Whether the command may wait for the disk (it runs off the network threads).
    pub disk: bool,
    /// Largest string kept within its `meta` record, in bytes.
    pub string_inline_max: usize,
    /// Longest string value, in bytes (`proto-max-bulk-len`).
    pub max_bulk: usize,
    /// Where the command's random choices start from.
    pub seed: u64,
    /// Whether the group belongs to a cluster (only database 0 there).
    pub cluster: bool,
    /// Epoch of the slot of the command's keys (standalone: 0).
    pub slot_epoch: u32,
    /// Whether the command may wait for its keys to change ([`CommandError::Block`]):
    /// not within MULTI or a script, and not once its time is over.
    pub may_block: bool,
    /// The client whose command it is; 0: nobody's.
    pub client: u64,
    /// Whether anybody is to be told what happens to keys.
    pub events: bool,
    /// Whether anybody is to be told of keys that are asked for in vain.
    pub misses: bool,
    /// Whether the client's reads are remembered for client-side caching.
    pub track: bool,
    /// Whether MONITOR wants to see what scripts call.
    pub monitored: bool,
    /// Whether replicas are to be told what changes (`tape`).
    pub recorded: bool,
    /// How a reply leaves that is too large to be made whole.
    pub delivery: Delivery,
    /// Whether a script without keys may be run by another group instead, if
    /// that has the first key that it uses ([`CommandError::Elsewhere`]).
    pub roams: bool,
    /// The client is one of a proxy: to it the cluster is one Redis.
    pub behind_proxy: bool,
    /// Nothing is to be deleted because its time has come (CLIENT PAUSE); it is
    /// absent all the same.
    pub keeps_expired: bool,
}

/// The slots of a group, for scripts: which keys they use is seen only as they do.
pub trait ServedSlots {
    fn serves(&self, slot: u16) -> bool;

    fn epoch(&self, slot: u16) -> u32;
}

/// What was in force before an inner command.
pub(crate) struct InnerScope {
    context: TxnContext,
    savepoint: Option<Savepoint>,
}

/// See the module's documentation.
pub struct Txn<'a> {
    store: &'a Store,
    maps: &'a GenerationMap,
    /// Reads are of this moment, not of what is applied now.
    pin: Option<&'a Pin>,
    /// The same, for replies in pieces, which outlive the command.
    lasting: Option<&'a Arc<Pin>>,
    /// What the command left to be made in pieces.
    left: Option<Pieces>,
    overlay: Option<&'a mut Overlay>,
    context: TxnContext,
    touched: u32,
    random: u64,
    /// Keys that a read of applied state did not find, if that is wanted.
    missed: Vec<Event>,
    witness: Witness,
    inner: Vec<InnerRun>,
    /// Whose rights must be looked at; `None`: everything is allowed.
    subject: Option<&'a Subject>,
    refused: Vec<Refused>,
    said: Said,
    /// What the group serves; `None`: no others than those of the command's keys.
    slots: Option<&'a dyn ServedSlots>,
    /// Whose EXEC it is, if that has commands of its connection.
    nested: Option<&'a Mutex<dyn Nested>>,
    /// What is done once the command's entry is applied.
    after: Vec<After>,
    /// Replicas are not told what is done now (`redis.set_repl` of a script).
    muted: bool,
}

/// The connection whose EXEC runs: commands of its own that have their place among
/// those on data.
pub trait Nested: Send {
    /// Runs the command at this place of the EXEC if it may run here, and writes its
    /// reply; otherwise it is left for later. Asked again (the EXEC was undone, and is
    /// run again), it answers what it answered before.
    fn run(&mut self, at: usize, out: &mut ReplyWriter);

    /// The command on data at this place has run.
    fn ran(&mut self, at: usize, run: &InnerRun, args: &Args<'_>);
}

/// One command that ran within another (EXEC, a script), for the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InnerRun {
    pub spec: &'static CommandSpec,
    /// Time of its evaluation.
    pub nanos: u32,
    /// It answered with an error.
    pub failed: bool,
    /// It was refused before it ran.
    pub rejected: bool,
}

/// What a script was not allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub reason: &'static str,
    /// The command, the key or the channel.
    pub object: Vec<u8>,
}

/// What a command says of itself beside its reply, for the statistics.
#[derive(Default)]
pub(crate) struct Said {
    /// Error lines that it, or what ran within it, answered with.
    pub errors: Vec<String>,
    /// Its own reply is an error.
    pub failed: bool,
}

/// Something that others notice, and that is done once the entry is applied.
pub type After = Box<dyn FnOnce() + Send>;

/// What a command did beside its effects and its reply; most do nothing of it.
pub(crate) struct Notes {
    pub witness: Witness,
    /// Commands that ran within it, in order.
    pub inner: Vec<InnerRun>,
    pub refused: Vec<Refused>,
    pub said: Said,
    pub after: Vec<After>,
}

/// SplitMix64's output function. Seeds go through it too: they come one step
/// apart, and sequences that overlap are not random to who draws from many.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl<'a> Txn<'a> {
    /// A command that only reads applied state.
    pub fn read(store: &'a Store, maps: &'a GenerationMap, context: TxnContext) -> Txn<'a> {
        Txn {
            store,
            maps,
            pin: None,
            lasting: None,
            left: None,
            overlay: None,
            context,
            touched: 0,
            random: mix(context.seed),
            inner: Vec::new(),
            subject: None,
            refused: Vec::new(),
            said: Said::default(),
            slots: None,
            nested: None,
            after: Vec::new(),
            muted: false,
            missed: Vec::new(),
            witness: Witness::default(),
        }
    }

    /// A reader of what is pinned. It may wait for the disk.
    pub fn pinned(pin: &'a Pin, context: TxnContext) -> Txn<'a> {
        Txn {
            pin: Some(pin),
            ..Txn::read(pin.store(), pin.maps(), context)
        }
    }

    /// What changes a pinned moment for itself alone: nothing of it is kept. It may
    /// wait for the disk.
    pub fn scratch(pin: &'a Pin, overlay: &'a mut Overlay, context: TxnContext) -> Txn<'a> {
        Txn {
            overlay: Some(overlay),
            ..Txn::pinned(pin, context)
        }
    }

    /// A reader of a moment just pinned, whose reply may leave in pieces. It may
    /// wait for the disk.
    pub fn in_pieces(pin: &'a Arc<Pin>, context: TxnContext) -> Txn<'a> {
        Txn {
            lasting: Some(pin),
            ..Txn::pinned(pin, context)
        }
    }

    /// A command of the group's writer, on top of the batch's overlay.
    pub fn write(
        store: &'a Store,
        maps: &'a GenerationMap,
        overlay: &'a mut Overlay,
        context: TxnContext,
    ) -> Txn<'a> {
        Txn {
            store,
            maps,
            pin: None,
            lasting: None,
            left: None,
            overlay: Some(overlay),
            context,
            touched: 0,
            random: mix(context.seed),
            inner: Vec::new(),
            subject: None,
            refused: Vec::new(),
            said: Said::default(),
            slots: None,
            nested: None,
            after: Vec::new(),
            muted: false,
            missed: Vec::new(),
            witness: Witness::default(),
        }
    }

    /// The command is run for somebody whose rights must be looked at.
    pub fn on_behalf_of(mut self, subject: Option<&'a Subject>) -> Txn<'a> {
        self.subject = subject;
        self
    }

    /// A script may use keys of these slots.
    pub fn within(mut self, slots: Option<&'a dyn ServedSlots>) -> Txn<'a> {
        self.slots = slots;
        self
    }

    /// An EXEC that has commands of its connection.
    pub(crate) fn of_connection(mut self, nested: Option<&'a Mutex<dyn Nested>>) -> Txn<'a> {
        self.nested = nested;
        self
    }

    pub(crate) fn nested(&self) -> Option<&'a Mutex<dyn Nested>> {
        self.nested
    }

    /// Whether a script may use keys of this slot.
    pub(crate) fn serves(&self, slot: u16) -> bool {
        self.slots.is_some_and(|slots| slots.serves(slot))
    }

    /// Whether a script may use keys of all slots: what it finds is all there is.
    pub(crate) fn serves_all(&self) -> bool {
        (0..SLOT_COUNT).all(|slot| self.serves(slot))
    }

    /// What comes is about keys of this slot, which is served here: versions
    /// are made under its epoch.
    pub(crate) fn turn_to(&mut self, slot: u16) {
        if let Some(slots) = self.slots {
            self.context.slot_epoch = slots.epoch(slot);
        }
    }

    pub fn subject(&self) -> Option<&'a Subject> {
        self.subject
    }

    /// Whether a script may call a command now. A refusal is noted once the
    /// script has its outcome: it may be run again.
    ///
    /// # Errors
    /// What is not allowed.
    pub(crate) fn check_rights(
        &mut self,
        spec: &CommandSpec,
        args: &Args<'_>,
    ) -> Result<(), Denied> {
        let Some(subject) = self.subject else {
            return Ok(());
        };
        let checked = subject.account().user().check(spec, args);
        if let Err(denied) = checked {
            self.refused.push(Refused {
                reason: denied.reason(),
                object: denied.object(spec, args).to_vec(),
            });
        }
        checked
    }

    pub fn db(&self) -> usize {
        self.context.db
    }

    /// Log time, unix ms.
    pub fn now(&self) -> u64 {
        self.context.now
    }

    /// Whether it is a command of the master that is followed.
    pub fn is_of_master(&self) -> bool {
        self.context.expiry == Expiry::Keeps
    }

    /// Whether an expiry that a command sets is over before it began.
    pub fn is_over(&self, at: u64) -> bool {
        !self.is_of_master() && at <= self.context.now
    }

    pub fn context(&self) -> &TxnContext {
        &self.context
    }

    /// Begins a command within this one: on database `db`, never waiting for
    /// its keys. What [`Txn::end_inner`] takes back.
    pub(crate) fn begin_inner(&mut self, db: usize, spec: &CommandSpec) -> InnerScope {
        let scope = InnerScope {
            context: self.context,
            savepoint: self.overlay.as_ref().map(|o| o.inner_savepoint()),
        };
        (self.context.db, self.context.may_block) = (db, false);
        self.context.delivery = Delivery::Whole;
        self.context.keeps_expired &= !spec.flags.contains(Flags::WRITE);
        scope
    }

    /// Ends it; `undo`: as if it had never run.
    pub(crate) fn end_inner(&mut self, scope: InnerScope, undo: bool) {
        self.context = scope.context;
        if undo && let (Some(overlay), Some(savepoint)) = (&mut self.overlay, scope.savepoint) {
            overlay.roll_back(savepoint);
        }
    }

    /// Notes a finished inner command.
    pub(crate) fn note_inner(&mut self, run: InnerRun) {
        self.inner.push(run);
    }

    /// Something within the command answered with this error line.
    pub(crate) fn note_error(&mut self, line: impl Into<String>) {
        // A script may fail without end.
        const MOST: usize = 1 << 16;
        if self.said.errors.len() < MOST {
            self.said.errors.push(line.into());
        }
    }

    /// The command has written an error as its reply; `line`: one that was not
    /// noted yet.
    pub(crate) fn note_failed(&mut self, line: Option<String>) {
        self.said.failed = true;
        line.into_iter().for_each(|line| self.note_error(line));
    }

    /// What was noted while the command ran, if anything.
    pub(crate) fn take_notes(&mut self) -> Option<Notes> {
        let quiet = !self.said.failed
            && self.said.errors.is_empty()
            && self.witness.is_empty()
            && self.inner.is_empty()
            && self.refused.is_empty()
            && self.after.is_empty();
        if quiet {
            return None;
        }
        Some(Notes {
            witness: std::mem::take(&mut self.witness),
            inner: self.take_inner(),
            refused: std::mem::take(&mut self.refused),
            said: std::mem::take(&mut self.said),
            after: std::mem::take(&mut self.after),
        })
    }

    /// Has something done once the command's entry is applied; never, if it is not.
    pub(crate) fn after(&mut self, what: After) {
        self.after.push(what);
    }

    /// The last of them.
    pub(crate) fn last_inner(&self) -> Option<&InnerRun> {
        self.inner.last()
    }

    /// The inner commands so far, in order.
    pub(crate) fn take_inner(&mut self) -> Vec<InnerRun> {
        std::mem::take(&mut self.inner)
    }

    pub fn store(&self) -> &Store {
        self.store
    }

    /// When values change their form.
    pub fn limits(&self) -> &'a TypeLimits {
        &self.store.limits
    }

    /// How many records and rows were read: a read of more than one must not
    /// have overlapped an apply.
    pub fn touched(&self) -> u32 {
        self.touched
    }

    /// Whether changes are possible (the command runs in the writer).
    pub fn is_write(&self) -> bool {
        self.overlay.is_some()
    }

    /// The generation map as this command sees it.
    pub fn maps(&self) -> &GenerationMap {
        match &self.overlay {
            Some(overlay) => overlay.map(),
            None => self.maps,
        }
    }

    /// The physical key of `user_key` in the client's database.
    pub fn key(&self, user_key: &[u8]) -> MetaKey {
        self.key_in(self.context.db, user_key)
    }

    /// The physical key of `user_key` in database `db`.
    pub fn key_in(&self, db: usize, user_key: &[u8]) -> MetaKey {
        let slot = slot_of(user_key);
        MetaKey::new(slot, self.maps().live.get(db, slot), user_key)
    }

    /// Refuses to go on unless this command may wait for the disk.
    pub fn require_disk(&self) -> Result<(), CommandError> {
        if self.context.disk {
            Ok(())
        } else {
            Err(CommandError::Cold)
        }
    }

    /// The live record of `key`; an expired one is `None` (and, in a write,
    /// deleted with an `expired` event). It counts as a use of the key.
    pub fn get(&mut self, key: &MetaKey) -> Result<Option<Record>, CommandError> {
        let found = self.peek(key)?;
        if found.is_some() {
            self.store.access.touch(key.hash(), self.context.now);
        }
        Ok(found)
    }

    /// [`Txn::get`] for commands that only ask about a key: its last use stays.
    pub fn peek(&mut self, key: &MetaKey) -> Result<Option<Record>, CommandError> {
        let Some(record) = self.get_raw(key)? else {
            self.note_missed(key);
            return Ok(None);
        };
        let header = Header::decode(record.value());
        let (header, _) = header.ok_or(CommandError::Corrupt("the header of a record"))?;
        match header.expires_at {
            Some(at) if at < self.context.now && self.context.expiry != Expiry::Keeps => {
                if self.context.expiry == Expiry::Collects {
                    self.meet_expired(key, &record, at)?;
                }
                self.note_missed(key);
                Ok(None)
            }
            _ => Ok(Some(record)),
        }
    }

    fn note_missed(&mut self, key: &MetaKey) {
        if !self.context.misses {
            return;
        }
        let event = Event {
            class: EventClass::Miss,
            name: "keymiss",
            db: self.context.db,
            key: EventKey::from_slice(key.user_key()),
            client: self.context.client,
        };
        match &mut self.overlay {
            Some(overlay) => overlay.events.push(event),
            None => self.missed.push(event),
        }
    }

    /// The events of a read of applied state.
    pub fn take_missed(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.missed)
    }

    fn get_raw(&mut self, key: &MetaKey) -> Result<Option<Record>, CommandError> {
        self.touched += 1;
        if let Some(known) = self.overlay.as_ref().and_then(|overlay| overlay.get(key)) {
            return Ok(known.cloned());
        }
        let record = match self.pin {
            Some(pin) => pin.record(key)?,
            None => self.store.record(key, self.context.disk)?,
        };
        if let Some(overlay) = &mut self.overlay {
            overlay.load(key, record.clone());
        }
        Ok(record)
    }

    /// A key that was once seen expired never comes back: the entry that
    /// carries this time is committed before anybody is told.
    fn meet_expired(
        &mut self,
        key: &MetaKey,
        record: &Record,
        at: u64,
    ) -> Result<(), CommandError> {
        self.note_expired(at)?;
        let keeps = self.context.keeps_expired;
        let Some(overlay) = self.overlay.as_mut().filter(|_| !keeps) else {
            return Ok(());
        };
        let changes = overlay.changes();
        overlay.delete_payload(key, record);
        overlay.set(key, State::Deleted);
        overlay.met_expired += 1;
        let db = overlay.map().live.database_of(key.slot(), key.generation());
        let db = db.unwrap_or(self.context.db);
        if self.context.recorded {
            // Not the command's doing: replicas are told apart from it.
            overlay.set_changes(changes);
            overlay.tape.push(db, [b"DEL", key.user_key()]);
        }
        self.event_in(db, EventClass::Expired, "expired", key.user_key());
        Ok(())
    }

    /// A key with this expiry is about to be treated as absent.
    pub(super) fn note_expired(&mut self, at: u64) -> Result<(), CommandError> {
        match &mut self.overlay {
            None if self.pin.is_some() && self.lasting.is_none() => Ok(()),
            None if at >= self.store.log_time() => Err(CommandError::NeedsTick),
            // Replicas keep it until they are told, which the writer does.
            None if self.context.recorded => Err(CommandError::NeedsTick),
            None => Ok(()),
            Some(overlay) => {
                overlay.tick = true;
                Ok(())
            }
        }
    }

    /// Sets the record of `key`, which may be new. Reads it first if the
    /// command has not (an overwrite is a read: counters and expiry follow it).
    pub fn put(&mut self, key: &MetaKey, record: Record) -> Result<(), CommandError> {
        debug_assert_eq!(key.physical(), record.physical());
        self.store.access.touch(key.hash(), self.context.now);
        self.change(key, State::Put(record))
    }

    /// Deletes the record of `key` (rows below it become garbage, except
    /// those of the family `payload`, which the type deletes itself).
    pub fn delete(&mut self, key: &MetaKey) -> Result<(), CommandError> {
        self.change(key, State::Deleted)
    }

    fn change(&mut self, key: &MetaKey, state: State) -> Result<(), CommandError> {
        if let Err(state) = self.overlay_mut().try_set(key, state) {
            self.get(key)?;
            self.overlay_mut().set(key, state);
        }
        Ok(())
    }

    fn overlay_mut(&mut self) -> &mut Overlay {
        self.overlay
            .as_deref_mut()
            .expect("commands that write are dispatched to the writer")
    }

    /// One row below a record.
    pub fn row(&mut self, family: Family, key: &[u8]) -> Result<Option<Bytes>, CommandError> {
        self.touched += 1;
        if let Some(overlay) = &self.overlay
            && let Some(known) = overlay.row(family, key)
        {
            return Ok(known.cloned());
        }
        let row = match self.pin {
            Some(pin) => pin.row(family, key)?,
            None => self.store.row(family, key, self.context.disk)?,
        };
        if let (Some(overlay), Some(value)) = (&mut self.overlay, &row) {
            overlay.met_row(family, key, value.len());
        }
        Ok(row)
    }

    /// All rows with `first <= key < end`, in order. Waits for the disk: for
    /// copies of whole values, not for reads of a part.
    pub fn rows_in(
        &mut self,
        family: Family,
        first: &[u8],
        end: &[u8],
    ) -> Result<Vec<(Vec<u8>, Bytes)>, CommandError> {
        self.require_disk()?;
        self.touched += 1;
        let engine = self.store.engine();
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end);
        if let Some(pin) = self.pin {
            pin.apply_to(&mut options);
        }
        let from = IteratorMode::From(first, Direction::Forward);
        let mut rows = BTreeMap::new();
        for row in engine
            .db
            .iterator_cf_opt(&engine.family(family), options, from)
        {
            let (key, value) = row?;
            rows.insert(key.into_vec(), Bytes::from(value));
        }
        for (key, value) in self
            .overlay
            .iter()
            .flat_map(|o| o.rows_in(family, first, end))
        {
            match value {
                Some(value) => rows.insert(key.to_vec(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows.into_iter().collect())
    }

    /// Rows that are gone through after the command. Only for what
    /// [`Delivery::InPieces`] lets go.
    pub fn pinned_rows(
        &self,
        family: Family,
        bounds: (Vec<u8>, Vec<u8>),
        direction: Direction,
        cached: bool,
    ) -> PinnedRows {
        let pin = self.lasting.expect("the reply leaves in pieces");
        PinnedRows::new(pin, family, bounds, direction, cached)
    }

    /// Leaves the rest of the reply, of which the front is written.
    pub fn leave(&mut self, rest: Pieces) {
        self.left = Some(rest);
    }

    pub fn take_left(&mut self) -> Option<Pieces> {
        self.left.take()
    }

    pub fn put_row(&mut self, family: Family, key: Vec<u8>, value: Bytes) {
        self.overlay_mut().put_row(family, key, value);
    }

    pub fn delete_row(&mut self, family: Family, key: Vec<u8>) {
        self.overlay_mut().delete_row(family, key);
    }

    /// Deletes rows from `first` to before `end`.
    pub fn delete_rows(&mut self, family: Family, first: Vec<u8>, end: Vec<u8>) {
        self.overlay_mut().delete_rows(family, first, end);
    }

    /// Deletes what a spread string keeps in the family `payload`; nothing
    /// for any other record. For when the record is deleted or replaced.
    pub fn delete_payload(&mut self, key: &MetaKey, record: &Record) {
        self.overlay_mut().delete_payload(key, record);
    }

    /// A random number; the sequence is fixed by [`TxnContext::seed`] (SplitMix64,
    /// <https://prng.di.unimi.it/splitmix64.c>).
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random)
    }

    /// A version that no incarnation has had (invariant 6).
    pub fn next_version(&mut self) -> Version {
        let epoch = self.context.slot_epoch;
        let overlay = self.overlay_mut();
        let counter = overlay.next_version;
        overlay.next_version += 1;
        let version = Version { epoch, counter };
        overlay.made.versions.push(version);
        version
    }

    /// Notes a keyspace event; it fires after the entry is applied.
    pub fn event(&mut self, class: EventClass, name: &'static str, user_key: &[u8]) {
        self.event_in(self.context.db, class, name, user_key);
    }

    /// [`Txn::event`] for a key of another database.
    pub fn event_in(&mut self, db: usize, class: EventClass, name: &'static str, user_key: &[u8]) {
        if !self.context.events {
            return;
        }
        let event = Event {
            class,
            name,
            db,
            key: EventKey::from_slice(user_key),
            client: self.context.client,
        };
        self.overlay_mut().events.push(event);
    }

    /// Number of keys of a database (expired ones that are not collected count).
    pub fn key_count(&self, db: usize) -> u64 {
        let map = &self.maps().live;
        let stored: u64 = map
            .runs(db)
            .into_iter()
            .map(|(first, last, generation)| self.store.counters.sum(generation, first..=last))
            .sum();
        let pending = self.overlay.as_ref().map_or(0, |overlay| {
            overlay.count_delta(|slot, generation| map.get(db, slot) == generation)
        });
        stored.saturating_add_signed(pending)
    }

    /// Number of keys of one slot, all databases.
    pub fn key_count_in_slot(&self, slot: u16) -> u64 {
        let map = &self.maps().live;
        (0..DATABASES)
            .map(|db| self.store.counters.get(map.get(db, slot), slot))
            .sum()
    }

    /// Empties a database: O(1), its rows become garbage.
    pub fn flush_db(&mut self, db: usize) {
        // An empty one too, as in Redis.
        self.event_in(db, EventClass::Flush, "flush", b"");
        if self.key_count(db) > 0 {
            self.overlay_mut()
                .change_map(&[MapChange::Renew { db: db as u8 }]);
        }
    }

    /// Exchanges two databases.
    pub fn swap_db(&mut self, a: usize, b: usize) {
        if a != b {
            self.overlay_mut().change_map(&[MapChange::Swap {
                a: a as u8,
                b: b as u8,
            }]);
        }
    }

    /// The batch's own records of one (slot, generation), for merged scans.
    pub fn pending_metas(&self, slot: u16, generation: u32) -> Vec<(Vec<u8>, Option<Record>)> {
        let Some(overlay) = &self.overlay else {
            return Vec::new();
        };
        let changed = overlay
            .metas_of(slot, generation)
            .filter_map(|(key, state)| {
                let record = match state {
                    State::Unchanged => return None,
                    State::Put(record) => Some(record.clone()),
                    State::Deleted => None,
                };
                Some((key.user_key().to_vec(), record))
            });
        changed.collect()
    }
}
