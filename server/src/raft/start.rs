//! Taking up a group at start: read its log, compare it with the state machine, apply
//! what is committed and not applied, and build the core from the rest.
//!
//! Here a lost or foreign log is found: nothing is guessed, the group is refused with
//! both numbers named. The one exception is said where it is made.

use raft::eraftpb::{ConfState, Entry, EntryType};

use super::core::{CoreConfig, GroupCore, Restored};
use super::handle::plain;
use super::log_store::{
    Durability, GroupWrite, LogBatch, LogError, LogPosition, LogState, RaftLogStore,
};
use super::multi::{ApplyError, MultiRaftConfig, StateMachine};

/// Which replica of which group to take up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// The group; nonzero.
    pub group: u64,
    /// This node's replica number in it; nonzero.
    pub replica: u64,
    /// Replica numbers of the founding voters. Used only when the group is founded;
    /// later the log says who votes.
    pub voters: Vec<u64>,
}

impl GroupSpec {
    /// A group whose only replica is here.
    pub fn alone(group: u64) -> Self {
        Self {
            group,
            replica: 1,
            voters: vec![1],
        }
    }
}

/// Why a group cannot be taken up. The node must not serve it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log was cut above what the state has applied.
    #[error(
        "group {group}: the state is applied up to index {applied}, but the log begins at \
         index {first}; the entries between are gone. Rebuild this replica from its peers or a \
         backup"
    )]
    Gap {
        /// The group.
        group: u64,
        /// What the state machine has.
        applied: u64,
        /// Where the log begins.
        first: u64,
    },
    /// The log ends below what the state has applied.
    #[error(
        "group {group}: the state is applied up to index {applied}, but the log ends at index \
         {last}; the log was lost or belongs to another replica"
    )]
    LogBehind {
        /// The group.
        group: u64,
        /// What the state machine has.
        applied: u64,
        /// Where the log ends.
        last: u64,
    },
    /// The state has applied entries, but there is no log at all.
    #[error("group {group}: the state is applied up to index {applied}, but it has no log here")]
    NoLog {
        /// The group.
        group: u64,
        /// What the state machine has.
        applied: u64,
    },
    /// The specification is not usable.
    #[error("group {group}: {what}")]
    BadSpec {
        /// The group.
        group: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The group is on this node already.
    #[error("group {group} is on this node already")]
    AlreadyHere {
        /// The group.
        group: u64,
    },
    /// The replication layer is stopping or has failed.
    #[error("group {group} cannot be taken up: this node is stopping")]
    Stopped {
        /// The group.
        group: u64,
    },
    /// The log could not be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Replay failed.
    #[error("group {group}: replay failed")]
    Apply {
        /// The group.
        group: u64,
        /// Why.
        source: ApplyError,
    },
    /// raft-rs refused the state.
    #[error("group {group}: the log's state is not usable")]
    Raft {
        /// The group.
        group: u64,
        /// Why.
        source: raft::Error,
    },
}

/// Bytes of entries read and applied at a time during replay.
const REPLAY_BYTES: u64 = 4 << 20;

pub(super) fn open_group<T>(
    store: &dyn RaftLogStore,
    spec: &GroupSpec,
    config: &MultiRaftConfig,
    machine: &mut dyn StateMachine,
) -> Result<GroupCore<T>, StartError> {
    check_spec(spec)?;
    let applied = machine.applied_index();
    let mut state = match store.load(spec.group)? {
        Some(state) => state,
        None => found(store, spec, applied)?,
    };
    check_reach(store, spec, config, applied, &mut state)?;
    let applied = replay(store, spec.group, &state, machine)?;
    let restored = restore(store, spec.group, state, applied)?;
    let core_config = CoreConfig {
        group: spec.group,
        replica: spec.replica,
        ..config.core.clone()
    };
    let group = spec.group;
    GroupCore::new(core_config, restored).map_err(|source| StartError::Raft { group, source })
}

fn check_spec(spec: &GroupSpec) -> Result<(), StartError> {
    let group = spec.group;
    if group == 0 || spec.replica == 0 || spec.voters.contains(&0) {
        let what = "group and replica numbers are nonzero";
        return Err(StartError::BadSpec { group, what });
    }
    Ok(())
}

/// Writes the first records of a group that was never here.
fn found(store: &dyn RaftLogStore, spec: &GroupSpec, applied: u64) -> Result<LogState, StartError> {
    let group = spec.group;
    if applied > 0 {
        return Err(StartError::NoLog { group, applied });
    }
    let mut voters = spec.voters.clone();
    voters.sort_unstable();
    voters.dedup();
    let conf_state = ConfState::from((voters, Vec::new()));
    let mut batch = LogBatch::default();
    batch.push(
        group,
        GroupWrite {
            conf_state: Some((0, conf_state.clone())),
            ..GroupWrite::default()
        },
    );
    store.write(&mut batch, true)?;
    Ok(LogState {
        conf_state,
        ..LogState::default()
    })
}

/// The log must reach from what is applied to at least what is applied.
///
/// Exception: with `Durability::Interval`, a power cut may take the newest part of the
/// log while the state machine's files kept its effects. For a group of one replica the
/// state is then the newest truth, and the log goes on after it. With more replicas the
/// others' logs must decide, so there it is refused.
fn check_reach(
    store: &dyn RaftLogStore,
    spec: &GroupSpec,
    config: &MultiRaftConfig,
    applied: u64,
    state: &mut LogState,
) -> Result<(), StartError> {
    let (group, last) = (spec.group, state.last_index);
    if applied < state.cut.index {
        let first = state.cut.index + 1;
        return Err(StartError::Gap {
            group,
            applied,
            first,
        });
    }
    if state.hard_state.commit > last {
        let what = format!(
            "commit index {} above last index {last}",
            state.hard_state.commit
        );
        return Err(LogError::Corrupt { group, what }.into());
    }
    if applied <= last {
        return Ok(());
    }
    let alone = state.conf_state.voters == [spec.replica] && state.conf_state.learners.is_empty();
    if !alone || config.durability == Durability::Always {
        return Err(StartError::LogBehind {
            group,
            applied,
            last,
        });
    }
    tracing::warn!(
        group,
        applied,
        last,
        "the log lost its unsynced end; going on after the state"
    );
    let term = state.hard_state.term;
    let cut = LogPosition {
        index: applied,
        term,
    };
    store.compact_to(group, cut)?;
    store.sync()?;
    state.cut = cut;
    state.last_index = applied;
    Ok(())
}

/// Applies what is known to be committed; returns the applied index. Stops before a
/// change of membership that is not in the stored one: that is the core's to apply.
fn replay(
    store: &dyn RaftLogStore,
    group: u64,
    state: &LogState,
    machine: &mut dyn StateMachine,
) -> Result<u64, StartError> {
    let mut applied = machine.applied_index();
    let commit = state.hard_state.commit;
    while applied < commit {
        let mut entries = store.entries(group, applied + 1, commit + 1, REPLAY_BYTES)?;
        let stop = entries
            .iter()
            .position(|e| is_new_membership(e, state.conf_index));
        entries.truncate(stop.unwrap_or(entries.len()));
        let Some(last) = entries.last().map(|e| e.index) else {
            break;
        };
        let mut batch: Vec<_> = entries.into_iter().map(plain).collect();
        machine
            .apply(&mut batch)
            .map_err(|source| StartError::Apply { group, source })?;
        applied = last;
        if stop.is_some() {
            break;
        }
    }
    Ok(applied)
}

fn is_new_membership(entry: &Entry, conf_index: u64) -> bool {
    entry.get_entry_type() != EntryType::EntryNormal && entry.index > conf_index
}

fn restore(
    store: &dyn RaftLogStore,
    group: u64,
    state: LogState,
    applied: u64,
) -> Result<Restored, StartError> {
    let mut tail = Vec::new();
    let mut next = applied + 1;
    while next <= state.last_index {
        let part = store.entries(group, next, state.last_index + 1, REPLAY_BYTES)?;
        next += part.len() as u64;
        tail.extend(part);
    }
    Ok(Restored {
        term_runs: term_runs(store, group, &state)?,
        hard_state: state.hard_state,
        conf_state: state.conf_state,
        conf_index: state.conf_index,
        cut: state.cut,
        last_index: state.last_index,
        applied,
        tail,
    })
}

/// Finds where each term begins; terms only rise, so by bisection.
fn term_runs(
    store: &dyn RaftLogStore,
    group: u64,
    state: &LogState,
) -> Result<Vec<LogPosition>, LogError> {
    let mut runs = Vec::new();
    let mut index = state.cut.index + 1;
    while index <= state.last_index {
        let term = store.term(group, index)?;
        runs.push(LogPosition { index, term });
        let (mut same, mut beyond) = (index, state.last_index + 1);
        while beyond - same > 1 {
            let middle = same + (beyond - same) / 2;
            if store.term(group, middle)? == term {
                same = middle;
            } else {
                beyond = middle;
            }
        }
        index = beyond;
    }
    Ok(runs)
}
