//! The destination's task of one plan.

use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::topology;
use tokio::sync::{broadcast, mpsc};

use super::{Asked, Movers, export};
use crate::cluster::node::Hosted;
use crate::cluster::replica::StepNews;
use crate::group::Commit;
use crate::migration::{
    Decision, DestAction, DestDriver, DestEvent, DestStatus, DriverConfig, MonoMs, PlanId,
};

struct Task {
    movers: Arc<Movers>,
    hosted: Arc<Hosted>,
    plan: PlanId,
    driver: DestDriver,
    replies: Option<mpsc::Sender<DestStatus>>,
    /// Events of what this task has under way.
    events: mpsc::UnboundedSender<DestEvent>,
    timer: MonoMs,
    done: bool,
}

/// Runs until the plan is over here or the group is led elsewhere.
pub(super) async fn run(
    movers: Arc<Movers>,
    hosted: Arc<Hosted>,
    plan: PlanId,
    mut asked: mpsc::Receiver<Asked>,
) {
    // Bounded by what the driver has under way.
    let (events, mut own) = mpsc::unbounded_channel();
    let mut news = hosted.view.news.subscribe();
    let now = movers.now();
    let driver = DestDriver::new(plan, DriverConfig::default(), now);
    let mut task = Task {
        movers,
        hosted,
        plan,
        driver,
        replies: None,
        events,
        timer: now,
        done: false,
    };
    task.replicated();
    while !task.done && task.hosted.group.is_ready() {
        let wait = Duration::from_millis(task.timer.saturating_sub(task.movers.now()));
        // Every branch takes an item whole or not at all.
        tokio::select! {
            ask = asked.recv() => {
                let Some(ask) = ask else { return };
                task.replies = Some(ask.replies);
                task.step(DestEvent::Source(ask.message));
            }
            step = news.recv() => task.heard(step),
            Some(event) = own.recv() => task.step(event),
            () = tokio::time::sleep(wait) => task.step(DestEvent::Timer),
        }
    }
}

impl Task {
    fn replicated(&mut self) {
        let view = {
            let migration = self.hosted.view.migration.lock();
            migration.dest_view(self.plan, *self.hosted.view.applied.lock())
        };
        self.step(DestEvent::Replicated(view));
    }

    fn heard(&mut self, news: Result<StepNews, broadcast::error::RecvError>) {
        match news {
            Ok(news) if news.plan == Some(self.plan) => {
                if let Some(refused) = news.refused {
                    self.step(DestEvent::Refused(refused));
                }
                self.replicated();
            }
            Ok(_) => {}
            // Fell behind: the state says what was missed.
            Err(_) => self.replicated(),
        }
    }

    fn step(&mut self, event: DestEvent) {
        let mut actions = Vec::new();
        self.driver.step(self.movers.now(), event, &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: DestAction) {
        match action {
            DestAction::Propose(entry) => {
                let (events, bytes) = (self.events.clone(), entry.bulk_bytes());
                self.hosted.propose_then(
                    entry,
                    Box::new(move |commit| {
                        let _ = events.send(DestEvent::Concluded { bytes });
                        if commit != Commit::Applied {
                            let _ = events.send(DestEvent::Dropped);
                        }
                    }),
                );
            }
            DestAction::Reply(status) => {
                // A full queue loses an answer; the source asks again.
                if let Some(replies) = &self.replies {
                    let _ = replies.try_send(status);
                }
            }
            DestAction::DigestStaged {
                attempt,
                first,
                last,
            } => self.digest(attempt, first, last),
            DestAction::ReadDecision => self.read_decision(),
            DestAction::SetTimer(at) => self.timer = at,
            DestAction::Notice(notice) => {
                tracing::warn!(
                    plan = self.plan.0,
                    group = self.hosted.group.id,
                    ?notice,
                    "move"
                );
            }
            DestAction::Done => self.done = true,
        }
    }

    fn digest(&self, attempt: u64, first: u16, last: u16) {
        let (events, store) = (self.events.clone(), self.hosted.group.store.clone());
        let plan = self.plan;
        let slots = self
            .hosted
            .view
            .migration
            .lock()
            .dest(plan)
            .map(|dest| dest.spec.slots.clone())
            .unwrap_or_default();
        tokio::task::spawn_blocking(move || {
            let chunk = slots.iter().filter(|slot| (first..=last).contains(slot));
            let event = match export::staged(&store, plan.0, chunk) {
                Ok(digest) => DestEvent::Staged {
                    attempt,
                    rows: digest.rows(),
                    digest: digest.value(),
                },
                Err(error) => {
                    tracing::error!(plan = plan.0, %error, "staged rows cannot be read back");
                    DestEvent::ImportFailed
                }
            };
            let _ = events.send(event);
        });
    }

    fn read_decision(&self) {
        let (events, etcd) = (self.events.clone(), self.movers.node.etcd.clone());
        let plan = self.plan.0;
        tokio::spawn(async move {
            let event = match etcd.read_decision(plan).await {
                Ok(Some(record)) => DestEvent::Decided(decision(&record)),
                Ok(None) => DestEvent::NoDecision,
                Err(_) => DestEvent::EtcdUnavailable,
            };
            let _ = events.send(event);
        });
    }
}

/// The drivers' form of a decision record.
pub(super) fn decision(record: &topology::DecisionRecord) -> Decision {
    match record.decision {
        topology::Decision::Commit => Decision::Commit,
        topology::Decision::Abort => Decision::Abort,
    }
}
