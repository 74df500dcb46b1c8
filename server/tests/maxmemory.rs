//! `maxmemory` over TCP: what is refused, what goes, and who is told when.

#[allow(dead_code, reason = "not all of it is needed here")]
mod support;

use std::time::{Duration, Instant};

use support::{Client, Server};

const OK: &str = "+OK\r\n";
const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";

fn ask(client: &mut Client, line: &str) -> String {
    client.send(&line.split(' ').collect::<Vec<_>>());
    client.reply()
}

fn field(client: &mut Client, name: &str) -> u64 {
    let text = ask(client, "INFO everything");
    let value = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    value.expect("INFO has it").trim().parse().unwrap()
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn above_the_bound_writes_are_refused_and_reads_and_deletes_served() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    assert_eq!(ask(&mut client, "SET a 1"), OK);
    assert_eq!(ask(&mut client, "CONFIG SET maxmemory 1"), OK);
    assert_eq!(ask(&mut client, "SET b 1"), OOM);
    assert_eq!(ask(&mut client, "GET a"), "$1\r\n1\r\n");
    let script = ["EVAL", "return redis.call('set', KEYS[1], 1)", "1", "b"];
    client.send(&script);
    assert!(client.reply().starts_with("-OOM command not allowed"));
    assert_eq!(ask(&mut client, "DEL a"), ":1\r\n");
    assert_eq!(ask(&mut client, "CONFIG SET maxmemory 0"), OK);
    assert_eq!(ask(&mut client, "SET b 1"), OK);
}

#[test]
fn a_transaction_is_refused_for_what_it_holds() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.connect(), server.connect());
    for (command, refused) in [("SET a 1", true), ("GET a", false)] {
        assert_eq!(ask(&mut client, "MULTI"), OK);
        assert_eq!(ask(&mut client, command), "+QUEUED\r\n");
        assert_eq!(ask(&mut other, "CONFIG SET maxmemory 1"), OK);
        let reply = ask(&mut client, "EXEC");
        let text = "-EXECABORT Transaction discarded because of: OOM command not allowed when \
                    used memory > 'maxmemory'.\r\n";
        assert_eq!(reply == text, refused, "{command}: {reply}");
        assert_eq!(ask(&mut other, "CONFIG SET maxmemory 0"), OK);
    }
    // All that is queued needs memory.
    assert_eq!(ask(&mut client, "MULTI"), OK);
    assert_eq!(ask(&mut other, "CONFIG SET maxmemory 1"), OK);
    assert_eq!(ask(&mut client, "GET a"), OOM);
    assert_eq!(
        ask(&mut client, "EXEC"),
        "-EXECABORT Transaction discarded because of previous errors.\r\n"
    );
}

#[test]
fn with_a_policy_keys_go_and_who_remembers_them_is_told_before_the_reply() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    assert!(ask(&mut client, "HELLO 3").starts_with('%'));
    assert_eq!(ask(&mut client, "CLIENT TRACKING ON"), OK);
    assert_eq!(ask(&mut client, "SET volatile x EX 1000"), OK);
    assert_eq!(ask(&mut client, "GET volatile"), "$1\r\nx\r\n");
    let bound = field(&mut client, "used_memory") + 100 * 1024;
    let policy = "CONFIG SET maxmemory-policy volatile-random";
    assert_eq!(ask(&mut client, policy), OK);
    assert_eq!(
        ask(&mut client, &format!("CONFIG SET maxmemory {bound}")),
        OK
    );
    assert_eq!(ask(&mut client, "SETBIT big 1600000 0"), ":0\r\n");
    // The next command is what finds no room.
    let told = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$8\r\nvolatile\r\n";
    assert_eq!(ask(&mut client, "GETBIT big 0"), told);
    assert_eq!(client.reply(), ":0\r\n");
    assert_eq!(field(&mut client, "evicted_keys"), 1);
    // What stays may not go: then writes are refused.
    assert_eq!(ask(&mut client, "SET another 1"), OOM);
}

#[test]
fn a_cache_stays_within_its_bound_and_keeps_what_is_used() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let bound = field(&mut client, "used_memory") + 200_000;
    assert_eq!(
        ask(&mut client, "CONFIG SET maxmemory-policy allkeys-lfu"),
        OK
    );
    assert_eq!(
        ask(&mut client, &format!("CONFIG SET maxmemory {bound}")),
        OK
    );
    let value = "v".repeat(200);
    assert_eq!(ask(&mut client, "SET favourite 1"), OK);
    for i in 0..3_000 {
        assert_eq!(ask(&mut client, &format!("SET key:{i} {value}")), OK);
        assert_eq!(
            ask(&mut client, "GET favourite"),
            "$1\r\n1\r\n",
            "after {i}"
        );
    }
    await_that("within the bound", || {
        field(&mut client, "used_memory") <= bound
    });
    let evicted = field(&mut client, "evicted_keys");
    assert!((1_500..3_000).contains(&evicted), "{evicted}");
}

#[test]
fn used_memory_follows_the_data_whatever_its_form() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let empty = field(&mut client, "used_memory_dataset");
    assert_eq!(empty, 0);
    let mut request: Vec<String> = vec!["HSET".into(), "h".into()];
    for i in 0..10_000 {
        request.extend([format!("field:{i:05}"), "x".repeat(50)]);
    }
    client.send(&request.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(client.reply(), ":10000\r\n");
    let full = field(&mut client, "used_memory_dataset");
    assert!((600_000..900_000).contains(&full), "{full}");
    // Half of it goes, and what is overwritten weighs what it is now.
    for i in 0..5_000 {
        client.send(&["HDEL", "h", &format!("field:{i:05}")]);
        assert_eq!(client.reply(), ":1\r\n");
    }
    let half = field(&mut client, "used_memory_dataset");
    assert!(half.abs_diff(full / 2) < full / 20, "{half} of {full}");
    for i in 5_000..10_000 {
        client.send(&["HSET", "h", &format!("field:{i:05}"), "y"]);
        assert_eq!(client.reply(), ":0\r\n");
    }
    let short = field(&mut client, "used_memory_dataset");
    assert!(short.abs_diff(half - 5_000 * 49) < full / 20, "{short}");
    assert_eq!(ask(&mut client, "RENAME h g"), OK);
    assert_eq!(field(&mut client, "used_memory_dataset"), short);
    assert_eq!(ask(&mut client, "UNLINK g"), ":1\r\n");
    assert_eq!(field(&mut client, "used_memory_dataset"), 0);
    // Lists and long strings.
    for i in 0..2_000 {
        client.send(&["RPUSH", "l", &format!("element:{i:06}")]);
        client.reply();
    }
    let list = field(&mut client, "used_memory_dataset");
    assert!((30_000..60_000).contains(&list), "{list}");
    assert_eq!(ask(&mut client, "SETRANGE s 1000000 x"), ":1000001\r\n");
    let both = field(&mut client, "used_memory_dataset");
    assert!(both.abs_diff(list + 1_000_001) < 1_000, "{both}");
    assert_eq!(ask(&mut client, "FLUSHALL"), OK);
    assert_eq!(field(&mut client, "used_memory_dataset"), 0);
}

#[test]
fn errors_of_the_writer_and_of_scripts_are_counted_once() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    assert_eq!(ask(&mut client, "SET s 1"), OK);
    assert!(ask(&mut client, "LPUSH s x").starts_with("-WRONGTYPE"));
    client.send(&["EVAL", "return redis.pcall('lpush', 's', 'x')", "0"]);
    assert!(client.reply().starts_with("-WRONGTYPE"));
    client.send(&["EVAL", "return redis.error_reply('MINE text')", "0"]);
    assert_eq!(client.reply(), "-MINE text\r\n");
    let text = ask(&mut client, "INFO errorstats");
    assert!(text.contains("errorstat_WRONGTYPE:count=2\r\n"), "{text}");
    assert!(text.contains("errorstat_MINE:count=1\r\n"), "{text}");
    let text = ask(&mut client, "INFO commandstats");
    let eval = text.lines().find(|l| l.starts_with("cmdstat_eval:"));
    assert!(eval.unwrap().ends_with("rejected_calls=0,failed_calls=2"));
}

#[test]
fn idle_times_and_counts_are_those_of_uses() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lfu"]);
    let mut client = server.connect();
    assert_eq!(ask(&mut client, "SET k 1"), OK);
    client.send(&["DUMP", "k"]);
    assert_eq!(ask_after(&mut client, "OBJECT FREQ k"), ":6\r\n");
    assert!(ask(&mut client, "OBJECT IDLETIME k").starts_with("-ERR An LFU maxmemory policy"));
    assert_eq!(
        ask(&mut client, "CONFIG SET maxmemory-policy allkeys-lru"),
        OK
    );
    assert!(ask(&mut client, "OBJECT FREQ k").starts_with("-ERR An LFU maxmemory policy is not"));
    assert_eq!(ask(&mut client, "GET k"), "$1\r\n1\r\n");
    assert_eq!(ask(&mut client, "OBJECT IDLETIME k"), ":0\r\n");
}

/// The reply of a line that is sent once the reply before it has come.
fn ask_after(client: &mut Client, line: &str) -> String {
    client.reply();
    ask(client, line)
}
