//! What one client has subscribed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

/// What a subscription costs beside its name, here and in the registry.
const NAME_BYTES: usize = 160;

/// Kinds of subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Channel,
    Pattern,
    /// A sharded channel.
    Shard,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];
}

/// See the module's documentation. The figures can be read without the lock,
/// which is taken only by commands on subscriptions.
#[derive(Default)]
pub struct Subscriptions {
    own: Mutex<Own>,
    counts: [AtomicUsize; 3],
    /// What the names cost.
    bytes: AtomicUsize,
    /// The client is in Redis's subscriber mode.
    any: AtomicBool,
}

/// The names, each with its place in the order of subscription.
#[derive(Default)]
pub struct Own {
    names: [HashMap<Bytes, u64>; 3],
    next: u64,
    bytes: usize,
}

impl Subscriptions {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// What they cost.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.counts[kind as usize].load(Ordering::Relaxed)
    }

    /// The names of a kind, the oldest subscription first.
    pub fn names(&self, kind: Kind) -> Vec<Bytes> {
        self.own.lock().names(kind)
    }

    /// Changes them under the lock.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Own) -> T) -> T {
        let mut own = self.own.lock();
        let changed = change(&mut own);
        for kind in Kind::ALL {
            self.counts[kind as usize].store(own.count(kind), Ordering::Relaxed);
        }
        self.bytes.store(own.bytes, Ordering::Relaxed);
        let all: usize = Kind::ALL.iter().map(|kind| own.count(*kind)).sum();
        self.any.store(all > 0, Ordering::Relaxed);
        changed
    }
}

impl Own {
    fn count(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    /// The number that confirmations name: channels and patterns are counted
    /// together, sharded channels apart.
    pub(super) fn count_beside(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.count(Kind::Shard),
            _ => self.count(Kind::Channel) + self.count(Kind::Pattern),
        }
    }

    pub(super) fn names(&self, kind: Kind) -> Vec<Bytes> {
        let mut names: Vec<(&Bytes, &u64)> = self.names[kind as usize].iter().collect();
        names.sort_unstable_by_key(|(_, place)| **place);
        names.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// False if it was there.
    pub(super) fn insert(&mut self, kind: Kind, name: &Bytes) -> bool {
        let names = &mut self.names[kind as usize];
        if names.contains_key(name) {
            return false;
        }
        self.bytes += name.len() + NAME_BYTES;
        names.insert(name.clone(), self.next);
        self.next += 1;
        true
    }

    /// False if it was not there.
    pub(super) fn remove(&mut self, kind: Kind, name: &[u8]) -> bool {
        let removed = self.names[kind as usize].remove(name).is_some();
        if removed {
            self.bytes -= name.len() + NAME_BYTES;
        }
        removed
    }
}
