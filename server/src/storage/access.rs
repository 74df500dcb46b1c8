//! When keys were last used, or how often: what eviction chooses by.
//!
//! A table of fixed size that keys share by their hash; each use is one store
//! to memory, without a lock. A key whose place another one took is as one
//! that nobody used. Nothing of it is on disk: after a restart all keys are
//! alike until they are used.
//!
//! ```text
//! entry   0: nobody; else tag of the key (8 bits) | word (24 bits)
//! word    LRU: seconds of the clock
//!         LFU: minutes of the last decay (16 bits) | logarithmic count (8 bits)
//! ```
//!
//! Words are Redis's (<https://redis.io/docs/reference/eviction/>), so that
//! what OBJECT FREQ and IDLETIME show means the same.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Keys that are told apart at a time: a power of two. Four bytes each, which
/// are taken from the system only once they are written.
const ENTRIES: usize = 1 << 20;
const WORD: u32 = (1 << 24) - 1;
/// The count of a key that is new: it must live long enough to be used.
const NEW_COUNT: u32 = 5;

/// See the module's documentation.
pub struct AccessTable {
    entries: Box<[AtomicU32]>,
    /// Counts instead of times.
    counting: AtomicBool,
    /// `lfu-log-factor`
    log_factor: AtomicU32,
    /// `lfu-decay-time`, minutes; 0: counts do not decay.
    decay_minutes: AtomicU32,
    /// See [`AccessTable::shares_integers`].
    shares_integers: AtomicBool,
    /// When the first use could be noted, unix seconds.
    since: AtomicU64,
}

impl Default for AccessTable {
    fn default() -> AccessTable {
        AccessTable {
            // Zeroed memory straight from the system: nothing is touched here.
            entries: zeroed(ENTRIES),
            counting: AtomicBool::new(false),
            log_factor: AtomicU32::new(10),
            decay_minutes: AtomicU32::new(1),
            shares_integers: AtomicBool::new(true),
            since: AtomicU64::new(0),
        }
    }
}

fn zeroed(len: usize) -> Box<[AtomicU32]> {
    let zeros = vec![0_u32; len].into_boxed_slice();
    // SAFETY: an AtomicU32 has the layout of a u32, and the box is ours alone.
    unsafe { Box::from_raw(Box::into_raw(zeros) as *mut [AtomicU32]) }
}

impl AccessTable {
    /// Whether uses are counted (LFU) or their times kept (LRU). A change
    /// leaves the words as they are, as in Redis: until its key is used, one is
    /// misread, but it is right again after a change back.
    pub fn follow(&self, counting: bool, log_factor: u32, decay_minutes: u32) {
        self.log_factor.store(log_factor, Ordering::Relaxed);
        self.decay_minutes.store(decay_minutes, Ordering::Relaxed);
        self.counting.store(counting, Ordering::Relaxed);
    }

    pub fn is_counting(&self) -> bool {
        self.counting.load(Ordering::Relaxed)
    }

    /// Whether Redis would have one object for a small integer in many keys: only if
    /// no key must go by its own use, which Redis keeps in the object.
    pub fn shares_integers(&self) -> bool {
        self.shares_integers.load(Ordering::Relaxed)
    }

    pub fn share_integers(&self, shared: bool) {
        self.shares_integers.store(shared, Ordering::Relaxed);
    }

    fn entry(&self, hash: u64) -> (&AtomicU32, u32) {
        // Never 0, which is nobody's.
        let tag = ((hash >> 32) as u32 | 1) & 0xff;
        (&self.entries[hash as usize % ENTRIES], tag << 24)
    }

    /// What is noted of a key; `None`: nobody remembers it.
    pub fn word(&self, hash: u64) -> Option<u32> {
        let (entry, tag) = self.entry(hash);
        let found = entry.load(Ordering::Relaxed);
        (found & !WORD == tag).then_some(found & WORD)
    }

    /// A key is used at `now` (unix ms).
    #[inline]
    pub fn touch(&self, hash: u64, now: u64) {
        let word = match self.is_counting() {
            false => lru_clock(now),
            true => self.counted_once_more(hash, now),
        };
        let (entry, tag) = self.entry(hash);
        entry.store(tag | word, Ordering::Relaxed);
    }

    #[cold]
    fn counted_once_more(&self, hash: u64, now: u64) -> u32 {
        let Some(word) = self.word(hash) else {
            return minutes(now) << 8 | NEW_COUNT;
        };
        let count = self.decayed(word, now);
        minutes(now) << 8 | self.incremented(count)
    }

    /// The likelier to grow the smaller it is.
    fn incremented(&self, count: u32) -> u32 {
        let above = f64::from(count.saturating_sub(NEW_COUNT));
        let factor = f64::from(self.log_factor.load(Ordering::Relaxed));
        let grows = count < 255 && unit_random() < 1.0 / (above * factor + 1.0);
        count + u32::from(grows)
    }

    fn decayed(&self, word: u32, now: u64) -> u32 {
        let decay = self.decay_minutes.load(Ordering::Relaxed);
        let passed = minutes(now).wrapping_sub(word >> 8) & 0xffff;
        let periods = passed.checked_div(decay).unwrap_or(0);
        (word & 0xff).saturating_sub(periods)
    }

    /// Sets when a key was last used: RESTORE's IDLETIME, seconds.
    pub fn set_idle(&self, hash: u64, idle: u64, now: u64) {
        if !self.is_counting() {
            let (entry, tag) = self.entry(hash);
            let clock = lru_clock(now).wrapping_sub(idle.min(u64::from(WORD)) as u32) & WORD;
            entry.store(tag | clock, Ordering::Relaxed);
        }
    }

    /// Sets how often a key was used: RESTORE's FREQ.
    pub fn set_count(&self, hash: u64, count: u8, now: u64) {
        if self.is_counting() {
            let (entry, tag) = self.entry(hash);
            let word = minutes(now) << 8 | u32::from(count);
            entry.store(tag | word, Ordering::Relaxed);
        }
    }

    /// Seconds since a key was used; `None`: longer than anybody remembers.
    pub fn idle(&self, hash: u64, now: u64) -> Option<u64> {
        let word = self.word(hash)?;
        Some(u64::from(lru_clock(now).wrapping_sub(word) & WORD))
    }

    /// The logarithmic count of a key's uses as it is by now.
    pub fn count(&self, hash: u64, now: u64) -> Option<u8> {
        self.word(hash).map(|word| self.decayed(word, now) as u8)
    }

    /// Uses are noted from `now` (unix ms) on.
    pub fn begin(&self, now: u64) {
        self.since.store(now / 1000, Ordering::Relaxed);
    }

    /// Seconds for which uses have been noted.
    pub fn remembers(&self, now: u64) -> u64 {
        (now / 1000).saturating_sub(self.since.load(Ordering::Relaxed))
    }
}

fn lru_clock(now: u64) -> u32 {
    (now / 1000) as u32 & WORD
}

fn minutes(now: u64) -> u32 {
    (now / 60_000) as u32 & 0xffff
}

/// In [0, 1), the same sequence on each thread (xorshift64*, Marsaglia).
fn unit_random() -> f64 {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    #[test]
    fn a_key_is_idle_since_it_was_used() {
        let table = AccessTable::default();
        assert_eq!(table.idle(7, NOW), None);
        table.begin(NOW);
        assert_eq!(table.remembers(NOW + 9_000), 9);
        table.touch(7, NOW);
        assert_eq!(table.idle(7, NOW + 3_500), Some(3));
        table.set_idle(7, 1000, NOW);
        assert_eq!(table.idle(7, NOW), Some(1000));
    }

    #[test]
    fn counts_start_at_five_grow_with_use_and_decay_with_time() {
        let table = AccessTable::default();
        table.follow(true, 10, 1);
        table.touch(7, NOW);
        assert_eq!(table.count(7, NOW), Some(5));
        (0..10_000).for_each(|_| table.touch(7, NOW));
        let grown = table.count(7, NOW).unwrap();
        assert!((20..200).contains(&grown), "{grown}");
        assert_eq!(table.count(7, NOW + 2 * 60_000), Some(grown - 2));
        table.set_count(7, 100, NOW);
        assert_eq!(table.count(7, NOW), Some(100));
    }

    #[test]
    fn words_outlast_a_change_of_their_meaning() {
        let table = AccessTable::default();
        table.touch(7, NOW);
        table.follow(true, 10, 1);
        // A clock is a count that decayed long ago.
        assert_eq!(table.count(7, NOW), Some(0));
        table.follow(false, 10, 1);
        assert_eq!(table.idle(7, NOW + 2_000), Some(2));
    }
}
