//! Exact replies of hash commands.

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

/// A bench whose hashes are all spread, or all packed.
fn benches() -> [Bench; 2] {
    let spread = Bench::new();
    spread.store.limits.hash_entries.store(0, Ordering::Relaxed);
    [Bench::new(), spread]
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

fn pairs(reply: &str) -> BTreeMap<String, String> {
    let all = strings(reply);
    all.chunks(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect()
}

#[test]
fn fields_are_set_read_and_deleted() {
    for mut bench in benches() {
        script(
            &mut bench,
            &[
                ("HSET h f v", ":1\r\n"),
                ("HSET h f w g x", ":1\r\n"),
                ("HGET h f", "$1\r\nw\r\n"),
                ("HGET h n", "$-1\r\n"),
                ("HGET n f", "$-1\r\n"),
                ("HMSET h i 1 j 2", "+OK\r\n"),
                ("HMGET h f n j", "*3\r\n$1\r\nw\r\n$-1\r\n$1\r\n2\r\n"),
                ("HMGET n f g", "*2\r\n$-1\r\n$-1\r\n"),
                ("HLEN h", ":4\r\n"),
                ("HLEN n", ":0\r\n"),
                ("HEXISTS h f", ":1\r\n"),
                ("HEXISTS h n", ":0\r\n"),
                ("HEXISTS n f", ":0\r\n"),
                ("HSTRLEN h f", ":1\r\n"),
                ("HSTRLEN h n", ":0\r\n"),
                ("HSETNX h f y", ":0\r\n"),
                ("HSETNX h k y", ":1\r\n"),
                ("HGET h k", "$1\r\ny\r\n"),
                ("HDEL h f f n i", ":2\r\n"),
                ("HDEL n f", ":0\r\n"),
                ("HLEN h", ":3\r\n"),
                ("TYPE h", "+hash\r\n"),
                (
                    "HSET h a",
                    "-ERR wrong number of arguments for 'hset' command\r\n",
                ),
                (
                    "HSET h a 1 b",
                    "-ERR wrong number of arguments for 'hset' command\r\n",
                ),
                (
                    "HMSET h a 1 b",
                    "-ERR wrong number of arguments for 'hmset' command\r\n",
                ),
                ("HDEL h g j k f", ":3\r\n"),
                ("EXISTS h", ":0\r\n"),
                ("HGETALL h", "*0\r\n"),
                ("HKEYS h", "*0\r\n"),
            ],
        );
        assert_eq!(bench.run_args(&["HSET", "h", "", ""]), b":1\r\n");
        assert_eq!(bench.run_args(&["HGET", "h", ""]), b"$0\r\n\r\n");
    }
}

#[test]
fn a_packed_hash_keeps_the_order_of_insertion() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("HSET h c 1 a 2 b 3", ":3\r\n"),
            ("HSET h a 22 d 4", ":1\r\n"),
            ("HDEL h b", ":1\r\n"),
            ("HSET h b 5", ":1\r\n"),
            (
                "HKEYS h",
                "*4\r\n$1\r\nc\r\n$1\r\na\r\n$1\r\nd\r\n$1\r\nb\r\n",
            ),
            (
                "HVALS h",
                "*4\r\n$1\r\n1\r\n$2\r\n22\r\n$1\r\n4\r\n$1\r\n5\r\n",
            ),
            (
                "HSCAN h 0 MATCH [ab]",
                "*2\r\n$1\r\n0\r\n*4\r\n$1\r\na\r\n$2\r\n22\r\n$1\r\nb\r\n$1\r\n5\r\n",
            ),
        ],
    );
    assert_eq!(bench.effects.rows.len(), 0);
}

#[test]
fn hgetall_is_a_map_in_resp3() {
    for mut bench in benches() {
        bench.run("HSET h f v");
        assert_eq!(bench.run("HGETALL h"), "*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
        bench.version = Version::V3;
        assert_eq!(bench.run("HGETALL h"), "%1\r\n$1\r\nf\r\n$1\r\nv\r\n");
        assert_eq!(bench.run("HGETALL n"), "%0\r\n");
        assert_eq!(bench.run("HKEYS n"), "*0\r\n");
        assert_eq!(bench.run("HGET n f"), "_\r\n");
        assert_eq!(
            bench.run("HRANDFIELD h 5 WITHVALUES"),
            "*1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
        );
    }
}

#[test]
fn numbers_in_fields_are_added_to() {
    for mut bench in benches() {
        script(
            &mut bench,
            &[
                ("HINCRBY h n 5", ":5\r\n"),
                ("HINCRBY h n -7", ":-2\r\n"),
                (
                    "HINCRBY h n x",
                    "-ERR value is not an integer or out of range\r\n",
                ),
                ("HSET h t abc", ":1\r\n"),
                ("HINCRBY h t 1", "-ERR hash value is not an integer\r\n"),
                ("HINCRBYFLOAT h t 1", "-ERR hash value is not a float\r\n"),
                ("HINCRBYFLOAT h n x", "-ERR value is not a valid float\r\n"),
                ("HINCRBYFLOAT h n inf", "-ERR value is NaN or Infinity\r\n"),
                ("HINCRBYFLOAT h n 0.5", "$4\r\n-1.5\r\n"),
                ("HINCRBY h n 1", "-ERR hash value is not an integer\r\n"),
                ("HSET h m 9223372036854775807", ":1\r\n"),
                (
                    "HINCRBY h m 1",
                    "-ERR increment or decrement would overflow\r\n",
                ),
                ("HSET h e 1e4932", ":1\r\n"),
                (
                    "HINCRBYFLOAT h e 1e4932",
                    "-ERR increment would produce NaN or Infinity\r\n",
                ),
                ("HINCRBYFLOAT h new 3.0e3", "$4\r\n3000\r\n"),
                ("HINCRBY missing f 1", ":1\r\n"),
            ],
        );
    }
}

#[test]
fn another_type_is_refused_before_anything_is_said() {
    let mut bench = Bench::new();
    bench.run("SET s v");
    for line in [
        "HSET s f v",
        "HSETNX s f v",
        "HMSET s f v",
        "HGET s f",
        "HMGET s f",
        "HGETALL s",
        "HKEYS s",
        "HVALS s",
        "HLEN s",
        "HEXISTS s f",
        "HDEL s f",
        "HSTRLEN s f",
        "HINCRBY s f 1",
        "HINCRBYFLOAT s f 1",
        "HRANDFIELD s",
        "HRANDFIELD s 0",
        "HSCAN s 0",
        "HSCAN s 0 COUNT x",
    ] {
        assert_eq!(bench.run(line), WRONG_TYPE, "{line}");
        assert!(bench.events.is_empty());
    }
}

#[test]
fn encodings_follow_the_thresholds_and_stay() {
    let mut bench = Bench::new();
    let encoding = |bench: &mut Bench| bench.run("OBJECT ENCODING h");
    bench.run("HSET h f v");
    assert_eq!(encoding(&mut bench), "$8\r\nlistpack\r\n");
    // One long value: a hashtable to clients, packed all the same.
    bench.run(&format!("HSET h g {}", "x".repeat(65)));
    assert_eq!(encoding(&mut bench), "$9\r\nhashtable\r\n");
    assert!(bench.effects.rows.is_empty());
    bench.run("HDEL h g");
    assert_eq!(encoding(&mut bench), "$9\r\nhashtable\r\n");
    bench.run("DEL h");
    bench.store.limits.hash_entries.store(3, Ordering::Relaxed);
    bench.run("HSET h a 1 b 2 c 3");
    assert_eq!(encoding(&mut bench), "$8\r\nlistpack\r\n");
    bench.run("HSET h c 4");
    assert_eq!(encoding(&mut bench), "$8\r\nlistpack\r\n");
    bench.run("HSET h d 4");
    assert_eq!(encoding(&mut bench), "$9\r\nhashtable\r\n");
    bench.run("HDEL h d c");
    assert_eq!(encoding(&mut bench), "$9\r\nhashtable\r\n");
    // Many bytes: spread, and still a listpack to clients.
    bench
        .store
        .limits
        .hash_entries
        .store(512, Ordering::Relaxed);
    for field in 0..100 {
        bench.run(&format!("HSET big f{field} {}", "v".repeat(60)));
    }
    assert_eq!(bench.effects.rows.len(), 1);
    assert_eq!(bench.run("OBJECT ENCODING big"), "$8\r\nlistpack\r\n");
    assert_eq!(bench.run("HLEN big"), ":100\r\n");
}

#[test]
fn a_spread_hash_writes_one_row_and_its_parent_only_when_it_grows() {
    let mut bench = Bench::new();
    bench.store.limits.hash_entries.store(2, Ordering::Relaxed);
    bench.run("HSET h a 1 b 2 c 3");
    assert_eq!(
        bench.effects.rows.len(),
        4,
        "three fields, one back-reference"
    );
    bench.run("HSET h d 4");
    assert_eq!(
        (bench.effects.rows.len(), bench.effects.metas.len()),
        (1, 1)
    );
    bench.run("HSET h d 5");
    assert_eq!(
        (bench.effects.rows.len(), bench.effects.metas.len()),
        (1, 0)
    );
    let want = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "5")];
    let want = want.map(|(f, v)| (f.to_owned(), v.to_owned()));
    assert_eq!(pairs(&bench.run("HGETALL h")), want.into());
    bench.run("RENAME h i");
    bench.run("COPY i j");
    bench.run("DEL i");
    assert_eq!(bench.run("HGET j d"), "$1\r\n5\r\n");
    assert_eq!(bench.run("HLEN j"), ":4\r\n");
    assert_eq!(bench.run("HGETALL i"), "*0\r\n");
}

#[test]
fn a_hash_keeps_its_expiry() {
    for mut bench in benches() {
        bench.run("HSET h f v");
        bench.run("PEXPIRE h 1000");
        bench.run("HSET h g v");
        bench.run("HDEL h f");
        assert_eq!(bench.run("PTTL h"), ":1000\r\n");
        bench.context.now += 1001;
        assert_eq!(bench.run("HLEN h"), ":0\r\n");
        assert_eq!(bench.run("HSET h f v"), ":1\r\n");
        assert_eq!(bench.run("PTTL h"), ":-1\r\n");
    }
}

#[test]
fn events_are_those_of_redis() {
    for mut bench in benches() {
        for (line, want) in [
            ("HSET h f 1", &["new", "hset"][..]),
            ("HSET h f 1", &["hset"]),
            ("HMSET h g 1", &["hset"]),
            ("HSETNX h f 1", &[]),
            ("HSETNX h i 1", &["hset"]),
            ("HINCRBY h f 1", &["hincrby"]),
            ("HINCRBYFLOAT h f 1", &["hincrbyfloat"]),
            ("HINCRBY k f 1", &["new", "hincrby"]),
            ("HDEL h x", &[]),
            ("HDEL h f", &["hdel"]),
            ("HDEL h g i x", &["hdel", "del"]),
            ("HGETALL k", &[]),
        ] {
            bench.run(line);
            assert_eq!(bench.event_names(), want, "{line}");
        }
    }
}

#[test]
fn hrandfield_checks_its_arguments_as_redis_does() {
    let mut bench = Bench::new();
    let out_of_range = "-ERR value is out of range\r\n";
    let between = "-ERR value is out of range, value must between -9223372036854775807 and \
                   9223372036854775807\r\n";
    script(
        &mut bench,
        &[
            ("HRANDFIELD n", "$-1\r\n"),
            ("HRANDFIELD n 5", "*0\r\n"),
            (
                "HRANDFIELD n x",
                "-ERR value is not an integer or out of range\r\n",
            ),
            ("HRANDFIELD n 1 FOO", "-ERR syntax error\r\n"),
            ("HRANDFIELD n 1 WITHVALUES 2", "-ERR syntax error\r\n"),
            ("HRANDFIELD n -9223372036854775808", between),
            ("HRANDFIELD n -9223372036854775808 WITHVALUES", between),
            ("HRANDFIELD n -9223372036854770000 WITHVALUES", out_of_range),
            ("HRANDFIELD n 9223372036854770000 WITHVALUES", out_of_range),
            ("HSET h f v", ":1\r\n"),
            ("HRANDFIELD h 0", "*0\r\n"),
            ("HRANDFIELD h", "$1\r\nf\r\n"),
            ("HRANDFIELD h 9223372036854775807", "*1\r\n$1\r\nf\r\n"),
            (
                "HRANDFIELD h -2 WITHVALUES",
                "*4\r\n$1\r\nf\r\n$1\r\nv\r\n$1\r\nf\r\n$1\r\nv\r\n",
            ),
            (
                "HRANDFIELD h -9223372036854775807",
                "-ERR the reply would be longer than 64 MB; ask for fewer elements at once\r\n",
            ),
        ],
    );
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
fn random_fields_are_uniform_however_the_hash_lies() {
    // (fields, bound of the statistic with a chance of about 1e-6 to exceed it)
    for (fields, bound) in [(10_i64, 45.0), (300, 430.0)] {
        for mut bench in benches() {
            for field in 0..fields {
                bench.run(&format!("HSET h field:{field} {field}"));
            }
            let rounds = fields * 20;
            for count in [-50, 3, 1, fields - 1] {
                let mut seen = BTreeMap::new();
                for _ in 0..rounds / count.abs().max(5) {
                    bench.context.seed = bench.context.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    let reply = bench.read(&["HRANDFIELD", "h", &count.to_string()]);
                    let reply = String::from_utf8(reply.unwrap().unwrap()).unwrap();
                    let found = strings(&reply);
                    assert_eq!(found.len() as i64, count.abs());
                    if count > 0 {
                        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
                    }
                    for field in found {
                        *seen.entry(field).or_insert(0) += 1;
                    }
                }
                let statistic = chi_square(&seen, fields as u64);
                assert!(statistic < bound, "{fields} {count}: {statistic}");
            }
        }
    }
}

#[test]
fn a_scan_meets_every_field_that_stays() {
    let mut bench = Bench::new();
    bench.store.limits.hash_entries.store(4, Ordering::Relaxed);
    for field in 0..300 {
        bench.run(&format!("HSET h f{field} v{field}"));
    }
    let (mut cursor, mut seen, mut steps) = ("0".to_owned(), BTreeMap::new(), 0);
    loop {
        let all = strings(&bench.run(&format!("HSCAN h {cursor} COUNT 7")));
        cursor = all[0].clone();
        seen.extend(all[1..].chunks(2).map(|p| (p[0].clone(), p[1].clone())));
        // Everything above 100 comes and goes meanwhile.
        bench.run(&format!("HDEL h f{} f{}", 100 + steps, 300 - steps));
        bench.run(&format!("HSET h n{steps} x"));
        steps += 1;
        if cursor == "0" {
            break;
        }
    }
    assert!(steps > 30);
    for field in 0..100 {
        assert_eq!(seen.get(&format!("f{field}")), Some(&format!("v{field}")));
    }
    script(
        &mut bench,
        &[
            ("HSCAN n 0", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("HSCAN n 0 COUNT x", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("HSCAN h x", "-ERR invalid cursor\r\n"),
            (
                "HSCAN h 0 COUNT x",
                "-ERR value is not an integer or out of range\r\n",
            ),
            ("HSCAN h 0 COUNT 0", "-ERR syntax error\r\n"),
            ("HSCAN h 0 COUNT", "-ERR syntax error\r\n"),
            ("HSCAN h 0 TYPE hash", "-ERR syntax error\r\n"),
            ("HSCAN h 18446744073709551615", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ],
    );
}

#[test]
fn one_batch_sees_its_own_rows() {
    let mut bench = Bench::new();
    bench.store.limits.hash_entries.store(1, Ordering::Relaxed);
    bench.run("HSET h a 1 b 2");
    let commands: [&[&str]; 6] = [
        &["HSET", "h", "c", "3"],
        &["HDEL", "h", "a"],
        &["HLEN", "h"],
        &["HGET", "h", "a"],
        &["HMGET", "h", "b", "c"],
        &["HRANDFIELD", "h", "2", "WITHVALUES"],
    ];
    let replies = bench.run_batch(&commands);
    let texts: Vec<_> = replies.iter().map(|r| String::from_utf8_lossy(r)).collect();
    assert_eq!(texts[..3], [":1\r\n", ":1\r\n", ":2\r\n"]);
    assert_eq!(texts[3], "$-1\r\n");
    assert_eq!(texts[4], "*2\r\n$1\r\n2\r\n$1\r\n3\r\n");
    assert_eq!(pairs(&texts[5]).len(), 2);
}
