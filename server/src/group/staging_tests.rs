//! Batches above the entry's cap: what a sink gets, and what a death between two
//! entries leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_protocol::command::lookup;
use parking_lot::Mutex;
use rocksdb::IteratorMode;
use tempfile::TempDir;

use super::blocked::{Release, Waiter};
use super::submission::{Outcome, QueuedCommand, Submission};
use super::{Commit, CommitSink, Entry, Group};
use crate::commands::{Handler, handler};
use crate::storage::generations::GenerationMap;
use crate::storage::{Log, MemoryPlan, Resources, Store};
use crate::txn::effects::change_map;

const CAP: usize = 8 << 20;
/// What a log takes that has a bound.
const MOST: usize = 16 << 20;
/// What a command answers that alone is more.
const FULL: &str = "-ERR the command changes more at once than an entry of the log takes \
                    (16777216 bytes); split it up\r\n";

/// Applies entries as they come, `left` of them, and compacts after each.
struct Sink {
    left: Arc<AtomicUsize>,
    /// It refuses what is larger, as a cluster's log does.
    most: Option<usize>,
    /// Bytes of the entries; 0 for a step of a move.
    seen: Arc<Mutex<Vec<usize>>>,
}

impl CommitSink for Sink {
    fn commit(&self, group: &Arc<Group>, entry: Entry) -> Commit {
        let Entry::Effects(effects, position) = entry else {
            self.seen.lock().push(0);
            return Commit::Refused;
        };
        let took = |left: usize| left.checked_sub(1);
        let (store, order) = (&group.store, Ordering::Relaxed);
        if self.left.fetch_update(order, order, took).is_err() {
            return Commit::Lost;
        }
        // As a cluster's log has it: by the map as the entry leaves it.
        let mut map = (*store.maps()).clone();
        change_map(&mut map, &effects.maps);
        let bytes = effects.encode(&map.live).len();
        self.seen.lock().push(bytes);
        if self.most.is_some_and(|most| bytes > most) {
            return Commit::Refused;
        }
        store.apply(&effects, position, Log::Wal, true).unwrap();
        // Whatever the filter takes for garbage goes.
        store.sync(Log::Wal).unwrap();
        store.flush().unwrap();
        store.compact();
        Commit::Applied
    }

    fn max_entry_bytes(&self) -> Option<usize> {
        self.most
    }
}

struct Bench {
    group: Arc<Group>,
    left: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<usize>>>,
    resources: Arc<Resources>,
}

impl Bench {
    /// Opens what is in `dir`; its log takes `entries`.
    fn open(dir: &TempDir, entries: usize) -> Bench {
        Bench::with(dir, entries, None)
    }

    /// With a hash that is there, so that nothing of it can go ahead, and a log that
    /// takes no entry above [`MOST`].
    fn bounded(dir: &TempDir) -> Bench {
        let bench = Bench::with(dir, usize::MAX, Some(MOST));
        let first = "v".repeat(100 << 10);
        assert_eq!(bench.reply(&["hset", "h", "first", &first]), ":1\r\n");
        bench.seen.lock().clear();
        bench
    }

    fn with(dir: &TempDir, entries: usize, most: Option<usize>) -> Bench {
        let resources = Resources::new(MemoryPlan::divide(64 << 20), 2);
        let store = Store::open(dir.path(), &resources, true, GenerationMap::all_slots()).unwrap();
        let seen = Arc::<Mutex<Vec<usize>>>::default();
        let left = Arc::new(AtomicUsize::new(entries));
        let sink = Box::new(Sink {
            left: left.clone(),
            most,
            seen: seen.clone(),
        });
        let group = Group::new(0, Arc::new(store), sink, Arc::new(super::Unheard), None);
        Bench {
            group,
            left,
            seen,
            resources,
        }
    }

    fn run(&self, words: &[&str]) -> (Outcome, String) {
        let submission = single(words);
        self.group.submit(submission.clone());
        self.group.turn();
        let state = submission.lock();
        let reply = String::from_utf8_lossy(&state.replies.to_vec()).into_owned();
        (state.commands[0].outcome, reply)
    }

    /// Has the writer do what is submitted together.
    fn together(&self, submissions: &[&Arc<Submission>]) {
        for submission in submissions {
            self.group.submit((*submission).clone());
        }
        self.group.turn();
    }

    /// No entry was refused.
    fn check_bounded(&self) {
        let seen = self.seen.lock().clone();
        assert!(seen.iter().all(|n| *n <= MOST), "{seen:?}");
    }

    /// A pipeline, submitted as its owner does until all of it is evaluated. All replies.
    fn pipeline(&self, commands: &[Vec<String>]) -> String {
        let submission = Arc::new(Submission::default());
        for (at, words) in commands.iter().enumerate() {
            let mut state = submission.lock();
            state.requests.push_owned(words);
            let command = queued(&words[0]);
            state.commands.push(QueuedCommand {
                request: at as u32,
                ..command
            });
        }
        loop {
            {
                let mut state = submission.lock();
                state.base = Some(state.replies.mark());
                state.commands.retain(|c| c.outcome == Outcome::Pending);
                if state.commands.is_empty() {
                    return String::from_utf8_lossy(&state.replies.to_vec()).into_owned();
                }
            }
            self.group.submit(submission.clone());
            self.group.turn();
        }
    }

    fn reply(&self, words: &[&str]) -> String {
        let (outcome, reply) = self.run(words);
        assert_eq!(outcome, Outcome::Done, "{}", words[0]);
        reply
    }

    /// Two sets of which each is below the cap, and their union is not.
    fn two_sets(&self) {
        for set in ["a", "b"] {
            for n in 0..20 {
                let member = format!("{set}{n}{}", "x".repeat(300 << 10));
                assert_eq!(self.reply(&["sadd", set, &member]), ":1\r\n");
            }
        }
        self.seen.lock().clear();
    }

    /// What came since `seen` was cleared is several entries below the cap.
    fn check_cut(&self) {
        let seen = self.seen.lock().clone();
        let is_below = seen.iter().all(|n| *n <= CAP + 1024);
        assert!(seen.len() > 3 && is_below, "{seen:?}");
    }

    /// Rows below records.
    fn rows(&self) -> usize {
        let engine = self.group.store.engine();
        [engine.data, engine.score, engine.payload]
            .iter()
            .map(|family| engine.db.iterator_cf(family, IteratorMode::Start).count())
            .sum()
    }

    fn close(self) -> Arc<Resources> {
        self.group.store.quiesce();
        self.resources
    }
}

fn queued(name: &str) -> QueuedCommand {
    let spec = lookup(name.as_bytes()).unwrap();
    let Some(Handler::Write(handler) | Handler::Read(handler)) = handler(spec) else {
        panic!("{name}");
    };
    QueuedCommand {
        tries: 3,
        ..QueuedCommand::new(0, spec, handler)
    }
}

/// A submission of one command.
fn single(words: &[&str]) -> Arc<Submission> {
    let submission = Arc::new(Submission::default());
    {
        let mut state = submission.lock();
        state.requests.push_owned(words);
        state.commands.push(queued(words[0]));
        let base = state.replies.mark();
        state.base = Some(base);
    }
    submission
}

/// What became of a submission of one command, and its reply.
fn of(submission: &Submission) -> (Outcome, String) {
    let state = submission.lock();
    let reply = String::from_utf8_lossy(&state.replies.to_vec()).into_owned();
    (state.commands[0].outcome, reply)
}

fn done(reply: &str) -> (Outcome, String) {
    (Outcome::Done, reply.to_owned())
}

fn line(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Commands that make a large value of what is there.
const LARGE: [&[&str]; 4] = [
    &["sunionstore", "d", "a", "b"],
    &["copy", "u", "d", "replace"],
    &["sort", "a", "by", "nosort", "store", "d"],
    &["zunionstore", "d", "2", "a", "b"],
];

#[test]
fn a_large_result_is_several_entries_below_the_cap_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(&dir, usize::MAX);
    bench.two_sets();
    bench.reply(&["sunionstore", "u", "a", "b"]);
    for command in LARGE {
        bench.seen.lock().clear();
        let reply = bench.reply(command);
        let seen = bench.seen.lock().clone();
        if command[0] != "sort" {
            assert!(seen.len() > 1, "{command:?}: {seen:?}");
        }
        assert!(
            seen.iter().all(|n| *n <= CAP + 1024),
            "{command:?}: {seen:?}"
        );
        assert!(!reply.starts_with('-'), "{reply}");
        assert_eq!(bench.group.store.staged(), None);
    }
    bench.reply(&["sunionstore", "d", "a", "b"]);
    assert_eq!(bench.reply(&["scard", "d"]), ":40\r\n");
    let both = bench.reply(&["sinterstore", "e", "d", "u"]);
    assert_eq!(both, ":40\r\n", "rows were lost");
    let value = "v".repeat(20 << 20);
    assert_eq!(bench.reply(&["set", "long", &value]), "+OK\r\n");
    let reply = bench.reply(&["get", "long"]);
    assert!(reply.contains(&value));
}

#[test]
fn a_death_between_the_entries_leaves_nothing_to_see_and_its_rows_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(&dir, 41);
    bench.two_sets();
    let before = bench.rows();
    // One entry gets into the log, then this leader's time is over.
    let (outcome, _) = bench.run(&["sunionstore", "d", "a", "b"]);
    assert_eq!(outcome, Outcome::NotExecuted);
    assert!(bench.rows() > before, "nothing went ahead");
    let staging = bench.group.store.staged().expect("something went ahead");
    drop(bench.close());
    let bench = Bench::open(&dir, usize::MAX);
    assert_eq!(bench.group.store.staged(), Some(staging.clone()));
    // The first command of whoever comes next.
    assert_eq!(bench.reply(&["exists", "d"]), ":0\r\n");
    assert_eq!(bench.rows(), before, "swept");
    assert_eq!(bench.group.store.staged(), None);
    assert!(bench.group.store.next_version() >= staging.until);
    assert_eq!(bench.reply(&["sunionstore", "d", "a", "b"]), ":40\r\n");
    assert_eq!(bench.reply(&["sinterstore", "e", "d", "d"]), ":40\r\n");
}

/// As above, with the same process going on: its term was lost and it leads again.
#[test]
fn a_leader_that_lost_an_entry_sweeps_what_went_ahead_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(&dir, 42);
    bench.two_sets();
    let before = bench.rows();
    // All rows went ahead; the entry with the record did not come back.
    let (outcome, _) = bench.run(&["sunionstore", "d", "a", "b"]);
    assert_eq!(outcome, Outcome::Unknown);
    let staging = bench.group.store.staged().expect("something went ahead");
    bench.left.store(usize::MAX, Ordering::Relaxed);
    assert_eq!(bench.reply(&["sunionstore", "d", "a", "b"]), ":40\r\n");
    assert_eq!(bench.rows(), before + 41, "swept, and made again");
    assert!(bench.group.store.next_version() > staging.until);
    assert_eq!(bench.reply(&["sinterstore", "e", "d", "d"]), ":40\r\n");
}

/// Regression: the rows were in a chunk that a move had copied, nobody told the
/// destination that they are gone, and there a long string's are never collected.
#[test]
fn a_step_of_a_move_comes_behind_the_sweep_of_what_was_abandoned() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(&dir, 41);
    bench.two_sets();
    let before = bench.rows();
    bench.run(&["sunionstore", "d", "a", "b"]);
    assert!(bench.group.store.staged().is_some());
    drop(bench.close());
    let bench = Bench::open(&dir, usize::MAX);
    let step = bytes::Bytes::from_static(b"a step");
    bench
        .group
        .propose_step(step, Box::new(|| ()), Box::new(|_| ()));
    let seen = bench.seen.lock().clone();
    assert!(seen.len() == 2 && seen[0] > 0 && seen[1] == 0, "{seen:?}");
    assert_eq!((bench.rows(), bench.group.store.staged()), (before, None));
}

/// Regression: what was submitted together was one entry however large, and a cluster
/// refuses what is above its cap.
#[test]
fn a_pipeline_above_the_cap_is_several_entries() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(&dir, usize::MAX);
    let value = "v".repeat(1 << 20);
    let hset = |n: usize| ["hset", "h", &format!("f{n}"), &value].map(str::to_owned);
    bench.pipeline(&[hset(0).to_vec()]);
    bench.seen.lock().clear();
    let commands: Vec<Vec<String>> = (1..40).map(|n| hset(n).to_vec()).collect();
    bench.pipeline(&commands);
    let seen = bench.seen.lock().clone();
    let most = CAP + value.len() + 1024;
    assert!(
        seen.len() > 3 && seen.iter().all(|n| *n <= most),
        "{seen:?}"
    );
    assert_eq!(bench.reply(&["hlen", "h"]), ":40\r\n");
}

/// Regression: what is written behind a flush cannot go ahead of it, so both were one
/// entry however large, and a cluster refused it.
#[test]
fn a_flush_is_the_last_command_of_its_entry() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(&dir, usize::MAX);
    let value = "v".repeat(20 << 20);
    for flush in ["flushall", "flushdb"] {
        bench.reply(&["set", "old", "v"]);
        bench.seen.lock().clear();
        bench.pipeline(&[
            line(&["set", "before", "v"]),
            line(&[flush]),
            line(&["set", "k", &value]),
        ]);
        bench.check_cut();
        assert_eq!(bench.reply(&["exists", "old", "before"]), ":0\r\n");
        assert!(bench.reply(&["get", "k"]).contains(&value));
        bench.seen.lock().clear();
        bench.pipeline(&[line(&["set", "l", &value]), line(&[flush])]);
        bench.check_cut();
        assert_eq!(bench.reply(&["exists", "k", "l"]), ":0\r\n");
    }
}

/// As above, with the flush of one client and the write of another.
#[test]
fn nobody_writes_behind_a_flush_in_its_entry() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(&dir, usize::MAX);
    let value = "v".repeat(20 << 20);
    bench.reply(&["set", "old", "v"]);
    bench.seen.lock().clear();
    let both = [single(&["flushall"]), single(&["set", "k", &value])];
    for submission in &both {
        bench.group.submit(submission.clone());
    }
    bench.group.turn();
    bench.check_cut();
    for submission in &both {
        assert_eq!(submission.lock().replies.to_vec(), b"+OK\r\n");
    }
    assert_eq!(bench.reply(&["exists", "old", "k"]), ":1\r\n");
}

#[test]
fn nothing_goes_ahead_where_not_every_node_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(&dir, usize::MAX);
    bench.group.may_stage.store(false, Ordering::Release);
    bench.two_sets();
    assert_eq!(bench.reply(&["sunionstore", "d", "a", "b"]), ":40\r\n");
    assert_eq!(bench.seen.lock().len(), 1);
}

/// Regression: together they were an entry that a cluster's log refuses, and none of them
/// was executed.
#[test]
fn a_command_that_does_not_fit_beside_others_begins_the_next_entry() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::bounded(&dir);
    let (some, much) = ("v".repeat(7 << 20), "v".repeat(12 << 20));
    let first = single(&["hset", "h", "a", &some]);
    let large = single(&["hset", "h", "b", &much]);
    bench.together(&[&first, &large]);
    assert_eq!(of(&first), done(":1\r\n"));
    assert_eq!(of(&large), (Outcome::Pending, String::new()));
    // Whatever came before it meanwhile.
    let second = single(&["hset", "h", "c", &some]);
    let third = single(&["set", "k", "v"]);
    bench.together(&[&second, &large, &third]);
    assert_eq!(of(&second), done(":1\r\n"));
    assert_eq!(of(&large), done(":1\r\n"));
    assert_eq!(of(&third), done("+OK\r\n"));
    bench.check_bounded();
    assert_eq!(bench.reply(&["hlen", "h"]), ":4\r\n");
}

#[test]
fn a_pipeline_with_a_command_that_begins_an_entry_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::bounded(&dir);
    let (some, much) = ("v".repeat(7 << 20), "v".repeat(12 << 20));
    let replies = bench.pipeline(&[
        line(&["hset", "h", "a", &some]),
        line(&["hset", "h", "b", &much]),
        line(&["hset", "h", "b", "v"]),
        line(&["hlen", "h"]),
        line(&["hset", "h", "c", &much]),
        line(&["hstrlen", "h", "b"]),
    ]);
    assert_eq!(replies, ":1\r\n:1\r\n:0\r\n:3\r\n:1\r\n:1\r\n");
    bench.check_bounded();
}

#[test]
fn a_command_that_is_too_large_alone_is_refused_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::bounded(&dir);
    let much = "v".repeat(17 << 20);
    let large = single(&["hset", "h", "a", &much]);
    let small = single(&["set", "k", "v"]);
    bench.together(&[&large, &small]);
    assert_eq!(of(&large), done(FULL));
    assert_eq!(of(&small), done("+OK\r\n"));
    // Nor can a field be cut of which nothing is there yet.
    assert_eq!(bench.reply(&["hset", "new", "a", &much]), FULL);
    bench.check_bounded();
    assert_eq!(bench.reply(&["hlen", "h"]), ":1\r\n");
    // What can go ahead is as large as it likes.
    assert_eq!(bench.reply(&["set", "long", &much]), "+OK\r\n");
    assert_eq!(bench.reply(&["strlen", "long"]), ":17825792\r\n");
    bench.check_bounded();
}

#[test]
fn a_log_without_a_bound_takes_a_command_of_any_size() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(&dir, usize::MAX);
    let (some, much) = ("v".repeat(100 << 10), "v".repeat(17 << 20));
    assert_eq!(bench.reply(&["hset", "h", "first", &some]), ":1\r\n");
    assert_eq!(bench.reply(&["hset", "h", "a", &much]), ":1\r\n");
}

#[test]
fn a_waiter_that_would_make_an_entry_too_large_is_sent_to_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::bounded(&dir);
    let [few, some, much] = [100 << 10, 7 << 20, 12 << 20].map(|n| "v".repeat(n));
    assert_eq!(bench.reply(&["rpush", "to", &few]), ":1\r\n");
    let waits = single(&["blmove", "from", "to", "left", "right", "0"]);
    bench.together(&[&waits]);
    let waiter: Arc<Waiter> = {
        let mut state = waits.lock();
        assert_eq!(state.commands[0].outcome, Outcome::Blocked);
        state.blocked.pop().expect("it waits").1
    };
    let first = single(&["hset", "h", "a", &some]);
    // What is pushed can go ahead, and what is moved to a list that is there cannot.
    let push = single(&["rpush", "from", &much]);
    bench.together(&[&first, &push]);
    assert_eq!(of(&first), done(":1\r\n"));
    assert_eq!(of(&push), done(":1\r\n"));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let released = waiter.poll_over(&mut cx);
    assert_eq!(released, std::task::Poll::Ready(Release::Again));
    bench.check_bounded();
    bench.reply(&["blmove", "from", "to", "left", "right", "0"]);
    assert_eq!(bench.reply(&["llen", "to"]), ":2\r\n");
    bench.check_bounded();
}

/// Keys whose names are long are removed a few at a time.
#[test]
fn what_expires_together_is_several_entries() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::bounded(&dir);
    for n in 0..5 {
        let key = format!("{n}{}", "k".repeat(5 << 20));
        assert_eq!(bench.reply(&["set", &key, "v", "px", "1"]), "+OK\r\n");
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    // The hash of the bench stays.
    while bench.reply(&["dbsize"]) != ":1\r\n" {
        super::expiry::step(&bench.group);
        assert!(std::time::Instant::now() < deadline, "they are still there");
    }
    // Some may have been collected by the filter, their rows of the index left to the task.
    bench.check_bounded();
}
