//! `reshard status/pause/resume/abort`.

use cairn_protocol::topology::{Decision, PlanId, PlanView, WantedState};
use serde::Serialize;

use super::{Session, follow};
use crate::output::Table;
use crate::{exit, units};

/// A plan as JSON and tables show it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PlanRow {
    pub plan: PlanId,
    pub from: u32,
    pub to: u32,
    /// Ranges.
    pub slots: String,
    pub slot_count: usize,
    /// running, paused, done, aborted, failed
    pub state: String,
    /// full, increment, switch
    pub stage: String,
    /// run, pause, abort
    pub wanted: WantedState,
    pub bytes_done: u64,
    pub bytes_total: u64,
    /// Measured pause of the switch; null before.
    pub pause_ms: Option<u64>,
    /// commit or abort; null before.
    pub decision: Option<Decision>,
    pub message: String,
    pub created_at_ms: u64,
    /// 0 before the source began.
    pub updated_at_ms: u64,
}

pub(super) fn row(view: &PlanView<'_>) -> PlanRow {
    let (plan, progress) = (view.plan, view.progress);
    PlanRow {
        plan: plan.id,
        from: plan.from,
        to: plan.to,
        slots: plan.slots.to_string(),
        slot_count: plan.slots.len(),
        state: view.state().to_string(),
        stage: progress.map_or("full".into(), |p| p.stage.to_string()),
        wanted: plan.wanted,
        bytes_done: progress.map_or(0, |p| p.bytes_done),
        bytes_total: progress.map_or(0, |p| p.bytes_total),
        pause_ms: progress.and_then(|p| p.pause_ms),
        decision: view.decision.map(|d| d.decision),
        message: progress.map_or_else(
            || format!("waiting for the leader of group {}", plan.from),
            |p| p.message.clone(),
        ),
        created_at_ms: plan.created_at_ms,
        updated_at_ms: progress.map_or(0, |p| p.updated_at_ms),
    }
}

pub(super) fn table(rows: &[PlanRow]) -> String {
    let mut table = Table::new([
        "PLAN", "MOVE", "SLOTS", "STATE", "STAGE", "DONE", "PAUSE", "MESSAGE",
    ]);
    for row in rows {
        table.row([
            row.plan.to_string(),
            format!("{} -> {}", row.from, row.to),
            row.slots.clone(),
            row.state.clone(),
            row.stage.clone(),
            format!(
                "{} of {}",
                units::bytes(row.bytes_done),
                units::bytes(row.bytes_total)
            ),
            row.pause_ms.map_or("-".into(), |ms| format!("{ms} ms")),
            row.message.clone(),
        ]);
    }
    table.render()
}

pub(super) async fn status(
    session: &Session,
    plan: Option<PlanId>,
    followed: bool,
) -> anyhow::Result<u8> {
    let topology = session.topology().await?;
    let Some(id) = plan else {
        let rows: Vec<PlanRow> = topology.plan_views().map(|p| row(&p)).collect();
        session.out.show(&rows, |rows| match rows.is_empty() {
            true => "no plans yet".into(),
            false => table(rows),
        });
        return Ok(exit::OK);
    };
    let Some(view) = topology.plan(id) else {
        anyhow::bail!("there is no plan {id}: `reshard status` shows all");
    };
    if followed {
        return follow::run(session, id).await;
    }
    session
        .out
        .show(&row(&view), |row| table(std::slice::from_ref(row)));
    Ok(exit::OK)
}

pub(super) async fn pause(session: &Session, plan: PlanId) -> anyhow::Result<u8> {
    change(
        session,
        plan,
        WantedState::Pause,
        "will hold at the next safe point",
    )
    .await
}

pub(super) async fn resume(session: &Session, plan: PlanId) -> anyhow::Result<u8> {
    change(session, plan, WantedState::Run, "goes on").await
}

pub(super) async fn abort(session: &Session, plan: PlanId) -> anyhow::Result<u8> {
    change(
        session,
        plan,
        WantedState::Abort,
        "will be given up, unless it was committed first",
    )
    .await
}

async fn change(
    session: &Session,
    id: PlanId,
    wanted: WantedState,
    will: &str,
) -> anyhow::Result<u8> {
    session.topology().await?;
    session.changed(session.store.set_wanted(id, wanted).await)?;
    let topology = session.topology().await?;
    let row = topology.plan(id).map(|p| row(&p));
    session.out.show(&row, |_| {
        format!("plan {id} {will}; `reshard status {id} --follow` shows it")
    });
    Ok(exit::OK)
}
