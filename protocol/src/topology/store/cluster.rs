//! Membership: the cluster itself, its nodes and its groups.

use etcd_client::{Compare, Txn, TxnOp};

use super::{CONFLICT_TRIES, StoreError, TopologyStore, decode_kv, gets};
use crate::topology::keys::{RecordKey, is_valid_id};
use crate::topology::records::{
    CLUSTER_VERSION, ClusterRecord, ClusterVersionRecord, FIRST_INCARNATION, GroupId, GroupRecord,
    LeaderRecord, MemberRecord, PlanSequenceRecord, SlotMapRecord, now_ms,
};
use crate::topology::snapshot::{Topology, Versioned};

/// Most operations of one etcd transaction, by etcd's default.
const MAX_TXN_OPS: usize = 128;

/// What `init` shall see to.
#[derive(Debug, Clone, Default)]
pub struct NewCluster {
    /// Fresh random id, 32 hex digits, used if the cluster does not exist yet.
    pub id: String,
    /// Groups with their nodes. Nodes that are not known yet are admitted.
    pub groups: Vec<(GroupId, Vec<String>)>,
}

impl TopologyStore {
    /// Creates what is missing of a cluster: its record, settings, groups, the
    /// members that the groups name, and, once there is a group, the first
    /// spread of all slots over all groups. Idempotent. Returns what it did, a
    /// line for each thing.
    ///
    /// # Errors
    /// `Refused` when a group exists with other nodes; `Invalid` for bad names.
    pub async fn init(&self, new: &NewCluster) -> Result<Vec<String>, StoreError> {
        for (id, nodes) in &new.groups {
            check_group(*id, nodes)?;
        }
        for _ in 0..CONFLICT_TRIES {
            let mut change = Init::new(self, self.list().await?);
            change.cluster_and_settings(new);
            change.groups(new)?;
            change.slots();
            let Some((txn, done)) = change.finish()? else {
                return Ok(Vec::new());
            };
            if self.txn("init", txn).await?.succeeded() {
                return Ok(done);
            }
        }
        Err(busy())
    }

    /// Admits a node ahead of its first start. With `replace`, a node whose disk
    /// was lost may come back with a new data directory.
    ///
    /// # Errors
    /// `NoCluster`; `Refused` if the id is bound to a disk and `replace` is not
    /// given, or if the node is alive or holds group data.
    pub async fn admit_member(&self, id: &str, replace: bool) -> Result<(), StoreError> {
        check_node_id(id)?;
        for _ in 0..CONFLICT_TRIES {
            let topology = self.list().await?;
            self.require_cluster(&topology)?;
            let key = RecordKey::Member(id.into());
            let base = match topology.members.get(id) {
                None => self.absent(&key),
                Some(member) if member.data_dir_id.is_empty() => return Ok(()),
                Some(member) => {
                    check_replace(&topology, member, replace)?;
                    self.unchanged(&key, member.mod_revision)
                }
            };
            let op = self.put_op(&key, &pending_member(id));
            let txn = Txn::new().when([base]).and_then([op]);
            if self.txn("admit node", txn).await?.succeeded() {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// A node's own claim to its id, at every start: binds the id to the data
    /// directory at the first, and keeps the last known address. Returns the
    /// revision of the member record.
    ///
    /// # Errors
    /// `NoCluster`; `Refused` if the id is bound to another data directory, or
    /// the data directory to another id.
    pub async fn claim_member(&self, claim: &MemberRecord) -> Result<i64, StoreError> {
        check_node_id(&claim.id)?;
        for _ in 0..CONFLICT_TRIES {
            let topology = self.list().await?;
            self.require_cluster(&topology)?;
            check_claim(&topology, claim)?;
            let key = RecordKey::Member(claim.id.clone());
            let (base, record) = match topology.members.get(&claim.id) {
                None => (self.absent(&key), claim.clone()),
                Some(known) => {
                    let registered_at_ms = known.registered_at_ms;
                    let record = MemberRecord {
                        registered_at_ms,
                        ..claim.clone()
                    };
                    if known.value == record {
                        return Ok(known.mod_revision);
                    }
                    (self.unchanged(&key, known.mod_revision), record)
                }
            };
            let txn = Txn::new()
                .when([base])
                .and_then([self.put_op(&key, &record)]);
            let response = self.txn("claim node id", txn).await?;
            if response.succeeded() {
                return Ok(super::revision_of(&response));
            }
        }
        Err(busy())
    }

    /// Forgets a node.
    ///
    /// # Errors
    /// `Refused` while replicas live there or the node is alive; `Conflict` if
    /// there is no such node.
    pub async fn remove_member(&self, id: &str) -> Result<(), StoreError> {
        for _ in 0..CONFLICT_TRIES {
            let topology = self.list().await?;
            let member = check_removal(&topology, id)?;
            let key = RecordKey::Member(id.into());
            let bases = [
                self.unchanged(&key, member.mod_revision),
                self.unchanged_below("groups/", topology.revision),
                self.absent(&RecordKey::Node(id.into())),
            ];
            let op = TxnOp::delete(self.keys.path(&key), None);
            let txn = Txn::new().when(bases).and_then([op]);
            if self.txn("remove node", txn).await?.succeeded() {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Creates a group on nodes that are members. It owns no slots unless the
    /// first spread is still to come.
    ///
    /// # Errors
    /// `Refused` if the group exists or a node is unknown; `Invalid` for a bad
    /// id or list of nodes.
    pub async fn create_group(&self, id: GroupId, nodes: &[String]) -> Result<(), StoreError> {
        check_group(id, nodes)?;
        for _ in 0..CONFLICT_TRIES {
            let topology = self.list().await?;
            self.require_cluster(&topology)?;
            if topology.groups.contains_key(&id) {
                return Err(StoreError::Refused(format!("group {id} exists already")));
            }
            if let Some(node) = nodes.iter().find(|n| !topology.members.contains_key(*n)) {
                return Err(StoreError::Refused(format!(
                    "node `{node}` is not known: start it with --node-id {node}, or admit it with `node add {node}`"
                )));
            }
            let key = RecordKey::Group(id);
            let mut bases: Vec<Compare> = nodes
                .iter()
                .map(|n| self.present(&RecordKey::Member(n.clone())))
                .collect();
            bases.push(self.absent(&key));
            let txn = Txn::new()
                .when(bases)
                .and_then([self.put_op(&key, &new_group(id, nodes))]);
            if self.txn("create group", txn).await?.succeeded() {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Forgets a group that owns nothing. Its replica's data is not deleted here:
    /// a node only stops serving a group that is gone from etcd.
    ///
    /// # Errors
    /// `Conflict` if there is no such group; `Refused` while it owns slots or an
    /// unfinished plan names it.
    pub async fn remove_group(&self, id: GroupId) -> Result<(), StoreError> {
        for _ in 0..CONFLICT_TRIES {
            let sequence = self
                .get::<PlanSequenceRecord>(&RecordKey::PlanSequence)
                .await?;
            let topology = self.list().await?;
            let group = check_group_removal(&topology, id)?;
            let key = RecordKey::Group(id);
            let sequence_revision = sequence.map_or(0, |s| s.mod_revision);
            let slots_revision = topology.slots.as_ref().map_or(0, |s| s.mod_revision);
            let bases = [
                self.unchanged(&key, group.mod_revision),
                self.unchanged(&RecordKey::Slots, slots_revision),
                self.unchanged(&RecordKey::PlanSequence, sequence_revision),
            ];
            let ops = [
                TxnOp::delete(self.keys.path(&key), None),
                TxnOp::delete(self.keys.path(&RecordKey::Leader(id)), None),
            ];
            let txn = Txn::new().when(bases).and_then(ops);
            if self.txn("remove group", txn).await?.succeeded() {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Notes that a group's first ownership is durable on its replica; see the
    /// header of the records. Idempotent.
    ///
    /// # Errors
    /// `Conflict` if the group is gone or of another incarnation.
    pub async fn mark_bootstrapped(&self, id: GroupId, incarnation: u64) -> Result<(), StoreError> {
        let key = RecordKey::Group(id);
        for _ in 0..CONFLICT_TRIES {
            let group: Option<Versioned<GroupRecord>> = self.get(&key).await?;
            let group = group
                .filter(|g| g.incarnation == incarnation)
                .ok_or_else(|| {
                    StoreError::Conflict(format!("group {id} of incarnation {incarnation} is gone"))
                })?;
            if group.bootstrapped {
                return Ok(());
            }
            let base = self.unchanged(&key, group.mod_revision);
            let record = GroupRecord {
                bootstrapped: true,
                ..group.value
            };
            let txn = Txn::new()
                .when([base])
                .and_then([self.put_op(&key, &record)]);
            if self.txn("mark group bootstrapped", txn).await?.succeeded() {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Publishes who leads a group, unless a higher term is known. Returns
    /// whether this hint is now the one in etcd.
    ///
    /// # Errors
    /// etcd did not answer.
    pub async fn put_leader(&self, hint: &LeaderRecord) -> Result<bool, StoreError> {
        let key = RecordKey::Leader(hint.group);
        for _ in 0..CONFLICT_TRIES {
            let known: Option<Versioned<LeaderRecord>> = self.get(&key).await?;
            let base = match &known {
                None => self.absent(&key),
                Some(known) if known.term > hint.term => return Ok(false),
                Some(known) if known.value == *hint => return Ok(true),
                Some(known) => self.unchanged(&key, known.mod_revision),
            };
            let txn = Txn::new().when([base]).and_then([self.put_op(&key, hint)]);
            if self.txn("publish leader", txn).await?.succeeded() {
                return Ok(true);
            }
        }
        Err(busy())
    }

    /// Reads the slot map by itself, linearizably: what a group's bootstrap is
    /// based on. None before the first spread.
    ///
    /// # Errors
    /// etcd did not answer, or the record cannot be read.
    pub async fn read_slots(&self) -> Result<Option<Versioned<SlotMapRecord>>, StoreError> {
        let get = [
            self.get_op(&RecordKey::Cluster),
            self.get_op(&RecordKey::Slots),
        ];
        let response = self.txn("read slots", Txn::new().and_then(get)).await?;
        let found = gets(&response);
        let cluster = found
            .first()
            .and_then(Option::as_ref)
            .map(decode_kv::<ClusterRecord>);
        if !cluster.transpose()?.is_some_and(|c| c.slots_initialised) {
            return Ok(None);
        }
        found
            .get(1)
            .and_then(Option::as_ref)
            .map(decode_kv)
            .transpose()
    }

    pub(super) fn require_cluster(&self, topology: &Topology) -> Result<(), StoreError> {
        match topology.cluster {
            Some(_) => Ok(()),
            None => Err(StoreError::NoCluster(self.cluster().into())),
        }
    }
}

/// Collects what `init` has to change.
struct Init<'a> {
    store: &'a TopologyStore,
    topology: Topology,
    cluster: Option<ClusterRecord>,
    groups: Vec<GroupId>,
    bases: Vec<Compare>,
    ops: Vec<TxnOp>,
    done: Vec<String>,
}

impl<'a> Init<'a> {
    fn new(store: &'a TopologyStore, topology: Topology) -> Self {
        let groups = topology.groups.keys().copied().collect();
        let (bases, ops, done) = Default::default();
        Self {
            store,
            topology,
            cluster: None,
            groups,
            bases,
            ops,
            done,
        }
    }

    fn cluster_and_settings(&mut self, new: &NewCluster) {
        match &self.topology.cluster {
            Some(known) => {
                self.bases.push(
                    self.store
                        .unchanged(&RecordKey::Cluster, known.mod_revision),
                );
            }
            None => {
                self.bases.push(self.store.absent(&RecordKey::Cluster));
                self.cluster = Some(ClusterRecord {
                    id: new.id.clone(),
                    name: self.store.cluster().into(),
                    created_at_ms: now_ms(),
                    slots_initialised: false,
                });
                self.done
                    .push(format!("cluster `{}` created", self.store.cluster()));
            }
        }
        if self.topology.cluster_version.is_none() {
            let key = RecordKey::ClusterVersion;
            let record = ClusterVersionRecord {
                cluster_version: CLUSTER_VERSION,
            };
            self.create(&key, self.store.put_op(&key, &record));
        }
    }

    fn groups(&mut self, new: &NewCluster) -> Result<(), StoreError> {
        for (id, nodes) in &new.groups {
            match self.topology.groups.get(id) {
                Some(known) if &known.replicas == nodes => continue,
                Some(known) => {
                    return Err(StoreError::Refused(format!(
                        "group {id} exists on {}, not on {}",
                        known.replicas.join(","),
                        nodes.join(",")
                    )));
                }
                None if self.groups.contains(id) => {
                    return Err(StoreError::Invalid(format!("group {id} is given twice")));
                }
                None => self.new_group(*id, nodes),
            }
        }
        Ok(())
    }

    fn new_group(&mut self, id: GroupId, nodes: &[String]) {
        let key = RecordKey::Group(id);
        self.create(&key, self.store.put_op(&key, &new_group(id, nodes)));
        self.groups.push(id);
        self.done
            .push(format!("group {id} created on {}", nodes.join(",")));
        for node in nodes {
            if self.topology.members.contains_key(node) {
                continue;
            }
            let member = pending_member(node);
            let key = RecordKey::Member(node.clone());
            self.create(&key, self.store.put_op(&key, &member));
            let noted = Versioned {
                value: member,
                mod_revision: 0,
            };
            self.topology.members.insert(node.clone(), noted);
            self.done.push(format!("node `{node}` admitted"));
        }
    }

    fn slots(&mut self) {
        if self.topology.slots.is_some() || self.groups.is_empty() {
            return;
        }
        self.groups.sort_unstable();
        let map = SlotMapRecord::spread(&self.groups);
        self.create(
            &RecordKey::Slots,
            self.store.put_op(&RecordKey::Slots, &map),
        );
        let known = self.topology.cluster.as_ref().map(|c| c.value.clone());
        self.cluster = self.cluster.take().or(known);
        if let Some(cluster) = &mut self.cluster {
            cluster.slots_initialised = true;
        }
        self.done.push(format!(
            "16384 slots spread over {} group(s)",
            self.groups.len()
        ));
    }

    fn create(&mut self, key: &RecordKey, op: TxnOp) {
        self.bases.push(self.store.absent(key));
        self.ops.push(op);
    }

    /// The transaction and its report; none if there is nothing to do.
    fn finish(mut self) -> Result<Option<(Txn, Vec<String>)>, StoreError> {
        if let Some(cluster) = &self.cluster {
            self.ops
                .push(self.store.put_op(&RecordKey::Cluster, cluster));
        }
        if self.ops.is_empty() {
            return Ok(None);
        }
        // A group created meanwhile must not be left out of the first spread.
        self.bases.push(
            self.store
                .unchanged_below("groups/", self.topology.revision),
        );
        if self.ops.len().max(self.bases.len()) > MAX_TXN_OPS {
            return Err(StoreError::Invalid(
                "too many groups for one transaction: give at most 40 to `init`, the others to `group create`".into(),
            ));
        }
        Ok(Some((
            Txn::new().when(self.bases).and_then(self.ops),
            self.done,
        )))
    }
}

pub(super) fn busy() -> StoreError {
    StoreError::Conflict("somebody else keeps changing the same records: try again".into())
}

fn check_node_id(id: &str) -> Result<(), StoreError> {
    if is_valid_id(id) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "`{id}` is no node id: use 1 to 64 of letters, digits, `.`, `_`, `-`"
    )))
}

fn check_group(id: GroupId, nodes: &[String]) -> Result<(), StoreError> {
    let invalid = |why: String| Err(StoreError::Invalid(why));
    if id == 0 {
        return invalid("groups are numbered from 1".into());
    }
    if nodes.is_empty() {
        return invalid(format!("group {id} needs a node"));
    }
    if nodes.len() > 1 {
        return invalid(format!(
            "group {id} names {} nodes: replication is not there yet, give one node",
            nodes.len()
        ));
    }
    nodes.iter().try_for_each(|node| check_node_id(node))
}

fn check_claim(topology: &Topology, claim: &MemberRecord) -> Result<(), StoreError> {
    let refused = |why: String| Err(StoreError::Refused(why));
    let version = topology.version_in_force();
    if version > CLUSTER_VERSION {
        return refused(format!(
            "the cluster is at version {version}, and this program knows {CLUSTER_VERSION} at most: \
             start a newer one"
        ));
    }
    if let Some(known) = topology.members.get(&claim.id)
        && !known.data_dir_id.is_empty()
        && known.data_dir_id != claim.data_dir_id
    {
        return refused(format!(
            "node id `{0}` belongs to data directory {1}, this one is {2} (wiped or foreign disk): \
             bring the right directory, take another id, or run `cluster-admin node add {0} --replace`",
            claim.id, known.data_dir_id, claim.data_dir_id
        ));
    }
    let same_disk =
        |m: &&Versioned<MemberRecord>| m.id != claim.id && m.data_dir_id == claim.data_dir_id;
    match topology.members.values().find(same_disk) {
        Some(other) => refused(format!(
            "this data directory ({}) belongs to node `{}`, not `{}`",
            claim.data_dir_id, other.id, claim.id
        )),
        None => Ok(()),
    }
}

fn check_replace(
    topology: &Topology,
    member: &MemberRecord,
    replace: bool,
) -> Result<(), StoreError> {
    let id = &member.id;
    let refused = |why: String| Err(StoreError::Refused(why));
    if !replace {
        return refused(format!(
            "node `{id}` is a member already (data directory {}); --replace lets it come back with a new, empty one",
            member.data_dir_id
        ));
    }
    if topology.nodes.contains_key(id) {
        return refused(format!(
            "node `{id}` is alive: stop it before its disk is replaced"
        ));
    }
    if let Some(group) = topology.groups_on(id).find(|g| g.bootstrapped) {
        return refused(format!(
            "node `{id}` holds the only replica of group {}: its data would be lost",
            group.id
        ));
    }
    Ok(())
}

fn check_removal<'a>(
    topology: &'a Topology,
    id: &str,
) -> Result<&'a Versioned<MemberRecord>, StoreError> {
    let Some(member) = topology.members.get(id) else {
        return Err(StoreError::Conflict(format!(
            "there is no node `{id}`: see `node list`"
        )));
    };
    let groups: Vec<String> = topology.groups_on(id).map(|g| g.id.to_string()).collect();
    if !groups.is_empty() {
        let slots: usize = topology
            .groups_on(id)
            .map(|g| topology.slots_of(g.id).len())
            .sum();
        return Err(StoreError::Refused(format!(
            "node `{id}` holds group(s) {} with {slots} slots: move the slots away with `reshard` first",
            groups.join(",")
        )));
    }
    if topology.nodes.contains_key(id) {
        return Err(StoreError::Refused(format!(
            "node `{id}` is alive: stop it, wait until `node list` shows it down, then remove it"
        )));
    }
    Ok(member)
}

fn check_group_removal(
    topology: &Topology,
    id: GroupId,
) -> Result<&Versioned<GroupRecord>, StoreError> {
    let refused = |why: String| Err(StoreError::Refused(why));
    let Some(group) = topology.groups.get(&id) else {
        return Err(StoreError::Conflict(format!(
            "there is no group {id}: see `group list`"
        )));
    };
    let slots = topology.slots_of(id);
    if !slots.is_empty() {
        return refused(format!(
            "group {id} owns slots {slots}: move them away with `reshard` first"
        ));
    }
    match topology
        .active_plans()
        .find(|p| p.plan.from == id || p.plan.to == id)
    {
        Some(plan) => refused(format!(
            "plan {} still moves slots of group {id}",
            plan.plan.id
        )),
        None => Ok(group),
    }
}

fn pending_member(id: &str) -> MemberRecord {
    MemberRecord {
        id: id.into(),
        data_dir_id: String::new(),
        host: String::new(),
        port: 0,
        peer_port: 0,
        zone: String::new(),
        registered_at_ms: now_ms(),
    }
}

fn new_group(id: GroupId, nodes: &[String]) -> GroupRecord {
    GroupRecord {
        id,
        replicas: nodes.to_vec(),
        incarnation: FIRST_INCARNATION,
        bootstrapped: false,
        created_at_ms: now_ms(),
    }
}
