//! kill -9 at random moments under load: every acknowledged write is there.
//!
//! `CAIRN_CRASH_ROUNDS` sets the number of kills of each test (default 8; 50 in
//! `make soak`), `CAIRN_SEED` repeats a run's choices (not its timing).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cairn_tests::collections::{Collector, Consumer, Witness};
use cairn_tests::resp::Client;
use cairn_tests::seed;
use cairn_tests::server::Server;
use cairn_tests::workload::{Certainty, OnError, SharedCounters, Writer};
use rand::Rng;

const WRITERS: u32 = 12;
const COLLECTORS: u32 = 3;
const MAX_PIPELINE: usize = 32;
const REPLAY_LIMIT: Duration = Duration::from_secs(5);

#[test]
fn kill_9_loses_no_acknowledged_write_with_appendfsync_always() {
    crash_rounds("always");
}

#[test]
fn kill_9_loses_no_acknowledged_write_with_appendfsync_everysec() {
    crash_rounds("everysec");
}

#[test]
fn kill_9_loses_no_acknowledged_write_with_appendfsync_no() {
    crash_rounds("no");
}

#[test]
fn sigterm_ends_with_success_and_keeps_everything() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    for number in 0..1_000 {
        client.command(&["SET", &format!("key:{number}"), &number.to_string()]);
    }
    let status = server.stop();
    assert!(status.success(), "SIGTERM ended with {status}");
    server.restart();
    let mut client = server.client();
    assert_eq!(client.words("DBSIZE").integer(), 1_000);
    assert_eq!(client.words("GET key:999").text(), "999");
}

fn crash_rounds(appendfsync: &str) {
    let rounds = seed::size("CAIRN_CRASH_ROUNDS", 8);
    let seed = seed::seed(&format!("crash under {appendfsync}"));
    let mut moments = seed::rng(seed, 0);
    let mut server = Server::start(&["--appendfsync", appendfsync]);
    let shared = Arc::new(SharedCounters::default());
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|id| Writer::new(id, seed, &shared, MAX_PIPELINE))
        .collect();
    let mut collections = Collections::start(seed, &server);
    for round in 1..=rounds {
        let lifetime = Duration::from_millis(moments.random_range(50..1_500));
        write_until_killed(&mut server, &mut writers, &mut collections, lifetime);
        let replay = server.restart();
        assert!(
            replay < REPLAY_LIMIT,
            "round {round}: replay took {replay:?}"
        );
        verify(&server, &mut writers, &shared);
        collections.verify(&mut server.client());
        println!("round {round}/{rounds}: killed after {lifetime:?}, back in {replay:?}");
    }
    let acknowledged: u64 = writers.iter().map(|writer| writer.acknowledged).sum();
    println!("{acknowledged} acknowledged commands survived {rounds} kills");
    collections.assert_load(rounds);
    assert!(
        acknowledged > rounds * 100,
        "only {acknowledged} writes in {rounds} rounds: no load"
    );
}

/// Writers of collections, each with a consumer of its queue and a witness.
struct Collections(Vec<(Collector, Consumer, Witness)>);

impl Collections {
    fn start(seed: u64, server: &Server) -> Collections {
        let mut client = server.client();
        let all = (0..COLLECTORS).map(|id| {
            let collector = Collector::new(id, seed, MAX_PIPELINE);
            collector.prepare(&mut client);
            (collector, Consumer::new(id), Witness::new(id))
        });
        Collections(all.collect())
    }

    fn verify(&mut self, client: &mut Client) {
        for (collector, consumer, _) in &mut self.0 {
            collector.verify(client, Certainty::Prefix, Some(consumer));
        }
    }

    fn assert_load(&self, rounds: u64) {
        let written: u64 = self
            .0
            .iter()
            .map(|(collector, ..)| collector.acknowledged)
            .sum();
        let taken: usize = self.0.iter().map(|(_, consumer, _)| consumer.taken()).sum();
        let looks: u64 = self.0.iter().map(|(.., witness)| witness.looks).sum();
        println!("{written} operations on collections, {taken} taken from queues, {looks} looks");
        assert!(written > rounds * 20 && taken > 0 && looks > 0, "no load");
    }
}

fn write_until_killed(
    server: &mut Server,
    writers: &mut [Writer],
    collections: &mut Collections,
    lifetime: Duration,
) {
    let port = server.port();
    let never = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in writers {
            let never = &never;
            scope.spawn(move || {
                let mut client = Client::connect(port);
                let end = writer.run(&mut client, never, OnError::Fail);
                assert!(end.is_err(), "a writer ends only when its server dies");
            });
        }
        for (collector, consumer, witness) in &mut collections.0 {
            let never = &never;
            scope.spawn(move || {
                let end = collector.run(&mut Client::connect(port), never, OnError::Fail);
                assert!(end.is_err(), "a collector ends only when its server dies");
            });
            scope.spawn(move || {
                let end = consumer.run(&mut Client::connect(port), never, OnError::Fail);
                assert!(end.is_err(), "a consumer ends only when its server dies");
            });
            scope.spawn(move || {
                let end = witness.run(&mut Client::connect(port), never, OnError::Fail);
                assert!(end.is_err(), "a witness ends only when its server dies");
            });
        }
        // The moment of the kill is the random variable here: no condition to await.
        std::thread::sleep(lifetime);
        server.kill9();
    });
}

fn verify(server: &Server, writers: &mut [Writer], shared: &SharedCounters) {
    let mut client = server.client();
    for writer in writers {
        writer.verify(&mut client, Certainty::Prefix);
    }
    shared.verify(&mut client, false);
}
