//! What comes back: rounds that a writer has done, and reports of the pool.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cairn_protocol::command::id;
use cairn_protocol::link::ReplyClass;
use cairn_protocol::resp::{ReplyWriter, Requests};

use super::answers::not_executed;
use super::pool::{Report, Reporter, Work};
use super::{Engine, version_of, wire_in};
use crate::group::blocked::Waiter;
use crate::group::submission::{Outcome, QueuedCommand};
use crate::group::{Group, SlotVerdict};
use crate::link::sessions::{Asked, Busy, Held};
use crate::link::waiting::{Woken, wait};
use crate::net::dispatched;
use crate::net::session::{UNBLOCKED, Unblock};

const UNKNOWN: &str = "UNKNOWN the outcome of the command is not known; it may have been executed";

impl Engine {
    pub(super) fn settle(&mut self, id: usize) {
        let round = std::mem::take(self.rounds.get(id));
        let group = round
            .group
            .clone()
            .expect("a round in flight has its group");
        let mut from = ReplyWriter::default().mark();
        for (command, asked) in round.commands.iter().zip(&round.asked) {
            self.set_busy(asked, Busy::Idle);
            let reply = (from, command.reply_end.unwrap_or(from));
            from = reply.1;
            if command.watcher != 0 {
                self.settle_watch(command, asked);
            }
            self.note_slow(command, asked, &round.requests);
            match command.outcome {
                Outcome::Done => self.answer_done(command, asked, &round.replies, reply),
                Outcome::NotExecuted => self.refuse(asked, not_executed(asked)),
                Outcome::Unknown => self.answer_line(asked, ReplyClass::Unknown, UNKNOWN),
                Outcome::Frozen => {
                    let refusal = self.slot_refusal(asked, group.id, SlotVerdict::Frozen);
                    self.refuse(asked, refusal);
                }
                Outcome::Moved => {
                    let refusal = self.slot_refusal(asked, group.id, SlotVerdict::Moved);
                    self.refuse(asked, refusal);
                }
                Outcome::Cold | Outcome::Large | Outcome::Pending | Outcome::Blocked => {}
            }
        }
        for (_, run) in &round.inner {
            let (command, nanos) = (run.spec.id.index(), u64::from(run.nanos));
            match run.rejected {
                true => self.server.stats.rejected(command),
                false => self.server.stats.ran(command, nanos, run.failed),
            }
        }
        for line in &round.errors {
            self.server.stats.error_reply(line);
        }
        // From the last to the first, so that lanes keep their order.
        for at in (0..round.commands.len()).rev() {
            let (command, asked) = (&round.commands[at], &round.asked[at]);
            match command.outcome {
                Outcome::Cold => {
                    self.put_back(asked, command.tries, wire_in(&round, at));
                    self.fetch(command, asked, &group, round.requests.share(at));
                }
                Outcome::Large => {
                    let (d, one) = (dispatched(command), round.requests.share(at));
                    self.read_large(*asked, d, command.handler, &group, one);
                }
                Outcome::Pending => {
                    let asked = Asked {
                        begins_entry: command.begins_entry,
                        ..*asked
                    };
                    self.put_back(&asked, command.tries, wire_in(&round, at));
                }
                Outcome::Blocked => {
                    let waiter = round.blocked.iter().find(|(of, _)| *of == at);
                    let (_, waiter) = waiter.expect("a blocked command waits");
                    self.wait_for_keys(asked, waiter, &group, wire_in(&round, at));
                }
                _ => {}
            }
            self.list(asked.session, asked.lane);
        }
        for asked in &round.asked {
            self.deliver_between(asked.session);
        }
        *self.rounds.get(id) = round;
        self.rounds.recycle(id);
        self.listed.append(&mut self.starved);
    }

    /// A WATCH that was not executed counts for nothing, and an EXEC that was
    /// not has ended none.
    fn settle_watch(&mut self, command: &QueuedCommand, asked: &Asked) {
        let own = &mut self.sessions.get(asked.session).own;
        let Some(own) = own.as_mut().filter(|_| command.outcome != Outcome::Done) else {
            return;
        };
        match command.spec.id {
            id::EXEC => own.take_back_exec(asked.watch_count),
            _ => own.take_back_watch(),
        }
    }

    /// Back to the front of its lane.
    fn put_back(&mut self, asked: &Asked, tries: u8, wire: Bytes) {
        let asked = Asked {
            tries,
            by_writer: asked.by_writer || tries > 0,
            ..*asked
        };
        let lane = &mut self.sessions.get(asked.session).lanes[asked.lane as usize];
        lane.waiting.push_front(Held { asked, wire });
    }

    /// Brings into memory what a command of the writer will ask for.
    fn fetch(&mut self, command: &QueuedCommand, asked: &Asked, group: &Arc<Group>, one: Requests) {
        self.set_busy(asked, Busy::Blocking);
        let (group, handler) = (group.clone(), command.handler);
        let context = group.context(command.db as usize, command.slot, group.now(), true);
        let subject = self.subject(asked, command.spec);
        let mut report = Reporter::new(&self.pool, *asked);
        report.work = Some(Work::Fetched);
        tokio::task::spawn_blocking(move || {
            crate::net::warm(&group, context, handler, &one.get(0), subject.as_deref());
            report.send(Work::Fetched);
        });
    }

    /// Its command waits for its keys, and its lane with it.
    fn wait_for_keys(
        &mut self,
        asked: &Asked,
        waiter: &Arc<Waiter>,
        group: &Arc<Group>,
        wire: Bytes,
    ) {
        self.set_busy(asked, Busy::Blocking);
        self.waiting
            .insert(asked.session, asked.head.request, group, waiter);
        self.server.blocked.fetch_add(1, Ordering::Relaxed);
        self.say_that_it_waits(asked);
        let mut report = Reporter::new(&self.pool, *asked);
        let (group, waiter, server) = (group.clone(), waiter.clone(), self.server.clone());
        tokio::spawn(async move {
            let woken = wait(&group, &waiter).await;
            server.blocked.fetch_sub(1, Ordering::Relaxed);
            report.send(Work::Woken {
                woken,
                waiter,
                wire,
            });
        });
    }

    fn on_woken(&mut self, asked: Asked, woken: Woken, waiter: &Waiter, wire: Bytes) {
        let unblocked = self.waiting.remove(asked.session, asked.head.request);
        match woken {
            Woken::TimedOut if unblocked == Some(Unblock::Error) => {
                self.server.stats.ran(waiter.spec.id.index(), 0, true);
                self.answer_error(&asked, UNBLOCKED.as_bytes());
            }
            Woken::Served => {
                let (mut reply, nanos, failed) = waiter.take_reply();
                let command = waiter.spec.id.index();
                self.count_error(failed, &reply);
                self.server.stats.ran(command, u64::from(nanos), failed);
                std::mem::swap(&mut self.reply, &mut reply);
                self.answer(&asked, ReplyClass::Ok);
            }
            Woken::TimedOut => {
                self.server.stats.ran(waiter.spec.id.index(), 0, false);
                self.reply.clear();
                self.reply.set_version(version_of(&asked));
                self.reply.null_array();
                self.answer(&asked, ReplyClass::Ok);
            }
            Woken::Again => {
                // It was begun in time once.
                let asked = Asked {
                    begin_by: None,
                    ..asked
                };
                self.put_back(&asked, asked.tries, wire);
            }
            Woken::Unknown => self.answer_line(&asked, ReplyClass::Unknown, UNKNOWN),
        }
        self.deliver_between(asked.session);
    }

    pub(super) fn on_report(&mut self, Report { asked, work }: Report) {
        let work = match work {
            Work::Part(reply) => return self.send_part(&asked, reply),
            Work::Waited {
                command,
                failed,
                reply,
            } => return self.on_answered(&asked, (command, 0, failed), reply),
            work => self.end_pieces(&asked, work),
        };
        self.set_busy(&asked, Busy::Idle);
        match work {
            Work::Woken {
                woken,
                waiter,
                wire,
            } => self.on_woken(asked, woken, &waiter, wire),
            Work::Answered {
                command,
                nanos,
                failed,
                reply,
            } => self.on_answered(&asked, (command, nanos, failed), reply),
            Work::ByWriter(wire) => {
                let asked = Asked {
                    by_writer: true,
                    ..asked
                };
                let lane = &mut self.sessions.get(asked.session).lanes[asked.lane as usize];
                lane.waiting.push_front(Held { asked, wire });
            }
            Work::Large {
                d,
                handler,
                group,
                one,
            } => self.read_large(asked, d, handler, &group, one),
            Work::CutShort(line) => self.answer_line(&asked, ReplyClass::Unknown, line),
            Work::Fetched | Work::Part(_) | Work::Waited { .. } => {}
            Work::Broken => self.answer_error(&asked, b"ERR internal error"),
        }
        self.list(asked.session, asked.lane);
    }

    /// A command has its reply; `ran` is what the statistics are told of it.
    fn on_answered(&mut self, asked: &Asked, ran: (usize, u64, bool), mut reply: ReplyWriter) {
        let (command, nanos, failed) = ran;
        self.count_error(failed, &reply);
        self.server.stats.ran(command, nanos, failed);
        std::mem::swap(&mut self.reply, &mut reply);
        self.deliver(asked.session);
        self.answer(asked, ReplyClass::Ok);
    }
}
