//! `group create/list/remove`.

use cairn_protocol::topology::{GroupId, Topology};
use serde::Serialize;
use serde_json::json;

use super::Session;
use crate::cli::GroupVerb;
use crate::exit;
use crate::output::Table;

/// A group as `group list` and `status` show it.
#[derive(Debug, Serialize)]
pub(super) struct GroupRow {
    pub id: GroupId,
    pub replicas: Vec<String>,
    /// Node that is thought to lead.
    pub leader: String,
    /// Whether the leader's node is up.
    pub up: bool,
    /// Slots owned, by the map.
    pub slots: String,
    pub slot_count: usize,
    pub incarnation: u64,
    /// Whether it ever came to life on its node.
    pub bootstrapped: bool,
}

pub(super) async fn run(session: &Session, verb: GroupVerb) -> anyhow::Result<u8> {
    match verb {
        GroupVerb::Create { id, nodes } => create(session, id, &nodes).await,
        GroupVerb::List => list(session).await,
        GroupVerb::Remove { id } => remove(session, id).await,
    }
}

async fn create(session: &Session, id: GroupId, nodes: &[String]) -> anyhow::Result<u8> {
    session.changed(session.store.create_group(id, nodes).await)?;
    let topology = session.topology().await?;
    let row = rows(&topology).into_iter().find(|row| row.id == id);
    session.out.show(&row, |_| {
        let next = match topology.slots {
            Some(_) => format!("move slots to it with `reshard --from G --to {id} --slots RANGES`"),
            None => "when all groups are there, run `init` to spread the slots over them".into(),
        };
        format!("group {id} is created on {}; {next}", nodes.join(","))
    });
    Ok(exit::OK)
}

async fn list(session: &Session) -> anyhow::Result<u8> {
    let rows = rows(&session.topology().await?);
    session.out.show(&rows, |rows| match rows.is_empty() {
        true => "no groups yet: `group create --id 1 --nodes NODE`".into(),
        false => table(rows),
    });
    Ok(exit::OK)
}

async fn remove(session: &Session, id: GroupId) -> anyhow::Result<u8> {
    session.topology().await?;
    session.changed(session.store.remove_group(id).await)?;
    session.out.show(&json!({ "removed": id }), |_| {
        format!("group {id} is removed")
    });
    Ok(exit::OK)
}

/// All groups, in order.
pub(super) fn rows(topology: &Topology) -> Vec<GroupRow> {
    let groups = topology.groups.values();
    groups
        .map(|group| {
            let slots = topology.slots_of(group.id);
            GroupRow {
                id: group.id,
                replicas: group.replicas.clone(),
                leader: topology.leader_of(group.id).cloned().unwrap_or_default(),
                up: topology.leader_address(group.id).is_some_and(|a| a.alive),
                slot_count: slots.len(),
                slots: slots.to_string(),
                incarnation: group.incarnation,
                bootstrapped: group.bootstrapped,
            }
        })
        .collect()
}

pub(super) fn table(rows: &[GroupRow]) -> String {
    let mut table = Table::new(["GROUP", "STATE", "LEADER", "REPLICAS", "SLOTS", "RANGES"]);
    for row in rows {
        let state = match (row.up, row.bootstrapped) {
            (true, true) => "up",
            (true, false) => "starting",
            (false, _) => "down",
        };
        table.row([
            row.id.to_string(),
            state.into(),
            row.leader.clone(),
            row.replicas.join(","),
            row.slot_count.to_string(),
            if row.slots.is_empty() {
                "-".into()
            } else {
                row.slots.clone()
            },
        ]);
    }
    table.render()
}
