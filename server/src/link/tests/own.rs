//! Sessions that watch, listen, wait, and ask the node itself.

use std::net::{Ipv4Addr, SocketAddr};

use cairn_protocol::link::{Credit, NO_GROUP, Push};
use cairn_protocol::resp::ReplyWriter;

use super::*;
use crate::net::session::Client;

/// A request for the node itself.
fn ask_node(link: &mut Link, logical: u64, line: &str) -> u64 {
    let request = Request {
        group: NO_GROUP,
        slot: NO_SLOT,
        epoch: 0,
        ..request(logical, line)
    };
    link.put(request, line)
}

fn exec(link: &mut Link, logical: u64, key: &str, lines: &[&str]) -> u64 {
    let mut wire = BytesMut::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        encode_request(&mut wire, words);
    }
    let request = Request {
        flags: RequestFlags::TRANSACTION,
        ..request(logical, &format!("EXEC {key}"))
    };
    link.put_raw(request, &wire)
}

/// Reads until a push of that kind has come for the session.
async fn pushed(link: &mut Link, logical: u64, kind: u8) -> Vec<u8> {
    loop {
        let place = link
            .pushes
            .iter()
            .position(|(session, its, _)| (*session, *its) == (logical, kind));
        if let Some(at) = place {
            return link.pushes.remove(at).2;
        }
        assert!(link.read().await, "the link ended without a push");
    }
}

/// A link whose sessions 0 to 2 may be sent messages.
async fn listening_link(bench: &Bench) -> Link {
    let mut link = Link::connect(bench, b"s").await.expect("let in");
    for logical in 0..3 {
        let open = Open {
            logical,
            push_credit: 1 << 20,
            user: b"default",
            client: "1.2.3.4:5",
        };
        open.put(&mut link.output);
    }
    link
}

#[test]
fn an_exec_depends_on_what_its_session_watches() {
    test(async |dir| {
        let (_bench, mut link) = Bench::linked(dir).await;
        let run = ["WATCH 1", "MULTI", "SET k 2", "EXEC"];
        let watch = link.ask(0, "WATCH k");
        let done = exec(&mut link, 0, "k", &run);
        assert_eq!(link.ok(watch).await, OK);
        assert_eq!(link.ok(done).await, "*1\r\n+OK\r\n");

        let watch = link.ask(0, "WATCH k");
        assert_eq!(link.ok(watch).await, OK);
        let other = link.ask(1, "SET k 3");
        assert_eq!(link.ok(other).await, OK);
        let nil = exec(&mut link, 0, "k", &run);
        assert_eq!(link.ok(nil).await, "*-1\r\n");
        let after = exec(&mut link, 0, "k", &["MULTI", "GET k", "EXEC"]);
        assert_eq!(link.ok(after).await, "*1\r\n$1\r\n3\r\n");
    });
}

#[test]
fn an_exec_whose_watches_are_not_here_is_nil() {
    test(async |dir| {
        let (bench, mut link) = Bench::linked(dir).await;
        let run = ["WATCH 1", "MULTI", "SET k 2", "EXEC"];
        // As after a link that broke, or a slot that moved here.
        let never = exec(&mut link, 0, "k", &run);
        assert_eq!(link.ok(never).await, "*-1\r\n");
        // One of two WATCH commands was lost.
        let watch = link.ask(0, "WATCH k");
        let fewer = exec(&mut link, 0, "k", &["WATCH 2", "MULTI", "SET k 2", "EXEC"]);
        assert_eq!(link.ok(watch).await, OK);
        assert_eq!(link.ok(fewer).await, "*-1\r\n");
        // The slot has had another owner meanwhile.
        let watch = link.ask(0, "WATCH k");
        assert_eq!(link.ok(watch).await, OK);
        bench.gate.epoch.store(4, SeqCst);
        let moved = exec(&mut link, 0, "k", &run);
        assert_eq!(link.ok(moved).await, "*-1\r\n");
        let get = link.ask(0, "GET k");
        assert_eq!(link.ok(get).await, "$-1\r\n");
    });
}

#[test]
fn a_watch_that_was_refused_does_not_count() {
    test(async |dir| {
        let (bench, mut link) = Bench::linked(dir).await;
        bench.gate.set("k", SlotVerdict::Frozen);
        let frozen = link.ask(0, "WATCH k");
        assert_eq!(link.answer(frozen).await.reason(), Some(Reason::Frozen));
        bench.gate.set("k", SlotVerdict::Serve);
        let again = link.resume(0, "WATCH k");
        let run = exec(&mut link, 0, "k", &["WATCH 1", "MULTI", "SET k 2", "EXEC"]);
        assert_eq!(link.ok(again).await, OK);
        assert_eq!(link.ok(run).await, "*1\r\n+OK\r\n");
    });
}

#[test]
fn a_closed_session_leaves_no_watches() {
    test(async |dir| {
        let (_bench, mut link) = Bench::linked(dir).await;
        let watch = link.ask(0, "WATCH k");
        assert_eq!(link.ok(watch).await, OK);
        Close { logical: 0 }.put(&mut link.output);
        link.open(1 << 32);
        let never = exec(
            &mut link,
            1 << 32,
            "k",
            &["WATCH 1", "MULTI", "SET k 2", "EXEC"],
        );
        assert_eq!(link.ok(never).await, "*-1\r\n");
    });
}

#[test]
fn messages_reach_sessions_that_listen_before_the_answer_that_follows() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = listening_link(&bench).await;
        let subscribe = ask_node(&mut link, 0, "SUBSCRIBE c d");
        let pattern = ask_node(&mut link, 1, "PSUBSCRIBE c*");
        assert_eq!(link.ok(subscribe).await, OK);
        assert_eq!(link.ok(pattern).await, OK);
        let publish = ask_node(&mut link, 0, "PUBLISH c hello");
        assert_eq!(link.ok(publish).await, ":2\r\n");
        let own = (
            0,
            Push::MESSAGES,
            b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n".to_vec(),
        );
        assert!(
            link.pushes.contains(&own),
            "before the answer: {:?}",
            link.pushes
        );
        let other = pushed(&mut link, 1, Push::MESSAGES).await;
        assert!(other.starts_with(b">4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$1\r\nc\r\n"));
        let unsubscribe = ask_node(&mut link, 0, "UNSUBSCRIBE c");
        assert_eq!(link.ok(unsubscribe).await, OK);
        let numsub = ask_node(&mut link, 2, "PUBSUB NUMSUB c d");
        assert_eq!(
            link.ok(numsub).await,
            "*4\r\n$1\r\nc\r\n:0\r\n$1\r\nd\r\n:1\r\n"
        );
    });
}

#[test]
fn messages_that_were_published_elsewhere_are_not_for_proxies() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = listening_link(&bench).await;
        let subscribe = ask_node(&mut link, 0, "SUBSCRIBE c");
        assert_eq!(link.ok(subscribe).await, OK);
        let elsewhere = crate::pubsub::Origin::Elsewhere;
        assert_eq!(bench.server.pubsub().publish(b"c", b"x", elsewhere), 0);
        bench.server.pubsub().leave_shards(|_| true);
    });
}

#[test]
fn messages_stop_where_the_credit_ends_and_go_on_with_more() {
    test(async |dir| {
        let (_bench, mut link) = Bench::linked(dir).await;
        Credit {
            logical: 0,
            requests: 0,
            bytes: 1,
        }
        .put(&mut link.output);
        // Credit counts from the first subscription on.
        let subscribe = ask_node(&mut link, 0, "SUBSCRIBE c");
        let publish = ask_node(&mut link, 1, "PUBLISH c hello");
        assert_eq!(link.ok(subscribe).await, OK);
        assert_eq!(link.ok(publish).await, ":1\r\n");
        let ping = ask_node(&mut link, 1, "TIME");
        link.ok(ping).await;
        assert_eq!(link.pushes, []);
        Credit {
            logical: 0,
            requests: 0,
            bytes: 1,
        }
        .put(&mut link.output);
        let message = pushed(&mut link, 0, Push::MESSAGES).await;
        assert!(message.starts_with(b">3\r\n$7\r\nmessage"));
    });
}

#[test]
fn a_waiting_command_is_announced_and_can_be_unblocked() {
    test(async |dir| {
        let (_bench, mut link) = Bench::linked(dir).await;
        for (how, reply) in [
            ("TIMEOUT", "*-1\r\n"),
            (
                "ERROR",
                "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n",
            ),
        ] {
            let pop = link.ask(0, "BLPOP k 0");
            let waits = pushed(&mut link, 0, Push::WAITS).await;
            assert_eq!(waits, pop.to_le_bytes());
            let wrong = ask_node(&mut link, 1, &format!("CLIENT UNBLOCK {pop} {how}"));
            assert_eq!(link.ok(wrong).await, ":0\r\n", "another session's");
            let unblock = ask_node(&mut link, 0, &format!("CLIENT UNBLOCK {pop} {how}"));
            assert_eq!(link.ok(unblock).await, ":1\r\n");
            assert_eq!(link.ok(pop).await, reply);
        }
    });
}

#[test]
fn a_wait_for_replicas_keeps_no_lane_and_can_be_unblocked() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = bench.link().await;
        for (how, reply) in [
            ("TIMEOUT", ":0\r\n"),
            (
                "ERROR",
                "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n",
            ),
        ] {
            let wait = ask_node(&mut link, 0, "WAIT 1 0");
            let unblock = format!("CLIENT UNBLOCK WAIT {how}");
            let wrong = ask_node(&mut link, 1, &unblock);
            assert_eq!(link.ok(wrong).await, ":0\r\n", "another session's");
            let right = ask_node(&mut link, 0, &unblock);
            assert_eq!(link.ok(right).await, ":1\r\n");
            assert_eq!(link.ok(wait).await, reply);
            let late = ask_node(&mut link, 0, &unblock);
            assert_eq!(link.ok(late).await, ":0\r\n");
        }
    });
}

/// Regression: they were kept for a connection to show, which a link is not.
#[test]
fn what_an_exec_of_a_watching_session_ran_is_shown_to_who_monitors() {
    test(async |dir| {
        let (bench, mut link) = Bench::linked(dir).await;
        let server = &bench.server;
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let account = server.acl.default_user().clone();
        let live = server.live.clone();
        let monitor = Client::new(1000, nowhere, nowhere, live, account);
        let monitor = Arc::new(monitor);
        server.announcer.monitors.add(&monitor);
        let watch = link.ask(0, "WATCH k");
        assert_eq!(link.ok(watch).await, OK);
        let done = exec(&mut link, 0, "k", &["WATCH 1", "MULTI", "SET k 2", "EXEC"]);
        assert_eq!(link.ok(done).await, "*1\r\n+OK\r\n");
        let mut shown = ReplyWriter::default();
        monitor.take_messages(&mut shown);
        let shown = String::from_utf8(shown.to_vec()).unwrap();
        assert_eq!(shown.matches("\"SET\" \"k\" \"2\"").count(), 1, "{shown}");
    });
}

/// Regression: it answered how many keys its group had.
#[test]
fn a_script_of_a_proxy_counts_the_keys_of_the_whole_cluster_or_none() {
    test(async |dir| {
        let (bench, mut link) = Bench::linked(dir).await;
        let set = link.ask(0, "SET k v");
        assert_eq!(link.ok(set).await, OK);
        let count = "EVAL return(redis.pcall('dbsize')) 0";
        let all = link.ask_group(0, count);
        assert_eq!(link.ok(all).await, ":1\r\n");
        // Another group has it now.
        bench.gate.set("other", SlotVerdict::Moved);
        let part = link.ask_group(0, count);
        assert_eq!(
            link.ok(part).await,
            "-ERR 'dbsize' is about several groups, a script about one\r\n"
        );
        let flush = "EVAL return(redis.pcall('flushall')) 0";
        let part = link.ask_group(0, flush);
        assert_eq!(
            link.ok(part).await,
            "-ERR 'flushall' is about several groups, a script about one\r\n"
        );
        let get = link.ask(0, "GET k");
        assert_eq!(link.ok(get).await, "$1\r\nv\r\n");
    });
}

#[test]
fn what_a_session_reads_with_track_is_invalidated() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = listening_link(&bench).await;
        let on = ask_node(&mut link, 0, "CLIENT TRACKING ON");
        assert_eq!(link.ok(on).await, OK);
        let tracked = Request {
            flags: RequestFlags::TRACK,
            ..request(0, "GET k")
        };
        let read = link.put(tracked, "GET k");
        let untracked = link.ask(0, "GET other");
        assert_eq!(link.ok(read).await, "$-1\r\n");
        assert_eq!(link.ok(untracked).await, "$-1\r\n");
        for line in ["SET other 1", "SET k 1"] {
            let set = link.ask(1, line);
            assert_eq!(link.ok(set).await, OK);
        }
        let told = pushed(&mut link, 0, Push::MESSAGES).await;
        assert_eq!(told, b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n");
    });
}

#[test]
fn the_connections_own_commands_are_not_served_over_a_link() {
    test(async |dir| {
        let (_bench, mut link) = Bench::linked(dir).await;
        for line in ["PING", "HELLO 3", "MULTI", "CLIENT LIST"] {
            let asked = ask_node(&mut link, 0, line);
            assert!(
                link.ok(asked)
                    .await
                    .ends_with("is not served over a link\r\n"),
                "{line}"
            );
        }
        let data = ask_node(&mut link, 0, "GET k");
        assert_eq!(link.ok(data).await, "-ERR the command needs a group\r\n");
    });
}
