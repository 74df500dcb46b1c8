//! Cluster-aware clients of other people, talking to the nodes directly:
//! redis-rs's cluster client, redis-py's RedisCluster, `redis-cli -c`.

use std::process::{Command, Output};
use std::sync::LazyLock;

use cairn_tests::binaries;
use cairn_tests::cluster::{Cluster, Node, key_in_slot, slot_of};
use cairn_tests::python;
use cairn_tests::resp::{Client, Value, encode};
use redis::TypedCommands;
use redis::cluster::ClusterClient;

/// One cluster for all tests here: they use keys of their own. It ends with the
/// test program (the kernel ends the playground, which ends its children).
static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(3, 2));

#[test]
fn a_node_that_does_not_own_the_slot_answers_moved_with_the_owner() {
    let low = CLUSTER.leader_of_slot(0);
    let high = CLUSTER.leader_of_slot(16_383);
    assert_ne!(low, high, "two groups on three nodes have two leaders");
    let key = key_in_slot(16_383);
    let error = CLUSTER.nodes[&low]
        .client()
        .command(&["GET", &key])
        .error()
        .unwrap_or_default();
    let port = CLUSTER.nodes[&high].port;
    assert_eq!(error, format!("MOVED 16383 127.0.0.1:{port}"));
}

/// It answered CLUSTERDOWN.
#[test]
fn a_node_that_does_not_own_the_slot_migrates_nothing_and_says_who_does() {
    let low = CLUSTER.leader_of_slot(0);
    let port = CLUSTER.nodes[&CLUSTER.leader_of_slot(16_383)].port;
    let mut client = CLUSTER.nodes[&low].client();
    let key = key_in_slot(16_383);
    let one = ["MIGRATE", "127.0.0.1", "1", &key, "0", "100"];
    let many = ["MIGRATE", "127.0.0.1", "1", "", "0", "100", "KEYS", &key];
    for words in [&one[..], &many] {
        let moved = client.command(words).error();
        assert_eq!(moved, Some(format!("MOVED 16383 127.0.0.1:{port}")));
    }
}

/// redis-cli's `--cluster info` gave up at the error that DBSIZE was answered with.
#[test]
fn a_node_without_a_group_has_no_keys() {
    let leaders = [CLUSTER.leader_of_slot(0), CLUSTER.leader_of_slot(16_383)];
    let idle = CLUSTER.nodes.values().find(|n| !leaders.contains(&n.id));
    let idle = idle.expect("two groups on three nodes");
    let mut client = idle.client();
    assert_eq!(client.words("DBSIZE").integer(), 0);
    assert_eq!(client.words("KEYS *").array().len(), 0);
    assert_eq!(client.words("SCAN 0").array()[0].text(), "0");
    assert_eq!(client.words("FLUSHALL").text(), "OK");
    let info = Command::new(binaries::system("redis-cli"))
        .args(["--cluster", "info", &format!("127.0.0.1:{}", idle.port)])
        .output()
        .expect("redis-cli starts");
    let info = String::from_utf8_lossy(&info.stdout).into_owned();
    assert!(info.contains("keys in 3 masters."), "{info}");
}

/// DBSIZE, KEYS, RANDOMKEY and SCAN showed the keys of the node's first group, and
/// FLUSHALL left those of the others.
#[test]
fn commands_about_all_keys_are_about_every_group_of_a_node() {
    let cluster = Cluster::start(1, 2);
    let node = cluster.nodes.values().next().expect("a node");
    let mut client = node.client();
    let keys: Vec<String> = (0..200).map(|number| format!("all:{number:03}")).collect();
    for key in &keys {
        assert_eq!(client.command(&["SET", key, "x"]).text(), "OK");
    }
    client.words("CONFIG RESETSTAT");
    assert_eq!(client.words("DBSIZE").integer(), 200);
    let stats = client.words("INFO commandstats").text();
    assert!(stats.contains("cmdstat_dbsize:calls=1,"), "{stats}");
    assert_eq!(texts(&client.words("KEYS all:*")), keys);
    assert_eq!(texts(&client.words("KEYS all:00?")), keys[..10]);
    assert_eq!(scan_all(&mut client), keys);
    assert_eq!(pipelined_count(&mut client), 201);
    assert_eq!(client.words("DEL behind").integer(), 1);

    let is_low = |key: &str| slot_of(key.as_bytes()) < 8192;
    let picked: Vec<String> = (0..200).map(|_| client.words("RANDOMKEY").text()).collect();
    assert!(picked.iter().any(|key| is_low(key)), "{picked:?}");
    assert!(!picked.iter().all(|key| is_low(key)), "{picked:?}");
    for key in keys.iter().filter(|key| is_low(key)) {
        assert_eq!(client.command(&["DEL", key]).integer(), 1);
    }
    for _ in 0..20 {
        let key = client.words("RANDOMKEY").text();
        assert!(!is_low(&key), "{key}");
    }
    for (bad, line) in [
        ("SCAN x", "ERR invalid cursor"),
        ("SCAN 0 COUNT", "ERR syntax error"),
        ("FLUSHALL x", "ERR syntax error"),
    ] {
        assert_eq!(client.words(bad).error().as_deref(), Some(line), "{bad}");
    }
    let end = client.words(&format!("SCAN {}", 16_384_u64 << 38));
    assert_eq!(end.array()[0].text(), "0");

    for flush in ["FLUSHALL", "FLUSHDB ASYNC"] {
        for key in &keys {
            client.command(&["SET", key, "x"]);
        }
        assert_eq!(client.words(flush).text(), "OK");
        assert_eq!(client.words("DBSIZE").integer(), 0, "{flush}");
        for key in &keys {
            assert_eq!(client.command(&["GET", key]), Value::Null, "{flush}");
        }
    }
    assert_eq!(client.words("KEYS *").array().len(), 0);
    assert_eq!(client.words("RANDOMKEY"), Value::Null);
    assert!(scan_all(&mut client).is_empty());
}

/// It would answer OK, and leave the keys of the other groups.
#[test]
fn a_transaction_on_a_node_with_several_groups_takes_no_command_about_all_keys() {
    let cluster = Cluster::start(1, 2);
    let node = cluster.nodes.values().next().expect("a node");
    let mut client = node.client();
    client.words("MULTI");
    let refused = client.words("FLUSHALL").error();
    let line = "ERR 'flushall' is about several groups of this node, a transaction about one";
    assert_eq!(refused.as_deref(), Some(line));
    let aborted = client.words("EXEC").error().unwrap_or_default();
    assert!(aborted.starts_with("EXECABORT"), "{aborted}");
}

/// They were about the group that the script ran in: a part that looked like all.
#[test]
fn a_script_where_there_are_several_groups_takes_no_command_about_all_keys() {
    let cluster = Cluster::start(1, 2);
    let node = cluster.nodes.values().next().expect("a node");
    let (mut direct, mut behind) = (node.client(), cluster.client());
    for slot in [0, 16_383] {
        let set = direct.command(&["SET", &key_in_slot(slot), "x"]);
        assert_eq!(set.text(), "OK");
    }
    for client in [&mut direct, &mut behind] {
        for call in [
            "'dbsize'",
            "'keys', '*'",
            "'scan', '0'",
            "'randomkey'",
            "'flushall'",
            "'flushdb', 'async'",
        ] {
            let name = call.split(',').next().unwrap_or_default();
            let line = format!("ERR {name} is about several groups, a script about one");
            let script = format!("return redis.pcall({call})");
            let refused = client.command(&["EVAL", &script, "0"]).error();
            assert_eq!(refused.as_deref(), Some(&*line));
        }
        assert_eq!(client.words("DBSIZE").integer(), 2);
    }
}

/// As on a node of Redis Cluster. A client of a proxy knows of no nodes.
#[test]
fn a_script_on_a_node_with_one_group_is_about_the_keys_of_that_node() {
    let cluster = Cluster::start(2, 2);
    let (low, high) = (cluster.leader_of_slot(0), cluster.leader_of_slot(16_383));
    assert_ne!(low, high, "a group on each node");
    let mut client = cluster.nodes[&low].client();
    let set = client.command(&["SET", &key_in_slot(0), "x"]);
    assert_eq!(set.text(), "OK");
    let script = "return #redis.call('keys', '*') + redis.call('dbsize')";
    let mine = client.command(&["EVAL", script, "0"]);
    assert_eq!(mine.integer(), 2);
    let theirs = cluster.nodes[&high]
        .client()
        .command(&["EVAL", script, "0"]);
    assert_eq!(theirs.integer(), 0);
    let flush = client.command(&["EVAL", "return redis.call('flushall')", "0"]);
    assert_eq!(flush.text(), "OK");
    assert_eq!(client.words("DBSIZE").integer(), 0);
    let script = "return redis.pcall('flushall')";
    let refused = cluster.client().command(&["EVAL", script, "0"]).error();
    let line = "ERR 'flushall' is about several groups, a script about one";
    assert_eq!(refused.as_deref(), Some(line));
}

/// What each node of the cluster answers: asked one after the other, or all at once.
fn of_each_node(at_once: bool, command: &[&[u8]]) -> Vec<Value> {
    let nodes: Vec<&Node> = CLUSTER.nodes.values().collect();
    if !at_once {
        let asked = nodes.iter().map(|node| node.client().command(command));
        return asked.collect();
    }
    std::thread::scope(|scope| {
        let ask = |node: &&Node| {
            let mut client = node.client();
            scope.spawn(move || client.command(command))
        };
        let asked: Vec<_> = nodes.iter().map(ask).collect();
        let answers = asked
            .into_iter()
            .map(|asked| asked.join().expect("it ends"));
        answers.collect()
    })
}

/// A client of the whole cluster asks every node: the second one had nothing to delete,
/// or found what was to be restored.
#[test]
fn functions_may_be_changed_at_every_node() {
    let (name, other): (&[u8], &[u8]) = (b"asked", b"another");
    let code = |name: &[u8]| {
        let name = String::from_utf8_lossy(name);
        format!("#!lua name={name}\nredis.register_function('{name}', function() return 1 end)")
    };
    let not_found = Some("ERR Library not found".to_owned());
    for at_once in [false, true] {
        for name in [name, other] {
            for loaded in of_each_node(at_once, &[b"FUNCTION", b"LOAD", code(name).as_bytes()]) {
                assert_eq!(loaded.bytes(), name);
            }
        }
        let dump = of_each_node(false, &[b"FUNCTION", b"DUMP"]).swap_remove(0);
        for name in [name, other] {
            for deleted in of_each_node(at_once, &[b"FUNCTION", b"DELETE", name]) {
                assert_eq!(deleted.text(), "OK", "at once: {at_once}");
            }
            for deleted in of_each_node(at_once, &[b"FUNCTION", b"DELETE", name]) {
                assert_eq!(deleted.error(), not_found, "at once: {at_once}");
            }
        }
        for restored in of_each_node(at_once, &[b"FUNCTION", b"RESTORE", dump.bytes()]) {
            assert_eq!(restored.text(), "OK", "at once: {at_once}");
        }
        let listed = of_each_node(false, &[b"FUNCTION", b"LIST"]);
        assert!(listed.iter().all(|listed| listed.array().len() == 2));

        // The client of a proxy asks once, wherever that goes.
        let mut behind = CLUSTER.client();
        let again = behind.command(&[&b"FUNCTION"[..], b"LOAD", code(name).as_bytes()]);
        let there = Some("ERR Library 'asked' already exists".to_owned());
        assert_eq!(again.error(), there);
        let again = behind.command(&[&b"FUNCTION"[..], b"RESTORE", dump.bytes()]);
        let is_there = |line: &String| line.ends_with(" already exists");
        assert!(again.error().as_ref().is_some_and(is_there), "{again:?}");
        for name in [name, other] {
            for node in CLUSTER.nodes.values() {
                let deleted = node.client().command(&[&b"FUNCTION"[..], b"DELETE", name]);
                assert_eq!(deleted.text(), "OK");
                let deleted = behind.command(&[&b"FUNCTION"[..], b"DELETE", name]);
                assert_eq!(deleted.error(), not_found);
            }
        }
    }
}

/// The nodes of Redis answer 1 each; here it was 1, 0, 0.
#[test]
fn a_user_may_be_deleted_at_every_node() {
    for at_once in [false, true] {
        for set in of_each_node(at_once, &[b"ACL", b"SETUSER", b"ann", b"on"]) {
            assert_eq!(set.text(), "OK");
        }
        for deleted in of_each_node(at_once, &[b"ACL", b"DELUSER", b"ann", b"nobody"]) {
            assert_eq!(deleted.integer(), 1, "at once: {at_once}");
        }
        for deleted in of_each_node(at_once, &[b"ACL", b"DELUSER", b"ann"]) {
            assert_eq!(deleted.integer(), 0, "at once: {at_once}");
        }
    }
}

#[test]
fn a_scan_of_a_node_skips_the_slots_of_others() {
    let cluster = Cluster::start(2, 4);
    let mut all = 0;
    for node in cluster.nodes.values() {
        let mut client = node.client();
        let keys = (0..400).map(|number| format!("skip:{number:03}"));
        let mine: Vec<String> = keys
            .filter(|key| !client.command(&["SET", key, "x"]).is_error())
            .collect();
        assert_eq!(scan_all(&mut client), mine);
        assert_eq!(client.words("DBSIZE").integer(), mine.len() as i64);
        all += mine.len();
    }
    assert_eq!(all, 400);
}

/// All that SCAN shows, each once, in order.
fn scan_all(client: &mut Client) -> Vec<String> {
    let mut cursor = "0".to_owned();
    let mut found = Vec::new();
    for _ in 0..1000 {
        let page = client.command(&["SCAN", &cursor, "COUNT", "7"]);
        found.extend(texts(&page.array()[1]));
        cursor = page.array()[0].text();
        if cursor == "0" {
            found.sort();
            return found;
        }
    }
    panic!("SCAN does not end: {cursor}");
}

/// DBSIZE behind a write, and before a read, that it is not answered before.
fn pipelined_count(client: &mut Client) -> i64 {
    let mut requests = Vec::new();
    encode(&mut requests, &["SET", "behind", "x"]);
    encode(&mut requests, &["DBSIZE"]);
    encode(&mut requests, &["GET", "behind"]);
    let replies = client.pipeline(&requests, 3).expect("replies");
    assert_eq!(replies[0].value.text(), "OK");
    assert_eq!(replies[2].value.text(), "x");
    replies[1].value.integer()
}

/// The elements of an array, sorted.
fn texts(array: &Value) -> Vec<String> {
    let mut texts: Vec<String> = array.array().iter().map(Value::text).collect();
    texts.sort();
    texts
}

#[test]
fn a_queued_command_for_another_node_is_answered_with_that_node() {
    let low = &CLUSTER.nodes[&CLUSTER.leader_of_slot(0)];
    let high = &CLUSTER.nodes[&CLUSTER.leader_of_slot(16_383)];
    let mut client = low.client();
    assert_eq!(client.words("MULTI"), Value::Simple(b"OK".to_vec()));
    let queued = client.command(&["SET", &key_in_slot(0), "x"]);
    assert_eq!(queued, Value::Simple(b"QUEUED".to_vec()));
    let error = client.command(&["GET", &key_in_slot(16_383)]).error();
    let moved = format!("MOVED 16383 127.0.0.1:{}", high.port);
    assert_eq!(error, Some(moved));
    let aborted = client.words("EXEC").error().unwrap_or_default();
    assert!(aborted.starts_with("EXECABORT"), "{aborted}");
}

#[test]
fn keys_of_two_slots_in_one_command_are_crossslot() {
    let node = &CLUSTER.nodes[&CLUSTER.leader_of_slot(0)];
    let other = key_in_slot(1);
    for command in [
        ["MGET", &key_in_slot(0), &other],
        ["DEL", &key_in_slot(0), &other],
    ] {
        assert_eq!(
            node.client().command(&command).error().as_deref(),
            Some("CROSSSLOT Keys in request don't hash to the same slot")
        );
    }
}

#[test]
fn cluster_commands_describe_all_slots() {
    for node in CLUSTER.nodes.values() {
        let mut client = node.client();
        let info = client.words("CLUSTER INFO").text();
        assert!(info.starts_with("cluster_state:ok"), "{info}");
        assert!(info.contains("cluster_slots_assigned:16384"), "{info}");
        let id = client.words("CLUSTER MYID").text();
        let reports = client.words(&format!("CLUSTER COUNT-FAILURE-REPORTS {id}"));
        assert_eq!(reports.integer(), 0);
        let unknown = client.words("CLUSTER COUNT-FAILURE-REPORTS xx").error();
        assert_eq!(unknown.as_deref(), Some("ERR Unknown node xx"));
        assert_eq!(client.words("CLUSTER SAVECONFIG").text(), "OK");
        let ranges: Vec<(i64, i64)> = client
            .words("CLUSTER SLOTS")
            .array()
            .iter()
            .map(|range| (range.array()[0].integer(), range.array()[1].integer()))
            .collect();
        let covered: i64 = ranges.iter().map(|(first, last)| last - first + 1).sum();
        assert_eq!(covered, 16_384, "{ranges:?}");
        for key in ["foo", "{user1000}.following", "foo{}{bar}", ""] {
            let slot = client.command(&["CLUSTER", "KEYSLOT", key]).integer();
            assert_eq!(slot, i64::from(slot_of(key.as_bytes())), "{key:?}");
        }
        assert!(!client.words("CLUSTER MYID").text().is_empty());
        assert!(!client.words("CLUSTER SHARDS").array().is_empty());
        let nodes = client.words("CLUSTER NODES").text();
        assert_eq!(nodes.matches("myself").count(), 1, "{nodes}");
    }
}

#[test]
fn counts_and_keys_of_a_slot_are_exact() {
    let node = &CLUSTER.nodes[&CLUSTER.leader_of_slot(0)];
    let mut client = node.client();
    let tag = key_in_slot(77);
    let keys: Vec<String> = (0..25)
        .map(|number| format!("{{{tag}}}:{number}"))
        .collect();
    for key in &keys {
        assert_eq!(
            client.command(&["SET", key, "x"]),
            Value::Simple(b"OK".to_vec())
        );
    }
    assert_eq!(client.words("CLUSTER COUNTKEYSINSLOT 77").integer(), 25);
    let listed = client.words("CLUSTER GETKEYSINSLOT 77 100");
    assert_eq!(listed.array().len(), 25);
    assert!(listed.array().iter().all(|key| keys.contains(&key.text())));
    assert_eq!(
        client.words("CLUSTER GETKEYSINSLOT 77 10").array().len(),
        10
    );
}

#[test]
fn what_is_no_slot_is_refused_in_redis_s_words() {
    let node = CLUSTER.nodes.values().next().expect("a node");
    let mut client = node.client();
    let no_integer = "ERR value is not an integer or out of range";
    for (words, wanted) in [
        ("CLUSTER COUNTKEYSINSLOT 16384", "ERR Invalid slot"),
        ("CLUSTER COUNTKEYSINSLOT x", no_integer),
        (
            "CLUSTER GETKEYSINSLOT 16384 1",
            "ERR Invalid slot or number of keys",
        ),
        ("CLUSTER GETKEYSINSLOT x 1", no_integer),
    ] {
        let error = client.words(words).error();
        assert_eq!(error.as_deref(), Some(wanted), "{words}");
    }
}

#[test]
fn redis_rs_cluster_client_works_against_the_nodes() {
    let urls: Vec<String> = CLUSTER
        .nodes
        .values()
        .map(|node| format!("redis://127.0.0.1:{}", node.port))
        .collect();
    let client = ClusterClient::new(urls).expect("the urls parse");
    let mut connection = client.get_connection().expect("the cluster is reached");
    for number in 0..500 {
        connection.set(format!("rs:{number}"), number).expect("SET");
    }
    for number in 0..500 {
        let value = connection.get(format!("rs:{number}")).expect("GET");
        assert_eq!(value, Some(number.to_string()));
    }
    assert_eq!(connection.incr("rs:counter", 5).expect("INCR"), 5);
    assert!(connection.expire("rs:1", 100).expect("EXPIRE"));
    assert_eq!(connection.del("rs:2").expect("DEL"), 1);
    assert_eq!(connection.get("rs:2").expect("GET"), None);
}

#[test]
fn redis_cli_follows_redirections() {
    let first = CLUSTER.nodes.values().next().expect("a node");
    for slot in [0, 5_000, 9_000, 16_383] {
        let key = key_in_slot(slot);
        let value = format!("cli-{slot}");
        assert_eq!(redis_cli(first.port, &["set", &key, &value]).trim(), "OK");
        assert_eq!(redis_cli(first.port, &["get", &key]).trim(), value);
    }
}

#[test]
fn redis_py_cluster_client_works_against_the_nodes() {
    let port = CLUSTER.nodes.values().next().expect("a node").port;
    python::flow("RedisCluster", PYTHON_FLOW, &[&port.to_string()]);
}

const PYTHON_FLOW: &str = r#"
import sys
from redis.cluster import RedisCluster
r = RedisCluster(host="127.0.0.1", port=int(sys.argv[1]), decode_responses=True)
for n in range(300):
    assert r.set(f"py:{n}", n)
assert [r.get(f"py:{n}") for n in range(300)] == [str(n) for n in range(300)]
assert r.incr("py:counter") == 1
assert r.mset({"{py}a": 1, "{py}b": 2})
assert r.mget("{py}a", "{py}b", "{py}c") == ["1", "2", None]
assert r.set("py:ttl", "x", px=100000) and 0 < r.pttl("py:ttl") <= 100000
assert r.delete("py:1") == 1 and r.exists("py:1") == 0
assert r.cluster_keyslot("foo") == 12182
with r.pipeline() as p:
    for n in range(50):
        p.get(f"py:{n + 100}")
    assert p.execute() == [str(n + 100) for n in range(50)]
# Collections, a stream's group, a script: everything that one slot allows.
assert r.hset("{c}h", mapping={"a": 1, "b": 2}) == 2 and r.hgetall("{c}h") == {"a": "1", "b": "2"}
assert r.rpush("{c}l", 1, 2, 3) == 3 and r.lmove("{c}l", "{c}m", "LEFT", "RIGHT") == "1"
assert r.sadd("{c}s", "x", "y") == 2 and r.sunionstore("{c}u", "{c}s", "{c}v") == 2
assert r.zadd("{c}z", {"a": 1, "b": 2}) == 2 and r.zrange("{c}z", 0, -1) == ["a", "b"]
assert r.xadd("{c}x", {"f": "v"}) and r.xgroup_create("{c}x", "g", "0")
assert r.xreadgroup("g", "me", {"{c}x": ">"})[0][1][0][1] == {"f": "v"}
assert r.blpop(["{c}l"], timeout=1) == ("{c}l", "2")
assert r.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, "{c}n", 4) == 4
assert sum(1 for _ in r.scan_iter(match="py:*", count=100)) == 301
r.close()
print("all flows passed")
"#;

fn redis_cli(port: u16, arguments: &[&str]) -> String {
    let output = Command::new(binaries::system("redis-cli"))
        .args(["-c", "-p", &port.to_string()])
        .args(arguments)
        .output()
        .expect("redis-cli starts");
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}
