//! Replies in pieces: a large collection leaves as its client takes it.
//!
//! The next piece is made when the last one has gone to the socket, on the pool of
//! blocking work, so that a reply costs the connection one piece whatever its size.
//! What comes behind it in the pipeline waits, as behind any reply; it is read all the
//! while, within the bound for replies that nobody takes (`unread`), since its client may
//! read nothing before it has sent all. A client that takes nothing is cut off: it keeps
//! a moment of the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cairn_protocol::resp::ReplyWriter;

use super::{Connection, End};
use crate::commands::DataHandler;
use crate::dispatch::Dispatched;
use crate::group::Group;
use crate::net::pieces::{InPieces, PIECE, PiecesTurn};
use crate::net::read::{Begun, ReadJob, ReadOutcome};
use crate::net::session::ReplyMode;
use crate::txn::{CommandError, Pieces};

/// What comes back from the pool: the output with what was made, and what became
/// of the making.
type Made<T> = (ReplyWriter, u64, T);

/// The rest of a reply; `None`: it was all.
type Rest = Result<Option<Pieces>, CommandError>;

impl Connection {
    /// Whether a large reply may leave in pieces: there is somebody to take it.
    pub(super) fn takes_pieces(&self) -> bool {
        self.session.reply_mode == ReplyMode::On
    }

    /// Answers a read whose reply is too large to be made whole, all before it
    /// being answered. False: only the writer can.
    pub(super) async fn read_in_pieces(
        &mut self,
        request: usize,
        d: Dispatched,
        handler: DataHandler,
        group: Arc<Group>,
    ) -> Result<bool, End> {
        let answered = self.try_in_pieces(request, d, handler, group).await?;
        // What was read meanwhile is run next.
        self.unread.keep(0, 0);
        Ok(answered)
    }

    async fn try_in_pieces(
        &mut self,
        request: usize,
        d: Dispatched,
        handler: DataHandler,
        group: Arc<Group>,
    ) -> Result<bool, End> {
        self.check_output()?;
        self.flush_reading_on().await?;
        let turn = self.pieces_turn().await?;
        let (db, slot) = (self.session.db, d.slot);
        let one = self.requests.share(request);
        let subject = self.session.subject().cloned();
        let (nanos, begun) = self
            .make(move |out| {
                let job = ReadJob::in_pieces(&group, db, slot, handler, subject.as_deref());
                match job.begin_pieces(&one.get(0), out) {
                    Begun::InPieces(pieces) => Ok(next(*pieces, out)),
                    Begun::Whole(outcome) => Err(outcome),
                }
            })
            .await?;
        let failed = match begun {
            Ok(rest) => return self.send_pieces(request, d, nanos, rest, turn).await,
            Err(ReadOutcome::Done) => false,
            Err(ReadOutcome::Failed(error)) => {
                self.out.clear();
                self.report(&error);
                true
            }
            Err(ReadOutcome::ByWriter | ReadOutcome::Cold | ReadOutcome::Large) => {
                self.out.clear();
                return Ok(false);
            }
        };
        self.account(request, d, nanos, failed);
        Ok(true)
    }

    async fn pieces_turn(&self) -> Result<PiecesTurn, End> {
        tokio::select! {
            turn = InPieces::turn(&self.session.server) => Ok(turn),
            // Nothing was begun: the connection may go.
            () = self.session.client.killed() => Err(End::Closed),
        }
    }

    /// Sends piece after piece; the last is left in the output, as any reply.
    async fn send_pieces(
        &mut self,
        request: usize,
        d: Dispatched,
        mut nanos: u64,
        mut rest: Rest,
        turn: PiecesTurn,
    ) -> Result<bool, End> {
        loop {
            match rest {
                Ok(None) => break,
                Ok(Some(pieces)) => {
                    self.send_piece().await?;
                    let (more, next) = self.make(move |out| next(pieces, out)).await?;
                    nanos += more;
                    rest = next;
                }
                Err(error) => return Err(self.give_up(&error)),
            }
        }
        drop(turn);
        self.account(request, d, nanos, false);
        Ok(true)
    }

    /// Sends what was made, within the time that a client may take for it.
    async fn send_piece(&mut self) -> Result<(), End> {
        // Who may not have so much unread is closed, as behind a whole reply.
        self.check_output()?;
        let (client, live) = (self.session.client.clone(), &self.session.server.live);
        if client.is_killed() {
            return Err(End::Closed);
        }
        let patience = live.reply_pieces_timeout.load(Ordering::Relaxed) as u64;
        let patience = Duration::from_secs(patience);
        // A piece that was cut goes with its connection.
        match tokio::time::timeout(patience, self.flush_reading_on()).await {
            Ok(sent) => {
                let now = client.created.elapsed().as_millis() as u64;
                client.last_active_ms.store(now, Ordering::Relaxed);
                sent
            }
            Err(_) => {
                tracing::warn!(
                    client = client.id,
                    "closed: it did not take a large reply within reply-pieces-timeout"
                );
                Err(End::Closed)
            }
        }
    }

    /// A reply that has begun and cannot be ended: no error line can say so.
    fn give_up(&self, error: &CommandError) -> End {
        let client = self.session.client.id;
        tracing::error!(client, %error, "closed: the rest of a large reply could not be read");
        End::Closed
    }

    /// Has something written behind the output on the pool; how long that took.
    async fn make<T: Send + 'static>(
        &mut self,
        write: impl FnOnce(&mut ReplyWriter) -> T + Send + 'static,
    ) -> Result<(u64, T), End> {
        let version = self.session.version;
        let mut out = std::mem::replace(&mut self.out, ReplyWriter::new(version));
        let job = tokio::task::spawn_blocking(move || -> Made<T> {
            let started = Instant::now();
            out.set_version(version);
            let made = write(&mut out);
            (out, started.elapsed().as_nanos() as u64, made)
        });
        let (out, nanos, made) = job.await.map_err(|_| End::Closed)?;
        self.out = out;
        Ok((nanos, made))
    }
}

fn next(mut pieces: Pieces, out: &mut ReplyWriter) -> Rest {
    let more = pieces.next(out, PIECE)?;
    Ok(more.then_some(pieces))
}
