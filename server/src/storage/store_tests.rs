//! What a store does on its own, without a group above it.

use super::*;
use crate::storage::engine::MemoryPlan;
use crate::storage::{Header, KeyType};
use crate::txn::effects::MapChange;

struct Bench {
    dir: tempfile::TempDir,
    resources: Arc<Resources>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            dir: tempfile::tempdir().unwrap(),
            resources: Resources::new(MemoryPlan::divide(64 << 20), 2),
        }
    }

    fn open(&self) -> Store {
        let map = GenerationMap::all_slots();
        Store::open(self.dir.path(), &self.resources, true, map).unwrap()
    }
}

fn key(store: &Store, name: &[u8]) -> MetaKey {
    let slot = slot_of(name);
    MetaKey::new(slot, store.maps().live.get(0, slot), name)
}

fn apply(store: &Store, effects: &Effects) {
    let position = Position {
        index: store.position().index + 1,
        term: 0,
    };
    store.apply(effects, position, Log::Wal, true).unwrap();
}

fn put(store: &Store, name: &[u8]) {
    put_value(store, name, b"v");
}

fn put_value(store: &Store, name: &[u8], value: &[u8]) {
    let key = key(store, name);
    let record = Record::new(&key, &Header::inline(KeyType::String, None), value);
    let put = MetaEffect {
        key,
        record: Some(record),
        created: true,
        old_expiry: None,
    };
    let metas = vec![put];
    apply(
        store,
        &Effects {
            metas,
            ..Effects::default()
        },
    );
}

#[test]
fn a_store_keeps_its_share_of_the_caches() {
    let bench = Bench::new();
    let store = bench.open();
    let plan = bench.resources.plan;
    let value = vec![7; 8 << 10];
    let fill = || {
        for n in 0..plan.record_cache / value.len() {
            put_value(&store, n.to_string().as_bytes(), &value);
        }
    };
    fill();
    let (_, whole) = store.cache.usage();
    assert!(whole > plan.record_cache / 2, "{whole}");
    store.share_caches(&plan, 4);
    fill();
    let (_, share) = store.cache.usage();
    assert!(share <= plan.record_cache / 4, "{share}");
    assert!(share > plan.record_cache / 8, "{share}");
}

/// Whether the cache alone knows that `name` does not exist.
fn is_known_absent(store: &Store, name: &[u8]) -> bool {
    let key = key(store, name);
    matches!(store.cache.get(key.hash(), key.physical()), Ok(None))
}

#[test]
fn a_store_that_began_empty_knows_what_does_not_exist_until_it_is_opened_again() {
    let bench = Bench::new();
    let store = bench.open();
    assert!(is_known_absent(&store, b"a"));
    put(&store, b"a");
    assert!(is_known_absent(&store, b"b"));
    drop(store);
    let store = bench.open();
    assert!(!is_known_absent(&store, b"b"));
    assert!(store.record(&key(&store, b"a"), true).unwrap().is_some());
    assert!(store.record(&key(&store, b"b"), true).unwrap().is_none());
}

#[test]
fn a_store_that_was_flushed_knows_again_what_does_not_exist() {
    let bench = Bench::new();
    put(&bench.open(), b"a");
    let store = bench.open();
    let flush = |db| Effects {
        maps: vec![MapChange::Renew { db }],
        ..Effects::default()
    };
    apply(&store, &flush(1));
    assert!(!is_known_absent(&store, b"b"), "a key is left");
    apply(&store, &flush(0));
    assert!(is_known_absent(&store, b"a") && is_known_absent(&store, b"b"));
    assert!(store.record(&key(&store, b"a"), true).unwrap().is_none());
}

/// Regression: 128 KB stayed in memory, and a row on disk, for each database that was
/// ever flushed.
#[test]
fn what_was_flushed_is_counted_no_more() {
    let bench = Bench::new();
    let store = bench.open();
    for _ in 0..20 {
        put(&store, b"a");
        assert_eq!(store.live_keys(&store.maps()), 1);
        let maps = vec![MapChange::Renew { db: 0 }];
        apply(
            &store,
            &Effects {
                maps,
                ..Effects::default()
            },
        );
        assert_eq!(store.live_keys(&store.maps()), 0);
    }
    assert!(store.counters.others(|_| false).is_empty());
    put(&store, b"a");
    drop(store);
    let store = bench.open();
    assert_eq!(store.live_keys(&store.maps()), 1);
    assert_eq!(store.counters.others(|_| false).len(), 1);
    let snapshots = store.system_rows(b"C").unwrap();
    assert!(snapshots.len() <= 1, "{snapshots:?}");
}

#[test]
fn the_last_level_is_not_written_again_because_a_view_was_replaced() {
    let bench = Bench::new();
    let store = bench.open();
    put_value(&store, b"k", b"seen by the view");
    let view = store.pin_view();
    put_value(&store, b"k", b"newer");
    store.compact();
    let files = || -> Vec<String> {
        let files = store.engine.db.live_files().unwrap().into_iter();
        files
            .filter(|file| file.column_family_name == "meta")
            .map(|file| file.name)
            .collect()
    };
    let compacted = files();
    assert_eq!(compacted.len(), 1);
    drop(view);
    // RocksDB looks at its files when a snapshot goes.
    let options = rocksdb::WaitForCompactOptions::default();
    store.engine.db.wait_for_compact(&options).unwrap();
    assert_eq!(files(), compacted);
}
