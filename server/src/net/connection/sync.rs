//! SYNC and PSYNC: the connection becomes a replica's.
//!
//! It is sent the data set, then all that others put into its outbox, which is
//! what any client is sent unasked. Until the data set has gone the outbox is
//! left alone; its bounds hold all the while.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_protocol::command::{Resolved, id, resolve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{SemaphorePermit, mpsc};

use super::{Connection, End};
use crate::replication::{self, Begun, Handshake, Replica, ReplicaState, Transfer, export};
use crate::scripting;
use crate::server::Home;
use crate::storage::Held;

/// How often a replica that waits is told that it is not forgotten.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Pieces of the data set that are made ahead.
const PIECES_AHEAD: usize = 4;

impl Connection {
    /// Serves a SYNC, or a PSYNC.
    pub(super) async fn sync(&mut self, psync: bool) -> Result<(), End> {
        self.flush().await?;
        let wish = self.session.handshake.clone();
        if psync && self.resume(&wish).await? {
            return Ok(());
        }
        let syncs = &self.session.server.announcer.feed.syncs;
        syncs.full.fetch_add(1, Ordering::Relaxed);
        let turn = self.transfer_turn().await?;
        let replica = self.as_replica(&wish, psync);
        let begun = self.begin_sync(replica.clone()).await?;
        let (server, offset) = (self.session.server.clone(), begun.offset);
        if psync {
            let line = format!("+FULLRESYNC {} {offset}\r\n", server.replication_id());
            self.send_now(line.as_bytes()).await?;
        }
        let mut aux = export::aux_fields(&server.replication_id(), offset);
        if let Some(db) = begun.stream_db {
            aux.push(("repl-stream-db", db.to_string()));
        }
        let transfer = Transfer {
            parts: begun.parts,
            libraries: scripting::libraries(),
            contents: wish.contents,
            aux,
            // Streamed as it is made to those who can tell its end from a mark.
            mark: (wish.eof && (server.live.is_diskless_sync() || !wish.contents.is_all()))
                .then(crate::server::new_id),
            spool_in: server.config.data_dir.clone(),
        };
        let marked = transfer.mark.is_some();
        if let Some(replica) = &replica {
            replica.set_state(ReplicaState::SendBulk);
        }
        self.send_snapshot(transfer).await?;
        drop(turn);
        tracing::info!(
            client = self.session.client.id,
            "a replica has the data set"
        );
        let Some(replica) = replica else {
            return Ok(());
        };
        if marked && psync {
            // Its mark must be the last thing that it reads.
            self.first_acknowledgement().await?;
        }
        replica.set_state(ReplicaState::Online);
        Ok(())
    }

    /// Has the replica go on where it was, if it can be told what it missed.
    async fn resume(&mut self, wish: &Handshake) -> Result<bool, End> {
        let server = self.session.server.clone();
        let feed = &server.announcer.feed;
        let (Some((id, next)), Home::Standalone(group)) = (&wish.resume, &server.home) else {
            return Ok(false);
        };
        let resumed = self.as_replica(wish, true).filter(|replica| {
            let hold = group.store.hold_garbage(Held::Expired);
            server.is_own_stream(id, *next) && feed.resume(replica.clone(), group.id, hold, *next)
        });
        let Some(replica) = resumed else {
            feed.syncs.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(false);
        };
        feed.syncs.partial.fetch_add(1, Ordering::Relaxed);
        let line = match wish.psync2 {
            true => format!("+CONTINUE {}\r\n", server.replication_id()),
            false => "+CONTINUE\r\n".to_owned(),
        };
        // What it missed is in its outbox, which comes next.
        self.send_now(line.as_bytes()).await?;
        replica.set_state(ReplicaState::Online);
        tracing::info!(
            client = self.session.client.id,
            "a replica goes on where it was"
        );
        Ok(true)
    }

    async fn transfer_turn(&mut self) -> Result<SemaphorePermit<'static>, End> {
        loop {
            match tokio::time::timeout(KEEP_ALIVE, export::TRANSFERS.acquire()).await {
                Ok(turn) => return turn.map_err(|_| End::Closed),
                Err(_) => self.send_now(b"\n").await?,
            }
        }
    }

    /// What the client is as a replica, unless it wants the data set alone.
    fn as_replica(&self, wish: &Handshake, psync: bool) -> Option<Arc<Replica>> {
        let client = self.session.client.clone();
        let host = wish.host.clone();
        let host = host.unwrap_or_else(|| client.peer.host());
        let replica = Replica::new(client, host, wish.port, !psync);
        (!wish.rdb_only).then(|| Arc::new(replica))
    }

    /// Pins the data set and attaches the replica.
    async fn begin_sync(&mut self, replica: Option<Arc<Replica>>) -> Result<Begun, End> {
        let server = self.session.server.clone();
        let mut begin = Box::pin(replication::begin(&server, replica));
        loop {
            match tokio::time::timeout(KEEP_ALIVE, &mut begin).await {
                Ok(begun) => return begun.ok_or(End::Closed),
                Err(_) => self.send_now(b"\n").await?,
            }
        }
    }

    async fn send_snapshot(&mut self, transfer: Transfer) -> Result<(), End> {
        let (pieces, mut made) = mpsc::channel::<std::io::Result<Bytes>>(PIECES_AHEAD);
        let work = tokio::task::spawn_blocking(move || {
            if let Err(error) = transfer.run(&pieces) {
                // A receiver that is gone knows.
                let _ = pieces.blocking_send(Err(error));
            }
        });
        let mut begun = false;
        loop {
            let piece = tokio::select! {
                piece = made.recv() => piece,
                // Nothing is lost: the piece stays in the channel.
                () = tokio::time::sleep(KEEP_ALIVE), if !begun => {
                    self.send_now(b"\n").await?;
                    continue;
                }
                () = self.session.client.killed() => return Err(End::Closed),
            };
            match piece {
                Some(Ok(piece)) => self.send_now(&piece).await?,
                Some(Err(error)) => {
                    tracing::error!(%error, "the data set could not be read for a replica");
                    return Err(End::Closed);
                }
                None => break,
            }
            begun = true;
        }
        work.await.map_err(|_| End::Closed)
    }

    /// Sends bytes past all buffers, for as long as a silent replica may take.
    async fn send_now(&mut self, bytes: &[u8]) -> Result<(), End> {
        let client = self.session.client.clone();
        let patience = self.session.server.announcer.feed.timeout();
        tokio::select! {
            // A connection that is killed or too slow is closed: what was cut
            // does not matter.
            sent = tokio::time::timeout(patience, self.stream.write_all(bytes)) => match sent {
                Ok(sent) => Ok(sent?),
                Err(_) => Err(End::Closed),
            },
            () = client.killed() => Err(End::Closed),
        }
    }

    /// Waits until the replica says how far it is: it has loaded the data set.
    async fn first_acknowledgement(&mut self) -> Result<(), End> {
        let client = self.session.client.clone();
        let feed_timeout = self.session.server.announcer.feed.timeout();
        let mut heard = Instant::now();
        loop {
            let limits = self.limits();
            let parsed = self
                .parser
                .parse(&mut self.input, &limits, 1, &mut self.requests);
            match parsed {
                Ok(0) => {}
                Ok(n) => {
                    let args = self.requests.get(0);
                    let known = matches!(resolve(&args), Resolved::Command(spec) if spec.id == id::REPLCONF);
                    self.execute(n).await?;
                    if known {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => return self.refuse(error).await,
            }
            let left = feed_timeout.saturating_sub(heard.elapsed());
            let n = tokio::select! {
                // Cancelling a read loses nothing.
                n = self.stream.read_buf(&mut self.input) => n?,
                () = client.killed() => return Err(End::Closed),
                () = tokio::time::sleep(left) => return Err(End::Closed),
            };
            if n == 0 {
                return Err(End::Closed);
            }
            heard = Instant::now();
        }
    }
}
