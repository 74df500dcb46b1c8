//! Expired keys: gone for readers at once, gone from disk without being read, and
//! never back.
//!
//! `CAIRN_TTL_KEYS` and `CAIRN_TTL_SECONDS` size the load (default 100,000 keys of
//! 1 KB for 8 s; a million for 20 s in `make soak`).

use std::time::{Duration, Instant};

use cairn_tests::resp::{Client, Value, encode};
use cairn_tests::server::{Server, info};
use cairn_tests::workload::now_ms;
use cairn_tests::{seed, wait};
use rand::RngCore;

const VALUE_BYTES: usize = 1_000;
const BATCH: u64 = 500;

#[test]
fn expired_keys_leave_the_disk_without_being_read() {
    let keys = seed::size("CAIRN_TTL_KEYS", 100_000);
    let ttl = Duration::from_secs(seed::size("CAIRN_TTL_SECONDS", 8));
    let server = Server::start(&["--enable-debug-command", "local"]);
    let mut client = server.client();
    let last_expiry = load(&mut client, keys, ttl);
    let full = server.disk_bytes();
    println!("{keys} keys: {} MB on disk", full >> 20);
    assert!(
        full > keys * VALUE_BYTES as u64 * 8 / 10,
        "the load is not on disk: {full} bytes"
    );

    let lookups = (
        keyspace(&mut client, "keyspace_hits"),
        keyspace(&mut client, "keyspace_misses"),
    );
    let limit = Duration::from_secs(120 + keys / 5_000);
    let bound = full / 20;
    wait::until("the clock to pass the last expiry", ttl + limit, || {
        (now_ms() > last_expiry).then_some(())
    });
    let expired = Instant::now();
    // A compaction of now instead of one in the course of the day; it reads no key
    // for a client. Again and again, because garbage is judged by the durable view.
    let left = wait::try_until(limit, || {
        assert_eq!(client.words("DEBUG COMPACT").text(), "OK");
        Some(server.disk_bytes()).filter(|bytes| *bytes < bound)
    });
    let now = server.disk_bytes();
    assert!(
        left.is_some(),
        "{limit:?} after expiry {now} of {full} bytes are still on disk"
    );
    println!(
        "below 5% {:?} after the last expiry: {} KB",
        expired.elapsed(),
        now >> 10
    );
    // What a filter drops is counted until the expiry task has come to it.
    wait::until("the expired keys to be counted out", limit, || {
        (client.words("DBSIZE").integer() == 0).then_some(())
    });
    let after = (
        keyspace(&mut client, "keyspace_hits"),
        keyspace(&mut client, "keyspace_misses"),
    );
    assert_eq!(lookups, after, "the keys were read");
}

#[test]
fn an_expired_key_is_absent_at_once_and_never_comes_back() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    let expires_at = now_ms() + 300;
    for number in 0..1_000 {
        let reply = client.command(&[
            "SET",
            &format!("brief:{number}"),
            "x",
            "PXAT",
            &expires_at.to_string(),
        ]);
        assert_eq!(reply, Value::Simple(b"OK".to_vec()));
    }
    wait::until("brief:0 to expire", Duration::from_secs(5), || {
        (client.words("GET brief:0") == Value::Null).then_some(())
    });
    assert!(now_ms() >= expires_at - 100, "expired long before its time");
    for _ in 0..3 {
        server.kill9();
        server.restart();
        let mut client = server.client();
        for number in 0..1_000 {
            let key = format!("brief:{number}");
            assert_eq!(client.command(&["GET", &key]), Value::Null, "{key} is back");
            assert_eq!(
                client.command(&["EXISTS", &key]).integer(),
                0,
                "{key} is back"
            );
            assert_eq!(
                client.command(&["PTTL", &key]).integer(),
                -2,
                "{key} is back"
            );
        }
        let scan = client.words("SCAN 0 COUNT 10000");
        assert_eq!(scan.array()[1].array().len(), 0, "SCAN shows expired keys");
    }
}

#[test]
fn expiries_are_kept_to_the_millisecond_over_kill_9() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    let base = now_ms() + 3_600_000;
    for number in 0..500_i64 {
        let (key, at) = (format!("timed:{number}"), (base + number * 7).to_string());
        client.command(&["SET", &key, "x", "PXAT", &at]);
    }
    // The other ways to set, change and drop an expiry.
    client.command(&["PEXPIREAT", "timed:1", &(base + 1).to_string()]);
    client.command(&["PERSIST", "timed:2"]);
    client.command(&["SET", "timed:3", "y", "KEEPTTL"]);
    client.command(&["SET", "timed:4", "y"]);
    client.command(&["APPEND", "timed:5", "y"]);
    client.command(&["GETEX", "timed:6", "PXAT", &(base + 6).to_string()]);
    let expected = |number: i64| match number {
        1 | 6 => base + number,
        2 | 4 => -1,
        _ => base + number * 7,
    };
    for _ in 0..2 {
        let mut client = server.client();
        for number in 0..500 {
            let time = client
                .command(&["PEXPIRETIME", &format!("timed:{number}")])
                .integer();
            assert_eq!(time, expected(number), "timed:{number}");
        }
        server.kill9();
        server.restart();
    }
}

/// Loads random (incompressible) values; returns the last key's expiry. Not one
/// command here reads.
fn load(client: &mut Client, keys: u64, ttl: Duration) -> i64 {
    let mut random = seed::rng(7, 0);
    let mut value = vec![0; VALUE_BYTES];
    let ttl_ms = ttl.as_millis().to_string();
    for first in (0..keys).step_by(BATCH as usize) {
        let mut requests = Vec::new();
        let count = BATCH.min(keys - first);
        for number in first..first + count {
            random.fill_bytes(&mut value);
            let key = format!("expiring:{number:012}");
            encode(
                &mut requests,
                &[b"SET", key.as_bytes(), &value, b"PX", ttl_ms.as_bytes()],
            );
        }
        let replies = client
            .pipeline(&requests, count as usize)
            .expect("the server answers");
        assert!(replies.iter().all(|reply| reply.raw == b"+OK\r\n"));
    }
    now_ms() + ttl.as_millis() as i64
}

fn keyspace(client: &mut Client, field: &str) -> String {
    info(client, field)
}
