//! What a client has queued since MULTI.

use cairn_protocol::acl::Subject;
use cairn_protocol::command::{CommandSpec, Flags, Resolved, resolve};
use cairn_protocol::resp::{Args, Requests};

use crate::commands::transactions::{
    Part, empty_exec, no_longer_allowed, parts, push_data, push_session,
};
use crate::commands::{Handler, SessionHandler};
use crate::dispatch::Dispatched;
use crate::replication::follow::Needs;
use crate::scripting::declares_reads_only;

/// Bytes of one transaction at most.
const MAX_BYTES: usize = 1 << 30;
/// What a command costs, and an argument beside its bytes: their number is bounded by
/// that, too.
const COMMAND_BYTES: usize = 64;
const ARGUMENT_BYTES: usize = 16;

/// A queued command that the connection runs.
#[derive(Clone, Copy)]
pub(crate) struct OfSession {
    /// Its place among all that is queued.
    pub at: usize,
    pub spec: &'static CommandSpec,
    pub handler: SessionHandler,
    /// Which of the requests it is.
    pub request: usize,
}

/// See the module's documentation.
pub struct Multi {
    /// The database of the command that comes next.
    pub(crate) db: usize,
    /// Something could not be queued: EXEC will refuse.
    pub(crate) failed: bool,
    /// The one slot of all keys, in a cluster.
    pub(crate) slot: Option<u16>,
    /// The EXEC, for the writer.
    pub(crate) exec: Requests,
    /// Commands of the session, and their arguments.
    pub(crate) of_session: Vec<OfSession>,
    pub(crate) session_requests: Requests,
    /// A queued command that may change data, for what is decided by that.
    pub(crate) write: Option<&'static CommandSpec>,
    /// One that needs memory.
    pub(crate) denyoom: Option<&'static CommandSpec>,
    /// What all of them need of a replica.
    pub(crate) needs: Needs,
    count: usize,
    bytes: usize,
}

impl Multi {
    pub(crate) fn new(db: usize) -> Multi {
        Multi {
            db,
            failed: false,
            slot: None,
            exec: empty_exec(),
            of_session: Vec::new(),
            session_requests: Requests::default(),
            write: None,
            denyoom: None,
            needs: Needs::default(),
            count: 0,
            bytes: 0,
        }
    }

    /// Number of queued commands.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// What they cost.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether any of them is for the writer.
    pub(crate) fn has_data(&self) -> bool {
        self.count > self.of_session.len()
    }

    /// Queues a command. False: there is no room for it.
    pub(crate) fn push(&mut self, d: &Dispatched, args: &Args<'_>) -> bool {
        // What was refused once is not executed: nothing need be kept.
        if self.failed {
            return true;
        }
        self.bytes += COMMAND_BYTES + args.payload_len() + args.len() * ARGUMENT_BYTES;
        if self.bytes > MAX_BYTES {
            return false;
        }
        match d.handler {
            Handler::Read(_) | Handler::Write(_) => push_data(&mut self.exec, self.db, args),
            Handler::Session(handler) => {
                push_session(&mut self.exec);
                self.of_session.push(OfSession {
                    at: self.count,
                    spec: d.spec,
                    handler,
                    request: self.session_requests.len(),
                });
                self.session_requests.push_copy(*args);
            }
        }
        self.count += 1;
        self.needs = self.needs.and(Needs::of(d.spec, args));
        let flags = d.spec.flags;
        let may_write = flags.intersects(Flags::WRITE | Flags::MAY_REPLICATE);
        if may_write && !declares_reads_only(d.spec, args) {
            self.write.get_or_insert(d.spec);
        }
        if flags.contains(Flags::DENYOOM) {
            self.denyoom.get_or_insert(d.spec);
        }
        true
    }

    /// EXEC: rules may have changed since the commands on data were queued. What is
    /// not allowed any more is answered by the connection.
    pub(crate) fn check_rights(&mut self, subject: &Subject) {
        let denied = |args: &Args<'_>| match resolve(args) {
            Resolved::Command(spec) if !subject.may(spec, args) => Some(spec),
            _ => None,
        };
        let queued = std::mem::take(&mut self.exec);
        let (mut exec, mut changed) = (empty_exec(), false);
        for (at, part) in parts(&queued.get(0)).enumerate() {
            let Part::Data(db, args) = part else {
                push_session(&mut exec);
                continue;
            };
            let Some(spec) = denied(&args) else {
                push_data(&mut exec, db, &args);
                continue;
            };
            push_session(&mut exec);
            changed = true;
            self.answer_otherwise(at, spec, &args);
        }
        self.exec = if changed { exec } else { queued };
    }

    /// The command at `at` is for the connection, which refuses it.
    fn answer_otherwise(&mut self, at: usize, spec: &'static CommandSpec, args: &Args<'_>) {
        let place = self.of_session.partition_point(|command| command.at < at);
        let refused = OfSession {
            at,
            spec,
            handler: no_longer_allowed,
            request: self.session_requests.len(),
        };
        self.session_requests.push_copy(*args);
        self.of_session.insert(place, refused);
    }
}

#[cfg(test)]
mod tests {
    use cairn_protocol::command::id;

    use super::*;
    use crate::commands::handler;

    #[test]
    fn a_transaction_is_bounded_by_what_it_costs_and_not_by_a_number_of_commands() {
        const MANY: usize = (1 << 20) + 1;
        let mut requests = Requests::default();
        requests.push_owned(["GET", "k"]);
        let (args, spec) = (requests.get(0), id::GET.spec());
        let d = Dispatched {
            spec,
            handler: handler(spec).expect("GET has a handler"),
            slot: None,
        };
        let mut multi = Multi::new(0);
        assert!((0..MANY).all(|_| multi.push(&d, &args)));
        assert_eq!(multi.len(), MANY);
        assert_eq!(
            multi.bytes(),
            MANY * (COMMAND_BYTES + 2 * ARGUMENT_BYTES + 4)
        );
        multi.bytes = MAX_BYTES;
        assert!(!multi.push(&d, &args));
    }
}
