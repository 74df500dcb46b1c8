//! Users: what they may do is looked at before a command is routed, and nodes
//! are told who asks.

mod support;

use cairn_proxy::Users;
use cairn_proxy::config::Settings;
use std::time::Duration;
use support::{Act, Cluster, command, settings, until};

const NO_COMMAND: &str = "-NOPERM this user has no permissions to run the '";
const NO_KEY: &str =
    "-NOPERM this user has no permissions to access one of the keys used as arguments\r\n";
const NO_CHANNEL: &str =
    "-NOPERM this user has no permissions to access one of the channels used as arguments\r\n";

#[test]
fn what_a_user_may_not_do_reaches_no_node() {
    let cluster = Cluster::start();
    cluster.set_users(
        1,
        &[
            "user ann on nopass resetchannels &news ~a:* %R~b:* -@all +@read +@string \
             +publish +subscribe +psubscribe +client|id -getdel (~c:* +del)",
        ],
    );
    let mut client = cluster.client();
    client.ask(
        "AUTH bob x",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    );
    client.ask("AUTH ann x", "+OK\r\n");
    client.ask(
        "ACL WHOAMI",
        &format!("{NO_COMMAND}acl|whoami' command\r\n"),
    );
    client
        .ask("SET a:1 x", "+OK\r\n")
        .ask("GET a:1", "$1\r\nx\r\n");
    client.ask("GET b:1", "$-1\r\n").ask("SET b:1 x", NO_KEY);
    client.ask("DEL a:1", NO_KEY).ask("DEL c:1", ":0\r\n");
    client.ask("GETDEL a:1", &format!("{NO_COMMAND}getdel' command\r\n"));
    client.ask("MGET a:1 d:1", NO_KEY);
    client.ask(
        "CLIENT LIST",
        &format!("{NO_COMMAND}client|list' command\r\n"),
    );
    client.send(command("CLIENT ID"));
    assert!(client.line().starts_with(':'));
    client
        .ask("PUBLISH olds x", NO_CHANNEL)
        .ask("SUBSCRIBE olds", NO_CHANNEL);
    client.ask("PSUBSCRIBE n*", NO_CHANNEL);
    let asked: Vec<_> = cluster
        .nodes
        .iter()
        .map(|node| node.asked("PUBLISH"))
        .collect();
    assert!(asked.iter().all(Option::is_none), "{asked:?}");
    client.ask(
        "SUBSCRIBE news",
        "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n",
    );
}

#[test]
fn the_log_tells_what_was_refused_and_to_whom() {
    let cluster = Cluster::start();
    cluster.set_users(1, &["user ann on nopass ~* -@all +get +multi +exec"]);
    let (mut client, mut admin) = (cluster.client(), cluster.client());
    client.send(command("AUTH ann wrong")).expect("+OK\r\n");
    client.ask("MULTI", "+OK\r\n");
    client.ask("SET a x", &format!("{NO_COMMAND}set' command\r\n"));
    client.ask(
        "EXEC",
        "-EXECABORT Transaction discarded because of previous errors.\r\n",
    );
    client.send(command("HELLO 3 AUTH ann x")).line();
    admin.send(command("ACL LOG"));
    assert_eq!(admin.line(), "*1");
    let mut seen = Vec::new();
    for _ in 0..28 {
        seen.push(admin.line());
    }
    let text = seen.join(" ");
    assert!(text.contains("command $7 context $5 multi"), "{text}");
    assert!(text.contains("object $3 set $8 username $3 ann"), "{text}");
    assert!(text.contains("user=ann"), "{text}");
}

#[test]
fn exec_does_nothing_after_a_command_that_was_not_permitted() {
    let cluster = Cluster::start();
    cluster.set_users(
        1,
        &["user ann on nopass ~bar resetchannels &news +@all -incr"],
    );
    let mut client = cluster.client();
    client.ask("AUTH ann x", "+OK\r\n");
    let no_incr = format!("{NO_COMMAND}incr' command\r\n");
    for (line, refused) in [
        ("INCR bar", no_incr.as_str()),
        ("SET foo x", NO_KEY),
        ("MGET bar foo", NO_KEY),
        ("PUBLISH olds x", NO_CHANNEL),
    ] {
        client
            .ask("MULTI", "+OK\r\n")
            .ask("SET bar x", "+QUEUED\r\n");
        client.ask(line, refused).ask("SET bar y", "+QUEUED\r\n");
        client.ask(
            "EXEC",
            "-EXECABORT Transaction discarded because of previous errors.\r\n",
        );
        client.ask("EXEC", "-ERR EXEC without MULTI\r\n");
    }
    for node in &cluster.nodes {
        assert!(node.asked("MULTI").is_none() && node.asked("SET").is_none());
    }
    // What was refused does not cling to the next transaction.
    cluster.nodes[0].script(|asked| match asked.name().as_str() {
        "MULTI" => Act::Say(b"*1\r\n+OK\r\n"),
        _ => Act::Run,
    });
    client
        .ask("MULTI", "+OK\r\n")
        .ask("SET bar x", "+QUEUED\r\n");
    client.ask("EXEC", "*1\r\n+OK\r\n");
}

#[test]
fn what_no_transaction_may_hold_is_said_before_rights_are_looked_at() {
    let cluster = Cluster::start();
    cluster.set_users(1, &["user ann on nopass ~* -@all +multi"]);
    let mut client = cluster.client();
    client.ask("AUTH ann x", "+OK\r\n").ask("MULTI", "+OK\r\n");
    client.ask("SAVE", "-ERR Command not allowed inside a transaction\r\n");
    let denied = format!("{}exec' command\r\n", &NO_COMMAND[1..]);
    let denied = format!("-EXECABORT Transaction discarded because of: {denied}");
    client.ask("EXEC", &denied).ask("EXEC", &denied);
}

#[test]
fn deleted_users_are_disconnected_and_changed_ones_obey() {
    let cluster = Cluster::start();
    cluster.set_users(
        1,
        &[
            "user ann on nopass ~* &* +@all",
            "user bob on nopass ~* &* +@all",
        ],
    );
    let mut ann = cluster.client();
    let mut bob = cluster.client();
    let mut listener = cluster.client();
    ann.ask("AUTH ann x", "+OK\r\n").ask("SET bar x", "+OK\r\n");
    bob.ask("AUTH bob x", "+OK\r\n");
    listener.ask("AUTH ann x", "+OK\r\n");
    listener.ask("SUBSCRIBE c", "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    cluster.set_users(2, &["user ann on nopass ~* &* +@all -set"]);
    bob.expect_close();
    ann.ask("SET bar x", &format!("{NO_COMMAND}set' command\r\n"));
    ann.ask("GET bar", "$1\r\nx\r\n");
    assert!(listener.is_quiet(), "it may listen still");
    cluster.set_users(3, &["user ann on nopass ~* resetchannels +@all -set"]);
    listener.expect_close();
    ann.ask("GET bar", "$1\r\nx\r\n");
    ann.ask(
        "AUTH bob x",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    );
}

#[test]
fn nodes_hear_who_asks_and_who_logs_in_later() {
    let cluster = Cluster::start();
    cluster.set_users(1, &["user ann on nopass ~* &* +@all"]);
    let mut client = cluster.client();
    let user = || {
        let session = cluster.nodes[0].asked("GET").map(|asked| asked.logical);
        session.and_then(|session| cluster.nodes[0].user_of(session))
    };
    client.ask("GET bar", "$-1\r\n");
    assert_eq!(user().as_deref(), Some(&b"default"[..]));
    client
        .ask("AUTH ann x", "+OK\r\n")
        .ask("GET bar", "$-1\r\n");
    assert_eq!(user().as_deref(), Some(&b"ann"[..]));
    let mut other = cluster.client();
    other.ask("AUTH ann x", "+OK\r\n");
    other.send(command("CLIENT LIST ID 1 2 3 4 5 6 7 8 9"));
    until("both are ann", || other.line().contains("user=ann"));
}

#[test]
fn the_default_users_password_is_asked_for_once_etcd_names_it() {
    let cluster = Cluster::start();
    let mut early = cluster.client();
    early.ask("PING", "+PONG\r\n");
    cluster.set_users(1, &["user default on >secret ~* &* +@all"]);
    let mut client = cluster.client();
    client.ask("GET bar", "-NOAUTH Authentication required.\r\n");
    client
        .ask("AUTH secret", "+OK\r\n")
        .ask("GET bar", "$-1\r\n");
    early.ask("PING", "+PONG\r\n");
    client.ask(
        "CONFIG SET requirepass x",
        "-ERR CONFIG SET failed (possibly related to argument 'requirepass') - the default user is \
         the cluster's: use ACL SETUSER default\r\n",
    );
}

#[test]
fn what_was_queued_is_looked_at_again_when_rules_have_changed() {
    let cluster = Cluster::start();
    cluster.set_users(1, &["user ann on nopass ~* &* +@all"]);
    let mut client = cluster.client();
    let (sender, sent) = std::sync::mpsc::channel();
    cluster.nodes[0].script(move |asked| match asked.name().as_str() {
        "MULTI" => {
            sender.send(asked.args.clone()).unwrap();
            Act::Say(b"*1\r\n$-1\r\n")
        }
        _ => Act::Run,
    });
    client.ask("AUTH ann x", "+OK\r\n").ask("MULTI", "+OK\r\n");
    for line in [
        "SELECT 0",
        "SET bar x",
        "ECHO y",
        "GET bar",
        "CONFIG GET port",
    ] {
        client.ask(line, "+QUEUED\r\n");
    }
    cluster.set_users(
        2,
        &["user ann on nopass ~* &* +@all -set -echo -config|get"],
    );
    let line = "-NOPERM ACLs rules changed between the moment the transaction was accumulated and \
                the EXEC call. This command is no longer allowed for the following reason: no \
                permission to execute the command or subcommand\r\n";
    client
        .send(command("EXEC"))
        .expect("*5\r\n+OK\r\n")
        .expect(line)
        .expect(line);
    client.expect("$-1\r\n").expect(line);
    let at_node: [&[u8]; 4] = [b"MULTI", b"SELECT 0", b"GET bar", b"EXEC"];
    assert_eq!(sent.recv().unwrap(), at_node);
}

#[test]
fn nobody_is_let_in_before_the_users_are_known() {
    let cluster = Cluster::with_users(settings(), Users::awaited);
    let mut client = cluster.client();
    client.send(command("GET bar"));
    assert!(client.is_quiet());
    cluster.set_users(1, &["user default on >secret ~* &* +@all"]);
    client.expect("-NOAUTH Authentication required.\r\n");
    client
        .ask("AUTH secret", "+OK\r\n")
        .ask("GET bar", "$-1\r\n");

    let brief = Settings {
        max_pause: Duration::from_millis(20),
        ..settings()
    };
    let cluster = Cluster::with_users(brief, Users::awaited);
    cluster.client().ask(
        "PING",
        "-CLUSTERDOWN the users of the cluster are not known: this proxy has not reached etcd yet; \
         not executed after 20 ms\r\n",
    );
}
