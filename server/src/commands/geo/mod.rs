//! Geo commands: a sorted set whose scores are positions. Wire side only.
//! What a score means is `geohash`, how the set is laid out `types::sorted_set`.

mod geohash;
mod search;
#[cfg(test)]
mod tests;

use cairn_protocol::resp::{Args, ReplyWriter, Version};

use self::geohash::{Point, distance};
use super::Handler;
use super::arguments::is;
use super::sorted_sets::{AddOptions, add_pairs, float, open};
use crate::txn::{CommandError, Txn};
use crate::types::sorted_set::SortedSet;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("geoadd", Handler::Write(geoadd)),
    ("geodist", Handler::Read(geodist)),
    ("geohash", Handler::Read(geohash)),
    ("geopos", Handler::Read(geopos)),
    ("georadius", Handler::Write(search::georadius)),
    ("georadius_ro", Handler::Read(search::georadius_ro)),
    (
        "georadiusbymember",
        Handler::Write(search::georadiusbymember),
    ),
    (
        "georadiusbymember_ro",
        Handler::Read(search::georadiusbymember_ro),
    ),
    ("geosearch", Handler::Read(search::geosearch)),
    ("geosearchstore", Handler::Write(search::geosearchstore)),
];

type Done = Result<(), CommandError>;

/// GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]
///
/// Replies as ZADD does.
fn geoadd(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let mut options = AddOptions::default();
    let mut first = 2;
    while let Some(word) = args.try_get(first) {
        match word {
            _ if is(word, "NX") => options.nx = true,
            _ if is(word, "XX") => options.xx = true,
            _ if is(word, "CH") => options.ch = true,
            _ => break,
        }
        first += 1;
    }
    let words = args.len() - first;
    if words == 0 || !words.is_multiple_of(3) || (options.nx && options.xx) {
        return Err(CommandError::SYNTAX);
    }
    let mut pairs = Vec::with_capacity(words / 3);
    for at in (first..args.len()).step_by(3) {
        pairs.push((point(args, at)?.score(), args.get(at + 2)));
    }
    add_pairs(txn, args.get(1), options, &pairs, out)
}

/// GEODIST key member1 member2 [M | KM | FT | MI]
fn geodist(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let unit = match args.len() {
        4 => 1.0,
        5 => unit(args.get(4))?,
        _ => return Err(CommandError::SYNTAX),
    };
    let Some(set) = open(txn, args.get(1))? else {
        out.null();
        return Ok(());
    };
    let a = position(txn, &set, args.get(2))?;
    let b = position(txn, &set, args.get(3))?;
    match (a, b) {
        (Some(a), Some(b)) => out.bulk(distance_text(distance(a, b) / unit).as_bytes()),
        _ => out.null(),
    }
    Ok(())
}

/// GEOHASH key [member ...]
fn geohash(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    for_positions(txn, args, out, |out, point| match point {
        Some(point) => out.bulk(&point.geohash()),
        None => out.null(),
    })
}

/// GEOPOS key [member ...]
fn geopos(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    for_positions(txn, args, out, |out, point| match point {
        Some(point) => write_point(out, point),
        None => out.null_array(),
    })
}

// Helpers.

fn for_positions(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
    write: impl Fn(&mut ReplyWriter, Option<Point>),
) -> Done {
    let set = open(txn, args.get(1))?;
    out.array(args.len() - 2);
    for member in args.iter().skip(2) {
        let point = match &set {
            Some(set) => position(txn, set, member)?,
            None => None,
        };
        write(out, point);
    }
    Ok(())
}

fn position(
    txn: &mut Txn<'_>,
    set: &SortedSet,
    member: &[u8],
) -> Result<Option<Point>, CommandError> {
    Ok(set.score(txn, member)?.map(Point::of_score))
}

/// Longitude and latitude, arguments `at` and the next.
fn point(args: &Args<'_>, at: usize) -> Result<Point, CommandError> {
    let (longitude, latitude) = (float(args.get(at))?, float(args.get(at + 1))?);
    let point = Point {
        longitude,
        latitude,
    };
    match point.is_valid() {
        true => Ok(point),
        false => Err(CommandError::line(format!(
            "ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}"
        ))),
    }
}

/// The length of a unit in m.
fn unit(arg: &[u8]) -> Result<f64, CommandError> {
    let units = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let unit = units.iter().find(|(name, _)| is(arg, name));
    unit.map(|(_, length)| *length).ok_or(CommandError::fixed(
        "ERR unsupported unit provided. please use M, KM, FT, MI",
    ))
}

/// A distance with four decimals, rounded half to even as C's `llrint`.
fn distance_text(distance: f64) -> String {
    let scaled = (distance * 10_000.0).round_ties_even() as i64;
    let (sign, scaled) = (if scaled < 0 { "-" } else { "" }, scaled.unsigned_abs());
    format!("{sign}{}.{:04}", scaled / 10_000, scaled % 10_000)
}

/// A position as two numbers of up to 17 decimals.
fn write_point(out: &mut ReplyWriter, point: Point) {
    out.array(2);
    for degrees in [point.longitude, point.latitude] {
        let text = format!("{degrees:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        let text = if text == "-0" { "0" } else { text };
        match out.version() {
            Version::V2 => out.bulk(text.as_bytes()),
            Version::V3 => out.raw(format!(",{text}\r\n").as_bytes()),
        }
    }
}
