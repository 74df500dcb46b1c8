//! Hash commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static HDEL: Docs = Docs {
    summary: "Delete one or more hash fields",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some("O(N) where N is the number of fields to be removed."),
    history: &[("2.4.0", "Accepts multiple `field` arguments.")],
    arguments: &[key("key", 0), string("field").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static HEXISTS: Docs = Docs {
    summary: "Determine if a hash field exists",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("field")],
    ..Docs::EMPTY
};

pub(in crate::command) static HGET: Docs = Docs {
    summary: "Get the value of a hash field",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("field")],
    ..Docs::EMPTY
};

pub(in crate::command) static HGETALL: Docs = Docs {
    summary: "Get all the fields and values in a hash",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some("O(N) where N is the size of the hash."),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static HINCRBY: Docs = Docs {
    summary: "Increment the integer value of a hash field by the given number",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("field"), integer("increment")],
    ..Docs::EMPTY
};

pub(in crate::command) static HINCRBYFLOAT: Docs = Docs {
    summary: "Increment the float value of a hash field by the given amount",
    since: "2.6.0",
    group: Group::Hash,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("field"), double("increment")],
    ..Docs::EMPTY
};

pub(in crate::command) static HKEYS: Docs = Docs {
    summary: "Get all the fields in a hash",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some("O(N) where N is the size of the hash."),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static HLEN: Docs = Docs {
    summary: "Get the number of fields in a hash",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static HMGET: Docs = Docs {
    summary: "Get the values of all the given hash fields",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some("O(N) where N is the number of fields being requested."),
    arguments: &[key("key", 0), string("field").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static HMSET: Docs = Docs {
    summary: "Set multiple hash fields to multiple values",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some("O(N) where N is the number of fields being set."),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("4.0.0"),
    replaced_by: Some("`HSET` with multiple field-value pairs"),
    arguments: &[
        key("key", 0),
        block("field_value", &[string("field"), string("value")]).multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static HRANDFIELD: Docs = Docs {
    summary: "Get one or multiple random fields from a hash",
    since: "6.2.0",
    group: Group::Hash,
    complexity: Some("O(N) where N is the number of fields returned"),
    arguments: &[
        key("key", 0),
        block(
            "options",
            &[
                integer("count"),
                pure_token("withvalues", "WITHVALUES").optional(),
            ],
        )
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static HSCAN: Docs = Docs {
    summary: "Incrementally iterate hash fields and associated values",
    since: "2.8.0",
    group: Group::Hash,
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

pub(in crate::command) static HSET: Docs = Docs {
    summary: "Set the string value of a hash field",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some(
        "O(1) for each field/value pair added, so O(N) to add N field/value \
                      pairs when the command is called with multiple field/value pairs.",
    ),
    history: &[("4.0.0", "Accepts multiple `field` and `value` arguments.")],
    arguments: &[
        key("key", 0),
        block("field_value", &[string("field"), string("value")]).multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static HSETNX: Docs = Docs {
    summary: "Set the value of a hash field, only if the field does not exist",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("field"), string("value")],
    ..Docs::EMPTY
};

pub(in crate::command) static HSTRLEN: Docs = Docs {
    summary: "Get the length of the value of a hash field",
    since: "3.2.0",
    group: Group::Hash,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("field")],
    ..Docs::EMPTY
};

pub(in crate::command) static HVALS: Docs = Docs {
    summary: "Get all the values in a hash",
    since: "2.0.0",
    group: Group::Hash,
    complexity: Some("O(N) where N is the size of the hash."),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};
