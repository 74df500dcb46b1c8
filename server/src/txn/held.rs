//! Numbers that only the writer knows: the store says of them that they are open.
//!
//! A count of `types::sorted_set` changes with every member that comes, goes or moves,
//! and is asked for by ranks alone. While nobody asks, its row is left *open* (an empty
//! value, written once) and the number is here; whoever asks has the writer *close* it.
//!
//! Owned by the writer's [`Overlay`](super::overlay::Overlay), which undoes what a
//! command that is undone did here, and begins anew with none when a batch was not
//! applied. Invariant: what is here is the number of a row that is open. The opposite
//! does not hold: after a restart nothing is here, and what is asked for is counted. Who
//! only changes a row of which nobody knows the number need not, if it grows by little.

use bytes::Bytes;
use hashbrown::HashMap;
use indexmap::IndexMap;

use super::Txn;
use super::effects::{Family, RowKey};
use crate::storage::Version;

/// Rows that one run of the program leaves open at most: so many more must be counted
/// after it, each of them of a thousand members.
#[cfg(not(test))]
const MOST: usize = 2048;
#[cfg(test)]
const MOST: usize = 48;

/// Rows that were turned away before an old one is closed for them. What changes more
/// of them in turn than there is room for is to have most written, not all of them
/// twice.
const PATIENCE: u32 = 16;

/// For so long after somebody asked for ranks the counts of a set are written with
/// every change, ms: a set that is asked all the time is read beside the writer.
const ASKED_FOR_MS: u64 = 10_000;

/// Sets that are remembered as asked for.
const MOST_ASKED: usize = 1024;

type Hasher = hashbrown::DefaultHashBuilder;

/// What the writer knows of an open row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Number(u64),
    /// By how much the number has changed since a restart, after which nobody has
    /// counted.
    Change(i64),
}

struct Entry {
    known: Known,
    /// It was changed since it last could have been closed for others.
    used: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Held {
    rows: IndexMap<RowKey, Entry, Hasher>,
    /// Where the look for one that is not used goes on.
    hand: usize,
    turned_away: u32,
    /// Rows that the command that runs has closed.
    closed: Vec<RowKey>,
    /// Log time of the last question, by set.
    asked: HashMap<Version, u64>,
}

impl Held {
    pub fn get(&self, key: &[u8]) -> Option<Known> {
        self.rows.get(key).map(|held| held.known)
    }

    /// Sets what is known and tells what was.
    ///
    /// # Errors
    /// There is no room for one more.
    pub fn set(&mut self, key: &[u8], known: Known) -> Result<Option<Known>, Full> {
        if let Some(held) = self.rows.get_mut(key) {
            held.used = true;
            return Ok(Some(std::mem::replace(&mut held.known, known)));
        }
        if self.rows.len() >= MOST {
            self.turned_away += 1;
            return Err(Full);
        }
        self.restore(RowKey::from_slice(key), known);
        Ok(None)
    }

    /// Numbers of rows whose keys begin so.
    pub fn below(&self, front: &[u8]) -> Vec<(RowKey, u64)> {
        let rows = self.rows.iter();
        rows.filter_map(|(key, held)| match held.known {
            Known::Number(number) if key.starts_with(front) => Some((key.clone(), number)),
            _ => None,
        })
        .collect()
    }

    /// Puts back what was there before, room or not.
    pub fn restore(&mut self, key: RowKey, known: Known) {
        let used = true;
        self.rows.insert(key, Entry { known, used });
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Known> {
        self.rows.swap_remove(key).map(|held| held.known)
    }

    /// A row to be closed so that others find room, if that is due and one was not
    /// changed for a while.
    pub fn idle(&mut self) -> Option<RowKey> {
        /// Rows looked at for one that is idle.
        const LOOKS: usize = 4;
        if self.turned_away < PATIENCE {
            return None;
        }
        self.turned_away = 0;
        for _ in 0..LOOKS {
            if self.hand >= self.rows.len() {
                self.hand = 0;
            }
            let (key, held) = self.rows.get_index_mut(self.hand)?;
            if !std::mem::replace(&mut held.used, false) {
                return Some(key.clone());
            }
            self.hand += 1;
        }
        None
    }

    /// A row is closed for the command that runs.
    pub fn note_closed(&mut self, key: &[u8]) {
        self.closed.push(RowKey::from_slice(key));
    }

    pub fn take_closed(&mut self) -> Vec<RowKey> {
        std::mem::take(&mut self.closed)
    }

    /// Another command begins.
    pub fn begin(&mut self) {
        self.closed.clear();
    }

    /// Somebody asks for ranks of a set at this log time.
    pub fn note_asked(&mut self, set: Version, now: u64) {
        if self.asked.len() >= MOST_ASKED && !self.asked.contains_key(&set) {
            self.asked.retain(|_, at| is_recent(*at, now));
            if self.asked.len() >= MOST_ASKED {
                self.asked.clear();
            }
        }
        self.asked.insert(set, now);
    }

    /// Whether somebody asked for ranks of a set not long ago.
    pub fn is_asked(&self, set: Version, now: u64) -> bool {
        let at = self.asked.get(&set);
        at.is_some_and(|at| is_recent(*at, now))
    }
}

fn is_recent(at: u64, now: u64) -> bool {
    now < at.saturating_add(ASKED_FOR_MS)
}

/// There is no room for one more number.
#[derive(Debug)]
pub(super) struct Full;

/// For the rows of counts alone, which know what an open row is.
impl Txn<'_> {
    /// Whether counts of the set with this version may be left open. Not in a cluster: a
    /// leader that comes after this one would have to count. Not for a master that is
    /// followed: to close them is an entry that is not of its stream, and after a restart
    /// the stream could not be gone on with.
    pub fn leaves_open(&self, set: Version) -> bool {
        let (alone, now) = (
            !self.context.cluster && !self.is_of_master(),
            self.context.now,
        );
        let overlay = self.overlay.as_deref();
        alone && overlay.is_some_and(|overlay| !overlay.is_asked(set, now))
    }

    /// Notes that ranks of this set are asked for, where that is of use to know. Tells
    /// the open rows, whose keys begin with `front`, if nobody did for a while.
    pub fn ask(&mut self, set: Version, front: &[u8]) -> Vec<(RowKey, u64)> {
        let now = self.context.now;
        let overlay = self.overlay.as_deref_mut();
        overlay.map_or(Vec::new(), |overlay| overlay.ask(set, front, now))
    }

    /// A command that cannot have counts written wants them to be.
    pub fn want(&self, set: Version, front: Vec<u8>) {
        if !self.is_write() {
            self.store.wanted.note(set, front);
        }
    }

    /// Whether the writer can answer what this command, which only reads, would have to
    /// count for.
    pub fn can_ask_writer(&self) -> bool {
        !self.is_write() && self.pin.is_none() && !self.context.cluster
    }

    /// What is known of an open row.
    pub fn held(&self, key: &[u8]) -> Option<Known> {
        self.overlay.as_deref()?.held(key)
    }

    /// Keeps what is known of an open row. False: there is no room.
    pub fn hold(&mut self, key: &[u8], known: Known) -> bool {
        self.overlay_mut().hold(key, known)
    }

    /// The row is written as it is, or deleted: it is not open any more.
    pub fn release(&mut self, key: &[u8]) {
        self.overlay_mut().release(key);
    }

    /// An open row, of any set, that is to be closed for others.
    pub fn idle_row(&mut self) -> Option<(RowKey, Known)> {
        self.overlay_mut().idle_row()
    }

    /// Writes an open row as it is, for whoever asked. That changes no set: nobody is
    /// told. Nothing for a command that cannot write.
    pub fn close_row(&mut self, family: Family, key: Vec<u8>, value: Bytes) {
        if let Some(overlay) = self.overlay.as_deref_mut() {
            overlay.close_row(family, key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::Bench;
    use crate::txn::overlay::Overlay;

    fn key(n: usize) -> RowKey {
        RowKey::from_slice(format!("key:{n}").as_bytes())
    }

    #[test]
    fn a_full_table_turns_rows_away_until_an_idle_one_is_closed() {
        let mut held = Held::default();
        for n in 0..MOST {
            assert!(matches!(
                held.set(&key(n), Known::Number(n as u64)),
                Ok(None)
            ));
        }
        assert_eq!(held.get(&key(7)), Some(Known::Number(7)));
        for _ in 0..PATIENCE {
            assert!(held.idle().is_none());
            assert!(held.set(&key(MOST), Known::Change(1)).is_err());
        }
        // All are new: the first look finds each as used, and nobody may go.
        assert!(held.idle().is_none());
        let before = held.set(&key(1), Known::Number(100));
        assert!(matches!(before, Ok(Some(Known::Number(1)))));
        held.hand = 0;
        held.turned_away = PATIENCE;
        assert_eq!(held.idle(), Some(key(0)));
        held.remove(&key(0));
        assert!(matches!(held.set(&key(MOST), Known::Change(1)), Ok(None)));
        assert_eq!(held.get(&key(1)), Some(Known::Number(100)));
    }

    #[test]
    fn a_set_is_asked_for_only_so_long_and_only_so_many_are_remembered() {
        let version = |counter| Version { epoch: 1, counter };
        let mut held = Held::default();
        held.note_asked(version(1), 1_000);
        assert!(held.is_asked(version(1), 1_000 + ASKED_FOR_MS - 1));
        assert!(!held.is_asked(version(1), 1_000 + ASKED_FOR_MS));
        assert!(!held.is_asked(version(2), 1_000));
        for counter in 0..10 * MOST_ASKED as u64 {
            held.note_asked(version(counter), 2_000);
            assert!(held.asked.len() <= MOST_ASKED);
            assert!(held.is_asked(version(counter), 2_000));
        }
    }

    #[test]
    fn a_row_that_is_closed_is_written_and_no_change_that_replicas_are_told() {
        let bench = Bench::new();
        let maps = bench.store.maps();
        let mut overlay = Overlay::new((*maps).clone(), 1);
        assert!(overlay.hold(b"row", Known::Number(7)));
        let savepoint = overlay.savepoint();
        let before = overlay.changes();
        let mut txn = Txn::write(&bench.store, &maps, &mut overlay, bench.context);
        assert_eq!(txn.held(b"row"), Some(Known::Number(7)));
        txn.close_row(Family::Score, b"row".to_vec(), Bytes::from_static(b"7"));
        assert_eq!(txn.held(b"row"), None);
        assert!(overlay.is_dirty());
        assert_eq!(overlay.changes(), before);
        overlay.roll_back(savepoint);
        assert!(!overlay.is_dirty());
        assert_eq!(overlay.held(b"row"), Some(Known::Number(7)));
        // Who fetches what was not in memory comes again.
        assert_eq!(overlay.take_closed(), [RowKey::from_slice(b"row")]);
        overlay.savepoint();
        assert!(overlay.take_closed().is_empty());
    }
}
