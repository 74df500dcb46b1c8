//! One client's connection: bytes in, requests routed, bytes out.
//!
//! A hand-written state machine on one task: what it does depends on the
//! socket *and* on answers that links bring, and one poll serves both. It
//! stops reading (back-pressure) while too much of its client is unanswered or
//! unread.

use super::client::Client;
use super::registry::{ClientInfo, Stats};
use super::thread::Thread;
use crate::config::Settings;
use crate::dispatch::{self, Step};
use crate::route::Lane;
use crate::timing::Timed;
use crate::transaction::{self, Exec, Multi, Watching};
use crate::{nodes, pubsub, replica, scripts};
use bytes::{Bytes, BytesMut};
use cairn_protocol::acl::{self, Account, Subject};
use cairn_protocol::command::{CommandSpec, id};
use cairn_protocol::resp::{Args, Limits, ReplyWriter, RequestParser, Requests, Version};
use cairn_protocol::unread::Share;
use std::cell::OnceCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Room made for one read.
const READ_BYTES: usize = 32 * 1024;
/// Reads in one turn before others get theirs.
const READS_PER_TURN: usize = 4;
/// Requests parsed at once.
const BATCH: usize = 256;
/// Unread reply bytes above which a client is read only while all that is kept for
/// clients beyond it is at most a half of `client-output-limit`.
const OUTPUT_SOFT: usize = 1 << 20;

/// CLIENT REPLY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Silence {
    /// Every command is answered.
    #[default]
    Off,
    /// The next command is not answered (SKIP).
    Next,
    /// No command is answered (OFF).
    On,
}

/// What a connection has set for itself.
pub(crate) struct Session {
    /// It began when the users were known.
    settled: bool,
    pub authenticated: bool,
    /// Who is logged in.
    pub account: Arc<Account>,
    /// The same with rules that must be looked at; made when first asked for.
    subject: OnceCell<Arc<Subject>>,
    pub version: Version,
    pub database: u16,
    pub silence: Silence,
    /// Close after what was asked is answered (QUIT, a killed self).
    pub closing: bool,
    /// What was queued since MULTI.
    pub multi: Option<Box<Multi>>,
    pub watching: Option<Watching>,
    /// An EXEC that is executed in steps.
    pub exec: Option<Box<Exec>>,
    /// What a replica has said about itself.
    pub handshake: replica::Handshake,
    /// SYNC: the connection becomes a replica's.
    pub follow: Option<Box<replica::Follow>>,
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    Closed,
    Killed,
    Output,
    Io(io::Error),
}

/// A client's task.
pub(crate) struct Connection {
    pub thread: Rc<Thread>,
    pub client: Rc<Client>,
    pub session: Session,
    pub settings: Rc<Settings>,
    /// Replies of the proxy's own are written here first.
    pub reply: ReplyWriter,
    /// Nothing is routed until all before is answered: a command to all groups.
    pub barrier: bool,
    /// Thread's time of this turn, in ms and in microseconds.
    pub now_ms: u64,
    pub now_us: u64,
    /// The command that is routed.
    pub timed: Option<Timed>,
    /// Its bytes, if it may be sent as others.
    pub whole: Option<Bytes>,
    parser: RequestParser,
    input: BytesMut,
    batch: Requests,
    /// First request of `batch` that is not routed yet.
    next: usize,
    eof: bool,
    /// What is kept for the client beyond `OUTPUT_SOFT`.
    unread: Share,
    /// It was not read, or its requests were left alone, for what it has yet to take.
    held_up: bool,
    /// CLIENT PAUSE holds its next command: when to look again.
    paused: Option<Pin<Box<Sleep>>>,
}

/// How often a command that CLIENT PAUSE holds is looked at.
const PAUSE_LOOK: Duration = Duration::from_millis(10);

/// Serves a connection to its end.
pub(crate) async fn serve(thread: Rc<Thread>, info: Arc<ClientInfo>, stream: TcpStream) {
    let client = Client::new(info, stream);
    let mut connection = Connection {
        session: Session::new(client.info.account()),
        settings: thread.settings(),
        unread: thread.shared.unread.share(),
        held_up: false,
        thread,
        client: client.clone(),
        reply: ReplyWriter::default(),
        barrier: false,
        now_ms: 0,
        now_us: 0,
        timed: None,
        whole: None,
        parser: RequestParser::new(),
        input: BytesMut::new(),
        batch: Requests::default(),
        next: 0,
        eof: false,
        paused: None,
    };
    if connection.thread.shared.users.known() {
        // Whoever comes while no password is needed stays in.
        let _ = connection.may_begin();
    }
    let end = poll_fn(|cx| connection.poll(cx)).await;
    if let Some(follow) = connection.session.follow.take() {
        connection.become_replica(*follow).await;
    }
    match end {
        End::Closed => tracing::debug!(client = client.id, "client left"),
        End::Killed => tracing::debug!(client = client.id, "client killed"),
        End::Output => {
            tracing::warn!(
                client = client.id,
                "client cut off: it does not read its replies"
            );
        }
        End::Io(error) => tracing::debug!(client = client.id, %error, "connection lost"),
    }
    connection.set_paused(None);
    let thread = connection.thread.clone();
    thread.forget_listener(client.id);
    thread.shared.monitors.remove(&client.info);
    client.close();
}

impl Session {
    fn new(account: Arc<Account>) -> Session {
        Session {
            settled: false,
            authenticated: false,
            account,
            subject: OnceCell::new(),
            version: Version::default(),
            database: 0,
            silence: Silence::default(),
            closing: false,
            multi: None,
            watching: None,
            exec: None,
            handshake: replica::Handshake::default(),
            follow: None,
        }
    }
}

impl Connection {
    /// SYNC was the last command; from here on there are no requests.
    async fn become_replica(&mut self, follow: replica::Follow) {
        let stream = self.client.stream.borrow_mut().take();
        let input = std::mem::take(&mut self.input);
        replica::run(&self.thread, &self.client.info, stream, input, follow).await;
    }

    // Who is logged in.

    /// Whether the connection may begin: the users are known. If not, they are
    /// waited for, up to `max-pause`.
    ///
    /// # Errors
    /// They were waited for in vain.
    pub fn may_begin(&mut self) -> Result<bool, Vec<u8>> {
        if self.session.settled {
            return Ok(true);
        }
        let users = &self.thread.shared.users;
        if users.known() {
            self.session.settled = true;
            self.session.authenticated = users.registry.is_open();
            self.set_paused(None);
            return Ok(true);
        }
        let bound = self.settings.max_pause;
        if self.client.info.since.elapsed() >= bound {
            let bound = bound.as_millis();
            let line = format!(
                "CLUSTERDOWN the users of the cluster are not known: this proxy has not reached \
                 etcd yet; not executed after {bound} ms"
            );
            return Err(line.into_bytes());
        }
        self.set_paused(Some(PAUSE_LOOK));
        Ok(false)
    }

    /// Somebody has logged in.
    pub fn enter(&mut self, account: &Arc<Account>) {
        self.client.enter(account);
        self.session.account = account.clone();
        self.session.subject = OnceCell::new();
    }

    /// Whose rights must be looked at; `None`: everything is allowed.
    pub fn subject(&self) -> Option<&Arc<Subject>> {
        match self.session.account.is_unrestricted() {
            true => None,
            false => Some(self.session.subject.get_or_init(|| {
                let registry = self.thread.shared.users.registry.clone();
                let (account, client) = (self.session.account.clone(), self.client.info.clone());
                Arc::new(Subject::new(account, registry, client))
            })),
        }
    }

    /// Where its commands come from, for ACL LOG.
    pub fn context(&self) -> acl::Context {
        let in_multi = self.session.multi.is_some() || self.session.exec.is_some();
        match in_multi {
            true => acl::Context::Multi,
            false => acl::Context::TopLevel,
        }
    }

    /// Whether a change of users has taken the ground from this connection.
    fn is_dismissed(&self) -> bool {
        let info = &self.client.info;
        info.expelled.load(Relaxed)
            || (info.take_channels_lost() && !self.client.listens_within(&info.account().user()))
    }

    /// Whether CLIENT PAUSE holds this command; it is looked at again then.
    pub fn is_paused(&mut self, spec: &CommandSpec, args: Args<'_>) -> bool {
        let shared = &self.thread.shared;
        if shared.pause.remaining().is_none() {
            if self.paused.is_some() {
                self.set_paused(None);
            }
            return false;
        }
        let writes = match spec.id {
            id::EXEC => self.session.multi.as_ref().is_some_and(|m| m.writes()),
            _ => scripts::may_write(&shared.scripts, spec, args),
        };
        let held = shared.pause.holds(writes);
        self.set_paused(held);
        held.is_some()
    }

    /// A client that is held counts as blocked.
    fn set_paused(&mut self, left: Option<Duration>) {
        let blocked = &self.thread.shared.registry.blocked;
        match (self.paused.is_some(), left.is_some()) {
            (false, true) => drop(blocked.fetch_add(1, Relaxed)),
            (true, false) => drop(blocked.fetch_sub(1, Relaxed)),
            _ => {}
        }
        self.paused = left.map(|left| Box::pin(tokio::time::sleep(left.min(PAUSE_LOOK))));
    }

    /// While a pause holds a request back: has the task woken at the next look. Not at
    /// once when the last one is over: what else holds the request back may take long.
    fn look_again_later(&mut self, cx: &mut Context<'_>) {
        while let Some(paused) = &mut self.paused
            && paused.as_mut().poll(cx).is_ready()
        {
            self.set_paused(Some(PAUSE_LOOK));
        }
    }

    /// CLIENT UNBLOCK: has the nodes end the wait of this client's request.
    fn end_wait(&self, fail: bool) {
        let how: &[u8] = if fail { b"ERROR" } else { b"TIMEOUT" };
        if self.client.state.borrow().waits_for_replicas() {
            let wire = nodes::command(&[b"CLIENT", b"UNBLOCK", b"WAIT", how]);
            let waits = |lane: &Lane| self.client.state.borrow().unanswered(*lane) > 0;
            for lane in self.thread.node_lanes(false).into_iter().filter(waits) {
                pubsub::detached(&self.thread, &self.client, lane, wire.clone());
            }
            return;
        }
        let Some((link, request)) = self.client.waiting() else {
            return;
        };
        let request = request.to_string();
        let wire = nodes::command(&[b"CLIENT", b"UNBLOCK", request.as_bytes(), how]);
        let lane = self.thread.routes.borrow().lane_of_node(link.address());
        if let Some(lane) = lane {
            pubsub::detached(&self.thread, &self.client, lane, wire);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.client.info.waker.register(cx.waker());
        self.client.stalled.set(false);
        if self.client.info.killed.load(Relaxed) {
            return Poll::Ready(End::Killed);
        }
        if self.is_dismissed() {
            // What it has asked is still answered, unless that may take for ever.
            if self.client.state.borrow().only_waits() {
                return Poll::Ready(End::Killed);
            }
            self.session.closing = true;
        }
        if self.thread.shared.draining.load(Relaxed) {
            self.session.closing = true;
        }
        if let Some(fail) = self.client.info.take_unblock() {
            self.end_wait(fail);
        }
        if let Some(paused) = &mut self.paused {
            // Its waker is set; `is_paused` looks at the clock.
            let _ = paused.as_mut().poll(cx);
        }
        self.client.take_mail();
        if self.client.broken.get() {
            return Poll::Ready(End::Io(io::ErrorKind::BrokenPipe.into()));
        }
        if let Err(error) = self.serve_requests(cx) {
            return Poll::Ready(End::Io(error));
        }
        // Whoever has a reply finds it counted.
        self.thread.settle_tally();
        self.write(cx)
    }

    /// Routes what was parsed, parses what was read, reads what has come.
    fn serve_requests(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.now_us = self.thread.now_us();
        self.now_ms = self.now_us / 1000;
        self.settings = self.thread.settings();
        let mut reads = 0;
        loop {
            if self.session.closing && self.session.exec.is_none() {
                return Ok(());
            }
            if !self.run_batch() {
                self.client.stalled.set(true);
                self.look_again_later(cx);
                return Ok(());
            }
            if self.session.closing || self.parse() {
                continue;
            }
            if self.eof {
                return Ok(());
            }
            match self.read(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(read) => self.eof = read? == 0,
            }
            reads += 1;
            if reads == READS_PER_TURN {
                cx.waker().wake_by_ref();
                return Ok(());
            }
        }
    }

    /// Routes parsed requests; false if one must wait.
    fn run_batch(&mut self) -> bool {
        if !transaction::go_on(self) {
            return false;
        }
        if self.next >= self.batch.len() {
            return true;
        }
        // Taken out for the time of the loop, so that a request may be looked
        // at while the connection changes.
        let batch = std::mem::take(&mut self.batch);
        let first = self.next;
        while self.next < batch.len() && !self.session.closing && self.may_route() {
            match dispatch::dispatch(self, batch.get(self.next)) {
                Step::Routed => self.next += 1,
                Step::Wait => break,
            }
            if !transaction::go_on(self) {
                break;
            }
        }
        Stats::add(&self.thread.stats().commands, (self.next - first) as u64);
        let done = self.next >= batch.len();
        self.batch = batch;
        if done {
            // Lets go of the read buffer.
            self.batch.clear();
            self.next = 0;
        }
        (done || self.session.closing) && self.session.exec.is_none()
    }

    /// Whether the client's limits allow another request.
    fn may_route(&mut self) -> bool {
        let state = self.client.state.borrow();
        if self.barrier && state.outstanding() > 0 {
            return false;
        }
        self.barrier = false;
        // What is behind a reply in pieces would wait at its node.
        if state.is_mid_reply() {
            return false;
        }
        let may = state.outstanding() < self.settings.pipeline_limit && state.backlog.is_empty();
        drop(state);
        may && self.may_answer()
    }

    /// Whether more replies may come beside those that the client has yet to take. Many
    /// clients send all of a pipeline before they read.
    fn may_answer(&mut self) -> bool {
        let beyond = self
            .client
            .state
            .borrow()
            .reply_bytes()
            .saturating_sub(OUTPUT_SOFT);
        let may = self.unread.keep(beyond, self.settings.output_limit / 2);
        self.held_up = !may;
        may
    }

    /// Parses the next requests; false if more bytes are needed.
    fn parse(&mut self) -> bool {
        if let Some(link) = self.thread.congested() {
            link.wait_for_room(&self.client);
            return false;
        }
        let limits = Limits {
            authenticated: self.session.authenticated,
            max_bulk: self.settings.max_bulk,
            ..Limits::default()
        };
        let most = if limits.authenticated { BATCH } else { 1 };
        match self
            .parser
            .parse(&mut self.input, &limits, most, &mut self.batch)
        {
            Ok(parsed) => {
                self.next = 0;
                parsed > 0
            }
            Err(error) => {
                self.reply.error(error.line());
                self.client
                    .state
                    .borrow_mut()
                    .answer(&mut self.reply, false);
                self.session.closing = true;
                true
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.may_answer() {
            self.client.stalled.set(true);
            return Poll::Pending;
        }
        let stream = self.client.stream.borrow();
        let Some(stream) = stream.as_ref() else {
            return Poll::Ready(Ok(0));
        };
        loop {
            ready!(stream.poll_read_ready(cx))?;
            if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
                self.input.reserve(READ_BYTES);
            }
            match stream.try_read_buf(&mut self.input) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(n) => {
                    Stats::add(&self.thread.stats().input_bytes, n as u64);
                    return Poll::Ready(Ok(n));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes what is ready; ready itself when the connection is over.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Err(error) = self.client.write_ready() {
                return Poll::Ready(End::Io(error));
            }
            // Requests were left alone for what the client had not taken. It has: no
            // answer need come any more to have them looked at.
            if self.held_up && self.may_answer() {
                cx.waker().wake_by_ref();
            }
            let state = self.client.state.borrow();
            // Nobody is left to take what its command waits for.
            if self.eof && state.only_waits() {
                return Poll::Ready(End::Closed);
            }
            if state.reply_bytes() > self.settings.output_limit {
                return Poll::Ready(End::Output);
            }
            if state.out.is_empty() {
                let ends = self.session.closing || self.eof;
                let over = ends && state.outstanding() == 0 && self.session.exec.is_none();
                // At the end of the input, what was parsed is still routed.
                let routed = self.session.closing || self.next >= self.batch.len();
                return if over && routed {
                    Poll::Ready(End::Closed)
                } else {
                    self.pause()
                };
            }
            drop(state);
            let stream = self.client.stream.borrow();
            let Some(stream) = stream.as_ref() else {
                return Poll::Ready(End::Closed);
            };
            if let Err(error) = ready!(stream.poll_write_ready(cx)) {
                return Poll::Ready(End::Io(error));
            }
        }
    }

    /// Sleeps; a connection that is about to end is woken by every answer.
    fn pause(&self) -> Poll<End> {
        if self.session.closing || self.eof {
            self.client.stalled.set(true);
        }
        Poll::Pending
    }
}
