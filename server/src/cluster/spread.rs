//! PUBLISH on its way to the subscribers of other nodes (gRPC), and the wait for
//! their function libraries and users.
//!
//! One stream to each node that the topology names. As pub/sub is, so is this:
//! at most once, in the order of each publisher; what a node cannot take now
//! is not kept for it beyond a bounded queue. Knows nothing of clients.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_protocol::slot::key_slot;
use cairn_protocol::topology::Topology;
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::functions::Functions;
use super::mover::{TOKEN, token};
use super::node::Node;
use super::users::Users;
use crate::announce::Announcer;
use crate::pubsub::{Kind, Origin};
use crate::server::Server;

/// The generated messages and service.
#[allow(clippy::all, missing_docs)]
mod wire {
    tonic::include_proto!("cairn.pubsub");
}

use wire::spread_client::SpreadClient;
pub use wire::spread_server::{Spread as SpreadService, SpreadServer};
use wire::{Done, Message, Revision};

/// Messages, and bytes of them, that wait for one node at most.
const QUEUE: usize = 4096;
const QUEUE_BYTES: usize = 64 << 20;
/// Messages in flight on a stream.
const WINDOW: usize = 64;
/// Above the longest argument that a client may send.
const MAX_MESSAGE: usize = 1 << 30;
const CONNECT: Duration = Duration::from_secs(2);
/// Wait before a node is connected to again.
const RETRY: Duration = Duration::from_millis(200);
/// How often the topology is looked at without news of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The other nodes, as publishers see them.
#[derive(Default)]
pub struct Spread {
    /// Written when the topology changes.
    peers: RwLock<HashMap<String, Peer>>,
}

struct Peer {
    url: String,
    queue: mpsc::Sender<Message>,
    /// Bytes in the queue.
    queued: Arc<AtomicUsize>,
}

impl Spread {
    /// Sends a message to the subscribers of all other nodes. Never waits.
    pub fn send(&self, channel: &[u8], payload: &[u8]) {
        let peers = self.peers.read();
        if peers.is_empty() {
            return;
        }
        let message = Message {
            channel: Bytes::copy_from_slice(channel),
            payload: Bytes::copy_from_slice(payload),
        };
        let len = size(&message);
        for (node, peer) in peers.iter() {
            let before = peer.queued.fetch_add(len, Ordering::Relaxed);
            let fits = before == 0 || before + len <= QUEUE_BYTES;
            if !fits || peer.queue.try_send(message.clone()).is_err() {
                peer.queued.fetch_sub(len, Ordering::Relaxed);
                tracing::debug!(node, "a message is not sent: the node does not keep up");
            }
        }
    }

    /// Has a stream to each of the other nodes that are alive.
    fn follow(&self, node: &Node, topology: &Topology) {
        let own = &node.config.node_id;
        let wanted: HashMap<&String, String> = topology
            .nodes
            .iter()
            .filter(|(id, _)| *id != own)
            .map(|(id, record)| {
                let record = &record.value;
                (id, format!("http://{}:{}", record.host, record.peer_port))
            })
            .collect();
        let same = |id: &String, peer: &Peer| wanted.get(id).is_some_and(|url| *url == peer.url);
        let peers = self.peers.read();
        if peers.len() == wanted.len() && peers.iter().all(|(id, peer)| same(id, peer)) {
            return;
        }
        drop(peers);
        let mut peers = self.peers.write();
        // A dropped queue ends its task.
        peers.retain(|id, peer| same(id, peer));
        for (id, url) in &wanted {
            if !peers.contains_key(*id) {
                peers.insert((*id).clone(), Peer::start(node, url.clone()));
            }
        }
    }
}

impl Peer {
    fn start(node: &Node, url: String) -> Peer {
        let (queue, messages) = mpsc::channel(QUEUE);
        let queued = Arc::new(AtomicUsize::new(0));
        tokio::spawn(stream_for_ever(
            url.clone(),
            own_token(node),
            messages,
            queued.clone(),
        ));
        Peer { url, queue, queued }
    }
}

fn size(message: &Message) -> usize {
    message.channel.len() + message.payload.len() + std::mem::size_of::<Message>()
}

/// Sends what is queued until the queue is dropped.
async fn stream_for_ever(
    url: String,
    token: String,
    mut queue: mpsc::Receiver<Message>,
    queued: Arc<AtomicUsize>,
) {
    loop {
        let (out, messages) = mpsc::channel(WINDOW);
        let mut call = tokio::spawn(stream(url.clone(), token.clone(), messages));
        loop {
            // Both are cancel safe: a message is taken whole or not at all.
            let message = tokio::select! {
                ended = &mut call => {
                    if let Ok(Err(error)) = ended {
                        tracing::debug!(url, %error, "the stream of messages ended");
                    }
                    break;
                }
                message = queue.recv() => message,
            };
            let Some(message) = message else { return };
            queued.fetch_sub(size(&message), Ordering::Relaxed);
            if out.send(message).await.is_err() {
                break;
            }
        }
        tokio::time::sleep(RETRY).await;
        if queue.is_closed() {
            return;
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn connect(url: String) -> Result<SpreadClient<tonic::transport::Channel>, Failure> {
    let endpoint = tonic::transport::Endpoint::from_shared(url)?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(4));
    Ok(SpreadClient::new(endpoint.connect().await?).max_encoding_message_size(MAX_MESSAGE))
}

fn signed<T>(message: T, token: String) -> Result<Request<T>, Failure> {
    let mut request = Request::new(message);
    let token = MetadataValue::try_from(token)?;
    request.metadata_mut().insert(TOKEN, token);
    Ok(request)
}

async fn stream(
    url: String,
    token: String,
    messages: mpsc::Receiver<Message>,
) -> Result<(), Failure> {
    let request = signed(ReceiverStream::new(messages), token)?;
    connect(url).await?.messages(request).await?;
    Ok(())
}

/// What this node shows to others.
pub(super) fn own_token(node: &Node) -> String {
    token(&node.config.name, node.config.secret.as_deref())
}

/// What every node takes in from etcd, and others wait for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Followed {
    Functions,
    Users,
}

/// Waits until the other living nodes have what etcd had at a revision, each
/// for `patience` at most: one that is cut off follows when it can.
pub(super) async fn await_others(node: &Node, what: Followed, revision: i64, patience: Duration) {
    let own = &node.config.node_id;
    let topology = node.topology.load();
    let others = topology.nodes.iter().filter(|(id, _)| *id != own);
    let asked: Vec<_> = others
        .map(|(id, record)| {
            let url = format!("http://{}:{}", record.host, record.peer_port);
            let call = await_node(url, own_token(node), what, revision);
            let call = tokio::spawn(tokio::time::timeout(patience, call));
            (id.clone(), call)
        })
        .collect();
    for (node, call) in asked {
        match call.await {
            Ok(Ok(Ok(()))) => {}
            outcome => tracing::warn!(node, ?what, ?outcome, "a node has not followed a change"),
        }
    }
}

async fn await_node(
    url: String,
    token: String,
    what: Followed,
    revision: i64,
) -> Result<(), Failure> {
    let request = signed(Revision { revision }, token)?;
    let mut node = connect(url).await?;
    match what {
        Followed::Functions => node.functions(request).await?,
        Followed::Users => node.users(request).await?,
    };
    Ok(())
}

/// The service for the peer port.
pub fn service(
    node: &Node,
    announcer: Arc<Announcer>,
    functions: Arc<Functions>,
    users: Arc<Users>,
) -> SpreadServer<impl SpreadService> {
    let service = Service {
        announcer,
        functions,
        users,
        token: own_token(node),
    };
    SpreadServer::new(service).max_decoding_message_size(MAX_MESSAGE)
}

struct Service {
    announcer: Arc<Announcer>,
    functions: Arc<Functions>,
    users: Arc<Users>,
    token: String,
}

impl Service {
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let given = request.metadata().get(TOKEN).map(|t| t.as_bytes());
        match given == Some(self.token.as_bytes()) {
            true => Ok(()),
            false => Err(Status::unauthenticated(
                "another cluster, or another secret",
            )),
        }
    }
}

#[tonic::async_trait]
impl SpreadService for Service {
    async fn messages(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Done>, Status> {
        self.check(&request)?;
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            let pubsub = &self.announcer.pubsub;
            pubsub.publish(&message.channel, &message.payload, Origin::Elsewhere);
        }
        Ok(Response::new(Done {}))
    }

    async fn functions(&self, request: Request<Revision>) -> Result<Response<Done>, Status> {
        self.check(&request)?;
        match self.functions.reached(request.into_inner().revision).await {
            true => Ok(Response::new(Done {})),
            false => Err(Status::deadline_exceeded("not there yet")),
        }
    }

    async fn users(&self, request: Request<Revision>) -> Result<Response<Done>, Status> {
        self.check(&request)?;
        match self.users.reached(request.into_inner().revision).await {
            true => Ok(Response::new(Done {})),
            false => Err(Status::deadline_exceeded("not there yet")),
        }
    }
}

/// Keeps streams to the nodes of the topology, and ends subscriptions to
/// sharded channels whose slots have moved away.
pub async fn follow(server: Arc<Server>, node: Arc<Node>) {
    let mut topology = node.topology.clone();
    loop {
        node.spread.follow(&node, &topology.load());
        let pubsub = server.pubsub();
        if pubsub.count(Kind::Shard) > 0 {
            pubsub.leave_shards(|channel| node.holder(key_slot(channel)).is_none());
        }
        tokio::select! {
            _ = topology.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = server.stopped() => return,
        }
    }
}
