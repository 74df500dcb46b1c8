//! The upkeep thread: syncs in the background (`Durability::Interval`), cuts logs as the
//! loop decided, gives disk space back.
//!
//! A thread of its own, because a sync of a second's worth of writes takes long, and no
//! reply may wait for it. Cut, sync and reclaim happen here in this order and nowhere
//! else: files must not go before the cut that frees them is on the device.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::log_store::{Durability, GroupWrite, LogBatch, LogError};
use super::shared::NodeShared;

/// Time between two attempts to give disk space back.
const RECLAIM_EVERY: Duration = Duration::from_secs(10);

/// Runs until told to stop, or until the log fails.
pub(super) fn run(
    shared: &Arc<NodeShared>,
    durability: Durability,
    cut_every: Duration,
) -> Result<(), LogError> {
    let period = match durability {
        Durability::Always => cut_every,
        Durability::Interval(interval) => interval,
    };
    let mut reclaimed = Instant::now();
    let mut next = Instant::now() + period;
    loop {
        let (cuts, stop) = wait(shared, next);
        if shared.has_failed() {
            return Ok(());
        }
        next = Instant::now() + period;
        let cut = !cuts.is_empty();
        write_cuts(shared, cuts)?;
        if shared.unsynced.swap(false, Ordering::SeqCst) || cut {
            shared.store.sync()?;
        }
        if cut && reclaimed.elapsed() >= RECLAIM_EVERY {
            reclaimed = Instant::now();
            reclaim(shared)?;
        }
        if stop {
            return Ok(());
        }
    }
}

type Cuts = std::collections::HashMap<u64, super::log_store::LogPosition>;

fn wait(shared: &NodeShared, until: Instant) -> (Cuts, bool) {
    let mut state = shared.upkeep.lock();
    while !state.stop {
        if shared.upkeep_wake.wait_until(&mut state, until).timed_out() {
            break;
        }
    }
    (std::mem::take(&mut state.cuts), state.stop)
}

fn write_cuts(shared: &NodeShared, cuts: Cuts) -> Result<(), LogError> {
    if cuts.is_empty() {
        return Ok(());
    }
    let mut batch = LogBatch::default();
    for (group, cut) in cuts {
        let write = GroupWrite {
            cut: Some(cut),
            ..GroupWrite::default()
        };
        batch.push(group, write);
    }
    shared.store.write(&mut batch, false)
}

fn reclaim(shared: &NodeShared) -> Result<(), LogError> {
    for group in shared.store.reclaim()? {
        if let Some(group) = shared.groups.get(&group) {
            group.pins_files.store(true, Ordering::Relaxed);
        }
    }
    Ok(())
}
