//! Which slots a group serves, and the table that every command consults.
//!
//! [`SlotOwnership`] is replicated: it changes only when an entry is applied.
//! [`OwnershipView`] is its published copy, one atomic word a slot, so that a
//! read may load the word, fetch its data, load the word again and know from
//! equality that it still had the right to answer.

use super::codec::{DecodeError, Put, Take};
use super::slots::{SLOT_COUNT, SlotRanges};
use std::sync::atomic::{AtomicU64, Ordering};

/// One slot's standing in one group. The numbers are stored: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum SlotStatus {
    #[default]
    NotOwned = 0,
    Serving = 1,
    Frozen = 2,
    Importing = 3,
}

impl SlotStatus {
    fn from_number(number: u8) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::NotOwned),
            1 => Ok(Self::Serving),
            2 => Ok(Self::Frozen),
            3 => Ok(Self::Importing),
            other => Err(DecodeError::Unknown {
                what: "slot status",
                number: u64::from(other),
            }),
        }
    }
}

/// What to do with a command for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Serve,
    /// Not here: MOVED to whom the slot map names.
    Moved,
    /// Reads and writes wait; nothing was executed.
    Frozen,
    /// Being imported, served elsewhere: MOVED to the source.
    Importing,
}

/// A slot's status and epoch in one word: `epoch << 8 | status`.
///
/// While a slot is not owned the epoch is the last one that the group has
/// known for it, so that an older one is never accepted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotWord(u64);

impl SlotWord {
    pub fn new(status: SlotStatus, epoch: u32) -> Self {
        Self(u64::from(epoch) << 8 | status as u64)
    }

    pub fn status(self) -> SlotStatus {
        match self.0 as u8 {
            1 => SlotStatus::Serving,
            2 => SlotStatus::Frozen,
            3 => SlotStatus::Importing,
            _ => SlotStatus::NotOwned,
        }
    }

    pub fn epoch(self) -> u32 {
        (self.0 >> 8) as u32
    }

    /// The whole word: differs whenever the status or the epoch does.
    pub fn stamp(self) -> u64 {
        self.0
    }

    pub fn verdict(self) -> Verdict {
        match self.status() {
            SlotStatus::Serving => Verdict::Serve,
            SlotStatus::Frozen => Verdict::Frozen,
            SlotStatus::Importing => Verdict::Importing,
            SlotStatus::NotOwned => Verdict::Moved,
        }
    }
}

/// The replicated ownership of all slots by one group.
///
/// Bytes: `count u16 | (first u16 | last u16 | status u8 | epoch u32)*`,
/// runs of equal words, slots that were never known left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotOwnership {
    words: Vec<SlotWord>,
}

impl Default for SlotOwnership {
    fn default() -> Self {
        Self {
            words: vec![SlotWord::default(); usize::from(SLOT_COUNT)],
        }
    }
}

impl SlotOwnership {
    /// A standalone server's ownership: everything, in epoch 1.
    pub fn all_serving() -> Self {
        let word = SlotWord::new(SlotStatus::Serving, 1);
        Self {
            words: vec![word; usize::from(SLOT_COUNT)],
        }
    }

    /// The word of `slot`; a number that is no slot is never owned.
    pub fn word(&self, slot: u16) -> SlotWord {
        self.words
            .get(usize::from(slot))
            .copied()
            .unwrap_or_default()
    }

    pub fn can_serve(&self, slot: u16) -> Verdict {
        self.word(slot).verdict()
    }

    /// Slots that the group serves now.
    pub fn serving(&self) -> SlotRanges {
        let serves = |&slot: &u16| self.word(slot).status() == SlotStatus::Serving;
        SlotRanges::from_slots((0..SLOT_COUNT).filter(serves)).expect("all below the count")
    }

    pub(super) fn all_are(&self, slots: &SlotRanges, status: SlotStatus) -> bool {
        slots.iter().all(|slot| self.word(slot).status() == status)
    }

    pub(super) fn is_untouched(&self) -> bool {
        self.words.iter().all(|word| *word == SlotWord::default())
    }

    /// The highest epoch known for any of `slots`.
    pub(super) fn max_epoch(&self, slots: &SlotRanges) -> u32 {
        let epochs = slots.iter().map(|slot| self.word(slot).epoch());
        epochs.max().unwrap_or(0)
    }

    /// Changes the status of `slots`; `epoch` of `None` keeps each slot's own.
    pub(super) fn set(&mut self, slots: &SlotRanges, status: SlotStatus, epoch: Option<u32>) {
        for slot in slots.iter() {
            let word = &mut self.words[usize::from(slot)];
            *word = SlotWord::new(status, epoch.unwrap_or(word.epoch()));
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let runs = self.known_runs();
        out.put_u16(u16::try_from(runs.len()).expect("at most one run a slot"));
        for (first, last, word) in runs {
            out.put_u16(first);
            out.put_u16(last);
            out.put_u8(word.status() as u8);
            out.put_u32(word.epoch());
        }
    }

    fn known_runs(&self) -> Vec<(u16, u16, SlotWord)> {
        let mut runs: Vec<(u16, u16, SlotWord)> = Vec::new();
        for (slot, &word) in (0..SLOT_COUNT).zip(&self.words) {
            match runs.last_mut() {
                Some(run) if run.1 + 1 == slot && run.2 == word => run.1 = slot,
                _ if word == SlotWord::default() => {}
                _ => runs.push((slot, slot, word)),
            }
        }
        runs
    }

    pub(super) fn decode(from: &mut Take) -> Result<Self, DecodeError> {
        let mut ownership = Self::default();
        for _ in 0..from.u16()? {
            let (first, last) = (from.u16()?, from.u16()?);
            let status = SlotStatus::from_number(from.u8()?)?;
            let epoch = from.u32()?;
            let run = SlotRanges::from_run(first, last).ok_or(DecodeError::Invalid("slot run"))?;
            ownership.set(&run, status, Some(epoch));
        }
        Ok(ownership)
    }
}

/// The published table: 16384 atomic words, shared by all threads of a node.
///
/// The publisher is the group's apply path, and its order is a promise:
/// FREEZE and RELEASE are published before anything that depends on them
/// happens (FREEZE already when it is *proposed*, see
/// [`super::MigrationState`]); OWN only after the import's map is the live
/// one.
#[derive(Debug)]
pub struct OwnershipView {
    words: Vec<AtomicU64>,
}

impl OwnershipView {
    pub fn new(ownership: &SlotOwnership) -> Self {
        let words = ownership.words.iter().map(|word| AtomicU64::new(word.0));
        Self {
            words: words.collect(),
        }
    }

    /// The word of `slot` now. Acquire: what was published before is seen.
    pub fn word(&self, slot: u16) -> SlotWord {
        let word = self.words.get(usize::from(slot));
        SlotWord(word.map_or(0, |word| word.load(Ordering::Acquire)))
    }

    /// Publishes the words of `slots`.
    pub fn publish(&self, ownership: &SlotOwnership, slots: &SlotRanges) {
        for slot in slots.iter() {
            let word = ownership.word(slot);
            self.words[usize::from(slot)].store(word.0, Ordering::Release);
        }
    }

    /// Publishes `status` for `slots`, epochs unchanged: the writer does this
    /// for FREEZE when it proposes it.
    pub fn publish_frozen(&self, slots: &SlotRanges) {
        for slot in slots.iter() {
            let word = SlotWord::new(SlotStatus::Frozen, self.word(slot).epoch());
            self.words[usize::from(slot)].store(word.0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn ownership_survives_its_bytes_and_keeps_old_epochs() {
        let mut ownership = SlotOwnership::default();
        let some = SlotRanges::from_run(10, 20).unwrap();
        ownership.set(&some, SlotStatus::Serving, Some(3));
        let few = SlotRanges::from_run(12, 13).unwrap();
        ownership.set(&few, SlotStatus::NotOwned, None);
        let mut bytes = Vec::new();
        ownership.encode(&mut bytes);
        let golden = [
            0, 3, 0, 10, 0, 11, 1, 0, 0, 0, 3, 0, 12, 0, 13, 0, 0, 0, 0, 3, 0, 14, 0, 20, 1, 0, 0,
            0, 3,
        ];
        assert_eq!(bytes, golden);
        let back = SlotOwnership::decode(&mut Take::new(Bytes::from(bytes))).unwrap();
        assert_eq!(back, ownership);
        assert_eq!(back.word(12).epoch(), 3);
        assert_eq!(back.can_serve(12), Verdict::Moved);
        assert_eq!(back.can_serve(14), Verdict::Serve);
    }

    #[test]
    fn the_view_follows_what_is_published_and_only_that() {
        let mut ownership = SlotOwnership::all_serving();
        let view = OwnershipView::new(&ownership);
        let slots = SlotRanges::from_run(5, 6).unwrap();
        ownership.set(&slots, SlotStatus::Serving, Some(9));
        assert_eq!(view.word(5).epoch(), 1);
        view.publish(&ownership, &slots);
        assert_eq!(view.word(5).epoch(), 9);
        assert_eq!(view.word(7).epoch(), 1);
        view.publish_frozen(&slots);
        assert_eq!(view.word(6).verdict(), Verdict::Frozen);
        assert_eq!(view.word(6).epoch(), 9);
        assert_eq!(view.word(40_000).verdict(), Verdict::Moved);
    }
}
