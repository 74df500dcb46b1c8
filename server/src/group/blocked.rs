//! Commands that wait for their keys: BLPOP and its like.
//!
//! The writer registers a [`Waiter`] under each key that it waits for, and
//! serves it, in order of arrival, when something happened to one of them
//! (`serve`). The connection that sent it holds the same waiter and may give
//! up at any time; the waiter's own state decides who was first. Owned by the
//! group; the mutexes guard plain tables and are held for a few look-ups.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use cairn_protocol::command::{CommandSpec, id};
use cairn_protocol::resp::{Args, ReplyWriter, Requests, Version};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::submission::QueuedCommand;
use crate::commands::DataHandler;
use crate::storage::KeyType;
use crate::storage::generations::DATABASES;

/// What became of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Its reply is there, and all that it shows is durable.
    Served,
    /// Its owner gave up before it was served.
    GivenUp,
    /// Nothing was executed; its command is to be sent again, here or
    /// wherever its slot now is.
    Again,
    /// It was served, and the fate of that is not known.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    /// The writer runs its command.
    Claimed,
    /// The writer has run it; what it did is not applied yet.
    Served,
    Over(Release),
}

struct WaiterState {
    phase: Phase,
    /// The owner wants to give up as soon as the writer lets go.
    giving_up: bool,
    reply: ReplyWriter,
    nanos: u32,
    failed: bool,
    waker: Option<Waker>,
}

/// One command that waits. See the module's documentation.
pub struct Waiter {
    /// Its place in the order of arrival.
    seq: u64,
    pub spec: &'static CommandSpec,
    pub handler: DataHandler,
    pub db: usize,
    pub version: Version,
    pub slot: Option<u16>,
    /// How long it waits, ms; 0: for ever.
    pub timeout_ms: u64,
    /// Its own copy of the command.
    request: Requests,
    /// Which arguments are the keys that it waits for.
    keys: SmallVec<[u32; 4]>,
    /// Guards the hand-over between writer and owner; never held for long.
    state: Mutex<WaiterState>,
}

impl Waiter {
    pub fn args(&self) -> Args<'_> {
        self.request.get(0)
    }

    /// The type of the keys that can serve it.
    pub(super) fn wants(&self) -> KeyType {
        match self.spec.id {
            id::BZPOPMIN | id::BZPOPMAX | id::BZMPOP => KeyType::SortedSet,
            id::XREAD | id::XREADGROUP => KeyType::Stream,
            _ => KeyType::List,
        }
    }

    /// Whether it is released when its stream goes.
    pub(super) fn reads_group(&self) -> bool {
        self.spec.id == id::XREADGROUP
    }

    /// The command with only the key at argument `at` left: the key that
    /// became ready is the one that serves, whatever comes before it in the
    /// command. `None`: it has no other.
    pub(super) fn narrowed(&self, at: usize) -> Option<Requests> {
        if self.keys.len() < 2 {
            return None;
        }
        let args = self.args();
        let (first, last) = (
            self.keys[0] as usize,
            self.keys[self.keys.len() - 1] as usize,
        );
        let one: Vec<&[u8]> = match self.spec.id {
            // BLMPOP timeout numkeys key [key ...] ...
            id::BLMPOP | id::BZMPOP => {
                let head = [args.get(0), args.get(1), b"1", args.get(at)];
                head.into_iter().chain(args.iter().skip(last + 1)).collect()
            }
            // XREAD ... STREAMS key [key ...] id [id ...]
            id::XREAD | id::XREADGROUP => {
                let of_key = [args.get(at), args.get(at + self.keys.len())];
                args.iter().take(first).chain(of_key).collect()
            }
            // BLPOP key [key ...] timeout
            _ => {
                let of_key = [args.get(at)];
                let head = args.iter().take(first).chain(of_key);
                head.chain(args.iter().skip(last + 1)).collect()
            }
        };
        let mut requests = Requests::default();
        requests.push_owned(one);
        Some(requests)
    }

    /// Writer: takes it to serve it. False: it is over.
    pub(super) fn claim(&self) -> bool {
        let mut state = self.state.lock();
        let waits = state.phase == Phase::Waiting;
        if waits {
            state.phase = Phase::Claimed;
        }
        waits
    }

    /// Writer: could not serve it. False: its owner has given up meanwhile.
    pub(super) fn unclaim(&self) -> bool {
        let giving_up = {
            let mut state = self.state.lock();
            state.phase = Phase::Waiting;
            state.giving_up
        };
        if giving_up {
            self.end(Release::GivenUp);
        }
        !giving_up
    }

    /// Writer: has run its command.
    pub(super) fn served(&self, reply: ReplyWriter, nanos: u32, failed: bool) {
        let mut state = self.state.lock();
        state.phase = Phase::Served;
        (state.reply, state.nanos, state.failed) = (reply, nanos, failed);
    }

    /// Ends it.
    pub(super) fn end(&self, release: Release) {
        let waker = {
            let mut state = self.state.lock();
            state.phase = Phase::Over(release);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Has its owner look at it again.
    pub(crate) fn wake(&self) {
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends it unless the writer has it. False: the writer has.
    fn end_waiting(&self, release: Release) -> bool {
        // From here on the writer cannot get hold of it.
        let waits = self.claim();
        if waits {
            self.end(release);
        }
        waits
    }

    /// Owner: gives up. True: it is over and nothing was executed; false: the
    /// writer has it, wait for what it says.
    fn give_up(&self) -> bool {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Waiting => {
                state.phase = Phase::Over(Release::GivenUp);
                true
            }
            Phase::Over(release) => release == Release::GivenUp,
            Phase::Claimed | Phase::Served => {
                state.giving_up = true;
                false
            }
        }
    }

    /// Whether nobody has begun to serve it.
    pub fn is_waiting(&self) -> bool {
        self.state.lock().phase == Phase::Waiting
    }

    /// Owner: waits for its end. Dropping the future is safe.
    pub async fn over(&self) -> Release {
        std::future::poll_fn(|cx| self.poll_over(cx)).await
    }

    /// [`Waiter::over`] as a poll.
    pub fn poll_over(&self, cx: &mut Context<'_>) -> Poll<Release> {
        let mut state = self.state.lock();
        if let Phase::Over(release) = state.phase {
            return Poll::Ready(release);
        }
        match &state.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => state.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Owner, once it was served: the reply, the time it took to serve it in
    /// ns, and whether it is an error.
    pub fn take_reply(&self) -> (ReplyWriter, u32, bool) {
        let mut state = self.state.lock();
        let reply = std::mem::take(&mut state.reply);
        (reply, state.nanos, state.failed)
    }
}

/// Which arguments a blocking command waits for.
fn waited_keys(spec: &CommandSpec, args: &Args<'_>) -> SmallVec<[u32; 4]> {
    match spec.id {
        // The destination is a key too, but nobody waits for it.
        id::BLMOVE | id::BRPOPLPUSH => SmallVec::from_slice(&[1]),
        _ => spec.routing_keys(args),
    }
}

#[derive(Default)]
struct Queue {
    /// By order of arrival, with the argument that is this key.
    waiters: BTreeMap<u64, (Arc<Waiter>, u32)>,
    group_readers: usize,
}

#[derive(Default)]
struct Tables {
    next: u64,
    all: BTreeMap<u64, Arc<Waiter>>,
    /// By database.
    keys: [HashMap<Box<[u8]>, Queue>; DATABASES],
}

/// All waiters of a group.
#[derive(Default)]
pub(super) struct Blocked {
    count: AtomicUsize,
    tables: Mutex<Tables>,
}

impl Blocked {
    /// Whether anybody waits.
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Writer: registers a command that found nothing, as `args` has it.
    pub fn register(
        &self,
        command: &QueuedCommand,
        args: &Args<'_>,
        timeout_ms: u64,
    ) -> Arc<Waiter> {
        let mut request = Requests::default();
        request.push_copy(*args);
        let mut tables = self.tables.lock();
        tables.next += 1;
        let waiter = Arc::new(Waiter {
            seq: tables.next,
            spec: command.spec,
            handler: command.handler,
            db: command.db as usize,
            version: command.version,
            slot: command.slot,
            timeout_ms,
            keys: waited_keys(command.spec, args),
            request,
            state: Mutex::new(WaiterState {
                phase: Phase::Waiting,
                giving_up: false,
                reply: ReplyWriter::new(command.version),
                nanos: 0,
                failed: false,
                waker: None,
            }),
        });
        tables.insert(&waiter);
        self.count.store(tables.all.len(), Ordering::Relaxed);
        waiter
    }

    /// Takes it off the tables.
    pub fn remove(&self, waiter: &Waiter) {
        let mut tables = self.tables.lock();
        tables.remove(waiter);
        self.count.store(tables.all.len(), Ordering::Relaxed);
    }

    /// Owner: gives up, see [`Waiter::give_up`].
    pub fn give_up(&self, waiter: &Waiter) -> bool {
        let over = waiter.give_up();
        if over {
            self.remove(waiter);
        }
        over
    }

    /// Writer: whether anybody waits for this key.
    pub fn has(&self, db: usize, key: &[u8]) -> bool {
        self.tables.lock().keys[db].contains_key(key)
    }

    /// Writer: all keys of a database that are waited for.
    pub fn keys_of(&self, db: usize) -> Vec<Box<[u8]>> {
        self.tables.lock().keys[db].keys().cloned().collect()
    }

    /// Writer: the first that waits for this key and came after `seq`, and
    /// which of its arguments the key is.
    pub fn next(&self, db: usize, key: &[u8], seq: u64) -> Option<(u64, Arc<Waiter>, usize)> {
        let tables = self.tables.lock();
        let after = (Bound::Excluded(seq), Bound::Unbounded);
        let (seq, (waiter, at)) = tables.keys[db].get(key)?.waiters.range(after).next()?;
        Some((*seq, waiter.clone(), *at as usize))
    }

    /// Writer: whether any of those who wait for this key reads as a group.
    pub fn has_group_readers(&self, db: usize, key: &[u8]) -> bool {
        let tables = self.tables.lock();
        tables.keys[db]
            .get(key)
            .is_some_and(|queue| queue.group_readers > 0)
    }

    /// Sends away those that wait and are `unwanted` here; not one that the
    /// writer is about to serve.
    pub fn release(&self, unwanted: impl Fn(&Waiter) -> bool) {
        if !self.any() {
            return;
        }
        let mut tables = self.tables.lock();
        let released: Vec<Arc<Waiter>> = tables
            .all
            .values()
            .filter(|waiter| unwanted(waiter))
            .cloned()
            .collect();
        for waiter in released {
            if waiter.end_waiting(Release::Again) {
                tables.remove(&waiter);
            }
        }
        self.count.store(tables.all.len(), Ordering::Relaxed);
    }
}

impl Tables {
    fn insert(&mut self, waiter: &Arc<Waiter>) {
        let args = waiter.args();
        for at in &waiter.keys {
            let key = args.get(*at as usize);
            let queue = self.keys[waiter.db].entry(key.into()).or_default();
            let new = queue.waiters.insert(waiter.seq, (waiter.clone(), *at));
            if new.is_none() && waiter.reads_group() {
                queue.group_readers += 1;
            }
        }
        self.all.insert(waiter.seq, waiter.clone());
    }

    fn remove(&mut self, waiter: &Waiter) {
        if self.all.remove(&waiter.seq).is_none() {
            return;
        }
        let args = waiter.args();
        for at in &waiter.keys {
            let key = args.get(*at as usize);
            let Some(queue) = self.keys[waiter.db].get_mut(key) else {
                continue;
            };
            if queue.waiters.remove(&waiter.seq).is_some() && waiter.reads_group() {
                queue.group_readers -= 1;
            }
            if queue.waiters.is_empty() {
                self.keys[waiter.db].remove(key);
            }
        }
    }
}
