//! What replicas are told of a batch: commands that do on a copy of the data
//! what was done here, in the order in which it was done.
//!
//! Filled while commands are evaluated, only if somebody is to be told; rolled
//! back with the overlay that it belongs to; sent once the entry is applied.

use bytes::Bytes;

use super::Txn;

/// See the module's documentation.
#[derive(Default)]
pub struct Tape {
    /// The arguments of all commands as a request has them, one after the other.
    bytes: Vec<u8>,
    commands: Vec<Taped>,
    /// Commands that take effect together.
    units: Vec<Unit>,
    /// Instead of all that: what came from a master, to be passed on as it is.
    passed_on: Vec<PassedOn>,
}

/// A part of a master's stream.
pub struct PassedOn {
    pub bytes: Bytes,
    /// The database that is selected behind it.
    pub db: usize,
}

#[derive(Clone, Copy)]
struct Taped {
    db: usize,
    /// Where it ends in `bytes`.
    end: usize,
    /// It is on a whole database (FLUSHALL).
    whole: bool,
}

/// Commands that may be told apart from the rest of their tape.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// It is one command, on a whole database.
    pub whole: bool,
    /// The databases that it begins in and leaves selected.
    pub databases: (usize, usize),
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit {
    first: usize,
    /// One behind its last.
    end: usize,
}

impl Tape {
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.passed_on.is_empty()
    }

    /// Adds what is passed on as it came. It is told of what was evaluated, whatever
    /// became of it, and so is not taken back.
    pub fn pass_on(&mut self, bytes: Bytes, db: usize) {
        if !bytes.is_empty() {
            self.passed_on.push(PassedOn { bytes, db });
        }
    }

    /// Whether it has commands of our own.
    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    pub fn passed_on(&self) -> &[PassedOn] {
        &self.passed_on
    }

    /// Adds a command on database `db`.
    pub fn push<A: AsRef<[u8]>>(
        &mut self,
        db: usize,
        args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
    ) {
        put_request(&mut self.bytes, args.into_iter());
        let end = self.bytes.len();
        let whole = false;
        self.commands.push(Taped { db, end, whole });
    }

    /// The last command is on a whole database.
    pub fn mark_whole(&mut self) {
        if let Some(last) = self.commands.last_mut() {
            last.whole = true;
        }
    }

    /// Whether any command is on a whole database.
    pub fn has_whole(&self) -> bool {
        self.commands.iter().any(|command| command.whole)
    }

    /// Takes back all but the first `len` commands.
    pub fn truncate(&mut self, len: usize) {
        self.commands.truncate(len);
        let end = self.commands.last().map_or(0, |last| last.end);
        self.bytes.truncate(end);
        self.units.retain(|unit| unit.end <= len);
    }

    /// The commands from `first` on take effect together.
    pub fn end_unit(&mut self, first: usize) {
        let end = self.commands.len();
        if end > first + 1 {
            self.units.push(Unit { first, end });
        }
    }

    /// Appends what a replica is sent, which has database `selected` chosen,
    /// if that is known.
    pub fn write(&self, selected: &mut Option<usize>, out: &mut Vec<u8>) {
        let mut units = self.units.iter().peekable();
        let mut from = 0;
        for (at, command) in self.commands.iter().enumerate() {
            select(selected, command.db, out);
            if units.peek().is_some_and(|unit| unit.first == at) {
                put_request(out, [&b"MULTI"[..]].into_iter());
            }
            out.extend_from_slice(&self.bytes[from..command.end]);
            from = command.end;
            if units.next_if(|unit| unit.end == at + 1).is_some() {
                put_request(out, [&b"EXEC"[..]].into_iter());
            }
        }
    }

    /// The same in pieces: what is on a whole database stands alone, so that a
    /// transaction with such a command is none.
    pub fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut from = 0;
        while from < self.commands.len() {
            let rest = &self.commands[from..];
            let end = match rest.iter().position(|command| command.whole) {
                Some(0) => from + 1,
                Some(next) => from + next,
                None => self.commands.len(),
            };
            pieces.push(self.piece(from, end));
            from = end;
        }
        pieces
    }

    fn piece(&self, first: usize, end: usize) -> Piece {
        let (commands, start) = (&self.commands[first..end], self.start(first));
        let databases = (commands[0].db, commands[commands.len() - 1].db);
        let mut part = Tape {
            bytes: self.bytes[start..commands[commands.len() - 1].end].to_vec(),
            commands: commands.to_vec(),
            ..Tape::default()
        };
        part.commands.iter_mut().for_each(|c| c.end -= start);
        let within = |unit: &&Unit| unit.first >= first && unit.end <= end;
        part.units = self.units.iter().filter(within).copied().collect();
        for unit in &mut part.units {
            (unit.first, unit.end) = (unit.first - first, unit.end - first);
        }
        let mut bytes = Vec::with_capacity(part.bytes.len());
        part.write(&mut Some(databases.0), &mut bytes);
        Piece {
            whole: commands[0].whole,
            databases,
            bytes,
        }
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1)
            .map_or(0, |before| self.commands[before].end)
    }
}

/// Chooses a database, unless it is chosen.
fn select(selected: &mut Option<usize>, db: usize, out: &mut Vec<u8>) {
    if *selected != Some(db) {
        let number = db.to_string();
        put_request(out, [&b"SELECT"[..], number.as_bytes()].into_iter());
        *selected = Some(db);
    }
}

/// Appends one command as a client would send it.
pub fn put_request<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: impl ExactSizeIterator<Item = A>) {
    put_header(out, b'*', args.len());
    for arg in args {
        let arg = arg.as_ref();
        put_header(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn put_header(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

impl Txn<'_> {
    /// Whether replicas are to be told what this command does.
    pub fn is_recorded(&self) -> bool {
        self.context.recorded && !self.muted && self.is_write()
    }

    /// Keeps what is done from now on from replicas, or no longer. An expired key
    /// that is met is none of it: replicas wait to be told that it goes.
    pub(crate) fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// A measure of what was changed so far: another number means a change.
    pub(crate) fn changes(&self) -> u64 {
        self.overlay.as_ref().map_or(0, |overlay| overlay.changes())
    }

    /// Tells replicas of a command on the client's database. Only if
    /// [`Txn::is_recorded`].
    pub fn record<A: AsRef<[u8]>>(
        &mut self,
        args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
    ) {
        let db = self.context.db;
        self.overlay_mut().tape.push(db, args);
    }

    /// The same of a command on a whole database.
    pub(crate) fn record_whole<A: AsRef<[u8]>>(
        &mut self,
        args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
    ) {
        self.record(args);
        self.overlay_mut().tape.mark_whole();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(tape: &Tape, selected: Option<usize>) -> String {
        let (mut out, mut selected) = (Vec::new(), selected);
        tape.write(&mut selected, &mut out);
        let text = String::from_utf8(out).unwrap();
        let words = text.split("\r\n").filter(|word| !word.starts_with('$'));
        words.collect::<Vec<_>>().join(" ").replace('*', "\n")
    }

    #[test]
    fn commands_select_their_database_and_units_are_transactions() {
        let mut tape = Tape::default();
        tape.push(0, ["SET", "a", "1"]);
        tape.end_unit(0);
        tape.push(9, ["DEL", "x"]);
        tape.push(9, ["INCR", "y"]);
        tape.push(1, ["INCR", "z"]);
        tape.end_unit(1);
        assert_eq!(
            sent(&tape, Some(0)),
            "\n3 SET a 1 \n2 SELECT 9 \n1 MULTI \n2 DEL x \n2 INCR y \n2 SELECT 1 \n2 INCR z \
             \n1 EXEC "
        );
        assert!(sent(&tape, None).starts_with("\n2 SELECT 0 \n3 SET"));
    }

    #[test]
    fn pieces_part_at_commands_on_a_whole_database() {
        let mut tape = Tape::default();
        tape.push(0, ["SET", "a", "1"]);
        tape.push(2, ["SET", "b", "1"]);
        tape.end_unit(0);
        tape.push(1, ["FLUSHDB"]);
        tape.mark_whole();
        tape.push(1, ["SET", "c", "1"]);
        tape.push(1, ["SET", "d", "1"]);
        tape.end_unit(3);
        let pieces = tape.pieces();
        let databases: Vec<_> = pieces.iter().map(|p| (p.whole, p.databases)).collect();
        assert_eq!(
            databases,
            [(false, (0, 2)), (true, (1, 1)), (false, (1, 1))]
        );
        let text = |at: usize| String::from_utf8(pieces[at].bytes.clone()).unwrap();
        assert!(
            text(0).starts_with("*1\r\n$5\r\nMULTI\r\n*3"),
            "{}",
            text(0)
        );
        assert!(text(0).contains("SELECT"));
        assert_eq!(text(1), "*1\r\n$7\r\nFLUSHDB\r\n");
        assert!(text(2).starts_with("*1\r\n$5\r\nMULTI\r\n*3") && text(2).ends_with("EXEC\r\n"));
        assert!(tape.has_whole());
    }

    #[test]
    fn what_is_taken_back_is_not_sent() {
        let mut tape = Tape::default();
        tape.push(0, ["INCR", "a"]);
        tape.push(0, ["INCR", "b"]);
        tape.truncate(1);
        tape.end_unit(0);
        tape.push(0, ["INCR", "c"]);
        assert_eq!(sent(&tape, Some(0)), "\n2 INCR a \n2 INCR c ");
        tape.truncate(0);
        assert!(tape.is_empty() && sent(&tape, None).is_empty());
    }
}
