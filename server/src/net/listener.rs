//! The network threads: each accepts on all sockets and runs what it accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::LocalSet;

use super::address::Address;
use super::connection;
use super::session::Client;
use super::sockets::{addresses, bind_all, clones};
use super::turns::Turns;
use super::unix::{UnixSocket, as_connection};
use crate::config::client_addresses;
use crate::link::{Http2, Identity, PeerPort, peer_addresses};
use crate::server::{Home, Server};
use crate::storage::count_nothing;

/// Threads for cold reads and other blocking work, per network thread.
const BLOCKING_THREADS: usize = 16;

/// The running network threads.
pub struct Network {
    threads: Vec<JoinHandle<()>>,
    /// Where clients are accepted.
    pub addresses: Vec<SocketAddr>,
    /// Where proxies and other nodes are.
    pub peer_addresses: Vec<SocketAddr>,
    /// Kept for its file, which is removed with it.
    _unix: Option<UnixSocket>,
}

impl Network {
    /// Waits until every thread has ended (see [`Server::request_stop`]).
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a network thread panicked");
            }
        }
    }
}

/// Binds all addresses and starts the threads.
///
/// # Errors
/// An address cannot be bound; the message names it.
pub fn start(server: &Arc<Server>) -> std::io::Result<Network> {
    start_all(server, &[], None)
}

/// [`start`] for a node of a cluster, with its peer port. Connections that
/// speak HTTP/2 there are handed to `http2`.
///
/// # Errors
/// As [`start`]; also a peer port that may not be bound (no secret).
pub fn start_node(server: &Arc<Server>, http2: Option<Http2>) -> std::io::Result<Network> {
    let Home::Node(node) = &server.home else {
        return start(server);
    };
    let ips = peer_addresses(&node.config, &server.config.bind)?;
    let peers = bind_all(&ips, node.config.peer_port)?;
    start_all(server, &peers, http2)
}

fn start_all(
    server: &Arc<Server>,
    peers: &[std::net::TcpListener],
    http2: Option<Http2>,
) -> std::io::Result<Network> {
    let config = &server.config;
    server
        .sockets
        .replace(&client_addresses(&config.settings), config.port)?;
    let unix = UnixSocket::open(&config.settings)?;
    let mut threads = Vec::new();
    for i in 0..config.io_threads.max(1) {
        let doors = Doors {
            unix: unix.as_ref().map(UnixSocket::share).transpose()?,
            peers: clones(peers)?,
            http2: http2.clone(),
        };
        let server = server.clone();
        let thread = std::thread::Builder::new().name(format!("net-{i}"));
        threads.push(thread.spawn(move || network_thread(server, doors))?);
    }
    Ok(Network {
        threads,
        addresses: server.sockets.addresses()?,
        peer_addresses: addresses(peers)?,
        _unix: unix,
    })
}

/// How much less of the processor a cold read gets than a network thread, which all
/// clients wait for, where both want it.
const NICER: i32 = 5;

fn give_way() {
    // SAFETY: sets the calling thread's priority, no memory is involved. A refusal
    // changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICER) };
}

/// What a network thread accepts on, besides the sockets that may be exchanged.
struct Doors {
    /// With its path.
    unix: Option<(std::os::unix::net::UnixListener, &'static str)>,
    peers: Vec<std::net::TcpListener>,
    http2: Option<Http2>,
}

fn network_thread(server: Arc<Server>, doors: Doors) {
    count_nothing();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("cold")
        .on_thread_start(give_way)
        .build()
        .expect("a runtime needs only an epoll descriptor");
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let turns = Turns::default();
        tokio::task::spawn_local(turns.clone().run());
        if let Some((socket, path)) = doors.unix {
            match UnixListener::from_std(socket) {
                Ok(listener) => {
                    let door = Door::Unix(listener, path);
                    let task = accept(server.clone(), door, turns.clone());
                    tokio::task::spawn_local(task);
                }
                Err(error) => tracing::error!(%error, path, "the Unix socket cannot be used"),
            }
        }
        tokio::task::spawn_local(accept_all(server.clone(), turns.clone()));
        if let Home::Node(node) = &server.home {
            let identity = Identity::of(node);
            let port = PeerPort::new(server.clone(), node.clone(), identity, doors.http2, turns);
            for socket in doors.peers {
                match TcpListener::from_std(socket) {
                    Ok(listener) => {
                        tokio::task::spawn_local(port.clone().accept(listener));
                    }
                    Err(error) => tracing::error!(%error, "the peer port cannot be used"),
                }
            }
        }
        server.stopped().await;
        connection::drain(&server).await;
    });
}

/// Accepts on all sockets, also after they were exchanged.
async fn accept_all(server: Arc<Server>, turns: Turns) {
    let mut sockets = server.sockets.subscribe();
    loop {
        let listeners = clones(sockets.borrow_and_update().iter());
        let mut accepting = Vec::new();
        for socket in listeners.unwrap_or_default() {
            match TcpListener::from_std(socket) {
                Ok(listener) => {
                    let door = Door::Tcp(listener);
                    let task = accept(server.clone(), door, turns.clone());
                    accepting.push(tokio::task::spawn_local(task));
                }
                Err(error) => tracing::error!(%error, "a listening socket cannot be used"),
            }
        }
        // Both only tell that something has changed.
        tokio::select! {
            changed = sockets.changed() => if changed.is_err() {
                return;
            },
            () = server.stopped() => return,
        }
        accepting.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Where clients come in.
enum Door {
    Tcp(TcpListener),
    /// With its path.
    Unix(UnixListener, &'static str),
}

/// A client that has come in, and both ends of its connection.
struct Guest {
    stream: TcpStream,
    peer: Address,
    local: Address,
}

impl Door {
    /// Waits for a client. Cancelling it loses none.
    async fn accept(&self) -> std::io::Result<Guest> {
        match *self {
            Door::Tcp(ref listener) => {
                let (stream, peer) = listener.accept().await?;
                let local = stream.local_addr().unwrap_or(peer);
                // Better a slow client than none.
                let _ = stream.set_nodelay(true);
                Ok(Guest {
                    stream,
                    peer: peer.into(),
                    local: local.into(),
                })
            }
            Door::Unix(ref listener, path) => {
                let (stream, _) = listener.accept().await?;
                let here = Address::Unix(path);
                Ok(Guest {
                    stream: as_connection(stream)?,
                    peer: here,
                    local: here,
                })
            }
        }
    }
}

async fn accept(server: Arc<Server>, door: Door, turns: Turns) {
    loop {
        // Cancelled only with the whole thread.
        let accepted = tokio::select! {
            accepted = door.accept() => accepted,
            () = server.stopped() => return,
        };
        match accepted {
            Ok(guest) => admit(&server, guest, &turns),
            // The socket was closed under it.
            Err(_) if server.is_stopping() => return,
            Err(error) => {
                // Out of descriptors, most likely: let some close.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit(server: &Arc<Server>, guest: Guest, turns: &Turns) {
    let Guest {
        stream,
        peer,
        local,
    } = guest;
    server
        .stats
        .connections_received
        .fetch_add(1, Ordering::Relaxed);
    let limit = server.live.maxclients.load(Ordering::Relaxed);
    if server.connected.load(Ordering::Relaxed) >= limit {
        server
            .stats
            .rejected_connections
            .fetch_add(1, Ordering::Relaxed);
        refuse(stream, b"-ERR max number of clients reached\r\n");
        return;
    }
    if !peer.is_local() && server.is_protected() {
        server
            .stats
            .rejected_connections
            .fetch_add(1, Ordering::Relaxed);
        refuse(stream, PROTECTED);
        return;
    }
    let client = Arc::new(Client::new(
        server.next_client_id(),
        peer,
        local,
        server.live.clone(),
        server.acl.default_user().clone(),
    ));
    client
        .descriptor
        .store(std::os::fd::AsRawFd::as_raw_fd(&stream), Ordering::Relaxed);
    server.clients.insert(client.id, client.clone());
    server.connected.fetch_add(1, Ordering::Relaxed);
    tokio::task::spawn_local(connection::serve(
        server.clone(),
        client,
        stream,
        turns.clone(),
    ));
}

fn refuse(stream: TcpStream, line: &'static [u8]) {
    // A fresh socket has room for one line; if not, closing says it too.
    let _ = stream.try_write(line);
}

const PROTECTED: &[u8] = b"-DENIED Cairn is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. To accept others, set a password (requirepass), or start the server \
with --protected-mode no if nobody else can reach it.\r\n";
