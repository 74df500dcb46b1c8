//! Whom this server follows, how far it is, and what others may see of that.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::refusals::Limits;
use crate::config::Settings;
use crate::group::{Follows, Group};
use crate::net::session::Unblock;
use crate::server::{Home, Server};
use crate::storage::{Followed, Held, Hold, ID_LEN};

/// How the link is, by the names that ROLE shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It is down, and tried again.
    Connect,
    Connecting,
    Handshake,
    /// The data set is on its way.
    Sync,
    Connected,
}

impl LinkState {
    pub fn name(self) -> &'static str {
        match self {
            LinkState::Connect => "connect",
            LinkState::Connecting => "connecting",
            LinkState::Handshake => "handshake",
            LinkState::Sync => "sync",
            LinkState::Connected => "connected",
        }
    }
}

/// A master's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    pub host: String,
    pub port: u16,
}

/// What INFO and ROLE show while a master is followed.
pub struct Shown {
    pub master: Master,
    pub link: LinkState,
    /// Bytes of the stream that were worked through, and that were read.
    pub offset: Option<u64>,
    pub read: u64,
    /// Since the master was heard of.
    pub silent: Duration,
    /// Since when the link is down, if it is.
    pub down: Option<Duration>,
    /// Bytes of the data set: all (0: not known), and those that came.
    pub transfer: (u64, u64),
}

/// See the module's documentation.
pub struct Following {
    /// What is refused to clients now: all that their commands look at.
    limits: AtomicU8,
    /// `replica-read-only`, `replica-serve-stale-data`, `replica-ignore-maxmemory`.
    read_only: AtomicBool,
    serves_stale: AtomicBool,
    ignores_maxmemory: AtomicBool,
    /// `repl-timeout`, seconds.
    timeout: AtomicU64,
    /// A master is followed.
    follows: AtomicBool,
    state: Mutex<State>,
    /// There is something to do, or to stop for.
    wake: Condvar,
    started: Instant,
    /// When the master was heard of last, ms since `started`.
    heard: AtomicU64,
    /// Bytes of the stream, and of the data set, that were read.
    read: AtomicU64,
    received: AtomicU64,
    /// Commands of the master that answered with an error.
    pub error_replies: AtomicU64,
    /// Bytes that came from masters.
    pub input_bytes: AtomicU64,
}

pub(super) struct State {
    pub master: Option<Master>,
    /// Raised with every REPLICAOF.
    pub epoch: u64,
    /// How often this server came to lead: data from before are of no stream since.
    pub led: u64,
    pub link: LinkState,
    /// The data set is being replaced: nobody may see it.
    pub loading: bool,
    /// How far the data set is in whose stream; `None`: in nobody's.
    pub at: Option<Followed>,
    pub total: u64,
    down_since: Instant,
    /// To wake whoever reads it.
    socket: Option<TcpStream>,
    pub stopping: bool,
    /// What has expired goes when the master says so.
    hold: Option<Hold>,
}

impl Default for Following {
    fn default() -> Following {
        Following {
            limits: AtomicU8::new(0),
            read_only: AtomicBool::new(true),
            serves_stale: AtomicBool::new(true),
            ignores_maxmemory: AtomicBool::new(true),
            timeout: AtomicU64::new(60),
            follows: AtomicBool::new(false),
            state: Mutex::new(State {
                master: None,
                epoch: 0,
                led: 0,
                link: LinkState::Connect,
                loading: false,
                at: None,
                total: 0,
                down_since: Instant::now(),
                socket: None,
                stopping: false,
                hold: None,
            }),
            wake: Condvar::new(),
            started: Instant::now(),
            heard: AtomicU64::new(0),
            read: AtomicU64::new(0),
            received: AtomicU64::new(0),
            error_replies: AtomicU64::new(0),
            input_bytes: AtomicU64::new(0),
        }
    }
}

impl Following {
    /// What is refused to clients now.
    #[inline]
    pub(super) fn limits(&self) -> Limits {
        Limits(self.limits.load(Ordering::Acquire))
    }

    /// Whether a master is followed.
    pub fn is_on(&self) -> bool {
        self.follows.load(Ordering::Acquire)
    }

    /// Whether clients may not write.
    pub fn is_read_only(&self) -> bool {
        self.limits().has(Limits::READ_ONLY)
    }

    /// Whether clients may not see the data, which are old.
    pub fn is_stale(&self) -> bool {
        self.limits().has(Limits::STALE)
    }

    pub fn is_loading(&self) -> bool {
        self.limits().has(Limits::LOADING)
    }

    /// Whether `maxmemory` is the master's affair.
    pub fn ignores_maxmemory(&self) -> bool {
        self.is_on() && self.ignores_maxmemory.load(Ordering::Relaxed)
    }

    /// Silence of the master after which the link is given up.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.load(Ordering::Relaxed).max(1))
    }

    /// `None`: nobody is followed.
    pub fn shown(&self) -> Option<Shown> {
        let state = self.state.lock();
        let master = state.master.clone()?;
        let up = state.link == LinkState::Connected;
        Some(Shown {
            master,
            link: state.link,
            offset: state.at.filter(|at| at.in_step).map(|at| at.offset),
            read: self.read.load(Ordering::Relaxed),
            silent: self.silent(),
            down: (!up).then(|| state.down_since.elapsed()),
            transfer: (state.total, self.received.load(Ordering::Relaxed)),
        })
    }

    /// The master was heard of: so many bytes.
    pub(super) fn heard(&self, bytes: u64) {
        let now = self.started.elapsed().as_millis() as u64;
        self.heard.store(now, Ordering::Relaxed);
        self.input_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn silent(&self) -> Duration {
        let now = self.started.elapsed().as_millis() as u64;
        Duration::from_millis(now.saturating_sub(self.heard.load(Ordering::Relaxed)))
    }

    pub(super) fn set_read(&self, offset: u64) {
        self.read.store(offset, Ordering::Release);
    }

    pub(super) fn set_received(&self, bytes: u64) {
        self.received.store(bytes, Ordering::Relaxed);
    }

    /// Whether a link of this epoch is still wanted.
    pub(super) fn is_current(&self, epoch: u64) -> bool {
        let state = self.state.lock();
        state.epoch == epoch && !state.stopping
    }

    /// Waits for somebody to follow. `None`: the server stops.
    pub(super) fn next(&self) -> Option<(Master, u64)> {
        let mut state = self.state.lock();
        loop {
            if state.stopping {
                return None;
            }
            if let Some(master) = state.master.clone() {
                return Some((master, state.epoch));
            }
            self.wake.wait(&mut state);
        }
    }

    /// Waits for a while, or until whom to follow changes.
    pub(super) fn pause(&self, epoch: u64, time: Duration) {
        let mut state = self.state.lock();
        if state.epoch == epoch && !state.stopping {
            self.wake.wait_for(&mut state, time);
        }
    }

    /// Looks at the state, or changes it, and what follows from it.
    pub(super) fn change<T>(&self, server: &Server, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let was = state.link;
        let outcome = f(&mut state);
        if was == LinkState::Connected && state.link != was {
            state.down_since = Instant::now();
        }
        self.settle(server, &state);
        outcome
    }

    /// The same of one link; `None`: it is wanted no more.
    pub(super) fn of_link<T>(
        &self,
        server: &Server,
        epoch: u64,
        f: impl FnOnce(&mut State) -> T,
    ) -> Option<T> {
        self.change(server, |state| {
            (state.epoch == epoch && !state.stopping).then(|| f(state))
        })
    }

    /// Whoever waits for this socket is woken when its link is wanted no more.
    pub(super) fn set_socket(&self, socket: Option<TcpStream>) {
        self.state.lock().socket = socket;
    }

    /// Ends the link to the master, which is made anew, if there is one and, where an
    /// address is given, it is with that. CLIENT KILL, to which a master is a client.
    pub(crate) fn cut_off(&self, address: Option<&[u8]>) -> bool {
        let mut state = self.state.lock();
        let Some(socket) = &state.socket else {
            return false;
        };
        let peer = socket.peer_addr().map(|peer| peer.to_string());
        let meant = address.is_none_or(|wanted| peer.is_ok_and(|peer| peer.as_bytes() == wanted));
        if meant {
            wake_reader(&mut state);
        }
        meant
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        wake_reader(&mut state);
        self.wake.notify_all();
    }

    fn settle(&self, server: &Server, state: &State) {
        let follows = state.master.is_some();
        let flag = |on: bool, limit: u8| if on { limit } else { 0 };
        let read_only = self.read_only.load(Ordering::Relaxed);
        let stale = state.link != LinkState::Connected;
        let stale = stale && !self.serves_stale.load(Ordering::Relaxed);
        let limits = flag(follows && read_only, Limits::READ_ONLY)
            | flag(follows && stale, Limits::STALE)
            | flag(state.loading, Limits::LOADING);
        self.limits.store(limits, Ordering::Release);
        self.follows.store(follows, Ordering::Release);
        if let Home::Standalone(group) = &server.home {
            group.set_follows(match (follows, read_only) {
                (false, _) => Follows::Nobody,
                (true, true) => Follows::Master,
                (true, false) => Follows::MasterLoosely,
            });
        }
    }
}

fn wake_reader(state: &mut State) {
    if let Some(socket) = state.socket.take() {
        // It may have ended by itself.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// Takes over what the settings are now.
pub(crate) fn follow_settings(server: &Server, settings: &Settings) {
    let following = &server.following;
    let flags = [
        (&following.read_only, "replica-read-only"),
        (&following.serves_stale, "replica-serve-stale-data"),
        (&following.ignores_maxmemory, "replica-ignore-maxmemory"),
    ];
    for (own, name) in flags {
        own.store(settings.flag(name), Ordering::Relaxed);
    }
    let timeout = settings.count("repl-timeout") as u64;
    following.timeout.store(timeout, Ordering::Relaxed);
    following.change(server, |_| {});
}

fn group(server: &Server) -> Option<&Arc<Group>> {
    match &server.home {
        Home::Standalone(group) => Some(group),
        Home::Node(_) => None,
    }
}

/// REPLICAOF host port. False: that is who is followed already.
pub(crate) fn follow(server: &Server, host: &str, port: u16) -> bool {
    let host = host.to_owned();
    follow_from(server, Master { host, port }, None)
}

/// FAILOVER: this server, which leads, follows one of its replicas from here on, which
/// goes on with our stream at `offset`. To be called between two entries of the group.
/// False: it does not lead.
pub(crate) fn hand_over(server: &Server, to: &Master, offset: u64) -> bool {
    let Some(id) = id_bytes(&server.replication_id()) else {
        return false;
    };
    server.following.set_read(offset);
    let at = Followed {
        in_step: true,
        offset,
        // Who leads next begins with a SELECT.
        db: 0,
        id,
    };
    follow_from(server, to.clone(), Some(at))
}

/// `own`: how far our own stream is, which the data set is of, if it leads so far.
fn follow_from(server: &Server, master: Master, own: Option<Followed>) -> bool {
    let Some(group) = group(server) else {
        return true;
    };
    let is_new = server.following.change(server, |state| {
        let is_same = state.master.as_ref() == Some(&master);
        if is_same || (own.is_some() && state.master.is_some()) {
            return false;
        }
        if own.is_some() {
            state.at = own;
        } else if state.master.is_none() && !state.at.is_some_and(|at| at.in_step) {
            // Data of our own are in nobody's stream.
            state.at = None;
        }
        state.down_since = Instant::now();
        state.master = Some(master);
        state.link = LinkState::Connect;
        next_epoch(state, group);
        let hold = || group.store.hold_garbage(Held::Expired);
        state.hold.get_or_insert_with(hold);
        true
    });
    if is_new {
        server.announcer.feed.follow_master();
        for client in server.clients.iter().filter(|client| client.is_blocked()) {
            client.unblock(Unblock::Demoted);
        }
        server.following.wake.notify_all();
    }
    is_new
}

/// REPLICAOF NO ONE. False: nobody was followed.
pub(crate) fn lead(server: &Server) -> bool {
    lead_on(server, false)
}

/// PSYNC FAILOVER, or one that was begun here and is aborted: replicas that have all of
/// the stream so far can go on with it. False: nobody was followed.
pub(crate) fn take_over(server: &Server) -> bool {
    lead_on(server, true)
}

fn lead_on(server: &Server, keeps: bool) -> bool {
    let Some(group) = group(server) else {
        return false;
    };
    let mut loading = false;
    let led = server.following.change(server, |state| {
        if state.master.take().is_none() {
            return false;
        }
        // A data set that is being loaded is emptied by whoever loads it, and shown
        // to nobody before.
        state.link = LinkState::Connect;
        state.led += 1;
        next_epoch(state, group);
        // What is read from now on is not done any more; what was read is, perhaps.
        let read = server.following.read.load(Ordering::Acquire);
        let at = state.at.take();
        let has_all = at.is_some_and(|at| at.in_step && at.offset == read);
        let hold = state.hold.take();
        loading = state.loading;
        server
            .announcer
            .feed
            .lead(hold.filter(|_| keeps && has_all));
        server.shift_replication_id();
        true
    });
    if led && !loading {
        let store = group.store.clone();
        group.between_entries(Box::new(move || {
            if let Err(error) = store.forget_followed() {
                tracing::error!(%error, "how far the master was followed stays on disk");
            }
        }));
    }
    server.following.wake.notify_all();
    led
}

fn next_epoch(state: &mut State, group: &Group) {
    state.epoch += 1;
    group.stream_epoch.store(state.epoch, Ordering::Release);
    wake_reader(state);
}

/// At the start: what is left of a master that was followed. A data set that had not
/// come whole is emptied.
///
/// # Errors
/// It cannot be read, or not be emptied.
pub(crate) fn recover(server: &Arc<Server>) -> anyhow::Result<()> {
    let Some(group) = group(server) else {
        return Ok(());
    };
    let at = group.store.followed()?;
    let replicaof = server.settings.lock().text("replicaof");
    if at.is_some_and(|at| !at.in_step) {
        tracing::warn!("the data set of a master had not come whole: it is emptied");
        crate::replication::empty(group).map_err(anyhow::Error::msg)?;
    }
    let at = at.filter(|at| at.in_step);
    let Some((host, port)) = replicaof.rsplit_once(' ') else {
        return Ok(group.store.forget_followed()?);
    };
    if let Some(at) = at {
        server.set_replication_id(&at.id);
        server.announcer.feed.follow_master();
        server
            .announcer
            .feed
            .begin_at(at.offset, usize::from(at.db));
        server.following.change(server, |state| state.at = Some(at));
    }
    follow(server, host, port.parse()?);
    Ok(())
}

/// A replication id as it is kept.
pub(super) fn id_bytes(id: &str) -> Option<[u8; ID_LEN]> {
    id.as_bytes().try_into().ok()
}
