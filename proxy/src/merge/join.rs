//! Puts the replies of several groups or slots together.
//!
//! The replies come from our own nodes, but are read with the same care as any
//! other bytes: what does not have the expected shape gives an error line.

use super::Join;
use bytes::{BufMut, Bytes, BytesMut};
use cairn_protocol::resp::{FrameScanner, ScanLimits, number::parse_i64};

const MALFORMED: &[u8] = b"-ERR a node sent a reply of an unexpected shape\r\n";

/// The one reply. An error among the parts is the reply (the first, in the
/// order of parts), except where another part's success suffices.
pub(super) fn join(how: &Join, replies: &[Bytes], owners: &[u32]) -> Bytes {
    let error = replies.iter().find(|reply| reply.first() == Some(&b'-'));
    let lenient = matches!(
        how,
        Join::AnyOk | Join::Own(_) | Join::First | Join::Info(_) | Join::AclLog(..)
    );
    if let Some(error) = error.filter(|_| !lenient) {
        return error.clone();
    }
    let joined = match how {
        Join::Sum => integers(replies).map(|all| integer(all.into_iter().sum())),
        Join::Least => integers(replies).map(|all| integer(all.into_iter().min().unwrap_or(0))),
        Join::Same | Join::First => replies.first().cloned(),
        Join::AnyOk => {
            let good = replies.iter().find(|reply| reply.first() != Some(&b'-'));
            good.or(error).cloned()
        }
        Join::Concat => concat(replies),
        Join::InKeyOrder => in_key_order(replies, owners),
        Join::AnyOne => any_one(replies),
        Join::PickOne => pick_one(replies),
        Join::Own(reply) => Some(reply.clone()),
        Join::Xor => xor(replies),
        Join::AclLog(own, most) => acl_log(own, replies, *most),
        Join::Config(own) => config(replies.first(), own),
        Join::Info(own) => Some(own.merge(replies)),
    };
    joined.unwrap_or(Bytes::from_static(MALFORMED))
}

/// The reply of EXEC with the proxy's own replies in their places. An error or
/// nil stays what it is.
pub(crate) fn splice(reply: Bytes, own: &[(usize, Bytes)]) -> Bytes {
    if !is_executed(&reply) {
        return reply;
    }
    spliced(&reply, own).unwrap_or(Bytes::from_static(MALFORMED))
}

/// Whether this is the reply of a transaction that was executed.
pub(crate) fn is_executed(reply: &[u8]) -> bool {
    reply.starts_with(b"*") && !reply.starts_with(b"*-")
}

fn spliced(reply: &[u8], own: &[(usize, Bytes)]) -> Option<Bytes> {
    let (len, _) = array_body(reply)?;
    let mut elements = Elements::of(reply)?;
    let mut own = own.iter().peekable();
    let total = len + own.len();
    let mut out = array(
        total,
        reply.len() + own.clone().map(|(_, r)| r.len()).sum::<usize>(),
    );
    for at in 0..total {
        match own.next_if(|(place, _)| *place == at) {
            Some((_, reply)) => out.put_slice(reply),
            None => out.put_slice(elements.next()?),
        }
    }
    Some(out.freeze())
}

fn integer(value: i64) -> Bytes {
    Bytes::from(format!(":{value}\r\n"))
}

fn integers(replies: &[Bytes]) -> Option<Vec<i64>> {
    replies.iter().map(|reply| as_integer(reply)).collect()
}

fn as_integer(reply: &[u8]) -> Option<i64> {
    parse_i64(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

fn array(elements: usize, bytes: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(bytes + 16);
    out.put_slice(format!("*{elements}\r\n").as_bytes());
    out
}

fn concat(replies: &[Bytes]) -> Option<Bytes> {
    let all: Vec<(usize, &[u8])> = replies
        .iter()
        .map(|reply| array_body(reply))
        .collect::<Option<_>>()?;
    let elements = all.iter().map(|(n, _)| n).sum();
    let mut out = array(elements, all.iter().map(|(_, body)| body.len()).sum());
    all.iter().for_each(|(_, body)| out.put_slice(body));
    Some(out.freeze())
}

fn in_key_order(replies: &[Bytes], owners: &[u32]) -> Option<Bytes> {
    let mut parts: Vec<Elements<'_>> = replies
        .iter()
        .map(|reply| Elements::of(reply))
        .collect::<Option<_>>()?;
    let mut out = array(owners.len(), replies.iter().map(Bytes::len).sum());
    for &owner in owners {
        out.put_slice(parts.get_mut(owner as usize)?.next()?);
    }
    parts
        .iter_mut()
        .all(|part| part.next().is_none())
        .then(|| out.freeze())
}

fn any_one(replies: &[Bytes]) -> Option<Bytes> {
    let mut parts: Vec<Elements<'_>> = replies
        .iter()
        .map(|reply| Elements::of(reply))
        .collect::<Option<_>>()?;
    let (len, _) = array_body(replies.first()?)?;
    let mut out = array(len, 4 * len);
    for _ in 0..len {
        let mut any = false;
        for part in &mut parts {
            any |= as_integer(part.next()?)? == 1;
        }
        out.put_slice(if any { b":1\r\n" } else { b":0\r\n" });
    }
    Some(out.freeze())
}

fn pick_one(replies: &[Bytes]) -> Option<Bytes> {
    let is_nil = |reply: &&Bytes| reply.starts_with(b"$-1") || reply.starts_with(b"_");
    let some: Vec<&Bytes> = replies.iter().filter(|reply| !is_nil(reply)).collect();
    match some.len() {
        0 => replies.first().cloned(),
        n => some
            .get(rand::random_range(0..n))
            .map(|reply| (*reply).clone()),
    }
}

/// DEBUG DIGEST: the digest of a whole is the exclusive or of its parts'.
fn xor(replies: &[Bytes]) -> Option<Bytes> {
    let mut sum: Vec<u8> = Vec::new();
    for reply in replies {
        let hex = reply.strip_prefix(b"+")?.strip_suffix(b"\r\n")?;
        let digits: Option<Vec<u8>> = hex
            .iter()
            .map(|c| char::from(*c).to_digit(16).map(|d| d as u8))
            .collect();
        let digits = digits?;
        sum.resize(digits.len().max(sum.len()), 0);
        sum.iter_mut().zip(digits).for_each(|(s, d)| *s ^= d);
    }
    let hex: String = sum
        .iter()
        .filter_map(|d| char::from_digit(u32::from(*d), 16))
        .collect();
    Some(Bytes::from(format!("+{hex}\r\n")))
}

/// ACL LOG: the entries of all, the latest first. A node that does not answer is
/// left out.
fn acl_log(own: &Bytes, replies: &[Bytes], most: usize) -> Option<Bytes> {
    let of_nodes = replies.iter().filter(|reply| reply.first() != Some(&b'-'));
    let mut all: Vec<(f64, &[u8])> = Vec::new();
    for reply in std::iter::once(own).chain(of_nodes) {
        let (len, _) = array_body(reply)?;
        let mut entries = Elements::of(reply)?;
        for _ in 0..len {
            let entry = entries.next()?;
            all.push((age(entry)?, entry));
        }
    }
    all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    all.truncate(most);
    let mut out = array(all.len(), all.iter().map(|(_, entry)| entry.len()).sum());
    all.iter().for_each(|(_, entry)| out.put_slice(entry));
    Some(out.freeze())
}

/// `age-seconds` of an entry of ACL LOG, which is a map in RESP3.
fn age(entry: &[u8]) -> Option<f64> {
    let (kind, is_map) = (*entry.first()?, entry.first() == Some(&b'%'));
    let (len, _) = sized(entry, kind)?;
    let mut fields = Elements::sized(entry, kind)?;
    for _ in 0..if is_map { len } else { len / 2 } {
        let (name, value) = (fields.next()?, fields.next()?);
        if bulk(name)? == b"age-seconds" {
            let number = match value.strip_prefix(b",") {
                Some(double) => double.strip_suffix(b"\r\n")?,
                None => bulk(value)?,
            };
            return std::str::from_utf8(number).ok()?.parse().ok();
        }
    }
    None
}

/// CONFIG GET: a node's parameters, but for those that the proxy has itself.
fn config(reply: Option<&Bytes>, own: &[(String, String)]) -> Option<Bytes> {
    let reply = reply?;
    let is_map = reply.first() == Some(&b'%');
    let (len, _) = sized(reply, if is_map { b'%' } else { b'*' })?;
    let pairs = if is_map { len } else { len / 2 };
    let mut elements = Elements::sized(reply, if is_map { b'%' } else { b'*' })?;
    let mut kept: Vec<&[u8]> = Vec::new();
    for _ in 0..pairs {
        let (name, value) = (elements.next()?, elements.next()?);
        let text = bulk(name)?;
        if !own.iter().any(|(own, _)| own.as_bytes() == text) {
            kept.extend([name, value]);
        }
    }
    let total = kept.len() / 2 + own.len();
    let mut out = BytesMut::new();
    match is_map {
        true => out.put_slice(format!("%{total}\r\n").as_bytes()),
        false => out.put_slice(format!("*{}\r\n", total * 2).as_bytes()),
    }
    kept.iter().for_each(|bytes| out.put_slice(bytes));
    for (name, value) in own {
        for text in [name, value] {
            out.put_slice(format!("${}\r\n{text}\r\n", text.len()).as_bytes());
        }
    }
    Some(out.freeze())
}

/// The text of a bulk or verbatim string.
pub(super) fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let kind = *reply.first()?;
    let (len, body) = sized(reply, kind)?;
    let text = body.get(..len)?;
    match kind {
        b'$' => Some(text),
        b'=' => text.get(4..),
        _ => None,
    }
}

/// Length and elements of `*N\r\n...`.
fn array_body(reply: &[u8]) -> Option<(usize, &[u8])> {
    sized(reply, b'*')
}

/// The number behind `kind` in the first line of a reply, and what follows the line.
pub(super) fn sized(reply: &[u8], kind: u8) -> Option<(usize, &[u8])> {
    let rest = reply.strip_prefix(&[kind])?;
    let end = rest.windows(2).take(24).position(|pair| pair == b"\r\n")?;
    let len = usize::try_from(parse_i64(&rest[..end])?).ok()?;
    Some((len, &rest[end + 2..]))
}

/// The elements of an array reply, one after the other.
struct Elements<'a> {
    rest: &'a [u8],
    scanner: FrameScanner,
}

impl<'a> Elements<'a> {
    fn of(reply: &'a [u8]) -> Option<Self> {
        Self::sized(reply, b'*')
    }

    fn sized(reply: &'a [u8], kind: u8) -> Option<Self> {
        let (_, rest) = sized(reply, kind)?;
        Some(Self {
            rest,
            scanner: FrameScanner::new(ScanLimits::default()),
        })
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = self.scanner.scan(self.rest).ok()??;
        let (element, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(how: Join, replies: &[&'static str], owners: &[u32]) -> String {
        let replies: Vec<Bytes> = replies
            .iter()
            .map(|r| Bytes::from_static(r.as_bytes()))
            .collect();
        String::from_utf8(join(&how, &replies, owners).to_vec()).unwrap()
    }

    #[test]
    fn integers_are_summed_or_the_least_is_taken() {
        assert_eq!(joined(Join::Sum, &[":2\r\n", ":40\r\n"], &[]), ":42\r\n");
        assert_eq!(joined(Join::Least, &[":2\r\n", ":40\r\n"], &[]), ":2\r\n");
    }

    #[test]
    fn the_proxys_own_replies_take_their_places_in_a_transaction() {
        let own = [(0, Bytes::from("+PONG\r\n")), (2, Bytes::from("+OK\r\n"))];
        let spliced = |reply: &'static str| {
            let spliced = splice(Bytes::from(reply), &own);
            String::from_utf8(spliced.to_vec()).unwrap()
        };
        assert_eq!(
            spliced("*2\r\n*1\r\n:1\r\n$1\r\nx\r\n"),
            "*4\r\n+PONG\r\n*1\r\n:1\r\n+OK\r\n$1\r\nx\r\n"
        );
        assert_eq!(spliced("-EXECABORT x\r\n"), "-EXECABORT x\r\n");
        assert_eq!(spliced("*-1\r\n"), "*-1\r\n");
        assert_eq!(spliced("*2\r\n:1\r\n").as_bytes(), MALFORMED);
    }

    #[test]
    fn the_first_error_is_the_reply() {
        assert_eq!(
            joined(Join::Sum, &[":1\r\n", "-A\r\n", "-B\r\n"], &[]),
            "-A\r\n"
        );
        assert_eq!(joined(Join::Same, &["+OK\r\n", "-A\r\n"], &[]), "-A\r\n");
        assert_eq!(joined(Join::AnyOk, &["-A\r\n", "+OK\r\n"], &[]), "+OK\r\n");
    }

    #[test]
    fn entries_of_acl_logs_are_ordered_by_their_age() {
        let old = "*4\r\n$11\r\nage-seconds\r\n$4\r\n12.5\r\n$1\r\na\r\n$1\r\nb\r\n";
        let new = "%1\r\n$11\r\nage-seconds\r\n,0.25\r\n";
        let log =
            |entries: &[&str]| Bytes::from(format!("*{}\r\n{}", entries.len(), entries.concat()));
        let both = [log(&[old]), Bytes::from_static(b"-CLUSTERDOWN x\r\n")];
        let joined = |most| join(&Join::AclLog(log(&[new]), most), &both, &[]);
        assert_eq!(joined(9), log(&[new, old]));
        assert_eq!(joined(1), log(&[new]));
        assert_eq!(join(&Join::AclLog(log(&[]), 9), &[], &[]), log(&[]));
        let odd = [log(&["+x\r\n"])];
        assert_eq!(join(&Join::AclLog(log(&[]), 9), &odd, &[]), MALFORMED);
    }

    #[test]
    fn values_are_put_in_the_order_of_the_keys() {
        let parts = ["*2\r\n$1\r\na\r\n$-1\r\n", "*1\r\n$2\r\nbb\r\n"];
        assert_eq!(
            joined(Join::InKeyOrder, &parts, &[0, 1, 0]),
            "*3\r\n$1\r\na\r\n$2\r\nbb\r\n$-1\r\n"
        );
    }

    #[test]
    fn arrays_are_concatenated_and_compared() {
        let (a, b) = ("*1\r\n$1\r\na\r\n", "*0\r\n");
        assert_eq!(
            joined(Join::Concat, &[a, b, a], &[]),
            "*2\r\n$1\r\na\r\n$1\r\na\r\n"
        );
        let (a, b) = ("*2\r\n:1\r\n:0\r\n", "*2\r\n:1\r\n:1\r\n");
        assert_eq!(joined(Join::AnyOne, &[a, b], &[]), b);
    }

    #[test]
    fn a_digest_is_the_exclusive_or_of_the_groups() {
        let parts = ["+0fa0\r\n", "+00a1\r\n"];
        assert_eq!(joined(Join::Xor, &parts, &[]), "+0f01\r\n");
    }

    #[test]
    fn the_proxys_own_parameters_stand_for_those_of_nodes() {
        let own = vec![("port".to_owned(), "7".to_owned())];
        let reply = ["*4\r\n$4\r\nport\r\n$1\r\n1\r\n$3\r\nabc\r\n$1\r\nx\r\n"];
        assert_eq!(
            joined(Join::Config(own.clone()), &reply, &[]),
            "*4\r\n$3\r\nabc\r\n$1\r\nx\r\n$4\r\nport\r\n$1\r\n7\r\n"
        );
        let map = ["%1\r\n$3\r\nabc\r\n$1\r\nx\r\n"];
        assert!(joined(Join::Config(own), &map, &[]).starts_with("%2\r\n"));
    }

    #[test]
    fn a_random_key_is_never_nil_if_any_group_has_one() {
        assert_eq!(
            joined(Join::PickOne, &["$-1\r\n", "$1\r\nk\r\n", "_\r\n"], &[]),
            "$1\r\nk\r\n"
        );
        assert_eq!(
            joined(Join::PickOne, &["$-1\r\n", "$-1\r\n"], &[]),
            "$-1\r\n"
        );
    }

    #[test]
    fn odd_shapes_give_an_error_and_no_panic() {
        let odd = String::from_utf8(MALFORMED.to_vec()).unwrap();
        for reply in [
            "",
            "*",
            "*x\r\n",
            "*9999999999999999999999\r\n",
            "*1\r\n",
            ":1",
            "+OK\r\n",
        ] {
            for how in [
                Join::Sum,
                Join::Concat,
                Join::InKeyOrder,
                Join::AnyOne,
                Join::Config(Vec::new()),
            ] {
                if matches!(how, Join::Concat | Join::Config(_)) && reply == "*1\r\n" {
                    continue;
                }
                assert_eq!(
                    joined(how.clone(), &[reply], &[0]),
                    odd,
                    "{how:?} {reply:?}"
                );
            }
        }
        assert_eq!(
            joined(Join::InKeyOrder, &["*2\r\n:1\r\n:2\r\n"], &[0]),
            odd,
            "one too many"
        );
    }
}
