//! Exact replies of list commands, packed and spread.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use cairn_protocol::resp::Version;

use super::super::testing::{Bench, words};
use super::*;
use crate::storage::keys::slot_of;
use crate::txn::effects::RowEffect;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";
const SYNTAX: &str = "-ERR syntax error\r\n";
const MUST_BE_POSITIVE: &str = "-ERR value is out of range, must be positive\r\n";

fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(bench.run(line), *want, "{line}");
    }
}

fn array<A: AsRef<[u8]>>(values: impl IntoIterator<Item = A>) -> Vec<u8> {
    let values: Vec<A> = values.into_iter().collect();
    let mut out = format!("*{}\r\n", values.len()).into_bytes();
    for value in values {
        out.extend_from_slice(&bulk(value.as_ref()));
    }
    out
}

fn bulk(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

/// A bench whose lists are spread as soon as they have `n` + 1 elements.
fn nodes_of(n: i64) -> Bench {
    let bench = Bench::new();
    bench.store.limits.list_size.store(n, Ordering::Relaxed);
    bench
}

fn is_spread(bench: &Bench, name: &[u8]) -> bool {
    let slot = slot_of(name);
    let key = MetaKey::new(slot, bench.store.maps().live.get(0, slot), name);
    let record = bench.store.record(&key, true).unwrap().unwrap();
    record.header().unwrap().spread.is_some()
}

#[test]
fn replies_and_errors_are_those_of_redis() {
    for mut bench in [Bench::new(), nodes_of(2)] {
        script(
            &mut bench,
            &[
                ("SET s v", "+OK\r\n"),
                ("LPUSH s a", WRONG_TYPE),
                ("LPOP s", WRONG_TYPE),
                ("LLEN s", WRONG_TYPE),
                ("LRANGE s 0 -1", WRONG_TYPE),
                ("LPUSHX l a", ":0\r\n"),
                ("RPUSHX l a", ":0\r\n"),
                ("EXISTS l", ":0\r\n"),
                ("LPUSH l b a", ":2\r\n"),
                ("RPUSH l c d e", ":5\r\n"),
                ("RPUSHX l f", ":6\r\n"),
                ("LLEN l", ":6\r\n"),
                ("LINDEX l 0", "$1\r\na\r\n"),
                ("LINDEX l -1", "$1\r\nf\r\n"),
                ("LINDEX l 6", "$-1\r\n"),
                ("LINDEX l -7", "$-1\r\n"),
                ("LINDEX l x", NOT_AN_INTEGER),
                ("LINDEX none x", "$-1\r\n"),
                ("LRANGE l 1 2", "*2\r\n$1\r\nb\r\n$1\r\nc\r\n"),
                ("LRANGE l -2 100", "*2\r\n$1\r\ne\r\n$1\r\nf\r\n"),
                ("LRANGE l 4 2", "*0\r\n"),
                ("LRANGE l 0 -100", "*0\r\n"),
                ("LRANGE l -100 0", "*1\r\n$1\r\na\r\n"),
                ("LRANGE none 0 x", NOT_AN_INTEGER),
                ("LRANGE none 0 1", "*0\r\n"),
                ("LRANGE l 9223372036854775807 9223372036854775807", "*0\r\n"),
                ("LSET l 1 B", "+OK\r\n"),
                ("LSET l -7 x", "-ERR index out of range\r\n"),
                ("LSET l 6 x", "-ERR index out of range\r\n"),
                ("LSET l x x", NOT_AN_INTEGER),
                ("LSET none x x", "-ERR no such key\r\n"),
                ("LINSERT l before c x", ":7\r\n"),
                ("LINSERT l AFTER f y", ":8\r\n"),
                ("LINSERT l AFTER none y", ":-1\r\n"),
                ("LINSERT none AFTER none y", ":0\r\n"),
                ("LINSERT l BESIDE c y", SYNTAX),
                ("LREM l 0 c", ":1\r\n"),
                ("LREM l -1 none", ":0\r\n"),
                ("LREM l x none", NOT_AN_INTEGER),
                ("LREM none 1 a", ":0\r\n"),
                ("LPOP l 0", "*0\r\n"),
                ("LPOP l -1", MUST_BE_POSITIVE),
                ("LPOP l x", MUST_BE_POSITIVE),
                ("LPOP none 2", "*-1\r\n"),
                ("LPOP none", "$-1\r\n"),
                (
                    "LPOP l 1 2",
                    "-ERR wrong number of arguments for 'lpop' command\r\n",
                ),
                ("LPOP l 2", "*2\r\n$1\r\na\r\n$1\r\nB\r\n"),
                ("RPOP l 2", "*2\r\n$1\r\ny\r\n$1\r\nf\r\n"),
                ("LPOP l", "$1\r\nx\r\n"),
                ("RPOP l 10", "*2\r\n$1\r\ne\r\n$1\r\nd\r\n"),
                ("EXISTS l", ":0\r\n"),
                ("LTRIM none 0 1", "+OK\r\n"),
                ("LTRIM none 0 x", NOT_AN_INTEGER),
                ("RPUSH l a b c", ":3\r\n"),
                ("LTRIM l 1 1", "+OK\r\n"),
                ("LRANGE l 0 -1", "*1\r\n$1\r\nb\r\n"),
                ("OBJECT ENCODING l", "$9\r\nquicklist\r\n"),
                ("LTRIM l 5 10", "+OK\r\n"),
                ("EXISTS l", ":0\r\n"),
            ],
        );
        bench.version = Version::V3;
        assert_eq!(bench.run("LPOP none"), "_\r\n");
        assert_eq!(bench.run("LPOP none 1"), "_\r\n");
        assert_eq!(bench.run("LMPOP 1 none LEFT"), "_\r\n");
    }
}

#[test]
fn lpos_finds_positions_from_either_end() {
    for mut bench in [Bench::new(), nodes_of(2)] {
        bench.run("RPUSH l a b c 1 2 3 c c");
        script(
            &mut bench,
            &[
                ("LPOS l c", ":2\r\n"),
                ("LPOS l d", "$-1\r\n"),
                ("LPOS l c RANK 2", ":6\r\n"),
                ("LPOS l c RANK -1", ":7\r\n"),
                ("LPOS l c RANK 4", "$-1\r\n"),
                ("LPOS l c COUNT 2", "*2\r\n:2\r\n:6\r\n"),
                ("LPOS l c COUNT 0 RANK 2", "*2\r\n:6\r\n:7\r\n"),
                ("LPOS l c COUNT 0 RANK -2", "*2\r\n:6\r\n:2\r\n"),
                ("LPOS l c COUNT 0 MAXLEN 3", "*1\r\n:2\r\n"),
                ("LPOS l c COUNT 0 MAXLEN 2 RANK -1", "*2\r\n:7\r\n:6\r\n"),
                ("LPOS l d COUNT 0", "*0\r\n"),
                ("LPOS none d COUNT 0", "*0\r\n"),
                ("LPOS none d", "$-1\r\n"),
                ("LPOS l c RANK", SYNTAX),
                ("LPOS l c RANK x", NOT_AN_INTEGER),
                ("LPOS l c COUNT -1", "-ERR COUNT can't be negative\r\n"),
                ("LPOS l c MAXLEN -1", "-ERR MAXLEN can't be negative\r\n"),
                (
                    "LPOS l c RANK 0",
                    "-ERR RANK can't be zero: use 1 to start from the first match, 2 from the \
                     second ... or use negative to start from the end of the list\r\n",
                ),
            ],
        );
    }
}

#[test]
fn elements_move_between_lists_and_within_one() {
    for mut bench in [Bench::new(), nodes_of(2)] {
        bench.run("RPUSH a 1 2 3 4 5");
        script(
            &mut bench,
            &[
                ("LMOVE a b LEFT RIGHT", "$1\r\n1\r\n"),
                ("RPOPLPUSH a b", "$1\r\n5\r\n"),
                ("LMOVE a a LEFT RIGHT", "$1\r\n2\r\n"),
                ("LRANGE a 0 -1", "*3\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n2\r\n"),
                ("LRANGE b 0 -1", "*2\r\n$1\r\n5\r\n$1\r\n1\r\n"),
                ("LMOVE none b LEFT LEFT", "$-1\r\n"),
                ("LMOVE a b LEFT UP", SYNTAX),
                ("SET s v", "+OK\r\n"),
                ("LMOVE a s LEFT LEFT", WRONG_TYPE),
                ("RPOPLPUSH s a", WRONG_TYPE),
                ("LLEN a", ":3\r\n"),
            ],
        );
    }
}

#[test]
fn lmpop_reads_its_arguments_as_redis_does() {
    let mut bench = Bench::new();
    let keys = "-ERR numkeys should be greater than 0\r\n";
    let count = "-ERR count should be greater than 0\r\n";
    script(
        &mut bench,
        &[
            ("LMPOP 0 l LEFT", keys),
            ("LMPOP x l LEFT", keys),
            ("LMPOP 2 l LEFT", SYNTAX),
            ("LMPOP 9223372036854775807 l LEFT", SYNTAX),
            ("LMPOP 1 l UP", SYNTAX),
            ("LMPOP 1 l LEFT COUNT", SYNTAX),
            ("LMPOP 1 l LEFT COUNT 0", count),
            ("LMPOP 1 l LEFT COUNT 0 COUNT 1", count),
            ("LMPOP 1 l LEFT COUNT 1 COUNT 1", SYNTAX),
            ("LMPOP 1 l LEFT", "*-1\r\n"),
            ("RPUSH l a b c", ":3\r\n"),
            ("LMPOP 2 none l RIGHT", "*2\r\n$1\r\nl\r\n*1\r\n$1\r\nc\r\n"),
            (
                "LMPOP 1 l LEFT COUNT 10",
                "*2\r\n$1\r\nl\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
            ),
            ("EXISTS l", ":0\r\n"),
        ],
    );
}

#[test]
fn waiting_commands_block_or_are_out_of_time() {
    let mut bench = Bench::new();
    let blocks = "-ERR the command cannot wait here\r\n";
    let lines = [
        ("BLPOP a b 0", "*-1\r\n"),
        ("BRPOP a 0.5", "*-1\r\n"),
        ("BLMOVE a b LEFT RIGHT 1", "$-1\r\n"),
        ("BRPOPLPUSH a b 1", "$-1\r\n"),
        ("BLMPOP 1 2 a b LEFT COUNT 2", "*-1\r\n"),
    ];
    for (line, at_once) in lines {
        bench.context.may_block = true;
        assert_eq!(bench.run(line), blocks, "{line}");
        bench.context.may_block = false;
        assert_eq!(bench.run(line), at_once, "{line}");
    }
    bench.run("RPUSH b 1 2 3 4 5 6");
    script(
        &mut bench,
        &[
            ("BLPOP a b 0", "*2\r\n$1\r\nb\r\n$1\r\n1\r\n"),
            ("BRPOP a b 0", "*2\r\n$1\r\nb\r\n$1\r\n6\r\n"),
            ("BLMOVE b c LEFT RIGHT 0", "$1\r\n2\r\n"),
            ("BRPOPLPUSH b c 0", "$1\r\n5\r\n"),
            (
                "BLMPOP 0 2 a b LEFT COUNT 9",
                "*2\r\n$1\r\nb\r\n*2\r\n$1\r\n3\r\n$1\r\n4\r\n",
            ),
            ("BLPOP a -1", "-ERR timeout is negative\r\n"),
            (
                "BLPOP a x",
                "-ERR timeout is not a float or out of range\r\n",
            ),
            ("BLPOP a inf", "-ERR timeout is negative\r\n"),
            (
                "BLMPOP x 0 a LEFT",
                "-ERR numkeys should be greater than 0\r\n",
            ),
        ],
    );
}

#[test]
fn every_change_is_announced_in_the_order_of_redis() {
    let mut bench = Bench::new();
    for (line, events) in [
        ("RPUSH a 1 2 3", &["new", "rpush"][..]),
        ("LPUSH a 0", &["lpush"]),
        ("LSET a 0 x", &["lset"]),
        ("LINSERT a BEFORE x y", &["linsert"]),
        ("LINSERT a BEFORE none y", &[]),
        ("LREM a 1 none", &[]),
        ("LREM a 1 y", &["lrem"]),
        ("LTRIM a 0 -1", &["ltrim"]),
        ("LMOVE a b LEFT LEFT", &["new", "lpush", "lpop"]),
        ("LMOVE b b LEFT RIGHT", &["rpush", "lpop"]),
        ("RPOPLPUSH b a", &["lpush", "rpop", "del"]),
        ("LPOP a 0", &[]),
        ("LPOP a 2", &["lpop"]),
        ("LMPOP 1 a RIGHT", &["rpop"]),
        ("RPOP a", &["rpop", "del"]),
        ("LPUSHX a 1", &[]),
        ("RPUSH a 1 1", &["new", "rpush"]),
        ("LREM a 0 1", &["lrem", "del"]),
        ("RPUSH a 1", &["new", "rpush"]),
        ("LTRIM a 1 0", &["ltrim", "del"]),
    ] {
        bench.run(line);
        assert_eq!(bench.event_names(), events, "{line}");
    }
}

#[test]
fn an_expiry_stays_with_every_change() {
    for mut bench in [Bench::new(), nodes_of(2)] {
        bench.run("RPUSH a 1 2 3 4 5");
        bench.run("EXPIRE a 100");
        for line in [
            "LPUSH a 0",
            "LSET a 3 x",
            "RPOP a",
            "LREM a 1 x",
            "LTRIM a 0 2",
        ] {
            bench.run(line);
            assert_eq!(bench.run("TTL a"), ":100\r\n", "{line}");
        }
    }
}

#[test]
fn a_spread_list_is_copied_renamed_and_deleted() {
    let mut bench = nodes_of(3);
    let values: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    bench.run(&format!("RPUSH a {}", values.join(" ")));
    assert!(is_spread(&bench, b"a"));
    let all = String::from_utf8(array(&values)).unwrap();
    script(
        &mut bench,
        &[
            ("COPY a b", ":1\r\n"),
            ("RENAME a c", "+OK\r\n"),
            ("LPOP b", "$1\r\n0\r\n"),
            ("LRANGE c 0 -1", &all),
            ("LINDEX b 30", "$2\r\n31\r\n"),
            ("DEL c", ":1\r\n"),
            ("RPUSH c x", ":1\r\n"),
            ("LRANGE c 0 -1", "*1\r\n$1\r\nx\r\n"),
            ("SET b v", "+OK\r\n"),
        ],
    );
}

#[test]
fn a_push_onto_a_long_list_rewrites_little() {
    let mut bench = Bench::new();
    let mut most = 0;
    let mut rows = 0;
    for n in 0..5000 {
        bench.run(&format!("RPUSH l {n:08}"));
        let record = bench.effects.metas[0].record.as_ref().unwrap();
        let mut bytes = record.value().len();
        for row in &bench.effects.rows {
            if let RowEffect::Put { value, .. } = row {
                bytes += value.len();
                rows += 1;
            }
        }
        most = most.max(if n > 500 { bytes } else { 0 });
    }
    assert!(most < 2200, "{most} bytes");
    assert!(rows < 200, "{rows} rows");
}

#[test]
fn elements_longer_than_a_node_stand_alone() {
    let mut bench = Bench::new();
    let long = |n: u8, len: usize| vec![n; len];
    let mut model = VecDeque::new();
    for (n, len) in [(1, 5000), (2, 10), (3, 70_000), (4, 600), (5, 1023), (6, 3)] {
        bench.run_args(&[b"RPUSH", &b"l"[..], &long(n, len)]);
        model.push_back(long(n, len));
        bench.run_args(&[b"LPUSH", &b"l"[..], &long(n + 50, len)]);
        model.push_front(long(n + 50, len));
    }
    assert_eq!(
        bench.run_args(&[&b"LRANGE"[..], b"l", b"0", b"-1"]),
        array(&model)
    );
    bench.run_args(&[&b"LSET"[..], b"l", b"5", &long(9, 4000)]);
    model[5] = long(9, 4000);
    bench.run_args(&[
        &b"LINSERT"[..],
        b"l",
        b"AFTER",
        &long(9, 4000),
        &long(8, 9000),
    ]);
    model.insert(6, long(8, 9000));
    assert_eq!(
        bench.run_args(&[&b"LRANGE"[..], b"l", b"0", b"-1"]),
        array(&model)
    );
    while let Some(value) = model.pop_back() {
        assert_eq!(bench.run_args(&[&b"RPOP"[..], b"l"]), bulk(&value));
    }
}

#[test]
fn inserts_at_one_place_find_room_for_ever() {
    let mut bench = nodes_of(2);
    let mut model: Vec<String> = (0..40).map(|n| format!("v{n}")).collect();
    bench.run(&format!("RPUSH l {}", model.join(" ")));
    for n in 0..400 {
        let (line, at) = match n % 2 {
            0 => (format!("LINSERT l BEFORE v20 b{n}"), 0),
            _ => (format!("LINSERT l AFTER v20 a{n}"), 1),
        };
        let pivot = model.iter().position(|v| v == "v20").unwrap();
        model.insert(pivot + at, line.rsplit(' ').next().unwrap().to_string());
        assert_eq!(bench.run(&line), format!(":{}\r\n", model.len()));
    }
    assert_eq!(bench.run_args(&["LRANGE", "l", "0", "-1"]), array(&model));
    for index in [0, 1, 19, 20, 21, 200, 300, 438, 439] {
        let want = bulk(model[index].as_bytes());
        assert_eq!(bench.run_args(&["LINDEX", "l", &index.to_string()]), want);
    }
}

#[test]
fn a_trim_that_keeps_little_of_much_copies_it() {
    let mut bench = Bench::new();
    let values: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    bench.run(&format!("RPUSH l {}", values.join(" ")));
    bench.run("LTRIM l 15000 15999");
    assert!(
        bench.effects.rows.len() < 20,
        "{:?}",
        bench.effects.rows.len()
    );
    let want = array(&values[15_000..16_000]);
    assert_eq!(bench.run_args(&["LRANGE", "l", "0", "-1"]), want);
    bench.run("LPUSH l x");
    assert_eq!(bench.run("LLEN l"), ":1001\r\n");
    assert_eq!(bench.run("LINDEX l 500"), "$5\r\n15499\r\n");
    bench.run_args(&["RPUSH", "l", &"y".repeat(3000), &"z".repeat(3000)]);
    bench.run(&format!("RPUSH l {}", values.join(" ")));
    bench.run("LTRIM l 2 4");
    assert_eq!(
        bench.run("LRANGE l 0 -1"),
        "*3\r\n$5\r\n15001\r\n$5\r\n15002\r\n$5\r\n15003\r\n"
    );
    assert!(!is_spread(&bench, b"l"));
}

/// A splitmix64 of its own, so that a failing seed can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Random commands against a `VecDeque`.
fn agrees_with_a_model(seed: u64, list_size: i64, longest: u64) {
    let mut bench = nodes_of(list_size);
    let mut random = Random(seed);
    let mut model: VecDeque<Vec<u8>> = VecDeque::new();
    for step in 0..1500 {
        let (args, want) = random_command(&mut random, &mut model, longest);
        let got = bench.run_args(&args);
        let shown: Vec<String> = args
            .iter()
            .map(|a| a[..a.len().min(20)].escape_ascii().to_string())
            .collect();
        assert!(got == want, "seed {seed}, step {step}: {shown:?}");
        if step % 50 == 0 {
            let got = bench.run_args(&["LRANGE", "l", "0", "-1"]);
            assert!(got == array(&model), "seed {seed}, step {step}: {shown:?}");
        }
    }
}

fn random_command(
    random: &mut Random,
    model: &mut VecDeque<Vec<u8>>,
    longest: u64,
) -> (Vec<Vec<u8>>, Vec<u8>) {
    let len = model.len() as i64;
    let value = |random: &mut Random| match random.below(20) {
        0 => vec![b'L'; random.below(longest) as usize],
        _ => random.below(50).to_string().into_bytes(),
    };
    let any_index = |random: &mut Random| random.below(len as u64 * 2 + 2) as i64 - len - 1;
    let of = |index: i64| if index < 0 { index + len } else { index };
    let integer = |n: i64| format!(":{n}\r\n").into_bytes();
    let command = |words: &[&[u8]]| words.iter().map(|w| w.to_vec()).collect::<Vec<_>>();
    let pick = random.below(if len > 400 { 14 } else { 12 });
    match pick {
        0..=3 => {
            let left = pick < 2;
            let mut args = command(&[if left { b"LPUSH" } else { b"RPUSH" }, b"l"]);
            for _ in 0..random.below(12) + 1 {
                let value = value(random);
                match left {
                    true => model.push_front(value.clone()),
                    false => model.push_back(value.clone()),
                }
                args.push(value);
            }
            (args, integer(model.len() as i64))
        }
        4 | 5 => {
            let (left, n) = (pick == 4, random.below(8));
            let name: &[u8] = if left { b"LPOP" } else { b"RPOP" };
            let args = command(&[name, b"l", n.to_string().as_bytes()]);
            if len == 0 {
                return (args, b"*-1\r\n".to_vec());
            }
            let popped: Vec<Vec<u8>> = (0..n)
                .map_while(|_| match left {
                    true => model.pop_front(),
                    false => model.pop_back(),
                })
                .collect();
            (args, array(popped))
        }
        6 => {
            let index = any_index(random);
            let args = command(&[b"LINDEX", b"l", index.to_string().as_bytes()]);
            let at = usize::try_from(of(index)).ok();
            let found = at.and_then(|at| model.get(at));
            (args, found.map_or(b"$-1\r\n".to_vec(), |v| bulk(v)))
        }
        7 => {
            let (index, value) = (any_index(random), value(random));
            let args = command(&[b"LSET", b"l", index.to_string().as_bytes(), &value]);
            if len == 0 {
                return (args, b"-ERR no such key\r\n".to_vec());
            }
            match usize::try_from(of(index))
                .ok()
                .and_then(|at| model.get_mut(at))
            {
                Some(slot) => {
                    *slot = value;
                    (args, b"+OK\r\n".to_vec())
                }
                None => (args, b"-ERR index out of range\r\n".to_vec()),
            }
        }
        8 => {
            let (pivot, value, before) = (value(random), value(random), random.below(2) == 0);
            let word: &[u8] = if before { b"BEFORE" } else { b"AFTER" };
            let args = command(&[b"LINSERT", b"l", word, &pivot, &value]);
            if len == 0 {
                return (args, integer(0));
            }
            match model.iter().position(|v| *v == pivot) {
                Some(at) => {
                    model.insert(at + usize::from(!before), value);
                    (args, integer(model.len() as i64))
                }
                None => (args, integer(-1)),
            }
        }
        9 => {
            let (value, count) = (value(random), random.below(7) as i64 - 3);
            let args = command(&[b"LREM", b"l", count.to_string().as_bytes(), &value]);
            let mut at: Vec<usize> = (0..model.len()).filter(|at| model[*at] == value).collect();
            if count < 0 {
                at.reverse();
            }
            if count != 0 {
                at.truncate(count.unsigned_abs() as usize);
            }
            at.sort_unstable_by(|a, b| b.cmp(a));
            at.iter().for_each(|at| drop(model.remove(*at)));
            (args, integer(at.len() as i64))
        }
        10 => {
            let (start, stop) = (any_index(random), any_index(random));
            let texts = (start.to_string(), stop.to_string());
            let args = command(&[b"LRANGE", b"l", texts.0.as_bytes(), texts.1.as_bytes()]);
            let (first, last) = (of(start).max(0), of(stop).min(len - 1));
            let range = (first..=last).map(|at| model[at as usize].clone());
            (args, array(range))
        }
        11 => {
            let (value, rank) = (value(random), random.below(6) as i64 - 3);
            let rank = if rank == 0 { 3 } else { rank };
            let args = command(&[
                b"LPOS",
                b"l",
                &value,
                b"RANK",
                rank.to_string().as_bytes(),
                b"COUNT",
                b"0",
            ]);
            let mut at: Vec<usize> = (0..model.len()).filter(|at| model[*at] == value).collect();
            if rank < 0 {
                at.reverse();
            }
            let found: Vec<usize> = at
                .into_iter()
                .skip(rank.unsigned_abs() as usize - 1)
                .collect();
            let mut want = format!("*{}\r\n", found.len());
            found.iter().for_each(|at| want += &format!(":{at}\r\n"));
            (args, want.into_bytes())
        }
        _ => {
            let (left, right) = (random.below(150) as i64, random.below(150) as i64);
            let texts = (left.to_string(), (-1 - right).to_string());
            let args = command(&[b"LTRIM", b"l", texts.0.as_bytes(), texts.1.as_bytes()]);
            model.drain(..left as usize);
            model.truncate(model.len() - right as usize);
            (args, b"+OK\r\n".to_vec())
        }
    }
}

#[test]
fn random_commands_agree_with_a_model() {
    for (seed, list_size, longest) in [(1, -2, 3000), (2, 2, 100), (3, 7, 2000), (4, -2, 40)] {
        agrees_with_a_model(seed, list_size, longest);
    }
}

#[test]
fn a_batch_sees_its_own_changes_of_a_list() {
    let mut bench = nodes_of(2);
    let lines: Vec<Vec<Vec<u8>>> = [
        "RPUSH l 1 2 3 4 5 6 7 8 9",
        "LPOP l 2",
        "LINSERT l AFTER 5 x",
        "LREM l 1 7",
        "LRANGE l 0 -1",
        "DEL l",
        "RPUSH l a b c d",
        "LINDEX l 2",
    ]
    .iter()
    .map(|line| words(line))
    .collect();
    let lines: Vec<&[Vec<u8>]> = lines.iter().map(|line| &line[..]).collect();
    let replies = bench.run_batch(&lines);
    assert_eq!(replies[4], array(["3", "4", "5", "x", "6", "8", "9"]));
    assert_eq!(replies[7], bulk(b"c"));
    assert_eq!(bench.run("LINDEX l 1"), "$1\r\nb\r\n");
}
