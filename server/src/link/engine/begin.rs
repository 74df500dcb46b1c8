//! How a request begins whose lane is free: it is answered, or put on its way to
//! a writer or to the blocking pool.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use cairn_protocol::command::id;
use cairn_protocol::link::{NO_GROUP, NO_SLOT, ReplyClass, RequestFlags};
use cairn_protocol::resp::ReplyWriter;

use super::pool::{Reporter, Work};
use super::{Begun, COPY_UP_TO, Engine, Source, keep, version_of, wire_of};
use crate::commands::{self, DataHandler, Handler, SessionHandler};
use crate::dispatch::{Caller, Dispatched, dispatch, refused_when_full};
use crate::group::Group;
use crate::group::submission::QueuedCommand;
use crate::link::own::is_for_nodes;
use crate::link::round::Wire;
use crate::link::sessions::{Asked, Busy};
use crate::link::transaction;
use crate::net::read::{ReadJob, ReadOutcome};
use crate::storage::generations::DATABASES;

/// A command on data.
struct OnData {
    d: Dispatched,
    handler: DataHandler,
    is_read: bool,
    /// WATCH, or an EXEC that depends on what is watched.
    watches: bool,
    /// Of an EXEC: how many WATCH requests it depends on.
    watch_count: u32,
}

/// Why a request is no command on data.
enum NoData {
    /// It is answered with this error.
    Line(Vec<u8>),
    /// It is the node's own affair, or the session's.
    OfSession(Dispatched, SessionHandler),
    /// It depends on watches that are gone.
    Nil,
}

impl Engine {
    /// Begins a request whose lane is free, or has all that it has under way
    /// in a round that still gathers.
    pub(super) fn begin(
        &mut self,
        asked: Asked,
        from: Source<'_>,
        group: &Arc<Group>,
        now: Instant,
    ) -> Begun {
        if self.fence_stops(&asked) {
            self.answer_fenced(&asked);
            return Begun::Answered;
        }
        if let Some(refusal) = self.refusal(&asked, group, now) {
            self.refuse(&asked, refusal);
            return Begun::Answered;
        }
        let found = match self.look_up(&asked, &from) {
            Ok(found) => found,
            Err(other) => return self.begin_other(asked, other, from),
        };
        let idle = self.lane_busy(&asked) == Busy::Idle;
        let begun = match found.is_read && !asked.by_writer && idle {
            true => self.read_one(asked, found, group, from),
            false => self.enqueue(asked, found, group, from),
        };
        self.request.pop();
        begun
    }

    /// A request for the node itself.
    pub(super) fn begin_at_node(&mut self, asked: Asked, from: Source<'_>) -> Begun {
        let other = match self.look_up(&asked, &from) {
            Err(other) => other,
            Ok(_) => NoData::Line(b"ERR the command needs a group".to_vec()),
        };
        self.begin_other(asked, other, from)
    }

    /// What is no command on data.
    fn begin_other(&mut self, asked: Asked, other: NoData, from: Source<'_>) -> Begun {
        let begun = match other {
            NoData::Line(line) => {
                self.answer_error(&asked, &line);
                Begun::Answered
            }
            NoData::Nil => {
                self.own(asked.session).unwatch();
                self.reply.clear();
                self.reply.set_version(version_of(&asked));
                self.reply.null_array();
                self.answer(&asked, ReplyClass::Ok);
                Begun::Answered
            }
            // Behind what was asked before it.
            NoData::OfSession(..) if self.lane_busy(&asked) != Busy::Idle => {
                Begun::NotNow(match from {
                    Source::Read(payload) => keep(payload),
                    Source::Held(wire) => wire,
                })
            }
            NoData::OfSession(d, handler) => match self.run_of_session(&asked, d, handler) {
                true => Begun::Answered,
                false => Begun::Underway,
            },
        };
        self.request.pop();
        begun
    }

    /// Parses the request into `self.request` and finds its handler, or the
    /// error that it gets.
    fn look_up(&mut self, asked: &Asked, from: &Source<'_>) -> Result<OnData, NoData> {
        let head = &asked.head;
        let refuse = |line: &str| Err(NoData::Line(line.as_bytes().to_vec()));
        if usize::from(head.database) >= DATABASES {
            return refuse("ERR DB index is out of range");
        }
        let (buffer, range) = match from {
            Source::Read(payload) => payload.place(),
            Source::Held(wire) => (wire, 0..wire.len()),
        };
        if head.flags.has(RequestFlags::TRANSACTION) {
            let (db, slot) = (usize::from(head.database), asked.slot());
            let (wire, vitals) = (&buffer[range], &self.server.vitals);
            let read =
                transaction::read(wire, db, slot, &self.limits, vitals).map_err(NoData::Line)?;
            self.request = read.exec;
            let Handler::Write(handler) = read.d.handler else {
                unreachable!("EXEC runs in the writer");
            };
            if let Some(count) = read.watches {
                let own = &self.sessions.get(asked.session).own;
                let all = own
                    .as_ref()
                    .is_some_and(|own| own.watches(head.group, count));
                if !all {
                    return Err(NoData::Nil);
                }
            }
            return Ok(OnData {
                d: read.d,
                handler,
                is_read: false,
                watches: read.watches.is_some(),
                watch_count: read.watches.unwrap_or(0),
            });
        }
        if !self.request.shares(buffer) {
            self.request.clear();
        }
        let parsed = self.request.push_shared(buffer, range, &self.limits);
        parsed.map_err(|error| NoData::Line(error.line()))?;
        let caller = Caller {
            authenticated: true,
            // The proxy has looked at its client's rights.
            in_multi: false,
            subject: None,
            one_slot: true,
        };
        let caller = Caller {
            // The node's own commands name no keys of one group.
            one_slot: head.group != NO_GROUP,
            ..caller
        };
        let mut d = dispatch(&self.request.get(0), caller).map_err(NoData::Line)?;
        if let Some(line) = refused_when_full(d.spec, &self.server.vitals) {
            return Err(NoData::Line(line.to_vec()));
        }
        if d.slot.is_some_and(|slot| slot != head.slot) {
            return refuse("ERR the request names another slot than its keys are in");
        }
        // SCAN has no keys, but goes by the slot of its cursor.
        d.slot = asked.slot();
        let on_data = |handler, is_read| OnData {
            d,
            handler,
            is_read,
            watches: d.spec.id == id::WATCH,
            watch_count: 0,
        };
        match d.handler {
            // Through a proxy a scan goes on in another group, in slot order.
            Handler::Read(_) if d.spec.id == id::SCAN && d.slot.is_some() => {
                Ok(on_data(commands::scan_until_gap, true))
            }
            Handler::Read(handler) => Ok(on_data(handler, true)),
            Handler::Write(handler) => Ok(on_data(handler, false)),
            Handler::Session(handler) if is_for_nodes(d.spec) => Err(NoData::OfSession(d, handler)),
            Handler::Session(_) => {
                let name = d.spec.name.replace('|', " ");
                refuse(&format!("ERR '{name}' is not served over a link"))
            }
        }
    }

    /// A read with nothing unanswered before it in its lane.
    fn read_one(
        &mut self,
        asked: Asked,
        found: OnData,
        group: &Arc<Group>,
        from: Source<'_>,
    ) -> Begun {
        let OnData { d, handler, .. } = found;
        self.remember(&asked, &d);
        let subject = self.subject(&asked, d.spec);
        let started = Instant::now();
        self.reply.clear();
        self.reply.set_version(version_of(&asked));
        let db = usize::from(asked.head.database);
        let job = ReadJob {
            group,
            db,
            slot: d.slot,
            handler,
            subject: subject.as_deref(),
            now: group.now(),
            disk: false,
            pieces: asked.pieces,
        };
        let outcome = job.run(&self.request.get(0), &mut self.reply);
        let failed = match outcome {
            ReadOutcome::Done => false,
            ReadOutcome::Failed(error) => {
                self.fail_read(&error.to_string());
                true
            }
            ReadOutcome::ByWriter => return self.enqueue(asked, found, group, from),
            ReadOutcome::Cold => {
                self.read_cold(asked, d, handler, group);
                return Begun::Underway;
            }
            ReadOutcome::Large => {
                let one = self.request.share(0);
                self.read_large(asked, d, handler, group, one);
                return Begun::Underway;
            }
        };
        self.account(&asked, d, started.elapsed().as_nanos() as u64, failed);
        self.answer(&asked, ReplyClass::Ok);
        Begun::Answered
    }

    /// The same on the blocking pool; its lane waits.
    fn read_cold(&mut self, asked: Asked, d: Dispatched, handler: DataHandler, group: &Arc<Group>) {
        self.server.stats.cold_reads.fetch_add(1, Ordering::Relaxed);
        self.set_busy(&asked, Busy::Blocking);
        let subject = self.subject(&asked, d.spec);
        let (group, one) = (group.clone(), self.request.share(0));
        let mut report = Reporter::new(&self.pool, asked);
        tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let mut reply = ReplyWriter::new(version_of(&asked));
            let db = usize::from(asked.head.database);
            let job = ReadJob {
                group: &group,
                db,
                slot: d.slot,
                handler,
                subject: subject.as_deref(),
                now: group.now(),
                disk: true,
                pieces: asked.pieces,
            };
            let outcome = job.run(&one.get(0), &mut reply);
            let nanos = started.elapsed().as_nanos() as u64;
            let failed = match outcome {
                ReadOutcome::Done => false,
                ReadOutcome::Failed(error) => {
                    reply.clear();
                    reply.error(error.to_string());
                    true
                }
                ReadOutcome::ByWriter | ReadOutcome::Cold => {
                    return report.send(Work::ByWriter(wire_of(&one, 0)));
                }
                ReadOutcome::Large => {
                    return report.send(Work::Large {
                        d,
                        handler,
                        group,
                        one,
                    });
                }
            };
            let command = d.spec.id.index();
            report.send(Work::Answered {
                command,
                nanos,
                failed,
                reply,
            });
        });
    }

    /// Puts the request in a round of its group.
    fn enqueue(
        &mut self,
        asked: Asked,
        found: OnData,
        group: &Arc<Group>,
        from: Source<'_>,
    ) -> Begun {
        let OnData {
            d,
            handler,
            is_read,
            watches,
            watch_count,
        } = found;
        let asked = Asked {
            watch_count,
            ..asked
        };
        let is_transaction = asked.head.flags.has(RequestFlags::TRANSACTION);
        let wire = match &from {
            // Its request is made of it, and is of no read buffer.
            _ if is_transaction => Wire::Copied,
            Source::Read(payload) => Wire::In(payload.place().0),
            Source::Held(wire) if wire.len() <= COPY_UP_TO => Wire::Copied,
            Source::Held(wire) => Wire::In(wire),
        };
        let round = match self.lane_busy(&asked) {
            Busy::Idle => self.rounds.gather(group, wire, asked.begins_entry),
            Busy::Round(_) if asked.begins_entry => None,
            Busy::Round(id) => self.rounds.get(id).takes(wire).then_some(id),
            Busy::Blocking => None,
        };
        let Some(id) = round else {
            return Begun::NotNow(match from {
                Source::Read(payload) => keep(payload),
                Source::Held(wire) => wire,
            });
        };
        if d.spec.id == id::WATCH {
            self.own(asked.session).begin_watch(group, d.slot);
        } else if watches {
            self.own(asked.session).begin_exec(watch_count);
        }
        let subject = self.subject(&asked, d.spec);
        let own = self.sessions.get(asked.session).own.as_ref();
        let client = own.map_or(0, |own| own.id());
        let round = self.rounds.get(id);
        if let Some(subject) = subject {
            round.subjects.push(round.commands.len(), subject);
        }
        match wire {
            Wire::In(_) => round.requests.push_sharing(&self.request, 0),
            Wire::Copied if is_transaction => {
                round.requests.push_copy(self.request.get(0));
                let came = match &from {
                    Source::Read(payload) => Bytes::copy_from_slice(payload),
                    Source::Held(wire) => wire.clone(),
                };
                round.transactions.push((round.commands.len(), came));
            }
            Wire::Copied => {
                let bytes = self.request.get(0).wire().expect("it came over the wire");
                round
                    .requests
                    .push_wire(bytes, &self.limits)
                    .expect("it was parsed before");
            }
        }
        let command = QueuedCommand {
            db: asked.head.database as u8,
            client,
            track: client != 0 && asked.head.flags.has(RequestFlags::TRACK),
            version: version_of(&asked),
            slot: d.slot,
            stream: asked.session,
            tries: asked.tries,
            watcher: if watches { client } else { 0 },
            begin_by: asked.begin_by,
            roams: asked.head.slot == NO_SLOT && !is_transaction,
            behind_proxy: true,
            pieces: is_read && asked.pieces,
            begins_entry: asked.begins_entry,
            ..QueuedCommand::new(round.commands.len() as u32, d.spec, handler)
        };
        round.push(command, asked);
        self.set_busy(&asked, Busy::Round(id));
        Begun::Underway
    }
}
