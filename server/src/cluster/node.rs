//! A node: the groups that the topology places here, and who serves what.
//!
//! Owned by the process; commands and links hold an `Arc`. The replicated
//! state of each group decides what it serves; etcd's picture is only used to
//! tell clients where else to go (invariant 7).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use cairn_protocol::slot::SLOT_COUNT;
use cairn_protocol::topology::{
    GroupRecord, MemberRecord, NodeAddress, Topology, TopologyStore, TopologyWatch, now_ms, since,
};

use super::replica::{Replica, ReplicaView};
use super::sink::RaftSink;
use super::spread::Spread;
use super::users::Users;
use crate::announce::Announcer;
use crate::config::{AppendFsync, ClusterConfig, LiveSettings};
use crate::group::commit::{collect_garbage, sweep_payload};
use crate::group::{Commit, Group, SlotGate, SlotVerdict};
use crate::migration::{MigrationEntry, SlotRanges};
use crate::raft::{GroupSpec, RaftHandle};
use crate::server::Route;
use crate::storage::generations::GenerationMap;
use crate::storage::{DurableView, Resources, Store};

/// How often the compaction filter gets a newer view.
const VIEW_EVERY: Duration = Duration::from_secs(1);
/// Wait between looks whether a new group has its leader.
const ELECTION_POLL: Duration = Duration::from_millis(5);

/// A group of this node.
pub struct Hosted {
    pub group: Arc<Group>,
    pub view: Arc<ReplicaView>,
}

/// See the module's documentation.
pub struct Node {
    pub config: ClusterConfig,
    pub identity: MemberRecord,
    pub etcd: TopologyStore,
    pub topology: TopologyWatch,
    pub raft: RaftHandle,
    live: Arc<LiveSettings>,
    announcer: Arc<Announcer>,
    /// The way of messages to the other nodes.
    pub spread: Spread,
    /// Set once the server is made, before clients come.
    users: OnceLock<Arc<Users>>,
    resources: Arc<Resources>,
    data_dir: PathBuf,
    hosted: ArcSwap<Vec<Arc<Hosted>>>,
}

impl Node {
    #[allow(clippy::too_many_arguments)] // one call, at the start
    pub fn new(
        config: ClusterConfig,
        identity: MemberRecord,
        etcd: TopologyStore,
        topology: TopologyWatch,
        raft: RaftHandle,
        live: Arc<LiveSettings>,
        announcer: Arc<Announcer>,
        resources: Arc<Resources>,
        data_dir: &Path,
    ) -> Arc<Node> {
        Arc::new(Node {
            config,
            identity,
            etcd,
            topology,
            raft,
            live,
            announcer,
            spread: Spread::default(),
            users: OnceLock::new(),
            resources,
            data_dir: data_dir.to_path_buf(),
            hosted: ArcSwap::default(),
        })
    }

    /// Who is told what happens to keys.
    pub(crate) fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    pub(super) fn keep_users(&self, users: Arc<Users>) {
        let _ = self.users.set(users);
    }

    /// The users of the cluster.
    ///
    /// # Errors
    /// The node is still starting.
    pub fn users(&self) -> Result<&Users, String> {
        let users = self.users.get().map(|users| &**users);
        users.ok_or_else(|| "ERR the node is starting".to_owned())
    }

    /// The groups that live here now.
    pub fn hosted(&self) -> Arc<Vec<Arc<Hosted>>> {
        self.hosted.load_full()
    }

    /// A group that lives here.
    pub fn find(&self, group: u32) -> Option<Arc<Hosted>> {
        self.hosted
            .load()
            .iter()
            .find(|h| h.group.id == group)
            .cloned()
    }

    /// The group here that serves `slot`, or holds it frozen.
    pub fn holder(&self, slot: u16) -> Option<Arc<Hosted>> {
        let here = self.hosted.load();
        here.iter()
            .find(|h| h.view.gate.verdict(slot) != SlotVerdict::Moved)
            .cloned()
    }

    /// Where a command on `slot` goes.
    pub fn route(&self, slot: Option<u16>) -> Route {
        let Some(slot) = slot else {
            return match self.hosted.load().first() {
                Some(hosted) => Route::Here(hosted.group.clone()),
                None => Route::Unserved,
            };
        };
        if let Some(hosted) = self.holder(slot) {
            return Route::Here(hosted.group.clone());
        }
        match self.elsewhere(slot) {
            Some(address) => Route::Moved {
                slot,
                host: address.host,
                port: address.port,
            },
            None => Route::Unserved,
        }
    }

    /// The first slot from `slot` on that a group here holds, and that group.
    pub fn next_held(&self, slot: u16) -> Option<(u16, Arc<Hosted>)> {
        (slot..SLOT_COUNT).find_map(|slot| Some((slot, self.holder(slot)?)))
    }

    /// How many groups the topology places here.
    pub fn placed(&self) -> usize {
        let topology = self.topology.peek();
        topology.groups_on(&self.config.node_id).count()
    }

    /// Whether what is about all keys here is about more than one group.
    pub fn has_several_groups(&self) -> bool {
        self.placed().max(self.hosted().len()) > 1
    }

    /// The other node that the slot map names for `slot`.
    pub fn elsewhere(&self, slot: u16) -> Option<NodeAddress> {
        let address = self.topology.peek().slot_address(slot)?;
        (address.node != self.config.node_id).then_some(address)
    }

    /// Opens the groups that `topology` places here and that are not open; all keep to
    /// the cluster version in force.
    ///
    /// Blocking; call it off the runtime.
    pub fn open_placed(self: &Arc<Self>, topology: &Topology) -> anyhow::Result<()> {
        for record in topology.groups_on(&self.config.node_id) {
            if self.find(record.id).is_none() {
                self.open(record)
                    .with_context(|| format!("group {}", record.id))?;
            }
        }
        let version = topology.version_in_force();
        for hosted in self.hosted().iter() {
            let (group, store) = (&hosted.group, &hosted.group.store);
            let may_stage = version >= since::ROWS_AHEAD;
            group.may_stage.store(may_stage, Ordering::Release);
            let names_nodes = version >= since::NAMED_NODES;
            store.names_nodes.store(names_nodes, Ordering::Release);
        }
        Ok(())
    }

    fn open(self: &Arc<Self>, record: &GroupRecord) -> anyhow::Result<()> {
        let path = self.data_dir.join(format!("group-{}", record.id));
        let known = path.join("CURRENT").exists();
        if record.bootstrapped && !known {
            anyhow::bail!(
                "the topology says that this node holds the group's data, but {} is not there; \
                 restore the disk, or recover the group elsewhere",
                path.display()
            );
        }
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        let store = Store::open(&path, &self.resources, false, GenerationMap::empty())?;
        let store = Arc::new(store);
        let view = ReplicaView::load(&store)?;
        let sink = RaftSink::new(self.raft.clone(), view.term.clone());
        let gate: Arc<dyn SlotGate> = view.gate.clone();
        let group = Group::new(
            record.id,
            store.clone(),
            Box::new(sink),
            self.announcer.clone(),
            Some(gate),
        );
        group.follow(&self.live);
        std::thread::spawn({
            let store = store.clone();
            move || sweep_payload(&store)
        });
        let replica = Replica::new(group.clone(), view.clone(), flusher(&store));
        self.raft
            .add_group(GroupSpec::alone(record.id.into()), Box::new(replica))?;
        let mut hosted = (*self.hosted()).clone();
        hosted.push(Arc::new(Hosted { group, view }));
        hosted.sort_by_key(|h| h.group.id);
        for each in &hosted {
            let store = &each.group.store;
            store.share_caches(&self.resources.plan, hosted.len());
        }
        self.hosted.store(Arc::new(hosted));
        tracing::info!(group = record.id, "group opened");
        Ok(())
    }

    /// Gives new groups their first slots, as the slot map has them.
    pub async fn bootstrap(self: &Arc<Self>, topology: &Topology) -> anyhow::Result<()> {
        for record in topology.groups_on(&self.config.node_id) {
            let (Some(hosted), false) = (self.find(record.id), record.bootstrapped) else {
                continue;
            };
            let Some(map) = &topology.slots else { continue };
            let owned = SlotRanges::from_slots(map.owned_by(record.id).iter());
            let owned = owned.context("the slot map names slots that do not exist")?;
            if !owned.is_empty() {
                let epochs = map
                    .ranges
                    .iter()
                    .filter(|r| r.group == record.id)
                    .map(|r| r.epoch);
                let epoch = epochs.max().unwrap_or(1);
                hosted.assign(owned, epoch).await;
            }
            self.etcd
                .mark_bootstrapped(record.id, record.incarnation)
                .await?;
            tracing::info!(group = record.id, "group took up its first slots");
        }
        Ok(())
    }

    /// What groups need in the background, until `stop`. Blocking.
    pub fn upkeep(&self, stop: &AtomicBool) {
        let mut last_view = Instant::now();
        let mut views: VecDeque<PendingView> = VecDeque::new();
        while !stop.load(Ordering::Acquire) {
            let mut busy = false;
            for hosted in self.hosted().iter() {
                busy |= crate::group::expiry::step(&hosted.group);
            }
            if last_view.elapsed() >= VIEW_EVERY {
                last_view = Instant::now();
                views.extend(
                    self.hosted()
                        .iter()
                        .map(|h| PendingView::pin(&h.group.store)),
                );
            }
            let sure = self.sync_bound();
            while views
                .front()
                .is_some_and(|view| view.pinned.elapsed() >= sure)
            {
                views.pop_front().expect("looked at").publish();
            }
            if !busy {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// What was applied this long ago is synced in the Raft log: twice the
    /// interval, since a sync may begin late and takes its time.
    fn sync_bound(&self) -> Duration {
        match self.live.appendfsync() {
            AppendFsync::Always => Duration::ZERO,
            AppendFsync::Everysec => Duration::from_secs(3),
            AppendFsync::No => Duration::from_secs(130),
        }
    }
}

/// A view for the compaction filter that waits until the Raft log has been
/// synced past it (invariant 5).
struct PendingView {
    pinned: Instant,
    // Before the store: a snapshot goes before its database.
    view: DurableView,
    store: Arc<Store>,
    /// Generations had become garbage by then.
    garbage: bool,
}

impl PendingView {
    fn pin(store: &Arc<Store>) -> PendingView {
        let garbage = store.take_garbage();
        let view = store.pin_view();
        PendingView {
            pinned: Instant::now(),
            store: store.clone(),
            view,
            garbage,
        }
    }

    fn publish(self) {
        self.store.publish_view(self.view);
        if self.garbage {
            collect_garbage(&self.store);
        }
    }
}

impl Hosted {
    /// Takes up the group's first slots; returns once they are in its state.
    async fn assign(&self, slots: SlotRanges, epoch: u32) {
        // An applied entry that the state refuses was preceded by one that it
        // did not: the slots are there either way.
        while !self.group.is_ready()
            || self
                .propose(MigrationEntry::Assign {
                    slots: slots.clone(),
                    epoch,
                })
                .await
                != Commit::Applied
        {
            tokio::time::sleep(ELECTION_POLL).await;
        }
    }

    /// Proposes a step of a move at its place in the order of evaluation.
    pub async fn propose(&self, step: MigrationEntry) -> Commit {
        let (done, outcome) = tokio::sync::oneshot::channel();
        self.propose_then(
            step,
            Box::new(move |commit| {
                let _ = done.send(commit);
            }),
        );
        outcome.await.unwrap_or(Commit::Lost)
    }

    /// [`Hosted::propose`] with a callback, which must not block.
    pub fn propose_then(&self, step: MigrationEntry, done: crate::group::StepDone) {
        let view = self.view.clone();
        let frozen = match &step {
            MigrationEntry::Freeze { plan } => view
                .migration
                .lock()
                .source(*plan)
                .map(|source| source.spec.clone()),
            _ => None,
        };
        let freezing = frozen.is_some();
        let gate = view.gate.clone();
        let before = Box::new(move || {
            if let Some(spec) = frozen {
                gate.freeze(&spec.slots);
            }
        });
        let done = Box::new(move |commit| {
            if freezing && commit == Commit::Refused {
                // Never in the log: what the state says holds again.
                view.gate.publish_all(view.migration.lock().ownership());
            }
            done(commit);
        });
        self.group.propose_step(step.encode(), before, done);
    }
}

/// Flushes in the background, one flush at a time.
fn flusher(store: &Arc<Store>) -> Arc<dyn Fn() + Send + Sync> {
    let store = Arc::downgrade(store);
    let busy = Arc::new(AtomicBool::new(false));
    Arc::new(move || {
        let Some(store) = store.upgrade() else { return };
        if busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let busy = busy.clone();
        std::thread::spawn(move || {
            if let Err(error) = store.flush() {
                tracing::error!(%error, "flush failed; the log keeps everything");
            }
            drop(store);
            busy.store(false, Ordering::Release);
        });
    })
}

/// What this node tells etcd about itself.
pub fn member_record(config: &ClusterConfig, port: u16, data_dir_id: &str) -> MemberRecord {
    let (host, port, peer_port) = advertised(config, port);
    MemberRecord {
        id: config.node_id.clone(),
        data_dir_id: data_dir_id.to_owned(),
        host,
        port,
        peer_port,
        zone: config.zone.clone(),
        registered_at_ms: now_ms(),
    }
}

/// `HOST[:PORT[:PEER]]` of `--advertise`, with the real ports as defaults.
fn advertised(config: &ClusterConfig, port: u16) -> (String, u16, u16) {
    let text = config.advertise.as_deref().unwrap_or("127.0.0.1");
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or("127.0.0.1").to_owned();
    let port = parts.next().and_then(|p| p.parse().ok()).unwrap_or(port);
    let peer = parts
        .next()
        .and_then(|p| p.parse().ok())
        .unwrap_or(config.peer_port);
    (host, port, peer)
}
