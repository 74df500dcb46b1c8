//! Writers of collections that know what must be there: beside `workload`, which does
//! the same for strings.
//!
//! Each [`Collector`] owns the keys under one hash tag, so that its transactions and
//! scripts are of one slot. It appends unique numbers to a list and a set, moves money
//! between accounts (MULTI/EXEC and Lua, each transfer with its line in a ledger), and
//! writes one number to several places with one command, transaction or script. A
//! [`Consumer`] takes what it produces for a queue by BLPOP.
//!
//! What must hold after kills and moves:
//! - what was acknowledged is there, what was never sent is not, nothing is twice, the
//!   list and the ledger are in the order of sending;
//! - the balances are what the ledger comes to, and their sum never changes;
//! - places that were written together hold one number;
//! - what was produced was consumed, is left, or went with a BLPOP that got no answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::Rng;
use rand::rngs::StdRng;

use crate::resp::{Client, Value, encode};
use crate::seed;
use crate::workload::{Certainty, OnError};

const ACCOUNTS: usize = 6;
const OPENING_BALANCE: i64 = 1_000;
/// BLPOP waits so long at most, in seconds: a consumer must see that it shall stop.
const POP_TIMEOUT: &str = "0.2";

const TRANSFER: &str = "redis.call('HINCRBY', KEYS[1], ARGV[1], -ARGV[3]) \
     redis.call('HINCRBY', KEYS[1], ARGV[2], ARGV[3]) \
     return redis.call('RPUSH', KEYS[2], ARGV[4])";
const SAME_EVERYWHERE: &str = "redis.call('SET', KEYS[1], ARGV[1]) \
     redis.call('HSET', KEYS[2], 'n', ARGV[1]) \
     redis.call('ZADD', KEYS[3], ARGV[1], 'n') \
     return 'OK'";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Transaction,
    Script,
}

#[derive(Clone, Debug)]
enum Op {
    Append(u64),
    Add(u64),
    Remove(u64),
    Produce(u64),
    Transfer {
        line: u64,
        from: usize,
        to: usize,
        amount: i64,
        how: How,
    },
    /// HSET of three fields.
    Fields(u64),
    Together(u64, How),
}

/// Numbers in the order of sending, and whether each is surely there.
type Sequence = BTreeMap<u64, bool>;

pub struct Collector {
    id: u32,
    rng: StdRng,
    serial: u64,
    max_pipeline: usize,
    pending: VecDeque<Op>,
    list: Sequence,
    ledger: Sequence,
    queue: Sequence,
    /// Members that may be in the set, with `Some` if it is known whether they are.
    set: BTreeMap<u64, Option<bool>>,
    /// The numbers that the places written together may hold.
    fields: BTreeSet<u64>,
    together: [BTreeSet<u64>; 2],
    pub acknowledged: u64,
    pub unknown: u64,
}

impl Collector {
    pub fn new(id: u32, seed: u64, max_pipeline: usize) -> Collector {
        Collector {
            id,
            rng: seed::rng(seed, 5_000 + u64::from(id)),
            serial: 0,
            max_pipeline,
            pending: VecDeque::new(),
            list: Sequence::new(),
            ledger: Sequence::new(),
            queue: Sequence::new(),
            set: BTreeMap::new(),
            fields: BTreeSet::from([0]),
            together: [BTreeSet::from([0]), BTreeSet::from([0])],
            acknowledged: 0,
            unknown: 0,
        }
    }

    /// Opens the accounts. Once, before the first kill.
    pub fn prepare(&self, client: &mut Client) {
        let mut words = vec!["HSET".to_owned(), self.key("accounts")];
        for account in 0..ACCOUNTS {
            words.extend([account.to_string(), OPENING_BALANCE.to_string()]);
        }
        let reply = client.command(&words);
        assert_eq!(reply, Value::Integer(ACCOUNTS as i64));
    }

    /// Writes until told to stop or until the connection breaks.
    pub fn run(
        &mut self,
        client: &mut Client,
        stop: &AtomicBool,
        on_error: OnError,
    ) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            self.step(client, on_error)?;
        }
        Ok(())
    }

    fn step(&mut self, client: &mut Client, on_error: OnError) -> io::Result<()> {
        let mut request = Vec::new();
        for _ in 0..self.rng.random_range(1..=self.max_pipeline) {
            let op = self.invent();
            self.commands(&op)
                .iter()
                .for_each(|words| encode(&mut request, words));
            self.pending.push_back(op);
        }
        client.send(&request)?;
        while let Some(op) = self.pending.front().cloned() {
            let mut replies = Vec::new();
            for _ in self.commands(&op) {
                replies.push(client.read_reply()?.value);
            }
            self.pending.pop_front();
            self.take(&op, &replies, on_error);
        }
        Ok(())
    }

    fn take(&mut self, op: &Op, replies: &[Value], on_error: OnError) {
        let errors: Vec<String> = replies.iter().filter_map(Value::error).collect();
        let Some(error) = errors.first() else {
            let last = replies.last().expect("an operation has a command");
            let shown = !matches!(
                op,
                Op::Transfer {
                    how: How::Transaction,
                    ..
                }
            ) || last.array().len() == 3;
            assert!(shown, "collector {}: {op:?} was answered {last:?}", self.id);
            self.acknowledged += 1;
            return self.note(op, true);
        };
        let allowed = on_error == OnError::AllowUnknown
            && errors
                .iter()
                .all(|error| error.starts_with("UNKNOWN") || error.starts_with("EXECABORT"));
        assert!(
            allowed,
            "collector {}: {op:?} was answered by: {error}",
            self.id
        );
        self.unknown += 1;
        self.note(op, false);
    }

    fn key(&self, name: &str) -> String {
        format!("{{collection:{}}}:{name}", self.id)
    }

    /// The queue between this collector and its consumer.
    pub fn queue_key(id: u32) -> String {
        format!("{{queue:{id}}}")
    }

    fn commands(&self, op: &Op) -> Vec<Vec<String>> {
        let words = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
        let one = |parts: &[&str]| vec![words(parts)];
        match op {
            Op::Append(n) => one(&["RPUSH", &self.key("list"), &n.to_string()]),
            Op::Add(n) => one(&["SADD", &self.key("set"), &n.to_string()]),
            Op::Remove(n) => one(&["SREM", &self.key("set"), &n.to_string()]),
            Op::Produce(n) => one(&["RPUSH", &Self::queue_key(self.id), &n.to_string()]),
            Op::Fields(n) => {
                let n = n.to_string();
                one(&["HSET", &self.key("fields"), "a", &n, "b", &n, "c", &n])
            }
            Op::Transfer {
                line,
                from,
                to,
                amount,
                how,
            } => {
                let (accounts, ledger) = (self.key("accounts"), self.key("ledger"));
                let (from, to) = (from.to_string(), to.to_string());
                let text = format!("{line}:{from}:{to}:{amount}");
                let (plus, minus) = (amount.to_string(), (-amount).to_string());
                match how {
                    How::Script => one(&[
                        "EVAL", TRANSFER, "2", &accounts, &ledger, &from, &to, &plus, &text,
                    ]),
                    How::Transaction => vec![
                        words(&["MULTI"]),
                        words(&["HINCRBY", &accounts, &from, &minus]),
                        words(&["HINCRBY", &accounts, &to, &plus]),
                        words(&["RPUSH", &ledger, &text]),
                        words(&["EXEC"]),
                    ],
                }
            }
            Op::Together(n, how) => {
                let [string, hash, scores] = self.together_keys(*how);
                let n = n.to_string();
                match how {
                    How::Script => {
                        one(&["EVAL", SAME_EVERYWHERE, "3", &string, &hash, &scores, &n])
                    }
                    How::Transaction => vec![
                        words(&["MULTI"]),
                        words(&["SET", &string, &n]),
                        words(&["HSET", &hash, "n", &n]),
                        words(&["ZADD", &scores, &n, "n"]),
                        words(&["EXEC"]),
                    ],
                }
            }
        }
    }

    fn together_keys(&self, how: How) -> [String; 3] {
        let prefix = match how {
            How::Transaction => "exec",
            How::Script => "script",
        };
        ["string", "hash", "scores"].map(|name| self.key(&format!("{prefix}-{name}")))
    }

    fn invent(&mut self) -> Op {
        self.serial += 1;
        let serial = self.serial;
        let how = match self.rng.random_range(0..2) {
            0 => How::Transaction,
            _ => How::Script,
        };
        match self.rng.random_range(0..100) {
            0..25 => Op::Append(serial),
            25..40 => Op::Add(serial),
            40..45 => Op::Remove(self.rng.random_range(1..=serial)),
            45..60 => Op::Produce(serial),
            60..75 => {
                let from = self.rng.random_range(0..ACCOUNTS);
                Op::Transfer {
                    line: serial,
                    from,
                    to: (from + self.rng.random_range(1..ACCOUNTS)) % ACCOUNTS,
                    amount: self.rng.random_range(1..100),
                    how,
                }
            }
            75..87 => Op::Fields(serial),
            _ => Op::Together(serial, how),
        }
    }

    /// Takes an operation into account: as done, or as perhaps done.
    fn note(&mut self, op: &Op, certain: bool) {
        let replace = |numbers: &mut BTreeSet<u64>, number| {
            if certain {
                numbers.clear();
            }
            numbers.insert(number);
        };
        match *op {
            Op::Append(n) => {
                self.list.insert(n, certain);
            }
            Op::Produce(n) => {
                self.queue.insert(n, certain);
            }
            Op::Transfer { line, .. } => {
                self.ledger.insert(line, certain);
            }
            Op::Add(n) => {
                self.set.insert(n, certain.then_some(true));
            }
            // A number that was never added stays absent whatever became of this.
            Op::Remove(n) => {
                if let Some(state) = self.set.get_mut(&n)
                    && *state != Some(false)
                {
                    *state = certain.then_some(false);
                }
            }
            Op::Fields(n) => replace(&mut self.fields, n),
            Op::Together(n, how) => replace(&mut self.together[how as usize], n),
        }
    }

    /// Compares everything with the database and takes what is there as the new truth.
    /// The consumer, if there is one, must have ended.
    pub fn verify(
        &mut self,
        client: &mut Client,
        certainty: Certainty,
        consumer: Option<&mut Consumer>,
    ) {
        let pending: Vec<Op> = self.pending.drain(..).collect();
        let unanswered: Vec<u64> = pending
            .iter()
            .filter_map(|op| match op {
                Op::Append(n) => Some(*n),
                _ => None,
            })
            .collect();
        pending.iter().for_each(|op| self.note(op, false));
        let seen = self.numbers(client, &["LRANGE", &self.key("list"), "0", "-1"]);
        if certainty == Certainty::Prefix {
            assert_prefix(self.id, &unanswered, &seen);
        }
        adopt(&format!("list of {}", self.id), &mut self.list, &seen);
        self.verify_set(client);
        self.verify_bank(client);
        self.verify_together(client);
        if let Some(consumer) = consumer {
            let left = self.numbers(client, &["LRANGE", &Self::queue_key(self.id), "0", "-1"]);
            consumer.verify(&mut self.queue, &left);
        }
    }

    fn numbers(&self, client: &mut Client, words: &[&str]) -> Vec<u64> {
        let reply = client.command(words);
        let number = |item: &Value| item.text().parse().expect("numbers were written");
        reply.array().iter().map(number).collect()
    }

    fn verify_set(&mut self, client: &mut Client) {
        let seen = self.numbers(client, &["SMEMBERS", &self.key("set")]);
        let members: BTreeSet<u64> = seen.iter().copied().collect();
        assert_eq!(
            members.len(),
            seen.len(),
            "collector {}: a member twice",
            self.id
        );
        let card = client.command(&["SCARD", &self.key("set")]).integer();
        assert_eq!(card as usize, seen.len(), "collector {}: SCARD", self.id);
        for (number, state) in &mut self.set {
            let there = members.contains(number);
            assert!(
                state.is_none_or(|expected| expected == there),
                "collector {}: {number} in the set: {there}, should be {state:?}",
                self.id
            );
            *state = Some(there);
        }
        let stray = members.iter().find(|number| !self.set.contains_key(number));
        assert_eq!(stray, None, "collector {}: never added", self.id);
    }

    fn verify_bank(&mut self, client: &mut Client) {
        let lines = client.command(&["LRANGE", &self.key("ledger"), "0", "-1"]);
        let mut balances = [OPENING_BALANCE; ACCOUNTS];
        let mut seen = Vec::new();
        for line in lines.array() {
            let text = line.text();
            let parts: Vec<i64> = text
                .split(':')
                .map(|part| part.parse().expect("a ledger of numbers"))
                .collect();
            let [line, from, to, amount] = parts[..] else {
                panic!("a torn line: {text}");
            };
            balances[from as usize] -= amount;
            balances[to as usize] += amount;
            seen.push(line as u64);
        }
        adopt(&format!("ledger of {}", self.id), &mut self.ledger, &seen);
        for (account, balance) in balances.iter().enumerate() {
            let shown = client.command(&["HGET", &self.key("accounts"), &account.to_string()]);
            assert_eq!(
                shown.text(),
                balance.to_string(),
                "collector {}: account {account} against its ledger",
                self.id
            );
        }
    }

    fn verify_together(&mut self, client: &mut Client) {
        let fields = client.command(&["HMGET", &self.key("fields"), "a", "b", "c"]);
        let id = self.id;
        one_number(&format!("HSET of {id}"), fields.array(), &mut self.fields);
        for how in [How::Transaction, How::Script] {
            let [string, hash, scores] = self.together_keys(how);
            let shown = [
                client.command(&["GET", &string]),
                client.command(&["HGET", &hash, "n"]),
                client.command(&["ZSCORE", &scores, "n"]),
            ];
            let allowed = &mut self.together[how as usize];
            one_number(&format!("{how:?} of {id}"), &shown, allowed);
        }
    }
}

/// All places hold one number, and one of those that they may.
fn one_number(what: &str, places: &[Value], allowed: &mut BTreeSet<u64>) {
    let numbers: BTreeSet<u64> = places
        .iter()
        .map(|place| match place {
            Value::Null => 0,
            place => place.text().parse().expect("numbers were written"),
        })
        .collect();
    assert_eq!(numbers.len(), 1, "{what} is torn: {places:?}");
    assert!(
        numbers.is_subset(allowed),
        "{what}: {numbers:?}, should be one of {allowed:?}"
    );
    *allowed = numbers;
}

/// Everything certain is there, nothing else but what is possible, each once and in
/// the order of sending. What is there becomes certain, the rest is forgotten.
fn adopt(what: &str, expected: &mut Sequence, seen: &[u64]) {
    let disorder = seen.windows(2).find(|pair| pair[0] >= pair[1]);
    assert_eq!(disorder, None, "{what}: out of order or twice");
    let present: BTreeSet<u64> = seen.iter().copied().collect();
    let lost = expected
        .iter()
        .find(|(number, certain)| **certain && !present.contains(number));
    assert_eq!(lost, None, "{what}: an acknowledged number is lost");
    let stray = seen.iter().find(|number| !expected.contains_key(number));
    assert_eq!(stray, None, "{what}: never sent");
    expected.retain(|number, certain| {
        *certain = true;
        present.contains(number)
    });
}

/// On one connection to one server commands run in order: of those without an answer
/// the first few are there and no other.
fn assert_prefix(id: u32, unanswered: &[u64], seen: &[u64]) {
    let seen: BTreeSet<&u64> = seen.iter().collect();
    let present: Vec<bool> = unanswered
        .iter()
        .map(|number| seen.contains(number))
        .collect();
    assert!(
        present.is_sorted_by(|earlier, later| earlier >= later),
        "collector {id}: of the unanswered {unanswered:?} there are {present:?}"
    );
}

/// Takes a collector's queue apart, one BLPOP after another.
pub struct Consumer {
    id: u32,
    taken: Vec<u64>,
    /// A BLPOP is on its way.
    asked: bool,
    /// BLPOPs without an answer: each may have taken one number along.
    unknown: usize,
    /// Numbers that went with them, by earlier verifications.
    gone: usize,
    /// How much of `taken` was there at the last verification.
    settled: usize,
}

impl Consumer {
    pub fn new(id: u32) -> Consumer {
        Consumer {
            id,
            taken: Vec::new(),
            asked: false,
            unknown: 0,
            gone: 0,
            settled: 0,
        }
    }

    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    pub fn run(
        &mut self,
        client: &mut Client,
        stop: &AtomicBool,
        on_error: OnError,
    ) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            self.asked = true;
            let reply =
                client.try_command(&["BLPOP", &Collector::queue_key(self.id), POP_TIMEOUT])?;
            self.asked = false;
            match &reply {
                Value::Null => {}
                Value::Array(pair) => self
                    .taken
                    .push(pair[1].text().parse().expect("numbers were written")),
                other => {
                    let error = other.error().unwrap_or_else(|| format!("{other:?}"));
                    let allowed = on_error == OnError::AllowUnknown && error.starts_with("UNKNOWN");
                    assert!(allowed, "consumer {}: BLPOP: {error}", self.id);
                    self.unknown += 1;
                }
            }
        }
        Ok(())
    }

    /// Produced equals consumed, left and gone with an unanswered BLPOP.
    fn verify(&mut self, produced: &mut Sequence, left: &[u64]) {
        self.unknown += usize::from(std::mem::take(&mut self.asked));
        let id = self.id;
        let order = self.taken.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(order, None, "consumer {id}: out of order or twice");
        let mut found: BTreeSet<u64> = self.taken[self.settled..].iter().copied().collect();
        for number in left {
            assert!(
                found.insert(*number),
                "consumer {id}: {number} taken and left"
            );
        }
        let stray = found.iter().find(|number| !produced.contains_key(number));
        assert_eq!(
            stray, None,
            "consumer {id}: never produced, or taken before"
        );
        let missing = produced
            .iter()
            .filter(|(number, certain)| **certain && !found.contains(number))
            .count();
        self.gone += missing;
        assert!(
            self.gone <= self.unknown,
            "consumer {id}: {} numbers are gone, {} BLPOPs had no answer",
            self.gone,
            self.unknown
        );
        self.settled = self.taken.len();
        let left: BTreeSet<u64> = left.iter().copied().collect();
        produced.retain(|number, certain| {
            *certain = true;
            left.contains(number)
        });
    }
}

/// Looks at a collector's keys all the time: what is written together must never be
/// seen in parts, and the sum of the accounts never changes.
pub struct Witness {
    id: u32,
    pub looks: u64,
}

impl Witness {
    pub fn new(id: u32) -> Witness {
        Witness { id, looks: 0 }
    }

    pub fn run(
        &mut self,
        client: &mut Client,
        stop: &AtomicBool,
        on_error: OnError,
    ) -> io::Result<()> {
        let key = |name: &str| format!("{{collection:{}}}:{name}", self.id);
        let lines = [
            format!("HMGET {} a b c", key("fields")),
            format!("HVALS {}", key("accounts")),
            "MULTI".to_owned(),
            format!("GET {}", key("exec-string")),
            format!("HGET {} n", key("exec-hash")),
            format!("ZSCORE {} n", key("exec-scores")),
            "EXEC".to_owned(),
        ];
        let mut request = Vec::new();
        for line in &lines {
            encode(&mut request, &line.split(' ').collect::<Vec<_>>());
        }
        while !stop.load(Ordering::Relaxed) {
            let replies = client.pipeline(&request, lines.len())?;
            let errors: Vec<String> = replies.iter().filter_map(|r| r.value.error()).collect();
            if !errors.is_empty() {
                let allowed = on_error == OnError::AllowUnknown
                    && errors
                        .iter()
                        .all(|e| e.starts_with("UNKNOWN") || e.starts_with("EXECABORT"));
                assert!(allowed, "witness {}: {errors:?}", self.id);
                continue;
            }
            self.looks += 1;
            for places in [&replies[0], &replies[6]] {
                let places = places.value.array();
                assert!(
                    places.iter().all(|place| *place == places[0]),
                    "witness {}: torn: {places:?}",
                    self.id
                );
            }
            let balance = |item: &Value| item.text().parse::<i64>().expect("a number");
            let total: i64 = replies[1].value.array().iter().map(balance).sum();
            assert_eq!(
                total,
                OPENING_BALANCE * ACCOUNTS as i64,
                "witness {}",
                self.id
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(check: impl FnOnce()) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err()
    }

    #[test]
    fn a_lost_or_doubled_or_invented_number_is_found() {
        let expected = Sequence::from([(1, true), (2, false), (3, true)]);
        let check = |seen: &[u64]| refused(|| adopt("list", &mut expected.clone(), seen));
        assert!(!check(&[1, 2, 3]) && !check(&[1, 3]));
        assert!(check(&[1]), "lost");
        assert!(check(&[1, 3, 3]), "twice");
        assert!(check(&[3, 1]), "out of order");
        assert!(check(&[1, 3, 4]), "never sent");
    }

    #[test]
    fn a_torn_write_is_found() {
        let places = |a: &str, b: &str| [Value::Bulk(a.into()), Value::Bulk(b.into())];
        let allowed = BTreeSet::from([1, 2]);
        assert!(!refused(|| one_number(
            "x",
            &places("2", "2"),
            &mut allowed.clone()
        )));
        assert!(refused(|| one_number(
            "x",
            &places("1", "2"),
            &mut allowed.clone()
        )));
        assert!(refused(|| one_number(
            "x",
            &places("3", "3"),
            &mut allowed.clone()
        )));
    }

    #[test]
    fn more_missing_from_a_queue_than_pops_without_an_answer_is_found() {
        let produced = Sequence::from([(1, true), (2, true), (3, false)]);
        let check = |unknown, taken: &[u64], left: &[u64]| {
            let mut consumer = Consumer::new(0);
            (consumer.unknown, consumer.taken) = (unknown, taken.to_vec());
            refused(|| consumer.verify(&mut produced.clone(), left))
        };
        assert!(!check(0, &[1], &[2]) && !check(1, &[], &[2, 3]));
        assert!(check(0, &[1], &[]), "lost");
        assert!(check(1, &[1, 2], &[2]), "taken and left");
    }

    #[test]
    fn unanswered_commands_happen_in_order_or_not_at_all() {
        assert!(!refused(|| assert_prefix(0, &[5, 6], &[4, 5])));
        assert!(refused(|| assert_prefix(0, &[5, 6], &[4, 6])));
    }
}
