//! `slots`: the slot map.

use serde::Serialize;

use super::Session;
use crate::exit;
use crate::output::Table;

#[derive(Serialize)]
struct Answer {
    epoch: u32,
    ranges: Vec<RangeRow>,
    /// Slots without an owner, as ranges; empty is good.
    unassigned: String,
}

#[derive(Serialize)]
struct RangeRow {
    lo: u16,
    hi: u16,
    group: u32,
    epoch: u32,
    leader: String,
    address: String,
}

pub(super) async fn run(session: &Session) -> anyhow::Result<u8> {
    let topology = session.topology().await?;
    let Some(map) = &topology.slots else {
        anyhow::bail!("the slots have no owners yet: run `init` with groups to spread them");
    };
    let row = |range: &cairn_protocol::topology::SlotRange| RangeRow {
        lo: range.lo,
        hi: range.hi,
        group: range.group,
        epoch: range.epoch,
        leader: topology.leader_of(range.group).cloned().unwrap_or_default(),
        address: topology
            .leader_address(range.group)
            .map_or_else(String::new, |a| format!("{}:{}", a.host, a.port)),
    };
    let answer = Answer {
        epoch: map.epoch,
        ranges: map.ranges.iter().map(row).collect(),
        unassigned: map.unassigned().to_string(),
    };
    session.out.show(&answer, text);
    Ok(exit::OK)
}

fn text(answer: &Answer) -> String {
    let mut table = Table::new(["SLOTS", "COUNT", "GROUP", "EPOCH", "LEADER", "ADDRESS"]);
    for r in &answer.ranges {
        table.row([
            format!("{}-{}", r.lo, r.hi),
            (u32::from(r.hi) - u32::from(r.lo) + 1).to_string(),
            r.group.to_string(),
            r.epoch.to_string(),
            r.leader.clone(),
            r.address.clone(),
        ]);
    }
    let mut text = format!("{}epoch {}\n", table.render(), answer.epoch);
    if !answer.unassigned.is_empty() {
        text.push_str(&format!("WITHOUT AN OWNER: {}\n", answer.unassigned));
    }
    text
}
