//! Stream commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static XACK: Docs = Docs {
    summary: "Marks a pending message as correctly processed, effectively removing it from \
              the pending entries list of the consumer group. Return value of the command is \
              the number of messages successfully acknowledged, that is, the IDs we were \
              actually able to resolve in the PEL.",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("O(1) for each message ID processed."),
    arguments: &[key("key", 0), string("group"), string("id").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static XADD: Docs = Docs {
    summary: "Appends a new entry to a stream",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some(
        "O(1) when adding a new entry, O(N) when trimming where N being the \
                      number of entries evicted.",
    ),
    history: &[
        (
            "6.2.0",
            "Added the `NOMKSTREAM` option, `MINID` trimming strategy and the `LIMIT` \
                   option.",
        ),
        ("7.0.0", "Added support for the `<ms>-*` explicit ID form."),
    ],
    arguments: &[
        key("key", 0),
        pure_token("nomkstream", "NOMKSTREAM")
            .since("6.2.0")
            .optional(),
        block(
            "trim",
            &[
                one_of(
                    "strategy",
                    &[
                        pure_token("maxlen", "MAXLEN"),
                        pure_token("minid", "MINID").since("6.2.0"),
                    ],
                ),
                one_of(
                    "operator",
                    &[pure_token("equal", "="), pure_token("approximately", "~")],
                )
                .optional(),
                string("threshold"),
                integer("count").token("LIMIT").since("6.2.0").optional(),
            ],
        )
        .optional(),
        one_of("id_or_auto", &[pure_token("auto_id", "*"), string("id")]),
        block("field_value", &[string("field"), string("value")]).multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XAUTOCLAIM: Docs = Docs {
    summary: "Changes (or acquires) ownership of messages in a consumer group, as if the \
              messages were delivered to the specified consumer.",
    since: "6.2.0",
    group: Group::Stream,
    complexity: Some("O(1) if COUNT is small."),
    history: &[(
        "7.0.0",
        "Added an element to the reply array, containing deleted entries the \
                   command cleared from the PEL",
    )],
    arguments: &[
        key("key", 0),
        string("group"),
        string("consumer"),
        string("min-idle-time"),
        string("start"),
        integer("count").token("COUNT").optional(),
        pure_token("justid", "JUSTID").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XCLAIM: Docs = Docs {
    summary: "Changes (or acquires) ownership of a message in a consumer group, as if the \
              message was delivered to the specified consumer.",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some(
        "O(log N) with N being the number of messages in the PEL of the consumer \
                      group.",
    ),
    arguments: &[
        key("key", 0),
        string("group"),
        string("consumer"),
        string("min-idle-time"),
        string("id").multiple(),
        integer("ms").token("IDLE").optional(),
        unix_time("unix-time-milliseconds").token("TIME").optional(),
        integer("count").token("RETRYCOUNT").optional(),
        pure_token("force", "FORCE").optional(),
        pure_token("justid", "JUSTID").optional(),
        string("id").token("LASTID").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XDEL: Docs = Docs {
    summary: "Removes the specified entries from the stream. Returns the number of items \
              actually deleted, that may be different from the number of IDs passed in case \
              certain IDs do not exist.",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some(
        "O(1) for each single item to delete in the stream, regardless of the \
                      stream size.",
    ),
    arguments: &[key("key", 0), string("id").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static XGROUP: Docs = Docs {
    summary: "A container for consumer groups commands",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static XGROUP_CREATE: Docs = Docs {
    summary: "Create a consumer group.",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("O(1)"),
    history: &[("7.0.0", "Added the `entries_read` named argument.")],
    arguments: &[
        key("key", 0),
        string("groupname"),
        one_of("id", &[string("id"), pure_token("new_id", "$")]),
        pure_token("mkstream", "MKSTREAM").optional(),
        integer("entries_read").token("ENTRIESREAD").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XGROUP_CREATECONSUMER: Docs = Docs {
    summary: "Create a consumer in a consumer group.",
    since: "6.2.0",
    group: Group::Stream,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("groupname"), string("consumername")],
    ..Docs::EMPTY
};

pub(in crate::command) static XGROUP_DELCONSUMER: Docs = Docs {
    summary: "Delete a consumer from a consumer group.",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("groupname"), string("consumername")],
    ..Docs::EMPTY
};

pub(in crate::command) static XGROUP_DESTROY: Docs = Docs {
    summary: "Destroy a consumer group.",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some(
        "O(N) where N is the number of entries in the group's pending entries \
                      list (PEL).",
    ),
    arguments: &[key("key", 0), string("groupname")],
    ..Docs::EMPTY
};

pub(in crate::command) static XGROUP_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static XGROUP_SETID: Docs = Docs {
    summary: "Set a consumer group to an arbitrary last delivered ID value.",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("O(1)"),
    history: &[("7.0.0", "Added the optional `entries_read` argument.")],
    arguments: &[
        key("key", 0),
        string("groupname"),
        one_of("id", &[string("id"), pure_token("new_id", "$")]),
        integer("entries_read").token("ENTRIESREAD").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XINFO: Docs = Docs {
    summary: "A container for stream introspection commands",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static XINFO_CONSUMERS: Docs = Docs {
    summary: "List the consumers in a consumer group",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("groupname")],
    ..Docs::EMPTY
};

pub(in crate::command) static XINFO_GROUPS: Docs = Docs {
    summary: "List the consumer groups of a stream",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("O(1)"),
    history: &[("7.0.0", "Added the `entries-read` and `lag` fields")],
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static XINFO_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static XINFO_STREAM: Docs = Docs {
    summary: "Get information about a stream",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("O(1)"),
    history: &[
        ("6.0.0", "Added the `FULL` modifier."),
        (
            "7.0.0",
            "Added the `max-deleted-entry-id`, `entries-added`, \
                   `recorded-first-entry-id`, `entries-read` and `lag` fields",
        ),
    ],
    arguments: &[
        key("key", 0),
        block("full", &[integer("count").token("COUNT").optional()])
            .token("FULL")
            .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XLEN: Docs = Docs {
    summary: "Return the number of entries in a stream",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static XPENDING: Docs = Docs {
    summary: "Return information and entries from a stream consumer group pending entries \
              list, that are messages fetched but never acknowledged.",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some(
        "O(N) with N being the number of elements returned, so asking for a \
                      small fixed number of entries per call is O(1). O(M), where M is the \
                      total number of entries scanned when used with the IDLE filter. When \
                      the command returns just the summary and the list of consumers is \
                      small, it runs in O(1) time; otherwise, an additional O(N) time for \
                      iterating every consumer.",
    ),
    history: &[(
        "6.2.0",
        "Added the `IDLE` option and exclusive range intervals.",
    )],
    arguments: &[
        key("key", 0),
        string("group"),
        block(
            "filters",
            &[
                integer("min-idle-time")
                    .token("IDLE")
                    .since("6.2.0")
                    .optional(),
                string("start"),
                string("end"),
                integer("count"),
                string("consumer").optional(),
            ],
        )
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XRANGE: Docs = Docs {
    summary: "Return a range of elements in a stream, with IDs matching the specified IDs \
              interval",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some(
        "O(N) with N being the number of elements being returned. If N is \
                      constant (e.g. always asking for the first 10 elements with COUNT), you \
                      can consider it O(1).",
    ),
    history: &[("6.2.0", "Added exclusive ranges.")],
    arguments: &[
        key("key", 0),
        string("start"),
        string("end"),
        integer("count").token("COUNT").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XREAD: Docs = Docs {
    summary: "Return never seen elements in multiple streams, with IDs greater than the ones \
              reported by the caller for each stream. Can block.",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some(
        "For each stream mentioned: O(N) with N being the number of elements \
                      being returned, it means that XREAD-ing with a fixed COUNT is O(1). \
                      Note that when the BLOCK option is used, XADD will pay O(M) time in \
                      order to serve the M clients blocked on the stream getting new data.",
    ),
    arguments: &[
        integer("count").token("COUNT").optional(),
        integer("milliseconds").token("BLOCK").optional(),
        block(
            "streams",
            &[key("key", 0).multiple(), string("id").multiple()],
        )
        .token("STREAMS"),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XREADGROUP: Docs = Docs {
    summary: "Return new entries from a stream using a consumer group, or access the history \
              of the pending entries for a given consumer. Can block.",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some(
        "For each stream mentioned: O(M) with M being the number of elements \
                      returned. If M is constant (e.g. always asking for the first 10 \
                      elements with COUNT), you can consider it O(1). On the other side when \
                      XREADGROUP blocks, XADD will pay the O(N) time in order to serve the N \
                      clients blocked on the stream getting new data.",
    ),
    arguments: &[
        block("group_consumer", &[string("group"), string("consumer")]).token("GROUP"),
        integer("count").token("COUNT").optional(),
        integer("milliseconds").token("BLOCK").optional(),
        pure_token("noack", "NOACK").optional(),
        block(
            "streams",
            &[key("key", 0).multiple(), string("id").multiple()],
        )
        .token("STREAMS"),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XREVRANGE: Docs = Docs {
    summary: "Return a range of elements in a stream, with IDs matching the specified IDs \
              interval, in reverse order (from greater to smaller IDs) compared to XRANGE",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some(
        "O(N) with N being the number of elements returned. If N is constant \
                      (e.g. always asking for the first 10 elements with COUNT), you can \
                      consider it O(1).",
    ),
    history: &[("6.2.0", "Added exclusive ranges.")],
    arguments: &[
        key("key", 0),
        string("end"),
        string("start"),
        integer("count").token("COUNT").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XSETID: Docs = Docs {
    summary: "An internal command for replicating stream values",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some("O(1)"),
    history: &[(
        "7.0.0",
        "Added the `entries_added` and `max_deleted_entry_id` arguments.",
    )],
    arguments: &[
        key("key", 0),
        string("last-id"),
        integer("entries_added")
            .token("ENTRIESADDED")
            .since("7.0.0")
            .optional(),
        string("max_deleted_entry_id")
            .token("MAXDELETEDID")
            .since("7.0.0")
            .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static XTRIM: Docs = Docs {
    summary: "Trims the stream to (approximately if '~' is passed) a certain size",
    since: "5.0.0",
    group: Group::Stream,
    complexity: Some(
        "O(N), with N being the number of evicted entries. Constant times are \
                      very small however, since entries are organized in macro nodes \
                      containing multiple entries that can be released with a single \
                      deallocation.",
    ),
    history: &[(
        "6.2.0",
        "Added the `MINID` trimming strategy and the `LIMIT` option.",
    )],
    arguments: &[
        key("key", 0),
        block(
            "trim",
            &[
                one_of(
                    "strategy",
                    &[
                        pure_token("maxlen", "MAXLEN"),
                        pure_token("minid", "MINID").since("6.2.0"),
                    ],
                ),
                one_of(
                    "operator",
                    &[pure_token("equal", "="), pure_token("approximately", "~")],
                )
                .optional(),
                string("threshold"),
                integer("count").token("LIMIT").since("6.2.0").optional(),
            ],
        ),
    ],
    ..Docs::EMPTY
};
