//! Two checks that what arrived is what was sent.
//!
//! [`RowDigest`] covers the rows of one chunk as a multiset, because the two
//! sides number their generations differently and so meet the rows in another
//! order. [`StreamHash`] covers the increments as a sequence, independent of
//! how they were cut into batches.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// Multiset digest of logical rows: the wrapping sum of their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowDigest {
    sum: u128,
    rows: u64,
}

impl RowDigest {
    /// Adds one row. `place` is everything logical about its position
    /// (family, slot, client's database, key without generation).
    pub fn add(&mut self, place: &[u8], value: &[u8]) {
        let place_hash = xxh3_64_with_seed(place, place.len() as u64);
        let row = xxh3_128_with_seed(value, place_hash);
        self.sum = self.sum.wrapping_add(row);
        self.rows += 1;
    }

    pub fn value(&self) -> u128 {
        self.sum
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }
}

/// Running hash of the increments of one plan; zero before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamHash(pub u128);

impl StreamHash {
    /// Odd, so that each step is a bijection of the state.
    const STEP: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

    /// The hash after one more log entry with effects on the moving slots.
    #[must_use]
    pub fn then(self, index: u64, effects: &[u8]) -> Self {
        let entry = xxh3_128_with_seed(effects, index);
        Self(self.0.wrapping_mul(Self::STEP).wrapping_add(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_digest_the_same_in_any_order_but_not_with_any_change() {
        let digest = |rows: &[(&str, &str)]| {
            let mut digest = RowDigest::default();
            rows.iter()
                .for_each(|(place, value)| digest.add(place.as_bytes(), value.as_bytes()));
            digest
        };
        let whole = digest(&[("a", "1"), ("b", "2")]);
        assert_eq!(whole, digest(&[("b", "2"), ("a", "1")]));
        assert_ne!(whole, digest(&[("a", "2"), ("b", "1")]));
        assert_ne!(whole, digest(&[("a", "1")]));
        assert_ne!(whole, digest(&[("a1", ""), ("b", "2")]));
        assert_eq!(whole.rows(), 2);
    }

    #[test]
    fn the_stream_hash_sees_order_index_and_content() {
        let start = StreamHash::default();
        let both = start.then(1, b"x").then(2, b"y");
        assert_ne!(both, start.then(2, b"y").then(1, b"x"));
        assert_ne!(both, start.then(1, b"x").then(3, b"y"));
        assert_ne!(both, start.then(1, b"x").then(2, b"z"));
    }

    #[test]
    fn both_digests_are_frozen_numbers() {
        let mut rows = RowDigest::default();
        rows.add(b"place", b"value");
        assert_eq!(rows.value(), 95943864345105415684671692140952860965);
        assert_eq!(
            StreamHash::default().then(7, b"effects").0,
            14834718704000863373889209548325082112
        );
    }
}
