//! Eviction: which keys go when `maxmemory` is reached.
//!
//! A hand goes round the keys of all databases, a stretch at a time. Keys lie
//! in order of their slot, which is a hash, so that a stretch is as good as a
//! sample; of each the keys go that the policy likes least. Reading them may
//! wait for the disk: this runs on a thread of its own, and the writer gets
//! only the verdict, which it logs as deletes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_protocol::slot::SLOT_COUNT;
use rocksdb::ReadOptions;

use super::{Group, Job};
use crate::config::EvictionPolicy;
use crate::storage::keys::{PREFIX_LEN, prefix, prefix_end, split, split_expiry};
use crate::storage::{MetaKey, Store, weight};

/// Keys that one entry evicts at most.
const MAX_VICTIMS: usize = 1024;
/// Keys chosen of one stretch.
const CHOSEN: usize = 16;

/// Where the next stretch begins: a row of the family that is walked.
#[derive(Default)]
pub struct Hand {
    meta: Vec<u8>,
    expiry: Vec<u8>,
}

/// How to choose.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    pub policy: EvictionPolicy,
    /// Keys looked at for each that goes (`maxmemory-samples`).
    pub samples: usize,
}

struct Candidate {
    key: MetaKey,
    weight: u64,
    /// The greatest goes first.
    rank: u64,
}

/// Evicts keys that weigh at least `bytes` together, as far as one entry goes.
/// Replies with how many went; 0: there is nothing that may go.
///
/// # Errors
/// The keys cannot be read.
pub fn evict(
    group: &Arc<Group>,
    hand: &mut Hand,
    choice: Choice,
    bytes: u64,
) -> Result<usize, rocksdb::Error> {
    let mut victims: Vec<MetaKey> = Vec::new();
    let mut freed = 0;
    // Round once at most, and then there is nothing else to be found.
    while freed < bytes && victims.len() < MAX_VICTIMS {
        let most = (choice.samples * CHOSEN).min(MAX_VICTIMS);
        let mut stretch = stretch(group, hand, choice.policy, most)?;
        // What the same round has chosen already is met again in a small set.
        stretch.retain(|c| !victims.iter().any(|v| v.physical() == c.key.physical()));
        if stretch.is_empty() {
            break;
        }
        stretch.sort_by_key(|candidate| std::cmp::Reverse(candidate.rank));
        let goes = stretch.len().div_ceil(choice.samples.max(1));
        for candidate in stretch.into_iter().take(goes) {
            if freed >= bytes {
                break;
            }
            freed += candidate.weight;
            victims.push(candidate.key);
        }
    }
    let count = victims.len();
    if count > 0 {
        let done = Arc::new(AtomicBool::new(false));
        group.submit_job(Job::Evict(victims, done.clone()));
        group.turn();
        while !done.load(Ordering::Acquire) {
            // Another thread has the writer; it will come to our job.
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    Ok(count)
}

/// The next `most` keys that the policy may take.
fn stretch(
    group: &Group,
    hand: &mut Hand,
    policy: EvictionPolicy,
    most: usize,
) -> Result<Vec<Candidate>, rocksdb::Error> {
    if policy.is_random() {
        *hand = Hand::somewhere(&group.store);
    }
    let at = match policy.is_volatile() {
        true => &mut hand.expiry,
        false => &mut hand.meta,
    };
    let from = std::mem::take(at);
    let mut found = Vec::new();
    *at = walk(group, policy, &from, None, most, &mut found)?;
    if found.len() < most && !from.is_empty() {
        *at = walk(group, policy, &[], Some(&from), most, &mut found)?;
    }
    Ok(found)
}

impl Hand {
    fn somewhere(store: &Store) -> Hand {
        let slot = rand::random_range(0..SLOT_COUNT);
        let row = store.with_maps(|maps| prefix(slot, maps.live.get(0, slot)).to_vec());
        Hand {
            meta: row.clone(),
            expiry: row,
        }
    }
}

/// Adds keys from the row `from` on, up to `until`. Replies with where it
/// stopped; empty: at the end.
fn walk(
    group: &Group,
    policy: EvictionPolicy,
    from: &[u8],
    until: Option<&[u8]>,
    most: usize,
    found: &mut Vec<Candidate>,
) -> Result<Vec<u8>, rocksdb::Error> {
    let engine = group.store.engine();
    let family = match policy.is_volatile() {
        true => engine.expiry,
        false => engine.meta,
    };
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    let mut rows = engine.db.raw_iterator_cf_opt(&family, options);
    rows.seek(from);
    let now = group.now();
    while let (Some(row), Some(value)) = (rows.key(), rows.value()) {
        if found.len() >= most {
            return Ok(row.to_vec());
        }
        if until.is_some_and(|until| row >= until) {
            return Ok(row.to_vec());
        }
        let Some((slot, generation, _)) = split(row) else {
            break;
        };
        let live = |maps: &crate::storage::generations::GenerationMap| {
            maps.live.database_of(slot, generation).is_some()
        };
        if !group.store.with_maps(live) {
            match prefix_end(slot, generation) {
                Some(next) => rows.seek(next),
                None => break,
            }
            continue;
        }
        found.extend(candidate(&group.store, policy, row, value, now));
        rows.next();
    }
    rows.status()?;
    Ok(Vec::new())
}

/// What a row of the family that is walked stands for.
fn candidate(
    store: &Store,
    policy: EvictionPolicy,
    row: &[u8],
    value: &[u8],
    now: u64,
) -> Option<Candidate> {
    let (slot, generation, name) = split(row)?;
    let (key, weight, expires_at) = if policy.is_volatile() {
        let (at, name) = split_expiry(row)?;
        let key = MetaKey::new(slot, generation, name);
        let record = store.record(&key, true).ok()??;
        // A row can outlive its record, or be that of an earlier expiry.
        (record.header()?.expires_at == Some(at)).then_some(())?;
        (key, weight::of_record(&record), at)
    } else {
        debug_assert!(row.len() >= PREFIX_LEN);
        let key = MetaKey::new(slot, generation, name);
        (key, weight::of_parts(row.len(), value), 0)
    };
    let unused = || u64::from(u32::MAX);
    let rank = match policy {
        _ if policy.is_lru() => store.access.idle(key.hash(), now).unwrap_or_else(unused),
        _ if policy.is_lfu() => match store.access.count(key.hash(), now) {
            Some(count) => 255 - u64::from(count),
            None => unused(),
        },
        EvictionPolicy::VolatileTtl => u64::MAX - expires_at,
        _ => 0,
    };
    Some(Candidate { key, weight, rank })
}
