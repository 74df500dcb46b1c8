//! The record cache: hot `meta` records in decoded form, in front of RocksDB.
//!
//! Sharded open addressing with a second-chance (CLOCK) eviction; a resident
//! record costs its own allocation and about eleven bytes of table. Bounded
//! in bytes. Coherence with the one writer (DESIGN section 4):
//! - before the RocksDB write the writer calls [`RecordCache::mark`] for each
//!   record of the batch: readers miss it from then on and may not fill;
//! - after the write it calls [`RecordCache::install`];
//! - a reader's [`RecordCache::fill`] succeeds only if nothing was marked or
//!   installed in its shard since it took its [`FillToken`], before its read.
//!
//! While a shard is *whole* it holds every live record of RocksDB that belongs to
//! it, so that what it does not hold does not exist and no filter is asked. That
//! begins with an empty store ([`RecordCache::begin_whole`]) and ends for good
//! with the first record that the shard drops or does not take.
//!
//! Each mutex guards one shard's table for some tens of nanoseconds and is
//! never held across I/O or an await.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::record::Record;

const SHARDS: usize = 64;
const FLUX: u64 = 1 << 63;
const POINTER: u64 = (1 << 48) - 1;
const MIN_SLOTS: usize = 64;
/// Places between a record that a growing table asks for and the one it moves.
const GROW_AHEAD: usize = 24;
/// Bytes of memory that come together, and how many such lines of a record are asked
/// for ahead.
const LINE: usize = 64;
const MAX_LINES: usize = 4;
/// Table bytes a resident record costs at the usual load.
const SLOT_COST: usize = 11;

/// A shard's state when a reader began to read from RocksDB.
#[derive(Clone, Copy, Debug)]
pub struct FillToken {
    version: u64,
}

/// See the module's documentation.
pub struct RecordCache {
    shards: Box<[Mutex<Shard>]>,
    hits: AtomicU64,
    misses: AtomicU64,
}

struct Shard {
    /// 0 is empty; else flux bit | 15 tag bits | 48 pointer bits.
    slots: Box<[u64]>,
    len: usize,
    bytes: usize,
    budget: usize,
    hand: usize,
    version: u64,
    in_flux: usize,
    /// Cache lines of a record, as far as they are worth asking for.
    lines: usize,
    /// What is not here is not in RocksDB either; see the module's documentation.
    whole: bool,
}

fn tag(hash: u64) -> u64 {
    (hash >> 43 & 0x7fff) << 48
}

fn shard_of(hash: u64) -> usize {
    (hash >> 58) as usize
}

/// What the allocator really hands out for `bytes` (jemalloc's size classes).
fn allocated(bytes: usize) -> usize {
    if bytes <= 128 {
        return bytes.next_multiple_of(16);
    }
    let step = (bytes.next_power_of_two() / 2).max(128) / 4;
    bytes.next_multiple_of(step.max(32))
}

/// A hint: nothing is read, and any address will do.
fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch does not access memory as the language sees it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

impl RecordCache {
    /// A cache of at most about `budget` bytes. 0 keeps nothing.
    pub fn new(budget: usize) -> RecordCache {
        let shard = || {
            Mutex::new(Shard {
                slots: vec![0; MIN_SLOTS].into(),
                len: 0,
                bytes: 0,
                budget: budget / SHARDS,
                hand: 0,
                version: 0,
                in_flux: 0,
                lines: 1,
                whole: false,
            })
        };
        RecordCache {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The record (`None`: it does not exist), or the token for a fill after
    /// reading it from RocksDB.
    pub fn get(&self, hash: u64, physical: &[u8]) -> Result<Option<Record>, FillToken> {
        let shard = self.shards[shard_of(hash)].lock();
        match shard.find(hash, physical) {
            Some(at) if shard.slots[at] & FLUX == 0 => {
                let record = shard.record(at);
                record.touch();
                Ok(Some((*record).clone()))
            }
            // A record that is being written may be the one: another reader may
            // have seen it already.
            None if shard.whole && shard.in_flux == 0 => Ok(None),
            _ => Err(FillToken {
                version: shard.version,
            }),
        }
    }

    /// Asks the processor for what looking these records up will touch first: their
    /// places in the tables. Look-ups that follow one another each wait for memory
    /// twice; asked for together, all of them wait about as long as one.
    pub fn prefetch_places(&self, hashes: &[u64]) {
        for hash in hashes {
            self.shards[shard_of(*hash)].lock().prefetch_place(*hash);
        }
    }

    /// And then, once the places are there, the records.
    pub fn prefetch_records(&self, hashes: &[u64]) {
        for hash in hashes {
            self.shards[shard_of(*hash)].lock().prefetch_record(*hash);
        }
    }

    /// Both, for look-ups that come at once.
    pub fn prefetch(&self, hashes: &[u64]) {
        self.prefetch_places(hashes);
        self.prefetch_records(hashes);
    }

    /// Keeps what a reader found in RocksDB, unless a writer was there since.
    pub fn fill(&self, token: FillToken, hash: u64, record: Record) -> bool {
        let mut shard = self.shards[shard_of(hash)].lock();
        if shard.version != token.version || shard.in_flux != 0 {
            return false;
        }
        shard.insert(hash, record);
        true
    }

    /// Writer, before the RocksDB write: nobody may hit or fill this record. Returns the
    /// state that RocksDB holds, if it is here.
    pub fn mark(&self, hash: u64, physical: &[u8]) -> Option<Record> {
        let mut shard = self.shards[shard_of(hash)].lock();
        shard.version += 1;
        shard.in_flux += 1;
        let at = shard.find(hash, physical)?;
        let settled = shard.slots[at] & FLUX == 0;
        shard.slots[at] |= FLUX;
        settled.then(|| (*shard.record(at)).clone())
    }

    /// Writer, after the RocksDB write: the record's new state (`None`: deleted).
    pub fn install(&self, hash: u64, physical: &[u8], record: Option<Record>) {
        let mut shard = self.shards[shard_of(hash)].lock();
        shard.version += 1;
        shard.in_flux -= 1;
        shard.change(hash, physical, record);
    }

    /// Writer, after the RocksDB write, for what was not marked: only readers that
    /// notice an overlapping write ask for it.
    pub fn replace(&self, hash: u64, physical: &[u8], record: Option<Record>) {
        let mut shard = self.shards[shard_of(hash)].lock();
        shard.version += 1;
        shard.change(hash, physical, record);
    }

    /// [`RecordCache::replace`] by something that gets no place here.
    pub fn refuse(&self, hash: u64, physical: &[u8]) {
        let mut shard = self.shards[shard_of(hash)].lock();
        shard.version += 1;
        shard.whole = false;
        shard.change(hash, physical, None);
    }

    /// Writer, after a RocksDB write that was refused and changed nothing: the
    /// record's old state holds again.
    pub fn unmark(&self, hash: u64, physical: &[u8]) {
        let mut shard = self.shards[shard_of(hash)].lock();
        shard.version += 1;
        shard.in_flux -= 1;
        if let Some(at) = shard.find(hash, physical) {
            shard.slots[at] &= !FLUX;
        }
    }

    /// Drops everything (snapshot install, change of maps under a reader).
    pub fn clear(&self) {
        for shard in &self.shards {
            shard.lock().forget(false);
        }
    }

    /// No live record is in RocksDB now: drops everything, and what is not here
    /// does not exist until a shard drops something again.
    pub fn begin_whole(&self) {
        for shard in &self.shards {
            shard.lock().forget(true);
        }
    }

    /// Changes the bound, bytes.
    pub fn set_budget(&self, budget: usize) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.budget = budget / SHARDS;
            shard.evict();
        }
    }

    /// (records, bytes) now resident.
    pub fn usage(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(n, b), shard| {
            let shard = shard.lock();
            (n + shard.len, b + shard.bytes)
        })
    }

    /// Adds one thread's counts of hits and misses.
    pub fn count(&self, hits: u64, misses: u64) {
        self.hits.fetch_add(hits, Ordering::Relaxed);
        self.misses.fetch_add(misses, Ordering::Relaxed);
    }

    /// (hits, misses) so far.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed),
            self.misses.load(Ordering::Relaxed),
        )
    }
}

impl Shard {
    fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    /// Borrows the record in slot `at` without touching its count.
    fn record(&self, at: usize) -> std::mem::ManuallyDrop<Record> {
        // SAFETY: a non-empty slot owns one count of a live record.
        std::mem::ManuallyDrop::new(unsafe { Record::from_raw(self.slots[at] & POINTER) })
    }

    fn find(&self, hash: u64, physical: &[u8]) -> Option<usize> {
        let mask = self.mask();
        let want = tag(hash);
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if slot & !(FLUX | POINTER) == want && self.record(at).physical() == physical {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    fn prefetch_place(&self, hash: u64) {
        prefetch(&raw const self.slots[hash as usize & self.mask()]);
    }

    fn prefetch_record(&self, hash: u64) {
        let mask = self.mask();
        let want = tag(hash);
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            if self.slots[at] & !(FLUX | POINTER) == want {
                let record = (self.slots[at] & POINTER) as *const u8;
                (0..self.lines).for_each(|line| prefetch(record.wrapping_add(line * LINE)));
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn change(&mut self, hash: u64, physical: &[u8], record: Option<Record>) {
        match record {
            Some(record) => self.insert(hash, record),
            None => {
                if let Some(at) = self.find(hash, physical) {
                    self.remove(at);
                }
            }
        }
    }

    fn insert(&mut self, hash: u64, record: Record) {
        let cost = allocated(record.memory()) + SLOT_COST;
        if cost > self.budget / 4 {
            // Too large to be worth a place: only the old state must go.
            self.whole = false;
            if let Some(at) = self.find(hash, record.physical()) {
                self.remove(at);
            }
            return;
        }
        self.bytes += cost;
        match self.find(hash, record.physical()) {
            Some(at) => {
                // SAFETY: the slot's own count moves out and is dropped here.
                let old = unsafe { Record::from_raw(self.slots[at] & POINTER) };
                self.bytes -= allocated(old.memory()) + SLOT_COST;
                self.slots[at] = tag(hash) | record.into_raw();
            }
            None => {
                if (self.len + 1) * 8 > self.slots.len() * 7 {
                    self.grow();
                }
                self.place(hash, tag(hash) | record.into_raw());
                self.len += 1;
            }
        }
        self.evict();
    }

    fn place(&mut self, hash: u64, slot: u64) {
        let mask = self.mask();
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let record = (self.bytes / self.len.max(1)).saturating_sub(SLOT_COST);
        self.lines = record.div_ceil(LINE).clamp(1, MAX_LINES);
        let larger = vec![0; self.slots.len() * 2].into();
        let old = std::mem::replace(&mut self.slots, larger);
        for (at, slot) in old.iter().enumerate() {
            // All shards grow at about the same time; without this each of their
            // records would be waited for alone.
            if let Some(later) = old.get(at + GROW_AHEAD) {
                prefetch((later & POINTER) as *const u8);
            }
            if *slot == 0 {
                continue;
            }
            // SAFETY: as in `record`; the count stays with the slot.
            let record = std::mem::ManuallyDrop::new(unsafe { Record::from_raw(slot & POINTER) });
            let hash = xxh3_64(record.physical());
            self.place(hash, *slot);
        }
    }

    /// Empties slot `at` and closes the gap behind it.
    fn remove(&mut self, at: usize) {
        // SAFETY: the slot's own count moves out and is dropped here.
        let record = unsafe { Record::from_raw(self.slots[at] & POINTER) };
        self.bytes -= allocated(record.memory()) + SLOT_COST;
        self.len -= 1;
        let mask = self.mask();
        let (mut hole, mut next) = (at, (at + 1) & mask);
        while self.slots[next] != 0 {
            let home = xxh3_64(self.record(next).physical()) as usize & mask;
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[hole] = 0;
    }

    /// Second chance: a record used since the hand last passed is kept once more.
    fn evict(&mut self) {
        let mut steps = 0;
        while self.bytes > self.budget && self.len > 0 && steps < self.slots.len() * 2 {
            steps += 1;
            let at = self.hand & self.mask();
            let slot = self.slots[at];
            if slot == 0 || slot & FLUX != 0 || self.record(at).take_used() {
                self.hand = at + 1;
            } else {
                self.whole = false;
                self.remove(at);
            }
        }
    }

    fn forget(&mut self, whole: bool) {
        self.version += 1;
        self.whole = whole;
        self.clear();
    }

    fn clear(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| **slot != 0) {
            // SAFETY: as in `remove`.
            drop(unsafe { Record::from_raw(*slot & POINTER) });
            *slot = 0;
        }
        (self.len, self.bytes) = (0, 0);
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: u32) -> (u64, Vec<u8>) {
        let physical = format!("\0\0\0\0\0\0key:{i}").into_bytes();
        (xxh3_64(&physical), physical)
    }

    fn put(cache: &RecordCache, i: u32, value: &[u8]) {
        let (hash, physical) = key(i);
        cache.mark(hash, &physical);
        cache.install(
            hash,
            &physical,
            Some(Record::from_encoded(&physical, value)),
        );
    }

    fn value(cache: &RecordCache, i: u32) -> Option<Vec<u8>> {
        let (hash, physical) = key(i);
        let found = cache.get(hash, &physical).ok().flatten();
        found.map(|r| r.value().to_vec())
    }

    #[test]
    fn what_is_installed_is_found_until_it_is_deleted() {
        let cache = RecordCache::new(64 << 20);
        for i in 0..100_000 {
            put(&cache, i, &i.to_be_bytes());
        }
        for i in (0..100_000).step_by(3) {
            let (hash, physical) = key(i);
            cache.mark(hash, &physical);
            cache.install(hash, &physical, None);
        }
        for i in 0..100_000u32 {
            let want = (i % 3 != 0).then(|| i.to_be_bytes().to_vec());
            assert_eq!(value(&cache, i), want, "key {i}");
        }
    }

    #[test]
    fn the_bound_holds_and_used_records_stay() {
        let cache = RecordCache::new(1 << 20);
        for i in 0..200_000 {
            put(&cache, i, &[0; 100]);
            value(&cache, 0);
        }
        let (records, bytes) = cache.usage();
        assert!(bytes <= 1 << 20, "{bytes}");
        assert!(records > 3_000, "{records}");
        assert!(
            value(&cache, 0).is_some(),
            "a record in constant use was evicted"
        );
    }

    #[test]
    fn a_fill_that_read_before_a_write_is_refused() {
        let cache = RecordCache::new(1 << 20);
        let (hash, physical) = key(1);
        let stale = || Record::from_encoded(&physical, b"old");
        let token = cache.get(hash, &physical).unwrap_err();
        cache.mark(hash, &physical);
        assert!(!cache.fill(token, hash, stale()), "filled while in flux");
        let during = cache.get(hash, &physical).unwrap_err();
        cache.install(hash, &physical, None);
        assert!(
            !cache.fill(token, hash, stale()),
            "filled from before the write"
        );
        assert!(
            !cache.fill(during, hash, stale()),
            "filled from during the write"
        );
        let token = cache.get(hash, &physical).unwrap_err();
        assert!(cache.fill(token, hash, stale()));
    }

    #[test]
    fn a_record_in_flux_is_a_miss() {
        let cache = RecordCache::new(1 << 20);
        put(&cache, 1, b"old");
        let (hash, physical) = key(1);
        cache.mark(hash, &physical);
        assert!(value(&cache, 1).is_none());
        cache.install(
            hash,
            &physical,
            Some(Record::from_encoded(&physical, b"new")),
        );
        assert_eq!(value(&cache, 1).unwrap(), b"new");
    }

    #[test]
    fn a_refused_write_leaves_the_old_state() {
        let cache = RecordCache::new(1 << 20);
        put(&cache, 1, b"old");
        let (hash, physical) = key(1);
        let during = cache.get(key(2).0, &key(2).1).unwrap_err();
        cache.mark(hash, &physical);
        cache.unmark(hash, &physical);
        assert_eq!(value(&cache, 1).unwrap(), b"old");
        put(&cache, 1, b"new");
        assert_eq!(value(&cache, 1).unwrap(), b"new");
        let (hash, physical) = key(1);
        let stale = Record::from_encoded(&physical, b"old");
        assert!(!cache.fill(during, hash, stale) || shard_of(hash) != shard_of(key(2).0));
    }

    /// Whether the cache vouches for the absence of key `i`.
    fn is_known_absent(cache: &RecordCache, i: u32) -> bool {
        let (hash, physical) = key(i);
        matches!(cache.get(hash, &physical), Ok(None))
    }

    #[test]
    fn only_a_cache_that_began_whole_knows_what_does_not_exist() {
        let cache = RecordCache::new(1 << 20);
        assert!(!is_known_absent(&cache, 1));
        cache.begin_whole();
        assert!(is_known_absent(&cache, 1));
        put(&cache, 1, b"v");
        assert_eq!(value(&cache, 1).unwrap(), b"v");
        let (hash, physical) = key(1);
        cache.mark(hash, &physical);
        cache.install(hash, &physical, None);
        assert!(is_known_absent(&cache, 1));
        cache.clear();
        assert!(!is_known_absent(&cache, 1));
    }

    #[test]
    fn a_record_that_is_being_written_is_not_taken_for_absent() {
        let cache = RecordCache::new(1 << 20);
        cache.begin_whole();
        let (hash, physical) = key(1);
        cache.mark(hash, &physical);
        assert!(!is_known_absent(&cache, 1));
        cache.unmark(hash, &physical);
        assert!(is_known_absent(&cache, 1));
    }

    #[test]
    fn a_shard_that_drops_or_refuses_a_record_is_whole_no_more() {
        let cache = RecordCache::new(1 << 20);
        cache.begin_whole();
        let keys = 200_000..200_100;
        assert!(keys.clone().all(|i| is_known_absent(&cache, i)));
        (0..100_000).for_each(|i| put(&cache, i, &[0; 100]));
        assert!(!keys.clone().any(|i| is_known_absent(&cache, i)));
        cache.begin_whole();
        put(&cache, 1, &vec![0; 1 << 20]);
        let beside = keys.filter(|i| shard_of(key(*i).0) == shard_of(key(1).0));
        assert!(!beside.chain([1]).any(|i| is_known_absent(&cache, i)));
        assert!(cache.usage() == (0, 0) && is_known_absent(&cache, 200_001));
    }
}
