//! The stream between the leaders of a move's two groups (gRPC).

use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::topology::NodeAddress;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::{Asked, Movers};
use crate::migration::{DestStatus, ToDest};

/// The generated messages and service.
#[allow(clippy::all, missing_docs)]
mod wire {
    tonic::include_proto!("cairn.peer");
}

use wire::migration_client::MigrationClient;
use wire::migration_server::{Migration, MigrationServer};
use wire::{FromGroup, ToGroup};

/// Messages in flight on a stream; beyond, the sender waits.
const WINDOW: usize = 16;
/// Largest message: a part of a chunk, or a batch of increments, and change.
const MAX_MESSAGE: usize = 64 << 20;
const CONNECT: Duration = Duration::from_secs(2);
pub(in crate::cluster) const TOKEN: &str = "cairn-peer";

/// What proves that a peer knows the cluster's secret. The peer port is on
/// loopback where there is none.
pub(in crate::cluster) fn token(cluster: &str, secret: Option<&str>) -> String {
    let mut hash = Sha256::new();
    for part in ["cairn peer", cluster, secret.unwrap_or_default()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// The service for the peer port.
pub fn service(movers: Arc<Movers>) -> MigrationServer<impl Migration> {
    let config = &movers.node.config;
    let token = token(&config.name, config.secret.as_deref());
    MigrationServer::new(Service { movers, token })
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

struct Service {
    movers: Arc<Movers>,
    token: String,
}

#[tonic::async_trait]
impl Migration for Service {
    type MoveStream = ReceiverStream<Result<FromGroup, Status>>;

    async fn r#move(
        &self,
        request: Request<Streaming<ToGroup>>,
    ) -> Result<Response<Self::MoveStream>, Status> {
        let given = request.metadata().get(TOKEN).map(|t| t.as_bytes());
        if given != Some(self.token.as_bytes()) {
            return Err(Status::unauthenticated(
                "another cluster, or another secret",
            ));
        }
        let (out, answers) = mpsc::channel(WINDOW);
        tokio::spawn(relay(self.movers.clone(), request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// Hands messages to their tasks and answers to the stream, until either ends.
async fn relay(
    movers: Arc<Movers>,
    mut messages: Streaming<ToGroup>,
    out: mpsc::Sender<Result<FromGroup, Status>>,
) {
    let (replies, mut statuses) = mpsc::channel::<DestStatus>(WINDOW);
    loop {
        // Both are cancel safe: a stream's message or a queue's item is taken
        // whole or not at all.
        tokio::select! {
            message = messages.next() => {
                let Some(Ok(message)) = message else { return };
                if let Err(status) = hand_over(&movers, message, &replies).await {
                    let _ = out.send(Err(status)).await;
                    return;
                }
            }
            Some(status) = statuses.recv() => {
                let answer = FromGroup { status: status.encode() };
                if out.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn hand_over(
    movers: &Arc<Movers>,
    message: ToGroup,
    replies: &mpsc::Sender<DestStatus>,
) -> Result<(), Status> {
    let asked =
        ToDest::decode(message.message).map_err(|e| Status::invalid_argument(e.to_string()))?;
    let hosted = movers
        .node
        .find(message.group)
        .filter(|h| h.group.is_ready());
    let hosted = hosted.ok_or_else(|| {
        Status::unavailable(format!("group {} is not led by this node", message.group))
    })?;
    let queue = movers.dest_task(&hosted, asked.plan());
    let asked = Asked {
        message: asked,
        replies: replies.clone(),
    };
    // A task that has just ended: the source asks again.
    let _ = queue.send(asked).await;
    Ok(())
}

/// The source's end: queues messages, yields statuses; both close when the
/// connection is lost.
pub(super) struct Link {
    pub messages: mpsc::Sender<ToDest>,
    pub statuses: mpsc::Receiver<DestStatus>,
}

/// Connects to the leader of `group` at `address`; returns at once.
pub(super) fn connect(movers: &Movers, address: &NodeAddress, group: u32) -> Link {
    let (messages, outgoing) = mpsc::channel(WINDOW);
    let (incoming, statuses) = mpsc::channel(WINDOW);
    let config = &movers.node.config;
    let token = token(&config.name, config.secret.as_deref());
    let url = format!("http://{}:{}", address.host, address.peer_port);
    tokio::spawn(async move {
        if let Err(error) = stream(&url, &token, group, outgoing, incoming).await {
            tracing::debug!(url, group, %error, "the stream of a move ended");
        }
    });
    Link { messages, statuses }
}

async fn stream(
    url: &str,
    token: &str,
    group: u32,
    outgoing: mpsc::Receiver<ToDest>,
    incoming: mpsc::Sender<DestStatus>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(4));
    let mut client = MigrationClient::new(endpoint.connect().await?)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let messages = ReceiverStream::new(outgoing).map(move |message| ToGroup {
        group,
        message: message.encode(),
    });
    let mut request = Request::new(messages);
    request
        .metadata_mut()
        .insert(TOKEN, MetadataValue::try_from(token)?);
    let mut statuses = client.r#move(request).await?.into_inner();
    while let Some(answer) = statuses.message().await? {
        let status = DestStatus::decode(answer.status)?;
        if incoming.send(status).await.is_err() {
            break;
        }
    }
    Ok(())
}
