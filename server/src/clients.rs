//! What all clients together cost, and which must go when that is too much
//! (`maxmemory-clients`).
//!
//! Counted only while there is a limit: each client adds what changed since it
//! was counted last, so that nobody looks at all of them but to end some.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Settings;
use crate::net::session::Client;
use crate::server::Server;

/// See the module's documentation.
#[derive(Default)]
pub struct ClientMemory {
    /// Bytes; 0: no limit.
    limit: AtomicUsize,
    /// Bytes of all clients that are counted.
    total: AtomicUsize,
}

impl ClientMemory {
    /// Takes over what the settings are now.
    pub fn follow(&self, settings: &Settings) {
        let text = settings.text("maxmemory-clients");
        let limit = match text.strip_suffix('%') {
            Some(percent) => {
                let percent: usize = percent.parse().unwrap_or(0);
                settings.count("maxmemory") / 100 * percent
            }
            None => settings.count("maxmemory-clients"),
        };
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether clients are counted.
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.limit.load(Ordering::Relaxed) > 0
    }

    /// Whether some client must go.
    #[inline]
    pub fn is_exceeded(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        limit > 0 && self.total.load(Ordering::Relaxed) >= limit
    }

    /// A client that was counted as `counted` costs `now`.
    pub fn count(&self, counted: &AtomicUsize, now: usize) {
        let before = counted.swap(now, Ordering::Relaxed);
        // Wraps around zero and back: the sum is right in the end.
        let change = now.wrapping_sub(before);
        self.total.fetch_add(change, Ordering::Relaxed);
    }
}

impl Server {
    /// Counts every client anew: the limit has changed.
    pub fn recount_clients(&self) {
        for client in self.clients.iter() {
            client.count_memory();
        }
        self.evict_clients();
    }

    /// Ends the clients that cost most until the others are within the limit.
    pub fn evict_clients(&self) {
        let memory = &self.live.client_memory;
        if !memory.is_exceeded() {
            return;
        }
        let clients = self.clients.iter().map(|entry| entry.value().clone());
        let may_go =
            |client: &Arc<Client>| !client.is_killed() && !client.no_evict.load(Ordering::Relaxed);
        let mut clients: Vec<Arc<Client>> = clients.filter(may_go).collect();
        clients.sort_by_cached_key(|client| std::cmp::Reverse(client.memory()));
        for client in clients {
            if !memory.is_exceeded() {
                return;
            }
            tracing::info!(
                client = client.id,
                bytes = client.memory(),
                "evicted: clients cost more than maxmemory-clients"
            );
            client.evict();
            client.count_memory();
            self.pubsub().forget(&client);
            self.stats.evicted_clients.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_follows_each_client() {
        let memory = ClientMemory::default();
        let mut settings = Settings::default();
        settings.put("maxmemory-clients", "100");
        memory.follow(&settings);
        let (a, b) = (AtomicUsize::new(0), AtomicUsize::new(0));
        memory.count(&a, 60);
        memory.count(&b, 39);
        assert!(!memory.is_exceeded());
        memory.count(&b, 40);
        assert!(memory.is_exceeded());
        memory.count(&a, 0);
        assert!(!memory.is_exceeded());
    }

    #[test]
    fn a_percentage_is_of_maxmemory() {
        let memory = ClientMemory::default();
        let mut settings = Settings::default();
        settings.put("maxmemory-clients", "7%");
        memory.follow(&settings);
        assert!(!memory.is_limited());
        settings.put("maxmemory", "1000");
        memory.follow(&settings);
        memory.count(&AtomicUsize::new(0), 69);
        assert!(!memory.is_exceeded());
        memory.count(&AtomicUsize::new(0), 1);
        assert!(memory.is_exceeded());
    }
}
