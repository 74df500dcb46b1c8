//! What an operator sees of a server's process from outside: its title, its socket in
//! the file system, and what it leaves behind when it crashes.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use cairn_tests::process::killed_by;
use cairn_tests::server::{Server, refusal};
use cairn_tests::wait;

const LIMIT: Duration = Duration::from_secs(30);

fn title(server: &Server) -> String {
    let bytes = std::fs::read(format!("/proc/{}/cmdline", server.pid())).expect("it runs");
    let words = bytes.split(|byte| *byte == 0);
    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
    words.join(" ").trim_end().to_owned()
}

#[test]
fn ps_shows_where_a_server_listens_and_what_the_template_says() {
    let server = Server::start(&[]);
    let shown = title(&server);
    let address = format!("127.0.0.1:{}", server.port());
    assert!(
        shown.contains("cairn-server") && shown.ends_with(&address),
        "{shown}"
    );
    let mut client = server.client();
    let template = "long {title} {listen-addr} {port} {tls-port} {server-mode} and more, and more, \
                    and more, and more, and more, and more, and more, and more, and more";
    client.command(&["CONFIG", "SET", "proc-title-template", template]);
    let shown = title(&server);
    assert!(
        shown.starts_with("long ")
            && shown.contains(&format!("{address} {} 0", server.port()))
            && shown.ends_with("and more"),
        "{shown}"
    );
    client.command(&["CONFIG", "SET", "proc-title-template", "short"]);
    assert_eq!(title(&server), "short");
    assert!(
        client
            .command(&["CONFIG", "SET", "proc-title-template", "{nope}"])
            .is_error()
    );

    let as_called = Server::start(&["--set-proc-title", "no"]);
    assert!(title(&as_called).contains("--set-proc-title no"));
}

/// A client that came in by a socket in the file system.
struct Local(BufReader<UnixStream>);

impl Local {
    fn connect(path: &Path) -> Local {
        let stream = UnixStream::connect(path).expect("the server listens there");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        Local(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }

    /// The text of a reply that is no array, without its type.
    fn ask(&mut self, command: &str) -> String {
        let request = format!("{command}\r\n");
        let sent = self.0.get_mut().write_all(request.as_bytes());
        sent.expect("the server takes it");
        let line = self.line();
        let Some(length) = line.strip_prefix('$') else {
            return line[1..].to_owned();
        };
        let length: usize = length.parse().expect("a length");
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes).expect("as long as it says");
        bytes.truncate(length);
        String::from_utf8(bytes).expect("text")
    }
}

#[test]
fn clients_come_in_by_a_socket_in_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let shown = path.to_str().unwrap();
    let flags = ["--unixsocket", shown, "--unixsocketperm", "700"];
    let server = Server::start(&flags);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let mut local = Local::connect(&path);
    assert_eq!(local.ask("SET k v"), "OK");
    assert_eq!(server.client().words("GET k").text(), "v");
    // More than the socket holds.
    local.ask("SETRANGE long 2999999 x");
    assert_eq!(local.ask("GET long").len(), 3_000_000);
    let info = local.ask("CLIENT INFO");
    let address = format!(" addr={shown}:0 laddr={shown}:0 ");
    assert!(
        info.contains(&address) && info.contains(" flags=U "),
        "{info}"
    );

    let mut monitor = Local::connect(&path);
    assert_eq!(monitor.ask("MONITOR"), "OK");
    local.ask("GET k");
    let line = monitor.line();
    let seen = format!("[0 unix:{shown}] \"GET\" \"k\"");
    assert!(line.ends_with(&seen), "{line}");

    let kill = format!("CLIENT KILL ADDR {shown}:0");
    assert_eq!(server.client().words(&kill).integer(), 2);
    assert_eq!(local.line(), "");
}

#[test]
fn the_socket_in_the_file_system_goes_with_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut server = Server::start(&["--unixsocket", path.to_str().unwrap()]);
    server.kill9();
    assert!(path.exists());
    server.restart();
    assert_eq!(Local::connect(&path).ask("PING"), "PONG");
    assert!(server.stop().success());
    assert!(!path.exists());
}

#[test]
fn the_log_of_a_start_has_the_lines_of_redis_that_harnesses_wait_for() {
    let server = Server::start(&[]);
    let ready = "Ready to accept connections";
    let log = wait::until("the server to say that it is ready", LIMIT, || {
        Some(server.log_text()).filter(|log| log.contains(ready))
    });
    let (before, _) = log.split_once(ready).expect("it was waited for");
    assert!(before.contains("Server initialized"), "{log}");
}

#[test]
fn a_crash_leaves_a_report_in_the_log_and_loses_nothing() {
    for (signal, name) in [(libc::SIGSEGV, "SIGSEGV"), (libc::SIGABRT, "SIGABRT")] {
        let mut server = Server::start(&["--enable-debug-command", "yes"]);
        assert_eq!(server.client().words("SET k v").text(), "OK");
        match signal {
            libc::SIGABRT => server.process().signal(signal),
            _ => drop(server.client().try_command(&["DEBUG", "SEGFAULT"])),
        }
        let status = wait::until("the server to end", LIMIT, || server.ended());
        assert!(
            killed_by(status, signal),
            "{name}: as without a report: {status}"
        );
        let log = server.log_text();
        assert!(
            log.contains(&format!("crashed by signal: {signal} ({name})"))
                && log.contains("STACK TRACE")
                && log.contains("END OF THE REPORT"),
            "{name}: {log}"
        );
        server.restart();
        assert_eq!(server.client().words("GET k").text(), "v", "{name}");
    }
}

#[test]
fn a_crash_is_not_reported_where_nobody_wants_it() {
    let mut server = Server::start(&["--crash-log-enabled", "no"]);
    server.process().signal(libc::SIGABRT);
    let status = wait::until("the server to end", LIMIT, || server.ended());
    assert!(killed_by(status, libc::SIGABRT), "{status}");
    assert!(!server.log_text().contains("crashed by signal"));
}

#[test]
fn names_that_cannot_be_given_to_commands_keep_a_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    for (flags, problem) in [
        (
            &["--rename-command", "nosuch", "x"][..],
            "No such command in rename-command",
        ),
        (
            &["--rename-command", "get", "set"],
            "Target command name already exists",
        ),
        (
            &[
                "--rename-command",
                "get",
                "",
                "--cluster",
                "c",
                "--etcd",
                "http://a:1",
                "--node-id",
                "n",
            ],
            "take rights away with ACL SETUSER",
        ),
    ] {
        let mut command = std::process::Command::new(cairn_tests::binaries::cairn("cairn-server"));
        command
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(flags);
        let (status, said) = refusal(command, folder.path());
        assert!(!status.success());
        assert!(said.contains(problem), "{said}");
    }
}
