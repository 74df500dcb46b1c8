//! One `meta` record in memory: physical key and value in a single allocation.
//!
//! A [`Record`] is a thin, counted pointer, so that a million of them cost
//! what their bytes cost. Layout of the allocation:
//!
//! ```text
//! count u32 (bit 31: recently used, bits 27 to 30: splices) | key len u16 | value len u16 | [key len u32, value len u32] | key | value
//! ```
//!
//! Lengths of 65,535 and more are written as 0xffff/0xffff with the long
//! form behind. Key and value are immutable after it is made; all `unsafe` of
//! its kind is in this file.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::header::{Header, Spread};
use super::keys::MetaKey;

const SHORT: usize = 8;
const LONG: usize = 16;
const USED: u32 = 1 << 31;
const SPLICES: u32 = 0b1111 << SPLICES_AT;
const SPLICES_AT: u32 = 27;
/// Bits of the count itself.
const COUNT: u32 = (1 << SPLICES_AT) - 1;

/// A counted, immutable (physical key, encoded value) pair.
pub struct Record {
    ptr: NonNull<u8>,
}

// SAFETY: the bytes are written once before the first share; the count is atomic.
unsafe impl Send for Record {}
unsafe impl Sync for Record {}

impl Record {
    /// Makes a record with room for `value_len` bytes, filled by `fill`.
    pub fn build(key: &[u8], value_len: usize, fill: impl FnOnce(&mut [u8])) -> Record {
        let long = key.len() >= 0xffff || value_len >= 0xffff;
        let start = if long { LONG } else { SHORT };
        let total = start + key.len() + value_len;
        let layout = Layout::from_size_align(total, 4).expect("a record is far below isize::MAX");
        // SAFETY: `total` is at least 8, every write below stays inside it.
        unsafe {
            let Some(ptr) = NonNull::new(alloc(layout)) else {
                handle_alloc_error(layout)
            };
            let base = ptr.as_ptr();
            base.cast::<u32>().write(1 | SPLICES);
            let (short_key, short_value) = if long {
                (0xffff, 0xffff)
            } else {
                (key.len() as u16, value_len as u16)
            };
            base.add(4).cast::<u16>().write(short_key);
            base.add(6).cast::<u16>().write(short_value);
            if long {
                base.add(8).cast::<u32>().write(key.len() as u32);
                base.add(12).cast::<u32>().write(value_len as u32);
            }
            base.add(start)
                .copy_from_nonoverlapping(key.as_ptr(), key.len());
            let value = base.add(start + key.len());
            value.write_bytes(0, value_len);
            fill(std::slice::from_raw_parts_mut(value, value_len));
            Record { ptr }
        }
    }

    /// A record of `key` whose value is already encoded.
    pub fn from_encoded(key: &[u8], value: &[u8]) -> Record {
        Record::build(key, value.len(), |out| out.copy_from_slice(value))
    }

    /// A record of a header and the payload behind it.
    pub fn new(key: &MetaKey, header: &Header, payload: &[u8]) -> Record {
        Record::from_parts(key, header, &[payload])
    }

    /// A record of a header and a payload that comes in parts.
    pub fn from_parts(key: &MetaKey, header: &Header, parts: &[&[u8]]) -> Record {
        let head = header.encoded_len();
        let payload: usize = parts.iter().map(|p| p.len()).sum();
        Record::build(key.physical(), head + payload, |out| {
            let mut at = header.encode_into(out);
            for part in parts {
                out[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
        })
    }

    fn lengths(&self) -> (usize, usize, usize) {
        // SAFETY: both forms were written by `build`.
        unsafe {
            let base = self.ptr.as_ptr();
            let key = base.add(4).cast::<u16>().read();
            let value = base.add(6).cast::<u16>().read();
            if key == 0xffff && value == 0xffff {
                let key = base.add(8).cast::<u32>().read();
                let value = base.add(12).cast::<u32>().read();
                (LONG, key as usize, value as usize)
            } else {
                (SHORT, key as usize, value as usize)
            }
        }
    }

    /// The physical key: slot, generation, user key.
    pub fn physical(&self) -> &[u8] {
        let (start, key, _) = self.lengths();
        // SAFETY: `build` wrote `key` bytes at `start`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().add(start), key) }
    }

    /// The encoded value: header and payload.
    pub fn value(&self) -> &[u8] {
        let (start, key, value) = self.lengths();
        // SAFETY: `build` wrote `value` bytes behind the key.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().add(start + key), value) }
    }

    /// The decoded header. `None`: the bytes are corrupt.
    pub fn header(&self) -> Option<Header> {
        Header::decode(self.value()).map(|(header, _)| header)
    }

    /// Whether the value lies in rows.
    pub fn is_spread(&self) -> bool {
        Header::is_spread(self.value())
    }

    /// Where the rows of a spread value are; `None`: it has none.
    pub fn spread(&self) -> Option<Spread> {
        self.header().and_then(|header| header.spread)
    }

    /// What follows the header. Empty for corrupt bytes.
    pub fn payload(&self) -> &[u8] {
        match Header::decode(self.value()) {
            Some((_, at)) => &self.value()[at..],
            None => &[],
        }
    }

    /// Bytes of memory that the record's allocation asks for.
    pub fn memory(&self) -> usize {
        let (start, key, value) = self.lengths();
        start + key + value
    }

    fn count(&self) -> &AtomicU32 {
        // SAFETY: the first four bytes, aligned to four, are the count.
        unsafe { AtomicU32::from_ptr(self.ptr.as_ptr().cast()) }
    }

    /// Marks the record as used, for the cache's second chance.
    pub(super) fn touch(&self) {
        if self.count().load(Ordering::Relaxed) & USED == 0 {
            self.count().fetch_or(USED, Ordering::Relaxed);
        }
    }

    /// Takes the used mark away and says whether it was there.
    pub(super) fn take_used(&self) -> bool {
        self.count().fetch_and(!USED, Ordering::Relaxed) & USED != 0
    }

    /// How many splices RocksDB holds on top of this record's last state that was written
    /// whole. One that nobody has said it of has more than may be.
    pub(super) fn splices(&self) -> u32 {
        (self.count().load(Ordering::Relaxed) & SPLICES) >> SPLICES_AT
    }

    /// Writer, with the RocksDB write: at most 14.
    pub(super) fn set_splices(&self, splices: u32) {
        self.count().fetch_and(!SPLICES, Ordering::Relaxed);
        self.count()
            .fetch_or(splices << SPLICES_AT, Ordering::Relaxed);
    }

    /// Gives the pointer up without dropping; undone by [`Record::from_raw`].
    pub(super) fn into_raw(self) -> u64 {
        let raw = self.ptr.as_ptr() as u64;
        std::mem::forget(self);
        raw
    }

    /// # Safety
    /// `raw` came from [`Record::into_raw`] and is given back once.
    pub(super) unsafe fn from_raw(raw: u64) -> Record {
        // SAFETY: the caller's promise.
        Record {
            ptr: unsafe { NonNull::new_unchecked(raw as *mut u8) },
        }
    }
}

impl Clone for Record {
    fn clone(&self) -> Record {
        let before = self.count().fetch_add(1, Ordering::Relaxed) & COUNT;
        if before > COUNT / 2 {
            std::process::abort();
        }
        Record { ptr: self.ptr }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.count().fetch_sub(1, Ordering::Release) & COUNT != 1 {
            return;
        }
        fence(Ordering::Acquire);
        let layout = Layout::from_size_align(self.memory(), 4).expect("as in build");
        // SAFETY: this was the last reference; the layout is that of `build`.
        unsafe { dealloc(self.ptr.as_ptr(), layout) }
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values never go to logs.
        f.debug_struct("Record")
            .field("key_len", &self.physical().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::header::KeyType;
    use crate::storage::splice::MAX_SPLICES;

    #[test]
    fn a_record_keeps_key_and_value() {
        let key = MetaKey::new(1, 2, b"k");
        let record = Record::new(&key, &Header::inline(KeyType::String, Some(5)), b"value");
        let other = record.clone();
        drop(record);
        assert_eq!(other.physical(), key.physical());
        assert_eq!(other.payload(), b"value");
        assert_eq!(other.header().unwrap().expires_at, Some(5));
    }

    #[test]
    fn long_keys_and_values_use_the_long_form() {
        for (k, v) in [(70_000, 3), (3, 70_000), (65_535, 65_535), (65_534, 65_534)] {
            let record = Record::from_encoded(&vec![7; k], &vec![9; v]);
            assert_eq!(record.physical(), vec![7; k]);
            assert_eq!(record.value(), vec![9; v]);
        }
    }

    #[test]
    fn the_used_mark_does_not_disturb_the_count() {
        let record = Record::from_encoded(b"k", b"v");
        record.touch();
        let other = record.clone();
        assert!(record.take_used());
        assert!(!record.take_used());
        other.touch();
        drop(record);
        assert_eq!(other.value(), b"v");
    }

    #[test]
    fn a_record_knows_its_splices_once_it_was_written() {
        let record = Record::from_encoded(b"k", b"v");
        assert!(record.splices() > MAX_SPLICES, "nobody knows");
        record.touch();
        for splices in [0, MAX_SPLICES, 3] {
            record.set_splices(splices);
            let other = record.clone();
            assert_eq!((other.splices(), record.splices()), (splices, splices));
        }
        assert!(record.take_used());
    }
}
