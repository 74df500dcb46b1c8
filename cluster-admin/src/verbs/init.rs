//! `init`: creates what is missing of a cluster.

use anyhow::Context;
use cairn_protocol::topology::{GroupId, NewCluster};
use serde::Deserialize;
use serde_json::json;

use super::Session;
use crate::cli::InitArgs;
use crate::exit;

/// An entry of `--groups-file`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupEntry {
    id: GroupId,
    nodes: Vec<String>,
}

pub(super) async fn run(session: &Session, args: &InitArgs) -> anyhow::Result<u8> {
    let mut groups = args.groups.clone();
    if let Some(file) = &args.groups_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("the groups file {}", file.display()))?;
        let entries: Vec<GroupEntry> = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is no list like [{{\"id\": 1, \"nodes\": [\"n1\"]}}]",
                file.display()
            )
        })?;
        groups.extend(entries.into_iter().map(|g| (g.id, g.nodes)));
    }
    let new = NewCluster {
        id: new_cluster_id(),
        groups,
    };
    let done = session.changed(session.store.init(&new).await)?;
    session.out.show(
        &json!({ "cluster": session.store.cluster(), "done": done }),
        |_| match done.is_empty() {
            true => format!("cluster `{}` is as asked already", session.store.cluster()),
            false => done.join("\n"),
        },
    );
    let topology = session.topology().await?;
    if topology.slots.is_none() {
        session.out.say(
            "The slots have no owner yet: run `init --group 1=NODE --group 2=NODE` (any number of groups) to spread them.",
        );
    }
    Ok(exit::OK)
}

/// 32 random hex digits.
pub(crate) fn new_cluster_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
