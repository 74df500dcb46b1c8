//! The streams of all nodes as one. Pure.
//!
//! Each group's changes keep their order. Of those that could come next the one with
//! the lowest stamp does, once every node has been heard up to there: so a change that
//! saw another, whatever node that was at, comes behind it. To be heard nodes are asked
//! for marks. A node whose clock lies outside of the moments between which its mark was
//! made is corrected by as much.
//!
//! A command on a whole database is one on the group's slots alone. It waits until all
//! groups have come to the same one; then it is told once.

use super::source::Told;
use cairn_protocol::link::feed::FrameKind;
use std::collections::{BTreeMap, VecDeque};

/// A change, and the node that told it.
pub(super) struct Change {
    pub source: usize,
    pub told: Told,
}

struct Node {
    /// All that it told up to this stamp has come.
    heard: u64,
    /// How much its clock is ahead.
    ahead: i64,
    /// The offset of the last frame.
    offset: u64,
    gone: bool,
}

/// See the module's documentation.
pub(super) struct Merger {
    nodes: Vec<Node>,
    /// Groups that hold slots.
    groups: Vec<u32>,
    /// What has come, by group (0: the node itself) and node, with corrected stamps.
    queues: BTreeMap<(u32, usize), VecDeque<(u64, Told)>>,
}

impl Merger {
    /// `offsets`: where each node's stream begins.
    pub fn new(offsets: &[u64], groups: Vec<u32>) -> Merger {
        let node = |offset: &u64| Node {
            heard: 0,
            ahead: 0,
            offset: *offset,
            gone: false,
        };
        Merger {
            nodes: offsets.iter().map(node).collect(),
            groups,
            queues: BTreeMap::new(),
        }
    }

    /// Takes a frame in. PINGs and functions are the first node's affair: every node
    /// tells all of them.
    pub fn push(&mut self, source: usize, told: Told) {
        let head = told.frame.head;
        let node = &mut self.nodes[source];
        let stamp = head.stamp.saturating_add_signed(-node.ahead);
        node.heard = node.heard.max(stamp);
        node.offset = head.offset;
        let wanted = match head.kind {
            FrameKind::Tape | FrameKind::Whole | FrameKind::Message | FrameKind::Ask => true,
            FrameKind::Ping | FrameKind::Functions => source == 0,
            _ => false,
        };
        if wanted {
            let queue = self.queues.entry((head.group, source)).or_default();
            queue.push_back((stamp, told));
        }
    }

    /// A mark was asked for and came between two moments, by this machine's clock.
    pub fn marked(&mut self, source: usize, stamp: u64, asked: u64, came: u64) {
        self.nodes[source].ahead = match stamp {
            early if early < asked => early as i64 - asked as i64,
            late if late > came => late as i64 - came as i64,
            _ => 0,
        };
    }

    /// A node without groups has gone: it has nothing more to tell.
    pub fn leave(&mut self, source: usize) {
        self.nodes[source].gone = true;
    }

    /// What comes next, if that is known.
    pub fn next(&mut self) -> Option<Change> {
        if let Some(change) = self.whole() {
            return Some(change);
        }
        let nodes = self.nodes.iter().filter(|node| !node.gone);
        let bound = nodes.map(|node| node.heard).min()?;
        let (key, stamp) = self.earliest()?;
        if stamp > bound && self.nodes.len() > 1 {
            return None;
        }
        self.pop(key)
    }

    /// Whether marks would bring something forth.
    pub fn wants_marks(&self) -> bool {
        self.earliest().is_some()
    }

    /// Whether a command on a whole database waits for other groups.
    pub fn is_held(&self) -> bool {
        let mut fronts = self.queues.values().filter_map(VecDeque::front);
        fronts.any(|(_, told)| told.frame.head.kind == FrameKind::Whole)
    }

    /// An offset of a node up to which everything was passed on.
    pub fn passed(&self, source: usize) -> u64 {
        let queues = self.queues.iter().filter(|((_, of), _)| *of == source);
        let waiting = queues.filter_map(|(_, queue)| queue.front());
        let offsets = waiting.map(|(_, told)| told.frame.head.offset.saturating_sub(1));
        offsets.min().unwrap_or(self.nodes[source].offset)
    }

    /// The first of those that need not wait for others.
    fn earliest(&self) -> Option<((u32, usize), u64)> {
        let fronts = self.queues.iter();
        let fronts = fronts.filter_map(|(key, queue)| Some((*key, queue.front()?)));
        let free = fronts.filter(|(_, (_, told))| told.frame.head.kind != FrameKind::Whole);
        free.map(|(key, (stamp, _))| (key, *stamp))
            .min_by_key(|(_, stamp)| *stamp)
    }

    /// The command on a whole database that all groups have come to.
    fn whole(&mut self) -> Option<Change> {
        let keys: Vec<(u32, usize)> = self
            .queues
            .iter()
            .filter(|(_, queue)| {
                let kind = queue.front().map(|(_, told)| told.frame.head.kind);
                kind == Some(FrameKind::Whole)
            })
            .map(|(key, _)| *key)
            .collect();
        let mut arrived: Vec<u32> = keys.iter().map(|(group, _)| *group).collect();
        arrived.dedup();
        if keys.is_empty() || arrived != self.groups {
            return None;
        }
        let said = |key: &(u32, usize)| {
            let (_, told) = &self.queues[key][0];
            (told.frame.head.databases, &told.frame.payload)
        };
        if keys.iter().any(|key| said(key) != said(&keys[0])) {
            return None;
        }
        let mut told = keys.into_iter().filter_map(|key| self.pop(key));
        let first = told.next();
        told.for_each(drop);
        first
    }

    fn pop(&mut self, key: (u32, usize)) -> Option<Change> {
        let queue = self.queues.get_mut(&key)?;
        let (_, told) = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&key);
        }
        Some(Change {
            source: key.1,
            told,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use cairn_protocol::link::feed::{Frame, FrameHead};

    fn told(kind: FrameKind, group: u32, stamp: u64, text: &str) -> Told {
        let head = FrameHead {
            kind,
            databases: (0, 0),
            group,
            stamp,
            offset: stamp,
        };
        let payload = Bytes::copy_from_slice(text.as_bytes());
        Told::of(Frame { head, payload })
    }

    fn tape(merger: &mut Merger, source: usize, stamp: u64, text: &str) {
        let group = source as u32 + 1;
        merger.push(source, told(FrameKind::Tape, group, stamp, text));
    }

    fn whole(merger: &mut Merger, source: usize, stamp: u64, text: &str) {
        let group = source as u32 + 1;
        merger.push(source, told(FrameKind::Whole, group, stamp, text));
    }

    fn mark(merger: &mut Merger, source: usize, stamp: u64) {
        merger.push(source, told(FrameKind::Marked, 0, stamp, ""));
    }

    fn all(merger: &mut Merger) -> String {
        let next = std::iter::from_fn(|| merger.next());
        let texts = next.map(|change| String::from_utf8(change.told.frame.payload.to_vec()));
        texts.map(Result::unwrap).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_saw_another_change_comes_behind_it() {
        let mut merger = Merger::new(&[0, 0], vec![1, 2]);
        tape(&mut merger, 1, 20, "later");
        assert_eq!(
            all(&mut merger),
            "",
            "node 0 may have told something before"
        );
        assert!(merger.wants_marks());
        tape(&mut merger, 0, 10, "earlier");
        assert_eq!(all(&mut merger), "earlier");
        mark(&mut merger, 0, 25);
        mark(&mut merger, 1, 26);
        assert_eq!(all(&mut merger), "later");
        assert!(!merger.wants_marks());
    }

    #[test]
    fn one_node_is_waited_for_by_nobody() {
        let mut merger = Merger::new(&[0], vec![1]);
        tape(&mut merger, 0, 20, "a");
        assert_eq!(all(&mut merger), "a");
    }

    #[test]
    fn a_flush_is_told_once_when_all_groups_have_come_to_it() {
        let mut merger = Merger::new(&[0, 0], vec![1, 2]);
        whole(&mut merger, 0, 10, "FLUSHALL");
        tape(&mut merger, 0, 11, "behind");
        tape(&mut merger, 1, 12, "before");
        mark(&mut merger, 0, 50);
        mark(&mut merger, 1, 50);
        assert_eq!(all(&mut merger), "before", "group 2 is not flushed yet");
        assert!(merger.is_held());
        whole(&mut merger, 1, 51, "FLUSHALL");
        assert_eq!(all(&mut merger), "FLUSHALL behind");
        assert!(!merger.is_held());
    }

    #[test]
    fn two_different_flushes_are_not_taken_for_one() {
        let mut merger = Merger::new(&[0, 0], vec![1, 2]);
        whole(&mut merger, 0, 10, "FLUSHALL");
        whole(&mut merger, 1, 11, "FLUSHDB");
        assert_eq!(all(&mut merger), "");
        assert!(merger.is_held());
    }

    #[test]
    fn a_clock_that_is_ahead_is_corrected() {
        let mut merger = Merger::new(&[0, 0], vec![1, 2]);
        merger.marked(0, 1_000_100, 80, 100);
        tape(&mut merger, 0, 1_000_110, "a");
        tape(&mut merger, 1, 120, "b");
        mark(&mut merger, 0, 1_000_130);
        mark(&mut merger, 1, 131);
        assert_eq!(all(&mut merger), "a b");
        merger.marked(1, 125, 120, 130);
        assert_eq!(merger.nodes[1].ahead, 0);
    }

    #[test]
    fn every_node_tells_of_functions_and_one_is_believed() {
        let mut merger = Merger::new(&[0, 0], vec![1, 2]);
        for source in 0..2 {
            merger.push(source, told(FrameKind::Functions, 0, 10, "FUNCTION"));
            merger.push(source, told(FrameKind::Message, 0, 11, "PUBLISH"));
        }
        assert_eq!(all(&mut merger), "FUNCTION PUBLISH PUBLISH");
    }

    #[test]
    fn what_waits_is_not_acknowledged() {
        let mut merger = Merger::new(&[5, 7], vec![1, 2]);
        assert_eq!((merger.passed(0), merger.passed(1)), (5, 7));
        tape(&mut merger, 0, 20, "a");
        assert_eq!((merger.passed(0), merger.passed(1)), (19, 7));
        mark(&mut merger, 1, 30);
        assert_eq!(all(&mut merger), "a");
        assert_eq!((merger.passed(0), merger.passed(1)), (20, 30));
    }
}
