//! Where SCAN cursors stand: a cursor names its last key only by a
//! fingerprint, and the key behind it is remembered here for speed.
//!
//! Bounded and forgetful: a position that was overwritten, or lost with a
//! restart, costs a walk over the cursor's slot, nothing else.

use parking_lot::Mutex;

use super::keys::Generation;

const PLACES: usize = 1024;
/// Longer keys are not remembered.
const MAX_KEY: usize = 1024;

struct Position {
    generation: Generation,
    cursor: u64,
    key: Box<[u8]>,
}

/// See the module's documentation. The mutex guards one table of small
/// entries and is held for a copy of one key.
pub struct ScanPositions {
    places: Mutex<Vec<Option<Position>>>,
}

impl Default for ScanPositions {
    fn default() -> ScanPositions {
        ScanPositions {
            places: Mutex::new(Vec::new()),
        }
    }
}

fn place(generation: Generation, cursor: u64) -> usize {
    let mixed = (cursor ^ u64::from(generation) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 54) as usize % PLACES
}

impl ScanPositions {
    /// The key at which `cursor` stands in `generation`, if it is known.
    pub fn get(&self, generation: Generation, cursor: u64) -> Option<Vec<u8>> {
        let places = self.places.lock();
        let known = places.get(place(generation, cursor))?.as_ref()?;
        let same = known.generation == generation && known.cursor == cursor;
        same.then(|| known.key.to_vec())
    }

    pub fn remember(&self, generation: Generation, cursor: u64, key: &[u8]) {
        if key.len() > MAX_KEY {
            return;
        }
        let mut places = self.places.lock();
        if places.is_empty() {
            places.resize_with(PLACES, || None);
        }
        places[place(generation, cursor)] = Some(Position {
            generation,
            cursor,
            key: key.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_known_by_cursor_and_generation() {
        let positions = ScanPositions::default();
        assert_eq!(positions.get(1, 2), None);
        positions.remember(1, 2, b"key");
        assert_eq!(positions.get(1, 2).as_deref(), Some(&b"key"[..]));
        assert_eq!(positions.get(2, 2), None);
        assert_eq!(positions.get(1, 3), None);
        positions.remember(1, 3, &[0; MAX_KEY + 1]);
        assert_eq!(positions.get(1, 3), None);
    }
}
