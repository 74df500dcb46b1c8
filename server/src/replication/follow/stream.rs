//! The stream of a master's commands, in batches to the group's writer.

use std::io::BufRead;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_protocol::command::{CommandSpec, Resolved, id, resolve};
use cairn_protocol::resp::{Args, Limits, ReplyWriter, RequestParser, Requests};
use cairn_protocol::timing::Tally;

use super::LinkError;
use super::wire::{Saying, Wire};
use crate::commands::transactions::{self, empty_exec, push_data};
use crate::commands::{Handler, SessionHandler, handler};
use crate::group::submission::{OfMaster, QueuedCommand};
use crate::group::{Group, OwnBatch};
use crate::net::session::{Next, Session};
use crate::server::Server;
use crate::storage::Followed;
use crate::storage::generations::DATABASES;

/// A batch ends with as many commands, or bytes of the stream.
const BATCH_COMMANDS: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;
/// Bytes of one transaction at most, as of a client's.
const MULTI_BYTES: usize = 1 << 30;
/// So many failed commands are told each in the log.
const TOLD_ERRORS: u64 = 20;

/// Takes the stream from `at` on, until the link ends.
///
/// # Errors
/// Why it has ended.
pub(super) fn take(
    server: &Arc<Server>,
    group: &Arc<Group>,
    wire: &mut Wire<'_>,
    epoch: u64,
    at: Followed,
) -> Result<(), LinkError> {
    let mut stream = Stream::new(server, group, epoch, at);
    server.following.set_read(at.offset);
    wire.saying = Saying::Offset(at.offset);
    // The master may wait for it.
    wire.acknowledge()?;
    loop {
        let there = wire.fill_buf()?;
        if there.is_empty() {
            return Err(LinkError::Refused("the master has closed it".into()));
        }
        let read = there.len();
        stream.receive(there);
        wire.consume(read);
        while server.pause.holds_stream() {
            // It is read, and waits for the end of CLIENT PAUSE.
            wire.pause()?;
        }
        let ask = stream.work()?;
        wire.saying = Saying::Offset(stream.at.offset);
        if ask {
            wire.acknowledge()?;
        }
    }
}

/// What is to be done by the connection's side, in its place.
struct OfSession {
    spec: &'static CommandSpec,
    handler: SessionHandler,
    args: Requests,
    db: usize,
}

/// A transaction that is open.
struct Multi {
    exec: Requests,
    of_session: Vec<OfSession>,
    bytes: usize,
}

/// See the module's documentation.
struct Stream<'a> {
    server: &'a Arc<Server>,
    group: &'a Arc<Group>,
    epoch: u64,
    /// See `State::led`.
    led: u64,
    /// Behind what was worked through.
    at: Followed,
    /// The database that the next command is for.
    db: usize,
    /// What was read and not parsed, and the same bytes until they are worked through.
    input: BytesMut,
    raw: BytesMut,
    parser: RequestParser,
    /// Bytes of `raw` up to the end of the last command, and of the last one that is
    /// not within a transaction.
    parsed: usize,
    whole: usize,
    /// The database that is selected there.
    whole_db: usize,
    requests: Requests,
    commands: Vec<QueuedCommand>,
    multi: Option<Multi>,
    session: Session,
    tally: Tally,
    /// The master has asked how far we are.
    asked: bool,
}

impl<'a> Stream<'a> {
    fn new(server: &'a Arc<Server>, group: &'a Arc<Group>, epoch: u64, at: Followed) -> Stream<'a> {
        Stream {
            server,
            group,
            epoch,
            led: server.following.change(server, |state| state.led),
            db: usize::from(at.db),
            at,
            input: BytesMut::new(),
            raw: BytesMut::new(),
            parser: RequestParser::new(),
            parsed: 0,
            whole: 0,
            whole_db: usize::from(at.db),
            requests: Requests::default(),
            commands: Vec::new(),
            multi: None,
            session: Session::without_client(server),
            tally: Tally::default(),
            asked: false,
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.raw.extend_from_slice(bytes);
        let read = self.at.offset + self.raw.len() as u64;
        self.server.following.set_read(read);
    }

    /// Does what has come. True: the master wants to know how far that is.
    fn work(&mut self) -> Result<bool, LinkError> {
        let limits = Limits::default();
        let mut one = Requests::default();
        loop {
            let before = self.input.len();
            let n = self.parser.parse(&mut self.input, &limits, 1, &mut one);
            let n = n.map_err(|error| {
                LinkError::Refused(format!("Protocol error from master: {error}"))
            })?;
            self.parsed += before - self.input.len();
            if n == 0 {
                break;
            }
            self.take_command(&one.get(0))?;
            if self.multi.is_none() {
                self.note_whole();
            }
            if self.requests.len() >= BATCH_COMMANDS || self.whole >= BATCH_BYTES {
                self.flush()?;
            }
        }
        self.flush()?;
        Ok(std::mem::take(&mut self.asked))
    }

    fn take_command(&mut self, args: &Args<'_>) -> Result<(), LinkError> {
        let Resolved::Command(spec) = resolve(args) else {
            self.failed(args.get(0), "it is unknown");
            return Ok(());
        };
        if !spec.arity_accepts(args.len()) {
            self.failed(args.get(0), "it has a wrong number of arguments");
            return Ok(());
        }
        match spec.id {
            id::PING => {}
            id::SELECT => self.select(args)?,
            id::MULTI if self.multi.is_none() => {
                self.multi = Some(Multi {
                    exec: empty_exec(),
                    of_session: Vec::new(),
                    bytes: 0,
                });
            }
            id::EXEC => self.exec(args)?,
            id::REPLCONF => {
                let word = args.try_get(1).unwrap_or_default();
                self.asked |= word.eq_ignore_ascii_case(b"GETACK");
            }
            _ => match handler(spec) {
                Some(Handler::Write(run) | Handler::Read(run)) => match &mut self.multi {
                    Some(multi) => {
                        multi.bytes += args.payload_len();
                        if multi.bytes > MULTI_BYTES {
                            let text = "a transaction of the master is too large";
                            return Err(LinkError::Refused(text.into()));
                        }
                        push_data(&mut multi.exec, self.db, args);
                    }
                    None => self.push(args, spec, run),
                },
                Some(Handler::Session(run)) if is_for_replicas(spec) => {
                    self.of_session(args, spec, run)?;
                }
                _ => self.failed(args.get(0), "it is none that a master sends"),
            },
        }
        Ok(())
    }

    fn select(&mut self, args: &Args<'_>) -> Result<(), LinkError> {
        match crate::commands::arguments::database(args.get(1)) {
            Ok(db) if db < DATABASES => {
                self.db = db;
                Ok(())
            }
            // What follows would go to another one.
            _ => Err(LinkError::Refused(format!(
                "the master uses a database that is not here: {}",
                args.get(1).escape_ascii()
            ))),
        }
    }

    fn exec(&mut self, args: &Args<'_>) -> Result<(), LinkError> {
        let Some(multi) = self.multi.take() else {
            self.failed(args.get(0), "there is no transaction");
            return Ok(());
        };
        if multi.exec.get(0).len() > 1 {
            let exec = id::EXEC.spec();
            self.push(&multi.exec.get(0), exec, transactions::exec);
        }
        if !multi.of_session.is_empty() {
            // What precedes them is there then; their bytes go with the batch.
            self.note_whole();
            self.flush()?;
            multi.of_session.into_iter().for_each(|c| self.run(c));
        }
        Ok(())
    }

    fn push(
        &mut self,
        args: &Args<'_>,
        spec: &'static CommandSpec,
        run: crate::commands::DataHandler,
    ) {
        let request = self.requests.len() as u32;
        self.requests.push_copy(*args);
        let command = QueuedCommand::new(request, spec, run);
        self.commands.push(QueuedCommand {
            db: self.db as u8,
            ..command.in_place()
        });
    }

    fn of_session(
        &mut self,
        args: &Args<'_>,
        spec: &'static CommandSpec,
        handler: SessionHandler,
    ) -> Result<(), LinkError> {
        let mut copy = Requests::default();
        copy.push_copy(*args);
        let command = OfSession {
            spec,
            handler,
            args: copy,
            db: self.db,
        };
        match &mut self.multi {
            Some(multi) => multi.of_session.push(command),
            None => {
                // In its order; its own bytes go with what comes next.
                self.flush()?;
                self.run(command);
            }
        }
        Ok(())
    }

    fn run(&mut self, command: OfSession) {
        let mut out = ReplyWriter::default();
        self.session.select(command.db);
        let args = command.args.get(0);
        let outcome = (command.handler)(&mut self.session, &args, &mut out);
        match outcome {
            Ok(Next::Work(work)) => work(&mut out),
            Ok(_) => {}
            Err(error) => out.error(error.to_string()),
        }
        let reply = out.to_vec();
        let failed = reply.starts_with(b"-");
        let stats = &self.server.stats.commands;
        self.tally.ran(stats, command.spec.id.index(), 0, failed);
        if failed {
            let why = String::from_utf8_lossy(&reply[1..]).trim_end().to_owned();
            self.failed(args.get(0), &why);
        }
    }

    fn note_whole(&mut self) {
        (self.whole, self.whole_db) = (self.parsed, self.db);
    }

    /// Has the writer do all that is whole.
    fn flush(&mut self) -> Result<(), LinkError> {
        if self.whole == 0 {
            return Ok(());
        }
        let bytes: Bytes = self.raw.split_to(self.whole).freeze();
        self.parsed -= self.whole;
        self.whole = 0;
        let db = self.whole_db;
        let at = Followed {
            offset: self.at.offset + bytes.len() as u64,
            db: db as u8,
            ..self.at
        };
        if self.commands.is_empty() {
            let wanted = self
                .server
                .following
                .of_link(self.server, self.epoch, |state| {
                    self.server.announcer.feed.pass_on(&bytes, db);
                    state.at = Some(at);
                });
            wanted.ok_or(LinkError::GivenUp)?;
        } else {
            self.commit(at, bytes)?;
        }
        self.at = at;
        Ok(())
    }

    fn commit(&mut self, at: Followed, bytes: Bytes) -> Result<(), LinkError> {
        let of_master = OfMaster {
            epoch: self.epoch,
            followed: at,
            bytes,
        };
        let commands = std::mem::take(&mut self.commands);
        let requests = std::mem::take(&mut self.requests);
        let batch = OwnBatch::new(commands, requests, Some(of_master));
        if !batch.run_while(self.group, || self.server.following.is_current(self.epoch)) {
            return Err(LinkError::GivenUp);
        }
        let done = batch.outcome();
        // The data are there now, whoever is followed next.
        self.server.following.change(self.server, |state| {
            if state.led == self.led {
                state.at = Some(at);
            }
        });
        let stats = &self.server.stats;
        for command in &done.commands {
            let index = command.spec.id.index();
            let nanos = u64::from(command.nanos);
            self.tally
                .ran(&stats.commands, index, nanos, command.failed);
        }
        self.tally.settle(&stats.commands);
        for line in &done.errors {
            stats.error_reply(line);
        }
        let mut failed = done.commands.iter().filter(|command| command.failed);
        for why in &done.errors {
            // What ran within an EXEC has no name here.
            let name = failed.next().map_or("exec", |command| command.spec.name);
            self.failed(name.as_bytes(), why);
        }
        Ok(())
    }

    /// The master's command could not be done here: what is here may differ from now on.
    fn failed(&self, name: &[u8], why: &str) {
        let errors = &self.server.following.error_replies;
        let before = errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if before < TOLD_ERRORS {
            let name = name.escape_ascii();
            tracing::error!("== CRITICAL == a command of the master failed here: '{name}': {why}");
        }
    }
}

/// What masters send of what is not data.
fn is_for_replicas(spec: &CommandSpec) -> bool {
    let name = spec.name;
    [id::PUBLISH, id::SPUBLISH].contains(&spec.id)
        || ["function|", "script|"]
            .iter()
            .any(|of| name.starts_with(of))
}
