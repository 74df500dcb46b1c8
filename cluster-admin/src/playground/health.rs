//! Waiting until a playground serves. The caller bounds the whole by time; here
//! only a death ends the wait early.

use std::time::Duration;

use anyhow::bail;
use cairn_protocol::topology::{Topology, TopologyStore};

use super::HOST;
use super::child::Child;
use super::folder::Shape;
use crate::node_client;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// A key that tells whether the proxy's way to a node works; deleted again.
const PROBE: &str = "cairn:playground:probe";

/// Until etcd answers.
pub async fn wait_etcd(store: &TopologyStore, etcd: &mut Child) -> anyhow::Result<()> {
    while store.list().await.is_err() {
        etcd.check_alive()?;
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Until every node is registered, answers PING and says that the cluster is ok.
pub async fn wait_nodes(
    store: &TopologyStore,
    shape: &Shape,
    children: &mut [Child],
) -> anyhow::Result<()> {
    let mut watch = store.watch(Topology::default());
    watch.synced().await;
    for node in &shape.nodes {
        let is_registered =
            |t: &Topology| t.nodes.get(&node.id).is_some_and(|n| n.port == node.port);
        while !is_registered(&watch.load()) || !is_node_ready(node.port).await {
            // Of all: one that lives may wait for the slots of one that has died.
            children.iter_mut().try_for_each(Child::check_alive)?;
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

async fn is_node_ready(port: u16) -> bool {
    if node_client::ping(HOST, port).await.is_err() {
        return false;
    }
    let info = node_client::ask(HOST, port, &["CLUSTER", "INFO"]).await;
    let text = info
        .ok()
        .and_then(|reply| node_client::text_of(&reply).ok());
    text.is_some_and(|text| text.lines().any(|line| line.trim() == "cluster_state:ok"))
}

/// Until the proxy answers PING and carries a write and a read to every group.
pub async fn wait_proxy(shape: &Shape, child: &mut Child) -> anyhow::Result<()> {
    while node_client::ping(HOST, shape.proxy_port).await.is_err() {
        child.check_alive()?;
        tokio::time::sleep(LOOK).await;
    }
    // Enough keys to meet every group with near certainty.
    for n in 0..shape.groups * 8 {
        let key = format!("{PROBE}:{n}");
        while !carries(shape.proxy_port, &key).await? {
            child.check_alive()?;
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// Whether a write, a read and a delete of a key went through.
async fn carries(port: u16, key: &str) -> anyhow::Result<bool> {
    let ask = async |command: &[&str]| {
        let reply = node_client::ask(HOST, port, command).await.ok()?;
        node_client::text_of(&reply).ok()
    };
    if ask(&["SET", key, "1"]).await.as_deref() != Some("OK") {
        return Ok(false);
    }
    match ask(&["GET", key]).await.as_deref() {
        Some("1") => {}
        Some(other) => bail!("the proxy answered GET {key} with `{other}` right after SET {key} 1"),
        None => return Ok(false),
    }
    Ok(ask(&["DEL", key]).await.is_some())
}
