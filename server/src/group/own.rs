//! Commands of the server's own, and of the master that it follows, through the writer
//! as a client's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_protocol::command::{Resolved, resolve_own};
use cairn_protocol::resp::Requests;
use parking_lot::MutexGuard;

use super::Group;
use super::submission::{OfMaster, Outcome, QueuedCommand, Submission, SubmissionState};
use crate::commands::{Handler, handler};

/// What is not in memory is waited for at once.
const IN_PLACE: u8 = u8::MAX;
/// While a script keeps the writer, a batch that must not be lost is tried so often.
const TRY_AGAIN: Duration = Duration::from_millis(20);

impl Group {
    /// Runs writes on database `db` and waits for them. Blocks: not on a network
    /// thread.
    ///
    /// # Errors
    /// The first error reply, or that there is no leader here.
    pub(crate) fn run_own(self: &Arc<Self>, db: usize, requests: Requests) -> Result<(), String> {
        let batch = OwnBatch::of(db, requests, None)?;
        batch.run_once(self);
        batch.result()
    }

    /// The same as a part of what a master sends.
    ///
    /// # Errors
    /// The first error reply, or that the master is followed no more.
    pub(crate) fn run_of_master(
        self: &Arc<Self>,
        db: usize,
        requests: Requests,
        of_master: OfMaster,
    ) -> Result<(), String> {
        let epoch = of_master.epoch;
        let batch = OwnBatch::of(db, requests, Some(of_master))?;
        batch.run_while(self, || self.stream_epoch.load(Ordering::Acquire) == epoch);
        batch.result()
    }
}

impl QueuedCommand {
    /// It waits for what is not in memory.
    pub(crate) fn in_place(self) -> QueuedCommand {
        QueuedCommand {
            // Each its own: a failed one stops no other.
            stream: self.request,
            tries: IN_PLACE,
            ..self
        }
    }
}

/// A batch without a connection.
pub(crate) struct OwnBatch(Arc<Submission>);

impl OwnBatch {
    pub fn new(
        commands: Vec<QueuedCommand>,
        requests: Requests,
        of_master: Option<OfMaster>,
    ) -> OwnBatch {
        let submission = Arc::new(Submission::default());
        {
            let mut state = submission.lock();
            (state.commands, state.requests) = (commands, requests);
            state.of_master = of_master;
            state.base = Some(state.replies.mark());
        }
        OwnBatch(submission)
    }

    fn of(db: usize, requests: Requests, of_master: Option<OfMaster>) -> Result<OwnBatch, String> {
        let commands = (0..requests.len())
            .map(|at| own_command(&requests, at, db))
            .collect::<Result<_, _>>()?;
        Ok(OwnBatch::new(commands, requests, of_master))
    }

    /// Waits until the writer has done it, or has refused to. False: it has refused.
    fn run_once(&self, group: &Arc<Group>) -> bool {
        loop {
            group.submit(self.0.clone());
            group.refuse_if_unready();
            group.turn();
            futures::executor::block_on(self.0.finished());
            let mut state = self.0.lock();
            let commands = &state.commands;
            let is_over = commands.iter().all(|c| c.outcome != Outcome::Pending);
            let goes_on = |c: &QueuedCommand| c.outcome == Outcome::Done || c.begins_entry;
            if is_over || !commands.iter().any(goes_on) {
                return commands.iter().all(|c| c.outcome == Outcome::Done);
            }
            // An entry was full before all were evaluated.
            state.base = Some(state.replies.mark());
        }
    }

    /// The same, again and again while `wanted`: a script that takes its time has what
    /// waits behind it refused.
    pub fn run_while(&self, group: &Arc<Group>, wanted: impl Fn() -> bool) -> bool {
        loop {
            if self.run_once(group) {
                return true;
            }
            if !wanted() {
                return false;
            }
            for command in &mut self.0.lock().commands {
                // What was done is never done again.
                if command.outcome != Outcome::Done {
                    command.outcome = Outcome::Pending;
                }
            }
            std::thread::sleep(TRY_AGAIN);
        }
    }

    /// What became of it.
    pub fn outcome(&self) -> MutexGuard<'_, SubmissionState> {
        self.0.lock()
    }

    fn result(&self) -> Result<(), String> {
        let state = self.outcome();
        if state.commands.iter().any(|c| c.outcome != Outcome::Done) {
            return Err("the writer did not run it".to_owned());
        }
        match state.commands.iter().position(|command| command.failed) {
            None => Ok(()),
            Some(_) => {
                let replies = state.replies.to_vec();
                let mut lines = replies.split(|byte| *byte == b'\n');
                let error = lines.find(|line| line.first() == Some(&b'-'));
                let error = String::from_utf8_lossy(error.unwrap_or_default());
                Err(error.trim_start_matches('-').trim_end().to_owned())
            }
        }
    }
}

fn own_command(requests: &Requests, at: usize, db: usize) -> Result<QueuedCommand, String> {
    let Resolved::Command(spec) = resolve_own(&requests.get(at)) else {
        return Err("an unknown command".to_owned());
    };
    let Some(Handler::Write(handler)) = handler(spec) else {
        return Err(format!("'{}' does not write", spec.name));
    };
    let command = QueuedCommand::new(at as u32, spec, handler);
    Ok(QueuedCommand {
        db: db as u8,
        ..command.in_place()
    })
}
