//! What a request is answered, and what is counted of it. An answer gives the
//! request's share of its session's window back.

use std::time::Instant;

use cairn_protocol::link::{Moved, NO_GROUP, Reason, ReplyClass, RequestFlags, reply_header};
use cairn_protocol::resp::{Mark, ReplyWriter, Requests};

use super::Engine;
use crate::dispatch::Dispatched;
use crate::group::submission::{Outcome, QueuedCommand};
use crate::group::{Group, GroupId, SlotVerdict};
use crate::link::place::Hint;
use crate::link::sessions::Asked;
use crate::txn::ErrorCode;

const TERM_LOST: &str = "OVERLOADED the command was not executed; try again";
pub(super) const TOO_LATE: &str = "TRYAGAIN the command could not be begun in time; not executed";

/// A refusal: the command was not executed, and the fence is up.
pub(super) enum Refusal {
    Moved(Reason, Hint),
    NotExecuted(&'static str),
}

impl Engine {
    // Refusals.

    /// Refuses a request unless a fence does.
    pub(super) fn pass_fence(&mut self, asked: &Asked, refusal: Refusal) {
        match self.fence_stops(asked) {
            true => self.answer_fenced(asked),
            false => self.refuse(asked, refusal),
        }
    }

    /// Whether the fence stops this request. RESUME lifts it.
    pub(super) fn fence_stops(&mut self, asked: &Asked) -> bool {
        let session = self.sessions.get(asked.session);
        if asked.head.flags.has(RequestFlags::RESUME) {
            session.lift_fence(asked);
        }
        session.is_fenced(asked)
    }

    pub(super) fn answer_fenced(&mut self, asked: &Asked) {
        self.answer_moved(asked, Reason::Fenced, &Hint::default());
    }

    /// Answers that a request was not executed, and raises the fence.
    pub(super) fn refuse(&mut self, asked: &Asked, refusal: Refusal) {
        self.sessions.get(asked.session).fence(asked);
        match refusal {
            Refusal::Moved(reason, hint) => self.answer_moved(asked, reason, &hint),
            Refusal::NotExecuted(line) => self.answer_line(asked, ReplyClass::NotExecuted, line),
        }
    }

    /// Of a request for a group that is not on this node.
    pub(super) fn not_here(&self, asked: &Asked) -> Refusal {
        let group = asked.head.group;
        if let Some(slot) = asked.slot() {
            let hint = self.place.owner(slot, group);
            if hint.group != 0 && hint.group != group {
                return Refusal::Moved(Reason::Moved, hint);
            }
        }
        Refusal::Moved(Reason::NotLeader, self.place.leader(group))
    }

    /// Why a request is not served now, if so. The lane is in order here: a
    /// refusal raises the fence before anything behind it is looked at, so
    /// that what the writer decides later cannot contradict it.
    pub(super) fn refusal(&self, asked: &Asked, group: &Group, now: Instant) -> Option<Refusal> {
        if asked.begin_by.is_some_and(|at| at <= now) {
            return Some(Refusal::NotExecuted(TOO_LATE));
        }
        if !group.is_ready() {
            return Some(Refusal::Moved(
                Reason::NotLeader,
                self.place.leader(group.id),
            ));
        }
        let (slot, gate) = (asked.slot()?, group.ownership.as_ref()?);
        match gate.verdict(slot) {
            SlotVerdict::Serve if asked.head.epoch <= gate.epoch(slot) => None,
            // This node is the one that is behind.
            SlotVerdict::Serve => Some(Refusal::Moved(Reason::Moved, Hint::default())),
            verdict => Some(self.slot_refusal(asked, group.id, verdict)),
        }
    }

    pub(super) fn slot_refusal(
        &self,
        asked: &Asked,
        group: GroupId,
        verdict: SlotVerdict,
    ) -> Refusal {
        match (verdict, asked.slot()) {
            (SlotVerdict::Moved, Some(slot)) => {
                Refusal::Moved(Reason::Moved, self.place.owner(slot, group))
            }
            _ => Refusal::Moved(Reason::Frozen, Hint::default()),
        }
    }

    // Answers. Each gives the request's share of the window back.

    pub(super) fn answer_moved(&mut self, asked: &Asked, reason: Reason, hint: &Hint) {
        let moved = Moved {
            slot: asked.head.slot,
            reason,
            group: hint.group,
            epoch: hint.epoch,
            address: &hint.address,
        };
        let request = asked.head.request;
        self.send(|out| moved.put_reply(out, request));
        self.sessions.release(asked);
    }

    pub(super) fn answer_line(&mut self, asked: &Asked, class: ReplyClass, line: impl AsRef<[u8]>) {
        self.reply.clear();
        self.reply.error(line);
        self.answer(asked, class);
    }

    /// Answers with what is in `reply`.
    pub(in crate::link) fn answer(&mut self, asked: &Asked, class: ReplyClass) {
        self.out
            .raw(&reply_header(asked.head.request, class, self.reply.len()));
        self.out.append(&mut self.reply);
        self.sessions.release(asked);
    }

    /// Answers an executed command with an error of its own.
    pub(in crate::link) fn answer_error(&mut self, asked: &Asked, line: &[u8]) {
        self.server
            .stats
            .error_reply(&String::from_utf8_lossy(line));
        self.answer_line(asked, ReplyClass::Ok, line);
    }

    pub(in crate::link) fn fail_read(&mut self, line: &str) {
        self.server.stats.error_reply(line);
        self.reply.clear();
        self.reply.error(line);
    }

    pub(super) fn answer_done(
        &mut self,
        command: &QueuedCommand,
        asked: &Asked,
        replies: &ReplyWriter,
        (from, to): (Mark, Mark),
    ) {
        let len = to.bytes_since(from);
        self.out
            .raw(&reply_header(asked.head.request, ReplyClass::Ok, len));
        self.out.append_range(replies, from, to);
        self.sessions.release(asked);
        let nanos = u64::from(command.nanos);
        self.server
            .stats
            .ran(command.spec.id.index(), nanos, command.failed);
    }

    /// Counts a reply that came some other way than through a round.
    pub(super) fn count_error(&self, failed: bool, reply: &ReplyWriter) {
        if failed {
            let code = ErrorCode::of(&reply.to_vec());
            self.server.stats.error_reply(code.as_str());
        }
    }

    pub(in crate::link) fn account(
        &mut self,
        asked: &Asked,
        d: Dispatched,
        nanos: u64,
        failed: bool,
    ) {
        self.server.stats.ran(d.spec.id.index(), nanos, failed);
        // A part of what all nodes were asked is logged by one of them.
        let repeated = asked.head.group == NO_GROUP && asked.head.flags.has(RequestFlags::PART);
        if !repeated {
            self.server.note_spike(d.spec, nanos);
        }
        if !repeated && self.server.is_slow(nanos) {
            let client = self.own(asked.session).session.client.clone();
            let args = self.request.get(0);
            self.server.note_slow(&client, d.spec, &args, nanos);
        }
    }

    pub(super) fn note_slow(
        &mut self,
        command: &QueuedCommand,
        asked: &Asked,
        requests: &Requests,
    ) {
        let nanos = u64::from(command.nanos);
        if command.outcome != Outcome::Done {
            return;
        }
        self.server.note_spike(command.spec, nanos);
        if self.server.is_slow(nanos) {
            let client = self.own(asked.session).session.client.clone();
            let args = requests.get(command.request as usize);
            self.server.note_slow(&client, command.spec, &args, nanos);
        }
    }
}

pub(super) fn not_executed(asked: &Asked) -> Refusal {
    let late = asked.begin_by.is_some_and(|at| at <= Instant::now());
    Refusal::NotExecuted(if late { TOO_LATE } else { TERM_LOST })
}
