//! EVAL with the debugger on (SCRIPT DEBUG): the socket is the script's until it
//! has ended, and closed then, which tells the client so.
//!
//! After SCRIPT DEBUG SYNC the script is a command like any other: it has the
//! writer, everybody who writes waits, and what it changes is kept. After SCRIPT
//! DEBUG YES it runs on a moment just pinned, on a thread of its own, and what it
//! changes is thrown away; nobody waits.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cairn_protocol::acl::Subject;
use cairn_protocol::resp::{Args, ReplyWriter};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Connection, End, GroupHandle};
use crate::commands::DataHandler;
use crate::dispatch::Dispatched;
use crate::group::Group;
use crate::scripting::debugger::{self, Debugger, Wire};
use crate::storage::{Held, Pin};
use crate::txn::overlay::Overlay;
use crate::txn::{Txn, TxnContext};

/// Scripts that are debugged apart at a time: each has a thread, and keeps garbage.
const MAX_APART: usize = 16;
static APART: AtomicUsize = AtomicUsize::new(0);
/// Room for C's recursion in Lua, as for other scripts.
const STACK: usize = 8 << 20;
/// So long the client may take to read what the debugger says.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any command is fetched for: it waits for the disk in place, because it
/// cannot be run twice.
const IN_PLACE: u8 = 100;

const TOO_MANY: &str = "ERR too many scripts are being debugged";
const NO_MOMENT: &str = "ERR the data could not be pinned for the debugger; try again";

/// How a script is debugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debugging {
    /// What it changes is thrown away.
    Apart,
    /// In the writer.
    Sync,
}

/// One of the scripts that are debugged apart.
struct Place;

impl Place {
    fn take() -> Option<Place> {
        let taken = APART.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
            (n < MAX_APART).then_some(n + 1)
        });
        taken.is_ok().then_some(Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        APART.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Connection {
    pub(super) async fn debug(
        &mut self,
        request: usize,
        d: Dispatched,
        handler: DataHandler,
        group: GroupHandle,
        how: Debugging,
    ) -> Result<(), End> {
        self.submit().await?;
        self.flush().await?;
        let (debugger, wire) = Debugger::new(how == Debugging::Apart);
        let debugger = Arc::new(Mutex::new(debugger));
        match how {
            Debugging::Apart => {
                let place = Place::take();
                let Some(place) = place else {
                    return self.answer_error(TOO_MANY.as_bytes()).await;
                };
                self.debug_apart(request, (d, handler), &group, debugger.clone(), wire, place)
                    .await?;
            }
            Debugging::Sync => {
                self.debug_in_writer(request, (d, handler), group, debugger.clone(), wire)
                    .await?;
            }
        }
        let last = debugger.lock().end();
        let sent = tokio::time::timeout(PATIENCE, self.stream.write_all(&last)).await;
        if matches!(sent, Ok(Ok(()))) {
            self.flush().await?;
            let _ = self.stream.shutdown().await;
        }
        Err(End::Closed)
    }

    async fn debug_in_writer(
        &mut self,
        request: usize,
        (d, handler): (Dispatched, DataHandler),
        group: GroupHandle,
        debugger: Arc<Mutex<Debugger>>,
        wire: Wire,
    ) -> Result<(), End> {
        self.enqueue(request, d, handler, group.clone(), false);
        self.pending.last_mut().expect("just queued").tries = IN_PLACE;
        self.pending_group = None;
        self.lend();
        self.submission.lock().debugger = Some(debugger);
        group.submit(self.submission.clone());
        group.refuse_if_unready();
        self.turns.request(&group);
        let submission = self.submission.clone();
        self.relay(wire, submission.finished()).await;
        self.take_back();
        self.settle(&group).await?;
        self.pending.clear();
        Ok(())
    }

    async fn debug_apart(
        &mut self,
        request: usize,
        (d, handler): (Dispatched, DataHandler),
        group: &Arc<Group>,
        debugger: Arc<Mutex<Debugger>>,
        wire: Wire,
        place: Place,
    ) -> Result<(), End> {
        let context = TxnContext {
            // Nobody is told of what did not happen.
            events: false,
            misses: false,
            monitored: false,
            recorded: false,
            ..group.context(self.session.db, d.slot, group.now(), true)
        };
        let one = self.requests.share(request);
        let subject = self.session.subject().cloned();
        let mut out = ReplyWriter::new(self.session.version);
        let group = group.clone();
        let (done, finished) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("debugger".into())
            .stack_size(STACK)
            .spawn(move || {
                let _place = place;
                let _here = debugger::debug_here(debugger);
                let args = one.get(0);
                run_apart(
                    &group,
                    context,
                    handler,
                    &args,
                    subject.as_deref(),
                    &mut out,
                );
                // Nobody waits any more: the server stops.
                let _ = done.send(out);
            })?;
        match self.relay(wire, finished).await {
            Ok(mut reply) => self.out.append(&mut reply),
            Err(_) => return Err(End::Closed),
        }
        Ok(())
    }

    /// Passes bytes from and to the client until `done`.
    async fn relay<T>(&mut self, mut wire: Wire, done: impl Future<Output = T>) -> T {
        tokio::pin!(done);
        let client = self.session.client.clone();
        let mut buffer = vec![0; 4096];
        loop {
            let is_there = wire.to_script.is_some();
            tokio::select! {
                biased;
                // Nothing is lost by whichever comes first: all are asked again.
                Some(bytes) = wire.from_script.recv() => {
                    let sent = tokio::time::timeout(PATIENCE, self.stream.write_all(&bytes)).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        wire.to_script = None;
                    }
                }
                ended = &mut done => {
                    while let Ok(bytes) = wire.from_script.try_recv() {
                        let write = self.stream.write_all(&bytes);
                        let _ = tokio::time::timeout(PATIENCE, write).await;
                    }
                    return ended;
                }
                read = self.stream.read(&mut buffer), if is_there => {
                    let bytes = match read {
                        Ok(n) if n > 0 => buffer[..n].to_vec(),
                        _ => Vec::new(),
                    };
                    let script = wire.to_script.take().filter(|_| !bytes.is_empty());
                    wire.to_script = script.filter(|script| script.send(bytes).is_ok());
                }
                () = client.killed(), if is_there => wire.to_script = None,
            }
        }
    }
}

/// Runs a script on what is pinned, and throws away what it changes.
fn run_apart(
    group: &Group,
    context: TxnContext,
    handler: DataHandler,
    args: &Args<'_>,
    subject: Option<&Subject>,
    out: &mut ReplyWriter,
) {
    // What dies meanwhile is still read here.
    let _hold = group.store.hold_garbage(Held::Everything);
    let Some(pin) = Pin::passing(&group.store) else {
        return out.error(NO_MOMENT);
    };
    let maps = pin.maps().clone();
    let mut overlay = Overlay::new(maps, group.store.next_version());
    let mut txn = Txn::scratch(&pin, &mut overlay, context)
        .on_behalf_of(subject)
        .within(group.served_slots());
    let mark = out.mark();
    if let Err(error) = handler(&mut txn, args, out) {
        out.truncate(mark);
        out.error(error.to_string());
    }
}
