//! One consistent picture of a cluster: every record at one etcd revision.
//!
//! A `Topology` is immutable once published; the watch makes the next one from a
//! copy. Knows nothing of etcd connections.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use super::keys::{Keys, RecordKey};
use super::records::{
    CLUSTER_VERSION, ClusterRecord, ClusterVersionRecord, DecisionRecord, FunctionRecord,
    FunctionSequenceRecord, GroupId, GroupRecord, LeaderRecord, MemberRecord, NodeId, NodeRecord,
    PlanId, PlanProgressRecord, PlanRecord, PlanState, ProxyRecord, Record, RecordError,
    SlotMapRecord, UsersRecord,
};
use crate::slot::{SLOT_COUNT, SlotSet};

/// A record with the etcd revision that last changed it: what a transaction
/// compares when its change is based on the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The record.
    pub value: T,
    /// etcd's `mod_revision` of it.
    pub mod_revision: i64,
}

impl<T> Deref for Versioned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Where to reach a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Node.
    pub node: NodeId,
    /// Host as the node advertises it.
    pub host: String,
    /// RESP port.
    pub port: u16,
    /// Port of private links.
    pub peer_port: u16,
    /// Whether the node's lease is alive. When not, this is the last known
    /// address: the node may be dead, or only cut off from etcd.
    pub alive: bool,
}

/// A plan with what is known of its course.
#[derive(Debug, Clone, Copy)]
pub struct PlanView<'a> {
    /// The order.
    pub plan: &'a Versioned<PlanRecord>,
    /// How far the source got; none before it began.
    pub progress: Option<&'a Versioned<PlanProgressRecord>>,
    /// How it ended, if it did.
    pub decision: Option<&'a Versioned<DecisionRecord>>,
}

impl PlanView<'_> {
    /// How it stands: running until a progress record says otherwise.
    pub fn state(&self) -> PlanState {
        self.progress.map_or(PlanState::Running, |p| p.state)
    }

    /// Whether something may still happen to its slots.
    pub fn is_active(&self) -> bool {
        !self.state().is_final()
    }
}

/// Every record of a cluster at one etcd revision.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    /// The etcd revision that this is the state at; 0: nothing known yet.
    pub revision: i64,
    /// That the cluster exists.
    pub cluster: Option<Versioned<ClusterRecord>>,
    /// The cluster version in force.
    pub cluster_version: Option<Versioned<ClusterVersionRecord>>,
    /// Nodes that belong to the cluster, alive or not.
    pub members: BTreeMap<NodeId, Versioned<MemberRecord>>,
    /// Living nodes.
    pub nodes: BTreeMap<NodeId, Versioned<NodeRecord>>,
    /// Living proxies.
    pub proxies: BTreeMap<String, Versioned<ProxyRecord>>,
    /// Groups.
    pub groups: BTreeMap<GroupId, Versioned<GroupRecord>>,
    /// Hints of leaders.
    pub leaders: BTreeMap<GroupId, Versioned<LeaderRecord>>,
    /// The slot map.
    pub slots: Option<Versioned<SlotMapRecord>>,
    /// Plans, finished ones too.
    pub plans: BTreeMap<PlanId, Versioned<PlanRecord>>,
    /// Progress of plans.
    pub progress: BTreeMap<PlanId, Versioned<PlanProgressRecord>>,
    /// Ends of plans.
    pub decisions: BTreeMap<PlanId, Versioned<DecisionRecord>>,
    /// Function libraries, by name. Shared by the pictures that have them.
    pub functions: BTreeMap<String, Arc<Versioned<FunctionRecord>>>,
    /// Their counter.
    pub function_sequence: Option<Versioned<FunctionSequenceRecord>>,
    /// Users, if any were set. Shared by the pictures that have them.
    pub users: Option<Arc<Versioned<UsersRecord>>>,
    /// Records that this program cannot read, by path, with the reason.
    pub unreadable: BTreeMap<String, String>,
    /// Owner of each slot, 0 for none; derived from `slots`.
    owners: OwnerTable,
}

/// Owner and epoch of each slot; shared by all snapshots of one slot map.
#[derive(Debug, Clone, Default)]
struct OwnerTable(Option<Arc<[(GroupId, u32)]>>);

impl OwnerTable {
    fn build(map: &SlotMapRecord) -> Self {
        let mut table = vec![(0, 0); usize::from(SLOT_COUNT)];
        for range in &map.ranges {
            for slot in range.lo..=range.hi.min(SLOT_COUNT - 1) {
                table[usize::from(slot)] = (range.group, range.epoch);
            }
        }
        Self(Some(table.into()))
    }

    fn get(&self, slot: u16) -> Option<(GroupId, u32)> {
        let owner = *self.0.as_ref()?.get(usize::from(slot))?;
        (owner.0 != 0).then_some(owner)
    }
}

impl Topology {
    /// A picture made of encoded records, as if all were written at one revision:
    /// for tests of what is built on it.
    pub fn from_records(revision: i64, records: &[(RecordKey, Vec<u8>)]) -> Self {
        let keys = Keys::new("from-records");
        let mut topology = Self {
            revision,
            ..Self::default()
        };
        for (key, json) in records {
            topology.put(&keys, keys.path(key).as_bytes(), json, revision);
        }
        topology
    }

    /// The cluster version in force; 0 before there is one.
    pub fn version_in_force(&self) -> u32 {
        self.cluster_version
            .as_ref()
            .map_or(0, |version| version.cluster_version)
    }

    /// The cluster version that every member, and this program, can work under. A
    /// member that is away may come back with the program that it had: it counts as
    /// one that can nothing new. `None`: not above the one in force.
    pub fn next_cluster_version(&self) -> Option<u32> {
        let in_force = self.cluster_version.as_ref()?.cluster_version;
        let lowest = self.started_members().map(|(_, most)| most).min()?;
        let next = lowest.min(CLUSTER_VERSION);
        (next > in_force).then_some(next)
    }

    /// Members that were started once, and the cluster version that each can work
    /// under; 0 for one that is away.
    pub fn started_members(&self) -> impl Iterator<Item = (&NodeId, u32)> {
        let started = self.members.iter();
        started
            .filter(|(_, member)| !member.data_dir_id.is_empty())
            .map(move |(id, _)| {
                let node = self.nodes.get(id);
                (id, node.map_or(0, |node| node.max_cluster_version))
            })
    }

    /// Group that owns a slot.
    pub fn group_of(&self, slot: u16) -> Option<GroupId> {
        self.owners.get(slot).map(|(group, _)| group)
    }

    /// Epoch under which a slot is owned.
    pub fn slot_epoch(&self, slot: u16) -> Option<u32> {
        self.owners.get(slot).map(|(_, epoch)| epoch)
    }

    /// Epoch of the slot map; 0 before there is one.
    pub fn epoch(&self) -> u32 {
        self.slots.as_ref().map_or(0, |s| s.epoch)
    }

    /// Node that is thought to lead a group: the hint if it names a replica,
    /// else the only (or first) replica.
    pub fn leader_of(&self, group: GroupId) -> Option<&NodeId> {
        let record = self.groups.get(&group)?;
        let hinted = self.leaders.get(&group).map(|l| &l.node);
        hinted
            .filter(|node| record.replicas.contains(node))
            .or(record.replicas.first())
    }

    /// Where to reach a node: its living record, or its last known address.
    pub fn address_of(&self, node: &str) -> Option<NodeAddress> {
        if let Some(n) = self.nodes.get(node) {
            return Some(NodeAddress {
                node: n.id.clone(),
                host: n.host.clone(),
                port: n.port,
                peer_port: n.peer_port,
                alive: true,
            });
        }
        let m = self.members.get(node).filter(|m| m.port != 0)?;
        Some(NodeAddress {
            node: m.id.clone(),
            host: m.host.clone(),
            port: m.port,
            peer_port: m.peer_port,
            alive: false,
        })
    }

    /// Where the leader of a group is thought to be.
    pub fn leader_address(&self, group: GroupId) -> Option<NodeAddress> {
        self.address_of(self.leader_of(group)?)
    }

    /// Where the owner of a slot is thought to be.
    pub fn slot_address(&self, slot: u16) -> Option<NodeAddress> {
        self.leader_address(self.group_of(slot)?)
    }

    /// Slots of a group, by the map.
    pub fn slots_of(&self, group: GroupId) -> SlotSet {
        self.slots
            .as_ref()
            .map_or_else(SlotSet::new, |s| s.owned_by(group))
    }

    /// Groups with a replica on a node.
    pub fn groups_on<'a>(
        &'a self,
        node: &'a str,
    ) -> impl Iterator<Item = &'a Versioned<GroupRecord>> {
        self.groups
            .values()
            .filter(move |g| g.replicas.iter().any(|r| r == node))
    }

    /// One plan with its course.
    pub fn plan(&self, id: PlanId) -> Option<PlanView<'_>> {
        Some(PlanView {
            plan: self.plans.get(&id)?,
            progress: self.progress.get(&id),
            decision: self.decisions.get(&id),
        })
    }

    /// All plans by number.
    pub fn plan_views(&self) -> impl Iterator<Item = PlanView<'_>> {
        self.plans.keys().filter_map(|&id| self.plan(id))
    }

    /// Plans that are not finished.
    pub fn active_plans(&self) -> impl Iterator<Item = PlanView<'_>> {
        self.plan_views().filter(PlanView::is_active)
    }

    /// Takes in a record's new value. A value that cannot be read leaves the
    /// record as it was and is noted in `unreadable`.
    pub(super) fn put(&mut self, keys: &Keys, path: &[u8], value: &[u8], mod_revision: i64) {
        let Some(key) = keys.parse(path) else { return };
        let path = key.relative();
        match self.put_record(key, value, mod_revision) {
            Ok(()) => drop(self.unreadable.remove(&path)),
            Err(error) => {
                let reason = std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
                tracing::error!(record = %path, %reason, "a topology record cannot be read; its last known value stays");
                self.unreadable.insert(path, reason);
            }
        }
    }

    fn put_record(&mut self, key: RecordKey, json: &[u8], rev: i64) -> Result<(), RecordError> {
        match key {
            RecordKey::Cluster => self.cluster = Some(versioned(json, rev)?),
            RecordKey::ClusterVersion => self.cluster_version = Some(versioned(json, rev)?),
            RecordKey::Member(id) => drop(self.members.insert(id, versioned(json, rev)?)),
            RecordKey::Node(id) => drop(self.nodes.insert(id, versioned(json, rev)?)),
            RecordKey::Proxy(id) => drop(self.proxies.insert(id, versioned(json, rev)?)),
            RecordKey::Group(id) => drop(self.groups.insert(id, versioned(json, rev)?)),
            RecordKey::Leader(id) => drop(self.leaders.insert(id, versioned(json, rev)?)),
            RecordKey::Slots => self.set_slots(versioned(json, rev)?),
            RecordKey::Plan(id) => drop(self.plans.insert(id, versioned(json, rev)?)),
            RecordKey::PlanProgress(id) => drop(self.progress.insert(id, versioned(json, rev)?)),
            RecordKey::Decision(id) => drop(self.decisions.insert(id, versioned(json, rev)?)),
            RecordKey::Function(name) => {
                self.functions.insert(name, Arc::new(versioned(json, rev)?));
            }
            RecordKey::FunctionSequence => self.function_sequence = Some(versioned(json, rev)?),
            RecordKey::Users => self.users = Some(Arc::new(versioned(json, rev)?)),
            RecordKey::PlanSequence | RecordKey::PlanProof(_) => {}
        }
        Ok(())
    }

    fn set_slots(&mut self, slots: Versioned<SlotMapRecord>) {
        self.owners = OwnerTable::build(&slots);
        self.slots = Some(slots);
    }

    /// Takes in that a record is gone.
    pub(super) fn delete(&mut self, keys: &Keys, path: &[u8]) {
        let Some(key) = keys.parse(path) else { return };
        self.unreadable.remove(&key.relative());
        match key {
            RecordKey::Cluster => self.cluster = None,
            RecordKey::ClusterVersion => self.cluster_version = None,
            RecordKey::Member(id) => drop(self.members.remove(&id)),
            RecordKey::Node(id) => drop(self.nodes.remove(&id)),
            RecordKey::Proxy(id) => drop(self.proxies.remove(&id)),
            RecordKey::Group(id) => drop(self.groups.remove(&id)),
            RecordKey::Leader(id) => drop(self.leaders.remove(&id)),
            RecordKey::Slots => (self.slots, self.owners) = (None, OwnerTable::default()),
            RecordKey::Plan(id) => drop(self.plans.remove(&id)),
            RecordKey::PlanProgress(id) => drop(self.progress.remove(&id)),
            RecordKey::Decision(id) => drop(self.decisions.remove(&id)),
            RecordKey::Function(name) => drop(self.functions.remove(&name)),
            RecordKey::FunctionSequence => self.function_sequence = None,
            RecordKey::Users => self.users = None,
            RecordKey::PlanSequence | RecordKey::PlanProof(_) => {}
        }
    }

    /// Every record with its path below the prefix, encoded value and revision:
    /// what the cache file holds.
    pub(super) fn encoded_records(&self) -> Vec<(String, Vec<u8>, i64)> {
        fn add<T: Record>(out: &mut Vec<(String, Vec<u8>, i64)>, key: RecordKey, v: &Versioned<T>) {
            out.push((key.relative(), v.value.encode(), v.mod_revision));
        }
        let mut out = Vec::new();
        self.cluster
            .iter()
            .for_each(|v| add(&mut out, RecordKey::Cluster, v));
        self.cluster_version
            .iter()
            .for_each(|v| add(&mut out, RecordKey::ClusterVersion, v));
        self.members
            .iter()
            .for_each(|(id, v)| add(&mut out, RecordKey::Member(id.clone()), v));
        self.nodes
            .iter()
            .for_each(|(id, v)| add(&mut out, RecordKey::Node(id.clone()), v));
        self.proxies
            .iter()
            .for_each(|(id, v)| add(&mut out, RecordKey::Proxy(id.clone()), v));
        self.groups
            .iter()
            .for_each(|(id, v)| add(&mut out, RecordKey::Group(*id), v));
        self.leaders
            .iter()
            .for_each(|(id, v)| add(&mut out, RecordKey::Leader(*id), v));
        self.slots
            .iter()
            .for_each(|v| add(&mut out, RecordKey::Slots, v));
        self.plans
            .iter()
            .for_each(|(id, v)| add(&mut out, RecordKey::Plan(*id), v));
        self.progress
            .iter()
            .for_each(|(id, v)| add(&mut out, RecordKey::PlanProgress(*id), v));
        self.decisions
            .iter()
            .for_each(|(id, v)| add(&mut out, RecordKey::Decision(*id), v));
        self.functions
            .iter()
            .for_each(|(name, v)| add(&mut out, RecordKey::Function(name.clone()), v));
        self.function_sequence
            .iter()
            .for_each(|v| add(&mut out, RecordKey::FunctionSequence, v));
        self.users
            .iter()
            .for_each(|v| add(&mut out, RecordKey::Users, v));
        out
    }

    /// Why `next` must not replace this picture, if it must not: another cluster
    /// of the same name, or a slot map that went backwards (etcd restored from
    /// an old backup).
    pub(super) fn refuses(&self, next: &Topology) -> Option<String> {
        if let (Some(mine), Some(theirs)) = (&self.cluster, &next.cluster)
            && mine.id != theirs.id
        {
            return Some(format!(
                "etcd now holds another cluster of this name (id {}, known {})",
                theirs.id, mine.id
            ));
        }
        (next.epoch() < self.epoch()).then(|| {
            format!(
                "the slot map in etcd went back from epoch {} to {}",
                self.epoch(),
                next.epoch()
            )
        })
    }
}

fn versioned<T: Record>(json: &[u8], mod_revision: i64) -> Result<Versioned<T>, RecordError> {
    Ok(Versioned {
        value: T::decode(json)?,
        mod_revision,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::topology::records::now_ms;

    /// Two groups on two members, the first of which is alive.
    pub fn two_groups() -> Topology {
        let mut records = Vec::new();
        let mut put = |key: RecordKey, json: Vec<u8>| records.push((key, json));
        put(RecordKey::Slots, SlotMapRecord::spread(&[1, 2]).encode());
        for (group, node, port) in [(1, "n1", 7001), (2, "n2", 7002)] {
            let member = MemberRecord {
                id: node.into(),
                data_dir_id: format!("disk-{node}"),
                host: "h".into(),
                port,
                peer_port: port + 100,
                zone: String::new(),
                registered_at_ms: now_ms(),
            };
            put(RecordKey::Member(node.into()), member.encode());
            let record = GroupRecord {
                id: group,
                replicas: vec![node.into()],
                incarnation: 1,
                bootstrapped: false,
                created_at_ms: 1,
            };
            put(RecordKey::Group(group), record.encode());
        }
        let alive = NodeRecord {
            id: "n1".into(),
            data_dir_id: "disk-n1".into(),
            host: "h".into(),
            port: 7001,
            peer_port: 7101,
            zone: String::new(),
            version: "0.1.0".into(),
            max_cluster_version: 1,
            started_at_ms: 1,
            load: Default::default(),
        };
        put(RecordKey::Node("n1".into()), alive.encode());
        Topology::from_records(9, &records)
    }

    #[test]
    fn a_slot_leads_to_the_address_of_its_groups_leader() {
        let topology = two_groups();
        assert_eq!(topology.group_of(0), Some(1));
        assert_eq!(topology.group_of(16383), Some(2));
        assert_eq!(topology.group_of(16384), None);
        let first = topology.slot_address(0).unwrap();
        assert_eq!(
            (first.port, first.peer_port, first.alive),
            (7001, 7101, true)
        );
        let second = topology.slot_address(9000).unwrap();
        assert_eq!(
            (second.port, second.alive),
            (7002, false),
            "last known address"
        );
    }

    #[test]
    fn a_leader_hint_counts_only_if_it_names_a_replica() {
        let keys = Keys::new("c1");
        let mut topology = two_groups();
        for (node, led_by) in [("n9", "n1"), ("n1", "n1")] {
            let hint = LeaderRecord {
                group: 1,
                node: node.into(),
                term: 3,
            };
            topology.put(&keys, b"/cairn/c1/leaders/1", &hint.encode(), 10);
            assert_eq!(topology.leader_of(1).map(String::as_str), Some(led_by));
        }
    }

    #[test]
    fn an_unreadable_record_keeps_its_last_known_value() {
        let keys = Keys::new("c1");
        let mut topology = two_groups();
        topology.put(
            &keys,
            b"/cairn/c1/slots",
            br#"{"v":99,"epoch":5,"ranges":[]}"#,
            11,
        );
        assert_eq!(topology.group_of(0), Some(1));
        assert!(
            topology.unreadable["slots"].contains("version 99"),
            "{:?}",
            topology.unreadable
        );
        topology.put(
            &keys,
            b"/cairn/c1/slots",
            &SlotMapRecord::spread(&[2]).encode(),
            12,
        );
        assert_eq!(topology.group_of(0), Some(2));
        assert!(topology.unreadable.is_empty());
    }

    #[test]
    fn a_slot_map_that_goes_back_is_refused() {
        let (old, mut new) = (two_groups(), two_groups());
        assert_eq!(old.refuses(&new), None);
        let keys = Keys::new("c1");
        let moved = new
            .slots
            .as_ref()
            .unwrap()
            .reassign(&"0-9".parse().unwrap(), 1, 2, 2)
            .unwrap();
        new.put(&keys, b"/cairn/c1/slots", &moved.encode(), 12);
        assert_eq!(old.refuses(&new), None);
        assert!(new.refuses(&old).unwrap().contains("from epoch 2 to 1"));
    }

    #[test]
    fn deleted_records_are_gone() {
        let keys = Keys::new("c1");
        let mut topology = two_groups();
        for (path, _, _) in two_groups().encoded_records() {
            topology.delete(&keys, format!("/cairn/c1/{path}").as_bytes());
        }
        assert!(topology.encoded_records().is_empty());
        assert_eq!(topology.group_of(0), None);
    }
}
