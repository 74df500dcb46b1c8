//! Cluster-aware clients of other people, talking to the nodes directly:
//! redis-rs's cluster client, redis-py's RedisCluster, `redis-cli -c`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use cairn_tests::binaries;
use cairn_tests::cluster::{Cluster, key_in_slot, slot_of};
use cairn_tests::resp::Value;
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
        assert!(info.contains("cluster_state:ok"), "{info}");
        assert!(info.contains("cluster_slots_assigned:16384"), "{info}");
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
    let python = match redis_py() {
        Ok(python) => python,
        Err(reason) => {
            println!("SKIPPED: redis-py is not available: {reason}");
            return;
        }
    };
    let port = CLUSTER.nodes.values().next().expect("a node").port;
    let output = Command::new(python)
        .args(["-c", PYTHON_FLOW, &port.to_string()])
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "all flows passed"
    );
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

/// A python with redis-py: the system's, or one of a virtual environment that is
/// made once in the cache folder.
fn redis_py() -> Result<PathBuf, String> {
    let system = binaries::find_system("python3").ok_or("there is no python3")?;
    if imports_redis(&system) {
        return Ok(system);
    }
    let folder = tools_folder().join("redis-py");
    let python = folder.join("bin/python3");
    if !imports_redis(&python) {
        run(Command::new(&system)
            .args(["-m", "venv", "--clear"])
            .arg(&folder))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "redis"]))?;
    }
    Ok(python)
}

fn tools_folder() -> PathBuf {
    let cache = || {
        let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
        std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from)
    };
    std::env::var_os("CAIRN_TOOLS").map_or_else(|| cache().join("cairn-tools"), PathBuf::from)
}

fn imports_redis(python: &Path) -> bool {
    let import = ["-c", "import redis.cluster"];
    Command::new(python)
        .args(import)
        .output()
        .is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(text(&output))
    }
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}
