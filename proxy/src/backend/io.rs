//! Drives one link: connect, shake hands, pump frames, fail, try again.

use super::link::{Inner, Link};
use super::outbox::Outbox;
use super::retry;
use super::slab::Slab;
use crate::config::Config;
use crate::net::Thread;
use crate::{pubsub, tracking};
use bytes::{Bytes, BytesMut};
use cairn_protocol::link::{
    ClientHandshake, ClientStep, Credit, Decoder, Frame, HANDSHAKE_MAX_FRAME, Hello, LinkError,
    PeerKind, Ping, Push, ReplyClass, Welcome,
};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Time for connecting and shaking hands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Silence after which the node is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(2);
/// Silence after which the link is taken for dead.
const DEAD_AFTER: Duration = Duration::from_secs(8);
/// Waiting time after the first failure; doubled up to the longest.
const BACKOFF: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(1000);
/// Size of one read.
const READ_BYTES: usize = 128 * 1024;
/// Reads in one turn before the clients of this thread get theirs.
const READS_PER_TURN: usize = 4;
/// Paused clients go on when a link has less than this to write.
const DRAINED: usize = 1 << 20;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkEnd {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Protocol(#[from] LinkError),
    #[error("closed by the node")]
    Eof,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Makes a link and the task that keeps it alive for as long as the thread
/// routes to its address.
pub(crate) fn spawn(address: Rc<str>, thread: &Rc<Thread>) -> Rc<Link> {
    let link = Link::new(address, thread);
    tokio::task::spawn_local(run(link.clone()));
    link
}

async fn run(link: Rc<Link>) {
    let mut backoff = BACKOFF;
    loop {
        let Some(thread) = link.thread.upgrade() else {
            return;
        };
        let end = match connect(&link, &thread).await {
            Ok((stream, welcome, rest)) => {
                backoff = BACKOFF;
                tracing::info!(node = %link.address, "link is up");
                go_up(&link, &thread, welcome);
                let end = serve(&link, stream, rest).await;
                go_down(&link, &thread);
                end
            }
            Err(end) => end,
        };
        tracing::warn!(node = %link.address, reason = %end, retry_in = ?backoff, "link is down");
        if thread.forget_link(&link.address) {
            return;
        }
        drop(thread);
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Opens the connection and agrees with the node.
async fn connect(link: &Link, thread: &Thread) -> Result<(TcpStream, Welcome, BytesMut), LinkEnd> {
    let attempt = async {
        let mut stream = TcpStream::connect(&*link.address).await?;
        stream.set_nodelay(true)?;
        let config = &thread.shared.config;
        let (welcome, rest) = shake_hands(&mut stream, config, PeerKind::Proxy).await?;
        Ok((stream, welcome, rest))
    };
    timeout(CONNECT_TIMEOUT, attempt)
        .await
        .unwrap_or(Err(LinkEnd::Timeout(CONNECT_TIMEOUT)))
}

/// Lets the node know who is there; what it grants, and what it has sent since.
pub(crate) async fn shake_hands(
    stream: &mut TcpStream,
    config: &Config,
    kind: PeerKind,
) -> Result<(Welcome, BytesMut), LinkEnd> {
    let hello = Hello {
        kind,
        cluster: config.cluster.clone(),
        id: config.id.clone(),
    };
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let secret = config.secret.as_bytes();
    let mut shake = ClientHandshake::start(&hello, secret, rand::random(), &mut output)?;
    let decoder = Decoder::new(HANDSHAKE_MAX_FRAME);
    loop {
        stream.write_all_buf(&mut output).await?;
        while let Some(frame) = decoder.take_one(&mut input)? {
            if let ClientStep::Done(welcome) = shake.on_frame(&frame, &mut output)? {
                return Ok((welcome, input));
            }
        }
        if output.is_empty() && stream.read_buf(&mut input).await? == 0 {
            return Err(LinkEnd::Eof);
        }
    }
}

fn go_up(link: &Rc<Link>, thread: &Rc<Thread>, welcome: Welcome) {
    {
        let mut inner = link.inner.borrow_mut();
        inner.up = true;
        inner.leaving = false;
        inner.incarnation += 1;
        inner.welcome = welcome;
        inner.sessions = Slab::default();
        inner.outbox.reset();
    }
    pubsub::renew(thread, link);
    retry::kick(thread);
}

fn go_down(link: &Rc<Link>, thread: &Rc<Thread>) {
    let (calls, written, sessions) = {
        let mut inner = link.inner.borrow_mut();
        inner.up = false;
        let written = inner.outbox.written();
        inner.outbox.reset();
        let sessions = inner.sessions.drain();
        (inner.calls.drain(), written, sessions)
    };
    // What its node had remembered is not told any more.
    for client in sessions {
        tracking::lose(thread, &client);
    }
    retry::link_broke(thread, &link.address, calls, written);
    wake_waiters(link);
    thread.flush_dirty();
}

/// Pumps until the link ends.
async fn serve(link: &Rc<Link>, stream: TcpStream, rest: BytesMut) -> LinkEnd {
    let max_frame = cairn_protocol::link::DEFAULT_MAX_FRAME;
    let mut pump = Pump {
        link,
        stream,
        input: rest,
        decoder: Decoder::new(max_frame),
        heard: Instant::now(),
    };
    let mut tick = tokio::time::interval(PING_AFTER);
    loop {
        // Cancelling the pump is safe: all its state is in `pump` and the link.
        let end = tokio::select! {
            biased;
            end = poll_fn(|cx| pump.poll(cx)) => Some(end),
            _ = tick.tick() => pump.check_alive(),
        };
        if let Some(end) = end {
            return end;
        }
    }
}

struct Pump<'a> {
    link: &'a Rc<Link>,
    stream: TcpStream,
    input: BytesMut,
    decoder: Decoder,
    /// When the node last sent anything.
    heard: Instant,
}

impl Pump<'_> {
    /// Reads, dispatches, writes; ready only with the link's end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        self.link.set_waker(cx.waker());
        let outcome = self.read(cx);
        if let Some(thread) = self.link.thread.upgrade() {
            thread.flush_dirty();
        }
        if let Poll::Ready(Err(end)) = outcome {
            return Poll::Ready(end);
        }
        if let Poll::Ready(Err(error)) = self.write(cx) {
            return Poll::Ready(error.into());
        }
        let inner = self.link.inner.borrow();
        if inner.leaving && inner.calls.len() == 0 {
            return Poll::Ready(LinkEnd::Eof);
        }
        Poll::Pending
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkEnd>> {
        for _ in 0..READS_PER_TURN {
            ready!(self.stream.poll_read_ready(cx))?;
            if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
                self.input.reserve(READ_BYTES);
            }
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => return Poll::Ready(Err(LinkEnd::Eof)),
                Ok(_) => {
                    self.heard = Instant::now();
                    if let Some(thread) = self.link.thread.upgrade() {
                        thread.begin_turn(self.heard.into());
                    }
                    self.dispatch()?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }

    fn dispatch(&mut self) -> Result<(), LinkEnd> {
        while let Some(batch) = self.decoder.take(&mut self.input)? {
            for frame in batch.frames() {
                self.on_frame(frame?)?;
            }
        }
        Ok(())
    }

    fn on_frame(&self, frame: Frame<'_>) -> Result<(), LinkError> {
        match frame {
            Frame::Reply(reply) if reply.class == ReplyClass::More => {
                retry::on_part(self.link, &reply)
            }
            Frame::Reply(reply) => {
                let call = self.link.inner.borrow_mut().calls.take(reply.request);
                let call = call.ok_or(LinkError::Unexpected("reply to no request"))?;
                retry::on_reply(self.link, call, &reply)
            }
            Frame::Ping(ping) => {
                ping.put_pong(self.link.inner.borrow_mut().outbox.buffer());
                Ok(())
            }
            Frame::GoAway(away) => {
                tracing::info!(node = %self.link.address, reason = away.reason, text = away.text, "node says goodbye");
                self.link.inner.borrow_mut().leaving = true;
                Ok(())
            }
            Frame::Push(push) => {
                self.on_push(&push);
                Ok(())
            }
            // Windows are only ever as WELCOME said in this version.
            Frame::Pong(_) | Frame::Credit(_) => Ok(()),
            Frame::Request(_) | Frame::Open(_) | Frame::Close(_) | Frame::Grant(_) => {
                Err(LinkError::Unexpected("a node may not ask"))
            }
        }
    }

    /// What a session gets unasked. One that was closed gets nothing.
    fn on_push(&self, push: &Push<'_>) {
        let client = self.link.inner.borrow().sessions.get(push.logical).cloned();
        let (Some(client), Some(thread)) = (client, self.link.thread.upgrade()) else {
            return;
        };
        match push.kind {
            Push::MESSAGES => {
                let credit = Credit {
                    logical: push.logical,
                    requests: 0,
                    bytes: push.payload.len() as u32,
                };
                // What the client does not take is its output limit's affair.
                credit.put(self.link.inner.borrow_mut().outbox.buffer());
                tracking::show(&thread, &client, Bytes::copy_from_slice(&push.payload));
                thread.mark_dirty(client);
            }
            Push::WAITS => {
                let id = push.payload.get(..8).and_then(|id| id.try_into().ok());
                let id = id.map(u64::from_le_bytes);
                let seq = id.and_then(|id| Some(self.link.inner.borrow().calls.get(id)?.seq));
                if let (Some(id), Some(seq)) = (id, seq) {
                    client.state.borrow_mut().waits(seq, thread.turn_us());
                    client.begin_waiting(self.link, id);
                }
            }
            // Its subscriptions are over, and it would not know.
            Push::CUT_OFF => client.info.kill(),
            _ => {}
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut inner = self.link.inner.borrow_mut();
            if inner.outbox.is_empty() {
                break;
            }
            match write_some(&self.stream, &mut inner) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(inner);
                    ready!(self.stream.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        wake_waiters(self.link);
        Poll::Ready(Ok(()))
    }

    /// Asks a silent node whether it is there; gives up on a dead one.
    fn check_alive(&mut self) -> Option<LinkEnd> {
        let silence = self.heard.elapsed();
        let mut inner = self.link.inner.borrow_mut();
        if silence >= DEAD_AFTER {
            return Some(LinkEnd::Timeout(DEAD_AFTER));
        }
        if silence >= PING_AFTER {
            Ping { token: 0 }.put(inner.outbox.buffer());
        }
        None
    }
}

fn write_some(stream: &TcpStream, inner: &mut Inner) -> io::Result<()> {
    let mut room = Outbox::room();
    let used = inner.outbox.slices(&mut room);
    let written = match used {
        1 => stream.try_write(&room[0])?,
        _ => stream.try_write_vectored(&room[..used])?,
    };
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    inner.outbox.advance(written);
    Ok(())
}

/// Lets clients go on that paused because the link was congested.
fn wake_waiters(link: &Link) {
    if link.inner.borrow().outbox.len() < DRAINED {
        for client in link.waiters.borrow_mut().drain(..) {
            client.wake();
        }
    }
}
