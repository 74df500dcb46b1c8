//! One client's state, as the commands on the connection see it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use cairn_protocol::resp::{ReplyWriter, Version};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::server::Server;

/// What the rest of the server may see and do of a client.
pub struct Client {
    pub id: u64,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub created: Instant,
    /// CLIENT SETNAME, library name and version. Guards a few words, touched rarely.
    pub labels: Mutex<Labels>,
    pub db: AtomicUsize,
    pub resp3: AtomicBool,
    /// Milliseconds since `created` of the last command.
    pub last_active_ms: AtomicU64,
    /// `CommandId::index` of the last command, or `usize::MAX`.
    pub last_command: AtomicUsize,
    pub query_buffer: AtomicUsize,
    pub output_buffer: AtomicUsize,
    /// CLIENT NO-EVICT.
    pub no_evict: AtomicBool,
    /// The socket's number, for CLIENT LIST; -1 until it is known.
    pub descriptor: AtomicI32,
    killed: AtomicBool,
    kill: Notify,
}

/// Names that a client gave itself.
#[derive(Default, Clone)]
pub struct Labels {
    pub name: String,
    pub lib_name: String,
    pub lib_version: String,
    pub user: String,
}

impl Client {
    pub fn new(id: u64, peer: SocketAddr, local: SocketAddr) -> Client {
        Client {
            id,
            peer,
            local,
            created: Instant::now(),
            labels: Mutex::new(Labels {
                user: "default".into(),
                ..Labels::default()
            }),
            db: AtomicUsize::new(0),
            resp3: AtomicBool::new(false),
            last_active_ms: AtomicU64::new(0),
            last_command: AtomicUsize::new(usize::MAX),
            query_buffer: AtomicUsize::new(0),
            output_buffer: AtomicUsize::new(0),
            no_evict: AtomicBool::new(false),
            descriptor: AtomicI32::new(-1),
            killed: AtomicBool::new(false),
            kill: Notify::new(),
        }
    }

    /// Closes the client's connection after what it is doing now.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.kill.notify_one();
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Waits until [`Client::kill`].
    pub async fn killed(&self) {
        if !self.is_killed() {
            self.kill.notified().await;
        }
    }
}

/// What the connection does after a session command.
pub enum Next {
    Continue,
    /// Send what was answered, then close.
    Close,
    /// Run off the network threads; the closure writes the reply.
    Work(Box<dyn FnOnce(&mut ReplyWriter) + Send>),
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
    pub reply_mode: ReplyMode,
    /// READONLY was sent (cluster: followers may serve reads).
    pub readonly: bool,
    /// ASKING was sent: the next command may go to an importing slot.
    pub asking: bool,
}

impl Session {
    pub fn new(server: Arc<Server>, client: Arc<Client>) -> Session {
        let authenticated = server.password.read().is_none();
        Session {
            server,
            client,
            db: 0,
            version: Version::V2,
            authenticated,
            reply_mode: ReplyMode::On,
            readonly: false,
            asking: false,
        }
    }

    /// Chooses the database of the commands that follow.
    pub fn select(&mut self, db: usize) {
        self.db = db;
        self.client.db.store(db, Ordering::Relaxed);
    }

    /// Chooses the protocol of this reply and those that follow.
    pub fn speak(&mut self, version: Version, out: &mut ReplyWriter) {
        self.version = version;
        out.set_version(version);
        self.client
            .resp3
            .store(version == Version::V3, Ordering::Relaxed);
    }

    /// RESET: as a new connection.
    pub fn reset(&mut self, out: &mut ReplyWriter) {
        self.speak(Version::V2, out);
        self.select(0);
        self.authenticated = self.server.password.read().is_none();
        self.reply_mode = ReplyMode::On;
        (self.readonly, self.asking) = (false, false);
        self.client.labels.lock().name.clear();
    }
}
