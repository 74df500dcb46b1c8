//! Cluster durability: entries go to the group's Raft log.
//!
//! ```text
//! entry   kind u8: 1 effects, 2 step of a move
//! 1       an entry of effects (`txn::effects`)
//! 2       log time u64 BE ms | a migration entry (`migration::MigrationEntry`)
//! ```
//!
//! RocksDB's own log is off: the Raft log is the log. A proposal that is
//! refused was not executed; one whose term was lost is unknown.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};

use crate::group::{Commit, CommitSink, Entry, Group};
use crate::raft::{Proposal, ProposalOutcome, RaftHandle};
use crate::txn::effects::change_map;

/// First byte of an entry of effects.
pub const EFFECTS: u8 = 1;
/// First byte of a step of a move.
pub const STEP: u8 = 2;

/// See the module's documentation.
pub struct RaftSink {
    raft: RaftHandle,
    /// The term in which this replica leads, 0 while it does not.
    pub term: Arc<AtomicU64>,
}

impl RaftSink {
    pub fn new(raft: RaftHandle, term: Arc<AtomicU64>) -> RaftSink {
        RaftSink { raft, term }
    }
}

impl CommitSink for RaftSink {
    fn commit(&self, group: &Arc<Group>, entry: Entry) -> Commit {
        let term = self.term.load(Ordering::Acquire);
        if term == 0 {
            return Commit::Refused;
        }
        let (data, local) = encode(group, entry);
        let owner = group.clone();
        let proposal = Proposal {
            term,
            lineage: group.lineage.load(Ordering::Acquire),
            data,
            local,
            done: Box::new(move |outcome| owner.committed(commit_of(outcome))),
        };
        match self.raft.propose(group.id.into(), proposal) {
            Ok(()) => Commit::InFlight,
            Err(refused) => {
                tracing::warn!(group = group.id, reason = %refused.reason, "a batch was refused");
                Commit::Refused
            }
        }
    }

    fn max_entry_bytes(&self) -> Option<usize> {
        Some(self.raft.max_entry_bytes())
    }
}

fn commit_of(outcome: ProposalOutcome) -> Commit {
    match outcome {
        ProposalOutcome::Committed { .. } => Commit::Applied,
        ProposalOutcome::Dropped(_) => Commit::Refused,
        ProposalOutcome::LeadershipLost => Commit::Lost,
    }
}

fn encode(group: &Group, entry: Entry) -> (Bytes, Option<Box<dyn Any + Send>>) {
    match entry {
        Entry::Effects(effects, _) => {
            let maps = group.store.maps();
            let changed = (!effects.maps.is_empty()).then(|| {
                let mut map = (*maps).clone();
                change_map(&mut map, &effects.maps);
                map
            });
            let map = changed.as_ref().unwrap_or(&maps);
            let mut data = Vec::with_capacity(64 + effects.metas.len() * 192);
            data.push(EFFECTS);
            effects.encode_into(&map.live, &mut data);
            (data.into(), Some(Box::new(effects)))
        }
        Entry::Step { bytes, log_time } => {
            let mut data = BytesMut::with_capacity(9 + bytes.len());
            data.put_u8(STEP);
            data.put_u64(log_time);
            data.put_slice(&bytes);
            (data.freeze(), None)
        }
    }
}
