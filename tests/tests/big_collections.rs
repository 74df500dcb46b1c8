//! Collections of a million elements: removed in one step whatever the way, and their
//! bytes are given back by compaction alone.
//!
//! `CAIRN_BIG_FIELDS` sizes the hash (default a million). How long a removal takes is
//! printed, not asserted: it is a figure of the machine.

use std::time::{Duration, Instant};

use cairn_tests::resp::{Client, Value, encode};
use cairn_tests::server::Server;
use cairn_tests::{seed, wait};
use rand::RngCore;

const FIELDS_PER_COMMAND: u64 = 500;
const VALUE_BYTES: usize = 60;
const RECLAIM_LIMIT: Duration = Duration::from_secs(120);

#[test]
fn hashes_of_a_million_fields_go_in_one_step_and_their_bytes_come_back() {
    let fields = seed::size("CAIRN_BIG_FIELDS", 1_000_000) / 4;
    let server = Server::start(&["--enable-debug-command", "local"]);
    let mut client = server.client();
    let ways = [
        ("DEL", "DEL big:0"),
        ("UNLINK", "UNLINK big:1"),
        ("EXPIRE", "PEXPIRE big:2 1"),
        ("overwrite", "SET big:3 x"),
    ];
    for number in 0..ways.len() {
        load(&mut client, &format!("big:{number}"), fields);
    }
    let full = server.disk_bytes();
    let written = fields * ways.len() as u64 * VALUE_BYTES as u64;
    assert!(full > written / 2, "the load is not on disk: {full} bytes");
    for (name, line) in ways {
        let asked = Instant::now();
        let reply = client.words(line);
        println!("{name} of {fields} fields: {:?}", asked.elapsed());
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
    wait::until("big:2 to expire", Duration::from_secs(10), || {
        (client.words("EXISTS big:2").integer() == 0).then_some(())
    });
    for gone in ["big:0", "big:1", "big:2"] {
        assert_eq!(client.command(&["HLEN", gone]), Value::Integer(0));
        assert_eq!(client.command(&["HGET", gone, "field:1"]), Value::Null);
    }
    let left = wait::try_until(RECLAIM_LIMIT, || {
        // Garbage is judged by the durable view, which follows within a second.
        assert_eq!(client.words("DEBUG COMPACT").text(), "OK");
        Some(server.disk_bytes()).filter(|bytes| *bytes < full / 10)
    });
    let now = left.unwrap_or_else(|| server.disk_bytes());
    println!(
        "{} KB on disk with four hashes, {} KB after",
        full >> 10,
        now >> 10
    );
    assert!(left.is_some(), "{now} of {full} bytes are still on disk");
    assert_eq!(client.words("DBSIZE").integer(), 1);
}

fn load(client: &mut Client, key: &str, fields: u64) {
    let mut random = seed::rng(13, 0);
    let mut value = vec![0; VALUE_BYTES];
    for first in (0..fields).step_by(FIELDS_PER_COMMAND as usize) {
        let mut words: Vec<Vec<u8>> = vec![b"HSET".to_vec(), key.into()];
        for number in first..(first + FIELDS_PER_COMMAND).min(fields) {
            random.fill_bytes(&mut value);
            words.extend([format!("field:{number}").into_bytes(), value.clone()]);
        }
        let mut request = Vec::new();
        encode(&mut request, &words);
        let replies = client.pipeline(&request, 1).expect("the server answers");
        assert!(!replies[0].value.is_error(), "{:?}", replies[0].value);
    }
    assert_eq!(
        client.command(&["HLEN", key]),
        Value::Integer(fields as i64)
    );
}
