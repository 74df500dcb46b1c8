//! What can be wrong with bytes on a link. Every one of these ends the link.

/// A link error. The link cannot go on after it; what was outstanding is
/// "unknown" unless no byte of it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The declared length is above the limit in force.
    #[error("frame of {len} bytes is above the limit of {limit}")]
    TooLong {
        /// Declared length, header included.
        len: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The declared length is below what this frame type needs.
    #[error("frame of type {kind} is too short: {len} bytes")]
    TooShort {
        /// Frame type as on the wire.
        kind: u8,
        /// Declared length, header included.
        len: usize,
    },
    /// A frame type that this version does not know.
    #[error("unknown frame type {0}")]
    UnknownFrame(u8),
    /// A field holds what it may not hold.
    #[error("bad {0} in a frame")]
    BadField(&'static str),
    /// A frame that may not come now (a request before the handshake, say).
    #[error("unexpected frame: {0}")]
    Unexpected(&'static str),
    /// The peer speaks another version.
    #[error("peer speaks link version {peer}, this program speaks {ours}")]
    Version {
        /// The peer's version.
        peer: u16,
        /// Ours.
        ours: u16,
    },
    /// The peer belongs to another cluster.
    #[error("peer belongs to cluster {0:?}")]
    Cluster(String),
    /// The peer does not know the cluster's secret.
    #[error("peer failed to prove that it knows the cluster secret")]
    Secret,
    /// The peer refused us and says why.
    #[error("refused by the peer: {0}")]
    Refused(String),
}
