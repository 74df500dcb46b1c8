//! Key → slot → group → the leader's peer address.
//!
//! A [`RouteMap`] is what etcd said last; each network thread keeps its own
//! [`RouteTable`], which it corrects by the hints of nodes until the next map.
//! All of it is a hint: nodes alone decide who owns a slot.

use crate::backend::Link;
use cairn_protocol::link::NO_GROUP;
use cairn_protocol::topology::Topology;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// Hash slots of a cluster.
pub const SLOTS: usize = 16384;

/// Group numbers above this are not routable (they index a table).
const MAX_GROUP: u32 = 1 << 16;

/// First lane of a node.
const FIRST_NODE: u32 = SLOTS as u32 + MAX_GROUP;

/// Commands that must keep their order relative to each other: those of one
/// slot, the keyless ones of one group, or what one node is asked itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(u32);

impl Lane {
    /// The lane of commands whose keys are in `slot`.
    pub fn slot(slot: u16) -> Self {
        Self(u32::from(slot))
    }

    /// The lane of commands without keys that are meant for `group`.
    pub fn group(group: u32) -> Self {
        Self(SLOTS as u32 + group)
    }

    /// The slot, unless this is a group's lane.
    pub fn as_slot(self) -> Option<u16> {
        (self.0 < SLOTS as u32).then_some(self.0 as u16)
    }

    /// The group of a group's lane.
    pub fn as_group(self) -> Option<u32> {
        let group = self.0.checked_sub(SLOTS as u32)?;
        (group < MAX_GROUP).then_some(group)
    }

    /// The lane of what a node is asked itself, by its place in the table.
    fn node(at: usize) -> Self {
        Self(FIRST_NODE + at as u32)
    }

    fn as_node(self) -> Option<usize> {
        self.0.checked_sub(FIRST_NODE).map(|at| at as usize)
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.as_slot(), self.as_group()) {
            (Some(slot), _) => write!(f, "slot {slot}"),
            (_, Some(group)) => write!(f, "group {group}"),
            _ => write!(f, "a node"),
        }
    }
}

/// Who owns a slot; group 0 is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// Group, 0 for none.
    pub group: u32,
    /// Epoch since which the group owns it.
    pub epoch: u32,
}

/// The picture that etcd gives: owners of slots and leaders of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMap {
    /// Owner of each of the 16384 slots.
    pub slots: Vec<Owner>,
    /// Peer address of each group's leader, where known.
    pub groups: BTreeMap<u32, Option<String>>,
    /// Peer addresses of all living nodes.
    pub nodes: Vec<String>,
}

impl Default for RouteMap {
    fn default() -> Self {
        Self {
            slots: vec![Owner::default(); SLOTS],
            groups: BTreeMap::new(),
            nodes: Vec::new(),
        }
    }
}

impl RouteMap {
    /// Reads owners and leaders out of a topology.
    pub fn from_topology(topology: &Topology) -> Self {
        let owner = |slot: u16| Owner {
            group: topology.group_of(slot).unwrap_or(0),
            epoch: topology.slot_epoch(slot).unwrap_or(0),
        };
        let address = |group: u32| {
            let node = topology.leader_address(group)?;
            (node.peer_port != 0).then(|| host_port(&node.host, node.peer_port))
        };
        Self {
            slots: (0..SLOTS as u16).map(owner).collect(),
            groups: topology
                .groups
                .keys()
                .map(|&group| (group, address(group)))
                .collect(),
            nodes: topology
                .nodes
                .values()
                .filter(|node| node.peer_port != 0)
                .map(|node| host_port(&node.host, node.peer_port))
                .collect(),
        }
    }

    /// A map in which `ranges` of slots (first, last, group) belong to groups
    /// whose leaders are at the given peer addresses.
    pub fn of(ranges: &[(u16, u16, u32)], epoch: u32, leaders: &[(u32, &str)]) -> Self {
        let mut map = Self::default();
        for &(first, last, group) in ranges {
            map.slots[usize::from(first)..=usize::from(last)].fill(Owner { group, epoch });
        }
        map.groups = leaders
            .iter()
            .map(|&(group, at)| (group, Some(at.to_owned())))
            .collect();
        map.nodes = leaders.iter().map(|&(_, at)| at.to_owned()).collect();
        map
    }
}

/// `host:port`, with brackets around an IPv6 address.
fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// A group as one network thread sees it.
#[derive(Default)]
struct GroupRoute {
    address: Option<Rc<str>>,
    /// The link to `address`, once it was asked for.
    link: Option<Rc<Link>>,
}

/// A node as one network thread sees it. Its place in the table is for ever.
struct NodeRoute {
    address: Rc<str>,
    /// The map lists it.
    alive: bool,
}

/// Where a command goes.
pub struct Target {
    /// Group that the command is meant for; 0: the node itself.
    pub group: u32,
    /// Epoch of the slot, 0 for a group's lane.
    pub epoch: u32,
    /// The link to its leader.
    pub link: Rc<Link>,
}

/// One network thread's routes; see the module's header.
pub struct RouteTable {
    slots: Vec<Owner>,
    /// Groups of the slots as the last map had them, whatever hints said since.
    listed: Vec<u32>,
    /// By group number.
    groups: Vec<GroupRoute>,
    nodes: Vec<NodeRoute>,
}

impl Default for RouteTable {
    fn default() -> Self {
        Self {
            slots: vec![Owner::default(); SLOTS],
            listed: Vec::new(),
            groups: Vec::new(),
            nodes: Vec::new(),
        }
    }
}

impl RouteTable {
    /// Takes in a new map. A hint with a higher slot epoch outlives it. True if
    /// it says that slots have moved from one group to another.
    pub fn install(&mut self, map: &Arc<RouteMap>) -> bool {
        let mut moved = false;
        for (at, (mine, new)) in self.slots.iter_mut().zip(&map.slots).enumerate() {
            let before = self.listed.get(at).copied().unwrap_or_default();
            moved |= before != 0 && before != new.group;
            if new.epoch >= mine.epoch {
                *mine = *new;
            }
        }
        self.listed = map.slots.iter().map(|owner| owner.group).collect();
        for (&group, address) in &map.groups {
            if let (Some(route), Some(address)) = (self.group_mut(group), address) {
                route.set_address(address);
            }
        }
        self.nodes.iter_mut().for_each(|node| node.alive = false);
        for address in &map.nodes {
            match self.nodes.iter_mut().find(|n| *n.address == **address) {
                Some(known) => known.alive = true,
                None => self.nodes.push(NodeRoute {
                    address: Rc::from(&**address),
                    alive: true,
                }),
            }
        }
        moved
    }

    /// The living nodes: the lane of each, and its address.
    pub fn nodes(&self) -> impl Iterator<Item = (Lane, &Rc<str>)> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter(|(_, node)| node.alive)
            .map(|(at, node)| (Lane::node(at), &node.address))
    }

    /// The lane of the living node at an address.
    pub fn lane_of_node(&self, address: &str) -> Option<Lane> {
        let mut nodes = self.nodes();
        nodes
            .find(|(_, at)| ***at == *address)
            .map(|(lane, _)| lane)
    }

    /// Takes in a node's hint that `group` owns `slot` since `epoch`. False if
    /// what is known is as new.
    pub fn learn_owner(&mut self, slot: u16, owner: Owner) -> bool {
        let Some(mine) = self.slots.get_mut(usize::from(slot)) else {
            return false;
        };
        let newer = owner.group != 0 && owner.epoch > mine.epoch;
        if newer {
            *mine = owner;
        }
        newer
    }

    /// Takes in a node's hint where the leader of `group` is.
    pub fn learn_leader(&mut self, group: u32, address: &str) {
        if let Some(route) = self.group_mut(group) {
            route.set_address(address);
        }
    }

    /// Owner of a lane: the slot's, or the group itself.
    pub fn owner(&self, lane: Lane) -> Owner {
        match lane.as_slot() {
            Some(slot) => self.slots[usize::from(slot)],
            None => Owner {
                group: lane.as_group().unwrap_or(0),
                epoch: 0,
            },
        }
    }

    /// Where commands of `lane` go now. `connect` makes the link to an address
    /// that has none yet.
    pub fn target(
        &mut self,
        lane: Lane,
        connect: impl FnOnce(&Rc<str>) -> Rc<Link>,
    ) -> Option<Target> {
        if let Some(at) = lane.as_node() {
            let node = self.nodes.get(at).filter(|node| node.alive)?;
            return Some(Target {
                group: NO_GROUP,
                epoch: 0,
                link: connect(&node.address),
            });
        }
        let Owner { group, epoch } = self.owner(lane);
        let route = self.groups.get_mut(group as usize)?;
        let address = route.address.as_ref()?;
        let link = route.link.get_or_insert_with(|| connect(address)).clone();
        Some(Target { group, epoch, link })
    }

    /// The groups that own at least one slot, in order.
    pub fn owning_groups(&self) -> Vec<u32> {
        let mut groups = Vec::new();
        for owner in &self.slots {
            if owner.group != 0 && groups.last() != Some(&owner.group) {
                groups.push(owner.group);
            }
        }
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// Whether every slot has an owner.
    pub fn is_complete(&self) -> bool {
        self.slots.iter().all(|owner| owner.group != 0)
    }

    /// The addresses of all leaders and all living nodes.
    pub fn addresses(&self) -> Vec<Rc<str>> {
        let mut all: Vec<_> = self
            .groups
            .iter()
            .filter_map(|g| g.address.clone())
            .chain(self.nodes().map(|(_, address)| address.clone()))
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn group_mut(&mut self, group: u32) -> Option<&mut GroupRoute> {
        if group == 0 || group >= MAX_GROUP {
            return None;
        }
        let index = group as usize;
        if self.groups.len() <= index {
            self.groups.resize_with(index + 1, GroupRoute::default);
        }
        Some(&mut self.groups[index])
    }
}

impl GroupRoute {
    fn set_address(&mut self, address: &str) {
        if self.address.as_deref() != Some(address) {
            self.address = Some(Rc::from(address));
            self.link = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(ranges: &[(u16, u16, u32)], epoch: u32) -> RouteTable {
        let mut table = RouteTable::default();
        table.install(&Arc::new(RouteMap::of(
            ranges,
            epoch,
            &[(1, "a:1"), (2, "b:2")],
        )));
        table
    }

    #[test]
    fn a_lane_is_a_slot_or_a_group() {
        assert_eq!(Lane::slot(16383).as_slot(), Some(16383));
        assert_eq!(Lane::slot(16383).as_group(), None);
        assert_eq!(Lane::group(7).as_group(), Some(7));
        assert_eq!(Lane::group(7).as_slot(), None);
        let node = Lane::node(3);
        assert_eq!((node.as_slot(), node.as_group()), (None, None));
        assert_eq!(node.as_node(), Some(3));
    }

    #[test]
    fn a_newer_hint_outlives_an_older_map() {
        let mut table = table(&[(0, 16383, 1)], 1);
        assert!(table.learn_owner(5, Owner { group: 2, epoch: 2 }));
        assert!(!table.learn_owner(5, Owner { group: 1, epoch: 1 }), "older");
        table.install(&Arc::new(RouteMap::of(&[(0, 16383, 1)], 1, &[])));
        assert_eq!(table.owner(Lane::slot(5)).group, 2);
        table.install(&Arc::new(RouteMap::of(&[(0, 16383, 1)], 3, &[])));
        assert_eq!(table.owner(Lane::slot(5)), Owner { group: 1, epoch: 3 });
    }

    #[test]
    fn hints_outside_the_table_are_ignored() {
        let mut table = table(&[(0, 16383, 1)], 1);
        assert!(!table.learn_owner(16384, Owner { group: 2, epoch: 9 }));
        table.learn_leader(u32::MAX, "x:1");
        table.learn_leader(0, "x:1");
        assert_eq!(table.addresses().len(), 2);
    }

    #[test]
    fn owning_groups_are_listed_once() {
        let table = table(&[(0, 9, 2), (10, 19, 1), (20, 16383, 2)], 1);
        assert_eq!(table.owning_groups(), [1, 2]);
        assert!(table.is_complete());
    }

    #[test]
    fn an_ipv6_address_gets_brackets() {
        assert_eq!(host_port("::1", 7), "[::1]:7");
        assert_eq!(host_port("h", 7), "h:7");
    }
}
