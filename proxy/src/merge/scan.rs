//! SCAN: one page out of those of several groups.
//!
//! A node ends its page at the first slot that its group does not own
//! (`link/RULES.md`, rule 15). If COUNT is not met by then, what is left of it is asked
//! of the group behind the border, as the client would with the cursor of the page; so
//! all that SCAN promises holds, and a few keys are one page, as in Redis.

use super::join::sized;
use bytes::{BufMut, Bytes, BytesMut};
use cairn_protocol::resp::number::{parse_i64, parse_u64};
use cairn_protocol::resp::{Args, encode_request};
use cairn_protocol::slot::CURSOR_POSITION_BITS;

const DEFAULT_COUNT: usize = 10;
/// Bytes of keys above which a page does not grow, whatever COUNT says.
const MAX_BYTES: usize = 1 << 20;

/// A SCAN, and the pages that it has so far but for the last.
pub(crate) struct Scan {
    count: usize,
    /// Its options but COUNT.
    options: Vec<Vec<u8>>,
    /// The command as it came, once it goes on.
    whole: Option<Bytes>,
    /// Keys found, and they as RESP.
    keys: usize,
    found: BytesMut,
    /// Where it goes on.
    cursor: u64,
}

impl Scan {
    /// A node says what is wrong with its arguments.
    pub fn new(args: Args<'_>) -> Self {
        let (mut count, mut options) = (DEFAULT_COUNT, Vec::new());
        for at in (2..args.len()).step_by(2) {
            let (word, value) = (args.get(at), args.try_get(at + 1).unwrap_or_default());
            if word.eq_ignore_ascii_case(b"COUNT") {
                let given = parse_i64(value).and_then(|n| usize::try_from(n).ok());
                count = given.unwrap_or(0);
            } else {
                options.extend([word.to_vec(), value.to_vec()]);
            }
        }
        Self {
            count,
            options,
            whole: None,
            keys: 0,
            found: BytesMut::new(),
            cursor: 0,
        }
    }

    /// The slot in which it should go on, if this page has ended where a slot begins
    /// and has less than was asked for.
    pub fn next_slot(&self, page: &[u8]) -> Option<u16> {
        let page = Page::read(page)?;
        let in_slot = page.cursor & ((1 << CURSOR_POSITION_BITS) - 1);
        let has_room = self.keys + page.keys < self.count
            && self.found.len() + page.elements.len() < MAX_BYTES;
        let ended = page.cursor > self.cursor && in_slot == 0;
        let slot = u16::try_from(page.cursor >> CURSOR_POSITION_BITS).ok();
        slot.filter(|_| ended && has_room)
    }

    /// Takes a page, and says what is to be asked then; `sent` was asked for it.
    pub fn go_on(&mut self, page: &[u8], sent: Bytes) -> Option<Bytes> {
        let page = Page::read(page)?;
        self.whole.get_or_insert(sent);
        self.keys += page.keys;
        self.found.put_slice(page.elements);
        self.cursor = page.cursor;
        let cursor = self.cursor.to_string();
        let left = self.count.saturating_sub(self.keys).to_string();
        let mut words: Vec<&[u8]> = vec![b"SCAN", cursor.as_bytes()];
        words.extend(self.options.iter().map(Vec::as_slice));
        words.extend([b"COUNT", left.as_bytes()]);
        let mut wire = BytesMut::new();
        encode_request(&mut wire, words);
        Some(wire.freeze())
    }

    /// The command as it came, if it went on.
    pub fn whole(&self) -> Option<&Bytes> {
        self.whole.as_ref()
    }

    /// All pages as one, if it went on. After an error it ends before that: who asks on
    /// meets it.
    pub fn joined(&self, last: &[u8]) -> Option<Bytes> {
        self.whole.as_ref()?;
        let last = Page::read(last).unwrap_or(Page {
            cursor: self.cursor,
            keys: 0,
            elements: b"",
        });
        let (cursor, keys) = (last.cursor.to_string(), self.keys + last.keys);
        let head = format!("*2\r\n${}\r\n{cursor}\r\n*{keys}\r\n", cursor.len());
        let mut out = BytesMut::with_capacity(head.len() + self.found.len() + last.elements.len());
        out.put_slice(head.as_bytes());
        out.put_slice(&self.found);
        out.put_slice(last.elements);
        Some(out.freeze())
    }
}

/// A reply of SCAN.
struct Page<'a> {
    cursor: u64,
    keys: usize,
    /// The keys as RESP.
    elements: &'a [u8],
}

impl<'a> Page<'a> {
    /// `None`: it is something else.
    fn read(reply: &'a [u8]) -> Option<Self> {
        let (2, rest) = sized(reply, b'*')? else {
            return None;
        };
        let (len, rest) = sized(rest, b'$')?;
        let cursor = parse_u64(rest.get(..len)?)?;
        let (keys, elements) = sized(rest.get(len..)?.strip_prefix(b"\r\n")?, b'*')?;
        Some(Self {
            cursor,
            keys,
            elements,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_protocol::resp::{Limits, RequestParser, Requests};

    const BORDER: u64 = 8192 << CURSOR_POSITION_BITS;

    fn scan(words: &[&str]) -> Scan {
        let mut wire = BytesMut::new();
        encode_request(&mut wire, words);
        let mut requests = Requests::default();
        let parsed = RequestParser::new().parse(&mut wire, &Limits::default(), 1, &mut requests);
        assert_eq!(parsed, Ok(1));
        Scan::new(requests.get(0))
    }

    fn page(cursor: u64, keys: &[&str]) -> Vec<u8> {
        let cursor = cursor.to_string();
        let keys: String = keys
            .iter()
            .map(|key| format!("${}\r\n{key}\r\n", key.len()))
            .collect();
        let number = keys.matches('$').count();
        format!("*2\r\n${}\r\n{cursor}\r\n*{number}\r\n{keys}", cursor.len()).into_bytes()
    }

    fn asked(words: &[&str]) -> Bytes {
        let mut wire = BytesMut::new();
        encode_request(&mut wire, words);
        wire.freeze()
    }

    #[test]
    fn what_is_left_of_count_is_asked_behind_the_border() {
        let mut scan = scan(&["scan", "0", "count", "3", "MATCH", "a*"]);
        let first = page(BORDER, &["a1"]);
        assert_eq!(scan.next_slot(&first), Some(8192));
        assert_eq!(scan.joined(&first), None, "it is whole as it is");
        let sent = asked(&["scan"]);
        let next = scan.go_on(&first, sent.clone()).unwrap();
        let cursor = BORDER.to_string();
        assert_eq!(next, asked(&["SCAN", &cursor, "MATCH", "a*", "COUNT", "2"]));
        assert_eq!(scan.whole(), Some(&sent));
        let last = page(0, &["a2", "a3"]);
        assert_eq!(scan.next_slot(&last), None);
        assert_eq!(scan.joined(&last).unwrap(), page(0, &["a1", "a2", "a3"]));
    }

    #[test]
    fn a_page_is_the_last_if_it_has_enough_or_did_not_end_at_a_border() {
        let has_all = scan(&["SCAN", "0", "COUNT", "1"]);
        assert_eq!(has_all.next_slot(&page(BORDER, &["a"])), None);
        let few = scan(&["SCAN", "0"]);
        assert_eq!(few.next_slot(&page(BORDER | 1, &["a"])), None);
        assert_eq!(few.next_slot(&page(0, &["a"])), None);
        let large = "x".repeat(MAX_BYTES);
        assert_eq!(few.next_slot(&page(BORDER, &[&large])), None);
        assert_eq!(few.next_slot(b"-ERR syntax error\r\n"), None);
        let mut odd = scan(&["SCAN", "0"]);
        odd.go_on(&page(BORDER, &[]), Bytes::new()).unwrap();
        assert_eq!(odd.next_slot(&page(BORDER, &[])), None, "it would not end");
    }

    #[test]
    fn an_error_behind_a_border_leaves_what_came_before() {
        let mut scan = scan(&["SCAN", "0"]);
        let first = page(BORDER, &["a"]);
        scan.go_on(&first, Bytes::new()).unwrap();
        for last in [
            "-CLUSTERDOWN x\r\n",
            "",
            "*2\r\n:1\r\n*0\r\n",
            "*2\r\n$9\r\n1",
        ] {
            assert_eq!(scan.joined(last.as_bytes()).unwrap(), first, "{last:?}");
        }
    }
}
