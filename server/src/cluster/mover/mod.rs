//! Moves of slots: the I/O around the pure drivers of `migration`.
//!
//! One task per plan and side. A task owns its driver, feeds it events (the
//! replicated state, messages, etcd's answers, timers) and carries out what it
//! asks for; it can be dropped at any instant and started again.
//! - `source`: export, increments, etcd, the decision;
//! - `dest`: staging, digests, answers;
//! - `export`: rows of whole slots from a pinned snapshot;
//! - `peer`: the stream between the two leaders.

mod dest;
mod export;
mod peer;
mod source;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use cairn_protocol::topology::Topology;
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use peer::service;
pub(super) use peer::{TOKEN, token};

use super::node::{Hosted, Node};
use crate::migration::{Limits, MonoMs, PlanId, PlanSpec, SlotRanges};

/// Messages that wait for a task; beyond, the sender waits.
const QUEUE: usize = 64;

/// What the service hands to a destination's task.
struct Asked {
    message: crate::migration::ToDest,
    /// Where the answers go from now on.
    replies: mpsc::Sender<crate::migration::DestStatus>,
}

/// The tasks of a node.
pub struct Movers {
    node: Arc<Node>,
    started: Instant,
    /// Plans that a task here drives as source.
    sources: Mutex<HashMap<PlanId, tokio::task::JoinHandle<()>>>,
    /// Tasks of destinations, by group and plan.
    dests: Mutex<HashMap<(u32, PlanId), mpsc::Sender<Asked>>>,
}

impl Movers {
    pub fn new(node: Arc<Node>) -> Arc<Movers> {
        Arc::new(Movers {
            node,
            started: Instant::now(),
            sources: Mutex::default(),
            dests: Mutex::default(),
        })
    }

    /// A view of the topology to follow.
    pub fn topology(&self) -> cairn_protocol::topology::TopologyWatch {
        self.node.topology.clone()
    }

    /// The drivers' clock.
    fn now(&self) -> MonoMs {
        self.started.elapsed().as_millis() as MonoMs
    }

    /// Starts a source task for each plan that needs one here and has none:
    /// plans of the topology that are not finished, and plans that a group's
    /// replicated state is in the middle of.
    pub fn look(self: &Arc<Self>, topology: &Topology) {
        for hosted in self.node.hosted().iter().filter(|h| h.group.is_ready()) {
            for view in topology
                .active_plans()
                .filter(|p| p.plan.from == hosted.group.id)
            {
                if let Some(spec) = plan_spec(view.plan) {
                    self.drive(hosted, spec);
                }
            }
            let (sources, dests) = hosted.view.migration.lock().active_plans();
            for spec in sources {
                self.drive(hosted, (*spec).clone());
            }
            for spec in dests {
                self.dest_task(hosted, spec.plan);
            }
        }
    }

    fn drive(self: &Arc<Self>, hosted: &Arc<Hosted>, spec: PlanSpec) {
        let mut sources = self.sources.lock();
        if sources
            .get(&spec.plan)
            .is_some_and(|task| !task.is_finished())
        {
            return;
        }
        let plan = spec.plan;
        let task = tokio::spawn(source::run(self.clone(), hosted.clone(), spec));
        sources.insert(plan, task);
    }

    /// The queue of the destination's task of a plan, started if need be.
    fn dest_task(self: &Arc<Self>, hosted: &Arc<Hosted>, plan: PlanId) -> mpsc::Sender<Asked> {
        let mut dests = self.dests.lock();
        let key = (hosted.group.id, plan);
        if let Some(queue) = dests.get(&key).filter(|queue| !queue.is_closed()) {
            return queue.clone();
        }
        let (queue, asked) = mpsc::channel(QUEUE);
        tokio::spawn(dest::run(self.clone(), hosted.clone(), plan, asked));
        dests.insert(key, queue.clone());
        queue
    }
}

/// The driver's form of a plan record; `None` for slots that do not exist.
fn plan_spec(plan: &cairn_protocol::topology::PlanRecord) -> Option<PlanSpec> {
    Some(PlanSpec {
        plan: PlanId(plan.id),
        from: crate::migration::GroupId(plan.from),
        to: crate::migration::GroupId(plan.to),
        slots: SlotRanges::from_slots(plan.slots.iter())?,
        limits: limits(&plan.limits),
    })
}

fn limits(limits: &cairn_protocol::topology::PlanLimits) -> Limits {
    Limits {
        max_rate: limits.max_rate_bytes_per_sec.unwrap_or(0),
        max_pause_ms: limits.max_pause_ms,
        log_limit: limits.migration_log_limit_bytes,
        ..Limits::default()
    }
}
