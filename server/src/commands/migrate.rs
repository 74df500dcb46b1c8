//! MIGRATE: keys to another server, as DUMP makes and RESTORE takes them.
//!
//! Other commands are served meanwhile. So that nothing is lost, a key is deleted
//! only if it still is what was sent; else it is sent again.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::command::id;
use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::arguments::{integer, is};
use super::dump::payload;
use super::{DataHandler, Handler};
use crate::group::Group;
use crate::group::submission::{Outcome, QueuedCommand, Submission};
use crate::net::session::{Next, Session};
use crate::server::{Route, Server};
use crate::transfer::Target;
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::delete_key;

pub(super) const HANDLERS: &[(&str, Handler)] = &[("migrate", Handler::Session(migrate))];

/// Milliseconds, unless a time is given.
const DEFAULT_TIMEOUT: u64 = 1000;
/// A key that changes all the time is sent so often.
const MAX_SENDS: usize = 16;

/// MIGRATE host port key|"" destination-db timeout [COPY] [REPLACE]
/// [AUTH password | AUTH2 username password] [KEYS key [key ...]]
fn migrate(
    session: &mut Session,
    args: &Args<'_>,
    _: &mut ReplyWriter,
) -> Result<Next, CommandError> {
    let order = Order::read(args)?;
    let slot = match session.server.is_cluster() {
        true => id::MIGRATE.spec().one_slot(args).ok().flatten(),
        false => None,
    };
    let Route::Here(group) = session.server.route(slot) else {
        return Err(CommandError::fixed("CLUSTERDOWN Hash slot not served"));
    };
    let transfer = Transfer {
        server: session.server.clone(),
        group,
        db: session.db,
        slot,
        order,
    };
    Ok(Next::Work(Box::new(move |out| {
        if let Err(line) = transfer.run(out) {
            transfer.server.stats.error_reply(&line);
            out.error(line);
        }
    })))
}

/// What MIGRATE asks for.
struct Order {
    host: String,
    port: u16,
    db: i64,
    timeout: Duration,
    copy: bool,
    replace: bool,
    /// AUTH, with or without a name.
    auth: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
}

impl Order {
    fn read(args: &Args<'_>) -> Result<Order, CommandError> {
        let mut order = Order {
            host: String::from_utf8_lossy(args.get(1)).into_owned(),
            port: parse_i64(args.get(2))
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(0),
            db: 0,
            timeout: Duration::ZERO,
            copy: false,
            replace: false,
            auth: Vec::new(),
            keys: vec![args.get(3).to_vec()],
        };
        order.read_options(args)?;
        let timeout = integer(args.get(5))?;
        let timeout = u64::try_from(timeout).ok().filter(|ms| *ms > 0);
        order.timeout = Duration::from_millis(timeout.unwrap_or(DEFAULT_TIMEOUT));
        order.db = integer(args.get(4))?;
        Ok(order)
    }

    fn read_options(&mut self, args: &Args<'_>) -> Result<(), CommandError> {
        let mut at = 6;
        while at < args.len() {
            let (word, more) = (args.get(at), args.len() - 1 - at);
            let words = |count: usize| -> Vec<Vec<u8>> {
                let words = args.iter().skip(at + 1).take(count);
                words.map(<[u8]>::to_vec).collect()
            };
            match word {
                word if is(word, "COPY") => self.copy = true,
                word if is(word, "REPLACE") => self.replace = true,
                word if is(word, "AUTH") && more >= 1 => self.auth = words(1),
                word if is(word, "AUTH2") && more >= 2 => self.auth = words(2),
                word if is(word, "KEYS") => {
                    if !args.get(3).is_empty() {
                        return Err(CommandError::fixed(
                            "ERR When using MIGRATE KEYS option, the key argument must be set to \
                             the empty string",
                        ));
                    }
                    self.keys = words(more);
                    return Ok(());
                }
                _ => return Err(CommandError::SYNTAX),
            }
            at += match word {
                word if is(word, "AUTH") => 2,
                word if is(word, "AUTH2") => 3,
                _ => 1,
            };
        }
        Ok(())
    }

    fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// A key and what it held.
struct Dumped {
    key: Vec<u8>,
    payload: Vec<u8>,
    /// Milliseconds that it has still to live; 0: for ever.
    ttl: i64,
}

/// Why nothing more can be asked of a target.
struct Broken {
    writing: bool,
    timed_out: bool,
    /// Something was answered before.
    answered: bool,
}

/// One MIGRATE on its way.
struct Transfer {
    server: Arc<Server>,
    group: Arc<Group>,
    db: usize,
    slot: Option<u16>,
    order: Order,
}

impl Transfer {
    /// Writes the reply, or gives back the error line.
    fn run(&self, out: &mut ReplyWriter) -> Result<(), String> {
        let mut wanted = self.order.keys.clone();
        let mut replace = self.order.replace;
        for sent in 0..MAX_SENDS {
            let dumped = self.dump(&wanted)?;
            if dumped.is_empty() {
                out.simple(if sent == 0 { "NOKEY" } else { "OK" });
                return Ok(());
            }
            let (taken, refused) = self.send(&dumped, replace)?;
            let changed = match self.order.copy {
                true => Vec::new(),
                false => self.delete(taken)?,
            };
            if let Some(error) = refused {
                let error = String::from_utf8_lossy(&error).into_owned();
                return Err(format!("ERR Target instance replied with error: {error}"));
            }
            if changed.is_empty() {
                out.ok();
                return Ok(());
            }
            // What is there is what was sent before.
            (wanted, replace) = (changed, true);
        }
        Err("TRYAGAIN a key changed each time that it was sent; it is still here".into())
    }

    /// Sends values, on a new connection if a kept one turns out to be closed. What
    /// was taken, and the first error of the target.
    fn send<'a>(
        &self,
        dumped: &'a [Dumped],
        replace: bool,
    ) -> Result<(Vec<&'a Dumped>, Option<Vec<u8>>), String> {
        let place = self.order.place();
        let mut may_retry = true;
        loop {
            let targets = &self.server.targets;
            let (host, port) = (&self.order.host, self.order.port);
            let taken = targets.take(&place, host, port, self.order.timeout);
            let (mut target, _) = taken.map_err(|error| not_connected(error.kind()).to_owned())?;
            match self.exchange(&mut target, dumped, replace) {
                Ok(answer) => {
                    target.db = Some(self.order.db).filter(|_| answer.1.is_none());
                    targets.keep(&place, target);
                    return Ok(answer);
                }
                Err(broken) if may_retry && !broken.timed_out && !broken.answered => {
                    may_retry = false;
                }
                Err(broken) => {
                    let what = if broken.writing { "writing" } else { "reading" };
                    return Err(format!("IOERR error or timeout {what} to target instance"));
                }
            }
        }
    }

    fn exchange<'a>(
        &self,
        target: &mut Target,
        dumped: &'a [Dumped],
        replace: bool,
    ) -> Result<(Vec<&'a Dumped>, Option<Vec<u8>>), Broken> {
        let broken = |error: &std::io::Error, writing, answered| Broken {
            writing,
            timed_out: matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            answered,
        };
        let db = self.order.db.to_string();
        let ttls: Vec<String> = dumped.iter().map(|d| d.ttl.to_string()).collect();
        let mut requests: Vec<Vec<&[u8]>> = Vec::new();
        if !self.order.auth.is_empty() {
            let words = self.order.auth.iter().map(Vec::as_slice);
            requests.push(std::iter::once(&b"AUTH"[..]).chain(words).collect());
        }
        if target.db != Some(self.order.db) {
            requests.push(vec![b"SELECT", db.as_bytes()]);
        }
        let before = requests.len();
        let name: &[u8] = match self.server.is_cluster() {
            true => b"RESTORE-ASKING",
            false => b"RESTORE",
        };
        for (value, ttl) in dumped.iter().zip(&ttls) {
            let mut request = vec![name, &value.key, ttl.as_bytes(), &value.payload];
            request.extend(replace.then_some(&b"REPLACE"[..]));
            requests.push(request);
        }
        let sent = target.send(&requests);
        sent.map_err(|error| broken(&error, true, false))?;
        let mut refused = None;
        for _ in 0..before {
            let answer = target.answer();
            let answer = answer.map_err(|error| broken(&error, false, false))?;
            refused = refused.or(answer.err());
        }
        let may_take = refused.is_none();
        let mut taken = Vec::new();
        for (at, value) in dumped.iter().enumerate() {
            match target.answer() {
                Ok(Ok(())) if may_take => taken.push(value),
                Ok(answer) => refused = refused.or(answer.err()),
                Err(error) if at == 0 => return Err(broken(&error, false, false)),
                // What was acknowledged is gone all the same.
                Err(error) => {
                    let _ = self.delete(taken);
                    return Err(broken(&error, false, true));
                }
            }
        }
        Ok((taken, refused))
    }

    /// What the keys hold, without those that are not there.
    fn dump(&self, keys: &[Vec<u8>]) -> Result<Vec<Dumped>, String> {
        let mut words = vec![b"DUMP".to_vec()];
        words.extend_from_slice(keys);
        let reply = self.in_writer(dump_all, &words)?;
        let mut rest = &reply[..];
        let mut found = Vec::new();
        let count = number(&mut rest, b'*')?;
        for key in keys.iter().take(count as usize) {
            let ttl = number(&mut rest, b':')?;
            let len = number(&mut rest, b'$')?;
            let Ok(len) = usize::try_from(len) else {
                continue;
            };
            let payload = rest.get(..len).ok_or(GARBLED)?.to_vec();
            rest = rest.get(len + 2..).ok_or(GARBLED)?;
            let key = key.clone();
            found.push(Dumped { key, payload, ttl });
        }
        Ok(found)
    }

    /// Deletes what still is as it was sent. The keys that are not.
    fn delete(&self, taken: Vec<&Dumped>) -> Result<Vec<Vec<u8>>, String> {
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let mut words = vec![b"DEL".to_vec()];
        for value in &taken {
            words.extend([value.key.clone(), value.payload.clone()]);
            words.push(if value.ttl == 0 { b"0" } else { b"1" }.to_vec());
        }
        let reply = self.in_writer(delete_unchanged, &words)?;
        let mut rest = &reply[..];
        let mut changed = Vec::new();
        number(&mut rest, b'*')?;
        for value in taken {
            if number(&mut rest, b':')? == 0 {
                changed.push(value.key.clone());
            }
        }
        Ok(changed)
    }

    /// Runs a command of this file through the group's writer. Blocks.
    fn in_writer(&self, handler: DataHandler, words: &[Vec<u8>]) -> Result<Vec<u8>, String> {
        let submission = Arc::<Submission>::default();
        let mut tries = 0;
        loop {
            let mut state = submission.lock();
            if state.commands.is_empty() {
                state.requests.push_owned(words.iter());
                state.commands.push(self.queued(handler));
            }
            state.commands[0].outcome = Outcome::Pending;
            state.commands[0].tries = tries;
            let mark = state.replies.mark();
            state.base = Some(mark);
            drop(state);
            self.group.submit(submission.clone());
            self.group.refuse_if_unready();
            self.group.turn();
            futures::executor::block_on(submission.finished());
            let mut state = submission.lock();
            let command = state.commands[0];
            match command.outcome {
                Outcome::Done if command.failed => {
                    let line = state.replies.to_vec();
                    let line = String::from_utf8_lossy(&line).into_owned();
                    return Err(line.trim_start_matches('-').trim_end().to_owned());
                }
                Outcome::Done => return Ok(state.replies.to_vec()),
                // What is not in memory is read in place in the end.
                Outcome::Cold => tries = command.tries,
                // It begins the next entry.
                Outcome::Pending => {}
                Outcome::NotExecuted => return Err("OVERLOADED not executed; try again".into()),
                Outcome::Frozen | Outcome::Moved => {
                    return Err("TRYAGAIN the slot is being moved; try again".into());
                }
                _ => return Err("UNKNOWN the outcome of the command is not known".into()),
            }
            state.replies.clear();
        }
    }

    fn queued(&self, handler: DataHandler) -> QueuedCommand {
        QueuedCommand {
            db: self.db as u8,
            slot: self.slot,
            ..QueuedCommand::new(0, id::MIGRATE.spec(), handler)
        }
    }
}

const GARBLED: &str = "ERR a reply of this server could not be read";

/// Reads `<sign>number` and the line's end.
fn number(rest: &mut &[u8], sign: u8) -> Result<i64, String> {
    let end = rest.windows(2).position(|two| two == b"\r\n");
    let (line, more) = rest.split_at(end.ok_or(GARBLED)?);
    *rest = &more[2..];
    let digits = line.strip_prefix(&[sign]).and_then(parse_i64);
    digits.ok_or_else(|| GARBLED.to_owned())
}

/// Of each key the milliseconds that it has still to live, and its payload or nil.
fn dump_all(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), CommandError> {
    out.array(args.len() - 1);
    for name in args.iter().skip(1) {
        let found = payload(txn, name)?;
        let expires_at = found.as_ref().and_then(|(_, at)| *at);
        let ttl = expires_at.map_or(0, |at| at.saturating_sub(txn.now()).max(1));
        out.integer(ttl as i64);
        out.bulk_or_null(found.as_ref().map(|(payload, _)| payload.as_slice()));
    }
    Ok(())
}

/// For each (key, payload, whether it expires): 1 if it is gone now, 0 if it is
/// another than that.
fn delete_unchanged(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
) -> Result<(), CommandError> {
    out.array((args.len() - 1) / 3);
    for at in (1..args.len()).step_by(3) {
        let (name, sent, expires) = (args.get(at), args.get(at + 1), args.get(at + 2) == b"1");
        let same = match payload(txn, name)? {
            Some((now, expires_at)) => now == sent && expires_at.is_some() == expires,
            // Deleted after it was sent, which is as well.
            None => true,
        };
        let key = txn.key(name);
        if same && delete_key(txn, &key)? {
            txn.event(EventClass::Generic, "del", name);
        }
        out.integer(same.into());
    }
    Ok(())
}

/// Redis does not wait to hear whether a target takes the connection: that it does not
/// is met in the first write.
fn not_connected(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable => {
            "IOERR error or timeout writing to target instance"
        }
        _ => "IOERR error or timeout connecting to the client",
    }
}

#[cfg(test)]
mod tests {
    use cairn_protocol::resp::Requests;

    use super::*;

    fn read(line: &str) -> Result<Order, String> {
        let mut requests = Requests::default();
        requests.push_owned(line.split(' ').map(|word| word.trim_matches('"')));
        Order::read(&requests.get(0)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_in_any_order() {
        let order = read("MIGRATE h 1 \"\" 9 0 COPY AUTH2 u p REPLACE KEYS a b")
            .ok()
            .unwrap();
        assert!(order.copy && order.replace);
        assert_eq!(order.auth, [b"u", b"p"]);
        assert_eq!(order.keys, [b"a", b"b"]);
        assert_eq!((order.db, order.timeout.as_millis()), (9, 1000));
        assert_eq!(order.place(), "h:1");
    }

    #[test]
    fn wrong_options_are_refused_as_in_redis() {
        for line in [
            "MIGRATE h 1 k 9 0 AUTH",
            "MIGRATE h 1 k 9 0 AUTH2 u",
            "MIGRATE h 1 k 9 0 X",
        ] {
            assert_eq!(read(line).err().unwrap(), "ERR syntax error");
        }
        assert!(
            read("MIGRATE h 1 k 9 0 KEYS a")
                .err()
                .unwrap()
                .contains("empty string")
        );
        assert!(
            read("MIGRATE h 1 k x 0")
                .err()
                .unwrap()
                .contains("not an integer")
        );
    }

    #[test]
    fn a_target_that_refuses_the_connection_is_told_from_one_that_is_not_found() {
        for (kind, what) in [
            (ErrorKind::ConnectionRefused, "writing to target instance"),
            (ErrorKind::TimedOut, "connecting to the client"),
            (ErrorKind::AddrNotAvailable, "connecting to the client"),
        ] {
            let line = format!("IOERR error or timeout {what}");
            assert_eq!(not_connected(kind), line);
        }
    }
}
