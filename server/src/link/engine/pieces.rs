//! Replies in pieces over a link: the node's side.
//!
//! A proxy grants bytes of one reply as its client takes them (GRANT), so a slow
//! client holds back its own reply and the commands behind it in its lane, and
//! nothing else of the link. A task for each such reply has the next piece made on
//! the blocking pool when there is room for it, and reports it as any work of the
//! pool. It ends when the engine lets go of its end of the grants: the session was
//! closed, or the link is gone. Then nothing is pinned any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cairn_protocol::acl::Subject;
use cairn_protocol::link::{FIRST_GRANT, Grant, ReplyClass, reply_header};
use cairn_protocol::resp::{ReplyWriter, Requests};
use tokio::sync::watch;

use super::pool::{Reporter, Work};
use super::{Engine, version_of, wire_of};
use crate::commands::DataHandler;
use crate::dispatch::Dispatched;
use crate::group::Group;
use crate::link::sessions::{Asked, Busy, SessionKey};
use crate::net::pieces::{PIECE, PiecesTurn};
use crate::net::read::{Begun, ReadJob, ReadOutcome};
use crate::server::Server;
use crate::txn::{CommandError, Pieces};

const NOT_TAKEN: &str = "UNKNOWN a large reply was not taken within reply-pieces-timeout";
const NOT_READ: &str = "UNKNOWN the rest of a large reply could not be read";
const NOBODY: &str = "UNKNOWN nobody is left to take the reply";

/// Bytes that may be sent of a reply.
struct Room {
    /// All that was granted.
    granted: u64,
    /// All that was sent; an element is not cut, so this may be more.
    sent: u64,
}

impl Room {
    fn new() -> Room {
        Room {
            granted: u64::from(FIRST_GRANT),
            sent: 0,
        }
    }

    /// Bytes of the next piece, about; 0: there is no room for one.
    fn next(&self) -> usize {
        let left = self.granted.saturating_sub(self.sent);
        usize::try_from(left).map_or(PIECE, |left| left.min(PIECE))
    }

    fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }
}

/// Replies in pieces of one link, by the id of their requests.
#[derive(Default)]
pub(super) struct InPieces(HashMap<u64, Reply>);

/// The engine's end of one.
struct Reply {
    session: SessionKey,
    /// Bytes granted since the first; dropped to end it.
    granted: watch::Sender<u64>,
    /// A part of it was sent.
    begun: bool,
    since: Instant,
}

impl InPieces {
    /// More of a reply may be sent. What is answered needs nothing.
    pub fn grant(&self, grant: Grant) {
        if let Some(reply) = self.0.get(&grant.request) {
            let more = u64::from(grant.bytes);
            reply
                .granted
                .send_modify(|bytes| *bytes = bytes.saturating_add(more));
        }
    }

    /// A session was closed: nobody takes its replies.
    pub fn give_up(&mut self, session: SessionKey) {
        self.0.retain(|_, reply| reply.session != session);
    }

    fn begin(&mut self, asked: &Asked) -> watch::Receiver<u64> {
        let (granted, receiver) = watch::channel(0);
        let reply = Reply {
            session: asked.session,
            granted,
            begun: false,
            since: Instant::now(),
        };
        self.0.insert(asked.head.request, reply);
        receiver
    }

    /// A part is to be sent; false: nobody is there to take it.
    fn take_part(&mut self, request: u64) -> bool {
        let reply = self.0.get_mut(&request);
        reply.map(|reply| reply.begun = true).is_some()
    }

    /// It is over: whether a part was sent, and how long it took.
    fn end(&mut self, request: u64) -> Option<(bool, Duration)> {
        let reply = self.0.remove(&request)?;
        Some((reply.begun, reply.since.elapsed()))
    }
}

impl Engine {
    /// Answers a read whose reply is too large to be made whole; its lane waits.
    pub(super) fn read_large(
        &mut self,
        asked: Asked,
        d: Dispatched,
        handler: DataHandler,
        group: &Arc<Group>,
        one: Requests,
    ) {
        self.set_busy(&asked, Busy::Blocking);
        let granted = match self.sessions.is_open(asked.session) {
            true => self.replies.begin(&asked),
            // A receiver whose sender is gone.
            false => watch::channel(0).1,
        };
        let large = Large {
            server: self.server.clone(),
            asked,
            d,
            handler,
            group: group.clone(),
            one,
            subject: self.subject(&asked, d.spec),
            room: Room::new(),
            granted,
            nanos: 0,
        };
        let report = Reporter::new(&self.pool, asked);
        tokio::task::spawn_local(large.send(report));
    }

    /// Sends a part of a reply.
    pub(super) fn send_part(&mut self, asked: &Asked, mut part: ReplyWriter) {
        let request = asked.head.request;
        if self.replies.take_part(request) {
            self.deliver(asked.session);
            self.out
                .raw(&reply_header(request, ReplyClass::More, part.len()));
            self.out.append(&mut part);
        }
    }

    /// Work of the pool is over; if it was on a reply in pieces, so is that.
    pub(super) fn end_pieces(&mut self, asked: &Asked, work: Work) -> Work {
        let Some((begun, took)) = self.replies.end(asked.head.request) else {
            return work;
        };
        self.sessions.put_off(asked, took);
        match work {
            // What was sent needs an end that says so.
            Work::Broken if begun => Work::CutShort(NOT_READ),
            work => work,
        }
    }
}

/// The rest of a reply; `None`: it was all.
type Rest = Result<Option<Pieces>, CommandError>;

/// One reply that leaves in pieces: the task's end.
struct Large {
    server: Arc<Server>,
    asked: Asked,
    d: Dispatched,
    handler: DataHandler,
    group: Arc<Group>,
    one: Requests,
    subject: Option<Arc<Subject>>,
    room: Room,
    granted: watch::Receiver<u64>,
    /// What the making took.
    nanos: u64,
}

impl Large {
    async fn send(mut self, mut report: Reporter) {
        let Some(turn) = self.turn().await else {
            return report.send(Work::CutShort(NOBODY));
        };
        match self.begin().await {
            Err(work) => match *work {
                Work::ByWriter(wire) => report.leave_whole(wire),
                work => report.send(work),
            },
            Ok((reply, rest)) => {
                let end = self.send_all(reply, rest, &report).await;
                report.send(end);
            }
        }
        drop(turn);
    }

    /// Its turn, as one of a bounded number; `None`: nobody waits any more.
    async fn turn(&mut self) -> Option<PiecesTurn> {
        tokio::select! {
            turn = crate::net::InPieces::turn(&self.server) => Some(turn),
            // Nothing was begun.
            () = gone(&mut self.granted) => None,
        }
    }

    /// The first piece, or what became of the request without any.
    async fn begin(&mut self) -> Result<(ReplyWriter, Rest), Box<Work>> {
        let (group, subject) = (self.group.clone(), self.subject.clone());
        let one = std::mem::take(&mut self.one);
        let (slot, handler) = (self.d.slot, self.handler);
        let db = usize::from(self.asked.head.database);
        let bytes = self.room.next();
        let (mut reply, (one, begun)) = self
            .make(move |out| {
                let job = ReadJob::in_pieces(&group, db, slot, handler, subject.as_deref());
                let begun = match job.begin_pieces(&one.get(0), out) {
                    Begun::InPieces(pieces) => Ok(next(*pieces, out, bytes)),
                    Begun::Whole(outcome) => Err(outcome),
                };
                (one, begun)
            })
            .await
            .ok_or_else(|| Box::new(Work::Broken))?;
        let error = match begun {
            Ok(Err(error)) | Err(ReadOutcome::Failed(error)) => error,
            Ok(rest) => return Ok((reply, rest)),
            Err(ReadOutcome::Done) => return Err(Box::new(self.answered(reply, false))),
            Err(ReadOutcome::ByWriter | ReadOutcome::Cold | ReadOutcome::Large) => {
                return Err(Box::new(Work::ByWriter(wire_of(&one, 0))));
            }
        };
        reply.clear();
        reply.error(error.to_string());
        Err(Box::new(self.answered(reply, true)))
    }

    /// Sends piece after piece; the last is the answer.
    async fn send_all(&mut self, mut reply: ReplyWriter, mut rest: Rest, to: &Reporter) -> Work {
        let session = self.asked.head.logical;
        loop {
            let pieces = match rest {
                Ok(Some(pieces)) => pieces,
                Ok(None) => return self.answered(reply, false),
                Err(error) => {
                    tracing::error!(session, %error, "the rest of a large reply could not be read");
                    return Work::CutShort(NOT_READ);
                }
            };
            self.room.sent(reply.len());
            to.part(reply);
            match self.wait_for_room().await {
                Wait::Over => {}
                Wait::Gone => return Work::CutShort(NOBODY),
                Wait::TooLong => {
                    tracing::warn!(
                        session,
                        "given up: a proxy's client did not take a large reply within \
                         reply-pieces-timeout"
                    );
                    return Work::CutShort(NOT_TAKEN);
                }
            }
            let bytes = self.room.next();
            let made = self.make(move |out| next(pieces, out, bytes)).await;
            let Some(made) = made else {
                return Work::CutShort(NOT_READ);
            };
            (reply, rest) = made;
        }
    }

    /// Waits until the next piece may be made, as long as a client may take.
    async fn wait_for_room(&mut self) -> Wait {
        let patience = self
            .server
            .live
            .reply_pieces_timeout
            .load(Ordering::Relaxed);
        let patience = Duration::from_secs(patience as u64);
        let (room, granted) = (&mut self.room, &mut self.granted);
        let first = u64::from(FIRST_GRANT);
        let enough = granted.wait_for(|bytes| {
            room.granted = first.saturating_add(*bytes);
            room.next() > 0
        });
        // A grant that was not waited for is still there.
        match tokio::time::timeout(patience, enough).await {
            Ok(Ok(_)) => Wait::Over,
            Ok(Err(_)) => Wait::Gone,
            Err(_) => Wait::TooLong,
        }
    }

    /// Has something written on the pool; `None`: it panicked.
    async fn make<T: Send + 'static>(
        &mut self,
        write: impl FnOnce(&mut ReplyWriter) -> T + Send + 'static,
    ) -> Option<(ReplyWriter, T)> {
        let version = version_of(&self.asked);
        let job = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let mut out = ReplyWriter::new(version);
            let made = write(&mut out);
            (out, started.elapsed().as_nanos() as u64, made)
        });
        let (out, nanos, made) = job.await.ok()?;
        self.nanos += nanos;
        Some((out, made))
    }

    fn answered(&self, reply: ReplyWriter, failed: bool) -> Work {
        Work::Answered {
            command: self.d.spec.id.index(),
            nanos: self.nanos,
            failed,
            reply,
        }
    }
}

/// How waiting for room ended.
enum Wait {
    Over,
    /// Nobody is there to grant any.
    Gone,
    TooLong,
}

/// Waits until there is nobody any more to take a reply.
async fn gone(granted: &mut watch::Receiver<u64>) {
    while granted.changed().await.is_ok() {}
}

fn next(mut pieces: Pieces, out: &mut ReplyWriter, bytes: usize) -> Rest {
    let more = pieces.next(out, bytes)?;
    Ok(more.then_some(pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_was_granted_less_what_was_sent() {
        let mut room = Room::new();
        assert_eq!(room.next(), PIECE, "the first pieces need no grant");
        room.sent(PIECE);
        assert_eq!(room.next(), PIECE);
        room.sent(PIECE - 1);
        assert_eq!(room.next(), 1);
        room.sent(5);
        assert_eq!(room.next(), 0, "the last element was longer");
        room.granted += 4;
        assert_eq!(room.next(), 0, "which is made up for first");
        room.granted += 1;
        assert_eq!(room.next(), 1);
        room.granted = u64::MAX;
        assert_eq!(room.next(), PIECE, "however much there is");
    }
}
