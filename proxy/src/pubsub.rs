//! Subscriptions. A client's are put at every node, so that a message reaches
//! it wherever it is published: a channel's at the node that was asked, a
//! sharded channel's at the owner of its slot, a keyspace event's where the key
//! is. A move of slots thus changes nothing. What the client is told is written
//! here, once all nodes have answered.
//!
//! A node that is away is left out; it hears of all subscriptions when its link
//! comes up ([`renew`]).

use crate::backend::{Call, Link, retry};
use crate::dispatch::{Step, after_all, any_node, send_to_nodes, silence};
use crate::merge::Join;
use crate::net::{Client, Connection, Kind, Thread};
use crate::route::Lane;
use bytes::{Bytes, BytesMut};
use cairn_protocol::command::{CommandId, CommandSpec, id, subscriber_error};
use cairn_protocol::link::RequestFlags;
use cairn_protocol::resp::{Args, ReplyWriter, Version, encode_request};
use std::rc::Rc;

/// The word, kind and direction of a command.
fn meaning(command: CommandId) -> Option<(&'static str, Kind, bool)> {
    Some(match command {
        id::SUBSCRIBE => ("subscribe", Kind::Channel, true),
        id::PSUBSCRIBE => ("psubscribe", Kind::Pattern, true),
        id::SSUBSCRIBE => ("ssubscribe", Kind::Shard, true),
        id::UNSUBSCRIBE => ("unsubscribe", Kind::Channel, false),
        id::PUNSUBSCRIBE => ("punsubscribe", Kind::Pattern, false),
        id::SUNSUBSCRIBE => ("sunsubscribe", Kind::Shard, false),
        _ => return None,
    })
}

const SUBSCRIBE: [&str; 3] = ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"];

/// Subscriptions, PUBLISH and PUBSUB, behind all that was asked before.
pub(crate) fn serve(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) -> Step {
    after_all(to, |to| match meaning(spec.id) {
        Some((word, kind, begins)) => {
            // It is shown, and is the one that CLIENT REPLY SKIP was for all the same.
            silence(to);
            match begins {
                true => subscribe(to, word, kind, args),
                false => unsubscribe(to, word, kind, args),
            }
        }
        // All nodes know the subscriptions of all proxies.
        None => any_node(to, spec, args),
    })
}

/// What a subscriber in RESP2 is told that asks for something else.
pub(crate) fn refused_to_subscriber(to: &Connection, spec: &CommandSpec) -> Option<Vec<u8>> {
    if to.session.version == Version::V3 || !to.client.state.borrow().listening.any() {
        return None;
    }
    let allowed = meaning(spec.id).is_some() || matches!(spec.id, id::PING | id::QUIT | id::RESET);
    (!allowed).then(|| subscriber_error(spec).into_bytes())
}

fn subscribe(to: &mut Connection, word: &str, kind: Kind, args: Args<'_>) -> Step {
    let mut new = Vec::new();
    {
        let mut state = to.client.state.borrow_mut();
        for name in args.iter().skip(1) {
            if state.listening.insert(kind, name) {
                new.push(name);
            }
            confirm(&mut to.reply, word, Some(name), &state.listening, kind);
        }
    }
    to.thread.listen(&to.client);
    to.client.show_subscriptions();
    if new.is_empty() {
        return answer(to);
    }
    // From here on messages may come; they are shown behind the confirmation.
    to.client.state.borrow_mut().listening.holding = true;
    tell_nodes(to, word, &new)
}

fn unsubscribe(to: &mut Connection, word: &str, kind: Kind, args: Args<'_>) -> Step {
    let mut gone: Vec<Bytes> = Vec::new();
    {
        let mut state = to.client.state.borrow_mut();
        let names = match args.len() {
            1 => state.listening.names(kind),
            _ => args.iter().skip(1).map(Bytes::copy_from_slice).collect(),
        };
        for name in &names {
            if state.listening.remove(kind, name) {
                gone.push(name.clone());
            }
            confirm(&mut to.reply, word, Some(name), &state.listening, kind);
        }
        if names.is_empty() {
            // Subscribed to nothing: there is an answer all the same.
            confirm(&mut to.reply, word, None, &state.listening, kind);
        }
    }
    to.client.show_subscriptions();
    if gone.is_empty() {
        return answer(to);
    }
    let gone: Vec<&[u8]> = gone.iter().map(|name| &name[..]).collect();
    tell_nodes(to, word, &gone)
}

fn confirm(
    out: &mut ReplyWriter,
    word: &str,
    name: Option<&[u8]>,
    listening: &crate::net::Listening,
    kind: Kind,
) {
    out.push(3);
    out.bulk(word.as_bytes());
    out.bulk_or_null(name);
    out.integer(listening.count_beside(kind) as i64);
}

/// A confirmation is sent even to a client that wants no replies.
fn answer(to: &mut Connection) -> Step {
    to.client.state.borrow_mut().answer(&mut to.reply, false);
    Step::Routed
}

/// Passes it on to all nodes; what is in `reply` is the answer then.
fn tell_nodes(to: &mut Connection, word: &str, names: &[&[u8]]) -> Step {
    let own = Bytes::from(to.reply.to_vec());
    to.reply.clear();
    let wire = command(word, names.iter().copied());
    send_to_nodes(to, wire, true, Join::Own(own), false)
}

fn command<'a>(word: &'a str, names: impl Iterator<Item = &'a [u8]>) -> Bytes {
    let words: Vec<&[u8]> = std::iter::once(word.as_bytes()).chain(names).collect();
    let mut out = BytesMut::new();
    encode_request(&mut out, words);
    out.freeze()
}

/// A client's subscriptions as commands.
fn all_of(client: &Client) -> Vec<Bytes> {
    let state = client.state.borrow();
    let mut wires = Vec::new();
    for kind in Kind::ALL {
        let names = state.listening.names(kind);
        if !names.is_empty() {
            let names = names.iter().map(|name| &name[..]);
            wires.push(command(SUBSCRIBE[kind as usize], names));
        }
    }
    if client
        .info
        .monitoring
        .load(std::sync::atomic::Ordering::Relaxed)
    {
        wires.push(command("MONITOR", std::iter::empty()));
    }
    wires.extend(state.tracking.as_ref().map(|tracking| tracking.wire()));
    wires
}

/// A link has come up: tells its node of all that the thread's clients listen to.
pub(crate) fn renew(thread: &Rc<Thread>, link: &Link) {
    let lane = thread.routes.borrow().lane_of_node(link.address());
    let Some(lane) = lane else { return };
    for client in thread.listeners() {
        for wire in all_of(&client) {
            detached(thread, &client, lane, wire);
        }
    }
}

/// Sends a command whose answer nobody waits for.
pub(crate) fn detached(thread: &Rc<Thread>, client: &Rc<Client>, lane: Lane, wire: Bytes) {
    // No place in the order of replies.
    let nowhere = (u64::MAX, 0);
    ask(thread, client, lane, wire, nowhere, RequestFlags::default());
}

/// Sends the proxy's own question; its answer is that part of that reply.
pub(crate) fn ask(
    thread: &Rc<Thread>,
    client: &Rc<Client>,
    lane: Lane,
    wire: Bytes,
    (seq, part): (u64, u32),
    flags: RequestFlags,
) {
    let call = Call {
        client: client.clone(),
        seq,
        part,
        lane,
        database: 0,
        flags,
        write: false,
        blocking: false,
        wire,
        scripts: Vec::new(),
        born_ms: thread.now_ms(),
        offset: 0,
        roams: false,
        scan: None,
    };
    let mut state = client.state.borrow_mut();
    retry::submit(thread, &mut state, call);
}
