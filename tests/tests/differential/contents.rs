//! Everything that both servers store, held against each other, and handed over: what
//! one DUMPs, the other RESTOREs.

use std::collections::BTreeSet;

use cairn_tests::resp::{Client, Reply, Value, encode};

use super::compare::{self, Compare};
use super::{DATABASES, Difference, Sides, Words, describe, show_word};

const RESTORED: &str = "contents: restored";

/// The first difference of what is stored; both end in database 0.
pub fn difference(sides: &mut Sides) -> Option<Difference> {
    let found = (0..DATABASES).find_map(|database| in_database(sides, database));
    for client in [&mut sides.theirs, &mut sides.ours] {
        client.words("SELECT 0");
    }
    found.map(|text| Difference {
        name: "contents".to_owned(),
        text: format!("what is stored differs: {text}"),
        stored: true,
    })
}

fn in_database(sides: &mut Sides, database: u32) -> Option<String> {
    for client in [&mut sides.theirs, &mut sides.ours] {
        client.command(&["SELECT", &database.to_string()]);
    }
    let (theirs, ours) = (all_keys(&mut sides.theirs), all_keys(&mut sides.ours));
    if let Some(key) = theirs.symmetric_difference(&ours).next() {
        let who = ["redis", "cairn"][usize::from(ours.contains(key))];
        return Some(format!("only {who} has {} in {database}", show_word(key)));
    }
    let size = ["DBSIZE"].map(|word| word.as_bytes().to_vec()).to_vec();
    ask(sides, &size, &Compare::Exact).or_else(|| theirs.iter().find_map(|key| of_key(sides, key)))
}

fn all_keys(client: &mut Client) -> BTreeSet<Vec<u8>> {
    let mut cursor = "0".to_owned();
    let mut found = BTreeSet::new();
    loop {
        let reply = client.command(&["SCAN", &cursor, "COUNT", "50"]);
        let keys = reply.array()[1].array();
        found.extend(keys.iter().map(|key| key.bytes().to_vec()));
        cursor = reply.array()[0].text();
        if cursor == "0" {
            return found;
        }
    }
}

fn of_key(sides: &mut Sides, key: &[u8]) -> Option<String> {
    let kind = sides.theirs.command(&[b"TYPE", key]).text();
    let about: [(&[&str], Compare); 3] = [
        (&["TYPE", "K"], Compare::Exact),
        (&["OBJECT", "ENCODING", "K"], Compare::Encoding),
        (&["PEXPIRETIME", "K"], Compare::Near(5_000)),
    ];
    about
        .iter()
        .find_map(|(words, compare)| ask(sides, &with_key(words, key), compare))
        .or_else(|| read(sides, &kind, key))
        .or_else(|| handed_over(sides, &kind, key))
}

/// The commands that show all of a value.
fn readers(kind: &str) -> Vec<(&'static [&'static str], Compare)> {
    match kind {
        "string" => vec![(&["GET", "K"], Compare::Exact)],
        "hash" => vec![(&["HGETALL", "K"], Compare::Pairs)],
        "list" => vec![(&["LRANGE", "K", "0", "-1"], Compare::Exact)],
        "set" => vec![(&["SMEMBERS", "K"], Compare::Members)],
        "zset" => vec![(&["ZRANGE", "K", "0", "-1", "WITHSCORES"], Compare::Exact)],
        _ => vec![
            (&["XRANGE", "K", "-", "+"], Compare::Exact),
            (
                &["XINFO", "STREAM", "K", "FULL", "COUNT", "0"],
                Compare::Times,
            ),
        ],
    }
}

fn read(sides: &mut Sides, kind: &str, key: &[u8]) -> Option<String> {
    readers(kind)
        .iter()
        .find_map(|(words, compare)| ask(sides, &with_key(words, key), compare))
}

/// Each one's DUMP, restored in the other, is what it was.
fn handed_over(sides: &mut Sides, kind: &str, key: &[u8]) -> Option<String> {
    let dumps = [
        sides.theirs.command(&[b"DUMP", key]),
        sides.ours.command(&[b"DUMP", key]),
    ];
    let [theirs, ours] = &dumps;
    let clients = [(&mut sides.ours, theirs), (&mut sides.theirs, ours)];
    let mut restored = Vec::new();
    for (client, dump) in clients {
        let words = [
            b"RESTORE".as_slice(),
            RESTORED.as_bytes(),
            b"0",
            dump.bytes(),
        ];
        restored.push(client.command(&words));
    }
    let failed = restored.iter().any(Value::is_error);
    let found = match failed {
        true => Some(format!(
            "RESTORE of the other's {}: {restored:?}",
            show_word(key)
        )),
        false => read(sides, kind, RESTORED.as_bytes()).map(|text| format!("handed over, {text}")),
    };
    for client in [&mut sides.theirs, &mut sides.ours] {
        client.command(&["DEL", RESTORED]);
    }
    found.map(|text| {
        format!(
            "{text}\n  of {}, dumped by redis: {theirs:?}\n  by cairn: {ours:?}",
            show_word(key)
        )
    })
}

fn with_key(words: &[&str], key: &[u8]) -> Words {
    words
        .iter()
        .map(|word| match *word {
            "K" => key.to_vec(),
            word => word.as_bytes().to_vec(),
        })
        .collect()
}

fn ask(sides: &mut Sides, words: &Words, compare: &Compare) -> Option<String> {
    let (theirs, ours) = (
        reply(&mut sides.theirs, words),
        reply(&mut sides.ours, words),
    );
    let same = compare::same(compare, &[], &theirs, &ours);
    (!same).then(|| describe(words, &theirs, &ours))
}

fn reply(client: &mut Client, words: &Words) -> Reply {
    let mut request = Vec::new();
    encode(&mut request, words);
    client
        .pipeline(&request, 1)
        .expect("a server answers")
        .remove(0)
}
