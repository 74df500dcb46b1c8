//! What a server holds, in words that can be compared.

use std::collections::BTreeMap;

use crate::resp::{Client, Value};

/// Keys of a database that go within seconds.
pub fn expiring_soon(client: &mut Client, db: usize) -> usize {
    client.words(&format!("SELECT {db}"));
    let keys = client.words("KEYS *");
    let mut soon = 0;
    for key in keys.array() {
        let left = client.command(&[&b"PTTL"[..], key.bytes()]).integer();
        soon += usize::from((0..10_000).contains(&left));
    }
    soon
}

/// Panics unless both hold the same in a database.
pub fn compare(ours: &mut Client, theirs: &mut Client, db: usize) {
    let (mine, other) = (contents(ours, db), contents(theirs, db));
    same(&mine, &other, db);
}

/// The same of a Redis and who follows it: it tells nobody of a consumer that it makes
/// for an XCLAIM or XAUTOCLAIM which claims nothing, nor that pending entries were read
/// again.
pub fn compare_with_redis(redis: &mut Client, theirs: &mut Client, db: usize) {
    let busy = |client: &mut Client| {
        let mut all = contents(client, db);
        for value in all.values_mut().filter(|v| v.starts_with("stream")) {
            let words = value.split(' ').filter(|word| !word.ends_with("=:0"));
            // Behind the second colons is how often an entry was delivered.
            let words = words.map(|word| word.split("::").next().unwrap_or_default());
            *value = words.collect::<Vec<_>>().join(" ");
        }
        all
    };
    let (mine, other) = (busy(redis), busy(theirs));
    same(&mine, &other, db);
}

fn same(mine: &BTreeMap<String, String>, other: &BTreeMap<String, String>, db: usize) {
    for (key, value) in mine {
        let there = other.get(key);
        assert_eq!(Some(value), there, "{key} of database {db}");
    }
    let more: Vec<&String> = other
        .keys()
        .filter(|key| !mine.contains_key(*key))
        .collect();
    assert!(
        more.is_empty(),
        "only the replica has {more:?} in database {db}"
    );
}

/// Every key of a database with its type, expiry and value, in words.
fn contents(client: &mut Client, db: usize) -> BTreeMap<String, String> {
    client.words(&format!("SELECT {db}"));
    let keys = client.words("KEYS *");
    keys.array()
        .iter()
        .map(|key| (key.text(), described(client, &key.text())))
        .collect()
}

fn described(client: &mut Client, key: &str) -> String {
    let kind = client.words(&format!("TYPE {key}")).text();
    let until = client.words(&format!("PEXPIRETIME {key}")).integer();
    let value = match kind.as_str() {
        "string" => shown(&client.words(&format!("GET {key}"))),
        "list" => shown(&client.words(&format!("LRANGE {key} 0 -1"))),
        "set" => sorted(&client.words(&format!("SMEMBERS {key}")), 1),
        "hash" => sorted(&client.words(&format!("HGETALL {key}")), 2),
        "zset" => shown(&client.words(&format!("ZRANGE {key} 0 -1 WITHSCORES"))),
        "stream" => stream(client, key),
        other => panic!("{key} is of type {other}"),
    };
    format!("{kind} until {until}: {value}")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Bulk(bytes) => bytes.escape_ascii().to_string(),
        other => format!("{other:?}"),
    }
}

fn sorted(value: &Value, each: usize) -> String {
    let mut parts: Vec<String> = value
        .array()
        .chunks(each)
        .map(|part| part.iter().map(shown).collect::<Vec<_>>().join("="))
        .collect();
    parts.sort();
    parts.join(" ")
}

/// Entries, last id, groups with what is pending. How much a group has read is not
/// told to replicas, nor when a consumer was seen: as between two of Redis.
fn stream(client: &mut Client, key: &str) -> String {
    let entries = shown(&client.words(&format!("XRANGE {key} - +")));
    let about = client.words(&format!("XINFO STREAM {key}"));
    let field = |name: &str, from: &Value| {
        let pairs = from.array().chunks(2);
        let found = pairs.into_iter().find(|pair| pair[0].text() == name);
        shown(&found.expect("a field of XINFO")[1])
    };
    let mut text = entries;
    for name in ["last-generated-id", "max-deleted-entry-id", "entries-added"] {
        text += &format!(" {name}={}", field(name, &about));
    }
    for group in client.words(&format!("XINFO GROUPS {key}")).array() {
        let name = field("name", group);
        text += &format!(" {name} at {}:", field("last-delivered-id", group));
        let consumers = client.words(&format!("XINFO CONSUMERS {key} {name}"));
        for consumer in consumers.array() {
            text += &format!(
                " {}={}",
                field("name", consumer),
                field("pending", consumer)
            );
        }
        let pending = client.words(&format!("XPENDING {key} {name} - + 1000"));
        for entry in pending.array() {
            // The idle time runs on.
            let (id, owner, times) = (&entry.array()[0], &entry.array()[1], &entry.array()[3]);
            text += &format!(" {}:{}:{}", shown(id), shown(owner), shown(times));
        }
    }
    text
}
