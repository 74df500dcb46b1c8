//! XPENDING XCLAIM XAUTOCLAIM: what is pending, and who takes it over.

use std::collections::HashMap;

use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};
use rocksdb::Direction;

use super::super::arguments::{integer, is};
use super::arguments::{id, range_end, range_start};
use super::read::active_consumer;
use super::{Done, Escape, reply_entry, reply_id, stream_and_group};
use crate::replication::streams as told;
use crate::storage::MetaKey;
use crate::txn::{CommandError, Txn};
use crate::types::stream::{Consumer, Edit, Group, Lookup, Pending, Stream, StreamId};

/// XAUTOCLAIM looks at so many pending entries for each that it may reply.
const ATTEMPTS: u64 = 10;

/// XPENDING key group [[IDLE min-idle] start end count [consumer]]
pub(super) fn xpending(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let range = match args.len() {
        3 => None,
        6..=9 => Some(PendingRange::read(args)?),
        _ => return Err(CommandError::SYNTAX),
    };
    let key = txn.key(args.get(1));
    let (_, group) = stream_and_group(txn, &key, args.get(2))?;
    match range {
        None => summary(txn, &group, out),
        Some(range) => pending_range(txn, &group, &range, out),
    }
}

struct PendingRange<'a> {
    min_idle: i64,
    start: StreamId,
    end: StreamId,
    count: u64,
    consumer: Option<&'a [u8]>,
}

impl<'a> PendingRange<'a> {
    fn read(args: &Args<'a>) -> Result<PendingRange<'a>, CommandError> {
        let (mut at, mut min_idle) = (3, 0);
        if is(args.get(3), "IDLE") {
            min_idle = integer(args.get(4))?;
            if args.len() < 8 {
                return Err(CommandError::SYNTAX);
            }
            at = 5;
        }
        let count = integer(args.get(at + 2))?.max(0) as u64;
        Ok(PendingRange {
            min_idle,
            start: range_start(args.get(at))?,
            end: range_end(args.get(at + 1))?,
            count,
            consumer: args.try_get(at + 3),
        })
    }

    fn wants(&self, pending: &Pending, now: i64) -> bool {
        self.min_idle == 0 || now.wrapping_sub(pending.delivered_at) >= self.min_idle
    }
}

/// How many are pending, from where to where, and for whom.
fn summary(txn: &mut Txn<'_>, group: &Group, out: &mut ReplyWriter) -> Done {
    out.array(4);
    out.integer(group.pending as i64);
    if group.pending == 0 {
        out.null();
        out.null();
        out.null_array();
        return Ok(());
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        match group.edge(txn, direction)? {
            Some(id) => reply_id(out, id),
            None => out.null(),
        }
    }
    let mut consumers = group.all_consumers(txn)?;
    consumers.retain(|consumer| consumer.pending > 0);
    out.array(consumers.len());
    for consumer in consumers {
        out.array(2);
        out.bulk(&consumer.name);
        out.bulk_integer(consumer.pending as i64);
    }
    Ok(())
}

fn pending_range(
    txn: &mut Txn<'_>,
    group: &Group,
    range: &PendingRange<'_>,
    out: &mut ReplyWriter,
) -> Done {
    let now = txn.now() as i64;
    let found = match range.consumer {
        None => pending_of_group(txn, group, range, now)?,
        Some(name) => match group.consumer(txn, name)? {
            Some(consumer) => pending_of_consumer(txn, group, &consumer, range, now)?,
            None => Vec::new(),
        },
    };
    out.array(found.len());
    let mut names = Names::default();
    for pending in found {
        out.array(4);
        reply_id(out, pending.id);
        out.bulk(names.of(txn, group, pending.consumer)?);
        out.integer(now.saturating_sub(pending.delivered_at).max(0));
        out.integer(pending.deliveries as i64);
    }
    Ok(())
}

fn pending_of_group(
    txn: &mut Txn<'_>,
    group: &Group,
    range: &PendingRange<'_>,
    now: i64,
) -> Result<Vec<Pending>, CommandError> {
    let mut found = Vec::new();
    if range.count == 0 {
        return Ok(found);
    }
    let forward = Direction::Forward;
    group.each_pending(txn, range.start, range.end, forward, &mut |pending| {
        if range.wants(&pending, now) {
            found.push(pending);
        }
        (found.len() as u64) < range.count
    })?;
    Ok(found)
}

fn pending_of_consumer(
    txn: &mut Txn<'_>,
    group: &Group,
    consumer: &Consumer,
    range: &PendingRange<'_>,
    now: i64,
) -> Result<Vec<Pending>, CommandError> {
    /// Ids are read so many at a time.
    const PAGE: usize = 1024;
    let mut found = Vec::new();
    let mut start = Some(range.start);
    while let Some(from) = start
        && (found.len() as u64) < range.count
    {
        let ids = group.owned(txn, consumer, from, PAGE)?;
        start = match ids.len() {
            PAGE => ids.last().and_then(|last| last.next()),
            _ => None,
        };
        for id in ids {
            if id > range.end {
                return Ok(found);
            }
            let pending = group.find_pending(txn, id)?;
            found.extend(pending.filter(|pending| range.wants(pending, now)));
            if found.len() as u64 == range.count {
                break;
            }
        }
    }
    Ok(found)
}

/// Names of consumers by their numbers.
#[derive(Default)]
pub(super) struct Names(HashMap<u32, Vec<u8>>);

impl Names {
    pub(super) fn of(
        &mut self,
        txn: &mut Txn<'_>,
        group: &Group,
        number: u32,
    ) -> Result<&[u8], CommandError> {
        Ok(match self.0.entry(number) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(group.consumer_of(txn, number)?.name)
            }
        })
    }
}

/// XCLAIM key group consumer min-idle id [id ...] [IDLE ms] [TIME unix-ms] [RETRYCOUNT count]
/// [FORCE] [JUSTID] [LASTID id]
///
/// Replies with what the consumer has taken over.
pub(super) fn xclaim(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let key = txn.key(args.get(1));
    let (stream, group) = stream_and_group(txn, &key, args.get(2))?;
    let now = txn.now() as i64;
    let options = ClaimOptions::read(args, now)?;
    let mut claim = Claim::new(&key, &stream, group, args.get(3));
    claim.raise_last_id(options.last_id);
    let array = out.deferred_array();
    let mut claimed = 0;
    for id in &options.ids {
        let old = claim.edit.group.find_pending(txn, *id)?;
        if !claim.exists(txn, *id)? {
            if let Some(old) = old {
                claim.forget(txn, old)?;
            }
            continue;
        }
        if !options.takes(old, now) {
            continue;
        }
        let new = (options.delivered_at, options.deliveries(old));
        claim.take(txn, *id, old, new)?;
        claim.reply(txn, *id, options.just_id, out)?;
        claimed += 1;
    }
    out.set_deferred(array, claimed);
    claim.finish(txn);
    Ok(())
}

/// XAUTOCLAIM key group consumer min-idle start [COUNT count] [JUSTID]
///
/// Replies with where to go on, what the consumer has taken over, and what
/// was pending and no longer exists.
pub(super) fn xautoclaim(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let options = AutoClaimOptions::read(args)?;
    let key = txn.key(args.get(1));
    let (stream, group) = stream_and_group(txn, &key, args.get(2))?;
    let mut claim = Claim::new(&key, &stream, group, args.get(3));
    let found = claim.sweep(txn, &options)?;
    out.array(3);
    reply_id(out, found.next);
    out.array(found.claimed.len());
    for id in found.claimed {
        claim.reply(txn, id, options.just_id, out)?;
    }
    out.array(found.gone.len());
    found.gone.into_iter().for_each(|id| reply_id(out, id));
    claim.finish(txn);
    Ok(())
}

struct AutoClaimOptions {
    min_idle: i64,
    start: StreamId,
    count: u64,
    just_id: bool,
}

impl AutoClaimOptions {
    fn read(args: &Args<'_>) -> Result<AutoClaimOptions, CommandError> {
        /// Redis makes room for so many ids, and multiplies this.
        const COUNT_MAX: i64 = i64::MAX / 16;
        let min_idle = parse_i64(args.get(4)).ok_or(CommandError::fixed(
            "ERR Invalid min-idle-time argument for XAUTOCLAIM",
        ))?;
        let mut options = AutoClaimOptions {
            min_idle: min_idle.max(0),
            start: range_start(args.get(5))?,
            count: 100,
            just_id: false,
        };
        let mut at = 6;
        while at < args.len() {
            if is(args.get(at), "COUNT") && at + 1 < args.len() {
                let count = parse_i64(args.get(at + 1));
                let count = count.filter(|count| (1..=COUNT_MAX).contains(count));
                let bad = CommandError::fixed("ERR COUNT must be > 0");
                options.count = count.ok_or(bad)? as u64;
                at += 1;
            } else if is(args.get(at), "JUSTID") {
                options.just_id = true;
            } else {
                return Err(CommandError::SYNTAX);
            }
            at += 1;
        }
        Ok(options)
    }
}

struct ClaimOptions {
    min_idle: i64,
    ids: Vec<StreamId>,
    delivered_at: i64,
    retries: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: StreamId,
}

impl ClaimOptions {
    fn read(args: &Args<'_>, now: i64) -> Result<ClaimOptions, CommandError> {
        let invalid = |text: &'static str| CommandError::fixed(text);
        let min_idle = parse_i64(args.get(4))
            .ok_or(invalid("ERR Invalid min-idle-time argument for XCLAIM"))?;
        let ids: Vec<StreamId> = args.iter().skip(5).map_while(|arg| id(arg).ok()).collect();
        let mut at = 5 + ids.len();
        let (mut delivered_at, mut retries) = (-1, -1);
        let mut options = ClaimOptions {
            min_idle: min_idle.max(0),
            ids,
            delivered_at: now,
            retries: None,
            force: false,
            just_id: false,
            last_id: StreamId::MIN,
        };
        while at < args.len() {
            let (word, value) = (args.get(at), args.try_get(at + 1));
            let number = |text| move |value| parse_i64(value).ok_or(invalid(text));
            match value {
                _ if is(word, "FORCE") => options.force = true,
                _ if is(word, "JUSTID") => options.just_id = true,
                Some(value) => {
                    if is(word, "IDLE") {
                        let idle = number("ERR Invalid IDLE option argument for XCLAIM")(value)?;
                        delivered_at = now.wrapping_sub(idle);
                    } else if is(word, "TIME") {
                        delivered_at =
                            number("ERR Invalid TIME option argument for XCLAIM")(value)?;
                    } else if is(word, "RETRYCOUNT") {
                        retries =
                            number("ERR Invalid RETRYCOUNT option argument for XCLAIM")(value)?;
                    } else if is(word, "LASTID") {
                        options.last_id = id(value)?;
                    } else {
                        return Err(unrecognized(word));
                    }
                    at += 1;
                }
                None => return Err(unrecognized(word)),
            }
            at += 1;
        }
        // A time that cannot be is now: clients' clocks differ.
        if (0..=now).contains(&delivered_at) {
            options.delivered_at = delivered_at;
        }
        options.retries = u64::try_from(retries).ok();
        Ok(options)
    }
}

impl ClaimOptions {
    fn takes(&self, old: Option<Pending>, now: i64) -> bool {
        match old {
            Some(old) => self.min_idle == 0 || now.wrapping_sub(old.delivered_at) >= self.min_idle,
            None => self.force,
        }
    }

    /// FORCE makes it as if it had been delivered once.
    fn deliveries(&self, old: Option<Pending>) -> u64 {
        let deliveries = old.map_or(1, |old| old.deliveries);
        match self.retries {
            Some(retries) => retries,
            None if self.just_id => deliveries,
            None => deliveries.wrapping_add(1),
        }
    }
}

fn unrecognized(word: &[u8]) -> CommandError {
    CommandError::line(format!(
        "ERR Unrecognized XCLAIM option '{}'",
        word.escape()
    ))
}

/// What XAUTOCLAIM came to.
#[derive(Default)]
struct Swept {
    claimed: Vec<StreamId>,
    /// Pending, and no longer in the stream.
    gone: Vec<StreamId>,
    /// Where to go on; 0-0 at the end.
    next: StreamId,
}

/// A consumer that takes pending entries over.
struct Claim<'c> {
    key: &'c MetaKey,
    stream: &'c Stream,
    edit: Edit,
    name: &'c [u8],
    /// Its number, once it had a reason to be.
    consumer: Option<u32>,
    lookup: Lookup,
    changed: bool,
    /// The last id was raised, and replicas have not been told.
    raised: bool,
}

impl<'c> Claim<'c> {
    fn new(key: &'c MetaKey, stream: &'c Stream, group: Group, name: &'c [u8]) -> Claim<'c> {
        Claim {
            key,
            stream,
            edit: group.edit(),
            name,
            consumer: None,
            lookup: Lookup::default(),
            changed: false,
            raised: false,
        }
    }

    fn raise_last_id(&mut self, id: StreamId) {
        if id > self.edit.group.last_id {
            self.edit.group.last_id = id;
            self.changed = true;
            self.raised = true;
        }
    }

    fn exists(&mut self, txn: &mut Txn<'_>, id: StreamId) -> Result<bool, CommandError> {
        self.lookup.find(txn, self.stream, id, |_| Ok(()))
    }

    /// The entry is no longer in the stream: nor is it pending then.
    fn forget(&mut self, txn: &mut Txn<'_>, old: Pending) -> Done {
        self.changed = true;
        if txn.is_recorded() {
            let owner = self.edit.group.consumer_of(txn, old.consumer)?;
            told::pending(txn, self.key, &self.edit.group, &owner.name, &old);
            self.raised = false;
        }
        self.edit.remove(txn, old)
    }

    /// Takes one entry over; `new` is when it was delivered, and how often.
    fn take(
        &mut self,
        txn: &mut Txn<'_>,
        id: StreamId,
        old: Option<Pending>,
        new: (i64, u64),
    ) -> Done {
        let consumer = match self.consumer {
            Some(number) => number,
            None => self.appear(txn)?,
        };
        self.changed = true;
        let (delivered_at, deliveries) = new;
        let new = Pending {
            id,
            consumer,
            delivered_at,
            deliveries,
        };
        if txn.is_recorded() {
            told::pending(txn, self.key, &self.edit.group, self.name, &new);
            self.raised = false;
        }
        self.edit.put(txn, old, new)
    }

    /// The consumer does something, and is made if need be.
    fn appear(&mut self, txn: &mut Txn<'_>) -> Result<u32, CommandError> {
        let consumer = active_consumer(txn, self.key, &mut self.edit.group, self.name)?;
        let number = consumer.number;
        self.consumer = Some(number);
        // Its count may have changed here already: entries that are gone.
        let pending = self.edit.pending_of(number).unwrap_or(consumer.pending);
        self.edit.with(Consumer {
            pending,
            ..consumer
        });
        Ok(number)
    }

    fn reply(
        &mut self,
        txn: &mut Txn<'_>,
        id: StreamId,
        just_id: bool,
        out: &mut ReplyWriter,
    ) -> Done {
        if just_id {
            reply_id(out, id);
            return Ok(());
        }
        self.lookup
            .find(txn, self.stream, id, |entry| reply_entry(out, &entry))?;
        Ok(())
    }

    /// Goes through what is pending and takes what has been idle for long.
    fn sweep(
        &mut self,
        txn: &mut Txn<'_>,
        options: &AutoClaimOptions,
    ) -> Result<Swept, CommandError> {
        let now = txn.now() as i64;
        let mut swept = Swept::default();
        let mut attempts = options.count.saturating_mul(ATTEMPTS);
        let mut from = Some(options.start);
        while let Some(start) = from {
            let page = self.edit.group.pending_page(txn, start)?;
            from = page.last().and_then(|last| last.id.next());
            for pending in page {
                let replied = swept.claimed.len() + swept.gone.len();
                if attempts == 0 || replied as u64 == options.count {
                    swept.next = pending.id;
                    return Ok(swept);
                }
                attempts -= 1;
                let idle = now.wrapping_sub(pending.delivered_at);
                if !self.exists(txn, pending.id)? {
                    self.forget(txn, pending)?;
                    swept.gone.push(pending.id);
                } else if options.min_idle == 0 || idle >= options.min_idle {
                    let more = u64::from(!options.just_id);
                    let new = (now, pending.deliveries.wrapping_add(more));
                    self.take(txn, pending.id, Some(pending), new)?;
                    swept.claimed.push(pending.id);
                }
            }
        }
        Ok(swept)
    }

    fn finish(self, txn: &mut Txn<'_>) {
        if self.changed {
            if self.raised && txn.is_recorded() {
                told::group_position(txn, self.key, &self.edit.group);
            }
            self.edit.store(txn);
        }
    }
}
