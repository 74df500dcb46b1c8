//! String commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static APPEND: Docs = Docs {
    summary: "Append a value to a key",
    since: "2.0.0",
    group: Group::String,
    complexity: Some(
        "O(1). The amortized time complexity is O(1) assuming the appended value \
                      is small and the already present value is of any size, since the \
                      dynamic string library used by Redis will double the free space \
                      available on every reallocation.",
    ),
    arguments: &[key("key", 0), string("value")],
    ..Docs::EMPTY
};

pub(in crate::command) static DECR: Docs = Docs {
    summary: "Decrement the integer value of a key by one",
    since: "1.0.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static DECRBY: Docs = Docs {
    summary: "Decrement the integer value of a key by the given number",
    since: "1.0.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), integer("decrement")],
    ..Docs::EMPTY
};

pub(in crate::command) static GET: Docs = Docs {
    summary: "Get the value of a key",
    since: "1.0.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static GETDEL: Docs = Docs {
    summary: "Get the value of a key and delete the key",
    since: "6.2.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static GETEX: Docs = Docs {
    summary: "Get the value of a key and optionally set its expiration",
    since: "6.2.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[
        key("key", 0),
        one_of(
            "expiration",
            &[
                integer("seconds").token("EX"),
                integer("milliseconds").token("PX"),
                unix_time("unix-time-seconds").token("EXAT"),
                unix_time("unix-time-milliseconds").token("PXAT"),
                pure_token("persist", "PERSIST"),
            ],
        )
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static GETRANGE: Docs = Docs {
    summary: "Get a substring of the string stored at a key",
    since: "2.4.0",
    group: Group::String,
    complexity: Some(
        "O(N) where N is the length of the returned string. The complexity is \
                      ultimately determined by the returned length, but because creating a \
                      substring from an existing string is very cheap, it can be considered \
                      O(1) for small strings.",
    ),
    arguments: &[key("key", 0), integer("start"), integer("end")],
    ..Docs::EMPTY
};

pub(in crate::command) static GETSET: Docs = Docs {
    summary: "Set the string value of a key and return its old value",
    since: "1.0.0",
    group: Group::String,
    complexity: Some("O(1)"),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some("`SET` with the `!GET` argument"),
    arguments: &[key("key", 0), string("value")],
    ..Docs::EMPTY
};

pub(in crate::command) static INCR: Docs = Docs {
    summary: "Increment the integer value of a key by one",
    since: "1.0.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static INCRBY: Docs = Docs {
    summary: "Increment the integer value of a key by the given amount",
    since: "1.0.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), integer("increment")],
    ..Docs::EMPTY
};

pub(in crate::command) static INCRBYFLOAT: Docs = Docs {
    summary: "Increment the float value of a key by the given amount",
    since: "2.6.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), double("increment")],
    ..Docs::EMPTY
};

pub(in crate::command) static LCS: Docs = Docs {
    summary: "Find longest common substring",
    since: "7.0.0",
    group: Group::String,
    complexity: Some("O(N*M) where N and M are the lengths of s1 and s2, respectively"),
    arguments: &[
        key("key1", 0),
        key("key2", 0),
        pure_token("len", "LEN").optional(),
        pure_token("idx", "IDX").optional(),
        integer("len").token("MINMATCHLEN").optional(),
        pure_token("withmatchlen", "WITHMATCHLEN").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static MGET: Docs = Docs {
    summary: "Get the values of all the given keys",
    since: "1.0.0",
    group: Group::String,
    complexity: Some("O(N) where N is the number of keys to retrieve."),
    arguments: &[key("key", 0).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static MSET: Docs = Docs {
    summary: "Set multiple keys to multiple values",
    since: "1.0.1",
    group: Group::String,
    complexity: Some("O(N) where N is the number of keys to set."),
    arguments: &[block("key_value", &[key("key", 0), string("value")]).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static MSETNX: Docs = Docs {
    summary: "Set multiple keys to multiple values, only if none of the keys exist",
    since: "1.0.1",
    group: Group::String,
    complexity: Some("O(N) where N is the number of keys to set."),
    arguments: &[block("key_value", &[key("key", 0), string("value")]).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static PSETEX: Docs = Docs {
    summary: "Set the value and expiration in milliseconds of a key",
    since: "2.6.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), integer("milliseconds"), string("value")],
    ..Docs::EMPTY
};

pub(in crate::command) static SET: Docs = Docs {
    summary: "Set the string value of a key",
    since: "1.0.0",
    group: Group::String,
    complexity: Some("O(1)"),
    history: &[
        ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
        ("6.0.0", "Added the `KEEPTTL` option."),
        ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
        (
            "7.0.0",
            "Allowed the `NX` and `GET` options to be used together.",
        ),
    ],
    arguments: &[
        key("key", 0),
        string("value"),
        one_of(
            "condition",
            &[pure_token("nx", "NX"), pure_token("xx", "XX")],
        )
        .since("2.6.12")
        .optional(),
        pure_token("get", "GET").since("6.2.0").optional(),
        one_of(
            "expiration",
            &[
                integer("seconds").token("EX").since("2.6.12"),
                integer("milliseconds").token("PX").since("2.6.12"),
                unix_time("unix-time-seconds").token("EXAT").since("6.2.0"),
                unix_time("unix-time-milliseconds")
                    .token("PXAT")
                    .since("6.2.0"),
                pure_token("keepttl", "KEEPTTL").since("6.0.0"),
            ],
        )
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static SETEX: Docs = Docs {
    summary: "Set the value and expiration of a key",
    since: "2.0.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), integer("seconds"), string("value")],
    ..Docs::EMPTY
};

pub(in crate::command) static SETNX: Docs = Docs {
    summary: "Set the value of a key, only if the key does not exist",
    since: "1.0.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("value")],
    ..Docs::EMPTY
};

pub(in crate::command) static SETRANGE: Docs = Docs {
    summary: "Overwrite part of a string at key starting at the specified offset",
    since: "2.2.0",
    group: Group::String,
    complexity: Some(
        "O(1), not counting the time taken to copy the new string in place. \
                      Usually, this string is very small so the amortized complexity is O(1). \
                      Otherwise, complexity is O(M) with M being the length of the value \
                      argument.",
    ),
    arguments: &[key("key", 0), integer("offset"), string("value")],
    ..Docs::EMPTY
};

pub(in crate::command) static STRLEN: Docs = Docs {
    summary: "Get the length of the value stored in a key",
    since: "2.2.0",
    group: Group::String,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static SUBSTR: Docs = Docs {
    summary: "Get a substring of the string stored at a key",
    since: "1.0.0",
    group: Group::String,
    complexity: Some(
        "O(N) where N is the length of the returned string. The complexity is \
                      ultimately determined by the returned length, but because creating a \
                      substring from an existing string is very cheap, it can be considered \
                      O(1) for small strings.",
    ),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("2.0.0"),
    replaced_by: Some("`GETRANGE`"),
    arguments: &[key("key", 0), integer("start"), integer("end")],
    ..Docs::EMPTY
};
