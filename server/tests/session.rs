//! The real program over TCP: connection and server commands, byte for byte,
//! its configuration, its start and its end. Where a redis-server 7.0 is on
//! the PATH, the same requests go to both and the replies are compared.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use cairn_protocol::resp::{FrameScanner, ScanLimits, encode_request};

const DEADLINE: Duration = Duration::from_secs(30);

/// A running server in a temporary folder; killed when dropped.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(flags: &[&str]) -> Server {
        Server::start_in(tempfile::tempdir().unwrap(), flags)
    }

    fn start_in(folder: tempfile::TempDir, flags: &[&str]) -> Server {
        let child = program(folder.path())
            .args(flags)
            .args(["--port", "0", "--memory-limit", "64mb"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Server {
            child,
            port: 0,
            folder,
        };
        let mut log = BufReader::new(server.child.stderr.take().unwrap());
        let mut seen = String::new();
        while server.port == 0 {
            let mut line = String::new();
            assert_ne!(
                log.read_line(&mut line).unwrap(),
                0,
                "the server ended:\n{seen}"
            );
            if line.contains("Ready to accept connections") {
                let (_, rest) = line.split_once("port=").expect("the line names the port");
                server.port = rest.split_whitespace().next().unwrap().parse().unwrap();
            }
            seen.push_str(&line);
        }
        // The pipe must not fill up.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        server
    }

    fn connect(&self) -> Client {
        Client::to(self.port)
    }

    /// Waits for the end and gives back the folder.
    fn ended(mut self) -> (ExitStatus, tempfile::TempDir) {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "the server does not stop"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        (status, folder)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn-server"));
    command.current_dir(folder).env_remove("CAIRN_LOG");
    command
}

/// Runs the program to its end.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    program(folder).args(arguments).output().unwrap()
}

/// A connection that shows replies as they come.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    fn to(port: u16) -> Client {
        let deadline = Instant::now() + DEADLINE;
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "port {port}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client {
            stream,
            input: Vec::new(),
        }
    }

    fn send(&mut self, words: &[&str]) {
        let mut request = Vec::new();
        encode_request(&mut request, words.iter().map(|w| w.as_bytes()));
        self.stream.write_all(&request).unwrap();
    }

    /// One whole reply as it was on the wire.
    fn reply(&mut self) -> String {
        let mut scanner = FrameScanner::new(ScanLimits::default());
        loop {
            if let Some(len) = scanner.scan(&self.input).unwrap() {
                let reply: Vec<u8> = self.input.drain(..len).collect();
                return String::from_utf8_lossy(&reply).into_owned();
            }
            let mut chunk = [0; 64 << 10];
            let n = self.stream.read(&mut chunk).unwrap();
            assert_ne!(n, 0, "closed in the middle of a reply: {:?}", self.input);
            self.input.extend_from_slice(&chunk[..n]);
        }
    }

    fn ask(&mut self, words: &[&str]) -> String {
        self.send(words);
        self.reply()
    }

    /// A request in one line; blanks part the words.
    fn line(&mut self, line: &str) -> String {
        self.ask(&line.split(' ').collect::<Vec<_>>())
    }

    /// The connection was closed and nothing more comes.
    fn is_closed(&mut self) -> bool {
        let mut rest = [0; 64];
        matches!(self.stream.read(&mut rest), Ok(0) | Err(_)) && self.input.is_empty()
    }

    /// The value of a line `name:value` of INFO.
    fn info(&mut self, section: &str, name: &str) -> String {
        let text = self.ask(&["INFO", section]);
        let found = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        found
            .unwrap_or_else(|| panic!("INFO {section} has no {name}:\n{text}"))
            .to_owned()
    }
}

#[test]
fn a_connection_says_hello_and_goodbye() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    assert_eq!(c.line("PING"), "+PONG\r\n");
    assert_eq!(c.line("ping hi"), "$2\r\nhi\r\n");
    assert_eq!(
        c.line("PING a b"),
        "-ERR wrong number of arguments for 'ping' command\r\n"
    );
    assert_eq!(c.line("ECHO x"), "$1\r\nx\r\n");
    let id: u64 = c.line("CLIENT ID")[1..].trim().parse().unwrap();
    assert_eq!(
        c.line("HELLO 3 SETNAME me"),
        format!(
            "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n\
             :3\r\n$2\r\nid\r\n:{id}\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\n\
             master\r\n$7\r\nmodules\r\n*0\r\n"
        )
    );
    assert_eq!(c.line("CLIENT GETNAME"), "$2\r\nme\r\n");
    assert_eq!(
        c.line("HELLO 4"),
        "-NOPROTO unsupported protocol version\r\n"
    );
    assert_eq!(
        c.line("HELLO x"),
        "-ERR Protocol version is not an integer or out of range\r\n"
    );
    assert_eq!(c.line("SELECT 15"), "+OK\r\n");
    assert_eq!(c.line("SELECT 16"), "-ERR DB index is out of range\r\n");
    assert_eq!(c.line("RESET"), "+RESET\r\n");
    assert_eq!(c.line("CLIENT GETNAME"), "$-1\r\n");
    assert!(c.line("CLIENT INFO").contains(" db=0 "));
    assert_eq!(c.line("QUIT"), "+OK\r\n");
    assert!(c.is_closed());
}

#[test]
fn a_password_is_asked_for_and_can_be_changed() {
    let server = Server::start(&["--requirepass", "old secret"]);
    let mut c = server.connect();
    let refused = "-NOAUTH Authentication required.\r\n";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    assert_eq!(c.line("GET x"), refused);
    assert!(
        c.line("HELLO 3")
            .starts_with("-NOAUTH HELLO must be called with the client already")
    );
    assert_eq!(c.line("AUTH nope"), wrong);
    assert_eq!(c.ask(&["AUTH", "somebody", "old secret"]), wrong);
    assert_eq!(c.ask(&["AUTH", "old secret"]), "+OK\r\n");
    assert_eq!(c.line("GET x"), "$-1\r\n");
    assert_eq!(c.line("CONFIG SET requirepass new"), "+OK\r\n");
    // Who is in stays in.
    assert_eq!(c.line("PING"), "+PONG\r\n");
    let mut other = server.connect();
    assert_eq!(other.ask(&["AUTH", "old secret"]), wrong);
    assert!(other.line("HELLO 3 AUTH default new").starts_with("%7\r\n"));
    // No secret is shown to SLOWLOG.
    assert_eq!(c.line("CONFIG SET slowlog-log-slower-than 0"), "+OK\r\n");
    assert_eq!(c.line("CONFIG SET requirepass hidden"), "+OK\r\n");
    assert_eq!(c.line("AUTH hidden"), "+OK\r\n");
    let log = c.line("SLOWLOG GET -1");
    assert!(
        log.contains("(redacted)") && !log.contains("hidden"),
        "{log}"
    );
}

#[test]
fn settings_are_read_set_and_refused_as_in_redis() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    assert_eq!(
        c.line("CONFIG GET appendfsync"),
        "*2\r\n$11\r\nappendfsync\r\n$8\r\neverysec\r\n"
    );
    assert_eq!(c.line("CONFIG SET maxmemory 1gb timeout 7"), "+OK\r\n");
    assert_eq!(
        c.line("CONFIG GET maxmemory"),
        "*2\r\n$9\r\nmaxmemory\r\n$10\r\n1073741824\r\n"
    );
    assert_eq!(
        c.line("CONFIG SET timeout 9 appendfsync often"),
        "-ERR CONFIG SET failed (possibly related to argument 'appendfsync') - argument(s) must \
         be one of the following: everysec, always, no\r\n"
    );
    // All or nothing.
    assert_eq!(
        c.line("CONFIG GET timeout"),
        "*2\r\n$7\r\ntimeout\r\n$1\r\n7\r\n"
    );
    assert_eq!(
        c.line("CONFIG SET timeout 1 timeout 2"),
        "-ERR CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter\r\n"
    );
    assert_eq!(
        c.line("CONFIG SET databases 1"),
        "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set \
         immutable config\r\n"
    );
    assert_eq!(
        c.line("CONFIG SET nothing 1"),
        "-ERR Unknown option or number of arguments for CONFIG SET - 'nothing'\r\n"
    );
    assert_eq!(
        c.line("CONFIG SET timeout"),
        "-ERR wrong number of arguments for 'config|set' command\r\n"
    );
    assert_eq!(c.line("CONFIG SET timeout 1 x"), "-ERR syntax error\r\n");
    assert_eq!(
        c.line("CONFIG"),
        "-ERR wrong number of arguments for 'config' command\r\n"
    );
    assert_eq!(
        c.line("CONFIG NOPE"),
        "-ERR unknown subcommand 'NOPE'. Try CONFIG HELP.\r\n"
    );
    assert_eq!(
        c.line("CONFIG REWRITE"),
        "-ERR The server is running without a config file\r\n"
    );
}

#[test]
fn a_rewritten_file_starts_the_server_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cairn.conf");
    std::fs::write(&file, "# my comment\nmaxclients 77\n").unwrap();
    let server = Server::start_in(folder, &["--config", "cairn.conf"]);
    let mut c = server.connect();
    assert_eq!(
        c.line("CONFIG SET maxclients 78 slowlog-max-len 5"),
        "+OK\r\n"
    );
    assert_eq!(c.line("CONFIG REWRITE"), "+OK\r\n");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# my comment\nmaxclients 78\n"), "{text}");
    c.send(&["SHUTDOWN"]);
    assert!(c.is_closed());
    let (status, folder) = server.ended();
    assert!(status.success());
    let server = Server::start_in(folder, &["cairn.conf"]);
    let mut c = server.connect();
    assert_eq!(
        c.line("CONFIG GET slowlog-max-len"),
        "*2\r\n$15\r\nslowlog-max-len\r\n$1\r\n5\r\n"
    );
}

#[test]
fn info_has_redis_s_sections_and_fields() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    assert_eq!(c.line("SET a 1"), "+OK\r\n");
    assert_eq!(c.line("SET b 2 PX 100000"), "+OK\r\n");
    assert_eq!(c.info("server", "redis_version"), "7.0.15");
    assert_eq!(c.info("server", "tcp_port"), server.port.to_string());
    assert_eq!(c.info("server", "redis_mode"), "standalone");
    assert_eq!(c.info("replication", "role"), "master");
    assert_eq!(c.info("clients", "connected_clients"), "1");
    assert!(c.info("memory", "used_memory").parse::<u64>().unwrap() > 1 << 20);
    assert_eq!(c.info("cairn", "durability"), "everysec");
    let db0 = c.info("keyspace", "db0");
    let ttl = db0.strip_prefix("keys=2,expires=1,avg_ttl=").expect(&db0);
    assert!(
        (1..=100_000).contains(&ttl.parse::<u64>().unwrap()),
        "{db0}"
    );
    assert!(
        c.info("commandstats", "cmdstat_set")
            .starts_with("calls=2,usec=")
    );
    assert_eq!(
        c.line("INCR a b"),
        "-ERR wrong number of arguments for 'incr' command\r\n"
    );
    assert_eq!(c.info("errorstats", "errorstat_ERR"), "count=1");
    assert!(
        c.info("commandstats", "cmdstat_incr")
            .ends_with("rejected_calls=1,failed_calls=0")
    );
    assert!(
        c.info("latencystats", "latency_percentiles_usec_set")
            .starts_with("p50=")
    );
    let usual = c.line("INFO");
    assert!(usual.contains("\r\n\r\n# CPU\r\n") && !usual.contains("# Commandstats"));
    assert!(c.line("INFO everything").contains("# Latencystats"));
    assert!(c.line("INFO all").contains("# Modules"));
    assert_eq!(c.line("INFO nothing"), "$0\r\n\r\n");
    assert_eq!(c.line("CONFIG RESETSTAT"), "+OK\r\n");
    assert!(!c.line("INFO commandstats").contains("cmdstat_set:"));
}

#[test]
fn refusals_within_scripts_and_transactions_are_counted() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    c.send(&["EVAL", "return redis.pcall('GET')", "0"]);
    assert_eq!(
        c.reply(),
        "-ERR Wrong number of args calling Redis command from script\r\n"
    );
    assert_eq!(c.line("MULTI"), "+OK\r\n");
    assert_eq!(
        c.line("WATCH a"),
        "-ERR WATCH inside MULTI is not allowed\r\n"
    );
    assert_eq!(c.line("EXEC"), "*0\r\n");
    assert_eq!(
        c.info("commandstats", "cmdstat_get"),
        "calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0"
    );
    let watched = c.info("commandstats", "cmdstat_watch");
    assert!(watched.starts_with("calls=1,"), "{watched}");
    assert!(
        watched.ends_with("rejected_calls=0,failed_calls=1"),
        "{watched}"
    );
    assert_eq!(c.info("errorstats", "errorstat_ERR"), "count=2");
}

#[test]
fn clients_see_pause_and_kill_each_other() {
    let server = Server::start(&[]);
    let (mut a, mut b) = (server.connect(), server.connect());
    assert_eq!(b.line("CLIENT SETNAME b"), "+OK\r\n");
    let id = b.line("CLIENT ID")[1..].trim().to_owned();
    let list = a.line("CLIENT LIST");
    assert!(
        list.contains(" name=b ") && list.contains(" cmd=client|list "),
        "{list}"
    );
    assert_eq!(a.line("CLIENT LIST TYPE replica"), "$0\r\n\r\n");
    assert_eq!(a.line("CLIENT KILL 1.1.1.1:1"), "-ERR No such client\r\n");

    assert_eq!(a.line("CLIENT PAUSE 60000 WRITE"), "+OK\r\n");
    assert_eq!(b.line("GET x"), "$-1\r\n");
    b.send(&["SET", "x", "1"]);
    assert_eq!(a.line("GET x"), "$-1\r\n");
    assert_eq!(a.line("CLIENT UNPAUSE"), "+OK\r\n");
    assert_eq!(b.reply(), "+OK\r\n");
    assert_eq!(a.line("GET x"), "$1\r\n1\r\n");

    assert_eq!(a.line(&format!("CLIENT KILL ID {id}")), ":1\r\n");
    assert!(b.is_closed());
    assert_eq!(a.line("CLIENT NO-EVICT ON"), "+OK\r\n");
    assert!(a.line("CLIENT INFO").contains(" flags=e "));
    a.send(&["CLIENT", "REPLY", "SKIP"]);
    a.send(&["PING"]);
    assert_eq!(a.line("ECHO after"), "$5\r\nafter\r\n");
    a.send(&["CLIENT", "REPLY", "OFF"]);
    a.send(&["PING"]);
    assert_eq!(a.line("CLIENT REPLY ON"), "+OK\r\n");
    a.send(&["CLIENT", "REPLY", "SKIP"]);
    a.send(&["RESET"]);
    assert_eq!(a.line("PING"), "+PONG\r\n");
}

/// A web page can have a browser send commands among its lines.
#[test]
fn a_client_that_speaks_http_is_closed_before_it_runs_anything() {
    let server = Server::start(&["--save", ""]);
    for first in ["POST / HTTP/1.1", "Host: localhost"] {
        let mut client = server.connect();
        let lines = format!("SET before 1\r\n{first}\r\nSET behind 1\r\n");
        client.stream.write_all(lines.as_bytes()).unwrap();
        let mut rest = Vec::new();
        client.stream.read_to_end(&mut rest).unwrap();
        assert!(b"+OK\r\n".starts_with(&rest), "{}", rest.escape_ascii());
    }
    let mut client = server.connect();
    assert_eq!(client.line("EXISTS before behind"), ":1\r\n");
}

#[test]
fn idle_clients_are_closed_after_the_timeout() {
    let server = Server::start(&[]);
    let (mut a, mut b) = (server.connect(), server.connect());
    assert_eq!(b.line("PING"), "+PONG\r\n");
    assert_eq!(a.line("CONFIG SET timeout 1"), "+OK\r\n");
    assert!(b.is_closed());
}

#[test]
fn debug_is_off_unless_it_was_allowed() {
    let server = Server::start(&[]);
    assert!(
        server
            .connect()
            .line("DEBUG HELP")
            .starts_with("-ERR DEBUG command not allowed.")
    );
    let server = Server::start(&["--enable-debug-command", "local"]);
    let mut c = server.connect();
    assert_eq!(c.line("DEBUG DIGEST"), format!("+{}\r\n", "0".repeat(40)));
    assert_eq!(c.line("SET k v"), "+OK\r\n");
    let digest = c.line("DEBUG DIGEST");
    assert_eq!(c.line("DEBUG RELOAD"), "+OK\r\n");
    assert_eq!(c.line("DEBUG DIGEST"), digest);
    assert_eq!(c.line("SET k w"), "+OK\r\n");
    assert_ne!(c.line("DEBUG DIGEST"), digest);
    assert_eq!(c.line("SET k v"), "+OK\r\n");
    assert_eq!(c.line("DEBUG COMPACT"), "+OK\r\n");
    assert_eq!(c.line("DEBUG DIGEST"), digest);
    assert_eq!(
        c.line("DEBUG DIGEST-VALUE none"),
        format!("*1\r\n+{}\r\n", "0".repeat(40))
    );
    let object = c.line("DEBUG OBJECT k");
    // A byte for the length and one for the value.
    let described = " encoding:embstr serializedlength:2 lru:";
    assert!(object.contains(described), "{object}");
    assert!(!object.contains(" lru:0 "), "{object}");
    assert_eq!(c.line("DEBUG OBJECT none"), "-ERR no such key\r\n");
    assert_eq!(c.line("DEBUG SET-ACTIVE-EXPIRE 0"), "+OK\r\n");
    // What sleeps is slow.
    assert_eq!(c.line("CONFIG SET latency-monitor-threshold 5"), "+OK\r\n");
    assert_eq!(c.line("DEBUG SLEEP 0.02"), "+OK\r\n");
    assert!(
        c.line("SLOWLOG GET 1")
            .contains("$5\r\nDEBUG\r\n$5\r\nSLEEP\r\n")
    );
    assert!(
        c.line("LATENCY LATEST")
            .starts_with("*1\r\n*4\r\n$7\r\ncommand\r\n")
    );
    assert!(
        c.line("LATENCY HISTORY command")
            .starts_with("*1\r\n*2\r\n:")
    );
    assert!(c.line("LATENCY GRAPH command").contains("command - high "));
    assert_eq!(c.line("LATENCY RESET"), ":1\r\n");
}

#[test]
fn a_full_disk_refuses_what_needs_space_and_serves_the_rest() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    assert_eq!(c.line("SET k v"), "+OK\r\n");
    assert_eq!(c.line("CONFIG SET min-free-disk 8000000gb"), "+OK\r\n");
    let deadline = Instant::now() + DEADLINE;
    while c.info("cairn", "disk_full") == "0" {
        assert!(Instant::now() < deadline, "the disk is never full");
    }
    assert!(
        c.line("SET k w")
            .starts_with("-DISKFULL less than min-free-disk is left")
    );
    assert_eq!(c.line("GET k"), "$1\r\nv\r\n");
    assert_eq!(c.line("DEL k"), ":1\r\n");
    assert_eq!(c.line("CONFIG SET min-free-disk 0"), "+OK\r\n");
    while c.info("cairn", "disk_full") == "1" {
        assert!(Instant::now() < deadline, "the disk stays full");
    }
    assert_eq!(c.line("SET k w"), "+OK\r\n");
}

#[test]
fn shutdown_ends_cleanly_and_what_was_written_is_there() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    assert_eq!(c.line("SHUTDOWN NOW SAVE NOSAVE"), "-ERR syntax error\r\n");
    assert_eq!(
        c.line("SHUTDOWN ABORT"),
        "-ERR No shutdown in progress.\r\n"
    );
    assert_eq!(c.line("SET k v"), "+OK\r\n");
    c.send(&["SHUTDOWN", "NOSAVE"]);
    assert!(c.is_closed());
    let (status, folder) = server.ended();
    assert!(status.success(), "{status}");
    let server = Server::start_in(folder, &[]);
    assert_eq!(server.connect().line("GET k"), "$1\r\nv\r\n");
}

#[test]
fn a_rewrite_of_the_log_stands_in_no_save_s_way() {
    let server = Server::start(&[]);
    let mut c = server.connect();
    assert_eq!(c.line("SET k v"), "+OK\r\n");
    // Both in one packet: the rewrite has hardly begun when the save is asked for.
    c.send(&["BGREWRITEAOF"]);
    c.send(&["SAVE"]);
    let started = "+Background append only file rewriting started\r\n";
    assert_eq!(c.reply(), started);
    assert_eq!(c.reply(), "+OK\r\n");
    let deadline = Instant::now() + DEADLINE;
    while c.info("persistence", "aof_rewrites") != "1" {
        assert!(Instant::now() < deadline, "the rewrite does not end");
    }
    assert_eq!(c.info("persistence", "aof_rewrite_in_progress"), "0");
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let server = Server::start(&[]);
    let output = run(server.folder.path(), &["--port", "0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("is in use by another server (process "),
        "{said}"
    );
}

#[test]
fn a_foreign_directory_and_a_taken_port_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/notes.txt"), "mine").unwrap();
    let output = run(folder.path(), &["--port", "0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("is not Cairn's"),
        "{said}"
    );

    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = run(folder.path(), &["--port", &port]);
    let said = String::from_utf8_lossy(&output.stderr);
    let line = format!("Failed listening on port {port} (TCP), at 127.0.0.1:{port}: ");
    assert!(!output.status.success() && said.contains(&line), "{said}");
}

#[test]
fn a_configuration_is_checked_with_every_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("bad.conf"),
        "prot 1\nport 70000\nsave 1\n",
    )
    .unwrap();
    let output = run(folder.path(), &["--config", "bad.conf", "--check-config"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "cairn-server: bad.conf:1: unknown setting `prot`; did you mean `port`?",
            "cairn-server: bad.conf:2: port: argument must be between 0 and 65535 inclusive",
            "cairn-server: bad.conf:3: save: Invalid save parameters",
        ]
    );
    let output = run(folder.path(), &["--check-config", "--hz", "50"]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("note: hz has no effect") && said.contains("valid"),
        "{said}"
    );
    assert!(
        !folder.path().join("data").exists(),
        "a check writes nothing"
    );
    let output = run(folder.path(), &["--version"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("cairn-server "));
}

/// A redis-server of this machine, if there is one.
struct Peer {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn start() -> Option<Peer> {
        let folder = tempfile::tempdir().unwrap();
        let port = {
            let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            free.local_addr().unwrap().port()
        };
        let child = Command::new("redis-server")
            .current_dir(folder.path())
            .args([
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--enable-debug-command",
                "yes",
            ])
            .stdout(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Peer {
                child,
                port,
                _folder: folder,
            }),
            Err(_) => {
                println!("skipped: no redis-server on the PATH");
                None
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Requests whose replies must be the same to the byte, in RESP2 and RESP3.
const SAME: &[&str] = &[
    "ACL CAT nope",
    "ACL CAT",
    "ACL GENPASS 0",
    "ACL GENPASS x",
    "ACL GETUSER default",
    "ACL GETUSER nobody",
    "ACL LIST",
    "ACL USERS",
    "ACL WHOAMI",
    "AUTH",
    "AUTH a",
    "AUTH a b",
    "AUTH a b c",
    "AUTH default anything",
    "CLIENT",
    "CLIENT CACHING YES",
    "CLIENT GETNAME",
    "CLIENT GETREDIR",
    "CLIENT HELP",
    "CLIENT KILL",
    "CLIENT KILL 1.2.3.4:5",
    "CLIENT KILL ID 0",
    "CLIENT KILL ID x",
    "CLIENT KILL SKIPME maybe",
    "CLIENT KILL TYPE x",
    "CLIENT KILL TYPE pubsub SKIPME no",
    "CLIENT KILL USER nobody",
    "CLIENT ID x",
    "CLIENT LIST ID x",
    "CLIENT LIST TYPE x",
    "CLIENT LIST x",
    "CLIENT LIST TYPE pubsub",
    "CLIENT NO-EVICT maybe",
    "CLIENT NO-EVICT on",
    "CLIENT NOPE",
    "CLIENT PAUSE x",
    "CLIENT PAUSE -1",
    "CLIENT PAUSE 1 some",
    "CLIENT PAUSE 1 ALL x",
    "CLIENT REPLY maybe",
    "CLIENT SETINFO lib-name x",
    "CLIENT SETNAME name",
    "CLIENT TRACKING",
    "CLIENT TRACKING off",
    "CLIENT TRACKING maybe",
    "CLIENT TRACKINGINFO",
    "CLIENT UNBLOCK 99999",
    "CLIENT UNBLOCK x",
    "CLIENT UNBLOCK 1 maybe",
    "CLIENT UNPAUSE",
    "CLUSTER INFO",
    "COMMAND INFO ping",
    "COMMAND GETKEYS SET k v",
    "COMMAND HELP",
    "COMMAND NOPE",
    "CONFIG",
    "CONFIG GET",
    "CONFIG GET maxclients",
    "CONFIG GET slave-priority",
    "CONFIG GET nothing",
    "CONFIG GET save",
    "CONFIG HELP",
    "CONFIG NOPE",
    "CONFIG RESETSTAT",
    "CONFIG RESETSTAT x",
    "CONFIG SET",
    "CONFIG SET appendfsync always",
    "CONFIG SET appendonly maybe",
    "CONFIG SET a",
    "CONFIG SET a b c",
    "CONFIG SET client-output-buffer-limit x",
    "CONFIG SET daemonize yes",
    "CONFIG SET dbfilename x",
    "CONFIG SET hz x",
    "CONFIG SET hz 20",
    "CONFIG GET hz",
    "CONFIG SET loglevel x",
    "CONFIG SET maxmemory -1",
    "CONFIG SET maxmemory-policy x",
    "CONFIG SET maxclients 0",
    "CONFIG SET notify-keyspace-events KEA",
    "CONFIG GET notify-keyspace-events",
    "CONFIG SET notify-keyspace-events q",
    "CONFIG SET oom-score-adj-values x",
    "CONFIG SET proto-max-bulk-len 1",
    "CONFIG SET save x",
    "CONFIG SET slowlog-log-slower-than -2",
    "CONFIG SET slowlog-max-len 7",
    "CONFIG GET slowlog-max-len",
    "CONFIG SET timeout 1 timeout 2",
    "CONFIG SET tcp-keepalive -1",
    "CONFIG SET tls-port x",
    "CONFIG SET unixsocket x",
    "CONFIG SET unknown 1 timeout 5",
    "CONFIG SET unknown 1",
    "CONFIG SET zset-max-ziplist-entries -1",
    "CONFIG SET zset-max-ziplist-entries 64",
    "CONFIG GET zset-max-listpack-entries",
    "DEBUG CHANGE-REPL-ID",
    "DEBUG DIGEST",
    "DEBUG ERROR oops",
    "DEBUG NOPE",
    "DEBUG OBJECT nokey",
    "DEBUG PROTOCOL array",
    "DEBUG PROTOCOL attrib",
    "DEBUG PROTOCOL bignum",
    "DEBUG PROTOCOL double",
    "DEBUG PROTOCOL false",
    "DEBUG PROTOCOL integer",
    "DEBUG PROTOCOL map",
    "DEBUG PROTOCOL nope",
    "DEBUG PROTOCOL null",
    "DEBUG PROTOCOL set",
    "DEBUG PROTOCOL string",
    "DEBUG PROTOCOL true",
    "DEBUG PROTOCOL verbatim",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 5gb",
    "DEBUG SLEEP 0",
    "DEBUG STRINGMATCH-TEST",
    "ECHO",
    "ECHO a b",
    "GET",
    "HELLO 1",
    "HELLO 9 x",
    "HELLO 2 AUTH a",
    "HELLO 2 AUTH a b",
    "HELLO 2 NOPE",
    "HELLO 2 SETNAME",
    "HELLO x",
    "INFO cluster",
    "INFO keyspace",
    "INFO modules",
    "INFO nothing",
    "LATENCY",
    "LATENCY DOCTOR",
    "LATENCY GRAPH x",
    "LATENCY HELP",
    "LATENCY HISTOGRAM nope",
    "LATENCY HISTORY x",
    "LATENCY LATEST",
    "LATENCY NOPE",
    "LATENCY RESET",
    "LATENCY RESET a b",
    "LOLWUT VERSION x",
    "MODULE",
    "MODULE HELP",
    "MODULE LIST",
    "MODULE LOAD /x",
    "MODULE LOADEX /x",
    "MODULE NOPE",
    "MODULE UNLOAD x",
    "MEMORY",
    "MEMORY HELP",
    "MEMORY NOPE",
    "MEMORY PURGE",
    "NOPE a b",
    "PING",
    "PING a",
    "PING a b",
    "QUIT x y",
    "READONLY",
    "REPLICAOF NO ONE",
    "REPLICAOF a x",
    "RESET x",
    "ROLE",
    "SAVE x",
    "BGSAVE x",
    "SELECT",
    "SELECT 0",
    "SELECT 16",
    "SELECT -1",
    "SELECT x",
    "SELECT 99999999999",
    "SHUTDOWN ABORT",
    "SHUTDOWN SAVE NOSAVE",
    "SHUTDOWN x",
    "SLAVEOF NO ONE",
    "SLOWLOG",
    "SLOWLOG GET -2",
    "SLOWLOG GET x",
    "SLOWLOG GET 1 2",
    "SLOWLOG HELP",
    "SLOWLOG LEN x",
    "SLOWLOG NOPE",
    "SLOWLOG RESET",
    "TIME x",
    "WAIT",
    "WAIT 0 0",
    "WAIT 0 -1",
    "WAIT x 0",
    "WAIT 0 x",
];

#[test]
fn replies_are_redis_s_to_the_byte() {
    let Some(peer) = Peer::start() else { return };
    let server = Server::start(&["--enable-debug-command", "yes", "--save", ""]);
    let mut differences = Vec::new();
    for hello in ["HELLO 2", "HELLO 3"] {
        for request in SAME {
            // Fresh connections: QUIT and the like end them.
            let mut clients = [Client::to(peer.port), server.connect()];
            clients.iter_mut().for_each(|c| drop(c.line(hello)));
            let [theirs, ours] = clients.map(|mut c| c.line(request));
            if theirs != ours {
                differences.push(format!("{hello}, {request}:\n  {theirs:?}\n  {ours:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// All parameters of Redis are known, with its defaults but for a few.
#[test]
fn every_parameter_of_redis_is_known() {
    let Some(peer) = Peer::start() else { return };
    let server = Server::start(&["--save", ""]);
    let pairs = |c: &mut Client| -> std::collections::BTreeMap<String, String> {
        let reply = c.line("CONFIG GET *");
        let mut words = Vec::new();
        let mut lines = reply.split("\r\n").skip(1);
        while let (Some(_), Some(word)) = (lines.next(), lines.next()) {
            words.push(word.to_owned());
        }
        words
            .chunks(2)
            .filter(|p| p.len() == 2)
            .map(|p| (p[0].clone(), p[1].clone()))
            .collect()
    };
    let theirs = pairs(&mut Client::to(peer.port));
    let ours = pairs(&mut server.connect());
    assert!(theirs.len() > 150, "{}", theirs.len());
    let own_defaults = [
        "appendonly",
        "bind",
        "dir",
        "io-threads",
        "port",
        "enable-debug-command",
        "maxclients",
        "save",
        "oom-score-adj-values",
        "proc-title-template",
    ];
    for (name, value) in theirs {
        let known = ours.get(&name);
        assert!(known.is_some(), "{name} is not known");
        if !own_defaults.contains(&name.as_str()) {
            assert_eq!(known, Some(&value), "{name}");
        }
    }
}

/// A read of a client that is ready lets others go first; one that waits does not.
/// Without its place one of sixty rounds went wrong.
#[test]
fn a_change_does_not_overtake_a_read_that_waits() {
    let server = Server::start(&["--io-threads", "1"]);
    let mut changes = server.connect();
    for round in 0..1000 {
        changes.line("DEL s");
        changes.line("XADD s 666 f v");
        let mut waits = server.connect();
        waits.line("PING");
        waits.send(&["XREAD", "BLOCK", "0", "STREAMS", "s", "$"]);
        assert_eq!(changes.line("SET s v"), "+OK\r\n", "round {round}");
        changes.line("DEL s");
        changes.line("XADD s 667 f v");
        let entry = "*2\r\n$5\r\n667-0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
        assert_eq!(
            waits.reply(),
            format!("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n{entry}"),
            "round {round}"
        );
    }
}
