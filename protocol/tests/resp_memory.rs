//! Memory of the parser, the scanner and the writer: it follows what was
//! received, never what was announced, and the steady state allocates nothing.
//!
//! Counts the allocations of the calling thread with an allocator of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use cairn_protocol::resp::{
    FrameScanner, Limits, ReplyWriter, RequestParser, Requests, ScanLimits, Version, encode_request,
};

struct Counting;

#[derive(Clone, Copy, Default)]
struct Usage {
    /// Bytes allocated and not yet freed; may fall below zero when memory of
    /// before the measurement is freed.
    live: isize,
    /// The most that `live` ever was.
    peak: isize,
    /// Number of allocations.
    count: usize,
    /// Sum of their sizes; a growth counts with its new size.
    total: usize,
}

thread_local! {
    static USAGE: Cell<Usage> = const {
        Cell::new(Usage { live: 0, peak: 0, count: 0, total: 0 })
    };
}

fn note(allocated: usize, freed: usize) {
    // During a thread's end the counter may be gone; nothing is measured then.
    let _ = USAGE.try_with(|cell| {
        let mut usage = cell.get();
        usage.live += allocated as isize - freed as isize;
        usage.peak = usage.peak.max(usage.live);
        usage.count += usize::from(allocated > 0);
        usage.total += allocated;
        cell.set(usage);
    });
}

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn measure<T>(work: impl FnOnce() -> T) -> (T, Usage) {
    USAGE.set(Usage::default());
    let result = work();
    (result, USAGE.get())
}

/// Feeds a stream in pieces and drops every request at once.
fn feed(stream: &[u8], piece: usize) -> usize {
    let mut parser = RequestParser::new();
    let mut input = BytesMut::new();
    let mut out = Requests::default();
    let mut requests = 0;
    for chunk in stream.chunks(piece) {
        input.extend_from_slice(chunk);
        match parser.parse(&mut input, &Limits::default(), usize::MAX, &mut out) {
            Ok(count) => requests += count,
            Err(_) => break,
        }
    }
    requests
}

#[test]
fn an_announcement_costs_next_to_nothing() {
    for claim in [
        &b"*2147483647\r\n"[..],
        b"*2147483647\r\n$3\r\nSET\r\n",
        b"*2147483647\r\n$536870912\r\nabc",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc",
        b"*99999999999\r\n",
        b"*1\r\n$99999999999\r\n",
    ] {
        let (_, usage) = measure(|| feed(claim, 7));
        let shown = claim.escape_ascii();
        assert!(usage.peak < 100 * 1024, "{shown}: {} bytes", usage.peak);
    }
    let mut scanner = FrameScanner::new(ScanLimits::default());
    let (_, usage) = measure(|| scanner.scan(b"*9999999999\r\n%99999999\r\n$536870912\r\nabc"));
    assert_eq!(usage.count, 0);
}

#[test]
fn memory_stays_in_proportion_to_the_bytes_of_one_request() {
    // The worst case: empty arguments, six bytes each on the wire.
    let mut stream = b"*200000\r\n".to_vec();
    stream.extend(b"$0\r\n\r\n".repeat(199_999));
    let (requests, usage) = measure(|| feed(&stream, 16 * 1024));
    assert_eq!(requests, 0);
    let most = 6 * stream.len() as isize;
    assert!(
        usage.peak < most,
        "{} bytes for {}",
        usage.peak,
        stream.len()
    );
}

#[test]
fn a_large_argument_is_received_without_quadratic_copying() {
    let value = vec![b'x'; 64 << 20];
    let mut stream = Vec::new();
    encode_request(&mut stream, [&b"SET"[..], b"k", &value]);
    let (requests, usage) = measure(|| feed(&stream, 16 * 1024));
    assert_eq!(requests, 1);
    assert!(
        usage.total < 4 * stream.len(),
        "{} bytes allocated",
        usage.total
    );
    assert!(
        usage.peak < 3 * stream.len() as isize,
        "{} bytes",
        usage.peak
    );
}

#[test]
fn pipelined_requests_cost_no_allocation_each() {
    let mut stream = Vec::new();
    for _ in 0..4_000 {
        encode_request(&mut stream, ["SET", "key:000000000001", "value"]);
    }
    let mut input = BytesMut::new();
    let mut out = Requests::default();
    let mut parser = RequestParser::new();
    for warm_up in [true, false] {
        input.extend_from_slice(&stream);
        let limits = Limits::default();
        let parse = || parser.parse(&mut input, &limits, usize::MAX, &mut out);
        let (parsed, usage) = measure(parse);
        assert_eq!(parsed, Ok(4_000));
        assert!(warm_up || usage.count <= 2, "{} allocations", usage.count);
    }
}

#[test]
fn replies_reuse_their_buffer_and_share_large_values() {
    let mut out = ReplyWriter::new(Version::V3);
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    for warm_up in [true, false] {
        let ((), usage) = measure(|| {
            for number in 0..1000 {
                out.integer(number);
                out.bulk(b"0123456789");
            }
            out.bulk_bytes(large.clone());
            out.advance(out.len());
        });
        assert!(warm_up || usage.count == 0, "{} allocations", usage.count);
        assert!(usage.total < 100 * 1024, "{} bytes", usage.total);
    }
}

#[test]
fn a_slow_reader_that_is_written_to_for_ever_holds_only_what_is_unsent() {
    let mut out = ReplyWriter::new(Version::V2);
    let ((), usage) = measure(|| {
        out.raw(&[b'x'; 100_000]);
        for _ in 0..100_000 {
            out.raw(&[b'x'; 1000]);
            out.advance(1000);
        }
    });
    assert_eq!(out.len(), 100_000);
    assert!(usage.peak < 1_000_000, "{} bytes", usage.peak);
}
