//! What can go wrong between a program and etcd.

use std::time::Duration;

use super::records::RecordError;

/// A failed call of the topology store.
///
/// `is_definite` says whether a change may have happened all the same.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configuration cannot work (no endpoint, bad cluster name, bad id).
    #[error("{0}")]
    Invalid(String),
    /// etcd answered nothing in time; a change may or may not have happened.
    #[error("etcd did not answer `{call}` within {after:?}")]
    Timeout {
        /// What was asked.
        call: &'static str,
        /// The time limit that passed.
        after: Duration,
    },
    /// etcd could not be reached or refused; a change may or may not have happened.
    #[error("etcd failed `{call}`")]
    Etcd {
        /// What was asked.
        call: &'static str,
        /// The client library's own error.
        #[source]
        source: etcd_client::Error,
    },
    /// A record holds what this program cannot read.
    #[error("the record {key} cannot be read")]
    Record {
        /// etcd key.
        key: String,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// The cluster has no record yet.
    #[error(
        "cluster `{0}` does not exist in etcd: create it with `cluster-admin --cluster {0} init`"
    )]
    NoCluster(String),
    /// What the change was based on is not so (any more). Nothing was changed.
    #[error("{0}")]
    Conflict(String),
    /// The rules forbid the change. Nothing was changed.
    #[error("{0}")]
    Refused(String),
}

impl StoreError {
    /// Whether it is certain that nothing was changed.
    ///
    /// `false` means unknown: read back before doing anything else.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Timeout { .. } | Self::Etcd { .. })
    }

    /// Whether trying again later, unchanged, may succeed.
    pub fn is_transient(&self) -> bool {
        !self.is_definite()
    }
}
