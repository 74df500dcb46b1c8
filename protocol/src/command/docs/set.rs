//! Set commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static SADD: Docs = Docs {
    summary: "Add one or more members to a set",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some(
        "O(1) for each element added, so O(N) to add N elements when the command \
                      is called with multiple arguments.",
    ),
    history: &[("2.4.0", "Accepts multiple `member` arguments.")],
    arguments: &[key("key", 0), string("member").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SCARD: Docs = Docs {
    summary: "Get the number of members in a set",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static SDIFF: Docs = Docs {
    summary: "Subtract multiple sets",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some("O(N) where N is the total number of elements in all given sets."),
    arguments: &[key("key", 0).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SDIFFSTORE: Docs = Docs {
    summary: "Subtract multiple sets and store the resulting set in a key",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some("O(N) where N is the total number of elements in all given sets."),
    arguments: &[key("destination", 0), key("key", 1).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SINTER: Docs = Docs {
    summary: "Intersect multiple sets",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some(
        "O(N*M) worst case where N is the cardinality of the smallest set and M \
                      is the number of sets.",
    ),
    arguments: &[key("key", 0).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SINTERCARD: Docs = Docs {
    summary: "Intersect multiple sets and return the cardinality of the result",
    since: "7.0.0",
    group: Group::Set,
    complexity: Some(
        "O(N*M) worst case where N is the cardinality of the smallest set and M \
                      is the number of sets.",
    ),
    arguments: &[
        integer("numkeys"),
        key("key", 0).multiple(),
        integer("limit").token("LIMIT").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static SINTERSTORE: Docs = Docs {
    summary: "Intersect multiple sets and store the resulting set in a key",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some(
        "O(N*M) worst case where N is the cardinality of the smallest set and M \
                      is the number of sets.",
    ),
    arguments: &[key("destination", 0), key("key", 1).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SISMEMBER: Docs = Docs {
    summary: "Determine if a given value is a member of a set",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("member")],
    ..Docs::EMPTY
};

pub(in crate::command) static SMEMBERS: Docs = Docs {
    summary: "Get all the members in a set",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some("O(N) where N is the set cardinality."),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static SMISMEMBER: Docs = Docs {
    summary: "Returns the membership associated with the given elements for a set",
    since: "6.2.0",
    group: Group::Set,
    complexity: Some("O(N) where N is the number of elements being checked for membership"),
    arguments: &[key("key", 0), string("member").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SMOVE: Docs = Docs {
    summary: "Move a member from one set to another",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some("O(1)"),
    arguments: &[key("source", 0), key("destination", 1), string("member")],
    ..Docs::EMPTY
};

pub(in crate::command) static SPOP: Docs = Docs {
    summary: "Remove and return one or multiple random members from a set",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some(
        "Without the count argument O(1), otherwise O(N) where N is the value of \
                      the passed count.",
    ),
    history: &[("3.2.0", "Added the `count` argument.")],
    arguments: &[key("key", 0), integer("count").since("3.2.0").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static SRANDMEMBER: Docs = Docs {
    summary: "Get one or multiple random members from a set",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some(
        "Without the count argument O(1), otherwise O(N) where N is the absolute \
                      value of the passed count.",
    ),
    history: &[("2.6.0", "Added the optional `count` argument.")],
    arguments: &[key("key", 0), integer("count").since("2.6.0").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static SREM: Docs = Docs {
    summary: "Remove one or more members from a set",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some("O(N) where N is the number of members to be removed."),
    history: &[("2.4.0", "Accepts multiple `member` arguments.")],
    arguments: &[key("key", 0), string("member").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SSCAN: Docs = Docs {
    summary: "Incrementally iterate Set elements",
    since: "2.8.0",
    group: Group::Set,
    complexity: Some(
        "O(1) for every call. O(N) for a complete iteration, including enough \
                      command calls for the cursor to return back to 0. N is the number of \
                      elements inside the collection..",
    ),
    arguments: &[
        key("key", 0),
        integer("cursor"),
        pattern("pattern").token("MATCH").optional(),
        integer("count").token("COUNT").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static SUNION: Docs = Docs {
    summary: "Add multiple sets",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some("O(N) where N is the total number of elements in all given sets."),
    arguments: &[key("key", 0).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SUNIONSTORE: Docs = Docs {
    summary: "Add multiple sets and store the resulting set in a key",
    since: "1.0.0",
    group: Group::Set,
    complexity: Some("O(N) where N is the total number of elements in all given sets."),
    arguments: &[key("destination", 0), key("key", 1).multiple()],
    ..Docs::EMPTY
};
