//! TRANSACTION frames: `MULTI`, commands, `EXEC`, back to back, as one command
//! for the writer (`link/RULES.md`, rule 13).

use bytes::BytesMut;
use cairn_protocol::command::{id, lookup_full};
use cairn_protocol::resp::{Limits, RequestParser, Requests, number::parse_u64};

use crate::commands::arguments::database;
use crate::commands::{Handler, transactions};
use crate::dispatch::{Caller, Dispatched, dispatch, refused_when_full};
use crate::net::multi::Multi;
use crate::upkeep::Vitals;

const MALFORMED: &[u8] = b"ERR a transaction is MULTI, commands, EXEC";
const REFUSED: &[u8] = b"EXECABORT Transaction discarded because of: ";
/// Commands of one transaction at most, MULTI and EXEC included.
const MAX_COMMANDS: usize = 1 << 20;

/// A transaction that may run.
pub(super) struct Transaction {
    pub exec: Requests,
    pub d: Dispatched,
    /// How many WATCH requests its client has sent for it, if any.
    pub watches: Option<u32>,
}

/// The EXEC that a transaction is, and how it is dispatched; or the error line
/// that it gets.
///
/// A SELECT in it names the database of what follows and has no reply.
pub(super) fn read(
    wire: &[u8],
    db: usize,
    slot: Option<u16>,
    limits: &Limits,
    vitals: &Vitals,
) -> Result<Transaction, Vec<u8>> {
    let mut bytes = BytesMut::from(wire);
    let mut all = Requests::default();
    let count = RequestParser::new()
        .parse(&mut bytes, limits, MAX_COMMANDS, &mut all)
        .map_err(|error| error.line())?;
    let is = |at: usize, word: &[u8]| all.get(at).get(0).eq_ignore_ascii_case(word);
    let watches = match count > 0 && is(0, b"WATCH") {
        true => Some(watch_count(&all).ok_or(MALFORMED)?),
        false => None,
    };
    let first = usize::from(watches.is_some());
    let whole = bytes.is_empty() && count >= first + 2;
    if !whole || !is(first, b"MULTI") || !is(count - 1, b"EXEC") {
        return Err(MALFORMED.to_vec());
    }
    let mut multi = Multi::new(db);
    for at in first + 1..count - 1 {
        queue(&mut multi, &all, at, slot, vitals).map_err(|line| [REFUSED, &line].concat())?;
    }
    let d = Dispatched {
        spec: lookup_full(b"exec").expect("a name of the table"),
        handler: Handler::Write(transactions::exec),
        slot,
    };
    Ok(Transaction {
        exec: multi.exec,
        d,
        watches,
    })
}

/// The n of `WATCH n`.
fn watch_count(all: &Requests) -> Option<u32> {
    let n = all.get(0).try_get(1).and_then(parse_u64)?;
    u32::try_from(n).ok()
}

fn queue(
    multi: &mut Multi,
    all: &Requests,
    at: usize,
    slot: Option<u16>,
    vitals: &Vitals,
) -> Result<(), Vec<u8>> {
    let args = all.get(at);
    let caller = Caller {
        authenticated: true,
        // The proxy has looked at its client's rights.
        in_multi: false,
        subject: None,
        one_slot: true,
    };
    let d = dispatch(&args, caller)?;
    if d.slot.is_some() && d.slot != slot {
        return Err(b"CROSSSLOT Keys in request don't hash to the same slot".to_vec());
    }
    if let Some(line) = refused_when_full(d.spec, vitals) {
        return Err(line.to_vec());
    }
    if d.spec.id == id::SELECT {
        multi.db = database(args.get(1)).map_err(|error| error.to_string().into_bytes())?;
        return Ok(());
    }
    // WATCH comes before MULTI, as a request of its own.
    if matches!(d.handler, Handler::Session(_)) || d.spec.id == id::WATCH {
        let name = d.spec.name.replace('|', " ");
        return Err(format!("ERR '{name}' is not served over a link").into_bytes());
    }
    match multi.push(&d, &args) {
        true => Ok(()),
        false => Err(b"ERR the transaction is too large".to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_protocol::resp::encode_request;

    fn wire(lines: &[&str]) -> Vec<u8> {
        let mut out = BytesMut::new();
        for line in lines {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            encode_request(&mut out, words);
        }
        out.to_vec()
    }

    fn read_lines(lines: &[&str]) -> Result<usize, String> {
        let slot = Some(cairn_protocol::slot::key_slot(b"a"));
        let (limits, vitals) = (Limits::default(), Vitals::default());
        match read(&wire(lines), 0, slot, &limits, &vitals) {
            Ok(read) => Ok(transactions::parts(&read.exec.get(0)).count()),
            Err(line) => Err(String::from_utf8(line).unwrap()),
        }
    }

    #[test]
    fn a_transaction_is_multi_commands_exec() {
        let lines = ["MULTI", "SET a 1", "SELECT 3", "GET a", "EXEC"];
        assert_eq!(read_lines(&lines), Ok(2));
        assert_eq!(read_lines(&["MULTI", "EXEC"]), Ok(0));
        for lines in [&["MULTI"][..], &["GET a", "EXEC"], &["MULTI", "GET a"], &[]] {
            assert_eq!(read_lines(lines).unwrap_err().as_bytes(), MALFORMED);
        }
    }

    #[test]
    fn what_cannot_be_queued_discards_it() {
        let refused = |line: &str| read_lines(&["MULTI", line, "EXEC"]).unwrap_err();
        let why = |line: &str| format!("EXECABORT Transaction discarded because of: {line}");
        assert_eq!(
            refused("GET"),
            why("ERR wrong number of arguments for 'get' command")
        );
        assert_eq!(
            refused("GET b"),
            why("CROSSSLOT Keys in request don't hash to the same slot")
        );
        assert_eq!(refused("PING"), why("ERR 'ping' is not served over a link"));
        assert_eq!(
            refused("WATCH a"),
            why("ERR 'watch' is not served over a link")
        );
    }
}
