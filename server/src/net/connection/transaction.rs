//! MULTI to EXEC on a connection.
//!
//! Commands are checked and queued as they come. EXEC sends those on data
//! through the group's writer as one command, runs those of the session
//! afterwards, and puts their replies in their places.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use cairn_protocol::command::{Resolved, id, resolve};
use cairn_protocol::resp::{FrameScanner, ReplyWriter};

use super::{Connection, End, GroupHandle, redirection};
use crate::commands::Handler;
use crate::commands::arguments::database;
use crate::commands::transactions::{self, Part};
use crate::dispatch::{Dispatched, refused_for_space, refused_without_replicas};
use crate::net::multi::Multi;
use crate::server::Route;
use crate::txn::InnerRun;

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
            return Ok(());
        };
        let watched = self.session.watched_slot();
        let multi = self.session.multi.as_mut().expect("a command within MULTI");
        if *multi.slot.or(watched).get_or_insert(slot) != slot {
            return Err(CROSS_SLOT.to_owned());
        }
        match self.session.server.route(Some(slot)) {
            Route::Here(_) => {
                multi.slot = Some(slot);
                Ok(())
            }
            elsewhere => Err(redirection(&elsewhere, Some(slot))),
        }
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
            let stats = &self.session.server.stats.commands;
            self.tally.ran(stats, id::EXEC.index(), 0, true);
            return self.answer_error(ABORTED.as_bytes()).await;
        }
        if let Some(subject) = self.session.subject() {
            multi.check_rights(subject);
        }
        if !multi.has_data() && !self.session.is_watching() {
            self.out.array(multi.len());
            return self.run_of_session(multi, &[]).await;
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
        let outcome = self.submit().await;
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
            return Ok(());
        }
        self.out.clear();
        self.out.raw(&head);
        self.run_of_session(multi, &reply[head.len()..]).await
    }

    /// Runs the commands of the session, and puts the replies of those on
    /// data, which `of_data` are, in between.
    async fn run_of_session(&mut self, mut multi: Box<Multi>, of_data: &[u8]) -> Result<(), End> {
        std::mem::swap(&mut self.requests, &mut multi.session_requests);
        let mut scanner = FrameScanner::default();
        let mut rest = of_data;
        let mut mine = multi.of_session.iter().peekable();
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
        if inner
            .iter()
            .any(|(_, run)| server.is_slow(u64::from(run.nanos)))
        {
            self.note_slow_inner(&inner);
        }
        inner.clear();
        self.inner = inner;
    }

    /// MONITOR shows the commands of an EXEC, then the EXEC.
    pub(super) fn show_exec(&self, request: usize) {
        let monitors = &self.session.server.announcer.monitors;
        let args = self.requests.get(request);
        for part in transactions::parts(&args) {
            if let Part::Data(db, args) = part
                && let Resolved::Command(spec) = resolve(&args)
            {
                monitors.show(self.sender(), db, spec, &args);
            }
        }
        let exec = id::EXEC.spec();
        monitors.show_now(self.sender(), self.session.db, exec, &args.slice(0, 1));
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
