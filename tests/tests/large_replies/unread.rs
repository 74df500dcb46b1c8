//! Clients that send all of a pipeline before they read, as many libraries do.

use cairn_tests::cluster::Cluster;

use super::*;

/// Ten times what the sockets of both sides hold.
const REQUESTS: usize = 400_000;
const VALUE_BYTES: usize = 128;

/// Sends every request with nothing read meanwhile, then takes the replies. All is
/// answered in order: reads, and writes among them.
fn all_is_sent_before_any_is_read(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut requests = Vec::new();
    encode(&mut requests, &["SET", "k", &"x".repeat(VALUE_BYTES)]);
    for number in 1..REQUESTS {
        match number % 100 {
            0 => encode(&mut requests, &["INCR", "n"]),
            _ => encode(&mut requests, &["GET", "k"]),
        }
    }
    stream.write_all(&requests).expect("all was taken");
    let mut reader = Reader(BufReader::new(stream));
    assert_eq!(reader.line(), "+OK");
    for number in 1..REQUESTS {
        match number % 100 {
            0 => assert_eq!(reader.line(), format!(":{}", number / 100)),
            _ => assert_eq!(reader.bulk().len(), VALUE_BYTES),
        }
    }
}

/// Regression: the server waited for the client, which waited for the server.
#[test]
fn a_pipeline_that_is_sent_whole_before_a_reply_is_read_is_answered() {
    let server = Server::start(&[]);
    all_is_sent_before_any_is_read(server.port());
}

/// Regression: while a large reply left in pieces nothing was read, and the client, which
/// had more to send, did not read either.
#[test]
fn what_is_sent_behind_a_large_reply_is_taken_before_any_is_read() {
    let server = Server::start(&["--memory-limit", "1gb"]);
    let mut client = server.client();
    load(&mut client, "h", LARGE);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let (value, later) = ("x".repeat(1 << 10), 30_000);
    let mut requests = Vec::new();
    encode(&mut requests, &["HGETALL", "h"]);
    for _ in 0..later {
        encode(&mut requests, &["APPEND", "k", &value]);
    }
    stream.write_all(&requests).expect("all was taken");
    let mut reader = Reader(BufReader::new(stream));
    assert_eq!(reader.line(), format!("*{}", LARGE * 2));
    for _ in 0..LARGE {
        let number: u64 = reader.bulk().parse().expect("a field");
        assert_eq!(reader.bulk(), value_of(number));
    }
    for number in 1..=later {
        assert_eq!(reader.line(), format!(":{}", number << 10));
    }
    assert_eq!(info(&mut client, "total_replies_in_pieces"), 1);
}

#[test]
fn the_same_through_a_proxy() {
    let cluster = Cluster::start(1, 1);
    all_is_sent_before_any_is_read(cluster.proxy_port);
}

#[test]
fn what_clients_leave_unread_is_bounded() {
    let server = Server::start(&["--memory-limit", "64mb"]);
    let mut client = server.client();
    client.command(&["SET", "k", &"x".repeat(VALUE_BYTES)]);
    let mut requests = Vec::new();
    for _ in 0..1_000 {
        encode(&mut requests, &["GET", "k"]);
    }
    let senders: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
            let patience = Duration::from_secs(1);
            stream.set_write_timeout(Some(patience)).unwrap();
            // Until the server takes no more.
            while stream.write_all(&requests).is_ok() {}
            stream
        })
        .collect();
    let list = client.words("CLIENT LIST").text();
    let unread: usize = list
        .split_whitespace()
        .filter_map(|field| field.strip_prefix("omem=")?.parse::<usize>().ok())
        .sum();
    let bound = (64 << 20) / 16;
    // Each may have what was made of its last requests besides.
    let besides = senders.len() << 20;
    assert!(
        (bound / 2..bound + besides).contains(&unread),
        "{unread} of {bound} bytes: {list}"
    );
    drop(senders);
    // What they left is given back: another client may send all before it reads.
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    for _ in 0..30 {
        stream.write_all(&requests).expect("it was taken");
    }
}
