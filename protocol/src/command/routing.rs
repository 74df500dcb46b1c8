//! Where the proxy sends each command.
//!
//! A command is here either by name, or it has keys and goes to the group
//! that owns their slot. Blocking, writing and the like are flags, not
//! routes. What a route does for a transaction is the session's affair.

use super::id::{self, CommandId};
use super::spec::CommandSpec;

/// How the proxy serves a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// Sent to the group that owns the slot of its keys; more than one slot is
    /// refused (CROSSSLOT). Without keys (EVAL with 0): any node.
    Keys,
    /// Cut into one command per slot, the replies joined.
    SplitKeys(Split),
    /// Sent to every group, the replies merged.
    AllGroups(Merge),
    /// Sent to every node, the replies merged: what belongs to no group.
    AllNodes(Merge),
    /// Answered by the proxy itself.
    Proxy,
    /// Sent to any one node, since all answer alike.
    AnyNode,
    /// Changes or needs what the proxy keeps for this connection.
    Session(Session),
    /// Not available through the proxy: see [`refused_error`].
    Refused,
}

/// How the replies to the parts of a [`Routing::SplitKeys`] are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The elements of the parts' arrays, in the order of the keys (MGET).
    InKeyOrder,
    /// The sum of the parts' integers (DEL).
    Sum,
    /// OK once every part is (MSET; its arguments are pairs).
    AllOk,
}

/// How the replies of all groups or nodes become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// The sum of the integers (DBSIZE).
    Sum,
    /// The least of the integers (WAIT, LASTSAVE).
    Least,
    /// The elements of all arrays (KEYS).
    Concat,
    /// All do the same: the first error if there is one, else any reply.
    Same,
    /// Element by element, 1 where any says 1 (SCRIPT EXISTS: what one node
    /// knows the proxy can bring to the others).
    AnyOne,
    /// OK if any group did it, else any of the errors (SCRIPT KILL).
    AnyOk,
    /// A key of a group picked by its share of the keys (RANDOMKEY).
    PickOne,
    /// Slot after slot; the cursor says where to go on (SCAN).
    Cursor,
}

/// What of a connection's state a command belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// MULTI, EXEC, DISCARD, WATCH, UNWATCH: bound to one logical connection.
    Transaction,
    /// Subscriptions, and messages to subscribers.
    PubSub,
}

/// The route of a command or subcommand.
pub fn routing(spec: &CommandSpec) -> Routing {
    routed_by_name(spec.id).unwrap_or(Routing::Keys)
}

/// What the client gets for a command that is [`Routing::Refused`].
pub fn refused_error(spec: &CommandSpec) -> String {
    let name = spec.name.replace('|', " ");
    format!("ERR '{name}' is not available through the proxy")
}

/// The route of every command that is not simply sent where its keys are.
fn routed_by_name(id: CommandId) -> Option<Routing> {
    key_by_key(id)
        .or_else(|| over_all_groups(id))
        .or_else(|| over_all_nodes(id))
        .or_else(|| of_the_session(id))
        .or_else(|| by_the_proxy(id))
        .or_else(|| by_any_node(id))
        .or_else(|| refused(id))
}

fn key_by_key(id: CommandId) -> Option<Routing> {
    let split = match id {
        id::MGET => Split::InKeyOrder,
        id::MSET => Split::AllOk,
        id::DEL | id::EXISTS | id::TOUCH | id::UNLINK => Split::Sum,
        _ => return None,
    };
    Some(Routing::SplitKeys(split))
}

fn over_all_groups(id: CommandId) -> Option<Routing> {
    let merge = match id {
        id::DBSIZE => Merge::Sum,
        id::KEYS => Merge::Concat,
        id::SCAN => Merge::Cursor,
        id::RANDOMKEY => Merge::PickOne,
        id::FLUSHALL | id::FLUSHDB | id::SWAPDB => Merge::Same,
        _ => return None,
    };
    Some(Routing::AllGroups(merge))
}

fn over_all_nodes(id: CommandId) -> Option<Routing> {
    let merge = match id {
        id::LASTSAVE | id::WAIT => Merge::Least,
        id::SCRIPT_EXISTS => Merge::AnyOne,
        id::SCRIPT_KILL | id::FUNCTION_KILL => Merge::AnyOk,
        id::BGREWRITEAOF | id::BGSAVE | id::SAVE => Merge::Same,
        id::SCRIPT_FLUSH | id::SCRIPT_LOAD => Merge::Same,
        id::MEMORY_PURGE | id::CONFIG_RESETSTAT => Merge::Same,
        id::DEBUG => Merge::Same,
        _ => return None,
    };
    Some(Routing::AllNodes(merge))
}

fn of_the_session(id: CommandId) -> Option<Routing> {
    let session = match id {
        id::DISCARD | id::EXEC | id::MULTI | id::UNWATCH | id::WATCH => Session::Transaction,
        id::PSUBSCRIBE | id::PUNSUBSCRIBE | id::SUBSCRIBE | id::UNSUBSCRIBE => Session::PubSub,
        id::SSUBSCRIBE | id::SUNSUBSCRIBE => Session::PubSub,
        id::PUBLISH | id::SPUBLISH => Session::PubSub,
        id::PUBSUB_CHANNELS | id::PUBSUB_NUMPAT | id::PUBSUB_NUMSUB => Session::PubSub,
        id::PUBSUB_SHARDCHANNELS | id::PUBSUB_SHARDNUMSUB => Session::PubSub,
        _ => return None,
    };
    Some(Routing::Session(session))
}

/// The connection, the proxy's own settings and figures, and what makes the
/// cluster look like one Redis. Containers called alone are only refused for
/// their arity, which needs no node.
fn by_the_proxy(id: CommandId) -> Option<Routing> {
    let spec = id.spec();
    let container = spec.name.split('|').next().unwrap_or_default();
    let whole = matches!(
        container,
        "acl" | "client" | "cluster" | "command" | "config" | "latency" | "slowlog"
    ) && over_all_nodes(id).is_none()
        && by_any_node(id).is_none();
    let alone = matches!(
        id,
        id::AUTH
            | id::ECHO
            | id::HELLO
            | id::INFO
            | id::PING
            | id::QUIT
            | id::READONLY
            | id::READWRITE
            | id::RESET
            | id::ROLE
            | id::SELECT
            | id::TIME
            | id::MODULE_LIST
            | id::MONITOR
            | id::PSYNC
            | id::REPLCONF
            | id::SYNC
    );
    let arity_error_only = spec.is_container() && !spec.is_subcommand();
    (whole || alone || arity_error_only).then_some(Routing::Proxy)
}

fn by_any_node(id: CommandId) -> Option<Routing> {
    let same_everywhere = matches!(
        id,
        id::FUNCTION_DELETE
            | id::FUNCTION_DUMP
            | id::FUNCTION_FLUSH
            | id::FUNCTION_LIST
            | id::FUNCTION_LOAD
            | id::FUNCTION_RESTORE
            | id::FUNCTION_STATS
            | id::MEMORY_DOCTOR
            | id::MEMORY_MALLOC_STATS
            | id::MEMORY_STATS
            | id::LOLWUT
            | id::PFSELFTEST
            | id::FUNCTION_HELP
            | id::MEMORY_HELP
            | id::MODULE_HELP
            | id::OBJECT_HELP
            | id::PUBSUB_HELP
            | id::SCRIPT_HELP
            | id::XGROUP_HELP
            | id::XINFO_HELP
    );
    same_everywhere.then_some(Routing::AnyNode)
}

/// One node's own affairs: its process, its replication, its data moved out
/// behind the cluster's back.
fn refused(id: CommandId) -> Option<Routing> {
    let refused = matches!(
        id,
        id::ASKING
            | id::FAILOVER
            | id::MIGRATE
            | id::MODULE_LOAD
            | id::MODULE_LOADEX
            | id::MODULE_UNLOAD
            | id::REPLICAOF
            | id::RESTORE_ASKING
            | id::SCRIPT_DEBUG
            | id::SHUTDOWN
            | id::SLAVEOF
    );
    refused.then_some(Routing::Refused)
}

#[cfg(test)]
mod tests {
    use super::super::all;
    use super::*;

    const BY_NAME: [fn(CommandId) -> Option<Routing>; 7] = [
        key_by_key,
        over_all_groups,
        over_all_nodes,
        of_the_session,
        by_the_proxy,
        by_any_node,
        refused,
    ];

    #[test]
    fn every_command_has_exactly_one_route() {
        for spec in all() {
            let named = BY_NAME.iter().filter(|by| by(spec.id).is_some()).count();
            assert!(named <= 1, "{} is routed {named} times", spec.name);
            let keyed = spec.first_key != 0 || spec.key_finder.is_some();
            assert!(named == 1 || keyed, "{} has no route", spec.name);
        }
    }

    #[test]
    fn only_commands_that_redis_clients_split_are_split() {
        for spec in all() {
            if let Routing::SplitKeys(_) = routing(spec) {
                let tip = "request_policy:multi_shard";
                assert!(spec.tips.contains(&tip), "{}", spec.name);
            }
        }
    }

    #[test]
    fn routes_are_as_the_design_has_them() {
        for (id, expected) in [
            (id::GET, Routing::Keys),
            (id::EVAL, Routing::Keys),
            (id::MSETNX, Routing::Keys),
            (id::OBJECT_ENCODING, Routing::Keys),
            (id::MGET, Routing::SplitKeys(Split::InKeyOrder)),
            (id::UNLINK, Routing::SplitKeys(Split::Sum)),
            (id::SCAN, Routing::AllGroups(Merge::Cursor)),
            (id::FLUSHALL, Routing::AllGroups(Merge::Same)),
            (id::CLIENT_SETNAME, Routing::Proxy),
            (id::COMMAND, Routing::Proxy),
            (id::CONFIG, Routing::Proxy),
            (id::OBJECT, Routing::Proxy),
            (id::WATCH, Routing::Session(Session::Transaction)),
            (id::MONITOR, Routing::Proxy),
            (id::MIGRATE, Routing::Refused),
            (id::FUNCTION_LOAD, Routing::AnyNode),
            (id::SCRIPT_LOAD, Routing::AllNodes(Merge::Same)),
            (id::CONFIG_RESETSTAT, Routing::AllNodes(Merge::Same)),
            (id::CONFIG_GET, Routing::Proxy),
            (id::SLOWLOG_RESET, Routing::Proxy),
            (id::LATENCY_HISTOGRAM, Routing::Proxy),
        ] {
            assert_eq!(routing(id.spec()), expected, "{}", id.spec().name);
        }
    }
}
