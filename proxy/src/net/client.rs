//! One client's replies, in the order of its requests.
//!
//! Shared, within a network thread, by the client's own task (which reads and
//! routes) and the links (which bring answers). Every request gets a place in
//! `queue`; an answer to the oldest goes straight to the output, any other
//! waits in its place.

use self::pieces::InPieces;
use super::listening::{self, Listening, Reader};
use super::registry::ClientInfo;
use crate::backend::{Call, Link, ParkedLane, Session};
use crate::merge::Merge;
use crate::route::Lane;
use crate::timing::{Finished, Timed};
use crate::tracking::Tracking;
use bytes::Bytes;
use cairn_protocol::acl::{Account, User};
use cairn_protocol::resp::{ReplyWriter, Version};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::net::TcpStream;

mod pieces;

pub(crate) use self::pieces::GivenUp;

/// Replies of at least this many bytes are forwarded without a copy.
const LARGE: usize = 16 * 1024;
/// Pieces of one vectored write.
const MAX_SLICES: usize = 16;

/// A client of this thread.
pub(crate) struct Client {
    /// Unique within the process.
    pub id: u64,
    pub info: Arc<ClientInfo>,
    pub state: RefCell<ClientState>,
    /// Gone once the connection ended, though answers may still come.
    pub stream: RefCell<Option<TcpStream>>,
    /// In the thread's list of clients with something to write.
    pub dirty: Cell<bool>,
    /// In the thread's list of clients with parked lanes.
    pub watched: Cell<bool>,
    /// Its task holds requests that it may not route before more is answered.
    pub stalled: Cell<bool>,
    /// Writing failed.
    pub broken: Cell<bool>,
    logins: Cell<u32>,
    /// The request that waits for its keys, and where.
    waits: RefCell<Option<(Weak<Link>, u64)>>,
}

/// What waits, and what is ready to be written.
pub(crate) struct ClientState {
    /// Number of the request at the front of `queue`.
    base: u64,
    queue: VecDeque<Entry>,
    pub out: ReplyWriter,
    /// Bytes of replies that wait behind an unanswered request.
    held_bytes: usize,
    /// Lanes whose commands cannot be sent now.
    pub lanes: Vec<ParkedLane>,
    /// Calls for which a session's window has no room.
    pub backlog: VecDeque<Call>,
    pub sessions: Vec<Session>,
    pub closed: bool,
    /// How messages are written for it.
    pub version: Version,
    pub listening: Listening,
    pub tracking: Option<Tracking>,
    /// The one request that is unanswered waits for replicas, for as long as it likes.
    waits_for_replicas: bool,
    /// Replies go here instead of to the client: they are parts of one.
    captured: Option<ReplyWriter>,
    in_pieces: Vec<InPieces>,
    /// What came unasked while part of a reply was shown and its rest was not.
    after_reply: ReplyWriter,
    /// When the last reply in pieces had its end, in the thread's ms: what is
    /// behind it in its lane was not begun before.
    pub pieces_over_ms: u64,
}

struct Entry {
    /// CLIENT REPLY OFF or SKIP: the reply is dropped.
    silent: bool,
    kind: Kind,
    /// While it is under way.
    timed: Option<Timed>,
}

enum Kind {
    /// One call is out for it.
    Waiting {
        lane: Lane,
        write: bool,
        /// It may wait at its node for as long as it likes.
        blocking: bool,
    },
    /// Answered, but an older request is not.
    Ready(Bytes),
    /// Several calls are out for it.
    Merge(Box<Merge>),
}

impl Client {
    /// A new client on an accepted connection.
    pub fn new(info: Arc<ClientInfo>, stream: TcpStream) -> Rc<Self> {
        Rc::new(Self {
            id: info.id,
            info,
            state: RefCell::new(ClientState {
                base: 0,
                queue: VecDeque::new(),
                out: ReplyWriter::default(),
                held_bytes: 0,
                lanes: Vec::new(),
                backlog: VecDeque::new(),
                sessions: Vec::new(),
                closed: false,
                version: Version::V2,
                listening: Listening::default(),
                tracking: None,
                waits_for_replicas: false,
                captured: None,
                in_pieces: Vec::new(),
                after_reply: ReplyWriter::default(),
                pieces_over_ms: 0,
            }),
            stream: RefCell::new(Some(stream)),
            dirty: Cell::new(false),
            watched: Cell::new(false),
            stalled: Cell::new(false),
            broken: Cell::new(false),
            logins: Cell::new(0),
            waits: RefCell::new(None),
        })
    }

    /// Takes messages of a node.
    pub fn show(&self, messages: Bytes) {
        let mut state = self.state.borrow_mut();
        if state.closed {
            return;
        }
        if state.captures() {
            return state.listening.hold(messages);
        }
        if let Some(earlier) = self.info.take_mail() {
            state.show_unasked(&earlier);
        }
        state.show_messages(messages);
    }

    /// What others have left for it, unless it is in the middle of a reply.
    pub fn take_mail(&self) {
        let mut state = self.state.borrow_mut();
        if !state.captures()
            && let Some(mail) = self.info.take_mail()
        {
            state.show_unasked(&mail);
        }
    }

    /// Whether a user may listen to all that is subscribed.
    pub fn listens_within(&self, user: &User) -> bool {
        let state = self.state.borrow();
        listening::Kind::ALL.into_iter().all(|kind| {
            let is_pattern = kind == listening::Kind::Pattern;
            let names = state.listening.names(kind);
            names.iter().all(|name| user.may_listen(name, is_pattern))
        })
    }

    /// Has CLIENT LIST show what is subscribed.
    pub fn show_subscriptions(&self) {
        let state = self.state.borrow();
        for kind in listening::Kind::ALL {
            let count = state.listening.count(kind);
            self.info.subscriptions[kind as usize].store(count, Relaxed);
        }
    }

    /// Its request waits for its keys at the node of `link`.
    pub fn begin_waiting(&self, link: &Rc<Link>, request: u64) {
        *self.waits.borrow_mut() = Some((Rc::downgrade(link), request));
        self.info.begin_waiting();
    }

    /// A WAIT was asked last; it may be answered already.
    pub fn begin_waiting_for_replicas(&self) {
        let mut state = self.state.borrow_mut();
        if state.outstanding() > 0 {
            state.waits_for_replicas = true;
            self.info.begin_waiting();
        }
    }

    /// It does not, or not there.
    pub fn end_waiting(&self) {
        if self.waits.borrow_mut().take().is_some() {
            self.info.end_waiting();
        }
    }

    /// The request that waits, and the link to its node.
    pub fn waiting(&self) -> Option<(Rc<Link>, u64)> {
        let waits = self.waits.borrow();
        let (link, request) = waits.as_ref()?;
        Some((link.upgrade()?, *request))
    }

    /// Goes up whenever somebody logs in: nodes are to be told.
    pub fn logins(&self) -> u32 {
        self.logins.get()
    }

    /// Somebody has logged in.
    pub fn enter(&self, account: &Arc<Account>) {
        self.info.enter(account);
        self.logins.set(self.logins.get().wrapping_add(1));
    }

    /// Its address, as `ip:port`.
    pub fn address(&self) -> &str {
        &self.info.address
    }

    /// Has its task run.
    pub fn wake(&self) {
        self.info.waker.wake();
    }

    /// Writes what is ready, as far as the socket takes it.
    ///
    /// # Errors
    /// The socket's, except `WouldBlock`.
    pub fn write_ready(&self) -> io::Result<()> {
        let stream = self.stream.borrow();
        let Some(stream) = stream.as_ref() else {
            return Ok(());
        };
        let mut state = self.state.borrow_mut();
        while !state.out.is_empty() {
            match write_some(stream, &mut state.out) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if !state.in_pieces.is_empty() {
            state.grant();
        }
        Ok(())
    }

    /// After answers came in: writes them, and wakes the task if it has more
    /// to do (the rest of the output, requests that waited, a failure).
    pub fn flush(&self) {
        self.dirty.set(false);
        if self.write_ready().is_err() {
            self.broken.set(true);
        }
        if self.broken.get() || self.stalled.get() || !self.state.borrow().out.is_empty() {
            self.wake();
        }
    }

    /// Ends its sessions and all that they stand for; new ones are opened when
    /// they are needed. Nothing may be under way.
    pub fn forget_sessions(&self) {
        let sessions = {
            let mut state = self.state.borrow_mut();
            state.listening = Listening::default();
            state.tracking = None;
            std::mem::take(&mut state.sessions)
        };
        sessions.into_iter().for_each(Session::close);
    }

    /// The connection is over: drops what waits and ends its sessions.
    pub fn close(&self) {
        self.stream.borrow_mut().take();
        self.end_waiting();
        let (sessions, calls, lanes) = {
            let mut state = self.state.borrow_mut();
            state.closed = true;
            state.queue.clear();
            if state.ends_wait_for_replicas() {
                self.info.end_waiting();
            }
            state.out = ReplyWriter::default();
            state.listening = Listening::default();
            state.tracking = None;
            state.in_pieces.clear();
            state.after_reply = ReplyWriter::default();
            let state = &mut *state;
            (
                std::mem::take(&mut state.sessions),
                std::mem::take(&mut state.backlog),
                std::mem::take(&mut state.lanes),
            )
        };
        sessions.into_iter().for_each(Session::close);
        drop((calls, lanes));
    }
}

fn write_some(stream: &TcpStream, out: &mut ReplyWriter) -> io::Result<()> {
    let mut room = [IoSlice::new(&[]); MAX_SLICES];
    let used = out.io_slices(&mut room);
    let written = match used {
        1 => stream.try_write(&room[0])?,
        _ => stream.try_write_vectored(&room[..used])?,
    };
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    out.advance(written);
    Ok(())
}

impl ClientState {
    /// Unanswered requests.
    pub fn outstanding(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of replies that the client has yet to take.
    pub fn reply_bytes(&self) -> usize {
        self.out.len() + self.after_reply.len() + self.held_bytes + self.listening.held_bytes()
    }

    /// From now on replies are parts of another.
    pub fn capture(&mut self) {
        self.captured = Some(ReplyWriter::default());
    }

    /// Whether they are: an EXEC is executed in steps.
    pub fn captures(&self) -> bool {
        self.captured.is_some()
    }

    /// What was captured since the last time.
    pub fn captured(&mut self) -> Bytes {
        let captured = self.captured.as_mut().map(std::mem::take);
        Bytes::from(captured.unwrap_or_default().to_vec())
    }

    /// Replies are the client's again: the whole, then what came meanwhile.
    pub fn end_capture(&mut self, whole: &mut ReplyWriter, silent: bool) {
        self.captured = None;
        self.answer(whole, silent);
        self.release_messages();
    }

    /// How messages are shown to it.
    fn reader(&self) -> Reader {
        Reader {
            version: self.version,
            tracks: self.tracking.is_some(),
        }
    }

    /// Shows what was kept, unless the client is in the middle of a reply.
    pub fn release_messages(&mut self) {
        if !self.captures() {
            let to = self.reader();
            let out = match self.is_mid_reply() {
                true => &mut self.after_reply,
                false => &mut self.out,
            };
            self.listening.release(to, out);
        }
    }

    /// Where replies go.
    fn replies(&mut self) -> &mut ReplyWriter {
        self.captured.as_mut().unwrap_or(&mut self.out)
    }

    /// Gives a request that one call answers its place.
    pub fn expect(
        &mut self,
        lane: Lane,
        write: bool,
        blocking: bool,
        silent: bool,
        timed: Option<Timed>,
    ) -> u64 {
        let kind = Kind::Waiting {
            lane,
            write,
            blocking,
        };
        self.enqueue(silent, kind, timed)
    }

    /// Whether all that is unanswered is one command that may wait for long.
    pub fn only_waits(&self) -> bool {
        let blocking = |entry: &Entry| match entry.kind {
            Kind::Waiting { blocking, .. } => blocking,
            Kind::Merge(_) => self.waits_for_replicas,
            Kind::Ready(_) => false,
        };
        self.queue.len() == 1 && self.queue.front().is_some_and(blocking)
    }

    /// Whether a WAIT is under way.
    pub fn waits_for_replicas(&self) -> bool {
        self.waits_for_replicas
    }

    /// Whether a WAIT is over; says so once.
    pub fn ends_wait_for_replicas(&mut self) -> bool {
        self.queue.is_empty() && std::mem::take(&mut self.waits_for_replicas)
    }

    /// Gives a request that several calls answer its place.
    pub fn expect_parts(&mut self, merge: Merge, silent: bool, timed: Option<Timed>) -> u64 {
        self.enqueue(silent, Kind::Merge(Box::new(merge)), timed)
    }

    /// A request waits for its keys from now on.
    pub fn waits(&mut self, seq: u64, now_us: u64) {
        if let Some(index) = self.index(seq) {
            let timed = self.queue[index].timed.iter_mut();
            timed.for_each(|timed| timed.waits(now_us));
        }
    }

    /// Puts a reply of the proxy's own in its place.
    pub fn answer(&mut self, reply: &mut ReplyWriter, silent: bool) {
        if silent {
            reply.clear();
        } else if self.queue.is_empty() {
            self.replies().append(reply);
        } else {
            let bytes = Bytes::from(reply.to_vec());
            reply.clear();
            self.held_bytes += bytes.len();
            self.enqueue(false, Kind::Ready(bytes), None);
        }
    }

    fn enqueue(&mut self, silent: bool, kind: Kind, timed: Option<Timed>) -> u64 {
        self.queue.push_back(Entry {
            silent,
            kind,
            timed,
        });
        self.base + self.queue.len() as u64 - 1
    }

    /// The one call of a request goes on in another lane.
    pub fn turn_to(&mut self, seq: u64, to: Lane) {
        if let Some(index) = self.index(seq)
            && let Kind::Waiting { lane, .. } = &mut self.queue[index].kind
        {
            *lane = to;
        }
    }

    /// Takes an answer that is only lent (copied unless it is large). What is
    /// whole by it is returned.
    pub fn complete<'a>(
        &mut self,
        seq: u64,
        part: u32,
        reply: impl Into<Lent<'a>>,
    ) -> Option<Finished> {
        let reply = reply.into();
        if !self.in_pieces.is_empty() && self.is_in_pieces(seq) {
            return self.complete_pieces(seq, &reply);
        }
        let index = self.index(seq)?;
        let entry = &mut self.queue[index];
        if index == 0 && matches!(entry.kind, Kind::Waiting { .. }) {
            if !entry.silent {
                match reply.bytes.len() {
                    LARGE.. => self.replies().raw_bytes(reply.keep()),
                    _ => self.replies().raw(reply.bytes),
                }
            }
            let failed = reply.bytes.first() == Some(&b'-');
            let timed = self.pop().and_then(|entry| entry.timed);
            self.release_ready();
            timed.map(|timed| Finished {
                timed,
                failed,
                wire: None,
            })
        } else {
            self.complete_owned(seq, part, reply.keep())
        }
    }

    /// Takes an answer that may be kept.
    pub fn complete_owned(&mut self, seq: u64, part: u32, reply: Bytes) -> Option<Finished> {
        let index = self.index(seq)?;
        let entry = &mut self.queue[index];
        let (reply, wire) = match &mut entry.kind {
            Kind::Waiting { .. } => (reply, None),
            Kind::Merge(merge) => (merge.part_done(part, reply)?, merge.take_whole()),
            Kind::Ready(_) => return None,
        };
        let failed = reply.first() == Some(&b'-');
        let timed = entry.timed.take();
        self.held_bytes += reply.len();
        entry.kind = Kind::Ready(reply);
        self.release_ready();
        timed.map(|timed| Finished {
            timed,
            failed,
            wire,
        })
    }

    /// Moves what is answered at the front of the queue to the output.
    fn release_ready(&mut self) {
        while let Some(Entry {
            kind: Kind::Ready(_),
            ..
        }) = self.queue.front()
        {
            if let Some(Entry {
                silent,
                kind: Kind::Ready(reply),
                ..
            }) = self.pop()
            {
                self.held_bytes -= reply.len();
                if !silent {
                    self.replies().raw_bytes(reply);
                }
                if self.listening.holding && self.queue.is_empty() {
                    self.release_messages();
                }
            }
        }
        if !self.in_pieces.is_empty() {
            self.begin_front();
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        self.base += 1;
        self.queue.pop_front()
    }

    fn index(&self, seq: u64) -> Option<usize> {
        let index = usize::try_from(seq.checked_sub(self.base)?).ok()?;
        (index < self.queue.len()).then_some(index)
    }

    /// Calls of a lane that are not answered.
    pub fn unanswered(&self, lane: Lane) -> u32 {
        let count = |entry: &Entry| match &entry.kind {
            Kind::Waiting { lane: its, .. } => u32::from(*its == lane),
            Kind::Merge(merge) => merge.unanswered(lane),
            Kind::Ready(_) => 0,
        };
        self.queue.iter().map(count).sum()
    }

    /// Whether a write of this lane that came after `seq` is unanswered.
    pub fn has_later_write(&self, lane: Lane, seq: u64) -> bool {
        let from = self.index(seq).map_or(0, |index| index + 1);
        self.queue.iter().skip(from).any(|entry| match &entry.kind {
            Kind::Waiting {
                lane: its, write, ..
            } => *write && *its == lane,
            Kind::Merge(merge) => merge.is_write() && merge.unanswered(lane) > 0,
            Kind::Ready(_) => false,
        })
    }
}

/// Reply bytes in a link's read buffer, or static ones.
pub(crate) struct Lent<'a> {
    bytes: &'a [u8],
    owner: Option<&'a cairn_protocol::link::Payload<'a>>,
}

impl Lent<'_> {
    pub fn as_slice(&self) -> &[u8] {
        self.bytes
    }

    /// A handle on the bytes; small ones are copied, lest they keep a whole
    /// read buffer alive.
    fn keep(&self) -> Bytes {
        match self.owner {
            Some(payload) if self.bytes.len() >= LARGE => payload.share(),
            _ => Bytes::copy_from_slice(self.bytes),
        }
    }
}

impl<'a> From<&'a cairn_protocol::link::Payload<'a>> for Lent<'a> {
    fn from(payload: &'a cairn_protocol::link::Payload<'a>) -> Self {
        Self {
            bytes: payload.as_slice(),
            owner: Some(payload),
        }
    }
}

impl<'a> From<&'a [u8]> for Lent<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes, owner: None }
    }
}
