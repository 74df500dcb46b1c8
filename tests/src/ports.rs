//! Free TCP ports for servers that cannot be told "any".
//!
//! Ports come from below the range that the kernel gives to outgoing
//! connections, so that a test's own connections do not take them meanwhile
//! (one may even be connected to itself).

use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};

const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A port that nobody listened on a moment ago; none again before all others have been:
/// tests of a program run side by side.
///
/// Test programs may run side by side, so each starts at a place of its own.
pub fn free_port() -> u16 {
    for _ in 0..COUNT {
        let port = FIRST + take(1);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// The first of `len` ports that nothing else in this program is given before all
/// others have been. For programs that look for free ones themselves.
pub fn range(len: u16) -> u16 {
    loop {
        let at = take(len);
        if at <= COUNT - len {
            return FIRST + at;
        }
    }
}

/// Goes on by `len` ports; where they begin, counted from the first.
fn take(len: u16) -> u16 {
    let start = u64::from(std::process::id()) * 37;
    let step = NEXT.fetch_add(u64::from(len), Ordering::Relaxed);
    ((start + step) % u64::from(COUNT)) as u16
}
