//! Commands and their replies: order, versions, databases, cold data.

use cairn_protocol::slot::CURSOR_POSITION_BITS;

use super::*;

#[test]
fn commands_of_a_session_keep_their_order() {
    test(async |dir| {
        let (_bench, mut link) = Bench::linked(dir).await;
        let ids = [
            "GET k",
            "SET k a",
            "GET k",
            "APPEND k b",
            "GET k",
            "GET other",
        ]
        .map(|line| link.ask(0, line));
        let wanted = [
            "$-1\r\n",
            OK,
            "$1\r\na\r\n",
            ":2\r\n",
            "$2\r\nab\r\n",
            "$-1\r\n",
        ];
        for (id, wanted) in ids.into_iter().zip(wanted) {
            assert_eq!(link.ok(id).await, wanted);
        }
    });
}

#[test]
fn versions_databases_and_errors_come_with_the_request() {
    test(async |dir| {
        let (_bench, mut link) = Bench::linked(dir).await;
        let set = link.put(
            Request {
                database: 5,
                ..request(0, "SET k")
            },
            "SET k v",
        );
        let other = link.ask(0, "GET k");
        let resp3 = Request {
            flags: RequestFlags::RESP3,
            ..request(1, "GET k")
        };
        let null = link.put(resp3, "GET k");
        let db = link.put(
            Request {
                database: 16,
                ..request(1, "GET k")
            },
            "GET k",
        );
        let unknown = link.ask(1, "NONSENSE k");
        let arity = link.ask(1, "GET k k");
        let slot = link.put(
            Request {
                slot: 1,
                ..request(1, "")
            },
            "GET k",
        );
        let none = link.put(
            Request {
                slot: NO_SLOT,
                ..request(1, "")
            },
            "GET k",
        );
        let garbage = link.put_raw(request(1, "GET k"), b"*2\r\n$3\r\nGET\r\n");
        let typed = link.ask(2, "INCR k");
        let text = link.ask(2, "SET k text");
        let wrong = link.ask(2, "INCR k");
        assert_eq!(link.ok(set).await, OK);
        assert_eq!(link.ok(other).await, "$-1\r\n");
        assert_eq!(link.ok(null).await, "_\r\n");
        assert_eq!(link.ok(db).await, "-ERR DB index is out of range\r\n");
        assert!(link.ok(unknown).await.starts_with("-ERR unknown command"));
        assert!(
            link.ok(arity)
                .await
                .starts_with("-ERR wrong number of arguments")
        );
        assert!(
            link.ok(slot)
                .await
                .starts_with("-ERR the request names another slot")
        );
        assert!(
            link.ok(none)
                .await
                .starts_with("-ERR the request names another slot")
        );
        assert!(link.ok(garbage).await.starts_with("-ERR Protocol error"));
        assert_eq!(link.ok(typed).await, ":1\r\n");
        assert_eq!(link.ok(text).await, OK);
        assert_eq!(
            link.ok(wrong).await,
            "-ERR value is not an integer or out of range\r\n"
        );
    });
}

#[test]
fn a_cold_read_delays_its_own_session_alone() {
    test(async |dir| {
        let (_bench, mut link) = Bench::linked(dir).await;
        let set = link.ask(0, "SET k v");
        assert_eq!(link.ok(set).await, OK);
        let keys = link.ask_group(0, "KEYS *");
        let behind = link.ask(0, "GET k");
        let write = link.ask(0, "SET k w");
        let free = link.ask(1, "GET k");
        assert_eq!(link.ok(keys).await, "*1\r\n$1\r\nk\r\n");
        assert_eq!(link.ok(behind).await, "$1\r\nv\r\n");
        assert_eq!(link.ok(write).await, OK);
        assert_eq!(link.ok(free).await, "$1\r\nv\r\n");
        assert!(link.place(free) < link.place(keys));
        assert!(link.place(keys) < link.place(behind));
    });
}

#[test]
fn a_cold_write_is_fetched_and_keeps_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (bench, mut link) = Bench::linked(&dir).await;
        let ids: Vec<u64> = (0..500)
            .map(|i| link.ask(0, &format!("SET key{i} {i}")))
            .collect();
        for id in ids {
            assert_eq!(link.ok(id).await, OK);
        }
        bench.group.store.flush().unwrap();
    });
    drop(runtime);
    test(async |_| {
        let (bench, mut link) = Bench::linked(&dir).await;
        let lines = [
            "APPEND key7 a",
            "APPEND key8 a",
            "APPEND key7 b",
            "GET key7",
            "GET key9",
        ];
        let ids = lines.map(|line| link.ask(0, line));
        let wanted = [":2\r\n", ":2\r\n", ":3\r\n", "$3\r\n7ab\r\n", "$1\r\n9\r\n"];
        for (id, wanted) in ids.into_iter().zip(wanted) {
            assert_eq!(link.ok(id).await, wanted);
        }
        assert_eq!(
            bench.group.writer_cold_reads.load(SeqCst),
            0,
            "the writer never waited"
        );
    });
}

#[test]
fn many_sessions_keep_their_orders_while_entries_are_slow() {
    test(async |dir| {
        let bench = Bench::start(dir).await;
        let mut link = Link::connect(&bench, b"s").await.unwrap();
        (0..100).for_each(|session| link.open(session));
        let fate = bench.fate.clone();
        // Entries are held until something waits, over and over.
        let pacer = tokio::task::spawn_local(async move {
            loop {
                fate.becomes(None);
                tokio::task::yield_now().await;
                fate.release();
                tokio::task::yield_now().await;
            }
        });
        let mut asked: HashMap<u64, Vec<u64>> = HashMap::new();
        for step in 0..60 {
            for session in 0..100 {
                let line = match step % 5 {
                    4 => format!("STRLEN key{session}"),
                    _ => format!("APPEND key{session} x"),
                };
                asked
                    .entry(session)
                    .or_default()
                    .push(link.ask(session, &line));
            }
            if step % 7 == 0 {
                link.flush().await;
                tokio::task::yield_now().await;
            }
        }
        for ids in asked.values() {
            let mut len = 0;
            for (step, id) in ids.iter().enumerate() {
                len += usize::from(step % 5 != 4);
                assert_eq!(link.ok(*id).await, format!(":{len}\r\n"));
            }
        }
        pacer.abort();
    });
}

#[test]
fn large_values_pass_in_both_directions() {
    test(async |dir| {
        let (_bench, mut link) = Bench::linked(dir).await;
        let value = "v".repeat(300_000);
        let set = link.ask(0, &format!("SET big {value}"));
        let behind = link.ask(0, &format!("APPEND big {value}"));
        let get = link.ask(0, "GET big");
        assert_eq!(link.ok(set).await, OK);
        assert_eq!(link.ok(behind).await, ":600000\r\n");
        assert_eq!(link.ok(get).await, format!("$600000\r\n{value}{value}\r\n"));
    });
}

#[test]
fn a_scan_stops_where_the_groups_slots_end() {
    test(async |dir| {
        let mut map = GenerationMap::all_slots();
        // "bar" is in slot 5061, "foo" in 12182.
        for db in 0..16 {
            map.live.set(db, 6000..7000, NONE);
        }
        let bench = Bench::with(dir, map).await;
        let mut link = bench.link().await;
        let ids = [link.ask(0, "SET foo 1"), link.ask(0, "SET bar 1")];
        for id in ids {
            assert_eq!(link.ok(id).await, OK);
        }
        let page = |slot: u16| Request {
            slot,
            ..request(0, "")
        };
        let first = link.put(page(0), "SCAN 0 COUNT 100");
        let gap = (6000_u64 << CURSOR_POSITION_BITS).to_string();
        let wanted = format!("*2\r\n${}\r\n{gap}\r\n*1\r\n$3\r\nbar\r\n", gap.len());
        assert_eq!(link.ok(first).await, wanted);
        let line = format!("SCAN {} COUNT 100", 7000_u64 << CURSOR_POSITION_BITS);
        let last = link.put(page(7000), &line);
        assert_eq!(link.ok(last).await, "*2\r\n$1\r\n0\r\n*1\r\n$3\r\nfoo\r\n");
    });
}
