//! What happens right after a command was evaluated, because others listen:
//! watchers of the keys it changed are marked, and commands that wait for
//! them are served, in the same entry, so that nobody steals their element.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use cairn_protocol::command::id;
use cairn_protocol::resp::{Args, ReplyWriter, Requests};

use super::blocked::{Release, Waiter};
use super::submission::{QueuedCommand, SubmissionState};
use super::watch::{Seen, WatcherId};
use super::writer::{Commit, Writer};
use super::{Group, SlotVerdict};
use crate::commands::streams::resolve_blocking_args;
use crate::replication;
use crate::storage::keys::slot_of;
use crate::storage::{Header, KeyType, MetaKey};
use crate::txn::effects::MapChange;
use crate::txn::events::EventKey;
use crate::txn::overlay::Overlay;
use crate::txn::{CommandError, Txn, TxnContext};

const STREAM_GONE: &str = "UNBLOCKED the stream key no longer exists";
const GROUP_GONE: &str = "NOGROUP the consumer group this client was blocked on no longer exists";

/// How far the overlay was before a command.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    events: usize,
    maps: usize,
}

impl Progress {
    pub fn of(overlay: &Overlay) -> Progress {
        Progress {
            events: overlay.events.len(),
            maps: overlay.map_changes().len(),
        }
    }
}

impl Group {
    /// Whether [`Group::observe`] has anything to do.
    #[inline]
    pub(super) fn is_observed(&self) -> bool {
        self.watches.any() || self.blocked.any()
    }

    /// Tells those who listen what happened since `seen`, and serves those
    /// who wait, each in its turn, and whoever waits for what these do.
    pub(super) fn observe(
        &self,
        writer: &mut Writer,
        mut seen: Progress,
        served: &mut Vec<Arc<Waiter>>,
        now: u64,
    ) {
        let mut ready: VecDeque<(usize, EventKey)> = VecDeque::new();
        loop {
            let here = Progress::of(&writer.overlay);
            if self.watches.any() {
                self.touch_watched(writer, seen, now);
            }
            if self.blocked.any() {
                self.note_ready(&writer.overlay, seen, &mut ready);
            }
            seen = here;
            let Some((db, key)) = ready.pop_front() else {
                return;
            };
            self.serve_key(writer, db, &key, served, now);
        }
    }

    fn touch_watched(&self, writer: &mut Writer, seen: Progress, now: u64) {
        let events = &writer.overlay.events[seen.events..];
        for event in events.iter().filter(|e| e.class.is_change()) {
            self.watches.touch(event.db, &event.key);
        }
        let changes: Vec<MapChange> = writer.overlay.map_changes()[seen.maps..].to_vec();
        for change in changes {
            match change {
                MapChange::Renew { db } => self.watches.touch_database(db as usize, |_| false),
                MapChange::Swap { a, b } => {
                    for db in [a, b] {
                        self.watches.touch_database(db as usize, |key| {
                            self.type_of(writer, db as usize, key, now).is_some()
                        });
                    }
                }
            }
        }
    }

    /// Keys that somebody waits for and that something happened to.
    fn note_ready(
        &self,
        overlay: &Overlay,
        seen: Progress,
        ready: &mut VecDeque<(usize, EventKey)>,
    ) {
        let events = &overlay.events[seen.events..];
        for event in events.iter().filter(|e| e.class.is_change()) {
            let known = |(db, key): &(usize, EventKey)| *db == event.db && *key == event.key;
            if self.blocked.has(event.db, &event.key) && !ready.iter().any(known) {
                ready.push_back((event.db, event.key.clone()));
            }
        }
        for change in &overlay.map_changes()[seen.maps..] {
            let (a, b) = match *change {
                MapChange::Renew { db } => (db, db),
                MapChange::Swap { a, b } => (a, b),
            };
            for db in [a, b] {
                let waited = self.blocked.keys_of(db as usize);
                ready.extend(
                    waited
                        .iter()
                        .map(|k| (db as usize, EventKey::from_slice(k))),
                );
            }
        }
    }

    /// Serves those who wait for one key, in order of arrival, as far as it goes.
    fn serve_key(
        &self,
        writer: &mut Writer,
        db: usize,
        key: &[u8],
        served: &mut Vec<Arc<Waiter>>,
        now: u64,
    ) {
        let mut last = 0;
        while let Some((seq, waiter, at)) = self.blocked.next(db, key, last) {
            last = seq;
            let found = self.type_of(writer, db, key, now);
            let done = if found == Some(waiter.wants()) {
                self.serve_one(writer, &waiter, at, now)
            } else if waiter.reads_group() {
                waiter.claim() && {
                    let mut reply = ReplyWriter::new(waiter.version);
                    reply.error(STREAM_GONE);
                    waiter.served(reply, 0, true);
                    true
                }
            } else if found.is_none() && !self.blocked.has_group_readers(db, key) {
                // Nothing there for anybody.
                return;
            } else {
                false
            };
            if done {
                self.blocked.remove(&waiter);
                served.push(waiter);
            }
        }
    }

    /// Runs the command of a waiter. False: it goes on waiting, or is over.
    fn serve_one(&self, writer: &mut Writer, waiter: &Waiter, at: usize, now: u64) -> bool {
        if !waiter.claim() {
            return false;
        }
        let started = Instant::now();
        let narrowed = waiter.narrowed(at);
        let args = match &narrowed {
            Some(one) => one.get(0),
            None => waiter.args(),
        };
        let mut reply = ReplyWriter::new(waiter.version);
        let mut outcome = self.run_waiter(writer, waiter, &args, &mut reply, now, false);
        if matches!(outcome, Err(CommandError::Cold)) {
            // It cannot wait any longer: what comes behind it would overtake it.
            self.writer_cold_reads.fetch_add(1, Ordering::Relaxed);
            outcome = self.run_waiter(writer, waiter, &args, &mut reply, now, true);
        }
        let failed = match outcome {
            Ok(()) => false,
            Err(CommandError::Block { .. }) => {
                if !waiter.unclaim() {
                    self.blocked.remove(waiter);
                }
                return false;
            }
            Err(CommandError::Full { .. }) => {
                // The entry takes no more. Its owner runs it again.
                self.blocked.remove(waiter);
                waiter.end(Release::Again);
                return false;
            }
            Err(error) => {
                let line = error.to_string();
                let gone = waiter.reads_group() && line.starts_with("NOGROUP");
                reply.error(if gone { GROUP_GONE } else { &line });
                true
            }
        };
        let nanos = started.elapsed().as_nanos().min(u32::MAX as u128) as u32;
        waiter.served(reply, nanos, failed);
        true
    }

    fn run_waiter(
        &self,
        writer: &mut Writer,
        waiter: &Waiter,
        args: &Args<'_>,
        reply: &mut ReplyWriter,
        now: u64,
        disk: bool,
    ) -> Result<(), CommandError> {
        let context = TxnContext {
            keeps_expired: false,
            ..self.context(waiter.db, waiter.slot, now, disk)
        };
        let maps = self.store.maps();
        let savepoint = writer.overlay.savepoint();
        let (taped, changes) = (writer.overlay.tape.len(), writer.overlay.changes());
        let mark = reply.mark();
        let mut txn = Txn::write(&self.store, &maps, &mut writer.overlay, context);
        let mut outcome = (waiter.handler)(&mut txn, args, reply);
        if context.recorded && outcome.is_ok() {
            let said = (&*reply, mark);
            outcome = replication::record(&mut txn, waiter.spec, args, said, changes);
        }
        outcome = outcome.and_then(|()| self.check_size(&writer.overlay));
        match outcome {
            Ok(()) => writer.overlay.tape.end_unit(taped),
            Err(_) => {
                reply.truncate(mark);
                writer.overlay.roll_back(savepoint);
            }
        }
        outcome
    }

    /// The type of a live key as the batch sees it. It was just changed, or
    /// databases were just exchanged, so that waiting for the disk is rare.
    fn type_of(&self, writer: &mut Writer, db: usize, key: &[u8], now: u64) -> Option<KeyType> {
        let context = self.context(db, None, now, true);
        let maps = self.store.maps();
        let mut txn = Txn::write(&self.store, &maps, &mut writer.overlay, context);
        let key = txn.key_in(db, key);
        match txn.get(&key) {
            Ok(record) => record?.header().map(|header: Header| header.key_type),
            Err(error) => {
                tracing::error!(%error, "a key that is waited for could not be read");
                None
            }
        }
    }

    // Waiting.

    /// Registers a command that found nothing to answer with.
    pub(super) fn block(
        &self,
        overlay: &mut Overlay,
        state: &mut SubmissionState,
        at: usize,
        context: TxnContext,
        timeout_ms: u64,
    ) {
        let command = state.commands[at];
        let args = state.requests.get(command.request as usize);
        let maps = self.store.maps();
        let mut txn = Txn::write(&self.store, &maps, overlay, context);
        // XREAD's `$` is what it was when the wait began.
        let mut resolved = Requests::default();
        if let Some(words) = resolve_blocking_args(&mut txn, &args) {
            resolved.push_owned(words);
        }
        let args = match resolved.is_empty() {
            true => args,
            false => resolved.get(0),
        };
        let waiter = self.blocked.register(&command, &args, timeout_ms);
        state.blocked.push((at, waiter));
    }

    /// Owner: gives up waiting. True: it was not served, and never will be;
    /// false: [`Waiter::over`] will say.
    pub(crate) fn give_up(&self, waiter: &Waiter) -> bool {
        self.blocked.give_up(waiter)
    }

    /// Whether a waiter must go elsewhere, should nobody have told it.
    pub(crate) fn is_stranded(&self, waiter: &Waiter) -> bool {
        !self.is_ready() || self.moved(waiter.slot)
    }

    fn moved(&self, slot: Option<u16>) -> bool {
        match (&self.ownership, slot) {
            (Some(gate), Some(slot)) => gate.verdict(slot) == SlotVerdict::Moved,
            _ => false,
        }
    }

    /// Tells those who were served what became of it.
    pub(super) fn settle_served(&self, served: &[Arc<Waiter>], outcome: Commit) {
        let release = match outcome {
            Commit::Applied => Release::Served,
            Commit::Refused => Release::Again,
            Commit::Lost | Commit::InFlight => Release::Unknown,
        };
        served.iter().for_each(|waiter| waiter.end(release));
    }

    /// What was seen and waited for here may be void: others may have written.
    pub(super) fn dismiss_listeners(&self) {
        self.watches.touch_all();
        self.blocked.release(|_| true);
    }

    /// Slots may have gone: whoever waits for their keys goes after them.
    pub(super) fn dismiss_moved(&self) {
        self.blocked.release(|waiter| self.moved(waiter.slot));
    }

    // Watching.

    /// After WATCH was evaluated, which has read all its keys.
    pub(super) fn register_watches(
        &self,
        overlay: &Overlay,
        command: &QueuedCommand,
        args: &Args<'_>,
    ) {
        let db = command.db as usize;
        let owner = command.slot.zip(self.ownership.as_ref());
        let owner = owner.map(|(slot, gate)| (slot, gate.epoch(slot)));
        for key in args.iter().skip(1) {
            let slot = slot_of(key);
            let meta = MetaKey::new(slot, overlay.map().live.get(db, slot), key);
            let header = overlay.get(&meta).flatten().and_then(|r| r.header());
            let seen = Seen {
                existed: header.is_some(),
                expires_at: header.and_then(|h: Header| h.expires_at),
                owner,
            };
            self.watches.watch(command.watcher, db, key, seen);
        }
    }

    /// Whether an EXEC of this watcher may run.
    pub(super) fn is_unchanged(&self, watcher: WatcherId, now: u64) -> bool {
        self.watches.is_clean(watcher, now, |slot| {
            self.ownership.as_ref().map_or(0, |gate| gate.epoch(slot))
        })
    }

    /// Forgets what `watcher` watches.
    pub(crate) fn unwatch(&self, watcher: WatcherId) {
        self.watches.unwatch(watcher);
    }
}

/// Whether this is the command that a watch decides about.
pub(super) fn is_exec(command: &QueuedCommand) -> bool {
    command.spec.id == id::EXEC
}
