//! The first line of a script or a library: `#!lua flags=.. name=..`.

use super::run::ScriptFlags;

/// What a script of EVAL says of itself, and how long its first line is
/// (without its end, which is left so that line numbers stay right).
pub(super) fn of_script(body: &[u8]) -> Result<(ScriptFlags, usize), String> {
    if !body.starts_with(b"#!") {
        return Ok((ScriptFlags::UNDECLARED, 0));
    }
    let line = first_line(body).ok_or("Invalid script shebang")?;
    let words = split(line).filter(|words| !words.is_empty());
    let words = words.ok_or("Invalid engine in script shebang")?;
    if words[0] != b"#!lua" {
        let engine = shown(&words[0]);
        return Err(format!("Unexpected engine in script shebang: {engine}"));
    }
    let mut flags = ScriptFlags::default();
    for word in &words[1..] {
        let Some(list) = word.strip_prefix(b"flags=") else {
            return Err(format!("Unknown lua shebang option: {}", shown(word)));
        };
        if list.is_empty() {
            continue;
        }
        for name in list.split(|byte| *byte == b',') {
            let known = ScriptFlags::NAMES
                .iter()
                .find(|(_, known)| known.as_bytes() == name);
            let Some((flag, _)) = known else {
                let name = shown(name);
                return Err(format!("Unexpected flag in script shebang: {name}"));
            };
            flags = flags.with(*flag);
        }
    }
    Ok((flags, line.len()))
}

/// What a library says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LibraryHeader {
    pub name: Vec<u8>,
    pub engine: Vec<u8>,
    /// Length of the first line, without its end.
    pub length: usize,
}

pub(super) fn of_library(code: &[u8]) -> Result<LibraryHeader, String> {
    if !code.starts_with(b"#!") {
        return Err("Missing library metadata".into());
    }
    let line = first_line(code).ok_or("Invalid library metadata")?;
    let words = split(line).filter(|words| !words.is_empty());
    let words = words.ok_or("Invalid library metadata")?;
    let mut name: Option<Vec<u8>> = None;
    for word in &words[1..] {
        let is_name = word.len() >= 5 && word[..5].eq_ignore_ascii_case(b"name=");
        if !is_name {
            return Err(format!("Invalid metadata value given: {}", shown(word)));
        }
        if name.is_some() {
            let text = "Invalid metadata value, name argument was given multiple times";
            return Err(text.into());
        }
        name = Some(word[5..].to_vec());
    }
    Ok(LibraryHeader {
        name: name.ok_or("Library name was not given")?,
        engine: words[0][2..].to_vec(),
        length: line.len(),
    })
}

/// The bytes before the first line end, which must come before any NUL.
fn first_line(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| matches!(byte, b'\n' | 0))?;
    (text[end] == b'\n').then(|| &text[..end])
}

fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(super::lua::c_text(word)).into_owned()
}

/// Splits a line at blanks, as Redis's command line does: `"` quotes with
/// escapes, `'` without. `None`: a quote is not closed, or text follows it.
fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(words);
        }
        let (word, after) = next_word(rest)?;
        words.push(word);
        rest = after;
    }
}

fn next_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Some((word, rest)),
            [b'"', inner @ ..] => {
                let after = double_quoted(inner, &mut word)?;
                return ends(after).then_some((word, after));
            }
            [b'\'', inner @ ..] => {
                let after = single_quoted(inner, &mut word)?;
                return ends(after).then_some((word, after));
            }
            [byte, after @ ..] if byte.is_ascii_whitespace() => return Some((word, after)),
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// Whether a closed quote is the end of its word.
fn ends(after: &[u8]) -> bool {
    after.first().is_none_or(u8::is_ascii_whitespace)
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0) as u8;
                word.push((digit(high) << 4) | digit(low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_without_a_shebang_declares_nothing() {
        assert_eq!(of_script(b"return 1"), Ok((ScriptFlags::UNDECLARED, 0)));
    }

    #[test]
    fn flags_of_a_script_are_read() {
        let (flags, length) = of_script(b"#!lua flags=no-writes,allow-oom\nreturn 1").unwrap();
        assert!(flags.has(ScriptFlags::NO_WRITES) && flags.has(ScriptFlags::ALLOW_OOM));
        assert!(!flags.has(ScriptFlags::UNDECLARED));
        assert_eq!(length, 31);
        assert_eq!(
            of_script(b"#!lua flags=allow-oom,what?\n"),
            Err("Unexpected flag in script shebang: what?".into())
        );
        assert_eq!(of_script(b"#!lua"), Err("Invalid script shebang".into()));
    }

    #[test]
    fn a_library_has_one_name() {
        let header = of_library(b"#!lua name=\"foo\"\n...").unwrap();
        assert_eq!((&header.name[..], header.length), (&b"foo"[..], 16));
        assert_eq!(
            of_library(b"#!lua\n"),
            Err("Library name was not given".into())
        );
        assert_eq!(of_library(b"#! name=x\n").unwrap().engine, b"");
    }
}
