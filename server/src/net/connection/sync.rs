//! SYNC and PSYNC: the connection becomes a replica's.
//!
//! It is sent the data set, then all that others put into its outbox, which is
//! what any client is sent unasked. Until the data set has gone the outbox is
//! left alone; its bounds hold all the while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_protocol::command::{Resolved, id, resolve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

use super::{Connection, End};
use crate::group::Group;
use crate::replication::{Handshake, Replica, ReplicaState, Transfer, export};
use crate::scripting;
use crate::server::Home;
use crate::storage::{Held, Pin};

/// Between two looks at compactions that must end first.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often a replica that waits is told that it is not forgotten.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Pieces of the data set that are made ahead.
const PIECES_AHEAD: usize = 4;

/// So many are sent the data set at a time; others wait.
static TRANSFERS: Semaphore = Semaphore::const_new(4);

const NO_CLUSTER: &str = "ERR SYNC is not possible on a node of a cluster: its groups replicate by \
    Raft, each its own slots. Use a standalone server, or copy with RESTORE";

impl Connection {
    /// Serves a SYNC, or a PSYNC.
    pub(super) async fn sync(&mut self, psync: bool) -> Result<(), End> {
        let Home::Standalone(group) = &self.session.server.home else {
            return self.answer_error(NO_CLUSTER.as_bytes()).await;
        };
        let group = group.clone();
        self.flush().await?;
        let wish = self.session.handshake.clone();
        let turn = self.transfer_turn().await?;
        let (pin, offset, replica) = self.begin_sync(&group, &wish, psync).await?;
        let server = self.session.server.clone();
        if psync {
            let line = format!("+FULLRESYNC {} {offset}\r\n", server.replication_id());
            self.send_now(line.as_bytes()).await?;
        }
        let transfer = Transfer {
            pin,
            context: group.context(0, None, group.now(), true),
            libraries: scripting::libraries(),
            contents: wish.contents,
            aux: export::aux_fields(&server.replication_id(), offset),
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

    async fn transfer_turn(&mut self) -> Result<SemaphorePermit<'static>, End> {
        loop {
            match tokio::time::timeout(KEEP_ALIVE, TRANSFERS.acquire()).await {
                Ok(turn) => return turn.map_err(|_| End::Closed),
                Err(_) => self.send_now(b"\n").await?,
            }
        }
    }

    /// Pins the data set and, unless only that is wanted, attaches the client.
    async fn begin_sync(
        &mut self,
        group: &Arc<Group>,
        wish: &Handshake,
        psync: bool,
    ) -> Result<(Pin, u64, Option<Arc<Replica>>), End> {
        let expired = group.store.hold_garbage(Held::Expired);
        let all = group.store.hold_garbage(Held::Everything);
        let mut told = Instant::now();
        while expired.is_pending() || all.is_pending() {
            tokio::time::sleep(LOOK_EVERY).await;
            if told.elapsed() >= KEEP_ALIVE {
                self.send_now(b"\n").await?;
                told = Instant::now();
            }
        }
        let client = self.session.client.clone();
        let replica = (!wish.rdb_only).then(|| {
            let host = wish.host.clone();
            let host = host.unwrap_or_else(|| client.peer.ip().to_string());
            Arc::new(Replica::new(client, host, wish.port, !psync))
        });
        let (announcer, store) = (self.session.server.announcer.clone(), group.store.clone());
        let (done, began) = oneshot::channel();
        let newcomer = replica.clone();
        group.between_entries(Box::new(move || {
            let pin = Pin::new(&store, all);
            let offset = match newcomer {
                Some(replica) => announcer.feed.attach(replica, expired),
                None => announcer.feed.offset(),
            };
            // Gone meanwhile: it is detached when its connection ends.
            let _ = done.send((pin, offset));
        }));
        let (pin, offset) = began.await.map_err(|_| End::Closed)?;
        Ok((pin, offset, replica))
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
