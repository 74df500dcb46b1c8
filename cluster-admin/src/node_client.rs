//! Asking a node or proxy over RESP, for health and sizes.
//!
//! One short-lived connection a question; every step has a time limit.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use cairn_protocol::resp::{Frame, FrameScanner, ScanLimits, Version, decode};
use cairn_protocol::slot::SlotSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Time limit of one question.
const LIMIT: Duration = Duration::from_secs(2);
/// Answers are small: a status, a number, a page of text.
const MAX_REPLY: usize = 1 << 20;

/// What some slots take on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotStats {
    /// Live keys.
    pub keys: u64,
    /// Bytes on disk, about.
    pub bytes: u64,
    /// Free bytes of the disk under the node's data directory.
    pub disk_free_bytes: u64,
}

/// Sends one command and reads its reply.
///
/// # Errors
/// Not reachable, no answer in time, or no RESP. An error reply is a reply.
pub async fn ask(host: &str, port: u16, command: &[&str]) -> anyhow::Result<Frame> {
    let question = format!("{} at {host}:{port}", command.join(" "));
    let exchange = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&encode(command)).await?;
        read_reply(&mut stream).await
    };
    match tokio::time::timeout(LIMIT, exchange).await {
        Ok(reply) => reply.context(question),
        Err(_) => bail!("{question}: no answer within {LIMIT:?}"),
    }
}

fn encode(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        bytes.extend_from_slice(format!("${}\r\n{argument}\r\n", argument.len()).as_bytes());
    }
    bytes
}

async fn read_reply(stream: &mut TcpStream) -> anyhow::Result<Frame> {
    let limits = ScanLimits {
        max_frame: MAX_REPLY,
        max_bulk: MAX_REPLY,
        ..ScanLimits::default()
    };
    let mut scanner = FrameScanner::new(limits);
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        if let Some(length) = scanner.scan(&buffer)? {
            let reply: Bytes = buffer.split_to(length).freeze();
            return Ok(decode(&reply, Version::V2)?);
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            bail!("the connection was closed before the reply");
        }
    }
}

/// Whether it answers PING, and how fast.
///
/// # Errors
/// As `ask`, or an answer other than PONG (`-LOADING`, `-NOAUTH`, ...).
pub async fn ping(host: &str, port: u16) -> anyhow::Result<Duration> {
    let asked = Instant::now();
    match text_of(&ask(host, port, &["PING"]).await?) {
        Ok(pong) if pong == "PONG" => Ok(asked.elapsed()),
        Ok(other) | Err(other) => bail!("{host}:{port} answered PING with `{other}`"),
    }
}

/// What a set of slots takes on a node: `CLUSTER CAIRN-SLOT-STATS lo-hi` for
/// each range, which answers `[keys, bytes, disk_free_bytes]`.
///
/// # Errors
/// Not reachable, or a node that does not know the command.
pub async fn slot_stats(host: &str, port: u16, slots: &SlotSet) -> anyhow::Result<SlotStats> {
    let mut total = SlotStats::default();
    for (lo, hi) in slots.iter_ranges() {
        let range = format!("{lo}-{hi}");
        let reply = ask(host, port, &["CLUSTER", "CAIRN-SLOT-STATS", &range]).await?;
        let [keys, bytes, disk_free_bytes] = numbers(&reply)?;
        total.keys += keys;
        total.bytes += bytes;
        total.disk_free_bytes = disk_free_bytes;
    }
    Ok(total)
}

fn numbers(reply: &Frame) -> anyhow::Result<[u64; 3]> {
    let Frame::Array { data, .. } = reply else {
        let text = text_of(reply).unwrap_or_else(|error| error);
        bail!("the node answered `{text}`");
    };
    let number = |frame: &Frame| match frame {
        Frame::Number { data, .. } => u64::try_from(*data).ok(),
        _ => None,
    };
    match data
        .iter()
        .map(number)
        .collect::<Option<Vec<u64>>>()
        .as_deref()
    {
        Some([keys, bytes, free]) => Ok([*keys, *bytes, *free]),
        _ => bail!(
            "the node answered {} values instead of 3 numbers",
            data.len()
        ),
    }
}

/// A reply as text; an error reply as `Err`.
pub fn text_of(reply: &Frame) -> Result<String, String> {
    match reply {
        Frame::SimpleError { data, .. } => Err(data.to_string()),
        Frame::SimpleString { data, .. } | Frame::BlobString { data, .. } => {
            Ok(String::from_utf8_lossy(data).into_owned())
        }
        Frame::Number { data, .. } => Ok(data.to_string()),
        Frame::Null => Ok("(nil)".into()),
        other => Ok(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that answers each connection with the next of these replies.
    async fn answering(replies: &'static [&'static str]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for reply in replies {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 256];
                let _length = stream.read(&mut request).await.unwrap();
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn sizes_of_all_ranges_are_added_up() {
        let port = answering(&["*3\r\n:1\r\n:100\r\n:9\r\n", "*3\r\n:2\r\n:50\r\n:8\r\n"]).await;
        let stats = slot_stats("127.0.0.1", port, &"0-9,20".parse().unwrap())
            .await
            .unwrap();
        assert_eq!(
            stats,
            SlotStats {
                keys: 3,
                bytes: 150,
                disk_free_bytes: 8
            }
        );
    }

    #[tokio::test]
    async fn a_node_that_does_not_know_the_command_is_named() {
        let port = answering(&["-ERR unknown subcommand\r\n"]).await;
        let error = slot_stats("127.0.0.1", port, &"0".parse().unwrap())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("unknown subcommand"), "{error}");
    }

    #[tokio::test]
    async fn only_pong_is_healthy() {
        let port = answering(&["+PONG\r\n", "-LOADING replaying\r\n", ""]).await;
        ping("127.0.0.1", port).await.unwrap();
        let error = ping("127.0.0.1", port).await.unwrap_err().to_string();
        assert!(error.contains("LOADING"), "{error}");
        assert!(ping("127.0.0.1", port).await.is_err());
    }
}
