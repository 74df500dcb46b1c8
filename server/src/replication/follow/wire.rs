//! The socket to a master: read with patience, and with a word now and then.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{Following, LinkError};
use crate::txn::tape::put_request;

/// A read is given up so often to look at other things.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the master hears of us in between.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// Bytes of one read.
const CHUNK: usize = 256 << 10;
/// A line of the handshake.
const LINE_MAX: u64 = 4 << 10;

/// What is said to the master while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saying {
    Nothing,
    /// An empty line: the data set is still being read.
    Alive,
    /// How far the stream was worked through.
    Offset(u64),
}

/// See the module's documentation.
pub(super) struct Wire<'a> {
    socket: TcpStream,
    following: &'a Following,
    epoch: u64,
    chunk: Box<[u8]>,
    /// What of `chunk` was read and not taken yet.
    unread: std::ops::Range<usize>,
    /// Bytes that were taken.
    taken: u64,
    pub saying: Saying,
    said: Instant,
}

impl<'a> Wire<'a> {
    pub fn new(
        socket: TcpStream,
        following: &'a Following,
        epoch: u64,
    ) -> Result<Wire<'a>, LinkError> {
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        socket.set_write_timeout(Some(following.timeout()))?;
        socket.set_nodelay(true)?;
        following.heard(0);
        following.set_socket(Some(socket.try_clone()?));
        Ok(Wire {
            socket,
            following,
            epoch,
            chunk: vec![0; CHUNK].into_boxed_slice(),
            unread: 0..0,
            taken: 0,
            saying: Saying::Nothing,
            said: Instant::now(),
        })
    }

    pub fn taken(&self) -> u64 {
        self.taken
    }

    pub fn send(&mut self, words: &[&[u8]]) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        put_request(&mut bytes, words.iter());
        Ok(self.socket.write_all(&bytes)?)
    }

    /// Says how far the stream was worked through, now.
    pub fn acknowledge(&mut self) -> Result<(), LinkError> {
        self.said = Instant::now();
        if let Saying::Offset(offset) = self.saying {
            let offset = offset.to_string();
            self.send(&[b"REPLCONF", b"ACK", offset.as_bytes()])?;
        }
        Ok(())
    }

    /// One line that is not empty, without its end.
    pub fn line(&mut self) -> Result<String, LinkError> {
        loop {
            let mut line = Vec::new();
            let n = self.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
            if n == 0 || line.last() != Some(&b'\n') {
                return Err(match n as u64 {
                    LINE_MAX => LinkError::Refused("the master's line has no end".into()),
                    _ => io::Error::from(ErrorKind::UnexpectedEof).into(),
                });
            }
            let text = line.trim_ascii();
            if !text.is_empty() {
                return Ok(String::from_utf8_lossy(text).into_owned());
            }
        }
    }

    /// Lets a moment pass, and is heard of.
    pub fn pause(&mut self) -> Result<(), LinkError> {
        if !self.following.is_current(self.epoch) {
            return Err(LinkError::GivenUp);
        }
        std::thread::sleep(LOOK_EVERY / 2);
        Ok(self.speak()?)
    }

    fn speak(&mut self) -> io::Result<()> {
        if self.said.elapsed() < SAY_EVERY {
            return Ok(());
        }
        self.said = Instant::now();
        match self.saying {
            Saying::Nothing => Ok(()),
            Saying::Alive => self.socket.write_all(b"\n"),
            Saying::Offset(_) => self.acknowledge().map_err(|error| match error {
                LinkError::Io(error) => error,
                other => io::Error::other(other.to_string()),
            }),
        }
    }

    /// Reads what there is, after a while if need be. 0: the end.
    fn refill(&mut self) -> io::Result<usize> {
        loop {
            if !self.following.is_current(self.epoch) {
                return Err(io::Error::other("the link was given up"));
            }
            self.speak()?;
            match self.socket.read(&mut self.chunk) {
                Ok(n) => {
                    self.following.heard(n as u64);
                    self.unread = 0..n;
                    return Ok(n);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                        if self.following.silent() > self.following.timeout() {
                            let silent = "the master was silent for longer than repl-timeout";
                            return Err(io::Error::new(ErrorKind::TimedOut, silent));
                        }
                    }
                    _ => return Err(error),
                },
            }
        }
    }
}

impl BufRead for Wire<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.unread.is_empty() {
            self.refill()?;
        }
        Ok(&self.chunk[self.unread.clone()])
    }

    fn consume(&mut self, n: usize) {
        self.unread.start += n;
        self.taken += n as u64;
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let n = there.len().min(out.len());
        out[..n].copy_from_slice(&there[..n]);
        self.consume(n);
        Ok(n)
    }
}
