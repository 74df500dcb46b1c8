//! Exact replies of commands on several sets.

use std::collections::BTreeSet;

use cairn_protocol::resp::Version;

use super::super::testing::Bench;

fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(bench.run(line), *want, "{line}");
    }
}

/// Bulk strings of a flat reply.
fn strings(reply: &str) -> BTreeSet<String> {
    let lines = reply.split("\r\n").skip(1);
    let values = lines.filter(|line| !line.is_empty() && !line.starts_with('$'));
    values.map(str::to_owned).collect()
}

fn fill(bench: &mut Bench, key: &str, members: impl Iterator<Item = String>) {
    let members: Vec<String> = members.collect();
    bench.run(&format!("SADD {key} {}", members.join(" ")));
}

#[test]
fn results_of_small_sets_are_those_of_redis() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("SADD a 1 2 3 4", ":4\r\n"),
            ("SADD b 3 4 5", ":3\r\n"),
            ("SADD c 4 x", ":2\r\n"),
            ("SINTER a b", "*2\r\n$1\r\n3\r\n$1\r\n4\r\n"),
            ("SINTER a b c", "*1\r\n$1\r\n4\r\n"),
            ("SINTER a n", "*0\r\n"),
            ("SINTER n", "*0\r\n"),
            ("SINTER b", "*3\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n"),
            ("SINTER b b", "*3\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n"),
            (
                "SUNION b a",
                "*5\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n",
            ),
            (
                "SUNION n a a",
                "*4\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n",
            ),
            ("SUNION n", "*0\r\n"),
            ("SUNION c", "*2\r\n$1\r\n4\r\n$1\r\nx\r\n"),
            ("SDIFF a b", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n"),
            ("SDIFF a b c n", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n"),
            ("SDIFF a b a", "*0\r\n"),
            (
                "SDIFF a",
                "*4\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n",
            ),
            ("SDIFF n a", "*0\r\n"),
            ("SINTERCARD 2 a b", ":2\r\n"),
            ("SINTERCARD 2 a b LIMIT 1", ":1\r\n"),
            ("SINTERCARD 2 a b limit 0", ":2\r\n"),
            ("SINTERCARD 1 a LIMIT 3", ":3\r\n"),
            ("SINTERCARD 1 n", ":0\r\n"),
            (
                "SINTERCARD 0 a",
                "-ERR numkeys should be greater than 0\r\n",
            ),
            (
                "SINTERCARD x a",
                "-ERR numkeys should be greater than 0\r\n",
            ),
            (
                "SINTERCARD 3 a b",
                "-ERR Number of keys can't be greater than number of args\r\n",
            ),
            ("SINTERCARD 1 a b", "-ERR syntax error\r\n"),
            ("SINTERCARD 1 a LIMIT", "-ERR syntax error\r\n"),
            (
                "SINTERCARD 1 a LIMIT -1",
                "-ERR LIMIT can't be negative\r\n",
            ),
            ("SINTERCARD 1 a LIMIT x", "-ERR LIMIT can't be negative\r\n"),
        ],
    );
    bench.version = Version::V3;
    script(
        &mut bench,
        &[
            ("SINTER a b c", "~1\r\n$1\r\n4\r\n"),
            ("SINTER a n", "~0\r\n"),
            ("SDIFF n", "~0\r\n"),
            ("SUNION c", "~2\r\n$1\r\n4\r\n$1\r\nx\r\n"),
        ],
    );
}

#[test]
fn stored_results_replace_what_was_there() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("SADD a 1 2 x", ":3\r\n"),
            ("SADD b 1 2 3", ":3\r\n"),
            ("SET d v", "+OK\r\n"),
            ("PEXPIRE d 1000", ":1\r\n"),
            ("SINTERSTORE d a b", ":2\r\n"),
            ("OBJECT ENCODING d", "$6\r\nintset\r\n"),
            ("PTTL d", ":-1\r\n"),
            ("SUNIONSTORE d a b", ":4\r\n"),
            ("OBJECT ENCODING d", "$9\r\nhashtable\r\n"),
            ("SDIFFSTORE b b a", ":1\r\n"),
            ("SMEMBERS b", "*1\r\n$1\r\n3\r\n"),
            ("SUNIONSTORE a a b", ":4\r\n"),
            ("SCARD a", ":4\r\n"),
            ("SINTERSTORE d a n", ":0\r\n"),
            ("EXISTS d", ":0\r\n"),
            ("SINTERSTORE d n", ":0\r\n"),
        ],
    );
    for (line, want) in [
        ("SUNIONSTORE d a", &["new", "sunionstore"][..]),
        ("SUNIONSTORE d a", &["sunionstore"]),
        ("SINTERSTORE d a b", &["sinterstore"]),
        ("SDIFFSTORE d a b", &["sdiffstore"]),
        ("SDIFFSTORE d b a", &["del"]),
        ("SDIFFSTORE d b a", &[]),
        ("SINTERSTORE a n", &["del"]),
    ] {
        bench.run(line);
        assert_eq!(bench.event_names(), want, "{line}");
    }
}

#[test]
fn large_sets_are_computed_like_small_ones() {
    let mut bench = Bench::new();
    let member = |n: usize| format!("member:{n}");
    fill(&mut bench, "a", (0..1500).map(member));
    fill(&mut bench, "b", (1000..2500).map(member));
    fill(
        &mut bench,
        "c",
        (1400..1410)
            .map(member)
            .chain((0..50).map(|n| n.to_string())),
    );
    fill(&mut bench, "i", (0..600).map(|n| n.to_string()));
    let set = |range: std::ops::Range<usize>| range.map(member).collect::<BTreeSet<_>>();
    for (line, want) in [
        ("SINTER a b", set(1000..1500)),
        ("SINTER a b c", set(1400..1410)),
        ("SDIFF a b", set(0..1000)),
        ("SDIFF b a c", set(1500..2500)),
        ("SUNION a b", set(0..2500)),
        (
            "SUNION i c",
            (0..600)
                .map(|n| n.to_string())
                .chain(set(1400..1410))
                .collect(),
        ),
    ] {
        let reply = bench.run(line);
        assert_eq!(strings(&reply), want, "{line}");
        assert!(reply.starts_with(&format!("*{}\r\n", want.len())), "{line}");
        let (name, keys) = line.split_once(' ').unwrap();
        let stored = bench.run(&format!("{name}STORE d {keys}"));
        assert_eq!(stored, format!(":{}\r\n", want.len()), "{line}");
        assert_eq!(strings(&bench.run("SMEMBERS d")), want, "{line}");
    }
    assert_eq!(bench.run("SINTERCARD 2 a b"), ":500\r\n");
    assert_eq!(bench.run("SINTERCARD 2 a b LIMIT 13"), ":13\r\n");
    assert_eq!(bench.run("SUNIONSTORE a a b c"), ":2550\r\n");
    assert_eq!(bench.run("SCARD a"), ":2550\r\n");
}
