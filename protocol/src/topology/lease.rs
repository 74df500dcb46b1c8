//! The leased records of living nodes and proxies.
//!
//! One task for each registration claims the node's id, takes a lease, puts the
//! record under it and keeps the lease alive. When etcd was away for longer than
//! the lease, it registers again. It never stops the process from serving; only
//! a refusal (the id belongs to another disk) is final, and the owner of the
//! registration must act on it.

use std::time::Duration;

use etcd_client::{Compare, PutOptions, Txn, TxnOp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::StoreError;
use super::keys::RecordKey;
use super::records::{MemberRecord, NodeLoad, NodeRecord, ProxyRecord, Record, now_ms};
use super::store::TopologyStore;
use super::watch::with_sources;

/// First and longest wait before etcd is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Longest wait of an orderly shutdown for etcd; the lease runs out anyway.
const DEREGISTER_LIMIT: Duration = Duration::from_secs(2);

/// How a registration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationState {
    /// Not (or no longer) registered, trying on; why, for people.
    Waiting(String),
    /// Registered under a lease.
    Live,
    /// Refused for good: the node must not serve as this id.
    Refused(String),
}

/// A node's registration. Dropping it lets the lease run out.
pub struct NodeRegistration(Registration<NodeRecord>);

/// A proxy's registration. Dropping it lets the lease run out.
pub struct ProxyRegistration(Registration<ProxyRecord>);

struct Registration<R> {
    record: watch::Sender<R>,
    state: watch::Receiver<RegistrationState>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl<R> Drop for Registration<R> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl<R> Registration<R> {
    async fn wait_live(&self) -> Result<(), StoreError> {
        let mut state = self.state.clone();
        let settled = state
            .wait_for(|s| !matches!(s, RegistrationState::Waiting(_)))
            .await;
        match settled.as_deref() {
            Ok(RegistrationState::Refused(why)) => Err(StoreError::Refused(why.clone())),
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::Conflict("the registration has ended".into())),
        }
    }

    async fn deregister(mut self) {
        self.stop.send_replace(true);
        if let Some(mut task) = self.task.take()
            && tokio::time::timeout(DEREGISTER_LIMIT, &mut task)
                .await
                .is_err()
        {
            task.abort();
        }
    }
}

impl NodeRegistration {
    /// Waits until the node is registered once.
    ///
    /// # Errors
    /// `Refused` with what to do about it.
    pub async fn wait_live(&self) -> Result<(), StoreError> {
        self.0.wait_live().await
    }

    /// How it stands, as a channel.
    pub fn state(&self) -> watch::Receiver<RegistrationState> {
        self.0.state.clone()
    }

    /// Reports the load; written when etcd is there.
    pub fn set_load(&self, load: NodeLoad) {
        self.0.record.send_if_modified(|r| {
            let news = r.load != load;
            r.load = load;
            news
        });
    }

    /// Takes the node out at once (orderly shutdown).
    pub async fn deregister(self) {
        self.0.deregister().await;
    }
}

impl ProxyRegistration {
    /// Waits until the proxy is registered once.
    ///
    /// # Errors
    /// `Refused`, or the registration has ended.
    pub async fn wait_live(&self) -> Result<(), StoreError> {
        self.0.wait_live().await
    }

    /// How it stands, as a channel.
    pub fn state(&self) -> watch::Receiver<RegistrationState> {
        self.0.state.clone()
    }

    /// Takes the proxy out at once (orderly shutdown).
    pub async fn deregister(self) {
        self.0.deregister().await;
    }
}

impl TopologyStore {
    /// Registers a node and keeps it registered: claims its id for its data
    /// directory (`claim_member`), then keeps `nodes/<id>` alive.
    pub fn register_node(&self, node: NodeRecord) -> NodeRegistration {
        NodeRegistration(self.register(node))
    }

    /// Registers a proxy and keeps it registered.
    pub fn register_proxy(&self, proxy: ProxyRecord) -> ProxyRegistration {
        ProxyRegistration(self.register(proxy))
    }

    fn register<R: Leased>(&self, record: R) -> Registration<R> {
        let (record_tx, record_rx) = watch::channel(record);
        let waiting = RegistrationState::Waiting("etcd was not asked yet".into());
        let (state_tx, state) = watch::channel(waiting);
        let (stop, stopped) = watch::channel(false);
        let keeper = Keeper {
            store: self.clone(),
            record: record_rx,
            state: state_tx,
            stopped,
        };
        let task = Some(tokio::spawn(keeper.run()));
        Registration {
            record: record_tx,
            state,
            stop,
            task,
        }
    }
}

/// What may be registered under a lease.
trait Leased: Record + Clone + Send + Sync + 'static {
    fn key(&self) -> RecordKey;
    /// Claims the right to the key; returns what the record's put must compare.
    fn claim(
        &self,
        store: &TopologyStore,
    ) -> impl Future<Output = Result<Vec<Compare>, StoreError>> + Send;
}

impl Leased for NodeRecord {
    fn key(&self) -> RecordKey {
        RecordKey::Node(self.id.clone())
    }

    async fn claim(&self, store: &TopologyStore) -> Result<Vec<Compare>, StoreError> {
        let member = MemberRecord {
            id: self.id.clone(),
            data_dir_id: self.data_dir_id.clone(),
            host: self.host.clone(),
            port: self.port,
            peer_port: self.peer_port,
            zone: self.zone.clone(),
            registered_at_ms: now_ms(),
        };
        let revision = store.claim_member(&member).await?;
        Ok(vec![
            store.unchanged(&RecordKey::Member(self.id.clone()), revision),
        ])
    }
}

impl Leased for ProxyRecord {
    fn key(&self) -> RecordKey {
        RecordKey::Proxy(self.id.clone())
    }

    async fn claim(&self, _: &TopologyStore) -> Result<Vec<Compare>, StoreError> {
        Ok(Vec::new())
    }
}

/// The task behind a registration.
struct Keeper<R> {
    store: TopologyStore,
    record: watch::Receiver<R>,
    state: watch::Sender<RegistrationState>,
    stopped: watch::Receiver<bool>,
}

/// Why a lease is no longer kept.
enum Ended {
    /// The owner wants it so.
    Stopped,
    /// Register again.
    Lost(String),
}

impl<R: Leased> Keeper<R> {
    async fn run(mut self) {
        let mut wait = BACKOFF.0;
        loop {
            let record = self.record.borrow().clone();
            let ended = match record.claim(&self.store).await {
                Err(e @ (StoreError::Refused(_) | StoreError::Invalid(_))) => {
                    tracing::error!(reason = %e, "the registration is refused");
                    self.state
                        .send_replace(RegistrationState::Refused(e.to_string()));
                    return;
                }
                Err(e) => Ended::Lost(with_sources(&e)),
                Ok(bases) => self.hold(bases, &mut wait).await,
            };
            match ended {
                Ended::Stopped => return,
                Ended::Lost(why) => self.report_waiting(why),
            }
            // Cancel safe: nothing is under way while it waits.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = self.stopped.wait_for(|stop| *stop) => return,
            }
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    /// Takes a lease, puts the record and keeps both until something ends it.
    async fn hold(&mut self, bases: Vec<Compare>, wait: &mut Duration) -> Ended {
        let ttl = self.store.config.lease_ttl.as_secs() as i64;
        let mut client = self.store.client.lease_client();
        let granted = self
            .store
            .within("grant lease", client.grant(ttl, None))
            .await;
        let lease = match granted {
            Ok(lease) => lease.id(),
            Err(e) => return Ended::Lost(with_sources(&e)),
        };
        let ended = match self.put_record(lease, &bases).await {
            Ok(()) => {
                *wait = BACKOFF.0;
                self.report_live();
                self.keep(lease, &bases).await
            }
            Err(ended) => ended,
        };
        if matches!(ended, Ended::Stopped) {
            // Best effort: otherwise the lease runs out by itself.
            let _revoked = self
                .store
                .within("revoke lease", client.revoke(lease))
                .await;
        }
        ended
    }

    async fn put_record(&mut self, lease: i64, bases: &[Compare]) -> Result<(), Ended> {
        let record = self.record.borrow_and_update().clone();
        let path = self.store.keys.path(&record.key());
        let options = PutOptions::new().with_lease(lease);
        let put = TxnOp::put(path, record.encode(), Some(options));
        let txn = Txn::new().when(bases).and_then([put]);
        match self.store.txn("register", txn).await {
            Ok(response) if response.succeeded() => Ok(()),
            Ok(_) => Err(Ended::Lost("the member record changed".into())),
            Err(e) => Err(Ended::Lost(with_sources(&e))),
        }
    }

    /// Keeps the lease alive and the record up to date.
    async fn keep(&mut self, lease: i64, bases: &[Compare]) -> Ended {
        let mut client = self.store.client.lease_client();
        let opened = self
            .store
            .within("keep lease", client.keep_alive(lease))
            .await;
        let (mut keeper, mut answers) = match opened {
            Ok(pair) => pair,
            Err(e) => return Ended::Lost(with_sources(&e)),
        };
        let mut beat = tokio::time::interval(self.store.config.lease_ttl / 3);
        loop {
            // All branches are cancel safe: a tick, a flag, and a change that stays
            // marked unseen; calls are made after the choice.
            let changed = tokio::select! {
                _ = beat.tick() => Ok(false),
                _ = self.stopped.wait_for(|stop| *stop) => Err(()),
                changed = self.record.changed() => changed.map(|()| true).map_err(drop),
            };
            match changed {
                Err(()) => return Ended::Stopped,
                Ok(false) => {}
                Ok(true) => match self.put_record(lease, bases).await {
                    Ok(()) => continue,
                    Err(ended) => return ended,
                },
            }
            let answer = self.store.within("keep lease", async {
                keeper.keep_alive().await?;
                answers.message().await
            });
            match answer.await {
                Ok(Some(alive)) if alive.ttl() > 0 => {}
                Ok(_) => return Ended::Lost("the lease ran out".into()),
                Err(e) => return Ended::Lost(with_sources(&e)),
            }
        }
    }

    fn report_live(&self) {
        tracing::info!(record = %self.record.borrow().key().relative(), "registered in etcd");
        self.state.send_replace(RegistrationState::Live);
    }

    /// Logs once, not once a try.
    fn report_waiting(&self, why: String) {
        let was_live = *self.state.borrow() == RegistrationState::Live;
        let first = matches!(&*self.state.borrow(), RegistrationState::Waiting(old) if *old != why);
        if was_live || first {
            tracing::warn!(%why, endpoints = self.store.endpoints().join(","), "not registered in etcd; trying on");
        }
        self.state.send_replace(RegistrationState::Waiting(why));
    }
}
