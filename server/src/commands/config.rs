//! CONFIG: settings seen and changed while the server runs.

use cairn_protocol::command::glob_match;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::{Handler, help};
use crate::config::Settings;
use crate::config::parameters::{PARAMETERS, find};
use crate::net::session::{Next, Session};
use crate::stats::KeysGone;
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("config", Handler::Session(super::container)),
    ("config|get", Handler::Session(get)),
    ("config|help", Handler::Session(config_help)),
    ("config|resetstat", Handler::Session(resetstat)),
    ("config|rewrite", Handler::Session(rewrite)),
    ("config|set", Handler::Session(set)),
];

type Done = Result<Next, CommandError>;

/// CONFIG GET parameter [parameter ...]
///
/// Replies with a map of the parameters that match one of the patterns.
fn get(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let settings = session.server.settings.lock();
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    for pattern in args.iter().skip(2) {
        for (name, at) in matching(pattern) {
            if !found.iter().any(|(known, _)| *known == name) {
                found.push((name, shown(&settings, at)));
            }
        }
    }
    drop(settings);
    out.map(found.len());
    for (name, value) in found {
        out.bulk(name.as_bytes());
        out.bulk(&value);
    }
    Ok(Next::Continue)
}

/// CONFIG HELP
fn config_help(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    help(out, "CONFIG", HELP);
    Ok(Next::Continue)
}

/// CONFIG RESETSTAT
fn resetstat(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let gone = KeysGone::of(&session.server.groups());
    session.server.stats.reset(gone);
    out.ok();
    Ok(Next::Continue)
}

/// CONFIG REWRITE
fn rewrite(session: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    rewrite_file(session, false)
}

/// `all`: with what is as by default (DEBUG CONFIG-REWRITE-FORCE-ALL).
pub(super) fn rewrite_file(session: &Session, all: bool) -> Done {
    let Some(path) = session.server.config.config_file.clone() else {
        return Err(CommandError::fixed(
            "ERR The server is running without a config file",
        ));
    };
    let settings = session.server.settings.lock().clone();
    // With an ACL file the configuration has none, nor in a cluster.
    let server = &session.server;
    let users = match settings.is_default("aclfile") && !server.is_cluster() {
        true => server.acl.all(),
        false => Vec::new(),
    };
    let users: Vec<Vec<u8>> = users.iter().map(|account| account.user().line()).collect();
    Ok(Next::Work(Box::new(
        move |out| match crate::config::rewrite(&path, &settings, users, all) {
            Ok(()) => out.ok(),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "CONFIG REWRITE failed");
                out.error(format!("ERR Rewriting config file: {error}"));
            }
        },
    )))
}

/// CONFIG SET parameter value [parameter value ...]
///
/// All or nothing.
fn set(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::SYNTAX);
    }
    let server = session.server.clone();
    let mut settings = server.settings.lock();
    let chosen = chosen_parameters(args, &settings, session)?;
    let mut new = settings.clone();
    for (i, at) in chosen.iter().enumerate() {
        let parameter = &PARAMETERS[*at];
        let text = args.get(2 * i + 3);
        // Several words of one argument are parted by single blanks.
        let words: Vec<&[u8]> = match parameter.is_multi() {
            true => text.split(|b| *b == b' ').collect(),
            false => vec![text],
        };
        // The name as the client has it, which may be an old one.
        let name = String::from_utf8_lossy(args.get(2 * i + 2)).to_ascii_lowercase();
        new.set(*at, &words).map_err(|why| refused(&name, &why))?;
    }
    let names: Vec<&'static str> = chosen.iter().map(|at| PARAMETERS[*at].name).collect();
    server
        .apply_settings(&names, &new)
        .map_err(|(name, why)| refused(name, &why))?;
    *settings = new;
    out.ok();
    Ok(Next::Continue)
}

/// The parameters of a CONFIG SET, or the first thing that is wrong with them.
fn chosen_parameters(
    args: &Args<'_>,
    settings: &Settings,
    session: &Session,
) -> Result<Vec<usize>, CommandError> {
    let mut chosen: Vec<usize> = Vec::new();
    for (i, name) in args.iter().skip(2).step_by(2).enumerate() {
        let shown = super::arguments::shown(name);
        let at = find(name).ok_or_else(|| {
            CommandError::line(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{shown}'"
            ))
        })?;
        let parameter = &PARAMETERS[at];
        // Whoever sets everything to what it is changes nothing of ours.
        let same = parameter.is_own() && args.get(2 * i + 3) == settings.value(at);
        if parameter.is_fixed() && !same {
            return Err(refused(&shown, "can't set immutable config"));
        }
        if parameter.is_protected() && !allowed(settings, "enable-protected-configs", session) {
            return Err(refused(&shown, "can't set protected config"));
        }
        if chosen.contains(&at) {
            return Err(refused(&shown, "duplicate parameter"));
        }
        chosen.push(at);
    }
    Ok(chosen)
}

/// Whether a setting of `no`, `local` or `yes` lets this client through.
pub(super) fn allowed(settings: &Settings, name: &str, session: &Session) -> bool {
    match settings.bytes(name) {
        b"yes" => true,
        b"local" => session.client.peer.is_local(),
        _ => false,
    }
}

fn refused(name: &str, why: &str) -> CommandError {
    CommandError::line(format!(
        "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
    ))
}

/// Names, old ones included, that a pattern means.
fn matching(pattern: &[u8]) -> Vec<(String, usize)> {
    if !pattern.iter().any(|b| matches!(b, b'[' | b'*' | b'?')) {
        let name = String::from_utf8_lossy(pattern).into_owned();
        return find(pattern).map(|at| (name, at)).into_iter().collect();
    }
    let mut found = Vec::new();
    for (at, parameter) in PARAMETERS
        .iter()
        .enumerate()
        .filter(|(_, p)| !p.is_hidden())
    {
        for name in [parameter.name, parameter.alias] {
            if !name.is_empty() && glob_match(pattern, name.as_bytes(), true) {
                found.push((name.to_owned(), at));
            }
        }
    }
    found
}

fn shown(settings: &Settings, at: usize) -> Vec<u8> {
    if PARAMETERS[at].name != "dir" {
        return settings.value(at).to_vec();
    }
    // As in Redis, the folder in which the process runs.
    let folder = std::env::current_dir().ok();
    folder.map_or_else(Vec::new, |f| f.to_string_lossy().into_owned().into_bytes())
}

const HELP: &[&str] = &[
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Rewrite the configuration file.",
];
