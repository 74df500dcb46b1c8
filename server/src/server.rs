//! What all connections of a process share.
//!
//! Owned by `main` through an `Arc`; every field is either fixed at start, an
//! atomic, or a registry made for many tasks.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use cairn_protocol::acl::Registry;
use cairn_protocol::descriptors;
use cairn_protocol::timing::{LatencyMonitor, SlowLog};
use cairn_protocol::unread::Unread;
use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::announce::Announcer;
use crate::cluster::Node;
use crate::config::{Config, EvictionPolicy, LiveSettings, Settings, client_addresses};
use crate::eviction::Eviction;
use crate::group::Group;
use crate::net::InPieces;
use crate::net::session::Client;
use crate::net::sockets::Sockets;
use crate::pause::Pause;
use crate::pubsub::{Origin, PubSub};
use crate::replication::failover::Failover;
use crate::replication::follow::{self, Following};
use crate::saves::Saves;
use crate::stats::Stats;
use crate::transfer::Targets;
use crate::upkeep::Vitals;

/// Between two looks at batches that are waited for.
const BARRIER_POLL: Duration = Duration::from_millis(1);

/// What a Redis says whose allocator cannot do it.
const NO_DEFRAG: &str = "Active defragmentation cannot be enabled: it requires a Redis server \
                         compiled with a modified Jemalloc like the one shipped by default with \
                         the Redis source distribution";

/// Where the data of this process is.
pub enum Home {
    /// One group that owns every slot.
    Standalone(Arc<Group>),
    /// Groups of a cluster, as the topology has them.
    Node(Arc<Node>),
}

/// Where a command goes.
pub enum Route {
    Here(Arc<Group>),
    /// Another node serves the slot: the address that clients reach it by.
    Moved {
        slot: u16,
        host: String,
        port: u16,
    },
    /// Nobody is known to serve the slot.
    Unserved,
}

/// See the module's documentation.
pub struct Server {
    pub config: Config,
    pub live: Arc<LiveSettings>,
    pub home: Home,
    /// Where clients come in.
    pub sockets: Sockets,
    pub clients: DashMap<u64, Arc<Client>>,
    /// Pub/sub, and who is told what happens to keys.
    pub announcer: Arc<Announcer>,
    pub stats: Stats,
    pub slow_log: SlowLog,
    /// The users, and what was refused to them.
    pub acl: Arc<Registry>,
    /// Every parameter as it is now. Guards what CONFIG reads and changes.
    pub settings: Mutex<Settings>,
    /// CLIENT PAUSE.
    pub pause: Arc<Pause>,
    pub latency: LatencyMonitor,
    pub vitals: Vitals,
    pub saves: Saves,
    /// Where MIGRATE sends to.
    pub targets: Targets,
    /// What keeps to `maxmemory`.
    pub eviction: Eviction,
    /// The master that this server follows, if any.
    pub following: Following,
    /// A replica is about to lead in this server's place.
    pub failover: Failover,
    /// INFO's master_replid and master_replid2. Guards some letters, touched rarely.
    replication_ids: Mutex<ReplicationIds>,
    /// Where clients are accepted; 0 until they are.
    listening: AtomicU16,
    pub started: Instant,
    pub started_at: SystemTime,
    /// 40 hex digits, new at every start (INFO's run_id).
    pub run_id: String,
    pub connected: AtomicUsize,
    /// Clients that are sent replies in pieces.
    pub pieces: InPieces,
    /// Replies that clients have not taken while they send requests.
    pub unread: Arc<Unread>,
    /// Clients whose commands wait.
    pub blocked: AtomicUsize,
    next_client: AtomicU64,
    stopping: AtomicBool,
    stop: Notify,
}

impl Server {
    pub fn new(
        config: Config,
        live: Arc<LiveSettings>,
        home: Home,
        announcer: Arc<Announcer>,
    ) -> Server {
        let server = Server {
            live,
            acl: crate::users::configured(&config),
            settings: Mutex::new(config.settings.clone()),
            pause: announcer.pause.clone(),
            latency: LatencyMonitor::default(),
            vitals: Vitals::default(),
            saves: Saves::default(),
            targets: Targets::default(),
            eviction: Eviction::default(),
            following: Following::default(),
            failover: Failover::default(),
            replication_ids: Mutex::new(ReplicationIds {
                id: new_id(),
                before: None,
            }),
            listening: AtomicU16::new(0),
            config,
            home,
            sockets: Sockets::default(),
            clients: DashMap::new(),
            announcer,
            stats: Stats::default(),
            slow_log: SlowLog::default(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            run_id: new_id(),
            connected: AtomicUsize::new(0),
            pieces: InPieces::default(),
            unread: Arc::default(),
            blocked: AtomicUsize::new(0),
            next_client: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
        };
        server.saves.start(&server);
        if !server.is_cluster() {
            server.announcer.feed.keep_backlog();
        }
        follow::follow_settings(&server, &server.config.settings);
        server
    }

    /// The port that clients connect to: the one bound, if port 0 chose it.
    pub fn listening_port(&self) -> u16 {
        match self.listening.load(Ordering::Relaxed) {
            0 => self.config.port,
            port => port,
        }
    }

    /// Clients are accepted on this port now.
    pub fn set_listening_port(&self, port: u16) {
        self.listening.store(port, Ordering::Relaxed);
    }

    /// Where a master is told that clients reach this server.
    pub fn announced_port(&self) -> u16 {
        match self.settings.lock().count("replica-announce-port") {
            0 => self.listening_port(),
            port => port as u16,
        }
    }

    /// The name of the stream of changes: our own, or the master's that is followed.
    pub fn replication_id(&self) -> String {
        self.replication_ids.lock().id.clone()
    }

    /// Its name before, and up to where it was the same stream.
    pub fn replication_id_before(&self) -> Option<(String, u64)> {
        self.replication_ids.lock().before.clone()
    }

    /// Whether the stream of this name, before byte `next` (counted from 1), is the one
    /// that is here.
    pub fn is_own_stream(&self, id: &str, next: u64) -> bool {
        let ids = self.replication_ids.lock();
        let before = ids.before.as_ref();
        ids.id == id || before.is_some_and(|(was, until)| was == id && next <= *until)
    }

    /// DEBUG CHANGE-REPL-ID.
    pub fn renew_replication_id(&self) {
        *self.replication_ids.lock() = ReplicationIds {
            id: new_id(),
            before: None,
        };
    }

    /// The stream is that of a master from now on.
    pub fn set_replication_id(&self, id: &[u8]) {
        *self.replication_ids.lock() = ReplicationIds {
            id: String::from_utf8_lossy(id).into_owned(),
            before: None,
        };
    }

    /// The master that is followed has given its stream a new name, from `offset` on.
    pub fn rename_stream(&self, id: &[u8], offset: u64) {
        let mut ids = self.replication_ids.lock();
        let id = String::from_utf8_lossy(id).into_owned();
        let before = std::mem::replace(&mut ids.id, id);
        ids.before = Some((before, offset + 1));
    }

    /// The stream that was a master's is our own from now on.
    pub fn shift_replication_id(&self) {
        let offset = self.announcer.feed.offset();
        self.rename_stream(new_id().as_bytes(), offset);
    }

    /// Whether this process is a node of a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.home, Home::Node(_))
    }

    /// All groups that live here now.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        match &self.home {
            Home::Standalone(group) => vec![group.clone()],
            Home::Node(node) => node.hosted().iter().map(|h| h.group.clone()).collect(),
        }
    }

    /// Where a command on `slot` goes; a command without keys goes to a group
    /// of this process.
    pub fn route(&self, slot: Option<u16>) -> Route {
        match &self.home {
            Home::Standalone(group) => Route::Here(group.clone()),
            Home::Node(node) => node.route(slot),
        }
    }

    /// Whether this is a node on which no group is to live. One that is not open yet
    /// does.
    pub fn has_no_group(&self) -> bool {
        match &self.home {
            Home::Standalone(_) => false,
            Home::Node(node) => node.placed() == 0,
        }
    }

    /// What Redis would call used memory: the process as it was at its start,
    /// scripts, and what the data weighs wherever it lies. This is what
    /// `maxmemory` bounds; caches and buffers have `memory-limit`.
    pub fn used_memory(&self) -> u64 {
        let startup = self.vitals.startup_memory.load(Ordering::Relaxed);
        startup + crate::scripting::memory() as u64 + self.data_weight()
    }

    /// What the data weighs; of a cluster's groups that is not known.
    pub fn data_weight(&self) -> u64 {
        match &self.home {
            Home::Standalone(group) => group.store.weights.total(),
            Home::Node(_) => 0,
        }
    }

    /// Whether `maxmemory` is exceeded. Without one it costs a look.
    #[inline]
    pub fn is_over_maxmemory(&self) -> bool {
        let bound = self.live.maxmemory.load(Ordering::Relaxed);
        bound != 0
            && !self.is_cluster()
            && !self.following.ignores_maxmemory()
            && self.used_memory() > bound
    }

    /// The same, and nothing can be evicted: what needs memory is refused.
    pub fn is_out_of_memory(&self) -> bool {
        self.is_over_maxmemory()
            && (self.live.eviction_policy() == EvictionPolicy::NoEviction
                || self.eviction.is_exhausted())
    }

    /// Makes changed settings (their names) take effect.
    ///
    /// # Errors
    /// One that cannot be changed now, and why; nothing has changed then.
    pub fn apply_settings(
        &self,
        names: &[&'static str],
        settings: &Settings,
    ) -> Result<(), (&'static str, String)> {
        if names.contains(&"activedefrag") && settings.flag("activedefrag") {
            return Err(("activedefrag", NO_DEFRAG.into()));
        }
        if names.contains(&"maxclients") {
            self.allow_clients(settings.count("maxclients"))?;
        }
        if names.contains(&"port") || names.contains(&"bind") {
            self.listen(names, settings)?;
        }
        if names.contains(&"loglevel") {
            crate::logging::set_level(&settings.text("loglevel")).map_err(|e| ("loglevel", e))?;
        }
        if names.contains(&"requirepass") {
            if let Some(why) = self.refuses_password() {
                return Err(("requirepass", why.into()));
            }
            let password = Some(settings.bytes("requirepass")).filter(|p| !p.is_empty());
            self.acl.set_default_password(password);
        }
        crate::crash::enable(settings.flag("crash-log-enabled"));
        if names
            .iter()
            .any(|name| ["proc-title-template", "port", "bind"].contains(name))
        {
            self.show_title(settings);
        }
        self.live.follow(settings);
        crate::users::follow(&self.acl, settings);
        follow::follow_settings(self, settings);
        if names.iter().any(|name| name.starts_with("maxmemory")) {
            self.eviction.reconsider();
        }
        self.announcer.follow(settings);
        for group in self.groups() {
            group.follow(&self.live);
        }
        if names.iter().any(|name| name.starts_with("maxmemory")) {
            self.recount_clients();
        }
        Ok(())
    }

    /// Has the system allow sockets for so many clients. What is no more than before is
    /// as it was.
    fn allow_clients(&self, wanted: usize) -> Result<(), (&'static str, String)> {
        /// As many as Redis keeps for itself.
        const OWN_FILES: u64 = 32;
        let wanted = wanted as u64;
        if wanted <= self.live.maxclients.load(Ordering::Relaxed) as u64 {
            return Ok(());
        }
        let allowed = descriptors::allow(wanted + OWN_FILES).saturating_sub(OWN_FILES);
        if allowed >= wanted {
            return Ok(());
        }
        let why = format!(
            "The operating system is not able to handle the specified number of clients, try \
             with {allowed}"
        );
        Err(("maxclients", why))
    }

    /// What `ps` shows.
    pub fn show_title(&self, settings: &Settings) {
        let file = self.config.config_file.as_ref();
        let file = file.map_or_else(String::new, |path| path.display().to_string());
        let port = self.listening.load(Ordering::Relaxed);
        crate::process_title::show(settings, port, &file);
    }

    /// Exchanges the sockets that clients come in by.
    fn listen(
        &self,
        names: &[&'static str],
        settings: &Settings,
    ) -> Result<(), (&'static str, String)> {
        let (name, why) = match names.contains(&"port") {
            true => ("port", "Unable to listen on this port. Check server logs."),
            false => ("bind", "Failed to bind to specified addresses."),
        };
        if self.is_cluster() {
            let why = "the topology names where a node of a cluster is reached";
            return Err((name, why.into()));
        }
        let port = settings.count("port") as u16;
        let replaced = self.sockets.replace(&client_addresses(settings), port);
        replaced.map_err(|error| {
            tracing::warn!(%error, "the sockets stay as they were");
            (name, why.to_owned())
        })?;
        let open = self.sockets.addresses().unwrap_or_default();
        self.set_listening_port(open.first().map_or(port, |address| address.port()));
        Ok(())
    }

    /// Who listens to which channel.
    pub fn pubsub(&self) -> &PubSub {
        &self.announcer.pubsub
    }

    /// Sends a message to all who listen to a channel. Replies with how many
    /// do so on this node.
    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        if let Home::Node(node) = &self.home {
            node.spread.send(channel, message);
        }
        self.pubsub().publish(channel, message, Origin::Here)
    }

    /// The same for a sharded channel.
    pub fn publish_to_shard(&self, channel: &[u8], message: &[u8]) -> usize {
        self.pubsub().publish_to_shard(channel, message)
    }

    /// Nothing is sent to a client any more that it does not ask for.
    pub fn forget(&self, client: &Client) {
        self.pubsub().forget(client);
        self.announcer.tracking.disable(client);
        self.announcer.monitors.remove(client);
        self.announcer.feed.detach(client);
    }

    /// Waits until no batch is under way that began before now: from then on
    /// every change is told to listeners that were added before.
    pub fn writers_have_heard(&self) -> impl Future<Output = ()> + use<> {
        let mut passed: Vec<_> = self.groups().iter().map(|group| group.barrier()).collect();
        async move {
            // Almost always at once; else the time of one commit.
            loop {
                passed.retain(|passed| !passed.load(Ordering::Acquire));
                if passed.is_empty() {
                    return;
                }
                tokio::time::sleep(BARRIER_POLL).await;
            }
        }
    }

    /// A number for a new client, never reused in this process.
    pub fn next_client_id(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether clients from other machines are refused.
    pub fn is_protected(&self) -> bool {
        self.live.protected_mode.load(Ordering::Relaxed) && self.acl.default_has_no_password()
    }

    /// Begins the shutdown: no new connections, what is queued is finished.
    pub fn request_stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.sockets.close();
        crate::scripting::running::stop_all();
        self.stop.notify_waiters();
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits until [`Server::request_stop`].
    pub async fn stopped(&self) {
        let notified = self.stop.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if !self.is_stopping() {
            notified.await;
        }
    }
}

/// Names of the stream of changes.
struct ReplicationIds {
    id: String,
    before: Option<(String, u64)>,
}

/// 40 random hex digits, as Redis's ids are.
pub(crate) fn new_id() -> String {
    (0..40)
        .map(|_| char::from(b"0123456789abcdef"[rand::random_range(0..16)]))
        .collect()
}
