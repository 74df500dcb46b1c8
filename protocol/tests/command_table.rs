//! The command table against what Redis 7.0.15 says of itself
//! (`golden/commands.txt`), lookup by name, and the errors before dispatch.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use cairn_protocol::command::{
    self, BeginSearch, COUNT, CommandSpec, FindKeys, Flags, KeySpec, Resolved, introspect,
};
use cairn_protocol::resp::{ReplyWriter, Version};

const GOLDEN: &str = include_str!("golden/commands.txt");

#[test]
fn every_entry_is_as_redis_says() {
    let golden: Vec<&str> = GOLDEN.lines().filter(|l| !l.starts_with('#')).collect();
    assert_eq!(golden.len(), COUNT);
    for (spec, line) in command::all().zip(golden) {
        assert_eq!(golden_line(spec), line);
    }
}

fn golden_line(spec: &'static CommandSpec) -> String {
    let flags = spec.flags.names().chain(hidden_flags(spec.flags));
    let key_specs: Vec<_> = spec.key_specs.iter().map(golden_key_spec).collect();
    [
        spec.name.to_owned(),
        spec.arity.to_string(),
        joined(flags, ","),
        spec.first_key.to_string(),
        spec.last_key.to_string(),
        spec.step.to_string(),
        joined(spec.categories.names(), ","),
        joined(spec.tips.iter().copied(), ","),
        joined(key_specs.iter().map(String::as_str), ";"),
        // `*1` or `%1`, and in DOCS the name, precede the entry itself.
        format!("{:016x}", fnv(&reply_to(introspect::info, spec, 0))),
        format!("{:016x}", fnv(&reply_to(introspect::docs, spec, 1))),
    ]
    .join(" ")
}

fn hidden_flags(flags: Flags) -> impl Iterator<Item = &'static str> {
    [
        (Flags::MAY_REPLICATE, "MAY_REPLICATE"),
        (Flags::PROTECTED, "PROTECTED"),
        (Flags::TOUCHES_ARBITRARY_KEYS, "TOUCHES_ARBITRARY_KEYS"),
    ]
    .into_iter()
    .filter_map(move |(flag, name)| flags.contains(flag).then_some(name))
}

fn golden_key_spec(spec: &KeySpec) -> String {
    let begin = match spec.begin_search {
        BeginSearch::Index(index) => format!("index:{index}"),
        BeginSearch::Keyword(word, from) => format!("keyword:{word},{from}"),
        BeginSearch::Unknown => "unknown".to_owned(),
    };
    let find = match spec.find_keys {
        FindKeys::Range { last, step, limit } => format!("range:{last},{step},{limit}"),
        FindKeys::KeyNum { count, first, step } => format!("keynum:{count},{first},{step}"),
        FindKeys::Unknown => "unknown".to_owned(),
    };
    let flags: Vec<_> = spec.flags.names().collect();
    format!("{begin}/{find}/{}", flags.join(","))
}

fn joined<'a>(items: impl Iterator<Item = &'a str>, separator: &str) -> String {
    let items: Vec<_> = items.collect();
    match items.is_empty() {
        true => "-".to_owned(),
        false => items.join(separator),
    }
}

type Builder = fn(&mut ReplyWriter, &Vec<Vec<u8>>, introspect::Implemented);

/// The one entry in a builder's reply, without the header and the name (in
/// `named` bulk strings) before it.
fn reply_to(builder: Builder, spec: &CommandSpec, named: usize) -> Vec<u8> {
    let mut reply = ReplyWriter::new(Version::V3);
    let args = words(&["command", "x", spec.name]);
    builder(&mut reply, &args, &|_| true);
    let reply = reply.to_vec();
    let lines_before = 1 + 2 * named;
    let mut line_ends = (0..reply.len()).filter(|at| reply[*at] == b'\n');
    let header_end = line_ends.nth(lines_before - 1).expect("a header");
    reply[header_end + 1..].to_vec()
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn the_order_is_by_name_and_a_container_precedes_its_own() {
    let names: Vec<_> = command::all().map(|spec| spec.name).collect();
    assert!(names.is_sorted(), "ids follow names");
    let distinct: HashSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), COUNT);
    for spec in command::all() {
        for sub in spec.subcommands {
            assert_eq!(sub.name.split('|').next(), Some(spec.name));
        }
    }
}

#[test]
fn names_are_found_in_any_case_and_nothing_else_is() {
    for spec in command::top_level() {
        let name = spec.name;
        let mixed: String = name.char_indices().map(alternate).collect();
        for form in [name, &name.to_uppercase(), &mixed] {
            let found = command::lookup(form.as_bytes()).expect(form);
            assert_eq!(found.name, name);
        }
        for altered in [format!("{name}x"), format!("x{name}"), name[1..].to_owned()] {
            if let Some(found) = command::lookup(altered.as_bytes()) {
                assert_eq!(found.name, altered);
            }
        }
    }
    for name in ["", "config|get", "get ", "GET\0", "g\u{e9}t", "nosuch"] {
        assert_eq!(command::lookup(name.as_bytes()), None, "{name:?}");
    }
    // Bytes that differ from a letter or `_` only in the bit that folds case.
    assert_eq!(command::lookup(b"eval\x7fro"), None);
    assert_eq!(command::lookup(&[b'g' & !0x60, b'e', b't']), None);
    assert_eq!(command::lookup(&vec![b'a'; 1 << 20]), None);
}

fn alternate((index, letter): (usize, char)) -> char {
    match index % 2 {
        0 => letter.to_ascii_uppercase(),
        _ => letter,
    }
}

#[test]
fn a_lookup_takes_tens_of_nanoseconds() {
    let names: Vec<&[u8]> = command::top_level().map(|s| s.name.as_bytes()).collect();
    const ROUNDS: usize = 2_000;
    let measure = || {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            for name in &names {
                std::hint::black_box(command::lookup(std::hint::black_box(name)));
            }
        }
        start.elapsed() / (ROUNDS * names.len()) as u32
    };
    let best = (0..5).map(|_| measure()).min().expect("five rounds");
    println!("{best:?} a lookup, averaged over all names");
    // Far above what is wanted (25 ns), to hold on a loaded machine.
    assert!(best < Duration::from_nanos(250), "{best:?}");
}

#[test]
fn subcommands_are_resolved_from_two_arguments() {
    let resolve = |request: &[&str]| match command::resolve(&words(request)) {
        Resolved::Command(spec) => spec.name,
        Resolved::UnknownCommand => "?",
        Resolved::UnknownSubcommand(container) => {
            assert!(container.is_container());
            "?|"
        }
    };
    assert_eq!(resolve(&["Get", "k"]), "get");
    assert_eq!(resolve(&["CONFIG", "Get", "x"]), "config|get");
    assert_eq!(resolve(&["client", "no-evict", "on"]), "client|no-evict");
    assert_eq!(resolve(&["config"]), "config");
    assert_eq!(resolve(&["command"]), "command");
    assert_eq!(resolve(&["config", ""]), "?|");
    assert_eq!(resolve(&["config", "gett"]), "?|");
    assert_eq!(resolve(&["config|get", "x"]), "?");
    assert_eq!(resolve(&[]), "?");
    assert_eq!(
        command::lookup_full(b"Config|GET").unwrap().name,
        "config|get"
    );
    for name in ["get|", "|get", "config|", "config|get|x", "|", ""] {
        assert_eq!(command::lookup_full(name.as_bytes()), None, "{name:?}");
    }
}

#[test]
fn arity_counts_the_name_and_the_subcommand() {
    let accepts = |name: &str, count| {
        let spec = command::lookup_full(name.as_bytes()).unwrap();
        spec.arity_accepts(count)
    };
    assert!(accepts("get", 2) && !accepts("get", 1) && !accepts("get", 3));
    assert!(accepts("set", 3) && accepts("set", 9) && !accepts("set", 2));
    assert!(accepts("config|resetstat", 2) && !accepts("config|resetstat", 3));
    assert!(!accepts("config", 1) && accepts("command", 1));
}

#[test]
fn unknown_commands_are_echoed_within_limits() {
    let error = |words: &[&[u8]]| {
        let text = command::unknown_command_error(words);
        String::from_utf8_lossy(&text).into_owned()
    };
    assert_eq!(
        error(&[b"foo", b"a", b"b"]),
        "ERR unknown command 'foo', with args beginning with: 'a' 'b' "
    );
    assert_eq!(
        error(&[b"foo"]),
        "ERR unknown command 'foo', with args beginning with: "
    );
    assert_eq!(
        error(&[b"f\r\no", b"a\0b", b"\n"]),
        "ERR unknown command 'f  o', with args beginning with: 'a' ' ' "
    );
    let long = [b'x'; 300];
    assert_eq!(
        error(&[&long, &long, b"unseen"]),
        format!(
            "ERR unknown command '{0}', with args beginning with: '{0}' ",
            "x".repeat(128)
        )
    );
    let (first, cut) = ("x".repeat(100), "x".repeat(25));
    assert_eq!(
        error(&[b"n", first.as_bytes(), &long, b"unseen"]),
        format!("ERR unknown command 'n', with args beginning with: '{first}' '{cut}' ")
    );
}

#[test]
fn arity_and_subcommand_errors_are_those_of_redis() {
    let spec = |name: &[u8]| command::lookup_full(name).unwrap();
    assert_eq!(
        command::wrong_arity_error(spec(b"GET")),
        "ERR wrong number of arguments for 'get' command"
    );
    assert_eq!(
        command::wrong_arity_error(spec(b"config|get")),
        "ERR wrong number of arguments for 'config|get' command"
    );
    let args: [&[u8]; 3] = [b"config", b"x\ry", b"z"];
    assert_eq!(
        command::unknown_subcommand_error(spec(b"config"), &args[..]),
        b"ERR unknown subcommand 'x y'. Try CONFIG HELP."
    );
    assert_eq!(
        command::subcommand_syntax_error(spec(b"object|help"), &args[..]),
        b"ERR unknown subcommand or wrong number of arguments for 'x y'. Try OBJECT HELP."
    );
}

#[test]
fn what_is_not_implemented_is_not_listed() {
    let only_get = |spec: &CommandSpec| matches!(spec.name, "get" | "config" | "config|get");
    let ask = |builder: Builder, request: &[&str]| {
        let mut reply = ReplyWriter::new(Version::V2);
        builder(&mut reply, &words(request), &only_get);
        String::from_utf8(reply.to_vec()).unwrap()
    };
    let mut count = ReplyWriter::new(Version::V2);
    introspect::count(&mut count, &only_get);
    assert_eq!(count.to_vec(), b":2\r\n");
    assert_eq!(
        ask(introspect::list, &["command", "list"]),
        "*3\r\n$6\r\nconfig\r\n$10\r\nconfig|get\r\n$3\r\nget\r\n"
    );
    assert_eq!(
        ask(introspect::info, &["command", "info", "set", "config|set"]),
        "*2\r\n$-1\r\n$-1\r\n"
    );
    assert_eq!(ask(introspect::docs, &["command", "docs", "set"]), "*0\r\n");
    assert_eq!(
        ask(
            introspect::getkeys,
            &["command", "getkeys", "set", "k", "v"]
        ),
        "-ERR Invalid command specified\r\n"
    );
    let config = ask(introspect::info, &["command", "info", "config"]);
    assert!(config.contains("config|get") && !config.contains("config|set"));
}

#[test]
fn a_flood_of_names_is_refused() {
    let mut args = words(&["command", "docs"]);
    args.resize(100_000, b"cluster".to_vec());
    for builder in [introspect::docs as Builder, introspect::info] {
        let mut reply = ReplyWriter::new(Version::V2);
        builder(&mut reply, &args, &|_| true);
        assert_eq!(reply.to_vec(), b"-ERR too many command names\r\n");
    }
}
