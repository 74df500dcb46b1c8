//! One replica's connection: attached, sent the data set, told what changes.

use super::dump::{Dump, Target, aux_fields};
use super::source::{Source, SourceEnd};
use super::stream::Stream;
use super::{Follow, State};
use crate::net::{ClientInfo, Shared, Thread};
use crate::route::{Owner, RouteMap};
use bytes::BytesMut;
use cairn_protocol::link::feed::Wish;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// How often a replica that waits is told that it is not forgotten.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// A replica may take nothing, or say nothing, for so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// While leaders change and slots move, it is tried again for so long.
const ATTACH_PATIENCE: Duration = Duration::from_secs(30);
const ATTACH_AGAIN: Duration = Duration::from_millis(300);
const PIECE: usize = 64 << 10;

/// Why a replica's connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("closed by the replica")]
    Gone,
    #[error("killed")]
    Killed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it took nothing, or said nothing, for {PATIENCE:?}")]
    Slow,
    #[error("it said what no replica says")]
    Protocol,
    #[error("slots or leaders have moved: it must begin anew")]
    Moved,
    #[error("a node or group was flushed alone: it must begin anew")]
    FlushedAlone,
    #[error("group {0} has no leader that can be reached")]
    NoLeader(u32),
    #[error("no slot is assigned to any group")]
    NoSlots,
    #[error("what nodes hold is not what the slot map says")]
    Mismatch,
    #[error("node {0}: {1}")]
    Source(String, SourceEnd),
    #[error("the data set could not be spooled in the folder for temporary files: {0}")]
    Spool(io::Error),
}

/// Serves a replica to its end.
pub(crate) async fn run(
    thread: &Rc<Thread>,
    client: &Arc<ClientInfo>,
    stream: Option<TcpStream>,
    input: BytesMut,
    follow: Follow,
) {
    let shared = thread.shared.clone();
    let info = follow.info.clone();
    let Some(stream) = stream else {
        return shared.replicas.leave(&info);
    };
    let mut feed = Feed {
        outlet: Outlet {
            stream,
            client: client.clone(),
            shared: shared.clone(),
        },
        input,
        map: thread.map(),
        follow,
        shared,
    };
    let end = feed.run().await.err();
    let reason = end.map_or_else(|| "it has all".to_owned(), |end| end.to_string());
    tracing::warn!(client = client.id, reason, "a replica's connection ended");
    thread.shared.replicas.leave(&info);
}

/// The way to the replica.
pub(super) struct Outlet {
    pub stream: TcpStream,
    pub client: Arc<ClientInfo>,
    pub shared: Arc<Shared>,
}

impl Outlet {
    /// Sends all of it.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let mut rest = bytes;
        while !rest.is_empty() {
            tokio::select! {
                // Nothing is lost: it only tells that there is room.
                room = tokio::time::timeout(PATIENCE, self.stream.writable()) => {
                    room.map_err(|_| End::Slow)??;
                }
                () = ended(&self.client, &self.shared) => return Err(End::Killed),
            }
            rest = &rest[self.try_send(rest)?..];
        }
        Ok(())
    }

    /// Sends what the socket takes now.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            sent => sent,
        }
    }
}

/// Waits until the client is killed, its user is no more, or the proxy stops.
pub(super) async fn ended(client: &ClientInfo, shared: &Shared) {
    poll_fn(|cx| {
        client.waker.register(cx.waker());
        let condemned = client.killed.load(Relaxed) || client.expelled.load(Relaxed);
        match condemned || shared.draining.load(Relaxed) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

/// Who owned what when a replica was attached.
#[derive(PartialEq, Eq)]
pub(super) struct Picture {
    slots: Vec<Owner>,
    /// Where the leader of each group with slots is.
    pub leaders: BTreeMap<u32, String>,
}

impl Picture {
    pub fn of(map: &RouteMap) -> Result<Picture, End> {
        let mut leaders = BTreeMap::new();
        for owner in &map.slots {
            if owner.group != 0 && !leaders.contains_key(&owner.group) {
                let leader = map.groups.get(&owner.group).cloned().flatten();
                leaders.insert(owner.group, leader.ok_or(End::NoLeader(owner.group))?);
            }
        }
        match leaders.is_empty() {
            true => Err(End::NoSlots),
            false => Ok(Picture {
                slots: map.slots.clone(),
                leaders,
            }),
        }
    }

    /// Leaders first, each once, then the other nodes.
    fn addresses(&self, map: &RouteMap) -> Vec<Rc<str>> {
        let mut all: Vec<Rc<str>> = Vec::new();
        for address in self.leaders.values().chain(&map.nodes) {
            if !all.iter().any(|known| **known == **address) {
                all.push(Rc::from(&**address));
            }
        }
        all
    }

    /// Whether the nodes have pinned each slot once, at its owner.
    fn matches(&self, sources: &[Source]) -> bool {
        let mut pinned = vec![0; self.slots.len()];
        for (group, runs) in sources.iter().flat_map(|source| &source.head.groups) {
            for slot in runs.iter().flat_map(|(first, last)| *first..=*last) {
                match pinned.get_mut(usize::from(slot)) {
                    Some(owner) if *owner == 0 => *owner = *group,
                    _ => return false,
                }
            }
        }
        let owners = self.slots.iter().map(|owner| owner.group);
        owners.eq(pinned)
    }
}

/// One replica's connection, and what it is fed by.
pub(super) struct Feed {
    pub outlet: Outlet,
    /// What was read and not looked at.
    pub input: BytesMut,
    pub map: watch::Receiver<Arc<RouteMap>>,
    pub follow: Follow,
    shared: Arc<Shared>,
}

impl Feed {
    async fn run(&mut self) -> Result<(), End> {
        let (picture, mut sources) = self.attach().await?;
        if self.follow.psync {
            let line = format!("+FULLRESYNC {} 0\r\n", self.shared.replicas.id);
            self.outlet.send(line.as_bytes()).await?;
        }
        self.follow.info.set_state(State::SendBulk);
        let marked = self.send_data(&mut sources).await?;
        tracing::info!(client = self.outlet.client.id, "a replica has the data set");
        if self.follow.wish.rdb_only {
            drop(sources);
            return self.wait_for_end().await;
        }
        // Its mark must be the last thing that it reads before it answers.
        let online = !(marked && self.follow.psync);
        Stream::new(self, picture, sources, online).run().await
    }

    /// What is asked of a node.
    fn wish(&self) -> Wish {
        let wish = &self.follow.wish;
        Wish {
            keys: wish.filter.is_none(),
            functions: wish.filter.is_none_or(|filter| filter.functions),
            changes: !wish.rdb_only,
        }
    }

    /// Has all nodes pin what they hold.
    async fn attach(&mut self) -> Result<(Picture, Vec<Source>), End> {
        let started = Instant::now();
        loop {
            let wish = self.wish();
            let (shared, map) = (self.shared.clone(), self.map.borrow_and_update().clone());
            let end = match self.meanwhile(open_all(shared, map, wish)).await? {
                Ok(attached) => return Ok(attached),
                Err(end) => end,
            };
            tracing::info!(reason = %end, "a replica cannot be attached now");
            if started.elapsed() > ATTACH_PATIENCE {
                if !self.follow.psync {
                    let line = format!("-ERR {end}\r\n");
                    self.outlet.send(line.as_bytes()).await?;
                }
                return Err(end);
            }
            self.meanwhile(tokio::time::sleep(ATTACH_AGAIN)).await?;
        }
    }

    /// Does something that may take its time, with a sign of life for the replica
    /// each second.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(KEEP_ALIVE, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) => self.outlet.send(b"\n").await?,
            }
        }
    }

    /// Sends the data set. True: its end was a mark.
    async fn send_data(&mut self, sources: &mut [Source]) -> Result<bool, End> {
        let wish = &self.follow.wish;
        let aux = aux_fields(&self.shared.replicas.id);
        let Wish {
            keys, functions, ..
        } = self.wish();
        // Who came by SYNC says nothing when it has the data: a mark that is followed
        // at once by changes may be overlooked.
        let marked = wish.eof && (self.follow.psync || wish.rdb_only);
        if marked {
            let mark = mark();
            let line = format!("$EOF:{mark}\r\n");
            self.outlet.send(line.as_bytes()).await?;
            let dump = Dump::new(Target::Replica(&mut self.outlet));
            dump.write(sources, &aux, functions, keys).await?;
            self.outlet.send(mark.as_bytes()).await?;
            return Ok(true);
        }
        let mut file = self.meanwhile(spool_file()).await?.map_err(End::Spool)?;
        let dump = Dump::new(Target::Spool(&mut file));
        self.meanwhile(dump.write(sources, &aux, functions, keys))
            .await??;
        self.send_file(file).await.map(|()| false)
    }

    async fn send_file(&mut self, mut file: File) -> Result<(), End> {
        let len = file.stream_position().await.map_err(End::Spool)?;
        file.rewind().await.map_err(End::Spool)?;
        let line = format!("${len}\r\n");
        self.outlet.send(line.as_bytes()).await?;
        let mut piece = vec![0; PIECE];
        loop {
            let n = file.read(&mut piece).await.map_err(End::Spool)?;
            if n == 0 {
                return Ok(());
            }
            self.outlet.send(&piece[..n]).await?;
        }
    }

    /// A replica that wants no stream has it all; it closes the connection.
    async fn wait_for_end(&mut self) -> Result<(), End> {
        loop {
            self.input.clear();
            tokio::select! {
                n = self.outlet.stream.read_buf(&mut self.input) => if n? == 0 {
                    return Ok(());
                },
                () = ended(&self.outlet.client, &self.shared) => return Err(End::Killed),
            }
        }
    }
}

/// Opens a connection to every node, and compares what they hold with the slot map.
async fn open_all(
    shared: Arc<Shared>,
    map: Arc<RouteMap>,
    wish: Wish,
) -> Result<(Picture, Vec<Source>), End> {
    let picture = Picture::of(&map)?;
    let opening = picture.addresses(&map).into_iter().map(|address| {
        let shared = shared.clone();
        async move {
            let opened = Source::open(address.clone(), &shared.config, wish).await;
            opened.map_err(|end| End::Source(address.to_string(), end))
        }
    });
    let opened = futures::future::join_all(opening).await;
    let sources = opened.into_iter().collect::<Result<Vec<_>, _>>()?;
    match picture.matches(&sources) {
        true => Ok((picture, sources)),
        false => Err(End::Mismatch),
    }
}

/// 40 letters that no file holds by chance.
fn mark() -> String {
    (0..5)
        .map(|_| format!("{:08x}", rand::random::<u32>()))
        .collect()
}

/// A file without a name: it is gone when it is closed, however that comes.
async fn spool_file() -> io::Result<File> {
    let name = format!("cairn-proxy-{}-{}.tmp", std::process::id(), mark());
    let path = std::env::temp_dir().join(name);
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    let file = options.open(&path).await?;
    tokio::fs::remove_file(&path).await?;
    Ok(file)
}
