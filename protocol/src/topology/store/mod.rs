//! Typed transactions on the records of one cluster.
//!
//! `cluster` holds what changes membership and groups, `plans` what changes
//! moves, `version` what is allowed by now. Every change compares what it was based on; every call has a time
//! limit and asks for an etcd leader. A failed call says by
//! `StoreError::is_definite` whether anything may have changed.

mod cluster;
mod functions;
mod plans;
mod users;
mod version;

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, GetOptions, KeyValue, KvClient, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};

pub use cluster::NewCluster;
pub use functions::FunctionChange;
pub use plans::{FreshProof, NewPlan, PlanProgressWriter, Verdict};

use super::error::StoreError;
use super::keys::{Keys, RecordKey, is_valid_id};
use super::records::Record;
use super::snapshot::{Topology, Versioned};

/// Records of one page of a listing.
const PAGE: i64 = 1000;
/// Tries of a read before its failure is reported; endpoints may be down.
const READ_TRIES: u32 = 3;
/// Tries of a transaction whose base changed meanwhile.
const CONFLICT_TRIES: u32 = 5;

/// How to reach etcd, and which cluster is meant.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Name of the cluster, see `is_valid_id`.
    pub cluster: String,
    /// URLs of etcd's members; `http://` may be left out.
    pub endpoints: Vec<String>,
    /// Time limit of one call.
    pub call_timeout: Duration,
    /// Time after which a silent node or proxy counts as gone; whole seconds,
    /// at least 2.
    pub lease_ttl: Duration,
}

impl StoreConfig {
    /// Defaults for a cluster and a comma-separated list of URLs.
    pub fn new(cluster: &str, endpoints: &str) -> Self {
        let urls = endpoints
            .split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty());
        Self {
            cluster: cluster.into(),
            endpoints: urls.map(Into::into).collect(),
            call_timeout: Duration::from_secs(5),
            lease_ttl: Duration::from_secs(10),
        }
    }

    /// Checks what etcd would otherwise refuse late.
    ///
    /// # Errors
    /// `StoreError::Invalid` with what to change.
    pub fn validate(&self) -> Result<(), StoreError> {
        let invalid = |why: String| Err(StoreError::Invalid(why));
        if !is_valid_id(&self.cluster) {
            return invalid(format!(
                "`{}` is no cluster name: use 1 to 64 of letters, digits, `.`, `_`, `-`",
                self.cluster
            ));
        }
        if self.endpoints.is_empty() {
            return invalid("no etcd URL was given".into());
        }
        if self.lease_ttl < Duration::from_secs(2) {
            return invalid("the lease time must be at least 2 seconds".into());
        }
        Ok(())
    }
}

/// The records of one cluster in etcd. Cheap to clone; clones share the
/// connection.
#[derive(Clone)]
pub struct TopologyStore {
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(super) config: Arc<StoreConfig>,
}

impl TopologyStore {
    /// Prepares the connection. etcd need not be up: calls fail until it is.
    ///
    /// # Errors
    /// `StoreError::Invalid` for a configuration that can never work.
    pub async fn connect(config: StoreConfig) -> Result<Self, StoreError> {
        config.validate()?;
        let options = ConnectOptions::new()
            .with_require_leader(true)
            .with_connect_timeout(config.call_timeout)
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_keep_alive_while_idle(true);
        let client = Client::connect(&config.endpoints, Some(options))
            .await
            .map_err(|source| {
                StoreError::Invalid(format!("etcd at {}: {source}", config.endpoints.join(",")))
            })?;
        let keys = Keys::new(&config.cluster);
        Ok(Self {
            client,
            keys,
            config: Arc::new(config),
        })
    }

    /// Name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.config.cluster
    }

    /// The URLs in use.
    pub fn endpoints(&self) -> &[String] {
        &self.config.endpoints
    }

    /// Reads everything at one revision.
    ///
    /// # Errors
    /// etcd did not answer. Unreadable records are noted in the result instead.
    pub async fn list(&self) -> Result<Topology, StoreError> {
        let mut topology = Topology::default();
        let mut from = self.keys.prefix().as_bytes().to_vec();
        let end = prefix_end(&from);
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            if topology.revision > 0 {
                options = options.with_revision(topology.revision);
            }
            let page = self.read("list", &from, options).await?;
            if topology.revision == 0 {
                topology.revision = page.header().map_or(0, |h| h.revision());
            }
            for kv in page.kvs() {
                topology.put(&self.keys, kv.key(), kv.value(), kv.mod_revision());
            }
            match page.kvs().last() {
                Some(last) if page.more() => from = [last.key(), b"\0"].concat(),
                _ => return Ok(topology),
            }
        }
    }

    /// One linearizable read, tried again when an endpoint fails.
    async fn read(
        &self,
        call: &'static str,
        key: &[u8],
        options: GetOptions,
    ) -> Result<etcd_client::GetResponse, StoreError> {
        let mut tries = 1;
        loop {
            let mut kv = self.kv();
            let got = self.within(call, kv.get(key, Some(options.clone()))).await;
            match got {
                Err(StoreError::Etcd { .. }) if tries < READ_TRIES => tries += 1,
                done => return done,
            }
        }
    }

    /// One record, if it is there.
    pub(super) async fn get<T: Record>(
        &self,
        key: &RecordKey,
    ) -> Result<Option<Versioned<T>>, StoreError> {
        let path = self.keys.path(key);
        let got = self.read("get", path.as_bytes(), GetOptions::new()).await?;
        got.kvs().first().map(decode_kv).transpose()
    }

    /// One transaction; the caller looks at `succeeded`.
    pub(super) async fn txn(
        &self,
        call: &'static str,
        txn: Txn,
    ) -> Result<TxnResponse, StoreError> {
        let mut kv = self.kv();
        self.within(call, kv.txn(txn)).await
    }

    /// Runs one call of the client under the time limit.
    pub(super) async fn within<T>(
        &self,
        call: &'static str,
        future: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, StoreError> {
        let after = self.config.call_timeout;
        match tokio::time::timeout(after, future).await {
            Ok(done) => done.map_err(|source| StoreError::Etcd { call, source }),
            Err(_) => Err(StoreError::Timeout { call, after }),
        }
    }

    fn kv(&self) -> KvClient {
        self.client.kv_client()
    }

    /// Puts a record, in a transaction.
    fn put_op<T: Record>(&self, key: &RecordKey, record: &T) -> TxnOp {
        TxnOp::put(self.keys.path(key), record.encode(), None)
    }

    /// Reads a record, in a transaction.
    fn get_op(&self, key: &RecordKey) -> TxnOp {
        TxnOp::get(self.keys.path(key), None)
    }

    /// That a record is not there.
    pub(super) fn absent(&self, key: &RecordKey) -> Compare {
        Compare::create_revision(self.keys.path(key), CompareOp::Equal, 0)
    }

    /// That a record is there, whatever it says.
    fn present(&self, key: &RecordKey) -> Compare {
        Compare::create_revision(self.keys.path(key), CompareOp::Greater, 0)
    }

    /// That a record was not changed since it was read.
    pub(super) fn unchanged(&self, key: &RecordKey, mod_revision: i64) -> Compare {
        Compare::mod_revision(self.keys.path(key), CompareOp::Equal, mod_revision)
    }

    /// That no record below a path (`groups/`) changed after a revision. What
    /// was deleted since goes unseen.
    fn unchanged_below(&self, path: &str, revision: i64) -> Compare {
        let prefix = format!("{}{path}", self.keys.prefix());
        Compare::mod_revision(prefix, CompareOp::Less, revision + 1).with_prefix()
    }
}

/// The answers of a transaction's `get` operations, in order; none where the
/// record is absent.
fn gets(response: &TxnResponse) -> Vec<Option<KeyValue>> {
    let answers = response.op_responses().into_iter();
    answers
        .filter_map(|op| match op {
            TxnOpResponse::Get(get) => Some(get.kvs().first().cloned()),
            _ => None,
        })
        .collect()
}

/// The revision at which a response was made.
fn revision_of(response: &TxnResponse) -> i64 {
    response.header().map_or(0, |h| h.revision())
}

/// Reads an etcd value as a record.
fn decode_kv<T: Record>(kv: &KeyValue) -> Result<Versioned<T>, StoreError> {
    let value = T::decode(kv.value()).map_err(|source| StoreError::Record {
        key: String::from_utf8_lossy(kv.key()).into_owned(),
        source,
    })?;
    Ok(Versioned {
        value,
        mod_revision: kv.mod_revision(),
    })
}

/// First key after all that begin with a prefix (which ends in `/`, so that its
/// last byte can be raised).
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_urls_is_split_and_checked() {
        let config = StoreConfig::new("c1", "http://a:2379, b:2379,");
        assert_eq!(config.endpoints, ["http://a:2379", "b:2379"]);
        config.validate().unwrap();
        for (cluster, urls) in [("c/1", "a:1"), ("", "a:1"), ("c1", " , ")] {
            let error = StoreConfig::new(cluster, urls).validate().unwrap_err();
            assert!(error.is_definite(), "{error}");
        }
    }
}
