//! One Raft group, as a pure core: inputs go in, `Work` comes out, nothing else happens.
//!
//! Owned by whoever drives it (the loop in `multi`, or a simulation). It holds no
//! thread, file, clock or random source: time comes with `tick`, randomness is a seed.
//!
//! The cycle: feed inputs (`tick`, `step`, `propose`, ...), then `take_work`. Write what
//! the work says, atomically; then `persisted(work.number)`; then send
//! `after_persist`; apply `committed` in order; then `applied(index)`; and `take_work`
//! again until it has none. `messages` may be sent before the write.
//!
//! Invariants: an entry appears in `committed` once, in index order, only after it is
//! persisted here and committed by a quorum; a proposal's token comes out exactly once
//! (from `propose`'s refusal, in `committed`, or in `lost`).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChange, ConfChangeV2, ConfState, Entry, EntryType, HardState, Message, MessageType,
};
use raft::{RaftState, RawNode, ReadOnlyOption, StateRole};

use super::log_store::LogPosition;
pub use super::log_view::LogFetch;
use super::log_view::LogView;

/// Fixed parameters of one replica.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// The group, for log lines.
    pub group: u64,
    /// This replica's number in the group (nonzero, never reused within the group).
    pub replica: u64,
    /// Length of one tick.
    pub tick: Duration,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Ticks without a leader before an election; each wait is drawn from
    /// `[election_ticks, 2 * election_ticks)`.
    pub election_ticks: usize,
    /// Bytes of entries in one message to a follower.
    pub max_message_bytes: u64,
    /// Bytes of committed entries in one `Work`.
    pub max_committed_bytes: u64,
    /// Bytes of applied entries kept in memory for followers (nothing is kept when
    /// there are none).
    pub cache_bytes: u64,
    /// Seed of the election timeouts.
    pub seed: u64,
}

impl CoreConfig {
    /// Defaults: ticks of 100 ms, heartbeat every 2, election after 10 to 20.
    pub fn new(group: u64, replica: u64) -> Self {
        Self {
            group,
            replica,
            tick: Duration::from_millis(100),
            heartbeat_ticks: 2,
            election_ticks: 10,
            max_message_bytes: 1 << 20,
            max_committed_bytes: 4 << 20,
            cache_bytes: 8 << 20,
            seed: 0,
        }
    }
}

/// The state of a replica as read from its log, with everything up to `applied` applied.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// Membership.
    pub conf_state: ConfState,
    /// Index of the entry that made the membership so.
    pub conf_index: u64,
    /// The log begins after this.
    pub cut: LogPosition,
    /// First index and term of each run of equal terms after the cut.
    pub term_runs: Vec<LogPosition>,
    /// Index of the last entry.
    pub last_index: u64,
    /// Everything up to here is in the state machine.
    pub applied: u64,
    /// Entries of `(applied, last_index]`.
    pub tail: Vec<Entry>,
}

/// What this replica is in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Accepts proposals.
    Leader,
    /// Follows (or looks for) a leader.
    Follower,
    /// Asks for votes.
    Candidate,
}

/// The role after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleChange {
    /// The new role.
    pub role: Role,
    /// The term in which it holds.
    pub term: u64,
    /// The group's leader, as far as known (replica number).
    pub leader: Option<u64>,
    /// True once a leader has applied everything of earlier terms: only then may it
    /// evaluate commands. Always false for others.
    pub ready_to_evaluate: bool,
}

/// Why a proposal was not taken. In every case it is definitely not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This replica does not lead the group.
    #[error("not the leader")]
    NotLeader {
        /// Who does, if known (replica number).
        leader: Option<u64>,
    },
    /// It was evaluated in another term than the present one.
    #[error("evaluated in term {evaluated}, but the term is now {current}")]
    StaleTerm {
        /// Term of the evaluation.
        evaluated: u64,
        /// Present term.
        current: u64,
    },
    /// It builds on a proposal of the same lineage that was refused.
    #[error("an earlier proposal that this one builds on was refused")]
    Orphaned,
    /// raft-rs refused it: leadership is being handed over.
    #[error("leadership is being transferred")]
    Transferring,
    /// Proposals have at least one byte (entries without are the group's own).
    #[error("an empty proposal")]
    Empty,
    /// The replication layer of this node is stopping or has failed.
    #[error("this node is stopping")]
    Stopped,
}

/// One proposal, with a token `T` that comes back with its outcome.
#[derive(Debug)]
pub struct Propose<T> {
    /// The term in which it was evaluated.
    pub term: u64,
    /// Grows whenever the evaluator throws its overlay away. Once a proposal is refused,
    /// all later ones of the same (or an older) lineage are refused too, because they
    /// were evaluated on top of effects that will never be.
    pub lineage: u64,
    /// Body of the entry; not empty.
    pub data: Bytes,
    /// Comes back in `Committed`, in `lost`, or with the refusal.
    pub token: T,
}

/// An entry that is committed and must be applied.
#[derive(Debug)]
pub struct Committed<T> {
    /// Its index: always one above the one before.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Its body. Empty: there is nothing to execute, only the index moves (a new
    /// leader's first entry, or a change of membership).
    pub data: Bytes,
    /// The proposal's token, if it was proposed by this process in this term.
    pub token: Option<T>,
}

/// What must be done now. See the module for the order.
#[derive(Debug)]
pub struct Work<T> {
    /// To be given to `persisted`.
    pub number: u64,
    /// Entries to append (they overwrite from the first one's index on).
    pub entries: Vec<Entry>,
    /// Term, vote and commit index, to be written with the entries.
    pub hard_state: Option<HardState>,
    /// Membership to be written, with the index of its entry.
    pub conf_state: Option<(u64, ConfState)>,
    /// False if a write may wait for the next work: only the commit index moved.
    pub must_write: bool,
    /// True if the write holds a term or vote: it must be synced in every mode.
    pub must_sync: bool,
    /// May be sent at once.
    pub messages: Vec<Message>,
    /// To be sent after the write.
    pub after_persist: Vec<Message>,
    /// To be applied, in order.
    pub committed: Vec<Committed<T>>,
    /// Proposals whose fate is unknown: leadership was lost before they were committed.
    /// To be reported after `role`.
    pub lost: Vec<T>,
    /// The role, if it changed.
    pub role: Option<RoleChange>,
    /// Old entries that a follower needs.
    pub fetches: Vec<LogFetch>,
    /// Answers to `read_index`: its context, and the index that must be applied first.
    pub reads: Vec<(Vec<u8>, u64)>,
}

struct Pending<T> {
    index: u64,
    term: u64,
    token: T,
}

/// See the module.
pub struct GroupCore<T> {
    node: RawNode<LogView>,
    config: CoreConfig,
    pending: VecDeque<Pending<T>>,
    /// Highest lineage of which a proposal was refused.
    refused_lineage: Option<u64>,
    conf_index: u64,
    /// Term and vote as last given out to be written.
    given_vote: (u64, u64),
    /// Hard state not yet written because only its commit index moved.
    lazy_hard_state: Option<HardState>,
    unsaved_conf: Option<(u64, ConfState)>,
    last_role: RoleChange,
    /// Highest index given out in `committed`.
    handed_out: u64,
    last_tick: Option<Duration>,
    /// Elections begun by a timeout; varies the waits within one term.
    attempts: u64,
}

impl<T> GroupCore<T> {
    /// Takes up a replica. A replica that is its group's only voter starts an election
    /// at once (and wins it); others wait for a timeout.
    pub fn new(config: CoreConfig, restored: Restored) -> raft::Result<Self> {
        let view = view_of(&config, &restored);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&raft_config(&config, restored.applied), view, &logger)?;
        let mut core = Self {
            last_role: RoleChange {
                role: Role::Follower,
                term: node.raft.term,
                leader: None,
                ready_to_evaluate: false,
            },
            node,
            config,
            pending: VecDeque::new(),
            refused_lineage: None,
            conf_index: restored.conf_index,
            given_vote: (restored.hard_state.term, restored.hard_state.vote),
            lazy_hard_state: None,
            unsaved_conf: None,
            handed_out: restored.applied,
            last_tick: None,
            attempts: 0,
        };
        if core.is_only_voter() {
            core.node.campaign()?;
        }
        core.draw_timeout();
        Ok(core)
    }

    /// Lets time pass. `now` is monotonic; its origin is the caller's. After a stall,
    /// time lost beyond two ticks is not made up for, so that a slow process does not
    /// start elections before it has read its messages.
    pub fn tick(&mut self, now: Duration) {
        let last = *self.last_tick.get_or_insert(now);
        let due = (now.saturating_sub(last).as_nanos() / self.config.tick.as_nanos().max(1)) as u32;
        if due == 0 {
            return;
        }
        self.last_tick = Some(if due > 2 {
            now
        } else {
            last + self.config.tick * due
        });
        for _ in 0..due.min(2) {
            let before = self.node.raft.election_elapsed;
            self.node.tick();
            if self.node.raft.election_elapsed < before && !self.is_leader() {
                self.attempts += 1;
            }
            self.draw_timeout();
        }
    }

    /// True if time must be reported by `tick`: not for a leader without peers.
    pub fn needs_ticks(&self) -> bool {
        !(self.is_leader() && self.is_only_voter())
    }

    /// Takes a message of another replica. Snapshots and forwarded proposals are not
    /// part of this protocol and are dropped, as is what raft-rs refuses.
    pub fn step(&mut self, message: Message) {
        match message.get_msg_type() {
            MessageType::MsgPropose | MessageType::MsgSnapshot => return,
            _ => {}
        }
        if let Err(error) = self.node.step(message) {
            tracing::debug!(group = self.config.group, %error, "raft message refused");
        }
        self.draw_timeout();
    }

    /// Proposes an entry. Taken: its position, and the token comes out later. Refused:
    /// definitely not executed, and the token comes back.
    pub fn propose(&mut self, proposal: Propose<T>) -> Result<LogPosition, (Refusal, T)> {
        if let Err(refusal) = self.check(&proposal) {
            return Err(self.refuse(refusal, proposal));
        }
        let entry = Entry {
            data: proposal.data.clone(),
            ..Entry::default()
        };
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.replica;
        message.set_entries(vec![entry].into());
        if self.node.raft.step(message).is_err() {
            return Err(self.refuse(Refusal::Transferring, proposal));
        }
        let position = LogPosition {
            index: self.node.raft.raft_log.last_index(),
            term: self.node.raft.term,
        };
        self.pending.push_back(Pending {
            index: position.index,
            term: position.term,
            token: proposal.token,
        });
        Ok(position)
    }

    /// Proposes a change of membership (joint consensus). The outcome is seen as a new
    /// `conf_state` in a later work. False if it was refused.
    pub fn propose_conf_change(&mut self, change: ConfChangeV2) -> bool {
        self.is_leader() && self.node.propose_conf_change(Vec::new(), change).is_ok()
    }

    /// Asks for an index that, once applied, makes a local read linearizable. The answer
    /// comes in `Work::reads`; none may come if leadership changes.
    pub fn read_index(&mut self, context: Vec<u8>) {
        if self.is_leader() {
            self.node.read_index(context);
        }
    }

    /// Begins to hand leadership to `replica`.
    pub fn transfer_leader(&mut self, replica: u64) {
        self.node.transfer_leader(replica);
    }

    /// What must be done now, if anything.
    pub fn take_work(&mut self) -> Option<Work<T>> {
        let role = self.role_change();
        if !self.node.has_ready() && role.is_none() && !self.node.store().has_wanted() {
            return None;
        }
        let mut ready = self.node.ready();
        let entries = ready.take_entries();
        let mut must_sync = false;
        if let Some(hard_state) = ready.hs() {
            let vote = (hard_state.term, hard_state.vote);
            must_sync = std::mem::replace(&mut self.given_vote, vote) != vote;
            self.lazy_hard_state = Some(hard_state.clone());
        }
        let committed_entries = ready.take_committed_entries();
        let mut work = Work {
            number: ready.number(),
            must_write: false,
            must_sync,
            hard_state: None,
            conf_state: None,
            messages: ready.take_messages(),
            after_persist: ready.take_persisted_messages(),
            committed: Vec::with_capacity(committed_entries.len()),
            lost: Vec::new(),
            role: None,
            fetches: Vec::new(),
            reads: ready
                .take_read_states()
                .into_iter()
                .map(|read| (read.request_ctx, read.index))
                .collect(),
            entries,
        };
        self.node.mut_store().append(&work.entries);
        self.node.advance_append_async(ready);
        for entry in committed_entries {
            let committed = self.hand_out(entry);
            work.committed.push(committed);
        }
        self.finish_work(&mut work, role);
        Some(work)
    }

    /// The write of work `number` (and of all before) is as durable as promised.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
    }

    /// The state machine has taken everything up to `index`.
    pub fn applied(&mut self, index: u64) {
        debug_assert!(index <= self.handed_out);
        self.node.advance_apply_to(index);
        self.node.mut_store().evict(index);
    }

    /// Entries read from the store for a `LogFetch`; empty if they could not be read.
    pub fn fetched(&mut self, fetch: LogFetch, entries: Vec<Entry>) {
        self.node.mut_store().offer(entries);
        self.node.on_entries_fetched(fetch.context);
        self.node.mut_store().withdraw();
    }

    /// The store is about to cut the log up to `index`, which must be applied.
    pub fn cut_to(&mut self, index: u64) -> Option<LogPosition> {
        let store = self.node.mut_store();
        let before = store.cut();
        store.cut_to(index);
        let cut = store.cut();
        (cut != before).then_some(cut)
    }

    /// The highest index up to which no replica needs this log any more, as far as this
    /// replica knows. As long as there are no snapshots, only a leader knows it.
    pub fn safe_cut(&self) -> u64 {
        if self.is_only_voter() {
            return self.applied_index();
        }
        if !self.is_leader() {
            return 0;
        }
        let prs = self.node.raft.prs();
        let matched = prs.iter().map(|(_, progress)| progress.matched).min();
        matched.unwrap_or(0).min(self.applied_index())
    }

    /// A hard state that lags only by its commit index, for a last write before the end.
    pub fn take_lazy_hard_state(&mut self) -> Option<HardState> {
        self.lazy_hard_state.take()
    }

    /// Everything that is proposed and not resolved comes out, its fate unknown. For
    /// the end of the process.
    pub fn abandon(&mut self) -> Vec<T> {
        self.pending.drain(..).map(|p| p.token).collect()
    }

    /// Proposals that are not resolved yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The present role.
    pub fn role(&self) -> RoleChange {
        self.last_role
    }

    /// Highest applied index.
    pub fn applied_index(&self) -> u64 {
        self.node.raft.raft_log.applied()
    }

    /// Highest index known to be committed.
    pub fn commit_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// Highest index in the log.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// First index in the log.
    pub fn first_index(&self) -> u64 {
        self.node.store().cut().index + 1
    }

    /// True if this replica alone is the group.
    pub fn is_only_voter(&self) -> bool {
        let prs = self.node.raft.prs();
        prs.iter().count() == 1
            && prs.get(self.config.replica).is_some()
            && self.node.raft.promotable()
    }

    fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn check(&self, proposal: &Propose<T>) -> Result<(), Refusal> {
        let current = self.node.raft.term;
        if proposal.data.is_empty() {
            return Err(Refusal::Empty);
        }
        if !self.is_leader() {
            return Err(Refusal::NotLeader {
                leader: nonzero(self.node.raft.leader_id),
            });
        }
        if proposal.term != current {
            let evaluated = proposal.term;
            return Err(Refusal::StaleTerm { evaluated, current });
        }
        if self.refused_lineage.is_some_and(|l| proposal.lineage <= l) {
            return Err(Refusal::Orphaned);
        }
        Ok(())
    }

    fn refuse(&mut self, refusal: Refusal, proposal: Propose<T>) -> (Refusal, T) {
        self.refused_lineage = self.refused_lineage.max(Some(proposal.lineage));
        (refusal, proposal.token)
    }

    /// Turns a committed entry into what the state machine gets; applies membership.
    fn hand_out(&mut self, entry: Entry) -> Committed<T> {
        self.handed_out = entry.index;
        let token = self.claim(entry.index, entry.term);
        let data = match entry.get_entry_type() {
            EntryType::EntryNormal => entry.data,
            _ => {
                self.change_conf(&entry);
                Bytes::new()
            }
        };
        Committed {
            index: entry.index,
            term: entry.term,
            data,
            token,
        }
    }

    /// The token of the proposal at this index, if it is still that one.
    fn claim(&mut self, index: u64, term: u64) -> Option<T> {
        let front = self.pending.front()?;
        if front.index != index || front.term != term {
            return None;
        }
        self.pending.pop_front().map(|p| p.token)
    }

    /// A change that the stored membership already contains (replay) is passed over.
    fn change_conf(&mut self, entry: &Entry) {
        if entry.index <= self.conf_index {
            return;
        }
        let state = if entry.get_entry_type() == EntryType::EntryConfChange {
            let change = ConfChange::parse_from_bytes(&entry.data);
            let change = change.expect("the leader checked it before appending");
            self.node.apply_conf_change(&change)
        } else {
            let change = ConfChangeV2::parse_from_bytes(&entry.data);
            let change = change.expect("the leader checked it before appending");
            self.node.apply_conf_change(&change)
        };
        self.conf_index = entry.index;
        let state = state.expect("raft-rs itself proposed it as valid");
        self.unsaved_conf = Some((entry.index, state));
    }

    fn finish_work(&mut self, work: &mut Work<T>, role: Option<RoleChange>) {
        work.conf_state = self.unsaved_conf.take();
        work.must_write = !work.entries.is_empty() || work.must_sync || work.conf_state.is_some();
        if work.must_write {
            work.hard_state = self.lazy_hard_state.take();
        }
        if let Some(role) = role {
            self.last_role = role;
            work.role = Some(role);
        }
        let current = (self.is_leader(), self.node.raft.term);
        while let Some(pending) = self.pending.front() {
            if current == (true, pending.term) {
                break;
            }
            work.lost.extend(self.pending.pop_front().map(|p| p.token));
        }
        work.fetches = self.node.mut_store().take_wanted();
    }

    fn role_change(&self) -> Option<RoleChange> {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        let now = RoleChange {
            role,
            term: raft.term,
            leader: nonzero(raft.leader_id),
            ready_to_evaluate: role == Role::Leader && raft.apply_to_current_term(),
        };
        (now != self.last_role).then_some(now)
    }

    /// Replaces the timeout that raft-rs drew from its own random source. A function of
    /// the seed and of what happened so far, so that a run can be repeated; set after
    /// every input, because raft-rs draws again at every change of term or role.
    fn draw_timeout(&mut self) {
        let raft = &mut self.node.raft;
        let range = self.config.election_ticks as u64;
        let mixed = mix(&[
            self.config.seed,
            self.config.replica,
            raft.term,
            self.attempts,
        ]);
        raft.set_randomized_election_timeout((range + mixed % range) as usize);
    }
}

fn nonzero(replica: u64) -> Option<u64> {
    (replica != 0).then_some(replica)
}

/// SplitMix64 (Steele, Lea, Flood 2014) folded over the words.
fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |state, word| {
        let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

fn raft_config(config: &CoreConfig, applied: u64) -> raft::Config {
    raft::Config {
        id: config.replica,
        election_tick: config.election_ticks,
        heartbeat_tick: config.heartbeat_ticks,
        applied,
        max_size_per_msg: config.max_message_bytes,
        max_inflight_msgs: 256,
        check_quorum: true,
        pre_vote: true,
        // Never LeaseBased: in raft-rs it checks no lease.
        read_only_option: ReadOnlyOption::Safe,
        max_committed_size_per_ready: config.max_committed_bytes,
        ..raft::Config::default()
    }
}

fn view_of(config: &CoreConfig, restored: &Restored) -> LogView {
    let mut hard_state = restored.hard_state.clone();
    // The commit index is written lazily; what is applied was committed.
    hard_state.commit = hard_state.commit.max(restored.applied);
    let alone =
        restored.conf_state.voters == [config.replica] && restored.conf_state.learners.is_empty();
    LogView::new(
        RaftState {
            hard_state,
            conf_state: restored.conf_state.clone(),
        },
        restored.cut,
        restored.term_runs.clone(),
        restored.last_index,
        restored.tail.clone(),
        if alone { 0 } else { config.cache_bytes },
    )
}
