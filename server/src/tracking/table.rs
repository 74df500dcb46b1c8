//! Which clients may hold a copy of which key.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dashmap::DashMap;

/// Keys, each with the sorted ids of clients.
#[derive(Default)]
pub(super) struct Table {
    keys: DashMap<Bytes, Vec<u64>>,
    key_count: AtomicUsize,
    item_count: AtomicUsize,
}

impl Table {
    pub fn keys(&self) -> usize {
        self.key_count.load(Ordering::Relaxed)
    }

    pub fn items(&self) -> usize {
        self.item_count.load(Ordering::Relaxed)
    }

    pub fn add(&self, key: &[u8], client: u64) {
        if let Some(mut ids) = self.keys.get_mut(key) {
            return self.add_id(&mut ids, client);
        }
        let mut ids = self.keys.entry(Bytes::copy_from_slice(key)).or_default();
        if ids.is_empty() {
            self.key_count.fetch_add(1, Ordering::Relaxed);
        }
        self.add_id(&mut ids, client);
    }

    fn add_id(&self, ids: &mut Vec<u64>, client: u64) {
        if let Err(at) = ids.binary_search(&client) {
            ids.insert(at, client);
            self.item_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a key out, with its clients.
    pub fn take(&self, key: &[u8]) -> Vec<u64> {
        // Most keys are nobody's: look before taking the shard for writing.
        if !self.keys.contains_key(key) {
            return Vec::new();
        }
        let Some((_, ids)) = self.keys.remove(key) else {
            return Vec::new();
        };
        self.key_count.fetch_sub(1, Ordering::Relaxed);
        self.item_count.fetch_sub(ids.len(), Ordering::Relaxed);
        ids
    }

    /// Any keys, at most so many.
    pub fn some_keys(&self, most: usize) -> Vec<Bytes> {
        let keys = self.keys.iter().take(most);
        keys.map(|entry| entry.key().clone()).collect()
    }

    pub fn clear(&self) {
        // Not at once: a key may be added meanwhile.
        self.keys.retain(|_, ids| {
            self.key_count.fetch_sub(1, Ordering::Relaxed);
            self.item_count.fetch_sub(ids.len(), Ordering::Relaxed);
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_with_all_its_clients_and_counted() {
        let table = Table::default();
        table.add(b"k", 2);
        table.add(b"k", 1);
        table.add(b"k", 2);
        table.add(b"l", 2);
        assert_eq!((table.keys(), table.items()), (2, 3));
        assert_eq!(table.take(b"k"), [1, 2]);
        assert!(table.take(b"k").is_empty());
        assert_eq!((table.keys(), table.items()), (1, 1));
        assert_eq!(table.some_keys(5), [Bytes::from("l")]);
        table.clear();
        assert_eq!((table.keys(), table.items()), (0, 0));
    }
}
