//! Server and administration commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static ACL: Docs = Docs {
    summary: "A container for Access List Control commands ",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_CAT: Docs = Docs {
    summary: "List the ACL categories or the commands inside a category",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("O(1) since the categories and commands are a fixed set."),
    arguments: &[string("categoryname").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_DELUSER: Docs = Docs {
    summary: "Remove the specified ACL users and the associated rules",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("O(1) amortized time considering the typical user."),
    arguments: &[string("username").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_DRYRUN: Docs = Docs {
    summary: "Returns whether the user can execute the given command without executing the \
              command.",
    since: "7.0.0",
    group: Group::Server,
    complexity: Some("O(1)."),
    arguments: &[
        string("username"),
        string("command"),
        string("arg").optional().multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_GENPASS: Docs = Docs {
    summary: "Generate a pseudorandom secure password to use for ACL users",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    arguments: &[integer("bits").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_GETUSER: Docs = Docs {
    summary: "Get the rules for a specific ACL user",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some(
        "O(N). Where N is the number of password, command and pattern rules that \
                      the user has.",
    ),
    history: &[
        ("6.2.0", "Added Pub/Sub channel patterns."),
        (
            "7.0.0",
            "Added selectors and changed the format of key and channel patterns from a \
                   list to their rule representation.",
        ),
    ],
    arguments: &[string("username")],
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_LIST: Docs = Docs {
    summary: "List the current ACL rules in ACL config file format",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("O(N). Where N is the number of configured users."),
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_LOAD: Docs = Docs {
    summary: "Reload the ACLs from the configured ACL file",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("O(N). Where N is the number of configured users."),
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_LOG: Docs = Docs {
    summary: "List latest events denied because of ACLs in place",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("O(N) with N being the number of entries shown."),
    arguments: &[one_of(
        "operation",
        &[integer("count"), pure_token("reset", "RESET")],
    )
    .optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_SAVE: Docs = Docs {
    summary: "Save the current ACL rules in the configured ACL file",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("O(N). Where N is the number of configured users."),
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_SETUSER: Docs = Docs {
    summary: "Modify or create the rules for a specific ACL user",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("O(N). Where N is the number of rules provided."),
    history: &[
        ("6.2.0", "Added Pub/Sub channel patterns."),
        ("7.0.0", "Added selectors and key based permissions."),
    ],
    arguments: &[string("username"), string("rule").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_USERS: Docs = Docs {
    summary: "List the username of all the configured ACL rules",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("O(N). Where N is the number of configured users."),
    ..Docs::EMPTY
};

pub(in crate::command) static ACL_WHOAMI: Docs = Docs {
    summary: "Return the name of the user associated to the current connection",
    since: "6.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static BGREWRITEAOF: Docs = Docs {
    summary: "Asynchronously rewrite the append-only file",
    since: "1.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static BGSAVE: Docs = Docs {
    summary: "Asynchronously save the dataset to disk",
    since: "1.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    history: &[("3.2.2", "Added the `SCHEDULE` option.")],
    arguments: &[pure_token("schedule", "SCHEDULE").since("3.2.2").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static COMMAND: Docs = Docs {
    summary: "Get array of Redis command details",
    since: "2.8.13",
    group: Group::Server,
    complexity: Some("O(N) where N is the total number of Redis commands"),
    ..Docs::EMPTY
};

pub(in crate::command) static COMMAND_COUNT: Docs = Docs {
    summary: "Get total number of Redis commands",
    since: "2.8.13",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static COMMAND_DOCS: Docs = Docs {
    summary: "Get array of specific Redis command documentation",
    since: "7.0.0",
    group: Group::Server,
    complexity: Some("O(N) where N is the number of commands to look up"),
    arguments: &[string("command-name").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static COMMAND_GETKEYS: Docs = Docs {
    summary: "Extract keys given a full Redis command",
    since: "2.8.13",
    group: Group::Server,
    complexity: Some("O(N) where N is the number of arguments to the command"),
    ..Docs::EMPTY
};

pub(in crate::command) static COMMAND_GETKEYSANDFLAGS: Docs = Docs {
    summary: "Extract keys and access flags given a full Redis command",
    since: "7.0.0",
    group: Group::Server,
    complexity: Some("O(N) where N is the number of arguments to the command"),
    ..Docs::EMPTY
};

pub(in crate::command) static COMMAND_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "5.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static COMMAND_INFO: Docs = Docs {
    summary: "Get array of specific Redis command details, or all when no argument is given.",
    since: "2.8.13",
    group: Group::Server,
    complexity: Some("O(N) where N is the number of commands to look up"),
    history: &[(
        "7.0.0",
        "Allowed to be called with no argument to get info on all commands.",
    )],
    arguments: &[string("command-name").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static COMMAND_LIST: Docs = Docs {
    summary: "Get an array of Redis command names",
    since: "7.0.0",
    group: Group::Server,
    complexity: Some("O(N) where N is the total number of Redis commands"),
    arguments: &[one_of(
        "filterby",
        &[
            string("module-name").token("MODULE"),
            string("category").token("ACLCAT"),
            pattern("pattern").token("PATTERN"),
        ],
    )
    .token("FILTERBY")
    .optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static CONFIG: Docs = Docs {
    summary: "A container for server configuration commands",
    since: "2.0.0",
    group: Group::Server,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static CONFIG_GET: Docs = Docs {
    summary: "Get the values of configuration parameters",
    since: "2.0.0",
    group: Group::Server,
    complexity: Some("O(N) when N is the number of configuration parameters provided"),
    history: &[(
        "7.0.0",
        "Added the ability to pass multiple pattern parameters in one call",
    )],
    arguments: &[block("parameter", &[string("parameter")]).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static CONFIG_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "5.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CONFIG_RESETSTAT: Docs = Docs {
    summary: "Reset the stats returned by INFO",
    since: "2.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CONFIG_REWRITE: Docs = Docs {
    summary: "Rewrite the configuration file with the in memory configuration",
    since: "2.8.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CONFIG_SET: Docs = Docs {
    summary: "Set configuration parameters to the given values",
    since: "2.0.0",
    group: Group::Server,
    complexity: Some("O(N) when N is the number of configuration parameters provided"),
    history: &[(
        "7.0.0",
        "Added the ability to set multiple parameters in one call.",
    )],
    arguments: &[block("parameter_value", &[string("parameter"), string("value")]).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static DBSIZE: Docs = Docs {
    summary: "Return the number of keys in the selected database",
    since: "1.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static DEBUG: Docs = Docs {
    summary: "A container for debugging commands",
    since: "1.0.0",
    group: Group::Server,
    complexity: Some("Depends on subcommand."),
    doc_flags: doc_flags![SYSCMD],
    ..Docs::EMPTY
};

pub(in crate::command) static FAILOVER: Docs = Docs {
    summary: "Start a coordinated failover between this server and one of its replicas.",
    since: "6.2.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    arguments: &[
        block(
            "target",
            &[
                string("host"),
                integer("port"),
                pure_token("force", "FORCE").optional(),
            ],
        )
        .token("TO")
        .optional(),
        pure_token("abort", "ABORT").optional(),
        integer("milliseconds").token("TIMEOUT").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static FLUSHALL: Docs = Docs {
    summary: "Remove all keys from all databases",
    since: "1.0.0",
    group: Group::Server,
    complexity: Some("O(N) where N is the total number of keys in all databases"),
    history: &[
        ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
        ("6.2.0", "Added the `SYNC` flushing mode modifier."),
    ],
    arguments: &[one_of(
        "async",
        &[
            pure_token("async", "ASYNC").since("4.0.0"),
            pure_token("sync", "SYNC").since("6.2.0"),
        ],
    )
    .optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static FLUSHDB: Docs = Docs {
    summary: "Remove all keys from the current database",
    since: "1.0.0",
    group: Group::Server,
    complexity: Some("O(N) where N is the number of keys in the selected database"),
    history: &[
        ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
        ("6.2.0", "Added the `SYNC` flushing mode modifier."),
    ],
    arguments: &[one_of(
        "async",
        &[
            pure_token("async", "ASYNC").since("4.0.0"),
            pure_token("sync", "SYNC").since("6.2.0"),
        ],
    )
    .optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static INFO: Docs = Docs {
    summary: "Get information and statistics about the server",
    since: "1.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    history: &[(
        "7.0.0",
        "Added support for taking multiple section arguments.",
    )],
    arguments: &[string("section").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static LASTSAVE: Docs = Docs {
    summary: "Get the UNIX time stamp of the last successful save to disk",
    since: "1.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static LATENCY: Docs = Docs {
    summary: "A container for latency diagnostics commands",
    since: "2.8.13",
    group: Group::Server,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static LATENCY_DOCTOR: Docs = Docs {
    summary: "Return a human readable latency analysis report.",
    since: "2.8.13",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static LATENCY_GRAPH: Docs = Docs {
    summary: "Return a latency graph for the event.",
    since: "2.8.13",
    group: Group::Server,
    complexity: Some("O(1)"),
    arguments: &[string("event")],
    ..Docs::EMPTY
};

pub(in crate::command) static LATENCY_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands.",
    since: "2.8.13",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static LATENCY_HISTOGRAM: Docs = Docs {
    summary: "Return the cumulative distribution of latencies of a subset of commands or all.",
    since: "7.0.0",
    group: Group::Server,
    complexity: Some(
        "O(N) where N is the number of commands with latency information being \
                      retrieved.",
    ),
    arguments: &[string("command").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static LATENCY_HISTORY: Docs = Docs {
    summary: "Return timestamp-latency samples for the event.",
    since: "2.8.13",
    group: Group::Server,
    complexity: Some("O(1)"),
    arguments: &[string("event")],
    ..Docs::EMPTY
};

pub(in crate::command) static LATENCY_LATEST: Docs = Docs {
    summary: "Return the latest latency samples for all events.",
    since: "2.8.13",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static LATENCY_RESET: Docs = Docs {
    summary: "Reset latency data for one or more events.",
    since: "2.8.13",
    group: Group::Server,
    complexity: Some("O(1)"),
    arguments: &[string("event").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static LOLWUT: Docs = Docs {
    summary: "Display some computer art and the Redis version",
    since: "5.0.0",
    group: Group::Server,
    arguments: &[integer("version").token("VERSION").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static MEMORY: Docs = Docs {
    summary: "A container for memory diagnostics commands",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static MEMORY_DOCTOR: Docs = Docs {
    summary: "Outputs memory problems report",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static MEMORY_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static MEMORY_MALLOC_STATS: Docs = Docs {
    summary: "Show allocator internal stats",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some("Depends on how much memory is allocated, could be slow"),
    ..Docs::EMPTY
};

pub(in crate::command) static MEMORY_PURGE: Docs = Docs {
    summary: "Ask the allocator to release memory",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some("Depends on how much memory is allocated, could be slow"),
    ..Docs::EMPTY
};

pub(in crate::command) static MEMORY_STATS: Docs = Docs {
    summary: "Show memory usage details",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static MEMORY_USAGE: Docs = Docs {
    summary: "Estimate the memory usage of a key",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some("O(N) where N is the number of samples."),
    arguments: &[key("key", 0), integer("count").token("SAMPLES").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static MODULE: Docs = Docs {
    summary: "A container for module commands",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static MODULE_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "5.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static MODULE_LIST: Docs = Docs {
    summary: "List all modules loaded by the server",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some("O(N) where N is the number of loaded modules."),
    ..Docs::EMPTY
};

pub(in crate::command) static MODULE_LOAD: Docs = Docs {
    summary: "Load a module",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    arguments: &[string("path"), string("arg").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static MODULE_LOADEX: Docs = Docs {
    summary: "Load a module with extended parameters",
    since: "7.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    arguments: &[
        string("path"),
        block("configs", &[string("name"), string("value")])
            .token("CONFIG")
            .optional()
            .multiple()
            .multiple_token(),
        block("args", &[string("arg")])
            .token("ARGS")
            .optional()
            .multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static MODULE_UNLOAD: Docs = Docs {
    summary: "Unload a module",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    arguments: &[string("name")],
    ..Docs::EMPTY
};

pub(in crate::command) static MONITOR: Docs = Docs {
    summary: "Listen for all requests received by the server in real time",
    since: "1.0.0",
    group: Group::Server,
    ..Docs::EMPTY
};

pub(in crate::command) static PSYNC: Docs = Docs {
    summary: "Internal command used for replication",
    since: "2.8.0",
    group: Group::Server,
    arguments: &[string("replicationid"), integer("offset")],
    ..Docs::EMPTY
};

pub(in crate::command) static REPLCONF: Docs = Docs {
    summary: "An internal command for configuring the replication stream",
    since: "3.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    doc_flags: doc_flags![SYSCMD],
    ..Docs::EMPTY
};

pub(in crate::command) static REPLICAOF: Docs = Docs {
    summary: "Make the server a replica of another instance, or promote it as master.",
    since: "5.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    arguments: &[one_of(
        "args",
        &[
            block("host-port", &[string("host"), integer("port")]),
            block(
                "no-one",
                &[pure_token("no", "NO"), pure_token("one", "ONE")],
            ),
        ],
    )],
    ..Docs::EMPTY
};

pub(in crate::command) static RESTORE_ASKING: Docs = Docs {
    summary: "An internal command for migrating keys in a cluster",
    since: "3.0.0",
    group: Group::Server,
    complexity: Some(
        "O(1) to create the new key and additional O(N*M) to reconstruct the \
                      serialized value, where N is the number of Redis objects composing the \
                      value and M their average size. For small string values the time \
                      complexity is thus O(1)+O(1*M) where M is small, so simply O(1). \
                      However for sorted set values the complexity is O(N*M*log(N)) because \
                      inserting values into sorted sets is O(log(N)).",
    ),
    doc_flags: doc_flags![SYSCMD],
    history: &[
        ("3.0.0", "Added the `REPLACE` modifier."),
        ("5.0.0", "Added the `ABSTTL` modifier."),
        ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
    ],
    arguments: &[
        key("key", 0),
        integer("ttl"),
        string("serialized-value"),
        pure_token("replace", "REPLACE").since("3.0.0").optional(),
        pure_token("absttl", "ABSTTL").since("5.0.0").optional(),
        integer("seconds")
            .token("IDLETIME")
            .since("5.0.0")
            .optional(),
        integer("frequency").token("FREQ").since("5.0.0").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ROLE: Docs = Docs {
    summary: "Return the role of the instance in the context of replication",
    since: "2.8.12",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static SAVE: Docs = Docs {
    summary: "Synchronously save the dataset to disk",
    since: "1.0.0",
    group: Group::Server,
    complexity: Some("O(N) where N is the total number of keys in all databases"),
    ..Docs::EMPTY
};

pub(in crate::command) static SHUTDOWN: Docs = Docs {
    summary: "Synchronously save the dataset to disk and then shut down the server",
    since: "1.0.0",
    group: Group::Server,
    complexity: Some(
        "O(N) when saving, where N is the total number of keys in all databases \
                      when saving data, otherwise O(1)",
    ),
    history: &[("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers.")],
    arguments: &[
        one_of(
            "nosave_save",
            &[pure_token("nosave", "NOSAVE"), pure_token("save", "SAVE")],
        )
        .optional(),
        pure_token("now", "NOW").since("7.0.0").optional(),
        pure_token("force", "FORCE").since("7.0.0").optional(),
        pure_token("abort", "ABORT").since("7.0.0").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static SLAVEOF: Docs = Docs {
    summary: "Make the server a replica of another instance, or promote it as master.",
    since: "1.0.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("5.0.0"),
    replaced_by: Some("`REPLICAOF`"),
    arguments: &[one_of(
        "args",
        &[
            block("host-port", &[string("host"), integer("port")]),
            block(
                "no-one",
                &[pure_token("no", "NO"), pure_token("one", "ONE")],
            ),
        ],
    )],
    ..Docs::EMPTY
};

pub(in crate::command) static SLOWLOG: Docs = Docs {
    summary: "A container for slow log commands",
    since: "2.2.12",
    group: Group::Server,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static SLOWLOG_GET: Docs = Docs {
    summary: "Get the slow log's entries",
    since: "2.2.12",
    group: Group::Server,
    complexity: Some("O(N) where N is the number of entries returned"),
    history: &[(
        "4.0.0",
        "Added client IP address, port and name to the reply.",
    )],
    arguments: &[integer("count").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static SLOWLOG_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "6.2.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static SLOWLOG_LEN: Docs = Docs {
    summary: "Get the slow log's length",
    since: "2.2.12",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static SLOWLOG_RESET: Docs = Docs {
    summary: "Clear all entries from the slow log",
    since: "2.2.12",
    group: Group::Server,
    complexity: Some("O(N) where N is the number of entries in the slowlog"),
    ..Docs::EMPTY
};

pub(in crate::command) static SWAPDB: Docs = Docs {
    summary: "Swaps two Redis databases",
    since: "4.0.0",
    group: Group::Server,
    complexity: Some(
        "O(N) where N is the count of clients watching or blocking on keys from \
                      both databases.",
    ),
    arguments: &[integer("index1"), integer("index2")],
    ..Docs::EMPTY
};

pub(in crate::command) static SYNC: Docs = Docs {
    summary: "Internal command used for replication",
    since: "1.0.0",
    group: Group::Server,
    ..Docs::EMPTY
};

pub(in crate::command) static TIME: Docs = Docs {
    summary: "Return the current server time",
    since: "2.6.0",
    group: Group::Server,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};
