//! Starting a node: what runs, what waits for etcd, in which order it ends.
//!
//! A node that has been part of the cluster before serves what its groups own
//! while etcd is away; a new one waits for etcd and says so.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use cairn_protocol::topology::{
    CLUSTER_VERSION, MemberRecord, NodeLoad, NodeRecord, NodeRegistration, StoreConfig, StoreError,
    Topology, TopologyStore, load_cached, now_ms, save_cached,
};

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::functions::Functions;
use super::mover::{self, Movers};
use super::node::{Node, member_record};
use super::spread::{self, SpreadServer, SpreadService};
use super::users::Users;
use crate::announce::Announcer;
use crate::config::{AppendFsync, ClusterConfig, Config, LiveSettings};
use crate::net;
use crate::raft::{
    Durability, EngineLog, EngineLogConfig, MultiRaft, MultiRaftConfig, NoTransport,
};
use crate::server::{Home, Server};
use crate::storage::{MemoryPlan, Resources};

/// Wait between tries to reach etcd.
const ETCD_RETRY: Duration = Duration::from_secs(1);
/// How often the load record is renewed.
const LOAD_EVERY: Duration = Duration::from_secs(5);
/// How often moves are looked for without news from etcd.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Connections of other nodes that wait to be taken up.
const HTTP2_QUEUE: usize = 16;
const TOPOLOGY_FILE: &str = "topology.json";

/// Runs a node of a cluster until SIGTERM, SIGINT or SHUTDOWN.
///
/// `data_dir_id` is the identity of the data directory.
pub fn run(config: Config, data_dir_id: &str) -> anyhow::Result<()> {
    let cluster = config.cluster.clone().context("no cluster was named")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("cluster")
        .enable_all()
        .build()
        .context("cannot start the runtime of cluster tasks")?;
    let live = Arc::new(LiveSettings::new(&config));
    let data_dir = config.data_dir.clone();
    let raft = start_raft(&config)?;
    let announcer = Announcer::new(&config.settings);
    let node = {
        let _inside = runtime.enter();
        let made = make_node(&config, &cluster, data_dir_id, &raft, &live, &announcer);
        runtime.block_on(made)?
    };
    let home = Home::Node(node.clone());
    let server = Arc::new(Server::new(config, live, home, announcer));
    let users = Users::start(&node, &server, runtime.handle());
    crate::scripting::attach(&server);
    let functions = {
        let _inside = runtime.enter();
        Functions::start(&node, runtime.handle())
    };
    let (http2, streams) = tokio::sync::mpsc::channel(HTTP2_QUEUE);
    let network = net::start_node(&server, Some(http2))?;
    server.set_listening_port(network.addresses.first().map_or(0, |a| a.port()));
    crate::run::ready(&server.config, &network.addresses);
    let movers = Movers::new(node.clone());
    let spread = spread::service(
        &node,
        server.announcer.clone(),
        functions.clone(),
        users.clone(),
    );
    runtime.spawn(serve_peers(movers.clone(), spread, streams));
    runtime.spawn(spread::follow(server.clone(), node.clone()));
    runtime.spawn(functions.follow(server.clone()));
    runtime.spawn(users.follow(server.clone(), node.clone()));
    runtime.spawn(follow_moves(movers, server.clone()));

    let stop = Arc::new(AtomicBool::new(false));
    let upkeep = {
        let (node, stop) = (node.clone(), stop.clone());
        crate::run::spawn("upkeep", move || node.upkeep(&stop))?
    };
    let vitals = {
        let (server, stop) = (server.clone(), stop.clone());
        crate::upkeep::measure_startup(&server.vitals);
        crate::run::spawn("vitals", move || crate::upkeep::run(&server, &stop))?
    };
    let membership = runtime.spawn(membership(server.clone(), node.clone(), data_dir));
    crate::run::stop_on_signals(&server)?;

    network.join();
    runtime.block_on(async {
        if let Ok(Some(registration)) = membership.await {
            registration.deregister().await;
        }
    });
    stop.store(true, Ordering::Release);
    for thread in [upkeep, vitals] {
        if thread.join().is_err() {
            tracing::error!("a background thread panicked");
        }
    }
    raft.shutdown();
    for hosted in node.hosted().iter() {
        hosted
            .group
            .store
            .flush()
            .context("the last flush failed; the log has everything")?;
        hosted.group.store.quiesce();
    }
    runtime.shutdown_timeout(Duration::from_secs(2));
    tracing::info!("stopped");
    Ok(())
}

/// Serves other nodes (gRPC) on what the peer port hands over.
async fn serve_peers(
    movers: Arc<Movers>,
    spread: SpreadServer<impl SpreadService>,
    streams: mpsc::Receiver<std::net::TcpStream>,
) {
    let incoming = ReceiverStream::new(streams).map(tokio::net::TcpStream::from_std);
    let served = tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(mover::service(movers))
        .add_service(spread)
        .serve_with_incoming(incoming)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the service for other nodes ended");
    }
}

/// Starts the tasks of moves that this node takes part in, as they appear.
async fn follow_moves(movers: Arc<Movers>, server: Arc<Server>) {
    let mut topology = movers.topology();
    loop {
        movers.look(&topology.load());
        tokio::select! {
            _ = topology.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = server.stopped() => return,
        }
    }
}

fn start_raft(config: &Config) -> anyhow::Result<MultiRaft> {
    let dir = config.data_dir.join("raft");
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let log = EngineLog::open(&dir, EngineLogConfig::default())
        .with_context(|| format!("cannot open the log {}", dir.display()))?;
    let durability = match config.appendfsync {
        AppendFsync::Always => Durability::Always,
        AppendFsync::Everysec => Durability::Interval(Duration::from_secs(1)),
        AppendFsync::No => Durability::Interval(Duration::from_secs(60)),
    };
    let settings = MultiRaftConfig {
        durability,
        ..MultiRaftConfig::default()
    };
    let transport = Box::new(NoTransport);
    MultiRaft::start(
        settings,
        Arc::new(log),
        transport,
        MultiRaft::abort_on_failure(),
    )
    .context("cannot start the replication threads")
}

async fn make_node(
    config: &Config,
    cluster: &ClusterConfig,
    data_dir_id: &str,
    raft: &MultiRaft,
    live: &Arc<LiveSettings>,
    announcer: &Arc<Announcer>,
) -> anyhow::Result<Arc<Node>> {
    let etcd = TopologyStore::connect(StoreConfig::new(&cluster.name, &cluster.etcd.join(",")))
        .await
        .context("the etcd address cannot be used")?;
    let known = load_cached(&config.data_dir.join(TOPOLOGY_FILE), &cluster.name)?;
    let known = known.unwrap_or_default();
    let version = known.version_in_force();
    anyhow::ensure!(
        version <= CLUSTER_VERSION,
        "the cluster is at version {version}, and this program knows {CLUSTER_VERSION} at most: \
         start a newer one"
    );
    let plan = MemoryPlan::divide(config.memory_limit);
    let identity = member_record(cluster, config.port, data_dir_id);
    let node = Node::new(
        cluster.clone(),
        identity,
        etcd.clone(),
        etcd.watch(known.clone()),
        raft.handle(),
        live.clone(),
        announcer.clone(),
        Resources::new(plan, 2),
        &config.data_dir,
    );
    // What was here before is served at once, with or without etcd.
    let opening = node.clone();
    tokio::task::spawn_blocking(move || opening.open_placed(&known)).await??;
    Ok(node)
}

/// Claims the node's id, registers it, and follows the topology until the end.
async fn membership(
    server: Arc<Server>,
    node: Arc<Node>,
    data_dir: std::path::PathBuf,
) -> Option<NodeRegistration> {
    if !claim(&server, &node.etcd, &node.identity).await {
        return None;
    }
    let registration = node.etcd.register_node(node_record(&node));
    let mut topology = node.topology.clone();
    let mut current = topology.synced().await;
    loop {
        take_up(&server, &node, &current, &data_dir).await;
        current = tokio::select! {
            current = topology.changed() => current,
            () = tokio::time::sleep(LOAD_EVERY) => topology.load(),
            () = server.stopped() => return Some(registration),
        };
        registration.set_load(load(&server, &node));
    }
}

/// True once etcd knows this node; false if it must not serve as this id.
async fn claim(server: &Arc<Server>, etcd: &TopologyStore, identity: &MemberRecord) -> bool {
    loop {
        match etcd.claim_member(identity).await {
            Ok(_) => return true,
            Err(error @ (StoreError::Refused(_) | StoreError::Conflict(_))) => {
                tracing::error!(node = identity.id, %error, "this node may not serve; stopping");
                server.request_stop();
                return false;
            }
            Err(error) => {
                tracing::warn!(node = identity.id, %error, "waiting for etcd and the cluster");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(ETCD_RETRY) => {}
            () = server.stopped() => return false,
        }
    }
}

/// Opens and bootstraps what the topology places here.
async fn take_up(server: &Arc<Server>, node: &Arc<Node>, topology: &Arc<Topology>, dir: &Path) {
    let opening = (node.clone(), topology.clone());
    let opened = tokio::task::spawn_blocking(move || opening.0.open_placed(&opening.1)).await;
    match opened {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(error = format!("{error:#}"), "cannot open a group"),
        Err(error) => {
            tracing::error!(%error, "opening groups panicked; stopping");
            server.request_stop();
        }
    }
    if let Err(error) = node.bootstrap(topology).await {
        tracing::warn!(error = format!("{error:#}"), "first slots wait for etcd");
    }
    raise_version(node, topology).await;
    if let Err(error) = save_cached(&dir.join(TOPOLOGY_FILE), &node.config.name, topology) {
        tracing::warn!(%error, "the topology could not be kept for the next start");
    }
}

/// Raises the cluster version if all nodes support a higher one; whoever sees it does.
async fn raise_version(node: &Node, topology: &Topology) {
    if topology.next_cluster_version().is_none() {
        return;
    }
    match node.etcd.raise_cluster_version().await {
        Ok(Some(version)) => tracing::info!(version, "the cluster version has risen"),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the cluster version could not be raised yet"),
    }
}

fn node_record(node: &Node) -> NodeRecord {
    let identity = &node.identity;
    NodeRecord {
        id: identity.id.clone(),
        data_dir_id: identity.data_dir_id.clone(),
        host: identity.host.clone(),
        port: identity.port,
        peer_port: identity.peer_port,
        zone: identity.zone.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        max_cluster_version: CLUSTER_VERSION,
        started_at_ms: now_ms(),
        load: NodeLoad::default(),
    }
}

fn load(server: &Server, node: &Node) -> NodeLoad {
    let hosted = node.hosted();
    NodeLoad {
        groups: hosted.len() as u32,
        keys: hosted.iter().map(|h| h.group.key_count()).sum(),
        bytes: hosted.iter().map(|h| h.group.store.disk_bytes()).sum(),
        disk_free_bytes: free_bytes(&server.config.data_dir),
        ops_per_sec: 0,
    }
}

/// Free bytes of the file system that holds `path`; 0 if it cannot be told.
pub fn free_bytes(path: &Path) -> u64 {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else {
        return 0;
    };
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: a valid C string and a place for the answer, read only on success.
    unsafe {
        match libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) {
            0 => {
                let stat = stat.assume_init();
                stat.f_bavail * stat.f_frsize
            }
            _ => 0,
        }
    }
}
