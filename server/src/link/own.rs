//! What a session is at the node beyond its requests: a client that watches
//! keys, listens to channels, has what it reads tracked.
//!
//! Made when a session first needs it, and owned by the session. The client
//! behind it is known to the rest of the node as any other, but is told of
//! messages through its link: [`Engine::deliver`].

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use cairn_protocol::acl::{Account, Subject};
use cairn_protocol::command::{CommandId, CommandSpec, id};
use cairn_protocol::link::{Push, ReplyClass, RequestFlags};
use cairn_protocol::resp::{Args, ReplyWriter, Version, number::parse_u64};

use super::engine::{Engine, Reporter, Work, version_of};
use super::sessions::{Asked, Busy, SessionKey};
use crate::commands::SessionHandler;
use crate::dispatch::Dispatched;
use crate::group::{Group, GroupId};
use crate::net::address::Address;
use crate::net::session::{Client, Next, Relay, Session, UNBLOCKED, Unblock};
use crate::pubsub::Kind;
use crate::server::Server;
use crate::txn::CommandError;

const NO_DEBUGGER: CommandError = CommandError::fixed(
    "ERR the Lua debugger is not served through a proxy: connect to the node itself",
);

/// See the module's documentation.
pub(super) struct Own {
    pub session: Session,
    /// Where it watches, and how many WATCH requests it has sent there.
    watches: (GroupId, u32),
    /// Bytes of messages that it may be sent; below 0 it was sent one too many.
    credit: i64,
}

impl Own {
    pub fn id(&self) -> u64 {
        self.session.client.id
    }

    /// WATCH is on its way to the writer.
    pub fn begin_watch(&mut self, group: &Arc<Group>, slot: Option<u16>) {
        if self.watches.0 != group.id {
            self.unwatch();
            self.watches.0 = group.id;
        }
        self.session.note_watch(group, slot);
        self.watches.1 += 1;
    }

    /// It was not executed, and comes again if at all.
    pub fn take_back_watch(&mut self) {
        self.watches.1 = self.watches.1.saturating_sub(1);
    }

    /// An EXEC that depends on so many is on its way to the writer, and ends
    /// them there: those that come behind it are for the next one.
    pub fn begin_exec(&mut self, count: u32) {
        self.watches.1 = self.watches.1.saturating_sub(count);
    }

    /// It was not executed, and comes again if at all.
    pub fn take_back_exec(&mut self, count: u32) {
        self.watches.1 += count;
    }

    /// UNWATCH.
    pub fn unwatch(&mut self) {
        self.watches = (0, 0);
        self.session.unwatch();
    }

    /// Whether all that the client believes to watch is watched at `group`.
    pub fn watches(&self, group: GroupId, count: u32) -> bool {
        self.watches == (group, count)
    }

    pub fn grant(&mut self, bytes: u32) {
        self.credit += i64::from(bytes);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Nothing is sent to it any more.
        self.session.client.end();
        self.session.server.forget(&self.session.client);
    }
}

/// What a subscription command does.
fn subscription(command: CommandId) -> Option<(Kind, bool)> {
    Some(match command {
        id::SUBSCRIBE => (Kind::Channel, true),
        id::PSUBSCRIBE => (Kind::Pattern, true),
        id::SSUBSCRIBE => (Kind::Shard, true),
        id::UNSUBSCRIBE => (Kind::Channel, false),
        id::PUNSUBSCRIBE => (Kind::Pattern, false),
        id::SUNSUBSCRIBE => (Kind::Shard, false),
        _ => return None,
    })
}

/// Whether a command of the session means the node, and not the connection of
/// a client, which is the proxy's.
pub(super) fn is_for_nodes(spec: &CommandSpec) -> bool {
    let of_connection = matches!(
        spec.id,
        id::ASKING
            | id::AUTH
            | id::CLIENT_CACHING
            | id::CLIENT_GETNAME
            | id::CLIENT_GETREDIR
            | id::CLIENT_ID
            | id::CLIENT_INFO
            | id::CLIENT_KILL
            | id::CLIENT_LIST
            | id::CLIENT_NO_EVICT
            | id::CLIENT_PAUSE
            | id::CLIENT_REPLY
            | id::CLIENT_SETNAME
            | id::CLIENT_TRACKINGINFO
            | id::CLIENT_UNPAUSE
            | id::DISCARD
            | id::ECHO
            | id::EXEC
            | id::HELLO
            | id::MULTI
            | id::PING
            | id::PSYNC
            | id::QUIT
            | id::READONLY
            | id::READWRITE
            | id::REPLCONF
            | id::RESET
            | id::SELECT
            | id::SYNC
    );
    !of_connection
}

/// Whether a command asks its transaction what its client may do.
fn looks_at_rights(spec: &CommandSpec) -> bool {
    matches!(
        spec.id,
        id::EVAL
            | id::EVALSHA
            | id::EVALSHA_RO
            | id::EVAL_RO
            | id::EXEC
            | id::FCALL
            | id::FCALL_RO
            | id::SORT
            | id::SORT_RO
    )
}

impl Engine {
    /// The client behind a session, made if need be.
    pub(super) fn own(&mut self, key: SessionKey) -> &mut Own {
        let (server, local, wake) = (&self.server, self.client.local, &self.relay.0);
        let session = self.sessions.get(key);
        let (peer, credit) = (session.peer, session.push_credit);
        session.own.get_or_insert_with(|| {
            let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let wake = wake.clone();
            let client = new_client(server, peer.unwrap_or(nowhere), local, Relay { key, wake });
            let mut session = Session::new(server.clone(), Arc::new(client));
            session.authenticated = true;
            // Messages are pushes of RESP3 on a link.
            session.speak(Version::V3, &mut ReplyWriter::default());
            session.nested = true;
            Box::new(Own {
                session,
                watches: (0, 0),
                credit: i64::from(credit),
            })
        })
    }

    /// Whose rights must be looked at while a command of a session runs. The
    /// proxy has looked at what its client asks; what a script does, and which
    /// keys SORT looks at, is seen here alone.
    pub(super) fn subject(&mut self, asked: &Asked, spec: &CommandSpec) -> Option<Arc<Subject>> {
        if !looks_at_rights(spec) {
            return None;
        }
        let name = &self.sessions.get(asked.session).user;
        let known = self.server.acl.find(name);
        let account = known.unwrap_or_else(|| Account::nobody(name));
        if account.is_unrestricted() {
            return None;
        }
        let client = self.own(asked.session).session.client.clone();
        let subject = Subject::new(account, self.server.acl.clone(), client);
        Some(Arc::new(subject))
    }

    /// Sends the messages that wait for a session's client, unless a command of
    /// the session is in a writer: what that changes it is told behind its reply.
    pub(super) fn deliver_between(&mut self, key: SessionKey) {
        let in_writer = |lane: &super::sessions::Lane| matches!(lane.busy, Busy::Round(_));
        let session = self.sessions.get(key);
        if session.own.is_none() || session.lanes.iter().any(in_writer) {
            return;
        }
        if !self.waiting.is_served(key) {
            self.deliver(key);
        }
    }

    /// Sends the messages that wait for a session's client, as far as its
    /// credit goes.
    pub(super) fn deliver(&mut self, key: SessionKey) {
        let session = self.sessions.get(key);
        let logical = session.logical;
        let Some(own) = session.own.as_mut().filter(|own| own.credit > 0) else {
            return;
        };
        let client = own.session.client.clone();
        if client.is_cut_off() {
            session.own = None;
            return self.send(|out| Push::put(out, logical, Push::CUT_OFF, &[]));
        }
        if client.has_messages() {
            let mut messages = ReplyWriter::new(Version::V3);
            client.take_messages(&mut messages);
            let messages = messages.to_vec();
            own.credit -= messages.len() as i64;
            self.send(|out| Push::put(out, logical, Push::MESSAGES, &messages));
        }
    }

    /// Tells the proxy that a request waits for its keys.
    pub(super) fn say_that_it_waits(&mut self, asked: &Asked) {
        let (logical, request) = (asked.head.logical, asked.head.request.to_le_bytes());
        if self.sessions.is_open(asked.session) {
            self.send(|out| Push::put(out, logical, Push::WAITS, &request));
        }
    }

    /// What the session reads now is remembered for its client.
    pub(super) fn remember(&mut self, asked: &Asked, d: &Dispatched) {
        if !asked.head.flags.has(RequestFlags::TRACK) || !d.spec.is_readonly() {
            return;
        }
        let Some(own) = &self.sessions.get(asked.session).own else {
            return;
        };
        let client = own.id();
        let args = self.request.get(0);
        let keys = d.spec.keys(&args).unwrap_or_default();
        let names = keys.iter().map(|key| args.get(key.index as usize));
        self.server.announcer.tracking.remember(client, names);
    }

    /// Runs the command in `self.request`, which is the node's own affair.
    /// False: it is under way, and its lane with it.
    pub(super) fn run_of_session(
        &mut self,
        asked: &Asked,
        d: Dispatched,
        handler: SessionHandler,
    ) -> bool {
        let started = Instant::now();
        self.reply.clear();
        self.reply.set_version(version_of(asked));
        let next = match subscription(d.spec.id) {
            Some((kind, begin)) => {
                self.subscribe(asked.session, kind, begin);
                Ok(Next::Continue)
            }
            None if d.spec.id == id::UNWATCH => {
                self.own(asked.session).unwatch();
                self.reply.ok();
                Ok(Next::Continue)
            }
            None if d.spec.id == id::CLIENT_UNBLOCK => self.unblock(asked),
            None if d.spec.id == id::SCRIPT_DEBUG => Err(NO_DEBUGGER),
            None => self.call(asked, d.spec.id, handler),
        };
        let failed = next.is_err();
        match next {
            Ok(Next::Continue | Next::Close) => {}
            Ok(Next::Work(work)) => return self.work(asked, d, work),
            Ok(Next::Wait(over)) => return self.wait(asked, d, over),
            Ok(Next::Answer { over, number }) => {
                return self.wait_for_number(asked, d, over, number);
            }
            Ok(Next::Sync { .. }) => self.fail_read("ERR a session of a link is no replica"),
            Err(error) => self.fail_read(&error.to_string()),
        }
        self.account(asked, d, started.elapsed().as_nanos() as u64, failed);
        self.deliver(asked.session);
        self.answer(asked, ReplyClass::Ok);
        true
    }

    fn call(
        &mut self,
        asked: &Asked,
        command: CommandId,
        handler: SessionHandler,
    ) -> Result<Next, CommandError> {
        let db = usize::from(asked.head.database);
        let mut own = {
            self.own(asked.session);
            let place = &mut self.sessions.get(asked.session).own;
            place.take().expect("made just now")
        };
        own.session.db = db;
        let next = handler(&mut own.session, &self.request.get(0), &mut self.reply);
        self.sessions.get(asked.session).own = Some(own);
        if next.is_ok() && [id::PUBLISH, id::SPUBLISH].contains(&command) {
            let feed = &self.server.announcer.feed;
            feed.tell_message(db, self.request.get(0).iter());
        }
        next
    }

    fn subscribe(&mut self, key: SessionKey, kind: Kind, begin: bool) {
        let client = self.own(key).session.client.clone();
        let pubsub = self.server.pubsub();
        for name in self.request.get(0).iter().skip(1) {
            match begin {
                true => pubsub.subscribe(&client, kind, name, |_| ()),
                false => pubsub.unsubscribe(&client, kind, name, |_| ()),
            }
        }
        self.reply.ok();
    }

    /// CLIENT UNBLOCK (request | WAIT) [TIMEOUT | ERROR]
    fn unblock(&mut self, asked: &Asked) -> Result<Next, CommandError> {
        let args: Args<'_> = self.request.get(0);
        let how = match args.try_get(3) {
            Some(word) if word.eq_ignore_ascii_case(b"error") => Unblock::Error,
            _ => Unblock::TimeOut,
        };
        let unblocked = match args.get(2) {
            what if what.eq_ignore_ascii_case(b"wait") => {
                let own = &self.sessions.get(asked.session).own;
                own.as_ref()
                    .is_some_and(|own| own.session.client.unblock(how))
            }
            request => {
                let request = parse_u64(request).ok_or(CommandError::SYNTAX)?;
                self.waiting.unblock(asked.session, request, how)
            }
        };
        self.reply.integer(i64::from(unblocked));
        Ok(Next::Continue)
    }

    /// Has the blocking pool write the reply.
    fn work(
        &mut self,
        asked: &Asked,
        d: Dispatched,
        work: Box<dyn FnOnce(&mut ReplyWriter) + Send>,
    ) -> bool {
        self.set_busy(asked, Busy::Blocking);
        let mut report = Reporter::new(&self.pool, *asked);
        let mut reply = std::mem::take(&mut self.reply);
        tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            work(&mut reply);
            report.send(answered(d, started, reply));
        });
        false
    }

    /// Answers with what is in the reply, once `over` is.
    fn wait(
        &mut self,
        asked: &Asked,
        d: Dispatched,
        over: Pin<Box<dyn Future<Output = ()>>>,
    ) -> bool {
        self.set_busy(asked, Busy::Blocking);
        let mut report = Reporter::new(&self.pool, *asked);
        let reply = std::mem::take(&mut self.reply);
        tokio::task::spawn_local(async move {
            over.await;
            report.send(answered(d, Instant::now(), reply));
        });
        false
    }

    /// Answers with a number, once `over` is or the client is unblocked. Its lane
    /// goes on meanwhile: CLIENT UNBLOCK comes by the same one.
    fn wait_for_number(
        &mut self,
        asked: &Asked,
        d: Dispatched,
        over: Pin<Box<dyn Future<Output = ()>>>,
        number: Box<dyn Fn() -> i64>,
    ) -> bool {
        let client = self.own(asked.session).session.client.clone();
        let mut report = Reporter::new(&self.pool, *asked);
        let mut reply = std::mem::take(&mut self.reply);
        client.begin_blocked();
        tokio::task::spawn_local(async move {
            // Both only tell that it is over: the number is taken afterwards.
            let how = tokio::select! {
                () = over => Unblock::TimeOut,
                how = client.unblocked() => how,
            };
            client.end_blocked();
            let failed = how == Unblock::Error;
            match failed {
                true => reply.error(UNBLOCKED),
                false => reply.integer(number()),
            }
            report.send(Work::Waited {
                command: d.spec.id.index(),
                failed,
                reply,
            });
        });
        false
    }
}

fn answered(d: Dispatched, started: Instant, reply: ReplyWriter) -> Work {
    Work::Answered {
        command: d.spec.id.index(),
        nanos: started.elapsed().as_nanos() as u64,
        failed: false,
        reply,
    }
}

fn new_client(server: &Server, peer: SocketAddr, local: Address, relay: Relay) -> Client {
    let client = Client::new(
        server.next_client_id(),
        peer,
        local,
        server.live.clone(),
        server.acl.default_user().clone(),
    );
    client.last_active_ms.store(0, Ordering::Relaxed);
    client.behind(relay)
}
