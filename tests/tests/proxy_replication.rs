//! Replicas of a whole cluster, fed by its proxy: a real redis-server and redis-cli,
//! which take it for one Redis.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use cairn_tests::binaries;
use cairn_tests::cluster::{Cluster, key_in_slot};
use cairn_tests::contents::{compare, expiring_soon};
use cairn_tests::mixed::{DATABASES, LIBRARY, Writer};
use cairn_tests::peers::Redis;
use cairn_tests::resp::{Client, Value, parse};
use cairn_tests::server::info;
use cairn_tests::{seed, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// Replicas of one proxy.
const MOST: usize = 16;

/// Makes `replica` follow the proxy, and waits until it has the data set.
fn follow(replica: &Redis, cluster: &Cluster) {
    let mut client = replica.client();
    client.words("CONFIG SET repl-timeout 60");
    client.words(&format!("REPLICAOF 127.0.0.1 {}", cluster.proxy_port));
    is_up(&mut client);
}

fn is_up(replica: &mut Client) {
    wait::until("the link to the master", LIMIT, || {
        (info(replica, "master_link_status") == "up").then_some(())
    });
}

/// Waits until the replica has all that was written.
fn caught_up(ours: &mut Client) {
    wait::until("the replica to have everything", LIMIT, || {
        (ours.words("WAIT 1 5000").integer() == 1).then_some(())
    });
}

#[test]
fn a_redis_replica_holds_what_the_cluster_holds_after_a_mixed_load() {
    let seed = seed::seed("proxy replication");
    let commands = seed::size("CAIRN_REPLICATION_COMMANDS", 4_000);
    let cluster = Cluster::start(2, 2);
    let redis = Redis::in_memory();
    let writer = |id: u64| Writer::new(cluster.client(), seed, id);
    let mut writers = [
        writer(0),
        writer(1).tagged("{a}"),
        writer(2).tagged("{foo}"),
    ];
    writers[0].load_large();
    writers
        .iter_mut()
        .for_each(|writer| writer.run(commands / 4));
    std::thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(move || writer.run(commands / 2));
        }
        follow(&redis, &cluster);
    });
    writers
        .iter_mut()
        .for_each(|writer| writer.run(commands / 4));
    let mut ours = cluster.client();
    wait::until("short expiries to pass", LIMIT, || {
        let keys = (0..DATABASES).map(|db| expiring_soon(&mut ours, db));
        (keys.sum::<usize>() == 0).then_some(())
    });
    caught_up(&mut ours);
    let mut theirs = redis.client();
    assert_eq!(info(&mut theirs, "unexpected_error_replies"), "0");
    for db in 0..DATABASES {
        compare(&mut ours, &mut theirs, db);
    }
    cluster.stop();
}

#[test]
fn flushes_functions_and_messages_reach_the_replica_and_it_is_shown() {
    let cluster = Cluster::start(2, 2);
    let redis = Redis::in_memory();
    let (mut ours, mut theirs) = (cluster.client(), redis.client());
    let (one, two) = (key_in_slot(100), key_in_slot(16_000));
    ours.words(&format!("SET {one} before"));
    ours.words("MULTI");
    ours.words("WAIT 1 0");
    let waited = ours.words("EXEC");
    assert_eq!(
        waited.array()[0].integer(),
        0,
        "in a transaction nothing waits"
    );
    follow(&redis, &cluster);
    assert_eq!(info(&mut ours, "connected_slaves"), "1");
    wait::until("the replica to be online", LIMIT, || {
        let shown = info(&mut ours, "slave0");
        let address = format!("ip=127.0.0.1,port={},", redis.port());
        assert!(shown.contains(&address), "{shown}");
        shown.contains("state=online").then_some(())
    });
    let id = info(&mut theirs, "master_replid");
    assert_eq!(info(&mut ours, "master_replid"), id);
    let role = ours.words("ROLE");
    let shown = &role.array()[2].array()[0].array()[1];
    assert_eq!(shown.text(), redis.port().to_string());
    let listed = ours.words("CLIENT LIST").text();
    assert!(listed.contains("flags=S"), "{listed}");

    let mut listener = redis.client();
    listener.words("SUBSCRIBE news");
    for round in 0..20 {
        ours.words(&format!("SET {one} {round}"));
        ours.words(&format!("SET {two} {round} PX 100000"));
        ours.words("FLUSHALL");
        ours.words(&format!("SET {two} kept{round}"));
        ours.words("SELECT 1");
        ours.words(&format!("SET {one} {round}"));
        ours.words("FLUSHDB");
        ours.words("SWAPDB 0 1");
        ours.words("SELECT 0");
    }
    assert!(!ours.command(&["FUNCTION", "LOAD", LIBRARY]).is_error());
    ours.words("PUBLISH news hello");
    caught_up(&mut ours);
    for db in 0..2 {
        compare(&mut ours, &mut theirs, db);
    }
    assert_eq!(theirs.words("FUNCTION LIST").array().len(), 1);
    let message = listener.read_reply().expect("the message");
    assert_eq!(message.value.array()[2].text(), "hello");

    assert_eq!(ours.words("CLIENT KILL TYPE replica").integer(), 1);
    ours.words(&format!("SET {one} w"));
    caught_up(&mut ours);
    assert_eq!(theirs.words(&format!("GET {one}")).text(), "w");
    cluster.stop();
}

/// What one client did in order is told in order, whichever nodes it was at.
#[test]
fn changes_of_different_nodes_are_told_in_the_order_of_their_cause() {
    let cluster = Cluster::start(2, 2);
    let mut ours = cluster.client();
    let keys = [key_in_slot(100), key_in_slot(16_000)];
    ours.words(&format!("SET {} before", keys[0]));
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.proxy_port)).expect("the proxy");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.write_all(b"SYNC\r\n").expect("SYNC is sent");
    let mut data = Vec::new();
    // The length, then the data set.
    let rest = loop {
        read_some(&mut stream, &mut data);
        let text = data.trim_ascii_start();
        let Some(end) = text.iter().position(|byte| *byte == b'\n') else {
            continue;
        };
        let line = String::from_utf8_lossy(&text[1..end - 1]);
        let len: usize = line.parse().expect("a length");
        if text.len() > end + len {
            assert!(text[end + 1..].starts_with(b"REDIS0010"));
            break text[end + 1 + len..].to_vec();
        }
    };
    for n in 0..200 {
        ours.words(&format!("SET {} {n}", keys[n % 2]));
    }
    let mut told = rest;
    let mut expected = vec!["SELECT 0".to_owned()];
    expected.extend((0..200).map(|n| format!("SET {} {n}", keys[n % 2])));
    let mut expected = expected.into_iter();
    let mut next = expected.next();
    while let Some(wanted) = &next {
        match parse(&told).expect("commands") {
            Some((command, used)) => {
                let words: Vec<String> = command.array().iter().map(|w| w.text()).collect();
                told.drain(..used);
                if words != ["PING"] {
                    assert_eq!(words.join(" "), *wanted);
                    next = expected.next();
                }
            }
            None => read_some(&mut stream, &mut told),
        }
    }
    // One more than a proxy feeds.
    let more = (1..MOST).map(|_| {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.proxy_port)).expect("the proxy");
        stream.write_all(b"SYNC\r\n").expect("SYNC is sent");
        stream
    });
    let more: Vec<TcpStream> = more.collect();
    wait::until("all replicas to be attached", LIMIT, || {
        (info(&mut ours, "connected_slaves") == MOST.to_string()).then_some(())
    });
    let refused = cluster.client().words("SYNC").error();
    let expected = format!("ERR this proxy feeds {MOST} replicas already");
    assert_eq!(refused, Some(expected));
    drop(more);
    cluster.stop();
}

fn read_some(stream: &mut TcpStream, into: &mut Vec<u8>) {
    let mut piece = [0; 16 << 10];
    let n = stream.read(&mut piece).expect("the proxy sends");
    assert!(n > 0, "the proxy closed the connection");
    into.extend_from_slice(&piece[..n]);
}

#[test]
fn a_move_of_slots_ends_the_stream_and_the_replica_comes_back_with_everything() {
    let cluster = Cluster::start(2, 2);
    let redis = Redis::in_memory();
    let mut ours = cluster.client();
    for n in 0..500 {
        ours.words(&format!("SET k{n} {n}"));
    }
    follow(&redis, &cluster);
    let mut theirs = redis.client();
    let connection = |ours: &mut Client| {
        let listed = ours.words("CLIENT LIST TYPE replica").text();
        let id = listed.split(' ').next().unwrap_or_default();
        assert!(id.starts_with("id="), "no replica: {listed}");
        id.to_owned()
    };
    let before = connection(&mut ours);
    std::thread::scope(|scope| {
        let mut writer = cluster.client();
        scope.spawn(move || {
            for n in 0..3_000 {
                writer.words(&format!("INCR count{}", n % 50));
            }
        });
        cluster.move_slots("1", "2", "0-4000");
    });
    caught_up(&mut ours);
    assert_ne!(connection(&mut ours), before, "it has begun anew");
    compare(&mut ours, &mut theirs, 0);
    // And with the slots where they are now.
    ours.words(&format!("SET {} moved", key_in_slot(100)));
    caught_up(&mut ours);
    compare(&mut ours, &mut theirs, 0);
    cluster.stop();
}

#[test]
fn the_death_of_a_node_ends_the_stream_and_the_replica_comes_back_with_everything() {
    let mut cluster = Cluster::start(2, 2);
    let redis = Redis::in_memory();
    let (mut ours, mut theirs) = (cluster.client(), redis.client());
    let (one, two) = (key_in_slot(100), key_in_slot(16_000));
    ours.words(&format!("SET {one} 1"));
    ours.words(&format!("SET {two} 2"));
    follow(&redis, &cluster);
    let id = cluster.leader_of_slot(100);
    cluster.kill_node(&id);
    wait::until("the stream to end", LIMIT, || {
        (info(&mut theirs, "master_link_status") == "down").then_some(())
    });
    cluster.restart_node(&id);
    ours.words(&format!("APPEND {one} x"));
    ours.words(&format!("APPEND {two} x"));
    caught_up(&mut ours);
    compare(&mut ours, &mut theirs, 0);
    cluster.stop();
}

#[test]
fn redis_cli_takes_a_file_that_redis_server_loads() {
    let cluster = Cluster::start(2, 2);
    let mut ours = cluster.client();
    Writer::new(cluster.client(), 1, 0).load_large();
    for n in 0..500 {
        ours.words(&format!("SET k{n} {n}"));
        ours.words(&format!("ZADD z{n} {n} a 1.5 b"));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("dump.rdb");
    let mut cli = Command::new(binaries::system("redis-cli"));
    cli.args(["-p", &cluster.proxy_port.to_string(), "--rdb"]);
    let output = cli.arg(&path).output().expect("redis-cli runs");
    assert!(output.status.success(), "{output:?}");
    let folder = folder.path().to_str().expect("a path");
    let redis = Redis::start(&["--save", "", "--appendonly", "no", "--dir", folder]);
    let mut theirs = redis.client();
    compare(&mut ours, &mut theirs, 0);
    assert_eq!(theirs.words("FUNCTION LIST").array().len(), 1);
    cluster.stop();
}

#[test]
fn a_node_feeds_a_replica_with_what_it_serves() {
    let cluster = Cluster::start(2, 2);
    let redis = Redis::in_memory();
    let (mut ours, mut theirs) = (cluster.client(), redis.client());
    let (one, two) = (key_in_slot(100), key_in_slot(16_000));
    ours.words(&format!("SET {one} 1"));
    ours.words(&format!("SET {two} 2"));
    let id = cluster.leader_of_slot(100);
    let node = &cluster.nodes[&id];
    theirs.words(&format!("REPLICAOF 127.0.0.1 {}", node.port));
    is_up(&mut theirs);
    ours.words(&format!("APPEND {one} x"));
    let mut direct = node.client();
    wait::until("the replica to have everything", LIMIT, || {
        (direct.words("WAIT 1 5000").integer() == 1).then_some(())
    });
    assert_eq!(theirs.words(&format!("GET {one}")).text(), "1x");
    assert_eq!(
        theirs.words("DBSIZE").integer(),
        1,
        "what others serve is theirs"
    );
    cluster.stop();
}

#[test]
fn a_replica_of_a_node_begins_anew_when_slots_go_and_come() {
    let cluster = Cluster::start(2, 2);
    let redis = Redis::in_memory();
    let (mut ours, mut theirs) = (cluster.client(), redis.client());
    let (moves, stays) = (key_in_slot(100), key_in_slot(5_000));
    let (moves, stays) = (moves.as_str(), stays.as_str());
    for key in [moves, stays] {
        ours.words(&format!("SET {key} 1"));
    }
    let node = cluster.nodes[&cluster.leader_of_slot(5_000)].port;
    theirs.words(&format!("REPLICAOF 127.0.0.1 {node}"));
    let mut holds = |ours: &mut Client, keys: &[&str]| {
        let count = Value::Integer(keys.len() as i64);
        wait::until("the replica to hold what the node serves", LIMIT, || {
            let same = keys.iter().all(|key| {
                let get = format!("GET {key}");
                theirs.words(&get) == ours.words(&get)
            });
            (same && theirs.words("DBSIZE") == count).then_some(())
        });
    };
    holds(&mut ours, &[moves, stays]);
    cluster.move_slots("1", "2", "0-4000");
    ours.words(&format!("APPEND {moves} x"));
    ours.words(&format!("APPEND {stays} x"));
    holds(&mut ours, &[stays]);
    cluster.move_slots("2", "1", "0-4000");
    ours.words(&format!("APPEND {moves} y"));
    holds(&mut ours, &[moves, stays]);
    cluster.stop();
}

/// Regression: a proxy went on feeding a replica whose user had been deleted.
#[test]
fn a_replica_is_a_user_that_may_psync_and_ends_with_it() {
    let cluster = Cluster::start(2, 2);
    let mut ours = cluster.client();
    let key = key_in_slot(100);
    ours.words(&format!("SET {key} 1"));
    let node = cluster.nodes[&cluster.leader_of_slot(100)].port;
    for port in [node, cluster.proxy_port] {
        for rules in [
            "ACL SETUSER rep on >pw -@all +psync +replconf +ping",
            "ACL SETUSER ann on >pw ~* &* +@all -sync -psync",
        ] {
            assert_eq!(ours.words(rules).text(), "OK");
        }
        let mut ann = Client::connect(port);
        assert_eq!(ann.words("AUTH ann pw").text(), "OK");
        for (line, name) in [("SYNC", "sync"), ("PSYNC ? -1", "psync")] {
            let no = format!("NOPERM this user has no permissions to run the '{name}' command");
            assert_eq!(ann.words(line).error(), Some(no));
        }
        let redis = Redis::start(&["--save", "", "--masteruser", "rep", "--masterauth", "pw"]);
        let mut theirs = redis.client();
        theirs.words(&format!("REPLICAOF 127.0.0.1 {port}"));
        is_up(&mut theirs);
        // It is told of keys that it may not read itself.
        let get = format!("GET {key}");
        ours.words(&format!("APPEND {key} x"));
        wait::until("the replica to have everything", LIMIT, || {
            (theirs.words(&get) == ours.words(&get)).then_some(())
        });
        let mut master = Client::connect(port);
        let mut replicas = || master.words("CLIENT LIST TYPE replica").text();
        let listed = replicas();
        assert!(listed.contains(" user=rep "), "{listed}");
        assert_eq!(ours.words("ACL DELUSER rep").integer(), 1);
        wait::until("the replica to be disconnected", LIMIT, || {
            replicas().is_empty().then_some(())
        });
    }
    cluster.stop();
}
