//! Waiters and watchers, on the level of the group: a list of its own making,
//! so that no type's commands are needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_protocol::command::lookup;
use cairn_protocol::resp::{Args, ReplyWriter};
use parking_lot::Mutex;
use rocksdb::IteratorMode;
use tempfile::TempDir;

use super::blocked::{Release, Waiter};
use super::submission::{Outcome, QueuedCommand, Submission};
use super::{Commit, CommitSink, Entry, Group, Job};
use crate::commands::{DataHandler, transactions};
use crate::storage::generations::GenerationMap;
use crate::storage::{
    Header, KeyType, Log, MemoryPlan, MetaKey, Record, Resources, Store, row_hash,
};
use crate::txn::{CommandError, EventClass, Txn};

struct Sink(Arc<Mutex<Commit>>);

impl CommitSink for Sink {
    fn commit(&self, group: &Arc<Group>, entry: Entry) -> Commit {
        let Entry::Effects(effects, position) = entry else {
            return Commit::Refused;
        };
        let fate = *self.0.lock();
        if fate == Commit::Applied {
            let store = &group.store;
            store.apply(&effects, position, Log::Wal, true).unwrap();
        }
        fate
    }
}

pub struct Bench {
    pub group: Arc<Group>,
    fate: Arc<Mutex<Commit>>,
    _resources: Arc<Resources>,
    _dir: TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let plan = MemoryPlan {
            record_cache: 1 << 20,
            scan_cache: 1 << 20,
            block_cache: 4 << 20,
            write_buffers: 8 << 20,
            write_buffer: 2 << 20,
        };
        let resources = Resources::new(plan, 2);
        let store = Store::open(dir.path(), &resources, true, GenerationMap::all_slots()).unwrap();
        let fate = Arc::new(Mutex::new(Commit::Applied));
        let sink = Box::new(Sink(fate.clone()));
        let group = Group::new(0, Arc::new(store), sink, Arc::new(super::Unheard), None);
        Bench {
            group,
            fate,
            _resources: resources,
            _dir: dir,
        }
    }

    /// Runs command lines as one submission, each with its watcher.
    fn run(&self, lines: &[(&str, u64)]) -> Arc<Submission> {
        let submission = self.queue(lines);
        self.group.turn();
        submission
    }

    /// The same for the next turn.
    pub fn queue(&self, lines: &[(&str, u64)]) -> Arc<Submission> {
        let submission = Arc::new(Submission::default());
        {
            let mut state = submission.lock();
            for (at, (line, watcher)) in lines.iter().enumerate() {
                let words: Vec<&str> = line.split(' ').collect();
                state.requests.push_owned(&words);
                state.commands.push(queued(at as u32, words[0], *watcher));
            }
            let base = state.replies.mark();
            state.base = Some(base);
        }
        self.group.submit(submission.clone());
        submission
    }

    /// The hashes of the rows of the family `data` whose keys end so.
    pub fn rows_with(&self, end: &[u8]) -> Vec<u64> {
        let engine = self.group.store.engine();
        let rows = engine.db.iterator_cf(&engine.data, IteratorMode::Start);
        let keys = rows.map(|row| row.unwrap().0);
        keys.filter(|key| key.ends_with(end))
            .map(|key| row_hash(&key))
            .collect()
    }

    pub fn reply(&self, line: &str) -> String {
        reply(&self.run(&[(line, 0)]))
    }

    /// Runs a command that waits.
    fn wait(&self, line: &str) -> Arc<Waiter> {
        let submission = self.run(&[(line, 0)]);
        let mut state = submission.lock();
        assert_eq!(state.commands[0].outcome, Outcome::Blocked, "{line}");
        state.blocked.pop().expect("it waits").1
    }

    /// Runs `EXEC` with these commands for a watcher.
    fn exec(&self, lines: &[&str], watcher: u64) -> String {
        let submission = Arc::new(Submission::default());
        {
            let mut state = submission.lock();
            let mut exec = transactions::empty_exec();
            for line in lines {
                let mut one = cairn_protocol::resp::Requests::default();
                one.push_owned(line.split(' '));
                transactions::push_data(&mut exec, 0, &one.get(0));
            }
            state.requests = exec;
            state.commands.push(queued(0, "exec", watcher));
        }
        self.group.submit(submission.clone());
        self.group.turn();
        reply(&submission)
    }

    fn index(&self) -> u64 {
        self.group.store.position().index
    }
}

fn queued(request: u32, name: &str, watcher: u64) -> QueuedCommand {
    let spec = lookup(name.as_bytes()).unwrap();
    let handler: DataHandler = match name {
        "rpush" => push,
        "blpop" => pop,
        "blmove" => shift,
        "exec" => transactions::exec,
        _ => match crate::commands::handler(spec) {
            Some(crate::commands::Handler::Write(handler)) => handler,
            _ => panic!("{name}"),
        },
    };
    QueuedCommand {
        watcher,
        ..QueuedCommand::new(request, spec, handler)
    }
}

fn reply(submission: &Submission) -> String {
    String::from_utf8(submission.lock().replies.to_vec()).unwrap()
}

/// What became of a waiter, and its reply.
fn over(waiter: &Waiter) -> Option<(Release, String)> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match waiter.poll_over(&mut cx) {
        std::task::Poll::Pending => None,
        std::task::Poll::Ready(release) => {
            let (reply, _, _) = waiter.take_reply();
            Some((release, String::from_utf8(reply.to_vec()).unwrap()))
        }
    }
}

fn served(reply: &str) -> Option<(Release, String)> {
    Some((Release::Served, reply.to_owned()))
}

// A list that is its elements, with commas between.

fn elements(txn: &mut Txn<'_>, key: &[u8]) -> Result<Vec<Vec<u8>>, CommandError> {
    let key = txn.key(key);
    let record = txn.get(&key)?;
    Ok(record.map_or(Vec::new(), |record| {
        let payload = record.payload().split(|byte| *byte == b',');
        payload.map(<[u8]>::to_vec).collect()
    }))
}

fn store(txn: &mut Txn<'_>, key: &[u8], elements: &[Vec<u8>]) -> Result<(), CommandError> {
    let key = txn.key(key);
    if elements.is_empty() {
        return txn.delete(&key);
    }
    let header = Header::inline(KeyType::List, None);
    let record = Record::new(&key, &header, &elements.join(&b','));
    txn.put(&key, record)
}

fn push(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), CommandError> {
    let mut all = elements(txn, args.get(1))?;
    all.extend(args.iter().skip(2).map(<[u8]>::to_vec));
    store(txn, args.get(1), &all)?;
    txn.event(EventClass::List, "rpush", args.get(1));
    out.integer(all.len() as i64);
    Ok(())
}

fn take(txn: &mut Txn<'_>, key: &[u8]) -> Result<Option<Vec<u8>>, CommandError> {
    let mut all = elements(txn, key)?;
    if all.is_empty() {
        return Ok(None);
    }
    let first = all.remove(0);
    store(txn, key, &all)?;
    txn.event(EventClass::List, "lpop", key);
    Ok(Some(first))
}

fn pop(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), CommandError> {
    for key in args.iter().skip(1).take(args.len() - 2) {
        if let Some(element) = take(txn, key)? {
            out.array(2);
            out.bulk(key);
            out.bulk(&element);
            return Ok(());
        }
    }
    Err(CommandError::Block { timeout_ms: 0 })
}

fn shift(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), CommandError> {
    let Some(element) = take(txn, args.get(1))? else {
        return Err(CommandError::Block { timeout_ms: 0 });
    };
    let mut all = elements(txn, args.get(2))?;
    all.push(element.clone());
    store(txn, args.get(2), &all)?;
    txn.event(EventClass::List, "rpush", args.get(2));
    out.bulk(&element);
    Ok(())
}

const NIL: &str = "*-1\r\n";

#[test]
fn waiters_are_served_in_order_of_arrival_and_in_the_same_entry() {
    let bench = Bench::new();
    let (first, second, third) = (
        bench.wait("blpop k 0"),
        bench.wait("blpop k 0"),
        bench.wait("blpop k 0"),
    );
    let before = bench.index();
    assert_eq!(bench.reply("rpush k a b"), ":2\r\n");
    assert_eq!(bench.index(), before + 1);
    assert_eq!(over(&first), served("*2\r\n$1\r\nk\r\n$1\r\na\r\n"));
    assert_eq!(over(&second), served("*2\r\n$1\r\nk\r\n$1\r\nb\r\n"));
    assert_eq!(over(&third), None);
    assert_eq!(bench.reply("del k"), ":0\r\n", "nothing is left");
}

#[test]
fn nobody_behind_the_command_that_feeds_a_waiter_steals_its_element() {
    let bench = Bench::new();
    let waiter = bench.wait("blpop k 0");
    let thief = bench.run(&[("rpush k a", 0), ("blpop k 0", 0)]);
    assert_eq!(over(&waiter), served("*2\r\n$1\r\nk\r\n$1\r\na\r\n"));
    assert_eq!(thief.lock().commands[1].outcome, Outcome::Blocked);
}

#[test]
fn a_served_move_serves_those_who_wait_for_its_target() {
    let bench = Bench::new();
    let last = bench.wait("blpop c 0");
    let second = bench.wait("blmove b c left right 0");
    let first = bench.wait("blmove a b left right 0");
    let before = bench.index();
    bench.reply("rpush a x");
    assert_eq!(bench.index(), before + 1);
    assert_eq!(over(&first), served("$1\r\nx\r\n"));
    assert_eq!(over(&second), served("$1\r\nx\r\n"));
    assert_eq!(over(&last), served("*2\r\n$1\r\nc\r\n$1\r\nx\r\n"));
}

#[test]
fn the_key_that_became_ready_first_serves() {
    let bench = Bench::new();
    let waiter = bench.wait("blpop a b 0");
    bench.reply("rpush b 2");
    assert_eq!(over(&waiter), served("*2\r\n$1\r\nb\r\n$1\r\n2\r\n"));
    assert_eq!(bench.reply("rpush a 1"), ":1\r\n", "it waits no more");
    assert_eq!(bench.reply("del a"), ":1\r\n");
}

#[test]
fn who_gave_up_is_not_served() {
    let bench = Bench::new();
    let (gone, next) = (bench.wait("blpop k 0"), bench.wait("blpop k 0"));
    assert!(bench.group.give_up(&gone));
    bench.reply("rpush k a");
    assert_eq!(
        over(&gone).map(|(release, _)| release),
        Some(Release::GivenUp)
    );
    assert_eq!(over(&next), served("*2\r\n$1\r\nk\r\n$1\r\na\r\n"));
    assert!(!bench.group.give_up(&next), "it was served");
    assert!(!bench.group.blocked.any());
}

#[test]
fn a_key_of_another_type_serves_nobody() {
    let bench = Bench::new();
    let waiter = bench.wait("blpop k 0");
    bench.reply("set k x");
    assert_eq!(over(&waiter), None);
    bench.reply("del k");
    bench.reply("rpush k a");
    assert_eq!(over(&waiter), served("*2\r\n$1\r\nk\r\n$1\r\na\r\n"));
}

#[test]
fn a_refused_entry_sends_its_waiters_again() {
    let bench = Bench::new();
    let waiter = bench.wait("blpop k 0");
    *bench.fate.lock() = Commit::Refused;
    let fed = bench.run(&[("rpush k a", 0)]);
    assert_eq!(fed.lock().commands[0].outcome, Outcome::NotExecuted);
    assert_eq!(
        over(&waiter).map(|(release, _)| release),
        Some(Release::Again)
    );
    *bench.fate.lock() = Commit::Applied;
    let again = bench.wait("blpop k 0");
    *bench.fate.lock() = Commit::Lost;
    bench.run(&[("rpush k a", 0)]);
    assert_eq!(
        over(&again).map(|(release, _)| release),
        Some(Release::Unknown)
    );
}

/// They were kept until something was written, however many were only looked at.
#[test]
fn what_is_met_and_not_changed_is_forgotten() {
    let bench = Bench::new();
    for n in 0..10 {
        assert_eq!(bench.reply(&format!("setnx k{n} v")), ":1\r\n");
    }
    for n in 0..10 {
        assert_eq!(bench.reply(&format!("setnx k{n} v")), ":0\r\n");
    }
    assert_eq!(bench.group.writer.lock().overlay.metas().count(), 0);
}

#[test]
fn an_exec_is_one_entry_and_its_commands_fail_alone() {
    let bench = Bench::new();
    let before = bench.index();
    let replies = bench.exec(&["set a x", "incr a", "set b 1", "nope"], 0);
    assert_eq!(bench.index(), before + 1);
    let lines = [
        "*4\r\n+OK\r\n",
        "-ERR value is not an integer or out of range\r\n",
        "+OK\r\n",
        "-ERR unknown command 'nope', with args beginning with: \r\n",
    ];
    assert_eq!(replies, lines.concat());
}

#[test]
fn an_exec_is_refused_if_a_watched_key_changed() {
    let bench = Bench::new();
    let watch = |keys: &str| assert_eq!(reply(&bench.run(&[(keys, 7)])), "+OK\r\n");
    watch("watch a b");
    bench.reply("set other 1");
    assert_eq!(bench.exec(&["set a 1"], 7), "*1\r\n+OK\r\n");
    bench.reply("set b 1");
    assert_eq!(
        bench.exec(&["set a 2"], 7),
        "*1\r\n+OK\r\n",
        "EXEC unwatches"
    );
    watch("watch a b");
    bench.reply("set b 2");
    assert_eq!(bench.exec(&["set a 3"], 7), NIL);
    assert_eq!(bench.exec(&["set a 3"], 7), "*1\r\n+OK\r\n");
    watch("watch a");
    bench.exec(&["set a 4"], 0);
    assert_eq!(bench.exec(&["set a 5"], 7), NIL);
    assert!(!bench.group.watches.any());
}

#[test]
fn flushes_and_lost_terms_touch_what_is_watched() {
    let bench = Bench::new();
    let watch = |keys: &str| assert_eq!(reply(&bench.run(&[(keys, 7)])), "+OK\r\n");
    bench.reply("set a 1");
    watch("watch absent");
    bench.reply("flushall");
    assert_eq!(bench.exec(&["set x 1"], 7), "*1\r\n+OK\r\n");
    watch("watch x");
    bench.reply("flushall");
    assert_eq!(bench.exec(&["set x 1"], 7), NIL);
    // A swap touches what is in one of the two.
    bench.reply("set x 1");
    watch("watch x");
    bench.reply("swapdb 0 1");
    assert_eq!(bench.exec(&["set x 1"], 7), NIL);
    watch("watch x");
    *bench.fate.lock() = Commit::Refused;
    bench.reply("set other 1");
    *bench.fate.lock() = Commit::Applied;
    assert_eq!(bench.exec(&["set x 1"], 7), NIL);
}

/// Regression: the end of one move took the brake of another away.
#[test]
fn writes_are_as_slow_as_the_strongest_brake_of_all_moves() {
    let bench = Bench::new();
    let slow = |plan, level| {
        bench.group.slow_writes(plan, level);
        bench.group.write_delay().as_millis()
    };
    assert_eq!((slow(1, 3), slow(2, 5), slow(1, 4)), (9, 25, 25));
    assert_eq!(slow(2, 0), 16, "the other move goes on");
    assert_eq!(slow(2, 0), 16, "and nobody ends twice");
    assert_eq!(slow(1, 0), 0);
}

/// Keys were counted out twice: by the command that met them and by the task.
#[test]
fn a_key_that_was_met_before_the_expiry_task_came_to_it_is_counted_once() {
    let bench = Bench::new();
    bench.reply("psetex k 1 v");
    let maps = bench.group.store.maps();
    let slot = crate::storage::keys::slot_of(b"k");
    let key = MetaKey::new(slot, maps.live.get(0, slot), b"k");
    let record = bench.group.store.record(&key, true).unwrap().unwrap();
    let at = record.header().unwrap().expires_at.unwrap();
    while bench.group.now() <= at {
        std::thread::yield_now();
    }
    assert_eq!(bench.reply("setnx k w"), ":1\r\n");
    let expire = || {
        let done = Arc::new(AtomicBool::new(false));
        let due = vec![(key.clone(), at)];
        bench.group.submit_job(Job::Expire(due, done.clone()));
        bench.group.turn();
        assert!(done.load(Ordering::Acquire));
    };
    expire();
    assert_eq!(bench.group.key_count(), 1);
    assert_eq!(bench.reply("del k"), ":1\r\n");
    expire();
    assert_eq!(bench.group.key_count(), 0);
}
