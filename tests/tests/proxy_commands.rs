//! What plain clients of one or two proxies see of a cluster: two groups, each
//! on a node of its own, and nothing that a single Redis would not show.

use std::time::Duration;

use cairn_tests::cluster::{Cluster, key_in_slot};
use cairn_tests::peers::Redis;
use cairn_tests::resp::{Client, Value};
use cairn_tests::wait;

const LIMIT: Duration = Duration::from_secs(30);

/// A key of the first group, and one of the second.
fn keys() -> (String, String) {
    (key_in_slot(100), key_in_slot(16_000))
}

fn next(client: &mut Client) -> Value {
    client.read_reply().expect("a message").value
}

fn says(value: &Value, text: &str) -> bool {
    value.error().is_some_and(|line| line.contains(text))
}

fn texts(value: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Integer(number) => number.to_string(),
        other => other.text(),
    };
    value.array().iter().map(text).collect()
}

#[test]
fn messages_reach_subscribers_at_any_proxy_and_node() {
    let cluster = Cluster::start(2, 2);
    let (port, _proxy) = cluster.start_proxy();
    let (mut near, mut far, mut publisher) =
        (cluster.client(), Client::connect(port), cluster.client());
    // A proxy publishes at the leader of the first group. Clients of the cluster
    // itself talk to that node, and to the other one.
    let asked = cluster.leader_of_slot(0);
    let mut at_asked = cluster.nodes[&asked].client();
    let other = cluster.nodes.values().find(|node| node.id != asked);
    // It listens before anything is published: what one node tells another is on
    // its way for a while, and who subscribes meanwhile may hear of it or not.
    let mut at_other = other.expect("two nodes").client();
    assert_eq!(
        texts(&near.words("SUBSCRIBE news"))[..2],
        ["subscribe", "news"]
    );
    assert_eq!(
        texts(&far.words("PSUBSCRIBE n*"))[..2],
        ["psubscribe", "n*"]
    );
    at_other.words("SUBSCRIBE news");
    assert_eq!(publisher.words("PUBLISH news one").integer(), 2);
    at_asked.words("PUBLISH news two");
    publisher.words("PUBLISH news three");
    for text in ["one", "two", "three"] {
        let message = ["message", "news", text];
        assert_eq!(texts(&next(&mut near)), message, "each once");
        assert_eq!(texts(&next(&mut far)), ["pmessage", "n*", "news", text]);
        assert_eq!(texts(&next(&mut at_other)), message, "each once");
    }

    assert_eq!(texts(&publisher.words("PUBSUB CHANNELS")), ["news"]);
    assert_eq!(publisher.words("PUBSUB NUMPAT").integer(), 1);
    near.words("UNSUBSCRIBE");
    assert_eq!(publisher.words("PUBLISH news five").integer(), 1);
    cluster.stop();
}

#[test]
fn sharded_channels_and_keyspace_events_come_from_the_owner_of_the_slot() {
    let cluster = Cluster::start(2, 2);
    let (port, _proxy) = cluster.start_proxy();
    let (mut listener, mut writer) = (Client::connect(port), cluster.client());
    let (one, two) = keys();
    for key in [&one, &two] {
        listener.words(&format!("SSUBSCRIBE {key}"));
        assert_eq!(writer.words(&format!("SPUBLISH {key} hello")).integer(), 1);
        let message = next(&mut listener);
        assert_eq!(texts(&message), ["smessage", key.as_str(), "hello"]);
    }
    listener.words("SUNSUBSCRIBE");
    next(&mut listener);

    assert_eq!(
        writer.words("CONFIG SET notify-keyspace-events KA").text(),
        "OK"
    );
    listener.words("PSUBSCRIBE __keyspace@0__:*");
    for key in [&one, &two] {
        writer.words(&format!("SET {key} x"));
        let message = texts(&next(&mut listener));
        assert_eq!(
            message[2..],
            [format!("__keyspace@0__:{key}"), "set".into()]
        );
    }
    cluster.stop();
}

#[test]
fn subscriptions_outlive_the_restart_of_a_node() {
    let mut cluster = Cluster::start(2, 2);
    let (mut listener, mut writer) = (cluster.client(), cluster.client());
    listener.words("SUBSCRIBE news");
    let node = cluster.leader_of_slot(100);
    cluster.kill_node(&node);
    cluster.restart_node(&node);
    wait::until("the subscription at the node", LIMIT, || {
        (writer.words("PUBSUB NUMSUB news").array()[1].integer() == 1).then_some(())
    });
    assert_eq!(writer.words("PUBLISH news back").integer(), 1);
    assert_eq!(texts(&next(&mut listener)), ["message", "news", "back"]);
    cluster.stop();
}

#[test]
fn a_watched_key_decides_about_exec_also_when_its_owner_goes() {
    let mut cluster = Cluster::start(2, 2);
    let (key, far) = keys();
    let (mut watcher, mut other) = (cluster.client(), cluster.client());
    let run = |watcher: &mut Client, meanwhile: &mut dyn FnMut()| {
        watcher.words(&format!("WATCH {key}"));
        meanwhile();
        watcher.words("MULTI");
        watcher.words(&format!("INCR {key}"));
        watcher.words("EXEC")
    };
    let done = run(&mut watcher, &mut || {});
    assert_eq!(done.array()[0].integer(), 1);
    let nil = run(&mut watcher, &mut || {
        drop(other.words(&format!("SET {key} 5")))
    });
    assert_eq!(nil, Value::Null, "{nil:?}");
    let crossed = {
        watcher.words(&format!("WATCH {key}"));
        let crossed = watcher.words(&format!("WATCH {far}"));
        watcher.words("UNWATCH");
        crossed
    };
    assert!(crossed.error().is_some_and(|e| e.starts_with("CROSSSLOT")));

    let node = cluster.leader_of_slot(100);
    watcher.words(&format!("WATCH {key}"));
    cluster.kill_node(&node);
    cluster.restart_node(&node);
    watcher.words("MULTI");
    watcher.words(&format!("INCR {key}"));
    assert_eq!(
        watcher.words("EXEC"),
        Value::Null,
        "the watch was lost with its node"
    );
    assert_eq!(watcher.words(&format!("GET {key}")).text(), "5");

    watcher.words(&format!("WATCH {key}"));
    cluster.move_slots("1", "2", "0-8191");
    watcher.words("MULTI");
    watcher.words(&format!("INCR {key}"));
    assert_eq!(
        watcher.words("EXEC"),
        Value::Null,
        "its slot has another owner"
    );
    let done = run(&mut watcher, &mut || {});
    assert_eq!(done.array()[0].integer(), 6);
    cluster.stop();
}

#[test]
fn blocked_clients_are_served_unblocked_and_follow_their_slot() {
    let cluster = Cluster::start(2, 2);
    let (key, _) = keys();
    let (mut blocked, mut other) = (cluster.client(), cluster.client());
    let id = blocked.words("CLIENT ID").integer();
    let waits = |other: &mut Client| {
        wait::until("the client to wait", LIMIT, || {
            other
                .words("INFO clients")
                .text()
                .contains("blocked_clients:1")
                .then_some(())
        });
    };
    let ask = format!("BLPOP {key} 0");
    let mut bytes = Vec::new();
    cairn_tests::resp::encode(&mut bytes, &ask.split(' ').collect::<Vec<_>>());

    blocked.send(&bytes).unwrap();
    waits(&mut other);
    assert_eq!(other.words(&format!("CLIENT UNBLOCK {id}")).integer(), 1);
    assert_eq!(next(&mut blocked), Value::Null);
    assert_eq!(other.words(&format!("CLIENT UNBLOCK {id}")).integer(), 0);

    blocked.send(&bytes).unwrap();
    waits(&mut other);
    other.words(&format!("CLIENT UNBLOCK {id} ERROR"));
    assert!(
        next(&mut blocked)
            .error()
            .is_some_and(|e| e.starts_with("UNBLOCKED"))
    );

    blocked.send(&bytes).unwrap();
    waits(&mut other);
    cluster.move_slots("1", "2", "0-8191");
    other.words(&format!("RPUSH {key} x"));
    assert_eq!(texts(&next(&mut blocked)), [key.as_str(), "x"]);
    cluster.stop();
}

#[test]
fn scripts_are_known_wherever_their_keys_are() {
    let cluster = Cluster::start(2, 2);
    let (port, _proxy) = cluster.start_proxy();
    let (mut one, mut two) = (cluster.client(), Client::connect(port));
    let (near, far) = keys();
    let script = "return redis.call('SET', KEYS[1], ARGV[1])";
    let sha = "d8f2fad9f8e86a53d2a6ebd960b33c4972cacc37";
    let unknown = one.words(&format!("EVALSHA {sha} 1 {near} a"));
    assert!(says(&unknown, "NOSCRIPT"), "{unknown:?}");
    let ran = one.command(&["EVAL", script, "1", &near, "a"]);
    assert_eq!(ran.text(), "OK");
    // Known to one node only, and to the proxy.
    assert_eq!(one.words(&format!("EVALSHA {sha} 1 {far} b")).text(), "OK");
    assert_eq!(
        one.words(&format!("SCRIPT EXISTS {sha}")).array()[0].integer(),
        1
    );
    let load = one.command(&["SCRIPT", "LOAD", "return KEYS[1]"]).text();
    for key in [&near, &far] {
        assert_eq!(two.words(&format!("EVALSHA {load} 1 {key}")).text(), *key);
    }
    one.words("SCRIPT FLUSH");
    for client in [&mut one, &mut two] {
        let gone = client.words(&format!("EVALSHA {load} 1 {far}"));
        assert!(gone.error().is_some_and(|e| e.starts_with("NOSCRIPT")));
    }
    cluster.stop();
}

/// "bar" and "hello" are in slots of the first group, "foo" and "x" of the second.
#[test]
fn scripts_use_keys_that_they_do_not_declare_within_a_group() {
    let cluster = Cluster::start(2, 2);
    let mut client = cluster.client();
    let set = |key: &str| format!("return redis.call('set', '{key}', 'v')");
    for key in ["bar", "foo"] {
        assert_eq!(client.command(&["EVAL", &set(key), "0"]).text(), "OK");
        assert_eq!(client.words(&format!("GET {key}")).text(), "v");
    }
    let pair = |a: &str, b: &str| {
        format!("redis.call('append', '{a}', 'a') return redis.call('append', '{b}', 'b')")
    };
    for (declared, a, b) in [
        ("foo", "foo", "x"),
        ("foo", "x", "x"),
        ("bar", "hello", "bar"),
    ] {
        let ran = client.command(&["EVAL", &pair(a, b), "1", declared]);
        assert!(ran.integer() > 0, "{declared} {a} {b}");
    }
    assert!(client.command(&["EVAL", &pair("x", "foo"), "0"]).integer() > 0);
    let not_local = "Script attempted to access a non local key in a cluster node";
    for words in [
        ["EVAL", &pair("foo", "bar"), "0", ""],
        ["EVAL", &pair("bar", "foo"), "0", ""],
        ["EVAL", &set("bar"), "1", "foo"],
    ] {
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let refused = client.command(&words);
        assert!(says(&refused, not_local), "{words:?}: {refused:?}");
    }
    let strict = format!("#!lua\n{}", pair("foo", "x"));
    let refused = client.command(&["EVAL", &strict, "0"]);
    let one_slot = "Script attempted to access keys that do not hash to the same slot";
    assert!(says(&refused, one_slot), "{refused:?}");
    let allowed = format!("#!lua flags=allow-cross-slot-keys\n{}", pair("foo", "x"));
    assert!(client.command(&["EVAL", &allowed, "0"]).integer() > 0);
    // Within a transaction there is no way back.
    client.words("MULTI");
    client.command(&["EVAL", &set("foo"), "0"]);
    let ran = client.words("EXEC");
    assert!(says(&ran.array()[0], not_local), "{ran:?}");
}

#[test]
fn nodes_count_the_errors_that_they_answer_a_proxy_with() {
    let cluster = Cluster::start(2, 2);
    let mut client = cluster.client();
    client.words("CONFIG RESETSTAT");
    client.words("SET foo v");
    // By a writer, by a reader, within a script, and to one that waited.
    assert!(client.words("LPUSH foo x").is_error());
    assert!(client.words("LLEN foo").is_error());
    let script = "return redis.pcall('incr', KEYS[1])";
    assert!(client.command(&["EVAL", script, "1", "foo"]).is_error());
    client.words("XADD bar * a b");
    client.words("XGROUP CREATE bar g $");
    let mut waiting = cluster.client();
    waiting
        .send(b"XREADGROUP GROUP g c BLOCK 0 STREAMS bar >\r\n")
        .unwrap();
    wait::until("it waits", LIMIT, || {
        let info = client.words("INFO clients").text();
        info.contains("blocked_clients:1").then_some(())
    });
    client.words("XGROUP DESTROY bar g");
    assert!(says(&next(&mut waiting), "NOGROUP"));
    let counted = client.words("INFO errorstats").text();
    for line in [
        "errorstat_WRONGTYPE:count=2",
        "errorstat_ERR:count=1",
        "errorstat_NOGROUP:count=1",
    ] {
        assert!(counted.contains(line), "{line}: {counted}");
    }
}

#[test]
fn function_libraries_are_the_clusters_and_outlive_everything() {
    let mut cluster = Cluster::start(2, 2);
    let (port, _proxy) = cluster.start_proxy();
    let (near, far) = keys();
    let code = |text: &str| {
        format!("#!lua name=lib\nredis.register_function('f', function(keys) return '{text}' end)")
    };
    let mut client = cluster.client();
    assert_eq!(
        client.command(&["FUNCTION", "LOAD", &code("one")]).text(),
        "lib"
    );
    let again = client.command(&["FUNCTION", "LOAD", &code("two")]);
    assert_eq!(
        again.error().as_deref(),
        Some("ERR Library 'lib' already exists")
    );
    let everywhere = |cluster: &Cluster, text: &str| {
        for port in [cluster.proxy_port, port] {
            let mut client = Client::connect(port);
            for key in [&near, &far] {
                assert_eq!(client.words(&format!("FCALL f 1 {key}")).text(), text);
            }
        }
        for node in cluster.nodes.values() {
            let listed = node.client().words("FUNCTION LIST WITHCODE");
            assert_eq!(listed.array().len(), 1);
        }
    };
    everywhere(&cluster, "one");
    let nodes: Vec<String> = cluster.nodes.keys().cloned().collect();
    for node in &nodes {
        cluster.kill_node(node);
        cluster.restart_node(node);
    }
    everywhere(&cluster, "one");
    client.command(&["FUNCTION", "LOAD", "REPLACE", &code("two")]);
    everywhere(&cluster, "two");

    let dump = client.words("FUNCTION DUMP");
    assert_eq!(client.words("FUNCTION DELETE lib").text(), "OK");
    for node in cluster.nodes.values() {
        assert_eq!(node.client().words("FUNCTION LIST").array().len(), 0);
    }
    client.command(&[&b"FUNCTION"[..], b"RESTORE", dump.bytes()]);
    everywhere(&cluster, "two");
    assert_eq!(client.words("FUNCTION FLUSH").text(), "OK");
    let gone = client.words(&format!("FCALL f 1 {far}"));
    assert!(says(&gone, "Function not found"), "{gone:?}");
    cluster.stop();
}

#[test]
fn invalidations_come_from_all_groups() {
    let cluster = Cluster::start(2, 2);
    let (mut reader, mut writer) = (cluster.client(), cluster.client());
    let (near, far) = keys();
    reader.words("HELLO 3");
    assert_eq!(reader.words("CLIENT TRACKING ON").text(), "OK");
    for key in [&near, &far] {
        reader.words(&format!("GET {key}"));
        writer.words(&format!("SET {key} x"));
        let told = next(&mut reader);
        assert_eq!(told.array()[0].text(), "invalidate");
        assert_eq!(texts(&told.array()[1]), [key.as_str()]);
    }
    writer.words(&format!("SET {near} y"));
    assert_eq!(reader.words("PING").text(), "PONG", "it was not read again");

    // None comes amid the reply of an EXEC over all groups.
    for key in [&near, &far] {
        reader.words(&format!("GET {key}"));
    }
    reader.words("MULTI");
    reader.words("FLUSHDB");
    assert_eq!(texts(&reader.words("EXEC")), ["OK"]);
    let told = next(&mut reader);
    assert_eq!(told.array()[0].text(), "invalidate");
    // Each node says so of the one flush; the client is told once.
    for _ in 0..20 {
        assert_eq!(reader.words("PING").text(), "PONG");
    }
    cluster.stop();
}

/// Commands whose replies must be those of one Redis, in order.
const AS_REDIS: &[&str] = &[
    "MSET a 1 b 2 c 3 d 4 e 5 f 6",
    "DBSIZE",
    "MGET a b c d e f none",
    "EXISTS a b none",
    "KEYS none*",
    "DEL a b none",
    "UNLINK c",
    "TOUCH d e",
    "RANDOMKEY extra",
    "SCAN nonsense",
    "FLUSHDB",
    "DBSIZE",
    "RPUSH {l} 3 1 2",
    "SORT {l}",
    "SORT {l} STORE {l}s",
    "SET {t}a x",
    "RENAME {t}a {t}b",
    "COPY {t}b {t}c",
    "OBJECT ENCODING {t}b",
    "WAIT 0 0",
    "MULTI",
    "SET {t}a 1",
    "INCR {t}a",
    "PING",
    "EXEC",
    "MULTI",
    "DISCARD",
    "EXEC",
    "DISCARD",
    "UNWATCH",
    "WATCH",
    "SUBSCRIBE one two",
    "PING",
    "PING text",
    "GET {t}a",
    "UNSUBSCRIBE one",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SSUBSCRIBE shard",
    "SUNSUBSCRIBE",
    "PUBSUB CHANNELS",
    "PUBSUB NUMSUB x",
    "PUBSUB NUMPAT",
    "PUBSUB SHARDCHANNELS",
    "PUBLISH nobody here",
    "SPUBLISH nobody here",
    "EVAL return{KEYS[1],ARGV[1]} 1 {t}a x",
    "EVALSHA 0000000000000000000000000000000000000000 0",
    "SCRIPT EXISTS 0000000000000000000000000000000000000000",
    "SCRIPT NONSENSE",
    "FUNCTION LIST",
    "FUNCTION DELETE none",
    "FCALL none 0",
    "CONFIG SET nonsense 1",
    "CONFIG GET nonsense",
    "CONFIG SET hash-max-listpack-entries 7",
    "CONFIG GET hash-max-listpack-entries",
    "CLIENT TRACKING ON BCAST PREFIX a PREFIX b",
    "CLIENT TRACKING ON BCAST PREFIX ab",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "CLIENT CACHING YES",
    "CLIENT TRACKING OFF",
    "CLIENT CACHING YES",
    "CLIENT UNBLOCK 123456",
    "CLIENT UNBLOCK x",
    "CLIENT UNBLOCK 1 NONSENSE",
    "CLIENT PAUSE x",
    "CLIENT PAUSE -1",
    "CLIENT PAUSE 1 NONSENSE",
    "CLIENT PAUSE 1 ALL x",
    "CLIENT UNPAUSE",
    "CLIENT LIST TYPE nonsense",
    "CLIENT LIST ID nonsense",
    "CLIENT KILL TYPE nonsense",
    "CLIENT KILL ID 0",
    "CLIENT KILL SKIPME nonsense",
    "CLIENT HELP",
    "SELECT 99999999999",
    "EXEC x",
    "CLIENT NO-EVICT ON",
    "SLOWLOG GET nonsense",
    "LATENCY RESET",
    "ACL WHOAMI",
    "ACL CAT",
    "ACL CAT nonsense",
    "ACL CAT a b",
    "ACL GENPASS nonsense",
    "ACL GENPASS 5000",
    "ACL NONSENSE",
    "ACL HELP",
    "ACL SETUSER u on >p %R~a* ~b* &c* +@all -set (+set ~d*)",
    "ACL SETUSER u +nonsense",
    "ACL SETUSER u (+set",
    "ACL GETUSER u",
    "ACL LIST",
    "ACL USERS",
    "ACL DRYRUN u get a1",
    "ACL DRYRUN u set a1 x",
    "ACL DRYRUN u del a1",
    "ACL DRYRUN u publish x y",
    "ACL DRYRUN nobody get a",
    "ACL DRYRUN u nonsense",
    "AUTH secret",
    "AUTH u wrong",
    "HELLO 2 AUTH u wrong",
    "AUTH u p",
    "ACL WHOAMI",
    "GET a1",
    "SET a1 x",
    "SET d1 x",
    "MGET a1 b1 x",
    "MULTI",
    "DEL a1",
    "EXEC",
    "PUBLISH x y",
    "PUBLISH c y",
    "SUBSCRIBE x",
    "AUTH default x",
    "ACL WHOAMI",
    "ACL DELUSER default",
    "ACL DELUSER u nobody",
    "ACL GETUSER u",
    "AUTH u p",
    "ACL LOG x",
    "ACL LOG RESET",
    "ACL LOG",
    "RESET",
    "SELECT 3",
    "SET only 3",
    "DBSIZE",
    "SELECT 4",
    "GET only",
    "FLUSHALL",
    "DBSIZE",
    "HELLO 3",
    "GET none",
    "HELLO 9",
];

#[test]
fn replies_are_those_of_one_redis() {
    let cluster = Cluster::start(2, 2);
    let redis = Redis::in_memory();
    let (mut ours, mut theirs) = (cluster.client(), redis.client());
    for line in AS_REDIS {
        let (ours, theirs) = (replies(&mut ours, line), replies(&mut theirs, line));
        match line.starts_with("HELLO 3") {
            // Its id and name are its own.
            true => assert_eq!(ours.len(), theirs.len()),
            false => assert_eq!(ours, theirs, "{line}"),
        }
    }
    cluster.stop();
}

/// All replies of a command: as many as a subscription has names, else one.
fn replies(client: &mut Client, line: &str) -> Vec<Value> {
    let words: Vec<&str> = line.split(' ').collect();
    let count = match words[0] {
        "SUBSCRIBE" => words.len() - 1,
        _ => 1,
    };
    let mut all = vec![client.command(&words)];
    for _ in 1..count {
        all.push(next(client));
    }
    all
}
