//! `node add/list/remove`.

use std::time::Duration;

use anyhow::bail;
use cairn_protocol::topology::Topology;
use serde::Serialize;
use serde_json::json;

use super::Session;
use crate::cli::NodeVerb;
use crate::output::Table;
use crate::{exit, units};

/// A node as `node list` and `status` show it.
#[derive(Debug, Serialize)]
pub(super) struct NodeRow {
    pub id: String,
    /// `up` (its lease is alive), `down`, or `admitted` (never started).
    pub state: &'static str,
    /// Empty if it never started.
    pub address: String,
    pub peer_port: u16,
    pub zone: String,
    pub version: String,
    pub groups: Vec<u32>,
    pub slots: usize,
    pub keys: u64,
    pub bytes: u64,
    pub disk_free_bytes: u64,
}

pub(super) async fn run(session: &Session, verb: NodeVerb) -> anyhow::Result<u8> {
    match verb {
        NodeVerb::Add { id, replace, wait } => add(session, &id, replace, wait).await,
        NodeVerb::List => list(session).await,
        NodeVerb::Remove { id } => remove(session, &id).await,
    }
}

/// Whether a node has been here with a data directory.
fn is_bound(topology: &Topology, id: &str) -> bool {
    let member = topology.members.get(id);
    member.is_some_and(|member| !member.data_dir_id.is_empty())
}

async fn add(session: &Session, id: &str, replace: bool, wait: Option<u64>) -> anyhow::Result<u8> {
    let known = session.topology().await?;
    let is_up = known.nodes.contains_key(id);
    if replace || !is_bound(&known, id) {
        let admitted = session.store.admit_member(id, replace).await;
        // It may have come up since we looked, admitted by an earlier call.
        let is_there = !replace && admitted.is_err() && is_bound(&session.topology().await?, id);
        if !is_there {
            session.changed(admitted)?;
        }
    }
    if !is_up && let Some(seconds) = wait {
        let mut watch = session.store.watch(Topology::default());
        let up = watch.wait_for(|t| t.nodes.contains_key(id));
        if tokio::time::timeout(Duration::from_secs(seconds), up)
            .await
            .is_err()
        {
            bail!("node `{id}` did not come up within {seconds} s: look at its log");
        }
    }
    let rows = rows(&session.topology().await?);
    let row = rows.into_iter().find(|row| row.id == id);
    session.out.show(&row, |row| match row {
        Some(row) if row.state == "up" => format!("node `{id}` is up at {}", row.address),
        _ => format!(
            "node `{id}` is admitted; start it: cairn-server --cluster {} --etcd {} --node-id {id} --port P --peer-port Q --data-dir D",
            session.store.cluster(),
            session.store.endpoints().join(",")
        ),
    });
    Ok(exit::OK)
}

async fn list(session: &Session) -> anyhow::Result<u8> {
    let rows = rows(&session.topology().await?);
    session.out.show(&rows, |rows| match rows.is_empty() {
        true => "no nodes yet: start one with --cluster, or admit one with `node add ID`".into(),
        false => table(rows),
    });
    Ok(exit::OK)
}

async fn remove(session: &Session, id: &str) -> anyhow::Result<u8> {
    session.topology().await?;
    session.changed(session.store.remove_member(id).await)?;
    session.out.show(&json!({ "removed": id }), |_| {
        format!("node `{id}` is removed")
    });
    Ok(exit::OK)
}

/// All nodes, in order of their ids.
pub(super) fn rows(topology: &Topology) -> Vec<NodeRow> {
    topology
        .members
        .keys()
        .map(|id| row(topology, id))
        .collect()
}

fn row(topology: &Topology, id: &str) -> NodeRow {
    let node = topology.nodes.get(id);
    let address = topology.address_of(id);
    let groups: Vec<u32> = topology.groups_on(id).map(|g| g.id).collect();
    let load = node.map(|n| n.load.clone()).unwrap_or_default();
    NodeRow {
        id: id.into(),
        state: match (&node, &address) {
            (Some(_), _) => "up",
            (None, Some(_)) => "down",
            (None, None) => "admitted",
        },
        address: address
            .as_ref()
            .map_or_else(String::new, |a| format!("{}:{}", a.host, a.port)),
        peer_port: address.map_or(0, |a| a.peer_port),
        zone: topology
            .members
            .get(id)
            .map_or_else(String::new, |m| m.zone.clone()),
        version: node.map_or_else(String::new, |n| n.version.clone()),
        slots: groups.iter().map(|&g| topology.slots_of(g).len()).sum(),
        groups,
        keys: load.keys,
        bytes: load.bytes,
        disk_free_bytes: load.disk_free_bytes,
    }
}

pub(super) fn table(rows: &[NodeRow]) -> String {
    let mut table = Table::new([
        "NODE", "STATE", "ADDRESS", "PEER", "ZONE", "VERSION", "GROUPS", "SLOTS", "KEYS", "DATA",
    ]);
    let dash = |text: String| if text.is_empty() { "-".into() } else { text };
    for row in rows {
        let groups: Vec<String> = row.groups.iter().map(u32::to_string).collect();
        table.row([
            row.id.clone(),
            row.state.into(),
            dash(row.address.clone()),
            if row.peer_port == 0 {
                "-".into()
            } else {
                row.peer_port.to_string()
            },
            dash(row.zone.clone()),
            dash(row.version.clone()),
            dash(groups.join(",")),
            row.slots.to_string(),
            row.keys.to_string(),
            units::bytes(row.bytes),
        ]);
    }
    table.render()
}
