//! What all network threads share: settings, figures, the list of clients.
//!
//! Nothing here is on the hot path but counters that only their own thread
//! writes.

use crate::config::Config;
use crate::monitor::Monitors;
use crate::pause::Pause;
use crate::replica::Replicas;
use crate::scripts::Scripts;
use crate::timing::Timing;
use crate::users::Users;
use arc_swap::ArcSwap;
use cairn_protocol::acl::{Account, Describe};
use cairn_protocol::command::{COUNT, CommandSpec};
use cairn_protocol::unread::Unread;
use dashmap::DashMap;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::time::Instant;

/// One client, as other threads may see it.
pub(crate) struct ClientInfo {
    pub id: u64,
    /// `ip:port`.
    pub address: String,
    /// Our own end, `ip:port`.
    pub local_address: String,
    pub since: Instant,
    /// CLIENT KILL: its task ends it when it next runs.
    pub killed: AtomicBool,
    /// Who is logged in; the default user before anybody is.
    account: ArcSwap<Account>,
    /// That user is no more: what was asked is still answered.
    pub expelled: AtomicBool,
    /// That user has lost channels: its subscriptions are to be looked at.
    channels_lost: AtomicBool,
    pub waker: AtomicWaker,
    /// Channels, patterns, sharded channels.
    pub subscriptions: [AtomicUsize; 3],
    /// Commands queued since MULTI; -1: no transaction is open.
    pub queued: AtomicI32,
    /// `CommandId::index` of the last command, or `usize::MAX`.
    pub last_command: AtomicUsize,
    /// Bytes of the command that is looked at.
    pub query_bytes: AtomicUsize,
    /// Milliseconds from `since` to the last command.
    pub last_active_ms: AtomicU64,
    /// CLIENT NO-EVICT.
    pub no_evict: AtomicBool,
    /// It has asked for MONITOR.
    pub monitoring: AtomicBool,
    /// It is sent what changes (SYNC).
    pub replica: AtomicBool,
    /// Where invalidations go, as CLIENT LIST shows it; -1: it does not track.
    pub redirect: AtomicI64,
    /// One of `AWAKE`, `WAITS`, `TO_TIME_OUT`, `TO_FAIL`.
    blocked: AtomicU8,
    /// Clients that wait, of the process.
    all_blocked: Arc<AtomicUsize>,
    /// What other threads send it: whole replies. Held for a copy.
    mail: Mutex<Vec<u8>>,
    has_mail: AtomicBool,
    /// Guards what CLIENT LIST shows; written only when a client changes it.
    pub labels: Mutex<Labels>,
}

/// What a client says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels {
    pub name: Vec<u8>,
    pub database: u16,
    pub resp3: bool,
}

/// It waits for neither keys nor replicas.
const AWAKE: u8 = 0;
const WAITS: u8 = 1;
const TO_TIME_OUT: u8 = 2;
const TO_FAIL: u8 = 3;

/// Bytes that other threads may leave for a client that does not take them.
const MAX_MAIL: usize = 32 << 20;

impl Describe for ClientInfo {
    fn describe(&self) -> String {
        String::from_utf8_lossy(&self.line()).into_owned()
    }
}

impl ClientInfo {
    /// Who is logged in.
    pub fn account(&self) -> Arc<Account> {
        self.account.load_full()
    }

    /// Somebody has logged in.
    pub fn enter(&self, account: &Arc<Account>) {
        self.account.store(account.clone());
    }

    /// Its user is no more.
    pub fn expel(&self) {
        self.expelled.store(true, Release);
        self.waker.wake();
    }

    /// Has its task see whether it may still listen to what it does.
    pub fn look_at_channels(&self) {
        self.channels_lost.store(true, Release);
        self.waker.wake();
    }

    /// Whether it was asked to since the last time.
    pub fn take_channels_lost(&self) -> bool {
        self.channels_lost.load(Acquire) && self.channels_lost.swap(false, AcqRel)
    }

    /// Its request waits for its keys, or for replicas.
    pub fn begin_waiting(&self) {
        self.blocked.store(WAITS, Release);
        self.all_blocked.fetch_add(1, Relaxed);
    }

    pub fn end_waiting(&self) {
        self.blocked.store(AWAKE, Release);
        self.all_blocked.fetch_sub(1, Relaxed);
    }

    /// CLIENT UNBLOCK: has its task end the wait, with an error or as if its
    /// time were over. False: it does not wait.
    pub fn unblock(&self, fail: bool) -> bool {
        let to = if fail { TO_FAIL } else { TO_TIME_OUT };
        let waits = self
            .blocked
            .compare_exchange(WAITS, to, AcqRel, Acquire)
            .is_ok();
        if waits {
            self.waker.wake();
        }
        waits
    }

    /// Whether its wait is to end, and with an error; once.
    pub fn take_unblock(&self) -> Option<bool> {
        match self.blocked.load(Acquire) {
            to @ (TO_TIME_OUT | TO_FAIL) => {
                // Its task alone goes on from here.
                self.blocked.store(WAITS, Release);
                Some(to == TO_FAIL)
            }
            _ => None,
        }
    }

    pub fn is_waiting(&self) -> bool {
        self.blocked.load(Acquire) != AWAKE
    }

    /// A command of so many bytes is looked at.
    pub fn runs(&self, spec: &CommandSpec, bytes: usize) {
        self.last_command.store(spec.id.index(), Relaxed);
        self.query_bytes.store(bytes, Relaxed);
        let now = self.since.elapsed().as_millis() as u64;
        self.last_active_ms.store(now, Relaxed);
    }

    /// It was routed.
    pub fn has_run(&self) {
        self.query_bytes.store(0, Relaxed);
    }

    /// Sends it whole replies that it did not ask for, from any thread. A
    /// client that does not take them is ended.
    pub fn send(&self, message: &[u8]) {
        let mut mail = self.mail.lock();
        if mail.len() + message.len() > MAX_MAIL {
            drop(mail);
            return self.kill();
        }
        mail.extend_from_slice(message);
        self.has_mail.store(true, Release);
        drop(mail);
        self.waker.wake();
    }

    /// What it was sent.
    pub fn take_mail(&self) -> Option<Vec<u8>> {
        if !self.has_mail.swap(false, AcqRel) {
            return None;
        }
        Some(std::mem::take(&mut *self.mail.lock()))
    }

    /// Whether it has any subscription.
    pub fn subscribes(&self) -> bool {
        self.subscriptions.iter().any(|n| n.load(Relaxed) > 0)
    }

    /// Has its task end the connection.
    pub fn kill(&self) {
        self.killed.store(true, Relaxed);
        self.waker.wake();
    }

    /// The letters of CLIENT LIST.
    fn flags(&self) -> String {
        let all = [
            (self.replica.load(Relaxed), 'S'),
            (self.monitoring.load(Relaxed), 'O'),
            (self.subscribes(), 'P'),
            (self.queued.load(Relaxed) >= 0, 'x'),
            (self.is_waiting(), 'b'),
            (self.redirect.load(Relaxed) >= 0, 't'),
            (self.no_evict.load(Relaxed), 'e'),
        ];
        let shown: String = all.iter().filter(|(is, _)| *is).map(|(_, f)| *f).collect();
        match shown.is_empty() {
            true => "N".into(),
            false => shown,
        }
    }

    /// The name of its last command.
    fn command(&self) -> &'static str {
        let last = self.last_command.load(Relaxed);
        let known = cairn_protocol::command::all().nth(last);
        known.map_or("NULL", |spec| spec.name)
    }

    /// Its line of CLIENT LIST, without the line end.
    pub fn line(&self) -> Vec<u8> {
        let labels = self.labels.lock();
        let mut line = format!(
            "id={} addr={} laddr={} fd=8 name=",
            self.id, self.address, self.local_address
        )
        .into_bytes();
        line.extend_from_slice(&labels.name);
        let age = self.since.elapsed().as_millis() as u64;
        let idle = age.saturating_sub(self.last_active_ms.load(Relaxed)) / 1000;
        let account = self.account.load();
        let user = String::from_utf8_lossy(account.name());
        let [sub, psub, ssub] = self.subscriptions.each_ref().map(|n| n.load(Relaxed));
        let rest = format!(
            " age={} idle={idle} flags={} db={} sub={sub} psub={psub} ssub={ssub} multi={} qbuf={} \
             qbuf-free=0 argv-mem=0 multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 \
             events=r cmd={} user={user} redir={} resp={}",
            age / 1000,
            self.flags(),
            labels.database,
            self.queued.load(Relaxed),
            self.query_bytes.load(Relaxed),
            self.command(),
            self.redirect.load(Relaxed),
            if labels.resp3 { 3 } else { 2 },
        );
        line.extend_from_slice(rest.as_bytes());
        line
    }
}

/// Figures of one network thread.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub commands: AtomicU64,
    pub input_bytes: AtomicU64,
}

impl Stats {
    /// Adds to a counter that only this thread writes.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Relaxed) + n, Relaxed);
    }
}

/// The clients of the process.
#[derive(Default)]
pub(crate) struct Registry {
    clients: DashMap<u64, Arc<ClientInfo>>,
    count: AtomicUsize,
    next_id: AtomicU64,
    /// Clients whose requests wait for their keys.
    pub blocked: Arc<AtomicUsize>,
}

impl Registry {
    /// Takes a place for a new connection, unless there are `max` already.
    pub fn admit(&self, max: usize) -> bool {
        self.count
            .fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1))
            .is_ok()
    }

    /// Lists an admitted client.
    pub fn add(
        &self,
        address: String,
        local_address: String,
        account: Arc<Account>,
    ) -> Arc<ClientInfo> {
        let info = Arc::new(ClientInfo {
            id: self.next_id.fetch_add(1, Relaxed) + 1,
            address,
            local_address,
            since: Instant::now(),
            killed: AtomicBool::new(false),
            account: ArcSwap::new(account),
            expelled: AtomicBool::new(false),
            channels_lost: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            subscriptions: Default::default(),
            queued: AtomicI32::new(-1),
            last_command: AtomicUsize::new(usize::MAX),
            query_bytes: AtomicUsize::new(0),
            last_active_ms: AtomicU64::new(0),
            no_evict: AtomicBool::new(false),
            monitoring: AtomicBool::new(false),
            replica: AtomicBool::new(false),
            redirect: AtomicI64::new(-1),
            blocked: AtomicU8::new(AWAKE),
            all_blocked: self.blocked.clone(),
            mail: Mutex::default(),
            has_mail: AtomicBool::new(false),
            labels: Mutex::default(),
        });
        self.clients.insert(info.id, info.clone());
        info
    }

    /// Gives an admitted client's place back.
    pub fn remove(&self, id: Option<u64>) {
        if let Some(id) = id {
            self.clients.remove(&id);
        }
        self.count.fetch_sub(1, Relaxed);
    }

    /// Connections now.
    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// A client by its id.
    pub fn find(&self, id: u64) -> Option<Arc<ClientInfo>> {
        self.clients.get(&id).map(|entry| entry.value().clone())
    }

    /// All clients, by id.
    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        let mut all: Vec<_> = self
            .clients
            .iter()
            .map(|entry| entry.value().clone())
            .collect();
        all.sort_by_key(|info| info.id);
        all
    }
}

/// What all threads share.
pub(crate) struct Shared {
    pub config: Config,
    pub registry: Registry,
    /// By thread.
    pub stats: Vec<Stats>,
    pub started: Instant,
    /// Connections taken in, and turned away.
    pub accepted: AtomicU64,
    pub rejected: AtomicU64,
    /// What threads had counted at CONFIG RESETSTAT: their counters are theirs alone.
    before: Stats,
    /// Connections closed in the middle of a large reply, whose rest was lost.
    pub cut_short: AtomicU64,
    /// The process is about to end: connections close once they are answered.
    pub draining: AtomicBool,
    /// Replies that clients have yet to take, beyond what each may have.
    pub unread: Arc<Unread>,
    /// Changed by CONFIG SET.
    pub settings: Mutex<crate::config::Settings>,
    /// Goes up with every change of `settings`.
    pub settings_version: AtomicU64,
    /// Commands that the proxy has answered itself, by `CommandId::index`.
    pub calls: Vec<AtomicU64>,
    pub monitors: Monitors,
    pub pause: Pause,
    pub scripts: Scripts,
    pub replicas: Replicas,
    pub timing: Timing,
    pub users: Arc<Users>,
}

impl Shared {
    pub fn new(config: Config, users: Arc<Users>) -> Arc<Self> {
        let threads = config.io_threads;
        Arc::new(Self {
            settings: Mutex::new(config.settings.clone()),
            settings_version: AtomicU64::new(0),
            calls: (0..COUNT).map(|_| AtomicU64::new(0)).collect(),
            monitors: Monitors::default(),
            pause: Pause::default(),
            scripts: Scripts::default(),
            replicas: Replicas::default(),
            timing: Timing::default(),
            users,
            config,
            registry: Registry::default(),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            before: Stats::default(),
            cut_short: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            unread: Arc::default(),
            stats: (0..threads).map(|_| Stats::default()).collect(),
            started: Instant::now(),
        })
    }

    /// A figure, summed over the threads, since it was last reset.
    pub fn sum(&self, counter: impl Fn(&Stats) -> &AtomicU64) -> u64 {
        let all = self.all(&counter);
        all.saturating_sub(counter(&self.before).load(Relaxed))
    }

    fn all(&self, counter: impl Fn(&Stats) -> &AtomicU64) -> u64 {
        let counters = self.stats.iter().map(counter);
        counters.map(|counter| counter.load(Relaxed)).sum()
    }

    /// CONFIG RESETSTAT.
    pub fn reset_stats(&self) {
        let before = &self.before;
        before.commands.store(self.all(|s| &s.commands), Relaxed);
        let input = self.all(|s| &s.input_bytes);
        before.input_bytes.store(input, Relaxed);
        self.accepted.store(0, Relaxed);
        self.rejected.store(0, Relaxed);
        self.calls.iter().for_each(|calls| calls.store(0, Relaxed));
        self.timing.reset();
    }
}
