//! Cluster commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static ASKING: Docs = Docs {
    summary: "Sent by cluster clients after an -ASK redirect",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER: Docs = Docs {
    summary: "A container for cluster commands",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_ADDSLOTS: Docs = Docs {
    summary: "Assign new hash slots to receiving node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(N) where N is the total number of hash slot arguments"),
    arguments: &[integer("slot").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_ADDSLOTSRANGE: Docs = Docs {
    summary: "Assign new hash slots to receiving node",
    since: "7.0.0",
    group: Group::Cluster,
    complexity: Some(
        "O(N) where N is the total number of the slots between the start slot \
                      and end slot arguments.",
    ),
    arguments: &[block(
        "start-slot_end-slot",
        &[integer("start-slot"), integer("end-slot")],
    )
    .multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_BUMPEPOCH: Docs = Docs {
    summary: "Advance the cluster config epoch",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_COUNT_FAILURE_REPORTS: Docs = Docs {
    summary: "Return the number of failure reports active for a given node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(N) where N is the number of failure reports"),
    arguments: &[string("node-id")],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_COUNTKEYSINSLOT: Docs = Docs {
    summary: "Return the number of local keys in the specified hash slot",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    arguments: &[integer("slot")],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_DELSLOTS: Docs = Docs {
    summary: "Set hash slots as unbound in receiving node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(N) where N is the total number of hash slot arguments"),
    arguments: &[integer("slot").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_DELSLOTSRANGE: Docs = Docs {
    summary: "Set hash slots as unbound in receiving node",
    since: "7.0.0",
    group: Group::Cluster,
    complexity: Some(
        "O(N) where N is the total number of the slots between the start slot \
                      and end slot arguments.",
    ),
    arguments: &[block(
        "start-slot_end-slot",
        &[integer("start-slot"), integer("end-slot")],
    )
    .multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_FAILOVER: Docs = Docs {
    summary: "Forces a replica to perform a manual failover of its master.",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    arguments: &[one_of(
        "options",
        &[
            pure_token("force", "FORCE"),
            pure_token("takeover", "TAKEOVER"),
        ],
    )
    .optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_FLUSHSLOTS: Docs = Docs {
    summary: "Delete a node's own slots information",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_FORGET: Docs = Docs {
    summary: "Remove a node from the nodes table",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    arguments: &[string("node-id")],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_GETKEYSINSLOT: Docs = Docs {
    summary: "Return local key names in the specified hash slot",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(log(N)) where N is the number of requested keys"),
    arguments: &[integer("slot"), integer("count")],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "5.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_INFO: Docs = Docs {
    summary: "Provides info about Redis Cluster node state",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_KEYSLOT: Docs = Docs {
    summary: "Returns the hash slot of the specified key",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(N) where N is the number of bytes in the key"),
    arguments: &[string("key")],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_LINKS: Docs = Docs {
    summary: "Returns a list of all TCP links to and from peer nodes in cluster",
    since: "7.0.0",
    group: Group::Cluster,
    complexity: Some("O(N) where N is the total number of Cluster nodes"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_MEET: Docs = Docs {
    summary: "Force a node cluster to handshake with another node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    history: &[("4.0.0", "Added the optional `cluster_bus_port` argument.")],
    arguments: &[
        string("ip"),
        integer("port"),
        integer("cluster_bus_port").since("4.0.0").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_MYID: Docs = Docs {
    summary: "Return the node id",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_NODES: Docs = Docs {
    summary: "Get Cluster config for the node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(N) where N is the total number of Cluster nodes"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_REPLICAS: Docs = Docs {
    summary: "List replica nodes of the specified master node",
    since: "5.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    arguments: &[string("node-id")],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_REPLICATE: Docs = Docs {
    summary: "Reconfigure a node as a replica of the specified master node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    arguments: &[string("node-id")],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_RESET: Docs = Docs {
    summary: "Reset a Redis Cluster node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some(
        "O(N) where N is the number of known nodes. The command may execute a \
                      FLUSHALL as a side effect.",
    ),
    arguments: &[one_of(
        "hard_soft",
        &[pure_token("hard", "HARD"), pure_token("soft", "SOFT")],
    )
    .optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_SAVECONFIG: Docs = Docs {
    summary: "Forces the node to save cluster state on disk",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_SET_CONFIG_EPOCH: Docs = Docs {
    summary: "Set the configuration epoch in a new node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    arguments: &[integer("config-epoch")],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_SETSLOT: Docs = Docs {
    summary: "Bind a hash slot to a specific node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    arguments: &[
        integer("slot"),
        one_of(
            "subcommand",
            &[
                string("node-id").token("IMPORTING"),
                string("node-id").token("MIGRATING"),
                string("node-id").token("NODE"),
                pure_token("stable", "STABLE"),
            ],
        ),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_SHARDS: Docs = Docs {
    summary: "Get array of cluster slots to node mappings",
    since: "7.0.0",
    group: Group::Cluster,
    complexity: Some("O(N) where N is the total number of cluster nodes"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_SLAVES: Docs = Docs {
    summary: "List replica nodes of the specified master node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("5.0.0"),
    replaced_by: Some("`CLUSTER REPLICAS`"),
    arguments: &[string("node-id")],
    ..Docs::EMPTY
};

pub(in crate::command) static CLUSTER_SLOTS: Docs = Docs {
    summary: "Get array of Cluster slot to node mappings",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(N) where N is the total number of Cluster nodes"),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("7.0.0"),
    replaced_by: Some("`CLUSTER SHARDS`"),
    history: &[
        ("4.0.0", "Added node IDs."),
        ("7.0.0", "Added additional networking metadata field."),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static READONLY: Docs = Docs {
    summary: "Enables read queries for a connection to a cluster replica node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static READWRITE: Docs = Docs {
    summary: "Disables read queries for a connection to a cluster replica node",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};
