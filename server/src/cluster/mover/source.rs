//! The source's task of one plan.

use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::topology::{
    DecisionRecord, PlanProgressRecord, PlanProgressWriter, PlanStage, PlanState, StoreError,
    Verdict, WantedState,
};
use tokio::sync::{broadcast, mpsc};

use super::dest::decision;
use super::export::{self, Chunk};
use super::peer::{self, Link};
use super::{Movers, limits};
use crate::cluster::node::Hosted;
use crate::cluster::replica::StepNews;
use crate::cluster::sink::EFFECTS;
use crate::group::Commit;
use crate::migration::{
    Control, Decision, DriverConfig, EtcdAnswer, FailReason, IncrementBatch, MonoMs, PlanSpec,
    Progress, ProgressState, SourceAction, SourceDriver, SourceEvent, Stage, ToDest,
};
use crate::raft::{LogError, LogHold};
use crate::txn::effects;

/// How often the log that is held for the plan is measured.
const MEASURE_LOG: Duration = Duration::from_millis(500);

struct Task {
    movers: Arc<Movers>,
    hosted: Arc<Hosted>,
    spec: PlanSpec,
    driver: SourceDriver,
    link: Option<Link>,
    /// The export under way: its attempt, and the numbers of parts it is to make.
    export: Option<(u64, std::sync::mpsc::Sender<u32>)>,
    progress: Arc<tokio::sync::Mutex<PlanProgressWriter>>,
    /// Events of what this task has under way.
    events: mpsc::UnboundedSender<SourceEvent>,
    timer: MonoMs,
    bytes_done: u64,
    done: bool,
}

impl Drop for Task {
    /// However it ends, nobody waits for it any more.
    fn drop(&mut self) {
        self.hosted.group.slow_writes(self.spec.plan.0, 0);
    }
}

/// Runs until the plan is over and everybody knows, or the group is led elsewhere.
pub(super) async fn run(movers: Arc<Movers>, hosted: Arc<Hosted>, spec: PlanSpec) {
    // Bounded by what the driver has under way: windows of parts and batches.
    let (events, mut own) = mpsc::unbounded_channel();
    let mut news = hosted.view.news.subscribe();
    let mut topology = movers.node.topology.clone();
    let now = movers.now();
    let term = hosted.view.term.load(std::sync::atomic::Ordering::Acquire);
    let driver = SourceDriver::new(
        spec.clone(),
        DriverConfig::default(),
        term,
        rand::random(),
        now,
    );
    let progress = movers.node.etcd.progress_writer(spec.plan.0);
    let progress = Arc::new(tokio::sync::Mutex::new(progress));
    tracing::info!(
        plan = spec.plan.0,
        from = spec.from.0,
        to = spec.to.0,
        "driving a move"
    );
    let mut task = Task {
        movers,
        hosted,
        spec,
        driver,
        link: None,
        export: None,
        progress,
        events,
        timer: now,
        bytes_done: 0,
        done: false,
    };
    task.estimate();
    let mut held = task.hold_log();
    let mut measure = tokio::time::interval(MEASURE_LOG);
    task.ordered(&topology.load());
    task.replicated();
    while !task.done && task.hosted.group.is_ready() {
        let wait = Duration::from_millis(task.timer.saturating_sub(task.movers.now()));
        // Every branch takes an item whole or not at all.
        tokio::select! {
            current = topology.changed() => task.ordered(&current),
            step = news.recv() => task.heard(step),
            Some(event) = own.recv() => task.step(event),
            status = answer(&mut task.link) => match status {
                Some(status) => task.step(SourceEvent::Dest(status)),
                None => {
                    task.link = None;
                    task.step(SourceEvent::DestLost);
                }
            },
            _ = measure.tick() => task.measure_log(held.as_mut()),
            () = tokio::time::sleep(wait) => task.step(SourceEvent::Timer),
        }
    }
}

/// The destination's next answer; `None` when the connection is lost.
async fn answer(link: &mut Option<Link>) -> Option<crate::migration::DestStatus> {
    match link {
        Some(link) => link.statuses.recv().await,
        None => std::future::pending().await,
    }
}

impl Task {
    fn replicated(&mut self) {
        let view = {
            let migration = self.hosted.view.migration.lock();
            migration.source_view(self.spec.plan, *self.hosted.view.applied.lock())
        };
        self.step(SourceEvent::Replicated(view));
    }

    fn heard(&mut self, news: Result<StepNews, broadcast::error::RecvError>) {
        match news {
            Ok(news) if news.plan == Some(self.spec.plan) => {
                if let Some(refused) = news.refused {
                    self.step(SourceEvent::Refused(refused));
                }
                self.replicated();
            }
            Ok(_) => {}
            // Fell behind: the state says what was missed.
            Err(_) => self.replicated(),
        }
    }

    /// What the operator wants now.
    fn ordered(&mut self, topology: &cairn_protocol::topology::Topology) {
        let Some(plan) = topology.plan(self.spec.plan.0) else {
            return;
        };
        let control = match plan.plan.wanted {
            WantedState::Run => Control::Run,
            WantedState::Pause => Control::Pause,
            WantedState::Abort => Control::Abort,
        };
        let limits = limits(&plan.plan.limits);
        self.step(SourceEvent::Plan { control, limits });
    }

    fn step(&mut self, event: SourceEvent) {
        let mut actions = Vec::new();
        self.driver.step(self.movers.now(), event, &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: SourceAction) {
        match action {
            SourceAction::Propose(entry) => {
                let events = self.events.clone();
                self.hosted.propose_then(
                    entry,
                    Box::new(move |commit| {
                        let _ = events.send(SourceEvent::Concluded);
                        if commit != Commit::Applied {
                            let _ = events.send(SourceEvent::Dropped);
                        }
                    }),
                );
            }
            SourceAction::StartExport {
                attempt,
                first,
                target_bytes,
            } => {
                self.start_export(attempt, first, target_bytes);
            }
            SourceAction::ExportPart { attempt, part } => self.export_part(attempt, part),
            SourceAction::StopExport { .. } => self.export = None,
            SourceAction::ReadIncrements {
                after,
                until,
                max_bytes,
            } => {
                self.read_increments(after, until, max_bytes);
            }
            SourceAction::Send(message) => self.send(message),
            SourceAction::Prove { ask } => self.prove(ask),
            SourceAction::ReadDecision { ask } => self.read_decision(ask),
            SourceAction::Decide {
                ask,
                want,
                reason,
                epoch,
                ..
            } => {
                let want = match want {
                    Decision::Commit => Verdict::Commit { slot_epoch: epoch },
                    Decision::Abort => Verdict::Abort,
                };
                let reason = reason.map(|r| r.to_string()).unwrap_or_default();
                self.decide(ask, want, reason);
            }
            SourceAction::WriteProgress(progress) => self.write_progress(progress),
            SourceAction::SlowWrites(level) => {
                self.hosted.group.slow_writes(self.spec.plan.0, level);
            }
            SourceAction::SetTimer(at) => self.timer = at,
            SourceAction::Notice(notice) => {
                tracing::warn!(plan = self.spec.plan.0, ?notice, "move");
            }
            SourceAction::Done => self.done = true,
        }
    }

    /// Measures the log that the plan needs (what holds it is the replicated
    /// state, see `Replica::durable_applied_index`).
    fn hold_log(&self) -> Option<LogHold> {
        let (group, limit) = (self.hosted.group.id, self.spec.limits.log_limit);
        let raft = &self.movers.node.raft;
        raft.hold_log(group.into(), self.log_needed_from(), limit)
            .ok()
    }

    /// The first entry that the plan needs; one that is not there yet before it has begun
    /// and when it is over.
    fn log_needed_from(&self) -> u64 {
        // Before the look at the plan: what begins meanwhile begins above it.
        let applied = self.hosted.group.store.position().index;
        let migration = self.hosted.view.migration.lock();
        let plan = migration.source(self.spec.plan);
        plan.map_or(applied, |plan| plan.log_needed_after()) + 1
    }

    /// What a checkpoint has let go counts no more against the limit.
    fn measure_log(&mut self, held: Option<&mut LogHold>) {
        let Some(held) = held else { return };
        held.advance(self.log_needed_from());
        held.sample();
        let bytes = held.retained_bytes();
        self.step(SourceEvent::LogHeld { bytes });
    }

    /// Bytes that the slots take on disk, roughly.
    fn estimate(&self) {
        let (events, store) = (self.events.clone(), self.hosted.group.store.clone());
        let slots = self.spec.slots.clone();
        tokio::task::spawn_blocking(move || {
            let bytes = slots
                .runs()
                .iter()
                .map(|(a, b)| store.slot_bytes(*a, *b))
                .sum();
            let _ = events.send(SourceEvent::BytesTotal(bytes));
        });
    }

    /// One blocking thread pins the snapshot and makes the parts, in order. It ends
    /// with the last part, or when the task lets go of the export.
    fn start_export(&mut self, attempt: u64, first: u16, target_bytes: u64) {
        let (events, store) = (self.events.clone(), self.hosted.group.store.clone());
        let (parts, wanted) = std::sync::mpsc::channel();
        let chunk = Chunk {
            slots: self.spec.slots.clone(),
            first,
            target_bytes,
        };
        let plan = self.spec.plan.0;
        tokio::task::spawn_blocking(move || {
            export::run(store, chunk, &wanted, |part, done| {
                let event = match done {
                    Ok(done) => SourceEvent::PartExported {
                        attempt,
                        part,
                        rows: done.rows,
                        end: done.end,
                    },
                    Err(error) => {
                        tracing::error!(plan, %error, "the slots cannot be read");
                        SourceEvent::ExportFailed { attempt }
                    }
                };
                events.send(event).is_ok()
            });
        });
        self.export = Some((attempt, parts));
    }

    /// A part after the last is not asked for in earnest: nobody answers.
    fn export_part(&self, attempt: u64, part: u32) {
        match &self.export {
            Some((id, parts)) if *id == attempt => {
                let _ = parts.send(part);
            }
            _ => {
                let _ = self.events.send(SourceEvent::ExportFailed { attempt });
            }
        }
    }

    fn read_increments(&self, after: u64, until: Option<u64>, max_bytes: u64) {
        let (events, hosted) = (self.events.clone(), self.hosted.clone());
        let raft = self.movers.node.raft.clone();
        let spec = self.spec.clone();
        tokio::task::spawn_blocking(move || {
            let applied = hosted.group.store.position().index;
            let last = until.unwrap_or(u64::MAX).min(applied);
            let event = match increments(&hosted, &raft, &spec, after, last, max_bytes) {
                Ok((through, effects, bytes)) => {
                    let entries = through.saturating_sub(after).max(1);
                    let behind = applied.saturating_sub(through);
                    let behind_bytes = behind * (bytes / entries).max(64);
                    SourceEvent::IncrementsRead {
                        after,
                        through,
                        effects,
                        behind_bytes,
                    }
                }
                Err(error) => {
                    tracing::error!(plan = spec.plan.0, %error, "the log cannot be read");
                    SourceEvent::LogMissing
                }
            };
            let _ = events.send(event);
        });
    }

    fn send(&mut self, message: ToDest) {
        if self.link.is_none() {
            let topology = self.movers.node.topology.load();
            if let Some(address) = topology.leader_address(self.spec.to.0) {
                self.link = Some(peer::connect(&self.movers, &address, self.spec.to.0));
            }
        }
        // A full queue or a lost link loses the message; the driver asks again.
        if let Some(link) = &self.link {
            let _ = link.messages.try_send(message);
        }
    }

    fn prove(&self, ask: u64) {
        let (events, etcd) = (self.events.clone(), self.movers.node.etcd.clone());
        let (plan, node) = (self.spec.plan.0, self.movers.node.config.node_id.clone());
        tokio::spawn(async move {
            let answer = match etcd.prove_fresh(plan, &node).await {
                Ok(proof) => match proof.decision {
                    Some(record) => decided(&record),
                    None if proof.wanted == WantedState::Run => EtcdAnswer::Proved,
                    None => EtcdAnswer::Refused,
                },
                Err(StoreError::Conflict(_)) => EtcdAnswer::Refused,
                Err(_) => EtcdAnswer::Unavailable,
            };
            let _ = events.send(SourceEvent::Etcd { ask, answer });
        });
    }

    fn read_decision(&self, ask: u64) {
        let (events, etcd) = (self.events.clone(), self.movers.node.etcd.clone());
        let plan = self.spec.plan.0;
        tokio::spawn(async move {
            let answer = match etcd.read_decision(plan).await {
                Ok(Some(record)) => decided(&record),
                Ok(None) => EtcdAnswer::NoDecision,
                Err(_) => EtcdAnswer::Unavailable,
            };
            let _ = events.send(SourceEvent::Etcd { ask, answer });
        });
    }

    fn decide(&self, ask: u64, want: Verdict, reason: String) {
        let (events, etcd) = (self.events.clone(), self.movers.node.etcd.clone());
        let (plan, node) = (self.spec.plan.0, self.movers.node.config.node_id.clone());
        tokio::spawn(async move {
            let answer = match etcd.decide(plan, want, &node, &reason).await {
                Ok(record) => decided(&record),
                Err(StoreError::Conflict(why)) => {
                    tracing::warn!(plan, why, "etcd refuses the decision");
                    EtcdAnswer::Refused
                }
                Err(_) => EtcdAnswer::Unavailable,
            };
            let _ = events.send(SourceEvent::Etcd { ask, answer });
        });
    }

    fn write_progress(&mut self, progress: Progress) {
        let (events, writer) = (self.events.clone(), self.progress.clone());
        // A finished plan has forgotten its chunks; the operator has not.
        self.bytes_done = self.bytes_done.max(progress.bytes_done);
        let record = progress_record(&Progress {
            bytes_done: self.bytes_done,
            ..progress
        });
        tokio::spawn(async move {
            let event = match writer.lock().await.write(&record).await {
                Ok(()) => SourceEvent::ProgressWritten,
                // Finished in etcd: somebody wrote the end before.
                Err(StoreError::Conflict(_)) => SourceEvent::ProgressWritten,
                Err(_) => SourceEvent::ProgressLost,
            };
            let _ = events.send(event);
        });
    }
}

/// A decision as it was read back, with the reason that its record carries.
fn decided(record: &DecisionRecord) -> EtcdAnswer {
    let reason = FailReason::ALL
        .into_iter()
        .find(|r| r.to_string() == record.reason);
    EtcdAnswer::Decided {
        decision: decision(record),
        reason,
    }
}

/// What is due of the entries in `after+1..=last`: (through, batch, bytes read).
fn increments(
    hosted: &Hosted,
    raft: &crate::raft::RaftHandle,
    spec: &PlanSpec,
    after: u64,
    last: u64,
    max_bytes: u64,
) -> Result<(u64, bytes::Bytes, u64), Box<dyn std::error::Error + Send + Sync>> {
    let source = hosted.view.migration.lock().source(spec.plan).cloned();
    let Some(source) = source else {
        return Err("the plan is not known any more".into());
    };
    if last <= after {
        return Ok((after, bytes::Bytes::new(), 0));
    }
    let entries = raft
        .entries(hosted.group.id.into(), after + 1, last + 1, max_bytes)
        .map_err(|e: LogError| e.to_string())?;
    let (mut batch, mut through, mut bytes) = (IncrementBatch::default(), after, 0);
    for entry in entries {
        if entry.index != through + 1 {
            return Err(format!("entry {} is gone from the log", through + 1).into());
        }
        through = entry.index;
        bytes += entry.data.len() as u64;
        if entry.data.first() != Some(&EFFECTS) {
            continue;
        }
        let due = |slot| source.is_due(slot, entry.index);
        if let Some(part) = effects::filter(&entry.data.slice(1..), spec.slots.runs(), due)? {
            batch.push(entry.index, &part);
        }
    }
    if through == after {
        return Err(format!("entry {} is gone from the log", after + 1).into());
    }
    Ok((through, batch.finish(), bytes))
}

fn progress_record(progress: &Progress) -> PlanProgressRecord {
    let message = match (progress.state, progress.reason) {
        (_, Some(reason)) => reason.to_string(),
        (ProgressState::Done, None) => "moved".to_owned(),
        (_, None) => String::new(),
    };
    PlanProgressRecord {
        plan: progress.plan.0,
        state: match progress.state {
            ProgressState::Running => PlanState::Running,
            ProgressState::Paused => PlanState::Paused,
            ProgressState::Done => PlanState::Done,
            ProgressState::Aborted => PlanState::Aborted,
            ProgressState::Failed => PlanState::Failed,
        },
        stage: match progress.stage {
            Stage::Full => PlanStage::Full,
            Stage::Increment => PlanStage::Increment,
            Stage::Switch => PlanStage::Switch,
        },
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total.max(progress.bytes_done),
        pause_ms: progress.pause_ms,
        message,
        updated_at_ms: 0,
    }
}
