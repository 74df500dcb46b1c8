//! Exact replies of stream commands, with nodes of a few entries and of many.

use std::sync::atomic::Ordering;

use cairn_protocol::resp::Version;

use super::super::testing::Bench;
use crate::txn::{EventClass, Expiry};

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
const BAD_ID: &str = "-ERR Invalid stream ID specified as stream command argument\r\n";
const SYNTAX: &str = "-ERR syntax error\r\n";

fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(bench.run(line), *want, "{line}");
    }
}

/// A bench whose nodes hold so many entries.
fn bench(node_entries: usize) -> Bench {
    let bench = Bench::new();
    let limits = &bench.store.limits;
    limits
        .stream_node_entries
        .store(node_entries, Ordering::Relaxed);
    bench
}

/// Adds entries 1-0 to `n`-0.
fn fill(bench: &mut Bench, key: &str, n: u64) {
    for ms in 1..=n {
        assert!(
            bench
                .run(&format!("XADD {key} {ms} f {ms}"))
                .starts_with('$')
        );
    }
}

/// The ids of a reply of entries, in order.
fn ids(reply: &str) -> Vec<String> {
    let lines = reply.split("\r\n");
    let is_id = |line: &&str| {
        let mut parts = line.split('-');
        let number = |part: Option<&str>| part.is_some_and(|p| p.parse::<u64>().is_ok());
        number(parts.next()) && number(parts.next())
    };
    lines.filter(is_id).map(str::to_owned).collect()
}

/// The field behind a name in a reply of XINFO.
fn info(bench: &mut Bench, line: &str, name: &str) -> String {
    let reply = bench.run(line);
    let mut lines = reply.split("\r\n").skip_while(|line| *line != name).skip(1);
    match lines.next().unwrap() {
        line if line.starts_with('$') && line != "$-1" => lines.next().unwrap().to_owned(),
        line => line.to_owned(),
    }
}

#[test]
fn xadd_answers_with_ids_as_redis_does() {
    let mut bench = bench(100);
    let now = bench.context.now;
    let auto = format!("$15\r\n{now}-0\r\n");
    let next = format!("$15\r\n{now}-1\r\n");
    let small = "-ERR The ID specified in XADD is equal or smaller than the target stream top \
                 item\r\n";
    let arity = "-ERR wrong number of arguments for 'xadd' command\r\n";
    script(
        &mut bench,
        &[
            ("XADD s NOMKSTREAM * f v", "$-1\r\n"),
            ("EXISTS s", ":0\r\n"),
            ("XADD s * f v", &auto),
            ("XADD s * f v", &next),
            ("XADD s 5 f v", small),
            (
                "XADD s 0-0 f v",
                "-ERR The ID specified in XADD must be greater than 0-0\r\n",
            ),
            ("XADD t 1-* f v", "$3\r\n1-0\r\n"),
            ("XADD t 1-* f v", "$3\r\n1-1\r\n"),
            ("XADD t 2 f v", "$3\r\n2-0\r\n"),
            (
                "XADD t 2-18446744073709551615 f v",
                "$22\r\n2-18446744073709551615\r\n",
            ),
            ("XADD t 2-* f v", small),
            ("XADD z 0-* f v", "$3\r\n0-1\r\n"),
            ("XADD t 1-x f v", BAD_ID),
            ("XADD t + f v", BAD_ID),
            ("XADD t * f", arity),
            ("XADD t * f v g", arity),
            (
                "XADD t MAXLEN 1 MINID 1 * f v",
                "-ERR syntax error, MAXLEN and MINID options at the same time are not compatible\r\n",
            ),
            (
                "XADD t MAXLEN -1 * f v",
                "-ERR The MAXLEN argument must be >= 0.\r\n",
            ),
            (
                "XADD t MAXLEN 1 LIMIT 1 * f v",
                "-ERR syntax error, LIMIT cannot be used without the special ~ option\r\n",
            ),
            (
                "XADD t LIMIT 1 * f v",
                "-ERR syntax error, LIMIT cannot be used without specifying a trimming strategy\r\n",
            ),
            (
                "XTRIM t LIMIT 0",
                "-ERR syntax error, XTRIM must be called with a trimming strategy\r\n",
            ),
            (
                "XADD m 18446744073709551615-18446744073709551615 f v",
                "$41\r\n18446744073709551615-18446744073709551615\r\n",
            ),
            (
                "XADD m * f v",
                "-ERR The stream has exhausted the last possible ID, unable to add more items\r\n",
            ),
            ("XLEN m", ":1\r\n"),
            ("XLEN nothing", ":0\r\n"),
            ("TYPE m", "+stream\r\n"),
            ("OBJECT ENCODING m", "$6\r\nstream\r\n"),
            ("SET x y", "+OK\r\n"),
            ("XADD x * f v", WRONG_TYPE),
            ("XLEN x", WRONG_TYPE),
            ("XRANGE x - +", WRONG_TYPE),
            ("XREAD STREAMS x 0", WRONG_TYPE),
        ],
    );
    bench.run("XADD n 1 f v");
    assert_eq!(bench.event_names(), ["new", "xadd"]);
    bench.run("XADD n MAXLEN 1 2 f v");
    assert_eq!(bench.event_names(), ["xadd", "xtrim"]);
    assert!(
        bench
            .events
            .iter()
            .all(|e| e.0 == EventClass::Stream && e.3 == "n")
    );
}

#[test]
fn ranges_are_the_same_in_records_and_in_rows() {
    for node in [1, 3, 100] {
        let mut bench = bench(node);
        fill(&mut bench, "s", 20);
        let all: Vec<String> = (1..=20).map(|ms| format!("{ms}-0")).collect();
        assert_eq!(ids(&bench.run("XRANGE s - +")), all);
        let mut back = all.clone();
        back.reverse();
        assert_eq!(ids(&bench.run("XREVRANGE s + -")), back);
        for (first, last) in [(1, 1), (3, 7), (19, 20), (5, 30), (20, 20)] {
            let want = &all[first - 1..last.min(20)];
            assert_eq!(ids(&bench.run(&format!("XRANGE s {first} {last}"))), want);
            let exclusive = format!("XRANGE s ({first} ({last}-0");
            let want = all.get(first..last.min(21) - 1).unwrap_or_default();
            assert_eq!(ids(&bench.run(&exclusive)), want);
            let mut want = all[first - 1..last.min(20)].to_vec();
            want.reverse();
            want.truncate(2);
            let line = format!("XREVRANGE s {last} {first} COUNT 2");
            assert_eq!(ids(&bench.run(&line)), want);
        }
        script(
            &mut bench,
            &[
                (
                    "XRANGE s 7 7",
                    "*1\r\n*2\r\n$3\r\n7-0\r\n*2\r\n$1\r\nf\r\n$1\r\n7\r\n",
                ),
                ("XRANGE s 7 3", "*0\r\n"),
                ("XRANGE s - + COUNT 0", "*-1\r\n"),
                ("XRANGE s - + COUNT -1", "*-1\r\n"),
                ("XRANGE nothing - + COUNT 0", "*0\r\n"),
                ("XRANGE s - + LIMIT 1", SYNTAX),
                ("XRANGE s x +", BAD_ID),
                ("XRANGE s (- +", BAD_ID),
                (
                    "XRANGE s - (0-0",
                    "-ERR invalid end ID for the interval\r\n",
                ),
            ],
        );
        let nodes = 20_usize.div_ceil(node);
        let keys = info(&mut bench, "XINFO STREAM s", "radix-tree-keys");
        assert_eq!(keys, format!(":{nodes}"));
    }
}

#[test]
fn deleted_entries_are_gone_wherever_they_were() {
    for node in [1, 3, 100] {
        let mut bench = bench(node);
        fill(&mut bench, "s", 10);
        let mut left: Vec<u64> = (1..=10).collect();
        for ms in [5, 1, 10, 9, 2, 8, 3, 7, 4, 6] {
            assert_eq!(bench.run(&format!("XDEL s {ms}")), ":1\r\n");
            assert_eq!(bench.event_names(), ["xdel"]);
            assert_eq!(bench.run(&format!("XDEL s {ms}")), ":0\r\n");
            left.retain(|other| *other != ms);
            let want: Vec<String> = left.iter().map(|ms| format!("{ms}-0")).collect();
            assert_eq!(ids(&bench.run("XRANGE s - +")), want, "{node} {ms}");
            assert_eq!(bench.run("XLEN s"), format!(":{}\r\n", left.len()));
            let first = want.first().map_or("0-0", |first| first);
            let told = info(&mut bench, "XINFO STREAM s", "recorded-first-entry-id");
            assert_eq!(told, first);
        }
        assert_eq!(info(&mut bench, "XINFO STREAM s", "radix-tree-keys"), ":0");
        assert_eq!(
            info(&mut bench, "XINFO STREAM s", "max-deleted-entry-id"),
            "10-0"
        );
        assert_eq!(bench.run("EXISTS s"), ":1\r\n");
        assert_eq!(bench.run("XADD s 11 f v"), "$4\r\n11-0\r\n");
        assert_eq!(ids(&bench.run("XRANGE s - +")), ["11-0"]);
        assert_eq!(bench.run("XDEL s x"), BAD_ID);
        assert_eq!(bench.run("XDEL nothing x"), ":0\r\n");
    }
}

#[test]
fn trimming_is_exact_or_by_whole_nodes() {
    let mut bench = bench(10);
    fill(&mut bench, "s", 35);
    script(
        &mut bench,
        &[
            ("XTRIM s MAXLEN ~ 26", ":0\r\n"),
            ("XTRIM s MAXLEN ~ 25", ":10\r\n"),
            ("XTRIM s MAXLEN = 22", ":3\r\n"),
            ("XTRIM s MAXLEN 22", ":0\r\n"),
            ("XTRIM s MINID ~ 20", ":0\r\n"),
            ("XTRIM s MINID ~ 21", ":7\r\n"),
            ("XTRIM s MINID 24", ":3\r\n"),
            ("XLEN s", ":12\r\n"),
            ("XTRIM s MAXLEN ~ 0 LIMIT 6", ":0\r\n"),
            ("XTRIM s MAXLEN ~ 0 LIMIT 7", ":7\r\n"),
            ("XTRIM s MAXLEN 2", ":3\r\n"),
            ("XDEL s 33", ":0\r\n"),
        ],
    );
    assert_eq!(ids(&bench.run("XRANGE s - +")), ["34-0", "35-0"]);
    assert_eq!(
        info(&mut bench, "XINFO STREAM s", "recorded-first-entry-id"),
        "34-0"
    );
    script(
        &mut bench,
        &[
            ("XTRIM s MINID 99", ":2\r\n"),
            ("XLEN s", ":0\r\n"),
            ("XTRIM nothing MAXLEN 0", ":0\r\n"),
            ("XADD s 40 f v", "$4\r\n40-0\r\n"),
        ],
    );
    assert_eq!(ids(&bench.run("XRANGE s - +")), ["40-0"]);
}

#[test]
fn what_was_trimmed_within_a_row_stays_gone() {
    let mut bench = bench(10);
    fill(&mut bench, "s", 25);
    script(
        &mut bench,
        &[
            ("XTRIM s MAXLEN 22", ":3\r\n"),
            ("XDEL s 2", ":0\r\n"),
            ("XDEL s 4", ":1\r\n"),
            ("XDEL s 6", ":1\r\n"),
        ],
    );
    let want: Vec<String> = [5]
        .into_iter()
        .chain(7..=25)
        .map(|n| format!("{n}-0"))
        .collect();
    assert_eq!(ids(&bench.run("XRANGE s - +")), want);
    // The rest of the first row goes, one by one.
    for ms in [5, 7, 8, 9, 10] {
        assert_eq!(bench.run(&format!("XDEL s {ms}")), ":1\r\n");
    }
    assert_eq!(info(&mut bench, "XINFO STREAM s", "radix-tree-keys"), ":2");
    bench.run("XTRIM s MAXLEN 8");
    for ms in 21..=25 {
        assert_eq!(bench.run(&format!("XDEL s {ms}")), ":1\r\n");
    }
    // The first row was made the tail again, what was trimmed with it.
    assert_eq!(ids(&bench.run("XRANGE s - +")), ["18-0", "19-0", "20-0"]);
    assert_eq!(bench.run("XDEL s 17"), ":0\r\n");
    assert_eq!(bench.run("XTRIM s MAXLEN 1"), ":2\r\n");
    assert_eq!(ids(&bench.run("XRANGE s - +")), ["20-0"]);
}

#[test]
fn a_stream_with_groups_loses_its_entries_only() {
    let mut bench = bench(2);
    fill(&mut bench, "s", 9);
    script(
        &mut bench,
        &[
            ("XGROUP CREATE s g 0", "+OK\r\n"),
            ("XTRIM s MAXLEN 0", ":9\r\n"),
            (
                "XINFO GROUPS s",
                "*1\r\n*12\r\n$4\r\nname\r\n$1\r\ng\r\n$9\r\nconsumers\r\n:0\r\n$7\r\npending\r\n:0\r\n\
              $17\r\nlast-delivered-id\r\n$3\r\n0-0\r\n$12\r\nentries-read\r\n$-1\r\n\
              $3\r\nlag\r\n:0\r\n",
            ),
            ("XADD s 10 f v", "$4\r\n10-0\r\n"),
        ],
    );
    assert_eq!(info(&mut bench, "XINFO GROUPS s", "lag"), ":1");
}

#[test]
fn big_entries_are_rows_at_once() {
    let mut bench = bench(100);
    let big = "x".repeat(20_000);
    bench.run(&format!("XADD s 1 f {big}"));
    bench.run("XADD s 2 f v");
    bench.run(&format!("XADD s 3 f {big}"));
    assert_eq!(ids(&bench.run("XRANGE s - + COUNT 2")), ["1-0", "2-0"]);
    assert_eq!(ids(&bench.run("XREVRANGE s + - COUNT 2")), ["3-0", "2-0"]);
    assert_eq!(ids(&bench.run("XREAD STREAMS s 2")), ["3-0"]);
    script(
        &mut bench,
        &[
            ("XDEL s 2", ":1\r\n"),
            ("XDEL s 1", ":1\r\n"),
            ("XLEN s", ":1\r\n"),
        ],
    );
    assert_eq!(bench.run("XADD s 4 f v"), "$3\r\n4-0\r\n");
    assert_eq!(ids(&bench.run("XREVRANGE s + -")), ["4-0", "3-0"]);
}

#[test]
fn xread_shows_what_is_above_an_id_or_waits() {
    let mut bench = bench(2);
    fill(&mut bench, "s", 5);
    bench.run("XADD t 9 f v");
    script(
        &mut bench,
        &[
            ("XREAD STREAMS s 5", "*-1\r\n"),
            (
                "XREAD COUNT 1 STREAMS s nothing t 4 0 0",
                "*2\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n5-0\r\n*2\r\n$1\r\nf\r\n$1\r\n5\r\n\
              *2\r\n$1\r\nt\r\n*1\r\n*2\r\n$3\r\n9-0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
            ),
            ("XREAD STREAMS s $", "*-1\r\n"),
            (
                "XREAD STREAMS s t 0",
                "-ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be \
              specified.\r\n",
            ),
            (
                "XREAD STREAMS s >",
                "-ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> \
              <consumer> option.\r\n",
            ),
            (
                "XREAD GROUP g c STREAMS s 0",
                "-ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.\r\n",
            ),
            (
                "XREAD BLOCK x STREAMS s 0",
                "-ERR timeout is not an integer or out of range\r\n",
            ),
            ("XREAD BLOCK -1 STREAMS s 0", "-ERR timeout is negative\r\n"),
            (
                "XREAD BLOCK 7 STREAMS s 5",
                "-ERR the command cannot wait here\r\n",
            ),
        ],
    );
    bench.context.may_block = false;
    assert_eq!(bench.run("XREAD BLOCK 7 STREAMS s 5"), "*-1\r\n");
    bench.version = Version::V3;
    let want = "%1\r\n$1\r\nt\r\n*1\r\n*2\r\n$3\r\n9-0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
    assert_eq!(bench.run("XREAD STREAMS t 0"), want);
}

#[test]
fn groups_deliver_each_entry_once_and_keep_it_pending() {
    for node in [1, 100] {
        let mut bench = bench(node);
        fill(&mut bench, "s", 5);
        script(
            &mut bench,
            &[
                ("XGROUP CREATE s g 0", "+OK\r\n"),
                (
                    "XGROUP CREATE s g 0",
                    "-BUSYGROUP Consumer Group name already exists\r\n",
                ),
                ("XGROUP CREATECONSUMER s g b", ":1\r\n"),
                ("XGROUP CREATECONSUMER s g b", ":0\r\n"),
                ("XPENDING s g", "*4\r\n:0\r\n$-1\r\n$-1\r\n*-1\r\n"),
            ],
        );
        let read = "XREADGROUP GROUP g a COUNT 2 STREAMS s >";
        assert_eq!(ids(&bench.run(read)), ["1-0", "2-0"]);
        assert_eq!(bench.event_names(), ["xgroup-createconsumer"]);
        let read = "XREADGROUP GROUP g b COUNT 2 STREAMS s >";
        assert_eq!(ids(&bench.run(read)), ["3-0", "4-0"]);
        assert!(bench.event_names().is_empty());
        let noack = "XREADGROUP GROUP g a NOACK STREAMS s >";
        assert_eq!(ids(&bench.run(noack)), ["5-0"]);
        assert_eq!(bench.run(noack), "*-1\r\n");
        assert_eq!(info(&mut bench, "XINFO GROUPS s", "lag"), ":0");
        assert_eq!(info(&mut bench, "XINFO GROUPS s", "entries-read"), ":5");
        bench.context.now += 7;
        script(
            &mut bench,
            &[
                (
                    "XPENDING s g",
                    "*4\r\n:4\r\n$3\r\n1-0\r\n$3\r\n4-0\r\n*2\r\n*2\r\n$1\r\na\r\n$1\r\n2\r\n\
                  *2\r\n$1\r\nb\r\n$1\r\n2\r\n",
                ),
                (
                    "XPENDING s g - + 1",
                    "*1\r\n*4\r\n$3\r\n1-0\r\n$1\r\na\r\n:7\r\n:1\r\n",
                ),
                ("XPENDING s g IDLE 8 - + 9", "*0\r\n"),
                (
                    "XPENDING s g (3 + 9 b",
                    "*1\r\n*4\r\n$3\r\n4-0\r\n$1\r\nb\r\n:7\r\n:1\r\n",
                ),
                ("XPENDING s g - + 9 nobody", "*0\r\n"),
                ("XPENDING s g -", SYNTAX),
                (
                    "XPENDING s x",
                    "-NOGROUP No such key 's' or consumer group 'x'\r\n",
                ),
                ("XDEL s 1", ":1\r\n"),
                (
                    "XREADGROUP GROUP g a STREAMS s 0",
                    "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*-1\r\n\
                  *2\r\n$3\r\n2-0\r\n*2\r\n$1\r\nf\r\n$1\r\n2\r\n",
                ),
                (
                    "XPENDING s g 2 2 1",
                    "*1\r\n*4\r\n$3\r\n2-0\r\n$1\r\na\r\n:0\r\n:2\r\n",
                ),
                ("XACK s g 1 1 2 9", ":2\r\n"),
                ("XACK s nobody 1", ":0\r\n"),
                ("XACK s g 3 x", BAD_ID),
                ("XPENDING s g - + 9 a", "*0\r\n"),
                (
                    "XREADGROUP GROUP g a STREAMS s 0",
                    "*1\r\n*2\r\n$1\r\ns\r\n*0\r\n",
                ),
                (
                    "XINFO CONSUMERS s g",
                    "*2\r\n*6\r\n$4\r\nname\r\n$1\r\na\r\n$7\r\npending\r\n:0\r\n$4\r\nidle\r\n:0\r\n\
                  *6\r\n$4\r\nname\r\n$1\r\nb\r\n$7\r\npending\r\n:2\r\n$4\r\nidle\r\n:7\r\n",
                ),
                ("XGROUP DELCONSUMER s g b", ":2\r\n"),
                ("XGROUP DELCONSUMER s g b", ":0\r\n"),
                ("XPENDING s g", "*4\r\n:0\r\n$-1\r\n$-1\r\n*-1\r\n"),
                ("XGROUP DESTROY s g", ":1\r\n"),
                ("XGROUP DESTROY s g", ":0\r\n"),
                (
                    "XREADGROUP GROUP g a STREAMS s >",
                    "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP \
                  option\r\n",
                ),
            ],
        );
    }
}

#[test]
fn a_group_that_is_made_again_has_nothing_of_its_former_self() {
    let mut bench = bench(1);
    fill(&mut bench, "s", 3);
    bench.run("XGROUP CREATE s g 0");
    bench.run("XREADGROUP GROUP g a STREAMS s >");
    let lines = [
        "XGROUP DESTROY s g",
        "XGROUP CREATE s g 0",
        "XPENDING s g - + 9",
        "XINFO CONSUMERS s g",
    ];
    let batch: Vec<Vec<Vec<u8>>> = lines
        .iter()
        .map(|line| super::super::testing::words(line))
        .collect();
    let batch: Vec<&[Vec<u8>]> = batch.iter().map(|words| &words[..]).collect();
    let replies = bench.run_batch(&batch);
    assert_eq!(replies, [&b":1\r\n"[..], b"+OK\r\n", b"*0\r\n", b"*0\r\n"]);
    bench.run("XREADGROUP GROUP g b STREAMS s >");
    assert_eq!(info(&mut bench, "XINFO GROUPS s", "pending"), ":3");
    assert_eq!(info(&mut bench, "XINFO GROUPS s", "consumers"), ":1");
}

#[test]
fn a_set_id_brings_pending_entries_to_others() {
    let mut bench = bench(100);
    fill(&mut bench, "s", 3);
    script(
        &mut bench,
        &[
            (
                "XGROUP CREATE nothing g $",
                "-ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may \
              want to use the MKSTREAM option to create an empty stream automatically.\r\n",
            ),
            (
                "XGROUP CREATE s g $ ENTRIESREAD -2",
                "-ERR value for ENTRIESREAD must be positive or -1\r\n",
            ),
            (
                "XGROUP CREATE s g $ WHAT",
                "-ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP.\r\n",
            ),
            ("XGROUP CREATE s g 0 ENTRIESREAD 2", "+OK\r\n"),
            (
                "XGROUP SETID s x 0",
                "-NOGROUP No such consumer group 'x' for key name 's'\r\n",
            ),
        ],
    );
    assert_eq!(info(&mut bench, "XINFO GROUPS s", "lag"), ":1");
    bench.run("XREADGROUP GROUP g a STREAMS s >");
    script(
        &mut bench,
        &[
            ("XGROUP SETID s g -", "+OK\r\n"),
            ("XGROUP SETID s g $", "+OK\r\n"),
            ("XGROUP SETID s g 1", "+OK\r\n"),
        ],
    );
    assert_eq!(bench.event_names(), ["xgroup-setid"]);
    assert_eq!(
        ids(&bench.run("XREADGROUP GROUP g b STREAMS s >")),
        ["2-0", "3-0"]
    );
    let want = "*4\r\n:3\r\n$3\r\n1-0\r\n$3\r\n3-0\r\n*2\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n\
                *2\r\n$1\r\nb\r\n$1\r\n2\r\n";
    assert_eq!(bench.run("XPENDING s g"), want);
    bench.run("XGROUP CREATE new g $ MKSTREAM");
    assert_eq!(bench.event_names(), ["new", "xgroup-create"]);
    assert_eq!(bench.run("XLEN new"), ":0\r\n");
}

#[test]
fn claims_take_over_what_is_idle() {
    for node in [1, 100] {
        let mut bench = bench(node);
        fill(&mut bench, "s", 5);
        bench.run("XGROUP CREATE s g 0");
        bench.run("XREADGROUP GROUP g a COUNT 4 STREAMS s >");
        bench.context.now += 50;
        bench.run("XDEL s 2");
        script(
            &mut bench,
            &[
                ("XCLAIM s g b 51 1", "*0\r\n"),
                ("XCLAIM s g b 50 1 JUSTID", "*1\r\n$3\r\n1-0\r\n"),
                (
                    "XCLAIM s g b 0 2 3",
                    "*1\r\n*2\r\n$3\r\n3-0\r\n*2\r\n$1\r\nf\r\n$1\r\n3\r\n",
                ),
                ("XCLAIM s g b 0 5", "*0\r\n"),
                (
                    "XCLAIM s g b 0 5 FORCE JUSTID IDLE 9",
                    "*1\r\n$3\r\n5-0\r\n",
                ),
                ("XCLAIM s g b 0 77 FORCE", "*0\r\n"),
                (
                    "XPENDING s g - + 9",
                    "*4\r\n*4\r\n$3\r\n1-0\r\n$1\r\nb\r\n:0\r\n:1\r\n\
                  *4\r\n$3\r\n3-0\r\n$1\r\nb\r\n:0\r\n:2\r\n\
                  *4\r\n$3\r\n4-0\r\n$1\r\na\r\n:50\r\n:1\r\n\
                  *4\r\n$3\r\n5-0\r\n$1\r\nb\r\n:9\r\n:1\r\n",
                ),
                (
                    "XCLAIM s g c 0 5 RETRYCOUNT 7 TIME 1000 JUSTID",
                    "*1\r\n$3\r\n5-0\r\n",
                ),
                (
                    "XPENDING s g 5 5 1",
                    "*1\r\n*4\r\n$3\r\n5-0\r\n$1\r\nc\r\n:999999999050\r\n:7\r\n",
                ),
                (
                    "XCLAIM s g c x 5",
                    "-ERR Invalid min-idle-time argument for XCLAIM\r\n",
                ),
                (
                    "XCLAIM s g c 0 5 IDLE x",
                    "-ERR Invalid IDLE option argument for XCLAIM\r\n",
                ),
                (
                    "XCLAIM s g c 0 5 WHAT",
                    "-ERR Unrecognized XCLAIM option 'WHAT'\r\n",
                ),
                (
                    "XCLAIM s x c 0 5",
                    "-NOGROUP No such key 's' or consumer group 'x'\r\n",
                ),
                ("XDEL s 3", ":1\r\n"),
                (
                    "XAUTOCLAIM s g d 0 - COUNT 1 JUSTID",
                    "*3\r\n$3\r\n3-0\r\n*1\r\n$3\r\n1-0\r\n*0\r\n",
                ),
                (
                    "XAUTOCLAIM s g d 0 3-0 COUNT 2",
                    "*3\r\n$3\r\n5-0\r\n*1\r\n*2\r\n$3\r\n4-0\r\n*2\r\n$1\r\nf\r\n$1\r\n4\r\n\
                  *1\r\n$3\r\n3-0\r\n",
                ),
                (
                    "XAUTOCLAIM s g d 99999999999999 -",
                    "*3\r\n$3\r\n0-0\r\n*0\r\n*0\r\n",
                ),
                ("XAUTOCLAIM s g d 0 - COUNT 0", "-ERR COUNT must be > 0\r\n"),
                ("XAUTOCLAIM s g d 0 x", BAD_ID),
                ("XAUTOCLAIM s g d 0 - WHAT", SYNTAX),
            ],
        );
        let want = "*2\r\n*2\r\n$1\r\nc\r\n$1\r\n1\r\n*2\r\n$1\r\nd\r\n$1\r\n2\r\n";
        assert!(bench.run("XPENDING s g").ends_with(want));
    }
}

#[test]
fn xsetid_changes_counters_but_not_below_what_is_there() {
    let mut bench = bench(2);
    fill(&mut bench, "s", 5);
    script(
        &mut bench,
        &[
            ("XSETID nothing 1", "-ERR no such key\r\n"),
            (
                "XSETID s 4",
                "-ERR The ID specified in XSETID is smaller than the target stream top item\r\n",
            ),
            (
                "XSETID s 9 ENTRIESADDED 4",
                "-ERR The entries_added specified in XSETID is smaller than the target stream \
              length\r\n",
            ),
            (
                "XSETID s 9 ENTRIESADDED -1",
                "-ERR entries_added must be positive\r\n",
            ),
            (
                "XSETID s 9 MAXDELETEDID 10",
                "-ERR The ID specified in XSETID is smaller than the provided \
              max_deleted_entry_id\r\n",
            ),
            ("XSETID s 9 WHAT 1", SYNTAX),
            ("XSETID s 9 ENTRIESADDED 100 MAXDELETEDID 3", "+OK\r\n"),
        ],
    );
    assert_eq!(bench.event_names(), ["xsetid"]);
    assert_eq!(info(&mut bench, "XINFO STREAM s", "entries-added"), ":100");
    assert_eq!(
        info(&mut bench, "XINFO STREAM s", "last-generated-id"),
        "9-0"
    );
    assert_eq!(
        info(&mut bench, "XINFO STREAM s", "max-deleted-entry-id"),
        "3-0"
    );
}

#[test]
fn xinfo_tells_all_of_a_stream() {
    let mut bench = bench(100);
    bench.run("XADD s 1 f v");
    bench.run("XGROUP CREATE s g 0");
    bench.run("XREADGROUP GROUP g a STREAMS s >");
    let now = bench.context.now;
    let head = "$6\r\nlength\r\n:1\r\n$15\r\nradix-tree-keys\r\n:1\r\n\
                $16\r\nradix-tree-nodes\r\n:2\r\n$17\r\nlast-generated-id\r\n$3\r\n1-0\r\n\
                $20\r\nmax-deleted-entry-id\r\n$3\r\n0-0\r\n$13\r\nentries-added\r\n:1\r\n\
                $23\r\nrecorded-first-entry-id\r\n$3\r\n1-0\r\n";
    let entry = "*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
    let short = format!(
        "*20\r\n{head}$6\r\ngroups\r\n:1\r\n$11\r\nfirst-entry\r\n{entry}$10\r\nlast-entry\r\n{entry}"
    );
    assert_eq!(bench.run("XINFO STREAM s"), short);
    let full = format!(
        "%9\r\n{head}$7\r\nentries\r\n*1\r\n{entry}$6\r\ngroups\r\n*1\r\n%7\r\n$4\r\nname\r\n\
         $1\r\ng\r\n$17\r\nlast-delivered-id\r\n$3\r\n1-0\r\n$12\r\nentries-read\r\n:1\r\n\
         $3\r\nlag\r\n:0\r\n$9\r\npel-count\r\n:1\r\n$7\r\npending\r\n*1\r\n*4\r\n$3\r\n1-0\r\n\
         $1\r\na\r\n:{now}\r\n:1\r\n$9\r\nconsumers\r\n*1\r\n%4\r\n$4\r\nname\r\n$1\r\na\r\n\
         $9\r\nseen-time\r\n:{now}\r\n$9\r\npel-count\r\n:1\r\n$7\r\npending\r\n*1\r\n*3\r\n\
         $3\r\n1-0\r\n:{now}\r\n:1\r\n"
    );
    bench.version = Version::V3;
    assert_eq!(bench.run("XINFO STREAM s FULL"), full);
    let syntax = "-ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO \
                  HELP.\r\n";
    script(
        &mut bench,
        &[
            ("XINFO STREAM nothing", "-ERR no such key\r\n"),
            ("XINFO STREAM s FUL", syntax),
            ("XINFO STREAM s FULL COUNT", syntax),
            (
                "XINFO CONSUMERS s x",
                "-NOGROUP No such consumer group 'x' for key name 's'\r\n",
            ),
            (
                "XGROUP CREATECONSUMER nothing g c",
                "-ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may \
              want to use the MKSTREAM option to create an empty stream automatically.\r\n",
            ),
        ],
    );
}

#[test]
fn copies_and_renames_take_everything_along() {
    for node in [2, 100] {
        let mut bench = bench(node);
        fill(&mut bench, "s", 9);
        bench.run("XGROUP CREATE s g 0");
        bench.run("XREADGROUP GROUP g a COUNT 3 STREAMS s >");
        let before = bench.run("XINFO STREAM s FULL");
        bench.run("COPY s c");
        bench.run("RENAME s r");
        assert_eq!(bench.run("XINFO STREAM c FULL"), before);
        assert_eq!(bench.run("XINFO STREAM r FULL"), before);
        assert_eq!(bench.run("XACK r g 1"), ":1\r\n");
        assert_eq!(bench.run("XINFO STREAM c FULL"), before);
        bench.run("DEL r");
        assert_eq!(bench.run("XINFO STREAM c FULL"), before);
    }
}

#[test]
fn a_dollar_is_fixed_when_the_client_begins_to_wait() {
    use crate::storage::generations::GenerationMap;
    use crate::txn::Txn;
    use cairn_protocol::resp::Requests;

    let mut bench = bench(100);
    fill(&mut bench, "s", 3);
    let maps: std::sync::Arc<GenerationMap> = bench.store.maps();
    let mut txn = Txn::read(&bench.store, &maps, bench.context);
    let mut resolve = |line: &str| {
        let mut requests = Requests::default();
        requests.push_owned(line.split(' ').map(str::as_bytes));
        let args = super::resolve_blocking_args(&mut txn, &requests.get(0))?;
        let words: Vec<String> = args
            .into_iter()
            .map(|arg| String::from_utf8(arg).unwrap())
            .collect();
        Some(words.join(" "))
    };
    assert_eq!(
        resolve("XREAD BLOCK 0 STREAMS s t u $ 1-1 $").unwrap(),
        "XREAD BLOCK 0 STREAMS s t u 3-0 1-1 0-0"
    );
    assert_eq!(resolve("XREAD BLOCK 0 STREAMS s 0"), None);
    assert_eq!(resolve("XREADGROUP GROUP g c BLOCK 0 STREAMS s >"), None);
}

/// Redis leaves LIMIT behind a threshold that it has made exact for its replicas.
#[test]
fn a_limit_of_a_master_is_let_pass() {
    let mut bench = Bench::new();
    bench.context.expiry = Expiry::Keeps;
    for line in ["XADD s 1-1 f v", "XADD s MAXLEN = 1 LIMIT 5 2-1 f v"] {
        assert!(bench.run(line).starts_with('$'), "{line}");
    }
    assert_eq!(bench.run("XLEN s"), ":1\r\n");
    assert_eq!(bench.run("XTRIM s MINID = 3 LIMIT 5"), ":1\r\n");
}

/// However entries are added, deleted, trimmed and ids are set back: what is shown is what
/// is left of them, with rows that name the next node and without.
#[test]
fn a_stream_holds_what_a_plain_list_of_its_ids_holds() {
    for seed in 0..40_u64 {
        let mut bench = bench(3);
        bench
            .store
            .names_nodes
            .store(seed % 4 > 0, Ordering::Release);
        let mut state = seed * 2 + 1;
        let mut random = |n: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        let long = "v".repeat(17_000);
        let (mut left, mut last, mut is_set_back) = (Vec::<u64>::new(), 0, false);
        for step in 0..400 {
            let line = match random(12) {
                0..=5 => {
                    last += 1 + random(3);
                    left.push(last);
                    let value = if random(12) == 0 { &long } else { "v" };
                    format!("XADD s {last} f {value}")
                }
                6..=8 if !left.is_empty() => {
                    let at = match random(3) {
                        0 => left.len() - 1,
                        1 => random(left.len() as u64) as usize,
                        _ => left.len() - 1 - random(left.len().min(4) as u64) as usize,
                    };
                    format!("XDEL s {}", left.remove(at))
                }
                9 if step > 100 => {
                    is_set_back = true;
                    last = left.last().copied().unwrap_or(0).max(1);
                    format!("XSETID s {last}")
                }
                // With ids set back below deleted ones that still have their place, MINID
                // leaves entries behind, as in Redis.
                n if n == 10 || is_set_back => {
                    let keep = left.len() - random(left.len().min(5) as u64 + 1) as usize;
                    left.drain(..left.len() - keep);
                    format!("XTRIM s MAXLEN = {keep}")
                }
                _ => {
                    let at = random(left.len().min(8) as u64 + 1) as usize;
                    let min = left.get(at).copied().unwrap_or(1);
                    left.retain(|id| *id >= min);
                    format!("XTRIM s MINID = {min}")
                }
            };
            let reply = bench.run(&line);
            assert!(
                !reply.starts_with('-'),
                "seed {seed}, step {step}: {line}: {reply}"
            );
            let shown = ids(&bench.run("XRANGE s - +"));
            let wanted: Vec<String> = left.iter().map(|id| format!("{id}-0")).collect();
            assert_eq!(shown, wanted, "seed {seed}, step {step}: {line}");
            assert_eq!(bench.run("XLEN s"), format!(":{}\r\n", left.len()));
        }
    }
}
