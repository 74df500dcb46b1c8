//! One node's replication feed, as the proxy gets it.

use crate::backend::{LinkEnd, shake_hands};
use crate::config::Config;
use bytes::{Bytes, BytesMut};
use cairn_protocol::link::feed::{FeedRequest, Frame, FrameKind, Wish, runs, take_frame};
use cairn_protocol::link::{LinkError, PeerKind};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

/// A node that is at work says so each second.
const PATIENCE: Duration = Duration::from_secs(20);
/// A connection that carries nothing is looked at after so long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Room for one read.
const READ_BYTES: usize = 128 << 10;
/// Bytes of one node's changes that may wait here.
const BUDGET: usize = 32 << 20;
/// Frames that may wait to be looked at.
const FRAMES_AHEAD: usize = 256;

/// Why a node's feed ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceEnd {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Link(#[from] LinkEnd),
    #[error("{0}")]
    Protocol(#[from] LinkError),
    #[error("closed by the node")]
    Closed,
    #[error("no sign of life for {PATIENCE:?}")]
    Silent,
    #[error("a frame that does not belong there")]
    Unexpected,
}

/// What a node has to give.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Groups, and runs of their slots.
    pub groups: Vec<(u32, Vec<(u16, u16)>)>,
    pub libraries: Vec<Bytes>,
    pub offset: u64,
}

/// A node that has pinned its data, and is to be asked for it.
pub(super) struct Source {
    pub address: Rc<str>,
    pub head: Head,
    frames: Frames<TcpStream>,
}

impl Source {
    /// Connects, and has the node pin what is wanted.
    pub async fn open(address: Rc<str>, config: &Config, wish: Wish) -> Result<Self, SourceEnd> {
        let mut stream = patiently(TcpStream::connect(&*address)).await??;
        stream.set_nodelay(true)?;
        let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE);
        SockRef::from(&stream).set_tcp_keepalive(&keep_alive)?;
        let (_, input) = patiently(shake_hands(&mut stream, config, PeerKind::Feed)).await??;
        let mut source = Self {
            address,
            head: Head::default(),
            frames: Frames { stream, input },
        };
        source.ask(FeedRequest::Sync(wish)).await?;
        loop {
            let frame = source.next().await?;
            match frame.head.kind {
                FrameKind::Group => {
                    let runs = runs(&frame.payload)?;
                    source.head.groups.push((frame.head.group, runs));
                }
                FrameKind::Library => source.head.libraries.push(frame.payload),
                FrameKind::Ready => {
                    source.head.offset = frame.head.offset;
                    return Ok(source);
                }
                _ => return Err(SourceEnd::Unexpected),
            }
        }
    }

    /// Asks for the keys, which [`Self::part`] gives.
    pub async fn ask_for_keys(&mut self) -> Result<(), SourceEnd> {
        self.ask(FeedRequest::Send).await
    }

    /// The next piece of them; `None` behind the last.
    pub async fn part(&mut self) -> Result<Option<Bytes>, SourceEnd> {
        let frame = self.next().await?;
        match frame.head.kind {
            FrameKind::Part => Ok(Some(frame.payload)),
            FrameKind::Sent => Ok(None),
            _ => Err(SourceEnd::Unexpected),
        }
    }

    async fn ask(&mut self, request: FeedRequest) -> Result<(), SourceEnd> {
        Ok(self.frames.stream.write_all(&request.encode()).await?)
    }

    async fn next(&mut self) -> Result<Frame, SourceEnd> {
        loop {
            let frame = patiently(self.frames.next()).await??;
            if frame.head.kind != FrameKind::Alive {
                return Ok(frame);
            }
        }
    }

    /// From here on a task reads the changes into `to`, as number `at`.
    pub fn follow(self, at: usize, to: mpsc::Sender<News>) -> Followed {
        let (reader, writer) = self.frames.stream.into_split();
        let frames = Frames {
            stream: reader,
            input: self.frames.input,
        };
        Followed {
            address: self.address,
            writer,
            task: tokio::task::spawn_local(read_changes(frames, at, to)),
        }
    }
}

async fn patiently<T>(work: impl Future<Output = T>) -> Result<T, SourceEnd> {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.map_err(|_| SourceEnd::Silent)
}

/// Bytes that become frames.
struct Frames<R> {
    stream: R,
    input: BytesMut,
}

impl<R: AsyncReadExt + Unpin> Frames<R> {
    /// The next frame. Cancel safe: what was read stays in `input`.
    async fn next(&mut self) -> Result<Frame, SourceEnd> {
        loop {
            if let Some(frame) = take_frame(&mut self.input)? {
                return Ok(frame);
            }
            self.input.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(SourceEnd::Closed);
            }
        }
    }
}

/// A frame, with its share of what may wait here.
pub(super) struct Told {
    pub frame: Frame,
    _share: Option<OwnedSemaphorePermit>,
}

impl Told {
    #[cfg(test)]
    pub fn of(frame: Frame) -> Told {
        Told {
            frame,
            _share: None,
        }
    }
}

/// What comes of source number `.0`.
pub(super) type News = (usize, Result<Told, SourceEnd>);

/// A place for the news of all sources.
pub(super) fn news() -> (mpsc::Sender<News>, mpsc::Receiver<News>) {
    mpsc::channel(FRAMES_AHEAD)
}

/// A node whose changes come; they end when this is dropped.
pub(super) struct Followed {
    pub address: Rc<str>,
    writer: OwnedWriteHalf,
    task: JoinHandle<()>,
}

impl Followed {
    /// Asks for something, in a few bytes.
    pub async fn ask(&mut self, request: FeedRequest) -> io::Result<()> {
        self.writer.write_all(&request.encode()).await
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_changes(mut frames: Frames<OwnedReadHalf>, at: usize, to: mpsc::Sender<News>) {
    let budget = Arc::new(Semaphore::new(BUDGET));
    loop {
        let told = match frames.next().await {
            Ok(frame) => Ok(Told {
                _share: share(&budget, frame.payload.len()).await,
                frame,
            }),
            Err(end) => Err(end),
        };
        let over = told.is_err();
        if to.send((at, told)).await.is_err() || over {
            return;
        }
    }
}

async fn share(budget: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    match bytes.min(BUDGET) {
        0 => None,
        bytes => budget.clone().acquire_many_owned(bytes as u32).await.ok(),
    }
}
