//! The sessions of a link: their windows, their fences, and what waits in
//! their lanes.
//!
//! A *lane* is a session's commands for one group, which keep their order. A
//! closed session lives on until all that it asked is answered; the index in
//! its id may be in use again by then.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_protocol::link::{LinkError, NO_SLOT, Open, Request, Welcome};

use super::own::Own;
use crate::group::GroupId;

/// Sessions of one link at most.
const MAX_SESSIONS: usize = 1 << 18;
/// Indices are dense; a peer that skips more than this is broken.
const MAX_SKIP: usize = 1024;

/// A session, by its place in [`Sessions`]; not what the wire calls it.
pub(super) type SessionKey = u32;

/// A request on its way, without its bytes.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub head: Request<()>,
    pub session: SessionKey,
    /// Index of its lane in the session.
    pub lane: u32,
    /// A request that was not begun by then is not executed.
    pub begin_by: Option<Instant>,
    /// Bytes of the command.
    pub len: usize,
    /// How often it was found cold.
    pub tries: u8,
    /// A read that only the writer can answer.
    pub by_writer: bool,
    /// Its reply may leave in pieces.
    pub pieces: bool,
    /// See `QueuedCommand::begins_entry`.
    pub begins_entry: bool,
    /// Of an EXEC: how many WATCH requests it depends on.
    pub watch_count: u32,
}

impl Asked {
    pub fn slot(&self) -> Option<u16> {
        (self.head.slot != NO_SLOT).then_some(self.head.slot)
    }

    /// What a fence on this request covers: its slot, or its group's keyless
    /// commands.
    fn fenced_as(&self) -> u64 {
        match self.slot() {
            Some(slot) => u64::from(slot),
            None => u64::from(self.head.group) << 32 | u64::from(NO_SLOT),
        }
    }
}

/// A request that waits for its lane.
pub(super) struct Held {
    pub asked: Asked,
    pub wire: Bytes,
}

/// What a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    Idle,
    /// It has commands in that round, which may still be gathering.
    Round(usize),
    /// A cold read or a fetch is on the blocking pool, or a reply leaves in pieces.
    Blocking,
}

pub(super) struct Lane {
    pub group: GroupId,
    pub busy: Busy,
    pub waiting: VecDeque<Held>,
    /// It is on the list of lanes to look at.
    pub listed: bool,
}

#[derive(Default)]
pub(super) struct Session {
    pub lanes: Vec<Lane>,
    /// See [`Asked::fenced_as`]; sorted.
    fences: Vec<u64>,
    /// Unanswered requests, and their bytes.
    requests: u32,
    bytes: u64,
    closed: bool,
    /// What the wire calls it.
    pub logical: u64,
    /// Its client's address.
    pub peer: Option<SocketAddr>,
    /// Who its client is logged in as.
    pub user: Vec<u8>,
    /// Granted with OPEN.
    pub push_credit: u32,
    /// What it is beyond its requests, once it needs that.
    pub own: Option<Box<Own>>,
}

impl Session {
    /// Index of the lane to `group`, made if need be.
    pub fn lane_to(&mut self, group: GroupId) -> u32 {
        if let Some(at) = self.lanes.iter().position(|lane| lane.group == group) {
            return at as u32;
        }
        let lane = Lane {
            group,
            busy: Busy::Idle,
            waiting: VecDeque::new(),
            listed: false,
        };
        self.lanes.push(lane);
        self.lanes.len() as u32 - 1
    }

    pub fn fence(&mut self, asked: &Asked) {
        let fence = asked.fenced_as();
        if let Err(at) = self.fences.binary_search(&fence) {
            self.fences.insert(at, fence);
        }
    }

    pub fn lift_fence(&mut self, asked: &Asked) {
        if let Ok(at) = self.fences.binary_search(&asked.fenced_as()) {
            self.fences.remove(at);
        }
    }

    pub fn is_fenced(&self, asked: &Asked) -> bool {
        !self.fences.is_empty() && self.fences.binary_search(&asked.fenced_as()).is_ok()
    }
}

/// An index of the wire.
#[derive(Clone, Copy, Default)]
struct Index {
    generation: u32,
    /// Its open session.
    key: Option<SessionKey>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Sessions {
    by_index: Vec<Index>,
    places: Vec<Session>,
    free: Vec<SessionKey>,
    /// Bytes of all unanswered requests.
    pub bytes: u64,
}

impl Sessions {
    /// OPEN: a session begins, or one that is open goes on as another user's.
    ///
    /// # Errors
    /// The id is in use or far from dense: the peer is broken.
    pub fn open(&mut self, open: &Open<'_>) -> Result<(), LinkError> {
        let logical = open.logical;
        let at = logical as u32 as usize;
        if at >= MAX_SESSIONS || at > self.by_index.len() + MAX_SKIP {
            return Err(LinkError::BadField("session id"));
        }
        if self.by_index.len() <= at {
            self.by_index.resize(at + 1, Index::default());
        }
        if let Ok(key) = self.find(logical) {
            self.get(key).user = open.user.to_vec();
            return Ok(());
        }
        if self.by_index[at].key.is_some() {
            return Err(LinkError::Unexpected("a session opened twice"));
        }
        let key = self.free.pop().unwrap_or_else(|| {
            self.places.push(Session::default());
            self.places.len() as SessionKey - 1
        });
        self.by_index[at] = Index {
            generation: (logical >> 32) as u32,
            key: Some(key),
        };
        let session = self.get(key);
        session.logical = logical;
        session.peer = open.client.parse().ok();
        session.user = open.user.to_vec();
        session.push_credit = open.push_credit;
        Ok(())
    }

    /// Whether a session has not been closed.
    pub fn is_open(&self, key: SessionKey) -> bool {
        self.places.get(key as usize).is_some_and(|s| !s.closed)
    }

    /// CLOSE.
    ///
    /// # Errors
    /// No such session is open.
    pub fn close(&mut self, logical: u64) -> Result<(), LinkError> {
        let key = self.find(logical)?;
        self.by_index[logical as u32 as usize].key = None;
        self.get(key).closed = true;
        self.reap(key);
        Ok(())
    }

    /// The open session of that id.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, logical: u64) -> Result<SessionKey, LinkError> {
        self.by_index
            .get(logical as u32 as usize)
            .filter(|index| index.generation == (logical >> 32) as u32)
            .and_then(|index| index.key)
            .ok_or(LinkError::Unexpected("a session that is not open"))
    }

    pub fn get(&mut self, key: SessionKey) -> &mut Session {
        &mut self.places[key as usize]
    }

    /// Takes a request's share of its session's window.
    ///
    /// # Errors
    /// The window was exceeded.
    pub fn admit(
        &mut self,
        key: SessionKey,
        len: usize,
        window: &Welcome,
    ) -> Result<(), LinkError> {
        let session = &mut self.places[key as usize];
        let bytes = session.bytes + len as u64;
        let full = session.requests >= window.requests
            || (session.requests > 0 && bytes > u64::from(window.bytes));
        if full {
            return Err(LinkError::Unexpected(
                "a request beyond the session's window",
            ));
        }
        session.requests += 1;
        session.bytes = bytes;
        self.bytes += len as u64;
        Ok(())
    }

    /// Gives the share of an answered request back.
    pub fn release(&mut self, asked: &Asked) {
        let session = &mut self.places[asked.session as usize];
        session.requests -= 1;
        session.bytes -= asked.len as u64;
        self.bytes -= asked.len as u64;
        if session.closed {
            self.reap(asked.session);
        }
    }

    /// What waits in a lane has waited so long for a reply to be taken: that is no
    /// time in which it could have been begun.
    pub fn put_off(&mut self, asked: &Asked, waited: Duration) {
        let lane = &mut self.get(asked.session).lanes[asked.lane as usize];
        for held in &mut lane.waiting {
            held.asked.begin_by = held.asked.begin_by.map(|at| at + waited);
        }
    }

    /// Frees a closed session that has nothing outstanding.
    fn reap(&mut self, key: SessionKey) {
        let session = &mut self.places[key as usize];
        if session.closed && session.requests == 0 {
            *session = Session::default();
            self.free.push(key);
        }
    }

    /// All that waits in lanes and was not to wait so long. The head of a lane
    /// may be on the blocking pool: such a lane is left alone.
    pub fn overdue(&mut self, now: Instant) -> Vec<Asked> {
        let mut found = Vec::new();
        let lanes = self
            .places
            .iter_mut()
            .flat_map(|session| &mut session.lanes);
        for lane in lanes.filter(|lane| lane.busy != Busy::Blocking) {
            let late = |held: &Held| held.asked.begin_by.is_some_and(|at| at <= now);
            while lane.waiting.front().is_some_and(late) {
                found.extend(lane.waiting.pop_front().map(|held| held.asked));
            }
        }
        found
    }

    #[cfg(test)]
    pub fn is_quiet(&self) -> bool {
        self.bytes == 0 && self.places.iter().all(|session| session.requests == 0)
    }
}

#[cfg(test)]
mod tests {
    use cairn_protocol::link::RequestFlags;

    use super::*;

    fn asked(session: SessionKey, slot: u16, group: u32, len: usize) -> Asked {
        let head = Request {
            request: 0,
            logical: 0,
            database: 0,
            flags: RequestFlags::default(),
            group,
            slot,
            epoch: 0,
            deadline_ms: 0,
            resp: (),
        };
        Asked {
            head,
            session,
            lane: 0,
            begin_by: None,
            len,
            tries: 0,
            by_writer: false,
            pieces: false,
            begins_entry: false,
            watch_count: 0,
        }
    }

    fn open(logical: u64) -> Open<'static> {
        Open {
            logical,
            push_credit: 0,
            user: b"default",
            client: "",
        }
    }

    #[test]
    fn a_closed_session_lives_until_its_last_answer() {
        let mut sessions = Sessions::default();
        sessions.open(&open(0)).unwrap();
        let old = sessions.find(0).unwrap();
        sessions.admit(old, 10, &Welcome::default()).unwrap();
        sessions.close(0).unwrap();
        assert!(sessions.find(0).is_err());
        sessions.open(&open(1 << 32)).unwrap();
        let new = sessions.find(1 << 32).unwrap();
        assert_ne!(old, new, "what is outstanding keeps its place");
        assert!(sessions.find(0).is_err(), "an id never comes back");
        sessions.release(&asked(old, 1, 1, 10));
        sessions.open(&open(1)).unwrap();
        assert_eq!(sessions.find(1).unwrap(), old, "now the place is free");
        assert!(sessions.is_quiet());
    }

    #[test]
    fn windows_are_enforced_but_one_request_may_be_long() {
        let window = Welcome {
            requests: 2,
            bytes: 100,
            ..Welcome::default()
        };
        let mut sessions = Sessions::default();
        sessions.open(&open(0)).unwrap();
        sessions.admit(0, 5000, &window).unwrap();
        assert!(sessions.admit(0, 1, &window).is_err());
        sessions.release(&asked(0, 1, 1, 5000));
        sessions.admit(0, 50, &window).unwrap();
        sessions.admit(0, 50, &window).unwrap();
        assert!(sessions.admit(0, 0, &window).is_err(), "three requests");
    }

    #[test]
    fn ids_that_are_in_use_or_far_from_dense_are_refused() {
        let mut sessions = Sessions::default();
        sessions.open(&open(0)).unwrap();
        assert!(
            sessions.open(&open(1 << 32)).is_err(),
            "its index is in use"
        );
        assert!(sessions.open(&open(u64::from(u32::MAX))).is_err());
        assert!(sessions.open(&open(5000)).is_err());
        assert!(sessions.close(7).is_err());
    }

    #[test]
    fn a_session_goes_on_as_another_user() {
        let mut sessions = Sessions::default();
        sessions.open(&open(0)).unwrap();
        let key = sessions.find(0).unwrap();
        sessions.admit(key, 10, &Welcome::default()).unwrap();
        let user = b"bob";
        sessions.open(&Open { user, ..open(0) }).unwrap();
        assert_eq!(sessions.find(0).unwrap(), key);
        assert_eq!(sessions.get(key).user, b"bob");
        assert!(!sessions.is_quiet(), "what it has asked before stays");
    }

    #[test]
    fn a_fence_covers_one_slot_or_one_groups_keyless_commands() {
        let mut session = Session::default();
        session.fence(&asked(0, 5, 1, 0));
        session.fence(&asked(0, NO_SLOT, 1, 0));
        assert!(session.is_fenced(&asked(0, 5, 2, 0)), "whatever the group");
        assert!(session.is_fenced(&asked(0, NO_SLOT, 1, 0)));
        assert!(!session.is_fenced(&asked(0, NO_SLOT, 2, 0)));
        assert!(!session.is_fenced(&asked(0, 6, 1, 0)));
        session.lift_fence(&asked(0, 5, 2, 0));
        assert!(!session.is_fenced(&asked(0, 5, 1, 0)));
    }
}
