//! The stream of changes on its way to a replica.
//!
//! One task: it takes in what nodes tell, puts it in order (`merge`), writes it, and
//! hears how far the replica is. It never waits for one of these alone.

use super::acks::Acks;
use super::merge::{Change, Merger};
use super::run::{End, Feed, KEEP_ALIVE, PATIENCE, Picture, ended};
use super::source::{Followed, News, Source, SourceEnd, Told, news};
use super::{ReplicaInfo, State};
use bytes::{Buf, BytesMut};
use cairn_protocol::link::feed::{FeedRequest, FrameKind};
use cairn_protocol::resp::{Limits, RequestParser, Requests, encode_request, number::parse_u64};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// A flush that has not come to all groups by then was not for all of them.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);
/// A node that has said nothing for so long is asked for a mark.
const SILENCE: Duration = Duration::from_secs(5);
/// A node that has not said anything for so long is gone.
const NODE_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes on their way to the replica at which nothing more is taken.
const OUT_FULL: usize = 1 << 20;
/// Room for one read.
const READ_BYTES: usize = 16 << 10;

fn wall_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros() as u64)
}

/// A node while its changes come.
struct Node {
    followed: Option<Followed>,
    /// It leads groups: without it the stream is not whole.
    needed: bool,
    /// When a mark was asked for that has not come, by the wall clock.
    asked: Option<u64>,
    acknowledged: u64,
    heard: Instant,
}

/// The stream of changes, to its end.
pub(super) struct Stream<'a> {
    feed: &'a mut Feed,
    picture: Picture,
    nodes: Vec<Node>,
    news: mpsc::Receiver<News>,
    merger: Merger,
    acks: Acks,
    out: BytesMut,
    /// Nothing is sent before the replica has said that it has the data set.
    online: bool,
    sent: u64,
    /// The database that the replica has selected, if it has.
    selected: Option<u8>,
    parser: RequestParser,
    requests: Requests,
    /// When the replica last took something, and was last heard.
    took: Instant,
    heard: Instant,
    /// Since when a flush waits for other groups.
    held: Option<Instant>,
}

impl<'a> Stream<'a> {
    pub fn new(feed: &'a mut Feed, picture: Picture, sources: Vec<Source>, online: bool) -> Self {
        let (to, news) = news();
        let offsets: Vec<u64> = sources.iter().map(|source| source.head.offset).collect();
        let merger = Merger::new(&offsets, picture.leaders.keys().copied().collect());
        let sources = sources.into_iter().enumerate();
        let nodes = sources.map(|(at, source)| Node {
            needed: source.head.groups.iter().any(|(_, runs)| !runs.is_empty()),
            followed: Some(source.follow(at, to.clone())),
            asked: None,
            acknowledged: 0,
            heard: Instant::now(),
        });
        let nodes = nodes.collect();
        let mut acks = Acks::default();
        acks.note(0, offsets);
        let now = Instant::now();
        Self {
            feed,
            picture,
            nodes,
            news,
            merger,
            acks,
            out: BytesMut::new(),
            online,
            sent: 0,
            selected: None,
            parser: RequestParser::new(),
            requests: Requests::default(),
            took: now,
            heard: now,
            held: None,
        }
    }

    fn info(&self) -> &ReplicaInfo {
        &self.feed.follow.info
    }

    /// Ends with the reason.
    pub async fn run(mut self) -> Result<(), End> {
        if self.online {
            self.info().set_state(State::Online);
        }
        // What came with the request for it.
        self.read_requests().await?;
        let mut tick = tokio::time::interval(KEEP_ALIVE);
        loop {
            self.take_changes();
            self.ask_for_marks(SILENCE).await?;
            let writing = self.online && !self.out.is_empty();
            let outlet = &self.feed.outlet;
            self.feed.input.reserve(READ_BYTES);
            // Every branch only tells that something can be done, or takes one message
            // out of a channel: nothing is lost when it is dropped.
            tokio::select! {
                Some((source, told)) = self.news.recv() => self.hear(source, told)?,
                room = outlet.stream.writable(), if writing => {
                    room?;
                    self.write()?;
                }
                ready = outlet.stream.readable() => {
                    ready?;
                    self.read().await?;
                }
                changed = self.feed.map.changed() => {
                    changed.map_err(|_| End::Killed)?;
                    self.look_at_map()?;
                }
                _ = tick.tick() => self.look_at_clock()?,
                () = ended(&outlet.client, &outlet.shared) => return Err(End::Killed),
            }
        }
    }

    /// Takes in what a node has told, and all that has come with it.
    fn hear(&mut self, source: usize, told: Result<Told, SourceEnd>) -> Result<(), End> {
        let mut next = Some((source, told));
        while let Some((source, told)) = next {
            self.hear_one(source, told)?;
            next = self.news.try_recv().ok();
        }
        Ok(())
    }

    fn hear_one(&mut self, source: usize, told: Result<Told, SourceEnd>) -> Result<(), End> {
        let node = &mut self.nodes[source];
        node.heard = Instant::now();
        match told {
            Ok(told) => {
                let head = told.frame.head;
                if let (FrameKind::Marked, Some(asked)) = (head.kind, node.asked) {
                    node.asked = None;
                    self.merger.marked(source, head.stamp, asked, wall_us());
                }
                self.merger.push(source, told);
                Ok(())
            }
            Err(_) if !node.needed => {
                (node.followed, node.asked) = (None, None);
                self.merger.leave(source);
                Ok(())
            }
            Err(end) => {
                let followed = node.followed.take();
                let address = followed.map_or(String::new(), |f| f.address.to_string());
                Err(End::Source(address, end))
            }
        }
    }

    /// Moves what comes next to the output, as far as there is room.
    fn take_changes(&mut self) {
        while self.out.len() < OUT_FULL
            && let Some(change) = self.merger.next()
        {
            self.put(change);
        }
        self.held = match (self.merger.is_held(), self.held) {
            (true, None) => Some(Instant::now()),
            (true, since) => since,
            (false, _) => None,
        };
    }

    fn put(&mut self, change: Change) {
        let frame = &change.told.frame;
        let before = self.out.len();
        match frame.head.kind {
            FrameKind::Ping => encode_request(&mut self.out, [&b"PING"[..]]),
            FrameKind::Ask => {
                // What is asked is how much it has of what came before.
                self.note();
                let words: [&[u8]; 3] = [b"REPLCONF", b"GETACK", b"*"];
                encode_request(&mut self.out, words);
            }
            _ => {
                let (first, last) = frame.head.databases;
                if self.selected != Some(first) {
                    let number = first.to_string();
                    encode_request(&mut self.out, [&b"SELECT"[..], number.as_bytes()]);
                }
                self.out.extend_from_slice(&frame.payload);
                self.selected = Some(last);
            }
        }
        self.sent += (self.out.len() - before) as u64;
        tracing::trace!(source = change.source, kind = ?frame.head.kind, "passed on");
        drop(change);
        self.note();
    }

    /// Notes how much of each node's stream is passed on by now.
    fn note(&mut self) {
        if self.feed.follow.psync {
            let nodes = 0..self.nodes.len();
            let passed = nodes.map(|at| self.merger.passed(at)).collect();
            self.acks.note(self.sent, passed);
        }
        self.info().sent.store(self.sent, Relaxed);
    }

    /// Asks nodes for marks: all if something waits for them, else those that were
    /// not heard of for so long.
    async fn ask_for_marks(&mut self, silence: Duration) -> Result<(), End> {
        let wanted = self.nodes.len() > 1
            && self.out.len() < OUT_FULL
            && self.merger.wants_marks()
            // One round at a time.
            && self.nodes.iter().all(|node| node.asked.is_none());
        for node in &mut self.nodes {
            let Some(followed) = &mut node.followed else {
                continue;
            };
            let due = wanted || node.heard.elapsed() > silence;
            if due && node.asked.is_none() {
                node.asked = Some(wall_us());
                // A node that is gone is heard of by its reader.
                let _ = followed.ask(FeedRequest::Mark).await;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), End> {
        let sent = self.feed.outlet.try_send(&self.out)?;
        self.out.advance(sent);
        self.took = Instant::now();
        Ok(())
    }

    async fn read(&mut self) -> Result<(), End> {
        match self.feed.outlet.stream.try_read_buf(&mut self.feed.input) {
            Ok(0) => return Err(End::Gone),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.heard = Instant::now();
        self.info().hear();
        self.read_requests().await
    }

    async fn read_requests(&mut self) -> Result<(), End> {
        let limits = Limits::default();
        let mut has = None;
        loop {
            let parsed = self
                .parser
                .parse(&mut self.feed.input, &limits, 64, &mut self.requests);
            match parsed.map_err(|_| End::Protocol)? {
                0 => break,
                n => (0..n).for_each(|at| {
                    has = acknowledgement(&self.requests, at).or(has);
                }),
            }
        }
        self.requests.clear();
        match has {
            Some(has) => self.acknowledged(has).await,
            None => Ok(()),
        }
    }

    /// REPLCONF ACK: tells the nodes.
    async fn acknowledged(&mut self, has: u64) -> Result<(), End> {
        if !self.online {
            self.online = true;
            self.info().set_state(State::Online);
        }
        self.info().acknowledged.store(has, Relaxed);
        let Some(offsets) = self.acks.acknowledged(has) else {
            return Ok(());
        };
        for (node, offset) in self.nodes.iter_mut().zip(offsets) {
            if let Some(followed) = &mut node.followed
                && offset > node.acknowledged
            {
                node.acknowledged = offset;
                // A node that is gone is heard of by its reader.
                let _ = followed.ask(FeedRequest::Ack(offset)).await;
            }
        }
        Ok(())
    }

    fn look_at_map(&mut self) -> Result<(), End> {
        let now = Picture::of(&self.feed.map.borrow_and_update())?;
        match now == self.picture {
            true => Ok(()),
            false => Err(End::Moved),
        }
    }

    fn look_at_clock(&mut self) -> Result<(), End> {
        if self.out.is_empty() || !self.online {
            self.took = Instant::now();
        }
        let silent = self.feed.follow.psync && self.heard.elapsed() > PATIENCE;
        if self.took.elapsed() > PATIENCE || silent {
            return Err(End::Slow);
        }
        if self.out.len() >= OUT_FULL {
            // Nothing is taken from the nodes: nobody is late but the replica.
            let now = Instant::now();
            self.nodes.iter_mut().for_each(|node| node.heard = now);
            self.held = self.held.map(|_| now);
        }
        let held = self.held.map(|since| since.elapsed());
        if held.is_some_and(|held| held > FLUSH_PATIENCE) {
            return Err(End::FlushedAlone);
        }
        let late = |node: &&Node| node.heard.elapsed() > NODE_PATIENCE;
        let mut late = self.nodes.iter().filter(late);
        match late.find_map(|node| node.followed.as_ref()) {
            Some(lost) => Err(End::Source(lost.address.to_string(), SourceEnd::Silent)),
            None => Ok(()),
        }
    }
}

/// What a REPLCONF ACK says.
fn acknowledgement(requests: &Requests, at: usize) -> Option<u64> {
    let args = requests.get(at);
    let is = |at: usize, word: &str| {
        let given = args.try_get(at);
        given.is_some_and(|given| given.eq_ignore_ascii_case(word.as_bytes()))
    };
    match is(0, "replconf") && is(1, "ack") {
        true => parse_u64(args.try_get(2)?),
        false => None,
    }
}
