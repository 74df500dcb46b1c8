//! Transactions and blocking commands over TCP, byte for byte. Where a
//! redis-server 7.0 is on the PATH, the same goes to both.

mod support;

use std::time::{Duration, Instant};

use support::{Client, Server, redis};

/// Runs a conversation of several clients: `(client, line, reply)`; an empty
/// reply is not waited for. The same against redis-server, if there is one.
fn both(talk: &[(usize, &str, &str)]) {
    let server = Server::start(&["--enable-debug-command", "yes"]);
    converse("cairn", server.port, talk);
    if let Some(redis) = redis() {
        converse("redis", redis.port, talk);
    }
}

fn converse(who: &str, port: u16, talk: &[(usize, &str, &str)]) {
    let mut clients: Vec<Client> = Vec::new();
    let mut waiting = 0;
    for (at, line, reply) in talk {
        while clients.len() <= *at {
            clients.push(Client::to(port));
        }
        let client = &mut clients[*at];
        if !line.is_empty() {
            client.send(&line.split(' ').collect::<Vec<_>>());
        }
        if !reply.is_empty() {
            assert_eq!(client.reply(), *reply, "{who}, client {at}: {line}");
            waiting -= i32::from(line.is_empty());
        } else {
            // What is sent next must come later.
            waiting += 1;
            wait_blocked(port, waiting);
        }
    }
}

/// Waits until so many clients are blocked.
fn wait_blocked(port: u16, count: i32) {
    let mut client = Client::to(port);
    let deadline = Instant::now() + Duration::from_secs(10);
    let wanted = format!("blocked_clients:{count}\r\n");
    loop {
        client.send(&["INFO", "clients"]);
        let text = client.reply();
        if text.contains(&wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "not {count} are blocked: {text}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

const OK: &str = "+OK\r\n";
const QUEUED: &str = "+QUEUED\r\n";
const NIL: &str = "*-1\r\n";

#[test]
fn a_command_that_its_client_may_not_use_is_not_queued() {
    let refused = "-ERR MODULE command not allowed. If the enable-module-command option is set \
                   to \"local\", you can run it from a local connection, otherwise you need to \
                   set this option in the configuration file, and then restart the server.\r\n";
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    both(&[
        (0, "MULTI", OK),
        (0, "MODULE LOAD x", refused),
        (0, "SET a 1", QUEUED),
        (0, "EXEC", aborted),
        (0, "GET a", "$-1\r\n"),
    ]);
}

#[test]
fn a_transaction_answers_all_its_commands_at_once() {
    both(&[
        (0, "MULTI", OK),
        (0, "SET a 1", QUEUED),
        (0, "INCR a", QUEUED),
        (1, "GET a", "$-1\r\n"),
        (0, "PING", QUEUED),
        (0, "SELECT 3", QUEUED),
        (0, "SET a x", QUEUED),
        (0, "ECHO hi", QUEUED),
        (0, "INCR a", QUEUED),
        (
            0,
            "EXEC",
            "*7\r\n+OK\r\n:2\r\n+PONG\r\n+OK\r\n+OK\r\n$2\r\nhi\r\n\
             -ERR value is not an integer or out of range\r\n",
        ),
        (0, "GET a", "$1\r\nx\r\n"),
        (1, "GET a", "$1\r\n2\r\n"),
        (0, "MULTI", OK),
        (0, "EXEC", "*0\r\n"),
        (0, "MULTI", OK),
        (0, "PING", QUEUED),
        (0, "EXEC", "*1\r\n+PONG\r\n"),
    ]);
}

#[test]
fn errors_in_a_transaction_are_those_of_redis() {
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    both(&[
        (0, "EXEC", "-ERR EXEC without MULTI\r\n"),
        (0, "DISCARD", "-ERR DISCARD without MULTI\r\n"),
        (0, "MULTI", OK),
        (0, "MULTI", "-ERR MULTI calls can not be nested\r\n"),
        (0, "WATCH a", "-ERR WATCH inside MULTI is not allowed\r\n"),
        (0, "SET a 1", QUEUED),
        (0, "EXEC", "*1\r\n+OK\r\n"),
        (0, "MULTI", OK),
        (
            0,
            "SET a",
            "-ERR wrong number of arguments for 'set' command\r\n",
        ),
        (0, "SET a 2", QUEUED),
        (0, "EXEC", aborted),
        (0, "MULTI", OK),
        (
            0,
            "NOPE",
            "-ERR unknown command 'NOPE', with args beginning with: \r\n",
        ),
        (0, "EXEC", aborted),
        (0, "MULTI", OK),
        (
            0,
            "EXEC x",
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' \
             command\r\n",
        ),
        (0, "EXEC", "-ERR EXEC without MULTI\r\n"),
        (0, "MULTI", OK),
        (0, "SET a 3", QUEUED),
        (0, "DISCARD", OK),
        (0, "GET a", "$1\r\n1\r\n"),
        (0, "MULTI", OK),
        (0, "RESET", "+RESET\r\n"),
        (0, "GET a", "$1\r\n1\r\n"),
    ]);
}

/// Regression: without an open transaction a refused EXEC was any refused command.
#[test]
fn a_refused_exec_says_what_it_discards_and_ends_all_watches() {
    let refused = "-EXECABORT Transaction discarded because of: ";
    let wrong = format!("{refused}wrong number of arguments for 'exec' command\r\n");
    let denied =
        format!("{refused}NOPERM this user has no permissions to run the 'exec' command\r\n");
    both(&[
        (0, "WATCH a", OK),
        (0, "EXEC x", wrong.as_str()),
        (1, "SET a 1", OK),
        (0, "MULTI", OK),
        (0, "GET a", QUEUED),
        (0, "EXEC", "*1\r\n$1\r\n1\r\n"),
        (0, "ACL SETUSER ann on nopass ~* +@all -exec", OK),
        (1, "AUTH ann x", OK),
        (1, "EXEC", denied.as_str()),
        (1, "MULTI", OK),
        (1, "EXEC", denied.as_str()),
        (1, "DISCARD", "-ERR DISCARD without MULTI\r\n"),
    ]);
}

#[test]
fn watched_keys_that_change_refuse_the_exec() {
    both(&[
        (0, "WATCH a b", OK),
        (0, "MULTI", OK),
        (0, "SET a mine", QUEUED),
        (1, "SET b 1", OK),
        (0, "EXEC", NIL),
        (0, "GET a", "$-1\r\n"),
        // UNWATCH and DISCARD forget.
        (0, "WATCH a", OK),
        (1, "SET a 1", OK),
        (0, "UNWATCH", OK),
        (0, "MULTI", OK),
        (0, "EXEC", "*0\r\n"),
        (0, "WATCH a", OK),
        (1, "SET a 2", OK),
        (0, "MULTI", OK),
        (0, "DISCARD", OK),
        (0, "MULTI", OK),
        (0, "PING", QUEUED),
        (0, "EXEC", "*1\r\n+PONG\r\n"),
        // One's own change counts too; one that changes nothing does not.
        (0, "WATCH a", OK),
        (0, "SET a 3", OK),
        (0, "MULTI", OK),
        (0, "PING", QUEUED),
        (0, "EXEC", NIL),
        (0, "WATCH absent", OK),
        (1, "DEL absent", ":0\r\n"),
        (1, "FLUSHALL", OK),
        (0, "MULTI", OK),
        (0, "EXEC", "*0\r\n"),
        // Databases are told apart.
        (0, "WATCH a", OK),
        (1, "SELECT 1", OK),
        (1, "SET a 1", OK),
        (0, "MULTI", OK),
        (0, "EXEC", "*0\r\n"),
        (0, "WATCH a", OK),
        (1, "SWAPDB 0 1", OK),
        (0, "MULTI", OK),
        (0, "EXEC", NIL),
    ]);
}

#[test]
fn a_watched_key_that_expires_refuses_the_exec_unless_it_had_expired_before() {
    both(&[
        (0, "SET a 1 PX 1", OK),
        (0, "DEBUG SLEEP 0.02", OK),
        (0, "WATCH a", OK),
        (0, "MULTI", OK),
        (0, "EXEC", "*0\r\n"),
        (0, "SET a 1 PX 40", OK),
        (0, "WATCH a", OK),
        (0, "MULTI", OK),
        (1, "DEBUG SLEEP 0.1", OK),
        (0, "EXEC", NIL),
    ]);
}

#[test]
fn blocked_clients_are_served_in_order_and_by_what_transactions_leave() {
    both(&[
        (0, "BLPOP l 0", ""),
        (1, "RPUSH l a b", ":2\r\n"),
        (0, "", "*2\r\n$1\r\nl\r\n$1\r\na\r\n"),
        (1, "LRANGE l 0 -1", "*1\r\n$1\r\nb\r\n"),
        (1, "DEL l", ":1\r\n"),
        // What is gone at the end of a transaction serves nobody.
        (0, "BLPOP l 0", ""),
        (1, "MULTI", OK),
        (1, "RPUSH l a", QUEUED),
        (1, "DEL l", QUEUED),
        (1, "RPUSH l b", QUEUED),
        (1, "EXEC", "*3\r\n:1\r\n:1\r\n:1\r\n"),
        (0, "", "*2\r\n$1\r\nl\r\n$1\r\nb\r\n"),
        // Within a transaction nobody waits.
        (0, "MULTI", OK),
        (0, "BLPOP l 0", QUEUED),
        (0, "EXEC", "*1\r\n*-1\r\n"),
        // A move feeds who waits for its target.
        (0, "BLPOP target 0", ""),
        (2, "BLMOVE l target LEFT RIGHT 0", ""),
        (3, "BLPOP nothing 0.05", NIL),
        (1, "RPUSH l x", ":1\r\n"),
        (2, "", "$1\r\nx\r\n"),
        (0, "", "*2\r\n$6\r\ntarget\r\n$1\r\nx\r\n"),
        (0, "BLPOP l -1", "-ERR timeout is negative\r\n"),
        (
            0,
            "BLPOP l x",
            "-ERR timeout is not a float or out of range\r\n",
        ),
    ]);
}

#[test]
fn what_is_behind_a_blocked_command_waits_with_it() {
    let server = Server::start(&[]);
    let (mut blocked, mut other) = (server.connect(), server.connect());
    blocked.send(&["BLPOP", "l", "0"]);
    blocked.send(&["SET", "behind", "1"]);
    wait_blocked(server.port, 1);
    other.send(&["GET", "behind"]);
    assert_eq!(other.reply(), "$-1\r\n");
    other.send(&["RPUSH", "l", "x"]);
    assert_eq!(other.reply(), ":1\r\n");
    assert_eq!(blocked.reply(), "*2\r\n$1\r\nl\r\n$1\r\nx\r\n");
    assert_eq!(blocked.reply(), OK);
}

#[test]
fn a_client_that_left_takes_nothing() {
    let server = Server::start(&[]);
    let mut gone = server.connect();
    gone.send(&["BLPOP", "l", "0"]);
    wait_blocked(server.port, 1);
    drop(gone);
    let mut other = server.connect();
    wait_blocked(server.port, 0);
    other.send(&["RPUSH", "l", "x"]);
    assert_eq!(other.reply(), ":1\r\n");
    other.send(&["LLEN", "l"]);
    assert_eq!(other.reply(), ":1\r\n");
}

#[test]
fn client_unblock_ends_a_wait_either_way() {
    let server = Server::start(&[]);
    let (mut blocked, mut other) = (server.connect(), server.connect());
    blocked.send(&["CLIENT", "ID"]);
    let id = blocked.reply();
    let id = id.trim_start_matches(':').trim_end();
    for (how, reply) in [
        ("TIMEOUT", NIL),
        (
            "ERROR",
            "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n",
        ),
    ] {
        blocked.send(&["BLPOP", "l", "0"]);
        wait_blocked(server.port, 1);
        other.send(&["CLIENT", "UNBLOCK", id, how]);
        assert_eq!(other.reply(), ":1\r\n");
        assert_eq!(blocked.reply(), reply);
        other.send(&["CLIENT", "UNBLOCK", id, how]);
        assert_eq!(other.reply(), ":0\r\n");
    }
}
