//! The stream of changes, and who gets it.
//!
//! Everyone may append; one lock orders all. Sending is putting bytes into the
//! outboxes of the replicas' connections, which never waits. A replica is told of
//! the groups that it was attached to. Those of proxies get frames
//! (`cairn_protocol::link::feed`), which keep the groups apart; all others the
//! commands of all their groups in the order in which they were applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cairn_protocol::link::feed::{FrameHead, FrameKind};
use cairn_protocol::resp::ReplyWriter;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::config::Settings;
use crate::group::GroupId;
use crate::net::outbox::Message;
use crate::net::session::Client;
use crate::storage::Hold;
use crate::txn::tape::{Tape, put_request};

/// How far a replica is, by the names that INFO shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    WaitBgsave,
    SendBulk,
    Online,
}

impl ReplicaState {
    pub fn name(self) -> &'static str {
        match self {
            ReplicaState::WaitBgsave => "wait_bgsave",
            ReplicaState::SendBulk => "send_bulk",
            ReplicaState::Online => "online",
        }
    }
}

/// One attached replica.
pub struct Replica {
    pub client: Arc<Client>,
    /// Where the replica says that clients reach it.
    pub host: String,
    pub port: u16,
    /// It came by SYNC: it does not tell how far it is.
    pub silent: bool,
    /// It is a proxy's.
    pub framed: bool,
    progress: Mutex<Progress>,
}

struct Progress {
    state: ReplicaState,
    /// Bytes of the stream that it has worked through, as it says.
    acknowledged: u64,
    heard: Instant,
}

impl Replica {
    pub fn new(client: Arc<Client>, host: String, port: u16, silent: bool) -> Replica {
        Replica {
            client,
            host,
            port,
            silent,
            framed: false,
            progress: Mutex::new(Progress {
                state: ReplicaState::WaitBgsave,
                acknowledged: 0,
                heard: Instant::now(),
            }),
        }
    }

    /// The same for a proxy, which speaks for a replica of its own: it may have
    /// nothing to say for long.
    pub fn behind_proxy(client: Arc<Client>, host: String) -> Replica {
        Replica {
            framed: true,
            ..Replica::new(client, host, 0, true)
        }
    }

    pub fn state(&self) -> ReplicaState {
        self.progress.lock().state
    }

    pub fn set_state(&self, state: ReplicaState) {
        let mut progress = self.progress.lock();
        progress.state = state;
        progress.heard = Instant::now();
    }

    pub fn acknowledged(&self) -> u64 {
        self.progress.lock().acknowledged
    }

    /// Since when nothing was heard of it.
    pub fn lag(&self) -> Duration {
        self.progress.lock().heard.elapsed()
    }

    fn acknowledge(&self, offset: u64) {
        let mut progress = self.progress.lock();
        progress.acknowledged = progress.acknowledged.max(offset);
        progress.heard = Instant::now();
    }

    fn is_good(&self, max_lag: u64) -> bool {
        let progress = self.progress.lock();
        let lag = progress.heard.elapsed().as_secs();
        progress.state == ReplicaState::Online && lag <= max_lag
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Feed {
    /// Somebody is attached: all that the hot path looks at.
    recording: AtomicBool,
    state: Mutex<State>,
    /// A replica has told how far it is, or one has gone.
    news: Notify,
    /// Held by a change of the function libraries until replicas are told.
    functions: Mutex<()>,
    /// Seconds between two PINGs, and of silence after which a replica is given up.
    ping_period: AtomicU64,
    timeout: AtomicU64,
    min_replicas: AtomicUsize,
    /// Seconds.
    max_lag: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Bytes of the stream so far, whoever got them.
    offset: u64,
    /// The database that commands of the stream are for, if all know it.
    selected: Option<usize>,
    replicas: BTreeMap<u64, Attached>,
    /// Of the last frame.
    stamp: u64,
    pinged: Option<Instant>,
}

struct Attached {
    replica: Arc<Replica>,
    groups: Vec<GroupId>,
    /// Bytes that it was sent since.
    told: u64,
    /// What has expired goes by the log alone.
    _holds: Vec<Hold>,
}

impl Attached {
    fn follows(&self, group: Option<GroupId>) -> bool {
        group.is_none_or(|group| self.groups.contains(&group))
    }
}

impl State {
    fn has(&self, framed: bool) -> bool {
        let mut replicas = self.replicas.values();
        replicas.any(|attached| attached.replica.framed == framed)
    }

    /// Sends to those that follow the group. False: others miss it.
    fn send(&mut self, framed: bool, group: Option<GroupId>, bytes: Bytes) -> bool {
        let write = |out: &mut ReplyWriter| out.raw_bytes(bytes.clone());
        let mut message = Message::new(&write);
        let mut all = true;
        let replicas = self.replicas.values_mut();
        for attached in replicas.filter(|a| a.replica.framed == framed) {
            match attached.follows(group) {
                true => {
                    attached.told += bytes.len() as u64;
                    attached.replica.client.send(&mut message);
                }
                false => all = false,
            }
        }
        all
    }

    /// Tells those who read commands. Without a group: all of them.
    fn tell_plain(&mut self, group: Option<GroupId>, tape: &Tape) {
        if !self.has(false) {
            return;
        }
        let mut bytes = Vec::new();
        tape.write(&mut self.selected, &mut bytes);
        self.offset += bytes.len() as u64;
        if !self.send(false, group, bytes.into()) {
            // Not all know what is selected now.
            self.selected = None;
        }
    }

    /// Tells those who read frames; what they are told counts if nobody else reads.
    fn tell_framed(&mut self, head: FrameHead, group: Option<GroupId>, payload: &[u8]) {
        if !self.has(true) {
            return;
        }
        if !self.has(false) {
            self.offset += payload.len() as u64;
        }
        let frame = self.frame(head, payload);
        self.send(true, group, frame);
    }

    fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Bytes {
        self.stamp = wall_us().max(self.stamp + 1);
        let head = FrameHead {
            stamp: self.stamp,
            offset: self.offset,
            ..head
        };
        let mut bytes = Vec::new();
        head.put(payload, &mut bytes);
        bytes.into()
    }

    /// A command that is not the data's: its bytes for those who read commands, a
    /// frame for the others.
    fn send_command(&mut self, kind: FrameKind, words: &[&[u8]]) {
        if self.has(false) {
            let mut bytes = Vec::new();
            put_request(&mut bytes, words.iter());
            self.offset += bytes.len() as u64;
            self.send(false, None, bytes.into());
        }
        self.tell_framed(FrameHead::plain(kind), None, &[]);
    }

    /// Cuts off those that `which` picks: they have to begin anew.
    fn dismiss(&mut self, why: &str, which: impl Fn(&Attached) -> bool) {
        self.replicas.retain(|_, attached| {
            let goes = which(attached);
            if goes {
                let client = &attached.replica.client;
                tracing::warn!(client = client.id, why, "closed: a replica must begin anew");
                client.be_replica(false);
                client.kill();
            }
            !goes
        });
    }
}

fn wall_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros() as u64)
}

impl Feed {
    /// Takes over what the settings are now.
    pub fn follow(&self, settings: &Settings) {
        let numbers = [
            (&self.ping_period, "repl-ping-replica-period"),
            (&self.timeout, "repl-timeout"),
            (&self.max_lag, "min-replicas-max-lag"),
        ];
        for (own, name) in numbers {
            own.store(settings.count(name) as u64, Ordering::Relaxed);
        }
        let least = settings.count("min-replicas-to-write");
        self.min_replicas.store(least, Ordering::Relaxed);
    }

    /// Whether anybody is to be told of changes.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Acquire)
    }

    /// Attaches a replica to a group. To be called between two entries of the group.
    pub fn attach(&self, replica: Arc<Replica>, group: GroupId, hold: Hold) {
        let mut state = self.state.lock();
        // The newcomer knows of no SELECT so far.
        state.selected = None;
        replica.client.be_replica(true);
        let attached = state
            .replicas
            .entry(replica.client.id)
            .or_insert_with(|| Attached {
                replica,
                groups: Vec::new(),
                told: 0,
                _holds: Vec::new(),
            });
        attached.groups.push(group);
        attached._holds.push(hold);
        state.pinged.get_or_insert_with(Instant::now);
        self.recording.store(true, Ordering::Release);
    }

    /// How much was told before what a replica is sent; `None` if it is not attached
    /// (any more).
    pub fn begins_at(&self, client: u64) -> Option<u64> {
        let state = self.state.lock();
        let attached = state.replicas.get(&client)?;
        Some(state.offset - attached.told)
    }

    /// The client is no replica any more.
    pub fn detach(&self, client: &Client) {
        if !client.is_replica() {
            return;
        }
        let mut state = self.state.lock();
        client.be_replica(false);
        state.replicas.remove(&client.id);
        self.recording
            .store(!state.replicas.is_empty(), Ordering::Release);
        drop(state);
        self.news.notify_waiters();
    }

    /// What an entry of a group did, once it is applied.
    pub fn tell(&self, group: GroupId, tape: &Tape) {
        let mut state = self.state.lock();
        if state.replicas.is_empty() {
            return;
        }
        if tape.has_whole() {
            // It would take what other groups hold with it.
            state.dismiss("a flush of one of several groups", |attached| {
                !attached.replica.framed && attached.groups.len() > 1
            });
        }
        state.tell_plain(Some(group), tape);
        if state.has(true) {
            for piece in tape.pieces() {
                let (first, last) = piece.databases;
                let head = FrameHead {
                    databases: (first as u8, last as u8),
                    group,
                    ..FrameHead::plain(match piece.whole {
                        true => FrameKind::Whole,
                        false => FrameKind::Tape,
                    })
                };
                state.tell_framed(head, Some(group), &piece.bytes);
            }
        }
    }

    /// A command that is no entry: PUBLISH.
    pub fn tell_message<'a>(&self, db: usize, words: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.tell_command(FrameKind::Message, db, words);
    }

    /// A change of the function libraries.
    pub fn tell_functions<'a>(&self, db: usize, words: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.tell_command(FrameKind::Functions, db, words);
    }

    fn tell_command<'a>(
        &self,
        kind: FrameKind,
        db: usize,
        words: impl ExactSizeIterator<Item = &'a [u8]>,
    ) {
        if self.is_recording() {
            let mut tape = Tape::default();
            tape.push(db, words);
            let mut state = self.state.lock();
            state.tell_plain(None, &tape);
            for piece in tape.pieces() {
                let head = FrameHead {
                    databases: (db as u8, db as u8),
                    ..FrameHead::plain(kind)
                };
                state.tell_framed(head, None, &piece.bytes);
            }
        }
    }

    /// Says to one proxy that it has been sent all that was told by now.
    pub fn mark(&self, client: &Client) {
        let mut state = self.state.lock();
        let frame = state.frame(FrameHead::plain(FrameKind::Marked), &[]);
        let write = |out: &mut ReplyWriter| out.raw_bytes(frame.clone());
        client.send(&mut Message::new(&write));
    }

    /// Slots came or went, or a writer fell: all replicas begin anew, and are told
    /// nothing more.
    pub fn dismiss(&self, why: &str) {
        if self.is_recording() {
            let mut state = self.state.lock();
            state.dismiss(why, |_| true);
            self.recording.store(false, Ordering::Release);
            drop(state);
            self.news.notify_waiters();
        }
    }

    /// To be held while function libraries are changed and replicas are told,
    /// so that both happen in one order.
    pub fn hold_functions(&self) -> MutexGuard<'_, ()> {
        self.functions.lock()
    }

    /// Bytes of the stream so far.
    pub fn offset(&self) -> u64 {
        self.state.lock().offset
    }

    /// All who are attached.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        let state = self.state.lock();
        let replicas = state.replicas.values();
        replicas.map(|attached| attached.replica.clone()).collect()
    }

    pub fn replica(&self, client: u64) -> Option<Arc<Replica>> {
        let state = self.state.lock();
        let attached = state.replicas.get(&client)?;
        Some(attached.replica.clone())
    }

    /// REPLCONF ACK.
    pub fn acknowledge(&self, client: u64, offset: u64) {
        if let Some(replica) = self.replica(client) {
            replica.acknowledge(offset);
            self.news.notify_waiters();
        }
    }

    /// Replicas that have worked through all up to `offset`.
    pub fn caught_up(&self, offset: u64) -> usize {
        let state = self.state.lock();
        let replicas = state.replicas.values().map(|attached| &attached.replica);
        replicas
            .filter(|r| r.state() == ReplicaState::Online && r.acknowledged() >= offset)
            .count()
    }

    /// WAIT: until so many replicas have all that was sent up to `offset`.
    /// Dropping the future is safe.
    pub async fn wait_caught_up(&self, wanted: usize, offset: u64) {
        self.ask_progress();
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.caught_up(offset) >= wanted {
                return;
            }
            news.await;
        }
    }

    fn ask_progress(&self) {
        let mut state = self.state.lock();
        if !state.replicas.is_empty() {
            state.send_command(FrameKind::Ask, &[b"REPLCONF", b"GETACK", b"*"]);
        }
    }

    /// How long a replica may be silent, or take nothing.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.load(Ordering::Relaxed).max(1))
    }

    /// Whether `min-replicas-to-write` forbids writes now.
    pub fn forbids_writes(&self) -> bool {
        let least = self.min_replicas.load(Ordering::Relaxed);
        // Without a bound of the lag nothing is asked, as in Redis.
        least > 0 && self.max_lag.load(Ordering::Relaxed) > 0 && self.good_replicas() < least
    }

    pub fn min_replicas(&self) -> usize {
        self.min_replicas.load(Ordering::Relaxed)
    }

    /// Replicas that were heard of lately.
    pub fn good_replicas(&self) -> usize {
        let max_lag = self.max_lag.load(Ordering::Relaxed);
        let state = self.state.lock();
        let replicas = state.replicas.values();
        replicas.filter(|a| a.replica.is_good(max_lag)).count()
    }

    /// To be called about every 100 ms: PINGs, and the end of replicas that are silent.
    pub fn look(&self) {
        if !self.is_recording() {
            return;
        }
        let mut state = self.state.lock();
        // Attached while its connection ended.
        state.replicas.retain(|_, a| !a.replica.client.is_gone());
        if state.replicas.is_empty() {
            self.recording.store(false, Ordering::Release);
            return;
        }
        let period = Duration::from_secs(self.ping_period.load(Ordering::Relaxed));
        if state.pinged.is_none_or(|at| at.elapsed() >= period) {
            state.pinged = Some(Instant::now());
            state.send_command(FrameKind::Ping, &[b"PING"]);
        }
        let patience = Duration::from_secs(self.timeout.load(Ordering::Relaxed));
        for replica in state.replicas.values().map(|attached| &attached.replica) {
            let lost = replica.state() == ReplicaState::Online && replica.lag() > patience;
            if lost && !replica.silent {
                tracing::warn!(
                    client = replica.client.id,
                    "closed: a replica was silent for too long"
                );
                replica.client.kill();
            }
        }
    }
}
