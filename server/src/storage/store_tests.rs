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
    put_until(store, name, None, value);
}

fn put_until(store: &Store, name: &[u8], expires_at: Option<u64>, value: &[u8]) {
    let key = key(store, name);
    let record = Record::new(&key, &Header::inline(KeyType::String, expires_at), value);
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

/// 600 bytes that are no other record's.
fn long_value(number: u32) -> Vec<u8> {
    (0..150)
        .flat_map(|at| (number * 1_000 + at).to_be_bytes())
        .collect()
}

fn splices(store: &Store, name: &[u8]) -> u32 {
    store
        .record(&key(store, name), true)
        .unwrap()
        .unwrap()
        .splices()
}

fn value(store: &Store, name: &[u8]) -> Vec<u8> {
    let record = store.record(&key(store, name), true).unwrap().unwrap();
    record.payload().to_vec()
}

#[test]
fn splices_are_read_as_the_whole_wherever_rocksdb_has_them() {
    let bench = Bench::new();
    let mut store = bench.open();
    let mut values: Vec<Vec<u8>> = (0..50).map(long_value).collect();
    let mut spliced = 0;
    for round in 0..60u32 {
        for (number, value) in values.iter_mut().enumerate() {
            let name = number.to_string();
            match (round + number as u32) % 4 {
                0 => value.extend(round.to_be_bytes()),
                1 => drop(value.drain(..8)),
                2 => value[300..304].copy_from_slice(&round.to_be_bytes()),
                _ => continue,
            }
            put_value(&store, name.as_bytes(), value);
            spliced += u32::from(splices(&store, name.as_bytes()) > 0);
        }
        match round % 10 {
            3 | 6 => store.flush().unwrap(),
            7 => store.compact(),
            9 => {
                drop(store);
                store = bench.open();
            }
            _ => continue,
        }
        store.drop_caches();
        for (number, want) in values.iter().enumerate() {
            let got = value(&store, number.to_string().as_bytes());
            assert!(got == *want, "record {number} in round {round}");
        }
    }
    assert!(spliced > 500, "{spliced}");
}

#[test]
fn so_many_splices_follow_one_another_and_no_more() {
    let bench = Bench::new();
    let store = bench.open();
    let mut value = long_value(1);
    let mut seen = Vec::new();
    for _ in 0..=2 * (MAX_SPLICES + 1) {
        value.push(7);
        put_value(&store, b"k", &value);
        seen.push(splices(&store, b"k"));
    }
    let run = (0..=MAX_SPLICES).collect::<Vec<_>>();
    assert_eq!(seen, [&run[..], &run, &[0]].concat());
    // Nobody knows how many there are of what was read from files.
    store.drop_caches();
    assert!(splices(&store, b"k") > MAX_SPLICES);
    put_value(&store, b"k", &value);
    assert_eq!(splices(&store, b"k"), 0);
}

/// The filter would drop what they follow, wherever it lies.
#[test]
fn no_splice_follows_a_record_with_an_expiry() {
    let bench = Bench::new();
    let store = bench.open();
    for (expires_at, follows) in [(None, 0), (Some(5), 1), (None, 0), (None, 1)] {
        put_until(&store, b"k", expires_at, &long_value(1));
        assert_eq!(splices(&store, b"k"), follows, "{expires_at:?}");
    }
}

#[test]
fn splices_that_have_lost_their_base_end_no_compaction() {
    let bench = Bench::new();
    let store = bench.open();
    let key = key(&store, b"k");
    let mut operand = Vec::new();
    let (old, new) = (long_value(1), [&long_value(1)[..], b"more"].concat());
    assert!(splice::make(&mut operand, &old, &new));
    let meta = store.engine.meta;
    for _ in 0..2 {
        let db = &store.engine.db;
        db.merge_cf(&meta, key.physical(), &operand).unwrap();
        store.flush().unwrap();
    }
    store.compact();
    put_value(&store, b"other", b"v");
    assert_eq!(value(&store, b"other"), b"v");
    // The cache knows nothing of what was written past it.
    store.drop_caches();
    let record = store.record(&key, true).unwrap().unwrap();
    assert_eq!(record.header(), None, "corrupt, and said to be");
}
