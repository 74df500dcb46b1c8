//! A proxy between a plain client and fake nodes that speak the link.
//!
//! A fake node keeps a small store, obeys the fence of the link's rules, and
//! asks a script first, so that a test can make it refuse, hold, or die.

#![allow(dead_code)]

use bytes::{Buf, BytesMut};
use cairn_protocol::link::{
    Decoder, Features, Frame, MAGIC, Moved, NO_SLOT, Push, Reason, ReplyClass, RequestFlags,
    ServerHandshake, ServerStep, Welcome, put_reply,
};
use cairn_protocol::resp::{Limits, ReplyWriter, RequestParser, Requests, Version};
use cairn_protocol::slot::{CURSOR_POSITION_BITS, key_slot};
use cairn_protocol::topology::{UsersRecord, Versioned};
use cairn_proxy::config::Settings;
use cairn_proxy::{Config, Proxy, RouteMap, Users};
use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Longest time that anything here waits.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A request as a script sees it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub request: u64,
    pub logical: u64,
    pub database: u16,
    pub flags: RequestFlags,
    pub group: u32,
    pub slot: u16,
    pub args: Vec<Vec<u8>>,
}

impl Asked {
    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.args[0]).to_uppercase()
    }

    pub fn key(&self) -> &[u8] {
        self.args.get(1).map_or(b"", |key| key)
    }
}

/// What a script has the node do.
pub enum Act {
    /// Execute it.
    Run,
    /// Answer with these bytes.
    Say(&'static [u8]),
    NotExecuted,
    Unknown,
    Refuse(Reason, u32, u32, String),
    /// Execute it, but answer only after [`FakeNode::release`].
    Hold,
    /// Answer it when, and as, the test does: [`FakeNode::part`], [`FakeNode::end`].
    Keep,
    /// Execute it, then break the link without an answer.
    RunAndDie,
    /// Break the link.
    Die,
}

type Script = Box<dyn FnMut(&Asked) -> Act + Send>;
pub type Store = Arc<Mutex<BTreeMap<(u16, Vec<u8>), Vec<u8>>>>;

struct Inner {
    script: Script,
    store: Store,
    executed: Vec<Asked>,
    links: Vec<TcpStream>,
    /// Who each session is, by its last OPEN.
    users: BTreeMap<u64, Vec<u8>>,
    /// Bytes of pushes that were granted again.
    credit: u32,
    held: Vec<(TcpStream, BytesMut)>,
    kept: Vec<(TcpStream, Asked)>,
    /// Bytes granted of replies, by request.
    granted: BTreeMap<u64, u64>,
    /// What later links are told that it can do.
    features: Features,
    closed: usize,
}

/// A node on a port of its own.
pub struct FakeNode {
    pub address: String,
    inner: Arc<Mutex<Inner>>,
    stopped: Arc<AtomicBool>,
}

impl FakeNode {
    pub fn start(store: Store) -> Self {
        Self::start_at("127.0.0.1:0", store, b"")
    }

    pub fn start_at(address: &str, store: Store, secret: &'static [u8]) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Mutex::new(Inner {
            script: Box::new(|_| Act::Run),
            store,
            executed: Vec::new(),
            links: Vec::new(),
            users: BTreeMap::new(),
            credit: 0,
            held: Vec::new(),
            kept: Vec::new(),
            granted: BTreeMap::new(),
            features: Features::PIECES,
            closed: 0,
        }));
        let stopped = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (inner.clone(), stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, &shared, secret));
            }
        });
        Self {
            address,
            inner,
            stopped,
        }
    }

    pub fn script(&self, script: impl FnMut(&Asked) -> Act + Send + 'static) {
        self.inner.lock().unwrap().script = Box::new(script);
    }

    /// The requests that were executed, in order.
    pub fn executed(&self) -> Vec<Asked> {
        self.inner.lock().unwrap().executed.clone()
    }

    /// Sends what was held back.
    pub fn release(&self) {
        let held = std::mem::take(&mut self.inner.lock().unwrap().held);
        for (mut link, bytes) in held {
            let _ = link.write_all(&bytes);
        }
    }

    pub fn held(&self) -> usize {
        self.inner.lock().unwrap().held.len()
    }

    /// Sends a session what it did not ask for.
    pub fn push(&self, logical: u64, kind: u8, payload: &[u8]) {
        let mut out = BytesMut::new();
        Push::put(&mut out, logical, kind, payload);
        let inner = self.inner.lock().unwrap();
        let mut link = inner.links.last().expect("a link");
        link.write_all(&out).expect("the link takes it");
    }

    pub fn credit(&self) -> u32 {
        self.inner.lock().unwrap().credit
    }

    /// Who a session is.
    pub fn user_of(&self, logical: u64) -> Option<Vec<u8>> {
        self.inner.lock().unwrap().users.get(&logical).cloned()
    }

    /// The first request of this name that was executed.
    pub fn asked(&self, name: &str) -> Option<Asked> {
        self.executed().into_iter().find(|a| a.name() == name)
    }

    /// The first kept request of this name, once it is there.
    pub fn kept(&self, name: &str) -> Asked {
        let find = || {
            let inner = self.inner.lock().unwrap();
            let mut kept = inner.kept.iter().rev().map(|(_, asked)| asked);
            kept.find(|asked| asked.name() == name).cloned()
        };
        until(&format!("{name} is kept"), || find().is_some());
        find().expect("just seen")
    }

    /// Sends a part of the reply to a kept request, and not the last.
    pub fn part(&self, request: u64, part: &[u8]) {
        self.answer(request, ReplyClass::More, part);
    }

    /// Sends the last part, or whatever ends it.
    pub fn end(&self, request: u64, class: ReplyClass, last: &[u8]) {
        self.answer(request, class, last);
        let kept = &mut self.inner.lock().unwrap().kept;
        kept.retain(|(_, asked)| asked.request != request);
    }

    fn answer(&self, request: u64, class: ReplyClass, payload: &[u8]) {
        let mut out = BytesMut::new();
        put_reply(&mut out, request, class, payload);
        let inner = self.inner.lock().unwrap();
        let kept = inner
            .kept
            .iter()
            .find(|(_, asked)| asked.request == request);
        let mut link = &kept.expect("it is kept").0;
        link.write_all(&out).expect("the link takes it");
    }

    /// Bytes granted of the reply to a request.
    pub fn granted(&self, request: u64) -> u64 {
        let inner = self.inner.lock().unwrap();
        inner.granted.get(&request).copied().unwrap_or(0)
    }

    /// Sessions that were closed.
    pub fn closed(&self) -> usize {
        self.inner.lock().unwrap().closed
    }

    /// New links are told of nothing that it can do: it is of an earlier version.
    pub fn grow_old(&self) {
        self.inner.lock().unwrap().features = Features::default();
    }

    /// Breaks all links, and takes new ones.
    pub fn break_links(&self) {
        for link in self.inner.lock().unwrap().links.drain(..) {
            let _ = link.shutdown(Shutdown::Both);
        }
    }

    /// Breaks all links and takes no new ones.
    pub fn stop(&self) {
        if self.stopped.swap(true, SeqCst) {
            return;
        }
        for link in &self.inner.lock().unwrap().links {
            let _ = link.shutdown(Shutdown::Both);
        }
        // Has the listener see the flag and close.
        let _ = TcpStream::connect(&self.address);
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(mut stream: TcpStream, shared: &Mutex<Inner>, secret: &[u8]) {
    shared
        .lock()
        .unwrap()
        .links
        .push(stream.try_clone().unwrap());
    let mut input = BytesMut::new();
    let welcome = Welcome {
        requests: 64,
        bytes: 1 << 20,
        features: shared.lock().unwrap().features,
        ..Welcome::default()
    };
    if shake_hands(&mut stream, &mut input, secret, welcome).is_none() {
        return;
    }
    let decoder = Decoder::new(1 << 30);
    let mut sessions = HashSet::new();
    let mut fences: HashSet<(u64, u16, u32)> = HashSet::new();
    loop {
        let mut out = BytesMut::new();
        while let Some(batch) = decoder.take(&mut input).expect("good frames") {
            for frame in batch.frames() {
                match frame.expect("a good frame") {
                    Frame::Open(open) => {
                        // Again: another user.
                        sessions.insert(open.logical);
                        let mut inner = shared.lock().unwrap();
                        inner.users.insert(open.logical, open.user.to_vec());
                    }
                    Frame::Close(close) => {
                        assert!(sessions.remove(&close.logical));
                        shared.lock().unwrap().closed += 1;
                    }
                    Frame::Grant(grant) => {
                        let mut inner = shared.lock().unwrap();
                        *inner.granted.entry(grant.request).or_default() += u64::from(grant.bytes);
                    }
                    Frame::Ping(ping) => ping.put_pong(&mut out),
                    Frame::Credit(credit) => shared.lock().unwrap().credit += credit.bytes,
                    Frame::Request(request) => {
                        assert!(sessions.contains(&request.logical), "session not open");
                        let asked = Asked {
                            request: request.request,
                            logical: request.logical,
                            database: request.database,
                            flags: request.flags,
                            group: request.group,
                            slot: request.slot,
                            args: match request.flags.has(RequestFlags::TRANSACTION) {
                                true => parse_all(&request.resp),
                                false => parse(&request.resp),
                            },
                        };
                        let lane = match asked.slot {
                            NO_SLOT => (asked.logical, NO_SLOT, asked.group),
                            slot => (asked.logical, slot, 0),
                        };
                        if asked.flags.has(RequestFlags::RESUME) {
                            fences.remove(&lane);
                        }
                        let mut inner = shared.lock().unwrap();
                        if fences.contains(&lane) {
                            refuse(&mut out, request.request, &asked, Reason::Fenced, 0, 0, "");
                            continue;
                        }
                        let act = (inner.script)(&asked);
                        match act {
                            Act::Run => {
                                let reply = execute(&mut inner, &asked);
                                put_reply(&mut out, request.request, ReplyClass::Ok, &reply);
                            }
                            Act::Say(bytes) => {
                                put_reply(&mut out, request.request, ReplyClass::Ok, bytes);
                            }
                            Act::NotExecuted => {
                                fences.insert(lane);
                                let line = b"-LOADING busy\r\n";
                                put_reply(&mut out, request.request, ReplyClass::NotExecuted, line);
                            }
                            Act::Unknown => {
                                let line = b"-UNKNOWN lost my term\r\n";
                                put_reply(&mut out, request.request, ReplyClass::Unknown, line);
                            }
                            Act::Refuse(reason, group, epoch, address) => {
                                fences.insert(lane);
                                let id = request.request;
                                refuse(&mut out, id, &asked, reason, group, epoch, &address);
                            }
                            Act::Hold => {
                                let reply = execute(&mut inner, &asked);
                                let mut bytes = BytesMut::new();
                                put_reply(&mut bytes, request.request, ReplyClass::Ok, &reply);
                                inner.held.push((stream.try_clone().unwrap(), bytes));
                            }
                            Act::Keep => {
                                inner.kept.push((stream.try_clone().unwrap(), asked));
                            }
                            Act::RunAndDie => {
                                execute(&mut inner, &asked);
                                let _ = stream.shutdown(Shutdown::Both);
                                return;
                            }
                            Act::Die => {
                                let _ = stream.shutdown(Shutdown::Both);
                                return;
                            }
                        }
                    }
                    other => panic!("a proxy may not send {other:?}"),
                }
            }
        }
        if stream.write_all(&out).is_err() || !read_more(&mut stream, &mut input) {
            return;
        }
    }
}

fn shake_hands(
    stream: &mut TcpStream,
    input: &mut BytesMut,
    secret: &[u8],
    welcome: Welcome,
) -> Option<()> {
    while input.len() < 4 {
        read_more(stream, input).then_some(())?;
    }
    assert_eq!(&input[..4], MAGIC);
    input.advance(4);
    let mut shake = ServerHandshake::new("test", "fake", secret, [7; 16], welcome);
    let decoder = Decoder::new(1024);
    loop {
        while let Some(frame) = decoder.take_one(input).ok()? {
            let mut out = BytesMut::new();
            let step = shake.on_frame(&frame, &mut out);
            stream.write_all(&out).ok()?;
            if let ServerStep::Done(_) = step.ok()? {
                return Some(());
            }
        }
        read_more(stream, input).then_some(())?;
    }
}

fn read_more(stream: &mut TcpStream, input: &mut BytesMut) -> bool {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(n) if n > 0 => {
            input.extend_from_slice(&chunk[..n]);
            true
        }
        _ => false,
    }
}

fn refuse(
    out: &mut BytesMut,
    request: u64,
    asked: &Asked,
    reason: Reason,
    group: u32,
    epoch: u32,
    address: &str,
) {
    Moved {
        slot: asked.slot,
        reason,
        group,
        epoch,
        address,
    }
    .put_reply(out, request);
}

/// The one command in `resp`.
fn parse(resp: &[u8]) -> Vec<Vec<u8>> {
    let (mut input, mut requests) = (BytesMut::from(resp), Requests::default());
    let parsed = RequestParser::new().parse(&mut input, &Limits::default(), 9, &mut requests);
    assert_eq!((parsed, input.len()), (Ok(1), 0), "exactly one command");
    requests.get(0).iter().map(<[u8]>::to_vec).collect()
}

/// The commands of a transaction, each as its words.
fn parse_all(resp: &[u8]) -> Vec<Vec<u8>> {
    let (mut input, mut requests) = (BytesMut::from(resp), Requests::default());
    let parsed = RequestParser::new().parse(&mut input, &Limits::default(), 99, &mut requests);
    let count = parsed.expect("whole commands");
    assert!(input.is_empty());
    let words = |at| requests.get(at).iter().collect::<Vec<_>>().join(&b' ');
    (0..count).map(words).collect()
}

fn execute(inner: &mut Inner, asked: &Asked) -> Vec<u8> {
    inner.executed.push(asked.clone());
    let version = match asked.flags.has(RequestFlags::RESP3) {
        true => Version::V3,
        false => Version::V2,
    };
    let mut reply = ReplyWriter::new(version);
    let mut store = inner.store.lock().unwrap();
    let at = |key: &[u8]| (asked.database, key.to_vec());
    let mine = |key: &[u8]| asked.group == if key_slot(key) < 8192 { 1 } else { 2 };
    match asked.name().as_str() {
        "BLPOP" => reply.null_array(),
        "GET" => reply.bulk_or_null(store.get(&at(asked.key())).map(|v| &v[..])),
        "SET" => {
            store.insert(at(asked.key()), asked.args[2].clone());
            reply.ok();
        }
        "APPEND" => {
            let value = store.entry(at(asked.key())).or_default();
            value.extend_from_slice(&asked.args[2]);
            reply.integer(value.len() as i64);
        }
        "MGET" => {
            reply.array(asked.args.len() - 1);
            for key in &asked.args[1..] {
                reply.bulk_or_null(store.get(&at(key)).map(|v| &v[..]));
            }
        }
        "MSET" => {
            for pair in asked.args[1..].chunks(2) {
                store.insert(at(&pair[0]), pair[1].clone());
            }
            reply.ok();
        }
        "DEL" => {
            let n = asked.args[1..]
                .iter()
                .filter(|key| store.remove(&at(key)).is_some())
                .count();
            reply.integer(n as i64);
        }
        "DBSIZE" => {
            let n = store
                .keys()
                .filter(|(db, key)| *db == asked.database && mine(key))
                .count();
            reply.integer(n as i64);
        }
        "KEYS" => {
            let keys: Vec<_> = store.keys().filter(|(_, key)| mine(key)).collect();
            reply.array(keys.len());
            keys.iter().for_each(|(_, key)| reply.bulk(key));
        }
        "SCAN" => {
            let cursor: u64 = String::from_utf8_lossy(asked.key()).parse().unwrap();
            assert_eq!(cursor >> CURSOR_POSITION_BITS, u64::from(asked.slot));
            let end = if asked.slot < 8192 { 8192u16 } else { 16384 };
            let keys: Vec<_> = store
                .keys()
                .filter(|(_, key)| (asked.slot..end).contains(&key_slot(key)))
                .collect();
            reply.array(2);
            let next = if end == 16384 {
                0
            } else {
                u64::from(end) << CURSOR_POSITION_BITS
            };
            reply.bulk(next.to_string().as_bytes());
            reply.array(keys.len());
            keys.iter().for_each(|(_, key)| reply.bulk(key));
        }
        "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "WATCH" | "UNWATCH"
        | "CLIENT" | "MONITOR" | "CONFIG" => reply.ok(),
        "PUBLISH" => reply.integer(1),
        "EVALSHA" => reply.ok(),
        "SCRIPT" => reply.bulk(b"sha"),
        "FLUSHALL" => {
            store.retain(|(_, key), _| !mine(key));
            reply.ok();
        }
        other => reply.error(format!("ERR fake node does not know '{other}'")),
    }
    reply.to_vec()
}

/// A proxy over fake nodes.
pub struct Cluster {
    pub store: Store,
    pub nodes: Vec<FakeNode>,
    pub routes: watch::Sender<Arc<RouteMap>>,
    proxy: Option<Proxy>,
    password: String,
    pub address: SocketAddr,
}

/// Settings of tests: no long waits.
pub fn settings() -> Settings {
    Settings {
        max_pause: Duration::from_secs(5),
        ..Settings::default()
    }
}

impl Cluster {
    /// Group 1 (slots to 8191) on node 0, group 2 on node 1.
    pub fn start() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: Settings) -> Self {
        let cluster = Self::with_users(settings, Users::of);
        cluster.wait_for_links();
        cluster
    }

    /// It need not be linked yet.
    pub fn with_users(settings: Settings, users: fn(&Config) -> Arc<Users>) -> Self {
        let store = Store::default();
        let nodes = vec![
            FakeNode::start(store.clone()),
            FakeNode::start(store.clone()),
        ];
        let map = Self::map(&nodes, 1);
        let (routes, receiver) = watch::channel(Arc::new(map));
        let password = settings.requirepass.clone();
        let config = Config {
            cluster: "test".into(),
            port: 0,
            bind: vec![[127, 0, 0, 1].into()],
            io_threads: 1,
            settings,
            ..Config::default()
        };
        let users = users(&config);
        let proxy = Proxy::start(config, users, receiver).expect("a proxy");
        let address = proxy.addresses()[0];
        Self {
            store,
            nodes,
            routes,
            proxy: Some(proxy),
            password,
            address,
        }
    }

    /// A link that is not up yet would make a first command wait.
    fn wait_for_links(&self) {
        let mut client = self.client();
        let pass = if self.password.is_empty() {
            "none"
        } else {
            &self.password
        };
        until("the links are up", || {
            client.send(command(&format!("AUTH default {pass}"))).line();
            client.text("INFO cairn").contains("nodes_linked:2")
        });
    }

    fn map(nodes: &[FakeNode], epoch: u32) -> RouteMap {
        let leaders = [(1, &*nodes[0].address), (2, &*nodes[1].address)];
        RouteMap::of(&[(0, 8191, 1), (8192, 16383, 2)], epoch, &leaders)
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// What etcd says of users from now on, as lines of an ACL file.
    pub fn set_users(&self, revision: i64, lines: &[&str]) {
        let lines: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        let record = Versioned {
            value: UsersRecord::new(&lines),
            mod_revision: revision,
        };
        let proxy = self.proxy.as_ref().expect("it runs");
        proxy.follow(Some(&record));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.stop(Duration::from_millis(200));
        }
    }
}

/// A plain client.
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the proxy listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// The next bytes must be exactly these.
    pub fn expect(&mut self, want: impl AsRef<[u8]>) -> &mut Self {
        let want = want.as_ref();
        let mut got = vec![0; want.len()];
        let mut have = 0;
        while have < got.len() {
            match self.stream.read(&mut got[have..]) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) => panic!("{error} after {:?}", got[..have].escape_ascii().to_string()),
            }
        }
        assert_eq!(
            got[..have].escape_ascii().to_string(),
            want.escape_ascii().to_string()
        );
        self
    }

    pub fn ask(&mut self, line: &str, want: &str) -> &mut Self {
        self.send(command(line)).expect(want)
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> String {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while !line.ends_with(b"\r\n") {
            assert_eq!(
                self.stream.read(&mut byte).expect("a line"),
                1,
                "closed in {line:?}"
            );
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
    }

    /// So many bytes.
    pub fn take(&mut self, len: usize) -> String {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).expect("they come");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The next line's number: an integer, or a length.
    pub fn number(&mut self, kind: char) -> u64 {
        let line = self.line();
        let number = line.strip_prefix(kind).and_then(|n| n.parse().ok());
        number.unwrap_or_else(|| panic!("{line:?} is no {kind}"))
    }

    /// The next bulk string.
    pub fn bulk(&mut self) -> String {
        let len = self.number('$') as usize;
        let text = self.take(len);
        self.expect("\r\n");
        text
    }

    /// A bulk string that is asked for.
    pub fn text(&mut self, line: &str) -> String {
        self.send(command(line)).bulk()
    }

    /// A field of INFO stats.
    pub fn figure(&mut self, name: &str) -> String {
        let text = self.text("INFO stats");
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        let field = fields.find(|(field, _)| *field == name);
        field.expect("a field of INFO").1.to_owned()
    }

    /// Nothing but the end may come.
    pub fn expect_close(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("a clean end");
        assert_eq!(rest.escape_ascii().to_string(), "");
    }

    /// Whether nothing comes for a moment.
    pub fn is_quiet(&mut self) -> bool {
        self.stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let quiet = self.stream.read(&mut [0; 1]).is_err();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        quiet
    }
}

/// A command of words, as RESP.
pub fn command(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let mut out = BytesMut::new();
    cairn_protocol::resp::encode_request(&mut out, words);
    out.to_vec()
}

/// Waits for a condition.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
