//! Waiting for conditions, always with a deadline.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(10);

/// Polls until `ready` gives a value. Panics after `limit`, saying what was awaited.
pub fn until<T>(what: &str, limit: Duration, ready: impl FnMut() -> Option<T>) -> T {
    try_until(limit, ready).unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// Polls until `ready` gives a value; `None` after `limit`.
pub fn try_until<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(POLL);
    }
}
