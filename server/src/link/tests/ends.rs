//! How links begin and end, and what they suffer.

use super::*;

#[test]
fn a_closed_session_is_still_answered() {
    test(async |dir| {
        let (_bench, mut link) = Bench::linked(dir).await;
        let (set, keys) = (link.ask(0, "SET k v"), link.ask_group(0, "KEYS *"));
        Close { logical: 0 }.put(&mut link.output);
        link.open(1 << 32);
        let new = link.ask(1 << 32, "GET nothing");
        assert_eq!(link.ok(set).await, OK);
        assert_eq!(link.ok(keys).await, "*1\r\n$1\r\nk\r\n");
        assert_eq!(link.ok(new).await, "$-1\r\n");
        let old = link.ask(0, "GET k");
        assert_eq!(link.end().await, Some(1));
        assert!(!link.answers.iter().any(|(id, _)| *id == old));
    });
}

#[test]
fn protocol_errors_end_the_link_with_goaway() {
    type Wrong = fn(&mut Link);
    let wrongs: [Wrong; 6] = [
        |link| _ = link.ask(99, "GET k"),
        // The index of a session that is open.
        |link| link.open(1 << 32),
        |link| Close { logical: 50 }.put(&mut link.output),
        |link| (0..700).for_each(|_| _ = link.ask_group(0, "KEYS *")),
        |link| cairn_protocol::link::put_reply(&mut link.output, 1, ReplyClass::Ok, b"+\r\n"),
        |link| link.output.extend_from_slice(&[0xff; 64]),
    ];
    for wrong in wrongs {
        test(async |dir| {
            let (_bench, mut link) = Bench::linked(dir).await;
            wrong(&mut link);
            assert_eq!(link.end().await, Some(1));
        });
    }
}

#[test]
fn random_bytes_never_harm_other_links() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut good = bench.link().await;
        let mut seed = 42_u64;
        for round in 0..200 {
            let mut bytes = Vec::new();
            for _ in 0..=round {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                bytes.extend_from_slice(&seed.to_le_bytes()[2..7]);
            }
            if round % 2 == 0 {
                let mut link = bench.link().await;
                // Well framed half of the time.
                if round % 4 == 0 {
                    let mut random = request(seed % 6, "GET k");
                    random.group = (seed >> 20) as u32 % 3;
                    random.slot = (seed >> 40) as u16;
                    random.flags = RequestFlags((seed >> 50) as u8);
                    link.put_raw(random, &bytes);
                } else {
                    link.output.extend_from_slice(&bytes);
                }
                link.flush().await;
            } else {
                let mut stream = TcpStream::connect(bench.address).await.unwrap();
                let _ = stream.write_all(b"CRNL").await;
                let _ = stream.write_all(&bytes).await;
            }
        }
        let id = good.ask(0, "SET k v");
        assert_eq!(good.ok(id).await, OK);
    });
}

#[test]
fn strangers_and_wrong_secrets_are_not_let_in() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        assert!(Link::connect(&bench, b"wrong").await.is_none());
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "closed without a word");
    });
}

#[test]
fn http2_is_handed_on_from_its_first_byte() {
    test(async |dir| {
        let mut bench = Bench::start(dir).await;
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(b"PR").await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(b"I * HTTP/2.0\r\n").await.unwrap();
        let handed = bench.http2.recv().await.expect("handed on");
        let mut handed = TcpStream::from_std(handed).unwrap();
        let mut first = [0; 16];
        handed.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"PRI * HTTP/2.0\r\n");
    });
}

#[test]
fn a_stopping_node_says_goodbye_and_answers_what_comes() {
    test(async |dir| {
        let (bench, mut link) = Bench::linked(dir).await;
        let before = link.ask(0, "SET k v");
        assert_eq!(link.ok(before).await, OK);
        assert_eq!(bench.server.connected.load(SeqCst), 1);
        bench.server.request_stop();
        while link.away.is_none() {
            assert!(link.read().await);
        }
        assert_eq!(link.away, Some(0));
        let late = link.ask(0, "GET k");
        assert_eq!(link.ok(late).await, "$1\r\nv\r\n");
        drop(link);
        while bench.server.connected.load(SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_slow_reader_stops_its_own_link_and_no_more() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let (mut slow, mut good) = (bench.link().await, bench.link().await);
        let value = Bytes::from("v".repeat(200_000));
        let set = slow.ask(0, &format!("SET big {}", String::from_utf8_lossy(&value)));
        assert_eq!(slow.ok(set).await, OK);
        // Far more than the node keeps for one link and the kernel for a socket.
        let ids: Vec<u64> = (0..400).map(|_| slow.ask(1, "GET big")).collect();
        slow.flush().await;
        let set = good.ask(0, "SET other 1");
        assert_eq!(good.ok(set).await, OK);
        for id in ids {
            assert_eq!(slow.ok(id).await.len(), 200_000 + 11);
        }
    });
}
