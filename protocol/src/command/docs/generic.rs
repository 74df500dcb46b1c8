//! Commands on keys of any type: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static COPY: Docs = Docs {
    summary: "Copy a key",
    since: "6.2.0",
    group: Group::Generic,
    complexity: Some(
        "O(N) worst case for collections, where N is the number of nested items. \
                      O(1) for string values.",
    ),
    arguments: &[
        key("source", 0),
        key("destination", 1),
        integer("destination-db").token("DB").optional(),
        pure_token("replace", "REPLACE").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static DEL: Docs = Docs {
    summary: "Delete a key",
    since: "1.0.0",
    group: Group::Generic,
    complexity: Some(
        "O(N) where N is the number of keys that will be removed. When a key to \
                      remove holds a value other than a string, the individual complexity for \
                      this key is O(M) where M is the number of elements in the list, set, \
                      sorted set or hash. Removing a single key that holds a string value is \
                      O(1).",
    ),
    arguments: &[key("key", 0).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static DUMP: Docs = Docs {
    summary: "Return a serialized version of the value stored at the specified key.",
    since: "2.6.0",
    group: Group::Generic,
    complexity: Some(
        "O(1) to access the key and additional O(N*M) to serialize it, where N \
                      is the number of Redis objects composing the value and M their average \
                      size. For small string values the time complexity is thus O(1)+O(1*M) \
                      where M is small, so simply O(1).",
    ),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static EXISTS: Docs = Docs {
    summary: "Determine if a key exists",
    since: "1.0.0",
    group: Group::Generic,
    complexity: Some("O(N) where N is the number of keys to check."),
    history: &[("3.0.3", "Accepts multiple `key` arguments.")],
    arguments: &[key("key", 0).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static EXPIRE: Docs = Docs {
    summary: "Set a key's time to live in seconds",
    since: "1.0.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
    arguments: &[
        key("key", 0),
        integer("seconds"),
        one_of(
            "condition",
            &[
                pure_token("nx", "NX"),
                pure_token("xx", "XX"),
                pure_token("gt", "GT"),
                pure_token("lt", "LT"),
            ],
        )
        .since("7.0.0")
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static EXPIREAT: Docs = Docs {
    summary: "Set the expiration for a key as a UNIX timestamp",
    since: "1.2.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
    arguments: &[
        key("key", 0),
        unix_time("unix-time-seconds"),
        one_of(
            "condition",
            &[
                pure_token("nx", "NX"),
                pure_token("xx", "XX"),
                pure_token("gt", "GT"),
                pure_token("lt", "LT"),
            ],
        )
        .since("7.0.0")
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static EXPIRETIME: Docs = Docs {
    summary: "Get the expiration Unix timestamp for a key",
    since: "7.0.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static KEYS: Docs = Docs {
    summary: "Find all keys matching the given pattern",
    since: "1.0.0",
    group: Group::Generic,
    complexity: Some(
        "O(N) with N being the number of keys in the database, under the \
                      assumption that the key names in the database and the given pattern \
                      have limited length.",
    ),
    arguments: &[pattern("pattern")],
    ..Docs::EMPTY
};

pub(in crate::command) static MIGRATE: Docs = Docs {
    summary: "Atomically transfer a key from a Redis instance to another one.",
    since: "2.6.0",
    group: Group::Generic,
    complexity: Some(
        "This command actually executes a DUMP+DEL in the source instance, and a \
                      RESTORE in the target instance. See the pages of these commands for \
                      time complexity. Also an O(N) data transfer between the two instances \
                      is performed.",
    ),
    history: &[
        ("3.0.0", "Added the `COPY` and `REPLACE` options."),
        ("3.0.6", "Added the `KEYS` option."),
        ("4.0.7", "Added the `AUTH` option."),
        ("6.0.0", "Added the `AUTH2` option."),
    ],
    arguments: &[
        string("host"),
        integer("port"),
        one_of(
            "key_or_empty_string",
            &[key("key", 0), pure_token("empty_string", "")],
        ),
        integer("destination-db"),
        integer("timeout"),
        pure_token("copy", "COPY").since("3.0.0").optional(),
        pure_token("replace", "REPLACE").since("3.0.0").optional(),
        one_of(
            "authentication",
            &[
                string("password").token("AUTH").since("4.0.7").optional(),
                block(
                    "username_password",
                    &[string("username"), string("password")],
                )
                .token("AUTH2")
                .since("6.0.0")
                .optional(),
            ],
        )
        .optional(),
        key("key", 1)
            .token("KEYS")
            .since("3.0.6")
            .optional()
            .multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static MOVE: Docs = Docs {
    summary: "Move a key to another database",
    since: "1.0.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), integer("db")],
    ..Docs::EMPTY
};

pub(in crate::command) static OBJECT: Docs = Docs {
    summary: "A container for object introspection commands",
    since: "2.2.3",
    group: Group::Generic,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static OBJECT_ENCODING: Docs = Docs {
    summary: "Inspect the internal encoding of a Redis object",
    since: "2.2.3",
    group: Group::Generic,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static OBJECT_FREQ: Docs = Docs {
    summary: "Get the logarithmic access frequency counter of a Redis object",
    since: "4.0.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static OBJECT_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "6.2.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static OBJECT_IDLETIME: Docs = Docs {
    summary: "Get the time since a Redis object was last accessed",
    since: "2.2.3",
    group: Group::Generic,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static OBJECT_REFCOUNT: Docs = Docs {
    summary: "Get the number of references to the value of the key",
    since: "2.2.3",
    group: Group::Generic,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static PERSIST: Docs = Docs {
    summary: "Remove the expiration from a key",
    since: "2.2.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static PEXPIRE: Docs = Docs {
    summary: "Set a key's time to live in milliseconds",
    since: "2.6.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
    arguments: &[
        key("key", 0),
        integer("milliseconds"),
        one_of(
            "condition",
            &[
                pure_token("nx", "NX"),
                pure_token("xx", "XX"),
                pure_token("gt", "GT"),
                pure_token("lt", "LT"),
            ],
        )
        .since("7.0.0")
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static PEXPIREAT: Docs = Docs {
    summary: "Set the expiration for a key as a UNIX timestamp specified in milliseconds",
    since: "2.6.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
    arguments: &[
        key("key", 0),
        unix_time("unix-time-milliseconds"),
        one_of(
            "condition",
            &[
                pure_token("nx", "NX"),
                pure_token("xx", "XX"),
                pure_token("gt", "GT"),
                pure_token("lt", "LT"),
            ],
        )
        .since("7.0.0")
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static PEXPIRETIME: Docs = Docs {
    summary: "Get the expiration Unix timestamp for a key in milliseconds",
    since: "7.0.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static PTTL: Docs = Docs {
    summary: "Get the time to live for a key in milliseconds",
    since: "2.6.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    history: &[("2.8.0", "Added the -2 reply.")],
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static RANDOMKEY: Docs = Docs {
    summary: "Return a random key from the keyspace",
    since: "1.0.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static RENAME: Docs = Docs {
    summary: "Rename a key",
    since: "1.0.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), key("newkey", 1)],
    ..Docs::EMPTY
};

pub(in crate::command) static RENAMENX: Docs = Docs {
    summary: "Rename a key, only if the new key does not exist",
    since: "1.0.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    history: &[(
        "3.2.0",
        "The command no longer returns an error when source and destination names \
                   are the same.",
    )],
    arguments: &[key("key", 0), key("newkey", 1)],
    ..Docs::EMPTY
};

pub(in crate::command) static RESTORE: Docs = Docs {
    summary: "Create a key using the provided serialized value, previously obtained using \
              DUMP.",
    since: "2.6.0",
    group: Group::Generic,
    complexity: Some(
        "O(1) to create the new key and additional O(N*M) to reconstruct the \
                      serialized value, where N is the number of Redis objects composing the \
                      value and M their average size. For small string values the time \
                      complexity is thus O(1)+O(1*M) where M is small, so simply O(1). \
                      However for sorted set values the complexity is O(N*M*log(N)) because \
                      inserting values into sorted sets is O(log(N)).",
    ),
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

pub(in crate::command) static SCAN: Docs = Docs {
    summary: "Incrementally iterate the keys space",
    since: "2.8.0",
    group: Group::Generic,
    complexity: Some(
        "O(1) for every call. O(N) for a complete iteration, including enough \
                      command calls for the cursor to return back to 0. N is the number of \
                      elements inside the collection.",
    ),
    history: &[("6.0.0", "Added the `TYPE` subcommand.")],
    arguments: &[
        integer("cursor"),
        pattern("pattern").token("MATCH").optional(),
        integer("count").token("COUNT").optional(),
        string("type").token("TYPE").since("6.0.0").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static SORT: Docs = Docs {
    summary: "Sort the elements in a list, set or sorted set",
    since: "1.0.0",
    group: Group::Generic,
    complexity: Some(
        "O(N+M*log(M)) where N is the number of elements in the list or set to \
                      sort, and M the number of returned elements. When the elements are not \
                      sorted, complexity is O(N).",
    ),
    arguments: &[
        key("key", 0),
        pattern("pattern").key_spec(1).token("BY").optional(),
        block("offset_count", &[integer("offset"), integer("count")])
            .token("LIMIT")
            .optional(),
        pattern("pattern")
            .key_spec(1)
            .token("GET")
            .optional()
            .multiple()
            .multiple_token(),
        one_of(
            "order",
            &[pure_token("asc", "ASC"), pure_token("desc", "DESC")],
        )
        .optional(),
        pure_token("sorting", "ALPHA").optional(),
        key("destination", 2).token("STORE").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static SORT_RO: Docs = Docs {
    summary: "Sort the elements in a list, set or sorted set. Read-only variant of SORT.",
    since: "7.0.0",
    group: Group::Generic,
    complexity: Some(
        "O(N+M*log(M)) where N is the number of elements in the list or set to \
                      sort, and M the number of returned elements. When the elements are not \
                      sorted, complexity is O(N).",
    ),
    arguments: &[
        key("key", 0),
        pattern("pattern").key_spec(1).token("BY").optional(),
        block("offset_count", &[integer("offset"), integer("count")])
            .token("LIMIT")
            .optional(),
        pattern("pattern")
            .key_spec(1)
            .token("GET")
            .optional()
            .multiple()
            .multiple_token(),
        one_of(
            "order",
            &[pure_token("asc", "ASC"), pure_token("desc", "DESC")],
        )
        .optional(),
        pure_token("sorting", "ALPHA").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static TOUCH: Docs = Docs {
    summary: "Alters the last access time of a key(s). Returns the number of existing keys \
              specified.",
    since: "3.2.1",
    group: Group::Generic,
    complexity: Some("O(N) where N is the number of keys that will be touched."),
    arguments: &[key("key", 0).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static TTL: Docs = Docs {
    summary: "Get the time to live for a key in seconds",
    since: "1.0.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    history: &[("2.8.0", "Added the -2 reply.")],
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static TYPE: Docs = Docs {
    summary: "Determine the type stored at key",
    since: "1.0.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static UNLINK: Docs = Docs {
    summary: "Delete a key asynchronously in another thread. Otherwise it is just as DEL, but \
              non blocking.",
    since: "4.0.0",
    group: Group::Generic,
    complexity: Some(
        "O(1) for each key removed regardless of its size. Then the command does \
                      O(N) work in a different thread in order to reclaim memory, where N is \
                      the number of allocations the deleted objects where composed of.",
    ),
    arguments: &[key("key", 0).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static WAIT: Docs = Docs {
    summary: "Wait for the synchronous replication of all the write commands sent in the \
              context of the current connection",
    since: "3.0.0",
    group: Group::Generic,
    complexity: Some("O(1)"),
    arguments: &[integer("numreplicas"), integer("timeout")],
    ..Docs::EMPTY
};
