//! Payloads of redis-server 7.0.15, both ways, and what bad bytes come to.

use super::*;
use crate::stream_id::StreamId;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

fn of(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// Payload, its value, and the form in which Redis wrote it.
fn golden() -> Vec<(&'static str, Value, Form)> {
    vec![
        (
            "000568656c6c6f0a006372df766534200a",
            Value::String(of("hello")),
            Form::Compact,
        ),
        (
            "00c139300a009d94ea2793fc08b9",
            Value::String(of("12345")),
            Form::Compact,
        ),
        (
            "00c3094064016161e057000161610a00e8a3b507b06df271",
            Value::String(of(&"a".repeat(100))),
            Form::Compact,
        ),
        (
            "00c290eefeff0a002875de7b13eb2800",
            Value::String(of("-70000")),
            Form::Compact,
        ),
        (
            "120102c3194059115900000004008161020101f178ec03e04678e03c000148ff0a001886d022af019cca",
            Value::List(vec![of("a"), of("1"), of("-5000"), of(&"x".repeat(70))]),
            Form::Compact,
        ),
        (
            "0b1404000000030000000100000002000000701101000a0085d5c1065b1dd055",
            Value::Set(vec![of("1"), of("2"), of("70000")]),
            Form::Compact,
        ),
        (
            "0202016101620a00fe642125eb033d0d",
            Value::Set(vec![of("a"), of("b")]),
            Form::Table,
        ),
        (
            "111d1d0000000600816302842d696e660581610283312e35048162020201ff0a0017dce91ab8436c89",
            Value::SortedSet(vec![
                (of("c"), f64::NEG_INFINITY),
                (of("a"), 1.5),
                (of("b"), 2.0),
            ]),
            Form::Compact,
        ),
        (
            "101a1a0000000400816602817602816e02f4141a99be1c00000009ff0a00f82db89766f63f16",
            Value::Hash(vec![(of("f"), of("v")), (of("n"), of("123456789012"))]),
            Form::Compact,
        ),
        (
            "04010166c3094041017979e034000179790a0021ef8f5990cf4fd0",
            Value::Hash(vec![(of("f"), of(&"y".repeat(65)))]),
            Form::Table,
        ),
        (
            "0502c3094041017171e0340001717100000000000008400162000000000000f03f0a00b40fcc50d347c27c",
            Value::SortedSet(vec![(of("b"), 1.0), (of(&"q".repeat(65)), 3.0)]),
            Form::Table,
        ),
    ]
}

/// A stream with a deleted entry, a group, a consumer and one pending entry.
const STREAM: &str = "130110000000000000000100000000000000014048480000001900020101010201816602\
816702000102010001000181760281770205010301000101018276320382773203050100010101dfff020101856f746865\
7206816f020601ff0202000101010203010167010181ffffffffffffffff01000000000000000100000000000000011c\
470614a201000001010263311c470614a201000001000000000000000100000000000000010a009ec93a114552bc0d";

fn decoded(payload: &[u8]) -> Result<Value, Malformed> {
    decode(verify(payload).expect("version and checksum are right"))
}

#[test]
fn payloads_of_redis_are_read_and_written_to_the_byte() {
    for (hex, value, form) in golden() {
        let mut got = decoded(&bytes(hex)).unwrap();
        if let (Value::SortedSet(members), Form::Table) = (&mut got, form) {
            members.reverse();
        }
        assert_eq!(got, value, "{hex}");
        let text: String = encode(&value, form)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(text, hex);
    }
}

#[test]
fn a_stream_of_redis_is_read_and_comes_back_from_our_own_bytes() {
    let Value::Stream(stream) = decoded(&bytes(STREAM)).unwrap() else {
        panic!("a stream");
    };
    let id = |ms, seq| StreamId { ms, seq };
    assert_eq!(
        stream.entries,
        [
            StreamEntry {
                id: id(1, 1),
                fields: vec![(of("f"), of("v")), (of("g"), of("w"))],
            },
            StreamEntry {
                id: id(2, 0),
                fields: vec![(of("other"), of("o"))],
            },
        ]
    );
    assert_eq!((stream.last_id, stream.max_deleted), (id(2, 0), id(1, 2)));
    assert_eq!(stream.entries_added, 3);
    let group = &stream.groups[0];
    assert_eq!((&group.name[..], group.last_id), (&b"g"[..], id(1, 1)));
    assert_eq!(group.entries_read, None);
    assert_eq!(group.consumers[0].name, b"c1");
    assert_eq!(group.pending[&id(1, 1)].deliveries, 1);
    let own = encode(&Value::Stream(stream.clone()), Form::Compact);
    assert_eq!(decoded(&own), Ok(Value::Stream(stream)));
}

#[test]
fn another_version_and_a_wrong_checksum_are_refused() {
    let good = bytes("000568656c6c6f0a006372df766534200a");
    assert!(verify(&good).is_ok());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(verify(&bad), Err(Unverified));
    }
    assert_eq!(verify(b"\0"), Err(Unverified));
    let mut later = vec![0, 1, b'x', 11, 0];
    let sum = CRC64.checksum(&later);
    later.extend_from_slice(&sum.to_le_bytes());
    assert_eq!(verify(&later), Err(Unverified));
}

#[test]
fn spoiled_values_are_malformed_and_never_panic() {
    let all = golden().into_iter().map(|(hex, _, _)| bytes(hex));
    for payload in all.chain([bytes(STREAM)]) {
        let body = verify(&payload).unwrap().to_vec();
        for at in 0..body.len() {
            let _ = decode(&body[..at]);
            for value in [0, 1, 0x7f, 0x80, 0xc3, 0xff, body[at] ^ 1, body[at] ^ 0x80] {
                let mut bad = body.clone();
                bad[at] = value;
                let _ = decode(&bad);
            }
        }
    }
}

#[test]
fn what_is_only_claimed_costs_nothing() {
    // A set, a string and a list of 2^62 elements.
    for kind in [0, 1, 2, 4, 18] {
        let claim = [kind, 0x81, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, b'x'];
        assert_eq!(decode(&claim), Err(Malformed));
    }
    // A gigabyte out of four compressed bytes.
    let claim = [0, 0xc3, 4, 0x80, 0x40, 0, 0, 0, 1, 2, 3, 4];
    assert_eq!(decode(&claim), Err(Malformed));
}

#[test]
fn doubled_members_and_empty_collections_are_malformed() {
    assert_eq!(decode(&[kind::SET, 2, 1, b'a', 1, b'a']), Err(Malformed));
    assert_eq!(decode(&[kind::SET, 0]), Err(Malformed));
    assert_eq!(
        decode(&[kind::HASH, 2, 1, b'a', 0, 1, b'a', 0]),
        Err(Malformed)
    );
}

#[test]
fn what_follows_a_value_is_passed_over() {
    for (hex, value, form) in golden() {
        let (kind, body) = encode_body(&value, form);
        let behind = [&[kind][..], &body, b"behind"].concat();
        let mut got = decoded(&seal(behind)).unwrap();
        if let (Value::SortedSet(members), Form::Table) = (&mut got, form) {
            members.reverse();
        }
        assert_eq!(got, value, "{hex}");
    }
}

#[test]
fn old_forms_are_read() {
    // Written by hand from the formats' descriptions.
    let ziplist = [
        19, 0, 0, 0, 14, 0, 0, 0, 2, 0, 0, 2, b'a', b'b', 4, 0xc0, 0x10, 0x27, 0xff,
    ];
    let mut list = vec![kind::LIST_ZIPLIST, 19];
    list.extend_from_slice(&ziplist);
    assert_eq!(decode(&list), Ok(Value::List(vec![of("ab"), of("10000")])));
    let zipmap = [1, 1, b'k', 2, 0, b'v', b'w', 0xff];
    let mut hash = vec![kind::HASH_ZIPMAP, 8];
    hash.extend_from_slice(&zipmap);
    assert_eq!(decode(&hash), Ok(Value::Hash(vec![(of("k"), of("vw"))])));
    let zset = [kind::ZSET, 1, 1, b'm', 3, b'1', b'.', b'5'];
    assert_eq!(decode(&zset), Ok(Value::SortedSet(vec![(of("m"), 1.5)])));
}

#[test]
fn old_forms_that_contradict_themselves_are_malformed() {
    let ziplist = [
        19, 0, 0, 0, 14, 0, 0, 0, 2, 0, 0, 2, b'a', b'b', 4, 0xc0, 0x10, 0x27, 0xff,
    ];
    // The place of the last entry; what entries say of the length of the one before.
    for (at, wrong) in [(4, 10), (10, 1), (14, 5)] {
        let mut list = vec![kind::LIST_ZIPLIST, 19];
        list.extend_from_slice(&ziplist);
        list[2 + at] = wrong;
        assert_eq!(decode(&list), Err(Malformed), "wrong at {at}");
    }
    // One pair where two are announced, then five bytes for a length of one byte.
    let zipmaps: [&[u8]; 3] = [
        &[2, 1, b'k', 1, 0, b'v', 0xff],
        &[1, 0xfe, 1, 0, 0, 0, b'k', 1, 0, b'v', 0xff],
        &[1, 1, b'k', 0xfe, 1, 0, 0, 0, 0, b'v', 0xff],
    ];
    for zipmap in zipmaps {
        let mut hash = vec![kind::HASH_ZIPMAP, zipmap.len() as u8];
        hash.extend_from_slice(zipmap);
        assert_eq!(decode(&hash), Err(Malformed), "{zipmap:?}");
    }
}

#[test]
fn an_empty_node_of_a_list_is_malformed() {
    assert_eq!(decode(&[kind::LIST_QUICKLIST_2, 1, 1, 0]), Err(Malformed));
}

#[test]
fn a_group_with_two_consumers_of_one_name_is_malformed() {
    let consumers = |first: u8, second: u8| {
        let mut body = vec![kind::STREAM, 0, 0, 0, 0, 1, 1, b'g', 0, 0, 0, 2];
        for name in [first, second] {
            body.extend_from_slice(&[1, name, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        body
    };
    assert!(decode(&consumers(b'a', b'b')).is_ok());
    assert_eq!(decode(&consumers(b'a', b'a')), Err(Malformed));
}
