//! Numbered places: request id → call, without hashing and without allocation
//! once it has grown to its peak.

/// Values by id. An id is an index (low 32 bits) and a generation, so that an
/// id that was answered is never taken for a later one.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Puts a value in a free place and returns its id.
    pub fn insert(&mut self, value: T) -> u64 {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.value = Some(value);
            return id(index, place.generation);
        }
        let index = u32::try_from(self.places.len()).expect("windows bound what is outstanding");
        self.places.push(Place {
            generation: 0,
            value: Some(value),
        });
        id(index, 0)
    }

    /// The value of an id, if it is there.
    pub fn get(&self, id: u64) -> Option<&T> {
        let place = self.places.get(id as u32 as usize)?;
        let same = place.generation == (id >> 32) as u32;
        place.value.as_ref().filter(|_| same)
    }

    /// Takes the value of an id out; `None` if there is none (any more).
    pub fn take(&mut self, id: u64) -> Option<T> {
        let index = id as u32;
        let place = self.places.get_mut(index as usize)?;
        if place.generation != (id >> 32) as u32 {
            return None;
        }
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes all values out; their ids are never used again.
    pub fn drain(&mut self) -> Vec<T> {
        let mut values = Vec::with_capacity(self.len());
        for (index, place) in self.places.iter_mut().enumerate() {
            if let Some(value) = place.value.take() {
                place.generation = place.generation.wrapping_add(1);
                self.free.push(index as u32);
                values.push(value);
            }
        }
        values
    }
}

fn id(index: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answered_id_never_finds_a_later_value() {
        let mut slab = Slab::default();
        let a = slab.insert('a');
        assert_eq!(slab.take(a), Some('a'));
        let b = slab.insert('b');
        assert_eq!(a as u32, b as u32, "the place is used again");
        assert_eq!((slab.get(a), slab.get(b)), (None, Some(&'b')));
        assert_eq!(slab.take(a), None);
        assert_eq!(slab.take(b), Some('b'));
        assert_eq!(slab.take(7), None);
    }

    #[test]
    fn draining_leaves_only_fresh_ids() {
        let mut slab = Slab::default();
        let a = slab.insert(1);
        slab.insert(2);
        assert_eq!((slab.len(), slab.drain()), (2, vec![1, 2]));
        assert_eq!((slab.len(), slab.take(a)), (0, None));
    }
}
