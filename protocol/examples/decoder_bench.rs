//! Decoder benchmark: 100,000 pipelined `SET key:000000000001 <128 B>`.
//!
//! Compares a minimal range parser (no limits, no resumption, no errors to
//! speak of: what any parser must at least do), ours, and the decoders of
//! `redis-protocol`. Every decoder reads the same bytes, handed over in one
//! piece or as a socket would in 16 KiB reads. Prints medians of 21 rounds;
//! the figures in docs/performance.md come from here.
//!
//! `cargo run --release -p cairn-protocol --example decoder_bench`

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use cairn_protocol::resp::{
    FrameScanner, Limits, ReplyWriter, RequestParser, Requests, ScanLimits, Version, encode_request,
};
use cairn_protocol::slot::key_slot;

const REQUESTS: usize = 100_000;
const ROUNDS: usize = 21;
const READ_BYTES: usize = 16 * 1024;

fn main() {
    let stream = pipelined_sets();
    println!(
        "{REQUESTS} pipelined SETs, {} bytes each",
        stream.len() / REQUESTS
    );
    report("minimal range parser, one piece", || minimal(&stream));
    report("cairn RequestParser, one piece", || {
        ours(&stream, usize::MAX)
    });
    report("cairn RequestParser, 16 KiB reads", || {
        ours(&stream, READ_BYTES)
    });
    report("  and every argument and slot used", || ours_used(&stream));
    report("  and every argument as Bytes", || ours_bytes(&stream));
    report("redis-protocol resp2 decode_range", || resp2_range(&stream));
    report("redis-protocol resp2 decode_bytes_mut", || {
        resp2_bytes(&stream)
    });
    report("redis-protocol resp3 decode_bytes_mut", || {
        resp3_bytes(&stream)
    });
    report("cairn FrameScanner, same bytes", || scanner(&stream));
    report("ReplyWriter: +OK, sent in 16 KiB", replies_ok);
    report("ReplyWriter: 128-byte bulk, sent in 16 KiB", replies_bulk);
}

fn pipelined_sets() -> Vec<u8> {
    let mut stream = Vec::new();
    let value = [b'x'; 128];
    for number in 1..=REQUESTS {
        let key = format!("key:{number:012}");
        encode_request(&mut stream, [b"SET", key.as_bytes(), &value]);
    }
    stream
}

/// Runs `round` several times and prints the median time per request.
fn report(name: &str, round: impl Fn() -> Timed) {
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let timed = round();
            assert_eq!(timed.requests, REQUESTS, "{name}");
            timed.time
        })
        .collect();
    rounds.sort();
    let ns = |time: Duration| time.as_nanos() as f64 / REQUESTS as f64;
    println!(
        "{name:<44} {:>7.1} ns per request (best {:.1}, worst {:.1})",
        ns(rounds[ROUNDS / 2]),
        ns(rounds[0]),
        ns(rounds[ROUNDS - 1]),
    );
}

struct Timed {
    requests: usize,
    time: Duration,
}

fn timed(work: impl FnOnce() -> usize) -> Timed {
    let start = Instant::now();
    let requests = work();
    let time = start.elapsed();
    Timed { requests, time }
}

/// Positions of all arguments, trusting the input wherever it can.
fn minimal(stream: &[u8]) -> Timed {
    let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(3 * REQUESTS);
    timed(|| {
        let (mut at, mut requests) = (0, 0);
        while at < stream.len() {
            let (args, next) = number_line(stream, at);
            at = next;
            for _ in 0..args {
                let (len, start) = number_line(stream, at);
                ranges.push((start as u32, (start + len) as u32));
                at = start + len + 2;
            }
            requests += 1;
        }
        black_box(&ranges);
        requests
    })
}

fn number_line(stream: &[u8], at: usize) -> (usize, usize) {
    let mut value = 0;
    let mut at = at + 1;
    while stream[at] != b'\r' {
        value = value * 10 + (stream[at] - b'0') as usize;
        at += 1;
    }
    (value, at + 2)
}

/// Feeds the stream in pieces, as reads from a socket; copying the piece into
/// the input buffer is part of the cost only when there are several.
fn feed(stream: &[u8], piece: usize, mut seen: impl FnMut(&Requests)) -> Timed {
    let limits = Limits::default();
    let mut parser = RequestParser::new();
    let mut batch = Requests::default();
    let whole = piece >= stream.len();
    let mut input = BytesMut::with_capacity(if whole { stream.len() } else { 2 * piece });
    if whole {
        input.extend_from_slice(stream);
    }
    timed(|| {
        let mut requests = 0;
        for chunk in stream.chunks(piece.min(stream.len())) {
            if !whole {
                batch.clear();
                input.extend_from_slice(chunk);
            }
            let parsed = parser.parse(&mut input, &limits, usize::MAX, &mut batch);
            requests += parsed.expect("the stream is well-formed");
            seen(&batch);
        }
        requests
    })
}

fn ours(stream: &[u8], piece: usize) -> Timed {
    feed(stream, piece, |batch| {
        black_box(batch);
    })
}

fn ours_used(stream: &[u8]) -> Timed {
    feed(stream, READ_BYTES, |batch| {
        for args in batch.iter() {
            black_box((args.get(0), key_slot(args.get(1)), args.get(2)));
        }
    })
}

fn ours_bytes(stream: &[u8]) -> Timed {
    feed(stream, READ_BYTES, |batch| {
        for args in batch.iter() {
            for index in 0..args.len() {
                black_box(args.bytes(index));
            }
        }
    })
}

fn resp2_range(stream: &[u8]) -> Timed {
    timed(|| {
        let (mut at, mut requests) = (0, 0);
        while at < stream.len() {
            let decoded = redis_protocol::resp2::decode::decode_range(&stream[at..]);
            let (frame, length) = decoded.expect("well-formed").expect("complete");
            black_box(frame);
            at += length;
            requests += 1;
        }
        requests
    })
}

fn resp2_bytes(stream: &[u8]) -> Timed {
    let mut input = BytesMut::from(stream);
    timed(|| {
        let mut requests = 0;
        while !input.is_empty() {
            let decoded = redis_protocol::resp2::decode::decode_bytes_mut(&mut input);
            black_box(decoded.expect("well-formed").expect("complete"));
            requests += 1;
        }
        requests
    })
}

fn resp3_bytes(stream: &[u8]) -> Timed {
    let mut input = BytesMut::from(stream);
    timed(|| {
        let mut requests = 0;
        while !input.is_empty() {
            let decoded = redis_protocol::resp3::decode::complete::decode_bytes_mut(&mut input);
            black_box(decoded.expect("well-formed").expect("complete"));
            requests += 1;
        }
        requests
    })
}

fn scanner(stream: &[u8]) -> Timed {
    let mut scanner = FrameScanner::new(ScanLimits::default());
    let stream = Bytes::copy_from_slice(stream);
    timed(|| {
        let (mut at, mut frames) = (0, 0);
        while let Some(length) = scanner.scan(&stream[at..]).expect("well-formed") {
            at += length;
            frames += 1;
        }
        frames
    })
}

fn replies_ok() -> Timed {
    let mut out = ReplyWriter::new(Version::V2);
    timed(|| {
        for _ in 0..REQUESTS {
            out.ok();
            send_when_full(&mut out);
        }
        REQUESTS
    })
}

fn replies_bulk() -> Timed {
    let mut out = ReplyWriter::new(Version::V2);
    let value = [b'x'; 128];
    timed(|| {
        for _ in 0..REQUESTS {
            out.bulk(black_box(&value));
            send_when_full(&mut out);
        }
        REQUESTS
    })
}

fn send_when_full(out: &mut ReplyWriter) {
    if out.len() >= READ_BYTES {
        black_box(out.segments().next());
        out.advance(out.len());
    }
}
