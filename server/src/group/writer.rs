//! The writer's turn: drain, evaluate, commit, release.
//!
//! One entry is in flight at a time; what arrives meanwhile is the next
//! batch. A commit may finish inline (the kernel has the bytes) or on another
//! thread (a sync, the Raft log), which then takes the next turn itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use cairn_protocol::acl::{self, Subject};
use cairn_protocol::command::{CommandSpec, Flags, Resolved, id, resolve};
use cairn_protocol::resp::Args;

use super::blocked::Waiter;
use super::serve::{Progress, is_exec};
use super::submission::{OfMaster, Outcome, QueuedCommand, Submission, SubmissionState};
use super::{Follows, Group, Job, SlotVerdict};
use crate::commands::transactions::{Part, parts};
use crate::replication;
use crate::replication::follow::READ_ONLY;
use crate::scripting::debugger::debug_here;
use crate::storage::generations::GenerationMap;
use crate::storage::{MetaKey, Position, Record, Store};
use crate::txn::effects::Effects;
use crate::txn::events::Event;
use crate::txn::overlay::{Overlay, State};
use crate::txn::staging;
use crate::txn::tape::Tape;
use crate::txn::{
    After, CommandError, Delivery, EventClass, EventKey, Expiry, Notes, Refused, Txn, TxnContext,
};
use crate::types::sorted_set;

/// Commands evaluated in one turn at most.
const MAX_COMMANDS: usize = 8192;
/// Bytes of effects after which a turn ends (the entry's cap); see `Writer::is_full`.
const MAX_ENTRY_BYTES: usize = 8 << 20;
/// A list of events that grew beyond this is given back to the allocator.
const MAX_KEPT_EVENTS: usize = 4 * MAX_COMMANDS;
/// After so many fetches a command runs in place, waiting for the disk.
const MAX_COLD_TRIES: u8 = 3;

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Durable and applied.
    Applied,
    /// Never reached the log: nothing was executed.
    Refused,
    /// Reached the log, and its fate is not known.
    Lost,
    /// Goes on elsewhere; [`Group::committed`] will be called.
    InFlight,
}

/// What a turn commits.
pub enum Entry {
    /// What a batch of commands evaluated to, at its place in RocksDB's log
    /// (a Raft log numbers its entries itself).
    Effects(Arc<Effects>, Position),
    /// A step of a move, encoded, at this log time.
    Step { bytes: Bytes, log_time: u64 },
}

/// Where entries go: RocksDB's own log, or a Raft log.
pub trait CommitSink: Send + Sync {
    /// Makes one entry durable and applies it. Must not block when it can
    /// answer [`Commit::InFlight`] instead.
    fn commit(&self, group: &Arc<Group>, entry: Entry) -> Commit;

    /// Bytes that an entry may have; `None`: any number.
    fn max_entry_bytes(&self) -> Option<usize> {
        None
    }
}

/// Told what became of a step of a move.
pub type StepDone = Box<dyn FnOnce(Commit) + Send>;

#[derive(Default)]
struct Turn {
    submissions: Vec<Arc<Submission>>,
    flags: Vec<Arc<AtomicBool>>,
    events: Vec<Event>,
    tape: Tape,
    /// What is done behind the events.
    after: Vec<After>,
    /// Those who waited and got something.
    served: Vec<Arc<Waiter>>,
    step: Option<StepDone>,
    /// Entries of a large batch that are still to be committed, in order.
    rest: VecDeque<Effects>,
    /// A step of a move behind them, and its log time.
    last: Option<(Bytes, u64)>,
}

/// State of the one writer.
pub(super) struct Writer {
    pub(super) overlay: Overlay,
    /// What commands of this turn want done once it is applied.
    after: Vec<After>,
    position: Position,
    in_flight: Option<Turn>,
    /// A command was undone that is to begin the next entry.
    closed: bool,
    /// The last batch met collections that have rows: the next one will look some up.
    meets_rows: bool,
}

impl Writer {
    pub(super) fn new(store: &Store) -> Writer {
        let mut writer = Writer {
            overlay: Overlay::new(GenerationMap::empty(), 0),
            after: Vec::new(),
            position: Position::default(),
            in_flight: None,
            closed: false,
            meets_rows: false,
        };
        writer.restart(store);
        writer
    }

    /// Goes on from what is applied; what went ahead of an entry that never came is
    /// deleted by the next one.
    fn restart(&mut self, store: &Store) {
        self.position = store.position();
        let map = (*store.maps()).clone();
        self.overlay.reset(map, store.next_version());
        if let Some(staging) = store.staged() {
            self.overlay.sweep(&staging);
        }
    }

    /// Whether the entry takes no more commands. One that changes the map is its last:
    /// what is written into generations that the entry itself makes cannot go ahead of
    /// it (`staging::cut`), however large it is.
    fn is_full(&self) -> bool {
        self.closed
            || self.overlay.bytes() >= MAX_ENTRY_BYTES
            || !self.overlay.map_changes().is_empty()
    }

    /// Whether a key may be removed with this entry. Its name may be long.
    fn takes_removal(&self, key: &MetaKey) -> bool {
        let bytes = self.overlay.bytes();
        bytes == 0 || bytes + key.physical().len() <= MAX_ENTRY_BYTES
    }
}

impl Group {
    /// Runs the writer until the queue is empty, an entry is in flight, or
    /// scripts come next, which their own thread is woken for.
    pub fn turn(self: &Arc<Self>) {
        self.take_turn(false);
    }

    /// The same with scripts, on the thread that is theirs.
    pub(super) fn turn_with_scripts(self: &Arc<Self>) {
        self.take_turn(true);
    }

    fn take_turn(self: &Arc<Self>, scripts: bool) {
        self.scheduled.store(false, Ordering::Release);
        loop {
            let Some(mut writer) = self.writer.try_lock() else {
                // The holder looks at the queue again after it lets go.
                return;
            };
            while writer.in_flight.is_none() && self.is_ready() && self.run(&mut writer, scripts) {}
            let waiting = writer.in_flight.is_some() || !self.is_ready();
            drop(writer);
            if waiting || self.queue.lock().is_empty() {
                return;
            }
            if !scripts && self.scripts_are_next() {
                return self.script_thread.wake(self);
            }
        }
    }

    fn scripts_are_next(&self) -> bool {
        let queue = self.queue.lock();
        matches!(queue.front(), Some(Job::Client(submission)) if submission.has_scripts())
    }

    /// Takes maps and counters from the store again: entries were applied
    /// that this writer did not evaluate.
    pub(super) fn rebase(&self) {
        let mut writer = self.writer.lock();
        if writer.in_flight.is_none() {
            writer.restart(&self.store);
            self.observe_log_time(self.store.log_time());
        }
    }

    /// The sink's answer to an entry that was [`Commit::InFlight`].
    pub fn committed(self: &Arc<Self>, outcome: Commit) {
        {
            let mut writer = self.writer.lock();
            let turn = writer.in_flight.take().expect("one entry was in flight");
            self.go_on(&mut writer, turn, outcome);
        }
        self.turn();
    }

    /// One batch. False if there was nothing to do.
    fn run(self: &Arc<Self>, writer: &mut Writer, scripts: bool) -> bool {
        let mut turn = Turn::default();
        writer.closed = false;
        // The end of one command is the beginning of the next.
        let mut started = Instant::now();
        let mut now = self.now_at(started);
        let (mut commands, mut asked_for) = (0, 0);
        while commands < MAX_COMMANDS && !writer.is_full() {
            if writer.meets_rows && commands >= asked_for {
                asked_for = commands + self.ask_for_elements();
            }
            let Some(job) = self.next_job(commands == 0, scripts) else {
                break;
            };
            commands += match job {
                Job::Client(submission) => {
                    let served = &mut turn.served;
                    let n = self.evaluate(writer, &submission, served, &mut now, &mut started);
                    turn.submissions.push(submission);
                    n
                }
                Job::Step {
                    bytes,
                    done,
                    before,
                } => {
                    before();
                    turn.step = Some(done);
                    turn.last = Some((bytes, now));
                    if writer.overlay.made.swept.is_some() {
                        // What a destination was sent of abandoned rows it must be told
                        // to delete, too: the sweep is an entry before any step.
                        turn.rest.push_back(writer.overlay.finish(now));
                    }
                    self.go_on(writer, turn, Commit::Applied);
                    return true;
                }
                Job::Between(run) => {
                    run();
                    return true;
                }
                Job::Expire(due, done) => {
                    let seen = Progress::of(&writer.overlay);
                    self.expire(writer, &due, now);
                    if self.is_observed() {
                        self.observe(writer, seen, &mut turn.served, now);
                    }
                    turn.flags.push(done);
                    started = Instant::now();
                    due.len()
                }
                Job::Evict(keys, done) => {
                    let seen = Progress::of(&writer.overlay);
                    self.evict(writer, &keys, now);
                    if self.is_observed() {
                        self.observe(writer, seen, &mut turn.served, now);
                    }
                    turn.flags.push(done);
                    started = Instant::now();
                    keys.len()
                }
            }
            .max(1);
        }
        if commands == 0 {
            return false;
        }
        for set in self.store.wanted.take() {
            sorted_set::close_wanted(&mut writer.overlay, &set, now);
        }
        writer.meets_rows = writer.overlay.has_spread();
        turn.events = std::mem::take(&mut writer.overlay.events);
        turn.after = std::mem::take(&mut writer.after);
        if !writer.overlay.tape.is_empty() {
            turn.tape = std::mem::take(&mut writer.overlay.tape);
        }
        if !writer.overlay.is_dirty() {
            // Said again with the next batch that does something.
            writer.overlay.followed = None;
            writer.overlay.forget_reads();
            self.conclude(writer, turn, Commit::Applied);
            return true;
        }
        let made = writer.overlay.made.clone();
        let met = std::mem::take(&mut writer.overlay.met_expired);
        self.expired_keys.fetch_add(met, Ordering::Relaxed);
        let effects = writer.overlay.finish(now);
        turn.rest = match self.may_stage.load(Ordering::Acquire) {
            true => staging::cut(effects, made, MAX_ENTRY_BYTES).into(),
            false => VecDeque::from([effects]),
        };
        self.go_on(writer, turn, Commit::Applied);
        true
    }

    /// The next job; a step of a move is an entry of its own, so it is taken only by a
    /// turn that has nothing yet, and so is what runs between entries or begins one.
    /// Scripts are taken where they may run.
    fn next_job(&self, first: bool, scripts: bool) -> Option<Job> {
        let mut queue = self.queue.lock();
        match queue.front()? {
            Job::Step { .. } | Job::Between(_) if !first => None,
            Job::Client(submission) if !first && submission.begins_entry() => None,
            Job::Client(submission) if !scripts && submission.has_scripts() => None,
            _ => queue.pop_front(),
        }
    }

    fn commit(self: &Arc<Self>, writer: &mut Writer, turn: Turn, entry: Entry) {
        // In place before the sink may answer from another thread, which then
        // waits for the writer's lock.
        writer.in_flight = Some(turn);
        match self.sink.commit(self, entry) {
            Commit::InFlight => {}
            outcome => {
                let turn = writer.in_flight.take().expect("set above");
                self.go_on(writer, turn, outcome);
            }
        }
    }

    /// Commits the next entry of a turn, or ends it if there is none or its last one
    /// was not applied.
    fn go_on(self: &Arc<Self>, writer: &mut Writer, mut turn: Turn, outcome: Commit) {
        if outcome == Commit::Applied
            && let Some(effects) = turn.rest.pop_front()
        {
            writer.position.index += 1;
            let entry = Entry::Effects(Arc::new(effects), writer.position);
            return self.commit(writer, turn, entry);
        }
        if outcome == Commit::Applied
            && let Some((bytes, log_time)) = turn.last.take()
        {
            return self.commit(writer, turn, Entry::Step { bytes, log_time });
        }
        // Whatever became of rows that went ahead, nobody will see them.
        let is_over = turn.rest.is_empty() && turn.last.is_none();
        let unseen = outcome != Commit::Applied && !is_over;
        let outcome = if unseen { Commit::Refused } else { outcome };
        self.conclude(writer, turn, outcome);
    }

    fn evaluate(
        &self,
        writer: &mut Writer,
        submission: &Submission,
        served: &mut Vec<Arc<Waiter>>,
        now: &mut u64,
        started: &mut Instant,
    ) -> usize {
        let mut state = submission.lock();
        let state = &mut *state;
        let mut stopped: Vec<u32> = Vec::new();
        let mut evaluated = 0;
        if let Some(of_master) = &state.of_master
            && of_master.epoch != self.stream_epoch.load(Ordering::Acquire)
        {
            for command in &mut state.commands {
                command.outcome = Outcome::NotExecuted;
            }
            return 0;
        }
        // Nothing is applied while the writer evaluates: one look serves all.
        let maps = self.store.maps();
        for at in 0..state.commands.len() {
            let command = state.commands[at];
            if command.outcome != Outcome::Pending || stopped.contains(&command.stream) {
                continue;
            }
            if evaluated > 0 && writer.is_full() && state.of_master.is_none() {
                // The owner submits the rest anew.
                break;
            }
            evaluated += 1;
            let late = command.begin_by.is_some_and(|at| at <= *started);
            let seen = Progress::of(&writer.overlay);
            let (outcome, failed) = match self.refusal(&command) {
                _ if late => (Outcome::NotExecuted, false),
                Some(refusal) => (refusal, false),
                None => self.evaluate_one(writer, &maps, state, at, *now),
            };
            if outcome == Outcome::Pending {
                // The owner submits it and the rest anew.
                state.commands[at].begins_entry = true;
                *started = Instant::now();
                break;
            }
            if state.nested.is_some() {
                // It may have slept.
                *now = self.now().max(*now);
            }
            if self.is_observed() {
                self.observe(writer, seen, served, *now);
            }
            if command.watcher != 0 && outcome == Outcome::Done {
                self.settle_watches(writer, state, &command);
            }
            let is_local = state.of_master.is_none() && !command.spec.is_readonly();
            if is_local && self.follows() == Follows::MasterLoosely {
                let args = state.requests.get(command.request as usize);
                let keys = command.spec.keys(&args).unwrap_or_default();
                let names = keys.iter().map(|key| args.get(key.index as usize));
                self.note_local_keys(command.db, names);
            }
            let ended = Instant::now();
            let command = &mut state.commands[at];
            (command.outcome, command.failed) = (outcome, failed);
            command.nanos = (ended - *started).as_nanos().min(u32::MAX as u128) as u32;
            *started = ended;
            command.reply_end = Some(state.replies.mark());
            if outcome != Outcome::Done {
                command.tries += 1;
                stopped.push(command.stream);
            }
        }
        if let Some(of_master) = &state.of_master {
            note_followed(&mut writer.overlay, of_master, state.commands.is_empty());
        }
        evaluated
    }

    /// How a command meets what has expired.
    fn expiry_for(&self, command: &QueuedCommand, of_master: bool) -> Expiry {
        match self.follows() {
            _ if of_master => Expiry::Keeps,
            Follows::Nobody => Expiry::Collects,
            Follows::Master => Expiry::Hides,
            // What is written over must be seen.
            Follows::MasterLoosely if command.spec.is_readonly() => Expiry::Hides,
            Follows::MasterLoosely => Expiry::Collects,
        }
    }

    /// Slot ownership, checked where it cannot change under the command. An
    /// EXEC with watches is left to those: under another owner they are void.
    fn refusal(&self, command: &QueuedCommand) -> Option<Outcome> {
        let slot = command.slot?;
        match self.ownership.as_ref()?.verdict(slot) {
            SlotVerdict::Serve => None,
            SlotVerdict::Frozen => Some(Outcome::Frozen),
            SlotVerdict::Moved if command.watcher != 0 && is_exec(command) => {
                self.watches.touch_watcher(command.watcher);
                None
            }
            SlotVerdict::Moved => Some(Outcome::Moved),
        }
    }

    fn evaluate_one(
        &self,
        writer: &mut Writer,
        maps: &GenerationMap,
        state: &mut SubmissionState,
        at: usize,
        now: u64,
    ) -> (Outcome, bool) {
        let command = state.commands[at];
        let disk = command.tries >= MAX_COLD_TRIES;
        if disk {
            self.writer_cold_reads.fetch_add(1, Ordering::Relaxed);
        }
        let context = self.context(command.db as usize, command.slot, now, disk);
        let of_master = state.of_master.is_some();
        let context = TxnContext {
            expiry: self.expiry_for(&command, of_master),
            may_block: !of_master,
            client: command.client,
            track: command.track,
            roams: command.roams,
            behind_proxy: command.behind_proxy,
            keeps_expired: context.keeps_expired && !command.spec.flags.contains(Flags::WRITE),
            misses: context.misses && command.spec.is_readonly(),
            delivery: match command.pieces {
                true => Delivery::IfSmall,
                false => Delivery::Whole,
            },
            ..context
        };
        let savepoint = writer.overlay.savepoint();
        let (taped, changes) = (writer.overlay.tape.len(), writer.overlay.changes());
        let mark = state.replies.mark();
        state.replies.set_version(command.version);
        if command.watcher != 0 && is_exec(&command) && !self.is_unchanged(command.watcher, now) {
            state.replies.null_array();
            return (Outcome::Done, false);
        }
        let args = state.requests.get(command.request as usize);
        let may_write = of_master || command.client == 0 || self.follows() != Follows::Master;
        if !may_write && writes(command.spec, &args) {
            // It was allowed just before a master was followed.
            let line = match is_exec(&command) {
                true => format!("EXECABORT Transaction discarded because of: {READ_ONLY}"),
                false => READ_ONLY.to_owned(),
            };
            state.replies.error(&line);
            state.errors.push(line);
            return (Outcome::Done, true);
        }
        let nested = state.nested.clone();
        let _debugged = state.debugger.clone().map(debug_here);
        let mut txn = Txn::write(&self.store, maps, &mut writer.overlay, context)
            .on_behalf_of(state.subjects.of(at))
            .within(self.served_slots())
            .of_connection(nested.as_deref());
        txn.witness_begin(command.spec, &args);
        let mut outcome = (command.handler)(&mut txn, &args, &mut state.replies);
        if context.recorded && outcome.is_ok() {
            let reply = (&state.replies, mark);
            outcome = replication::record(&mut txn, command.spec, &args, reply, changes);
        }
        txn.witness_end(command.spec, &args);
        let mut notes = txn.take_notes();
        let failed = notes.as_ref().is_some_and(|notes| notes.said.failed);
        outcome = outcome.and_then(|()| self.check_size(&writer.overlay));
        if let Some(notes) = &mut notes
            && outcome.is_ok()
        {
            writer.after.append(&mut notes.after);
        }
        if let Some(notes) = notes
            && !matches!(outcome, Err(CommandError::Cold | CommandError::Full { .. }))
        {
            self.keep_notes(state, at, notes);
        }
        match outcome {
            Ok(()) => {
                // What looks at any key is no unit with those that were due.
                if !command.spec.flags.contains(Flags::TOUCHES_ARBITRARY_KEYS) {
                    writer.overlay.tape.end_unit(taped);
                }
                (Outcome::Done, failed)
            }
            Err(error) => {
                state.replies.truncate(mark);
                let closed = writer.overlay.take_closed();
                writer.overlay.roll_back(savepoint);
                if matches!(error, CommandError::Cold | CommandError::Large) {
                    sorted_set::close_again(&mut writer.overlay, closed);
                }
                match error {
                    CommandError::Cold => (Outcome::Cold, false),
                    CommandError::Large => (Outcome::Large, false),
                    CommandError::Full { .. } if writer.overlay.is_dirty() => {
                        writer.closed = true;
                        (Outcome::Pending, false)
                    }
                    CommandError::Block { timeout_ms } => {
                        self.block(&mut writer.overlay, state, at, context, timeout_ms);
                        (Outcome::Blocked, false)
                    }
                    CommandError::Elsewhere(_) => {
                        state.replies.error(error.to_string());
                        (Outcome::Done, false)
                    }
                    error => {
                        let line = error.to_string();
                        state.replies.error(&line);
                        state.errors.push(line);
                        (Outcome::Done, true)
                    }
                }
            }
        }
    }

    /// Whether the log takes what was evaluated so far as one entry. Below the size at
    /// which a turn ends it does.
    pub(super) fn check_size(&self, overlay: &Overlay) -> Result<(), CommandError> {
        let Some(most) = self.sink.max_entry_bytes() else {
            return Ok(());
        };
        if overlay.bytes() <= MAX_ENTRY_BYTES {
            return Ok(());
        }
        let may_stage = self.may_stage.load(Ordering::Acquire);
        match overlay.entry_bytes(may_stage.then_some(MAX_ENTRY_BYTES)) {
            bytes if bytes > most => Err(CommandError::Full { most }),
            _ => Ok(()),
        }
    }

    /// What a command noted counts once it has its outcome.
    fn keep_notes(&self, state: &mut SubmissionState, at: usize, notes: Notes) {
        if !notes.witness.is_empty() {
            let command = &state.commands[at];
            match is_exec(command) && command.client != 0 && !command.behind_proxy {
                // Some of its commands are still to run: its connection shows them.
                true => {
                    let calls = notes.witness.calls.into_iter();
                    state
                        .calls
                        .extend(calls.map(|call| (command.request, call)));
                }
                false => self.events.witnessed(command.client, notes.witness),
            }
        }
        note_refused(state.subjects.of(at), &notes.refused);
        state
            .inner
            .extend(notes.inner.into_iter().map(|run| (at, run)));
        state.errors.extend(notes.said.errors);
    }

    /// WATCH was evaluated: from here on its keys are watched. EXEC was: its
    /// watches are over.
    fn settle_watches(&self, writer: &Writer, state: &SubmissionState, command: &QueuedCommand) {
        if is_exec(command) {
            return self.unwatch(command.watcher);
        }
        let args = state.requests.get(command.request as usize);
        self.register_watches(&writer.overlay, command, &args);
    }

    /// Removes due keys. A row whose record is gone or has another expiry
    /// stands for an incarnation that the compaction filter dropped.
    fn expire(&self, writer: &mut Writer, due: &[(MetaKey, u64)], now: u64) {
        if self.events.writes_paused() || self.follows() == Follows::Master {
            // The task comes again, or a master tells from now on when keys go.
            return;
        }
        let recorded = self.events.recording();
        for (key, at) in due.iter().filter(|(_, at)| *at < now) {
            if !writer.takes_removal(key) {
                // The task comes again.
                return;
            }
            let Ok(record) = self.known_record(writer, key) else {
                continue;
            };
            let is_due = |r: &&Record| r.header().and_then(|h| h.expires_at) == Some(*at);
            if let Some(record) = record.as_ref().filter(is_due) {
                remove(
                    writer,
                    key,
                    record,
                    (EventClass::Expired, "expired"),
                    recorded,
                );
                self.expired_keys.fetch_add(1, Ordering::Relaxed);
            } else if self.is_stray(&writer.overlay, key, *at) {
                writer.overlay.drop_expiry(key.clone(), *at);
            }
        }
    }

    /// Whether a due row stands for no record. It does not if it is gone with
    /// its record since the task saw it, or goes within this batch: a command
    /// met the key, and perhaps it came back.
    fn is_stray(&self, overlay: &Overlay, key: &MetaKey, at: u64) -> bool {
        let found = overlay.base(key).and_then(|record| record.header());
        if found.and_then(|header| header.expires_at) == Some(at) {
            return false;
        }
        let there = self.store.has_expiry_row(key, at);
        there.unwrap_or_else(|error| {
            tracing::error!(%error, "the expiry index cannot be read");
            false
        })
    }

    /// Removes keys for which there is no room; what has expired meanwhile
    /// goes as such.
    fn evict(&self, writer: &mut Writer, keys: &[MetaKey], now: u64) {
        let recorded = self.events.recording();
        for key in keys {
            if !writer.takes_removal(key) {
                return;
            }
            let Ok(Some(record)) = self.known_record(writer, key) else {
                continue;
            };
            let expires_at = record.header().and_then(|h| h.expires_at);
            if expires_at.is_some_and(|at| at < now) {
                remove(
                    writer,
                    key,
                    &record,
                    (EventClass::Expired, "expired"),
                    recorded,
                );
                self.expired_keys.fetch_add(1, Ordering::Relaxed);
            } else {
                remove(
                    writer,
                    key,
                    &record,
                    (EventClass::Evicted, "evicted"),
                    recorded,
                );
                self.evicted_keys.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A record as the batch sees it, for tasks that have read it already.
    fn known_record(&self, writer: &mut Writer, key: &MetaKey) -> Result<Option<Record>, ()> {
        if let Some(known) = writer.overlay.get(key) {
            return Ok(known.cloned());
        }
        match self.store.record(key, true) {
            Ok(record) => {
                writer.overlay.load(key, record.clone());
                Ok(record)
            }
            Err(error) => {
                tracing::error!(%error, "a record that is to be removed could not be read");
                Err(())
            }
        }
    }

    fn conclude(&self, writer: &mut Writer, mut turn: Turn, outcome: Commit) {
        if outcome != Commit::Applied || turn.step.is_some() {
            // What was evaluated on top of a refused entry is gone with it;
            // a step of a move changes the maps behind the overlay's back.
            writer.restart(&self.store);
        }
        if outcome != Commit::Applied {
            self.lineage.fetch_add(1, Ordering::AcqRel);
            self.dismiss_listeners();
        } else {
            if !turn.tape.is_empty() {
                self.events.recorded(self.id, &turn.tape);
            }
            if !turn.events.is_empty() {
                self.events.fire(&turn.events);
            }
            std::mem::take(&mut turn.after)
                .into_iter()
                .for_each(|what| what());
        }
        // The emptied list keeps its room.
        turn.events.clear();
        if turn.events.capacity() <= MAX_KEPT_EVENTS && writer.overlay.events.is_empty() {
            writer.overlay.events = std::mem::take(&mut turn.events);
        }
        self.settle_served(&turn.served, outcome);
        for submission in &turn.submissions {
            if outcome != Commit::Applied {
                fail(submission, outcome);
            }
            submission.finish();
        }
        turn.flags
            .iter()
            .for_each(|flag| flag.store(true, Ordering::Release));
        if let Some(done) = turn.step {
            self.dismiss_moved();
            done(outcome);
        }
    }
}

/// Whether a client's command is one that a replica refuses; scripts look themselves.
fn writes(spec: &CommandSpec, args: &Args<'_>) -> bool {
    let of_exec = |part| match part {
        Part::Data(_, args) => match resolve(&args) {
            Resolved::Command(spec) => spec.flags.contains(Flags::WRITE),
            _ => false,
        },
        Part::Session => false,
    };
    spec.flags.contains(Flags::WRITE) || (spec.id == id::EXEC && parts(args).any(of_exec))
}

/// A batch of a master's stream was evaluated.
fn note_followed(overlay: &mut Overlay, of_master: &OfMaster, alone: bool) {
    overlay.followed = Some(of_master.followed);
    overlay.tick |= alone;
    let (bytes, db) = (of_master.bytes.clone(), of_master.followed.db);
    overlay.tape.pass_on(bytes, usize::from(db));
}

/// Notes what scripts were refused.
fn note_refused(subject: Option<&Subject>, refused: &[Refused]) {
    for Refused { reason, object } in refused {
        if let Some(subject) = subject {
            let user = subject.account().name();
            subject.note(reason, acl::Context::Lua, object, user);
        }
    }
}

/// Removes a key of its own accord, and tells of it.
fn remove(
    writer: &mut Writer,
    key: &MetaKey,
    record: &Record,
    (class, name): (EventClass, &'static str),
    recorded: bool,
) {
    let overlay = &mut writer.overlay;
    overlay.delete_payload(key, record);
    overlay.set(key, State::Deleted);
    let live = &overlay.map().live;
    if let Some(db) = live.database_of(key.slot(), key.generation()) {
        if recorded {
            overlay.tape.push(db, [b"DEL", key.user_key()]);
        }
        overlay.events.push(Event {
            class,
            name,
            db,
            key: EventKey::from_slice(key.user_key()),
            client: 0,
        });
    }
}

/// Takes back every reply of a submission whose entry was not applied.
fn fail(submission: &Submission, outcome: Commit) {
    let mut state = submission.lock();
    if let Some(base) = state.base {
        state.replies.truncate(base);
    }
    // What was stopped before it was evaluated is not part of the entry.
    for command in state
        .commands
        .iter_mut()
        .filter(|c| c.outcome == Outcome::Done)
    {
        command.reply_end = None;
        command.outcome = match outcome {
            Commit::Refused => Outcome::NotExecuted,
            _ => Outcome::Unknown,
        };
    }
}
