//! Intersection, union and difference of sets, member by member.
//!
//! Nothing is gathered: a member is shown as soon as it is known to be in the
//! result, and exactly once. The sets must not be changed meanwhile.

use std::ops::ControlFlow;

use super::set::{Set, VisitWith};
use crate::txn::{CommandError, Txn};

/// Members that all `sets` have. The first is walked over, so it should be
/// the smallest.
pub fn intersect(
    txn: &mut Txn<'_>,
    sets: &[Set<'_>],
    visit: &mut VisitWith<'_>,
) -> Result<(), CommandError> {
    let Some((first, others)) = sets.split_first() else {
        return Ok(());
    };
    first.each_with(txn, &mut |txn, member| {
        for other in others {
            if !other.contains(txn, member)? {
                return Ok(ControlFlow::Continue(()));
            }
        }
        visit(txn, member)
    })
}

/// Members that `first` has and none of `others`.
pub fn subtract(
    txn: &mut Txn<'_>,
    first: &Set<'_>,
    others: &[Set<'_>],
    visit: &mut VisitWith<'_>,
) -> Result<(), CommandError> {
    first.each_with(
        txn,
        &mut |txn, member| match is_in_any(txn, others, member)? {
            true => Ok(ControlFlow::Continue(())),
            false => visit(txn, member),
        },
    )
}

/// Members that any of `sets` has.
pub fn unite(
    txn: &mut Txn<'_>,
    sets: &[Set<'_>],
    visit: &mut VisitWith<'_>,
) -> Result<(), CommandError> {
    let mut flow = ControlFlow::Continue(());
    for (at, set) in sets.iter().enumerate() {
        set.each_with(txn, &mut |txn, member| {
            if !is_in_any(txn, &sets[..at], member)? {
                flow = visit(txn, member)?;
            }
            Ok(flow)
        })?;
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

fn is_in_any(txn: &mut Txn<'_>, sets: &[Set<'_>], member: &[u8]) -> Result<bool, CommandError> {
    for set in sets {
        if set.contains(txn, member)? {
            return Ok(true);
        }
    }
    Ok(false)
}
