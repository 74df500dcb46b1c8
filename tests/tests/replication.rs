//! A real redis-server as a replica: it gets the data set and then every change, so
//! that at the end both hold the same.
//!
//! `CAIRN_REPLICATION_COMMANDS` sets how many commands each writer sends, `CAIRN_SEED`
//! repeats what they send (not how they interleave).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_tests::peers::Redis;
use cairn_tests::resp::{Client, Value, encode};
use cairn_tests::seed;
use cairn_tests::server::{Server, info};
use cairn_tests::wait;
use rand::Rng;
use rand::rngs::StdRng;

const LIMIT: Duration = Duration::from_secs(60);
const WRITERS: u64 = 3;
const BATCH: usize = 20;
const DATABASES: usize = 3;

#[test]
fn a_redis_replica_holds_what_the_server_holds_after_a_mixed_load() {
    let seed = seed::seed("replication");
    let commands = seed::size("CAIRN_REPLICATION_COMMANDS", 6_000);
    let cairn = Server::start(&["--enable-debug-command", "yes"]);
    let (first, second) = (Redis::in_memory(), Redis::in_memory());
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|id| Writer::new(&cairn, seed, id))
        .collect();
    // What is there before anybody is attached, large collections among it.
    writers[0].load_large();
    writers
        .iter_mut()
        .for_each(|writer| writer.run(commands / 4));
    let stop = Arc::new(AtomicBool::new(false));
    let popper = blocking_pops(&cairn, stop.clone());
    std::thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(move || writer.run(commands / 2));
        }
        follow(&first, &cairn);
    });
    cairn.client().words("CONFIG SET repl-diskless-sync no");
    std::thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(move || writer.run(commands / 4));
        }
        follow(&second, &cairn);
    });
    stop.store(true, Ordering::Release);
    popper.join().expect("the client that waits for keys");
    let mut ours = cairn.client();
    wait::until("short expiries to pass", LIMIT, || {
        let keys = (0..DATABASES)
            .map(|db| expiring_soon(&mut ours, db))
            .sum::<usize>();
        (keys == 0).then_some(())
    });
    assert_eq!(
        ours.words("WAIT 2 30000").integer(),
        2,
        "both have everything"
    );
    for replica in [&first, &second] {
        let mut theirs = replica.client();
        assert_eq!(info(&mut theirs, "unexpected_error_replies"), "0");
        for db in 0..DATABASES {
            compare(&mut ours, &mut theirs, db);
        }
    }
}

/// Makes `replica` follow, and waits until it has the data set.
fn follow(replica: &Redis, cairn: &Server) {
    let mut client = replica.client();
    client.words("CONFIG SET repl-timeout 60");
    client.words(&format!("REPLICAOF 127.0.0.1 {}", cairn.port()));
    wait::until("the link to the master", LIMIT, || {
        (info(&mut client, "master_link_status") == "up").then_some(())
    });
}

/// A client that pops from whatever gets an element, in the form in which it waits.
fn blocking_pops(cairn: &Server, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let mut client = cairn.client();
    std::thread::spawn(move || {
        for turn in 0.. {
            if stop.load(Ordering::Acquire) {
                return;
            }
            let line = [
                "BLPOP waited 0.05",
                "BRPOP waited 0.05",
                "BLMPOP 0.05 1 waited LEFT COUNT 2",
                "BZPOPMIN zwaited 0.05",
                "BZMPOP 0.05 1 zwaited MAX COUNT 2",
                "BLMOVE waited moved LEFT RIGHT 0.05",
                "BRPOPLPUSH waited moved 0.05",
            ][turn % 7];
            client.words(line);
        }
    })
}

struct Writer {
    client: Client,
    rng: StdRng,
}

impl Writer {
    fn new(cairn: &Server, seed: u64, id: u64) -> Writer {
        Writer {
            client: cairn.client(),
            rng: seed::rng(seed, id),
        }
    }

    /// Collections of many rows, and a string of many fragments.
    fn load_large(&mut self) {
        for at in 0..40 {
            let mut words = [vec![], vec![], vec![], vec![]];
            for (list, head) in
                words
                    .iter_mut()
                    .zip(["RPUSH llist", "SADD lset", "HSET lhash", "ZADD lzset"])
            {
                list.extend(head.split(' ').map(str::to_owned));
            }
            for n in at * 100..(at + 1) * 100 {
                words[0].push(format!("element:{n}"));
                words[1].push(format!("member:{n}"));
                words[2].extend([format!("field:{n}"), format!("value:{n}")]);
                words[3].extend([format!("{}", n % 37), format!("member:{n}")]);
            }
            words.iter().for_each(|words| {
                assert!(!self.client.command(words).is_error());
            });
            let entry = format!("XADD lstream * n {at} text {}", "x".repeat(at + 1));
            assert!(!self.client.words(&entry).is_error());
        }
        let long: String = (0..400_000)
            .map(|n| char::from(b'a' + (n % 23) as u8))
            .collect();
        assert!(!self.client.command(&["SET", "lstring", &long]).is_error());
        assert!(
            !self
                .client
                .command(&["FUNCTION", "LOAD", LIBRARY])
                .is_error()
        );
    }

    fn run(&mut self, commands: u64) {
        let mut sent = 0;
        while sent < commands {
            let mut bytes = Vec::new();
            let mut count = 0;
            while count < BATCH {
                for words in self.invent() {
                    encode(&mut bytes, &words);
                    count += 1;
                }
            }
            let replies = self.client.pipeline(&bytes, count);
            replies.expect("the server answers");
            sent += count as u64;
        }
    }

    /// One command, or those of one transaction.
    fn invent(&mut self) -> Vec<Vec<String>> {
        let words = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        match self.rng.random_range(0..60) {
            0 => vec![words(format!(
                "SELECT {}",
                self.rng.random_range(0..DATABASES)
            ))],
            1 => {
                let count = self.rng.random_range(0..4);
                let mut all = vec![words("MULTI".into())];
                all.extend((0..count).map(|_| words(self.line())));
                all.push(words("EXEC".into()));
                all
            }
            2 => vec![vec![
                "EVAL".into(),
                SCRIPTS[self.rng.random_range(0..SCRIPTS.len())].into(),
                "2".into(),
                self.key("s"),
                self.key("n"),
                self.small().to_string(),
            ]],
            _ => vec![words(self.line())],
        }
    }

    fn key(&mut self, kind: &str) -> String {
        format!("{kind}{}", self.rng.random_range(0..6))
    }

    fn small(&mut self) -> i64 {
        self.rng.random_range(-20..40)
    }

    fn word(&mut self) -> String {
        match self.rng.random_range(0..3) {
            0 => self.small().to_string(),
            1 => format!("word{}", self.rng.random_range(0..30)),
            _ => "long".repeat(self.rng.random_range(1..30)),
        }
    }

    fn words(&mut self) -> String {
        let count = self.rng.random_range(1..5);
        (0..count)
            .map(|_| self.word())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn member(&mut self) -> String {
        format!("m{}", self.rng.random_range(0..25))
    }

    /// One command on data, of any type.
    fn line(&mut self) -> String {
        match self.rng.random_range(0..9) {
            0 | 1 => self.string_line(),
            2 => self.key_line(),
            3 => self.list_line(),
            4 => self.set_line(),
            5 => self.hash_line(),
            6 => self.sorted_set_line(),
            7 => self.stream_line(),
            _ => self.counter_line(),
        }
    }

    /// Commands that would show if one was lost or came twice.
    fn counter_line(&mut self) -> String {
        let (n, h) = (self.key("n"), self.key("h"));
        let by = self.small();
        match self.rng.random_range(0..6) {
            0 | 1 => format!("INCR {n}"),
            2 => format!("INCRBY {n} {by}"),
            3 => format!("INCRBYFLOAT {n} {by}.1"),
            4 => format!("HINCRBY {h} count {by}"),
            _ => format!("HINCRBYFLOAT {h} sum {by}.7"),
        }
    }

    fn string_line(&mut self) -> String {
        let (key, other, value) = (self.key("s"), self.key("s"), self.word());
        let ms = self.rng.random_range(1..400);
        match self.rng.random_range(0..19) {
            0 => format!("SET {key} {value}"),
            1 => format!("SET {key} {value} PX {ms}"),
            2 => format!("SET {key} {value} EX 1000 GET"),
            3 => format!("SET {key} {value} KEEPTTL"),
            4 => format!("SET {key} {value} NX"),
            5 => format!("PSETEX {key} {ms} {value}"),
            6 => format!("GETEX {key} PX {ms}"),
            7 => format!("GETEX {key} PERSIST"),
            8 => format!("GETDEL {key}"),
            9 => format!("GETSET {key} {value}"),
            10 => format!("APPEND {key} {value}"),
            11 => format!("SETRANGE {key} {ms} {value}"),
            12 => format!("MSET {key} {value} {other} {ms}"),
            13 => format!("MSETNX {key} {value} {other} {ms}"),
            14 => format!("SETBIT {key} {ms} {}", ms % 2),
            15 => format!("BITFIELD {key} SET u8 {ms} {} INCRBY i5 {ms} 3", ms % 200),
            16 => format!("BITOP XOR {key} {key} {other}"),
            17 => format!("PFADD p{} {}", ms % 3, self.words()),
            _ => format!("PFMERGE p{} p{}", ms % 3, ms % 2),
        }
    }

    fn key_line(&mut self) -> String {
        let kinds = ["s", "l", "e", "h", "z", "x"];
        let kind = kinds[self.rng.random_range(0..kinds.len())];
        let (key, other) = (self.key(kind), self.key(kind));
        let ms = self.rng.random_range(1..300);
        let db = self.rng.random_range(0..DATABASES);
        match self.rng.random_range(0..16) {
            0 => format!("DEL {key} {other}"),
            1 => format!("UNLINK {key}"),
            2 => format!("PEXPIRE {key} {ms}"),
            3 => format!("EXPIRE {key} 1000 NX"),
            4 => format!("EXPIREAT {key} 1"),
            5 => format!("PERSIST {key}"),
            6 => format!("RENAME {key} {other}"),
            7 => format!("RENAMENX {key} {other}"),
            8 => format!("COPY {key} {other} REPLACE"),
            9 => format!("COPY {key} {key} DB {db} REPLACE"),
            10 => format!("MOVE {key} {db}"),
            11 => "SORT l1 ALPHA STORE l2".into(),
            12 => "SORT e1 BY nosort GET # STORE l3".into(),
            13 if ms < 8 => format!("SWAPDB {db} 0"),
            14 if ms < 4 => "FLUSHDB".into(),
            15 => "RANDOMKEY".into(),
            _ => "SCAN 0".into(),
        }
    }

    fn list_line(&mut self) -> String {
        let (key, other) = (self.key("l"), self.key("l"));
        let (words, at) = (self.words(), self.small());
        match self.rng.random_range(0..15) {
            0 | 1 => format!("RPUSH {key} {words}"),
            2 => format!("LPUSH {key} {words}"),
            3 => format!("LPOP {key}"),
            4 => format!("RPOP {key} 2"),
            5 => format!("LSET {key} {at} {at}"),
            6 => format!("LINSERT {key} BEFORE {at} {at}"),
            7 => format!("LREM {key} 1 {at}"),
            8 => format!("LTRIM {key} 0 30"),
            9 => format!("LMOVE {key} {other} LEFT RIGHT"),
            10 => format!("LMPOP 2 {key} {other} LEFT COUNT 2"),
            11 => format!("RPUSH waited {words}"),
            12 => format!("BLPOP {key} 0.01"),
            13 => format!("BLMOVE {key} {other} LEFT LEFT 0.01"),
            _ => "LPUSH llist tail".into(),
        }
    }

    fn set_line(&mut self) -> String {
        let (key, other, to) = (self.key("e"), self.key("e"), self.key("e"));
        let (words, member) = (self.words(), self.member());
        match self.rng.random_range(0..11) {
            0 | 1 => format!("SADD {key} {words} {member}"),
            2 => format!("SREM {key} {member}"),
            3 => format!("SPOP {key}"),
            4 => format!("SPOP {key} 3"),
            5 => format!("SMOVE {key} {other} {member}"),
            6 => format!("SUNIONSTORE {to} {key} {other}"),
            7 => format!("SINTERSTORE {to} {key} {other}"),
            8 => format!("SDIFFSTORE {to} {key} {other}"),
            9 => "SPOP lset 5".into(),
            _ => "SPOP lset".into(),
        }
    }

    fn hash_line(&mut self) -> String {
        let (key, field, value) = (self.key("h"), self.member(), self.word());
        match self.rng.random_range(0..6) {
            0 | 1 => format!("HSET {key} {field} {value}"),
            2 => format!("HDEL {key} {field}"),
            3 => format!("HSETNX {key} {field} {value}"),
            4 => "HDEL lhash field:7 field:77".into(),
            _ => format!("HMSET {key} {field} {value} b 1"),
        }
    }

    fn sorted_set_line(&mut self) -> String {
        let (key, other, to) = (self.key("z"), self.key("z"), self.key("z"));
        let (member, score) = (self.member(), self.small());
        match self.rng.random_range(0..17) {
            0 | 1 => format!("ZADD {key} {score}.5 {member}"),
            2 => format!("ZADD {key} GT CH {score} {member}"),
            3 => format!("ZINCRBY {key} 0.1 {member}"),
            4 => format!("ZREM {key} {member}"),
            5 => format!("ZPOPMIN {key} 2"),
            6 => format!("ZMPOP 2 {key} {other} MAX COUNT 2"),
            7 => format!("ZREMRANGEBYSCORE {key} {score} {}", score + 3),
            8 => format!("ZUNIONSTORE {to} 3 {key} {other} e1 WEIGHTS 0.3 0.7 1"),
            9 => format!("ZINTERSTORE {to} 2 {key} {other}"),
            10 => format!("ZDIFFSTORE {to} 2 {key} {other}"),
            11 => format!("ZRANGESTORE {to} {key} 0 5"),
            12 => format!("GEOADD geo 13.{score:03} 38.{} {member}", score.abs()),
            13 => format!("GEOSEARCHSTORE {to} geo FROMLONLAT 13 38 BYRADIUS 90 km STOREDIST"),
            14 => format!("GEORADIUS geo 13 38 200 km STORE {to}"),
            15 => format!("ZADD zwaited {score} {member}"),
            _ => "ZPOPMAX lzset".into(),
        }
    }

    fn stream_line(&mut self) -> String {
        let (key, word) = (self.key("x"), self.word());
        let (group, consumer) = (self.rng.random_range(0..2), self.rng.random_range(0..3));
        match self.rng.random_range(0..16) {
            0 | 1 => format!("XADD {key} * f {word}"),
            2 => format!("XADD {key} MAXLEN ~ 10 * f {word} g 1"),
            3 => format!("XADD {key} NOMKSTREAM MAXLEN 15 LIMIT 0 * f 1").replace(" LIMIT 0", ""),
            4 => format!("XADD {key} MINID ~ 5-0 LIMIT 10 * f {word}"),
            5 => format!("XTRIM {key} MAXLEN 12"),
            6 => format!("XGROUP CREATE {key} g{group} $ MKSTREAM"),
            7 | 8 => format!("XREADGROUP GROUP g{group} c{consumer} COUNT 2 STREAMS {key} >"),
            9 => format!("XREADGROUP GROUP g{group} c{consumer} NOACK COUNT 1 STREAMS {key} >"),
            10 => format!("XREADGROUP GROUP g{group} c{consumer} COUNT 2 STREAMS {key} 0"),
            11 => format!("XAUTOCLAIM {key} g{group} c{consumer} 0 0 COUNT 3"),
            12 => format!("XGROUP DELCONSUMER {key} g{group} c{consumer}"),
            13 => format!("XSETID {key} 99999999999999-{group}"),
            14 => format!("XGROUP SETID {key} g{group} 0"),
            _ => format!("XREADGROUP GROUP g{group} c{consumer} BLOCK 1 STREAMS {key} >"),
        }
    }
}

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";

const SCRIPTS: &[&str] = &[
    "redis.call('SET', KEYS[1], ARGV[1], 'PX', 500) return redis.call('INCR', KEYS[2])",
    "redis.call('INCR', KEYS[2]) return redis.call('NOPE')",
    "return redis.call('SPOP', 'e1')",
    "redis.call('SELECT', 1) redis.call('INCR', KEYS[2]) redis.call('PUBLISH', 'c', 'm')",
    "redis.pcall('LPUSH', KEYS[2], 'x') redis.call('EXPIRE', KEYS[1], ARGV[1])",
];

/// Keys of a database that go within seconds.
fn expiring_soon(client: &mut Client, db: usize) -> usize {
    client.words(&format!("SELECT {db}"));
    let keys = client.words("KEYS *");
    let mut soon = 0;
    for key in keys.array() {
        let left = client.command(&[&b"PTTL"[..], key.bytes()]).integer();
        soon += usize::from((0..10_000).contains(&left));
    }
    soon
}

fn compare(ours: &mut Client, theirs: &mut Client, db: usize) {
    let (mine, other) = (contents(ours, db), contents(theirs, db));
    for (key, value) in &mine {
        let there = other.get(key);
        assert_eq!(Some(value), there, "{key} of database {db}");
    }
    let more: Vec<&String> = other
        .keys()
        .filter(|key| !mine.contains_key(*key))
        .collect();
    assert!(
        more.is_empty(),
        "only the replica has {more:?} in database {db}"
    );
}

/// Every key of a database with its type, expiry and value, in words.
fn contents(client: &mut Client, db: usize) -> BTreeMap<String, String> {
    client.words(&format!("SELECT {db}"));
    let keys = client.words("KEYS *");
    keys.array()
        .iter()
        .map(|key| (key.text(), described(client, &key.text())))
        .collect()
}

fn described(client: &mut Client, key: &str) -> String {
    let kind = client.words(&format!("TYPE {key}")).text();
    let until = client.words(&format!("PEXPIRETIME {key}")).integer();
    let value = match kind.as_str() {
        "string" => shown(&client.words(&format!("GET {key}"))),
        "list" => shown(&client.words(&format!("LRANGE {key} 0 -1"))),
        "set" => sorted(&client.words(&format!("SMEMBERS {key}")), 1),
        "hash" => sorted(&client.words(&format!("HGETALL {key}")), 2),
        "zset" => shown(&client.words(&format!("ZRANGE {key} 0 -1 WITHSCORES"))),
        "stream" => stream(client, key),
        other => panic!("{key} is of type {other}"),
    };
    format!("{kind} until {until}: {value}")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Bulk(bytes) => bytes.escape_ascii().to_string(),
        other => format!("{other:?}"),
    }
}

fn sorted(value: &Value, each: usize) -> String {
    let mut parts: Vec<String> = value
        .array()
        .chunks(each)
        .map(|part| part.iter().map(shown).collect::<Vec<_>>().join("="))
        .collect();
    parts.sort();
    parts.join(" ")
}

/// Entries, last id, groups with what is pending. How much a group has read is not
/// told to replicas, nor when a consumer was seen: as between two of Redis.
fn stream(client: &mut Client, key: &str) -> String {
    let entries = shown(&client.words(&format!("XRANGE {key} - +")));
    let about = client.words(&format!("XINFO STREAM {key}"));
    let field = |name: &str, from: &Value| {
        let pairs = from.array().chunks(2);
        let found = pairs.into_iter().find(|pair| pair[0].text() == name);
        shown(&found.expect("a field of XINFO")[1])
    };
    let mut text = entries;
    for name in ["last-generated-id", "max-deleted-entry-id", "entries-added"] {
        text += &format!(" {name}={}", field(name, &about));
    }
    for group in client.words(&format!("XINFO GROUPS {key}")).array() {
        let name = field("name", group);
        text += &format!(" {name} at {}:", field("last-delivered-id", group));
        let consumers = client.words(&format!("XINFO CONSUMERS {key} {name}"));
        for consumer in consumers.array() {
            text += &format!(
                " {}={}",
                field("name", consumer),
                field("pending", consumer)
            );
        }
        let pending = client.words(&format!("XPENDING {key} {name} - + 1000"));
        for entry in pending.array() {
            // The idle time runs on.
            let (id, owner, times) = (&entry.array()[0], &entry.array()[1], &entry.array()[3]);
            text += &format!(" {}:{}:{}", shown(id), shown(owner), shown(times));
        }
    }
    text
}

#[test]
fn replicas_are_shown_and_counted_and_get_functions_and_messages() {
    let (cairn, redis) = (Server::start(&[]), Redis::in_memory());
    let mut client = cairn.client();
    assert!(client.words("ROLE").array()[2].array().is_empty());
    assert_eq!(client.words("WAIT 1 10").integer(), 0);
    follow(&redis, &cairn);
    let mut replica = redis.client();
    wait::until("the replica to be online", LIMIT, || {
        info(&mut client, "slave0")
            .contains("state=online")
            .then_some(())
    });
    assert_eq!(info(&mut client, "connected_slaves"), "1");
    let shown = info(&mut client, "slave0");
    assert!(
        shown.contains(&format!("ip=127.0.0.1,port={}", redis.port())),
        "{shown}"
    );
    assert_eq!(
        info(&mut client, "master_replid"),
        info(&mut replica, "master_replid")
    );
    let role = client.words("ROLE");
    assert_eq!(role.array()[0].text(), "master");
    assert_eq!(
        role.array()[2].array()[0].array()[1].text(),
        redis.port().to_string()
    );
    assert!(
        client
            .words("CLIENT LIST TYPE replica")
            .text()
            .contains("flags=S")
    );

    let mut listener = redis.client();
    listener.words("SUBSCRIBE news");
    client.command(&["FUNCTION", "LOAD", LIBRARY]);
    client.words("SET k v");
    client.words("PUBLISH news hello");
    assert_eq!(client.words("WAIT 1 30000").integer(), 1);
    assert_eq!(replica.words("GET k").text(), "v");
    assert_eq!(replica.words("FUNCTION LIST").array().len(), 1);
    let message = listener.read_reply().expect("the message");
    assert_eq!(message.value.array()[2].text(), "hello");
    client.words("FUNCTION FLUSH");
    assert_eq!(client.words("WAIT 1 30000").integer(), 1);
    assert!(replica.words("FUNCTION LIST").array().is_empty());
    assert_eq!(client.words("CLIENT KILL TYPE replica").integer(), 1);
    wait::until("the replica to come back", LIMIT, || {
        client.words("SET k w");
        (client.words("WAIT 1 1000").integer() == 1).then_some(())
    });
    assert_eq!(replica.words("GET k").text(), "w");
}

/// MIGRATE's step in the writer has arguments that are no keys.
#[test]
fn a_migrated_key_leaves_the_replica_and_no_other_does() {
    let cairn = Server::start(&[]);
    let (redis, target) = (Redis::in_memory(), Redis::in_memory());
    let mut client = cairn.client();
    client.words("MSET k v 0 zero 1 one");
    follow(&redis, &cairn);
    let port = target.port().to_string();
    let moved = client.command(&["MIGRATE", "127.0.0.1", &port, "k", "0", "5000"]);
    assert_eq!(moved.text(), "OK");
    assert_eq!(client.words("WAIT 1 30000").integer(), 1);
    let mut replica = redis.client();
    assert_eq!(replica.words("GET k"), Value::Null);
    assert_eq!(replica.words("GET 0").text(), "zero");
    assert_eq!(replica.words("GET 1").text(), "one");
}

#[test]
fn writes_wait_for_nobody_but_are_refused_below_min_replicas_to_write() {
    let (cairn, redis) = (Server::start(&[]), Redis::in_memory());
    let mut client = cairn.client();
    client.words("SET k v");
    client.words("CONFIG SET min-replicas-to-write 1");
    let refused = "NOREPLICAS Not enough good replicas to write.";
    assert_eq!(client.words("SET k w").error().as_deref(), Some(refused));
    assert_eq!(client.words("GET k").text(), "v");
    follow(&redis, &cairn);
    wait::until("a good replica", LIMIT, || {
        (!client.words("SET k w").is_error()).then_some(())
    });
}

#[test]
fn a_replica_that_does_not_read_is_cut_off() {
    let cairn = Server::start(&["--client-output-buffer-limit", "replica 1mb 0 0"]);
    let mut client = cairn.client();
    let mut replica = TcpStream::connect(("127.0.0.1", cairn.port())).expect("a connection");
    replica.write_all(b"SYNC\r\n").expect("SYNC is sent");
    wait::until("the replica to be online", LIMIT, || {
        let attached = info(&mut client, "connected_slaves") == "1";
        (attached && info(&mut client, "slave0").contains("state=online")).then_some(())
    });
    let value = "x".repeat(100_000);
    wait::until("the replica to be cut off", LIMIT, || {
        client.command(&["SET", "k", &value]);
        (info(&mut client, "connected_slaves") == "0").then_some(())
    });
    // What came before is read, then the end.
    let mut rest = Vec::new();
    let _ = replica.read_to_end(&mut rest);
    assert!(rest.starts_with(b"$"), "the data set came first");
}

#[test]
fn sync_is_refused_where_redis_refuses_it() {
    let cairn = Server::start(&[]);
    let mut client = cairn.client();
    client.words("MULTI");
    let refused = client.words("SYNC").error().expect("an error");
    assert_eq!(refused, "ERR Command not allowed inside a transaction");
    client.words("DISCARD");
    let refused = client.command(&["EVAL", "return redis.call('SYNC')", "0"]);
    assert!(
        refused
            .error()
            .expect("an error")
            .contains("not allowed from script")
    );
    let filtered = client.words("REPLCONF rdb-filter-only functions");
    assert_eq!(filtered.text(), "OK");
    let refused = client.words("SYNC").error().expect("an error");
    assert_eq!(refused, "ERR Filtered replica requires EOF capability");
    let refused = client.words("REPLCONF rdb-filter-only data").error();
    let unsupported = "ERR Unsupported rdb-filter-only option: data";
    assert_eq!(refused.as_deref(), Some(unsupported));
}
