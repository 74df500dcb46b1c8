//! The real program over TCP: messages that clients did not ask for. Pub/sub,
//! keyspace notifications, client-side caching, MONITOR, output limits.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cairn_protocol::resp::{FrameScanner, ScanLimits, encode_request};

const DEADLINE: Duration = Duration::from_secs(30);

/// A running server in a temporary folder; killed when dropped.
struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_cairn-server"))
            .current_dir(folder.path())
            .env_remove("CAIRN_LOG")
            .args(flags)
            .args(["--port", "0", "--memory-limit", "64mb"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let port = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the server ended");
            if line.contains("Ready to accept connections") {
                let (_, rest) = line.split_once("port=").unwrap();
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        // The pipe must not fill up.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Server {
            child,
            port,
            _folder: folder,
        }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client {
            stream,
            input: Vec::new(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// Sends lines whose words are parted by blanks, in one piece.
    fn send(&mut self, lines: &[&str]) {
        let mut request = Vec::new();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            encode_request(&mut request, words);
        }
        self.stream.write_all(&request).unwrap();
    }

    /// One whole reply or message; line ends are shown as blanks.
    fn next(&mut self) -> String {
        let mut scanner = FrameScanner::new(ScanLimits::default());
        loop {
            if let Some(len) = scanner.scan(&self.input).unwrap() {
                let reply: Vec<u8> = self.input.drain(..len).collect();
                let reply = String::from_utf8_lossy(&reply).replace("\r\n", " ");
                return reply.trim_end().to_owned();
            }
            let mut chunk = [0; 64 << 10];
            let n = self.stream.read(&mut chunk).unwrap();
            assert_ne!(n, 0, "closed: {:?}", self.input);
            self.input.extend_from_slice(&chunk[..n]);
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(&[line]);
        self.next()
    }

    /// Nothing has come that was not looked at: an ECHO's reply is the next.
    fn has_nothing(&mut self) -> bool {
        self.ask("ECHO nothing") == "$7 nothing"
    }

    fn id(&mut self) -> String {
        self.ask("CLIENT ID")[1..].to_owned()
    }

    /// The connection is closed within the deadline, whatever else comes.
    fn is_closed(&mut self) -> bool {
        let mut rest = [0; 64 << 10];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Asks until the answer is as wanted.
    fn ask_until(&mut self, line: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.ask(line);
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{line}: {answer}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn info(&mut self, name: &str) -> String {
        let text = self.ask("INFO everything");
        let found = text
            .split(' ')
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        found.unwrap_or_else(|| panic!("no {name}")).to_owned()
    }
}

#[test]
fn subscribers_get_messages_and_patterns_match() {
    let server = Server::start(&[]);
    let (mut a, mut b, mut p) = (server.connect(), server.connect(), server.connect());
    assert_eq!(a.ask("SUBSCRIBE x y x"), "*3 $9 subscribe $1 x :1");
    assert_eq!(a.next(), "*3 $9 subscribe $1 y :2");
    assert_eq!(a.next(), "*3 $9 subscribe $1 x :2");
    assert_eq!(b.ask("PSUBSCRIBE x* ?"), "*3 $10 psubscribe $2 x* :1");
    assert_eq!(b.next(), "*3 $10 psubscribe $1 ? :2");
    assert_eq!(p.ask("PUBLISH x hello"), ":3");
    assert_eq!(p.ask("PUBLISH nobody hello"), ":0");
    assert_eq!(a.next(), "*3 $7 message $1 x $5 hello");
    assert_eq!(b.next(), "*4 $8 pmessage $1 ? $1 x $5 hello");
    assert_eq!(b.next(), "*4 $8 pmessage $2 x* $1 x $5 hello");
    assert_eq!(p.ask("PUBSUB NUMSUB x y z"), "*6 $1 x :1 $1 y :1 $1 z :0");
    assert_eq!(p.ask("PUBSUB NUMPAT"), ":2");
    assert_eq!(p.ask("PUBSUB CHANNELS"), "*2 $1 x $1 y");
    assert_eq!(p.ask("PUBSUB CHANNELS [a-x]"), "*1 $1 x");
    assert_eq!(
        (p.info("pubsub_channels"), p.info("pubsub_patterns")),
        ("2".into(), "2".into())
    );
    assert!(
        p.ask("CLIENT LIST TYPE pubsub")
            .contains(" flags=P db=0 sub=2 psub=0 ssub=0 ")
    );
    assert_eq!(a.ask("UNSUBSCRIBE y"), "*3 $11 unsubscribe $1 y :1");
    assert_eq!(a.ask("PUNSUBSCRIBE"), "*3 $12 punsubscribe $-1 :1");
    assert_eq!(a.ask("UNSUBSCRIBE"), "*3 $11 unsubscribe $1 x :0");
    assert_eq!(a.ask("UNSUBSCRIBE"), "*3 $11 unsubscribe $-1 :0");
    drop(b);
    p.ask_until("PUBSUB NUMPAT", |n| n == ":0");
    assert_eq!(p.ask("PUBLISH x hello"), ":0");
}

#[test]
fn a_subscriber_in_resp2_may_do_little_else() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    c.ask("SUBSCRIBE x");
    let refused = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                   this context";
    assert_eq!(
        c.ask("GET k"),
        format!("-ERR Can't execute 'get': {refused}")
    );
    assert_eq!(
        c.ask("CLIENT LIST"),
        format!("-ERR Can't execute 'client|list': {refused}")
    );
    assert_eq!(
        c.ask("HELLO 3"),
        format!("-ERR Can't execute 'hello': {refused}")
    );
    assert_eq!(
        c.ask("EXEC"),
        format!("-EXECABORT Transaction discarded because of: Can't execute 'exec': {refused}")
    );
    assert_eq!(c.ask("PING"), "*2 $4 pong $0");
    assert_eq!(c.ask("PING hi"), "*2 $4 pong $2 hi");
    assert_eq!(c.ask("RESET"), "+RESET");
    assert_eq!(c.ask("PING"), "+PONG");
    assert_eq!(c.ask("PUBSUB CHANNELS"), "*0");
}

#[test]
fn in_resp3_messages_are_pushes_and_come_before_the_reply_that_caused_them() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    c.ask("HELLO 3");
    assert_eq!(c.ask("SUBSCRIBE x"), ">3 $9 subscribe $1 x :1");
    c.send(&[
        "PUBLISH x 1",
        "SET k v",
        "PUBLISH x 2",
        "GET k",
        "UNSUBSCRIBE",
    ]);
    let all: Vec<String> = (0..7).map(|_| c.next()).collect();
    assert_eq!(
        all,
        [
            ">3 $7 message $1 x $1 1",
            ":1",
            "+OK",
            ">3 $7 message $1 x $1 2",
            ":1",
            "$1 v",
            ">3 $11 unsubscribe $1 x :0"
        ]
    );
}

#[test]
fn sharded_channels_are_channels_of_their_own() {
    let server = Server::start(&[]);
    let (mut a, mut p) = (server.connect(), server.connect());
    assert_eq!(a.ask("SSUBSCRIBE x"), "*3 $10 ssubscribe $1 x :1");
    assert_eq!(a.ask("SUBSCRIBE x"), "*3 $9 subscribe $1 x :1");
    assert_eq!(p.ask("SPUBLISH x one"), ":1");
    assert_eq!(p.ask("PUBLISH x two"), ":1");
    assert_eq!(a.next(), "*3 $8 smessage $1 x $3 one");
    assert_eq!(a.next(), "*3 $7 message $1 x $3 two");
    assert_eq!(p.ask("PUBSUB SHARDCHANNELS"), "*1 $1 x");
    assert_eq!(p.ask("PUBSUB SHARDNUMSUB x y"), "*4 $1 x :1 $1 y :0");
    assert_eq!(a.ask("SUNSUBSCRIBE"), "*3 $12 sunsubscribe $1 x :0");
}

#[test]
fn a_client_without_replies_still_gets_messages() {
    let server = Server::start(&[]);
    let (mut a, mut p) = (server.connect(), server.connect());
    a.ask("HELLO 3");
    a.send(&["CLIENT REPLY OFF", "PING", "SUBSCRIBE x", "PING"]);
    assert_eq!(a.next(), ">3 $9 subscribe $1 x :1");
    assert_eq!(p.ask("PUBLISH x hi"), ":1");
    assert_eq!(a.next(), ">3 $7 message $1 x $2 hi");
    a.send(&["UNSUBSCRIBE", "CLIENT REPLY ON"]);
    assert_eq!(a.next(), ">3 $11 unsubscribe $1 x :0");
    assert_eq!(a.next(), "+OK");
}

/// Regression: what a subscriber may not ask for was run if it wanted no replies.
#[test]
fn a_subscriber_without_replies_is_refused_all_the_same() {
    let server = Server::start(&[]);
    let (mut a, mut p) = (server.connect(), server.connect());
    a.send(&["CLIENT REPLY OFF", "SUBSCRIBE x"]);
    assert_eq!(a.next(), "*3 $9 subscribe $1 x :1");
    a.send(&["SET k v", "CLIENT REPLY ON", "PING", "PSUBSCRIBE y"]);
    assert_eq!(a.next(), "*3 $10 psubscribe $1 y :2");
    assert_eq!(p.ask("PUBLISH x hi"), ":1");
    assert_eq!(a.next(), "*3 $7 message $1 x $2 hi");
    assert_eq!(p.ask("GET k"), "$-1");
    a.send(&["UNSUBSCRIBE", "PUNSUBSCRIBE", "CLIENT REPLY ON"]);
    assert_eq!(a.next(), "*3 $11 unsubscribe $1 x :1");
    assert_eq!(a.next(), "*3 $12 punsubscribe $1 y :0");
    assert_eq!(a.next(), "+OK");
}

#[test]
fn keyspace_events_of_the_chosen_classes_are_published() {
    let server = Server::start(&["--notify-keyspace-events", "KEA"]);
    let (mut a, mut w) = (server.connect(), server.connect());
    a.ask("PSUBSCRIBE __key*");
    w.ask("SELECT 9");
    w.ask("SET k v PX 20");
    let expected = [
        "*4 $8 pmessage $6 __key* $16 __keyspace@9__:k $3 set",
        "*4 $8 pmessage $6 __key* $18 __keyevent@9__:set $1 k",
        "*4 $8 pmessage $6 __key* $16 __keyspace@9__:k $6 expire",
        "*4 $8 pmessage $6 __key* $21 __keyevent@9__:expire $1 k",
        "*4 $8 pmessage $6 __key* $16 __keyspace@9__:k $7 expired",
        "*4 $8 pmessage $6 __key* $22 __keyevent@9__:expired $1 k",
    ];
    for line in expected {
        assert_eq!(a.next(), line);
    }
    w.ask("CONFIG SET notify-keyspace-events Emn");
    w.ask("SET new v");
    w.ask("SET new w");
    assert_eq!(w.ask("MGET new gone"), "*2 $1 w $-1");
    assert_eq!(
        a.next(),
        "*4 $8 pmessage $6 __key* $18 __keyevent@9__:new $3 new"
    );
    assert_eq!(
        a.next(),
        "*4 $8 pmessage $6 __key* $22 __keyevent@9__:keymiss $4 gone"
    );
    w.ask("CONFIG SET notify-keyspace-events \"\"");
}

#[test]
fn a_cached_key_is_invalidated_once_and_behind_the_reply() {
    let server = Server::start(&[]);
    let (mut c, mut w) = (server.connect(), server.connect());
    c.ask("HELLO 3");
    w.ask("MSET a 1 b 1");
    assert_eq!(c.ask("CLIENT TRACKING ON"), "+OK");
    c.ask("GET a");
    c.ask("SELECT 3");
    w.ask("SET a 2");
    w.ask("SET a 3");
    w.ask("SET b 2");
    assert_eq!(c.next(), ">2 $10 invalidate *1 $1 a");
    assert!(c.has_nothing());
    c.send(&["GET a", "SET a 4", "PING"]);
    let all: Vec<String> = (0..4).map(|_| c.next()).collect();
    assert_eq!(all, ["_", "+OK", ">2 $10 invalidate *1 $1 a", "+PONG"]);
    // Read and changed within one pipeline: told, and told again.
    c.send(&["SET a 5", "GET a"]);
    assert_eq!((c.next(), c.next()), ("+OK".into(), "$1 5".into()));
    w.ask("SELECT 3");
    w.ask("SET a 6");
    assert_eq!(c.next(), ">2 $10 invalidate *1 $1 a");
    w.ask("FLUSHALL");
    assert_eq!(c.next(), ">2 $10 invalidate _");
    c.ask("CLIENT TRACKING OFF");
    c.ask("GET a");
    w.ask("SET a 1");
    assert!(c.has_nothing());
    assert_eq!(c.info("tracking_clients"), "0");
}

#[test]
fn a_client_that_changes_a_key_itself_need_not_hear_of_it() {
    let server = Server::start(&[]);
    let (mut c, mut w) = (server.connect(), server.connect());
    c.ask("HELLO 3");
    c.ask("CLIENT TRACKING ON NOLOOP");
    // The read is evaluated behind the write, in one batch with it.
    c.send(&["SET a 1", "GET a"]);
    assert_eq!((c.next(), c.next()), ("+OK".into(), "$1 1".into()));
    assert!(c.has_nothing());
    w.ask("SET a 2");
    assert_eq!(c.next(), ">2 $10 invalidate *1 $1 a");
}

#[test]
fn only_what_was_opted_for_is_remembered() {
    let server = Server::start(&[]);
    let (mut c, mut w) = (server.connect(), server.connect());
    c.ask("HELLO 3");
    assert_eq!(
        c.ask("CLIENT CACHING YES"),
        "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN \
         or OPTOUT mode enabled"
    );
    c.ask("CLIENT TRACKING ON OPTIN");
    c.ask("GET a");
    c.ask("CLIENT CACHING YES");
    let info = "%3 $5 flags ~3 $2 on $5 optin $11 caching-yes $8 redirect :0 $8 prefixes *0";
    assert_eq!(c.ask("CLIENT TRACKINGINFO"), info);
    c.ask("GET b");
    c.ask("GET c");
    w.ask("MSET a 1 c 1 b 1");
    assert_eq!(c.next(), ">2 $10 invalidate *1 $1 b");
    assert!(c.has_nothing());
    c.ask("CLIENT TRACKING OFF");
    c.ask("CLIENT TRACKING ON OPTOUT");
    c.ask("CLIENT CACHING NO");
    c.ask("GET a");
    c.ask("GET b");
    w.ask("MSET a 1 b 1");
    assert_eq!(c.next(), ">2 $10 invalidate *1 $1 b");
    assert!(c.has_nothing());
}

#[test]
fn broadcasts_tell_of_prefixes_once_a_batch() {
    let server = Server::start(&[]);
    let (mut c, mut w) = (server.connect(), server.connect());
    c.ask("HELLO 3");
    c.ask("CLIENT TRACKING ON BCAST PREFIX user: PREFIX item:");
    assert_eq!(
        c.ask("CLIENT TRACKING ON BCAST PREFIX us"),
        "-ERR Prefix 'us' overlaps with an existing prefix 'user:'. Prefixes for a single client \
         must not overlap."
    );
    assert_eq!(c.info("tracking_total_prefixes"), "2");
    w.ask("MSET user:2 1 user:1 1 user:2 2 other 1 item:1 1");
    assert_eq!(c.next(), ">2 $10 invalidate *1 $6 item:1");
    assert_eq!(c.next(), ">2 $10 invalidate *2 $6 user:1 $6 user:2");
    assert!(c.has_nothing());
}

#[test]
fn invalidations_can_go_to_another_client_until_it_leaves() {
    let server = Server::start(&[]);
    let (mut c, mut r, mut w) = (server.connect(), server.connect(), server.connect());
    let redirect = r.id();
    r.ask("SUBSCRIBE __redis__:invalidate");
    assert_eq!(c.ask("CLIENT GETREDIR"), ":-1");
    assert_eq!(
        c.ask("CLIENT TRACKING ON REDIRECT 999"),
        "-ERR The client ID you want redirect to does not exist"
    );
    assert_eq!(
        c.ask(&format!("CLIENT TRACKING ON REDIRECT {redirect}")),
        "+OK"
    );
    assert_eq!(c.ask("CLIENT GETREDIR"), format!(":{redirect}"));
    assert!(c.ask("CLIENT INFO").contains("flags=t "));
    let listed = format!("CLIENT LIST ID {}", c.id());
    c.ask("MULTI");
    assert!(w.ask(&listed).contains(" flags=xt "));
    c.ask("DISCARD");
    c.ask("MGET a b");
    w.ask("SET a 1");
    assert_eq!(r.next(), "*3 $7 message $20 __redis__:invalidate *1 $1 a");
    w.ask("FLUSHALL");
    assert_eq!(r.next(), "*3 $7 message $20 __redis__:invalidate $-1");
    c.ask("HELLO 3");
    c.ask("GET b");
    assert_eq!(r.ask("QUIT"), "+OK");
    assert!(r.is_closed());
    w.ask("SET b 1");
    assert_eq!(
        c.next(),
        format!(">2 $21 tracking-redir-broken :{redirect}")
    );
    assert!(c.ask("CLIENT TRACKINGINFO").contains("$15 broken_redirect"));
}

#[test]
fn the_tracking_table_is_kept_to_its_limit() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    c.ask("HELLO 3");
    c.ask("CLIENT TRACKING ON");
    for i in 0..250 {
        c.ask(&format!("GET key{i}"));
    }
    assert_eq!(
        (
            c.info("tracking_total_keys"),
            c.info("tracking_total_items")
        ),
        ("250".into(), "250".into())
    );
    c.send(&["CONFIG SET tracking-table-max-keys 10"]);
    let mut seen = 0;
    while seen < 240 {
        if c.next().starts_with(">2 $10 invalidate *1 ") {
            seen += 1;
        }
    }
    assert!(c.has_nothing());
    assert_eq!(c.info("tracking_total_keys"), "10");
}

#[test]
fn a_client_that_monitors_reaches_no_keys() {
    let server = Server::start(&[]);
    let mut m = server.connect();
    assert_eq!(m.ask("MONITOR"), "+OK");
    for line in ["GET k", "SET k v", "PUBLISH c m", "DBSIZE", "EVAL x 0"] {
        let refused = "-ERR Replica can't interact with the keyspace";
        assert_eq!(m.ask(line), refused, "{line}");
    }
    assert_eq!(m.ask("RESET"), "+RESET");
    assert_eq!(m.ask("GET k"), "$-1");
}

#[test]
fn monitor_shows_commands_and_hides_secrets() {
    let server = Server::start(&[]);
    let (mut m, mut c) = (server.connect(), server.connect());
    assert_eq!(m.ask("MONITOR"), "+OK");
    c.ask("SELECT 2");
    c.ask("SET k a\"b\n");
    c.ask("AUTH secret");
    c.ask("CONFIG GET port");
    c.ask("GET");
    c.ask("INCR k");
    let own = c.stream.local_addr().unwrap();
    for (db, line) in [
        (2, "\"SELECT\" \"2\""),
        (2, "\"SET\" \"k\" \"a\\\"b\\n\""),
        (2, "\"AUTH\" \"(redacted)\""),
        (2, "\"INCR\" \"k\""),
    ] {
        let shown = m.next();
        assert!(shown.ends_with(&format!(" [{db} {own}] {line}")), "{shown}");
    }
    assert!(c.ask("CLIENT LIST").contains(" flags=O "));
    assert_eq!(m.ask("RESET"), "+RESET");
    c.ask("GET k");
    assert!(m.has_nothing());
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_at_the_hard_limit() {
    let server = Server::start(&["--client-output-buffer-limit", "pubsub", "100000", "0", "0"]);
    let (mut s, mut p) = (server.connect(), server.connect());
    s.ask("SUBSCRIBE x");
    let message = "m".repeat(50_000);
    p.ask_until(&format!("PUBLISH x {message}"), |receivers| {
        receivers == ":0"
    });
    assert!(s.is_closed());
    p.ask_until("PUBSUB NUMSUB x", |n| n == "*2 $1 x :0");
}

#[test]
fn a_reply_beyond_the_hard_limit_is_not_sent() {
    let server = Server::start(&["--client-output-buffer-limit", "normal", "100000", "0", "0"]);
    let (mut c, mut w) = (server.connect(), server.connect());
    w.ask(&format!("SET k {}", "v".repeat(60_000)));
    c.send(&["GET k", "GET k"]);
    let mut byte = [0; 1];
    let read = c.stream.read(&mut byte);
    assert!(matches!(read, Ok(0)) || read.is_err(), "{read:?}");
    assert_eq!(w.ask("DEL k"), ":1");
}

#[test]
fn an_idle_client_gives_its_buffer_back() {
    let server = Server::start(&[]);
    let (mut c, mut other) = (server.connect(), server.connect());
    c.ask("CLIENT SETNAME idle");
    let line = |text: String| {
        text.split(" id=")
            .find(|l| l.contains("name=idle"))
            .unwrap()
            .to_owned()
    };
    other.ask_until("CLIENT LIST", |text| {
        line(text.to_owned()).contains(" qbuf=0 qbuf-free=0 ")
    });
    assert_eq!(c.ask("PING"), "+PONG");
}

/// A subscriber that has not read for long gives its buffer for input back; others are
/// served all the while.
#[test]
fn a_subscriber_that_does_not_read_keeps_nobody_waiting() {
    let server = Server::start(&["--io-threads", "1"]);
    let (mut deaf, mut other) = (server.connect(), server.connect());
    deaf.send(&["CLIENT SETNAME deaf", "SUBSCRIBE news"]);
    let unread = |other: &mut Client| {
        let list = other.ask("CLIENT LIST");
        let line = list.lines().find(|line| line.contains("name=deaf"));
        let line = line.unwrap_or_else(|| panic!("it is gone: {list}"));
        let (_, rest) = line.split_once(" omem=").unwrap();
        let (omem, _) = rest.split_once(' ').unwrap();
        omem.parse::<usize>().unwrap()
    };
    let news = format!("PUBLISH news {}", "x".repeat(100_000));
    other.ask_until("PUBSUB NUMSUB news", |answer| answer.ends_with(":1"));
    while unread(&mut other) < 200_000 {
        assert_eq!(other.ask(&news), ":1");
    }
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let asked = Instant::now();
        assert_eq!(other.ask("PING"), "+PONG");
        assert!(asked.elapsed() < Duration::from_secs(2));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(unread(&mut other) >= 200_000);
}
