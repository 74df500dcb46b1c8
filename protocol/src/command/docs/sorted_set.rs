//! Sorted set commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static BZMPOP: Docs = Docs {
    summary: "Remove and return members with scores in a sorted set or block until one is \
              available",
    since: "7.0.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(K) + O(M*log(N)) where K is the number of provided keys, N being the \
                      number of elements in the sorted set, and M being the number of \
                      elements popped.",
    ),
    arguments: &[
        double("timeout"),
        integer("numkeys"),
        key("key", 0).multiple(),
        one_of(
            "where",
            &[pure_token("min", "MIN"), pure_token("max", "MAX")],
        ),
        integer("count").token("COUNT").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static BZPOPMAX: Docs = Docs {
    summary: "Remove and return the member with the highest score from one or more sorted \
              sets, or block until one is available",
    since: "5.0.0",
    group: Group::SortedSet,
    complexity: Some("O(log(N)) with N being the number of elements in the sorted set."),
    history: &[(
        "6.0.0",
        "`timeout` is interpreted as a double instead of an integer.",
    )],
    arguments: &[key("key", 0).multiple(), double("timeout")],
    ..Docs::EMPTY
};

pub(in crate::command) static BZPOPMIN: Docs = Docs {
    summary: "Remove and return the member with the lowest score from one or more sorted \
              sets, or block until one is available",
    since: "5.0.0",
    group: Group::SortedSet,
    complexity: Some("O(log(N)) with N being the number of elements in the sorted set."),
    history: &[(
        "6.0.0",
        "`timeout` is interpreted as a double instead of an integer.",
    )],
    arguments: &[key("key", 0).multiple(), double("timeout")],
    ..Docs::EMPTY
};

pub(in crate::command) static ZADD: Docs = Docs {
    summary: "Add one or more members to a sorted set, or update its score if it already \
              exists",
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)) for each item added, where N is the number of elements in the \
                      sorted set.",
    ),
    history: &[
        ("2.4.0", "Accepts multiple elements."),
        ("3.0.2", "Added the `XX`, `NX`, `CH` and `INCR` options."),
        ("6.2.0", "Added the `GT` and `LT` options."),
    ],
    arguments: &[
        key("key", 0),
        one_of(
            "condition",
            &[pure_token("nx", "NX"), pure_token("xx", "XX")],
        )
        .since("3.0.2")
        .optional(),
        one_of(
            "comparison",
            &[pure_token("gt", "GT"), pure_token("lt", "LT")],
        )
        .since("6.2.0")
        .optional(),
        pure_token("change", "CH").since("3.0.2").optional(),
        pure_token("increment", "INCR").since("3.0.2").optional(),
        block("score_member", &[double("score"), string("member")]).multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZCARD: Docs = Docs {
    summary: "Get the number of members in a sorted set",
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static ZCOUNT: Docs = Docs {
    summary: "Count the members in a sorted set with scores within the given values",
    since: "2.0.0",
    group: Group::SortedSet,
    complexity: Some("O(log(N)) with N being the number of elements in the sorted set."),
    arguments: &[key("key", 0), double("min"), double("max")],
    ..Docs::EMPTY
};

pub(in crate::command) static ZDIFF: Docs = Docs {
    summary: "Subtract multiple sorted sets",
    since: "6.2.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(L + (N-K)log(N)) worst case where L is the total number of elements \
                      in all the sets, N is the size of the first set, and K is the size of \
                      the result set.",
    ),
    arguments: &[
        integer("numkeys"),
        key("key", 0).multiple(),
        pure_token("withscores", "WITHSCORES").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZDIFFSTORE: Docs = Docs {
    summary: "Subtract multiple sorted sets and store the resulting sorted set in a new key",
    since: "6.2.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(L + (N-K)log(N)) worst case where L is the total number of elements \
                      in all the sets, N is the size of the first set, and K is the size of \
                      the result set.",
    ),
    arguments: &[
        key("destination", 0),
        integer("numkeys"),
        key("key", 1).multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZINCRBY: Docs = Docs {
    summary: "Increment the score of a member in a sorted set",
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: Some("O(log(N)) where N is the number of elements in the sorted set."),
    arguments: &[key("key", 0), integer("increment"), string("member")],
    ..Docs::EMPTY
};

pub(in crate::command) static ZINTER: Docs = Docs {
    summary: "Intersect multiple sorted sets",
    since: "6.2.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted \
                      set, K being the number of input sorted sets and M being the number of \
                      elements in the resulting sorted set.",
    ),
    arguments: &[
        integer("numkeys"),
        key("key", 0).multiple(),
        integer("weight").token("WEIGHTS").optional().multiple(),
        one_of(
            "aggregate",
            &[
                pure_token("sum", "SUM"),
                pure_token("min", "MIN"),
                pure_token("max", "MAX"),
            ],
        )
        .token("AGGREGATE")
        .optional(),
        pure_token("withscores", "WITHSCORES").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZINTERCARD: Docs = Docs {
    summary: "Intersect multiple sorted sets and return the cardinality of the result",
    since: "7.0.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(N*K) worst case with N being the smallest input sorted set, K being \
                      the number of input sorted sets.",
    ),
    arguments: &[
        integer("numkeys"),
        key("key", 0).multiple(),
        integer("limit").token("LIMIT").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZINTERSTORE: Docs = Docs {
    summary: "Intersect multiple sorted sets and store the resulting sorted set in a new key",
    since: "2.0.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted \
                      set, K being the number of input sorted sets and M being the number of \
                      elements in the resulting sorted set.",
    ),
    arguments: &[
        key("destination", 0),
        integer("numkeys"),
        key("key", 1).multiple(),
        integer("weight").token("WEIGHTS").optional().multiple(),
        one_of(
            "aggregate",
            &[
                pure_token("sum", "SUM"),
                pure_token("min", "MIN"),
                pure_token("max", "MAX"),
            ],
        )
        .token("AGGREGATE")
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZLEXCOUNT: Docs = Docs {
    summary: "Count the number of members in a sorted set between a given lexicographical \
              range",
    since: "2.8.9",
    group: Group::SortedSet,
    complexity: Some("O(log(N)) with N being the number of elements in the sorted set."),
    arguments: &[key("key", 0), string("min"), string("max")],
    ..Docs::EMPTY
};

pub(in crate::command) static ZMPOP: Docs = Docs {
    summary: "Remove and return members with scores in a sorted set",
    since: "7.0.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(K) + O(M*log(N)) where K is the number of provided keys, N being the \
                      number of elements in the sorted set, and M being the number of \
                      elements popped.",
    ),
    arguments: &[
        integer("numkeys"),
        key("key", 0).multiple(),
        one_of(
            "where",
            &[pure_token("min", "MIN"), pure_token("max", "MAX")],
        ),
        integer("count").token("COUNT").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZMSCORE: Docs = Docs {
    summary: "Get the score associated with the given members in a sorted set",
    since: "6.2.0",
    group: Group::SortedSet,
    complexity: Some("O(N) where N is the number of members being requested."),
    arguments: &[key("key", 0), string("member").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static ZPOPMAX: Docs = Docs {
    summary: "Remove and return members with the highest scores in a sorted set",
    since: "5.0.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)*M) with N being the number of elements in the sorted set, and \
                      M being the number of elements popped.",
    ),
    arguments: &[key("key", 0), integer("count").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static ZPOPMIN: Docs = Docs {
    summary: "Remove and return members with the lowest scores in a sorted set",
    since: "5.0.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)*M) with N being the number of elements in the sorted set, and \
                      M being the number of elements popped.",
    ),
    arguments: &[key("key", 0), integer("count").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static ZRANDMEMBER: Docs = Docs {
    summary: "Get one or multiple random elements from a sorted set",
    since: "6.2.0",
    group: Group::SortedSet,
    complexity: Some("O(N) where N is the number of elements returned"),
    arguments: &[
        key("key", 0),
        block(
            "options",
            &[
                integer("count"),
                pure_token("withscores", "WITHSCORES").optional(),
            ],
        )
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZRANGE: Docs = Docs {
    summary: "Return a range of members in a sorted set",
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)+M) with N being the number of elements in the sorted set and M \
                      the number of elements returned.",
    ),
    history: &[(
        "6.2.0",
        "Added the `REV`, `BYSCORE`, `BYLEX` and `LIMIT` options.",
    )],
    arguments: &[
        key("key", 0),
        string("start"),
        string("stop"),
        one_of(
            "sortby",
            &[
                pure_token("byscore", "BYSCORE"),
                pure_token("bylex", "BYLEX"),
            ],
        )
        .since("6.2.0")
        .optional(),
        pure_token("rev", "REV").since("6.2.0").optional(),
        block("offset_count", &[integer("offset"), integer("count")])
            .token("LIMIT")
            .since("6.2.0")
            .optional(),
        pure_token("withscores", "WITHSCORES").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZRANGEBYLEX: Docs = Docs {
    summary: "Return a range of members in a sorted set, by lexicographical range",
    since: "2.8.9",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)+M) with N being the number of elements in the sorted set and M \
                      the number of elements being returned. If M is constant (e.g. always \
                      asking for the first 10 elements with LIMIT), you can consider it \
                      O(log(N)).",
    ),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some("`ZRANGE` with the `BYLEX` argument"),
    arguments: &[
        key("key", 0),
        string("min"),
        string("max"),
        block("offset_count", &[integer("offset"), integer("count")])
            .token("LIMIT")
            .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZRANGEBYSCORE: Docs = Docs {
    summary: "Return a range of members in a sorted set, by score",
    since: "1.0.5",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)+M) with N being the number of elements in the sorted set and M \
                      the number of elements being returned. If M is constant (e.g. always \
                      asking for the first 10 elements with LIMIT), you can consider it \
                      O(log(N)).",
    ),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some("`ZRANGE` with the `BYSCORE` argument"),
    history: &[("2.0.0", "Added the `WITHSCORES` modifier.")],
    arguments: &[
        key("key", 0),
        double("min"),
        double("max"),
        pure_token("withscores", "WITHSCORES")
            .since("2.0.0")
            .optional(),
        block("offset_count", &[integer("offset"), integer("count")])
            .token("LIMIT")
            .optional(),
    ],
};

pub(in crate::command) static ZRANGESTORE: Docs = Docs {
    summary: "Store a range of members from sorted set into another key",
    since: "6.2.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)+M) with N being the number of elements in the sorted set and M \
                      the number of elements stored into the destination key.",
    ),
    arguments: &[
        key("dst", 0),
        key("src", 1),
        string("min"),
        string("max"),
        one_of(
            "sortby",
            &[
                pure_token("byscore", "BYSCORE"),
                pure_token("bylex", "BYLEX"),
            ],
        )
        .optional(),
        pure_token("rev", "REV").optional(),
        block("offset_count", &[integer("offset"), integer("count")])
            .token("LIMIT")
            .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZRANK: Docs = Docs {
    summary: "Determine the index of a member in a sorted set",
    since: "2.0.0",
    group: Group::SortedSet,
    complexity: Some("O(log(N))"),
    arguments: &[key("key", 0), string("member")],
    ..Docs::EMPTY
};

pub(in crate::command) static ZREM: Docs = Docs {
    summary: "Remove one or more members from a sorted set",
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(M*log(N)) with N being the number of elements in the sorted set and M \
                      the number of elements to be removed.",
    ),
    history: &[("2.4.0", "Accepts multiple elements.")],
    arguments: &[key("key", 0), string("member").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static ZREMRANGEBYLEX: Docs = Docs {
    summary: "Remove all members in a sorted set between the given lexicographical range",
    since: "2.8.9",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)+M) with N being the number of elements in the sorted set and M \
                      the number of elements removed by the operation.",
    ),
    arguments: &[key("key", 0), string("min"), string("max")],
    ..Docs::EMPTY
};

pub(in crate::command) static ZREMRANGEBYRANK: Docs = Docs {
    summary: "Remove all members in a sorted set within the given indexes",
    since: "2.0.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)+M) with N being the number of elements in the sorted set and M \
                      the number of elements removed by the operation.",
    ),
    arguments: &[key("key", 0), integer("start"), integer("stop")],
    ..Docs::EMPTY
};

pub(in crate::command) static ZREMRANGEBYSCORE: Docs = Docs {
    summary: "Remove all members in a sorted set within the given scores",
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)+M) with N being the number of elements in the sorted set and M \
                      the number of elements removed by the operation.",
    ),
    arguments: &[key("key", 0), double("min"), double("max")],
    ..Docs::EMPTY
};

pub(in crate::command) static ZREVRANGE: Docs = Docs {
    summary: "Return a range of members in a sorted set, by index, with scores ordered from \
              high to low",
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)+M) with N being the number of elements in the sorted set and M \
                      the number of elements returned.",
    ),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some("`ZRANGE` with the `REV` argument"),
    arguments: &[
        key("key", 0),
        integer("start"),
        integer("stop"),
        pure_token("withscores", "WITHSCORES").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZREVRANGEBYLEX: Docs = Docs {
    summary: "Return a range of members in a sorted set, by lexicographical range, ordered \
              from higher to lower strings.",
    since: "2.8.9",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)+M) with N being the number of elements in the sorted set and M \
                      the number of elements being returned. If M is constant (e.g. always \
                      asking for the first 10 elements with LIMIT), you can consider it \
                      O(log(N)).",
    ),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some("`ZRANGE` with the `REV` and `BYLEX` arguments"),
    arguments: &[
        key("key", 0),
        string("max"),
        string("min"),
        block("offset_count", &[integer("offset"), integer("count")])
            .token("LIMIT")
            .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZREVRANGEBYSCORE: Docs = Docs {
    summary: "Return a range of members in a sorted set, by score, with scores ordered from \
              high to low",
    since: "2.2.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(log(N)+M) with N being the number of elements in the sorted set and M \
                      the number of elements being returned. If M is constant (e.g. always \
                      asking for the first 10 elements with LIMIT), you can consider it \
                      O(log(N)).",
    ),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some("`ZRANGE` with the `REV` and `BYSCORE` arguments"),
    history: &[("2.1.6", "`min` and `max` can be exclusive.")],
    arguments: &[
        key("key", 0),
        double("max"),
        double("min"),
        pure_token("withscores", "WITHSCORES").optional(),
        block("offset_count", &[integer("offset"), integer("count")])
            .token("LIMIT")
            .optional(),
    ],
};

pub(in crate::command) static ZREVRANK: Docs = Docs {
    summary: "Determine the index of a member in a sorted set, with scores ordered from high \
              to low",
    since: "2.0.0",
    group: Group::SortedSet,
    complexity: Some("O(log(N))"),
    arguments: &[key("key", 0), string("member")],
    ..Docs::EMPTY
};

pub(in crate::command) static ZSCAN: Docs = Docs {
    summary: "Incrementally iterate sorted sets elements and associated scores",
    since: "2.8.0",
    group: Group::SortedSet,
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

pub(in crate::command) static ZSCORE: Docs = Docs {
    summary: "Get the score associated with the given member in a sorted set",
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), string("member")],
    ..Docs::EMPTY
};

pub(in crate::command) static ZUNION: Docs = Docs {
    summary: "Add multiple sorted sets",
    since: "6.2.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted \
                      sets, and M being the number of elements in the resulting sorted set.",
    ),
    arguments: &[
        integer("numkeys"),
        key("key", 0).multiple(),
        integer("weight").token("WEIGHTS").optional().multiple(),
        one_of(
            "aggregate",
            &[
                pure_token("sum", "SUM"),
                pure_token("min", "MIN"),
                pure_token("max", "MAX"),
            ],
        )
        .token("AGGREGATE")
        .optional(),
        pure_token("withscores", "WITHSCORES").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static ZUNIONSTORE: Docs = Docs {
    summary: "Add multiple sorted sets and store the resulting sorted set in a new key",
    since: "2.0.0",
    group: Group::SortedSet,
    complexity: Some(
        "O(N)+O(M log(M)) with N being the sum of the sizes of the input sorted \
                      sets, and M being the number of elements in the resulting sorted set.",
    ),
    arguments: &[
        key("destination", 0),
        integer("numkeys"),
        key("key", 1).multiple(),
        integer("weight").token("WEIGHTS").optional().multiple(),
        one_of(
            "aggregate",
            &[
                pure_token("sum", "SUM"),
                pure_token("min", "MIN"),
                pure_token("max", "MAX"),
            ],
        )
        .token("AGGREGATE")
        .optional(),
    ],
    ..Docs::EMPTY
};
