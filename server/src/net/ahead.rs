//! A look ahead: which records the commands that come next will ask for.
//!
//! A look-up waits for memory twice, for its place in the record cache's table and
//! for the record itself; asked for together, many of them wait about as long as one.
//! The commands of a pipeline are known together. A lone command is one of many too
//! when many clients are ready at once: each asks for its places in the table, lets
//! the others that are ready do the same, and whoever goes on first asks for the
//! records of all of them. A read waits for that; what the writer evaluates waits for
//! its turn in any case, and the turn asks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;

use cairn_protocol::resp::{Args, Requests};

use crate::storage::Store;

/// Fewer requests than this are looked at with those of other clients, unless one
/// has many keys.
const FEW: usize = 4;
/// Keys asked for at once; what is asked for must not push itself out again.
const MOST: usize = 512;

/// What the connections of one network thread are about to look up in the one
/// store of a standalone server.
#[derive(Clone, Default)]
pub(super) struct Ahead(Rc<Shared>);

#[derive(Default)]
struct Shared {
    connections: Cell<usize>,
    /// Hashes of keys whose places were asked for, but not yet their records.
    hashes: RefCell<Vec<u64>>,
}

/// One connection's share of it.
pub(super) struct Announcer {
    shared: Rc<Shared>,
    /// Its keys are announced, and it has not let the others announce theirs.
    announced: bool,
}

impl Ahead {
    pub fn join(&self) -> Announcer {
        let connections = &self.0.connections;
        connections.set(connections.get() + 1);
        Announcer {
            shared: self.0.clone(),
            announced: false,
        }
    }

    /// Asks for the records of all that was announced.
    pub fn ask(&self, store: &Store) {
        self.0.ask(store);
    }
}

impl Shared {
    fn ask(&self, store: &Store) {
        let mut hashes = self.hashes.borrow_mut();
        store.prefetch_records(&hashes);
        hashes.clear();
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        let connections = &self.shared.connections;
        connections.set(connections.get() - 1);
    }
}

impl Announcer {
    /// Announces the keys of the first `n` requests to the record cache. A guess by
    /// the commands' shape: a wrong one costs some nanoseconds.
    pub fn announce(&mut self, store: &Store, db: usize, requests: &Requests, n: usize) {
        self.announced = false;
        if announce_together(store, db, (0..n).map(|at| requests.get(at))) {
            return;
        }
        let names = || (0..n).flat_map(|at| likely_keys(requests.get(at)));
        // Whoever is alone gains nothing.
        if self.shared.connections.get() < 2 || names().next().is_none() {
            return;
        }
        // It may be that nothing of this was looked up after all.
        if self.shared.hashes.borrow().len() >= MOST {
            self.shared.ask(store);
        }
        store.prefetch_places(db, names(), &mut self.shared.hashes.borrow_mut());
        self.announced = true;
    }

    /// Before a look-up: lets the others that are ready announce theirs, once for what
    /// was announced last. True if it had to wait for that. Cancelling it loses only
    /// the hint.
    pub async fn gather(&mut self, store: &Store) -> bool {
        if !std::mem::take(&mut self.announced) {
            return false;
        }
        behind_the_others().await;
        self.shared.ask(store);
        true
    }
}

/// Announces the keys of commands that are known together. False: they are too few
/// to gain from it.
pub(crate) fn announce_together<'a>(
    store: &Store,
    db: usize,
    commands: impl ExactSizeIterator<Item = Args<'a>> + Clone,
) -> bool {
    let many = commands.len() >= FEW || commands.clone().any(|args| args.len() > 2 * FEW);
    if many {
        // A hot key is named again and again.
        let mut last: &[u8] = b"";
        let names = commands.flat_map(likely_keys);
        let others = names.filter(|name| std::mem::replace(&mut last, name) != *name);
        store.prefetch(db, others.take(MOST));
    }
    many
}

/// Goes on when the tasks that are ready now have had their turn.
async fn behind_the_others() {
    let mut there = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut there, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The first argument; of MSET every second.
fn likely_keys<'a>(args: Args<'a>) -> impl Iterator<Item = &'a [u8]> {
    let pairs = args
        .try_get(0)
        .is_some_and(|name| name.eq_ignore_ascii_case(b"mset"));
    let count = match pairs {
        true => args.len() / 2,
        false => 1,
    };
    (0..count).filter_map(move |pair| args.try_get(1 + 2 * pair))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use bytes::BytesMut;
    use cairn_protocol::resp::{Limits, RequestParser};

    use super::*;
    use crate::storage::generations::GenerationMap;
    use crate::storage::{MemoryPlan, Resources};

    fn store(dir: &tempfile::TempDir) -> Store {
        let resources = Resources::new(MemoryPlan::divide(64 << 20), 2);
        Store::open(dir.path(), &resources, true, GenerationMap::all_slots()).unwrap()
    }

    fn requests(inline: &[u8]) -> Requests {
        let (mut input, mut requests) = (BytesMut::from(inline), Requests::default());
        let limits = Limits::default();
        let parsed = RequestParser::new().parse(&mut input, &limits, 1024, &mut requests);
        parsed.unwrap();
        requests
    }

    #[test]
    fn clients_that_are_ready_together_are_announced_together() {
        let dir = tempfile::tempdir().unwrap();
        let (store, get) = (store(&dir), requests(b"GET k\r\n"));
        let ahead = Ahead::default();
        let (mut first, mut second) = (ahead.join(), ahead.join());
        first.announce(&store, 0, &get, 1);
        second.announce(&store, 0, &get, 1);
        let waiting = || ahead.0.hashes.borrow().len();
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = pin!(first.gather(&store));
        let mut second = pin!(second.gather(&store));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert_eq!(waiting(), 2);
        assert_eq!(first.as_mut().poll(&mut cx), Poll::Ready(true));
        assert_eq!(waiting(), 0, "the first to go on asks for all");
        assert_eq!(second.as_mut().poll(&mut cx), Poll::Ready(true));
    }

    #[test]
    fn nobody_waits_who_is_alone_or_names_no_key_or_sends_many_commands() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let ahead = Ahead::default();
        let mut alone = ahead.join();
        let mut goes_on = |wire: &[u8]| {
            let requests = requests(wire);
            let n = wire.iter().filter(|byte| **byte == b'\n').count();
            alone.announce(&store, 0, &requests, n);
            let gathering = pin!(alone.gather(&store));
            let mut cx = Context::from_waker(Waker::noop());
            gathering.poll(&mut cx).is_ready()
        };
        assert!(goes_on(b"GET k\r\n"));
        let _other = ahead.join();
        assert!(goes_on(b"PING\r\n"));
        assert!(goes_on(b"GET a\r\nGET b\r\nGET c\r\nGET d\r\n"));
        assert!(!goes_on(b"GET k\r\n"));
    }

    #[test]
    fn what_is_announced_and_never_looked_up_does_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let (store, publish) = (store(&dir), requests(b"PUBLISH channel message\r\n"));
        let ahead = Ahead::default();
        let (mut publisher, _other) = (ahead.join(), ahead.join());
        for _ in 0..2 * MOST {
            publisher.announce(&store, 0, &publish, 1);
        }
        assert_eq!(ahead.0.hashes.borrow().len(), MOST);
        ahead.ask(&store);
        assert!(ahead.0.hashes.borrow().is_empty());
    }
}
