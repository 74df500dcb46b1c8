//! What is not executed: the fence, hints, deadlines, lost entries.

use super::*;

#[test]
fn a_frozen_slot_raises_the_fence_until_resume() {
    test(async |dir| {
        let (bench, mut link) = Bench::linked(dir).await;
        bench.gate.set("k", SlotVerdict::Frozen);
        let first = link.ask(0, "SET k 1");
        let free = link.ask(0, "SET free 1");
        assert_eq!(link.answer(first).await.reason(), Some(Reason::Frozen));
        assert_eq!(link.ok(free).await, OK);
        bench.gate.set("k", SlotVerdict::Serve);
        let fenced = [link.ask(0, "SET k 2"), link.ask(0, "GET k")];
        let other = link.ask(1, "SET k other");
        for id in fenced {
            assert_eq!(link.answer(id).await.reason(), Some(Reason::Fenced));
        }
        assert_eq!(link.ok(other).await, OK, "the fence is one session's");
        let again = [
            link.resume(0, "SET k 1"),
            link.ask(0, "APPEND k 2"),
            link.ask(0, "GET k"),
        ];
        assert_eq!(link.ok(again[0]).await, OK);
        assert_eq!(link.ok(again[1]).await, ":2\r\n");
        assert_eq!(link.ok(again[2]).await, "$2\r\n12\r\n");
    });
}

#[test]
fn what_the_writer_refuses_is_fenced_too() {
    test(async |dir| {
        let (bench, mut link) = Bench::linked(dir).await;
        bench.fate.becomes(None);
        let blocking = link.ask(1, "SET x 1");
        link.flush().await;
        bench.fate.holds_one().await;
        // These wait for the writer while their slot freezes, and thaws again
        // before the last of them comes.
        let gathered = [
            link.ask(0, "SET k 1"),
            link.ask(0, "SET k 2"),
            link.ask(0, "SET free 1"),
        ];
        let pinged = 77;
        Ping { token: pinged }.put(&mut link.output);
        while !link.pongs.contains(&pinged) {
            link.read().await;
        }
        bench.gate.set("k", SlotVerdict::Frozen);
        bench.fate.release();
        assert_eq!(link.ok(blocking).await, OK);
        assert_eq!(
            link.answer(gathered[0]).await.reason(),
            Some(Reason::Frozen)
        );
        bench.gate.set("k", SlotVerdict::Serve);
        let late = link.ask(0, "SET k 3");
        assert_eq!(
            link.answer(gathered[1]).await.reason(),
            Some(Reason::Fenced)
        );
        assert_eq!(link.ok(gathered[2]).await, OK);
        assert_eq!(link.answer(late).await.reason(), Some(Reason::Fenced));
    });
}

#[test]
fn a_slot_that_moved_is_answered_with_a_hint() {
    test(async |dir| {
        let (bench, mut link) = Bench::linked(dir).await;
        bench.gate.set("k", SlotVerdict::Moved);
        let id = link.ask(0, "GET k");
        let hint = Answer::Moved(Reason::Moved, 2, 7, "other:1".into());
        assert_eq!(link.answer(id).await, hint);
        // This node is the one that is behind: it may not serve.
        let ahead = link.put(
            Request {
                epoch: 4,
                ..request(1, "GET x")
            },
            "GET x",
        );
        assert_eq!(
            link.answer(ahead).await,
            Answer::Moved(Reason::Moved, 0, 0, String::new())
        );
        let elsewhere = link.put(
            Request {
                group: 9,
                slot: NO_SLOT,
                ..request(1, "")
            },
            "DBSIZE",
        );
        let leader = Answer::Moved(Reason::NotLeader, 9, 0, "leader:1".into());
        assert_eq!(link.answer(elsewhere).await, leader);
    });
}

#[test]
fn a_node_that_does_not_lead_says_who_does() {
    test(async |dir| {
        let (bench, mut link) = Bench::linked(dir).await;
        bench.group.set_ready(false);
        let ids = [link.ask(0, "SET k v"), link.ask(1, "GET k")];
        for id in ids {
            assert_eq!(link.answer(id).await.reason(), Some(Reason::NotLeader));
        }
        bench.group.set_ready(true);
        let again = link.resume(0, "SET k v");
        assert_eq!(link.ok(again).await, OK);
    });
}

#[test]
fn lost_and_refused_entries_are_told_apart() {
    test(async |dir| {
        let (bench, mut link) = Bench::linked(dir).await;
        bench.fate.becomes(Commit::Lost);
        let ids = [link.ask(0, "SET k 1"), link.ask(0, "GET k")];
        for id in ids {
            let answer = link.answer(id).await;
            assert!(
                matches!(&answer, Answer::Unknown(line) if line.starts_with("-UNKNOWN ")),
                "{answer:?}"
            );
        }
        bench.fate.becomes(Commit::Refused);
        let ids = [link.ask(0, "SET k 2"), link.ask(0, "SET k 3")];
        let answer = link.answer(ids[0]).await;
        assert!(
            matches!(&answer, Answer::NotExecuted(line) if line.starts_with('-')),
            "{answer:?}"
        );
        link.answer(ids[1]).await;
        bench.fate.becomes(Commit::Applied);
        let fenced = link.ask(0, "SET k 4");
        assert_eq!(link.answer(fenced).await.reason(), Some(Reason::Fenced));
        let again = link.resume(0, "GET k");
        assert_eq!(link.ok(again).await, "$-1\r\n");
    });
}

#[test]
fn what_is_not_begun_by_its_deadline_is_not_executed() {
    test(async |dir| {
        let (bench, mut link) = Bench::linked(dir).await;
        bench.fate.becomes(None);
        let first = link.ask(0, "SET k 1");
        link.flush().await;
        bench.fate.holds_one().await;
        let soon = |logical| Request {
            deadline_ms: 50,
            ..request(logical, "SET k 1")
        };
        let waits_in_lane = link.put(soon(0), "APPEND k 2");
        let waits_in_queue = link.put(soon(1), "APPEND k 3");
        for id in [waits_in_lane, waits_in_queue] {
            let answer = link.answer(id).await;
            assert!(matches!(answer, Answer::NotExecuted(_)), "{answer:?}");
        }
        bench.fate.release();
        assert_eq!(link.ok(first).await, OK, "what was begun is not cut short");
        let value = link.ask(2, "GET k");
        assert_eq!(link.ok(value).await, "$1\r\n1\r\n");
    });
}
