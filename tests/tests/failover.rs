//! FAILOVER between a master and its replica, each a cairn-server or a redis-server:
//! nothing that was acknowledged is lost, and nothing is transferred anew.

use std::time::Duration;

use cairn_tests::peers::Redis;
use cairn_tests::resp::{Client, Value};
use cairn_tests::server::{Server, info};
use cairn_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
const WRITERS: usize = 3;
const READ_ONLY: &str = "READONLY You can't write against a read only replica.";

fn wait_for(client: &mut Client, field: &str, value: &str) {
    wait::until(&format!("{field}:{value}"), LIMIT, || {
        (info(client, field) == value).then_some(())
    });
}

fn follow(replica: &mut Client, port: u16) {
    let done = replica.words(&format!("REPLICAOF 127.0.0.1 {port}"));
    assert_eq!(done.text(), "OK");
    wait_for(replica, "master_link_status", "up");
}

/// Counts until the server leads no more. Replies with how far it was acknowledged.
fn count_until_refused(mut client: Client, key: &str) -> u64 {
    let mut acknowledged = 0;
    loop {
        match client.words(&format!("INCR {key}")).error() {
            None => acknowledged += 1,
            Some(error) => {
                assert_eq!(error, READ_ONLY);
                return acknowledged;
            }
        }
    }
}

/// Has the two change places under load. `port`: the replica's.
fn change_places(master: impl Fn() -> Client, replica: impl Fn() -> Client, port: u16) {
    let (mut old, mut new) = (master(), replica());
    let online = format!("port={port},state=online");
    wait::until("the replica to be online", LIMIT, || {
        info(&mut old, "slave0").contains(&online).then_some(())
    });
    let full = info(&mut new, "sync_full");
    let counts: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|id| {
                let client = master();
                scope.spawn(move || count_until_refused(client, &format!("n{id}")))
            })
            .collect();
        let keys: Vec<String> = (0..WRITERS).map(|id| format!("n{id}")).collect();
        let all = format!("EXISTS {}", keys.join(" "));
        wait::until("writes of all", LIMIT, || {
            (old.words(&all).integer() == WRITERS as i64).then_some(())
        });
        let begun = old.words(&format!("FAILOVER TO 127.0.0.1 {port} TIMEOUT 30000"));
        assert_eq!(begun.text(), "OK");
        let counts = writers.into_iter().map(|writer| writer.join());
        counts.map(|count| count.expect("a writer")).collect()
    });
    wait_for(&mut old, "master_failover_state", "no-failover");
    wait_for(&mut old, "master_link_status", "up");
    assert_eq!(info(&mut old, "role"), "slave");
    assert_eq!(info(&mut new, "role"), "master");
    for (id, count) in counts.iter().enumerate() {
        let found = new.words(&format!("GET n{id}"));
        assert_eq!(found.text(), count.to_string(), "n{id}");
    }
    assert_eq!(new.words("SET after 1").text(), "OK");
    wait::until("the stream of the new master", LIMIT, || {
        (old.words("GET after") != Value::Null).then_some(())
    });
    let id = info(&mut new, "master_replid");
    assert_eq!(info(&mut old, "master_replid"), id);
    assert_eq!(info(&mut new, "sync_full"), full, "it went on where it was");
    assert_eq!(info(&mut new, "connected_slaves"), "1");
}

#[test]
fn two_servers_change_places_and_change_them_back() {
    let (first, second) = (Server::start(&[]), Server::start(&[]));
    follow(&mut second.client(), first.port());
    change_places(|| first.client(), || second.client(), second.port());
    second.client().words("DEL n0 n1 n2 after");
    change_places(|| second.client(), || first.client(), first.port());
}

#[test]
fn a_server_hands_over_to_redis_and_takes_over_from_it() {
    let (cairn, redis) = (Server::start(&[]), Redis::in_memory());
    follow(&mut redis.client(), cairn.port());
    change_places(|| cairn.client(), || redis.client(), redis.port());
    redis.client().words("DEL n0 n1 n2 after");
    change_places(|| redis.client(), || cairn.client(), cairn.port());
}

#[test]
fn a_server_whose_replica_refuses_to_lead_goes_on_leading() {
    let (master, replica) = (Server::start(&[]), Server::start(&[]));
    let (mut old, mut new) = (master.client(), replica.client());
    follow(&mut new, master.port());
    assert_eq!(new.words("ACL SETUSER default -psync").text(), "OK");
    old.words("SET k v");
    let full = info(&mut old, "sync_full");
    assert_eq!(old.words("FAILOVER").text(), "OK");
    // It waits for the end of the failover, which is that this server leads.
    assert_eq!(old.words("SET k w").text(), "OK");
    wait_for(&mut old, "master_failover_state", "no-failover");
    assert_eq!(info(&mut old, "role"), "master");
    wait::until("the replica to be back", LIMIT, || {
        let offset = info(&mut old, "master_repl_offset");
        let is_back = info(&mut new, "master_link_status") == "up"
            && info(&mut new, "slave_repl_offset") == offset;
        is_back.then_some(())
    });
    assert_eq!(new.words("GET k").text(), "w");
    assert_eq!(info(&mut old, "sync_full"), full, "it went on where it was");
}
