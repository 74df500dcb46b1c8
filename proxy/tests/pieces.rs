//! Replies that come in pieces: passed on as they come, granted as they are taken.

mod support;

use cairn_protocol::link::{ReplyClass, RequestFlags};
use std::io::Read;
use std::time::Duration;
use support::{Act, Asked, Client, Cluster, command, until};

/// Bytes of a test's part.
const PART: usize = 100_000;
/// More than the sockets between a proxy and a client who reads nothing hold.
const MANY_PARTS: usize = 200;

/// A cluster whose nodes keep each HGETALL for the test.
fn cluster() -> Cluster {
    let cluster = Cluster::start();
    for node in &cluster.nodes {
        node.script(|asked: &Asked| match &asked.name()[..] {
            "HGETALL" | "HKEYS" => Act::Keep,
            _ => Act::Run,
        });
    }
    cluster
}

/// `{a}`'s node, and `{b}`'s: slots 15495 and 3300.
const A: usize = 1;
const B: usize = 0;

fn part(n: usize) -> Vec<u8> {
    let mut part = format!("${}\r\n{n:08}", PART - 2 - 8 - 2).into_bytes();
    part.resize(PART - 2, b'x');
    part.extend(b"\r\n");
    part
}

#[test]
fn parts_are_passed_on_as_they_come_and_granted_as_they_are_taken() {
    let cluster = cluster();
    let mut client = cluster.client();
    client.send([command("HGETALL {a}"), command("GET {a}x")].concat());
    let node = &cluster.nodes[A];
    let asked = node.kept("HGETALL");
    assert!(asked.flags.has(RequestFlags::PIECES));
    node.part(asked.request, b"*2\r\n$1\r\nf\r\n");
    // Not held until the rest is there.
    client.expect("*2\r\n$1\r\nf\r\n");
    until("what was taken is granted", || {
        node.granted(asked.request) == 11
    });
    node.end(asked.request, ReplyClass::Ok, b"$1\r\nv\r\n");
    client.expect("$1\r\nv\r\n$-1\r\n");
    assert_eq!(node.granted(asked.request), 11, "nothing for the last");
}

#[test]
fn who_does_not_read_is_granted_nothing_and_delays_nobody() {
    let cluster = cluster();
    let mut slow = cluster.client();
    slow.send(command("HGETALL {a}"));
    let node = &cluster.nodes[A];
    let request = node.kept("HGETALL").request;
    let mut sent = 0;
    // As a node does: no more than was granted, and what needs no grant.
    while sent < MANY_PARTS {
        let window = node.granted(request) + 256 * 1024;
        if ((sent + 1) * PART) as u64 <= window {
            node.part(request, &part(sent));
            sent += 1;
            continue;
        }
        std::thread::sleep(Duration::from_millis(20));
        if ((sent + 1) * PART) as u64 > node.granted(request) + 256 * 1024 {
            break;
        }
    }
    assert!(sent < MANY_PARTS, "granted without end");
    let mut other = cluster.client();
    for n in 0..100 {
        other.ask(&format!("SET {{a}}{n} v"), "+OK\r\n");
    }
    // It goes on where it stopped.
    let mut took = vec![0; PART];
    for n in 0..sent {
        slow.stream.read_exact(&mut took).expect("a part");
        assert!(took == part(n));
    }
    until("all is granted", || {
        node.granted(request) == (sent * PART) as u64
    });
    node.end(request, ReplyClass::Ok, b"+end\r\n");
    slow.expect("+end\r\n").ask("GET {a}7", "$1\r\nv\r\n");
}

#[test]
fn a_reply_behind_another_waits_for_it_and_is_granted_nothing() {
    let cluster = cluster();
    let mut client = cluster.client();
    let all = ["HGETALL {a}", "HKEYS {b}", "GET {b}"]
        .map(command)
        .concat();
    client.send(all);
    let (first, second) = (&cluster.nodes[A], &cluster.nodes[B]);
    let (a, b) = (first.kept("HGETALL").request, second.kept("HKEYS").request);
    second.part(b, b"*2\r\n$1\r\nk\r\n");
    second.part(b, b"$1\r\nl\r\n");
    first.part(a, b"*4\r\n");
    client.expect("*4\r\n");
    assert!(client.is_quiet());
    assert_eq!(second.granted(b), 0);
    first.end(a, ReplyClass::Ok, b":1\r\n:2\r\n:3\r\n:4\r\n");
    client.expect(":1\r\n:2\r\n:3\r\n:4\r\n*2\r\n$1\r\nk\r\n$1\r\nl\r\n");
    until("it is at the front", || second.granted(b) == 18);
    second.end(b, ReplyClass::Ok, b"");
    client.expect("$-1\r\n");
}

#[test]
fn a_reply_that_ended_behind_another_is_shown_whole_in_its_place() {
    let cluster = cluster();
    let mut client = cluster.client();
    client.send([command("HGETALL {a}"), command("HKEYS {b}")].concat());
    let (first, second) = (&cluster.nodes[A], &cluster.nodes[B]);
    let (a, b) = (first.kept("HGETALL").request, second.kept("HKEYS").request);
    second.part(b, b"*1\r\n");
    second.end(b, ReplyClass::Ok, b"$1\r\nk\r\n");
    assert!(client.is_quiet());
    first.end(a, ReplyClass::Ok, b"*0\r\n");
    client
        .expect("*0\r\n*1\r\n$1\r\nk\r\n")
        .ask("PING", "+PONG\r\n");
}

/// A client that was shown the front of a reply, and what its node calls that.
fn begun(cluster: &Cluster) -> (Client, u64) {
    let mut client = cluster.client();
    client.send([command("HGETALL {a}"), command("GET {b}")].concat());
    let request = cluster.nodes[A].kept("HGETALL").request;
    cluster.nodes[A].part(request, b"*2\r\n$1\r\nf\r\n");
    client.expect("*2\r\n$1\r\nf\r\n");
    (client, request)
}

#[test]
fn a_reply_that_has_begun_and_cannot_end_closes_its_connection() {
    let cluster = cluster();
    let before = cluster.client().figure("total_replies_cut_short");
    assert_eq!(before, "0");
    let (mut told, request) = begun(&cluster);
    let line = b"-UNKNOWN a large reply was not taken within reply-pieces-timeout\r\n";
    cluster.nodes[A].end(request, ReplyClass::Unknown, line);
    told.expect_close();
    let (mut broken, _) = begun(&cluster);
    cluster.nodes[A].break_links();
    broken.expect_close();
    let after = cluster.client().figure("total_replies_cut_short");
    assert_eq!(after, "2");
    cluster.client().ask("SET {a} 1", "+OK\r\n");
}

#[test]
fn what_was_not_shown_is_asked_again() {
    let cluster = cluster();
    let mut client = cluster.client();
    client.send([command("HGETALL {a}"), command("HKEYS {b}")].concat());
    let (first, second) = (&cluster.nodes[A], &cluster.nodes[B]);
    let a = first.kept("HGETALL").request;
    let lost = second.kept("HKEYS").request;
    second.part(lost, b"*2\r\n$4\r\nlost\r\n");
    // Its node gives up, as nothing is granted to it.
    second.end(lost, ReplyClass::Unknown, b"-UNKNOWN not taken\r\n");
    until("it is asked again", || second.kept("HKEYS").request != lost);
    let again = second.kept("HKEYS").request;
    second.part(again, b"*1\r\n");
    first.end(a, ReplyClass::Ok, b"*0\r\n");
    client.expect("*0\r\n*1\r\n");
    second.end(again, ReplyClass::Ok, b"$5\r\nfound\r\n");
    client.expect("$5\r\nfound\r\n");
}

#[test]
fn a_client_that_goes_closes_its_session() {
    let cluster = cluster();
    let (client, request) = begun(&cluster);
    let node = &cluster.nodes[A];
    let before = node.closed();
    drop(client);
    // It is found out by what cannot be written.
    until("its session is closed", || {
        if node.closed() == before {
            node.part(request, b"$1\r\nx\r\n");
        }
        node.closed() > before
    });
    node.end(request, ReplyClass::Unknown, b"-UNKNOWN nobody\r\n");
    cluster.client().ask("SET {a} 1", "+OK\r\n");
    assert_eq!(cluster.client().figure("total_replies_cut_short"), "0");
}

#[test]
fn what_nobody_is_shown_is_granted_and_dropped() {
    let cluster = cluster();
    let mut client = cluster.client();
    client.send(
        ["CLIENT REPLY SKIP", "HGETALL {a}", "PING"]
            .map(command)
            .concat(),
    );
    let node = &cluster.nodes[A];
    let request = node.kept("HGETALL").request;
    node.part(request, &part(0));
    until("it is granted", || node.granted(request) == PART as u64);
    node.end(request, ReplyClass::Ok, b"$1\r\nv\r\n");
    client.expect("+PONG\r\n");
}

#[test]
fn what_comes_unasked_waits_for_the_end_of_a_reply() {
    let cluster = cluster();
    let mut client = cluster.client();
    client.send(command("HELLO 3"));
    read_map(&mut client);
    client.ask("CLIENT TRACKING ON", "+OK\r\n");
    client.send(command("HGETALL {a}"));
    let node = &cluster.nodes[A];
    let asked = node.kept("HGETALL");
    node.part(asked.request, b"%1\r\n");
    client.expect("%1\r\n");
    let push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\n{a}\r\n";
    node.push(asked.logical, 1, push);
    until("the push has come", || node.credit() == push.len() as u32);
    assert!(client.is_quiet(), "not in the middle of a reply");
    node.end(asked.request, ReplyClass::Ok, b"+f\r\n+v\r\n");
    client.expect("+f\r\n+v\r\n").expect(push);
}

/// Skips the reply of HELLO 3.
fn read_map(client: &mut Client) {
    for _ in 0..client.number('%') * 2 {
        let line = client.line();
        match line.as_bytes()[0] {
            b'$' => drop(client.line()),
            b'*' => assert_eq!(line, "*0"),
            _ => {}
        }
    }
}

#[test]
fn an_older_node_is_never_asked_for_parts() {
    let cluster = cluster();
    let node = &cluster.nodes[A];
    node.grow_old();
    node.break_links();
    let mut client = cluster.client();
    client.send(command("HGETALL {a}"));
    let asked = node.kept("HGETALL");
    assert!(!asked.flags.has(RequestFlags::PIECES));
    node.end(asked.request, ReplyClass::Ok, b"*0\r\n");
    client.expect("*0\r\n");
}

#[test]
fn a_transaction_is_not_asked_for_in_parts() {
    let cluster = cluster();
    let mut client = cluster.client();
    client
        .ask("MULTI", "+OK\r\n")
        .ask("HGETALL {a}", "+QUEUED\r\n");
    let node = &cluster.nodes[A];
    node.script(|_| Act::Keep);
    client.send(command("EXEC"));
    // The first word of the transaction is its whole first command.
    let asked = node.kept("MULTI");
    assert!(asked.flags.has(RequestFlags::TRANSACTION));
    assert!(!asked.flags.has(RequestFlags::PIECES));
    node.end(asked.request, ReplyClass::Ok, b"*1\r\n*0\r\n");
    client.expect("*1\r\n*0\r\n");
}
