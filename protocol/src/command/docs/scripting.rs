//! Script and function commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static EVAL: Docs = Docs {
    summary: "Execute a Lua script server side",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: Some("Depends on the script that is executed."),
    arguments: &[
        string("script"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static EVAL_RO: Docs = Docs {
    summary: "Execute a read-only Lua script server side",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("Depends on the script that is executed."),
    arguments: &[
        string("script"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static EVALSHA: Docs = Docs {
    summary: "Execute a Lua script server side",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: Some("Depends on the script that is executed."),
    arguments: &[
        string("sha1"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static EVALSHA_RO: Docs = Docs {
    summary: "Execute a read-only Lua script server side",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("Depends on the script that is executed."),
    arguments: &[
        string("sha1"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static FCALL: Docs = Docs {
    summary: "Invoke a function",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("Depends on the function that is executed."),
    arguments: &[
        string("function"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static FCALL_RO: Docs = Docs {
    summary: "Invoke a read-only function",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("Depends on the function that is executed."),
    arguments: &[
        string("function"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static FUNCTION: Docs = Docs {
    summary: "A container for function commands",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static FUNCTION_DELETE: Docs = Docs {
    summary: "Delete a function by name",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("O(1)"),
    arguments: &[string("library-name")],
    ..Docs::EMPTY
};

pub(in crate::command) static FUNCTION_DUMP: Docs = Docs {
    summary: "Dump all functions into a serialized binary payload",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("O(N) where N is the number of functions"),
    ..Docs::EMPTY
};

pub(in crate::command) static FUNCTION_FLUSH: Docs = Docs {
    summary: "Deleting all functions",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("O(N) where N is the number of functions deleted"),
    arguments: &[one_of(
        "async",
        &[pure_token("async", "ASYNC"), pure_token("sync", "SYNC")],
    )
    .optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static FUNCTION_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static FUNCTION_KILL: Docs = Docs {
    summary: "Kill the function currently in execution.",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static FUNCTION_LIST: Docs = Docs {
    summary: "List information about all the functions",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("O(N) where N is the number of functions"),
    arguments: &[
        string("library-name-pattern")
            .token("LIBRARYNAME")
            .optional(),
        pure_token("withcode", "WITHCODE").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static FUNCTION_LOAD: Docs = Docs {
    summary: "Create a function with the given arguments (name, code, description)",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("O(1) (considering compilation time is redundant)"),
    arguments: &[
        pure_token("replace", "REPLACE").optional(),
        string("function-code"),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static FUNCTION_RESTORE: Docs = Docs {
    summary: "Restore all the functions on the given payload",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("O(N) where N is the number of functions on the payload"),
    arguments: &[
        string("serialized-value"),
        one_of(
            "policy",
            &[
                pure_token("flush", "FLUSH"),
                pure_token("append", "APPEND"),
                pure_token("replace", "REPLACE"),
            ],
        )
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static FUNCTION_STATS: Docs = Docs {
    summary: "Return information about the function currently running (name, description, \
              duration)",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static SCRIPT: Docs = Docs {
    summary: "A container for Lua scripts management commands",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static SCRIPT_DEBUG: Docs = Docs {
    summary: "Set the debug mode for executed scripts.",
    since: "3.2.0",
    group: Group::Scripting,
    complexity: Some("O(1)"),
    arguments: &[one_of(
        "mode",
        &[
            pure_token("yes", "YES"),
            pure_token("sync", "SYNC"),
            pure_token("no", "NO"),
        ],
    )],
    ..Docs::EMPTY
};

pub(in crate::command) static SCRIPT_EXISTS: Docs = Docs {
    summary: "Check existence of scripts in the script cache.",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: Some(
        "O(N) with N being the number of scripts to check (so checking a single \
                      script is an O(1) operation).",
    ),
    arguments: &[string("sha1").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SCRIPT_FLUSH: Docs = Docs {
    summary: "Remove all the scripts from the script cache.",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: Some("O(N) with N being the number of scripts in cache"),
    history: &[(
        "6.2.0",
        "Added the `ASYNC` and `SYNC` flushing mode modifiers.",
    )],
    arguments: &[one_of(
        "async",
        &[pure_token("async", "ASYNC"), pure_token("sync", "SYNC")],
    )
    .since("6.2.0")
    .optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static SCRIPT_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "5.0.0",
    group: Group::Scripting,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static SCRIPT_KILL: Docs = Docs {
    summary: "Kill the script currently in execution.",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static SCRIPT_LOAD: Docs = Docs {
    summary: "Load the specified Lua script into the script cache.",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: Some("O(N) with N being the length in bytes of the script body."),
    arguments: &[string("script")],
    ..Docs::EMPTY
};
