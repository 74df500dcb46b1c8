//! The protocol of the scan cache, and its bounds, without RocksDB.

use super::*;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A key of one collection under tag 1.
fn key(collection: u16, rest: &str) -> Vec<u8> {
    let mut key = vec![0; COLLECTION - 2];
    key.extend_from_slice(&collection.to_be_bytes());
    key.push(1);
    key.extend_from_slice(rest.as_bytes());
    key
}

/// A page of some keys that knows what is from `lo` to before `hi`.
fn page(collection: u16, (lo, hi): (&str, &str), rows: &[&str]) -> Page {
    let mut page = Page::default();
    for row in rows {
        page.push(&key(collection, row), b"v");
    }
    page.bounded(&key(collection, lo), &key(collection, hi))
}

fn put(key: &[u8], value: &str) -> RowEffect {
    RowEffect::Put {
        family: Family::Score,
        key: key.into(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn delete(key: &[u8]) -> RowEffect {
    RowEffect::Delete {
        family: Family::Score,
        key: key.into(),
    }
}

/// All rows of the page that covers the first key of a collection.
fn rows_at_start(cache: &ScanCache, collection: u16) -> Option<Rows> {
    let page = cache.page(&key(collection, ""), Direction::Forward)?;
    let rows = (0..page.count()).map(|at| page.row(at));
    Some(rows.map(|(k, v)| (k.to_vec(), v.to_vec())).collect())
}

#[test]
fn a_page_is_kept_only_if_nothing_was_written_since_it_was_read() {
    let cache = ScanCache::new(1 << 20);
    let stale = cache.keep(page(1, ("", "z"), &["a"]), || false);
    assert_eq!(stale.count(), 1, "its reader uses it all the same");
    assert!(rows_at_start(&cache, 1).is_none());
    cache.keep(page(1, ("", "z"), &["a"]), || true);
    assert_eq!(rows_at_start(&cache, 1).unwrap().len(), 1);
    assert_eq!(cache.counts(), (1, 1));
}

#[test]
fn the_epoch_is_looked_at_under_the_lock_that_the_writer_takes() {
    let cache = ScanCache::new(1 << 20);
    let shard = shard_of(&key(1, "")).unwrap();
    cache.keep(page(1, ("", "z"), &[]), || {
        cache.shards[shard].try_lock().is_none()
    });
    assert!(rows_at_start(&cache, 1).is_some());
}

#[test]
fn a_reader_keeps_the_page_that_it_walks_and_the_next_one_sees_what_was_written() {
    let cache = ScanCache::new(1 << 20);
    cache.keep(page(1, ("", "z"), &["a", "c"]), || true);
    let old = cache.page(&key(1, "b"), Direction::Forward).unwrap();
    cache.apply(&[
        put(&key(1, "b"), "new"),
        delete(&key(1, "c")),
        put(&key(1, "zz"), "of a stretch that nobody knows"),
        put(b"short", "of no collection"),
    ]);
    assert_eq!(
        (old.row(0).0, old.row(1).0),
        (&key(1, "a")[..], &key(1, "c")[..])
    );
    let rows = rows_at_start(&cache, 1).unwrap();
    let keys: Vec<_> = rows.keys().cloned().collect();
    assert_eq!(keys, [key(1, "a"), key(1, "b")]);
    assert_eq!(
        cache.row(&key(1, "b")),
        Some(Some(Bytes::from_static(b"new")))
    );
    assert_eq!(cache.row(&key(1, "c")), Some(None));
    assert_eq!(cache.row(&key(1, "zz")), None);
    cache.check();
}

/// All orders of three steps of a reader (take the epoch, make the iterator, keep the
/// page) and of eight of the writer (two writes of: epoch, RocksDB, cache, epoch).
#[test]
fn no_order_of_a_reader_and_the_writer_leaves_a_page_that_rocksdb_does_not_hold() {
    const STEPS: u32 = 11;
    let orders = (0u32..1 << STEPS).filter(|order| order.count_ones() == 3);
    let kept = orders.filter(|order| run_in_order(*order, STEPS)).count();
    assert_eq!(kept, 3, "those where the reader is quite alone");
}

/// Whether a page was kept.
fn run_in_order(order: u32, steps: u32) -> bool {
    let cache = ScanCache::new(1 << 20);
    let mut stored = Rows::from([(key(1, "a"), b"0".to_vec()), (key(1, "b"), b"0".to_vec())]);
    let (mut epoch, mut reader, mut writer) = (0u64, 0, 0usize);
    let (mut seen_epoch, mut seen) = (0u64, Rows::new());
    for step in 0..steps {
        if order >> step & 1 == 1 {
            match reader {
                0 => seen_epoch = epoch,
                1 => seen = stored.clone(),
                _ if seen_epoch.is_multiple_of(2) => {
                    let mut page = Page::default();
                    seen.iter().for_each(|(key, value)| page.push(key, value));
                    let page = page.bounded(&key(1, ""), &key(2, ""));
                    cache.keep(page, || epoch == seen_epoch);
                }
                _ => {}
            }
            reader += 1;
        } else {
            let (first, second) = [("a", "b"), ("b", "a")][writer / 4];
            match writer % 4 {
                1 => {
                    stored.insert(key(1, first), b"1".to_vec());
                    stored.remove(&key(1, second));
                }
                2 => cache.apply(&[put(&key(1, first), "1"), delete(&key(1, second))]),
                _ => epoch += 1,
            }
            writer += 1;
        }
        if epoch.is_multiple_of(2)
            && let Some(rows) = rows_at_start(&cache, 1)
        {
            assert_eq!(rows, stored, "order {order:b}, step {step}");
        }
    }
    rows_at_start(&cache, 1).is_some()
}

#[test]
fn pages_of_overlapping_loads_do_not_overlap() {
    let cache = ScanCache::new(1 << 20);
    cache.keep(page(1, ("d", "g"), &["d", "f"]), || true);
    cache.keep(page(1, ("k", "m"), &["l"]), || true);
    cache.keep(page(1, ("a", "z"), &["b", "d", "f", "h", "l", "x"]), || {
        true
    });
    cache.check();
    let mut edge = key(1, "a");
    let mut rows = 0;
    while let Some(page) = cache.page(&edge, Direction::Forward) {
        rows += page.count();
        edge = page.hi().to_vec();
    }
    assert_eq!((rows, edge), (6, key(1, "z")));
    // In reverse a page ends at an edge, too.
    assert!(cache.page(&key(1, "z"), Direction::Reverse).is_some());
    assert!(cache.page(&key(1, "a"), Direction::Reverse).is_none());
    assert!(cache.page(&key(2, "m"), Direction::Reverse).is_none());
}

#[test]
fn a_page_that_is_changed_often_and_never_walked_goes() {
    let cache = ScanCache::new(1 << 20);
    cache.keep(page(1, ("", "z"), &["a"]), || true);
    let changes = |n: u8| -> Vec<_> { (0..n).map(|_| put(&key(1, "a"), "w")).collect() };
    cache.apply(&changes(MAX_CHANGES));
    assert!(cache.row(&key(1, "a")).is_some());
    cache.apply(&changes(MAX_CHANGES));
    assert_eq!(cache.usage().0, 1, "it was walked in between");
    cache.apply(&changes(1));
    assert_eq!(cache.usage(), (0, 0));
    cache.check();
}

#[test]
fn pages_that_grow_are_split_and_pages_that_shrink_are_joined() {
    let cache = ScanCache::new(1 << 20);
    cache.keep(page(1, ("", "z"), &[]), || true);
    let keys: Vec<_> = (0..1000).map(|n| key(1, &format!("{n:04}"))).collect();
    // What is changed often and never walked would go.
    let change = |change: RowEffect, key: &[u8]| {
        cache.apply(&[change]);
        assert!(cache.page(key, Direction::Forward).is_some());
    };
    keys.iter().for_each(|key| change(put(key, "v"), key));
    cache.check();
    assert!((8..=16).contains(&cache.usage().0), "{:?}", cache.usage());
    keys.iter().for_each(|key| change(delete(key), key));
    cache.check();
    assert!(cache.usage().0 <= 8, "{:?}", cache.usage());
    assert_eq!(
        cache.row(&keys[500]),
        Some(None),
        "it is known to be absent"
    );
}

#[test]
fn a_range_that_is_deleted_takes_its_pages_along() {
    let ranges = [
        (key(1, "b"), key(1, "d")),
        (key(1, ""), key(1, "bb")),
        // All rows of the collection, as a range of versions.
        (
            key(1, "")[..COLLECTION].to_vec(),
            key(2, "")[..COLLECTION].to_vec(),
        ),
    ];
    for (first, end) in ranges {
        let cache = ScanCache::new(1 << 20);
        cache.keep(page(1, ("a", "c"), &["b"]), || true);
        cache.keep(page(2, ("a", "c"), &["b"]), || true);
        let family = Family::Score;
        cache.apply(&[RowEffect::DeleteRange { family, first, end }]);
        assert!(cache.page(&key(1, "b"), Direction::Forward).is_none());
        assert!(cache.page(&key(2, "b"), Direction::Forward).is_some());
        cache.check();
    }
}

#[test]
fn the_bound_holds_and_used_pages_stay() {
    const BUDGET: usize = 64 << 10;
    let cache = ScanCache::new(BUDGET);
    for collection in 0..2000 {
        cache.keep(page(collection, ("", "z"), &["a", "b", "c"]), || true);
        cache.page(&key(0, "a"), Direction::Forward);
    }
    let (pages, bytes) = cache.usage();
    assert!(
        bytes <= BUDGET && pages > 50,
        "{pages} pages, {bytes} bytes"
    );
    let used = cache.page(&key(0, "a"), Direction::Forward);
    assert!(used.is_some(), "a page in constant use was evicted");
    // One collection alone may have all of it.
    let long = "m".repeat(100);
    for n in 0..2000 {
        let (lo, hi) = (format!("{n:04}"), format!("{:04}", n + 1));
        let row = format!("{lo}{long}");
        cache.keep(page(3000, (lo.as_str(), hi.as_str()), &[&row]), || true);
    }
    cache.check();
    assert!((BUDGET / 2..=BUDGET).contains(&cache.usage().1));
    cache.clear();
    cache.check();
    assert_eq!(cache.usage(), (0, 0));
}

#[test]
fn what_is_too_large_for_a_page_is_not_kept() {
    let cache = ScanCache::new(64 << 20);
    let huge = "h".repeat(MAX_BYTES);
    cache.keep(page(1, ("", "z"), &[&huge]), || true);
    assert_eq!(cache.usage(), (0, 0));
    cache.keep(page(1, ("", "z"), &["a"]), || true);
    cache.apply(&[put(&key(1, &huge), "v")]);
    cache.check();
    assert!(
        cache
            .page(&key(1, "h"), Direction::Forward)
            .is_none_or(|page| page.count() <= 1)
    );
}
