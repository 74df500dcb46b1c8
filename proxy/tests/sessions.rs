//! What a client has at the nodes: subscriptions, watches, tracking, scripts.
//! "bar" and "hello" are group 1's (slots 5061, 866), "foo" is group 2's (12182).

mod support;

use cairn_protocol::link::{Push, ReplyClass};
use support::{Act, Asked, Cluster, command, until};

const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n";

/// Regression: the command behind SUBSCRIBE got the silence that was for it, and an EXEC
/// that a subscriber may not ask for was not said to be discarded.
#[test]
fn a_confirmation_takes_the_place_of_the_reply_that_was_to_be_skipped() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.send(command("CLIENT REPLY SKIP"));
    client.ask("SUBSCRIBE c", "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    let why = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
               context";
    client.ask("GET a", &format!("-ERR Can't execute 'get': {why}\r\n"));
    client.ask(
        "EXEC",
        &format!("-EXECABORT Transaction discarded because of: Can't execute 'exec': {why}\r\n"),
    );
}

#[test]
fn a_subscription_is_put_at_every_node_and_confirmed_when_all_have_it() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    cluster.nodes[1].script(|asked| match asked.name() == "SUBSCRIBE" {
        true => Act::Hold,
        false => Act::Run,
    });
    client.send(command("SUBSCRIBE c d"));
    until("both nodes are asked", || {
        cluster
            .nodes
            .iter()
            .all(|node| node.asked("SUBSCRIBE").is_some())
    });
    let asked = cluster.nodes[0].asked("SUBSCRIBE").unwrap();
    assert_eq!(
        (asked.group, &asked.args[1..]),
        (0, &[b"c".to_vec(), b"d".to_vec()][..])
    );
    // It listens already, but has not been told.
    cluster.nodes[0].push(asked.logical, Push::MESSAGES, MESSAGE);
    until("the credit is renewed", || {
        cluster.nodes[0].credit() == MESSAGE.len() as u32
    });
    assert!(client.is_quiet());
    cluster.nodes[1].release();
    client.expect("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    client.expect("*3\r\n$9\r\nsubscribe\r\n$1\r\nd\r\n:2\r\n");
    client.expect("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n");
    client.ask("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    client.send(command("GET foo"));
    assert!(client.line().starts_with("-ERR Can't execute 'get'"));
}

#[test]
fn in_resp3_messages_are_pushes_beside_replies() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.send(command("HELLO 3"));
    client.send(command("SUBSCRIBE c"));
    until("it is subscribed", || {
        cluster.nodes[0].asked("SUBSCRIBE").is_some()
    });
    let session = cluster.nodes[0].asked("SUBSCRIBE").unwrap().logical;
    client.send(command("PING here"));
    while client.line() != "here" {}
    cluster.nodes[0].push(session, Push::MESSAGES, MESSAGE);
    client.expect(MESSAGE);
    client.ask("GET foo", "_\r\n");
}

#[test]
fn a_node_whose_link_comes_up_hears_of_all_subscriptions() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask("SUBSCRIBE c", "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    client.ask(
        "PSUBSCRIBE p*",
        "*3\r\n$10\r\npsubscribe\r\n$2\r\np*\r\n:2\r\n",
    );
    cluster.nodes[0].break_links();
    until("it is told again", || {
        let all = cluster.nodes[0].executed();
        let count = |name: &str| all.iter().filter(|asked| asked.name() == name).count();
        count("SUBSCRIBE") == 2 && count("PSUBSCRIBE") == 2
    });
}

#[test]
fn reset_ends_all_that_a_client_has_at_the_nodes() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask("SUBSCRIBE c", "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    let before = cluster.nodes[0].asked("SUBSCRIBE").unwrap().logical;
    client.ask("RESET", "+RESET\r\n");
    client.ask("SET bar 1", "+OK\r\n");
    let after = cluster.nodes[0].asked("SET").unwrap().logical;
    assert_ne!(before, after, "a session of its own");
}

#[test]
fn exec_says_how_many_watches_it_depends_on() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    cluster.nodes[0].script(|asked| match asked.args.last().map(Vec::as_slice) {
        Some(b"EXEC") => {
            let words = asked.args.join(&b',');
            assert_eq!(
                words.escape_ascii().to_string(),
                "WATCH 2,MULTI,SET bar 1,EXEC"
            );
            Act::Say(b"*-1\r\n")
        }
        _ => Act::Run,
    });
    client
        .ask("WATCH bar", "+OK\r\n")
        .ask("WATCH bar", "+OK\r\n");
    client.ask(
        "WATCH foo",
        "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
    );
    client
        .ask("MULTI", "+OK\r\n")
        .ask("SET bar 1", "+QUEUED\r\n");
    client.ask("EXEC", "*-1\r\n");
    cluster.nodes[0].script(|asked| match asked.args.last().map(Vec::as_slice) {
        Some(b"EXEC") => {
            assert_eq!(asked.args[0], b"MULTI", "the watches are over");
            Act::Say(b"*1\r\n+OK\r\n")
        }
        _ => Act::Run,
    });
    client
        .ask("MULTI", "+OK\r\n")
        .ask("SET bar 1", "+QUEUED\r\n");
    client.ask("EXEC", "*1\r\n+OK\r\n");
}

/// Regression: what was watched stayed so, and without MULTI nothing was said of EXEC.
#[test]
fn a_refused_exec_says_what_it_discards_and_ends_all_watches() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    for open in [false, true] {
        client.ask("WATCH bar", "+OK\r\n");
        if open {
            client.ask("MULTI", "+OK\r\n");
        }
        client.ask(
            "EXEC x",
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' \
             command\r\n",
        );
        let forgotten = || {
            let all = cluster.nodes[0].executed();
            all.iter().filter(|asked| asked.name() == "UNWATCH").count()
        };
        until("the node forgets them", || {
            forgotten() == 1 + usize::from(open)
        });
        client.ask("DISCARD", "-ERR DISCARD without MULTI\r\n");
    }
}

#[test]
fn what_is_for_other_nodes_follows_a_transaction_that_was_executed() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    for (reply, want) in [
        (&b"*1\r\n+OK\r\n"[..], "*4\r\n:1\r\n+OK\r\n+PONG\r\n:0\r\n"),
        (b"*-1\r\n", "*-1\r\n"),
    ] {
        cluster.nodes[0].script(move |asked| match asked.args.last().map(Vec::as_slice) {
            Some(b"EXEC") => Act::Say(reply),
            _ => Act::Run,
        });
        let published = || {
            let all = cluster.nodes[0].executed();
            all.iter().filter(|asked| asked.name() == "PUBLISH").count()
        };
        let before = published();
        client.ask("MULTI", "+OK\r\n");
        for line in ["PUBLISH c m", "SET bar 1", "PING", "DBSIZE"] {
            client.ask(line, "+QUEUED\r\n");
        }
        client.send(command("EXEC"));
        client.send(command("ECHO behind"));
        client.expect(want).expect("$6\r\nbehind\r\n");
        assert_eq!(published() - before, usize::from(want.starts_with("*4")));
    }
    client
        .ask("MULTI", "+OK\r\n")
        .ask("FLUSHALL", "+QUEUED\r\n");
    client.send(command("SET bar 1"));
    assert!(
        client
            .line()
            .starts_with("-ERR in a transaction through the proxy")
    );
    client.send(command("EXEC"));
    assert!(client.line().starts_with("-EXECABORT"));
}

/// Regression: what the proxy does itself was done although nothing was executed.
#[test]
fn nothing_of_a_transaction_is_done_when_what_it_watches_has_changed() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    for (of_node, want, database) in [
        (&b"*-1\r\n"[..], "*-1\r\n", 0),
        (b"*1\r\n+OK\r\n", "*3\r\n+OK\r\n+OK\r\n+PONG\r\n", 3),
    ] {
        cluster.nodes[0].script(move |asked| match asked.args.last().map(Vec::as_slice) {
            Some(b"EXEC") => Act::Say(of_node),
            _ => Act::Run,
        });
        client.ask("WATCH bar", "+OK\r\n").ask("MULTI", "+OK\r\n");
        for line in ["SELECT 3", "SET bar 1", "PING"] {
            client.ask(line, "+QUEUED\r\n");
        }
        client.ask("EXEC", want).ask("GET bar", "$-1\r\n");
        let read = cluster.nodes[0].executed().pop().expect("it was read");
        assert_eq!((read.name().as_str(), read.database), ("GET", database));
    }
}

#[test]
fn a_watch_whose_link_broke_is_never_set_again_behind_the_clients_back() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    cluster.nodes[0].script(|asked| match asked.name() == "WATCH" {
        true => Act::RunAndDie,
        false => Act::Run,
    });
    client.send(command("WATCH bar"));
    assert!(client.line().starts_with("-UNKNOWN"));
}

#[test]
fn a_node_is_sent_a_script_before_an_evalsha_that_it_may_not_know() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    client.ask(&format!("EVALSHA {sha} 1 foo"), "+OK\r\n");
    assert!(
        cluster.nodes[1].asked("SCRIPT").is_none(),
        "nobody knows it"
    );
    let eval = b"*4\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n1\r\n$3\r\nbar\r\n";
    client.send(eval);
    client.line();
    for _ in 0..2 {
        client.ask(&format!("EVALSHA {sha} 1 foo"), "+OK\r\n");
    }
    let all = cluster.nodes[1].executed();
    let names: Vec<String> = all.iter().map(|asked| asked.name()).collect();
    assert_eq!(names, ["EVALSHA", "SCRIPT", "EVALSHA", "EVALSHA"]);
    assert_eq!(all[1].args[2], b"return 1");
}

#[test]
fn tracking_marks_reads_and_a_lost_node_invalidates_everything() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.send(command("HELLO 3"));
    client.send(command("CLIENT TRACKING ON NOLOOP"));
    client.send(command("GET bar"));
    until("the read has come", || {
        cluster.nodes[0].asked("GET").is_some()
    });
    let read = cluster.nodes[0].asked("GET").unwrap();
    assert!(read.flags.has(cairn_protocol::link::RequestFlags::TRACK));
    let told = cluster.nodes[1]
        .asked("CLIENT")
        .expect("all nodes are told");
    assert_eq!(told.args.join(&b' '), b"CLIENT TRACKING ON NOLOOP");
    client.send(command("PING ready"));
    while client.line() != "ready" {}
    cluster.nodes[0].break_links();
    client.expect(">2\r\n$10\r\ninvalidate\r\n_\r\n");
}

/// Regression: who had named a prefix did not hear of all keys afterwards.
#[test]
fn tracking_without_a_prefix_adds_all_keys_to_those_under_prefixes() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client
        .ask("CLIENT TRACKING ON BCAST PREFIX a", "+OK\r\n")
        .ask("CLIENT TRACKING ON BCAST", "+OK\r\n");
    client.ask(
        "CLIENT TRACKINGINFO",
        "*6\r\n$5\r\nflags\r\n*2\r\n$2\r\non\r\n$5\r\nbcast\r\n$8\r\nredirect\r\n:0\r\n$8\r\n\
         prefixes\r\n*2\r\n$0\r\n\r\n$1\r\na\r\n",
    );
    cluster.nodes[0].break_links();
    until("the node is told again", || {
        let all = cluster.nodes[0].executed();
        let of_all = |asked: &Asked| asked.args.join(&b' ') == b"CLIENT TRACKING ON BCAST";
        all.iter().filter(|asked| of_all(asked)).count() == 2
    });
}

#[test]
fn a_command_that_is_refused_uses_up_client_caching() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client
        .ask("CLIENT TRACKING ON OPTIN", "+OK\r\n")
        .ask("CLIENT CACHING YES", "+OK\r\n");
    client.send(command("GET")).line();
    client.ask("GET bar", "$-1\r\n");
    let read = cluster.nodes[0].asked("GET").expect("it was read");
    assert!(!read.flags.has(cairn_protocol::link::RequestFlags::TRACK));
}

#[test]
fn a_monitor_sees_the_commands_of_all_clients() {
    let cluster = Cluster::start();
    let (mut monitor, mut client) = (cluster.client(), cluster.client());
    monitor.ask("MONITOR", "+OK\r\n");
    client.ask("SET foo 1", "+OK\r\n");
    assert!(monitor.line().ends_with(r#"] "SET" "foo" "1""#));
}

/// EXEC made a monitor of its client.
#[test]
fn nobody_becomes_a_monitor_within_a_transaction() {
    let cluster = Cluster::start();
    let (mut client, mut other) = (cluster.client(), cluster.client());
    let refused = "*2\r\n-ERR MONITOR isn't allowed for DENY BLOCKING client\r\n+PONG\r\n";
    client
        .ask("MULTI", "+OK\r\n")
        .ask("MONITOR", "+QUEUED\r\n")
        .ask("PING", "+QUEUED\r\n")
        .ask("EXEC", refused);
    other.ask("SET foo 1", "+OK\r\n");
    client.ask("GET foo", "$1\r\n1\r\n");
    assert!(cluster.nodes.iter().all(|n| n.asked("MONITOR").is_none()));
}

#[test]
fn a_client_that_monitors_reaches_no_keys() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask("MONITOR", "+OK\r\n");
    let refused = "-ERR Replica can't interact with the keyspace\r\n";
    client.ask("GET bar", refused).ask("SET foo 1", refused);
    client.ask("RESET", "+RESET\r\n").ask("GET bar", "$-1\r\n");
}

#[test]
fn a_pause_of_writes_holds_writes_and_is_ended_at_once() {
    let cluster = Cluster::start();
    let (mut writer, mut other) = (cluster.client(), cluster.client());
    other.ask("CLIENT PAUSE 100000 WRITE", "+OK\r\n");
    other.ask("GET foo", "$-1\r\n");
    writer.send(command("SET foo 1"));
    until("it counts as blocked", || {
        other.text("INFO clients").contains("blocked_clients:1")
    });
    other.ask("CLIENT UNPAUSE", "+OK\r\n");
    writer.expect("+OK\r\n");
}

/// Regression: UNBLOCK knew clients alone that wait for their keys.
#[test]
fn a_client_that_waits_for_replicas_can_be_unblocked() {
    let cluster = Cluster::start();
    let (mut waiter, mut other) = (cluster.client(), cluster.client());
    waiter.send(command("CLIENT ID"));
    let id = waiter.line()[1..].to_owned();
    cluster.nodes[0].script(|asked| match asked.name() == "WAIT" {
        true => Act::Keep,
        false => Act::Run,
    });
    cluster.nodes[1].script(|asked| match asked.name() == "WAIT" {
        true => Act::Say(b":2\r\n"),
        false => Act::Run,
    });
    for (how, reply) in [
        ("TIMEOUT", ":1\r\n"),
        (
            "ERROR",
            "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n",
        ),
    ] {
        waiter.send(command("WAIT 2 0"));
        let asked = cluster.nodes[0].kept("WAIT");
        let unblock = format!("CLIENT UNBLOCK {id} {how}");
        other.ask(&unblock, ":1\r\n");
        let told = format!("CLIENT UNBLOCK WAIT {how}");
        until("the node is told", || {
            let all = cluster.nodes[0].executed();
            all.iter().any(|a| a.args.join(&b' ') == told.as_bytes())
        });
        cluster.nodes[0].end(asked.request, ReplyClass::Ok, reply.as_bytes());
        waiter.expect(reply);
        other.ask(&unblock, ":0\r\n");
    }
}
