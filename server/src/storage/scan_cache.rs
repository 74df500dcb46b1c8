//! The scan cache: pages of rows of the family `score`, in front of RocksDB.
//!
//! An iterator of RocksDB costs 10 to 20 µs before it shows its first row; the counts
//! and the order of a sorted set are read in short scans, many times. A [`Page`] holds
//! *all* rows of a stretch of keys, so that a stretch without rows is known too. Pages
//! of one collection never overlap; each lies in one shard with all others of its
//! collection, found by its first key. One ordered map a shard, of whole keys, and not
//! one for each collection: a look-up is one descent either way, and the hand of the
//! eviction is simply a key. Bounded in bytes over all shards together (one large set
//! may be all that is read), with second-chance (CLOCK) eviction of pages.
//!
//! Coherence with the one writer. `Store::epoch` is odd while a write is between its
//! first and its last visible change, and never goes back.
//! - A reader takes the epoch before it makes its iterator, and loads nothing if it is
//!   odd. [`ScanCache::keep`] looks at it again under the shard's lock and keeps the
//!   page only if it is the same: then no write began since, and the page is what
//!   RocksDB holds at that moment.
//! - The writer makes the epoch odd, writes to RocksDB, takes the lock of every shard
//!   that its rows belong to ([`ScanCache::apply`]), changes the pages, and then makes
//!   the epoch even.
//!
//! So for a page and a write that changes its stretch: if the reader had the lock
//! first, the writer finds the page and changes it, even if the epoch became odd just
//! after the reader had looked. If the writer had it first, the epoch was odd before
//! that, and the reader sees so and drops its page. Between the two steps of the epoch
//! nothing is kept, since a reader's first look is even and its second is not the same.
//! For that argument the writer must take the lock even if the cache seems empty. After
//! a failed write, of which nobody knows what it did, all pages go ([`ScanCache::clear`])
//! before the epoch is even again.
//!
//! A reader walks its pages outside the lock; the writer changes a page that somebody
//! walks by a copy (`Arc::make_mut`), so no reader sees half a row. It may see one page
//! of before and the next of after a write. Whoever reads applied state beside the
//! writer compares the epoch anyway once it has read more than one record or row (a scan
//! counts as two, and a single row is read behind its parent's record), and tries again;
//! that goes for `net::read::ReadJob` on a network thread as on the pool for cold reads,
//! and for the links of proxies, which run the same job. The writer itself evaluates only
//! while nothing is applied. What is evaluated only to fetch (`submit::warm`) is thrown
//! away, and DEBUG's readers never were of one moment. Pinned readers do not come here.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::Direction;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use super::page::{COLLECTION, Page};
use crate::txn::effects::{Family, RowEffect};

const SHARD_BITS: u32 = 4;
const SHARDS: usize = 1 << SHARD_BITS;

/// Rows of a page as it is made; one with more than twice as many is split.
pub const PAGE_ROWS: usize = 64;
/// A page with so few rows is joined with one that it touches, if the two have not
/// more than [`JOINED_ROWS`].
const FEW_ROWS: usize = 16;
const JOINED_ROWS: usize = 96;
/// A page that is changed so often before it is walked again goes: loading it anew
/// costs less.
const MAX_CHANGES: u8 = 32;
/// A page that takes more bytes is not kept; one that takes half of them is split.
const MAX_BYTES: usize = 256 << 10;

/// Most keys fit in without an allocation: 18 bytes of the collection, tag, score, and
/// a member of 21.
type Key = SmallVec<[u8; 48]>;

/// Pages that a scan takes at once.
const MAX_RUN: usize = 8;
/// Pages of which each begins where the one before it ends, in the order of the scan.
pub type Run = SmallVec<[Arc<Page>; MAX_RUN]>;

/// See the module's documentation.
pub struct ScanCache {
    /// Each guards the pages of its collections, for some hundred nanoseconds; never
    /// held across I/O or an await.
    shards: Box<[Mutex<Shard>]>,
    budget: AtomicUsize,
    /// Of all shards together.
    bytes: AtomicUsize,
    /// Where the hand of the eviction is.
    hand: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    /// By their first key.
    pages: BTreeMap<Key, Slot>,
    bytes: usize,
    /// The hand has passed pages up to this key.
    hand: Key,
    hits: u64,
    misses: u64,
}

struct Slot {
    page: Arc<Page>,
    /// Since the hand last passed.
    used: bool,
    /// Changes since it was last walked.
    changes: u8,
}

impl Slot {
    /// Notes that the page is walked.
    fn walk(&mut self) -> &Arc<Page> {
        self.used = true;
        self.changes = 0;
        &self.page
    }
}

/// A change of the family `score`.
enum Change<'a> {
    /// `None`: deleted.
    Row(&'a [u8], Option<&'a [u8]>),
    DeleteRange(&'a [u8], &'a [u8]),
}

/// `None`: no page can cover this key.
fn shard_of(key: &[u8]) -> Option<usize> {
    let collection = key.get(..COLLECTION)?;
    Some((xxh3_64(collection) >> (64 - SHARD_BITS)) as usize)
}

fn up_to(bound: Bound<&[u8]>) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, bound)
}

fn from(bound: Bound<&[u8]>) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (bound, Bound::Unbounded)
}

fn is_large(page: &Page) -> bool {
    page.count() > 2 * PAGE_ROWS || (page.count() > 1 && page.cost() > MAX_BYTES / 2)
}

impl ScanCache {
    /// A cache of at most about `budget` bytes.
    pub fn new(budget: usize) -> ScanCache {
        ScanCache {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            budget: AtomicUsize::new(budget),
            bytes: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
        }
    }

    /// Changes the bound, bytes.
    pub fn set_budget(&self, budget: usize) {
        self.budget.store(budget, Ordering::Relaxed);
        self.make_room();
    }

    /// The page in which a scan goes on from `edge`: the one that covers this key, or
    /// in reverse what is just before it.
    pub fn page(&self, edge: &[u8], direction: Direction) -> Option<Arc<Page>> {
        let mut shard = self.shards[shard_of(edge)?].lock();
        let found = shard.find(edge, direction);
        match found {
            Some(_) => shard.hits += 1,
            None => shard.misses += 1,
        }
        found
    }

    /// [`ScanCache::page`] and those that a scan up to `end`, or in reverse down to it,
    /// comes to next, as far as they touch: `most` or [`MAX_RUN`], whatever is less.
    pub fn pages(&self, (edge, end): (&[u8], &[u8]), direction: Direction, most: usize) -> Run {
        let mut run = Run::new();
        if let Some(at) = shard_of(edge) {
            let mut shard = self.shards[at].lock();
            shard.run((edge, end), direction, most.min(MAX_RUN), &mut run);
            match run.is_empty() {
                true => shard.misses += 1,
                false => shard.hits += run.len() as u64,
            }
        }
        run
    }

    /// Shows `read` the last row with `first <= key < end`, or that there is none.
    /// `None`: no page knows it.
    pub fn last_row<T>(
        &self,
        first: &[u8],
        end: &[u8],
        read: impl FnOnce(Option<(&[u8], &[u8])>) -> T,
    ) -> Option<T> {
        let mut shard = self.shards[shard_of(end)?].lock();
        let page = shard.walked(end, Direction::Reverse)?;
        let row = match page.below(end) {
            0 if page.lo() > first => return None,
            0 => None,
            at => Some(page.row(at - 1)).filter(|(key, _)| *key >= first),
        };
        let out = read(row);
        shard.hits += 1;
        Some(out)
    }

    /// The row under a key. Outer `None`: no page covers it.
    pub fn row(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let page = self.page(key, Direction::Forward)?;
        Some(page.get(key).map(Bytes::copy_from_slice))
    }

    /// Keeps what a reader has loaded, if nothing was written since: see the module's
    /// documentation.
    pub fn keep(&self, page: Page, is_current: impl Fn() -> bool) -> Arc<Page> {
        let page = Arc::new(page);
        if let Some(at) = shard_of(page.lo()) {
            self.with_shard(at, |shard| {
                if is_current() {
                    shard.insert(&page);
                }
            });
            self.make_room();
        }
        page
    }

    /// Writer, after the RocksDB write: what it changed.
    pub fn apply(&self, effects: &[RowEffect]) {
        let mut changes = effects.iter().filter_map(change_of).peekable();
        while let Some(change) = changes.next() {
            match change {
                Change::DeleteRange(first, end) => self.drop_range(first, end),
                Change::Row(key, value) => {
                    let Some(at) = shard_of(key) else {
                        continue;
                    };
                    // One lock for all that follows of the collection.
                    let is_beside = |next: &Change<'_>| match next {
                        Change::Row(next, _) => next.starts_with(&key[..COLLECTION]),
                        Change::DeleteRange(..) => false,
                    };
                    self.with_shard(at, |shard| {
                        shard.change(key, value);
                        while let Some(Change::Row(key, value)) = changes.next_if(is_beside) {
                            shard.change(key, value);
                        }
                    });
                }
            }
        }
        self.make_room();
    }

    fn drop_range(&self, first: &[u8], end: &[u8]) {
        let same = first.get(..COLLECTION) == end.get(..COLLECTION);
        match shard_of(first).filter(|_| same) {
            Some(at) => self.with_shard(at, |shard| shard.drop_range(first, end)),
            None => {
                (0..SHARDS).for_each(|at| {
                    self.with_shard(at, |shard| shard.drop_range(first, end));
                });
            }
        }
    }

    /// Drops everything.
    pub fn clear(&self) {
        for at in 0..SHARDS {
            self.with_shard(at, |shard| {
                shard.pages.clear();
                shard.hand.clear();
                shard.bytes = 0;
            });
        }
    }

    /// (pages, bytes) now resident.
    pub fn usage(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(n, b), shard| {
            let shard = shard.lock();
            (n + shard.pages.len(), b + shard.bytes)
        })
    }

    /// (hits, misses) so far, of pages that were asked for.
    pub fn counts(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(hits, misses), shard| {
            let shard = shard.lock();
            (hits + shard.hits, misses + shard.misses)
        })
    }

    /// Changes a shard and what all of them weigh together.
    fn with_shard<T>(&self, at: usize, change: impl FnOnce(&mut Shard) -> T) -> T {
        let mut shard = self.shards[at].lock();
        let before = shard.bytes;
        let out = change(&mut shard);
        // Wraps round where it has become less.
        let more = shard.bytes.wrapping_sub(before);
        self.bytes.fetch_add(more, Ordering::Relaxed);
        out
    }

    /// The hand goes on from page to page and from shard to shard until there is room;
    /// a page used since it last passed is kept once more.
    fn make_room(&self) {
        for _ in 0..=2 * SHARDS {
            let bytes = self.bytes.load(Ordering::Relaxed);
            let over = bytes.saturating_sub(self.budget.load(Ordering::Relaxed));
            if over == 0 {
                return;
            }
            let hand = self.hand.load(Ordering::Relaxed);
            if !self.with_shard(hand % SHARDS, |shard| shard.evict(over)) {
                self.hand
                    .store((hand % SHARDS + 1) % SHARDS, Ordering::Relaxed);
            }
        }
    }

    /// Panics unless pages are in order and apart, and weigh what is said.
    #[cfg(test)]
    pub fn check(&self) {
        let mut all = 0;
        for (at, shard) in self.shards.iter().enumerate() {
            let shard = shard.lock();
            let mut last: &[u8] = b"";
            for (lo, slot) in &shard.pages {
                let page = &slot.page;
                assert_eq!(lo[..], *page.lo());
                assert_eq!(shard_of(lo), Some(at));
                assert!(last <= page.lo() && page.lo() < page.hi());
                assert!(!is_large(page));
                assert_eq!(page.within(page.lo(), page.hi()), 0..page.count());
                let keys: Vec<&[u8]> = (0..page.count()).map(|at| page.row(at).0).collect();
                assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
                assert!(keys.iter().all(|key| page.lo() <= *key && *key < page.hi()));
                last = page.hi();
            }
            let bytes: usize = shard.pages.values().map(|slot| slot.page.cost()).sum();
            assert_eq!(shard.bytes, bytes);
            all += bytes;
        }
        assert_eq!(self.bytes.load(Ordering::Relaxed), all);
    }
}

fn change_of(effect: &RowEffect) -> Option<Change<'_>> {
    match effect {
        RowEffect::Put { family, key, value } if *family == Family::Score => {
            Some(Change::Row(&key[..], Some(&value[..])))
        }
        RowEffect::Delete { family, key } if *family == Family::Score => {
            Some(Change::Row(&key[..], None))
        }
        RowEffect::DeleteRange { family, first, end } if *family == Family::Score => {
            Some(Change::DeleteRange(&first[..], &end[..]))
        }
        _ => None,
    }
}

impl Shard {
    fn find(&mut self, edge: &[u8], direction: Direction) -> Option<Arc<Page>> {
        self.walked(edge, direction).cloned()
    }

    fn walked(&mut self, edge: &[u8], direction: Direction) -> Option<&Arc<Page>> {
        let bound = match direction {
            Direction::Forward => Bound::Included(edge),
            Direction::Reverse => Bound::Excluded(edge),
        };
        let mut before = self.pages.range_mut::<[u8], _>(up_to(bound));
        let (_, slot) = before.next_back()?;
        let covers = match direction {
            Direction::Forward => edge < slot.page.hi(),
            Direction::Reverse => edge <= slot.page.hi(),
        };
        if !covers {
            return None;
        }
        Some(slot.walk())
    }

    /// See [`ScanCache::pages`].
    fn run(
        &mut self,
        (edge, end): (&[u8], &[u8]),
        direction: Direction,
        most: usize,
        run: &mut Run,
    ) {
        let Some(first) = self.find(edge, direction) else {
            return;
        };
        let lo = Key::from_slice(first.lo());
        run.push(first);
        let next = match direction {
            Direction::Forward => from(Bound::Excluded(&lo[..])),
            Direction::Reverse => up_to(Bound::Excluded(&lo[..])),
        };
        let mut pages = self.pages.range_mut::<[u8], _>(next);
        while run.len() < most {
            let slot = match direction {
                Direction::Forward => pages.next(),
                Direction::Reverse => pages.next_back(),
            };
            let (Some((_, slot)), Some(last)) = (slot, run.last()) else {
                return;
            };
            let page = &slot.page;
            let follows = match direction {
                Direction::Forward => last.hi() == page.lo() && page.lo() < end,
                Direction::Reverse => page.hi() == last.lo() && end < page.hi(),
            };
            if !follows {
                return;
            }
            run.push(slot.walk().clone());
        }
    }

    fn covering(&self, key: &[u8]) -> Option<&Page> {
        let mut before = self.pages.range::<[u8], _>(up_to(Bound::Included(key)));
        let (_, slot) = before.next_back()?;
        (key < slot.page.hi()).then_some(&*slot.page)
    }

    /// Takes in what of a page is not here yet: of the rest both know the same.
    fn insert(&mut self, page: &Arc<Page>) {
        let mut at = Key::from_slice(page.lo());
        while at[..] < *page.hi() {
            if let Some(known) = self.covering(&at) {
                at = Key::from_slice(known.hi());
                continue;
            }
            let mut behind = self.pages.range::<[u8], _>(from(Bound::Excluded(&at[..])));
            let to = match behind.next() {
                Some((lo, _)) if lo[..] < *page.hi() => Key::from_slice(lo),
                _ => Key::from_slice(page.hi()),
            };
            self.add(page, &at, &to);
            at = to;
        }
    }

    /// Files the rows of a page from `lo` to before `hi`, as so many pages as they
    /// need. Nothing there is covered.
    fn add(&mut self, page: &Arc<Page>, lo: &[u8], hi: &[u8]) {
        let is_whole = lo == page.lo() && hi == page.hi();
        if is_whole && !is_large(page) {
            return self.file(page.clone());
        }
        let rows = page.within(lo, hi);
        let least = if is_large(page) && rows.len() > 1 {
            2
        } else {
            1
        };
        let pieces = (rows.len() / PAGE_ROWS).max(least);
        let size = rows.len().div_ceil(pieces).max(1);
        let (mut at, mut lo) = (rows.start, lo);
        loop {
            let until = (at + size).min(rows.end);
            let end = match until == rows.end {
                true => hi,
                false => page.row(until).0,
            };
            if page.bytes_of(at..until) <= MAX_BYTES {
                self.file(Arc::new(page.part(at..until, lo, end)));
            }
            if until == rows.end {
                break;
            }
            (at, lo) = (until, end);
        }
    }

    fn file(&mut self, page: Arc<Page>) {
        let cost = page.cost();
        if cost > MAX_BYTES {
            return;
        }
        self.bytes += cost;
        let lo = Key::from_slice(page.lo());
        let few = page.count() <= FEW_ROWS;
        let slot = Slot {
            page,
            used: false,
            changes: 0,
        };
        if few {
            self.pages.insert(Key::from_slice(&lo), slot);
            self.join(&lo);
        } else {
            self.pages.insert(lo, slot);
        }
    }

    /// Joins a page of few rows with one that it touches.
    fn join(&mut self, lo: &[u8]) {
        let Some(slot) = self.pages.get(lo) else {
            return;
        };
        let hi = Key::from_slice(slot.page.hi());
        if self.merge(lo, &hi) {
            return;
        }
        let mut before = self.pages.range::<[u8], _>(up_to(Bound::Excluded(lo)));
        if let Some((left, _)) = before.next_back() {
            let left = Key::from_slice(left);
            self.merge(&left, lo);
        }
    }

    /// Makes one of two pages if they touch and have room for each other.
    fn merge(&mut self, left: &[u8], right: &[u8]) -> bool {
        let (Some(a), Some(b)) = (self.pages.get(left), self.pages.get(right)) else {
            return false;
        };
        let rows = a.page.count() + b.page.count();
        let bytes = a.page.cost() + b.page.cost();
        if a.page.hi() != right || rows > JOINED_ROWS || bytes > MAX_BYTES / 4 {
            return false;
        }
        let Some(taken) = self.remove(right) else {
            return false;
        };
        let Some(slot) = self.pages.get_mut(left) else {
            return false;
        };
        self.bytes -= slot.page.cost();
        Arc::make_mut(&mut slot.page).append(&taken);
        self.bytes += slot.page.cost();
        true
    }

    fn remove(&mut self, lo: &[u8]) -> Option<Arc<Page>> {
        let slot = self.pages.remove(lo)?;
        self.bytes -= slot.page.cost();
        Some(slot.page)
    }

    fn change(&mut self, key: &[u8], value: Option<&[u8]>) {
        let mut before = self.pages.range_mut::<[u8], _>(up_to(Bound::Included(key)));
        let Some((lo, slot)) = before.next_back() else {
            return;
        };
        if key >= slot.page.hi() {
            return;
        }
        // A row so long is not copied to be dropped with its page.
        let is_long = key.len() + value.map_or(0, <[u8]>::len) > MAX_BYTES / 2;
        if is_long || slot.changes == MAX_CHANGES {
            let lo = Key::from_slice(lo);
            self.remove(&lo);
            return;
        }
        slot.changes += 1;
        self.bytes -= slot.page.cost();
        let page = Arc::make_mut(&mut slot.page);
        match value {
            Some(value) => page.put(key, value),
            None => page.delete(key),
        }
        self.bytes += page.cost();
        let rows = page.count();
        if is_large(page) || page.cost() > MAX_BYTES {
            let lo = Key::from_slice(lo);
            if let Some(page) = self.remove(&lo) {
                self.add(&page, page.lo(), page.hi());
            }
        } else if value.is_none() && rows <= FEW_ROWS && rows.is_multiple_of(4) {
            // Not at every delete: a neighbour that is full stays so for long.
            let lo = Key::from_slice(lo);
            self.join(&lo);
        }
    }

    fn drop_range(&mut self, first: &[u8], end: &[u8]) {
        if first >= end {
            return;
        }
        if let Some(page) = self.covering(first) {
            let lo = Key::from_slice(page.lo());
            self.remove(&lo);
        }
        let range = (Bound::Included(first), Bound::Excluded(end));
        while let Some((lo, _)) = self.pages.range::<[u8], _>(range).next() {
            let lo = Key::from_slice(lo);
            self.remove(&lo);
        }
    }

    /// Moves the hand on until `over` bytes are free. False: it is at the shard's end.
    fn evict(&mut self, over: usize) -> bool {
        let target = self.bytes.saturating_sub(over);
        while self.bytes > target {
            let ahead = from(Bound::Excluded(&self.hand[..]));
            let mut pages = self.pages.range_mut::<[u8], _>(ahead);
            let unused = pages.find_map(|(lo, slot)| {
                let used = std::mem::take(&mut slot.used);
                (!used).then(|| Key::from_slice(lo))
            });
            let Some(lo) = unused else {
                self.hand.clear();
                return false;
            };
            self.remove(&lo);
            self.hand = lo;
        }
        target > 0 || !self.pages.is_empty()
    }
}

#[cfg(test)]
#[path = "scan_cache_tests.rs"]
mod tests;
