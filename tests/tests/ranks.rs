//! Ranks of a large sorted set: counts are written only for those who ask for them, and
//! must agree with the order of the set whatever happened in between.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_tests::resp::{Client, encode};
use cairn_tests::seed;
use cairn_tests::server::Server;
use rand::Rng;
use rand::rngs::StdRng;

const MEMBERS: u64 = 10_000;
const ROUNDS: u64 = 6;
const PIPELINE: usize = 50;
const SAMPLES: usize = 100;

/// Requests that give members of a set scores at random, or take them out.
fn changes(set: &str, random: &mut StdRng, count: usize) -> Vec<u8> {
    let mut requests = Vec::new();
    for _ in 0..count {
        let member = format!("member:{}", random.random_range(0..MEMBERS));
        let score = random.random_range(0..MEMBERS).to_string();
        match random.random_range(0..10) {
            0 => encode(&mut requests, &["ZREM", set, &member]),
            _ => encode(&mut requests, &["ZADD", set, &score, &member]),
        }
    }
    requests
}

/// Changes the set until the connection ends; how many were answered.
fn change_until_killed(set: &str, client: &mut Client, random: &mut StdRng) -> u64 {
    let mut answered = 0;
    let mut change = || client.pipeline(&changes(set, random, PIPELINE), PIPELINE);
    while change().is_ok() {
        answered += PIPELINE as u64;
    }
    answered
}

/// Compares ranks, indexes and counts with the whole set in order, which needs none.
fn check(set: &str, client: &mut Client, random: &mut StdRng) {
    let whole = client.words(&format!("ZRANGE {set} 0 -1 WITHSCORES"));
    let order: Vec<(String, f64)> = whole
        .array()
        .chunks(2)
        .map(|pair| (pair[0].text(), pair[1].text().parse().expect("a score")))
        .collect();
    assert!(order.is_sorted_by(|a, b| a.1 <= b.1));
    let size = client.words(&format!("ZCARD {set}")).integer();
    assert_eq!(size, order.len() as i64);
    for _ in 0..SAMPLES {
        let at = random.random_range(0..order.len());
        let (member, score) = &order[at];
        let rank = client.command(&["ZRANK", set, member]);
        assert_eq!(rank.integer(), at as i64, "{member}");
        let found = client.words(&format!("ZRANGE {set} {at} {at}"));
        assert_eq!(found.array()[0].text(), *member, "at {at}");
        let below = order.iter().filter(|(_, other)| other < score).count();
        let count = client.words(&format!("ZCOUNT {set} -inf ({score}"));
        assert_eq!(count.integer(), below as i64, "below {score}");
    }
}

/// Each round has a set of its own: of one that was asked for ranks not long ago, the
/// counts are written.
#[test]
fn ranks_of_a_large_set_agree_with_its_order_after_kill_9() {
    let seed = seed::seed("ranks after kill -9");
    let mut random = seed::rng(seed, 0);
    let mut server = Server::start(&[]);
    for round in 0..ROUNDS {
        let set = format!("z{round}");
        let mut client = server.client();
        for _ in 0..2 * MEMBERS as usize / PIPELINE {
            let replies = client.pipeline(&changes(&set, &mut random, PIPELINE), PIPELINE);
            replies.expect("the server answers");
        }
        let mut dice = seed::rng(seed, round + 1);
        let lifetime = Duration::from_millis(random.random_range(100..600));
        let name = &set;
        let answered = std::thread::scope(|scope| {
            let writer = scope.spawn(move || change_until_killed(name, &mut client, &mut dice));
            std::thread::sleep(lifetime);
            server.kill9();
            writer.join().expect("a writer ends with its connection")
        });
        assert!(answered > 0, "round {round}: no load");
        server.restart();
        let mut client = server.client();
        if round % 2 == 0 {
            // Not asked at once: changes meet what nobody has counted.
            let more = client.pipeline(&changes(&set, &mut random, 2_000), 2_000);
            more.expect("the server answers");
        }
        check(&set, &mut client, &mut random);
        println!("round {round}: killed after {lifetime:?}, {answered} changes");
    }
    // All of them once more: those of the rounds before were killed with what was asked.
    for round in 0..ROUNDS {
        check(&format!("z{round}"), &mut server.client(), &mut random);
    }
}

/// Two members change sides in one command, so that the middle stays where it is. One
/// set after the other, each of which is first asked for ranks beside its changes.
#[test]
fn ranks_that_are_asked_beside_writes_are_of_one_moment() {
    const HALF: u64 = 1_500;
    const SETS: u64 = 12;
    let seed = seed::seed("ranks beside writes");
    let server = Server::start(&[]);
    let asked = AtomicU64::new(0);
    for set in 0..SETS {
        let (server, set) = (&server, &format!("z{set}"));
        let mut client = server.client();
        let mut requests = Vec::new();
        for n in 0..HALF {
            let (low, high) = (format!("-{}", n + 1), format!("{}", n + 1));
            encode(&mut requests, &["ZADD", set, &low, &format!("a{n}")]);
            encode(&mut requests, &["ZADD", set, &high, &format!("b{n}")]);
        }
        encode(&mut requests, &["ZADD", set, "0", "middle"]);
        let loaded = client.pipeline(&requests, 2 * HALF as usize + 1);
        loaded.expect("the server answers");
        let over = AtomicBool::new(false);
        let ask = || {
            let mut client = server.client();
            std::thread::sleep(Duration::from_millis(50));
            while !over.load(Ordering::Relaxed) {
                let rank = client.command(&["ZRANK", set, "middle"]);
                assert_eq!(rank.integer(), HALF as i64);
                let count = client.words(&format!("ZCOUNT {set} (0 +inf"));
                assert_eq!(count.integer(), HALF as i64);
                let found = client.words(&format!("ZRANGE {set} {HALF} {HALF}"));
                assert_eq!(found.array()[0].text(), "middle");
                asked.fetch_add(3, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            let readers = [scope.spawn(ask), scope.spawn(ask)];
            let (mut random, mut turned) = (seed::rng(seed, 1), vec![false; HALF as usize]);
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(200) {
                let mut requests = Vec::new();
                for _ in 0..PIPELINE {
                    let n = random.random_range(0..HALF) as usize;
                    let score = random.random_range(1..HALF).to_string();
                    let minus = format!("-{score}");
                    turned[n] = !turned[n];
                    let (a, b) = match turned[n] {
                        true => (&score, &minus),
                        false => (&minus, &score),
                    };
                    let members = (format!("a{n}"), format!("b{n}"));
                    let request = ["ZADD", set, a, &members.0, b, &members.1];
                    encode(&mut requests, &request);
                }
                let replies = client.pipeline(&requests, PIPELINE);
                replies.expect("the server answers");
            }
            over.store(true, Ordering::Relaxed);
            for reader in readers {
                reader.join().expect("every answer was of one moment");
            }
        });
    }
    assert!(asked.load(Ordering::Relaxed) > 100, "nobody asked");
}
