//! Clients of the model world and what they must find: the workloads of
//! `tests/src/collections.rs`, on every kind of key, in two databases.
//!
//! The truth is the one order in which commands were executed. Besides, each
//! workload keeps a promise of its own: lists are in the order of appending, no
//! number is in two sets, the balances of a slot's accounts have one sum, what was
//! produced was consumed, is left, was flushed, or went with a lost reply.

use super::collections::{Evaluation, Seen, see, see_all};
use super::model::{Effect, Elements, Family, Key, Kind, Record};
use super::world::{SLOTS, World};
use crate::migration::Verdict;
use std::collections::{BTreeMap, BTreeSet};

/// Names of keys; each slot has all of them in each database.
const NUMBERS: u8 = 4;
const HASH: u8 = 4;
const SCORED: u8 = 5;
const LONG: u8 = 6;
const LIST: u8 = 7;
const SET: u8 = 8;
const QUEUE: u8 = 9;
const ACCOUNTS: std::ops::Range<u8> = 10..14;
const LEDGER: u8 = 14;
const OPENING_BALANCE: i64 = 1_000;

/// What clients have been told, and what must come of it.
#[derive(Default)]
pub(super) struct Books {
    produced: BTreeSet<u64>,
    consumed: BTreeSet<u64>,
    flushed: BTreeSet<u64>,
    /// Pops whose reply was lost.
    unknown: usize,
    versions: BTreeSet<(u16, (u32, u64))>,
}

fn number(n: u64) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn numbers<'a>(elements: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u64> {
    let number = |bytes: &Vec<u8>| u64::from_be_bytes(bytes[..8].try_into().unwrap());
    elements.map(number).collect()
}

impl World {
    fn some_key(&mut self) -> Key {
        let slot = self.rng.below(u64::from(SLOTS)) as u16;
        (slot, self.rng.below(2) as u8, self.rng.below(15) as u8)
    }

    /// Unique, and growing.
    fn serial(&mut self) -> u64 {
        self.report.writes += 1;
        self.report.writes
    }

    fn some_expiry(&mut self, percent: u64) -> u64 {
        match self.rng.chance(percent) {
            true => self.now + self.rng.below(2_000),
            false => 0,
        }
    }

    pub(super) fn client(&mut self) {
        let key = self.some_key();
        let hint = self.etcd.slot_map[&key.0].0.0 as usize - 1;
        // The hint may be wrong in either direction: any group may be asked.
        let at = if self.rng.chance(20) { 1 - hint } else { hint };
        if self.groups[at].down || !self.serves(at, key.0) {
            return;
        }
        let level = self.pressure.iter().filter(|((group, _), _)| *group == at);
        let level = level.map(|(_, level)| *level).max().unwrap_or(0);
        if self.rng.chance(u64::from(level) * 9) {
            return;
        }
        match self.rng.below(100) {
            0..3 => self.on_all_slots(at, |slot| Effect::Flush { slot, db: 0 }),
            3..7 => self.on_all_slots(at, |slot| Effect::Swap { slot }),
            7..12 => self.expire(at),
            _ => self.command(at, key),
        }
    }

    /// One command, transaction or script on keys of one slot.
    pub(super) fn command(&mut self, at: usize, key: Key) {
        self.check_key(at, key);
        let mut made = Made::default();
        let (now, slot) = (self.now, key.0);
        let plan = self.choose(at, key, &mut made);
        let mut evaluation = self.groups[at].evaluation(now, slot);
        plan(&mut evaluation);
        let Evaluation {
            effects,
            next_version,
            taken,
            ..
        } = evaluation;
        for (slot, version) in taken {
            let version = (version.epoch, version.counter);
            let new = self.books.versions.insert((slot, version));
            assert!(new, "version {version:?} of slot {slot} is used again");
        }
        self.books.produced.extend(made.produced);
        match made.popped {
            Some(_) if self.rng.chance(self.noise() + 2) => self.books.unknown += 1,
            popped => self.books.consumed.extend(popped),
        }
        if !effects.is_empty() {
            self.execute(at, effects, next_version);
        }
    }

    fn choose(&mut self, at: usize, key: Key, made: &mut Made) -> Plan {
        let live = see(self.groups[at].live(), key, self.now);
        let whole = self.rng.chance(12);
        match key.2 {
            name if name < NUMBERS => self.on_number(key),
            HASH if !whole => self.fields(key, Kind::Hash),
            SCORED if !whole => self.fields(key, Kind::Scored),
            LONG if !whole => self.fields(key, Kind::Long),
            HASH => self.whole(key, Kind::Hash, live),
            SCORED => self.whole(key, Kind::Scored, live),
            LONG => self.whole(key, Kind::Long, live),
            LIST if whole => Box::new(move |e| e.overwrite(key, Kind::List, Elements::new(), 0)),
            LIST => self.append(key),
            SET => self.members(key, whole, live),
            QUEUE => self.queue(key, made, live),
            _ => self.transfer(key),
        }
    }

    fn on_number(&mut self, key: Key) -> Plan {
        let (value, expires) = (self.serial() as i64 * 1_000, self.some_expiry(40));
        match self.rng.below(10) {
            0..5 => Box::new(move |e| e.put_number(key, value, expires)),
            5..8 => Box::new(move |e| e.add(key, 1)),
            _ => Box::new(move |e| {
                if e.see(key).is_some() {
                    e.delete(key);
                }
            }),
        }
    }

    /// A few elements put, one taken out; sometimes an expiry set or taken away.
    fn fields(&mut self, key: Key, kind: Kind) -> Plan {
        let value = number(self.serial());
        let some = 1 + self.rng.below(3);
        let puts: Elements = (0..some)
            .map(|_| (number(1 + self.rng.below(9)), value.clone()))
            .collect();
        let gone = [number(1 + self.rng.below(9))];
        let expires = match self.rng.below(10) {
            0 => Some(self.some_expiry(100)),
            1 => Some(0),
            _ => None,
        };
        Box::new(move |e| e.change(key, kind, puts, &gone, expires))
    }

    /// SUNIONSTORE, RESTORE, RENAME and their like, or DEL.
    fn whole(&mut self, key: Key, kind: Kind, live: Option<Seen>) -> Plan {
        if live.is_some() && self.rng.chance(40) {
            return Box::new(move |e| e.delete(key));
        }
        let elements: Elements = (0..self.rng.below(9))
            .map(|n| (number(1 + n), number(self.report.writes * 10 + n)))
            .collect();
        let expires = self.some_expiry(30);
        Box::new(move |e| e.overwrite(key, kind, elements, expires))
    }

    fn append(&mut self, key: Key) -> Plan {
        let line = self.serial();
        Box::new(move |e| append_to(e, key, &[line]))
    }

    /// Each number is added once, to one set.
    fn members(&mut self, key: Key, whole: bool, live: Option<Seen>) -> Plan {
        let added: Elements = (0..1 + self.rng.below(4))
            .map(|_| (number(self.serial()), Vec::new()))
            .collect();
        if whole {
            return Box::new(move |e| e.overwrite(key, Kind::Set, added, 0));
        }
        let member = live.and_then(|seen| seen.elements.into_keys().next());
        let gone: Vec<Vec<u8>> = member.into_iter().filter(|_| self.rng.chance(60)).collect();
        Box::new(move |e| e.change(key, Kind::Set, added, &gone, None))
    }

    fn queue(&mut self, key: Key, made: &mut Made, live: Option<Seen>) -> Plan {
        let head = live.and_then(|seen| seen.elements.into_iter().next());
        match head {
            Some((place, value)) if self.rng.chance(50) => {
                made.popped = numbers([value].iter()).pop();
                Box::new(move |e| e.change(key, Kind::List, Elements::new(), &[place], None))
            }
            _ => {
                let values: Vec<u64> = (0..1 + self.rng.below(3)).map(|_| self.serial()).collect();
                made.produced.extend(&values);
                Box::new(move |e| append_to(e, key, &values))
            }
        }
    }

    /// Two accounts and a line in the ledger, in one entry; opens the accounts first.
    fn transfer(&mut self, key: Key) -> Plan {
        let line = self.serial();
        let (from, to) = (self.rng.below(4) as u8, self.rng.below(4) as u8);
        let amount = self.rng.below(100) as i64;
        let account = move |n: u8| (key.0, key.1, ACCOUNTS.start + n);
        Box::new(move |e| {
            if e.see(account(0)).is_none() {
                (0..4).for_each(|n| e.put_number(account(n), OPENING_BALANCE, 0));
            } else if from != to {
                e.add(account(from), -amount);
                e.add(account(to), amount);
                append_to(e, (key.0, key.1, LEDGER), &[line]);
            }
        })
    }

    /// FLUSHDB and SWAPDB wait while any slot of the group is frozen.
    fn on_all_slots(&mut self, at: usize, effect: impl Fn(u16) -> Effect) {
        let state = &self.groups[at].state;
        if (0..SLOTS).any(|slot| state.can_serve(slot) == Verdict::Frozen) {
            return;
        }
        let served: Vec<u16> = (0..SLOTS).filter(|slot| self.serves(at, *slot)).collect();
        let effects: Vec<Effect> = served.into_iter().map(effect).collect();
        for effect in &effects {
            if let Effect::Flush { slot, db } = effect {
                let left = see(&self.truth, (*slot, *db, QUEUE), self.now);
                let left = left.map(|seen| numbers(seen.elements.values()));
                self.books.flushed.extend(left.unwrap_or_default());
            }
        }
        self.execute(at, effects, 0);
    }

    /// What the expiry task removes, of slots that are served: records that are due,
    /// and index rows whose record the filter has dropped.
    fn expire(&mut self, at: usize) {
        let live = self.groups[at].live();
        let due = live.keys().filter(|place| {
            let at_ms = || u64::from_be_bytes(place.key[..8].try_into().unwrap());
            place.family == Family::Expiry && self.serves(at, place.slot) && at_ms() <= self.now
        });
        let due: Vec<_> = due.cloned().collect();
        let mut effects = Vec::new();
        for index in due {
            let key = (index.slot, index.db, index.key[8]);
            let record = live.get(&super::model::meta(key));
            let record = record.map(|value| Record::decode(value));
            let at_ms = u64::from_be_bytes(index.key[..8].try_into().unwrap());
            if record.is_some_and(|record| record.expires == at_ms) {
                let mut evaluation = self.groups[at].evaluation(self.now, key.0);
                evaluation.delete(key);
                effects.append(&mut evaluation.effects);
            } else {
                effects.push(Effect::DropExpiry(index));
            }
        }
        if !effects.is_empty() {
            self.execute(at, effects, 0);
        }
    }

    fn execute(&mut self, at: usize, effects: Vec<Effect>, next_version: u64) {
        for effect in &effects {
            effect.apply(&mut self.truth);
        }
        self.groups[at].write(self.now, effects, next_version);
    }

    /// A read by a client.
    fn check_key(&self, at: usize, key: Key) {
        let (live, truth) = (self.groups[at].live(), &self.truth);
        assert_eq!(
            see(live, key, self.now),
            see(truth, key, self.now),
            "{key:?} in group {}",
            at + 1
        );
    }

    pub(super) fn check_data(&self, at: usize, wanted: impl Fn(u16) -> bool, when: &str) {
        let here = see_all(self.groups[at].live(), &wanted, self.now);
        let truth = see_all(&self.truth, &wanted, self.now);
        assert_eq!(here, truth, "the data of the slots when {when}");
    }

    /// The promises of the workloads, over all slots and both databases.
    pub(super) fn check_books(&self) {
        let all = see_all(&self.truth, |_| true, self.now);
        let mut members = BTreeSet::new();
        let mut left = BTreeSet::new();
        let mut balances: BTreeMap<(u16, u8), i64> = BTreeMap::new();
        for ((slot, db, name), seen) in &all {
            match *name {
                LIST | LEDGER => {
                    let lines = numbers(seen.elements.values());
                    assert!(lines.is_sorted_by(|a, b| a < b), "out of order: {lines:?}");
                }
                SET => {
                    for member in numbers(seen.elements.keys()) {
                        assert!(members.insert(member), "{member} is in two sets");
                    }
                }
                QUEUE => left.extend(numbers(seen.elements.values())),
                name if ACCOUNTS.contains(&name) => {
                    *balances.entry((*slot, *db)).or_default() += seen.number;
                }
                _ => {}
            }
        }
        let total = ACCOUNTS.len() as i64 * OPENING_BALANCE;
        assert!(balances.values().all(|sum| *sum == total), "{balances:?}");
        self.check_queue(&left);
    }

    fn check_queue(&self, left: &BTreeSet<u64>) {
        let books = &self.books;
        assert!(
            left.is_disjoint(&books.consumed),
            "consumed and still there"
        );
        let known = [left, &books.consumed, &books.flushed];
        let gone = books.produced.iter();
        let gone = gone.filter(|value| !known.iter().any(|set| set.contains(value)));
        let gone = gone.count();
        assert!(
            gone <= books.unknown,
            "{gone} are gone, {} may be",
            books.unknown
        );
    }
}

/// What a command does, once it is decided on.
type Plan = Box<dyn FnOnce(&mut Evaluation<'_>)>;

/// What a command makes of the queue.
#[derive(Default)]
struct Made {
    produced: Vec<u64>,
    popped: Option<u64>,
}

/// Appends to a list: an element's place is one above the last.
fn append_to(evaluation: &mut Evaluation<'_>, key: Key, values: &[u64]) {
    let seen = evaluation.see(key);
    let last = seen.and_then(|seen| numbers(seen.elements.keys()).pop());
    let first = last.unwrap_or(0) + 1;
    let puts = values.iter().zip(first..);
    let puts = puts.map(|(value, place)| (number(place), number(*value)));
    evaluation.change(key, Kind::List, puts.collect(), &[], None);
}
