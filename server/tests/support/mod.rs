//! A server, or a redis-server, of one's own, and clients of it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cairn_protocol::resp::{FrameScanner, ScanLimits, encode_request};

const DEADLINE: Duration = Duration::from_secs(30);

/// A running server in a temporary folder; killed when dropped.
pub struct Server {
    child: Child,
    pub port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn start(flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_cairn-server"))
            .current_dir(folder.path())
            .env_remove("CAIRN_LOG")
            .args(flags)
            .args(["--port", "0", "--memory-limit", "64mb"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let port = loop {
            let mut line = String::new();
            let n = log.read_line(&mut line).unwrap();
            assert_ne!(n, 0, "the server ended:\n{seen}");
            seen.push_str(&line);
            if line.contains("Ready to accept connections") {
                let (_, rest) = line.split_once("port=").expect("the line names the port");
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        // The pipe must not fill up.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Server {
            child,
            port,
            _folder: folder,
        }
    }

    pub fn connect(&self) -> Client {
        Client::to(self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A redis-server of this machine, if there is one.
#[allow(dead_code, reason = "not every file of tests has a peer")]
pub fn redis() -> Option<Server> {
    redis_with(&["--enable-debug-command", "yes"])
}

/// The same with flags of its own.
#[allow(dead_code, reason = "not every file of tests has a peer")]
pub fn redis_with(flags: &[&str]) -> Option<Server> {
    let folder = tempfile::tempdir().unwrap();
    let port = {
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        free.local_addr().unwrap().port()
    };
    let child = Command::new("redis-server")
        .current_dir(folder.path())
        .args(["--port", &port.to_string(), "--save", ""])
        .args(flags)
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    Some(Server {
        child,
        port,
        _folder: folder,
    })
}

/// A connection that shows replies as they come.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub fn to(port: u16) -> Client {
        let deadline = Instant::now() + DEADLINE;
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "port {port}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client {
            stream,
            input: Vec::new(),
        }
    }

    pub fn send(&mut self, words: &[&str]) {
        let mut request = Vec::new();
        encode_request(&mut request, words.iter().map(|w| w.as_bytes()));
        self.stream.write_all(&request).unwrap();
    }

    #[allow(dead_code, reason = "few tests break the protocol")]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// One whole reply as it was on the wire.
    pub fn reply(&mut self) -> String {
        let reply = self.try_reply();
        reply.unwrap_or_else(|| panic!("closed in the middle of a reply: {:?}", self.input))
    }

    /// The same; `None`: the connection was closed.
    pub fn try_reply(&mut self) -> Option<String> {
        let mut scanner = FrameScanner::new(ScanLimits::default());
        loop {
            if let Some(len) = scanner.scan(&self.input).unwrap() {
                let reply: Vec<u8> = self.input.drain(..len).collect();
                return Some(String::from_utf8_lossy(&reply).into_owned());
            }
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
