//! Replies in pieces: byte for byte what the same command answers whole.

use std::sync::atomic::Ordering;

use cairn_protocol::resp::{ReplyWriter, Version};
use proptest::prelude::*;

use crate::commands::testing::{Bench, words};
use crate::storage::Log;
use crate::storage::limits::PACKED_MAX;
use crate::txn::{CommandError, Delivery, Pieces, TxnContext};

/// A bench where everything is spread, and nothing small enough to leave whole.
fn bench() -> Bench {
    let bench = Bench::new();
    let limits = &bench.store.limits;
    for limit in [
        &limits.hash_entries,
        &limits.set_intset_entries,
        &limits.zset_entries,
        &limits.reply_elements,
    ] {
        limit.store(0, Ordering::Relaxed);
    }
    limits.list_size.store(3, Ordering::Relaxed);
    limits.stream_node_entries.store(4, Ordering::Relaxed);
    bench
}

/// What is left of a reply, in pieces of a few bytes; whatever happens between
/// two of them does not show.
fn finish(mut out: ReplyWriter, mut pieces: Pieces, between: &mut dyn FnMut()) -> Vec<u8> {
    let mut reply = Vec::new();
    loop {
        let more = pieces.next(&mut out, 16).unwrap();
        reply.extend(out.to_vec());
        out.clear();
        if !more {
            return reply;
        }
        between();
    }
}

/// Asserts that both ways of answering agree; says whether there were two.
fn agrees(bench: &Bench, line: &str) -> bool {
    let args = words(line);
    let whole = bench.read(&args).expect("a read").unwrap();
    let Some((out, pieces)) = bench.begin_pieces(&args) else {
        return false;
    };
    let reply = finish(out, pieces, &mut || {});
    assert_eq!(
        reply.escape_ascii().to_string(),
        whole.escape_ascii().to_string(),
        "{line}"
    );
    true
}

/// Fills `h`, `s`, `z` and `l` with elements of these names.
fn fill(bench: &mut Bench, names: &[(u8, i8)]) {
    // Too long for a packed set, which small ones are whatever the thresholds.
    bench.run(&format!("SADD s {}", "m".repeat(PACKED_MAX + 1)));
    for (at, (name, score)) in names.iter().enumerate() {
        bench.run(&format!("HSET h f{name} value:{at}"));
        bench.run(&format!("SADD s m{name}"));
        // Scores repeat, and one of them is -0.
        let filed = match score / 16 {
            0 => "-0".to_owned(),
            score => score.to_string(),
        };
        bench.run(&format!("ZADD z {filed} m{name}"));
        bench.run(&format!("ZADD same 0 m{name}"));
        let long = "x".repeat(usize::from(*name) * 4);
        let end = if *score < 0 { "LPUSH" } else { "RPUSH" };
        bench.run(&format!("{end} l {at}:{long}"));
        // Some nodes of one kind of entry and some of several.
        let field = if *score % 5 == 0 { "other" } else { "f" };
        bench.run(&format!(
            "XADD x {}-{} {field} {name}:{long}",
            at / 3 + 1,
            at % 3
        ));
        if score % 7 == 0 {
            bench.run(&format!("XDEL x {}-{}", at / 3 + 1, at % 3));
        }
    }
}

const COLLECTIONS: &[&str] = &["HGETALL h", "HKEYS h", "HVALS h", "SMEMBERS s"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_reply_in_pieces_equals_the_whole_one(
        names in prop::collection::vec((any::<u8>(), any::<i8>()), 1..120),
        (start, stop) in (-130..130_i64, -130..130_i64),
        (min, max) in (-9..9_i64, -9..9_i64),
        (offset, count) in (0..40_i64, -1..40_i64),
        (low, high) in (any::<u8>(), any::<u8>()),
        (from, to, most) in (0..45_u8, 0..45_u8, 1..60_u8),
        resp3 in any::<bool>(),
    ) {
        let mut bench = bench();
        fill(&mut bench, &names);
        if resp3 {
            bench.version = Version::V3;
        }
        for line in COLLECTIONS {
            prop_assert!(agrees(&bench, line), "{line} leaves whole");
        }
        let ranges = [
            format!("LRANGE l {start} {stop}"),
            "LRANGE l 0 -1".to_owned(),
            format!("ZRANGE z {start} {stop}"),
            format!("ZRANGE z {start} {stop} WITHSCORES"),
            format!("ZRANGE z {start} {stop} REV WITHSCORES"),
            format!("ZREVRANGE z {start} {stop}"),
            format!("ZRANGE z {min} {max} BYSCORE"),
            format!("ZRANGE z {max} ({min} BYSCORE REV WITHSCORES"),
            format!("ZRANGE z ({min} {max} BYSCORE LIMIT {offset} {count} WITHSCORES"),
            format!("ZRANGEBYSCORE z -inf +inf WITHSCORES LIMIT {offset} {count}"),
            format!("ZREVRANGEBYSCORE z +inf {min} LIMIT {offset} {count}"),
            format!("ZRANGE same [m{low} [m{high} BYLEX"),
            format!("ZRANGE same (m{high} - BYLEX REV LIMIT {offset} {count}"),
            format!("ZRANGEBYLEX same - + LIMIT {offset} {count}"),
            "ZREVRANGEBYLEX same + -".to_owned(),
            "XRANGE x - +".to_owned(),
            "XREVRANGE x + -".to_owned(),
            format!("XRANGE x {from} {to} COUNT {most}"),
            format!("XREVRANGE x {to} {from} COUNT {most}"),
            format!("XRANGE x ({from}-1 +"),
            format!("XREVRANGE x ({to}-1 -"),
            format!("XREAD STREAMS x {from}-1"),
            format!("XREAD COUNT {most} STREAMS x 0"),
        ];
        for line in &ranges {
            agrees(&bench, line);
        }
    }
}

#[test]
fn what_happens_meanwhile_does_not_show() {
    let names: Vec<(u8, i8)> = (0..=255).map(|n| (n, n as i8)).collect();
    let lines = [
        "HGETALL h",
        "SMEMBERS s",
        "ZRANGE z 0 -1 WITHSCORES",
        "ZRANGE z 0 -1 REV",
        "LRANGE l 0 -1",
        "XRANGE x - +",
        "XREVRANGE x + -",
    ];
    let changes: &[&[&str]] = &[
        &[
            "HSET h f7 other new x",
            "SREM s m250",
            "ZADD z 99 m3",
            "RPUSH l x",
            "LSET l 100 y",
            "XADD x 999 a b",
            "XTRIM x MAXLEN 100",
        ],
        &["DEL h s z same l x"],
        &["FLUSHALL"],
        &[
            "DEL h s z l x",
            "HSET h f7 x",
            "SADD s m7",
            "ZADD z 1 m7",
            "RPUSH l x",
            "XADD x 1 a b",
        ],
        &[
            "PEXPIRE h 1",
            "PEXPIRE s 1",
            "PEXPIRE z 1",
            "PEXPIRE l 1",
            "PEXPIRE x 1",
        ],
    ];
    for changes in changes {
        let mut bench = bench();
        fill(&mut bench, &names);
        let begun: Vec<_> = lines
            .iter()
            .map(|line| {
                let args = words(line);
                let whole = bench.read(&args).expect("a read").unwrap();
                (line, whole, bench.begin_pieces(&args).expect("it is large"))
            })
            .collect();
        for line in *changes {
            bench.run(line);
        }
        bench.context.now += 10_000;
        // What lies below a key that has gone is garbage, and is collected.
        for _ in 0..2 {
            bench.run("SET clock x");
            bench.store.sync(Log::Wal).unwrap();
            bench.store.flush().unwrap();
            bench.store.compact();
        }
        for (line, whole, (out, pieces)) in begun {
            let reply = finish(out, pieces, &mut || {});
            assert!(reply == whole, "{line} after {changes:?}");
        }
    }
}

#[test]
fn a_large_reply_is_not_made_whole_for_who_can_take_pieces() {
    let mut bench = bench();
    fill(&mut bench, &[(1, 1), (2, 100), (3, 1), (4, 1)]);
    let limits = &bench.store.limits;
    let large = |line: &str| {
        let context = TxnContext {
            delivery: Delivery::IfSmall,
            ..bench.context
        };
        let asked = bench.read_as(&words(line), context).expect("a read");
        matches!(asked, Err(CommandError::Large))
    };
    assert!(large("HGETALL h") && large("ZRANGE z 0 0") && large("ZRANGE z 0 9 BYSCORE"));
    limits.reply_elements.store(2, Ordering::Relaxed);
    assert!(large("SMEMBERS s") && !large("ZRANGE z 0 1") && large("LRANGE l 0 2"));
    assert!(!large("ZRANGE z 5 9 BYSCORE") && large("ZRANGE z 0 9 BYSCORE"));
    limits.reply_elements.store(100, Ordering::Relaxed);
    assert!(!large("HGETALL h") && !large("ZRANGE z 0 9 BYSCORE"));
    limits.reply_elements.store(2, Ordering::Relaxed);
    assert!(large("XRANGE x - +") && large("XREAD STREAMS x 0"));
    assert!(!large("XRANGE x - + COUNT 2") && !large("XREAD STREAMS x none 0 0"));
    limits.reply_elements.store(100, Ordering::Relaxed);
    limits.reply_bytes.store(5, Ordering::Relaxed);
    assert!(
        large("HGETALL h") && large("ZRANGE z 0 9 BYSCORE"),
        "by bytes"
    );
}

#[test]
fn integers_leave_in_their_order_whatever_comes_between() {
    let mut bench = bench();
    let limits = &bench.store.limits;
    limits.set_intset_entries.store(1 << 20, Ordering::Relaxed);
    // Too many to be packed, and for several rounds of all of them.
    for first in (-2000..2000_i64).step_by(50) {
        let members = (first..first + 50).map(|n| (n * 7919 % 100_003).to_string());
        bench.run(&format!("SADD i {}", members.collect::<Vec<_>>().join(" ")));
    }
    assert_eq!(bench.run("OBJECT ENCODING i"), "$6\r\nintset\r\n");
    assert!(agrees(&bench, "SMEMBERS i"));
    bench.version = Version::V3;
    assert!(agrees(&bench, "SMEMBERS i"));
    let args = words("SMEMBERS i");
    let whole = bench.read(&args).expect("a read").unwrap();
    let (out, pieces) = bench.begin_pieces(&args).unwrap();
    let mut changes = ["SADD i 5", "SREM i 0", "DEL i", "SADD i 1 2"].iter();
    let reply = finish(out, pieces, &mut || {
        if let Some(line) = changes.next() {
            bench.run(line);
        }
    });
    assert!(reply == whole);
}

#[test]
fn a_moment_of_a_collection_that_has_gone_is_not_begun_with() {
    let mut bench = bench();
    fill(&mut bench, &[(1, 1), (2, 2)]);
    let (_, pieces) = bench.begin_pieces(&words("HGETALL h")).unwrap();
    bench.run("HSET h another x");
    assert!(pieces.is_intact().unwrap(), "changed, not gone");
    bench.run("DEL h");
    assert!(!pieces.is_intact().unwrap());
    let (_, pieces) = bench.begin_pieces(&words("SMEMBERS s")).unwrap();
    bench.run("FLUSHALL");
    assert!(!pieces.is_intact().unwrap());
}
