//! MODULE: there are none, and none can be loaded.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::{Handler, container, help};
use crate::net::session::{Next, Session};
use crate::txn::CommandError;

type Done = Result<Next, CommandError>;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("module", Handler::Session(container)),
    ("module|help", Handler::Session(module_help)),
    ("module|list", Handler::Session(list)),
    ("module|load", Handler::Session(load)),
    ("module|loadex", Handler::Session(load)),
    ("module|unload", Handler::Session(unload)),
];

const NOT_ALLOWED: &str = "ERR MODULE command not allowed. If the enable-module-command option is \
                           set to \"local\", you can run it from a local connection, otherwise you \
                           need to set this option in the configuration file, and then restart \
                           the server.";

/// MODULE HELP
fn module_help(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    help(out, "MODULE", HELP);
    Ok(Next::Continue)
}

/// MODULE LIST
///
/// What tools ask to learn what a server can do: there is nothing beside Redis's own
/// commands.
fn list(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.array(0);
    Ok(Next::Continue)
}

/// MODULE LOAD path [arg ...], MODULE LOADEX path ...
fn load(session: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    refuse(
        session,
        "ERR Error loading the extension. Please check the server logs.",
    )
}

/// MODULE UNLOAD name
fn unload(session: &mut Session, _: &Args<'_>, _: &mut ReplyWriter) -> Done {
    refuse(
        session,
        "ERR Error unloading module: no such module with that name",
    )
}

fn refuse(session: &Session, why: &'static str) -> Done {
    Err(CommandError::fixed(refused(session).unwrap_or(why)))
}

/// What a client that may not load modules is told.
pub(super) fn refused(session: &Session) -> Option<&'static str> {
    let settings = session.server.settings.lock();
    let allowed = super::config::allowed(&settings, "enable-module-command", session);
    (!allowed).then_some(NOT_ALLOWED)
}

const HELP: &[&str] = &[
    "LIST",
    "    Return a list of loaded modules.",
    "LOAD <path> [<arg> ...]",
    "    Load a module library from <path>, passing to it any optional arguments.",
    "LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
    "    Load a module library from <path>, while passing it module configurations and optional \
     arguments.",
    "UNLOAD <name>",
    "    Unload a module.",
];
