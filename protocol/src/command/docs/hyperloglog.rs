//! HyperLogLog commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static PFADD: Docs = Docs {
    summary: "Adds the specified elements to the specified HyperLogLog.",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: Some("O(1) to add every element."),
    arguments: &[key("key", 0), string("element").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static PFCOUNT: Docs = Docs {
    summary: "Return the approximated cardinality of the set(s) observed by the HyperLogLog \
              at key(s).",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: Some(
        "O(1) with a very small average constant time when called with a single \
                      key. O(N) with N being the number of keys, and much bigger constant \
                      times, when called with multiple keys.",
    ),
    arguments: &[key("key", 0).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static PFDEBUG: Docs = Docs {
    summary: "Internal commands for debugging HyperLogLog values",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: Some("N/A"),
    doc_flags: doc_flags![SYSCMD],
    arguments: &[string("subcommand"), key("key", 0)],
    ..Docs::EMPTY
};

pub(in crate::command) static PFMERGE: Docs = Docs {
    summary: "Merge N different HyperLogLogs into a single one.",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: Some("O(N) to merge N HyperLogLogs, but with high constant times."),
    arguments: &[key("destkey", 0), key("sourcekey", 1).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static PFSELFTEST: Docs = Docs {
    summary: "An internal command for testing HyperLogLog values",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: Some("N/A"),
    doc_flags: doc_flags![SYSCMD],
    ..Docs::EMPTY
};
