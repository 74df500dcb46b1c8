//! The stream of changes, and who gets it.
//!
//! Everyone may append; one lock orders all. Sending is putting bytes into the
//! outboxes of the replicas' connections, which never waits. A replica is told of
//! the groups that it was attached to. Those of proxies get frames
//! (`cairn_protocol::link::feed`), which keep the groups apart; all others the
//! commands of all their groups in the order in which they were applied.
//!
//! While this server follows a master itself (`follow`), the stream is that master's:
//! its bytes are passed on as they came, under its id and offset, and nothing of our
//! own is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cairn_protocol::link::feed::{FrameHead, FrameKind};
use cairn_protocol::resp::ReplyWriter;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::backlog::Backlog;
use super::follow::Master;
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

    /// Whether clients reach it there, as it says.
    pub fn is_at(&self, host: &str, port: i64) -> bool {
        i64::from(self.port) == port && self.host.eq_ignore_ascii_case(host)
    }

    /// Whether it has worked through all that was told, and says so.
    fn has_all(&self, offset: u64) -> bool {
        let progress = self.progress.lock();
        let is_there = progress.state == ReplicaState::Online && progress.acknowledged == offset;
        is_there && !self.silent
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
    /// Somebody is attached, and the stream is our own: all that the hot path looks at.
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
    /// A backlog is kept: standalone.
    keeps_backlog: AtomicBool,
    /// Seconds without replicas after which it is given up; 0: never.
    backlog_ttl: AtomicU64,
    pub syncs: Syncs,
}

/// How replicas began.
#[derive(Default)]
pub struct Syncs {
    pub full: AtomicU64,
    /// With what they had missed.
    pub partial: AtomicU64,
    /// They wanted that in vain.
    pub refused: AtomicU64,
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
    backlog: Option<Backlog>,
    /// Bytes that a backlog has at most.
    backlog_size: usize,
    /// The stream is that of the master that is followed.
    follows: bool,
    /// The database that it has selected.
    followed_db: usize,
    pinged: Option<Instant>,
}

struct Attached {
    replica: Arc<Replica>,
    groups: Vec<GroupId>,
    /// There are others, or will be when it is attached to all.
    of_several: bool,
    /// Bytes that it was sent since.
    told: u64,
    /// The database that the stream had selected before, if it is a master's.
    begins_in: Option<usize>,
    /// What has expired goes by the log alone.
    holds: Vec<Hold>,
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

    /// A replica that has all that was told: the one at this address, or any.
    fn in_step(&self, at: Option<&Master>) -> Option<Master> {
        let mut replicas = self.replicas.values().map(|attached| &attached.replica);
        let found = replicas.find(|replica| {
            at.is_none_or(|at| replica.is_at(&at.host, i64::from(at.port)))
                && replica.has_all(self.offset)
        })?;
        Some(Master {
            host: found.host.clone(),
            port: found.port,
        })
    }

    /// Whether what changes is to be told.
    fn is_recording(&self) -> bool {
        !self.follows && (!self.replicas.is_empty() || self.backlog.is_some())
    }

    /// The stream goes on by these bytes.
    fn goes_on(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        if let Some(backlog) = &mut self.backlog {
            backlog.push(bytes, self.backlog_size);
        }
    }

    /// Replicas that are gone; what the last one held is the backlog's.
    fn remove(&mut self, gone: impl Fn(&Attached) -> bool) {
        let ids: Vec<u64> = self
            .replicas
            .iter()
            .filter(|(_, attached)| gone(attached))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(attached) = self.replicas.remove(&id) else {
                continue;
            };
            if self.replicas.is_empty()
                && let Some(backlog) = &mut self.backlog
            {
                backlog.be_idle(attached.holds);
            }
        }
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
        if self.follows || !(self.has(false) || self.backlog.is_some()) {
            return;
        }
        let mut bytes = Vec::new();
        tape.write(&mut self.selected, &mut bytes);
        self.goes_on(&bytes);
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

    /// Takes on a part of a master's stream.
    fn pass_on(&mut self, bytes: &Bytes, db: usize) {
        if self.follows {
            self.goes_on(bytes);
            self.followed_db = db;
            self.send(false, None, bytes.clone());
        }
    }

    /// A command that is not the data's: its bytes for those who read commands, a
    /// frame for the others.
    fn send_command(&mut self, kind: FrameKind, words: &[&[u8]]) {
        if self.follows {
            return;
        }
        if self.has(false) {
            let mut bytes = Vec::new();
            put_request(&mut bytes, words.iter());
            self.goes_on(&bytes);
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
        let ttl = settings.count("repl-backlog-ttl") as u64;
        self.backlog_ttl.store(ttl, Ordering::Relaxed);
        self.state.lock().backlog_size = settings.count("repl-backlog-size");
    }

    /// From now on replicas that come back may be told what they missed. Not where
    /// several groups are told of: each has its own order.
    pub fn keep_backlog(&self) {
        self.keeps_backlog.store(true, Ordering::Relaxed);
    }

    /// Whether anybody is to be told of changes.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Acquire)
    }

    /// Attaches a replica to a group, which may be one `of_several`. To be called
    /// between two entries of the group.
    pub fn attach(&self, replica: Arc<Replica>, group: GroupId, hold: Hold, of_several: bool) {
        let mut state = self.state.lock();
        if replica.client.is_killed() {
            // It must begin anew already.
            return;
        }
        // The newcomer knows of no SELECT so far.
        state.selected = None;
        replica.client.be_replica(true);
        let begins_in = state.follows.then_some(state.followed_db);
        if self.keeps_backlog.load(Ordering::Relaxed) {
            state.backlog.get_or_insert_default().be_used();
        }
        let attached = state
            .replicas
            .entry(replica.client.id)
            .or_insert_with(|| Attached {
                replica,
                groups: Vec::new(),
                of_several,
                told: 0,
                begins_in,
                holds: Vec::new(),
            });
        attached.groups.push(group);
        attached.holds.push(hold);
        state.pinged.get_or_insert_with(Instant::now);
        self.recording
            .store(state.is_recording(), Ordering::Release);
    }

    /// Attaches a replica that has the stream up to before byte `next`, counted from 1,
    /// and tells it the rest. False: that is not there any more.
    pub fn resume(&self, replica: Arc<Replica>, group: GroupId, hold: Hold, next: u64) -> bool {
        let mut state = self.state.lock();
        let missing = (state.offset + 1).checked_sub(next);
        let backlog = state.backlog.as_mut();
        let Some(rest) = missing.and_then(|n| backlog?.last(n)) else {
            return false;
        };
        if let Some(backlog) = &mut state.backlog {
            backlog.be_used();
        }
        let rest = Bytes::from(rest);
        let write = |out: &mut ReplyWriter| out.raw_bytes(rest.clone());
        replica.client.be_replica(true);
        replica.client.send(&mut Message::new(&write));
        replica.acknowledge(next.saturating_sub(1));
        let attached = Attached {
            groups: vec![group],
            of_several: false,
            told: rest.len() as u64,
            begins_in: None,
            holds: vec![hold],
            replica: replica.clone(),
        };
        state.replicas.insert(replica.client.id, attached);
        state.pinged.get_or_insert_with(Instant::now);
        true
    }

    /// Size of the backlog, and its first byte; `None`: there is none.
    pub fn backlog(&self) -> Option<(usize, u64)> {
        let state = self.state.lock();
        let len = state.backlog.as_ref()?.len();
        Some((len, state.offset + 1 - len as u64))
    }

    /// How much was told before what a replica is sent, and the database that was
    /// selected there if the stream is a master's; `None` if it is not attached (any
    /// more).
    pub fn begins_at(&self, client: u64) -> Option<(u64, Option<usize>)> {
        let state = self.state.lock();
        let attached = state.replicas.get(&client)?;
        Some((state.offset - attached.told, attached.begins_in))
    }

    /// From now on the stream is that of a master.
    pub fn follow_master(&self) {
        let mut state = self.state.lock();
        (state.follows, state.backlog) = (true, None);
        self.recording.store(false, Ordering::Release);
    }

    /// The master's stream goes on from here: a data set of its own came before, so
    /// that replicas begin anew.
    pub fn begin_at(&self, offset: u64, db: usize) {
        let mut state = self.state.lock();
        state.dismiss("the data set is another master's", |_| true);
        // What it had is of another stream.
        state.backlog = None;
        (state.offset, state.followed_db) = (offset, db);
        drop(state);
        self.news.notify_waiters();
    }

    /// A part of the master's stream that changed no data. All else comes with the
    /// tapes of entries.
    pub fn pass_on(&self, bytes: &Bytes, db: usize) {
        self.state.lock().pass_on(bytes, db);
    }

    /// The stream is our own again; replicas begin anew. `kept`: no batch of the master
    /// is under way, so that one that has all can go on; what is to be held for them.
    pub fn lead(&self, kept: Option<Hold>) {
        let mut state = self.state.lock();
        state.dismiss("the master is followed no more", |_| true);
        // What it had may lack a last batch, which will not be told.
        state.backlog = kept.map(Backlog::begin);
        (state.follows, state.selected) = (false, None);
        self.recording
            .store(state.is_recording(), Ordering::Release);
        drop(state);
        self.news.notify_waiters();
    }

    /// The client is no replica any more.
    pub fn detach(&self, client: &Client) {
        if !client.is_replica() {
            return;
        }
        let mut state = self.state.lock();
        client.be_replica(false);
        state.remove(|attached| attached.replica.client.id == client.id);
        self.recording
            .store(state.is_recording(), Ordering::Release);
        drop(state);
        self.news.notify_waiters();
    }

    /// What an entry of a group did, once it is applied.
    pub fn tell(&self, group: GroupId, tape: &Tape) {
        let mut state = self.state.lock();
        for part in tape.passed_on() {
            state.pass_on(&part.bytes, part.db);
        }
        if !state.is_recording() || !tape.has_commands() {
            return;
        }
        if tape.has_whole() {
            // It would take what other groups hold with it: written behind their own
            // flush, or pinned there if they are yet to be attached.
            state.dismiss("a flush of one of several groups", |attached| {
                !attached.replica.framed && attached.of_several
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
        let mut state = self.state.lock();
        if state.is_recording() {
            state.dismiss(why, |_| true);
            state.backlog = None;
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

    /// FAILOVER: whether a replica has all that was told, the one at this address or any.
    pub fn has_in_step(&self, at: Option<&Master>) -> bool {
        self.state.lock().in_step(at).is_some()
    }

    /// Ends the stream here, if such a replica has all of it, or `anyway`: it is to go on
    /// with it. Replies with who that is, and how long the stream is. To be called
    /// between two entries of the group.
    pub fn hand_over(&self, at: Option<&Master>, anyway: bool) -> Option<(Master, u64)> {
        let mut state = self.state.lock();
        let found = match state.in_step(at) {
            None if anyway => at.cloned()?,
            found => found?,
        };
        (state.follows, state.backlog) = (true, None);
        self.recording.store(false, Ordering::Release);
        Some((found, state.offset))
    }

    /// How long a replica may be silent, or take nothing.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.load(Ordering::Relaxed).max(1))
    }

    /// Whether `min-replicas-to-write` forbids writes now.
    pub fn forbids_writes(&self) -> bool {
        let least = self.min_replicas.load(Ordering::Relaxed);
        // Without a bound of the lag nothing is asked, as in Redis.
        least > 0
            && self.max_lag.load(Ordering::Relaxed) > 0
            && self.good_replicas() < least
            && !self.state.lock().follows
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
        let mut state = self.state.lock();
        // Attached while its connection ended.
        state.remove(|attached| attached.replica.client.is_gone());
        let ttl = Duration::from_secs(self.backlog_ttl.load(Ordering::Relaxed));
        if state
            .backlog
            .as_ref()
            .is_some_and(|backlog| backlog.is_over(ttl))
        {
            state.backlog = None;
        }
        self.recording
            .store(state.is_recording(), Ordering::Release);
        if state.replicas.is_empty() {
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
