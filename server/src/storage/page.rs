//! A page of the scan cache: all rows of a stretch of keys, in order.
//!
//! Keys and values lie one behind the other in one buffer, as they came, and a table
//! has their places in the order of the keys. So a scan is shown slices, a change
//! moves some hundred bytes of the table, and a copy is two allocations, not two for
//! each row. Keys are whole: the readers of rows are shown whole keys, and what they
//! share costs 19 bytes a row.

use std::ops::Range;

use super::keys::{PREFIX_LEN, VERSION_LEN};

/// Bytes that all keys of a collection have in common.
pub const COLLECTION: usize = PREFIX_LEN + VERSION_LEN;
/// What a page costs beside its buffers: itself, and its place in the cache.
const OVERHEAD: usize = 256;
/// Bytes that no row has any more and that are not worth a copy of the rest.
const SLACK: usize = 1 << 10;

/// All rows with `lo <= key < hi`.
#[derive(Clone, Debug, Default)]
pub struct Page {
    lo: Box<[u8]>,
    hi: Box<[u8]>,
    /// In order of their keys.
    rows: Vec<Place>,
    /// Keys and values.
    bytes: Vec<u8>,
    /// How many of `bytes` no row has any more.
    dead: usize,
}

/// Where a row is in a page's buffer: the key, and the value behind it.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u32,
    key: u32,
    value: u32,
    head: Head,
}

/// The bytes of a key behind what all have in common, zeros where it ends before: two
/// keys whose heads differ are in the order of these, and the search for a key stays in
/// the table.
type Head = [u8; 8];

/// `None`: the key is too short to have one.
fn head_of(key: &[u8]) -> Option<Head> {
    let rest = key.get(COLLECTION..)?;
    let mut head = Head::default();
    let n = rest.len().min(head.len());
    head[..n].copy_from_slice(&rest[..n]);
    Some(head)
}

impl Place {
    fn key(self) -> Range<usize> {
        let at = self.at as usize;
        at..at + self.key as usize
    }

    fn value(self) -> Range<usize> {
        let at = self.key().end;
        at..at + self.value as usize
    }

    fn len(self) -> usize {
        self.key as usize + self.value as usize
    }
}

impl Page {
    pub fn lo(&self) -> &[u8] {
        &self.lo
    }

    pub fn hi(&self) -> &[u8] {
        &self.hi
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of its keys and values.
    pub fn size(&self) -> usize {
        self.bytes.len() - self.dead
    }

    /// Bytes of memory that it takes.
    pub fn cost(&self) -> usize {
        OVERHEAD
            + 2 * (self.lo.len() + self.hi.len())
            + self.rows.capacity() * size_of::<Place>()
            + self.bytes.capacity()
    }

    /// Bytes of keys and values of some rows.
    pub fn bytes_of(&self, rows: Range<usize>) -> usize {
        self.rows[rows].iter().map(|place| place.len()).sum()
    }

    /// Key and value of one row.
    pub fn row(&self, at: usize) -> (&[u8], &[u8]) {
        let place = self.rows[at];
        (&self.bytes[place.key()], &self.bytes[place.value()])
    }

    pub fn first_key(&self) -> Option<&[u8]> {
        self.rows.first().map(|place| &self.bytes[place.key()])
    }

    pub fn last_key(&self) -> Option<&[u8]> {
        self.rows.last().map(|place| &self.bytes[place.key()])
    }

    /// The value under a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let at = self.find(key).ok()?;
        Some(self.row(at).1)
    }

    /// The rows with `first <= key < end`.
    pub fn within(&self, first: &[u8], end: &[u8]) -> Range<usize> {
        let from = match first <= self.lo() {
            true => 0,
            false => self.below(first),
        };
        let to = match end >= self.hi() {
            true => self.rows.len(),
            false => self.below(end),
        };
        from..to.max(from)
    }

    /// Number of rows below a key.
    pub fn below(&self, key: &[u8]) -> usize {
        match self.head_in_common(key) {
            Some(head) => self.rows.partition_point(|place| {
                place.head < head || (place.head == head && &self.bytes[place.key()] < key)
            }),
            None => self
                .rows
                .partition_point(|place| &self.bytes[place.key()] < key),
        }
    }

    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let at = self.below(key);
        match self.rows.get(at) {
            Some(place) if self.bytes[place.key()] == *key => Ok(at),
            _ => Err(at),
        }
    }

    /// The head of a key by which it compares with those of the rows. `None`: it is of
    /// another collection.
    fn head_in_common(&self, key: &[u8]) -> Option<Head> {
        let first = self.first_key()?;
        match first.get(..COLLECTION)? == key.get(..COLLECTION)? {
            true => head_of(key),
            false => None,
        }
    }

    // Making one.

    /// Adds a row behind the others, or, of a page that is turned round before it is
    /// used, before them.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        let place = self.store(key, value);
        self.rows.push(place);
    }

    /// Turns the rows round.
    pub fn turn_round(&mut self) {
        self.rows.reverse();
    }

    /// Says of which stretch these are the rows.
    pub fn bounded(mut self, lo: &[u8], hi: &[u8]) -> Page {
        self.lo = lo.into();
        self.hi = hi.into();
        self.rows.shrink_to_fit();
        self.bytes.shrink_to_fit();
        self
    }

    /// Some of the rows, as those of a shorter stretch.
    pub fn part(&self, rows: Range<usize>, lo: &[u8], hi: &[u8]) -> Page {
        let places = &self.rows[rows];
        let mut part = Page {
            lo: lo.into(),
            hi: hi.into(),
            rows: Vec::with_capacity(places.len()),
            bytes: Vec::with_capacity(places.iter().map(|place| place.len()).sum()),
            dead: 0,
        };
        for place in places {
            part.push(&self.bytes[place.key()], &self.bytes[place.value()]);
        }
        part
    }

    fn store(&mut self, key: &[u8], value: &[u8]) -> Place {
        let place = Place {
            at: self.bytes.len() as u32,
            key: key.len() as u32,
            value: value.len() as u32,
            head: head_of(key).unwrap_or_default(),
        };
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        place
    }

    // Changing one.

    /// Sets the value under a key of the stretch.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        match self.find(key) {
            Ok(at) if self.rows[at].value as usize == value.len() => {
                let place = self.rows[at];
                self.bytes[place.value()].copy_from_slice(value);
            }
            Ok(at) => {
                self.dead += self.rows[at].len();
                let place = self.store(key, value);
                self.rows[at] = place;
                self.tidy();
            }
            Err(at) => {
                let place = self.store(key, value);
                self.rows.insert(at, place);
            }
        }
    }

    /// Takes out the row under a key, if there is one.
    pub fn delete(&mut self, key: &[u8]) {
        if let Ok(at) = self.find(key) {
            let place = self.rows.remove(at);
            self.dead += place.len();
            self.tidy();
        }
    }

    /// Takes over the rows of the page that begins where this one ends.
    pub fn append(&mut self, next: &Page) {
        debug_assert_eq!(self.hi, next.lo);
        for at in 0..next.count() {
            let (key, value) = next.row(at);
            self.push(key, value);
        }
        self.hi = next.hi.clone();
    }

    fn tidy(&mut self) {
        if self.dead > SLACK && self.dead > self.bytes.len() / 2 {
            let tidied = self.part(0..self.rows.len(), &self.lo, &self.hi);
            *self = tidied;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str]) -> Page {
        let mut page = Page::default();
        for key in keys {
            page.push(key.as_bytes(), b"v");
        }
        page.bounded(b"a", b"x")
    }

    fn keys(page: &Page) -> Vec<&[u8]> {
        (0..page.count()).map(|at| page.row(at).0).collect()
    }

    #[test]
    fn a_row_is_found_under_its_last_value_until_it_is_deleted() {
        let mut page = page(&["b", "d"]);
        page.put(b"c", b"new");
        page.put(b"b", b"w");
        page.put(b"d", b"longer");
        assert_eq!(page.get(b"b"), Some(&b"w"[..]));
        assert_eq!(page.get(b"c"), Some(&b"new"[..]));
        assert_eq!(page.get(b"d"), Some(&b"longer"[..]));
        page.delete(b"c");
        page.delete(b"e");
        assert_eq!(page.get(b"c"), None);
        assert_eq!(keys(&page), [b"b", b"d"]);
    }

    #[test]
    fn what_was_deleted_and_replaced_gives_its_bytes_back() {
        let mut page = page(&["b"]);
        for round in 0..10_000usize {
            page.put(b"b", &vec![1; round % 200]);
            page.put(b"c", b"value");
            page.delete(b"c");
        }
        assert_eq!(page.size(), 1 + 9_999 % 200);
        assert!(page.cost() < 8 << 10, "{}", page.cost());
    }

    #[test]
    fn bounds_include_the_first_and_exclude_the_end() {
        let page = page(&["b", "d", "f"]);
        assert_eq!(page.within(b"b", b"f"), 0..2);
        assert_eq!(page.within(b"", b"z"), 0..3);
        assert_eq!(page.within(b"c", b"c"), 1..1);
        assert_eq!(page.within(b"e", b"c"), 2..2);
        assert_eq!(page.within(b"g", b"w"), 3..3);
    }

    #[test]
    fn parts_of_a_page_are_the_page_again_when_they_are_joined() {
        let page = page(&["b", "d", "f"]);
        let mut left = page.part(0..1, b"a", b"d");
        let right = page.part(1..3, b"d", b"x");
        assert_eq!(keys(&left), [b"b"]);
        left.append(&right);
        assert_eq!(keys(&left), keys(&page));
        assert_eq!((left.lo(), left.hi()), (page.lo(), page.hi()));
    }
}
