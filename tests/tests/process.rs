//! What an operator sees of a server's process from outside: its title, and what it
//! leaves behind when it crashes.

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
