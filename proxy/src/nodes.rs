//! What belongs to nodes rather than to keys: settings, figures, logs.
//!
//! Sent to every node, and put together so that the cluster answers as one
//! Redis; the proxy's own part (its settings, its clients) it adds itself.

use crate::dispatch::{Step, after_all, any_node, forward, refuse, send_to_nodes, silence, wire};
use crate::local;
use crate::merge::{InfoMerge, Join};
use crate::net::Connection;
use crate::route::Lane;
use crate::{replica, tracking, users};
use bytes::{Bytes, BytesMut};
use cairn_protocol::command::{CommandSpec, id};
use cairn_protocol::resp::{Args, encode_request, number::parse_i64};
use cairn_protocol::slot::key_slot;

/// A command for all nodes.
pub(crate) fn all(to: &mut Connection, spec: &CommandSpec, args: Args<'_>, join: Join) -> Step {
    match spec.id {
        id::DEBUG => return debug(to, spec, args),
        id::SCRIPT_FLUSH => to.thread.shared.scripts.forget(),
        id::CONFIG_RESETSTAT => to.thread.shared.reset_stats(),
        id::SCRIPT_LOAD => {
            to.thread.shared.scripts.remember(args.get(2));
        }
        _ => {}
    }
    after_all(to, |to| {
        let silent = silence(to);
        let wire = match spec.id {
            id::WAIT if to.client.state.borrow().captures() => wait_no_longer(args),
            _ => wire(args),
        };
        let step = send_to_nodes(to, wire, false, join, silent);
        if spec.id == id::WAIT {
            to.client.begin_waiting_for_replicas();
        }
        step
    })
}

/// WAIT in a transaction, where nothing waits.
fn wait_no_longer(args: Args<'_>) -> Bytes {
    // What is wrong with a timeout the nodes say.
    match parse_i64(args.get(2)) {
        Some(timeout) if timeout >= 0 => command(&[b"WAIT", args.get(1), b"1"]),
        _ => wire(args),
    }
}

/// DEBUG: about a key it goes where that is.
fn debug(to: &mut Connection, spec: &CommandSpec, args: Args<'_>) -> Step {
    let is = |word: &str| args.get(1).eq_ignore_ascii_case(word.as_bytes());
    let of_key = ["object", "listpack", "ziplist", "sdslen", "digest-value"];
    if of_key.into_iter().any(is) && args.len() > 2 {
        let slot = key_slot(args.get(2));
        if args.slice_from(2).iter().any(|key| key_slot(key) != slot) && is("digest-value") {
            let line = b"CROSSSLOT Keys in request don't hash to the same slot";
            return refuse(to, line.to_vec());
        }
        return after_all(to, |to| forward(to, spec, args, Lane::slot(slot)));
    }
    let answered_by_one = ["help", "protocol", "error", "log", "sleep", "structsize"];
    if answered_by_one.into_iter().any(is) {
        return after_all(to, |to| any_node(to, spec, args));
    }
    let join = if is("digest") { Join::Xor } else { Join::Same };
    after_all(to, |to| {
        let silent = silence(to);
        send_to_nodes(to, wire(args), false, join, silent)
    })
}

/// Whether nodes help with a command whose route is the proxy.
pub(crate) fn helps(spec: &CommandSpec) -> bool {
    users::needs_others(spec.id)
        || matches!(
            spec.id,
            id::CLIENT_TRACKING | id::CONFIG_GET | id::CONFIG_SET | id::INFO | id::MONITOR
        )
}

/// A command whose route is the proxy: some are answered with the nodes' help.
pub(crate) fn or_proxy(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) -> Step {
    match spec.id {
        id::CLIENT_TRACKING => tracking::serve(to, args),
        id::CONFIG_GET => config_get(to, args),
        id::CONFIG_SET if args.len().is_multiple_of(2) => config_set(to, spec, args),
        id::INFO if !local::is_own_info(args) => info(to, args),
        id::MONITOR => monitor(to),
        id::SYNC | id::PSYNC => replica::serve(to, spec, args),
        // What was asked before is asked by whoever was logged in then; of RESET
        // the new session begins where the old one has ended.
        id::AUTH | id::HELLO | id::RESET => after_all(to, |to| local::serve(to, spec, args)),
        _ if users::needs_others(spec.id) => users::serve(to, spec, args),
        _ => local::serve(to, spec, args),
    }
}

/// CONFIG GET pattern [pattern ...]
fn config_get(to: &mut Connection, args: Args<'_>) -> Step {
    let own = local::own_parameters(to, args);
    let exact = |pattern: &[u8]| !pattern.iter().any(|c| b"*?[\\".contains(c));
    let all_own = args.slice_from(2).iter().all(|pattern| {
        exact(pattern)
            && own
                .iter()
                .any(|(name, _)| pattern.eq_ignore_ascii_case(name.as_bytes()))
    });
    if all_own {
        return local::serve(to, id::CONFIG_GET.spec(), args);
    }
    after_all(to, |to| {
        let silent = silence(to);
        send_to_nodes(to, wire(args), false, Join::Config(own), silent)
    })
}

/// CONFIG SET name value [name value ...]: the proxy's own here, others at all
/// nodes, and at both what both have for their own logs. Those of nodes hold until they are restarted.
fn config_set(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) -> Step {
    let of_nodes: Vec<usize> = (2..args.len())
        .step_by(2)
        .filter(|at| local::is_for_nodes(args.get(*at)))
        .collect();
    if of_nodes.is_empty() {
        return local::serve(to, spec, args);
    }
    after_all(to, |to| {
        if let Err(line) = local::set_own_parameters(to, args) {
            return refuse(to, line.into_bytes());
        }
        let mut words: Vec<&[u8]> = vec![b"CONFIG", b"SET"];
        for at in of_nodes {
            words.extend([args.get(at), args.get(at + 1)]);
        }
        let mut wire = BytesMut::new();
        encode_request(&mut wire, words);
        let silent = silence(to);
        send_to_nodes(to, wire.freeze(), false, Join::Same, silent)
    })
}

/// INFO: never waits for a node that is away.
fn info(to: &mut Connection, args: Args<'_>) -> Step {
    after_all(to, |to| {
        let own = InfoMerge::new(local::own_info(to, args), to.session.version);
        let silent = silence(to);
        send_to_nodes(to, wire(args), true, Join::Info(Box::new(own)), silent)
    })
}

/// MONITOR: nodes tell what scripts call. A client that monitors already gets
/// no reply, as in Redis.
fn monitor(to: &mut Connection) -> Step {
    // Within MULTI every command has one reply.
    if to.client.state.borrow().captures() {
        let line = b"ERR MONITOR isn't allowed for DENY BLOCKING client";
        return refuse(to, line.to_vec());
    }
    after_all(to, |to| {
        let silent = silence(to);
        if !to.thread.shared.monitors.add(&to.client.info) {
            return Step::Routed;
        }
        to.thread.listen(&to.client);
        let ok = Join::Own(Bytes::from_static(b"+OK\r\n"));
        send_to_nodes(to, command(&[b"MONITOR"]), true, ok, silent)
    })
}

/// The words as a command.
pub(crate) fn command(words: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::new();
    encode_request(&mut out, words.iter().copied());
    out.freeze()
}
