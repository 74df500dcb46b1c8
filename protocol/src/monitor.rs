//! MONITOR: commands as people are shown them, and what those may ask for.

use std::fmt::{Display, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::command::{CommandSpec, Flags};

/// What a client that monitors is told when it asks for anything that is about keys:
/// Redis takes it for a replica. `None`: it may.
pub fn refused_to_monitor(spec: &CommandSpec) -> Option<&'static str> {
    let about_keys = Flags::READONLY | Flags::WRITE | Flags::MAY_REPLICATE;
    let refused = spec.flags.intersects(about_keys);
    refused.then_some("ERR Replica can't interact with the keyspace")
}

/// One command as MONITOR shows it: `1339518083.107412 [0 127.0.0.1:60866] "get" "k"`.
///
/// `secret`: positions of arguments that are not shown, see [`secrets`](crate::command::secrets).
pub fn line<'a>(
    sender: impl Display,
    db: usize,
    secret: &[usize],
    args: impl Iterator<Item = &'a [u8]>,
) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut text = format!(
        "{}.{:06} [{db} {sender}]",
        now.as_secs(),
        now.subsec_micros()
    );
    for (at, arg) in args.enumerate() {
        text.push(' ');
        match secret.contains(&at) {
            true => text.push_str("\"(redacted)\""),
            false => quote(arg, &mut text),
        }
    }
    text
}

/// As Redis prints strings that may hold anything.
pub fn quote(bytes: &[u8], text: &mut String) {
    text.push('"');
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'"' => text.push_str("\\\""),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            0x07 => text.push_str("\\a"),
            0x08 => text.push_str("\\b"),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => {
                let _ = write!(text, "\\x{other:02x}");
            }
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Resolved, resolve, secrets};
    use crate::resp::Requests;

    fn shown(words: &[&str]) -> String {
        let mut requests = Requests::default();
        requests.push_owned(words);
        let args = requests.get(0);
        let Resolved::Command(spec) = resolve(&args) else {
            panic!("{words:?} is no command");
        };
        let line = line("1.2.3.4:5", 7, &secrets(spec, &args), args.iter());
        line.split_once(' ').unwrap().1.to_owned()
    }

    #[test]
    fn arguments_are_quoted_as_redis_does() {
        let mut text = String::new();
        quote(b"a\"b\\c\n\r\t\x07\x08\x00\xff ~", &mut text);
        assert_eq!(text, "\"a\\\"b\\\\c\\n\\r\\t\\a\\b\\x00\\xff ~\"");
        assert_eq!(
            shown(&["set", "k", "a\"b"]),
            r#"[7 1.2.3.4:5] "set" "k" "a\"b""#
        );
    }

    #[test]
    fn passwords_are_not_shown() {
        let cases: &[(&[&str], &str)] = &[
            (
                &["HELLO", "3", "AUTH", "me", "secret", "SETNAME", "n"],
                r#""HELLO" "3" "AUTH" "(redacted)" "(redacted)" "SETNAME" "n""#,
            ),
            (
                &["auth", "me", "secret"],
                r#""auth" "(redacted)" "(redacted)""#,
            ),
            (
                &["config", "set", "RequirePass", "x", "save", "y"],
                r#""config" "set" "RequirePass" "(redacted)" "save" "y""#,
            ),
            (
                &["acl", "setuser", "me", ">x"],
                r#""acl" "setuser" "(redacted)" "(redacted)""#,
            ),
            (
                &["migrate", "h", "1", "k", "0", "9", "AUTH2", "me", "x"],
                r#""migrate" "h" "1" "k" "0" "9" "AUTH2" "(redacted)" "(redacted)""#,
            ),
        ];
        for (words, line) in cases {
            assert_eq!(shown(words), format!("[7 1.2.3.4:5] {line}"));
        }
    }
}
