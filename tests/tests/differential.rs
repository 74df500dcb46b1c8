//! Random command sequences against redis-server and cairn-server side by side:
//! the replies must be the same bytes, in RESP2 and in RESP3.
//!
//! `CAIRN_DIFFERENTIAL_COMMANDS` sets the number of commands for each protocol
//! (default 50,000 in all), `CAIRN_SEED` repeats a run exactly.
//!
//! What may differ is compared by what it must have in common instead: remaining
//! times within a second, the order of KEYS and SCAN not at all, RANDOMKEY by
//! existence only.

use std::collections::BTreeSet;

use cairn_tests::peers::Redis;
use cairn_tests::resp::{Client, Reply, Value, encode};
use cairn_tests::seed;
use cairn_tests::server::Server;
use rand::Rng;
use rand::rngs::StdRng;

type Words = Vec<Vec<u8>>;

/// How two replies to the same command are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Exact,
    /// Integers that measure time left: at most this many apart.
    Near(i64),
    /// Arrays of which only the members count.
    Members,
    /// Both nil or both not.
    Existence,
    /// OBJECT ENCODING. Known difference: a number that INCRBYFLOAT made is
    /// `int` here at once, in Redis `embstr` until it is loaded again.
    Encoding,
}

const BATCH: usize = 20;
const DATABASES: u32 = 3;

#[test]
fn resp2_replies_equal_those_of_redis() {
    side_by_side(2, seed::size("CAIRN_DIFFERENTIAL_COMMANDS", 50_000) / 2);
}

#[test]
fn resp3_replies_equal_those_of_redis() {
    side_by_side(3, seed::size("CAIRN_DIFFERENTIAL_COMMANDS", 50_000) / 2);
}

fn side_by_side(protocol: u8, commands: u64) {
    let seed = seed::seed(&format!("differential RESP{protocol}"));
    let mut rng = seed::rng(seed, u64::from(protocol));
    let (redis, cairn) = (Redis::in_memory(), Server::start(&[]));
    let (mut theirs, mut ours) = (redis.client(), cairn.client());
    for client in [&mut theirs, &mut ours] {
        let hello = client.command(&["HELLO", &protocol.to_string()]);
        assert!(!hello.is_error(), "HELLO {protocol}: {hello:?}");
    }
    let mut log = Log::default();
    while log.sent.len() < commands as usize {
        let batch: Vec<(Words, Compare)> = (0..BATCH).map(|_| invent(&mut rng)).collect();
        let expected = run(&mut theirs, &batch);
        let actual = run(&mut ours, &batch);
        for (((words, compare), expected), actual) in batch.iter().zip(expected).zip(actual) {
            log.take(words, *compare, &expected, &actual);
        }
        if log.sent.len() % 5_000 == 0 && log.differences.is_empty() {
            compare_contents(&mut theirs, &mut ours, log.sent.len());
        }
    }
    log.assert_equal();
    compare_contents(&mut theirs, &mut ours, log.sent.len());
    println!("{} commands, RESP{protocol}: equal", log.sent.len());
}

/// What was sent, and where the two differed. The first difference comes with what
/// led to it; the next ones are shown too, because one run should tell all it can.
#[derive(Default)]
struct Log {
    sent: Vec<String>,
    differences: Vec<String>,
    names: BTreeSet<String>,
}

const SHOWN_HISTORY: usize = 40;
const SHOWN_DIFFERENCES: usize = 15;

impl Log {
    fn take(&mut self, words: &Words, compare: Compare, expected: &Reply, actual: &Reply) {
        let shown = show(words);
        self.sent.push(shown.clone());
        if same(compare, expected, actual) {
            return;
        }
        if self.differences.is_empty() {
            let from = self.sent.len().saturating_sub(SHOWN_HISTORY);
            let history = self.sent[from..].join("\n");
            self.differences
                .push(format!("the last commands before:\n{history}"));
        }
        // One of each command: a difference of contents shows in many replies.
        let name = shown
            .split(' ')
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
            .to_uppercase();
        if self.names.insert(name) {
            let (expected, actual) = (expected.raw.escape_ascii(), actual.raw.escape_ascii());
            let number = self.sent.len();
            self.differences.push(format!(
                "command {number}: {shown}\n  redis: {expected}\n  cairn: {actual}"
            ));
        }
        if self.differences.len() > SHOWN_DIFFERENCES {
            self.assert_equal();
        }
    }

    fn assert_equal(&self) {
        assert!(
            self.differences.is_empty(),
            "replies differ\n{}",
            self.differences.join("\n")
        );
    }
}

fn run(client: &mut Client, batch: &[(Words, Compare)]) -> Vec<Reply> {
    let mut requests = Vec::new();
    batch
        .iter()
        .for_each(|(words, _)| encode(&mut requests, words));
    client
        .pipeline(&requests, batch.len())
        .unwrap_or_else(|error| {
            let words: Vec<String> = batch.iter().map(|(words, _)| show(words)).collect();
            panic!("no reply to one of these ({error}):\n{}", words.join("\n"))
        })
}

fn same(compare: Compare, expected: &Reply, actual: &Reply) -> bool {
    match (compare, &expected.value, &actual.value) {
        (Compare::Near(limit), Value::Integer(a), Value::Integer(b)) if *a >= 0 && *b >= 0 => {
            (a - b).abs() <= limit
        }
        (Compare::Members, Value::Array(a), Value::Array(b)) => members(a) == members(b),
        (Compare::Existence, a, b) if !a.is_error() && !b.is_error() => {
            (*a == Value::Null) == (*b == Value::Null)
        }
        (Compare::Encoding, Value::Bulk(a), Value::Bulk(b)) => {
            a == b || (a.as_slice(), b.as_slice()) == (b"embstr".as_slice(), b"int".as_slice())
        }
        _ => expected.raw == actual.raw,
    }
}

fn members(items: &[Value]) -> BTreeSet<Vec<u8>> {
    items.iter().map(|item| item.bytes().to_vec()).collect()
}

/// All keys of all databases, by SCAN, with their values and expiries.
fn compare_contents(theirs: &mut Client, ours: &mut Client, done: usize) {
    for database in 0..DATABASES {
        for client in [&mut *theirs, &mut *ours] {
            client.command(&["SELECT", &database.to_string()]);
        }
        let (expected, actual) = (scan_all(theirs), scan_all(ours));
        assert_eq!(
            expected, actual,
            "after {done} commands the keys of database {database} differ"
        );
        assert_eq!(
            theirs.words("DBSIZE"),
            ours.words("DBSIZE"),
            "DBSIZE of {database}"
        );
        for key in &expected {
            let get = [b"GET".as_slice(), key];
            assert_eq!(
                theirs.command(&get),
                ours.command(&get),
                "GET {}",
                key.escape_ascii()
            );
        }
    }
}

fn scan_all(client: &mut Client) -> BTreeSet<Vec<u8>> {
    let mut cursor = "0".to_owned();
    let mut found = BTreeSet::new();
    loop {
        let reply = client.command(&["SCAN", &cursor, "COUNT", "7"]);
        found.extend(members(reply.array()[1].array()));
        cursor = reply.array()[0].text();
        if cursor == "0" {
            return found;
        }
    }
}

fn show(words: &[Vec<u8>]) -> String {
    words
        .iter()
        .map(|word| word.escape_ascii().to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

// ---- what is sent -------------------------------------------------------------

fn words(parts: &[&[u8]]) -> Words {
    parts.iter().map(|part| part.to_vec()).collect()
}

fn line(text: &str) -> Words {
    text.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

fn pick<'a, T: ?Sized>(rng: &mut StdRng, choices: &[&'a T]) -> &'a T {
    choices[rng.random_range(0..choices.len())]
}

fn key(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..50) {
        0 => vec![],
        1 => b"with space\r\n\0".to_vec(),
        2 => vec![b'k'; 300],
        3..6 => format!("{{tag}}{}", rng.random_range(0..5)).into_bytes(),
        _ => format!("k{}", rng.random_range(0..25)).into_bytes(),
    }
}

fn value(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..20) {
        0 => vec![],
        1 => i64::MAX.to_string().into_bytes(),
        2 => i64::MIN.to_string().into_bytes(),
        3 => b" 12".to_vec(),
        4 => b"007".to_vec(),
        5 => (0..rng.random_range(1..600))
            .map(|_| rng.random())
            .collect(),
        6 => format!("{:.3}", rng.random_range(-1000.0..1000.0)).into_bytes(),
        7 => vec![b'x'; rng.random_range(40..50)],
        8..14 => rng.random_range(-300..300).to_string().into_bytes(),
        _ => {
            let length = rng.random_range(1..30);
            (0..length)
                .map(|_| b"abcde"[rng.random_range(0..5)])
                .collect()
        }
    }
}

fn integer(rng: &mut StdRng) -> Vec<u8> {
    let text = match rng.random_range(0..20) {
        0 => "9223372036854775807".to_owned(),
        1 => "-9223372036854775808".to_owned(),
        2 => "9223372036854775808".to_owned(),
        3 => "abc".to_owned(),
        4 => "1.5".to_owned(),
        5 => "+5".to_owned(),
        6 => String::new(),
        _ => rng.random_range(-50..50).to_string(),
    };
    text.into_bytes()
}

fn float(rng: &mut StdRng) -> Vec<u8> {
    let fixed = [
        "1e3",
        "-2.5",
        "0.1",
        "3.0e-5",
        "inf",
        "nan",
        "x",
        "1e400",
        "10000000000000000",
        " 1",
    ];
    match rng.random_range(0..3) {
        0 => pick(rng, &fixed).as_bytes().to_vec(),
        1 => format!("{:.4}", rng.random_range(-100.0..100.0)).into_bytes(),
        _ => rng.random_range(-100..100).to_string().into_bytes(),
    }
}

/// Seconds that no run lives to see end, or that are past, or no time at all.
fn seconds(rng: &mut StdRng) -> Vec<u8> {
    let text = match rng.random_range(0..12) {
        0 => "0".to_owned(),
        1 => "-5".to_owned(),
        2 => "x".to_owned(),
        3 => "9223372036854775807".to_owned(),
        _ => rng.random_range(1_000..100_000).to_string(),
    };
    text.into_bytes()
}

/// A time for SET and GETEX: far, or refused. Not past: Redis keeps such a key, and
/// counts it, until something comes across it.
fn far_unix_seconds(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..6) {
        0 => b"0".to_vec(),
        1 => b"-1".to_vec(),
        _ => (4_000_000_000_u64 + rng.random_range(0..1_000))
            .to_string()
            .into_bytes(),
    }
}

/// A time for EXPIREAT, which removes a key at once when it is past.
fn unix_seconds(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..6) {
        0 => b"1".to_vec(),
        1 => b"-1".to_vec(),
        _ => (4_000_000_000_u64 + rng.random_range(0..1_000))
            .to_string()
            .into_bytes(),
    }
}

fn milliseconds(seconds: Vec<u8>) -> Vec<u8> {
    match seconds.first() {
        Some(b'1'..=b'9') if seconds.len() > 2 => [seconds, b"123".to_vec()].concat(),
        _ => seconds,
    }
}

fn some_case(rng: &mut StdRng, name: &str) -> Vec<u8> {
    match rng.random_range(0..10) {
        0 => name.to_lowercase().into_bytes(),
        _ => name.as_bytes().to_vec(),
    }
}

fn invent(rng: &mut StdRng) -> (Words, Compare) {
    let (mut command, compare) = match rng.random_range(0..100) {
        0..58 => string_command(rng),
        58..88 => key_command(rng),
        88..95 => server_command(rng),
        _ => (wrong_command(rng), Compare::Exact),
    };
    let name = String::from_utf8_lossy(&command[0]).into_owned();
    command[0] = some_case(rng, &name);
    (command, compare)
}

fn set_command(rng: &mut StdRng) -> Words {
    let mut command = words(&[b"SET", &key(rng), &value(rng)]);
    for _ in 0..rng.random_range(0..3) {
        let option = pick(
            rng,
            &[
                "NX", "XX", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT", "nx", "ex", "WHAT",
                "PERSIST",
            ],
        );
        command.push(option.as_bytes().to_vec());
        let argument = match option.to_uppercase().as_str() {
            "EX" => seconds(rng),
            "PX" => milliseconds(seconds(rng)),
            "EXAT" => far_unix_seconds(rng),
            "PXAT" => milliseconds(far_unix_seconds(rng)),
            _ => continue,
        };
        // Now and then without its argument.
        if rng.random_range(0..20) > 0 {
            command.push(argument);
        }
    }
    command
}

fn getex_command(rng: &mut StdRng) -> Words {
    let mut command = words(&[b"GETEX", &key(rng)]);
    match rng.random_range(0..7) {
        0 => {}
        1 => command.push(b"PERSIST".to_vec()),
        2 => command.extend([b"EX".to_vec(), seconds(rng)]),
        3 => command.extend([b"PX".to_vec(), milliseconds(seconds(rng))]),
        4 => command.extend([b"EXAT".to_vec(), far_unix_seconds(rng)]),
        5 => command.extend([b"PXAT".to_vec(), milliseconds(far_unix_seconds(rng))]),
        _ => command.extend([b"EX".to_vec(), seconds(rng), b"PERSIST".to_vec()]),
    }
    command
}

fn lcs_command(rng: &mut StdRng) -> Words {
    let mut command = words(&[b"LCS", &key(rng), &key(rng)]);
    for option in ["LEN", "IDX", "WITHMATCHLEN"] {
        if rng.random_range(0..3) == 0 {
            command.push(option.as_bytes().to_vec());
        }
    }
    if rng.random_range(0..4) == 0 {
        command.extend([b"MINMATCHLEN".to_vec(), integer(rng)]);
    }
    command
}

fn several(rng: &mut StdRng, name: &str, with_values: bool) -> Words {
    let mut command = vec![name.as_bytes().to_vec()];
    for _ in 0..rng.random_range(1..6) {
        command.push(key(rng));
        if with_values {
            command.push(value(rng));
        }
    }
    command
}

/// A length for SETRANGE that stays small, or one that is refused.
fn offset(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..12) {
        0 => b"-1".to_vec(),
        1 => b"x".to_vec(),
        2 => b"536870912".to_vec(),
        _ => rng.random_range(0..100).to_string().into_bytes(),
    }
}

fn string_command(rng: &mut StdRng) -> (Words, Compare) {
    let k = key(rng);
    let command = match rng.random_range(0..26) {
        0..4 => set_command(rng),
        4..7 => words(&[b"GET", &k]),
        7 => words(&[b"APPEND", &k, &value(rng)]),
        8 => words(&[pick(rng, &["INCR", "DECR"]).as_bytes(), &k]),
        9 => words(&[
            pick(rng, &["INCRBY", "DECRBY"]).as_bytes(),
            &k,
            &integer(rng),
        ]),
        10 => words(&[b"INCRBYFLOAT", &k, &float(rng)]),
        11 => words(&[b"GETDEL", &k]),
        12 => getex_command(rng),
        13 => words(&[
            pick(rng, &["GETRANGE", "SUBSTR"]).as_bytes(),
            &k,
            &integer(rng),
            &integer(rng),
        ]),
        14 => words(&[b"GETSET", &k, &value(rng)]),
        15 => lcs_command(rng),
        16 | 17 => several(rng, "MGET", false),
        18 | 19 => several(rng, "MSET", true),
        20 => several(rng, "MSETNX", true),
        21 => words(&[b"SETEX", &k, &seconds(rng), &value(rng)]),
        22 => words(&[b"PSETEX", &k, &milliseconds(seconds(rng)), &value(rng)]),
        23 => words(&[b"SETNX", &k, &value(rng)]),
        24 => words(&[b"SETRANGE", &k, &offset(rng), &value(rng)]),
        _ => words(&[b"STRLEN", &k]),
    };
    (command, Compare::Exact)
}

fn expire_command(rng: &mut StdRng) -> Words {
    let name = pick(rng, &["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"]);
    let time = match name {
        "EXPIRE" => seconds(rng),
        "PEXPIRE" => milliseconds(seconds(rng)),
        "EXPIREAT" => unix_seconds(rng),
        _ => milliseconds(unix_seconds(rng)),
    };
    let mut command = words(&[name.as_bytes(), &key(rng), &time]);
    // GT and LT compare with what a relative expiry left: apart by seconds at least.
    for _ in 0..rng.random_range(0..3) / 2 {
        command.push(
            pick(rng, &["NX", "XX", "nx", "GT", "LT", "NO"])
                .as_bytes()
                .to_vec(),
        );
    }
    command
}

fn copy_command(rng: &mut StdRng) -> Words {
    let mut command = words(&[b"COPY", &key(rng), &key(rng)]);
    if rng.random_range(0..3) == 0 {
        command.extend([
            b"DB".to_vec(),
            rng.random_range(0..DATABASES).to_string().into_bytes(),
        ]);
    }
    if rng.random_range(0..2) == 0 {
        command.push(b"REPLACE".to_vec());
    }
    command
}

fn pattern(rng: &mut StdRng) -> Vec<u8> {
    let patterns = [
        "*", "k1*", "k?", "k[0-5]", "{tag}*", "k[^1]", "\\k1", "nothing", "*0", "k[5-",
    ];
    pick(rng, &patterns).as_bytes().to_vec()
}

fn key_command(rng: &mut StdRng) -> (Words, Compare) {
    let k = key(rng);
    let command = match rng.random_range(0..23) {
        0 => several(rng, "DEL", false),
        1 => several(rng, "UNLINK", false),
        2 => several(rng, "EXISTS", false),
        21 => several(rng, "TOUCH", false),
        3..7 => expire_command(rng),
        7 => return (words(&[b"TTL", &k]), Compare::Near(1)),
        8 => return (words(&[b"PTTL", &k]), Compare::Near(1_000)),
        9 => return (words(&[b"EXPIRETIME", &k]), Compare::Near(1)),
        10 => return (words(&[b"PEXPIRETIME", &k]), Compare::Near(1_000)),
        11 => words(&[b"PERSIST", &k]),
        12 => words(&[b"TYPE", &k]),
        13 => words(&[b"RENAME", &k, &key(rng)]),
        14 => words(&[b"RENAMENX", &k, &key(rng)]),
        15 | 16 => copy_command(rng),
        17 => words(&[
            b"MOVE",
            &k,
            rng.random_range(0..DATABASES).to_string().as_bytes(),
        ]),
        18 => return (words(&[b"KEYS", &pattern(rng)]), Compare::Members),
        19 => return (words(&[b"RANDOMKEY"]), Compare::Existence),
        20 => {
            return (words(&[b"OBJECT", b"ENCODING", &k]), Compare::Encoding);
        }
        _ => words(&[b"OBJECT", b"REFCOUNT", b"surely absent"]),
    };
    (command, Compare::Exact)
}

fn server_command(rng: &mut StdRng) -> (Words, Compare) {
    let command = match rng.random_range(0..40) {
        0..8 => line(&format!("SELECT {}", rng.random_range(0..DATABASES))),
        8..14 => line("DBSIZE"),
        14..18 => words(&[b"ECHO", &value(rng)]),
        18..22 => line("PING"),
        22..24 => words(&[b"PING", &value(rng)]),
        24 => line("FLUSHDB"),
        25 => line(pick(rng, &["FLUSHALL", "FLUSHALL ASYNC", "FLUSHALL WHAT"])),
        26..28 => line("SWAPDB 0 1"),
        28 => line("SWAPDB 0 99"),
        29 => line("SELECT 99"),
        30 => line("SELECT x"),
        31 => line("CLIENT GETNAME"),
        32 => line("CLIENT SETNAME some-name"),
        33 => line("SCAN x"),
        34 => line("SCAN 0 COUNT 0"),
        35 => line("SCAN 0 MATCH"),
        36 => line("COMMAND GETKEYS MSET a 1 b 2"),
        37 => line("COMMAND GETKEYS GET"),
        38 => line("OBJECT HELP ME"),
        _ => line("CONFIG GET maxclients x"),
    };
    // Two settings at once: the second exists nowhere, the first is the same default.
    (command, Compare::Exact)
}

/// Unknown names, wrong numbers of arguments, subcommands that do not exist.
fn wrong_command(rng: &mut StdRng) -> Words {
    let fixed = [
        "NOSUCH",
        "NOSUCH a b c",
        "GET",
        "GET a b",
        "SET a",
        "MSET a",
        "MSET a 1 b",
        "DEL",
        "EXPIRE a",
        "OBJECT",
        "OBJECT NOSUCH a",
        "CLIENT",
        "CLIENT NOSUCH",
        "CONFIG NOSUCH",
        "COPY a",
        "LCS a",
        "INCR",
        "INCR a b",
        "RANDOMKEY a",
        "DBSIZE a",
        "SELECT",
        "SETRANGE a 1",
        "GETEX",
        "COMMAND NOSUCH",
        "PING a b",
        "ECHO",
        "MOVE a",
        "MOVE a 99",
        "COPY a b DB 99",
        "HELLO 9",
        "HELLO x",
        "EXPIRE a 1 XX NX",
    ];
    line(pick(rng, &fixed))
}
