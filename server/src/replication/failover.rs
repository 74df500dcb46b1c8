//! FAILOVER: a server that leads and one of its replicas change places.
//!
//! From its beginning on writes wait (`pause`). Once a replica has said that it has
//! the whole stream, the server follows it, beginning where that stream ends: it asks
//! for it by PSYNC with the word FAILOVER, at which the replica leads. Writes go on
//! waiting until it has answered, and are refused then, as to any replica.
//!
//! Standalone only. Owned by the server; the thread of the upkeep looks on, and has
//! the group's writer hand over between two entries of the log: what is in the stream
//! then is exactly what is in the data set. Nothing that a client began before is
//! done afterwards (`group::writer`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::feed::Feed;
use super::follow::{self, Master};
use crate::server::{Home, Server};

/// How far it is, by the names that INFO shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    Over,
    WaitsForSync,
    HandsOver,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Over => "no-failover",
            Phase::WaitsForSync => "waiting-for-sync",
            Phase::HandsOver => "failover-in-progress",
        }
    }
}

/// What FAILOVER was asked for.
#[derive(Debug)]
pub struct Attempt {
    /// Who is to lead; `None`: any replica.
    target: Option<Master>,
    /// When it has waited long enough.
    until: Option<Instant>,
    /// The target leads then, whatever it has.
    force: bool,
    /// The target is followed already.
    hands_over: bool,
    /// Somebody is about to end it.
    is_aborted: bool,
}

impl Attempt {
    /// `timeout_ms` 0: it waits for ever.
    pub fn new(target: Option<Master>, timeout_ms: u64, force: bool) -> Attempt {
        let timeout = Some(timeout_ms).filter(|ms| *ms > 0);
        let until = timeout.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        Attempt {
            target,
            until,
            force,
            hands_over: false,
            is_aborted: false,
        }
    }

    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    fn target_name(&self) -> String {
        match &self.target {
            Some(Master { host, port }) => format!("{host}:{port}"),
            None => "any replica".to_owned(),
        }
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Failover {
    /// Held while it is handed over, which takes no time. Looked at by commands that
    /// are rare.
    attempt: Mutex<Option<Attempt>>,
}

/// What is to be done about it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    HandOver,
    GiveUp,
}

impl Failover {
    pub fn phase(&self) -> Phase {
        match &*self.attempt.lock() {
            None => Phase::Over,
            Some(attempt) if attempt.hands_over => Phase::HandsOver,
            Some(_) => Phase::WaitsForSync,
        }
    }

    /// It is over, and so is its pause.
    fn end(attempt: &mut Option<Attempt>, server: &Server) {
        if attempt.take().is_some() {
            server.pause.set_failing_over(false);
        }
    }

    fn due(&self, feed: &Feed) -> Option<Due> {
        let guard = self.attempt.lock();
        let attempt = guard.as_ref().filter(|attempt| !attempt.hands_over)?;
        match (attempt.is_late(), attempt.force) {
            (true, true) => Some(Due::HandOver),
            (true, false) => Some(Due::GiveUp),
            (false, _) => feed
                .has_in_step(attempt.target.as_ref())
                .then_some(Due::HandOver),
        }
    }
}

/// Begins. False: one is under way already.
pub(crate) fn begin(server: &Server, attempt: Attempt) -> bool {
    let mut guard = server.failover.attempt.lock();
    if guard.is_some() {
        return false;
    }
    tracing::info!("FAILOVER requested to {}.", attempt.target_name());
    // Under the lock, as its end is.
    server.pause.set_failing_over(true);
    *guard = Some(attempt);
    true
}

/// Ends it without success; the server leads on. False: there was none.
pub(crate) fn abort(server: &Server, why: &str) -> bool {
    let failover = &server.failover;
    {
        let mut guard = failover.attempt.lock();
        let Some(attempt) = guard.as_mut().filter(|attempt| !attempt.is_aborted) else {
            return false;
        };
        tracing::info!("FAILOVER to {} aborted: {why}", attempt.target_name());
        if !attempt.hands_over {
            Failover::end(&mut guard, server);
            return true;
        }
        attempt.is_aborted = true;
    }
    // Not under the lock: this may take a turn of the writer.
    if follow::take_over(server) {
        server.settings.lock().put("replicaof", "");
    }
    // Not before it leads again: else what waits would be refused.
    Failover::end(&mut failover.attempt.lock(), server);
    true
}

/// The one who is to lead has answered PSYNC.
pub(crate) fn answered(server: &Server, accepted: bool) {
    match accepted {
        true => Failover::end(&mut server.failover.attempt.lock(), server),
        false => {
            abort(server, "Failover target rejected psync request");
        }
    }
}

/// To be called about every 100 ms.
pub(crate) fn look(server: &Arc<Server>) {
    let Home::Standalone(group) = &server.home else {
        return;
    };
    match server.failover.due(&server.announcer.feed) {
        None => {}
        Some(Due::GiveUp) => {
            abort(server, "Replica never caught up before timeout");
        }
        Some(Due::HandOver) => {
            let server = server.clone();
            group.between_entries(Box::new(move || hand_over(&server)));
        }
    }
}

/// Between two entries: all that was evaluated is applied, and told.
fn hand_over(server: &Server) {
    let mut guard = server.failover.attempt.lock();
    let Some(attempt) = guard.as_mut().filter(|attempt| !attempt.hands_over) else {
        return;
    };
    let anyway = attempt.force && attempt.is_late();
    let feed = &server.announcer.feed;
    let Some((target, offset)) = feed.hand_over(attempt.target.as_ref(), anyway) else {
        return;
    };
    let Master { host, port } = &target;
    match anyway {
        true => tracing::info!("FAILOVER to {host}:{port} time out exceeded, failing over."),
        false => tracing::info!("Failover target {host}:{port} is synced, failing over."),
    }
    if !follow::hand_over(server, &target, offset) {
        // Somebody else is followed since a moment ago.
        return Failover::end(&mut guard, server);
    }
    let shown = format!("{host} {port}");
    server.settings.lock().put("replicaof", shown);
    attempt.target = Some(target);
    attempt.hands_over = true;
}
