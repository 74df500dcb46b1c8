//! What all network threads share: settings, figures, the list of clients.
//!
//! Nothing here is on the hot path but counters that only their own thread
//! writes.

use crate::config::Config;
use dashmap::DashMap;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
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
    pub waker: AtomicWaker,
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

impl ClientInfo {
    /// Has its task end the connection.
    pub fn kill(&self) {
        self.killed.store(true, Relaxed);
        self.waker.wake();
    }

    /// Its line of CLIENT LIST, without the line end.
    pub fn line(&self) -> Vec<u8> {
        let labels = self.labels.lock();
        let mut line = format!(
            "id={} addr={} laddr={} fd=0 name=",
            self.id, self.address, self.local_address
        )
        .into_bytes();
        line.extend_from_slice(&labels.name);
        let rest = format!(
            " age={} idle=0 flags=N db={} sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 \
             multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=NULL user=default \
             redir=-1 resp={}",
            self.since.elapsed().as_secs(),
            labels.database,
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
}

impl Registry {
    /// Takes a place for a new connection, unless there are `max` already.
    pub fn admit(&self, max: usize) -> bool {
        self.count
            .fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1))
            .is_ok()
    }

    /// Lists an admitted client.
    pub fn add(&self, address: String, local_address: String) -> Arc<ClientInfo> {
        let info = Arc::new(ClientInfo {
            id: self.next_id.fetch_add(1, Relaxed) + 1,
            address,
            local_address,
            since: Instant::now(),
            killed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
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
    /// The process is about to end: connections close once they are answered.
    pub draining: AtomicBool,
    /// Changed by CONFIG SET.
    pub settings: Mutex<crate::config::Settings>,
    /// Goes up with every change of `settings`.
    pub settings_version: AtomicU64,
}

impl Shared {
    pub fn new(config: Config) -> Arc<Self> {
        let threads = config.io_threads;
        Arc::new(Self {
            settings: Mutex::new(config.settings.clone()),
            settings_version: AtomicU64::new(0),
            config,
            registry: Registry::default(),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            stats: (0..threads).map(|_| Stats::default()).collect(),
            started: Instant::now(),
        })
    }

    /// A figure, summed over the threads.
    pub fn sum(&self, counter: impl Fn(&Stats) -> &AtomicU64) -> u64 {
        self.stats
            .iter()
            .map(|stats| counter(stats).load(Relaxed))
            .sum()
    }
}
