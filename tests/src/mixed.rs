//! A mixed load: commands of all types on few keys, in several databases, with
//! transactions, scripts and short expiries. Many of them are refused; what counts is
//! that all who follow come to the same.

use rand::Rng;
use rand::rngs::StdRng;

use crate::resp::{Client, encode};
use crate::seed;

const BATCH: usize = 20;
pub const DATABASES: usize = 3;

/// A client that invents commands of all types.
pub struct Writer {
    client: Client,
    rng: StdRng,
    /// Behind the names of keys that are chosen by chance.
    tag: &'static str,
}

impl Writer {
    pub fn new(client: Client, seed: u64, id: u64) -> Writer {
        Writer {
            client,
            rng: seed::rng(seed, id),
            tag: "",
        }
    }

    /// Its keys have this hash tag, so that commands on several can be executed in a
    /// cluster.
    pub fn tagged(self, tag: &'static str) -> Writer {
        Writer { tag, ..self }
    }

    /// Collections of many rows, and a string of many fragments.
    pub fn load_large(&mut self) {
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

    /// Sends so many commands, and at least one of them.
    pub fn run(&mut self, commands: u64) {
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
        format!("{kind}{}{}", self.rng.random_range(0..6), self.tag)
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

pub const LIBRARY: &str = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";

const SCRIPTS: &[&str] = &[
    "redis.call('SET', KEYS[1], ARGV[1], 'PX', 500) return redis.call('INCR', KEYS[2])",
    "redis.call('INCR', KEYS[2]) return redis.call('NOPE')",
    "return redis.call('SPOP', 'e1')",
    "redis.call('SELECT', 1) redis.call('INCR', KEYS[2]) redis.call('PUBLISH', 'c', 'm')",
    "redis.pcall('LPUSH', KEYS[2], 'x') redis.call('EXPIRE', KEYS[1], ARGV[1])",
];
