//! Users and their rights over TCP. Where a redis-server 7.0 is on the PATH, the
//! same goes to both, and every reply must be the same.

mod support;

use std::collections::HashMap;

use support::{Client, Server, redis};

const SCRIPT: &str = include_str!("users.txt");
const OK: &str = "+OK\r\n";

/// Words parted by blanks; in double quotes there may be blanks.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut quoted, mut any) = (false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, any) = (!quoted, true),
            ' ' if !quoted => {
                if any || !words.last().unwrap().is_empty() {
                    words.push(String::new());
                }
                any = false;
            }
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// A reply without what differs from run to run.
fn plain(reply: &str) -> String {
    let mut shown = Vec::new();
    let mut lines = reply.split("\r\n");
    while let Some(line) = lines.next() {
        if line.starts_with("id=") {
            let fields = line.split(' ').filter(|field| {
                ["name=", "db=", "cmd=", "user="]
                    .iter()
                    .any(|kept| field.starts_with(kept))
            });
            shown.pop();
            shown.push(fields.collect::<Vec<_>>().join(" "));
            continue;
        }
        shown.push(line.to_owned());
        // Of HELLO.
        if line == "id" {
            lines.next();
        }
        if line == "age-seconds" {
            let number = lines.next().unwrap_or_default();
            // A text in RESP2, behind its length.
            if number.starts_with('$') {
                lines.next();
            }
        }
    }
    shown.join("\r\n")
}

fn ask(client: &mut Client, line: &str) -> String {
    let words = words(line);
    client.send(&words.iter().map(String::as_str).collect::<Vec<_>>());
    client.try_reply().unwrap_or_else(|| "closed".into())
}

/// All replies to the script, each behind its line.
fn replies(port: u16) -> Vec<(String, String)> {
    let mut clients: HashMap<String, Client> = HashMap::new();
    let lines = SCRIPT.lines().filter(|line| !line.starts_with('#'));
    let asked = lines.map(|line| {
        let (name, request) = line.split_once("> ").unwrap_or(("m", line));
        if request == "reconnect" {
            clients.remove(name);
            return (line.to_owned(), String::new());
        }
        let client = clients.entry(name.to_owned());
        let client = client.or_insert_with(|| Client::to(port));
        (line.to_owned(), plain(&ask(client, request)))
    });
    asked.collect()
}

#[test]
fn every_reply_about_users_is_that_of_redis() {
    let server = Server::start(&[]);
    let mine = replies(server.port);
    let refusals = mine
        .iter()
        .filter(|(_, reply)| reply.starts_with("-NOPERM"));
    assert!(refusals.count() > 10);
    let Some(redis) = redis() else { return };
    for (mine, theirs) in mine.iter().zip(replies(redis.port)) {
        assert_eq!(*mine, theirs, "left: ours, right: Redis");
    }
}

/// Waits until a client is gone.
fn wait_closed(client: &mut Client) {
    assert_eq!(client.try_reply(), None);
}

#[test]
fn those_who_are_deleted_or_lose_their_channels_are_disconnected() {
    let server = Server::start(&[]);
    let (mut admin, mut user) = (server.connect(), server.connect());
    assert_eq!(
        ask(&mut admin, "ACL SETUSER u on nopass +@all ~* &a &b*"),
        OK
    );
    assert_eq!(ask(&mut user, "AUTH u x"), OK);
    assert!(ask(&mut user, "SUBSCRIBE a").contains("subscribe"));
    assert_eq!(ask(&mut admin, "ACL SETUSER u &c"), OK);
    assert_eq!(ask(&mut admin, "PUBLISH a x"), ":1\r\n");
    user.reply();
    assert_eq!(ask(&mut admin, "ACL SETUSER u resetchannels &b*"), OK);
    assert_eq!(ask(&mut admin, "PUBLISH a x"), ":0\r\n");
    wait_closed(&mut user);
    let mut user = server.connect();
    assert_eq!(ask(&mut user, "AUTH u x"), OK);
    assert!(ask(&mut admin, "CLIENT LIST").contains("user=u "));
    assert_eq!(ask(&mut admin, "ACL DELUSER u"), ":1\r\n");
    assert!(!ask(&mut admin, "CLIENT LIST").contains("user=u "));
    wait_closed(&mut user);
}

#[test]
fn a_busy_pipeline_meets_a_change_of_rights_at_once() {
    let server = Server::start(&[]);
    let (mut admin, mut user) = (server.connect(), server.connect());
    assert_eq!(ask(&mut admin, "ACL SETUSER u on nopass +incr ~*"), OK);
    assert_eq!(ask(&mut user, "AUTH u x"), OK);
    assert_eq!(ask(&mut user, "INCR a"), ":1\r\n");
    assert_eq!(ask(&mut admin, "ACL SETUSER u -incr"), OK);
    assert!(ask(&mut user, "INCR a").starts_with("-NOPERM"));
    assert_eq!(ask(&mut admin, "GET a"), "$1\r\n1\r\n");
}

#[test]
fn users_come_from_the_configuration_and_go_back_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cairn.conf");
    let text = "# mine\nuser default on nopass ~* &* +@all -flushdb\nuser w off >p +get ~x\n";
    std::fs::write(&file, text).unwrap();
    let config = file.to_str().unwrap().to_owned();
    {
        let server = Server::start(&["--config", &config]);
        let mut client = server.connect();
        assert!(ask(&mut client, "FLUSHDB").starts_with("-NOPERM"));
        assert_eq!(ask(&mut client, "ACL SETUSER w on resetkeys ~y"), OK);
        assert_eq!(ask(&mut client, "ACL SETUSER v on nopass +@read ~*"), OK);
        assert_eq!(ask(&mut client, "CONFIG REWRITE"), OK);
    }
    let server = Server::start(&["--config", &config]);
    let mut client = server.connect();
    assert!(ask(&mut client, "FLUSHDB").starts_with("-NOPERM"));
    let users = ask(&mut client, "ACL LIST");
    assert!(
        users.contains("user v on nopass ~* resetchannels -@all +@read"),
        "{users}"
    );
    assert!(users.contains("~y resetchannels -@all +get"), "{users}");
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .starts_with("# mine\nuser default on")
    );
}

#[test]
fn users_come_from_their_file_and_go_back_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.acl");
    std::fs::write(&file, "user alice on allcommands allkeys &* >alice\n").unwrap();
    let server = Server::start(&["--aclfile", file.to_str().unwrap()]);
    let (mut client, mut alice) = (server.connect(), server.connect());
    assert_eq!(ask(&mut alice, "AUTH alice alice"), OK);
    assert_eq!(ask(&mut client, "ACL SETUSER bob on nopass +get ~*"), OK);
    assert_eq!(ask(&mut client, "ACL SAVE"), OK);
    let saved = std::fs::read_to_string(&file).unwrap();
    assert!(
        saved.contains("user bob on nopass ~* resetchannels -@all +get\n"),
        "{saved}"
    );
    assert_eq!(ask(&mut client, "ACL DELUSER bob"), ":1\r\n");
    assert_eq!(ask(&mut client, "ACL LOAD"), OK);
    assert_eq!(
        ask(&mut client, "ACL USERS"),
        "*3\r\n$5\r\nalice\r\n$3\r\nbob\r\n$7\r\ndefault\r\n"
    );
    wait_closed(&mut alice);
    std::fs::write(&file, "user alice on\nuser alice off\n").unwrap();
    assert!(ask(&mut client, "ACL LOAD").contains("Duplicate user 'alice' found on line 2"));
    assert!(ask(&mut client, "ACL USERS").contains("bob"));
}

#[test]
fn an_idle_admin_sees_a_script_refused_in_the_log() {
    let server = Server::start(&[]);
    let (mut admin, mut user) = (server.connect(), server.connect());
    assert_eq!(ask(&mut admin, "ACL SETUSER u on nopass +eval +get ~*"), OK);
    assert_eq!(ask(&mut user, "AUTH u x"), OK);
    let refused = ask(&mut user, "EVAL \"return redis.call('set','a','1')\" 0");
    assert!(
        refused.contains("can't run this command or subcommand"),
        "{refused}"
    );
    let log = ask(&mut admin, "ACL LOG");
    assert!(log.contains("lua") && log.contains("user=u "), "{log}");
    assert_eq!(ask(&mut admin, "GET a"), "$-1\r\n");
}
