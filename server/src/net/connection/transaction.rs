//! MULTI to EXEC on a connection.
//!
//! Commands are checked and queued as they come. EXEC sends those on data
//! through the group's writer as one command, runs those of the session
//! afterwards, and puts their replies in their places.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_protocol::command::{CommandId, CommandSpec, id};
use cairn_protocol::monitor::line;
use cairn_protocol::resp::{FrameScanner, ReplyWriter};
use parking_lot::Mutex;

use super::{Connection, End, GroupHandle, redirection};
use crate::commands::Handler;
use crate::commands::arguments::database;
use crate::commands::transactions::{self, Part};
use crate::dispatch::{Dispatched, refused_for_space, refused_without_replicas};
use crate::monitor::Sender;
use crate::net::multi::{Multi, OfSession};
use crate::net::nested::NestedSession;
use crate::net::session::Session;
use crate::server::Route;
use crate::txn::{Call, InnerRun};

const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";
pub(super) const REFUSED: &str = "EXECABORT Transaction discarded because of: ";
/// What a watched key costs beside its name.
const WATCH_BYTES: usize = 96;
const TOO_LARGE: &str = "ERR the transaction is too large";
const CROSS_SLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

impl Connection {
    /// A command between MULTI and EXEC: it is queued, unless it is about the
    /// transaction itself.
    pub(super) async fn within_multi(&mut self, request: usize, d: Dispatched) -> Result<(), End> {
        let client = &self.session.client;
        client
            .last_command
            .store(d.spec.id.index(), Ordering::Relaxed);
        match d.spec.id {
            id::EXEC => self.exec().await,
            id::MULTI | id::DISCARD | id::QUIT | id::RESET => self.run_one(request, d).await,
            id::WATCH => {
                self.count_call(id::WATCH, true);
                self.report(&transactions::WATCH_INSIDE);
                Ok(())
            }
            _ => {
                match self.queue(request, &d) {
                    Ok(()) => self.out.simple("QUEUED"),
                    Err(line) => {
                        self.fail_multi();
                        self.answer_error(line.as_bytes()).await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// A command could not be queued, or not even be understood.
    pub(super) fn fail_multi(&mut self) {
        if let Some(multi) = &mut self.session.multi {
            multi.failed = true;
        }
    }

    fn queue(&mut self, request: usize, d: &Dispatched) -> Result<(), String> {
        if self.cluster {
            self.check_slot(d)?;
        }
        let args = self.requests.get(request);
        let multi = self.session.multi.as_mut().expect("a command within MULTI");
        if !multi.push(d, &args) {
            return Err(TOO_LARGE.to_owned());
        }
        // What comes next is for that database, if it is one.
        if d.spec.id == id::SELECT
            && !self.cluster
            && let Ok(db) = database(args.get(1))
        {
            multi.db = db;
        }
        let queued = multi.len();
        self.session.show_multi(Some(queued));
        Ok(())
    }

    /// All keys of a transaction, and those watched for it, are of one slot
    /// that is served here.
    fn check_slot(&mut self, d: &Dispatched) -> Result<(), String> {
        let Some(slot) = d.slot else {
            return match self.over_groups(d) {
                Some(_) => Err(one_group_only(d.spec)),
                None => Ok(()),
            };
        };
        // As in Redis: a client that is sent elsewhere learns where, whatever else is queued.
        match self.session.server.route(Some(slot)) {
            Route::Here(_) => {}
            elsewhere => return Err(redirection(&elsewhere, Some(slot))),
        }
        let watched = self.session.watched_slot();
        let multi = self.session.multi.as_mut().expect("a command within MULTI");
        if *multi.slot.or(watched).get_or_insert(slot) != slot {
            return Err(CROSS_SLOT.to_owned());
        }
        multi.slot = Some(slot);
        Ok(())
    }

    /// WATCH: the keys of all of them are of one slot, in a cluster.
    pub(super) async fn watch(
        &mut self,
        request: usize,
        d: Dispatched,
        group: GroupHandle,
    ) -> Result<(), End> {
        let Handler::Write(handler) = d.handler else {
            unreachable!("WATCH reads the keys in the writer");
        };
        let watched = self.session.watched_slot();
        if self.cluster && watched.is_some() && watched != d.slot {
            return self.answer_error(CROSS_SLOT.as_bytes()).await;
        }
        let args = self.requests.get(request);
        let bytes = args.payload_len() + args.len() * WATCH_BYTES;
        self.session.note_watched(bytes);
        self.session.note_watch(&group, d.slot);
        self.enqueue(request, d, handler, group, false);
        let watcher = self.session.client.id;
        self.pending.last_mut().expect("just queued").watcher = watcher;
        Ok(())
    }

    /// EXEC
    async fn exec(&mut self) -> Result<(), End> {
        let multi = self.session.take_multi();
        let outcome = self.exec_queued(multi).await;
        self.session.show_multi(None);
        self.session.unwatch();
        outcome
    }

    async fn exec_queued(&mut self, mut multi: Box<Multi>) -> Result<(), End> {
        let refused = multi
            .denyoom
            .and_then(|spec| refused_for_space(spec, false, &self.session.server));
        let few = multi
            .write
            .and_then(|spec| refused_without_replicas(spec, self.feed()));
        let refused = refused.or(few);
        if let Some(line) = refused {
            let line = [REFUSED.as_bytes(), line].concat();
            return self.answer_error(&line).await;
        }
        if multi.failed {
            self.count_call(id::EXEC, true);
            self.show_exec(0, None);
            return self.answer_error(ABORTED.as_bytes()).await;
        }
        if let Some(subject) = self.session.subject() {
            multi.check_rights(subject);
        }
        if !multi.has_data() && !self.session.is_watching() {
            self.out.array(multi.len());
            self.count_call(id::EXEC, false);
            self.calls.clear();
            if self.session.server.announcer.monitors.any() {
                let places = (0..multi.len()).map(|_| (0, Call::place(self.session.db)));
                self.calls.extend(places);
            }
            return self.run_of_session(multi, &[], 0).await;
        }
        let slot = multi.slot.or(self.session.watched_slot());
        let group = match &self.home {
            Some(group) => group.clone(),
            None => match self.session.server.route(slot) {
                Route::Here(group) => Rc::new(group),
                // What was watched there is void here.
                _ if self.session.is_watching() => {
                    self.out.null_array();
                    return Ok(());
                }
                elsewhere => {
                    let line = redirection(&elsewhere, slot);
                    return self.answer_error(line.as_bytes()).await;
                }
            },
        };
        if !self.session.watches_only(&group) {
            self.out.null_array();
            return Ok(());
        }
        self.exec_on(multi, slot, group).await
    }

    /// Runs it through the writer of `group`.
    async fn exec_on(
        &mut self,
        mut multi: Box<Multi>,
        slot: Option<u16>,
        group: GroupHandle,
    ) -> Result<(), End> {
        let spliced = !multi.of_session.is_empty();
        if spliced {
            // What is in the buffer afterwards is the reply.
            self.flush().await?;
        }
        let d = Dispatched {
            spec: id::EXEC.spec(),
            handler: Handler::Write(transactions::exec),
            slot,
        };
        std::mem::swap(&mut self.requests, &mut multi.exec);
        self.enqueue(0, d, transactions::exec, group, false);
        if self.session.is_watching() {
            let watcher = self.session.client.id;
            self.pending.last_mut().expect("just queued").watcher = watcher;
        }
        if spliced {
            self.lend_session(&mut multi);
        }
        let outcome = self.submit().await;
        let ran_in_place = match self.nested.take() {
            Some(nested) => self.take_session(&nested, &mut multi),
            None => 0,
        };
        std::mem::swap(&mut self.requests, &mut multi.exec);
        outcome?;
        if !spliced {
            return Ok(());
        }
        let reply = self.out.to_vec();
        let mut head = ReplyWriter::new(self.session.version);
        head.array(multi.len());
        let head = head.to_vec();
        if !reply.starts_with(&head) {
            // Nil, or an error: nothing was executed.
            self.show_exec(0, None);
            return Ok(());
        }
        if multi.of_session.len() == ran_in_place {
            self.show_exec(0, Some(&multi));
            return Ok(());
        }
        self.out.clear();
        self.out.raw(&head);
        let rest = &reply[head.len()..];
        self.run_of_session(multi, rest, ran_in_place).await
    }

    /// Commands of the session run in the writer, where what follows depends on them.
    fn lend_session(&mut self, multi: &mut Multi) {
        let (server, client) = (self.session.server.clone(), self.session.client.clone());
        // What the connection itself looks at meanwhile.
        let mut placeholder = Session::new(server, client);
        (placeholder.db, placeholder.version) = (self.session.db, self.session.version);
        placeholder.authenticated = self.session.authenticated;
        placeholder.reply_mode = self.session.reply_mode;
        placeholder.nested = true;
        let mut session = std::mem::replace(&mut self.session, placeholder);
        session.nested = true;
        let of_session = std::mem::take(&mut multi.of_session);
        let requests = std::mem::take(&mut multi.session_requests);
        let nested = NestedSession::new(session, of_session, requests);
        self.nested = Some(Arc::new(Mutex::new(nested)));
    }

    /// Takes it back. How many of its commands have run, which are then first.
    fn take_session(&mut self, nested: &Mutex<NestedSession>, multi: &mut Multi) -> usize {
        let mut nested = nested.lock();
        std::mem::swap(&mut self.session, &mut nested.session);
        self.session.nested = false;
        for run in std::mem::take(&mut nested.runs) {
            let stats = &self.session.server.stats.commands;
            let nanos = u64::from(run.nanos);
            self.tally
                .ran(stats, run.spec.id.index(), nanos, run.failed);
        }
        multi.of_session = std::mem::take(&mut nested.of_session);
        multi.session_requests = std::mem::take(&mut nested.requests);
        multi
            .of_session
            .sort_by_key(|command| (!nested.has_run(command.at), command.at));
        multi
            .of_session
            .partition_point(|command| nested.has_run(command.at))
    }

    /// For the statistics, where the writer does not see it.
    fn count_call(&mut self, command: CommandId, failed: bool) {
        let stats = &self.session.server.stats.commands;
        self.tally.ran(stats, command.index(), 0, failed);
    }

    /// Runs the commands of the session from the `first` on, and puts the
    /// replies of the others, which `of_others` are, in between.
    async fn run_of_session(
        &mut self,
        mut multi: Box<Multi>,
        of_others: &[u8],
        first: usize,
    ) -> Result<(), End> {
        std::mem::swap(&mut self.requests, &mut multi.session_requests);
        let mut scanner = FrameScanner::default();
        let mut rest = of_others;
        let mut mine = multi.of_session[first..].iter().peekable();
        let mut outcome = Ok(());
        self.session.nested = true;
        for at in 0..multi.len() {
            if let Some(command) = mine.next_if(|command| command.at == at) {
                // The one before it may have logged in as somebody else.
                let args = self.requests.get(command.request);
                let subject = self.session.subject();
                let run = match subject.is_none_or(|user| user.may(command.spec, &args)) {
                    true => command.handler,
                    false => transactions::no_longer_allowed,
                };
                let handler = Handler::Session(run);
                let d = Dispatched {
                    spec: command.spec,
                    handler,
                    slot: None,
                };
                outcome = self.session_one(command.request, d, run).await;
                if outcome.is_err() {
                    break;
                }
            } else {
                let len = scanner.scan(rest).ok().flatten();
                let (reply, more) = rest.split_at(len.expect("whole replies of our own"));
                self.out.raw(reply);
                rest = more;
            }
        }
        self.session.nested = false;
        std::mem::swap(&mut self.requests, &mut multi.session_requests);
        self.show_exec(0, Some(&multi));
        outcome
    }

    /// Counts what ran within the commands of a submission.
    pub(super) fn account_inner(&mut self) {
        let mut inner = std::mem::take(&mut self.inner);
        for (_, run) in &inner {
            let stats = &self.session.server.stats;
            if run.rejected {
                stats.rejected(run.spec.id.index());
                continue;
            }
            let nanos = u64::from(run.nanos);
            self.tally
                .ran(&stats.commands, run.spec.id.index(), nanos, run.failed);
        }
        let server = &self.session.server;
        // A session that was lent has seen to it.
        let is_mine = self.nested.is_none();
        if is_mine
            && inner
                .iter()
                .any(|(_, run)| server.is_slow(u64::from(run.nanos)))
        {
            self.note_slow_inner(&inner);
        }
        inner.clear();
        self.inner = inner;
    }

    /// MONITOR shows the commands of an EXEC, then the EXEC. Those of the session
    /// are in `multi`, if any were run.
    pub(super) fn show_exec(&mut self, request: usize, multi: Option<&Multi>) {
        let monitors = &self.session.server.announcer.monitors;
        let is_its = |call: &mut (u32, Call)| call.0 as usize == request;
        let calls: Vec<(u32, Call)> = self.calls.extract_if(.., is_its).collect();
        if !monitors.any() {
            return;
        }
        let client = Sender::Client(self.session.client.peer);
        let mut mine: Vec<&OfSession> = multi.map_or(Vec::new(), |m| m.of_session.iter().collect());
        mine.sort_by_key(|command| command.at);
        let mut mine = mine.into_iter();
        for (_, call) in calls {
            if call.is_place() {
                if let (Some(command), Some(multi)) = (mine.next(), multi) {
                    let args = multi.session_requests.get(command.request);
                    monitors.show(client, call.db, command.spec, &args);
                }
                continue;
            }
            let sender = match call.by_script {
                true => Sender::Script,
                false => client,
            };
            let args = call.args.iter().map(Vec::as_slice);
            monitors.send(&line(sender, call.db, &[], args));
        }
        let (db, exec) = (self.session.db, std::iter::once(&b"exec"[..]));
        monitors.send(&line(client, db, &[], exec));
    }

    /// SLOWLOG has the commands of an EXEC, not the EXEC.
    fn note_slow_inner(&self, inner: &[(usize, InnerRun)]) {
        let server = &self.session.server;
        for (at, command) in self.pending.iter().enumerate() {
            if command.spec.id != id::EXEC {
                continue;
            }
            let args = self.requests.get(command.request as usize);
            let parts = transactions::parts(&args).filter_map(|part| match part {
                Part::Data(_, args) => Some(args),
                Part::Session => None,
            });
            let runs = inner.iter().filter(|(of, _)| *of == at).map(|(_, run)| run);
            for (run, args) in runs.zip(parts) {
                let client = &self.session.client;
                server.note_slow(client, run.spec, &args, u64::from(run.nanos));
            }
        }
    }
}

/// Why a command about all keys is not queued on a node with several groups.
fn one_group_only(spec: &CommandSpec) -> String {
    let name = spec.name;
    format!("ERR '{name}' is about several groups of this node, a transaction about one")
}
