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

mod own;

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

#[test]
fn commands_of_a_session_keep_their_order() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        let ids = [
            "GET k",
            "SET k a",
            "GET k",
            "APPEND k b",
            "GET k",
            "GET other",
        ]
        .map(|line| link.ask(0, line));
        let wanted = [
            "$-1\r\n",
            OK,
            "$1\r\na\r\n",
            ":2\r\n",
            "$2\r\nab\r\n",
            "$-1\r\n",
        ];
        for (id, wanted) in ids.into_iter().zip(wanted) {
            assert_eq!(link.ok(id).await, wanted);
        }
    });
}

#[test]
fn versions_databases_and_errors_come_with_the_request() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        let set = link.put(
            Request {
                database: 5,
                ..request(0, "SET k")
            },
            "SET k v",
        );
        let other = link.ask(0, "GET k");
        let resp3 = Request {
            flags: RequestFlags::RESP3,
            ..request(1, "GET k")
        };
        let null = link.put(resp3, "GET k");
        let db = link.put(
            Request {
                database: 16,
                ..request(1, "GET k")
            },
            "GET k",
        );
        let unknown = link.ask(1, "NONSENSE k");
        let arity = link.ask(1, "GET k k");
        let slot = link.put(
            Request {
                slot: 1,
                ..request(1, "")
            },
            "GET k",
        );
        let none = link.put(
            Request {
                slot: NO_SLOT,
                ..request(1, "")
            },
            "GET k",
        );
        let garbage = link.put_raw(request(1, "GET k"), b"*2\r\n$3\r\nGET\r\n");
        let typed = link.ask(2, "INCR k");
        let text = link.ask(2, "SET k text");
        let wrong = link.ask(2, "INCR k");
        assert_eq!(link.ok(set).await, OK);
        assert_eq!(link.ok(other).await, "$-1\r\n");
        assert_eq!(link.ok(null).await, "_\r\n");
        assert_eq!(link.ok(db).await, "-ERR DB index is out of range\r\n");
        assert!(link.ok(unknown).await.starts_with("-ERR unknown command"));
        assert!(
            link.ok(arity)
                .await
                .starts_with("-ERR wrong number of arguments")
        );
        assert!(
            link.ok(slot)
                .await
                .starts_with("-ERR the request names another slot")
        );
        assert!(
            link.ok(none)
                .await
                .starts_with("-ERR the request names another slot")
        );
        assert!(link.ok(garbage).await.starts_with("-ERR Protocol error"));
        assert_eq!(link.ok(typed).await, ":1\r\n");
        assert_eq!(link.ok(text).await, OK);
        assert_eq!(
            link.ok(wrong).await,
            "-ERR value is not an integer or out of range\r\n"
        );
    });
}

#[test]
fn a_cold_read_delays_its_own_session_alone() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        let set = link.ask(0, "SET k v");
        assert_eq!(link.ok(set).await, OK);
        let keys = link.ask_group(0, "KEYS *");
        let behind = link.ask(0, "GET k");
        let write = link.ask(0, "SET k w");
        let free = link.ask(1, "GET k");
        assert_eq!(link.ok(keys).await, "*1\r\n$1\r\nk\r\n");
        assert_eq!(link.ok(behind).await, "$1\r\nv\r\n");
        assert_eq!(link.ok(write).await, OK);
        assert_eq!(link.ok(free).await, "$1\r\nv\r\n");
        assert!(link.place(free) < link.place(keys));
        assert!(link.place(keys) < link.place(behind));
    });
}

#[test]
fn a_cold_write_is_fetched_and_keeps_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let bench = Bench::start(&dir).await;
        let mut link = bench.link().await;
        let ids: Vec<u64> = (0..500)
            .map(|i| link.ask(0, &format!("SET key{i} {i}")))
            .collect();
        for id in ids {
            assert_eq!(link.ok(id).await, OK);
        }
        bench.group.store.flush().unwrap();
    });
    drop(runtime);
    test(async |_| {
        let bench = Bench::start(&dir).await;
        let mut link = bench.link().await;
        let lines = [
            "APPEND key7 a",
            "APPEND key8 a",
            "APPEND key7 b",
            "GET key7",
            "GET key9",
        ];
        let ids = lines.map(|line| link.ask(0, line));
        let wanted = [":2\r\n", ":2\r\n", ":3\r\n", "$3\r\n7ab\r\n", "$1\r\n9\r\n"];
        for (id, wanted) in ids.into_iter().zip(wanted) {
            assert_eq!(link.ok(id).await, wanted);
        }
        assert_eq!(
            bench.group.writer_cold_reads.load(SeqCst),
            0,
            "the writer never waited"
        );
    });
}

#[test]
fn a_frozen_slot_raises_the_fence_until_resume() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        bench.gate.set("k", SlotVerdict::Frozen);
        let first = link.ask(0, "SET k 1");
        let free = link.ask(0, "SET free 1");
        assert_eq!(link.answer(first).await.reason(), Some(Reason::Frozen));
        assert_eq!(link.ok(free).await, OK);
        bench.gate.set("k", SlotVerdict::Serve);
        let fenced = [link.ask(0, "SET k 2"), link.ask(0, "GET k")];
        let other = link.ask(1, "SET k other");
        for id in fenced {
            assert_eq!(link.answer(id).await.reason(), Some(Reason::Fenced));
        }
        assert_eq!(link.ok(other).await, OK, "the fence is one session's");
        let again = [
            link.resume(0, "SET k 1"),
            link.ask(0, "APPEND k 2"),
            link.ask(0, "GET k"),
        ];
        assert_eq!(link.ok(again[0]).await, OK);
        assert_eq!(link.ok(again[1]).await, ":2\r\n");
        assert_eq!(link.ok(again[2]).await, "$2\r\n12\r\n");
    });
}

#[test]
fn what_the_writer_refuses_is_fenced_too() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        bench.fate.becomes(None);
        let blocking = link.ask(1, "SET x 1");
        link.flush().await;
        while bench.fate.held.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        // These wait for the writer while their slot freezes, and thaws again
        // before the last of them comes.
        let gathered = [
            link.ask(0, "SET k 1"),
            link.ask(0, "SET k 2"),
            link.ask(0, "SET free 1"),
        ];
        let pinged = 77;
        Ping { token: pinged }.put(&mut link.output);
        while !link.pongs.contains(&pinged) {
            link.read().await;
        }
        bench.gate.set("k", SlotVerdict::Frozen);
        bench.fate.release();
        assert_eq!(link.ok(blocking).await, OK);
        assert_eq!(
            link.answer(gathered[0]).await.reason(),
            Some(Reason::Frozen)
        );
        bench.gate.set("k", SlotVerdict::Serve);
        let late = link.ask(0, "SET k 3");
        assert_eq!(
            link.answer(gathered[1]).await.reason(),
            Some(Reason::Fenced)
        );
        assert_eq!(link.ok(gathered[2]).await, OK);
        assert_eq!(link.answer(late).await.reason(), Some(Reason::Fenced));
    });
}

#[test]
fn a_slot_that_moved_is_answered_with_a_hint() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        bench.gate.set("k", SlotVerdict::Moved);
        let id = link.ask(0, "GET k");
        let hint = Answer::Moved(Reason::Moved, 2, 7, "other:1".into());
        assert_eq!(link.answer(id).await, hint);
        // This node is the one that is behind: it may not serve.
        let ahead = link.put(
            Request {
                epoch: 4,
                ..request(1, "GET x")
            },
            "GET x",
        );
        assert_eq!(
            link.answer(ahead).await,
            Answer::Moved(Reason::Moved, 0, 0, String::new())
        );
        let elsewhere = link.put(
            Request {
                group: 9,
                slot: NO_SLOT,
                ..request(1, "")
            },
            "DBSIZE",
        );
        let leader = Answer::Moved(Reason::NotLeader, 9, 0, "leader:1".into());
        assert_eq!(link.answer(elsewhere).await, leader);
    });
}

#[test]
fn a_node_that_does_not_lead_says_who_does() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        bench.group.set_ready(false);
        let ids = [link.ask(0, "SET k v"), link.ask(1, "GET k")];
        for id in ids {
            assert_eq!(link.answer(id).await.reason(), Some(Reason::NotLeader));
        }
        bench.group.set_ready(true);
        let again = link.resume(0, "SET k v");
        assert_eq!(link.ok(again).await, OK);
    });
}

#[test]
fn lost_and_refused_entries_are_told_apart() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        bench.fate.becomes(Commit::Lost);
        let ids = [link.ask(0, "SET k 1"), link.ask(0, "GET k")];
        for id in ids {
            let answer = link.answer(id).await;
            assert!(
                matches!(&answer, Answer::Unknown(line) if line.starts_with("-UNKNOWN ")),
                "{answer:?}"
            );
        }
        bench.fate.becomes(Commit::Refused);
        let ids = [link.ask(0, "SET k 2"), link.ask(0, "SET k 3")];
        let answer = link.answer(ids[0]).await;
        assert!(
            matches!(&answer, Answer::NotExecuted(line) if line.starts_with('-')),
            "{answer:?}"
        );
        link.answer(ids[1]).await;
        bench.fate.becomes(Commit::Applied);
        let fenced = link.ask(0, "SET k 4");
        assert_eq!(link.answer(fenced).await.reason(), Some(Reason::Fenced));
        let again = link.resume(0, "GET k");
        assert_eq!(link.ok(again).await, "$-1\r\n");
    });
}

#[test]
fn what_is_not_begun_by_its_deadline_is_not_executed() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        bench.fate.becomes(None);
        let first = link.ask(0, "SET k 1");
        link.flush().await;
        while bench.fate.held.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let soon = |logical| Request {
            deadline_ms: 50,
            ..request(logical, "SET k 1")
        };
        let waits_in_lane = link.put(soon(0), "APPEND k 2");
        let waits_in_queue = link.put(soon(1), "APPEND k 3");
        for id in [waits_in_lane, waits_in_queue] {
            let answer = link.answer(id).await;
            assert!(matches!(answer, Answer::NotExecuted(_)), "{answer:?}");
        }
        bench.fate.release();
        assert_eq!(link.ok(first).await, OK, "what was begun is not cut short");
        let value = link.ask(2, "GET k");
        assert_eq!(link.ok(value).await, "$1\r\n1\r\n");
    });
}

#[test]
fn many_sessions_keep_their_orders_while_entries_are_slow() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = Link::connect(&bench, b"s").await.unwrap();
        (0..100).for_each(|session| link.open(session));
        let fate = bench.fate.clone();
        // Entries are held until something waits, over and over.
        let pacer = tokio::task::spawn_local(async move {
            loop {
                fate.becomes(None);
                tokio::task::yield_now().await;
                fate.release();
                tokio::task::yield_now().await;
            }
        });
        let mut asked: HashMap<u64, Vec<u64>> = HashMap::new();
        for step in 0..60 {
            for session in 0..100 {
                let line = match step % 5 {
                    4 => format!("STRLEN key{session}"),
                    _ => format!("APPEND key{session} x"),
                };
                asked
                    .entry(session)
                    .or_default()
                    .push(link.ask(session, &line));
            }
            if step % 7 == 0 {
                link.flush().await;
                tokio::task::yield_now().await;
            }
        }
        for ids in asked.values() {
            let mut len = 0;
            for (step, id) in ids.iter().enumerate() {
                len += usize::from(step % 5 != 4);
                assert_eq!(link.ok(*id).await, format!(":{len}\r\n"));
            }
        }
        pacer.abort();
    });
}

#[test]
fn large_values_pass_in_both_directions() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        let value = "v".repeat(300_000);
        let set = link.ask(0, &format!("SET big {value}"));
        let behind = link.ask(0, &format!("APPEND big {value}"));
        let get = link.ask(0, "GET big");
        assert_eq!(link.ok(set).await, OK);
        assert_eq!(link.ok(behind).await, ":600000\r\n");
        assert_eq!(link.ok(get).await, format!("$600000\r\n{value}{value}\r\n"));
    });
}

#[test]
fn a_scan_stops_where_the_groups_slots_end() {
    test(async |dir| {
        let mut map = GenerationMap::all_slots();
        // "bar" is in slot 5061, "foo" in 12182.
        for db in 0..16 {
            map.live.set(db, 6000..7000, NONE);
        }
        let bench = Bench::with(dir, map).await;
        let mut link = bench.link().await;
        let ids = [link.ask(0, "SET foo 1"), link.ask(0, "SET bar 1")];
        for id in ids {
            assert_eq!(link.ok(id).await, OK);
        }
        let page = |slot: u16| Request {
            slot,
            ..request(0, "")
        };
        let first = link.put(page(0), "SCAN 0 COUNT 100");
        let gap = (6000_u64 << 48).to_string();
        let wanted = format!("*2\r\n${}\r\n{gap}\r\n*1\r\n$3\r\nbar\r\n", gap.len());
        assert_eq!(link.ok(first).await, wanted);
        let line = format!("SCAN {} COUNT 100", 7000_u64 << 48);
        let last = link.put(page(7000), &line);
        assert_eq!(link.ok(last).await, "*2\r\n$1\r\n0\r\n*1\r\n$3\r\nfoo\r\n");
    });
}

#[test]
fn a_closed_session_is_still_answered() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        let (set, keys) = (link.ask(0, "SET k v"), link.ask_group(0, "KEYS *"));
        Close { logical: 0 }.put(&mut link.output);
        link.open(1 << 32);
        let new = link.ask(1 << 32, "GET nothing");
        assert_eq!(link.ok(set).await, OK);
        assert_eq!(link.ok(keys).await, "*1\r\n$1\r\nk\r\n");
        assert_eq!(link.ok(new).await, "$-1\r\n");
        let old = link.ask(0, "GET k");
        assert_eq!(link.end().await, Some(1));
        assert!(!link.answers.iter().any(|(id, _)| *id == old));
    });
}

#[test]
fn protocol_errors_end_the_link_with_goaway() {
    type Wrong = fn(&mut Link);
    let wrongs: [Wrong; 6] = [
        |link| _ = link.ask(99, "GET k"),
        // The index of a session that is open.
        |link| link.open(1 << 32),
        |link| Close { logical: 50 }.put(&mut link.output),
        |link| (0..700).for_each(|_| _ = link.ask_group(0, "KEYS *")),
        |link| cairn_protocol::link::put_reply(&mut link.output, 1, ReplyClass::Ok, b"+\r\n"),
        |link| link.output.extend_from_slice(&[0xff; 64]),
    ];
    for wrong in wrongs {
        test(async |dir| {
            let bench = Bench::start(dir).await;
            let mut link = bench.link().await;
            wrong(&mut link);
            assert_eq!(link.end().await, Some(1));
        });
    }
}

#[test]
fn random_bytes_never_harm_other_links() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut good = bench.link().await;
        let mut seed = 42_u64;
        for round in 0..200 {
            let mut bytes = Vec::new();
            for _ in 0..=round {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                bytes.extend_from_slice(&seed.to_le_bytes()[2..7]);
            }
            if round % 2 == 0 {
                let mut link = bench.link().await;
                // Well framed half of the time.
                if round % 4 == 0 {
                    let mut random = request(seed % 6, "GET k");
                    random.group = (seed >> 20) as u32 % 3;
                    random.slot = (seed >> 40) as u16;
                    random.flags = RequestFlags((seed >> 50) as u8);
                    link.put_raw(random, &bytes);
                } else {
                    link.output.extend_from_slice(&bytes);
                }
                link.flush().await;
            } else {
                let mut stream = TcpStream::connect(bench.address).await.unwrap();
                let _ = stream.write_all(b"CRNL").await;
                let _ = stream.write_all(&bytes).await;
            }
        }
        let id = good.ask(0, "SET k v");
        assert_eq!(good.ok(id).await, OK);
    });
}

#[test]
fn strangers_and_wrong_secrets_are_not_let_in() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        assert!(Link::connect(&bench, b"wrong").await.is_none());
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "closed without a word");
    });
}

#[test]
fn http2_is_handed_on_from_its_first_byte() {
    test(async |dir| {
        let mut bench = Bench::start(dir).await;
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(b"PR").await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(b"I * HTTP/2.0\r\n").await.unwrap();
        let handed = bench.http2.recv().await.expect("handed on");
        let mut handed = TcpStream::from_std(handed).unwrap();
        let mut first = [0; 16];
        handed.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"PRI * HTTP/2.0\r\n");
    });
}

#[test]
fn a_stopping_node_says_goodbye_and_answers_what_comes() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        let before = link.ask(0, "SET k v");
        assert_eq!(link.ok(before).await, OK);
        assert_eq!(bench.server.connected.load(SeqCst), 1);
        bench.server.request_stop();
        while link.away.is_none() {
            assert!(link.read().await);
        }
        assert_eq!(link.away, Some(0));
        let late = link.ask(0, "GET k");
        assert_eq!(link.ok(late).await, "$1\r\nv\r\n");
        drop(link);
        while bench.server.connected.load(SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_slow_reader_stops_its_own_link_and_no_more() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let (mut slow, mut good) = (bench.link().await, bench.link().await);
        let value = Bytes::from("v".repeat(200_000));
        let set = slow.ask(0, &format!("SET big {}", String::from_utf8_lossy(&value)));
        assert_eq!(slow.ok(set).await, OK);
        // Far more than the node keeps for one link and the kernel for a socket.
        let ids: Vec<u64> = (0..400).map(|_| slow.ask(1, "GET big")).collect();
        slow.flush().await;
        let set = good.ask(0, "SET other 1");
        assert_eq!(good.ok(set).await, OK);
        for id in ids {
            assert_eq!(slow.ok(id).await.len(), 200_000 + 11);
        }
    });
}
