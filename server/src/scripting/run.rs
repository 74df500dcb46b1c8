//! One run of a script or function: what it may do, and its commands.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cairn_protocol::command::{CommandSpec, Flags, Resolved, Routing, id, resolve, routing};
use cairn_protocol::resp::{Args, ReplyWriter, Requests, Version};
use cairn_protocol::slot::key_slot;

use super::debugger::Debugger;
use super::running::{self, Slow};
use crate::commands::SessionHandler;
use crate::commands::inner::{self, Answer, NotInner};
use crate::dispatch::NO_REPLICAS;
use crate::net::session::{Next, Session};
use crate::pubsub::Kind;
use crate::replication::follow::READ_ONLY;
use crate::storage::generations::DATABASES;
use crate::txn::{CommandError, InnerRun, Txn};

/// What a script's shebang or a function's registration allows it, bit by bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct ScriptFlags(u8);

impl ScriptFlags {
    pub const NO_WRITES: ScriptFlags = ScriptFlags(1);
    pub const ALLOW_OOM: ScriptFlags = ScriptFlags(2);
    pub const ALLOW_STALE: ScriptFlags = ScriptFlags(4);
    pub const NO_CLUSTER: ScriptFlags = ScriptFlags(8);
    pub const ALLOW_CROSS_SLOT: ScriptFlags = ScriptFlags(16);
    /// A script without a shebang: what it does is looked at as it does it.
    pub const UNDECLARED: ScriptFlags = ScriptFlags(32);

    /// Names in the order in which FUNCTION LIST shows them.
    pub const NAMES: &'static [(ScriptFlags, &'static str)] = &[
        (ScriptFlags::NO_WRITES, "no-writes"),
        (ScriptFlags::ALLOW_OOM, "allow-oom"),
        (ScriptFlags::ALLOW_STALE, "allow-stale"),
        (ScriptFlags::NO_CLUSTER, "no-cluster"),
        (ScriptFlags::ALLOW_CROSS_SLOT, "allow-cross-slot-keys"),
    ];

    pub fn has(self, flag: ScriptFlags) -> bool {
        self.0 & flag.0 != 0
    }

    pub fn with(self, flag: ScriptFlags) -> ScriptFlags {
        ScriptFlags(self.0 | flag.0)
    }
}

/// What is run, and for whom.
pub(super) struct Script<'a> {
    /// SHA1 of a script, name of a function.
    pub name: &'a [u8],
    /// A script of EVAL, not a function.
    pub eval: bool,
    pub flags: ScriptFlags,
    /// Called by a command that only reads.
    pub read_only: bool,
    /// The whole command.
    pub args: Args<'a>,
    /// How many of the arguments from the fourth on are keys.
    pub keys: usize,
}

/// Why a command of a script has no reply.
pub(super) enum Refusal {
    /// The error that the script is told: a text, or `-CODE text`.
    Text(Cow<'static, str>),
    /// The script must end now; the run has the reason.
    Abort,
}

/// See the module's documentation.
pub(super) struct Run<'a, 't> {
    script: &'a Script<'a>,
    txn: &'a mut Txn<'t>,
    /// The script's own database (SELECT).
    db: usize,
    /// What `redis.setresp` chose.
    pub version: Version,
    started: Instant,
    /// When the script becomes busy; `None`: never.
    threshold: Option<Duration>,
    /// The line that refuses what would grow memory, if it is used up.
    full: Option<&'static [u8]>,
    /// A command that writes was called.
    dirty: bool,
    /// The slot of its first key, in a cluster.
    slot: Option<u16>,
    /// Whether the keys of its group are all that its client knows of, once that was
    /// asked.
    finds_all: Option<bool>,
    /// Why the run must be undone.
    pub failure: Option<CommandError>,
    slow: Option<Arc<Slow>>,
    requests: Requests,
    reply: ReplyWriter,
    session: Option<Session>,
    calls: u32,
    debugger: Option<&'a Debugger>,
}

/// Of so many calls of a script the statistics know.
const COUNTED_CALLS: u32 = 1 << 16;

impl<'a, 't> Run<'a, 't> {
    pub fn new(
        script: &'a Script<'a>,
        txn: &'a mut Txn<'t>,
        full: Option<&'static [u8]>,
    ) -> Run<'a, 't> {
        Run {
            db: txn.db(),
            script,
            txn,
            version: Version::V2,
            started: Instant::now(),
            threshold: running::threshold(),
            full,
            dirty: false,
            slot: None,
            finds_all: None,
            failure: None,
            slow: None,
            requests: Requests::default(),
            reply: ReplyWriter::new(Version::V2),
            session: None,
            calls: 0,
            debugger: None,
        }
    }

    /// It stops where the debugger says, and is never busy: that one sees to it.
    pub fn debugged_by(mut self, debugger: &'a Debugger) -> Run<'a, 't> {
        (self.debugger, self.threshold) = (Some(debugger), None);
        self
    }

    pub fn debugger(&self) -> Option<&'a Debugger> {
        self.debugger
    }

    /// The words of the command that [`Run::request`] took.
    pub fn words(&self) -> Args<'_> {
        self.requests.get(0)
    }

    /// Takes the arguments of a command.
    pub fn request<'b>(&mut self, args: impl Iterator<Item = Cow<'b, [u8]>>) {
        self.requests.clear();
        self.requests.push_owned(args);
    }

    /// Whether the user of the script may run a command.
    pub fn may(&self, spec: &CommandSpec, args: &Args<'_>) -> bool {
        self.txn.subject().is_none_or(|user| user.may(spec, args))
    }

    /// Keeps what the script does from now on from replicas, or no longer.
    pub fn mute(&mut self, muted: bool) {
        self.txn.mute(muted);
    }

    /// The reply of the last command.
    pub fn reply(&self) -> Cow<'_, [u8]> {
        let mut segments = self.reply.segments();
        match (segments.next(), segments.next()) {
            (Some(only), None) => Cow::Borrowed(only),
            _ => Cow::Owned(self.reply.to_vec()),
        }
    }

    /// Runs the command that [`Run::request`] took.
    pub fn execute(&mut self) -> Result<(), Refusal> {
        self.reply.clear();
        self.reply.set_version(self.version);
        let args = self.requests.get(0);
        let found = inner::find(&args);
        let spec = match &found {
            Ok(command) => command.spec,
            Err(NotInner::Session(spec, _)) => spec,
            Err(NotInner::WrongArity(spec)) => {
                let refusal = Refusal::Text(Cow::Borrowed(WRONG_ARITY));
                self.note_rejected(spec, &refusal);
                return Err(refusal);
            }
            Err(NotInner::Unknown | NotInner::UnknownSubcommand(_)) => {
                return self.refuse_unknown(match is_noscript(&args) {
                    true => NOT_ALLOWED,
                    false => UNKNOWN,
                });
            }
        };
        if let Err(refusal) = self.check(spec) {
            self.note_rejected(spec, &refusal);
            return Err(refusal);
        }
        match found {
            Ok(command) => {
                let args = self.requests.get(0);
                self.calls += 1;
                if self.calls.is_multiple_of(COUNTED_CALLS) {
                    self.txn.take_inner();
                }
                match inner::run(self.txn, self.db, command, &args, &mut self.reply) {
                    Ok(Answer::Done) => Ok(()),
                    Ok(Answer::Failed(error)) => {
                        self.reply.error(error.to_string());
                        Ok(())
                    }
                    Err(error) => {
                        self.failure = Some(error);
                        Err(Refusal::Abort)
                    }
                }
            }
            Err(NotInner::Session(_, handler)) => self.count_session(spec, handler),
            Err(_) => refuse(UNKNOWN),
        }
    }

    /// The script is told that it cannot call that.
    fn refuse_unknown(&mut self, text: &'static str) -> Result<(), Refusal> {
        self.txn.note_error(format!("ERR {text}"));
        refuse(text)
    }

    fn note_rejected(&mut self, spec: &'static CommandSpec, refusal: &Refusal) {
        let Refusal::Text(text) = refusal else {
            return;
        };
        match text.strip_prefix('-') {
            Some(line) => self.txn.note_error(line),
            None => self.txn.note_error(format!("ERR {text}")),
        }
        self.txn.note_inner(InnerRun {
            spec,
            nanos: 0,
            failed: false,
            rejected: true,
        });
    }

    /// The run has written an error as its reply; `line`: one that no command
    /// within it has answered with.
    pub fn note_failed(&mut self, line: Option<String>) {
        self.txn.note_failed(line);
    }

    /// Whether the script may call this command now.
    fn check(&mut self, spec: &'static CommandSpec) -> Result<(), Refusal> {
        let flags = spec.flags;
        if flags.contains(Flags::NOSCRIPT) && !running::everything_is_allowed() {
            return refuse(NOT_ALLOWED);
        }
        let args = self.requests.get(0);
        if let Err(denied) = self.txn.check_rights(spec, &args) {
            return refuse(denied.line_in_script());
        }
        if self.is_read_only() && flags.intersects(Flags::WRITE | Flags::MAY_REPLICATE) {
            return refuse("Write commands are not allowed from read-only scripts.");
        }
        if matches!(routing(spec), Routing::AllGroups(_)) && !self.finds_all() {
            return Err(Refusal::Text(one_group_only(spec).into()));
        }
        if let Some(line) = self.full
            && !self.dirty
            && !self.script.flags.has(ScriptFlags::ALLOW_OOM)
            && flags.contains(Flags::DENYOOM)
        {
            let line = String::from_utf8_lossy(line);
            return Err(Refusal::Text(format!("-{line}").into()));
        }
        let (read_only, stale) = super::replica_forbids(self.txn);
        if stale && !flags.contains(Flags::STALE) {
            return refuse("Can not execute the command on a stale replica");
        }
        if flags.contains(Flags::WRITE) && !self.dirty && read_only {
            return Err(Refusal::Text(format!("-{READ_ONLY}").into()));
        }
        if flags.contains(Flags::WRITE) && !self.dirty && super::too_few_replicas() {
            return Err(Refusal::Text(format!("-{NO_REPLICAS}").into()));
        }
        if flags.contains(Flags::WRITE) && !self.dirty {
            self.dirty = true;
            if let Some(slow) = &self.slow {
                slow.dirty.store(true, Ordering::Release);
            }
        }
        self.check_slots(spec)?;
        if [id::XREAD, id::XREADGROUP].contains(&spec.id) && self.has_block_option() {
            let line = format!(
                "-ERR {} command is not allowed with BLOCK option from scripts",
                spec.name
            );
            self.reply.error(&line[1..]);
            return Err(Refusal::Text(line.into()));
        }
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        self.script.read_only || self.script.flags.has(ScriptFlags::NO_WRITES)
    }

    /// Whether a command about all keys finds them. A script is one batch of one group:
    /// it sees the keys of that one, and would flush that one alone. On a node these are
    /// all if it has no other group, as on a node of Redis Cluster; to the clients of a
    /// proxy, which know of no nodes, only if there is no other in the cluster.
    fn finds_all(&mut self) -> bool {
        let context = self.txn.context();
        if !context.cluster {
            return true;
        }
        let behind_proxy = context.behind_proxy;
        *self.finds_all.get_or_insert_with(|| match behind_proxy {
            true => self.txn.serves_all(),
            false => !super::is_among_groups(),
        })
    }

    /// Which keys a script may use in a cluster: those of slots that the group
    /// serves, as Redis has it of a node. Only the slot of its declared keys was
    /// looked at when the command was let in; any other, which may be on the
    /// move, is looked at here.
    fn check_slots(&mut self, spec: &CommandSpec) -> Result<(), Refusal> {
        if !self.txn.context().cluster {
            return Ok(());
        }
        let slot = match spec.one_slot(&self.requests.get(0)) {
            Ok(None) => return Ok(()),
            Ok(Some(slot)) => slot,
            Err(_) => return refuse(NOT_LOCAL),
        };
        let declared = (self.script.keys > 0).then(|| key_slot(self.script.args.get(3)));
        if declared != Some(slot) && !self.txn.serves(slot) {
            let untouched = declared.or(self.slot).is_none() && self.session.is_none();
            if untouched && self.txn.context().roams {
                self.failure = Some(CommandError::Elsewhere(slot));
                return Err(Refusal::Abort);
            }
            return refuse(NOT_LOCAL);
        }
        let first = *self.slot.get_or_insert(declared.unwrap_or(slot));
        let flags = self.script.flags;
        let anywhere =
            flags.has(ScriptFlags::UNDECLARED) || flags.has(ScriptFlags::ALLOW_CROSS_SLOT);
        if slot != first && !anywhere {
            return refuse("Script attempted to access keys that do not hash to the same slot");
        }
        self.txn.turn_to(slot);
        Ok(())
    }

    fn has_block_option(&self) -> bool {
        let args = self.requests.get(0);
        args.iter()
            .skip(1)
            .take_while(|arg| !arg.eq_ignore_ascii_case(b"streams"))
            .any(|arg| arg.eq_ignore_ascii_case(b"block"))
    }

    fn count_session(
        &mut self,
        spec: &'static CommandSpec,
        handler: SessionHandler,
    ) -> Result<(), Refusal> {
        let started = Instant::now();
        self.run_session(spec, handler)?;
        let reply = self.reply();
        let line = reply.strip_prefix(b"-").map(|line| {
            let line = line.trim_ascii_end();
            String::from_utf8_lossy(line).into_owned()
        });
        let failed = line.is_some();
        line.into_iter().for_each(|line| self.txn.note_error(line));
        self.txn.note_inner(InnerRun {
            spec,
            nanos: started.elapsed().as_nanos().min(u32::MAX as u128) as u32,
            failed,
            rejected: false,
        });
        Ok(())
    }

    /// A command that is not on data: some of them are known here, the rest
    /// gets a connection of its own that no client has.
    fn run_session(
        &mut self,
        spec: &'static CommandSpec,
        handler: SessionHandler,
    ) -> Result<(), Refusal> {
        let args = self.requests.get(0);
        match spec.id {
            id::PING if args.len() == 1 => self.reply.simple("PONG"),
            id::PING if args.len() == 2 => self.reply.bulk(args.get(1)),
            id::PING => self
                .reply
                .error("ERR wrong number of arguments for 'ping' command"),
            id::ECHO => self.reply.bulk(args.get(1)),
            id::TIME => {
                let now = self.txn.now();
                self.reply.array(2);
                self.reply.bulk((now / 1000).to_string().as_bytes());
                self.reply.bulk((now % 1000 * 1000).to_string().as_bytes());
            }
            id::SELECT => match crate::commands::scripting::database(args.get(1)) {
                Ok(db) if db < DATABASES => {
                    self.db = db;
                    self.reply.ok();
                }
                Ok(_) => self.reply.error("ERR DB index is out of range"),
                Err(error) => self.reply.error(error.to_string()),
            },
            // Nobody hears what does not happen.
            id::PUBLISH | id::SPUBLISH if self.debugger.is_some_and(|d| d.is_scratch) => {
                self.reply.integer(0);
            }
            id::PUBLISH => return self.publish(Kind::Channel),
            id::SPUBLISH => return self.publish(Kind::Shard),
            // It waits for the writer, which is running this script.
            id::MIGRATE => return refuse(NOT_ALLOWED),
            _ => self.run_on_session(handler)?,
        }
        Ok(())
    }

    /// PUBLISH and SPUBLISH: whoever hears of it finds what the script has changed, so
    /// it is sent once that is applied.
    fn publish(&mut self, kind: Kind) -> Result<(), Refusal> {
        if self.session.is_none() {
            self.session = super::session();
        }
        let Some(session) = &self.session else {
            return refuse("This Redis command is not allowed from script");
        };
        let args = self.requests.get(0);
        let server = session.server.clone();
        let receivers = server.pubsub().receivers(args.get(1), kind);
        let (channel, message) = (args.get(1).to_vec(), args.get(2).to_vec());
        self.txn.after(Box::new(move || {
            match kind {
                Kind::Shard => server.publish_to_shard(&channel, &message),
                Kind::Channel | Kind::Pattern => server.publish(&channel, &message),
            };
        }));
        if self.txn.is_recorded() {
            self.txn.record(args.iter());
        }
        self.reply.integer(receivers as i64);
        Ok(())
    }

    fn run_on_session(&mut self, handler: SessionHandler) -> Result<(), Refusal> {
        if self.session.is_none() {
            self.session = super::session();
        }
        let Some(session) = &mut self.session else {
            return refuse("This Redis command is not allowed from script");
        };
        session.select(self.db);
        session.version = self.version;
        let args = self.requests.get(0);
        match handler(session, &args, &mut self.reply) {
            Ok(Next::Continue) => {}
            Ok(Next::Work(work)) => work(&mut self.reply),
            Ok(_) => return refuse("This Redis command is not allowed from script"),
            Err(error) => {
                self.reply.clear();
                self.reply.error(error.to_string());
            }
        }
        Ok(())
    }

    /// Asked from time to time while the script runs: whether it must end.
    pub fn is_interrupted(&mut self) -> Option<super::host::Abort> {
        let limit = self.threshold?;
        if self.started.elapsed() < limit {
            return None;
        }
        let slow = self.slow.get_or_insert_with(|| {
            let slow = running::enter(self.script, self.started);
            slow.dirty.store(self.dirty, Ordering::Release);
            slow
        });
        running::refuse_waiting();
        if slow.stop.load(Ordering::Acquire) {
            self.failure = Some(CommandError::fixed("ERR the server is stopping"));
            return Some(super::host::Abort::Undo);
        }
        let killed = slow.kill.load(Ordering::Acquire);
        killed.then_some(super::host::Abort::Killed)
    }
}

impl Drop for Run<'_, '_> {
    fn drop(&mut self) {
        self.txn.mute(false);
        if let Some(slow) = &self.slow {
            running::leave(slow);
        }
    }
}

fn refuse(text: &'static str) -> Result<(), Refusal> {
    Err(Refusal::Text(Cow::Borrowed(text)))
}

fn one_group_only(spec: &CommandSpec) -> String {
    let name = spec.name;
    format!("'{name}' is about several groups, a script about one")
}

/// A command that is known, and not served here, may be one that no script may call.
fn is_noscript(args: &Args<'_>) -> bool {
    match resolve(args) {
        Resolved::Command(spec) => {
            spec.flags.contains(Flags::NOSCRIPT) && !running::everything_is_allowed()
        }
        _ => false,
    }
}

const NOT_ALLOWED: &str = "This Redis command is not allowed from script";
const NOT_LOCAL: &str = "Script attempted to access a non local key in a cluster node";
const WRONG_ARITY: &str = "Wrong number of args calling Redis command from script";
const UNKNOWN: &str = "Unknown Redis command called from script";
