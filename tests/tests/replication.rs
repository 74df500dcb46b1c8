//! A real redis-server as a replica: it gets the data set and then every change, so
//! that at the end both hold the same.
//!
//! `CAIRN_REPLICATION_COMMANDS` sets how many commands each writer sends, `CAIRN_SEED`
//! repeats what they send (not how they interleave).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_tests::contents::{compare, expiring_soon};
use cairn_tests::mixed::{DATABASES, LIBRARY, Writer};
use cairn_tests::peers::Redis;
use cairn_tests::resp::{Client, Value};
use cairn_tests::seed;
use cairn_tests::server::{Server, info};
use cairn_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
const WRITERS: u64 = 3;

#[test]
fn a_redis_replica_holds_what_the_server_holds_after_a_mixed_load() {
    let seed = seed::seed("replication");
    let commands = seed::size("CAIRN_REPLICATION_COMMANDS", 6_000);
    let cairn = Server::start(&["--enable-debug-command", "yes"]);
    let (first, second) = (Redis::in_memory(), Redis::in_memory());
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|id| Writer::new(cairn.client(), seed, id))
        .collect();
    // What is there before anybody is attached, large collections among it.
    writers[0].load_large();
    writers
        .iter_mut()
        .for_each(|writer| writer.run(commands / 4));
    let stop = Arc::new(AtomicBool::new(false));
    let popper = blocking_pops(&cairn, stop.clone());
    std::thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(move || writer.run(commands / 2));
        }
        follow(&first, &cairn);
    });
    cairn.client().words("CONFIG SET repl-diskless-sync no");
    std::thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(move || writer.run(commands / 4));
        }
        follow(&second, &cairn);
    });
    stop.store(true, Ordering::Release);
    popper.join().expect("the client that waits for keys");
    let mut ours = cairn.client();
    wait::until("short expiries to pass", LIMIT, || {
        let keys = (0..DATABASES)
            .map(|db| expiring_soon(&mut ours, db))
            .sum::<usize>();
        (keys == 0).then_some(())
    });
    assert_eq!(
        ours.words("WAIT 2 30000").integer(),
        2,
        "both have everything"
    );
    for replica in [&first, &second] {
        let mut theirs = replica.client();
        assert_eq!(info(&mut theirs, "unexpected_error_replies"), "0");
        for db in 0..DATABASES {
            compare(&mut ours, &mut theirs, db);
        }
    }
}

/// Makes `replica` follow, and waits until it has the data set.
fn follow(replica: &Redis, cairn: &Server) {
    let mut client = replica.client();
    client.words("CONFIG SET repl-timeout 60");
    client.words(&format!("REPLICAOF 127.0.0.1 {}", cairn.port()));
    wait::until("the link to the master", LIMIT, || {
        (info(&mut client, "master_link_status") == "up").then_some(())
    });
}

/// A client that pops from whatever gets an element, in the form in which it waits.
fn blocking_pops(cairn: &Server, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let mut client = cairn.client();
    std::thread::spawn(move || {
        for turn in 0.. {
            if stop.load(Ordering::Acquire) {
                return;
            }
            let line = [
                "BLPOP waited 0.05",
                "BRPOP waited 0.05",
                "BLMPOP 0.05 1 waited LEFT COUNT 2",
                "BZPOPMIN zwaited 0.05",
                "BZMPOP 0.05 1 zwaited MAX COUNT 2",
                "BLMOVE waited moved LEFT RIGHT 0.05",
                "BRPOPLPUSH waited moved 0.05",
            ][turn % 7];
            client.words(line);
        }
    })
}

#[test]
fn replicas_are_shown_and_counted_and_get_functions_and_messages() {
    let (cairn, redis) = (Server::start(&[]), Redis::in_memory());
    let mut client = cairn.client();
    assert!(client.words("ROLE").array()[2].array().is_empty());
    assert_eq!(client.words("WAIT 1 10").integer(), 0);
    follow(&redis, &cairn);
    let mut replica = redis.client();
    wait::until("the replica to be online", LIMIT, || {
        info(&mut client, "slave0")
            .contains("state=online")
            .then_some(())
    });
    assert_eq!(info(&mut client, "connected_slaves"), "1");
    let shown = info(&mut client, "slave0");
    assert!(
        shown.contains(&format!("ip=127.0.0.1,port={}", redis.port())),
        "{shown}"
    );
    assert_eq!(
        info(&mut client, "master_replid"),
        info(&mut replica, "master_replid")
    );
    let role = client.words("ROLE");
    assert_eq!(role.array()[0].text(), "master");
    assert_eq!(
        role.array()[2].array()[0].array()[1].text(),
        redis.port().to_string()
    );
    assert!(
        client
            .words("CLIENT LIST TYPE replica")
            .text()
            .contains("flags=S")
    );

    let mut listener = redis.client();
    listener.words("SUBSCRIBE news");
    client.command(&["FUNCTION", "LOAD", LIBRARY]);
    client.words("SET k v");
    client.words("PUBLISH news hello");
    assert_eq!(client.words("WAIT 1 30000").integer(), 1);
    assert_eq!(replica.words("GET k").text(), "v");
    assert_eq!(replica.words("FUNCTION LIST").array().len(), 1);
    let message = listener.read_reply().expect("the message");
    assert_eq!(message.value.array()[2].text(), "hello");
    client.words("FUNCTION FLUSH");
    assert_eq!(client.words("WAIT 1 30000").integer(), 1);
    assert!(replica.words("FUNCTION LIST").array().is_empty());

    // Unblocked, WAIT says how many have got there.
    let mut waiter = cairn.client();
    let id = waiter.words("CLIENT ID").integer();
    waiter.send(b"WAIT 2 0\r\n").expect("it is sent");
    wait::until("the client to wait", LIMIT, || {
        (info(&mut client, "blocked_clients") == "1").then_some(())
    });
    assert_eq!(client.words("WAIT 1 30000").integer(), 1);
    let unblocked = client.words(&format!("CLIENT UNBLOCK {id}"));
    assert_eq!(unblocked.integer(), 1);
    let reply = waiter.read_reply().expect("the count");
    assert_eq!(reply.value.integer(), 1);
    assert_eq!(client.words("CLIENT KILL TYPE replica").integer(), 1);
    wait::until("the replica to come back", LIMIT, || {
        client.words("SET k w");
        (client.words("WAIT 1 1000").integer() == 1).then_some(())
    });
    assert_eq!(replica.words("GET k").text(), "w");
}

#[test]
fn a_replica_does_not_get_what_a_script_keeps_from_it() {
    let (cairn, redis) = (Server::start(&[]), Redis::in_memory());
    follow(&redis, &cairn);
    let (mut client, mut replica) = (cairn.client(), redis.client());
    let script = "redis.call('SET', 'told', 1)
                  redis.set_repl(redis.REPL_NONE)
                  redis.call('SET', 'kept', 2)
                  redis.set_repl(redis.REPL_ALL)
                  return redis.call('SET', 'last', 3)";
    assert_eq!(client.command(&["EVAL", script, "0"]).text(), "OK");
    assert_eq!(client.words("WAIT 1 30000").integer(), 1);
    assert_eq!(client.words("EXISTS told kept last").integer(), 3);
    assert_eq!(replica.words("EXISTS told last").integer(), 2);
    assert_eq!(replica.words("EXISTS kept").integer(), 0);
}

/// MIGRATE's step in the writer has arguments that are no keys.
#[test]
fn a_migrated_key_leaves_the_replica_and_no_other_does() {
    let cairn = Server::start(&[]);
    let (redis, target) = (Redis::in_memory(), Redis::in_memory());
    let mut client = cairn.client();
    client.words("MSET k v 0 zero 1 one");
    follow(&redis, &cairn);
    let port = target.port().to_string();
    let moved = client.command(&["MIGRATE", "127.0.0.1", &port, "k", "0", "5000"]);
    assert_eq!(moved.text(), "OK");
    assert_eq!(client.words("WAIT 1 30000").integer(), 1);
    let mut replica = redis.client();
    assert_eq!(replica.words("GET k"), Value::Null);
    assert_eq!(replica.words("GET 0").text(), "zero");
    assert_eq!(replica.words("GET 1").text(), "one");
}

#[test]
fn writes_wait_for_nobody_but_are_refused_below_min_replicas_to_write() {
    let (cairn, redis) = (Server::start(&[]), Redis::in_memory());
    let mut client = cairn.client();
    client.words("SET k v");
    client.words("CONFIG SET min-replicas-to-write 1");
    let refused = "NOREPLICAS Not enough good replicas to write.";
    assert_eq!(client.words("SET k w").error().as_deref(), Some(refused));
    assert_eq!(client.words("GET k").text(), "v");
    follow(&redis, &cairn);
    wait::until("a good replica", LIMIT, || {
        (!client.words("SET k w").is_error()).then_some(())
    });
}

/// A replica that has the data set on its way and reads nothing.
fn silent_replica(cairn: &Server, client: &mut Client) -> TcpStream {
    let mut replica = TcpStream::connect(("127.0.0.1", cairn.port())).expect("a connection");
    replica.write_all(b"SYNC\r\n").expect("SYNC is sent");
    wait::until("the replica to be online", LIMIT, || {
        let attached = info(client, "connected_slaves") == "1";
        (attached && info(client, "slave0").contains("state=online")).then_some(())
    });
    replica
}

/// Its connection may end later; INFO showed its buffers until then.
#[test]
fn a_replica_that_is_killed_takes_no_memory_from_then_on() {
    let cairn = Server::start(&[]);
    let mut client = cairn.client();
    let _replica = silent_replica(&cairn, &mut client);
    assert_ne!(info(&mut client, "mem_clients_slaves"), "0");
    let requests = b"CLIENT KILL TYPE replica\r\nINFO memory\r\n";
    let replies = client.pipeline(requests, 2).expect("two replies");
    assert_eq!(replies[0].value.integer(), 1);
    let memory = replies[1].value.text();
    assert!(memory.contains("\r\nmem_clients_slaves:0\r\n"), "{memory}");
}

#[test]
fn a_replica_that_does_not_read_is_cut_off() {
    let cairn = Server::start(&["--client-output-buffer-limit", "replica 1mb 0 0"]);
    let mut client = cairn.client();
    let mut replica = silent_replica(&cairn, &mut client);
    let value = "x".repeat(100_000);
    wait::until("the replica to be cut off", LIMIT, || {
        client.command(&["SET", "k", &value]);
        (info(&mut client, "connected_slaves") == "0").then_some(())
    });
    // What came before is read, then the end.
    let mut rest = Vec::new();
    let _ = replica.read_to_end(&mut rest);
    assert!(rest.starts_with(b"$"), "the data set came first");
}

#[test]
fn sync_is_refused_where_redis_refuses_it() {
    let cairn = Server::start(&[]);
    let mut client = cairn.client();
    client.words("MULTI");
    let refused = client.words("SYNC").error().expect("an error");
    assert_eq!(refused, "ERR Command not allowed inside a transaction");
    client.words("DISCARD");
    let refused = client.command(&["EVAL", "return redis.call('SYNC')", "0"]);
    assert!(
        refused
            .error()
            .expect("an error")
            .contains("not allowed from script")
    );
    let filtered = client.words("REPLCONF rdb-filter-only functions");
    assert_eq!(filtered.text(), "OK");
    let refused = client.words("SYNC").error().expect("an error");
    assert_eq!(refused, "ERR Filtered replica requires EOF capability");
    let refused = client.words("REPLCONF rdb-filter-only data").error();
    let unsupported = "ERR Unsupported rdb-filter-only option: data";
    assert_eq!(refused.as_deref(), Some(unsupported));
}
