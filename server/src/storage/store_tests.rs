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

/// Names of the files of records, once RocksDB has nothing more to do of its own accord.
fn files_of_records(store: &Store) -> Vec<String> {
    let options = rocksdb::WaitForCompactOptions::default();
    store.engine.db.wait_for_compact(&options).unwrap();
    let files = store.engine.db.live_files().unwrap().into_iter();
    files
        .filter(|file| file.column_family_name == "meta")
        .map(|file| file.name)
        .collect()
}

#[test]
fn the_last_level_is_not_written_again_because_a_view_was_replaced() {
    let bench = Bench::new();
    let store = bench.open();
    put_value(&store, b"k", b"seen by the view");
    let view = store.pin_view();
    put_value(&store, b"k", b"newer");
    store.compact();
    let compacted = files_of_records(&store);
    assert_eq!(compacted.len(), 1);
    // RocksDB looks at its files when a snapshot goes.
    drop(view);
    assert_eq!(files_of_records(&store), compacted);
}

/// Regression: of a hundred thousand lists that were pushed to and popped from, every
/// flush had all records of the database compacted.
#[test]
fn keys_that_come_and_go_have_nothing_compacted_and_a_mass_of_deletes_has() {
    let mut bench = crate::commands::testing::Bench::new();
    let mut each = |command: &dyn Fn(u32) -> String| {
        for n in 0..20_000 {
            bench.run(&command(n));
        }
        bench.store.flush().unwrap();
        files_of_records(&bench.store).len()
    };
    assert_eq!(each(&|n| format!("SET k{n} v")), 1);
    let half = |n: u32| match n % 2 {
        0 => format!("SET k{n} w"),
        _ => format!("DEL k{n}"),
    };
    assert_eq!(each(&half), 2, "compacted for the sake of half");
    assert_eq!(each(&|n| format!("SET k{n} v")), 3);
    assert_eq!(
        each(&|n| format!("DEL k{n}")),
        0,
        "a scan would meet all deletes"
    );
}
