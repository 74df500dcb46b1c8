//! Corners of Redis that its users lean on: names of commands, the order in which
//! a transaction's commands run and are shown, pauses, the Lua debugger. Where a
//! redis-server 7.0 is on the PATH, the same goes to both.

#[path = "support/both.rs"]
mod both;
mod support;

use std::time::Duration;

use both::{ask, each, wait_until};
use support::{Client, Server};

const OK: &str = "+OK\r\n";
const QUEUED: &str = "+QUEUED\r\n";

#[test]
fn a_renamed_command_answers_to_its_new_name_alone() {
    let flags = [
        ["--rename-command", "flushdb", "badger"],
        ["--rename-command", "keys", ""],
        ["--rename-command", "lpop", "take"],
        ["--rename-command", "config", "settings"],
    ];
    each(&flags.concat(), |who, port| {
        let mut c = Client::to(port);
        let mut is =
            |line: &str, reply: &str| assert_eq!(ask(&mut c, line), reply, "{who}: {line}");
        is(
            "flushdb",
            "-ERR unknown command 'flushdb', with args beginning with: \r\n",
        );
        is(
            "KEYS *",
            "-ERR unknown command 'KEYS', with args beginning with: '*' \r\n",
        );
        is("SET k v", OK);
        is("BADGER", OK);
        is("EXISTS k", ":0\r\n");
        is("take l", "$-1\r\n");
        is(
            "Take l 1 2",
            "-ERR wrong number of arguments for 'lpop' command\r\n",
        );
        is("SETTINGS GET nosuch", "*0\r\n");
        is(
            "SETTINGS",
            "-ERR wrong number of arguments for 'config' command\r\n",
        );
        is("COMMAND INFO flushdb keys", "*2\r\n$-1\r\n$-1\r\n");
        is(
            "COMMAND LIST FILTERBY PATTERN flushdb",
            "*1\r\n$7\r\nflushdb\r\n",
        );
        is("COMMAND LIST FILTERBY PATTERN keys", "*0\r\n");
        // Within MULTI and scripts too.
        is("MULTI", OK);
        is("badger", QUEUED);
        is("EXEC", "*1\r\n+OK\r\n");
        is("EVAL return(redis.call('badger').ok) 0", "$2\r\nOK\r\n");
        // Rules of users keep the names of the table.
        is("ACL SETUSER u on nopass ~* +flushdb", OK);
        is("ACL DRYRUN u badger", OK);
        is("AUTH u x", OK);
        is("BADGER", OK);
        is(
            "take l",
            "-NOPERM this user has no permissions to run the 'lpop' command\r\n",
        );
    });
}

/// What MONITOR shows after the time and the client's address.
fn shown(monitor: &mut Client) -> String {
    let line = monitor.reply();
    let (head, text) = line.split_once("] ").expect("a line of MONITOR");
    let by = match head.ends_with(" lua") {
        true => "lua ",
        false => "",
    };
    format!("{by}{}", text.trim_end())
}

#[test]
fn monitor_shows_a_transaction_in_the_order_in_which_it_ran() {
    each(&[], |who, port| {
        let (mut m, mut c) = (Client::to(port), Client::to(port));
        assert_eq!(ask(&mut m, "MONITOR"), OK);
        for line in [
            "MULTI",
            "SET a 1",
            "PING",
            "EVAL return(redis.call('get','a')) 0",
            "ECHO x",
            "EXEC",
        ] {
            ask(&mut c, line);
        }
        let expected = [
            r#""MULTI""#,
            r#""SET" "a" "1""#,
            r#""PING""#,
            r#""EVAL" "return(redis.call('get','a'))" "0""#,
            r#"lua "get" "a""#,
            r#""ECHO" "x""#,
        ];
        for line in expected {
            assert_eq!(shown(&mut m), line, "{who}");
        }
        assert_eq!(shown(&mut m).to_lowercase(), r#""exec""#, "{who}");
        // One that is refused ends all the same; one without data is shown too.
        for line in ["MULTI", "NOSUCH", "EXEC", "MULTI", "PING", "EXEC", "GET a"] {
            ask(&mut c, line);
        }
        let expected = [
            r#""multi""#,
            r#""exec""#,
            r#""multi""#,
            r#""ping""#,
            r#""exec""#,
            r#""get" "a""#,
        ];
        for line in expected {
            assert_eq!(shown(&mut m).to_lowercase(), line, "{who}");
        }
    });
}

#[test]
fn monitor_shows_a_command_when_it_begins_to_wait() {
    each(&[], |who, port| {
        let (mut m, mut c) = (Client::to(port), Client::to(port));
        assert_eq!(ask(&mut m, "MONITOR"), OK);
        c.send(&["BLPOP", "l", "0"]);
        assert_eq!(shown(&mut m), r#""BLPOP" "l" "0""#, "{who}");
        let mut other = Client::to(port);
        assert_eq!(ask(&mut other, "SET a 1"), OK);
        assert_eq!(ask(&mut other, "RPUSH l x"), ":1\r\n");
        assert_eq!(c.reply(), "*2\r\n$1\r\nl\r\n$1\r\nx\r\n");
        assert_eq!(ask(&mut c, "ECHO x"), "$1\r\nx\r\n");
        for line in [r#""SET" "a" "1""#, r#""RPUSH" "l" "x""#, r#""ECHO" "x""#] {
            assert_eq!(shown(&mut m), line, "{who}");
        }
    });
}

#[test]
fn commands_of_the_session_run_at_their_places_in_a_transaction() {
    each(&["--enable-debug-command", "yes"], |who, port| {
        let mut c = Client::to(port);
        let mut is =
            |line: &str, reply: &str| assert_eq!(ask(&mut c, line), reply, "{who}: {line}");
        // A script that is loaded can be run by the next command.
        let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        is("MULTI", OK);
        is("SCRIPT LOAD return(1)", QUEUED);
        is("SET k v", QUEUED);
        is(&format!("SCRIPT EXISTS {sha}"), QUEUED);
        is("PING", QUEUED);
        is("SCRIPT FLUSH", QUEUED);
        is("GET k", QUEUED);
        is("ECHO x", QUEUED);
        let reply = ask(&mut c, "EXEC");
        let (_, rest) = reply.split_once("$40\r\n").expect("a digest");
        assert!(
            rest[40..].ends_with("\r\n+OK\r\n*1\r\n:0\r\n+PONG\r\n+OK\r\n$1\r\nv\r\n$1\r\nx\r\n"),
            "{who}: {reply}"
        );
        let mut is =
            |line: &str, reply: &str| assert_eq!(ask(&mut c, line), reply, "{who}: {line}");
        // What was logged before is forgotten, what comes later is not.
        is("CONFIG SET slowlog-log-slower-than 0", OK);
        is("MULTI", OK);
        is("INCR before", QUEUED);
        is("SLOWLOG RESET", QUEUED);
        is("INCR after", QUEUED);
        is("EXEC", "*3\r\n:1\r\n+OK\r\n:1\r\n");
        is("CONFIG SET slowlog-log-slower-than -1", OK);
        let log = ask(&mut c, "SLOWLOG GET");
        assert!(
            !log.contains("before") && log.contains("after"),
            "{who}: {log}"
        );
    });
}

#[test]
fn a_sleep_within_a_transaction_lets_keys_expire_before_who_waits_is_served() {
    each(&["--enable-debug-command", "yes"], |who, port| {
        let (mut c, mut waits) = (Client::to(port), Client::to(port));
        let id = ask(&mut waits, "CLIENT ID");
        let id = id.trim_start_matches(':').trim_end();
        waits.send(&["BRPOP", "k", "0"]);
        wait_until("a blocked client", || {
            ask(&mut c, "INFO clients").contains("blocked_clients:1\r\n")
        });
        for line in ["MULTI", "RPUSH k hello", "PEXPIRE k 100", "DEBUG SLEEP 0.2"] {
            ask(&mut c, line);
        }
        assert_eq!(ask(&mut c, "EXEC"), "*3\r\n:1\r\n:1\r\n+OK\r\n", "{who}");
        let clients = ask(&mut c, &format!("CLIENT LIST ID {id}"));
        assert!(clients.contains(" flags=b "), "{who}: {clients}");
        assert_eq!(ask(&mut c, &format!("CLIENT UNBLOCK {id}")), ":1\r\n");
        assert_eq!(waits.reply(), "*-1\r\n", "{who}");
    });
}

/// Regression: only those were counted that the expiry task found.
#[test]
fn an_expired_key_that_a_command_meets_is_counted() {
    each(&["--enable-debug-command", "yes"], |who, port| {
        let mut c = Client::to(port);
        assert_eq!(ask(&mut c, "DEBUG SET-ACTIVE-EXPIRE 0"), OK);
        for key in ["read", "written", "queued"] {
            assert_eq!(ask(&mut c, &format!("SET {key} v PX 1")), OK, "{who}");
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(ask(&mut c, "GET read"), "$-1\r\n", "{who}");
        assert_eq!(ask(&mut c, "INCR written"), ":1\r\n", "{who}");
        assert_eq!(ask(&mut c, "MULTI"), OK);
        assert_eq!(ask(&mut c, "LPUSH queued x"), QUEUED);
        assert_eq!(ask(&mut c, "EXEC"), "*1\r\n:1\r\n", "{who}");
        let stats = ask(&mut c, "INFO stats");
        assert!(stats.contains("\r\nexpired_keys:3\r\n"), "{who}: {stats}");
    });
}

#[test]
fn nothing_expires_during_a_pause_and_what_is_due_is_absent() {
    each(&[], |who, port| {
        let mut c = Client::to(port);
        let expired = |c: &mut Client| {
            let text = ask(c, "INFO stats");
            let (_, rest) = text.split_once("\r\nexpired_keys:").expect("a figure");
            rest.split_once("\r\n").unwrap().0.parse::<u64>().unwrap()
        };
        for line in [
            "MULTI",
            "SET foo bar PX 10",
            "SET bar foo PX 10",
            "CLIENT PAUSE 50000 WRITE",
            "EXEC",
        ] {
            ask(&mut c, line);
        }
        wait_until("the keys to be gone", || {
            ask(&mut c, "GET foo") == "$-1\r\n" && ask(&mut c, "EXISTS bar") == ":0\r\n"
        });
        // The expiry task had time to come by.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(ask(&mut c, "MULTI"), OK);
        assert_eq!(ask(&mut c, "GET foo"), QUEUED);
        assert_eq!(ask(&mut c, "EXEC"), "*1\r\n$-1\r\n", "{who}");
        if who == "cairn" {
            // Redis 7.0 looks for one that has not expired until the pause is over.
            let found = ask(&mut c, "RANDOMKEY");
            assert!(found.starts_with('$'), "{found}");
        }
        assert_eq!(expired(&mut c), 0, "{who}");
        assert_eq!(ask(&mut c, "DBSIZE"), ":2\r\n", "{who}");
        assert_eq!(ask(&mut c, "CLIENT UNPAUSE"), OK);
        ask(&mut c, "GET foo");
        ask(&mut c, "GET bar");
        wait_until("the keys to be counted", || expired(&mut c) == 2);
        assert_eq!(ask(&mut c, "DBSIZE"), ":0\r\n", "{who}");
    });
}

const SCRIPT: &str = "local a = tonumber(ARGV[1])\n\
    local t = {1, 'x', {k = true}}\n\
    redis.call('set', KEYS[1], a)\n\
    redis.debug('now', a)\n\
    local b = redis.call('get', KEYS[1])\n\
    return b";

fn lines(reply: &str) -> Vec<String> {
    let lines = reply.split("\r\n").skip(1).filter(|line| !line.is_empty());
    lines.map(|line| line[1..].to_owned()).collect()
}

#[test]
fn a_script_is_debugged_line_by_line() {
    for mode in ["SYNC", "YES"] {
        each(&[], |who, port| {
            let mut c = Client::to(port);
            assert_eq!(ask(&mut c, &format!("SCRIPT DEBUG {mode}")), OK);
            c.send(&["EVAL", SCRIPT, "1", "key", "7"]);
            let is = |reply: String, expected: &[&str]| {
                assert_eq!(lines(&reply), expected, "{who}, {mode}");
            };
            let stopped = "* Stopped at 1, stop reason = step over";
            is(c.reply(), &[stopped, "-> 1   local a = tonumber(ARGV[1])"]);
            is(
                ask(&mut c, "next"),
                &[
                    "* Stopped at 2, stop reason = step over",
                    "-> 2   local t = {1, 'x', {k = true}}",
                ],
            );
            is(ask(&mut c, "p a"), &["<value> 7"]);
            is(ask(&mut c, "print"), &["<value> a = 7"]);
            is(ask(&mut c, "p nosuch"), &["No such variable."]);
            is(ask(&mut c, "p KEYS"), &["<value> {\"key\"}"]);
            is(
                ask(&mut c, "b 5"),
                &[
                    "   4   redis.debug('now', a)",
                    "  #5   local b = redis.call('get', KEYS[1])",
                    "   6   return b",
                ],
            );
            is(
                ask(&mut c, "s"),
                &[
                    "* Stopped at 3, stop reason = step over",
                    "-> 3   redis.call('set', KEYS[1], a)",
                ],
            );
            is(ask(&mut c, "p t"), &["<value> {1; \"x\"; {[\"k\"]=true}}"]);
            is(ask(&mut c, "e 1 + 2"), &["<retval> 3"]);
            is(
                ask(&mut c, "r get other"),
                &["<redis> get other", "<reply> NULL"],
            );
            is(
                ask(&mut c, "t"),
                &["In top level:", "-> 3   redis.call('set', KEYS[1], a)"],
            );
            is(
                ask(&mut c, "c"),
                &[
                    "<debug> line 4: \"now\", 7",
                    "* Stopped at 5, stop reason = break point",
                    "->#5   local b = redis.call('get', KEYS[1])",
                ],
            );
            is(
                ask(&mut c, "what is this"),
                &["<error> Unknown Redis Lua debugger command or wrong number of arguments."],
            );
            is(
                ask(&mut c, "s"),
                &[
                    "<redis> get key",
                    "<reply> \"7\"",
                    "* Stopped at 6, stop reason = step over",
                    "-> 6   return b",
                ],
            );
            is(ask(&mut c, "c"), &["<endsession>"]);
            assert_eq!(c.reply(), "$1\r\n7\r\n", "{who}, {mode}");
            assert_eq!(
                c.try_reply(),
                None,
                "{who}, {mode}: the session ends the connection"
            );
            let kept = match mode {
                "SYNC" => "$1\r\n7\r\n",
                _ => "$-1\r\n",
            };
            assert_eq!(ask(&mut Client::to(port), "GET key"), kept, "{who}, {mode}");
        });
    }
}

#[test]
fn a_debugged_script_ends_when_it_is_told_to_and_when_its_client_goes() {
    each(&[], |who, port| {
        let mut c = Client::to(port);
        ask(&mut c, "SCRIPT DEBUG YES");
        c.send(&["EVAL", "local n = 0\nwhile true do n = n + 1 end", "0"]);
        c.reply();
        let reply = ask(&mut c, "abort");
        assert_eq!(lines(&reply), ["<endsession>"], "{who}");
        let error = c.reply();
        assert!(
            error.starts_with("-ERR script aborted for user request"),
            "{who}: {error}"
        );
        // Others are served meanwhile, and the server is none the worse for it.
        let mut gone = Client::to(port);
        ask(&mut gone, "SCRIPT DEBUG YES");
        gone.send(&["EVAL", "while true do redis.call('incr', 'n') end", "0"]);
        gone.reply();
        let mut other = Client::to(port);
        assert_eq!(ask(&mut other, "SET k v"), OK);
        gone.send(&["continue"]);
        drop(gone);
        assert_eq!(ask(&mut other, "INCR n"), ":1\r\n", "{who}");
        assert_eq!(
            ask(&mut other, "SCRIPT DEBUG MAYBE"),
            "-ERR Use SCRIPT DEBUG YES/SYNC/NO\r\n"
        );
    });
}

#[test]
fn code_and_commands_that_are_wrong_end_no_debugging() {
    each(&[], |who, port| {
        let mut c = Client::to(port);
        ask(&mut c, "SCRIPT DEBUG SYNC");
        c.send(&["EVAL", "return 'hello'", "0"]);
        c.reply();
        let error = ask(&mut c, "e error('no')");
        assert!(error.contains("<error> ldb_eval:1: no"), "{who}: {error}");
        let error = ask(&mut c, "e )(");
        assert!(error.contains("<error> ldb_eval:1: "), "{who}: {error}");
        let words: Vec<&str> = std::iter::once("redis").chain([("test"); 100]).collect();
        c.send(&words);
        let error = c.reply();
        assert!(
            error.contains("... (89 more)")
                && error.contains("Unknown Redis command called from script"),
            "{who}: {error}"
        );
        let help = ask(&mut c, "h");
        assert!(
            help.starts_with("*30\r\n+Redis Lua debugger help:"),
            "{who}: {help}"
        );
        // A broken request is the script's end.
        c.send_raw(b"PING\r\n");
        assert_eq!(lines(&c.reply()), ["<endsession>"], "{who}");
        let error = c.reply();
        assert!(error.starts_with("-ERR protocol error"), "{who}: {error}");
    });
}

#[test]
fn what_a_debugged_script_changes_is_kept_after_sync_alone() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    for (mode, key) in [("YES", "thrown"), ("SYNC", "kept")] {
        let mut d = server.connect();
        ask(&mut d, &format!("SCRIPT DEBUG {mode}"));
        d.send(&[
            "EVAL",
            "return redis.call('rpush', KEYS[1], 'a', 'b')",
            "1",
            key,
        ]);
        d.reply();
        ask(&mut d, "c");
        assert_eq!(d.reply(), ":2\r\n");
    }
    assert_eq!(ask(&mut c, "EXISTS thrown"), ":0\r\n");
    assert_eq!(ask(&mut c, "LLEN kept"), ":2\r\n");
    assert_eq!(ask(&mut c, "DBSIZE"), ":1\r\n");
}

#[test]
fn whoever_hears_from_a_script_finds_what_it_has_changed() {
    let server = Server::start(&["--appendfsync", "always"]);
    let (mut hears, mut c, mut reads) = (server.connect(), server.connect(), server.connect());
    ask(&mut hears, "SUBSCRIBE news");
    for n in 0..100 {
        let n = n.to_string();
        let script = "redis.call('set', KEYS[1], ARGV[1]) \
            return redis.call('publish', 'news', ARGV[1])";
        c.send(&["EVAL", script, "1", "k", &n]);
        let message = hears.reply();
        assert!(message.ends_with(&format!("\r\n{n}\r\n")), "{message}");
        let found = ask(&mut reads, "GET k");
        assert!(
            found.ends_with(&format!("\r\n{n}\r\n")),
            "{found} is older than {n}"
        );
        assert_eq!(c.reply(), ":1\r\n");
    }
}

#[test]
fn debug_looks_at_values_and_refuses_in_the_words_of_redis() {
    each(&["--enable-debug-command", "yes"], |who, port| {
        let mut c = Client::to(port);
        for line in [
            "SET s value",
            "SET n 12",
            "RPUSH l a",
            "HSET h f v",
            "SADD t a b",
        ] {
            ask(&mut c, line);
        }
        let mut is =
            |line: &str, reply: &str| assert_eq!(ask(&mut c, line), reply, "{who}: {line}");
        let number = "-ERR value is not an integer or out of range\r\n";
        for word in ["SDSLEN", "LISTPACK", "QUICKLIST", "HTSTATS-KEY"] {
            is(&format!("DEBUG {word} none"), "-ERR no such key\r\n");
        }
        for key in ["n", "l"] {
            let line = format!("DEBUG SDSLEN {key}");
            is(&line, "-ERR Not an sds encoded string.\r\n");
        }
        is(
            "DEBUG LISTPACK h",
            "+Listpack structure printed on stdout\r\n",
        );
        is(
            "DEBUG LISTPACK s",
            "-ERR Not a listpack encoded object.\r\n",
        );
        is(
            "DEBUG QUICKLIST l 1",
            "+Quicklist structure printed on stdout\r\n",
        );
        is(
            "DEBUG QUICKLIST h",
            "-ERR Not a quicklist encoded object.\r\n",
        );
        is(
            "DEBUG HTSTATS-KEY h",
            "-ERR The value stored at the specified key is not represented using an hash table\r\n",
        );
        is(
            "DEBUG CLIENT-EVICTION",
            "-ERR maxmemory-clients is disabled.\r\n",
        );
        is("DEBUG LEAK x", OK);
        is("DEBUG REPLICATE PING", OK);
        is("DEBUG DROP-CLUSTER-PACKET-FILTER -1", OK);
        is("DEBUG DROP-CLUSTER-PACKET-FILTER x", number);
        is("DEBUG REPLYBUFFER PEAK-RESET-TIME NEVER", OK);
        is("DEBUG REPLYBUFFER PEAK-RESET-TIME x", number);
        is(
            "DEBUG REPLYBUFFER NOPE 1",
            "-ERR unknown subcommand or wrong number of arguments for 'REPLYBUFFER'. Try DEBUG \
             HELP.\r\n",
        );
        is(
            "DEBUG CLUSTERLINK KILL all x",
            "-ERR Debug option only available for cluster mode enabled setup!\r\n",
        );
        is("DEBUG CRASH-AND-RECOVER x", number);
        let stats = ask(&mut c, "DEBUG HTSTATS-KEY t");
        assert!(
            stats.contains("\n number of elements: 2\n"),
            "{who}: {stats}"
        );
        let lengths = ask(&mut c, "DEBUG SDSLEN s");
        assert!(
            lengths.starts_with("+key_sds_len:1, key_sds_avail:0, key_zmalloc: ")
                && lengths.contains(", val_sds_len:5, val_sds_avail:0, val_zmalloc: "),
            "{who}: {lengths}"
        );
        let restore = ["RESTORE", "r", "0", "\0\u{1}v\n\0checksum"];
        c.send(&restore);
        assert_eq!(
            c.reply(),
            "-ERR DUMP payload version or checksum are wrong\r\n"
        );
        assert_eq!(ask(&mut c, "DEBUG SET-SKIP-CHECKSUM-VALIDATION 1"), OK);
        c.send(&restore);
        assert_eq!(c.reply(), OK, "{who}");
        assert_eq!(ask(&mut c, "GET r"), "$1\r\nv\r\n");
    });
}

#[test]
fn debug_change_repl_id_forgets_the_former_id() {
    each(&["--enable-debug-command", "yes"], |who, port| {
        let mut c = Client::to(port);
        for line in ["REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"] {
            assert_eq!(ask(&mut c, line), OK, "{who}");
        }
        let none = format!("\r\nmaster_replid2:{}\r\n", "0".repeat(40));
        assert!(!ask(&mut c, "INFO replication").contains(&none), "{who}");
        assert_eq!(ask(&mut c, "DEBUG CHANGE-REPL-ID"), OK);
        let info = ask(&mut c, "INFO replication");
        assert!(
            info.contains(&none) && info.contains("\r\nsecond_repl_offset:-1\r\n"),
            "{who}: {info}"
        );
    });
}

#[test]
fn a_pause_whose_end_no_clock_shows_is_over() {
    each(&[], |who, port| {
        let mut c = Client::to(port);
        let mut is =
            |line: &str, reply: &str| assert_eq!(ask(&mut c, line), reply, "{who}: {line}");
        is("CLIENT PAUSE 9223372036854775807", OK);
        is("SET k v", OK);
        is(
            "CLIENT PAUSE 9223372036854775808",
            "-ERR timeout is not an integer or out of range\r\n",
        );
        is("CLIENT PAUSE -1", "-ERR timeout is negative\r\n");
    });
}

#[test]
fn more_clients_than_the_system_has_sockets_for_are_refused() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    let refused = ask(&mut c, "CONFIG SET maxclients 4294967295");
    let why = "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating \
               system is not able to handle the specified number of clients, try with ";
    assert!(refused.starts_with(why), "{refused}");
    let kept = "*2\r\n$10\r\nmaxclients\r\n$5\r\n10000\r\n";
    assert_eq!(ask(&mut c, "CONFIG GET maxclients"), kept);
    assert_eq!(ask(&mut c, "CONFIG SET maxclients 10000"), OK);
    assert_eq!(ask(&mut c, "CONFIG SET maxclients 5"), OK);
}

#[test]
fn hello_says_whether_the_server_leads() {
    each(&[], |who, port| {
        let mut c = Client::to(port);
        for (line, role) in [
            ("PING", "$6\r\nmaster\r\n"),
            ("REPLICAOF 127.0.0.1 1", "$7\r\nreplica\r\n"),
            ("REPLICAOF NO ONE", "$6\r\nmaster\r\n"),
        ] {
            ask(&mut c, line);
            let hello = ask(&mut c, "HELLO");
            let role = format!("$4\r\nrole\r\n{role}");
            assert!(hello.contains(&role), "{who}: {line}: {hello}");
        }
    });
}

#[test]
fn monitor_is_refused_within_a_transaction() {
    each(&[], |who, port| {
        let mut c = Client::to(port);
        let mut is =
            |line: &str, reply: &str| assert_eq!(ask(&mut c, line), reply, "{who}: {line}");
        is("MULTI", OK);
        is("MONITOR", QUEUED);
        is("SET k v", QUEUED);
        is(
            "EXEC",
            "*2\r\n-ERR MONITOR isn't allowed for DENY BLOCKING client\r\n+OK\r\n",
        );
        is("GET k", "$1\r\nv\r\n");
    });
}
