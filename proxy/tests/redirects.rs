//! Reshards, failovers and failures, as a client sees them: as pauses.

mod support;

use cairn_protocol::link::{Reason, RequestFlags};
use cairn_proxy::RouteMap;
use cairn_proxy::config::Settings;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use support::{Act, Client, Cluster, FakeNode, command, settings, until};

/// The values that were appended to `key` at any node, in order.
fn appended(cluster: &Cluster, key: &[u8]) -> String {
    let store = cluster.store.lock().unwrap();
    String::from_utf8(store.get(&(0, key.to_vec())).cloned().unwrap_or_default()).unwrap()
}

/// Sends APPENDs of letters to one key and awaits a good answer to each.
fn append_letters(client: &mut Client, key: &str, letters: &str) {
    let ask: Vec<u8> = letters
        .chars()
        .flat_map(|c| command(&format!("APPEND {key} {c}")))
        .collect();
    client.send(ask);
}

fn expect_lengths(client: &mut Client, n: usize) {
    (1..=n).for_each(|len| {
        client.expect(format!(":{len}\r\n"));
    });
}

#[test]
fn a_moved_slot_is_followed_to_its_new_node() {
    let cluster = Cluster::start();
    let to = cluster.nodes[1].address.clone();
    cluster.nodes[0].script(move |_| Act::Refuse(Reason::Moved, 2, 2, to.clone()));
    let mut client = cluster.client();
    append_letters(&mut client, "bar", "abcdefgh");
    expect_lengths(&mut client, 8);
    assert_eq!(appended(&cluster, b"bar"), "abcdefgh");
    assert!(cluster.nodes[0].executed().is_empty());
    let executed = cluster.nodes[1].executed();
    assert_eq!(executed.len(), 8);
    assert!(executed[0].flags.has(RequestFlags::RESUME));
    client.ask("APPEND bar i", ":9\r\n");
    assert_eq!(
        cluster.nodes[1].executed()[8].group,
        2,
        "the hint was learnt"
    );
}

#[test]
fn a_frozen_slot_parks_only_its_own_commands() {
    let cluster = Cluster::start();
    let frozen = Arc::new(AtomicBool::new(true));
    let seen = frozen.clone();
    cluster.nodes[0].script(
        move |asked| match asked.key() == b"bar" && seen.load(SeqCst) {
            true => Act::Refuse(Reason::Frozen, 0, 0, String::new()),
            false => Act::Run,
        },
    );
    let (mut parked, mut free) = (cluster.client(), cluster.client());
    append_letters(&mut parked, "bar", "abcd");
    parked.send(command("SET hello x"));
    until("its other slot goes on", || {
        cluster.nodes[0]
            .executed()
            .iter()
            .any(|asked| asked.key() == b"hello")
    });
    for _ in 0..50 {
        free.ask("SET hello y", "+OK\r\n")
            .ask("SET foo z", "+OK\r\n");
    }
    assert!(parked.is_quiet());
    frozen.store(false, SeqCst);
    expect_lengths(&mut parked, 4);
    parked.expect("+OK\r\n");
    assert_eq!(appended(&cluster, b"bar"), "abcd");
}

#[test]
fn order_survives_a_thaw_in_the_middle_of_a_pipeline() {
    // The slot thaws right after the first refusal: without the fence the
    // commands behind it would overtake it.
    for thaw_after in 1..6 {
        let cluster = Cluster::start();
        let refused = AtomicUsize::new(0);
        cluster.nodes[0].script(move |_| match refused.fetch_add(1, SeqCst) < thaw_after {
            true => Act::Refuse(Reason::Frozen, 0, 0, String::new()),
            false => Act::Run,
        });
        let mut client = cluster.client();
        append_letters(&mut client, "bar", "abcdefghijklmnop");
        expect_lengths(&mut client, 16);
        assert_eq!(appended(&cluster, b"bar"), "abcdefghijklmnop");
    }
}

#[test]
fn order_survives_a_slot_that_keeps_moving() {
    let cluster = Cluster::start();
    let epoch = Arc::new(AtomicUsize::new(2));
    for node in 0..2 {
        let to = cluster.nodes[1 - node].address.clone();
        let (mut asked, epoch) = (0, epoch.clone());
        cluster.nodes[node].script(move |_| {
            asked += 1;
            if asked % 7 == 0 {
                let epoch = epoch.fetch_add(1, SeqCst) as u32;
                return Act::Refuse(Reason::Moved, 2 - node as u32, epoch, to.clone());
            }
            Act::Run
        });
    }
    let mut client = cluster.client();
    let letters: String = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
    append_letters(&mut client, "bar", &letters);
    expect_lengths(&mut client, letters.len());
    assert_eq!(appended(&cluster, b"bar"), letters);
}

#[test]
fn what_was_not_executed_is_tried_again() {
    let cluster = Cluster::start();
    let mut refusals = 5;
    cluster.nodes[1].script(move |_| {
        if refusals > 0 {
            refusals -= 1;
            return Act::NotExecuted;
        }
        Act::Run
    });
    let mut client = cluster.client();
    append_letters(&mut client, "foo", "abc");
    expect_lengths(&mut client, 3);
    assert_eq!(appended(&cluster, b"foo"), "abc");
}

#[test]
fn what_is_never_executed_ends_in_the_nodes_own_error() {
    let cluster = Cluster::with(Settings {
        max_pause: Duration::from_millis(200),
        ..settings()
    });
    cluster.nodes[1].script(|_| Act::NotExecuted);
    let mut client = cluster.client();
    client
        .ask("SET foo 1", "-LOADING busy\r\n")
        .ask("PING", "+PONG\r\n");
}

#[test]
fn an_unknown_outcome_of_a_write_is_said_and_never_repeated() {
    let cluster = Cluster::start();
    cluster.nodes[1].script(|asked| {
        if asked.name() == "SET" {
            Act::Unknown
        } else {
            Act::Run
        }
    });
    let mut client = cluster.client();
    client.ask("SET foo 1", "-UNKNOWN lost my term\r\n");
    client.ask("GET foo", "$-1\r\n");
    assert_eq!(cluster.nodes[1].executed().len(), 1, "only the GET");
}

#[test]
fn a_read_with_an_unknown_outcome_is_asked_again() {
    let cluster = Cluster::start();
    let mut first = true;
    cluster.nodes[1].script(move |_| match std::mem::take(&mut first) {
        true => Act::Unknown,
        false => Act::Run,
    });
    cluster.client().ask("GET foo", "$-1\r\n");
}

#[test]
fn a_link_that_breaks_leaves_writes_unknown_and_repeats_reads() {
    let cluster = Cluster::start();
    let mut broken = false;
    cluster.nodes[1].script(move |asked| {
        if asked.args.get(2).is_some_and(|v| v == b"b") && !broken {
            broken = true;
            return Act::RunAndDie;
        }
        Act::Run
    });
    let mut client = cluster.client();
    client.ask("APPEND foo a", ":1\r\n");
    client.send([command("APPEND foo b"), command("GET foo")].concat());
    let line = client.line();
    assert!(line.starts_with("-UNKNOWN "), "{line}");
    client.expect("$2\r\nab\r\n");
    assert_eq!(appended(&cluster, b"foo"), "ab", "not twice");
    client.ask("APPEND foo c", ":3\r\n");
}

#[test]
fn a_lost_read_is_not_repeated_past_a_later_write() {
    let cluster = Cluster::start();
    let mut seen = 0;
    cluster.nodes[1].script(move |_| {
        seen += 1;
        // The read's answer is lost together with the link, after the write
        // behind it was executed.
        match seen {
            1 => Act::Hold,
            2 => Act::RunAndDie,
            _ => Act::Run,
        }
    });
    let mut client = cluster.client();
    client.send(
        [
            command("GET foo"),
            command("SET foo new"),
            command("GET foo"),
        ]
        .concat(),
    );
    assert!(
        client.line().starts_with("-UNKNOWN "),
        "it would see the future"
    );
    assert!(client.line().starts_with("-UNKNOWN "));
    client.expect("$3\r\nnew\r\n");
}

#[test]
fn a_node_that_is_away_is_waited_for() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask("SET bar 1", "+OK\r\n");
    let address = cluster.nodes[0].address.clone();
    cluster.nodes[0].stop();
    append_letters(&mut client, "hello", "abc");
    client.send(command("GET foo"));
    assert!(client.is_quiet());
    let back = FakeNode::start_at(&address, cluster.store.clone(), b"");
    expect_lengths(&mut client, 3);
    client.expect("$-1\r\n");
    assert_eq!(back.executed().len(), 3);
}

#[test]
fn a_node_that_stays_away_gives_a_named_error_in_bounded_time() {
    let cluster = Cluster::with(Settings {
        max_pause: Duration::from_millis(300),
        ..settings()
    });
    let mut client = cluster.client();
    client.ask("SET bar 1", "+OK\r\n");
    cluster.nodes[0].stop();
    until("the link is known to be down", || {
        client.send(command("GET bar"));
        let line = client.line();
        if line.starts_with('$') {
            client.line();
        }
        line.starts_with("-CLUSTERDOWN ")
    });
    let start = Instant::now();
    client.send(command("SET bar 2"));
    let line = client.line();
    assert!(
        line.contains("cannot be reached; not executed after 300 ms"),
        "{line}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    client.ask("SET foo 1", "+OK\r\n");
}

#[test]
fn a_new_map_from_etcd_frees_what_waits() {
    let cluster = Cluster::start();
    cluster.nodes[0].script(|_| Act::Refuse(Reason::Moved, 0, 0, String::new()));
    let mut client = cluster.client();
    append_letters(&mut client, "bar", "ab");
    assert!(client.is_quiet());
    let leaders = [(2, &*cluster.nodes[1].address)];
    cluster
        .routes
        .send_replace(Arc::new(RouteMap::of(&[(0, 16383, 2)], 2, &leaders)));
    expect_lengths(&mut client, 2);
}

#[test]
fn a_follower_names_its_leader() {
    let cluster = Cluster::start();
    let leader = FakeNode::start(cluster.store.clone());
    let to = leader.address.clone();
    cluster.nodes[0].script(move |_| Act::Refuse(Reason::NotLeader, 1, 0, to.clone()));
    let mut client = cluster.client();
    append_letters(&mut client, "bar", "abc");
    expect_lengths(&mut client, 3);
    client.ask("DBSIZE", ":1\r\n");
    assert_eq!(leader.executed().len(), 4);
}

#[test]
fn an_importing_node_is_asked_with_asking() {
    let cluster = Cluster::start();
    let to = cluster.nodes[1].address.clone();
    cluster.nodes[0].script(move |_| Act::Refuse(Reason::Ask, 2, 0, to.clone()));
    cluster.nodes[1].script(|asked| match asked.flags.has(RequestFlags::ASKING) {
        true => Act::Run,
        false => Act::Say(b"-ERR not asked\r\n"),
    });
    cluster
        .client()
        .ask("SET bar 1", "+OK\r\n")
        .ask("GET bar", "$1\r\n1\r\n");
}

#[test]
fn a_split_write_survives_a_move_of_one_part() {
    let cluster = Cluster::start();
    let mut refusals = 3;
    cluster.nodes[0].script(move |asked| {
        if asked.key() == b"bar" && refusals > 0 {
            refusals -= 1;
            return Act::Refuse(Reason::Frozen, 0, 0, String::new());
        }
        Act::Run
    });
    let mut client = cluster.client();
    client.send([command("MSET foo 1 bar 1"), command("MSET foo 2 bar 2")].concat());
    client
        .expect("+OK\r\n+OK\r\n")
        .ask("MGET foo bar", "*2\r\n$1\r\n2\r\n$1\r\n2\r\n");
}

#[test]
fn many_clients_survive_random_refusals_with_their_order_kept() {
    let cluster = Cluster::start();
    for node in 0..2 {
        let mut seed = 12345u64 + node as u64;
        cluster.nodes[node].script(move |_| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            match (seed >> 33) % 20 {
                0 => Act::NotExecuted,
                1 => Act::Refuse(Reason::Frozen, 0, 0, String::new()),
                _ => Act::Run,
            }
        });
    }
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let mut client = cluster.client();
            std::thread::spawn(move || {
                for key in [format!("a{n}"), format!("b{n}")] {
                    append_letters(&mut client, &key, &"0123456789".repeat(20));
                }
                expect_lengths(&mut client, 200);
                expect_lengths(&mut client, 200);
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    for n in 0..8 {
        for key in [format!("a{n}"), format!("b{n}")] {
            assert_eq!(appended(&cluster, key.as_bytes()), "0123456789".repeat(20));
        }
    }
}
