//! The boundary scanner and the decoder behind it: every kind of reply, every
//! split point, hostile nesting, and agreement with `redis-protocol`.

use bytes::Bytes;
use cairn_protocol::resp::{
    DecodeError, Frame, FrameScanner, ScanError, ScanLimits, Version, decode,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn scan(bytes: &[u8]) -> Result<Option<usize>, ScanError> {
    FrameScanner::new(ScanLimits::default()).scan(bytes)
}

#[test]
fn the_end_of_every_kind_of_reply_is_found() {
    for reply in [
        "+OK\r\n",
        "+\r\n",
        "-ERR x\r\n",
        ":-5\r\n",
        "$0\r\n\r\n",
        "$4\r\n\r\n\r\n\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n+a\r\n*1\r\n$1\r\nb\r\n",
        "_\r\n",
        ",3.5\r\n",
        "#t\r\n",
        "!5\r\nERR x\r\n",
        "=7\r\ntxt:abc\r\n",
        "(12345678901234567890\r\n",
        "%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n",
        "~2\r\n+a\r\n*0\r\n",
        ">2\r\n+message\r\n*1\r\n:1\r\n",
        "|1\r\n+ttl\r\n:5\r\n$1\r\nx\r\n",
        "|0\r\n+x\r\n",
        "*2\r\n|1\r\n+a\r\n*1\r\n+b\r\n:1\r\n|0\r\n:2\r\n",
    ] {
        let stream = [reply.as_bytes(), b"+next\r\n"].concat();
        assert_eq!(scan(&stream), Ok(Some(reply.len())), "{reply:?}");
        for cut in 0..reply.len() {
            let mut scanner = FrameScanner::default();
            assert_eq!(scanner.scan(&stream[..cut]), Ok(None), "{reply:?} at {cut}");
            assert_eq!(
                scanner.scan(&stream),
                Ok(Some(reply.len())),
                "{reply:?} at {cut}"
            );
            let next = &stream[reply.len()..];
            assert_eq!(
                scanner.scan(next),
                Ok(Some(next.len())),
                "{reply:?} at {cut}"
            );
        }
    }
}

#[test]
fn malformed_replies_are_refused() {
    for (reply, error) in [
        ("OK\r\n", ScanError::UnknownType(b'O')),
        ("\r\n", ScanError::UnknownType(b'\r')),
        ("$x\r\n", ScanError::InvalidLength),
        ("$-2\r\n", ScanError::InvalidLength),
        ("*-2\r\n", ScanError::InvalidLength),
        ("%-1\r\n", ScanError::InvalidLength),
        ("=-1\r\n", ScanError::InvalidLength),
        ("%9223372036854775808\r\n", ScanError::InvalidLength),
        ("$9223372036854775807\r\n", ScanError::TooLong),
        ("$1\r\nabc\r\n", ScanError::MissingLineEnd),
        ("+a\rb\r\n", ScanError::MissingLineEnd),
        ("*?\r\n", ScanError::Streamed),
        ("$?\r\n", ScanError::Streamed),
        (";4\r\nabcd\r\n", ScanError::Streamed),
        (".\r\n", ScanError::Streamed),
    ] {
        assert_eq!(scan(reply.as_bytes()), Err(error), "{reply:?}");
        let nested = format!("*2\r\n:1\r\n{reply}");
        assert_eq!(scan(nested.as_bytes()), Err(error), "{nested:?}");
    }
}

#[test]
fn nesting_is_refused_beyond_the_limit_and_costs_no_stack() {
    let nested = |depth: usize| ["*1\r\n".repeat(depth), ":1\r\n".to_owned()].concat();
    let deepest = nested(128);
    assert_eq!(scan(deepest.as_bytes()), Ok(Some(deepest.len())));
    assert!(decode(&Bytes::from(deepest), Version::V2).is_ok());
    let bomb = nested(1_000_000);
    assert_eq!(scan(bomb.as_bytes()), Err(ScanError::TooDeep));
    let refused = decode(&Bytes::from(bomb), Version::V3);
    assert!(matches!(
        refused,
        Err(DecodeError::Malformed(ScanError::TooDeep))
    ));
}

#[test]
fn lines_and_replies_have_a_longest_length() {
    let limits = ScanLimits {
        max_depth: 2,
        max_line: 10,
        max_bulk: 20,
        max_frame: 100,
    };
    let scan = |bytes: &[u8]| FrameScanner::new(limits).scan(bytes);
    assert_eq!(scan(b"+123456789\r\n"), Ok(Some(12)));
    assert_eq!(scan(b"+1234567890\r\n"), Err(ScanError::TooLong));
    assert_eq!(scan(b"+1234567890"), Err(ScanError::TooLong));
    assert_eq!(scan(b"$21\r\n"), Err(ScanError::TooLong));
    let long = ["*9\r\n", &"$10\r\n0123456789\r\n".repeat(9)].concat();
    assert_eq!(scan(long.as_bytes()), Err(ScanError::TooLong));
}

#[test]
fn a_long_array_in_small_pieces_is_scanned_once() {
    // Scanned again for each piece it would take minutes.
    let elements = 300_000;
    let stream = [format!("*{elements}\r\n"), "$3\r\nabc\r\n".repeat(elements)].concat();
    let stream = stream.as_bytes();
    let start = std::time::Instant::now();
    let mut scanner = FrameScanner::default();
    for end in (0..stream.len()).step_by(64) {
        assert_eq!(scanner.scan(&stream[..end]), Ok(None));
    }
    assert_eq!(scanner.scan(stream), Ok(Some(stream.len())));
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

#[test]
fn missing_bytes_are_told_while_a_byte_string_comes() {
    let mut scanner = FrameScanner::default();
    assert_eq!(scanner.scan(b"$10\r\nabc"), Ok(None));
    assert_eq!(scanner.missing(b"$10\r\nabc"), 9);
}

#[test]
fn ten_thousand_random_streams_are_scanned_alike_however_they_are_cut() {
    for seed in 0..10_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let stream = noisy_reply(&mut rng);
        let expected = scan(&stream);
        let mut scanner = FrameScanner::default();
        let piecewise = (0..=stream.len())
            .map(|end| scanner.scan(&stream[..end]))
            .find(|result| *result != Ok(None))
            .unwrap_or(Ok(None));
        assert_eq!(
            piecewise,
            expected,
            "seed {seed}: {}",
            stream.escape_ascii()
        );
        // Whatever it is, decoding it never panics.
        for version in [Version::V2, Version::V3] {
            let _ = decode(&Bytes::copy_from_slice(&stream), version);
        }
    }
}

/// A well-formed reply with a few of its bytes changed, or noise.
fn noisy_reply(rng: &mut StdRng) -> Vec<u8> {
    let mut stream = Vec::new();
    reply(rng, &mut stream, Version::V3, 4);
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..stream.len());
        let marks = b"\r\n$*%~|>+:-10?\0";
        stream[at] = marks[rng.random_range(0..marks.len())];
    }
    let kept = rng.random_range(0..=stream.len());
    if rng.random_ratio(1, 3) {
        stream.truncate(kept);
    }
    stream
}

/// Writes a random well-formed reply.
fn reply(rng: &mut StdRng, out: &mut Vec<u8>, version: Version, depth: usize) {
    let kinds = match (version, depth) {
        (Version::V2, 0) => 5,
        (Version::V2, _) => 6,
        (Version::V3, 0) => 10,
        (Version::V3, _) => 15,
    };
    match (version, rng.random_range(0..kinds)) {
        (_, 0) => out.extend_from_slice(b"+status\r\n"),
        (_, 1) => out.extend_from_slice(b"-ERR error\r\n"),
        (_, 2) => out.extend(format!(":{}\r\n", rng.random::<i64>()).bytes()),
        (_, 3) => bulk(rng, out, "$", ""),
        (Version::V2, 4) => {
            out.extend_from_slice(if rng.random() { b"$-1\r\n" } else { b"*-1\r\n" })
        }
        (Version::V2, _) => elements(rng, out, version, depth, '*', 1),
        (_, 4) => out.extend_from_slice(b"_\r\n"),
        (_, 5) => out.extend(format!(",{}\r\n", rng.random::<f64>()).bytes()),
        (_, 6) => out.extend_from_slice(if rng.random() { b"#t\r\n" } else { b"#f\r\n" }),
        (_, 7) => out.extend(format!("({}\r\n", rng.random::<u128>()).bytes()),
        (_, 8) => bulk(rng, out, "=", "txt:"),
        (_, 9) => bulk(rng, out, "!", ""),
        (_, 10) => out.extend_from_slice(b"*0\r\n"),
        (_, 11) => elements(rng, out, version, depth, '*', 1),
        // Keys and members must be scalars, or redis-protocol refuses them.
        (_, 12) => pairs(rng, out, depth, '%'),
        (_, 13) => elements(rng, out, version, 1, '~', 1),
        (_, _) => {
            pairs(rng, out, depth, '|');
            // redis-protocol takes them before values other than nil only.
            bulk(rng, out, "$", "");
        }
    }
}

fn bulk(rng: &mut StdRng, out: &mut Vec<u8>, kind: &str, prefix: &str) {
    let mut value = prefix.as_bytes().to_vec();
    let len = rng.random_range(0..30);
    value.extend((0..len).map(|_| rng.random::<u8>()));
    out.extend(format!("{kind}{}\r\n", value.len()).bytes());
    out.extend(value);
    out.extend_from_slice(b"\r\n");
}

fn elements(
    rng: &mut StdRng,
    out: &mut Vec<u8>,
    version: Version,
    depth: usize,
    kind: char,
    factor: usize,
) {
    let count = rng.random_range(0..4);
    out.extend(format!("{kind}{count}\r\n").bytes());
    for _ in 0..count * factor {
        reply(rng, out, version, depth - 1);
    }
}

fn pairs(rng: &mut StdRng, out: &mut Vec<u8>, depth: usize, kind: char) {
    let count = rng.random_range(0..4);
    out.extend(format!("{kind}{count}\r\n").bytes());
    for key in 0..count {
        out.extend(format!("+key{key}\r\n").bytes());
        reply(rng, out, Version::V3, depth - 1);
    }
}

#[test]
fn well_formed_replies_end_where_redis_protocol_says() {
    for seed in 0..10_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        for version in [Version::V2, Version::V3] {
            let mut stream = Vec::new();
            reply(&mut rng, &mut stream, version, 4);
            let length = stream.len();
            let shown = format!("seed {seed}: {}", stream.escape_ascii());
            assert_eq!(scan(&stream), Ok(Some(length)), "{shown}");
            let decoded = decode(&Bytes::from(stream.clone()), version);
            assert!(decoded.is_ok(), "{shown}: {decoded:?}");
            stream.extend_from_slice(b"+more");
            assert_eq!(scan(&stream), Ok(Some(length)), "{shown}");
            let theirs = match version {
                Version::V2 => redis_protocol::resp2::decode::decode_range(&stream)
                    .map(|found| found.map(|(_, length)| length)),
                Version::V3 => redis_protocol::resp3::decode::complete::decode_range(&stream)
                    .map(|found| found.map(|(_, length)| length)),
            };
            assert_eq!(theirs, Ok(Some(length)), "{shown}");
        }
    }
}

#[test]
fn both_versions_decode_to_one_shape() {
    let resp2 = "*5\r\n$1\r\nx\r\n:7\r\n$-1\r\n-ERR e\r\n*-1\r\n";
    let resp3 = "*5\r\n$1\r\nx\r\n:7\r\n_\r\n-ERR e\r\n_\r\n";
    let from_resp2 = decode(&Bytes::from(resp2), Version::V2).unwrap();
    assert_eq!(
        from_resp2,
        decode(&Bytes::from(resp3), Version::V3).unwrap()
    );
    let Frame::Array { data, .. } = from_resp2 else {
        panic!("not an array")
    };
    assert_eq!(data[2], Frame::Null);
}

#[test]
fn decoding_takes_exactly_one_whole_reply() {
    let decode = |text: &'static str| decode(&Bytes::from(text), Version::V2);
    assert!(matches!(decode("+OK"), Err(DecodeError::Incomplete)));
    assert!(matches!(decode(""), Err(DecodeError::Incomplete)));
    assert!(matches!(decode("+OK\r\n+"), Err(DecodeError::Trailing(1))));
    assert!(matches!(decode(":x\r\n"), Err(DecodeError::Content(_))));
    assert!(matches!(decode("?\r\n"), Err(DecodeError::Malformed(_))));
}
