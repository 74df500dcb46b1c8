//! Drives one link: reads, has the engine work, writes.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use cairn_protocol::link::{Decoder, LinkError, PeerKind};
use tokio::net::TcpStream;

use super::engine::Engine;
use super::feed;
use super::handshake::{Identity, shake_hands};
use super::place::Place;
use crate::cluster::Node;
use crate::net::Turns;
use crate::net::session::Client;
use crate::server::Server;

/// Room for one read.
const READ_BYTES: usize = 64 << 10;
/// Reads in one turn, before the other tasks of the thread get theirs.
const READS_PER_TURN: usize = 2;
/// Nothing more is read while so many bytes wait to be written.
const OUT_FULL: usize = 8 << 20;
/// How often deadlines and silence are looked at.
const TICK: Duration = Duration::from_millis(250);
/// A silent peer is asked whether it is there, then taken for dead.
const PING_AFTER: Duration = Duration::from_secs(15);
const DEAD_AFTER: Duration = Duration::from_secs(45);
/// A peer that is sent away has so long to take the last bytes.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// GOAWAY's reasons.
const SHUTDOWN: u8 = 0;
const PROTOCOL_ERROR: u8 = 1;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed by the peer")]
    Closed,
    #[error("no sign of life for {DEAD_AFTER:?}")]
    Silent,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Protocol(#[from] LinkError),
}

/// Counts a link among the connections for as long as it lives.
struct Counted(Arc<Server>);

impl Counted {
    fn new(server: &Arc<Server>) -> Counted {
        server.connected.fetch_add(1, Ordering::Relaxed);
        Counted(server.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one link to `node` until it ends. The first bytes of `stream` are
/// the link's magic; the task belongs on a network thread.
pub async fn serve(server: Arc<Server>, node: Arc<Node>, stream: TcpStream, turns: Turns) {
    let identity = Identity::of(&node);
    serve_at(server, node, Rc::new(identity), stream, turns).await;
}

/// [`serve`] for any place.
pub async fn serve_at(
    server: Arc<Server>,
    place: Arc<dyn Place>,
    identity: Rc<Identity>,
    mut stream: TcpStream,
    turns: Turns,
) {
    let _counted = Counted::new(&server);
    let _ = stream.set_nodelay(true);
    let Ok(peer) = stream.peer_addr() else { return };
    let (hello, input) = match shake_hands(&mut stream, &identity).await {
        Ok(met) => met,
        Err(error) => {
            tracing::warn!(%peer, %error, "a peer was not let in");
            return;
        }
    };
    tracing::info!(%peer, kind = ?hello.kind, id = hello.id, "link opened");
    let local = stream.local_addr().unwrap_or(peer);
    let client = Arc::new(Client::new(
        server.next_client_id(),
        peer,
        local,
        server.live.clone(),
        server.acl.default_user().clone(),
    ));
    client.labels.lock().name = hello.id.clone();
    if hello.kind == PeerKind::Feed {
        return feed::serve(server, client, stream, input).await;
    }
    let engine = Engine::new(server.clone(), place, client, turns, identity.welcome);
    let decoder = Decoder::new(identity.welcome.max_frame as usize);
    let now = Instant::now();
    let pump = Pump {
        server,
        stream,
        input,
        decoder,
        engine,
        heard: now,
        asked: false,
    };
    let end = pump.run().await;
    tracing::info!(%peer, id = hello.id, reason = %end, "link ended");
}

struct Pump {
    server: Arc<Server>,
    stream: TcpStream,
    input: BytesMut,
    decoder: Decoder,
    engine: Engine,
    /// When the peer last sent anything.
    heard: Instant,
    /// It was asked for a sign of life since.
    asked: bool,
}

impl Pump {
    async fn run(mut self) -> End {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let server = self.server.clone();
        let stopped = server.stopped();
        tokio::pin!(stopped);
        let mut leaving = false;
        let end = loop {
            // All are safe to cancel: their state is in the pump.
            tokio::select! {
                biased;
                end = poll_fn(|cx| self.poll(cx)) => break end,
                () = &mut stopped, if !leaving => {
                    leaving = true;
                    self.engine.go_away(SHUTDOWN, "the node is shutting down");
                }
                _ = tick.tick() => {
                    self.engine.on_tick();
                    if let Some(end) = self.check_alive() {
                        break end;
                    }
                }
            }
        };
        if let End::Protocol(error) = &end {
            self.engine.go_away(PROTOCOL_ERROR, &error.to_string());
            let _ = tokio::time::timeout(LAST_WORDS, poll_fn(|cx| self.write(cx))).await;
        }
        end
    }

    /// One round. Ready only with the link's end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.engine.poll_finished(cx);
        let read = self.read(cx);
        while self.engine.submit() {
            // Asks to be woken by what was just submitted, or answers it.
            self.engine.poll_finished(cx);
        }
        let was_full = self.engine.out.len() > OUT_FULL;
        let written = self.write(cx);
        if was_full && self.engine.out.len() <= OUT_FULL {
            // Reading goes on.
            cx.waker().wake_by_ref();
        }
        match (read, written) {
            (Err(end), _) => Poll::Ready(end),
            (_, Poll::Ready(Err(error))) => Poll::Ready(error.into()),
            _ => Poll::Pending,
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        // What came along with the handshake.
        self.take_frames()?;
        for _ in 0..READS_PER_TURN {
            // See `poll` for what wakes the task then.
            if self.engine.out.len() > OUT_FULL {
                return Ok(());
            }
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready?,
            }
            if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
                self.input.reserve(READ_BYTES);
            }
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => return Err(End::Closed),
                Ok(n) => {
                    (self.heard, self.asked) = (Instant::now(), false);
                    self.server
                        .stats
                        .net_input_bytes
                        .fetch_add(n as u64, Ordering::Relaxed);
                    self.take_frames()?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn take_frames(&mut self) -> Result<(), End> {
        while let Some(batch) = self.decoder.take(&mut self.input)? {
            self.engine.on_batch(&batch)?;
        }
        Ok(())
    }

    /// Writes what waits. Ready when all is written.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.engine.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let n = self.engine.out.io_slices(&mut slices);
            let sent = match n {
                1 => self.stream.try_write(&slices[0]),
                _ => self.stream.try_write_vectored(&slices[..n]),
            };
            match sent {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(sent) => {
                    self.engine.out.advance(sent);
                    self.server
                        .stats
                        .net_output_bytes
                        .fetch_add(sent as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.stream.poll_write_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn check_alive(&mut self) -> Option<End> {
        let silence = self.heard.elapsed();
        if silence >= DEAD_AFTER {
            return Some(End::Silent);
        }
        if silence >= PING_AFTER && !self.asked {
            self.asked = true;
            self.engine.ping();
        }
        None
    }
}
