//! What of each node's stream a replica has, told by how much it has of its own.

use std::collections::VecDeque;

/// Points that are remembered; of more every second one is forgotten.
const MAX_POINTS: usize = 1024;

/// Everything up to these offsets of the nodes was sent by then.
struct Point {
    sent: u64,
    nodes: Vec<u64>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Acks {
    points: VecDeque<Point>,
}

impl Acks {
    /// So much was sent, and with it all up to these offsets.
    pub fn note(&mut self, sent: u64, nodes: Vec<u64>) {
        match self.points.back_mut() {
            Some(last) if last.sent == sent => last.nodes = nodes,
            _ => self.points.push_back(Point { sent, nodes }),
        }
        if self.points.len() > MAX_POINTS {
            let mut odd = false;
            self.points.retain(|_| {
                odd = !odd;
                odd
            });
        }
    }

    /// The replica has so much: what the nodes may be told.
    pub fn acknowledged(&mut self, has: u64) -> Option<Vec<u64>> {
        let known = self.points.iter().take_while(|point| point.sent <= has);
        let known = known.count();
        let last = self.points.drain(..known).next_back()?;
        Some(last.nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_worth_what_was_sent_by_then() {
        let mut acks = Acks::default();
        acks.note(0, vec![1, 1]);
        acks.note(10, vec![5, 1]);
        acks.note(10, vec![5, 2]);
        acks.note(20, vec![9, 9]);
        assert_eq!(acks.acknowledged(15), Some(vec![5, 2]));
        assert_eq!(acks.acknowledged(19), None);
        assert_eq!(acks.acknowledged(20), Some(vec![9, 9]));
    }

    #[test]
    fn the_last_point_is_never_forgotten() {
        let mut acks = Acks::default();
        let points = MAX_POINTS as u64 * 3 + 1;
        (1..=points).for_each(|n| acks.note(n, vec![n]));
        assert!(acks.points.len() <= MAX_POINTS);
        assert!(acks.acknowledged(points).unwrap()[0] >= points - 1);
        acks.note(points + 1, vec![points + 1]);
        assert_eq!(acks.acknowledged(points + 1), Some(vec![points + 1]));
    }
}
