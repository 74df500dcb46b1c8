//! The peer port: who may bind it, and who gets a fresh connection.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::link::{Protocol, sniff};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::handshake::Identity;
use super::place::Place;
use super::pump::serve_at;
use crate::config::ClusterConfig;
use crate::net::Turns;
use crate::server::Server;

/// Connections of one thread that have not said yet what they are.
const MAX_STRANGERS: usize = 128;
/// A stranger has so long for its first four bytes.
const FIRST_BYTES: Duration = Duration::from_secs(5);
/// Between two looks at first bytes that came one by one.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Takes connections that speak HTTP/2, from their first byte on (nothing of
/// them was consumed); make a `tokio::net::TcpStream` of them on the runtime
/// that serves them.
pub type Http2 = mpsc::Sender<std::net::TcpStream>;

/// Where the peer port is bound: `bind` if peers must know a secret, else the
/// loopback interface alone.
///
/// # Errors
/// Others are told to reach this node from afar, but there is no secret; the
/// message says what to do.
pub fn peer_addresses(config: &ClusterConfig, bind: &[IpAddr]) -> io::Result<Vec<IpAddr>> {
    if config.secret.is_some() {
        return Ok(bind.to_vec());
    }
    match config
        .advertise
        .as_deref()
        .map(host_of)
        .filter(|host| !is_loopback(host))
    {
        None => Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
        Some(host) => Err(io::Error::other(format!(
            "this node is advertised as {host}, but without a shared secret its peer port listens \
             on the loopback interface only: set cluster-secret, the same on every node and proxy"
        ))),
    }
}

/// HOST of HOST[:PORT[:PEER]].
fn host_of(advertise: &str) -> &str {
    advertise.split(':').next().unwrap_or_default()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The peer port of one network thread.
#[derive(Clone)]
pub struct PeerPort {
    pub server: Arc<Server>,
    pub place: Arc<dyn Place>,
    pub identity: Rc<Identity>,
    pub http2: Option<Http2>,
    pub turns: Turns,
    strangers: Rc<Cell<usize>>,
}

impl PeerPort {
    pub fn new(
        server: Arc<Server>,
        place: Arc<dyn Place>,
        identity: Identity,
        http2: Option<Http2>,
        turns: Turns,
    ) -> PeerPort {
        let identity = Rc::new(identity);
        PeerPort {
            server,
            place,
            identity,
            http2,
            turns,
            strangers: Rc::default(),
        }
    }

    /// Accepts until the server stops.
    pub async fn accept(self, listener: TcpListener) {
        loop {
            // Cancelling an accept loses nothing: a connection is taken only on success.
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.server.stopped() => return,
            };
            match accepted {
                Ok((stream, _)) if self.strangers.get() < MAX_STRANGERS => {
                    tokio::task::spawn_local(self.clone().meet(stream));
                }
                Ok((_, peer)) => tracing::warn!(%peer, "too many strangers on the peer port"),
                Err(error) => {
                    // Out of descriptors, most likely: let some close.
                    tracing::warn!(%error, "accept failed on the peer port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Finds out what a connection speaks and passes it on.
    async fn meet(self, stream: TcpStream) {
        self.strangers.set(self.strangers.get() + 1);
        let protocol = tokio::time::timeout(FIRST_BYTES, first_bytes(&stream)).await;
        self.strangers.set(self.strangers.get() - 1);
        match protocol {
            Ok(Ok(Protocol::Link)) => {
                serve_at(self.server, self.place, self.identity, stream, self.turns).await;
            }
            Ok(Ok(Protocol::Http2)) => self.pass_on(stream).await,
            // Closed: neither, or nothing in time.
            _ => {}
        }
    }

    async fn pass_on(self, stream: TcpStream) {
        let (Some(http2), Ok(stream)) = (self.http2, stream.into_std()) else {
            return;
        };
        if http2.send(stream).await.is_err() {
            tracing::debug!("a peer's connection came after the service had stopped");
        }
    }
}

/// Looks at the first bytes without taking them.
async fn first_bytes(stream: &TcpStream) -> io::Result<Protocol> {
    let mut first = [0; 4];
    loop {
        let n = stream.peek(&mut first).await?;
        if n == 0 {
            return Ok(Protocol::Unknown);
        }
        if let Some(protocol) = sniff(&first[..n]) {
            return Ok(protocol);
        }
        // Peeking again answers at once with the same bytes.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(secret: Option<&str>, advertise: Option<&str>) -> ClusterConfig {
        ClusterConfig {
            name: "c".into(),
            etcd: Vec::new(),
            node_id: "n".into(),
            peer_port: 1,
            advertise: advertise.map(str::to_owned),
            zone: String::new(),
            secret: secret.map(str::to_owned),
        }
    }

    #[test]
    fn without_a_secret_the_peer_port_is_on_loopback_or_not_at_all() {
        let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        let local = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        assert_eq!(peer_addresses(&config(None, None), &all).unwrap(), local);
        assert_eq!(
            peer_addresses(&config(None, Some("127.0.0.1:1:2")), &all).unwrap(),
            local
        );
        assert_eq!(
            peer_addresses(&config(Some("s"), Some("db1")), &all).unwrap(),
            all
        );
        let refused = peer_addresses(&config(None, Some("db1:6379")), &all).unwrap_err();
        assert!(refused.to_string().contains("cluster-secret"), "{refused}");
    }
}
