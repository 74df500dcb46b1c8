//! Figures over all groups of this process, for INFO and MEMORY STATS.
//!
//! They may read the disk: ask for them off the network threads.

use crate::config::AppendFsync;
use crate::group::Group;
use crate::server::Server;
use crate::storage::generations::DATABASES;
use crate::storage::keys::{split, split_expiry};

/// Rows of the `expiry` index that are counted; what is beyond is estimated.
const MAX_COUNTED: u64 = 20_000;

/// One database, over all groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DbFigures {
    /// Exact.
    pub keys: u64,
    /// Keys with an expiry: exact up to some ten thousands, else estimated.
    pub expires: u64,
    /// Milliseconds that those still have on average.
    pub average_ttl: u64,
}

/// Databases that hold keys, in order.
pub(super) fn figures(server: &Server) -> Vec<(usize, DbFigures)> {
    let mut all = [DbFigures::default(); DATABASES];
    for group in server.groups() {
        let expiring = count_expiring(&group);
        for (db, figures) in all.iter_mut().enumerate() {
            figures.keys += key_count(&group, db);
            let (count, ttl) = expiring[db];
            let whole = figures.expires + count;
            if whole > 0 {
                let sum = u128::from(figures.average_ttl) * u128::from(figures.expires)
                    + u128::from(ttl) * u128::from(count);
                figures.average_ttl = (sum / u128::from(whole)) as u64;
            }
            figures.expires = whole;
        }
    }
    let mut found: Vec<(usize, DbFigures)> = all.into_iter().enumerate().collect();
    found.retain(|(_, figures)| figures.keys > 0);
    // An estimate never exceeds what is known exactly.
    found
        .iter_mut()
        .for_each(|(_, f)| f.expires = f.expires.min(f.keys));
    found
}

/// Keys of one database in one group.
pub(crate) fn key_count(group: &Group, db: usize) -> u64 {
    group.store.with_maps(|maps| {
        let runs = maps.live.runs(db);
        runs.iter()
            .map(|(a, b, g)| group.store.counters.sum(*g, *a..=*b))
            .sum()
    })
}

/// Per database: how many rows the `expiry` index has, and their mean time left.
fn count_expiring(group: &Group) -> [(u64, u64); DATABASES] {
    let engine = group.store.engine();
    let now = group.now();
    let maps = group.store.maps();
    let mut counts = [(0_u64, 0_u128); DATABASES];
    let mut seen = 0;
    let mut rows = engine.db.raw_iterator_cf(&engine.expiry);
    rows.seek_to_first();
    while let Some(row) = rows.key() {
        if seen == MAX_COUNTED {
            break;
        }
        seen += 1;
        if let (Some((slot, generation, _)), Some((at, _))) = (split(row), split_expiry(row))
            && let Some(db) = maps.live.database_of(slot, generation)
            && at >= now
        {
            counts[db].0 += 1;
            counts[db].1 += u128::from(at - now);
        }
        rows.next();
    }
    let property = "rocksdb.estimate-num-keys";
    let estimate = engine
        .db
        .property_int_value_cf(&engine.expiry, property)
        .ok()
        .flatten();
    let scale = match (seen == MAX_COUNTED, estimate) {
        (true, Some(estimate)) => estimate.max(seen) as f64 / seen as f64,
        _ => 1.0,
    };
    counts.map(|(count, left)| {
        let mean = left.checked_div(u128::from(count)).unwrap_or(0) as u64;
        ((count as f64 * scale) as u64, mean)
    })
}

/// Keys of all databases and groups.
pub(super) fn total_keys(server: &Server) -> u64 {
    let groups = server.groups();
    groups
        .iter()
        .map(|group| (0..DATABASES).map(|db| key_count(group, db)).sum::<u64>())
        .sum()
}

/// Bytes of live files.
pub(super) fn disk_bytes(server: &Server) -> u64 {
    server
        .groups()
        .iter()
        .map(|group| group.store.disk_bytes())
        .sum()
}

/// Bytes that the buffers of clients take, of replicas or of all others. Those who are
/// on their way out have gone, as in Redis.
pub(super) fn client_bytes(server: &Server, replicas: bool) -> u64 {
    let all = server.clients.iter();
    let these = all.filter(|client| client.is_replica() == replicas && !client.is_gone());
    these.map(|client| client.memory() as u64).sum()
}

/// What a reply promises, in words.
pub(super) fn durability(server: &Server) -> String {
    let mode = match server.live.appendfsync() {
        AppendFsync::Always => "always",
        AppendFsync::Everysec => "everysec",
        AppendFsync::No => "no",
    };
    match server.is_cluster() {
        true => format!("quorum,{mode}"),
        false => mode.to_owned(),
    }
}
