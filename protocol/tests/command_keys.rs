//! Which arguments are keys, and to which slot a request goes.

use bytes::Bytes;
use cairn_protocol::command::{self, ArgList, CommandSpec, KeysError, Resolved};
use cairn_protocol::resp::Requests;
use cairn_protocol::slot::key_slot;

fn words(line: &str) -> Vec<Vec<u8>> {
    let word = |word: &str| match word {
        "''" => Vec::new(),
        word => word.as_bytes().to_vec(),
    };
    line.split_whitespace().map(word).collect()
}

fn spec_of(args: &Vec<Vec<u8>>) -> &'static CommandSpec {
    match command::resolve(args) {
        Resolved::Command(spec) => spec,
        other => panic!("{other:?}"),
    }
}

/// The keys of a line, with their flags: `a:RO,access b:OW,update`.
fn keys(line: &str) -> String {
    let args = words(line);
    match spec_of(&args).keys(&args) {
        Ok(keys) => keys
            .iter()
            .map(|key| {
                let name = String::from_utf8_lossy(&args[key.index as usize]);
                let flags: Vec<_> = key.flags.names().collect();
                format!("{name}:{}", flags.join(","))
            })
            .collect::<Vec<_>>()
            .join(" "),
        Err(error) => error.to_string(),
    }
}

/// The keys by which a line is routed.
fn routing_keys(line: &str) -> String {
    let args = words(line);
    let keys = spec_of(&args).routing_keys(&args);
    let names: Vec<_> = keys
        .iter()
        .map(|index| String::from_utf8_lossy(&args[*index as usize]))
        .collect();
    names.join(" ")
}

#[test]
fn plain_ranges_are_found_with_their_flags() {
    for (line, expected) in [
        ("get a", "a:RO,access"),
        ("MGET a b c", "a:RO,access b:RO,access c:RO,access"),
        ("mset a 1 b 2", "a:OW,update b:OW,update"),
        ("del a b", "a:RM,delete b:RM,delete"),
        ("blpop a b 0", "a:RW,access,delete b:RW,access,delete"),
        ("bitop and d a b", "d:OW,update a:RO,access b:RO,access"),
        ("object encoding a", "a:RO"),
        ("xinfo stream a full", "a:RO,access"),
        ("smove a b m", "a:RW,access,delete b:RW,insert"),
        ("pfcount a b", "a:RW,access b:RW,access"),
        ("lcs a b idx", "a:RO,access b:RO,access"),
    ] {
        assert_eq!(keys(line), expected, "{line}");
    }
}

#[test]
fn movable_keys_are_found_with_their_flags() {
    for (line, expected) in [
        ("eval s 2 a b c", "a:RW,access,update b:RW,access,update"),
        ("eval s 0 a", ""),
        ("eval s 3 a", ""),
        ("eval s x a", ""),
        ("fcall_ro f 1 a b", "a:RO,access"),
        (
            "zunionstore d 2 a b weights 1 2",
            "d:OW,update a:RO,access b:RO,access",
        ),
        ("zinter 2 a b withscores", "a:RO,access b:RO,access"),
        ("sintercard 2 a b limit 1", "a:RO,access b:RO,access"),
        (
            "blmpop 0 2 a b left",
            "a:RW,access,delete b:RW,access,delete",
        ),
        ("set a 1", "a:OW,update"),
        ("set a get", "a:OW,update"),
        ("set a 1 ex 3 Get", "a:RW,access,update"),
        ("bitfield a", "a:RO,access"),
        ("bitfield a get u8 0", "a:RO,access"),
        (
            "bitfield a overflow sat get u8 0 set u8 0 1",
            "a:RW,access,update",
        ),
        ("bitfield a get u8", "a:RW,access,update"),
        ("sort a", "a:RO,access"),
        ("sort a by w_* get g_* limit 0 1", "a:RO,access"),
        ("sort a store b by store store c", "a:RO,access c:OW,update"),
        ("sort a by store b", "a:RO,access"),
        ("sort_ro a get store", "a:RO,access"),
        (
            "georadius a 1 1 1 m store b storedist c",
            "a:RO,access b:OW,update c:OW,update",
        ),
        ("georadiusbymember a m 1 km", "a:RO,access"),
        ("xread count 1 streams a b 1 2", "a:RO,access b:RO,access"),
        (
            "xreadgroup group streams streams streams k 1",
            "k:RO,access",
        ),
        ("migrate h 1 a 0 9", "a:RW,access,delete"),
        (
            "migrate h 1 '' 0 9 copy keys a b",
            "a:RW,access,delete b:RW,access,delete",
        ),
        ("migrate h 1 '' 0 9 auth keys keys a", "a:RW,access,delete"),
    ] {
        assert_eq!(keys(line), expected, "{line}");
        // Routing takes another way to the same keys; of STORE and STOREDIST
        // only the last counts there.
        if !line.contains("storedist") {
            assert_eq!(sorted_names(&routing_keys(line)), sorted_names(expected));
        }
    }
}

/// The keys of `a:RO,access b:OW,update` or of `b a`: `[a, b]`.
fn sorted_names(keys: &str) -> Vec<&str> {
    let name = |key| str::split(key, ':').next().unwrap_or_default();
    let mut names: Vec<_> = keys.split_whitespace().map(name).collect();
    names.sort_unstable();
    names
}

#[test]
fn requests_without_tellable_keys_get_the_errors_of_redis() {
    let no_keys = "ERR The command has no key arguments";
    let arity = "ERR Invalid number of arguments specified for command";
    let invalid = "ERR Invalid arguments specified for command";
    for (line, expected) in [
        ("ping", no_keys),
        ("config get x", no_keys),
        ("spublish c m", no_keys),
        ("ssubscribe c", no_keys),
        ("get", arity),
        ("get a b", arity),
        ("eval s", arity),
        ("zunion 0 a", invalid),
        ("zunion 3 a b", invalid),
        ("zunion x a", invalid),
        ("zunionstore d -1 a", invalid),
        ("xread count 1 block 1", invalid),
        ("migrate h 1 a 0 9 keys b", invalid),
    ] {
        assert_eq!(keys(line), expected, "{line}");
    }
    assert_eq!(KeysError::NoKeyArguments.to_string(), no_keys);
}

#[test]
fn declared_numbers_of_keys_are_never_believed() {
    for number in [
        "4294967295",
        "2147483647",
        "2147483648",
        "9223372036854775807",
        "18446744073709551616",
        "-9223372036854775808",
        "99999999999999999999999999",
        "01",
        "+1",
    ] {
        for line in [
            format!("eval s {number} a"),
            format!("zunionstore d {number} a"),
            format!("lmpop {number} a left"),
            format!("zdiff {number} a"),
        ] {
            let args = words(&line);
            let spec = spec_of(&args);
            let found = spec.keys(&args).unwrap_or_default();
            assert!(found.len() <= 2, "{line}");
            assert!(spec.routing_keys(&args).len() <= 2, "{line}");
        }
    }
}

#[test]
fn routing_counts_shard_channels_and_the_last_store() {
    for (line, expected) in [
        ("get a", "a"),
        ("spublish c m", "c"),
        ("ssubscribe c d", "c d"),
        ("sunsubscribe", ""),
        ("publish c m", ""),
        ("mset a 1 b", "a b"),
        ("eval s 0 a", ""),
        ("eval s 1 a b", "a"),
        ("georadius a 1 1 1 m store b storedist c", "a c"),
        ("xread streams a b 1", ""),
        ("zunionstore d 2 a b", "a b d"),
        ("get", ""),
        ("get a b", ""),
        ("object help", ""),
        ("sort a store b", "a b"),
    ] {
        assert_eq!(routing_keys(line), expected, "{line}");
    }
}

#[test]
fn one_slot_accepts_hash_tags_and_refuses_what_spans_slots() {
    let one_slot = |line: &str| {
        let args = words(line);
        spec_of(&args).one_slot(&args)
    };
    assert_eq!(one_slot("get a"), Ok(Some(key_slot(b"a"))));
    assert_eq!(one_slot("mget {a}1 {a}2 a"), Ok(Some(key_slot(b"a"))));
    assert_eq!(one_slot("ping"), Ok(None));
    assert_eq!(one_slot("eval s 0"), Ok(None));
    assert_eq!(one_slot("sort {x}a store {x}b"), Ok(Some(key_slot(b"x"))));
    let refused = one_slot("mget a b").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "CROSSSLOT Keys in request don't hash to the same slot"
    );
    assert!(one_slot("sort a store b").is_err());
    assert!(one_slot("mset a 1 b 2").is_err());

    let args = words("mget a b a");
    let slots = spec_of(&args).slots(&args);
    assert_eq!(
        slots.as_slice(),
        [key_slot(b"a"), key_slot(b"b"), key_slot(b"a")]
    );
}

#[test]
fn every_form_of_arguments_gives_the_same_keys() {
    let owned = words("eval s 2 a b");
    let slices: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
    let shared: Vec<Bytes> = owned.iter().cloned().map(Bytes::from).collect();
    let mut batch = Requests::default();
    batch.push_owned(&owned);

    fn keys<A: ArgList + ?Sized>(args: &A) -> Vec<u32> {
        let spec = command::lookup(args.get(0)).unwrap();
        let keys = spec.keys(args).unwrap();
        keys.iter().map(|key| key.index).collect()
    }
    assert_eq!(keys(&owned), [3, 4]);
    assert_eq!(keys(slices.as_slice()), [3, 4]);
    assert_eq!(keys(shared.as_slice()), [3, 4]);
    assert_eq!(keys(&batch.get(0)), [3, 4]);
}
