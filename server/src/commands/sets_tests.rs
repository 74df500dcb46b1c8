//! Exact replies of set commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use cairn_protocol::resp::Version;

use super::super::testing::Bench;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(bench.run(line), *want, "{line}");
    }
}

/// Bulk strings of a flat reply.
fn strings(reply: &str) -> Vec<String> {
    let mut lines = reply.split("\r\n").skip(1);
    let mut found = Vec::new();
    while let Some(header) = lines.next().filter(|line| !line.is_empty()) {
        if header.starts_with('$') {
            found.push(lines.next().unwrap().to_owned());
        }
    }
    found
}

/// Makes `key` a set of `count` members with this prefix.
fn fill(bench: &mut Bench, key: &str, prefix: &str, count: usize) {
    let members: Vec<String> = (0..count).map(|n| format!("{prefix}{n}")).collect();
    bench.run(&format!("SADD {key} {}", members.join(" ")));
}

fn encoding(bench: &mut Bench, key: &str) -> String {
    strings(&format!(
        "*1\r\n{}",
        bench.run(&format!("OBJECT ENCODING {key}"))
    ))
    .remove(0)
}

#[test]
fn members_are_added_found_and_removed() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("SADD s b a b", ":2\r\n"),
            ("SADD s a", ":0\r\n"),
            ("SCARD s", ":2\r\n"),
            ("SCARD n", ":0\r\n"),
            ("SMEMBERS s", "*2\r\n$1\r\nb\r\n$1\r\na\r\n"),
            ("SMEMBERS n", "*0\r\n"),
            ("SISMEMBER s a", ":1\r\n"),
            ("SISMEMBER s x", ":0\r\n"),
            ("SISMEMBER n x", ":0\r\n"),
            ("SMISMEMBER s a x b", "*3\r\n:1\r\n:0\r\n:1\r\n"),
            ("SMISMEMBER n a x", "*2\r\n:0\r\n:0\r\n"),
            ("SREM s x", ":0\r\n"),
            ("SREM s a x a", ":1\r\n"),
            ("SREM n a", ":0\r\n"),
            ("TYPE s", "+set\r\n"),
            ("SREM s b c", ":1\r\n"),
            ("EXISTS s", ":0\r\n"),
        ],
    );
    assert_eq!(bench.run_args(&["SADD", "s", ""]), b":1\r\n");
    assert_eq!(bench.run_args(&["SISMEMBER", "s", ""]), b":1\r\n");
}

#[test]
fn integers_come_in_their_order() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("SADD s 5 -3 70000 9223372036854775807 5 0", ":5\r\n"),
            (
                "SMEMBERS s",
                "*5\r\n$2\r\n-3\r\n$1\r\n0\r\n$1\r\n5\r\n$5\r\n70000\r\n$19\r\n9223372036854775807\r\n",
            ),
            ("SISMEMBER s 05", ":0\r\n"),
            ("SISMEMBER s 5", ":1\r\n"),
            ("SREM s +5 5", ":1\r\n"),
            (
                "SSCAN s 0 MATCH *0*",
                "*2\r\n$1\r\n0\r\n*3\r\n$1\r\n0\r\n$5\r\n70000\r\n$19\r\n9223372036854775807\r\n",
            ),
        ],
    );
    bench.version = Version::V3;
    bench.run("SREM s 9223372036854775807 70000");
    assert_eq!(bench.run("SMEMBERS s"), "~2\r\n$2\r\n-3\r\n$1\r\n0\r\n");
    assert_eq!(bench.run("SMEMBERS n"), "~0\r\n");
    assert_eq!(bench.run("SPOP s 5"), "~2\r\n$2\r\n-3\r\n$1\r\n0\r\n");
    assert_eq!(bench.run("SPOP n 5"), "~0\r\n");
    assert_eq!(bench.run("SRANDMEMBER n 5"), "*0\r\n");
    assert_eq!(bench.run("SPOP n"), "_\r\n");
}

#[test]
fn encodings_follow_the_rules_of_redis_7_0() {
    let mut bench = Bench::new();
    bench.run("SADD s 1 2 3");
    assert_eq!(encoding(&mut bench, "s"), "intset");
    bench.run("SADD s a");
    assert_eq!(encoding(&mut bench, "s"), "hashtable");
    bench.run("SREM s a");
    assert_eq!(encoding(&mut bench, "s"), "hashtable");
    fill(&mut bench, "i", "", 512);
    assert_eq!(encoding(&mut bench, "i"), "intset");
    assert!(bench.effects.rows.is_empty());
    bench.run("SADD i 511");
    assert_eq!(encoding(&mut bench, "i"), "intset");
    bench.run("SADD i 512");
    assert_eq!(encoding(&mut bench, "i"), "hashtable");
    assert_eq!(bench.run("SCARD i"), ":513\r\n");
    // 512 wide integers are packed too.
    let wide: Vec<String> = (0..512).map(|n| (i64::MAX - n).to_string()).collect();
    bench.run(&format!("SADD w {}", wide.join(" ")));
    assert_eq!(encoding(&mut bench, "w"), "intset");
    bench
        .store
        .limits
        .set_intset_entries
        .store(5000, Ordering::Relaxed);
    bench.run("SADD w 1");
    assert_eq!(encoding(&mut bench, "w"), "intset");
    let members = strings(&bench.run("SMEMBERS w"));
    assert_eq!((members.len(), &members[0][..]), (513, "1"));
    assert!(members[1..].windows(2).all(|pair| pair[0] < pair[1]));
    bench.run("SADD w x");
    assert_eq!(encoding(&mut bench, "w"), "hashtable");
}

#[test]
fn a_spread_set_writes_one_row_and_its_parent() {
    let mut bench = Bench::new();
    fill(&mut bench, "s", "m", 200);
    assert_eq!(
        bench.effects.rows.len(),
        201,
        "members and a back-reference"
    );
    bench.run("SADD s new");
    assert_eq!(
        (bench.effects.rows.len(), bench.effects.metas.len()),
        (1, 1)
    );
    bench.run("SADD s new");
    assert!(bench.effects.is_empty());
    assert_eq!(bench.run("SCARD s"), ":201\r\n");
    assert_eq!(
        bench.run("SMISMEMBER s m0 m199 m200 new"),
        "*4\r\n:1\r\n:1\r\n:0\r\n:1\r\n"
    );
    assert_eq!(strings(&bench.run("SMEMBERS s")).len(), 201);
    bench.run("COPY s t");
    fill(&mut bench, "u", "m", 200);
    assert_eq!(bench.run("SREM s new x"), ":1\r\n");
    assert_eq!(bench.run("SDIFF t u"), "*1\r\n$3\r\nnew\r\n");
    assert_eq!(bench.run("SDIFF s u"), "*0\r\n");
    let all = strings(&bench.run("SMEMBERS s")).join(" ");
    assert_eq!(bench.run(&format!("SREM s {all}")), ":200\r\n");
    assert_eq!(bench.event_names(), ["srem", "del"]);
    assert_eq!(bench.run("EXISTS s"), ":0\r\n");
}

#[test]
fn smove_moves_once() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("SADD a x y", ":2\r\n"),
            ("SADD b 1 2", ":2\r\n"),
            ("SMOVE a b x", ":1\r\n"),
            ("SMOVE a b x", ":0\r\n"),
            ("SMEMBERS b", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\nx\r\n"),
            ("SMOVE n b x", ":0\r\n"),
            ("SMOVE a a y", ":1\r\n"),
            ("SMOVE a a z", ":0\r\n"),
            ("SMOVE a c y", ":1\r\n"),
            ("EXISTS a", ":0\r\n"),
            ("SMEMBERS c", "*1\r\n$1\r\ny\r\n"),
            ("SET str v", "+OK\r\n"),
            ("SMOVE n str x", ":0\r\n"),
            ("SMOVE c str x", WRONG_TYPE),
            ("SMOVE str c x", WRONG_TYPE),
        ],
    );
    bench.run("SADD a 1");
    for (line, want) in [
        ("SMOVE b a x", &["srem", "sadd"][..]),
        ("SMOVE c a y", &["srem", "del", "sadd"]),
        ("SMOVE a n y", &["srem", "new", "sadd"]),
        ("SMOVE a b 1", &["srem"]),
        ("SMOVE a a x", &[]),
    ] {
        bench.run(line);
        assert_eq!(bench.event_names(), want, "{line}");
    }
}

#[test]
fn popped_members_are_gone() {
    let between = "-ERR value is out of range, value must between -9223372036854775807 and \
                   9223372036854775807\r\n";
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("SPOP n", "$-1\r\n"),
            ("SPOP n 1", "*0\r\n"),
            (
                "SPOP n -1",
                "-ERR value is out of range, must be positive\r\n",
            ),
            (
                "SPOP n x",
                "-ERR value is out of range, must be positive\r\n",
            ),
            ("SPOP n 1 2", "-ERR syntax error\r\n"),
            ("SRANDMEMBER n", "$-1\r\n"),
            ("SRANDMEMBER n 1", "*0\r\n"),
            ("SRANDMEMBER n 1 2", "-ERR syntax error\r\n"),
            ("SRANDMEMBER n -9223372036854775808", between),
            ("SADD s a", ":1\r\n"),
            ("SPOP s 0", "*0\r\n"),
            ("SRANDMEMBER s 0", "*0\r\n"),
            (
                "SRANDMEMBER s -3",
                "*3\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n",
            ),
            ("SRANDMEMBER s 9223372036854775807", "*1\r\n$1\r\na\r\n"),
            ("SPOP s", "$1\r\na\r\n"),
            ("EXISTS s", ":0\r\n"),
        ],
    );
    for (size, prefix) in [(9, ""), (9, "m"), (300, ""), (600, ""), (300, "m")] {
        for count in [1, 2, 7, 8, size / 2, size - 1, size, size + 1] {
            fill(&mut bench, "s", prefix, size);
            bench.run("PEXPIRE s 5000");
            let all: BTreeSet<String> = (0..size).map(|n| format!("{prefix}{n}")).collect();
            let popped = strings(&bench.run(&format!("SPOP s {count}")));
            let is_gone = count >= size;
            let want = if is_gone {
                &["spop", "del"][..]
            } else {
                &["spop"]
            };
            assert_eq!(bench.event_names(), want);
            assert_eq!(popped.len(), count.min(size));
            let left = strings(&bench.run("SMEMBERS s"));
            assert_eq!(left.len(), size - popped.len());
            assert_eq!(bench.run("SCARD s"), format!(":{}\r\n", left.len()));
            assert_eq!(bench.run("PTTL s") == ":5000\r\n", !is_gone);
            let both: BTreeSet<String> = popped.into_iter().chain(left).collect();
            assert_eq!(both, all);
            bench.run("DEL s");
        }
    }
    bench.run("SADD s a");
    bench.run("SPOP s");
    assert_eq!(bench.event_names(), ["spop", "del"]);
}

#[test]
fn a_set_rebuilt_by_spop_may_be_an_intset_again() {
    let mut bench = Bench::new();
    bench.run("SADD s 1 2 3 4 5 6 7 8 9 10 11 x");
    let left = loop {
        bench.run("SADD s 1 2 3 4 5 6 7 8 9 10 11 x");
        bench.context.seed += 1;
        bench.run("SPOP s 11");
        let left = strings(&bench.run("SMEMBERS s"));
        if left != ["x"] {
            break left;
        }
    };
    assert_eq!(left.len(), 1);
    assert_eq!(encoding(&mut bench, "s"), "intset");
}

/// Pearson's statistic of how often each of `size` elements came.
fn chi_square(seen: &BTreeMap<String, u64>, size: u64) -> f64 {
    let total: u64 = seen.values().sum();
    let mean = total as f64 / size as f64;
    let of = |count: u64| (count as f64 - mean).powi(2) / mean;
    let absent = size - seen.len() as u64;
    seen.values().map(|count| of(*count)).sum::<f64>() + absent as f64 * mean
}

#[test]
fn random_members_are_uniform_however_the_set_lies() {
    let mut bench = Bench::new();
    // (members, bound of the statistic with a chance of about 1e-6 to exceed it)
    for (size, prefix, bound) in [(10, "", 45.0), (10, "m", 45.0), (400, "m", 550.0)] {
        fill(&mut bench, "s", prefix, size);
        for count in [-40, 2, 1, size as i64 - 2] {
            let mut seen = BTreeMap::new();
            for _ in 0..size as i64 * 20 / count.abs().max(5) {
                bench.context.seed = bench.context.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let reply = bench.read(&["SRANDMEMBER", "s", &count.to_string()]);
                let found = strings(&String::from_utf8(reply.unwrap().unwrap()).unwrap());
                assert_eq!(found.len() as i64, count.abs());
                if count > 0 {
                    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
                }
                for member in found {
                    *seen.entry(member).or_insert(0) += 1;
                }
            }
            let statistic = chi_square(&seen, size as u64);
            assert!(statistic < bound, "{size} {prefix} {count}: {statistic}");
        }
        bench.run("DEL s");
    }
}

#[test]
fn a_scan_meets_every_member_that_stays() {
    let mut bench = Bench::new();
    fill(&mut bench, "s", "m", 400);
    let (mut cursor, mut seen, mut steps) = ("0".to_owned(), BTreeSet::new(), 0);
    loop {
        let all = strings(&bench.run(&format!("SSCAN s {cursor} MATCH m*")));
        cursor = all[0].clone();
        seen.extend(all[1..].iter().cloned());
        bench.run(&format!("SREM s m{} m{}", 100 + steps, 399 - steps));
        bench.run(&format!("SADD s x{steps}"));
        steps += 1;
        if cursor == "0" {
            break;
        }
    }
    assert!(steps > 20);
    assert!((0..100).all(|n| seen.contains(&format!("m{n}"))));
    assert!(seen.iter().all(|member| member.starts_with('m')));
}

#[test]
fn another_type_is_refused() {
    let mut bench = Bench::new();
    bench.run("SET str v");
    bench.run("SADD s a");
    for line in [
        "SADD str a",
        "SREM str a",
        "SMEMBERS str",
        "SISMEMBER str a",
        "SMISMEMBER str a",
        "SCARD str",
        "SPOP str",
        "SPOP str 0",
        "SRANDMEMBER str",
        "SRANDMEMBER str 0",
        "SSCAN str 0",
        "SINTER str s",
        "SINTER n str",
        "SINTERCARD 2 n str",
        "SUNION s str",
        "SDIFF n str",
        "SINTERSTORE d n str",
        "SUNIONSTORE d s str",
        "SDIFFSTORE d n str",
    ] {
        assert_eq!(bench.run(line), WRONG_TYPE, "{line}");
        assert!(bench.events.is_empty());
    }
}

#[test]
fn events_are_those_of_redis() {
    let mut bench = Bench::new();
    for (line, want) in [
        ("SADD s a", &["new", "sadd"][..]),
        ("SADD s a", &[]),
        ("SADD s b", &["sadd"]),
        ("SREM s x", &[]),
        ("SREM s a", &["srem"]),
        ("SREM s b", &["srem", "del"]),
    ] {
        bench.run(line);
        assert_eq!(bench.event_names(), want, "{line}");
    }
}
