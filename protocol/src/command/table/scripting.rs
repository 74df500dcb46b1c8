//! Script and function commands.

use super::prelude::*;

pub(super) static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "eval",
        id: id::EVAL,
        arity: -3,
        flags: flags![
            NOSCRIPT,
            STALE,
            SKIP_MONITOR,
            NO_MANDATORY_KEYS,
            MOVABLEKEYS,
            MAY_REPLICATE
        ],
        categories: categories![SLOW, SCRIPTING],
        key_specs: &[KeySpec::new(
            BeginSearch::Index(2),
            FindKeys::KeyNum {
                count: 0,
                first: 1,
                step: 1,
            },
            key_flags![RW, ACCESS, UPDATE],
        )
        .notes(
            "We cannot tell how the keys will be used so we assume the worst, RW and \
                 UPDATE",
        )],
        key_finder: Some(KeyFinder::Counted {
            count: 2,
            first: 3,
            store: 0,
        }),
        docs: &docs::scripting::EVAL,
        ..COMMAND
    },
    CommandSpec {
        name: "eval_ro",
        id: id::EVAL_RO,
        arity: -3,
        flags: flags![
            READONLY,
            NOSCRIPT,
            STALE,
            SKIP_MONITOR,
            NO_MANDATORY_KEYS,
            MOVABLEKEYS
        ],
        categories: categories![SLOW, SCRIPTING],
        key_specs: &[KeySpec::new(
            BeginSearch::Index(2),
            FindKeys::KeyNum {
                count: 0,
                first: 1,
                step: 1,
            },
            key_flags![RO, ACCESS],
        )
        .notes(
            "We cannot tell how the keys will be used so we assume the worst, RO and \
                 ACCESS",
        )],
        key_finder: Some(KeyFinder::Counted {
            count: 2,
            first: 3,
            store: 0,
        }),
        docs: &docs::scripting::EVAL_RO,
        ..COMMAND
    },
    CommandSpec {
        name: "evalsha",
        id: id::EVALSHA,
        arity: -3,
        flags: flags![
            NOSCRIPT,
            STALE,
            SKIP_MONITOR,
            NO_MANDATORY_KEYS,
            MOVABLEKEYS,
            MAY_REPLICATE
        ],
        categories: categories![SLOW, SCRIPTING],
        key_specs: &[KeySpec::new(
            BeginSearch::Index(2),
            FindKeys::KeyNum {
                count: 0,
                first: 1,
                step: 1,
            },
            key_flags![RW, ACCESS, UPDATE],
        )],
        key_finder: Some(KeyFinder::Counted {
            count: 2,
            first: 3,
            store: 0,
        }),
        docs: &docs::scripting::EVALSHA,
        ..COMMAND
    },
    CommandSpec {
        name: "evalsha_ro",
        id: id::EVALSHA_RO,
        arity: -3,
        flags: flags![
            READONLY,
            NOSCRIPT,
            STALE,
            SKIP_MONITOR,
            NO_MANDATORY_KEYS,
            MOVABLEKEYS
        ],
        categories: categories![SLOW, SCRIPTING],
        key_specs: &[KeySpec::new(
            BeginSearch::Index(2),
            FindKeys::KeyNum {
                count: 0,
                first: 1,
                step: 1,
            },
            key_flags![RO, ACCESS],
        )],
        key_finder: Some(KeyFinder::Counted {
            count: 2,
            first: 3,
            store: 0,
        }),
        docs: &docs::scripting::EVALSHA_RO,
        ..COMMAND
    },
    CommandSpec {
        name: "fcall",
        id: id::FCALL,
        arity: -3,
        flags: flags![
            NOSCRIPT,
            STALE,
            SKIP_MONITOR,
            NO_MANDATORY_KEYS,
            MOVABLEKEYS,
            MAY_REPLICATE
        ],
        categories: categories![SLOW, SCRIPTING],
        key_specs: &[KeySpec::new(
            BeginSearch::Index(2),
            FindKeys::KeyNum {
                count: 0,
                first: 1,
                step: 1,
            },
            key_flags![RW, ACCESS, UPDATE],
        )
        .notes(
            "We cannot tell how the keys will be used so we assume the worst, RW and \
                 UPDATE",
        )],
        key_finder: Some(KeyFinder::Counted {
            count: 2,
            first: 3,
            store: 0,
        }),
        docs: &docs::scripting::FCALL,
        ..COMMAND
    },
    CommandSpec {
        name: "fcall_ro",
        id: id::FCALL_RO,
        arity: -3,
        flags: flags![
            READONLY,
            NOSCRIPT,
            STALE,
            SKIP_MONITOR,
            NO_MANDATORY_KEYS,
            MOVABLEKEYS
        ],
        categories: categories![SLOW, SCRIPTING],
        key_specs: &[KeySpec::new(
            BeginSearch::Index(2),
            FindKeys::KeyNum {
                count: 0,
                first: 1,
                step: 1,
            },
            key_flags![RO, ACCESS],
        )
        .notes(
            "We cannot tell how the keys will be used so we assume the worst, RO and \
                 ACCESS",
        )],
        key_finder: Some(KeyFinder::Counted {
            count: 2,
            first: 3,
            store: 0,
        }),
        docs: &docs::scripting::FCALL_RO,
        ..COMMAND
    },
    CommandSpec {
        name: "function",
        id: id::FUNCTION,
        arity: -2,
        categories: categories![SLOW],
        subcommands: FUNCTION_SUBCOMMANDS,
        docs: &docs::scripting::FUNCTION,
        ..COMMAND
    },
    CommandSpec {
        name: "script",
        id: id::SCRIPT,
        arity: -2,
        categories: categories![SLOW],
        subcommands: SCRIPT_SUBCOMMANDS,
        docs: &docs::scripting::SCRIPT,
        ..COMMAND
    },
];

static FUNCTION_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "function|delete",
        id: id::FUNCTION_DELETE,
        arity: 3,
        flags: flags![WRITE, NOSCRIPT],
        categories: categories![WRITE, SLOW, SCRIPTING],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        docs: &docs::scripting::FUNCTION_DELETE,
        ..COMMAND
    },
    CommandSpec {
        name: "function|dump",
        id: id::FUNCTION_DUMP,
        arity: 2,
        flags: flags![NOSCRIPT],
        categories: categories![SLOW, SCRIPTING],
        docs: &docs::scripting::FUNCTION_DUMP,
        ..COMMAND
    },
    CommandSpec {
        name: "function|flush",
        id: id::FUNCTION_FLUSH,
        arity: -2,
        flags: flags![WRITE, NOSCRIPT],
        categories: categories![WRITE, SLOW, SCRIPTING],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        docs: &docs::scripting::FUNCTION_FLUSH,
        ..COMMAND
    },
    CommandSpec {
        name: "function|help",
        id: id::FUNCTION_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, SCRIPTING],
        docs: &docs::scripting::FUNCTION_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "function|kill",
        id: id::FUNCTION_KILL,
        arity: 2,
        flags: flags![NOSCRIPT, ALLOW_BUSY],
        categories: categories![SLOW, SCRIPTING],
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        docs: &docs::scripting::FUNCTION_KILL,
        ..COMMAND
    },
    CommandSpec {
        name: "function|list",
        id: id::FUNCTION_LIST,
        arity: -2,
        flags: flags![NOSCRIPT],
        categories: categories![SLOW, SCRIPTING],
        tips: &["nondeterministic_output_order"],
        docs: &docs::scripting::FUNCTION_LIST,
        ..COMMAND
    },
    CommandSpec {
        name: "function|load",
        id: id::FUNCTION_LOAD,
        arity: -3,
        flags: flags![WRITE, DENYOOM, NOSCRIPT],
        categories: categories![WRITE, SLOW, SCRIPTING],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        docs: &docs::scripting::FUNCTION_LOAD,
        ..COMMAND
    },
    CommandSpec {
        name: "function|restore",
        id: id::FUNCTION_RESTORE,
        arity: -3,
        flags: flags![WRITE, DENYOOM, NOSCRIPT],
        categories: categories![WRITE, SLOW, SCRIPTING],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        docs: &docs::scripting::FUNCTION_RESTORE,
        ..COMMAND
    },
    CommandSpec {
        name: "function|stats",
        id: id::FUNCTION_STATS,
        arity: 2,
        flags: flags![NOSCRIPT, ALLOW_BUSY],
        categories: categories![SLOW, SCRIPTING],
        tips: &[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ],
        docs: &docs::scripting::FUNCTION_STATS,
        ..COMMAND
    },
];

static SCRIPT_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "script|debug",
        id: id::SCRIPT_DEBUG,
        arity: 3,
        flags: flags![NOSCRIPT],
        categories: categories![SLOW, SCRIPTING],
        docs: &docs::scripting::SCRIPT_DEBUG,
        ..COMMAND
    },
    CommandSpec {
        name: "script|exists",
        id: id::SCRIPT_EXISTS,
        arity: -3,
        flags: flags![NOSCRIPT],
        categories: categories![SLOW, SCRIPTING],
        tips: &[
            "request_policy:all_shards",
            "response_policy:agg_logical_and",
        ],
        docs: &docs::scripting::SCRIPT_EXISTS,
        ..COMMAND
    },
    CommandSpec {
        name: "script|flush",
        id: id::SCRIPT_FLUSH,
        arity: -2,
        flags: flags![NOSCRIPT],
        categories: categories![SLOW, SCRIPTING],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        docs: &docs::scripting::SCRIPT_FLUSH,
        ..COMMAND
    },
    CommandSpec {
        name: "script|help",
        id: id::SCRIPT_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, SCRIPTING],
        docs: &docs::scripting::SCRIPT_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "script|kill",
        id: id::SCRIPT_KILL,
        arity: 2,
        flags: flags![NOSCRIPT, ALLOW_BUSY],
        categories: categories![SLOW, SCRIPTING],
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        docs: &docs::scripting::SCRIPT_KILL,
        ..COMMAND
    },
    CommandSpec {
        name: "script|load",
        id: id::SCRIPT_LOAD,
        arity: 3,
        flags: flags![NOSCRIPT, STALE],
        categories: categories![SLOW, SCRIPTING],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        docs: &docs::scripting::SCRIPT_LOAD,
        ..COMMAND
    },
];
