//! Commands of a link's sessions that wait for their keys.
//!
//! Each has a task that ends its wait; the engine only has to end those whose
//! session, or whole link, goes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sessions::SessionKey;
use crate::group::Group;
use crate::group::blocked::{Release, Waiter};
use crate::net::session::Unblock;

/// How often a waiter looks whether its slot is still here.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What became of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    Served,
    TimedOut,
    /// Nothing was executed: it begins again.
    Again,
    Unknown,
}

/// Waits for the end of a wait.
pub(super) async fn wait(group: &Group, waiter: &Waiter) -> Woken {
    // Beyond what a clock can say is for ever.
    let until = (waiter.timeout_ms > 0)
        .then(|| Instant::now().checked_add(Duration::from_millis(waiter.timeout_ms)))
        .flatten();
    let stopped = loop {
        let look = Instant::now() + LOOK_EVERY;
        let next = until.map_or(look, |until| until.min(look));
        tokio::select! {
            biased;
            release = waiter.over() => return woken(release, Woken::TimedOut),
            () = tokio::time::sleep_until(next.into()) => {}
        }
        if until.is_some_and(|until| until <= Instant::now()) {
            break Woken::TimedOut;
        }
        if group.is_stranded(waiter) {
            break Woken::Again;
        }
    };
    // Whoever gives up may find that it was served just now.
    match group.give_up(waiter) {
        true => stopped,
        false => woken(waiter.over().await, stopped),
    }
}

fn woken(release: Release, given_up: Woken) -> Woken {
    match release {
        Release::Served => Woken::Served,
        Release::GivenUp => given_up,
        Release::Again => Woken::Again,
        Release::Unknown => Woken::Unknown,
    }
}

/// All that wait for one link.
#[derive(Default)]
pub(super) struct Waiting {
    by_session: HashMap<SessionKey, Vec<Wait>>,
}

/// A request, and where it waits.
struct Wait {
    request: u64,
    group: Arc<Group>,
    waiter: Arc<Waiter>,
    /// Its client was unblocked.
    unblocked: Option<Unblock>,
}

impl Wait {
    /// Ends it, unless it is served just now.
    fn give_up(&self) -> bool {
        let over = self.group.give_up(&self.waiter);
        if over {
            self.waiter.wake();
        }
        over
    }
}

impl Waiting {
    pub fn insert(
        &mut self,
        session: SessionKey,
        request: u64,
        group: &Arc<Group>,
        waiter: &Arc<Waiter>,
    ) {
        let mine = self.by_session.entry(session).or_default();
        mine.push(Wait {
            request,
            group: group.clone(),
            waiter: waiter.clone(),
            unblocked: None,
        });
    }

    /// Whether a request of the session is being served just now.
    pub fn is_served(&self, session: SessionKey) -> bool {
        let mine = self.by_session.get(&session).into_iter().flatten();
        mine.into_iter().any(|wait| !wait.waiter.is_waiting())
    }

    /// How its client was unblocked, if it was.
    pub fn remove(&mut self, session: SessionKey, request: u64) -> Option<Unblock> {
        let mine = self.by_session.get_mut(&session)?;
        let at = mine.iter().position(|wait| wait.request == request)?;
        let wait = mine.swap_remove(at);
        if mine.is_empty() {
            self.by_session.remove(&session);
        }
        wait.unblocked
    }

    /// CLIENT UNBLOCK. False: it does not wait, or not any more.
    pub fn unblock(&mut self, session: SessionKey, request: u64, how: Unblock) -> bool {
        let mine = self.by_session.get_mut(&session).into_iter().flatten();
        for wait in mine.filter(|wait| wait.request == request && wait.unblocked.is_none()) {
            if wait.give_up() {
                wait.unblocked = Some(how);
                return true;
            }
        }
        false
    }

    /// The session's client is gone: nobody takes what it waits for.
    pub fn give_up(&self, session: SessionKey) {
        for wait in self.by_session.get(&session).into_iter().flatten() {
            wait.give_up();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for wait in self.by_session.values().flatten() {
            wait.give_up();
        }
    }
}
