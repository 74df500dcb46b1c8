//! Connections to other servers that MIGRATE sends values to, kept for a while.
//!
//! Blocking: for the pool of blocking work. A connection is taken out of the
//! cache while it is in use, so that two transfers never share one.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use cairn_protocol::resp::encode_request;
use parking_lot::Mutex;

/// Connections kept at most.
const MAX_KEPT: usize = 64;
/// One that was not used for so long is closed.
const KEEP: Duration = Duration::from_secs(10);
/// The longest line that a target may answer with.
const MAX_LINE: usize = 1024;

/// The connections that wait for the next MIGRATE, by `host:port`. Guards a small
/// table, touched once a transfer.
#[derive(Default)]
pub struct Targets {
    kept: Mutex<HashMap<String, Target>>,
}

/// One connection.
pub struct Target {
    stream: BufReader<TcpStream>,
    /// The database that is selected there, if that is known.
    pub db: Option<i64>,
    used: Instant,
}

impl Targets {
    pub fn len(&self) -> usize {
        self.kept.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A connection to `place`: one that is kept (true), or a new one.
    ///
    /// # Errors
    /// There is no such server, or it does not answer in time.
    pub fn take(
        &self,
        place: &str,
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> io::Result<(Target, bool)> {
        if let Some(target) = self.kept.lock().remove(place) {
            target.limit(timeout)?;
            return Ok((target, true));
        }
        let address = (host, port).to_socket_addrs()?.next();
        let address = address.ok_or(ErrorKind::AddrNotAvailable)?;
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        let target = Target {
            stream: BufReader::new(stream),
            db: None,
            used: Instant::now(),
        };
        target.limit(timeout)?;
        Ok((target, false))
    }

    /// Keeps a connection whose answers have all been read.
    pub fn keep(&self, place: &str, mut target: Target) {
        target.used = Instant::now();
        let mut kept = self.kept.lock();
        if kept.len() >= MAX_KEPT {
            let oldest = kept.iter().min_by_key(|(_, target)| target.used);
            let oldest = oldest.map(|(place, _)| place.clone());
            oldest.map(|place| kept.remove(&place));
        }
        kept.insert(place.to_owned(), target);
    }

    /// Closes those that were not used for a while.
    pub fn close_idle(&self) {
        let mut kept = self.kept.lock();
        if !kept.is_empty() {
            kept.retain(|_, target| target.used.elapsed() < KEEP);
        }
    }
}

impl Target {
    fn limit(&self, timeout: Duration) -> io::Result<()> {
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))
    }

    /// Sends requests, one behind the other.
    pub fn send(&mut self, requests: &[Vec<&[u8]>]) -> io::Result<()> {
        let mut out = BytesMut::new();
        for request in requests {
            encode_request(&mut out, request.iter().copied());
        }
        self.stream.get_mut().write_all(&out)
    }

    /// One answer, which is a line: what went wrong, if it is an error.
    pub fn answer(&mut self) -> io::Result<Result<(), Vec<u8>>> {
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut self.stream, MAX_LINE as u64);
        limited.read_until(b'\n', &mut line)?;
        let line = line.strip_suffix(b"\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        Ok(match line.split_first() {
            Some((b'-', error)) => Err(error.to_vec()),
            Some(_) => Ok(()),
            None => return Err(ErrorKind::InvalidData.into()),
        })
    }
}
