//! A proxy that wants this node's replication feed: its connection, from WELCOME on.
//!
//! One task a connection. First it is sent what the groups here hold, when it asks
//! for that; then what `replication::Feed` puts into its client's outbox, whose bounds
//! are those of any replica. The bytes are `cairn_protocol::link::feed`.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cairn_protocol::link::LinkError;
use cairn_protocol::link::feed::{FeedRequest, FrameHead, FrameKind, Wish, put_runs};
use cairn_protocol::resp::{ReplyWriter, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::net::session::Client;
use crate::replication::{self, Part, Replica, ReplicaState, export};
use crate::scripting;
use crate::server::Server;

/// How often a proxy that waits is told that it is not forgotten.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Pieces of the keys that are made ahead.
const PIECES_AHEAD: usize = 4;
/// A proxy that does not read is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Why it ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed by the proxy")]
    Closed,
    #[error("closed here")]
    Killed,
    #[error("a group has no leader here now")]
    NoLeader,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Protocol(#[from] LinkError),
}

struct Peer {
    server: Arc<Server>,
    client: Arc<Client>,
    stream: TcpStream,
    input: BytesMut,
    out: ReplyWriter,
}

/// Serves a proxy's feed to its end. The caller counts the connection.
pub(super) async fn serve(
    server: Arc<Server>,
    client: Arc<Client>,
    stream: TcpStream,
    input: BytesMut,
) {
    server.clients.insert(client.id, client.clone());
    let mut peer = Peer {
        server: server.clone(),
        client: client.clone(),
        stream,
        input,
        out: ReplyWriter::new(Version::V2),
    };
    let end = peer.run().await.err();
    let reason = end.map_or_else(|| "all is sent".to_owned(), |end| end.to_string());
    tracing::info!(
        client = client.id,
        reason,
        "a proxy's replication feed ended"
    );
    client.end();
    server.forget(&client);
    server.clients.remove(&client.id);
}

impl Peer {
    async fn run(&mut self) -> Result<(), End> {
        let wish = loop {
            if let FeedRequest::Sync(wish) = self.request().await? {
                break wish;
            }
        };
        let (parts, replica) = self.begin(wish).await?;
        while self.request().await? != FeedRequest::Send {}
        if wish.keys {
            self.send_keys(parts).await?;
        }
        self.send(FrameHead::plain(FrameKind::Sent), &[]).await?;
        if let Some(replica) = replica {
            replica.set_state(ReplicaState::Online);
            self.follow().await?;
        }
        Ok(())
    }

    /// Attaches, and says what there is.
    async fn begin(&mut self, wish: Wish) -> Result<(Vec<Part>, Option<Arc<Replica>>), End> {
        let host = self.client.peer.host();
        let replica = Arc::new(Replica::behind_proxy(self.client.clone(), host));
        let replica = wish.changes.then_some(replica);
        let server = self.server.clone();
        let mut begin = Box::pin(replication::begin(&server, replica.clone()));
        let begun = loop {
            match tokio::time::timeout(KEEP_ALIVE, &mut begin).await {
                Ok(begun) => break begun.ok_or(End::NoLeader)?,
                Err(_) => self.send(FrameHead::plain(FrameKind::Alive), &[]).await?,
            }
        };
        for part in &begun.parts {
            let mut runs = Vec::new();
            put_runs(&part.slots, &mut runs);
            let head = FrameHead {
                group: part.group,
                ..FrameHead::plain(FrameKind::Group)
            };
            self.send(head, &runs).await?;
        }
        if wish.functions {
            for library in scripting::libraries().iter() {
                let head = FrameHead::plain(FrameKind::Library);
                self.send(head, &library.code).await?;
            }
        }
        let head = FrameHead {
            offset: begun.offset,
            ..FrameHead::plain(FrameKind::Ready)
        };
        self.send(head, &[]).await?;
        Ok((begun.parts, replica))
    }

    async fn send_keys(&mut self, parts: Vec<Part>) -> Result<(), End> {
        let _turn = loop {
            match tokio::time::timeout(KEEP_ALIVE, export::TRANSFERS.acquire()).await {
                Ok(turn) => break turn.map_err(|_| End::Killed)?,
                Err(_) => self.send(FrameHead::plain(FrameKind::Alive), &[]).await?,
            }
        };
        let (pieces, mut made) = mpsc::channel::<io::Result<Bytes>>(PIECES_AHEAD);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = export::run_keys(parts, &pieces) {
                // A receiver that is gone knows.
                let _ = pieces.blocking_send(Err(error));
            }
        });
        while let Some(piece) = made.recv().await {
            let piece = piece.inspect_err(|error| {
                tracing::error!(%error, "the data set could not be read for a proxy's replica");
            })?;
            self.send(FrameHead::plain(FrameKind::Part), &piece).await?;
        }
        Ok(())
    }

    /// Sends what is told, and hears how far the replica is.
    async fn follow(&mut self) -> Result<(), End> {
        let client = self.client.clone();
        loop {
            client.take_messages(&mut self.out);
            self.flush().await?;
            if let Some(request) = FeedRequest::take(&mut self.input)? {
                self.answer(request);
                continue;
            }
            // One future alone may wait for the client's signal: it wakes one.
            let n = tokio::select! {
                // Both lose nothing when they are dropped.
                n = self.stream.read_buf(&mut self.input) => n?,
                () = client.disturbed() => match client.is_killed() {
                    true => return Err(End::Killed),
                    false => {
                        client.take_idle();
                        continue;
                    }
                },
            };
            if n == 0 {
                return Err(End::Closed);
            }
        }
    }

    fn answer(&self, request: FeedRequest) {
        let feed = &self.server.announcer.feed;
        match request {
            FeedRequest::Ack(offset) => feed.acknowledge(self.client.id, offset),
            FeedRequest::Mark => feed.mark(&self.client),
            FeedRequest::Sync(_) | FeedRequest::Send => {}
        }
    }

    /// The next request, before there is anything to tell.
    async fn request(&mut self) -> Result<FeedRequest, End> {
        loop {
            if let Some(request) = FeedRequest::take(&mut self.input)? {
                return Ok(request);
            }
            let client = self.client.clone();
            let n = tokio::select! {
                n = self.stream.read_buf(&mut self.input) => n?,
                () = client.killed() => return Err(End::Killed),
            };
            if n == 0 {
                return Err(End::Closed);
            }
        }
    }

    /// Sends a frame past the outbox. The proxy may take as long as it likes: others
    /// may come before this node.
    async fn send(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), End> {
        let header = head.encode(payload.len());
        let (stream, client) = (&mut self.stream, self.client.clone());
        let all = async {
            stream.write_all(&header).await?;
            stream.write_all(payload).await
        };
        tokio::select! {
            // Killed, the connection is closed: what was cut does not matter.
            sent = all => Ok(sent?),
            () = client.killed() => Err(End::Killed),
        }
    }

    /// Sends what was taken out of the outbox.
    async fn flush(&mut self) -> Result<(), End> {
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let n = self.out.io_slices(&mut slices);
            match self.stream.try_write_vectored(&slices[..n]) {
                Ok(0) => return Err(End::Closed),
                Ok(sent) => self.out.advance(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.room().await?,
                Err(error) => return Err(error.into()),
            }
        }
        self.client.output_buffer.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until the proxy has read something, within the limits of replicas.
    async fn room(&mut self) -> Result<(), End> {
        loop {
            let unsent = self.out.len();
            self.client.output_buffer.store(unsent, Ordering::Relaxed);
            if self.client.exceeds(unsent) {
                self.client.cut_off();
                return Err(End::Killed);
            }
            tokio::select! {
                room = self.stream.writable() => return Ok(room?),
                () = self.client.killed() => return Err(End::Killed),
                // The soft limit is a matter of time.
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }
}
