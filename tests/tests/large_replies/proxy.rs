//! Clients of a proxy in front of two groups: neither it nor a node pays for what
//! one of them does not read.

use std::time::Instant;

use cairn_tests::cluster::{Cluster, key_in_slot};
use cairn_tests::process::resident_bytes;

use super::*;

/// What an ordinary command may take while somebody else reads slowly.
const LATENCY: Duration = Duration::from_secs(1);

/// A key of the first group.
fn key() -> String {
    key_in_slot(100)
}

/// A client of the node that has the key.
fn node_of_key(cluster: &Cluster) -> Client {
    cluster.nodes[&cluster.leader_of_slot(100)].client()
}

fn fields() -> u64 {
    let default = if cfg!(debug_assertions) {
        LARGE * 2
    } else {
        1_000_000
    };
    seed::size("CAIRN_BIG_FIELDS", default)
}

/// Reads all fields, each once, and shows each how many there were.
fn read_all(reader: &mut Reader, fields: u64, mut seen: impl FnMut(u64)) {
    let mut sum = 0_u128;
    for count in 1..=fields {
        let number: u64 = reader.bulk().parse().expect("a field");
        assert_eq!(reader.bulk(), value_of(number), "as in the beginning");
        sum += u128::from(number);
        seen(count);
    }
    let n = u128::from(fields);
    assert_eq!(sum, n * (n - 1) / 2, "each field once");
}

#[test]
fn a_slow_reader_costs_its_node_and_its_proxy_next_to_nothing_and_delays_nobody() {
    let fields = fields();
    let mut cluster = Cluster::start(2, 2);
    cluster.restart_nodes_with(&["--enable-debug-command", "local", "--memory-limit", "128mb"]);
    let (key, other) = (key(), key_in_slot(16_000));
    let mut client = cluster.client();
    load(&mut client, &key, fields);
    let mut node = node_of_key(&cluster);
    assert_eq!(node.words("DEBUG COMPACT").text(), "OK");
    let before = info(&mut node, "allocator_allocated");
    let proxy_before = resident_bytes(cluster.proxy_pid);
    let mut reader = Reader::ask(cluster.proxy_port, &format!("HGETALL {key}"));
    assert_eq!(reader.line(), format!("*{}", fields * 2));
    let (mut most, mut proxy_most, mut slowest) = (0, 0, Duration::ZERO);
    read_all(&mut reader, fields, |seen| {
        if !seen.is_multiple_of(fields / 10) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
        most = most.max(info(&mut node, "allocator_allocated"));
        proxy_most = proxy_most.max(resident_bytes(cluster.proxy_pid));
        for n in 0..20 {
            // On the same node and link, and on the other.
            for command in [format!("SET {key}:{n} v"), format!("GET {other}:{n}")] {
                let asked = Instant::now();
                assert!(!client.words(&command).is_error());
                slowest = slowest.max(asked.elapsed());
            }
        }
        if seen == fields / 10 {
            // What others do does not show.
            assert_eq!(client.words(&format!("DEL {key}")).integer(), 1);
            assert_eq!(client.words(&format!("HSET {key} 2 other")).integer(), 1);
        }
    });
    let whole = fields * 80;
    let grown = |now: u64, then: u64| now.saturating_sub(then) >> 10;
    println!(
        "a reply of {} KB: the node grew by {} KB, the proxy by {} KB; the slowest of others' \
         commands took {slowest:?}",
        whole >> 10,
        grown(most, before),
        grown(proxy_most, proxy_before)
    );
    assert!(
        most < before + GROWTH.min(whole / 2),
        "the node holds the reply"
    );
    assert!(
        proxy_most < proxy_before + GROWTH.min(whole / 2),
        "the proxy holds the reply"
    );
    assert!(slowest < LATENCY, "{slowest:?}");
    sent_pieces(&mut node, 0);
    assert_eq!(info(&mut node, "total_replies_in_pieces"), 1);
    cluster.stop();
}

#[test]
fn replies_through_a_proxy_keep_their_order_and_their_bytes() {
    let cluster = Cluster::start(2, 2);
    let mut client = cluster.client();
    // Of both groups, so that replies wait for each other.
    let (a, b) = (key_in_slot(100), key_in_slot(16_000));
    for (at, tag) in [&a, &b].into_iter().enumerate() {
        let at = at as u64;
        load(&mut client, &format!("h{{{tag}}}"), 20_000 + at);
        for first in (0..20_000).step_by(1000) {
            let mut lines = ["RPUSH l", "SADD s", "ZADD z"].map(|line| format!("{line}{{{tag}}}"));
            for n in first..first + 1000 {
                lines[0].push_str(&format!(" {}", value_of(n)));
                lines[1].push_str(&format!(" m{n}"));
                lines[2].push_str(&format!(" {n} m{n}"));
            }
            for line in lines {
                assert!(!client.words(&line).is_error());
            }
            let mut entries = Vec::new();
            for n in first..first + 1000 {
                let id = format!("{}-{}", n / 3 + 1, n % 3);
                encode(
                    &mut entries,
                    &["XADD", &format!("x{{{tag}}}"), &id, "field", &value_of(n)],
                );
            }
            client.pipeline(&entries, 1000).expect("entries are added");
        }
    }
    let lines = [
        "HGETALL h{A}",
        "INCR n{A}",
        "LRANGE l{B} 10 -10",
        "HSET h{A} 5 changed",
        "HVALS h{A}",
        "SMEMBERS s{B}",
        "GET n{A}",
        "ZRANGE z{A} 0 -1 REV WITHSCORES",
        "XRANGE x{B} - +",
        "XREVRANGE x{A} 6000 5 COUNT 12000",
        "XREAD STREAMS x{B} 10",
        "DEL h{B}",
        "HGETALL h{B}",
        "HELLO 3",
        "SMEMBERS s{A}",
        "ZRANGE z{B} 0 -1 WITHSCORES",
        "XREAD STREAMS x{A} 10",
        "HELLO 2",
        "CLIENT REPLY SKIP",
        "HGETALL h{A}",
        "PING",
    ]
    .map(|line| {
        line.replace("{A}", &format!("{{{a}}}"))
            .replace("{B}", &format!("{{{b}}}"))
    });
    // One is not answered, as is the command that says so.
    let answered = lines.len() - 2;
    let mut pipeline = Vec::new();
    for line in &lines {
        encode(&mut pipeline, &line.split(' ').collect::<Vec<_>>());
    }
    let ask = |client: &mut Client| -> Vec<Vec<u8>> {
        let replies = client.pipeline(&pipeline, answered).expect("all replies");
        let replies = replies.into_iter().enumerate();
        // HELLO names the connection.
        let raw = replies.map(|(at, reply)| match lines[at].starts_with("HELLO") {
            true => Vec::new(),
            false => reply.raw.to_vec(),
        });
        raw.collect()
    };
    let counted = |cluster: &Cluster| -> u64 {
        let nodes = cluster.nodes.values();
        nodes
            .map(|node| info(&mut node.client(), "total_replies_in_pieces"))
            .sum()
    };
    for tag in [&a, &b] {
        let copy = format!("COPY h{{{tag}}} kept{{{tag}}}");
        assert_eq!(client.words(&copy).integer(), 1);
    }
    let in_pieces = ask(&mut client);
    assert_eq!(counted(&cluster), 12, "with the one that nobody is shown");
    for node in cluster.nodes.values() {
        let whole = "CONFIG SET reply-whole-max-elements 1000000 reply-whole-max-bytes 1gb";
        assert_eq!(node.client().words(whole).text(), "OK");
    }
    for tag in [&a, &b] {
        let copy = format!("COPY kept{{{tag}}} h{{{tag}}} REPLACE");
        assert_eq!(client.words(&copy).integer(), 1);
    }
    client.words(&format!("DEL n{{{a}}}"));
    let whole = ask(&mut client);
    assert_eq!(counted(&cluster), 12);
    for ((line, a), b) in lines.iter().zip(in_pieces).zip(whole) {
        assert!(a == b, "{line}");
    }
    cluster.stop();
}

#[test]
fn a_reply_through_a_proxy_has_an_honest_end_whatever_happens() {
    let mut cluster = Cluster::start(2, 2);
    let (key, port) = (key(), cluster.proxy_port);
    let ask = format!("HGETALL {key}");
    let mut client = cluster.client();
    load(&mut client, &key, LARGE);
    let mut node = node_of_key(&cluster);
    let begin = |node: &mut Client| {
        let mut reader = Reader::ask(port, &ask);
        assert_eq!(reader.line(), format!("*{}", LARGE * 2));
        sent_pieces(node, 1);
        reader
    };
    // A client that goes gives its moment back.
    drop(begin(&mut node));
    sent_pieces(&mut node, 0);
    // One that takes nothing is closed.
    assert_eq!(node.words("CONFIG SET reply-pieces-timeout 1").text(), "OK");
    let mut idle = begin(&mut node);
    sent_pieces(&mut node, 0);
    assert!(idle.rest() < LARGE * 60);
    assert_eq!(
        node.words("CONFIG SET reply-pieces-timeout 60").text(),
        "OK"
    );
    assert_eq!(info(&mut client, "total_replies_cut_short"), 1);
    // Slots may move away from under a reply that has begun.
    let mut reader = begin(&mut node);
    cluster.move_slots("1", "2", "0-8191");
    let moved = format!("HSET {key} 1 other");
    assert_eq!(client.words(&moved).integer(), 0, "by its new owner");
    read_all(&mut reader, LARGE, |_| ());
    sent_pieces(&mut node, 0);
    // A node that dies takes its part of a reply along.
    let mut node = node_of_key(&cluster);
    let mut reader = begin(&mut node);
    let owner = cluster.leader_of_slot(100);
    cluster.kill_node(&owner);
    assert!(reader.rest() < LARGE * 60);
    cluster.restart_node(&owner);
    assert_eq!(info(&mut client, "total_replies_cut_short"), 2);
    let len = format!("HLEN {key}");
    assert_eq!(client.words(&len).integer(), LARGE as i64);
    cluster.stop();
}
