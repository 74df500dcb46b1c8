//! KEYS, RANDOMKEY and SCAN, also under change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::testing::{Bench, words};
use super::Cursor;
use crate::txn::CommandError;

const SYNTAX: &str = "-ERR syntax error\r\n";

/// Bulk strings of a reply, in order.
fn bulks(reply: &str) -> Vec<String> {
    let mut lines = reply.split("\r\n");
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with('$') {
            found.push(lines.next().unwrap().to_string());
        }
    }
    found
}

/// One SCAN: (next cursor, keys).
fn scan(bench: &mut Bench, cursor: &str, options: &str) -> (String, Vec<String>) {
    let line = format!("SCAN {cursor} {options}");
    let mut found = bulks(&bench.run(line.trim_end()));
    let cursor = found.remove(0);
    (cursor, found)
}

/// A whole scan; how often each key was met.
fn scan_all(
    bench: &mut Bench,
    options: &str,
    mut between: impl FnMut(&mut Bench, &[String]),
) -> BTreeMap<String, usize> {
    let mut met = BTreeMap::new();
    let mut cursor = "0".to_string();
    for _ in 0..100_000 {
        let (next, keys) = scan(bench, &cursor, options);
        keys.iter()
            .for_each(|key| *met.entry(key.clone()).or_default() += 1);
        if next == "0" {
            return met;
        }
        between(bench, &keys);
        cursor = next;
    }
    panic!("the scan does not end");
}

fn fill(bench: &mut Bench, names: impl Iterator<Item = String>) -> BTreeSet<String> {
    let names: BTreeSet<String> = names.collect();
    let pairs: Vec<String> = names.iter().map(|name| format!("{name} v")).collect();
    bench.run(&format!("MSET {}", pairs.join(" ")));
    names
}

/// Forgets the places of cursors, as a restart does.
fn forget(bench: &mut Bench) {
    let store = Arc::get_mut(&mut bench.store).expect("nobody else has it");
    store.scan_positions = Default::default();
}

#[test]
fn keys_lists_what_matches() {
    let mut bench = Bench::new();
    assert_eq!(bench.run("KEYS *"), "*0\r\n");
    bench.run("MSET hello 1 hallo 2 hxllo 3 world 4");
    assert_eq!(bulks(&bench.run("KEYS *")).len(), 4);
    let matching: BTreeSet<_> = bulks(&bench.run("KEYS h[ae]llo")).into_iter().collect();
    assert_eq!(matching, ["hallo", "hello"].map(String::from).into());
    assert_eq!(bench.run("KEYS nothing*"), "*0\r\n");
    bench.context.db = 1;
    assert_eq!(bench.run("KEYS *"), "*0\r\n");
}

#[test]
fn expired_keys_are_not_listed() {
    let mut bench = Bench::new();
    bench.run("SET gone v PX 5");
    bench.run("SET there v PX 50");
    bench.context.now += 6;
    // A read must commit the time first, in the writer it is noted.
    assert!(matches!(
        bench.read(&words("KEYS *")),
        Some(Err(CommandError::NeedsTick))
    ));
    assert_eq!(bench.run("KEYS *"), "*1\r\n$5\r\nthere\r\n");
    assert_eq!(
        bench.run("SCAN 0"),
        "*2\r\n$1\r\n0\r\n*1\r\n$5\r\nthere\r\n"
    );
    assert_eq!(bench.run("RANDOMKEY"), "$5\r\nthere\r\n");
    bench.context.now += 50;
    assert_eq!(bench.run("RANDOMKEY"), "$-1\r\n");
    assert_eq!(bench.run("DBSIZE"), ":2\r\n");
}

#[test]
fn iterating_commands_wait_off_the_network_threads() {
    let mut bench = Bench::new();
    bench.context.disk = false;
    for line in ["KEYS *", "SCAN 0", "RANDOMKEY"] {
        assert!(
            matches!(bench.read(&words(line)), Some(Err(CommandError::Cold))),
            "{line}"
        );
    }
}

#[test]
fn scan_refuses_what_redis_refuses() {
    let mut bench = Bench::new();
    for (line, want) in [
        ("SCAN x", "-ERR invalid cursor\r\n"),
        ("SCAN 1x", "-ERR invalid cursor\r\n"),
        ("SCAN 99999999999999999999999", "-ERR invalid cursor\r\n"),
        ("SCAN 0 COUNT", SYNTAX),
        ("SCAN 0 COUNT 0", SYNTAX),
        ("SCAN 0 COUNT -1", SYNTAX),
        (
            "SCAN 0 COUNT x",
            "-ERR value is not an integer or out of range\r\n",
        ),
        ("SCAN 0 WHAT 1", SYNTAX),
        ("SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("SCAN ", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("SCAN 18446744073709551615", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("SCAN -1", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("SCAN 281474976710656", "*2\r\n$1\r\n0\r\n*0\r\n"),
    ] {
        assert_eq!(bench.run(line), want, "{line}");
    }
    let blank = bench.run_args(&[&b"SCAN"[..], b" 0"]);
    assert_eq!(blank, b"-ERR invalid cursor\r\n");
    let ended = bench.run_args(&[&b"SCAN"[..], b"0\0x"]);
    assert_eq!(ended, b"*2\r\n$1\r\n0\r\n*0\r\n");
}

#[test]
fn a_scan_meets_every_key_once() {
    let mut bench = Bench::new();
    let spread = (0..300).map(|i| format!("key:{i}"));
    let names = fill(
        &mut bench,
        spread.chain((0..100).map(|i| format!("{{tag}}{i}"))),
    );
    for count in [1, 7, 10, 1000] {
        let met = scan_all(&mut bench, &format!("COUNT {count}"), |_, _| {});
        assert_eq!(met.keys().cloned().collect::<BTreeSet<_>>(), names);
        assert!(met.values().all(|n| *n == 1), "COUNT {count}");
    }
    let (_, first) = scan(&mut bench, "0", "");
    assert_eq!(first.len(), 10);
}

#[test]
fn a_scan_goes_on_after_a_restart() {
    let mut bench = Bench::new();
    let names = fill(&mut bench, (0..60).map(|i| format!("{{tag}}{i}")));
    let met = scan_all(&mut bench, "COUNT 7", |bench, _| forget(bench));
    assert_eq!(met.keys().cloned().collect::<BTreeSet<_>>(), names);
    assert!(met.values().all(|n| *n == 1));
}

#[test]
fn scan_filters_by_pattern_and_type() {
    let mut bench = Bench::new();
    fill(&mut bench, (0..50).map(|i| format!("k{i}")));
    let met = scan_all(&mut bench, "MATCH k1*", |_, _| {});
    assert_eq!(met.len(), 11);
    assert_eq!(
        scan_all(&mut bench, "TYPE String COUNT 3", |_, _| {}).len(),
        50
    );
    assert_eq!(scan_all(&mut bench, "TYPE list", |_, _| {}).len(), 0);
    let (_, keys) = scan(&mut bench, "0", "COUNT 5 MATCH nothing");
    assert!(keys.is_empty());
}

#[test]
fn what_is_there_throughout_is_met_under_change() {
    for forgetful in [false, true] {
        let mut bench = Bench::new();
        let stay: BTreeSet<String> = fill(&mut bench, (0..80).map(|i| format!("{{t}}{i}:stay")));
        fill(&mut bench, (0..80).map(|i| format!("{{t}}{i}:go")));
        let mut round = 0;
        let met = scan_all(&mut bench, "COUNT 9", |bench, keys| {
            round += 1;
            // What was just met goes, the last key of the page with it.
            let gone: Vec<&String> = keys.iter().filter(|k| k.ends_with(":go")).collect();
            for key in gone {
                bench.run(&format!("DEL {key}"));
            }
            bench.run(&format!("SET {{t}}{round}:new v"));
            if forgetful {
                forget(bench);
            }
        });
        assert!(
            stay.iter().all(|key| met.contains_key(key)),
            "forgetful: {forgetful}"
        );
    }
}

#[test]
fn a_batch_walks_over_its_own_changes() {
    let mut bench = Bench::new();
    bench.run("MSET a 1 b 2 c 3");
    let lines = [
        "DEL b",
        "MSET d 4 a 9",
        "KEYS *",
        "SCAN 0",
        "FLUSHDB",
        "SET e 5",
        "KEYS *",
    ];
    let lines: Vec<_> = lines.iter().map(|line| words(line)).collect();
    let commands: Vec<_> = lines.iter().map(|line| &line[..]).collect();
    let replies = bench.run_batch(&commands);
    let text = |at: usize| String::from_utf8(replies[at].clone()).unwrap();
    let want: BTreeSet<String> = ["a", "c", "d"].map(String::from).into();
    assert_eq!(bulks(&text(2)).into_iter().collect::<BTreeSet<_>>(), want);
    assert_eq!(
        bulks(&text(3)).into_iter().skip(1).collect::<BTreeSet<_>>(),
        want
    );
    assert_eq!(text(6), "*1\r\n$1\r\ne\r\n");
}

#[test]
fn databases_and_old_generations_are_passed_over() {
    let mut bench = Bench::new();
    for db in 0..4 {
        bench.context.db = db;
        fill(&mut bench, (0..40).map(|i| format!("db{db}:{i}")));
    }
    bench.context.db = 1;
    bench.run("FLUSHDB");
    let names = fill(&mut bench, (0..20).map(|i| format!("again:{i}")));
    let met = scan_all(&mut bench, "COUNT 3", |_, _| {});
    assert_eq!(met.into_keys().collect::<BTreeSet<_>>(), names);
}

#[test]
fn random_keys_are_spread_over_all_keys() {
    let mut bench = Bench::new();
    assert_eq!(bench.run("RANDOMKEY"), "$-1\r\n");
    let spread = (0..20).map(|i| format!("key:{i}"));
    let names = fill(
        &mut bench,
        spread.chain((0..20).map(|i| format!("{{tag}}{i}"))),
    );
    let mut met = BTreeSet::new();
    for seed in 0..1500 {
        bench.context.seed = seed;
        met.extend(bulks(&bench.run("RANDOMKEY")));
    }
    assert_eq!(met, names);
}

#[test]
fn random_keys_of_a_large_slot_differ() {
    let mut bench = Bench::new();
    fill(&mut bench, (0..3000).map(|i| format!("{{tag}}{i:06}")));
    let mut met = BTreeSet::new();
    for seed in 0..200 {
        bench.context.seed = seed;
        met.extend(bulks(&bench.run("RANDOMKEY")));
    }
    assert!(met.len() > 100, "only {} of 200 choices differ", met.len());
}

#[test]
fn a_cursor_is_exact_in_a_double_and_never_zero_behind_a_key() {
    let cursor = Cursor::behind(16_383, b"key");
    assert!(cursor.number() < 1 << 53);
    assert_eq!(
        Cursor::read(cursor.number().to_string().as_bytes()).unwrap(),
        cursor
    );
    assert_ne!(Cursor::behind(0, b"key").number(), 0);
}
