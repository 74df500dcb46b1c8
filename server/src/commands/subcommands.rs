//! What containers of subcommands (CLIENT, CONFIG, …) share.

pub(super) use cairn_protocol::command::help;
use cairn_protocol::command::{
    lookup_called, lookup_full, subcommand_syntax_error, wrong_arity_error,
};
use cairn_protocol::resp::{Args, ReplyWriter};

use crate::net::session::{Next, Session};
use crate::txn::CommandError;

/// A container that was called without a subcommand.
pub(super) fn container(
    _: &mut Session,
    args: &Args<'_>,
    _: &mut ReplyWriter,
) -> Result<Next, CommandError> {
    let spec = lookup_called(args.get(0)).expect("it was dispatched by this name");
    Err(CommandError::line(wrong_arity_error(spec)))
}

/// The same for a container that is one command in the table (DEBUG).
pub(super) fn subcommand_error(args: &Args<'_>, container: &str) -> CommandError {
    let name = String::from_utf8_lossy(args.get(1)).into_owned();
    let name: String = name.chars().take(128).collect();
    CommandError::line(format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try {container} HELP."
    ))
}

/// The error of a subcommand that cannot make sense of its arguments.
pub(super) fn subcommand_syntax(args: &Args<'_>, full_name: &str) -> CommandError {
    let spec = lookup_full(full_name.as_bytes()).expect("a name of the table");
    let line = subcommand_syntax_error(spec, args);
    CommandError::line(String::from_utf8_lossy(&line).into_owned())
}
