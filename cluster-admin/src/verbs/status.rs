//! `status`: whether all is well, and what is not.
//!
//! Problems make the cluster unhealthy (clients of some slots get errors or
//! wait); warnings do not.

use std::collections::BTreeMap;

use cairn_protocol::topology::{CLUSTER_VERSION, PlanStage, PlanState, Topology, now_ms};
use futures::future::join_all;
use serde::Serialize;

use super::Session;
use super::group::{self, GroupRow};
use super::node::{self, NodeRow};
use super::plans::{self, PlanRow};
use crate::{exit, node_client};

/// A running plan that tells nothing for this long is worth a look.
const SILENT_PLAN_MS: u64 = 30_000;
/// In the switch its slots may be frozen: much earlier.
const SILENT_SWITCH_MS: u64 = 5_000;

#[derive(Serialize)]
struct Answer {
    cluster: String,
    healthy: bool,
    epoch: u32,
    /// Slots with an owner, of 16384.
    slots_assigned: usize,
    nodes: Vec<NodeRow>,
    groups: Vec<GroupRow>,
    proxies: Vec<ProxyRow>,
    /// Unfinished plans.
    plans: Vec<PlanRow>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct ProxyRow {
    id: String,
    address: String,
    version: String,
}

pub(super) async fn run(session: &Session) -> anyhow::Result<u8> {
    let topology = session.topology().await?;
    let pings = ping_all(&topology).await;
    let problems = problems(&topology, &pings);
    let answer = Answer {
        cluster: session.store.cluster().into(),
        healthy: problems.is_empty(),
        epoch: topology.epoch(),
        slots_assigned: topology
            .slots
            .as_ref()
            .map_or(0, |s| 16384 - s.unassigned().len()),
        nodes: node::rows(&topology),
        groups: group::rows(&topology),
        proxies: proxies(&topology),
        plans: topology.active_plans().map(|p| plans::row(&p)).collect(),
        problems,
        warnings: warnings(&topology, now_ms()),
    };
    session.out.show(&answer, text);
    Ok(if answer.healthy {
        exit::OK
    } else {
        exit::UNHEALTHY
    })
}

fn proxies(topology: &Topology) -> Vec<ProxyRow> {
    let row = |p: &cairn_protocol::topology::ProxyRecord| ProxyRow {
        id: p.id.clone(),
        address: format!("{}:{}", p.host, p.port),
        version: p.version.clone(),
    };
    topology.proxies.values().map(|p| row(p)).collect()
}

/// Asks every registered node for a PING; the error by node.
async fn ping_all(topology: &Topology) -> BTreeMap<String, String> {
    let asked = topology.nodes.values().map(|node| async {
        let answer = node_client::ping(&node.host, node.port).await;
        answer
            .err()
            .map(|error| (node.id.clone(), format!("{error:#}")))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// What keeps clients from being served.
fn problems(topology: &Topology, pings: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    match &topology.slots {
        None => found.push("the slots have no owners yet: run `init` with groups".to_owned()),
        Some(map) => {
            if let Err(broken) = map.validate() {
                found.push(broken.to_string());
            }
            if !map.unassigned().is_empty() {
                found.push(format!("slots {} have no owner", map.unassigned()));
            }
            let owners = map.ranges.iter().map(|r| r.group);
            let mut lost: Vec<u32> = owners
                .filter(|g| !topology.groups.contains_key(g))
                .collect();
            lost.dedup();
            found.extend(
                lost.iter()
                    .map(|g| format!("group {g} owns slots but does not exist")),
            );
        }
    }
    for group in group::rows(topology).iter().filter(|g| g.slot_count > 0) {
        if !group.up {
            let what = format!("group {} ({} slots)", group.id, group.slot_count);
            found.push(format!(
                "{what} is not served: node `{}` is down: start it",
                group.leader
            ));
        } else if !group.bootstrapped {
            found.push(format!(
                "group {} has not come to life on `{}` yet",
                group.id, group.leader
            ));
        }
    }
    found.extend(
        pings
            .iter()
            .map(|(node, error)| format!("node `{node}` does not answer: {error}")),
    );
    found
}

/// What deserves a look.
fn warnings(topology: &Topology, now_ms: u64) -> Vec<String> {
    let mut found = Vec::new();
    for (record, reason) in &topology.unreadable {
        found.push(format!("the record `{record}` cannot be read: {reason}"));
    }
    for row in node::rows(topology) {
        match row.state {
            "admitted" => found.push(format!("node `{}` was admitted but never started", row.id)),
            "down" if row.slots == 0 => found.push(format!("node `{}` is down", row.id)),
            _ => {}
        }
    }
    let version = topology.version_in_force();
    if version > CLUSTER_VERSION {
        found.push(format!("the cluster is at version {version}, this tool knows {CLUSTER_VERSION}: upgrade the tool"));
    } else if topology.cluster_version.is_some() && version < CLUSTER_VERSION {
        let behind: Vec<String> = topology
            .started_members()
            .filter(|(_, most)| *most < CLUSTER_VERSION)
            .map(|(id, most)| match most {
                0 => format!("`{id}` is down"),
                _ => format!("`{id}` knows {most}"),
            })
            .collect();
        if !behind.is_empty() {
            found.push(format!(
                "the cluster stays at version {version} until every node supports {CLUSTER_VERSION}: {}",
                behind.join(", ")
            ));
        }
    }
    if topology.proxies.is_empty() {
        found.push(
            "no proxy is registered; cluster-aware clients can use the nodes directly".into(),
        );
    }
    found.extend(topology.active_plans().filter_map(|plan| {
        let progress = plan.progress?;
        let in_switch = progress.stage == PlanStage::Switch && progress.state == PlanState::Running;
        let limit = if in_switch {
            SILENT_SWITCH_MS
        } else {
            SILENT_PLAN_MS
        };
        let silent = now_ms.saturating_sub(progress.updated_at_ms);
        let is_silent = progress.state == PlanState::Running && silent > limit;
        is_silent.then(|| {
            let frozen = if in_switch {
                "; its slots may be frozen until it is decided"
            } else {
                ""
            };
            format!(
                "plan {} says nothing since {} s{frozen}",
                plan.plan.id,
                silent / 1000
            )
        })
    }));
    found
}

fn text(answer: &Answer) -> String {
    let health = if answer.healthy {
        "healthy"
    } else {
        "NOT HEALTHY"
    };
    let mut text = format!(
        "cluster `{}`: {health}, {} of 16384 slots assigned, slot map epoch {}\n",
        answer.cluster, answer.slots_assigned, answer.epoch
    );
    for (title, lines) in [("PROBLEM", &answer.problems), ("warning", &answer.warnings)] {
        lines
            .iter()
            .for_each(|line| text.push_str(&format!("{title}: {line}\n")));
    }
    let mut section = |body: String| {
        text.push('\n');
        text.push_str(&body);
    };
    if !answer.nodes.is_empty() {
        section(node::table(&answer.nodes));
    }
    if !answer.groups.is_empty() {
        section(group::table(&answer.groups));
    }
    if !answer.proxies.is_empty() {
        let proxies = answer.proxies.iter();
        let lines: Vec<String> = proxies
            .map(|p| format!("proxy {} at {}", p.id, p.address))
            .collect();
        section(lines.join("\n") + "\n");
    }
    if !answer.plans.is_empty() {
        section(plans::table(&answer.plans));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_protocol::topology::{
        GroupRecord, PlanLimits, PlanProgressRecord, PlanRecord, Record, RecordKey, SlotMapRecord,
        WantedState,
    };

    fn cluster(more: &[(RecordKey, Vec<u8>)]) -> Topology {
        let group = |id, node: &str| GroupRecord {
            id,
            replicas: vec![node.into()],
            incarnation: 1,
            bootstrapped: true,
            created_at_ms: 0,
        };
        let mut records = vec![
            (RecordKey::Group(1), group(1, "n1").encode()),
            (RecordKey::Group(2), group(2, "n2").encode()),
            (RecordKey::Slots, SlotMapRecord::spread(&[1, 2]).encode()),
        ];
        records.extend_from_slice(more);
        Topology::from_records(1, &records)
    }

    #[test]
    fn a_group_whose_node_is_down_is_a_problem() {
        let found = problems(&cluster(&[]), &BTreeMap::new());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("group 1 (8192 slots) is not served: node `n1` is down"));
    }

    #[test]
    fn slots_of_a_lost_group_and_without_owner_are_problems() {
        let mut map = SlotMapRecord::spread(&[1, 2, 7]);
        map.ranges.remove(0);
        let found = problems(
            &cluster(&[(RecordKey::Slots, map.encode())]),
            &BTreeMap::new(),
        );
        assert!(
            found.contains(&"slots 0-5460 have no owner".to_owned()),
            "{found:?}"
        );
        assert!(
            found.contains(&"group 7 owns slots but does not exist".to_owned()),
            "{found:?}"
        );
    }

    #[test]
    fn a_switch_that_falls_silent_is_reported_early() {
        let plan = PlanRecord {
            id: 4,
            from: 1,
            to: 2,
            slots: "0".parse().unwrap(),
            limits: PlanLimits::default(),
            wanted: WantedState::Run,
            created_at_ms: 0,
        };
        let progress = |stage| PlanProgressRecord {
            plan: 4,
            state: PlanState::Running,
            stage,
            bytes_done: 0,
            bytes_total: 0,
            pause_ms: None,
            message: String::new(),
            updated_at_ms: 1_000,
        };
        for (stage, warned) in [(PlanStage::Switch, true), (PlanStage::Full, false)] {
            let topology = cluster(&[
                (RecordKey::Plan(4), plan.encode()),
                (RecordKey::PlanProgress(4), progress(stage).encode()),
            ]);
            let found = warnings(&topology, 11_000);
            assert_eq!(
                found.iter().any(|w| w.contains("may be frozen")),
                warned,
                "{found:?}"
            );
        }
    }
}
