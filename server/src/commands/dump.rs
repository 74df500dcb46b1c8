//! DUMP and RESTORE: one value as Redis serialises it. Wire side only; the format
//! is `rdb`.

use std::sync::atomic::{AtomicBool, Ordering};

use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use super::arguments::{integer, is};
use crate::rdb::{self, Form};
use crate::txn::{CommandError, EventClass, Txn};
use crate::types::{delete_key, encoding, serial};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("dump", Handler::Read(dump)),
    ("restore", Handler::Write(restore)),
    ("restore-asking", Handler::Write(restore)),
];

type Done = Result<(), CommandError>;

const UNVERIFIED: CommandError =
    CommandError::fixed("ERR DUMP payload version or checksum are wrong");
const MALFORMED: CommandError = CommandError::fixed("ERR Bad data format");
const BUSY_KEY: CommandError = CommandError::fixed("BUSYKEY Target key name already exists.");

/// DEBUG SET-SKIP-CHECKSUM-VALIDATION: RESTORE takes payloads with whatever checksum.
static TAKES_ANY_CHECKSUM: AtomicBool = AtomicBool::new(false);

pub(super) fn take_any_checksum(on: bool) {
    TAKES_ANY_CHECKSUM.store(on, Ordering::Relaxed);
}

fn verified(payload: &[u8]) -> Result<&[u8], CommandError> {
    let value = match TAKES_ANY_CHECKSUM.load(Ordering::Relaxed) {
        true => rdb::verify_version(payload),
        false => rdb::verify(payload),
    };
    value.map_err(|_| UNVERIFIED)
}

/// DUMP key
///
/// Replies with the payload, or nil.
fn dump(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    match payload(txn, args.get(1))? {
        None => out.null(),
        Some((payload, _)) => out.bulk_bytes(payload.into()),
    }
    Ok(())
}

/// A payload, and when its key expires (unix ms).
pub(super) type Payload = (Vec<u8>, Option<u64>);

/// What DUMP answers of a key, and when the key expires.
pub(super) fn payload(txn: &mut Txn<'_>, name: &[u8]) -> Result<Option<Payload>, CommandError> {
    let key = txn.key(name);
    let Some(record) = txn.get(&key)? else {
        return Ok(None);
    };
    let form = Form::of(encoding(&record)?);
    let expires_at = record.header().and_then(|header| header.expires_at);
    let value = serial::read(txn, &key, &record)?;
    Ok(Some((rdb::encode(&value, form), expires_at)))
}

/// RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]
fn restore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = Options::read(args)?;
    let key = txn.key(args.get(1));
    let exists = txn.get(&key)?.is_some();
    if exists && !options.replace {
        return Err(BUSY_KEY);
    }
    let ttl = integer(args.get(2))?;
    let Ok(ttl) = u64::try_from(ttl) else {
        return Err(CommandError::fixed("ERR Invalid TTL value, must be >= 0"));
    };
    let body = verified(args.get(3))?;
    let value = rdb::decode(body).map_err(|_| MALFORMED)?;
    let expires_at = match (ttl, options.absolute) {
        (0, _) => None,
        (ttl, true) => Some(ttl),
        // Redis lets this sum wrap: what lies beyond the end of time is over already.
        (ttl, false) => {
            let sum = txn.now().saturating_add(ttl);
            Some(if sum > i64::MAX as u64 { 0 } else { sum })
        }
    };
    let deleted = exists && delete_key(txn, &key)?;
    if expires_at.is_some_and(|at| txn.is_over(at)) {
        // It is over already: what it would have replaced is gone.
        if deleted {
            txn.event(EventClass::Generic, "del", args.get(1));
        }
        out.ok();
        return Ok(());
    }
    serial::write(txn, &key, &value, expires_at)?;
    let (access, now) = (&txn.store().access, txn.now());
    if let Some(idle) = options.idle {
        access.set_idle(key.hash(), idle, now);
    }
    if let Some(frequency) = options.frequency {
        access.set_count(key.hash(), frequency, now);
    }
    if !deleted {
        txn.event(EventClass::New, "new", args.get(1));
    }
    txn.event(EventClass::Generic, "restore", args.get(1));
    out.ok();
    Ok(())
}

/// What follows RESTORE's payload.
#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    /// Seconds since the key was used; of the two the policy's counts.
    idle: Option<u64>,
    frequency: Option<u8>,
}

impl Options {
    fn read(args: &Args<'_>) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut at = 4;
        while at < args.len() {
            let (word, next) = (args.get(at), args.try_get(at + 1));
            match next {
                _ if is(word, "REPLACE") => options.replace = true,
                _ if is(word, "ABSTTL") => options.absolute = true,
                Some(seconds) if is(word, "IDLETIME") && options.frequency.is_none() => {
                    at += 1;
                    let Ok(idle) = u64::try_from(integer(seconds)?) else {
                        return Err(CommandError::fixed(
                            "ERR Invalid IDLETIME value, must be >= 0",
                        ));
                    };
                    options.idle = Some(idle);
                }
                Some(frequency) if is(word, "FREQ") && options.idle.is_none() => {
                    at += 1;
                    let known = parse_i64(frequency).ok_or(CommandError::NOT_AN_INTEGER)?;
                    let Ok(frequency) = u8::try_from(known) else {
                        return Err(CommandError::fixed(
                            "ERR Invalid FREQ value, must be >= 0 and <= 255",
                        ));
                    };
                    options.frequency = Some(frequency);
                }
                _ => return Err(CommandError::SYNTAX),
            }
            at += 1;
        }
        Ok(options)
    }
}
