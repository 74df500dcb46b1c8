//! The same asked of our server and of redis-server, if there is one.

use std::time::{Duration, Instant};

use crate::support::{Client, Server, redis_with};

const DEADLINE: Duration = Duration::from_secs(20);

/// Ours, and redis-server if there is one, with these flags.
pub fn each(flags: &[&str], talk: impl Fn(&str, u16)) {
    let server = Server::start(flags);
    talk("cairn", server.port);
    if let Some(redis) = redis_with(flags) {
        talk("redis", redis.port);
    }
}

pub fn ask(client: &mut Client, line: &str) -> String {
    client.send(&line.split(' ').collect::<Vec<_>>());
    client.reply()
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
