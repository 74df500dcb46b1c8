//! Accepts clients and deals them out to the network threads.

use super::connection;
use super::registry::{ClientInfo, Shared};
use super::thread::Thread;
use crate::config::Config;
use crate::route::RouteMap;
use crate::users::{self, Users};
use anyhow::Context;
use cairn_protocol::topology::{TopologyStore, UsersRecord, Versioned};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 511;
/// Pause after a failed accept (no file descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
const PROTECTED: &[u8] = b"-DENIED This proxy runs in protected mode: it has no password and \
takes connections from this machine only. Either give it --requirepass, or, if the network around \
it is trusted, --protected-mode no, or --bind an address that only trusted machines can reach.\r\n";

type Accepted = (Arc<ClientInfo>, TcpStream);

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    /// Dropped to stop accepting.
    accepting: Option<watch::Sender<()>>,
    acceptor: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Listens and serves `users`, with the routes that `routes` brings.
    ///
    /// # Errors
    /// An address that cannot be listened on, a thread that cannot be made.
    pub fn start(
        config: Config,
        users: Arc<Users>,
        routes: watch::Receiver<Arc<RouteMap>>,
    ) -> anyhow::Result<Self> {
        let listeners = listen(&config)?;
        let addresses = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<io::Result<Vec<_>>>()?;
        let shared = Shared::new(config, users);
        let mut senders = Vec::new();
        let mut workers = Vec::new();
        for index in 0..shared.config.io_threads {
            let (sender, receiver) = mpsc::unbounded_channel();
            let (shared, routes) = (shared.clone(), routes.clone());
            let work = move || run_worker(shared, index, routes, receiver);
            workers.push(named(format!("net-{index}"), work)?);
            senders.push(sender);
        }
        let (accepting, stop) = watch::channel(());
        let accept = {
            let shared = shared.clone();
            move || run_acceptor(&shared, listeners, senders, stop)
        };
        let acceptor = Some(named("accept".into(), accept)?);
        Ok(Self {
            shared,
            addresses,
            accepting: Some(accepting),
            acceptor,
            workers,
        })
    }

    /// Has changes of users made in `store`, by the runtime of the caller.
    pub fn keep_users_in(&self, store: TopologyStore) {
        self.shared.users.keep_in(store);
    }

    /// What the cluster says of users: `None` if nobody has set any.
    pub fn follow(&self, record: Option<&Versioned<UsersRecord>>) {
        let changes = self.shared.users.follow(record);
        users::dismiss(&self.shared.registry, &changes);
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting, lets clients have the answers to what they asked, for
    /// at most `grace`, and ends the threads.
    pub fn stop(mut self, grace: Duration) {
        self.accepting.take();
        self.shared.draining.store(true, Relaxed);
        let deadline = Instant::now() + grace;
        while self.shared.registry.len() > 0 && Instant::now() < deadline {
            self.shared
                .registry
                .all()
                .iter()
                .for_each(|info| info.waker.wake());
            std::thread::sleep(Duration::from_millis(5));
        }
        for thread in self
            .acceptor
            .take()
            .into_iter()
            .chain(self.workers.drain(..))
        {
            if thread.join().is_err() {
                tracing::error!("a network thread ended in a panic");
            }
        }
    }
}

fn named(name: String, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name)
        .spawn(work)
        .context("cannot make a network thread")
}

/// One listener per address; all with the same port.
fn listen(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    let mut port = config.port;
    let mut listeners = Vec::new();
    for &address in &config.bind {
        let listener = listen_at(address, port)
            .with_context(|| format!("cannot listen on {address} port {port}"))?;
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

fn listen_at(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let at = SocketAddr::new(address, port);
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn runtime() -> Option<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    built
        .inspect_err(|error| tracing::error!(%error, "cannot make a runtime"))
        .ok()
}

fn run_acceptor(
    shared: &Arc<Shared>,
    listeners: Vec<TcpListener>,
    workers: Vec<mpsc::UnboundedSender<Accepted>>,
    mut stop: watch::Receiver<()>,
) {
    let Some(runtime) = runtime() else { return };
    runtime.block_on(async {
        let listeners = listeners.into_iter().map(tokio::net::TcpListener::from_std);
        let listeners: Vec<_> = listeners.filter_map(Result::ok).collect();
        for next in 0usize.. {
            let accepts = listeners.iter().map(|listener| Box::pin(listener.accept()));
            // Both branches may be dropped: an accept that is not ready has
            // taken nothing.
            let accepted = tokio::select! {
                (accepted, _, _) = futures::future::select_all(accepts) => accepted,
                _ = stop.changed() => return,
            };
            match accepted.and_then(|(stream, peer)| admit(shared, stream.into_std()?, peer)) {
                Ok(Some(client)) => {
                    let id = client.0.id;
                    if workers[next % workers.len()].send(client).is_err() {
                        shared.registry.remove(Some(id));
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
}

/// Takes a connection in, or says why not and closes it.
fn admit(shared: &Shared, mut stream: TcpStream, peer: SocketAddr) -> io::Result<Option<Accepted>> {
    let users = &shared.users.registry;
    let (maxclients, open) = {
        let settings = shared.settings.lock();
        (
            settings.maxclients,
            !settings.protected_mode || !users.default_has_no_password(),
        )
    };
    let refusal = if !open && !peer.ip().to_canonical().is_loopback() {
        Some(PROTECTED)
    } else if !shared.registry.admit(maxclients) {
        Some(TOO_MANY)
    } else {
        None
    };
    if let Some(text) = refusal {
        shared.rejected.fetch_add(1, Relaxed);
        // A fresh socket has room for it; if not, the client learns less.
        let _ = stream.write(text);
        return Ok(None);
    }
    let prepared = stream.set_nodelay(true).and_then(|()| stream.local_addr());
    match prepared {
        Ok(local) => {
            shared.accepted.fetch_add(1, Relaxed);
            Ok(Some((
                shared.registry.add(
                    peer.to_string(),
                    local.to_string(),
                    users.default_user().clone(),
                ),
                stream,
            )))
        }
        Err(_) => {
            // The client is gone already.
            shared.registry.remove(None);
            Ok(None)
        }
    }
}

/// A network thread: serves its clients until there are no more to come.
fn run_worker(
    shared: Arc<Shared>,
    index: usize,
    routes: watch::Receiver<Arc<RouteMap>>,
    mut clients: mpsc::UnboundedReceiver<Accepted>,
) {
    let Some(runtime) = runtime() else { return };
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let thread = Thread::start(shared.clone(), index, routes);
        while let Some((info, stream)) = clients.recv().await {
            let (thread, shared) = (thread.clone(), shared.clone());
            tokio::task::spawn_local(async move {
                let id = info.id;
                match tokio::net::TcpStream::from_std(stream) {
                    Ok(stream) => connection::serve(thread, info, stream).await,
                    Err(error) => tracing::warn!(%error, "cannot serve a connection"),
                }
                shared.registry.remove(Some(id));
            });
        }
    });
}
