//! Whether garbage is being collected: one collection at a time, and one more behind
//! it for what became garbage meanwhile.

use std::sync::atomic::{AtomicU8, Ordering};

const IDLE: u8 = 0;
const RUNNING: u8 = 1;
/// It runs, and something became garbage since.
const ONCE_MORE: u8 = 2;

/// See the module's documentation.
#[derive(Default)]
pub struct Collection(AtomicU8);

impl Collection {
    /// Asks for a collection. True: the caller is to run it; false: whoever runs one
    /// will run another.
    pub fn begin(&self) -> bool {
        let order = Ordering::AcqRel;
        let asked = |state| Some(if state == IDLE { RUNNING } else { ONCE_MORE });
        let before = self.0.fetch_update(order, Ordering::Acquire, asked);
        before == Ok(IDLE)
    }

    /// The collection has ended. True: it is to be run again.
    pub fn again(&self) -> bool {
        let ended = |state| Some(if state == ONCE_MORE { RUNNING } else { IDLE });
        let before = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, ended);
        before == Ok(ONCE_MORE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_collection_runs_and_one_more_for_all_that_was_asked_meanwhile() {
        let collection = Collection::default();
        assert!(collection.begin());
        assert!(!collection.begin() && !collection.begin());
        assert!(collection.again());
        assert!(!collection.again());
        assert!(collection.begin());
    }
}
