//! Clients that hear of every key under a prefix.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::net::session::Client;

/// Prefixes with their clients. The lock is held while one entry's keys are
/// told, so that clients hear of entries in the order of the log.
#[derive(Default)]
pub(super) struct Broadcasts {
    state: Mutex<State>,
    count: AtomicUsize,
}

#[derive(Default)]
struct State {
    clients: BTreeMap<Bytes, BTreeMap<u64, Arc<Client>>>,
    /// How many prefixes there are of each length.
    lengths: BTreeMap<usize, usize>,
}

impl Broadcasts {
    /// Prefixes that somebody listens to.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn add(&self, prefix: &[u8], client: &Arc<Client>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let prefix = Bytes::copy_from_slice(prefix);
        let clients = state.clients.entry(prefix.clone()).or_insert_with(|| {
            *state.lengths.entry(prefix.len()).or_default() += 1;
            BTreeMap::new()
        });
        clients.insert(client.id, client.clone());
        self.count.store(state.clients.len(), Ordering::Relaxed);
    }

    pub fn remove(&self, prefix: &[u8], client: u64) {
        let mut state = self.state.lock();
        let Some(clients) = state.clients.get_mut(prefix) else {
            return;
        };
        clients.remove(&client);
        if clients.is_empty() {
            state.clients.remove(prefix);
            let left = state.lengths.entry(prefix.len()).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.lengths.remove(&prefix.len());
            }
        }
        self.count.store(state.clients.len(), Ordering::Relaxed);
    }

    /// Tells each client which of the changed keys are under its prefixes, one
    /// message a prefix. `changed`: keys, and who changed them last.
    pub fn fire(&self, changed: &BTreeMap<&[u8], u64>, mut tell: impl FnMut(&Client, &[&[u8]])) {
        let state = self.state.lock();
        for (prefix, keys) in state.by_prefix(changed) {
            let all: Vec<&[u8]> = keys.iter().map(|(key, _)| *key).collect();
            for client in state.clients[prefix].values() {
                if !client.tracking.mode().no_loop {
                    tell(client, &all);
                    continue;
                }
                let others = keys.iter().filter(|(_, by)| *by != client.id);
                let others: Vec<&[u8]> = others.map(|(key, _)| *key).collect();
                if !others.is_empty() {
                    tell(client, &others);
                }
            }
        }
    }
}

impl State {
    /// The keys under each prefix. Looks prefixes up by their lengths, which
    /// are few where prefixes are many.
    fn by_prefix<'k>(
        &self,
        changed: &BTreeMap<&'k [u8], u64>,
    ) -> BTreeMap<&Bytes, Vec<(&'k [u8], u64)>> {
        let mut found: BTreeMap<&Bytes, Vec<(&[u8], u64)>> = BTreeMap::new();
        for (key, by) in changed {
            for length in self
                .lengths
                .keys()
                .take_while(|length| **length <= key.len())
            {
                if let Some((prefix, _)) = self.clients.get_key_value(&key[..*length]) {
                    found.entry(prefix).or_default().push((*key, *by));
                }
            }
        }
        found
    }
}
