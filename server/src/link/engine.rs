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
use cairn_protocol::link::{
    Batch, Close, Credit, Frame, GoAway, LinkError, NO_GROUP, Payload, Ping, Request, RequestFlags,
    Welcome,
};
use cairn_protocol::resp::{Limits, ReplyWriter, Requests, Version};
use tokio::sync::mpsc;

use self::answers::{Refusal, TOO_LATE};
use self::pieces::InPieces;
use self::pool::Pool;
pub(super) use self::pool::{Reporter, Work};
use super::place::Place;
use super::round::{Round, Rounds};
use super::sessions::{Asked, Busy, Held, SessionKey, Sessions};
use super::waiting::Waiting;
use crate::group::{Group, GroupId};
use crate::net::Turns;
use crate::net::session::Client;
use crate::server::Server;

mod answers;
mod begin;
mod pieces;
mod pool;
mod settle;

/// Bytes of unanswered requests of one link; beyond, they are not executed.
const MAX_OUTSTANDING: u64 = 512 << 20;
/// A waiting command up to this size is copied, so that it does not keep its
/// whole read buffer alive.
const COPY_UP_TO: usize = 16 << 10;

const OVERLOADED: &str = "OVERLOADED too much of this link is unanswered; not executed";

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
    replies: InPieces,
    /// Sessions whose clients have messages; one entry for each at most.
    pub(super) relay: (
        mpsc::UnboundedSender<SessionKey>,
        mpsc::UnboundedReceiver<SessionKey>,
    ),
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

impl Engine {
    pub fn new(
        server: Arc<Server>,
        place: Arc<dyn Place>,
        client: Arc<Client>,
        turns: Turns,
        window: Welcome,
    ) -> Engine {
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
            pool: Pool::default(),
            waiting: Waiting::default(),
            replies: InPieces::default(),
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
                Frame::Grant(grant) => self.replies.grant(grant),
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
        self.replies.give_up(key);
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
            pieces: request.flags.has(RequestFlags::PIECES)
                && !request.flags.has(RequestFlags::TRANSACTION),
            begins_entry: false,
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

    fn lane_busy(&mut self, asked: &Asked) -> Busy {
        self.sessions.get(asked.session).lanes[asked.lane as usize].busy
    }

    pub(super) fn set_busy(&mut self, asked: &Asked, busy: Busy) {
        self.sessions.get(asked.session).lanes[asked.lane as usize].busy = busy;
    }

    // What comes back.

    /// Answers what has finished since the last time and lets its lanes go on.
    pub fn poll_finished(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(id) = self.rounds.poll_finished(cx) {
            self.settle(id);
        }
        while let Poll::Ready(Some(report)) = self.pool.poll_report(cx) {
            self.on_report(report);
        }
        while let Poll::Ready(Some(session)) = self.relay.1.poll_recv(cx) {
            self.deliver_between(session);
        }
        self.drain_lanes();
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
