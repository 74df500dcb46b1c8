//! A link without its socket: frames in, reply frames out.
//!
//! Every request goes through [`Engine::begin`] when its lane is free: there
//! the fence, the deadline and the slot are judged, reads are answered, and
//! what is for the writer joins a round. What a round could not finish goes
//! back to its lane and begins again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use cairn_protocol::command::id;
use cairn_protocol::link::{
    Batch, Close, Credit, Frame, GoAway, LinkError, Moved, NO_GROUP, NO_SLOT, Payload, Ping,
    Reason, ReplyClass, Request, RequestFlags, Welcome, reply_header,
};
use cairn_protocol::resp::{Limits, Mark, ReplyWriter, Requests, Version};
use tokio::sync::mpsc;

use super::own::is_for_nodes;
use super::place::{Hint, Place};
use super::round::{Round, Rounds, Wire};
use super::sessions::{Asked, Busy, Held, SessionKey, Sessions};
use super::transaction;
use super::waiting::{Waiting, Woken, wait};
use crate::commands::{self, DataHandler, Handler, SessionHandler};
use crate::dispatch::{Caller, Dispatched, dispatch, refused_when_full};
use crate::group::blocked::Waiter;
use crate::group::submission::{Outcome, QueuedCommand};
use crate::group::{Group, GroupId, SlotVerdict};
use crate::net::Turns;
use crate::net::read::{ReadJob, ReadOutcome};
use crate::net::session::{Client, Unblock};
use crate::server::Server;
use crate::storage::generations::DATABASES;
use crate::txn::ErrorCode;

/// Bytes of unanswered requests of one link; beyond, they are not executed.
const MAX_OUTSTANDING: u64 = 512 << 20;
/// A waiting command up to this size is copied, so that it does not keep its
/// whole read buffer alive.
const COPY_UP_TO: usize = 16 << 10;

const OVERLOADED: &str = "OVERLOADED too much of this link is unanswered; not executed";
const TERM_LOST: &str = "OVERLOADED the command was not executed; try again";
const TOO_LATE: &str = "TRYAGAIN the command could not be begun in time; not executed";
const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
const UNKNOWN: &str = "UNKNOWN the outcome of the command is not known; it may have been executed";

/// See the module's documentation.
pub(super) struct Engine {
    pub(super) server: Arc<Server>,
    place: Arc<dyn Place>,
    /// The proxy.
    pub(super) client: Arc<Client>,
    turns: Turns,
    window: Welcome,
    limits: Limits,
    pub(super) sessions: Sessions,
    rounds: Rounds,
    /// Groups that this round of the link has asked for.
    groups: Vec<Arc<Group>>,
    /// Lanes that may go on.
    listed: Vec<(SessionKey, u32)>,
    /// Lanes that wait for a round to be free.
    starved: Vec<(SessionKey, u32)>,
    /// Frames to send.
    pub out: ReplyWriter,
    /// The request that is begun now, and nothing else.
    pub(super) request: Requests,
    pub(super) reply: ReplyWriter,
    frame: BytesMut,
    pub(super) pool: Pool,
    pub(super) waiting: Waiting,
    /// Sessions whose clients have messages; one entry for each at most.
    pub(super) relay: (
        mpsc::UnboundedSender<SessionKey>,
        mpsc::UnboundedReceiver<SessionKey>,
    ),
}

/// Work on the blocking pool, and where it reports.
pub(super) struct Pool {
    report: mpsc::UnboundedSender<Report>,
    /// Bounded by what the lanes have outstanding: one each.
    reports: mpsc::UnboundedReceiver<Report>,
}

/// What became of work on the blocking pool.
pub(super) struct Report {
    asked: Asked,
    work: Work,
}

pub(super) enum Work {
    /// A read: the command's index in the statistics, its cost in nanoseconds,
    /// whether it failed, and its reply.
    Answered {
        command: usize,
        nanos: u64,
        failed: bool,
        reply: ReplyWriter,
    },
    /// A read that only the writer can answer.
    ByWriter(Bytes),
    /// What a waiting command needs is in memory.
    Fetched,
    /// A command stopped waiting for its keys; its bytes, should it begin again.
    Woken {
        woken: Woken,
        waiter: Arc<Waiter>,
        wire: Bytes,
    },
    /// A read that panicked.
    Broken,
}

/// Where the bytes of a request are.
enum Source<'a> {
    /// In what was just read.
    Read(Payload<'a>),
    /// They waited in a lane.
    Held(Bytes),
}

/// What became of a request that was begun.
enum Begun {
    Answered,
    /// In a round, or on the blocking pool.
    Underway,
    /// Its lane must wait, for a round of its own or for any.
    NotNow(Bytes),
}

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

/// A refusal: the command was not executed, and the fence is up.
enum Refusal {
    Moved(Reason, Hint),
    NotExecuted(&'static str),
}

impl Engine {
    pub fn new(
        server: Arc<Server>,
        place: Arc<dyn Place>,
        client: Arc<Client>,
        turns: Turns,
        window: Welcome,
    ) -> Engine {
        let (report, reports) = mpsc::unbounded_channel();
        let max_bulk = server.live.proto_max_bulk_len.load(Ordering::Relaxed);
        Engine {
            server,
            place,
            client,
            turns,
            window,
            limits: Limits {
                max_bulk,
                ..Limits::default()
            },
            sessions: Sessions::default(),
            rounds: Rounds::default(),
            groups: Vec::new(),
            listed: Vec::new(),
            starved: Vec::new(),
            out: ReplyWriter::default(),
            request: Requests::default(),
            reply: ReplyWriter::default(),
            frame: BytesMut::new(),
            pool: Pool { report, reports },
            waiting: Waiting::default(),
            relay: mpsc::unbounded_channel(),
        }
    }

    // Frames.

    /// Takes whole frames.
    ///
    /// # Errors
    /// Whatever ends the link.
    pub fn on_batch(&mut self, batch: &Batch) -> Result<(), LinkError> {
        let now = Instant::now();
        for frame in batch.frames() {
            match frame? {
                Frame::Request(request) => self.on_request(request, now)?,
                Frame::Open(open) => self.sessions.open(&open)?,
                Frame::Close(Close { logical }) => self.close(logical)?,
                Frame::Ping(ping) => self.send(|out| ping.put_pong(out)),
                Frame::Credit(Credit { logical, bytes, .. }) => {
                    let key = self.sessions.find(logical)?;
                    if let Some(own) = &mut self.sessions.get(key).own {
                        own.grant(bytes);
                        self.deliver(key);
                    }
                }
                // GOAWAY: the peer closes when it has its answers.
                Frame::Pong(_) | Frame::GoAway(_) => {}
                Frame::Reply(_) | Frame::Push(_) => {
                    return Err(LinkError::Unexpected("a proxy may not answer"));
                }
            }
        }
        // Lets go of the read buffer.
        self.request.clear();
        self.groups.clear();
        Ok(())
    }

    /// CLOSE: nobody takes what the session waits for or listens to.
    fn close(&mut self, logical: u64) -> Result<(), LinkError> {
        let key = self.sessions.find(logical)?;
        self.waiting.give_up(key);
        if let Some(own) = &self.sessions.get(key).own {
            own.session.client.end();
            self.server.forget(&own.session.client);
        }
        self.sessions.close(logical)
    }

    pub(super) fn send(&mut self, put: impl FnOnce(&mut BytesMut)) {
        self.frame.clear();
        put(&mut self.frame);
        self.out.raw(&self.frame);
    }

    pub fn go_away(&mut self, reason: u8, text: &str) {
        self.send(|out| GoAway { reason, text }.put(out));
    }

    pub fn ping(&mut self) {
        self.send(|out| Ping { token: 0 }.put(out));
    }

    fn on_request(&mut self, request: Request<Payload<'_>>, now: Instant) -> Result<(), LinkError> {
        let session = self.sessions.find(request.logical)?;
        let len = request.resp.len();
        let overloaded =
            self.sessions.bytes > 0 && self.sessions.bytes + len as u64 > MAX_OUTSTANDING;
        self.sessions.admit(session, len, &self.window)?;
        let patience = Duration::from_millis(u64::from(request.deadline_ms));
        let mut asked = Asked {
            head: head_of(&request),
            session,
            lane: 0,
            begin_by: (request.deadline_ms > 0).then(|| now + patience),
            len,
            tries: 0,
            by_writer: false,
            watch_count: 0,
        };
        let group = self.group(request.group);
        if group.is_none() && request.group != NO_GROUP {
            let refusal = self.not_here(&asked);
            self.pass_fence(&asked, refusal);
            return Ok(());
        }
        asked.lane = self.sessions.get(session).lane_to(request.group);
        if overloaded {
            self.pass_fence(&asked, Refusal::NotExecuted(OVERLOADED));
            return Ok(());
        }
        let lane = &self.sessions.get(session).lanes[asked.lane as usize];
        if !lane.waiting.is_empty() || lane.busy == Busy::Blocking {
            self.hold(asked, keep(request.resp));
            return Ok(());
        }
        let from = Source::Read(request.resp);
        let begun = match &group {
            Some(group) => self.begin(asked, from, group, now),
            None => self.begin_at_node(asked, from),
        };
        if let Begun::NotNow(wire) = begun {
            self.hold(asked, wire);
        }
        Ok(())
    }

    /// A group that lives here.
    fn group(&mut self, id: GroupId) -> Option<Arc<Group>> {
        if let Some(known) = self.groups.iter().find(|group| group.id == id) {
            return Some(known.clone());
        }
        let group = self.place.find(id)?;
        self.groups.push(group.clone());
        Some(group)
    }

    fn hold(&mut self, asked: Asked, wire: Bytes) {
        let lane = &mut self.sessions.get(asked.session).lanes[asked.lane as usize];
        lane.waiting.push_back(Held { asked, wire });
        if lane.busy == Busy::Idle && !lane.listed {
            lane.listed = true;
            self.starved.push((asked.session, asked.lane));
        }
    }

    // Refusals.

    /// Refuses a request unless a fence does.
    fn pass_fence(&mut self, asked: &Asked, refusal: Refusal) {
        match self.fence_stops(asked) {
            true => self.answer_fenced(asked),
            false => self.refuse(asked, refusal),
        }
    }

    /// Whether the fence stops this request. RESUME lifts it.
    fn fence_stops(&mut self, asked: &Asked) -> bool {
        let session = self.sessions.get(asked.session);
        if asked.head.flags.has(RequestFlags::RESUME) {
            session.lift_fence(asked);
        }
        session.is_fenced(asked)
    }

    fn answer_fenced(&mut self, asked: &Asked) {
        self.answer_moved(asked, Reason::Fenced, &Hint::default());
    }

    /// Answers that a request was not executed, and raises the fence.
    fn refuse(&mut self, asked: &Asked, refusal: Refusal) {
        self.sessions.get(asked.session).fence(asked);
        match refusal {
            Refusal::Moved(reason, hint) => self.answer_moved(asked, reason, &hint),
            Refusal::NotExecuted(line) => self.answer_line(asked, ReplyClass::NotExecuted, line),
        }
    }

    /// Of a request for a group that is not on this node.
    fn not_here(&self, asked: &Asked) -> Refusal {
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
    fn refusal(&self, asked: &Asked, group: &Group, now: Instant) -> Option<Refusal> {
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

    fn slot_refusal(&self, asked: &Asked, group: GroupId, verdict: SlotVerdict) -> Refusal {
        match (verdict, asked.slot()) {
            (SlotVerdict::Moved, Some(slot)) => {
                Refusal::Moved(Reason::Moved, self.place.owner(slot, group))
            }
            _ => Refusal::Moved(Reason::Frozen, Hint::default()),
        }
    }

    // Answers. Each gives the request's share of the window back.

    fn answer_moved(&mut self, asked: &Asked, reason: Reason, hint: &Hint) {
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

    fn answer_line(&mut self, asked: &Asked, class: ReplyClass, line: impl AsRef<[u8]>) {
        self.reply.clear();
        self.reply.error(line);
        self.answer(asked, class);
    }

    /// Answers with what is in `reply`.
    pub(super) fn answer(&mut self, asked: &Asked, class: ReplyClass) {
        self.out
            .raw(&reply_header(asked.head.request, class, self.reply.len()));
        self.out.append(&mut self.reply);
        self.sessions.release(asked);
    }

    /// Answers an executed command with an error of its own.
    pub(super) fn answer_error(&mut self, asked: &Asked, line: &[u8]) {
        self.server
            .stats
            .error_reply(&String::from_utf8_lossy(line));
        self.answer_line(asked, ReplyClass::Ok, line);
    }

    // Execution.

    /// Begins a request whose lane is free, or has all that it has under way
    /// in a round that still gathers.
    fn begin(&mut self, asked: Asked, from: Source<'_>, group: &Arc<Group>, now: Instant) -> Begun {
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
    fn begin_at_node(&mut self, asked: Asked, from: Source<'_>) -> Begun {
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

    fn lane_busy(&mut self, asked: &Asked) -> Busy {
        self.sessions.get(asked.session).lanes[asked.lane as usize].busy
    }

    pub(super) fn set_busy(&mut self, asked: &Asked, busy: Busy) {
        self.sessions.get(asked.session).lanes[asked.lane as usize].busy = busy;
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
            pieces: false,
        };
        let outcome = job.run(&self.request.get(0), &mut self.reply);
        let failed = match outcome {
            ReadOutcome::Done => false,
            ReadOutcome::Failed(error) => {
                self.fail_read(&error.to_string());
                true
            }
            ReadOutcome::ByWriter => return self.enqueue(asked, found, group, from),
            ReadOutcome::Cold | ReadOutcome::Large => {
                self.read_cold(asked, d, handler, group);
                return Begun::Underway;
            }
        };
        self.account(&asked, d, started.elapsed().as_nanos() as u64, failed);
        self.answer(&asked, ReplyClass::Ok);
        Begun::Answered
    }

    pub(super) fn fail_read(&mut self, line: &str) {
        self.server.stats.error_reply(line);
        self.reply.clear();
        self.reply.error(line);
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
                pieces: false,
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
                ReadOutcome::ByWriter | ReadOutcome::Cold | ReadOutcome::Large => {
                    return report.send(Work::ByWriter(wire_of(&one, 0)));
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
            watches,
            watch_count,
            ..
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
            Busy::Idle => self.rounds.gather(group, wire),
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
            ..QueuedCommand::new(round.commands.len() as u32, d.spec, handler)
        };
        round.push(command, asked);
        self.set_busy(&asked, Busy::Round(id));
        Begun::Underway
    }

    // What comes back.

    /// Answers what has finished since the last time and lets its lanes go on.
    pub fn poll_finished(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(id) = self.rounds.poll_finished(cx) {
            self.settle(id);
        }
        while let Poll::Ready(Some(report)) = self.pool.reports.poll_recv(cx) {
            self.on_report(report);
        }
        while let Poll::Ready(Some(session)) = self.relay.1.poll_recv(cx) {
            self.deliver_between(session);
        }
        self.drain_lanes();
    }

    fn settle(&mut self, id: usize) {
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
                Outcome::Pending => {
                    self.put_back(asked, command.tries, wire_in(&round, at));
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

    fn answer_done(
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

    /// Notes a lane that may go on.
    fn list(&mut self, session: SessionKey, lane: u32) {
        let Some(place) = self.sessions.get(session).lanes.get_mut(lane as usize) else {
            // Its session was closed and is all answered.
            return;
        };
        if place.busy == Busy::Idle && !place.waiting.is_empty() && !place.listed {
            place.listed = true;
            self.listed.push((session, lane));
        }
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

    /// Counts a reply that came some other way than through a round.
    fn count_error(&self, failed: bool, reply: &ReplyWriter) {
        if failed {
            let code = ErrorCode::of(&reply.to_vec());
            self.server.stats.error_reply(code.as_str());
        }
    }

    fn on_report(&mut self, Report { asked, work }: Report) {
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
                mut reply,
            } => {
                self.count_error(failed, &reply);
                self.server.stats.ran(command, nanos, failed);
                std::mem::swap(&mut self.reply, &mut reply);
                self.deliver(asked.session);
                self.answer(&asked, ReplyClass::Ok);
            }
            Work::ByWriter(wire) => {
                let asked = Asked {
                    by_writer: true,
                    ..asked
                };
                let lane = &mut self.sessions.get(asked.session).lanes[asked.lane as usize];
                lane.waiting.push_front(Held { asked, wire });
            }
            Work::Fetched => {}
            Work::Broken => self.answer_error(&asked, b"ERR internal error"),
        }
        self.list(asked.session, asked.lane);
    }

    /// Begins what waits in lanes that may go on.
    fn drain_lanes(&mut self) {
        let now = Instant::now();
        let mut lanes = std::mem::take(&mut self.listed);
        for (session, lane) in lanes.drain(..) {
            self.drain_lane(session, lane, now);
        }
        self.listed = lanes;
        self.request.clear();
        self.groups.clear();
    }

    fn drain_lane(&mut self, session: SessionKey, at: u32, now: Instant) {
        match self.sessions.get(session).lanes.get_mut(at as usize) {
            Some(lane) => lane.listed = false,
            None => return,
        }
        loop {
            let Some(lane) = self.sessions.get(session).lanes.get_mut(at as usize) else {
                return;
            };
            if lane.busy == Busy::Blocking {
                return;
            }
            let Some(Held { asked, wire }) = lane.waiting.pop_front() else {
                return;
            };
            let id = lane.group;
            let begun = match self.group(id) {
                Some(group) => self.begin(asked, Source::Held(wire), &group, now),
                None if id == NO_GROUP => self.begin_at_node(asked, Source::Held(wire)),
                None => {
                    let refusal = self.not_here(&asked);
                    self.pass_fence(&asked, refusal);
                    continue;
                }
            };
            if let Begun::NotNow(wire) = begun {
                let lane = &mut self.sessions.get(session).lanes[at as usize];
                lane.waiting.push_front(Held { asked, wire });
                if lane.busy == Busy::Idle {
                    lane.listed = true;
                    self.starved.push((session, at));
                }
                return;
            }
        }
    }

    /// Hands over what has gathered. True if that was something: call
    /// [`Engine::poll_finished`] then, which may have more gathered.
    pub fn submit(&mut self) -> bool {
        let turns = &self.turns;
        self.rounds.submit_all(|group, submission| {
            group.submit(submission);
            // A leader that fell just now has refused its queue already.
            group.refuse_if_unready();
            turns.request(group);
        })
    }

    /// Answers what could not be begun in time, and looks at settings again.
    pub fn on_tick(&mut self) {
        let now = Instant::now();
        self.limits.max_bulk = self.server.live.proto_max_bulk_len.load(Ordering::Relaxed);
        for asked in self.sessions.overdue(now) {
            self.pass_fence(&asked, Refusal::NotExecuted(TOO_LATE));
        }
        self.rounds
            .withdraw(|asked| asked.begin_by.is_some_and(|at| at <= now));
    }

    pub(super) fn account(&mut self, asked: &Asked, d: Dispatched, nanos: u64, failed: bool) {
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

    fn note_slow(&mut self, command: &QueuedCommand, asked: &Asked, requests: &Requests) {
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

/// Reports on work in the pool, also when it panics.
pub(super) struct Reporter {
    to: mpsc::UnboundedSender<Report>,
    asked: Asked,
    /// What is said if nothing else was.
    work: Option<Work>,
}

impl Reporter {
    pub(super) fn new(pool: &Pool, asked: Asked) -> Reporter {
        Reporter {
            to: pool.report.clone(),
            asked,
            work: Some(Work::Broken),
        }
    }

    pub(super) fn send(&mut self, work: Work) {
        self.work = Some(work);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            // The link may be gone.
            let _ = self.to.send(Report {
                asked: self.asked,
                work,
            });
        }
    }
}

fn head_of(request: &Request<Payload<'_>>) -> Request<()> {
    Request {
        request: request.request,
        logical: request.logical,
        database: request.database,
        flags: request.flags,
        group: request.group,
        slot: request.slot,
        epoch: request.epoch,
        deadline_ms: request.deadline_ms,
        resp: (),
    }
}

pub(super) fn version_of(asked: &Asked) -> Version {
    match asked.head.flags.has(RequestFlags::RESP3) {
        true => Version::V3,
        false => Version::V2,
    }
}

fn not_executed(asked: &Asked) -> Refusal {
    let late = asked.begin_by.is_some_and(|at| at <= Instant::now());
    Refusal::NotExecuted(if late { TOO_LATE } else { TERM_LOST })
}

/// The bytes of a command that must wait.
fn keep(payload: Payload<'_>) -> Bytes {
    match payload.len() <= COPY_UP_TO {
        true => Bytes::copy_from_slice(&payload),
        false => payload.share(),
    }
}

/// The same for a command of a round, which may be a transaction.
fn wire_in(round: &Round, at: usize) -> Bytes {
    let came = round.transactions.iter().find(|(of, _)| *of == at);
    came.map_or_else(|| wire_of(&round.requests, at), |(_, wire)| wire.clone())
}

/// The same for a command of a batch.
fn wire_of(requests: &Requests, at: usize) -> Bytes {
    let args = requests.get(at);
    let wire = args.wire().expect("it came over the wire");
    let shared = (wire.len() > COPY_UP_TO)
        .then(|| args.wire_bytes())
        .flatten();
    shared.unwrap_or_else(|| Bytes::copy_from_slice(wire))
}
