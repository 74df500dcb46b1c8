//! One connection to one node, and what is outstanding on it.
//!
//! Owned by its network thread. Many clients' commands go into one outbox and
//! are written together; every answer finds its call by the request's id.
//! The states: down (with a time to try again), connecting, up. Only an up
//! link takes calls; whoever finds it otherwise parks (`retry`).

use super::call::Call;
use super::outbox::Outbox;
use super::slab::Slab;
use crate::net::{Client, Thread};
use crate::route::Lane;
use crate::scripts::Sha;
use cairn_protocol::link::{Close, Features, Grant, NO_SLOT, Open, Request, RequestFlags, Welcome};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::{Rc, Weak};
use std::task::Waker;

/// Clients pause when a link has this many bytes to write.
const CONGESTED: usize = 8 << 20;
/// PUSH bytes that a node may send a session before it must be granted more.
const PUSH_CREDIT: u32 = 1 << 20;

/// A link to a node; see the module's header.
pub struct Link {
    /// Peer address of the node.
    pub(super) address: Rc<str>,
    pub(super) thread: Weak<Thread>,
    pub(super) inner: RefCell<Inner>,
    /// The task that drives it.
    waker: RefCell<Option<Waker>>,
    /// Whether the task was woken for what is in the outbox.
    flush_asked: Cell<bool>,
    /// Clients that wait for the outbox to drain.
    pub(super) waiters: RefCell<Vec<Rc<Client>>>,
}

/// What changes.
pub(super) struct Inner {
    pub up: bool,
    /// Goes up with every connection; sessions belong to one.
    pub incarnation: u64,
    pub calls: Slab<Call>,
    /// Whose each session is.
    pub sessions: Slab<Rc<Client>>,
    pub outbox: Outbox,
    pub welcome: Welcome,
    /// The node said GOAWAY: nothing new is sent.
    pub leaving: bool,
    /// Scripts that the node was sent since `incarnation` began and since
    /// scripts were forgotten last.
    scripts: HashSet<Sha>,
    scripts_of: (u64, u64),
}

/// A client's session on a link.
pub(crate) struct Session {
    link: Weak<Link>,
    incarnation: u64,
    logical: u64,
    /// `Client::logins` of the user that the node knows of.
    login: u32,
    requests: u32,
    bytes: u64,
}

/// Where a call was put.
pub(crate) enum Sent {
    /// In the outbox.
    Yes,
    /// The session's window is full; the call comes back.
    WindowFull(Call),
}

impl Link {
    pub(super) fn new(address: Rc<str>, thread: &Rc<Thread>) -> Rc<Self> {
        Rc::new(Self {
            address,
            thread: Rc::downgrade(thread),
            inner: RefCell::new(Inner {
                up: false,
                incarnation: 0,
                calls: Slab::default(),
                sessions: Slab::default(),
                outbox: Outbox::default(),
                welcome: Welcome::default(),
                leaving: false,
                scripts: HashSet::new(),
                scripts_of: (0, 0),
            }),
            waker: RefCell::new(None),
            flush_asked: Cell::new(false),
            waiters: RefCell::new(Vec::new()),
        })
    }

    /// Peer address of the node.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it takes calls now.
    pub fn is_up(&self) -> bool {
        let inner = self.inner.borrow();
        inner.up && !inner.leaving
    }

    /// Whether so much waits to be written that clients should pause.
    pub(crate) fn is_congested(&self) -> bool {
        self.inner.borrow().outbox.len() > CONGESTED
    }

    /// Has `client` woken when the link is no longer congested.
    pub(crate) fn wait_for_room(&self, client: &Rc<Client>) {
        self.waiters.borrow_mut().push(client.clone());
    }

    /// Puts a call in the outbox, for `group` under `epoch`; before it the
    /// scripts that its node may not know.
    pub(crate) fn send(
        self: &Rc<Self>,
        sessions: &mut Vec<Session>,
        call: Call,
        group: u32,
        epoch: u32,
        resume: bool,
        deadline_ms: u32,
    ) -> Sent {
        for sha in &call.scripts {
            let Some(load) = self.load_of(sha, &call) else {
                continue;
            };
            // In the group's own lane, so that it is there first.
            if let Sent::WindowFull(_) = self.put(sessions, load, group, 0, false, 0) {
                return Sent::WindowFull(call);
            }
            self.inner.borrow_mut().scripts.insert(*sha);
        }
        self.put(sessions, call, group, epoch, resume, deadline_ms)
    }

    /// The SCRIPT LOAD that has to come before `call`, if any.
    fn load_of(&self, sha: &Sha, call: &Call) -> Option<Call> {
        let thread = self.thread.upgrade()?;
        let scripts = &thread.shared.scripts;
        let mut inner = self.inner.borrow_mut();
        let now = (inner.incarnation, scripts.epoch());
        if std::mem::replace(&mut inner.scripts_of, now) != now {
            inner.scripts.clear();
        }
        if inner.scripts.contains(sha) {
            return None;
        }
        let body = scripts.body(sha)?;
        Some(Call {
            client: call.client.clone(),
            seq: u64::MAX,
            part: 0,
            lane: Lane::group(0),
            database: 0,
            flags: RequestFlags::default(),
            write: false,
            blocking: false,
            wire: crate::nodes::command(&[b"SCRIPT", b"LOAD", &body]),
            scripts: Vec::new(),
            born_ms: call.born_ms,
            offset: 0,
            roams: false,
            scan: None,
        })
    }

    fn put(
        self: &Rc<Self>,
        sessions: &mut Vec<Session>,
        mut call: Call,
        group: u32,
        epoch: u32,
        resume: bool,
        deadline_ms: u32,
    ) -> Sent {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let session = self.session(sessions, inner, &call.client);
        let bytes = session.bytes + call.wire.len() as u64;
        let full = session.requests >= inner.welcome.requests
            || (session.requests > 0 && bytes > u64::from(inner.welcome.bytes));
        if full {
            return Sent::WindowFull(call);
        }
        session.requests += 1;
        session.bytes = bytes;
        let resume = if resume {
            RequestFlags::RESUME
        } else {
            RequestFlags::default()
        };
        let mut flags = call.flags.with(resume);
        if !inner.welcome.features.has(Features::PIECES) {
            flags = flags.without(RequestFlags::PIECES);
        }
        let (database, wire) = (call.database, call.wire.clone());
        let slot = call.lane.as_slot().unwrap_or(NO_SLOT);
        let logical = session.logical;
        call.offset = inner.outbox.end();
        let request = inner.calls.insert(call);
        let head = Request {
            request,
            logical,
            database,
            flags,
            group,
            slot,
            epoch,
            deadline_ms,
            resp: (),
        };
        inner.outbox.put(&head.header(wire.len()), &wire);
        self.ask_flush();
        Sent::Yes
    }

    /// The client's session here, opened if need be.
    fn session<'s>(
        self: &Rc<Self>,
        sessions: &'s mut Vec<Session>,
        inner: &mut Inner,
        client: &Rc<Client>,
    ) -> &'s mut Session {
        let mine = |s: &Session| s.link.as_ptr() == Rc::as_ptr(self);
        let at = match sessions.iter().position(mine) {
            Some(at) if sessions[at].incarnation == inner.incarnation => {
                let session = &mut sessions[at];
                if std::mem::replace(&mut session.login, client.logins()) != client.logins() {
                    open(inner, client, session.logical);
                }
                return session;
            }
            Some(at) => at,
            None => sessions.len(),
        };
        let logical = inner.sessions.insert(client.clone());
        open(inner, client, logical);
        let session = Session {
            link: Rc::downgrade(self),
            incarnation: inner.incarnation,
            logical,
            login: client.logins(),
            requests: 0,
            bytes: 0,
        };
        if at == sessions.len() {
            sessions.push(session);
        } else {
            sessions[at] = session;
        }
        &mut sessions[at]
    }

    /// Gives a session its share back when a call is answered.
    pub(super) fn release(self: &Rc<Self>, sessions: &mut [Session], wire_len: usize) {
        let incarnation = self.inner.borrow().incarnation;
        let mine =
            |s: &&mut Session| s.link.as_ptr() == Rc::as_ptr(self) && s.incarnation == incarnation;
        if let Some(session) = sessions.iter_mut().find(mine) {
            session.requests = session.requests.saturating_sub(1);
            session.bytes = session.bytes.saturating_sub(wire_len as u64);
        }
    }

    /// Lets the node send so much more of the reply to a request.
    pub(crate) fn grant(&self, request: u64, bytes: u32) {
        let mut inner = self.inner.borrow_mut();
        if inner.up && inner.calls.get(request).is_some() {
            Grant { request, bytes }.put(inner.outbox.buffer());
            drop(inner);
            self.ask_flush();
        }
    }

    /// Wakes the task once for any number of calls: it runs after whatever is
    /// ready now, so that their commands leave in one write.
    pub(super) fn ask_flush(&self) {
        if !self.flush_asked.replace(true)
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    pub(super) fn set_waker(&self, waker: &Waker) {
        self.flush_asked.set(false);
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
}

/// Begins a session, or tells the node who is logged in from now on.
fn open(inner: &mut Inner, client: &Client, logical: u64) {
    let account = client.info.account();
    let open = Open {
        logical,
        push_credit: PUSH_CREDIT,
        user: account.name(),
        client: client.address(),
    };
    open.put(inner.outbox.buffer());
}

impl Session {
    /// Ends the session at the node, if its link is still the same.
    pub(crate) fn close(self) {
        let Some(link) = self.link.upgrade() else {
            return;
        };
        {
            let mut inner = link.inner.borrow_mut();
            if !inner.up || inner.incarnation != self.incarnation {
                return;
            }
            inner.sessions.take(self.logical);
            Close {
                logical: self.logical,
            }
            .put(inner.outbox.buffer());
        }
        link.ask_flush();
    }
}
