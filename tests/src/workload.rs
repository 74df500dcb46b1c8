//! Writers that know what must be in the database, and readers that notice time
//! running backwards.
//!
//! Each writer owns its keys: nobody else writes them, so that after each
//! acknowledged command there is one state that the database must be in. Commands
//! whose reply never came leave several possible states:
//! - on one connection to one server they are executed in order, so what is there
//!   must equal the acknowledged state plus some *prefix* of what was not answered
//!   (`Certainty::Prefix`); that makes MSET all or nothing as well;
//! - through a proxy each of them may or may not have happened (`Certainty::Each`).
//!
//! Shared counters are incremented by all writers: at least what was acknowledged,
//! at most what was sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::Rng;
use rand::rngs::StdRng;

use crate::resp::{Client, Reply, Value, encode};
use crate::seed;

/// How far a server's log time may be from the wall clock, in milliseconds.
const CLOCK_SLACK_MS: i64 = 1_000;
/// Expiries that no test lives to see.
const LONG_TTL_MS: i64 = 3_600_000;
/// Keys of the plain kind that one writer plays with.
const PLAIN_KEYS: u32 = 200;
const OWN_COUNTERS: u32 = 5;
const MSET_GROUPS: u32 = 3;
const MSET_WIDTH: u32 = 5;
const SHARED_COUNTERS: usize = 4;

pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is after 1970");
    i64::try_from(since.as_millis()).expect("milliseconds fit")
}

/// What a key holds: value and absolute expiry in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    value: Vec<u8>,
    expires_at: Option<i64>,
}

/// `None`: no such key.
type State = Option<Stored>;

/// How unanswered commands may have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    Prefix,
    Each,
}

/// What a writer does with an error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Every error reply fails the test.
    Fail,
    /// `-UNKNOWN` may happen and means what it says; every other fails the test.
    AllowUnknown,
}

/// Counters that all writers increment.
#[derive(Default)]
pub struct SharedCounters {
    sent: [AtomicU64; SHARED_COUNTERS],
    acknowledged: [AtomicU64; SHARED_COUNTERS],
    highest_reply: [AtomicI64; SHARED_COUNTERS],
}

impl SharedCounters {
    fn key(index: usize) -> String {
        format!("shared:{index}")
    }

    /// Checks every counter; `exact` when no command was left without an answer.
    pub fn verify(&self, client: &mut Client, exact: bool) {
        for index in 0..SHARED_COUNTERS {
            let sent = self.sent[index].load(Ordering::SeqCst);
            let acknowledged = self.acknowledged[index].load(Ordering::SeqCst);
            let highest = self.highest_reply[index].load(Ordering::SeqCst);
            let value = match client.command(&["GET", &Self::key(index)]) {
                Value::Null => 0,
                value => value.text().parse::<u64>().expect("a counter is a number"),
            };
            let allowed = if exact {
                acknowledged..=acknowledged
            } else {
                acknowledged..=sent
            };
            assert!(
                allowed.contains(&value) && value >= highest as u64,
                "shared counter {index} is {value}; {acknowledged} acknowledged, {sent} sent, \
                 highest reply {highest}"
            );
        }
    }
}

#[derive(Clone)]
enum Op {
    Put {
        key: String,
        value: Vec<u8>,
        expires_at: Option<i64>,
    },
    Append {
        key: String,
        text: Vec<u8>,
    },
    Delete {
        key: String,
    },
    Count {
        key: String,
    },
    CountShared {
        index: usize,
    },
    PutAll {
        pairs: Vec<(String, Vec<u8>)>,
    },
    ExpireAt {
        key: String,
        at: i64,
    },
    Persist {
        key: String,
    },
}

impl std::fmt::Debug for Op {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut request = Vec::new();
        self.encode(&mut request);
        let words = String::from_utf8_lossy(&request).replace("\r\n", " ");
        write!(out, "[{}]", words.chars().take(120).collect::<String>())
    }
}

impl Op {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Op::Put {
                key,
                value,
                expires_at: None,
            } => {
                encode(out, &[b"SET".as_slice(), key.as_bytes(), value]);
            }
            Op::Put {
                key,
                value,
                expires_at: Some(at),
            } => {
                let at = at.to_string();
                encode(
                    out,
                    &[
                        b"SET".as_slice(),
                        key.as_bytes(),
                        value,
                        b"PXAT",
                        at.as_bytes(),
                    ],
                );
            }
            Op::Append { key, text } => encode(out, &[b"APPEND".as_slice(), key.as_bytes(), text]),
            Op::Delete { key } => encode(out, &["DEL", key]),
            Op::Count { key } => encode(out, &["INCR", key]),
            Op::CountShared { index } => encode(out, &["INCR", &SharedCounters::key(*index)]),
            Op::PutAll { pairs } => {
                let mut words: Vec<&[u8]> = vec![b"MSET"];
                for (key, value) in pairs {
                    words.extend([key.as_bytes(), value.as_slice()]);
                }
                encode(out, &words);
            }
            Op::ExpireAt { key, at } => encode(out, &["PEXPIREAT", key, &at.to_string()]),
            Op::Persist { key } => encode(out, &["PERSIST", key]),
        }
    }

    fn keys(&self) -> Vec<&String> {
        match self {
            Op::Put { key, .. }
            | Op::Append { key, .. }
            | Op::Delete { key }
            | Op::Count { key }
            | Op::ExpireAt { key, .. }
            | Op::Persist { key } => vec![key],
            Op::CountShared { .. } => vec![],
            Op::PutAll { pairs } => pairs.iter().map(|(key, _)| key).collect(),
        }
    }

    /// What this operation makes of one key's state.
    fn applied(&self, key: &str, before: &State) -> State {
        match self {
            Op::Put {
                value, expires_at, ..
            } => Some(Stored {
                value: value.clone(),
                expires_at: *expires_at,
            }),
            Op::PutAll { pairs } => pairs
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| Stored {
                    value: value.clone(),
                    expires_at: None,
                }),
            Op::Append { text, .. } => {
                let mut after = before.clone().unwrap_or(Stored {
                    value: vec![],
                    expires_at: None,
                });
                after.value.extend_from_slice(text);
                Some(after)
            }
            Op::Count { .. } => {
                let expires_at = before.as_ref().and_then(|stored| stored.expires_at);
                let value = (count_in(before) + 1).to_string().into_bytes();
                Some(Stored { value, expires_at })
            }
            Op::Delete { .. } => None,
            Op::ExpireAt { at, .. } => before.clone().map(|stored| Stored {
                expires_at: Some(*at),
                ..stored
            }),
            Op::Persist { .. } => before.clone().map(|stored| Stored {
                expires_at: None,
                ..stored
            }),
            Op::CountShared { .. } => before.clone(),
        }
    }

    /// The reply that must come, given the state before; `None` for shared counters.
    fn expected(&self, before: &State) -> Option<Value> {
        let flag = |condition: bool| Value::Integer(i64::from(condition));
        Some(match self {
            Op::Put { .. } | Op::PutAll { .. } => Value::Simple(b"OK".to_vec()),
            Op::Append { text, .. } => {
                let length = before.as_ref().map_or(0, |stored| stored.value.len()) + text.len();
                Value::Integer(length as i64)
            }
            Op::Delete { .. } | Op::ExpireAt { .. } => flag(before.is_some()),
            Op::Count { .. } => Value::Integer(count_in(before) + 1),
            Op::Persist { .. } => flag(
                before
                    .as_ref()
                    .is_some_and(|stored| stored.expires_at.is_some()),
            ),
            Op::CountShared { .. } => return None,
        })
    }
}

fn count_in(state: &State) -> i64 {
    state
        .as_ref()
        .and_then(|stored| std::str::from_utf8(&stored.value).ok()?.parse().ok())
        .unwrap_or(0)
}

/// Each key with every state that it may be in; mostly one.
type Model = BTreeMap<String, Vec<State>>;

fn apply(model: &mut Model, op: &Op, certain: bool) {
    for key in op.keys() {
        let before = model.entry(key.clone()).or_insert_with(|| vec![None]);
        let mut after: Vec<State> = before.iter().map(|state| op.applied(key, state)).collect();
        if !certain {
            after.append(before);
        }
        after.dedup();
        *before = after;
    }
}

/// One connection's worth of writing. Lives over crashes and reconnections.
pub struct Writer {
    id: u32,
    rng: StdRng,
    shared: Arc<SharedCounters>,
    model: Model,
    /// Sent and not yet answered, oldest first.
    pending: VecDeque<Op>,
    serial: u64,
    max_pipeline: usize,
    pub acknowledged: u64,
    pub unknown: u64,
}

impl Writer {
    pub fn new(id: u32, seed: u64, shared: &Arc<SharedCounters>, max_pipeline: usize) -> Writer {
        Writer {
            id,
            rng: seed::rng(seed, u64::from(id) + 1),
            shared: Arc::clone(shared),
            model: Model::new(),
            pending: VecDeque::new(),
            serial: 0,
            max_pipeline,
            acknowledged: 0,
            unknown: 0,
        }
    }

    /// Writes until told to stop or until the connection breaks; an error reply that
    /// `on_error` does not allow panics. What is unanswered at the end stays pending.
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

    /// One pipeline of random length, sent and answered.
    pub fn step(&mut self, client: &mut Client, on_error: OnError) -> io::Result<()> {
        let mut request = Vec::new();
        for _ in 0..self.rng.random_range(1..=self.max_pipeline) {
            let op = self.invent();
            op.encode(&mut request);
            if let Op::CountShared { index } = op {
                self.shared.sent[index].fetch_add(1, Ordering::SeqCst);
            }
            self.pending.push_back(op);
        }
        client.send(&request)?;
        while !self.pending.is_empty() {
            let reply = client.read_reply()?;
            self.take_reply(&reply, on_error);
        }
        Ok(())
    }

    fn take_reply(&mut self, reply: &Reply, on_error: OnError) {
        let op = self.pending.pop_front().expect("a reply answers something");
        if let Some(error) = reply.value.error() {
            let allowed = on_error == OnError::AllowUnknown && error.starts_with("UNKNOWN");
            assert!(
                allowed,
                "writer {}: {op:?} was answered by: {error}",
                self.id
            );
            self.unknown += 1;
            apply(&mut self.model, &op, false);
            return;
        }
        self.check_reply(&op, &reply.value);
        if let Op::CountShared { index } = op {
            self.shared.acknowledged[index].fetch_add(1, Ordering::SeqCst);
            self.shared.highest_reply[index].fetch_max(reply.value.integer(), Ordering::SeqCst);
        }
        self.acknowledged += 1;
        apply(&mut self.model, &op, true);
        // What an acknowledged reply says rules out states that were in doubt.
        self.narrow(&op, &reply.value);
    }

    fn check_reply(&self, op: &Op, reply: &Value) {
        let keys = op.keys();
        let Some(key) = keys.first() else { return };
        let absent = vec![None];
        let states = self.model.get(*key).unwrap_or(&absent);
        let possible: Vec<_> = states
            .iter()
            .filter_map(|state| op.expected(state))
            .collect();
        assert!(
            possible.contains(reply),
            "writer {}: {op:?} was answered {reply:?}; possible were {possible:?}",
            self.id
        );
    }

    fn narrow(&mut self, op: &Op, reply: &Value) {
        if let Op::Count { key } = op
            && let Some(states) = self.model.get_mut(key)
            && states.len() > 1
        {
            states.retain(|state| count_in(state) == reply.integer());
        }
    }

    /// Compares all keys of this writer with the database and takes what is there
    /// as the new truth. Panics on anything that no allowed history explains.
    pub fn verify(&mut self, client: &mut Client, certainty: Certainty) {
        for op in &self.pending {
            for key in op.keys() {
                self.model.entry(key.clone()).or_insert_with(|| vec![None]);
            }
        }
        let observed = observe(client, self.model.keys());
        let pending: Vec<Op> = self.pending.drain(..).collect();
        match certainty {
            Certainty::Each => {
                pending
                    .iter()
                    .for_each(|op| apply(&mut self.model, op, false));
                self.assert_matches(&self.model, &observed, None);
            }
            Certainty::Prefix => self.adopt_matching_prefix(&pending, &observed),
        }
        for (key, seen) in observed {
            self.model.insert(key, vec![seen.state()]);
        }
    }

    fn adopt_matching_prefix(&mut self, pending: &[Op], observed: &BTreeMap<String, Observed>) {
        let touched: BTreeSet<&String> = pending.iter().flat_map(Op::keys).collect();
        self.assert_matches(&self.model, observed, Some(&touched));
        let mut candidate: Model = touched
            .iter()
            .map(|key| ((*key).clone(), self.model[*key].clone()))
            .collect();
        let none = BTreeSet::new();
        for executed in 0..=pending.len() {
            if mismatch(&candidate, observed, Some(&none)).is_none() {
                return;
            }
            if let Some(op) = pending.get(executed) {
                apply(&mut candidate, op, true);
            }
        }
        panic!(
            "writer {}: no prefix of the {} unanswered commands explains what is there.\n\
             acknowledged state differs at: {:?}\nunanswered: {pending:?}",
            self.id,
            pending.len(),
            mismatch(&self.model, observed, None)
        );
    }

    fn assert_matches(
        &self,
        model: &Model,
        observed: &BTreeMap<String, Observed>,
        except: Option<&BTreeSet<&String>>,
    ) {
        if let Some(text) = mismatch(model, observed, except) {
            panic!("writer {}: {text}", self.id);
        }
    }

    /// How many keys of this writer are there for good (without those that expire soon).
    pub fn lasting_keys(&self) -> BTreeSet<String> {
        let horizon = now_ms() + LONG_TTL_MS / 2;
        let lasting = |state: &State| {
            state
                .as_ref()
                .is_some_and(|stored| stored.expires_at.is_none_or(|at| at > horizon))
        };
        self.model
            .iter()
            .filter(|(_, states)| states.iter().all(lasting))
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn invent(&mut self) -> Op {
        self.serial += 1;
        let key = format!("plain:{}:{}", self.id, self.rng.random_range(0..PLAIN_KEYS));
        match self.rng.random_range(0..100) {
            0..35 => Op::Put {
                key,
                value: self.value(),
                expires_at: None,
            },
            35..45 => Op::Put {
                key,
                value: self.value(),
                expires_at: Some(self.long_expiry()),
            },
            45..50 => self.short_lived(),
            50..60 => Op::Delete { key },
            60..65 => Op::Append {
                key,
                text: b"+".to_vec(),
            },
            65..70 => Op::ExpireAt {
                key,
                at: self.long_expiry(),
            },
            70..75 => Op::Persist { key },
            75..83 => self.put_all(),
            83..92 => Op::Count {
                key: format!(
                    "counter:{}:{}",
                    self.id,
                    self.rng.random_range(0..OWN_COUNTERS)
                ),
            },
            _ => Op::CountShared {
                index: self.rng.random_range(0..SHARED_COUNTERS),
            },
        }
    }

    /// A key that is written once and expires while the test runs.
    fn short_lived(&mut self) -> Op {
        let expires_at = Some(now_ms() + self.rng.random_range(200..5_000));
        let key = format!("brief:{}:{}", self.id, self.serial);
        Op::Put {
            key,
            value: self.value(),
            expires_at,
        }
    }

    /// MSET over one hash tag, so that it is one command in a cluster as well.
    fn put_all(&mut self) -> Op {
        let group = self.rng.random_range(0..MSET_GROUPS);
        let value = self.value();
        let key = |index| format!("{{many:{}:{group}}}:{index}", self.id);
        Op::PutAll {
            pairs: (0..MSET_WIDTH)
                .map(|index| (key(index), value.clone()))
                .collect(),
        }
    }

    fn long_expiry(&mut self) -> i64 {
        now_ms() + LONG_TTL_MS + self.rng.random_range(0..LONG_TTL_MS)
    }

    /// A value never written before: `serial:` and padding. Few are long.
    fn value(&mut self) -> Vec<u8> {
        let padding = match self.rng.random_range(0..100) {
            0 => self.rng.random_range(5_000..40_000),
            _ => self.rng.random_range(0..200),
        };
        let mut value = format!("{}:", self.serial).into_bytes();
        value.resize(value.len() + padding, b'a' + (self.serial % 26) as u8);
        value
    }
}

/// What a reader saw of a key: GET, then PEXPIRETIME, and when.
struct Observed {
    value: Option<Vec<u8>>,
    /// -1 no expiry, -2 no key.
    expire_time: i64,
    asked_at: i64,
    answered_at: i64,
}

impl Observed {
    fn state(&self) -> State {
        let value = self.value.clone()?;
        match self.expire_time {
            -2 => None,
            -1 => Some(Stored {
                value,
                expires_at: None,
            }),
            at => Some(Stored {
                value,
                expires_at: Some(at),
            }),
        }
    }

    /// Whether a key in this state may look like what was seen.
    fn fits(&self, state: &State) -> bool {
        match (self.state(), state) {
            (None, None) => true,
            (None, Some(stored)) => stored
                .expires_at
                .is_some_and(|at| at <= self.answered_at + CLOCK_SLACK_MS),
            (Some(seen), Some(stored)) => {
                let in_time = stored
                    .expires_at
                    .is_none_or(|at| at >= self.asked_at - CLOCK_SLACK_MS);
                seen == *stored && in_time
            }
            (Some(_), None) => false,
        }
    }
}

fn observe<'k>(
    client: &mut Client,
    keys: impl Iterator<Item = &'k String>,
) -> BTreeMap<String, Observed> {
    let keys: Vec<&String> = keys.collect();
    let mut observed = BTreeMap::new();
    for chunk in keys.chunks(500) {
        let mut requests = Vec::new();
        for key in chunk {
            encode(&mut requests, &["GET", key]);
            encode(&mut requests, &["PEXPIRETIME", key]);
        }
        let asked_at = now_ms();
        let replies = client
            .pipeline(&requests, chunk.len() * 2)
            .expect("the database answers");
        let answered_at = now_ms();
        for (key, pair) in chunk.iter().zip(replies.chunks(2)) {
            let value = match &pair[0].value {
                Value::Null => None,
                value => Some(value.bytes().to_vec()),
            };
            let expire_time = pair[1].value.integer();
            let seen = Observed {
                value,
                expire_time,
                asked_at,
                answered_at,
            };
            observed.insert((*key).clone(), seen);
        }
    }
    observed
}

/// The first few keys that are in no state that the model allows.
fn mismatch(
    model: &Model,
    observed: &BTreeMap<String, Observed>,
    except: Option<&BTreeSet<&String>>,
) -> Option<String> {
    let wrong: Vec<String> = model
        .iter()
        .filter(|(key, _)| !except.is_some_and(|except| except.contains(key)))
        .filter_map(|(key, states)| {
            let seen = &observed[key];
            let fits = states.iter().any(|state| seen.fits(state));
            (!fits).then(|| {
                format!(
                    "{key} is {}, but should be {}",
                    brief(&seen.state()),
                    brief_all(states)
                )
            })
        })
        .collect();
    let shown = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    (!wrong.is_empty()).then(|| format!("{} keys are wrong, among them:\n{shown}", wrong.len()))
}

fn brief(state: &State) -> String {
    match state {
        None => "absent".into(),
        Some(Stored { value, expires_at }) => {
            let start = String::from_utf8_lossy(&value[..value.len().min(24)]).into_owned();
            format!("{start:?}({} bytes, expires {expires_at:?})", value.len())
        }
    }
}

fn brief_all(states: &[State]) -> String {
    states.iter().map(brief).collect::<Vec<_>>().join(" or ")
}

/// Reads other people's keys and panics when a value is older than one it has seen.
pub struct Reader {
    rng: StdRng,
    writers: u32,
    newest: BTreeMap<String, u64>,
    pub longest_wait: Duration,
    pub reads: u64,
}

impl Reader {
    pub fn new(id: u32, seed: u64, writers: u32) -> Reader {
        let rng = seed::rng(seed, 1_000_000 + u64::from(id));
        Reader {
            rng,
            writers,
            newest: BTreeMap::new(),
            longest_wait: Duration::ZERO,
            reads: 0,
        }
    }

    pub fn run(&mut self, client: &mut Client, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let key = self.choose();
            let asked = std::time::Instant::now();
            let reply = client.try_command(&["GET", &key])?;
            self.longest_wait = self.longest_wait.max(asked.elapsed());
            self.reads += 1;
            self.check(key, &reply);
        }
        Ok(())
    }

    fn choose(&mut self) -> String {
        let writer = self.rng.random_range(0..self.writers);
        match self.rng.random_range(0..10) {
            0 => SharedCounters::key(self.rng.random_range(0..SHARED_COUNTERS)),
            1 => format!(
                "counter:{writer}:{}",
                self.rng.random_range(0..OWN_COUNTERS)
            ),
            _ => format!("plain:{writer}:{}", self.rng.random_range(0..PLAIN_KEYS)),
        }
    }

    /// Plain values begin with their writer's serial number, counters are one: both
    /// only grow while the key exists.
    fn check(&mut self, key: String, reply: &Value) {
        if let Some(error) = reply.error() {
            panic!("reader: GET {key} was answered by: {error}");
        }
        let Value::Bulk(value) = reply else { return };
        let digits: Vec<u8> = value
            .iter()
            .copied()
            .take_while(u8::is_ascii_digit)
            .collect();
        // A key that began with APPEND has no serial.
        let Ok(serial) = String::from_utf8_lossy(&digits).parse::<u64>() else {
            return;
        };
        let newest = self.newest.entry(key.clone()).or_default();
        assert!(
            serial >= *newest,
            "reader: {key} went back from {newest} to {serial}"
        );
        *newest = serial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(value: &str, expires_at: Option<i64>) -> State {
        Some(Stored {
            value: value.into(),
            expires_at,
        })
    }

    fn seen(value: Option<&str>, expire_time: i64, at: i64) -> Observed {
        let value = value.map(|text| text.as_bytes().to_vec());
        Observed {
            value,
            expire_time,
            asked_at: at,
            answered_at: at,
        }
    }

    #[test]
    fn a_lost_value_fits_only_what_may_be_absent() {
        assert!(!seen(None, -2, 0).fits(&stored("a", None)));
        assert!(!seen(None, -2, 0).fits(&stored("a", Some(5_000))));
        assert!(seen(None, -2, 9_000).fits(&stored("a", Some(5_000))));
        assert!(
            !seen(Some("a"), 5_000, 9_000).fits(&stored("a", Some(5_000))),
            "came back"
        );
        assert!(
            !seen(Some("a"), 5_001, 0).fits(&stored("a", Some(5_000))),
            "a TTL off by 1 ms"
        );
    }

    #[test]
    fn an_unanswered_write_leaves_both_states_possible() {
        let mut model = Model::new();
        let put = |value: &str| Op::Put {
            key: "k".into(),
            value: value.into(),
            expires_at: None,
        };
        apply(&mut model, &put("1"), true);
        apply(&mut model, &put("2"), false);
        let observed = |value| BTreeMap::from([("k".to_owned(), seen(Some(value), -1, 0))]);
        assert_eq!(mismatch(&model, &observed("1"), None), None);
        assert_eq!(mismatch(&model, &observed("2"), None), None);
        assert!(mismatch(&model, &observed("3"), None).is_some());
    }

    #[test]
    fn half_an_mset_is_no_prefix() {
        let shared = Arc::new(SharedCounters::default());
        let mut writer = Writer::new(0, 1, &shared, 1);
        let pairs = vec![
            ("a".to_owned(), b"1".to_vec()),
            ("b".to_owned(), b"1".to_vec()),
        ];
        let pending = [Op::PutAll { pairs }];
        for key in ["a", "b"] {
            writer.model.insert(key.into(), vec![None]);
        }
        let observed = |a, b| {
            BTreeMap::from([
                ("a".to_owned(), seen(a, -2 + i64::from(a.is_some()), 0)),
                ("b".to_owned(), seen(b, -2 + i64::from(b.is_some()), 0)),
            ])
        };
        writer.adopt_matching_prefix(&pending, &observed(Some("1"), Some("1")));
        writer.adopt_matching_prefix(&pending, &observed(None, None));
        let half = observed(Some("1"), None);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            writer.adopt_matching_prefix(&pending, &half);
        }));
        assert!(result.is_err(), "half an MSET passed");
    }
}
