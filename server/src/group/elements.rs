//! A look ahead for the writer: the rows that the commands it takes next will look up.
//!
//! An element of a spread hash, set or sorted set is looked up under a key that only its
//! record gives away, so it cannot be asked for with the record (`net::ahead`). Each such
//! look-up waits for memory twice; those of all commands that are queued, asked for
//! together, wait about as long as one. A hint: what it guesses wrong costs some
//! nanoseconds.

use std::sync::Arc;

use cairn_protocol::command::{CommandId, id};
use smallvec::SmallVec;

use super::submission::{Outcome, QueuedCommand, Submission};
use super::{Group, Job};
use crate::storage::keys::slot_of;
use crate::storage::{MetaKey, row_hash};
use crate::types::members::Members;

/// Commands that are looked at together.
const COMMANDS: usize = 128;
/// Elements of one command that are asked for.
const ELEMENTS: usize = 16;
/// Rows that are asked for together; they must not push each other out of the processor's
/// cache again.
const ROWS: usize = 256;
/// A longer element costs more to name than to wait for.
const MAX_ELEMENT: usize = 512;

/// Index of the first argument that is likely to be an element, and the distance to the
/// next, for a command of `len` arguments. `None`: it looks up none, or not here.
fn likely_elements(command: CommandId, len: usize) -> Option<(usize, usize)> {
    Some(match command {
        id::SADD | id::SREM | id::HDEL | id::ZREM => (2, 1),
        id::HSET | id::HMSET => (2, 2),
        id::HSETNX | id::HINCRBY | id::HINCRBYFLOAT => (2, len),
        id::ZINCRBY => (3, len),
        // With one option, as if it had one, or none, of which two are not told from none.
        id::ZADD => (3 + len % 2, 2),
        _ => return None,
    })
}

impl Group {
    /// Asks for the rows of the next commands in the queue. Returns how many commands
    /// were looked at.
    pub(super) fn ask_for_elements(&self) -> usize {
        let (rows, seen) = self.elements_ahead();
        self.store.prefetch_rows(&rows);
        seen
    }

    /// The hashes of these rows' names, and the number of commands that were looked at.
    fn elements_ahead(&self) -> (SmallVec<[u64; ROWS]>, usize) {
        // Not looked at under the queue's lock, which every connection takes.
        let next: SmallVec<[Arc<Submission>; COMMANDS]> = {
            let queue = self.queue.lock();
            let clients = queue.iter().map_while(|job| match job {
                Job::Client(submission) => Some(submission.clone()),
                _ => None,
            });
            clients.take(COMMANDS).collect()
        };
        let maps = self.store.maps();
        let (mut rows, mut seen) = (SmallVec::new(), 0);
        for submission in &next {
            // Whoever holds it has taken it back.
            let Some(state) = submission.try_lock() else {
                continue;
            };
            let mut last: Option<(u8, &[u8], Option<Members>)> = None;
            let pending = |command: &&QueuedCommand| command.outcome == Outcome::Pending;
            for command in state.commands.iter().filter(pending) {
                if seen >= COMMANDS || rows.len() >= ROWS {
                    return (rows, seen);
                }
                seen += 1;
                let args = state.requests.get(command.request as usize);
                let Some((first, step)) = likely_elements(command.spec.id, args.len()) else {
                    continue;
                };
                let Some(name) = args.try_get(1) else {
                    continue;
                };
                let known = last.filter(|(db, known, _)| (*db, *known) == (command.db, name));
                let members = known.map_or_else(
                    || {
                        let slot = slot_of(name);
                        let generation = maps.live.get(command.db.into(), slot);
                        let key = MetaKey::new(slot, generation, name);
                        Members::of_record(&key, &self.store.cached(&key)?)
                    },
                    |(_, _, members)| members,
                );
                last = Some((command.db, name, members));
                if let Some(members) = members {
                    let elements = (first..args.len()).step_by(step).take(ELEMENTS);
                    let elements = elements.map(|at| args.get(at));
                    let short = elements.filter(|element| element.len() <= MAX_ELEMENT);
                    rows.extend(short.map(|element| row_hash(&members.row_key(element))));
                }
            }
        }
        (rows, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::serve_tests::Bench;

    #[test]
    fn elements_are_where_the_commands_have_them() {
        let of = |command, len| {
            let (first, step) = likely_elements(command, len)?;
            Some((first..len).step_by(step).collect::<Vec<_>>())
        };
        assert_eq!(of(id::SADD, 5), Some(vec![2, 3, 4]));
        assert_eq!(of(id::HSET, 6), Some(vec![2, 4]));
        assert_eq!(of(id::HINCRBY, 4), Some(vec![2]));
        assert_eq!(of(id::ZINCRBY, 4), Some(vec![3]));
        assert_eq!(of(id::ZADD, 6), Some(vec![3, 5]));
        assert_eq!(of(id::ZADD, 7), Some(vec![4, 6]));
        assert_eq!(of(id::ZADD, 2), Some(vec![]));
        assert_eq!(of(id::LPUSH, 3), None);
    }

    #[test]
    fn what_is_asked_for_is_the_row_that_the_type_reads() {
        let bench = Bench::new();
        for n in 0..600 {
            bench.reply(&format!("hset h element:{n} v"));
            bench.reply(&format!("sadd s element:{n}"));
            bench.reply(&format!("zadd z 1 element:{n}"));
        }
        bench.reply("sadd packed element:1");
        let asked_for = |lines: &[&str]| {
            let lines: Vec<(&str, u64)> = lines.iter().map(|line| (*line, 0)).collect();
            let submission = bench.queue(&lines);
            let ahead = bench.group.elements_ahead();
            bench.group.turn();
            drop(submission);
            ahead
        };
        let stored = bench.rows_with(b"element:599");
        assert_eq!(stored.len(), 3);
        for line in [
            "hset h element:599 w",
            "sadd s element:599",
            "zadd z 2 element:599",
        ] {
            let (rows, seen) = asked_for(&[line]);
            assert!(rows.len() == 1 && stored.contains(&rows[0]), "{line}");
            assert_eq!(seen, 1);
        }
        let others = ["sadd packed element:1", "sadd none element:1", "setnx k v"];
        assert_eq!(asked_for(&others), (SmallVec::new(), 3));
        let long = format!("sadd s {}", "x".repeat(MAX_ELEMENT + 1));
        assert_eq!(asked_for(&[&long]).0.len(), 0);
        let many = vec!["sadd s a b c d"; 2 * COMMANDS];
        let (rows, seen) = asked_for(&many);
        assert!(rows.len() < ROWS + ELEMENTS && seen <= COMMANDS, "{seen}");
    }
}
