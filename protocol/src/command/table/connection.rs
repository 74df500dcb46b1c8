//! Connection commands.

use super::prelude::*;

pub(super) static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "auth",
        id: id::AUTH,
        arity: -2,
        flags: flags![NOSCRIPT, LOADING, STALE, FAST, NO_AUTH, ALLOW_BUSY],
        categories: categories![FAST, CONNECTION],
        docs: &docs::connection::AUTH,
        ..COMMAND
    },
    CommandSpec {
        name: "client",
        id: id::CLIENT,
        arity: -2,
        categories: categories![SLOW],
        subcommands: CLIENT_SUBCOMMANDS,
        docs: &docs::connection::CLIENT,
        ..COMMAND
    },
    CommandSpec {
        name: "echo",
        id: id::ECHO,
        arity: 2,
        flags: flags![LOADING, STALE, FAST],
        categories: categories![FAST, CONNECTION],
        docs: &docs::connection::ECHO,
        ..COMMAND
    },
    CommandSpec {
        name: "hello",
        id: id::HELLO,
        arity: -1,
        flags: flags![NOSCRIPT, LOADING, STALE, FAST, NO_AUTH, ALLOW_BUSY],
        categories: categories![FAST, CONNECTION],
        docs: &docs::connection::HELLO,
        ..COMMAND
    },
    CommandSpec {
        name: "ping",
        id: id::PING,
        arity: -1,
        flags: flags![FAST],
        categories: categories![FAST, CONNECTION],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        docs: &docs::connection::PING,
        ..COMMAND
    },
    CommandSpec {
        name: "quit",
        id: id::QUIT,
        arity: -1,
        flags: flags![NOSCRIPT, LOADING, STALE, FAST, NO_AUTH, ALLOW_BUSY],
        categories: categories![FAST, CONNECTION],
        docs: &docs::connection::QUIT,
        ..COMMAND
    },
    CommandSpec {
        name: "reset",
        id: id::RESET,
        arity: 1,
        flags: flags![NOSCRIPT, LOADING, STALE, FAST, NO_AUTH, ALLOW_BUSY],
        categories: categories![FAST, CONNECTION],
        docs: &docs::connection::RESET,
        ..COMMAND
    },
    CommandSpec {
        name: "select",
        id: id::SELECT,
        arity: 2,
        flags: flags![LOADING, STALE, FAST],
        categories: categories![FAST, CONNECTION],
        docs: &docs::connection::SELECT,
        ..COMMAND
    },
];

static CLIENT_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "client|caching",
        id: id::CLIENT_CACHING,
        arity: 3,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::connection::CLIENT_CACHING,
        ..COMMAND
    },
    CommandSpec {
        name: "client|getname",
        id: id::CLIENT_GETNAME,
        arity: 2,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::connection::CLIENT_GETNAME,
        ..COMMAND
    },
    CommandSpec {
        name: "client|getredir",
        id: id::CLIENT_GETREDIR,
        arity: 2,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::connection::CLIENT_GETREDIR,
        ..COMMAND
    },
    CommandSpec {
        name: "client|help",
        id: id::CLIENT_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::connection::CLIENT_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "client|id",
        id: id::CLIENT_ID,
        arity: 2,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::connection::CLIENT_ID,
        ..COMMAND
    },
    CommandSpec {
        name: "client|info",
        id: id::CLIENT_INFO,
        arity: 2,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        tips: &["nondeterministic_output"],
        docs: &docs::connection::CLIENT_INFO,
        ..COMMAND
    },
    CommandSpec {
        name: "client|kill",
        id: id::CLIENT_KILL,
        arity: -3,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS, CONNECTION],
        docs: &docs::connection::CLIENT_KILL,
        ..COMMAND
    },
    CommandSpec {
        name: "client|list",
        id: id::CLIENT_LIST,
        arity: -2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS, CONNECTION],
        tips: &["nondeterministic_output"],
        docs: &docs::connection::CLIENT_LIST,
        ..COMMAND
    },
    CommandSpec {
        name: "client|no-evict",
        id: id::CLIENT_NO_EVICT,
        arity: 3,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS, CONNECTION],
        docs: &docs::connection::CLIENT_NO_EVICT,
        ..COMMAND
    },
    CommandSpec {
        name: "client|pause",
        id: id::CLIENT_PAUSE,
        arity: -3,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS, CONNECTION],
        docs: &docs::connection::CLIENT_PAUSE,
        ..COMMAND
    },
    CommandSpec {
        name: "client|reply",
        id: id::CLIENT_REPLY,
        arity: 3,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::connection::CLIENT_REPLY,
        ..COMMAND
    },
    CommandSpec {
        name: "client|setname",
        id: id::CLIENT_SETNAME,
        arity: 3,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::connection::CLIENT_SETNAME,
        ..COMMAND
    },
    CommandSpec {
        name: "client|tracking",
        id: id::CLIENT_TRACKING,
        arity: -3,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::connection::CLIENT_TRACKING,
        ..COMMAND
    },
    CommandSpec {
        name: "client|trackinginfo",
        id: id::CLIENT_TRACKINGINFO,
        arity: 2,
        flags: flags![NOSCRIPT, LOADING, STALE],
        categories: categories![SLOW, CONNECTION],
        docs: &docs::connection::CLIENT_TRACKINGINFO,
        ..COMMAND
    },
    CommandSpec {
        name: "client|unblock",
        id: id::CLIENT_UNBLOCK,
        arity: -3,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS, CONNECTION],
        docs: &docs::connection::CLIENT_UNBLOCK,
        ..COMMAND
    },
    CommandSpec {
        name: "client|unpause",
        id: id::CLIENT_UNPAUSE,
        arity: 2,
        flags: flags![ADMIN, NOSCRIPT, LOADING, STALE],
        categories: categories![ADMIN, SLOW, DANGEROUS, CONNECTION],
        docs: &docs::connection::CLIENT_UNPAUSE,
        ..COMMAND
    },
];
