//! Publish/subscribe commands.

use super::prelude::*;

pub(super) static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "psubscribe",
        id: id::PSUBSCRIBE,
        arity: -2,
        flags: flags![PUBSUB, NOSCRIPT, LOADING, STALE],
        categories: categories![PUBSUB, SLOW],
        docs: &docs::pubsub::PSUBSCRIBE,
        ..COMMAND
    },
    CommandSpec {
        name: "publish",
        id: id::PUBLISH,
        arity: 3,
        flags: flags![PUBSUB, LOADING, STALE, FAST, MAY_REPLICATE],
        categories: categories![PUBSUB, FAST],
        docs: &docs::pubsub::PUBLISH,
        ..COMMAND
    },
    CommandSpec {
        name: "pubsub",
        id: id::PUBSUB,
        arity: -2,
        categories: categories![SLOW],
        subcommands: PUBSUB_SUBCOMMANDS,
        docs: &docs::pubsub::PUBSUB,
        ..COMMAND
    },
    CommandSpec {
        name: "punsubscribe",
        id: id::PUNSUBSCRIBE,
        arity: -1,
        flags: flags![PUBSUB, NOSCRIPT, LOADING, STALE],
        categories: categories![PUBSUB, SLOW],
        docs: &docs::pubsub::PUNSUBSCRIBE,
        ..COMMAND
    },
    CommandSpec {
        name: "spublish",
        id: id::SPUBLISH,
        arity: 3,
        flags: flags![PUBSUB, LOADING, STALE, FAST, MAY_REPLICATE],
        categories: categories![PUBSUB, FAST],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![NOT_KEY])],
        docs: &docs::pubsub::SPUBLISH,
        ..COMMAND
    },
    CommandSpec {
        name: "ssubscribe",
        id: id::SSUBSCRIBE,
        arity: -2,
        flags: flags![PUBSUB, NOSCRIPT, LOADING, STALE],
        categories: categories![PUBSUB, SLOW],
        first_key: 1,
        last_key: -1,
        step: 1,
        key_specs: &[KeySpec::range(1, -1, 1, key_flags![NOT_KEY])],
        docs: &docs::pubsub::SSUBSCRIBE,
        ..COMMAND
    },
    CommandSpec {
        name: "subscribe",
        id: id::SUBSCRIBE,
        arity: -2,
        flags: flags![PUBSUB, NOSCRIPT, LOADING, STALE],
        categories: categories![PUBSUB, SLOW],
        docs: &docs::pubsub::SUBSCRIBE,
        ..COMMAND
    },
    CommandSpec {
        name: "sunsubscribe",
        id: id::SUNSUBSCRIBE,
        arity: -1,
        flags: flags![PUBSUB, NOSCRIPT, LOADING, STALE],
        categories: categories![PUBSUB, SLOW],
        first_key: 1,
        last_key: -1,
        step: 1,
        key_specs: &[KeySpec::range(1, -1, 1, key_flags![NOT_KEY])],
        docs: &docs::pubsub::SUNSUBSCRIBE,
        ..COMMAND
    },
    CommandSpec {
        name: "unsubscribe",
        id: id::UNSUBSCRIBE,
        arity: -1,
        flags: flags![PUBSUB, NOSCRIPT, LOADING, STALE],
        categories: categories![PUBSUB, SLOW],
        docs: &docs::pubsub::UNSUBSCRIBE,
        ..COMMAND
    },
];

static PUBSUB_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "pubsub|channels",
        id: id::PUBSUB_CHANNELS,
        arity: -2,
        flags: flags![PUBSUB, LOADING, STALE],
        categories: categories![PUBSUB, SLOW],
        docs: &docs::pubsub::PUBSUB_CHANNELS,
        ..COMMAND
    },
    CommandSpec {
        name: "pubsub|help",
        id: id::PUBSUB_HELP,
        arity: 2,
        flags: flags![LOADING, STALE],
        categories: categories![SLOW],
        docs: &docs::pubsub::PUBSUB_HELP,
        ..COMMAND
    },
    CommandSpec {
        name: "pubsub|numpat",
        id: id::PUBSUB_NUMPAT,
        arity: 2,
        flags: flags![PUBSUB, LOADING, STALE],
        categories: categories![PUBSUB, SLOW],
        docs: &docs::pubsub::PUBSUB_NUMPAT,
        ..COMMAND
    },
    CommandSpec {
        name: "pubsub|numsub",
        id: id::PUBSUB_NUMSUB,
        arity: -2,
        flags: flags![PUBSUB, LOADING, STALE],
        categories: categories![PUBSUB, SLOW],
        docs: &docs::pubsub::PUBSUB_NUMSUB,
        ..COMMAND
    },
    CommandSpec {
        name: "pubsub|shardchannels",
        id: id::PUBSUB_SHARDCHANNELS,
        arity: -2,
        flags: flags![PUBSUB, LOADING, STALE],
        categories: categories![PUBSUB, SLOW],
        docs: &docs::pubsub::PUBSUB_SHARDCHANNELS,
        ..COMMAND
    },
    CommandSpec {
        name: "pubsub|shardnumsub",
        id: id::PUBSUB_SHARDNUMSUB,
        arity: -2,
        flags: flags![PUBSUB, LOADING, STALE],
        categories: categories![PUBSUB, SLOW],
        docs: &docs::pubsub::PUBSUB_SHARDNUMSUB,
        ..COMMAND
    },
];
