//! The cells of hashes, lists, sets, sorted sets and streams, and what they find
//! loaded.
//!
//! | cell | what is there before |
//! |---|---|
//! | HSET | `keys` hashes of 1 to 10 fields; one of the fields is written |
//! | HGETALL_10 | `MANY` hashes of 10 fields |
//! | LPUSH_HOT, LPOP_HOT | one list, empty at first |
//! | LPUSH_MANY, LPOP_MANY | `MANY` lists, empty at first |
//! | SADD, ZADD | one set, one sorted set, which grow to `keys` members |
//! | ZRANGE_10 | the first ten of that sorted set |
//! | LRANGE_100 | a list of 1,000 |
//! | XADD | one stream, trimmed to about a million entries |

use super::cells::Cell;
use super::report::Goal;
use crate::resp::{Client, encode};

/// Lists and small hashes in the cells that take one of many.
const MANY: u64 = 100_000;
const FIELDS: u64 = 10;
/// Requests sent before their replies are read.
const BATCH: usize = 1_000;

/// (name, command, range of its random numbers; `None`: the number of keys).
type Row = (&'static str, &'static [&'static str], Option<u64>);

const VALUE: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

const ROWS: [Row; 11] = [
    (
        "hset",
        &["HSET", "hash:__rand_int__", "field:3", VALUE],
        None,
    ),
    ("hgetall_10", &["HGETALL", "ten:__rand_int__"], Some(MANY)),
    ("lpush_hot", &["LPUSH", "hot", VALUE], None),
    ("lpop_hot", &["LPOP", "hot"], None),
    (
        "lpush_many",
        &["LPUSH", "list:__rand_int__", VALUE],
        Some(MANY),
    ),
    ("lpop_many", &["LPOP", "list:__rand_int__"], Some(MANY)),
    ("sadd", &["SADD", "set", "element:__rand_int__"], None),
    (
        "zadd",
        &["ZADD", "zset", "__rand_int__", "element:__rand_int__"],
        None,
    ),
    ("zrange_10", &["ZRANGE", "zset", "0", "9"], None),
    ("lrange_100", &["LRANGE", "thousand", "0", "99"], None),
    (
        "xadd",
        &[
            "XADD", "stream", "MAXLEN", "~", "1000000", "*", "field", VALUE,
        ],
        None,
    ),
];

/// The cells, in an order in which each finds what it needs.
pub fn cells() -> Vec<Cell> {
    [1, 16]
        .iter()
        .flat_map(|depth| {
            ROWS.map(|(test, command, range)| Cell {
                test,
                pipeline: *depth,
                command,
                range,
            })
        })
        .collect()
}

/// Goals for requests a second, as a share of redis-server's.
pub fn goal(cell: Cell) -> Goal {
    Goal::AtLeast(match (cell.pipeline, cell.test) {
        (1, _) | (_, "lrange_100") => 0.9,
        (_, "zadd") => 0.8,
        (_, "hgetall_10" | "zrange_10") => 0.7,
        _ => 0.5,
    })
}

/// Loads what the cells expect; `keys` hashes for HSET.
pub fn load(port: u16, keys: u64) {
    let mut loader = Loader::new(port);
    for number in 0..keys {
        loader.hash(&format!("hash:{number:012}"), 1 + number % FIELDS);
    }
    for number in 0..MANY {
        loader.hash(&format!("ten:{number:012}"), FIELDS);
    }
    let mut thousand = vec!["RPUSH".to_owned(), "thousand".to_owned()];
    thousand.extend((0..1_000).map(|number| format!("element:{number:012}")));
    loader.send(&thousand);
    loader.flush();
}

/// One hash of `fields` fields.
pub fn load_big_hash(port: u16, key: &str, fields: u64) {
    const AT_ONCE: u64 = 100;
    let mut loader = Loader::new(port);
    for first in (0..fields).step_by(AT_ONCE as usize) {
        let mut words = vec!["HSET".to_owned(), key.to_owned()];
        for field in first..(first + AT_ONCE).min(fields) {
            words.extend([format!("field:{field:012}"), VALUE.to_owned()]);
        }
        loader.send(&words);
    }
    loader.flush();
}

struct Loader {
    client: Client,
    requests: Vec<u8>,
    waiting: usize,
}

impl Loader {
    fn new(port: u16) -> Loader {
        Loader {
            client: Client::connect(port),
            requests: Vec::new(),
            waiting: 0,
        }
    }

    fn hash(&mut self, key: &str, fields: u64) {
        let mut words = vec!["HSET".to_owned(), key.to_owned()];
        for field in 0..fields {
            words.extend([format!("field:{field}"), VALUE.to_owned()]);
        }
        self.send(&words);
    }

    fn send(&mut self, words: &[String]) {
        encode(&mut self.requests, words);
        self.waiting += 1;
        if self.waiting == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let replies = self
            .client
            .pipeline(&self.requests, self.waiting)
            .expect("replies");
        let refused = replies.iter().find(|reply| reply.value.is_error());
        assert!(refused.is_none(), "the load was refused: {refused:?}");
        self.requests.clear();
        self.waiting = 0;
    }
}
