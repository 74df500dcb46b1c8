//! Following a plan to its end. Only looks: killing it changes nothing.

use std::time::Duration;

use cairn_protocol::topology::{PlanId, PlanState, Topology, TopologyWatch};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Session;
use super::plans::{self, PlanRow};
use crate::{exit, units};

/// How often the bar is redrawn while nothing changes.
const REDRAW: Duration = Duration::from_millis(200);

pub(super) async fn run(session: &Session, id: PlanId) -> anyhow::Result<u8> {
    let mut watch = session.store.watch(Topology::default());
    let mut display = Display::new(session);
    // Cancel safe: following changes nothing.
    let ended = tokio::select! {
        ended = to_the_end(&mut watch, id, &mut display) => ended?,
        _ = tokio::signal::ctrl_c() => {
            display.clear();
            session.out.say(&format!(
                "The move goes on. `reshard status {id} --follow` shows it again, `reshard abort {id}` gives it up."
            ));
            return Ok(exit::INTERRUPTED);
        }
    };
    display.clear();
    session.out.show(&ended, summary);
    Ok(if ended.state == PlanState::Done.to_string() {
        exit::OK
    } else {
        exit::NOT_MOVED
    })
}

async fn to_the_end(
    watch: &mut TopologyWatch,
    id: PlanId,
    display: &mut Display,
) -> anyhow::Result<PlanRow> {
    watch.synced().await;
    let mut topology = watch.load();
    loop {
        let Some(view) = topology.plan(id) else {
            anyhow::bail!("there is no plan {id}: `reshard status` shows all");
        };
        let row = plans::row(&view);
        if !view.is_active() {
            return Ok(row);
        }
        display.update(&row, source_hint(&topology, &row));
        topology = watch.changed().await;
    }
}

/// Why nothing may be happening.
fn source_hint(topology: &Topology, row: &PlanRow) -> Option<String> {
    let down = |group: u32| {
        let address = topology.leader_address(group);
        (!address.is_some_and(|a| a.alive)).then(|| {
            let node = topology.leader_of(group).cloned().unwrap_or_default();
            format!("waiting: node `{node}` of group {group} is down")
        })
    };
    down(row.from).or_else(|| down(row.to))
}

fn summary(row: &PlanRow) -> String {
    let what = format!(
        "{} slots from group {} to group {}",
        row.slot_count, row.from, row.to
    );
    let pause = row
        .pause_ms
        .map_or_else(|| "not measured".to_owned(), |ms| format!("{ms} ms"));
    match row.state.as_str() {
        "done" => format!(
            "plan {} is done: {what}, {}; these slots paused for {pause}",
            row.plan,
            units::bytes(row.bytes_done)
        ),
        state => format!(
            "plan {} {state}: {what} stay where they were. {}",
            row.plan, row.message
        ),
    }
}

/// A bar on a terminal; else a line whenever the stage or state changes.
struct Display {
    bar: ProgressBar,
    lines: Option<crate::output::Printer>,
    last: String,
}

impl Display {
    fn new(session: &Session) -> Self {
        let interactive = session.out.is_interactive();
        let target = match interactive {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style());
        if interactive {
            bar.enable_steady_tick(REDRAW);
        }
        let lines = (!interactive).then_some(session.out);
        Self {
            bar,
            lines,
            last: String::new(),
        }
    }

    fn update(&mut self, row: &PlanRow, hint: Option<String>) {
        let message = hint.unwrap_or_else(|| row.message.clone());
        self.bar.set_length(row.bytes_total.max(row.bytes_done));
        self.bar.set_position(row.bytes_done);
        self.bar
            .set_prefix(format!("plan {} {} {}", row.plan, row.state, row.stage));
        self.bar.set_message(message.clone());
        let now = format!("plan {} {} {}: {message}", row.plan, row.state, row.stage);
        if let Some(out) = self.lines.filter(|_| now != self.last) {
            out.say(&now);
            self.last = now;
        }
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn style() -> ProgressStyle {
    let template = "{prefix} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta} {wide_msg}";
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
