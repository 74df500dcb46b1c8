//! The reply writer: golden bytes in both versions, undoing, deferred lengths,
//! vectored sending.

use std::io::IoSlice;

use bytes::Bytes;
use cairn_protocol::resp::{ReplyWriter, Version, decode, decode::write};
use proptest::prelude::*;

fn written(version: Version, write: impl Fn(&mut ReplyWriter)) -> String {
    let mut out = ReplyWriter::new(version);
    write(&mut out);
    assert_eq!(out.len(), out.to_vec().len());
    String::from_utf8(out.to_vec()).unwrap()
}

/// What `write` writes in RESP2 and in RESP3.
fn both(write: impl Fn(&mut ReplyWriter)) -> (String, String) {
    (written(Version::V2, &write), written(Version::V3, &write))
}

fn pair(resp2: &str, resp3: &str) -> (String, String) {
    (resp2.to_owned(), resp3.to_owned())
}

fn same(text: &str) -> (String, String) {
    pair(text, text)
}

#[test]
fn scalars_are_written_as_redis_writes_them() {
    assert_eq!(both(|out| out.ok()), same("+OK\r\n"));
    assert_eq!(both(|out| out.simple("QUEUED")), same("+QUEUED\r\n"));
    assert_eq!(both(|out| out.error("ERR no")), same("-ERR no\r\n"));
    assert_eq!(both(|out| out.bulk(b"")), same("$0\r\n\r\n"));
    assert_eq!(both(|out| out.bulk(b"a\r\nb")), same("$4\r\na\r\nb\r\n"));
    assert_eq!(both(|out| out.bulk_integer(-12)), same("$3\r\n-12\r\n"));
    assert_eq!(
        both(|out| out.bulk_or_null(Some(b"x"))),
        same("$1\r\nx\r\n")
    );
    assert_eq!(both(|out| out.bulk_or_null(None)), pair("$-1\r\n", "_\r\n"));
    assert_eq!(both(|out| out.null()), pair("$-1\r\n", "_\r\n"));
    assert_eq!(both(|out| out.null_array()), pair("*-1\r\n", "_\r\n"));
    assert_eq!(both(|out| out.boolean(true)), pair(":1\r\n", "#t\r\n"));
    assert_eq!(both(|out| out.boolean(false)), pair(":0\r\n", "#f\r\n"));
    assert_eq!(
        both(|out| out.bignum("123")),
        pair("$3\r\n123\r\n", "(123\r\n")
    );
    assert_eq!(both(|out| out.raw(b"+raw\r\n")), same("+raw\r\n"));
}

#[test]
fn integers_of_every_width_are_written() {
    for value in [
        0,
        1,
        9,
        10,
        99,
        100,
        999,
        1000,
        1001,
        123_456_789,
        i64::MAX,
        i64::MIN,
        -1,
        -10,
    ] {
        assert_eq!(
            both(|out| out.integer(value)),
            same(&format!(":{value}\r\n"))
        );
    }
    for len in [0, 9, 10, 99, 100, 101, 999, 1000, 1_000_000] {
        assert_eq!(both(|out| out.array(len)), same(&format!("*{len}\r\n")));
    }
}

#[test]
fn doubles_are_17_digits_in_both_versions() {
    for (value, text) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-3.5, "-3.5"),
        (0.1, "0.10000000000000001"),
        (1e23, "9.9999999999999992e+22"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (f64::NAN, "nan"),
    ] {
        let resp2 = format!("${}\r\n{text}\r\n", text.len());
        let resp3 = format!(",{text}\r\n");
        assert_eq!(both(|out| out.double(value)), (resp2, resp3));
    }
}

#[test]
fn aggregates_are_flattened_for_resp2() {
    assert_eq!(both(|out| out.map(3)), pair("*6\r\n", "%3\r\n"));
    assert_eq!(both(|out| out.set(3)), pair("*3\r\n", "~3\r\n"));
    assert_eq!(both(|out| out.push(2)), pair("*2\r\n", ">2\r\n"));
    let attributed = both(|out| {
        if out.attribute(1) {
            out.simple("ttl");
            out.integer(5);
        }
        out.ok();
    });
    assert_eq!(attributed, pair("+OK\r\n", "|1\r\n+ttl\r\n:5\r\n+OK\r\n"));
}

#[test]
fn verbatim_text_always_has_a_three_letter_format() {
    for (format, shown) in [
        ("txt", "txt"),
        ("mkd", "mkd"),
        ("x", "x  "),
        ("long", "lon"),
    ] {
        let resp3 = format!("=9\r\n{shown}:hello\r\n");
        let texts = both(|out| out.verbatim(format, b"hello"));
        assert_eq!(texts, pair("$5\r\nhello\r\n", &resp3));
    }
}

#[test]
fn no_line_end_gets_into_a_line() {
    assert_eq!(
        both(|out| out.error("ERR a\r\nb\nc\r\n")),
        same("-ERR a  b c\r\n")
    );
    assert_eq!(both(|out| out.error("\r\n")), same("-\r\n"));
    assert_eq!(both(|out| out.simple("a\r\n+b")), same("+a  +b\r\n"));
    assert_eq!(both(|out| out.bignum("1\r\n2")).1, "(1  2\r\n");
}

#[test]
fn the_version_can_change_in_mid_stream() {
    let mut out = ReplyWriter::new(Version::V2);
    out.null();
    out.set_version(Version::V3);
    out.null();
    assert_eq!(out.version(), Version::V3);
    assert_eq!(out.to_vec(), b"$-1\r\n_\r\n");
}

fn large(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 20_000])
}

#[test]
fn large_values_keep_their_place_and_are_not_copied() {
    let value = large(b'v');
    let mut out = ReplyWriter::new(Version::V2);
    out.array(3);
    out.bulk_bytes(Bytes::from_static(b"small"));
    out.bulk_bytes(value.clone());
    out.raw_bytes(value.clone());
    out.integer(7);
    let segments: Vec<&[u8]> = out.segments().collect();
    assert_eq!(segments[0], b"*3\r\n$5\r\nsmall\r\n$20000\r\n");
    assert_eq!(segments[1].as_ptr(), value.as_ptr());
    assert_eq!(segments[2], b"\r\n");
    assert_eq!(segments[3].as_ptr(), value.as_ptr());
    assert_eq!(segments[4], b":7\r\n");
    assert_eq!(out.len(), segments.concat().len());
}

#[test]
fn truncating_undoes_everything_since_the_mark() {
    let mut out = ReplyWriter::new(Version::V2);
    out.ok();
    out.bulk_bytes(large(b'a'));
    let before = out.to_vec();
    let mark = out.mark();
    out.array(2);
    out.bulk_bytes(large(b'b'));
    let undone = out.deferred_array();
    out.integer(1);
    out.truncate(mark);
    assert_eq!(out.to_vec(), before);
    out.set_deferred(undone, 9);
    assert_eq!(out.to_vec(), before);
    assert_eq!(out.mark(), mark_again(&mut out, mark));
    out.error("ERR failed");
    assert_eq!(out.to_vec(), [before, b"-ERR failed\r\n".to_vec()].concat());
}

/// A mark taken after undoing all is the same place as the first.
fn mark_again(
    out: &mut ReplyWriter,
    mark: cairn_protocol::resp::Mark,
) -> cairn_protocol::resp::Mark {
    out.truncate(mark);
    out.mark()
}

#[test]
fn truncating_inside_an_open_aggregate_leaves_it_open() {
    let mut out = ReplyWriter::new(Version::V2);
    let array = out.deferred_array();
    let first = out.mark();
    out.integer(1);
    out.truncate(first);
    out.integer(2);
    out.set_deferred(array, 1);
    assert_eq!(out.to_vec(), b"*1\r\n:2\r\n");
}

#[test]
fn deferred_lengths_are_put_where_the_aggregate_began() {
    let resp = both(|out| {
        out.ok();
        let map = out.deferred_map();
        out.bulk(b"k");
        let array = out.deferred_array();
        out.integer(1);
        out.integer(2);
        out.set_deferred(array, 2);
        let set = out.deferred_set();
        out.set_deferred(set, 0);
        out.null();
        out.set_deferred(map, 2);
        out.ok();
    });
    let resp2 = "+OK\r\n*4\r\n$1\r\nk\r\n*2\r\n:1\r\n:2\r\n*0\r\n$-1\r\n+OK\r\n";
    let resp3 = "+OK\r\n%2\r\n$1\r\nk\r\n*2\r\n:1\r\n:2\r\n~0\r\n_\r\n+OK\r\n";
    assert_eq!(resp, pair(resp2, resp3));
}

#[test]
fn deferred_lengths_may_be_given_in_any_order() {
    let mut out = ReplyWriter::new(Version::V2);
    let outer = out.deferred_array();
    let inner = out.deferred_array();
    out.bulk_bytes(large(b'x'));
    out.set_deferred(outer, 1);
    out.integer(1);
    out.set_deferred(inner, 1234);
    let expected = [
        b"*1\r\n*1234\r\n$20000\r\n",
        &large(b'x')[..],
        b"\r\n:1\r\n",
    ]
    .concat();
    assert!(out.to_vec() == expected);
    assert_eq!(out.segments().nth(1).unwrap().len(), 20_000);
}

#[test]
fn replies_move_between_writers_with_their_large_values() {
    let value = large(b'v');
    let mut batch = ReplyWriter::new(Version::V2);
    batch.integer(1);
    let from = batch.mark();
    batch.bulk_bytes(value.clone());
    let to = batch.mark();
    batch.integer(3);

    let mut one = ReplyWriter::new(Version::V3);
    one.ok();
    one.append_range(&batch, from, to);
    one.ok();
    let expected = [b"+OK\r\n$20000\r\n", &value[..], b"\r\n+OK\r\n"].concat();
    assert!(one.to_vec() == expected);
    assert_eq!(one.segments().nth(1).unwrap().as_ptr(), value.as_ptr());

    let all = batch.to_vec();
    for mut target in [ReplyWriter::new(Version::V3), one] {
        let before = target.to_vec();
        let mut source = ReplyWriter::new(Version::V2);
        source.append_range(&batch, ReplyWriter::new(Version::V2).mark(), batch.mark());
        target.append(&mut source);
        assert!(source.is_empty());
        assert!(target.to_vec() == [before, all.clone()].concat());
    }
}

#[test]
fn clearing_forgets_what_was_not_sent() {
    let mut out = ReplyWriter::new(Version::V2);
    out.bulk_bytes(large(b'x'));
    out.advance(1000);
    let unset = out.deferred_array();
    out.clear();
    assert!(out.is_empty());
    out.set_deferred(unset, 1);
    out.ok();
    assert_eq!(out.to_vec(), b"+OK\r\n");
}

#[test]
fn decoded_replies_are_written_back() {
    let map = "%1\r\n$1\r\nk\r\n*2\r\n:1\r\n_\r\n";
    let all = format!(
        "*10\r\n+s\r\n-ERR e\r\n:-5\r\n,0.5\r\n#t\r\n$3\r\na\r\n\r\n(99\r\n=7\r\ntxt:abc\r\n{map}~1\r\n+m\r\n"
    );
    let frame = decode(&Bytes::from(all.clone()), Version::V3).unwrap();
    let mut out = ReplyWriter::new(Version::V3);
    write(&frame, &mut out);
    assert_eq!(String::from_utf8(out.to_vec()).unwrap(), all);
    let mut out = ReplyWriter::new(Version::V2);
    write(&frame, &mut out);
    let resp2 = "*10\r\n+s\r\n-ERR e\r\n:-5\r\n$3\r\n0.5\r\n:1\r\n$3\r\na\r\n\r\n$2\r\n99\r\n$3\r\nabc\r\n\
        *2\r\n$1\r\nk\r\n*2\r\n:1\r\n$-1\r\n*1\r\n+m\r\n";
    assert_eq!(String::from_utf8(out.to_vec()).unwrap(), resp2);
}

/// One thing that may happen to a writer.
#[derive(Clone, Debug)]
enum Act {
    Small(usize),
    Large(usize),
    /// Send this many bytes, or all if there are fewer.
    Send(usize),
    /// Write an aggregate with a deferred length around a small reply.
    Deferred(usize),
    /// Write something and take it back.
    Undone(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0_usize..300).prop_map(Act::Small),
        (16_384_usize..70_000).prop_map(Act::Large),
        (0_usize..100_000).prop_map(Act::Send),
        (0_usize..5_000).prop_map(Act::Deferred),
        (0_usize..20_000).prop_map(Act::Undone),
    ]
}

proptest! {
    #[test]
    fn what_is_sent_is_what_was_written(acts in prop::collection::vec(act(), 0..40)) {
        let mut out = ReplyWriter::new(Version::V2);
        let (mut expected, mut sent) = (Vec::new(), Vec::new());
        for (number, act) in acts.into_iter().enumerate() {
            let fill = vec![number as u8; 70_000];
            match act {
                Act::Small(len) => {
                    out.bulk(&fill[..len]);
                    bulk(&mut expected, &fill[..len]);
                }
                Act::Large(len) => {
                    out.bulk_bytes(Bytes::copy_from_slice(&fill[..len]));
                    bulk(&mut expected, &fill[..len]);
                }
                Act::Deferred(len) => {
                    let array = out.deferred_array();
                    out.bulk_bytes(Bytes::from(fill.clone()));
                    out.set_deferred(array, len);
                    expected.extend_from_slice(format!("*{len}\r\n").as_bytes());
                    bulk(&mut expected, &fill);
                }
                Act::Undone(len) => {
                    let mark = out.mark();
                    out.bulk_bytes(Bytes::copy_from_slice(&fill[..len]));
                    out.truncate(mark);
                }
                Act::Send(len) => send(&mut out, len, &mut sent),
            }
            prop_assert_eq!(out.len() + sent.len(), expected.len());
        }
        send(&mut out, usize::MAX, &mut sent);
        prop_assert!(out.is_empty());
        prop_assert!(sent == expected);
    }
}

fn bulk(expected: &mut Vec<u8>, value: &[u8]) {
    expected.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
    expected.extend_from_slice(value);
    expected.extend_from_slice(b"\r\n");
}

/// Sends up to `len` bytes as a socket would: a few slices per call.
fn send(out: &mut ReplyWriter, mut len: usize, sent: &mut Vec<u8>) {
    while len > 0 && !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); 3];
        let used = out.io_slices(&mut slices);
        let offered = slices[..used]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect::<Vec<u8>>();
        assert!(!offered.is_empty());
        let taken = offered.len().min(len);
        sent.extend_from_slice(&offered[..taken]);
        out.advance(taken);
        len -= taken;
    }
}
