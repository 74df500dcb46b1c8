//! Exact replies of SORT.

use cairn_protocol::resp::Version;

use super::super::testing::Bench;
use super::Pattern;

const SYNTAX: &str = "-ERR syntax error\r\n";
const BAD_SCORES: &str = "-ERR One or more scores can't be converted into double\r\n";

/// The elements of an array reply, joined.
fn run(bench: &mut Bench, line: &str) -> String {
    let reply = bench.run(line);
    if !reply.starts_with('*') {
        return reply;
    }
    let lines: Vec<&str> = reply.split("\r\n").skip(1).collect();
    let mut values = Vec::new();
    let mut at = 0;
    while at + 1 < lines.len() {
        if lines[at] == "$-1" || lines[at] == "_" {
            values.push("nil");
            at += 1;
        } else {
            values.push(lines[at + 1]);
            at += 2;
        }
    }
    values.join(" ")
}

fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(run(bench, line), *want, "{line}");
    }
}

#[test]
fn numbers_and_texts_are_sorted() {
    let mut bench = Bench::new();
    bench.run("RPUSH l 3 10 1 2");
    script(
        &mut bench,
        &[
            ("SORT l", "1 2 3 10"),
            ("SORT l DESC", "10 3 2 1"),
            ("SORT l ALPHA", "1 10 2 3"),
            ("SORT l ALPHA DESC", "3 2 10 1"),
            ("SORT l desc asc", "1 2 3 10"),
            ("SORT l LIMIT 1 2", "2 3"),
            ("SORT l LIMIT -5 2", "1 2"),
            ("SORT l LIMIT 2 -1", "3 10"),
            ("SORT l LIMIT 2 0", ""),
            ("SORT l LIMIT 9 9", ""),
            ("SORT l LIMIT 1 9223372036854775807", "2 3 10"),
            ("SORT l BY nosort", "3 10 1 2"),
            ("SORT l BY nosort DESC", "2 1 10 3"),
            ("SORT l BY nosort DESC LIMIT 1 2", "1 10"),
            ("SORT_RO l BY nosort LIMIT 1 2", "10 1"),
            // What stays in order does so whatever else is named.
            ("SORT l BY nosort BY w_*", "3 10 1 2"),
            ("SORT l BY w_* BY nosort", "3 10 1 2"),
            ("SORT none", ""),
            ("SORT l LIMIT 1", SYNTAX),
            (
                "SORT l LIMIT x 1",
                "-ERR value is not an integer or out of range\r\n",
            ),
            ("SORT l BY", SYNTAX),
            ("SORT l UP", SYNTAX),
            ("SORT_RO l STORE d", SYNTAX),
            ("RPUSH l x", ":5\r\n"),
            ("SORT l", BAD_SCORES),
            ("SORT l STORE d", BAD_SCORES),
            ("SET s v", "+OK\r\n"),
            (
                "SORT s",
                "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
            ),
        ],
    );
    bench.run("RPUSH floats inf 0x10 -1e3 1.5 -inf");
    let sorted = run(&mut bench, "SORT floats");
    assert_eq!(sorted, "-inf -1e3 1.5 0x10 inf");
    bench.run("RPUSH nan nan");
    assert_eq!(bench.run("SORT nan"), BAD_SCORES);
    bench.run_args(&["RPUSH", "blank", " 2", "", "1"]);
    assert_eq!(run(&mut bench, "SORT blank"), " 1  2");
}

#[test]
fn by_and_get_read_other_keys() {
    let mut bench = Bench::new();
    bench.run("RPUSH l a b c");
    bench.run("MSET w_a 3 w_b 1 w_c 2 v_a A v_c C v_a-> arrow");
    script(
        &mut bench,
        &[
            ("SORT l BY w_*", "b c a"),
            ("SORT l BY w_* GET v_* GET #", "nil b C c A a"),
            ("SORT l BY w_* DESC LIMIT 0 1", "a"),
            ("SORT l BY w_* ALPHA", "b c a"),
            ("SORT l BY none_* GET v_*->", "arrow nil nil"),
            ("SORT l BY v_* ALPHA", "b a c"),
            ("SORT l BY v_*", BAD_SCORES),
            ("SORT l BY nosort GET constant", "nil nil nil"),
            ("SORT l BY nosort GET v_*->f", "nil nil nil"),
        ],
    );
    bench.version = Version::V3;
    assert_eq!(
        bench.run("SORT l BY nosort LIMIT 1 1 GET v_*"),
        "*1\r\n_\r\n"
    );
}

#[test]
fn sets_are_sorted_and_hashes_read() {
    let mut bench = Bench::new();
    bench.run("SADD numbers 30 4 1 200");
    bench.run("SADD s b aa a");
    bench.run("HSET w_a f 3 -> x");
    bench.run("HSET w_b f 1");
    bench.run("SET w_aa 2");
    script(
        &mut bench,
        &[
            ("SORT numbers DESC LIMIT 1 2", "30 4"),
            ("SORT s ALPHA", "a aa b"),
            ("SORT s BY w_*->f", "aa b a"),
            ("SORT s BY w_*->f GET w_*->f GET #", "nil aa 1 b 3 a"),
            ("SORT s BY w_*->none GET w_*", "nil 2 nil"),
            ("SORT s", BAD_SCORES),
            ("SORT s BY nosort STORE d", ":3\r\n"),
            ("LRANGE d 0 -1", "a aa b"),
            ("SORT s DESC BY nosort STORE d", ":3\r\n"),
            ("LRANGE d 0 -1", "b aa a"),
            (
                "SORT w_a",
                "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
            ),
        ],
    );
}

#[test]
fn sorted_sets_keep_their_order_unless_they_are_sorted() {
    let mut bench = Bench::new();
    bench.run("ZADD z 1 a 5 b 2 c 10 d 3 e");
    script(
        &mut bench,
        &[
            ("SORT z ALPHA DESC", "e d c b a"),
            ("SORT z BY nosort", "a c e b d"),
            ("SORT z BY nosort DESC", "d b e c a"),
            ("SORT z BY nosort DESC LIMIT 1 2", "b e"),
            ("SORT z BY nosort LIMIT 5 10", ""),
            ("SORT z BY nosort LIMIT -10 100", "a c e b d"),
            ("SORT z BY nosort LIMIT 0 0", ""),
        ],
    );
}

#[test]
fn store_makes_a_list_and_announces_it() {
    let mut bench = Bench::new();
    bench.run("RPUSH l 3 1 2");
    bench.run("SET v_1 one");
    for (line, want, events) in [
        ("SORT l STORE d", ":3\r\n", &["new", "sortstore"][..]),
        ("SORT l STORE d", ":3\r\n", &["sortstore"]),
        ("SORT l GET v_* STORE l", ":3\r\n", &["sortstore"]),
        (
            "LRANGE l 0 -1",
            "*3\r\n$3\r\none\r\n$0\r\n\r\n$0\r\n\r\n",
            &[],
        ),
        ("SORT none STORE d", ":0\r\n", &["del"]),
        ("SORT none STORE d", ":0\r\n", &[]),
    ] {
        assert_eq!(bench.run(line), want, "{line}");
        assert_eq!(bench.event_names(), events, "{line}");
    }
    bench.run("EXPIRE l 100");
    bench.run("SORT l ALPHA STORE l");
    assert_eq!(bench.run("TTL l"), ":-1\r\n");
}

#[test]
fn a_cluster_refuses_keys_made_of_elements() {
    let mut bench = Bench::new();
    bench.run("RPUSH l 1");
    bench.context.cluster = true;
    let by = "-ERR BY option of SORT denied in Cluster mode.\r\n";
    let get = "-ERR GET option of SORT denied in Cluster mode.\r\n";
    script(
        &mut bench,
        &[
            ("SORT l BY w_*", by),
            ("SORT l BY nosort", "1"),
            ("SORT l GET #", get),
        ],
    );
}

#[test]
fn patterns_are_read_as_c_strings() {
    assert!(Pattern::of(b"a*").is_variable());
    assert!(!Pattern::of(b"a\0*").is_variable());
    assert!(!Pattern::of(b"#").is_variable());
}
