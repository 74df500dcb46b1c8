//! SLOWLOG and LATENCY: what the proxy's clients asked, as they asked it.
//! "bar" and "hello" are group 1's, "foo" is group 2's.

mod support;

use cairn_protocol::link::Push;
use std::time::{Duration, Instant};
use support::{Act, Client, Cluster, command, until};

/// An entry of the slow log.
struct Entry {
    id: u64,
    micros: u64,
    command: String,
    client: String,
    name: String,
}

fn slow_log(client: &mut Client, ask: &str) -> Vec<Entry> {
    client.send(command(ask));
    let entries = client.number('*');
    (0..entries).map(|_| entry(client)).collect()
}

fn entry(client: &mut Client) -> Entry {
    assert_eq!(client.number('*'), 6);
    let (id, _, micros) = (client.number(':'), client.number(':'), client.number(':'));
    let words: Vec<String> = (0..client.number('*')).map(|_| client.bulk()).collect();
    Entry {
        id,
        micros,
        command: words.join(" "),
        client: client.bulk(),
        name: client.bulk(),
    }
}

fn commands(client: &mut Client) -> Vec<String> {
    let entries = slow_log(client, "SLOWLOG GET -1");
    entries.into_iter().map(|entry| entry.command).collect()
}

fn everything_is_slow(client: &mut Client) {
    client.ask("CONFIG SET slowlog-log-slower-than 0", "+OK\r\n");
    client.ask("SLOWLOG RESET", "+OK\r\n");
}

#[test]
fn a_command_is_one_entry_however_many_nodes_were_asked() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask("CLIENT SETNAME me", "+OK\r\n");
    everything_is_slow(&mut client);
    client.ask("MSET foo 1 bar 2", "+OK\r\n");
    client.ask("GET foo", "$1\r\n1\r\n");
    client.ask("PING", "+PONG\r\n");
    client.ask("DBSIZE", ":2\r\n");
    client.ask("CONFIG SET hz 10", "+OK\r\n");
    client.send(command("NONSENSE"));
    assert!(client.line().starts_with("-ERR unknown command"));
    client.send(command("GET"));
    assert!(client.line().starts_with("-ERR wrong number"));
    let entries = slow_log(&mut client, "SLOWLOG GET");
    let shown: Vec<&str> = entries.iter().map(|entry| &*entry.command).collect();
    assert_eq!(
        shown,
        [
            "CONFIG SET hz 10",
            "DBSIZE",
            "PING",
            "GET foo",
            "MSET foo 1 bar 2",
            "SLOWLOG RESET"
        ]
    );
    let own = client.stream.local_addr().unwrap().to_string();
    assert!(entries.iter().all(|e| e.client == own && e.name == "me"));
    let ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1] + 1), "{ids:?}");
    client.ask("SLOWLOG LEN", ":7\r\n");
    assert_eq!(slow_log(&mut client, "SLOWLOG GET 2").len(), 2);
}

#[test]
fn settings_of_the_slow_log_hold_here_and_at_the_nodes() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    everything_is_slow(&mut client);
    client.ask("CONFIG SET slowlog-max-len 2 hz 7", "+OK\r\n");
    for node in &cluster.nodes {
        let asked: Vec<_> = node.executed();
        let words = asked.last().unwrap().args.join(&b' ');
        assert_eq!(words, b"CONFIG SET slowlog-max-len 2 hz 7");
    }
    client.ask("PING", "+PONG\r\n").ask("PING", "+PONG\r\n");
    assert_eq!(commands(&mut client), ["PING", "PING"]);
    client.ask("CONFIG SET slowlog-max-len 1", "+OK\r\n");
    client.ask("SLOWLOG LEN", ":1\r\n");
    client.ask(
        "CONFIG GET slowlog-max-len",
        "*2\r\n$15\r\nslowlog-max-len\r\n$1\r\n1\r\n",
    );
    client.ask("CONFIG SET slowlog-log-slower-than -1", "+OK\r\n");
    client.ask("SLOWLOG RESET", "+OK\r\n");
    client.ask("GET foo", "$-1\r\n").ask("PING", "+PONG\r\n");
    client.ask("SLOWLOG LEN", ":0\r\n");
    for (ask, why) in [
        (
            "slowlog-max-len -1",
            "argument must be between 0 and 9223372036854775807 inclusive",
        ),
        (
            "slowlog-log-slower-than x",
            "argument couldn't be parsed into an integer",
        ),
    ] {
        let name = ask.split(' ').next().unwrap();
        let line =
            format!("-ERR CONFIG SET failed (possibly related to argument '{name}') - {why}\r\n");
        client.ask(&format!("CONFIG SET {ask}"), &line);
    }
    client.ask(
        "SLOWLOG GET -2",
        "-ERR count should be greater than or equal to -1\r\n",
    );
}

#[test]
fn arguments_are_trimmed_and_secrets_hidden() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    everything_is_slow(&mut client);
    let long = "A".repeat(129);
    client.ask(&format!("SET foo {long}"), "+OK\r\n");
    client.ask("CONFIG SET masterauth secret", "+OK\r\n");
    client.send(command("AUTH me secret"));
    client.line();
    let keys = "foo ".repeat(32);
    client.ask(&format!("DEL {keys}"), ":1\r\n");
    let shown = commands(&mut client);
    let trimmed = format!("DEL {}... (2 more arguments)", "foo ".repeat(30));
    assert_eq!(shown[0], trimmed);
    assert_eq!(shown[1], "AUTH (redacted) (redacted)");
    assert_eq!(shown[2], "CONFIG SET masterauth (redacted)");
    let trimmed = format!("SET foo {}... (1 more bytes)", "A".repeat(128));
    assert_eq!(shown[3], trimmed);
}

#[test]
fn the_time_is_that_of_the_client_without_the_wait_for_keys() {
    const HELD: Duration = Duration::from_millis(30);
    let cluster = Cluster::start();
    let mut client = cluster.client();
    everything_is_slow(&mut client);
    cluster.nodes[1].script(|asked| match asked.name().as_str() {
        "GET" | "BLPOP" => Act::Hold,
        _ => Act::Run,
    });
    let held = |client: &mut Client, waits: bool| {
        until("it is held", || cluster.nodes[1].held() == 1);
        if waits {
            let asked = cluster.nodes[1].asked("BLPOP").unwrap();
            let request = asked.request.to_le_bytes();
            cluster.nodes[1].push(asked.logical, Push::WAITS, &request);
            let mut other = cluster.client();
            until("it is known to wait", || {
                other.text("CLIENT LIST").contains("flags=b")
            });
        }
        let begin = Instant::now();
        until("some time has passed", || begin.elapsed() >= HELD);
        cluster.nodes[1].release();
        client.line();
    };
    client.send(command("GET foo"));
    held(&mut client, false);
    client.send(command("BLPOP foo 0"));
    held(&mut client, true);
    let log = slow_log(&mut client, "SLOWLOG GET");
    let micros = |command: &str| {
        let entry = log.iter().find(|entry| entry.command == command);
        u128::from(entry.expect("it is slow").micros)
    };
    assert!(micros("GET foo") >= HELD.as_micros());
    assert!(micros("BLPOP foo 0") < micros("GET foo") + HELD.as_micros());
    let waited = micros("BLPOP foo 0");
    client.ask("CONFIG SET latency-monitor-threshold 20", "+OK\r\n");
    client.send(command("GET foo"));
    held(&mut client, false);
    client.send(command("LATENCY LATEST"));
    assert_eq!(client.number('*'), 1, "{waited}");
    assert_eq!(client.number('*'), 4);
    assert_eq!(client.bulk(), "fast-command");
    let (at, last) = (client.number(':'), client.number(':'));
    assert!(last >= 30 && client.number(':') == last);
    let history = format!("*1\r\n*2\r\n:{at}\r\n:{last}\r\n");
    client.ask("LATENCY HISTORY fast-command", &history);
    client.ask("LATENCY HISTORY command", "*0\r\n");
    client.ask("LATENCY RESET command", ":0\r\n");
    client.ask("LATENCY RESET", ":1\r\n");
    client.ask("LATENCY LATEST", "*0\r\n");
    client.ask(
        "LATENCY GRAPH command",
        "-ERR No samples available for event 'command'\r\n",
    );
}

#[test]
fn a_transaction_shows_as_its_exec_beside_what_the_proxy_answered() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    cluster.nodes[1].script(|asked| match asked.args[0].starts_with(b"MULTI") {
        true => Act::Say(b"*1\r\n:1\r\n"),
        false => Act::Run,
    });
    everything_is_slow(&mut client);
    client.ask("MULTI", "+OK\r\n");
    client.ask("APPEND foo x", "+QUEUED\r\n");
    client.ask("PING", "+QUEUED\r\n");
    client.ask("EXEC", "*2\r\n:1\r\n+PONG\r\n");
    assert_eq!(
        commands(&mut client),
        ["exec", "PING", "MULTI", "SLOWLOG RESET"]
    );
}

/// The names and numbers of calls of LATENCY HISTOGRAM.
fn histogram(client: &mut Client, ask: &str) -> Vec<(String, u64)> {
    client.send(command(ask));
    let names = client.number('*') / 2;
    let mut found = Vec::new();
    for _ in 0..names {
        let name = client.bulk();
        assert_eq!(client.number('*'), 4);
        assert_eq!(client.bulk(), "calls");
        let calls = client.number(':');
        assert_eq!(client.bulk(), "histogram_usec");
        let steps: Vec<u64> = (0..client.number('*'))
            .map(|_| client.number(':'))
            .collect();
        assert_eq!(steps.last(), Some(&calls));
        found.push((name, calls));
    }
    found
}

#[test]
fn histograms_count_what_clients_asked() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client.ask("CONFIG RESETSTAT", "+OK\r\n");
    let found = histogram(&mut client, "LATENCY HISTOGRAM");
    assert_eq!(found, [("config|resetstat".to_owned(), 1)]);
    client.ask("MSET foo 1 bar 2", "+OK\r\n");
    client.ask("GET foo", "$1\r\n1\r\n");
    client.ask("GET bar", "$1\r\n2\r\n");
    client.send(command("CLIENT ID"));
    client.line();
    let found = histogram(&mut client, "LATENCY HISTOGRAM nonsense mset get client");
    let wanted = [("mset", 1), ("get", 2), ("client|id", 1)];
    assert_eq!(found, wanted.map(|(name, calls)| (name.to_owned(), calls)));
}

/// Regression: the proxy's own figures of INFO stats went on.
#[test]
fn figures_begin_anew_after_resetstat() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    for _ in 0..100 {
        client.ask("PING", "+PONG\r\n");
    }
    let processed = |client: &mut Client| {
        let figure = client.figure("total_commands_processed");
        figure.parse::<u64>().unwrap()
    };
    assert!(processed(&mut client) >= 100);
    client.ask("CONFIG RESETSTAT", "+OK\r\n");
    assert!(processed(&mut client) < 10);
}
