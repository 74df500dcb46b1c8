//! Brings the topology from etcd to the network threads.

use crate::config::Config;
use crate::net::Proxy;
use crate::route::RouteMap;
use cairn_protocol::topology::{
    ProxyRecord, ProxyRegistration, StoreConfig, StoreError, Topology, TopologyStore,
    TopologyWatch, now_ms,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often a proxy that waits for a cluster says so.
const REMINDER: Duration = Duration::from_secs(5);

/// A proxy's ties to etcd; both end when it is dropped.
pub struct Feed {
    registration: ProxyRegistration,
    watch: TopologyWatch,
    store: TopologyStore,
}

impl Feed {
    /// Follows the cluster and registers this proxy. etcd need not be up.
    ///
    /// # Errors
    /// Names or URLs that can never work.
    pub async fn start(config: &Config, port: u16) -> Result<Self, StoreError> {
        let store = TopologyStore::connect(StoreConfig::new(&config.cluster, &config.etcd)).await?;
        let registration = store.register_proxy(ProxyRecord {
            id: config.id.clone(),
            host: config.advertise.clone(),
            port,
            version: env!("CARGO_PKG_VERSION").into(),
            started_at_ms: now_ms(),
        });
        Ok(Self {
            registration,
            watch: store.watch(Topology::default()),
            store,
        })
    }

    /// Passes every change on to `proxy`, users first, until nobody listens.
    pub async fn run(&self, proxy: &Proxy, routes: watch::Sender<Arc<RouteMap>>) {
        proxy.keep_users_in(self.store.clone());
        let mut watch = self.watch.clone();
        let mut known = false;
        while !routes.is_closed() {
            // Cancelling `changed` loses nothing.
            match tokio::time::timeout(REMINDER, watch.changed()).await {
                Ok(topology) => {
                    proxy.follow(topology.users.as_deref());
                    let map = RouteMap::from_topology(&topology);
                    known |= map.slots.iter().any(|owner| owner.group != 0);
                    routes.send_if_modified(|old| {
                        let news = **old != map;
                        *old = Arc::new(map);
                        news
                    });
                }
                Err(_) if !known => self.say_what_is_missing(),
                Err(_) => {}
            }
        }
    }

    fn say_what_is_missing(&self) {
        match self.watch.status().problem {
            Some(problem) => tracing::warn!(%problem, "waiting for etcd"),
            None => {
                tracing::warn!("waiting for the cluster's slot map: was `cluster-admin init` run?")
            }
        }
    }

    /// Takes the proxy out of etcd.
    pub async fn stop(self) {
        self.registration.deregister().await;
    }
}
