//! One client's state, as the commands on the connection see it.

use std::cell::OnceCell;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Instant;

use arc_swap::ArcSwap;
use cairn_protocol::acl::{Account, Context, Subject};
use cairn_protocol::command::{CommandSpec, id, subscriber_error};
use cairn_protocol::monitor::refused_to_monitor;
use cairn_protocol::resp::{ReplyWriter, Version};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::Debugging;
use super::address::Address;
use super::multi::Multi;
use super::outbox::{Message, Outbox, OutputLimit, Put};
use crate::config::LiveSettings;
use crate::group::Group;
use crate::pubsub::Subscriptions;
use crate::replication::Handshake;
use crate::server::Server;
use crate::tracking::{self, ClientTracking};

/// What the rest of the server may see and do of a client.
pub struct Client {
    pub id: u64,
    pub peer: Address,
    pub local: Address,
    pub created: Instant,
    /// CLIENT SETNAME, library name and version. Guards a few words, touched rarely.
    pub labels: Mutex<Labels>,
    /// Who is logged in; the default user before anybody is.
    account: ArcSwap<Account>,
    pub db: AtomicUsize,
    pub resp3: AtomicBool,
    /// Milliseconds since `created` of the last command.
    pub last_active_ms: AtomicU64,
    /// `CommandId::index` of the last command, or `usize::MAX`.
    pub last_command: AtomicUsize,
    pub query_buffer: AtomicUsize,
    /// Room in the same buffer that is not used.
    pub query_free: AtomicUsize,
    pub output_buffer: AtomicUsize,
    /// What is queued since MULTI, and the keys that are watched, bytes.
    pub queued_bytes: AtomicUsize,
    pub watched_bytes: AtomicUsize,
    /// What it was counted as in `ClientMemory`.
    counted: AtomicUsize,
    /// CLIENT NO-EVICT.
    pub no_evict: AtomicBool,
    /// The socket's number, for CLIENT LIST; -1 until it is known.
    pub descriptor: AtomicI32,
    /// It is sent what changes (SYNC).
    replica: AtomicBool,
    /// Its MONITOR lines are wanted.
    pub monitoring: AtomicBool,
    pub subscriptions: Subscriptions,
    pub tracking: ClientTracking,
    outbox: Outbox,
    live: Arc<LiveSettings>,
    /// The connection is to give unused buffers back.
    idle: AtomicBool,
    /// Commands queued since MULTI; -1: no transaction is open.
    pub queued: AtomicI32,
    /// WAITS, TO_TIME_OUT, TO_FAIL, or 0: it waits for no keys.
    blocked: AtomicU8,
    unblock: Notify,
    killed: AtomicBool,
    /// Killed for what it costs: it gets no answer.
    evicted: AtomicBool,
    /// Killed for what it has not read: nothing more is sent.
    cut_off: AtomicBool,
    /// The connection is gone.
    gone: AtomicBool,
    /// Wakes the connection: it was killed, or its outbox is not empty. One task alone
    /// waits, at one place at a time.
    signal: AtomicWaker,
    /// It is behind a proxy: the link that is to be told of the same.
    relay: Option<Relay>,
}

/// A link's door for the clients behind it, and the client's number there.
pub struct Relay {
    pub key: u32,
    pub wake: mpsc::UnboundedSender<u32>,
}

const WAITS: u8 = 1;
const TO_TIME_OUT: u8 = 2;
const TO_FAIL: u8 = 3;
const TO_DEMOTE: u8 = 4;

/// How CLIENT UNBLOCK ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unblock {
    /// As if its time were over.
    TimeOut,
    /// With an error.
    Error,
    /// With another one: the server follows a master from now on.
    Demoted,
}

/// What [`Unblock::Error`] answers.
pub(crate) const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";

/// Names that a client gave itself.
#[derive(Default, Clone)]
pub struct Labels {
    pub name: String,
    pub lib_name: String,
    pub lib_version: String,
}

impl Client {
    pub fn new(
        id: u64,
        peer: impl Into<Address>,
        local: impl Into<Address>,
        live: Arc<LiveSettings>,
        account: Arc<Account>,
    ) -> Client {
        Client {
            id,
            peer: peer.into(),
            local: local.into(),
            created: Instant::now(),
            labels: Mutex::default(),
            account: ArcSwap::new(account),
            db: AtomicUsize::new(0),
            resp3: AtomicBool::new(false),
            last_active_ms: AtomicU64::new(0),
            last_command: AtomicUsize::new(usize::MAX),
            query_buffer: AtomicUsize::new(0),
            query_free: AtomicUsize::new(0),
            output_buffer: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            watched_bytes: AtomicUsize::new(0),
            counted: AtomicUsize::new(0),
            no_evict: AtomicBool::new(false),
            descriptor: AtomicI32::new(-1),
            replica: AtomicBool::new(false),
            monitoring: AtomicBool::new(false),
            subscriptions: Subscriptions::default(),
            tracking: ClientTracking::default(),
            outbox: Outbox::default(),
            live,
            idle: AtomicBool::new(false),
            queued: AtomicI32::new(-1),
            blocked: AtomicU8::new(0),
            unblock: Notify::new(),
            killed: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            signal: AtomicWaker::new(),
            relay: None,
        }
    }

    /// This client, if a link of a proxy stands for its connection.
    pub fn behind(mut self, relay: Relay) -> Client {
        self.relay = Some(relay);
        self
    }

    /// Whether it is behind a proxy, which listens at every node.
    pub fn is_relayed(&self) -> bool {
        self.relay.is_some()
    }

    fn wake(&self) {
        self.signal.wake();
        if let Some(relay) = &self.relay {
            // The link may be gone.
            let _ = relay.wake.send(relay.key);
        }
    }

    /// Who is logged in.
    pub fn account(&self) -> Arc<Account> {
        self.account.load_full()
    }

    /// Sends the client something that it did not ask for. A client that has
    /// too much unread is cut off instead.
    pub fn send(&self, message: &mut Message<'_>) {
        let unsent = self.output_buffer.load(Ordering::Relaxed);
        match self.outbox.put(message, self.limit(), unsent) {
            Put::First => self.wake(),
            Put::TooMuch => self.cut_off(),
            Put::Behind | Put::Gone => {}
        }
        self.count_memory();
    }

    /// The output buffer limits of the client's class.
    pub fn limit(&self) -> &OutputLimit {
        match self.subscriptions.any() {
            _ if self.is_replica() => &self.live.output.replica,
            true => &self.live.output.pubsub,
            false => &self.live.output.normal,
        }
    }

    /// Whether it is sent what changes (SYNC).
    pub fn is_replica(&self) -> bool {
        self.replica.load(Ordering::Relaxed)
    }

    pub(crate) fn be_replica(&self, is_one: bool) {
        self.replica.store(is_one, Ordering::Relaxed);
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.outbox.len() + self.output_buffer.load(Ordering::Relaxed)
    }

    /// What the client costs, bytes.
    pub fn memory(&self) -> usize {
        let parts = [
            &self.query_buffer,
            &self.query_free,
            &self.queued_bytes,
            &self.watched_bytes,
        ];
        let parts: usize = parts.iter().map(|n| n.load(Ordering::Relaxed)).sum();
        let names = self.subscriptions.bytes() + self.tracking.bytes();
        size_of::<Client>() + parts + names + self.unsent()
    }

    /// Counts it for `maxmemory-clients`, if there is such a limit.
    pub fn count_memory(&self) {
        let memory = &self.live.client_memory;
        if memory.is_limited() {
            let now = if self.is_gone() { 0 } else { self.memory() };
            memory.count(&self.counted, now);
        }
    }

    /// Whether a client that cannot be sent these bytes must go.
    pub(crate) fn exceeds(&self, unsent: usize) -> bool {
        self.outbox.exceeds(self.limit(), unsent)
    }

    /// Closes the connection; what waits to be sent is thrown away.
    pub(crate) fn cut_off(&self) {
        tracing::warn!(
            client = self.id,
            "closed: it exceeded its output buffer limit"
        );
        self.outbox.close();
        self.cut_off.store(true, Ordering::Release);
        self.kill();
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Acquire)
    }

    /// The connection is gone.
    pub(crate) fn end(&self) {
        self.gone.store(true, Ordering::Release);
        self.outbox.close();
        self.live.client_memory.count(&self.counted, 0);
    }

    /// Whether nothing that is sent can arrive any more.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire) || self.is_killed()
    }

    pub(crate) fn has_messages(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Puts what others sent behind what is in `out`: a whole number of replies.
    pub(crate) fn take_messages(&self, out: &mut ReplyWriter) {
        self.outbox.take(out);
    }

    /// Closes the client's connection after what it is doing now.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.wake();
    }

    /// Closes it for what it costs.
    pub fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        self.kill();
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Its command waits for its keys from now on.
    pub(crate) fn begin_blocked(&self) {
        self.blocked.store(WAITS, Ordering::Release);
    }

    pub(crate) fn end_blocked(&self) {
        self.blocked.store(0, Ordering::Release);
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire) != 0
    }

    /// CLIENT UNBLOCK. False: it waits for nothing, or was unblocked already.
    pub fn unblock(&self, how: Unblock) -> bool {
        let to = match how {
            Unblock::TimeOut => TO_TIME_OUT,
            Unblock::Error => TO_FAIL,
            Unblock::Demoted => TO_DEMOTE,
        };
        let waits = self
            .blocked
            .compare_exchange(WAITS, to, Ordering::AcqRel, Ordering::Acquire);
        if waits.is_ok() {
            self.unblock.notify_one();
        }
        waits.is_ok()
    }

    /// Waits until [`Client::unblock`]. Dropping the future is safe.
    pub(crate) async fn unblocked(&self) -> Unblock {
        loop {
            match self.blocked.load(Ordering::Acquire) {
                TO_TIME_OUT => return Unblock::TimeOut,
                TO_FAIL => return Unblock::Error,
                TO_DEMOTE => return Unblock::Demoted,
                // A permit may be left from an earlier wait.
                _ => self.unblock.notified().await,
            }
        }
    }

    /// Waits until [`Client::kill`]. Cancel safe, as `Client::disturbed`:
    /// what the signal stood for is looked at before it is waited for.
    pub async fn killed(&self) {
        self.signalled(|| self.is_killed()).await;
    }

    /// Has the connection give back what an idle client need not have.
    pub fn save_memory(&self) {
        self.idle.store(true, Ordering::Release);
        self.signal.wake();
    }

    /// Whether it was asked to since the last time. Whoever waits for
    /// [`Client::disturbed`] takes it, or the next wait is over at once.
    pub(crate) fn take_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire) && self.idle.swap(false, Ordering::AcqRel)
    }

    /// Waits until [`Client::kill`], a message to send, or
    /// [`Client::save_memory`].
    pub(crate) async fn disturbed(&self) {
        let is_idle = || self.idle.load(Ordering::Acquire);
        self.signalled(|| self.is_killed() || self.has_messages() || is_idle())
            .await;
    }

    /// Waits until `seen`. Every read of the connection does, so that it costs little.
    async fn signalled(&self, seen: impl Fn() -> bool) {
        std::future::poll_fn(|cx| {
            if seen() {
                return Poll::Ready(());
            }
            self.signal.register(cx.waker());
            // The signal may have been given just before.
            match seen() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

/// What the connection does after a session command.
pub enum Next {
    Continue,
    /// Send what was answered, then close.
    Close,
    /// Run off the network threads; the closure writes the reply.
    Work(Box<dyn FnOnce(&mut ReplyWriter) + Send>),
    /// Answer with a number, later: once the future is over, or the client is unblocked.
    Answer {
        over: Pin<Box<dyn Future<Output = ()>>>,
        number: Box<dyn Fn() -> i64>,
    },
    /// Become a replica's connection.
    Sync {
        psync: bool,
    },
    /// Wait; the future writes nothing, what is to be answered is in the reply already.
    Wait(Pin<Box<dyn Future<Output = ()>>>),
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    On,
    Off,
    /// Of the next command no reply is sent.
    Skip,
    /// Of this command no reply is sent, then `On`.
    SkipNow,
}

/// One connection's own state.
pub struct Session {
    pub server: Arc<Server>,
    pub client: Arc<Client>,
    pub db: usize,
    pub version: Version,
    pub authenticated: bool,
    /// Who is logged in.
    pub account: Arc<Account>,
    /// The same with rules that must be looked at; made when first asked for.
    subject: OnceCell<Arc<Subject>>,
    pub reply_mode: ReplyMode,
    /// READONLY was sent (cluster: followers may serve reads).
    pub readonly: bool,
    /// ASKING was sent: the next command may go to an importing slot.
    pub asking: bool,
    /// The reply of the command that runs is part of another (EXEC): no
    /// message may come before its end.
    pub nested: bool,
    /// CLIENT TRACKING: which of its reads are remembered.
    pub tracking: tracking::Kind,
    /// CLIENT CACHING, for the next command.
    pub caching: bool,
    /// What a replica has said about itself (REPLCONF).
    pub handshake: Handshake,
    /// SCRIPT DEBUG.
    pub debugging: Option<Debugging>,
    /// What was queued since MULTI.
    pub multi: Option<Box<Multi>>,
    watching: Watching,
}

/// Where a session watches keys.
#[derive(Default)]
struct Watching {
    groups: Vec<Arc<Group>>,
    /// Of all of them, in a cluster.
    slot: Option<u16>,
}

impl Session {
    pub fn new(server: Arc<Server>, client: Arc<Client>) -> Session {
        let authenticated = server.acl.is_open();
        Session {
            account: client.account(),
            subject: OnceCell::new(),
            server,
            client,
            db: 0,
            version: Version::V2,
            authenticated,
            reply_mode: ReplyMode::On,
            readonly: false,
            asking: false,
            nested: false,
            tracking: tracking::Kind::Off,
            caching: false,
            handshake: Handshake::default(),
            debugging: None,
            multi: None,
            watching: Watching::default(),
        }
    }

    /// A connection without a client, for what scripts call and masters send.
    pub(crate) fn without_client(server: &Arc<Server>) -> Session {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let live = server.live.clone();
        let account = server.acl.default_user().clone();
        let client = Arc::new(Client::new(0, nowhere, nowhere, live, account));
        let mut session = Session::new(server.clone(), client);
        session.authenticated = true;
        session
    }

    /// Whether commands may be run: somebody has logged in, or need not.
    pub fn may_run(&self) -> bool {
        self.authenticated || self.server.acl.is_open()
    }

    /// Whose rights must be looked at; `None`: everything is allowed.
    #[inline]
    pub fn subject(&self) -> Option<&Arc<Subject>> {
        match self.account.is_unrestricted() {
            true => None,
            false => Some(self.subject.get_or_init(|| self.make_subject())),
        }
    }

    fn make_subject(&self) -> Arc<Subject> {
        let (account, registry) = (self.account.clone(), self.server.acl.clone());
        Arc::new(Subject::new(account, registry, self.client.clone()))
    }

    /// Where a refusal of now comes from.
    pub fn context(&self) -> Context {
        match self.nested || self.multi.is_some() {
            true => Context::Multi,
            false => Context::TopLevel,
        }
    }

    /// Logs somebody in; a failure changes nothing and is noted, `command` being
    /// what asked for it. True: it was right.
    pub fn log_in(&mut self, name: &[u8], password: &[u8], command: &[u8]) -> bool {
        let registry = self.server.acl.clone();
        let entered = registry.log_in(name, password, |account| self.enter(account));
        match entered {
            true => self.authenticated = true,
            false => {
                registry.note_failed_login(&*self.client, self.context(), command, name);
            }
        }
        entered
    }

    fn enter(&mut self, account: &Arc<Account>) {
        self.client.account.store(account.clone());
        self.account = account.clone();
        self.subject = OnceCell::new();
    }

    /// Sends what others have sent so far, where that may be done now. For
    /// commands whose reply comes behind messages that they cause.
    pub fn deliver(&self, out: &mut ReplyWriter) {
        if self.may_deliver() && self.client.has_messages() {
            self.client.take_messages(out);
        }
    }

    /// Answers with a message of the kind that is sent even to a client that
    /// wants no replies. [`Session::deliver`] once all are.
    pub fn confirm(&self, message: &mut Message<'_>, out: &mut ReplyWriter) {
        match self.nested {
            true => message.put(out),
            false => self.client.send(message),
        }
    }

    /// Whether what the next command reads is remembered for the client.
    pub fn tracks(&self) -> bool {
        match self.tracking {
            tracking::Kind::Off | tracking::Kind::Broadcast => false,
            tracking::Kind::All => true,
            tracking::Kind::OptIn => self.caching,
            tracking::Kind::OptOut => !self.caching,
        }
    }

    fn may_deliver(&self) -> bool {
        !self.nested && self.reply_mode == ReplyMode::On
    }

    /// What a subscriber in RESP2 is told that asks for something else; its
    /// connection is for messages.
    pub(super) fn refused_to_subscriber(&self, spec: &CommandSpec) -> Option<Vec<u8>> {
        if self.version == Version::V3 || !self.client.subscriptions.any() {
            return None;
        }
        let allowed = matches!(
            spec.id,
            id::PING
                | id::SUBSCRIBE
                | id::SSUBSCRIBE
                | id::UNSUBSCRIBE
                | id::SUNSUBSCRIBE
                | id::PSUBSCRIBE
                | id::PUNSUBSCRIBE
                | id::QUIT
                | id::RESET
        );
        (!allowed).then(|| subscriber_error(spec).into_bytes())
    }

    /// What a client is told that monitors, and asks for what is in keys.
    pub(super) fn refused_to_monitor(&self, spec: &CommandSpec) -> Option<Vec<u8>> {
        let monitors = self.client.monitoring.load(Ordering::Relaxed);
        let refused = monitors.then(|| refused_to_monitor(spec)).flatten();
        refused.map(|line| line.as_bytes().to_vec())
    }

    /// Chooses the database of the commands that follow.
    pub fn select(&mut self, db: usize) {
        self.db = db;
        self.client.db.store(db, Ordering::Relaxed);
    }

    /// Chooses the protocol of this reply and those that follow.
    pub fn speak(&mut self, version: Version, out: &mut ReplyWriter) {
        let may_deliver = self.may_deliver();
        self.version = version;
        self.client
            .outbox
            .speak(version, may_deliver.then_some(&mut *out));
        out.set_version(version);
        self.client
            .resp3
            .store(version == Version::V3, Ordering::Relaxed);
    }

    /// RESET: as a new connection.
    pub fn reset(&mut self, out: &mut ReplyWriter) {
        self.speak(Version::V2, out);
        self.select(0);
        self.enter(&self.server.acl.default_user().clone());
        self.authenticated = self.server.acl.is_open();
        self.reply_mode = ReplyMode::On;
        (self.readonly, self.asking) = (false, false);
        self.server.forget(&self.client);
        (self.tracking, self.caching) = (tracking::Kind::Off, false);
        self.client.labels.lock().name.clear();
        self.discard();
    }

    // Transactions.

    pub(crate) fn begin_multi(&mut self, multi: Multi) {
        self.multi = Some(Box::new(multi));
        self.show_multi(Some(0));
    }

    /// What CLIENT LIST shows.
    pub(crate) fn show_multi(&self, queued: Option<usize>) {
        let queued = queued.map_or(-1, |n| n.min(i32::MAX as usize) as i32);
        self.client.queued.store(queued, Ordering::Relaxed);
        let bytes = self.multi.as_ref().map_or(0, |multi| multi.bytes());
        self.client.queued_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Ends the open transaction, for EXEC, which shows its end when it has run.
    pub(crate) fn take_multi(&mut self) -> Box<Multi> {
        self.multi.take().expect("a transaction is open")
    }

    /// DISCARD: no transaction, nothing watched.
    pub fn discard(&mut self) {
        if self.multi.take().is_some() {
            self.show_multi(None);
        }
        self.unwatch();
    }

    /// WATCH is on its way to the writer of `group`.
    pub(crate) fn note_watch(&mut self, group: &Arc<Group>, slot: Option<u16>) {
        let watching = &mut self.watching;
        if !watching.groups.iter().any(|g| Arc::ptr_eq(g, group)) {
            watching.groups.push(group.clone());
        }
        watching.slot = slot;
    }

    /// Keys of so many bytes are watched besides.
    pub(crate) fn note_watched(&self, bytes: usize) {
        let watched = &self.client.watched_bytes;
        watched.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_watching(&self) -> bool {
        !self.watching.groups.is_empty()
    }

    /// The slot of all watched keys, in a cluster.
    pub(crate) fn watched_slot(&self) -> Option<u16> {
        self.watching.slot
    }

    /// Whether nothing is watched elsewhere.
    pub(crate) fn watches_only(&self, group: &Arc<Group>) -> bool {
        self.watching.groups.iter().all(|g| Arc::ptr_eq(g, group))
    }

    /// UNWATCH
    pub fn unwatch(&mut self) {
        let watching = std::mem::take(&mut self.watching);
        self.client.watched_bytes.store(0, Ordering::Relaxed);
        for group in watching.groups {
            group.unwatch(self.client.id);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.unwatch();
    }
}
