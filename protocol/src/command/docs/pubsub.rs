//! Publish/subscribe commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static PSUBSCRIBE: Docs = Docs {
    summary: "Listen for messages published to channels matching the given patterns",
    since: "2.0.0",
    group: Group::PubSub,
    complexity: Some(
        "O(N) where N is the number of patterns the client is already subscribed \
                      to.",
    ),
    arguments: &[block("pattern", &[pattern("pattern")]).multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static PUBLISH: Docs = Docs {
    summary: "Post a message to a channel",
    since: "2.0.0",
    group: Group::PubSub,
    complexity: Some(
        "O(N+M) where N is the number of clients subscribed to the receiving \
                      channel and M is the total number of subscribed patterns (by any \
                      client).",
    ),
    arguments: &[string("channel"), string("message")],
    ..Docs::EMPTY
};

pub(in crate::command) static PUBSUB: Docs = Docs {
    summary: "A container for Pub/Sub commands",
    since: "2.8.0",
    group: Group::PubSub,
    complexity: Some("Depends on subcommand."),
    ..Docs::EMPTY
};

pub(in crate::command) static PUBSUB_CHANNELS: Docs = Docs {
    summary: "List active channels",
    since: "2.8.0",
    group: Group::PubSub,
    complexity: Some(
        "O(N) where N is the number of active channels, and assuming constant \
                      time pattern matching (relatively short channels and patterns)",
    ),
    arguments: &[pattern("pattern").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static PUBSUB_HELP: Docs = Docs {
    summary: "Show helpful text about the different subcommands",
    since: "6.2.0",
    group: Group::PubSub,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static PUBSUB_NUMPAT: Docs = Docs {
    summary: "Get the count of unique patterns pattern subscriptions",
    since: "2.8.0",
    group: Group::PubSub,
    complexity: Some("O(1)"),
    ..Docs::EMPTY
};

pub(in crate::command) static PUBSUB_NUMSUB: Docs = Docs {
    summary: "Get the count of subscribers for channels",
    since: "2.8.0",
    group: Group::PubSub,
    complexity: Some(
        "O(N) for the NUMSUB subcommand, where N is the number of requested \
                      channels",
    ),
    arguments: &[string("channel").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static PUBSUB_SHARDCHANNELS: Docs = Docs {
    summary: "List active shard channels",
    since: "7.0.0",
    group: Group::PubSub,
    complexity: Some(
        "O(N) where N is the number of active shard channels, and assuming \
                      constant time pattern matching (relatively short shard channels).",
    ),
    arguments: &[pattern("pattern").optional()],
    ..Docs::EMPTY
};

pub(in crate::command) static PUBSUB_SHARDNUMSUB: Docs = Docs {
    summary: "Get the count of subscribers for shard channels",
    since: "7.0.0",
    group: Group::PubSub,
    complexity: Some(
        "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested \
                      shard channels",
    ),
    arguments: &[string("shardchannel").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static PUNSUBSCRIBE: Docs = Docs {
    summary: "Stop listening for messages posted to channels matching the given patterns",
    since: "2.0.0",
    group: Group::PubSub,
    complexity: Some(
        "O(N+M) where N is the number of patterns the client is already \
                      subscribed and M is the number of total patterns subscribed in the \
                      system (by any client).",
    ),
    arguments: &[pattern("pattern").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SPUBLISH: Docs = Docs {
    summary: "Post a message to a shard channel",
    since: "7.0.0",
    group: Group::PubSub,
    complexity: Some(
        "O(N) where N is the number of clients subscribed to the receiving shard \
                      channel.",
    ),
    arguments: &[string("shardchannel"), string("message")],
    ..Docs::EMPTY
};

pub(in crate::command) static SSUBSCRIBE: Docs = Docs {
    summary: "Listen for messages published to the given shard channels",
    since: "7.0.0",
    group: Group::PubSub,
    complexity: Some("O(N) where N is the number of shard channels to subscribe to."),
    arguments: &[string("shardchannel").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SUBSCRIBE: Docs = Docs {
    summary: "Listen for messages published to the given channels",
    since: "2.0.0",
    group: Group::PubSub,
    complexity: Some("O(N) where N is the number of channels to subscribe to."),
    arguments: &[string("channel").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static SUNSUBSCRIBE: Docs = Docs {
    summary: "Stop listening for messages posted to the given shard channels",
    since: "7.0.0",
    group: Group::PubSub,
    complexity: Some(
        "O(N) where N is the number of clients already subscribed to a shard \
                      channel.",
    ),
    arguments: &[string("shardchannel").optional().multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static UNSUBSCRIBE: Docs = Docs {
    summary: "Stop listening for messages posted to the given channels",
    since: "2.0.0",
    group: Group::PubSub,
    complexity: Some("O(N) where N is the number of clients already subscribed to a channel."),
    arguments: &[string("channel").optional().multiple()],
    ..Docs::EMPTY
};
