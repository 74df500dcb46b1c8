//! Numbers of keys per (generation, slot), exact and O(slots) to add up.
//!
//! In memory an array of atomics per generation, written by the group's
//! writer, read by anyone. On disk a journal row per batch that changed a
//! count, folded into a snapshot row per generation from time to time; both
//! move in the batch that they describe.
//!
//! ```text
//! snapshot row   'C' | generation u32 BE   ->  pairs: slot u16 BE | count u64 BE (non-zero only)
//! journal row    'c' | index u64 BE        ->  triples: generation u32 | slot u16 | delta i32 (BE)
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use cairn_protocol::slot::SLOT_COUNT;

use super::keys::Generation;

type PerSlot = Arc<[AtomicI64]>;

/// See the module's documentation.
#[derive(Default)]
pub struct Counters {
    by_generation: ArcSwap<HashMap<Generation, PerSlot>>,
}

/// One change of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    pub generation: Generation,
    pub slot: u16,
    pub delta: i32,
}

impl Counters {
    /// Number of keys of one slot.
    pub fn get(&self, generation: Generation, slot: u16) -> u64 {
        let map = self.by_generation.load();
        map.get(&generation).map_or(0, |s| {
            s[slot as usize].load(Ordering::Acquire).max(0) as u64
        })
    }

    /// Number of keys of all `slots` of a generation.
    pub fn sum(&self, generation: Generation, slots: std::ops::RangeInclusive<u16>) -> u64 {
        let map = self.by_generation.load();
        let Some(counts) = map.get(&generation) else {
            return 0;
        };
        slots
            .map(|s| counts[s as usize].load(Ordering::Acquire).max(0) as u64)
            .sum()
    }

    /// Adds deltas; only the group's writer calls this.
    pub fn add(&self, deltas: &[Delta]) {
        if deltas.is_empty() {
            return;
        }
        let mut map = self.by_generation.load_full();
        for d in deltas {
            if !map.contains_key(&d.generation) {
                let mut larger = (*map).clone();
                larger.insert(d.generation, empty());
                map = Arc::new(larger);
                self.by_generation.store(map.clone());
            }
            map[&d.generation][d.slot as usize].fetch_add(d.delta as i64, Ordering::AcqRel);
        }
    }

    /// Generations that are counted and that `keep` refuses.
    pub fn others(&self, keep: impl Fn(Generation) -> bool) -> Vec<Generation> {
        let map = self.by_generation.load();
        map.keys().copied().filter(|g| !keep(*g)).collect()
    }

    /// Forgets generations, whose snapshot rows are to go with the entry that made
    /// them garbage; only the group's writer calls this.
    pub fn forget(&self, generations: &[Generation]) {
        if generations.is_empty() {
            return;
        }
        let mut map = (*self.by_generation.load_full()).clone();
        generations.iter().for_each(|g| drop(map.remove(g)));
        self.by_generation.store(Arc::new(map));
    }

    /// Snapshot rows of every generation, (key, value).
    pub fn snapshot_rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let map = self.by_generation.load();
        map.iter()
            .map(|(generation, counts)| (snapshot_key(*generation), encode(counts)))
            .collect()
    }

    /// Loads one snapshot row. `None`: not a snapshot row, or corrupt.
    pub fn load_snapshot(&self, key: &[u8], value: &[u8]) -> Option<()> {
        let generation = u32::from_be_bytes(key.strip_prefix(b"C")?.try_into().ok()?);
        if !value.len().is_multiple_of(10) {
            return None;
        }
        let deltas: Vec<Delta> = value
            .chunks_exact(10)
            .map(|pair| Delta {
                generation,
                slot: u16::from_be_bytes([pair[0], pair[1]]),
                delta: i64::from_be_bytes(pair[2..].try_into().expect("eight bytes")) as i32,
            })
            .collect();
        if deltas.iter().any(|d| d.slot >= SLOT_COUNT) {
            return None;
        }
        self.add(&deltas);
        Some(())
    }

    /// Loads one journal row.
    pub fn load_journal(&self, value: &[u8]) -> Option<()> {
        if !value.len().is_multiple_of(10) {
            return None;
        }
        let deltas: Vec<Delta> = value
            .chunks_exact(10)
            .map(|c| Delta {
                generation: u32::from_be_bytes([c[0], c[1], c[2], c[3]]),
                slot: u16::from_be_bytes([c[4], c[5]]),
                delta: i32::from_be_bytes([c[6], c[7], c[8], c[9]]),
            })
            .collect();
        self.add(&deltas);
        Some(())
    }
}

pub fn snapshot_key(generation: Generation) -> Vec<u8> {
    [b"C", &generation.to_be_bytes()[..]].concat()
}

pub fn journal_key(index: u64) -> [u8; 9] {
    let mut key = [b'c'; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

pub fn encode_journal(deltas: &[Delta]) -> Vec<u8> {
    let mut out = Vec::with_capacity(deltas.len() * 10);
    for d in deltas {
        out.extend_from_slice(&d.generation.to_be_bytes());
        out.extend_from_slice(&d.slot.to_be_bytes());
        out.extend_from_slice(&d.delta.to_be_bytes());
    }
    out
}

fn empty() -> PerSlot {
    (0..SLOT_COUNT).map(|_| AtomicI64::new(0)).collect()
}

fn encode(counts: &[AtomicI64]) -> Vec<u8> {
    let mut out = Vec::new();
    for (slot, count) in counts.iter().enumerate() {
        let count = count.load(Ordering::Acquire);
        if count != 0 {
            out.extend_from_slice(&(slot as u16).to_be_bytes());
            out.extend_from_slice(&count.to_be_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_counter_rows() {
        let counters = Counters::default();
        let delta = Delta {
            generation: 1,
            slot: 2,
            delta: 3,
        };
        counters.add(&[delta]);
        assert_eq!(
            counters.snapshot_rows(),
            [(
                b"C\0\0\0\x01".to_vec(),
                b"\0\x02\0\0\0\0\0\0\0\x03".to_vec()
            )]
        );
        assert_eq!(journal_key(5), *b"c\0\0\0\0\0\0\0\x05");
        assert_eq!(encode_journal(&[delta]), b"\0\0\0\x01\0\x02\0\0\0\x03");
    }

    #[test]
    fn snapshot_and_journal_add_up() {
        let counters = Counters::default();
        counters
            .load_snapshot(b"C\0\0\0\x01", b"\0\x02\0\0\0\0\0\0\0\x03")
            .unwrap();
        let minus = [Delta {
            generation: 1,
            slot: 2,
            delta: -1,
        }];
        counters.load_journal(&encode_journal(&minus)).unwrap();
        assert_eq!(counters.get(1, 2), 2);
        assert_eq!(counters.sum(1, 0..=16383), 2);
        assert!(counters.load_snapshot(b"C\0\0\0\x01", b"\0").is_none());
        assert_eq!(counters.others(|g| g != 1), [1]);
        counters.forget(&[1]);
        assert_eq!(counters.get(1, 2), 0);
    }
}
