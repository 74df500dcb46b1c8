//! The node's side of the handshake.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use cairn_protocol::link::{
    Decoder, HANDSHAKE_MAX_FRAME, Hello, LinkError, MAGIC, ServerHandshake, ServerStep, Welcome,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::Node;

/// A peer has so long for the whole handshake.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Who this node is, and what a peer must know to be let in.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cluster: String,
    pub node: String,
    /// Empty: none.
    pub secret: Vec<u8>,
    /// What every link is granted.
    pub welcome: Welcome,
}

impl Identity {
    pub fn of(node: &Node) -> Identity {
        let config = &node.config;
        Identity {
            cluster: config.name.clone(),
            node: config.node_id.clone(),
            secret: config.secret.clone().unwrap_or_default().into_bytes(),
            welcome: Welcome::default(),
        }
    }
}

/// Why a peer was not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("the handshake took longer than {TIME_LIMIT:?}")]
    TooSlow,
}

/// Lets the peer in, or tells it why not. With it, what it has sent since.
pub(super) async fn shake_hands(
    stream: &mut TcpStream,
    identity: &Identity,
) -> Result<(Hello, BytesMut), Refused> {
    // Cancelled, the connection is closed.
    tokio::time::timeout(TIME_LIMIT, run(stream, identity))
        .await
        .unwrap_or(Err(Refused::TooSlow))
}

async fn run(stream: &mut TcpStream, identity: &Identity) -> Result<(Hello, BytesMut), Refused> {
    let mut magic = [0; 4];
    stream.read_exact(&mut magic).await?;
    if magic != MAGIC {
        return Err(LinkError::Unexpected("no link's first bytes").into());
    }
    let Identity {
        cluster,
        node,
        secret,
        welcome,
    } = identity;
    let mut handshake = ServerHandshake::new(cluster, node, secret, rand::random(), *welcome);
    let decoder = Decoder::new(HANDSHAKE_MAX_FRAME);
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    loop {
        while let Some(frame) = decoder.take_one(&mut input)? {
            let step = handshake.on_frame(&frame, &mut output);
            stream.write_all_buf(&mut output).await?;
            if let ServerStep::Done(hello) = step? {
                return Ok((hello, input));
            }
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}
