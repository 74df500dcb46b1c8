//! A small blocking RESP2/RESP3 client of the tests' own.
//!
//! It keeps the exact bytes of each reply beside the parsed value, because a wire
//! test states the exact reply. It shares no code with the programs under test.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// No reply within this time is an error: a hang is a failure like any other.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// A parsed reply. Texts and numbers of RESP3's special types stay as their text.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`.
    Null,
    Array(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Boolean(bool),
    /// Doubles, big numbers: the text after the type byte.
    Number(Vec<u8>),
    /// `txt:...`, format prefix included.
    Verbatim(Vec<u8>),
}

impl Value {
    /// The bytes of a string reply. Panics on any other: a test expected text.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Simple(text) | Value::Bulk(text) | Value::Number(text) => text,
            Value::Verbatim(text) => text.get(4..).unwrap_or(text),
            other => panic!("a string was expected, not {other:?}"),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    pub fn integer(&self) -> i64 {
        match self {
            Value::Integer(number) => *number,
            other => panic!("an integer was expected, not {other:?}"),
        }
    }

    pub fn array(&self) -> &[Value] {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items,
            other => panic!("an array was expected, not {other:?}"),
        }
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    /// The text of an error reply, without the leading `-`.
    pub fn error(&self) -> Option<String> {
        match self {
            Value::Error(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
        match self {
            Value::Simple(bytes) => write!(out, "+{}", text(bytes)),
            Value::Error(bytes) => write!(out, "-{}", text(bytes)),
            Value::Integer(number) => write!(out, ":{number}"),
            Value::Bulk(bytes) => write!(out, "\"{}\"", text(bytes)),
            Value::Null => write!(out, "nil"),
            Value::Array(items) => out.debug_list().entries(items).finish(),
            Value::Set(items) => out.debug_set().entries(items).finish(),
            Value::Push(items) => write!(out, "push {items:?}"),
            Value::Map(pairs) => out
                .debug_map()
                .entries(pairs.iter().map(|(k, v)| (k, v)))
                .finish(),
            Value::Boolean(flag) => write!(out, "#{flag}"),
            Value::Number(bytes) => write!(out, ",{}", text(bytes)),
            Value::Verbatim(bytes) => write!(out, "={}", text(bytes)),
        }
    }
}

/// A parsed reply with the bytes that it came as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub value: Value,
    pub raw: Vec<u8>,
}

pub struct Client {
    stream: TcpStream,
    /// Received and not yet parsed: `buffer[start..]`.
    buffer: Vec<u8>,
    start: usize,
}

impl Client {
    /// Connects to a port of this machine. Panics when nobody listens.
    pub fn connect(port: u16) -> Client {
        Self::try_connect(port)
            .unwrap_or_else(|error| panic!("no connection to port {port}: {error}"))
    }

    pub fn try_connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Client {
            stream,
            buffer: Vec::with_capacity(16 * 1024),
            start: 0,
        })
    }

    pub fn set_timeout(&self, timeout: Duration) {
        self.stream
            .set_read_timeout(Some(timeout))
            .expect("a timeout above zero");
        self.stream
            .set_write_timeout(Some(timeout))
            .expect("a timeout above zero");
    }

    /// Sends one command and returns its value. Panics when the connection breaks.
    pub fn command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Value {
        self.try_command(arguments).unwrap_or_else(|error| {
            let name = arguments
                .first()
                .map(|a| String::from_utf8_lossy(a.as_ref()).into_owned());
            panic!("no reply to {name:?}: {error}")
        })
    }

    /// A command written as words, for the common case.
    pub fn words(&mut self, line: &str) -> Value {
        self.command(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub fn try_command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> io::Result<Value> {
        let mut request = Vec::new();
        encode(&mut request, arguments);
        self.send(&request)?;
        self.read_reply().map(|reply| reply.value)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent, as a client that ends does.
    pub fn finish_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next reply. `UnexpectedEof` when the peer closed, `InvalidData` when it
    /// sent what is no RESP.
    pub fn read_reply(&mut self) -> io::Result<Reply> {
        loop {
            let pending = &self.buffer[self.start..];
            if let Some((value, length)) = parse(pending).map_err(invalid)? {
                let raw = pending[..length].to_vec();
                self.start += length;
                if self.start == self.buffer.len() {
                    self.buffer.clear();
                    self.start = 0;
                }
                return Ok(Reply { value, raw });
            }
            self.fill()?;
        }
    }

    /// Sends everything and reads `count` replies.
    pub fn pipeline(&mut self, requests: &[u8], count: usize) -> io::Result<Vec<Reply>> {
        self.send(requests)?;
        (0..count).map(|_| self.read_reply()).collect()
    }

    /// Everything up to the peer's end of the connection. A reset counts as the end.
    pub fn read_to_close(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    return Ok(self.buffer[self.start..].to_vec());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}

/// Appends a command in the form that every client sends: an array of bulks.
pub fn encode<A: AsRef<[u8]>>(out: &mut Vec<u8>, arguments: &[A]) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "*{}\r\n", arguments.len());
    for argument in arguments {
        let argument = argument.as_ref();
        let _ = write!(out, "${}\r\n", argument.len());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Parses one reply from the front: its value and length, or `None` when more
/// bytes are needed.
pub fn parse(input: &[u8]) -> Result<Option<(Value, usize)>, String> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    if end == 0 {
        return Err("an empty line is no reply".into());
    }
    let (line, body) = (&input[1..end], end + 2);
    let done = |value| Ok(Some((value, body)));
    match input[0] {
        b'+' => done(Value::Simple(line.to_vec())),
        b'-' => done(Value::Error(line.to_vec())),
        b':' => done(Value::Integer(number(line)?)),
        b',' | b'(' => done(Value::Number(line.to_vec())),
        b'_' => done(Value::Null),
        b'#' => done(Value::Boolean(line == b"t")),
        b'$' | b'=' | b'!' => parse_bulk(input, body, number(line)?),
        b'*' | b'~' | b'>' | b'%' | b'|' => parse_aggregate(input, body, number(line)?),
        other => Err(format!("no reply begins with byte {other:#04x}")),
    }
}

fn parse_bulk(input: &[u8], body: usize, length: i64) -> Result<Option<(Value, usize)>, String> {
    if length == -1 {
        return Ok(Some((Value::Null, body)));
    }
    let length = usize::try_from(length).map_err(|_| format!("bulk of {length} bytes"))?;
    let end = body + length;
    if input.len() < end + 2 {
        return Ok(None);
    }
    if &input[end..end + 2] != b"\r\n" {
        return Err("a bulk does not end with CRLF".into());
    }
    let text = input[body..end].to_vec();
    let value = match input[0] {
        b'$' => Value::Bulk(text),
        b'!' => Value::Error(text),
        _ => Value::Verbatim(text),
    };
    Ok(Some((value, end + 2)))
}

fn parse_aggregate(
    input: &[u8],
    body: usize,
    count: i64,
) -> Result<Option<(Value, usize)>, String> {
    if count == -1 {
        return Ok(Some((Value::Null, body)));
    }
    let count = usize::try_from(count).map_err(|_| format!("aggregate of {count} items"))?;
    let is_map = matches!(input[0], b'%' | b'|');
    let mut position = body;
    let mut items = Vec::new();
    for _ in 0..if is_map { count * 2 } else { count } {
        let rest = input.get(position..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let Some((item, length)) = parse(rest)? else {
            return Ok(None);
        };
        items.push(item);
        position += length;
    }
    let value = match input[0] {
        b'*' => Value::Array(items),
        b'~' => Value::Set(items),
        b'>' => Value::Push(items),
        _ => Value::Map(pairs(items)),
    };
    Ok(Some((value, position)))
}

fn pairs(items: Vec<Value>) -> Vec<(Value, Value)> {
    let mut items = items.into_iter();
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}

fn number(text: &[u8]) -> Result<i64, String> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("no number: {:?}", String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_type_parses_to_its_exact_length() {
        for (bytes, value) in [
            (&b"+OK\r\n"[..], Value::Simple(b"OK".to_vec())),
            (b"-ERR no\r\n", Value::Error(b"ERR no".to_vec())),
            (b":-7\r\n", Value::Integer(-7)),
            (b"$3\r\na\r\n\r\n", Value::Bulk(b"a\r\n".to_vec())),
            (b"$-1\r\n", Value::Null),
            (b"_\r\n", Value::Null),
            (
                b"*2\r\n:1\r\n$0\r\n\r\n",
                Value::Array(vec![Value::Integer(1), Value::Bulk(vec![])]),
            ),
            (
                b"%1\r\n+a\r\n:1\r\n",
                Value::Map(vec![(Value::Simple(b"a".to_vec()), Value::Integer(1))]),
            ),
            (b"#t\r\n", Value::Boolean(true)),
            (b",1.5\r\n", Value::Number(b"1.5".to_vec())),
            (b"=5\r\ntxt:x\r\n", Value::Verbatim(b"txt:x".to_vec())),
        ] {
            let mut longer = bytes.to_vec();
            longer.extend_from_slice(b"+next\r\n");
            assert_eq!(parse(&longer), Ok(Some((value, bytes.len()))));
            for cut in 1..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut} of {bytes:?}");
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        assert!(parse(b"hello\r\n").is_err());
        assert!(parse(b"$x\r\n").is_err());
        assert!(parse(b"$1\r\nabc\r\n").is_err());
    }
}
