//! Commands on their way through a group's writer, and their replies back.
//!
//! A connection owns one [`Submission`] and uses it again and again: it fills
//! it, hands it to the group, and waits. The writer evaluates what it can; a
//! command that must be run again by its owner (cold data, a frozen slot)
//! stops its stream, and the owner submits the rest anew. The mutex is hardly
//! contended: owner and writer take turns, and the writer looks at what is
//! queued before its turn comes (`elements`), for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use cairn_protocol::acl::Subject;
use cairn_protocol::command::CommandSpec;
use cairn_protocol::resp::{Mark, ReplyWriter, Requests, Version};
use futures::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};

use super::blocked::Waiter;
use super::watch::WatcherId;
use crate::commands::DataHandler;
use crate::scripting::debugger::Debugger;
use crate::scripting::runs_scripts;
use crate::storage::Followed;
use crate::txn::{Call, InnerRun, Nested};

/// What became of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not evaluated yet.
    Pending,
    /// Evaluated; its reply is in the writer up to `QueuedCommand::reply_end`.
    Done,
    /// Not in memory: fetch, then submit again.
    Cold,
    /// A read whose reply is to leave in pieces, which is not the writer's affair.
    Large,
    /// It waits for its keys: see `SubmissionState::blocked`.
    Blocked,
    /// The slot is frozen by a move: wait, then submit again.
    Frozen,
    /// The slot is not served by this group.
    Moved,
    /// Definitely not executed (the term was lost, the queue was full).
    NotExecuted,
    /// Proposed, and its fate is not known.
    Unknown,
}

/// One command of a submission.
#[derive(Clone, Copy)]
pub struct QueuedCommand {
    /// Index in the submission's requests.
    pub request: u32,
    pub spec: &'static CommandSpec,
    pub handler: DataHandler,
    pub db: u8,
    /// The client whose command it is; 0: one behind a proxy.
    pub client: u64,
    /// Whether what it reads is remembered for client-side caching.
    pub track: bool,
    pub version: Version,
    /// The slot of its keys, if it has any.
    pub slot: Option<u16>,
    /// Commands of one stream are evaluated in order; a stopped one stops the rest.
    pub stream: u32,
    /// How often it was found cold.
    pub tries: u8,
    /// A read whose reply may leave in pieces if it is large.
    pub pieces: bool,
    /// Who watches with it (WATCH), or whose watches decide (EXEC); 0: nobody.
    pub watcher: WatcherId,
    /// Not executed if it was not begun by then.
    pub begin_by: Option<Instant>,
    pub outcome: Outcome,
    /// End of its reply in the submission's replies.
    pub reply_end: Option<Mark>,
    /// Time of evaluation.
    pub nanos: u32,
    /// It answered with an error.
    pub failed: bool,
    /// See `TxnContext::roams`.
    pub roams: bool,
    /// See `TxnContext::behind_proxy`.
    pub behind_proxy: bool,
    /// It did not fit into an entry with what was before it: it is to begin one.
    pub begins_entry: bool,
}

impl QueuedCommand {
    /// The `request`-th of a submission, in database 0: of no client, keyless, by
    /// itself, and not begun. What differs the caller sets.
    pub fn new(request: u32, spec: &'static CommandSpec, handler: DataHandler) -> QueuedCommand {
        QueuedCommand {
            request,
            spec,
            handler,
            db: 0,
            client: 0,
            track: false,
            version: Version::V2,
            slot: None,
            stream: 0,
            tries: 0,
            pieces: false,
            watcher: 0,
            begin_by: None,
            outcome: Outcome::Pending,
            reply_end: None,
            nanos: 0,
            failed: false,
            roams: false,
            behind_proxy: false,
            begins_entry: false,
        }
    }
}

/// See the module's documentation.
pub struct Submission {
    state: Mutex<SubmissionState>,
    /// Beside the state, which the writer holds for as long as a script runs:
    /// an owner that asks must not wait for that.
    done: AtomicBool,
    owner: AtomicWaker,
    /// Some of its commands run scripts; see [`Submission::has_scripts`].
    scripts: AtomicBool,
    /// See [`Submission::begins_entry`].
    first: AtomicBool,
}

/// Whose rights must be looked at while the commands of a submission run.
pub enum Subjects {
    /// Of all its commands; `None`: nobody's.
    All(Option<Arc<Subject>>),
    /// Of some, by the command's index, in order.
    Some(Vec<(usize, Arc<Subject>)>),
}

impl Default for Subjects {
    fn default() -> Subjects {
        Subjects::All(None)
    }
}

impl Subjects {
    /// Of one command.
    pub fn of(&self, at: usize) -> Option<&Subject> {
        match self {
            Subjects::All(subject) => subject.as_deref(),
            Subjects::Some(some) => {
                let found = some.binary_search_by_key(&at, |(of, _)| *of).ok()?;
                Some(&some[found].1)
            }
        }
    }

    /// Adds that of a command behind those that are known.
    pub fn push(&mut self, at: usize, subject: Arc<Subject>) {
        match self {
            Subjects::Some(some) => some.push((at, subject)),
            Subjects::All(_) => *self = Subjects::Some(vec![(at, subject)]),
        }
    }
}

/// What a batch is that came from the master that is followed. It is evaluated as a
/// whole, or not at all.
pub struct OfMaster {
    /// See [`Group::stream_epoch`](super::Group).
    pub epoch: u64,
    /// How far the stream is behind it.
    pub followed: Followed,
    /// Its part of the stream, for replicas of this server.
    pub bytes: Bytes,
}

/// What a submission holds.
pub struct SubmissionState {
    pub requests: Requests,
    pub commands: Vec<QueuedCommand>,
    /// The connection's own output, lent for the time of the submission.
    pub replies: ReplyWriter,
    /// Where the replies of this submission begin.
    pub base: Option<Mark>,
    /// Those that wait: index of the command, and its waiter. The owner takes them.
    pub blocked: Vec<(usize, Arc<Waiter>)>,
    /// What ran within EXECs and scripts, by index of the command. The owner
    /// takes them.
    pub inner: Vec<(usize, InnerRun)>,
    /// Whose commands these are, where rights must be looked at while they run.
    pub subjects: Subjects,
    /// Error lines that were answered with. The owner takes them.
    pub errors: Vec<String>,
    /// What EXECs ran, for MONITOR, by their requests. The owner takes it.
    pub calls: Vec<(u32, Call)>,
    /// The owner's session, lent to the EXEC that is the only command.
    pub nested: Option<Arc<Mutex<dyn Nested>>>,
    /// Of the script that is the only command. The owner takes it back.
    pub(crate) debugger: Option<Arc<Mutex<Debugger>>>,
    pub of_master: Option<OfMaster>,
}

/// What a submission has of its owner while it is under way. The owner has the same.
pub struct Lent<'a> {
    pub requests: &'a mut Requests,
    pub commands: &'a mut Vec<QueuedCommand>,
    pub replies: &'a mut ReplyWriter,
    pub blocked: &'a mut Vec<(usize, Arc<Waiter>)>,
    pub inner: &'a mut Vec<(usize, InnerRun)>,
    pub errors: &'a mut Vec<String>,
}

impl SubmissionState {
    /// Takes what the owner lends, or gives back what became of it: lists change
    /// places, so that both keep their room.
    pub fn exchange(&mut self, own: Lent<'_>) {
        let Lent {
            requests,
            commands,
            replies,
            blocked,
            inner,
            errors,
        } = own;
        std::mem::swap(&mut self.requests, requests);
        std::mem::swap(&mut self.commands, commands);
        std::mem::swap(&mut self.replies, replies);
        std::mem::swap(&mut self.blocked, blocked);
        std::mem::swap(&mut self.inner, inner);
        std::mem::swap(&mut self.errors, errors);
    }
}

impl Default for SubmissionState {
    fn default() -> SubmissionState {
        SubmissionState {
            requests: Requests::default(),
            commands: Vec::new(),
            replies: ReplyWriter::new(Version::V2),
            base: None,
            blocked: Vec::new(),
            inner: Vec::new(),
            subjects: Subjects::default(),
            errors: Vec::new(),
            calls: Vec::new(),
            nested: None,
            debugger: None,
            of_master: None,
        }
    }
}

impl Default for Submission {
    fn default() -> Submission {
        Submission {
            state: Mutex::default(),
            done: AtomicBool::new(true),
            owner: AtomicWaker::new(),
            scripts: AtomicBool::new(false),
            first: AtomicBool::new(false),
        }
    }
}

impl Submission {
    pub fn lock(&self) -> MutexGuard<'_, SubmissionState> {
        self.state.lock()
    }

    /// `None`: somebody else has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, SubmissionState>> {
        self.state.try_lock()
    }

    /// Owner, before handing it to the group.
    pub fn begin(&self) {
        self.done.store(false, Ordering::Release);
        let state = self.state.lock();
        let scripts = state
            .commands
            .iter()
            .any(|c| runs_scripts(c.spec, || state.requests.get(c.request as usize)));
        self.scripts.store(scripts, Ordering::Relaxed);
        let mut commands = state.commands.iter();
        let next = commands.find(|c| c.outcome == Outcome::Pending);
        // What is debugged cannot be run twice.
        let first = state.debugger.is_some() || next.is_some_and(|c| c.begins_entry);
        self.first.store(first, Ordering::Relaxed);
    }

    /// Whether it belongs on the thread where scripts run.
    pub fn has_scripts(&self) -> bool {
        self.scripts.load(Ordering::Relaxed)
    }

    /// Whether it is to be the first of an entry.
    pub fn begins_entry(&self) -> bool {
        self.first.load(Ordering::Relaxed)
    }

    /// Writer: every command has its outcome and what it shows is durable.
    pub fn finish(&self) {
        self.done.store(true, Ordering::Release);
        self.owner.wake();
    }

    /// Owner: waits for [`Submission::finish`]. Dropping the future is safe;
    /// the submission itself must not be used again before it is finished.
    pub async fn finished(self: &Arc<Self>) {
        std::future::poll_fn(|cx| self.poll_finished(cx)).await;
    }

    /// [`Submission::finished`] as a poll.
    pub fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.done.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.owner.register(cx.waker());
        // It may have finished just before.
        match self.done.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
