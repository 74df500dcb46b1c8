//! What a link asks of the node: its groups, and where else a slot may be.

use std::sync::Arc;

use cairn_protocol::topology::NodeAddress;

use crate::cluster::Node;
use crate::group::{Group, GroupId, SlotGate};

/// Where a refused command should go. All of it is a hint; zero and empty
/// mean "not known".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    pub group: GroupId,
    /// Epoch of the slot there.
    pub epoch: u32,
    /// Peer address (`host:port`) of the group's leader.
    pub address: String,
}

/// The node around a link.
pub trait Place {
    /// A group that lives here.
    fn find(&self, group: GroupId) -> Option<Arc<Group>>;

    /// Who serves `slot`, when `refused` does not.
    fn owner(&self, slot: u16, refused: GroupId) -> Hint;

    /// Who leads `group`, when this node does not.
    fn leader(&self, group: GroupId) -> Hint;
}

impl Place for Node {
    fn find(&self, group: GroupId) -> Option<Arc<Group>> {
        Node::find(self, group).map(|hosted| hosted.group.clone())
    }

    fn owner(&self, slot: u16, refused: GroupId) -> Hint {
        let here = self.hosted();
        let mut others = here.iter().filter(|hosted| hosted.group.id != refused);
        if let Some(hosted) = others.find(|hosted| hosted.view.gate.serves(slot)) {
            return Hint {
                group: hosted.group.id,
                epoch: hosted.view.gate.epoch(slot),
                address: host_port(&self.identity.host, self.identity.peer_port),
            };
        }
        let topology = self.topology.peek();
        match (topology.group_of(slot), topology.slot_epoch(slot)) {
            // The map is behind: it names the group that has just refused.
            (Some(group), _) if group == refused && here.iter().any(|h| h.group.id == group) => {
                Hint::default()
            }
            (Some(group), epoch) => Hint {
                group,
                epoch: epoch.unwrap_or(0),
                address: topology
                    .leader_address(group)
                    .map_or(String::new(), peer_of),
            },
            (None, _) => Hint::default(),
        }
    }

    fn leader(&self, group: GroupId) -> Hint {
        let address = self.topology.peek().leader_address(group);
        let elsewhere = address.filter(|address| address.node != self.config.node_id);
        Hint {
            group,
            epoch: 0,
            address: elsewhere.map_or(String::new(), peer_of),
        }
    }
}

fn peer_of(address: NodeAddress) -> String {
    match address.peer_port {
        0 => String::new(),
        port => host_port(&address.host, port),
    }
}

/// `host:port`, with brackets around an IPv6 address.
fn host_port(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}
