//! One client's connection: read, parse, execute in order, write.
//!
//! Reads of applied state are answered inline. From the first write of a
//! pipeline on, data commands gather in the connection's [`Submission`], so
//! that one round trip through the writer serves them all in order. What is
//! not in memory runs on the blocking pool; other connections go on.

mod all_keys;
mod blocking;
mod debugging;
mod pieces;
mod socket;
mod submit;
mod sync;
mod transaction;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use cairn_protocol::command::{CommandSpec, Flags, Resolved, id, is_http, lookup_called, resolve};
use cairn_protocol::resp::{Limits, ReplyWriter, RequestParser, Requests};
use cairn_protocol::timing::Tally;
use cairn_protocol::unread::Share;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use self::all_keys::without_keys;
use self::blocking::BlockedClient;
pub use self::debugging::Debugging;
pub(crate) use self::submit::{dispatched, warm};
use super::ahead::Announcer;
use super::nested::NestedSession;
use super::read::{ReadJob, ReadOutcome};
use super::session::{Client, Next, ReplyMode, Session};
use super::turns::Turns;
use crate::commands::{DataHandler, Handler, refused_as_protected};
use crate::config::EvictionPolicy;
use crate::dispatch::{Caller, Dispatched, dispatch, refused_for_space, refused_without_replicas};
use crate::group::blocked::Waiter;
use crate::group::submission::{QueuedCommand, Submission};
use crate::group::{Group, GroupId};
use crate::monitor::Sender;
use crate::replication::Feed;
use crate::replication::follow::refused_to_replica;
use crate::scripting::{self, running::busy_line};
use crate::server::{Home, Route, Server};
use crate::tracking::Kind;
use crate::txn::{Call, CommandError, InnerRun};

/// Requests parsed at a time.
const MAX_REQUESTS: usize = 1024;
/// Replies are sent once this many bytes wait, even amid a pipeline.
const FLUSH_AT: usize = 64 << 10;
/// A stopping server waits so long for its connections.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a connection ends.
enum End {
    /// The client, a command or the server closed it.
    Closed,
    Io(std::io::Error),
}

impl From<std::io::Error> for End {
    fn from(e: std::io::Error) -> End {
        End::Io(e)
    }
}

struct Connection {
    stream: TcpStream,
    session: Session,
    parser: RequestParser,
    input: BytesMut,
    requests: Requests,
    out: ReplyWriter,
    /// What of it is kept while requests are read.
    unread: Share,
    submission: Arc<Submission>,
    /// Data commands from the first unanswered write on, all of one group.
    pending: Vec<QueuedCommand>,
    pending_group: Option<GroupHandle>,
    turns: Turns,
    ahead: Announcer,
    cluster: bool,
    /// The one group of a standalone server.
    home: Option<GroupHandle>,
    tally: Tally,
    pace: Pace,
    /// Commands of the submission that wait, and what ran within others.
    blocked: Vec<(usize, Arc<Waiter>)>,
    inner: Vec<(usize, InnerRun)>,
    /// Error lines that the submission answered with.
    errors: Vec<String>,
    /// What EXECs ran, for MONITOR, by their requests.
    calls: Vec<(u32, Call)>,
    /// The session, while an EXEC has it in the writer.
    nested: Option<Arc<Mutex<NestedSession>>>,
    /// When the command that waits now has waited long enough, if ever.
    blocked_until: Option<Option<Instant>>,
    /// One of several groups is asked: the command counts when all have answered.
    is_part: bool,
}

/// Many commands in a row share one count of the group, which all network
/// threads would otherwise write to with each command.
type GroupHandle = Rc<Arc<Group>>;

/// Clock readings that commands in a row share. Forgotten whenever the
/// connection may have waited.
#[derive(Default)]
struct Pace {
    /// The end of the last command.
    stamp: Option<Instant>,
    /// Log time of a group.
    now: Option<(GroupId, u64)>,
}

impl Pace {
    fn started(&mut self) -> Instant {
        self.stamp.take().unwrap_or_else(Instant::now)
    }

    /// Nanoseconds since `started`, which is where the next command starts.
    fn ended(&mut self, started: Instant) -> u64 {
        let now = Instant::now();
        self.stamp = Some(now);
        (now - started).as_nanos() as u64
    }

    /// `at`: when the command started.
    fn log_time(&mut self, group: &Group, at: Instant) -> u64 {
        match self.now {
            Some((id, now)) if id == group.id => now,
            _ => {
                let now = group.now_at(at);
                self.now = Some((group.id, now));
                now
            }
        }
    }
}

/// Serves one client until it goes.
pub(super) async fn serve(
    server: Arc<Server>,
    client: Arc<Client>,
    stream: TcpStream,
    turns: Turns,
) {
    let session = Session::new(server.clone(), client.clone());
    let out = ReplyWriter::new(session.version);
    let mut connection = Connection {
        cluster: server.is_cluster(),
        home: match &server.home {
            Home::Standalone(group) => Some(Rc::new(group.clone())),
            Home::Node(_) => None,
        },
        tally: Tally::default(),
        pace: Pace::default(),
        blocked: Vec::new(),
        inner: Vec::new(),
        errors: Vec::new(),
        calls: Vec::new(),
        nested: None,
        blocked_until: None,
        is_part: false,
        stream,
        session,
        parser: RequestParser::new(),
        input: BytesMut::new(),
        requests: Requests::default(),
        out,
        unread: server.unread.share(),
        submission: Arc::default(),
        pending: Vec::new(),
        pending_group: None,
        ahead: turns.ahead.join(),
        turns,
    };
    if let Err(End::Io(error)) = connection.run().await {
        tracing::debug!(client = client.id, %error, "connection ended");
    }
    client.end();
    server.forget(&client);
    server.clients.remove(&client.id);
    server.connected.fetch_sub(1, Ordering::Relaxed);
}

/// Waits until the clients of a stopping server are gone, up to a bound.
pub(super) async fn drain(server: &Server) {
    let deadline = Instant::now() + DRAIN;
    server.clients.iter().for_each(|client| client.kill());
    while server.connected.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Connection {
    async fn run(&mut self) -> Result<(), End> {
        loop {
            let limits = self.limits();
            let most = if self.session.may_run() {
                MAX_REQUESTS
            } else {
                1
            };
            match self
                .parser
                .parse(&mut self.input, &limits, most, &mut self.requests)
            {
                Ok(0) => {
                    self.take_messages();
                    self.flush_or_keep().await?;
                    self.read().await?;
                }
                Ok(n) => self.execute(n).await?,
                Err(error) => return self.refuse(error).await,
            }
        }
    }

    fn limits(&self) -> Limits {
        let limits = match self.session.may_run() {
            true => Limits::default(),
            false => Limits::unauthenticated(),
        };
        let max_bulk = self
            .session
            .server
            .live
            .proto_max_bulk_len
            .load(Ordering::Relaxed);
        Limits { max_bulk, ..limits }
    }

    async fn execute(&mut self, n: usize) -> Result<(), End> {
        self.session.server.evict_clients();
        let client = self.session.client.clone();
        let now = client.created.elapsed().as_millis() as u64;
        client.last_active_ms.store(now, Ordering::Relaxed);
        self.pace = Pace::default();
        if let Some(home) = &self.home {
            self.ahead
                .announce(&home.store, self.session.db, &self.requests, n);
        }
        for request in 0..n {
            self.execute_one(request).await?;
            if self.session.caching {
                self.end_caching(request);
            }
            if self.out.len() >= self.unread.bytes() + FLUSH_AT && self.pending.is_empty() {
                self.flush_early().await?;
            }
            if client.is_killed() {
                break;
            }
        }
        self.submit().await?;
        self.check_output()?;
        self.count_memory()?;
        if client.is_killed() {
            self.flush().await?;
            return Err(End::Closed);
        }
        self.take_messages();
        Ok(())
    }

    /// CLIENT CACHING holds for the next command that is not CLIENT.
    fn end_caching(&mut self, request: usize) {
        let name = self.requests.get(request).get(0);
        if lookup_called(name).is_none_or(|spec| spec.name != "client") {
            self.session.caching = false;
        }
    }

    /// Sends what there is amid a pipeline; under a hard limit only at its
    /// end, since the limit is for all that the client asked for at once.
    async fn flush_early(&mut self) -> Result<(), End> {
        match self.session.client.limit().hard() {
            Some(_) => self.check_output(),
            None => self.flush_or_keep().await,
        }
    }

    async fn execute_one(&mut self, request: usize) -> Result<(), End> {
        let caller = Caller {
            authenticated: self.session.may_run(),
            in_multi: self.session.multi.is_some(),
            subject: self.session.subject().map(|subject| &**subject),
            one_slot: self.cluster,
        };
        if caller.subject.is_some() {
            self.note_command(request);
        }
        let mut dispatched = dispatch(&self.requests.get(request), caller);
        if let Ok(d) = &dispatched
            && let Some(line) = refused_as_protected(&self.session, d.spec)
        {
            dispatched = Err(line.as_bytes().to_vec());
        }
        if dispatched.is_ok() && self.session.server.is_over_maxmemory() {
            self.make_room().await?;
        }
        if let Ok(d) = &dispatched
            && let Some(line) = self.refused_when_full(d.spec)
        {
            dispatched = Err(line.to_vec());
        }
        if let Ok(d) = &dispatched
            && let Some(line) = refused_without_replicas(d.spec, self.feed())
        {
            dispatched = Err(line.to_vec());
        }
        if let Ok(d) = &dispatched
            && let Some(line) = self.refused_to_replica(request, d.spec)
        {
            dispatched = Err(line.to_vec());
        }
        if let Ok(d) = &dispatched
            && let Some(line) = self.session.refused_to_subscriber(d.spec)
        {
            dispatched = Err(line);
        }
        if let Ok(d) = &dispatched
            && let Some(line) = self.session.refused_to_monitor(d.spec)
        {
            dispatched = Err(line);
        }
        if let Err(line) = &mut dispatched {
            self.count_rejected(request);
            // What an EXEC would end is there by then.
            self.submit().await?;
            if is_http(self.requests.get(request).get(0)) {
                let client = self.session.client.id;
                tracing::warn!(client, "closed: it speaks HTTP, for an attacker maybe");
                return Err(End::Closed);
            }
            self.refuse_in_multi(request, line);
        }
        if self.session.reply_mode != ReplyMode::On {
            return self.execute_quietly(request, dispatched).await;
        }
        match dispatched {
            Ok(d) if self.session.server.pause.is_on() => {
                self.wait_out_pause(request, &d).await?;
                self.run_after_pause(request, d).await
            }
            Ok(d) => self.run_dispatched(request, d).await,
            Err(line) => self.answer_error(&line).await,
        }
    }

    /// What a refusal shows of the client is the command that is refused.
    fn note_command(&self, request: usize) {
        if let Resolved::Command(spec) = resolve(&self.requests.get(request)) {
            let last = &self.session.client.last_command;
            last.store(spec.id.index(), Ordering::Relaxed);
        }
    }

    /// Above `maxmemory`: what came before is answered, then keys go, and
    /// whoever remembers them is told, before the command runs.
    async fn make_room(&mut self) -> Result<(), End> {
        let server = self.session.server.clone();
        let evicts = server.live.eviction_policy() != EvictionPolicy::NoEviction;
        // A script that takes its time has the writer.
        if !evicts || server.eviction.is_exhausted() || busy_line().is_some() {
            return Ok(());
        }
        self.submit().await?;
        server.eviction.make_room().await;
        if self.session.reply_mode == ReplyMode::On {
            self.take_messages();
        }
        Ok(())
    }

    /// What may not be done while a master is followed.
    fn refused_to_replica(&self, request: usize, spec: &CommandSpec) -> Option<&'static [u8]> {
        let following = &self.session.server.following;
        let queued = self.session.multi.as_ref().map(|multi| multi.needs);
        refused_to_replica(following, spec, &self.requests.get(request), queued)
    }

    /// Within MULTI all that is queued needs memory.
    fn refused_when_full(&self, spec: &CommandSpec) -> Option<&'static [u8]> {
        let ends = [id::EXEC, id::DISCARD, id::QUIT, id::RESET].contains(&spec.id);
        let queued = self.session.multi.is_some() && !ends;
        refused_for_space(spec, queued, &self.session.server)
    }

    /// CLIENT PAUSE: what came before is answered, then the command waits.
    async fn wait_out_pause(&mut self, request: usize, d: &Dispatched) -> Result<(), End> {
        self.submit().await?;
        self.flush().await?;
        let (client, server) = (self.session.client.clone(), self.session.server.clone());
        // An EXEC is what it executes.
        let spec = match &self.session.multi {
            Some(multi) if d.spec.id == id::EXEC => multi.write.unwrap_or(d.spec),
            _ => d.spec,
        };
        let only_reads = || scripting::declares_reads_only(spec, &self.requests.get(request));
        if !server.pause.holds(spec) || (!server.pause.is_of_all() && only_reads()) {
            return Ok(());
        }
        let _counted = BlockedClient::new(&server, &client);
        tokio::select! {
            () = server.pause.over(spec) => Ok(()),
            // Nothing was executed: the connection may go.
            () = client.killed() => Err(End::Closed),
        }
    }

    /// What has waited may be refused by now: a failover makes a replica of the server.
    async fn run_after_pause(&mut self, request: usize, d: Dispatched) -> Result<(), End> {
        let Some(line) = self.refused_to_replica(request, d.spec) else {
            return self.run_dispatched(request, d).await;
        };
        let mut line = line.to_vec();
        self.count_rejected(request);
        self.refuse_in_multi(request, &mut line);
        self.answer_error(&line).await
    }

    async fn answer_error(&mut self, line: &[u8]) -> Result<(), End> {
        self.submit().await?;
        self.session
            .server
            .stats
            .error_reply(&String::from_utf8_lossy(line));
        self.out.error(line);
        Ok(())
    }

    /// INFO commandstats: known commands that were refused before they ran.
    fn count_rejected(&self, request: usize) {
        let Resolved::Command(spec) = resolve(&self.requests.get(request)) else {
            return;
        };
        if crate::commands::handler(spec).is_some() {
            self.session.server.stats.rejected(spec.id.index());
        }
    }

    async fn run_dispatched(&mut self, request: usize, d: Dispatched) -> Result<(), End> {
        match self.session.multi {
            None => self.run_one(request, d).await,
            Some(_) => self.within_multi(request, d).await,
        }
    }

    async fn run_one(&mut self, request: usize, d: Dispatched) -> Result<(), End> {
        let client = &self.session.client;
        client
            .last_command
            .store(d.spec.id.index(), Ordering::Relaxed);
        let (handler, is_read) = match d.handler {
            Handler::Write(handler) => (handler, false),
            Handler::Read(handler) => (handler, true),
            Handler::Session(handler) => {
                self.submit().await?;
                if let Some(line) = self.moved(&d) {
                    return self.answer_error(line.as_bytes()).await;
                }
                return self.session_one(request, d, handler).await;
            }
        };
        if let Some(over) = self.over_groups(&d) {
            // Boxed: few connections need the room.
            return Box::pin(self.run_over_groups(request, d, over)).await;
        }
        let group = match &self.home {
            Some(group) => group.clone(),
            None => match self.session.server.route(d.slot) {
                Route::Here(group) => Rc::new(group),
                elsewhere => {
                    let keyless = d.slot.is_none() && self.session.server.has_no_group();
                    if let Some(answer) = without_keys(d.spec).filter(|_| keyless) {
                        self.submit().await?;
                        answer(&mut self.out);
                        return Ok(());
                    }
                    let line = redirection(&elsewhere, d.slot);
                    return self.answer_error(line.as_bytes()).await;
                }
            },
        };
        if self
            .pending_group
            .as_ref()
            .is_some_and(|pending| pending.id != group.id)
        {
            self.submit().await?;
        }
        if d.spec.id == id::WATCH {
            return self.watch(request, d, group).await;
        }
        if let Some(how) = self.session.debugging.filter(|_| is_script(d.spec)) {
            // Boxed: few connections need the room.
            return Box::pin(self.debug(request, d, handler, group, how)).await;
        }
        if is_read && self.pending.is_empty() {
            return self.read_one(request, d, handler, group).await;
        }
        let pieces = is_read && self.takes_pieces();
        self.enqueue(request, d, handler, group, pieces);
        Ok(())
    }

    /// Sharded channels, and the keys of MIGRATE, are served where their slots are.
    fn moved(&self, d: &Dispatched) -> Option<String> {
        match self.session.server.route(Some(d.slot?)) {
            Route::Here(_) => None,
            elsewhere => Some(redirection(&elsewhere, d.slot)),
        }
    }

    /// CLIENT REPLY OFF and SKIP: the command runs, its reply is dropped.
    async fn execute_quietly(
        &mut self,
        request: usize,
        dispatched: Result<Dispatched, Vec<u8>>,
    ) -> Result<(), End> {
        self.submit().await?;
        self.flush().await?;
        let skipped = self.session.reply_mode == ReplyMode::Skip;
        let resets = matches!(&dispatched, Ok(d) if d.spec.id == id::RESET);
        match dispatched {
            Ok(d) => {
                self.wait_out_pause(request, &d).await?;
                self.run_after_pause(request, d).await?;
            }
            Err(line) => self.answer_error(&line).await?,
        }
        self.submit().await?;
        match self.session.reply_mode {
            // It has ended the SKIP that was for it.
            ReplyMode::On if skipped && resets => self.out.clear(),
            // CLIENT REPLY ON answers itself.
            ReplyMode::On => {}
            ReplyMode::Off => self.out.clear(),
            ReplyMode::SkipNow => {
                self.out.clear();
                self.session.reply_mode = ReplyMode::Skip;
            }
            ReplyMode::Skip => {
                self.out.clear();
                self.session.reply_mode = ReplyMode::On;
            }
        }
        // Messages are sent all the same.
        self.take_messages();
        Ok(())
    }

    async fn session_one(
        &mut self,
        request: usize,
        d: Dispatched,
        handler: crate::commands::SessionHandler,
    ) -> Result<(), End> {
        self.tally.settle(&self.session.server.stats.commands);
        if self.session.reply_mode == ReplyMode::On && !self.session.nested {
            self.take_messages();
        }
        let started = Instant::now();
        let mark = self.out.mark();
        let args = self.requests.get(request);
        let outcome = handler(&mut self.session, &args, &mut self.out);
        let failed = outcome.is_err();
        self.account(request, d, started.elapsed().as_nanos() as u64, failed);
        self.pace = Pace::default();
        if outcome.is_ok() && [id::PUBLISH, id::SPUBLISH].contains(&d.spec.id) {
            let args = self.requests.get(request);
            self.feed().tell_message(self.session.db, args.iter());
        }
        match outcome {
            Ok(Next::Continue) => {}
            Ok(Next::Close) => {
                self.flush().await?;
                return Err(End::Closed);
            }
            Ok(Next::Answer { over, number }) => self.wait_answer(over, number).await?,
            Ok(Next::Sync { psync }) => return Box::pin(self.sync(psync)).await,
            Ok(Next::Wait(wait)) => {
                self.flush().await?;
                wait.await;
            }
            Ok(Next::Work(work)) => {
                let mut reply = ReplyWriter::new(self.session.version);
                let done = tokio::task::spawn_blocking(move || {
                    work(&mut reply);
                    reply
                });
                let mut reply = done.await.map_err(|_| End::Closed)?;
                self.out.append(&mut reply);
            }
            Err(error) => {
                self.out.truncate(mark);
                self.report(&error);
            }
        }
        Ok(())
    }

    fn feed(&self) -> &Feed {
        &self.session.server.announcer.feed
    }

    fn report(&mut self, error: &CommandError) {
        let line = error.to_string();
        self.session.server.stats.error_reply(&line);
        self.out.error(line);
    }

    /// A read with nothing unanswered before it.
    async fn read_one(
        &mut self,
        request: usize,
        d: Dispatched,
        handler: DataHandler,
        group: GroupHandle,
    ) -> Result<(), End> {
        // What may wait keeps its place among the clients that are ready: a change that
        // came after XREAD BLOCK must not go before it.
        let may_wait = d.spec.flags.contains(Flags::BLOCKING);
        if !may_wait && self.ahead.gather(&group.store).await {
            self.pace = Pace::default();
        }
        if self.session.tracking != Kind::Off {
            self.remember(request, &d);
        }
        let started = self.pace.started();
        let mark = self.out.mark();
        let args = self.requests.get(request);
        let job = ReadJob {
            group: &group,
            db: self.session.db,
            slot: d.slot,
            handler,
            subject: self.session.subject().map(|subject| &**subject),
            now: self.pace.log_time(&group, started),
            disk: false,
            pieces: self.takes_pieces(),
        };
        match job.run(&args, &mut self.out) {
            ReadOutcome::Done => {
                let nanos = self.pace.ended(started);
                self.account(request, d, nanos, false);
            }
            ReadOutcome::Cold => {
                self.out.truncate(mark);
                return self.read_cold(request, d, handler, group).await;
            }
            ReadOutcome::Large => {
                self.out.truncate(mark);
                return self.read_large(request, d, handler, group).await;
            }
            // Also what is frozen or has moved: the writer says so in order.
            ReadOutcome::ByWriter => {
                self.out.truncate(mark);
                self.enqueue(request, d, handler, group, self.takes_pieces());
            }
            ReadOutcome::Failed(error) => {
                self.out.truncate(mark);
                self.report(&error);
                let nanos = self.pace.ended(started);
                self.account(request, d, nanos, true);
            }
        }
        Ok(())
    }

    /// Client-side caching: before the read, so that no change falls between.
    fn remember(&self, request: usize, d: &Dispatched) {
        if !self.session.tracks() || !d.spec.is_readonly() {
            return;
        }
        let args = self.requests.get(request);
        let keys = d.spec.keys(&args).unwrap_or_default();
        let names = keys.iter().map(|key| args.get(key.index as usize));
        let tracking = &self.session.server.announcer.tracking;
        tracking.remember(self.session.client.id, names);
    }

    /// The same on the blocking pool.
    async fn read_cold(
        &mut self,
        request: usize,
        d: Dispatched,
        handler: DataHandler,
        group: GroupHandle,
    ) -> Result<(), End> {
        let started = Instant::now();
        self.session
            .server
            .stats
            .cold_reads
            .fetch_add(1, Ordering::Relaxed);
        self.flush_or_keep().await?;
        let (db, version) = (self.session.db, self.session.version);
        let one = self.requests.share(request);
        let reader = Arc::clone(&group);
        let subject = self.session.subject().cloned();
        let pieces = self.takes_pieces();
        let job = tokio::task::spawn_blocking(move || {
            let mut out = ReplyWriter::new(version);
            let job = ReadJob {
                group: &reader,
                db,
                slot: d.slot,
                handler,
                subject: subject.as_deref(),
                now: reader.now(),
                disk: true,
                pieces,
            };
            let outcome = job.run(&one.get(0), &mut out);
            (out, outcome)
        });
        let (mut out, outcome) = job.await.map_err(|_| End::Closed)?;
        let failed = match outcome {
            ReadOutcome::Done => {
                self.out.append(&mut out);
                false
            }
            ReadOutcome::Large => return self.read_large(request, d, handler, group).await,
            ReadOutcome::ByWriter | ReadOutcome::Cold => {
                self.enqueue(request, d, handler, group, pieces);
                return Ok(());
            }
            ReadOutcome::Failed(error) => {
                self.report(&error);
                true
            }
        };
        self.account(request, d, started.elapsed().as_nanos() as u64, failed);
        Ok(())
    }

    /// The same with a reply that is too large to be made whole.
    async fn read_large(
        &mut self,
        request: usize,
        d: Dispatched,
        handler: DataHandler,
        group: GroupHandle,
    ) -> Result<(), End> {
        // Boxed: few connections need the room.
        let read = self.read_in_pieces(request, d, handler, Arc::clone(&group));
        if !Box::pin(read).await? {
            self.enqueue(request, d, handler, group, false);
        }
        Ok(())
    }

    fn sender(&self) -> Sender {
        Sender::Client(self.session.client.peer)
    }

    fn account(&mut self, request: usize, d: Dispatched, nanos: u64, failed: bool) {
        if self.is_part {
            return;
        }
        let command = d.spec.id.index();
        self.tally
            .ran(&self.session.server.stats.commands, command, nanos, failed);
        // What had to wait was shown then.
        if self.blocked_until.is_none() {
            self.show(request, d);
        }
        let server = &self.session.server;
        server.note_spike(d.spec, nanos);
        if server.is_slow(nanos) {
            let args = self.requests.get(request);
            server.note_slow(&self.session.client, d.spec, &args, nanos);
        }
    }

    /// MONITOR: a command that has run, or begins to wait.
    fn show(&mut self, request: usize, d: Dispatched) {
        // What has its place within an EXEC is shown with it.
        if !self.session.server.announcer.monitors.any() || self.session.nested {
            return;
        }
        if d.spec.id == id::EXEC {
            return self.show_exec(request, None);
        }
        let (sender, args) = (self.sender(), self.requests.get(request));
        let monitors = &self.session.server.announcer.monitors;
        monitors.show(sender, self.session.db, d.spec, &args);
    }
}

impl Connection {
    /// What a refused command does to the open transaction. An EXEC says that it
    /// discards it, and ends all watches, even if there is none.
    fn refuse_in_multi(&mut self, request: usize, line: &mut Vec<u8>) {
        match resolve(&self.requests.get(request)) {
            Resolved::Command(spec) if spec.id == id::EXEC => {
                self.session.discard();
                // A wrong number of its own arguments says so already.
                if !line.starts_with(b"EXECABORT ") {
                    line.splice(..0, transaction::REFUSED.bytes());
                }
            }
            _ => self.fail_multi(),
        }
    }
}

/// What is debugged after SCRIPT DEBUG.
fn is_script(spec: &CommandSpec) -> bool {
    [id::EVAL, id::EVALSHA, id::EVAL_RO, id::EVALSHA_RO].contains(&spec.id)
}

/// The error line that sends a client elsewhere.
fn redirection(route: &Route, slot: Option<u16>) -> String {
    match (route, slot) {
        (Route::Moved { slot, host, port }, _) => format!("MOVED {slot} {host}:{port}"),
        (_, Some(_)) => "CLUSTERDOWN Hash slot not served".to_owned(),
        (_, None) => "CLUSTERDOWN no group lives on this node".to_owned(),
    }
}
