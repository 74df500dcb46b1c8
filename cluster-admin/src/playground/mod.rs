//! `playground`: a whole local cluster as child processes, etcd included.
//!
//! Owns its children: they are stopped in order (proxy, nodes, etcd) on SIGINT
//! and SIGTERM, and die with this process if it is killed. A child that dies is
//! reported with its last log lines and left dead: the others serve on.

mod child;
mod folder;
mod health;
mod ports;
mod programs;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use cairn_protocol::topology::{GroupId, NewCluster, StoreConfig, TopologyStore};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::PlaygroundArgs;
use crate::exit;
use crate::output::Printer;
use crate::verbs::new_cluster_id;
use child::Child;
use folder::{Folder, Shape};
use programs::Programs;

/// Time limit of the whole start.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Time for proxy and nodes, then for etcd, to end by themselves.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// All is on this machine, and only for it.
pub(crate) const HOST: &str = "127.0.0.1";

/// What a program needs to use the playground.
#[derive(Debug, Serialize)]
struct Endpoints {
    cluster: String,
    etcd: String,
    proxy: String,
    proxy_pid: u32,
    nodes: Vec<NodeEndpoint>,
    data_dir: String,
}

#[derive(Debug, Serialize)]
struct NodeEndpoint {
    id: String,
    port: u16,
    peer_port: u16,
    pid: u32,
}

/// The running processes.
struct Playground {
    shape: Shape,
    etcd: Child,
    nodes: Vec<Child>,
    proxy: Option<Child>,
}

/// Starts everything, waits for a signal, stops everything.
///
/// # Errors
/// What could not be started, with the last log lines of what failed.
pub async fn run(args: &PlaygroundArgs, cluster: &str, out: Printer) -> anyhow::Result<u8> {
    check(args)?;
    let programs = Programs::find()?;
    let mut signals = Signals::listen()?;
    let folder = Folder::open(args, cluster)?;
    let mut playground = Playground::start_etcd(&programs, &folder)?;
    // Cancel safe: what is half started is stopped below.
    let started = tokio::select! {
        started = tokio::time::timeout(START_LIMIT, playground.start(&programs, &folder, out)) => {
            started.unwrap_or_else(|_| {
                Err(anyhow::anyhow!("the cluster is not healthy after {START_LIMIT:?}"))
            })
        }
        () = signals.any() => Ok(None),
    };
    let failed = match started {
        Ok(Some(endpoints)) => {
            out.show(&endpoints, |e| welcome(e, &playground.shape, &folder));
            playground.watch_over(&mut signals).await;
            out.say("Stopping ...");
            None
        }
        Ok(None) => None,
        Err(error) => Some(playground.with_logs(error)),
    };
    // A second signal does not wait for anybody.
    tokio::select! {
        () = playground.stop() => {}
        () = signals.any() => {}
    }
    match failed {
        Some(error) => Err(error.context(format!("logs are in {}", folder.keep().display()))),
        None => Ok(exit::OK),
    }
}

fn check(args: &PlaygroundArgs) -> anyhow::Result<()> {
    if args.replicas != 1 {
        bail!(
            "--replicas {}: replication is not there yet, groups have one replica: leave it at 1",
            args.replicas
        );
    }
    Ok(())
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Cancel safe.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

impl Playground {
    fn start_etcd(programs: &Programs, folder: &Folder) -> anyhow::Result<Self> {
        let shape = folder.shape.clone();
        let etcd = Child::spawn("etcd", programs.etcd(folder), &folder.log("etcd"))?;
        Ok(Self {
            shape,
            etcd,
            nodes: Vec::new(),
            proxy: None,
        })
    }

    /// Starts the rest and waits until all of it serves.
    async fn start(
        &mut self,
        programs: &Programs,
        folder: &Folder,
        out: Printer,
    ) -> anyhow::Result<Option<Endpoints>> {
        let store = TopologyStore::connect(StoreConfig::new(
            &self.shape.cluster,
            &self.shape.etcd_url(),
        ))
        .await?;
        health::wait_etcd(&store, &mut self.etcd).await?;
        init(&store, &self.shape).await?;
        for node in &self.shape.nodes {
            let command = programs.node(folder, node);
            self.nodes
                .push(Child::spawn(&node.id, command, &folder.log(&node.id))?);
        }
        out.say(&format!(
            "Starting etcd and {} node(s) in {} ...",
            self.nodes.len(),
            folder.path().display()
        ));
        health::wait_nodes(&store, &self.shape, &mut self.nodes).await?;
        let command = programs.proxy(&self.shape);
        let proxy = self
            .proxy
            .insert(Child::spawn("proxy", command, &folder.log("proxy"))?);
        health::wait_proxy(&self.shape, proxy).await?;
        let proxy_pid = proxy.pid();
        Ok(Some(self.endpoints(proxy_pid, folder.path())))
    }

    fn endpoints(&self, proxy_pid: u32, data_dir: &Path) -> Endpoints {
        let nodes = self
            .shape
            .nodes
            .iter()
            .zip(&self.nodes)
            .map(|(node, child)| NodeEndpoint {
                id: node.id.clone(),
                port: node.port,
                peer_port: node.peer_port,
                pid: child.pid(),
            });
        Endpoints {
            cluster: self.shape.cluster.clone(),
            etcd: self.shape.etcd_url(),
            proxy: format!("{HOST}:{}", self.shape.proxy_port),
            proxy_pid,
            nodes: nodes.collect(),
            data_dir: data_dir.display().to_string(),
        }
    }

    /// Until a signal: says who dies.
    async fn watch_over(&mut self, signals: &mut Signals) {
        let mut beat = tokio::time::interval(Duration::from_millis(500));
        loop {
            // Cancel safe: both only wait.
            tokio::select! {
                () = signals.any() => return,
                _ = beat.tick() => {}
            }
            for child in self.all() {
                if let Some(obituary) = child.news_of_death() {
                    eprintln!("{obituary}");
                }
            }
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Child> {
        std::iter::once(&mut self.etcd)
            .chain(&mut self.nodes)
            .chain(&mut self.proxy)
    }

    /// An error of the start, with the last words of whoever died or is silent.
    fn with_logs(&mut self, error: anyhow::Error) -> anyhow::Error {
        let obituaries: Vec<String> = self.all().filter_map(Child::news_of_death).collect();
        match obituaries.is_empty() {
            true => error,
            false => error.context(obituaries.join("\n")),
        }
    }

    /// Proxy first (no new commands), then the nodes, then etcd.
    async fn stop(&mut self) {
        child::stop_all(self.proxy.as_mut(), STOP_LIMIT).await;
        child::stop_all(self.nodes.iter_mut(), STOP_LIMIT).await;
        child::stop_all([&mut self.etcd], STOP_LIMIT).await;
    }
}

async fn init(store: &TopologyStore, shape: &Shape) -> anyhow::Result<()> {
    let groups = (1..=shape.groups).map(|group| {
        let node = &shape.nodes[(group as usize - 1) % shape.nodes.len()];
        (group as GroupId, vec![node.id.clone()])
    });
    let new = NewCluster {
        id: new_cluster_id(),
        groups: groups.collect(),
    };
    let done = store
        .init(&new)
        .await
        .context("the cluster could not be written to etcd")?;
    tracing::info!(?done, "cluster initialised");
    Ok(())
}

fn welcome(e: &Endpoints, shape: &Shape, folder: &Folder) -> String {
    let (cluster, etcd, proxy) = (&e.cluster, &e.etcd, shape.proxy_port);
    let mut lines = vec![
        format!(
            "Cairn is up: {} node(s), {} group(s), one proxy.",
            e.nodes.len(),
            shape.groups
        ),
        String::new(),
        format!("  redis-cli -p {proxy}                 any Redis client, through the proxy"),
    ];
    for node in &e.nodes {
        lines.push(format!(
            "  redis-cli -c -p {:<5}             node {} (pid {})",
            node.port, node.id, node.pid
        ));
    }
    let admin = format!("cluster-admin --cluster {cluster} --etcd {etcd}");
    lines.extend([
        String::new(),
        format!("  redis-cli -p {proxy} set hello world"),
        format!("  {admin} status"),
    ]);
    if shape.groups > 1 {
        lines.push(format!("  {admin} reshard --from 1 --to 2 --slots 0-999"));
    }
    let fate = if folder.is_temporary() {
        "deleted at the end"
    } else {
        "kept"
    };
    lines.extend([
        String::new(),
        format!(
            "Data in {} ({fate}), logs in {}.",
            e.data_dir,
            folder.logs().display()
        ),
        "Ctrl-C stops everything.".into(),
    ]);
    lines.join("\n")
}
