//! Client-side caching: CLIENT TRACKING and its company.
//!
//! How a client tracks is kept here; nodes are told to remember what it reads
//! (all of them, and request by request with TRACK), and send invalidations
//! over its sessions. What a node has remembered is lost with its link, or when
//! slots move away from it: then the client is told that everything may have
//! changed.

use crate::dispatch::{Step, after_all, refuse, send_to_nodes};
use crate::merge::Join;
use crate::net::{Client, Connection, Thread, is_invalidation};
use bytes::{Bytes, BytesMut};
use cairn_protocol::resp::{Args, FrameScanner, ReplyWriter, Version, encode_request};
use cairn_protocol::tracking::{Kind, Options, check_caching, flags};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

const CHANNEL: &[u8] = b"__redis__:invalidate";
/// An invalidation of everything.
const EVERYTHING: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// How one client tracks.
#[derive(Debug, Clone)]
pub(crate) struct Tracking {
    kind: Kind,
    no_loop: bool,
    prefixes: Vec<Vec<u8>>,
    /// The client that gets the invalidations in its place.
    redirect: Option<u64>,
    /// That client has gone.
    broken: bool,
    /// CLIENT CACHING, for the next command.
    caching: bool,
    /// It may hold something since it was last told that everything changed.
    holds: bool,
}

impl Tracking {
    /// It was served something that is remembered for it.
    pub fn was_served(&mut self) {
        self.holds = true;
    }

    /// Whether to tell it that everything may have changed: each group says so of one
    /// FLUSHALL, and once is enough unless it was served something in between.
    ///
    /// With BCAST each counts. What it holds may be what other connections read, between
    /// the flush of one group and that of the next, so only the last could stand for all;
    /// and which is the last nobody knows: the flush may be another proxy's, or a
    /// client's of one node alone. To wait for more would be to leave it stale meanwhile.
    fn drops_all(&mut self) -> bool {
        std::mem::take(&mut self.holds) || self.kind == Kind::Broadcast
    }

    /// The command that has a node track for it.
    pub fn wire(&self) -> Bytes {
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON"];
        if self.kind == Kind::Broadcast {
            words.push(b"BCAST");
            // Every key is under the empty one, beside which no other may be named.
            if !self.prefixes.contains(&Vec::new()) {
                for prefix in &self.prefixes {
                    words.extend([&b"PREFIX"[..], prefix]);
                }
            }
        }
        if self.no_loop {
            words.push(b"NOLOOP");
        }
        encode(&words)
    }

    /// Whether what the next command reads is remembered.
    pub fn tracks(&self) -> bool {
        match self.kind {
            Kind::All => true,
            Kind::OptIn => self.caching,
            Kind::OptOut => !self.caching,
            Kind::Off | Kind::Broadcast => false,
        }
    }

    /// A command was served: CLIENT CACHING is over.
    pub fn command_passed(&mut self) {
        self.caching = false;
    }

    /// It hears of the keys under these too; where it has named none, of all keys.
    fn add_prefixes(&mut self, more: Vec<Vec<u8>>) {
        if self.prefixes.is_empty() {
            self.prefixes.push(Vec::new());
        }
        self.prefixes.extend(more);
        self.prefixes.sort_unstable();
        self.prefixes.dedup();
    }

    fn redirection(&self) -> i64 {
        self.redirect.map_or(0, |id| id as i64)
    }
}

fn encode(words: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::new();
    encode_request(&mut out, words.iter().copied());
    out.freeze()
}

/// CLIENT TRACKING ON | OFF [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]]
/// [BCAST] [OPTIN] [OPTOUT] [NOLOOP]
pub(crate) fn serve(to: &mut Connection, args: Args<'_>) -> Step {
    after_all(to, |to| {
        let (wire, tracking) = match change(to, args) {
            Ok(change) => change,
            Err(line) => return refuse(to, line.into_bytes()),
        };
        let redirect = tracking.as_ref().map_or(-1, Tracking::redirection);
        to.client.info.redirect.store(redirect, Relaxed);
        if tracking.is_some() {
            to.thread.listen(&to.client);
        }
        to.client.state.borrow_mut().tracking = tracking;
        let silent = crate::dispatch::silence(to);
        send_to_nodes(
            to,
            wire,
            true,
            Join::Own(Bytes::from_static(b"+OK\r\n")),
            silent,
        )
    })
}

/// What nodes are told, and how the client tracks from then on.
fn change(to: &Connection, args: Args<'_>) -> Result<(Bytes, Option<Tracking>), String> {
    let find = |id| Some(to.thread.shared.registry.find(id)?.id);
    let options = Options::read(&args, find)?;
    if !options.on {
        return Ok((encode(&[b"CLIENT", b"TRACKING", b"OFF"]), None));
    }
    let state = to.client.state.borrow();
    let before = state.tracking.as_ref();
    let own = before.map_or(Vec::new(), |tracking| tracking.prefixes.clone());
    let kind = options.kind(before.map_or(Kind::Off, |tracking| tracking.kind), &own)?;
    let new: Vec<Vec<u8>> = options.prefixes.iter().map(|p| p.to_vec()).collect();
    let mut tracking = Tracking {
        kind,
        no_loop: options.no_loop,
        prefixes: new,
        redirect: options.redirect,
        broken: false,
        caching: false,
        holds: false,
    };
    // Prefixes are added to those that nodes know already.
    let wire = tracking.wire();
    if kind == Kind::Broadcast {
        tracking.add_prefixes(own);
    }
    Ok((wire, Some(tracking)))
}

/// CLIENT CACHING YES | NO
pub(crate) fn caching(to: &mut Connection, args: Args<'_>) {
    let mut state = to.client.state.borrow_mut();
    let kind = state.tracking.as_ref().map_or(Kind::Off, |t| t.kind);
    if let Err(line) = check_caching(kind, args.get(2)) {
        return to.reply.error(line);
    }
    state.tracking.iter_mut().for_each(|t| t.caching = true);
    to.reply.ok();
}

/// CLIENT GETREDIR
pub(crate) fn getredir(to: &mut Connection) {
    let state = to.client.state.borrow();
    let redirect = state.tracking.as_ref().map_or(-1, Tracking::redirection);
    to.reply.integer(redirect);
}

/// CLIENT TRACKINGINFO
pub(crate) fn info(to: &mut Connection) {
    let state = to.client.state.borrow();
    let out = &mut to.reply;
    let (mut redirect, mut prefixes): (i64, &[Vec<u8>]) = (-1, &[]);
    let flags = match &state.tracking {
        None => flags(Kind::Off, false, false, false),
        Some(tracking) => {
            redirect = tracking.redirection();
            prefixes = &tracking.prefixes;
            let Tracking {
                kind,
                caching,
                no_loop,
                broken,
                ..
            } = *tracking;
            flags(kind, caching, no_loop, broken)
        }
    };
    out.map(3);
    out.bulk(b"flags");
    out.set(flags.len());
    flags.iter().for_each(|flag| out.bulk(flag.as_bytes()));
    out.bulk(b"redirect");
    out.integer(redirect);
    out.bulk(b"prefixes");
    out.array(prefixes.len());
    prefixes.iter().for_each(|prefix| out.bulk(prefix));
}

/// Takes messages of a node for a client: invalidations may be another's.
pub(crate) fn show(thread: &Rc<Thread>, client: &Rc<Client>, messages: Bytes) {
    if client.state.borrow().tracking.is_none() {
        return client.show(messages);
    }
    let mut scanner = FrameScanner::default();
    let mut at = 0;
    while let Ok(Some(len)) = scanner.scan(&messages[at..]) {
        let message = messages.slice(at..at + len);
        at += len;
        match is_invalidation(&message) {
            true => invalidate(thread, client, message),
            false => client.show(message),
        }
    }
}

fn invalidate(thread: &Rc<Thread>, client: &Rc<Client>, message: Bytes) {
    let redirect = {
        let mut state = client.state.borrow_mut();
        let Some(tracking) = &mut state.tracking else {
            return;
        };
        if message == EVERYTHING && !tracking.drops_all() {
            return;
        }
        tracking.redirect
    };
    match redirect {
        Some(target) => pass_on(thread, client, target, &message),
        None => client.show(message),
    }
}

/// Sends an invalidation to the client that a client redirects to. In RESP2 it
/// is a message, to a subscriber alone.
fn pass_on(thread: &Rc<Thread>, client: &Rc<Client>, target: u64, message: &[u8]) {
    let Some(info) = thread.shared.registry.find(target) else {
        return report_broken(client, target);
    };
    if info.labels.lock().resp3 {
        return info.send(message);
    }
    if info.subscribes() {
        let keys = &message[b">2\r\n$10\r\ninvalidate\r\n".len()..];
        let mut out = ReplyWriter::new(Version::V2);
        out.array(3);
        out.bulk(b"message");
        out.bulk(CHANNEL);
        match keys {
            b"_\r\n" => out.null(),
            keys => out.raw(keys),
        }
        info.send(&out.to_vec());
    }
}

/// The client that invalidations were to be sent to has gone.
fn report_broken(client: &Rc<Client>, target: u64) {
    let mut state = client.state.borrow_mut();
    if let Some(tracking) = &mut state.tracking {
        tracking.broken = true;
    }
    if state.version == Version::V3 {
        let mut out = ReplyWriter::new(Version::V3);
        out.push(2);
        out.bulk(b"tracking-redir-broken");
        out.integer(target as i64);
        state.show_unasked(&out.to_vec());
    }
}

/// A node has forgotten, or no longer sees, what a client has read.
pub(crate) fn lose(thread: &Rc<Thread>, client: &Rc<Client>) {
    let tracks = client.state.borrow().tracking.is_some();
    if tracks {
        show(thread, client, Bytes::from_static(EVERYTHING));
        thread.mark_dirty(client.clone());
    }
}

/// Slots have moved: the same for all clients of the thread.
pub(crate) fn lose_all(thread: &Rc<Thread>) {
    for client in thread.listeners() {
        lose(thread, &client);
    }
}
