//! One network thread: its clients, its routes, its links.
//!
//! Everything here is touched by this thread alone. It lives as long as its
//! runtime.

use super::client::Client;
use super::registry::{Shared, Stats};
use crate::backend::{self, Link, retry};
use crate::config::Settings;
use crate::route::{Lane, RouteMap, RouteTable, Target};
use crate::timing::Thresholds;
use crate::tracking;
use cairn_protocol::command::CommandSpec;
use cairn_protocol::timing::Tally;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How often parked lanes are looked at.
const PARKED_TURN: Duration = Duration::from_millis(1);

/// A network thread; see the module's header.
pub struct Thread {
    pub(crate) shared: Arc<Shared>,
    /// Index of the thread, and of its figures.
    index: usize,
    pub(crate) routes: RefCell<RouteTable>,
    /// What etcd says, for whoever must know when it changes.
    map: watch::Receiver<Arc<RouteMap>>,
    links: RefCell<HashMap<Rc<str>, Rc<Link>>>,
    /// Clients with lanes that wait for a way.
    parked: RefCell<Vec<Rc<Client>>>,
    parked_came: Notify,
    /// Clients with answers that are not written yet.
    dirty: RefCell<Vec<Rc<Client>>>,
    /// Clients with subscriptions or tracking, now or before, by id.
    listeners: RefCell<HashMap<u64, Rc<Client>>>,
    started: Instant,
    /// As of `settings_version`; see [`Self::refresh_settings`].
    settings: RefCell<Rc<Settings>>,
    settings_version: Cell<u64>,
    /// `settings.max_pause`, for the hot path.
    max_pause_ms: Cell<u64>,
    /// `settings.thresholds`, likewise.
    thresholds: Cell<Thresholds>,
    /// Microseconds since `started` when the turn began that serves a link.
    turn_us: Cell<u64>,
    /// What commands took, until it is added to what all threads share.
    tally: RefCell<Tally>,
}

impl Thread {
    /// A thread's state; needs a `LocalSet` around it.
    pub(crate) fn start(
        shared: Arc<Shared>,
        index: usize,
        routes: watch::Receiver<Arc<RouteMap>>,
    ) -> Rc<Self> {
        let thread = Rc::new(Self {
            settings: RefCell::default(),
            settings_version: Cell::new(u64::MAX),
            max_pause_ms: Cell::new(0),
            thresholds: Cell::default(),
            turn_us: Cell::new(0),
            tally: RefCell::default(),
            shared,
            index,
            routes: RefCell::default(),
            map: routes.clone(),
            links: RefCell::default(),
            parked: RefCell::default(),
            parked_came: Notify::new(),
            dirty: RefCell::default(),
            listeners: RefCell::default(),
            started: Instant::now(),
        });
        thread.settings();
        tokio::task::spawn_local(follow_routes(thread.clone(), routes));
        tokio::task::spawn_local(look_after_parked(thread.clone()));
        thread
    }

    /// The picture that etcd gives, and its changes.
    pub(crate) fn map(&self) -> watch::Receiver<Arc<RouteMap>> {
        self.map.clone()
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.shared.stats[self.index]
    }

    /// Milliseconds since the thread began.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Microseconds since the thread began.
    pub(crate) fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// Answers of nodes are taken in from now on.
    pub(crate) fn begin_turn(&self, now: Instant) {
        let since = now.saturating_duration_since(self.started);
        self.turn_us.set(since.as_micros() as u64);
    }

    /// When that was, in microseconds.
    pub(crate) fn turn_us(&self) -> u64 {
        self.turn_us.get()
    }

    /// What makes a command slow.
    pub(crate) fn thresholds(&self) -> Thresholds {
        self.thresholds.get()
    }

    /// Counts a command that took so long.
    pub(crate) fn tally(&self, spec: &CommandSpec, nanos: u64, failed: bool) {
        let commands = self.shared.timing.commands();
        let mut tally = self.tally.borrow_mut();
        tally.ran(commands, spec.id.index(), nanos, failed);
    }

    /// Shows everybody what was counted.
    pub(crate) fn settle_tally(&self) {
        self.tally
            .borrow_mut()
            .settle(self.shared.timing.commands());
    }

    /// The settings in force, as of the last CONFIG SET.
    pub(crate) fn settings(&self) -> Rc<Settings> {
        let version = self.shared.settings_version.load(Acquire);
        if version != self.settings_version.replace(version) {
            let settings = self.shared.settings.lock().clone();
            self.max_pause_ms.set(settings.max_pause.as_millis() as u64);
            self.thresholds.set(settings.thresholds);
            *self.settings.borrow_mut() = Rc::new(settings);
        }
        self.settings.borrow().clone()
    }

    /// How long a client may wait for a way to open.
    pub(crate) fn max_pause_ms(&self) -> u64 {
        self.max_pause_ms.get()
    }

    /// What is left of a call's time, for the node; at least 1.
    pub(crate) fn deadline_ms(&self, born_ms: u64) -> u32 {
        let waited = self.now_ms().saturating_sub(born_ms);
        self.max_pause_ms()
            .saturating_sub(waited)
            .clamp(1, u64::from(u32::MAX)) as u32
    }

    /// A link that has so much to write that clients should pause, if any.
    pub(crate) fn congested(&self) -> Option<Rc<Link>> {
        self.links
            .borrow()
            .values()
            .find(|link| link.is_congested())
            .cloned()
    }

    /// Where commands of a lane go now.
    pub(crate) fn target(self: &Rc<Self>, lane: Lane) -> Option<Target> {
        self.routes
            .borrow_mut()
            .target(lane, |address| self.link(address))
    }

    /// The same lane, but at an address that a node named (ASK).
    pub(crate) fn target_at(self: &Rc<Self>, lane: Lane, address: &Rc<str>) -> Option<Target> {
        let owner = self.routes.borrow().owner(lane);
        Some(Target {
            group: owner.group,
            epoch: 0,
            link: self.link(address),
        })
    }

    /// The link to an address; there is one per address and thread.
    fn link(self: &Rc<Self>, address: &Rc<str>) -> Rc<Link> {
        if let Some(link) = self.links.borrow().get(address) {
            return link.clone();
        }
        let link = backend::spawn(address.clone(), self);
        self.links
            .borrow_mut()
            .insert(address.clone(), link.clone());
        link
    }

    /// Links that take commands now.
    pub(crate) fn links_up(&self) -> usize {
        self.links
            .borrow()
            .values()
            .filter(|link| link.is_up())
            .count()
    }

    /// Drops the link to an address that no group is at any more. False if one
    /// is: then the link is to be tried again.
    pub(crate) fn forget_link(&self, address: &Rc<str>) -> bool {
        let wanted = self.routes.borrow().addresses().contains(address);
        if !wanted {
            self.links.borrow_mut().remove(address);
        }
        !wanted
    }

    /// The lanes of all living nodes, or of those whose links are up.
    pub(crate) fn node_lanes(self: &Rc<Self>, only_up: bool) -> Vec<Lane> {
        let lanes: Vec<Lane> = {
            let routes = self.routes.borrow();
            routes.nodes().map(|(lane, _)| lane).collect()
        };
        let is_up = |lane: &Lane| self.target(*lane).is_some_and(|to| to.link.is_up());
        lanes
            .into_iter()
            .filter(|lane| !only_up || is_up(lane))
            .collect()
    }

    /// Nodes have to hear of this client when their links come up.
    pub(crate) fn listen(&self, client: &Rc<Client>) {
        let mut listeners = self.listeners.borrow_mut();
        listeners.entry(client.id).or_insert_with(|| client.clone());
    }

    /// The client is gone.
    pub(crate) fn forget_listener(&self, id: u64) {
        self.listeners.borrow_mut().remove(&id);
    }

    pub(crate) fn listeners(&self) -> Vec<Rc<Client>> {
        self.listeners.borrow().values().cloned().collect()
    }

    pub(crate) fn mark_dirty(&self, client: Rc<Client>) {
        if !client.dirty.replace(true) {
            self.dirty.borrow_mut().push(client);
        }
    }

    /// Writes the answers of all clients that got some.
    pub(crate) fn flush_dirty(&self) {
        self.settle_tally();
        let mut dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        for client in dirty.drain(..) {
            client.flush();
        }
        let mut place = self.dirty.borrow_mut();
        if place.is_empty() {
            *place = dirty;
        }
    }

    pub(crate) fn watch_parked(&self, client: &Rc<Client>) {
        if !client.watched.replace(true) {
            self.parked.borrow_mut().push(client.clone());
            self.parked_came.notify_one();
        }
    }

    pub(crate) fn parked_clients(&self) -> Vec<Rc<Client>> {
        self.parked.borrow().clone()
    }

    /// Stops watching clients that have nothing parked.
    pub(crate) fn forget_unparked(&self) {
        self.parked.borrow_mut().retain(|client| {
            let keep = !client.state.borrow().lanes.is_empty();
            client.watched.set(keep);
            keep
        });
    }

    fn has_parked(&self) -> bool {
        !self.parked.borrow().is_empty()
    }

    fn connect_all(self: &Rc<Self>) {
        let addresses = self.routes.borrow().addresses();
        for address in addresses {
            self.link(&address);
        }
    }
}

/// Installs every new map, connects to new leaders, and tries what waits.
async fn follow_routes(thread: Rc<Thread>, mut routes: watch::Receiver<Arc<RouteMap>>) {
    loop {
        let map = routes.borrow_and_update().clone();
        let moved = thread.routes.borrow_mut().install(&map);
        thread.connect_all();
        if moved {
            tracking::lose_all(&thread);
            thread.flush_dirty();
        }
        retry::kick(&thread);
        if routes.changed().await.is_err() {
            return;
        }
    }
}

/// Tries parked lanes when their time has come.
async fn look_after_parked(thread: Rc<Thread>) {
    loop {
        thread.parked_came.notified().await;
        while thread.has_parked() {
            tokio::time::sleep(PARKED_TURN).await;
            retry::run_parked(&thread);
        }
    }
}
