//! The first four frames of a link: who is there, and do both know the secret?
//!
//! ```text
//!  proxy                                        node
//!  "CRNL" HELLO   version, kind, nonce, cluster, id  ->
//!         <- CHALLENGE  version, nonce, node id, the node's proof
//!         PROOF   the proxy's proof                  ->
//!         <- WELCOME  window of a session    (or REFUSE, with a text)
//!
//!  all have the common header (flags, aux and id are 0), then
//!  HELLO 1      | version u16 | kind u8 | 0 u8 | nonce [16] | cluster len u8 | cluster | id
//!  CHALLENGE 2  | version u16 | 0 u16          | nonce [16] | proof [32]     | node id
//!  PROOF 3      | proof [32]
//!  WELCOME 4    | max frame u32 | requests u32 | bytes u32 | features u32
//!  REFUSE 5     | text
//!
//!  proof = HMAC-SHA256(secret, "cairn link node " or "cairn link proxy",
//!                      HELLO body, CHALLENGE body without its proof)
//! ```
//!
//! A WELCOME that ends before its features is of a node that has none, and one that
//! is longer than this is read as far as it is known.
//!
//! Both sides prove; with no secret configured the secret is empty, so that a
//! program with a secret and one without never meet. Randomness is the
//! caller's: a nonce must never repeat.

use super::frame::{put_header, u16_at, u32_at};
use super::hmac::{hmac_sha256, same};
use super::{Batch, HEADER_LEN, LinkError, MAGIC, VERSION};
use bytes::{BufMut, Bytes, BytesMut};

const HELLO: u8 = 1;
const CHALLENGE: u8 = 2;
const PROOF: u8 = 3;
const WELCOME: u8 = 4;
const REFUSE: u8 = 5;

const NODE_LABEL: &[u8] = b"cairn link node ";
const PROXY_LABEL: &[u8] = b"cairn link proxy";

/// What opened the link. Frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PeerKind {
    /// A `cairn-proxy`.
    Proxy = 1,
    /// A node that forwards a client's command.
    Node = 2,
    /// `cluster-admin`.
    Admin = 3,
    /// A `cairn-proxy` that wants the node's replication feed ([`super::feed`]).
    Feed = 4,
}

/// Who opens the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What it is.
    pub kind: PeerKind,
    /// Its cluster's name; at most 255 bytes.
    pub cluster: String,
    /// Its own name, for logs.
    pub id: String,
}

/// What a node can do beyond what every node of this version can. A bit that the
/// proxy does not know means nothing to it. Frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(pub u32);

impl Features {
    /// Large replies in pieces: [`super::RequestFlags::PIECES`] and GRANT.
    pub const PIECES: Self = Self(1);

    /// Are all bits of `other` set?
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a node grants to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Longest frame that the node accepts, in bytes.
    pub max_frame: u32,
    /// Unanswered requests that one logical connection may have.
    pub requests: u32,
    /// Bytes of unanswered requests that one logical connection may have; a
    /// single request may be longer.
    pub bytes: u32,
    /// What it can do besides.
    pub features: Features,
}

impl Default for Welcome {
    fn default() -> Self {
        Self {
            max_frame: super::DEFAULT_MAX_FRAME as u32,
            requests: 1024,
            bytes: 4 << 20,
            features: Features::PIECES,
        }
    }
}

/// The opening side, between its HELLO and the node's WELCOME.
#[derive(Debug)]
pub struct ClientHandshake {
    hello: Bytes,
    secret: Vec<u8>,
    proved: bool,
}

/// What the opening side does next.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// Send what was written to `out`, then go on reading.
    Continue {
        /// The node's id.
        node: String,
    },
    /// The link is open.
    Done(Welcome),
}

impl ClientHandshake {
    /// Writes the magic and HELLO to `out`.
    ///
    /// # Errors
    /// [`LinkError::BadField`] if a name is longer than 255 bytes.
    pub fn start(
        hello: &Hello,
        secret: &[u8],
        nonce: [u8; 16],
        out: &mut BytesMut,
    ) -> Result<Self, LinkError> {
        let body = encode_hello(hello, nonce)?;
        out.put_slice(&MAGIC);
        put_frame(out, HELLO, &[&body]);
        Ok(Self {
            hello: body,
            secret: secret.to_vec(),
            proved: false,
        })
    }

    /// Takes the next frame (from [`super::Decoder::take_one`]) and writes what
    /// must be sent to `out`.
    ///
    /// # Errors
    /// Whatever ends the link: another version, a wrong secret, a refusal.
    pub fn on_frame(&mut self, frame: &Batch, out: &mut BytesMut) -> Result<ClientStep, LinkError> {
        let (kind, body) = split(frame)?;
        match kind {
            REFUSE => Err(LinkError::Refused(
                String::from_utf8_lossy(body).into_owned(),
            )),
            CHALLENGE if !self.proved => self.on_challenge(body, out),
            WELCOME if self.proved => decode_welcome(body).map(ClientStep::Done),
            _ => Err(LinkError::Unexpected("handshake frame out of order")),
        }
    }

    fn on_challenge(&mut self, body: &[u8], out: &mut BytesMut) -> Result<ClientStep, LinkError> {
        let challenge = Challenge::decode(body)?;
        check_version(challenge.version)?;
        let expected = challenge.proof_of(NODE_LABEL, &self.secret, &self.hello);
        if !same(&expected, challenge.proof) {
            return Err(LinkError::Secret);
        }
        self.proved = true;
        put_frame(
            out,
            PROOF,
            &[&challenge.proof_of(PROXY_LABEL, &self.secret, &self.hello)],
        );
        Ok(ClientStep::Continue {
            node: String::from_utf8_lossy(challenge.node).into_owned(),
        })
    }
}

/// The node's side, after [`MAGIC`] was consumed.
#[derive(Debug)]
pub struct ServerHandshake {
    cluster: String,
    node: String,
    secret: Vec<u8>,
    nonce: [u8; 16],
    welcome: Welcome,
    /// The peer, and the proof that it must bring.
    expected: Option<(Hello, [u8; 32])>,
}

/// What the node does next.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerStep {
    /// Send what was written to `out`, then go on reading.
    Continue,
    /// Send what was written to `out`; the link is open.
    Done(Hello),
}

impl ServerHandshake {
    /// A node's side of one link.
    pub fn new(
        cluster: &str,
        node: &str,
        secret: &[u8],
        nonce: [u8; 16],
        welcome: Welcome,
    ) -> Self {
        Self {
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            secret: secret.to_vec(),
            nonce,
            welcome,
            expected: None,
        }
    }

    /// Takes the next frame and writes what must be sent to `out`, also when
    /// the answer is an error: then `out` holds a REFUSE; send it and close.
    ///
    /// # Errors
    /// Another version or cluster, a wrong proof, a frame out of order.
    pub fn on_frame(&mut self, frame: &Batch, out: &mut BytesMut) -> Result<ServerStep, LinkError> {
        let step = split(frame).and_then(|(kind, body)| match (kind, self.expected.take()) {
            (HELLO, None) => self.on_hello(body, out),
            (PROOF, Some((hello, proof))) if same(&proof, body) => {
                put_welcome(out, self.welcome);
                Ok(ServerStep::Done(hello))
            }
            (PROOF, Some(_)) => Err(LinkError::Secret),
            _ => Err(LinkError::Unexpected("handshake frame out of order")),
        });
        if let Err(error) = &step {
            put_frame(out, REFUSE, &[error.to_string().as_bytes()]);
        }
        step
    }

    fn on_hello(&mut self, body: &[u8], out: &mut BytesMut) -> Result<ServerStep, LinkError> {
        let hello = decode_hello(body)?;
        if hello.cluster != self.cluster {
            return Err(LinkError::Cluster(hello.cluster));
        }
        let (nonce, node) = (self.nonce, self.node.clone());
        let head = challenge_head(&nonce);
        let unproved = Challenge {
            version: VERSION,
            head: &head,
            proof: &[],
            node: node.as_bytes(),
        };
        let proof = unproved.proof_of(NODE_LABEL, &self.secret, body);
        self.expected = Some((hello, unproved.proof_of(PROXY_LABEL, &self.secret, body)));
        put_frame(out, CHALLENGE, &[&head, &proof, node.as_bytes()]);
        Ok(ServerStep::Continue)
    }
}

struct Challenge<'a> {
    version: u16,
    /// Version, two zero bytes and the nonce.
    head: &'a [u8],
    proof: &'a [u8],
    node: &'a [u8],
}

impl<'a> Challenge<'a> {
    fn decode(body: &'a [u8]) -> Result<Self, LinkError> {
        if body.len() < 52 {
            return Err(LinkError::TooShort {
                kind: CHALLENGE,
                len: HEADER_LEN + body.len(),
            });
        }
        Ok(Self {
            version: u16_at(body, 0),
            head: &body[..20],
            proof: &body[20..52],
            node: &body[52..],
        })
    }

    fn proof_of(&self, label: &[u8], secret: &[u8], hello: &[u8]) -> [u8; 32] {
        let len = (hello.len() as u32).to_le_bytes();
        hmac_sha256(secret, &[label, &len, hello, self.head, self.node])
    }
}

fn challenge_head(nonce: &[u8; 16]) -> [u8; 20] {
    let mut head = [0u8; 20];
    head[..2].copy_from_slice(&VERSION.to_le_bytes());
    head[4..].copy_from_slice(nonce);
    head
}

fn check_version(peer: u16) -> Result<(), LinkError> {
    if peer == VERSION {
        Ok(())
    } else {
        Err(LinkError::Version {
            peer,
            ours: VERSION,
        })
    }
}

fn encode_hello(hello: &Hello, nonce: [u8; 16]) -> Result<Bytes, LinkError> {
    let cluster_len =
        u8::try_from(hello.cluster.len()).map_err(|_| LinkError::BadField("cluster name"))?;
    if hello.id.len() > 255 {
        return Err(LinkError::BadField("peer id"));
    }
    let mut body = BytesMut::new();
    body.put_u16_le(VERSION);
    body.put_u8(hello.kind as u8);
    body.put_u8(0);
    body.put_slice(&nonce);
    body.put_u8(cluster_len);
    body.put_slice(hello.cluster.as_bytes());
    body.put_slice(hello.id.as_bytes());
    Ok(body.freeze())
}

fn decode_hello(body: &[u8]) -> Result<Hello, LinkError> {
    if body.len() < 21 {
        return Err(LinkError::TooShort {
            kind: HELLO,
            len: HEADER_LEN + body.len(),
        });
    }
    check_version(u16_at(body, 0))?;
    let kind = match body[2] {
        1 => PeerKind::Proxy,
        2 => PeerKind::Node,
        3 => PeerKind::Admin,
        4 => PeerKind::Feed,
        _ => return Err(LinkError::BadField("peer kind")),
    };
    let cluster_end = 21 + usize::from(body[20]);
    if cluster_end > body.len() {
        return Err(LinkError::BadField("cluster name"));
    }
    let text = |bytes: &[u8], what| {
        String::from_utf8(bytes.to_vec()).map_err(|_| LinkError::BadField(what))
    };
    Ok(Hello {
        kind,
        cluster: text(&body[21..cluster_end], "cluster name")?,
        id: text(&body[cluster_end..], "peer id")?,
    })
}

fn put_welcome(out: &mut BytesMut, welcome: Welcome) {
    let mut body = [0u8; 16];
    body[..4].copy_from_slice(&welcome.max_frame.to_le_bytes());
    body[4..8].copy_from_slice(&welcome.requests.to_le_bytes());
    body[8..12].copy_from_slice(&welcome.bytes.to_le_bytes());
    body[12..].copy_from_slice(&welcome.features.0.to_le_bytes());
    put_frame(out, WELCOME, &[&body]);
}

fn decode_welcome(body: &[u8]) -> Result<Welcome, LinkError> {
    if body.len() < 12 {
        return Err(LinkError::TooShort {
            kind: WELCOME,
            len: HEADER_LEN + body.len(),
        });
    }
    let welcome = Welcome {
        max_frame: u32_at(body, 0),
        requests: u32_at(body, 4),
        bytes: u32_at(body, 8),
        features: match body.len() {
            16.. => Features(u32_at(body, 12)),
            _ => Features::default(),
        },
    };
    if welcome.requests == 0 || welcome.bytes == 0 {
        return Err(LinkError::BadField("window"));
    }
    Ok(welcome)
}

fn put_frame(out: &mut BytesMut, kind: u8, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    put_header(out, HEADER_LEN + len, kind, 0, 0, 0);
    for part in parts {
        out.put_slice(part);
    }
}

/// Type and body of the one frame in `batch`.
fn split(batch: &Batch) -> Result<(u8, &[u8]), LinkError> {
    let frame = batch
        .raw()
        .next()
        .ok_or(LinkError::Unexpected("no frame"))?;
    let bytes = frame.as_slice();
    Ok((bytes[4], &bytes[HEADER_LEN..]))
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, HANDSHAKE_MAX_FRAME};
    use super::*;

    fn hello() -> Hello {
        Hello {
            kind: PeerKind::Proxy,
            cluster: "c1".into(),
            id: "p1".into(),
        }
    }

    fn one(wire: &mut BytesMut) -> Batch {
        Decoder::new(HANDSHAKE_MAX_FRAME)
            .take_one(wire)
            .unwrap()
            .unwrap()
    }

    /// Runs both sides; what the client and the node came to.
    fn meet(
        client_secret: &[u8],
        node_secret: &[u8],
        node_cluster: &str,
    ) -> (Result<ClientStep, LinkError>, Result<ServerStep, LinkError>) {
        let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
        let mut client = ClientHandshake::start(&hello(), client_secret, [1; 16], &mut up).unwrap();
        let mut node =
            ServerHandshake::new(node_cluster, "n1", node_secret, [2; 16], Welcome::default());
        assert_eq!(up.split_to(4), &MAGIC[..]);
        let first = node.on_frame(&one(&mut up), &mut down);
        let reply = client.on_frame(&one(&mut down), &mut up);
        if first.is_err() || reply.is_err() {
            return (reply, first);
        }
        assert_eq!(reply, Ok(ClientStep::Continue { node: "n1".into() }));
        let second = node.on_frame(&one(&mut up), &mut down);
        (client.on_frame(&one(&mut down), &mut up), second)
    }

    #[test]
    fn two_that_share_a_secret_meet() {
        for secret in [&b""[..], b"s3cret"] {
            let (client, node) = meet(secret, secret, "c1");
            assert_eq!(client, Ok(ClientStep::Done(Welcome::default())));
            assert_eq!(node, Ok(ServerStep::Done(hello())));
        }
    }

    #[test]
    fn a_wrong_or_missing_secret_is_found_by_the_client_first() {
        for (client, node) in [(&b"a"[..], &b"b"[..]), (b"", b"b"), (b"a", b"")] {
            assert_eq!(meet(client, node, "c1").0, Err(LinkError::Secret));
        }
    }

    #[test]
    fn a_node_refuses_a_client_that_cannot_prove() {
        let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
        ClientHandshake::start(&hello(), b"", [1; 16], &mut up).unwrap();
        let mut node = ServerHandshake::new("c1", "n1", b"s", [2; 16], Welcome::default());
        assert_eq!(up.split_to(4), &MAGIC[..]);
        assert_eq!(
            node.on_frame(&one(&mut up), &mut down),
            Ok(ServerStep::Continue)
        );
        down.clear();
        put_frame(&mut up, PROOF, &[&[0; 32]]);
        assert_eq!(
            node.on_frame(&one(&mut up), &mut down),
            Err(LinkError::Secret)
        );
        assert_eq!(down[4], REFUSE);
        put_frame(&mut up, PROOF, &[&[0; 32]]);
        assert!(
            node.on_frame(&one(&mut up), &mut down).is_err(),
            "one try only"
        );
    }

    #[test]
    fn another_cluster_is_refused_with_a_text() {
        let (client, node) = meet(b"", b"", "c2");
        assert_eq!(node, Err(LinkError::Cluster("c1".into())));
        assert_eq!(
            client,
            Err(LinkError::Refused("peer belongs to cluster \"c1\"".into()))
        );
    }

    #[test]
    fn another_version_is_refused() {
        let mut up = BytesMut::new();
        ClientHandshake::start(&hello(), b"", [1; 16], &mut up).unwrap();
        assert_eq!(up.split_to(4), &MAGIC[..]);
        up[HEADER_LEN] = 9;
        let mut node = ServerHandshake::new("c1", "n1", b"", [2; 16], Welcome::default());
        let result = node.on_frame(&one(&mut up), &mut BytesMut::new());
        assert_eq!(result, Err(LinkError::Version { peer: 9, ours: 1 }));
    }

    #[test]
    fn handshake_bytes_are_frozen() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
        let mut client = ClientHandshake::start(&hello(), b"s", [1; 16], &mut up).unwrap();
        let ones = "01".repeat(16);
        assert_eq!(
            hex(&up),
            format!(
                "43524e4c290000000100000000000000000000000100{}00{ones}0263317031",
                "01"
            )
        );
        assert_eq!(up.split_to(4), &MAGIC[..]);
        let mut node = ServerHandshake::new("c1", "n1", b"s", [2; 16], Welcome::default());
        node.on_frame(&one(&mut up), &mut down).unwrap();
        let twos = "02".repeat(16);
        assert!(hex(&down).starts_with(&format!("4600000002000000000000000000000001000000{twos}")));
        // Both proofs were computed with another HMAC implementation.
        assert_eq!(
            hex(&down[36..68]),
            "5e8dc34c9e3f8d52b8ca50edce9873552dd8ea63877d7767cdadd55d8c9ee825"
        );
        client.on_frame(&one(&mut down), &mut up).unwrap();
        assert_eq!(
            hex(&up),
            "30000000030000000000000000000000\
             971ec691fcd55bea0f77afa9401434ee747df1e52a590390cdd52a0846632693"
        );
        node.on_frame(&one(&mut up), &mut down).unwrap();
        assert_eq!(
            hex(&down),
            "20000000040000000000000000000000000000400004000000004000\
             01000000"
        );
    }

    #[test]
    fn a_node_that_says_nothing_of_features_has_none_and_later_ones_are_ignored() {
        let mut body = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0].to_vec();
        let read = |body: &[u8]| decode_welcome(body).unwrap().features;
        assert_eq!(read(&body), Features::default());
        assert!(!read(&body).has(Features::PIECES));
        body.extend([0xff, 0xff, 0xff, 0xff, 7]);
        assert!(read(&body).has(Features::PIECES));
    }

    #[test]
    fn truncated_and_random_handshake_frames_are_errors_not_panics() {
        for kind in 0..8u8 {
            for len in 0..64usize {
                let mut wire = BytesMut::new();
                put_frame(&mut wire, kind, &[&vec![0x7f; len]]);
                let batch = one(&mut wire);
                let mut node = ServerHandshake::new("c", "n", b"", [0; 16], Welcome::default());
                assert!(node.on_frame(&batch, &mut BytesMut::new()).is_err());
                let mut client =
                    ClientHandshake::start(&hello(), b"", [0; 16], &mut BytesMut::new()).unwrap();
                assert!(client.on_frame(&batch, &mut BytesMut::new()).is_err());
            }
        }
    }
}
