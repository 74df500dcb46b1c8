//! Commands on the expiry of keys. Wire side only; time is log time, unix ms.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::{integer, invalid_expire, is};
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::{decode, delete_key, with_expiry};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("expire", Handler::Write(expire)),
    ("expireat", Handler::Write(expireat)),
    ("expiretime", Handler::Read(expiretime)),
    ("persist", Handler::Write(persist)),
    ("pexpire", Handler::Write(pexpire)),
    ("pexpireat", Handler::Write(pexpireat)),
    ("pexpiretime", Handler::Read(pexpiretime)),
    ("pttl", Handler::Read(pttl)),
    ("ttl", Handler::Read(ttl)),
];

type Done = Result<(), CommandError>;

/// Milliseconds of a unit of time.
const SECONDS: i64 = 1000;
const MILLISECONDS: i64 = 1;

/// EXPIRE key seconds [NX | XX | GT | LT]
fn expire(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let now = txn.now() as i64;
    set_expiry(txn, args, now, SECONDS, "expire", out)
}

/// EXPIREAT key unix-seconds [NX | XX | GT | LT]
fn expireat(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    set_expiry(txn, args, 0, SECONDS, "expireat", out)
}

/// EXPIRETIME key
fn expiretime(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply_expiry(txn, args, 0, SECONDS, out)
}

/// PERSIST key
///
/// Replies 1 if an expiry was taken away.
fn persist(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let mut persisted = 0;
    if let Some(record) = txn.get(&key)?
        && decode(&record)?.0.expires_at.is_some()
    {
        txn.put(&key, with_expiry(&key, &record, None)?)?;
        txn.event(EventClass::Generic, "persist", args.get(1));
        persisted = 1;
    }
    out.integer(persisted);
    Ok(())
}

/// PEXPIRE key ms [NX | XX | GT | LT]
fn pexpire(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let now = txn.now() as i64;
    set_expiry(txn, args, now, MILLISECONDS, "pexpire", out)
}

/// PEXPIREAT key unix-ms [NX | XX | GT | LT]
fn pexpireat(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    set_expiry(txn, args, 0, MILLISECONDS, "pexpireat", out)
}

/// PEXPIRETIME key
fn pexpiretime(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    reply_expiry(txn, args, 0, MILLISECONDS, out)
}

/// PTTL key
fn pttl(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let now = txn.now();
    reply_expiry(txn, args, now, MILLISECONDS, out)
}

/// TTL key
fn ttl(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let now = txn.now();
    reply_expiry(txn, args, now, SECONDS, out)
}

// Helpers.

/// When an expiry is set at all.
#[derive(Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn read(args: &Args<'_>) -> Result<Conditions, CommandError> {
        let mut conditions = Conditions::default();
        for word in args.iter().skip(3) {
            let flag = match word {
                _ if is(word, "NX") => &mut conditions.nx,
                _ if is(word, "XX") => &mut conditions.xx,
                _ if is(word, "GT") => &mut conditions.gt,
                _ if is(word, "LT") => &mut conditions.lt,
                _ => return Err(unsupported(word)),
            };
            *flag = true;
        }
        conditions.check()
    }

    fn check(self) -> Result<Conditions, CommandError> {
        if self.nx && (self.xx || self.gt || self.lt) {
            return Err(CommandError::fixed(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if self.gt && self.lt {
            return Err(CommandError::fixed(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(self)
    }

    /// Whether a key with the expiry `old` may get the new one (unix ms). A
    /// key that stays counts as living for ever.
    fn allow(&self, old: Option<i64>, new: i64) -> bool {
        match old {
            None => !self.xx && !self.gt,
            Some(old) => !(self.nx || self.gt && new <= old || self.lt && new >= old),
        }
    }
}

fn unsupported(word: &[u8]) -> CommandError {
    CommandError::line(format!(
        "ERR Unsupported option {}",
        super::arguments::shown(word)
    ))
}

/// EXPIRE and its kin. What lies in the past deletes the key.
///
/// Replies 1 if the expiry was set or the key deleted.
fn set_expiry(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    base: i64,
    unit: i64,
    command: &str,
    out: &mut ReplyWriter,
) -> Done {
    let conditions = Conditions::read(args)?;
    let at = integer(args.get(2))?
        .checked_mul(unit)
        .and_then(|ms| ms.checked_add(base));
    let at = at.ok_or_else(|| invalid_expire(command))?;
    let key = txn.key(args.get(1));
    let Some(record) = txn.get(&key)? else {
        out.integer(0);
        return Ok(());
    };
    let old = decode(&record)?.0.expires_at.map(|at| at as i64);
    if !conditions.allow(old, at) {
        out.integer(0);
        return Ok(());
    }
    // What is before the epoch is over for a replica too.
    if u64::try_from(at).map_or(true, |at| txn.is_over(at)) {
        delete_key(txn, &key)?;
        txn.event(EventClass::Generic, "del", args.get(1));
    } else {
        txn.put(&key, with_expiry(&key, &record, Some(at as u64))?)?;
        txn.event(EventClass::Generic, "expire", args.get(1));
    }
    out.integer(1);
    Ok(())
}

/// TTL and its kin: -2 without a key, -1 without an expiry.
fn reply_expiry(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    base: u64,
    unit: i64,
    out: &mut ReplyWriter,
) -> Done {
    let key = txn.key(args.get(1));
    let reply = match txn.peek(&key)? {
        None => -2,
        Some(record) => match decode(&record)?.0.expires_at {
            None => -1,
            Some(at) => {
                let left = at.saturating_sub(base) as i64;
                // Rounded to the nearest second, as in Redis.
                left / unit + (left % unit * 2 >= unit && unit > 1) as i64
            }
        },
    };
    out.integer(reply);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use crate::txn::Expiry;

    fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
        for (line, want) in lines {
            assert_eq!(bench.run(line), *want, "{line}");
        }
    }

    #[test]
    fn expiries_are_set_and_told_in_every_unit() {
        let mut bench = Bench::new();
        script(
            &mut bench,
            &[
                ("TTL k", ":-2\r\n"),
                ("EXPIRE k 10", ":0\r\n"),
                ("SET k v", "+OK\r\n"),
                ("TTL k", ":-1\r\n"),
                ("PEXPIRETIME k", ":-1\r\n"),
                ("EXPIRE k 10", ":1\r\n"),
                ("TTL k", ":10\r\n"),
                ("PTTL k", ":10000\r\n"),
                ("PEXPIRETIME k", ":1000000010000\r\n"),
                ("EXPIRETIME k", ":1000000010\r\n"),
                ("PEXPIRE k 1499", ":1\r\n"),
                ("TTL k", ":1\r\n"),
                ("PEXPIRE k 1500", ":1\r\n"),
                ("TTL k", ":2\r\n"),
                ("EXPIREAT k 1000000001", ":1\r\n"),
                ("PTTL k", ":1000\r\n"),
                ("PEXPIREAT k 1000000000001", ":1\r\n"),
                ("PTTL k", ":1\r\n"),
                ("TTL k", ":0\r\n"),
                ("PERSIST k", ":1\r\n"),
                ("PERSIST k", ":0\r\n"),
                ("PERSIST x", ":0\r\n"),
                ("GET k", "$1\r\nv\r\n"),
            ],
        );
    }

    #[test]
    fn an_expiry_in_the_past_deletes_the_key() {
        for line in [
            "EXPIRE k 0",
            "EXPIRE k -5",
            "PEXPIREAT k 1000000000000",
            "EXPIREAT k 1",
        ] {
            let mut bench = Bench::new();
            bench.run("SET k v");
            assert_eq!(bench.run(line), ":1\r\n", "{line}");
            assert_eq!(bench.event_names(), ["del"]);
            assert_eq!(bench.run("EXISTS k"), ":0\r\n");
        }
    }

    #[test]
    fn times_that_overflow_are_refused() {
        let mut bench = Bench::new();
        bench.run("SET k v");
        for (command, time) in [
            ("expire", "9223372036854775807"),
            ("expire", "9223372036854776"),
            ("expire", "-9223372036854776"),
            ("expireat", "9223372036854776"),
            ("pexpire", "9223372036854775807"),
        ] {
            let want = format!("-ERR invalid expire time in '{command}' command\r\n");
            assert_eq!(bench.run(&format!("{command} k {time}")), want);
        }
        let not_integer = "-ERR value is not an integer or out of range\r\n";
        assert_eq!(bench.run("EXPIRE k 1.5"), not_integer);
        assert_eq!(bench.run("PEXPIREAT k 9223372036854775807"), ":1\r\n");
        assert_eq!(bench.run("PEXPIRETIME k"), ":9223372036854775807\r\n");
    }

    #[test]
    fn conditions_decide_whether_an_expiry_is_set() {
        let mut bench = Bench::new();
        let nx = "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n";
        let gt = "-ERR GT and LT options at the same time are not compatible\r\n";
        script(
            &mut bench,
            &[
                ("SET k v", "+OK\r\n"),
                ("EXPIRE k 10 XX", ":0\r\n"),
                ("EXPIRE k 10 GT", ":0\r\n"),
                ("EXPIRE k 10 LT", ":1\r\n"),
                ("EXPIRE k 20 NX", ":0\r\n"),
                ("EXPIRE k 20 LT", ":0\r\n"),
                ("EXPIRE k 10 LT", ":0\r\n"),
                ("EXPIRE k 10 GT", ":0\r\n"),
                ("EXPIRE k 20 gt xx", ":1\r\n"),
                ("EXPIRE k 5 XX LT", ":1\r\n"),
                ("TTL k", ":5\r\n"),
                ("EXPIRE k 5 NX XX", nx),
                ("EXPIRE k 5 NX GT", nx),
                ("EXPIRE k 5 GT LT", gt),
                ("EXPIRE k 5 AB", "-ERR Unsupported option AB\r\n"),
                ("EXPIRE x 5 NX", ":0\r\n"),
                ("PERSIST k", ":1\r\n"),
                ("EXPIRE k 5 NX", ":1\r\n"),
            ],
        );
    }

    #[test]
    fn an_expiry_leaves_the_value_of_a_long_string_alone() {
        let mut bench = Bench::new();
        let value = "z".repeat(40_000);
        bench.run(&format!("SET k {value}"));
        bench.run("EXPIRE k 100");
        assert!(bench.effects.rows.is_empty());
        assert!(bench.run("GET k").contains(&value));
        bench.run("PERSIST k");
        assert!(bench.run("GET k").contains(&value));
    }

    #[test]
    fn the_expiry_index_follows_every_change() {
        use rocksdb::IteratorMode;

        let mut bench = Bench::new();
        let count = |bench: &Bench| {
            let engine = bench.store.engine();
            engine
                .db
                .iterator_cf(&engine.expiry, IteratorMode::Start)
                .count()
        };
        for (line, rows) in [
            ("SET k v EX 10", 1),
            ("EXPIRE k 20", 1),
            ("RENAME k m", 1),
            ("COPY m k", 2),
            ("PERSIST m", 1),
            ("SET k v KEEPTTL", 1),
            ("APPEND k x", 1),
            ("SET k v", 0),
            ("EXPIRE k 5", 1),
            ("DEL k", 0),
        ] {
            bench.run(line);
            assert_eq!(count(&bench), rows, "{line}");
        }
    }

    #[test]
    fn what_has_expired_is_there_for_a_master_and_hidden_from_clients_of_a_replica() {
        let mut bench = Bench::new();
        bench.context.expiry = Expiry::Keeps;
        bench.run("SET k v PXAT 1000");
        bench.run("SET old v");
        bench.run("PEXPIREAT old 1000");
        assert_eq!(bench.run("EXISTS k old"), ":2\r\n");
        bench.context.expiry = Expiry::Hides;
        assert_eq!(bench.run("EXISTS k old"), ":0\r\n");
        assert_eq!(bench.run("KEYS *"), "*0\r\n");
        assert_eq!(bench.run("DBSIZE"), ":2\r\n");
        bench.context.expiry = Expiry::Keeps;
        assert_eq!(bench.run("PERSIST old"), ":1\r\n");
        bench.context.expiry = Expiry::Collects;
        assert_eq!(bench.run("EXISTS k old"), ":1\r\n");
        assert_eq!(bench.run("DBSIZE"), ":1\r\n");
    }
}
