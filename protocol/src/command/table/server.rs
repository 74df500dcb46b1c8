//! Server and administration commands.

use super::prelude::*;

pub(super) static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "acl",
        id: id::ACL,
        arity: -2,
        categories: categories![SLOW],
        subcommands: ACL_SUBCOMMANDS,
        docs: &docs::server::ACL,
        ..COMMAND
    },
    CommandSpec {
        name: "bgrewriteaof",
        id: id::BGREWRITEAOF,
        arity: 1,
        flags: flags![ADMIN, NOSCRIPT, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::BGREWRITEAOF,
        ..COMMAND
    },
    CommandSpec {
        name: "bgsave",
        id: id::BGSAVE,
        arity: -1,
        flags: flags![ADMIN, NOSCRIPT, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::BGSAVE,
        ..COMMAND
    },
    CommandSpec {
        name: "command",
        id: id::COMMAND,
        arity: -1,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        tips: &["nondeterministic_output_order"],
        subcommands: COMMAND_SUBCOMMANDS,
        docs: &docs::server::COMMAND,
        ..COMMAND
    },
    CommandSpec {
        name: "config",
        id: id::CONFIG,
        arity: -2,
        categories: categories![SLOW],
        subcommands: CONFIG_SUBCOMMANDS,
        docs: &docs::server::CONFIG,
        ..COMMAND
    },
    CommandSpec {
        name: "dbsize",
        id: id::DBSIZE,
        arity: 1,
        flags: flags![READONLY, FAST],
        categories: categories![KEYSPACE, READ, FAST],
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        docs: &docs::server::DBSIZE,
        ..COMMAND
    },
    CommandSpec {
        name: "debug",
        id: id::DEBUG,
        arity: -2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE, PROTECTED],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::DEBUG,
        ..COMMAND
    },
    CommandSpec {
        name: "failover",
        id: id::FAILOVER,
        arity: -1,
        flags: flags![ADMIN, NOSCRIPT, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::FAILOVER,
        ..COMMAND
    },
    CommandSpec {
        name: "flushall",
        id: id::FLUSHALL,
        arity: -1,
        flags: flags![WRITE],
        categories: categories![KEYSPACE, WRITE, SLOW, DANGEROUS],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        docs: &docs::server::FLUSHALL,
        ..COMMAND
    },
    CommandSpec {
        name: "flushdb",
        id: id::FLUSHDB,
        arity: -1,
        flags: flags![WRITE],
        categories: categories![KEYSPACE, WRITE, SLOW, DANGEROUS],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        docs: &docs::server::FLUSHDB,
        ..COMMAND
    },
    CommandSpec {
        name: "info",
        id: id::INFO,
        arity: -1,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, DANGEROUS],
        tips: &[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ],
        docs: &docs::server::INFO,
        ..COMMAND
    },
    CommandSpec {
        name: "lastsave",
        id: id::LASTSAVE,
        arity: 1,
        flags: flags![LOADING, STALE, FAST],
        categories: categories![ADMIN, FAST, DANGEROUS],
        tips: &["nondeterministic_output"],
        docs: &docs::server::LASTSAVE,
        ..COMMAND
    },
    CommandSpec {
        name: "latency",
        id: id::LATENCY,
        arity: -2,
        categories: categories![SLOW],
        subcommands: LATENCY_SUBCOMMANDS,
        docs: &docs::server::LATENCY,
        ..COMMAND
    },
    CommandSpec {
        name: "lolwut",
        id: id::LOLWUT,
        arity: -1,
        flags: flags![READONLY, FAST],
        categories: categories![READ, FAST],
        docs: &docs::server::LOLWUT,
        ..COMMAND
    },
    CommandSpec {
        name: "memory",
        id: id::MEMORY,
        arity: -2,
        categories: categories![SLOW],
        subcommands: MEMORY_SUBCOMMANDS,
        docs: &docs::server::MEMORY,
        ..COMMAND
    },
    CommandSpec {
        name: "module",
        id: id::MODULE,
        arity: -2,
        categories: categories![SLOW],
        subcommands: MODULE_SUBCOMMANDS,
        docs: &docs::server::MODULE,
        ..COMMAND
    },
    CommandSpec {
        name: "monitor",
        id: id::MONITOR,
        arity: 1,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::MONITOR,
        ..COMMAND
    },
    CommandSpec {
        name: "psync",
        id: id::PSYNC,
        arity: -3,
        flags: flags![ADMIN, NOSCRIPT, NO_ASYNC_LOADING, NO_MULTI],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::PSYNC,
        ..COMMAND
    },
    CommandSpec {
        name: "replconf",
        id: id::REPLCONF,
        arity: -1,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE, ALLOW_BUSY],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::REPLCONF,
        ..COMMAND
    },
    CommandSpec {
        name: "replicaof",
        id: id::REPLICAOF,
        arity: 3,
        flags: flags![ADMIN, NOSCRIPT, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::REPLICAOF,
        ..COMMAND
    },
    CommandSpec {
        name: "restore-asking",
        id: id::RESTORE_ASKING,
        arity: -4,
        flags: flags![WRITE, DENYOOM, ASKING],
        categories: categories![KEYSPACE, WRITE, SLOW, DANGEROUS],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![OW, UPDATE])],
        docs: &docs::server::RESTORE_ASKING,
        ..COMMAND
    },
    CommandSpec {
        name: "role",
        id: id::ROLE,
        arity: 1,
        flags: flags![NOSCRIPT, LOADING, STALE, FAST],
        categories: categories![ADMIN, FAST, DANGEROUS],
        docs: &docs::server::ROLE,
        ..COMMAND
    },
    CommandSpec {
        name: "save",
        id: id::SAVE,
        arity: 1,
        flags: flags![ADMIN, NOSCRIPT, NO_ASYNC_LOADING, NO_MULTI],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::SAVE,
        ..COMMAND
    },
    CommandSpec {
        name: "shutdown",
        id: id::SHUTDOWN,
        arity: -1,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE, NO_MULTI, ALLOW_BUSY],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::SHUTDOWN,
        ..COMMAND
    },
    CommandSpec {
        name: "slaveof",
        id: id::SLAVEOF,
        arity: 3,
        flags: flags![ADMIN, NOSCRIPT, STALE, NO_ASYNC_LOADING],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::SLAVEOF,
        ..COMMAND
    },
    CommandSpec {
        name: "slowlog",
        id: id::SLOWLOG,
        arity: -2,
        categories: categories![SLOW],
        subcommands: SLOWLOG_SUBCOMMANDS,
        docs: &docs::server::SLOWLOG,
        ..COMMAND
    },
    CommandSpec {
        name: "swapdb",
        id: id::SWAPDB,
        arity: 3,
        flags: flags![WRITE, FAST],
        categories: categories![KEYSPACE, WRITE, FAST, DANGEROUS],
        docs: &docs::server::SWAPDB,
        ..COMMAND
    },
    CommandSpec {
        name: "sync",
        id: id::SYNC,
        arity: 1,
        flags: flags![ADMIN, NOSCRIPT, NO_ASYNC_LOADING, NO_MULTI],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::SYNC,
        ..COMMAND
    },
    CommandSpec {
        name: "time",
        id: id::TIME,
        arity: 1,
        flags: flags![LOADING, STALE, FAST],
        categories: categories![FAST],
        tips: &["nondeterministic_output"],
        docs: &docs::server::TIME,
        ..COMMAND
    },
];

static ACL_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "acl|cat",
        id: id::ACL_CAT,
        arity: -2,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW],
        docs: &docs::server::ACL_CAT,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|deluser",
        id: id::ACL_DELUSER,
        arity: -3,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::ACL_DELUSER,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|dryrun",
        id: id::ACL_DRYRUN,
        arity: -4,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::ACL_DRYRUN,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|genpass",
        id: id::ACL_GENPASS,
        arity: -2,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW],
        docs: &docs::server::ACL_GENPASS,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|getuser",
        id: id::ACL_GETUSER,
        arity: 3,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::ACL_GETUSER,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|help",
        id: id::ACL_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW],
        docs: &docs::server::ACL_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|list",
        id: id::ACL_LIST,
        arity: 2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::ACL_LIST,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|load",
        id: id::ACL_LOAD,
        arity: 2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::ACL_LOAD,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|log",
        id: id::ACL_LOG,
        arity: -2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::ACL_LOG,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|save",
        id: id::ACL_SAVE,
        arity: 2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::ACL_SAVE,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|setuser",
        id: id::ACL_SETUSER,
        arity: -3,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::ACL_SETUSER,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|users",
        id: id::ACL_USERS,
        arity: 2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::ACL_USERS,
        ..COMMAND
    },
    CommandSpec {
        name: "acl|whoami",
        id: id::ACL_WHOAMI,
        arity: 2,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW],
        docs: &docs::server::ACL_WHOAMI,
        ..COMMAND
    },
];

static COMMAND_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "command|count",
        id: id::COMMAND_COUNT,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::server::COMMAND_COUNT,
        ..COMMAND
    },
    CommandSpec {
        name: "command|docs",
        id: id::COMMAND_DOCS,
        arity: -2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        tips: &["nondeterministic_output_order"],
        docs: &docs::server::COMMAND_DOCS,
        ..COMMAND
    },
    CommandSpec {
        name: "command|getkeys",
        id: id::COMMAND_GETKEYS,
        arity: -4,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::server::COMMAND_GETKEYS,
        ..COMMAND
    },
    CommandSpec {
        name: "command|getkeysandflags",
        id: id::COMMAND_GETKEYSANDFLAGS,
        arity: -4,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::server::COMMAND_GETKEYSANDFLAGS,
        ..COMMAND
    },
    CommandSpec {
        name: "command|help",
        id: id::COMMAND_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::server::COMMAND_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "command|info",
        id: id::COMMAND_INFO,
        arity: -2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        tips: &["nondeterministic_output_order"],
        docs: &docs::server::COMMAND_INFO,
        ..COMMAND
    },
    CommandSpec {
        name: "command|list",
        id: id::COMMAND_LIST,
        arity: -2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        tips: &["nondeterministic_output_order"],
        docs: &docs::server::COMMAND_LIST,
        ..COMMAND
    },
];

static CONFIG_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "config|get",
        id: id::CONFIG_GET,
        arity: -3,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::CONFIG_GET,
        ..COMMAND
    },
    CommandSpec {
        name: "config|help",
        id: id::CONFIG_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW],
        docs: &docs::server::CONFIG_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "config|resetstat",
        id: id::CONFIG_RESETSTAT,
        arity: 2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::CONFIG_RESETSTAT,
        ..COMMAND
    },
    CommandSpec {
        name: "config|rewrite",
        id: id::CONFIG_REWRITE,
        arity: 2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::CONFIG_REWRITE,
        ..COMMAND
    },
    CommandSpec {
        name: "config|set",
        id: id::CONFIG_SET,
        arity: -4,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        docs: &docs::server::CONFIG_SET,
        ..COMMAND
    },
];

static LATENCY_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "latency|doctor",
        id: id::LATENCY_DOCTOR,
        arity: 2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        docs: &docs::server::LATENCY_DOCTOR,
        ..COMMAND
    },
    CommandSpec {
        name: "latency|graph",
        id: id::LATENCY_GRAPH,
        arity: 3,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        docs: &docs::server::LATENCY_GRAPH,
        ..COMMAND
    },
    CommandSpec {
        name: "latency|help",
        id: id::LATENCY_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW],
        docs: &docs::server::LATENCY_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "latency|histogram",
        id: id::LATENCY_HISTOGRAM,
        arity: -2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        docs: &docs::server::LATENCY_HISTOGRAM,
        ..COMMAND
    },
    CommandSpec {
        name: "latency|history",
        id: id::LATENCY_HISTORY,
        arity: 3,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        docs: &docs::server::LATENCY_HISTORY,
        ..COMMAND
    },
    CommandSpec {
        name: "latency|latest",
        id: id::LATENCY_LATEST,
        arity: 2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        docs: &docs::server::LATENCY_LATEST,
        ..COMMAND
    },
    CommandSpec {
        name: "latency|reset",
        id: id::LATENCY_RESET,
        arity: -2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        docs: &docs::server::LATENCY_RESET,
        ..COMMAND
    },
];

static MEMORY_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "memory|doctor",
        id: id::MEMORY_DOCTOR,
        arity: 2,
        categories: categories![SLOW],
        tips: &[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ],
        docs: &docs::server::MEMORY_DOCTOR,
        ..COMMAND
    },
    CommandSpec {
        name: "memory|help",
        id: id::MEMORY_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW],
        docs: &docs::server::MEMORY_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "memory|malloc-stats",
        id: id::MEMORY_MALLOC_STATS,
        arity: 2,
        categories: categories![SLOW],
        tips: &[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ],
        docs: &docs::server::MEMORY_MALLOC_STATS,
        ..COMMAND
    },
    CommandSpec {
        name: "memory|purge",
        id: id::MEMORY_PURGE,
        arity: 2,
        categories: categories![SLOW],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        docs: &docs::server::MEMORY_PURGE,
        ..COMMAND
    },
    CommandSpec {
        name: "memory|stats",
        id: id::MEMORY_STATS,
        arity: 2,
        categories: categories![SLOW],
        tips: &[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ],
        docs: &docs::server::MEMORY_STATS,
        ..COMMAND
    },
    CommandSpec {
        name: "memory|usage",
        id: id::MEMORY_USAGE,
        arity: -3,
        flags: flags![READONLY],
        categories: categories![READ, SLOW],
        first_key: 2,
        last_key: 2,
        step: 1,
        key_specs: &[KeySpec::range(2, 0, 1, key_flags![RO])],
        docs: &docs::server::MEMORY_USAGE,
        ..COMMAND
    },
];

static MODULE_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "module|help",
        id: id::MODULE_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW],
        docs: &docs::server::MODULE_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "module|list",
        id: id::MODULE_LIST,
        arity: 2,
        flags: flags![ADMIN, NOSCRIPT],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &["nondeterministic_output_order"],
        docs: &docs::server::MODULE_LIST,
        ..COMMAND
    },
    CommandSpec {
        name: "module|load",
        id: id::MODULE_LOAD,
        arity: -3,
        flags: flags![ADMIN, NOSCRIPT, NO_ASYNC_LOADING, PROTECTED],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::MODULE_LOAD,
        ..COMMAND
    },
    CommandSpec {
        name: "module|loadex",
        id: id::MODULE_LOADEX,
        arity: -3,
        flags: flags![ADMIN, NOSCRIPT, NO_ASYNC_LOADING, PROTECTED],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::MODULE_LOADEX,
        ..COMMAND
    },
    CommandSpec {
        name: "module|unload",
        id: id::MODULE_UNLOAD,
        arity: 3,
        flags: flags![ADMIN, NOSCRIPT, NO_ASYNC_LOADING, PROTECTED],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        docs: &docs::server::MODULE_UNLOAD,
        ..COMMAND
    },
];

static SLOWLOG_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "slowlog|get",
        id: id::SLOWLOG_GET,
        arity: -2,
        flags: flags![ADMIN, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &["request_policy:all_nodes", "nondeterministic_output"],
        docs: &docs::server::SLOWLOG_GET,
        ..COMMAND
    },
    CommandSpec {
        name: "slowlog|help",
        id: id::SLOWLOG_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW],
        docs: &docs::server::SLOWLOG_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "slowlog|len",
        id: id::SLOWLOG_LEN,
        arity: 2,
        flags: flags![ADMIN, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &[
            "request_policy:all_nodes",
            "response_policy:agg_sum",
            "nondeterministic_output",
        ],
        docs: &docs::server::SLOWLOG_LEN,
        ..COMMAND
    },
    CommandSpec {
        name: "slowlog|reset",
        id: id::SLOWLOG_RESET,
        arity: 2,
        flags: flags![ADMIN, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        docs: &docs::server::SLOWLOG_RESET,
        ..COMMAND
    },
];
