//! Replies of large collections: they leave in pieces, so that a client costs the
//! server one piece whatever it asked for and however slowly it reads.
//!
//! `direct` is about clients of a server, `proxy` about those of a proxy, whose node
//! must not pay either; `unread` about many small replies that nobody takes. `CAIRN_BIG_FIELDS` sizes the largest hash (default a million;
//! through a debug build's proxy fewer).

mod direct;
mod proxy;
mod unread;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cairn_tests::resp::{Client, Value, encode};
use cairn_tests::server::Server;
use cairn_tests::{seed, wait};

const FIELDS_PER_COMMAND: u64 = 1000;
/// More than one piece, and more than the sockets of both sides hold.
const LARGE: u64 = 200_000;
/// What a slow reader may cost beside what was there before.
const GROWTH: u64 = 64 << 20;
const LIMIT: Duration = Duration::from_secs(120);

/// The value of a field of 60 bytes.
fn value_of(number: u64) -> String {
    format!("{number:060}")
}

fn load(client: &mut Client, key: &str, fields: u64) {
    for first in (0..fields).step_by(FIELDS_PER_COMMAND as usize) {
        let mut words = vec!["HSET".to_owned(), key.to_owned()];
        for number in first..(first + FIELDS_PER_COMMAND).min(fields) {
            words.extend([number.to_string(), value_of(number)]);
        }
        let reply = client.command(&words);
        assert!(!reply.is_error(), "{reply:?}");
    }
}

fn info(client: &mut Client, name: &str) -> u64 {
    let text = client.words("INFO everything").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.strip_prefix(':'));
    value
        .and_then(|n| n.trim().parse().ok())
        .expect("a figure of INFO")
}

fn sent_pieces(client: &mut Client, clients: u64) {
    let what = format!("{clients} clients to be sent pieces");
    wait::until(&what, LIMIT, || {
        (info(client, "clients_sent_pieces") == clients).then_some(())
    });
}

/// A client that reads as it likes.
struct Reader(BufReader<TcpStream>);

impl Reader {
    fn ask(port: u16, line: &str) -> Reader {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        Reader(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn bulk(&mut self) -> String {
        let length = self.line();
        let length = length.strip_prefix('$').and_then(|n| n.parse().ok());
        let mut bytes = vec![0; length.unwrap_or_else(|| panic!("no bulk string: {length:?}"))];
        self.0.read_exact(&mut bytes).expect("the bulk");
        assert_eq!(self.line(), "");
        String::from_utf8(bytes).expect("text")
    }

    /// How many bytes come until the end; a reset counts as one.
    fn rest(&mut self) -> u64 {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest);
        rest.len() as u64
    }
}
