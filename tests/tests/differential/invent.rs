//! Makes commands of the rows of `table`, and of commands transactions and scripts.
//!
//! The language of a template, words between spaces:
//!
//! ```text
//! WORD          itself, now and then in another case
//! <name>        one of `values`; <h> is a key of the family h
//! [ ... ]       perhaps
//! ( a | b )     one of these
//! { ... }       one to four times
//! {{ ... }}     150 to 300 times, but rarely: what lies in rows, not in one record
//! & ( a | b )   some of these in any order, now and then one of them twice
//! ```
//!
//! Then one command in thirty is spoiled: an argument too few, too many, or replaced.

use rand::Rng;
use rand::rngs::StdRng;

use super::compare::Compare;
use super::table::{self, Row, Spoil};
use super::values;
use super::{DATABASES, Step, Unit, Words};

pub struct Inventor {
    rng: StdRng,
    /// Payloads of DUMP.
    samples: Vec<Vec<u8>>,
    rows: Vec<(&'static Row, Vec<&'static str>)>,
    /// Sums of weights up to each row.
    weights: Vec<u32>,
    /// What `<numkeys>` said, for the keys and weights behind it.
    keys: usize,
}

impl Inventor {
    pub fn new(rng: StdRng, samples: Vec<Vec<u8>>) -> Inventor {
        let rows: Vec<_> = table::rows()
            .map(|row| (row, row.template.split_whitespace().collect()))
            .collect();
        let mut sum = 0;
        let weights = rows
            .iter()
            .map(|(row, _): &(&Row, Vec<&str>)| {
                sum += row.weight;
                sum
            })
            .collect();
        Inventor {
            rng,
            samples,
            rows,
            weights,
            keys: 0,
        }
    }

    /// The next thing to send.
    pub fn unit(&mut self) -> Unit {
        match self.rng.random_range(0..1000) {
            0..12 => self.transaction(),
            12..40 => vec![self.scripted()],
            40..44 => self.watched(),
            44..50 => self.fed_and_blocking(),
            50..53 => self.random_draw(),
            53..56 => self.automatic_id(),
            56..58 => self.subscribed(),
            58..68 => vec![self.named_keys()],
            _ => self.plain(),
        }
    }

    /// A row's command, with the question for its key's encoding if that matters.
    fn plain(&mut self) -> Unit {
        let step = self.step(|_| true);
        match step.compare {
            Compare::IfHashed(_) if step.words.len() > 1 => {
                let question = ["OBJECT", "ENCODING"].map(|word| word.as_bytes().to_vec());
                let mut words = question.to_vec();
                words.push(step.words[1].clone());
                let compare = Compare::Encoding;
                vec![Step { words, compare }, step]
            }
            _ => vec![step],
        }
    }

    fn step(&mut self, wanted: impl Fn(&Row) -> bool) -> Step {
        loop {
            let at = self
                .rng
                .random_range(0..*self.weights.last().expect("rows"));
            let index = self.weights.partition_point(|&sum| sum <= at);
            let row = self.rows[index].0;
            if !wanted(row) {
                continue;
            }
            let words = self.words(index);
            return Step {
                words,
                compare: (row.compare)(),
            };
        }
    }

    fn words(&mut self, index: usize) -> Words {
        let (row, tokens) = &self.rows[index];
        let (spoil, tokens) = (row.spoil, tokens.clone());
        let mut words = Vec::new();
        let mut position = 0;
        while position < tokens.len() {
            position = self.item(&tokens, position, &mut words, true);
        }
        if values::one_in(&mut self.rng, 30) {
            self.spoil(spoil, &mut words);
        }
        words
    }

    /// Emits (or skips) the item at `position`; returns where the next one begins.
    fn item(&mut self, tokens: &[&str], position: usize, out: &mut Words, emit: bool) -> usize {
        match tokens[position] {
            "[" => {
                let emit = emit && self.rng.random_range(0..5) < 2;
                self.sequence(tokens, position + 1, "]", out, emit)
            }
            "{" => self.repeated(tokens, position, "}", 1..=4, out, emit),
            "{{" => {
                let emit = emit && values::one_in(&mut self.rng, 25);
                self.repeated(tokens, position, "}}", 150..=300, out, emit)
            }
            "(" => self.choice(tokens, position, out, emit),
            "&" => self.any_order(tokens, position + 1, out, emit),
            token => {
                if emit {
                    self.word(token, out);
                }
                position + 1
            }
        }
    }

    fn sequence(
        &mut self,
        tokens: &[&str],
        mut position: usize,
        end: &str,
        out: &mut Words,
        emit: bool,
    ) -> usize {
        while tokens[position] != end {
            position = self.item(tokens, position, out, emit);
        }
        position + 1
    }

    fn repeated(
        &mut self,
        tokens: &[&str],
        position: usize,
        end: &str,
        times: std::ops::RangeInclusive<usize>,
        out: &mut Words,
        emit: bool,
    ) -> usize {
        if emit {
            for _ in 0..self.rng.random_range(times) {
                self.sequence(tokens, position + 1, end, out, true);
            }
        }
        self.sequence(tokens, position + 1, end, out, false)
    }

    /// Where each alternative of the `(` at `position` begins, and what follows `)`.
    fn alternatives(&mut self, tokens: &[&str], position: usize) -> (Vec<usize>, usize) {
        let mut starts = vec![position + 1];
        let mut at = position + 1;
        while tokens[at] != ")" {
            if tokens[at] == "|" {
                starts.push(at + 1);
                at += 1;
            } else {
                at = self.item(tokens, at, &mut Vec::new(), false);
            }
        }
        (starts, at + 1)
    }

    fn alternative(&mut self, tokens: &[&str], mut at: usize, out: &mut Words) {
        while tokens[at] != "|" && tokens[at] != ")" {
            at = self.item(tokens, at, out, true);
        }
    }

    fn choice(&mut self, tokens: &[&str], position: usize, out: &mut Words, emit: bool) -> usize {
        let (starts, end) = self.alternatives(tokens, position);
        if emit {
            let start = starts[self.rng.random_range(0..starts.len())];
            self.alternative(tokens, start, out);
        }
        end
    }

    fn any_order(
        &mut self,
        tokens: &[&str],
        position: usize,
        out: &mut Words,
        emit: bool,
    ) -> usize {
        let (mut starts, end) = self.alternatives(tokens, position);
        if !emit {
            return end;
        }
        let wanted = match self.rng.random_range(0..10) {
            0..4 => 0,
            4..7 => 1,
            7..9 => 2,
            _ => starts.len().min(4),
        };
        for _ in 0..wanted.min(starts.len()) {
            let index = self.rng.random_range(0..starts.len());
            self.alternative(tokens, starts[index], out);
            if !values::one_in(&mut self.rng, 8) {
                starts.swap_remove(index);
            }
            if starts.is_empty() {
                break;
            }
        }
        end
    }

    fn word(&mut self, token: &str, out: &mut Words) {
        let Some(name) = token
            .strip_prefix('<')
            .and_then(|rest| rest.strip_suffix('>'))
        else {
            let word = match values::one_in(&mut self.rng, 10) {
                true => token.to_lowercase(),
                false => token.to_owned(),
            };
            return out.push(word.into_bytes());
        };
        let rng = &mut self.rng;
        let word = match name {
            "any" => values::any_key(rng),
            "m" => values::member(rng),
            "v" => values::value(rng),
            "int" => values::integer(rng),
            "index" => values::index(rng),
            "count" => values::count(rng),
            "offset" => values::offset(rng),
            "bit" => values::bit_offset(rng),
            "float" => values::float(rng),
            "score" => values::score(rng),
            "min" => values::score_bound(rng),
            "lex" => values::lex_bound(rng),
            "seconds" => values::seconds(rng),
            "ms" => values::milliseconds(rng),
            "far" => values::far_seconds(rng),
            "far-ms" => values::far_milliseconds(rng),
            "unix" => values::unix_seconds(rng),
            "unix-ms" => values::unix_milliseconds(rng),
            "pattern" => values::pattern(rng),
            "lon" => values::longitude(rng),
            "lat" => values::latitude(rng),
            "radius" => values::radius(rng),
            "id" => values::stream_id(rng),
            "new-id" => values::new_id(rng),
            "id-bound" => values::id_bound(rng),
            "bit-type" => values::bit_type(rng),
            "bit-field" => values::field_offset(rng),
            "y" => values::lexical_key(rng),
            "g" => values::geo_key(rng),
            "db" => rng.random_range(0..DATABASES).to_string().into_bytes(),
            "payload" => self.payload(),
            "script" => values::pick(rng, values::SCRIPTS).into(),
            "library" => values::pick(rng, values::LIBRARIES).into(),
            "sha" => values::pick(rng, values::SHAS).into(),
            "weights" => {
                for _ in 0..self.keys {
                    out.push(values::float(&mut self.rng));
                }
                return;
            }
            name if name.starts_with("numkeys:") => return self.counted_keys(name, out),
            name if name.len() == 1 => values::key(rng, name.as_bytes()[0]),
            name => panic!("no such place: {name}"),
        };
        out.push(word);
    }

    /// The number of keys, and the keys: `numkeys:zs` takes from the families z and s.
    fn counted_keys(&mut self, name: &str, out: &mut Words) {
        let families = &name.as_bytes()["numkeys:".len()..];
        self.keys = self.rng.random_range(1..4);
        out.push(match values::one_in(&mut self.rng, 20) {
            true => values::integer(&mut self.rng),
            false => self.keys.to_string().into_bytes(),
        });
        for _ in 0..self.keys {
            let family = families[self.rng.random_range(0..families.len())];
            out.push(values::key(&mut self.rng, family));
        }
    }

    /// A payload for RESTORE: mostly whole, else damaged.
    fn payload(&mut self) -> Vec<u8> {
        let index = self.rng.random_range(0..self.samples.len());
        let mut payload = self.samples[index].clone();
        if values::one_in(&mut self.rng, 5) {
            let at = self.rng.random_range(0..payload.len());
            match self.rng.random_range(0..3) {
                0 => payload.truncate(at),
                1 => payload[at] ^= 1 << self.rng.random_range(0..8),
                _ => return values::value(&mut self.rng),
            }
        }
        payload
    }

    fn spoil(&mut self, spoil: Spoil, words: &mut Words) {
        match (spoil, self.rng.random_range(0..3)) {
            (Spoil::Never, _) => {}
            (_, 0) if words.len() > 1 => {
                words.pop();
            }
            (Spoil::Any, 1) if words.len() > 1 => {
                let at = self.rng.random_range(1..words.len());
                words[at] = values::odd(&mut self.rng);
            }
            _ => words.push(values::odd(&mut self.rng)),
        }
    }

    /// MULTI, some commands, EXEC (or DISCARD).
    fn transaction(&mut self) -> Unit {
        let mut unit = vec![exact("MULTI")];
        let mut ways = Vec::new();
        for _ in 0..self.rng.random_range(0..6) {
            let mut step = self.step(|row| row.anywhere);
            ways.push(std::mem::replace(&mut step.compare, Compare::Exact));
            unit.push(step);
        }
        let end = match self.rng.random_range(0..12) {
            0 => "DISCARD",
            _ => "EXEC",
        };
        let mut step = exact(end);
        if end == "EXEC" {
            step.compare = Compare::Each(ways);
        }
        unit.push(step);
        unit
    }

    /// WATCH, perhaps a change, then a transaction that may fail.
    fn watched(&mut self) -> Unit {
        let mut unit = vec![Step {
            words: vec![b"WATCH".to_vec(), values::any_key(&mut self.rng)],
            compare: Compare::Exact,
        }];
        for _ in 0..self.rng.random_range(0..4) {
            let step = self.step(|row| row.anywhere);
            unit.push(match step.compare {
                Compare::IfHashed(within) => Step {
                    words: step.words,
                    compare: *within,
                },
                compare => Step { compare, ..step },
            });
        }
        if values::one_in(&mut self.rng, 6) {
            unit.push(exact("UNWATCH"));
        }
        unit.extend(self.transaction());
        unit
    }

    /// Any command by way of Lua.
    fn scripted(&mut self) -> Step {
        const SCRIPTS: &[&str] = &[
            "return redis.call(unpack(ARGV))",
            "return redis.pcall(unpack(ARGV))",
            "redis.call(unpack(ARGV)) return redis.call('EXISTS', ARGV[2] or '')",
            "local r = redis.pcall(unpack(ARGV)) return type(r)",
            // What RESP3 calls a map has the order of a Lua table.
            "redis.setresp(3) return type(redis.call(unpack(ARGV)))",
        ];
        let mut step = self.step(|row| row.anywhere);
        let index = self.rng.random_range(0..SCRIPTS.len());
        let name = pick_script_command(&mut self.rng);
        let mut words = vec![name.into(), SCRIPTS[index].into(), b"0".to_vec()];
        words.append(&mut step.words);
        let compare = match step.compare {
            Compare::IfHashed(within) => *within,
            other => other,
        };
        Step { words, compare }
    }

    /// A blocking command with something there for it, or with a timeout that ends.
    fn fed_and_blocking(&mut self) -> Unit {
        const PAIRS: &[(&str, &str)] = &[
            ("RPUSH l0 a b", "BLPOP nothing l0 1"),
            ("LPUSH l1 a", "BRPOP l1 nothing 1"),
            ("RPUSH l2 a", "BLMOVE l2 l3 LEFT RIGHT 1"),
            ("RPUSH l2 a", "BRPOPLPUSH l2 l2 1"),
            ("RPUSH l4 a b c", "BLMPOP 1 2 nothing l4 RIGHT COUNT 2"),
            ("ZADD z0 1 a 2 b", "BZPOPMIN nothing z0 1"),
            ("ZADD z1 1 a 2 b", "BZPOPMAX z1 1"),
            ("ZADD z2 1 a 2 b", "BZMPOP 1 2 nothing z2 MAX COUNT 9"),
            ("DEL x9", "XADD x9 1-1 f v"),
            ("XADD x9 61-* f v", "XREAD BLOCK 1000 STREAMS x9 0"),
            ("SET k0 1", "BLPOP k0 1"),
            ("SET k0 1", "BZPOPMIN k0 1"),
            ("DEL nothing", "BLPOP nothing 0.01"),
            ("DEL nothing", "BLMOVE nothing l0 LEFT LEFT 0.01"),
            ("DEL nothing", "BZMPOP 0.01 1 nothing MIN"),
            ("DEL nothing", "XREAD BLOCK 10 STREAMS nothing $"),
            ("DEL nothing", "BLPOP nothing -1"),
            ("DEL nothing", "BLPOP nothing x"),
            ("DEL nothing", "BRPOPLPUSH nothing l0 nan"),
            ("DEL nothing", "BLMPOP 0 0 nothing LEFT"),
        ];
        let (feed, block) = PAIRS[self.rng.random_range(0..PAIRS.len())];
        vec![exact(feed), exact(block)]
    }

    /// What draws at random; afterwards the key is gone from both.
    fn random_draw(&mut self) -> Unit {
        let rng = &mut self.rng;
        let (name, family) =
            [("SPOP", b's'), ("SPOP", b's'), ("SPOP", b'k')][rng.random_range(0..3)];
        let key = values::key(rng, family);
        let mut words = vec![name.as_bytes().to_vec(), key.clone()];
        if rng.random_range(0..2) == 0 {
            words.push(values::count(rng));
        }
        let draw = Step {
            words,
            compare: Compare::Shape,
        };
        let gone = Step {
            words: vec![b"DEL".to_vec(), key],
            compare: Compare::Exact,
        };
        vec![draw, gone]
    }

    /// XADD with an ID of the clock; afterwards the key is gone from both.
    fn automatic_id(&mut self) -> Unit {
        let key = values::key(&mut self.rng, b'x');
        let words = [
            b"XADD".to_vec(),
            key.clone(),
            b"*".to_vec(),
            b"f".to_vec(),
            b"v".to_vec(),
        ];
        let add = Step {
            words: words.to_vec(),
            compare: Compare::Shape,
        };
        let gone = Step {
            words: vec![b"DEL".to_vec(), key],
            compare: Compare::Exact,
        };
        vec![add, gone]
    }

    /// A subscription, and what may be said within it.
    fn subscribed(&mut self) -> Unit {
        let (begin, end) = [
            ("SUBSCRIBE news", "UNSUBSCRIBE news"),
            ("PSUBSCRIBE n*", "PUNSUBSCRIBE n*"),
            ("SSUBSCRIBE news", "SUNSUBSCRIBE news"),
        ][self.rng.random_range(0..3)];
        let mut unit = vec![exact(begin)];
        for line in [
            "PING",
            "PING hello",
            "GET k0",
            "PUBSUB CHANNELS",
            "PUBSUB NUMPAT",
            "MULTI x",
        ] {
            if values::one_in(&mut self.rng, 3) {
                unit.push(exact(line));
            }
        }
        unit.push(exact(end));
        unit
    }

    /// COMMAND GETKEYS of any command.
    fn named_keys(&mut self) -> Step {
        let name = match self.rng.random_range(0..3) {
            0 => "GETKEYSANDFLAGS",
            _ => "GETKEYS",
        };
        let mut words = vec![b"COMMAND".to_vec(), name.as_bytes().to_vec()];
        words.append(&mut self.step(|_| true).words);
        Step {
            words,
            compare: Compare::Exact,
        }
    }
}

fn pick_script_command(rng: &mut StdRng) -> &'static str {
    values::pick(rng, &["EVAL", "EVAL", "EVAL", "EVAL_RO"])
}

/// A command written as words, with a reply that is equal to the byte.
pub fn exact(line: &str) -> Step {
    Step {
        words: line
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect(),
        compare: Compare::Exact,
    }
}
