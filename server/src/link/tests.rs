//! A link over loopback, to a group of its own: no etcd, no Raft.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cairn_protocol::link::{
    ClientHandshake, ClientStep, Close, Decoder, Frame, Hello, NO_SLOT, Open, PeerKind, Ping,
    Reason, ReplyClass, Request, RequestFlags, Welcome,
};
use cairn_protocol::resp::encode_request;
use cairn_protocol::slot::key_slot;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

mod ends;
mod order;
mod own;
mod pieces;
mod refusals;

use super::{Hint, Identity, PeerPort, Place};
use crate::announce::Announcer;
use crate::config::{Config, LiveSettings, Settings};
use crate::group::{Commit, CommitSink, Entry, Group, GroupId, SlotGate, SlotVerdict};
use crate::net::Turns;
use crate::server::{Home, Server};
use crate::storage::generations::{GenerationMap, NONE};
use crate::storage::{Log, MemoryPlan, Position, Resources, Store};
use crate::txn::effects::Effects;

/// Longest time that anything here waits.
const PATIENCE: Duration = Duration::from_secs(20);
const GROUP: GroupId = 1;
const OK: &str = "+OK\r\n";

/// Ownership that a test changes at will.
struct TestGate {
    verdicts: Vec<AtomicU8>,
    epoch: AtomicU32,
}

impl TestGate {
    fn set(&self, key: &str, verdict: SlotVerdict) {
        self.verdicts[usize::from(key_slot(key.as_bytes()))].store(verdict as u8, SeqCst);
    }
}

impl SlotGate for TestGate {
    fn verdict(&self, slot: u16) -> SlotVerdict {
        match self.verdicts.get(usize::from(slot)).map(|v| v.load(SeqCst)) {
            Some(0) => SlotVerdict::Serve,
            Some(1) => SlotVerdict::Frozen,
            _ => SlotVerdict::Moved,
        }
    }

    fn stamp(&self, slot: u16) -> u64 {
        u64::from(self.epoch(slot)) << 8 | self.verdict(slot) as u64
    }

    fn epoch(&self, _: u16) -> u32 {
        self.epoch.load(SeqCst)
    }

    fn thawed(&self, _: u16) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        unreachable!("a link answers at once")
    }
}

/// An entry that is held.
type Waiting = (Arc<Group>, Arc<Effects>, Position);

/// What becomes of entries.
#[derive(Default)]
struct Fate {
    /// `None`: held until [`Fate::release`].
    outcome: Mutex<Option<Commit>>,
    held: Mutex<Vec<Waiting>>,
}

impl Fate {
    fn becomes(&self, outcome: impl Into<Option<Commit>>) {
        *self.outcome.lock() = outcome.into();
    }

    fn release(&self) {
        self.becomes(Commit::Applied);
        for (group, effects, position) in std::mem::take(&mut *self.held.lock()) {
            group
                .store
                .apply(&effects, position, Log::Wal, true)
                .unwrap();
            group.committed(Commit::Applied);
        }
    }

    /// Waits until an entry is held.
    async fn holds_one(&self) {
        while self.held.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

struct TestSink(Arc<Fate>);

impl CommitSink for TestSink {
    fn commit(&self, group: &Arc<Group>, entry: Entry) -> Commit {
        let Entry::Effects(effects, position) = entry else {
            return Commit::Refused;
        };
        match *self.0.outcome.lock() {
            Some(Commit::Applied) => {
                group
                    .store
                    .apply(&effects, position, Log::Wal, true)
                    .unwrap();
                Commit::Applied
            }
            Some(outcome) => outcome,
            None => {
                self.0.held.lock().push((group.clone(), effects, position));
                Commit::InFlight
            }
        }
    }
}

struct TestPlace(Arc<Group>);

impl Place for TestPlace {
    fn find(&self, group: GroupId) -> Option<Arc<Group>> {
        (group == GROUP).then(|| self.0.clone())
    }

    fn owner(&self, _: u16, _: GroupId) -> Hint {
        Hint {
            group: 2,
            epoch: 7,
            address: "other:1".into(),
        }
    }

    fn leader(&self, group: GroupId) -> Hint {
        Hint {
            group,
            epoch: 0,
            address: "leader:1".into(),
        }
    }
}

/// A node with one group.
struct Bench {
    server: Arc<Server>,
    group: Arc<Group>,
    gate: Arc<TestGate>,
    fate: Arc<Fate>,
    address: std::net::SocketAddr,
    http2: mpsc::Receiver<std::net::TcpStream>,
    _resources: Arc<Resources>,
}

fn open_store(dir: &TempDir, map: GenerationMap) -> (Arc<Resources>, Store) {
    let plan = MemoryPlan {
        record_cache: 1 << 20,
        scan_cache: 1 << 20,
        block_cache: 4 << 20,
        write_buffers: 8 << 20,
        write_buffer: 2 << 20,
    };
    let resources = Resources::new(plan, 2);
    let store = Store::open(dir.path(), &resources, true, map).unwrap();
    (resources, store)
}

impl Bench {
    async fn start(dir: &TempDir) -> Bench {
        Bench::with(dir, GenerationMap::all_slots()).await
    }

    /// A node, and a link to it.
    async fn linked(dir: &TempDir) -> (Bench, Link) {
        let bench = Bench::start(dir).await;
        let link = bench.link().await;
        (bench, link)
    }

    async fn with(dir: &TempDir, map: GenerationMap) -> Bench {
        let (resources, store) = open_store(dir, map);
        let verdicts = (0..16384).map(|_| AtomicU8::new(0)).collect();
        let gate = Arc::new(TestGate {
            verdicts,
            epoch: AtomicU32::new(3),
        });
        let fate = Arc::new(Fate::default());
        fate.becomes(Commit::Applied);
        let ownership: Arc<dyn SlotGate> = gate.clone();
        let sink = Box::new(TestSink(fate.clone()));
        let announcer = Announcer::new(&Settings::default());
        let group = Group::new(
            GROUP,
            Arc::new(store),
            sink,
            announcer.clone(),
            Some(ownership),
        );
        group.set_ready(true);
        let config = Config::default();
        let live = Arc::new(LiveSettings::new(&config));
        let home = Home::Standalone(group.clone());
        let server = Arc::new(Server::new(config, live, home, announcer));
        let turns = Turns::default();
        tokio::task::spawn_local(turns.clone().run());
        let (to_http2, http2) = mpsc::channel(1);
        let identity = Identity {
            cluster: "c".into(),
            node: "n".into(),
            secret: b"s".to_vec(),
            welcome: Welcome {
                max_frame: 1 << 20,
                requests: 600,
                bytes: 1 << 20,
                ..Welcome::default()
            },
        };
        let place = Arc::new(TestPlace(group.clone()));
        let port = PeerPort::new(server.clone(), place, identity, Some(to_http2), turns);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(port.accept(listener));
        Bench {
            server,
            group,
            gate,
            fate,
            address,
            http2,
            _resources: resources,
        }
    }

    async fn link(&self) -> Link {
        let mut link = Link::connect(self, b"s").await.expect("let in");
        for session in 0..4 {
            link.open(session);
        }
        link
    }
}

/// An answer: class, and the payload or, if moved, its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Ok(String),
    NotExecuted(String),
    Unknown(String),
    Moved(Reason, u32, u32, String),
}

impl Answer {
    fn reason(&self) -> Option<Reason> {
        match self {
            Answer::Moved(reason, ..) => Some(*reason),
            _ => None,
        }
    }
}

/// A proxy's end of a link.
struct Link {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    answers: Vec<(u64, Answer)>,
    /// GOAWAY's reason.
    away: Option<u8>,
    pongs: Vec<u64>,
    /// Session, kind and payload.
    pushes: Vec<(u64, u8, Vec<u8>)>,
    /// Request and payload of each part of a reply that was not the last.
    parts: Vec<(u64, Vec<u8>)>,
    next: u64,
}

impl Link {
    async fn connect(bench: &Bench, secret: &[u8]) -> Option<Link> {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        let hello = Hello {
            kind: PeerKind::Proxy,
            cluster: "c".into(),
            id: "p".into(),
        };
        let mut shake = ClientHandshake::start(&hello, secret, [1; 16], &mut output).unwrap();
        loop {
            stream.write_all_buf(&mut output).await.unwrap();
            while let Some(frame) = Decoder::new(1024).take_one(&mut input).unwrap() {
                if let ClientStep::Done(welcome) = shake.on_frame(&frame, &mut output).ok()? {
                    assert_eq!(welcome.requests, 600);
                    let (answers, pongs) = (Vec::new(), Vec::new());
                    return Some(Link {
                        stream,
                        input,
                        output,
                        answers,
                        away: None,
                        pongs,
                        pushes: Vec::new(),
                        parts: Vec::new(),
                        next: 0,
                    });
                }
            }
            if output.is_empty() {
                assert_ne!(stream.read_buf(&mut input).await.unwrap(), 0);
            }
        }
    }

    fn open(&mut self, logical: u64) {
        Open {
            logical,
            push_credit: 0,
            user: b"default",
            client: "1.2.3.4:5",
        }
        .put(&mut self.output);
    }

    fn put(&mut self, request: Request<()>, line: &str) -> u64 {
        let words: Vec<&str> = line.split(' ').collect();
        let mut resp = BytesMut::new();
        encode_request(&mut resp, words);
        self.put_raw(request, &resp)
    }

    fn put_raw(&mut self, mut request: Request<()>, resp: &[u8]) -> u64 {
        request.request = self.next;
        self.next += 1;
        request.put(&mut self.output, resp);
        self.next - 1
    }

    /// A command on the slot of its first key.
    fn ask(&mut self, logical: u64, line: &str) -> u64 {
        self.put(request(logical, line), line)
    }

    /// The same with RESUME.
    fn resume(&mut self, logical: u64, line: &str) -> u64 {
        let request = Request {
            flags: RequestFlags::RESUME,
            ..request(logical, line)
        };
        self.put(request, line)
    }

    /// A command about the whole group.
    fn ask_group(&mut self, logical: u64, line: &str) -> u64 {
        self.put(
            Request {
                slot: NO_SLOT,
                ..request(logical, line)
            },
            line,
        )
    }

    async fn flush(&mut self) {
        self.stream.write_all_buf(&mut self.output).await.unwrap();
    }

    /// Reads once. False at the end of the stream.
    async fn read(&mut self) -> bool {
        self.flush().await;
        let n = self.stream.read_buf(&mut self.input).await.unwrap_or(0);
        while let Some(batch) = Decoder::new(1 << 24).take(&mut self.input).unwrap() {
            for frame in batch.frames() {
                match frame.unwrap() {
                    Frame::Reply(reply) if reply.class == ReplyClass::More => {
                        self.parts.push((reply.request, reply.payload.to_vec()));
                    }
                    Frame::Reply(reply) => {
                        let text = || String::from_utf8_lossy(&reply.payload).into_owned();
                        let answer = match reply.class {
                            ReplyClass::Ok => Answer::Ok(text()),
                            ReplyClass::NotExecuted => Answer::NotExecuted(text()),
                            ReplyClass::Unknown => Answer::Unknown(text()),
                            ReplyClass::Moved => {
                                let m = reply.moved().unwrap();
                                Answer::Moved(m.reason, m.group, m.epoch, m.address.to_owned())
                            }
                            ReplyClass::More => unreachable!("taken above"),
                        };
                        self.answers.push((reply.request, answer));
                    }
                    Frame::Pong(ping) => self.pongs.push(ping.token),
                    Frame::Ping(_) => {}
                    Frame::Push(push) => {
                        let payload = push.payload.to_vec();
                        self.pushes.push((push.logical, push.kind, payload));
                    }
                    Frame::GoAway(away) => self.away = Some(away.reason),
                    other => panic!("a node may not send {other:?}"),
                }
            }
        }
        n > 0
    }

    /// The answer to `id`.
    async fn answer(&mut self, id: u64) -> Answer {
        loop {
            if let Some((_, answer)) = self.answers.iter().find(|(request, _)| *request == id) {
                return answer.clone();
            }
            assert!(
                self.read().await,
                "the link ended without an answer to {id}"
            );
        }
    }

    async fn ok(&mut self, id: u64) -> String {
        match self.answer(id).await {
            Answer::Ok(text) => text,
            other => panic!("{other:?}"),
        }
    }

    /// Reads until the link ends; GOAWAY's reason.
    async fn end(&mut self) -> Option<u8> {
        while self.read().await {}
        self.away
    }

    /// Place of the answer to `id` among all answers.
    fn place(&self, id: u64) -> usize {
        self.answers
            .iter()
            .position(|(request, _)| *request == id)
            .expect("answered")
    }
}

fn request(logical: u64, line: &str) -> Request<()> {
    let key = line.split(' ').nth(1).unwrap_or("");
    Request {
        request: 0,
        logical,
        database: 0,
        flags: RequestFlags::default(),
        group: GROUP,
        slot: key_slot(key.as_bytes()),
        epoch: 3,
        deadline_ms: 0,
        resp: (),
    }
}

/// Runs a test on a network thread of its own.
fn test(body: impl AsyncFnOnce(&TempDir)) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, body(&dir))
            .await
            .expect("in time");
    });
}
