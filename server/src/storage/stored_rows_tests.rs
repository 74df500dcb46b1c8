//! Scans over a store, through the scan cache, against models.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rocksdb::IteratorMode;

use super::*;
use crate::storage::generations::GenerationMap;
use crate::storage::{Log, MemoryPlan, Position, Resources};
use crate::txn::effects::{Effects, RowEffect};

type Rows = Vec<(Vec<u8>, Vec<u8>)>;
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const BUDGET: usize = 1 << 20;

struct Bench {
    store: Arc<Store>,
    _resources: Arc<Resources>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(budget: usize) -> Bench {
        Bench::open(tempfile::tempdir().unwrap(), budget)
    }

    fn open(dir: tempfile::TempDir, budget: usize) -> Bench {
        let plan = MemoryPlan {
            scan_cache: budget,
            ..MemoryPlan::divide(64 << 20)
        };
        let resources = Resources::new(plan, 2);
        let store = Store::open(dir.path(), &resources, true, GenerationMap::all_slots()).unwrap();
        Bench {
            store: Arc::new(store),
            _resources: resources,
            dir,
        }
    }
}

fn apply(store: &Store, rows: Vec<RowEffect>) {
    let position = Position {
        index: store.position().index + 1,
        term: 0,
    };
    let effects = Effects {
        rows,
        ..Effects::default()
    };
    store.apply(&effects, position, Log::Wal, true).unwrap();
}

fn put(key: &[u8], value: &[u8]) -> RowEffect {
    RowEffect::Put {
        family: Family::Score,
        key: key.into(),
        value: Bytes::copy_from_slice(value),
    }
}

fn delete(key: &[u8]) -> RowEffect {
    RowEffect::Delete {
        family: Family::Score,
        key: key.into(),
    }
}

fn key(collection: u8, tag: u8, rest: &str) -> Vec<u8> {
    let mut key = vec![0; HEAD - 2];
    key.extend_from_slice(&[collection, tag]);
    key.extend_from_slice(rest.as_bytes());
    key
}

/// Begin and end of all rows under a tag.
fn all(collection: u8, tag: u8) -> (Vec<u8>, Vec<u8>) {
    (key(collection, tag, ""), key(collection, tag + 1, ""))
}

/// At most `most` rows of a scan.
fn collect(store: &Store, scan: Scan<'_>, most: usize) -> Result<Rows, CommandError> {
    let mut rows = StoredRows::new(store, scan)?;
    let mut found = Vec::new();
    while let Some((key, value)) = rows.current()? {
        found.push((key.to_vec(), value.to_vec()));
        if found.len() == most {
            break;
        }
        rows.step()?;
    }
    Ok(found)
}

fn scan((first, end): &(Vec<u8>, Vec<u8>), direction: Direction) -> Scan<'_> {
    Scan {
        family: Family::Score,
        first,
        end,
        direction,
        disk: true,
        keep: true,
        pin: None,
    }
}

fn misses(store: &Store) -> u64 {
    store.scan_cache.counts().1
}

/// Rows `from..to` under tag 1 of the first collection.
fn fill(store: &Store, rows: Range<usize>) {
    let puts = rows.map(|n| put(&key(0, 1, &format!("{n:04}")), b"v"));
    apply(store, puts.collect());
}

#[test]
fn a_scan_that_was_made_once_asks_rocksdb_no_more() {
    let bench = Bench::new(BUDGET);
    let store = &*bench.store;
    fill(store, 0..300);
    let range = all(0, 1);
    let forward = || collect(store, scan(&range, Direction::Forward), 10).unwrap();
    let reverse = || collect(store, scan(&range, Direction::Reverse), 10).unwrap();
    let (first, last) = (forward(), reverse());
    assert_eq!(first[0].0, key(0, 1, "0000"));
    assert_eq!(last[0].0, key(0, 1, "0299"));
    let before = misses(store);
    assert_eq!((forward(), reverse()), (first, last));
    apply(
        store,
        vec![delete(&key(0, 1, "0000")), put(&key(0, 1, "00005"), b"w")],
    );
    apply(store, vec![put(&key(0, 1, "9999"), b"w")]);
    assert_eq!(forward()[0], (key(0, 1, "00005"), b"w".to_vec()));
    assert_eq!(reverse()[0].0, key(0, 1, "9999"));
    let row = |name| store.row(Family::Score, &key(0, 1, name), true).unwrap();
    assert_eq!(row("00005").as_deref(), Some(&b"w"[..]));
    assert_eq!(row("0000"), None);
    assert_eq!(misses(store), before);
}

#[test]
fn what_is_between_two_rows_is_known_when_a_scan_began_there() {
    let bench = Bench::new(BUDGET);
    let store = &*bench.store;
    apply(
        store,
        vec![put(&key(0, 1, "c"), b""), put(&key(0, 1, "m"), b"")],
    );
    let from_k = (key(0, 1, "k"), key(0, 2, ""));
    let found = collect(store, scan(&from_k, Direction::Forward), 1).unwrap();
    assert_eq!(found[0].0, key(0, 1, "m"));
    let to_f = (key(0, 1, "d"), key(0, 1, "f"));
    let before = misses(store);
    for direction in [Direction::Forward, Direction::Reverse] {
        assert!(
            collect(store, scan(&to_f, direction), 1)
                .unwrap()
                .is_empty()
        );
    }
    assert_eq!(misses(store), before);
    // The other way round.
    store.scan_cache.clear();
    let to_d = (key(0, 1, ""), key(0, 1, "d"));
    let found = collect(store, scan(&to_d, Direction::Reverse), 1).unwrap();
    assert_eq!(found[0].0, key(0, 1, "c"));
    let before = misses(store);
    assert!(
        collect(store, scan(&to_f, Direction::Forward), 1)
            .unwrap()
            .is_empty()
    );
    assert_eq!(misses(store), before);
}

#[test]
fn a_long_scan_keeps_no_more_than_its_three_loads() {
    let bench = Bench::new(BUDGET);
    let store = &*bench.store;
    fill(store, 0..2000);
    let range = all(0, 1);
    for (direction, pages) in [(Direction::Forward, 21), (Direction::Reverse, 10)] {
        store.scan_cache.clear();
        let rows = collect(store, scan(&range, direction), usize::MAX).unwrap();
        assert_eq!(rows.len(), 2000);
        assert_eq!(store.scan_cache.usage().0, pages);
        store.scan_cache.check();
        let again = collect(store, scan(&range, direction), usize::MAX).unwrap();
        assert_eq!(rows, again);
    }
}

#[test]
fn what_is_not_in_memory_is_cold_until_it_was_read() {
    let bench = Bench::new(BUDGET);
    fill(&bench.store, 0..10);
    bench.store.flush().unwrap();
    let Bench { store, dir, .. } = bench;
    drop(store);
    let bench = Bench::open(dir, BUDGET);
    let store = &*bench.store;
    let range = all(0, 1);
    for direction in [Direction::Forward, Direction::Reverse] {
        let in_memory = Scan {
            disk: false,
            ..scan(&range, direction)
        };
        let cold = collect(store, in_memory, 1);
        if matches!(direction, Direction::Forward) {
            assert!(matches!(cold, Err(CommandError::Cold)), "{cold:?}");
        }
        let rows = collect(store, scan(&range, direction), 1).unwrap();
        assert_eq!(collect(store, in_memory, 1).unwrap(), rows);
    }
}

#[test]
fn a_pinned_moment_is_read_as_it_was() {
    let bench = Bench::new(BUDGET);
    let store = &*bench.store;
    fill(store, 0..3);
    let range = all(0, 1);
    let now = scan(&range, Direction::Forward);
    assert_eq!(collect(store, now, 9).unwrap().len(), 3);
    let pin = Pin::passing(&bench.store).unwrap();
    apply(store, vec![delete(&key(0, 1, "0001"))]);
    let then = Scan {
        pin: Some(&pin),
        ..now
    };
    assert_eq!(collect(store, then, 9).unwrap().len(), 3);
    assert_eq!(collect(store, now, 9).unwrap().len(), 2);
}

/// The key of a number; under tag 2 they differ only behind what a page compares first,
/// which is below that of all keys under tag 1.
fn numbered(collection: u8, tag: u8, n: u32, suffix: &str) -> Vec<u8> {
    let front = if tag == 2 { "!the same for all" } else { "" };
    key(collection, tag, &format!("{front}{n:03}{suffix}"))
}

/// A key of some thousand; one in ten is longer than the cache holds in place.
fn any_key(rng: &mut StdRng) -> Vec<u8> {
    let n = rng.random_range(0..600u32);
    let suffix = if n % 10 == 0 {
        "long".repeat(20)
    } else {
        String::new()
    };
    let (collection, tag) = (rng.random_range(0..3), rng.random_range(1..3));
    numbered(collection, tag, n, &suffix)
}

/// A change that is made in the model already.
fn any_change(rng: &mut StdRng, model: &mut Model) -> RowEffect {
    let row = any_key(rng);
    match rng.random_range(0..3000u32) {
        choice @ 0..30 => {
            let near = [&row[..row.len().min(HEAD + 2)], b"~"].concat();
            let other = match choice {
                0 => any_key(rng),
                _ => near,
            };
            let (first, end) = (row.clone().min(other.clone()), row.max(other));
            model.retain(|key, _| *key < first || *key >= end);
            RowEffect::DeleteRange {
                family: Family::Score,
                first,
                end,
            }
        }
        30..1000 => {
            model.remove(&row);
            delete(&row)
        }
        _ => {
            let value = vec![rng.random_range(0..=255u8); rng.random_range(0..12)];
            model.insert(row.clone(), value.clone());
            put(&row, &value)
        }
    }
}

/// One random scan, compared with the model.
fn check_any_scan(rng: &mut StdRng, store: &Store, model: &Model, what: &str) {
    let (collection, tag) = (rng.random_range(0..3), rng.random_range(1..3));
    let mut range = all(collection, tag);
    if rng.random_bool(0.7) {
        let edge = rng.random_range(0..600u32);
        range.0 = numbered(collection, tag, edge, "");
    }
    if rng.random_bool(0.5) {
        let edge = rng.random_range(0..600u32);
        range.1 = numbered(collection, tag, edge, "");
    }
    let most = [1, 3, 20, 100, 1000][rng.random_range(0..5usize)];
    let reverse = rng.random_bool(0.5);
    let direction = match reverse {
        true => Direction::Reverse,
        false => Direction::Forward,
    };
    let found = collect(store, scan(&range, direction), most).unwrap();
    let (first, end) = (range.0.clone().min(range.1.clone()), range.1.clone());
    let rows = model.range((Bound::Included(first), Bound::Excluded(end)));
    let rows = rows.map(|(key, value)| (key.clone(), value.clone()));
    let wanted: Rows = match reverse {
        true => rows.rev().take(most).collect(),
        false => rows.take(most).collect(),
    };
    assert!(
        found == wanted,
        "{what}: {} rows, not {}",
        found.len(),
        wanted.len()
    );
    let mut shown = Rows::new();
    let mut show = |key: &[u8], value: &[u8]| {
        shown.push((key.to_vec(), value.to_vec()));
        match shown.len() == most {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let rows = StoredRows::new(store, scan(&range, direction)).unwrap();
    rows.show(&mut show).unwrap();
    assert!(shown == wanted, "{what}: {} rows shown", shown.len());
    let skipped = rng.random_range(0..=most);
    let mut rows = StoredRows::new(store, scan(&range, direction)).unwrap();
    let past = rows.skip(skipped as u64).unwrap();
    assert_eq!(past, skipped.min(wanted.len()) as u64, "{what}");
    let next = rows.current().unwrap();
    let next = next.map(|(key, value)| (key.to_vec(), value.to_vec()));
    if skipped < wanted.len() {
        assert_eq!(next.as_ref(), wanted.get(skipped), "{what}");
    }
}

#[test]
fn scans_show_what_a_model_holds_whatever_is_changed_and_evicted() {
    const SMALL: usize = 48 << 10;
    for seed in 0..4 {
        let mut rng = StdRng::seed_from_u64(seed);
        let bench = Bench::new(SMALL);
        let store = &*bench.store;
        let mut model = Model::new();
        for round in 0..1500 {
            let what = format!("seed {seed}, round {round}");
            let changes = rng.random_range(1..12usize);
            let rows = (0..changes).map(|_| any_change(&mut rng, &mut model));
            apply(store, rows.collect());
            for _ in 0..2 {
                check_any_scan(&mut rng, store, &model, &what);
            }
            let row = any_key(&mut rng);
            let found = store.row(Family::Score, &row, true).unwrap();
            assert_eq!(found.as_deref(), model.get(&row).map(|v| &v[..]), "{what}");
            if round % 250 == 249 {
                store.flush().unwrap();
            }
            store.scan_cache.check();
            assert!(store.scan_cache.usage().1 <= SMALL, "{what}");
        }
        let (hits, misses) = store.scan_cache.counts();
        assert!(hits > 100 && misses > 100, "{hits} hits, {misses} misses");
    }
}

/// Where a member is that has been moved.
fn place(member: usize, at: u32) -> Vec<u8> {
    key(0, 1, &format!("{at:06}:{member}"))
}

/// All rows, if no apply overlapped the scan.
fn look(store: &Store, direction: Direction) -> Option<Rows> {
    let range = all(0, 1);
    let epoch = store.epoch();
    let rows = collect(store, scan(&range, direction), usize::MAX).unwrap();
    (epoch.is_multiple_of(2) && store.epoch() == epoch).then_some(rows)
}

#[test]
fn a_scan_that_no_apply_overlaps_is_of_one_moment() {
    const MEMBERS: usize = 250;
    let bench = Bench::new(BUDGET);
    let store = &*bench.store;
    let puts = (0..MEMBERS).map(|member| put(&place(member, 0), b""));
    apply(store, puts.collect());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rng = StdRng::seed_from_u64(1);
            let mut places = [0u32; MEMBERS];
            for _ in 0..5000 {
                let (member, to) = (
                    rng.random_range(0..MEMBERS),
                    rng.random_range(0..100_000u32),
                );
                let from = std::mem::replace(&mut places[member], to);
                let moved = vec![delete(&place(member, from)), put(&place(member, to), b"")];
                apply(store, moved);
            }
        });
        while !writer.is_finished() {
            for direction in [Direction::Forward, Direction::Reverse] {
                if let Some(rows) = look(store, direction) {
                    assert_eq!(rows.len(), MEMBERS);
                }
            }
        }
    });
    store.scan_cache.check();
    let engine = store.engine();
    let stored = engine.db.iterator_cf(&engine.score, IteratorMode::Start);
    let mut stored: Rows = stored
        .map(|row| row.unwrap())
        .map(|(key, value)| (key.into_vec(), value.into_vec()))
        .collect();
    assert_eq!(look(store, Direction::Forward).unwrap(), stored);
    stored.reverse();
    assert_eq!(look(store, Direction::Reverse).unwrap(), stored);
}
