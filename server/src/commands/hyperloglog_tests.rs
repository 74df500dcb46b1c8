//! Exact replies of HyperLogLog commands.

use super::super::testing::Bench;

fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(bench.run(line), *want, "{line}");
    }
}

#[test]
fn elements_are_added_counted_and_merged() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        &[
            ("PFCOUNT k", ":0\r\n"),
            ("PFADD k", ":1\r\n"),
            ("PFADD k", ":0\r\n"),
            ("PFADD k a b c", ":1\r\n"),
            ("PFADD k a", ":0\r\n"),
            ("PFCOUNT k", ":3\r\n"),
            ("PFCOUNT k", ":3\r\n"),
            ("PFADD l c d", ":1\r\n"),
            ("PFCOUNT k l nothing", ":4\r\n"),
            ("PFMERGE m k l", "+OK\r\n"),
            ("PFCOUNT m", ":4\r\n"),
            ("PFMERGE n", "+OK\r\n"),
            ("PFCOUNT n", ":0\r\n"),
            ("OBJECT ENCODING k", "$3\r\nraw\r\n"),
            ("EXPIRE k 9", ":1\r\n"),
            ("PFADD k z", ":1\r\n"),
            ("TTL k", ":9\r\n"),
            ("PFDEBUG ENCODING k", "+sparse\r\n"),
            ("PFDEBUG TODENSE k", ":1\r\n"),
            ("PFDEBUG TODENSE k", ":0\r\n"),
            ("PFDEBUG ENCODING k", "+dense\r\n"),
            ("PFDEBUG DECODE k", "-ERR HLL encoding is not sparse\r\n"),
            (
                "PFDEBUG WHAT k",
                "-ERR Unknown PFDEBUG subcommand 'WHAT'\r\n",
            ),
            (
                "PFDEBUG DECODE nothing",
                "-ERR The specified key does not exist\r\n",
            ),
            ("PFDEBUG DECODE n", "$7\r\nZ:16384\r\n"),
            ("PFCOUNT k", ":4\r\n"),
            ("PFMERGE n k", "+OK\r\n"),
            ("PFDEBUG ENCODING n", "+dense\r\n"),
            ("TTL k", ":9\r\n"),
        ],
    );
    bench.run("PFADD new x");
    assert_eq!(bench.event_names(), ["new", "pfadd"]);
    assert!(
        bench
            .run("PFDEBUG GETREG new")
            .starts_with("*16384\r\n:0\r\n")
    );
    assert_eq!(bench.run("PFDEBUG ENCODING new"), "+dense\r\n");
}

#[test]
fn other_strings_are_refused() {
    let mut bench = Bench::new();
    let not_one = "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n";
    bench.put_list("list");
    script(
        &mut bench,
        &[
            ("SET s hello", "+OK\r\n"),
            ("PFADD s x", not_one),
            ("PFCOUNT s", not_one),
            ("PFCOUNT s t", not_one),
            ("PFMERGE t s", not_one),
            (
                "PFCOUNT list",
                "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
            ),
        ],
    );
    let corrupt = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x01";
    bench.run_args(&[&b"SET"[..], b"c", corrupt]);
    let broken = "-INVALIDOBJ Corrupted HLL object detected\r\n";
    script(
        &mut bench,
        &[
            ("PFCOUNT c", broken),
            ("PFADD c elements of any kind", broken),
            ("PFMERGE t c", broken),
        ],
    );
    bench.run("PFADD k a");
    bench.run("APPEND k hello");
    assert_eq!(bench.run("PFCOUNT k"), broken);
}

#[test]
fn many_elements_make_it_dense() {
    let mut bench = Bench::new();
    for first in (0..5000).step_by(100) {
        let elements: Vec<String> = (first..first + 100).map(|n| n.to_string()).collect();
        bench.run(&format!("PFADD k {}", elements.join(" ")));
    }
    assert_eq!(bench.run("PFDEBUG ENCODING k"), "+dense\r\n");
    assert_eq!(bench.run("STRLEN k"), ":12304\r\n");
    let count: i64 = bench.run("PFCOUNT k")[1..].trim().parse().unwrap();
    assert!((4800..5200).contains(&count), "{count}");
}
