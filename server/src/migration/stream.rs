//! The increments of a plan as bytes.
//!
//! One record for each log entry that has effects on moving slots, in log
//! order; batches are cut between records, so how a stream was cut changes
//! neither its meaning nor its hash.
//!
//! ```text
//! record: index u64 | length u32 | effects (opaque here)
//! ```

use super::codec::{DecodeError, Put, Take};
use super::digest::StreamHash;
use bytes::Bytes;

/// Collects records for one batch.
#[derive(Debug, Default)]
pub struct IncrementBatch {
    bytes: Vec<u8>,
}

impl IncrementBatch {
    /// Adds the effects that the entry at `index` has on the moving slots.
    pub fn push(&mut self, index: u64, effects: &[u8]) {
        self.bytes.put_u64(index);
        self.bytes.put_bytes(effects);
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes collected so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn finish(self) -> Bytes {
        Bytes::from(self.bytes)
    }
}

/// Reads the records of a batch, in order.
pub struct IncrementRecords {
    rest: Take,
}

impl IncrementRecords {
    pub fn new(payload: Bytes) -> Self {
        Self {
            rest: Take::new(payload),
        }
    }

    fn record(&mut self) -> Result<(u64, Bytes), DecodeError> {
        Ok((self.rest.u64()?, self.rest.bytes()?))
    }
}

impl Iterator for IncrementRecords {
    type Item = Result<(u64, Bytes), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.rest.remaining() > 0).then(|| self.record())
    }
}

/// The hash after a batch of the entries in `after+1..=through`.
///
/// Refuses records outside that range or out of order.
pub(super) fn hash_batch(
    start: StreamHash,
    after: u64,
    through: u64,
    payload: &Bytes,
) -> Result<StreamHash, DecodeError> {
    let mut hash = start;
    let mut last = after;
    for record in IncrementRecords::new(payload.clone()) {
        let (index, effects) = record?;
        if index <= last || index > through {
            return Err(DecodeError::Invalid("increment order"));
        }
        hash = hash.then(index, &effects);
        last = index;
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(records: &[(u64, &str)]) -> Bytes {
        let mut batch = IncrementBatch::default();
        for (index, effects) in records {
            batch.push(*index, effects.as_bytes());
        }
        batch.finish()
    }

    #[test]
    fn the_cut_of_a_stream_does_not_change_its_hash() {
        let start = StreamHash::default();
        let whole = hash_batch(start, 1, 9, &batch(&[(2, "a"), (5, "b"), (9, "c")]));
        let first = hash_batch(start, 1, 5, &batch(&[(2, "a"), (5, "b")])).unwrap();
        let second = hash_batch(first, 5, 9, &batch(&[(9, "c")]));
        assert_eq!(whole, second);
    }

    #[test]
    fn records_outside_their_batch_are_refused() {
        let start = StreamHash::default();
        let check = |records: &[(u64, &str)]| hash_batch(start, 4, 8, &batch(records)).is_ok();
        assert!(check(&[(5, "a"), (8, "b")]) && check(&[]));
        assert!(!check(&[(4, "a")]) && !check(&[(9, "a")]));
        assert!(!check(&[(6, "a"), (5, "b")]) && !check(&[(6, "a"), (6, "b")]));
        let cut = batch(&[(5, "abc")]).slice(..10);
        assert!(hash_batch(start, 4, 8, &cut).is_err());
    }

    #[test]
    fn a_record_has_frozen_bytes() {
        let bytes = batch(&[(0x0102, "xy")]);
        assert_eq!(&bytes[..], [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 2, b'x', b'y']);
    }
}
