//! Transaction commands.

use super::prelude::*;

pub(super) static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "discard",
        id: id::DISCARD,
        arity: 1,
        flags: flags![NOSCRIPT, LOADING, STALE, FAST, ALLOW_BUSY],
        categories: categories![FAST, TRANSACTION],
        docs: &docs::transactions::DISCARD,
        ..COMMAND
    },
    CommandSpec {
        name: "exec",
        id: id::EXEC,
        arity: 1,
        flags: flags![NOSCRIPT, LOADING, STALE, SKIP_SLOWLOG],
        categories: categories![SLOW, TRANSACTION],
        docs: &docs::transactions::EXEC,
        ..COMMAND
    },
    CommandSpec {
        name: "multi",
        id: id::MULTI,
        arity: 1,
        flags: flags![NOSCRIPT, LOADING, STALE, FAST, ALLOW_BUSY],
        categories: categories![FAST, TRANSACTION],
        docs: &docs::transactions::MULTI,
        ..COMMAND
    },
    CommandSpec {
        name: "unwatch",
        id: id::UNWATCH,
        arity: 1,
        flags: flags![NOSCRIPT, LOADING, STALE, FAST, ALLOW_BUSY],
        categories: categories![FAST, TRANSACTION],
        docs: &docs::transactions::UNWATCH,
        ..COMMAND
    },
    CommandSpec {
        name: "watch",
        id: id::WATCH,
        arity: -2,
        flags: flags![NOSCRIPT, LOADING, STALE, FAST, ALLOW_BUSY],
        categories: categories![FAST, TRANSACTION],
        first_key: 1,
        last_key: -1,
        step: 1,
        key_specs: &[KeySpec::range(1, -1, 1, key_flags![RO])],
        docs: &docs::transactions::WATCH,
        ..COMMAND
    },
];
