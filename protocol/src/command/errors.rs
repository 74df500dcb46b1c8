//! The errors that precede every command, byte for byte as Redis 7.0 words
//! them. Texts come without the leading `-` and the final line end, and hold
//! no line end of their own, whatever the client sent.

use super::id;
use super::keys::ArgList;
use super::spec::CommandSpec;

/// How many bytes of a client's words an error repeats.
const ECHO_LIMIT: usize = 128;

/// Whether a command of this name is a line of HTTP: a web page has a browser send it,
/// in the hope that later lines are commands. Its connection is closed.
pub fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// `ERR unknown command 'foo', with args beginning with: 'a' 'b' `
///
/// The name and all the arguments together are cut at 128 bytes each.
pub fn unknown_command_error<A: ArgList + ?Sized>(args: &A) -> Vec<u8> {
    let mut echoed = Vec::new();
    for index in 1..args.len() {
        if echoed.len() >= ECHO_LIMIT {
            break;
        }
        let room = ECHO_LIMIT - echoed.len();
        push_parts(&mut echoed, &[b"'", echo(args.get(index), room), b"' "]);
    }
    let name = if args.is_empty() { b"" } else { args.get(0) };
    one_line(&[
        b"ERR unknown command '",
        echo(name, ECHO_LIMIT),
        b"', with args beginning with: ",
        &echoed,
    ])
}

/// `ERR unknown subcommand 'x'. Try CONFIG HELP.`
pub fn unknown_subcommand_error<A: ArgList + ?Sized>(container: &CommandSpec, args: &A) -> Vec<u8> {
    one_line(&[
        b"ERR unknown subcommand '",
        echo(args.get(1), ECHO_LIMIT),
        b"'. Try ",
        container.name.to_ascii_uppercase().as_bytes(),
        b" HELP.",
    ])
}

/// `ERR wrong number of arguments for 'config|get' command`
pub fn wrong_arity_error(spec: &CommandSpec) -> String {
    refusal(
        spec,
        &format!("wrong number of arguments for '{}' command", spec.name),
    )
}

/// `ERR Can't execute 'get': only (P|S)SUBSCRIBE / ... are allowed in this context`
pub fn subscriber_error(spec: &CommandSpec) -> String {
    let why = format!(
        "Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
         allowed in this context",
        spec.name
    );
    refusal(spec, &why)
}

/// An EXEC that is refused, for whatever reason, ends its transaction and
/// answers EXECABORT with the reason.
fn refusal(spec: &CommandSpec, why: &str) -> String {
    match spec.id {
        id::EXEC => format!("EXECABORT Transaction discarded because of: {why}"),
        _ => format!("ERR {why}"),
    }
}

/// What a subcommand answers that cannot make sense of its arguments:
/// `ERR unknown subcommand or wrong number of arguments for 'x'. Try OBJECT HELP.`
pub fn subcommand_syntax_error<A: ArgList + ?Sized>(spec: &CommandSpec, args: &A) -> Vec<u8> {
    let container = spec.name.split('|').next().unwrap_or_default();
    one_line(&[
        b"ERR unknown subcommand or wrong number of arguments for '",
        echo(args.get(1), ECHO_LIMIT),
        b"'. Try ",
        container.to_ascii_uppercase().as_bytes(),
        b" HELP.",
    ])
}

/// What of a client's word is repeated: at most `limit` bytes, and nothing
/// from a NUL byte on, because Redis prints it as a C string.
fn echo(word: &[u8], limit: usize) -> &[u8] {
    let word = &word[..word.len().min(limit)];
    let end = word.iter().position(|byte| *byte == 0);
    &word[..end.unwrap_or(word.len())]
}

fn push_parts(text: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        text.extend_from_slice(part);
    }
}

/// The parts together, with blanks for line ends.
fn one_line(parts: &[&[u8]]) -> Vec<u8> {
    let mut text = parts.concat();
    for byte in &mut text {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    text
}
