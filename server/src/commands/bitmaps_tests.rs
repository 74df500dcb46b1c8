//! Exact replies of bitmap commands.

use super::super::testing::Bench;
use crate::types::string::FRAGMENT;

fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(bench.run(line), *want, "{line}");
    }
}

#[test]
fn bits_are_set_and_got() {
    let mut bench = Bench::new();
    let bad_offset = "-ERR bit offset is not an integer or out of range\r\n";
    let bad_bit = "-ERR bit is not an integer or out of range\r\n";
    script(
        &mut bench,
        &[
            ("GETBIT k 7", ":0\r\n"),
            ("SETBIT k 7 1", ":0\r\n"),
            ("SETBIT k 7 1", ":1\r\n"),
            ("GETBIT k 7", ":1\r\n"),
            ("GETBIT k 8", ":0\r\n"),
            ("SETBIT k 15 0", ":0\r\n"),
            ("STRLEN k", ":2\r\n"),
            ("GET k", "$2\r\n\u{1}\0\r\n"),
            ("OBJECT ENCODING k", "$3\r\nraw\r\n"),
            ("SETBIT k -1 0", bad_offset),
            ("SETBIT k 4294967296 0", bad_offset),
            ("GETBIT k x", bad_offset),
            ("SETBIT k 0 2", bad_bit),
            ("SETBIT k 0 -1", bad_bit),
            ("SETBIT k 0 x", bad_bit),
            ("SET n 12", "+OK\r\n"),
            ("SETBIT n 6 1", ":0\r\n"),
            ("GET n", "$2\r\n32\r\n"),
        ],
    );
    bench.run("SETBIT new 0 0");
    assert_eq!(bench.event_names(), ["new", "setbit"]);
    bench.run("SETBIT new 0 0");
    assert!(bench.event_names().is_empty());
}

#[test]
fn the_last_bit_of_all_costs_one_fragment() {
    let mut bench = Bench::new();
    bench.run("SET k ab");
    assert_eq!(bench.run("SETBIT k 4294967295 1"), ":0\r\n");
    assert_eq!(bench.payload_rows(), 2);
    script(
        &mut bench,
        &[
            ("STRLEN k", ":536870912\r\n"),
            ("GETBIT k 4294967295", ":1\r\n"),
            ("GETBIT k 4294967294", ":0\r\n"),
            ("BITCOUNT k", ":7\r\n"),
            ("BITCOUNT k 2 -1", ":1\r\n"),
            ("BITCOUNT k -1 -1 BIT", ":1\r\n"),
            ("BITPOS k 1 2", ":4294967295\r\n"),
            ("BITPOS k 0 2", ":16\r\n"),
            ("BITPOS k 1 -2 -2 BIT", ":-1\r\n"),
            ("BITPOS k 0 100000 200000", ":800000\r\n"),
            ("DEL k", ":1\r\n"),
            ("SETBIT k 40000000 1", ":0\r\n"),
            ("BITOP OR r k k", ":5000001\r\n"),
            ("BITCOUNT r", ":1\r\n"),
            ("BITOP XOR k k r", ":5000001\r\n"),
            ("BITCOUNT k", ":0\r\n"),
            ("STRLEN k", ":5000001\r\n"),
        ],
    );
    assert_eq!(bench.payload_rows(), 1);
}

#[test]
fn counts_and_positions_take_ranges_of_bytes_and_bits() {
    let mut bench = Bench::new();
    bench.run("SET k foobar");
    let full = vec![0xff_u8; 3];
    bench.run_args(&[&b"SET"[..], b"ones", &full]);
    script(
        &mut bench,
        &[
            ("BITCOUNT k", ":26\r\n"),
            ("BITCOUNT k 0 0", ":4\r\n"),
            ("BITCOUNT k 1 1", ":6\r\n"),
            ("BITCOUNT k 1 1 BYTE", ":6\r\n"),
            ("BITCOUNT k 5 30 BIT", ":17\r\n"),
            ("BITCOUNT k -1 -2", ":0\r\n"),
            ("BITCOUNT k -1 -2 WHAT", ":0\r\n"),
            ("BITCOUNT k 9 2", ":0\r\n"),
            ("BITCOUNT k -100 100 BIT", ":26\r\n"),
            ("BITCOUNT nothing 0 x", ":0\r\n"),
            ("BITCOUNT k 0", "-ERR syntax error\r\n"),
            ("BITCOUNT k 0 1 WHAT", "-ERR syntax error\r\n"),
            (
                "BITCOUNT k 0 x",
                "-ERR value is not an integer or out of range\r\n",
            ),
            ("BITPOS k 1", ":1\r\n"),
            ("BITPOS k 0", ":0\r\n"),
            ("BITPOS ones 0", ":24\r\n"),
            ("BITPOS ones 0 1", ":24\r\n"),
            ("BITPOS ones 0 0 -1", ":-1\r\n"),
            ("BITPOS ones 0 3", ":-1\r\n"),
            ("BITPOS ones 1 7 15 BIT", ":7\r\n"),
            ("BITPOS ones 0 7 15 BIT", ":-1\r\n"),
            ("BITPOS k 1 10 10 BIT", ":10\r\n"),
            ("BITPOS k 0 9 10 BIT", ":-1\r\n"),
            ("BITPOS nothing 0", ":0\r\n"),
            ("BITPOS nothing 1 x", ":-1\r\n"),
            ("BITPOS k 2", "-ERR The bit argument must be 1 or 0.\r\n"),
            (
                "BITPOS k x",
                "-ERR value is not an integer or out of range\r\n",
            ),
            ("BITPOS k 1 0 1 WHAT", "-ERR syntax error\r\n"),
        ],
    );
}

#[test]
fn strings_are_joined_bit_by_bit() {
    let mut bench = Bench::new();
    bench.run_args(&[&b"SET"[..], b"a", &[0xf0, 0x0f, 0xff]]);
    bench.run_args(&[&b"SET"[..], b"b", &[0x3c, 0x3c]]);
    for (op, want) in [
        ("AND", [0x30, 0x0c, 0]),
        ("OR", [0xfc, 0x3f, 0xff]),
        ("XOR", [0xcc, 0x33, 0xff]),
    ] {
        assert_eq!(bench.run(&format!("BITOP {op} r a b")), ":3\r\n");
        let got = bench.run_args(&["GET", "r"]);
        assert_eq!(got, [b"$3\r\n", &want[..], b"\r\n"].concat());
    }
    assert_eq!(bench.run("BITOP NOT a a"), ":3\r\n");
    assert_eq!(bench.event_names(), ["set"]);
    assert_eq!(bench.run_args(&["GET", "a"]), b"$3\r\n\x0f\xf0\0\r\n");
    bench.put_list("l");
    script(
        &mut bench,
        &[
            ("BITOP AND r nothing", ":0\r\n"),
            ("EXISTS r", ":0\r\n"),
            (
                "BITOP NOT r a b",
                "-ERR BITOP NOT must be called with a single source key.\r\n",
            ),
            ("BITOP WHAT r a", "-ERR syntax error\r\n"),
            (
                "BITOP OR r a l",
                "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
            ),
            ("SET r x EX 9", "+OK\r\n"),
            ("BITOP AND r a nothing", ":3\r\n"),
            ("TTL r", ":-1\r\n"),
        ],
    );
}

#[test]
fn long_strings_are_joined_fragment_by_fragment() {
    let mut bench = Bench::new();
    let (far, near) = (8 * (3 * FRAGMENT as u64 + 5), 8 * 7);
    bench.run(&format!("SETBIT a {far} 1"));
    bench.run(&format!("SETBIT b {near} 1"));
    bench.run("BITOP OR c a b");
    assert_eq!(bench.run("BITCOUNT c"), ":2\r\n");
    assert_eq!(bench.run(&format!("GETBIT c {far}")), ":1\r\n");
    assert_eq!(bench.run("BITPOS c 1 8"), format!(":{far}\r\n"));
    // One fragment of `a`, two of `c`; `b` is inline.
    assert_eq!(bench.payload_rows(), 3);
    bench.run("BITOP NOT c c");
    assert_eq!(bench.run("BITPOS c 0"), format!(":{near}\r\n"));
    assert_eq!(bench.run("BITPOS c 0 8"), format!(":{far}\r\n"));
    bench.run("DEL c");
    assert_eq!(bench.payload_rows(), 1);
}
