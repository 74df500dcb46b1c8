//! Large replies in pieces: grants, order, and every end that they can have.

use cairn_protocol::link::{FIRST_GRANT, Grant};

use super::*;

/// Fields of the hash `h`, whose whole reply is several times what needs no grant.
const FIELDS: usize = 20_000;

/// A node with the hash, a link to it, and what HGETALL answers whole.
async fn filled(dir: &TempDir) -> (Bench, Link, String) {
    let (bench, mut link) = Bench::linked(dir).await;
    for first in (0..FIELDS).step_by(1000) {
        let pairs = (first..first + 1000).map(|n| format!("f{n} {n:060}"));
        let line = format!("HSET h {}", pairs.collect::<Vec<_>>().join(" "));
        let id = link.ask(0, &line);
        link.ok(id).await;
    }
    let id = link.ask(0, "HGETALL h");
    let whole = link.ok(id).await;
    assert!(link.parts.is_empty(), "nobody said that it takes pieces");
    assert!(whole.len() > 3 * FIRST_GRANT as usize);
    (bench, link, whole)
}

impl Link {
    /// A command whose reply may come in pieces.
    fn ask_in_pieces(&mut self, logical: u64, line: &str) -> u64 {
        let flags = RequestFlags::PIECES;
        let request = Request {
            flags,
            ..request(logical, line)
        };
        self.put(request, line)
    }

    fn grant(&mut self, request: u64, bytes: usize) {
        let bytes = bytes as u32;
        Grant { request, bytes }.put(&mut self.output);
    }

    fn came(&self, request: u64) -> usize {
        let parts = self.parts.iter().filter(|(id, _)| *id == request);
        parts.map(|(_, part)| part.len()).sum()
    }

    /// Takes what needs no grant; more does not come without one.
    async fn read_until_it_waits(&mut self, request: u64) {
        while self.came(request) < FIRST_GRANT as usize {
            assert!(self.read().await);
        }
    }

    /// All of a reply, whose parts are granted as they come.
    async fn take_all(&mut self, request: u64) -> String {
        let mut whole = Vec::new();
        while !self.answers.iter().any(|(id, _)| *id == request) {
            assert!(self.read().await);
            for (id, part) in std::mem::take(&mut self.parts) {
                assert_eq!(id, request);
                self.grant(request, part.len());
                whole.extend(part);
            }
        }
        whole.extend(self.ok(request).await.into_bytes());
        String::from_utf8(whole).unwrap()
    }
}

/// Waits until no moment is kept for a reply.
async fn given_back(bench: &Bench) {
    while bench.server.pieces.now() > 0 {
        // The test's own bound ends what never comes.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_large_reply_comes_in_parts_as_they_are_granted() {
    test(async |dir| {
        let (bench, mut link, whole) = filled(dir).await;
        let big = link.ask_in_pieces(0, "HGETALL h");
        let behind = link.ask(0, "HSET h f1 other");
        link.read_until_it_waits(big).await;
        // Nothing more comes, and others are served meanwhile.
        for n in 0..50 {
            let id = link.ask(1, &format!("SET h{n} v"));
            assert_eq!(link.ok(id).await, OK);
        }
        let came = link.came(big);
        assert!(came < FIRST_GRANT as usize + 1000, "{came}");
        assert_eq!(bench.server.pieces.now(), 1);
        assert!(link.answers.iter().all(|(id, _)| *id != behind));
        let mut reply: Vec<u8> = link.parts.drain(..).flat_map(|(_, part)| part).collect();
        link.grant(big, 1000);
        while link.parts.is_empty() {
            assert!(link.read().await);
        }
        let part = link.parts.pop().unwrap().1;
        assert!(part.len() < 1200, "about what was granted: {}", part.len());
        link.grant(big, reply.len() + part.len());
        reply.extend(part);
        reply.extend(link.take_all(big).await.into_bytes());
        assert!(reply == whole.as_bytes(), "as it was when it began");
        assert_eq!(link.ok(behind).await, ":0\r\n");
        given_back(&bench).await;
        assert_eq!(bench.server.pieces.all(), 1);
        // What is answered may be granted.
        link.grant(big, 5);
        let id = link.ask_in_pieces(0, "HGET h f1");
        assert_eq!(
            link.ok(id).await,
            "$5\r\nother\r\n",
            "a small reply is whole"
        );
    });
}

#[test]
fn a_large_reply_behind_a_write_of_its_session_comes_after_it() {
    test(async |dir| {
        let (bench, mut link, _) = filled(dir).await;
        bench.fate.becomes(None);
        let write = link.ask(0, "HSET h f2 new");
        let big = link.ask_in_pieces(0, "HGETALL h");
        let count = link.ask(0, "HLEN h");
        link.flush().await;
        bench.fate.holds_one().await;
        bench.fate.release();
        assert_eq!(link.ok(write).await, ":0\r\n");
        let reply = link.take_all(big).await;
        assert!(reply.contains("$2\r\nf2\r\n$3\r\nnew\r\n"));
        assert_eq!(link.ok(count).await, format!(":{FIELDS}\r\n"));
        assert_eq!(bench.server.pieces.all(), 1);
    });
}

#[test]
fn transactions_and_those_who_cannot_take_parts_are_answered_whole() {
    test(async |dir| {
        let (bench, mut link, whole) = filled(dir).await;
        let mut wire = BytesMut::new();
        for line in ["MULTI", "HGETALL h", "EXEC"] {
            encode_request(&mut wire, line.split(' ').collect::<Vec<_>>());
        }
        let flags = RequestFlags::TRANSACTION.with(RequestFlags::PIECES);
        let request = Request {
            flags,
            ..request(0, "EXEC h")
        };
        let id = link.put_raw(request, &wire);
        assert!(link.ok(id).await == format!("*1\r\n{whole}"));
        assert_eq!(bench.server.pieces.all(), 0);
    });
}

#[test]
fn a_session_that_is_closed_gives_its_moment_back_at_once() {
    test(async |dir| {
        let (bench, mut link, _) = filled(dir).await;
        let big = link.ask_in_pieces(1, "HGETALL h");
        link.read_until_it_waits(big).await;
        Close { logical: 1 }.put(&mut link.output);
        // Every request has one answer, also then.
        assert!(matches!(link.answer(big).await, Answer::Unknown(_)));
        given_back(&bench).await;
        // Before its turn comes, too.
        bench.server.live.reply_pieces_clients.store(1, SeqCst);
        let first = link.ask_in_pieces(2, "HGETALL h");
        while link.came(first) == 0 {
            assert!(link.read().await);
        }
        let second = link.ask_in_pieces(3, "HGETALL h");
        let ping = link.ask(0, "SET x y");
        link.ok(ping).await;
        Close { logical: 3 }.put(&mut link.output);
        assert!(matches!(link.answer(second).await, Answer::Unknown(_)));
        assert_eq!(link.came(second), 0);
        assert_eq!(bench.server.pieces.all(), 2);
        drop(link);
        given_back(&bench).await;
    });
}

#[test]
fn what_nobody_grants_is_given_up_in_time() {
    test(async |dir| {
        let (bench, mut link, _) = filled(dir).await;
        bench.server.live.reply_pieces_timeout.store(1, SeqCst);
        let big = link.ask_in_pieces(0, "HGETALL h");
        let behind = Request {
            // It could be begun in time, had it not been behind a reply.
            deadline_ms: 500,
            ..request(0, "GET h9")
        };
        let behind = link.put(behind, "GET h9");
        let Answer::Unknown(line) = link.answer(big).await else {
            panic!("an end without a rest");
        };
        assert!(
            line.starts_with("-UNKNOWN a large reply was not taken"),
            "{line}"
        );
        assert_eq!(link.ok(behind).await, "$-1\r\n");
        assert_eq!(bench.server.pieces.now(), 0);
    });
}

#[test]
fn a_slot_that_moves_does_not_touch_a_reply_that_has_begun() {
    test(async |dir| {
        let (bench, mut link, whole) = filled(dir).await;
        let big = link.ask_in_pieces(0, "HGETALL h");
        link.read_until_it_waits(big).await;
        bench.gate.set("h", SlotVerdict::Moved);
        let late = link.ask_in_pieces(1, "HGETALL h");
        assert_eq!(link.answer(late).await.reason(), Some(Reason::Moved));
        let mut reply: Vec<u8> = link.parts.drain(..).flat_map(|(_, part)| part).collect();
        link.grant(big, reply.len());
        reply.extend(link.take_all(big).await.into_bytes());
        assert!(reply == whole.as_bytes());
    });
}
