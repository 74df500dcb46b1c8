//! What a plain client sees of a healthy cluster.
//! "bar" and "hello" are group 1's (slots 5061, 866), "foo" is group 2's (12182).

mod support;

use cairn_protocol::link::Reason;
use cairn_protocol::slot::CURSOR_POSITION_BITS;
use support::{Act, Cluster, command, settings, until};

#[test]
fn a_script_without_keys_goes_where_its_node_says_that_its_first_key_is() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    cluster.nodes[0].script(|asked| match asked.name() == "EVAL" {
        true => Act::Say(b"-ELSEWHERE 12182\r\n"),
        false => Act::Run,
    });
    cluster.nodes[1].script(|asked| match asked.name() == "EVAL" {
        // Once is enough: a second time it is the client's answer.
        true if asked.slot == 12182 => Act::Say(b"-ELSEWHERE 1\r\n"),
        _ => Act::Run,
    });
    client.send(command("SET bar 1"));
    client.send(command("EVAL return(redis.call('get','foo')) 0"));
    client.send(command("GET bar"));
    client.expect("+OK\r\n-ELSEWHERE 1\r\n$1\r\n1\r\n");
}

#[test]
fn replies_come_in_the_order_of_requests_across_groups() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    cluster.nodes[0].script(|_| Act::Hold);
    let ask: Vec<u8> = ["SET bar 1", "SET foo 2", "PING", "GET foo", "GET bar"]
        .iter()
        .flat_map(|line| command(line))
        .collect();
    client.send(ask);
    until("group 1 holds two", || cluster.nodes[0].held() == 2);
    until("group 2 ran two", || cluster.nodes[1].executed().len() == 2);
    assert!(client.is_quiet(), "nothing may overtake the first reply");
    cluster.nodes[0].release();
    client.expect("+OK\r\n+OK\r\n+PONG\r\n$1\r\n2\r\n$1\r\n1\r\n");
}

#[test]
fn one_clients_slow_command_does_not_delay_another_client() {
    let cluster = Cluster::start();
    let (mut slow, mut quick) = (cluster.client(), cluster.client());
    cluster.nodes[0].script(|asked| {
        if asked.key() == b"hello" {
            Act::Hold
        } else {
            Act::Run
        }
    });
    slow.send(command("GET hello"));
    until("the slow one is held", || cluster.nodes[0].held() == 1);
    for _ in 0..100 {
        quick.ask("SET bar x", "+OK\r\n");
    }
    assert!(slow.is_quiet());
    cluster.nodes[0].release();
    slow.expect("$-1\r\n");
}

#[test]
fn a_deep_pipeline_is_answered_whole_and_in_order() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut writer = client.stream.try_clone().unwrap();
    let (mut ask, mut want) = (Vec::new(), Vec::new());
    for n in 0..20_000 {
        ask.extend(command(&format!("SET key:{n} value:{n}")));
        ask.extend(command(&format!("GET key:{n}")));
        let value = format!("value:{n}");
        want.extend_from_slice(format!("+OK\r\n${}\r\n{value}\r\n", value.len()).as_bytes());
    }
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &ask).unwrap());
    client.expect(want);
    sender.join().unwrap();
}

#[test]
fn commands_of_many_keys_are_split_and_put_together() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask("MSET foo 1 bar 2 hello 3", "+OK\r\n");
    client.ask(
        "MGET bar none foo bar hello",
        "*5\r\n$1\r\n2\r\n$-1\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n",
    );
    client.ask("DBSIZE", ":3\r\n");
    client.ask("DEL foo none bar", ":2\r\n");
    client.ask("KEYS *", "*1\r\n$5\r\nhello\r\n");
    client.ask("FLUSHALL", "+OK\r\n");
    client.ask("DBSIZE", ":0\r\n");
    client.ask(
        "MSET a 1 b",
        "-ERR wrong number of arguments for 'mset' command\r\n",
    );
}

#[test]
fn a_split_write_keeps_its_place_in_the_order_of_each_key() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut ask = Vec::new();
    for n in 0..500 {
        ask.extend(command(&format!("MSET foo {n} bar {n} hello {n}")));
        ask.extend(command("GET foo"));
        ask.extend(command(&format!("SET bar x{n}")));
        ask.extend(command("MGET bar foo"));
    }
    client.send(ask);
    for n in 0..500 {
        let (n, x) = (n.to_string(), format!("x{n}"));
        let bulk = |s: &str| format!("${}\r\n{s}\r\n", s.len());
        client.expect(format!(
            "+OK\r\n{}+OK\r\n*2\r\n{}{}",
            bulk(&n),
            bulk(&x),
            bulk(&n)
        ));
    }
}

#[test]
fn what_spans_slots_and_cannot_be_split_is_refused() {
    let cluster = Cluster::start();
    let crossing = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
    cluster
        .client()
        .ask("MSETNX foo 1 bar 2", crossing)
        .ask("RENAME foo bar", crossing);
}

#[test]
fn a_scan_goes_through_all_groups() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask("MSET foo 1 bar 2", "+OK\r\n");
    let next = (8192u64 << CURSOR_POSITION_BITS).to_string();
    let first = format!("*2\r\n${}\r\n{next}\r\n*1\r\n$3\r\nbar\r\n", next.len());
    client.ask("SCAN 0 COUNT 1", &first);
    client.ask(
        &format!("SCAN {next}"),
        "*2\r\n$1\r\n0\r\n*1\r\n$3\r\nfoo\r\n",
    );
    client.ask("SCAN x", "-ERR invalid cursor\r\n");
    client.ask(&format!("SCAN {}", u64::MAX), "-ERR invalid cursor\r\n");
}

/// SCAN 0 of a few keys had a page for each group.
#[test]
fn a_scan_of_few_keys_is_one_page_and_keeps_its_place_in_the_pipeline() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask("MSET foo 1 bar 2", "+OK\r\n");
    cluster.nodes[1].script(|asked| match asked.name().as_str() {
        "SCAN" => Act::Hold,
        _ => Act::Run,
    });
    for command_line in [
        "DEL bar",
        "SET bar 2",
        "SCAN 0 MATCH * COUNT 7",
        "DEL foo",
        "PING",
    ] {
        client.send(command(command_line));
    }
    client.expect(":1\r\n+OK\r\n");
    until("the second page is held", || cluster.nodes[1].held() == 1);
    assert!(client.is_quiet());
    cluster.nodes[1].release();
    client.expect("*2\r\n$1\r\n0\r\n*2\r\n$3\r\nbar\r\n$3\r\nfoo\r\n:1\r\n+PONG\r\n");

    let next = (8192u64 << CURSOR_POSITION_BITS).to_string();
    let second = cluster.nodes[1].asked("SCAN").expect("it went on");
    let words: Vec<_> = second
        .args
        .iter()
        .map(|word| String::from_utf8_lossy(word))
        .collect();
    assert_eq!(words, ["SCAN", &next, "MATCH", "*", "COUNT", "6"]);
}

#[test]
fn a_scan_ends_before_a_group_that_cannot_answer() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask("MSET foo 1 bar 2", "+OK\r\n");
    let next = (8192u64 << CURSOR_POSITION_BITS).to_string();
    let first = format!("*2\r\n${}\r\n{next}\r\n*1\r\n$3\r\nbar\r\n", next.len());
    cluster.nodes[1].script(|_| Act::Say(b"-ERR no\r\n"));
    client.ask("SCAN 0", &first);
    client.ask(&format!("SCAN {next}"), "-ERR no\r\n");
    cluster.nodes[1].stop();
    until("the link is down", || {
        client.text("INFO cairn").contains("nodes_linked:1")
    });
    client.ask("SCAN 0", &first);
}

#[test]
fn a_scan_goes_on_where_the_slot_behind_a_border_has_gone() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask("MSET foo 1 bar 2", "+OK\r\n");
    let to = cluster.nodes[0].address.clone();
    cluster.nodes[1].script(move |_| Act::Refuse(Reason::Moved, 1, 2, to.clone()));
    let all = "*2\r\n$1\r\n0\r\n*2\r\n$3\r\nbar\r\n$3\r\nfoo\r\n";
    client.ask("SCAN 0", all);
    assert!(cluster.nodes[1].asked("SCAN").is_none());
}

#[test]
fn databases_and_protocol_versions_go_along() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client
        .ask("SET foo 0", "+OK\r\n")
        .ask("SELECT 3", "+OK\r\n")
        .ask("GET foo", "$-1\r\n");
    client.ask("SELECT 16", "-ERR DB index is out of range\r\n");
    client.ask(
        "SELECT 99999999999",
        "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n",
    );
    client.send(command("HELLO 3"));
    assert_eq!(client.line(), "%7");
    while client.line() != "*0" {}
    client
        .ask("GET foo", "_\r\n")
        .ask("SELECT 0", "+OK\r\n")
        .ask("GET foo", "$1\r\n0\r\n");
    client.ask("RESET", "+RESET\r\n").ask("GET none", "$-1\r\n");
}

#[test]
fn the_proxy_answers_for_the_connection_itself() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client
        .ask("PING", "+PONG\r\n")
        .ask("ECHO hi", "$2\r\nhi\r\n");
    client
        .ask("CLIENT SETNAME me", "+OK\r\n")
        .ask("CLIENT GETNAME", "$2\r\nme\r\n");
    client.ask(
        "CONFIG GET maxclients",
        "*2\r\n$10\r\nmaxclients\r\n$5\r\n10000\r\n",
    );
    client.ask(
        "CLUSTER INFO",
        "-ERR This instance has cluster support disabled\r\n",
    );
    client.ask(
        "REPLICAOF a 1",
        "-ERR 'replicaof' is not available through the proxy\r\n",
    );
    client.ask(
        "NOSUCH a",
        "-ERR unknown command 'NOSUCH', with args beginning with: 'a' \r\n",
    );
    client.ask(
        "GET",
        "-ERR wrong number of arguments for 'get' command\r\n",
    );
    client.send(command("INFO server"));
    let header = client.line();
    assert!(header.starts_with('$'), "{header}");
    assert_eq!(client.line(), "# Server");
    assert_eq!(client.line(), "redis_version:7.0.15");
    assert_eq!(client.line(), "redis_mode:standalone");
    let mut last = cluster.client();
    last.ask("QUIT", "+OK\r\n").expect_close();
}

#[test]
fn client_reply_silences_commands_of_nodes_and_of_the_proxy() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let lines = [
        "CLIENT REPLY OFF",
        "SET foo 1",
        "PING",
        "MSET foo 2 bar 2",
        "CLIENT REPLY ON",
    ];
    client.send(
        lines
            .iter()
            .flat_map(|line| command(line))
            .collect::<Vec<_>>(),
    );
    client.expect("+OK\r\n").ask("GET foo", "$1\r\n2\r\n");
    let lines = ["CLIENT REPLY SKIP", "GET foo", "GET bar"];
    client.send(
        lines
            .iter()
            .flat_map(|line| command(line))
            .collect::<Vec<_>>(),
    );
    client.expect("$1\r\n2\r\n").ask("PING", "+PONG\r\n");
}

#[test]
fn a_client_must_know_the_password() {
    let cluster = Cluster::with(cairn_proxy::config::Settings {
        requirepass: "pw".into(),
        ..settings()
    });
    let mut client = cluster.client();
    client.ask("GET foo", "-NOAUTH Authentication required.\r\n");
    client.ask(
        "EXEC",
        "-EXECABORT Transaction discarded because of: NOAUTH Authentication required.\r\n",
    );
    client.ask(
        "HELLO 3",
        "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
         AUTH <user> <pass> option can be used to authenticate the client and select the RESP \
         protocol version at the same time\r\n",
    );
    client.ask(
        "AUTH no",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    );
    client
        .ask("AUTH default pw", "+OK\r\n")
        .ask("GET foo", "$-1\r\n");
}

#[test]
fn a_client_can_be_killed_by_another() {
    let cluster = Cluster::start();
    let (mut killer, mut victim) = (cluster.client(), cluster.client());
    let address = victim.stream.local_addr().unwrap();
    victim.ask("PING", "+PONG\r\n");
    killer.ask(&format!("CLIENT KILL ADDR {address}"), ":1\r\n");
    victim.expect_close();
}

#[test]
fn large_values_pass_unharmed() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let value = "x".repeat(3 << 20);
    client.ask(&format!("SET foo {value}"), "+OK\r\n");
    client.ask("GET foo", &format!("${}\r\n{value}\r\n", value.len()));
    client.ask(
        "MGET foo bar",
        &format!("*2\r\n${}\r\n{value}\r\n$-1\r\n", value.len()),
    );
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let cluster = Cluster::with(cairn_proxy::config::Settings {
        output_limit: 4 << 20,
        ..settings()
    });
    let mut client = cluster.client();
    client.ask(&format!("SET foo {}", "x".repeat(1 << 20)), "+OK\r\n");
    client.send(command("GET foo").repeat(64));
    until("it is gone", || {
        let clients = cluster.client().text("CLIENT LIST");
        clients.lines().count() == 1
    });
}

#[test]
fn more_clients_than_allowed_are_turned_away() {
    let cluster = Cluster::with(cairn_proxy::config::Settings {
        maxclients: 2,
        ..settings()
    });
    // The client that awaited the links may not be gone yet.
    let mut kept = Vec::new();
    until("two are taken in", || {
        kept = vec![cluster.client(), cluster.client()];
        kept.iter_mut()
            .all(|client| client.send(command("PING")).line() == "+PONG")
    });
    let mut third = cluster.client();
    third
        .expect("-ERR max number of clients reached\r\n")
        .expect_close();
}

#[test]
fn hello_looks_at_its_options_in_their_order() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask(
        "HELLO 2 AUTH nobody x nonsense",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    );
    client.ask(
        "HELLO 2 SETNAME me nonsense",
        "-ERR Syntax error in HELLO option 'nonsense'\r\n",
    );
    client.ask("CLIENT GETNAME", "$2\r\nme\r\n");
    client.ask(
        "CLIENT UNBLOCK 1 ERROR x",
        "-ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.\r\n",
    );
}

/// Regression: clients were listed once and by their ids, a CLIENT REPLY that was wrong
/// left the SKIP before it for the next command, RESET was not skipped and ended
/// NO-EVICT, and CLIENT PAUSE had a line of its own.
#[test]
fn client_subcommands_answer_as_those_of_redis() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask(
        "CLIENT PAUSE 1 ALL x",
        "-ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.\r\n",
    );
    client.ask("CLIENT NO-EVICT ON", "+OK\r\n");
    for skipped in ["CLIENT REPLY MAYBE", "RESET"] {
        client.send(command("CLIENT REPLY SKIP"));
        client.send(command(skipped));
        client.ask("PING", "+PONG\r\n");
    }
    client.send(command("CLIENT ID"));
    let id = client.line()[1..].to_owned();
    client.send(command(&format!("CLIENT LIST ID {id} 0 {id}")));
    let len: usize = client.line()[1..].parse().expect("a bulk string");
    let listed = client.take(len + 2);
    let mine = listed.matches(&format!("id={id} addr=")).count();
    assert_eq!(mine, 2, "{listed}");
    assert!(listed.contains(" flags=e "), "{listed}");
}
