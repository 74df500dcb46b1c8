//! The cluster version: what no node may write before all can read it.

use etcd_client::Txn;

use super::{CONFLICT_TRIES, StoreError, TopologyStore};
use crate::topology::keys::RecordKey;
use crate::topology::records::ClusterVersionRecord;
use crate::topology::snapshot::Versioned;

impl TopologyStore {
    /// The cluster version in force; 0 before there is a cluster.
    ///
    /// # Errors
    /// etcd did not answer, or the record cannot be read.
    pub async fn cluster_version(&self) -> Result<u32, StoreError> {
        let known: Option<Versioned<ClusterVersionRecord>> =
            self.get(&RecordKey::ClusterVersion).await?;
        Ok(known.map_or(0, |known| known.cluster_version))
    }

    /// Refuses what came with a later cluster version than the one in force, which
    /// never falls.
    ///
    /// # Errors
    /// `Refused`; or etcd did not answer.
    pub async fn require_version(&self, version: u32) -> Result<(), StoreError> {
        let in_force = self.cluster_version().await?;
        if in_force >= version {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "the cluster is at version {in_force} and this came with {version}: it rises by \
             itself once every node runs a program that knows it (`cluster-admin status`)"
        )))
    }

    /// Raises the cluster version to what every member supports. The new one; `None`
    /// if it stays.
    ///
    /// # Errors
    /// `Conflict` if nodes keep coming and going; or etcd did not answer.
    pub async fn raise_cluster_version(&self) -> Result<Option<u32>, StoreError> {
        for _ in 0..CONFLICT_TRIES {
            let topology = self.list().await?;
            let (Some(known), Some(next)) =
                (&topology.cluster_version, topology.next_cluster_version())
            else {
                return Ok(None);
            };
            let key = RecordKey::ClusterVersion;
            // Nobody has joined, or come back as another program, since.
            let bases = [
                self.unchanged(&key, known.mod_revision),
                self.unchanged_below("members/", topology.revision),
                self.unchanged_below("nodes/", topology.revision),
            ];
            let record = ClusterVersionRecord {
                cluster_version: next,
            };
            let txn = Txn::new()
                .when(bases)
                .and_then([self.put_op(&key, &record)]);
            if self.txn("raise cluster version", txn).await?.succeeded() {
                return Ok(Some(next));
            }
        }
        Err(super::cluster::busy())
    }
}
