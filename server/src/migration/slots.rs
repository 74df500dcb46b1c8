//! The slots of a plan, as sorted runs.

use super::codec::{DecodeError, Put, Take};

/// Number of hash slots in a cluster.
pub(super) const SLOT_COUNT: u16 = 16384;

/// A set of slots: sorted, disjoint, non-touching inclusive runs.
///
/// Bytes: `count u16 | (first u16 | last u16)*`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotRanges {
    runs: Vec<(u16, u16)>,
}

impl SlotRanges {
    /// The set of all slots that `slots` yields, in any order; a number of
    /// 16384 or more is refused.
    pub fn from_slots(slots: impl IntoIterator<Item = u16>) -> Option<Self> {
        let mut all: Vec<u16> = slots.into_iter().collect();
        all.sort_unstable();
        if all.last().is_some_and(|&last| last >= SLOT_COUNT) {
            return None;
        }
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for slot in all {
            match runs.last_mut() {
                Some(run) if slot <= run.1.saturating_add(1) => run.1 = slot,
                _ => runs.push((slot, slot)),
            }
        }
        Some(Self { runs })
    }

    /// The inclusive run `first..=last`; `None` when it is not a run of slots.
    pub fn from_run(first: u16, last: u16) -> Option<Self> {
        (first <= last && last < SLOT_COUNT).then(|| Self {
            runs: vec![(first, last)],
        })
    }

    pub fn runs(&self) -> &[(u16, u16)] {
        &self.runs
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many slots the set holds.
    pub fn len(&self) -> usize {
        let run_len = |&(first, last): &(u16, u16)| usize::from(last - first) + 1;
        self.runs.iter().map(run_len).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.runs.iter().flat_map(|&(first, last)| first..=last)
    }

    pub fn contains(&self, slot: u16) -> bool {
        let at = self.runs.partition_point(|run| run.1 < slot);
        self.runs.get(at).is_some_and(|run| run.0 <= slot)
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        let touches = |run: &(u16, u16)| {
            let at = other.runs.partition_point(|theirs| theirs.1 < run.0);
            other.runs.get(at).is_some_and(|theirs| theirs.0 <= run.1)
        };
        self.runs.iter().any(touches)
    }

    /// The lowest slot of the set.
    pub fn first(&self) -> Option<u16> {
        self.runs.first().map(|run| run.0)
    }

    /// The highest slot of the set.
    pub fn last(&self) -> Option<u16> {
        self.runs.last().map(|run| run.1)
    }

    /// The lowest slot of the set that is above `slot`.
    pub fn next_after(&self, slot: u16) -> Option<u16> {
        let above = slot.checked_add(1)?;
        let at = self.runs.partition_point(|run| run.1 < above);
        self.runs.get(at).map(|run| run.0.max(above))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(u16::try_from(self.runs.len()).expect("at most 8192 runs"));
        for &(first, last) in &self.runs {
            out.put_u16(first);
            out.put_u16(last);
        }
    }

    /// Refuses runs that are out of order, touching or beyond the last slot.
    pub(super) fn decode(from: &mut Take) -> Result<Self, DecodeError> {
        let count = usize::from(from.u16()?);
        if count * 4 > from.remaining() {
            return Err(DecodeError::Short);
        }
        let mut runs: Vec<(u16, u16)> = Vec::with_capacity(count);
        for _ in 0..count {
            let (first, last) = (from.u16()?, from.u16()?);
            let in_order = runs
                .last()
                .is_none_or(|run| u32::from(first) > u32::from(run.1) + 1);
            if first > last || last >= SLOT_COUNT || !in_order {
                return Err(DecodeError::Invalid("slot runs"));
            }
            runs.push((first, last));
        }
        Ok(Self { runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn ranges(slots: &[u16]) -> SlotRanges {
        SlotRanges::from_slots(slots.iter().copied()).unwrap()
    }

    #[test]
    fn slots_become_runs_and_are_found() {
        let set = ranges(&[7, 3, 4, 5, 9, 4]);
        assert_eq!(set.runs(), [(3, 5), (7, 7), (9, 9)]);
        assert_eq!(set.len(), 5);
        assert!(set.contains(4) && !set.contains(6) && !set.contains(10));
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 4, 5, 7, 9]);
        assert_eq!(set.next_after(2), Some(3));
        assert_eq!(set.next_after(3), Some(4));
        assert_eq!(set.next_after(5), Some(7));
        assert_eq!(set.next_after(9), None);
        assert_eq!(set.next_after(u16::MAX), None);
    }

    #[test]
    fn overlap_is_found_wherever_it_lies() {
        let set = ranges(&[3, 4, 5, 9]);
        assert!(set.overlaps(&ranges(&[9])));
        assert!(set.overlaps(&ranges(&[0, 4])));
        assert!(!set.overlaps(&ranges(&[0, 1, 6, 7, 8, 10])));
        assert!(!set.overlaps(&SlotRanges::default()));
    }

    #[test]
    fn a_number_beyond_the_last_slot_is_refused() {
        assert_eq!(SlotRanges::from_slots([1, 16384]), None);
        assert_eq!(SlotRanges::from_run(5, 16384), None);
        assert_eq!(SlotRanges::from_run(5, 4), None);
        assert!(SlotRanges::from_run(0, 16383).is_some());
    }

    #[test]
    fn runs_that_touch_or_go_back_are_damage() {
        let decode =
            |bytes: &'static [u8]| SlotRanges::decode(&mut Take::new(Bytes::from_static(bytes)));
        assert!(decode(&[0, 1, 0, 3, 0, 5]).is_ok());
        assert!(decode(&[0, 2, 0, 3, 0, 5, 0, 6, 0, 6]).is_err());
        assert!(decode(&[0, 2, 0, 3, 0, 5, 0, 1, 0, 1]).is_err());
        assert!(decode(&[0, 1, 0x40, 0, 0x40, 0]).is_err());
        assert_eq!(decode(&[0xff, 0xff, 0]), Err(DecodeError::Short));
    }
}
