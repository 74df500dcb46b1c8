//! Bytes that no client should send.

mod support;

use std::io::{Read, Write};
use support::{Cluster, settings};

/// A small generator, so that a failing seed can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 >> 33
    }
}

#[test]
fn malformed_requests_get_an_error_and_the_connection_ends() {
    let cluster = Cluster::start();
    for (bytes, error) in [
        (
            &b"*x\r\n"[..],
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            b"*1\r\n$-5\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            b"*2147483648\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            b"*1\r\n$536870913\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            b"*1\r\n*1\r\n",
            "-ERR Protocol error: expected '$', got '*'\r\n",
        ),
        (
            b"GET \"\r\n",
            "-ERR Protocol error: unbalanced quotes in request\r\n",
        ),
    ] {
        let mut client = cluster.client();
        client.send(bytes).expect(error).expect_close();
    }
}

#[test]
fn what_came_before_a_malformed_request_is_answered_first() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.send(b"SET foo 1\r\nGET foo\r\n*x\r\n");
    client.expect("+OK\r\n$1\r\n1\r\n-ERR Protocol error: invalid multibulk length\r\n");
    client.expect_close();
}

#[test]
fn a_client_without_a_password_may_not_send_much() {
    let settings = cairn_proxy::config::Settings {
        requirepass: "pw".into(),
        ..settings()
    };
    let cluster = Cluster::with(settings);
    let refused = "-ERR Protocol error: unauthenticated bulk length\r\n";
    cluster
        .client()
        .send(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n")
        .expect(refused);
    let refused = "-ERR Protocol error: unauthenticated multibulk length\r\n";
    cluster.client().send(b"*11\r\n").expect(refused);
}

#[test]
fn a_half_closed_client_still_gets_its_answers() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.send(b"SET foo 1\r\nGET foo\r\n");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    client.expect("+OK\r\n$1\r\n1\r\n").expect_close();
}

#[test]
fn random_and_truncated_streams_never_hurt_anyone_else() {
    let cluster = Cluster::start();
    let mut witness = cluster.client();
    let words: [&[u8]; 12] = [
        b"*3\r\n",
        b"$3\r\n",
        b"SET\r\n",
        b"foo\r\n",
        b"\r\n",
        b"*1\r\n",
        b"MGET",
        b" foo bar\r\n",
        b"$-1\r\n",
        b"*99999\r\n",
        b"\xff\0\"'",
        b"PING\r\n",
    ];
    for seed in 0..600u64 {
        let mut random = Random(seed);
        let mut bytes = Vec::new();
        for _ in 0..random.next() % 40 {
            match random.next() % 4 {
                0 => bytes.push(random.next() as u8),
                _ => bytes.extend_from_slice(words[random.next() as usize % words.len()]),
            }
        }
        let mut client = cluster.client();
        // The proxy may have closed already; that is an answer too.
        let _ = client.stream.write_all(&bytes);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        if let Err(error) = client.stream.read_to_end(&mut rest) {
            assert_ne!(
                error.kind(),
                std::io::ErrorKind::WouldBlock,
                "hangs on seed {seed}"
            );
        }
        witness.ask("PING", "+PONG\r\n");
    }
    witness
        .ask("SET bar 1", "+OK\r\n")
        .ask("GET bar", "$1\r\n1\r\n");
}

/// A web page can have a browser send commands among its lines.
#[test]
fn a_client_that_speaks_http_is_closed_before_it_runs_anything() {
    let cluster = Cluster::start();
    for first in ["POST / HTTP/1.1", "Host: localhost"] {
        let mut client = cluster.client();
        client.send(format!("PING\r\n{first}\r\nSET foo 1\r\n"));
        client.expect("+PONG\r\n").expect_close();
    }
    cluster.client().ask("GET foo", "$-1\r\n");
}
