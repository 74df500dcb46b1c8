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
        self.feed.attach(replica.clone(), group, hold, false);
    }

    fn attach_one_of_several(&self, replica: &Arc<Replica>, group: u32) {
        let hold = self.bench.store.hold_garbage(Held::Expired);
        self.feed.attach(replica.clone(), group, hold, true);
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
    assert_eq!(
        fixture.feed.begins_at(second.client.id),
        Some((before, None))
    );
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
        fixture.attach_one_of_several(replica, 1);
        fixture.attach_one_of_several(replica, 2);
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

/// Regression: what the other groups hold was pinned behind their own flush, and the one
/// of this group, which was told behind it, took it away.
#[test]
fn a_flush_before_a_replica_is_attached_to_all_groups_ends_it() {
    let mut fixture = Fixture::new();
    let (replica, proxy) = (fixture.plain(), fixture.framed());
    fixture.attach_one_of_several(&replica, 1);
    fixture.attach_one_of_several(&proxy, 1);
    fixture.tell(1, 0, "FLUSHALL");
    assert!(replica.client.is_killed() && !proxy.client.is_killed());
    // It has to begin anew with all of them.
    fixture.attach_one_of_several(&replica, 2);
    assert_eq!(fixture.feed.begins_at(replica.client.id), None);
    assert!(!replica.client.is_replica());
    assert_eq!(words(&told(&replica)), "");
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

impl Fixture {
    fn resume(&mut self, next: u64) -> Option<Arc<Replica>> {
        let replica = self.plain();
        let hold = self.bench.store.hold_garbage(Held::Expired);
        let resumed = self.feed.resume(replica.clone(), 1, hold, next);
        resumed.then_some(replica)
    }
}

#[test]
fn a_replica_that_comes_back_is_told_what_it_missed_or_nothing() {
    let mut fixture = Fixture::new();
    assert!(fixture.resume(1).is_none(), "nobody was ever there");
    fixture.feed.follow(&Config::default().settings);
    fixture.feed.keep_backlog();
    let first = fixture.plain();
    fixture.attach(&first, 1);
    fixture.tell(1, 0, "SET a 1");
    let all = told(&first);
    fixture.feed.detach(&first.client);
    assert!(fixture.feed.is_recording(), "it may come back");
    fixture.tell(1, 0, "SET b 1");
    let end = fixture.feed.offset();
    assert_eq!(fixture.feed.backlog(), Some((end as usize, 1)));
    let back = fixture.resume(all.len() as u64 + 1).unwrap();
    assert_eq!(words(&told(&back)), "SET b 1");
    fixture.tell(1, 0, "SET c 1");
    assert_eq!(words(&told(&back)), "SET c 1");
    // From the beginning, and with nothing missed.
    let whole = fixture.resume(1).unwrap();
    assert!(told(&whole).starts_with(&all));
    let nothing = fixture.resume(fixture.feed.offset() + 1).unwrap();
    assert!(told(&nothing).is_empty());
    // Further than the stream is, or of before all time.
    assert!(fixture.resume(fixture.feed.offset() + 2).is_none());
    assert!(fixture.resume(0).is_none());
}

#[test]
fn while_a_master_is_followed_its_stream_is_passed_on_and_nothing_else() {
    let mut fixture = Fixture::new();
    let early = fixture.plain();
    fixture.attach(&early, 1);
    fixture.feed.follow_master();
    fixture.tell(1, 0, "SET own 1");
    assert!(told(&early).is_empty() && !fixture.feed.is_recording());
    fixture.feed.begin_at(1000, 3);
    assert!(early.client.is_killed(), "its data set is another one");
    let replica = fixture.plain();
    fixture.attach(&replica, 1);
    let begins = fixture.feed.begins_at(replica.client.id);
    assert_eq!(begins, Some((1000, Some(3))));
    let mut tape = Tape::default();
    tape.pass_on("SET a 1\r\n".into(), 4);
    fixture.feed.tell(1, &tape);
    fixture.feed.pass_on(&"PING\r\n".into(), 4);
    fixture.tell(1, 0, "SET own 1");
    let message = ["PUBLISH", "c", "m"].map(str::as_bytes);
    fixture.feed.tell_message(0, message.into_iter());
    fixture.feed.look();
    assert_eq!(words(&told(&replica)), "SET a 1 PING");
    assert_eq!(fixture.feed.offset(), 1015);
    fixture.feed.lead(None);
    assert!(replica.client.is_killed());
    fixture.feed.pass_on(&"late".into(), 4);
    assert_eq!(fixture.feed.offset(), 1015);
}
