//! The values in a reply of our own, whatever they are nested in.

/// Strings and numbers in order, without aggregates and nulls. What cannot be
/// understood ends them.
pub(super) fn leaves(mut reply: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((line, rest)) = line(reply) {
        reply = rest;
        let (Some(kind), text) = (line.first(), line.get(1..).unwrap_or_default()) else {
            break;
        };
        match kind {
            b'$' | b'=' | b'!' => {
                let len = std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| text.parse().ok());
                let Some(len) = len.filter(|len: &i64| *len >= 0) else {
                    continue;
                };
                let Some((value, rest)) = reply.split_at_checked(len as usize) else {
                    break;
                };
                found.push(value.to_vec());
                reply = rest.get(2..).unwrap_or_default();
            }
            b'+' | b':' | b',' | b'(' => found.push(text.to_vec()),
            _ => {}
        }
    }
    found
}

fn line(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = reply.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&reply[..end], &reply[end + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_both_protocols() {
        let found = |reply: &[u8]| {
            let found = leaves(reply).into_iter();
            let text = found.map(|value| String::from_utf8(value).unwrap());
            text.collect::<Vec<_>>().join("|")
        };
        assert_eq!(found(b"*2\r\n$1\r\nk\r\n*1\r\n$3\r\na\r\n\r\n"), "k|a\r\n");
        assert_eq!(
            found(b"*2\r\n$1\r\nk\r\n*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n"),
            "k|a|1.5"
        );
        assert_eq!(found(b"~2\r\n$1\r\na\r\n:7\r\n"), "a|7");
        for nothing in [&b"*-1\r\n"[..], b"_\r\n", b"$-1\r\n", b"*0\r\n", b""] {
            assert_eq!(found(nothing), "");
        }
    }
}
