//! Connection commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static AUTH: Docs = Docs {
    summary: "Authenticate to the server",
    since: "1.0.0",
    group: Group::Connection,
    complexity: Some("O(N) where N is the number of passwords defined for the user"),
    history: &[("6.0.0", "Added ACL style (username and password).")],
    arguments: &[
        string("username").since("6.0.0").optional(),
        string("password"),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT: Docs = Docs {
    summary: "A container for client connection commands",
    since: "2.4.0",
    group: Group::Connection,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_CACHING: Docs = Docs {
    summary: "Instruct the server about tracking or not keys in the next request",
    since: "6.0.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    arguments: &[one_of(
        "mode",
        &[pure_token("yes", "YES"), pure_token("no", "NO")],
    )],
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_GETNAME: Docs = Docs {
    summary: "Get the current connection name",
    since: "2.6.9",
    group: Group::Connection,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_GETREDIR: Docs = Docs {
    summary: "Get tracking notifications redirection client ID if any",
    since: "6.0.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "5.0.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_ID: Docs = Docs {
    summary: "Returns the client ID for the current connection",
    since: "5.0.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_INFO: Docs = Docs {
    summary: "Returns information about the current client connection.",
    since: "6.2.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_KILL: Docs = Docs {
    summary: "Kill the connection of a client",
    since: "2.4.0",
    group: Group::Connection,
    complexity: Some("O(N) where N is the number of client connections"),
    history: &[
        ("2.8.12", "Added new filter format."),
        ("2.8.12", "`ID` option."),
        ("3.2.0", "Added `master` type in for `TYPE` option."),
        (
            "5.0.0",
            "Replaced `slave` `TYPE` with `replica`. `slave` still supported for \
                   backward compatibility.",
        ),
        ("6.2.0", "`LADDR` option."),
    ],
    arguments: &[one_of(
        "filter",
        &[
            string("ip:port").deprecated_since("2.8.12"),
            one_of(
                "new-format",
                &[
                    integer("client-id").token("ID").since("2.8.12").optional(),
                    one_of(
                        "normal_master_slave_pubsub",
                        &[
                            pure_token("normal", "NORMAL"),
                            pure_token("master", "MASTER").since("3.2.0"),
                            pure_token("slave", "SLAVE"),
                            pure_token("replica", "REPLICA").since("5.0.0"),
                            pure_token("pubsub", "PUBSUB"),
                        ],
                    )
                    .token("TYPE")
                    .since("2.8.12")
                    .optional(),
                    string("username").token("USER").optional(),
                    string("ip:port").token("ADDR").optional(),
                    string("ip:port").token("LADDR").since("6.2.0").optional(),
                    string("yes/no").token("SKIPME").optional(),
                ],
            )
            .multiple(),
        ],
    )],
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_LIST: Docs = Docs {
    summary: "Get the list of client connections",
    since: "2.4.0",
    group: Group::Connection,
    complexity: Some("O(N) where N is the number of client connections"),
    history: &[
        ("2.8.12", "Added unique client `id` field."),
        ("5.0.0", "Added optional `TYPE` filter."),
        ("6.0.0", "Added `user` field."),
        (
            "6.2.0",
            "Added `argv-mem`, `tot-mem`, `laddr` and `redir` fields and the optional \
                   `ID` filter.",
        ),
        (
            "7.0.0",
            "Added `resp`, `multi-mem`, `rbs` and `rbp` fields.",
        ),
        ("7.0.3", "Added `ssub` field."),
    ],
    arguments: &[
        one_of(
            "normal_master_replica_pubsub",
            &[
                pure_token("normal", "NORMAL"),
                pure_token("master", "MASTER"),
                pure_token("replica", "REPLICA"),
                pure_token("pubsub", "PUBSUB"),
            ],
        )
        .token("TYPE")
        .since("5.0.0")
        .optional(),
        block("id", &[integer("client-id").multiple()])
            .token("ID")
            .since("6.2.0")
            .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_NO_EVICT: Docs = Docs {
    summary: "Set client eviction mode for the current connection",
    since: "7.0.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    arguments: &[one_of(
        "enabled",
        &[pure_token("on", "ON"), pure_token("off", "OFF")],
    )],
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_PAUSE: Docs = Docs {
    summary: "Stop processing commands from clients for some time",
    since: "2.9.50",
    group: Group::Connection,
    complexity: Some("O(1)"),
    history: &[(
        "6.2.0",
        "`CLIENT PAUSE WRITE` mode added along with the `mode` option.",
    )],
    arguments: &[
        integer("timeout"),
        one_of(
            "mode",
            &[pure_token("write", "WRITE"), pure_token("all", "ALL")],
        )
        .since("6.2.0")
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_REPLY: Docs = Docs {
    summary: "Instruct the server whether to reply to commands",
    since: "3.2.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    arguments: &[one_of(
        "on_off_skip",
        &[
            pure_token("on", "ON"),
            pure_token("off", "OFF"),
            pure_token("skip", "SKIP"),
        ],
    )],
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_SETNAME: Docs = Docs {
    summary: "Set the current connection name",
    since: "2.6.9",
    group: Group::Connection,
    complexity: Some("O(1)"),
    arguments: &[string("connection-name")],
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_TRACKING: Docs = Docs {
    summary: "Enable or disable server assisted client side caching support",
    since: "6.0.0",
    group: Group::Connection,
    complexity: Some("O(1). Some options may introduce additional complexity."),
    arguments: &[
        one_of(
            "status",
            &[pure_token("on", "ON"), pure_token("off", "OFF")],
        ),
        integer("client-id").token("REDIRECT").optional(),
        string("prefix")
            .token("PREFIX")
            .optional()
            .multiple()
            .multiple_token(),
        pure_token("bcast", "BCAST").optional(),
        pure_token("optin", "OPTIN").optional(),
        pure_token("optout", "OPTOUT").optional(),
        pure_token("noloop", "NOLOOP").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_TRACKINGINFO: Docs = Docs {
    summary: "Return information about server assisted client side caching for the current \
              connection",
    since: "6.2.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_UNBLOCK: Docs = Docs {
    summary: "Unblock a client blocked in a blocking command from a different connection",
    since: "5.0.0",
    group: Group::Connection,
    complexity: Some("O(log N) where N is the number of client connections"),
    arguments: &[
        integer("client-id"),
        one_of(
            "timeout_error",
            &[
                pure_token("timeout", "TIMEOUT"),
                pure_token("error", "ERROR"),
            ],
        )
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static CLIENT_UNPAUSE: Docs = Docs {
    summary: "Resume processing of clients that were paused",
    since: "6.2.0",
    group: Group::Connection,
    complexity: Some("O(N) Where N is the number of paused clients"),
    ..Docs::EMPTY
};

pub(in crate::command) static ECHO: Docs = Docs {
    summary: "Echo the given string",
    since: "1.0.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    arguments: &[string("message")],
    ..Docs::EMPTY
};

pub(in crate::command) static HELLO: Docs = Docs {
    summary: "Handshake with Redis",
    since: "6.0.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    history: &[(
        "6.2.0",
        "`protover` made optional; when called without arguments the command \
                   reports the current connection's context.",
    )],
    arguments: &[block(
        "arguments",
        &[
            integer("protover"),
            block(
                "username_password",
                &[string("username"), string("password")],
            )
            .token("AUTH")
            .optional(),
            string("clientname").token("SETNAME").optional(),
        ],
    )
    .optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static PING: Docs = Docs {
    summary: "Ping the server",
    since: "1.0.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    arguments: &[string("message").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static QUIT: Docs = Docs {
    summary: "Close the connection",
    since: "1.0.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static RESET: Docs = Docs {
    summary: "Reset the connection",
    since: "6.2.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static SELECT: Docs = Docs {
    summary: "Change the selected database for the current connection",
    since: "1.0.0",
    group: Group::Connection,
    complexity: Some("O(1)"),
    arguments: &[integer("index")],
    ..Docs::EMPTY
};
