//! A server that follows a master: a real redis-server, another cairn-server, or one
//! made up here that sends nonsense. At the end both hold the same.
//!
//! `CAIRN_REPLICATION_COMMANDS` sets how many commands each writer sends, `CAIRN_SEED`
//! repeats what they send (not how they interleave).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use cairn_tests::contents::{compare, compare_with_redis, expiring_soon};
use cairn_tests::mixed::{DATABASES, LIBRARY, Writer};
use cairn_tests::peers::Redis;
use cairn_tests::resp::{Client, Value, encode};
use cairn_tests::seed;
use cairn_tests::server::{Server, info, refusal};
use cairn_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
const WRITERS: u64 = 3;
const READ_ONLY: &str = "READONLY You can't write against a read only replica.";

fn writers(master: impl Fn() -> Client, name: &str) -> (Vec<Writer>, u64) {
    let seed = seed::seed(name);
    let writers = (0..WRITERS).map(|id| Writer::new(master(), seed, id));
    let commands = seed::size("CAIRN_REPLICATION_COMMANDS", 3_000);
    (writers.collect(), commands)
}

fn run_all(writers: &mut [Writer], commands: u64, meanwhile: impl FnOnce()) {
    std::thread::scope(|scope| {
        for writer in writers {
            scope.spawn(move || writer.run(commands));
        }
        meanwhile();
    });
}

fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

fn follow(replica: &mut Client, port: u16) {
    let done = replica.words(&format!("REPLICAOF 127.0.0.1 {port}"));
    assert_eq!(done.text(), "OK");
    wait_up(replica);
}

fn wait_up(replica: &mut Client) {
    wait::until("the link to the master", LIMIT, || {
        (info(replica, "master_link_status") == "up").then_some(())
    });
}

/// Waits until nothing is about to expire and all replicas have everything, then
/// compares.
fn all_the_same(master: &mut Client, replicas: &mut [Client]) {
    wait::until("short expiries to pass", LIMIT, || {
        let keys = (0..DATABASES).map(|db| expiring_soon(master, db));
        (keys.sum::<usize>() == 0).then_some(())
    });
    for replica in replicas {
        wait::until("the replica to have all", LIMIT, || {
            let (ours, theirs) = (
                info(master, "master_repl_offset"),
                info(replica, "master_repl_offset"),
            );
            (ours == theirs).then_some(())
        });
        assert_eq!(info(replica, "unexpected_error_replies"), "0");
        for db in 0..DATABASES {
            compare_with_redis(master, replica, db);
        }
        let functions = |client: &mut Client| client.words("FUNCTION LIST WITHCODE");
        assert_eq!(functions(master), functions(replica));
    }
}

#[test]
fn a_server_that_follows_redis_holds_the_same_after_a_mixed_load() {
    let redis = Redis::start(&["--save", "", "--repl-diskless-sync-delay", "0"]);
    let (mut writers, commands) = writers(|| redis.client(), "follow-redis");
    writers[0].load_large();
    run_all(&mut writers, commands / 4, || {});
    let (first, second) = (Server::start(&[]), Server::start(&[]));
    // What was there before is nobody's any more.
    first.client().words("SET own value");
    run_all(&mut writers, commands / 2, || {
        follow(&mut first.client(), redis.port());
    });
    redis.client().words("CONFIG SET repl-diskless-sync no");
    run_all(&mut writers, commands / 4, || {
        follow(&mut second.client(), redis.port());
    });
    all_the_same(&mut redis.client(), &mut [first.client(), second.client()]);
    assert_eq!(first.client().words("GET own"), Value::Null);
    let mut master = redis.client();
    master.words("INCR k");
    assert_eq!(master.words("WAIT 2 30000").integer(), 2);
}

#[test]
fn a_server_that_follows_a_server_holds_the_same_after_a_mixed_load() {
    let master = Server::start(&[]);
    let (mut writers, commands) = writers(|| master.client(), "follow-cairn");
    writers[0].load_large();
    let replica = Server::start(&[]);
    run_all(&mut writers, commands / 2, || {
        follow(&mut replica.client(), master.port());
    });
    run_all(&mut writers, commands / 2, || {});
    all_the_same(&mut master.client(), &mut [replica.client()]);
}

#[test]
fn a_replica_that_is_killed_goes_on_exactly_where_it_was() {
    let redis = Redis::start(&["--save", "", "--repl-backlog-size", "100mb"]);
    let (mut writers, commands) = writers(|| redis.client(), "follow-kill");
    let master = format!("127.0.0.1 {}", redis.port());
    let mut replica = Server::start(&["--replicaof", &master]);
    wait_up(&mut replica.client());
    for _ in 0..4 {
        let mut client = replica.client();
        let before = info(&mut client, "master_repl_offset");
        run_all(&mut writers, commands / 4, || {
            // Amid the stream, not before it has begun.
            wait::until("the stream to go on", LIMIT, || {
                (info(&mut client, "master_repl_offset") != before).then_some(())
            });
            replica.kill9();
            replica.restart();
        });
        wait_up(&mut replica.client());
    }
    all_the_same(&mut redis.client(), &mut [replica.client()]);
    let mut master = redis.client();
    assert_eq!(info(&mut master, "sync_full"), "1", "the first time alone");
    assert!(info(&mut master, "sync_partial_ok").parse::<u64>().unwrap() >= 3);
}

#[test]
fn a_master_that_is_killed_is_followed_again_when_it_is_back() {
    let mut master = Server::start(&[]);
    let replica = Server::start(&[]);
    let mut client = replica.client();
    follow(&mut client, master.port());
    for round in 0..3 {
        let (mut writers, commands) = writers(|| master.client(), "follow-master-kill");
        run_all(&mut writers, commands / 4, || {});
        master.kill9();
        wait::until("the link to be down", LIMIT, || {
            (info(&mut client, "master_link_status") == "down").then_some(())
        });
        // Old data are served meanwhile, unless they are not to be.
        assert!(!client.words("GET x").is_error());
        client.words("CONFIG SET replica-serve-stale-data no");
        let refused = client.words("GET x").error().expect("an error");
        assert!(refused.starts_with("MASTERDOWN "), "{refused}");
        client.words("CONFIG SET replica-serve-stale-data yes");
        master.restart();
        master.client().words(&format!("SET round {round}"));
        wait_up(&mut client);
        all_the_same(&mut master.client(), &mut [replica.client()]);
    }
}

/// To a replica its master is a client, which CLIENT KILL may name.
#[test]
fn a_link_that_client_kill_ends_goes_on_where_it_was() {
    let redis = Redis::start(&["--save", "", "--repl-diskless-sync-delay", "0"]);
    let (mut writers, commands) = writers(|| redis.client(), "follow-cut");
    let replica = Server::start(&[]);
    let mut client = replica.client();
    follow(&mut client, redis.port());
    let address = format!("127.0.0.1:{}", redis.port());
    let mut master = redis.client();
    run_all(&mut writers, commands / 4, || {
        for (number, (kill, done)) in [
            (
                format!("CLIENT KILL {address}"),
                Value::Simple(b"OK".to_vec()),
            ),
            (format!("CLIENT KILL ADDR {address}"), Value::Integer(1)),
            ("CLIENT KILL TYPE master".to_owned(), Value::Integer(1)),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(client.words(&kill), done, "{kill}");
            // The link is a client before the master has let it go on: one that is
            // killed before that is not counted.
            wait::until("the link to go on", LIMIT, || {
                let gone_on: usize = info(&mut master, "sync_partial_ok").parse().unwrap();
                (gone_on > number).then_some(())
            });
        }
    });
    assert_eq!(client.words("CLIENT KILL ADDR 127.0.0.1:1").integer(), 0);
    wait_up(&mut client);
    all_the_same(&mut redis.client(), &mut [replica.client()]);
    assert_eq!(info(&mut master, "sync_full"), "1", "the first time alone");
    assert!(info(&mut master, "sync_partial_ok").parse::<u64>().unwrap() >= 3);
}

#[test]
fn a_replica_passes_the_stream_of_its_master_on_as_it_is() {
    let redis = Redis::start(&["--save", "", "--repl-diskless-sync-delay", "0"]);
    let (mut writers, commands) = writers(|| redis.client(), "follow-chain");
    let middle = Server::start(&[]);
    let (last, last_redis) = (Server::start(&[]), Redis::in_memory());
    let refused = {
        let mut client = middle.client();
        client.words("REPLICAOF 127.0.0.1 1");
        client.words("SYNC").error().expect("an error")
    };
    assert!(refused.starts_with("NOMASTERLINK "), "{refused}");
    follow(&mut middle.client(), redis.port());
    run_all(&mut writers, commands / 2, || {
        follow(&mut last.client(), middle.port());
    });
    run_all(&mut writers, commands / 2, || {
        follow(&mut last_redis.client(), middle.port());
    });
    all_the_same(
        &mut redis.client(),
        &mut [middle.client(), last.client(), last_redis.client()],
    );
    let mut master = redis.client();
    let id = info(&mut master, "master_replid");
    for mut replica in [middle.client(), last.client(), last_redis.client()] {
        assert_eq!(info(&mut replica, "master_replid"), id);
    }
    assert_eq!(info(&mut middle.client(), "connected_slaves"), "2");
}

#[test]
fn a_replica_is_read_only_until_it_is_promoted() {
    let (redis, cairn) = (Redis::in_memory(), Server::start(&[]));
    let (mut master, mut client) = (redis.client(), cairn.client());
    let mut waits = cairn.client();
    let mut blocking = Vec::new();
    encode(&mut blocking, &["BLPOP", "list", "0"]);
    waits.send(&blocking).expect("sent");
    wait::until("the client to wait", LIMIT, || {
        (info(&mut client, "blocked_clients") == "1").then_some(())
    });
    master.command(&["FUNCTION", "LOAD", LIBRARY]);
    master.words("SET k v");
    follow(&mut client, redis.port());
    let unblocked = waits.read_reply().expect("an answer").value;
    let unblocked = unblocked.error().expect("an error");
    assert!(unblocked.starts_with("UNBLOCKED force"), "{unblocked}");

    let again = client.words(&format!("REPLICAOF 127.0.0.1 {}", redis.port()));
    assert_eq!(again.text(), "OK Already connected to specified master");
    let role = client.words("ROLE");
    assert_eq!(role.array()[0].text(), "slave");
    assert_eq!(role.array()[2].integer(), i64::from(redis.port()));
    assert_eq!(role.array()[3].text(), "connected");
    assert_eq!(info(&mut client, "role"), "slave");
    assert_eq!(info(&mut client, "slave_read_only"), "1");
    assert_eq!(
        info(&mut client, "master_replid"),
        info(&mut master, "master_replid")
    );
    let online = format!("port={},state=online", cairn.port());
    wait::until("the master to have heard of the replica", LIMIT, || {
        info(&mut master, "slave0").contains(&online).then_some(())
    });

    let refused = |client: &mut Client, words: &[&str]| client.command(words).error();
    for words in [
        &["SET", "k", "w"][..],
        &["DEL", "k"],
        &["FUNCTION", "FLUSH"],
        &["FLUSHALL"],
        &["EVAL", "#!lua\nreturn 1", "0"],
    ] {
        assert_eq!(
            refused(&mut client, words).as_deref(),
            Some(READ_ONLY),
            "{words:?}"
        );
    }
    let script = "return redis.call('SET', KEYS[1], 'w')";
    let error = refused(&mut client, &["EVAL", script, "1", "k"]).expect("an error");
    assert!(error.starts_with(READ_ONLY), "{error}");
    assert!(client.words("WAIT 0 1").is_error());
    client.words("MULTI");
    assert_eq!(client.words("SET k w").error().as_deref(), Some(READ_ONLY));
    let aborted = client.words("EXEC").error().expect("an error");
    assert!(aborted.starts_with("EXECABORT "), "{aborted}");
    client.words("MULTI");
    client.words("GET k");
    assert_eq!(client.words("EXEC").array()[0].text(), "v");
    let read = "return redis.call('GET', KEYS[1])";
    assert_eq!(client.command(&["EVAL", read, "1", "k"]).text(), "v");

    // A transaction that began before the server became a replica.
    client.words("REPLICAOF NO ONE");
    assert_eq!(info(&mut client, "role"), "master");
    assert_eq!(
        info(&mut client, "master_replid2"),
        info(&mut master, "master_replid")
    );
    let mut early = cairn.client();
    early.words("MULTI");
    early.words("SET k w");
    follow(&mut client, redis.port());
    let aborted = early.words("EXEC").error().expect("an error");
    let expected = format!("EXECABORT Transaction discarded because of: {READ_ONLY}");
    assert_eq!(aborted, expected);

    client.words("CONFIG SET replica-read-only no");
    assert_eq!(client.words("SET local 1").text(), "OK");
    client.words("REPLICAOF NO ONE");
    assert_eq!(client.words("SET k w").text(), "OK");
    // Else it may merely not have heard yet.
    wait::until("the master to have lost its replica", LIMIT, || {
        (info(&mut master, "connected_slaves") == "0").then_some(())
    });
    master.words("SET k x");
    assert_eq!(client.words("GET k").text(), "w");
    assert_eq!(client.words("FUNCTION LIST").array().len(), 1);
}

#[test]
fn a_password_is_needed_and_named_when_it_is_wrong() {
    let redis = Redis::start(&["--save", "", "--requirepass", "secret"]);
    let cairn = Server::start(&["--masterauth", "wrong"]);
    let mut client = cairn.client();
    client.words(&format!("REPLICAOF 127.0.0.1 {}", redis.port()));
    wait::until("the refusal in the log", LIMIT, || {
        cairn
            .log_text()
            .contains("Unable to AUTH to MASTER")
            .then_some(())
    });
    assert_eq!(info(&mut client, "master_link_status"), "down");
    client.words("CONFIG SET masterauth secret");
    wait_up(&mut client);
}

/// A master made up of what it is to send after PSYNC, on each connection in turn.
struct Nonsense {
    listener: TcpListener,
}

impl Nonsense {
    fn new() -> (Nonsense, u16) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        (Nonsense { listener }, port)
    }

    /// Answers the handshake of one connection, then sends.
    fn serve(&self, sent: &[u8]) -> TcpStream {
        let (stream, _) = self.listener.accept().expect("a replica");
        let mut lines = BufReader::new(stream.try_clone().expect("the socket"));
        let mut out = stream;
        loop {
            let mut words = Vec::new();
            let count = line(&mut lines)[1..].parse::<usize>().expect("a request");
            for _ in 0..count {
                line(&mut lines);
                words.push(line(&mut lines));
            }
            match words[0].as_str() {
                "PING" => out.write_all(b"+PONG\r\n").expect("sent"),
                "PSYNC" => break,
                _ => out.write_all(b"+OK\r\n").expect("sent"),
            }
        }
        // Whoever has had enough closes it.
        let _ = out.write_all(sent);
        out
    }
}

fn line(lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

fn full(rdb: &[u8], stream: &[u8]) -> Vec<u8> {
    let head = format!("+FULLRESYNC {} 100\r\n${}\r\n", "a".repeat(40), rdb.len());
    [head.as_bytes(), rdb, stream].concat()
}

/// An empty data set, without a checksum.
const EMPTY: &[u8] = b"REDIS0010\xff\0\0\0\0\0\0\0\0";

#[test]
fn whatever_a_master_sends_the_server_lives_and_tries_again() {
    let (nonsense, port) = Nonsense::new();
    let cairn = Server::start(&["--repl-timeout", "5"]);
    let mut client = cairn.client();
    client.words("SET k v");
    client.words(&format!("REPLICAOF 127.0.0.1 {port}"));
    let key_then_garbage = b"REDIS0010\x00\x01x\x01y\x63\x01z";
    let huge = b"REDIS0010\x01\x01k\x81\x7f\xff\xff\xff\xff\xff\xff\xff";
    let bad_value = b"REDIS0010\x10\x01k\x03abc\xff\0\0\0\0\0\0\0\0";
    let wrong_sum = b"REDIS0010\xff\x01\0\0\0\0\0\0\0";
    let no_end = [full(EMPTY, b""), b"*1\r\n$99999999999\r\n".to_vec()].concat();
    let mark = format!(
        "+FULLRESYNC {} 100\r\n$EOF:{}\r\n",
        "a".repeat(40),
        "m".repeat(40)
    );
    let wrong_mark = [mark.as_bytes(), EMPTY, "n".repeat(40).as_bytes()].concat();
    let cases: Vec<Vec<u8>> = vec![
        b"+FULLRESYNC\r\n".to_vec(),
        b"+FULLRESYNC short 1\r\n".to_vec(),
        b"+CONTINUE\r\n".to_vec(),
        b"-ERR unknown command\r\n".to_vec(),
        [b'x'; 10_000].to_vec(),
        b"".to_vec(),
        full(b"", b""),
        full(b"RUBBISH", b""),
        full(key_then_garbage, b""),
        full(huge, b""),
        full(bad_value, b""),
        full(wrong_sum, b""),
        full(&EMPTY[..12], b""),
        full(EMPTY, b"*1\r\n$-7\r\n"),
        full(EMPTY, b"*2\r\n$6\r\nSELECT\r\n$3\r\n999\r\n"),
        no_end,
        wrong_mark,
    ];
    for case in cases {
        let mut replica = nonsense.serve(&case);
        let _ = replica.shutdown(std::net::Shutdown::Write);
        let _ = replica.read_to_end(&mut Vec::new());
        assert_eq!(
            client.words("PING").text(),
            "PONG",
            "{}",
            case.escape_ascii()
        );
        assert_ne!(client.words("GET x"), bulk("y"), "of no whole data set");
    }
    // A master that means it.
    let good = full(EMPTY, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nw\r\n");
    let _replica = nonsense.serve(&good);
    wait::until("the master's value", LIMIT, || {
        (client.words("GET k") == bulk("w")).then_some(())
    });
    wait::until("the stream to be at its end", LIMIT, || {
        let role = client.words("ROLE");
        (role.array()[4].integer() == 100 + 27).then_some(())
    });
}

#[test]
fn commands_that_fail_or_are_unknown_are_counted_and_the_rest_is_done() {
    let (nonsense, port) = Nonsense::new();
    let cairn = Server::start(&[]);
    let mut client = cairn.client();
    client.words(&format!("REPLICAOF 127.0.0.1 {port}"));
    let mut stream = Vec::new();
    for line in [
        "SET k v",
        "LPUSH k x",
        "NOSUCH command",
        "GET",
        "SHUTDOWN NOSAVE",
        "EXEC",
        "MULTI",
        "INCR n",
        "LPUSH k x",
        "SELECT 3",
        "INCR n",
        "EXEC",
        "INCR m",
    ] {
        encode(&mut stream, &line.split(' ').collect::<Vec<_>>());
    }
    let _replica = nonsense.serve(&full(EMPTY, &stream));
    client.words("SELECT 3");
    wait::until("the last command", LIMIT, || {
        (client.words("GET m") == bulk("1")).then_some(())
    });
    assert_eq!(client.words("GET n").text(), "1");
    client.words("SELECT 0");
    assert_eq!(client.words("GET k").text(), "v");
    assert_eq!(client.words("GET n").text(), "1");
    // A batch is there to read before its errors are counted.
    wait::until("six errors", LIMIT, || {
        (info(&mut client, "unexpected_error_replies") == "6").then_some(())
    });
    assert_eq!(info(&mut client, "master_link_status"), "up");
}

#[test]
fn a_replica_hides_what_has_expired_and_keeps_it_until_the_master_says_so() {
    let (nonsense, port) = Nonsense::new();
    let cairn = Server::start(&["--enable-debug-command", "yes"]);
    let mut client = cairn.client();
    client.words(&format!("REPLICAOF 127.0.0.1 {port}"));
    let mut stream = Vec::new();
    let mut say = |line: &str| {
        encode(&mut stream, &line.split(' ').collect::<Vec<_>>());
    };
    // Over long ago by any clock but the master's.
    say("SET k v PXAT 1000");
    say("HSET h f 1");
    say("PEXPIREAT h 1000");
    say("SET other 1");
    let mut replica = nonsense.serve(&full(EMPTY, &stream));
    wait::until("the stream", LIMIT, || {
        (client.words("GET other") == bulk("1")).then_some(())
    });
    assert_eq!(client.words("GET k"), Value::Null);
    assert_eq!(client.words("EXISTS h").integer(), 0);
    assert_eq!(client.words("KEYS *").array().len(), 1);
    client.words("MULTI");
    client.words("GET k");
    assert_eq!(client.words("EXEC").array()[0], Value::Null);
    client.words("DEBUG FLUSH");
    client.words("DEBUG COMPACT");
    let mut more = Vec::new();
    for line in ["PERSIST k", "HINCRBY h f 1", "PERSIST h"] {
        encode(&mut more, &line.split(' ').collect::<Vec<_>>());
    }
    replica.write_all(&more).expect("sent");
    wait::until("the hash to be back", LIMIT, || {
        (client.words("HGET h f") == bulk("2")).then_some(())
    });
    assert_eq!(client.words("GET k").text(), "v");
}

#[test]
fn a_file_of_redis_is_loaded_into_an_empty_data_directory_and_never_again() {
    let redis = Redis::in_memory();
    let (mut writers, commands) = writers(|| redis.client(), "follow-file");
    writers[0].load_large();
    run_all(&mut writers, commands / 4, || {});
    let mut theirs = redis.client();
    wait::until("short expiries to pass", LIMIT, || {
        let keys = (0..DATABASES).map(|db| expiring_soon(&mut theirs, db));
        (keys.sum::<usize>() == 0).then_some(())
    });
    assert_eq!(theirs.words("SAVE").text(), "OK");
    let folder = theirs.words("CONFIG GET dir").array()[1].text();
    let file = std::path::Path::new(&folder).join("dump.rdb");

    let place = tempfile::tempdir().expect("a folder");
    let flag = place.path().to_str().expect("a path").to_owned();
    std::fs::copy(&file, place.path().join("dump.rdb")).expect("copied");
    let mut cairn = Server::start(&["--dir", &flag]);
    let mut ours = cairn.client();
    for db in 0..DATABASES {
        compare(&mut theirs, &mut ours, db);
    }
    assert_eq!(ours.words("FUNCTION LIST").array().len(), 1);
    ours.words("FLUSHALL");
    ours.words("SELECT 0");
    ours.words("SET k v");
    cairn.stop();
    cairn.restart();
    assert_eq!(cairn.client().words("DBSIZE").integer(), 1);
}

#[test]
fn a_start_with_a_damaged_file_is_refused_until_it_is_repaired_or_gone() {
    let place = tempfile::tempdir().expect("a folder");
    let port = cairn_tests::ports::free_port();
    let command = || {
        let mut command = Command::new(cairn_tests::binaries::cairn("cairn-server"));
        command.args(["--port", &port.to_string()]);
        command.arg("--data-dir").arg(place.path().join("data"));
        command.arg("--dir").arg(place.path());
        command
    };
    let file = place.path().join("dump.rdb");
    // One whole key, then the end of the file.
    std::fs::write(&file, b"REDIS0010\x00\x01k\x01v\x00\x01l\x05v").expect("written");
    for _ in 0..2 {
        let (status, log) = refusal(command(), place.path());
        assert!(!status.success());
        assert!(
            log.contains("dump.rdb") && log.contains("repair or remove"),
            "{log}"
        );
    }
    std::fs::write(&file, b"REDIS0010\x00\x01l\x01w\xff\0\0\0\0\0\0\0\0").expect("written");
    let mut process = cairn_tests::process::Process::spawn(
        "the server with its file repaired",
        command(),
        &place.path().join("log"),
    );
    cairn_tests::server::wait_for_ping(&mut process, port);
    let mut client = Client::connect(port);
    assert_eq!(client.words("GET k"), Value::Null, "of the damaged file");
    assert_eq!(client.words("GET l").text(), "w");
}
