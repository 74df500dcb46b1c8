//! What bad input and bad days get: one test for each row of the design's table,
//! and a storm of random bytes.
//!
//! A row that is about crashes is `crash.rs`; exact texts of unknown commands and
//! wrong arities are compared with a real redis-server here and in
//! `differential.rs`. `CAIRN_BAD_INPUT_STREAMS` sizes the storm (default 10,000).

use std::time::{Duration, Instant};

use cairn_tests::peers::{Etcd, Redis};
use cairn_tests::process::Process;
use cairn_tests::resp::{Client, Value, encode};
use cairn_tests::server::{Server, info, refusal, wait_for_ping};
use cairn_tests::{binaries, ports, seed, wait};
use rand::Rng;
use rand::rngs::StdRng;

// ---- malformed RESP, oversized or negative lengths, deep nesting ---------------

#[test]
fn protocol_errors_are_those_of_redis_and_close_the_connection() {
    let (redis, cairn) = (Redis::in_memory(), Server::start(&[]));
    let cases: [&[u8]; 13] = [
        b"*1\r\n$-5\r\n",
        b"*1\r\n$4000000000\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*1\r\n$abc\r\n",
        b"*1\r\n:5\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
        b"*2147483648\r\n",
        b"*x\r\n",
        b"*1\r\nPING\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n+1\r\n",
        b"SET \"unbalanced\r\n",
        b"SET 'a'b\r\n",
        b"*1\r\n$\r\n",
    ];
    for case in cases {
        let expected = reply_and_close(redis.port(), case);
        let actual = reply_and_close(cairn.port(), case);
        assert!(
            expected.starts_with(b"-ERR Protocol error"),
            "{}",
            case.escape_ascii()
        );
        assert_eq!(
            actual.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "to {}",
            case.escape_ascii()
        );
    }
    assert_eq!(cairn.client().words("PING").text(), "PONG");
}

#[test]
fn what_came_before_a_protocol_error_is_answered_first() {
    let cairn = Server::start(&[]);
    let reply = reply_and_close(cairn.port(), b"*1\r\n$4\r\nPING\r\nECHO hi\r\n*1\r\n!\r\n");
    assert_eq!(
        reply.escape_ascii().to_string(),
        "+PONG\\r\\n$2\\r\\nhi\\r\\n-ERR Protocol error: expected \\'$\\', got \\'!\\'\\r\\n"
    );
}

#[test]
fn a_line_without_an_end_is_refused_at_64_kilobytes() {
    let cairn = Server::start(&[]);
    for start in ["", "*", "*1\r\n$"] {
        let mut line = start.as_bytes().to_vec();
        line.resize(line.len() + 70_000, b'1');
        let reply = reply_and_close(cairn.port(), &line);
        let text = String::from_utf8_lossy(&reply).into_owned();
        assert!(text.starts_with("-ERR Protocol error"), "{start:?}: {text}");
    }
}

#[test]
fn nothing_is_allocated_for_what_a_client_merely_declares() {
    let cairn = Server::start(&[]);
    cairn.client().words("PING");
    let before = cairn.resident_bytes();
    // 200 clients that each promise half a gigabyte, or a million arguments.
    let clients: Vec<Client> = (0..200)
        .map(|number| {
            let mut client = cairn.client();
            let claim: &[u8] = match number % 2 {
                0 => b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870912\r\nxyz",
                _ => b"*1000000\r\n$3\r\nDEL\r\n$1\r\na\r\n",
            };
            // Once that is answered the server has come to the claim.
            let bytes = [b"PING\r\n".as_slice(), claim].concat();
            client.send(&bytes).expect("the claim is accepted");
            let answer = client.read_reply().expect("an answer").value;
            assert_eq!(answer.text(), "PONG");
            client
        })
        .collect();
    wait_for_clients(&cairn, 200, |connected, wanted| connected >= wanted);
    let grown = cairn.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "200 claims cost {} MB", grown >> 20);
    drop(clients);
}

// ---- unknown command, wrong arity, wrong type ----------------------------------

#[test]
fn unknown_commands_and_wrong_arities_get_the_bytes_of_redis() {
    let cairn = Server::start(&["--enable-debug-command", "local"]);
    let redis = Redis::in_memory();
    let (mut theirs, mut ours) = (redis.client(), cairn.client());
    let long = "x".repeat(300);
    let many = format!("nosuch {}", vec!["argument"; 40].join(" "));
    for line in [
        "nosuch",
        "NoSuch a b",
        "get",
        "get a b",
        "set a",
        "mset a",
        "client nosuch",
        "client",
        "config",
        "object nosuch a",
        "command nosuch",
        "hello 99",
        "hello 3 auth a",
        "select",
        "select x",
        "select 99",
        &format!("{long} {long}"),
        &many,
        "nosuch quote'd \"text\"",
        "auth a b c",
        "auth nopassword",
        "expire a notanumber",
        "set a 1 ex 0",
        "set a 1 nx xx",
        "incrby a x",
        "setrange a -1 x",
        "copy a a",
        "debug nosuch",
        "swapdb x 1",
        "swapdb 0 99",
        "lcs a b len idx",
        "getex a ex",
    ] {
        let mut request = Vec::new();
        encode(&mut request, &line.split(' ').collect::<Vec<_>>());
        let expected = theirs.pipeline(&request, 1).expect("redis answers");
        let actual = ours.pipeline(&request, 1).expect("cairn answers");
        assert_eq!(
            actual[0].raw.escape_ascii().to_string(),
            expected[0].raw.escape_ascii().to_string(),
            "to {line:?}"
        );
    }
}

#[test]
fn bytes_that_would_break_a_reply_are_made_harmless_in_errors() {
    let (redis, cairn) = (Redis::in_memory(), Server::start(&[]));
    let mut request = Vec::new();
    encode(
        &mut request,
        &[b"no\r\nsuch\0".as_slice(), b"a\r\n+OK\r\n", b"\xff\xfe"],
    );
    let expected = redis.client().pipeline(&request, 1).expect("redis answers");
    let actual = cairn.client().pipeline(&request, 1).expect("cairn answers");
    assert_eq!(
        actual[0].raw.escape_ascii().to_string(),
        expected[0].raw.escape_ascii().to_string()
    );
}

// ---- before AUTH ---------------------------------------------------------------

#[test]
fn before_auth_only_small_requests_are_read() {
    let (redis, cairn) = (
        Redis::start(&["--requirepass", "secret", "--save", ""]),
        Server::start(&["--requirepass", "secret"]),
    );
    for case in [
        &b"*11\r\n$3\r\nSET\r\n"[..],
        b"*2\r\n$3\r\nGET\r\n$16385\r\n",
    ] {
        let expected = reply_and_close(redis.port(), case);
        let actual = reply_and_close(cairn.port(), case);
        assert!(expected.starts_with(b"-ERR Protocol error: unauthenticated"));
        assert_eq!(
            actual.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }
    let mut client = cairn.client();
    assert_eq!(
        client.words("GET a").error().as_deref(),
        Some("NOAUTH Authentication required.")
    );
    let wrong = client.words("AUTH wrong").error().unwrap_or_default();
    assert!(wrong.starts_with("WRONGPASS "), "{wrong}");
    assert_eq!(client.words("AUTH secret").text(), "OK");
    let value = vec![b'v'; 100_000];
    assert_eq!(
        client.command(&[b"SET".as_slice(), b"a", &value]).text(),
        "OK"
    );
}

// ---- memory, disk or queue at its limit ----------------------------------------

#[test]
fn at_the_memory_limit_writes_are_refused_and_del_and_reads_work() {
    let cairn = Server::start(&["--memory-limit", "64mb"]);
    let mut client = cairn.client();
    client.words("SET before 1");
    // Requests that are not complete are memory as well: 40 times 8 MB.
    let part = vec![b'v'; 8 << 20];
    let mut hoarders: Vec<Client> = (0..40).map(|_| cairn.client()).collect();
    for hoarder in &mut hoarders {
        hoarder.set_timeout(Duration::from_secs(5));
        hoarder
            .send(b"*3\r\n$3\r\nSET\r\n$1\r\nh\r\n$9000000\r\n")
            .expect("the start is read");
        // Held back by the server: as good as refused.
        let _ = hoarder.send(&part);
    }
    assert_refused_at_the_limit(&mut client, "OOM ");
    drop(hoarders);
    assert_writes_work_again(&mut client);
}

#[test]
fn at_the_disk_limit_writes_are_refused_and_del_and_reads_work() {
    let cairn = Server::start(&[]);
    let mut client = cairn.client();
    client.words("SET before 1");
    let set = client.words("CONFIG SET min-free-disk 1000000000000000");
    assert_eq!(set, Value::Simple(b"OK".to_vec()));
    assert_refused_at_the_limit(&mut client, "DISKFULL ");
    assert_eq!(client.words("CONFIG SET min-free-disk 0").text(), "OK");
    assert_writes_work_again(&mut client);
}

/// The limit may be noticed a moment after it is reached.
fn assert_refused_at_the_limit(client: &mut Client, prefix: &str) {
    wait::until(
        &format!("writes to be refused with {prefix}"),
        Duration::from_secs(15),
        || {
            client
                .words("SET a 1")
                .error()?
                .starts_with(prefix)
                .then_some(())
        },
    );
    for write in ["INCR c", "APPEND before x", "MSET a 1 b 2", "SETEX e 10 x"] {
        let error = client.words(write).error().unwrap_or_default();
        assert!(error.starts_with(prefix), "{write} at the limit: {error:?}");
    }
    assert_eq!(client.words("GET before").text(), "1");
    assert_eq!(client.words("DEL before").integer(), 1);
}

fn assert_writes_work_again(client: &mut Client) {
    wait::until("writes to work again", Duration::from_secs(15), || {
        (!client.words("SET a 1").is_error()).then_some(())
    });
}

#[test]
fn a_client_that_never_reads_its_replies_is_ended_or_held_back() {
    let cairn = Server::start(&["--memory-limit", "1gb"]);
    let mut client = cairn.client();
    let value = vec![b'v'; 1 << 20];
    client.command(&[b"SET".as_slice(), b"big", &value]);
    let before = cairn.resident_bytes();
    let mut greedy = cairn.client();
    greedy.set_timeout(Duration::from_secs(3));
    let mut request = Vec::new();
    (0..100).for_each(|_| encode(&mut request, &["GET", "big"]));
    // 20 GB of replies are asked for; beyond the share of the memory limit that may be
    // unread (64 MB) the server stops reading (the send times out) or ends the connection.
    let _ended = (0..200).any(|_| greedy.send(&request).is_err());
    let asked = Instant::now();
    assert_eq!(client.words("PING").text(), "PONG");
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "others wait for the greedy client"
    );
    let grown = cairn.resident_bytes().saturating_sub(before);
    // Besides, what was made of the requests that were read already.
    assert!(grown < 256 << 20, "unread replies cost {} MB", grown >> 20);
}

#[test]
fn above_maxclients_a_connection_is_refused_with_the_text_of_redis() {
    let cairn = Server::start(&["--maxclients", "5"]);
    let mut clients: Vec<Client> = (0..5).map(|_| cairn.client()).collect();
    clients
        .iter_mut()
        .for_each(|client| assert_eq!(client.words("PING").text(), "PONG"));
    let reply = cairn.client().read_reply().expect("a refusal is said");
    assert_eq!(reply.raw, b"-ERR max number of clients reached\r\n");
    clients.pop();
    wait::until("the freed place", Duration::from_secs(5), || {
        let mut client = cairn.client();
        matches!(client.try_command(&["PING"]), Ok(Value::Simple(_))).then_some(())
    });
}

// ---- etcd away at start of a cluster node --------------------------------------

#[test]
fn a_node_without_etcd_waits_says_so_and_starts_when_etcd_comes() {
    let mut etcd = Etcd::not_started();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = ports::free_port();
    let mut command = std::process::Command::new(binaries::cairn("cairn-server"));
    command.args(["--cluster", "late", "--etcd", &etcd.url(), "--node-id", "1"]);
    command.args([
        "--port",
        &port.to_string(),
        "--peer-port",
        &ports::free_port().to_string(),
    ]);
    command.arg("--data-dir").arg(folder.path().join("data"));
    let mut node = Process::spawn("node", command, &folder.path().join("node.log"));
    wait::until("a log line about etcd", Duration::from_secs(30), || {
        node.assert_alive();
        node.log_text().contains("waiting for etcd").then_some(())
    });
    etcd.start_now();
    let admin = cairn_tests::admin::Admin {
        cluster: "late".into(),
        etcd: etcd.url(),
    };
    wait::until("cluster-admin init", Duration::from_secs(30), || {
        admin.output(&["init"]).status.success().then_some(())
    });
    wait_for_ping(&mut node, port);
}

// ---- data directory of another node, cluster or format -------------------------

#[test]
fn an_unknown_format_of_the_data_directory_is_refused_and_left_alone() {
    let mut server = Server::start(&[]);
    server.client().words("SET a 1");
    assert!(server.stop().success());
    let identity = server.data_dir().join("IDENTITY");
    let original = std::fs::read_to_string(&identity).expect("the identity can be read");
    let unknown = original.replace("\"format\":", "\"format\":9");
    assert_ne!(
        unknown, original,
        "IDENTITY has another form than this test knows"
    );
    std::fs::write(&identity, unknown).expect("the format can be changed");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (status, text) = refusal(server.command(), folder.path());
    assert!(!status.success());
    assert!(
        text.contains("format"),
        "the refusal does not say why: {text}"
    );
    std::fs::write(&identity, original).expect("the format can be restored");
    server.restart();
    assert_eq!(server.client().words("GET a").text(), "1");
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = std::process::Command::new(binaries::cairn("cairn-server"));
    command.args(["--port", &ports::free_port().to_string(), "--data-dir"]);
    command.arg(server.data_dir());
    let (status, text) = refusal(command, folder.path());
    assert!(!status.success());
    assert!(
        text.contains("in use by another server"),
        "the refusal does not say why: {text}"
    );
}

#[test]
fn a_standalone_data_directory_in_a_cluster_is_refused_with_the_way_in() {
    let mut server = Server::start(&[]);
    server.client().words("SET a 1");
    assert!(server.stop().success());
    let etcd = Etcd::start();
    let admin = cairn_tests::admin::Admin {
        cluster: "other".into(),
        etcd: etcd.url(),
    };
    admin.run(&["init"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = std::process::Command::new(binaries::cairn("cairn-server"));
    command.args([
        "--cluster",
        "other",
        "--etcd",
        &etcd.url(),
        "--node-id",
        "1",
    ]);
    command.args(["--port", &ports::free_port().to_string()]);
    command.args(["--peer-port", &ports::free_port().to_string()]);
    command.arg("--data-dir").arg(server.data_dir());
    let (status, text) = refusal(command, folder.path());
    assert!(!status.success());
    assert!(
        text.contains("standalone"),
        "the refusal does not say why: {text}"
    );
    assert!(
        text.contains("adopt") || text.contains("import"),
        "no way in is named: {text}"
    );
    server.restart();
    assert_eq!(server.client().words("GET a").text(), "1");
}

#[test]
fn a_data_directory_of_another_node_or_cluster_is_refused() {
    let etcd = Etcd::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let start = |cluster: &str, node: &str| {
        let mut command = std::process::Command::new(binaries::cairn("cairn-server"));
        command.args([
            "--cluster",
            cluster,
            "--etcd",
            &etcd.url(),
            "--node-id",
            node,
        ]);
        command.args(["--port", &ports::free_port().to_string()]);
        command.args(["--peer-port", &ports::free_port().to_string()]);
        command.arg("--data-dir").arg(folder.path().join("data"));
        command
    };
    for cluster in ["one", "two"] {
        let admin = cairn_tests::admin::Admin {
            cluster: cluster.into(),
            etcd: etcd.url(),
        };
        admin.run(&["init", "--group", "1=n1"]);
    }
    let mut first = Process::spawn("node", start("one", "n1"), &folder.path().join("node.log"));
    wait::until(
        "the identity of the data directory",
        Duration::from_secs(30),
        || {
            first.assert_alive();
            folder.path().join("data/IDENTITY").exists().then_some(())
        },
    );
    first.kill9();
    for (cluster, node) in [("one", "n2"), ("two", "n1")] {
        let (status, text) = refusal(start(cluster, node), folder.path());
        assert!(!status.success());
        assert!(
            text.contains("belongs to node `n1` of cluster `one`"),
            "{text}"
        );
    }
}

#[test]
fn a_wrong_setting_is_refused_with_its_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, value) in [
        ("--appendfsync", "sometimes"),
        ("--no-such-setting", "1"),
        ("--port", "x"),
    ] {
        let mut command = std::process::Command::new(binaries::cairn("cairn-server"));
        command
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args([name, value]);
        let (status, text) = refusal(command, folder.path());
        assert!(!status.success());
        assert!(
            text.contains(name.trim_start_matches('-')),
            "{name} is not named: {text}"
        );
    }
}

// ---- the storm -----------------------------------------------------------------

#[test]
fn random_streams_and_truncated_frames_never_crash_hang_or_leak() {
    let streams = seed::size("CAIRN_BAD_INPUT_STREAMS", 10_000);
    let seed = seed::seed("bad input");
    let server = Server::start(&[]);
    let mut watcher = server.client();
    watcher.words("PING");
    storm(&server, seed, 0, streams / 10);
    let warm = server.resident_bytes();
    for actor in 1..10 {
        storm(&server, seed, actor, streams / 10);
        let asked = Instant::now();
        assert_eq!(watcher.words("PING").text(), "PONG");
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "PING took {:?}",
            asked.elapsed()
        );
    }
    let grown = server.resident_bytes().saturating_sub(warm);
    assert!(
        grown < 200 << 20,
        "{streams} bad streams cost {} MB",
        grown >> 20
    );
    wait_for_clients(&server, 2, |connected, wanted| connected <= wanted);
}

/// Sends streams one after the other from a few threads; most are hung up on.
fn storm(server: &Server, seed: u64, actor: u64, streams: u64) {
    let port = server.port();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let mut rng = seed::rng(seed, actor * 4 + thread);
                for _ in 0..streams / 4 {
                    one_stream(port, &mut rng);
                }
            });
        }
    });
}

fn one_stream(port: u16, rng: &mut StdRng) {
    let bytes = bad_bytes(rng);
    let mut client = Client::connect(port);
    client.set_timeout(Duration::from_secs(10));
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let cut = if rng.random_range(0..3) == 0 {
            rng.random_range(1..=rest.len())
        } else {
            rest.len()
        };
        // The server may have hung up already.
        if client.send(&rest[..cut]).is_err() {
            return;
        }
        rest = &rest[cut..];
    }
    if rng.random_range(0..4) == 0 {
        return;
    }
    client.finish_sending();
    let end = client.read_to_close();
    assert!(
        end.is_ok(),
        "a stream hangs: {} ({end:?})",
        bytes.escape_ascii()
    );
}

fn bad_bytes(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..5) {
        0 => (0..rng.random_range(1..2_000))
            .map(|_| rng.random())
            .collect(),
        1 => truncated(rng),
        2 => mutated(rng),
        3 => letters(rng),
        _ => format!("*{}\r\n", rng.random_range(1..20))
            .repeat(rng.random_range(1..20_000))
            .into_bytes(),
    }
}

/// Commands that are harmless and quick, well formed.
fn good_bytes(rng: &mut StdRng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.random_range(1..20) {
        let key = format!("key:{}", rng.random_range(0..100));
        let value = vec![b'v'; rng.random_range(0..500)];
        match rng.random_range(0..6) {
            0 => encode(&mut out, &[b"SET".as_slice(), key.as_bytes(), &value]),
            1 => encode(&mut out, &["GET", &key]),
            2 => encode(&mut out, &["MGET", &key, "a", "b"]),
            3 => encode(&mut out, &["PING"]),
            4 => out.extend_from_slice(b"PING inline\r\n"),
            _ => encode(&mut out, &["DEL", &key]),
        }
    }
    out
}

fn truncated(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = good_bytes(rng);
    bytes.truncate(rng.random_range(1..=bytes.len()));
    bytes
}

fn mutated(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = good_bytes(rng);
    for _ in 0..rng.random_range(1..10) {
        let place = rng.random_range(0..bytes.len());
        match rng.random_range(0..3) {
            0 => bytes[place] = rng.random(),
            1 => bytes.insert(place, b"*$:-\r\n0123456789"[rng.random_range(0..16)]),
            _ => {
                bytes.remove(place);
            }
        }
        if bytes.is_empty() {
            return vec![0];
        }
    }
    bytes
}

/// Only characters that mean something to a parser.
fn letters(rng: &mut StdRng) -> Vec<u8> {
    let alphabet = b"*$+-:_#,(!=%~>|\r\n\"'\\x0123456789 abPING";
    (0..rng.random_range(1..1_000))
        .map(|_| alphabet[rng.random_range(0..alphabet.len())])
        .collect()
}

// ---- shared --------------------------------------------------------------------

/// Everything that comes back until the server closes the connection.
fn reply_and_close(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(port);
    client.set_timeout(Duration::from_secs(10));
    // The server may hang up before the last byte is sent.
    let _ = client.send(bytes);
    client.read_to_close().unwrap_or_else(|error| {
        panic!(
            "no end of the connection after {} ({error})",
            bytes.escape_ascii()
        )
    })
}

fn wait_for_clients(server: &Server, wanted: u64, enough: impl Fn(u64, u64) -> bool) {
    let mut watcher = server.client();
    wait::until(
        &format!("about {wanted} connected clients"),
        Duration::from_secs(30),
        || {
            let connected = info(&mut watcher, "connected_clients")
                .parse()
                .expect("a number");
            enough(connected, wanted).then_some(())
        },
    );
}
