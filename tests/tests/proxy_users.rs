//! Users of a cluster: the same at every proxy and node, whoever sets them.

use std::time::Duration;

use cairn_tests::cluster::{Cluster, key_in_slot};
use cairn_tests::resp::{Client, Value};
use cairn_tests::wait;

const LIMIT: Duration = Duration::from_secs(30);

/// A key of the first group, and one of the second.
fn keys() -> (String, String) {
    (key_in_slot(100), key_in_slot(16_000))
}

fn error(value: &Value) -> String {
    value
        .error()
        .unwrap_or_else(|| panic!("no error: {value:?}"))
}

fn texts(value: &Value) -> Vec<String> {
    value.array().iter().map(Value::text).collect()
}

fn logged_in(port: u16, user: &str, password: &str) -> Client {
    let mut client = Client::connect(port);
    assert_eq!(client.command(&["AUTH", user, password]).text(), "OK");
    client
}

#[test]
fn users_are_the_clusters_and_outlive_everything() {
    let mut cluster = Cluster::start(2, 2);
    let (port, proxy) = cluster.start_proxy();
    let mut admin = cluster.client();
    let rules =
        "ACL SETUSER ann on >pw ~{a}* resetchannels &news -@all +@read +set +ping +acl|whoami";
    assert_eq!(admin.words(rules).text(), "OK");
    assert_eq!(texts(&admin.words("ACL USERS")), ["ann", "default"]);
    let line = texts(&admin.words("ACL LIST"));

    // The slow log has what was asked, also what was refused, without secrets.
    admin.words("CONFIG SET slowlog-log-slower-than 0");
    admin.words("SLOWLOG RESET");
    assert!(admin.command(&["ACL", "SETUSER", "a b", "+get"]).is_error());
    admin.words("ACL SETUSER ann >pw");
    admin.words("CONFIG SET slowlog-log-slower-than -1");
    let log = admin.words("SLOWLOG GET");
    let asked = log
        .array()
        .iter()
        .map(|entry| texts(&entry.array()[3]).join(" "));
    let asked: Vec<String> = asked.filter(|words| words.starts_with("ACL")).collect();
    assert_eq!(asked, ["ACL SETUSER (redacted) (redacted)"; 2]);

    // Whoever was told OK finds it at every node, and soon at every proxy.
    let everywhere = |cluster: &Cluster, port: u16| {
        for node in cluster.nodes.values() {
            assert_eq!(texts(&node.client().words("ACL LIST")), line);
        }
        wait::until("the other proxy to follow", LIMIT, || {
            let listed = Client::connect(port).words("ACL LIST");
            (texts(&listed) == line).then_some(())
        });
        let mut ann = logged_in(port, "ann", "pw");
        assert_eq!(ann.words("SET {a}1 x").text(), "OK");
        assert!(error(&ann.words("SET b x")).starts_with("NOPERM"));
        assert!(error(&ann.words("DEL {a}1")).starts_with("NOPERM"));
    };
    everywhere(&cluster, port);
    let nodes: Vec<String> = cluster.nodes.keys().cloned().collect();
    for node in &nodes {
        cluster.kill_node(node);
        cluster.restart_node(node);
    }
    drop(proxy);
    let (port, _proxy) = cluster.start_proxy();
    everywhere(&cluster, port);

    // Set at a node, and gone everywhere.
    let mut node = cluster.nodes[&nodes[0]].client();
    let mut ann = logged_in(port, "ann", "pw");
    assert_eq!(
        node.words("ACL SETUSER bob on nopass +@all ~*").text(),
        "OK"
    );
    assert_eq!(node.words("ACL DELUSER ann nobody").integer(), 1);
    assert_eq!(ann.read_to_close().expect("a clean end"), b"");
    let refused = Client::connect(port).command(&["AUTH", "ann", "pw"]);
    assert!(error(&refused).starts_with("WRONGPASS"));
    for node in cluster.nodes.values() {
        assert_eq!(texts(&node.client().words("ACL USERS")), ["bob", "default"]);
    }
    assert_eq!(admin.words("ACL SAVE").text(), "OK");
    assert_eq!(admin.words("ACL LOAD").text(), "OK");
    let wrong = error(&admin.words("ACL SETUSER bob +nonsense"));
    assert_eq!(
        wrong,
        "ERR Error in ACL SETUSER modifier '+nonsense': Unknown command or category name in ACL"
    );
    // What would be read back as something else is not kept, and harms nobody.
    for rule in ["+select|1\n2", "+select|1 +@all"] {
        let refused = error(&admin.command(&["ACL", "SETUSER", "bob", rule]));
        assert!(refused.contains("cannot be kept"), "{rule:?}: {refused}");
    }
    assert_eq!(admin.words("ACL SETUSER bob -get").text(), "OK");
    let default = error(&admin.words("ACL DELUSER default"));
    assert_eq!(default, "ERR The 'default' user cannot be removed");
    cluster.stop();
}

#[test]
fn who_deletes_itself_is_told_and_disconnected() {
    let cluster = Cluster::start(2, 2);
    cluster
        .client()
        .words("ACL SETUSER ann on nopass +@all ~* &*");
    let mut ann = logged_in(cluster.proxy_port, "ann", "x");
    assert_eq!(ann.words("ACL DELUSER ann").integer(), 1);
    assert_eq!(ann.read_to_close().expect("a clean end"), b"");
    cluster.stop();
}

#[test]
fn scripts_do_what_their_caller_may_wherever_they_run() {
    let cluster = Cluster::start(2, 2);
    let mut admin = cluster.client();
    let (near, far) = keys();
    admin.words("ACL SETUSER ann on nopass ~* resetchannels -@all +eval +get +multi +exec +sort");
    for key in [&near, &far] {
        let mut ann = logged_in(cluster.proxy_port, "ann", "x");
        let read = "return redis.call('GET', KEYS[1])";
        assert_eq!(ann.command(&["EVAL", read, "1", key]), Value::Null);
        let write = "return redis.call('SET', KEYS[1], 'x')";
        let refused = error(&ann.command(&["EVAL", write, "1", key]));
        assert!(refused.contains("can't run this command"), "{refused}");
        // The same within a transaction.
        ann.words("MULTI");
        ann.command(&["EVAL", write, "1", key]);
        let replies = ann.words("EXEC");
        let refused = error(&replies.array()[0]);
        assert!(refused.contains("can't run this command"), "{refused}");
        // Its rights grow, on the same connection.
        admin.words("ACL SETUSER ann +set");
        assert_eq!(ann.command(&["EVAL", write, "1", key]).text(), "OK");
        admin.words("ACL SETUSER ann -set resetkeys");
        admin.command(&["ACL", "SETUSER", "ann", &format!("~{key}")]);
        assert_eq!(ann.command(&["EVAL", read, "1", key]).text(), "x");
        let refused = error(&ann.command(&["EVAL", write, "1", key]));
        assert!(refused.contains("can't run this command"), "{refused}");
        // And another's on it are another's.
        assert_eq!(ann.words("AUTH default x").text(), "OK");
        assert_eq!(ann.command(&["EVAL", write, "1", key]).text(), "OK");
        admin.words("ACL SETUSER ann allkeys");
    }
    // What nodes have refused is in the log of the proxy that is asked.
    let log = admin.words("ACL LOG 1");
    let entry = texts_of_entry(&log.array()[0]);
    assert!(
        entry.contains(&("context".into(), "lua".into())),
        "{entry:?}"
    );
    assert!(
        entry.contains(&("object".into(), "set".into())),
        "{entry:?}"
    );
    assert!(
        entry.contains(&("username".into(), "ann".into())),
        "{entry:?}"
    );
    assert_eq!(admin.words("ACL LOG RESET").text(), "OK");
    assert_eq!(admin.words("ACL LOG").array().len(), 0);
    cluster.stop();
}

/// Names and values of an entry of ACL LOG; numbers are left out.
fn texts_of_entry(entry: &Value) -> Vec<(String, String)> {
    let pairs = entry.array().chunks(2);
    pairs
        .filter(|pair| matches!(pair[1], Value::Bulk(_)))
        .map(|pair| (pair[0].text(), pair[1].text()))
        .collect()
}
