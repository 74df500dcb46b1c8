//! Scripts that have run past their limit: who they are, who may end them, and
//! what other clients are told meanwhile.
//!
//! A script is entered here only once it is slow; a fast one costs nothing. As
//! long as any is here, other clients' commands are answered BUSY.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::run::Script;
use crate::group::Group;
use crate::txn::CommandError;

/// A script that has run past its limit.
pub(super) struct Slow {
    pub name: Vec<u8>,
    pub eval: bool,
    pub command: Vec<Vec<u8>>,
    pub started: Instant,
    /// It has called a command that writes.
    pub dirty: AtomicBool,
    /// SCRIPT KILL or FUNCTION KILL: it ends with an error.
    pub kill: AtomicBool,
    /// The server stops: it ends, and nothing of it is left.
    pub stop: AtomicBool,
}

/// All of them. Guards a list that is nearly always empty.
static RUNNING: Mutex<Vec<Arc<Slow>>> = Mutex::new(Vec::new());
/// Length of `RUNNING`.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// `busy-reply-threshold`, milliseconds; 0: none.
static THRESHOLD_MS: AtomicI64 = AtomicI64::new(5000);
/// DEBUG SET-DISABLE-DENY-SCRIPTS.
static ALLOW_EVERYTHING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The group whose writer this thread is.
    static GROUP: RefCell<Weak<Group>> = const { RefCell::new(Weak::new()) };
}

pub(super) fn threshold() -> Option<Duration> {
    let ms = THRESHOLD_MS.load(Ordering::Relaxed);
    u64::try_from(ms)
        .ok()
        .filter(|ms| *ms > 0)
        .map(Duration::from_millis)
}

/// Takes over `busy-reply-threshold`.
pub(super) fn set_threshold_ms(ms: i64) {
    THRESHOLD_MS.store(ms, Ordering::Relaxed);
}

/// Lets scripts call what is otherwise denied to them, or no longer.
pub fn allow_everything(on: bool) {
    ALLOW_EVERYTHING.store(on, Ordering::Relaxed);
}

pub(super) fn everything_is_allowed() -> bool {
    ALLOW_EVERYTHING.load(Ordering::Relaxed)
}

/// This thread runs scripts of `group` as its writer.
pub fn write_for(group: &Arc<Group>) {
    GROUP.with_borrow_mut(|current| *current = Arc::downgrade(group));
}

pub(super) fn enter(script: &Script<'_>, started: Instant) -> Arc<Slow> {
    let slow = Arc::new(Slow {
        name: script.name.to_vec(),
        eval: script.eval,
        command: script.args.iter().map(<[u8]>::to_vec).collect(),
        started,
        dirty: AtomicBool::new(false),
        kill: AtomicBool::new(false),
        stop: AtomicBool::new(false),
    });
    tracing::warn!(
        script = %String::from_utf8_lossy(&slow.name),
        ms = started.elapsed().as_millis() as u64,
        "slow script detected: still in execution; {} can end it",
        if slow.eval { "SCRIPT KILL" } else { "FUNCTION KILL" },
    );
    let mut running = RUNNING.lock();
    running.push(slow.clone());
    COUNT.store(running.len(), Ordering::Release);
    slow
}

pub(super) fn leave(slow: &Arc<Slow>) {
    let mut running = RUNNING.lock();
    running.retain(|other| !Arc::ptr_eq(other, slow));
    COUNT.store(running.len(), Ordering::Release);
}

/// Answers BUSY to what waits for this thread's writer.
pub(super) fn refuse_waiting() {
    let group = GROUP.with_borrow(Weak::upgrade);
    if let Some(group) = group {
        group.refuse_clients();
    }
}

/// The script that others wait for, if there is one.
fn current() -> Option<Arc<Slow>> {
    if COUNT.load(Ordering::Acquire) == 0 {
        return None;
    }
    RUNNING.lock().first().cloned()
}

/// The line that other clients get while a script is busy.
pub fn busy_line() -> Option<&'static str> {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return None;
    }
    current().map(|slow| if slow.eval { BUSY_EVAL } else { BUSY_FUNCTION })
}

/// SCRIPT KILL (`eval`) and FUNCTION KILL.
///
/// # Errors
/// There is none, it may not be killed, or it is of the other kind.
pub(crate) fn kill(eval: bool) -> Result<(), CommandError> {
    let Some(slow) = current() else {
        return Err(CommandError::fixed(
            "NOTBUSY No scripts in execution right now.",
        ));
    };
    if slow.dirty.load(Ordering::Acquire) {
        return Err(CommandError::fixed(UNKILLABLE));
    }
    match (eval, slow.eval) {
        (true, false) => Err(CommandError::fixed(BUSY_FUNCTION)),
        (false, true) => Err(CommandError::fixed(BUSY_EVAL)),
        _ => {
            slow.kill.store(true, Ordering::Release);
            Ok(())
        }
    }
}

/// The server stops: no script is waited for.
pub fn stop_all() {
    let running = RUNNING.lock();
    running
        .iter()
        .for_each(|slow| slow.stop.store(true, Ordering::Release));
}

/// What FUNCTION STATS tells of a function that runs: name, command, milliseconds.
pub(crate) struct Snapshot {
    pub name: Vec<u8>,
    pub command: Vec<Vec<u8>>,
    pub duration_ms: u64,
}

/// The function that runs past its limit, if one does.
///
/// # Errors
/// A script of EVAL does.
pub(crate) fn snapshot() -> Result<Option<Snapshot>, CommandError> {
    match current() {
        None => Ok(None),
        Some(slow) if slow.eval => Err(CommandError::fixed(BUSY_EVAL)),
        Some(slow) => Ok(Some(Snapshot {
            name: slow.name.clone(),
            command: slow.command.clone(),
            duration_ms: slow.started.elapsed().as_millis() as u64,
        })),
    }
}

const BUSY_EVAL: &str =
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
const BUSY_FUNCTION: &str =
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";
const UNKILLABLE: &str = "UNKILLABLE Sorry the script already executed write commands against \
    the dataset. You can either wait the script termination or kill the server in a hard way \
    using the SHUTDOWN NOSAVE command.";
