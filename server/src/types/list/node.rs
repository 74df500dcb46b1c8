//! A run of list elements: what a packed list, the ends of a spread one and
//! each of its rows hold.
//!
//! ```text
//! node   number of elements u32 BE | entries (`types::packed`)
//! ```
//!
//! The number is in front so that a scan over nodes decodes no elements.

use std::borrow::Cow;

use bytes::Bytes;

use super::End;
use crate::txn::CommandError;
use crate::types::packed::{self, Entries, entry_len};

/// Bytes of a node's head.
pub(super) const HEAD: usize = 4;
/// Bytes of entries that a node may hold, unless it holds a single one.
pub(super) const NODE_MAX: usize = 1 << 10;

pub(super) const CORRUPT: CommandError = CommandError::Corrupt("a list");

type Done = Result<(), CommandError>;

/// See the module's documentation. Borrowed until it is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node<'a> {
    pub(super) count: u32,
    /// The entries alone.
    pub(super) bytes: Cow<'a, [u8]>,
}

impl<'a> Node<'a> {
    /// # Errors
    /// `Corrupt` if the head is cut.
    pub(super) fn decode(value: &'a [u8]) -> Result<Node<'a>, CommandError> {
        let (head, bytes) = value.split_first_chunk::<HEAD>().ok_or(CORRUPT)?;
        Ok(Node {
            count: u32::from_be_bytes(*head),
            bytes: Cow::Borrowed(bytes),
        })
    }

    pub(super) fn head(&self) -> [u8; HEAD] {
        self.count.to_be_bytes()
    }

    pub(super) fn encode(&self) -> Bytes {
        [&self.head()[..], &self.bytes].concat().into()
    }

    /// A node of one element.
    pub(super) fn single(value: &[u8]) -> Node<'static> {
        let mut bytes = Vec::with_capacity(entry_len(value.len()));
        packed::push(&mut bytes, value);
        Node {
            count: 1,
            bytes: Cow::Owned(bytes),
        }
    }

    pub(super) fn into_owned(self) -> Node<'static> {
        Node {
            count: self.count,
            bytes: Cow::Owned(self.bytes.into_owned()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of elements.
    pub fn len(&self) -> u64 {
        u64::from(self.count)
    }

    /// The elements, from the left.
    pub fn entries(&self) -> Entries<'_> {
        Entries::of(&self.bytes)
    }

    /// Whether it may stay as it is.
    pub(super) fn fits(&self, bytes: usize, count: u32) -> bool {
        self.bytes.len() <= bytes && self.count <= count
    }

    /// The bytes before the element with this index.
    pub(super) fn offset(&self, index: u64) -> Result<usize, CommandError> {
        let mut entries = self.entries();
        for _ in 0..index {
            entries.try_next()?.ok_or(CORRUPT)?;
        }
        Ok(self.bytes.len() - entries.remaining().len())
    }

    /// Shows `take` the elements with indexes from `from` to before `to`,
    /// from the left.
    pub(super) fn show(&self, from: u64, to: u64, take: &mut dyn FnMut(&[u8])) -> Done {
        let mut entries = self.entries();
        for index in 0..to {
            let entry = entries.try_next()?.ok_or(CORRUPT)?;
            if index >= from {
                take(entry);
            }
        }
        Ok(())
    }

    /// [`Node::show`] from the right.
    pub(super) fn show_reversed(&self, from: u64, to: u64, take: &mut dyn FnMut(&[u8])) -> Done {
        if to - from == 1 {
            return self.show(from, to, take);
        }
        let mut entries = self.entries();
        let mut shown = Vec::with_capacity((to - from).min(self.bytes.len() as u64) as usize);
        for index in 0..to {
            let entry = entries.try_next()?.ok_or(CORRUPT)?;
            if index >= from {
                shown.push(entry);
            }
        }
        shown.into_iter().rev().for_each(take);
        Ok(())
    }

    pub(super) fn push(&mut self, end: End, value: &[u8]) {
        let at = match end {
            End::Left => 0,
            End::Right => self.bytes.len(),
        };
        self.splice(at, 0, &[value]);
        self.count += 1;
    }

    /// Replaces `cut` bytes at `at` by these elements; leaves the count alone.
    fn splice(&mut self, at: usize, cut: usize, values: &[&[u8]]) {
        let more: usize = values.iter().map(|value| entry_len(value.len())).sum();
        if let Cow::Owned(bytes) = &mut self.bytes
            && at == bytes.len()
        {
            return values.iter().for_each(|value| packed::push(bytes, value));
        }
        let old = &self.bytes;
        // Room for a little more: pushes come in numbers.
        let mut bytes = Vec::with_capacity(old.len() - cut + more + 16);
        bytes.extend_from_slice(&old[..at]);
        values
            .iter()
            .for_each(|value| packed::push(&mut bytes, value));
        bytes.extend_from_slice(&old[at + cut..]);
        self.bytes = Cow::Owned(bytes);
    }

    /// Inserts an element so that it has this index.
    pub(super) fn insert(&mut self, index: u64, value: &[u8]) -> Done {
        let at = self.offset(index)?;
        self.splice(at, 0, &[value]);
        self.count += 1;
        Ok(())
    }

    /// Puts `value` in the place of the element with this index.
    pub(super) fn replace(&mut self, index: u64, value: &[u8]) -> Done {
        let (at, end) = (self.offset(index)?, self.offset(index + 1)?);
        self.splice(at, end - at, &[value]);
        Ok(())
    }

    /// Drops `n` elements at an end.
    pub(super) fn discard(&mut self, end: End, n: u64) -> Done {
        let kept = self.len() - n;
        let at = match end {
            End::Left => self.offset(n)?,
            End::Right => self.offset(kept)?,
        };
        match (&mut self.bytes, end) {
            (Cow::Borrowed(bytes), End::Left) => *bytes = &bytes[at..],
            (Cow::Borrowed(bytes), End::Right) => *bytes = &bytes[..at],
            (Cow::Owned(bytes), End::Left) => drop(bytes.drain(..at)),
            (Cow::Owned(bytes), End::Right) => bytes.truncate(at),
        }
        self.count = kept as u32;
        Ok(())
    }

    /// The elements without up to `limit` that equal `value`, those at the
    /// left (or right) first, and how many these were. `None`: there are none.
    pub(super) fn without(
        &self,
        value: &[u8],
        limit: u64,
        from: End,
    ) -> Result<Option<(Node<'static>, u64)>, CommandError> {
        let mut found = 0;
        let mut entries = self.entries();
        while let Some(entry) = entries.try_next()? {
            found += u64::from(entry == value);
        }
        if found == 0 {
            return Ok(None);
        }
        let removed = found.min(limit);
        // Of the equal ones, in order, those in `doomed` go.
        let doomed = match from {
            End::Left => 0..removed,
            End::Right => found - removed..found,
        };
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let (mut entries, mut equal) = (self.entries(), 0);
        while let Some(entry) = entries.try_next()? {
            let goes = entry == value && doomed.contains(&equal);
            equal += u64::from(entry == value);
            if !goes {
                packed::push(&mut bytes, entry);
            }
        }
        let node = Node {
            count: self.count - removed as u32,
            bytes: Cow::Owned(bytes),
        };
        Ok(Some((node, removed)))
    }

    /// Cuts at `bytes` into what lies left and right of there; `index`
    /// elements are left of it.
    fn cut(&self, bytes: usize, index: u32) -> (Node<'_>, Node<'_>) {
        let (left, right) = self.bytes.split_at(bytes);
        let part = |count, bytes| Node {
            count,
            bytes: Cow::Borrowed(bytes),
        };
        (part(index, left), part(self.count - index, right))
    }

    /// The outermost elements at `end` that take at most `bytes` and are at
    /// most `count`, and the inner rest.
    pub(super) fn cut_outer(
        &self,
        end: End,
        bytes: usize,
        count: u32,
    ) -> Result<(Node<'_>, Node<'_>), CommandError> {
        let total = self.bytes.len();
        let (mut entries, mut index) = (self.entries(), 0);
        match end {
            End::Left => {
                let mut at = 0;
                while index < count && entries.try_next()?.is_some() {
                    let next = total - entries.remaining().len();
                    if next > bytes {
                        break;
                    }
                    (at, index) = (next, index + 1);
                }
                Ok(self.cut(at, index))
            }
            End::Right => {
                while entries.remaining().len() > bytes || self.count - index > count {
                    entries.try_next()?.ok_or(CORRUPT)?;
                    index += 1;
                }
                let (inner, outer) = self.cut(total - entries.remaining().len(), index);
                Ok((outer, inner))
            }
        }
    }

    /// The elements as nodes of the size that nodes may have.
    pub(super) fn pieces(&self, count: u32) -> Result<Vec<Node<'_>>, CommandError> {
        let (mut bytes, mut left) = (&self.bytes[..], self.count);
        let mut pieces = Vec::new();
        while left > 0 {
            let (at, index) = first_piece(bytes, count)?;
            left = left.checked_sub(index).ok_or(CORRUPT)?;
            pieces.push(Node {
                count: index,
                bytes: Cow::Borrowed(&bytes[..at]),
            });
            bytes = &bytes[at..];
        }
        Ok(pieces)
    }
}

/// Bytes and number of the elements of a first node.
fn first_piece(bytes: &[u8], count: u32) -> Result<(usize, u32), CommandError> {
    let mut entries = Entries::of(bytes);
    let (mut at, mut index) = (0, 0);
    while index < count.max(1) && entries.try_next()?.is_some() {
        let next = bytes.len() - entries.remaining().len();
        if next > NODE_MAX && index > 0 {
            break;
        }
        (at, index) = (next, index + 1);
    }
    match index {
        0 => Err(CORRUPT),
        _ => Ok((at, index)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(values: &[&[u8]]) -> Node<'static> {
        let mut node = Node::default();
        values.iter().for_each(|value| node.push(End::Right, value));
        node
    }

    fn values(node: &Node<'_>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        node.show(0, node.len(), &mut |v| out.push(v.to_vec()))
            .unwrap();
        out
    }

    #[test]
    fn golden_bytes_of_a_node() {
        let node = node(&[b"ab", b"", b"c"]);
        assert_eq!(node.encode()[..], [0, 0, 0, 3, 2, b'a', b'b', 0, 1, b'c']);
        assert_eq!(Node::decode(&node.encode()).unwrap(), node);
        assert!(Node::decode(&[0, 0, 0]).is_err());
    }

    #[test]
    fn elements_are_inserted_replaced_and_dropped_by_index() {
        let mut n = node(&[b"a", b"b"]);
        n.insert(1, b"x").unwrap();
        n.insert(3, b"y").unwrap();
        n.replace(0, b"longer").unwrap();
        n.push(End::Left, b"left");
        assert_eq!(values(&n), [&b"left"[..], b"longer", b"x", b"b", b"y"]);
        n.discard(End::Left, 1).unwrap();
        n.discard(End::Right, 2).unwrap();
        assert_eq!(values(&n), [&b"longer"[..], b"x"]);
        assert!(n.insert(3, b"").is_err());
    }

    #[test]
    fn equal_elements_are_removed_from_the_end_that_is_asked_for() {
        let n = node(&[b"a", b"b", b"a", b"a"]);
        let (left, removed) = n.without(b"a", 2, End::Left).unwrap().unwrap();
        assert_eq!((values(&left).concat(), removed), (b"ba".to_vec(), 2));
        let (right, removed) = n.without(b"a", 1, End::Right).unwrap().unwrap();
        assert_eq!((values(&right).concat(), removed), (b"aba".to_vec(), 1));
        let (none, removed) = n.without(b"a", u64::MAX, End::Left).unwrap().unwrap();
        assert_eq!((values(&none).concat(), removed), (b"b".to_vec(), 3));
        assert_eq!(n.without(b"z", 1, End::Left).unwrap(), None);
    }

    #[test]
    fn a_node_is_cut_at_either_end_and_into_pieces() {
        let n = node(&[b"aa", b"bb", b"cc", b"dd"]);
        let (outer, inner) = n.cut_outer(End::Left, 7, 9).unwrap();
        assert_eq!(values(&outer).concat(), b"aabb");
        assert_eq!(values(&inner).concat(), b"ccdd");
        let (outer, inner) = n.cut_outer(End::Right, 7, 1).unwrap();
        assert_eq!(values(&outer).concat(), b"dd");
        assert_eq!(values(&inner).concat(), b"aabbcc");
        let large = [7; 3000];
        let n = node(&[b"a", &large, b"b", b"c", &[1; 600], &[2; 600]]);
        let pieces = n.pieces(u32::MAX).unwrap();
        let counts: Vec<u32> = pieces.iter().map(|piece| piece.count).collect();
        assert_eq!(counts, [1, 1, 3, 1]);
        let all: Vec<Vec<u8>> = pieces.iter().flat_map(values).collect();
        assert_eq!(all, values(&n));
        assert_eq!(n.pieces(2).unwrap().len(), 5);
    }
}
