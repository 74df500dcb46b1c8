//! Exact replies of sorted set commands, packed and spread.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

use cairn_protocol::resp::Version;

use crate::commands::testing::{Bench, words};
use crate::storage::keys::{PREFIX_LEN, VERSION_LEN};
use crate::txn::effects::{Family, RowEffect};
use crate::txn::{CommandError, EventClass, Expiry};
use crate::types::sorted_set::{FANOUT, SortedSet};

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
const NOT_A_FLOAT: &str = "-ERR value is not a valid float\r\n";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";
const SYNTAX: &str = "-ERR syntax error\r\n";
const NO_RANGE: &str = "-ERR min or max is not a float\r\n";
const NO_LEX: &str = "-ERR min or max not valid string range item\r\n";

/// A flat array of bulk strings.
fn list(items: &[&str]) -> String {
    let mut out = format!("*{}\r\n", items.len());
    for item in items {
        out += &format!("${}\r\n{item}\r\n", item.len());
    }
    out
}

/// Runs a test on packed sets and on spread ones.
fn in_both_forms(test: impl Fn(&mut Bench)) {
    let mut bench = Bench::new();
    test(&mut bench);
    let mut bench = spread_bench();
    test(&mut bench);
}

fn spread_bench() -> Bench {
    let bench = Bench::new();
    bench.store.limits.zset_entries.store(0, Ordering::Relaxed);
    bench
}

fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(bench.run(line), *want, "{line}");
    }
}

fn lists(bench: &mut Bench, lines: &[(&str, &[&str])]) {
    for (line, want) in lines {
        assert_eq!(bench.run(line), list(want), "{line}");
    }
}

/// Checks the counts of a spread set against its members.
fn check(bench: &mut Bench, name: &str) {
    // What grew unnoticed after a restart is split when it grows next.
    let times = if bench.restarted { 4 } else { 1 };
    bench.look(|txn| {
        let key = txn.key(name.as_bytes());
        if let Some(set) = SortedSet::open(txn, &key).unwrap() {
            set.check(txn, times);
        }
    });
}

/// What Redis leaves open, as its listpacks answer it.
#[test]
fn bylex_over_unequal_scores_goes_through_a_small_set() {
    let bench = &mut Bench::new();
    bench.run("ZADD unequal 1 a 2 b 3 c 4 d");
    lists(
        bench,
        &[
            ("ZRANGE unequal [b [c BYLEX", &["b", "c"]),
            ("ZRANGEBYLEX unequal (a (d", &["b", "c"]),
            ("ZRANGEBYLEX unequal [e +", &[]),
            ("ZREVRANGEBYLEX unequal [c -", &["c", "b", "a"]),
        ],
    );
}

#[test]
fn what_was_read_of_a_large_set_is_in_memory_and_follows_its_changes() {
    let bench = &mut spread_bench();
    for n in 100..500 {
        bench.run(&format!("ZADD z {n} m{n}"));
    }
    let reads = [
        ("ZRANGE z 0 1", list(&["m100", "m101"])),
        ("ZREVRANGE z 0 1", list(&["m499", "m498"])),
        ("ZRANGE z 200 201", list(&["m300", "m301"])),
        ("ZRANGEBYSCORE z 350 450 LIMIT 1 2", list(&["m351", "m352"])),
        ("ZRANK z m400", ":300\r\n".to_owned()),
        ("ZCOUNT z 200 299", ":100\r\n".to_owned()),
    ];
    let read_all = |bench: &mut Bench| {
        for (line, want) in &reads {
            assert_eq!(bench.run(line), *want, "{line}");
        }
        bench.store.scan_cache.counts().1
    };
    let misses = read_all(bench);
    assert_eq!(read_all(bench), misses, "a page was asked for in vain");
    script(
        bench,
        &[
            ("ZADD z 50 first 150.5 new 600 last", ":3\r\n"),
            ("ZREM z m351 m400", ":2\r\n"),
            ("ZRANGE z 0 0", "*1\r\n$5\r\nfirst\r\n"),
            ("ZREVRANGE z 0 0", "*1\r\n$4\r\nlast\r\n"),
            ("ZRANGEBYSCORE z 350 450 LIMIT 1 1", "*1\r\n$4\r\nm352\r\n"),
            ("ZRANK z m401", ":301\r\n"),
            ("ZCOUNT z 100 199", ":101\r\n"),
        ],
    );
    check(bench, "z");
    bench.store.scan_cache.check();
}

#[test]
fn ranks_count_what_the_same_batch_has_changed() {
    let bench = &mut spread_bench();
    for n in 100..500 {
        bench.run(&format!("ZADD z {n} m{n}"));
    }
    let lines = [
        ("ZRANK z m300", ":200\r\n"),
        ("ZADD z 150.5 new", ":1\r\n"),
        ("ZRANK z m300", ":201\r\n"),
        ("ZREM z m120 m121 m122", ":3\r\n"),
        ("ZRANK z m300", ":198\r\n"),
        ("ZRANGE z 198 198", "*1\r\n$4\r\nm300\r\n"),
        ("ZRANGE z 390 390", "*1\r\n$4\r\nm492\r\n"),
    ];
    let words: Vec<Vec<Vec<u8>>> = lines.iter().map(|(line, _)| words(line)).collect();
    let commands: Vec<&[Vec<u8>]> = words.iter().map(Vec::as_slice).collect();
    let replies = bench.run_batch(&commands);
    for ((line, want), reply) in lines.iter().zip(replies) {
        assert_eq!(String::from_utf8(reply).unwrap(), *want, "{line}");
    }
    check(bench, "z");
}

#[test]
fn zadd_counts_by_its_options() {
    in_both_forms(|bench| {
        script(
            bench,
            &[
                ("ZADD z 1 a 2 b", ":2\r\n"),
                ("ZADD z 1 a 3 c", ":1\r\n"),
                ("ZADD z CH 1 a 4 c 5 d", ":2\r\n"),
                ("ZADD z NX 9 a 6 e", ":1\r\n"),
                ("ZSCORE z a", "$1\r\n1\r\n"),
                ("ZADD z XX CH 2 a 7 new", ":1\r\n"),
                ("ZADD z GT CH 1 a 8 b", ":1\r\n"),
                ("ZADD z LT CH 1 a 9 b", ":1\r\n"),
                ("ZADD z INCR 2.5 a", "$3\r\n3.5\r\n"),
                ("ZADD z NX INCR 2.5 a", "$-1\r\n"),
                ("ZADD z GT INCR -1 a", "$-1\r\n"),
                ("ZADD z XX INCR 1 new", "$-1\r\n"),
                ("ZADD none XX 1 a", ":0\r\n"),
                ("EXISTS none", ":0\r\n"),
                ("ZCARD z", ":5\r\n"),
                ("ZADD z 1 a 2", SYNTAX),
                ("ZADD z NX CH XX", SYNTAX),
                ("ZADD z x a", NOT_A_FLOAT),
                ("ZADD z nan a", NOT_A_FLOAT),
                ("ZADD z 1 a x b", NOT_A_FLOAT),
                (
                    "ZADD z NX XX 1 a",
                    "-ERR XX and NX options at the same time are not compatible\r\n",
                ),
                (
                    "ZADD z GT LT 1 a",
                    "-ERR GT, LT, and/or NX options at the same time are not compatible\r\n",
                ),
                (
                    "ZADD z INCR 1 a 2 b",
                    "-ERR INCR option supports a single increment-element pair\r\n",
                ),
                ("ZINCRBY z 1 a", "$3\r\n4.5\r\n"),
                ("ZADD z inf i -inf j", ":2\r\n"),
                (
                    "ZINCRBY z -inf i",
                    "-ERR resulting score is not a number (NaN)\r\n",
                ),
                (
                    "ZMSCORE z i x j",
                    "*3\r\n$3\r\ninf\r\n$-1\r\n$4\r\n-inf\r\n",
                ),
                ("SET s v", "+OK\r\n"),
                ("ZADD s 1 a", WRONG_TYPE),
                ("ZSCORE s a", WRONG_TYPE),
            ],
        );
    });
}

#[test]
fn a_negative_zero_is_ordered_as_zero_and_kept_by_skiplists() {
    for (mut bench, zero) in [(Bench::new(), "0"), (spread_bench(), "-0")] {
        assert_eq!(bench.run("ZADD z -0 b 0 a"), ":2\r\n");
        assert_eq!(bench.run("ZADD z CH 0 b"), ":0\r\n");
        lists(
            &mut bench,
            &[
                ("ZRANGE z 0 -1 WITHSCORES", &["a", "0", "b", zero]),
                ("ZRANGEBYSCORE z -0 0", &["a", "b"]),
            ],
        );
    }
}

#[test]
fn zscan_shows_every_member_once() {
    let mut bench = Bench::new();
    bench.run("ZADD z 1 a 2.5 b 1e17 c");
    assert_eq!(
        bench.run("ZSCAN z 0"),
        "*2\r\n$1\r\n0\r\n*6\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$3\r\n2.5\r\n$1\r\nc\r\n$18\r\n100000000000000000\r\n"
    );
    let mut bench = spread_bench();
    let members: Vec<String> = (0..100).map(|n| format!("{n} m{n}")).collect();
    bench.run(&format!("ZADD z {}", members.join(" ")));
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let reply = bench.run(&format!("ZSCAN z {cursor} COUNT 7"));
        let lines: Vec<&str> = reply.lines().collect();
        found.extend(
            lines
                .iter()
                .filter(|l| l.starts_with('m'))
                .map(|l| l.to_string()),
        );
        cursor = lines[2].to_owned();
        if cursor == "0" {
            break;
        }
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 100);
    assert_eq!(bench.run("ZSCAN none 0"), "*2\r\n$1\r\n0\r\n*0\r\n");
    assert_eq!(bench.run("ZSCAN z x"), "-ERR invalid cursor\r\n");
}

#[test]
fn ranges_by_rank_score_and_member_agree_with_redis() {
    in_both_forms(|bench| {
        bench.run("ZADD z 1 a 2 b 3 c 4 d");
        lists(
            bench,
            &[
                ("ZRANGE z 0 -1", &["a", "b", "c", "d"]),
                ("ZRANGE z -2 -1 WITHSCORES", &["c", "3", "d", "4"]),
                ("ZRANGE z 5 9", &[]),
                ("ZRANGE z 3 1", &[]),
                ("ZRANGE z -100 100 REV", &["d", "c", "b", "a"]),
                ("ZREVRANGE z 1 2", &["c", "b"]),
                (
                    "ZRANGE z 0 9223372036854775807 LIMIT 0 -1",
                    &["a", "b", "c", "d"],
                ),
                ("ZRANGE z (1 3 BYSCORE", &["b", "c"]),
                (
                    "ZRANGE z (3 -inf BYSCORE REV WITHSCORES",
                    &["b", "2", "a", "1"],
                ),
                ("ZRANGEBYSCORE z 1 +inf LIMIT 1 2", &["b", "c"]),
                ("ZRANGEBYSCORE z 1 +inf LIMIT 1 -1", &["b", "c", "d"]),
                ("ZRANGEBYSCORE z 1 +inf LIMIT -1 2", &[]),
                ("ZRANGEBYSCORE z 1 +inf LIMIT 0 0", &[]),
                ("ZREVRANGEBYSCORE z 3 2 LIMIT 1 5", &["b"]),
                ("ZRANGEBYSCORE z 5 1", &[]),
                ("ZRANGE none 0 -1", &[]),
            ],
        );
        script(
            bench,
            &[
                ("ZCOUNT z (1 (4", ":2\r\n"),
                ("ZCOUNT z -inf inf", ":4\r\n"),
                ("ZCOUNT z 1 x", NO_RANGE),
                ("ZRANGE z 0 x", NOT_AN_INTEGER),
                ("ZRANGE z nan 1 BYSCORE", NO_RANGE),
                ("ZRANGE z a b BYLEX", NO_LEX),
                ("ZRANGE z 0 -1 BYSCORE BYLEX", SYNTAX),
                ("ZRANGEBYSCORE z 0 -1 REV", SYNTAX),
                (
                    "ZRANGE z 0 -1 LIMIT 0 1",
                    "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX\r\n",
                ),
                (
                    "ZRANGE z [a [b BYLEX WITHSCORES",
                    "-ERR syntax error, WITHSCORES not supported in combination with BYLEX\r\n",
                ),
                ("ZRANK z c", ":2\r\n"),
                ("ZREVRANK z c", ":1\r\n"),
                ("ZRANK z x", "$-1\r\n"),
                ("ZREVRANK none x", "$-1\r\n"),
            ],
        );
        bench.run("ZADD l 0 alpha 0 bar 0 cool 0 down");
        lists(
            bench,
            &[
                ("ZRANGEBYLEX l - [cool", &["alpha", "bar", "cool"]),
                ("ZRANGEBYLEX l (bar (down", &["cool"]),
                ("ZRANGEBYLEX l + -", &[]),
                ("ZREVRANGEBYLEX l + (bar LIMIT 1 1", &["cool"]),
                ("ZRANGE l [d [bar BYLEX REV", &["cool", "bar"]),
            ],
        );
        assert_eq!(bench.run("ZLEXCOUNT l - +"), ":4\r\n");
        assert_eq!(bench.run("ZLEXCOUNT l [bar (cool"), ":1\r\n");
    });
}

#[test]
fn removals_count_and_the_last_one_deletes_the_key() {
    in_both_forms(|bench| {
        bench.run("ZADD z 1 a 2 b 3 c 4 d 5 e 6 f");
        script(
            bench,
            &[
                ("ZREM z a a x", ":1\r\n"),
                ("ZREMRANGEBYRANK z 0 0", ":1\r\n"),
                ("ZREMRANGEBYSCORE z 3 (4", ":1\r\n"),
                ("ZREMRANGEBYLEX none - +", ":0\r\n"),
                ("ZCARD z", ":3\r\n"),
                ("ZREMRANGEBYRANK z 2 -1", ":1\r\n"),
                ("ZREMRANGEBYRANK z 5 9", ":0\r\n"),
                ("ZREMRANGEBYSCORE z -inf +inf", ":2\r\n"),
            ],
        );
        assert_eq!(bench.event_names(), ["zremrangebyscore", "del"]);
        assert_eq!(bench.run("EXISTS z"), ":0\r\n");
        bench.run("ZADD z 1 a");
        assert_eq!(bench.run("ZREM z a"), ":1\r\n");
        assert_eq!(bench.event_names(), ["zrem", "del"]);
        assert_eq!(bench.run("TYPE z"), "+none\r\n");
    });
}

#[test]
fn events_are_those_of_redis() {
    in_both_forms(|bench| {
        for (line, names) in [
            ("ZADD z 1 a 2 b", &["new", "zadd"][..]),
            ("ZADD z 1 a", &[]),
            ("ZADD z 3 a", &["zadd"]),
            ("ZINCRBY z 1 a", &["zincr"]),
            ("ZPOPMIN z", &["zpopmin"]),
            ("ZRANGESTORE d z 0 -1", &["new", "zrangestore"]),
            ("ZUNIONSTORE d 1 z", &["zunionstore"]),
            ("ZINTERSTORE d 2 z none", &["del"]),
            ("ZINTERSTORE d 2 z none", &[]),
            ("ZPOPMAX z 9", &["zpopmax", "del"]),
        ] {
            bench.run(line);
            assert_eq!(bench.event_names(), names, "{line}");
        }
        bench.run("ZADD z 1 a");
        assert_eq!(bench.events[0].0, EventClass::New);
        assert_eq!(bench.events[1].0, EventClass::SortedSet);
    });
}

#[test]
fn unions_intersections_and_differences_weigh_and_aggregate() {
    in_both_forms(|bench| {
        bench.run("ZADD a 1 x 2 y 3 z");
        bench.run("ZADD b 10 y 20 z 30 w");
        lists(
            bench,
            &[
                ("ZUNION 2 a b", &["x", "y", "z", "w"]),
                (
                    "ZUNION 2 a b WEIGHTS 2 -1 WITHSCORES",
                    &["w", "-30", "z", "-14", "y", "-6", "x", "2"],
                ),
                (
                    "ZINTER 2 a b WITHSCORES AGGREGATE MAX",
                    &["y", "10", "z", "20"],
                ),
                ("ZINTER 2 a none", &[]),
                ("ZDIFF 2 a b WITHSCORES", &["x", "1"]),
                ("ZDIFF 2 none a", &[]),
            ],
        );
        script(
            bench,
            &[
                ("ZINTERCARD 2 a b", ":2\r\n"),
                ("ZINTERCARD 2 a b LIMIT 1", ":1\r\n"),
                ("ZINTERCARD 2 a b LIMIT 0", ":2\r\n"),
                (
                    "ZINTERCARD 2 a b LIMIT -1",
                    "-ERR LIMIT can't be negative\r\n",
                ),
                ("ZUNIONSTORE a 2 a a", ":3\r\n"),
                ("ZSCORE a z", "$1\r\n6\r\n"),
                ("ZDIFFSTORE d 2 b a", ":1\r\n"),
                (
                    "ZUNION 0 a",
                    "-ERR at least 1 input key is needed for 'zunion' command\r\n",
                ),
                ("ZUNION x a", NOT_AN_INTEGER),
                ("ZUNION 3 a b", SYNTAX),
                (
                    "ZUNION 1 a WEIGHTS x",
                    "-ERR weight value is not a float\r\n",
                ),
                ("ZDIFF 1 a WEIGHTS 1", SYNTAX),
                ("ZUNIONSTORE d 1 a WITHSCORES", SYNTAX),
                ("SET s v", "+OK\r\n"),
                ("ZUNION 2 a s", WRONG_TYPE),
                ("ZUNIONSTORE s 1 a", ":3\r\n"),
                ("TYPE s", "+zset\r\n"),
                ("ZADD i inf m", ":1\r\n"),
                ("ZADD j -inf m", ":1\r\n"),
            ],
        );
        lists(
            bench,
            &[
                ("ZUNION 2 i j WITHSCORES", &["m", "0"]),
                ("ZUNION 1 i WEIGHTS 0 WITHSCORES", &["m", "0"]),
            ],
        );
    });
}

#[test]
fn pops_take_from_both_ends_and_wait_only_if_they_may() {
    in_both_forms(|bench| {
        bench.run("ZADD z 1 a 2 b 3 c 4 d");
        lists(
            bench,
            &[
                ("ZPOPMIN z", &["a", "1"]),
                ("ZPOPMAX z 2", &["d", "4", "c", "3"]),
                ("ZPOPMIN z 0", &[]),
                ("ZPOPMIN none", &[]),
                ("BZPOPMIN none z 0", &["z", "b", "2"]),
            ],
        );
        bench.run("ZADD z 1 a 2 b 3 c");
        script(
            bench,
            &[
                (
                    "ZMPOP 2 none z MIN",
                    "*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n",
                ),
                (
                    "BZMPOP 0 1 z MAX COUNT 9",
                    "*2\r\n$1\r\nz\r\n*2\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n",
                ),
                ("ZMPOP 1 none MIN", "*-1\r\n"),
                (
                    "ZPOPMIN z -1",
                    "-ERR value is out of range, must be positive\r\n",
                ),
                ("ZPOPMIN z 1 2", SYNTAX),
                ("ZMPOP 0 z MIN", "-ERR numkeys should be greater than 0\r\n"),
                ("ZMPOP 1 z UP", SYNTAX),
                (
                    "ZMPOP 1 z MIN COUNT 0",
                    "-ERR count should be greater than 0\r\n",
                ),
                (
                    "BZPOPMIN z x",
                    "-ERR timeout is not a float or out of range\r\n",
                ),
                ("BZPOPMIN z -1", "-ERR timeout is negative\r\n"),
                ("BZPOPMIN z 0", "-ERR the command cannot wait here\r\n"),
            ],
        );
        bench.context.may_block = false;
        assert_eq!(bench.run("BZPOPMIN z 0"), "*-1\r\n");
        assert_eq!(bench.run("BZMPOP 1.5 1 z MIN"), "*-1\r\n");
    });
}

#[test]
fn resp3_has_doubles_and_pairs() {
    in_both_forms(|bench| {
        bench.version = Version::V3;
        bench.run("ZADD z 1 a 2.5 b");
        script(
            bench,
            &[
                ("ZSCORE z b", ",2.5\r\n"),
                ("ZSCORE z x", "_\r\n"),
                ("ZRANGE z 1 1 WITHSCORES", "*1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n"),
                ("ZRANGE z 0 0", "*1\r\n$1\r\na\r\n"),
                ("ZPOPMIN z", "*2\r\n$1\r\na\r\n,1\r\n"),
                ("ZPOPMIN z 1", "*1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n"),
                ("ZRANK z x", "_\r\n"),
                ("ZMPOP 1 z MIN", "_\r\n"),
            ],
        );
    });
}

#[test]
fn random_members_are_members() {
    in_both_forms(|bench| {
        let members: Vec<String> = (0..40).map(|n| format!("{n} m{n}")).collect();
        bench.run(&format!("ZADD z {}", members.join(" ")));
        for count in [1, 5, 39, 40, 1000] {
            let reply = bench.run(&format!("ZRANDMEMBER z {count}"));
            let mut found: Vec<&str> = reply.lines().filter(|l| l.starts_with('m')).collect();
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), count.min(40), "{count}");
        }
        let reply = bench.run("ZRANDMEMBER z -100 WITHSCORES");
        assert!(reply.starts_with("*200\r\n"));
        script(
            bench,
            &[
                ("ZRANDMEMBER z 0", "*0\r\n"),
                ("ZRANDMEMBER none", "$-1\r\n"),
                ("ZRANDMEMBER none 3", "*0\r\n"),
                ("ZRANDMEMBER z 1 x", SYNTAX),
                (
                    "ZRANDMEMBER z -9223372036854775808",
                    "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807\r\n",
                ),
                (
                    "ZRANDMEMBER z -9223372036854775807 WITHSCORES",
                    "-ERR value is out of range\r\n",
                ),
            ],
        );
    });
}

#[test]
fn the_encoding_is_that_of_redis_whatever_the_form() {
    let mut bench = Bench::new();
    let encoding = |bench: &mut Bench| bench.run("OBJECT ENCODING z");
    for n in 0..128 {
        bench.run(&format!("ZADD z {n} {n:060}"));
    }
    assert_eq!(encoding(&mut bench), "$8\r\nlistpack\r\n");
    check(&mut bench, "z");
    bench.run("ZADD z 200 m");
    assert_eq!(encoding(&mut bench), "$8\r\nskiplist\r\n");
    bench.run("DEL z");
    bench.run(&format!("ZADD z 1 {}", "x".repeat(64)));
    assert_eq!(encoding(&mut bench), "$8\r\nlistpack\r\n");
    bench.run(&format!("ZADD z 1 {}", "x".repeat(65)));
    assert_eq!(encoding(&mut bench), "$8\r\nskiplist\r\n");
    bench.run("ZRANGESTORE z z 0 0");
    assert_eq!(encoding(&mut bench), "$8\r\nlistpack\r\n");
}

#[test]
fn golden_bytes_of_rows_and_record() {
    let mut bench = spread_bench();
    bench.run("ZADD z 1 m -0 n");
    let rows = bench.effects.rows.iter().map(|row| match row {
        RowEffect::Put { family, key, value } => (
            *family,
            key[PREFIX_LEN + VERSION_LEN..].to_vec(),
            value.to_vec(),
        ),
        other => panic!("{other:?}"),
    });
    let want: [(Family, &[u8], &[u8]); 5] = [
        (Family::Data, b"", b"z"),
        (Family::Data, b"\x01m", b"\x3f\xf0\0\0\0\0\0\0"),
        (Family::Data, b"\x01n", b"\x80\0\0\0\0\0\0\0"),
        (Family::Score, b"\x01\x80\0\0\0\0\0\0\0n", b"\x01"),
        (Family::Score, b"\x01\xbf\xf0\0\0\0\0\0\0m", b""),
    ];
    let mut found = Vec::new();
    for (family, mut key, value) in rows {
        if family == Family::Data && !key.is_empty() {
            // The place of `members`.
            key.drain(1..7);
        }
        found.push((family, key, value));
    }
    found.sort();
    let want = want.map(|(family, key, value)| (family, key.to_vec(), value.to_vec()));
    assert_eq!(found, want);
    let record = bench.effects.metas[0].record.clone().unwrap();
    assert_eq!(record.payload(), [1, 0]);
    for n in 0..15 {
        bench.run(&format!("ZADD z {} m{n}", n + 2));
    }
    // The first counts: 8 members below the new separator, 9 from it on.
    let counts: Vec<_> = bench
        .effects
        .rows
        .iter()
        .filter_map(|row| match row {
            RowEffect::Put { key, value, .. } => Some((key, value)),
            _ => None,
        })
        .filter(|(key, _)| key[PREFIX_LEN + VERSION_LEN] == 2)
        .map(|(key, value)| (key[PREFIX_LEN + VERSION_LEN..].to_vec(), value[7]))
        .collect();
    assert_eq!(counts.len(), 2);
    assert_eq!(counts[0], (b"\x02\x01".to_vec(), 8));
    assert_eq!(counts[1].1, 9);
    let record = bench.effects.metas[0].record.clone().unwrap();
    assert_eq!(record.payload(), [1, 1]);
}

/// A small generator, so that a failing seed can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
}

/// A set and what it must be.
#[derive(Default)]
struct Model(BTreeMap<String, i64>);

impl Model {
    fn order(&self) -> Vec<(i64, String)> {
        let mut order: Vec<_> = self.0.iter().map(|(m, s)| (*s, m.clone())).collect();
        order.sort();
        order
    }

    fn agree(&self, bench: &mut Bench, dice: &mut Dice) {
        check(bench, "z");
        let order = self.order();
        let len = order.len() as u64;
        assert_eq!(bench.run("ZCARD z"), format!(":{len}\r\n"));
        if len == 0 {
            return;
        }
        for _ in 0..3 {
            let at = dice.roll(len) as usize;
            let rank = bench.run(&format!("ZRANK z {}", order[at].1));
            assert_eq!(rank, format!(":{at}\r\n"));
            let names: Vec<&str> = order[at..].iter().take(3).map(|(_, m)| &m[..]).collect();
            assert_eq!(
                bench.run(&format!("ZRANGE z {at} {}", at + 2)),
                list(&names)
            );
            let names: Vec<&str> = order[..=at]
                .iter()
                .rev()
                .take(3)
                .map(|(_, m)| &m[..])
                .collect();
            let from_end = len as usize - 1 - at;
            assert_eq!(
                bench.run(&format!("ZREVRANGE z {from_end} {}", from_end + 2)),
                list(&names)
            );
            let (low, high) = (dice.roll(100) as i64, dice.roll(100) as i64);
            let inside = order.iter().filter(|(s, _)| *s >= low && *s < high).count();
            assert_eq!(
                bench.run(&format!("ZCOUNT z {low} ({high}")),
                format!(":{inside}\r\n")
            );
        }
    }
}

#[test]
fn the_counts_of_a_large_set_follow_every_change() {
    turn_over(1..=4, |_| 16, &mut |_, _| {});
    // The writer begins anew with each step.
    turn_over(1..=4, |_| 16, &mut |bench, _| bench.goes_on = false);
}

/// Programs whose rows of counts hold fewer members take turns with those of today.
#[test]
fn counts_of_another_program_are_gone_on_with() {
    let fanout = |step| if step / 7 % 2 == 0 { 4 } else { 16 };
    turn_over(5..=8, fanout, &mut |_, _| {});
}

/// Ranks are asked for now and then, the writer knows the numbers of rows that are open,
/// as many as it has room for, and now and then it forgets them all.
#[test]
fn counts_that_are_open_follow_every_change() {
    turn_over(9..=16, |_| 16, &mut |bench, dice| {
        bench.goes_on = dice.roll(10) > 0;
        bench.context.now += 6_000 * dice.roll(3);
    });
}

/// Changes a large set at random, by a program with this fan-out at each step. `between`
/// is what happens before a step.
fn turn_over(
    seeds: RangeInclusive<u64>,
    fanout: impl Fn(usize) -> u64,
    between: &mut dyn FnMut(&mut Bench, &mut Dice),
) {
    for seed in seeds {
        println!("seed {seed}");
        let mut dice = Dice(seed);
        let mut bench = spread_bench();
        let mut model = Model::default();
        let start = bench.context.now;
        // A set that grows, turns over and shrinks, in uneven batches.
        for step in 0..120 {
            FANOUT.set(fanout(step));
            between(&mut bench, &mut dice);
            let adding = if step < 50 { 80 } else { 35 };
            if dice.roll(100) < adding {
                let mut line = "ZADD z".to_owned();
                for _ in 0..=dice.roll(60) {
                    let (score, name) = (dice.roll(100) as i64, format!("m{}", dice.roll(4000)));
                    line += &format!(" {score} {name}");
                    model.0.insert(name, score);
                }
                bench.run(&line);
            } else if dice.roll(3) == 0 {
                let mut line = "ZREM z x".to_owned();
                let names: Vec<String> = model.0.keys().cloned().collect();
                for name in names.iter().filter(|_| dice.roll(20) == 0) {
                    line += &format!(" {name}");
                    model.0.remove(name);
                }
                bench.run(&line);
            } else {
                let low = dice.roll(100) as i64;
                let high = low + dice.roll(8) as i64;
                let before = model.0.len();
                model.0.retain(|_, score| *score < low || *score > high);
                let gone = before - model.0.len();
                let reply = bench.run(&format!("ZREMRANGEBYSCORE z {low} {high}"));
                assert_eq!(reply, format!(":{gone}\r\n"));
            }
            check(&mut bench, "z");
            if bench.context.now == start || dice.roll(3) == 0 {
                model.agree(&mut bench, &mut dice);
            }
        }
        // Down to nothing from both ends.
        while !model.0.is_empty() {
            FANOUT.set(fanout(model.0.len()));
            between(&mut bench, &mut dice);
            bench.run("ZPOPMIN z 37");
            bench.run("ZPOPMAX z 11");
            let order = model.order();
            let last = order.len().saturating_sub(11).max(37.min(order.len()));
            for (_, name) in order.iter().take(37).chain(&order[last..]) {
                model.0.remove(name);
            }
            model.agree(&mut bench, &mut dice);
        }
        assert_eq!(bench.run("EXISTS z"), ":0\r\n");
    }
}

/// A large set of which nobody asks for ranks: counts are open, those among them that
/// the moves below change.
fn bench_with_open_counts() -> Bench {
    let mut bench = spread_bench();
    for n in 0..240 {
        bench.run(&format!("ZADD z {n} m{n:03}"));
    }
    bench.run(MOVE);
    bench.run(MOVE_BACK);
    bench
}

const MOVE: &str = "ZADD z 200.5 m003";
const MOVE_BACK: &str = "ZADD z 3 m003";

#[test]
fn counts_are_written_only_for_those_who_ask_for_ranks() {
    let bench = &mut bench_with_open_counts();
    // A member, its old place and the new one.
    assert_eq!(bench.run(MOVE), ":0\r\n");
    assert_eq!(bench.effects.rows.len(), 3);
    let rank = words("ZRANK z m150");
    let read = bench.read(&rank).unwrap();
    assert!(matches!(read, Err(CommandError::NeedsTick)));
    assert_eq!(bench.run("ZRANK z m150"), ":149\r\n");
    let is_count =
        |row: &RowEffect| matches!(row, RowEffect::Put { value, .. } if value.len() == 8);
    assert!(!bench.effects.rows.is_empty());
    assert!(bench.effects.rows.iter().all(is_count));
    assert_eq!(bench.read(&rank).unwrap().unwrap(), b":149\r\n");
    // And for a while after that with every change, for reads beside the writer.
    bench.run(MOVE_BACK);
    assert_eq!(bench.effects.rows.len(), 5);
    assert_eq!(bench.read(&rank).unwrap().unwrap(), b":150\r\n");
    bench.context.now += 10_000;
    bench.run(MOVE);
    assert_eq!(bench.effects.rows.len(), 5, "two rows are left open");
    bench.run(MOVE_BACK);
    assert_eq!(bench.effects.rows.len(), 3);
    check(bench, "z");
}

#[test]
fn a_change_that_is_undone_leaves_open_counts_as_they_were() {
    let bench = &mut bench_with_open_counts();
    bench.look(|txn| {
        let key = txn.key(b"z");
        let mut set = SortedSet::open(txn, &key).unwrap().unwrap();
        for n in 0..100 {
            set.set(txn, format!("new{n}").as_bytes(), None, f64::from(n))
                .unwrap();
        }
        for n in 200..230 {
            set.remove(txn, format!("m{n}").as_bytes()).unwrap();
        }
        set.save(txn).unwrap();
    });
    bench.run(MOVE);
    check(bench, "z");
    assert_eq!(bench.run("ZRANK z m150"), ":149\r\n");
}

#[test]
fn open_counts_are_counted_where_the_writer_knows_nothing() {
    let bench = &mut bench_with_open_counts();
    // Nor can it write for who reads in pieces.
    bench
        .store
        .limits
        .reply_elements
        .store(10, Ordering::Relaxed);
    let (head, pieces) = bench.begin_pieces(&words("ZRANGE z 200 -1")).unwrap();
    assert!(pieces.is_intact().unwrap());
    assert!(head.to_vec().starts_with(b"*40\r\n"));
    // The writer hears of it, and the next one finds them written.
    bench.run("SET other 1");
    assert!(!bench.effects.rows.is_empty());
    bench.begin_pieces(&words("ZRANGE z 200 -1")).unwrap();
    assert!(bench.store.wanted.take().is_empty());
    bench.context.now += 10_000;
    bench.run(MOVE);
    bench.run(MOVE_BACK);
    bench
        .store
        .limits
        .reply_elements
        .store(4096, Ordering::Relaxed);
    bench.goes_on = false;
    bench.run(MOVE);
    assert_eq!(bench.run("ZRANK z m150"), ":149\r\n");
    check(bench, "z");
    for line in ["COPY z {z}y", "RENAME {z}y {z}x"] {
        let bench = &mut bench_with_open_counts();
        bench.run("COPY z {z}y");
        bench.run(line);
        for name in ["z", "{z}y", "{z}x"] {
            bench.run(&format!("ZADD {name} 200.5 m003 1 {name}"));
            check(bench, name);
        }
    }
}

/// Nor is any left open by the stream of a master: to close it would be an entry that is
/// not of the stream, with which a restart could not go on.
#[test]
fn neither_a_cluster_nor_a_masters_stream_leaves_counts_open() {
    for in_cluster in [true, false] {
        let bench = &mut spread_bench();
        match in_cluster {
            true => bench.context.cluster = true,
            false => bench.context.expiry = Expiry::Keeps,
        }
        for n in 0..240 {
            bench.run(&format!("ZADD z {n} m{n:03}"));
        }
        bench.run(MOVE);
        assert_eq!(bench.effects.rows.len(), 5);
        let rank = bench.read(&words("ZRANK z m150")).unwrap();
        assert_eq!(rank.unwrap(), b":149\r\n");
    }
}

#[test]
fn a_batch_sees_its_own_changes_of_a_large_set() {
    let mut bench = spread_bench();
    let line = |n: u64| words(&format!("ZADD z {n} m{n}"));
    let commands: Vec<_> = (0..300)
        .map(|n| line(n * 7 % 300))
        .chain([words("ZRANK z m150"), words("ZRANGE z 200 200")])
        .collect();
    let commands: Vec<&[Vec<u8>]> = commands.iter().map(|c| &c[..]).collect();
    let replies = bench.run_batch(&commands);
    assert_eq!(replies[300], b":150\r\n");
    assert_eq!(replies[301], b"*1\r\n$4\r\nm200\r\n");
    check(&mut bench, "z");
}

#[test]
fn a_stored_result_has_counts_and_can_be_copied_and_renamed() {
    let mut bench = spread_bench();
    let members: Vec<String> = (0..1000).map(|n| format!("{n} m{n}")).collect();
    bench.run(&format!("ZADD z {}", members.join(" ")));
    bench.run("ZUNIONSTORE d 1 z");
    bench.run("COPY d e");
    bench.run("RENAME d {x}f");
    for name in ["e", "{x}f"] {
        check(&mut bench, name);
        assert_eq!(bench.run(&format!("ZRANK {name} m777")), ":777\r\n");
        bench.run(&format!("ZADD {name} 500.5 new"));
        assert_eq!(bench.run(&format!("ZREVRANK {name} new")), ":499\r\n");
        check(&mut bench, name);
    }
    assert_eq!(bench.run("ZCARD z"), ":1000\r\n");
}

#[test]
fn binary_members_keep_their_order() {
    in_both_forms(|bench| {
        let members: [&[u8]; 5] = [b"", b"\0", b"\0\0", b"a\0b", b"\xff\xff"];
        for member in members.iter().rev() {
            let args: [&[u8]; 4] = [b"ZADD", b"z", b"1", member];
            assert_eq!(bench.run_args(&args), b":1\r\n");
        }
        let mut want = b"*5\r\n".to_vec();
        for member in members {
            want.extend(format!("${}\r\n", member.len()).as_bytes());
            want.extend(member);
            want.extend(b"\r\n");
        }
        assert_eq!(bench.run_args(&words("ZRANGE z 0 -1")), want);
        for (rank, member) in members.iter().enumerate() {
            let args: [&[u8]; 3] = [b"ZRANK", b"z", member];
            assert_eq!(bench.run_args(&args), format!(":{rank}\r\n").as_bytes());
        }
    });
}

#[test]
fn an_expiry_outlives_changes_but_not_an_overwrite() {
    in_both_forms(|bench| {
        bench.run("ZADD z 1 a");
        bench.run("PEXPIRE z 5000");
        bench.run("ZADD z 2 b 3 a");
        bench.run("ZPOPMIN z");
        assert_eq!(bench.run("PTTL z"), ":5000\r\n");
        bench.run("ZUNIONSTORE z 1 z");
        assert_eq!(bench.run("PTTL z"), ":-1\r\n");
    });
}

#[test]
fn sets_take_part_as_if_all_their_scores_were_one() {
    in_both_forms(|bench| {
        bench.run("ZADD z 5 a 7 b");
        bench.run("SADD s a c");
        bench.run("SADD i 1 2");
        lists(
            bench,
            &[
                ("ZUNION 2 s z WITHSCORES", &["c", "1", "a", "6", "b", "7"]),
                ("ZINTER 2 z s WEIGHTS 1 10 WITHSCORES", &["a", "15"]),
                ("ZDIFF 2 z s WITHSCORES", &["b", "7"]),
                ("ZDIFF 2 s z", &["c"]),
                ("ZUNION 1 i WITHSCORES", &["1", "1", "2", "1"]),
            ],
        );
        assert_eq!(bench.run("ZINTERCARD 2 s z"), ":1\r\n");
        assert_eq!(bench.run("ZUNIONSTORE s 2 s i"), ":4\r\n");
        assert_eq!(bench.run("TYPE s"), "+zset\r\n");
    });
}

/// Regression: a set's members came in the order of the set, and ZDIFFSTORE stored a
/// sorted set that was not sorted.
#[test]
fn a_difference_of_sets_is_in_the_order_of_a_sorted_set() {
    in_both_forms(|bench| {
        bench.run("SADD s m0 bin m5 12 -4");
        let sorted = &["-4", "12", "bin", "m0", "m5"];
        lists(bench, &[("ZDIFF 1 s", sorted), ("ZDIFF 2 s none", sorted)]);
        assert_eq!(bench.run("ZDIFFSTORE z 1 s"), ":5\r\n");
        lists(bench, &[("ZRANGE z 0 -1", sorted)]);
        assert_eq!(bench.run("ZRANK z bin"), ":2\r\n");
    });
}
