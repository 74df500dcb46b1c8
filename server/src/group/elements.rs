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

use super::submission::{Outcome, Submission};
use super::{Group, Job};
use crate::storage::MetaKey;
use crate::storage::keys::slot_of;
use crate::types::members::Members;

/// Commands that are looked at together; what is asked for must not push itself out
/// of the processor's cache again.
const COMMANDS: usize = 128;
/// Elements of one command that are asked for.
const ELEMENTS: usize = 16;

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
        let mut rows = Vec::with_capacity(COMMANDS);
        let mut seen = 0;
        for submission in &next {
            if seen >= COMMANDS {
                break;
            }
            // Whoever holds it has taken it back.
            let Some(state) = submission.try_lock() else {
                continue;
            };
            let mut last: Option<(u8, &[u8], Option<Members>)> = None;
            for command in &state.commands {
                seen += usize::from(command.outcome == Outcome::Pending);
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
                    rows.extend(elements.map(|at| members.row_key(args.get(at))));
                }
            }
        }
        self.store.prefetch_rows(&rows);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::Bench;
    use crate::txn::Txn;
    use crate::txn::effects::Family;

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
        let bench = &mut Bench::new();
        for (add, value) in [("HSET h", " v"), ("SADD s", ""), ("ZADD z 1", "")] {
            for n in 0..600 {
                bench.run(&format!("{add} element:{n}{value}"));
            }
        }
        bench.run("SADD packed element:1");
        let maps = bench.store.maps();
        let row = |name: &str| {
            let key = Txn::read(&bench.store, &maps, bench.context).key(name.as_bytes());
            let record = bench.store.record(&key, true).unwrap()?;
            let row = Members::of_record(&key, &record)?.row_key(b"element:599");
            bench.store.row(Family::Data, &row, true).unwrap()
        };
        for name in ["h", "s", "z"] {
            assert!(row(name).is_some(), "{name}");
        }
        assert_eq!(row("packed"), None);
        assert_eq!(row("none"), None);
    }
}
