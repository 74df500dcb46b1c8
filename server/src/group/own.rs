//! Commands of the server's own, through the writer as a client's.

use std::sync::Arc;

use cairn_protocol::command::{Resolved, resolve_own};
use cairn_protocol::resp::Requests;

use super::Group;
use super::submission::{Outcome, QueuedCommand, Submission};
use crate::commands::{Handler, handler};

/// What is not in memory is waited for at once.
const IN_PLACE: u8 = u8::MAX;

impl Group {
    /// Runs writes on database `db` and waits for them. Blocks: on a runtime's
    /// thread for blocking work.
    ///
    /// # Errors
    /// The first error reply, or that there is no leader here.
    pub(crate) fn run_own(self: &Arc<Self>, db: usize, requests: Requests) -> Result<(), String> {
        let submission = Arc::new(Submission::default());
        {
            let mut state = submission.lock();
            state.commands = (0..requests.len())
                .map(|at| own_command(&requests, at, db))
                .collect::<Result<_, _>>()?;
            state.requests = requests;
            state.base = Some(state.replies.mark());
        }
        loop {
            self.submit(submission.clone());
            self.refuse_if_unready();
            self.turn();
            tokio::runtime::Handle::current().block_on(submission.finished());
            let mut state = submission.lock();
            let commands = &state.commands;
            let is_over = |c: &QueuedCommand| c.outcome != Outcome::Pending;
            if !commands.iter().any(|c| c.outcome == Outcome::Done) || commands.iter().all(is_over)
            {
                break;
            }
            // An entry was full before all were evaluated.
            state.base = Some(state.replies.mark());
        }
        let state = submission.lock();
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
    Ok(QueuedCommand {
        db: db as u8,
        // Each its own: a failed one stops no other.
        stream: at as u32,
        tries: IN_PLACE,
        ..QueuedCommand::new(at as u32, spec, handler)
    })
}
