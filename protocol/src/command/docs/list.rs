//! List commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static BLMOVE: Docs = Docs {
    summary: "Pop an element from a list, push it to another list and return it; or block \
              until one is available",
    since: "6.2.0",
    group: Group::List,
    complexity: Some("O(1)"),
    arguments: &[
        key("source", 0),
        key("destination", 1),
        one_of(
            "wherefrom",
            &[pure_token("left", "LEFT"), pure_token("right", "RIGHT")],
        ),
        one_of(
            "whereto",
            &[pure_token("left", "LEFT"), pure_token("right", "RIGHT")],
        ),
        double("timeout"),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static BLMPOP: Docs = Docs {
    summary: "Pop elements from a list, or block until one is available",
    since: "7.0.0",
    group: Group::List,
    complexity: Some(
        "O(N+M) where N is the number of provided keys and M is the number of \
                      elements returned.",
    ),
    arguments: &[
        double("timeout"),
        integer("numkeys"),
        key("key", 0).multiple(),
        one_of(
            "where",
            &[pure_token("left", "LEFT"), pure_token("right", "RIGHT")],
        ),
        integer("count").token("COUNT").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static BLPOP: Docs = Docs {
    summary: "Remove and get the first element in a list, or block until one is available",
    since: "2.0.0",
    group: Group::List,
    complexity: Some("O(N) where N is the number of provided keys."),
    history: &[(
        "6.0.0",
        "`timeout` is interpreted as a double instead of an integer.",
    )],
    arguments: &[key("key", 0).multiple(), double("timeout")],
    ..Docs::EMPTY
};

pub(in crate::command) static BRPOP: Docs = Docs {
    summary: "Remove and get the last element in a list, or block until one is available",
    since: "2.0.0",
    group: Group::List,
    complexity: Some("O(N) where N is the number of provided keys."),
    history: &[(
        "6.0.0",
        "`timeout` is interpreted as a double instead of an integer.",
    )],
    arguments: &[key("key", 0).multiple(), double("timeout")],
    ..Docs::EMPTY
};

pub(in crate::command) static BRPOPLPUSH: Docs = Docs {
    summary: "Pop an element from a list, push it to another list and return it; or block \
              until one is available",
    since: "2.2.0",
    group: Group::List,
    complexity: Some("O(1)"),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some("`BLMOVE` with the `RIGHT` and `LEFT` arguments"),
    history: &[(
        "6.0.0",
        "`timeout` is interpreted as a double instead of an integer.",
    )],
    arguments: &[key("source", 0), key("destination", 1), double("timeout")],
};

pub(in crate::command) static LINDEX: Docs = Docs {
    summary: "Get an element from a list by its index",
    since: "1.0.0",
    group: Group::List,
    complexity: Some(
        "O(N) where N is the number of elements to traverse to get to the \
                      element at index. This makes asking for the first or the last element \
                      of the list O(1).",
    ),
    arguments: &[key("key", 0), integer("index")],
    ..Docs::EMPTY
};

pub(in crate::command) static LINSERT: Docs = Docs {
    summary: "Insert an element before or after another element in a list",
    since: "2.2.0",
    group: Group::List,
    complexity: Some(
        "O(N) where N is the number of elements to traverse before seeing the \
                      value pivot. This means that inserting somewhere on the left end on the \
                      list (head) can be considered O(1) and inserting somewhere on the right \
                      end (tail) is O(N).",
    ),
    arguments: &[
        key("key", 0),
        one_of(
            "where",
            &[pure_token("before", "BEFORE"), pure_token("after", "AFTER")],
        ),
        string("pivot"),
        string("element"),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static LLEN: Docs = Docs {
    summary: "Get the length of a list",
    since: "1.0.0",
    group: Group::List,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static LMOVE: Docs = Docs {
    summary: "Pop an element from a list, push it to another list and return it",
    since: "6.2.0",
    group: Group::List,
    complexity: Some("O(1)"),
    arguments: &[
        key("source", 0),
        key("destination", 1),
        one_of(
            "wherefrom",
            &[pure_token("left", "LEFT"), pure_token("right", "RIGHT")],
        ),
        one_of(
            "whereto",
            &[pure_token("left", "LEFT"), pure_token("right", "RIGHT")],
        ),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static LMPOP: Docs = Docs {
    summary: "Pop elements from a list",
    since: "7.0.0",
    group: Group::List,
    complexity: Some(
        "O(N+M) where N is the number of provided keys and M is the number of \
                      elements returned.",
    ),
    arguments: &[
        integer("numkeys"),
        key("key", 0).multiple(),
        one_of(
            "where",
            &[pure_token("left", "LEFT"), pure_token("right", "RIGHT")],
        ),
        integer("count").token("COUNT").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static LPOP: Docs = Docs {
    summary: "Remove and get the first elements in a list",
    since: "1.0.0",
    group: Group::List,
    complexity: Some("O(N) where N is the number of elements returned"),
    history: &[("6.2.0", "Added the `count` argument.")],
    arguments: &[key("key", 0), integer("count").since("6.2.0").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static LPOS: Docs = Docs {
    summary: "Return the index of matching elements on a list",
    since: "6.0.6",
    group: Group::List,
    complexity: Some(
        "O(N) where N is the number of elements in the list, for the average \
                      case. When searching for elements near the head or the tail of the \
                      list, or when the MAXLEN option is provided, the command may run in \
                      constant time.",
    ),
    arguments: &[
        key("key", 0),
        string("element"),
        integer("rank").token("RANK").optional(),
        integer("num-matches").token("COUNT").optional(),
        integer("len").token("MAXLEN").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static LPUSH: Docs = Docs {
    summary: "Prepend one or multiple elements to a list",
    since: "1.0.0",
    group: Group::List,
    complexity: Some(
        "O(1) for each element added, so O(N) to add N elements when the command \
                      is called with multiple arguments.",
    ),
    history: &[("2.4.0", "Accepts multiple `element` arguments.")],
    arguments: &[key("key", 0), string("element").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static LPUSHX: Docs = Docs {
    summary: "Prepend an element to a list, only if the list exists",
    since: "2.2.0",
    group: Group::List,
    complexity: Some(
        "O(1) for each element added, so O(N) to add N elements when the command \
                      is called with multiple arguments.",
    ),
    history: &[("4.0.0", "Accepts multiple `element` arguments.")],
    arguments: &[key("key", 0), string("element").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static LRANGE: Docs = Docs {
    summary: "Get a range of elements from a list",
    since: "1.0.0",
    group: Group::List,
    complexity: Some(
        "O(S+N) where S is the distance of start offset from HEAD for small \
                      lists, from nearest end (HEAD or TAIL) for large lists; and N is the \
                      number of elements in the specified range.",
    ),
    arguments: &[key("key", 0), integer("start"), integer("stop")],
    ..Docs::EMPTY
};

pub(in crate::command) static LREM: Docs = Docs {
    summary: "Remove elements from a list",
    since: "1.0.0",
    group: Group::List,
    complexity: Some(
        "O(N+M) where N is the length of the list and M is the number of \
                      elements removed.",
    ),
    arguments: &[key("key", 0), integer("count"), string("element")],
    ..Docs::EMPTY
};

pub(in crate::command) static LSET: Docs = Docs {
    summary: "Set the value of an element in a list by its index",
    since: "1.0.0",
    group: Group::List,
    complexity: Some(
        "O(N) where N is the length of the list. Setting either the first or the \
                      last element of the list is O(1).",
    ),
    arguments: &[key("key", 0), integer("index"), string("element")],
    ..Docs::EMPTY
};

pub(in crate::command) static LTRIM: Docs = Docs {
    summary: "Trim a list to the specified range",
    since: "1.0.0",
    group: Group::List,
    complexity: Some("O(N) where N is the number of elements to be removed by the operation."),
    arguments: &[key("key", 0), integer("start"), integer("stop")],
    ..Docs::EMPTY
};

pub(in crate::command) static RPOP: Docs = Docs {
    summary: "Remove and get the last elements in a list",
    since: "1.0.0",
    group: Group::List,
    complexity: Some("O(N) where N is the number of elements returned"),
    history: &[("6.2.0", "Added the `count` argument.")],
    arguments: &[key("key", 0), integer("count").since("6.2.0").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static RPOPLPUSH: Docs = Docs {
    summary: "Remove the last element in a list, prepend it to another list and return it",
    since: "1.2.0",
    group: Group::List,
    complexity: Some("O(1)"),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some("`LMOVE` with the `RIGHT` and `LEFT` arguments"),
    arguments: &[key("source", 0), key("destination", 1)],
    ..Docs::EMPTY
};

pub(in crate::command) static RPUSH: Docs = Docs {
    summary: "Append one or multiple elements to a list",
    since: "1.0.0",
    group: Group::List,
    complexity: Some(
        "O(1) for each element added, so O(N) to add N elements when the command \
                      is called with multiple arguments.",
    ),
    history: &[("2.4.0", "Accepts multiple `element` arguments.")],
    arguments: &[key("key", 0), string("element").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static RPUSHX: Docs = Docs {
    summary: "Append an element to a list, only if the list exists",
    since: "2.2.0",
    group: Group::List,
    complexity: Some(
        "O(1) for each element added, so O(N) to add N elements when the command \
                      is called with multiple arguments.",
    ),
    history: &[("4.0.0", "Accepts multiple `element` arguments.")],
    arguments: &[key("key", 0), string("element").multiple()],
    ..Docs::EMPTY
};
