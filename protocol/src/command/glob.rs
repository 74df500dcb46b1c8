//! Redis's glob patterns: `*`, `?`, `[a-z]`, `[^a]`, and `\` before any of
//! them. Used for COMMAND LIST here, for KEYS, SCAN, CONFIG GET and pattern
//! subscriptions elsewhere.
//!
//! Iterative, at most pattern length times text length steps: an abusive
//! pattern costs no stack. Redis's oddities are kept: an empty text matches
//! only the empty pattern (not `*`), a class may lack its `]`, an escaped byte in
//! a class is compared exactly even where case is ignored, and more stars than
//! Redis follows match nothing.

/// Redis tries what is behind a `*` by recursion, and goes no deeper.
const MAX_STARS: usize = 1000;

/// Whether the pattern matches the whole text.
pub fn glob_match(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    let mut stars = 0;
    // Pattern position after the last `*`, and text position tried with it.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                match pattern.get(p) {
                    None => return true,
                    // Several in a row are one.
                    Some(b'*') => continue,
                    Some(_) => stars += 1,
                }
                if stars > MAX_STARS {
                    return false;
                }
                retry = Some((p, t));
                continue;
            }
            Some(_) => {
                let (length, matches) = match_one(&pattern[p..], text[t], ignore_case);
                if matches {
                    p += length;
                    t += 1;
                    continue;
                }
            }
            None => {}
        }
        let Some((after_star, tried)) = retry else {
            return false;
        };
        (p, t) = (after_star, tried + 1);
        retry = Some((p, t));
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Length of the pattern's first element, and whether it matches the byte.
fn match_one(pattern: &[u8], byte: u8, ignore_case: bool) -> (usize, bool) {
    match pattern {
        [b'?', ..] => (1, true),
        [b'[', class @ ..] => {
            let (length, matches) = match_class(class, byte, ignore_case);
            (1 + length, matches)
        }
        [b'\\', literal, ..] => (2, same(*literal, byte, ignore_case)),
        [literal, ..] => (1, same(*literal, byte, ignore_case)),
        [] => (0, false),
    }
}

/// Length of a class without its `[`, and whether it holds the byte.
fn match_class(class: &[u8], byte: u8, ignore_case: bool) -> (usize, bool) {
    let negated = class.first() == Some(&b'^');
    let mut at = negated as usize;
    let mut found = false;
    loop {
        match &class[at..] {
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [b']', ..] => return (at + 1, found != negated),
            [] => return (at, found != negated),
            [start, b'-', end, ..] => {
                found |= in_range(*start, *end, byte, ignore_case);
                at += 3;
            }
            [literal, ..] => {
                found |= same(*literal, byte, ignore_case);
                at += 1;
            }
        }
    }
}

/// Bounds may come in either order; bytes are signed, as C's `char` is.
fn in_range(start: u8, end: u8, byte: u8, ignore_case: bool) -> bool {
    let (low, high) = match (start as i8) <= (end as i8) {
        true => (start, end),
        false => (end, start),
    };
    let fold = |byte: u8| match ignore_case {
        true => byte.to_ascii_lowercase() as i8,
        false => byte as i8,
    };
    (fold(low)..=fold(high)).contains(&fold(byte))
}

fn same(a: u8, b: u8, ignore_case: bool) -> bool {
    a == b || (ignore_case && a.eq_ignore_ascii_case(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", false),
            ("*", "a", true),
            ("a*", "a", true),
            ("a**", "a", true),
            ("?", "", false),
            ("h?llo", "hallo", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("[a-", "-", true),
            ("[abc", "c", true),
            ("[abc", "cd", false),
            ("[^", "x", true),
            ("[]", "]", false),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("\\", "\\", true),
            ("*a*b*c", "xaxbxcc", true),
            ("*a*b*c", "xaxbxcd", false),
            ("a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaa", false),
            ("config|*", "config|get", true),
            ("abc", "ab", false),
            ("ab", "abc", false),
        ] {
            let got = glob_match(pattern.as_bytes(), text.as_bytes(), false);
            assert_eq!(got, expected, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn case_is_ignored_only_when_asked() {
        assert!(glob_match(b"X[A-C]*", b"xbYZ", true));
        assert!(!glob_match(b"X*", b"xy", false));
    }

    #[test]
    fn abusive_patterns_end_quickly() {
        let pattern = b"*a".repeat(2_000);
        assert!(!glob_match(&pattern, &[b'b'; 20_000], false));
    }

    #[test]
    fn more_stars_than_redis_follows_match_nothing() {
        let text = [b'a'; 5_000];
        for (stars, expected) in [(MAX_STARS, true), (MAX_STARS + 1, false)] {
            assert_eq!(glob_match(&b"*?".repeat(stars), &text, false), expected);
        }
        assert!(glob_match(&b"*".repeat(5_000), &text, false));
    }
}
