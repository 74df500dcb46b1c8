//! Clients that are connected directly to a server.

use super::*;

#[test]
fn a_slow_reader_of_a_million_fields_costs_the_server_next_to_nothing() {
    let fields = seed::size("CAIRN_BIG_FIELDS", 1_000_000);
    let flags = ["--enable-debug-command", "local", "--memory-limit", "128mb"];
    let server = Server::start(&flags);
    let mut client = server.client();
    load(&mut client, "big", fields);
    assert_eq!(client.words("DEBUG COMPACT").text(), "OK");
    let before = info(&mut client, "allocator_allocated");
    let mut reader = Reader::ask(server.port(), "HGETALL big");
    assert_eq!(reader.line(), format!("*{}", fields * 2));
    let (mut seen, mut most) = (0_u64, 0);
    let mut sum = 0_u128;
    while seen < fields {
        let field = reader.bulk();
        let number: u64 = field.parse().expect("a field");
        assert_eq!(
            reader.bulk(),
            value_of(number),
            "as it was in the beginning"
        );
        sum += u128::from(number);
        seen += 1;
        if seen.is_multiple_of(fields / 10) {
            most = most.max(info(&mut client, "allocator_allocated"));
        }
        // What others do does not show.
        if seen == fields / 10 {
            assert_eq!(client.words("HSET big 1 other new x").integer(), 1);
        } else if seen == fields / 5 {
            assert_eq!(client.words("DEL big").integer(), 1);
            assert_eq!(client.words("HSET big 2 other").integer(), 1);
            assert_eq!(client.words("DEBUG COMPACT").text(), "OK");
        }
    }
    let n = u128::from(fields);
    assert_eq!(sum, n * (n - 1) / 2, "each field once");
    println!(
        "{} KB before, at most {} KB meanwhile",
        before >> 10,
        most >> 10
    );
    assert!(
        most < before + GROWTH,
        "{before} bytes before, {most} meanwhile"
    );
    sent_pieces(&mut client, 0);
    assert_eq!(info(&mut client, "total_replies_in_pieces"), 1);
}

#[test]
fn replies_around_a_large_one_keep_their_order_and_their_bytes() {
    let server = Server::start(&[]);
    let mut client = server.client();
    load(&mut client, "h", 20_000);
    for first in (0..20_000).step_by(1000) {
        let mut words = [vec!["RPUSH", "l"], vec!["SADD", "s"], vec!["ZADD", "z"]]
            .map(|words| words.into_iter().map(str::to_owned).collect::<Vec<_>>());
        for number in first..first + 1000 {
            words[0].push(value_of(number));
            words[1].push(format!("m{number}"));
            words[2].extend([number.to_string(), format!("m{number}")]);
        }
        for words in words {
            assert!(!client.command(&words).is_error());
        }
    }
    let lines = [
        "SET a 1",
        "HGETALL h",
        "INCR a",
        "LRANGE l 10 -10",
        "HSET h 5 changed",
        "HVALS h",
        "SMEMBERS s",
        "GET a",
        "ZRANGE z 0 -1 REV WITHSCORES",
        "DEL h",
        "HGETALL h",
        "ZRANGEBYSCORE z 100 +inf LIMIT 5 15000",
        "HELLO 3",
        "SMEMBERS s",
        "ZRANGE z 0 -1 WITHSCORES",
        "HELLO 2",
        "PING",
    ];
    let mut pipeline = Vec::new();
    for line in lines {
        encode(&mut pipeline, &line.split(' ').collect::<Vec<_>>());
    }
    let ask = |client: &mut Client| {
        let replies = client
            .pipeline(&pipeline, lines.len())
            .expect("all replies");
        let raw = |(line, reply): (&&str, cairn_tests::resp::Reply)| {
            // HELLO names the connection.
            (!line.starts_with("HELLO")).then_some(reply.raw)
        };
        lines.iter().zip(replies).map(raw).collect::<Vec<_>>()
    };
    assert_eq!(client.words("COPY h kept").integer(), 1);
    let in_pieces = ask(&mut client);
    assert_eq!(info(&mut client, "total_replies_in_pieces"), 8);
    let whole = "CONFIG SET reply-whole-max-elements 1000000 reply-whole-max-bytes 1gb";
    assert_eq!(client.words(whole).text(), "OK");
    assert_eq!(client.words("COPY kept h").integer(), 1);
    let whole = ask(&mut client);
    assert_eq!(info(&mut client, "total_replies_in_pieces"), 8);
    for ((line, a), b) in lines.iter().zip(in_pieces).zip(whole) {
        assert!(a == b, "{line}");
    }
}

#[test]
fn a_transaction_and_a_script_answer_whole() {
    let server = Server::start(&[]);
    let mut client = server.client();
    load(&mut client, "h", 10_000);
    for line in ["MULTI", "HGETALL h", "HLEN h"] {
        client.words(line);
    }
    let reply = client.words("EXEC");
    assert_eq!(reply.array()[0].array().len(), 20_000);
    assert_eq!(reply.array()[1], Value::Integer(10_000));
    for name in ["EVAL", "EVAL_RO"] {
        let script = "return #redis.call('HGETALL', KEYS[1])";
        let reply = client.command(&[name, script, "1", "h"]);
        assert_eq!(reply.integer(), 20_000);
    }
    client
        .send(b"CLIENT REPLY SKIP\r\nHGETALL h\r\nPING\r\n")
        .unwrap();
    assert_eq!(client.read_reply().unwrap().value.text(), "PONG");
    assert_eq!(info(&mut client, "total_replies_in_pieces"), 0);
}

#[test]
fn a_client_that_goes_or_takes_nothing_gives_its_moment_back() {
    let server = Server::start(&[]);
    let mut client = server.client();
    load(&mut client, "h", LARGE);
    let mut goes = Reader::ask(server.port(), "HGETALL h");
    assert_eq!(goes.line(), format!("*{}", LARGE * 2));
    sent_pieces(&mut client, 1);
    drop(goes);
    sent_pieces(&mut client, 0);
    assert_eq!(
        client.words("CONFIG SET reply-pieces-timeout 1").text(),
        "OK"
    );
    let mut idle = Reader::ask(server.port(), "HGETALL h");
    sent_pieces(&mut client, 1);
    sent_pieces(&mut client, 0);
    assert!(idle.rest() < LARGE * 60);
    let log = server.log_text();
    assert!(log.contains("reply-pieces-timeout"), "{log}");
}

#[test]
fn only_so_many_clients_are_sent_pieces_at_a_time() {
    let server = Server::start(&["--reply-pieces-max-clients", "1"]);
    let mut client = server.client();
    load(&mut client, "h", LARGE);
    let first = Reader::ask(server.port(), "HGETALL h");
    sent_pieces(&mut client, 1);
    let mut second = Reader::ask(server.port(), "HLEN h\r\nHGETALL h");
    assert_eq!(second.line(), format!(":{LARGE}"));
    // Others are served meanwhile, in whole replies.
    assert_eq!(client.words("HGET h 7").text(), value_of(7));
    assert_eq!(info(&mut client, "total_replies_in_pieces"), 1);
    drop(first);
    assert_eq!(second.line(), format!("*{}", LARGE * 2));
    assert_eq!(info(&mut client, "total_replies_in_pieces"), 2);
}
