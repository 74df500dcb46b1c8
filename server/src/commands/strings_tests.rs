//! Exact replies of string commands.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_protocol::resp::Version;

use super::super::testing::Bench;
use crate::group::{Commit, CommitSink, Entry, EventSink, Group, Unheard, expiry};
use crate::storage::Log;
use crate::txn::EventClass;
use crate::types::string::FRAGMENT;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";
const SYNTAX: &str = "-ERR syntax error\r\n";

fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(bench.run(line), *want, "{line}");
    }
}

#[test]
fn set_and_get_answer_as_redis_does() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("GET k", "$-1\r\n"),
            ("SET k v", "+OK\r\n"),
            ("GET k", "$1\r\nv\r\n"),
            ("SET k w NX", "$-1\r\n"),
            ("SET k w XX", "+OK\r\n"),
            ("SET n w xx", "$-1\r\n"),
            ("SET k x GET", "$1\r\nw\r\n"),
            ("SET n x GET", "$-1\r\n"),
            ("SET n y NX GET", "$1\r\nx\r\n"),
            ("GET n", "$1\r\nx\r\n"),
            ("SET o y NX GET", "$-1\r\n"),
            ("GET o", "$1\r\ny\r\n"),
            ("SET k v NX XX", SYNTAX),
            ("SET k v EX", SYNTAX),
            ("SET k v EX 10 PX 10", SYNTAX),
            ("SET k v EX 10 KEEPTTL", SYNTAX),
            ("SET k v KEEPTTL EXAT 10", SYNTAX),
            ("SET k v PERSIST", SYNTAX),
            ("SET k v EX x", NOT_AN_INTEGER),
            (
                "SET k v EX 0",
                "-ERR invalid expire time in 'set' command\r\n",
            ),
            (
                "SET k v PX -1",
                "-ERR invalid expire time in 'set' command\r\n",
            ),
            (
                "SET k v EX 9223372036854775807",
                "-ERR invalid expire time in 'set' command\r\n",
            ),
            (
                "SET k v PX 9223372036854775807",
                "-ERR invalid expire time in 'set' command\r\n",
            ),
            (
                "SETEX k 0 v",
                "-ERR invalid expire time in 'setex' command\r\n",
            ),
            (
                "PSETEX k 0 v",
                "-ERR invalid expire time in 'psetex' command\r\n",
            ),
            (
                "GETEX k EX 0",
                "-ERR invalid expire time in 'getex' command\r\n",
            ),
            ("SETNX k z", ":0\r\n"),
            ("SETNX m z", ":1\r\n"),
            ("GETSET m q", "$1\r\nz\r\n"),
            ("GETDEL m", "$1\r\nq\r\n"),
            ("GETDEL m", "$-1\r\n"),
        ],
    );
    bench.version = Version::V3;
    assert_eq!(bench.run("GET missing"), "_\r\n");
}

#[test]
fn expiries_are_set_kept_and_dropped() {
    let mut bench = Bench::new();
    let now = bench.context.now;
    let past = format!("SET k v PXAT {}", now - 1);
    script(
        &mut bench,
        &[
            ("SET k v EX 10", "+OK\r\n"),
            ("PTTL k", ":10000\r\n"),
            ("SET k w KEEPTTL", "+OK\r\n"),
            ("PTTL k", ":10000\r\n"),
            ("INCR n", ":1\r\n"),
            ("APPEND k x", ":2\r\n"),
            ("SETRANGE k 0 y", ":2\r\n"),
            ("PTTL k", ":10000\r\n"),
            ("SET k v", "+OK\r\n"),
            ("PTTL k", ":-1\r\n"),
            ("PSETEX k 1500 v", "+OK\r\n"),
            ("TTL k", ":2\r\n"),
            ("GETSET k v", "$1\r\nv\r\n"),
            ("TTL k", ":-1\r\n"),
            ("SETEX n 7 41", "+OK\r\n"),
            ("INCR n", ":42\r\n"),
            ("INCRBYFLOAT n 0.5", "$4\r\n42.5\r\n"),
            ("TTL n", ":7\r\n"),
            ("GETEX n", "$4\r\n42.5\r\n"),
            ("TTL n", ":7\r\n"),
            ("GETEX n PERSIST", "$4\r\n42.5\r\n"),
            ("TTL n", ":-1\r\n"),
            ("GETEX n PX 100", "$4\r\n42.5\r\n"),
            ("PTTL n", ":100\r\n"),
            ("GETEX n EXAT 1", "$4\r\n42.5\r\n"),
            ("EXISTS n", ":0\r\n"),
            ("GETEX n EX 1 PERSIST", SYNTAX),
            ("GETEX n KEEPTTL", SYNTAX),
            (&past, "+OK\r\n"),
            ("GET k", "$-1\r\n"),
            ("EXISTS k", ":0\r\n"),
        ],
    );
}

#[test]
fn an_expired_string_is_as_if_it_never_was() {
    let mut bench = Bench::new();
    bench.run("SET k 5 PX 100");
    bench.context.now += 100;
    assert_eq!(bench.run("GET k"), "$1\r\n5\r\n");
    bench.context.now += 1;
    assert_eq!(bench.run("INCR k"), ":1\r\n");
    assert_eq!(bench.event_names(), ["expired", "new", "incrby"]);
    assert_eq!(bench.run("TTL k"), ":-1\r\n");
    assert_eq!(bench.run("DBSIZE"), ":1\r\n");
}

#[test]
fn counters_count_and_refuse_overflow() {
    let mut bench = Bench::new();
    let overflow = "-ERR increment or decrement would overflow\r\n";
    script(
        &mut bench,
        &[
            ("INCR n", ":1\r\n"),
            ("INCRBY n 41", ":42\r\n"),
            ("DECR n", ":41\r\n"),
            ("DECRBY n 50", ":-9\r\n"),
            ("GET n", "$2\r\n-9\r\n"),
            ("INCRBY n x", NOT_AN_INTEGER),
            (
                "DECRBY n -9223372036854775808",
                "-ERR decrement would overflow\r\n",
            ),
            ("SET n 9223372036854775807", "+OK\r\n"),
            ("INCR n", overflow),
            ("DECR n", ":9223372036854775806\r\n"),
            ("SET n -9223372036854775808", "+OK\r\n"),
            ("DECR n", overflow),
            ("SET n 01", "+OK\r\n"),
            ("INCR n", NOT_AN_INTEGER),
            ("SET f 10.50", "+OK\r\n"),
            ("INCRBYFLOAT f 0.1", "$4\r\n10.6\r\n"),
            ("INCRBYFLOAT f 5.0e3", "$22\r\n5010.60000000000000009\r\n"),
            ("INCRBYFLOAT f x", "-ERR value is not a valid float\r\n"),
            (
                "INCRBYFLOAT f inf",
                "-ERR increment would produce NaN or Infinity\r\n",
            ),
            ("INCRBYFLOAT new 3", "$1\r\n3\r\n"),
        ],
    );
    bench.run_args(&[&b"SET"[..], b"n", b" 1"]);
    assert_eq!(bench.run("INCR n"), NOT_AN_INTEGER);
    assert_eq!(
        bench.run("INCRBYFLOAT n 1"),
        "-ERR value is not a valid float\r\n"
    );
}

#[test]
fn many_keys_are_read_and_written_at_once() {
    let mut bench = Bench::new();
    bench.put_list("list");
    script(
        &mut bench,
        &[
            ("MSET a 1 b 2 a 3", "+OK\r\n"),
            (
                "MGET a b c list",
                "*4\r\n$1\r\n3\r\n$1\r\n2\r\n$-1\r\n$-1\r\n",
            ),
            ("MSETNX c 1 a 2", ":0\r\n"),
            ("EXISTS c", ":0\r\n"),
            ("MSETNX c 1 d 2", ":1\r\n"),
            (
                "MSET a",
                "-ERR wrong number of arguments for 'mset' command\r\n",
            ),
            (
                "MSETNX a 1 b",
                "-ERR wrong number of arguments for 'msetnx' command\r\n",
            ),
        ],
    );
}

#[test]
fn other_types_are_refused() {
    let mut bench = Bench::new();
    bench.put_list("l");
    for line in [
        "GET l",
        "APPEND l x",
        "STRLEN l",
        "GETRANGE l 0 1",
        "SETRANGE l 0 x",
        "SETRANGE l 0 ",
        "INCR l",
        "INCRBYFLOAT l 1",
        "GETSET l x",
        "GETDEL l",
        "GETEX l",
        "SET l x GET",
    ] {
        assert_eq!(bench.run(line), WRONG_TYPE, "{line}");
    }
    let lcs = "-ERR The specified keys must contain string values\r\n";
    assert_eq!(bench.run("LCS l l BAD"), lcs);
    assert_eq!(bench.run("TYPE l"), "+list\r\n");
    assert_eq!(bench.run("SET l x"), "+OK\r\n");
}

#[test]
fn ranges_follow_redis_indexes() {
    let mut bench = Bench::new();
    bench.run_args(&[&b"SET"[..], b"k", b"Hello World"]);
    script(
        &mut bench,
        &[
            ("GETRANGE k 0 3", "$4\r\nHell\r\n"),
            ("GETRANGE k 0 -1", "$11\r\nHello World\r\n"),
            ("GETRANGE k -4 -1", "$4\r\norld\r\n"),
            ("GETRANGE k 5 3", "$0\r\n\r\n"),
            ("GETRANGE k 5 5000", "$6\r\n World\r\n"),
            ("GETRANGE k -5000 10000", "$11\r\nHello World\r\n"),
            ("GETRANGE k -1 -5", "$0\r\n\r\n"),
            ("GETRANGE k -1 -5000", "$0\r\n\r\n"),
            ("GETRANGE k -5000 -4999", "$1\r\nH\r\n"),
            (
                "GETRANGE k -9223372036854775808 9223372036854775807",
                "$11\r\nHello World\r\n",
            ),
            ("GETRANGE none 0 -1", "$0\r\n\r\n"),
            ("GETRANGE k a -1", NOT_AN_INTEGER),
            ("SUBSTR k 0 1", "$2\r\nHe\r\n"),
            ("STRLEN k", ":11\r\n"),
            ("STRLEN none", ":0\r\n"),
            ("SETRANGE k 6 Redis", ":11\r\n"),
            ("SETRANGE none 0 ", ":0\r\n"),
            ("EXISTS none", ":0\r\n"),
            ("SETRANGE k 6 ", ":11\r\n"),
            ("SETRANGE k -1 x", "-ERR offset is out of range\r\n"),
            ("SETRANGE k x x", NOT_AN_INTEGER),
            ("GET k", "$11\r\nHello Redis\r\n"),
            ("SETRANGE n 3 x", ":4\r\n"),
            ("GET n", "$4\r\n\0\0\0x\r\n"),
            ("APPEND e ", ":0\r\n"),
            ("EXISTS e", ":1\r\n"),
            ("GETRANGE e 0 -1", "$0\r\n\r\n"),
            ("APPEND e abc", ":3\r\n"),
        ],
    );
}

#[test]
fn strings_that_would_be_too_long_are_refused() {
    let mut bench = Bench::new();
    bench.context.max_bulk = 1 << 20;
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    bench.run("SET k abc");
    script(
        &mut bench,
        &[
            ("SETRANGE n 1048576 x", too_long),
            ("SETRANGE k 9223372036854775807 x", too_long),
            ("SETRANGE n 1048575 x", ":1048576\r\n"),
            ("APPEND n x", too_long),
            ("GET k", "$3\r\nabc\r\n"),
            ("EXISTS n", ":1\r\n"),
        ],
    );
}

#[test]
fn encodings_are_those_of_redis() {
    let mut bench = Bench::new();
    let long = "x".repeat(45);
    let lines = [
        ("SET k 12".to_string(), "int"),
        ("APPEND k 3".into(), "raw"),
        ("INCR k".into(), "int"),
        ("SETRANGE k 0 9".into(), "raw"),
        ("EXPIRE k 100".into(), "raw"),
        ("SET k 9223372036854775808".into(), "embstr"),
        (format!("SET k {}", &long[1..]), "embstr"),
        (format!("SET k {long}"), "raw"),
        ("SET k x".into(), "embstr"),
        ("SETRANGE k 0 1".into(), "raw"),
        ("GETSET k 1".into(), "int"),
        // The sum of floats is text, the sum of integers is one again.
        ("INCRBYFLOAT k 1".into(), "embstr"),
        ("EXPIRE k 100".into(), "embstr"),
        ("RENAME k k".into(), "embstr"),
        ("INCR k".into(), "int"),
        ("INCRBYFLOAT k 0.5".into(), "embstr"),
        // What is opened for writing is raw, whether it changes or not.
        ("SET k 12".into(), "int"),
        ("BITFIELD k GET u1 0".into(), "int"),
        ("SETBIT k 0 0".into(), "raw"),
        ("SET k 12".into(), "int"),
        ("BITFIELD k SET u1 0 0".into(), "raw"),
        ("SET k x".into(), "embstr"),
        ("BITFIELD k OVERFLOW FAIL INCRBY u1 0 2".into(), "raw"),
    ];
    for (line, encoding) in lines {
        bench.run(&line);
        let want = format!("${}\r\n{encoding}\r\n", encoding.len());
        assert_eq!(bench.run("OBJECT ENCODING k"), want, "{line}");
    }
    bench.run("APPEND fresh 12");
    assert_eq!(bench.run("OBJECT ENCODING fresh"), "$3\r\nint\r\n");
    assert_eq!(bench.run("OBJECT REFCOUNT fresh"), ":2147483647\r\n");
    assert_eq!(bench.run("COPY fresh k REPLACE"), ":1\r\n");
    assert_eq!(bench.run("OBJECT REFCOUNT k"), ":2147483647\r\n");
    bench.run("SET k 10000");
    assert_eq!(bench.run("OBJECT REFCOUNT k"), ":1\r\n");
    bench.run("INCRBYFLOAT float 7");
    assert_eq!(bench.run("COPY float k REPLACE"), ":1\r\n");
    assert_eq!(bench.run("OBJECT ENCODING k"), "$6\r\nembstr\r\n");
    assert_eq!(bench.run("OBJECT REFCOUNT k"), ":1\r\n");
}

#[test]
fn events_are_those_of_redis() {
    let mut bench = Bench::new();
    for (line, names) in [
        ("SET k 1", &["new", "set"][..]),
        ("SET k 1 EX 5", &["set", "expire"]),
        ("SET k 1 NX", &[]),
        ("INCR k", &["incrby"]),
        ("DECRBY k 2", &["incrby"]),
        ("INCRBYFLOAT k 1", &["incrbyfloat"]),
        ("APPEND k 1", &["append"]),
        ("SETRANGE k 0 1", &["setrange"]),
        ("SETRANGE k 0 ", &[]),
        ("GETEX k", &[]),
        ("GETEX k PERSIST", &["persist"]),
        ("GETEX k PERSIST", &[]),
        ("GETEX k EX 1", &["expire"]),
        ("GETEX k PXAT 1", &["del"]),
        ("MSET k 1 m 2", &["new", "set", "new", "set"]),
        ("GETDEL k", &["del"]),
        ("GETSET m 1", &["set"]),
        ("SETEX m 1 1", &["set", "expire"]),
    ] {
        bench.run(line);
        assert_eq!(bench.event_names(), names, "{line}");
    }
    bench.context.db = 3;
    bench.run("SET k 1 EX 5");
    let event = |class, name| (class, name, 3, "k".to_string());
    let want = [
        event(EventClass::New, "new"),
        event(EventClass::String, "set"),
        event(EventClass::Generic, "expire"),
    ];
    assert_eq!(bench.events, want);
}

#[test]
fn keys_and_values_are_bytes() {
    let mut bench = Bench::new();
    let key = b"\0\r\n\xff{}";
    let value = b"\r\n$-1\r\n\0";
    assert_eq!(bench.run_args(&[&b"SET"[..], key, value]), b"+OK\r\n");
    assert_eq!(
        bench.run_args(&[&b"GET"[..], key]),
        b"$8\r\n\r\n$-1\r\n\0\r\n"
    );
    assert_eq!(bench.run_args(&[&b"SET"[..], b"", b""]), b"+OK\r\n");
    assert_eq!(bench.run_args(&[&b"GET"[..], b""]), b"$0\r\n\r\n");
}

#[test]
fn lcs_finds_subsequences_and_matches() {
    let mut bench = Bench::new();
    bench.run("MSET a ohmytext b mynewtext");
    let idx = "*4\r\n$7\r\nmatches\r\n*2\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n\
               *2\r\n*2\r\n:2\r\n:3\r\n*2\r\n:0\r\n:1\r\n$3\r\nlen\r\n:6\r\n";
    let long = "*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n\
                $3\r\nlen\r\n:6\r\n";
    script(
        &mut bench,
        &[
            ("LCS a b", "$6\r\nmytext\r\n"),
            ("LCS a b LEN", ":6\r\n"),
            ("LCS a b IDX", idx),
            ("LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN", long),
            ("LCS a none", "$0\r\n\r\n"),
            ("LCS a none LEN", ":0\r\n"),
            (
                "LCS a none IDX",
                "*4\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:0\r\n",
            ),
            (
                "LCS a b IDX LEN",
                "-ERR If you want both the length and indexes, please just use IDX.\r\n",
            ),
            ("LCS a b MINMATCHLEN", SYNTAX),
            ("LCS a b WHAT", SYNTAX),
        ],
    );
    bench.context.max_bulk = 359;
    let memory =
        "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n";
    assert_eq!(bench.run("LCS a b"), memory);
}

/// Bytes that differ from place to place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8 | 1).collect()
}

fn bulk(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn get(bench: &mut Bench) -> Vec<u8> {
    bench.run_args(&[&b"GET"[..], b"k"])
}

#[test]
fn a_long_string_is_spread_and_comes_back() {
    let mut bench = Bench::new();
    for len in [16 << 10, (16 << 10) + 1, 2 * FRAGMENT, (1 << 20) + 777] {
        let value = pattern(len);
        assert_eq!(bench.run_args(&[&b"SET"[..], b"k", &value]), b"+OK\r\n");
        assert!(get(&mut bench) == bulk(&value), "{len}");
        assert_eq!(bench.run("STRLEN k"), format!(":{len}\r\n"));
        let rows = if len <= 16 << 10 {
            0
        } else {
            len.div_ceil(FRAGMENT)
        };
        assert_eq!(bench.payload_rows(), rows, "{len}");
        assert_eq!(bench.run("OBJECT ENCODING k"), "$3\r\nraw\r\n");
    }
    assert_eq!(bench.run("SET k small"), "+OK\r\n");
    assert_eq!(bench.payload_rows(), 0);
}

#[test]
fn changes_of_a_long_string_touch_only_their_fragments() {
    let mut bench = Bench::new();
    let mut value = pattern((1 << 20) + 5);
    bench.run_args(&[&b"SET"[..], b"k", &value]);
    bench.run("PEXPIRE k 5000");

    let patch = pattern(FRAGMENT + 10);
    let at = 3 * FRAGMENT - 4;
    value[at..at + patch.len()].copy_from_slice(&patch);
    let offset = at.to_string();
    bench.run_args(&[&b"SETRANGE"[..], b"k", offset.as_bytes(), &patch]);
    assert_eq!(bench.effects.rows.len(), 3);
    assert!(get(&mut bench) == bulk(&value));

    for extra in [&b"tail"[..], &pattern(FRAGMENT), b""] {
        value.extend_from_slice(extra);
        let reply = bench.run_args(&[&b"APPEND"[..], b"k", extra]);
        assert_eq!(reply, format!(":{}\r\n", value.len()).into_bytes());
        assert!(bench.effects.rows.len() <= 2);
        assert!(get(&mut bench) == bulk(&value));
    }
    assert_eq!(bench.run("PTTL k"), ":5000\r\n");
    for (start, end) in [
        (0, 0),
        (at - 1, at + 1),
        (0, 3 * FRAGMENT),
        (value.len() - 3, 1 << 40),
    ] {
        let part = &value[start..(end + 1).min(value.len())];
        let (start, end) = (start.to_string(), end.to_string());
        let reply = bench.run_args(&[&b"GETRANGE"[..], b"k", start.as_bytes(), end.as_bytes()]);
        assert!(reply == bulk(part), "{start} {end}");
    }
}

#[test]
fn an_inline_string_that_grows_is_converted() {
    for offset in [3, 5, FRAGMENT - 1, FRAGMENT, 5 * FRAGMENT + 3] {
        let mut bench = Bench::new();
        bench.run("SET k inline");
        let patch = pattern(FRAGMENT + 1);
        let mut want = b"inline".to_vec();
        want.resize(offset + patch.len(), 0);
        want[offset..].copy_from_slice(&patch);
        let at = offset.to_string();
        bench.run_args(&[&b"SETRANGE"[..], b"k", at.as_bytes(), &patch]);
        assert!(get(&mut bench) == bulk(&want), "{offset}");
    }
}

#[test]
fn a_hole_costs_nothing_and_reads_as_zeros() {
    let mut bench = Bench::new();
    let far = (500 << 20) - 1;
    assert_eq!(
        bench.run(&format!("SETRANGE k {far} x")),
        format!(":{}\r\n", 500 << 20)
    );
    assert_eq!(bench.payload_rows(), 1);
    assert_eq!(
        bench.run(&format!("GETRANGE k {} -1", far - 2)),
        "$3\r\n\0\0x\r\n"
    );
    assert_eq!(bench.run("GETRANGE k 0 2"), "$3\r\n\0\0\0\r\n");
    bench.run("SETRANGE k 100000 mid");
    assert_eq!(bench.payload_rows(), 2);
    assert_eq!(bench.run("GETRANGE k 99999 100003"), "$5\r\n\0mid\0\r\n");
    assert_eq!(bench.run("STRLEN k"), format!(":{}\r\n", 500 << 20));
    assert_eq!(bench.run("INCR k"), NOT_AN_INTEGER);
    assert_eq!(
        bench.run("INCRBYFLOAT k 1"),
        "-ERR value is not a valid float\r\n"
    );
    // Too many fragments to be deleted one by one.
    assert_eq!(bench.run("DEL k"), ":1\r\n");
    assert_eq!(bench.effects.rows.len(), 1);
    assert_eq!(bench.payload_rows(), 0);
}

#[test]
fn rows_of_a_long_string_go_with_it() {
    let long = "x".repeat(100_000);
    for line in [
        "DEL k",
        "UNLINK k",
        "SET k v",
        "SETEX k 1 v",
        "GETDEL k",
        "GETSET k v",
        "MSET k v",
        "EXPIRE k -1",
        "GETEX k PXAT 1",
        "RENAME other k",
        "COPY other k REPLACE",
        "FLUSHDB",
    ] {
        let mut bench = Bench::new();
        bench.run(&format!("MSET k {long} other v"));
        assert_eq!(bench.payload_rows(), 7);
        bench.run(line);
        if line == "FLUSHDB" {
            bench.store.sync(Log::Wal).unwrap();
            assert_eq!(bench.run("EXISTS k"), ":0\r\n");
        } else {
            assert_eq!(bench.payload_rows(), 0, "{line}");
        }
    }
}

#[test]
fn rows_of_an_expired_long_string_go_when_it_is_met() {
    let mut bench = Bench::new();
    bench.run(&format!("SET k {} PX 10", "x".repeat(500_000)));
    assert_eq!(bench.payload_rows(), 31);
    bench.context.now += 11;
    assert_eq!(bench.run("SETNX k v"), ":1\r\n");
    assert_eq!(bench.payload_rows(), 0);
    assert_eq!(bench.event_names(), ["expired", "new", "set"]);
}

#[test]
fn a_batch_reads_its_own_fragments() {
    let mut bench = Bench::new();
    let value = pattern(40_000);
    let commands: [&[&[u8]]; 7] = [
        &[b"SET", b"k", &value],
        &[b"SETRANGE", b"k", b"16383", b"ab"],
        &[b"APPEND", b"k", b"end"],
        &[b"GETRANGE", b"k", b"16382", b"16385"],
        &[b"RENAME", b"k", b"{k}2"],
        &[b"GETRANGE", b"{k}2", b"-4", b"-1"],
        &[b"DEL", b"{k}2"],
    ];
    let replies = bench.run_batch(&commands);
    let middle = [value[16382], b'a', b'b', value[16385]];
    let end = [&value[39_999..], b"end"].concat();
    assert_eq!(replies[3], bulk(&middle));
    assert_eq!(replies[5], bulk(&end));
    assert_eq!(bench.payload_rows(), 0);
    assert_eq!(bench.run("DBSIZE"), ":0\r\n");
}

#[test]
fn random_edits_agree_with_a_plain_vector() {
    let mut seed = 0x5eed_u64;
    let mut random = move |n: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let mut bench = Bench::new();
    bench.context.string_inline_max = 100;
    let mut model: Vec<u8> = Vec::new();
    for step in 0..300 {
        let bytes = pattern(random(3 * FRAGMENT as u64 / 2) as usize >> random(12));
        let offset = random(1 + 2 * model.len() as u64 + 50) as usize % 200_000;
        match random(8) {
            0 => {
                model = bytes;
                bench.run_args(&[&b"SET"[..], b"k", &model]);
            }
            1 if step % 3 == 0 => {
                model = b"small".to_vec();
                bench.run("SET k small");
            }
            2..5 => {
                model.extend_from_slice(&bytes);
                bench.run_args(&[&b"APPEND"[..], b"k", &bytes]);
            }
            _ if !bytes.is_empty() => {
                let end = offset + bytes.len();
                model.resize(model.len().max(end), 0);
                model[offset..end].copy_from_slice(&bytes);
                let at = offset.to_string();
                bench.run_args(&[&b"SETRANGE"[..], b"k", at.as_bytes(), &bytes]);
            }
            _ => {}
        }
        if !model.is_empty() {
            assert!(get(&mut bench) == bulk(&model), "step {step}");
        }
    }
}

#[test]
fn compaction_leaves_an_expired_long_string_to_the_expiry_task() {
    let mut bench = Bench::new();
    bench.run("SET short v PX 10");
    bench.run(&format!("SET k {} PX 10", "x".repeat(100_000)));
    bench.context.now += 11;
    bench.run("SET other v");
    bench.store.sync(Log::Wal).unwrap();
    bench.store.flush().unwrap();
    bench.store.compact();
    let engine = bench.store.engine();
    let records = engine
        .db
        .iterator_cf(&engine.meta, rocksdb::IteratorMode::Start)
        .count();
    assert_eq!(
        records, 2,
        "the short one is collected, the long one is kept"
    );
    assert_eq!(bench.run("EXISTS k"), ":0\r\n");
    assert_eq!(bench.payload_rows(), 0);
}

/// Applies entries at once.
struct Inline;

impl CommitSink for Inline {
    fn commit(&self, group: &Arc<Group>, entry: Entry) -> Commit {
        let Entry::Effects(effects, position) = entry else {
            return Commit::Refused;
        };
        group
            .store
            .apply(&effects, position, Log::Wal, true)
            .unwrap();
        Commit::Applied
    }
}

#[test]
fn the_expiry_task_deletes_the_rows_of_a_long_string() {
    let mut bench = Bench::new();
    // The bench's time lies years before that of the group.
    bench.run(&format!("SET k {} EX 10", "x".repeat(100_000)));
    assert_eq!(bench.payload_rows(), 7);
    let events: EventSink = std::sync::Arc::new(Unheard);
    let group = Group::new(0, bench.store.clone(), Box::new(Inline), events, None);
    while expiry::step(&group) {}
    assert_eq!(group.expired_keys.load(Ordering::Relaxed), 1);
    assert_eq!(bench.payload_rows(), 0);
}
