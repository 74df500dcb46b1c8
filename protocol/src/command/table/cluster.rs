//! Cluster commands.

use super::prelude::*;

pub(super) static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "asking",
        id: id::ASKING,
        arity: 1,
        flags: flags![FAST],
        categories: categories![FAST, CONNECTION],
        docs: &docs::cluster::ASKING,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster",
        id: id::CLUSTER,
        arity: -2,
        categories: categories![SLOW],
        subcommands: CLUSTER_SUBCOMMANDS,
        docs: &docs::cluster::CLUSTER,
        ..COMMAND
    },
    CommandSpec {
        name: "readonly",
        id: id::READONLY,
        arity: 1,
        flags: flags![LOADING, STALE, FAST],
        categories: categories![FAST, CONNECTION],
        docs: &docs::cluster::READONLY,
        ..COMMAND
    },
    CommandSpec {
        name: "readwrite",
        id: id::READWRITE,
        arity: 1,
        flags: flags![LOADING, STALE, FAST],
        categories: categories![FAST, CONNECTION],
        docs: &docs::cluster::READWRITE,
        ..COMMAND
    },
];

static CLUSTER_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "cluster|addslots",
        id: id::CLUSTER_ADDSLOTS,
        arity: -3,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_ADDSLOTS,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|addslotsrange",
        id: id::CLUSTER_ADDSLOTSRANGE,
        arity: -4,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_ADDSLOTSRANGE,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|bumpepoch",
        id: id::CLUSTER_BUMPEPOCH,
        arity: 2,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &["nondeterministic_output"],
        docs: &docs::cluster::CLUSTER_BUMPEPOCH,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|count-failure-reports",
        id: id::CLUSTER_COUNT_FAILURE_REPORTS,
        arity: 3,
        flags: flags![ADMIN, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &["nondeterministic_output"],
        docs: &docs::cluster::CLUSTER_COUNT_FAILURE_REPORTS,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|countkeysinslot",
        id: id::CLUSTER_COUNTKEYSINSLOT,
        arity: 3,
        flags: flags![STALE],
        categories: categories![SLOW],
        docs: &docs::cluster::CLUSTER_COUNTKEYSINSLOT,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|delslots",
        id: id::CLUSTER_DELSLOTS,
        arity: -3,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_DELSLOTS,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|delslotsrange",
        id: id::CLUSTER_DELSLOTSRANGE,
        arity: -4,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_DELSLOTSRANGE,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|failover",
        id: id::CLUSTER_FAILOVER,
        arity: -2,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_FAILOVER,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|flushslots",
        id: id::CLUSTER_FLUSHSLOTS,
        arity: 2,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_FLUSHSLOTS,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|forget",
        id: id::CLUSTER_FORGET,
        arity: 3,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_FORGET,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|getkeysinslot",
        id: id::CLUSTER_GETKEYSINSLOT,
        arity: 4,
        flags: flags![STALE],
        categories: categories![SLOW],
        tips: &["nondeterministic_output"],
        docs: &docs::cluster::CLUSTER_GETKEYSINSLOT,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|help",
        id: id::CLUSTER_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW],
        docs: &docs::cluster::CLUSTER_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|info",
        id: id::CLUSTER_INFO,
        arity: 2,
        flags: flags![STALE],
        categories: categories![SLOW],
        tips: &["nondeterministic_output"],
        docs: &docs::cluster::CLUSTER_INFO,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|keyslot",
        id: id::CLUSTER_KEYSLOT,
        arity: 3,
        flags: flags![STALE],
        categories: categories![SLOW],
        docs: &docs::cluster::CLUSTER_KEYSLOT,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|links",
        id: id::CLUSTER_LINKS,
        arity: 2,
        flags: flags![STALE],
        categories: categories![SLOW],
        tips: &["nondeterministic_output"],
        docs: &docs::cluster::CLUSTER_LINKS,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|meet",
        id: id::CLUSTER_MEET,
        arity: -4,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_MEET,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|myid",
        id: id::CLUSTER_MYID,
        arity: 2,
        flags: flags![STALE],
        categories: categories![SLOW],
        docs: &docs::cluster::CLUSTER_MYID,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|nodes",
        id: id::CLUSTER_NODES,
        arity: 2,
        flags: flags![STALE],
        categories: categories![SLOW],
        tips: &["nondeterministic_output"],
        docs: &docs::cluster::CLUSTER_NODES,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|replicas",
        id: id::CLUSTER_REPLICAS,
        arity: 3,
        flags: flags![ADMIN, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &["nondeterministic_output"],
        docs: &docs::cluster::CLUSTER_REPLICAS,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|replicate",
        id: id::CLUSTER_REPLICATE,
        arity: 3,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_REPLICATE,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|reset",
        id: id::CLUSTER_RESET,
        arity: -2,
        flags: flags![ADMIN, NOSCRIPT, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_RESET,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|saveconfig",
        id: id::CLUSTER_SAVECONFIG,
        arity: 2,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_SAVECONFIG,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|set-config-epoch",
        id: id::CLUSTER_SET_CONFIG_EPOCH,
        arity: 3,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_SET_CONFIG_EPOCH,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|setslot",
        id: id::CLUSTER_SETSLOT,
        arity: -4,
        flags: flags![ADMIN, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::cluster::CLUSTER_SETSLOT,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|shards",
        id: id::CLUSTER_SHARDS,
        arity: 2,
        flags: flags![STALE],
        categories: categories![SLOW],
        tips: &["nondeterministic_output"],
        docs: &docs::cluster::CLUSTER_SHARDS,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|slaves",
        id: id::CLUSTER_SLAVES,
        arity: 3,
        flags: flags![ADMIN, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &["nondeterministic_output"],
        docs: &docs::cluster::CLUSTER_SLAVES,
        ..COMMAND
    },
    CommandSpec {
        name: "cluster|slots",
        id: id::CLUSTER_SLOTS,
        arity: 2,
        flags: flags![STALE],
        categories: categories![SLOW],
        tips: &["nondeterministic_output"],
        docs: &docs::cluster::CLUSTER_SLOTS,
        ..COMMAND
    },
];
