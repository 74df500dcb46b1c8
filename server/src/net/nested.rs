//! A session that is lent to the writer for the time of its EXEC.
//!
//! Commands of the session that what comes behind them may depend on run at
//! their places among the commands on data: a script that is loaded can be run
//! by the next command, SLOWLOG RESET forgets what ran before it, DEBUG SLEEP
//! stops everything. All others look at what is applied, or tell others of it
//! (PUBLISH), or take their time: the connection runs them once the entry is
//! applied.
//!
//! Owned by the connection; the mutex is never contended, as a submission's.

use std::time::Instant;

use cairn_protocol::command::{CommandId, CommandSpec, id};
use cairn_protocol::resp::{Args, ReplyWriter, Requests};

use super::multi::OfSession;
use super::session::{Next, Session};
use crate::commands::transactions::no_longer_allowed;
use crate::txn::{InnerRun, Nested};

const IN_PLACE: &[CommandId] = &[
    id::CLIENT_PAUSE,
    id::SCRIPT_EXISTS,
    id::SCRIPT_FLUSH,
    id::SCRIPT_LOAD,
    id::SLOWLOG_GET,
    id::SLOWLOG_LEN,
    id::SLOWLOG_RESET,
];

/// The same where functions are the process's own: in a cluster they are etcd's.
const IN_PLACE_STANDALONE: &[CommandId] = &[
    id::FUNCTION_DELETE,
    id::FUNCTION_FLUSH,
    id::FUNCTION_LOAD,
    id::FUNCTION_RESTORE,
];

/// See the module's documentation.
pub(super) struct NestedSession {
    pub session: Session,
    pub of_session: Vec<OfSession>,
    pub requests: Requests,
    /// What ran here: its place, and what it answered.
    ran: Vec<(usize, Vec<u8>)>,
    /// For the statistics.
    pub runs: Vec<InnerRun>,
    /// Commands before this place are in the slow log if they belong there.
    logged: usize,
}

impl NestedSession {
    pub fn new(session: Session, of_session: Vec<OfSession>, requests: Requests) -> NestedSession {
        NestedSession {
            session,
            of_session,
            requests,
            ran: Vec::new(),
            runs: Vec::new(),
            logged: 0,
        }
    }

    /// Whether the command at that place has run here.
    pub fn has_run(&self, at: usize) -> bool {
        self.ran.iter().any(|(of, _)| *of == at)
    }

    fn runs_in_place(&self, spec: &CommandSpec, args: &Args<'_>) -> bool {
        let standalone = !self.session.server.is_cluster();
        IN_PLACE.contains(&spec.id)
            || (standalone && IN_PLACE_STANDALONE.contains(&spec.id))
            || (spec.id == id::DEBUG
                && args
                    .try_get(1)
                    .is_some_and(|word| word.eq_ignore_ascii_case(b"sleep")))
    }
}

impl Nested for NestedSession {
    fn run(&mut self, at: usize, out: &mut ReplyWriter) {
        if let Some((_, reply)) = self.ran.iter().find(|(of, _)| *of == at) {
            return out.raw(reply);
        }
        let found = self.of_session.iter().find(|command| command.at == at);
        let Some(command) = found.copied() else {
            return;
        };
        let args = self.requests.get(command.request);
        if !self.runs_in_place(command.spec, &args) {
            return;
        }
        // Rights were checked when EXEC came, and are again here.
        let subject = self.session.subject();
        let handler = match subject.is_none_or(|user| user.may(command.spec, &args)) {
            true => command.handler,
            false => no_longer_allowed,
        };
        let started = Instant::now();
        let mut reply = ReplyWriter::new(self.session.version);
        let outcome = match handler(&mut self.session, &args, &mut reply) {
            Ok(Next::Work(work)) => {
                work(&mut reply);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        let nanos = started.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32;
        if let Err(line) = &outcome {
            reply.clear();
            reply.error(line);
            self.session.server.stats.error_reply(line);
        }
        let (server, client) = (&self.session.server, &self.session.client);
        server.note_spike(command.spec, u64::from(nanos));
        server.note_slow(client, command.spec, &args, u64::from(nanos));
        self.logged = self.logged.max(at + 1);
        self.runs.push(InnerRun {
            spec: command.spec,
            nanos,
            failed: outcome.is_err(),
            rejected: false,
        });
        let reply = reply.to_vec();
        out.raw(&reply);
        self.ran.push((at, reply));
    }

    /// In the slow log now: what is behind it may look there.
    fn ran(&mut self, at: usize, run: &InnerRun, args: &Args<'_>) {
        if at < self.logged {
            return;
        }
        self.logged = at + 1;
        let (server, client) = (&self.session.server, &self.session.client);
        server.note_slow(client, run.spec, args, u64::from(run.nanos));
    }
}
