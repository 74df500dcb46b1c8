//! `reshard`: orders a move, after showing what it takes.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cairn_protocol::topology::{GroupId, NewPlan, PlanLimits, Topology};
use serde::Serialize;
use serde_json::json;

use super::{Session, follow};
use crate::cli::ReshardArgs;
use crate::node_client::{self, SlotStats};
use crate::{exit, units};

/// Bytes a second that the estimate assumes without --max-rate.
const ASSUMED_RATE: u64 = 50 << 20;
/// What draining the last increments takes in the estimate, besides round trips.
const DRAIN: Duration = Duration::from_millis(10);

/// What a move would take. Nulls: not known.
#[derive(Debug, Serialize)]
struct Estimate {
    from: GroupId,
    to: GroupId,
    slots: String,
    slot_count: usize,
    keys: Option<u64>,
    bytes: Option<u64>,
    /// At --max-rate, or at 50 MB/s without.
    eta_s: Option<f64>,
    expected_pause_ms: Option<u64>,
    max_pause_ms: u64,
    destination_disk_free_bytes: Option<u64>,
    /// Whether the destination's disk has room for the data twice (staged files
    /// and their compaction).
    fits: Option<bool>,
    /// Why something is not known.
    notes: Vec<String>,
}

pub(super) async fn run(session: &Session, args: ReshardArgs) -> anyhow::Result<u8> {
    let (dry_run, yes, detach) = (args.dry_run, args.yes, args.detach);
    let new = order(args)?;
    let topology = session.topology().await?;
    new.check(&topology)?;
    let estimate = estimate(session, &topology, &new).await;
    if dry_run {
        session.out.show(&estimate, text);
        return Ok(exit::OK);
    }
    if estimate.fits == Some(false) {
        bail!(
            "group {}'s disk has {} free, the move brings {}: make room, or move fewer slots",
            new.to,
            units::bytes(estimate.destination_disk_free_bytes.unwrap_or(0)),
            units::bytes(estimate.bytes.unwrap_or(0))
        );
    }
    if !yes {
        session.out.say(&text(&estimate));
        if !confirmed(session)? {
            session.out.say("Nothing was changed.");
            return Ok(exit::FAILED);
        }
    }
    let plan = session.changed(session.store.create_plan(&new).await)?;
    session
        .out
        .show(&json!({ "plan": plan.id, "state": "running" }), |_| {
            format!(
                "plan {0} is ordered; it goes on without this tool (`reshard status {0} --follow`)",
                plan.id
            )
        });
    if detach {
        return Ok(exit::OK);
    }
    follow::run(session, plan.id).await
}

fn order(args: ReshardArgs) -> anyhow::Result<NewPlan> {
    let need =
        "`reshard` needs --from GROUP --to GROUP --slots RANGES (or: status, pause, resume, abort)";
    Ok(NewPlan {
        from: args.from.context(need)?,
        to: args.to.context(need)?,
        slots: args.slots.context(need)?,
        limits: PlanLimits {
            max_rate_bytes_per_sec: args.max_rate,
            max_pause_ms: args.max_pause.as_millis() as u64,
            migration_log_limit_bytes: args.migration_log_limit,
        },
    })
}

fn confirmed(session: &Session) -> anyhow::Result<bool> {
    if session.out.json || !std::io::stdin().is_terminal() {
        bail!("nobody is there to ask: add --yes");
    }
    print!("Move these slots? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

async fn estimate(session: &Session, topology: &Topology, new: &NewPlan) -> Estimate {
    let mut notes = Vec::new();
    let source = sizes(topology, new.from, new, &mut notes).await;
    let free = disk_free(topology, new.to, new, &mut notes).await;
    let bytes = source.map(|s| s.bytes);
    let rate = new.limits.max_rate_bytes_per_sec.unwrap_or(ASSUMED_RATE);
    let pause = expected_pause(session, topology, new, &mut notes).await;
    Estimate {
        from: new.from,
        to: new.to,
        slots: new.slots.to_string(),
        slot_count: new.slots.len(),
        keys: source.map(|s| s.keys),
        bytes,
        eta_s: bytes.map(|b| b as f64 / rate as f64),
        expected_pause_ms: pause.map(|p| p.as_millis() as u64),
        max_pause_ms: new.limits.max_pause_ms,
        destination_disk_free_bytes: free,
        fits: bytes
            .zip(free)
            .map(|(bytes, free)| bytes.saturating_mul(2) < free),
        notes,
    }
}

/// What the slots take at their source.
async fn sizes(
    topology: &Topology,
    group: GroupId,
    new: &NewPlan,
    notes: &mut Vec<String>,
) -> Option<SlotStats> {
    let address = topology.leader_address(group)?;
    let stats = node_client::slot_stats(&address.host, address.port, &new.slots).await;
    stats
        .map_err(|e| notes.push(format!("sizes are not known: {e:#}")))
        .ok()
}

/// Room at the destination: asked of the node, else as it last reported.
async fn disk_free(
    topology: &Topology,
    group: GroupId,
    new: &NewPlan,
    notes: &mut Vec<String>,
) -> Option<u64> {
    let address = topology.leader_address(group)?;
    let one_slot = new.slots.iter().take(1).collect();
    let asked = node_client::slot_stats(&address.host, address.port, &one_slot).await;
    let reported = || {
        let node = topology.nodes.get(&address.node)?;
        Some(node.load.disk_free_bytes).filter(|free| *free > 0)
    };
    let free = asked.map(|s| s.disk_free_bytes).ok().or_else(reported);
    if free.is_none() {
        notes.push(format!("the room on node `{}` is not known", address.node));
    }
    free
}

/// The switch as round trips: to etcd (proof, decision), between the nodes
/// (drain, READY, OWN), plus the drain itself. An estimate, not a promise.
async fn expected_pause(
    session: &Session,
    topology: &Topology,
    new: &NewPlan,
    notes: &mut Vec<String>,
) -> Option<Duration> {
    let asked = Instant::now();
    session.store.read_slots().await.ok()?;
    let mut pause = DRAIN + asked.elapsed() * 2;
    for group in [new.from, new.to] {
        let address = topology.leader_address(group)?;
        match node_client::ping(&address.host, address.port).await {
            Ok(trip) => pause += trip * 2,
            Err(error) => {
                notes.push(format!("the move will wait: {error:#}"));
                return None;
            }
        }
    }
    Some(pause)
}

fn text(e: &Estimate) -> String {
    let unknown = || "not known".to_owned();
    let mut lines = vec![
        format!(
            "move     slots {} ({}) from group {} to group {}",
            e.slots, e.slot_count, e.from, e.to
        ),
        format!(
            "data     {}",
            e.bytes.map_or_else(unknown, |b| format!(
                "{} in {} keys",
                units::bytes(b),
                e.keys.unwrap_or(0)
            ))
        ),
        format!(
            "takes    {}",
            e.eta_s.map_or_else(unknown, |s| format!(
                "about {}",
                units::duration(Duration::from_secs_f64(s))
            ))
        ),
        format!(
            "pause    {} at the end (gives up above {} ms)",
            e.expected_pause_ms
                .map_or_else(unknown, |ms| format!("about {ms} ms")),
            e.max_pause_ms
        ),
        format!(
            "room     {}",
            e.destination_disk_free_bytes.map_or_else(unknown, |free| {
                let enough = if e.fits == Some(false) {
                    ", NOT ENOUGH"
                } else {
                    ""
                };
                format!("{} free at the destination{enough}", units::bytes(free))
            })
        ),
    ];
    lines.extend(e.notes.iter().map(|note| format!("note     {note}")));
    lines.join("\n")
}
