//! Reading of ids, ranges and trimming options.

use std::sync::atomic::Ordering;

use cairn_protocol::resp::Args;
use cairn_protocol::resp::number::parse_u64;

use super::super::arguments::{integer, is};
use crate::replication::streams::TrimArgs;
use crate::storage::TypeLimits;
use crate::txn::CommandError;
use crate::types::stream::{StreamId, Trim, TrimTo};

const INVALID: CommandError =
    CommandError::fixed("ERR Invalid stream ID specified as stream command argument");
/// Redis reads ids through a buffer of this size less one.
const ID_TEXT_MAX: usize = 127;

/// The sequence of an id that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequence {
    /// `ms-seq`, or `ms` alone: the caller says what that means.
    Given,
    /// `ms-*`.
    Automatic,
}

/// `ms-seq`, `ms`, `ms-*`, and unless `strict` also `-` and `+`.
fn parse(text: &[u8], missing: u64, strict: bool, automatic: bool) -> Option<(StreamId, Sequence)> {
    if text.len() > ID_TEXT_MAX {
        return None;
    }
    match text {
        b"-" if !strict => return Some((StreamId::MIN, Sequence::Given)),
        b"+" if !strict => return Some((StreamId::MAX, Sequence::Given)),
        _ => {}
    }
    // A C string ends at its first zero.
    let text = text.split(|byte| *byte == 0).next()?;
    let Some(dash) = text.iter().position(|byte| *byte == b'-') else {
        return Some((StreamId::new(parse_u64(text)?, missing), Sequence::Given));
    };
    let (ms, seq) = (parse_u64(&text[..dash])?, &text[dash + 1..]);
    match seq {
        b"*" if automatic => Some((StreamId::new(ms, 0), Sequence::Automatic)),
        seq => Some((StreamId::new(ms, parse_u64(seq)?), Sequence::Given)),
    }
}

/// An id; one without a sequence is `ms-0`.
pub(super) fn id(text: &[u8]) -> Result<StreamId, CommandError> {
    parse(text, 0, true, false).map(|(id, _)| id).ok_or(INVALID)
}

/// An id, `-` or `+`.
pub(super) fn id_or_end(text: &[u8], missing: u64) -> Result<StreamId, CommandError> {
    parse(text, missing, false, false)
        .map(|(id, _)| id)
        .ok_or(INVALID)
}

/// An id whose sequence may be `*`.
pub(super) fn new_id(text: &[u8]) -> Result<(StreamId, Sequence), CommandError> {
    parse(text, 0, true, true).ok_or(INVALID)
}

/// The start of a range: an id, `-`, `+`, or `(id`.
pub(super) fn range_start(text: &[u8]) -> Result<StreamId, CommandError> {
    let next = CommandError::fixed("ERR invalid start ID for the interval");
    match exclusive(text) {
        Some(text) => parse(text, 0, true, false)
            .ok_or(INVALID)?
            .0
            .next()
            .ok_or(next),
        None => id_or_end(text, 0),
    }
}

/// The end of a range, as [`range_start`].
pub(super) fn range_end(text: &[u8]) -> Result<StreamId, CommandError> {
    let previous = CommandError::fixed("ERR invalid end ID for the interval");
    match exclusive(text) {
        Some(text) => parse(text, u64::MAX, true, false)
            .ok_or(INVALID)?
            .0
            .previous()
            .ok_or(previous),
        None => id_or_end(text, u64::MAX),
    }
}

fn exclusive(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'(', rest @ ..] if !rest.is_empty() => Some(rest),
        _ => None,
    }
}

/// Ids from argument `first` to the last.
pub(super) fn ids(args: &Args<'_>, first: usize) -> Result<Vec<StreamId>, CommandError> {
    args.iter().skip(first).map(id).collect()
}

/// The options of XADD and XTRIM.
#[derive(Default)]
pub(super) struct Options {
    pub to: Option<TrimTo>,
    pub approximate: bool,
    pub limit: Option<u64>,
    /// Where the threshold is, and the number behind LIMIT.
    threshold_at: usize,
    limit_at: Option<usize>,
    pub no_mkstream: bool,
    /// XADD: the id that was given, if it was not `*`.
    pub id: Option<(StreamId, Sequence)>,
    /// XADD: where the id is.
    pub id_at: usize,
}

impl Options {
    /// `of_master`: Redis leaves LIMIT where it has made the threshold exact.
    pub(super) fn read(
        args: &Args<'_>,
        xadd: bool,
        of_master: bool,
    ) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut at = 2;
        while at < args.len() {
            let (word, more) = (args.get(at), args.len() - 1 - at);
            if xadd && word == b"*" {
                break;
            } else if more > 0 && (is(word, "MAXLEN") || is(word, "MINID")) {
                at = options.threshold(args, at)?;
            } else if more > 0 && is(word, "LIMIT") {
                at += 1;
                options.limit_at = Some(at);
                let limit = u64::try_from(integer(args.get(at))?);
                options.limit =
                    Some(limit.map_err(|_| {
                        CommandError::fixed("ERR The LIMIT argument must be >= 0.")
                    })?);
            } else if xadd && is(word, "NOMKSTREAM") {
                options.no_mkstream = true;
            } else if xadd {
                options.id = Some(new_id(word)?);
                break;
            } else {
                return Err(CommandError::SYNTAX);
            }
            at += 1;
        }
        options.id_at = at;
        if of_master && !options.approximate {
            options.limit = None;
        }
        options.check(xadd)?;
        Ok(options)
    }

    /// MAXLEN or MINID at `at`; where its value is.
    fn threshold(&mut self, args: &Args<'_>, at: usize) -> Result<usize, CommandError> {
        if self.to.is_some() {
            return Err(CommandError::fixed(
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ));
        }
        let word = args.get(at);
        let mut at = at + 1;
        let has_sign = at + 1 < args.len() && matches!(args.get(at), b"~" | b"=");
        self.approximate = has_sign && args.get(at) == b"~";
        at += usize::from(has_sign);
        self.threshold_at = at;
        self.to = Some(match is(word, "MAXLEN") {
            true => {
                let max = u64::try_from(integer(args.get(at))?);
                let negative = CommandError::fixed("ERR The MAXLEN argument must be >= 0.");
                TrimTo::MaxLen(max.map_err(|_| negative)?)
            }
            false => TrimTo::MinId(id(args.get(at))?),
        });
        Ok(at)
    }

    fn check(&self, xadd: bool) -> Result<(), CommandError> {
        if self.to.is_none() && self.limit.is_some_and(|limit| limit > 0) {
            return Err(CommandError::fixed(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if self.to.is_none() && !xadd {
            return Err(CommandError::fixed(
                "ERR syntax error, XTRIM must be called with a trimming strategy",
            ));
        }
        if self.limit.is_some() && !self.approximate {
            return Err(CommandError::fixed(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ));
        }
        Ok(())
    }

    /// What replicas are told exactly, because it was not.
    pub(super) fn inexact(&self) -> Option<TrimArgs> {
        self.approximate.then_some(TrimArgs {
            at: self.threshold_at,
            limit_at: self.limit_at,
            by_length: matches!(self.to, Some(TrimTo::MaxLen(_))),
        })
    }

    /// What to trim, if anything.
    pub(super) fn trim(&self, limits: &TypeLimits) -> Option<Trim> {
        let default = match limits.stream_node_entries.load(Ordering::Relaxed) {
            0 => 10_000,
            entries => (entries as u64).saturating_mul(100).min(1_000_000),
        };
        Some(Trim {
            to: self.to?,
            approximate: self.approximate,
            limit: match self.approximate {
                true => self.limit.unwrap_or(default),
                false => 0,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        let new = StreamId::new;
        assert_eq!(id(b"5").unwrap(), new(5, 0));
        assert_eq!(id(b"5-7").unwrap(), new(5, 7));
        assert_eq!(id(b"18446744073709551615-0").unwrap(), new(u64::MAX, 0));
        for bad in [
            &b""[..],
            b"-",
            b"+",
            b"5-",
            b"-5",
            b"5-*",
            b"5-7-8",
            b"x",
            b"5 ",
            &[b'0'; 128],
        ] {
            assert!(id(bad).is_err(), "{bad:?}");
        }
        assert_eq!(new_id(b"5-*").unwrap(), (new(5, 0), Sequence::Automatic));
        assert_eq!(range_start(b"-").unwrap(), StreamId::MIN);
        assert_eq!(range_end(b"5").unwrap(), new(5, u64::MAX));
        assert_eq!(range_start(b"(5").unwrap(), new(5, 1));
        assert_eq!(range_end(b"(5-0").unwrap(), new(4, u64::MAX));
        assert!(range_start(b"(18446744073709551615-18446744073709551615").is_err());
        assert!(range_end(b"(0-0").is_err());
        assert!(range_start(b"(-").is_err() && range_start(b"(").is_err());
    }
}
