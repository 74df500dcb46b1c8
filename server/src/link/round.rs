//! Rounds: submissions of a link, each with the commands of many sessions for
//! one group.
//!
//! A round gathers, is submitted, and is settled; its buffers are used again.
//! A session has commands in one round of a group at most, so that what stops
//! one of its commands stops all that come behind it.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cairn_protocol::resp::{ReplyWriter, Requests};

use super::sessions::Asked;
use crate::group::Group;
use crate::group::blocked::Waiter;
use crate::group::submission::{Lent, QueuedCommand, Subjects, Submission};
use crate::net::ahead::announce_together;
use crate::txn::InnerRun;

/// Submissions of one link that are in flight at most.
const MAX_IN_FLIGHT: usize = 64;
/// Commands and bytes of one round.
const MAX_COMMANDS: usize = 4096;
const MAX_BYTES: usize = 8 << 20;
/// Rounds kept for use again.
const KEPT: usize = 64;

/// How a round holds the bytes of its commands.
#[derive(Clone, Copy)]
pub(super) enum Wire<'a> {
    /// In the buffer that was read, which it then keeps alive.
    In(&'a Bytes),
    /// Copied: they come from many buffers.
    Copied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Free,
    Gathering,
    InFlight,
}

/// One submission and who asked what in it.
pub(super) struct Round {
    pub group: Option<Arc<Group>>,
    pub requests: Requests,
    pub commands: Vec<QueuedCommand>,
    /// One for each command.
    pub asked: Vec<Asked>,
    pub replies: ReplyWriter,
    /// Those that wait, by command.
    pub blocked: Vec<(usize, Arc<Waiter>)>,
    /// What ran within others, by command.
    pub inner: Vec<(usize, InnerRun)>,
    pub errors: Vec<String>,
    pub subjects: Subjects,
    /// Transactions as they came: their requests are made of them.
    pub transactions: Vec<(usize, Bytes)>,
    submission: Arc<Submission>,
    stage: Stage,
    copied: bool,
    /// For one command alone, which is to begin an entry.
    sealed: bool,
    bytes: usize,
}

impl Default for Round {
    fn default() -> Round {
        Round {
            group: None,
            requests: Requests::default(),
            commands: Vec::new(),
            asked: Vec::new(),
            replies: ReplyWriter::default(),
            blocked: Vec::new(),
            inner: Vec::new(),
            errors: Vec::new(),
            subjects: Subjects::default(),
            transactions: Vec::new(),
            submission: Arc::default(),
            stage: Stage::Free,
            copied: false,
            sealed: false,
            bytes: 0,
        }
    }
}

impl Round {
    /// Whether a command whose bytes are held like this may join.
    pub fn takes(&self, wire: Wire<'_>) -> bool {
        self.stage == Stage::Gathering
            && !self.sealed
            && self.commands.len() < MAX_COMMANDS
            && self.bytes < MAX_BYTES
            && match wire {
                Wire::In(buffer) => self.requests.shares(buffer),
                Wire::Copied => self.copied,
            }
    }

    /// Takes a command whose request was pushed just now.
    pub fn push(&mut self, command: QueuedCommand, asked: Asked) {
        self.bytes += asked.len;
        self.commands.push(command);
        self.asked.push(asked);
    }

    /// Tells the record cache what the writer will ask it for. A link has one database.
    fn announce(&self, group: &Group) {
        let commands = self.commands.iter();
        let args = commands.map(|command| self.requests.get(command.request as usize));
        announce_together(&group.store, 0, args);
    }

    /// Lends everything to the submission, or takes it back.
    fn swap(&mut self) {
        let mut state = self.submission.lock();
        state.exchange(Lent {
            requests: &mut self.requests,
            commands: &mut self.commands,
            replies: &mut self.replies,
            blocked: &mut self.blocked,
            inner: &mut self.inner,
            errors: &mut self.errors,
        });
        std::mem::swap(&mut state.subjects, &mut self.subjects);
    }
}

/// All rounds of a link.
#[derive(Default)]
pub(super) struct Rounds {
    places: Vec<Round>,
    free: Vec<usize>,
    gathering: Vec<usize>,
    in_flight: Vec<usize>,
}

impl Rounds {
    pub fn get(&mut self, id: usize) -> &mut Round {
        &mut self.places[id]
    }

    /// A gathering round for `group` that takes such a command, or one for it
    /// `alone`. `None`: too much is in flight already.
    pub fn gather(&mut self, group: &Arc<Group>, wire: Wire<'_>, alone: bool) -> Option<usize> {
        let fits = |id: &&usize| {
            let round = &self.places[**id];
            let is_its = round.group.as_ref().is_some_and(|g| g.id == group.id);
            is_its && !alone && round.takes(wire)
        };
        if let Some(id) = self.gathering.iter().find(fits) {
            return Some(*id);
        }
        if self.in_flight.len() + self.gathering.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.places.push(Round::default());
            self.places.len() - 1
        });
        let round = &mut self.places[id];
        round.group = Some(group.clone());
        round.stage = Stage::Gathering;
        round.copied = matches!(wire, Wire::Copied);
        round.sealed = alone;
        self.gathering.push(id);
        Some(id)
    }

    /// Submits what has gathered; `submit` hands a submission to its group.
    /// False if nothing has.
    pub fn submit_all(&mut self, mut submit: impl FnMut(&Arc<Group>, Arc<Submission>)) -> bool {
        let some = !self.gathering.is_empty();
        for id in std::mem::take(&mut self.gathering) {
            let round = &mut self.places[id];
            let group = round
                .group
                .clone()
                .expect("a gathering round has its group");
            round.announce(&group);
            round.stage = Stage::InFlight;
            round.swap();
            {
                let mut state = round.submission.lock();
                state.base = Some(state.replies.mark());
            }
            submit(&group, round.submission.clone());
            self.in_flight.push(id);
        }
        some
    }

    /// A round that is finished, if any, its parts taken back. Otherwise the
    /// task of `cx` is woken by the next one.
    pub fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        for at in 0..self.in_flight.len() {
            let id = self.in_flight[at];
            if self.places[id].submission.poll_finished(cx).is_ready() {
                self.in_flight.swap_remove(at);
                self.places[id].swap();
                return Poll::Ready(id);
            }
        }
        Poll::Pending
    }

    /// Withdraws what its group has not begun, so that it can be answered.
    pub fn withdraw(&mut self, mut overdue: impl FnMut(&Asked) -> bool) {
        for &id in &self.in_flight {
            let round = &self.places[id];
            if round.asked.iter().any(&mut overdue)
                && let Some(group) = &round.group
            {
                group.withdraw(&round.submission);
            }
        }
    }

    /// Gives a settled round back.
    pub fn recycle(&mut self, id: usize) {
        let round = &mut self.places[id];
        round.group = None;
        round.stage = Stage::Free;
        round.bytes = 0;
        round.requests.clear();
        round.commands.clear();
        round.asked.clear();
        round.replies.clear();
        round.blocked.clear();
        round.inner.clear();
        round.errors.clear();
        round.transactions.clear();
        round.subjects = Subjects::default();
        if self.free.len() >= KEPT {
            *round = Round::default();
        }
        self.free.push(id);
    }
}
