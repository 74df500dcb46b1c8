//! A small model world in which a reshard runs with faults at every edge.
//!
//! Two groups (each a durable log and a map), etcd, an operator and clients
//! share one clock and one queue of events; a seed decides delays, losses and
//! repeats. The replicated state machines and the drivers are the real ones.
//! The world knows the truth (the one order in which client commands were
//! executed) and checks after each event that the groups agree with it.

mod clients;
mod collections;
mod etcd;
mod export;
mod filter;
mod group;
mod model;
mod tests;
mod world;

/// Splitmix64: all choices of a run come from one seed.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True in `percent` of a hundred cases.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
