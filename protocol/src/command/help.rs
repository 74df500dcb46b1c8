//! The reply of a container's HELP, framed as Redis does.

use crate::resp::ReplyWriter;

/// Writes the lines of `container`'s HELP between the first line and the last two,
/// which are the same for all.
pub fn help(out: &mut ReplyWriter, container: &str, lines: &[&str]) {
    out.array(lines.len() + 3);
    out.simple(format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    lines.iter().for_each(|line| out.simple(line));
    out.simple("HELP");
    out.simple("    Prints this help.");
}
