//! Who is told what of several groups.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use cairn_protocol::acl::Registry;
use cairn_protocol::link::feed::{Frame, FrameKind, take_frame};
use cairn_protocol::resp::ReplyWriter;

use super::{Feed, Replica};
use crate::commands::testing::Bench;
use crate::config::{Config, LiveSettings};
use crate::net::session::Client;
use crate::storage::Held;
use crate::txn::tape::Tape;

struct Fixture {
    bench: Bench,
    feed: Feed,
    clients: u64,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture {
            bench: Bench::new(),
            feed: Feed::default(),
            clients: 0,
        }
    }

    fn client(&mut self) -> Arc<Client> {
        self.clients += 1;
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let account = Registry::default().default_user().clone();
        let live = Arc::new(LiveSettings::new(&Config::default()));
        Arc::new(Client::new(self.clients, nowhere, nowhere, live, account))
    }

    fn attach(&self, replica: &Arc<Replica>, group: u32) {
        let hold = self.bench.store.hold_garbage(Held::Expired);
        self.feed.attach(replica.clone(), group, hold);
    }

    fn plain(&mut self) -> Arc<Replica> {
        let client = self.client();
        Arc::new(Replica::new(client, "h".into(), 1, false))
    }

    fn framed(&mut self) -> Arc<Replica> {
        let client = self.client();
        Arc::new(Replica::behind_proxy(client, "h".into()))
    }

    fn tell(&self, group: u32, db: usize, words: &str) {
        let mut tape = Tape::default();
        tape.push(db, words.split(' ').collect::<Vec<_>>());
        if words.starts_with("FLUSH") {
            tape.mark_whole();
        }
        self.feed.tell(group, &tape);
    }
}

fn told(replica: &Replica) -> Vec<u8> {
    let mut out = ReplyWriter::default();
    replica.client.take_messages(&mut out);
    out.to_vec()
}

fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split("\r\n").filter(|w| !w.starts_with(['$', '*']));
    words.collect::<Vec<_>>().join(" ").trim().to_owned()
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut input = BytesMut::from(bytes);
    std::iter::from_fn(|| take_frame(&mut input).unwrap()).collect()
}

#[test]
fn a_replica_is_told_of_its_groups_alone_and_knows_what_is_selected() {
    let mut fixture = Fixture::new();
    let (one, both) = (fixture.plain(), fixture.plain());
    fixture.attach(&one, 1);
    fixture.attach(&both, 1);
    fixture.attach(&both, 2);
    fixture.tell(1, 0, "SET a 1");
    fixture.tell(2, 3, "SET b 1");
    fixture.tell(1, 3, "SET c 1");
    assert_eq!(words(&told(&one)), "SELECT 0 SET a 1 SELECT 3 SET c 1");
    assert_eq!(
        words(&told(&both)),
        "SELECT 0 SET a 1 SELECT 3 SET b 1 SELECT 3 SET c 1"
    );
}

#[test]
fn a_replica_begins_where_what_it_is_told_begins() {
    let mut fixture = Fixture::new();
    let (first, second) = (fixture.plain(), fixture.plain());
    fixture.attach(&first, 1);
    fixture.tell(1, 0, "SET a 1");
    let before = fixture.feed.offset();
    fixture.attach(&second, 1);
    fixture.tell(1, 0, "SET b 1");
    assert_eq!(fixture.feed.begins_at(second.client.id), Some(before));
    fixture.feed.dismiss("a test");
    assert_eq!(fixture.feed.begins_at(second.client.id), None);
    assert!(first.client.is_killed() && !first.client.is_replica());
    assert!(!fixture.feed.is_recording());
}

#[test]
fn a_flush_of_one_of_several_groups_ends_those_that_cannot_tell_groups_apart() {
    let mut fixture = Fixture::new();
    let (one, both, proxy) = (fixture.plain(), fixture.plain(), fixture.framed());
    fixture.attach(&one, 1);
    for replica in [&both, &proxy] {
        fixture.attach(replica, 1);
        fixture.attach(replica, 2);
    }
    fixture.tell(1, 0, "FLUSHALL");
    assert!(both.client.is_killed());
    assert!(!one.client.is_killed() && !proxy.client.is_killed());
    assert_eq!(words(&told(&one)), "SELECT 0 FLUSHALL");
    let frames = frames(&told(&proxy));
    assert_eq!(
        (frames[0].head.kind, frames[0].head.group),
        (FrameKind::Whole, 1)
    );
    assert_eq!(words(&frames[0].payload), "FLUSHALL");
}

#[test]
fn frames_are_numbered_stamped_and_marked() {
    let mut fixture = Fixture::new();
    let proxy = fixture.framed();
    fixture.attach(&proxy, 1);
    fixture.tell(1, 2, "SET a 1");
    fixture.tell(9, 2, "SET not ours");
    fixture
        .feed
        .tell_message(0, ["PUBLISH", "c", "m"].map(str::as_bytes).into_iter());
    fixture.feed.mark(&proxy.client);
    let frames = frames(&told(&proxy));
    let kinds: Vec<FrameKind> = frames.iter().map(|frame| frame.head.kind).collect();
    assert_eq!(
        kinds,
        [FrameKind::Tape, FrameKind::Message, FrameKind::Marked]
    );
    assert_eq!(frames[0].head.databases, (2, 2));
    assert_eq!(words(&frames[0].payload), "SET a 1");
    assert!(frames.is_sorted_by(|a, b| a.head.stamp < b.head.stamp));
    assert!(frames.is_sorted_by(|a, b| a.head.offset <= b.head.offset));
    assert_eq!(frames[2].head.offset, fixture.feed.offset());
}
