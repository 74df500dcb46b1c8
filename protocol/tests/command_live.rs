//! COMMAND and its subcommands against a live redis-server 7.0, byte for
//! byte, in both protocol versions. Without a redis-server of that version on
//! the PATH the tests say so and check nothing.
//!
//! Redis lists commands in the order of its hash tables, which is random, so
//! both sides are brought into the order of names before they are compared.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cairn_protocol::command::{self, CommandSpec, Resolved, introspect};
use cairn_protocol::resp::{ReplyWriter, Version, encode_request};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const STARTUP_LIMIT: Duration = Duration::from_secs(20);
const REPLY_LIMIT: Duration = Duration::from_secs(20);

/// A redis-server that listens on a socket file only, ended on drop.
struct Redis {
    process: Child,
    directory: PathBuf,
    stream: BufReader<UnixStream>,
    version: Version,
}

impl Redis {
    /// `None`, with a printed note, if there is no redis-server 7.0.
    fn start(version: Version) -> Option<Redis> {
        if !is_redis_7_0() {
            println!("skipped: no redis-server 7.0 on the PATH");
            return None;
        }
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("cairn-command-{}-{serial}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory for the socket");
        let socket = directory.join("redis.sock");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--loglevel", "warning"])
            .arg("--unixsocket")
            .arg(&socket)
            .current_dir(&directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let stream = connect(&socket);
        let mut redis = Redis {
            process,
            directory,
            stream: BufReader::new(stream),
            version,
        };
        if version == Version::V3 {
            redis.ask(&words("hello 3"));
        }
        Some(redis)
    }

    fn ask(&mut self, request: &[Vec<u8>]) -> Vec<u8> {
        let mut wire = Vec::new();
        encode_request(&mut wire, request);
        self.stream.get_mut().write_all(&wire).expect("a request");
        let mut reply = Vec::new();
        read_value(&mut self.stream, &mut reply);
        reply
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn is_redis_7_0() -> bool {
    let output = Command::new("redis-server").arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("v=7.0."))
}

fn connect(socket: &PathBuf) -> UnixStream {
    let deadline = Instant::now() + STARTUP_LIMIT;
    loop {
        if let Ok(stream) = UnixStream::connect(socket) {
            stream.set_read_timeout(Some(REPLY_LIMIT)).expect("a limit");
            return stream;
        }
        assert!(Instant::now() < deadline, "redis-server does not listen");
        std::thread::yield_now();
    }
}

/// Copies one whole reply.
fn read_value(from: &mut impl BufRead, reply: &mut Vec<u8>) {
    let start = reply.len();
    from.read_until(b'\n', reply).expect("a reply");
    let kind = reply[start];
    let number = || -> i64 {
        let line = std::str::from_utf8(&reply[start + 1..]).expect("a number");
        line.trim_end().parse().expect("a number")
    };
    match kind {
        b'$' if number() >= 0 => {
            let end = reply.len() + number() as usize + 2;
            let at = reply.len();
            reply.resize(end, 0);
            from.read_exact(&mut reply[at..]).expect("a bulk string");
        }
        b'*' | b'~' => (0..number().max(0)).for_each(|_| read_value(from, reply)),
        b'%' => (0..2 * number()).for_each(|_| read_value(from, reply)),
        _ => {}
    }
}

/// A reply as a tree, for bringing it into order.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Line(Vec<u8>),
    Bulk(Vec<u8>),
    /// The header line, and the elements.
    Many(Vec<u8>, Vec<Value>),
}

impl Value {
    fn parse(mut wire: &[u8]) -> Value {
        let value = parse_value(&mut wire);
        assert!(wire.is_empty(), "bytes after the reply");
        value
    }

    /// The name that a command entry begins with.
    fn name(&self) -> Option<&[u8]> {
        match self {
            Value::Bulk(name) => Some(name),
            Value::Many(_, parts) => parts.first().and_then(Value::name),
            Value::Line(_) => None,
        }
    }

    /// With all lists of commands, at any depth, in the order of names.
    fn ordered(self) -> Value {
        let Value::Many(header, parts) = self else {
            return self;
        };
        let mut parts: Vec<_> = parts.into_iter().map(Value::ordered).collect();
        if is_list_of_entries(&parts) {
            parts.sort_by(|a, b| a.name().cmp(&b.name()));
        }
        if is_list_of_documented(&parts) {
            let mut pairs: Vec<_> = parts.chunks(2).map(<[Value]>::to_vec).collect();
            pairs.sort_by(|a, b| a[0].name().cmp(&b[0].name()));
            parts = pairs.concat();
        }
        Value::Many(header, parts)
    }
}

/// Whether these are entries of COMMAND or names of COMMAND LIST.
fn is_list_of_entries(parts: &[Value]) -> bool {
    let is_command = |part: &Value| {
        let name = part.name().unwrap_or_default();
        command::lookup_full(name).is_some_and(|spec| spec.name.as_bytes() == name)
    };
    parts.len() > 1 && parts.iter().all(is_command)
}

/// Whether these are names of commands, each followed by its documentation.
fn is_list_of_documented(parts: &[Value]) -> bool {
    let is_documentation = |part: &Value| {
        matches!(part, Value::Many(..)) && part.name() == Some(b"summary".as_slice())
    };
    parts.len() > 2 && parts.iter().skip(1).step_by(2).all(is_documentation)
}

fn parse_value(wire: &mut &[u8]) -> Value {
    let line_end = wire.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    let (line, rest) = wire.split_at(line_end);
    *wire = rest;
    let number = || -> i64 {
        let text = std::str::from_utf8(&line[1..]).expect("a number");
        text.trim_end().parse().expect("a number")
    };
    match line[0] {
        b'$' if number() >= 0 => {
            let (bulk, rest) = wire.split_at(number() as usize + 2);
            *wire = rest;
            Value::Bulk(bulk[..bulk.len() - 2].to_vec())
        }
        kind @ (b'*' | b'~' | b'%') => {
            let each = if kind == b'%' { 2 } else { 1 };
            let parts = (0..each * number().max(0)).map(|_| parse_value(wire));
            Value::Many(line.to_vec(), parts.collect())
        }
        _ => Value::Line(line.to_vec()),
    }
}

/// What this table answers.
fn answer(version: Version, request: &Vec<Vec<u8>>) -> Vec<u8> {
    let mut reply = ReplyWriter::new(version);
    let all = |_: &CommandSpec| true;
    match command::resolve(request) {
        Resolved::UnknownCommand => reply.error(command::unknown_command_error(request)),
        Resolved::UnknownSubcommand(container) => {
            reply.error(command::unknown_subcommand_error(container, request));
        }
        Resolved::Command(spec) if !spec.arity_accepts(request.len()) => {
            reply.error(command::wrong_arity_error(spec));
        }
        Resolved::Command(spec) => match spec.name {
            "command" => introspect::command(&mut reply, &all),
            "command|count" => introspect::count(&mut reply, &all),
            "command|docs" => introspect::docs(&mut reply, request, &all),
            "command|getkeys" => introspect::getkeys(&mut reply, request, &all),
            "command|getkeysandflags" => introspect::getkeysandflags(&mut reply, request, &all),
            "command|help" => introspect::help(&mut reply),
            "command|info" => introspect::info(&mut reply, request, &all),
            "command|list" => introspect::list(&mut reply, request, &all),
            other => panic!("{other} is not asked for here"),
        },
    }
    reply.to_vec()
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split_whitespace()
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

/// Asks both the same; the order of commands does not count.
fn compare(redis: &mut Redis, request: &Vec<Vec<u8>>) {
    let theirs = redis.ask(request);
    let ours = answer(redis.version, request);
    if ours == theirs {
        return;
    }
    let shown: Vec<_> = request
        .iter()
        .map(|arg| arg.escape_ascii().to_string())
        .collect();
    let (ours, theirs) = (Value::parse(&ours), Value::parse(&theirs));
    assert_eq!(ours.ordered(), theirs.ordered(), "{}", shown.join(" "));
}

fn on_both_versions(check: impl Fn(&mut Redis)) {
    for version in [Version::V2, Version::V3] {
        if let Some(mut redis) = Redis::start(version) {
            check(&mut redis);
        }
    }
}

#[test]
fn whole_lists_are_the_same() {
    on_both_versions(|redis| {
        for line in [
            "COMMAND",
            "command count",
            "command docs",
            "command info",
            "command list",
            "command help",
        ] {
            compare(redis, &words(line));
        }
    });
}

#[test]
fn single_entries_are_the_same() {
    on_both_versions(|redis| {
        for spec in command::all() {
            for what in ["info", "docs"] {
                compare(redis, &words(&format!("command {what} {}", spec.name)));
            }
        }
        for names in [
            "GET get nosuch Config|GET",
            "get| |get config| config|get|x",
            "config|nosuch",
        ] {
            for what in ["info", "docs"] {
                compare(redis, &words(&format!("command {what} {names}")));
            }
        }
    });
}

#[test]
fn filtered_lists_are_the_same() {
    on_both_versions(|redis| {
        for filter in [
            "module x",
            "aclcat string",
            "ACLCAT Dangerous",
            "aclcat @string",
            "aclcat nosuch",
            "pattern *",
            "pattern x*",
            "pattern CONFIG|*",
            "pattern ?et",
            "pattern [g-s]et",
            "pattern [^g]et",
            "pattern *e*e*e*",
            "pattern g\\et",
            "pattern nosuch",
            "pattern",
            "pattern a b",
            "nosuch x",
            "",
        ] {
            compare(redis, &words(&format!("command list filterby {filter}")));
        }
        compare(redis, &words("command list x"));
        compare(redis, &words("command list x pattern a"));
    });
}

/// COMMAND LIST lets Redis match patterns against names that are there
/// already; the same function matches keys, channels and settings.
#[test]
fn random_patterns_match_the_same_names() {
    let mut random = StdRng::seed_from_u64(seed());
    let alphabet = b"**??[]^-\\|_aegstGEST";
    on_both_versions_with(&mut random, |redis, random| {
        for _ in 0..400 {
            let length = random.random_range(1..8);
            let pattern: Vec<u8> = (0..length)
                .map(|_| *alphabet.choose(random).expect("not empty"))
                .collect();
            let mut request = words("command list filterby pattern");
            request.push(pattern);
            compare(redis, &request);
        }
    });
}

fn on_both_versions_with(random: &mut StdRng, check: impl Fn(&mut Redis, &mut StdRng)) {
    for version in [Version::V2, Version::V3] {
        if let Some(mut redis) = Redis::start(version) {
            check(&mut redis, random);
        }
    }
}

/// From CAIRN_SEED, else from the clock; printed, so that a failure can be
/// run again.
fn seed() -> u64 {
    let given = std::env::var("CAIRN_SEED").ok();
    let seed = given
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| rand::rng().random());
    println!("CAIRN_SEED={seed}");
    seed
}

#[test]
fn keys_of_random_requests_are_the_same() {
    let mut random = StdRng::seed_from_u64(seed());
    on_both_versions_with(&mut random, |redis, random| {
        for spec in command::all() {
            let rounds = if spec.has_keys() { 12 } else { 1 };
            let rounds = rounds * if spec.key_finder.is_some() { 10 } else { 1 };
            for _ in 0..rounds {
                let what = ["getkeys", "getkeysandflags"].choose(random);
                let mut request = words("command");
                request.extend(words(what.expect("not empty")));
                request.extend(random_request(spec, random));
                compare(redis, &request);
            }
        }
    });
}

/// A request of about the right length, made of words that matter to some
/// command and of numbers. Large numbers of keys are left out: Redis reserves
/// memory for as many as are declared.
fn random_request(spec: &CommandSpec, random: &mut StdRng) -> Vec<Vec<u8>> {
    const WORDS: &[&str] = &[
        "a",
        "b",
        "{t}c",
        "get",
        "GET",
        "set",
        "incrby",
        "overflow",
        "store",
        "STOREDIST",
        "limit",
        "by",
        "streams",
        "group",
        "count",
        "block",
        "noack",
        "keys",
        "copy",
        "auth",
        "auth2",
        "replace",
        "x",
        "2x",
    ];
    const NUMBERS: &[&str] = &["0", "1", "2", "3", "-1", "01", "+1", "4294967297"];
    let mut request: Vec<Vec<u8>> = spec.name.split('|').map(|w| w.into()).collect();
    let least = spec.arity.unsigned_abs() as usize;
    let extra = match spec.arity > 0 {
        true => random.random_range(0..8) / 7,
        false => random.random_range(0..9),
    };
    let length = (least + extra).saturating_sub(random.random_range(0..10) / 9);
    while request.len() < length {
        let word = match random.random_range(0..3) {
            0 => NUMBERS.choose(random),
            _ => WORDS.choose(random),
        };
        request.push(word.expect("not empty").as_bytes().to_vec());
    }
    if spec.name == "migrate" && random.random() && request.len() > 3 {
        request[3].clear();
    }
    request
}

#[test]
fn keys_of_malformed_requests_are_the_same() {
    on_both_versions(|redis| {
        for line in [
            "command getkeys",
            "command getkeys nosuch a",
            "command getkeys config nosuch",
            "command getkeys config",
            "command getkeys config|get a",
            "command getkeys object",
            "command getkeys object encoding",
            "command getkeysandflags object encoding k",
            "command getkeys ping",
            "command getkeys spublish a b",
        ] {
            compare(redis, &words(line));
        }
        let mut request = words("command getkeys get");
        request.push(b"bin\0\r\n\xff".to_vec());
        compare(redis, &request);
    });
}

/// None of these requests runs: every one fails before dispatch.
#[test]
fn errors_before_dispatch_are_the_same() {
    on_both_versions(|redis| {
        for spec in command::all() {
            let least = spec.arity.unsigned_abs() as usize;
            let mut request: Vec<Vec<u8>> = spec.name.split('|').map(|w| w.into()).collect();
            if spec.arity > 0 {
                request.resize(least + 1, b"x".to_vec());
                compare(redis, &request);
            }
            let named = request.iter().position(|w| w == b"x");
            request.truncate(named.unwrap_or(request.len()));
            while request.len() < least {
                compare(redis, &request);
                request.push(b"x".to_vec());
            }
            if spec.is_container() {
                let unknown = [spec.name.as_bytes(), b"No\r\nsuch\0thing"];
                compare(redis, &unknown.map(<[u8]>::to_vec).to_vec());
            }
        }
        let long = vec![b'y'; 300];
        for request in [
            words("nosuch"),
            words("NoSuch a b c"),
            words("config|get x"),
            words("foo")
                .into_iter()
                .chain([long.clone(), long.clone()])
                .collect(),
            vec![
                long.clone(),
                vec![b'z'; 100],
                long.clone(),
                b"unseen".to_vec(),
            ],
            vec![b"a\r\nb".to_vec(), b"\r\n".to_vec(), b"c\0d".to_vec()],
            vec![
                b"\0".to_vec(),
                b"\xff\xfe".to_vec(),
                Vec::new(),
                b"'".to_vec(),
            ],
            vec![Vec::new()],
        ] {
            compare(redis, &request);
        }
        for length in 120..132 {
            compare(
                redis,
                &vec![b"foo".to_vec(), vec![b'y'; length], b"next".to_vec()],
            );
        }
    });
}
