//! CLIENT TRACKING and its company. Wire side only; who is told what is
//! `crate::tracking`.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::{integer, is};
use crate::net::session::{Next, Session};
use crate::tracking::{Kind, Mode, Redirect};
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("client|caching", Handler::Session(caching)),
    ("client|getredir", Handler::Session(getredir)),
    ("client|tracking", Handler::Session(tracking)),
    ("client|trackinginfo", Handler::Session(trackinginfo)),
];

type Done = Result<Next, CommandError>;

/// CLIENT CACHING YES | NO
///
/// Holds for the next command that is not CLIENT.
fn caching(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if session.tracking == Kind::Off {
        return Err(CommandError::fixed(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN \
             or OPTOUT mode enabled",
        ));
    }
    let (needed, refused) = match args.get(2) {
        word if is(word, "YES") => (
            Kind::OptIn,
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
        ),
        word if is(word, "NO") => (
            Kind::OptOut,
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
        ),
        _ => return Err(CommandError::SYNTAX),
    };
    if session.tracking != needed {
        return Err(CommandError::fixed(refused));
    }
    session.caching = true;
    out.ok();
    Ok(Next::Continue)
}

/// CLIENT GETREDIR
///
/// Replies with -1 if the client does not track, 0 if it redirects to nobody.
fn getredir(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.integer(redirection(&session.client.tracking.mode()));
    Ok(Next::Continue)
}

/// CLIENT TRACKING ON | OFF [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]]
/// [BCAST] [OPTIN] [OPTOUT] [NOLOOP]
fn tracking(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Options::read(session, args)?;
    let on = match args.get(2) {
        word if is(word, "ON") => true,
        word if is(word, "OFF") => false,
        _ => return Err(CommandError::SYNTAX),
    };
    let server = session.server.clone();
    let tracking = &server.announcer.tracking;
    if !on {
        tracking.disable(&session.client);
        (session.tracking, session.caching) = (Kind::Off, false);
        out.ok();
        return Ok(Next::Continue);
    }
    let kind = options.kind(session)?;
    let first = !tracking.any();
    let mode = Mode {
        kind,
        no_loop: options.no_loop,
        redirect: options.redirect,
        broken: false,
    };
    tracking.enable(&session.client, mode, &options.prefixes);
    session.tracking = kind;
    out.ok();
    match first {
        // Writers that did not know of any listener are waited for.
        true => Ok(Next::Wait(Box::pin(server.writers_have_heard()))),
        false => Ok(Next::Continue),
    }
}

/// CLIENT TRACKINGINFO
fn trackinginfo(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let mode = session.client.tracking.mode();
    let words: &[&str] = match (mode.kind, session.caching) {
        (Kind::Off, _) => &["off"],
        (Kind::All, _) => &["on"],
        (Kind::Broadcast, _) => &["on", "bcast"],
        (Kind::OptIn, false) => &["on", "optin"],
        (Kind::OptIn, true) => &["on", "optin", "caching-yes"],
        (Kind::OptOut, false) => &["on", "optout"],
        (Kind::OptOut, true) => &["on", "optout", "caching-no"],
    };
    let mut flags = words.to_vec();
    flags.extend(mode.no_loop.then_some("noloop"));
    flags.extend(mode.broken.then_some("broken_redirect"));
    let prefixes = session.client.tracking.prefixes();
    out.map(3);
    out.bulk(b"flags");
    out.set(flags.len());
    flags.iter().for_each(|flag| out.bulk(flag.as_bytes()));
    out.bulk(b"redirect");
    out.integer(redirection(&mode));
    out.bulk(b"prefixes");
    out.array(prefixes.len());
    prefixes.iter().for_each(|prefix| out.bulk(prefix));
    Ok(Next::Continue)
}

/// As GETREDIR and CLIENT LIST show it.
pub(super) fn redirection(mode: &Mode) -> i64 {
    match (&mode.redirect, mode.kind) {
        (_, Kind::Off) => -1,
        (Some(redirect), _) => redirect.id as i64,
        (None, _) => 0,
    }
}

#[derive(Default)]
struct Options<'a> {
    redirect: Option<Redirect>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn read(session: &Session, args: &Args<'a>) -> Result<Options<'a>, CommandError> {
        let mut options = Options::default();
        let mut at = 3;
        while let Some(word) = args.try_get(at) {
            match (word, args.try_get(at + 1)) {
                (word, Some(id)) if is(word, "REDIRECT") => {
                    options.read_redirect(session, id)?;
                    at += 1;
                }
                (word, Some(prefix)) if is(word, "PREFIX") => {
                    options.prefixes.push(prefix);
                    at += 1;
                }
                (word, _) if is(word, "BCAST") => options.broadcast = true,
                (word, _) if is(word, "OPTIN") => options.opt_in = true,
                (word, _) if is(word, "OPTOUT") => options.opt_out = true,
                (word, _) if is(word, "NOLOOP") => options.no_loop = true,
                _ => return Err(CommandError::SYNTAX),
            }
            at += 1;
        }
        Ok(options)
    }

    fn read_redirect(&mut self, session: &Session, id: &[u8]) -> Result<(), CommandError> {
        if self.redirect.is_some() {
            return Err(CommandError::fixed(
                "ERR A client can only redirect to a single other client",
            ));
        }
        let id = integer(id)?;
        let target = session.server.clients.get(&(id as u64));
        let target = target.ok_or(CommandError::fixed(
            "ERR The client ID you want redirect to does not exist",
        ))?;
        self.redirect = Some(Redirect::to(&target));
        Ok(())
    }

    /// What is to be remembered, if the options agree with each other and with
    /// what the client has chosen before.
    fn kind(&self, session: &Session) -> Result<Kind, CommandError> {
        let refuse = |line| Err(CommandError::fixed(line));
        if !self.broadcast && !self.prefixes.is_empty() {
            return refuse("ERR PREFIX option requires BCAST mode to be enabled");
        }
        let before = session.tracking;
        if before != Kind::Off && (before == Kind::Broadcast) != self.broadcast {
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
        if (self.opt_in && before == Kind::OptOut) || (self.opt_out && before == Kind::OptIn) {
            return refuse(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this \
                 client, and then re-enabling it with a different mode.",
            );
        }
        if self.broadcast {
            self.check_prefixes(session)?;
            return Ok(Kind::Broadcast);
        }
        Ok(match (self.opt_in, self.opt_out) {
            (true, _) => Kind::OptIn,
            (_, true) => Kind::OptOut,
            _ => Kind::All,
        })
    }

    /// No key may be under two prefixes of one client.
    fn check_prefixes(&self, session: &Session) -> Result<(), CommandError> {
        let own = session.client.tracking.prefixes();
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

fn collision(prefix: &[u8], what: &str, other: &[u8]) -> CommandError {
    let (prefix, other) = (
        String::from_utf8_lossy(prefix),
        String::from_utf8_lossy(other),
    );
    CommandError::line(format!(
        "ERR Prefix '{prefix}' overlaps with {what} '{other}'. Prefixes for a single client must \
         not overlap."
    ))
}
