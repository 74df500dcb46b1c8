//! Data commands on their way through the group's writer and back.

use std::sync::Arc;

use cairn_protocol::acl::Subject;
use cairn_protocol::command::{AclCategories, Flags, id};
use cairn_protocol::resp::{Args, ReplyWriter};
use parking_lot::{Mutex, MutexGuard};

use super::{Connection, End, GroupHandle, Pace, redirection};
use crate::commands::{DataHandler, Handler};
use crate::dispatch::Dispatched;
use crate::group::Group;
use crate::group::submission::{Lent, Outcome, QueuedCommand, Subjects, SubmissionState};
use crate::scripting::running::busy_line;
use crate::server::Route;
use crate::txn::{Nested, Txn, TxnContext};

pub(super) const NOT_EXECUTED: &str = "OVERLOADED the command was not executed; try again";
pub(super) const UNKNOWN: &str =
    "UNKNOWN the outcome of the command is not known; it may have been executed";

const TRY_AGAIN: &str = "TRYAGAIN the slot is being moved; try again";
/// A direct client waits so many times the longest pause of a move.
const FROZEN_PATIENCE: u32 = 10;

impl Connection {
    /// `pieces`: a large reply is not made by the writer.
    pub(super) fn enqueue(
        &mut self,
        request: usize,
        d: Dispatched,
        handler: DataHandler,
        group: GroupHandle,
        pieces: bool,
    ) {
        let monitors = &self.session.server.announcer.monitors;
        if monitors.any() {
            monitors.note_sender(&self.session.client);
            // Before what the script calls; it is not shown when it has run.
            let args = self.requests.get(request);
            let script = d.spec.categories.contains(AclCategories::SCRIPTING);
            if script && d.spec.flags.contains(Flags::SKIP_MONITOR) {
                monitors.show_now(self.sender(), self.session.db, d.spec, &args);
            }
        }
        self.pending_group = Some(group);
        self.pending.push(QueuedCommand {
            db: self.session.db as u8,
            client: self.session.client.id,
            track: self.session.tracks(),
            version: self.session.version,
            slot: d.slot,
            pieces,
            ..QueuedCommand::new(request as u32, d.spec, handler)
        });
    }

    /// Sends the pending commands through the writer and takes their replies.
    pub(super) async fn submit(&mut self) -> Result<(), End> {
        let Some(group) = self.pending_group.take() else {
            return Ok(());
        };
        let delay = group.write_delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        while !self.pending.is_empty() {
            self.lend();
            group.submit(self.submission.clone());
            group.refuse_if_unready();
            self.turns.request(&group);
            self.submission.finished().await;
            self.take_back();
            self.settle(&group).await?;
        }
        self.pace = Pace::default();
        Ok(())
    }

    pub(super) fn lend(&mut self) {
        self.calls.clear();
        let subject = self.session.subject().cloned();
        let nested = self.nested.clone();
        let mut state = self.exchange();
        state.base = Some(state.replies.mark());
        state.subjects = Subjects::All(subject);
        state.nested = nested.map(|nested| nested as Arc<Mutex<dyn Nested>>);
    }

    pub(super) fn take_back(&mut self) {
        let mut state = self.exchange();
        state.nested = None;
        state.debugger = None;
    }

    fn exchange(&mut self) -> MutexGuard<'_, SubmissionState> {
        let mut state = self.submission.lock();
        state.exchange(Lent {
            requests: &mut self.requests,
            commands: &mut self.pending,
            replies: &mut self.out,
            blocked: &mut self.blocked,
            inner: &mut self.inner,
            errors: &mut self.errors,
        });
        std::mem::swap(&mut state.calls, &mut self.calls);
        state
    }

    /// Accounts for what was answered and prepares the rest for another try.
    pub(super) async fn settle(&mut self, group: &Arc<Group>) -> Result<(), End> {
        self.out.set_version(self.session.version);
        if !self.inner.is_empty() {
            self.account_inner();
        }
        for line in self.errors.drain(..) {
            self.session.server.stats.error_reply(&line);
        }
        let mut pending = std::mem::take(&mut self.pending);
        let mut answered = 0;
        for command in &pending {
            match command.outcome {
                Outcome::Done => {
                    let d = dispatched(command);
                    let nanos = u64::from(command.nanos);
                    self.account(command.request as usize, d, nanos, command.failed);
                }
                // What was watched is void: that is what an EXEC says then.
                Outcome::NotExecuted if command.spec.id == id::EXEC && command.watcher != 0 => {
                    self.out.null_array();
                }
                Outcome::NotExecuted => self.out.error(busy_line().unwrap_or(NOT_EXECUTED)),
                Outcome::Unknown => self.out.error(UNKNOWN),
                _ => break,
            }
            self.blocked_until = None;
            answered += 1;
        }
        if let Some(first) = pending.get(answered).copied() {
            match first.outcome {
                Outcome::Cold => self.fetch(&first, group).await?,
                Outcome::Large => {
                    let (request, d) = (first.request as usize, dispatched(&first));
                    let read = self.read_in_pieces(request, d, first.handler, group.clone());
                    match Box::pin(read).await? {
                        true => answered += 1,
                        false => pending[answered].pieces = false,
                    }
                }
                Outcome::Blocked => {
                    let (_, waiter) = self.blocked.pop().expect("a blocked command waits");
                    let answered_it = self.wait_blocked(group, &waiter, &first).await?;
                    answered += usize::from(answered_it);
                    if !answered_it && !self.is_home(&first, group) {
                        self.blocked_until = None;
                        self.answer_moved(&first);
                        answered += 1;
                    }
                }
                Outcome::Frozen if self.wait_thawed(&first, group).await => {}
                Outcome::Frozen => {
                    self.out.error(TRY_AGAIN);
                    answered += 1;
                }
                Outcome::Moved => {
                    self.answer_moved(&first);
                    answered += 1;
                }
                _ => {}
            }
        }
        pending.drain(..answered);
        pending
            .iter_mut()
            .for_each(|command| command.outcome = Outcome::Pending);
        // The emptied list keeps its room.
        self.pending = pending;
        Ok(())
    }

    /// Waits for the end of a switch, up to the bound. True: try again.
    async fn wait_thawed(&mut self, command: &QueuedCommand, group: &Group) -> bool {
        let (Some(gate), Some(slot)) = (&group.ownership, command.slot) else {
            return true;
        };
        let limit = self.session.server.config.max_pause * FROZEN_PATIENCE;
        tokio::time::timeout(limit, gate.thawed(slot)).await.is_ok()
    }

    /// Whether a command is still for this group.
    fn is_home(&self, command: &QueuedCommand, group: &Arc<Group>) -> bool {
        match self.session.server.route(command.slot) {
            Route::Here(here) => Arc::ptr_eq(&here, group),
            _ => false,
        }
    }

    fn answer_moved(&mut self, command: &QueuedCommand) {
        let line = match self.session.server.route(command.slot) {
            // It came back meanwhile; the client asks again.
            Route::Here(_) => TRY_AGAIN.to_owned(),
            elsewhere => redirection(&elsewhere, command.slot),
        };
        self.session.server.stats.error_reply(&line);
        self.out.error(line);
    }

    /// Brings into memory what a command of the writer will ask for.
    async fn fetch(&mut self, command: &QueuedCommand, group: &Arc<Group>) -> Result<(), End> {
        let group = group.clone();
        let context = group.context(command.db as usize, command.slot, group.now(), true);
        let handler = command.handler;
        let one = self.requests.share(command.request as usize);
        let subject = self.session.subject().cloned();
        let job = tokio::task::spawn_blocking(move || {
            warm(&group, context, handler, &one.get(0), subject.as_deref());
        });
        job.await.map_err(|_| End::Closed)
    }
}

pub(crate) fn dispatched(command: &QueuedCommand) -> Dispatched {
    let handler = Handler::Write(command.handler);
    Dispatched {
        spec: command.spec,
        handler,
        slot: command.slot,
    }
}

/// Evaluates on a scratch overlay and throws the effects away: what the
/// command needs is in memory afterwards.
pub(crate) fn warm(
    group: &Group,
    context: TxnContext,
    handler: DataHandler,
    args: &Args<'_>,
    subject: Option<&Subject>,
) {
    let store = &group.store;
    let maps = store.maps();
    let mut overlay = crate::txn::overlay::Overlay::new((*maps).clone(), store.next_version());
    let mut out = ReplyWriter::default();
    let mut txn = Txn::write(store, &maps, &mut overlay, context)
        .on_behalf_of(subject)
        .within(group.served_slots());
    let _ = handler(&mut txn, args, &mut out);
}
