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
use cairn_protocol::resp::{
    Args, FrameScanner, ReplyWriter, Version, encode_request, number::parse_i64,
};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

const CHANNEL: &[u8] = b"__redis__:invalidate";
/// An invalidation of everything.
const EVERYTHING: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// Which reads are remembered for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    All,
    /// Those behind CLIENT CACHING YES.
    OptIn,
    /// All but those behind CLIENT CACHING NO.
    OptOut,
    /// None: it hears of every key under its prefixes.
    Broadcast,
}

/// How one client tracks.
#[derive(Debug, Clone)]
pub(crate) struct Tracking {
    mode: Mode,
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

    /// Whether to tell it that everything may have changed: each node says so
    /// of one FLUSHALL, and once is enough.
    fn drops_all(&mut self) -> bool {
        std::mem::take(&mut self.holds) || self.mode == Mode::Broadcast
    }

    /// The command that has a node track for it.
    pub fn wire(&self) -> Bytes {
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON"];
        if self.mode == Mode::Broadcast {
            words.push(b"BCAST");
            for prefix in &self.prefixes {
                words.extend([&b"PREFIX"[..], prefix]);
            }
        }
        if self.no_loop {
            words.push(b"NOLOOP");
        }
        encode(&words)
    }

    /// Whether what the next command reads is remembered.
    pub fn tracks(&self) -> bool {
        match self.mode {
            Mode::All => true,
            Mode::OptIn => self.caching,
            Mode::OptOut => !self.caching,
            Mode::Broadcast => false,
        }
    }

    /// A command was served: CLIENT CACHING is over.
    pub fn command_passed(&mut self) {
        self.caching = false;
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
    let options = Options::read(to, args)?;
    match args.get(2) {
        word if is(word, "on") => {
            let state = to.client.state.borrow();
            let tracking = options.tracking(state.tracking.as_ref())?;
            // Prefixes are added to those that nodes know already.
            let mut new = tracking.clone();
            new.prefixes = options.prefixes.iter().map(|p| p.to_vec()).collect();
            Ok((new.wire(), Some(tracking)))
        }
        word if is(word, "off") => Ok((encode(&[b"CLIENT", b"TRACKING", b"OFF"]), None)),
        _ => Err("ERR syntax error".into()),
    }
}

#[derive(Default)]
struct Options<'a> {
    redirect: Option<u64>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn read(to: &Connection, args: Args<'a>) -> Result<Options<'a>, String> {
        let mut options = Options::default();
        let mut at = 3;
        while let Some(word) = args.try_get(at) {
            match (word, args.try_get(at + 1)) {
                (word, Some(id)) if is(word, "redirect") => {
                    if options.redirect.is_some() {
                        return Err(
                            "ERR A client can only redirect to a single other client".into()
                        );
                    }
                    options.redirect = Some(redirect(to, id)?);
                    at += 1;
                }
                (word, Some(prefix)) if is(word, "prefix") => {
                    options.prefixes.push(prefix);
                    at += 1;
                }
                (word, _) if is(word, "bcast") => options.broadcast = true,
                (word, _) if is(word, "optin") => options.opt_in = true,
                (word, _) if is(word, "optout") => options.opt_out = true,
                (word, _) if is(word, "noloop") => options.no_loop = true,
                _ => return Err("ERR syntax error".into()),
            }
            at += 1;
        }
        Ok(options)
    }

    /// How the client tracks then, if the options agree with each other and
    /// with what it has chosen before.
    fn tracking(&self, before: Option<&Tracking>) -> Result<Tracking, String> {
        let refuse = |line: &str| Err(line.to_owned());
        let was = before.map(|tracking| tracking.mode);
        if !self.broadcast && !self.prefixes.is_empty() {
            return refuse("ERR PREFIX option requires BCAST mode to be enabled");
        }
        if was.is_some_and(|was| (was == Mode::Broadcast) != self.broadcast) {
            return refuse(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this \
                 client, and then re-enabling it with a different mode.",
            );
        }
        if self.broadcast && (self.opt_in || self.opt_out) {
            return refuse("ERR OPTIN and OPTOUT are not compatible with BCAST");
        }
        if self.opt_in && self.opt_out {
            return refuse("ERR You can't specify both OPTIN mode and OPTOUT mode");
        }
        if (self.opt_in && was == Some(Mode::OptOut)) || (self.opt_out && was == Some(Mode::OptIn))
        {
            return refuse(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this \
                 client, and then re-enabling it with a different mode.",
            );
        }
        let mut prefixes = before.map_or(Vec::new(), |tracking| tracking.prefixes.clone());
        self.check_prefixes(&prefixes)?;
        if self.broadcast {
            prefixes.extend(self.prefixes.iter().map(|prefix| prefix.to_vec()));
            if prefixes.is_empty() {
                prefixes.push(Vec::new());
            }
            prefixes.sort_unstable();
            prefixes.dedup();
        }
        Ok(Tracking {
            mode: match (self.broadcast, self.opt_in, self.opt_out) {
                (true, _, _) => Mode::Broadcast,
                (_, true, _) => Mode::OptIn,
                (_, _, true) => Mode::OptOut,
                _ => Mode::All,
            },
            no_loop: self.no_loop,
            prefixes,
            redirect: self.redirect,
            broken: false,
            caching: false,
            holds: false,
        })
    }

    /// No key may be under two prefixes of one client.
    fn check_prefixes(&self, own: &[Vec<u8>]) -> Result<(), String> {
        for (at, prefix) in self.prefixes.iter().enumerate() {
            if let Some(other) = own.iter().find(|other| overlap(prefix, other)) {
                return Err(collision(prefix, "an existing prefix", other));
            }
            let later = &self.prefixes[at + 1..];
            if let Some(other) = later.iter().find(|other| overlap(prefix, other)) {
                return Err(collision(prefix, "another provided prefix", other));
            }
        }
        Ok(())
    }
}

fn overlap(a: &[u8], b: &[u8]) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn collision(prefix: &[u8], what: &str, other: &[u8]) -> String {
    format!(
        "ERR Prefix '{}' overlaps with {what} '{}'. Prefixes for a single client must not overlap.",
        String::from_utf8_lossy(prefix),
        String::from_utf8_lossy(other)
    )
}

fn redirect(to: &Connection, id: &[u8]) -> Result<u64, String> {
    let id = parse_i64(id).ok_or("ERR value is not an integer or out of range")?;
    let known = to.thread.shared.registry.find(id as u64);
    let known = known.ok_or("ERR The client ID you want redirect to does not exist")?;
    Ok(known.id)
}

fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// CLIENT CACHING YES | NO
pub(crate) fn caching(to: &mut Connection, args: Args<'_>) {
    let mut state = to.client.state.borrow_mut();
    let Some(tracking) = &mut state.tracking else {
        return to.reply.error(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN \
             or OPTOUT mode enabled",
        );
    };
    let (needed, refused) = match args.get(2) {
        word if is(word, "yes") => (
            Mode::OptIn,
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
        ),
        word if is(word, "no") => (
            Mode::OptOut,
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
        ),
        _ => return to.reply.error("ERR syntax error"),
    };
    if tracking.mode != needed {
        return to.reply.error(refused);
    }
    tracking.caching = true;
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
    let mut flags = Vec::new();
    let (mut redirect, mut prefixes): (i64, &[Vec<u8>]) = (-1, &[]);
    match &state.tracking {
        None => flags.push("off"),
        Some(tracking) => {
            flags.push("on");
            flags.extend(match (tracking.mode, tracking.caching) {
                (Mode::All, _) => &[][..],
                (Mode::Broadcast, _) => &["bcast"],
                (Mode::OptIn, false) => &["optin"],
                (Mode::OptIn, true) => &["optin", "caching-yes"],
                (Mode::OptOut, false) => &["optout"],
                (Mode::OptOut, true) => &["optout", "caching-no"],
            });
            flags.extend(tracking.no_loop.then_some("noloop"));
            flags.extend(tracking.broken.then_some("broken_redirect"));
            redirect = tracking.redirection();
            prefixes = &tracking.prefixes;
        }
    }
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
        state.out.append(&mut out);
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
