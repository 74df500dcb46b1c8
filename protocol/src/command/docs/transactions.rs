//! Transaction commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static DISCARD: Docs = Docs {
    summary: "Discard all commands issued after MULTI",
    since: "2.0.0",
    group: Group::Transactions,
    complexity: Some("O(N), when N is the number of queued commands"),
    ..Docs::EMPTY
};

pub(in crate::command) static EXEC: Docs = Docs {
    summary: "Execute all commands issued after MULTI",
    since: "1.2.0",
    group: Group::Transactions,
    complexity: Some("Depends on commands in the transaction"),
    ..Docs::EMPTY
};

pub(in crate::command) static MULTI: Docs = Docs {
    summary: "Mark the start of a transaction block",
    since: "1.2.0",
    group: Group::Transactions,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static UNWATCH: Docs = Docs {
    summary: "Forget about all watched keys",
    since: "2.2.0",
    group: Group::Transactions,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static WATCH: Docs = Docs {
    summary: "Watch the given keys to determine execution of the MULTI/EXEC block",
    since: "2.2.0",
    group: Group::Transactions,
    complexity: Some("O(1) for every key."),
    arguments: &[key("key", 0).multiple()],
    ..Docs::EMPTY
};
