//! Cluster commands. In standalone each answers as a Redis without cluster
//! support; in a cluster they show the topology as Redis Cluster's clients
//! expect it: one master a node, with the slots of the groups that it leads.

use std::sync::Arc;

use cairn_protocol::resp::{Args, ReplyWriter, number};
use cairn_protocol::slot::{SLOT_COUNT, key_slot};
use cairn_protocol::topology::{NodeAddress, Topology};
use rocksdb::ReadOptions;
use xxhash_rust::xxh3::xxh3_128;

use super::{Handler, SessionHandler, help};
use crate::cluster::Node;
use crate::net::session::{Next, Session};
use crate::server::Home;
use crate::storage::keys::{PREFIX_LEN, prefix, prefix_end};
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("asking", session(asking)),
    ("cluster|addslots", session(elsewhere)),
    ("cluster|addslotsrange", session(elsewhere)),
    ("cluster|bumpepoch", session(elsewhere)),
    (
        "cluster|count-failure-reports",
        session(count_failure_reports),
    ),
    ("cluster|countkeysinslot", session(countkeysinslot)),
    ("cluster|delslots", session(elsewhere)),
    ("cluster|delslotsrange", session(elsewhere)),
    ("cluster|failover", session(elsewhere)),
    ("cluster|flushslots", session(elsewhere)),
    ("cluster|forget", session(elsewhere)),
    ("cluster|getkeysinslot", session(getkeysinslot)),
    ("cluster|help", session(cluster_help)),
    ("cluster|info", session(info)),
    ("cluster|keyslot", session(keyslot)),
    ("cluster|links", session(links)),
    ("cluster|meet", session(elsewhere)),
    ("cluster|myid", session(myid)),
    ("cluster|nodes", session(nodes)),
    ("cluster|replicas", session(replicas)),
    ("cluster|replicate", session(elsewhere)),
    ("cluster|reset", session(elsewhere)),
    ("cluster|saveconfig", session(saveconfig)),
    ("cluster|set-config-epoch", session(elsewhere)),
    ("cluster|setslot", session(elsewhere)),
    ("cluster|shards", session(shards)),
    ("cluster|slaves", session(replicas)),
    ("cluster|slots", session(slots)),
    ("readonly", session(readonly)),
    ("readwrite", session(readwrite)),
];

const fn session(handler: SessionHandler) -> Handler {
    Handler::Session(handler)
}

const DISABLED: CommandError =
    CommandError::fixed("ERR This instance has cluster support disabled");

/// A node with the slots that it serves as leader, for clients.
struct Master {
    id: String,
    address: NodeAddress,
    ranges: Vec<(u16, u16)>,
    epoch: u32,
}

type Answer = Result<Next, CommandError>;

fn node_of(session: &Session) -> Result<Arc<Node>, CommandError> {
    match &session.server.home {
        Home::Node(node) => Ok(node.clone()),
        Home::Standalone(_) => Err(DISABLED),
    }
}

/// CLUSTER HELP
fn cluster_help(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    node_of(session)?;
    help(out, "CLUSTER", HELP);
    Ok(Next::Continue)
}

/// What is served; what changes the topology is `cluster-admin`'s.
const HELP: &[&str] = &[
    "COUNTKEYSINSLOT <slot>",
    "    Return the number of keys in <slot>.",
    "GETKEYSINSLOT <slot> <count>",
    "    Return key names stored by current node in a slot.",
    "INFO",
    "    Return information about the cluster.",
    "KEYSLOT <key>",
    "    Return the hash slot for <key>.",
    "LINKS",
    "    Return information about all network links between this node and its peers.",
    "    Output format is an array where each array element is a map containing attributes of a \
     link",
    "MYID",
    "    Return the node id.",
    "NODES",
    "    Return cluster configuration seen by node. Output format:",
    "    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
    "REPLICAS <node-id>",
    "    Return <node-id> replicas.",
    "SHARDS",
    "    Return information about slot range mappings and the nodes associated with them.",
    "SLOTS",
    "    Return information about slots range mappings. Each range is made of:",
    "    start, end, master and replicas IP addresses, ports and ids",
];

/// ASKING
fn asking(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    node_of(session)?;
    session.asking = true;
    out.ok();
    Ok(Next::Continue)
}

/// READONLY
fn readonly(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    node_of(session)?;
    session.readonly = true;
    out.ok();
    Ok(Next::Continue)
}

/// READWRITE
fn readwrite(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    node_of(session)?;
    session.readonly = false;
    out.ok();
    Ok(Next::Continue)
}

/// CLUSTER KEYSLOT key
fn keyslot(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    node_of(session)?;
    out.integer(i64::from(key_slot(args.get(2))));
    Ok(Next::Continue)
}

/// CLUSTER MYID
fn myid(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    let node = node_of(session)?;
    out.bulk(client_id(&node.config.node_id).as_bytes());
    Ok(Next::Continue)
}

/// What changes the topology in Redis Cluster. Here it is in etcd, and cluster-admin
/// changes it.
fn elsewhere(session: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Answer {
    node_of(session)?;
    Err(CommandError::fixed(
        "ERR the topology is changed by cluster-admin, not by commands of a client",
    ))
}

/// CLUSTER LINKS: there is no cluster bus.
fn links(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    node_of(session)?;
    out.array(0);
    Ok(Next::Continue)
}

/// CLUSTER REPLICAS node-id: groups have one replica each.
fn replicas(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    let node = node_of(session)?;
    expect_known(&node, args.get(2))?;
    out.array(0);
    Ok(Next::Continue)
}

/// CLUSTER COUNT-FAILURE-REPORTS node-id: nodes do not report each other, etcd knows who
/// is there.
fn count_failure_reports(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    let node = node_of(session)?;
    expect_known(&node, args.get(2))?;
    out.integer(0);
    Ok(Next::Continue)
}

/// CLUSTER SAVECONFIG: what there is to save is in etcd.
fn saveconfig(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    node_of(session)?;
    out.ok();
    Ok(Next::Continue)
}

fn expect_known(node: &Node, id: &[u8]) -> Result<(), CommandError> {
    if masters(node).iter().any(|m| m.id.as_bytes() == id) {
        return Ok(());
    }
    let name = String::from_utf8_lossy(id);
    Err(CommandError::line(format!("ERR Unknown node {name}")))
}

/// CLUSTER COUNTKEYSINSLOT slot
fn countkeysinslot(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    let node = node_of(session)?;
    let slot = slot_argument(args.get(2))?.ok_or(CommandError::fixed("ERR Invalid slot"))?;
    let keys = node.holder(slot).map_or(0, |hosted| {
        let store = &hosted.group.store;
        store.with_maps(|maps| store.counters.get(maps.live.get(0, slot), slot))
    });
    out.integer(keys as i64);
    Ok(Next::Continue)
}

/// CLUSTER GETKEYSINSLOT slot count
fn getkeysinslot(session: &mut Session, args: &Args<'_>, _: &mut ReplyWriter) -> Answer {
    let node = node_of(session)?;
    let slot = slot_argument(args.get(2))?;
    let count = number::parse_i64(args.get(3)).ok_or(CommandError::NOT_AN_INTEGER)?;
    let (Some(slot), Ok(count)) = (slot, usize::try_from(count)) else {
        return Err(CommandError::fixed("ERR Invalid slot or number of keys"));
    };
    Ok(Next::Work(Box::new(move |out| {
        match keys_in_slot(&node, slot, count) {
            Ok(keys) => {
                out.array(keys.len());
                keys.iter().for_each(|key| out.bulk(key));
            }
            Err(error) => out.error(CommandError::from(error).to_string()),
        }
    })))
}

fn keys_in_slot(node: &Node, slot: u16, count: usize) -> Result<Vec<Vec<u8>>, rocksdb::Error> {
    let Some(hosted) = node.holder(slot) else {
        return Ok(Vec::new());
    };
    let store = &hosted.group.store;
    let generation = store.with_maps(|maps| maps.live.get(0, slot));
    let mut options = ReadOptions::default();
    if let Some(end) = prefix_end(slot, generation) {
        options.set_iterate_upper_bound(end);
    }
    let engine = store.engine();
    let mut rows = engine.db.raw_iterator_cf_opt(&engine.meta, options);
    rows.seek(prefix(slot, generation));
    let mut keys = Vec::new();
    while let (true, Some(key)) = (keys.len() < count, rows.key()) {
        keys.push(key[PREFIX_LEN..].to_vec());
        rows.next();
    }
    rows.status()?;
    Ok(keys)
}

/// CLUSTER INFO
fn info(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    let node = node_of(session)?;
    let topology = node.topology.load();
    let assigned = (0..SLOT_COUNT)
        .filter(|s| topology.group_of(*s).is_some())
        .count();
    let reachable = (0..SLOT_COUNT).filter(|s| topology.slot_address(*s).is_some_and(|a| a.alive));
    let ok = reachable.count();
    let state = if ok == SLOT_COUNT as usize {
        "ok"
    } else {
        "fail"
    };
    let masters = masters(&node);
    let size = masters.iter().filter(|m| !m.ranges.is_empty()).count();
    let text = format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\n\
         cluster_slots_ok:{ok}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:{}\r\n\
         cluster_known_nodes:{}\r\ncluster_size:{size}\r\ncluster_current_epoch:{epoch}\r\n\
         cluster_my_epoch:{epoch}\r\ncluster_stats_messages_sent:0\r\n\
         cluster_stats_messages_received:0\r\ntotal_cluster_links_buffer_limit_exceeded:0\r\n",
        assigned - ok,
        masters.len(),
        epoch = topology.epoch(),
    );
    out.verbatim("txt", text.as_bytes());
    Ok(Next::Continue)
}

/// CLUSTER SLOTS
fn slots(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    let node = node_of(session)?;
    let masters = masters(&node);
    let mut runs: Vec<(u16, u16, &Master)> = masters
        .iter()
        .flat_map(|m| m.ranges.iter().map(move |(first, last)| (*first, *last, m)))
        .collect();
    runs.sort_by_key(|run| run.0);
    out.array(runs.len());
    for (first, last, master) in runs {
        out.array(3);
        out.integer(i64::from(first));
        out.integer(i64::from(last));
        out.array(4);
        out.bulk(master.address.host.as_bytes());
        out.integer(i64::from(master.address.port));
        out.bulk(master.id.as_bytes());
        out.array(0);
    }
    Ok(Next::Continue)
}

/// CLUSTER SHARDS
fn shards(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    let node = node_of(session)?;
    let masters = masters(&node);
    out.array(masters.len());
    for master in &masters {
        out.map(2);
        out.bulk(b"slots");
        out.array(master.ranges.len() * 2);
        for (first, last) in &master.ranges {
            out.integer(i64::from(*first));
            out.integer(i64::from(*last));
        }
        out.bulk(b"nodes");
        out.array(1);
        out.map(7);
        out.bulk(b"id");
        out.bulk(master.id.as_bytes());
        out.bulk(b"port");
        out.integer(i64::from(master.address.port));
        out.bulk(b"ip");
        out.bulk(master.address.host.as_bytes());
        out.bulk(b"endpoint");
        out.bulk(master.address.host.as_bytes());
        out.bulk(b"role");
        out.bulk(b"master");
        out.bulk(b"replication-offset");
        out.integer(0);
        out.bulk(b"health");
        out.bulk(if master.address.alive {
            b"online"
        } else {
            b"failed"
        });
    }
    Ok(Next::Continue)
}

/// CLUSTER NODES
fn nodes(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Answer {
    let node = node_of(session)?;
    let mut text = String::new();
    for master in masters(&node) {
        let myself = if master.address.node == node.config.node_id {
            "myself,"
        } else {
            ""
        };
        let (fail, link) = match master.address.alive {
            true => ("", "connected"),
            false => (",fail", "disconnected"),
        };
        let NodeAddress {
            host,
            port,
            peer_port,
            ..
        } = &master.address;
        text += &format!(
            "{} {host}:{port}@{peer_port} {myself}master{fail} - 0 0 {} {link}",
            master.id, master.epoch
        );
        for (first, last) in &master.ranges {
            match first == last {
                true => text += &format!(" {first}"),
                false => text += &format!(" {first}-{last}"),
            }
        }
        text.push('\n');
    }
    out.verbatim("txt", text.as_bytes());
    Ok(Next::Continue)
}

fn masters(node: &Node) -> Vec<Master> {
    let topology = node.topology.load();
    let members = topology.members.keys();
    members.filter_map(|id| master(&topology, id)).collect()
}

fn master(topology: &Topology, id: &str) -> Option<Master> {
    let address = topology.address_of(id)?;
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    let mut epoch = 0;
    for range in topology.slots.iter().flat_map(|map| &map.ranges) {
        if topology
            .leader_of(range.group)
            .is_none_or(|leader| leader != id)
        {
            continue;
        }
        epoch = epoch.max(range.epoch);
        match ranges.last_mut() {
            Some(last) if last.1 + 1 == range.lo => last.1 = range.hi,
            _ => ranges.push((range.lo, range.hi)),
        }
    }
    Some(Master {
        id: client_id(id),
        address,
        ranges,
        epoch,
    })
}

/// A node's name as Redis's clients know names: 40 hex digits, always the
/// same for the same node.
fn client_id(node: &str) -> String {
    let digest = xxh3_128(node.as_bytes());
    format!("{digest:032x}{:08x}", digest as u32)
}

/// `None`: there is no such slot.
fn slot_argument(text: &[u8]) -> Result<Option<u16>, CommandError> {
    let number = number::parse_i64(text).ok_or(CommandError::NOT_AN_INTEGER)?;
    let slot = u16::try_from(number).ok();
    Ok(slot.filter(|slot| u32::from(*slot) < SLOT_COUNT as u32))
}
