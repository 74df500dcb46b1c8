//! Splitting an inline request (a plain text line) into arguments.
//!
//! The rules are Redis's `sdssplitargs`: blanks separate; "double quotes" take
//! \n \r \t \b \a \\ \" and \xHH; 'single quotes' take \' only; a closing
//! quote must be followed by a blank or the end; quotes may begin inside a
//! word. Unquoting never lengthens text, so it is done in place.

use super::args::ArgRange;
use super::limits::ProtocolError;

/// Splits `buf[start..end]` in place and pushes the positions of the results.
///
/// # Errors
/// [`ProtocolError::UnbalancedQuotes`]; then the line's bytes are unspecified.
pub(super) fn split_in_place(
    buf: &mut [u8],
    start: usize,
    end: usize,
    ranges: &mut Vec<ArgRange>,
) -> Result<(), ProtocolError> {
    let mut read = start;
    loop {
        while read < end && is_space(buf[read]) {
            read += 1;
        }
        if read == end {
            return Ok(());
        }
        let mut word = Word {
            line: &mut buf[..end],
            read,
            write: read,
        };
        let word_start = read;
        word.unquote()?;
        read = word.read;
        ranges.push(ArgRange {
            start: word_start as u32,
            end: word.write as u32,
        });
    }
}

/// C's `isspace` in the "C" locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// One word being unquoted; `write` never passes `read`.
struct Word<'a> {
    line: &'a mut [u8],
    read: usize,
    write: usize,
}

impl Word<'_> {
    /// Moves `read` past the word and leaves its value before `write`.
    fn unquote(&mut self) -> Result<(), ProtocolError> {
        while let Some(byte) = self.peek(0) {
            self.read += 1;
            match byte {
                // Narrower than isspace, as in Redis: a vertical tab or form
                // feed inside a word belongs to it.
                b' ' | b'\n' | b'\r' | b'\t' => return Ok(()),
                b'"' => return self.double_quoted(),
                b'\'' => return self.single_quoted(),
                plain => self.put(plain),
            }
        }
        Ok(())
    }

    fn double_quoted(&mut self) -> Result<(), ProtocolError> {
        while let Some(byte) = self.peek(0) {
            self.read += 1;
            match (byte, self.peek(0)) {
                (b'\\', Some(b'x')) if self.hex_pair().is_some() => {
                    let value = self.hex_pair().expect("the guard found two digits");
                    self.read += 3;
                    self.put(value);
                }
                (b'\\', Some(escaped)) => {
                    self.read += 1;
                    self.put(unescape(escaped));
                }
                (b'"', next) => return closed(next),
                (plain, _) => self.put(plain),
            }
        }
        Err(ProtocolError::UnbalancedQuotes)
    }

    fn single_quoted(&mut self) -> Result<(), ProtocolError> {
        while let Some(byte) = self.peek(0) {
            self.read += 1;
            match (byte, self.peek(0)) {
                (b'\\', Some(b'\'')) => {
                    self.read += 1;
                    self.put(b'\'');
                }
                (b'\'', next) => return closed(next),
                (plain, _) => self.put(plain),
            }
        }
        Err(ProtocolError::UnbalancedQuotes)
    }

    /// The byte written as `xHH` at `read`.
    fn hex_pair(&self) -> Option<u8> {
        let high = char::from(self.peek(1)?).to_digit(16)?;
        let low = char::from(self.peek(2)?).to_digit(16)?;
        Some((high * 16 + low) as u8)
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.line.get(self.read + ahead).copied()
    }

    fn put(&mut self, byte: u8) {
        self.line[self.write] = byte;
        self.write += 1;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// A closing quote ends its word, so a blank or the line's end must follow.
fn closed(next: Option<u8>) -> Result<(), ProtocolError> {
    match next {
        Some(byte) if !is_space(byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let mut buf = line.to_vec();
        let mut ranges = Vec::new();
        split_in_place(&mut buf, 0, line.len(), &mut ranges)?;
        Ok(ranges
            .iter()
            .map(|r| buf[r.start as usize..r.end as usize].to_vec())
            .collect())
    }

    #[test]
    fn words_are_split_and_unquoted_as_redis_does() {
        let cases: [(&[u8], &[&[u8]]); 12] = [
            (b"", &[]),
            (b" \t ", &[]),
            (b"PING", &[b"PING"]),
            (b"  set  a\tb ", &[b"set", b"a", b"b"]),
            (b"set a \"b c\"", &[b"set", b"a", b"b c"]),
            (
                br#"a "\x00\xfF\n\r\t\b\a\q\\\"" b"#,
                &[b"a", b"\x00\xff\n\r\t\x08\x07q\\\"", b"b"],
            ),
            (br#"'it\'s \n'"#, &[br"it's \n"]),
            (b"\"\" ''", &[b"", b""]),
            (b"ab\"c d\"", &[b"abc d"]),
            (br#""\xZZ""#, &[b"xZZ"]),
            (b"a\x0bb \x0bc", &[b"a\x0bb", b"c"]),
            (b"a\rb", &[b"a", b"b"]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).unwrap(), words, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [&b"\"a"[..], b"'a", b"\"a\"b", b"'a'b", br#""a\""#, br"'a\'"] {
            assert_eq!(
                split(line),
                Err(ProtocolError::UnbalancedQuotes),
                "{}",
                line.escape_ascii()
            );
        }
    }
}
