//! Exact replies of commands on keys and databases.

use super::super::testing::{Bench, words};
use super::memory_usage;
use crate::txn::Txn;

const SYNTAX: &str = "-ERR syntax error\r\n";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";
const SAME: &str = "-ERR source and destination objects are the same\r\n";
const DB_RANGE: &str = "-ERR DB index is out of range\r\n";
const INT_RANGE: &str =
    "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n";

fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(bench.run(line), *want, "{line}");
    }
}

#[test]
fn keys_are_deleted_counted_and_typed() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("MSET a 1 b 2 c 3", "+OK\r\n"),
            ("DBSIZE", ":3\r\n"),
            ("EXISTS a a x", ":2\r\n"),
            ("TOUCH a x", ":1\r\n"),
            ("TYPE a", "+string\r\n"),
            ("TYPE x", "+none\r\n"),
            ("DEL a a x", ":1\r\n"),
            ("UNLINK b c", ":2\r\n"),
            ("DBSIZE", ":0\r\n"),
        ],
    );
}

#[test]
fn renames_keep_value_and_expiry() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("RENAME a b", "-ERR no such key\r\n"),
            ("RENAMENX a b", "-ERR no such key\r\n"),
            ("SET a 1 PX 500", "+OK\r\n"),
            ("RENAME a a", "+OK\r\n"),
            ("RENAMENX a a", ":0\r\n"),
            ("RENAME a b", "+OK\r\n"),
            ("EXISTS a", ":0\r\n"),
            ("PTTL b", ":500\r\n"),
            ("SET c 2", "+OK\r\n"),
            ("RENAMENX c b", ":0\r\n"),
            ("RENAME c b", "+OK\r\n"),
            ("PTTL b", ":-1\r\n"),
            ("GET b", "$1\r\n2\r\n"),
            ("RENAMENX b d", ":1\r\n"),
            ("DBSIZE", ":1\r\n"),
        ],
    );
    bench.run("RENAME d e");
    assert_eq!(bench.event_names(), ["new", "rename_from", "rename_to"]);
}

#[test]
fn a_long_string_is_renamed_copied_and_moved_with_its_rows() {
    let mut bench = Bench::new();
    let value = "y".repeat(50_000);
    let bulk = format!("$50000\r\n{value}\r\n");
    bench.run(&format!("SET k {value}"));
    // Another slot: the rows are copied. The same slot: they stay.
    for (from, to, rows_written) in [("k", "other", true), ("other", "{other}2", false)] {
        assert_eq!(bench.run(&format!("RENAME {from} {to}")), "+OK\r\n");
        assert_eq!(!bench.effects.rows.is_empty(), rows_written, "{from} {to}");
        assert_eq!(bench.payload_rows(), 4);
        assert!(bench.run(&format!("GET {to}")) == bulk);
        assert_eq!(bench.run(&format!("EXISTS {from}")), ":0\r\n");
    }
    assert_eq!(bench.run("COPY {other}2 copy"), ":1\r\n");
    assert_eq!(bench.run("COPY {other}2 copy DB 5"), ":1\r\n");
    assert_eq!(bench.payload_rows(), 12);
    assert_eq!(bench.run("APPEND copy !"), ":50001\r\n");
    assert!(bench.run("GET {other}2") == bulk);
    assert_eq!(bench.run("MOVE {other}2 5"), ":1\r\n");
    assert_eq!(bench.payload_rows(), 12);
    bench.context.db = 5;
    assert!(bench.run("GET {other}2") == bulk);
    assert!(bench.run("GET copy") == bulk);
    assert_eq!(bench.run("DEL {other}2 copy"), ":2\r\n");
    assert_eq!(bench.payload_rows(), 4);
}

#[test]
fn copies_are_independent_and_keep_the_expiry() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("COPY a b", ":0\r\n"),
            ("SET a 1 PX 300", "+OK\r\n"),
            ("COPY a a", SAME),
            ("COPY a a DB 0", SAME),
            ("COPY a b", ":1\r\n"),
            ("PTTL b", ":300\r\n"),
            ("COPY a b", ":0\r\n"),
            ("INCR a", ":2\r\n"),
            ("GET b", "$1\r\n1\r\n"),
            ("COPY a b REPLACE", ":1\r\n"),
            ("GET b", "$1\r\n2\r\n"),
            ("COPY a a DB 3 REPLACE", ":1\r\n"),
            ("COPY a b DB", SYNTAX),
            ("COPY a b DB x", NOT_AN_INTEGER),
            ("COPY a b DB 16", DB_RANGE),
            ("COPY a b DB -1", DB_RANGE),
            ("COPY a b DB 4294967296", INT_RANGE),
            ("COPY a b WHAT", SYNTAX),
        ],
    );
    bench.run("COPY a c DB 3");
    let names: Vec<_> = bench.events.iter().map(|e| (e.1, e.2, &e.3[..])).collect();
    assert_eq!(names, [("new", 3, "c"), ("copy_to", 3, "c")]);
    bench.context.db = 3;
    assert_eq!(bench.run("DBSIZE"), ":2\r\n");
    bench.context.cluster = true;
    let refused = "-ERR Copying to another database is not allowed in cluster mode\r\n";
    assert_eq!(bench.run("COPY a b"), refused);
}

#[test]
fn moves_need_a_free_place() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("SET a 1 PX 100", "+OK\r\n"),
            ("MOVE a 0", SAME),
            ("MOVE a 16", DB_RANGE),
            ("MOVE a x", NOT_AN_INTEGER),
            ("MOVE x 1", ":0\r\n"),
            ("COPY a a DB 1", ":1\r\n"),
            ("MOVE a 1", ":0\r\n"),
        ],
    );
    // The one over there expires: its place is free, and its event is its own.
    bench.context.now += 50;
    bench.run("PEXPIRE a 1000");
    bench.context.now += 51;
    assert_eq!(bench.run("MOVE a 1"), ":1\r\n");
    let events: Vec<_> = bench.events.iter().map(|e| (e.1, e.2)).collect();
    assert_eq!(
        events,
        [("expired", 1), ("new", 1), ("move_from", 0), ("move_to", 1)]
    );
    bench.context.db = 1;
    assert_eq!(bench.run("PTTL a"), ":949\r\n");
}

#[test]
fn databases_are_flushed_and_swapped() {
    let mut bench = Bench::new();
    bench.run("MSET a 1 b 2");
    bench.context.db = 1;
    bench.run("SET c 3");
    script(
        &mut bench,
        &[
            ("SWAPDB 0 1", "+OK\r\n"),
            ("DBSIZE", ":2\r\n"),
            ("EXISTS c", ":0\r\n"),
            ("SWAPDB x 1", "-ERR invalid first DB index\r\n"),
            ("SWAPDB 0 99999999999", "-ERR invalid second DB index\r\n"),
            ("SWAPDB 0 16", DB_RANGE),
            ("SWAPDB 1 1", "+OK\r\n"),
            ("FLUSHDB ASYNC", "+OK\r\n"),
            ("DBSIZE", ":0\r\n"),
            ("FLUSHDB NOW", SYNTAX),
            ("FLUSHALL SYNC ASYNC", SYNTAX),
            ("SET d 1", "+OK\r\n"),
        ],
    );
    bench.context.db = 0;
    assert_eq!(bench.run("GET c"), "$1\r\n3\r\n");
    assert_eq!(bench.run("FLUSHALL"), "+OK\r\n");
    assert_eq!(bench.run("DBSIZE"), ":0\r\n");
    assert_eq!(bench.run("FLUSHALL"), "+OK\r\n");
    assert!(bench.effects.is_empty());
}

#[test]
fn a_batch_sees_its_own_flush_and_swap() {
    let mut bench = Bench::new();
    bench.run("MSET a 1 b 2");
    let lines = [
        "SET c 3",
        "FLUSHDB",
        "DBSIZE",
        "SET d 4",
        "SWAPDB 0 1",
        "DBSIZE",
        "GET d",
    ];
    let lines: Vec<_> = lines.iter().map(|line| words(line)).collect();
    let commands: Vec<_> = lines.iter().map(|line| &line[..]).collect();
    let replies = bench.run_batch(&commands);
    assert_eq!(replies[2], b":0\r\n");
    assert_eq!(replies[5], b":0\r\n");
    assert_eq!(replies[6], b"$-1\r\n");
    bench.context.db = 1;
    assert_eq!(bench.run("GET d"), "$1\r\n4\r\n");
    assert_eq!(bench.run("DBSIZE"), ":1\r\n");
}

#[test]
fn small_integers_are_shared_unless_keys_are_evicted_by_use() {
    let mut bench = Bench::new();
    bench.run("SET k 9999");
    assert_eq!(bench.run("OBJECT REFCOUNT k"), ":2147483647\r\n");
    bench.store.access.share_integers(false);
    assert_eq!(bench.run("OBJECT REFCOUNT k"), ":1\r\n");
}

#[test]
fn object_answers_as_redis_does() {
    let mut bench = Bench::new();
    bench.run("SET k value");
    let freq = "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
                Please note that when switching between policies at runtime LRU and LFU data will \
                take some time to adjust.\r\n";
    script(
        &mut bench,
        &[
            ("OBJECT ENCODING k", "$6\r\nembstr\r\n"),
            ("OBJECT ENCODING x", "$-1\r\n"),
            ("OBJECT REFCOUNT k", ":1\r\n"),
            ("OBJECT REFCOUNT x", "$-1\r\n"),
            ("OBJECT IDLETIME k", ":0\r\n"),
            ("OBJECT IDLETIME x", "$-1\r\n"),
            ("OBJECT FREQ k", freq),
            ("OBJECT FREQ x", "$-1\r\n"),
        ],
    );
    let help = bench.run("OBJECT HELP");
    assert!(
        help.starts_with("*15\r\n+OBJECT <subcommand> [<arg> [value] [opt] ...]."),
        "{help}"
    );
    assert!(help.ends_with("+HELP\r\n+    Prints this help.\r\n"));
    assert_eq!(help.matches("\r\n").count(), 16);
}

#[test]
fn memory_usage_counts_what_a_key_takes() {
    let mut bench = Bench::new();
    bench.run(&format!("MSET small v large {}", "x".repeat(1 << 20)));
    let usage = |bench: &Bench, name: &[u8]| {
        let maps = bench.store.maps();
        memory_usage(&mut Txn::read(&bench.store, &maps, bench.context), name).unwrap()
    };
    assert_eq!(usage(&bench, b"none"), None);
    assert!((20..100).contains(&usage(&bench, b"small").unwrap()));
    assert!(usage(&bench, b"large").unwrap() > 1 << 20);
}

#[test]
fn memory_usage_answers_for_every_form_and_checks_its_options() {
    let mut bench = Bench::new();
    bench.run("HSET h f v");
    let members: Vec<String> = (0..1000).map(|n| format!("member:{n}")).collect();
    bench.run(&format!("SADD s {}", members.join(" ")));
    let bytes =
        |bench: &mut Bench, line: &str| -> u64 { bench.run(line).trim()[1..].parse().unwrap() };
    assert!(bytes(&mut bench, "MEMORY USAGE h") > 0);
    let large = bytes(&mut bench, "MEMORY USAGE s SAMPLES 0");
    assert!((30_000..50_000).contains(&large), "{large}");
    for (line, want) in [
        ("MEMORY USAGE n", "$-1\r\n"),
        ("MEMORY USAGE h SAMPLES", "-ERR syntax error\r\n"),
        ("MEMORY USAGE h SAMPLES -1", "-ERR syntax error\r\n"),
        ("MEMORY USAGE h FOO 1", "-ERR syntax error\r\n"),
        (
            "MEMORY USAGE h SAMPLES x",
            "-ERR value is not an integer or out of range\r\n",
        ),
    ] {
        assert_eq!(bench.run(line), want, "{line}");
    }
}

/// What DUMP says of a key.
fn dumped(bench: &mut Bench, key: &str) -> Vec<u8> {
    let reply = bench.run_args(&["DUMP", key]);
    let head = reply.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    reply[head..reply.len() - 2].to_vec()
}

/// Regressions found by the differential runner.
#[test]
fn restore_takes_one_policys_option_and_no_expiry_beyond_the_end_of_time() {
    let mut bench = Bench::new();
    bench.run("SET s v");
    let payload = dumped(&mut bench, "s");
    let mut restore = |more: &[&str], ttl: &str| {
        let mut args: Vec<&[u8]> = vec![b"RESTORE", b"k", ttl.as_bytes(), &payload];
        args.extend(more.iter().map(|word| word.as_bytes()));
        String::from_utf8(bench.run_args(&args)).unwrap()
    };
    let both = ["IDLETIME", "1", "FREQ", "5"];
    assert_eq!(restore(&both, "0"), SYNTAX);
    assert_eq!(restore(&["FREQ", "5", "IDLETIME", "-1"], "0"), SYNTAX);
    assert_eq!(restore(&["IDLETIME", "1", "IDLETIME", "2"], "0"), "+OK\r\n");
    let end = i64::MAX.to_string();
    assert_eq!(restore(&["REPLACE"], &end), "+OK\r\n");
    assert_eq!(bench.run("EXISTS k"), ":0\r\n");
}

/// Regression: RESTORE with IDLETIME left a key as used just now, once there had been a
/// replica.
#[test]
fn what_replicas_are_told_is_no_use_of_a_key() {
    let mut bench = Bench::new();
    bench.context.recorded = true;
    bench.run("SET s v");
    let payload = dumped(&mut bench, "s");
    // What a script does is recorded here as what a client does.
    let script = b"return redis.call('RESTORE', KEYS[1], 0, ARGV[1], 'IDLETIME', 1000)";
    let args: [&[u8]; 5] = [b"EVAL", script, b"1", b"k", &payload];
    assert_eq!(bench.run_args(&args), b"+OK\r\n");
    assert!(!bench.told.is_empty());
    assert_eq!(bench.run("OBJECT IDLETIME k"), ":1000\r\n");
}

/// Redis prints a client's word as a C string.
#[test]
fn an_error_shows_a_word_up_to_its_first_nul_byte() {
    let mut bench = Bench::new();
    let expire: [&[u8]; 4] = [b"EXPIRE", b"k", b"1", b"what\0more"];
    let want = b"-ERR Unsupported option what\r\n";
    assert_eq!(bench.run_args(&expire), want);
    let ack: [&[u8]; 4] = [b"XGROUP", b"CREATECONSUMER", b"x\0y", b"g\0h"];
    let args: Vec<&[u8]> = ack.iter().copied().chain([b"c".as_slice()]).collect();
    bench.run_args(&[b"XADD".as_slice(), b"x\0y", b"1-1", b"f", b"v"]);
    let want = b"-NOGROUP No such consumer group 'g' for key name 'x'\r\n";
    assert_eq!(bench.run_args(&args), want);
}
