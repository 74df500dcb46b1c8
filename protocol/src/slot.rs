//! Hash slots: which of the 16384 a key belongs to, and sets of them.
//!
//! Exactly Redis Cluster's: CRC16 (XMODEM: polynomial 0x1021, initial value 0,
//! not reflected) of the key, or of its hash tag, modulo 16384. See
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Number of hash slots.
pub const SLOT_COUNT: u16 = 16384;

/// A SCAN cursor is a slot above these bits, which say where in the slot
/// (`link/RULES.md`). It has 52 bits in all: scripts and clients that keep it in a
/// double (Lua's `tonumber`, JavaScript's numbers) give it back as it was.
pub const CURSOR_POSITION_BITS: u32 = 38;

const POLYNOMIAL: u16 = 0x1021;
/// Bytes that one step of the CRC takes in.
const STRIDE: usize = 8;
/// `TABLES[k][b]`: CRC of byte `b` followed by `k` zero bytes. Table 0 is the
/// usual one; the others let eight bytes be looked up independently ("slicing
/// by 8", Kounavis and Berry, 2005).
static TABLES: [[u16; 256]; STRIDE] = crc_tables();

const fn crc_tables() -> [[u16; 256]; STRIDE] {
    let mut tables = [[0_u16; 256]; STRIDE];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 0x8000 != 0;
            crc = (crc << 1) ^ if carry { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < STRIDE {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[zeros - 1][byte];
            tables[zeros][byte] = (crc << 8) ^ tables[0][(crc >> 8) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// CRC16/XMODEM of `data`.
#[inline]
pub fn crc16(data: &[u8]) -> u16 {
    let (chunks, tail) = data.as_chunks::<STRIDE>();
    let mut crc = 0_u16;
    for chunk in chunks {
        let [high, low] = crc.to_be_bytes();
        let mixed = [chunk[0] ^ high, chunk[1] ^ low];
        crc = TABLES[7][mixed[0] as usize]
            ^ TABLES[6][mixed[1] as usize]
            ^ TABLES[5][chunk[2] as usize]
            ^ TABLES[4][chunk[3] as usize]
            ^ TABLES[3][chunk[4] as usize]
            ^ TABLES[2][chunk[5] as usize]
            ^ TABLES[1][chunk[6] as usize]
            ^ TABLES[0][chunk[7] as usize];
    }
    for byte in tail {
        crc = (crc << 8) ^ TABLES[0][((crc >> 8) as u8 ^ byte) as usize];
    }
    crc
}

/// The slot of a key, in `0..SLOT_COUNT`.
#[inline]
pub fn key_slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOT_COUNT
}

/// The part of a key that is hashed: what stands between the first `{` and
/// the first `}` after it, or the whole key if there is no such pair or
/// nothing in between.
#[inline]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    if !has_brace(key) {
        return key;
    }
    let Some(open) = key.iter().position(|b| *b == b'{') else {
        return key;
    };
    let tail = &key[open + 1..];
    match tail.iter().position(|b| *b == b'}') {
        None | Some(0) => key,
        Some(close) => &tail[..close],
    }
}

/// Whether there is an opening brace, looked for in eight bytes at a time: usual
/// keys have none, and each command asks (Warren, Hacker's Delight, 6-1).
#[inline]
fn has_brace(key: &[u8]) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const BRACES: u64 = ONES * b'{' as u64;
    let in_word = |bytes: &[u8; 8]| {
        let zero_at_brace = u64::from_le_bytes(*bytes) ^ BRACES;
        zero_at_brace.wrapping_sub(ONES) & !zero_at_brace & (ONES << 7) != 0
    };
    match key.last_chunk::<8>() {
        // The last word may overlap the one before it.
        Some(last) => key.as_chunks::<8>().0.iter().any(in_word) || in_word(last),
        None => key.contains(&b'{'),
    }
}

const WORD_BITS: usize = 64;
const WORDS: usize = SLOT_COUNT as usize / WORD_BITS;

/// A set of slots: a bitmap of 2 KiB.
///
/// Its text, and its serde form, is the list of its ranges as Redis writes
/// them: `0-8191,9000`. The empty set is the empty string.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SlotSet {
    words: Box<[u64; WORDS]>,
}

/// A text that is no list of slot ranges.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid slot range {range:?}: slots are 0-16383, ranges like 0-8191,9000")]
pub struct InvalidSlots {
    /// The offending part of the list.
    pub range: String,
}

impl SlotSet {
    pub fn new() -> Self {
        Self {
            words: Box::new([0; WORDS]),
        }
    }

    /// All 16384 slots.
    pub fn full() -> Self {
        Self {
            words: Box::new([u64::MAX; WORDS]),
        }
    }

    /// The union of inclusive ranges.
    ///
    /// # Panics
    /// If a slot is outside `0..SLOT_COUNT`.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let mut set = Self::new();
        for (first, last) in ranges {
            set.insert_range(first, last);
        }
        set
    }

    /// Adds the slots from `first` to `last`, both included.
    ///
    /// # Panics
    /// If a slot is outside `0..SLOT_COUNT`.
    pub fn insert_range(&mut self, first: u16, last: u16) {
        for slot in first..=last {
            self.insert(slot);
        }
    }

    /// Adds a slot; true if it was not there.
    ///
    /// # Panics
    /// If the slot is outside `0..SLOT_COUNT`.
    pub fn insert(&mut self, slot: u16) -> bool {
        let (word, mask) = place(slot);
        let absent = self.words[word] & mask == 0;
        self.words[word] |= mask;
        absent
    }

    /// Takes a slot out; true if it was there.
    ///
    /// # Panics
    /// If the slot is outside `0..SLOT_COUNT`.
    pub fn remove(&mut self, slot: u16) -> bool {
        let (word, mask) = place(slot);
        let present = self.words[word] & mask != 0;
        self.words[word] &= !mask;
        present
    }

    /// False for numbers that are no slot.
    #[inline]
    pub fn contains(&self, slot: u16) -> bool {
        let (word, mask) = place(slot);
        self.words.get(word).is_some_and(|bits| bits & mask != 0)
    }

    /// Number of slots in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a | b)
    }

    pub fn intersect(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & b)
    }

    /// The slots of this set that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & !b)
    }

    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.words
            .iter()
            .zip(other.words.iter())
            .all(|(a, b)| a & b == 0)
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        self.words
            .iter()
            .zip(other.words.iter())
            .all(|(a, b)| a & !b == 0)
    }

    /// All slots in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.words.iter().enumerate().flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some((word * WORD_BITS) as u16 + bit as u16)
            })
        })
    }

    /// The maximal inclusive ranges in ascending order.
    pub fn iter_ranges(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let mut slots = self.iter().peekable();
        std::iter::from_fn(move || {
            let first = slots.next()?;
            let mut last = first;
            while slots.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            Some((first, last))
        })
    }

    fn combine(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        let mut result = Self::new();
        for (index, word) in result.words.iter_mut().enumerate() {
            *word = op(self.words[index], other.words[index]);
        }
        result
    }
}

/// The word and the bit of a slot.
#[inline]
fn place(slot: u16) -> (usize, u64) {
    let slot = slot as usize;
    (slot / WORD_BITS, 1 << (slot % WORD_BITS))
}

impl Default for SlotSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<u16> for SlotSet {
    /// # Panics
    /// If a slot is outside `0..SLOT_COUNT`.
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        Self::from_ranges(slots.into_iter().map(|slot| (slot, slot)))
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.iter_ranges().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({self})")
    }
}

impl FromStr for SlotSet {
    type Err = InvalidSlots;

    /// Reads `0-8191,9000`; blanks around the parts are allowed, ranges may
    /// overlap and come in any order.
    fn from_str(text: &str) -> Result<Self, InvalidSlots> {
        let mut set = Self::new();
        if text.trim().is_empty() {
            return Ok(set);
        }
        for part in text.split(',') {
            let (first, last) = parse_range(part.trim()).ok_or_else(|| InvalidSlots {
                range: part.trim().to_owned(),
            })?;
            set.insert_range(first, last);
        }
        Ok(set)
    }
}

fn parse_range(part: &str) -> Option<(u16, u16)> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (parse_slot(first)?, parse_slot(last)?);
    (first <= last).then_some((first, last))
}

fn parse_slot(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let slot: u16 = text.parse().ok().filter(|_| digits)?;
    (slot < SLOT_COUNT).then_some(slot)
}

impl Serialize for SlotSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SlotSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const XMODEM: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);

    #[test]
    fn known_keys_are_in_the_slots_that_redis_gives_them() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in [
            ("", 0),
            ("foo", 12182),
            ("bar", 5061),
            ("hello", 866),
            ("somekey", 11058),
            ("foo{hash_tag}", 2515),
            ("bar{hash_tag}", 2515),
        ] {
            assert_eq!(key_slot(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn a_brace_is_found_wherever_it_stands() {
        for len in 0..40 {
            // Neighbours of the brace in value, and bytes with the high bit.
            for filler in [b'a', b'z', b'|', 0, 0xfb, 0xff] {
                let mut key = vec![filler; len];
                assert!(!has_brace(&key), "{key:?}");
                for at in 0..len {
                    key[at] = b'{';
                    assert!(has_brace(&key), "{key:?}");
                    key[at] = filler;
                }
            }
        }
    }

    #[test]
    fn hash_tags_follow_the_rules_of_the_cluster_specification() {
        for (key, tag) in [
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("foo{bar", "foo{bar"),
            ("}foo{", "}foo{"),
            ("}{a}", "a"),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }

    #[test]
    fn a_set_prints_and_parses_as_ranges() {
        for text in [
            "",
            "0",
            "16383",
            "0-16383",
            "0-8191,9000",
            "5,7-8,63-64,100",
        ] {
            let set: SlotSet = text.parse().unwrap();
            assert_eq!(set.to_string(), text);
            let json = serde_json::to_string(&set).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<SlotSet>(&json).unwrap(), set);
        }
        let merged: SlotSet = " 3-5, 1 ,2,4-9".parse().unwrap();
        assert_eq!(merged.to_string(), "1-9");
        assert_eq!("0-16383".parse::<SlotSet>().unwrap(), SlotSet::full());
    }

    #[test]
    fn what_is_no_list_of_slots_is_refused() {
        for text in [
            "x", "16384", "5-3", "1,,2", "-1", "1-", "+1", "0-16384", "1-2-3",
        ] {
            assert!(text.parse::<SlotSet>().is_err(), "{text}");
            assert!(serde_json::from_str::<SlotSet>(&format!("{text:?}")).is_err());
        }
    }

    #[test]
    fn a_number_beyond_the_slots_is_in_no_set() {
        assert!(SlotSet::full().contains(16383));
        assert!(!SlotSet::full().contains(16384));
        assert!(!SlotSet::full().contains(u16::MAX));
    }

    proptest! {
        #[test]
        fn the_crc_is_xmodem(data in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(crc16(&data), XMODEM.checksum(&data));
        }

        #[test]
        fn sets_behave_like_a_tree_set(
            a in proptest::collection::btree_set(0..SLOT_COUNT, 0..200),
            b in proptest::collection::btree_set(0..SLOT_COUNT, 0..200),
        ) {
            let left: SlotSet = a.iter().copied().collect();
            let right: SlotSet = b.iter().copied().collect();
            prop_assert_eq!(left.len(), a.len());
            prop_assert!(left.iter().eq(a.iter().copied()));
            prop_assert!(left.union(&right).iter().eq(a.union(&b).copied()));
            prop_assert!(left.intersect(&right).iter().eq(a.intersection(&b).copied()));
            prop_assert!(left.difference(&right).iter().eq(a.difference(&b).copied()));
            prop_assert_eq!(left.is_disjoint(&right), a.is_disjoint(&b));
            prop_assert_eq!(left.is_subset(&right), a.is_subset(&b));
            prop_assert_eq!(SlotSet::from_ranges(left.iter_ranges()), left.clone());
            prop_assert_eq!(left.to_string().parse::<SlotSet>().unwrap(), left);
        }
    }
}
