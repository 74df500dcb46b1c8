//! FAILOVER as far as one server shows it: what it refuses, how it waits, and how it is
//! given up. Where a redis-server 7.0 is on the PATH, the same goes to both.

#[path = "support/both.rs"]
mod both;
mod support;

use both::{ask, each, wait_until};
use support::{Client, Server};

const OK: &str = "+OK\r\n";
const SYNTAX: &str = "-ERR syntax error\r\n";
const NO_NUMBER: &str = "-ERR value is not an integer or out of range\r\n";

fn wait_for_info(client: &mut Client, part: &str) {
    wait_until(part, || ask(client, "INFO").contains(part));
}

/// A replica that takes the data set and never says how far it is. Something is written
/// afterwards, so that it has not got everything.
fn silent_replica(port: u16) -> Client {
    let (mut replica, mut c) = (Client::to(port), Client::to(port));
    assert_eq!(ask(&mut replica, "REPLCONF listening-port 7777"), OK);
    replica.send(&["PSYNC", "?", "-1"]);
    wait_for_info(&mut c, "port=7777,state=online");
    assert_eq!(ask(&mut c, "SET k v"), OK);
    replica
}

#[test]
fn a_failover_that_cannot_be_is_refused_in_the_words_of_redis() {
    each(&[], |who, port| {
        let mut c = Client::to(port);
        let mut is =
            |line: &str, reply: &str| assert_eq!(ask(&mut c, line), reply, "{who}: {line}");
        is("FAILOVER ABORT", "-ERR No failover in progress.\r\n");
        is("FAILOVER", "-ERR FAILOVER requires connected replicas.\r\n");
        for line in [
            "FAILOVER TO",
            "FAILOVER TO h",
            "FAILOVER TO h 1 TO h 1",
            "FAILOVER TIMEOUT",
            "FAILOVER TIMEOUT 1 TIMEOUT 1",
            "FAILOVER FORCE FORCE",
            "FAILOVER ABORT TIMEOUT 1",
            "FAILOVER NOW",
        ] {
            is(line, SYNTAX);
        }
        is("FAILOVER TO h x", NO_NUMBER);
        is("FAILOVER TIMEOUT x", NO_NUMBER);
        for line in ["FAILOVER TIMEOUT 0", "FAILOVER TIMEOUT -1"] {
            is(line, "-ERR FAILOVER timeout must be greater than 0\r\n");
        }
        is(
            "PSYNC x 1 FAILOVER",
            "-ERR PSYNC FAILOVER can't be sent to a master.\r\n",
        );
        let _replica = silent_replica(port);
        for line in [
            "FAILOVER FORCE",
            "FAILOVER TIMEOUT 100 FORCE",
            "FAILOVER TO 127.0.0.1 7777 FORCE",
        ] {
            is(
                line,
                "-ERR FAILOVER with force option requires both a timeout and target HOST and \
                 IP.\r\n",
            );
        }
        for line in ["FAILOVER TO 127.0.0.1 1", "FAILOVER TO nosuch 7777"] {
            is(
                line,
                "-ERR FAILOVER target HOST and PORT is not a replica.\r\n",
            );
        }
    });
}

#[test]
fn a_replica_begins_no_failover_and_takes_over_in_its_own_stream_alone() {
    each(&[], |who, port| {
        let mut c = Client::to(port);
        let mut is =
            |line: &str, reply: &str| assert_eq!(ask(&mut c, line), reply, "{who}: {line}");
        is("REPLICAOF 127.0.0.1 1", OK);
        is(
            "FAILOVER",
            "-ERR FAILOVER is not valid when server is a replica.\r\n",
        );
        is(
            "PSYNC x 1 FAILOVER",
            "-ERR PSYNC FAILOVER replid must match my replid.\r\n",
        );
    });
}

#[test]
fn writes_wait_while_a_failover_waits_for_its_replica_until_it_is_aborted() {
    each(&[], |who, port| {
        let (mut c, mut writes) = (Client::to(port), Client::to(port));
        let _replica = silent_replica(port);
        let mut is =
            |line: &str, reply: &str| assert_eq!(ask(&mut c, line), reply, "{who}: {line}");
        is("FAILOVER TO 127.0.0.1 7777 TIMEOUT 600000", OK);
        is("FAILOVER", "-ERR FAILOVER already in progress.\r\n");
        for line in ["REPLICAOF NO ONE", "REPLICAOF 127.0.0.1 1"] {
            is(line, "-ERR REPLICAOF not allowed while failing over.\r\n");
        }
        is(
            "PSYNC ? -1",
            "-NOMASTERLINK Can't SYNC while failing over\r\n",
        );
        writes.send(&["SET", "k", "w"]);
        wait_for_info(&mut c, "\r\nblocked_clients:1\r\n");
        let mut is =
            |line: &str, reply: &str| assert_eq!(ask(&mut c, line), reply, "{who}: {line}");
        // That is another pause.
        is("CLIENT UNPAUSE", OK);
        is("GET k", "$1\r\nv\r\n");
        wait_for_info(&mut c, "\r\nmaster_failover_state:waiting-for-sync\r\n");
        wait_for_info(&mut c, "\r\nblocked_clients:1\r\n");
        assert_eq!(ask(&mut c, "FAILOVER ABORT"), OK, "{who}");
        assert_eq!(writes.reply(), OK, "{who}");
        wait_for_info(&mut c, "\r\nmaster_failover_state:no-failover\r\n");
        assert_eq!(ask(&mut c, "GET k"), "$1\r\nw\r\n", "{who}");
        wait_for_info(&mut c, "\r\nrole:master\r\n");
    });
}

#[test]
fn a_failover_gives_up_after_its_time() {
    let server = Server::start(&[]);
    let (mut c, _replica) = (server.connect(), silent_replica(server.port));
    assert_eq!(ask(&mut c, "FAILOVER TIMEOUT 200"), OK);
    // It waits, and is done when the failover has been given up.
    assert_eq!(ask(&mut c, "SET k w"), OK);
    wait_for_info(&mut c, "\r\nmaster_failover_state:no-failover\r\n");
    wait_for_info(&mut c, "\r\nrole:master\r\n");
}
