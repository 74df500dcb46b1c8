//! The request parser against Redis's rules: exact errors, any segmentation,
//! arbitrary bytes, and a naive second implementation.

use bytes::BytesMut;
use cairn_protocol::resp::{Limits, ProtocolError, RequestParser, Requests, encode_request};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

type Request = Vec<Vec<u8>>;

/// All that a connection would see of a stream.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    requests: Vec<Request>,
    error: Option<ProtocolError>,
    /// Bytes of an unfinished request at the end.
    left: usize,
}

/// Feeds the pieces to one parser, taking at most `batch` requests per call.
fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits, batch: usize) -> Outcome {
    let mut parser = RequestParser::new();
    let mut input = BytesMut::new();
    let mut out = Requests::default();
    let mut outcome = Outcome::default();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match parser.parse(&mut input, limits, batch, &mut out) {
                Ok(0) => break,
                Ok(count) => {
                    assert_eq!(count, out.len());
                    assert!(count <= batch);
                    outcome.requests.extend(out.iter().map(owned));
                }
                Err(error) => {
                    assert!(out.is_empty());
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    outcome.left = input.len();
    outcome
}

fn owned(args: cairn_protocol::resp::Args<'_>) -> Request {
    let request: Request = args.iter().map(<[u8]>::to_vec).collect();
    for (index, arg) in request.iter().enumerate() {
        assert_eq!(args.bytes(index), arg);
    }
    if let Some(wire) = args.wire() {
        assert!(wire.starts_with(b"*") && wire.ends_with(b"\r\n"));
        assert_eq!(args.wire_bytes().unwrap(), wire);
    }
    request
}

fn whole(stream: &[u8]) -> Outcome {
    run([stream], &Limits::default(), usize::MAX)
}

fn requests(stream: &[u8]) -> Vec<Vec<String>> {
    let outcome = whole(stream);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.left, 0);
    let text = |arg: &Vec<u8>| arg.escape_ascii().to_string();
    let texts = |request: &Request| request.iter().map(text).collect();
    outcome.requests.iter().map(texts).collect()
}

#[test]
fn arrays_and_inline_lines_mix_in_one_stream() {
    let stream = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\nset k \"a b\"\n*1\r\n$4\r\nPING\r\n";
    assert_eq!(
        requests(stream),
        [
            vec!["GET", "a"],
            vec!["PING"],
            vec!["set", "k", "a b"],
            vec!["PING"]
        ]
    );
}

#[test]
fn empty_requests_and_empty_lines_are_ignored() {
    let stream = b"\r\n\n*0\r\n*-1\r\n*-17\r\n   \r\n*1\r\n$4\r\nPING\r\n\r\n";
    assert_eq!(requests(stream), [vec!["PING"]]);
    let only_empty = whole(b"*0\r\n\r\n*-1\r\n");
    assert_eq!(only_empty, Outcome::default());
}

#[test]
fn arguments_are_binary_and_may_be_empty() {
    let stream = b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$6\r\n\r\n\0\xff$1\r\n";
    assert_eq!(requests(stream), [vec!["SET", "", r"\r\n\x00\xff$1"]]);
}

#[test]
fn a_quoted_inline_argument_is_unquoted() {
    let stream = br#"set "k\x41\n" 'it\'s' ab"c d""#;
    let line = [&stream[..], b"\r\n"].concat();
    assert_eq!(requests(&line), [vec!["set", r"kA\n", r"it\'s", "abc d"]]);
}

#[test]
fn a_request_may_have_more_than_a_million_arguments() {
    let mut stream = b"*1048577\r\n".to_vec();
    stream.extend(b"$0\r\n\r\n".repeat(1_048_577));
    let found = requests(&stream);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].len(), 1_048_577);
}

#[test]
fn malformed_requests_get_redis_error_lines() {
    let long = |prefix: &str| [prefix.as_bytes(), &vec![b'1'; 70_000]].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"*x\r\n".to_vec(), "invalid multibulk length"),
        (b"*\r\n".to_vec(), "invalid multibulk length"),
        (b"*+1\r\n".to_vec(), "invalid multibulk length"),
        (b"*01\r\n".to_vec(), "invalid multibulk length"),
        (b"* 1\r\n".to_vec(), "invalid multibulk length"),
        (b"*1\rx".to_vec(), "invalid multibulk length"),
        (b"*2147483648\r\n".to_vec(), "invalid multibulk length"),
        (b"*3000000000\r\n".to_vec(), "invalid multibulk length"),
        (
            b"*99999999999999999999999\r\n".to_vec(),
            "invalid multibulk length",
        ),
        (b"*1\r\n$-1\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$x\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$01\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$536870913\r\n".to_vec(), "invalid bulk length"),
        (
            b"*1\r\n$9223372036854775807\r\n".to_vec(),
            "invalid bulk length",
        ),
        (
            b"*1\r\n$18446744073709551616\r\n".to_vec(),
            "invalid bulk length",
        ),
        (b"*1\r\n$1\r\nabc\r\n".to_vec(), "invalid bulk length"),
        (
            b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n".to_vec(),
            "expected '$', got 'f'",
        ),
        (b"*1\r\n:1\r\n".to_vec(), "expected '$', got ':'"),
        (b"*1\r\n\r\n".to_vec(), "expected '$', got ' '"),
        (b"*1\r\n*1\r\n".to_vec(), "expected '$', got '*'"),
        (b"set a \"b\r\n".to_vec(), "unbalanced quotes in request"),
        (b"set a 'b'c\r\n".to_vec(), "unbalanced quotes in request"),
        (vec![b'a'; 65_537], "too big inline request"),
        (
            [vec![b'a'; 65_537], b"\r\n".to_vec()].concat(),
            "too big inline request",
        ),
        (long("*"), "too big mbulk count string"),
        (long("*1\r\n$"), "too big bulk count string"),
        // A NUL hides the line's end, as from strchr.
        (
            [b"\0\r\n".to_vec(), vec![b'a'; 65_536]].concat(),
            "too big inline request",
        ),
    ];
    for (stream, text) in cases {
        let shown = stream[..stream.len().min(40)].escape_ascii().to_string();
        let stream = [b"PING\r\n", &stream[..]].concat();
        let outcome = whole(&stream);
        assert_eq!(outcome.requests, [[b"PING"]], "{shown}");
        let error = outcome.error.unwrap_or_else(|| panic!("{shown}: accepted"));
        assert_eq!(
            error.to_string(),
            format!("ERR Protocol error: {text}"),
            "{shown}"
        );
        assert_eq!(error.line(), error.to_string().as_bytes());
    }
}

#[test]
fn the_largest_line_lengths_are_accepted() {
    let mut line = vec![b'a'; 65_535];
    line.extend_from_slice(b"\r\n");
    assert_eq!(whole(&line).requests[0][0].len(), 65_535);
}

#[test]
fn unauthenticated_clients_get_small_limits() {
    let limits = Limits::unauthenticated();
    for (stream, text) in [
        ("*11\r\n", "unauthenticated multibulk length"),
        ("*1\r\n$16385\r\n", "unauthenticated bulk length"),
    ] {
        let outcome = run([stream.as_bytes()], &limits, 1);
        let error = outcome.error.unwrap().to_string();
        assert_eq!(error, format!("ERR Protocol error: {text}"));
    }
    let auth = b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n";
    assert_eq!(run([&auth[..]], &limits, 1).requests.len(), 1);
}

#[test]
fn limits_may_be_raised_between_requests() {
    let mut input = BytesMut::from(&b"AUTH x\r\n*11\r\n"[..]);
    for _ in 0..11 {
        input.extend_from_slice(b"$1\r\nx\r\n");
    }
    let mut parser = RequestParser::new();
    let mut out = Requests::default();
    let auth = parser.parse(&mut input, &Limits::unauthenticated(), 1, &mut out);
    assert_eq!((auth, out.get(0).get(0)), (Ok(1), &b"AUTH"[..]));
    let next = parser.parse(&mut input, &Limits::default(), 1, &mut out);
    assert_eq!((next, out.get(0).len()), (Ok(1), 11));
}

#[test]
fn a_request_beyond_the_query_buffer_limit_is_refused_when_announced() {
    let limits = Limits {
        max_request_bytes: 1000,
        ..Limits::default()
    };
    let stream = [&b"*2\r\n$900\r\n"[..], &[b'x'; 900], b"\r\n$100\r\n"].concat();
    let outcome = run([&stream[..]], &limits, 9);
    assert_eq!(outcome.error, Some(ProtocolError::RequestTooBig));
}

#[test]
fn an_error_is_final_and_comes_after_the_requests_before_it() {
    let mut parser = RequestParser::new();
    let mut input = BytesMut::from(&b"*1\r\n$4\r\nPING\r\n*x\r\n*1\r\n$4\r\nPING\r\n"[..]);
    let mut out = Requests::default();
    let limits = Limits::default();
    assert_eq!(parser.parse(&mut input, &limits, 10, &mut out), Ok(1));
    assert_eq!(out.get(0).get(0), b"PING");
    let error = Err(ProtocolError::InvalidMultibulkLength);
    assert_eq!(parser.parse(&mut input, &limits, 10, &mut out), error);
    assert!(out.is_empty());
    input.extend_from_slice(b"PING\r\n");
    assert_eq!(parser.parse(&mut input, &limits, 10, &mut out), error);
}

#[test]
fn wire_form_can_be_passed_on_or_shared() {
    let first = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
    let second = b"*1\r\n$4\r\nPING\r\n";
    let stream = [&b"*0\r\n"[..], first, b"echo x\r\n", second].concat();
    let mut input = BytesMut::from(&stream[..]);
    let mut out = Requests::default();
    let mut parser = RequestParser::new();
    parser
        .parse(&mut input, &Limits::default(), 10, &mut out)
        .unwrap();
    assert_eq!(out.get(0).wire(), Some(&first[..]));
    assert_eq!(out.get(1).wire(), None);
    assert_eq!(out.get(2).wire(), Some(&second[..]));
    assert_eq!(out.get(0).slice_from(1).wire(), None);

    let shared = out.share(2);
    let mut queue = Requests::default();
    queue.push_copy(out.get(0));
    queue.push_copy(out.get(1));
    // A batch that came from the parser can be added to as well.
    out.push_owned(["DEL", "b"]);
    assert_eq!(out.len(), 4);
    assert_eq!(format!("{:?}", out.get(3)), r#"["DEL", "b"]"#);
    assert_eq!(format!("{:?}", out.get(0)), r#"["GET", "a"]"#);
    out.clear();
    assert_eq!(shared.get(0).wire_bytes().unwrap(), &second[..]);
    assert_eq!(format!("{:?}", queue.get(1)), r#"["echo", "x"]"#);
}

#[test]
fn a_batch_can_go_to_another_thread() {
    let mut out = Requests::default();
    let mut input = BytesMut::from(&b"PING\r\n"[..]);
    RequestParser::new()
        .parse(&mut input, &Limits::default(), 1, &mut out)
        .unwrap();
    let moved = std::thread::spawn(move || out.get(0).get(0).to_vec());
    assert_eq!(moved.join().unwrap(), b"PING");
}

#[test]
fn every_split_point_gives_the_same_result() {
    let streams: [&[u8]; 6] = [
        b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$5\r\nhello\r\n*1\r\n$4\r\nPING\r\n",
        b"*2\r\n$3\r\nGET\r\n$12\r\n\r\n$0\r\n*1\r\n\0\0\r\nPING\r\n",
        b"set \"a b\" 'c\\'d' \"\\x41\"\r\n\r\n*0\r\n*-3\r\nping\nget x\r\n",
        b"PING\r\n*1\r\n$2\r\nxy\rz",
        b"PING\r\n*1\r\nx",
        b"PING\r\nset 'a\r\nPING\r\n",
    ];
    for stream in streams {
        let expected = whole(stream);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                let shown = format!("{} at {first}, {second}", stream.escape_ascii());
                for batch in [1, 2, usize::MAX] {
                    let outcome = run(pieces, &Limits::default(), batch);
                    assert_eq!(outcome, expected, "{shown}");
                }
            }
        }
    }
}

#[test]
fn every_truncation_waits_for_the_rest() {
    let request = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$5\r\nhello\r\n";
    for length in 0..request.len() {
        let outcome = whole(&request[..length]);
        assert_eq!((outcome.error, outcome.left), (None, length));
        assert!(outcome.requests.is_empty());
    }
}

#[test]
fn a_long_request_in_small_pieces_is_parsed_once() {
    // Parsed again for each piece, or copied, it would take minutes.
    let args = vec!["abc"; 300_000];
    let mut stream = Vec::new();
    encode_request(&mut stream, &args);
    let start = std::time::Instant::now();
    let outcome = run(stream.chunks(64), &Limits::default(), 10);
    assert_eq!(outcome.requests[0].len(), args.len());
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

/// Read as a connection reads, an argument takes what it announces, not twice as much.
#[test]
fn the_room_for_a_large_argument_follows_what_is_announced() {
    const READ: usize = 4 << 10;
    let len = (1 << 20) + 12_345;
    let mut parser = RequestParser::new();
    let (mut input, mut out) = (BytesMut::with_capacity(READ), Requests::default());
    let mut wire = format!("*2\r\n${len}\r\n").into_bytes();
    wire.resize(wire.len() + len, b'v');
    let (mut rest, mut moves) = (&wire[..], 0);
    while !rest.is_empty() {
        let was_at = input.as_ptr();
        if input.capacity() - input.len() < READ {
            input.reserve(READ);
        }
        let n = rest.len().min(input.capacity() - input.len());
        input.extend_from_slice(&rest[..n]);
        rest = &rest[n..];
        let complete = parser.parse(&mut input, &Limits::default(), 16, &mut out);
        assert_eq!(complete, Ok(0));
        moves += usize::from(input.as_ptr() != was_at);
    }
    let room = input.capacity() - input.len();
    assert!((READ..20 << 10).contains(&room), "{room}");
    assert!(moves <= 8, "{moves}");
}

/// Bytes that look enough like the protocol to get past its first line.
fn random_stream(rng: &mut StdRng) -> Vec<u8> {
    const TOKENS: [&[u8]; 30] = [
        b"*",
        b"$",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"0",
        b"1",
        b"2",
        b"-1",
        b"01",
        b"*1\r\n",
        b"*2\r\n",
        b"*3\r\n$3\r\nSET\r\n",
        b"$1\r\na\r\n",
        b"$1\r\nb\r\n",
        b"$0\r\n\r\n",
        b"$4\r\nPING\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"PING\r\n",
        b"\"",
        b"'",
        b"\\x4",
        b" ",
        b"\0",
        b"9999999999",
        b"*1048576\r\n",
        b"$536870912\r\n",
        b"*9\r\n",
    ];
    let mut stream = Vec::new();
    for _ in 0..rng.random_range(0..25) {
        match rng.random_range(0..12) {
            0 => stream.push(rng.random()),
            _ => stream.extend_from_slice(TOKENS.choose(rng).unwrap()),
        }
    }
    if rng.random_ratio(1, 4) {
        let noise = rng.random_range(0..200);
        stream.extend((0..noise).map(|_| rng.random::<u8>()));
    }
    stream
}

fn random_pieces<'a>(rng: &mut StdRng, mut stream: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let longest = *[1, 3, 16, 300].choose(rng).unwrap();
    while !stream.is_empty() {
        let (piece, rest) = stream.split_at(rng.random_range(1..=longest.min(stream.len())));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

#[test]
fn ten_thousand_random_streams_are_read_alike_however_they_are_cut() {
    // Small lines make the length limits reachable by short streams.
    let tight = Limits {
        max_inline: 20,
        max_args: 5,
        max_bulk: 30,
        max_request_bytes: 60,
        authenticated: true,
    };
    let (mut complete, mut failed) = (0, 0);
    for seed in 0..10_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let stream = random_stream(&mut rng);
        for limits in [Limits::default(), Limits::unauthenticated(), tight] {
            let expected = naive::read(&stream, &limits);
            let shown = format!("seed {seed}: {}", stream.escape_ascii());
            assert_eq!(run([&stream[..]], &limits, usize::MAX), expected, "{shown}");
            let bytes = stream.chunks(1);
            assert_eq!(run(bytes, &limits, 1), expected, "{shown}");
            let pieces = random_pieces(&mut rng, &stream);
            assert_eq!(run(pieces, &limits, 2), expected, "{shown}");
            complete += expected.requests.len();
            failed += usize::from(expected.error.is_some());
        }
    }
    // The generator must reach both ends, or the test proves little.
    assert!(complete > 3_000 && failed > 3_000, "{complete}, {failed}");
}

#[test]
fn well_formed_requests_are_read_as_redis_protocol_reads_them() {
    use redis_protocol::resp2::{decode::decode, types::OwnedFrame};
    for seed in 0..2_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut stream = Vec::new();
        for _ in 0..rng.random_range(1..5) {
            let args: Vec<Vec<u8>> = (0..rng.random_range(1..6))
                .map(|_| {
                    (0..rng.random_range(0..300))
                        .map(|_| rng.random())
                        .collect()
                })
                .collect();
            encode_request(&mut stream, &args);
        }
        let mut theirs = Vec::new();
        let mut rest = &stream[..];
        while let Some((frame, length)) = decode(rest).unwrap() {
            let OwnedFrame::Array(args) = frame else {
                panic!("seed {seed}: not an array")
            };
            let bulk = |arg| match arg {
                OwnedFrame::BulkString(bytes) => bytes,
                other => panic!("seed {seed}: {other:?}"),
            };
            theirs.push(args.into_iter().map(bulk).collect::<Request>());
            rest = &rest[length..];
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(whole(&stream).requests, theirs, "seed {seed}");
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back(
        sent in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 0..6),
        piece in 1_usize..50,
        batch in 1_usize..4,
    ) {
        let mut stream = Vec::new();
        for request in &sent {
            encode_request(&mut stream, request);
        }
        let outcome = run(stream.chunks(piece), &Limits::default(), batch);
        prop_assert_eq!(outcome.requests, sent);
        prop_assert_eq!(outcome.error, None);
        prop_assert_eq!(outcome.left, 0);
    }

    #[test]
    fn any_argument_can_be_sent_inline_in_quotes(
        args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..5),
        piece in 1_usize..20,
    ) {
        let mut line = Vec::new();
        for arg in &args {
            line.push(b'"');
            for byte in arg {
                line.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
            }
            line.extend_from_slice(b"\" ");
        }
        line.extend_from_slice(b"\r\n");
        let outcome = run(line.chunks(piece), &Limits::default(), 9);
        prop_assert_eq!(outcome.requests, vec![args]);
    }
}

/// The rules again, written for clarity: the whole stream at once, copies
/// everywhere, no state.
mod naive {
    use super::*;

    /// `None`: more bytes are needed. Else the request and what follows it.
    type Step<'a> = Option<(Request, &'a [u8])>;
    /// The same for an argument.
    type Bulk<'a> = Option<(Vec<u8>, &'a [u8])>;
    /// The same for a header: its number's text, whether an LF follows its CR.
    type Header<'a> = Option<(&'a str, bool, &'a [u8])>;

    pub fn read(stream: &[u8], limits: &Limits) -> Outcome {
        let mut outcome = Outcome::default();
        let mut rest = stream;
        while !rest.is_empty() {
            let step = match rest[0] {
                b'*' => array(rest, limits),
                _ => inline(rest, limits),
            };
            match step {
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
                Ok(None) => break,
                Ok(Some((request, after))) => {
                    outcome
                        .requests
                        .extend(Some(request).filter(|r| !r.is_empty()));
                    rest = after;
                }
            }
        }
        // A skipped empty request is consumed; an unfinished one stays.
        outcome.left = rest.len();
        outcome
    }

    fn line<'a>(
        rest: &'a [u8],
        mark: u8,
        limits: &Limits,
        error: ProtocolError,
    ) -> Result<Option<&'a [u8]>, ProtocolError> {
        let visible = rest.split(|b| *b == 0).next().unwrap();
        match visible.iter().position(|b| *b == mark) {
            Some(at) if at > limits.max_inline => Err(error),
            Some(at) => Ok(Some(&rest[..at])),
            None if rest.len() > limits.max_inline => Err(error),
            None => Ok(None),
        }
    }

    /// A header's number text and its follower byte, once both are there.
    fn header<'a>(
        rest: &'a [u8],
        limits: &Limits,
        error: ProtocolError,
    ) -> Result<Header<'a>, ProtocolError> {
        let Some(line) = line(rest, b'\r', limits, error)? else {
            return Ok(None);
        };
        let Some(follower) = rest.get(line.len() + 1) else {
            return Ok(None);
        };
        let number = line.get(1..).unwrap_or(&[]);
        let number = std::str::from_utf8(number).unwrap_or("?");
        Ok(Some((number, *follower == b'\n', &rest[line.len() + 2..])))
    }

    fn canonical(number: &str) -> Option<i64> {
        number
            .parse()
            .ok()
            .filter(|n: &i64| n.to_string() == number)
    }

    fn array<'a>(all: &'a [u8], limits: &Limits) -> Result<Step<'a>, ProtocolError> {
        let too_big = ProtocolError::MultibulkCountTooBig;
        let Some((count, lf, mut rest)) = header(all, limits, too_big)? else {
            return Ok(None);
        };
        let count = canonical(count).filter(|n| lf && *n <= limits.max_args as i64);
        let count = count.ok_or(ProtocolError::InvalidMultibulkLength)?;
        if !limits.authenticated && count > 10 {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        let mut request = Request::new();
        for _ in 0..count {
            let Some((arg, after)) = bulk(all, rest, limits)? else {
                return Ok(None);
            };
            request.push(arg);
            rest = after;
        }
        Ok(Some((request, rest)))
    }

    fn bulk<'a>(all: &[u8], rest: &'a [u8], limits: &Limits) -> Result<Bulk<'a>, ProtocolError> {
        let too_big = ProtocolError::BulkCountTooBig;
        let Some((length, lf, after)) = header(rest, limits, too_big)? else {
            return Ok(None);
        };
        if rest[0] != b'$' {
            return Err(ProtocolError::ExpectedBulk(rest[0]));
        }
        let length = canonical(length).filter(|n| lf && *n >= 0 && *n <= limits.max_bulk as i64);
        let length = length.ok_or(ProtocolError::InvalidBulkLength)? as usize;
        if !limits.authenticated && length > 16_384 {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        if all.len() - after.len() + length + 2 > limits.max_request_bytes {
            return Err(ProtocolError::RequestTooBig);
        }
        if after.len() < length + 2 {
            return Ok(None);
        }
        match &after[length..length + 2] {
            b"\r\n" => Ok(Some((after[..length].to_vec(), &after[length + 2..]))),
            _ => Err(ProtocolError::InvalidBulkLength),
        }
    }

    fn inline<'a>(all: &'a [u8], limits: &Limits) -> Result<Step<'a>, ProtocolError> {
        let too_big = ProtocolError::InlineTooBig;
        let Some(line) = line(all, b'\n', limits, too_big)? else {
            return Ok(None);
        };
        let after = &all[line.len() + 1..];
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        let words = split(text).ok_or(ProtocolError::UnbalancedQuotes)?;
        Ok(Some((words, after)))
    }

    fn split(text: &[u8]) -> Option<Request> {
        let space = |b: u8| b.is_ascii_whitespace() || b == 0x0b;
        let mut words = Request::new();
        let mut at = 0;
        loop {
            while text.get(at).is_some_and(|b| space(*b)) {
                at += 1;
            }
            if at == text.len() {
                return Some(words);
            }
            let mut word = Vec::new();
            while let Some(&byte) = text.get(at) {
                if b" \t\r\n".contains(&byte) {
                    break;
                }
                if byte == b'"' || byte == b'\'' {
                    let (value, length) = quoted(&text[at + 1..], byte)?;
                    word.extend(value);
                    at += 1 + length;
                    if text.get(at).is_some_and(|b| !space(*b)) {
                        return None;
                    }
                    break;
                }
                word.push(byte);
                at += 1;
            }
            words.push(word);
        }
    }

    /// The text up to the closing quote, and the length including it.
    fn quoted(text: &[u8], quote: u8) -> Option<(Vec<u8>, usize)> {
        let mut value = Vec::new();
        let mut at = 0;
        loop {
            let byte = *text.get(at)?;
            let next = text.get(at + 1).copied();
            if byte == quote {
                return Some((value, at + 1));
            }
            let (out, used) = match (byte, next, quote) {
                (b'\\', Some(b'\''), b'\'') => (b'\'', 2),
                (b'\\', Some(b'x'), b'"') => match hex(text.get(at + 2..at + 4)) {
                    Some(value) => (value, 4),
                    None => (b'x', 2),
                },
                (b'\\', Some(escaped), b'"') => {
                    let from = b"nrtba".iter().position(|b| *b == escaped);
                    (from.map_or(escaped, |at| b"\n\r\t\x08\x07"[at]), 2)
                }
                _ => (byte, 1),
            };
            value.push(out);
            at += used;
        }
    }

    fn hex(pair: Option<&[u8]>) -> Option<u8> {
        let pair = pair.filter(|pair| pair.iter().all(u8::is_ascii_hexdigit))?;
        u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
    }
}
