//! The slot map: its record, and the changes that it may undergo.

use serde::{Deserialize, Serialize};

use super::GroupId;
use crate::slot::{SLOT_COUNT, SlotSet};

/// A run of slots with one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRange {
    /// First slot.
    pub lo: u16,
    /// Last slot, inclusive.
    pub hi: u16,
    /// Owner.
    pub group: GroupId,
    /// Slot epoch under which this owner holds these slots in its own replicated
    /// state. An owner's is higher than its predecessor's; none is above the map's.
    pub epoch: u32,
}

/// `slots`: who owns which slot. One record, so that no watcher sees half a
/// change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotMapRecord {
    /// 1 at the first spread, one more with every change.
    pub epoch: u32,
    /// In order of slots, without overlap; neighbours of one group and epoch
    /// are joined. Slots in no range have no owner.
    pub ranges: Vec<SlotRange>,
}

/// A change of the slot map that cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SlotMapError {
    /// The record contradicts itself.
    #[error("the slot map is broken: {0}")]
    Broken(String),
    /// Some slots of a move do not belong to its source.
    #[error("slots {slots} are not owned by group {group}")]
    NotOwned {
        /// The slots in question.
        slots: SlotSet,
        /// The supposed owner.
        group: GroupId,
    },
    /// A new owner's epoch would not be above its predecessor's.
    #[error("slot epoch {slot_epoch} is not above {taken}, which these slots have already")]
    EpochTooLow {
        /// The epoch that the move was to give the slots.
        slot_epoch: u32,
        /// The highest that one of them has.
        taken: u32,
    },
}

impl SlotMapRecord {
    /// The first map: all slots over the groups, in order, as evenly as can be.
    ///
    /// # Panics
    /// Without a group.
    pub fn spread(groups: &[GroupId]) -> Self {
        assert!(!groups.is_empty(), "a slot map needs a group");
        let (slots, n) = (usize::from(SLOT_COUNT), groups.len());
        let ranges = groups.iter().enumerate().filter_map(|(i, &group)| {
            let lo = i * slots / n;
            let end = (i + 1) * slots / n;
            (end > lo).then(|| SlotRange {
                lo: lo as u16,
                hi: (end - 1) as u16,
                group,
                epoch: 1,
            })
        });
        Self {
            epoch: 1,
            ranges: ranges.collect(),
        }
    }

    /// Checks order, overlap, group numbers and epochs.
    ///
    /// # Errors
    /// `SlotMapError::Broken` with the first fault.
    pub fn validate(&self) -> Result<(), SlotMapError> {
        let broken = |range: &SlotRange, why: &str| {
            Err(SlotMapError::Broken(format!(
                "{}-{} {why}",
                range.lo, range.hi
            )))
        };
        let mut next = 0;
        for range in &self.ranges {
            if range.lo < next || range.hi < range.lo || range.hi >= SLOT_COUNT {
                return broken(range, "is out of order or out of bounds");
            }
            if range.group == 0 {
                return broken(range, "names group 0");
            }
            if range.epoch == 0 || range.epoch > self.epoch {
                return broken(range, "has an epoch outside the map's");
            }
            next = range.hi + 1;
        }
        Ok(())
    }

    /// The range that holds a slot.
    pub fn range_of(&self, slot: u16) -> Option<&SlotRange> {
        let after = self.ranges.partition_point(|r| r.hi < slot);
        self.ranges.get(after).filter(|r| r.lo <= slot)
    }

    /// Slots of a group.
    pub fn owned_by(&self, group: GroupId) -> SlotSet {
        let owned = self.ranges.iter().filter(|r| r.group == group);
        SlotSet::from_ranges(owned.map(|r| (r.lo, r.hi)))
    }

    /// Slots without an owner.
    pub fn unassigned(&self) -> SlotSet {
        let assigned = SlotSet::from_ranges(self.ranges.iter().map(|r| (r.lo, r.hi)));
        SlotSet::full().difference(&assigned)
    }

    /// The next map: `slots` go from one group to another under `slot_epoch`.
    ///
    /// The slot epoch is the source's to choose: proxies send what the map says,
    /// and the new owner refuses an epoch that is not the one it owns them under.
    ///
    /// # Errors
    /// `NotOwned` if any of the slots is not the source's, `EpochTooLow` if one of
    /// them has `slot_epoch` or a higher one already; nothing is moved then.
    pub fn reassign(
        &self,
        slots: &SlotSet,
        from: GroupId,
        to: GroupId,
        slot_epoch: u32,
    ) -> Result<Self, SlotMapError> {
        let foreign = slots.difference(&self.owned_by(from));
        if !foreign.is_empty() {
            return Err(SlotMapError::NotOwned {
                slots: foreign,
                group: from,
            });
        }
        let taken = self
            .ranges
            .iter()
            .filter(|r| (r.lo..=r.hi).any(|slot| slots.contains(slot)))
            .map(|r| r.epoch)
            .max()
            .unwrap_or(0);
        if slot_epoch <= taken {
            return Err(SlotMapError::EpochTooLow { slot_epoch, taken });
        }
        let epoch = slot_epoch.max(self.epoch + 1);
        let owner = |slot: u16| match slots.contains(slot) {
            true => Some((to, slot_epoch)),
            false => self.range_of(slot).map(|r| (r.group, r.epoch)),
        };
        Ok(Self {
            epoch,
            ranges: join_runs(owner),
        })
    }
}

/// Joins neighbouring slots of one owner and epoch into ranges.
fn join_runs(owner: impl Fn(u16) -> Option<(GroupId, u32)>) -> Vec<SlotRange> {
    let mut ranges: Vec<SlotRange> = Vec::new();
    for slot in 0..SLOT_COUNT {
        let Some((group, epoch)) = owner(slot) else {
            continue;
        };
        match ranges.last_mut() {
            Some(r) if r.hi + 1 == slot && r.group == group && r.epoch == epoch => r.hi = slot,
            _ => ranges.push(SlotRange {
                lo: slot,
                hi: slot,
                group,
                epoch,
            }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_covers_every_slot_once() {
        for n in [1, 2, 3, 7, 100] {
            let groups: Vec<GroupId> = (1..=n).collect();
            let map = SlotMapRecord::spread(&groups);
            map.validate().unwrap();
            assert!(map.unassigned().is_empty(), "{n}");
            let sizes: Vec<usize> = groups.iter().map(|&g| map.owned_by(g).len()).collect();
            assert!(
                sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1,
                "{sizes:?}"
            );
        }
    }

    #[test]
    fn reassigned_slots_carry_a_higher_epoch_and_others_keep_theirs() {
        let map = SlotMapRecord::spread(&[1, 2]);
        let moved = map.reassign(&"100-199".parse().unwrap(), 1, 2, 2).unwrap();
        moved.validate().unwrap();
        assert_eq!(moved.epoch, 2);
        let range = |lo, hi, group, epoch| SlotRange {
            lo,
            hi,
            group,
            epoch,
        };
        assert_eq!(
            moved.ranges,
            [
                range(0, 99, 1, 1),
                range(100, 199, 2, 2),
                range(200, 8191, 1, 1),
                range(8192, 16383, 2, 1)
            ]
        );
        assert_eq!(moved.range_of(150).unwrap().group, 2);
        assert_eq!(moved.owned_by(1).len(), 8192 - 100);

        // The second move of other slots: their epoch follows their own history.
        let other = moved.reassign(&"0-9".parse().unwrap(), 1, 2, 2).unwrap();
        other.validate().unwrap();
        assert_eq!((other.epoch, other.range_of(5).unwrap().epoch), (3, 2));
        assert_eq!(
            moved.reassign(&"150".parse().unwrap(), 2, 1, 2),
            Err(SlotMapError::EpochTooLow {
                slot_epoch: 2,
                taken: 2
            })
        );
    }

    #[test]
    fn slots_of_another_group_cannot_be_reassigned() {
        let map = SlotMapRecord::spread(&[1, 2]);
        let error = map
            .reassign(&"8190-8193".parse().unwrap(), 1, 2, 2)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "slots 8192-8193 are not owned by group 1"
        );
    }

    #[test]
    fn a_broken_map_is_found() {
        let range = |lo, hi, group, epoch| SlotRange {
            lo,
            hi,
            group,
            epoch,
        };
        for ranges in [
            vec![range(0, 10, 1, 1), range(10, 20, 2, 1)],
            vec![range(5, 4, 1, 1)],
            vec![range(0, 16384, 1, 1)],
            vec![range(0, 1, 0, 1)],
            vec![range(0, 1, 1, 2)],
            vec![range(0, 1, 1, 0)],
        ] {
            assert!(
                SlotMapRecord {
                    epoch: 1,
                    ranges: ranges.clone()
                }
                .validate()
                .is_err(),
                "{ranges:?}"
            );
        }
    }
}
